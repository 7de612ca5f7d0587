//! What of one source's keys is in doubt: the reason why nothing that goes wrong on the way is ever missed.
//!
//! A key is *dirty* when its value over here may differ from what the stream says: a command on it was refused or lost, it had expired
//! here and not there, or a command joined it with keys of other slots. Dirty keys are not repaired by repeating commands. They are
//! fetched from the source as they are there, at an offset of its stream that is known exactly:
//!
//! 1. dirty: commands of the stream on the key are passed over; they happened before the fetch that is to come.
//! 2. fetched at offset `q`: the value is written, and the key is *ahead*: commands that end at or before `q` are part of what
//!    was fetched, and are passed over.
//! 3. once the stream has been read beyond `q` the key is as any other.
//!
//! Knows no sockets; offsets are parameters.

use std::collections::{BTreeMap, BTreeSet};

use larder_store::Db;
use serde::{Deserialize, Serialize};

/// A key of a numbered database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) db: Db,
    pub(crate) key: Box<[u8]>,
}

impl Name {
    pub(crate) fn new(db: Db, key: &[u8]) -> Name {
        Name {
            db,
            key: key.into(),
        }
    }
}

/// Where one source's stream is read, and what is in doubt.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    dirty: BTreeSet<Name>,
    ahead: BTreeMap<Name, u64>,
    /// The same by offset, so that they are let go of in order. What was fetched twice stands here twice.
    by_offset: BTreeSet<(u64, Name)>,
    /// Requests to nodes that are yet to be answered.
    open: usize,
    /// What ends the import.
    fatal: Option<String>,
    pub(crate) counts: Counts,
}

/// What an import has met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Keys that were fetched from the source anew.
    pub refetched: u64,
    /// Requests that a node refused, or whose connection was lost.
    pub refused: u64,
}

/// What a key is to a command that ends at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As the stream says.
    Level,
    /// It is to be fetched.
    Dirty,
    /// It was fetched after the command.
    Ahead,
}

impl Ledger {
    pub(crate) fn standing(&self, name: &Name, ends_at: u64) -> Standing {
        if self.dirty.contains(name) {
            Standing::Dirty
        } else if self.ahead.get(name).is_some_and(|at| ends_at <= *at) {
            Standing::Ahead
        } else {
            Standing::Level
        }
    }

    /// Whether no key is in doubt: the usual case, in which no name has to be made.
    pub(crate) fn is_level(&self) -> bool {
        self.dirty.is_empty() && self.ahead.is_empty()
    }

    pub(crate) fn doubt(&mut self, name: Name) {
        self.ahead.remove(&name);
        self.dirty.insert(name);
    }

    pub(crate) fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Up to `limit` keys that are to be fetched.
    pub(crate) fn take_dirty(&mut self, limit: usize) -> Vec<Name> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(name) = self.dirty.pop_first()
        {
            taken.push(name);
        }
        taken
    }

    /// The key was fetched as it was at offset `at`.
    pub(crate) fn fetched(&mut self, name: Name, at: u64) {
        self.counts.refetched += 1;
        self.by_offset.insert((at, name.clone()));
        self.ahead.insert(name, at);
    }

    /// The stream was read up to `offset`.
    pub(crate) fn passed(&mut self, offset: u64) {
        while self.by_offset.first().is_some_and(|(at, _)| *at < offset) {
            if let Some((at, name)) = self.by_offset.pop_first()
                && self.ahead.get(&name) == Some(&at)
            {
                self.ahead.remove(&name);
            }
        }
    }

    /// A whole database was emptied here: what was fetched before the stream came to it is gone with the rest.
    pub(crate) fn emptied(&mut self, of: impl Fn(&Name) -> bool) {
        let gone: Vec<Name> = self.ahead.keys().filter(|name| of(name)).cloned().collect();
        for name in gone {
            self.doubt(name);
        }
    }

    /// All that would have to be fetched if the stream were read on elsewhere from its present place.
    pub(crate) fn in_doubt(&self) -> Vec<Name> {
        self.dirty
            .iter()
            .chain(self.ahead.keys())
            .cloned()
            .collect()
    }

    pub(crate) fn opened(&mut self) {
        self.open += 1;
    }

    pub(crate) fn closed(&mut self) {
        debug_assert!(self.open > 0, "an answer to nothing");
        self.open = self.open.saturating_sub(1);
    }

    /// Nothing is under way, and nothing in doubt that is to be fetched.
    pub(crate) fn is_settled(&self) -> bool {
        self.open == 0 && self.dirty.is_empty()
    }

    pub(crate) fn open(&self) -> usize {
        self.open
    }

    pub(crate) fn fail(&mut self, cause: String) {
        self.fatal.get_or_insert(cause);
    }

    pub(crate) fn fatal(&self) -> Option<&str> {
        self.fatal.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: &str) -> Name {
        Name::new(Db::ZERO, key.as_bytes())
    }

    #[test]
    fn a_key_in_doubt_is_passed_over_until_the_stream_is_beyond_its_fetch() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.standing(&name("a"), 10), Standing::Level);
        ledger.doubt(name("a"));
        assert_eq!(ledger.standing(&name("a"), 10), Standing::Dirty);
        assert_eq!(ledger.take_dirty(9), [name("a")]);
        ledger.fetched(name("a"), 50);
        assert_eq!(ledger.standing(&name("a"), 50), Standing::Ahead);
        assert_eq!(ledger.standing(&name("a"), 51), Standing::Level);
        ledger.passed(50);
        assert!(!ledger.is_level(), "a command may still end at 50");
        ledger.passed(51);
        assert!(ledger.is_level());
    }

    #[test]
    fn a_second_fetch_outlives_the_first() {
        let mut ledger = Ledger::default();
        ledger.fetched(name("a"), 50);
        ledger.doubt(name("a"));
        ledger.take_dirty(1);
        ledger.fetched(name("a"), 70);
        ledger.passed(60);
        assert_eq!(ledger.standing(&name("a"), 61), Standing::Ahead);
        ledger.passed(71);
        assert!(ledger.is_level());
    }

    #[test]
    fn what_was_fetched_early_is_fetched_again_after_a_flush() {
        let mut ledger = Ledger::default();
        ledger.fetched(name("a"), 50);
        ledger.emptied(|_| true);
        assert_eq!(ledger.standing(&name("a"), 20), Standing::Dirty);
        assert_eq!(ledger.in_doubt(), [name("a")]);
    }
}
