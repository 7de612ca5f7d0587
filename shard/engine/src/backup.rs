//! Snapshots that leave over connections: what a backup of the cluster is made of.
//!
//! 1. `LARDER HOLD` makes writes wait, for a fraction of a second at most. Once all primaries hold, no write that any of them has not taken yet can be
//!    the cause of one that another has.
//! 2. `LARDER SNAPSHOT` begins a snapshot at that moment, lets the writes go on, and the connection becomes the snapshot's stream
//!    (`larder_wire::backup` has its words).
//! 3. A snapshot is of the slots of one map: when some of them leave, or the node is no primary any more, it is void and says so.
//!
//! Several may be under way at a time, beside one that is saved. Knows no sockets: the shell takes the bytes, and forgets a stream that is lost.

#[cfg(test)]
mod tests;

use larder_store::{Db, Keyspace};
use larder_wire::backup::{Held, HoldAsk, SnapshotAsk, SnapshotBegun, SnapshotEnd};
use larder_wire::command::CommandId;
use larder_wire::resp::Request;
use larder_wire::resp::write::{array_header, bulk_header};
use larder_wire::{Epoch, Refusal, Role, SlotSet};

use crate::clock::Clock;
use crate::node::Node;
use crate::snapshot::{Produced, Snapshot};
use crate::turn::{Outcome, Turn};

/// Longest hold for a backup in milliseconds: past it writes go on, and the snapshot is refused.
pub const BACKUP_HOLD_MS_MAX: u64 = 1000;
/// Snapshots that leave at the same time: each has to know of every write.
pub const STREAMS_MAX: usize = 4;

/// One stream of a node, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId(u64);

/// Writes wait.
struct Hold {
    number: u64,
    slots: SlotSet,
    until_ms: u64,
}

/// A snapshot on its way.
struct Stream {
    id: StreamId,
    snapshot: Snapshot,
    slots: SlotSet,
    bytes: u64,
    /// Why it will never be whole.
    void: Option<String>,
}

/// What is under way for backups.
#[derive(Default)]
pub struct Backups {
    hold: Option<Hold>,
    streams: Vec<Stream>,
    next: u64,
}

/// What a call of [`Node::stream_produce`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streamed {
    More,
    /// What is in the buffer is the last, whole or void.
    Over,
}

impl Backups {
    /// Slots whose writes wait for a backup.
    pub(crate) fn held(&self) -> Option<&SlotSet> {
        self.hold.as_ref().map(|hold| &hold.slots)
    }

    #[inline]
    pub(crate) fn any(&self) -> bool {
        !self.streams.is_empty()
    }

    pub(crate) fn before_write(
        &mut self,
        db: Db,
        id: CommandId,
        request: &Request<'_>,
        space: &Keyspace,
    ) {
        for stream in &mut self.streams {
            stream.snapshot.before_write(db, id, request, space);
        }
    }

    pub(crate) fn before_change(&mut self, db: Db, key: &[u8], space: &Keyspace) {
        for stream in &mut self.streams {
            stream.snapshot.before_change(db, key, space);
        }
    }

    /// Keys changed place in bulk.
    pub(crate) fn begin_anew(&mut self, clock: Clock) {
        for stream in &mut self.streams {
            stream.snapshot.begin_anew(clock.now());
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Node {
    /// The backup was made for another map, or by a node that is no primary.
    fn check_backed_up(&self, epoch: Epoch, slots: &SlotSet) -> Result<(), Refusal> {
        if self.ownership.is_standalone() {
            return Err(Refusal::fixed(
                "ERR a standalone node is saved with BGSAVE; backups are of clusters",
            ));
        }
        let own = self.ownership.epoch();
        if own != epoch || self.ownership.slots() != slots || self.ownership.role() != Role::Primary
        {
            return Err(Refusal::new(format!("STALE {own}")));
        }
        Ok(())
    }

    fn hold_for_backup(&mut self, ask: HoldAsk, clock: Clock) -> Result<Held, Refusal> {
        self.check_backed_up(ask.epoch, &ask.slots)?;
        if self.backups.hold.is_some() {
            return Err(Refusal::fixed(
                "BUSY another backup is about to begin (try again in a second)",
            ));
        }
        let number = self.backups.number();
        self.backups.hold = Some(Hold {
            number,
            slots: ask.slots,
            until_ms: clock.mono_ms + ask.hold_ms.min(BACKUP_HOLD_MS_MAX),
        });
        self.settle_holds();
        Ok(Held { hold: number })
    }

    /// Holds for backups do not last.
    pub(crate) fn let_go_of_backups(&mut self, clock: Clock) {
        let due = |hold: &Hold| hold.until_ms <= clock.mono_ms;
        if self.backups.hold.as_ref().is_some_and(due) {
            self.backups.hold = None;
            self.settle_holds();
        }
    }

    /// Begins a stream, and ends the hold that it was prepared with.
    fn begin_stream(
        &mut self,
        ask: SnapshotAsk,
        clock: Clock,
    ) -> Result<(StreamId, SnapshotBegun), Refusal> {
        let held = self.backups.hold.as_ref().map(|hold| hold.number);
        if ask.hold.is_some() && held != ask.hold {
            return Err(Refusal::fixed(
                "LETGO writes go on: the hold was not kept until now",
            ));
        }
        if self.backups.streams.len() >= STREAMS_MAX {
            return Err(Refusal::new(format!(
                "ERR {STREAMS_MAX} backups are under way here already (wait for one to end)"
            )));
        }
        self.check_backed_up(ask.epoch, &ask.slots)?;
        let id = StreamId(self.backups.number());
        let stream = Stream {
            id,
            snapshot: self.snapshot(clock),
            slots: ask.slots,
            bytes: 0,
            void: None,
        };
        self.backups.streams.push(stream);
        if ask.hold.is_some() {
            self.backups.hold = None;
            self.settle_holds();
        }
        let mut users = Vec::new();
        let mut users_left_out = 0;
        for user in self.acl.iter() {
            match String::from_utf8(user.line()) {
                Ok(line) => users.push(line),
                Err(_) => users_left_out += 1,
            }
        }
        let changed = self.config.changed();
        let begun = SnapshotBegun {
            at: clock.now(),
            keys: self.databases.visible_len() as u64,
            used_memory: self.databases.used_memory(),
            users,
            users_left_out,
            settings: changed
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            libraries: self.scripts.libraries.iter().count() as u64,
        };
        Ok((id, begun))
    }

    /// Appends frames with about `limit` bytes of the snapshot.
    pub fn stream_produce(
        &mut self,
        id: StreamId,
        limit: usize,
        bytes: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Streamed {
        let streams = &mut self.backups.streams;
        let Some(stream) = streams.iter_mut().find(|stream| stream.id == id) else {
            write_void(out, "the node has given it up");
            return Streamed::Over;
        };
        if let Some(why) = &stream.void {
            write_void(out, why);
            return Streamed::Over;
        }
        bytes.clear();
        let produced = stream.snapshot.produce(limit, &self.databases, bytes);
        match produced {
            Produced::TooSlow => {
                write_void(
                    out,
                    "what changes meanwhile grew too large: the destination is too slow for the writes",
                );
                return Streamed::Over;
            }
            Produced::Anew => {
                out.extend_from_slice(b"+ANEW\r\n");
                stream.bytes = 0;
            }
            Produced::More | Produced::Done => {}
        }
        if !bytes.is_empty() {
            write_bulk(out, bytes);
            stream.bytes += bytes.len() as u64;
        }
        if produced != Produced::Done {
            out.extend_from_slice(format!(":{}\r\n", stream.snapshot.keys()).as_bytes());
            return Streamed::More;
        }
        let end = SnapshotEnd {
            bytes: stream.bytes,
            keys: stream.snapshot.keys(),
            at: stream.snapshot.moment(),
        };
        let json = serde_json::to_vec(&end).expect("numbers are JSON");
        array_header(out, 2);
        write_bulk(out, b"END");
        write_bulk(out, &json);
        Streamed::Over
    }

    /// The stream is over, or its connection is gone.
    pub fn end_stream(&mut self, id: StreamId) {
        self.backups.streams.retain(|stream| stream.id != id);
    }

    /// A map was taken: what is no longer of the slots that it was begun for is void.
    pub(crate) fn void_streams(&mut self) {
        let (own, primary) = (
            self.ownership.slots(),
            self.ownership.role() == Role::Primary,
        );
        for stream in &mut self.backups.streams {
            if !primary || !stream.slots.difference(own).is_empty() {
                stream.void = Some(format!(
                    "slots left the node with epoch {}",
                    self.ownership.epoch()
                ));
            }
        }
        if self
            .backups
            .held()
            .is_some_and(|held| !primary || held != own)
        {
            self.backups.hold = None;
            self.settle_holds();
        }
    }
}

/// `LARDER HOLD <HoldAsk>`
pub fn hold(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let ask: HoldAsk = crate::exec::control::body(turn)?;
    let held = turn.node.hold_for_backup(ask, turn.clock)?;
    crate::exec::control::json(turn, &held)
}

/// `LARDER SNAPSHOT <SnapshotAsk>`
pub fn snapshot(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let ask: SnapshotAsk = crate::exec::control::body(turn)?;
    let (id, begun) = turn.node.begin_stream(ask, turn.clock)?;
    let _ = crate::exec::control::json(turn, &begun)?;
    Ok(Outcome::Stream(id))
}

fn write_void(out: &mut Vec<u8>, why: &str) {
    out.extend_from_slice(format!("-VOID {why}\r\n").as_bytes());
}

fn write_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    bulk_header(out, bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}
