//! What a value is written as, beside a real redis-server: payloads byte by byte, and the nodes that a stream is cut into, which clients
//! see in what an approximate trim leaves.
//!
//! `LARDER_SEED=7` runs one seed, `LARDER_SEEDS=500` the first 500.

use larder_tests::chance::seeds;
use larder_tests::standalone::Standalone;
use larder_tests::{Chance, Client, RedisServer, Reply};

/// Seeds that run when nothing else is said.
const SEEDS: u64 = 60;

struct Pair {
    redis: Client,
    larder: Client,
}

impl Pair {
    /// Asks both: the replies, Redis' first.
    fn ask(&mut self, args: &[&[u8]]) -> (Reply, Reply) {
        let redis = self.redis.ask(args).expect("redis-server answers");
        let larder = self.larder.ask(args).expect("larder answers");
        (redis, larder)
    }

    fn same(&mut self, args: &[&[u8]], about: &str) {
        let (redis, larder) = self.ask(args);
        assert_eq!(redis, larder, "{about}: {}", args[0].escape_ascii());
    }
}

/// Few letters or any bytes, with repetitions near and far.
fn text(chance: &mut Chance, most: usize) -> Vec<u8> {
    let len = chance.below(most);
    let letters = *chance.pick(&[1, 2, 4, 256]);
    let mut text: Vec<u8> = Vec::new();
    while text.len() < len {
        if chance.one_in(8) && !text.is_empty() {
            let from = chance.below(text.len());
            let to = (from + chance.below(400)).min(text.len());
            text.extend_from_within(from..to);
        } else {
            text.push(chance.below(letters) as u8);
        }
    }
    text.truncate(len);
    text
}

/// Makes the key `k` by the same requests on both.
fn make(pair: &mut Pair, chance: &mut Chance, about: &str) {
    let kind = chance.below(6);
    for number in 0..1 + chance.below(if kind == 0 { 1 } else { 30 }) {
        let number = number.to_string().into_bytes();
        let (short, long) = (text(chance, 60), text(chance, 3000));
        let int = chance
            .below(10_usize.pow(1 + number.len() as u32 * 4))
            .to_string();
        let request: Vec<&[u8]> = match kind {
            0 => vec![b"SET", b"k", &long],
            1 => vec![b"HSET", b"k", &number, &short],
            // Where a list of more than one node is cut is each server's own affair.
            2 => vec![b"RPUSH", b"k", &long[..long.len().min(200)]],
            3 => vec![b"ZADD", b"k", &number, &short],
            4 => vec![b"SADD", b"k", int.as_bytes()],
            _ => vec![b"RPUSH", b"k", &short, int.as_bytes()],
        };
        pair.same(&request, about);
    }
}

#[test]
fn a_payload_is_redis_payload_byte_by_byte_and_either_restores_it() {
    let (redis, node) = (RedisServer::start(), Standalone::start());
    let mut pair = Pair {
        redis: redis.client(),
        larder: node.client(),
    };
    for seed in seeds(SEEDS) {
        let mut chance = Chance::from_seed(seed);
        for case in 0..10 {
            let about = format!("seed {seed}, case {case}");
            pair.same(&[b"FLUSHALL"], &about);
            let compress: &[u8] = if chance.one_in(4) { b"no" } else { b"yes" };
            pair.same(&[b"CONFIG", b"SET", b"rdbcompression", compress], &about);
            make(&mut pair, &mut chance, &about);
            let (payload, own) = pair.ask(&[b"DUMP", b"k"]);
            assert_eq!(payload, own, "{about}");
            let payload = payload.as_bytes().expect("the key is there").to_vec();
            pair.same(&[b"RESTORE", b"back", b"0", &payload], &about);
            pair.same(&[b"DUMP", b"back"], &about);
        }
    }
}

#[test]
fn an_approximate_trim_leaves_what_redis_leaves_of_entries_of_one_size() {
    let (redis, node) = (RedisServer::start(), Standalone::start());
    let mut pair = Pair {
        redis: redis.client(),
        larder: node.client(),
    };
    for seed in seeds(SEEDS / 3) {
        let mut chance = Chance::from_seed(seed);
        let about = format!("seed {seed}");
        pair.same(&[b"FLUSHALL"], &about);
        let (bytes, entries) = (
            *chance.pick(&["4096", "1000", "100000", "0"]),
            *chance.pick(&["100", "10"]),
        );
        let words = ["CONFIG", "SET", "stream-node-max-bytes", bytes];
        let words = [&words[..], &["stream-node-max-entries", entries]].concat();
        let set: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        pair.same(&set, &about);
        let value = vec![b'v'; *chance.pick(&[1, 10, 50, 100, 500, 5000])];
        let keep = chance.pick(&["5", "50", "300"]).as_bytes();
        let fields = 1 + chance.below(3);
        for ms in 1_000_000..1_000_400 {
            let id = format!("{ms}-0");
            let mut request: Vec<&[u8]> = vec![b"XADD", b"x", b"MAXLEN", b"~", keep];
            request.push(id.as_bytes());
            for field in &[b"first", b"other", b"third"][..fields] {
                request.extend([&field[..], &value]);
            }
            pair.same(&request, &about);
            pair.same(&[b"XLEN", b"x"], &about);
        }
        pair.same(&[b"XTRIM", b"x", b"MINID", b"~", b"1000370-0"], &about);
        pair.same(&[b"XRANGE", b"x", b"-", b"+", b"COUNT", b"1"], &about);
    }
}
