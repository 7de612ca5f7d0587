use larder_wire::command::{Found, lookup};
use larder_wire::resp::{OwnedRequest, Protocol, ReplyWriter};
use larder_wire::{Refusal, UnixMillis};

use crate::call::{Call, Effects};
use crate::exec::dispatch;
use crate::keyspace::Keyspace;
use crate::random::Random;

const NOW: i64 = 1_000_000;

/// Runs a line of words and returns its reply and its effects, as text.
fn run(keyspace: &mut Keyspace, line: &str) -> Result<(String, Vec<String>), Refusal> {
    let request = OwnedRequest::from_args(line.split(' ').collect::<Vec<_>>());
    let view = request.view();
    let Found::Command(id) = lookup(view.name(), view.get(1)) else {
        panic!("{line} is no command")
    };
    let (mut out, mut effects) = (Vec::new(), Effects::default());
    let mut call = Call {
        keyspace,
        request: view,
        first_key: None,
        now: UnixMillis(NOW),
        reply: ReplyWriter::new(&mut out, Protocol::Resp2),
        effects: &mut effects,
        random: &mut Random::new(1),
    };
    dispatch(id).expect("a command of the store")(&mut call)?;
    let words = |effect: larder_wire::resp::Request<'_>| -> String {
        let words: Vec<_> = effect.args_from(0).map(String::from_utf8_lossy).collect();
        words.join(" ")
    };
    let effects = effects.iter(view).map(words).collect();
    Ok((String::from_utf8_lossy(&out).into_owned(), effects))
}

#[test]
fn a_write_leaves_a_deterministic_effect_and_one_that_changes_nothing_leaves_none() {
    let mut keyspace = Keyspace::default();
    // Each line with its effects, in order.
    let story: &[(&str, &[&str])] = &[
        ("SET a 1", &["SET a 1"]),
        ("SET a 2 EX 10", &["SET a 2 PXAT 1010000"]),
        ("SET a 3 KEEPTTL", &["SET a 3 KEEPTTL"]),
        ("SET a 4 NX", &[]),
        ("SET nope 4 XX GET", &[]),
        ("SETNX a 5", &[]),
        ("SETEX b 5 x", &["SET b x PXAT 1005000"]),
        ("GETEX b PERSIST", &["PERSIST b"]),
        ("GETEX b PERSIST", &[]),
        ("GETEX b PX 7", &["PEXPIREAT b 1000007"]),
        ("GETEX b PXAT 5", &["DEL b"]),
        ("GETEX b PX 7", &[]),
        ("EXPIRE a 10", &["PEXPIREAT a 1010000"]),
        ("EXPIRE a 5 GT", &[]),
        ("EXPIRE nope 5", &[]),
        ("PERSIST a", &["PERSIST a"]),
        ("PERSIST a", &[]),
        ("INCR a", &["INCR a"]),
        ("INCRBYFLOAT a 0.5", &["SET a 4.5 KEEPTTL"]),
        ("GETDEL a", &["DEL a"]),
        ("GETDEL a", &[]),
        ("MSET {t}a 1 {t}b 2", &["MSET {t}a 1 {t}b 2"]),
        // No effect spans slots.
        ("MSET a 1 b 2", &["SET a 1", "SET b 2"]),
        ("MSETNX a 1 c 2", &[]),
        ("DEL a c b", &["DEL a", "DEL b"]),
        ("DEL {t}a {t}c", &["DEL {t}a"]),
        ("DEL {t}a", &[]),
        ("SETRANGE {t}b 5 ", &[]),
        ("SETBIT bits 5 0", &["SETBIT bits 5 0"]),
        ("SETBIT bits 5 0", &[]),
        ("BITFIELD bits SET u4 0 3", &["BITFIELD bits SET u4 0 3"]),
        ("BITFIELD bits SET u4 0 3", &[]),
        ("BITFIELD bits GET u4 0", &[]),
        ("BITOP AND none nope nope", &[]),
        ("BITOP AND bits nope nope", &["DEL bits"]),
        ("PFADD hll a b", &["PFADD hll a b"]),
        ("PFADD hll a", &[]),
        // What PFCOUNT keeps in the string is no effect.
        ("PFCOUNT hll", &[]),
        ("PFMERGE hll hll", &["PFMERGE hll hll"]),
        ("GEOADD {t}geo 13.5 38.5 a", &["GEOADD {t}geo 13.5 38.5 a"]),
        ("GEOADD {t}geo 13.5 38.5 a", &[]),
        ("GEOSEARCH {t}geo FROMMEMBER a BYRADIUS 1 m", &[]),
        (
            "GEOSEARCHSTORE {t}near {t}geo FROMMEMBER a BYRADIUS 1 m",
            &["GEOSEARCHSTORE {t}near {t}geo FROMMEMBER a BYRADIUS 1 m"],
        ),
        ("GEORADIUS {t}none 1 1 1 m STORE {t}nope", &[]),
        ("RPUSH {t}l 3 1 2", &["RPUSH {t}l 3 1 2"]),
        ("SORT {t}l STORE {t}m", &["RPUSH {t}m 1 2 3"]),
        ("SORT {t}nope STORE {t}m", &["DEL {t}m"]),
        ("RENAME {t}l {t}l", &[]),
        ("RENAME {t}l {t}m", &["RENAME {t}l {t}m"]),
        ("EXPIRE {t}m -1", &["DEL {t}m"]),
    ];
    for (line, expected) in story {
        let (_, effects) = run(&mut keyspace, line).expect(line);
        assert_eq!(effects, *expected, "{line}");
    }
}

#[test]
fn a_scan_meets_every_key_once_and_ends_within_its_slots() {
    let mut keyspace = Keyspace::default();
    for key in 0..500 {
        run(&mut keyspace, &format!("SET key:{key} x")).expect("set");
        run(&mut keyspace, &format!("SET {{t}}{key} x")).expect("set");
    }
    let scan = |keyspace: &mut Keyspace, rest: &str| {
        let (mut cursor, mut keys) = ("0".to_string(), Vec::new());
        loop {
            let (reply, _) = run(keyspace, &format!("SCAN {cursor}{rest}")).expect("scan");
            let words: Vec<&str> = reply
                .split("\r\n")
                .filter(|w| !w.starts_with(['*', '$']))
                .collect();
            cursor = words[0].to_string();
            keys.extend(
                words[1..]
                    .iter()
                    .filter(|w| !w.is_empty())
                    .map(|w| w.to_string()),
            );
            if cursor == "0" {
                return keys;
            }
        }
    };
    let mut all = scan(&mut keyspace, "");
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 1000);
    let slot = larder_wire::slot_of(b"{t}");
    let tagged = scan(&mut keyspace, &format!(" COUNT 7 SLOTS {slot}"));
    assert_eq!(
        tagged.iter().filter(|key| key.starts_with("{t}")).count(),
        500
    );
    assert!(
        tagged
            .iter()
            .all(|key| larder_wire::slot_of(key.as_bytes()) == slot)
    );
    assert_eq!(scan(&mut keyspace, " MATCH key:7? TYPE string").len(), 10);
    assert_eq!(scan(&mut keyspace, " TYPE hash").len(), 0);
}
