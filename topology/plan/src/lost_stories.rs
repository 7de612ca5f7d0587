//! Stories of shards that have lost all their nodes.

use larder_wire::replication::{LEASE_MARGIN_MS, LEASE_MS, SILENCE_MS, WriteMode};
use larder_wire::{NodeId, ShardId};

use crate::replica_stories::{follow, settings};
use crate::stories::{Stage, id};
use crate::*;

const WAIT_MS: u64 = 5_000;

/// Two shards of two nodes each (1 and 3, 2 and 4), and spares 5 and 6.
fn stage(lost_shards: LostShards) -> Stage {
    let mut stage = Stage::with(Settings {
        lost_shards,
        writes: WriteMode::Safe,
        ..settings(2, 1)
    });
    for number in 1..=6 {
        stage.joins(number);
    }
    follow(&mut stage, 1, &[3], 100);
    follow(&mut stage, 2, &[4], 100);
    stage
}

fn unreachable(stage: &mut Stage, number: u8, process_gone: bool) {
    stage.event(Event::NodeUnreachable {
        node: id(number),
        reason: "connection refused".into(),
        process_gone,
    });
}

fn pass(stage: &mut Stage, ms: u64, heard: &[u8]) {
    for _ in 0..ms / 100 {
        stage.now += 100;
        for number in heard {
            stage.probe(id(*number));
        }
        stage.event(Event::Tick);
    }
}

fn nodes(stage: &Stage, shard: u32) -> Vec<NodeId> {
    let shard = stage.plan.state().shard(ShardId(shard)).unwrap();
    shard.nodes.iter().map(|entry| entry.id).collect()
}

#[test]
fn a_lost_shard_comes_up_empty_on_spares_where_that_is_wanted_once_all_its_processes_have_been_gone_for_long()
 {
    let wanted = LostShards::Empty { after_ms: WAIT_MS };
    let mut stage = stage(wanted);
    unreachable(&mut stage, 1, true);
    pass(&mut stage, WAIT_MS, &[2, 3, 4, 5, 6]);
    unreachable(&mut stage, 3, true);
    pass(&mut stage, WAIT_MS - 100, &[2, 4, 5, 6]);
    assert_eq!(nodes(&stage, 1), [id(1), id(3)]);
    pass(&mut stage, 200, &[2, 4, 5, 6]);
    assert_eq!(nodes(&stage, 1), [id(5), id(6)]);
    assert_eq!(nodes(&stage, 2), [id(2), id(4)]);
    assert_eq!(stage.nodes[&id(5)].slots.len(), 8192);
    let state = stage.plan.state();
    assert_eq!(state.counts.data_losses, 1);
    assert!(state.failovers.is_empty());

    // A node that comes back later has nothing to do with it any more.
    stage.joins_as(1, 2);
    assert_eq!(nodes(&stage, 1), [id(5), id(6)]);
}

#[test]
fn by_default_a_lost_shard_waits_for_its_nodes() {
    let mut stage = stage(LostShards::default());
    unreachable(&mut stage, 1, true);
    unreachable(&mut stage, 3, true);
    pass(&mut stage, 2 * LOST_SHARD_WAIT_MS, &[2, 4, 5, 6]);
    assert_eq!(nodes(&stage, 1), [id(1), id(3)]);
}

#[test]
fn a_node_that_comes_back_or_may_be_alive_keeps_a_shard_from_coming_up_empty() {
    let wanted = LostShards::Empty { after_ms: WAIT_MS };
    // Silent, and not known to be gone: it may serve others.
    let mut stage = stage(wanted);
    unreachable(&mut stage, 1, false);
    unreachable(&mut stage, 3, true);
    pass(&mut stage, 3 * WAIT_MS, &[2, 4, 5, 6]);
    assert_eq!(nodes(&stage, 1), [id(1), id(3)]);
    // Back within the time, and gone again: it counts anew.
    let mut stage = super::lost_stories::stage(wanted);
    unreachable(&mut stage, 1, true);
    unreachable(&mut stage, 3, true);
    pass(&mut stage, WAIT_MS - 100, &[2, 4, 5, 6]);
    stage.joins_as(3, 2);
    unreachable(&mut stage, 3, true);
    pass(&mut stage, WAIT_MS - 100, &[2, 4, 5, 6]);
    assert_eq!(nodes(&stage, 1), [id(1), id(3)]);
    pass(&mut stage, 200, &[2, 4, 5, 6]);
    assert_eq!(nodes(&stage, 1), [id(5), id(6)]);
}

#[test]
fn where_empty_shards_are_wanted_an_operator_can_say_that_a_silent_one_is_dead() {
    let wanted = LostShards::Empty { after_ms: WAIT_MS };
    for (lost_shards, comes_up) in [(wanted, true), (LostShards::Wait, false)] {
        let mut stage = stage(lost_shards);
        pass(&mut stage, SILENCE_MS, &[2, 4, 5, 6]);
        unreachable(&mut stage, 1, false);
        unreachable(&mut stage, 3, false);
        let force = Order::Failover {
            shard: ShardId(1),
            to: None,
            force: true,
        };
        stage.order_any(force).unwrap();
        let lease = LEASE_MS + LEASE_MARGIN_MS;
        pass(&mut stage, lease - lease % 100 - 100, &[2, 4, 5, 6]);
        assert_eq!(nodes(&stage, 1), [id(1), id(3)]);
        pass(&mut stage, 300, &[2, 4, 5, 6]);
        let comes_to = match comes_up {
            true => [id(5), id(6)],
            false => [id(1), id(3)],
        };
        assert_eq!(nodes(&stage, 1), comes_to);
    }
}

#[test]
fn what_becomes_of_lost_shards_is_changed_while_the_cluster_lives_even_while_one_is_lost() {
    let mut stage = stage(LostShards::Wait);
    let report = |stage: &mut Stage, set| match stage.order_any(Order::LostShards { set }).unwrap()
    {
        Answer::LostShards(report) => report,
        other => panic!("{other:?}"),
    };
    let empty = LostShards::Empty { after_ms: WAIT_MS };
    let asked = report(&mut stage, None);
    assert_eq!((asked.before, asked.lost), (LostShards::Wait, vec![]));

    // What has been lost for longer than the new time comes up at once.
    unreachable(&mut stage, 1, true);
    unreachable(&mut stage, 3, true);
    pass(&mut stage, 2 * WAIT_MS, &[2, 4, 5, 6]);
    let set = report(&mut stage, Some(empty));
    assert_eq!((set.before, set.lost_shards), (LostShards::Wait, empty));
    assert_eq!(set.lost, [ShardId(1)]);
    pass(&mut stage, 200, &[2, 4, 5, 6]);
    assert_eq!(nodes(&stage, 1), [id(5), id(6)]);
    assert_eq!(stage.plan.state().settings.lost_shards, empty);

    // And back: the next one waits.
    stage.joins_as(1, 2);
    stage.joins_as(3, 2);
    let set = report(&mut stage, Some(LostShards::Wait));
    assert_eq!((set.before, set.lost), (empty, vec![]));
    unreachable(&mut stage, 2, true);
    unreachable(&mut stage, 4, true);
    pass(&mut stage, 2 * LOST_SHARD_WAIT_MS, &[1, 3, 5, 6]);
    assert_eq!(nodes(&stage, 2), [id(2), id(4)]);
    assert_eq!(report(&mut stage, None).lost, [ShardId(2)]);
}

#[test]
fn without_a_spare_a_lost_shard_asks_for_a_node() {
    let mut stage = Stage::with(Settings {
        lost_shards: LostShards::Empty { after_ms: WAIT_MS },
        ..settings(2, 0)
    });
    stage.joins(1);
    stage.joins(2);
    stage.event(Event::NodeStarter { able: true });
    unreachable(&mut stage, 1, true);
    pass(&mut stage, WAIT_MS + 100, &[2]);
    assert!(stage.seen.contains(&Action::AskForNodes(1)));
    assert_eq!(nodes(&stage, 1), [id(1)]);
    stage.joins(3);
    pass(&mut stage, 100, &[2, 3]);
    assert_eq!(nodes(&stage, 1), [id(3)]);
}

#[test]
fn what_is_said_of_lost_shards_is_a_word() {
    let after = |after_ms| Ok(LostShards::Empty { after_ms });
    for (text, said) in [
        ("wait", Ok(LostShards::Wait)),
        ("empty", after(LOST_SHARD_WAIT_MS)),
        ("empty:5", after(5_000)),
    ] {
        assert_eq!(text.parse::<LostShards>(), said, "{text}");
        let said = said.unwrap();
        assert_eq!(said.to_string().parse(), Ok(said), "{text}");
    }
    for text in [
        "",
        "full",
        "wait:5",
        "empty:",
        "empty:x",
        "empty:99999999999999999999",
    ] {
        assert!(text.parse::<LostShards>().is_err(), "{text}");
    }
}
