//! Slots that this node handed over: their keys stay, out of everybody's sight, until the topology has heard that they are another's.
//!
//! The source takes the map first, and its word may be lost together with it. Then the topology may have the target drop what it took and give the slots
//! back to the source's shard, and whoever of that shard goes on with them must have their keys. So neither this node nor its replicas drop any before the
//! attempt is said to be over (`ABORT`, which the topology sends to whoever names an attempt that is not under way) or a later map has come.

use larder_wire::control::FeedState;
use larder_wire::{Attempt, Epoch, SlotSet};

use super::Feed;
use crate::node::Node;

/// One attempt's slots.
pub(crate) struct HandedOver {
    slots: SlotSet,
    /// Of the map that took them away.
    epoch: Epoch,
    state: FeedState,
}

impl HandedOver {
    pub(super) fn new(feed: &Feed, epoch: Epoch) -> Option<HandedOver> {
        Some(HandedOver {
            slots: feed.slots().clone(),
            epoch,
            state: FeedState {
                holding: false,
                ..feed.state()?
            },
        })
    }

    /// What the topology is told, so that it says when the attempt is over.
    pub(crate) fn state(&self) -> &FeedState {
        &self.state
    }
}

impl Node {
    /// A map was taken. The slots of earlier handovers that it gives back, whose keys are still as they were: nobody else had them if it is the very next one.
    pub(super) fn settle_handed_over(&mut self) -> SlotSet {
        let mut back = SlotSet::new();
        let own = self.ownership.slots().clone();
        for former in std::mem::take(&mut self.handed_over) {
            if self.ownership.epoch() == former.epoch.next() {
                back = back.union(&former.slots.intersection(&own));
            }
            self.drop_slots(&former.slots.difference(&own), None);
        }
        back
    }

    /// The attempt is over.
    pub(super) fn drop_handed_over(&mut self, attempt: Attempt) {
        let over = |it: &HandedOver| it.state.attempt == attempt;
        if let Some(at) = self.handed_over.iter().position(over) {
            let former = self.handed_over.swap_remove(at);
            self.drop_slots(&former.slots, None);
        }
    }

    /// These slots come in again: what is there of them from now on was not handed over.
    pub(super) fn come_again(&mut self, slots: &SlotSet) {
        for former in &mut self.handed_over {
            former.slots = former.slots.difference(slots);
        }
    }
}
