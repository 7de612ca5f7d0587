//! Slots moved between two idle nodes, there and back in turns: larder beside Valkey's
//! `CLUSTER MIGRATESLOTS`. What counts is the time from the order to the word that it is done.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use larder_wire::resp::reply;
use larder_wire::slot_of;

use crate::Failure;
use crate::connection::Connection;
use crate::load::{Peer, Tally};
use crate::process::{Cores, Server, free_addrs, secret};
use crate::report::{Table, median};
use crate::systems::{self, Programs, words};
use crate::workload::Workload;

/// The slots that are moved: the lower half.
const SLOTS_MOVED: &str = "0-8191";
const LAST_SLOT_MOVED: u16 = 8191;
/// Longest a move may take.
const MOVE_SECONDS_MAX: u64 = 120;
/// Between two questions whether a move is done.
const POLL_MS: u64 = 2;

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    programs: Programs,
    /// The folder that bench/peers/fetch printed [default: that script is run]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Only Valkey
    #[arg(long)]
    peers_only: bool,
    /// Keys in all slots; half of them are moved
    #[arg(long, default_value_t = 386_000)]
    keys: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// Moves of each side
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// The cores that everything shares
    #[arg(long, default_value = "0,1")]
    cores: String,
    /// Append the table to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

pub(crate) async fn command(args: MigrateArgs) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let cores = Cores(args.cores.clone());
    let peers = match &args.peers {
        Some(peers) => peers.clone(),
        None => fetch_peers()?,
    };
    let mut valkey = Pair::valkey(&peers, &cores, folder.path()).await?;
    let mut larder = match args.peers_only {
        true => None,
        false => Some(Pair::larder(&args.programs, &cores, folder.path()).await?),
    };
    for pair in [Some(&mut valkey), larder.as_mut()].into_iter().flatten() {
        pair.fill(args.keys, args.value_bytes).await?;
    }
    let (mut valkey_rates, mut larder_rates) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        valkey_rates.push(valkey.move_across().await?);
        if let Some(larder) = &mut larder {
            larder_rates.push(larder.move_across().await?);
        }
        eprintln!(
            "round {} of {}: keys a second: Valkey {:.0}, larder {:.0}",
            round + 1,
            args.rounds,
            valkey_rates.last().unwrap_or(&f64::NAN),
            larder_rates.last().unwrap_or(&f64::NAN)
        );
    }
    let mut table = Table::new(
        &format!(
            "Moving slots {SLOTS_MOVED} between two idle nodes, {}-byte values",
            args.value_bytes
        ),
        &[
            "system",
            "keys moved",
            "keys/s (median)",
            "keys/s (lowest–highest)",
            "ratio to Valkey",
        ],
    );
    let baseline = median(valkey_rates.iter().copied());
    table.row(row(
        "Valkey CLUSTER MIGRATESLOTS",
        valkey.moved,
        &valkey_rates,
        baseline,
    ));
    if let Some(larder) = &larder {
        table.row(row("larder move", larder.moved, &larder_rates, baseline));
    }
    table.note(format!(
        "{} moves of each in turns, there and back; all processes share cores {}.",
        args.rounds, args.cores
    ));
    table.publish(args.markdown.as_deref())
}

fn row(name: &str, moved: u64, rates: &[f64], baseline: f64) -> Vec<String> {
    let lowest = rates.iter().copied().fold(f64::NAN, f64::min);
    let highest = rates.iter().copied().fold(f64::NAN, f64::max);
    let middle = median(rates.iter().copied());
    vec![
        name.to_owned(),
        moved.to_string(),
        format!("{middle:.0}"),
        format!("{lowest:.0}–{highest:.0}"),
        format!("**{:.2}**", middle / baseline),
    ]
}

/// Two nodes, one of which owns the slots that are moved.
struct Pair {
    addrs: [SocketAddr; 2],
    /// Which of them owns the slots.
    owner: usize,
    /// Keys in these slots.
    moved: u64,
    kind: Kind,
    _servers: Vec<Server>,
}

enum Kind {
    Valkey { ids: [String; 2] },
    Larder { topology: SocketAddr },
}

impl Pair {
    async fn valkey(peers: &Path, cores: &Cores, folder: &Path) -> Result<Pair, Failure> {
        let addrs = free_addrs::<2>()?;
        let mut servers = Vec::new();
        let mut ids = Vec::new();
        for (index, addr) in addrs.into_iter().enumerate() {
            let command = words(&[
                &peers.join("bin/valkey-server").display().to_string(),
                "--port",
                &addr.port().to_string(),
                "--bind",
                "127.0.0.1",
                "--cluster-enabled",
                "yes",
                // A node that gave its last slot away stays what it is.
                "--cluster-allow-replica-migration",
                "no",
                "--cluster-config-file",
                &format!("valkey-{index}.conf"),
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
                &folder.display().to_string(),
            ]);
            let mut server = Server::start(&format!("valkey-{index}"), &command, cores, folder)?;
            server.ready(addr, &["PING"]).await?;
            servers.push(server);
            let mut node = Connection::open(addr).await?;
            let range = [["0", "8191"], ["8192", "16383"]][index];
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", range[0], range[1]])
                .await?;
            let epoch = (index + 1).to_string();
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await?;
            let id = node.ask(&["CLUSTER", "MYID"]).await?;
            ids.push(bulk_text(&id)?.to_owned());
        }
        let mut first = Connection::open(addrs[0]).await?;
        let port = addrs[1].port().to_string();
        first.ask(&["CLUSTER", "MEET", "127.0.0.1", &port]).await?;
        for addr in addrs {
            let mut node = Connection::open(addr).await?;
            let formed = async || -> Result<bool, Failure> {
                let info = node.ask(&["CLUSTER", "INFO"]).await?;
                Ok(contains(&info, "cluster_state:ok") && contains(&info, "cluster_known_nodes:2"))
            };
            until("the Valkey cluster has formed", formed).await?;
        }
        Ok(Pair {
            addrs,
            owner: 0,
            moved: 0,
            kind: Kind::Valkey {
                ids: <[String; 2]>::try_from(ids).map_err(|_| "two nodes have two ids")?,
            },
            _servers: servers,
        })
    }

    async fn larder(programs: &Programs, cores: &Cores, folder: &Path) -> Result<Pair, Failure> {
        let cluster =
            systems::larder_nodes::<2>(programs, cores, folder, &free_addrs::<6>()?).await?;
        let addrs = <[SocketAddr; 2]>::try_from(cluster.node_addrs).map_err(|_| "two nodes")?;
        // A key of slot 0 tells who owns the lower half.
        let key = (0..)
            .map(|n: u32| n.to_string())
            .find(|key| slot_of(key.as_bytes()).number() == 0);
        let key = key.unwrap_or_default();
        let mut owner = None;
        let ask_both = async || {
            for (index, addr) in addrs.into_iter().enumerate() {
                let mut node = Connection::open(addr).await?;
                if node.ask(&["GET", &key]).await.is_ok() {
                    owner = Some(index);
                }
            }
            Ok(owner.is_some())
        };
        until("the larder cluster has formed", ask_both).await?;
        let mut servers = cluster.nodes;
        servers.push(cluster.topology);
        Ok(Pair {
            addrs,
            owner: owner.ok_or("no node owns slot 0")?,
            moved: 0,
            kind: Kind::Larder {
                topology: cluster.topology_addr,
            },
            _servers: servers,
        })
    }

    /// Sets every key on the node that owns it.
    async fn fill(&mut self, keys: u64, value_bytes: usize) -> Result<(), Failure> {
        const BATCH: usize = 200;
        let workload = Workload::new("set".parse()?, keys, value_bytes, 1);
        let mut peers = [
            Peer::open(self.addrs[0]).await?,
            Peer::open(self.addrs[1]).await?,
        ];
        let mut counts = [0; 2];
        let mut tally = Tally::new();
        for index in 0..keys {
            let lower = slot_of(&Workload::key(index)).number() <= LAST_SLOT_MOVED;
            let node = if lower { self.owner } else { 1 - self.owner };
            self.moved += u64::from(lower);
            workload.write_fill(&mut peers[node].out, index);
            counts[node] += 1;
            if counts[node] == BATCH {
                peers[node].exchange(BATCH as u64, &mut tally).await?;
                peers[node].out.clear();
                counts[node] = 0;
            }
        }
        for (peer, count) in peers.iter_mut().zip(counts) {
            peer.exchange(count as u64, &mut tally).await?;
        }
        match tally.first_error {
            Some(error) => Err(format!("the keys cannot be set: {error}").into()),
            None => Ok(()),
        }
    }

    /// Moves the slots to the other node: keys a second. All keys must have come over.
    async fn move_across(&mut self) -> Result<f64, Failure> {
        let (source, target) = (self.owner, 1 - self.owner);
        let mut old = Connection::open(self.addrs[source]).await?;
        let mut new = Connection::open(self.addrs[target]).await?;
        let (old_before, new_before) = (dbsize(&mut old).await?, dbsize(&mut new).await?);
        let spent = match &self.kind {
            Kind::Valkey { ids } => valkey_move(&mut old, &ids[target]).await?,
            Kind::Larder { topology } => larder_move(*topology, self.addrs[target]).await?,
        };
        let came = dbsize(&mut new).await? - new_before;
        if came != self.moved as i64 {
            return Err(format!("{came} keys came over, of {}", self.moved).into());
        }
        self.owner = target;
        // What the old owner drops in the background is not for the next round to pay.
        let left = old_before - self.moved as i64;
        let dropped = async || Ok(dbsize(&mut old).await? == left);
        until("the old owner has dropped the slots", dropped).await?;
        Ok(self.moved as f64 / spent.as_secs_f64())
    }
}

async fn valkey_move(source: &mut Connection, target: &str) -> Result<Duration, Failure> {
    const JOBS: [&str; 2] = ["CLUSTER", "GETSLOTMIGRATIONS"];
    let ended = |jobs: &[u8]| count(jobs, "success");
    let before = ended(&source.ask(&JOBS).await?);
    let (first, last) = SLOTS_MOVED.split_once('-').ok_or("a range")?;
    let started = Instant::now();
    source
        .ask(&[
            "CLUSTER",
            "MIGRATESLOTS",
            "SLOTSRANGE",
            first,
            last,
            "NODE",
            target,
        ])
        .await?;
    let done = async || {
        let jobs = source.ask(&JOBS).await?;
        if count(&jobs, "failed") + count(&jobs, "cancelled") > 0 {
            return Err(String::from_utf8_lossy(&jobs).into_owned().into());
        }
        Ok(ended(&jobs) > before)
    };
    until("Valkey has moved the slots", done).await?;
    Ok(started.elapsed())
}

async fn larder_move(topology: SocketAddr, target: SocketAddr) -> Result<Duration, Failure> {
    let mut topology = Connection::open(topology).await?;
    topology.ask(&["AUTH", "larder", &secret()]).await?;
    let target = target.to_string();
    let started = Instant::now();
    let order = [
        "LARDER",
        "MOVE",
        "SLOTS",
        SLOTS_MOVED,
        "TO",
        &target,
        "JSON",
    ];
    let order: serde_json::Value = json(&topology.ask(&order).await?)?;
    let operation = order["operation"]
        .as_u64()
        .ok_or("the topology has nothing to move")?;
    let done = async || {
        let moves: serde_json::Value = json(&topology.ask(&["LARDER", "MOVES", "JSON"]).await?)?;
        let finished = moves["finished"].as_array().into_iter().flatten();
        match finished.into_iter().find(|ended| ended["id"] == operation) {
            Some(ended) if ended["outcome"] == "done" => Ok(true),
            Some(ended) => Err(format!("the move ended otherwise: {ended}").into()),
            None => Ok(false),
        }
    };
    until("larder has moved the slots", done).await?;
    Ok(started.elapsed())
}

/// Asks until the answer is yes.
async fn until(
    what: &str,
    mut question: impl AsyncFnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(MOVE_SECONDS_MAX);
    while !question().await? {
        if Instant::now() > deadline {
            return Err(format!("in {MOVE_SECONDS_MAX} s it did not come to this: {what}").into());
        }
        // Neither system tells a client by itself.
        tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
    }
    Ok(())
}

async fn dbsize(node: &mut Connection) -> Result<i64, Failure> {
    let mut reply = Vec::new();
    // Valkey answers nothing else while a batch of keys comes in.
    let loaded = async || {
        reply = node.ask_any(&["DBSIZE"]).await?;
        Ok(reply::error_code(&reply) != Some(b"LOADING"))
    };
    until("the keys are loaded", loaded).await?;
    reply::integer(&reply).ok_or_else(|| "DBSIZE gives no number".into())
}

/// The text of a bulk string.
fn bulk_text(reply: &[u8]) -> Result<&str, Failure> {
    let text = std::str::from_utf8(reply)?;
    let mut lines = text.split("\r\n");
    lines.next();
    lines.next().ok_or_else(|| "no bulk string".into())
}

fn json(reply: &[u8]) -> Result<serde_json::Value, Failure> {
    Ok(serde_json::from_str(bulk_text(reply)?)?)
}

fn count(reply: &[u8], word: &str) -> usize {
    String::from_utf8_lossy(reply).matches(word).count()
}

fn contains(reply: &[u8], word: &str) -> bool {
    count(reply, word) > 0
}

/// Runs the script that brings Valkey, which prints where it is.
fn fetch_peers() -> Result<PathBuf, Failure> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/fetch");
    let done = Command::new(&script)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !done.status.success() {
        return Err(format!("{} failed", script.display()).into());
    }
    Ok(PathBuf::from(String::from_utf8(done.stdout)?.trim()))
}
