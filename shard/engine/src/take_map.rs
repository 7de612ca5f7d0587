//! What a map from the topology does to a node.

use larder_wire::control::MapPush;
use larder_wire::{Refusal, Role};

use crate::clock::Clock;
use crate::node::Node;
use crate::ownership::MapRefused;

impl From<MapRefused> for Refusal {
    fn from(refused: MapRefused) -> Refusal {
        match refused {
            MapRefused::Stale { own } => Refusal::new(format!("STALE {own}")),
            MapRefused::OtherCluster { own, theirs } => Refusal::new(format!(
                "ERR this node belongs to cluster '{own}', the map is of cluster '{theirs}'"
            )),
            MapRefused::Standalone => Refusal::fixed(
                "ERR this node is standalone and takes no map (start it with --topology to make it part of a cluster)",
            ),
        }
    }
}

impl Node {
    /// Takes a map, all of it or nothing.
    pub fn take_map(&mut self, push: MapPush, clock: Clock) -> Result<(), Refusal> {
        if let Some(refusal) = self.loading_refusal() {
            // What the map says is for the keys that are still coming in; it is pushed again.
            return Err(refusal);
        }
        let Some(taken) = self.ownership.check(&push.map)? else {
            return Ok(());
        };
        self.check_handovers(&push.handovers, clock)?;
        self.check_yields(&push, clock)?;
        let was = self.ownership.role();
        self.ownership.take(push.map);
        let (map, me) = (self.ownership.map(), self.settings.id);
        self.replication.followers.settle_in_step(map, me);
        self.settle_guard(was, clock);
        self.void_streams();
        let kept = self.keep_restored();
        // A replica's keys come and go when its primary says so.
        if was == Role::Primary && self.ownership.role() == Role::Primary {
            self.settle_moves(&taken.gained, &taken.lost, &push.handovers, &kept);
        }
        self.settle_role(was, clock);
        self.confirm_imports();
        self.pubsub.drop_slots(&taken.lost);
        self.databases
            .set_visible(Some(self.ownership.slots().clone()));
        self.redirect_blocked();
        self.release();
        Ok(())
    }
}
