//! Fields of hashes that expire: what commands answer (as Valkey 9.1 answers them), what goes by itself, what memory is counted.

use larder_wire::UnixMillis;
use larder_wire::command::{Found, lookup};
use larder_wire::resp::{OwnedRequest, Protocol, ReplyWriter};

use crate::call::{Call, Effects};
use crate::exec::dispatch;
use crate::keyspace::Keyspace;
use crate::random::Random;

/// Runs a line at a time; its reply in one line, and its effects.
fn run(keyspace: &mut Keyspace, line: &str, now: i64) -> (String, Vec<String>) {
    let request = OwnedRequest::from_args(line.split(' ').collect::<Vec<_>>());
    let view = request.view();
    let Found::Command(id) = lookup(view.name(), view.get(1)) else {
        panic!("{line} is no command")
    };
    let (mut out, mut effects) = (Vec::new(), Effects::default());
    let done = dispatch(id).expect("a command of the store")(&mut Call {
        keyspace,
        request: view,
        first_key: None,
        now: UnixMillis(now),
        reply: ReplyWriter::new(&mut out, Protocol::Resp2),
        effects: &mut effects,
        random: &mut Random::new(1),
    });
    let texts = effects.iter(view).map(|effect| {
        let words: Vec<_> = effect.args_from(0).map(String::from_utf8_lossy).collect();
        words.join(" ")
    });
    let texts: Vec<String> = texts.collect();
    match done {
        Ok(()) => (show(&out), texts),
        Err(refusal) => {
            assert!(texts.is_empty(), "refused with an effect: {line}");
            (refusal.text().to_owned(), texts)
        }
    }
}

/// A reply without its framing.
fn show(reply: &[u8]) -> String {
    let text = String::from_utf8_lossy(reply);
    let mut shown = Vec::new();
    let mut lines = text.split("\r\n");
    while let Some(line) = lines.next() {
        match line.split_at_checked(1) {
            Some(("$", "-1")) => shown.push("nil"),
            Some(("$", _)) => shown.extend(lines.next()),
            Some(("*", "0")) => shown.push("empty"),
            Some((":" | "+", rest)) => shown.push(rest),
            Some(_) | None => {}
        }
    }
    shown.join(" ")
}

/// `@ <ms>` sets the time; the replies are those of a Valkey 9.1.2, which takes times up to another limit and may find a field that is
/// due still counted by HLEN and EXISTS.
const STORY: &[(&str, &str)] = &[
    ("@ 1000", ""),
    ("HSET h a 1 b 2 c 3", "3"),
    ("HEXPIRE h 100 FIELDS 2 a zz", "1 -2"),
    ("HEXPIRE nokey 100 FIELDS 1 a", "-2"),
    ("HEXPIRE h 100 NX FIELDS 1 a", "0"),
    ("HEXPIRE h 100 XX FIELDS 2 a b", "1 0"),
    ("HEXPIRE h 50 GT FIELDS 1 a", "0"),
    ("HEXPIRE h 150 GT FIELDS 2 a b", "1 0"),
    ("HEXPIRE h 150 LT FIELDS 2 a b", "0 1"),
    ("HTTL h FIELDS 4 a b c zz", "150 150 -1 -2"),
    ("HPTTL h FIELDS 1 a", "150000"),
    ("HPEXPIRETIME h FIELDS 1 a", "151000"),
    ("HEXPIRETIME h FIELDS 1 a", "151"),
    ("OBJECT ENCODING h", "hashtable"),
    ("HPERSIST h FIELDS 3 a b zz", "1 1 -2"),
    ("HPERSIST h FIELDS 2 a c", "-1 -1"),
    ("HPERSIST nokey FIELDS 2 a b", "-2 -2"),
    ("HTTL nokey FIELDS 2 a b", "-2 -2"),
    // Syntax.
    (
        "HEXPIRE h 100 FIELDS 1 a GT",
        "ERR numfields should be greater than 0 and match the provided number of fields",
    ),
    (
        "HEXPIRE h 100 GT LT FIELDS 1 a",
        "ERR GT and LT options at the same time are not compatible",
    ),
    (
        "HEXPIRE h 100 NX GT FIELDS 0 a",
        "ERR NX and XX, GT or LT options at the same time are not compatible",
    ),
    (
        "HEXPIRE h 100 NX GT BLA FIELDS 1 a",
        "ERR Unsupported option BLA",
    ),
    ("HEXPIRE h 100 BLA FIELDS x a", "ERR Unsupported option BLA"),
    (
        "HEXPIRE h 100 FIELDS x a",
        "ERR value is not an integer or out of range",
    ),
    (
        "HEXPIRE h 100 FIELDS 0 a",
        "ERR numfields should be greater than 0 and match the provided number of fields",
    ),
    (
        "HEXPIRE h 100 FIELD 1 a",
        "ERR numfields should be greater than 0 and match the provided number of fields",
    ),
    (
        "HEXPIRE h abc FIELDS 1 a",
        "ERR value is not an integer or out of range",
    ),
    (
        "HEXPIRE h -1 FIELDS 1 a",
        "ERR invalid expire time in 'hexpire' command",
    ),
    (
        "HPEXPIRE h -5 FIELDS 1 a",
        "ERR invalid expire time in 'hpexpire' command",
    ),
    (
        "HEXPIREAT h 9223372036854775 FIELDS 1 a",
        "ERR invalid expire time in 'hexpireat' command",
    ),
    (
        "HEXPIRE h 9223372036854775807 FIELDS 1 a",
        "ERR invalid expire time in 'hexpire' command",
    ),
    ("HTTL h FIELDS 0 a", "ERR syntax error"),
    ("HTTL h FIELDS 2 a", "ERR syntax error"),
    (
        "HTTL h FIELDS x a",
        "ERR value is not an integer or out of range",
    ),
    ("HTTL h FIELD 1 a", "ERR syntax error"),
    ("HPERSIST h FIELD 1 a", "ERR syntax error"),
    (
        "HPERSIST h FIELDS 2 a",
        "ERR numfields should be greater than 0 and match the provided number of fields",
    ),
    (
        "HGETDEL h FIELDS 3 a b",
        "ERR numfields should be greater than 0 and match the provided number of fields",
    ),
    ("HGETDEL h x FIELDS 1 a", "ERR syntax error"),
    ("HGETEX h EX 10 PX 10 FIELDS 1 b", "ERR syntax error"),
    ("HGETEX h EX 10 PERSIST FIELDS 1 b", "ERR syntax error"),
    ("HGETEX h KEEPTTL FIELDS 1 b", "ERR syntax error"),
    ("HGETEX h EX FIELDS 1 b", "ERR syntax error"),
    (
        "HGETEX h EX 10 b 1 1",
        "ERR numfields should be greater than 0 and match the provided number of fields",
    ),
    (
        "HGETEX h EX -1 FIELDS 1 a",
        "ERR invalid expire time in 'hgetex' command",
    ),
    (
        "HGETEX nokey EX abc FIELDS 1 a",
        "ERR value is not an integer or out of range",
    ),
    ("HSETEX h FNX FXX FIELDS x a b", "ERR syntax error"),
    ("HSETEX h PERSIST FIELDS 1 a b", "ERR syntax error"),
    ("HSETEX h EX 20 KEEPTTL FIELDS 1 a b", "ERR syntax error"),
    (
        "HSETEX h EX 20 FIELDS 1 a",
        "ERR numfields should be greater than 0 and match the provided number of fields",
    ),
    (
        "HSETEX h FIELDS 9223372036854775807 a 1",
        "ERR numfields should be greater than 0 and match the provided number of fields",
    ),
    (
        "HSETEX h EX -1 FIELDS 1 a 4",
        "ERR invalid expire time in 'hsetex' command",
    ),
    ("SET s x", "OK"),
    (
        "HEXPIRE s abc FIELDS 1 a",
        "ERR value is not an integer or out of range",
    ),
    (
        "HEXPIRE s 1 FIELDS 1 a",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
    ),
    (
        "HTTL s FIELDS 1 a",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
    ),
    (
        "HGETEX s EX abc FIELDS 1 b",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
    ),
    (
        "HSETEX s EX x FIELDS 1 q 1",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
    ),
    (
        "HGETDEL s FIELDS 1 a",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
    ),
    // Times that have come.
    ("HGETALL h", "a 1 b 2 c 3"),
    ("HEXPIRE h 0 FIELDS 2 b zz", "2 -2"),
    ("HEXPIRE h 0 NX FIELDS 1 c", "2"),
    ("HGETALL h", "a 1"),
    ("HEXPIREAT h 1 FIELDS 1 a", "2"),
    ("EXISTS h", "0"),
    // Reading with a time.
    ("HSET h a 1 b 2 c 3", "3"),
    ("HGETEX h EX 100 FIELDS 2 a zz", "1 nil"),
    ("HTTL h FIELDS 1 a", "100"),
    ("HGETEX h FIELDS 1 a", "1"),
    ("HTTL h FIELDS 1 a", "100"),
    ("HGETEX h PERSIST PERSIST FIELDS 1 a", "1"),
    ("HTTL h FIELDS 1 a", "-1"),
    ("HGETEX h PXAT 1 FIELDS 1 a", "1"),
    ("HGETEX h EXAT 0 FIELDS 2 b b", "2 nil"),
    ("HGETALL h", "c 3"),
    ("HGETEX nokey EX 10 FIELDS 2 a b", "nil nil"),
    // Setting with a time.
    ("HSETEX h EX 100 FIELDS 1 a 2", "1"),
    ("HSETEX h KEEPTTL FIELDS 2 a 3 b 4", "1"),
    ("HTTL h FIELDS 2 a b", "100 -1"),
    ("HSETEX h FIELDS 1 a 5", "1"),
    ("HTTL h FIELDS 1 a", "-1"),
    ("HSETEX h FNX EX 10 FIELDS 2 a 3 new 4", "0"),
    ("HSETEX h FNX EX 10 FIELDS 2 new2 3 new 4", "1"),
    ("HSETEX h FXX EX 10 FIELDS 2 new2 4 new3 4", "0"),
    ("HSETEX h FXX EX 20 FIELDS 2 new2 4 new 4", "1"),
    ("HTTL h FIELDS 2 new new2", "20 20"),
    ("HSETEX h XX FIELDS 1 new 4", "1"),
    ("HSETEX h NX FIELDS 1 new 4", "0"),
    ("HSETEX nokey XX FIELDS 1 a 1", "0"),
    ("HSETEX nokey FXX EX 10 FIELDS 1 a 1", "0"),
    ("HSETEX nokey EXAT 1 FIELDS 1 a 1", "1"),
    ("EXISTS nokey", "0"),
    ("HSETEX h PXAT 1 FIELDS 2 new2 4 new9 4", "1"),
    ("HEXISTS h new2", "0"),
    ("HGETDEL h FIELDS 3 a a zz", "5 nil nil"),
    ("HGETDEL nokey FIELDS 2 a b", "nil nil"),
    ("HGETALL h", "c 3 b 4 new 4"),
    ("HGETDEL h FIELDS 3 b c new", "4 3 4"),
    ("EXISTS h", "0"),
    // What a write means for the time of a field.
    ("HSET h a 1 b 2", "2"),
    ("HPEXPIRE h 1400 FIELDS 1 a", "1"),
    ("HTTL h FIELDS 1 a", "1"),
    ("HPEXPIRE h 1600 FIELDS 1 a", "1"),
    ("HTTL h FIELDS 1 a", "2"),
    ("HINCRBY h a 1", "2"),
    ("HINCRBYFLOAT h a 1.5", "3.5"),
    ("HSETNX h a 9", "0"),
    ("HPTTL h FIELDS 1 a", "1600"),
    ("HMSET h a 1", "OK"),
    ("HTTL h FIELDS 1 a", "-1"),
    ("HPEXPIRE h 1000 FIELDS 1 a", "1"),
    ("HDEL h a", "1"),
    ("HSET h a 1", "1"),
    ("HTTL h FIELDS 1 a", "-1"),
    // Other ways to a field, before and after its time.
    ("HPEXPIRE h 1000 FIELDS 1 a", "1"),
    ("HSET h2 a 1 b 2", "2"),
    ("HPEXPIRE h2 1000 FIELDS 1 a", "1"),
    ("RENAME h2 h3", "OK"),
    ("RPUSH l h h3", "2"),
    ("SORT l BY nosort GET *->a GET *->b", "1 2 1 2"),
    ("HPTTL h3 FIELDS 1 a", "1000"),
    ("@ 2000", ""),
    ("HGET h a", "nil"),
    ("HGET h3 a", "nil"),
    ("SORT l BY nosort GET *->a GET *->b", "nil 2 nil 2"),
    ("HMGET h a b", "nil 2"),
    ("HGETALL h", "b 2"),
    ("HKEYS h", "b"),
    ("HVALS h", "2"),
    ("HLEN h", "1"),
    ("HEXISTS h a", "0"),
    ("HSTRLEN h a", "0"),
    ("HSCAN h 0", "0 b 2"),
    ("HRANDFIELD h", "b"),
    ("HRANDFIELD h 5", "b"),
    ("HTTL h FIELDS 1 a", "-2"),
    ("HDEL h a", "0"),
    ("HSETNX h a 7", "1"),
    ("HTTL h FIELDS 1 a", "-1"),
    ("HSETEX g PX 5 FIELDS 1 n 10", "1"),
    ("@ 2005", ""),
    ("HINCRBY g n 1", "1"),
    ("HTTL g FIELDS 1 n", "-1"),
    ("HPEXPIRE g 5 FIELDS 1 n", "1"),
    ("@ 2010", ""),
    ("HGETALL g", "empty"),
    ("EXISTS g", "0"),
];

#[test]
fn commands_answer_as_valkey_does() {
    let (mut keyspace, mut now) = (Keyspace::default(), 0);
    for (line, expected) in STORY {
        match line.strip_prefix("@ ") {
            Some(time) => now = time.parse().expect("a time"),
            None => assert_eq!(run(&mut keyspace, line, now).0, *expected, "{line}"),
        }
    }
}

#[test]
fn effects_do_not_depend_on_when_they_are_carried_out() {
    let mut keyspace = Keyspace::default();
    run(&mut keyspace, "HSET h a 1 b 2 c 3", 1000);
    for (line, effects) in [
        (
            "HEXPIRE h 1 FIELDS 2 a zz",
            &["HPEXPIREAT h 2000 FIELDS 1 a"][..],
        ),
        ("HEXPIRE h 1 NX FIELDS 1 a", &[]),
        ("HINCRBYFLOAT h a 1", &["HSETEX h KEEPTTL FIELDS 1 a 2"]),
        ("HINCRBYFLOAT h b 1", &["HSET h b 3"]),
        ("HPERSIST h FIELDS 1 b", &[]),
        (
            "HGETEX h PX 7 FIELDS 2 a b",
            &["HPEXPIREAT h 1007 FIELDS 2 a b"],
        ),
        (
            "HGETEX h PERSIST FIELDS 3 a b c",
            &["HPERSIST h FIELDS 2 a b"],
        ),
        ("HGETEX h FIELDS 1 a", &[]),
        ("HSETEX h FNX EX 1 FIELDS 1 a 1", &[]),
        (
            "HSETEX h FXX EX 1 FIELDS 1 a 1",
            &["HSETEX h PXAT 2000 FIELDS 1 a 1"],
        ),
        (
            "HSETEX h KEEPTTL FIELDS 1 a 2",
            &["HSETEX h KEEPTTL FIELDS 1 a 2"],
        ),
        ("HSETEX h FIELDS 1 a 2", &["HSETEX h FIELDS 1 a 2"]),
        ("HSETEX h PXAT 5 FIELDS 2 a 2 n 3", &["HDEL h a"]),
        ("HEXPIRE h 0 FIELDS 2 b zz", &["HDEL h b"]),
        ("HGETDEL h FIELDS 2 c zz", &["HDEL h c"]),
    ] {
        assert_eq!(run(&mut keyspace, line, 1000).1, effects, "{line}");
    }
    assert!(keyspace.is_empty());
}

#[test]
fn fields_that_go_by_themselves_are_reported_before_the_key_that_goes_with_them() {
    let mut keyspace = Keyspace::default();
    run(&mut keyspace, "HSETEX h PX 10 FIELDS 2 a 1 b 2", 0);
    run(&mut keyspace, "HSETEX h PX 20 FIELDS 1 c 3", 0);
    assert_eq!(run(&mut keyspace, "HGET h c", 10).0, "3");
    let gone = keyspace.take_gone_fields();
    assert_eq!(
        (gone.len(), &*gone[0].key, gone[0].emptied),
        (1, &b"h"[..], false)
    );
    assert_eq!(gone[0].fields, [Box::from(&b"a"[..]), Box::from(&b"b"[..])]);
    assert_eq!(keyspace.expire_fields(UnixMillis(19), 100).expired, 0);
    assert_eq!(keyspace.expire_fields(UnixMillis(20), 100).expired, 1);
    let gone = keyspace.take_gone_fields();
    assert!(gone[0].emptied && !keyspace.has_gone());
    assert!(keyspace.is_empty());
    assert_eq!(keyspace.stats().expired_fields, 3);
}

#[test]
fn the_cycle_takes_out_fields_that_nobody_asks_for_a_bounded_number_at_a_time() {
    let mut keyspace = Keyspace::default();
    for key in 0..50 {
        for field in 0..40 {
            let line = format!("HSETEX key{key} PXAT {} FIELDS 1 f{field} v", 100 + field);
            run(&mut keyspace, &line, 0);
        }
        run(&mut keyspace, &format!("HSET key{key} stays 1"), 0);
    }
    assert_eq!(keyspace.expire_fields(UnixMillis(99), 10).expired, 0);
    let mut turns = 0;
    loop {
        let swept = keyspace.expire_fields(UnixMillis(119), 10);
        assert!(swept.examined <= 10);
        if swept.expired == 0 {
            break;
        }
        turns += 1;
    }
    assert_eq!(turns, 50 * 20 / 10);
    assert_eq!(run(&mut keyspace, "HLEN key7", 119).0, "21");
    let visible = larder_wire::SlotSet::new();
    keyspace.set_visible(Some(visible));
    assert_eq!(
        keyspace.expire_fields(UnixMillis(500), 10).expired,
        0,
        "an import's fields wait"
    );
}

#[test]
fn a_hash_with_more_due_fields_than_a_look_takes_out_shows_none_of_them() {
    let mut keyspace = Keyspace::default();
    for field in 0..2000 {
        run(
            &mut keyspace,
            &format!("HSETEX h PXAT 10 FIELDS 1 f{field} v"),
            0,
        );
    }
    run(&mut keyspace, "HSET h stays 1 too 2", 0);
    for (line, reply) in [
        ("HLEN h", "2"),
        ("HRANDFIELD h -3", "stays too too"),
        ("HGET h f1999", "nil"),
        ("HSETNX h f1999 w", "1"),
        ("HLEN h", "3"),
        ("HDEL h f1998", "0"),
        ("HINCRBY h f1997 5", "5"),
    ] {
        let shown = run(&mut keyspace, line, 10).0;
        if line.starts_with("HRANDFIELD") {
            assert!(
                shown
                    .split(' ')
                    .all(|field| field == "stays" || field == "too"),
                "{shown}"
            );
        } else {
            assert_eq!(shown, reply, "{line}");
        }
    }
    let mut all: Vec<String> = run(&mut keyspace, "HKEYS h", 10)
        .0
        .split(' ')
        .map(str::to_owned)
        .collect();
    all.sort();
    assert_eq!(all, ["f1997", "f1999", "stays", "too"]);
}

#[test]
fn memory_is_counted_and_given_back() {
    let mut keyspace = Keyspace::default();
    let mut random = Random::new(11);
    let empty = keyspace.used_memory();
    let mut now = 0;
    for step in 0..6000 {
        let (key, field) = (random.below(20), random.below(60));
        let line = match random.below(16) {
            0..6 => format!(
                "HSETEX k{key} PX {} FIELDS 2 f{field} v g{field} w",
                random.below(400)
            ),
            6 => format!("HPERSIST k{key} FIELDS 1 f{field}"),
            7 => format!("HSET k{key} f{field} x"),
            8 => format!("HDEL k{key} f{field} g{field}"),
            9 => {
                // As COPY does.
                let to = format!("k{}", random.below(20)).into_bytes();
                if let Some(captured) = keyspace.capture(format!("k{key}").as_bytes()) {
                    let (value, expires) = (captured.value, captured.expires);
                    keyspace.insert(&to, value, expires, UnixMillis(now));
                }
                continue;
            }
            10 => format!("RENAME k{key} k{}", random.below(20)),
            11 => format!("SET k{key} x"),
            12 => format!("DEL k{key}"),
            13 => format!("HGETDEL k{key} FIELDS 1 f{field}"),
            14 => format!("HGETALL k{key}"),
            _ => format!("PEXPIRE k{key} {}", random.below(300)),
        };
        run(&mut keyspace, &line, now);
        now += random.below(5) as i64;
        if step % 50 == 0 {
            keyspace.expire_fields(UnixMillis(now), 30);
        }
    }
    keyspace.drop_slots(&larder_wire::SlotSet::full());
    while keyspace.free_some(10) {}
    while keyspace.tidy(100) {}
    assert_eq!(keyspace.used_memory(), empty);
}
