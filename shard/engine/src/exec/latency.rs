//! LATENCY: events longer than a limit, and the histogram of each command. What is kept is in `timing/`.

use std::fmt::Write;

use larder_wire::Refusal;
use larder_wire::command::{self, CommandId, Found};
use larder_wire::resp::ReplyWriter;

use crate::timing::{Event, Events, Histogram, Sample};
use crate::turn::{Outcome, Turn, help};

/// Lines of a graph, and samples that it shows at most.
const GRAPH_ROWS: u64 = 4;
const GRAPH_COLUMNS_MAX: usize = 80;

pub fn latest(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let events = &turn.node.timing.events;
    turn.reply.array(events.latest().count());
    for (event, sample, longest_ms) in events.latest() {
        turn.reply.array(4);
        turn.reply.bulk(event.name().as_bytes());
        turn.reply.int(sample.at);
        turn.reply.int(sample.took_ms as i64);
        turn.reply.int(longest_ms as i64);
    }
    Ok(Outcome::Done)
}

pub fn history(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let events = &turn.node.timing.events;
    let Some(event) = Event::find(turn.request.arg(2)) else {
        turn.reply.array(0);
        return Ok(Outcome::Done);
    };
    turn.reply.array(events.samples(event).len());
    for sample in events.samples(event) {
        turn.reply.array(2);
        turn.reply.int(sample.at);
        turn.reply.int(sample.took_ms as i64);
    }
    Ok(Outcome::Done)
}

pub fn reset(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let events = &mut turn.node.timing.events;
    let forgotten = if turn.request.len() == 2 {
        Event::ALL
            .into_iter()
            .filter(|event| events.reset(*event))
            .count()
    } else {
        turn.request
            .args_from(2)
            .filter(|name| Event::find(name).is_some_and(|event| events.reset(event)))
            .count()
    };
    turn.int(forgotten as i64)
}

pub fn graph(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let events = &turn.node.timing.events;
    let name = turn.request.arg(2);
    let event = Event::find(name).filter(|event| events.samples(*event).len() > 0);
    let Some(event) = event else {
        return Err(Refusal::new(format!(
            "ERR No samples available for event '{}'",
            String::from_utf8_lossy(name)
        )));
    };
    let text = drawn(events, event, turn.clock.unix_seconds());
    turn.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

/// A bar chart of the latest samples, oldest first; below each how long ago it was, to be read downwards.
fn drawn(events: &Events, event: Event, now: i64) -> String {
    let samples: Vec<Sample> = events.samples(event).collect();
    let samples = &samples[samples.len().saturating_sub(GRAPH_COLUMNS_MAX)..];
    let took = || samples.iter().map(|sample| sample.took_ms);
    let (low, high) = (took().min().unwrap_or(0), took().max().unwrap_or(0));
    let mut text = format!(
        "{} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        event.name(),
        events.longest_ms(event),
        "-".repeat(80)
    );
    for row in (0..GRAPH_ROWS).rev() {
        let bar = |took_ms: u64| {
            let height = (took_ms - low) * GRAPH_ROWS / (high - low).max(1);
            match height.min(GRAPH_ROWS - 1) {
                top if top == row => '_',
                top if top > row => '|',
                _ => ' ',
            }
        };
        text.extend(took().map(bar));
        text.push('\n');
    }
    let ages: Vec<String> = samples.iter().map(|sample| age(now - sample.at)).collect();
    for line in 0..ages.iter().map(String::len).max().unwrap_or(0) {
        let letters = ages.iter().map(|age| {
            age.as_bytes()
                .get(line)
                .map_or(' ', |letter| *letter as char)
        });
        text.push('\n');
        text.extend(letters);
    }
    text.push('\n');
    text
}

fn age(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

pub fn doctor(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let events = &turn.node.timing.events;
    let mut text = String::new();
    if events.threshold_ms == 0 {
        text.push_str(
            "Latency monitoring is disabled: set a threshold in milliseconds with \"CONFIG SET latency-monitor-threshold 100\" to have it look.\n",
        );
    } else if events.latest().next().is_none() {
        let _ = writeln!(
            text,
            "Nothing took {} ms or longer since monitoring was enabled.",
            events.threshold_ms
        );
    }
    for (event, sample, longest_ms) in events.latest() {
        let samples = events.samples(event);
        let count = samples.len();
        let sum: u64 = events.samples(event).map(|sample| sample.took_ms).sum();
        let _ = writeln!(
            text,
            "{}: {count} seconds with samples, {} ms on average, {longest_ms} ms at most, the latest {} ago. {}",
            event.name(),
            sum / count.max(1) as u64,
            age(turn.clock.unix_seconds() - sample.at),
            advice(event)
        );
    }
    turn.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

fn advice(event: Event) -> &'static str {
    match event {
        Event::Command => {
            "SLOWLOG GET shows which commands these were: look for large collections read whole."
        }
        Event::FastCommand => {
            "Commands that are fast by nature took long: the machine has no core to spare, or they had very many arguments."
        }
        Event::ExpireCycle => "Many keys expire at once: spread their times.",
        Event::EvictionCycle => "Much has to go at once: raise maxmemory, or add shards.",
    }
}

pub fn histogram(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let histograms = &turn.node.timing.histograms;
    let asked: Vec<CommandId> = if turn.request.len() == 2 {
        CommandId::ALL.to_vec()
    } else {
        turn.request.args_from(2).flat_map(asked).collect()
    };
    let shown: Vec<(CommandId, &Histogram)> = asked
        .into_iter()
        .filter_map(|id| Some((id, histograms.get(id)?)))
        .collect();
    turn.reply.map(shown.len());
    for (id, histogram) in shown {
        turn.reply.bulk(command::spec(id).name.as_bytes());
        write_histogram(&mut turn.reply, histogram);
    }
    Ok(Outcome::Done)
}

/// A command of this name, and its subcommands.
fn asked(name: &[u8]) -> Vec<CommandId> {
    let (name, sub) = match name.iter().position(|byte| *byte == b'|') {
        Some(bar) => (&name[..bar], Some(&name[bar + 1..])),
        None => (name, None),
    };
    match command::lookup(name, sub) {
        Found::Command(id) => std::iter::once(id)
            .chain(command::subcommands(id))
            .collect(),
        Found::UnknownSubcommand(_) | Found::Unknown => Vec::new(),
    }
}

fn write_histogram(reply: &mut ReplyWriter<'_>, histogram: &Histogram) {
    reply.map(2);
    reply.bulk(b"calls");
    reply.int(histogram.calls() as i64);
    reply.bulk(b"histogram_usec");
    reply.map(histogram.doublings().count());
    for (us, calls) in histogram.doublings() {
        reply.int(us as i64);
        reply.int(calls as i64);
    }
}

pub fn help_(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    help(
        turn,
        "LATENCY",
        &[
            "DOCTOR",
            "    Return a human readable latency analysis report.",
            "GRAPH <event>",
            "    Return an ASCII latency graph for the <event> class.",
            "HISTORY <event>",
            "    Return time-latency samples for the <event> class.",
            "LATEST",
            "    Return the latest latency samples for all events.",
            "RESET [<event> ...]",
            "    Reset latency data of one or more <event> classes.",
            "    (default: reset all data for all event classes)",
            "HISTOGRAM [COMMAND ...]",
            "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
            "    If no commands are specified then all histograms are replied",
        ],
    )
}
