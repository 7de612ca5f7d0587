//! What came after Redis 7.0 and is neither a data type nor expiry of fields, beside a Valkey 9.1, where `bench/peers/fetch` has brought
//! one: random requests are answered alike.
//!
//! `LARDER_SEED=7` runs one seed, `LARDER_SEEDS=500` the first 500.

use larder_tests::chance::seeds;
use larder_tests::standalone::Standalone;
use larder_tests::{Chance, RedisServer, Reply};

/// Requests of one seed.
const STEPS: usize = 500;
/// Seeds that run when nothing else is said.
const SEEDS: u64 = 10;
/// Two servers that are asked one after the other may be this far apart in time, in milliseconds.
const SKEW_MS_MAX: i64 = 2000;

fn string_key(chance: &mut Chance) -> String {
    match chance.one_in(25) {
        true => "hash".to_owned(),
        false => format!("s{}", chance.below(4)),
    }
}

/// Few, so that they are met again; numbers are kept as such.
const VALUES: &[&str] = &[
    "a",
    "b",
    "12",
    "012",
    "-7",
    "longer-than-an-integer-could-ever-be",
];

const TIMES: &[&str] = &[
    "",
    "",
    "EX 1000",
    "PX 2000000",
    "EXAT 4102444800",
    "PXAT 4102444800000",
    "KEEPTTL",
    "EX 0",
    "EX x",
    "EX 10 KEEPTTL",
];

fn set(chance: &mut Chance) -> String {
    let condition = match chance.below(7) {
        0 => "NX".to_owned(),
        1 => "XX".to_owned(),
        2 => format!("NX IFEQ {}", chance.pick(VALUES)),
        3 => format!("IFEQ {} XX", chance.pick(VALUES)),
        4 => "IFEQ".to_owned(),
        _ => format!("IFEQ {}", chance.pick(VALUES)),
    };
    let get = if chance.one_in(3) { "GET" } else { "" };
    let (key, to) = (string_key(chance), chance.pick(VALUES));
    let time = chance.pick(TIMES);
    format!("SET {key} {to} {condition} {get} {time}")
}

fn msetex(chance: &mut Chance) -> String {
    let pairs = 1 + chance.below(3);
    let told = match chance.below(12) {
        0 => *chance.pick(&["0", "-1", "x", "9", "99999999999"]),
        _ => ["1", "2", "3"][pairs - 1],
    };
    let mut line = format!("MSETEX {told}");
    for _ in 0..pairs {
        line += &format!(" {} {}", string_key(chance), chance.pick(VALUES));
    }
    let condition = chance.pick(&["", "", "NX", "XX", "NX XX", "GET"]);
    format!("{line} {condition} {}", chance.pick(TIMES))
}

fn request(chance: &mut Chance) -> String {
    let member = format!("m{}", chance.below(5));
    match chance.below(16) {
        0..4 => set(chance),
        4..6 => format!("DELIFEQ {} {}", string_key(chance), chance.pick(VALUES)),
        6..9 => msetex(chance),
        9 => format!("GET {}", string_key(chance)),
        10 => format!("PTTL {}", string_key(chance)),
        11 => {
            let name = chance.pick(&["ZRANK", "ZREVRANK"]);
            format!("{name} zset {member} {}", chance.pick(&["WITHSCORE", ""]))
        }
        12 => format!("ZADD zset {} {member}", chance.below(9)),
        13 => {
            let options = [
                "NOVALUES",
                "NOSCORES",
                "NOVALUES MATCH f1*",
                "COUNT 100 NOVALUES",
                "",
            ];
            let words = chance.pick(&["HSCAN hash", "ZSCAN zset", "SSCAN set"]);
            format!("{words} 0 {}", chance.pick(&options))
        }
        14 => format!("XADD stream * field {}", chance.pick(VALUES)),
        _ => format!(
            "XREAD COUNT {} STREAMS {} {}",
            1 + chance.below(3),
            chance.pick(&["none stream", "stream s0", "stream none"]),
            chance.pick(&["+ +", "+ 0", "+ $"])
        ),
    }
}

/// Equal, but for ids of a stream's entries and the time between two questions.
fn alike(line: &str, one: &Reply, other: &Reply) -> bool {
    let values = |reply: &Reply| {
        let streams = reply.items();
        let entries = streams
            .iter()
            .flat_map(|stream| match stream.items().as_slice() {
                [_, entries] => entries.items(),
                _ => Vec::new(),
            });
        entries
            .map(|entry| entry.items().get(1).cloned())
            .collect::<Vec<_>>()
    };
    match line.split(' ').next() {
        Some("PTTL") => match (one.as_int(), other.as_int()) {
            (Some(one), Some(other)) if one > 0 => (one - other).abs() <= SKEW_MS_MAX,
            (one, other) => one == other,
        },
        Some("XADD") => one.is_error() == other.is_error(),
        Some("XREAD") if !one.is_error() && !other.is_error() => values(one) == values(other),
        Some(_) | None => one == other,
    }
}

#[test]
fn a_node_answers_as_valkey_does_where_redis_7_0_has_no_answer() {
    let Some(program) = RedisServer::valkey_program() else {
        eprintln!("no Valkey here (bench/peers/fetch brings one): nothing compared");
        return;
    };
    let valkey = RedisServer::start_program(&program, &[]);
    let node = Standalone::start();
    let (mut valkey, mut larder) = (valkey.client(), node.client());
    for seed in seeds(SEEDS) {
        let mut chance = Chance::from_seed(seed);
        for server in [&mut valkey, &mut larder] {
            server.run("FLUSHALL");
            server.run("HSET hash f1 v1 f2 v2 f11 v3");
            server.run("SADD set a b");
        }
        for _ in 0..STEPS {
            let line = request(&mut chance);
            let (one, other) = (valkey.run(&line), larder.run(&line));
            assert!(
                alike(&line, &one, &other),
                "seed {seed} (LARDER_SEED={seed} runs it alone): {line}\n  valkey {one}\n  larder {other}",
            );
        }
    }
    let keys = "COMMAND GETKEYS MSETEX 2 a 1 b 2 EX 10";
    assert_eq!(valkey.run(keys), larder.run(keys));
}
