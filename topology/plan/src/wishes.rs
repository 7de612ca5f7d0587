//! What operators want of the whole cluster beyond its slots: replicas of each shard, when writes are answered, and what becomes of
//! shards that have no node left. A wish is a setting; the cluster is brought to it step by step.

use larder_wire::forwarding::{self, ForwardVerb, Forwarding};
use larder_wire::replication::WriteMode;

use crate::event::Level;
use crate::report::{LostShardsReport, ReplicasReport, ShardReplicas, WritesReport};
use crate::state::LostShards;
use crate::step::Plan;

impl Plan {
    pub(crate) fn order_replicas(&mut self, set: Option<u32>) -> Result<ReplicasReport, String> {
        if let Some(replicas) = set {
            let settings = crate::Settings {
                replicas,
                ..self.state.settings.clone()
            };
            settings.check()?;
            let missing = self.missing_replicas(replicas);
            if missing > 0 && !self.soft.starter && replicas > self.state.settings.replicas {
                return Err(format!(
                    "{missing} spare {} missing for {replicas} replicas of each shard (add {missing} with: {})",
                    if missing == 1 { "node is" } else { "nodes are" },
                    self.how_to_add(missing)
                ));
            }
            if replicas != self.state.settings.replicas {
                let text = format!("each shard is to have {replicas} replicas");
                self.log(Level::Info, text);
            }
            self.state.settings = settings;
            self.soft.operation.asked_at = None;
        }
        Ok(self.replicas_report())
    }

    pub(crate) fn order_writes(&mut self, set: Option<WriteMode>) -> WritesReport {
        let before = self.state.settings.writes;
        if let Some(writes) = set.filter(|writes| *writes != before) {
            self.state.settings.writes = writes;
            let text = format!("writes are answered {}", writes.word());
            self.log(Level::Info, text);
        }
        WritesReport {
            before,
            writes: self.state.settings.writes,
            replicas: self.state.settings.replicas,
        }
    }

    /// A shard that is lost already has been so for as long as it is known to be.
    pub(crate) fn order_lost_shards(&mut self, set: Option<LostShards>) -> LostShardsReport {
        let before = self.state.settings.lost_shards;
        if let Some(lost_shards) = set.filter(|wanted| *wanted != before) {
            self.state.settings.lost_shards = lost_shards;
            let text = match lost_shards {
                LostShards::Wait => "shards that have no node left wait for one of theirs".into(),
                LostShards::Empty { after_ms } => {
                    let seconds = after_ms / 1000;
                    format!("shards that have no node left come up empty after {seconds} s")
                }
            };
            self.log(Level::Info, text);
        }
        LostShardsReport {
            before,
            lost_shards: self.state.settings.lost_shards,
            lost: self.known_lost(),
        }
    }

    /// Whether proxies forward to an old server: the record alone decides.
    pub(crate) fn order_forward(
        &mut self,
        verb: ForwardVerb,
    ) -> Result<Option<Forwarding>, String> {
        let next = forwarding::step(self.state.forwarding.clone(), verb)?;
        self.state.forwarding = next.clone();
        Ok(next)
    }

    /// Nodes that have still to join before every shard has `replicas`.
    pub(crate) fn missing_replicas(&self, replicas: u32) -> u32 {
        let shards = self.state.map.shards().iter();
        let wanted = shards.map(|shard| (1 + replicas as usize).saturating_sub(shard.nodes.len()));
        let wanted: usize = wanted.sum();
        wanted.saturating_sub(self.usable_spares().len()) as u32
    }

    pub(crate) fn replicas_report(&self) -> ReplicasReport {
        let wanted = self.state.settings.replicas;
        let shards = self.state.map.shards().iter().map(|shard| ShardReplicas {
            shard: shard.id,
            replicas: shard.replicas().count() as u32,
            in_step: shard.replicas().filter(|entry| entry.in_step).count() as u32,
        });
        ReplicasReport {
            wanted,
            missing_nodes: self.missing_replicas(wanted),
            shards: shards.collect(),
        }
    }
}
