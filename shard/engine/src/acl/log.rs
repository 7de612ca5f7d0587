//! What was refused to users (`ACL LOG`): the latest first, alike refusals of one minute as one entry.

use std::collections::VecDeque;

use larder_wire::UnixMillis;

/// Refusals further apart are separate entries, in milliseconds.
const GROUPED_MS_MAX: i64 = 60_000;
/// How many of the latest entries are looked through for one alike.
const GROUPED_ENTRIES_MAX: usize = 10;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Command,
    Key,
    Channel,
    Auth,
}

impl Reason {
    pub fn word(self) -> &'static str {
        match self {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
            Reason::Auth => "auth",
        }
    }
}

/// Where the command came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    TopLevel,
    Multi,
    Lua,
}

impl Context {
    pub fn word(self) -> &'static str {
        match self {
            Context::TopLevel => "toplevel",
            Context::Multi => "multi",
            Context::Lua => "lua",
        }
    }
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    pub count: u64,
    pub reason: Reason,
    pub context: Context,
    /// The command's name, the key or the channel.
    pub object: Vec<u8>,
    pub username: Vec<u8>,
    /// Of the latest refusal.
    pub at: UnixMillis,
    /// The line of `CLIENT LIST` of the latest client.
    pub client: String,
}

impl Entry {
    fn is_like(&self, other: &Entry) -> bool {
        self.reason == other.reason
            && self.context == other.context
            && self.at.0.abs_diff(other.at.0) <= GROUPED_MS_MAX.unsigned_abs()
            && self.object == other.object
            && self.username == other.username
    }
}

/// The entries, latest first.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Entry>,
}

impl Log {
    /// Adds an entry, or to one that is like it; keeps `entries_max` of them.
    pub fn add(&mut self, entry: Entry, entries_max: usize) {
        let known = self
            .entries
            .iter()
            .take(GROUPED_ENTRIES_MAX)
            .position(|known| known.is_like(&entry));
        if let Some(known) = known.and_then(|at| self.entries.remove(at)) {
            self.entries.push_front(Entry {
                count: known.count + 1,
                ..entry
            });
        } else {
            self.entries.push_front(entry);
            self.entries.truncate(entries_max);
        }
    }

    pub fn latest(&self, count: usize) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter().take(count)
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(object: &str, at: i64) -> Entry {
        Entry {
            count: 1,
            reason: Reason::Key,
            context: Context::TopLevel,
            object: object.into(),
            username: b"u".to_vec(),
            at: UnixMillis(at),
            client: at.to_string(),
        }
    }

    fn told(log: &Log) -> Vec<(String, u64, i64)> {
        log.latest(100)
            .map(|entry| {
                let object = String::from_utf8(entry.object.clone()).unwrap();
                (object, entry.count, entry.at.0)
            })
            .collect()
    }

    #[test]
    fn alike_refusals_of_a_minute_are_one_entry_which_comes_first() {
        let mut log = Log::default();
        for (object, at) in [("a", 0), ("b", 1), ("a", 2), ("a", 60_002), ("a", 120_003)] {
            log.add(entry(object, at), 128);
        }
        assert_eq!(
            told(&log),
            [
                ("a".to_owned(), 1, 120_003),
                ("a".to_owned(), 3, 60_002),
                ("b".to_owned(), 1, 1)
            ]
        );
    }

    #[test]
    fn the_oldest_entries_go_when_there_are_too_many() {
        let mut log = Log::default();
        for object in ["a", "b", "c"] {
            log.add(entry(object, 0), 2);
        }
        assert_eq!(told(&log).len(), 2);
        assert_eq!(told(&log)[0].0, "c");
    }
}
