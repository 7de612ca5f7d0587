//! The topology as a process part: real sockets and a real record, nodes that are small responders.

mod failover;
mod fake_node;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake_node::{FakeNode, Log};
use larder_plan::Outcome;
use larder_plan::report::{MovesReport, OrderReport, Status};
use larder_runtime::{ControlClient, ControlError, Secret};
use larder_topology::{Handle, METRICS, TopologyConfig, start};
use larder_wire::ClusterMap;
use larder_wire::control::Peer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long anything may take, in milliseconds: generous, since it is waited for and not slept.
const PATIENCE_MS: u64 = 20_000;

fn secret() -> Secret {
    Secret::new(b"open sesame").unwrap()
}

fn config(dir: &Path, shards: u32) -> TopologyConfig {
    let mut config = TopologyConfig::new("127.0.0.1:0", dir.to_path_buf(), shards, secret());
    config.http = Some("127.0.0.1:0".into());
    config
}

async fn operator(topology: SocketAddr) -> ControlClient {
    ControlClient::connect(&topology.to_string(), &secret(), Peer::Operator)
        .await
        .unwrap()
}

async fn status(topology: SocketAddr) -> Status {
    let mut client = operator(topology).await;
    client
        .request_json(["LARDER", "STATUS", "JSON"])
        .await
        .unwrap()
}

/// Asks until `wanted` is true of the status.
async fn until(topology: SocketAddr, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    let asked = async {
        loop {
            let status = status(topology).await;
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_millis(PATIENCE_MS), asked)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}

async fn reshard(topology: SocketAddr, shards: u32) -> Result<OrderReport, ControlError> {
    let count = shards.to_string();
    let mut client = operator(topology).await;
    client
        .request_json(["LARDER", "RESHARD", "SHARDS", count.as_str(), "JSON"])
        .await
}

async fn finished(topology: SocketAddr, id: u64) -> MovesReport {
    let mut client = operator(topology).await;
    let asked = async {
        loop {
            let moves: MovesReport = client
                .request_json(["LARDER", "MOVES", "JSON"])
                .await
                .unwrap();
            if moves.outcome_of(id).is_some() {
                return moves;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_millis(PATIENCE_MS), asked)
        .await
        .expect("the operation never ended")
}

fn sorted(sizes: BTreeMap<u8, usize>) -> Vec<usize> {
    let mut sizes: Vec<usize> = sizes.into_values().collect();
    sizes.sort_unstable();
    sizes
}

struct World {
    topology: Option<Handle>,
    nodes: Vec<FakeNode>,
    log: Log,
    dir: tempfile::TempDir,
}

impl World {
    /// Of `shards` shards with a replica each, which are all in step.
    async fn replicated(shards: u32) -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path(), shards);
        config.settings.replicas = 1;
        let world = World::with_nodes(dir, config, shards * 2).await;
        until(world.addr(), "all replicas are in step", |status| {
            let mut shards = status.shards.iter();
            status.formed
                && shards.all(|shard| {
                    shard.replicas.iter().any(|replica| replica.in_step)
                        && shard.node.epoch == status.epoch
                })
        })
        .await;
        world
    }

    async fn with_nodes(dir: tempfile::TempDir, config: TopologyConfig, count: u32) -> World {
        let topology = start(config).unwrap();
        let log = Log::default();
        let mut nodes = Vec::new();
        for number in 1..=count as u8 {
            nodes.push(FakeNode::start(number, topology.addr(), &secret(), log.clone()).await);
        }
        World {
            topology: Some(topology),
            nodes,
            log,
            dir,
        }
    }

    async fn formed(shards: u32, spares: u32) -> World {
        let dir = tempfile::tempdir().unwrap();
        let topology = start(config(dir.path(), shards)).unwrap();
        let log = Log::default();
        let mut nodes = Vec::new();
        for number in 1..=(shards + spares) as u8 {
            nodes.push(FakeNode::start(number, topology.addr(), &secret(), log.clone()).await);
        }
        let world = World {
            topology: Some(topology),
            nodes,
            log,
            dir,
        };
        let all = (shards + spares) as usize;
        until(world.addr(), "all nodes are there", |status| {
            status.formed
                && status.shards.len() + status.spares.len() == all
                && status.spares.iter().all(|node| node.reachable)
                && status
                    .shards
                    .iter()
                    .all(|shard| shard.node.epoch == status.epoch)
        })
        .await;
        world
    }

    fn addr(&self) -> SocketAddr {
        self.topology.as_ref().unwrap().addr()
    }

    /// What the nodes together own, once each has the last map: each slot once.
    async fn owned(&self) -> BTreeMap<u8, usize> {
        until(self.addr(), "every node has the last map", |status| {
            let mut shards = status.shards.iter();
            shards.all(|shard| shard.node.epoch == status.epoch)
        })
        .await;
        let mut all = larder_wire::SlotSet::new();
        let mut sizes = BTreeMap::new();
        for node in &self.nodes {
            let slots = node.slots();
            assert!(all.is_disjoint(&slots), "two nodes own a slot");
            all = all.union(&slots);
            sizes.insert(node.number(), slots.len());
        }
        assert_eq!(all.len(), 16384, "slots without owner");
        sizes
    }

    /// In what the nodes saw, every handover was taken by its source before its target had the map.
    fn sources_came_first(&self) {
        let log = self.log.lock().unwrap();
        let mut handovers = 0;
        for (place, entry) in log.iter().enumerate() {
            if entry.handed_over {
                handovers += 1;
                let early = log[..place]
                    .iter()
                    .filter(|other| other.epoch == entry.epoch);
                assert_eq!(early.count(), 0, "{entry:?} was not the first of its epoch");
            }
        }
        assert!(handovers > 0, "nothing was handed over");
    }
}

#[tokio::test]
async fn a_cluster_forms_from_the_nodes_that_join_and_serves_its_map() {
    let world = World::formed(3, 0).await;
    assert_eq!(sorted(world.owned().await), [5461, 5461, 5462]);
    let handle = world.topology.as_ref().unwrap();
    assert_eq!(handle.readiness().get(), Ok(()));
    assert_eq!(handle.maps().borrow().shards().len(), 3);
    let mut watcher = operator(handle.addr()).await;
    watcher.send(["LARDER", "WATCH"]).await.unwrap();
    let reply = watcher.read_reply().await.unwrap();
    let map: ClusterMap = watcher.parse_json(&reply).unwrap();
    assert!(map.unowned().is_empty());
}

#[tokio::test]
async fn growing_and_shrinking_move_slots_source_first_and_watchers_see_each_map() {
    let world = World::formed(2, 2).await;
    let mut watcher = operator(world.addr()).await;
    watcher.send(["LARDER", "WATCH"]).await.unwrap();
    let report = reshard(world.addr(), 4).await.unwrap();
    let moves = finished(world.addr(), report.operation.unwrap()).await;
    assert_eq!(moves.outcome_of(1), Some(&Outcome::Done));
    let status = until(world.addr(), "all have the last map", |status| {
        status
            .shards
            .iter()
            .all(|shard| shard.node.epoch == status.epoch)
    })
    .await;
    assert!(world.owned().await.values().all(|&size| size == 4096));
    world.sources_came_first();
    let mut last = 0;
    while last < status.epoch.0 {
        let reply = watcher.read_reply().await.unwrap();
        let map: ClusterMap = watcher.parse_json(&reply).unwrap();
        assert!(map.epoch.0 > last && map.unowned().is_empty());
        last = map.epoch.0;
    }
    let report = reshard(world.addr(), 1).await.unwrap();
    finished(world.addr(), report.operation.unwrap()).await;
    let status = status_of_one_shard(&world).await;
    assert_eq!((status.shards.len(), status.spares.len()), (1, 3));
    assert_eq!(world.owned().await.values().max(), Some(&16384));
}

async fn status_of_one_shard(world: &World) -> Status {
    until(world.addr(), "everyone has the last map", |status| {
        let mut nodes = status
            .shards
            .iter()
            .map(|shard| &shard.node)
            .chain(&status.spares);
        nodes.all(|node| node.epoch == status.epoch)
    })
    .await
}

#[tokio::test]
async fn a_source_that_lets_go_is_asked_again_and_the_reshard_ends() {
    let world = World::formed(1, 1).await;
    world.nodes[0].let_go_times(2);
    let report = reshard(world.addr(), 2).await.unwrap();
    let moves = finished(world.addr(), report.operation.unwrap()).await;
    let ended = &moves.finished[0];
    assert_eq!((&ended.outcome, ended.failures), (&Outcome::Done, 2));
    assert_eq!(
        world.owned().await.into_values().collect::<Vec<_>>(),
        [8192, 8192]
    );
    world.sources_came_first();
}

#[tokio::test]
async fn a_topology_that_ends_in_the_middle_goes_on_where_it_was() {
    let mut world = World::formed(1, 1).await;
    world.nodes[1].hold_imports(true);
    let report = reshard(world.addr(), 2).await.unwrap();
    let addr = world.addr();
    until(addr, "an import runs", |status| {
        let operation = status.operation.as_ref();
        operation.is_some_and(|op| op.attempts.iter().any(|a| a.phase == "copying"))
    })
    .await;
    world.topology.take().unwrap().stop();
    world.nodes[1].hold_imports(false);
    let again = TopologyConfig {
        listen: addr.to_string(),
        ..config(world.dir.path(), 7)
    };
    let handle = start(again).unwrap();
    let mut recorded = handle.recorded_nodes().to_vec();
    recorded.sort();
    let mut expected: Vec<String> = world.nodes.iter().map(|node| node.addr()).collect();
    expected.sort();
    assert_eq!(recorded, expected);
    world.topology = Some(handle);
    let moves = finished(addr, report.operation.unwrap()).await;
    assert_eq!(
        (&moves.finished[0].outcome, moves.finished[0].failures),
        (&Outcome::Done, 0)
    );
    assert_eq!(
        world.owned().await.into_values().collect::<Vec<_>>(),
        [8192, 8192]
    );
    assert_eq!(
        status(addr).await.shards_wanted,
        2,
        "the record counts, not the flag"
    );
}

#[tokio::test]
async fn a_node_that_starts_again_gets_its_map_again_and_the_loss_is_counted() {
    let world = World::formed(2, 0).await;
    world.nodes[0].restart();
    let status = until(world.addr(), "it has the map again", |status| {
        status.counts.data_losses == 1
            && status
                .shards
                .iter()
                .all(|shard| shard.node.reachable && shard.node.epoch == status.epoch)
    })
    .await;
    assert_eq!(status.shards.len(), 2);
    world.owned().await;
}

#[tokio::test]
async fn missing_nodes_are_named_or_started() {
    let world = World::formed(1, 0).await;
    let refused = reshard(world.addr(), 3).await.unwrap_err().to_string();
    let mend = format!(
        "2 spare nodes are missing: 2 are needed, 0 joined as spare (add 2 with: larder shard --topology {} --listen HOST:PORT --nodes 2)",
        world.addr()
    );
    assert_eq!(refused, mend);

    let dir = tempfile::tempdir().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut with_starter = config(dir.path(), 1);
    let calls = asked.clone();
    with_starter.node_starter = Some(Box::new(move |missing| calls.lock().unwrap().push(missing)));
    let topology = start(with_starter).unwrap();
    let log = Log::default();
    let mut nodes = vec![FakeNode::start(1, topology.addr(), &secret(), log.clone()).await];
    until(topology.addr(), "formed", |status| status.formed).await;
    let report = reshard(topology.addr(), 2).await.unwrap();
    assert_eq!(report.missing_nodes, 1);
    assert_eq!(*asked.lock().unwrap(), [1]);
    nodes.push(FakeNode::start(2, topology.addr(), &secret(), log).await);
    finished(topology.addr(), report.operation.unwrap()).await;
    // The operation is over when its last map is recorded; nodes are told of it after that.
    until(topology.addr(), "all have the last map", |status| {
        let mut shards = status.shards.iter();
        shards.all(|shard| shard.node.epoch == status.epoch)
    })
    .await;
    assert_eq!(nodes[1].slots().len(), 8192);
}

#[tokio::test]
async fn strangers_get_nothing_done() {
    let world = World::formed(1, 0).await;
    let node = format!(
        "{{\"id\":\"{0}\",\"run_id\":\"{0}\",\"addr\":\"127.0.0.1:1\",\"release\":\"0\"}}",
        "ab".repeat(20)
    );
    let verbs: [&[&str]; 9] = [
        &["JOIN", &node],
        &["WATCH"],
        &["STATUS"],
        &["STATUS", "JSON"],
        &["RESHARD", "SHARDS", "2"],
        &["MOVE", "SLOTS", "1", "TO", "x"],
        &["REBALANCE"],
        &["MOVES"],
        &["SOMETHING"],
    ];
    for opening in [
        &[][..],
        &["AUTH", "larder", "guess"],
        &["LARDER", "HELLO", "1", "guess", "node"],
    ] {
        let mut stranger = TcpStream::connect(world.addr()).await.unwrap();
        if !opening.is_empty() {
            let answer = say(&mut stranger, opening).await;
            assert!(answer.starts_with("-WRONGPASS"), "{answer}");
        }
        for verb in verbs {
            let answer = say(&mut stranger, &[&["LARDER"], verb].concat()).await;
            assert!(answer.starts_with("-NOAUTH"), "{verb:?}: {answer}");
        }
    }
    assert_eq!(status(world.addr()).await.spares.len(), 0);
    let mut known = TcpStream::connect(world.addr()).await.unwrap();
    assert_eq!(
        say(&mut known, &["AUTH", "larder", "open sesame"]).await,
        "+OK\r\n"
    );
    let answer = say(&mut known, &["LARDER", "STATUS"]).await;
    assert!(answer.contains("+cluster larder, epoch"), "{answer}");
}

/// One request, and what arrives with the first read of its answer.
async fn say(stream: &mut TcpStream, words: &[&str]) -> String {
    let request = larder_wire::resp::OwnedRequest::from_args(words.to_vec());
    stream.write_all(&request.into_bytes()).await.unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let read = stream.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..read]).into_owned()
}

#[tokio::test]
async fn ordinary_clients_learn_the_map_in_the_words_of_redis_cluster() {
    let world = World::formed(2, 0).await;
    let mut client = TcpStream::connect(world.addr()).await.unwrap();
    assert_eq!(say(&mut client, &["PING"]).await, "+PONG\r\n");
    let ports = world.nodes.iter().map(|node| {
        let addr: SocketAddr = node.addr().parse().unwrap();
        addr.port()
    });
    let lowest = ports.min().unwrap();
    let slots = say(&mut client, &["CLUSTER", "SLOTS"]).await;
    let first = format!(
        "*2\r\n*3\r\n:0\r\n:8191\r\n*4\r\n$9\r\n127.0.0.1\r\n:{}\r\n$40\r\n",
        lowest
    );
    assert!(slots.starts_with(&first), "{slots}");
    let shards = say(&mut client, &["CLUSTER", "SHARDS"]).await;
    assert!(shards.starts_with("*2\r\n*4\r\n$5\r\nslots\r\n*2\r\n:0\r\n:8191\r\n$5\r\nnodes\r\n*1\r\n*14\r\n$2\r\nid\r\n"), "{shards}");
    assert!(shards.contains("$6\r\nonline\r\n"), "{shards}");
    assert!(
        say(&mut client, &["GET", "x"])
            .await
            .starts_with("-ERR unknown command 'GET'")
    );
    assert!(
        say(&mut client, &["HELLO", "3"])
            .await
            .starts_with("%7\r\n")
    );
    assert!(
        say(&mut client, &["*1\r\n"])
            .await
            .starts_with("-ERR unknown command '*1")
    );
}

async fn fetch(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn http_shows_metrics_targets_readiness_and_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let alone = start(config(dir.path(), 1)).unwrap();
    let ready = fetch(alone.http_addr().unwrap(), "/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 503") && ready.contains("nodes to form the cluster"),
        "{ready}"
    );

    let world = World::formed(2, 0).await;
    let report = reshard(world.addr(), 1).await.unwrap();
    finished(world.addr(), report.operation.unwrap()).await;
    let http = world.topology.as_ref().unwrap().http_addr().unwrap();
    assert!(fetch(http, "/readyz").await.starts_with("HTTP/1.1 200"));
    let shown = async {
        loop {
            let metrics = fetch(http, "/metrics").await;
            if metrics.contains("larder_topology_shards{cluster=\"larder\"} 1") {
                return metrics;
            }
        }
    };
    let metrics = tokio::time::timeout(Duration::from_millis(PATIENCE_MS), shown)
        .await
        .unwrap();
    // The lag of a replica is there while one streams.
    let of_replicas = "larder_topology_replica_lag_bytes";
    for metric in METRICS.iter().filter(|metric| metric.name != of_replicas) {
        assert!(
            metrics.contains(&format!("\n{}", metric.name)),
            "no {}",
            metric.name
        );
    }
    assert!(metrics.contains("larder_topology_slots_moved_total{cluster=\"larder\"} 8192"));
    let targets = fetch(http, "/sd").await;
    assert!(
        targets.contains(&format!("[{{\"targets\":[\"{http}\"]"))
            || targets.contains(&http.to_string()),
        "{targets}"
    );
    assert!(targets.contains(&world.nodes[0].http()), "{targets}");
    assert!(fetch(http, "/").await.contains("<title>larder</title>"));
    let body = fetch(http, "/status.json").await;
    let json = body.split_once("\r\n\r\n").unwrap().1;
    let status: Status = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(status.shards.len(), 1);
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_one_line_with_the_flag_that_mends_it() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let topology = start(config(first.path(), 1)).unwrap();
    let line = |config: TopologyConfig| start(config).unwrap_err().to_string();
    let taken = TopologyConfig {
        listen: topology.addr().to_string(),
        ..config(second.path(), 1)
    };
    assert_eq!(
        line(taken),
        format!(
            "port {} is taken (choose another with --listen)",
            topology.addr().port()
        )
    );
    let in_use = line(config(first.path(), 1));
    assert!(
        in_use.ends_with(
            "is in use by another topology (stop it, or choose another with --data-dir)"
        ),
        "{in_use}"
    );
    let mut replicas = config(second.path(), 1);
    replicas.settings.replicas = 1000;
    let refused = line(replicas);
    assert!(
        refused.contains("1000 replicas") && refused.contains("choose 0 to 8"),
        "{refused}"
    );
    topology.stop();
    start(config(first.path(), 1)).unwrap();
}
