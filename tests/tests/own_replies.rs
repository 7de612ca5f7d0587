//! No reply ever reaches a wrong client: every request's reply is told by who sent it and as which of its requests, while clients go
//! away in the middle of their replies, send rubbish, slots move, nodes and the proxy are killed.
//!
//! Half of what a client asks has a reply that follows from the request alone, so that a reply too many or too few shows at once; the rest
//! reads keys that only it writes. Errors are allowed (something dies all the time), in their place. `LARDER_REPLIES=5000000` runs longer.

use std::io;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use larder_tests::chance::{Chance, seeds};
use larder_tests::cluster::Cluster;
use larder_tests::{Client, Reply};

/// Right replies after which the test may end.
const REPLIES: u64 = 1_000_000;
const BY_PROXY: usize = 16;
const BY_NODE: usize = 6;
/// Most requests that a client sends at once.
const PIPELINE_MAX: usize = 64;
const KEYS_EACH: usize = 16;
/// Longest that the clients may take for their replies, in seconds.
const WAIT_S_MAX: u64 = 240;

#[test]
fn no_reply_reaches_a_wrong_client_whatever_dies() {
    for seed in seeds(1) {
        println!("seed {seed}");
        run(seed);
    }
}

fn run(seed: u64) {
    let mut cluster = Cluster::start(3, 1);
    let wanted = std::env::var("LARDER_REPLIES").map_or(REPLIES, |text| {
        text.parse().expect("LARDER_REPLIES is a number")
    });
    let tally = Tally::default();
    let by_proxy = (0..BY_PROXY).map(|_| cluster.proxy_addr());
    let by_node = (0..BY_NODE).map(|n| cluster.node_addr(n % 3));
    let addrs: Vec<SocketAddr> = by_proxy.chain(by_node).collect();
    thread::scope(|scope| {
        for (n, addr) in addrs.iter().enumerate() {
            let chance = Chance::from_seed(seed * 1000 + n as u64);
            let talker = Talker::new(n, *addr, chance);
            let tally = &tally;
            scope.spawn(move || talker.talk(tally));
        }
        let end = EndAll(&tally);
        let give_up = Instant::now() + Duration::from_secs(WAIT_S_MAX);
        let mut shards = 3;
        while tally.right() < wanted {
            shards = 7 - shards;
            let mut operator = reshard(&cluster, shards);
            tally.wait_for_more(wanted / 20, give_up);
            cluster.proxy.as_mut().expect("a proxy").kill();
            cluster.start_proxy();
            tally.wait_for_more(wanted / 20, give_up);
            let _ = operator.wait();
            let node = shards % 3;
            cluster.nodes[node].as_mut().expect("a node").kill();
            cluster.start_node(node);
            tally.wait_for_more(wanted / 20, give_up);
        }
        drop(end);
    });
    let (right, errors) = (tally.right(), tally.errors.load(Ordering::Relaxed));
    println!(
        "{right} right replies, {errors} errors, {} connections broken, {} clients gone in the middle",
        tally.broken.load(Ordering::Relaxed),
        tally.gone.load(Ordering::Relaxed)
    );
    assert!(
        tally.gone.load(Ordering::Relaxed) > 100,
        "too few went away"
    );
}

fn reshard(cluster: &Cluster, shards: usize) -> Child {
    cluster
        .operator(&["reshard", "--shards", &shards.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("larder starts")
}

#[derive(Default)]
struct Tally {
    right: AtomicU64,
    errors: AtomicU64,
    broken: AtomicU64,
    gone: AtomicU64,
    over: AtomicBool,
}

impl Tally {
    fn right(&self) -> u64 {
        self.right.load(Ordering::Relaxed)
    }

    fn wait_for_more(&self, replies: u64, give_up: Instant) {
        let target = self.right() + replies;
        while self.right() < target {
            assert!(!self.over.load(Ordering::Relaxed), "a client has given up");
            assert!(Instant::now() < give_up, "{} replies only", self.right());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Ends all clients, also when the test fails.
struct EndAll<'t>(&'t Tally);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// What a reply must look like, if it is no error.
#[derive(Debug)]
enum Expected {
    Exactly(Reply),
    /// Nothing (the key was lost with its node), or what this client wrote.
    OwnOrNone,
    /// So many of these.
    Owns(usize),
}

struct Talker {
    addr: SocketAddr,
    tag: String,
    chance: Chance,
    /// Of the last request.
    number: u64,
}

impl Talker {
    fn new(n: usize, addr: SocketAddr, chance: Chance) -> Talker {
        Talker {
            addr,
            tag: format!("<{n}>"),
            chance,
            number: 0,
        }
    }

    fn talk(mut self, tally: &Tally) {
        // A client that fails ends the others, too: the scope waits for all.
        let failed = EndAll(tally);
        while !tally.over.load(Ordering::Relaxed) {
            match Client::connect(self.addr) {
                Ok(client) => {
                    if self.converse(client, tally).is_err() {
                        tally.broken.fetch_add(1, Ordering::Relaxed);
                    }
                }
                // It is being started again.
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
        drop(failed);
    }

    /// Until this client goes away or the connection breaks.
    fn converse(&mut self, mut client: Client, tally: &Tally) -> io::Result<()> {
        while !tally.over.load(Ordering::Relaxed) {
            let depth = 1 + self.chance.below(PIPELINE_MAX);
            let (requests, expected): (Vec<_>, Vec<_>) = (0..depth).map(|_| self.request()).unzip();
            let goes = self.chance.one_in(40);
            client.send_all(&requests)?;
            let read = if goes {
                self.chance.below(depth)
            } else {
                depth
            };
            for (at, expected) in expected.iter().take(read).enumerate() {
                let reply = client.read()?;
                self.judge(&requests[at], expected, &reply, tally);
            }
            if goes {
                tally.gone.fetch_add(1, Ordering::Relaxed);
                if self.chance.one_in(4) {
                    // Refused or not, it is nobody else's.
                    let _ = client.send_raw(b"*2\r\n$3\r\nGET\r\n$-7\r\nrubbish");
                }
                if self.chance.one_in(2) {
                    client.leave_by_reset();
                }
                return Ok(());
            }
        }
        Ok(())
    }

    fn request(&mut self) -> (Vec<String>, Expected) {
        self.number += 1;
        let key = self.key();
        // Of many lengths: what is shifted does not fit.
        let own = format!(
            "{}{}{}",
            self.tag,
            self.number,
            ".".repeat(self.chance.below(100))
        );
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match self.chance.below(8) {
            0 => (words(&["ECHO", &own]), Expected::Exactly(Reply::bulk(&own))),
            1 | 2 => (
                words(&["EVAL", "return ARGV[1]", "1", &key, &own]),
                Expected::Exactly(Reply::bulk(&own)),
            ),
            3 => (words(&["SET", &key, &own]), Expected::Exactly(Reply::ok())),
            4 => (words(&["SET", &key, &own, "GET"]), Expected::OwnOrNone),
            5 | 6 => (words(&["GET", &key]), Expected::OwnOrNone),
            _ => {
                let count = 2 + self.chance.below(6);
                let keys = (0..count).map(|_| self.key());
                let args = std::iter::once("MGET".to_owned()).chain(keys).collect();
                (args, Expected::Owns(count))
            }
        }
    }

    fn key(&mut self) -> String {
        format!("{}:{}", self.tag, self.chance.below(KEYS_EACH))
    }

    fn judge(&self, request: &[String], expected: &Expected, reply: &Reply, tally: &Tally) {
        if let Reply::Error(text) = reply {
            assert!(
                !text.contains('<') || text.contains(&self.tag),
                "{request:?} was told somebody else's error {text:?}"
            );
            tally.errors.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let right = match expected {
            Expected::Exactly(wanted) => reply == wanted,
            Expected::OwnOrNone => self.is_own_or_none(reply),
            Expected::Owns(count) => matches!(reply, Reply::Array(items)
                if items.len() == *count && items.iter().all(|item| self.is_own_or_none(item))),
        };
        assert!(
            right,
            "{request:?} of client {} was answered {reply:?}, not {expected:?}",
            self.tag
        );
        tally.right.fetch_add(1, Ordering::Relaxed);
    }

    fn is_own_or_none(&self, reply: &Reply) -> bool {
        match reply {
            Reply::Null => true,
            Reply::Bulk(value) => value.starts_with(self.tag.as_bytes()),
            _ => false,
        }
    }
}
