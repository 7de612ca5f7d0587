//! Keys with a time to live keep it when they move, and go on time; FLUSHALL leaves nothing behind, wherever keys are on their way.

use std::time::{Duration, Instant};

use larder_tests::{Cluster, Reply};

use crate::{reshard, while_resharding};

const KEYS: usize = 3000;

#[test]
fn keys_keep_their_time_to_live_when_they_move_and_expire_on_time() {
    let cluster = Cluster::start(3, 2);
    let mut client = cluster.client();
    let now_ms = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.unwrap().as_millis() as i64
    };
    let far = now_ms() + 3_600_000;
    let soon = now_ms() + 2_500;
    let mut requests: Vec<Vec<String>> = Vec::new();
    for number in 0..KEYS {
        let words = |line: String| line.split(' ').map(str::to_owned).collect();
        requests.push(words(format!(
            "SET far:{number} v PXAT {}",
            far + number as i64
        )));
        requests.push(words(format!("RPUSH list:{number} a b c")));
        requests.push(words(format!(
            "PEXPIREAT list:{number} {}",
            far - number as i64
        )));
        requests.push(words(format!("SET soon:{number} v PXAT {soon}")));
        requests.push(words(format!("SET never:{number} v")));
    }
    for chunk in requests.chunks(1000) {
        assert!(
            client
                .pipeline(chunk)
                .unwrap()
                .iter()
                .all(|reply| !reply.is_error())
        );
    }
    reshard(&cluster, &["5"]);
    // Some expire at a source or target in the middle of a move.
    let start = Instant::now();
    while now_ms() < soon + 300 {
        reshard(&cluster, &["2", "5"]);
    }
    println!("{:?} of resharding", start.elapsed());
    for number in 0..KEYS {
        let expected = [
            ("PEXPIRETIME far:", far + number as i64),
            ("PEXPIRETIME list:", far - number as i64),
            ("EXISTS soon:", 0),
            ("PEXPIRETIME never:", -1),
        ];
        for (start, expected) in expected {
            assert_eq!(
                client.run(&format!("{start}{number}")),
                Reply::Int(expected),
                "{start}{number}"
            );
        }
    }
    let give_up = Instant::now() + Duration::from_secs(10);
    while client.run("DBSIZE") != Reply::Int(3 * KEYS as i64) {
        assert!(
            Instant::now() < give_up,
            "the expired are not gone: {}",
            client.run("DBSIZE")
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_flush_during_a_reshard_leaves_no_key_that_was_there_before() {
    let cluster = Cluster::start(3, 2);
    let counts = ["5", "2", "5", "2", "5", "2"];
    while_resharding(&cluster, &counts, &[()], |(), round| {
        let mut client = cluster.client();
        let sets: Vec<Vec<String>> = (0..2000)
            .map(|number| vec!["SET".into(), format!("f:{round}:{number}"), "v".into()])
            .collect();
        assert!(
            client
                .pipeline(&sets)
                .unwrap()
                .iter()
                .all(|reply| *reply == Reply::ok())
        );
        assert_eq!(client.run("FLUSHALL"), Reply::ok());
        for chunk in sets.chunks(500) {
            let mut exists = vec!["EXISTS".to_owned()];
            exists.extend(chunk.iter().map(|set| set[1].clone()));
            assert_eq!(client.ask(&exists).unwrap(), Reply::Int(0), "round {round}");
        }
    });
    assert_eq!(cluster.client().run("DBSIZE"), Reply::Int(0));
}
