//! Files that end anywhere: what is taken in is what was whole, and no more.

use larder_store::Db;
use larder_wire::replication::Place;
use larder_wire::resp::OwnedRequest;
use larder_wire::trust::Trust;
use larder_wire::{History, NodeId, Offset};

use super::load::ReplayError;
use super::read::place_remark;
use crate::clock::Clock;
use crate::journal::write_command;
use crate::node::{Node, NodeSettings};

const CLOCK: Clock = Clock {
    unix_us: 1_700_000_000_000_000,
    mono_ms: 10,
};

fn node() -> Node {
    let id = NodeId::from_bytes([3; 20]);
    Node::new(NodeSettings {
        id,
        run_id: id,
        standalone: true,
        addr: "127.0.0.1:1".to_string(),
        port: 1,
        secret: None,
        maxmemory: 0,
        hash_seed: 7,
        random_seed: 7,
    })
}

fn ask(node: &mut Node, line: &str) -> String {
    let mut client = node.open_session("c:1".into(), "s:1".into(), CLOCK);
    client.set_trust(Trust::Stranger, node.acl.default_user());
    let words: Vec<&str> = line.split_whitespace().collect();
    let request = OwnedRequest::from_args(words);
    let mut reply = Vec::new();
    let _ = node.call(&mut client, request.view(), CLOCK, &mut reply);
    node.close_session(&mut client);
    String::from_utf8_lossy(&reply).into_owned()
}

/// The bytes that are whole, and the place that the file says for them.
fn load(node: &mut Node, file: &[u8]) -> Result<(u64, Option<Place>), ReplayError> {
    let mut replay = node.begin_replay(0, CLOCK);
    let (mut at, mut shown) = (0, 0);
    // Reads of a few bytes meet every edge.
    while shown < file.len() {
        shown = file.len().min(shown + 13);
        loop {
            let taken = node.replay_some(&mut replay, &file[at..shown], CLOCK)?;
            at += taken;
            if taken == 0 {
                break;
            }
        }
    }
    let loaded = (replay.whole(), replay.place());
    node.end_replay(replay);
    Ok(loaded)
}

fn write(file: &mut Vec<u8>, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    write_command(file, words);
}

#[test]
fn bytes_of_anothers_journal_are_of_the_database_that_the_file_says() {
    let start = Place {
        history: History(NodeId::from_bytes([9; 20])),
        offset: Offset(1000),
    };
    let (one, three, five) = (Db::new(1), Db::new(3), Db::new(5));
    // What the remark says, what follows, where the key is then, what is known by the end.
    let table = [
        (None, "SET a 1", Db::ZERO, None),
        (three, "SET a 1", three.unwrap(), three),
        (None, "SELECT 5", Db::ZERO, five),
        (three, "SELECT 1", Db::ZERO, one),
    ];
    for (said, line, at, known) in table {
        let mut file = place_remark(start, said);
        write(&mut file, line);
        let mut node = node();
        let mut replay = node.begin_replay(0, CLOCK);
        let mut taken = 0;
        while taken < file.len() {
            taken += node
                .replay_some(&mut replay, &file[taken..], CLOCK)
                .unwrap();
        }
        assert_eq!(replay.place_db(), known, "{said:?} {line}");
        node.end_replay(replay);
        let there = node
            .databases
            .get(at)
            .and_then(|space| space.capture("a".as_bytes()));
        assert_eq!(there.is_some(), line.starts_with("SET"), "{said:?} {line}");
    }
}

#[test]
fn a_file_that_was_cut_anywhere_gives_what_was_whole_by_there() {
    let start = Place {
        history: History(NodeId::from_bytes([9; 20])),
        offset: Offset(1000),
    };
    let mut file = place_remark(start, None);
    let remark = file.len();
    // Ends of what is whole, and how often was counted by then.
    let mut ends = vec![(0, 0), (remark, 0)];
    write(&mut file, "SELECT 0");
    ends.push((file.len(), 0));
    for n in 1..12 {
        if n % 3 == 0 {
            write(&mut file, "MULTI");
            write(&mut file, "INCR counted");
            write(&mut file, "INCR twice");
            write(&mut file, "EXEC");
        } else {
            write(&mut file, "INCR counted");
        }
        ends.push((file.len(), n));
    }
    for cut in 0..=file.len() {
        let mut node = node();
        let (whole, place) = load(&mut node, &file[..cut]).expect("what is cut is no fault");
        let (end, counted) = *ends.iter().rev().find(|(end, _)| *end <= cut).expect("0");
        assert_eq!(whole, end as u64, "cut at {cut}");
        let meant = (end >= remark).then(|| Place {
            offset: Offset(start.offset.0 + (end - remark) as u64),
            ..start
        });
        assert_eq!(place, meant, "cut at {cut}");
        let reply = ask(&mut node, "INCRBY counted 0");
        assert_eq!(reply, format!(":{counted}\r\n"), "cut at {cut}");
        let reply = ask(&mut node, "INCRBY twice 0");
        assert_eq!(reply, format!(":{}\r\n", counted / 3), "cut at {cut}");
    }
}

#[test]
fn a_changed_byte_is_told_with_the_place_of_its_command() {
    let mut file = Vec::new();
    write(&mut file, "SET a 1");
    let first = file.len();
    write(&mut file, "SET b 2");
    let mut wrong = file.clone();
    wrong[first] = b'+';
    let fault = load(&mut node(), &wrong).expect_err("a wrong byte");
    assert_eq!(fault.offset, first as u64);
    let mut wrong = file.clone();
    write(&mut wrong, "LPUSH a 1");
    let fault = load(&mut node(), &wrong).expect_err("a wrong type");
    assert_eq!(fault.offset, file.len() as u64);
    assert!(
        fault.what.contains("LPUSH is refused: WRONGTYPE"),
        "{fault}"
    );
}

#[test]
fn a_keys_time_decides_nothing_while_the_file_is_taken_in() {
    let mut file = Vec::new();
    // It was over long before the load, and was still there when it was appended to.
    write(&mut file, "SET long-over value PXAT 1000");
    write(&mut file, "APPEND long-over more");
    write(&mut file, "SET kept value PXAT 1000");
    write(&mut file, "PERSIST kept");
    let mut node = node();
    load(&mut node, &file).expect("a whole file");
    assert_eq!(ask(&mut node, "GET long-over"), "$-1\r\n");
    assert_eq!(ask(&mut node, "GET kept"), "$5\r\nvalue\r\n");
}
