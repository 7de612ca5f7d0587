//! The append-only file: what of the journal is in files, and when these are made anew.
//!
//! ```text
//! journal ──read──▶ the shell's writer ──write, sync──▶ appendonlydir/NAME.n.incr.aof
//!    │                    └── how far ──▶ `append_progress` ──▶ answers that wait (`appendfsync always`)
//!    └ a rewrite: a snapshot of one moment becomes NAME.n.base.rdb, and the increment that begins at that moment is all that follows it
//! ```
//! `manifest.rs` knows which files there are, `read.rs` and `load.rs` take them in. Here is what the node knows of it: whether it runs, how far it is, what stops it. Writes no
//! files: the shell does, on a thread of its own, and the node waits for it nowhere. Bounded by [`BACKLOG_BYTES_MAX`] and by time: past either, writes wait.

pub mod load;
pub mod manifest;
pub mod read;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use larder_store::Db;
use larder_wire::{Offset, Refusal};

use crate::client::Client;
use crate::clock::Clock;
use crate::config::Parameter;
use crate::journal::Keeper;
use crate::node::Node;
use crate::snapshot::Produced;

/// What may wait to be written, in bytes: past it the disk is slower than the writes, and these wait.
pub const BACKLOG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What may wait to be written, in milliseconds, as in Redis.
pub const BACKLOG_MS_MAX: u64 = 2000;
/// Rewrites that may fail at once; each further one waits twice as long as the one before.
const FAILURES_FREE: u32 = 3;
const FAILED_WAIT_MS: u64 = 60_000;
const FAILED_WAIT_MS_MAX: u64 = 3_600_000;

/// When what is written is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before it is answered.
    Always,
    EverySecond,
    /// When the system does it.
    No,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Off,
    /// What is written is kept, but counts only with the base that is being made.
    Starting,
    On,
}

/// How far the files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Given to the system.
    pub written: Offset,
    /// On the disk.
    pub synced: Offset,
    /// Bytes of all files that are loaded at a start.
    pub file_bytes: u64,
}

#[derive(Default)]
pub struct Append {
    phase: Phase,
    at: Written,
    /// Why nothing can be written.
    fault: Option<String>,
    /// The disk is slower than the writes.
    behind: bool,
    /// A rewrite is wanted.
    scheduled: bool,
    /// Where another file begins, and the first is told to whoever writes.
    cuts: VecDeque<(Offset, Option<Db>)>,
    last_cut: Offset,
    /// Bytes of the files when they were last made anew.
    base_bytes: u64,
    rewrites: u64,
    /// In a row.
    failures: u32,
    failed_at_ms: u64,
    last_took_ms: Option<u64>,
}

impl Append {
    #[inline]
    pub fn is_on(&self) -> bool {
        self.phase != Phase::Off
    }

    /// True once the files alone give all data.
    pub fn is_whole(&self) -> bool {
        self.phase == Phase::On
    }

    pub fn written(&self) -> Written {
        self.at
    }

    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Writes wait for the disk.
    #[inline]
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    pub fn is_scheduled(&self) -> bool {
        self.scheduled
    }

    pub fn base_bytes(&self) -> u64 {
        self.base_bytes
    }

    pub fn rewrites(&self) -> u64 {
        self.rewrites
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn last_took_ms(&self) -> Option<u64> {
        self.last_took_ms
    }

    /// The next offset at which another file begins.
    pub fn next_cut(&self) -> Option<Offset> {
        self.cuts.front().map(|(offset, _)| *offset)
    }

    /// Where the last base began, whose file is or will be begun.
    pub fn last_cut(&self) -> Offset {
        self.last_cut
    }

    pub fn take_cut(&mut self) -> Option<(Offset, Option<Db>)> {
        self.cuts.pop_front()
    }

    fn may_try_again(&self, clock: Clock) -> bool {
        if self.failures < FAILURES_FREE {
            return true;
        }
        let doubled = FAILED_WAIT_MS << (self.failures - FAILURES_FREE).min(6);
        clock.mono_ms >= self.failed_at_ms + doubled.min(FAILED_WAIT_MS_MAX)
    }
}

impl Node {
    /// The operator wants the files.
    pub fn wants_append(&self) -> bool {
        self.config.flag(Parameter::Appendonly)
    }

    /// A replica's journal is its primary's: without one there is nothing to write.
    pub fn may_append(&self) -> bool {
        !self.is_replica() || self.journal.is_on()
    }

    pub fn append_fsync(&self) -> Fsync {
        match self.config.get(Parameter::Appendfsync) {
            "always" => Fsync::Always,
            "no" => Fsync::No,
            _ => Fsync::EverySecond,
        }
    }

    /// The files are open: what is written from here on goes into them. `whole`: with what is in them already they give all data; otherwise a rewrite follows that
    /// makes it so. Returns where they go on.
    pub fn begin_append(&mut self, whole: bool, file_bytes: u64) -> Offset {
        self.append.phase = match whole {
            true => Phase::On,
            false => Phase::Starting,
        };
        self.append.fault = None;
        self.append.scheduled = !whole;
        self.append.cuts.clear();
        self.append.base_bytes = file_bytes;
        self.settle_journal();
        self.say_db_in_file();
        let end = self.journal.end();
        self.append.at = Written {
            written: end,
            synced: end,
            file_bytes,
        };
        self.journal.set_floor(Keeper::File, Some(end));
        self.settle_append();
        end
    }

    /// A file begins: what follows says its database. The bytes of another's journal are as they are; of those the remark before them says it.
    fn say_db_in_file(&mut self) {
        if !self.is_replica() && !self.is_restoring() {
            self.journal.forget_db();
        }
    }

    /// Nothing is written any more.
    pub fn end_append(&mut self) {
        self.append.phase = Phase::Off;
        self.append.fault = None;
        self.append.behind = false;
        self.append.scheduled = false;
        self.append.cuts.clear();
        self.give_up_rewrite();
        self.journal.set_floor(Keeper::File, None);
        self.settle_journal();
        self.settle_append();
        self.settle_write_refusal();
        self.release();
    }

    /// What came of writing: how far it is, whether it stands still and why, whether the writes are too fast.
    pub fn append_progress(&mut self, at: Written, fault: Option<String>, behind: bool) {
        self.append.at = at;
        if self.append.fault != fault {
            self.append.fault = fault;
            self.settle_write_refusal();
        }
        if self.append.behind != behind {
            self.append.behind = behind;
            self.release();
        }
        self.settle_append();
        self.serve_waits_for_copies();
    }

    /// After a change of what answers wait for.
    pub(crate) fn settle_append(&mut self) {
        let asked = self.append.phase == Phase::On && self.append_fsync() == Fsync::Always;
        let reached = asked.then_some(self.append.at.synced);
        self.set_in_file(reached);
    }

    pub(crate) fn append_refusal(&self) -> Option<Refusal> {
        let fault = self.append.fault.as_ref()?;
        Some(Refusal::new(format!(
            "MISCONF Errors writing to the AOF file: {fault}"
        )))
    }

    /// While nothing can be written, who only reads is answered all the same: the data up to `place` are what they were, and in `safe` a replica has them.
    pub(crate) fn reads_go_on(&self, client: &Client, place: Offset) -> bool {
        let answers = &self.guard.answers;
        self.append.fault.is_some()
            && answers.replicas_have(place)
            && client.wrote_up_to.get() <= answers.reached()
    }

    /// Replies wait for a file that cannot be written at the moment.
    pub(crate) fn waits_in_vain(&self) -> bool {
        self.append.fault.is_some() && self.append_fsync() == Fsync::Always
    }

    // Rewrites.

    /// `BGREWRITEAOF`: true when it begins at once. Where nothing is appended the files are a base alone.
    pub(crate) fn schedule_rewrite(&mut self, clock: Clock) -> Result<bool, Refusal> {
        let begins =
            self.append.scheduled && !self.saving.is_running() && self.append.may_try_again(clock);
        if begins || self.saving.is_rewriting() {
            return Err(Refusal::fixed(
                "ERR Background append only file rewriting already in progress",
            ));
        }
        self.append.scheduled = true;
        Ok(!self.saving.is_running())
    }

    /// Growth alone asks for a rewrite, too.
    pub(crate) fn rewrite_when_due(&mut self, clock: Clock) {
        let append = &self.append;
        if append.phase != Phase::On || append.scheduled || self.saving.is_running() {
            return;
        }
        let percent = self.config.size(Parameter::AofRewritePercentage);
        let size = append.at.file_bytes;
        let grown = size.saturating_sub(append.base_bytes) * 100 / append.base_bytes.max(1);
        let due = percent > 0
            && size > self.config.size(Parameter::AofRewriteMinSize)
            && grown >= percent
            && append.may_try_again(clock);
        self.append.scheduled = due;
    }

    /// Begins the rewrite that is wanted, if it can begin now: in the middle of a transaction there is no moment. The offset is that of the moment.
    pub fn take_rewrite(&mut self, clock: Clock) -> Option<Offset> {
        let begins = self.append.is_on() && self.begin_rewrite_when_due(clock);
        begins.then(|| self.cut())
    }

    /// The same where nothing is appended: nothing follows the base.
    pub fn take_lone_rewrite(&mut self, clock: Clock) -> bool {
        !self.append.is_on() && self.begin_rewrite_when_due(clock)
    }

    /// A base is being made.
    pub fn is_rewriting(&self) -> bool {
        self.saving.is_rewriting()
    }

    fn begin_rewrite_when_due(&mut self, clock: Clock) -> bool {
        let able = self.append.scheduled
            && self.append.may_try_again(clock)
            && !self.saving.is_running()
            && self.loading.is_none()
            && self.is_between_units();
        if able {
            self.append.scheduled = false;
            self.begin_base(clock);
        }
        able
    }

    fn is_between_units(&self) -> bool {
        !self.journal.has_unit() && !self.scripts.is_busy()
    }

    /// What follows goes into another file.
    fn cut(&mut self) -> Offset {
        self.say_db_in_file();
        let end = self.journal.end();
        self.append.cuts.push_back((end, self.journal.db()));
        self.append.last_cut = end;
        end
    }

    /// As [`Node::produce_save`], of the base. After [`Produced::Anew`] it is of a later moment, and what counts is the file that begins there.
    pub fn produce_rewrite(
        &mut self,
        limit: usize,
        clock: Clock,
        out: &mut Vec<u8>,
    ) -> Option<Produced> {
        if !self.saving.is_rewriting() {
            return None;
        }
        if !self.saving.is_void() {
            return self.produce_base(limit, out);
        }
        if !self.is_between_units() {
            return Some(Produced::More);
        }
        self.begin_base(clock);
        if self.append.is_on() {
            self.cut();
        }
        self.produce_base(limit, out).map(|_| Produced::Anew)
    }

    /// The base is in its place, of so many bytes, or will never be.
    pub fn end_rewrite(&mut self, result: Result<u64, String>, clock: Clock) {
        let Some(took_ms) = self.end_base(clock) else {
            return;
        };
        self.append.last_took_ms = Some(took_ms);
        match result {
            Ok(base_bytes) => {
                self.append.rewrites += 1;
                self.append.failures = 0;
                self.append.base_bytes = base_bytes;
                if self.append.phase == Phase::Starting {
                    self.append.phase = Phase::On;
                }
            }
            Err(_) => {
                self.append.failures += 1;
                self.append.failed_at_ms = clock.mono_ms;
                // Without a base the files are nothing.
                self.append.scheduled = self.append.phase == Phase::Starting;
            }
        }
        self.settle_append();
    }
}
