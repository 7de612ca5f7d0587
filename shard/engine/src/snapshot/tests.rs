//! Snapshots beside random writes, by seed: what a file says is what the data were at its moment.

use std::collections::BTreeMap;

use larder_store::rdb::{self, LoadError, Loader};
use larder_store::{Db, Place, Random, Tray};
use larder_wire::resp::OwnedRequest;
use larder_wire::trust::Trust;
use larder_wire::{NodeId, Slot};

use super::Produced;
use crate::clock::Clock;
use crate::node::{Node, NodeSettings};
use crate::session::Session;
use crate::turn::Outcome;

const SEEDS: u64 = 20;
/// Bytes produced between two writes.
const STEP_BYTES: usize = 700;

struct World {
    node: Node,
    client: Session,
    clock: Clock,
    random: Random,
}

/// Every key with its database, its value as DUMP gives it, and its expiry.
type Contents = BTreeMap<(Db, Vec<u8>), (Vec<u8>, Option<i64>)>;

fn contents(node: &Node, clock: Clock) -> Contents {
    let mut contents = Contents::new();
    for (db, space) in node.databases.iter() {
        for slot in Slot::all() {
            space.walk_slot(slot, Place::START, usize::MAX, |item| {
                if !item.is_due(clock.now()) {
                    // Through the payload twice: how a collection came to be does not show in the second.
                    let mut payload = Vec::new();
                    rdb::to_payload(item.value(&mut Tray::default()), &mut payload);
                    let settings = node.databases.collections();
                    let value = rdb::from_payload(&payload, &settings).expect("its own payload");
                    payload.clear();
                    rdb::to_payload(value.view(), &mut payload);
                    let expires = item.expires().map(|at| at.0);
                    contents.insert((db, item.key().to_vec()), (payload, expires));
                }
            });
        }
    }
    contents
}

impl World {
    fn new(seed: u64) -> World {
        let id = NodeId::from_bytes([3; 20]);
        let mut node = Node::new(NodeSettings {
            id,
            run_id: id,
            standalone: true,
            addr: "127.0.0.1:1".to_string(),
            port: 1,
            secret: None,
            maxmemory: 0,
            hash_seed: 7,
            random_seed: seed,
        });
        let clock = Clock {
            unix_us: 1_700_000_000_000_000,
            mono_ms: 10,
        };
        let mut client = node.open_session("c:1".into(), "s:1".into(), clock);
        client.set_trust(Trust::Stranger, node.acl.default_user());
        World {
            node,
            client,
            clock,
            random: Random::new(seed),
        }
    }

    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let request = OwnedRequest::from_args(words);
        let mut reply = Vec::new();
        let _ = self
            .node
            .call(&mut self.client, request.view(), self.clock, &mut reply);
        String::from_utf8_lossy(&reply).into_owned()
    }

    fn key(&mut self) -> String {
        format!("key:{}", self.random.below(60))
    }

    fn write(&mut self) {
        let (key, other) = (self.key(), self.key());
        let (n, m) = (self.random.below(1000), self.random.below(600));
        let line = match self.random.below(22) {
            0 | 1 => format!("SET {key} value:{n}"),
            2 => format!("SET {key} {n} PX {}", 1 + m * 10),
            3 => format!("APPEND {key} {}", "tail".repeat(m)),
            4 | 5 => format!("HSET {key} field:{m} value:{n}"),
            6 => format!("HPEXPIRE {key} {} FIELDS 1 field:{m}", 1 + n * 10),
            7 => format!("RPUSH {key} element:{n} {}", "x".repeat(m)),
            8 => format!("LPOP {key} {}", 1 + m / 20),
            9 | 10 => format!("SADD {key} member:{n} {m}"),
            11 | 12 => format!("ZADD {key} {n}.5 member:{m}"),
            13 => format!("XADD {key} * field value:{n}"),
            14 => format!("XGROUP CREATE {key} group:{} 0 MKSTREAM", m % 3),
            15 => format!(
                "XREADGROUP GROUP group:{} me COUNT 3 STREAMS {key} >",
                m % 3
            ),
            16 => format!("DEL {key}"),
            17 => format!("RENAME {key} {other}"),
            18 => format!("COPY {key} {other} DB {} REPLACE", m % 3),
            19 => format!("MOVE {key} {}", m % 3),
            20 => format!("EVAL return(redis.call('SET',KEYS[1],ARGV[1])) 1 {key} {n}"),
            _ => format!("SELECT {}", m % 3),
        };
        self.run(&line);
        self.clock.unix_us += 1000;
        self.clock.mono_ms += 1;
    }

    /// Collections beyond the size that goes out in one piece.
    fn write_large(&mut self) {
        for n in 0..1500 {
            self.run(&format!("HSET key:1 field:{n} value:{n}"));
            self.run(&format!("ZADD key:2 {n} member:{n}"));
            self.run(&format!("SADD key:3 member:{n}"));
            self.run(&format!("RPUSH key:4 element:{n} {}", "y".repeat(20)));
            self.run(&format!("XADD key:5 {}-1 field value:{n}", n + 1));
        }
        self.run("HPEXPIRE key:1 1000000 FIELDS 2 field:7 field:900");
        self.run("XGROUP CREATE key:5 readers 0");
        self.run("XREADGROUP GROUP readers me COUNT 300 STREAMS key:5 >");
    }
}

/// A node with what the file says.
fn loaded(file: &[u8], clock: Clock) -> Result<Node, LoadError> {
    let mut world = World::new(1);
    let mut rest = file;
    // Reads of a few bytes meet every edge.
    let more = |buffer: &mut Vec<u8>| {
        let (now, later) = rest.split_at(rest.len().min(97));
        buffer.extend_from_slice(now);
        rest = later;
        Ok(())
    };
    let mut loader = Loader::open(more)?;
    while world.node.load_some(&mut loader, clock)? {}
    Ok(world.node)
}

fn assert_same(seed: u64, made: &Contents, meant: &Contents) {
    for (key, value) in meant {
        assert!(made.get(key) == Some(value), "seed {seed}: {key:?}");
    }
    let extra: Vec<_> = made.keys().filter(|key| !meant.contains_key(key)).collect();
    assert!(
        extra.is_empty(),
        "seed {seed}: {extra:?} should not be there"
    );
}

#[test]
fn a_file_has_the_data_of_one_moment_whatever_is_written_while_it_is_made() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        world.write_large();
        for _ in 0..600 {
            world.write();
        }
        let moment = world.clock;
        let meant = contents(&world.node, moment);
        world.node.begin_save_to_nowhere(moment);
        let mut file = Vec::new();
        loop {
            match world.node.produce_save(STEP_BYTES, &mut file) {
                Some(Produced::More) => {}
                Some(Produced::Done) => break,
                other => panic!("seed {seed}: {other:?}"),
            }
            for _ in 0..3 {
                world.write();
            }
        }
        let node = loaded(&file, moment).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        assert_same(seed, &contents(&node, moment), &meant);
    }
}

#[test]
fn keys_that_change_place_in_bulk_make_the_snapshot_begin_anew() {
    for bulk in ["FLUSHALL", "FLUSHDB", "SWAPDB 0 2"] {
        let mut world = World::new(5);
        for _ in 0..600 {
            world.write();
        }
        world.node.begin_save_to_nowhere(world.clock);
        let mut file = Vec::new();
        assert_eq!(
            world.node.produce_save(STEP_BYTES, &mut file),
            Some(Produced::More)
        );
        world.run("SELECT 1");
        assert_eq!(world.run(bulk), "+OK\r\n");
        let (moment, meant) = (world.clock, contents(&world.node, world.clock));
        world.write();
        file.clear();
        assert_eq!(
            world.node.produce_save(1, &mut file),
            Some(Produced::Anew),
            "{bulk}"
        );
        while world.node.produce_save(STEP_BYTES, &mut file) == Some(Produced::More) {}
        let node = loaded(&file, moment).expect("a whole file");
        assert_same(5, &contents(&node, moment), &meant);
    }
}

#[test]
fn a_file_that_was_cut_or_changed_is_refused_with_the_place() {
    let mut world = World::new(6);
    for _ in 0..300 {
        world.write();
    }
    world.node.begin_save_to_nowhere(world.clock);
    let mut file = Vec::new();
    while world.node.produce_save(STEP_BYTES, &mut file) == Some(Produced::More) {}
    for _ in 0..150 {
        let cut = world.random.below(file.len());
        let fault = loaded(&file[..cut], world.clock)
            .err()
            .expect("a cut file is refused");
        assert!(fault.offset <= cut as u64, "{fault}");
        let mut changed = file.clone();
        let at = world.random.below(file.len());
        changed[at] ^= 1 << world.random.below(8);
        assert!(
            loaded(&changed, world.clock).is_err(),
            "byte {at} was changed"
        );
    }
}

#[test]
fn a_string_longer_than_the_backlog_may_be_is_saved() {
    let mut world = World::new(8);
    let long = "v".repeat(super::BACKLOG_BYTES_MAX + 1);
    world.run(&format!("SET long {long}"));
    world.node.begin_save_to_nowhere(world.clock);
    let mut file = Vec::new();
    while world.node.produce_save(STEP_BYTES, &mut file) == Some(Produced::More) {}
    let node = loaded(&file, world.clock).expect("a whole file");
    assert_eq!(node.databases.len(), 1);
}

#[test]
fn what_is_pending_in_a_stream_is_saved_in_small_pieces() {
    const PIECE_BYTES_MAX: usize = 80 * 1024;
    let mut world = World::new(10);
    for n in 1..=20_000 {
        world.run(&format!("XADD key:1 {n}-1 field {n}"));
    }
    for group in ["empty", "one", "many"] {
        world.run(&format!("XGROUP CREATE key:1 {group} 0"));
    }
    world.run("XREADGROUP GROUP one me COUNT 20000 STREAMS key:1 >");
    for consumer in 0..400 {
        world.run(&format!(
            "XREADGROUP GROUP many consumer:{consumer} COUNT 50 STREAMS key:1 >"
        ));
    }
    // Pending, and there no more.
    world.run("XTRIM key:1 MAXLEN 10");
    let meant = contents(&world.node, world.clock);
    world.node.begin_save_to_nowhere(world.clock);
    let (mut file, mut pieces) = (Vec::new(), 0);
    loop {
        let before = file.len();
        let produced = world.node.produce_save(STEP_BYTES, &mut file);
        let bytes = file.len() - before;
        assert!(bytes <= PIECE_BYTES_MAX, "a piece of {bytes} bytes");
        pieces += 1;
        if produced == Some(Produced::Done) {
            break;
        }
        assert_eq!(produced, Some(Produced::More));
    }
    assert!(pieces > 20, "{pieces} pieces of {} bytes", file.len());
    let node = loaded(&file, world.clock).expect("a whole file");
    assert_same(10, &contents(&node, world.clock), &meant);
}

#[test]
fn a_node_that_is_shut_down_while_it_loads_leaves_its_file_alone() {
    let mut world = World::new(9);
    world.node.begin_loading(1000, world.clock);
    let request = OwnedRequest::from_args(["SHUTDOWN", "SAVE"]);
    let mut reply = Vec::new();
    let outcome = world
        .node
        .call(&mut world.client, request.view(), world.clock, &mut reply);
    // With a save it would be refused: there is nowhere to save to.
    assert_eq!(outcome, Outcome::Shutdown);
}

#[test]
fn copies_that_nobody_writes_to_a_slow_disk_end_the_save() {
    let mut world = World::new(7);
    let long = "v".repeat(1 << 20);
    for n in 0..70 {
        world.run(&format!("SET long:{n} {long}"));
    }
    world.node.begin_save_to_nowhere(world.clock);
    for n in 0..70 {
        world.run(&format!("SET long:{n} short"));
    }
    let mut file = Vec::new();
    assert_eq!(
        world.node.produce_save(STEP_BYTES, &mut file),
        Some(Produced::TooSlow)
    );
}

#[test]
fn a_save_keeps_up_with_clients_that_write_as_fast_as_they_can() {
    let mut world = World::new(8);
    let value = "v".repeat(380);
    for n in 0..20_000 {
        world.run(&format!("SET k:{n} {value}"));
    }
    world.node.begin_save_to_nowhere(world.clock);
    let (mut turns, mut waiting) = (0, 0);
    let mut file = Vec::new();
    while world.node.produce_save(64 * 1024, &mut file) == Some(Produced::More) {
        turns += 1;
        // Fifty clients, each with one request at a time.
        for n in 0..50 {
            world.run(&format!(
                "SET k:{} short",
                (turns * 7919 + n * 104_729) % 20_000
            ));
        }
        let snapshot = world.node.snapshot_under_way().expect("it goes on");
        waiting = waiting.max(snapshot.queued_bytes);
    }
    // Never more than one turn's captures.
    assert!(waiting <= 50 * value.len(), "{waiting}");
    assert!(turns < 20_000 * 500 / (64 * 1024), "{turns}");
}
