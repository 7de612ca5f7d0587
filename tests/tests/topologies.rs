//! Several topologies share a record in a real etcd: one leads, another takes over, and whatever happens to them or to etcd,
//! clients of the cluster notice nothing and the record stays whole.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use larder_tests::cluster::{Cluster, array};
use larder_tests::workload::{Load, Outcome, Workload, compare};
use larder_tests::{Client, Etcd, Relay, Reply, Topologies, http};
use serde_json::Value;

const LOAD: Load = Load {
    writers: 2,
    counters: 200,
    lists: 100,
    hash_fields: 2_000,
    pipeline: 8,
};
const PLAIN_KEYS: usize = 50_000;

/// What the cluster is told to have in these tests.
const SHARDS: usize = 2;

struct World {
    // Dropped in this order.
    cluster: Cluster,
    topologies: Topologies,
    etcd: Etcd,
}

impl World {
    /// `count` topologies, and a cluster of two shards and `spares` spare nodes.
    fn start(count: usize, spares: usize) -> World {
        let etcd = Etcd::start();
        let topologies = Topologies::start(&vec![etcd.addr(); count], SHARDS);
        let cluster = Cluster::join(&topologies.list(), SHARDS, spares);
        World {
            cluster,
            topologies,
            etcd,
        }
    }

    fn load(&self, seed: u64) -> Workload {
        let load = Workload::start(self.cluster.proxy_addr(), seed, LOAD);
        load.wait_for_more(500);
        load
    }

    fn assert_clients_noticed_nothing(&self, outcome: &Outcome) {
        println!(
            "{} requests, the longest batch took {:?}",
            outcome.requests, outcome.longest
        );
        assert!(outcome.faults.is_empty(), "{:?}", outcome.faults);
        let lost = compare(&mut self.cluster.client(), &outcome.model);
        assert!(lost.is_empty(), "{lost:?}");
    }
}

fn preload(client: &mut Client) {
    for from in (0..PLAIN_KEYS).step_by(1000) {
        let requests: Vec<Vec<String>> = (from..from + 1000)
            .map(|key| vec!["SET".into(), format!("plain:{key}"), "x".repeat(64)])
            .collect();
        client.pipeline(&requests).expect("keys are set");
    }
}

fn epoch(status: &Value) -> u64 {
    status["epoch"].as_u64().expect("an epoch")
}

/// The outcome of the operation that was finished last.
fn finished(status: &Value) -> Option<&Value> {
    array(status, "finished").last()
}

/// `larder reshard`, which has been answered that its order is taken, and watches what comes of it.
fn begun(cluster: &Cluster, shards: &str) -> Child {
    let mut operator = cluster
        .operator(&["reshard", "--shards", shards])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("larder runs");
    let mut said = BufReader::new(operator.stdout.take().expect("it is piped")).lines();
    let taken = said.any(|line| line.is_ok_and(|line| line.contains("slots move")));
    assert!(taken, "the order was not taken");
    // Whoever prints into a closed pipe fails.
    thread::spawn(move || said.for_each(drop));
    operator
}

#[test]
fn one_leads_and_the_others_point_to_it() {
    let world = World::start(3, 0);
    let all = &world.topologies;
    let leader = all.wait_leader(&[0, 1, 2]);
    let leader_addr = all.addr(leader).to_string();
    for index in all.others(leader) {
        assert!(!all.leads(index), "two lead");
        for asked in [
            "LARDER STATUS",
            "LARDER RESHARD SHARDS 1",
            "LARDER WATCH",
            "CLUSTER SLOTS",
        ] {
            match all.ask(index, asked) {
                Reply::Error(text) => assert!(
                    text.starts_with(&format!("NOTLEADER {leader_addr} ")),
                    "{asked}: {text}"
                ),
                other => panic!("{asked}: {other:?}"),
            }
        }
        assert_eq!(all.ask(index, "PING"), Reply::Simple("PONG".into()));
        assert_eq!(
            http::get(all.http(index), "/healthz"),
            Some((200, "ok\n".into()))
        );
        let (code, text) = http::get(all.http(index), "/readyz").unwrap();
        assert_eq!(code, 503);
        assert!(text.contains(&format!("{leader_addr} leads")), "{text}");
        let (_, metrics) = http::get(all.http(index), "/metrics").unwrap();
        assert!(
            metrics.contains("larder_topology_leader{cluster=\"larder\"} 0"),
            "{metrics}"
        );
        assert!(!metrics.contains("larder_topology_epoch"), "{metrics}");
        for page in ["/", "/status.json"] {
            assert_eq!(
                http::get(all.http(index), page).map(|(code, _)| code),
                Some(307)
            );
        }
        let (_, found) = http::get(all.http(index), "/sd").unwrap();
        let found: Value = serde_json::from_str(&found).unwrap();
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    }
    let (code, _) = http::get(all.http(leader), "/readyz").unwrap();
    assert_eq!(code, 200);
    let (_, metrics) = http::get(all.http(leader), "/metrics").unwrap();
    assert!(
        metrics.contains("larder_topology_leader{cluster=\"larder\"} 1"),
        "{metrics}"
    );
    // Whoever knows only of one that stands by finds the leader all the same.
    let follower = all.addr(all.others(leader)[0]).to_string();
    let output = std::process::Command::new(larder_tests::cluster::larder_bin())
        .args(["status", "--topology", &follower])
        .env("LARDER_SECRET", larder_tests::cluster::SECRET)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The time until another of the topologies leads and answers from the record.
fn takeover(world: &World, gone: usize) -> (usize, Duration) {
    let began = Instant::now();
    let next = world.topologies.wait_leader(&world.topologies.others(gone));
    while !matches!(
        world.topologies.ask(next, "LARDER STATUS JSON"),
        Reply::Bulk(_)
    ) {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "it leads and answers not"
        );
    }
    (next, began.elapsed())
}

#[test]
fn after_kill_9_of_the_leader_another_leads_within_seconds_and_goes_on_with_the_work() {
    let mut world = World::start(3, 2);
    preload(&mut world.cluster.client());
    let load = world.load(1);
    let leader = world.topologies.wait_leader(&[0, 1, 2]);
    let mut operator = begun(&world.cluster, "4");
    let before = world.cluster.status().expect("the leader answers");
    world.topologies.process(leader).kill();
    let (next, took) = takeover(&world, leader);
    println!("takeover after kill -9: {took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    // The operator's command has followed to the new leader, and sees the end.
    assert!(operator.wait().unwrap().success());
    let status = world.cluster.wait_until("the reshard is done", |status| {
        finished(status).is_some_and(|last| last["outcome"] == "done")
    });
    assert!(epoch(&status) >= epoch(&before));
    assert_eq!(array(&status, "shards").len(), 4);
    // The one that was killed comes back and stands by.
    world.topologies.start_one(leader);
    assert!(!world.topologies.leads(leader) && world.topologies.leads(next));
    load.wait_for_more(500);
    world.assert_clients_noticed_nothing(&load.finish());
}

#[test]
fn a_leader_and_a_primary_that_die_at_once_are_both_replaced_and_what_was_answered_in_safe_is_there()
 {
    let etcd = Etcd::start();
    let flags = ["--replicas", "2", "--writes", "safe"];
    let mut topologies = Topologies::start_flagged(&[etcd.addr(); 3], 1, &flags);
    let mut cluster = Cluster::join(&topologies.list(), 1, 2);
    let status = cluster.wait_until("both replicas are in step", |status| {
        let shards = array(status, "shards").iter();
        let replicas = shards.flat_map(|shard| array(shard, "replicas"));
        replicas.filter(|it| it["in_step"] == true).count() == 2
    });
    let addr = |status: &Value| {
        status["shards"][0]["node"]["addr"]
            .as_str()
            .map(String::from)
    };
    let old = addr(&status).expect("a primary");
    let primary = cluster.node_at(&old).expect("a node of the cluster");
    let mut client = cluster.client();
    for key in 0..500 {
        let line = format!("SET key:{key} {key}");
        assert_eq!(client.run(&line), Reply::ok());
    }
    let leader = topologies.wait_leader(&[0, 1, 2]);
    topologies.process(leader).kill();
    cluster.nodes[primary].as_mut().expect("it runs").kill();
    let gone = Instant::now();
    topologies.wait_leader(&topologies.others(leader));
    cluster.wait_until("another is the primary", |status| {
        addr(status).is_some_and(|addr| addr != old)
    });
    println!("both are replaced after {:?}", gone.elapsed());
    for key in 0..500 {
        let read = client.run(&format!("GET key:{key}"));
        assert_eq!(read, Reply::bulk(&key.to_string()));
    }
    assert_eq!(client.run("SET key:0 after"), Reply::ok());
}

#[test]
fn a_leader_that_is_stopped_hands_over_at_once() {
    let mut world = World::start(2, 0);
    let load = world.load(2);
    let mut quickest = Duration::MAX;
    for _ in 0..2 {
        let leader = world.topologies.wait_leader(&[0, 1]);
        world.topologies.process(leader).signal("TERM");
        let (_, took) = takeover(&world, leader);
        println!("takeover after a clean stop: {took:?}");
        quickest = quickest.min(took);
        assert!(world.topologies.process(leader).wait_end().success());
        world.topologies.start_one(leader);
    }
    // No lease has to run out.
    assert!(quickest < Duration::from_millis(1500), "{quickest:?}");
    load.wait_for_more(500);
    world.assert_clients_noticed_nothing(&load.finish());
}

#[test]
fn a_leader_that_slept_through_its_lease_steps_down_and_the_epoch_never_goes_back() {
    let mut world = World::start(2, 2);
    preload(&mut world.cluster.client());
    let load = world.load(3);
    let leader = world.topologies.wait_leader(&[0, 1]);
    let mut operator = begun(&world.cluster, "4");
    world.topologies.process(leader).signal("STOP");
    let (next, took) = takeover(&world, leader);
    println!("takeover from a leader that sleeps: {took:?}");
    assert!(operator.wait().unwrap().success());
    let output = world.cluster.larder(&["reshard", "--shards", "1"]);
    assert!(output.status.success(), "{output:?}");
    let there = epoch(&world.cluster.status().unwrap());
    world.topologies.process(leader).signal("CONT");
    // From its first answer on it does not lead.
    assert!(!world.topologies.leads(leader), "two lead");
    match world.topologies.ask(leader, "LARDER STATUS") {
        Reply::Error(text) => assert!(text.starts_with("NOTLEADER "), "{text}"),
        other => panic!("{other:?}"),
    }
    world
        .topologies
        .process(leader)
        .wait_for("to stand by", |process| {
            process
                .output()
                .contains("this topology stands by, waiting for its turn")
        });
    load.wait_for_more(500);
    assert!(world.topologies.leads(next));
    assert_eq!(epoch(&world.cluster.status().unwrap()), there);
    world.assert_clients_noticed_nothing(&load.finish());
}

#[test]
fn a_record_that_arrives_after_the_lead_was_lost_is_refused() {
    let etcd = Etcd::start();
    let relay = Relay::to(etcd.addr());
    let mut topologies = Topologies::start(&[relay.addr()], SHARDS);
    topologies.wait_leader(&[0]);
    let cluster = Cluster::join(&topologies.list(), SHARDS, 1);
    let second = Topologies::start(&[etcd.addr()], SHARDS);
    // All that the leader sends to etcd waits from here on, its record of this order first.
    relay.hold();
    let leader = topologies.addr(0);
    let ordering = thread::spawn(move || {
        let mut client = Client::to(leader);
        client.run(&format!("AUTH larder {}", larder_tests::cluster::SECRET));
        client.run("LARDER RESHARD SHARDS 3")
    });
    let late_answer = ordering.join().unwrap();
    match &late_answer {
        // It could not record the order before its lease was over: nobody was told that it was taken.
        Reply::Error(text) => assert!(text.starts_with("NOTLEADER"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert!(!topologies.leads(0), "it leads without a lease");
    second.wait_leader(&[0]);
    let there = second.ask(0, "LARDER STATUS JSON");
    relay.release();
    topologies
        .process(0)
        .wait_for("to have its late record refused", |process| {
            process
                .output()
                .contains("a late record was refused: another topology leads")
        });
    topologies.process(0).wait_for("to stand by", |process| {
        process
            .output()
            .contains("this topology stands by, waiting for its turn")
    });
    assert!(second.leads(0) && !topologies.leads(0));
    // What the second one has is what the cluster goes on with: without the order.
    let read = |reply: &Reply| -> Value {
        serde_json::from_str(&reply.as_text().expect("a status")).expect("in JSON")
    };
    let (before, after) = (read(&there), read(&second.ask(0, "LARDER STATUS JSON")));
    assert_eq!(after["shards_wanted"], SHARDS);
    assert!(epoch(&after) >= epoch(&before) && after["operation"].is_null());
    drop(cluster);
}

#[test]
fn a_record_whose_answer_was_lost_is_no_reason_to_step_down() {
    let etcd = Etcd::start();
    let relay = Relay::to(etcd.addr());
    let mut topologies = Topologies::start(&[relay.addr()], SHARDS);
    let cluster = Cluster::join(&topologies.list(), SHARDS, 1);
    relay.lose_answers(true);
    let answer = thread::scope(|scope| {
        let addr = topologies.addr(0);
        let ordering = scope.spawn(move || {
            let mut client = Client::to(addr);
            client.run(&format!("AUTH larder {}", larder_tests::cluster::SECRET));
            client.run("LARDER RESHARD SHARDS 3 JSON")
        });
        topologies
            .process(0)
            .wait_for("to miss an answer", |process| {
                process
                    .output()
                    .contains("the store of record takes no writes")
            });
        relay.lose_answers(false);
        ordering.join().expect("it is answered")
    });
    assert!(matches!(answer, Reply::Bulk(_)), "{answer:?}");
    cluster.wait_until("the reshard is done", |status| {
        array(status, "shards").len() == 3
    });
    let (_, metrics) = http::get(topologies.http(0), "/metrics").unwrap();
    assert!(
        metrics.contains("larder_topology_terms_total{cluster=\"larder\"} 1"),
        "{metrics}"
    );
}

#[test]
fn etcd_is_killed_and_comes_back_during_a_reshard() {
    let mut world = World::start(2, 2);
    preload(&mut world.cluster.client());
    let load = world.load(4);
    let mut operator = begun(&world.cluster, "4");
    let before = world.cluster.status().expect("the leader answers");
    world.etcd.kill();
    // Longer than a lease lives: nobody leads.
    let began = Instant::now();
    while world.topologies.leads(0) || world.topologies.leads(1) {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "it leads without a lease"
        );
        thread::sleep(Duration::from_millis(20));
    }
    println!(
        "without etcd the leader stood down after {:?}",
        began.elapsed()
    );
    load.wait_for_more(1_000);
    world.etcd.start_again();
    world.topologies.wait_leader(&[0, 1]);
    let status = world.cluster.wait_until("the reshard is done", |status| {
        finished(status).is_some_and(|last| last["outcome"] == "done")
    });
    assert!(operator.wait().unwrap().success());
    assert!(epoch(&status) >= epoch(&before));
    assert_eq!(array(&status, "shards").len(), 4);
    load.wait_for_more(500);
    world.assert_clients_noticed_nothing(&load.finish());
}

#[test]
fn with_all_topologies_down_clients_read_and_write() {
    let mut world = World::start(2, 0);
    let load = world.load(5);
    world.topologies.kill_all();
    load.wait_for_more(2_000);
    let mut client = world.cluster.client();
    assert_eq!(client.run("SET while:down 1"), Reply::Simple("OK".into()));
    assert_eq!(client.run("GET while:down"), Reply::Bulk(b"1".to_vec()));
    for index in [0, 1] {
        world.topologies.start_one(index);
    }
    world.topologies.wait_leader(&[0, 1]);
    world.cluster.wait_until("all have joined again", |status| {
        array(status, "shards")
            .iter()
            .all(|shard| shard["node"]["reachable"] == true)
            && array(status, "proxies").len() == 1
    });
    load.wait_for_more(500);
    world.assert_clients_noticed_nothing(&load.finish());
}

/// Etcd takes longer to answer than a source may hold its writes: moves wait for better times, and never do two lead.
#[test]
fn a_slow_etcd_slows_the_work_and_nothing_else() {
    let etcd = Etcd::start();
    let relays = [Relay::to(etcd.addr()), Relay::to(etcd.addr())];
    let topologies = Topologies::start(&relays.each_ref().map(Relay::addr), SHARDS);
    let cluster = Cluster::join(&topologies.list(), SHARDS, 1);
    let world = World {
        cluster,
        topologies,
        etcd,
    };
    let load = world.load(6);
    for relay in &relays {
        relay.delay(Duration::from_millis(600));
    }
    let began = Instant::now();
    let pieces = || relays.iter().map(Relay::pieces).sum::<u64>();
    let before = pieces();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut looks = 0;
            while !stop.load(Ordering::Relaxed) {
                let [first, second, again] = [0, 1, 0].map(|index| world.topologies.leads(index));
                assert!(!(first && second && again), "two lead");
                looks += 1;
                thread::sleep(Duration::from_millis(2));
            }
            looks
        });
        let watched = Watched(&stop);
        let mut operator = ordered(&world.cluster, &["reshard", "--shards", "3"]);
        world.cluster.wait_until("a move was tried", |status| {
            status["operation"]["failures"].as_u64() > Some(0) || finished(status).is_some()
        });
        let took = began.elapsed();
        let asked = (pieces() - before) as f64 / took.as_secs_f64();
        println!(
            "{took:?} with an etcd that takes 1.2 s to answer: {asked:.1} pieces a second sent to it"
        );
        assert!(asked < 40.0, "{asked} pieces a second");
        for relay in &relays {
            relay.delay(Duration::ZERO);
        }
        let status = world.cluster.wait_until("the reshard is done", |status| {
            finished(status).is_some_and(|last| last["outcome"] == "done")
        });
        assert_eq!(array(&status, "shards").len(), 3);
        assert!(operator.wait().unwrap().success());
        drop(watched);
        let looks = watching.join().expect("never do two lead");
        assert!(looks > 10, "hardly looked: {looks}");
    });
    load.wait_for_more(500);
    world.assert_clients_noticed_nothing(&load.finish());
}

/// Ends the watching, whatever comes of the test.
struct Watched<'a>(&'a AtomicBool);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A reshard that goes on; the order is said again while nobody leads.
fn ordered(cluster: &Cluster, args: &[&str]) -> Child {
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        let mut operator = cluster
            .operator(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("larder runs");
        loop {
            let status = cluster.status();
            let taken = status.is_some_and(|status| {
                !status["operation"].is_null() || finished(&status).is_some()
            });
            if taken {
                return operator;
            }
            assert!(Instant::now() < give_up, "the order is never taken");
            if operator.try_wait().expect("a child").is_some() {
                break;
            }
        }
    }
}
