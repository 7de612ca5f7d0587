//! What clients and operators see while slots move: scans, commands over many slots, transactions, huge values, expiry, full nodes, faults.

mod databases;
mod expiry;
mod faults;
mod large;
mod operator;
mod scan;
mod spread;
mod transactions;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use larder_tests::{Cluster, Reply};

/// Reshards to each of the counts in turn.
fn reshard(cluster: &Cluster, counts: &[&str]) {
    for shards in counts {
        let start = Instant::now();
        let output = cluster.larder(&["reshard", "--shards", shards]);
        assert!(output.status.success(), "reshard to {shards}: {output:?}");
        println!("resharded to {shards} shards in {:?}", start.elapsed());
    }
}

/// Runs `check` in a loop on threads of its own, once per item of `ways`, until the reshards are done; each at least once after that.
fn while_resharding<T: Sync>(
    cluster: &Cluster,
    counts: &[&str],
    ways: &[T],
    check: impl Fn(&T, u64) + Sync,
) {
    let done = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let threads: Vec<_> = ways
            .iter()
            .map(|way| {
                scope.spawn(|| {
                    let mut rounds = 0;
                    loop {
                        let last = done.load(Ordering::Relaxed);
                        check(way, rounds);
                        rounds += 1;
                        if last {
                            return rounds;
                        }
                    }
                })
            })
            .collect();
        let resharded =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reshard(cluster, counts)));
        done.store(true, Ordering::Relaxed);
        let rounds: Vec<u64> = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        if let Err(panic) = resharded {
            std::panic::resume_unwind(panic);
        }
        rounds
    });
    println!("rounds while resharding: {rounds:?}");
}

/// `SET` of `plain:0` to `plain:count - 1`.
fn preload(cluster: &Cluster, count: usize) {
    let mut client = cluster.client();
    for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
        let sets: Vec<Vec<String>> = chunk
            .iter()
            .map(|key| vec!["SET".into(), plain_key(*key), plain_value(*key)])
            .collect();
        let replies = client.pipeline(&sets).expect("the proxy serves");
        assert!(
            replies.iter().all(|reply| *reply == Reply::ok()),
            "{replies:?}"
        );
    }
}

fn plain_key(number: usize) -> String {
    format!("plain:{number}")
}

fn plain_value(number: usize) -> String {
    format!("value:{number}")
}
