//! What readers and cluster clients see while slots move: every key, all the time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use larder_tests::cluster::array;
use larder_tests::{Client, Cluster, Reply};
use larder_wire::{Slot, SlotSet, slot_of};
use redis::Commands;

const KEYS: usize = 20_000;
/// Keys of one MGET: some of every node.
const MGET_KEYS: usize = 60;
/// Fields of the one huge hash.
const HASH_FIELDS: usize = 1_000_000;

fn key(number: usize) -> String {
    format!("key:{number}")
}

fn fill(cluster: &Cluster) {
    let mut client = cluster.client();
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(1000) {
        let sets: Vec<Vec<String>> = chunk
            .iter()
            .map(|number| vec!["SET".to_owned(), key(*number), number.to_string()])
            .collect();
        let replies = client.pipeline(&sets).expect("the proxy serves");
        assert!(replies.iter().all(|reply| *reply == Reply::ok()));
    }
}

/// Runs `work` again and again, with the number of the round, until `stop`; its rounds are returned.
fn repeat(
    stop: &Arc<AtomicBool>,
    mut work: impl FnMut(usize) + Send + 'static,
) -> JoinHandle<(usize, Duration)> {
    let stop = stop.clone();
    thread::spawn(move || {
        let (mut rounds, mut longest) = (0, Duration::ZERO);
        // At least one whole round after the last move.
        let mut last = false;
        while !last {
            last = stop.load(Ordering::Relaxed);
            let start = Instant::now();
            work(rounds);
            longest = longest.max(start.elapsed());
            rounds += 1;
        }
        (rounds, longest)
    })
}

fn reshard(cluster: &Cluster, shards: &str) {
    let output = cluster.larder(&["reshard", "--shards", shards]);
    assert!(output.status.success(), "reshard to {shards}: {output:?}");
}

#[test]
fn readers_see_every_key_while_slots_move() {
    let cluster = Cluster::start(3, 2);
    fill(&cluster);
    let stop = Arc::new(AtomicBool::new(false));
    let proxy = cluster.proxy_addr();

    let mut mget = Client::to(proxy);
    let many = repeat(&stop, move |round| {
        let numbers: Vec<usize> = (0..MGET_KEYS)
            .map(|at| (round * 7919 + at * 331) % KEYS)
            .collect();
        let mut args = vec!["MGET".to_owned()];
        args.extend(numbers.iter().map(|number| key(*number)));
        let expected = numbers
            .iter()
            .map(|number| Reply::bulk(&number.to_string()));
        assert_eq!(
            mget.ask(&args).expect("a reply"),
            Reply::Array(expected.collect())
        );
    });

    let mut exists = Client::to(proxy);
    let counted = repeat(&stop, move |round| {
        let mut args = vec!["EXISTS".to_owned()];
        args.extend((0..MGET_KEYS).map(|at| key((round * 104_729 + at * 577) % KEYS)));
        assert_eq!(
            exists.ask(&args).expect("a reply"),
            Reply::Int(MGET_KEYS as i64)
        );
    });

    let mut scan = Client::to(proxy);
    let walks = repeat(&stop, move |_| {
        let mut seen = BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let reply = scan
                .ask(&["SCAN", &cursor, "COUNT", "500"])
                .expect("a reply")
                .items();
            cursor = reply[0].as_text().expect("a cursor");
            seen.extend(reply[1].items().iter().filter_map(Reply::as_text));
            if cursor == "0" {
                break;
            }
        }
        let missed: Vec<String> = (0..KEYS)
            .map(key)
            .filter(|key| !seen.contains(key))
            .collect();
        assert!(
            missed.is_empty(),
            "SCAN missed {} keys: {:?}",
            missed.len(),
            &missed[..missed.len().min(5)]
        );
    });

    let mut transaction = Client::to(proxy);
    let transactions = repeat(&stop, move |round| {
        let tag = format!("{{t{}}}", round % 50);
        let (a, b) = (format!("{tag}a"), format!("{tag}b"));
        let requests = [
            vec!["MULTI".to_owned()],
            vec!["INCR".to_owned(), a],
            vec!["INCR".to_owned(), b],
            vec!["EXEC".to_owned()],
        ];
        let replies = transaction.pipeline(&requests).expect("replies");
        let count = Reply::Int((round / 50 + 1) as i64);
        assert_eq!(
            replies[3],
            Reply::Array(vec![count.clone(), count]),
            "{replies:?}"
        );
    });

    for shards in ["5", "2", "4", "3"] {
        reshard(&cluster, shards);
    }
    stop.store(true, Ordering::Relaxed);
    for (name, rounds) in [
        ("MGET", many),
        ("EXISTS", counted),
        ("SCAN walks", walks),
        ("transactions", transactions),
    ] {
        let (rounds, longest) = rounds
            .join()
            .unwrap_or_else(|_| panic!("{name} failed, see above"));
        println!("{name}: {rounds} rounds, the longest took {longest:?}");
    }
}

#[test]
fn a_cluster_client_at_the_nodes_loses_no_write_while_slots_move() {
    let cluster = Cluster::start(3, 2);
    fill(&cluster);
    let stop = Arc::new(AtomicBool::new(false));
    let url = format!("redis://{}/", cluster.node_addr(0));
    let client = redis::cluster::ClusterClientBuilder::new(vec![url])
        .retries(16)
        .build()
        .expect("a cluster client");
    let mut connection = client.get_connection().expect("connections to all nodes");
    let writer = repeat(&stop, move |round| {
        let counter = format!("counter:{}", round % 400);
        let value: usize = connection
            .incr(&counter, 1)
            .unwrap_or_else(|error| panic!("INCR {counter}: {error}"));
        assert_eq!(value, round / 400 + 1, "{counter}");
    });
    for shards in ["5", "2", "3"] {
        reshard(&cluster, shards);
    }
    stop.store(true, Ordering::Relaxed);
    let (rounds, longest) = writer.join().expect("no write fails");
    println!("{rounds} increments, the longest took {longest:?}");
}

/// The address of a primary that does not own `slot`.
fn node_without(cluster: &Cluster, slot: Slot) -> String {
    let status = cluster.status().expect("the topology answers");
    let shard = array(&status, "shards").iter().find(|shard| {
        let slots: SlotSet = serde_json::from_value(shard["slots"].clone()).expect("slots");
        !slots.contains(slot)
    });
    let addr = shard.and_then(|shard| shard["node"]["addr"].as_str());
    addr.expect("another shard").to_owned()
}

#[test]
fn a_hash_of_a_million_fields_moves_whole_while_it_is_written() {
    let cluster = Cluster::start(2, 0);
    let mut client = cluster.client();
    for chunk in (0..HASH_FIELDS).collect::<Vec<_>>().chunks(10_000) {
        let mut args = vec!["HSET".to_owned(), "huge".to_owned()];
        args.extend(chunk.iter().flat_map(|n| [format!("f{n}"), n.to_string()]));
        assert_eq!(
            client.ask(&args).expect("a reply"),
            Reply::Int(chunk.len() as i64)
        );
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut writer = cluster.client();
    let writes = repeat(&stop, move |round| {
        let field = format!("f{}", (round * 7919) % HASH_FIELDS);
        let times = round / HASH_FIELDS + 1;
        let value = (round * 7919) % HASH_FIELDS + times;
        let reply = writer
            .ask(&["HINCRBY", "huge", &field, "1"])
            .expect("a reply");
        assert_eq!(reply, Reply::Int(value as i64), "{field}");
    });
    // A neighbour on the same node feels whatever stalls it.
    let mut neighbour = Client::to(cluster.proxy_addr());
    let pings = repeat(&stop, move |_| {
        let reply = neighbour.ask(&["GET", "no such key"]).expect("a reply");
        assert_eq!(reply, Reply::Null);
    });
    for _ in 0..3 {
        let slot = slot_of(b"huge");
        let target = node_without(&cluster, slot);
        let start = Instant::now();
        let output = cluster.larder(&["move", "--slots", &slot.to_string(), "--to", &target]);
        assert!(output.status.success(), "move to {target}: {output:?}");
        println!("moved to {target} in {:?}", start.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    let (written, longest) = writes.join().expect("every write is right");
    let (asked, stall) = pings.join().expect("the neighbour is served");
    println!(
        "{written} writes to the hash, the longest took {longest:?}; {asked} reads beside it, the longest took {stall:?}"
    );
    let len = client.run("HLEN huge");
    assert_eq!(len, Reply::Int(HASH_FIELDS as i64));
    for round in (0..written.min(HASH_FIELDS)).step_by(997) {
        let number = (round * 7919) % HASH_FIELDS;
        let value = client.run(&format!("HGET huge f{number}"));
        assert_eq!(value, Reply::bulk(&(number + 1).to_string()), "f{number}");
    }
}
