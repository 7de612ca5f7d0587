//! The slot gate: why a client's commands on one slot are never reordered, whoever owns the slot.
//!
//! A slot without a gate is open: its commands go straight to its owner. When the owner changes, or
//! refuses a command, the slot gets a gate, and later commands queue behind it:
//!
//! 1. *Draining*: until all that was in flight to the old owner at that moment has been answered. What comes
//!    back refused is put first, in the order of its sending.
//! 2. *Resting*: a pause, when the owner asked for one (it loads, it cannot be reached, …).
//! 3. *Ready*, then *probing*: the first command goes to the new owner alone, since an owner that does not yet
//!    know that it is one may refuse the first command and take the second.
//! 4. Accepted: the queue is given out in order, the gate is gone.
//!
//! Knows no sockets, clients or replies; time is a parameter.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use larder_wire::Slot;

/// What has to be answered before a gate stops draining: requests of link `L` up to `sent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Barrier<L> {
    pub(crate) link: L,
    /// Number of requests that had been given to the link.
    pub(crate) sent: u64,
}

#[derive(Debug)]
enum Phase<L> {
    Draining(Vec<Barrier<L>>),
    Resting,
    Ready,
    Probing,
}

#[derive(Debug)]
struct Gate<L, C> {
    phase: Phase<L>,
    queue: VecDeque<C>,
    /// Commands at the front of the queue that came back, in the order of their sending.
    bounced: usize,
    /// No probe before this, in milliseconds.
    rest_until: u64,
}

/// The gates of all slots that have one. `C` is a held command.
#[derive(Debug)]
pub(crate) struct Gates<L, C> {
    gates: BTreeMap<Slot, Gate<L, C>>,
    /// Gates that drain or rest: the only ones that anything but a command moves. After a move there are thousands of
    /// others, which wait for the first command of their slot and must cost nothing meanwhile.
    waiting: BTreeSet<Slot>,
}

impl<L: Copy + PartialEq, C> Gates<L, C> {
    pub(crate) fn new() -> Gates<L, C> {
        Gates {
            gates: BTreeMap::new(),
            waiting: BTreeSet::new(),
        }
    }

    pub(crate) fn is_closed(&self, slot: Slot) -> bool {
        self.gates.contains_key(&slot)
    }

    pub(crate) fn len(&self) -> usize {
        self.gates.len()
    }

    /// Whether [`Gates::passed`] or [`Gates::rested`] could find anything.
    #[inline]
    pub(crate) fn any_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The owner of an open slot changed; a slot that has a gate keeps it.
    pub(crate) fn close(&mut self, slot: Slot, barriers: Vec<Barrier<L>>) {
        self.gates.entry(slot).or_insert_with(|| {
            self.waiting.insert(slot);
            Gate {
                phase: Phase::Draining(barriers),
                queue: VecDeque::new(),
                bounced: 0,
                rest_until: 0,
            }
        });
    }

    /// A command for a slot that has a gate. True when it may be sent as the probe.
    pub(crate) fn arrive(&mut self, slot: Slot, command: C) -> bool {
        let gate = self.gates.get_mut(&slot);
        let gate = gate.expect("only a slot with a gate takes commands in");
        gate.queue.push_back(command);
        matches!(gate.phase, Phase::Ready)
    }

    /// Whether the next command of the slot may be sent as the probe at once: nothing is queued before it.
    pub(crate) fn starts_probe(&mut self, slot: Slot) -> bool {
        match self.gates.get_mut(&slot) {
            Some(gate) if matches!(gate.phase, Phase::Ready) && gate.queue.is_empty() => {
                gate.phase = Phase::Probing;
                true
            }
            Some(_) | None => false,
        }
    }

    /// A command came back without having been carried out. `barriers`: all that may still be in flight for the slot.
    pub(crate) fn bounced(
        &mut self,
        slot: Slot,
        command: C,
        barriers: Vec<Barrier<L>>,
        rest_until: u64,
    ) {
        self.close(slot, barriers);
        let gate = self.gates.get_mut(&slot).expect("closed just above");
        match gate.phase {
            Phase::Draining(_) | Phase::Resting | Phase::Ready => {
                if matches!(gate.phase, Phase::Ready) {
                    gate.phase = Phase::Resting;
                    self.waiting.insert(slot);
                }
                gate.queue.insert(gate.bounced, command);
            }
            Phase::Probing => {
                gate.phase = Phase::Resting;
                self.waiting.insert(slot);
                gate.queue.push_front(command);
            }
        }
        gate.bounced += 1;
        gate.rest_until = gate.rest_until.max(rest_until);
    }

    /// Gates whose barriers have all been passed come to rest.
    pub(crate) fn passed(&mut self, is_passed: impl Fn(&Barrier<L>) -> bool) {
        for slot in &self.waiting {
            let gate = self.gates.get_mut(slot).expect("what waits is a gate");
            if let Phase::Draining(barriers) = &mut gate.phase {
                barriers.retain(|barrier| !is_passed(barrier));
                if barriers.is_empty() {
                    gate.phase = Phase::Resting;
                }
            }
        }
    }

    /// Gates that have rested long enough become ready; gives their slots.
    pub(crate) fn rested(&mut self, now_ms: u64) -> Vec<Slot> {
        let mut ready = Vec::new();
        self.waiting.retain(|slot| {
            let gate = self.gates.get_mut(slot).expect("what waits is a gate");
            let has_rested = matches!(gate.phase, Phase::Resting) && gate.rest_until <= now_ms;
            if has_rested {
                gate.phase = Phase::Ready;
                ready.push(*slot);
            }
            !has_rested
        });
        ready
    }

    /// There is a new map: nobody rests any longer.
    pub(crate) fn wake_all(&mut self) {
        for gate in self.gates.values_mut() {
            gate.rest_until = 0;
        }
    }

    /// The first command of a ready gate, to be sent alone.
    pub(crate) fn probe(&mut self, slot: Slot) -> Option<C> {
        let gate = self.gates.get_mut(&slot)?;
        match gate.phase {
            Phase::Ready => {}
            Phase::Draining(_) | Phase::Resting | Phase::Probing => return None,
        }
        let command = gate.queue.pop_front()?;
        gate.bounced = gate.bounced.saturating_sub(1);
        gate.phase = Phase::Probing;
        Some(command)
    }

    /// The probe was carried out. The gate opens and gives out its queue; or, when the owner has changed
    /// meanwhile, is ready for the next probe.
    pub(crate) fn accepted(&mut self, slot: Slot, still_owner: bool) -> VecDeque<C> {
        match self.gates.get_mut(&slot) {
            None => VecDeque::new(),
            Some(gate) if !matches!(gate.phase, Phase::Probing) => VecDeque::new(),
            Some(gate) if !still_owner => {
                gate.phase = Phase::Resting;
                gate.rest_until = 0;
                self.waiting.insert(slot);
                VecDeque::new()
            }
            Some(_) => {
                let gate = self.gates.remove(&slot);
                gate.map(|gate| gate.queue).unwrap_or_default()
            }
        }
    }

    /// The probe is lost: its client was told. The next one goes after a rest.
    pub(crate) fn probe_lost(&mut self, slot: Slot, rest_until: u64) {
        if let Some(gate) = self.gates.get_mut(&slot)
            && matches!(gate.phase, Phase::Probing)
        {
            gate.phase = Phase::Resting;
            gate.rest_until = rest_until;
            self.waiting.insert(slot);
        }
    }

    /// Takes out the commands that `is_over` says have waited too long, in order.
    pub(crate) fn expire(&mut self, is_over: impl Fn(&C) -> bool) -> Vec<C> {
        let mut over = Vec::new();
        for gate in self.gates.values_mut() {
            let mut index = 0;
            while index < gate.queue.len() {
                if !is_over(&gate.queue[index]) {
                    index += 1;
                    continue;
                }
                over.extend(gate.queue.remove(index));
                if index < gate.bounced {
                    gate.bounced -= 1;
                }
            }
        }
        over
    }

    /// When the next gate has rested enough, in milliseconds.
    pub(crate) fn next_rested(&self) -> Option<u64> {
        let waiting = self.waiting.iter().filter_map(|slot| self.gates.get(slot));
        waiting
            .filter(|gate| matches!(gate.phase, Phase::Resting))
            .map(|gate| gate.rest_until)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot::FIRST;

    fn barrier(sent: u64) -> Vec<Barrier<u8>> {
        vec![Barrier { link: 1, sent }]
    }

    fn drained(gates: &mut Gates<u8, u32>, answered: u64) {
        gates.passed(|barrier| barrier.sent <= answered);
    }

    #[test]
    fn what_came_back_goes_first_and_in_its_order_then_what_waited() {
        let mut gates = Gates::new();
        gates.bounced(SLOT, 1, barrier(3), 0);
        assert!(!gates.arrive(SLOT, 4));
        gates.bounced(SLOT, 2, barrier(3), 0);
        gates.bounced(SLOT, 3, barrier(3), 0);
        drained(&mut gates, 2);
        assert_eq!(gates.rested(0), []);
        drained(&mut gates, 3);
        assert_eq!(gates.rested(0), [SLOT]);
        assert_eq!(gates.probe(SLOT), Some(1));
        assert_eq!(gates.probe(SLOT), None, "one probe at a time");
        assert!(!gates.arrive(SLOT, 5));
        assert_eq!(gates.accepted(SLOT, true), [2, 3, 4, 5]);
        assert!(!gates.is_closed(SLOT) && !gates.any_waiting());
    }

    #[test]
    fn a_probe_that_comes_back_is_first_again_after_the_rest() {
        let mut gates = Gates::new();
        gates.bounced(SLOT, 1, vec![], 0);
        gates.arrive(SLOT, 2);
        drained(&mut gates, 0);
        assert_eq!(gates.rested(0), [SLOT]);
        assert_eq!(gates.probe(SLOT), Some(1));
        gates.bounced(SLOT, 1, vec![], 50);
        assert_eq!(gates.rested(49), []);
        assert_eq!(gates.next_rested(), Some(50));
        assert_eq!(gates.rested(50), [SLOT]);
        assert_eq!(gates.probe(SLOT), Some(1));
        assert_eq!(gates.accepted(SLOT, true), [2]);
    }

    #[test]
    fn an_owner_that_changes_under_a_probe_is_probed_again() {
        let mut gates = Gates::<u8, u32>::new();
        gates.close(SLOT, vec![]);
        drained(&mut gates, 0);
        assert_eq!(gates.rested(0), [SLOT]);
        assert!(gates.starts_probe(SLOT), "nothing is queued");
        assert!(!gates.starts_probe(SLOT), "one probe at a time");
        gates.arrive(SLOT, 2);
        assert!(gates.accepted(SLOT, false).is_empty());
        assert_eq!(gates.rested(0), [SLOT]);
        assert_eq!(gates.probe(SLOT), Some(2));
    }

    #[test]
    fn commands_that_waited_too_long_leave_the_others_in_order() {
        let mut gates = Gates::new();
        gates.bounced(SLOT, 1, barrier(9), 0);
        gates.bounced(SLOT, 2, barrier(9), 0);
        gates.arrive(SLOT, 30);
        gates.arrive(SLOT, 4);
        assert_eq!(
            gates.expire(|&command| command == 1 || command == 30),
            [1, 30]
        );
        gates.bounced(SLOT, 3, barrier(9), 0);
        drained(&mut gates, 9);
        gates.rested(0);
        assert_eq!(gates.probe(SLOT), Some(2));
        assert_eq!(gates.accepted(SLOT, true), [3, 4]);
    }
}
