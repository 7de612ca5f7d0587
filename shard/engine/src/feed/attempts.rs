//! Attempts that a node has heard of: each counts once, and none after a newer one on the same slots.
//!
//! Messages may be late or repeated; attempt ids only grow. So an old message can do no harm to what a newer attempt has built.

use std::collections::VecDeque;

use larder_wire::{Attempt, SlotSet};

/// How many attempts are remembered; messages are late by seconds, not by so many attempts.
const ATTEMPTS_KEPT_MAX: usize = 64;

/// What a message about an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    First,
    Again,
    /// This newer attempt is about some of the same slots.
    Late(Attempt),
}

#[derive(Debug, Default)]
pub(crate) struct Attempts {
    heard: VecDeque<(Attempt, SlotSet)>,
}

impl Attempts {
    pub(super) fn judge(&self, attempt: Attempt, slots: &SlotSet) -> Heard {
        if self.heard.iter().any(|(known, _)| *known == attempt) {
            return Heard::Again;
        }
        let newer = self
            .heard
            .iter()
            .filter(|(known, theirs)| *known > attempt && !theirs.is_disjoint(slots))
            .map(|(known, _)| *known)
            .max();
        newer.map_or(Heard::First, Heard::Late)
    }

    pub(super) fn remember(&mut self, attempt: Attempt, slots: SlotSet) {
        if self.heard.len() == ATTEMPTS_KEPT_MAX {
            self.heard.pop_front();
        }
        self.heard.push_back((attempt, slots));
    }

    /// An abort may come before what it aborts.
    pub(super) fn forbid(&mut self, attempt: Attempt) {
        if !self.heard.iter().any(|(known, _)| *known == attempt) {
            self.remember(attempt, SlotSet::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_counts_once_and_not_after_a_newer_one_on_its_slots() {
        let slots = |text: &str| text.parse::<SlotSet>().unwrap();
        let mut attempts = Attempts::default();
        assert_eq!(attempts.judge(Attempt(5), &slots("0-9")), Heard::First);
        attempts.remember(Attempt(5), slots("0-9"));
        assert_eq!(attempts.judge(Attempt(5), &slots("0-9")), Heard::Again);
        assert_eq!(
            attempts.judge(Attempt(4), &slots("9-12")),
            Heard::Late(Attempt(5))
        );
        assert_eq!(attempts.judge(Attempt(4), &slots("10-12")), Heard::First);
        assert_eq!(attempts.judge(Attempt(6), &slots("0-9")), Heard::First);
        attempts.forbid(Attempt(7));
        assert_eq!(attempts.judge(Attempt(7), &slots("0-9")), Heard::Again);
    }
}
