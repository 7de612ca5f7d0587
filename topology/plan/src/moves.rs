//! Moves cut into attempts: a node feeds at most one and takes at most one at a time; a failed one is void and
//! tried again, later each time, under another id.

use larder_wire::control::{ImportPhase, ImportState, NodeState};
use larder_wire::{Attempt, NodeId, ShardId};

use crate::event::{Action, Level};
use crate::soft::{AttemptSoft, Phase};
use crate::state::{AttemptRecord, Move};
use crate::step::Plan;
use crate::{ANSWER_MS_MAX, PROGRESS_MS_MAX, RETRY_MS_MAX, RETRY_MS_MIN, SLOTS_PER_MOVE_MAX};

/// Over how long the rates of an operation are taken, in milliseconds.
const RATE_WINDOW_MS: u64 = 3_000;

impl Plan {
    /// Every move whose two nodes are free and well gets an attempt.
    pub(crate) fn cut_attempts(&mut self) {
        let Some(operation) = self.state.operation.clone() else {
            return;
        };
        for part in &operation.moves {
            if let Some(attempt) = self.next_attempt(part) {
                let id = Attempt(self.state.next_attempt);
                self.state.next_attempt += 1;
                self.state.attempts.insert(id, attempt);
                let soft = AttemptSoft::asked(self.soft.now);
                self.soft.attempts.insert(id, soft);
            }
        }
    }

    fn next_attempt(&self, part: &Move) -> Option<AttemptRecord> {
        let waits = self.soft.operation.backoff.get(&(part.from, part.to));
        let later = waits.is_some_and(|backoff| backoff.until > self.soft.now)
            || self.failing_over(part.from)
            || self.failing_over(part.to);
        let source = self.free_node(part.from, |attempt| attempt.source)?;
        let target = self.free_node(part.to, |attempt| attempt.target)?;
        if later || part.slots.is_empty() {
            return None;
        }
        Some(AttemptRecord {
            from: part.from,
            to: part.to,
            source,
            target,
            slots: part.slots.iter().take(SLOTS_PER_MOVE_MAX).collect(),
        })
    }

    /// The shard's primary, if it answers, has the settled map, and `role` of no attempt is it.
    fn free_node(&self, shard: ShardId, role: fn(&AttemptRecord) -> NodeId) -> Option<NodeId> {
        let id = self.state.primary(shard)?.id;
        let soft = self.soft.nodes.get(&id)?;
        let busy = self
            .state
            .attempts
            .values()
            .any(|attempt| role(attempt) == id);
        let well = soft.reachable && soft.acked == self.state.map.epoch;
        (well && !busy).then_some(id)
    }

    /// Who keeps an operation from going on, for people.
    pub(crate) fn unreachable_party(&self) -> Option<String> {
        let operation = self.state.operation.as_ref()?;
        let open = operation.moves.iter().filter(|part| !part.slots.is_empty());
        let mut nodes = open
            .flat_map(|part| [part.from, part.to])
            .filter_map(|shard| self.state.primary(shard));
        let silent = nodes.find(|entry| !self.soft.reachable(entry.id))?;
        Some(format!("node {} does not answer", silent.addr))
    }

    pub(crate) fn import_answered(&mut self, attempt: Attempt, result: Result<(), String>) {
        let Some(soft) = self.soft.attempts.get_mut(&attempt) else {
            return;
        };
        match (soft.phase, result) {
            (Phase::Asked { .. }, Ok(())) => soft.phase = Phase::Copying { awaiting: false },
            (Phase::Asked { .. }, Err(reason)) => self.fail_attempt(attempt, reason),
            // Said twice, or outrun by AWAIT.
            (Phase::Copying { .. } | Phase::Ready { .. }, Ok(()) | Err(_)) => {}
        }
    }

    pub(crate) fn import_ended(
        &mut self,
        attempt: Attempt,
        phase: ImportPhase,
        keys: u64,
        bytes: u64,
    ) {
        let now = self.soft.now;
        let handing_over = self.handing_over(attempt);
        let Some(soft) = self.soft.attempts.get_mut(&attempt) else {
            return;
        };
        soft.keys = soft.keys.max(keys);
        soft.bytes = soft.bytes.max(bytes);
        match (phase, soft.phase) {
            (ImportPhase::Ready { .. }, Phase::Asked { .. } | Phase::Copying { .. }) => {
                soft.phase = Phase::Ready { since: now };
            }
            (ImportPhase::Ready { .. }, Phase::Ready { .. }) => {}
            (ImportPhase::Failed { .. }, _) if handing_over => self.target_lost(),
            (ImportPhase::Failed { reason }, _) => self.fail_attempt(attempt, reason),
            (ImportPhase::Unknown, _) if handing_over => {}
            (ImportPhase::Unknown, Phase::Asked { .. }) => {}
            (ImportPhase::Unknown, Phase::Copying { .. } | Phase::Ready { .. }) => {
                self.fail_attempt(attempt, "its target knows nothing of it".into());
            }
            (ImportPhase::Copying, _) => self.await_broken(attempt),
        }
    }

    pub(crate) fn await_broken(&mut self, attempt: Attempt) {
        let Some(soft) = self.soft.attempts.get_mut(&attempt) else {
            return;
        };
        match soft.phase {
            Phase::Copying { .. } => soft.phase = Phase::Copying { awaiting: false },
            Phase::Asked { .. } | Phase::Ready { .. } => {}
        }
    }

    pub(crate) fn progress(&mut self, import: &ImportState) {
        let now = self.soft.now;
        let Some(soft) = self.soft.attempts.get_mut(&import.attempt) else {
            return;
        };
        let before = (soft.keys, soft.bytes, soft.slots_done);
        soft.keys = soft.keys.max(import.keys);
        soft.bytes = soft.bytes.max(import.bytes);
        soft.slots_done = soft.slots_done.max(import.slots_done);
        if (soft.keys, soft.bytes, soft.slots_done) != before {
            soft.progress_at = now;
        }
    }

    /// Attempts that their target no longer lists are void. A probe may have been answered before the import
    /// began, so young attempts are left alone.
    pub(crate) fn miss_imports(&mut self, answer: &NodeState) {
        let now = self.soft.now;
        let missing = self.state.attempts.iter().filter(|(id, attempt)| {
            let old = self.soft.attempts.get(id).is_some_and(|soft| {
                matches!(soft.phase, Phase::Copying { .. })
                    && now.saturating_sub(soft.began_at) > ANSWER_MS_MAX
            });
            let listed = answer.imports.iter().any(|import| import.attempt == **id);
            attempt.target == answer.id && old && !listed
        });
        for id in missing.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.fail_attempt(id, "its target has given it up".into());
        }
    }

    /// Attempts that nobody answers for, or that stand still, are void.
    pub(crate) fn watch_attempts(&mut self) {
        let now = self.soft.now;
        let overdue = self.soft.attempts.iter().filter_map(|(id, soft)| {
            let since = |at: u64| now.saturating_sub(at);
            match soft.phase {
                Phase::Asked { sent: Some(at) } if since(at) > ANSWER_MS_MAX => {
                    Some((*id, "its target does not answer"))
                }
                Phase::Asked { sent: None } if since(soft.began_at) > PROGRESS_MS_MAX => {
                    Some((*id, "its target is away"))
                }
                Phase::Copying { .. } if since(soft.progress_at) > PROGRESS_MS_MAX => {
                    Some((*id, "it stands still"))
                }
                Phase::Asked { .. } | Phase::Copying { .. } | Phase::Ready { .. } => None,
            }
        });
        for (id, reason) in overdue.collect::<Vec<_>>() {
            self.fail_attempt(id, reason.into());
        }
    }

    /// The attempt is void on both sides; its slots stay with their source.
    pub(crate) fn fail_attempt(&mut self, attempt: Attempt, reason: String) {
        assert!(
            !self.handing_over(attempt),
            "only the source decides a handover"
        );
        self.soft.attempts.remove(&attempt);
        let Some(record) = self.state.attempts.remove(&attempt) else {
            return;
        };
        self.state.counts.moves_failed += 1;
        if let Some(operation) = &mut self.state.operation {
            operation.failures += 1;
        }
        let now = self.soft.now;
        let pair = (record.from, record.to);
        let backoff = self.soft.operation.backoff.entry(pair).or_default();
        let wait = RETRY_MS_MIN << backoff.failures.min(16);
        backoff.failures += 1;
        backoff.until = now + wait.min(RETRY_MS_MAX);
        backoff.reason = reason.clone();
        for node in [record.target, record.source] {
            self.soft.out.push(Action::Abort { node, attempt });
        }
        let (from, to) = (self.addr(record.source), self.addr(record.target));
        let slots = record.slots.len();
        self.log(
            Level::Warn,
            format!("attempt {attempt} to move {slots} slots from {from} to {to} failed: {reason} (it is tried again)"),
        );
    }

    /// Takes a sample for the rates of the operation under way.
    pub(crate) fn sample(&mut self) {
        let now = self.soft.now;
        let Some(operation) = &self.state.operation else {
            self.soft.operation.samples.clear();
            return;
        };
        let attempts = self.soft.attempts.values();
        let (keys, bytes) = attempts.fold(
            (operation.keys_moved, operation.bytes_moved),
            |(keys, bytes), soft| (keys + soft.keys, bytes + soft.bytes),
        );
        let samples = &mut self.soft.operation.samples;
        samples.push_back((now, keys, bytes));
        while samples.len() > 2 && now - samples[0].0 > RATE_WINDOW_MS {
            samples.pop_front();
        }
    }
}
