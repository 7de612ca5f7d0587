//! Slots move between two nodes over real sockets; the test plays the topology.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use larder_runtime::{ControlClient, ControlError, Registry, Reply, Topologies};
use larder_shard::{Handle, ShardConfig, start};
use larder_wire::control::{Import, ImportPhase, ImportState, MapPush, NodeState, Peer};
use larder_wire::replication::WriteMode;
use larder_wire::{
    Attempt, ClusterMap, Epoch, NodeEntry, Role, Secret, ShardEntry, ShardId, SlotSet,
};

/// A test that waits longer than this has hung.
const PATIENCE: Duration = Duration::from_secs(60);

fn secret() -> Secret {
    Secret::new(b"open sesame").unwrap()
}

/// An address that nobody listens at: a port below those that programs are given.
fn nobody() -> Topologies {
    Topologies::one("127.0.0.1:1")
}

struct Cluster {
    handle: Handle,
    _registry: Registry,
}

impl Cluster {
    fn start() -> Cluster {
        Cluster::of(2)
    }

    fn of(nodes: u16) -> Cluster {
        let registry = Registry::new();
        let config = ShardConfig {
            listen: "127.0.0.1:0".to_string(),
            nodes,
            // Nobody listens there: the test pushes the maps itself.
            topology: Some(nobody()),
            secret: Some(secret()),
            ..ShardConfig::default()
        };
        let handle = start(config, &registry).unwrap();
        Cluster {
            handle,
            _registry: registry,
        }
    }

    fn addr(&self, index: usize) -> String {
        self.handle.nodes().nth(index).unwrap().addr.clone()
    }

    async fn connect(&self, index: usize, peer: Peer) -> ControlClient {
        ControlClient::connect(&self.addr(index), &secret(), peer)
            .await
            .unwrap()
    }

    /// The first node owns all but `moved`, which is the second's.
    fn map(&self, epoch: u64, moved: &SlotSet) -> ClusterMap {
        let slots = [SlotSet::full().difference(moved), moved.clone()];
        let shards = self
            .handle
            .nodes()
            .zip(slots)
            .zip(1..)
            .map(|((node, slots), id)| ShardEntry {
                id: ShardId(id),
                slots,
                nodes: vec![NodeEntry {
                    id: node.id,
                    addr: node.addr.clone(),
                    role: Role::Primary,
                    zone: None,
                    in_step: false,
                }],
            });
        ClusterMap::new("larder", Epoch(epoch), shards.collect()).unwrap()
    }

    /// Two shards of a primary and a replica each, which write `safe`; the first owns all but `second`.
    fn safe_map(&self, epoch: u64, second: &SlotSet) -> ClusterMap {
        let nodes: Vec<_> = self.handle.nodes().collect();
        let slots = [SlotSet::full().difference(second), second.clone()];
        let shards = nodes.chunks(2).zip(slots).zip(1..);
        let shards = shards.map(|((pair, slots), id)| ShardEntry {
            id: ShardId(id),
            slots,
            nodes: [Role::Primary, Role::Replica]
                .into_iter()
                .zip(pair)
                .map(|(role, node)| NodeEntry {
                    id: node.id,
                    addr: node.addr.clone(),
                    role,
                    zone: None,
                    in_step: role == Role::Replica,
                })
                .collect(),
        });
        let map = ClusterMap::new("larder", Epoch(epoch), shards.collect()).unwrap();
        map.with_writes(WriteMode::Safe)
    }

    async fn push(&self, index: usize, map: ClusterMap, handovers: Vec<Attempt>) {
        let push = MapPush {
            map,
            handovers,
            yields: None,
        };
        let mut node = self.connect(index, Peer::Topology).await;
        request(&mut node, &["LARDER", "MAP", &json(&push)]).await;
    }

    async fn state(&self, index: usize) -> NodeState {
        let mut node = self.connect(index, Peer::Topology).await;
        node.request_json(["LARDER", "STATE"]).await.unwrap()
    }

    /// All steps of a move as the topology takes them; afterwards the second node owns `owned`.
    async fn move_slots(&self, attempt: u64, moved: &SlotSet, owned: &SlotSet) -> Duration {
        let (mut source, mut target) = (
            self.connect(0, Peer::Topology).await,
            self.connect(1, Peer::Topology).await,
        );
        let import = Import {
            attempt: Attempt(attempt),
            slots: moved.clone(),
            source: self.handle.nodes().next().unwrap().id,
            source_addr: self.addr(0),
        };
        let started = Instant::now();
        request(&mut target, &["LARDER", "IMPORT", &json(&import)]).await;
        let state = target_await(&mut target, attempt).await;
        let took = started.elapsed();
        assert!(
            matches!(state.phase, ImportPhase::Ready { .. }),
            "{state:?}"
        );
        let push = MapPush {
            map: self.map(attempt + 1, owned),
            handovers: vec![Attempt(attempt)],
            yields: None,
        };
        request(&mut source, &["LARDER", "MAP", &json(&push)]).await;
        let push = MapPush {
            handovers: vec![],
            ..push
        };
        request(&mut target, &["LARDER", "MAP", &json(&push)]).await;
        // The source names the attempt until it is told that it is over.
        request(&mut source, &["LARDER", "ABORT", &attempt.to_string()]).await;
        took
    }
}

async fn target_await(target: &mut ControlClient, attempt: u64) -> ImportState {
    let reply = target
        .request_within(PATIENCE, ["LARDER", "AWAIT", &attempt.to_string()])
        .await
        .unwrap();
    target.parse_json(&reply).unwrap()
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

async fn request(client: &mut ControlClient, args: &[&str]) -> Reply {
    client
        .request_within(PATIENCE, args.iter())
        .await
        .unwrap_or_else(|error| panic!("{args:?}: {error}"))
}

async fn first_map(cluster: &Cluster) {
    for index in 0..2 {
        let push = MapPush {
            map: cluster.map(1, &SlotSet::new()),
            handovers: vec![],
            yields: None,
        };
        let mut node = cluster.connect(index, Peer::Topology).await;
        request(&mut node, &["LARDER", "MAP", &json(&push)]).await;
    }
}

/// Adds to counters, following MOVED, and returns what each was acknowledged to be.
async fn count(addrs: [String; 2], stop: Arc<AtomicBool>, counters: usize) -> (Vec<u64>, Duration) {
    let mut clients = Vec::new();
    for addr in &addrs {
        let client = ControlClient::connect(addr, &secret(), Peer::Proxy).await;
        clients.push(client.unwrap());
    }
    let mut counts = vec![0_u64; counters];
    let mut longest = Duration::ZERO;
    let mut at = 0;
    let mut index = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("counter{index}");
        let started = Instant::now();
        loop {
            match clients[at].request(["INCR", &key]).await {
                Ok(Reply::Int(value)) => {
                    counts[index] += 1;
                    assert_eq!(value as u64, counts[index], "{key} was lost or doubled");
                    break;
                }
                Err(ControlError::Refused { code, .. }) if code == "MOVED" => at = 1 - at,
                other => panic!("{key}: {other:?}"),
            }
        }
        longest = longest.max(started.elapsed());
        index = (index + 1) % counters;
    }
    (counts, longest)
}

#[test]
fn slots_move_under_load_and_nothing_is_lost_or_doubled() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let cluster = Cluster::start();
        first_map(&cluster).await;
        let mut loader = cluster.connect(0, Peer::Proxy).await;
        let value = "x".repeat(100);
        for chunk in 0..100 {
            let mut args = vec!["MSET".to_string()];
            for n in 0..200 {
                args.extend([format!("key{}", chunk * 200 + n), value.clone()]);
            }
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            request(&mut loader, &args).await;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let addrs = [cluster.addr(0), cluster.addr(1)];
        let counting = tokio::spawn(count(addrs, Arc::clone(&stop), 50));
        let half: SlotSet = "0-8191".parse().unwrap();
        let rest = SlotSet::full().difference(&half);
        let took = cluster.move_slots(1, &half, &half).await;
        let took_rest = cluster.move_slots(2, &rest, &SlotSet::full()).await;
        stop.store(true, Ordering::Relaxed);
        let (counts, longest) = counting.await.unwrap();
        eprintln!("moves took {took:?} and {took_rest:?}, the longest stall was {longest:?}");
        let mut target = cluster.connect(1, Peer::Topology).await;
        let state: NodeState = target.request_json(["LARDER", "STATE"]).await.unwrap();
        let counted = counts.iter().filter(|count| **count > 0).count() as u64;
        assert!(counted > 0);
        assert_eq!(state.keys, 20_000 + counted);
        assert_eq!(state.slots.len(), 16384);
        assert!(state.imports.is_empty());
        for (index, wanted) in counts.iter().enumerate() {
            let got = request(&mut target, &["GET", &format!("counter{index}")]).await;
            let wanted = match wanted {
                0 => Reply::Null,
                count => Reply::Bulk(count.to_string().into_bytes()),
            };
            assert_eq!(got, wanted, "counter{index}");
        }
        let mut source = cluster.connect(0, Peer::Topology).await;
        let state: NodeState = source.request_json(["LARDER", "STATE"]).await.unwrap();
        assert_eq!(
            (state.keys, state.slots.len(), state.feeds.len()),
            (0, 0, 0)
        );
        cluster.handle.stop();
    });
}

#[test]
fn an_aborted_move_leaves_the_source_as_it_was_and_can_be_tried_again() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let cluster = Cluster::start();
        first_map(&cluster).await;
        let mut client = cluster.connect(0, Peer::Proxy).await;
        request(&mut client, &["SET", "a", "1"]).await;
        let mut target = cluster.connect(1, Peer::Topology).await;
        let import = Import {
            attempt: Attempt(1),
            slots: SlotSet::full(),
            source: cluster.handle.nodes().next().unwrap().id,
            source_addr: cluster.addr(0),
        };
        request(&mut target, &["LARDER", "IMPORT", &json(&import)]).await;
        target_await(&mut target, 1).await;
        let mut source = cluster.connect(0, Peer::Topology).await;
        // A write that waits for the hold is let through by the abort.
        client.send(["SET", "a", "2"]).await.unwrap();
        request(&mut target, &["LARDER", "ABORT", "1"]).await;
        request(&mut source, &["LARDER", "ABORT", "1"]).await;
        assert_eq!(client.read_reply().await, Ok(Reply::Simple(b"OK".to_vec())));
        let state: ImportState = target.request_json(["LARDER", "AWAIT", "1"]).await.unwrap();
        assert_eq!(state.phase, ImportPhase::Unknown);
        cluster
            .move_slots(2, &SlotSet::full(), &SlotSet::full())
            .await;
        assert_eq!(
            request(&mut target, &["GET", "a"]).await,
            Reply::Bulk(b"2".to_vec())
        );
        cluster.handle.stop();
    });
}

#[test]
fn a_source_that_cannot_be_reached_fails_the_import() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let cluster = Cluster::start();
        first_map(&cluster).await;
        let mut target = cluster.connect(1, Peer::Topology).await;
        let import = Import {
            attempt: Attempt(1),
            slots: "5".parse().unwrap(),
            source: cluster.handle.nodes().next().unwrap().id,
            source_addr: nobody().to_string(),
        };
        request(&mut target, &["LARDER", "IMPORT", &json(&import)]).await;
        let state = target_await(&mut target, 1).await;
        let ImportPhase::Failed { reason } = state.phase else {
            panic!("{state:?}");
        };
        assert!(reason.contains(&import.source_addr), "{reason}");
        cluster.handle.stop();
    });
}

#[test]
fn in_safe_what_moves_is_the_targets_once_its_replica_has_it() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let cluster = Cluster::of(4);
        let none = SlotSet::new();
        for index in [0, 1, 2] {
            cluster
                .push(index, cluster.safe_map(1, &none), vec![])
                .await;
        }
        // Several times what may be open when the source begins its hold.
        let value = "x".repeat(20_000);
        let mut loader = cluster.connect(0, Peer::Proxy).await;
        for n in 0..100 {
            let key = format!("key{n}");
            loop {
                match loader.request(["SET", &key, &value]).await {
                    Ok(_) => break,
                    // Until the replica follows, and with that is a lease.
                    Err(ControlError::Refused { code, .. }) if code == "CLUSTERDOWN" => {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    Err(error) => panic!("{key}: {error}"),
                }
            }
        }
        let import = Import {
            attempt: Attempt(1),
            slots: SlotSet::full(),
            source: cluster.handle.nodes().next().unwrap().id,
            source_addr: cluster.addr(0),
        };
        let mut target = cluster.connect(2, Peer::Topology).await;
        request(&mut target, &["LARDER", "IMPORT", &json(&import)]).await;
        let arrived = |state: &NodeState| {
            let copied = |it: &ImportState| it.phase == ImportPhase::Copying && it.keys == 100;
            state.imports.iter().any(copied)
        };
        let started = Instant::now();
        while !arrived(&cluster.state(2).await) {
            assert!(started.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // All is there, and nothing held: the target's replica does not know yet that it is one.
        let feeds = cluster.state(0).await.feeds;
        assert!(feeds.iter().all(|feed| !feed.holding), "{feeds:?}");
        cluster.push(3, cluster.safe_map(1, &none), vec![]).await;
        let state = target_await(&mut target, 1).await;
        assert!(
            matches!(state.phase, ImportPhase::Ready { .. }),
            "{state:?}"
        );
        let place = |state: NodeState| state.replication.unwrap().place.unwrap();
        let (replica, primary) = (cluster.state(3).await, cluster.state(2).await);
        assert_eq!(place(replica), place(primary));
        let map = cluster.safe_map(2, &SlotSet::full());
        cluster.push(0, map.clone(), vec![Attempt(1)]).await;
        cluster.push(2, map.clone(), vec![]).await;
        cluster.push(3, map, vec![]).await;
        assert_eq!(cluster.state(3).await.keys, 100);
        cluster.handle.stop();
    });
}
