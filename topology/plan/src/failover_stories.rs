//! Stories of failovers: when they begin, what they wait for, whom they choose, and who is told first.

use larder_wire::control::{ImportPhase, MapPush, NodeJoin};
use larder_wire::replication::{
    Fence, Fenced, LEASE_MARGIN_MS, LEASE_MS, Place, SILENCE_MS, WriteMode, Yielded,
};
use larder_wire::{Attempt, Epoch, NodeId, Offset, ShardId};

use crate::replica_stories::{
    acknowledged, fades, follow, followed, in_step, place, settings, shard,
};
use crate::stories::{Stage, id, join, node_state, run};
use crate::*;

const SHARD: ShardId = ShardId(1);

fn port_closes(stage: &mut Stage, number: u8) {
    stage.event(Event::NodeUnreachable {
        node: id(number),
        reason: "connection refused".into(),
        process_gone: true,
    });
}

fn fences(stage: &Stage) -> Vec<(NodeId, Fence)> {
    let fences = stage.seen.iter().filter_map(|action| match action {
        Action::Fence { node, fence } => Some((*node, fence.clone())),
        _ => None,
    });
    fences.collect()
}

fn fenced(stage: &mut Stage, number: u8, place: Option<Place>, answered_ms_ago: Option<u64>) {
    let failover = stage.plan.state().failovers[&SHARD].number;
    let run_id = stage.nodes[&id(number)].run_id;
    stage.event(Event::Fenced {
        node: id(number),
        number: failover,
        result: Ok(Fenced {
            number: failover,
            run_id,
            place,
            answered_ms_ago,
        }),
    });
}

/// Shard 1 is node 1 with replica 3, shard 2 is node 2 with replica 4.
fn two_shards() -> Stage {
    let mut stage = Stage::with(settings(2, 1));
    for number in 1..=4 {
        stage.joins(number);
    }
    follow(&mut stage, 1, &[3], 100);
    follow(&mut stage, 2, &[4], 100);
    stage
}

/// The same, and slots of the first begin to move to the second; what its primaries are told is left to the story.
fn moving() -> Stage {
    moving_in(two_shards(), 0)
}

/// So many nodes join before.
fn moving_in(mut stage: Stage, join: u8) -> Stage {
    for number in 1..=join {
        stage.joins(number);
    }
    stage.by_hand = vec![id(1), id(2)];
    let order = Order::Move {
        slots: "0-99".parse().unwrap(),
        to: id(2).to_string(),
        dry_run: false,
    };
    stage.order_any(order).unwrap();
    stage
}

fn primary(stage: &Stage) -> NodeId {
    shard(stage).primary().unwrap().id
}

fn lease(stage: &mut Stage, number: u8) -> bool {
    let run_id = stage.nodes[&id(number)].run_id;
    stage.plan.lease(stage.now, id(number), run_id)
}

/// Time passes; those who are named answer all the while.
fn wait_hearing(stage: &mut Stage, ms: u64, heard: &[u8]) {
    let mut left = ms;
    while left > 0 {
        let part = left.min(100);
        left -= part;
        stage.now += part;
        for number in heard {
            stage.probe(id(*number));
        }
        stage.event(Event::Tick);
    }
}

#[test]
fn when_a_primarys_process_is_gone_the_replica_that_has_the_most_is_promoted_and_told_first() {
    let mut stage = followed(2, WriteMode::Safe);
    assert!(lease(&mut stage, 1));
    let epoch = stage.plan.state().map.epoch;
    port_closes(&mut stage, 1);
    assert!(!lease(&mut stage, 1));
    let told: Vec<_> = fences(&stage).into_iter().map(|(node, _)| node).collect();
    assert_eq!(told, [id(2), id(3)]);
    assert_eq!(fences(&stage)[0].1.epoch, epoch);
    fenced(&mut stage, 2, Some(place(1, 100)), Some(10));
    assert_eq!(primary(&stage), id(1), "one of two that were in step");
    stage.by_hand = vec![id(2), id(3)];
    fenced(&mut stage, 3, Some(place(1, 120)), Some(10));
    assert_eq!(primary(&stage), id(3));
    let pushes: Vec<_> = stage
        .pushes()
        .into_iter()
        .map(|(node, _, _)| node)
        .collect();
    assert_eq!(pushes, [id(3), id(2)]);
    assert_eq!(stage.plan.state().map.epoch, epoch.next());
    // Node 2 has less, and has to catch up.
    assert_eq!(in_step(&stage), []);
    assert!(shard(&stage).nodes.iter().any(|entry| entry.id == id(1)));
    let counts = &stage.plan.state().counts;
    assert_eq!((counts.failovers, counts.data_losses), (1, 0));
}

#[test]
fn a_silent_primary_is_replaced_once_no_lease_of_it_can_run() {
    let mut stage = followed(1, WriteMode::Async);
    assert!(lease(&mut stage, 1));
    let granted = stage.now;
    wait_hearing(&mut stage, SILENCE_MS - 100, &[2]);
    assert!(stage.plan.state().failovers.is_empty());
    wait_hearing(&mut stage, 100, &[2]);
    assert_eq!(fences(&stage).len(), 1);
    // The replica answered the primary later than the topology did.
    fenced(&mut stage, 2, Some(place(1, 100)), Some(300));
    let over = granted + SILENCE_MS - 300 + LEASE_MS + LEASE_MARGIN_MS;
    let left = over - stage.now;
    wait_hearing(&mut stage, left - 20, &[2]);
    assert_eq!(primary(&stage), id(1));
    wait_hearing(&mut stage, 20, &[2]);
    assert_eq!(primary(&stage), id(2));
}

#[test]
fn a_topology_that_has_just_begun_may_have_had_one_before_it_that_granted_leases() {
    let mut stage = followed(1, WriteMode::Async);
    let state = State::from_json(&stage.plan.state().to_json()).unwrap();
    stage.now += 10_000;
    stage.plan = Plan::new(state, "127.0.0.1:7000", stage.now);
    let began = stage.now;
    stage.event(Event::Tick);
    stage.probe(id(2));
    wait_hearing(&mut stage, SILENCE_MS, &[2]);
    fenced(&mut stage, 2, Some(place(1, 100)), Some(5_000));
    let left = began + LEASE_MS + LEASE_MARGIN_MS - stage.now;
    wait_hearing(&mut stage, left - 10, &[2]);
    assert_eq!(primary(&stage), id(1));
    wait_hearing(&mut stage, 10, &[2]);
    assert_eq!(primary(&stage), id(2));
}

/// A primary that took its place a moment ago: one replica follows it already, the other has still what it began with.
#[test]
fn of_those_in_step_the_furthest_is_promoted_though_nobody_knows_how_the_primarys_history_is_called()
 {
    for taken_over in [false, true] {
        let mut stage = followed(2, WriteMode::Safe);
        if taken_over {
            let state = State::from_json(&stage.plan.state().to_json()).unwrap();
            stage.plan = Plan::new(state, "127.0.0.1:7000", stage.now);
            stage.event(Event::Tick);
        }
        port_closes(&mut stage, 1);
        fenced(&mut stage, 2, Some(place(1, 100)), None);
        fenced(&mut stage, 3, Some(place(8, 107)), Some(10));
        assert_eq!(primary(&stage), id(3), "taken over: {taken_over}");
        assert_eq!(stage.plan.state().counts.data_losses, 0);
    }
}

#[test]
fn a_primary_that_answers_again_keeps_its_place_and_its_replicas_are_let_loose() {
    let mut stage = followed(1, WriteMode::Safe);
    let epoch = stage.plan.state().map.epoch;
    wait_hearing(&mut stage, SILENCE_MS, &[2]);
    let number = stage.plan.state().failovers[&SHARD].number;
    fenced(&mut stage, 2, Some(place(1, 100)), Some(10));
    stage.now += 50;
    stage.probe(id(1));
    assert!(stage.plan.state().failovers.is_empty());
    assert!(stage.seen.contains(&Action::Unfence {
        node: id(2),
        number
    }));
    assert_eq!(stage.plan.state().map.epoch, epoch);
    assert!(lease(&mut stage, 1));
}

#[test]
fn while_a_fence_holds_nobody_of_the_shard_is_given_a_newer_map() {
    let mut stage = followed(1, WriteMode::Safe);
    wait_hearing(&mut stage, SILENCE_MS, &[2]);
    let mode = Order::Writes {
        set: Some(WriteMode::Async),
    };
    stage.order_any(mode).unwrap();
    let epoch = stage.plan.state().map.epoch;
    stage.wait(50);
    assert!(stage.nodes[&id(2)].epoch < epoch);
}

#[test]
fn in_safe_a_failover_waits_for_all_that_may_be_in_step_and_an_operator_can_end_it() {
    let mut stage = followed(2, WriteMode::Safe);
    port_closes(&mut stage, 1);
    port_closes(&mut stage, 3);
    fenced(&mut stage, 2, Some(place(1, 100)), Some(10));
    wait_hearing(&mut stage, 10_000, &[2]);
    assert_eq!(primary(&stage), id(1));
    let status = stage.plan.status();
    let failover = status.shards[0].failover.clone().unwrap();
    assert!(failover.stuck);
    assert!(failover.waits.unwrap().contains("--force"));
    let force = Order::Failover {
        shard: SHARD,
        to: None,
        force: true,
    };
    stage.order_any(force).unwrap();
    stage.wait(50);
    assert_eq!(primary(&stage), id(2));
}

#[test]
fn one_that_lost_its_mark_is_promoted_if_it_has_more_than_those_that_kept_theirs() {
    let mut stage = fades(WriteMode::Safe);
    port_closes(&mut stage, 1);
    fenced(&mut stage, 2, Some(place(1, 60)), Some(10));
    assert_eq!(primary(&stage), id(1), "another may have more");
    fenced(&mut stage, 3, Some(place(1, 100)), Some(10));
    assert_eq!(primary(&stage), id(3));
    assert_eq!(stage.plan.state().counts.data_losses, 0);
}

/// The primary answers the topology, as its replicas do, and says that it hears none of them.
fn parts(stage: &mut Stage, ms: u64) {
    let silent = PARTED_SILENT_MS;
    acknowledged(stage, &[(2, 100, silent), (3, 100, silent)]);
    wait_hearing(stage, ms, &[1, 2, 3]);
}

#[test]
fn in_safe_a_primary_that_reaches_no_replica_while_the_topology_reaches_all_is_told_and_replaced() {
    let mut stage = followed(2, WriteMode::Safe);
    parts(&mut stage, PARTED_MS - 100);
    assert!(fences(&stage).is_empty());
    assert!(lease(&mut stage, 1));
    wait_hearing(&mut stage, 100, &[1, 2, 3]);
    let told: Vec<_> = fences(&stage).into_iter().map(|(node, _)| node).collect();
    assert_eq!(told, [id(1), id(2), id(3)]);
    assert!(!lease(&mut stage, 1));
    fenced(&mut stage, 2, Some(place(1, 100)), Some(10));
    fenced(&mut stage, 3, Some(place(1, 120)), Some(10));
    // That it answers calls nothing off, and its lease runs.
    wait_hearing(&mut stage, 100, &[1, 2, 3]);
    assert_eq!(primary(&stage), id(1));
    fenced(&mut stage, 1, Some(place(1, 130)), None);
    assert_eq!(primary(&stage), id(3));
    let counts = &stage.plan.state().counts;
    assert_eq!((counts.failovers, counts.data_losses), (1, 0));
    assert_eq!(stage.nodes[&id(1)].epoch, stage.plan.state().map.epoch);
}

#[test]
fn a_parted_primary_that_cannot_be_told_is_replaced_when_its_lease_has_run_out() {
    let mut stage = followed(2, WriteMode::Safe);
    parts(&mut stage, PARTED_MS - 100);
    assert!(lease(&mut stage, 1));
    let granted = stage.now;
    wait_hearing(&mut stage, 100, &[1, 2, 3]);
    for replica in [2, 3] {
        fenced(&mut stage, replica, Some(place(1, 100)), Some(500));
    }
    let left = granted + LEASE_MS + LEASE_MARGIN_MS - stage.now;
    wait_hearing(&mut stage, left - 20, &[1, 2, 3]);
    assert_eq!(primary(&stage), id(1));
    wait_hearing(&mut stage, 20, &[1, 2, 3]);
    assert_eq!(primary(&stage), id(2));
}

#[test]
fn a_primary_that_would_not_be_better_off_replaced_keeps_its_place() {
    let long = 3 * PARTED_MS;
    let silent = PARTED_SILENT_MS;
    // In `async` it answers by itself.
    let mut stage = followed(2, WriteMode::Async);
    parts(&mut stage, PARTED_MS + 100);
    assert!(stage.plan.state().failovers.is_empty());
    // A single replica would reach nobody.
    let mut stage = followed(1, WriteMode::Safe);
    acknowledged(&mut stage, &[(2, 100, silent)]);
    wait_hearing(&mut stage, long, &[1, 2]);
    assert!(stage.plan.state().failovers.is_empty());
    // One of two that are needed does not answer the topology.
    let mut stage = followed(2, WriteMode::Safe);
    stage.event(Event::NodeUnreachable {
        node: id(3),
        reason: "no answer".into(),
        process_gone: false,
    });
    acknowledged(&mut stage, &[(2, 100, silent), (3, 100, silent)]);
    wait_hearing(&mut stage, long, &[1, 2]);
    assert!(stage.plan.state().failovers.is_empty());
    // It hears one.
    let mut stage = followed(2, WriteMode::Safe);
    acknowledged(&mut stage, &[(2, 100, silent), (3, 100, silent - 1)]);
    wait_hearing(&mut stage, long, &[1, 2, 3]);
    assert!(stage.plan.state().failovers.is_empty());
}

#[test]
fn a_failover_of_a_living_primary_is_soon_over_or_called_off_and_not_begun_again_at_once() {
    let mut stage = followed(2, WriteMode::Safe);
    parts(&mut stage, PARTED_MS);
    let number = stage.plan.state().failovers[&SHARD].number;
    for node in [1, 2] {
        fenced(&mut stage, node, Some(place(1, 100)), Some(10));
        let says = stage.nodes.get_mut(&id(node)).unwrap();
        says.replication.as_mut().unwrap().fence = Some(number);
    }
    wait_hearing(&mut stage, LAST_WAIT_MS, &[1, 2]);
    assert!(stage.plan.state().failovers.contains_key(&SHARD));
    wait_hearing(&mut stage, 100, &[1, 2]);
    assert!(stage.plan.state().failovers.is_empty());
    for node in [id(1), id(2)] {
        assert!(stage.seen.contains(&Action::Unfence { node, number }));
    }
    assert!(lease(&mut stage, 1));
    parts(&mut stage, PARTED_REST_MS - 200);
    assert!(stage.plan.state().failovers.is_empty());
    parts(&mut stage, 300);
    assert!(stage.plan.state().failovers.contains_key(&SHARD));
}

#[test]
fn a_successor_that_reaches_nobody_either_is_left_alone_for_a_while() {
    let mut stage = followed(2, WriteMode::Safe);
    parts(&mut stage, PARTED_MS);
    for node in [1, 2, 3] {
        fenced(&mut stage, node, Some(place(1, 100)), None);
    }
    assert_eq!((primary(&stage), in_step(&stage)), (id(2), vec![id(3)]));
    follow(&mut stage, 2, &[], 100);
    wait_hearing(&mut stage, PARTED_REST_MS - 100, &[1, 2, 3]);
    assert_eq!(stage.plan.state().last_failover, 1);
    wait_hearing(&mut stage, 200, &[1, 2, 3]);
    assert_eq!(stage.plan.state().last_failover, 2);
}

#[test]
fn in_async_a_dead_primary_is_replaced_by_the_best_of_those_that_answer() {
    let mut stage = followed(2, WriteMode::Async);
    port_closes(&mut stage, 1);
    fenced(&mut stage, 2, Some(place(1, 100)), Some(10));
    wait_hearing(&mut stage, LAST_WAIT_MS - 100, &[2]);
    assert_eq!(primary(&stage), id(1));
    wait_hearing(&mut stage, 100, &[2]);
    assert_eq!(primary(&stage), id(2));
}

#[test]
fn a_primary_that_restarts_empty_is_given_no_map_until_its_replica_has_its_place() {
    let mut stage = followed(1, WriteMode::Async);
    stage.joins_as(1, 2);
    assert_eq!(stage.nodes[&id(1)].epoch, Epoch(0));
    fenced(&mut stage, 2, Some(place(1, 100)), Some(10));
    assert_eq!(primary(&stage), id(2));
    assert_eq!(stage.plan.state().counts.data_losses, 0);
    assert_eq!(stage.nodes[&id(1)].epoch, stage.plan.state().map.epoch);
}

fn restarts_with(stage: &mut Stage, number: u8, data: Place) {
    let join = NodeJoin {
        data: Some(data),
        ..join(number, 2)
    };
    stage.nodes.insert(join.id, node_state(number, 2));
    stage.event(Event::NodeJoined(join));
    stage.probe(id(number));
}

#[test]
fn a_primary_that_restarts_with_its_data_goes_on_unless_a_replica_in_step_has_more() {
    for (theirs, goes_on) in [(100, id(1)), (101, id(2))] {
        let mut stage = followed(1, WriteMode::Async);
        restarts_with(&mut stage, 1, place(1, 100));
        fenced(&mut stage, 2, Some(place(1, theirs)), Some(10));
        assert_eq!(primary(&stage), goes_on, "{theirs}");
        assert_eq!(stage.plan.state().counts.data_losses, 0);
    }
    // Nobody was in step.
    let mut stage = Stage::with(settings(1, 1));
    stage.joins(1);
    stage.joins(2);
    restarts_with(&mut stage, 1, place(1, 100));
    assert!(stage.plan.state().failovers.is_empty());
    assert_eq!(primary(&stage), id(1));
    assert_eq!(stage.plan.state().counts.data_losses, 0);
}

#[test]
fn a_shard_that_nobody_has_data_of_goes_on_empty_and_the_loss_is_counted() {
    let mut stage = Stage::with(settings(1, 1));
    stage.joins(1);
    stage.joins(2);
    stage.joins_as(1, 2);
    fenced(&mut stage, 2, None, None);
    assert_eq!(primary(&stage), id(1));
    assert_eq!(stage.plan.state().counts.data_losses, 1);
    assert_eq!(stage.nodes[&id(1)].slots.len(), 16384);
}

#[test]
fn shards_that_fail_at_once_fail_over_side_by_side() {
    let mut stage = two_shards();
    port_closes(&mut stage, 1);
    port_closes(&mut stage, 2);
    assert_eq!(stage.plan.state().failovers.len(), 2);
    for (shard, replica, primary) in [(ShardId(1), 3, 1), (ShardId(2), 4, 2)] {
        let number = stage.plan.state().failovers[&shard].number;
        stage.event(Event::Fenced {
            node: id(replica),
            number,
            result: Ok(Fenced {
                number,
                run_id: run(replica, 1),
                place: Some(place(primary, 100)),
                answered_ms_ago: Some(1),
            }),
        });
    }
    let shards = stage.plan.state().map.shards();
    let primaries: Vec<_> = shards
        .iter()
        .map(|shard| shard.primary().unwrap().id)
        .collect();
    assert_eq!(primaries, [id(3), id(4)]);
}

fn planned(stage: &mut Stage) -> u64 {
    let order = Order::Failover {
        shard: SHARD,
        to: None,
        force: false,
    };
    stage.order_any(order).unwrap();
    stage.plan.state().failovers[&SHARD].number
}

fn yields(stage: &mut Stage, number: u64) {
    stage.event(Event::Yielded {
        node: id(1),
        run_id: run(1, 1),
        number,
        result: Ok(Yielded {
            number,
            place: place(1, 100),
        }),
    });
}

#[test]
fn a_planned_failover_gives_the_map_to_the_old_primary_alone_until_it_has_taken_it() {
    let mut stage = followed(1, WriteMode::Safe);
    let number = planned(&mut stage);
    let asked = stage.seen.iter().any(|action| {
        matches!(action, Action::Yield { node, order } if *node == id(1) && order.to == id(2))
    });
    assert!(asked);
    stage.by_hand = vec![id(1), id(2)];
    yields(&mut stage, number);
    let told: Vec<_> = stage
        .pushes()
        .into_iter()
        .map(|(node, _, _)| node)
        .collect();
    assert_eq!(told, [id(1)]);
    assert_eq!(primary(&stage), id(1));
    let push = MapPush {
        map: stage.plan.state().yielding.clone().unwrap().map,
        handovers: Vec::new(),
        yields: Some(number),
    };
    let taken = stage.takes(id(1), &push);
    stage.event(taken);
    assert_eq!(primary(&stage), id(2));
    assert_eq!(in_step(&stage), [id(1)]);
    assert_eq!(stage.pushes().last().unwrap().0, id(2));
    assert_eq!(stage.plan.state().counts.failovers_planned, 1);
}

#[test]
fn while_a_shard_changes_its_primary_nothing_moves_from_it_or_to_it() {
    let mut stage = moving();
    assert_eq!(stage.plan.state().attempts.len(), 1);
    let number = planned(&mut stage);
    assert!(stage.plan.state().attempts.is_empty());
    wait_hearing(&mut stage, 500, &[1, 2, 3, 4]);
    assert!(stage.plan.state().attempts.is_empty());
    yields(&mut stage, number);
    let push = MapPush {
        map: stage.plan.state().yielding.clone().unwrap().map,
        handovers: Vec::new(),
        yields: Some(number),
    };
    let taken = stage.takes(id(1), &push);
    stage.by_hand.clear();
    stage.event(taken);
    wait_hearing(&mut stage, 4000, &[1, 2, 3, 4]);
    // From the new primary it goes on.
    assert_eq!(stage.plan.state().counts.slots_moved, 100);
}

#[test]
fn a_primary_that_let_go_of_its_hold_is_asked_again_under_another_number() {
    let mut stage = followed(1, WriteMode::Safe);
    let number = planned(&mut stage);
    stage.by_hand = vec![id(1)];
    yields(&mut stage, number);
    let spent = stage.plan.state().yielding.clone().unwrap().map.epoch;
    stage.event(Event::Pushed {
        node: id(1),
        run_id: run(1, 1),
        epoch: spent,
        result: PushResult::LetGo(Attempt(number)),
    });
    let state = stage.plan.state();
    assert_eq!(state.map.epoch, spent.next());
    assert_eq!(primary(&stage), id(1));
    assert_eq!(state.failovers[&SHARD].number, number + 1);
}

#[test]
fn what_cannot_be_planned_is_refused_with_the_reason() {
    let mut stage = followed(1, WriteMode::Safe);
    stage.joins(3);
    let mut refused = |shard, to: Option<&str>| {
        let order = Order::Failover {
            shard: ShardId(shard),
            to: to.map(String::from),
            force: false,
        };
        stage.order_any(order).unwrap_err()
    };
    assert_eq!(refused(7, None), "there is no shard 7 (see larder status)");
    assert_eq!(
        refused(1, Some("127.0.0.1:7003")),
        "node 127.0.0.1:7003 is no replica of shard 1"
    );
    port_closes(&mut stage, 2);
    let order = Order::Failover {
        shard: SHARD,
        to: None,
        force: false,
    };
    assert_eq!(
        stage.order_any(order).unwrap_err(),
        "no replica of shard 1 is in step (wait till larder status says so)"
    );
}

/// Shard 1 hands slots to shard 2, and its primary dies before its word.
fn source_dies_in_a_handover() -> (Stage, Attempt, Epoch) {
    let mut stage = moving();
    let attempt = *stage.plan.state().attempts.keys().next().unwrap();
    stage.event(Event::Import {
        attempt,
        phase: ImportPhase::Ready { offset: Offset(9) },
        keys: 1,
        bytes: 1,
    });
    let epoch = stage.plan.state().handover.clone().unwrap().map.epoch;
    stage.seen.clear();
    port_closes(&mut stage, 1);
    fenced(&mut stage, 3, Some(place(1, 100)), Some(10));
    let back = Action::Abort {
        node: id(2),
        attempt,
    };
    assert!(stage.seen.contains(&back));
    assert!(stage.plan.state().failovers.contains_key(&SHARD));
    (stage, attempt, epoch)
}

#[test]
fn slots_of_a_source_that_died_in_its_handover_stay_with_its_replica_when_the_target_has_no_map() {
    let (mut stage, attempt, epoch) = source_dies_in_a_handover();
    stage.event(Event::Aborted {
        node: id(2),
        run_id: run(2, 1),
        attempt,
        epoch: stage.nodes[&id(2)].epoch,
    });
    let map = stage.plan.state().map.clone();
    assert!(map.epoch > epoch);
    assert!(
        map.slots_of(id(3))
            .contains(larder_wire::Slot::new(0).unwrap())
    );
}

#[test]
fn slots_of_a_source_that_died_in_its_handover_are_the_targets_when_it_has_the_map_already() {
    let (mut stage, attempt, epoch) = source_dies_in_a_handover();
    stage.event(Event::Aborted {
        node: id(2),
        run_id: run(2, 1),
        attempt,
        epoch,
    });
    let map = stage.plan.state().map.clone();
    assert!(
        map.slots_of(id(2))
            .contains(larder_wire::Slot::new(0).unwrap())
    );
    assert!(!map.slots_of(id(3)).is_empty());
}

#[test]
fn slots_handed_to_a_target_that_started_again_are_lost_only_where_no_replica_has_them() {
    for with_replicas in [true, false] {
        let mut stage = match with_replicas {
            true => moving(),
            false => moving_in(Stage::with(settings(2, 0)), 2),
        };
        let attempt = *stage.plan.state().attempts.keys().next().unwrap();
        stage.event(Event::Import {
            attempt,
            phase: ImportPhase::Ready { offset: Offset(9) },
            keys: 1,
            bytes: 1,
        });
        let epoch = stage.plan.state().handover.clone().unwrap().map.epoch;
        stage.joins_as(2, 2);
        stage.seen.clear();
        // The source had taken the map before it heard of that.
        stage.event(Event::Pushed {
            node: id(1),
            run_id: run(1, 1),
            epoch,
            result: PushResult::Accepted,
        });
        let state = stage.plan.state();
        assert!(state.handover.is_none());
        let lost = stage.seen.iter().any(
            |action| matches!(action, Action::Log { text, .. } if text.contains("data is lost")),
        );
        assert_eq!(lost, !with_replicas);
        // One more for what it owned before.
        assert_eq!(state.counts.data_losses, if with_replicas { 0 } else { 2 });
    }
}
