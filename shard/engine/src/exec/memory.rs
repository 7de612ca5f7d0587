//! MEMORY: what the data takes, and what that means.

use std::fmt::Write;

use larder_wire::Refusal;

use crate::node::Node;
use crate::turn::{Outcome, Turn, help};

/// From here on a ratio of resident memory to data is worth a word.
const FRAGMENTATION_WORTH_A_WORD: f64 = 1.4;
/// With less data than this, in bytes, ratios tell nothing.
const DATA_BYTES_MIN: u64 = 5 * 1024 * 1024;

/// SAMPLES is read and not needed: the count of bytes is kept, not estimated.
pub fn usage(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let request = turn.request;
    match request.len() {
        3 => {}
        5 if turn.is_word(3, "samples") => {
            if turn.arg_int(4)? < 0 {
                return Err(Refusal::SYNTAX);
            }
        }
        _ => return Err(Refusal::SYNTAX),
    }
    let keyspace = turn.node.databases.get(turn.session.db);
    match keyspace.and_then(|space| space.footprint(request.arg(2), turn.clock.now())) {
        Some(bytes) => turn.reply.int(bytes as i64),
        None => turn.reply.null(),
    }
    Ok(Outcome::Done)
}

pub fn purge(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.ok()
}

/// As Redis answers where its allocator is not jemalloc.
pub fn malloc_stats(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.bulk(b"Stats not supported for the current allocator")
}

/// One value of MEMORY STATS.
enum Stat {
    Bytes(u64),
    Difference(i64),
    Ratio(f64),
}

pub fn stats(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let stats = collect(turn.node);
    let databases: Vec<(String, u64)> = turn
        .node
        .databases
        .iter()
        .filter(|(_, space)| !space.is_empty())
        .map(|(db, space)| (format!("db.{db}"), space.table_bytes()))
        .collect();
    let reply = &mut turn.reply;
    reply.map(stats.len() + databases.len());
    for (name, stat) in stats {
        reply.bulk(name.as_bytes());
        match stat {
            Stat::Bytes(bytes) => reply.int(bytes as i64),
            Stat::Difference(bytes) => reply.int(bytes),
            Stat::Ratio(ratio) => reply.double(ratio),
        }
    }
    for (name, table_bytes) in databases {
        reply.bulk(name.as_bytes());
        reply.map(3);
        reply.bulk(b"overhead.hashtable.main");
        reply.int(table_bytes as i64);
        // Times of expiry lie in the entries, and a slot has a table of its own.
        for none in [
            "overhead.hashtable.expires",
            "overhead.hashtable.slot-to-keys",
        ] {
            reply.bulk(none.as_bytes());
            reply.int(0);
        }
    }
    Ok(Outcome::Done)
}

fn collect(node: &Node) -> Vec<(&'static str, Stat)> {
    let used = node.databases.used_memory();
    let peak = node.memory_peak().max(used);
    let resident = node.machine.rss_bytes;
    let tables: u64 = node
        .databases
        .iter()
        .map(|(_, space)| space.table_bytes())
        .sum();
    let clients: usize = node
        .clients
        .iter()
        .map(|client| client.query_bytes.get() + client.output_bytes.get())
        .sum();
    let journal = node.journal.kept_bytes() as u64;
    let keys = node.databases.len() as u64;
    let dataset = used.saturating_sub(tables);
    let of = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let more = resident as i64 - used as i64;
    vec![
        ("peak.allocated", Stat::Bytes(peak)),
        ("total.allocated", Stat::Bytes(used)),
        ("startup.allocated", Stat::Bytes(0)),
        ("replication.backlog", Stat::Bytes(journal)),
        ("clients.slaves", Stat::Bytes(0)),
        ("clients.normal", Stat::Bytes(clients as u64)),
        ("cluster.links", Stat::Bytes(0)),
        ("aof.buffer", Stat::Bytes(0)),
        ("lua.caches", Stat::Bytes(0)),
        ("functions.caches", Stat::Bytes(0)),
        (
            "overhead.total",
            Stat::Bytes(tables + clients as u64 + journal),
        ),
        ("keys.count", Stat::Bytes(keys)),
        ("keys.bytes-per-key", Stat::Bytes(used / keys.max(1))),
        ("dataset.bytes", Stat::Bytes(dataset)),
        ("dataset.percentage", Stat::Ratio(of(dataset, used) * 100.0)),
        ("peak.percentage", Stat::Ratio(of(used, peak) * 100.0)),
        ("allocator.allocated", Stat::Bytes(used)),
        ("allocator.active", Stat::Bytes(used)),
        ("allocator.resident", Stat::Bytes(resident)),
        ("allocator-fragmentation.ratio", Stat::Ratio(1.0)),
        ("allocator-fragmentation.bytes", Stat::Bytes(0)),
        ("allocator-rss.ratio", Stat::Ratio(of(resident, used))),
        ("allocator-rss.bytes", Stat::Difference(more)),
        ("rss-overhead.ratio", Stat::Ratio(1.0)),
        ("rss-overhead.bytes", Stat::Bytes(0)),
        ("fragmentation", Stat::Ratio(of(resident, used))),
        ("fragmentation.bytes", Stat::Difference(more)),
    ]
}

pub fn doctor(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let node = &turn.node;
    let used = node.databases.used_memory();
    let (peak, resident) = (node.memory_peak().max(used), node.machine.rss_bytes);
    let max = node.databases.config().maxmemory;
    let mut text = String::new();
    if used < DATA_BYTES_MIN {
        text.push_str("There is too little data here to say anything about its memory.\n");
    } else {
        let ratio = resident as f64 / used as f64;
        if ratio > FRAGMENTATION_WORTH_A_WORD {
            let _ = writeln!(
                text,
                "The process holds {ratio:.1} times the memory of this node's data: other nodes of the process have their share in that, and memory that was freed is given back to the system bit by bit.",
            );
        }
        if peak > used + used / 2 {
            let _ = writeln!(
                text,
                "The data once took {:.1} times what it takes: the process may still hold some of that.",
                peak as f64 / used as f64
            );
        }
        if max > 0 && used > max / 10 * 9 {
            let _ = writeln!(
                text,
                "{} % of maxmemory are taken: keys will be evicted, or writes refused.",
                used * 100 / max
            );
        }
        if text.is_empty() {
            text.push_str("Nothing is wrong with the memory of this node.\n");
        }
    }
    turn.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

pub fn help_(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    help(
        turn,
        "MEMORY",
        &[
            "DOCTOR",
            "    Return memory problems reports.",
            "MALLOC-STATS",
            "    Return internal statistics report from the memory allocator.",
            "PURGE",
            "    Attempt to purge dirty pages for reclamation by the allocator.",
            "STATS",
            "    Return information about the memory usage of the server.",
            "USAGE <key> [SAMPLES <count>]",
            "    Return memory in bytes used by <key> and its value. Nested values are",
            "    sampled up to <count> times (default: 5, 0 means sample all).",
        ],
    )
}
