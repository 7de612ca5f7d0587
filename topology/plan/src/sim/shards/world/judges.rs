//! What must hold in the world of shards, at every moment and in the end.

use super::*;

impl World {
    pub(super) fn accuse(&mut self, text: String) {
        if self.report.broken.len() < 3 {
            self.report
                .broken
                .push(format!("at {} ms: {text}", self.now));
        }
    }

    /// Of the nodes that serve a slot there is at most one.
    pub(super) fn one_owner(&mut self) {
        let mut owners: BTreeMap<ShardId, Vec<(NodeId, Epoch)>> = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| node.serves(self.now)) {
            // A frozen one answers nothing; when it thaws, its clock has gone on.
            let frozen = self
                .frozen_until
                .get(&node.id)
                .is_some_and(|until| *until > self.now);
            if let Some((shard, _)) = node.map.find_node(node.id).filter(|_| !frozen) {
                owners
                    .entry(shard.id)
                    .or_default()
                    .push((node.id, node.epoch()));
            }
        }
        if let Some((shard, owners)) = owners.into_iter().find(|(_, owners)| owners.len() > 1) {
            self.accuse(format!("shard {shard} is served by {owners:?}"));
        }
    }

    pub(super) fn saw_map(&mut self, map: &ClusterMap) {
        match self.maps.get(&map.epoch) {
            Some(known) if known != map => self.accuse(format!("epoch {} has two maps", map.epoch)),
            Some(_) => {}
            None => {
                self.maps.insert(map.epoch, map.clone());
            }
        }
    }

    pub(super) fn client_hears(&mut self, op: Op, value: u64) {
        let Some(at) = self.clients.iter().position(|client| client.op == op) else {
            return;
        };
        self.report.answered += 1;
        self.clients[at].heard_at = self.now;
        let safe = self.writes == WriteMode::Safe;
        let client = &mut self.clients[at];
        let (slot, floor) = (client.slot, client.floor);
        let known = self.known.entry(slot).or_default();
        *known = (*known).max(value);
        let again = !client.done;
        client.done = true;
        if safe && value < floor {
            self.accuse(format!(
                "{slot:?} is {value}, {floor} was known before it was asked"
            ));
        }
        if again {
            let ms = 1 + self.below(15);
            self.after(ms, What::ClientActs(at, op));
        }
    }

    pub(super) fn in_the_end(&mut self) {
        let Some(map) = self.plan.as_ref().map(|plan| plan.state().map.clone()) else {
            return;
        };
        for shard in map.shards() {
            let primary = shard.primary().expect("checked by the state").id;
            let log = self.node(primary).log.clone();
            for replica in shard.replicas() {
                if self.node(replica.id).log != log {
                    self.accuse(format!("{:?} has not what {primary:?} has", replica.id));
                }
            }
            for (slot, known) in self.known.clone() {
                let here = self.node(primary).value(slot);
                let lost = shard.slots.contains(slot) && here < known;
                if lost && self.writes == WriteMode::Safe {
                    self.accuse(format!("{slot:?} is {here}, {known} was acknowledged"));
                }
            }
        }
    }

    pub(super) fn why_not_at_rest(&self) -> String {
        let Some(plan) = &self.plan else {
            return "no topology".into();
        };
        let state = plan.state();
        if !state.failovers.is_empty() || state.yielding.is_some() || !plan.recorded() {
            return format!("{:?}", state.failovers);
        }
        for node in &self.nodes {
            if !node.up || node.epoch() != state.map.epoch {
                return format!("{:?} has epoch {}", node.id, node.epoch());
            }
        }
        for shard in state.map.shards() {
            let primary = shard.primary().map(|entry| entry.id);
            let leader = self.nodes.iter().find(|node| Some(node.id) == primary);
            if !leader.is_some_and(|leader| leader.serves(self.now)) {
                return format!("shard {} does not serve", shard.id);
            }
            let replicas = shard.replicas().count() as u32;
            if replicas != REPLICAS || shard.replicas().any(|entry| !entry.in_step) {
                return format!("shard {} is not whole", shard.id);
            }
            let end = leader.map_or(0, |leader| leader.log.len());
            let same = |id: NodeId| {
                let node = self.nodes.iter().find(|node| node.id == id);
                node.is_some_and(|node| node.log.len() == end && node.follows_whom() == primary)
            };
            if !shard.replicas().all(|entry| same(entry.id)) {
                return format!("replicas of shard {} are behind", shard.id);
            }
        }
        String::new()
    }

    pub(super) fn served_after_parting(&mut self, shard: ShardId, life: u64) {
        if self.life != life
            || self.plan.is_none()
            || self.writes != WriteMode::Safe
            || self.now >= STORM_MS
        {
            return;
        }
        let slots = self.client_map.shards().iter().find(|it| it.id == shard);
        let slots = slots.map(|it| it.slots.clone()).unwrap_or_default();
        let lately = self.now - CLIENT_PATIENCE_MS;
        let served = self
            .clients
            .iter()
            .any(|client| slots.contains(client.slot) && client.heard_at > lately);
        self.report.parted += 1;
        self.report.parted_served += u64::from(served);
    }
}
