//! A scan through the proxy visits every key that stays put, while slots move under it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_tests::Client;
use larder_tests::cluster::Cluster;

const KEYS: usize = 5_000;

#[test]
fn scans_during_a_reshard_miss_no_key() {
    let cluster = Cluster::start(3, 2);
    let mut client = cluster.client();
    for n in 0..KEYS {
        let reply = client.run(&format!("SET stays:{n} {n}"));
        assert!(!reply.is_error(), "{reply:?}");
    }
    let addr = cluster.proxy_addr();
    let done = Arc::new(AtomicBool::new(false));
    let scanners: Vec<_> = (0..2)
        .map(|_| {
            let done = done.clone();
            std::thread::spawn(move || {
                let mut client = Client::to(addr);
                let mut scans = 0;
                while !done.load(Ordering::SeqCst) || scans == 0 {
                    let seen = scan(&mut client);
                    assert_eq!(seen.len(), KEYS, "scan {scans} missed keys");
                    scans += 1;
                }
                scans
            })
        })
        .collect();
    for shards in ["5", "2", "4", "3"] {
        let output = cluster.larder(&["reshard", "--shards", shards]);
        assert!(output.status.success(), "reshard to {shards}: {output:?}");
    }
    done.store(true, Ordering::SeqCst);
    for scanner in scanners {
        println!("{} scans", scanner.join().expect("no scan misses a key"));
    }
}

fn scan(client: &mut Client) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut cursor = "0".to_string();
    loop {
        let reply = client.run(&format!("SCAN {cursor} COUNT 100 MATCH stays:*"));
        let parts = reply.items();
        assert_eq!(parts.len(), 2, "{reply:?}");
        seen.extend(parts[1].items().iter().filter_map(|key| key.as_text()));
        cursor = parts[0].as_text().expect("a cursor");
        if cursor == "0" {
            return seen;
        }
    }
}
