//! Invented worlds: shards of three nodes, cut and slow links, stopped and killed processes, slots on the move, clients of whoever takes itself for a key's owner,
//! and a topology that promotes and hands over by the rules of `larder_wire`. The nodes are the real ones.
//!
//! ```text
//! actors.rs     a node and what is around it
//! clients.rs    who asks, and the judge of what is answered
//! links.rs      replication
//! moves.rs      slots that move between two shards
//! topology.rs   leases, marks, fences, promotions
//! ```
//!
//! Judged in `safe`: whoever is promoted or given slots has every write that was answered or read, no read is older than what was answered or read before it was
//! asked, and no key has two owners. Bugs planted in the rules must be found. `LARDER_SIM_SEEDS=2000` runs more worlds.

mod actors;
mod clients;
mod links;
mod moves;
mod topology;

use std::collections::BTreeMap;

use actors::Actor;
use larder_store::Random;
use larder_wire::replication::LEASE_MS;
use topology::Topology;

use super::*;

/// Worlds of the test without a bug, and most that a planted one may take to be found.
const SEEDS: u64 = 20;
const SEEDS_TO_FIND: u64 = 400;
const STEPS: usize = 4000;
/// How long two shards may take to come to rest once nothing fails.
const REST_STEPS: usize = 4000;
const NODES_EACH: usize = 3;
const KEYS: [&str; 3] = ["a", "b", "c"];

struct World {
    random: Random,
    now_ms: u64,
    actors: Vec<Actor>,
    topology: Topology,
    /// From whom to whom nothing gets through; the topology is the last.
    cut: Vec<Vec<bool>>,
    written: u64,
    /// Per key the newest value that was answered or read.
    known: BTreeMap<&'static str, u64>,
    promotions: u32,
    moves: u32,
    given_back: u32,
    answered: u32,
    planted: Option<Planted>,
    /// Nothing more is begun.
    resting: bool,
}

impl World {
    fn new(seed: u64, shards: usize, planted: Option<Planted>) -> World {
        let nodes = shards * NODES_EACH;
        World {
            random: Random::new(seed),
            now_ms: 1000,
            actors: (0..nodes)
                .map(|index| Actor::new(index, 0, planted))
                .collect(),
            topology: Topology::new(shards),
            cut: vec![vec![false; nodes + 1]; nodes + 1],
            written: 0,
            known: BTreeMap::new(),
            promotions: 0,
            moves: 0,
            given_back: 0,
            answered: 0,
            planted,
            resting: false,
        }
    }

    fn below(&mut self, n: usize) -> usize {
        self.random.below(n)
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    /// The topology, where nodes have their index.
    fn nobody(&self) -> usize {
        self.actors.len()
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        !self.cut[from][to]
    }

    fn runs(&self, index: usize) -> bool {
        self.actors[index].alive && self.actors[index].stopped_until <= self.now_ms
    }

    /// A call of the topology's, there and back.
    fn is_called(&self, index: usize) -> bool {
        let topology = self.nobody();
        self.runs(index) && self.reaches(topology, index) && self.reaches(index, topology)
    }

    fn tick(&mut self, index: usize) {
        if self.runs(index) {
            let clock = self.actors[index].clock(self.now_ms);
            self.actors[index].node.tick(clock);
        }
    }

    /// Something happens, and nothing fails.
    fn go_on(&mut self) {
        if self.topology.shards.len() > 1 && self.chance(4) {
            self.go_on_moving();
            self.carry_feed();
        }
        let index = self.below(self.actors.len());
        let shard = index / NODES_EACH;
        match self.below(100) {
            0..=24 => self.carry(index),
            25..=44 => self.send(index),
            45..=59 => self.look_after_waiting(index),
            60..=67 => self.join(index),
            68..=75 => self.join_answered(index),
            76..=82 => self.push_map(index),
            83 => self.forget_faded(shard),
            84..=85 => self.judge_steps(shard),
            86..=90 => self.fence(shard),
            91..=95 => self.tick(index),
            _ => self.abort_what_is_void(index),
        }
    }

    fn step(&mut self) {
        self.now_ms += self.below(12) as u64;
        let index = self.below(self.actors.len());
        let shard = index / NODES_EACH;
        match self.below(100) {
            0 if self.chance(2) => self.fault(),
            0 => {}
            1 => self.suspect_if_silent(shard),
            2 if self.chance(8) => self.call_off(shard),
            2 => {}
            3 => self.heal(),
            4 if self.chance(4) => self.break_link(index),
            4 => {}
            5 if self.chance(8) => self.cut_feed(),
            _ => self.go_on(),
        }
    }

    fn fault(&mut self) {
        let all = self.actors.len() + 1;
        let (from, to) = (self.below(all), self.below(all));
        match self.below(12) {
            0..=5 => self.cut[from][to] = true,
            6..=7 => {
                self.cut[from] = vec![true; all];
                self.cut.iter_mut().for_each(|row| row[from] = true);
            }
            8..=10 => {
                let stop_ms = self.below(2 * LEASE_MS as usize) as u64;
                let index = self.below(self.actors.len());
                self.actors[index].stopped_until = self.now_ms + stop_ms;
            }
            _ => {
                let index = self.below(self.actors.len());
                if self.may_crash(index) {
                    self.crash(index);
                }
            }
        }
    }

    fn heal(&mut self) {
        if self.chance(2) {
            self.cut.iter_mut().for_each(|row| row.fill(false));
        }
        let index = self.below(self.actors.len());
        if self.may_return(index) && !self.actors[index].alive {
            self.actors[index].alive = true;
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
    }

    /// Nothing fails any more: after a while each key has one owner, which has what is known.
    fn come_to_rest(&mut self) {
        self.cut.iter_mut().for_each(|row| row.fill(false));
        self.resting = true;
        for _ in 0..REST_STEPS {
            self.now_ms += self.below(12) as u64;
            for index in 0..self.actors.len() {
                self.actors[index].alive |= self.may_return(index);
            }
            for shard in 0..self.topology.shards.len() {
                let primary = self.topology.shards[shard].primary;
                if !self.runs(primary) {
                    self.suspect(shard);
                } else if self.chance(50) {
                    self.call_off(shard);
                }
            }
            self.go_on();
            if self.is_at_rest() {
                return self.judge_rest();
            }
        }
        panic!("the world never came to rest: {}", self.describe());
    }

    fn judge_rest(&mut self) {
        for key in KEYS {
            let slot = larder_wire::slot_of(key.as_bytes());
            let mut shards = self.topology.shards.iter();
            let owner = shards
                .find(|shard| shard.slots.contains(slot))
                .unwrap()
                .primary;
            self.join(owner);
            while !self.actors[owner].joins.is_empty() {
                self.join_answered(owner);
            }
            assert_eq!(self.owners(key), [owner], "found: owners of {key}");
            let slots = self.topology.shards[owner / NODES_EACH].slots.clone();
            self.judge_heir(owner, &slots, "ends");
        }
    }
}

#[test]
fn whatever_fails_what_was_answered_in_safe_is_never_lost_or_undone() {
    let (mut promotions, mut answered) = (0, 0);
    let seeds = std::env::var("LARDER_SIM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let world = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, 1, None);
            world.run();
            (world.promotions, world.answered)
        });
        let (promoted, told) = world.unwrap_or_else(|_| panic!("seed {seed}"));
        promotions += promoted;
        answered += told;
    }
    eprintln!("{promotions} promotions, {answered} answers");
    assert!(promotions > SEEDS as u32 / 2, "{promotions} promotions");
    assert!(answered > 40 * SEEDS as u32, "{answered} answers");
}

#[test]
fn whatever_fails_slots_that_move_keep_what_was_answered_and_have_one_owner() {
    let (mut promotions, mut moves, mut given_back) = (0, 0, 0);
    let seeds = std::env::var("LARDER_SIM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let world = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, 2, None);
            world.run();
            world.come_to_rest();
            (world.promotions, world.moves, world.given_back)
        });
        let (promoted, moved, back) = world.unwrap_or_else(|_| panic!("seed {seed}"));
        promotions += promoted;
        moves += moved;
        given_back += back;
    }
    eprintln!("{promotions} promotions, {moves} moves, {given_back} given back");
    assert!(promotions > SEEDS as u32 / 2, "{promotions} promotions");
    assert!(moves > 2 * SEEDS as u32, "{moves} moves");
    assert!(given_back > 0);
}

#[test]
fn a_bug_planted_in_any_of_the_rules_is_found() {
    for planted in Planted::ALL {
        let found = (0..SEEDS_TO_FIND).find(|seed| {
            let run = std::panic::catch_unwind(|| {
                World::new(*seed, planted.shards(), Some(planted)).run()
            });
            match run {
                Ok(()) => false,
                Err(why) => {
                    let text = why.downcast_ref::<String>();
                    let text = text.unwrap_or_else(|| panic!("{planted:?}, seed {seed}"));
                    assert!(
                        text.starts_with("found:"),
                        "{planted:?}, seed {seed}: {text}"
                    );
                    true
                }
            }
        });
        eprintln!("{planted:?}: found in world {found:?}");
        assert!(
            found.is_some(),
            "{planted:?} was not found in {SEEDS_TO_FIND} worlds"
        );
    }
}
