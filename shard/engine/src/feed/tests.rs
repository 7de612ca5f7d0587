//! Two nodes and a feed between them, without sockets: random writes, aborts and handovers by seed.

use std::collections::BTreeMap;

use larder_store::{Captured, Collection, Place, Random, Tray, Value, ValueRef};
use larder_wire::control::{FeedAsk, HOLD_MS_MAX, Import, ImportPhase, MapPush, Peer};
use larder_wire::resp::{OwnedRequest, RequestScanner, Scanned};
use larder_wire::trust::Trust;
use larder_wire::{
    Attempt, ClusterMap, Epoch, NodeEntry, NodeId, Role, ShardEntry, ShardId, Slot, SlotSet,
    UnixMillis,
};

use super::{Incoming, Produced};
use crate::clock::Clock;
use crate::node::{Node, NodeSettings};
use crate::session::Session;
use crate::turn::Outcome;

/// Random runs; each is a whole move.
const SEEDS: u64 = 25;
const SOURCE: NodeId = NodeId::from_bytes([1; 20]);
const TARGET: NodeId = NodeId::from_bytes([2; 20]);

pub(crate) fn node(id: NodeId) -> Node {
    Node::new(NodeSettings {
        id,
        run_id: id,
        standalone: false,
        addr: "127.0.0.1:1".to_string(),
        port: 1,
        secret: None,
        maxmemory: 0,
        hash_seed: 7,
        random_seed: 7,
    })
}

/// The source owns all but `moved`, which are `owner`'s.
fn map(epoch: u64, moved: &SlotSet, owner: NodeId) -> ClusterMap {
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
    let (mut first, mut second) = (SlotSet::full(), SlotSet::new());
    if owner == TARGET {
        first = first.difference(moved);
        second = moved.clone();
    }
    ClusterMap::new(
        "larder",
        Epoch(epoch),
        vec![shard(1, SOURCE, first), shard(2, TARGET, second)],
    )
    .unwrap()
}

struct Pair {
    source: Node,
    target: Node,
    client: Session,
    at_target: Session,
    clock: Clock,
    attempt: Attempt,
    moved: SlotSet,
    /// On its way from source to target.
    wire: Vec<u8>,
    scanner: RequestScanner,
    ready: bool,
}

impl Pair {
    fn new(moved: &str) -> Pair {
        let moved: SlotSet = moved.parse().unwrap();
        let (mut source, mut target) = (node(SOURCE), node(TARGET));
        let clock = Clock {
            unix_us: 1_700_000_000_000_000,
            mono_ms: 10,
        };
        for node in [&mut source, &mut target] {
            let push = MapPush {
                map: map(1, &moved, SOURCE),
                handovers: vec![],
                yields: None,
            };
            node.take_map(push, clock).unwrap();
        }
        let mut client = source.open_session("c:1".into(), "s:1".into(), clock);
        let proxy = Trust::Peer {
            peer: Peer::Proxy,
            version: 1,
        };
        client.set_trust(proxy, source.acl.operator());
        let at_target = target.open_session("c:2".into(), "s:2".into(), clock);
        Pair {
            source,
            target,
            client,
            at_target,
            clock,
            attempt: Attempt(0),
            moved,
            wire: Vec::new(),
            scanner: RequestScanner::new(),
            ready: false,
        }
    }

    fn begin(&mut self) {
        self.attempt = Attempt(self.attempt.0 + 1);
        self.wire.clear();
        self.scanner = RequestScanner::new();
        self.ready = false;
        let import = Import {
            attempt: self.attempt,
            slots: self.moved.clone(),
            source: SOURCE,
            source_addr: "127.0.0.1:7001".into(),
        };
        let asked = self.target.begin_import(import.clone(), self.clock);
        assert_eq!(asked, Ok(Outcome::Import(import)));
        let ask = FeedAsk {
            attempt: self.attempt,
            slots: self.moved.clone(),
            target: TARGET,
        };
        assert_eq!(self.source.begin_feed(ask.clone()), Ok(Outcome::Feed(ask)));
    }

    /// A command of a client at the source; what it was answered.
    fn source(&mut self, args: &[&str]) -> Result<String, Outcome> {
        call(&mut self.source, &mut self.client, args, self.clock)
    }

    fn target(&mut self, args: &[&str]) -> Result<String, Outcome> {
        call(&mut self.target, &mut self.at_target, args, self.clock)
    }

    fn wait(&mut self, ms: u64) {
        self.clock.unix_us += ms as i64 * 1000;
        self.clock.mono_ms += ms;
        self.source.tick(self.clock);
        self.source.background_step(self.clock);
        self.target.tick(self.clock);
        self.target.background_step(self.clock);
    }

    fn produce(&mut self, limit: usize) -> Produced {
        self.source
            .feed_produce(self.attempt, limit, self.clock, &mut self.wire)
    }

    /// The target takes up to `frames` frames of what has arrived, and acknowledges.
    fn take(&mut self, frames: usize) -> Result<(), String> {
        let mut at = 0;
        for _ in 0..frames {
            let Scanned::Request { consumed } = self.scanner.scan(&self.wire[at..]).unwrap() else {
                break;
            };
            let frame = self.scanner.request(&self.wire[at..]);
            self.target.import_apply(self.attempt, &frame, self.clock)?;
            at += consumed;
        }
        self.wire.drain(..at);
        if let Some(offset) = self.target.import_confirmed(self.attempt) {
            self.source.feed_acknowledged(self.attempt, offset);
        }
        self.ready = self.target.imports().iter().any(Incoming::is_ready);
        Ok(())
    }

    fn run_to_ready(&mut self) {
        for _ in 0..1_000_000 {
            if self.ready {
                return;
            }
            self.produce(4096);
            self.take(usize::MAX).unwrap();
        }
        panic!("the feed never came to its cut");
    }

    fn hand_over(&mut self) {
        let push = MapPush {
            map: map(2, &self.moved, TARGET),
            handovers: vec![self.attempt],
            yields: None,
        };
        let to_target = MapPush {
            handovers: vec![],
            ..push.clone()
        };
        self.source.take_map(push, self.clock).unwrap();
        self.target.take_map(to_target, self.clock).unwrap();
        // The topology has heard of it.
        self.source.abort_attempt(self.attempt);
    }

    fn content(&self, node: &Node) -> BTreeMap<String, String> {
        content(node, &self.moved, self.clock.now())
    }
}

/// Every key of some slots that has not expired, with its database, readable.
pub(crate) fn content(node: &Node, slots: &SlotSet, now: UnixMillis) -> BTreeMap<String, String> {
    let mut content = BTreeMap::new();
    for (db, space) in node.databases.iter() {
        for slot in slots.iter() {
            let mut place = Some(Place::START);
            while let Some(from) = place {
                place = space.walk_slot(slot, from, 100, |item| {
                    if !item.is_due(now) && !is_over(&item.value(&mut Tray::default()), now) {
                        let key = String::from_utf8_lossy(item.key());
                        content.insert(format!("{db} {key}"), describe(&item.capture()));
                    }
                });
            }
        }
    }
    content
}

pub(crate) fn call(
    node: &mut Node,
    session: &mut Session,
    args: &[&str],
    clock: Clock,
) -> Result<String, Outcome> {
    let request = OwnedRequest::from_args(args);
    let mut out = Vec::new();
    match node.call(session, request.view(), clock, &mut out) {
        Outcome::Done => Ok(String::from_utf8_lossy(&out).into_owned()),
        other => Err(other),
    }
}

/// True of a hash all of whose fields are due; those of any other hash that are due are as if gone from here on.
fn is_over(value: &ValueRef<'_>, now: UnixMillis) -> bool {
    match value {
        ValueRef::Collection(Collection::Hash(hash)) => {
            hash.look(now);
            hash.live_len() == 0
        }
        ValueRef::Collection(_) | ValueRef::String(_) => false,
    }
}

/// Sets and hashes in order of their members: their own order is nobody's business.
fn describe(captured: &Captured) -> String {
    use larder_store::collection::Item;
    use larder_store::collection::pieces::Budget;
    let text = |item: Item<'_>| String::from_utf8_lossy(&item.to_vec()).into_owned();
    let all = Budget::new(usize::MAX, usize::MAX);
    let mut parts = Vec::new();
    let kind = match &captured.value {
        Value::Int(int) => {
            parts.push(int.to_string());
            "string"
        }
        Value::Bytes(bytes) => {
            parts.push(String::from_utf8_lossy(bytes).into_owned());
            "string"
        }
        Value::Collection(Collection::Hash(hash)) => {
            for (field, value) in hash.iter() {
                let time = hash.expiry(&field.to_vec());
                parts.push(format!("{}={} {time:?}", text(field), text(value)));
            }
            parts.sort();
            "hash"
        }
        Value::Collection(Collection::List(list)) => {
            list.piece(0, all, |element| parts.push(text(element)));
            "list"
        }
        Value::Collection(Collection::Set(set)) => {
            set.piece(0, all, |member| parts.push(text(member)));
            parts.sort();
            "set"
        }
        Value::Collection(Collection::ZSet(zset)) => {
            zset.piece(0, all, |member, score| {
                parts.push(format!("{}:{score}", text(member)))
            });
            "zset"
        }
        Value::Collection(Collection::Stream(stream)) => {
            stream.piece(b"", 0, all, |args| {
                let words: Vec<_> = args
                    .iter()
                    .map(|arg| String::from_utf8_lossy(arg))
                    .collect();
                parts.push(words.join(" "));
            });
            "stream"
        }
    };
    format!("{kind} {parts:?} {:?}", captured.expires)
}

fn random_write(pair: &mut Pair, random: &mut Random) {
    let (db, args) = random_request(pair.clock.now(), random);
    run(pair, &["SELECT".to_string(), db.to_string()]);
    run(pair, &args);
}

/// One random write and its database; keys share a few tags, so that commands of two keys meet.
pub(crate) fn random_request(now: UnixMillis, random: &mut Random) -> (&'static str, Vec<String>) {
    let tag = random.below(12);
    let key = |random: &mut Random| format!("{{t{tag}}}{}", random.below(8));
    let (a, b) = (key(random), key(random));
    let (a, b) = (a.as_str(), b.as_str());
    let other = format!("{{t{}}}{}", random.below(12), random.below(8));
    let value = random.below(1000).to_string();
    let value = value.as_str();
    let soon = (now.0 + random.below(400) as i64).to_string();
    let many: Vec<String> = (0..600)
        .map(|n| format!("{}-{n}", random.below(900)))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let with = |head: &[&'static str], key: &str| -> Vec<String> {
        head.iter()
            .map(|w| w.to_string())
            .chain([key.to_string()])
            .chain(many.iter().map(|m| m.to_string()))
            .collect()
    };
    let dbs = ["0", "0", "0", "1", "3", "15"];
    let mut db = || dbs[random.below(dbs.len())];
    let (from, to) = (db(), db());
    let args: Vec<String> = match random.below(40) {
        0 => vec!["SET", a, value],
        1 => vec!["SET", a, value, "PX", "150"],
        2 => vec!["SET", a, value, "KEEPTTL", "GET"],
        3 | 4 => vec!["INCR", a],
        5 => vec!["APPEND", a, value],
        6 => vec!["INCRBYFLOAT", a, "1.5"],
        7 => vec!["DEL", a, b],
        8 => vec!["HSET", a, value, value, "f", value],
        9 => vec!["HINCRBY", a, "f", "3"],
        10 => vec!["HDEL", a, "f"],
        11 | 12 => vec!["RPUSH", a, value, "x"],
        13 => vec!["LPUSH", a, value],
        14 => vec!["LPOP", a, "2"],
        15 => vec!["SADD", a, value, "m"],
        16 => vec!["SPOP", a],
        17 => vec!["ZADD", a, value, value, "1.25", "m"],
        18 => vec!["ZINCRBY", a, "0.1", "m"],
        19 => vec!["PEXPIREAT", a, &soon],
        20 => vec!["PEXPIRE", a, "100"],
        21 => vec!["PERSIST", a],
        22 => vec!["RENAME", a, b],
        23 => vec!["COPY", a, b, "REPLACE"],
        24 => vec!["SUNIONSTORE", a, a, b],
        25 => vec!["LMOVE", a, b, "LEFT", "RIGHT"],
        26 => vec!["MSET", a, value, &other, value],
        27 => vec!["GETEX", a, "PX", "120"],
        29 | 30 => vec!["MOVE", a, to],
        31 => vec!["COPY", a, b, "DB", to],
        32 => vec!["COPY", a, a, "DB", to, "REPLACE"],
        33 => vec!["HPEXPIRE", a, "120", "FIELDS", "1", "f"],
        34 => vec!["HPEXPIREAT", a, &soon, "FIELDS", "2", value, "f"],
        35 => vec![
            "HSETEX", a, "PX", "150", "FIELDS", "2", value, value, "f", value,
        ],
        36 => vec!["HGETEX", a, "PERSIST", "FIELDS", "1", "f"],
        37 => vec!["HGETDEL", a, "FIELDS", "1", "f"],
        38 => vec!["HINCRBYFLOAT", a, "f", "0.5"],
        28 => {
            let args = match random.below(4) {
                3 => {
                    let mut args = with(&["HPEXPIREAT"], a);
                    let words = [soon.clone(), "FIELDS".to_string(), "600".to_string()];
                    args.splice(2..2, words);
                    args
                }
                0 => with(&["RPUSH"], a),
                1 => with(&["SADD"], a),
                _ => with(&["HSET"], a),
            };
            return (from, args);
        }
        _ => match random.below(12) {
            0 => vec!["FLUSHALL"],
            1 | 2 => vec!["FLUSHDB"],
            _ => vec!["UNLINK", &other, a],
        },
    }
    .into_iter()
    .map(str::to_string)
    .collect();
    (from, args)
}

fn run(pair: &mut Pair, args: &[String]) {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match pair.source(&args) {
        // Errors such as WRONGTYPE are part of the game.
        Ok(_) | Err(Outcome::Held) => {}
        Err(other) => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn whatever_is_written_and_whoever_gives_up_the_target_ends_with_the_keys_of_the_source() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut pair = Pair::new(if seed % 2 == 0 { "0-16383" } else { "0-8191" });
        for _ in 0..random.below(400) {
            random_write(&mut pair, &mut random);
        }
        pair.begin();
        while !pair.ready {
            match random.below(100) {
                0..30 => random_write(&mut pair, &mut random),
                30..60 => {
                    pair.produce(1 + random.below(3000));
                }
                60..96 => pair.take(1 + random.below(80)).unwrap(),
                96..98 => pair.wait(random.below(40) as u64),
                _ if random.below(8) == 0 => {
                    pair.source.abort_attempt(pair.attempt);
                    pair.target.abort_attempt(pair.attempt);
                    assert!(pair.content(&pair.target).is_empty(), "seed {seed}");
                    pair.begin();
                }
                _ => {}
            }
            if !pair.source.feeds().iter().any(|feed| !feed.is_over()) {
                // The hold ran out before the target had taken all.
                pair.target.abort_attempt(pair.attempt);
                pair.begin();
            }
        }
        let (wanted, got) = (pair.content(&pair.source), pair.content(&pair.target));
        for (key, value) in &wanted {
            assert_eq!(got.get(key), Some(value), "seed {seed}, key {key}");
        }
        assert_eq!(
            got.len(),
            wanted.len(),
            "seed {seed}: keys that are not the source's"
        );
        assert_eq!(pair.target.databases.visible_len(), 0, "seed {seed}");
        pair.hand_over();
        assert_eq!(
            pair.target.databases.visible_len(),
            pair.target.databases.len()
        );
        assert!(pair.content(&pair.source).is_empty(), "seed {seed}");
        assert_eq!(pair.content(&pair.target), wanted, "seed {seed}");
    }
}

#[test]
fn during_a_hold_writes_wait_reads_are_served_and_after_the_map_both_are_moved() {
    let mut pair = Pair::new("0-16383");
    pair.source(&["SET", "a", "1"]).unwrap();
    pair.begin();
    pair.run_to_ready();
    assert_eq!(pair.source(&["SET", "a", "2"]), Err(Outcome::Held));
    assert_eq!(pair.source(&["FLUSHALL"]), Err(Outcome::Held));
    assert_eq!(pair.source(&["GET", "a"]).unwrap(), "$1\r\n1\r\n");
    // The keys are at the target, unseen; who comes too early waits for the map.
    assert_eq!(pair.target(&["GET", "a"]), Err(Outcome::Held));
    assert_eq!(pair.target(&["DBSIZE"]).unwrap(), ":0\r\n");
    assert_eq!(pair.target(&["KEYS", "*"]).unwrap(), "*0\r\n");
    assert_eq!(pair.target(&["RANDOMKEY"]).unwrap(), "$-1\r\n");
    let before = (pair.source.releases(), pair.target.releases());
    pair.hand_over();
    assert!(pair.source.releases() > before.0 && pair.target.releases() > before.1);
    let moved = "-MOVED 15495 127.0.0.1:7002\r\n";
    assert_eq!(pair.source(&["SET", "a", "2"]).unwrap(), moved);
    assert_eq!(pair.source(&["GET", "a"]).unwrap(), moved);
    assert_eq!(pair.target(&["GET", "a"]).unwrap(), "$1\r\n1\r\n");
    assert_eq!(pair.target(&["DBSIZE"]).unwrap(), ":1\r\n");
    assert_eq!(pair.source(&["DBSIZE"]).unwrap(), ":0\r\n");
}

#[test]
fn a_source_that_has_let_go_takes_no_map_for_the_attempt_and_goes_on() {
    let mut pair = Pair::new("0-16383");
    pair.source(&["SET", "a", "1"]).unwrap();
    pair.begin();
    pair.run_to_ready();
    pair.clock.mono_ms += HOLD_MS_MAX;
    let push = MapPush {
        map: map(2, &pair.moved, TARGET),
        handovers: vec![pair.attempt],
        yields: None,
    };
    let refused = pair.source.take_map(push, pair.clock).unwrap_err();
    assert_eq!(refused.text(), format!("LETGO {}", pair.attempt));
    assert_eq!(pair.source.ownership.epoch(), Epoch(1));
    // The next tick tells the target, and the waiting write gets through.
    pair.wait(1);
    assert_eq!(pair.source(&["SET", "a", "2"]).unwrap(), "+OK\r\n");
    assert_eq!(pair.produce(4096), Produced::Over);
    let ended = pair.take(usize::MAX).unwrap_err();
    assert!(ended.contains("let go"), "{ended}");
    assert!(pair.content(&pair.target).is_empty());
    // Epoch 3 gives the slots back; the source had never lost them.
    let back = MapPush {
        map: map(3, &pair.moved, SOURCE),
        handovers: vec![],
        yields: None,
    };
    pair.source.take_map(back, pair.clock).unwrap();
    assert_eq!(pair.source(&["GET", "a"]).unwrap(), "$1\r\n2\r\n");
}

#[test]
fn a_late_message_of_an_older_attempt_harms_nothing() {
    let mut pair = Pair::new("0-16383");
    pair.source(&["SET", "a", "1"]).unwrap();
    pair.begin();
    let old = Import {
        attempt: pair.attempt,
        slots: pair.moved.clone(),
        source: SOURCE,
        source_addr: "127.0.0.1:7001".into(),
    };
    pair.source.abort_attempt(old.attempt);
    pair.target.abort_attempt(old.attempt);
    assert_eq!(
        pair.target.begin_import(old.clone(), pair.clock),
        Ok(Outcome::Done)
    );
    let state = pair.target.import_settled(old.attempt).unwrap();
    assert_eq!(state.phase, ImportPhase::Unknown);
    pair.attempt = Attempt(5);
    pair.begin();
    pair.run_to_ready();
    let older = Import {
        attempt: Attempt(3),
        ..old
    };
    let refused = pair.target.begin_import(older, pair.clock).unwrap_err();
    assert!(refused.text().contains("too late"), "{}", refused.text());
    let ask = FeedAsk {
        attempt: pair.attempt,
        slots: pair.moved.clone(),
        target: TARGET,
    };
    let refused = pair.source.begin_feed(ask).unwrap_err();
    assert!(
        refused.text().contains("had its feed"),
        "{}",
        refused.text()
    );
    pair.hand_over();
    assert_eq!(pair.target(&["GET", "a"]).unwrap(), "$1\r\n1\r\n");
}

#[test]
fn a_map_that_is_pushed_again_is_taken_once() {
    let mut pair = Pair::new("0-16383");
    pair.begin();
    pair.run_to_ready();
    pair.hand_over();
    let again = MapPush {
        map: map(2, &pair.moved, TARGET),
        handovers: vec![pair.attempt],
        yields: None,
    };
    assert_eq!(pair.source.take_map(again, pair.clock), Ok(()));
    let older = MapPush {
        map: map(1, &pair.moved, SOURCE),
        handovers: vec![],
        yields: None,
    };
    let refused = pair.source.take_map(older, pair.clock).unwrap_err();
    assert_eq!(refused.text(), "STALE 2");
}

#[test]
fn the_target_owns_the_slots_once_the_source_has_given_them_up_without_the_topology_s_word() {
    let mut pair = Pair::new("0-16383");
    pair.source(&["SET", "a", "1"]).unwrap();
    pair.begin();
    pair.run_to_ready();
    let push = MapPush {
        map: map(2, &pair.moved, TARGET),
        handovers: vec![pair.attempt],
        yields: None,
    };
    pair.source.take_map(push.clone(), pair.clock).unwrap();
    assert_eq!(pair.produce(4096), Produced::Over);
    pair.take(usize::MAX).unwrap();
    assert_eq!(pair.target(&["GET", "a"]).unwrap(), "$1\r\n1\r\n");
    // The topology's own word comes late, and changes nothing.
    let to_target = MapPush {
        handovers: vec![],
        ..push
    };
    assert_eq!(pair.target.take_map(to_target, pair.clock), Ok(()));
}

#[test]
fn a_feed_that_only_loses_its_slots_sends_no_map() {
    let mut pair = Pair::new("0-16383");
    pair.begin();
    pair.run_to_ready();
    let push = MapPush {
        map: map(2, &pair.moved, TARGET),
        handovers: vec![],
        yields: None,
    };
    pair.source.take_map(push, pair.clock).unwrap();
    assert_eq!(pair.produce(4096), Produced::Over);
    assert!(pair.wire.is_empty());
}

#[test]
fn a_large_collection_travels_in_pieces_and_its_writes_come_after() {
    let mut pair = Pair::new("0-16383");
    let fields: Vec<String> = (0..40_000).map(|n| format!("f{n}")).collect();
    for chunk in fields.chunks(1000) {
        let mut args = vec!["HSET", "big"];
        for field in chunk {
            args.extend([field.as_str(), "v"]);
        }
        pair.source(&args).unwrap();
    }
    pair.source(&["PEXPIRE", "big", "100000"]).unwrap();
    pair.begin();
    // Until the key is on its way.
    while pair.source.feeds()[0].state().unwrap().keys_sent == 0 {
        pair.produce(1);
    }
    let longest = (0..20)
        .map(|_| {
            let before = pair.wire.len();
            pair.produce(1);
            pair.wire.len() - before
        })
        .max();
    assert!(longest < Some(40_000), "{longest:?}");
    pair.source(&["HSET", "big", "f7", "changed"]).unwrap();
    pair.source(&["HDEL", "big", "f8"]).unwrap();
    pair.run_to_ready();
    assert_eq!(pair.content(&pair.target), pair.content(&pair.source));
    pair.hand_over();
    assert_eq!(
        pair.target(&["HGET", "big", "f7"]).unwrap(),
        "$7\r\nchanged\r\n"
    );
    assert_eq!(pair.target(&["HLEN", "big"]).unwrap(), ":39999\r\n");
}

#[test]
fn the_target_waits_for_no_map_for_ever() {
    let mut pair = Pair::new("0-16383");
    pair.begin();
    pair.run_to_ready();
    assert_eq!(pair.target(&["GET", "a"]), Err(Outcome::Held));
    pair.clock.mono_ms += crate::call::ARRIVAL_WAIT_MS_MAX;
    assert_eq!(
        pair.target(&["GET", "a"]).unwrap(),
        "-MOVED 15495 127.0.0.1:7001\r\n"
    );
}

#[test]
fn a_lost_connection_voids_a_copy_and_leaves_a_ready_import() {
    let mut pair = Pair::new("0-16383");
    for n in 0..500 {
        pair.source(&["SET", &format!("k{n}"), "v"]).unwrap();
    }
    pair.begin();
    pair.produce(2000);
    pair.take(usize::MAX).unwrap();
    assert!(!pair.content(&pair.target).is_empty());
    pair.target.import_lost(pair.attempt, "gone");
    pair.source.feed_lost(pair.attempt);
    assert!(pair.content(&pair.target).is_empty());
    let state = pair.target.import_settled(pair.attempt).unwrap();
    assert_eq!(
        state.phase,
        ImportPhase::Failed {
            reason: "gone".into()
        }
    );
    pair.begin();
    pair.run_to_ready();
    pair.target.import_lost(pair.attempt, "gone");
    let state = pair.target.import_settled(pair.attempt).unwrap();
    assert!(
        matches!(state.phase, ImportPhase::Ready { .. }),
        "{state:?}"
    );
    assert_eq!(pair.content(&pair.target).len(), 500);
}

#[test]
fn what_was_handed_over_stays_until_the_topology_knows_and_is_there_when_it_is_given_back() {
    let mut pair = Pair::new("0-8191");
    for n in 0..100 {
        pair.source(&["SET", &format!("k{n}"), "v"]).unwrap();
    }
    let all = pair.content(&pair.source);
    assert!(!all.is_empty());
    let take = |pair: &mut Pair, epoch: u64, owner: NodeId, handovers: Vec<Attempt>| {
        let push = MapPush {
            map: map(epoch, &pair.moved, owner),
            handovers,
            yields: None,
        };
        pair.source.take_map(push, pair.clock).unwrap();
    };
    pair.begin();
    pair.run_to_ready();
    let attempt = pair.attempt;
    take(&mut pair, 2, TARGET, vec![attempt]);
    assert_eq!(pair.content(&pair.source), all);
    let visible = pair.source.databases.visible_len();
    assert_eq!(visible, 100 - all.len(), "nobody sees them");
    let named: Vec<Attempt> = pair
        .source
        .state(pair.clock)
        .feeds
        .iter()
        .map(|it| it.attempt)
        .collect();
    assert_eq!(named, [attempt]);
    // The answer was lost, and the target has dropped what it took.
    pair.target.abort_attempt(attempt);
    take(&mut pair, 3, SOURCE, vec![]);
    assert_eq!(pair.content(&pair.source), all);
    assert_eq!(pair.source.databases.visible_len(), 100);
    assert!(pair.source.state(pair.clock).feeds.is_empty());
    // This time it was heard: by word, and by the map after that.
    for (epoch, told) in [(4, true), (6, false)] {
        pair.begin();
        pair.run_to_ready();
        let attempt = pair.attempt;
        take(&mut pair, epoch, TARGET, vec![attempt]);
        match told {
            true => pair.source.abort_attempt(attempt),
            false => take(&mut pair, epoch + 1, TARGET, vec![]),
        }
        assert!(pair.content(&pair.source).is_empty());
        assert!(pair.source.state(pair.clock).feeds.is_empty());
        pair.target.abort_attempt(attempt);
        if told {
            // Another node may have had them since: what is given back later begins empty.
            take(&mut pair, epoch + 1, SOURCE, vec![]);
            assert!(pair.content(&pair.source).is_empty());
            for n in 0..100 {
                pair.source(&["SET", &format!("k{n}"), "v"]).unwrap();
            }
        }
    }
}

#[test]
fn a_target_takes_nothing_beyond_the_slots_of_the_move() {
    let mut pair = Pair::new("0-99");
    pair.begin();
    let foreign = OwnedRequest::from_args(["SET", "a", "1"]);
    let refused = pair
        .target
        .import_apply(pair.attempt, &foreign.view(), pair.clock)
        .unwrap_err();
    assert!(refused.contains("not within the slots"), "{refused}");
    assert_eq!(pair.target.databases.len(), 0);
}

#[test]
fn a_target_that_is_full_says_so_and_drops_what_it_took() {
    let mut pair = Pair::new("0-16383");
    let value = "x".repeat(1000);
    for n in 0..2000 {
        pair.source(&["SET", &format!("k{n}"), &value]).unwrap();
    }
    let limit = pair.target.databases.used_memory() + 500_000;
    pair.target.databases.set_maxmemory(limit);
    pair.begin();
    let full = loop {
        pair.produce(4096);
        if let Err(reason) = pair.take(usize::MAX) {
            break reason;
        }
        assert!(!pair.ready, "it all fitted");
    };
    assert!(full.starts_with("the target is full"), "{full}");
    assert!(pair.content(&pair.target).is_empty());
    let slot = Slot::new(5).unwrap();
    assert!(pair.moved.contains(slot));
}
