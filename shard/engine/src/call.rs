//! The choke point: every command of every client passes here.
//!
//! ```text
//! look up → arity → authentication → trust → rights of the user → [queued by MULTI] → slots → memory → run → effects → count
//! ```
//!
//! A refusal takes back what was written of the reply. Nothing here knows how a command works.

use larder_store::{Call, Db, KeyPlace, Room};
use larder_wire::command::{self, CommandId, Flags, Found, Home, KeyFlags, Route, keys};
use larder_wire::control::HOLD_MS_MAX;
use larder_wire::resp::{OwnedRequest, ReplyWriter, Request};
use larder_wire::{Refusal, Slot, slot_of};

use crate::ahead::Known;
use crate::clock::Clock;
use crate::dispatch::{Run, run_of};
use crate::journal::Unit;
use crate::node::Node;
use crate::ownership::{Verdict, admit};
use crate::session::{ReplyMode, Session};
use crate::turn::{Outcome, Turn};

/// Longest wait of one request for the map of slots whose keys have arrived, in milliseconds: the map follows
/// within a hold, or not at all.
pub const ARRIVAL_WAIT_MS_MAX: u64 = 2 * HOLD_MS_MAX;
/// Most bytes that one transaction may queue.
pub const MULTI_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Most keys that one write evicts before it runs; the timer goes on with the rest.
const EVICTIONS_PER_WRITE_MAX: usize = 64;

/// The first key of a request: its argument, and its place.
pub(crate) type FirstKey = Option<(usize, KeyPlace)>;

/// What the checks before a command's execution say.
enum Admitted {
    Run(CommandId, FirstKey),
    Queue(CommandId),
    Hold,
}

impl Node {
    /// One request of one connection; the reply is appended to `out`.
    pub fn call(
        &mut self,
        session: &mut Session,
        request: Request<'_>,
        clock: Clock,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let known = Known::of(&request);
        self.call_known(session, request, known, clock, out)
    }

    /// As [`Node::call`], of a request that was looked at before.
    pub fn call_known(
        &mut self,
        session: &mut Session,
        request: Request<'_>,
        known: Known,
        clock: Clock,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let observed = self.is_observed();
        if observed {
            self.before_observed(session, out);
        }
        let skip = session.reply_mode == ReplyMode::SkipNext;
        session.client.active_ms.set(clock.mono_ms);
        let admitted = self.admit(session, &request, known, clock);
        if observed {
            // What was evicted to make room is told before the reply.
            session.client.take_post(out);
        }
        let mark = out.len();
        let outcome = match admitted {
            Ok(Admitted::Run(id, first_key)) => {
                if self.answers_may_wait() && self.waits_for_answer(id) {
                    self.guard.answers.touched = true;
                }
                self.run(session, id, request, first_key, clock, out)
            }
            Ok(Admitted::Queue(id)) => queue(session, id, request, out),
            Ok(Admitted::Hold) => Outcome::Held,
            Err(refusal) => {
                session.spoil();
                self.count_error(&refusal);
                ReplyWriter::new(out, session.protocol).error(&refusal);
                match session.denied {
                    Some(text) if refusal.text() == text => Outcome::Close,
                    Some(_) | None => Outcome::Done,
                }
            }
        };
        if matches!(outcome, Outcome::Held) {
            out.truncate(mark);
            if session.held_since.is_none() {
                session.held_since = Some(clock.mono_ms);
                self.stats.held_requests.add(1);
            }
            return outcome;
        }
        if session.held_since.take().is_some() {
            session.client.postponed.set(false);
        }
        if matches!(outcome, Outcome::Script) {
            return outcome;
        }
        if self.blocked.has_ready() {
            self.serve_blocked(clock);
        }
        if self.journal.has_unit() {
            self.close_journal_unit(session);
        }
        if observed {
            self.after_observed(session);
        }
        if session.reply_mode != ReplyMode::On {
            settle_reply_mode(session, skip, out, mark);
        }
        outcome
    }

    fn admit(
        &mut self,
        session: &mut Session,
        request: &Request<'_>,
        known: Known,
        clock: Clock,
    ) -> Result<Admitted, Refusal> {
        let id = match known.found {
            Found::Command(id) => id,
            Found::UnknownSubcommand(container) => {
                if is_control(container) && !session.trust.has_control() {
                    return Err(Refusal::CONTROL_REFUSED);
                }
                return Err(unknown_subcommand(container, request));
            }
            Found::Unknown => return Err(unknown_command(request)),
        };
        session.client.last_command.set(Some(id));
        let admitted = self.admit_command(session, id, request, known.key, clock);
        let admitted = match admitted {
            Ok(Admitted::Run(..) | Admitted::Queue(_)) if needs_memory(session, id) => {
                self.make_room(clock).and(admitted)
            }
            // Who tracks keys hears before the reply of those that went.
            Ok(Admitted::Run(..) | Admitted::Queue(_))
                if self.is_observed() || self.followers.any() =>
            {
                self.make_room(clock).ok();
                admitted
            }
            Ok(_) | Err(_) => admitted,
        };
        admitted.map_err(|refusal| {
            self.stats.of(id).rejected.add(1);
            if id == CommandId::Exec {
                if !self.monitors.is_empty() {
                    self.show_to_monitors(session, id, request, clock);
                }
                self.abort_exec(session, refusal)
            } else {
                refusal
            }
        })
    }

    /// An EXEC that is not admitted ends the transaction all the same.
    fn abort_exec(&mut self, session: &mut Session, refusal: Refusal) -> Refusal {
        session.multi = None;
        session.client.queued.set(None);
        self.unwatch(session);
        let cause = refusal.text();
        Refusal::new(format!(
            "EXECABORT Transaction discarded because of: {}",
            cause.strip_prefix("ERR ").unwrap_or(cause)
        ))
    }

    /// Evicts a bounded number of keys when memory is full; refused when nothing may go.
    pub(crate) fn make_room(&mut self, clock: Clock) -> Result<(), Refusal> {
        // What goes from a replica goes because its primary says so.
        if !self.databases.is_over_limit() || self.is_replica() {
            return Ok(());
        }
        let room = self
            .databases
            .make_room(clock.now(), EVICTIONS_PER_WRITE_MAX);
        self.settle_gone(clock);
        self.close_unit(Unit::Single);
        match room {
            Room::Enough | Room::More => Ok(()),
            Room::None => Err(Refusal::OUT_OF_MEMORY),
        }
    }

    fn admit_command(
        &self,
        session: &Session,
        id: CommandId,
        request: &Request<'_>,
        key: FirstKey,
        clock: Clock,
    ) -> Result<Admitted, Refusal> {
        let spec = command::spec(id);
        // The cluster's own verbs are nobody's business who has not shown the secret: not even their arity.
        if is_control(id) && id != CommandId::LarderHello && !session.trust.has_control() {
            return Err(Refusal::CONTROL_REFUSED);
        }
        match spec.home {
            Home::Store | Home::Engine => {}
            Home::Container if spec.takes(request.len()) => {
                return Err(unknown_subcommand(id, request));
            }
            Home::Container => {}
            Home::Nobody => return Err(unknown(id, request)),
        }
        if !spec.takes(request.len()) {
            return Err(Refusal::wrong_arity(spec.name));
        }
        if !spec.flags.has(Flags::NO_AUTH) {
            if let Some(text) = session.denied {
                return Err(Refusal::fixed(text));
            }
            if self.needs_login(session) {
                return Err(Refusal::NO_AUTH);
            }
        }
        if session.multi.is_some() && spec.flags.has(Flags::NO_MULTI) {
            return Err(Refusal::fixed(
                "ERR Command not allowed inside a transaction",
            ));
        }
        self.admit_user(session, id, request, clock)?;
        if self.loading.is_some()
            && !spec.flags.has(Flags::LOADING)
            && !is_control(id)
            && let Some(refusal) = self.loading_refusal()
        {
            return Err(refusal);
        }
        if self.scripts.is_busy()
            && !spec.flags.has(Flags::ALLOW_BUSY)
            && !is_control(id)
            && let Some(refusal) = self.busy_refusal()
        {
            return Err(refusal);
        }
        let (verdict, first_key) = match key {
            Some(_) => (self.judge_one(session, id, key), key),
            None => self.judge(session, id, request)?,
        };
        match verdict {
            Verdict::Go => {}
            Verdict::Hold if self.may_wait(session, first_key, clock) => return Ok(Admitted::Hold),
            Verdict::Hold | Verdict::Moved => return Err(self.moved(first_key)),
            Verdict::Down => return Err(Refusal::CLUSTER_DOWN),
        }
        if session.is_listening() && !may_while_listening(id) {
            return Err(Refusal::new(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                spec.name
            )));
        }
        if session.client.monitor.get() && touches_keys(id) {
            return Err(Refusal::fixed(
                "ERR Replica can't interact with the keyspace",
            ));
        }
        if let Some(refusal) = &self.refuses_reads
            && touches_data(session, id)
        {
            return Err(refusal.clone());
        }
        if let Some(refusal) = &self.refuses_writes
            && (writes(session, id)
                || (self.guard.refuses_writes().is_some() && self.script_may_write(id, request))
                || (id == CommandId::Ping && self.cannot_persist()))
        {
            return Err(refusal.clone());
        }
        // The disk is slower than the writes.
        if self.append.is_behind() && writes(session, id) && !session.trust.has_control() {
            return Ok(Admitted::Hold);
        }
        if self.paused(session, id, request, clock) {
            session.client.postponed.set(true);
            return Ok(Admitted::Hold);
        }
        if session.multi.is_some() && !runs_in_multi(id) {
            return Ok(Admitted::Queue(id));
        }
        Ok(Admitted::Run(id, first_key))
    }

    /// What ownership says to a request with one key.
    #[inline]
    fn judge_one(&self, session: &Session, id: CommandId, key: FirstKey) -> Verdict {
        match key {
            Some((_, place)) if !self.ownership.is_standalone() => {
                let writes = command::spec(id).is_write();
                admit(
                    self.ownership.standing(place.slot),
                    writes,
                    session.readonly,
                )
            }
            Some(_) | None => Verdict::Go,
        }
    }

    /// What ownership says to a request. The slot is that of the first key, or of the first that must not be served here.
    pub(crate) fn judge(
        &self,
        session: &Session,
        id: CommandId,
        request: &Request<'_>,
    ) -> Result<(Verdict, FirstKey), Refusal> {
        let spec = command::spec(id);
        let mut positions = keys::positions(id, request);
        let Some(first) = positions.next() else {
            if spec.flags.has(Flags::PUBSUB) && !spec.keys.is_empty() {
                return self.judge_channels(id, request);
            }
            if matches!(id, CommandId::Flushall | CommandId::Flushdb) {
                self.check_stated_epoch(request)?;
            }
            if spec.is_write() && self.is_replica() {
                return Err(Refusal::READ_ONLY);
            }
            return Ok((self.judge_keyless(id), None));
        };
        let place = self.databases.place_of(request.arg(first.at));
        let slot = place.slot;
        let first_key = Some((first.at, place));
        if self.ownership.is_standalone() {
            return Ok((Verdict::Go, first_key));
        }
        let writes = spec.is_write() || self.script_may_write(id, request);
        let mut worst = (
            admit(self.ownership.standing(slot), writes, session.readonly),
            first_key,
        );
        for key in positions {
            let bytes = request.arg(key.at);
            let other = slot_of(bytes);
            if other == slot {
                continue;
            }
            if !(session.trust.is_proxy() && matches!(spec.route, Route::Split(_))) {
                return Err(Refusal::CROSS_SLOT);
            }
            let verdict = admit(self.ownership.standing(other), writes, session.readonly);
            if severity(verdict) > severity(worst.0) {
                worst = (verdict, Some((key.at, self.databases.place_of(bytes))));
            }
        }
        if worst.0 == Verdict::Go {
            worst.1 = first_key;
        }
        Ok(worst)
    }

    /// Channels of slots are no keys, but belong to their slot as keys do.
    fn judge_channels(
        &self,
        id: CommandId,
        request: &Request<'_>,
    ) -> Result<(Verdict, FirstKey), Refusal> {
        if self.ownership.is_standalone() || request.len() < 2 {
            return Ok((Verdict::Go, None));
        }
        let last = if id == CommandId::Spublish {
            1
        } else {
            request.len() - 1
        };
        let slot = slot_of(request.arg(1));
        if (2..=last).any(|at| slot_of(request.arg(at)) != slot) {
            return Err(Refusal::CROSS_SLOT);
        }
        let verdict = admit(self.ownership.standing(slot), false, true);
        Ok((verdict, Some((1, self.databases.place_of(request.arg(1))))))
    }

    /// FLUSHALL and the like touch all slots: they wait for every hold, and no replica takes them.
    fn judge_keyless(&self, id: CommandId) -> Verdict {
        let spec = command::spec(id);
        let touches_all = spec.is_write() && spec.keys.is_empty();
        if touches_all && !self.ownership.held().is_empty() {
            Verdict::Hold
        } else {
            Verdict::Go
        }
    }

    /// `FLUSHALL … EPOCH n`, as a proxy says it to every node, is carried out by the map of that epoch or not at all. By one map
    /// each slot is one node's; with two a slot that moves between them could be missed.
    fn check_stated_epoch(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let at = request.len().saturating_sub(2);
        let stated =
            (at > 0 && request.arg(at).eq_ignore_ascii_case(b"epoch")).then(|| request.arg(at + 1));
        let own = self.ownership.epoch();
        match stated {
            Some(epoch) if epoch != own.to_string().as_bytes() => Err(Refusal::new(format!(
                "TRYAGAIN this node's slot map is of epoch {own}"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// A hold at the source ends by itself; the wait for a map is bounded here.
    pub(crate) fn may_wait(&self, session: &Session, first_key: FirstKey, clock: Clock) -> bool {
        let waited = session
            .held_since
            .map_or(0, |since| clock.mono_ms.saturating_sub(since));
        let owned = first_key.is_none_or(|(_, place)| self.ownership.slots().contains(place.slot));
        owned || waited < ARRIVAL_WAIT_MS_MAX
    }

    pub(crate) fn moved(&self, first_key: FirstKey) -> Refusal {
        let Some((_, KeyPlace { slot, .. })) = first_key else {
            return Refusal::CLUSTER_DOWN;
        };
        self.moved_to(slot)
    }

    pub(crate) fn moved_to(&self, slot: Slot) -> Refusal {
        match self.ownership.map().primary_of(slot) {
            Some(primary) => Refusal::moved(slot, &primary.addr),
            None => Refusal::CLUSTER_DOWN,
        }
    }

    fn paused(
        &self,
        session: &Session,
        id: CommandId,
        request: &Request<'_>,
        clock: Clock,
    ) -> bool {
        let Some(pause) = self.pause else {
            return false;
        };
        let writes = || match (&session.multi, id) {
            (Some(multi), CommandId::Exec) => multi.queue.iter().any(|(queued, request)| {
                may_replicate(*queued) && !self.script_only_reads(*queued, &request.view())
            }),
            _ => may_replicate(id) && !self.script_only_reads(id, request),
        };
        clock.mono_ms < pause.until_ms
            && !session.trust.has_control()
            && id != CommandId::ClientUnpause
            && (!pause.writes_only || writes())
    }

    /// Executes an admitted command, and does with its effects what is to be done.
    #[inline(always)]
    pub(crate) fn run(
        &mut self,
        session: &mut Session,
        id: CommandId,
        request: Request<'_>,
        first_key: FirstKey,
        clock: Clock,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let observed = self.is_observed();
        if observed && command::spec(id).flags.has(Flags::SKIP_MONITOR) {
            self.observe_script(session, id, &request, clock);
        }
        let started = self.start_timing(id, &request);
        let mark = out.len();
        let result = match run_of(id) {
            Run::Store(exec) => self.run_store(exec, id, session, request, first_key, clock, out),
            Run::Engine(exec) => exec(&mut Turn {
                node: self,
                id,
                request,
                clock,
                reply: ReplyWriter::new(out, session.protocol),
                session,
            }),
            Run::Container | Run::Nobody => Err(unknown(id, &request)),
        };
        self.count_call(id, first_key, &result);
        match started {
            Some(started) => self.end_timing(session, id, &request, started, clock, &result),
            None => self.add_to_batch(id),
        }
        if self.journal.records() && result.is_ok() {
            self.journal_command(session.db, id, &request, &out[mark..]);
        }
        if observed {
            self.observe(session, id, &request, clock, &result);
        }
        result.unwrap_or_else(|refusal| {
            out.truncate(mark);
            self.count_error(&refusal);
            ReplyWriter::new(out, session.protocol).error(&refusal);
            Outcome::Done
        })
    }

    #[inline]
    pub(crate) fn count_call(
        &mut self,
        id: CommandId,
        first_key: FirstKey,
        result: &Result<Outcome, Refusal>,
    ) {
        if matches!(result, Ok(Outcome::Held)) {
            return;
        }
        let counts = self.stats.of(id);
        counts.calls.add(1);
        if result.is_err() {
            counts.failed.add(1);
        }
        self.stats.commands_processed.add(1);
        if let Some((_, place)) = first_key {
            self.stats.of_slot(place.slot).add(1);
        }
    }

    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    pub(crate) fn run_store(
        &mut self,
        exec: larder_store::Exec,
        id: CommandId,
        session: &Session,
        request: Request<'_>,
        first_key: FirstKey,
        clock: Clock,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, Refusal> {
        let flags = command::spec(id).flags;
        let writes = flags.has(Flags::WRITE);
        if writes {
            self.stats.writes.add(1);
            self.before_write(session.db, id, &request);
        } else {
            self.stats.reads.add(1);
        }
        let heard = !self.feeds.is_empty() || self.keys_are_heard();
        self.effects.restart(heard);
        let quiet = session.client.no_touch.get() && id != CommandId::Touch;
        let keyspace = self.databases.at(session.db);
        if quiet {
            keyspace.set_quiet(true);
        }
        let result = exec(&mut Call {
            keyspace: &mut *keyspace,
            request,
            first_key,
            now: clock.now(),
            reply: ReplyWriter::new(out, session.protocol),
            effects: &mut self.effects,
            random: &mut self.random,
        });
        if quiet {
            keyspace.set_quiet(false);
        }
        if keyspace.has_news() {
            self.settle_gone(clock);
        }
        if !self.effects.is_empty() {
            self.saving.count_change();
            if !self.feeds.is_empty() {
                self.feed_effects(session.db, request, clock);
            }
            if self.journal.records() {
                self.journal_effects(session.db, request);
            }
            self.touch_effects(session.db, request);
        }
        result.map(|()| Outcome::Done)
    }

    /// Keys that expired or were evicted on the way, and fields that expired: their removal comes before the command's own effects. Then
    /// events are told.
    pub(crate) fn settle_gone(&mut self, clock: Clock) {
        while let Some((db, gone)) = self.databases.take_gone_fields() {
            for gone in gone {
                self.touch_key(db, &gone.key);
                self.feed_gone_fields(db, &gone, clock);
                if self.journal.records() {
                    self.journal_gone_fields(db, &gone);
                }
            }
        }
        while let Some((db, gone)) = self.databases.take_gone() {
            for (_, key) in gone {
                self.touch_key(db, &key);
                self.blocked.signal(db, &key);
                self.feed_gone(db, &key, clock);
                if self.journal.records() {
                    self.journal_gone(db, &key);
                }
            }
        }
        self.tell_events();
    }

    fn touch_effects(&mut self, db: Db, request: Request<'_>) {
        if !self.keys_are_heard() {
            return;
        }
        let effects = std::mem::take(&mut self.effects);
        for effect in effects.iter(request) {
            let Found::Command(id) = command::lookup(effect.name(), effect.get(1)) else {
                continue;
            };
            let written = |key: &keys::KeyAt| !key.flags.has(KeyFlags::RO);
            for key in keys::positions(id, &effect).filter(written) {
                self.touch_key(db, effect.arg(key.at));
            }
            self.signal_effect(db, id, &effect);
        }
        self.effects = effects;
    }
}

/// What becomes of the reply that begins at `mark`; `skip`: the mode is for this reply alone.
pub(crate) fn settle_reply_mode(session: &mut Session, skip: bool, out: &mut Vec<u8>, mark: usize) {
    match session.reply_mode {
        ReplyMode::On => {}
        ReplyMode::Off => out.truncate(mark),
        ReplyMode::SkipNext => {
            out.truncate(mark);
            if skip {
                session.reply_mode = ReplyMode::On;
            }
        }
    }
}

/// Somebody executes it.
pub(crate) fn is_served(id: CommandId) -> bool {
    matches!(command::spec(id).home, Home::Store | Home::Engine)
}

/// How much a verdict stands in the way; the worst of several keys counts.
fn severity(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Go => 0,
        Verdict::Hold => 1,
        Verdict::Down => 2,
        Verdict::Moved => 3,
    }
}

/// Whether a command writes, or those that it sets off.
fn writes(session: &Session, id: CommandId) -> bool {
    match (&session.multi, id) {
        (Some(multi), CommandId::Exec) => {
            let mut queued = multi.queue.iter();
            queued.any(|(queued, _)| command::spec(*queued).is_write())
        }
        _ => command::spec(id).is_write(),
    }
}

/// Whether a command reads or writes data, or those that it sets off.
fn touches_data(session: &Session, id: CommandId) -> bool {
    match (&session.multi, id) {
        (Some(multi), CommandId::Exec) => {
            let mut queued = multi.queue.iter();
            queued.any(|(queued, _)| touches_keys(*queued))
        }
        _ => touches_keys(id),
    }
}

/// Whether a command asks for memory, or one of a transaction that is about to run.
fn needs_memory(session: &Session, id: CommandId) -> bool {
    let asks = |id| command::spec(id).flags.has(Flags::DENYOOM);
    match (&session.multi, id) {
        (Some(multi), CommandId::Exec) => multi.queue.iter().any(|(queued, _)| asks(*queued)),
        _ => asks(id),
    }
}

/// What a client that is shown every command may not do.
pub(crate) fn touches_keys(id: CommandId) -> bool {
    command::spec(id).flags.has(Flags::READONLY) || may_replicate(id)
}

/// Writes, and what Redis may pass on to replicas as if it were one; the flag of the latter is hidden in its `COMMAND` reply.
pub(crate) fn may_replicate(id: CommandId) -> bool {
    command::spec(id).is_write()
        || matches!(
            id,
            CommandId::Pfcount
                | CommandId::Publish
                | CommandId::Spublish
                | CommandId::Eval
                | CommandId::Evalsha
                | CommandId::Fcall
        )
}

/// Commands of a RESP2 client that has subscribed.
fn may_while_listening(id: CommandId) -> bool {
    matches!(
        id,
        CommandId::Ping
            | CommandId::Subscribe
            | CommandId::Ssubscribe
            | CommandId::Psubscribe
            | CommandId::Unsubscribe
            | CommandId::Sunsubscribe
            | CommandId::Punsubscribe
            | CommandId::Quit
            | CommandId::Reset
    )
}

/// Commands that are executed at once inside a transaction.
fn runs_in_multi(id: CommandId) -> bool {
    matches!(
        id,
        CommandId::Exec
            | CommandId::Discard
            | CommandId::Multi
            | CommandId::Watch
            | CommandId::Quit
            | CommandId::Reset
    )
}

/// The control protocol is the last part of the command table.
pub(crate) fn is_control(id: CommandId) -> bool {
    id >= CommandId::Larder
}

fn queue(session: &mut Session, id: CommandId, request: Request<'_>, out: &mut Vec<u8>) -> Outcome {
    let mut reply = ReplyWriter::new(out, session.protocol);
    let Some(multi) = &mut session.multi else {
        unreachable!("only a transaction queues")
    };
    let owned = OwnedRequest::from(request);
    multi.bytes += owned.size();
    if multi.bytes > MULTI_BYTES_MAX {
        multi.spoilt = true;
        multi.queue.clear();
        reply.error(&Refusal::fixed(
            "ERR transaction is too large (it may queue 512 MB)",
        ));
        return Outcome::Done;
    }
    multi.queue.push((id, owned));
    session.client.queued.set(Some(multi.queue.len()));
    session.client.queued_bytes.set(multi.bytes);
    reply.simple("QUEUED");
    Outcome::Done
}

fn unknown(id: CommandId, request: &Request<'_>) -> Refusal {
    match command::spec(id).name.split_once('|') {
        Some((container, _)) => unknown_subcommand_of(container, request),
        None => unknown_command(request),
    }
}

fn unknown_subcommand(container: CommandId, request: &Request<'_>) -> Refusal {
    unknown_subcommand_of(command::spec(container).name, request)
}

fn unknown_subcommand_of(container: &str, request: &Request<'_>) -> Refusal {
    Refusal::new(format!(
        "ERR unknown subcommand '{}'. Try {} HELP.",
        clip(request.get(1).unwrap_or(b""), 128),
        container.to_ascii_uppercase()
    ))
}

fn unknown_command(request: &Request<'_>) -> Refusal {
    let mut args = String::new();
    for arg in request.args_from(1) {
        if args.len() >= 128 {
            break;
        }
        args.push_str(&format!("'{}' ", clip(arg, 128 - args.len())));
    }
    Refusal::new(format!(
        "ERR unknown command '{}', with args beginning with: {args}",
        clip(request.name(), 128)
    ))
}

/// What Redis prints of an argument: up to `max` bytes of it, or up to its first zero byte.
fn clip(bytes: &[u8], max: usize) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let end = end.unwrap_or(bytes.len()).min(max);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_commands_are_exactly_those_of_the_larder_container() {
        for &id in CommandId::ALL {
            let name = command::spec(id).name;
            let larder = name == "larder" || name.starts_with("larder|");
            assert_eq!(is_control(id), larder, "{name}");
        }
    }
}
