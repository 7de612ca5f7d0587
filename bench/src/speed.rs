//! The cases of a cache's daily work, one row each, beside Valkey: CPU time a request, as a ratio of rounds in turns.
//!
//! Each case names the most that the ratio is meant to be; a row that misses says so.

use std::path::PathBuf;

use clap::Args;

use crate::Failure;
use crate::load::{self, Shape};
use crate::process::{Cores, pin_self};
use crate::report::{Table, median};
use crate::systems::{self, Programs, System};

#[derive(Debug, Args)]
pub(crate) struct SpeedArgs {
    #[command(flatten)]
    programs: Programs,
    /// The folder that bench/peers/fetch prints [default: its cache folder]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Only cases whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds: each side is measured so many times
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of a round, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// The core of the server measured
    #[arg(long, default_value = "0")]
    server_core: String,
    /// The core of the load
    #[arg(long, default_value = "1")]
    load_core: String,
    /// Append the table to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// One row: a load of 50 clients, and the most that Larder may cost of what Valkey costs.
struct Case {
    name: &'static str,
    /// What is done once before: a load of this many requests.
    before: Option<(&'static str, u64)>,
    mix: &'static str,
    pipeline: u64,
    value_bytes: usize,
    /// Keys set before; 0 for none.
    fill: u64,
    target: f64,
}

const fn plain(
    name: &'static str,
    mix: &'static str,
    pipeline: u64,
    fill: u64,
    target: f64,
) -> Case {
    Case {
        name,
        before: None,
        mix,
        pipeline,
        value_bytes: 64,
        fill,
        target,
    }
}

const fn on(
    name: &'static str,
    before: &'static str,
    requests: u64,
    mix: &'static str,
    target: f64,
) -> Case {
    Case {
        name,
        before: Some((before, requests)),
        mix,
        pipeline: 32,
        value_bytes: 64,
        fill: 0,
        target,
    }
}

/// Most that the load before a case may take, in seconds.
const PREPARE_SECONDS_MAX: f64 = 600.0;

#[rustfmt::skip]
const CASES: &[Case] = &[
    plain("GET, no pipeline",           "get",    1,  100_000,   0.9),
    plain("SET, no pipeline",           "set",    1,  100_000,   0.9),
    plain("GET, 1 million keys",        "get",    32, 1_000_000, 0.6),
    plain("SET, 1 million keys",        "set",    32, 1_000_000, 0.6),
    plain("INCR",                       "incr",   32, 0,         0.7),
    plain("MGET of 100",                "mget100", 1, 100_000,   0.7),
    Case { name: "GET of 16 KB", before: None, mix: "get", pipeline: 1, value_bytes: 16 * 1024, fill: 10_000, target: 0.9 },
    plain("HSET, 100,000 hashes",       "HSET hash:{100000} field:{10} {value}", 32, 0, 0.7),
    on("HGET, 100,000 hashes",          "HSET hash:{100000} field:{10} {value}", 2_000_000, "HGET hash:{100000} field:{10}", 0.7),
    plain("HSET, one hash",             "HSET hash field:{100000} {value}", 32, 0, 0.7),
    on("HGET, one hash",                "HSET hash field:{100000} {value}", 500_000, "HGET hash field:{100000}", 0.7),
    plain("ZADD, 10,000 sets",          "ZADD zset:{10000} {1000} member:{100}", 32, 0, 0.7),
    plain("ZADD, one set",              "ZADD zset {1000000} member:{100000}", 32, 0, 0.7),
    on("ZRANGE of 10, 10,000 sets",     "ZADD zset:{10000} {1000} member:{100}", 1_000_000, "ZRANGE zset:{10000} 0 9", 0.7),
    on("ZRANGE of 10, one set",         "ZADD zset {1000000} member:{100000}", 500_000, "ZRANGE zset 0 9", 0.7),
    plain("LPUSH, 100,000 lists",       "LPUSH list:{100000} {value}", 32, 0, 0.7),
    plain("LPUSH, one list",            "LPUSH list {value}", 32, 0, 0.7),
    on("LPOP, 10,000 lists",            "LPUSH list:{10000} {value}", 12_000_000, "LPOP list:{10000}", 0.7),
    on("LPOP, one list",                "LPUSH list {value}", 12_000_000, "LPOP list", 0.7),
    plain("SADD, 10,000 sets",          "SADD set:{10000} member:{1000}", 32, 0, 0.7),
    plain("SADD, one set",              "SADD set member:{100000}", 32, 0, 0.7),
    plain("XADD, 1,000 streams",        "XADD stream:{1000} MAXLEN ~ 1000 * field {value}", 32, 0, 0.7),
    plain("EVAL",                       "EVAL \"return redis.call('get', KEYS[1])\" 1 key:{100000}", 32, 100_000, 1.0),
];

pub(crate) async fn command(args: SpeedArgs) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    pin_self(&Cores(args.load_core.clone()))?;
    let peers = args.peers.clone().map_or_else(default_peers, Ok)?;
    let valkey = Programs {
        redis: peers.join("bin/valkey-server").display().to_string(),
        ..args.programs.clone()
    };
    let mut table = Table::new(
        "CPU time a request beside Valkey: one node, one core, 50 clients, values of 64 bytes",
        &[
            "case",
            "pipeline",
            "valkey CPU µs",
            "larder CPU µs",
            "ratio",
            "at most",
            "spread",
        ],
    );
    let cores = Cores(args.server_core.clone());
    let chosen = |case: &&Case| {
        args.only.is_empty() || args.only.iter().any(|name| case.name.contains(&**name))
    };
    for case in CASES.iter().filter(chosen) {
        let name = case.name;
        let peer = systems::redis(&valkey, &cores, folder.path()).await?;
        let larder = systems::larder_node(&args.programs, &cores, folder.path()).await?;
        let (mut peer_costs, mut costs) = (Vec::new(), Vec::new());
        for system in [&peer, &larder] {
            prepare(system, case).await?;
            // What is popped does not last for a round beforehand.
            if !case.name.starts_with("LPOP") {
                cost(system, case, args.seconds.min(1.0), 0).await?;
            }
        }
        for round in 1..=args.rounds as u64 {
            peer_costs.push(cost(&peer, case, args.seconds, round).await?);
            costs.push(cost(&larder, case, args.seconds, round).await?);
        }
        let ratios = || costs.iter().zip(&peer_costs).map(|(own, peer)| own / peer);
        let ratio = median(ratios());
        let missed = if ratio > case.target { " missed" } else { "" };
        eprintln!("{name}: {ratio:.2}{missed}");
        table.row(vec![
            name.to_owned(),
            case.pipeline.to_string(),
            format!("{:.2}", median(peer_costs.iter().copied())),
            format!("{:.2}", median(costs.iter().copied())),
            format!("**{ratio:.2}**{missed}"),
            format!("{:.1}", case.target),
            format!(
                "{:.2}–{:.2}",
                ratios().fold(f64::NAN, f64::min),
                ratios().fold(f64::NAN, f64::max)
            ),
        ]);
    }
    table.publish(args.markdown.as_deref())
}

fn default_peers() -> Result<PathBuf, Failure> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = cache.or(home).ok_or("HOME is not set (say --peers)")?;
    let folder = folder.join("larder/sid");
    if folder.join("complete").exists() {
        Ok(folder)
    } else {
        Err("valkey is missing (bench/peers/fetch brings it)".into())
    }
}

async fn prepare(system: &System, case: &Case) -> Result<(), Failure> {
    if case.fill > 0 {
        load::fill(system.addr, case.fill, case.value_bytes).await?;
    }
    if let Some((mix, requests)) = case.before {
        let shape = Shape {
            mix: mix.parse()?,
            pipeline: 100,
            requests,
            ..shape(case, PREPARE_SECONDS_MAX, 99)?
        };
        refuse_errors(&load::run(system.addr, shape).await?)?;
    }
    Ok(())
}

/// CPU microseconds a request of one round.
async fn cost(system: &System, case: &Case, seconds: f64, seed: u64) -> Result<f64, Failure> {
    let before = system.cpu()?;
    let load = load::run(system.addr, shape(case, seconds, seed)?).await?;
    let after = system.cpu()?;
    refuse_errors(&load)?;
    Ok((after.nodes - before.nodes).as_secs_f64() * 1e6 / load.requests as f64)
}

fn refuse_errors(load: &load::LoadReport) -> Result<(), Failure> {
    match &load.first_error {
        Some(error) => Err(format!("{} requests were refused: {error}", load.errors).into()),
        None => Ok(()),
    }
}

fn shape(case: &Case, seconds: f64, seed: u64) -> Result<Shape, Failure> {
    Ok(Shape {
        clients: 50,
        threads: 1,
        pipeline: case.pipeline,
        mix: case.mix.parse()?,
        value_bytes: case.value_bytes,
        keys: case.fill.max(100_000),
        requests: u64::MAX,
        seconds,
        seed: seed + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Mix;

    #[test]
    fn every_case_has_a_name_of_its_own_and_requests_that_can_be_read() {
        for (at, case) in CASES.iter().enumerate() {
            assert!(CASES[..at].iter().all(|other| other.name != case.name));
            let mixes = [Some(case.mix), case.before.map(|(mix, _)| mix)];
            for mix in mixes.into_iter().flatten() {
                assert!(mix.parse::<Mix>().is_ok(), "{mix}");
            }
        }
    }
}
