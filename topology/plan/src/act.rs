//! Acting on what is recorded: compares the state with what nodes are known to have, and says what is
//! missing. Level, not edge: whatever got lost is said again.

use larder_wire::control::{Import, MapPush};
use larder_wire::{Epoch, NodeId};

use crate::event::Action;
use crate::soft::Phase;
use crate::step::Plan;
use crate::{ANSWER_MS_MAX, ASK_AGAIN_MS};

impl Plan {
    /// Called only while the state as it stands is recorded.
    pub(crate) fn act(&mut self) {
        self.send_fences();
        self.send_yields();
        self.push_handover();
        self.push_yield();
        self.send_give_back();
        self.push_settled();
        self.lift_fences();
        self.drive_attempts();
        self.broadcast();
        let replies = std::mem::take(&mut self.soft.replies);
        self.soft.out.extend(
            replies
                .into_iter()
                .map(|(request, answer)| Action::Reply { request, answer }),
        );
        self.ask_for_nodes();
    }

    fn push_handover(&mut self) {
        let Some(handover) = self.state.handover.clone().filter(|h| !h.giving_back) else {
            return;
        };
        let push = MapPush {
            map: handover.map,
            handovers: vec![handover.attempt],
            yields: None,
        };
        #[cfg(test)]
        if self.planted == crate::sim::Planted::TargetFirst {
            let handovers = Vec::new();
            self.push(
                handover.target,
                MapPush {
                    handovers,
                    ..push.clone()
                },
            );
        }
        self.push(handover.source, push);
    }

    /// The settled map for everyone who has not got it; the source of a handover gets the handover's.
    fn push_settled(&mut self) {
        if !self.state.formed() {
            return;
        }
        let source = self.state.handover.as_ref().map(|handover| handover.source);
        let yields = self
            .state
            .yielding
            .as_ref()
            .map(|yielding| yielding.primary);
        let epoch = self.state.map.epoch;
        let behind = self.soft.nodes.iter().filter(|(id, soft)| {
            let first = [source, yields].contains(&Some(**id));
            soft.reachable && soft.acked < epoch && !first && !self.is_kept_from_maps(**id)
        });
        let mut behind: Vec<NodeId> = behind.map(|(id, _)| *id).collect();
        // Those who are to serve come first.
        behind.sort_by_key(|id| self.state.map.slots_of(*id).is_empty());
        for node in behind {
            let push = MapPush {
                map: self.state.map.clone(),
                handovers: Vec::new(),
                yields: None,
            };
            self.push(node, push);
        }
    }

    pub(crate) fn push(&mut self, node: NodeId, push: MapPush) {
        let (epoch, now) = (push.map.epoch, self.soft.now);
        let soft = self.soft.node(node);
        let on_its_way = soft.pushing.is_some_and(|(pushing, at)| {
            pushing == epoch && now.saturating_sub(at) < ANSWER_MS_MAX
        });
        // A newer map goes at once, whatever came of the one before.
        let too_soon = soft.push_again_at > now && soft.pushing.is_none();
        if !soft.reachable || on_its_way || too_soon {
            return;
        }
        soft.pushing = Some((epoch, now));
        self.soft.out.push(Action::PushMap { node, push });
    }

    fn drive_attempts(&mut self) {
        let now = self.soft.now;
        for (&id, attempt) in &self.state.attempts {
            let handed = self.state.handover.as_ref();
            if handed.is_some_and(|handover| handover.attempt == id)
                || !self.soft.reachable(attempt.target)
            {
                continue;
            }
            let Some(soft) = self.soft.attempts.get_mut(&id) else {
                continue;
            };
            match soft.phase {
                Phase::Asked { sent: None } => {
                    soft.phase = Phase::Asked { sent: Some(now) };
                    let source_addr = match self.state.nodes.get(&attempt.source) {
                        Some(node) => node.addr.clone(),
                        None => continue,
                    };
                    self.soft.out.push(Action::StartImport {
                        node: attempt.target,
                        import: Import {
                            attempt: id,
                            slots: attempt.slots.clone(),
                            source: attempt.source,
                            source_addr,
                        },
                    });
                }
                Phase::Copying { awaiting: false } => {
                    soft.phase = Phase::Copying { awaiting: true };
                    self.soft.out.push(Action::AwaitImport {
                        node: attempt.target,
                        attempt: id,
                    });
                }
                Phase::Asked { sent: Some(_) }
                | Phase::Copying { awaiting: true }
                | Phase::Ready { .. } => {}
            }
        }
    }

    fn broadcast(&mut self) {
        let map = &self.state.map;
        if map.epoch > Epoch(0) && self.soft.broadcast < map.epoch {
            self.soft.broadcast = map.epoch;
            self.soft.out.push(Action::Broadcast(Box::new(map.clone())));
        }
    }

    fn ask_for_nodes(&mut self) {
        let wanted = self.state.settings.replicas;
        let missing =
            self.missing_nodes() + self.missing_replicas(wanted) + self.missing_for_lost();
        let now = self.soft.now;
        let asked = &mut self.soft.operation.asked_at;
        let lately = asked.is_some_and(|at| now.saturating_sub(at) < ASK_AGAIN_MS);
        if missing == 0 || lately || !self.soft.starter {
            return;
        }
        *asked = Some(now);
        self.soft.out.push(Action::AskForNodes(missing));
    }
}
