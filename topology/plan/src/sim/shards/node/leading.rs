//! A node that leads: feeds those who follow, serves clients while it may, and answers what a replica in step has.

use super::*;

impl ReplicaNode {
    pub(super) fn feed(&mut self, now: u64, ask: &ReplicateAsk, asked: u64, out: &mut Vec<Out>) {
        let known = self
            .shard()
            .is_some_and(|shard| shard.replicas().any(|r| r.id == ask.node));
        let Some(history) = self.history else {
            return;
        };
        if !self.leads() || !known || self.map.epoch < ask.epoch {
            return;
        }
        let link = self.next_link;
        self.next_link += 1;
        let goes_on = ask.place.is_some_and(|place| {
            let offset = place.offset.0 as usize;
            place.history == history && offset <= self.log.len()
                || self
                    .past
                    .is_some_and(|(past, end)| past == place.history && offset <= end)
        });
        let offset = ask.place.map_or(0, |place| place.offset.0 as usize);
        let from = self.id;
        let phase = match goes_on {
            true => {
                out.push(Out::Node(
                    ask.node,
                    Msg::Continue {
                        from,
                        asked,
                        link,
                        history,
                    },
                ));
                LinkPhase::Streaming
            }
            false => {
                out.push(Out::Node(ask.node, Msg::Full { from, asked, link }));
                let log = self.log.clone();
                let done = Msg::FullDone {
                    from,
                    link,
                    history,
                    log,
                };
                out.push(Out::Node(ask.node, done));
                LinkPhase::Full
            }
        };
        let peer = Peer {
            link,
            phase,
            offset: if goes_on { offset } else { 0 },
            heard_at: self.clock(now),
        };
        self.peers.insert(ask.node, peer);
        self.stream_to(now, ask.node, out);
    }

    pub(super) fn stream_to(&self, now: u64, id: NodeId, out: &mut Vec<Out>) {
        let Some(peer) = self
            .peers
            .get(&id)
            .filter(|p| p.phase == LinkPhase::Streaming)
        else {
            return;
        };
        let stream = Msg::Stream {
            from: self.id,
            link: peer.link,
            at: peer.offset,
            entries: self.log[peer.offset..].to_vec(),
            sent_at: self.clock(now),
        };
        out.push(Out::Node(id, stream));
    }

    pub(super) fn take_ack(
        &mut self,
        now: u64,
        from: NodeId,
        link: u64,
        offset: usize,
        sent_at: u64,
        out: &mut Vec<Out>,
    ) {
        if !self.leads() {
            return;
        }
        let clock = self.clock(now);
        let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.link == link) else {
            return;
        };
        peer.phase = LinkPhase::Streaming;
        peer.offset = peer.offset.max(offset);
        peer.heard_at = clock;
        if self.in_step(from) && sent_at > 0 {
            self.lease_from = self.lease_from.max(Some(sent_at));
        }
        self.answer_waiting(out);
        self.answer_yield(out);
    }

    pub(super) fn serve(
        &mut self,
        now: u64,
        op: Op,
        slot: Slot,
        write: Option<u64>,
        out: &mut Vec<Out>,
    ) {
        let mine = self.map.slots_of(self.id).contains(slot);
        if !mine || !self.serves(now) || self.hold.is_some() {
            return;
        }
        if let Some(value) = write.filter(|value| *value > self.value(slot)) {
            self.data.insert(slot, value);
            self.log.push((slot, value));
            for id in self.peers.keys().copied().collect::<Vec<_>>() {
                self.stream_to(now, id, out);
            }
        }
        let value = self.value(slot);
        match self.map.writes {
            WriteMode::Async => out.push(Out::Client { op, value }),
            WriteMode::Safe => {
                let need = self.log.len();
                self.waiting.push(Waiting { op, value, need });
                self.answer_waiting(out);
            }
        }
    }

    /// In `safe` nothing is answered that no replica in step has, reads included.
    pub(super) fn answer_waiting(&mut self, out: &mut Vec<Out>) {
        let counted = self.peers.iter().filter(|(id, _)| self.in_step(**id));
        let have = counted.map(|(_, peer)| peer.offset).max();
        let Some(have) = have else {
            return;
        };
        self.waiting.retain(|waiting| {
            let ready = waiting.need <= have;
            if ready {
                let (op, value) = (waiting.op, waiting.value);
                out.push(Out::Client { op, value });
            }
            !ready
        });
    }

    pub(super) fn send_join(&self, now: u64, out: &mut Vec<Out>) {
        out.push(Out::Join {
            join: self.join(),
            sent_at: self.clock(now),
        });
    }

    pub(super) fn renew(&mut self, now: u64, out: &mut Vec<Out>) {
        out.push(Out::After(larder_wire::replication::RENEW_MS, Msg::Renew));
        self.send_join(now, out);
        if self.leads() {
            for id in self.peers.keys().copied().collect::<Vec<_>>() {
                self.stream_to(now, id, out);
            }
            return;
        }
        if self.clock(now).saturating_sub(self.heard_at) > ASK_AGAIN_MS || self.link.is_none() {
            if self.phase == LinkPhase::Streaming {
                self.phase = LinkPhase::Down;
            }
            self.ask(out);
        }
    }
}
