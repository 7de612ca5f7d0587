//! A node that lets go: of its primary when it is fenced, of its writes when it is to yield.

use super::*;

impl ReplicaNode {
    pub(super) fn take_fence(&mut self, now: u64, fence: Fence, out: &mut Vec<Out>) {
        if fence.number < self.last_fence || self.map.epoch > fence.epoch {
            return;
        }
        self.last_fence = fence.number;
        let number = fence.number;
        if fence.primary == self.id {
            self.waiting.clear();
        }
        self.fence = Some(fence);
        let clock = self.clock(now);
        out.push(Out::Plan(Event::Fenced {
            node: self.id,
            number,
            result: Ok(Fenced {
                number,
                run_id: self.run_id(),
                place: self.place(),
                answered_ms_ago: self.answered_at.map(|at| clock.saturating_sub(at)),
            }),
        }));
    }

    pub(super) fn take_yield(&mut self, order: Yield, out: &mut Vec<Out>) {
        let number = order.number;
        if !self.leads() || !self.peers.contains_key(&order.to) {
            out.push(Out::Plan(Event::Yielded {
                node: self.id,
                run_id: self.run_id(),
                number,
                result: Err("it does not lead".into()),
            }));
            return;
        }
        self.hold = Some(Hold {
            number,
            to: order.to,
            answered: false,
        });
        out.push(Out::After(HOLD_MS_MAX, Msg::HoldEnds(number)));
        self.answer_yield(out);
    }

    pub(super) fn answer_yield(&mut self, out: &mut Vec<Out>) {
        let Some(hold) = &mut self.hold else {
            return;
        };
        let end = self.log.len();
        let there = self
            .peers
            .get(&hold.to)
            .is_some_and(|peer| peer.offset == end);
        if !there || hold.answered {
            return;
        }
        hold.answered = true;
        let number = hold.number;
        let place = Place {
            history: self.history.expect("it leads"),
            offset: Offset(end as u64),
        };
        out.push(Out::Plan(Event::Yielded {
            node: self.id,
            run_id: self.run_id(),
            number,
            result: Ok(Yielded { number, place }),
        }));
    }
}
