//! Processes that stop, start again or freeze while slots move, and strangers that send rubbish: clients that behave lose nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use larder_tests::cluster::array;
use larder_tests::workload::{Load, Outcome, Workload, compare};
use larder_tests::{Chance, Cluster, Reply};

use crate::{preload, while_resharding};

const LOAD: Load = Load {
    writers: 3,
    counters: 300,
    lists: 100,
    hash_fields: 5_000,
    pipeline: 8,
};
const KEYS: usize = 60_000;

fn faultless(cluster: &Cluster, outcome: &Outcome) {
    println!(
        "{} requests, the longest batch took {:?}",
        outcome.requests, outcome.longest
    );
    let some: Vec<_> = outcome.faults.iter().take(5).collect();
    assert!(
        outcome.faults.is_empty(),
        "{} faults: {some:#?}",
        outcome.faults.len()
    );
    let wrong = compare(&mut cluster.client(), &outcome.model);
    let some: Vec<_> = wrong.iter().take(5).collect();
    assert!(
        wrong.is_empty(),
        "{} keys are wrong: {some:#?}",
        wrong.len()
    );
}

/// By what the nodes themselves say, every slot is one node's.
fn one_owner_each(cluster: &Cluster) {
    let status = cluster.wait_until("every node has the map", |status| {
        let primaries = array(status, "shards").iter().map(|shard| &shard["node"]);
        let mut nodes = primaries.chain(array(status, "spares"));
        nodes.all(|node| node["epoch"] == status["epoch"])
    });
    let mut keys = 0;
    for node in array(&status, "shards")
        .iter()
        .map(|shard| &shard["node"])
        .chain(array(&status, "spares"))
    {
        let addr: SocketAddr = node["addr"].as_str().unwrap().parse().unwrap();
        keys += larder_tests::Client::to(addr)
            .run("DBSIZE")
            .as_int()
            .unwrap();
    }
    assert_eq!(cluster.client().run("DBSIZE"), Reply::Int(keys));
    let mut client = cluster.client();
    for start in (0..KEYS).step_by(1000) {
        let mut exists = vec!["EXISTS".to_owned()];
        exists.extend((start..start + 1000).map(crate::plain_key));
        assert_eq!(client.ask(&exists).unwrap(), Reply::Int(1000));
    }
}

#[test]
fn a_source_that_freezes_for_3_s_in_a_move_costs_time_only() {
    a_node_freezes(0);
}

#[test]
fn a_target_that_freezes_for_3_s_in_a_move_costs_time_only() {
    a_node_freezes(2);
}

/// The cluster goes from 2 shards to 3 under load; node `index` stops for 3 seconds on the way.
fn a_node_freezes(index: usize) {
    let cluster = Cluster::start(2, 1);
    preload(&cluster, KEYS);
    let target = cluster.wait_until("there is a spare", |status| {
        array(status, "spares").len() == 1
    });
    let spare = array(&target, "spares")[0]["addr"]
        .as_str()
        .unwrap()
        .to_owned();
    let spare = cluster.node_at(&spare).unwrap();
    let others: Vec<usize> = (0..3).filter(|node| *node != spare).collect();
    let frozen = if index == 2 { spare } else { others[index] };
    let load = Workload::start(cluster.proxy_addr(), 7, LOAD);
    load.wait_for_more(500);
    let operator = cluster
        .operator(&["reshard", "--shards", "3"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    cluster.wait_until("a reshard is under way", |status| {
        assert!(
            array(status, "finished").is_empty(),
            "it was through too early"
        );
        !status["operation"].is_null()
    });
    cluster.nodes[frozen].as_ref().unwrap().signal("STOP");
    std::thread::sleep(Duration::from_secs(3));
    cluster.nodes[frozen].as_ref().unwrap().signal("CONT");
    let output = operator.wait_with_output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout).trim_end());
    assert!(output.status.success(), "{output:?}");
    load.wait_for_more(500);
    let outcome = load.finish();
    faultless(&cluster, &outcome);
    one_owner_each(&cluster);
}

#[test]
fn a_proxy_killed_in_a_reshard_loses_only_its_connections() {
    let mut cluster = Cluster::start(3, 2);
    preload(&cluster, KEYS);
    let load = Workload::start(cluster.proxy_addr(), 8, LOAD);
    load.wait_for_more(500);
    let operator = cluster
        .operator(&["reshard", "--shards", "5"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    cluster.wait_until("a reshard is under way", |status| {
        !status["operation"].is_null()
    });
    cluster.proxy.as_mut().unwrap().kill();
    cluster.start_proxy();
    let output = operator.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    load.wait_for_more(500);
    let outcome = load.finish();
    println!(
        "{} requests, {} faults",
        outcome.requests,
        outcome.faults.len()
    );
    for fault in &outcome.faults {
        assert!(fault.what.contains("connection"), "{fault:?}");
    }
    // What was in flight when the connection broke may have been done or not.
    let spoilt: Vec<&String> = outcome.faults.iter().map(|fault| &fault.key).collect();
    let mut model = outcome.model.clone();
    model.retain(|key, _| !spoilt.contains(&key));
    let wrong = compare(&mut cluster.client(), &model);
    assert!(wrong.is_empty(), "{wrong:#?}");
    one_owner_each(&cluster);
}

#[test]
fn rubbish_from_some_connections_is_nothing_to_the_others_while_slots_move() {
    let cluster = Cluster::start(3, 2);
    preload(&cluster, KEYS);
    let load = Workload::start(cluster.proxy_addr(), 9, LOAD);
    let mut servers = vec![cluster.proxy_addr(), cluster.topology_addr()];
    servers.extend((0..5).map(|index| cluster.node_addr(index)));
    while_resharding(&cluster, &["5", "2", "5", "2"], &servers, |addr, round| {
        let mut chance = Chance::from_seed(round);
        let mut open = Vec::new();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(addr).expect("it listens");
            stream
                .set_read_timeout(Some(Duration::from_millis(200)))
                .unwrap();
            // It may be cut off before all is written.
            let _ = stream.write_all(&rubbish(&mut chance));
            open.push(stream);
        }
        for stream in open.iter_mut().filter(|_| chance.one_in(2)) {
            let mut answer = [0; 4096];
            // An error or silence, and no more than that.
            let _ = stream.read(&mut answer);
        }
    });
    load.wait_for_more(500);
    let outcome = load.finish();
    faultless(&cluster, &outcome);
    one_owner_each(&cluster);
    for addr in servers {
        assert!(!larder_tests::Client::to(addr).run("PING").is_error());
    }
    for process in cluster
        .nodes
        .iter()
        .flatten()
        .chain(&cluster.proxy)
        .chain(&cluster.topology)
    {
        assert!(
            !process.output().contains("panicked"),
            "{}",
            process.output()
        );
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        let rss = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kb: u64 = rss.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(
            kb < 300 << 10,
            "memory in proportion to what was claimed: {kb} kB"
        );
    }
}

fn rubbish(chance: &mut Chance) -> Vec<u8> {
    let fixed: [&[u8]; 14] = [
        b"*1048576\r\n",
        b"*2147483647\r\n$3\r\nGET\r\n",
        b"*2\r\n$3\r\nGET\r\n$536870912\r\nabc",
        b"*2\r\n$3\r\nGET\r\n$99999999999\r\n",
        b"*-5\r\n",
        b"*2\r\n$-7\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870000\r\n",
        b"SET k \"unbalanced\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        b"*4\r\n$6\r\nLARDER\r\n$5\r\nHELLO\r\n$1\r\n1\r\n$3\r\nbad\r\n",
        b"*3\r\n$6\r\nLARDER\r\n$3\r\nMAP\r\n$2\r\n{}\r\n",
        b"*2\r\n$5\r\nMULTI\r\n$1\r\nx",
    ];
    match chance.below(fixed.len() + 3) {
        0 => vec![b'a'; 70_000],
        1 => (0..5_000).map(|_| chance.next_u64() as u8).collect(),
        2 => b"*1\r\n$4\r\nPING\r\n".repeat(1 + chance.below(5_000)),
        other => fixed[other - 3].to_vec(),
    }
}
