//! Feeds: streams of the keys and effects of a set of slots, from the node that owns them to the one that will.
//!
//! `source.rs` produces a stream, `target.rs` takes one in, `frame.rs` holds its words, `pieces.rs` writes keys as commands;
//! here is what a node does with all of its feeds and imports together. No sockets: the shell moves the bytes.

mod attempts;
pub mod frame;
mod handed_over;
pub mod pieces;
pub mod source;
pub mod target;
#[cfg(test)]
pub(crate) mod tests;

use std::task::Waker;

use larder_store::{Db, GoneFields, Room};
use larder_wire::command::{self, CommandId, Found};
use larder_wire::control::{FeedAsk, Import, ImportPhase, ImportState, MapPush};
use larder_wire::resp::Request;
use larder_wire::{Attempt, ClusterMap, Offset, Refusal, Role, SlotSet};

pub use frame::Word;
pub use source::{Feed, FeedTo, Produced};
pub use target::{Applied, Incoming};

use crate::clock::Clock;
use crate::journal::Unit;
use crate::node::Node;
use crate::turn::Outcome;
pub(crate) use attempts::Attempts;
use attempts::Heard;
pub(crate) use handed_over::HandedOver;
use target::Tools;

/// Imports that have failed and are remembered, so that the topology hears why.
const FAILED_IMPORTS_MAX: usize = 64;
/// Keys that make room for one frame of an import.
const EVICTIONS_PER_FRAME_MAX: usize = 16;

impl Node {
    // As a source.

    /// `LARDER FEED`: a target asks for the slots.
    pub(crate) fn begin_feed(&mut self, ask: FeedAsk) -> Result<Outcome, Refusal> {
        if self.ownership.is_standalone() || self.ownership.role() != Role::Primary {
            return Err(Refusal::fixed("ERR only a primary of a cluster feeds"));
        }
        let missing = ask.slots.difference(self.ownership.slots());
        if ask.slots.is_empty() || !missing.is_empty() {
            return Err(Refusal::new(format!(
                "ERR this node does not own slots {missing}"
            )));
        }
        match self.feeds_heard.judge(ask.attempt, &ask.slots) {
            Heard::First => {}
            Heard::Again => {
                return Err(Refusal::new(format!(
                    "ERR attempt {} had its feed",
                    ask.attempt
                )));
            }
            Heard::Late(newer) => return Err(too_late(ask.attempt, newer)),
        }
        self.feeds_heard.remember(ask.attempt, ask.slots.clone());
        for feed in &mut self.feeds {
            if feed.link().is_none() && !feed.slots().is_disjoint(&ask.slots) {
                feed.end(format!("attempt {} took its place", ask.attempt));
            }
        }
        self.feeds.push(Feed::begin(ask.clone(), &self.databases));
        self.settle_holds();
        Ok(Outcome::Feed(ask))
    }

    /// Appends the next frames of a feed. After [`Produced::Over`] the feed is forgotten.
    pub fn feed_produce(
        &mut self,
        attempt: Attempt,
        limit: usize,
        clock: Clock,
        out: &mut Vec<u8>,
    ) -> Produced {
        let Some(index) = self
            .feeds
            .iter()
            .position(|feed| feed.attempt() == Some(attempt))
        else {
            return Produced::Over;
        };
        let feed = &mut self.feeds[index];
        let held = feed.holds();
        let produced = feed.produce(limit, clock, &self.databases, out);
        let holds = feed.holds();
        if produced == Produced::Over {
            self.feeds.swap_remove(index);
        }
        if held != holds {
            self.settle_holds();
        }
        produced
    }

    /// The target has applied so much.
    pub fn feed_acknowledged(&mut self, attempt: Attempt, offset: Offset) {
        if let Some(feed) = self
            .feeds
            .iter_mut()
            .find(|feed| feed.attempt() == Some(attempt))
        {
            feed.acknowledge(offset);
        }
    }

    /// Who is woken when the feed has something to send.
    pub fn set_feed_bell(&mut self, attempt: Attempt, bell: &Waker) {
        if let Some(feed) = self
            .feeds
            .iter_mut()
            .find(|feed| feed.attempt() == Some(attempt))
        {
            feed.set_bell(bell);
        }
    }

    /// The connection to the target is gone.
    pub fn feed_lost(&mut self, attempt: Attempt) {
        self.feeds.retain(|feed| feed.attempt() != Some(attempt));
        self.settle_holds();
    }

    /// After any change of a feed's phase, or of a backup's: which slots' writes wait.
    pub(crate) fn settle_holds(&mut self) {
        let mut held = self.backups.held().cloned().unwrap_or_default();
        if let Some(slots) = self.guard.yields.held() {
            held = held.union(slots);
        }
        for feed in self.feeds.iter().filter(|feed| feed.holds()) {
            held = held.union(feed.slots());
        }
        if held != *self.ownership.held() {
            self.ownership.set_held(held);
            self.release();
        }
    }

    /// Holds do not last.
    pub(crate) fn let_go_of_feeds(&mut self, clock: Clock) {
        let mut any = false;
        for feed in &mut self.feeds {
            any |= feed.let_go_if_due(clock);
        }
        if any {
            self.settle_holds();
        }
    }

    /// True while a hold runs: its end is to be looked for often.
    pub fn is_holding(&self) -> bool {
        self.feeds.iter().any(Feed::holds)
    }

    pub fn feeds(&self) -> &[Feed] {
        &self.feeds
    }

    /// A command of the store is about to write: who takes the data elsewhere meets its keys before.
    #[inline]
    pub(crate) fn before_write(&mut self, db: Db, id: CommandId, request: &Request<'_>) {
        if self.feeds.is_empty() && !self.saving.is_running() && !self.backups.any() {
            return;
        }
        let space = self.databases.at(db);
        for feed in &mut self.feeds {
            feed.before_write(db, id, request, space);
        }
        if let Some(snapshot) = self.saving.snapshot() {
            snapshot.before_write(db, id, request, space);
        }
        self.backups.before_write(db, id, request, space);
    }

    /// The effects of the command that ran last, to the feeds of its keys.
    pub(crate) fn feed_effects(&mut self, db: Db, request: Request<'_>, clock: Clock) {
        for effect in self.effects.iter(request) {
            let Found::Command(id) = command::lookup(effect.name(), effect.get(1)) else {
                unreachable!("the store leaves commands as effects, not {effect:?}");
            };
            for feed in &mut self.feeds {
                feed.forward(db, id, &effect, clock.now());
            }
        }
    }

    /// A key is gone from its database: by itself, or by a command that reaches across databases.
    pub(crate) fn feed_gone(&mut self, db: Db, key: &[u8], clock: Clock) {
        if !self.feeds.is_empty() {
            let space = self.databases.at(db);
            for feed in &mut self.feeds {
                feed.forward_gone(db, key, clock.now(), space);
            }
        }
    }

    /// Fields of a hash went by themselves.
    pub(crate) fn feed_gone_fields(&mut self, db: Db, gone: &GoneFields, clock: Clock) {
        if !self.feeds.is_empty() {
            let space = self.databases.at(db);
            for feed in &mut self.feeds {
                feed.forward_gone_fields(db, gone, clock.now(), space);
            }
        }
    }

    /// A key came whole, by a command that reaches across databases.
    pub(crate) fn feed_came(&mut self, db: Db, key: &[u8], clock: Clock) {
        if !self.feeds.is_empty() {
            let space = self.databases.at(db);
            for feed in &mut self.feeds {
                feed.forward_came(db, key, clock.now(), space);
            }
        }
    }

    /// All keys that clients see are gone from one database, or from all.
    pub(crate) fn feed_flush(&mut self, db: Option<Db>) {
        for feed in &mut self.feeds {
            match feed.to {
                FeedTo::Target { .. } => feed.forward_flush(db),
                FeedTo::Replica(_) => feed.forward_drop(self.ownership.slots(), db),
            }
        }
    }

    /// Drops every key of some slots, here and on whatever follows this node.
    pub(crate) fn drop_slots(&mut self, slots: &SlotSet, db: Option<Db>) {
        if slots.is_empty() {
            return;
        }
        match db {
            Some(db) => self.databases.at(db).drop_slots(slots),
            None => self.databases.drop_slots(slots),
        };
        for feed in &mut self.feeds {
            if feed.link().is_some() {
                feed.forward_drop(slots, db);
            }
        }
        if self.journal.records() {
            self.journal_drop(slots, db);
            self.close_unit(Unit::Single);
        }
    }

    // As a target.

    /// `LARDER IMPORT`: the topology wants slots here. An attempt that is known is under way already.
    pub(crate) fn begin_import(
        &mut self,
        import: Import,
        clock: Clock,
    ) -> Result<Outcome, Refusal> {
        if self.ownership.is_standalone() {
            return Err(Refusal::fixed("ERR a standalone node takes no slots"));
        }
        if self.ownership.role() == Role::Replica {
            return Err(Refusal::fixed("ERR a replica takes no slots"));
        }
        match self.imports_heard.judge(import.attempt, &import.slots) {
            Heard::First => {}
            Heard::Again => return Ok(Outcome::Done),
            Heard::Late(newer) => return Err(too_late(import.attempt, newer)),
        }
        if !import.slots.is_disjoint(self.ownership.slots()) {
            let owned = import.slots.intersection(self.ownership.slots());
            return Err(Refusal::new(format!("ERR this node owns slots {owned}")));
        }
        let rivals: Vec<Attempt> = self
            .imports
            .iter()
            .filter(|other| !other.is_failed() && !other.slots().is_disjoint(&import.slots))
            .map(|other| other.attempt)
            .collect();
        for rival in rivals {
            self.import_failed(rival, &format!("attempt {} took its place", import.attempt));
        }
        self.imports_heard
            .remember(import.attempt, import.slots.clone());
        self.come_again(&import.slots);
        self.drop_slots(&import.slots, None);
        self.imports.push(Incoming::begin(&import, clock.now()));
        self.forget_old_failures();
        Ok(Outcome::Import(import))
    }

    /// One frame of an import's stream; the error is why the import has failed.
    pub fn import_apply(
        &mut self,
        attempt: Attempt,
        frame: &Request<'_>,
        clock: Clock,
    ) -> Result<Applied, String> {
        if let Err(full) = self.room_for_import(clock) {
            self.import_failed(attempt, &full);
            return Err(full);
        }
        let Some(incoming) = self.imports.iter_mut().find(|it| it.attempt == attempt) else {
            return Err("the import was aborted".to_string());
        };
        if incoming.is_ready()
            && let Some(Ok(Word::Map(map))) = Word::read(frame)
        {
            return self.import_handed_over(*map, clock);
        }
        let db = incoming.db();
        if !self.feeds.is_empty() {
            self.before_arrival(db, frame);
        }
        let tools = Tools {
            databases: &mut self.databases,
            effects: &mut self.effects,
            random: &mut self.random,
            waste: &mut self.waste,
        };
        let Some(incoming) = self.imports.iter_mut().find(|it| it.attempt == attempt) else {
            unreachable!("it was there a moment ago")
        };
        let applied = incoming.apply(frame, tools);
        match &applied {
            Ok(Applied::Some) if self.journal.records() || !self.feeds.is_empty() => {
                self.pass_arrival_on(attempt, db, frame, clock);
            }
            Ok(Applied::Some) => {}
            Ok(Applied::Cut) => self.import_came_to_its_cut(attempt),
            Err(reason) => {
                let reason = reason.clone();
                self.import_failed(attempt, &reason);
            }
        }
        applied
    }

    fn import_came_to_its_cut(&mut self, attempt: Attempt) {
        self.import_confirmed(attempt);
        #[cfg(test)]
        if self.guard.planted == Some(crate::guard::Planted::ReadyAtCut) {
            self.confirm_imports_up_to(Offset(u64::MAX));
        }
    }

    /// A frame of an import is about to be applied: feeds of everything meet its keys before.
    fn before_arrival(&mut self, db: Db, frame: &Request<'_>) {
        let Found::Command(id) = command::lookup(frame.name(), frame.get(1)) else {
            return;
        };
        let space = self.databases.at(db);
        for feed in &mut self.feeds {
            if feed.link().is_some() {
                feed.before_write(db, id, frame, space);
            }
        }
    }

    /// What an import brought is this node's replicas', too, before anybody sees it.
    fn pass_arrival_on(&mut self, attempt: Attempt, db: Db, frame: &Request<'_>, clock: Clock) {
        match Word::read(frame) {
            Some(Ok(Word::Flush(only))) => {
                let import = self.imports.iter().find(|it| it.attempt == attempt);
                let slots = import.map_or_else(SlotSet::new, |it| it.slots().clone());
                for feed in &mut self.feeds {
                    if feed.link().is_some() {
                        feed.forward_drop(&slots, only);
                    }
                }
                if self.journal.records() {
                    self.journal_drop(&slots, only);
                }
            }
            Some(_) => {}
            None => {
                if let Found::Command(id) = command::lookup(frame.name(), frame.get(1)) {
                    for feed in &mut self.feeds {
                        if feed.link().is_some() {
                            feed.forward(db, id, frame, clock.now());
                        }
                    }
                }
                if self.journal.records() {
                    self.journal.add(db, frame.bytes());
                }
            }
        }
        self.close_unit(Unit::Single);
    }

    /// The source does not own the slots any more: the map that the topology gave it is good here, too.
    fn import_handed_over(&mut self, map: ClusterMap, clock: Clock) -> Result<Applied, String> {
        let push = MapPush {
            map,
            handovers: Vec::new(),
            yields: None,
        };
        match self.take_map(push, clock) {
            Ok(()) => Ok(Applied::Some),
            Err(refusal) => Err(refusal.text().to_string()),
        }
    }

    fn room_for_import(&mut self, clock: Clock) -> Result<(), String> {
        if !self.databases.is_over_limit() {
            return Ok(());
        }
        let room = self
            .databases
            .make_room(clock.now(), EVICTIONS_PER_FRAME_MAX);
        self.settle_gone(clock);
        match room {
            Room::Enough | Room::More => Ok(()),
            Room::None => Err(format!(
                "the target is full: {} of {} bytes are used",
                self.databases.used_memory(),
                self.databases.config().maxmemory
            )),
        }
    }

    /// How much of the stream was applied and is confirmed, for the source; to be asked after some frames, and when the bell rings.
    pub fn import_confirmed(&mut self, attempt: Attempt) -> Option<Offset> {
        // A unit that is not closed yet ends somewhere behind the end. That a journal which began after the import is at its beginning says nothing.
        let end = self.journal.end().0 + u64::from(self.journal.has_unit());
        let place = Offset(end.max(1));
        let incoming = self.imports.iter_mut().find(|it| it.attempt == attempt)?;
        incoming.mark(place);
        self.confirm_imports();
        let incoming = self.imports.iter().find(|it| it.attempt == attempt)?;
        Some(incoming.confirmed())
    }

    /// What came in counts once a reply that tells of it might leave.
    pub(crate) fn confirm_imports(&mut self) {
        if !self.imports.is_empty() {
            self.confirm_imports_up_to(self.guard.answers.reached());
        }
    }

    fn confirm_imports_up_to(&mut self, reached: Offset) {
        let mut ready = false;
        for incoming in &mut self.imports {
            ready |= incoming.confirm(reached);
        }
        if ready {
            self.settle_arriving();
            self.release();
        }
    }

    /// True as long as the stream is wanted.
    pub fn import_wants_more(&self, attempt: Attempt) -> bool {
        self.imports
            .iter()
            .any(|it| it.attempt == attempt && !it.is_failed())
    }

    pub fn set_import_bell(&mut self, attempt: Attempt, bell: &Waker) {
        if let Some(incoming) = self.imports.iter_mut().find(|it| it.attempt == attempt) {
            incoming.set_bell(bell);
        }
    }

    /// The connection to the source is gone. What is ready stays: only the topology knows what became of it.
    pub fn import_lost(&mut self, attempt: Attempt, reason: &str) {
        let ready = self
            .imports
            .iter()
            .any(|it| it.attempt == attempt && it.is_ready());
        if !ready {
            self.import_failed(attempt, reason);
        }
    }

    fn import_failed(&mut self, attempt: Attempt, reason: &str) {
        let Some(incoming) = self.imports.iter_mut().find(|it| it.attempt == attempt) else {
            return;
        };
        if incoming.is_failed() {
            return;
        }
        incoming.fail(reason);
        let slots = incoming.slots().clone();
        if self.ownership.role() == Role::Primary {
            self.drop_slots(&slots, None);
        }
        self.settle_arriving();
        self.release();
    }

    /// No import comes to anything here.
    pub(crate) fn fail_imports(&mut self, reason: &str) {
        let attempts: Vec<Attempt> = self.imports.iter().map(|it| it.attempt).collect();
        for attempt in attempts {
            self.import_failed(attempt, reason);
        }
    }

    /// The attempt is void, on whichever side this node is.
    pub(crate) fn abort_attempt(&mut self, attempt: Attempt) {
        self.feeds_heard.forbid(attempt);
        self.imports_heard.forbid(attempt);
        for feed in &mut self.feeds {
            if feed.attempt() == Some(attempt) {
                feed.end("aborted");
            }
        }
        self.settle_holds();
        self.drop_handed_over(attempt);
        self.import_failed(attempt, "aborted");
        self.imports.retain(|it| it.attempt != attempt);
    }

    /// `None`: not yet decided.
    pub(crate) fn import_settled(&self, attempt: Attempt) -> Option<ImportState> {
        match self.imports.iter().find(|it| it.attempt == attempt) {
            Some(incoming) => match incoming.phase() {
                ImportPhase::Copying => None,
                ImportPhase::Ready { .. } | ImportPhase::Failed { .. } | ImportPhase::Unknown => {
                    Some(incoming.state())
                }
            },
            None => Some(ImportState {
                attempt,
                phase: ImportPhase::Unknown,
                keys: 0,
                bytes: 0,
                slots_done: 0,
            }),
        }
    }

    pub fn imports(&self) -> &[Incoming] {
        &self.imports
    }

    /// Slots whose keys are all here and whose map is not.
    fn settle_arriving(&mut self) {
        let mut arriving = SlotSet::new();
        for incoming in self.imports.iter().filter(|it| it.is_ready()) {
            arriving = arriving.union(incoming.slots());
        }
        self.ownership.set_arriving(arriving);
    }

    fn forget_old_failures(&mut self) {
        while self.imports.iter().filter(|it| it.is_failed()).count() > FAILED_IMPORTS_MAX {
            let Some(oldest) = self.imports.iter().position(Incoming::is_failed) else {
                return;
            };
            self.imports.remove(oldest);
        }
    }

    // When the map changes.

    /// A map that hands attempts over is taken only while each of them is still held.
    pub(crate) fn check_handovers(
        &self,
        attempts: &[Attempt],
        clock: Clock,
    ) -> Result<(), Refusal> {
        for &attempt in attempts {
            let holds = self
                .feeds
                .iter()
                .any(|feed| feed.attempt() == Some(attempt) && feed.may_hand_over(clock));
            if !holds {
                return Err(Refusal::new(format!("LETGO {attempt}")));
            }
        }
        Ok(())
    }

    /// After a map was taken: feeds of slots that are gone end, imports of slots that came are over.
    /// The keys of slots `kept` are this node's own, from its files.
    pub(crate) fn settle_moves(
        &mut self,
        gained: &SlotSet,
        lost: &SlotSet,
        handovers: &[Attempt],
        kept: &SlotSet,
    ) {
        let back = self.settle_handed_over();
        let mut stays = SlotSet::new();
        for feed in &mut self.feeds {
            if let Some(attempt) = feed.attempt()
                && !feed.slots().is_disjoint(lost)
            {
                let handed_over = handovers.contains(&attempt);
                if handed_over {
                    self.stats.moves_out.add(1);
                    stays = stays.union(feed.slots());
                    let epoch = self.ownership.epoch();
                    self.handed_over.extend(HandedOver::new(feed, epoch));
                }
                feed.finish(handed_over.then(|| self.ownership.map()));
            }
        }
        self.settle_holds();
        #[cfg(test)]
        if self.guard.planted == Some(crate::guard::Planted::DroppedAtHandover) {
            stays = SlotSet::new();
        }
        self.drop_slots(&lost.difference(&stays), None);
        let mut arrived = SlotSet::new();
        for incoming in &mut self.imports {
            if incoming.slots().is_disjoint(gained) {
                continue;
            }
            if incoming.is_ready() {
                self.stats.moves_in.add(1);
                arrived = arrived.union(incoming.slots());
            }
            incoming.ring();
        }
        // Half of a slot's keys is worse than none: what came without its cut is dropped.
        let half = gained.difference(&arrived).difference(kept);
        let half = half.difference(&back);
        self.drop_slots(&half, None);
        self.imports.retain(|it| it.slots().is_disjoint(gained));
        self.settle_arriving();
    }
}

fn too_late(attempt: Attempt, newer: Attempt) -> Refusal {
    Refusal::new(format!(
        "ERR attempt {attempt} comes too late: attempt {newer} is about the same slots"
    ))
}
