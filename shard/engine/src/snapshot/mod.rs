//! A snapshot: all keys as they were at one moment, as an RDB file, made bit by bit while commands go on.
//!
//! 1. A walk meets each key once; what it meets goes out as it is.
//! 2. A write waits for nobody: before it runs, those of its keys that were not met are, early. A string is copied; a collection is captured in O(1)
//!    and shares with the live one what neither has changed since.
//! 3. A key that expires, or is evicted, before it was met is not in the file: it would not be long in memory either.
//! 4. Keys that change place in bulk (FLUSHALL, FLUSHDB, SWAPDB) make it begin anew, at that later moment.
//!
//! There is no fork, so memory grows by what is captured and not yet written, and by the names of keys met early; [`BACKLOG_BYTES_MAX`] bounds the
//! former. Knows no files: the shell takes the bytes.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use larder_store::rdb::{FileWriter, LargeRecord};
use larder_store::{Captured, Databases, Db, Keyspace, Tray, Value, ValueRef};
use larder_wire::command::{CommandId, KeyFlags, keys};
use larder_wire::resp::Request;
use larder_wire::{SlotSet, UnixMillis, slot_of};

use crate::walk::Walk;

/// Copies of strings that wait to be written, in bytes: past it the disk is too slow for the writes, and the snapshot is given up.
pub const BACKLOG_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A value of more elements or bytes than this is captured and written in pieces.
const WHOLE_ELEMENTS_MAX: usize = 256;
const WHOLE_BYTES_MAX: usize = 16 * 1024;
/// What a step of a large value is worth of which nothing goes out: it is counted before it is written.
const COUNT_COST_BYTES: usize = 16 * 1024;
/// What a key is counted as beside its bytes: a small one is work, too.
const KEY_COST_BYTES: usize = 64;
/// Slots without keys that one step passes over.
const SLOTS_PER_STEP: usize = 512;

/// What a call of [`Snapshot::produce`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Produced {
    More,
    /// What is in the buffer is the last.
    Done,
    /// What was given so far is void: what is in the buffer is the beginning.
    Anew,
    /// It is given up: too much waits to be written.
    TooSlow,
}

/// A key that is met and not yet written.
struct Queued {
    db: Db,
    record: LargeRecord,
    /// Bytes of memory that it keeps from being freed, or from being shared.
    bytes: usize,
}

/// What a file begins with, beside the keys.
#[derive(Clone, Debug, Default)]
pub struct Preface {
    /// Names and values.
    pub aux: Vec<(&'static str, String)>,
    /// Sources of libraries of functions.
    pub libraries: Vec<Vec<u8>>,
}

pub struct Snapshot {
    preface: Preface,
    at: UnixMillis,
    walk: Walk,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    told_db: Option<Db>,
    keys: u64,
    state: State,
    compresses: bool,
    file: FileWriter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was produced yet; `again`: but for what is void.
    Beginning {
        again: bool,
    },
    Walking,
    Done,
}

impl Snapshot {
    /// Of the keys of `slots` as they are at this moment.
    pub fn begin(slots: SlotSet, preface: Preface, compresses: bool, at: UnixMillis) -> Snapshot {
        Snapshot {
            preface,
            at,
            walk: Walk::over(slots),
            queue: VecDeque::new(),
            queued_bytes: 0,
            told_db: None,
            keys: 0,
            state: State::Beginning { again: false },
            compresses,
            file: FileWriter::new(compresses),
        }
    }

    /// Keys that are in the file so far.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// What it is of.
    pub(crate) fn moment(&self) -> UnixMillis {
        self.at
    }

    /// Keys changed place in bulk: the snapshot is of this moment, when they have.
    pub(crate) fn begin_anew(&mut self, at: UnixMillis) {
        if self.state == State::Done {
            return;
        }
        self.at = at;
        self.walk = Walk::over(self.walk.slots().clone());
        self.queue.clear();
        self.queued_bytes = 0;
        self.told_db = None;
        self.keys = 0;
        self.file = FileWriter::new(self.compresses);
        let again = self.state != State::Beginning { again: false };
        self.state = State::Beginning { again };
    }

    /// A command is about to write: its keys are met before.
    pub(crate) fn before_write(
        &mut self,
        db: Db,
        id: CommandId,
        request: &Request<'_>,
        keyspace: &Keyspace,
    ) {
        let written = |key: &keys::KeyAt| !key.flags.has(KeyFlags::RO);
        for at in keys::positions(id, request).filter(written) {
            self.before_change(db, request.arg(at.at), keyspace);
        }
    }

    /// `key` is about to be changed, made or taken away.
    pub(crate) fn before_change(&mut self, db: Db, key: &[u8], keyspace: &Keyspace) {
        let slot = slot_of(key);
        if self.state == State::Done
            || !self.walk.slots().contains(slot)
            || self.walk.has_met(db, key, slot, keyspace)
        {
            return;
        }
        self.walk.meet_early(db, key, slot);
        let Some(captured) = keyspace.capture(key) else {
            return;
        };
        if captured.expires.is_some_and(|at| at <= self.at) {
            return;
        }
        self.keys += 1;
        // It is written in its turn: the command does not wait for that.
        self.push(db, key, captured);
    }

    fn push(&mut self, db: Db, key: &[u8], captured: Captured) {
        let bytes = match &captured.value {
            Value::Bytes(bytes) => bytes.len(),
            Value::Int(_) | Value::Collection(_) => 0,
        };
        self.queued_bytes += bytes;
        self.queue.push_back(Queued {
            db,
            record: LargeRecord::new(key, captured),
            bytes,
        });
    }

    /// Appends what comes of about `limit` bytes of keys and values: what compresses well is more work than the bytes that go out say.
    pub fn produce(&mut self, limit: usize, databases: &Databases, out: &mut Vec<u8>) -> Produced {
        // One value alone says nothing of the disk, however long it is.
        if self.queued_bytes > BACKLOG_BYTES_MAX && self.queue.len() > 1 {
            return Produced::TooSlow;
        }
        let start = out.len();
        let begins_anew = self.state == State::Beginning { again: true };
        if let State::Beginning { .. } = self.state {
            self.write_beginning(databases, out);
            self.state = State::Walking;
        }
        let mut passed = 0;
        while self.state == State::Walking && passed < limit {
            let length = out.len();
            let visited = self.step(databases, out);
            passed += visited.max(out.len() - length);
        }
        self.file.pass(&out[start..]);
        if self.state == State::Done {
            self.file.write_end(out);
            return Produced::Done;
        }
        match begins_anew {
            true => Produced::Anew,
            false => Produced::More,
        }
    }

    /// Appends all of it, while nothing is written.
    pub(crate) fn produce_all(mut self, databases: &Databases, out: &mut Vec<u8>) {
        while self.produce(usize::MAX, databases, out) == Produced::More {}
    }

    fn write_beginning(&mut self, databases: &Databases, out: &mut Vec<u8>) {
        let (preface, file) = (&self.preface, &mut self.file);
        let mut spaces = databases.iter().map(|(_, space)| space);
        let expiring_fields = spaces.any(Keyspace::has_expiring_fields);
        file.write_beginning(expiring_fields, &preface.aux, &preface.libraries, out);
        for (db, keyspace) in databases.iter().filter(|(_, space)| !space.is_empty()) {
            file.write_db(db, out);
            file.write_sizes(keyspace.visible_len(), keyspace.expiring_len(), out);
        }
    }

    /// A record, some records, or a part of one. Returns the bytes of keys and values that are done with.
    fn step(&mut self, databases: &Databases, out: &mut Vec<u8>) -> usize {
        match self.queue.front_mut() {
            Some(Queued { db, record, bytes }) => {
                if record.is_at_start() {
                    tell_db(&mut self.told_db, *db, &mut self.file, out);
                }
                let length = out.len();
                if self.file.write_piece(record, out) {
                    return match out.len() == length {
                        true => COUNT_COST_BYTES,
                        false => 0,
                    };
                }
                let visited = *bytes + KEY_COST_BYTES;
                self.queued_bytes -= *bytes;
                self.queue.pop_front();
                visited
            }
            None if self.walk.is_over() => {
                self.state = State::Done;
                0
            }
            None => self.meet_keys(databases, out),
        }
    }

    /// Nothing is queued when this begins.
    fn meet_keys(&mut self, databases: &Databases, out: &mut Vec<u8>) -> usize {
        let moment = self.at;
        let mut visited = 0;
        for _ in 0..SLOTS_PER_STEP {
            let (told_db, file) = (&mut self.told_db, &mut self.file);
            let (keys, mut large) = (&mut self.keys, Vec::new());
            let stepped = self.walk.step(databases, |db, item| {
                if item.is_due(moment) {
                    return;
                }
                *keys += 1;
                let mut tray = Tray::default();
                let value = item.value(&mut tray);
                visited += KEY_COST_BYTES + item.key().len();
                if is_small(&value) {
                    visited += bytes_of(&value);
                    tell_db(told_db, db, file, out);
                    file.write_record(item.key(), value, item.expires(), out);
                } else {
                    large.push((db, item.key().to_vec(), item.capture()));
                }
            });
            for (db, key, captured) in large {
                self.push(db, &key, captured);
            }
            if stepped.any || self.walk.is_over() {
                break;
            }
        }
        // Slots without keys are work, too.
        visited.max(KEY_COST_BYTES)
    }
}

fn tell_db(told: &mut Option<Db>, db: Db, file: &mut FileWriter, out: &mut Vec<u8>) {
    if *told != Some(db) {
        *told = Some(db);
        file.write_db(db, out);
    }
}

fn is_small(value: &ValueRef<'_>) -> bool {
    let elements = match value {
        ValueRef::String(_) => 1,
        ValueRef::Collection(collection) => collection.len(),
    };
    elements <= WHOLE_ELEMENTS_MAX && bytes_of(value) <= WHOLE_BYTES_MAX
}

fn bytes_of(value: &ValueRef<'_>) -> usize {
    match value {
        ValueRef::String(string) => string.len(),
        ValueRef::Collection(collection) => collection.heap_bytes(),
    }
}
