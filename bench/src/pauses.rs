//! What clients feel of work in the background: 50 of them drive a full node at full speed, first alone and then while it saves its data or while a
//! replica takes all of them; and what they lose when a write is answered only once a replica has it.
//!
//! Beside the load one connection asks PING. What of its time the node or the asker stood ready without a core is taken off: what is left is the node's
//! own, however many others the machine serves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::Failure;
use crate::connection::Connection;
use crate::load::{self, LoadReport, Shape};
use crate::process::{Cores, free_addrs, pin_self, secret, waited_here};
use crate::report::{Table, median};
use crate::systems::{self, LarderNodes, Programs};

/// Between two questions of the asker.
const PROBE: Duration = Duration::from_micros(500);
/// Between two looks at whether the work is done.
const LOOK: Duration = Duration::from_millis(20);
/// Longest that the work may take.
const WORK_SECONDS_MAX: u64 = 300;
const MIB: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct PausesArgs {
    /// What to measure
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "save,sync,safe"
    )]
    what: Vec<What>,
    #[command(flatten)]
    programs: Programs,
    /// Keys of the node
    #[arg(long, default_value_t = 5_000_000)]
    keys: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 380)]
    value_bytes: usize,
    /// Seconds of the quiet phase, and of each round of `safe`
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// `safe`: rounds of each mode
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The core of the thread that serves
    #[arg(long, default_value = "0")]
    node_cores: String,
    /// The core of the load
    #[arg(long, default_value = "1")]
    load_cores: String,
    /// The cores of everything else: what writes files, the replica, the topology
    #[arg(long, default_value = "0,1")]
    cores: String,
    /// Append the tables to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    Save,
    Sync,
    Safe,
}

pub(crate) async fn command(args: PausesArgs) -> Result<(), Failure> {
    pin_self(&Cores(args.load_cores.clone()))?;
    for what in &args.what {
        let table = match what {
            What::Save | What::Sync => beside_work(&args, *what).await?,
            What::Safe => safe(&args).await?,
        };
        table.publish(args.markdown.as_deref())?;
    }
    Ok(())
}

/// A shard whose first node that joined is its primary.
struct Shard {
    larder: String,
    nodes: LarderNodes,
    /// Ends after the servers.
    _folder: tempfile::TempDir,
}

impl Shard {
    async fn start(args: &PausesArgs) -> Result<Shard, Failure> {
        let folder = tempfile::tempdir()?;
        let cores = Cores(args.cores.clone());
        let addrs = free_addrs::<4>()?;
        let nodes =
            systems::larder_nodes::<1>(&args.programs, &cores, folder.path(), &addrs).await?;
        let shard = Shard {
            larder: args.programs.larder()?,
            nodes,
            _folder: folder,
        };
        shard.nodes.nodes[0].pin_serving(&Cores(args.node_cores.clone()))?;
        let mut asking = Connection::open(shard.addr()).await?;
        wait_until("the cluster is formed", async || {
            let reply = asking.ask_any(&["GET", "ready?"]).await?;
            Ok(!reply.starts_with(b"-"))
        })
        .await?;
        Ok(shard)
    }

    fn addr(&self) -> SocketAddr {
        self.nodes.node_addrs[0]
    }

    /// A second node, which becomes the primary's replica.
    async fn add_replica(&mut self, args: &PausesArgs) -> Result<(), Failure> {
        let cores = Cores(args.cores.clone());
        let addrs = free_addrs::<2>()?;
        let folder = self._folder.path();
        self.nodes.add(&args.programs, &cores, folder, addrs).await
    }

    /// The replica has everything when this returns.
    async fn take_replica(&self) -> Result<(), Failure> {
        self.order(&["replicas", "--set", "1"]).await
    }

    /// Tells the topology, and waits until it is done.
    async fn order(&self, words: &[&str]) -> Result<(), Failure> {
        let mut command = Command::new(&self.larder);
        command
            .args(words)
            .args(["--topology", &self.nodes.topology_addr.to_string()])
            .env("LARDER_SECRET", secret());
        let done = tokio::task::spawn_blocking(move || command.output()).await??;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(format!("larder {}: {said}", words.join(" ")).into());
        }
        Ok(())
    }
}

async fn wait_until(
    what: &str,
    mut is_so: impl AsyncFnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let give_up = Instant::now() + Duration::from_secs(WORK_SECONDS_MAX);
    while !is_so().await? {
        if Instant::now() > give_up {
            return Err(format!("after {WORK_SECONDS_MAX} s not yet: {what}").into());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// What clients felt in one phase.
struct Felt {
    load: LoadReport,
    /// The node's own time of each answer to PING, in microseconds, ascending.
    own_us: Vec<u64>,
    /// Highest resident memory, in bytes.
    peak: u64,
}

async fn beside_work(args: &PausesArgs, what: What) -> Result<Table, Failure> {
    let mut shard = Shard::start(args).await?;
    load::fill(shard.addr(), args.keys, args.value_bytes).await?;
    let mix = match what {
        What::Save => "set=1",
        What::Sync | What::Safe => "get=1,set=1",
    };
    let quiet = felt(args, &shard, mix, tokio::time::sleep(seconds(args))).await?;
    let began = Instant::now();
    let busy = match what {
        What::Save => {
            let mut asking = Connection::open(shard.addr()).await?;
            asking.ask(&["BGSAVE"]).await?;
            let saved = wait_until("the data are saved", async move || {
                let info = asking.ask(&["INFO", "persistence"]).await?;
                let info = String::from_utf8_lossy(&info).into_owned();
                if info.contains("rdb_last_bgsave_status:err") {
                    return Err("the data were not saved".into());
                }
                Ok(info.contains("rdb_bgsave_in_progress:0"))
            });
            felt(args, &shard, mix, saved).await?
        }
        What::Sync | What::Safe => {
            shard.add_replica(args).await?;
            felt(args, &shard, mix, shard.take_replica()).await?
        }
    };
    let took = began.elapsed();
    let (title, doing) = match what {
        What::Save => ("Clients beside a save", "while it saves"),
        What::Sync | What::Safe => ("Clients beside a full sync", "while a replica syncs"),
    };
    let mut table = Table::new(
        title,
        &[
            "phase",
            "requests/s",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "longest µs",
            "own p99 µs",
            "own p99.9 µs",
            "own longest µs",
            "own over 5 ms",
            "peak MB",
        ],
    );
    table.row(row("quiet", &quiet));
    table.row(row(doing, &busy));
    table.note(format!(
        "{} keys with values of {} bytes, 50 clients, {mix}; it took {:.1} s; p99 {:.2} times the quiet one, own p99 {:.2} times; memory {:+.1} %. The \
         thread that serves has core {}, the load core {}, all else shares {}.",
        args.keys,
        args.value_bytes,
        took.as_secs_f64(),
        busy.load.p99_us / quiet.load.p99_us,
        share(&busy.own_us, 0.99) as f64 / share(&quiet.own_us, 0.99) as f64,
        (busy.peak as f64 / quiet.peak as f64 - 1.0) * 100.0,
        args.node_cores,
        args.load_cores,
        args.cores,
    ));
    Ok(table)
}

fn seconds(args: &PausesArgs) -> Duration {
    Duration::from_secs_f64(args.seconds)
}

/// Drives the node until `work` is done. The load ends up to a second later.
async fn felt<T: Outcome>(
    args: &PausesArgs,
    shard: &Shard,
    mix: &str,
    work: impl Future<Output = T>,
) -> Result<Felt, Failure> {
    let stop = load::Stop::default();
    let shape = Shape {
        clients: 50,
        threads: 1,
        pipeline: 1,
        mix: mix.parse()?,
        value_bytes: args.value_bytes,
        keys: args.keys,
        requests: u64::MAX,
        seconds: WORK_SECONDS_MAX as f64,
        seed: 1,
    };
    let load = load::run_until(shard.addr(), shape, stop.clone());
    tokio::pin!(load);
    let node = &shard.nodes.nodes[0];
    node.forget_peak()?;
    let mut asking = Connection::open(shard.addr()).await?;
    let stood = || Ok::<_, Failure>(node.waited_serving()? + waited_here()?);
    let mut own_us = Vec::new();
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            ended = &mut work => { ended.into_result()?; break; }
            ended = &mut load => { ended?; return Err("the load ended before the work".into()); }
            () = tokio::time::sleep(PROBE) => {}
        }
        let (before, began) = (stood()?, Instant::now());
        asking.ask(&["PING"]).await?;
        let own = began.elapsed().saturating_sub(stood()? - before);
        own_us.push(own.as_micros() as u64);
    }
    stop.stop();
    let load = load.await?;
    own_us.sort_unstable();
    Ok(Felt {
        load,
        own_us,
        peak: node.peak()?,
    })
}

/// Work that may fail, or only end.
trait Outcome {
    fn into_result(self) -> Result<(), Failure>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), Failure> {
        Ok(())
    }
}

impl Outcome for Result<(), Failure> {
    fn into_result(self) -> Result<(), Failure> {
        self
    }
}

fn share(ascending: &[u64], share: f64) -> u64 {
    let last = ascending.len().saturating_sub(1);
    let at = (last as f64 * share) as usize;
    ascending.get(at).copied().unwrap_or(0)
}

fn row(phase: &str, felt: &Felt) -> Vec<String> {
    const LONG_US: u64 = 5000;
    let load = &felt.load;
    let over = felt.own_us.iter().filter(|it| **it > LONG_US).count();
    vec![
        phase.to_owned(),
        format!("{:.0}", load.requests_per_second),
        format!("{:.0}", load.p50_us),
        format!("{:.0}", load.p99_us),
        format!("{:.0}", load.p999_us),
        format!("{:.0}", load.max_us),
        share(&felt.own_us, 0.99).to_string(),
        share(&felt.own_us, 0.999).to_string(),
        share(&felt.own_us, 1.0).to_string(),
        over.to_string(),
        (felt.peak / MIB).to_string(),
    ]
}

/// Writes of 50 clients, `async` and `safe` in turns.
async fn safe(args: &PausesArgs) -> Result<Table, Failure> {
    const KEYS: u64 = 100_000;
    let mut shard = Shard::start(args).await?;
    shard.add_replica(args).await?;
    shard.take_replica().await?;
    let mut table = Table::new(
        "Writes that wait for a replica",
        &["pipeline", "async/s", "safe/s", "ratio", "spread"],
    );
    for pipeline in [1, 16] {
        let (mut rates, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
        for _ in 0..args.rounds {
            for (mode, rates) in ["async", "safe"].into_iter().zip(&mut rates) {
                shard.order(&["writes", "--set", mode]).await?;
                let shape = Shape {
                    clients: 50,
                    threads: 1,
                    pipeline,
                    mix: "set=1".parse()?,
                    value_bytes: 100,
                    keys: KEYS,
                    requests: u64::MAX,
                    seconds: args.seconds,
                    seed: 1,
                };
                let report = load::run(shard.addr(), shape).await?;
                if let Some(error) = report.first_error {
                    return Err(format!("{mode}: {error}").into());
                }
                rates.push(report.requests_per_second);
            }
            let [unsafely, safely] = &rates;
            ratios.push(safely[safely.len() - 1] / unsafely[unsafely.len() - 1]);
        }
        let lowest = ratios.iter().copied().fold(f64::NAN, f64::min);
        let highest = ratios.iter().copied().fold(f64::NAN, f64::max);
        table.row(vec![
            pipeline.to_string(),
            format!("{:.0}", median(rates[0].iter().copied())),
            format!("{:.0}", median(rates[1].iter().copied())),
            format!("**{:.2}**", median(ratios.iter().copied())),
            format!("{lowest:.2}–{highest:.2}"),
        ]);
    }
    table.note(format!(
        "SET of 100 bytes by 50 clients, {} rounds in turns; the primary has core {}, the load core {}, the replica shares {}.",
        args.rounds, args.node_cores, args.load_cores, args.cores
    ));
    Ok(table)
}
