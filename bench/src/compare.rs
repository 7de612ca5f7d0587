//! Two systems side by side: the same load in turns (A B A B …), medians, CPU time a request.
//!
//! The server measured has a core for itself; load (and what stands behind a proxy) is on
//! another. CPU time a request is what the kernel charged the server for the load's time.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::Failure;
use crate::load::{self, LoadReport, Shape};
use crate::process::{Cores, pin_self};
use crate::report::{Table, median};
use crate::systems::{self, Programs, System};

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// What to compare
    #[arg(long, value_enum, value_delimiter = ',', default_value = "node,proxy")]
    what: Vec<What>,
    #[command(flatten)]
    programs: Programs,
    /// Only the peers, without larder: to see what the peers reach on this machine
    #[arg(long)]
    peers_only: bool,
    #[command(flatten)]
    shape: Shape,
    /// Pipeline depths to measure; --pipeline is not looked at
    #[arg(long, value_delimiter = ',', default_value = "1,32")]
    pipelines: Vec<u64>,
    /// Rounds: each side is measured so many times
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The core of the server measured
    #[arg(long, default_value = "0")]
    server_core: String,
    /// The core of the load, and of the nodes behind a proxy
    #[arg(long, default_value = "1")]
    load_core: String,
    /// Append the table to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// redis-server and a larder node
    Node,
    /// Twemproxy in front of three redis-servers, a larder proxy in front of three nodes
    Proxy,
}

/// What one round of load cost one system.
struct Round {
    front_us: f64,
    nodes_us: f64,
    load: LoadReport,
}

pub(crate) async fn command(args: CompareArgs) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    pin_self(&Cores(args.load_core.clone()))?;
    let mut table = Table::new(
        &format!(
            "CPU time a request: {} clients, {}-byte values, mix {}",
            args.shape.clients, args.shape.value_bytes, args.shape.mix
        ),
        &[
            "what",
            "pipeline",
            "peer",
            "CPU µs",
            "larder CPU µs",
            "ratio",
            "spread",
            "peer req/s",
            "larder req/s",
            "peer p50/p99/p99.9 µs",
            "larder p50/p99/p99.9 µs",
        ],
    );
    table.note(format!(
        "Medians of {} rounds of {} s in turns; spread: the lowest and highest ratio of a round.",
        args.rounds, args.shape.seconds
    ));
    for what in &args.what {
        match what {
            What::Node => compare_nodes(&args, folder.path(), &mut table).await?,
            What::Proxy => compare_proxies(&args, folder.path(), &mut table).await?,
        }
    }
    table.publish(args.markdown.as_deref())
}

async fn compare_nodes(
    args: &CompareArgs,
    folder: &Path,
    table: &mut Table,
) -> Result<(), Failure> {
    let cores = Cores(args.server_core.clone());
    let peer = systems::redis(&args.programs, &cores, folder).await?;
    let larder = if args.peers_only {
        None
    } else {
        Some(systems::larder_node(&args.programs, &cores, folder).await?)
    };
    for &pipeline in &args.pipelines {
        let (peer_rounds, larder_rounds) = measure(args, pipeline, &peer, larder.as_ref()).await?;
        let node = |round: &Round| round.nodes_us;
        table.row(row(
            "node",
            pipeline,
            "redis-server",
            &peer_rounds,
            &larder_rounds,
            node,
        ));
    }
    Ok(())
}

async fn compare_proxies(
    args: &CompareArgs,
    folder: &Path,
    table: &mut Table,
) -> Result<(), Failure> {
    let (front, nodes) = (
        Cores(args.server_core.clone()),
        Cores(args.load_core.clone()),
    );
    let peer = systems::twemproxy(&args.programs, &front, &nodes, folder).await?;
    let larder = if args.peers_only {
        None
    } else {
        Some(systems::larder_cluster(&args.programs, &front, &nodes, folder).await?)
    };
    for &pipeline in &args.pipelines {
        let (peer_rounds, larder_rounds) = measure(args, pipeline, &peer, larder.as_ref()).await?;
        let front = |round: &Round| round.front_us;
        table.row(row(
            "proxy",
            pipeline,
            "twemproxy",
            &peer_rounds,
            &larder_rounds,
            front,
        ));
        let nodes = |round: &Round| round.nodes_us;
        table.row(row(
            "nodes behind it",
            pipeline,
            "redis-server",
            &peer_rounds,
            &larder_rounds,
            nodes,
        ));
    }
    Ok(())
}

/// Rounds of both sides in turns, after one of each that is not counted.
async fn measure(
    args: &CompareArgs,
    pipeline: u64,
    peer: &System,
    larder: Option<&System>,
) -> Result<(Vec<Round>, Vec<Round>), Failure> {
    let (mut peer_rounds, mut larder_rounds) = (Vec::new(), Vec::new());
    for system in [Some(peer), larder].into_iter().flatten() {
        load::fill(system.addr, args.shape.keys, args.shape.value_bytes).await?;
        let warm = Shape {
            seconds: args.shape.seconds.min(1.0),
            pipeline,
            ..args.shape.clone()
        };
        one_round(system, warm).await?;
    }
    for round in 0..args.rounds {
        let shape = Shape {
            pipeline,
            seed: args.shape.seed + round as u64,
            ..args.shape.clone()
        };
        peer_rounds.push(one_round(peer, shape.clone()).await?);
        if let Some(larder) = larder {
            larder_rounds.push(one_round(larder, shape).await?);
        }
        eprintln!(
            "pipeline {pipeline}: round {} of {}",
            round + 1,
            args.rounds
        );
    }
    Ok((peer_rounds, larder_rounds))
}

async fn one_round(system: &System, shape: Shape) -> Result<Round, Failure> {
    let before = system.cpu()?;
    let load = load::run(system.addr, shape).await?;
    let after = system.cpu()?;
    if let Some(error) = &load.first_error {
        return Err(format!("{} requests were refused: {error}", load.errors).into());
    }
    let each = |spent: std::time::Duration| spent.as_secs_f64() * 1e6 / load.requests as f64;
    Ok(Round {
        front_us: each(after.front - before.front),
        nodes_us: each(after.nodes - before.nodes),
        load,
    })
}

fn row(
    what: &str,
    pipeline: u64,
    peer_name: &str,
    peer: &[Round],
    larder: &[Round],
    cost: fn(&Round) -> f64,
) -> Vec<String> {
    let costs = |rounds: &[Round]| median(rounds.iter().map(cost));
    let ratios: Vec<f64> = peer
        .iter()
        .zip(larder)
        .map(|(peer, larder)| cost(larder) / cost(peer))
        .collect();
    let lowest = ratios.iter().copied().fold(f64::NAN, f64::min);
    let highest = ratios.iter().copied().fold(f64::NAN, f64::max);
    let rate = |rounds: &[Round]| median(rounds.iter().map(|round| round.load.requests_per_second));
    vec![
        what.to_owned(),
        pipeline.to_string(),
        peer_name.to_owned(),
        shown(costs(peer), 2),
        shown(costs(larder), 2),
        format!("**{}**", shown(costs(larder) / costs(peer), 2)),
        format!("{}–{}", shown(lowest, 2), shown(highest, 2)),
        shown(rate(peer), 0),
        shown(rate(larder), 0),
        latencies(peer),
        latencies(larder),
    ]
}

fn latencies(rounds: &[Round]) -> String {
    let at = |quantile: fn(&LoadReport) -> f64| {
        shown(median(rounds.iter().map(|round| quantile(&round.load))), 0)
    };
    format!(
        "{} / {} / {}",
        at(|load| load.p50_us),
        at(|load| load.p99_us),
        at(|load| load.p999_us)
    )
}

fn shown(value: f64, decimals: usize) -> String {
    if value.is_nan() {
        "?".to_owned()
    } else {
        format!("{value:.decimals$}")
    }
}
