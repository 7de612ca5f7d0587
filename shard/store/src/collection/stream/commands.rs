//! A stream as the commands that make it: for feeds, in pieces of bounded size.

use larder_wire::resp::write::decimal;

use super::super::pieces::Budget;
use super::group::{Group, Pending};
use super::id::{ID_TEXT_BYTES_MAX, StreamId};
use super::{Entry, Stream};

/// Lets XCLAIM note a delivery of an entry that is not there any more, as a group remembers those until they are acknowledged.
/// Clients have no use for it.
pub const CLAIM_DELETED: &str = "LARDER-DELETED";

/// What a command counts that is not an entry's.
const COMMAND_BYTES: usize = 64;

/// What the place of a piece means: the entries come first, then what the stream knows, then its groups.
enum Step<'a> {
    Entries(usize),
    Birth,
    State,
    Group(&'a [u8], &'a Group),
    Consumer(&'a [u8], &'a [u8]),
    Pending(&'a [u8], &'a Group, usize),
    Done,
}

impl Stream {
    /// Shows commands that make the stream under `key`, where no such key is, from place `from` on until `budget` is spent, at least
    /// one: the place to go on from, `None` at the end.
    pub fn piece(
        &self,
        key: &[u8],
        from: usize,
        mut budget: Budget,
        mut show: impl FnMut(&[&[u8]]),
    ) -> Option<usize> {
        let mut place = from;
        loop {
            match self.step(place) {
                Step::Entries(at) => {
                    for entry in self.iter_from(at) {
                        if !budget.takes(entry.bytes()) {
                            return Some(place);
                        }
                        add(key, entry, &mut show);
                        place += 1;
                    }
                    continue;
                }
                Step::Done => return None,
                Step::Birth
                | Step::State
                | Step::Group(..)
                | Step::Consumer(..)
                | Step::Pending(..)
                    if !budget.takes(COMMAND_BYTES) =>
                {
                    return Some(place);
                }
                Step::Birth => show(&[b"XADD", key, b"MAXLEN", b"=", b"0", b"0-1", b"x", b"y"]),
                Step::State => self.show_state(key, &mut show),
                Step::Group(name, group) => create_group(key, name, group, &mut show),
                Step::Consumer(group, name) => {
                    show(&[b"XGROUP", b"CREATECONSUMER", key, group, name]);
                }
                Step::Pending(name, group, at) => {
                    for pending in group.pending_at(at).take(1) {
                        self.claim(key, name, pending, &mut show);
                    }
                }
            }
            place += 1;
        }
    }

    fn step(&self, place: usize) -> Step<'_> {
        if place < self.len() {
            return Step::Entries(place);
        }
        if place == 0 {
            return Step::Birth;
        }
        let mut place = place - self.len().max(1);
        if place == 0 {
            return Step::State;
        }
        place -= 1;
        for (name, group) in self.groups().iter() {
            let consumers = group.consumers();
            if place == 0 {
                return Step::Group(name, group);
            }
            place -= 1;
            if let Some((consumer, _)) = consumers.at(place) {
                return Step::Consumer(name, consumer);
            }
            place -= consumers.len();
            if place < group.pending_len() {
                return Step::Pending(name, group, place);
            }
            place -= group.pending_len();
        }
        Step::Done
    }

    /// Sets what the stream knows of its past.
    fn show_state(&self, key: &[u8], show: &mut impl FnMut(&[&[u8]])) {
        let (mut last, mut deleted) = ([0; ID_TEXT_BYTES_MAX], [0; ID_TEXT_BYTES_MAX]);
        show(&[
            b"XSETID",
            key,
            self.last_id().text(&mut last),
            b"ENTRIESADDED",
            self.entries_added().to_string().as_bytes(),
            b"MAXDELETEDID",
            self.max_deleted_id().text(&mut deleted),
        ]);
    }

    fn claim(
        &self,
        key: &[u8],
        group: &[u8],
        pending: Pending<'_>,
        show: &mut impl FnMut(&[&[u8]]),
    ) {
        let lasting = if self.contains(pending.id) {
            "FORCE"
        } else {
            CLAIM_DELETED
        };
        show(&[
            b"XCLAIM",
            key,
            group,
            pending.consumer,
            b"0",
            pending.id.text(&mut [0; ID_TEXT_BYTES_MAX]),
            b"TIME",
            decimal(&mut [0; 20], pending.delivered.0),
            b"RETRYCOUNT",
            pending.deliveries.to_string().as_bytes(),
            b"JUSTID",
            lasting.as_bytes(),
        ]);
    }
}

fn add(key: &[u8], entry: Entry<'_>, show: &mut impl FnMut(&[&[u8]])) {
    let mut room = [0; ID_TEXT_BYTES_MAX];
    let (count, items) = entry.items();
    let mut args: Vec<&[u8]> = Vec::with_capacity(3 + count);
    args.extend([&b"XADD"[..], key, entry.id.text(&mut room)]);
    args.extend(items);
    show(&args);
}

fn create_group(key: &[u8], name: &[u8], group: &Group, show: &mut impl FnMut(&[&[u8]])) {
    let mut room = [0; ID_TEXT_BYTES_MAX];
    let read = entries_read_text(group.entries_read);
    let last: StreamId = group.last_delivered;
    show(&[
        b"XGROUP",
        b"CREATE",
        key,
        name,
        last.text(&mut room),
        b"ENTRIESREAD",
        read.as_bytes(),
    ]);
}

/// As XGROUP takes it: -1 says that nobody can tell.
pub fn entries_read_text(entries_read: Option<u64>) -> String {
    entries_read.map_or_else(|| "-1".to_owned(), |read| read.to_string())
}
