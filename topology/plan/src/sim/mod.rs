//! The plan in a simulated world with a seed: nodes that crash and restart, messages that are lost, late, doubled and
//! reordered, a topology that dies at any moment and keeps only its record, operators who change their minds.
//!
//! `LARDER_SIM_SEEDS=2000` runs more seeds, `LARDER_SIM_SEED=17` one of them.

mod diary;
mod judge;
mod node;
mod shards;
mod world;

use judge::Verdict;
use world::{Faults, World};

/// A bug put into the plan on purpose: the judges must find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    Nothing,
    /// The target of a handover is told with the source, not after it.
    TargetFirst,
    /// A source that has let go is taken for one that agreed.
    SkipLetGo,
    /// Actions go out before what they follow from is recorded.
    ActBeforeRecord,
    /// What a former life of a node says late is taken for the next life.
    ForgetPastRuns,
    /// A promotion does not wait for the fences.
    SkipFences,
    /// Nor for the lease to run out.
    IgnoreLease,
    /// A suspected primary gets leases as before.
    LeaseForAll,
    /// Of the fenced, the one that has the least is chosen.
    PromoteBehind,
    /// Of a shard that was down, whoever is back first goes on with what it has read from its files.
    FirstBack,
    /// A primary answers what any replica has, in step or not.
    CountStrangers,
    /// A mark that is taken away is forgotten before the primary knows of it.
    ForgetFading,
    /// Nodes take maps older than their own.
    AcceptLateMaps,
    /// Nodes that are fenced are given maps of other shards' changes.
    LiftFences,
    /// A mark that is taken away is forgotten as soon as the primary knows of it, though others may lag.
    ForgetLagging,
    /// A primary that lives is replaced without being told of it.
    PartedUntold,
    /// The heir of a planned failover is told with the old primary, not after it.
    HeirFirst,
}

/// Seeds of one test unless the environment says otherwise.
const SEEDS: u64 = 150;

pub(crate) fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match (number("LARDER_SIM_SEED"), number("LARDER_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(SEEDS),
    }
}

fn run(seed: u64, faults: Faults, planted: Planted) -> Verdict {
    let mut world = World::new(seed, faults, planted);
    world.run()
}

fn demand_innocence(faults: Faults) {
    let mut moved = 0;
    for seed in seeds() {
        let verdict = run(seed, faults, Planted::Nothing);
        assert!(
            verdict.broken.is_empty(),
            "seed {seed}, {faults:?}: {:?}\n{}",
            verdict.broken,
            verdict.tail
        );
        moved += verdict.handovers;
    }
    assert!(
        moved > seeds().count() as u64,
        "next to nothing moved: {moved} handovers"
    );
}

#[test]
fn in_a_calm_world_every_order_is_carried_out_and_no_write_is_lost() {
    demand_innocence(Faults::NONE);
}

#[test]
fn lost_late_and_doubled_messages_and_a_dying_topology_lose_no_write() {
    demand_innocence(Faults::MESSAGES_AND_TOPOLOGY);
}

#[test]
fn with_nodes_that_crash_too_no_slot_has_two_owners_and_each_has_one_in_the_end() {
    demand_innocence(Faults::ALL);
}

#[test]
fn one_seed_gives_one_run() {
    for seed in 0..3 {
        let first = run(seed, Faults::ALL, Planted::Nothing);
        let second = run(seed, Faults::ALL, Planted::Nothing);
        assert_eq!(first.fingerprint, second.fingerprint, "seed {seed}");
        assert_ne!(
            first.fingerprint,
            run(seed + 1000, Faults::ALL, Planted::Nothing).fingerprint
        );
    }
}

/// Seeds till the judges find the planted bug.
fn found_after(planted: Planted) -> Option<u64> {
    (0..400).find(|&seed| !run(seed, Faults::ALL, planted).broken.is_empty())
}

#[test]
fn the_judges_find_a_target_that_is_told_first() {
    assert!(found_after(Planted::TargetFirst).is_some());
}

#[test]
fn the_judges_find_a_let_go_that_is_passed_over() {
    assert!(found_after(Planted::SkipLetGo).is_some());
}

#[test]
fn the_judges_find_actions_that_outrun_the_record() {
    assert!(found_after(Planted::ActBeforeRecord).is_some());
}

#[test]
fn the_judges_find_a_past_life_that_is_taken_for_the_next() {
    assert!(found_after(Planted::ForgetPastRuns).is_some());
}
