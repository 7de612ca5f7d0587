//! The replica's side: whom this node follows, and what comes in.
//!
//! What comes is applied in units: all of a transaction or nothing. A unit that is applied stands in the node's own journal, at the same
//! offsets as in the primary's. The shell connects, and gives the frames; it asks [`Node::wanted_link`] whom to.
//!
//! ```text
//! Down ──connected──▶ Asked ──CONTINUE──▶ Streaming
//!  ▲                    └──FULL──▶ Full ──JOINED──▲
//!  └──────── lost, another primary, no replica any more (another number) ──────┘
//! ```

use std::task::Waker;

use larder_store::Db;
use larder_wire::control::{PROTOCOL_VERSION, Peer};
use larder_wire::replication::{Following, LinkPhase, ReplicateAsk, SILENCE_MS};
use larder_wire::resp::{OwnedRequest, Request};
use larder_wire::trust::Trust;
use larder_wire::{NodeId, Offset, Role, SlotSet};

use super::frame::{LinkWord, Named};
use crate::clock::Clock;
use crate::feed::Word;
use crate::node::Node;
use crate::session::Session;

/// A primary from which nothing has come for this long is asked anew, in milliseconds: it pings several times as often.
pub const UPSTREAM_SILENCE_MS_MAX: u64 = 4 * SILENCE_MS;

/// Where a replica connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedLink {
    /// Grows with each change of whom this node follows, and with each connection.
    pub number: u64,
    pub node: NodeId,
    /// `host:port` of its RESP port.
    pub addr: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Down,
    Asked,
    Full {
        /// Bytes of the feed.
        applied: u64,
    },
    Streaming,
}

/// Whom this node follows, and how far.
#[derive(Default)]
pub(crate) struct Upstream {
    /// `None`: the node is no replica.
    wanted: Option<WantedLink>,
    number: u64,
    state: State,
    /// Carries out what comes; in its database.
    session: Option<Session>,
    /// The database was said since the data came, or is known by the journal.
    db_is_known: bool,
    /// A transaction of which the end has not come.
    unit: Option<Vec<OwnedRequest>>,
    /// The end of the primary's journal, as last told.
    end: u64,
    heard_ms: u64,
    /// The last ping, while it is to be answered.
    ping_sent_ms: Option<u64>,
    /// What was last acknowledged.
    told: Option<u64>,
    /// The same of what is on this node's disk.
    told_synced: Option<Offset>,
    bell: Option<Waker>,
}

impl Upstream {
    fn ring(&mut self) {
        if let Some(bell) = self.bell.take() {
            bell.wake();
        }
    }
}

impl Node {
    /// Whom to connect to. `None`: nobody, for the time being.
    pub fn wanted_link(&self) -> Option<WantedLink> {
        let wanted = self.replication.upstream.wanted.as_ref()?;
        (!self.is_fenced_from(wanted.node)).then(|| wanted.clone())
    }

    /// Woken when the answer of [`Node::wanted_link`] changes.
    pub fn set_upstream_bell(&mut self, bell: &Waker) {
        self.replication.upstream.bell = Some(bell.clone());
    }

    /// Connected: what to ask. `None`: the connection is not wanted any more.
    pub fn begin_upstream(&mut self, number: u64, clock: Clock) -> Option<ReplicateAsk> {
        if !self.upstream_is(number) {
            return None;
        }
        let addr = self.replication.upstream.wanted.as_ref()?.addr.clone();
        let mut session = self.open_session(addr, self.settings.addr.clone(), clock);
        let peer = Trust::Peer {
            peer: Peer::Node,
            version: PROTOCOL_VERSION,
        };
        session.set_trust(peer, self.acl.operator());
        session.client.feeding.set(true);
        let db = self.journal.db();
        session.set_db(db.unwrap_or_default());
        let upstream = &mut self.replication.upstream;
        upstream.session = Some(session);
        upstream.db_is_known = db.is_some();
        upstream.state = State::Asked;
        upstream.heard_ms = clock.mono_ms;
        upstream.unit = None;
        upstream.told = None;
        upstream.told_synced = None;
        upstream.ping_sent_ms = None;
        Some(ReplicateAsk {
            node: self.settings.id,
            epoch: self.ownership.epoch(),
            place: self.journal.place(),
        })
    }

    /// True while the connection of this number is the one that is wanted.
    pub fn upstream_is(&self, number: u64) -> bool {
        let wanted = self.replication.upstream.wanted.as_ref();
        wanted.is_some_and(|it| it.number == number && !self.is_fenced_from(it.node))
    }

    /// The connection is gone; the next one has another number.
    pub fn upstream_lost(&mut self, number: u64) {
        let wanted = self.replication.upstream.wanted.as_ref();
        if wanted.is_some_and(|it| it.number == number) {
            self.cut_upstream();
        }
    }

    /// The connection to the primary is worth nothing any more; if there is a primary still, there will be another.
    pub(crate) fn cut_upstream(&mut self) {
        let upstream = &mut self.replication.upstream;
        upstream.number += 1;
        if let Some(wanted) = &mut upstream.wanted {
            wanted.number = upstream.number;
        }
        upstream.state = State::Down;
        upstream.unit = None;
        upstream.ring();
        if let Some(mut session) = upstream.session.take() {
            self.close_session(&mut session);
        }
    }

    /// A connection that has died without a word is given up.
    pub(crate) fn cut_silent_upstream(&mut self, clock: Clock) {
        let upstream = &self.replication.upstream;
        let silent_ms = clock.mono_ms.saturating_sub(upstream.heard_ms);
        if upstream.state != State::Down && silent_ms > UPSTREAM_SILENCE_MS_MAX {
            self.cut_upstream();
        }
        // A fence may have been called off.
        if self.wanted_link().is_some() && self.replication.upstream.state == State::Down {
            self.replication.upstream.ring();
        }
    }

    /// Whom the map says that this node follows.
    pub(crate) fn settle_upstream(&mut self) {
        let found = self.ownership.map().find_node(self.settings.id);
        let primary = found
            .filter(|(_, entry)| entry.role == Role::Replica)
            .and_then(|(shard, _)| shard.primary())
            .map(|primary| (primary.id, primary.addr.clone()));
        let wanted = &self.replication.upstream.wanted;
        let present = wanted.as_ref().map(|it| (it.node, it.addr.clone()));
        if present == primary {
            return;
        }
        self.replication.upstream.wanted = primary.map(|(node, addr)| WantedLink {
            number: 0,
            node,
            addr,
        });
        self.cut_upstream();
    }

    /// One frame from the primary. With an error the connection is of no more use.
    pub fn upstream_apply(
        &mut self,
        number: u64,
        frame: &Request<'_>,
        clock: Clock,
    ) -> Result<(), String> {
        if !self.upstream_is(number) {
            return Err("the node does not follow this primary any more".to_string());
        }
        let upstream = &mut self.replication.upstream;
        upstream.heard_ms = clock.mono_ms;
        if let Some(word) = LinkWord::read(frame) {
            return self.obey_link(word, clock);
        }
        match upstream.state {
            State::Down | State::Asked => Err(format!("the primary began with {frame:?}")),
            State::Full { applied } => {
                self.apply_data(frame, clock)?;
                let applied = applied + frame.bytes().len() as u64;
                self.replication.upstream.state = State::Full { applied };
                Ok(())
            }
            State::Streaming => {
                let applied = self.apply_journal(frame, clock);
                if applied.is_err() {
                    // What is here is not what the journal says: only all data can mend that.
                    self.journal.turn_off();
                }
                applied
            }
        }
    }

    fn obey_link(&mut self, word: LinkWord, clock: Clock) -> Result<(), String> {
        let upstream = &mut self.replication.upstream;
        match (upstream.state, word) {
            (State::Full { .. } | State::Streaming, LinkWord::Ping { sent_ms, end }) => {
                upstream.ping_sent_ms = Some(sent_ms);
                upstream.end = end.0;
                Ok(())
            }
            (State::Asked, LinkWord::Full(named)) => {
                upstream.end = named.place.offset.0;
                self.keep_lost(named.previous, clock);
                self.begin_full(clock);
                Ok(())
            }
            (State::Asked, LinkWord::Continue(Named { place, previous })) => {
                if self.journal.place().map(|own| own.offset) != Some(place.offset) {
                    return Err(format!("the primary goes on from {}", place.offset));
                }
                self.journal.adopt(place.history, previous);
                self.replication.was_primary = false;
                self.begin_streaming(place.offset);
                Ok(())
            }
            (State::Full { .. }, LinkWord::Joined(Named { place, previous })) => {
                self.journal.begin_copy(place, previous);
                self.ownership.set_whole(true);
                self.release();
                self.replication.upstream.db_is_known = false;
                self.begin_streaming(place.offset);
                Ok(())
            }
            (state, word) => Err(format!("the primary sent {word:?} to a link {state:?}")),
        }
    }

    /// What is here is dropped, bit by bit; until all data has come nothing is served.
    fn begin_full(&mut self, clock: Clock) {
        self.journal.turn_off();
        self.ownership.set_whole(false);
        self.redirect_blocked();
        for db in Db::all() {
            if self.databases.get(db).is_some() {
                self.touch_slots(db, &SlotSet::full());
            }
        }
        self.databases.drop_slots(&SlotSet::full());
        self.scripts.flush_functions();
        if self.tracking.hears() {
            self.tracking.invalidate_all(&self.clients);
        }
        self.snapshot_anew(clock);
        self.release();
        self.stats.resyncs.add(1);
        let upstream = &mut self.replication.upstream;
        upstream.state = State::Full { applied: 0 };
        if let Some(session) = &mut upstream.session {
            session.set_db(Db::ZERO);
        }
    }

    fn begin_streaming(&mut self, from: Offset) {
        let upstream = &mut self.replication.upstream;
        upstream.state = State::Streaming;
        upstream.end = upstream.end.max(from.0);
        upstream.told = None;
        upstream.told_synced = None;
    }

    /// A frame of the feed of all data.
    fn apply_data(&mut self, frame: &Request<'_>, clock: Clock) -> Result<(), String> {
        match Word::read(frame) {
            None | Some(Ok(Word::Drop { .. })) => self.apply_in_session(frame, clock),
            Some(Ok(Word::Db(db))) => {
                if let Some(session) = &mut self.replication.upstream.session {
                    session.set_db(db);
                }
                Ok(())
            }
            Some(Ok(Word::Slot { .. } | Word::At(_))) => Ok(()),
            Some(Ok(Word::End(reason))) => Err(reason),
            Some(Ok(Word::Flush(_) | Word::Cut(_) | Word::Map(_) | Word::Ack(_))) => {
                Err(format!("the primary sent {frame:?} to a replica"))
            }
            Some(Err(what)) => Err(what),
        }
    }

    /// A frame of the journal.
    fn apply_journal(&mut self, frame: &Request<'_>, clock: Clock) -> Result<(), String> {
        if let Some(Ok(Word::End(reason))) = Word::read(frame) {
            return self.end_of_stream(reason);
        }
        let upstream = &mut self.replication.upstream;
        let name = frame.name();
        match &mut upstream.unit {
            None if name.eq_ignore_ascii_case(b"MULTI") => {
                upstream.unit = Some(vec![OwnedRequest::from(*frame)]);
                Ok(())
            }
            None => {
                self.apply_one(frame, clock)?;
                self.copy_applied(frame.bytes());
                Ok(())
            }
            Some(unit) => {
                unit.push(OwnedRequest::from(*frame));
                if !name.eq_ignore_ascii_case(b"EXEC") {
                    return Ok(());
                }
                let unit = upstream.unit.take().unwrap_or_default();
                let mut bytes = Vec::new();
                for (at, command) in unit.iter().enumerate() {
                    let command = command.view();
                    if at > 0 && at + 1 < unit.len() {
                        self.apply_one(&command, clock)?;
                    }
                    bytes.extend_from_slice(command.bytes());
                }
                self.copy_applied(&bytes);
                Ok(())
            }
        }
    }

    /// The primary ends the connection; what is here stays good.
    fn end_of_stream(&mut self, _reason: String) -> Result<(), String> {
        self.cut_upstream();
        Ok(())
    }

    fn apply_one(&mut self, frame: &Request<'_>, clock: Clock) -> Result<(), String> {
        let upstream = &mut self.replication.upstream;
        if frame.name().eq_ignore_ascii_case(b"SELECT") {
            let number = frame.get(1).and_then(larder_store::number::parse_i64);
            let db = number.and_then(Db::new);
            let db = db.ok_or_else(|| format!("{frame:?} names no database"))?;
            upstream.db_is_known = true;
            if let Some(session) = &mut upstream.session {
                session.set_db(db);
            }
            return Ok(());
        }
        if !upstream.db_is_known {
            return Err("the primary did not say which database this is about".to_string());
        }
        self.apply_in_session(frame, clock)
    }

    fn copy_applied(&mut self, bytes: &[u8]) {
        let upstream = &self.replication.upstream;
        let session = upstream.session.as_ref();
        let db = session.filter(|_| upstream.db_is_known).map(|it| it.db);
        self.journal.append_copied(bytes, db);
        self.followers.pass_on(bytes);
        self.replication.upstream.end = self.replication.upstream.end.max(self.journal.end().0);
    }

    fn apply_in_session(&mut self, frame: &Request<'_>, clock: Clock) -> Result<(), String> {
        let Some(mut session) = self.replication.upstream.session.take() else {
            return Err("the connection has no session".to_string());
        };
        let applied = self.apply_effect(&mut session, frame, clock);
        self.replication.upstream.session = Some(session);
        applied
    }

    /// After some frames: serves whoever waited for them, and appends what the primary is to be told, if anything.
    pub fn upstream_answer(&mut self, number: u64, clock: Clock, out: &mut Vec<u8>) {
        if self.blocked.has_ready() {
            self.serve_blocked(clock);
        }
        self.tracking.broadcast(&self.clients);
        if !self.upstream_is(number) {
            return;
        }
        let end = self.journal.end();
        let is_whole = self.append.is_whole();
        let on_disk = is_whole.then(|| self.append.written().synced.min(end));
        let upstream = &mut self.replication.upstream;
        let have = match upstream.state {
            State::Down | State::Asked => return,
            State::Full { applied } => applied,
            State::Streaming => end.0,
        };
        let streams = upstream.state == State::Streaming;
        let synced = on_disk.filter(|it| streams && Some(*it) > upstream.told_synced);
        let more = synced.is_some() || upstream.told.is_none_or(|told| have > told);
        let ping_sent_ms = upstream.ping_sent_ms.take();
        if !more && ping_sent_ms.is_none() {
            return;
        }
        upstream.told = Some(have);
        upstream.told_synced = upstream.told_synced.max(synced);
        let offset = match upstream.state {
            State::Streaming => end,
            State::Down | State::Asked | State::Full { .. } => {
                Word::Ack(Offset(have)).write(out);
                Offset(0)
            }
        };
        self.answered_primary(clock);
        if offset.0 > 0 || ping_sent_ms.is_some() {
            LinkWord::Have {
                offset,
                ping_sent_ms,
                synced,
            }
            .write(out);
        }
    }

    /// For the node's state: whom it follows, and how.
    pub fn following(&self, clock: Clock) -> Option<Following> {
        let upstream = &self.replication.upstream;
        let primary = upstream.wanted.as_ref()?.node;
        let phase = match upstream.state {
            State::Down | State::Asked => LinkPhase::Down,
            State::Full { .. } => LinkPhase::Full,
            State::Streaming => LinkPhase::Streaming,
        };
        Some(Following {
            primary,
            phase,
            lag_bytes: upstream.end.saturating_sub(self.journal.end().0),
            silent_ms: clock.mono_ms.saturating_sub(upstream.heard_ms),
        })
    }

    /// `host:port` of the primary that this node follows.
    pub(crate) fn upstream_addr(&self) -> Option<&str> {
        let wanted = self.replication.upstream.wanted.as_ref()?;
        Some(&wanted.addr)
    }
}
