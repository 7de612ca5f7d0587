//! MULTI/EXEC and WATCH in one slot while the slot moves: all or nothing, once, and no lost update.

use std::collections::HashMap;
use std::sync::Mutex;

use larder_tests::{Chance, Client, Cluster, Reply};

use crate::{preload, while_resharding};

const TAGS: usize = 300;

#[test]
fn transactions_are_atomic_and_run_once_through_a_reshard() {
    let cluster = Cluster::start(3, 2);
    preload(&cluster, 30_000);
    let counts: Vec<Mutex<HashMap<usize, i64>>> = (0..3).map(|_| Mutex::default()).collect();
    while_resharding(
        &cluster,
        &["5", "2", "5", "2"],
        &[0, 1, 2],
        |name, round| {
            let mut client = cluster.client();
            if round % 2 == 1 {
                assert!(!client.run("HELLO 3").is_error());
            }
            let mut chance = Chance::from_seed(round * 10 + *name as u64);
            let mut counts = counts[*name].lock().unwrap();
            for turn in 0..50 {
                let tag = chance.below(TAGS);
                let count = counts.entry(tag).or_default();
                *count += 1;
                transaction(
                    &mut client,
                    &format!("{{t:{name}:{tag}}}"),
                    *count,
                    turn % 2 == 0,
                );
            }
        },
    );
    let mut client = cluster.client();
    for (name, counts) in counts.iter().enumerate() {
        for (tag, count) in counts.lock().unwrap().iter() {
            let key = format!("{{t:{name}:{tag}}}");
            assert_eq!(
                client.run(&format!("GET {key}:n")).as_text(),
                Some(count.to_string())
            );
            assert_eq!(client.run(&format!("LLEN {key}:l")), Reply::Int(*count));
        }
    }
}

fn transaction(client: &mut Client, key: &str, count: i64, in_one_write: bool) {
    let lines = [
        "MULTI".to_owned(),
        format!("INCR {key}:n"),
        format!("RPUSH {key}:l {count}"),
        "EXEC".to_owned(),
    ];
    let words = |line: &String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let replies: Vec<Reply> = if in_one_write {
        client
            .pipeline(&lines.iter().map(words).collect::<Vec<_>>())
            .unwrap()
    } else {
        lines.iter().map(|line| client.run(line)).collect()
    };
    let done = Reply::Array(vec![Reply::Int(count), Reply::Int(count)]);
    assert_eq!(replies.last(), Some(&done), "{key}: {replies:?}");
}

/// Read, think, write under WATCH by several clients: every EXEC that was not refused counts once.
#[test]
fn updates_under_watch_are_not_lost_through_a_reshard() {
    let cluster = Cluster::start(3, 2);
    preload(&cluster, 30_000);
    const SHARED: usize = 20;
    let done: Vec<Mutex<i64>> = (0..SHARED).map(|_| Mutex::new(0)).collect();
    let refused = Mutex::new(0);
    while_resharding(
        &cluster,
        &["5", "2", "5", "2"],
        &[0, 1, 2],
        |name, round| {
            let mut client = cluster.client();
            let mut chance = Chance::from_seed(round * 10 + *name as u64);
            for _ in 0..50 {
                let number = chance.below(SHARED);
                let key = format!("watched:{number}");
                assert_eq!(client.run(&format!("WATCH {key}")), Reply::ok());
                let value = client.run(&format!("GET {key}"));
                let value: i64 = value
                    .as_text()
                    .map_or(0, |text| text.parse().expect("a number"));
                assert_eq!(client.run("MULTI"), Reply::ok());
                assert_eq!(
                    client
                        .run(&format!("SET {key} {}", value + 1))
                        .as_text()
                        .as_deref(),
                    Some("QUEUED")
                );
                match client.run("EXEC") {
                    Reply::Null => *refused.lock().unwrap() += 1,
                    Reply::Array(replies) => {
                        assert_eq!(replies, [Reply::ok()]);
                        *done[number].lock().unwrap() += 1;
                    }
                    other => panic!("EXEC answered {other}"),
                }
            }
        },
    );
    println!("{} were refused", refused.lock().unwrap());
    let mut client = cluster.client();
    for (number, done) in done.iter().enumerate() {
        let value = client.run(&format!("GET watched:{number}")).as_text();
        assert_eq!(
            value,
            Some(done.lock().unwrap().to_string()),
            "watched:{number}"
        );
    }
}
