//! A shard whose every node is gone: what clients of its slots are told, what clients of others notice, and what becomes of the slots.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use larder_tests::cluster::array;
use larder_tests::{Client, Cluster, Reply};

/// Longest time in which a client of another shard is answered while one is lost, in milliseconds: generous, for busy machines.
const OTHERS_MS_MAX: u64 = 2_000;

/// A key of this primary, and one of another.
fn keys(cluster: &Cluster, primary: usize) -> (String, String) {
    let mut first = Client::to(cluster.node_addr(primary));
    let names = (0..).map(|number| format!("key:{number}"));
    let (mut here, mut there) = (None, None);
    for name in names {
        let moved = first.run(&format!("GET {name}")).is_error();
        let found = if moved { &mut there } else { &mut here };
        found.get_or_insert(name);
        if let (Some(here), Some(there)) = (&here, &there) {
            return (here.clone(), there.clone());
        }
    }
    unreachable!("names do not end")
}

fn kill(cluster: &mut Cluster, node: usize) {
    cluster.nodes[node].as_mut().expect("it runs").kill();
}

#[test]
fn slots_of_a_lost_shard_answer_clusterdown_while_the_others_serve_on() {
    let mut cluster = Cluster::start(2, 0);
    let (lost, other) = keys(&cluster, 0);
    let (mut one, mut two) = (cluster.client(), cluster.client());
    for key in [&lost, &other] {
        assert_eq!(one.run(&format!("SET {key} before")), Reply::ok());
    }
    kill(&mut cluster, 0);
    let told = AtomicBool::new(false);
    let (answers, longest) = std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let (mut answers, mut longest) = (0, Duration::ZERO);
            while !told.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert_eq!(two.run(&format!("SET {other} after")), Reply::ok());
                assert_eq!(two.run(&format!("GET {other}")), Reply::bulk("after"));
                longest = longest.max(began.elapsed());
                answers += 2;
            }
            (answers, longest)
        });
        for line in [format!("GET {lost}"), format!("SET {lost} after")] {
            let answer = one.run(&line);
            let text = answer.as_text().unwrap_or_default();
            if !(answer.is_error() && text.starts_with("CLUSTERDOWN")) {
                told.store(true, Ordering::Relaxed);
                panic!("{line} is answered {answer:?}");
            }
        }
        told.store(true, Ordering::Relaxed);
        others.join().expect("others are served")
    });
    println!("{answers} answers of the other shard, the longest after {longest:?}");
    assert!(answers > 100, "{answers}");
    assert!(
        longest < Duration::from_millis(OTHERS_MS_MAX),
        "{longest:?}"
    );

    cluster.start_node(0);
    cluster.wait_until("the shard has its node", |status| {
        let shards = array(status, "shards").iter();
        let mut nodes = shards.map(|shard| &shard["node"]);
        nodes.all(|node| node["reachable"] == true && node["epoch"] == status["epoch"])
    });
    assert_eq!(one.run(&format!("SET {lost} after")), Reply::ok());
}

#[test]
fn where_it_is_wanted_a_lost_shard_comes_up_empty_on_a_spare_and_clients_see_a_pause() {
    let mut cluster = Cluster::start_flagged(2, 1, &["--lost-shards", "empty:1"]);
    let status = cluster.status().expect("the topology answers");
    let primary = array(&status, "shards")[0]["node"]["addr"].as_str();
    let primary = primary.and_then(|addr| cluster.node_at(addr));
    let primary = primary.expect("a node of the cluster");
    let (lost, other) = keys(&cluster, primary);
    let mut client = cluster.client();
    for key in [&lost, &other] {
        assert_eq!(client.run(&format!("SET {key} before")), Reply::ok());
    }
    kill(&mut cluster, primary);
    let began = Instant::now();
    assert_eq!(client.run(&format!("GET {lost}")), Reply::Null);
    println!("the slots came up empty after {:?}", began.elapsed());
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(client.run(&format!("SET {lost} after")), Reply::ok());
    assert_eq!(client.run(&format!("GET {other}")), Reply::bulk("before"));
    let status = cluster.status().expect("the topology answers");
    assert_eq!(status["counts"]["data_losses"], 1);
    assert_eq!(array(&status, "spares").len(), 1, "the lost node");

    // It comes back as another, and is a spare.
    cluster.start_node(primary);
    cluster.wait_until("a spare is reachable", |status| {
        let mut spares = array(status, "spares").iter();
        spares.any(|node| node["reachable"] == true)
    });
    assert_eq!(client.run(&format!("GET {lost}")), Reply::bulk("after"));
}

#[test]
fn what_becomes_of_lost_shards_is_changed_while_one_is_lost() {
    let mut cluster = Cluster::start(2, 1);
    let (lost, other) = keys(&cluster, 0);
    let mut client = cluster.client();
    for key in [&lost, &other] {
        assert_eq!(client.run(&format!("SET {key} before")), Reply::ok());
    }
    let said = |args: &[&str]| {
        let output = cluster.larder(args);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("lines")
    };
    assert!(said(&["lost-shards"]).contains("(wait)"));
    let primary = cluster.status().expect("the topology answers");
    let shard = array(&primary, "shards").iter().find(|shard| {
        let addr = shard["node"]["addr"].as_str();
        addr.and_then(|addr| cluster.node_at(addr)) == Some(0)
    });
    let id = shard.expect("its shard")["id"].clone();

    kill(&mut cluster, 0);
    let answer = client.run(&format!("GET {lost}"));
    assert!(answer.is_error(), "{answer:?}");
    let said = |args: &[&str]| {
        let output = cluster.larder(args);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("lines")
    };
    let named = format!("shard {id} has no node left");
    assert!(said(&["lost-shards"]).contains(&named));
    assert!(said(&["lost-shards", "--set", "empty:0"]).contains("(empty:0)"));
    assert_eq!(client.run(&format!("GET {lost}")), Reply::Null);
    assert_eq!(client.run(&format!("GET {other}")), Reply::bulk("before"));
    assert!(said(&["lost-shards", "--set", "wait"]).contains("(wait)"));
}
