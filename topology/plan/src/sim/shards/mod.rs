//! Shards with replicas in a simulated world with a seed: hosts that vanish, one way or both; processes that crash,
//! freeze and come back empty or with an old file; clocks that do not run alike; a slow disk; a topology that dies.
//! Clients write registers and read them, and remember what they were told.
//!
//! One shard suffers one fault at a time, and the next when all its replicas are in step again: that is what `safe`
//! promises to survive. In a run with power cuts a whole shard dies now and then, and every node had on its disk what it acknowledged.
//!
//! `LARDER_SIM_SEEDS=2000` runs more seeds, `LARDER_SIM_SEED=17` one of them.

mod node;
mod world;

use super::{Planted, seeds};
use world::{Report, World};

fn run(seed: u64, planted: Planted) -> Report {
    World::new(seed, planted).run()
}

#[test]
fn replicas_take_over_and_nothing_that_was_acknowledged_in_safe_is_lost() {
    let mut failovers = 0;
    let mut planned = 0;
    let mut answered = 0;
    let (mut parted, mut served) = (0, 0);
    for seed in seeds() {
        let report = run(seed, Planted::Nothing);
        assert!(
            report.broken.is_empty(),
            "seed {seed}: {:?}\n{}\nseed {seed}: {:?}",
            report.broken,
            report.tail,
            report.broken
        );
        failovers += report.failovers;
        planned += report.planned;
        answered += report.answered;
        parted += report.parted;
        served += report.parted_served;
    }
    let count = seeds().count() as u64;
    assert!(
        failovers > count,
        "next to nothing failed over: {failovers}"
    );
    assert!(
        planned > count / 2,
        "next to nothing was planned: {planned}"
    );
    assert!(
        answered > count * 1000,
        "next to nothing was answered: {answered}"
    );
    // Where messages were lost or the disk was slow, it takes longer.
    eprintln!(
        "{served} of {parted} primaries that were parted from their replicas had a successor"
    );
    assert!(parted > count / 8, "next to nobody was parted: {parted}");
    assert!(
        served * 10 >= parted * 7,
        "{served} of {parted} parted shards were served in time"
    );
}

fn run_with_power_cuts(seed: u64, planted: Planted) -> Report {
    World::new(seed, planted).with_power_cuts().run()
}

#[test]
fn shards_that_die_as_a_whole_come_back_with_all_that_their_disks_had() {
    let mut power_cuts = 0;
    for seed in seeds() {
        let report = run_with_power_cuts(seed, Planted::Nothing);
        assert!(
            report.broken.is_empty(),
            "seed {seed}: {:?}\n{}\nseed {seed}: {:?}",
            report.broken,
            report.tail,
            report.broken
        );
        power_cuts += report.power_cuts;
    }
    let count = seeds().count() as u64;
    assert!(power_cuts > count / 2, "next to none died: {power_cuts}");
}

#[test]
fn the_judges_find_that_whoever_is_back_first_goes_on() {
    let broken = |seed| {
        !run_with_power_cuts(seed, Planted::FirstBack)
            .broken
            .is_empty()
    };
    assert!((0..400).any(broken));
}

#[test]
fn one_seed_gives_one_run_of_shards() {
    for seed in 0..2 {
        let first = run(seed, Planted::Nothing);
        assert_eq!(first.fingerprint, run(seed, Planted::Nothing).fingerprint);
        assert_ne!(
            first.fingerprint,
            run(seed + 1000, Planted::Nothing).fingerprint
        );
    }
}

/// The first seed whose judges find the planted bug.
fn found(planted: Planted) -> Option<u64> {
    (0..400).find(|&seed| !run(seed, planted).broken.is_empty())
}

#[test]
fn the_judges_find_a_promotion_that_does_not_wait_for_fences() {
    assert!(found(Planted::SkipFences).is_some());
}

#[test]
fn the_judges_find_a_promotion_while_the_lease_runs() {
    assert!(found(Planted::IgnoreLease).is_some());
}

#[test]
fn the_judges_find_leases_for_primaries_that_are_suspected() {
    assert!(found(Planted::LeaseForAll).is_some());
}

#[test]
fn the_judges_find_a_promotion_of_one_that_has_less() {
    assert!(found(Planted::PromoteBehind).is_some());
}

#[test]
fn the_judges_find_acting_before_the_record_in_failovers() {
    assert!(found(Planted::ActBeforeRecord).is_some());
}

#[test]
fn the_judges_find_an_heir_that_is_told_with_the_old_primary() {
    assert!(found(Planted::HeirFirst).is_some());
}

#[test]
fn the_judges_find_writes_that_are_answered_for_a_replica_not_in_step() {
    assert!(found(Planted::CountStrangers).is_some());
}

#[test]
fn the_judges_find_marks_that_are_forgotten_before_the_primary_knows() {
    assert!(found(Planted::ForgetFading).is_some());
}

#[test]
fn the_judges_find_marks_that_are_forgotten_while_the_others_lag() {
    assert!(found(Planted::ForgetLagging).is_some());
}

#[test]
fn the_judges_find_a_living_primary_that_is_replaced_and_not_told() {
    assert!(found(Planted::PartedUntold).is_some());
}

#[test]
fn the_judges_find_nodes_that_take_late_maps() {
    assert!(found(Planted::AcceptLateMaps).is_some());
}

#[test]
fn the_judges_find_maps_that_lift_a_fence() {
    assert!(found(Planted::LiftFences).is_some());
}
