//! The thread that asks etcd who leads, as `leadership` says, and tells the service of each change.
//!
//! Its questions are on a connection of its own, so that no save holds them up, and it keeps the lease while the service
//! is busy. It ends a term by the term's `Authority`, which the writer of the record and the service may end, too.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder_runtime::{Backoff, entropy};
use tokio::sync::mpsc as to_service;

use crate::authority::Authority;
use crate::leadership::{
    self, DEPOSED_MS, Heard, LOOK_MS, Pause, Question, SILENT_MS_MAX, SILENT_MS_MIN, Standing,
};
use crate::store::{Campaign, Etcd, EtcdAddress, LeaderRecord, Lease, Store, Trouble};

/// Longest wait for an answer to all but saves and keeping the lease, in milliseconds.
const ANSWER_MS_MAX: u64 = 5_000;
/// Longest wait for a lease to be taken back at the end, in milliseconds.
const RESIGN_MS_MAX: u64 = 1_000;
/// Longest wait for the thread's end, in milliseconds; what it asked last is then left to etcd.
const END_MS_MAX: u64 = 1_500;

/// What the service is told.
pub(crate) enum Turn {
    Lead(Term),
    Follow {
        leader: Option<LeaderRecord>,
        /// Why nobody is known to lead, when etcd is the reason.
        trouble: Option<String>,
    },
}

/// The time for which one topology leads.
pub(crate) struct Term {
    /// Grows from term to term.
    pub(crate) number: i64,
    pub(crate) store: Box<dyn Store>,
    /// The record as it stands.
    pub(crate) state: Option<Vec<u8>>,
    pub(crate) authority: Arc<Authority>,
}

/// The thread's handle. Dropped, it ends the thread.
pub(crate) struct Election {
    end: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
    thread: JoinHandle<()>,
}

impl Election {
    pub(crate) fn begin(
        address: &EtcdAddress,
        cluster: &str,
        me: LeaderRecord,
        turns: to_service::UnboundedSender<Turn>,
    ) -> std::io::Result<Election> {
        let (end, ending) = mpsc::channel();
        let (has_ended, ended) = mpsc::channel();
        let mut candidate = Candidate {
            etcd: Etcd::new(address, cluster),
            me,
            turns,
            ending,
            lease: None,
            left_over: None,
            authority: None,
            said: None,
            silent: Backoff::new(
                Duration::from_millis(SILENT_MS_MIN),
                Duration::from_millis(SILENT_MS_MAX),
            ),
            answers: [Duration::ZERO; 2],
        };
        let thread = std::thread::Builder::new()
            .name("election".into())
            .spawn(move || {
                candidate.run();
                // Nobody waits any more when it takes too long.
                let _ = has_ended.send(());
            })?;
        Ok(Election { end, ended, thread })
    }

    /// Gives the lead back, if it is here.
    pub(crate) fn resign(&self) {
        // The thread may have ended by a bug.
        let _ = self.end.send(());
    }

    /// Waits for the end after `resign`, but not for long.
    pub(crate) fn finish(self) {
        let limit = Duration::from_millis(END_MS_MAX);
        if self.ended.recv_timeout(limit).is_ok() {
            // A panic was reported by the thread itself.
            let _ = self.thread.join();
        }
    }
}

struct Held {
    lease: Lease,
    time: Duration,
    /// When it was last made to live on, by the clock before the question.
    kept: Instant,
}

struct Candidate {
    etcd: Etcd,
    me: LeaderRecord,
    turns: to_service::UnboundedSender<Turn>,
    ending: mpsc::Receiver<()>,
    lease: Option<Held>,
    /// A lease that could not be given back: etcd did not answer. One that comes back lets it live for its whole time again.
    left_over: Option<Lease>,
    authority: Option<Arc<Authority>>,
    /// What the service was told last, when that was whom to follow.
    said: Option<(Option<LeaderRecord>, bool)>,
    silent: Backoff,
    /// How long the last two answers took: one alone that was slow, as of an etcd that starts, says nothing of the next.
    answers: [Duration; 2],
}

impl Candidate {
    fn run(&mut self) {
        let (mut standing, mut question) = (Standing::Following, Question::Look);
        loop {
            let heard = self.ask(question);
            let (stands, asks, pause) = leadership::next(standing, question, heard);
            (standing, question) = (stands, asks);
            let wait = self.pause(pause);
            if self.ended_while(wait) {
                break;
            }
        }
        if let Some(authority) = &self.authority {
            authority.end();
        }
        if let Some(held) = self.lease.take() {
            // A lease that cannot be given back runs out.
            let _ = self
                .etcd
                .revoke(held.lease, Duration::from_millis(RESIGN_MS_MAX));
        }
    }

    fn ask(&mut self, question: Question) -> Heard {
        let began = Instant::now();
        let answer = match question {
            Question::Look => self.look(),
            Question::Campaign => self.campaign(),
            Question::Keep => return self.keep(),
            Question::Withdraw => self.withdraw(),
        };
        match answer {
            Ok(heard) => {
                self.silent.reset();
                self.answers = [self.answers[1], began.elapsed()];
                heard
            }
            Err(trouble) => {
                self.say(None, Some(trouble.text));
                Heard::Silent
            }
        }
    }

    fn look(&mut self) -> Result<Heard, Trouble> {
        if let Some(lease) = self.left_over {
            let limit = Duration::from_millis(ANSWER_MS_MAX);
            self.etcd.revoke(lease, limit)?;
            self.left_over = None;
        }
        let leader = self.etcd.leader(Duration::from_millis(ANSWER_MS_MAX))?;
        let heard = match &leader {
            Some(_) => Heard::Held,
            None => Heard::Free,
        };
        self.say(leader, None);
        Ok(heard)
    }

    fn campaign(&mut self) -> Result<Heard, Trouble> {
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        let asked = Instant::now();
        let seconds = leadership::lease_seconds(self.answers[0].min(self.answers[1]));
        let (lease, time) = self.etcd.grant(seconds, limit)?;
        self.lease = Some(Held {
            lease,
            time,
            kept: asked,
        });
        let campaign = self.etcd.campaign(lease, &self.me, limit)?;
        let (term, state, revision) = match campaign {
            Campaign::Won {
                term,
                state,
                revision,
            } => (term, state, revision),
            Campaign::Lost(leader) => {
                self.say(leader, None);
                return Ok(Heard::Lost);
            }
        };
        let authority = Arc::new(Authority::lasting(asked, leadership::lead_time(time)));
        if !authority.holds() {
            return Ok(Heard::Lost);
        }
        tracing::info!("the lead is this topology's, by a lease of {time:?}");
        self.authority = Some(authority.clone());
        self.said = None;
        self.tell(Turn::Lead(Term {
            number: term,
            store: Box::new(self.etcd.store(term, revision, &authority)),
            state,
            authority,
        }));
        Ok(Heard::Won)
    }

    fn keep(&mut self) -> Heard {
        let (Some(held), Some(authority)) = (&mut self.lease, &self.authority) else {
            unreachable!("a lease is kept by one that leads")
        };
        let asked = Instant::now();
        let kept = match authority.holds() {
            true => self
                .etcd
                .keep(held.lease, leadership::keep_limit(held.time)),
            false => return Heard::Over,
        };
        match kept {
            Ok(Some(time)) => {
                (held.time, held.kept) = (time, asked);
                self.silent.reset();
                // The service, or the writer of the record, may have ended the term meanwhile.
                match authority.extend(asked + leadership::lead_time(time)) {
                    true => Heard::Kept,
                    false => Heard::Over,
                }
            }
            Ok(None) => {
                tracing::warn!("the lease of this topology has run out");
                Heard::Over
            }
            Err(trouble) if trouble.lease_gone => Heard::Over,
            Err(trouble) => {
                tracing::warn!("the lease could not be renewed: {trouble}");
                match authority.holds() {
                    true => Heard::Silent,
                    false => Heard::Over,
                }
            }
        }
    }

    fn withdraw(&mut self) -> Result<Heard, Trouble> {
        if let Some(authority) = self.authority.take() {
            authority.end();
            self.say(None, None);
        }
        if let Some(held) = self.lease.take() {
            self.left_over = Some(held.lease);
            self.etcd
                .revoke(held.lease, Duration::from_millis(RESIGN_MS_MAX))?;
            self.left_over = None;
        }
        Ok(Heard::Withdrawn)
    }

    /// Says whom to follow, when that has changed.
    fn say(&mut self, leader: Option<LeaderRecord>, trouble: Option<String>) {
        let now = (leader, trouble.is_some());
        if self.said.as_ref() == Some(&now) {
            return;
        }
        self.said = Some(now.clone());
        self.tell(Turn::Follow {
            leader: now.0,
            trouble,
        });
    }

    fn tell(&self, turn: Turn) {
        // The service is gone only when this thread is about to be ended.
        let _ = self.turns.send(turn);
    }

    fn pause(&mut self, pause: Pause) -> Duration {
        match pause {
            Pause::None => Duration::ZERO,
            Pause::Look => Duration::from_millis(LOOK_MS),
            Pause::Keep => self.lease.as_ref().map_or(Duration::ZERO, |held| {
                leadership::keep_every(held.time).saturating_sub(held.kept.elapsed())
            }),
            Pause::BackOff => self.silent.next(entropy::jitter()),
            Pause::Deposed => Duration::from_millis(DEPOSED_MS),
        }
    }

    /// Waits; true when the process ends meanwhile.
    fn ended_while(&self, wait: Duration) -> bool {
        match self.ending.recv_timeout(wait) {
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => true,
            Err(mpsc::RecvTimeoutError::Timeout) => false,
        }
    }
}
