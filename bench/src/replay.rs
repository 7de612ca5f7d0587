//! A trace through real caches with a memory limit: which misses least.
//!
//! Each request is a GET, and on a miss a SET of the trace's size. Requests go in pipelines that are cut before a key comes twice, so that every GET meets what
//! the SETs before it left. All systems have the same bytes for data: the limit is what the server itself counts when empty, and the
//! same share of the trace's keys and values on top. What a server spends on a key beyond its bytes is its own loss.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::Failure;
use crate::connection::Connection;
use crate::pipeline::{Pipeline, request};
use crate::process::Cores;
use crate::report::Table;
use crate::systems::{self, Programs, System};
use crate::trace::Trace;

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Lines of `key size`, one a request; plain, or compressed with xz
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// Memory for data, in percent of the bytes of all keys and values of the trace
    #[arg(long, value_delimiter = ',', default_value = "1,5,10,20")]
    percent: Vec<u64>,
    /// What to run beside larder
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "redis-lru,redis-lfu"
    )]
    peers: Vec<Peer>,
    /// Larder's policy
    #[arg(long, default_value = "allkeys-lrfu")]
    policy: String,
    /// Requests in flight
    #[arg(long, default_value_t = 16)]
    pipeline: usize,
    #[command(flatten)]
    programs: Programs,
    /// The cores of server and load
    #[arg(long, default_value = "0,1")]
    cores: String,
    /// Append the table to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// redis-server with allkeys-lru
    RedisLru,
    /// redis-server with allkeys-lfu
    RedisLfu,
}

impl Peer {
    fn policy(self) -> &'static str {
        match self {
            Peer::RedisLru => "allkeys-lru",
            Peer::RedisLfu => "allkeys-lfu",
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Misses {
    requests: u64,
    missed: u64,
    bytes: u64,
    missed_bytes: u64,
    /// SETs that were refused for lack of memory.
    refused: u64,
}

impl Misses {
    fn by_requests(&self) -> f64 {
        self.missed as f64 / self.requests as f64
    }

    fn by_bytes(&self) -> f64 {
        self.missed_bytes as f64 / self.bytes as f64
    }
}

pub(crate) async fn command(args: ReplayArgs) -> Result<(), Failure> {
    let mut columns = vec!["trace", "%", "larder"];
    for peer in &args.peers {
        columns.push(match peer {
            Peer::RedisLru => "redis allkeys-lru",
            Peer::RedisLfu => "redis allkeys-lfu",
        });
    }
    columns.extend(["ratio by requests", "ratio by bytes"]);
    let mut table = Table::new("Misses at the same memory for data", &columns);
    let (mut by_requests, mut by_bytes) = (Vec::new(), Vec::new());
    for path in &args.traces {
        let trace = Arc::new(Trace::read(path)?);
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        for &percent in &args.percent {
            let data = trace.footprint() * percent / 100;
            let ours = run(&args, None, &args.policy, &trace, data).await?;
            let mut cells = vec![name.clone(), percent.to_string(), show(&ours)];
            let (mut requests, mut bytes) = (f64::INFINITY, f64::INFINITY);
            for &peer in &args.peers {
                let theirs = run(&args, Some(peer), peer.policy(), &trace, data).await?;
                cells.push(show(&theirs));
                requests = requests.min(theirs.by_requests());
                bytes = bytes.min(theirs.by_bytes());
            }
            by_requests.push(ours.by_requests() / requests);
            by_bytes.push(ours.by_bytes() / bytes);
            let last = by_requests.len() - 1;
            cells.push(format!("**{:.3}**", by_requests[last]));
            cells.push(format!("**{:.3}**", by_bytes[last]));
            println!("{}", cells.join("  "));
            table.row(cells);
        }
    }
    let mean = |ratios: &[f64]| ratios.iter().sum::<f64>() / ratios.len() as f64;
    table.note(format!(
        "Misses in percent of requests / of bytes. Ratios: larder ({}) to the better of the others at each point; on average {:.3} by requests, {:.3} by bytes.",
        args.policy,
        mean(&by_requests),
        mean(&by_bytes)
    ));
    table.publish(args.markdown.as_deref())
}

fn show(misses: &Misses) -> String {
    let refused = match misses.refused {
        0 => String::new(),
        refused => format!(" ({refused} SETs refused)"),
    };
    format!(
        "{:.2} / {:.2}{refused}",
        misses.by_requests() * 100.0,
        misses.by_bytes() * 100.0
    )
}

async fn run(
    args: &ReplayArgs,
    peer: Option<Peer>,
    policy: &str,
    trace: &Arc<Trace>,
    data: u64,
) -> Result<Misses, Failure> {
    let folder = tempfile::tempdir()?;
    let cores = Cores(args.cores.clone());
    let system: System = match peer {
        Some(_) => systems::redis(&args.programs, &cores, folder.path()).await?,
        None => systems::larder_node(&args.programs, &cores, folder.path()).await?,
    };
    let mut asking = Connection::open(system.addr).await?;
    let info = asking.ask(&["INFO", "memory"]).await?;
    let empty = info_number(&info, "used_memory").ok_or("INFO has no used_memory")?;
    let limit = (empty + data).to_string();
    asking.ask(&["CONFIG", "SET", "maxmemory", &limit]).await?;
    asking
        .ask(&["CONFIG", "SET", "maxmemory-policy", policy])
        .await?;
    let (trace, addr, pipeline) = (Arc::clone(trace), system.addr, args.pipeline);
    tokio::task::spawn_blocking(move || drive(addr, &trace, pipeline)).await?
}

/// A number of `INFO`.
pub(crate) fn info_number(info: &[u8], field: &str) -> Option<u64> {
    let text = String::from_utf8_lossy(info);
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .and_then(|value| value.trim().parse().ok())
}

fn drive(addr: SocketAddr, trace: &Trace, pipeline: usize) -> Result<Misses, Failure> {
    let mut pipeline_to = Pipeline::open(addr)?;
    let longest = trace.keys.iter().map(|&(_, size)| size).max();
    let value = vec![b'v'; longest.unwrap_or(0)];
    let mut misses = Misses::default();
    let mut rest = &trace.requests[..];
    let mut batch = HashSet::new();
    let mut missed: Vec<u32> = Vec::new();
    let mut out = Vec::new();
    while !rest.is_empty() {
        batch.clear();
        let len = rest
            .iter()
            .take(pipeline)
            .take_while(|place| batch.insert(**place))
            .count();
        let (now, later) = rest.split_at(len);
        rest = later;
        // The SETs of the last batch lead, so each GET comes after them.
        let sets = missed.len();
        for place in missed.drain(..) {
            let (key, size) = &trace.keys[place as usize];
            request(&mut out, &[b"SET", key.as_bytes(), &value[..*size]]);
        }
        for &place in now {
            let (key, _) = &trace.keys[place as usize];
            request(&mut out, &[b"GET", key.as_bytes()]);
        }
        pipeline_to.send(&mut out)?;
        for _ in 0..sets {
            misses.refused += u64::from(pipeline_to.reply()?.is_error);
        }
        for &place in now {
            let size = trace.keys[place as usize].1 as u64;
            misses.requests += 1;
            misses.bytes += size;
            let reply = pipeline_to.reply()?;
            if reply.is_error {
                return Err("a GET was refused".into());
            }
            if reply.is_null {
                misses.missed += 1;
                misses.missed_bytes += size;
                missed.push(place);
            }
        }
    }
    Ok(misses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_info_are_found_by_their_whole_name() {
        let info = b"# Memory\r\nused_memory_rss:7\r\nused_memory:42\r\n";
        assert_eq!(info_number(info, "used_memory"), Some(42));
        assert_eq!(info_number(info, "maxmemory"), None);
    }
}
