//! How long commands take: the slow log, latency events, and a histogram of each command.
//!
//! The engine reads no clock: the shell lends it a stopwatch. Commands that may take long are timed one by one; of those
//! that are fast by their nature, a batch's time is shared out among them, unless somebody asked for every command.

mod events;
mod histogram;
mod slowlog;

use larder_wire::Refusal;
use larder_wire::command::{self, CommandId, Flags};
use larder_wire::resp::Request;

pub use events::{Event, Events, SAMPLES_MAX, Sample};
pub use histogram::{Histogram, Histograms};
pub use slowlog::{SlowEntry, SlowLog};

use crate::clock::Clock;
use crate::config::Parameter;
use crate::node::Node;
use crate::session::Session;
use crate::turn::Outcome;

/// Nanoseconds since some moment; never goes back.
pub type Stopwatch = fn() -> u64;

/// Requests with more arguments than this are timed, however fast their command is called.
const FAST_ARGS_MAX: usize = 16;
/// With a slow log that takes commands shorter than this, in microseconds, every command is timed.
const SHARED_OUT_BELOW_US: i64 = 1000;

/// What is known of how long commands took, and what is to be kept of it.
#[derive(Debug)]
pub struct Timing {
    pub slow: SlowLog,
    pub events: Events,
    pub histograms: Histograms,
    stopwatch: Stopwatch,
    /// Of the batch at hand: what the commands that were timed took.
    timed_nanos: u64,
    /// Every command is timed.
    every: bool,
    /// Histograms are kept.
    tracks: bool,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            slow: SlowLog::default(),
            events: Events::default(),
            histograms: Histograms::default(),
            stopwatch: || 0,
            timed_nanos: 0,
            every: false,
            tracks: true,
        }
    }
}

impl Node {
    /// The shell's clock for measuring how long something takes.
    pub fn set_stopwatch(&mut self, stopwatch: Stopwatch) {
        self.timing.stopwatch = stopwatch;
    }

    /// Takes over the parameters that say what is kept.
    pub(crate) fn apply_timing(&mut self) {
        let slower_than = self.config.int(Parameter::SlowlogLogSlowerThan);
        let threshold = self.config.int(Parameter::LatencyMonitor) as u64;
        self.timing
            .slow
            .limit(self.config.int(Parameter::SlowlogMaxLen) as usize);
        self.timing.slow.slower_than_us = u64::try_from(slower_than).ok();
        self.timing.events.threshold_ms = threshold;
        self.timing.tracks = self.config.flag(Parameter::LatencyTracking);
        self.timing.every = (0..SHARED_OUT_BELOW_US).contains(&slower_than) || threshold > 0;
    }

    /// Starts timing a command; `None` when it is one of those that share their batch's time.
    #[inline]
    pub(crate) fn start_timing(&self, id: CommandId, request: &Request<'_>) -> Option<u64> {
        let shares = command::spec(id).flags.has(Flags::FAST)
            && request.len() <= FAST_ARGS_MAX
            && !self.timing.every;
        (!shares).then(|| (self.timing.stopwatch)())
    }

    /// A command that was timed from `started` is done.
    pub(crate) fn end_timing(
        &mut self,
        session: &Session,
        id: CommandId,
        request: &Request<'_>,
        started: u64,
        clock: Clock,
        result: &Result<Outcome, Refusal>,
    ) {
        let mut nanos = (self.timing.stopwatch)().saturating_sub(started);
        self.timing.timed_nanos += nanos;
        match result {
            // What it asked for comes after the call.
            Ok(Outcome::Stall { us }) => nanos += us * 1000,
            Ok(Outcome::Held | Outcome::Blocked) => return,
            // It goes on from slice to slice, and is timed to its end.
            Ok(Outcome::Script) => {
                if let Some(run) = self.scripts.run.as_mut().filter(|run| run.id == id) {
                    run.timed_from = Some(started);
                }
                return;
            }
            Ok(_) | Err(_) => {}
        }
        self.took(id, nanos, 1);
        self.note_slow(session, id, request, nanos, clock);
    }

    pub(crate) fn now_nanos(&self) -> u64 {
        (self.timing.stopwatch)()
    }

    /// A command that waited is served since `started`; its wait is nobody's work.
    pub(crate) fn note_served(
        &mut self,
        session: &Session,
        id: CommandId,
        request: &Request<'_>,
        started: u64,
        clock: Clock,
    ) {
        let nanos = self.now_nanos().saturating_sub(started);
        self.took(id, nanos, 1);
        self.note_slow(session, id, request, nanos, clock);
    }

    /// So many calls took so long each.
    fn took(&mut self, id: CommandId, nanos: u64, calls: u32) {
        self.stats.of(id).nanos.add(nanos * u64::from(calls));
        if self.timing.tracks {
            self.timing.histograms.of(id).add(nanos, calls);
        }
    }

    /// A command was run that shares the time of its batch.
    #[inline]
    pub(crate) fn add_to_batch(&mut self, id: CommandId) {
        match self.batch.last_mut() {
            Some((last, calls)) if *last == id => *calls += 1,
            Some(_) | None => self.batch.push((id, 1)),
        }
    }

    fn note_slow(
        &mut self,
        session: &Session,
        id: CommandId,
        request: &Request<'_>,
        nanos: u64,
        clock: Clock,
    ) {
        let flags = command::spec(id).flags;
        let us = nanos / 1000;
        if !flags.has(Flags::SKIP_SLOWLOG)
            && self
                .timing
                .slow
                .slower_than_us
                .is_some_and(|least| us >= least)
        {
            let client = &session.client;
            let entry = SlowEntry::new(id, request, us, clock.unix_seconds(), client);
            self.timing.slow.add(entry);
        }
        let event = if flags.has(Flags::FAST) {
            Event::FastCommand
        } else {
            Event::Command
        };
        if id != CommandId::Exec {
            self.timing
                .events
                .note(event, nanos / 1_000_000, clock.unix_seconds());
        }
    }

    /// Runs a step of background work, and notes it when it took long.
    pub(crate) fn timed_step<R>(
        &mut self,
        event: Event,
        clock: Clock,
        step: impl FnOnce(&mut Node) -> R,
    ) -> R {
        if self.timing.events.threshold_ms == 0 {
            return step(self);
        }
        let started = (self.timing.stopwatch)();
        let result = step(self);
        let took_ms = (self.timing.stopwatch)().saturating_sub(started) / 1_000_000;
        self.timing
            .events
            .note(event, took_ms, clock.unix_seconds());
        result
    }

    /// The commands since the last call took `nanos` together: those that were not timed are given equal shares of the rest.
    pub fn batch_took(&mut self, nanos: u64) {
        let nanos = nanos.saturating_sub(std::mem::take(&mut self.timing.timed_nanos));
        let count: u64 = self.batch.iter().map(|(_, calls)| u64::from(*calls)).sum();
        if count == 0 {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        for (id, calls) in batch.drain(..) {
            self.took(id, nanos / count, calls);
        }
        self.batch = batch;
    }
}
