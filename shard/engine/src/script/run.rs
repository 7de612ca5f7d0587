//! One execution of a script or function: its start, the commands that it calls, its end.
//!
//! A script that takes long is left aside between slices ([`Outcome::Script`]); whoever serves the caller's connection goes on with it by
//! [`Node::go_on`]. Past `busy-reply-threshold` the node serves others between the slices, and tells them BUSY. Nobody's writes come
//! between those of a script.

use std::rc::Rc;

use larder_store::{Db, ValueType};
use larder_wire::command::{self, CommandId, Flags as CommandFlags, Found};
use larder_wire::resp::{OwnedRequest, Protocol, ReplyWriter, Request};
use larder_wire::{Refusal, Slot};

use super::flags::{self, Flags};
use super::machine::{Answer, Ask, Done, Job, Kind, Machine};
use crate::call::{FirstKey, is_control, is_served, may_replicate, settle_reply_mode};
use crate::clock::Clock;
use crate::config::Parameter;
use crate::exec::transaction;
use crate::node::Node;
use crate::ownership::Verdict;
use crate::session::{ReplyMode, Session};
use crate::turn::{Outcome, Turn};

/// A script that runs.
pub(crate) struct Run {
    pub(crate) machine: Machine,
    pub(crate) kind: Kind,
    /// The digest, or the function's name.
    pub(crate) name: Rc<str>,
    /// EVAL or the like, and all of the request once the script has run for a while.
    pub(crate) id: CommandId,
    pub(crate) request: Option<OwnedRequest>,
    /// Where the stopwatch stood when it began; known once it has run for a while.
    pub(crate) timed_from: Option<u64>,
    caller: u64,
    caller_db: Db,
    /// Its commands run as of this time.
    started: Clock,
    /// The time of the last slice.
    pub(crate) seen: Clock,
    /// What its commands run with.
    session: Session,
    reply_protocol: Protocol,
    read_only: bool,
    allow_oom: bool,
    /// Its commands may be about several slots.
    cross_slot: bool,
    /// The slot that its commands are about so far.
    slot: Option<Slot>,
    /// Memory was full when it began.
    out_of_memory: bool,
    /// How long its commands want the node to stand still (`DEBUG SLEEP`), in microseconds.
    stall_us: u64,
    /// It called a command that writes.
    pub(crate) wrote: bool,
    pub(crate) killed: bool,
    pub(crate) busy: bool,
}

impl Run {
    /// The caller's request.
    pub(crate) fn words(&self) -> impl Iterator<Item = &[u8]> {
        self.request
            .iter()
            .flat_map(|request| request.view().args_from(0))
    }

    pub(crate) fn ran_ms(&self, clock: Clock) -> u64 {
        clock.mono_ms.saturating_sub(self.started.mono_ms)
    }
}

/// What is to be run, found by EVAL or FCALL.
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) name: Rc<str>,
    pub(crate) slot: usize,
    pub(crate) flags: Flags,
    /// By one of the commands that end in `_RO`.
    pub(crate) read_only: bool,
    /// Arguments of the request that are keys, from the fourth on.
    pub(crate) keys: usize,
}

/// Starts a script, and runs it to its end if it is short.
pub(crate) fn start(turn: &mut Turn<'_>, plan: &Plan) -> Result<Outcome, Refusal> {
    let out_of_memory = turn.node.make_room(turn.clock).is_err();
    if out_of_memory && plan.flags.denies_oom() {
        return Err(Refusal::OUT_OF_MEMORY);
    }
    check_flags(turn, plan)?;
    let machine = turn.node.scripts.take_machine(plan.kind)?;
    {
        let mut mail = machine.mail().borrow_mut();
        mail.keys = plan.keys;
        mail.is_eval = plan.kind == Kind::Scripts;
        mail.arguments.start(turn.request.len() - 3);
        for argument in turn.request.args_from(3) {
            let fits = mail.arguments.push(argument);
            debug_assert!(fits, "a request that arrived is not too long");
        }
    }
    let cluster = !turn.node.ownership.is_standalone();
    let declared = (cluster && plan.keys > 0).then(|| larder_wire::slot_of(turn.request.arg(3)));
    let mut run = Box::new(Run {
        machine,
        kind: plan.kind,
        name: Rc::clone(&plan.name),
        id: turn.id,
        request: None,
        timed_from: None,
        caller: turn.session.client.id,
        caller_db: turn.session.db,
        started: turn.clock,
        seen: turn.clock,
        session: turn.session.for_script(),
        reply_protocol: turn.session.protocol,
        read_only: plan.read_only || plan.flags.only_reads(),
        allow_oom: !plan.flags.has(Flags::COMPATIBLE) && plan.flags.has(Flags::ALLOW_OOM),
        cross_slot: plan.flags.has(Flags::COMPATIBLE) || plan.flags.has(Flags::ALLOW_CROSS_SLOT),
        slot: declared,
        out_of_memory,
        stall_us: 0,
        wrote: false,
        killed: false,
        busy: false,
    });
    let job = Job::Run {
        slot: plan.slot,
        resp3: turn.session.protocol == Protocol::Resp3,
    };
    match turn.node.advance(&mut run, Answer::Job(job)) {
        Some(done) => turn.node.finish(run, done, turn.reply.buffer()),
        None => {
            run.request = Some(OwnedRequest::from(turn.request));
            turn.node.scripts.run = Some(run);
            Ok(Outcome::Script)
        }
    }
}

/// What the script says about itself against what the node and the command allow.
fn check_flags(turn: &Turn<'_>, plan: &Plan) -> Result<(), Refusal> {
    if plan.flags.has(Flags::COMPATIBLE) {
        return Ok(());
    }
    if plan.flags.has(Flags::NO_CLUSTER) && !turn.node.ownership.is_standalone() {
        return Err(Refusal::fixed(
            "ERR Can not run script on cluster, 'no-cluster' flag is set.",
        ));
    }
    if plan.read_only && !plan.flags.has(Flags::NO_WRITES) {
        return Err(Refusal::fixed(
            "ERR Can not execute a script with write flag using *_ro command.",
        ));
    }
    if let Some(refusal) = &turn.node.refuses_writes
        && !plan.flags.has(Flags::NO_WRITES)
    {
        return Err(refusal.clone());
    }
    Ok(())
}

impl Node {
    /// A script was left aside; its caller's connection is to go on with it.
    pub fn script_of(&self, session: &Session) -> bool {
        let caller = session.client.id;
        self.scripts
            .run
            .as_ref()
            .is_some_and(|run| run.caller == caller)
    }

    /// The script that runs has passed `busy-reply-threshold`: others are served between its slices.
    pub fn script_is_busy(&self) -> bool {
        self.scripts.is_busy()
    }

    /// A line that a script logged, and whether it is a warning.
    pub fn take_script_log(&mut self) -> Option<(bool, String)> {
        let (level, line) = self.scripts.take_log()?;
        Some((level > 2, line))
    }

    /// Another slice of the script that `session` left aside; then what its transaction has behind it.
    pub fn go_on(&mut self, session: &mut Session, clock: Clock, out: &mut Vec<u8>) -> Outcome {
        let observed = self.is_observed();
        if observed {
            self.before_observed(session, out);
        }
        let mark = out.len();
        let outcome = self.go_on_with_script(session, clock, out);
        if outcome != Outcome::Script {
            if self.blocked.has_ready() {
                self.serve_blocked(clock);
            }
            if self.journal.has_unit() {
                self.close_journal_unit(session);
            }
            if observed {
                self.after_observed(session);
            }
            let skip = session.reply_mode == ReplyMode::SkipNext;
            settle_reply_mode(session, skip, out, mark);
        }
        outcome
    }

    fn go_on_with_script(
        &mut self,
        session: &mut Session,
        clock: Clock,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let Some(mut run) = self.scripts.run.take() else {
            return Outcome::Done;
        };
        run.seen = clock;
        let ran_ms = clock.mono_ms.saturating_sub(run.started.mono_ms);
        let threshold_ms = self.config.int(Parameter::BusyReplyThreshold);
        run.busy |= threshold_ms > 0 && ran_ms >= threshold_ms as u64;
        let answer = if run.killed { Answer::Kill } else { Answer::Go };
        let Some(done) = self.advance(&mut run, answer) else {
            self.scripts.run = Some(run);
            return Outcome::Script;
        };
        let (id, was_busy) = (run.id, run.busy);
        let timed = run.timed_from.zip(run.request.take());
        let outcome = self.finish(run, done, out).unwrap_or_else(|refusal| {
            self.stats.of(id).failed.add(1);
            self.count_error(&refusal);
            ReplyWriter::new(out, session.protocol).error(&refusal);
            Outcome::Done
        });
        if let Some((started, request)) = timed {
            let result = Ok(outcome.clone());
            self.end_timing(session, id, &request.view(), started, clock, &result);
        }
        if was_busy {
            self.release();
        }
        match session.multi_rest.take() {
            Some(rest) => transaction::go_on(self, session, rest, clock, out),
            None => outcome,
        }
    }

    /// Runs a script until it ends or its slice does; carries out what it asks for.
    fn advance(&mut self, run: &mut Run, first: Answer) -> Option<Done> {
        let mut ask = run.machine.resume(first);
        loop {
            match ask {
                Ask::Idle(done) => return Some(done),
                Ask::Tick => return None,
                Ask::Call => self.call_for_script(run),
                Ask::MayCall => self.judge_for_script(run),
                Ask::Log { level } => {
                    let line = run.machine.mail().borrow_mut().take_text();
                    self.scripts.log(level, &line);
                }
            }
            ask = run.machine.resume(Answer::Go);
        }
    }

    /// The script's reply, or the error that ended it. An error that a command counted already is written here.
    fn finish(&mut self, run: Box<Run>, done: Done, out: &mut Vec<u8>) -> Result<Outcome, Refusal> {
        let run = *run;
        // A script's SELECT is its own.
        run.session.client.db.set(run.caller_db);
        let result = {
            let mut mail = run.machine.mail().borrow_mut();
            let result = match done {
                Done::Good => {
                    out.extend_from_slice(&mail.reply);
                    Ok(Outcome::Done)
                }
                Done::Failed { counted } => {
                    let refusal = refusal_of(&mail.text, &run.name);
                    if counted {
                        self.stats.of(run.id).failed.add(1);
                        ReplyWriter::new(out, run.reply_protocol).error(&refusal);
                        Ok(Outcome::Done)
                    } else {
                        Err(refusal)
                    }
                }
            };
            mail.tidy();
            result
        };
        self.scripts.put_machine(run.kind, run.machine);
        match result {
            Ok(Outcome::Done) if run.stall_us > 0 => Ok(Outcome::Stall { us: run.stall_us }),
            result => result,
        }
    }

    fn call_for_script(&mut self, run: &mut Run) {
        let mail = Rc::clone(run.machine.mail());
        let (command, mut reply) = {
            let mut mail = mail.borrow_mut();
            run.session.protocol = if mail.resp3 {
                Protocol::Resp3
            } else {
                Protocol::Resp2
            };
            (
                std::mem::take(&mut mail.command),
                std::mem::take(&mut mail.reply),
            )
        };
        reply.clear();
        let sorted = self.in_fixed_order(run, &command.view());
        let request = sorted.as_ref().map_or(command.view(), OwnedRequest::view);
        match self.admit_from_script(run, &request) {
            Ok((id, first_key)) => {
                let outcome = self.run(
                    &mut run.session,
                    id,
                    request,
                    first_key,
                    run.started,
                    &mut reply,
                );
                match outcome {
                    // The whole node stands still when the script is over.
                    Outcome::Stall { us } => run.stall_us += us,
                    Outcome::Done | Outcome::Close => {}
                    other => unreachable!("a script's command ends at once: {other:?}"),
                }
            }
            Err(refusal) => {
                self.count_error(&refusal);
                ReplyWriter::new(&mut reply, run.session.protocol).error(&refusal);
            }
        }
        let mut mail = mail.borrow_mut();
        mail.command = command;
        mail.reply = reply;
    }

    /// SORT of a set BY a pattern that names no key leaves the order open; a script gets its members by name, so that it does the same
    /// everywhere.
    fn in_fixed_order(&self, run: &Run, request: &Request<'_>) -> Option<OwnedRequest> {
        let name = request.name();
        if !name.eq_ignore_ascii_case(b"sort") && !name.eq_ignore_ascii_case(b"sort_ro") {
            return None;
        }
        let is = |index: usize, word: &str| {
            request
                .get(index)
                .is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
        };
        let by = (2..request.len()).find(|index| is(*index, "by"))?;
        let pattern = request.get(by + 1)?;
        let keyspace = self.databases.get(run.session.db)?;
        let value = keyspace.peek_type(request.arg(1), run.started.now())?;
        if pattern.contains(&b'*') || value != ValueType::Set {
            return None;
        }
        let kept = |index: usize| index != by && index != by + 1;
        let words: Vec<&[u8]> = (0..request.len())
            .filter(|index| kept(*index))
            .map(|index| request.arg(index))
            .chain([b"alpha".as_slice()])
            .collect();
        Some(OwnedRequest::from_args(words))
    }

    /// The one door of a script's commands, as `admit` in call.rs is that of clients'.
    fn admit_from_script(
        &self,
        run: &mut Run,
        request: &Request<'_>,
    ) -> Result<(CommandId, FirstKey), Refusal> {
        let forbidden = |id| command::spec(id).flags.has(CommandFlags::NOSCRIPT) || is_control(id);
        let id = match command::lookup(request.name(), request.get(1)) {
            Found::Command(id) if is_served(id) || forbidden(id) => id,
            Found::Command(_) | Found::UnknownSubcommand(_) | Found::Unknown => {
                return Err(Refusal::fixed(
                    "ERR Unknown Redis command called from script",
                ));
            }
        };
        let spec = command::spec(id);
        let refused = |refusal| {
            self.stats.of(id).rejected.add(1);
            Err(refusal)
        };
        if !spec.takes(request.len()) {
            return refused(Refusal::fixed(
                "ERR Wrong number of args calling Redis command from script",
            ));
        }
        if forbidden(id) && !(self.debug.scripts_call_all && is_served(id)) {
            return refused(Refusal::fixed(
                "ERR This Redis command is not allowed from script",
            ));
        }
        if let Err(refusal) = self.admit_scripted(&run.session, id, request, run.started) {
            return refused(refusal);
        }
        let writes = spec.is_write();
        if run.read_only && may_replicate(id) {
            return refused(Refusal::fixed(
                "ERR Write commands are not allowed from read-only scripts.",
            ));
        }
        if writes
            && !run.wrote
            && let Some(refusal) = &self.refuses_writes
        {
            return refused(refusal.clone());
        }
        let denied = run.out_of_memory
            && !run.allow_oom
            && !run.wrote
            && spec.flags.has(CommandFlags::DENYOOM);
        if denied {
            return refused(Refusal::OUT_OF_MEMORY);
        }
        run.wrote |= writes;
        match self.judge_slots(run, id, request) {
            Ok(first_key) => Ok((id, first_key)),
            Err(refusal) => refused(refusal),
        }
    }

    /// Ownership of a script's command: keys that were not declared are judged, too.
    fn judge_slots(
        &self,
        run: &mut Run,
        id: CommandId,
        request: &Request<'_>,
    ) -> Result<FirstKey, Refusal> {
        let elsewhere = "ERR Script attempted to access a non local key in a cluster node";
        let (verdict, first_key) = match self.judge(&run.session, id, request) {
            Ok(judged) => judged,
            Err(refusal) if refusal == Refusal::CROSS_SLOT => {
                return Err(Refusal::fixed(elsewhere));
            }
            Err(refusal) => return Err(refusal),
        };
        match verdict {
            Verdict::Go => {}
            // A script cannot wait: others would see half of what it does.
            Verdict::Hold | Verdict::Moved => return Err(Refusal::fixed(elsewhere)),
            Verdict::Down => {
                return Err(Refusal::fixed(
                    "ERR Script attempted to execute a command while the cluster is down",
                ));
            }
        }
        if let Some((_, place)) = first_key
            && !run.cross_slot
            && !self.ownership.is_standalone()
            && *run.slot.get_or_insert(place.slot) != place.slot
        {
            return Err(Refusal::fixed(
                "ERR Script attempted to access keys that do not hash to the same slot",
            ));
        }
        Ok(first_key)
    }

    /// `redis.acl_check_cmd`: whether the caller may call the command.
    fn judge_for_script(&self, run: &Run) {
        let mut mail = run.machine.mail().borrow_mut();
        let request = mail.command.view();
        let found = match command::lookup(request.name(), request.get(1)) {
            Found::Command(id) if is_served(id) => Some(id),
            Found::Command(_) | Found::UnknownSubcommand(_) | Found::Unknown => None,
        };
        let allowed = found.map(|id| self.check_acl(&run.session.user, id, &request).is_ok());
        mail.reply.clear();
        let answer: &[u8] = match allowed {
            Some(true) => b"+yes\r\n",
            Some(false) => b"+no\r\n",
            None => b"-ERR unknown\r\n",
        };
        mail.reply.extend_from_slice(answer);
    }

    /// A command that runs a script which is not known to write nothing.
    #[inline]
    pub(crate) fn script_may_write(&self, id: CommandId, request: &Request<'_>) -> bool {
        runs_script(id) && !self.only_reads(id, request)
    }

    /// A command that runs a script which says that it writes nothing.
    pub(crate) fn script_only_reads(&self, id: CommandId, request: &Request<'_>) -> bool {
        runs_script(id) && self.only_reads(id, request)
    }

    fn only_reads(&self, id: CommandId, request: &Request<'_>) -> bool {
        let name = request.get(1).unwrap_or(b"");
        let flags = match id {
            CommandId::Fcall => self.scripts.libraries.function(name).map(|it| it.flags),
            CommandId::Evalsha => self.scripts.find(name).map(|it| it.flags),
            _ => match self.scripts.seen(name) {
                Some(script) => Some(script.flags),
                None => flags::of_script(name).ok().map(|(flags, _)| flags),
            },
        };
        flags.is_some_and(Flags::only_reads)
    }

    /// `SCRIPT KILL` and `FUNCTION KILL`.
    pub(crate) fn kill_script(&mut self, kind: Kind) -> Result<(), Refusal> {
        let Some(run) = &mut self.scripts.run else {
            return Err(Refusal::fixed("NOTBUSY No scripts in execution right now."));
        };
        if run.wrote {
            return Err(Refusal::fixed(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
            ));
        }
        if run.kind != kind {
            return Err(busy(run.kind));
        }
        run.killed = true;
        Ok(())
    }

    /// What clients are told while a script is busy.
    pub(crate) fn busy_refusal(&self) -> Option<Refusal> {
        let run = self.scripts.run.as_ref().filter(|run| run.busy)?;
        Some(busy(run.kind))
    }
}

/// It runs a script that may write.
fn runs_script(id: CommandId) -> bool {
    matches!(id, CommandId::Eval | CommandId::Evalsha | CommandId::Fcall)
}

pub(crate) fn busy(kind: Kind) -> Refusal {
    Refusal::fixed(match kind {
        Kind::Scripts => {
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
        }
        Kind::Functions => {
            "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
        }
    })
}

/// An error's text as the machine left it: where it happened stands behind a zero byte.
fn refusal_of(text: &[u8], name: &str) -> Refusal {
    let (message, place) = match text.iter().position(|byte| *byte == 0) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, [].as_slice()),
    };
    let message = String::from_utf8_lossy(message);
    if place.is_empty() {
        return Refusal::new(message);
    }
    let place = String::from_utf8_lossy(place);
    Refusal::new(format!("{message} script: {name}, on {place}."))
}
