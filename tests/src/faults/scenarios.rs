//! What is broken, how it is mended, and what it may cost. One row a fault; every one runs for each write mode against a cluster of its own.
//!
//! A run: clients call → the fault → it lasts → it is mended → every replica is in step again → clients end → what they wrote down is judged.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use larder_wire::SlotSet;
use larder_wire::replication::WriteMode;

use super::broken::{Broken, Hosts, Shape};
use super::netns::{Cut, Host};
use super::record::{History, Recorder};
use crate::client::Client;
use crate::linear::{STATES_MAX, Verdict, judge_all};

/// The cluster of every run.
pub const SHARDS: usize = 2;
pub const REPLICAS: usize = 2;
/// Clients of each shard.
const CLIENTS: usize = 4;
/// Writes before the fault, and after it, of each shard.
const WRITES_BEFORE: u64 = 100;
const WRITES_AFTER: u64 = 100;
/// Longest wait for writes to flow again once all is mended, in seconds: generous, what they cost is judged apart.
const FLOW_S_MAX: u64 = 60;
/// What a machine that is busy with other work may add to what a fault costs, in milliseconds: then timers and processes run late.
pub const BUSY_MS: u64 = 2500;
/// What the clients' own pauses and a machine at work add to a hold, in milliseconds.
const SCHEDULING_MS: u64 = 30;

/// Which shards the fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hits {
    First,
    All,
    /// None: they are to serve on.
    Nobody,
}

/// What a fault may cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Time without a write, in milliseconds.
    pub writes_ms: u64,
    /// Clients may be told that a write is in doubt.
    pub doubt: bool,
    /// Clients may be told that nobody serves: no node of the shard is there.
    pub down: bool,
    /// In `async`, acknowledged writes may be gone.
    pub async_loss: bool,
    /// In `safe`, too: it is more than one fault.
    pub safe_loss: bool,
}

pub struct Scenario {
    pub fault: &'static str,
    pub hits: Hits,
    pub breaks: fn(&mut Stage<'_, '_>),
    /// How long the fault lasts, in milliseconds.
    pub lasts_ms: u64,
    pub mends: fn(&mut Stage<'_, '_>),
    pub cost: Cost,
}

/// Where a scenario plays.
pub struct Stage<'c, 'h> {
    pub cluster: &'c mut Broken<'h>,
    /// The primary of the first shard, and its replicas.
    pub primary: usize,
    pub replicas: Vec<usize>,
    /// Of every shard.
    pub primaries: Vec<usize>,
}

impl Stage<'_, '_> {
    fn primary_host(&self) -> Host {
        self.cluster.hosts.nodes[self.primary]
    }

    fn topology_host(&self) -> Host {
        self.cluster.hosts.topology
    }

    fn replica_hosts(&self) -> Vec<Host> {
        self.replicas
            .iter()
            .map(|&replica| self.cluster.hosts.nodes[replica])
            .collect()
    }

    fn part_from_topology(&mut self) {
        let network = &self.cluster.hosts.network;
        network.part(self.primary_host(), self.topology_host(), Cut::Silent);
    }

    fn part_from_replicas(&mut self) {
        for replica in self.replica_hosts() {
            let network = &self.cluster.hosts.network;
            network.part(self.primary_host(), replica, Cut::Silent);
        }
    }

    fn heal(&mut self) {
        self.cluster.hosts.network.heal();
    }

    fn kill(&mut self, nodes: &[usize]) {
        for &node in nodes {
            self.cluster.kill(node);
        }
    }

    fn start(&mut self, nodes: &[usize]) {
        for &node in nodes {
            self.cluster.start_node(node);
        }
    }
}

/// A crash is noticed at once; a host that says nothing only by its silence.
const CRASH: Cost = Cost {
    writes_ms: 1000,
    doubt: true,
    down: false,
    async_loss: true,
    safe_loss: false,
};
const SILENCE: Cost = Cost {
    writes_ms: 3000,
    ..CRASH
};
const NOTHING: Cost = Cost {
    writes_ms: 500,
    doubt: false,
    down: false,
    async_loss: false,
    safe_loss: false,
};

/// How long networks are broken, in milliseconds: where only a rule of the topology helps so long that who waits for the end is found, on a busy
/// machine, too.
const SILENT_LASTS_MS: u64 = 3500;
const PARTED_LASTS_MS: u64 = 3000 + BUSY_MS + 1500;

/// The network of the first shard's primary is broken.
const fn network_fault(
    fault: &'static str,
    lasts_ms: u64,
    breaks: fn(&mut Stage<'_, '_>),
) -> Scenario {
    Scenario {
        fault,
        hits: Hits::First,
        breaks,
        lasts_ms,
        mends: |stage| stage.heal(),
        cost: SILENCE,
    }
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        fault: "planned failover, twice",
        hits: Hits::First,
        breaks: planned_twice,
        lasts_ms: 0,
        mends: |_| {},
        cost: Cost {
            writes_ms: 50 + SCHEDULING_MS,
            ..NOTHING
        },
    },
    Scenario {
        fault: "primary crashes (kill -9)",
        hits: Hits::First,
        breaks: |stage| stage.kill(&[stage.primary]),
        lasts_ms: 1500,
        mends: |stage| stage.start(&[stage.primary]),
        cost: CRASH,
    },
    Scenario {
        fault: "primaries of all shards crash",
        hits: Hits::All,
        breaks: |stage| stage.kill(&stage.primaries.clone()),
        lasts_ms: 1500,
        mends: |stage| stage.start(&stage.primaries.clone()),
        cost: CRASH,
    },
    Scenario {
        fault: "a replica crashes",
        hits: Hits::First,
        breaks: |stage| stage.kill(&[stage.replicas[0]]),
        lasts_ms: 1500,
        mends: |stage| stage.start(&[stage.replicas[0]]),
        cost: NOTHING,
    },
    network_fault("primary's host vanishes", SILENT_LASTS_MS, |stage| {
        stage.cluster.hosts.network.vanish(stage.primary_host())
    }),
    network_fault("primary and topology parted", SILENT_LASTS_MS, |stage| {
        stage.part_from_topology()
    }),
    network_fault("primary and replicas parted", PARTED_LASTS_MS, |stage| {
        stage.part_from_replicas()
    }),
    network_fault("primary parted from both", SILENT_LASTS_MS, |stage| {
        stage.part_from_topology();
        stage.part_from_replicas();
    }),
    network_fault(
        "topology does not hear the primary",
        SILENT_LASTS_MS,
        |stage| {
            let network = &stage.cluster.hosts.network;
            network.cut(stage.primary_host(), stage.topology_host(), Cut::Silent);
        },
    ),
    network_fault(
        "primary does not hear the topology",
        SILENT_LASTS_MS,
        |stage| {
            let network = &stage.cluster.hosts.network;
            network.cut(stage.topology_host(), stage.primary_host(), Cut::Silent);
        },
    ),
    network_fault(
        "replicas do not hear the primary",
        PARTED_LASTS_MS,
        |stage| {
            for replica in stage.replica_hosts() {
                let network = &stage.cluster.hosts.network;
                network.cut(stage.primary_host(), replica, Cut::Silent);
            }
        },
    ),
    network_fault(
        "primary does not hear the replicas",
        PARTED_LASTS_MS,
        |stage| {
            for replica in stage.replica_hosts() {
                let network = &stage.cluster.hosts.network;
                network.cut(replica, stage.primary_host(), Cut::Silent);
            }
        },
    ),
    Scenario {
        fault: "primary frozen for 5 s",
        hits: Hits::First,
        breaks: |stage| stage.cluster.signal(stage.primary, "STOP"),
        lasts_ms: 5000,
        mends: |stage| stage.cluster.signal(stage.primary, "CONT"),
        cost: SILENCE,
    },
    Scenario {
        fault: "primary's link is slow",
        hits: Hits::First,
        breaks: |stage| {
            let how = stage.cluster.hosts.network.slow(stage.primary_host());
            println!("the primary's link: {how}");
        },
        lasts_ms: 2500,
        mends: |stage| stage.heal(),
        cost: NOTHING,
    },
    Scenario {
        fault: "topology killed, back after 3 s",
        hits: Hits::Nobody,
        breaks: |stage| {
            let topology = stage.cluster.topology.as_mut();
            topology.expect("it runs").kill();
        },
        lasts_ms: 3000,
        mends: |stage| stage.cluster.start_topology(),
        cost: NOTHING,
    },
    Scenario {
        fault: "all nodes of a shard crash, back after 2 s",
        hits: Hits::First,
        breaks: |stage| {
            stage.kill(&[stage.primary]);
            stage.kill(&stage.replicas.clone());
        },
        lasts_ms: 2000,
        mends: |stage| {
            stage.start(&[stage.primary]);
            stage.start(&stage.replicas.clone());
        },
        cost: Cost {
            // It waits for all of its nodes, and each may be late.
            writes_ms: 30_000,
            doubt: true,
            down: true,
            async_loss: true,
            safe_loss: true,
        },
    },
];

fn planned_twice(stage: &mut Stage<'_, '_>) {
    for time in 1..=2 {
        let status = stage.cluster.status().expect("the topology answers");
        let shard = &status.shards[0];
        let before = shard.node.addr.clone();
        let order = ["FAILOVER", &shard.id.to_string(), "JSON"];
        stage.cluster.order(&order).expect("an order that is taken");
        stage
            .cluster
            .wait_until(&format!("planned failover {time} is through"), |status| {
                let shard = &status.shards[0];
                shard.node.addr != before && shard.failover.is_none()
            });
        stage.cluster.wait_whole("a planned failover is through");
    }
}

/// What one run showed.
#[derive(Clone, Debug)]
pub struct Row {
    pub fault: &'static str,
    pub writes: WriteMode,
    pub without_writes_ms: u64,
    pub without_reads_ms: u64,
    pub acknowledged: usize,
    pub lost: usize,
    pub errors: BTreeMap<String, usize>,
    /// What must not be.
    pub complaints: Vec<String>,
}

/// Runs one scenario on hosts that nobody else uses meanwhile. It may cost `slack_ms` more time than it says.
pub fn run(scenario: &Scenario, hosts: &Hosts, writes: WriteMode, seed: u64, slack_ms: u64) -> Row {
    let shape = Shape {
        shards: SHARDS,
        replicas: REPLICAS,
        writes,
    };
    let mut cluster = Broken::start(hosts, shape);
    let status = cluster.status().expect("the topology answers");
    let slots: Vec<SlotSet> = status.shards.iter().map(|it| it.slots.clone()).collect();
    let (primary, replicas) = cluster.of_shard(0);
    let primaries = (0..SHARDS).map(|shard| cluster.of_shard(shard).0).collect();
    let recorder = Recorder::start(cluster.proxy_addr(), seed, &slots, CLIENTS);
    let (hit, spared): (Vec<usize>, Vec<usize>) =
        (0..SHARDS).partition(|&shard| match scenario.hits {
            Hits::First => shard == 0,
            Hits::All => true,
            Hits::Nobody => false,
        });
    let all: Vec<usize> = (0..SHARDS).collect();
    let mut complaints = Vec::new();
    let flow = Duration::from_secs(FLOW_S_MAX);
    if !recorder.wait_written(&all, WRITES_BEFORE, flow) {
        complaints.push("no writes before the fault".to_owned());
    }
    let from_us = recorder.now_us();
    let mut stage = Stage {
        cluster: &mut cluster,
        primary,
        replicas,
        primaries,
    };
    (scenario.breaks)(&mut stage);
    std::thread::sleep(Duration::from_millis(scenario.lasts_ms));
    (scenario.mends)(&mut stage);
    cluster.wait_whole(scenario.fault);
    if !recorder.wait_written(&all, WRITES_AFTER, flow) {
        complaints.push(format!("no writes {FLOW_S_MAX} s after all was mended"));
    }
    let history = recorder.finish();
    let shards = if hit.is_empty() { &spared } else { &hit };
    let lost = history.count_lost(&mut Client::to(cluster.proxy_addr()), &all);
    let mut row = Row {
        fault: scenario.fault,
        writes,
        without_writes_ms: history.longest_without(true, shards, from_us) / 1000,
        without_reads_ms: history.longest_without(false, shards, from_us) / 1000,
        acknowledged: lost.acknowledged,
        lost: lost.lost,
        errors: history.errors(),
        complaints,
    };
    let kept: u64 = cluster.status().map_or(0, |status| {
        let nodes = status.shards.iter().flat_map(|shard| {
            let replicas = shard.replicas.iter().map(|replica| &replica.node);
            replicas.chain([&shard.node])
        });
        nodes.map(|node| node.lost_writes).sum()
    });
    println!(
        "{}, {}: {} calls answered, {} acknowledged writes lost, {kept} commands kept in files",
        scenario.fault,
        writes.word(),
        history.answered(),
        row.lost
    );
    let cost = &scenario.cost;
    row.judge_cost(cost, &history, &spared, from_us, slack_ms);
    if let Some(first) = lost
        .first
        .filter(|_| row.lost > 0 && !may_lose(cost, writes))
    {
        row.complain(format!(
            "{} acknowledged writes are lost: {first}",
            row.lost
        ));
    }
    if writes == WriteMode::Safe && !cost.safe_loss {
        row.judge_order(&history);
    }
    if !row.complaints.is_empty() {
        println!("{}", cluster.said());
    }
    row
}

fn may_lose(cost: &Cost, writes: WriteMode) -> bool {
    match writes {
        WriteMode::Async => cost.async_loss,
        WriteMode::Safe => cost.safe_loss,
    }
}

impl Row {
    fn complain(&mut self, what: String) {
        self.complaints.push(what);
    }

    fn judge_cost(
        &mut self,
        cost: &Cost,
        history: &History,
        spared: &[usize],
        from_us: u64,
        slack_ms: u64,
    ) {
        let allowed_ms = cost.writes_ms + slack_ms;
        if self.without_writes_ms > allowed_ms {
            self.complain(format!(
                "{} ms without a write, at most {allowed_ms} are allowed",
                self.without_writes_ms
            ));
        }
        let others_ms = history.longest_without(true, spared, from_us) / 1000;
        if others_ms > NOTHING.writes_ms + slack_ms {
            self.complain(format!("other shards stood for {others_ms} ms"));
        }
        for (error, count) in self.errors.clone() {
            let allowed = match error.as_str() {
                "in doubt" => cost.doubt,
                "CLUSTERDOWN" => cost.down,
                _ => false,
            };
            if !allowed {
                self.complain(format!("clients saw {error:?} {count} times"));
            }
        }
    }

    fn judge_order(&mut self, history: &History) {
        for (key, verdict) in judge_all(&history.shared_keys()) {
            match verdict {
                Verdict::Linearizable => {}
                Verdict::Broken(finding) => {
                    self.complain(format!("{key} is not linearizable: {finding}"));
                }
                Verdict::Undecided => {
                    self.complain(format!("{key} is not judged within {STATES_MAX} states"));
                }
            }
        }
    }
}

/// The first lines of the table.
const HEAD: &str = "\
| fault | writes | s without writes | s without reads | acknowledged writes lost | errors seen by 8 clients |
| --- | --- | --- | --- | --- | --- |
";

/// The rows as a table of a page.
pub fn table(rows: &[Row]) -> String {
    let mut text = HEAD.to_owned();
    for row in rows {
        let errors: Vec<String> = row
            .errors
            .iter()
            .map(|(error, count)| format!("{count} {error}"))
            .collect();
        let errors = match errors.is_empty() {
            true => "none".to_owned(),
            false => errors.join(", "),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {:.2} | {} of {} | {errors} |",
            row.fault,
            row.writes.word(),
            row.without_writes_ms as f64 / 1000.0,
            row.without_reads_ms as f64 / 1000.0,
            row.lost,
            row.acknowledged,
        );
    }
    text
}

/// Fault and mode of each row of such a table, in their order.
pub fn rows_of(page: &str) -> Vec<(String, String)> {
    let rows = page
        .lines()
        .skip_while(|line| !HEAD.starts_with(line) || line.is_empty())
        .skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            Some((cells.next()?.to_owned(), cells.next()?.to_owned()))
        })
        .collect()
}

/// What the table has to show.
pub fn wanted_rows() -> Vec<(String, String)> {
    let modes = [WriteMode::Async, WriteMode::Safe];
    SCENARIOS
        .iter()
        .flat_map(|scenario| modes.map(|mode| (scenario.fault.to_owned(), mode.word().to_owned())))
        .collect()
}
