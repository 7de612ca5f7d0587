//! Stories of shards whose every node went down: who goes on with them when they come back with files, with old ones, or with nothing.

use larder_wire::control::NodeJoin;
use larder_wire::replication::{Fenced, Place, ReplicationState, SILENCE_MS, WriteMode};
use larder_wire::{Epoch, NodeId, ShardId};

use crate::replica_stories::{followed, place, shard};
use crate::stories::{Stage, id, join, node_state};
use crate::*;

const SHARD: ShardId = ShardId(1);

fn dies(stage: &mut Stage, number: u8) {
    stage.event(Event::NodeUnreachable {
        node: id(number),
        reason: "connection refused".into(),
        process_gone: true,
    });
}

fn all_die(stage: &mut Stage) {
    for number in 1..=3 {
        dies(stage, number);
    }
}

/// It starts again, and has read this from its files.
fn comes_back(stage: &mut Stage, number: u8, life: u8, data: Option<Place>) {
    let join = NodeJoin {
        data,
        ..join(number, life)
    };
    stage.nodes.insert(join.id, node_state(number, life));
    stage.event(Event::NodeJoined(join));
    stage.probe(id(number));
}

/// Time passes; those who are named answer all the while.
fn pass(stage: &mut Stage, ms: u64, heard: &[u8]) {
    for _ in 0..ms / 100 {
        stage.now += 100;
        for number in heard {
            stage.probe(id(*number));
        }
        stage.event(Event::Tick);
    }
}

fn fenced(stage: &mut Stage, number: u8, place: Option<Place>) {
    let failover = stage.plan.state().failovers[&SHARD].number;
    stage.event(Event::Fenced {
        node: id(number),
        number: failover,
        result: Ok(Fenced {
            number: failover,
            run_id: stage.nodes[&id(number)].run_id,
            place,
            answered_ms_ago: Some(10),
        }),
    });
}

fn primary(stage: &Stage) -> NodeId {
    shard(stage).primary().unwrap().id
}

fn waits(stage: &Stage) -> bool {
    stage.plan.state().failovers.contains_key(&SHARD)
}

fn losses(stage: &Stage) -> u64 {
    stage.plan.state().counts.data_losses
}

fn force(stage: &mut Stage) {
    let force = Order::Failover {
        shard: SHARD,
        to: None,
        force: true,
    };
    stage.order_any(force).unwrap();
    pass(stage, 100, &[]);
}

#[test]
fn of_a_shard_that_comes_back_with_its_files_whoever_has_the_most_goes_on_in_whatever_order_they_come()
 {
    let orders = [
        [1, 2, 3],
        [1, 3, 2],
        [2, 1, 3],
        [2, 3, 1],
        [3, 1, 2],
        [3, 2, 1],
    ];
    for writes in [WriteMode::Async, WriteMode::Safe] {
        for order in orders {
            for most in 1..=3 {
                let mut stage = followed(2, writes);
                all_die(&mut stage);
                for number in order {
                    let offset = if number == most { 120 } else { 100 };
                    comes_back(&mut stage, number, 2, Some(place(1, offset)));
                    pass(&mut stage, 200, &[]);
                }
                pass(&mut stage, 500, &[1, 2, 3]);
                assert!(!waits(&stage), "{writes:?}, {order:?}, most: {most}");
                assert_eq!(primary(&stage), id(most), "{writes:?}, {order:?}");
                assert_eq!(losses(&stage), 0);
                for node in 1..=3 {
                    assert_eq!(stage.nodes[&id(node)].epoch, stage.plan.state().map.epoch);
                }
            }
        }
    }
}

#[test]
fn an_empty_primary_waits_for_replicas_that_may_have_files() {
    for writes in [WriteMode::Async, WriteMode::Safe] {
        let mut stage = followed(2, writes);
        all_die(&mut stage);
        comes_back(&mut stage, 1, 2, None);
        pass(&mut stage, 3_000, &[1]);
        assert!(waits(&stage), "{writes:?}");
        assert_eq!(stage.nodes[&id(1)].epoch, Epoch(0));
        comes_back(&mut stage, 2, 2, None);
        comes_back(&mut stage, 3, 2, Some(place(1, 80)));
        pass(&mut stage, 200, &[1, 2, 3]);
        assert_eq!(primary(&stage), id(3), "{writes:?}");
    }
}

#[test]
fn an_empty_primary_waits_for_a_replica_that_lives_and_is_slow_to_answer() {
    let mut stage = followed(1, WriteMode::Async);
    dies(&mut stage, 1);
    comes_back(&mut stage, 1, 2, None);
    // Busy, not gone: it has all data in its memory.
    pass(&mut stage, SILENCE_MS + LAST_WAIT_MS + 1_000, &[1]);
    assert!(waits(&stage));
    fenced(&mut stage, 2, Some(place(1, 100)));
    assert_eq!(primary(&stage), id(2));
    assert_eq!(losses(&stage), 0);
}

#[test]
fn a_shard_that_kept_nothing_goes_on_empty_once_all_have_said_so() {
    for writes in [WriteMode::Async, WriteMode::Safe] {
        let mut stage = followed(2, writes);
        all_die(&mut stage);
        for number in [2, 1, 3] {
            assert!(waits(&stage));
            comes_back(&mut stage, number, 2, None);
        }
        assert_eq!(primary(&stage), id(1), "{writes:?}");
        assert_eq!(losses(&stage), 1);
    }
}

#[test]
fn a_replica_with_files_goes_on_without_the_primary_in_async_after_a_while_and_in_safe_by_order() {
    for (writes, by_itself) in [(WriteMode::Async, true), (WriteMode::Safe, false)] {
        let mut stage = followed(2, writes);
        all_die(&mut stage);
        comes_back(&mut stage, 2, 2, Some(place(1, 100)));
        comes_back(&mut stage, 3, 2, Some(place(1, 110)));
        pass(&mut stage, LAST_WAIT_MS - 100, &[2, 3]);
        assert!(waits(&stage));
        pass(&mut stage, 200, &[2, 3]);
        assert_eq!(waits(&stage), !by_itself, "{writes:?}");
        if !by_itself {
            pass(&mut stage, 2 * EMPTY_WAIT_MS, &[2, 3]);
            let status = stage.plan.status();
            let failover = status.shards[0].failover.clone().unwrap();
            assert!(failover.waits.unwrap().contains("127.0.0.1:7001"));
            force(&mut stage);
        }
        assert_eq!(primary(&stage), id(3), "{writes:?}");
    }
}

#[test]
fn a_shard_goes_on_empty_without_those_who_stay_away_in_async_after_long_and_in_safe_by_order() {
    for back in [1, 2] {
        for (writes, by_itself) in [(WriteMode::Async, true), (WriteMode::Safe, false)] {
            let mut stage = followed(2, writes);
            all_die(&mut stage);
            pass(&mut stage, 2 * EMPTY_WAIT_MS, &[]);
            comes_back(&mut stage, back, 2, None);
            pass(&mut stage, EMPTY_WAIT_MS - 100, &[back]);
            assert!(waits(&stage), "{writes:?}");
            pass(&mut stage, 200, &[back]);
            assert_eq!(waits(&stage), !by_itself, "{writes:?}");
            if !by_itself {
                force(&mut stage);
            }
            assert_eq!(primary(&stage), id(back), "{writes:?}");
            assert_eq!(losses(&stage), 1);
        }
    }
}

#[test]
fn a_primary_that_is_only_slow_is_not_replaced_by_what_a_replica_has_read_from_an_old_file() {
    let mut stage = followed(1, WriteMode::Async);
    dies(&mut stage, 1);
    dies(&mut stage, 2);
    comes_back(&mut stage, 1, 2, Some(place(1, 100)));
    pass(&mut stage, LAST_WAIT_MS + 100, &[1]);
    assert!(!waits(&stage));
    // It has begun a history of its own, and much is in it. The replica is back, and not fed yet.
    leads(&mut stage, 9, 5_000);
    comes_back(&mut stage, 2, 2, Some(place(1, 90)));
    pass(&mut stage, SILENCE_MS + LAST_WAIT_MS + 2_000, &[2]);
    assert!(waits(&stage));
    fenced(&mut stage, 2, Some(place(1, 90)));
    pass(&mut stage, 1_000, &[2]);
    assert_eq!(primary(&stage), id(1));
    pass(&mut stage, 200, &[1, 2]);
    assert!(!waits(&stage));
    assert_eq!(losses(&stage), 0);
    assert_eq!(stage.plan.state().counts.failovers_called_off, 1);
}

/// Node 1 says that it leads, so far into this history.
fn leads(stage: &mut Stage, history: u8, offset: u64) {
    let said = ReplicationState {
        place: Some(place(history, offset)),
        follows: None,
        followers: Vec::new(),
        fence: None,
        lost_writes: 0,
    };
    stage.nodes.get_mut(&id(1)).unwrap().replication = Some(said);
    stage.probe(id(1));
}
