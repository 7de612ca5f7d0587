//! The source is emptied while Larder's slots change hands: no key outlives it here.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use larder_tests::{Client, Importer, Up};

use crate::cluster::{addrs, old_cluster};
use crate::source::{larder, redis, url};

/// Fewest reshards of Larder meanwhile: each hands slots over several times. As often at least the sources are emptied.
const RESHARDS: usize = 8;
/// Most of them while the sources have not been emptied so often.
const RESHARDS_MAX: usize = 80;
/// Keys that are there when the source is emptied.
const KEYS: usize = 300;
/// Longest wait for what was written at the source to be here.
const HERE_S_MAX: u64 = 60;

/// Fills and empties the sources again and again while Larder is resharded, and looks here each time.
fn empty_while_slots_move(sources: &[SocketAddr], up: &Up) {
    let (is_over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..RESHARDS_MAX {
                if number >= RESHARDS && rounds.load(Ordering::Relaxed) > RESHARDS {
                    break;
                }
                let shards = if number % 2 == 0 { "3" } else { "2" };
                let moved = up.larder(&["reshard", "--shards", shards]);
                let cause = String::from_utf8_lossy(&moved.stderr).into_owned();
                is_over.fetch_or(!moved.status.success(), Ordering::Relaxed);
                assert!(moved.status.success(), "{cause}");
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let mut clients: Vec<Client> = sources.iter().map(|addr| Client::to(*addr)).collect();
        let mut here = up.client();
        let keys: Vec<String> = (0..KEYS).map(|number| format!("key{number}")).collect();
        let (mut round, mut is_last) = (0, false);
        while !is_last {
            is_last = is_over.load(Ordering::Relaxed);
            round += 1;
            // In a cluster each server takes its own and refuses the rest.
            let value = round.to_string();
            let sets: Vec<Vec<&str>> = keys.iter().map(|key| vec!["SET", key, &value]).collect();
            let word = if round % 2 == 0 {
                "FLUSHALL"
            } else {
                "FLUSHDB"
            };
            for client in &mut clients {
                client.pipeline(&sets).expect("the source lives");
                assert!(!client.run(word).is_error());
                // One key of each third of the slots.
                for marker in ["{06S}", "{foo}", "{c}"] {
                    client
                        .ask(&["SET", marker, &value])
                        .expect("the source lives");
                }
            }
            let give_up = Instant::now() + Duration::from_secs(HERE_S_MAX);
            for marker in ["{06S}", "{foo}", "{c}"] {
                while here.ask(&["GET", marker]).unwrap().as_text().as_deref() != Some(&value) {
                    assert!(Instant::now() < give_up, "round {round} does not arrive");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            let question: Vec<&str> = std::iter::once("EXISTS")
                .chain(keys.iter().map(String::as_str))
                .collect();
            let left = here.ask(&question).expect("Larder lives");
            assert_eq!(
                left.as_int(),
                Some(0),
                "keys outlived a {word} in round {round}"
            );
            rounds.store(round, Ordering::Relaxed);
            println!("round {round} is over after {:?}", begin.elapsed());
        }
        assert!(round > RESHARDS, "next to nothing was emptied: {round}");
    });
}

#[test]
fn no_key_outlives_a_flush_of_the_source_while_slots_change_hands() {
    let source = redis(&[]);
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let from = url(source.addr());
    let mut import = Importer::start(&from, up.topology_addr(), folder.path(), &["--no-forward"]);
    import.wait_streaming();
    empty_while_slots_move(&[source.addr()], &up);
}

#[test]
fn no_key_outlives_a_flush_of_an_old_cluster_while_slots_change_hands() {
    let old = old_cluster();
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let from = url(old[0].addr());
    let mut import = Importer::start(&from, up.topology_addr(), folder.path(), &["--no-forward"]);
    import.wait_streaming();
    empty_while_slots_move(&addrs(&old), &up);
}
