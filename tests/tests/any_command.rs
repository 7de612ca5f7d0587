//! Whatever clients send, a node goes on: random requests of every command of the table, half of them malformed, over
//! connections that leave when they like. The binary has its assertions on, so a broken promise inside ends the node too.
//!
//! `LARDER_SEEDS=N` makes it longer, `LARDER_SEED=n` repeats one; each seed has a node of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use larder_tests::chance::{Chance, seeds};
use larder_tests::standalone::Standalone;
use larder_tests::{Client, Reply};
use larder_wire::command::{self, CommandId};
use larder_wire::resp::OwnedRequest;

const SEEDS: u64 = 6;
const CONNECTIONS: usize = 60;
const REQUESTS_MAX: usize = 120;
/// Longest wait for all replies of a connection.
const ANSWER: Duration = Duration::from_secs(60);

/// What would end the node, lock everybody out, or stand still by order.
const LEFT_OUT: &[&str] = &[
    "shutdown",
    "debug",
    "acl|setuser",
    "acl|deluser",
    "acl|load",
    "auth",
    "config|set",
    "client|pause",
    "replicaof",
    "slaveof",
    "failover",
];

const KEYS: &[&str] = &[
    "s", "n", "l", "h", "t", "z", "x", "hll", "geo", "none", "{t}a", "{t}b",
];

/// Numbers are small or absurd: what lies between only takes memory.
const WORDS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "-2",
    "10",
    "-10",
    "100",
    "10000",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "1.5",
    "-0.0",
    "1e400",
    "inf",
    "-inf",
    "nan",
    "",
    " ",
    "a",
    "b",
    "c",
    "\0",
    "\u{ff}\r\n",
    "*",
    "a*",
    "[",
    "\\",
    "$",
    ">",
    "+",
    "-",
    "(1",
    "[a",
    "(",
    "0-0",
    "1-1",
    "0-1",
    "18446744073709551615-18446744073709551615",
    "~",
    "=",
    "EX",
    "PX",
    "EXAT",
    "PXAT",
    "NX",
    "XX",
    "GT",
    "LT",
    "CH",
    "INCR",
    "KEEPTTL",
    "GET",
    "SET",
    "INCRBY",
    "OVERFLOW",
    "WRAP",
    "SAT",
    "FAIL",
    "u8",
    "i64",
    "#1",
    "LIMIT",
    "COUNT",
    "MATCH",
    "TYPE",
    "WITHSCORES",
    "WITHVALUES",
    "WEIGHTS",
    "AGGREGATE",
    "SUM",
    "MIN",
    "MAX",
    "STORE",
    "STOREDIST",
    "BY",
    "ASC",
    "DESC",
    "ALPHA",
    "BYSCORE",
    "BYLEX",
    "REV",
    "FIELDS",
    "FNX",
    "FXX",
    "PERSIST",
    "BLOCK",
    "STREAMS",
    "GROUP",
    "NOACK",
    "MKSTREAM",
    "MAXLEN",
    "MINID",
    "NOMKSTREAM",
    "IDLE",
    "TIME",
    "RETRYCOUNT",
    "FORCE",
    "JUSTID",
    "FULL",
    "LEFT",
    "RIGHT",
    "BEFORE",
    "AFTER",
    "RANK",
    "AND",
    "OR",
    "XOR",
    "NOT",
    "BIT",
    "BYTE",
    "IDX",
    "LEN",
    "MINMATCHLEN",
    "WITHMATCHLEN",
    "REPLACE",
    "ABSTTL",
    "DB",
    "FREQ",
    "IDLETIME",
    "FROMMEMBER",
    "FROMLONLAT",
    "BYRADIUS",
    "BYBOX",
    "m",
    "km",
    "WITHDIST",
    "WITHCOORD",
    "WITHHASH",
    "ANY",
    "ON",
    "OFF",
    "YES",
    "NO",
    "BCAST",
    "OPTIN",
    "REDIRECT",
    "PREFIX",
    "ASYNC",
    "SYNC",
    "return 1",
    "return redis.call('get', KEYS[1])",
    "return redis.pcall(ARGV[1], KEYS[1])",
    "error('x')",
    "return {1, {2}, 'a'}",
    "#!lua name=lib\nredis.register_function('f', function(keys, args) return keys end)",
    "f",
    "lib",
    "ALL",
    "SAMPLES",
    "ADDR",
    "ID",
    "USER",
    "default",
    "+@all",
    "~*",
];

/// Something of each type.
const FURNISHING: &[&[&str]] = &[
    &["SET", "s", "hello"],
    &["SET", "n", "41"],
    &["RPUSH", "l", "a", "b", "c"],
    &["HSET", "h", "a", "1", "b", "two"],
    &["SADD", "t", "a", "b", "1"],
    &["ZADD", "z", "1", "a", "2", "b"],
    &["XADD", "x", "1-1", "a", "b"],
    &["XGROUP", "CREATE", "x", "a", "0"],
    &["PFADD", "hll", "a", "b"],
    &["GEOADD", "geo", "13.4", "52.5", "a"],
];

#[test]
fn no_request_in_any_order_ends_a_node() {
    let commands: Vec<CommandId> = CommandId::ALL
        .iter()
        .copied()
        .filter(|id| {
            let name = command::spec(*id).name;
            let container = name.split('|').next().unwrap_or(name);
            !LEFT_OUT.contains(&name) && !LEFT_OUT.contains(&container)
        })
        .collect();
    for seed in seeds(SEEDS) {
        let node = Standalone::start();
        let mut chance = Chance::from_seed(seed);
        for connection in 0..CONNECTIONS {
            let requests: Vec<Vec<String>> = (0..1 + chance.below(REQUESTS_MAX))
                .map(|_| request(&mut chance, &commands))
                .collect();
            let sent = talk(&node, &mut chance, &requests);
            let answer = sent
                .and_then(|()| Client::connect(node.addr()))
                .and_then(|mut client| client.ask(&["PING"]));
            assert!(
                answer
                    .as_ref()
                    .is_ok_and(|reply| *reply == Reply::Simple("PONG".to_owned())),
                "seed {seed}, connection {connection}: {answer:?} after\n{}",
                requests
                    .iter()
                    .map(|it| format!("{it:?}\n"))
                    .collect::<String>()
            );
        }
    }
}

/// Sends all, now and then without the end of the last, and reads until the node closes.
fn talk(node: &Standalone, chance: &mut Chance, requests: &[Vec<String>]) -> std::io::Result<()> {
    let mut bytes: Vec<u8> = requests
        .iter()
        .flat_map(|request| OwnedRequest::from_args(request).into_bytes())
        .collect();
    if chance.one_in(5) {
        bytes.truncate(bytes.len() - 1 - chance.below(bytes.len() - 1));
    }
    let mut stream = TcpStream::connect(node.addr())?;
    stream.set_read_timeout(Some(ANSWER))?;
    // The node may have closed by then: QUIT, or a request that is none.
    let _ = stream.write_all(&bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut replies = Vec::new();
    match stream.read_to_end(&mut replies) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn request(chance: &mut Chance, commands: &[CommandId]) -> Vec<String> {
    if chance.one_in(12) {
        let furnishing = chance.pick(FURNISHING);
        return furnishing.iter().map(|word| (*word).to_owned()).collect();
    }
    let spec = command::spec(*chance.pick(commands));
    let mut args: Vec<String> = spec.name.split('|').map(str::to_owned).collect();
    let least = usize::from(spec.arity.unsigned_abs());
    let more = if spec.arity < 0 { chance.below(6) } else { 0 };
    let wanted = match chance.below(8) {
        0 => chance.below(least + 8),
        _ => least + more,
    };
    while args.len() < wanted {
        let key = args.len() == 1 || chance.one_in(4);
        let word = chance.pick(if key { KEYS } else { WORDS });
        args.push((*word).to_owned());
    }
    args
}
