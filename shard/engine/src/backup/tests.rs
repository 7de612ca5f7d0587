//! Holds and streams of one node: what waits, what a stream says, and when it is void.

use std::collections::BTreeSet;

use larder_store::rdb::{Loader, Record};
use larder_wire::backup::{HoldAsk, SnapshotAsk, SnapshotEnd};
use larder_wire::control::{MapPush, Peer};
use larder_wire::resp::{OwnedRequest, RequestScanner, Scanned};
use larder_wire::trust::Trust;
use larder_wire::{ClusterMap, Epoch, NodeEntry, NodeId, Role, ShardEntry, ShardId, Slot, SlotSet};

use super::{BACKUP_HOLD_MS_MAX, STREAMS_MAX, StreamId, Streamed};
use crate::clock::Clock;
use crate::node::{Node, NodeSettings};
use crate::session::Session;
use crate::turn::Outcome;

const ME: NodeId = NodeId::from_bytes([1; 20]);
const OTHER: NodeId = NodeId::from_bytes([2; 20]);

fn map(epoch: u64, own: &str) -> ClusterMap {
    let own: SlotSet = own.parse().unwrap();
    let shard = |id: u32, node: NodeId, slots: SlotSet| ShardEntry {
        id: ShardId(id),
        slots,
        nodes: vec![NodeEntry {
            id: node,
            addr: format!("127.0.0.1:{}", 7000 + id),
            role: Role::Primary,
            zone: None,
            in_step: false,
        }],
    };
    let rest = SlotSet::full().difference(&own);
    ClusterMap::new(
        "larder",
        Epoch(epoch),
        vec![shard(1, ME, own), shard(2, OTHER, rest)],
    )
    .unwrap()
}

struct World {
    node: Node,
    client: Session,
    clock: Clock,
}

impl World {
    fn new() -> World {
        let mut node = Node::new(NodeSettings {
            id: ME,
            run_id: ME,
            standalone: false,
            addr: "127.0.0.1:1".to_string(),
            port: 1,
            secret: None,
            maxmemory: 0,
            hash_seed: 7,
            random_seed: 7,
        });
        let clock = Clock {
            unix_us: 1_700_000_000_000_000,
            mono_ms: 10,
        };
        let mut client = node.open_session("c:1".into(), "s:1".into(), clock);
        let peer = Trust::Peer {
            peer: Peer::Operator,
            version: 1,
        };
        client.set_trust(peer, node.acl.operator());
        let mut world = World {
            node,
            client,
            clock,
        };
        world.take_map(1, "0-16383");
        world
    }

    fn take_map(&mut self, epoch: u64, own: &str) {
        let push = MapPush {
            map: map(epoch, own),
            handovers: vec![],
            yields: None,
        };
        self.node.take_map(push, self.clock).unwrap();
    }

    fn call(&mut self, line: &[&str]) -> (Outcome, String) {
        let request = OwnedRequest::from_args(line);
        let mut out = Vec::new();
        let outcome = self
            .node
            .call(&mut self.client, request.view(), self.clock, &mut out);
        (outcome, String::from_utf8_lossy(&out).into_owned())
    }

    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let (outcome, reply) = self.call(&words);
        assert_eq!(outcome, Outcome::Done, "{line}: {reply}");
        assert!(!reply.starts_with('-'), "{line}: {reply}");
        reply
    }

    fn hold(&mut self, epoch: u64, own: &str, hold_ms: u64) -> (Outcome, String) {
        let ask = HoldAsk {
            epoch: Epoch(epoch),
            slots: own.parse().unwrap(),
            hold_ms,
        };
        self.call(&["LARDER", "HOLD", &serde_json::to_string(&ask).unwrap()])
    }

    fn snapshot(&mut self, hold: Option<u64>) -> Result<StreamId, String> {
        let ask = SnapshotAsk {
            epoch: self.node.ownership.epoch(),
            slots: self.node.ownership.slots().clone(),
            hold,
        };
        let json = serde_json::to_string(&ask).unwrap();
        match self.call(&["LARDER", "SNAPSHOT", &json]) {
            (Outcome::Stream(id), _) => Ok(id),
            (_, reply) => Err(reply),
        }
    }

    /// Frames of about `limit` bytes.
    fn produce(&mut self, id: StreamId, out: &mut Vec<u8>) -> Streamed {
        self.node.stream_produce(id, 300, &mut Vec::new(), out)
    }

    fn drain(&mut self, id: StreamId, out: &mut Vec<u8>) {
        while self.produce(id, out) == Streamed::More {}
        self.node.end_stream(id);
    }
}

/// What a stream came to: the file and what its end said, or why there is none.
fn understand(mut frames: &[u8]) -> Result<(Vec<u8>, SnapshotEnd), String> {
    let mut file = Vec::new();
    loop {
        let line = frames.split(|byte| *byte == b'\r').next().unwrap();
        let text = String::from_utf8_lossy(line).into_owned();
        match frames.first() {
            Some(b'$') => {
                let len: usize = text[1..].parse().unwrap();
                let start = line.len() + 2;
                file.extend_from_slice(&frames[start..start + len]);
                frames = &frames[start + len + 2..];
            }
            Some(b':') => frames = &frames[line.len() + 2..],
            Some(b'+') => {
                assert_eq!(text, "+ANEW");
                file.clear();
                frames = &frames[line.len() + 2..];
            }
            Some(b'*') => {
                let mut scanner = RequestScanner::new();
                let consumed = frames.len();
                assert_eq!(scanner.scan(frames), Ok(Scanned::Request { consumed }));
                let request = scanner.request(frames);
                assert_eq!(request.arg(0), b"END");
                return Ok((file, serde_json::from_slice(request.arg(1)).unwrap()));
            }
            Some(b'-') => return Err(text),
            other => panic!("no frame begins with {other:?}"),
        }
    }
}

fn keys(frames: &[u8]) -> BTreeSet<String> {
    let (file, end) = understand(frames).expect("a whole file");
    assert_eq!(file.len() as u64, end.bytes);
    let mut rest = Some(file);
    let more = move |buffer: &mut Vec<u8>| {
        buffer.extend(rest.take().unwrap_or_default());
        Ok(())
    };
    let mut loader = Loader::open(more).expect("an RDB file");
    let mut keys = BTreeSet::new();
    let settings = larder_store::collection::CollectionSettings::new(7);
    while let Some(record) = loader.next_record(&settings).expect("a record") {
        if let Record::Key { key, .. } = record {
            keys.insert(String::from_utf8_lossy(&key).into_owned());
        }
    }
    assert_eq!(keys.len() as u64, end.keys);
    keys
}

fn hold_number(reply: &str) -> u64 {
    let json = reply.lines().nth(1).expect("a bulk string");
    let held: larder_wire::backup::Held = serde_json::from_str(json).unwrap();
    held.hold
}

#[test]
fn writes_wait_from_the_hold_to_the_snapshot_and_are_not_in_it() {
    let mut world = World::new();
    world.run("SET before 1");
    let (_, reply) = world.hold(1, "0-16383", 100);
    let number = hold_number(&reply);
    assert_eq!(world.call(&["SET", "meanwhile", "1"]).0, Outcome::Held);
    assert!(world.run("GET before").contains('1'), "reads go on");
    let releases = world.node.releases();
    let id = world.snapshot(Some(number)).unwrap();
    assert!(world.node.releases() > releases);
    world.run("SET meanwhile 1");
    let mut out = Vec::new();
    world.drain(id, &mut out);
    assert_eq!(keys(&out), BTreeSet::from(["before".to_string()]));
}

#[test]
fn a_hold_ends_by_itself_and_its_snapshot_is_refused_then() {
    let mut world = World::new();
    let (_, reply) = world.hold(1, "0-16383", u64::MAX / 2);
    let number = hold_number(&reply);
    let (_, second) = world.hold(1, "0-16383", 1);
    assert!(second.contains("another backup"), "{second}");
    world.clock.mono_ms += BACKUP_HOLD_MS_MAX;
    world.node.tick(world.clock);
    world.run("SET key 1");
    let refused = world.snapshot(Some(number)).unwrap_err();
    assert!(refused.starts_with("-LETGO"), "{refused}");
}

#[test]
fn a_backup_of_another_map_is_refused() {
    let mut world = World::new();
    world.take_map(2, "0-99");
    for (epoch, own) in [(1, "0-99"), (2, "0-98"), (3, "0-99")] {
        let (_, reply) = world.hold(epoch, own, 100);
        assert_eq!(reply, "-STALE 2\r\n", "{epoch} {own}");
    }
    let (_, reply) = world.hold(2, "0-99", 100);
    hold_number(&reply);
}

#[test]
fn slots_that_leave_void_a_stream_and_slots_that_come_do_not() {
    let mut world = World::new();
    world.take_map(2, "0-9999");
    let owned = (0..).map(|n| format!("key:{n}"));
    let slot = |key: &String| larder_wire::slot_of(key.as_bytes());
    let owned: Vec<String> = owned
        .filter(|key| slot(key) < Slot::new(9000).unwrap())
        .take(200)
        .collect();
    for key in &owned {
        world.run(&format!("SET {key} value"));
    }
    let kept = world.snapshot(None).unwrap();
    let mut out = Vec::new();
    assert_eq!(world.produce(kept, &mut out), Streamed::More);
    world.take_map(3, "0-16383");
    world.drain(kept, &mut out);
    assert_eq!(keys(&out), owned.into_iter().collect());
    let stream = world.snapshot(None).unwrap();
    out.clear();
    assert_eq!(world.produce(stream, &mut out), Streamed::More);
    world.take_map(4, "0-16382");
    world.drain(stream, &mut out);
    assert_eq!(
        understand(&out),
        Err("-VOID slots left the node with epoch 4".to_string())
    );
}

#[test]
fn keys_that_change_place_in_bulk_make_a_stream_begin_anew() {
    let mut world = World::new();
    for n in 0..300 {
        world.run(&format!("SET key:{n} value"));
    }
    let id = world.snapshot(None).unwrap();
    let mut out = Vec::new();
    assert_eq!(world.produce(id, &mut out), Streamed::More);
    world.run("FLUSHALL");
    world.run("SET after value");
    world.drain(id, &mut out);
    assert!(out.windows(7).any(|bytes| bytes == b"+ANEW\r\n"));
    assert_eq!(keys(&out), BTreeSet::new());
}

#[test]
fn several_streams_and_a_save_are_each_of_their_own_moment() {
    let mut world = World::new();
    let mut streams = Vec::new();
    for n in 0..STREAMS_MAX {
        for m in 0..100 {
            world.run(&format!("SET key:{n}:{m} value"));
        }
        let mut out = Vec::new();
        let id = world.snapshot(None).unwrap();
        assert_eq!(world.produce(id, &mut out), Streamed::More);
        streams.push((id, out));
    }
    let refused = world.snapshot(None).unwrap_err();
    assert!(refused.contains("backups are under way"), "{refused}");
    world.node.begin_save_to_nowhere(world.clock);
    for key in ["key:0:1", "key:1:1"] {
        world.run(&format!("DEL {key}"));
    }
    for (index, (id, mut out)) in streams.into_iter().enumerate() {
        world.drain(id, &mut out);
        assert_eq!(keys(&out).len(), (index + 1) * 100);
    }
    world.snapshot(None).expect("room for another");
}
