//! Commands over many slots while slots move: never nil for a key that exists, sums that are right, no half of an MSET lost.

use larder_tests::{Client, Cluster, Reply};

use crate::{plain_key, plain_value, preload, while_resharding};

const KEYS: usize = 20_000;
const BATCH: usize = 200;

#[test]
fn commands_over_many_slots_are_whole_through_a_reshard() {
    let cluster = Cluster::start(3, 2);
    preload(&cluster, KEYS);
    let ways = [("read", 0), ("write", 1), ("delete", 2), ("write", 3)];
    while_resharding(
        &cluster,
        &["5", "2", "5", "2"],
        &ways,
        |(way, name), round| {
            let mut client = cluster.client();
            if round % 2 == 1 {
                assert!(!client.run("HELLO 3").is_error());
            }
            for turn in 0..10 {
                match *way {
                    "read" => read(&mut client, (round as usize * 10 + turn) * BATCH),
                    "write" => write(&mut client, &format!("w:{name}"), round * 10 + turn as u64),
                    _ => delete(&mut client, &format!("d:{name}"), round * 10 + turn as u64),
                }
            }
        },
    );
    let mut client = cluster.client();
    for start in (0..KEYS).step_by(BATCH) {
        read(&mut client, start);
    }
}

fn named(command: &str, keys: impl Iterator<Item = String>) -> Vec<String> {
    std::iter::once(command.to_owned()).chain(keys).collect()
}

fn read(client: &mut Client, start: usize) {
    let numbers: Vec<usize> = (start..start + BATCH).map(|n| n % KEYS).collect();
    let keys = || numbers.iter().map(|n| plain_key(*n));
    let values = client.ask(&named("MGET", keys())).unwrap();
    let expected: Vec<Reply> = numbers
        .iter()
        .map(|n| Reply::bulk(&plain_value(*n)))
        .collect();
    assert_eq!(values, Reply::Array(expected));
    assert_eq!(
        client.ask(&named("EXISTS", keys())).unwrap(),
        Reply::Int(BATCH as i64)
    );
    assert_eq!(
        client.ask(&named("TOUCH", keys())).unwrap(),
        Reply::Int(BATCH as i64)
    );
}

/// MSET of a value to many keys, then each key has it.
fn write(client: &mut Client, name: &str, value: u64) {
    let value = format!("value:{value}");
    let keys = || (0..BATCH).map(|n| format!("{name}:{n}"));
    let pairs = keys().flat_map(|key| [key, value.clone()]);
    assert_eq!(client.ask(&named("MSET", pairs)).unwrap(), Reply::ok());
    let values = client.ask(&named("MGET", keys())).unwrap();
    assert_eq!(values, Reply::Array(vec![Reply::bulk(&value); BATCH]));
}

/// What was set and deleted is gone, and counted once.
fn delete(client: &mut Client, name: &str, value: u64) {
    write(client, name, value);
    let keys = || (0..BATCH).map(|n| format!("{name}:{n}"));
    let command = if value.is_multiple_of(2) {
        "DEL"
    } else {
        "UNLINK"
    };
    let half = keys().step_by(2);
    assert_eq!(
        client.ask(&named(command, half)).unwrap(),
        Reply::Int(BATCH as i64 / 2)
    );
    assert_eq!(
        client.ask(&named("EXISTS", keys())).unwrap(),
        Reply::Int(BATCH as i64 / 2)
    );
    assert_eq!(
        client.ask(&named("DEL", keys())).unwrap(),
        Reply::Int(BATCH as i64 / 2)
    );
    assert_eq!(client.ask(&named("EXISTS", keys())).unwrap(), Reply::Int(0));
}
