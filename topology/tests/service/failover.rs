//! Failovers over real sockets: how fast a closed port and a silent host are acted on, and who is told first.

use std::time::{Duration, Instant};

use larder_plan::report::{FailoverReport, ReplicasReport, Status, WritesReport};
use larder_runtime::ControlError;
use larder_wire::NodeId;
use larder_wire::replication::{LEASE_MS, WriteMode};

use super::fake_node::FakeNode;
use super::{World, operator, status, until};

/// The primary of the first shard, as a place in the world's nodes.
async fn primary(world: &World) -> usize {
    let addr = status(world.addr()).await.shards[0].node.addr.clone();
    place_of(world, |node| node.addr() == addr)
}

fn place_of(world: &World, wanted: impl Fn(&FakeNode) -> bool) -> usize {
    world
        .nodes
        .iter()
        .position(wanted)
        .expect("a node of the world")
}

async fn replaced(world: &World, id: NodeId) -> Status {
    until(world.addr(), "another node is the primary", |status| {
        status.shards.iter().all(|shard| shard.node.id != id)
    })
    .await
}

/// Nodes in the order in which they took the map of the last epoch of `status`.
fn first_of_epoch(world: &World, epoch: larder_wire::Epoch) -> NodeId {
    let log = world.log.lock().unwrap();
    let mut taken = log.iter().filter(|entry| entry.epoch == epoch);
    taken.next().expect("somebody has it").node
}

#[tokio::test]
async fn a_primary_whose_port_is_closed_is_replaced_well_within_a_second() {
    let mut world = World::replicated(1).await;
    let old = primary(&world).await;
    let id = world.nodes[old].id();
    let began = Instant::now();
    world.nodes[old].die();
    let status = replaced(&world, id).await;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(LEASE_MS), "{took:?}");
    assert_eq!(status.counts.failovers, 1);
    let new = &world.nodes[1 - old];
    assert_eq!(status.shards[0].node.id, new.id());
    until(world.addr(), "it has its map", |status| {
        status.shards[0].node.epoch == status.epoch
    })
    .await;
    assert_eq!(new.slots().len(), 16384);
    assert_eq!(new.fence(), None);
}

#[tokio::test]
async fn a_primary_that_is_silent_gets_no_lease_and_is_replaced_when_its_last_has_run_out() {
    let mut world = World::replicated(1).await;
    let old = primary(&world).await;
    let id = world.nodes[old].id();
    let began = Instant::now();
    world.nodes[old].freeze(true);
    let status = replaced(&world, id).await;
    let took = began.elapsed();
    assert!(took > Duration::from_millis(LEASE_MS), "{took:?}");
    assert!(world.nodes[old].leases_refused() > 0);
    assert_eq!(status.counts.failovers, 1);
    // Back again, it is a replica, and has the map.
    world.nodes[old].freeze(false);
    until(world.addr(), "it follows", |status| {
        let replica = &status.shards[0].replicas[0];
        replica.node.id == id && replica.node.epoch == status.epoch && replica.in_step
    })
    .await;
    assert!(world.nodes[old].slots().is_empty());
}

#[tokio::test]
async fn a_planned_failover_reaches_the_old_primary_first() {
    let world = World::replicated(2).await;
    let old = primary(&world).await;
    let before = status(world.addr()).await;
    let mut client = operator(world.addr()).await;
    let shard = before.shards[0].id.to_string();
    let words = ["LARDER", "FAILOVER", shard.as_str(), "JSON"];
    let report: FailoverReport = client.request_json(words).await.unwrap();
    assert_eq!(report.from, world.nodes[old].addr());
    let after = replaced(&world, world.nodes[old].id()).await;
    assert_eq!(Some(after.shards[0].node.addr.clone()), report.to);
    assert_eq!(after.counts.failovers_planned, 1);
    let first = first_of_epoch(&world, before.epoch.next());
    assert_eq!(first, world.nodes[old].id());
}

#[tokio::test]
async fn replicas_and_writes_are_asked_for_and_set() {
    let world = World::replicated(1).await;
    let mut client = operator(world.addr()).await;
    let words = ["LARDER", "REPLICAS", "JSON"];
    let report: ReplicasReport = client.request_json(words).await.unwrap();
    assert!(report.reached());
    let refused = client
        .request_json::<ReplicasReport>(["LARDER", "REPLICAS", "SET", "2", "JSON"])
        .await;
    let Err(ControlError::Refused { text, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(text.contains("1 spare node is missing"), "{text}");
    let words = ["LARDER", "WRITES", "SET", "safe", "JSON"];
    let report: WritesReport = client.request_json(words).await.unwrap();
    assert_eq!(
        (report.before, report.writes),
        (WriteMode::Async, WriteMode::Safe)
    );
    let maps = world.topology.as_ref().unwrap().maps();
    until(world.addr(), "all have the map", |status| {
        status.writes == WriteMode::Safe && status.shards[0].node.epoch == status.epoch
    })
    .await;
    assert_eq!(maps.borrow().writes, WriteMode::Safe);
}
