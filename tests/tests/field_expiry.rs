//! Fields of hashes that expire, on a larder node and on a Valkey 9, where `bench/peers/fetch` has brought one: random requests are
//! answered alike, and what one dumps the other restores.
//!
//! Without a Valkey there is nothing to compare with, and nothing fails: what it answers is also written down beside the store.

use larder_tests::chance::seeds;
use larder_tests::standalone::Standalone;
use larder_tests::{Chance, Client, RedisServer, Reply};

/// Requests of one seed.
const STEPS: usize = 600;
/// Seeds that run when nothing else is said.
const SEEDS: u64 = 10;
/// Two servers that are asked one after the other may be this far apart in time, in milliseconds.
const SKEW_MS_MAX: i64 = 2000;

fn fields(chance: &mut Chance, width: usize) -> String {
    let count = 1 + chance.below(3);
    let mut text = format!("FIELDS {}", if chance.one_in(25) { 7 } else { count });
    for _ in 0..count * width {
        text += &format!(" f{}", chance.below(6));
    }
    text
}

fn time(chance: &mut Chance) -> String {
    let time = *chance.pick(&[
        "EX 1000",
        "PX 2000000",
        "PXAT 4102444800000",
        "EXAT 4102444801",
        "PXAT 1",
        "EX x",
    ]);
    time.to_owned()
}

fn request(chance: &mut Chance) -> String {
    let key = if chance.one_in(30) {
        "text".to_owned()
    } else {
        format!("h{}", chance.below(3))
    };
    let field = format!("f{}", chance.below(6));
    let flag = *chance.pick(&["", "", "NX ", "XX ", "NX GT ", "ZZ "]);
    // Times that depend on when they are asked for are not held against each other.
    let comparing = *chance.pick(&["", "NX ", "XX ", "GT ", "LT ", "XX LT ", "GT LT "]);
    match chance.below(24) {
        0..3 => format!("HSET {key} {field} {}", chance.below(50)),
        3 => format!(
            "HEXPIRE {key} {} {flag}{}",
            chance.pick(&["1000", "2000", "0", "-1"]),
            fields(chance, 1)
        ),
        4 => format!(
            "HPEXPIRE {key} {} {flag}{}",
            chance.pick(&["1500000", "0"]),
            fields(chance, 1)
        ),
        5 => format!(
            "HEXPIREAT {key} {} {comparing}{}",
            chance.pick(&["4102444800", "1"]),
            fields(chance, 1)
        ),
        6 => format!(
            "HPEXPIREAT {key} {} {comparing}{}",
            chance.pick(&["4102444800123", "4102444800456", "1"]),
            fields(chance, 1)
        ),
        7 => format!("HTTL {key} {}", fields(chance, 1)),
        8 => format!("HPTTL {key} {}", fields(chance, 1)),
        9 => format!("HEXPIRETIME {key} {}", fields(chance, 1)),
        10 => format!("HPEXPIRETIME {key} {}", fields(chance, 1)),
        11 => format!("HPERSIST {key} {}", fields(chance, 1)),
        12 => format!("HGETEX {key} {} {}", time(chance), fields(chance, 1)),
        13 => format!(
            "HGETEX {key} {} {}",
            chance.pick(&["PERSIST", "", "KEEPTTL"]),
            fields(chance, 1)
        ),
        14 | 15 => format!(
            "HSETEX {key} {} {}{}",
            time(chance),
            chance.pick(&["", "FNX ", "FXX ", "FNX FXX "]),
            fields(chance, 2)
        ),
        16 => format!(
            "HSETEX {key} {} {}",
            chance.pick(&["KEEPTTL", "", "PERSIST", "XX", "NX"]),
            fields(chance, 2)
        ),
        17 => format!("HGETDEL {key} {}", fields(chance, 1)),
        18 => format!("HINCRBY {key} {field} {}", chance.below(9)),
        19 => format!("HINCRBYFLOAT {key} {field} 0.5"),
        20 => format!("HDEL {key} {field}"),
        21 => format!("COPY {key} h{} REPLACE", chance.below(3)),
        22 => format!("HGETALL {key}"),
        _ => format!("HLEN {key}"),
    }
}

/// Equal, in any order where there is none, and but for the time between the two questions where it is a time.
fn alike(line: &str, one: &Reply, other: &Reply) -> bool {
    let unit_ms = match line.split(' ').next() {
        Some("HGETALL") => {
            let sorted_items = |reply: &Reply| {
                let items = reply.items();
                let (pairs, _) = items.as_chunks::<2>();
                let mut pairs: Vec<String> = pairs.iter().map(|pair| format!("{pair:?}")).collect();
                pairs.sort();
                pairs
            };
            return sorted_items(one) == sorted_items(other);
        }
        Some("HTTL" | "HEXPIRETIME") => 1000,
        Some("HPTTL" | "HPEXPIRETIME") => 1,
        Some(_) | None => return one == other,
    };
    let (times, others) = (one.items(), other.items());
    let near = |pair: (&Reply, &Reply)| match (pair.0.as_int(), pair.1.as_int()) {
        (Some(one), Some(other)) if one > 0 => (one - other).abs() * unit_ms <= SKEW_MS_MAX,
        (one, other) => one == other,
    };
    match one.is_error() || other.is_error() {
        true => one == other,
        false => times.len() == others.len() && times.iter().zip(&others).all(near),
    }
}

/// All of a hash: its fields with values and times, sorted.
fn contents(client: &mut Client, key: &str) -> Vec<String> {
    let all = client.run(&format!("HGETALL {key}")).items();
    let (pairs, _) = all.as_chunks::<2>();
    let mut contents: Vec<String> = pairs
        .iter()
        .map(|[field, value]| {
            let (field, value) = (
                field.as_text().expect("text"),
                value.as_text().expect("text"),
            );
            let time = client.run(&format!("HPEXPIRETIME {key} FIELDS 1 {field}"));
            format!("{field}={value} {time:?}")
        })
        .collect();
    contents.sort();
    contents
}

/// Gives `to` what `from` has under `key`.
fn carry(from: &mut Client, to: &mut Client, key: &str) {
    let payload = from.run(&format!("DUMP {key}"));
    let Some(payload) = payload.as_bytes() else {
        return;
    };
    let args: [&[u8]; 5] = [b"RESTORE", b"carried", b"0", payload, b"REPLACE"];
    assert_eq!(to.ask(&args).expect("an answer"), Reply::ok());
    assert_eq!(contents(to, "carried"), contents(from, key));
}

#[test]
fn a_node_answers_as_valkey_does_where_fields_expire() {
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
            server.run("SET text x");
        }
        let mut lines = Vec::new();
        for _ in 0..STEPS {
            let line = request(&mut chance);
            let (one, other) = (valkey.run(&line), larder.run(&line));
            lines.push(line);
            let line = &lines[lines.len() - 1];
            assert!(
                alike(line, &one, &other),
                "seed {seed} (LARDER_SEED={seed} runs it alone), after {:#?}:\n{line}\n  valkey {one}\n  larder {other}",
                &lines[lines.len().saturating_sub(20)..],
            );
        }
        for key in ["h0", "h1", "h2"] {
            carry(&mut valkey, &mut larder, key);
            carry(&mut larder, &mut valkey, key);
        }
    }
}
