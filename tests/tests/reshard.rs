//! The operator reshards while writers write: nothing is lost, nothing doubled, no order broken, no error seen.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Instant;

use larder_tests::cluster::{Cluster, array};
use larder_tests::workload::{Fault, Load, Model, Outcome, Workload, compare};
use larder_wire::{Slot, SlotSet};
use serde_json::Value;

const LOAD: Load = Load {
    writers: 4,
    counters: 500,
    lists: 200,
    hash_fields: 20_000,
    pipeline: 16,
};
const PLAIN_KEYS: usize = 200_000;

#[test]
fn a_cluster_goes_from_3_to_5_to_2_shards_under_load_and_loses_nothing() {
    let cluster = Cluster::start(3, 2);
    preload(&cluster);
    let load = Workload::start(cluster.proxy_addr(), 1, LOAD);
    load.wait_for_more(5_000);
    for shards in ["5", "2"] {
        let start = Instant::now();
        let output = cluster.larder(&["reshard", "--shards", shards]);
        assert!(output.status.success(), "reshard to {shards}: {output:?}");
        println!("resharded to {shards} shards in {:?}", start.elapsed());
        load.wait_for_more(5_000);
    }
    let outcome = load.finish();
    println!(
        "{} requests, the longest batch took {:?}",
        outcome.requests, outcome.longest
    );
    assert_no_faults(&outcome.faults);
    assert_no_faults(&compare(&mut cluster.client(), &outcome.model));
    assert_preloaded(&cluster, &SlotSet::new());
    let status = cluster.status().expect("the topology answers");
    assert_eq!(array(&status, "shards").len(), 2);
    let slots: Vec<u64> = array(&status, "shards")
        .iter()
        .filter_map(|shard| shard["slot_count"].as_u64())
        .collect();
    assert_eq!(slots, [8192, 8192]);
    assert_eq!(array(&status, "spares").len(), 3);
}

#[test]
fn a_topology_killed_during_a_reshard_goes_on_with_it_and_clients_notice_nothing() {
    let mut cluster = Cluster::start(3, 2);
    preload(&cluster);
    let load = Workload::start(cluster.proxy_addr(), 2, LOAD);
    load.wait_for_more(2_000);
    let mut operator = cluster
        .operator(&["reshard", "--shards", "5"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_a_handover(&cluster);
    cluster.topology.as_mut().unwrap().kill();
    load.wait_for_more(2_000);
    cluster.start_topology();
    operator.wait().unwrap();
    // Said again, it goes on where it was.
    let output = cluster.larder(&["reshard", "--shards", "5"]);
    assert!(output.status.success(), "reshard again: {output:?}");
    load.wait_for_more(2_000);
    let outcome = load.finish();
    println!(
        "{} requests, the longest batch took {:?}",
        outcome.requests, outcome.longest
    );
    assert_no_faults(&outcome.faults);
    assert_no_faults(&compare(&mut cluster.client(), &outcome.model));
    assert_preloaded(&cluster, &SlotSet::new());
    assert_eq!(array(&cluster.status().unwrap(), "shards").len(), 5);
}

#[test]
fn a_target_killed_during_a_reshard_costs_only_what_it_owned_and_the_reshard_ends() {
    a_node_killed_during_a_reshard(3, |status| {
        owner_index(status, array(status, "shards").len() - 1)
    });
}

#[test]
fn a_source_killed_during_a_reshard_costs_only_what_it_owned_and_the_reshard_ends() {
    a_node_killed_during_a_reshard(4, |status| owner_index(status, 0));
}

/// Grows a cluster from 3 to 5, kills the node that `pick` names once slots have moved, starts it again (with an empty memory), and
/// demands that all keys of slots it did not own are there to the last write.
fn a_node_killed_during_a_reshard(seed: u64, pick: impl Fn(&Value) -> (usize, String)) {
    let mut cluster = Cluster::start(3, 2);
    preload(&cluster);
    let load = Workload::start(cluster.proxy_addr(), seed, LOAD);
    load.wait_for_more(2_000);
    let mut operator = cluster
        .operator(&["reshard", "--shards", "5"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = wait_for_a_handover(&cluster);
    let (shard, addr) = pick(&status);
    let node = cluster.node_at(&addr).expect("a node of this cluster");
    println!("kills node {node} of shard {shard}");
    cluster.nodes[node].as_mut().unwrap().kill();
    let after = cluster.status().expect("the topology answers");
    // What it owned when it died is lost with its memory: what it had by then, and what it was just given.
    let lost = slots_at(&status, &addr).union(&slots_at(&after, &addr));
    cluster.start_node(node);
    operator.wait().unwrap();
    let output = cluster.larder(&["reshard", "--shards", "5"]);
    assert!(output.status.success(), "reshard again: {output:?}");
    let outcome = load.finish();
    println!(
        "{} requests, the longest batch took {:?}",
        outcome.requests, outcome.longest
    );
    let untouched = spared(outcome, &lost);
    assert_no_faults(&untouched.faults);
    assert_no_faults(&compare(&mut cluster.client(), &untouched.model));
    assert_preloaded(&cluster, &lost);
    assert_eq!(array(&cluster.status().unwrap(), "shards").len(), 5);
}

fn preload(cluster: &Cluster) {
    let mut client = cluster.client();
    for chunk in (0..PLAIN_KEYS).collect::<Vec<_>>().chunks(500) {
        let sets: Vec<Vec<String>> = chunk
            .iter()
            .map(|key| vec!["SET".into(), format!("plain:{key}"), format!("value:{key}")])
            .collect();
        let replies = client.pipeline(&sets).expect("the proxy serves");
        assert!(
            replies
                .iter()
                .all(|reply| *reply == larder_tests::Reply::ok()),
            "{replies:?}"
        );
    }
}

/// Every preloaded key outside of `lost` has its value.
fn assert_preloaded(cluster: &Cluster, lost: &SlotSet) {
    let mut client = cluster.client();
    for chunk in (0..PLAIN_KEYS).collect::<Vec<_>>().chunks(500) {
        let mut get = vec!["MGET".to_owned()];
        get.extend(chunk.iter().map(|key| format!("plain:{key}")));
        let values = client.ask(&get).unwrap();
        let larder_tests::Reply::Array(values) = values else {
            panic!("MGET answered {values:?}")
        };
        assert_eq!(values.len(), chunk.len());
        for (key, value) in chunk.iter().zip(values) {
            if !lost.contains(larder_wire::slot_of(format!("plain:{key}").as_bytes())) {
                assert_eq!(value.as_text(), Some(format!("value:{key}")), "plain:{key}");
            }
        }
    }
}

/// Waits until the operation under way has moved its first slots and is not through.
fn wait_for_a_handover(cluster: &Cluster) -> Value {
    cluster.wait_until("a first part of the slots has moved", |status| {
        let operation = &status["operation"];
        let done = operation["slots_done"].as_u64().unwrap_or(0);
        assert!(
            status["finished"].as_array().is_none_or(Vec::is_empty),
            "the reshard was through before it could be disturbed"
        );
        done > 0
    })
}

fn owner_index(status: &Value, index: usize) -> (usize, String) {
    let addr = array(status, "shards")[index]["node"]["addr"]
        .as_str()
        .expect("an address")
        .to_owned();
    (index, addr)
}

fn slots_at(status: &Value, addr: &str) -> SlotSet {
    array(status, "shards")
        .iter()
        .filter(|shard| shard["node"]["addr"] == addr)
        .map(|shard| serde_json::from_value::<SlotSet>(shard["slots"].clone()).expect("slots"))
        .fold(SlotSet::new(), |all, slots| all.union(&slots))
}

/// The part of an outcome that has nothing to do with the lost slots. A connection fault names the first key of its batch only.
fn spared(outcome: Outcome, lost: &SlotSet) -> Outcome {
    let outside = |slot: Slot| !lost.contains(slot);
    let faults: Vec<Fault> = outcome
        .faults
        .into_iter()
        .filter(|fault| outside(fault.slot))
        .collect();
    let model: BTreeMap<String, Model> = outcome
        .model
        .into_iter()
        .filter(|(key, _)| outside(larder_wire::slot_of(key.as_bytes())))
        .collect();
    assert!(!model.is_empty(), "some keys lie elsewhere");
    Outcome {
        faults,
        model,
        requests: outcome.requests,
        longest: outcome.longest,
    }
}

#[track_caller]
fn assert_no_faults(faults: &[Fault]) {
    let some: Vec<String> = faults
        .iter()
        .take(10)
        .map(|f| format!("  {} (slot {}): {}", f.key, f.slot, f.what))
        .collect();
    assert!(
        faults.is_empty(),
        "{} faults, the first:\n{}",
        faults.len(),
        some.join("\n")
    );
}
