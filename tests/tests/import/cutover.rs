//! The cutover through proxies: clients count while they are handed over, and no number is missing or there twice.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder_tests::cluster::{SECRET, larder_bin};
use larder_tests::process::local;
use larder_tests::{Client, Importer, Process, Reply, Up, free_port};

use crate::cluster::{addrs, old_cluster};
use crate::source::{digests, fill, larder, nodes, redis, url, wait_same};

/// Counters of each client.
const COUNTERS: usize = 5;

/// A second proxy beside the one of `larder up`.
fn another_proxy(name: &str, up: &Up, folder: &Path) -> (Process, SocketAddr) {
    let addr = local(free_port());
    let topology = up.topology_addr().to_string();
    let args = [
        "proxy",
        "--topology",
        &topology,
        "--listen",
        &addr.to_string(),
    ]
    .map(str::to_owned);
    let envs = [("LARDER_SECRET", SECRET)];
    let mut process =
        Process::start(name, &larder_bin(), &args, &envs, folder).expect("larder is built");
    process.wait_line("ready");
    (process, addr)
}

/// What a key holds at whichever of some servers owns it.
fn at(servers: &[SocketAddr], key: &str) -> Option<String> {
    let replies = servers
        .iter()
        .map(|addr| Client::to(*addr).run(&format!("GET {key}")));
    let mut answers = replies.filter(|reply| !reply.is_error());
    answers.next().expect("somebody owns the key").as_text()
}

/// Waits till proxies forward: what is written through them is at the source.
fn wait_forwarding(source: &[SocketAddr], proxies: &[SocketAddr]) {
    for (number, addr) in proxies.iter().enumerate() {
        let mut client = Client::to(*addr);
        let give_up = Instant::now() + Duration::from_secs(20);
        let mut round = 0;
        loop {
            round += 1;
            client.run(&format!("SET mark:{number} {round}"));
            let seen = at(source, &format!("mark:{number}"));
            if seen == Some(round.to_string()) {
                break;
            }
            assert!(
                Instant::now() < give_up,
                "{addr} does not forward: {seen:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Clients that count through proxies, each its own counters in pipelines, and all a common one.
struct Counting {
    stop: Arc<AtomicBool>,
    total: Arc<AtomicU64>,
    threads: Vec<JoinHandle<u64>>,
}

impl Counting {
    fn start(proxies: &[SocketAddr], clients: usize) -> Counting {
        let (stop, total) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let threads = (0..clients)
            .map(|number| {
                let (stop, total) = (stop.clone(), total.clone());
                let mut client = Client::to(proxies[number % proxies.len()]);
                std::thread::spawn(move || count(number, &mut client, &stop, &total))
            })
            .collect();
        Counting {
            stop,
            total,
            threads,
        }
    }

    /// Waits till `more` further rounds were made.
    fn wait_rounds(&self, more: u64) {
        let until = self.total.load(Ordering::Relaxed) + more;
        let give_up = Instant::now() + Duration::from_secs(30);
        while self.total.load(Ordering::Relaxed) < until {
            assert!(Instant::now() < give_up, "clients stand still");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .map(|thread| thread.join().expect("a client saw an error"))
            .sum()
    }
}

fn count(number: usize, client: &mut Client, stop: &AtomicBool, total: &AtomicU64) -> u64 {
    let mut rounds: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut requests: Vec<Vec<String>> = Vec::new();
        let mut say = |line: String| requests.push(line.split(' ').map(str::to_owned).collect());
        for counter in 0..COUNTERS {
            say(format!("INCR counter:{number}:{counter}"));
        }
        say("INCR common".to_owned());
        say(format!("RPUSH list:{number} {rounds}"));
        say("MULTI".to_owned());
        say(format!("INCR multi:{number}"));
        say(format!("GET multi:{number}"));
        say("EXEC".to_owned());
        let replies = client.pipeline(&requests).expect("the proxy lives");
        rounds += 1;
        let want = Reply::Int(rounds as i64);
        for (request, reply) in requests.iter().zip(&replies) {
            assert!(!reply.is_error(), "{request:?}: {reply}");
        }
        for reply in &replies[..COUNTERS] {
            assert_eq!(
                *reply, want,
                "client {number}: a number is missing or there twice"
            );
        }
        assert_eq!(replies[COUNTERS + 1], want, "client {number}'s list");
        assert_eq!(
            replies[COUNTERS + 5].items()[0],
            want,
            "client {number}'s transaction"
        );
        total.fetch_add(1, Ordering::Relaxed);
    }
    rounds
}

#[test]
fn clients_of_two_proxies_are_handed_over_without_an_error_or_a_lost_number() {
    let source = redis(&[]);
    fill(&mut source.client());
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let (_proxy, second) = another_proxy("second", &up, folder.path());
    let proxies = [up.proxy_addr(), second];
    // In a cluster busy as this one, the hold's length is not what is tested.
    let more = ["--hold", "4000"];
    let mut import = Importer::start(
        &url(source.addr()),
        up.topology_addr(),
        folder.path(),
        &more,
    );
    import.wait_streaming();
    wait_forwarding(&[source.addr()], &proxies);
    let counting = Counting::start(&proxies, 6);
    counting.wait_rounds(60);
    let done = import.ask(&["cutover"]);
    let (said, failed) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(
        done.status.success(),
        "{failed}\n{}",
        import.process.output()
    );
    assert!(
        said.contains("2 proxies turned to Larder") && !said.contains("BUT"),
        "{said}"
    );
    println!("{said}");
    assert!(import.process.wait_end().success());
    let frozen = source.client().run("GET common").as_text().unwrap();
    counting.wait_rounds(60);
    let rounds = counting.stop();
    let mut client = Client::to(second);
    assert_eq!(client.run("GET common").as_text(), Some(rounds.to_string()));
    assert_eq!(
        source.client().run("GET common").as_text(),
        Some(frozen),
        "the old server was written to"
    );
    // A proxy that starts after the cutover knows of it.
    let (_third, third) = another_proxy("third", &up, folder.path());
    assert_eq!(
        Client::to(third).run("GET common").as_text(),
        Some(rounds.to_string())
    );
}

#[test]
fn a_cutover_that_the_old_server_does_not_let_happen_in_time_is_not_done() {
    let mut source = redis(&[]);
    fill(&mut source.client());
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let proxies = [up.proxy_addr()];
    let more = ["--hold", "300"];
    let mut import = Importer::start(
        &url(source.addr()),
        up.topology_addr(),
        folder.path(),
        &more,
    );
    import.wait_streaming();
    wait_forwarding(&[source.addr()], &proxies);
    let counting = Counting::start(&proxies, 3);
    counting.wait_rounds(30);
    // It answers the importer's first questions, then nothing for a while.
    source
        .client()
        .run("CONFIG SET busy-reply-threshold 100000");
    let mut sleeper = source.client();
    let sleeping = std::thread::spawn(move || sleeper.run("DEBUG SLEEP 2"));
    let done = import.ask(&["cutover"]);
    assert_eq!(
        done.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&done.stdout)
    );
    sleeping.join().unwrap();
    counting.wait_rounds(30);
    let rounds = counting.stop();
    let mut old = source.client();
    assert_eq!(
        old.run("GET common").as_text(),
        Some(rounds.to_string()),
        "clients have stayed"
    );
    assert!(source.process().is_running());
    wait_same(&[source.addr()], &nodes(&up), 0);
}

#[test]
fn the_old_server_s_password_lies_in_the_clear_nowhere_at_larder() {
    const PASSWORD: &str = "only-the-old-server-knows";
    let source = redis(&[]);
    let user = format!("ACL SETUSER importer on >{PASSWORD} ~* &* +@all");
    assert!(!source.client().run(&user).is_error());
    // No client but the proxies and the import gets in.
    let (folder, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = kept.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let up = larder(folder.path());
    let proxies = [up.proxy_addr()];
    let from = format!("redis://importer@{}", source.addr());
    let more = ["--password-file", file.to_str().unwrap()];
    let mut import = Importer::start(&from, up.topology_addr(), folder.path(), &more);
    import.wait_streaming();
    wait_forwarding(&[source.addr()], &proxies);
    let clients = source.client().run("CLIENT LIST").as_text().unwrap();
    // The import's replica and the proxy's connections.
    assert!(clients.matches("user=importer").count() > 1, "{clients}");
    let record = up.larder(&["order", "FORWARD", "GET"]);
    let mut said = [record.stdout, record.stderr].concat();
    let status = import.ask(&["status", "--json"]);
    said.extend_from_slice(&status.stdout);
    said.extend_from_slice(import.process.output().as_bytes());
    let mut read = 0;
    let mut folders = vec![folder.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                read += 1;
                said.extend_from_slice(&std::fs::read(path).unwrap());
            }
        }
    }
    assert!(read > 0, "Larder keeps files");
    let has = |text: &str| {
        let text = text.as_bytes();
        said.windows(text.len()).any(|window| window == text)
    };
    assert!(has("redis+sealed://"), "the record was looked at");
    assert!(!has(PASSWORD));
}

#[test]
fn an_import_that_is_aborted_leaves_clients_with_the_old_server() {
    let source = redis(&[]);
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let proxies = [up.proxy_addr()];
    let mut import = Importer::start(&url(source.addr()), up.topology_addr(), folder.path(), &[]);
    import.wait_streaming();
    wait_forwarding(&[source.addr()], &proxies);
    let counting = Counting::start(&proxies, 2);
    counting.wait_rounds(20);
    assert!(import.ask(&["abort", "--clear"]).status.success());
    counting.wait_rounds(20);
    let rounds = counting.stop();
    assert_eq!(
        source.client().run("GET common").as_text(),
        Some(rounds.to_string())
    );
}

#[test]
fn clients_of_a_cluster_are_handed_over_without_an_error_or_a_lost_number() {
    let old = old_cluster();
    let there = addrs(&old);
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let (_proxy, second) = another_proxy("second", &up, folder.path());
    let proxies = [up.proxy_addr(), second];
    let more = ["--hold", "4000"];
    let mut import = Importer::start(&url(there[1]), up.topology_addr(), folder.path(), &more);
    import.wait_streaming();
    wait_forwarding(&there, &proxies);
    let counting = Counting::start(&proxies, 6);
    counting.wait_rounds(60);
    let done = import.ask(&["cutover"]);
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&done.stderr),
        import.process.output()
    );
    assert!(
        said.contains("2 proxies turned to Larder") && !said.contains("BUT"),
        "{said}"
    );
    println!("{said}");
    assert!(import.process.wait_end().success());
    let frozen = at(&there, "common");
    counting.wait_rounds(60);
    let rounds = counting.stop();
    let count = Client::to(second).run("GET common").as_text();
    assert_eq!(count, Some(rounds.to_string()));
    assert_ne!(count, frozen, "nobody has gone on at Larder");
    assert_eq!(
        at(&there, "common"),
        frozen,
        "the old cluster was written to"
    );
}

#[test]
fn clients_of_a_cluster_stay_with_it_when_a_cutover_fails_and_when_the_import_is_aborted() {
    let old = old_cluster();
    let there = addrs(&old);
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let proxies = [up.proxy_addr()];
    let more = ["--hold", "300"];
    let mut import = Importer::start(&url(there[0]), up.topology_addr(), folder.path(), &more);
    import.wait_streaming();
    wait_forwarding(&there, &proxies);
    let counting = Counting::start(&proxies, 3);
    counting.wait_rounds(30);
    // One primary answers nothing while the others would let go of their clients.
    let mut sleeper = old[2].client();
    let sleeping = std::thread::spawn(move || sleeper.run("DEBUG SLEEP 1"));
    let done = import.ask(&["cutover"]);
    assert_eq!(
        done.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&done.stdout)
    );
    sleeping.join().unwrap();
    counting.wait_rounds(30);
    assert!(import.ask(&["abort", "--clear"]).status.success());
    assert!(import.process.wait_end().success());
    counting.wait_rounds(30);
    let rounds = counting.stop();
    assert_eq!(at(&there, "common"), Some(rounds.to_string()));
    assert!(
        digests(&nodes(&up)).is_empty(),
        "what was copied is cleared"
    );
}
