//! Servers to copy from, clients that write to them at random, and the comparison at the end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder_tests::{Chance, Client, RedisServer, Reply, Up};

/// Longest wait for the two sides to be the same, in seconds.
const SAME_S_MAX: u64 = 20;
const NOTHING: &str = "0000000000000000000000000000000000000000";

pub(crate) fn redis(more: &[&str]) -> RedisServer {
    let mut args = vec![
        "--enable-debug-command",
        "yes",
        "--repl-diskless-sync-delay",
        "0",
    ];
    args.extend(more);
    RedisServer::start_with(&args)
}

pub(crate) fn url(addr: SocketAddr) -> String {
    format!("redis://{addr}")
}

pub(crate) fn larder(folder: &std::path::Path) -> Up {
    Up::start(folder, &["--shards", "2"])
}

/// Some of every type, small and large.
pub(crate) fn fill(client: &mut Client) {
    let mut requests: Vec<Vec<String>> = Vec::new();
    let mut say = |line: String| requests.push(line.split(' ').map(str::to_owned).collect());
    for n in 0..60 {
        let many =
            |of: &dyn Fn(usize) -> String| (0..=n * n / 8).map(of).collect::<Vec<_>>().join(" ");
        say(format!("SET string{n} {}", "x".repeat(n * n)));
        say(format!("SET number{n} {n} EX {}", 1000 + n));
        say(format!("RPUSH list{n} {}", many(&|at| format!("e{at}"))));
        say(format!("SADD set{n} {}", many(&|at| format!("m{at}"))));
        say(format!("SADD ints{n} {}", many(&|at| at.to_string())));
        say(format!(
            "HSET hash{n} {}",
            many(&|at| format!("f{at} v{at}"))
        ));
        say(format!(
            "ZADD zset{n} {}",
            many(&|at| format!("{}.5 m{at}", at * 3))
        ));
        for at in 0..n % 7 {
            say(format!("XADD stream{n} {}-1 f v{at}", at + 1));
        }
        say(format!("XGROUP CREATE stream{n} group 0 MKSTREAM"));
        say(format!(
            "XREADGROUP GROUP group reader COUNT 2 STREAMS stream{n} >"
        ));
        say(format!("PFADD counted{n} {}", many(&|at| format!("p{at}"))));
    }
    say(format!("SET large {}", "L".repeat(700_000)));
    for part in 0..20 {
        let elements = |of: &dyn Fn(usize) -> String| {
            (0..500)
                .map(|at| of(part * 500 + at))
                .collect::<Vec<_>>()
                .join(" ")
        };
        say(format!(
            "RPUSH largelist {}",
            elements(&|at| format!("element-number-{at:060}"))
        ));
        say(format!(
            "HSET largehash {}",
            elements(&|at| format!("field-number-{at:060} {at}"))
        ));
        say(format!(
            "SADD largeset {}",
            elements(&|at| format!("member-number-{at:060}"))
        ));
        say(format!(
            "ZADD largezset {}",
            elements(&|at| format!("{at}.25 member-number-{at:060}"))
        ));
    }
    say("PEXPIRE largehash 10000000".to_owned());
    for replies in requests.chunks(100) {
        for (request, reply) in replies
            .iter()
            .zip(client.pipeline(replies).expect("the server lives"))
        {
            assert!(!reply.is_error(), "{request:?}: {reply}");
        }
    }
}

/// `k0` to `k9` of a kind.
fn key(chance: &mut Chance, kind: &str, spread: bool) -> String {
    let number = chance.below(10);
    match spread {
        true => format!("{kind}:{number}"),
        false => format!("{{{kind}}}{number}"),
    }
}

/// One random write. `cross`: keys of one command lie in several slots.
pub(crate) fn write(chance: &mut Chance, cross: bool) -> String {
    let n = chance.below(1000);
    let s = key(chance, "s", cross);
    let [l, l2] = [(); 2].map(|()| key(chance, "l", cross));
    let [t, t2, t3] = [(); 3].map(|()| key(chance, "t", cross));
    let [z, z2, z3] = [(); 3].map(|()| key(chance, "z", cross));
    let [h, x] = ["h", "x"].map(|kind| key(chance, kind, cross));
    let any = chance.pick(&[&s, &l, &t, &z, &h, &x]).to_string();
    match chance.below(46) {
        0..3 => format!("SET {s} v{n}"),
        3 => format!("SET {s} v{n} PX {}", 1 + chance.below(300)),
        4 => format!("INCRBY {s}n {n}"),
        5 => format!("APPEND {s} {n}"),
        6..8 => format!("RPUSH {l} a{n} b{n}"),
        8 => format!("LPOP {l}"),
        9 => format!("LMOVE {l} {l2} LEFT RIGHT"),
        10 => format!("LTRIM {l} 0 20"),
        11..13 => format!("SADD {t} m{} m{n}", n % 20),
        13 => format!("SPOP {t}"),
        14 => format!("SINTERSTORE {t3} {t} {t2}"),
        15 => format!("SUNIONSTORE {t3} {t} {t2}"),
        16 => format!("SMOVE {t} {t2} m{}", n % 20),
        17..19 => format!("ZADD {z} {n}.5 m{}", n % 20),
        19 => format!("ZINCRBY {z} 1.5 m{}", n % 20),
        20 => format!("ZPOPMIN {z}"),
        21 => format!("ZUNIONSTORE {z3} 2 {z} {z2}"),
        22..25 => format!("HSET {h} f{} v{n}", n % 20),
        25 => format!("HINCRBY {h} n {n}"),
        26 => format!("HDEL {h} f{}", n % 20),
        27..29 => format!("XADD {x} MAXLEN 30 * f {n}"),
        29 => format!("XGROUP CREATE {x} g{} 0 MKSTREAM", n % 3),
        30 => format!(
            "XREADGROUP GROUP g{} c{} COUNT 3 STREAMS {x} >",
            n % 3,
            n % 2
        ),
        31 => format!("DEL {any}"),
        32 => format!("DEL {s} {l} {t}"),
        33 => format!("MSET {s} a{n} {s}2 b{n}"),
        // Keys whose life is extended again and again, as sessions are.
        34..37 => format!("PEXPIRE {any} {}", 1 + chance.below(250)),
        37 => format!("PERSIST {any}"),
        38 => format!("RENAME {t} {t2}"),
        39 => format!("COPY {h} {h}copy REPLACE"),
        40 => format!("SETRANGE {s} {} x", n % 50),
        41 => format!("BITOP OR {s}bits {s} {s}2"),
        42 => format!("GETDEL {s}"),
        43 => format!("SORT {t} ALPHA STORE {l}"),
        44 => format!("GETEX {s} PX {}", 1 + chance.below(300)),
        _ => format!("UNLINK {any}"),
    }
}

/// Clients that write until they are told to stop.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Writers {
    /// `of` makes a request; errors are part of it (a type does not fit).
    pub(crate) fn start(
        seed: u64,
        clients: u64,
        connect: impl Fn() -> Client,
        of: fn(&mut Chance) -> String,
    ) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..clients)
            .map(|number| {
                let (stop, mut client) = (stop.clone(), connect());
                let mut chance = Chance::from_seed(seed * 1000 + number);
                std::thread::spawn(move || {
                    let mut written = 0;
                    while !stop.load(Ordering::Relaxed) {
                        client.run(&of(&mut chance));
                        written += 1;
                    }
                    written
                })
            })
            .collect();
        Writers { stop, threads }
    }

    /// Requests that were made.
    pub(crate) fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .map(|thread| thread.join().expect("the writer lives"))
            .sum()
    }
}

/// Digests of all keys of some servers by database and name. Keys that are about to expire are left out.
pub(crate) fn digests(addrs: &[SocketAddr]) -> BTreeMap<(u8, String), String> {
    let mut found = BTreeMap::new();
    for addr in addrs {
        let mut client = Client::to(*addr);
        for db in 0..16 {
            if client.run(&format!("SELECT {db}")).is_error() {
                continue;
            }
            let mut cursor = "0".to_owned();
            loop {
                let scanned = client.run(&format!("SCAN {cursor} COUNT 1000"));
                let parts = scanned.items();
                cursor = parts[0].as_text().expect("a cursor");
                for key in parts[1].items() {
                    let key = key.as_text().expect("a key");
                    let digest = client
                        .ask(&["DEBUG", "DIGEST-VALUE", &key])
                        .expect("the server lives");
                    let digest = digest.items().first().and_then(Reply::as_text);
                    let digest = digest.unwrap_or_else(|| panic!("no digest of {key} at {addr}"));
                    if digest != NOTHING {
                        let lasts = client
                            .ask(&["PTTL", &key])
                            .expect("the server lives")
                            .as_int()
                            == Some(-1);
                        found.insert((db, key), format!("{digest} {lasts}"));
                    }
                }
                if cursor == "0" {
                    break;
                }
            }
        }
    }
    found
}

/// Waits till Larder's nodes hold what the sources hold.
pub(crate) fn wait_same(sources: &[SocketAddr], nodes: &[SocketAddr], seed: u64) {
    let give_up = Instant::now() + Duration::from_secs(SAME_S_MAX);
    loop {
        let (there, here) = (digests(sources), digests(nodes));
        if there == here {
            assert!(!there.is_empty(), "nothing to compare");
            return;
        }
        if Instant::now() > give_up {
            let unlike: Vec<_> = there
                .keys()
                .chain(here.keys())
                .filter(|key| there.get(*key) != here.get(*key))
                .map(|key| {
                    format!(
                        "{key:?}: {:?} there, {:?} here",
                        there.get(key),
                        here.get(key)
                    )
                })
                .collect();
            panic!(
                "seed {seed} (LARDER_SEED={seed}): {} keys differ: {unlike:#?}",
                unlike.len()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn nodes(up: &Up) -> Vec<SocketAddr> {
    (0..2).map(|index| up.node_addr(index)).collect()
}
