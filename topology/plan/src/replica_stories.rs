//! Stories of replicas: where they are placed, when they are in step, how they are replaced.

use larder_wire::control::NodeJoin;
use larder_wire::replication::{
    Follower, Following, LinkPhase, Place, ReplicationState, SILENCE_MS, WriteMode,
};
use larder_wire::{Epoch, History, NodeId, Offset, Role, ShardEntry};

use crate::stories::{Stage, id, join, node_state};
use crate::*;

pub(crate) fn settings(shards: u32, replicas: u32) -> Settings {
    Settings {
        shards,
        replicas,
        writes: WriteMode::Async,
        lost_shards: Default::default(),
        scale: Default::default(),
    }
}

/// One shard: node 1 with replicas, which follow it at `offset`.
pub(crate) fn followed(replicas: u32, writes: WriteMode) -> Stage {
    let mut stage = Stage::with(Settings {
        writes,
        ..settings(1, replicas)
    });
    for number in 1..=1 + replicas as u8 {
        stage.joins(number);
    }
    follow(
        &mut stage,
        1,
        &(2..=1 + replicas as u8).collect::<Vec<_>>(),
        100,
    );
    stage.seen.clear();
    stage
}

pub(crate) fn place(primary: u8, offset: u64) -> Place {
    Place {
        history: History(id(primary)),
        offset: Offset(offset),
    }
}

/// Primary and replicas say that they stream, and that all have `offset`.
pub(crate) fn follow(stage: &mut Stage, primary: u8, replicas: &[u8], offset: u64) {
    let followers = replicas.iter().map(|&number| Follower {
        node: id(number),
        phase: LinkPhase::Streaming,
        offset: Offset(offset),
        silent_ms: 5,
    });
    let said = ReplicationState {
        place: Some(place(primary, offset)),
        follows: None,
        followers: followers.collect(),
        fence: None,
        lost_writes: 0,
    };
    stage.nodes.get_mut(&id(primary)).unwrap().replication = Some(said);
    stage.probe(id(primary));
    for &number in replicas {
        follows(stage, number, primary, LinkPhase::Streaming, offset, 0);
    }
}

pub(crate) fn follows(
    stage: &mut Stage,
    number: u8,
    primary: u8,
    phase: LinkPhase,
    offset: u64,
    lag_bytes: u64,
) {
    let said = ReplicationState {
        place: Some(place(primary, offset)),
        follows: Some(Following {
            primary: id(primary),
            phase,
            lag_bytes,
            silent_ms: 5,
        }),
        followers: Vec::new(),
        fence: None,
        lost_writes: 0,
    };
    stage.nodes.get_mut(&id(number)).unwrap().replication = Some(said);
    stage.probe(id(number));
}

pub(crate) fn shard(stage: &Stage) -> &ShardEntry {
    &stage.plan.state().map.shards()[0]
}

pub(crate) fn in_step(stage: &Stage) -> Vec<NodeId> {
    let replicas = shard(stage).replicas().filter(|entry| entry.in_step);
    replicas.map(|entry| entry.id).collect()
}

fn joins_at(stage: &mut Stage, number: u8, host: &str, zone: Option<&str>) {
    let join = NodeJoin {
        addr: format!("{host}:{}", 7000 + u16::from(number)),
        zone: zone.map(String::from),
        ..join(number, 1)
    };
    stage.nodes.insert(join.id, node_state(number, 1));
    stage.event(Event::NodeJoined(join));
    stage.probe(id(number));
}

#[test]
fn a_cluster_with_replicas_forms_when_all_are_there_and_no_shard_lies_on_one_host_or_in_one_zone() {
    let mut stage = Stage::with(settings(2, 1));
    let places = [
        ("10.0.0.1", "a"),
        ("10.0.0.1", "a"),
        ("10.0.0.2", "b"),
        ("10.0.0.2", "b"),
    ];
    for (number, (host, zone)) in (1..).zip(places) {
        assert!(!stage.plan.state().formed());
        joins_at(&mut stage, number, host, Some(zone));
    }
    let map = &stage.plan.state().map;
    assert_eq!(map.shards().len(), 2);
    for shard in map.shards() {
        let [primary, replica] = &shard.nodes[..] else {
            panic!("{shard:?}");
        };
        assert_eq!((primary.role, replica.role), (Role::Primary, Role::Replica));
        assert_ne!(primary.zone, replica.zone);
        assert_eq!(map.slots_of(replica.id).len(), 0);
    }
}

#[test]
fn without_zones_replicas_go_to_other_hosts_than_their_primary() {
    let mut stage = Stage::with(settings(3, 1));
    for number in 1..=6 {
        joins_at(
            &mut stage,
            number,
            &format!("10.0.0.{}", 1 + (number - 1) / 2),
            None,
        );
    }
    for shard in stage.plan.state().map.shards() {
        let host = |place: usize| shard.nodes[place].addr.rsplit_once(':').unwrap().0;
        assert_ne!(host(0), host(1), "{shard:?}");
    }
}

#[test]
fn a_replica_is_in_step_when_both_sides_say_so_and_no_longer_when_it_is_silent_or_far_behind() {
    let mut stage = followed(1, WriteMode::Async);
    assert_eq!(in_step(&stage), [id(2)]);
    let epoch = stage.plan.state().map.epoch;
    assert!(stage.plan.state().fading.is_empty());

    // Far behind, but only for a moment.
    follows(
        &mut stage,
        2,
        1,
        LinkPhase::Streaming,
        100,
        STRAY_LAG_BYTES_MAX + 1,
    );
    stage.wait(SILENCE_MS / 2);
    follow(&mut stage, 1, &[2], 100);
    stage.wait(SILENCE_MS / 2 + 10);
    follow(&mut stage, 1, &[2], 100);
    assert_eq!(in_step(&stage), [id(2)]);

    // Silent: the primary answers, the replica does not. Until the primary has the map it is not forgotten.
    stage.by_hand = vec![id(1)];
    stage.wait(SILENCE_MS - 100);
    stage.probe(id(1));
    stage.wait(200);
    assert_eq!(in_step(&stage), []);
    assert!(stage.plan.state().map.epoch > epoch);
    let shard_id = shard(&stage).id;
    assert!(stage.plan.state().maybe_in_step(shard_id).contains(&id(2)));
    let push = larder_wire::control::MapPush {
        map: stage.plan.state().map.clone(),
        handovers: Vec::new(),
        yields: None,
    };
    let taken = stage.takes(id(1), &push);
    stage.event(taken);
    assert!(stage.plan.state().maybe_in_step(shard_id).is_empty());

    // Back, and close again.
    stage.by_hand.clear();
    follow(&mut stage, 1, &[2], 150);
    assert_eq!(in_step(&stage), [id(2)]);
}

#[test]
fn one_side_alone_does_not_make_a_replica_in_step() {
    let mut stage = Stage::with(settings(1, 1));
    stage.joins(1);
    stage.joins(2);
    follows(&mut stage, 2, 1, LinkPhase::Streaming, 100, 0);
    assert_eq!(in_step(&stage), []);
    follow(&mut stage, 1, &[2], 100);
    assert_eq!(in_step(&stage), [id(2)]);
}

/// The primary says how much each replica has acknowledged, and for how long it has been silent; it has 100 itself.
pub(crate) fn acknowledged(stage: &mut Stage, replicas: &[(u8, u64, u64)]) {
    let followers = replicas
        .iter()
        .map(|&(number, offset, silent_ms)| Follower {
            node: id(number),
            phase: LinkPhase::Streaming,
            offset: Offset(offset),
            silent_ms,
        });
    let said = ReplicationState {
        place: Some(place(1, 100)),
        follows: None,
        followers: followers.collect(),
        fence: None,
        lost_writes: 0,
    };
    stage.nodes.get_mut(&id(1)).unwrap().replication = Some(said);
    stage.probe(id(1));
}

/// Node 3 has 100 and loses its mark, for its primary does not hear it; node 2, in step, has 60.
pub(crate) fn fades(writes: WriteMode) -> Stage {
    let mut stage = followed(2, writes);
    for _ in 0..=SILENCE_MS / 200 {
        stage.now += 200;
        follows(&mut stage, 2, 1, LinkPhase::Streaming, 60, 40);
        follows(&mut stage, 3, 1, LinkPhase::Streaming, 100, 0);
        acknowledged(&mut stage, &[(2, 60, 5), (3, 100, SILENCE_MS)]);
    }
    assert_eq!(in_step(&stage), [id(2)]);
    acknowledged(&mut stage, &[(2, 60, 5), (3, 100, SILENCE_MS)]);
    stage
}

#[test]
fn in_safe_a_mark_fades_until_another_has_all_that_the_primary_had_when_it_learnt_of_it() {
    let mut stage = fades(WriteMode::Safe);
    let shard_id = shard(&stage).id;
    let witnesses = |stage: &Stage| stage.plan.state().maybe_in_step(shard_id);
    assert_eq!(witnesses(&stage), [id(2), id(3)].into());
    acknowledged(&mut stage, &[(2, 99, 5)]);
    assert_eq!(witnesses(&stage), [id(2), id(3)].into());

    // A topology that takes over counts from what it sees itself.
    let state = State::from_json(&stage.plan.state().to_json()).unwrap();
    stage.plan = Plan::new(state, "127.0.0.1:7000", stage.now);
    stage.event(Event::Tick);
    assert_eq!(witnesses(&stage), [id(2), id(3)].into());
    acknowledged(&mut stage, &[(2, 100, 5)]);
    assert_eq!(witnesses(&stage), [id(2)].into());
}

#[test]
fn in_async_a_mark_is_forgotten_when_the_primary_knows() {
    let stage = fades(WriteMode::Async);
    let shard_id = shard(&stage).id;
    assert_eq!(
        stage.plan.state().maybe_in_step(shard_id),
        [id(2)].into(),
        "nothing was promised"
    );
}

#[test]
fn in_safe_a_lost_replica_stays_beside_the_spare_until_the_spare_has_what_it_may_have_alone() {
    let mut stage = followed(1, WriteMode::Safe);
    stage.joins(3);
    stage.event(Event::NodeUnreachable {
        node: id(2),
        reason: "connection refused".into(),
        process_gone: true,
    });
    for _ in 0..REPLACE_MS / 500 {
        stage.wait(500);
        acknowledged(&mut stage, &[]);
        stage.probe(id(3));
    }
    let members: Vec<_> = shard(&stage).nodes.iter().map(|entry| entry.id).collect();
    assert_eq!(members, [id(1), id(2), id(3)]);
    follow(&mut stage, 1, &[3], 100);
    stage.probe(id(1));
    let members: Vec<_> = shard(&stage).nodes.iter().map(|entry| entry.id).collect();
    assert_eq!(members, [id(1), id(3)]);
    assert_eq!(in_step(&stage), [id(3)]);
}

#[test]
fn nobody_is_blamed_for_not_following_a_primary_that_is_silent() {
    let mut stage = followed(1, WriteMode::Safe);
    let step = SILENCE_MS / 4;
    for _ in 0..3 {
        stage.wait(step);
        follows(&mut stage, 2, 1, LinkPhase::Down, 100, 0);
    }
    assert_eq!(in_step(&stage), [id(2)]);
}

#[test]
fn a_replica_whose_process_is_gone_loses_its_mark_at_once_and_its_place_after_a_grace() {
    let mut stage = followed(1, WriteMode::Async);
    stage.joins(3);
    stage.event(Event::NodeUnreachable {
        node: id(2),
        reason: "connection refused".into(),
        process_gone: true,
    });
    assert_eq!(in_step(&stage), []);
    assert_eq!(shard(&stage).nodes[1].id, id(2));
    let mut waited = 0;
    while waited < REPLACE_MS {
        stage.wait(500);
        stage.probe(id(1));
        stage.probe(id(3));
        waited += 500;
    }
    assert_eq!(shard(&stage).nodes[1].id, id(3));
    assert_eq!(shard(&stage).nodes.len(), 2);
}

#[test]
fn replicas_are_added_and_taken_away_while_the_cluster_serves() {
    let mut stage = followed(1, WriteMode::Async);
    let set = |count| Order::Replicas { set: Some(count) };
    let refused = stage.order_any(set(2)).unwrap_err();
    assert_eq!(
        refused,
        "1 spare node is missing for 2 replicas of each shard (add 1 with: larder shard --topology 127.0.0.1:7000 --listen HOST:PORT --nodes 1)"
    );
    stage.joins(3);
    stage.order_any(set(2)).unwrap();
    assert_eq!(shard(&stage).nodes.len(), 3);
    follow(&mut stage, 1, &[2, 3], 200);
    assert_eq!(in_step(&stage), [id(2), id(3)]);
    stage.order_any(set(1)).unwrap();
    stage.wait(50);
    assert_eq!(in_step(&stage), [id(2)]);
    assert_eq!(shard(&stage).nodes.len(), 2);
    stage.order_any(set(0)).unwrap();
    stage.wait(50);
    assert_eq!(shard(&stage).nodes.len(), 1);
    assert_eq!(stage.plan.status().spares.len(), 2);
}

#[test]
fn the_write_mode_is_part_of_the_map() {
    let mut stage = followed(1, WriteMode::Async);
    let epoch = stage.plan.state().map.epoch;
    let safe = Order::Writes {
        set: Some(WriteMode::Safe),
    };
    stage.order_any(safe).unwrap();
    let map = &stage.plan.state().map;
    assert_eq!((map.writes, map.epoch), (WriteMode::Safe, epoch.next()));
    assert!(stage.nodes.values().all(|node| node.epoch == map.epoch));
    assert!(epoch > Epoch(0));
}
