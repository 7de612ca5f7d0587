//! What goes wrong in the world of shards: one fault of a shard at a time, and the next when it is whole, or can afford it.

use super::*;

impl World {
    /// All replicas are in step, by a record that the primary has.
    pub(super) fn whole(&self, shard: ShardId) -> bool {
        let Some(plan) = self.plan.as_ref().filter(|plan| plan.recorded()) else {
            return false;
        };
        let state = plan.state();
        let Some(entry) = state
            .shard(shard)
            .filter(|_| !state.failovers.contains_key(&shard))
        else {
            return false;
        };
        let well = |id: NodeId| {
            let node = self.nodes.iter().find(|node| node.id == id);
            node.is_some_and(|node| node.up && node.epoch() == state.map.epoch)
        };
        let healed = self.cuts.iter().all(|cut| cut.healed);
        let thawed = self.frozen_until.values().all(|until| *until <= self.now);
        let slow = self.slow.as_ref().is_some_and(|it| it.until > self.now);
        healed
            && thawed
            && !slow
            && entry.replicas().count() as u32 == REPLICAS
            && entry.replicas().all(|replica| replica.in_step)
            && entry.nodes.iter().all(|entry| well(entry.id))
            && !state.fading.contains_key(&shard)
    }

    /// The primary of a shard that has one replica in step, which must have all that was answered: nothing fades.
    pub(super) fn lean_primary(&self, shard: ShardId) -> Option<NodeId> {
        let plan = self.plan.as_ref().filter(|plan| plan.recorded())?;
        let state = plan.state();
        let entry = state.shard(shard)?;
        let primary = entry.primary()?.id;
        let marked: Vec<NodeId> = entry
            .replicas()
            .filter(|r| r.in_step)
            .map(|r| r.id)
            .collect();
        let [replica] = marked[..] else {
            return None;
        };
        let settled = !state.failovers.contains_key(&shard) && !state.fading.contains_key(&shard);
        let well = [primary, replica].iter().all(|id| {
            let node = self.nodes.iter().find(|node| node.id == *id);
            let cut = self.cuts.iter().any(|cut| {
                !cut.healed && (cut.from.contains(&Some(*id)) || cut.to.contains(&Some(*id)))
            });
            let frozen = self
                .frozen_until
                .get(id)
                .is_some_and(|until| *until > self.now);
            !cut && !frozen && node.is_some_and(|node| node.up && node.epoch() == state.map.epoch)
        });
        (settled && well).then_some(primary)
    }

    pub(super) fn fault(&mut self) {
        let again = 200 + self.below(1500);
        self.after(again, What::Fault);
        let shard = ShardId(1 + self.below(u64::from(SHARDS)) as u32);
        if self.now >= STORM_MS {
            return;
        }
        if self.crash_lean() {
            return;
        }
        if !self.whole(shard) {
            return;
        }
        let members: Vec<NodeId> = {
            let state = self.plan.as_ref().map(|plan| plan.state().clone());
            let entry = state.and_then(|state| state.shard(shard).cloned());
            entry
                .into_iter()
                .flat_map(|entry| entry.nodes)
                .map(|entry| entry.id)
                .collect()
        };
        if self.power_cuts && self.below(2) == 0 {
            return self.power_cut(&members);
        }
        // The primary more often than not.
        let at = self.below(members.len() as u64 + 2) as usize;
        let victim = *members.get(at).unwrap_or(&members[0]);
        match self.below(10) {
            0 | 1 => self.crash(victim),
            3 | 4 => self.part(shard, &members),
            5 => self.slow_down(&members),
            6 => {
                self.note("a primary and the topology at once".into());
                self.crash(members[0]);
                self.topology_dies();
            }
            2 => {
                let ms = 100 + self.below(4000);
                self.note(format!("{victim:?} freezes for {ms} ms"));
                self.frozen_until.insert(victim, self.now + ms);
            }
            _ => self.cut(victim, &members),
        }
    }

    /// The primary and its replicas, and nobody else.
    pub(super) fn part(&mut self, shard: ShardId, members: &[NodeId]) {
        let (primary, replicas) = (members[0], &members[1..]);
        let both_ways = self.below(2) == 0;
        self.note(format!(
            "{primary:?} and its replicas part, both ways: {both_ways}"
        ));
        self.cuts.push(Cut {
            from: replicas.iter().map(|id| Some(*id)).collect(),
            to: BTreeSet::from([Some(primary)]),
            both_ways,
            leaks: false,
            healed: false,
        });
        let ms = PARTED_MS_MAX + 1 + self.below(1500);
        self.after(ms, What::Heals(self.cuts.len() - 1));
        self.after(PARTED_MS_MAX, What::Parted(shard, self.life));
    }

    /// One replica hears everything late, so that the other is alone in acknowledging; then that one dies.
    pub(super) fn slow_down(&mut self, members: &[NodeId]) {
        let [primary, late, prompt] = members[..] else {
            return;
        };
        let ms = 300 + self.below(500);
        self.note(format!("{late:?} hears {primary:?} {ms} ms late"));
        self.slow = Some(Slow {
            from: primary,
            to: late,
            ms,
            until: self.now + 2500,
        });
        let alone = 150 + self.below(100);
        self.after(alone, What::Crashes(prompt));
        for _ in 0..3 {
            let ms = alone + 100 + self.below(400);
            self.after(ms, What::Lean);
        }
    }

    pub(super) fn crash_lean(&mut self) -> bool {
        let mut lean = (1..=SHARDS).filter_map(|number| self.lean_primary(ShardId(number)));
        let primary = lean.next().filter(|_| self.now < STORM_MS);
        if let Some(primary) = primary {
            self.crash(primary);
        }
        primary.is_some()
    }

    pub(super) fn crash(&mut self, victim: NodeId) {
        let behind = self.below(20) as usize;
        let disk = match self.below(2) {
            0 => Disk::default(),
            _ => self.node(victim).disk(behind),
        };
        self.crash_with(victim, disk);
    }

    fn crash_with(&mut self, victim: NodeId, disk: Disk) {
        self.node(victim).crash(disk);
        self.note(format!("{victim:?} dies"));
        let ms = 20 + self.below(2500);
        self.after(ms, What::NodeStarts(victim));
    }

    /// All nodes of a shard die at once. Each had on its disk what it had acknowledged.
    fn power_cut(&mut self, members: &[NodeId]) {
        self.report.power_cuts += 1;
        for &victim in members {
            let disk = self.node(victim).disk(0);
            self.crash_with(victim, disk);
        }
    }

    pub(super) fn cut(&mut self, victim: NodeId, members: &[NodeId]) {
        let everyone: BTreeSet<End> = self.nodes.iter().map(|node| Some(node.id)).collect();
        let one = BTreeSet::from([Some(victim)]);
        let topology = BTreeSet::from([TOPOLOGY]);
        let other = members[self.below(members.len() as u64) as usize];
        let (from, to) = match self.below(5) {
            // From all.
            0 => (one, everyone.union(&topology).copied().collect()),
            // From the topology alone, or from some of the others.
            1 => (topology, one),
            2 => (one, topology),
            3 => (one, BTreeSet::from([Some(other)])),
            // Two of a shard from the topology.
            _ => (topology, BTreeSet::from([Some(victim), Some(other)])),
        };
        let both_ways = self.below(3) > 0;
        self.note(format!("cut {from:?} -> {to:?}, both ways: {both_ways}"));
        self.cuts.push(Cut {
            from,
            to,
            both_ways,
            leaks: true,
            healed: false,
        });
        let ms = 100 + self.below(4500);
        self.after(ms, What::Heals(self.cuts.len() - 1));
    }
}
