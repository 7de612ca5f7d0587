//! What is broken, how it is mended, and what it may cost. One row a fault; every one runs for each write mode against a cluster of its own.
//!
//! How a run goes, and how it is judged, is in `row.rs`.

use std::time::{Duration, Instant};

use super::broken::{Broken, Keeps, STATE_WAIT_S_MAX};
use super::netns::{Cut, Host};
use super::record::tag_in;
use super::row::BUSY_MS;
use crate::client::Client;
use crate::kept::info;
use crate::reply::Reply;

/// The cluster of every run.
pub const SHARDS: usize = 2;
pub const REPLICAS: usize = 2;
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
    /// Clients may be told that nothing can be written to a disk.
    pub full: bool,
    /// The primary is to keep its place.
    pub calm: bool,
}

pub struct Scenario {
    pub fault: &'static str,
    pub hits: Hits,
    pub keeps: Keeps,
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

    /// At one moment: nobody is left who could take the place of another.
    fn kill_shard(&mut self) {
        let nodes = [&[self.primary], self.replicas.as_slice()].concat();
        for &node in &nodes {
            let process = self.cluster.nodes[node].as_mut();
            process.expect("it runs").strike();
        }
        self.kill(&nodes);
    }

    fn start_shard(&mut self) {
        self.start(&[self.primary]);
        self.start(&self.replicas.clone());
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
    full: false,
    calm: false,
};
const SILENCE: Cost = Cost {
    writes_ms: 3000,
    ..CRASH
};
pub const NOTHING: Cost = Cost {
    writes_ms: 500,
    doubt: false,
    down: false,
    async_loss: false,
    safe_loss: false,
    full: false,
    calm: true,
};
/// It waits for all of its nodes, and each may be late.
const ALL_DOWN: Cost = Cost {
    writes_ms: 30_000,
    doubt: true,
    down: true,
    async_loss: true,
    safe_loss: true,
    full: false,
    calm: false,
};

/// Whoever has most in its files goes on.
const KEPT: Cost = Cost {
    async_loss: false,
    safe_loss: false,
    ..ALL_DOWN
};
/// What is lost is sent again; by then others may wait.
const LOSSY: Cost = Cost {
    writes_ms: 2000,
    ..NOTHING
};
const LOST_OF_HUNDRED: u8 = 10;
const LOSSY_LASTS_MS: u64 = 3000;

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
        keeps: Keeps::Nothing,
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
        keeps: Keeps::Nothing,
        breaks: planned_twice,
        lasts_ms: 0,
        mends: |_| {},
        cost: Cost {
            writes_ms: 50 + SCHEDULING_MS,
            calm: false,
            ..NOTHING
        },
    },
    Scenario {
        fault: "primary crashes (kill -9)",
        hits: Hits::First,
        keeps: Keeps::Nothing,
        breaks: |stage| stage.kill(&[stage.primary]),
        lasts_ms: 1500,
        mends: |stage| stage.start(&[stage.primary]),
        cost: CRASH,
    },
    Scenario {
        fault: "primaries of all shards crash",
        hits: Hits::All,
        keeps: Keeps::Nothing,
        breaks: |stage| stage.kill(&stage.primaries.clone()),
        lasts_ms: 1500,
        mends: |stage| stage.start(&stage.primaries.clone()),
        cost: CRASH,
    },
    Scenario {
        fault: "a replica crashes",
        hits: Hits::First,
        keeps: Keeps::Nothing,
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
        keeps: Keeps::Nothing,
        breaks: |stage| stage.cluster.signal(stage.primary, "STOP"),
        lasts_ms: 5000,
        mends: |stage| stage.cluster.signal(stage.primary, "CONT"),
        cost: SILENCE,
    },
    Scenario {
        fault: "primary's link is slow",
        hits: Hits::First,
        keeps: Keeps::Nothing,
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
        keeps: Keeps::Nothing,
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
        keeps: Keeps::Nothing,
        breaks: |stage| stage.kill_shard(),
        lasts_ms: 2000,
        mends: |stage| stage.start_shard(),
        cost: ALL_DOWN,
    },
    Scenario {
        fault: "all nodes of a shard crash, appendfsync always",
        hits: Hits::First,
        keeps: Keeps::Appended("always"),
        breaks: |stage| stage.kill_shard(),
        lasts_ms: 2000,
        mends: |stage| stage.start_shard(),
        cost: KEPT,
    },
    Scenario {
        fault: "primary's disk fills (always), then all nodes crash",
        hits: Hits::First,
        keeps: Keeps::OnSmallDisks("always"),
        breaks: full_disk,
        lasts_ms: 500,
        mends: |stage| stage.start_shard(),
        cost: Cost { full: true, ..KEPT },
    },
    Scenario {
        fault: "primary's disk fills (everysec), then all nodes crash",
        hits: Hits::First,
        keeps: Keeps::OnSmallDisks("everysec"),
        breaks: full_disk,
        lasts_ms: 500,
        mends: |stage| stage.start_shard(),
        cost: Cost {
            full: true,
            ..ALL_DOWN
        },
    },
    Scenario {
        fault: "1 of 10 packets between primary and replicas is lost",
        hits: Hits::First,
        keeps: Keeps::Nothing,
        breaks: |stage| {
            for replica in stage.replica_hosts() {
                let network = &stage.cluster.hosts.network;
                network.lose(stage.primary_host(), replica, LOST_OF_HUNDRED);
            }
        },
        lasts_ms: LOSSY_LASTS_MS,
        mends: |stage| stage.heal(),
        cost: LOSSY,
    },
    Scenario {
        fault: "1 of 10 packets between topology and nodes is lost",
        hits: Hits::First,
        keeps: Keeps::Nothing,
        breaks: |stage| {
            let network = &stage.cluster.hosts.network;
            for node in &stage.cluster.hosts.nodes {
                network.lose(stage.topology_host(), *node, LOST_OF_HUNDRED);
            }
        },
        lasts_ms: LOSSY_LASTS_MS,
        mends: |stage| stage.heal(),
        cost: LOSSY,
    },
];

/// How long the primary's disk is full, in milliseconds.
const FULL_MS: u64 = 500;

/// The primary's disk takes nothing for a while; when it does again, all nodes of the shard die.
fn full_disk(stage: &mut Stage<'_, '_>) {
    let status = stage.cluster.status().expect("the topology answers");
    let key = format!("unwritten:{{{}}}", tag_in(&status.shards[0].slots));
    let mut client = Client::to(stage.cluster.node_addr(stage.primary));
    let mut ping = |wanted: &str, is: fn(&Reply) -> bool| {
        let give_up = Instant::now() + Duration::from_secs(STATE_WAIT_S_MAX);
        let mut answer = client.run("PING");
        while !is(&answer) {
            assert!(Instant::now() < give_up, "{wanted} is never true: {answer}");
            std::thread::sleep(Duration::from_millis(2));
            answer = client.run("PING");
        }
    };
    let disk = stage.cluster.disk(stage.primary);
    disk.fill();
    ping(
        "writes are refused",
        |answer| matches!(answer, Reply::Error(text) if text.starts_with("MISCONF")),
    );
    let began = Instant::now();
    let mut client = Client::to(stage.cluster.node_addr(stage.primary));
    assert_eq!(
        client.run(&format!("GET {key}")),
        Reply::Null,
        "reads go on"
    );
    let written = client.run(&format!("SET {key} value"));
    assert!(written.is_error(), "{written}");
    client.run("BGSAVE");
    while info(&mut client, "rdb_last_bgsave_status") != "err" {
        let late = began.elapsed() > Duration::from_secs(STATE_WAIT_S_MAX);
        assert!(!late, "a save to a full disk never fails");
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(FULL_MS).saturating_sub(began.elapsed()));
    assert_eq!(
        client.run(&format!("GET {key}")),
        Reply::Null,
        "reads go on"
    );
    disk.free();
    ping("writes are taken", |answer| {
        *answer == Reply::Simple("PONG".into())
    });
    stage.kill_shard();
}

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
