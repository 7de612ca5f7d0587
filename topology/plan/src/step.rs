//! The plan's one door: `step`. Order inside a step: absorb the event, decide, record what was decided,
//! and act only when everything decided is recorded.

use crate::event::{Action, Event, Level};
use crate::soft::{AttemptSoft, FailoverSoft, OperationSoft, Soft};
use crate::state::State;

/// A record without an outcome for this long is made again.
const RECORD_MS_MAX: u64 = 10_000;

/// Two steps lie this far apart only when the topology itself was held up, in milliseconds.
const HELD_UP_MS: u64 = 400;

/// The plan of one cluster.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) state: State,
    pub(crate) soft: Soft,
    /// The state as it last went to the record, and its number.
    sent: State,
    sent_seq: u64,
    /// Highest number that is known to be recorded.
    recorded_seq: u64,
    record_again: bool,
    record_failed: bool,
    sent_at: u64,
    /// Where operators are told to have nodes join.
    pub(crate) topology_addr: String,
    #[cfg(test)]
    pub(crate) planted: crate::sim::Planted,
}

impl Plan {
    /// `state` is what the store of record holds, or a first state, which is recorded by the first step.
    /// `topology_addr` is where nodes join: operators who are short of nodes are told it.
    pub fn new(state: State, topology_addr: &str, now_ms: u64) -> Plan {
        let mut soft = Soft {
            now: now_ms,
            began_at: now_ms,
            epoch_seen: state.epoch(),
            ..Soft::default()
        };
        soft.operation = OperationSoft::begun(now_ms, state.operation.as_ref());
        for id in state.nodes.keys() {
            let node = soft.node(*id);
            (node.seen_at, node.answered_at) = (now_ms, now_ms);
        }
        for failover in state.failovers.values() {
            let begun = FailoverSoft::begun(now_ms);
            soft.failovers.insert(failover.number, begun);
        }
        for id in state.attempts.keys() {
            let handed = state.handover.as_ref().map(|handover| handover.attempt);
            soft.attempts
                .insert(*id, AttemptSoft::found(now_ms, handed == Some(*id)));
        }
        Plan {
            sent: state.clone(),
            state,
            soft,
            sent_seq: 0,
            recorded_seq: 0,
            record_again: true,
            record_failed: false,
            sent_at: 0,
            topology_addr: topology_addr.to_string(),
            #[cfg(test)]
            planted: crate::sim::Planted::Nothing,
        }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// Milliseconds of a clock that never steps back go in with every event.
    pub fn step(&mut self, now_ms: u64, event: Event) -> Vec<Action> {
        self.pass_time(now_ms);
        self.absorb(event);
        self.decide();
        self.record();
        if self.recorded() {
            self.act();
        }
        std::mem::take(&mut self.soft.out)
    }

    /// A topology that was held up itself has heard nobody meanwhile: that is no silence of theirs.
    fn pass_time(&mut self, now_ms: u64) {
        let now = now_ms.max(self.soft.now);
        let gap = now - self.soft.now;
        if gap > HELD_UP_MS {
            for soft in self.soft.nodes.values_mut() {
                soft.answered_at += gap;
            }
        }
        self.soft.now = now;
    }

    fn absorb(&mut self, event: Event) {
        match event {
            Event::NodeJoined(join) => self.node_joined(join),
            Event::ProxyJoined(join) => self.proxy_joined(join),
            Event::NodeAnswered(state) => self.node_answered(*state),
            Event::NodeUnreachable {
                node,
                reason,
                process_gone,
            } => self.node_unreachable(node, reason, process_gone),
            Event::Operator { request, order } => self.ordered(request, order),
            Event::Pushed {
                node,
                run_id,
                epoch,
                result,
            } => self.pushed(node, run_id, epoch, result),
            Event::Fenced {
                node,
                number,
                result,
            } => self.fenced(node, number, result),
            Event::Yielded {
                node,
                run_id,
                number,
                result,
            } => self.yielded(node, run_id, number, result),
            Event::Aborted {
                node,
                run_id,
                attempt,
                epoch,
            } => self.aborted(node, run_id, attempt, epoch),
            Event::ImportAnswered { attempt, result } => self.import_answered(attempt, result),
            Event::Import {
                attempt,
                phase,
                keys,
                bytes,
            } => self.import_ended(attempt, phase, keys, bytes),
            Event::AwaitBroken { attempt } => self.await_broken(attempt),
            Event::Recorded { seq, result } => self.was_recorded(seq, result),
            Event::NodeStarter { able } => self.soft.starter = able,
            Event::Tick => self.ticked(),
        }
    }

    /// Each part looks at the state and takes it one step further, if it can.
    fn decide(&mut self) {
        self.form();
        self.note_reach();
        self.suspect();
        self.drop_hopeless_plans();
        self.watch_yields();
        self.decide_failovers();
        self.tend_lost_shards();
        self.repair();
        self.tend_replicas();
        self.begin_yields();
        self.plan_operation();
        self.begin_handover();
        self.finish_operation();
        self.cut_attempts();
    }

    fn record(&mut self) {
        if self.state == self.sent && !self.record_again {
            return;
        }
        self.debug_check();
        (self.record_again, self.record_failed) = (false, false);
        self.sent_at = self.soft.now;
        self.sent = self.state.clone();
        self.sent_seq += 1;
        let (seq, state) = (self.sent_seq, Box::new(self.state.clone()));
        self.soft.out.push(Action::Record { seq, state });
    }

    /// True when the state as it stands is in the store of record.
    pub(crate) fn recorded(&self) -> bool {
        #[cfg(test)]
        if self.planted == crate::sim::Planted::ActBeforeRecord {
            return true;
        }
        self.recorded_seq == self.sent_seq
    }

    fn was_recorded(&mut self, seq: u64, result: Result<(), String>) {
        match result {
            Ok(()) => self.recorded_seq = self.recorded_seq.max(seq),
            // Said again with the next tick: until then nothing is decided that could be acted on.
            Err(reason) => {
                self.record_failed = true;
                self.log(
                    Level::Error,
                    format!("the store of record takes no writes: {reason} (changes wait)"),
                );
            }
        }
    }

    fn ticked(&mut self) {
        // A write that failed, or whose outcome got lost, is made again with the present state.
        let overdue = self.soft.now.saturating_sub(self.sent_at) > RECORD_MS_MAX;
        self.record_again = self.record_failed || overdue && !self.recorded();
        self.forget_the_silent();
        self.watch_attempts();
        self.sample();
    }

    /// True when the handover under way is one that the store of record holds.
    pub(crate) fn handover_recorded(&self) -> bool {
        self.recorded() && self.sent.handover == self.state.handover
    }

    pub(crate) fn yield_recorded(&self) -> bool {
        self.recorded() && self.sent.yielding == self.state.yielding
    }

    pub(crate) fn log(&mut self, level: Level, text: String) {
        self.soft.out.push(Action::Log { level, text });
    }

    fn debug_check(&mut self) {
        if cfg!(debug_assertions) {
            if let Err(broken) = self.state.check() {
                panic!("the plan broke an invariant: {broken}");
            }
            let epoch = self.state.epoch();
            assert!(epoch >= self.soft.epoch_seen, "the epoch went back");
        }
        self.soft.epoch_seen = self.state.epoch();
    }
}
