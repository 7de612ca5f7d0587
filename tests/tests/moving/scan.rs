//! SCAN through a reshard sees every key that stays put; KEYS, DBSIZE and RANDOMKEY stay sane.

use std::collections::HashSet;

use larder_tests::{Client, Cluster, Reply};

use crate::{plain_key, preload, while_resharding};

const KEYS: usize = 20_000;
const SETS: usize = 300;
/// A scan of so many calls has gone astray.
const CALLS_MAX: usize = 40_000;

#[test]
fn a_scan_through_a_reshard_ends_and_sees_every_key() {
    let cluster = Cluster::start(3, 2);
    preload(&cluster, KEYS);
    let mut client = cluster.client();
    for number in 0..SETS {
        assert_eq!(client.run(&format!("SADD set:{number} a b")), Reply::Int(2));
    }
    let plain: HashSet<String> = (0..KEYS).map(plain_key).collect();
    let sets: HashSet<String> = (0..SETS).map(|number| format!("set:{number}")).collect();
    let some = plain.iter().filter(|key| key.ends_with('7')).cloned();
    let some: HashSet<String> = some.collect();
    let all = plain.union(&sets).cloned().collect();
    let ways: [(&str, HashSet<String>); 4] = [
        ("COUNT 10", all),
        ("COUNT 100 MATCH plain:*7", some),
        ("COUNT 100 TYPE set", sets),
        ("COUNT 1000 TYPE string", plain),
    ];
    while_resharding(
        &cluster,
        &["5", "2", "5", "2"],
        &ways,
        |(way, expected), round| {
            let (seen, calls) = scan(&mut cluster.client(), way);
            let missing: Vec<&String> = expected.difference(&seen).take(10).collect();
            assert!(
                missing.is_empty(),
                "{way}, round {round}, {calls} calls: unseen, for one, are {missing:?}"
            );
            assert_eq!(seen.len(), expected.len(), "{way}: nothing else is seen");
        },
    );
}

fn scan(client: &mut Client, way: &str) -> (HashSet<String>, usize) {
    let mut cursor = "0".to_owned();
    let mut seen = HashSet::new();
    for calls in 1..=CALLS_MAX {
        let Reply::Array(parts) = client.run(&format!("SCAN {cursor} {way}")) else {
            panic!("SCAN {cursor} {way} gave no array")
        };
        cursor = parts[0].as_text().expect("a cursor");
        seen.extend(parts[1].items().iter().filter_map(Reply::as_text));
        if cursor == "0" {
            return (seen, calls);
        }
    }
    panic!(
        "{way}: {CALLS_MAX} calls and no end; {} keys seen",
        seen.len()
    );
}

#[test]
fn random_keys_exist_and_counts_are_near_the_truth_through_a_reshard() {
    let cluster = Cluster::start(3, 2);
    preload(&cluster, KEYS);
    while_resharding(
        &cluster,
        &["5", "2"],
        &["RANDOMKEY", "DBSIZE", "KEYS"],
        |way, _| {
            let mut client = cluster.client();
            match *way {
                "RANDOMKEY" => {
                    let key = client.run("RANDOMKEY").as_text().expect("there are keys");
                    assert_eq!(client.run(&format!("EXISTS {key}")), Reply::Int(1), "{key}");
                }
                "DBSIZE" => {
                    // Nodes are asked one by one: what moves meanwhile may be counted by none or by both.
                    let count = client.run("DBSIZE").as_int().expect("a number") as usize;
                    assert!(count > KEYS / 2 && count < KEYS * 3 / 2, "DBSIZE {count}");
                }
                _ => {
                    let count = client.run("KEYS plain:*").items().len();
                    assert!(count > KEYS / 2 && count < KEYS * 3 / 2, "KEYS {count}");
                }
            }
        },
    );
    let mut client = cluster.client();
    assert_eq!(client.run("DBSIZE"), Reply::Int(KEYS as i64));
    assert_eq!(client.run("KEYS *").items().len(), KEYS);
}
