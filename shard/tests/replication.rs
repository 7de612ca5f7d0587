//! Replicas over real sockets: they follow, fall behind, come back and take over; the test plays the topology.

use std::time::{Duration, Instant};

use larder_runtime::{ControlClient, ControlError, Registry, Reply, Topologies};
use larder_shard::{Handle, ShardConfig, start};
use larder_wire::control::{MapPush, NodeState, Peer};
use larder_wire::replication::LinkPhase;
use larder_wire::{ClusterMap, Epoch, NodeEntry, Role, Secret, ShardEntry, ShardId, SlotSet};

/// A test that waits longer than this has hung.
const PATIENCE: Duration = Duration::from_secs(60);

fn secret() -> Secret {
    Secret::new(b"open sesame").unwrap()
}

struct Shard {
    handle: Handle,
    folder: tempfile::TempDir,
    _registry: Registry,
}

impl Shard {
    fn start(nodes: u16) -> Shard {
        let registry = Registry::new();
        let folder = tempfile::tempdir().unwrap();
        let config = ShardConfig {
            listen: "127.0.0.1:0".to_string(),
            nodes,
            // Nobody listens there: the test pushes the maps itself.
            topology: Some(Topologies::one("127.0.0.1:1")),
            secret: Some(secret()),
            data_dir: Some(folder.path().to_path_buf()),
            ..ShardConfig::default()
        };
        let handle = start(config, &registry).unwrap();
        Shard {
            handle,
            folder,
            _registry: registry,
        }
    }

    async fn connect(&self, index: usize) -> ControlClient {
        let addr = self.handle.nodes().nth(index).unwrap().addr.clone();
        let client = ControlClient::connect(&addr, &secret(), Peer::Topology).await;
        client.unwrap()
    }

    /// Of the first `nodes`.
    fn map(&self, epoch: u64, primary: usize, nodes: usize) -> ClusterMap {
        let entry = |(index, node): (usize, &larder_shard::NodeInfo)| NodeEntry {
            id: node.id,
            addr: node.addr.clone(),
            role: match index == primary {
                true => Role::Primary,
                false => Role::Replica,
            },
            zone: None,
            in_step: index != primary,
        };
        let shard = ShardEntry {
            id: ShardId(1),
            slots: SlotSet::full(),
            nodes: self
                .handle
                .nodes()
                .enumerate()
                .take(nodes)
                .map(entry)
                .collect(),
        };
        ClusterMap::new("larder", Epoch(epoch), vec![shard]).unwrap()
    }

    async fn push(&self, index: usize, epoch: u64, primary: usize) {
        let all = self.handle.nodes().len();
        self.push_of(index, self.map(epoch, primary, all)).await;
    }

    async fn push_of(&self, index: usize, map: ClusterMap) {
        let push = MapPush {
            map,
            handovers: vec![],
            yields: None,
        };
        let json = serde_json::to_string(&push).unwrap();
        let mut node = self.connect(index).await;
        request(&mut node, &["LARDER", "MAP", &json]).await;
    }

    async fn state(&self, index: usize) -> NodeState {
        let mut node = self.connect(index).await;
        node.request_json(["LARDER", "STATE"]).await.unwrap()
    }

    /// Until the replicas have all that `primary` has.
    async fn settled(&self, primary: usize) {
        let started = Instant::now();
        loop {
            let state = self.state(primary).await;
            let replication = state.replication.unwrap();
            let end = replication.place.unwrap().offset;
            let level = replication
                .followers
                .iter()
                .filter(|it| it.phase == LinkPhase::Streaming && it.offset == end);
            if level.count() + 1 == self.handle.nodes().len() {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{replication:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Waits for a lease where there is none: nobody gives it but the replicas.
async fn request(client: &mut ControlClient, args: &[&str]) -> Reply {
    let started = Instant::now();
    loop {
        match client.request_within(PATIENCE, args.iter()).await {
            Ok(reply) => return reply,
            Err(ControlError::Refused { code, .. })
                if code == "CLUSTERDOWN" && started.elapsed() < PATIENCE =>
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Err(error) => panic!("{args:?}: {error}"),
        }
    }
}

fn text(reply: Reply) -> String {
    match reply {
        Reply::Bulk(bytes) => String::from_utf8(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn a_replica_gets_all_data_follows_and_serves_whoever_takes_stale_reads() {
    run(async {
        let shard = Shard::start(3);
        // Alone it needs no lease.
        shard.push_of(0, shard.map(1, 0, 1)).await;
        let mut primary = shard.connect(0).await;
        let value = "v".repeat(100);
        for n in 0..2000 {
            request(&mut primary, &["SET", &format!("key{n}"), &value]).await;
        }
        // A huge value travels in pieces.
        for n in 0..50 {
            let mut args = vec!["RPUSH".to_string(), "list".to_string()];
            args.extend((0..1000).map(|m| format!("{n}:{m}")));
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            request(&mut primary, &args).await;
        }
        for index in [0, 1, 2] {
            shard.push(index, 2, 0).await;
        }
        shard.settled(0).await;
        request(&mut primary, &["INCR", "counter"]).await;
        shard.settled(0).await;
        let mut replica = shard.connect(1).await;
        let refused = replica.request(["GET", "counter"]).await.unwrap_err();
        assert!(matches!(refused, ControlError::Refused { code, .. } if code == "MOVED"));
        request(&mut replica, &["READONLY"]).await;
        let got = request(&mut replica, &["GET", "counter"]).await;
        assert_eq!(got, Reply::Bulk(b"1".to_vec()));
        assert_eq!(request(&mut replica, &["DBSIZE"]).await, Reply::Int(2002));
        assert_eq!(
            request(&mut replica, &["LLEN", "list"]).await,
            Reply::Int(50_000)
        );
        let info = text(request(&mut replica, &["INFO", "replication"]).await);
        assert!(info.contains("role:slave\r\n"), "{info}");
        assert!(info.contains("master_link_status:up\r\n"), "{info}");
        let info = text(request(&mut primary, &["INFO", "replication"]).await);
        assert!(info.contains("connected_slaves:2\r\n"), "{info}");
        assert!(info.contains(",state=online,"), "{info}");
        let nodes = text(request(&mut replica, &["CLUSTER", "NODES"]).await);
        assert_eq!(nodes.matches("slave").count(), 2, "{nodes}");
        shard.handle.stop();
    });
}

#[test]
fn a_promoted_replica_goes_on_and_the_former_primary_keeps_what_only_it_had_in_a_file() {
    run(async {
        let shard = Shard::start(2);
        for index in [0, 1] {
            shard.push(index, 1, 0).await;
        }
        let mut first = shard.connect(0).await;
        request(&mut first, &["SET", "a", "1"]).await;
        shard.settled(0).await;
        // The second is promoted, and the first does not know.
        shard.push(1, 2, 1).await;
        request(&mut first, &["SET", "a", "lost"]).await;
        request(&mut first, &["SET", "b", "lost"]).await;
        shard.push(0, 2, 1).await;
        let mut second = shard.connect(1).await;
        request(&mut second, &["SET", "c", "3"]).await;
        shard.settled(1).await;
        let state = shard.state(0).await.replication.unwrap();
        assert_eq!(state.lost_writes, 2);
        request(&mut first, &["READONLY"]).await;
        for (key, wanted) in [("a", Reply::Bulk(b"1".to_vec())), ("b", Reply::Null)] {
            assert_eq!(request(&mut first, &["GET", key]).await, wanted, "{key}");
        }
        let got = request(&mut first, &["GET", "c"]).await;
        assert_eq!(got, Reply::Bulk(b"3".to_vec()));
        // Each node of the process has a folder of its own.
        let folders = std::fs::read_dir(shard.folder.path()).unwrap();
        let folders = folders
            .map(|entry| entry.unwrap().path())
            .filter(|it| it.is_dir());
        let names = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
        let names = names.map(|entry| entry.unwrap().path());
        let lost: Vec<_> = names
            .filter(|path| path.extension().is_some_and(|it| it == "aof"))
            .collect();
        assert_eq!(lost.len(), 1, "{lost:?}");
        let kept = std::fs::read_to_string(&lost[0]).unwrap();
        assert_eq!(kept.matches("lost").count(), 2, "{kept}");
        shard.handle.stop();
    });
}

#[test]
fn primary_and_replica_change_places_to_and_fro_and_get_only_what_they_lack() {
    run(async {
        let shard = Shard::start(2);
        for index in [0, 1] {
            shard.push(index, 1, 0).await;
        }
        let mut primary = shard.connect(0).await;
        request(&mut primary, &["SET", "a", "1"]).await;
        shard.settled(0).await;
        for n in 0..5 {
            let list = text(request(&mut primary, &["INFO", "stats"]).await);
            assert!(list.contains("sync_full:1\r\n"), "{list}");
            shard.push(1, 2 + 2 * n, 1).await;
            shard.push(0, 2 + 2 * n, 1).await;
            shard.settled(1).await;
            shard.push(0, 3 + 2 * n, 0).await;
            shard.push(1, 3 + 2 * n, 0).await;
            request(&mut primary, &["INCR", "n"]).await;
            shard.settled(0).await;
        }
        let stats = text(request(&mut primary, &["INFO", "stats"]).await);
        assert!(stats.contains("sync_full:1\r\n"), "{stats}");
        assert!(stats.contains("sync_partial_ok:5\r\n"), "{stats}");
        let mut replica = shard.connect(1).await;
        request(&mut replica, &["READONLY"]).await;
        assert_eq!(
            request(&mut replica, &["GET", "n"]).await,
            Reply::Bulk(b"5".to_vec())
        );
        shard.handle.stop();
    });
}
