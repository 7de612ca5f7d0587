//! When a primary answers, over real sockets: two nodes of one shard, and the test plays the topology.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use larder_runtime::{ControlClient, ControlError, Registry, Reply, Topologies};
use larder_shard::{Handle, ShardConfig, start};
use larder_wire::control::{MapPush, Peer};
use larder_wire::replication::{Fence, Fenced, WriteMode, Yield, Yielded};
use larder_wire::{
    ClusterMap, Epoch, NodeEntry, NodeId, Role, Secret, ShardEntry, ShardId, SlotSet,
};

/// A test that waits longer than this has hung.
const PATIENCE: Duration = Duration::from_secs(60);

fn secret() -> Secret {
    Secret::new(b"open sesame").unwrap()
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

struct Shard {
    handle: Handle,
    _registry: Registry,
    epoch: u64,
    writes: WriteMode,
}

impl Shard {
    /// The first node is the primary, the second is in step with it, and writes are taken.
    async fn start(writes: WriteMode) -> Shard {
        let registry = Registry::new();
        let config = ShardConfig {
            listen: "127.0.0.1:0".to_string(),
            nodes: 2,
            // Nobody listens there: the test pushes the maps itself, and the lease is by the replica alone.
            topology: Some(Topologies::one("127.0.0.1:1")),
            secret: Some(secret()),
            ..ShardConfig::default()
        };
        let handle = start(config, &registry).unwrap();
        let mut shard = Shard {
            handle,
            _registry: registry,
            epoch: 0,
            writes,
        };
        shard.push(0, None).await.unwrap();
        let mut client = shard.client(0).await;
        set_when_taken(&mut client).await;
        shard
    }

    fn id(&self, index: usize) -> NodeId {
        self.handle.nodes().nth(index).unwrap().id
    }

    async fn connect(&self, index: usize, peer: Peer) -> ControlClient {
        let addr = self.handle.nodes().nth(index).unwrap().addr.clone();
        ControlClient::connect(&addr, &secret(), peer)
            .await
            .unwrap()
    }

    async fn client(&self, index: usize) -> ControlClient {
        self.connect(index, Peer::Proxy).await
    }

    /// The next map, to the first node and then to the second.
    async fn push(&mut self, primary: usize, yields: Option<u64>) -> Result<(), ControlError> {
        self.epoch += 1;
        let nodes = self.handle.nodes().enumerate();
        let nodes = nodes.map(|(index, node)| NodeEntry {
            id: node.id,
            addr: node.addr.clone(),
            role: match index == primary {
                true => Role::Primary,
                false => Role::Replica,
            },
            zone: None,
            in_step: index != primary,
        });
        let entry = ShardEntry {
            id: ShardId(1),
            slots: SlotSet::full(),
            nodes: nodes.collect(),
        };
        let map = ClusterMap::new("larder", Epoch(self.epoch), vec![entry]).unwrap();
        let map = map.with_writes(self.writes);
        for (index, yields) in [(0, yields), (1, None)] {
            let push = MapPush {
                map: map.clone(),
                handovers: vec![],
                yields,
            };
            let mut node = self.connect(index, Peer::Topology).await;
            node.request(["LARDER", "MAP", &json(&push)]).await?;
        }
        Ok(())
    }
}

/// Asks again while the primary refuses for want of a lease or a replica.
async fn set_when_taken(client: &mut ControlClient) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match client.request(["SET", "first", "1"]).await {
            Ok(_) => return,
            Err(ControlError::Refused { code, text }) if code == "CLUSTERDOWN" => {
                assert!(Instant::now() < give_up, "{text}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.unwrap() });
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

#[test]
fn what_was_answered_in_safe_is_at_the_replica_already() {
    run(async {
        let shard = Shard::start(WriteMode::Safe).await;
        let (mut primary, mut replica) = (shard.client(0).await, shard.client(1).await);
        replica.request(["READONLY"]).await.unwrap();
        for n in 0..500 {
            let value = n.to_string();
            primary.request(["SET", "k", &value]).await.unwrap();
            let there = replica.request(["GET", "k"]).await.unwrap();
            assert_eq!(there, bulk(&value), "answered before the replica had it");
        }
        shard.handle.stop();
    });
}

#[test]
fn replies_that_wait_come_in_the_order_of_their_requests() {
    run(async {
        let shard = Shard::start(WriteMode::Safe).await;
        let mut client = shard.client(0).await;
        let mut expected = Vec::new();
        for n in 0..3000 {
            let value = format!("{n}");
            match n % 4 {
                0 => {
                    client.send(["SET", "k", &value]).await.unwrap();
                    expected.push(Reply::Simple(b"OK".to_vec()));
                }
                1 => {
                    client.send(["ECHO", &value]).await.unwrap();
                    expected.push(bulk(&value));
                }
                2 => {
                    client.send(["GET", "k"]).await.unwrap();
                    expected.push(bulk(&format!("{}", n - 2)));
                }
                _ => {
                    client.send(["RPUSH", "l", &value]).await.unwrap();
                    expected.push(Reply::Int(n / 4 + 1));
                }
            }
        }
        for (at, expected) in expected.into_iter().enumerate() {
            assert_eq!(client.read_reply().await.unwrap(), expected, "reply {at}");
        }
        shard.handle.stop();
    });
}

#[test]
fn a_write_that_a_fenced_replica_does_not_take_is_never_answered() {
    run(async {
        let shard = Shard::start(WriteMode::Safe).await;
        let mut client = shard.client(0).await;
        let mut topology = shard.connect(1, Peer::Topology).await;
        let fence = Fence {
            number: 1,
            shard: ShardId(1),
            primary: shard.id(0),
            epoch: Epoch(shard.epoch),
        };
        let fenced: Fenced = topology
            .request_json(["LARDER", "FENCE", &json(&fence)])
            .await
            .unwrap();
        assert!(fenced.place.is_some() && fenced.answered_ms_ago.is_some());
        client.send(["SET", "k", "v"]).await.unwrap();
        let lost = client.read_reply().await;
        // Either it was carried out and nobody is told, or it was not, and that is said.
        match &lost {
            Ok(reply) => panic!("{reply:?}"),
            Err(error @ ControlError::Refused { .. }) => {
                assert!(error.is_refusal("CLUSTERDOWN"), "{error}");
            }
            Err(_) => {}
        }
        // Nobody answers its pings: the lease runs out for readers, too. Who is in the middle of a read then is cut off.
        let mut other = shard.client(0).await;
        let fenced_at = Instant::now();
        loop {
            match other.request(["GET", "k"]).await {
                Ok(_) => assert!(fenced_at.elapsed() < PATIENCE, "it serves without a lease"),
                Err(error @ ControlError::Refused { .. }) => {
                    assert!(error.is_refusal("CLUSTERDOWN"), "{error}");
                    break;
                }
                Err(_) => other = shard.client(0).await,
            }
        }
        topology.request(["LARDER", "UNFENCE", "1"]).await.unwrap();
        set_when_taken(&mut other).await;
        shard.handle.stop();
    });
}

#[test]
fn a_planned_change_loses_nothing_and_holds_writes_shortly() {
    run(async {
        let mut shard = Shard::start(WriteMode::Async).await;
        let stop = Arc::new(AtomicBool::new(false));
        let clients = [shard.client(0).await, shard.client(1).await];
        let counting = tokio::spawn(count(clients, Arc::clone(&stop)));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut primary = shard.connect(0, Peer::Topology).await;
        let ask = Yield {
            number: 1,
            to: shard.id(1),
        };
        let yielded: Yielded = primary
            .request_json(["LARDER", "YIELD", &json(&ask)])
            .await
            .unwrap();
        assert_eq!(yielded.number, 1);
        shard.push(1, Some(1)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.store(true, Ordering::Relaxed);
        let (counted, longest) = counting.await.unwrap();
        eprintln!("the longest stall was {longest:?}");
        let mut successor = shard.client(1).await;
        let there = successor.request(["GET", "n"]).await.unwrap();
        assert_eq!(there, bulk(&counted.to_string()));
        // By far less than the bound of a hold, on a machine that does other things.
        assert!(longest < Duration::from_millis(700), "{longest:?}");
        shard.handle.stop();
    });
}

/// Adds to a counter, following MOVED, and demands that none is lost or doubled.
async fn count(mut clients: [ControlClient; 2], stop: Arc<AtomicBool>) -> (i64, Duration) {
    let (mut counted, mut longest, mut at) = (0, Duration::ZERO, 0);
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        loop {
            match clients[at].request(["INCR", "n"]).await {
                Ok(Reply::Int(value)) => {
                    counted += 1;
                    assert_eq!(value, counted);
                    break;
                }
                Err(ControlError::Refused { code, .. }) if code == "MOVED" => at = 1 - at,
                Err(ControlError::Refused { code, .. }) if code == "CLUSTERDOWN" => {
                    tokio::task::yield_now().await;
                }
                other => panic!("{other:?}"),
            }
        }
        longest = longest.max(started.elapsed());
    }
    (counted, longest)
}
