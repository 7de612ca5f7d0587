//! A node that follows: asks its primary for the journal, takes it in, and acknowledges.

use super::*;

impl ReplicaNode {
    pub(super) fn may_follow(&self, primary: NodeId) -> bool {
        let fenced = self
            .fence
            .as_ref()
            .is_some_and(|fence| fence.primary == primary);
        self.leader() == Some(primary) && !fenced
    }

    pub(super) fn follow(&mut self, now: u64, from: NodeId, link: u64, phase: LinkPhase) {
        self.link = Some((from, link));
        self.phase = phase;
        self.heard_at = self.clock(now);
    }

    pub(super) fn ask(&mut self, out: &mut Vec<Out>) {
        let Some(leader) = self.leader().filter(|leader| self.may_follow(*leader)) else {
            return;
        };
        let ask = ReplicateAsk {
            node: self.id,
            epoch: self.map.epoch,
            place: self.place(),
        };
        self.asked += 1;
        out.push(Out::Node(leader, Msg::Ask(ask, self.asked)));
    }

    pub(super) fn take_stream(
        &mut self,
        now: u64,
        link: (NodeId, u64),
        at: usize,
        entries: &[(Slot, u64)],
        sent_at: u64,
        out: &mut Vec<Out>,
    ) {
        let streams = self.link == Some(link) && self.phase == LinkPhase::Streaming;
        if !streams || !self.may_follow(link.0) || at > self.log.len() {
            return;
        }
        for entry in entries.iter().skip(self.log.len() - at) {
            self.data.insert(entry.0, entry.1);
            self.log.push(*entry);
        }
        self.known_end = self.known_end.max(at + entries.len());
        self.heard_at = self.clock(now);
        self.acknowledge(now, link.0, link.1, sent_at, out);
    }

    pub(super) fn acknowledge(
        &mut self,
        now: u64,
        to: NodeId,
        link: u64,
        sent_at: u64,
        out: &mut Vec<Out>,
    ) {
        self.answered_at = Some(self.clock(now));
        let ack = Msg::Ack {
            from: self.id,
            link,
            offset: self.log.len(),
            sent_at,
        };
        out.push(Out::Node(to, ack));
    }
}
