//! The journal: what every write of this node did, as one stream of bytes that replicas, the append-only file and SYNC clients read.
//!
//! ```text
//! effects ──▶ unit (one command, transaction or script) ──close──▶ chunks … end()
//!                                                                   │ read(from): replicas, the file; each keeps its own place
//! ```
//!
//! The bytes are commands as Redis sends them to its replicas: `SELECT` when the database changes, `MULTI` … `EXEC` around a unit of several
//! commands. The stream has a [`Place`]: the name of its history and an offset. What is older than the journal's reach is forgotten, unless somebody
//! still needs it (the floor). Knows neither who reads nor what the commands do. Without a reader it is off, and a write costs one branch.

mod note;

use std::collections::VecDeque;
use std::task::Waker;

use larder_store::Db;
use larder_wire::replication::Place;
use larder_wire::resp::write::{array_header, bulk_header};
use larder_wire::{History, Offset};

/// A chunk takes units until it is this long, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// How much of the stream is kept for readers that come back, in bytes, unless the node says otherwise.
pub const REACH_BYTES: usize = 32 * 1024 * 1024;

/// The bytes at a place are forgotten, or were never here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfReach;

/// Whether what a unit did belongs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// All of it or nothing: a transaction, a script, a command of several effects.
    Whole,
    /// Each effect stands alone: keys that expired or were evicted.
    Single,
}

/// Who needs what is kept beyond the reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// The append-only file.
    File,
    Replicas,
}

struct Chunk {
    start: u64,
    bytes: Vec<u8>,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// One node's stream of effects.
#[derive(Default)]
pub struct Journal {
    /// `None`: off.
    history: Option<History>,
    /// What this node does goes into it; false while it is a copy of another's.
    records: bool,
    /// The stream that this one went on from, and where it left it.
    previous: Option<Place>,
    chunks: VecDeque<Chunk>,
    end: u64,
    kept_bytes: usize,
    reach_bytes: Option<usize>,
    /// By who needs it.
    floors: [Option<u64>; 2],
    /// The database by the end of the stream; `None`: the next unit says it.
    db: Option<Db>,
    /// The unit at hand: what says its database first, its effects, how many.
    opening: Vec<u8>,
    unit: Vec<u8>,
    unit_commands: usize,
    bells: Vec<Waker>,
}

impl Journal {
    #[inline]
    pub fn is_on(&self) -> bool {
        self.history.is_some()
    }

    /// On, and what this node does goes into it: it is no copy of another's.
    #[inline]
    pub(crate) fn records(&self) -> bool {
        self.records
    }

    /// Begins a stream of its own at offset 0; nothing happens when it is on.
    pub(crate) fn turn_on(&mut self, history: History) {
        if !self.is_on() {
            self.begin_at(Place {
                history,
                offset: Offset(0),
            });
        }
    }

    /// Goes on from `place`, of which it has no bytes: what a node loaded or was sent.
    pub(crate) fn begin_at(&mut self, place: Place) {
        let reach_bytes = self.reach_bytes;
        let bells = std::mem::take(&mut self.bells);
        *self = Journal {
            history: Some(place.history),
            records: true,
            end: place.offset.0,
            reach_bytes,
            bells,
            ..Journal::default()
        };
        self.ring();
    }

    /// Goes on from `place` as a copy of another's stream, which went on from `previous`.
    pub(crate) fn begin_copy(&mut self, place: Place, previous: Option<Place>) {
        self.begin_at(place);
        self.previous = previous;
        self.records = false;
    }

    /// What is here is the beginning of another's stream, which is called so, and is from here on a copy of it.
    pub(crate) fn adopt(&mut self, history: History, previous: Option<Place>) {
        self.history = Some(history);
        self.previous = previous;
        self.records = false;
    }

    /// A reign ends: nothing more of this node's own comes.
    pub(crate) fn stop_recording(&mut self) {
        self.records = false;
    }

    /// A reign begins: the same data under a history of its own. Readers of the old one who have no more than this go on with it.
    pub(crate) fn begin_history(&mut self, history: History) {
        self.previous = self.place();
        self.history = Some(history);
        self.records = true;
        self.db = None;
        self.ring();
    }

    /// Nobody reads: the stream ends, and another will have another history.
    pub(crate) fn turn_off(&mut self) {
        let (reach_bytes, bells) = (self.reach_bytes, std::mem::take(&mut self.bells));
        *self = Journal {
            reach_bytes,
            bells,
            ..Journal::default()
        };
        self.ring();
    }

    /// Its end. `None`: off.
    pub fn place(&self) -> Option<Place> {
        self.history.map(|history| Place {
            history,
            offset: Offset(self.end),
        })
    }

    /// The history before this one, and where this one went on from it.
    pub fn previous(&self) -> Option<Place> {
        self.previous
    }

    pub fn end(&self) -> Offset {
        Offset(self.end)
    }

    /// The oldest offset that can be read.
    pub fn start(&self) -> Offset {
        Offset(self.chunks.front().map_or(self.end, |chunk| chunk.start))
    }

    /// Bytes kept.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    pub fn reach_bytes(&self) -> usize {
        self.reach_bytes.unwrap_or(REACH_BYTES)
    }

    pub(crate) fn set_reach(&mut self, bytes: usize) {
        self.reach_bytes = Some(bytes);
        self.forget_old();
    }

    /// What comes from `floor` on is kept however much it is; `None`: the reach alone decides.
    pub fn set_floor(&mut self, keeper: Keeper, floor: Option<Offset>) {
        self.floors[keeper as usize] = floor.map(|offset| offset.0);
        self.forget_old();
    }

    /// True when somebody who has `place` can go on from there: it is of this history, or of the one before up to where this one went on.
    pub fn continues(&self, place: Place) -> bool {
        let ours = self.history == Some(place.history) && place.offset.0 <= self.end;
        let before = self.previous.is_some_and(|previous| {
            previous.history == place.history && place.offset <= previous.offset
        });
        (ours || before) && place.offset >= self.start()
    }

    /// Appends to `out` up to `limit` bytes of the stream from `from` on; how many. 0: that is the end.
    pub fn read(&self, from: Offset, limit: usize, out: &mut Vec<u8>) -> Result<usize, OutOfReach> {
        let Offset(mut at) = from;
        if at > self.end || at < self.start().0 {
            return Err(OutOfReach);
        }
        let first = self.chunks.partition_point(|chunk| chunk.end() <= at);
        let mut taken = 0;
        for chunk in self.chunks.iter().skip(first) {
            let bytes = &chunk.bytes[(at - chunk.start) as usize..];
            let share = bytes.len().min(limit - taken);
            out.extend_from_slice(&bytes[..share]);
            taken += share;
            at += share as u64;
            if taken == limit {
                break;
            }
        }
        Ok(taken)
    }

    /// As [`read`](Self::read), up to the end of a chunk at most: true when what was read ends where a unit does.
    pub fn read_units(
        &self,
        from: Offset,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(usize, bool), OutOfReach> {
        let first = self.chunks.partition_point(|chunk| chunk.end() <= from.0);
        let whole = self.chunks.get(first).map_or(self.end, Chunk::end);
        let room = usize::try_from(whole.saturating_sub(from.0)).unwrap_or(usize::MAX);
        let taken = self.read(from, limit.min(room), out)?;
        Ok((taken, from.0 + taken as u64 == whole))
    }

    /// Woken with the next change of the stream.
    pub fn set_bell(&mut self, bell: &Waker) {
        if !self.bells.iter().any(|other| other.will_wake(bell)) {
            self.bells.push(bell.clone());
        }
    }

    /// A reader joins at the end: what follows says its database.
    pub(crate) fn forget_db(&mut self) {
        self.db = None;
    }

    /// What is known of the stream by its end.
    pub(crate) fn set_db(&mut self, db: Option<Db>) {
        self.db = db;
    }

    /// The database by the end of the stream.
    pub fn db(&self) -> Option<Db> {
        self.db
    }

    /// Bytes of another's stream, as they came: a replica keeps them for its own readers. `db` is the database by their end.
    pub(crate) fn append_copied(&mut self, bytes: &[u8], db: Option<Db>) {
        debug_assert!(self.unit_commands == 0, "a copy has no units of its own");
        self.append(bytes);
        self.db = db;
        self.ring();
    }

    /// What is being done is not at its end.
    #[inline]
    pub fn has_unit(&self) -> bool {
        self.unit_commands > 0
    }

    /// One command of the unit at hand, as the RESP array that it is.
    pub(crate) fn add(&mut self, db: Db, command: &[u8]) {
        if self.db != Some(db) {
            self.db = Some(db);
            let number = db.to_string();
            let select: [&[u8]; 2] = [b"SELECT", number.as_bytes()];
            // Before the transaction, where Redis has it, or in the middle of it.
            match self.unit_commands {
                0 => write_command(&mut self.opening, select),
                _ => write_command(&mut self.unit, select),
            }
        }
        self.unit.extend_from_slice(command);
        self.unit_commands += 1;
    }

    /// Ends the unit at hand; the bytes that it became, as they stand in the stream.
    pub(crate) fn close_unit(&mut self, unit: Unit) -> &[u8] {
        if self.unit_commands == 0 {
            return &[];
        }
        let mut bytes = std::mem::take(&mut self.opening);
        if self.unit_commands > 1 && unit == Unit::Whole {
            write_command(&mut bytes, [b"MULTI"]);
            bytes.extend_from_slice(&self.unit);
            write_command(&mut bytes, [b"EXEC"]);
        } else {
            bytes.extend_from_slice(&self.unit);
        }
        self.unit.clear();
        self.unit_commands = 0;
        let len = bytes.len();
        self.append(&bytes);
        bytes.clear();
        self.opening = bytes;
        self.ring();
        let tail = &self.chunks.back().expect("just appended").bytes;
        &tail[tail.len() - len..]
    }

    /// A unit lies in one chunk.
    fn append(&mut self, bytes: &[u8]) {
        let fits = |chunk: &Chunk| chunk.bytes.len() + bytes.len() <= CHUNK_BYTES;
        match self.chunks.back_mut().filter(|chunk| fits(chunk)) {
            Some(chunk) => chunk.bytes.extend_from_slice(bytes),
            None => {
                let mut room = Vec::with_capacity(bytes.len().max(CHUNK_BYTES));
                room.extend_from_slice(bytes);
                self.chunks.push_back(Chunk {
                    start: self.end,
                    bytes: room,
                });
            }
        }
        self.end += bytes.len() as u64;
        self.kept_bytes += bytes.len();
        self.forget_old();
    }

    fn forget_old(&mut self) {
        let reach = self.reach_bytes();
        while let Some(oldest) = self.chunks.front() {
            let beyond_reach = self.kept_bytes - oldest.bytes.len() >= reach;
            let needed = self
                .floors
                .iter()
                .flatten()
                .any(|floor| oldest.end() > *floor);
            if !beyond_reach || needed || self.chunks.len() == 1 {
                return;
            }
            self.kept_bytes -= oldest.bytes.len();
            self.chunks.pop_front();
        }
    }

    fn ring(&mut self) {
        for bell in self.bells.drain(..) {
            bell.wake();
        }
    }
}

/// A command as a RESP array.
pub(crate) fn write_command<A: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    args: impl IntoIterator<Item = A, IntoIter: ExactSizeIterator>,
) {
    let args = args.into_iter();
    array_header(out, args.len());
    for arg in args {
        bulk_header(out, arg.as_ref().len());
        out.extend_from_slice(arg.as_ref());
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use larder_wire::NodeId;

    use super::*;

    fn history(n: u8) -> History {
        History(NodeId::from_bytes([n; 20]))
    }

    fn command(words: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_command(&mut bytes, words.iter().copied());
        bytes
    }

    fn all(journal: &Journal, from: Offset) -> Vec<u8> {
        let mut out = Vec::new();
        journal.read(from, usize::MAX, &mut out).unwrap();
        out
    }

    fn write(journal: &mut Journal, db: Db, words: &[&str]) {
        journal.add(db, &command(words));
        journal.close_unit(Unit::Whole);
    }

    #[test]
    fn what_belongs_together_is_a_transaction_and_the_database_is_said_before_it() {
        let mut journal = Journal::default();
        journal.turn_on(history(1));
        let one = Db::new(1).unwrap();
        journal.add(one, &command(&["SET", "a", "1"]));
        journal.add(one, &command(&["SET", "b", "2"]));
        journal.close_unit(Unit::Whole);
        write(&mut journal, one, &["DEL", "a"]);
        journal.add(Db::ZERO, &command(&["DEL", "x"]));
        journal.add(Db::ZERO, &command(&["DEL", "y"]));
        journal.close_unit(Unit::Single);
        let expected = [
            vec!["SELECT", "1"],
            vec!["MULTI"],
            vec!["SET", "a", "1"],
            vec!["SET", "b", "2"],
            vec!["EXEC"],
            vec!["DEL", "a"],
            vec!["SELECT", "0"],
            vec!["DEL", "x"],
            vec!["DEL", "y"],
        ];
        let expected: Vec<u8> = expected.iter().flat_map(|words| command(words)).collect();
        assert_eq!(all(&journal, Offset(0)), expected);
        assert_eq!(journal.end(), Offset(expected.len() as u64));
    }

    #[test]
    fn every_offset_within_reach_is_read_from_in_pieces_and_what_is_older_is_out_of_reach() {
        let mut journal = Journal::default();
        journal.turn_on(history(1));
        journal.set_reach(3 * CHUNK_BYTES);
        let mut whole = command(&["SELECT", "0"]);
        for n in 0..20_000 {
            let words = ["SET".to_string(), format!("key:{n}"), "v".repeat(n % 50)];
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            whole.extend(command(&words));
            write(&mut journal, Db::ZERO, &words);
        }
        assert_eq!(journal.end().0, whole.len() as u64);
        let start = journal.start().0;
        assert!(journal.kept_bytes() >= 3 * CHUNK_BYTES && journal.kept_bytes() < 5 * CHUNK_BYTES);
        assert_eq!(start as usize, whole.len() - journal.kept_bytes());
        let mut at = start;
        let mut read = Vec::new();
        loop {
            let taken = journal.read(Offset(at), 977, &mut read).unwrap();
            if taken == 0 {
                break;
            }
            at += taken as u64;
        }
        assert_eq!(read, whole[start as usize..]);
        let mut out = Vec::new();
        assert_eq!(
            journal.read(Offset(start - 1), 1, &mut out),
            Err(OutOfReach)
        );
        assert_eq!(journal.read(Offset(at + 1), 1, &mut out), Err(OutOfReach));
    }

    #[test]
    fn what_somebody_needs_is_kept_beyond_the_reach() {
        let mut journal = Journal::default();
        journal.turn_on(history(1));
        journal.set_reach(CHUNK_BYTES);
        journal.set_floor(Keeper::File, Some(Offset(10)));
        let value = "v".repeat(1000);
        for _ in 0..1000 {
            write(&mut journal, Db::ZERO, &["SET", "k", &value]);
        }
        assert_eq!(journal.start(), Offset(0));
        journal.set_floor(Keeper::File, None);
        assert!(journal.kept_bytes() <= 2 * CHUNK_BYTES);
    }

    #[test]
    fn a_new_reign_is_continued_by_whoever_has_no_more_of_the_old_one_than_it_began_with() {
        let mut journal = Journal::default();
        journal.turn_on(history(1));
        write(&mut journal, Db::ZERO, &["SET", "a", "1"]);
        let cut = journal.end();
        journal.begin_history(history(2));
        write(&mut journal, Db::ZERO, &["SET", "a", "2"]);
        let place = |n, offset| Place {
            history: history(n),
            offset: Offset(offset),
        };
        assert!(journal.continues(place(1, 0)));
        assert!(journal.continues(place(1, cut.0)));
        assert!(!journal.continues(place(1, cut.0 + 1)));
        assert!(journal.continues(place(2, journal.end().0)));
        assert!(!journal.continues(place(2, journal.end().0 + 1)));
        assert!(!journal.continues(place(3, 0)));
        // The database is said again: a reader of the old history may be in any.
        let select = command(&["SELECT", "0"]);
        assert!(all(&journal, cut).starts_with(&select));
    }
}
