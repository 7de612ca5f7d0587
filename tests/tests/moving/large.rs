//! Huge values move in pieces: nothing is lost of them, and nobody waits long for it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use larder_tests::cluster::array;
use larder_tests::{Client, Cluster, Reply};

const FIELDS: usize = 1_000_000;
const ELEMENTS: usize = 1_000_000;
const MEMBERS: usize = 300_000;
const EACH: usize = 1000;

/// A wait that no piece of bounded size explains, on a machine that does other things besides.
const STALL_MAX: Duration = Duration::from_millis(400);

#[test]
fn values_of_a_million_elements_move_while_they_are_written() {
    let cluster = Cluster::start(2, 0);
    let mut client = cluster.client();
    // One tag: one slot.
    let [hash, list, zset, doomed] = ["h", "l", "z", "d"].map(|name| format!("{{big}}:{name}"));
    fill(&mut client, FIELDS, |n| {
        format!("HSET {hash} field:{n} value:{n}")
    });
    fill(&mut client, FIELDS, |n| {
        format!("HSET {doomed} field:{n} value:{n}")
    });
    fill(&mut client, ELEMENTS, |n| {
        format!("RPUSH {list} element:{n}")
    });
    fill(&mut client, MEMBERS, |n| {
        format!("ZADD {zset} {n} member:{n}")
    });
    let slot = client.run("CLUSTER KEYSLOT {big}").as_int().unwrap();
    let slots = format!("{slot}-{slot}");

    let nodes = [cluster.node_addr(0), cluster.node_addr(1)];
    let addrs = [nodes[0], nodes[1], cluster.proxy_addr()];
    let quiet = longest_pings(&addrs, || std::thread::sleep(Duration::from_millis(1500)));
    println!("longest PING of node 0, node 1, proxy; quiet: {quiet:?}");
    let mut written = 0;
    for round in 0..2 {
        let target = other_than_owner(&cluster, slot);
        let done = AtomicBool::new(false);
        let moving = longest_pings(&addrs, || {
            std::thread::scope(|scope| {
                let from = written;
                let (cluster, done, keys) = (&cluster, &done, [&hash, &list, &zset]);
                let writer = scope.spawn(move || write_on(cluster, keys, from, done));
                if round == 0 {
                    let doomed = doomed.clone();
                    scope.spawn(move || {
                        // Captured by then, so that its elements have two owners.
                        cluster.wait_until("the slot is moving", |status| {
                            !status["operation"].is_null()
                        });
                        assert_eq!(
                            cluster.client().run(&format!("UNLINK {doomed}")),
                            Reply::Int(1)
                        );
                    });
                }
                let start = Instant::now();
                let output =
                    cluster.larder(&["move", "--slots", &slots, "--to", &target.to_string()]);
                assert!(output.status.success(), "{output:?}");
                println!(
                    "moved in {:?}: {}",
                    start.elapsed(),
                    String::from_utf8_lossy(&output.stdout).trim()
                );
                std::thread::sleep(Duration::from_millis(700));
                done.store(true, Ordering::Relaxed);
                written = writer.join().unwrap();
            });
        });
        println!("longest PING while moving and freeing: {moving:?}; {written} writes");
        for &stall in &moving {
            assert!(stall < STALL_MAX, "{moving:?}");
        }
        assert_eq!(client.run(&format!("EXISTS {doomed}")), Reply::Int(0));
        check(&mut client, [&hash, &list, &zset], written);
    }
}

fn fill(client: &mut Client, count: usize, line: impl Fn(usize) -> String) {
    for start in (0..count).step_by(EACH) {
        let mut words: Vec<String> = Vec::new();
        for number in start..(start + EACH).min(count) {
            let skip = if words.is_empty() { 0 } else { 2 };
            words.extend(line(number).split(' ').skip(skip).map(str::to_owned));
        }
        let reply = client.ask(&words).unwrap();
        assert!(!reply.is_error(), "{reply}");
    }
}

fn other_than_owner(cluster: &Cluster, slot: i64) -> SocketAddr {
    let status = cluster.status().expect("the topology answers");
    let owner = array(&status, "shards").iter().find(|shard| {
        let slots: larder_wire::SlotSet = serde_json::from_value(shard["slots"].clone()).unwrap();
        slots.contains(larder_wire::Slot::new(slot as u16).unwrap())
    });
    let owner = owner.expect("an owner")["node"]["addr"]
        .as_str()
        .unwrap()
        .to_owned();
    let other = (0..2).map(|index| cluster.node_addr(index));
    other
        .into_iter()
        .find(|addr| addr.to_string() != owner)
        .unwrap()
}

/// Of each address the longest wait for a PONG while `work` ran.
fn longest_pings(addrs: &[SocketAddr], work: impl FnOnce()) -> Vec<Duration> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pingers: Vec<_> = addrs
            .iter()
            .map(|addr| {
                scope.spawn(|| {
                    let mut client = Client::to(*addr);
                    let mut longest = Duration::ZERO;
                    while !done.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        client.run("PING");
                        longest = longest.max(start.elapsed());
                        std::thread::sleep(Duration::from_micros(300));
                    }
                    longest
                })
            })
            .collect();
        work();
        done.store(true, Ordering::Relaxed);
        pingers
            .into_iter()
            .map(|pinger| pinger.join().unwrap())
            .collect()
    })
}

/// Writes to each of the keys, from number `from` on, until told to stop.
fn write_on(cluster: &Cluster, keys: [&String; 3], from: usize, done: &AtomicBool) -> usize {
    let [hash, list, zset] = keys;
    let mut client = cluster.client();
    let mut number = from;
    while !done.load(Ordering::Relaxed) {
        let field = number * 7919 % FIELDS;
        assert_eq!(
            client.run(&format!("HSET {hash} field:{field} written:{number}")),
            Reply::Int(0)
        );
        let length = Reply::Int((ELEMENTS + number + 1) as i64);
        assert_eq!(
            client.run(&format!("RPUSH {list} written:{number}")),
            length
        );
        let member = number * 7919 % MEMBERS;
        assert_eq!(
            client.run(&format!("ZADD {zset} -{number} member:{member}")),
            Reply::Int(0)
        );
        number += 1;
    }
    number
}

fn check(client: &mut Client, keys: [&String; 3], written: usize) {
    let [hash, list, zset] = keys;
    assert_eq!(
        client.run(&format!("HLEN {hash}")),
        Reply::Int(FIELDS as i64)
    );
    let mut fields: Vec<String> = (0..FIELDS).map(|n| format!("value:{n}")).collect();
    let mut scores: Vec<i64> = (0..MEMBERS as i64).collect();
    for number in 0..written {
        fields[number * 7919 % FIELDS] = format!("written:{number}");
        scores[number * 7919 % MEMBERS] = -(number as i64);
    }
    for start in (0..FIELDS).step_by(10 * EACH) {
        let mut words = vec!["HMGET".to_owned(), hash.clone()];
        words.extend((start..start + 10 * EACH).map(|n| format!("field:{n}")));
        let values = client.ask(&words).unwrap().items();
        for (offset, value) in values.iter().enumerate() {
            assert_eq!(
                value.as_text().as_ref(),
                Some(&fields[start + offset]),
                "field:{}",
                start + offset
            );
        }
    }
    let length = ELEMENTS + written;
    assert_eq!(
        client.run(&format!("LLEN {list}")),
        Reply::Int(length as i64)
    );
    for start in (0..length).step_by(10 * EACH) {
        let elements = client
            .run(&format!("LRANGE {list} {start} {}", start + 10 * EACH - 1))
            .items();
        for (offset, element) in elements.iter().enumerate() {
            let number = start + offset;
            let expected = match number.checked_sub(ELEMENTS) {
                None => format!("element:{number}"),
                Some(written) => format!("written:{written}"),
            };
            assert_eq!(element.as_text(), Some(expected), "element {number}");
        }
    }
    assert_eq!(
        client.run(&format!("ZCARD {zset}")),
        Reply::Int(MEMBERS as i64)
    );
    for start in (0..MEMBERS).step_by(10 * EACH) {
        let mut words = vec!["ZMSCORE".to_owned(), zset.clone()];
        words.extend((start..start + 10 * EACH).map(|n| format!("member:{n}")));
        let found = client.ask(&words).unwrap().items();
        for (offset, score) in found.iter().enumerate() {
            let number = start + offset;
            let score = score.as_text().and_then(|text| text.parse::<f64>().ok());
            assert_eq!(score, Some(scores[number] as f64), "member:{number}");
        }
    }
}
