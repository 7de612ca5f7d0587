//! What is on its way between replicas and primaries.

use larder_wire::NodeId;

use super::World;
use super::actors::{Link, id, take_frames};
use crate::feed::Produced;
use crate::turn::Outcome;

impl World {
    pub(super) fn index_of(&self, node: NodeId) -> usize {
        let found = (0..self.actors.len()).find(|index| id(*index) == node);
        found.unwrap()
    }

    /// What the replica has said already may arrive all the same, a fence or not.
    pub(super) fn break_link(&mut self, replica: usize) {
        let Some(mut link) = self.actors[replica].link.take() else {
            return;
        };
        self.actors[replica].node.upstream_lost(link.number);
        if self.runs(link.primary) && self.reaches(replica, link.primary) {
            let frames = self.frames();
            let actor = &mut self.actors[link.primary];
            let clock = actor.clock(self.now_ms);
            for frame in take_frames(&mut link.up, frames) {
                let heard = actor.node.link_heard(link.at_primary, &frame.view(), clock);
                heard.unwrap();
            }
        }
        self.actors[link.primary].node.link_lost(link.at_primary);
    }

    fn connect(&mut self, replica: usize) {
        let Some(wanted) = self.actors[replica].node.wanted_link() else {
            return;
        };
        let primary = self.index_of(wanted.node);
        let apart = !self.reaches(replica, primary) || !self.reaches(primary, replica);
        if apart || !self.runs(primary) || !self.runs(replica) {
            return;
        }
        let clock = self.actors[replica].clock(self.now_ms);
        let begun = self.actors[replica]
            .node
            .begin_upstream(wanted.number, clock);
        let Some(ask) = begun else { return };
        let actor = &mut self.actors[primary];
        let clock = actor.clock(self.now_ms);
        let body = serde_json::to_string(&ask).unwrap();
        match actor.ask("REPLICATE", &body, clock).0 {
            Outcome::Replicate(at_primary) => {
                self.actors[replica].link = Some(Link {
                    primary,
                    number: wanted.number,
                    at_primary,
                    down: Vec::new(),
                    up: Vec::new(),
                    ended: false,
                });
            }
            _ => self.actors[replica].node.upstream_lost(wanted.number),
        }
    }

    /// How many arrive at once: a few, or all that there are.
    pub(super) fn frames(&mut self) -> usize {
        match self.chance(2) {
            true => 1 + self.below(4),
            false => usize::MAX,
        }
    }

    /// Some of what is on its way arrives.
    pub(super) fn carry(&mut self, replica: usize) {
        let Some(mut link) = self.actors[replica].link.take() else {
            return self.connect(replica);
        };
        let primary = link.primary;
        if self.runs(primary) && !link.ended {
            let actor = &mut self.actors[primary];
            let clock = actor.clock(self.now_ms);
            for _ in 0..40 {
                let produced =
                    actor
                        .node
                        .link_produce(link.at_primary, 40_000, clock, &mut link.down);
                link.ended = produced == Produced::Over;
                if produced != Produced::More {
                    break;
                }
            }
        }
        let mut lost = link.ended && link.down.is_empty();
        if self.runs(replica) && self.reaches(primary, replica) {
            let frames = self.frames();
            let actor = &mut self.actors[replica];
            let clock = actor.clock(self.now_ms);
            for frame in take_frames(&mut link.down, frames) {
                let node = &mut actor.node;
                lost |= node
                    .upstream_apply(link.number, &frame.view(), clock)
                    .is_err();
            }
            actor.node.upstream_answer(link.number, clock, &mut link.up);
        }
        if self.runs(primary) && self.reaches(replica, primary) {
            let frames = self.frames();
            let actor = &mut self.actors[primary];
            let clock = actor.clock(self.now_ms);
            for frame in take_frames(&mut link.up, frames) {
                let heard = actor.node.link_heard(link.at_primary, &frame.view(), clock);
                lost |= heard.is_err();
            }
        }
        lost |= !self.actors[replica].node.upstream_is(link.number);
        self.actors[replica].link = Some(link);
        if lost {
            self.break_link(replica);
        }
    }
}
