//! `larder reshard`, `move` and `rebalance`: say the order, show its plan, watch it to its end.
//!
//! The topology does the work; this process only watches. Ctrl-C, or the loss of the topology, leaves it going on.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder_plan::report::{MovesReport, OperationReport, OrderReport, Stage};
use larder_plan::{Finished, Outcome};
use larder_runtime::size::show_size;
use larder_runtime::{Secret, shutdown};
use larder_topology::order_text;

use crate::args::{Ask, Move, Rebalance, Reshard};
use crate::operator::Watch;
use crate::text::{count, seconds, thousands};

/// How often the topology is asked how far it is, in milliseconds.
const POLL_MS: u64 = 100;
/// Where there is no terminal, a line is printed this often, in milliseconds.
const LINE_MS: u64 = 5_000;

/// One order in the words of the control protocol.
pub(crate) struct Order<'a> {
    words: Vec<String>,
    dry_run: bool,
    ask: &'a Ask,
    /// `reshard`, for sentences.
    name: &'static str,
}

impl<'a> From<&'a Reshard> for Order<'a> {
    fn from(ask: &'a Reshard) -> Order<'a> {
        let words = vec!["RESHARD".into(), "SHARDS".into(), ask.shards.to_string()];
        Order {
            words,
            dry_run: ask.dry_run,
            ask: &ask.ask,
            name: "reshard",
        }
    }
}

impl<'a> From<&'a Move> for Order<'a> {
    fn from(ask: &'a Move) -> Order<'a> {
        let words = vec![
            "MOVE".into(),
            "SLOTS".into(),
            ask.slots.to_string(),
            "TO".into(),
            ask.to.clone(),
        ];
        Order {
            words,
            dry_run: ask.dry_run,
            ask: &ask.ask,
            name: "move",
        }
    }
}

impl<'a> From<&'a Rebalance> for Order<'a> {
    fn from(ask: &'a Rebalance) -> Order<'a> {
        Order {
            words: vec!["REBALANCE".into()],
            dry_run: ask.dry_run,
            ask: &ask.ask,
            name: "rebalance",
        }
    }
}

/// How the watching ended.
pub(crate) enum End {
    Done,
    /// Ctrl-C: the work goes on.
    LeftAlone,
}

pub(crate) async fn run(
    order: &Order<'_>,
    secret: &Secret,
    out: &mut impl Write,
) -> Result<End, String> {
    let mut watched = Watch::begin(order.ask, secret, order.name).await?;
    let goes_on = watched.goes_on();
    let report = say(&mut watched, order).await?;
    let written = |error: std::io::Error| error.to_string();
    if !order.ask.json {
        write!(out, "{}", order_text(&report)).map_err(written)?;
    }
    let id = match report.operation {
        Some(id) => id,
        None => {
            if order.ask.json {
                writeln!(out, "{:#}", serde_json::json!({ "plan": report })).map_err(written)?;
            }
            return Ok(End::Done);
        }
    };
    let began = Instant::now();
    let finished = tokio::select! {
        finished = watch(watched, id, order) => finished?,
        _ = shutdown::signal().map_err(written)? => {
            eprintln!("\n{goes_on}");
            return Ok(End::LeftAlone);
        }
    };
    let took = began.elapsed();
    if order.ask.json {
        writeln!(out, "{:#}", serde_json::json!({ "plan": report, "finished": finished, "seconds": took.as_secs_f64() }))
            .map_err(written)?;
    } else {
        write!(out, "{}", end_text(order, &finished, took)).map_err(written)?;
    }
    match finished.outcome {
        Outcome::Done => Ok(End::Done),
        Outcome::Dropped { reason } => {
            Err(format!("the {} was not carried out: {reason}", order.name))
        }
    }
}

async fn say(watched: &mut Watch<'_>, order: &Order<'_>) -> Result<OrderReport, String> {
    let mut words = vec!["LARDER"];
    words.extend(order.words.iter().map(String::as_str));
    if order.dry_run {
        words.push("DRYRUN");
    }
    words.push("JSON");
    watched.order(&words).await
}

/// Asks until operation `id` has ended.
async fn watch(mut watched: Watch<'_>, id: u64, order: &Order<'_>) -> Result<Finished, String> {
    let mut display = Display::new(order.ask.json);
    loop {
        let gone = || display.waiting_for_topology();
        let asked = watched.ask::<MovesReport>(&["LARDER", "MOVES", "JSON"], gone);
        let moves = asked.await?;
        let mut finished = moves.finished.into_iter();
        if let Some(finished) = finished.find(|finished| finished.id == id) {
            display.end();
            return Ok(finished);
        }
        match moves.operation.filter(|operation| operation.id == id) {
            Some(operation) => display.show(&operation),
            None => {
                return Err(format!(
                    "the topology at {} no longer knows of this {}",
                    order.ask.topology, order.name
                ));
            }
        }
        tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
    }
}

fn end_text(order: &Order<'_>, finished: &Finished, took: Duration) -> String {
    match &finished.outcome {
        Outcome::Done => format!(
            "{} done: {}, {}, {} in {:.1} s{}\n",
            order.name,
            count(u64::from(finished.slots_moved), "slot"),
            count(finished.keys_moved, "key"),
            show_size(finished.bytes_moved),
            took.as_secs_f64(),
            match finished.failures {
                0 => String::new(),
                failures => format!(", {} tried again", count(u64::from(failures), "move")),
            },
        ),
        Outcome::Dropped { .. } => String::new(),
    }
}

/// A progress bar on a terminal, a line now and then elsewhere, nothing for JSON.
enum Display {
    Bar(ProgressBar),
    Lines { last: Option<Instant> },
    Silent,
}

impl Display {
    fn new(json: bool) -> Display {
        if json {
            return Display::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Display::Lines { last: None };
        }
        let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {percent:>3} %  {wide_msg}") {
            bar.set_style(style);
        }
        Display::Bar(bar)
    }

    fn show(&mut self, operation: &OperationReport) {
        let text = progress_text(operation);
        match self {
            Display::Bar(bar) => {
                bar.set_position((operation.done * 1000.0) as u64);
                bar.set_message(text);
            }
            Display::Lines { last }
                if last.is_none_or(|at| at.elapsed() >= Duration::from_millis(LINE_MS)) =>
            {
                *last = Some(Instant::now());
                eprintln!("{:.0} %  {text}", operation.done * 100.0);
            }
            Display::Lines { .. } | Display::Silent => {}
        }
    }

    fn waiting_for_topology(&mut self) {
        if let Display::Bar(bar) = self {
            bar.set_message(
                "the topology does not answer; asking again (a move under way goes on)",
            );
        }
    }

    fn end(&mut self) {
        if let Display::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// What matters most first: a narrow terminal cuts the end off.
fn progress_text(operation: &OperationReport) -> String {
    match &operation.stage {
        Stage::Waiting { nodes } => {
            format!("waiting for {} to join", count(u64::from(*nodes), "node"))
        }
        Stage::Stalled { reason } => format!("stalled, still trying: {reason}"),
        Stage::Moving => format!(
            "{}slots {}/{}, {}, {}, {} keys/s, {}/s",
            operation
                .eta_seconds
                .map_or(String::new(), |left| format!("{} left, ", seconds(left))),
            operation.slots_done,
            operation.slots_total,
            count(operation.keys_moved, "key"),
            show_size(operation.bytes_moved),
            thousands(operation.keys_per_second as u64),
            show_size(operation.bytes_per_second as u64),
        ),
    }
}
