//! The target's side of a move: what comes in of a feed goes into slots that nobody sees yet.
//!
//! The keys lie in the keyspace, in slots that the node does not own: no client reaches them, no count or scan shows them. The map that
//! gives the slots makes them visible at once; an end of the import drops them.
//!
//! ```text
//! Copying ──cut, confirmed──▶ Ready ──map──▶ (owned)
//!    └── END, lost, full, aborted ──▶ Failed      (Ready ends only by END, ABORT or a map)
//! ```
//!
//! What came counts once it is as safe as what this node answers for: in `safe`, once a replica in step has it, so that whoever takes this node's
//! place has it, too. Until then neither the source is told that it arrived (so that it holds its writes only when little is open)
//! nor the topology that the import is ready.

use std::collections::VecDeque;
use std::task::Waker;

use larder_store::{Call, Databases, Db, Effects, Random};
use larder_wire::command::{self, CommandId, Found, keys};
use larder_wire::control::{Import, ImportPhase, ImportState};
use larder_wire::resp::{Protocol, ReplyWriter, Request};
use larder_wire::{Attempt, Offset, SlotSet, UnixMillis};

use super::frame::Word;
use crate::dispatch::{Run, run_of};

/// What a frame meant for the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// More will follow.
    Some,
    /// That was the cut: all is here, if perhaps not confirmed yet.
    Cut,
}

/// One import.
pub struct Incoming {
    pub attempt: Attempt,
    slots: SlotSet,
    phase: ImportPhase,
    /// The database of what comes in, as last told.
    db: Db,
    /// The source's clock, as last told.
    now: UnixMillis,
    applied: u64,
    /// How far the stream was applied when the node's journal ended where, in order; of what is not confirmed yet. The source sends no more
    /// than `FEED_WINDOW_BYTES_MAX` of that.
    marks: VecDeque<(u64, Offset)>,
    confirmed: u64,
    /// Where the stream ends, once that is known.
    cut: Option<Offset>,
    keys: u64,
    slots_done: u32,
    bell: Option<Waker>,
}

/// What applying a command needs of the node.
pub(crate) struct Tools<'a> {
    pub databases: &'a mut Databases,
    pub effects: &'a mut Effects,
    pub random: &'a mut Random,
    /// Replies that nobody reads.
    pub waste: &'a mut Vec<u8>,
}

impl Incoming {
    pub(crate) fn begin(import: &Import, now: UnixMillis) -> Incoming {
        Incoming {
            attempt: import.attempt,
            slots: import.slots.clone(),
            phase: ImportPhase::Copying,
            db: Db::ZERO,
            now,
            applied: 0,
            marks: VecDeque::new(),
            confirmed: 0,
            cut: None,
            keys: 0,
            slots_done: 0,
            bell: None,
        }
    }

    pub fn slots(&self) -> &SlotSet {
        &self.slots
    }

    pub fn phase(&self) -> &ImportPhase {
        &self.phase
    }

    /// The database of the next command.
    pub(crate) fn db(&self) -> Db {
        self.db
    }

    pub fn is_ready(&self) -> bool {
        matches!(self.phase, ImportPhase::Ready { .. })
    }

    pub fn is_failed(&self) -> bool {
        matches!(self.phase, ImportPhase::Failed { .. })
    }

    pub fn state(&self) -> ImportState {
        ImportState {
            attempt: self.attempt,
            phase: self.phase.clone(),
            keys: self.keys,
            bytes: self.applied,
            slots_done: self.slots_done,
        }
    }

    /// Bytes of the stream that are applied and confirmed.
    pub(crate) fn confirmed(&self) -> Offset {
        Offset(self.confirmed)
    }

    /// What was applied so far stands before `place` in the node's journal.
    pub(crate) fn mark(&mut self, place: Offset) {
        match self.marks.back_mut() {
            Some((applied, last)) if *last == place => *applied = self.applied,
            Some((applied, _)) if *applied == self.applied => {}
            None if self.confirmed == self.applied => {}
            Some(_) | None => self.marks.push_back((self.applied, place)),
        }
    }

    /// What stands before `reached` in the node's journal is as safe as it has to be. True: with that the import is ready.
    pub(crate) fn confirm(&mut self, reached: Offset) -> bool {
        while let Some((applied, place)) = self.marks.front().copied()
            && place <= reached
        {
            self.marks.pop_front();
            self.confirmed = applied;
            self.ring();
        }
        let copying = matches!(self.phase, ImportPhase::Copying);
        match self.cut.filter(|cut| copying && self.confirmed >= cut.0) {
            Some(offset) => {
                self.phase = ImportPhase::Ready { offset };
                true
            }
            None => false,
        }
    }

    pub(crate) fn set_bell(&mut self, bell: &Waker) {
        if !self.bell.as_ref().is_some_and(|old| old.will_wake(bell)) {
            self.bell = Some(bell.clone());
        }
    }

    /// The first reason counts.
    pub(crate) fn fail(&mut self, reason: impl Into<String>) {
        if !self.is_failed() {
            self.phase = ImportPhase::Failed {
                reason: reason.into(),
            };
            self.ring();
        }
    }

    pub(crate) fn ring(&mut self) {
        if let Some(bell) = self.bell.take() {
            bell.wake();
        }
    }

    /// One frame. With an error the import is of no more use.
    pub(crate) fn apply(
        &mut self,
        frame: &Request<'_>,
        tools: Tools<'_>,
    ) -> Result<Applied, String> {
        if self.cut.is_some() || !matches!(self.phase, ImportPhase::Copying) {
            return match Word::read(frame) {
                Some(Ok(Word::End(reason))) => Err(reason),
                Some(_) | None => Err("the source sent something after the cut".to_string()),
            };
        }
        let applied = match Word::read(frame) {
            Some(word) => self.obey(word?, tools)?,
            None => {
                self.execute(frame, tools)?;
                Applied::Some
            }
        };
        self.applied += frame.bytes().len() as u64;
        Ok(applied)
    }

    fn obey(&mut self, word: Word, tools: Tools<'_>) -> Result<Applied, String> {
        match word {
            Word::Db(db) => self.db = db,
            Word::At(now) => self.now = now,
            Word::Slot { slot: _, keys } => {
                self.slots_done += 1;
                self.keys += keys;
            }
            Word::Flush(None) => {
                tools.databases.drop_slots(&self.slots);
            }
            Word::Flush(Some(db)) => {
                tools.databases.at(db).drop_slots(&self.slots);
            }
            Word::Cut(offset) => {
                if offset.0 != self.applied {
                    return Err(format!(
                        "the source sent {offset} bytes, {} were applied",
                        self.applied
                    ));
                }
                self.cut = Some(offset);
                return Ok(Applied::Cut);
            }
            Word::End(reason) => return Err(reason),
            Word::Map(_) => return Err("the source sent a map before the cut".to_string()),
            Word::Drop { .. } => return Err("the source sent what is for its replicas".to_string()),
            Word::Ack(_) => return Err("a source does not acknowledge".to_string()),
        }
        Ok(Applied::Some)
    }

    fn execute(&self, frame: &Request<'_>, tools: Tools<'_>) -> Result<(), String> {
        let id = self.check(frame)?;
        let Run::Store(exec) = run_of(id) else {
            return Err(format!("{frame:?} is no effect"));
        };
        tools.effects.restart(false);
        tools.waste.clear();
        let done = exec(&mut Call {
            keyspace: tools.databases.at(self.db),
            request: *frame,
            first_key: None,
            now: self.now,
            reply: ReplyWriter::new(tools.waste, Protocol::Resp2),
            effects: tools.effects,
            random: tools.random,
        });
        // What happened to these keys was told where it happened.
        tools.databases.at(self.db).events.clear();
        done.map_err(|refusal| {
            let name = command::spec(id).name;
            format!("cannot apply {name}: {}", refusal.text())
        })
    }

    /// A command with keys, all of them in the slots of the import: a source has no business with others.
    fn check(&self, frame: &Request<'_>) -> Result<CommandId, String> {
        let Found::Command(id) = command::lookup(frame.name(), frame.get(1)) else {
            return Err(format!("{frame:?} is no command of this release"));
        };
        if !command::spec(id).takes(frame.len()) {
            return Err(format!("{frame:?} has a wrong number of arguments"));
        }
        let mut positions = keys::positions(id, frame).peekable();
        let has_keys = positions.peek().is_some();
        let inside =
            positions.all(|at| self.slots.contains(larder_wire::slot_of(frame.arg(at.at))));
        if has_keys && inside {
            Ok(id)
        } else {
            Err(format!("{frame:?} is not within the slots of the move"))
        }
    }
}
