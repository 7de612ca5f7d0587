//! Resident memory, by the kernel's own measure: what a server's process has in RAM, less what it had when empty.
//!
//! `keys` is bytes a key beyond key and value, over the number of keys; `collections` bytes of small and of huge collections; `churn` how well a limit
//! is kept while values of all sizes replace one another; `growth` the longest answers to a client beside a load that fills a server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::Failure;
use crate::connection::Connection;
use crate::pipeline::{Pipeline, request};
use crate::process::{Cores, waited_here};
use crate::replay::info_number;
use crate::report::Table;
use crate::systems::{self, Programs, System};

/// Requests in flight while filling.
const PIPELINE: usize = 100;
/// After this, what an allocator meant to give back has been given back.
const SETTLE: Duration = Duration::from_millis(2500);
/// Bytes of a key.
const KEY_BYTES: usize = 16;
/// An expiry far away, in seconds.
const TTL: &[u8] = b"1000000";

#[derive(Debug, Args)]
pub(crate) struct MemoryArgs {
    /// What to measure
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "keys,collections,churn"
    )]
    what: Vec<What>,
    /// Servers beside larder: programs that take redis-server's arguments
    #[arg(long, value_delimiter = ',', value_name = "FILE")]
    peers: Vec<String>,
    #[command(flatten)]
    programs: Programs,
    /// `keys`: numbers of keys, ascending
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "100000,300000,1000000,3000000"
    )]
    counts: Vec<u64>,
    /// `keys`: sizes of values in bytes
    #[arg(long, value_delimiter = ',', default_value = "3,32,64")]
    sizes: Vec<usize>,
    /// `churn`: the limit in bytes
    #[arg(long, default_value_t = 512 * 1024 * 1024)]
    limit: u64,
    /// `churn`: how many times the memory is turned over
    #[arg(long, default_value_t = 20)]
    turns: u64,
    /// `growth`: keys
    #[arg(long, default_value_t = 20_000_000)]
    keys: u64,
    /// The cores of server and load
    #[arg(long, default_value = "0,1")]
    cores: String,
    /// Append the tables to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    Keys,
    Collections,
    Churn,
    Growth,
}

pub(crate) async fn command(args: MemoryArgs) -> Result<(), Failure> {
    for what in &args.what {
        let table = match what {
            What::Keys => keys(&args).await?,
            What::Collections => collections(&args).await?,
            What::Churn => churn(&args).await?,
            What::Growth => growth(&args).await?,
        };
        table.publish(args.markdown.as_deref())?;
    }
    Ok(())
}

/// A server that was just started.
struct Subject {
    name: String,
    system: System,
    empty_rss: u64,
    /// Ends after the server.
    _folder: tempfile::TempDir,
}

impl Subject {
    async fn start(args: &MemoryArgs, peer: Option<&String>) -> Result<Subject, Failure> {
        let folder = tempfile::tempdir()?;
        let cores = Cores(args.cores.clone());
        let (name, system) = match peer {
            Some(program) => {
                let mut programs = args.programs.clone();
                programs.redis = program.clone();
                let name = PathBuf::from(program)
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let system = systems::redis(&programs, &cores, folder.path()).await?;
                (name, system)
            }
            None => {
                let system = systems::larder_node(&args.programs, &cores, folder.path()).await?;
                ("larder".to_owned(), system)
            }
        };
        Ok(Subject {
            name,
            empty_rss: system.rss()?,
            system,
            _folder: folder,
        })
    }

    async fn grown(&self) -> Result<u64, Failure> {
        tokio::time::sleep(SETTLE).await;
        Ok(self.system.rss()?.saturating_sub(self.empty_rss))
    }

    /// Sends requests from a thread of its own.
    async fn fill(
        &self,
        requests: impl FnMut(&mut Vec<u8>) -> bool + Send + 'static,
    ) -> Result<(), Failure> {
        let addr = self.system.addr;
        tokio::task::spawn_blocking(move || fill(addr, requests)).await?
    }
}

/// Sends requests until `next` appends none.
fn fill(addr: SocketAddr, mut next: impl FnMut(&mut Vec<u8>) -> bool) -> Result<(), Failure> {
    let mut pipeline = Pipeline::open(addr)?;
    let mut out = Vec::new();
    loop {
        let sent = (0..PIPELINE).take_while(|_| next(&mut out)).count();
        if sent == 0 {
            return Ok(());
        }
        pipeline.send(&mut out)?;
        for _ in 0..sent {
            if pipeline.reply()?.is_error {
                return Err("a write was refused".into());
            }
        }
    }
}

fn subjects(args: &MemoryArgs) -> impl Iterator<Item = Option<&String>> {
    std::iter::once(None).chain(args.peers.iter().map(Some))
}

async fn keys(args: &MemoryArgs) -> Result<Table, Failure> {
    let mut columns = vec!["server", "value", "TTL"];
    let labels: Vec<String> = args.counts.iter().map(|it| format!("{it} keys")).collect();
    let labels: &'static [String] = labels.leak();
    columns.extend(labels.iter().map(String::as_str));
    let mut table = Table::new(
        "Resident bytes a key beyond key (16 bytes) and value",
        &columns,
    );
    for peer in subjects(args) {
        for &size in &args.sizes {
            for ttl in [false, true] {
                let subject = Subject::start(args, peer).await?;
                let mut cells = vec![
                    subject.name.clone(),
                    size.to_string(),
                    if ttl { "yes" } else { "no" }.to_owned(),
                ];
                let mut at = 0;
                for &count in &args.counts {
                    let (from, mut next) = (at, at);
                    subject
                        .fill(move |out| {
                            if next == count {
                                return false;
                            }
                            let key = format!("key:{next:0width$}", width = KEY_BYTES - 4);
                            let value = text(next, size);
                            if ttl {
                                request(out, &[b"SET", key.as_bytes(), &value, b"EX", TTL]);
                            } else {
                                request(out, &[b"SET", key.as_bytes(), &value]);
                            }
                            next += 1;
                            true
                        })
                        .await?;
                    at = count.max(from);
                    let own = subject.grown().await? as f64 / count as f64;
                    cells.push(format!("{:.1}", own - (KEY_BYTES + size) as f64));
                }
                println!("{}", cells.join("  "));
                table.row(cells);
            }
        }
    }
    Ok(table)
}

/// `size` bytes that are no number.
fn text(number: u64, size: usize) -> Vec<u8> {
    let mut value = format!("v{number}").into_bytes();
    value.resize(size, b'x');
    value
}

/// How elements are added, ten at a time to a small collection.
const KINDS: [(&str, &str); 4] = [
    ("hash", "HSET"),
    ("list", "RPUSH"),
    ("set", "SADD"),
    ("sorted set", "ZADD"),
];

async fn collections(args: &MemoryArgs) -> Result<Table, Failure> {
    const SMALL: u64 = 100_000;
    const ELEMENTS: u64 = 10;
    const HUGE: u64 = 1_000_000;
    let mut table = Table::new(
        "Resident bytes of collections",
        &[
            "server",
            "hash of 10",
            "list of 10",
            "set of 10",
            "sorted set of 10",
            "sorted set of 1,000,000, a member",
        ],
    );
    for peer in subjects(args) {
        let mut cells = Vec::new();
        for (kind, verb) in KINDS {
            let subject = Subject::start(args, peer).await?;
            let mut next = 0;
            subject
                .fill(move |out| {
                    if next == SMALL {
                        return false;
                    }
                    let key = format!("key:{next:0width$}", width = KEY_BYTES - 4);
                    let mut parts = vec![verb.as_bytes().to_vec(), key.into_bytes()];
                    for element in 0..ELEMENTS {
                        let name = format!("f{element:09}").into_bytes();
                        match kind {
                            "hash" => parts.extend([name, text(next * ELEMENTS + element, 10)]),
                            "sorted set" => {
                                parts.extend([(element * 37).to_string().into_bytes(), name])
                            }
                            _ => parts.push(name),
                        }
                    }
                    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                    request(out, &parts);
                    next += 1;
                    true
                })
                .await?;
            if cells.is_empty() {
                cells.push(subject.name.clone());
            }
            let each = subject.grown().await? / SMALL;
            cells.push(each.to_string());
        }
        let subject = Subject::start(args, peer).await?;
        let mut next = 0_u64;
        subject
            .fill(move |out| {
                if next == HUGE {
                    return false;
                }
                let score = (next.wrapping_mul(7_919) % HUGE).to_string();
                let member = format!("member:{next:09}");
                request(out, &[b"ZADD", b"big", score.as_bytes(), member.as_bytes()]);
                next += 1;
                true
            })
            .await?;
        cells.push(format!(
            "{:.1}",
            subject.grown().await? as f64 / HUGE as f64
        ));
        println!("{}", cells.join("  "));
        table.row(cells);
    }
    table.note(
        "Keys of 16 bytes, elements of 10 bytes (fields and values alike), members of 16."
            .to_owned(),
    );
    Ok(table)
}

/// Values of all sizes, most of them small, whose mean changes as time goes by.
async fn churn(args: &MemoryArgs) -> Result<Table, Failure> {
    let mut table = Table::new(
        "Resident memory under churn below a limit",
        &[
            "server",
            "limit MB",
            "turns",
            "resident MB",
            "resident / limit",
            "used_memory MB",
            "resident / used",
            "highest / limit",
        ],
    );
    for peer in subjects(args) {
        let subject = Subject::start(args, peer).await?;
        let mut asking = Connection::open(subject.system.addr).await?;
        asking
            .ask(&["CONFIG", "SET", "maxmemory", &args.limit.to_string()])
            .await?;
        let policy = if peer.is_some() {
            "allkeys-lru"
        } else {
            "allkeys-lrfu"
        };
        asking
            .ask(&["CONFIG", "SET", "maxmemory-policy", policy])
            .await?;
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut highest = 0;
        for turn in 1..=args.turns {
            let (limit, mut written) = (args.limit, 0);
            let mut chance = random;
            subject
                .fill(move |out| {
                    if written >= limit {
                        return false;
                    }
                    let key = format!("key:{:012}", step(&mut chance) % 100_000_000);
                    let value = text(written, value_bytes(step(&mut chance), turn));
                    written += (KEY_BYTES + value.len()) as u64;
                    request(out, &[b"SET", key.as_bytes(), &value]);
                    true
                })
                .await?;
            step(&mut random);
            random = random.wrapping_add(turn);
            let now = subject.system.rss()?.saturating_sub(subject.empty_rss);
            if turn > 1 {
                highest = highest.max(now);
            }
            println!("{} turn {turn}: {} MB", subject.name, now >> 20);
        }
        let resident = subject.grown().await?;
        let info = asking.ask(&["INFO", "memory"]).await?;
        let used = info_number(&info, "used_memory").ok_or("INFO has no used_memory")?;
        let share = |bytes: u64, of: u64| format!("{:.3}", bytes as f64 / of as f64);
        table.row(vec![
            subject.name.clone(),
            (args.limit >> 20).to_string(),
            args.turns.to_string(),
            (resident >> 20).to_string(),
            share(resident, args.limit),
            (used >> 20).to_string(),
            share(resident, used),
            share(highest, args.limit),
        ]);
    }
    Ok(table)
}

fn step(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 11
}

/// Between 8 bytes and 32 KB, each doubling as likely as the next twice over; every fourth turn has nothing below 64 bytes, and every fifth nothing above 1 KB.
fn value_bytes(chance: u64, turn: u64) -> usize {
    let doublings = (chance & 0xFFF).trailing_ones() as usize;
    let base = if turn.is_multiple_of(4) { 64 } else { 8 };
    let size = (base << doublings) + (chance >> 12) as usize % (base << doublings);
    if turn.is_multiple_of(5) {
        size.min(1024)
    } else {
        size
    }
}

/// One key after another, while another client asks every fifth of a millisecond. An answer's *own* time is without the time in which the server's
/// threads, or the one that asks, were ready and others had the cores.
async fn growth(args: &MemoryArgs) -> Result<Table, Failure> {
    const PROBE: Duration = Duration::from_micros(200);
    const SLOW_US: u128 = 1000;
    const VERY_SLOW_US: u128 = 5000;
    let mut table = Table::new(
        "Answers beside a load that fills a server",
        &[
            "server",
            "keys",
            "resident MB",
            "probes",
            "p50 µs",
            "p99.9 µs",
            "longest µs",
            "over 1 ms",
            "own p99.9 µs",
            "own longest µs",
            "own over 1 ms",
            "own over 5 ms",
        ],
    );
    for peer in subjects(args) {
        let subject = Subject::start(args, peer).await?;
        let mut asking = Connection::open(subject.system.addr).await?;
        let (keys, mut next) = (args.keys, 0);
        let load = subject.fill(move |out| {
            if next == keys {
                return false;
            }
            let key = format!("key:{next:0width$}", width = KEY_BYTES - 4);
            request(
                out,
                &[b"SET", key.as_bytes(), b"0123456789abcdefghijklmnopqrstuv"],
            );
            next += 1;
            true
        });
        tokio::pin!(load);
        let (mut micros, mut own): (Vec<u128>, Vec<u128>) = (Vec::new(), Vec::new());
        let stood = || Ok::<_, Failure>(subject.system.waited()? + waited_here()?);
        let start = Instant::now();
        loop {
            let (before, began) = (stood()?, Instant::now());
            asking.ask(&["PING"]).await?;
            let took = began.elapsed();
            let alone = took.saturating_sub(stood()? - before);
            micros.push(took.as_micros());
            own.push(alone.as_micros());
            if alone.as_micros() > SLOW_US {
                let (at, keys) = (start.elapsed().as_millis(), subject.system.rss()? >> 20);
                println!(
                    "{}: {} µs at {at} ms, {keys} MB",
                    subject.name,
                    alone.as_micros()
                );
            }
            tokio::select! {
                done = &mut load => { done?; break; }
                () = tokio::time::sleep(PROBE) => {}
            }
        }
        micros.sort_unstable();
        own.sort_unstable();
        let at =
            |all: &[u128], share: f64| all[((all.len() - 1) as f64 * share) as usize].to_string();
        let over =
            |all: &[u128], limit: u128| all.iter().filter(|it| **it > limit).count().to_string();
        table.row(vec![
            subject.name.clone(),
            keys.to_string(),
            (subject.system.rss()? >> 20).to_string(),
            micros.len().to_string(),
            at(&micros, 0.5),
            at(&micros, 0.999),
            at(&micros, 1.0),
            over(&micros, SLOW_US),
            at(&own, 0.999),
            at(&own, 1.0),
            over(&own, SLOW_US),
            over(&own, VERY_SLOW_US),
        ]);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_churn_have_the_sizes_that_are_said() {
        let mut state = 1;
        for turn in 1..=20 {
            for _ in 0..1000 {
                let size = value_bytes(step(&mut state), turn);
                assert!((8..1 << 20).contains(&size));
            }
        }
        assert_eq!(text(12, 5), b"v12xx");
    }
}
