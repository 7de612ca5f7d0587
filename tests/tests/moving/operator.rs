//! What an operator is told: one line, the right exit code, and the work goes on without the one who watches.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use larder_tests::cluster::{array, larder_bin};
use larder_tests::{Client, Cluster, Reply};

use crate::{plain_key, preload};

fn refused(output: &Output, says: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{}", text.trim_end());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(text.trim_end().lines().count(), 1, "one line: {text:?}");
    for word in says {
        assert!(text.contains(word), "{word:?} is said in {text:?}");
    }
}

#[test]
fn orders_that_cannot_be_carried_out_are_refused_in_one_line_and_change_nothing() {
    let mut cluster = Cluster::start(2, 1);
    let epoch = cluster.status().unwrap()["epoch"].clone();
    let first = cluster.node_addr(0).to_string();
    let cases: [(&[&str], &[&str]); 8] = [
        (&["reshard", "--shards", "0"], &["0 shards"]),
        (&["reshard", "--shards", "99999"], &["99999 shards"]),
        (
            &["reshard", "--shards", "5"],
            &["2 spare nodes are missing", "--nodes 2"],
        ),
        (
            &["move", "--slots", "0-9", "--to", "127.0.0.1:1"],
            &["no node '127.0.0.1:1'"],
        ),
        (
            &["move", "--slots", "0-9", "--to", "zzz"],
            &["no node 'zzz'"],
        ),
        (
            &["rebalance", "--secret-file", "/nowhere/secret"],
            &["/nowhere/secret"],
        ),
        (
            &["status", "--secret-file", "/nowhere/secret"],
            &["/nowhere/secret"],
        ),
        (
            &[
                "reshard",
                "--shards",
                "3",
                "--secret-file",
                "/nowhere/secret",
            ],
            &["/nowhere/secret"],
        ),
    ];
    for (args, says) in cases {
        refused(&cluster.larder(args), says);
    }
    let wrong = Command::new(larder_bin())
        .args([
            "reshard",
            "--shards",
            "3",
            "--topology",
            &cluster.topology_addr().to_string(),
        ])
        .env("LARDER_SECRET", "another-secret-of-the-tests-0123456789")
        .output()
        .unwrap();
    refused(&wrong, &["another secret", "LARDER_SECRET"]);
    for args in [
        ["reshard", "--shards", "3", "--dry-run"],
        ["move", "--slots", "0-9", "--to"].map(|w| w),
    ] {
        let mut args = args.to_vec();
        if args[0] == "move" {
            args.extend([first.as_str(), "--dry-run"]);
        }
        let output = cluster.larder(&args);
        assert!(output.status.success(), "{output:?}");
        println!("{}", String::from_utf8_lossy(&output.stdout));
    }
    let status = cluster.status().unwrap();
    assert_eq!(status["epoch"], epoch, "nothing has changed");
    assert!(status["operation"].is_null());
    // What is so already is done.
    assert!(
        cluster
            .larder(&["reshard", "--shards", "2"])
            .status
            .success()
    );
    cluster.topology.as_mut().unwrap().kill();
    refused(
        &cluster.larder(&["reshard", "--shards", "3"]),
        &["no topology answers", "--topology"],
    );
    refused(
        &cluster.larder(&["status"]),
        &["no topology answers", "--topology"],
    );
}

#[test]
fn a_reshard_goes_on_without_its_watcher_and_refuses_another_change_meanwhile() {
    let cluster = Cluster::start(2, 1);
    preload(&cluster, 100_000);
    let watcher = cluster
        .operator(&["reshard", "--shards", "3"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    cluster.wait_until("a reshard is under way", |status| {
        !status["operation"].is_null()
    });
    let other = cluster.larder(&["reshard", "--shards", "1"]);
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &watcher.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let watched = watcher.wait_with_output().unwrap();
    refused(&other, &["one change at a time"]);
    let told = String::from_utf8_lossy(&watched.stderr);
    println!("{:?}: {told}", watched.status);
    assert!(!watched.status.success(), "what was asked was not done yet");
    assert!(
        told.contains("goes on") && told.contains("larder status"),
        "{told}"
    );
    let status = cluster.wait_until("the reshard is done", |status| {
        status["operation"].is_null()
    });
    assert_eq!(array(&status, "shards").len(), 3);
    assert_eq!(cluster.client().run("DBSIZE"), Reply::Int(100_000));
}

#[test]
fn what_does_not_fit_is_refused_with_figures_and_a_target_that_fills_up_costs_nothing() {
    const KEYS: usize = 40_000;
    let cluster = Cluster::start(2, 0);
    let mut client = cluster.client();
    let value = "v".repeat(500);
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(500) {
        let sets: Vec<Vec<String>> = chunk
            .iter()
            .map(|key| vec!["SET".into(), plain_key(*key), value.clone()])
            .collect();
        assert!(
            client
                .pipeline(&sets)
                .unwrap()
                .iter()
                .all(|reply| *reply == Reply::ok())
        );
    }
    let limit = |index: usize, limit: &str| {
        let mut node = Client::to(cluster.node_addr(index));
        assert_eq!(
            node.run(&format!("CONFIG SET maxmemory {limit}")),
            Reply::ok()
        );
    };
    let used = cluster.wait_until("the topology has the figures", |status| {
        array(status, "shards")
            .iter()
            .all(|shard| shard["node"]["keys"].as_u64() > Some(KEYS as u64 / 3))
    });
    println!("{}", array(&used, "shards")[0]["node"]["used_memory"]);
    for index in 0..2 {
        limit(index, "16mb");
    }
    cluster.wait_until("the topology knows of the limits", |status| {
        array(status, "shards")
            .iter()
            .all(|shard| shard["node"]["maxmemory"].as_u64() == Some(16 << 20))
    });
    refused(
        &cluster.larder(&["reshard", "--shards", "1"]),
        &["cannot take the data", "maxmemory is 16"],
    );
    // With room by the figures, and none when it comes to it.
    for index in 0..2 {
        limit(index, "0");
    }
    cluster.wait_until("the topology knows of the limits", |status| {
        array(status, "shards")
            .iter()
            .all(|shard| shard["node"]["maxmemory"].as_u64() == Some(0))
    });
    limit(0, "14mb");
    let operator = cluster
        .operator(&["reshard", "--shards", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let status = cluster.wait_until("the operator is told that the target is full", |status| {
        status.to_string().contains("full")
            || status["operation"].is_null() && start.elapsed() > Duration::from_secs(5)
    });
    println!("{:#}", status["operation"]);
    assert!(status.to_string().contains("full"), "{status:#}");
    assert_eq!(client.run("DBSIZE"), Reply::Int(KEYS as i64));
    limit(0, "0");
    // Said again, it goes on at once.
    let output = cluster.larder(&["reshard", "--shards", "1"]);
    assert!(output.status.success(), "{output:?}");
    assert!(operator.wait_with_output().unwrap().status.success());
    assert_eq!(client.run("DBSIZE"), Reply::Int(KEYS as i64));
    for start in (0..KEYS).step_by(500) {
        let mut get = vec!["MGET".to_owned()];
        get.extend((start..start + 500).map(plain_key));
        assert_eq!(
            client.ask(&get).unwrap(),
            Reply::Array(vec![Reply::bulk(&value); 500])
        );
    }
}
