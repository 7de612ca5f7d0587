//! A planned change of primary, from the side of the one that goes.
//!
//! ```text
//! YIELD ──▶ Waiting: writes of all slots wait ──`to` has everything──▶ Ready: answered Yielded ──map that names it──▶ replica
//!              └──────────────── HOLD_MS_MAX is over, `to` is gone ──────────┴──▶ let go: -LETGO
//! ```
//!
//! While it holds, nothing is added to the journal: writes wait, and keys neither expire nor are evicted. So what `to` has when this is answered is all
//! that there is when the map comes. A map that demotes for another reason (a failover) is taken whatever is held.

use larder_wire::control::{HOLD_MS_MAX, MapPush};
use larder_wire::replication::{LinkPhase, Yield, Yielded};
use larder_wire::{NodeId, Offset, Refusal, Role, SlotSet};

use crate::clock::Clock;
use crate::exec::control::{body, json};
use crate::journal::Unit;
use crate::node::Node;
use crate::turn::{Outcome, Turn};

/// The hold of a planned change.
#[derive(Debug)]
pub(crate) struct Hold {
    number: u64,
    to: NodeId,
    slots: SlotSet,
    since_ms: u64,
    /// `to` has everything, and the topology was told so.
    ready: bool,
}

impl Hold {
    fn is_due(&self, clock: Clock) -> bool {
        clock.mono_ms.saturating_sub(self.since_ms) >= HOLD_MS_MAX
    }
}

/// What was heard of planned changes.
#[derive(Debug, Default)]
pub(crate) struct Yields {
    heard: u64,
    hold: Option<Hold>,
}

impl Yields {
    /// Slots whose writes wait for a planned change.
    pub(crate) fn held(&self) -> Option<&SlotSet> {
        self.hold.as_ref().map(|hold| &hold.slots)
    }
}

pub(crate) fn yield_(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let ask: Yield = body(turn)?;
    match turn.node.go_on_yielding(&ask, turn.clock)? {
        Some(yielded) => json(turn, &yielded),
        None => Ok(Outcome::Held),
    }
}

fn let_go(number: u64) -> Refusal {
    Refusal::new(format!("LETGO {number}"))
}

impl Node {
    /// Called again after each acknowledgement. `None`: `to` lacks something yet.
    fn go_on_yielding(&mut self, ask: &Yield, clock: Clock) -> Result<Option<Yielded>, Refusal> {
        let number = ask.number;
        if number > self.guard.yields.heard {
            self.begin_yielding(ask, clock)?;
        }
        let to_has = self.acked_by(ask.to);
        // What runs may still write: it is not held in the middle.
        let at_rest = !self.scripts.is_busy() && !self.journal.has_unit();
        let place = self.journal.place();
        let Some(hold) = &mut self.guard.yields.hold else {
            return Err(let_go(number));
        };
        if hold.number != number || hold.is_due(clock) {
            return Err(let_go(number));
        }
        let Some(place) = place else {
            self.end_yielding(clock);
            return Err(Refusal::fixed("ERR this node keeps no journal"));
        };
        let Some(to_has) = to_has else {
            self.end_yielding(clock);
            return Err(Refusal::new(format!(
                "ERR {} does not follow this node any more",
                ask.to
            )));
        };
        if !at_rest || to_has < place.offset {
            return Ok(None);
        }
        hold.ready = true;
        Ok(Some(Yielded { number, place }))
    }

    fn begin_yielding(&mut self, ask: &Yield, clock: Clock) -> Result<(), Refusal> {
        let Yield { number, to } = *ask;
        let own = self.ownership.map().find_node(self.ownership.me());
        let Some((shard, entry)) = own.filter(|(_, entry)| entry.role == Role::Primary) else {
            return Err(Refusal::new(format!(
                "ERR this node is no primary by its map (epoch {})",
                self.ownership.epoch()
            )));
        };
        debug_assert_eq!(entry.id, self.ownership.me());
        if !shard
            .replicas()
            .any(|replica| replica.id == to && replica.in_step)
        {
            return Err(Refusal::new(format!(
                "ERR {to} is no replica of shard {} that is in step",
                shard.id
            )));
        }
        if self.acked_by(to).is_none() {
            return Err(Refusal::new(format!("ERR {to} does not follow this node")));
        }
        self.guard.yields.heard = number;
        // An earlier one that still holds is over.
        self.end_yielding(clock);
        self.close_unit(Unit::Single);
        self.guard.yields.hold = Some(Hold {
            number,
            to,
            slots: self.ownership.slots().clone(),
            since_ms: clock.mono_ms,
            ready: false,
        });
        self.stats.yields.add(1);
        self.settle_passive();
        self.settle_holds();
        Ok(())
    }

    /// What a replica that streams has.
    fn acked_by(&self, to: NodeId) -> Option<Offset> {
        let mut followers = self.replication.followers.iter();
        let follower = followers.find(|follower| follower.node == to);
        follower
            .filter(|follower| follower.phase == LinkPhase::Streaming)
            .map(|follower| follower.acked)
    }

    fn end_yielding(&mut self, clock: Clock) {
        let Some(hold) = self.guard.yields.hold.take() else {
            return;
        };
        let held_ms = clock.mono_ms.saturating_sub(hold.since_ms);
        self.stats.yield_hold_ms.add(held_ms);
        self.settle_passive();
        self.settle_holds();
        // Whoever waits for the end of it asks again.
        self.release();
    }

    /// Holds for planned changes do not last, and end with a replica that is gone.
    pub(crate) fn let_go_of_yields(&mut self, clock: Clock) {
        let Some(hold) = &self.guard.yields.hold else {
            return;
        };
        if hold.is_due(clock) || self.acked_by(hold.to).is_none() {
            self.end_yielding(clock);
        }
    }

    /// A map that makes this node a replica by a planned change is taken only while it holds for that.
    pub(crate) fn check_yields(&self, push: &MapPush, clock: Clock) -> Result<(), Refusal> {
        let Some(number) = push.yields else {
            return Ok(());
        };
        let holds = self
            .guard
            .yields
            .hold
            .as_ref()
            .is_some_and(|hold| hold.number == number && hold.ready && !hold.is_due(clock));
        match holds {
            true => Ok(()),
            false => Err(let_go(number)),
        }
    }

    /// A map was taken: what was held for is done, or void.
    pub(crate) fn settle_yields(&mut self, clock: Clock) {
        let keeps = self.ownership.role() == Role::Primary
            && self.guard.yields.held() == Some(self.ownership.slots());
        if !keeps {
            self.end_yielding(clock);
        }
    }
}
