//! A planned failover: the primary lets a replica take its place, without error and without loss.
//!
//! ```text
//! ordered ── record ──▶ YIELD: the primary holds its writes till `to` has them all
//!   └── it does ── record E+1 ──▶ undecided: the map to the old primary alone, naming the failover
//!         ├── it takes it ──▶ E+1 is settled: the new primary, then all
//!         └── it had let go ── record E+2 = as before ──▶ asked once more, a few times
//! ```

use larder_wire::control::MapPush;
use larder_wire::replication::{Yield, Yielded};
use larder_wire::{ClusterMap, Epoch, NodeId, ShardEntry, ShardId};

use crate::event::{Action, FailoverDone, Level};
use crate::failover::crown;
use crate::report::FailoverReport;
use crate::soft::FailoverSoft;
use crate::state::{Failover, FailoverKind, Yielding};
use crate::step::Plan;
use crate::{ANSWER_MS_MAX, YIELDS_MAX};

impl Plan {
    pub(crate) fn order_failover(
        &mut self,
        shard: ShardId,
        to: Option<String>,
        force: bool,
    ) -> Result<FailoverReport, String> {
        let Some(entry) = self.state.shard(shard).cloned() else {
            return Err(format!("there is no shard {shard} (see larder status)"));
        };
        if let Some(present) = self.state.failovers.get_mut(&shard) {
            present.forced |= force;
            let number = present.number;
            return Ok(self.failover_report(shard, number, true));
        }
        if entry.replicas().next().is_none() {
            return Err(format!(
                "shard {shard} has no replica (larder replicas --set 1 gives every shard one)"
            ));
        }
        let primary = entry.primary().expect("checked by the state");
        if !self.soft.reachable(primary.id) || self.is_silent(primary.id) {
            return Err(format!(
                "primary {} of shard {shard} does not answer: its failover begins by itself",
                primary.addr
            ));
        }
        let to = self.heir(&entry, to)?;
        let number = self.state.take_failover_number();
        let present = self.state.nodes[&primary.id].run_id;
        self.state.failovers.insert(
            shard,
            Failover {
                number,
                primary: primary.id,
                run_id: present,
                epoch: self.state.epoch(),
                witnesses: Default::default(),
                kind: FailoverKind::Planned { to, tries: 1 },
                forced: false,
            },
        );
        let soft = FailoverSoft::begun(self.soft.now);
        self.soft.failovers.insert(number, soft);
        self.void_attempts_of(primary.id, "its shard is given another primary");
        self.void_attempts_of(to, "it becomes a primary");
        Ok(self.failover_report(shard, number, false))
    }

    fn failover_report(&self, shard: ShardId, number: u64, attached: bool) -> FailoverReport {
        let failover = &self.state.failovers[&shard];
        FailoverReport {
            shard,
            number,
            attached,
            from: self.addr(failover.primary),
            to: match failover.kind {
                FailoverKind::Planned { to, .. } => Some(self.addr(to)),
                FailoverKind::Suspected { .. } => None,
            },
        }
    }

    /// The replica that was named, or the one in step that is closest.
    fn heir(&self, shard: &ShardEntry, named: Option<String>) -> Result<NodeId, String> {
        if let Some(name) = named {
            let id = self.member(&name)?;
            let entry = shard.replicas().find(|entry| entry.id == id);
            return match entry {
                Some(entry) if entry.in_step => Ok(id),
                Some(entry) => Err(format!(
                    "replica {} is not in step (wait till larder status says so)",
                    entry.addr
                )),
                None => Err(format!(
                    "node {} is no replica of shard {}",
                    self.addr(id),
                    shard.id
                )),
            };
        }
        let ready = shard
            .replicas()
            .filter(|entry| entry.in_step && !self.is_silent(entry.id));
        let closest = ready.min_by_key(|entry| (self.lag(shard.id, entry.id), entry.id));
        closest.map(|entry| entry.id).ok_or_else(|| {
            format!(
                "no replica of shard {} is in step (wait till larder status says so)",
                shard.id
            )
        })
    }

    /// The primary is asked once a number; it is not asked while another map is undecided.
    pub(crate) fn send_yields(&mut self) {
        if self.undecided() {
            return;
        }
        let now = self.soft.now;
        for failover in self.state.failovers.values() {
            let FailoverKind::Planned { to, .. } = failover.kind else {
                continue;
            };
            let Some(soft) = self.soft.failovers.get_mut(&failover.number) else {
                continue;
            };
            let node = failover.primary;
            if soft.asked.contains_key(&node) {
                continue;
            }
            soft.asked.insert(node, now);
            let number = failover.number;
            self.soft.out.push(Action::Yield {
                node,
                order: Yield { number, to },
            });
        }
    }

    pub(crate) fn yielded(
        &mut self,
        node: NodeId,
        run_id: NodeId,
        number: u64,
        result: Result<Yielded, String>,
    ) {
        let found = self.state.failovers.iter();
        let found = found.map(|(shard, failover)| (*shard, failover.clone()));
        let mut found = found.filter(|(_, f)| f.number == number && f.primary == node);
        let Some((shard, failover)) = found.next() else {
            return;
        };
        let FailoverKind::Planned { .. } = failover.kind else {
            return;
        };
        match result {
            Ok(_) if !self.is_present_life(node, run_id) => {}
            Ok(_) => {
                if let Some(soft) = self.soft.failovers.get_mut(&number) {
                    soft.yielded = true;
                }
            }
            Err(reason) => self.yield_failed(shard, &failover, reason),
        }
    }

    /// A primary that holds gets its map, as soon as no other is undecided.
    pub(crate) fn begin_yields(&mut self) {
        let ready = self.state.failovers.iter().find(|(_, failover)| {
            let soft = self.soft.failovers.get(&failover.number);
            soft.is_some_and(|soft| soft.yielded)
        });
        let Some((shard, failover)) = ready else {
            return;
        };
        let FailoverKind::Planned { to, .. } = failover.kind else {
            return;
        };
        if self.undecided() {
            return;
        }
        let (shard, number, primary) = (*shard, failover.number, failover.primary);
        let mut shards = self.state.map.shards().to_vec();
        for entry in shards.iter_mut().filter(|entry| entry.id == shard) {
            // The old primary has all that there is; the others are in step again once they have caught up.
            crown(entry, to, |id| id == primary);
        }
        let map = ClusterMap::new(&self.state.cluster, self.state.epoch().next(), shards)
            .expect("slots stay where they are")
            .with_writes(self.state.map.writes);
        self.state.spent = map.epoch;
        self.state.yielding = Some(Yielding {
            shard,
            number,
            primary,
            to,
            map,
        });
    }

    pub(crate) fn push_yield(&mut self) {
        let Some(yielding) = self.state.yielding.clone() else {
            return;
        };
        let push = MapPush {
            map: yielding.map,
            handovers: Vec::new(),
            yields: Some(yielding.number),
        };
        #[cfg(test)]
        if self.planted == crate::sim::Planted::HeirFirst {
            let yields = None;
            self.push(
                yielding.to,
                MapPush {
                    yields,
                    ..push.clone()
                },
            );
        }
        self.push(yielding.primary, push);
    }

    /// The old primary has the map that takes its place from it.
    pub(crate) fn yielder_has_epoch(&mut self, node: NodeId, epoch: Epoch) {
        let told = self.recorded() && self.yield_recorded();
        let decided = self
            .state
            .yielding
            .take_if(|yielding| yielding.primary == node && yielding.map.epoch == epoch);
        let Some(yielding) = decided else {
            return;
        };
        self.void_attempts_of(node, "its shard has another primary");
        self.state.map = yielding.map;
        self.state.fading.remove(&yielding.shard);
        self.state.failovers.remove(&yielding.shard);
        let soft = self.soft.failovers.remove(&yielding.number);
        let took_ms = soft.map_or(0, |soft| self.soft.now.saturating_sub(soft.began_at));
        self.state.counts.failovers_planned += 1;
        self.soft.leases.remove(&node);
        if told {
            self.tell_at_once(yielding.to);
        }
        self.soft.out.push(Action::FailedOver(FailoverDone {
            shard: yielding.shard,
            planned: true,
            took_ms,
        }));
        let (new, old) = (self.addr(yielding.to), self.addr(node));
        let shard = yielding.shard;
        self.log(
            Level::Info,
            format!("shard {shard} goes on with {new}, as ordered; {old} is its replica"),
        );
    }

    /// It no longer held when the map came: the epoch is spent, the same nodes go on under the one after it.
    pub(crate) fn yielder_let_go(&mut self, node: NodeId, number: u64) -> bool {
        let decided = self
            .state
            .yielding
            .take_if(|yielding| yielding.primary == node && yielding.number == number);
        let Some(yielding) = decided else {
            return false;
        };
        let shards = self.state.map.shards().to_vec();
        self.state.settle(shards);
        if let Some(failover) = self.state.failovers.get(&yielding.shard).cloned() {
            let reason = "the primary had let go before the map came".to_string();
            self.yield_failed(yielding.shard, &failover, reason);
        }
        true
    }

    fn yield_failed(&mut self, shard: ShardId, failover: &Failover, reason: String) {
        let FailoverKind::Planned { to, tries } = failover.kind else {
            return;
        };
        self.state.failovers.remove(&shard);
        self.soft.failovers.remove(&failover.number);
        let text = format!("planned failover of shard {shard}: {reason}");
        if tries >= YIELDS_MAX {
            self.state.counts.failovers_called_off += 1;
            return self.log(Level::Error, format!("{text} (given up)"));
        }
        self.log(Level::Warn, format!("{text} (tried again)"));
        let number = self.state.take_failover_number();
        let again = Failover {
            number,
            kind: FailoverKind::Planned {
                to,
                tries: tries + 1,
            },
            ..failover.clone()
        };
        self.state.failovers.insert(shard, again);
        let soft = FailoverSoft::begun(self.soft.now);
        self.soft.failovers.insert(number, soft);
    }

    /// A primary that says nothing of its hold does not hold any more, if it ever did.
    pub(crate) fn watch_yields(&mut self) {
        let now = self.soft.now;
        let overdue = self.state.failovers.iter().filter(|(_, failover)| {
            let soft = self.soft.failovers.get(&failover.number);
            let asked = soft.and_then(|soft| soft.asked.get(&failover.primary));
            let late = asked.is_some_and(|at| now.saturating_sub(*at) > ANSWER_MS_MAX);
            late && soft.is_some_and(|soft| !soft.yielded)
                && matches!(failover.kind, FailoverKind::Planned { .. })
        });
        let overdue: Vec<_> = overdue.map(|(shard, f)| (*shard, f.clone())).collect();
        for (shard, failover) in overdue {
            self.yield_failed(shard, &failover, "the primary does not answer".into());
        }
    }

    /// The heir of a planned failover is gone, or no longer in step: nothing has changed yet, so nothing does.
    pub(crate) fn drop_hopeless_plans(&mut self) {
        let yielding = self.state.yielding.as_ref().map(|yielding| yielding.number);
        let hopeless = self.state.failovers.iter().filter(|(shard, failover)| {
            let FailoverKind::Planned { to, .. } = failover.kind else {
                return false;
            };
            let entry = self.state.map.find_node(to);
            let fits = entry.is_some_and(|(home, entry)| home.id == **shard && entry.in_step);
            yielding != Some(failover.number) && (!fits || self.is_silent(to))
        });
        let hopeless: Vec<ShardId> = hopeless.map(|(shard, _)| *shard).collect();
        for shard in hopeless {
            if let Some(failover) = self.state.failovers.remove(&shard) {
                self.soft.failovers.remove(&failover.number);
                self.state.counts.failovers_called_off += 1;
                let text = format!(
                    "planned failover of shard {shard} is off: its heir is not in step any more"
                );
                self.log(Level::Error, text);
            }
        }
    }
}
