//! Clients of whoever takes itself for a key's owner, and the judge of what they are answered.

use larder_wire::resp::OwnedRequest;

use super::actors::{Asked, AskedState, number_of};
use super::{Answer, KEYS, LEASE_MS, World};
use crate::ownership::Standing;
use crate::turn::Outcome;

impl World {
    /// A client sends a command to a node.
    pub(super) fn send(&mut self, index: usize) {
        if self.resting || !self.runs(index) || self.actors[index].asked.len() >= 8 {
            return;
        }
        let key = KEYS[self.below(KEYS.len())];
        let writes = self.chance(2).then_some(0);
        let floor = self.known.get(key).copied().unwrap_or(0);
        let now_ms = self.now_ms;
        let actor = &mut self.actors[index];
        let clock = actor.clock(now_ms);
        actor.node.begin_batch(clock);
        let session = actor.node.open_session("c:1".into(), "s:1".into(), clock);
        actor.asked.push(Asked {
            session,
            key,
            writes,
            floor,
            state: AskedState::Begun(clock),
        });
        // Most are executed at once; some after the process stood still.
        if !self.chance(20) {
            let last = self.actors[index].asked.len() - 1;
            self.execute(index, last);
        } else if self.chance(2) {
            let stop_ms = self.below(2 * LEASE_MS as usize) as u64;
            self.actors[index].stopped_until = self.now_ms + stop_ms;
        }
    }

    fn execute(&mut self, index: usize, at: usize) {
        let now_ms = self.now_ms;
        let actor = &mut self.actors[index];
        let fresh = actor.clock(now_ms);
        let asked = &mut actor.asked[at];
        let AskedState::Begun(clock) = asked.state else {
            return;
        };
        // In the order in which they are carried out.
        if let Some(value) = &mut asked.writes {
            self.written += 1;
            *value = self.written;
        }
        let request = match asked.writes {
            Some(value) => OwnedRequest::from_args(["SET", asked.key, &value.to_string()]),
            None => OwnedRequest::from_args(["GET", asked.key]),
        };
        let mut out = Vec::new();
        let node = &mut actor.node;
        node.guard.answers.touched = false;
        let outcome = node.call(&mut asked.session, request.view(), clock, &mut out);
        node.end_batch(&asked.session);
        if outcome == Outcome::Held {
            node.begin_batch(fresh);
            asked.state = AskedState::Begun(fresh);
            return;
        }
        assert_eq!(outcome, Outcome::Done);
        let reply = String::from_utf8(out).unwrap();
        let answer = match node.answers_may_wait() {
            true => node.answer_batch(&asked.session.client, fresh),
            false => Answer::AtOnce,
        };
        match answer {
            Answer::AtOnce => {
                let asked = actor.asked.remove(at);
                self.answered(index, asked, &reply);
            }
            Answer::At(place) => asked.state = AskedState::Waits(reply, place),
            Answer::Never => {
                actor.asked.remove(at);
            }
        }
    }

    /// As the shell does when a client is rung.
    pub(super) fn look_after_waiting(&mut self, index: usize) {
        if !self.runs(index) {
            return;
        }
        let clock = self.actors[index].clock(self.now_ms);
        let mut at = 0;
        while at < self.actors[index].asked.len() {
            let actor = &mut self.actors[index];
            let asked = &actor.asked[at];
            match &asked.state {
                AskedState::Begun(_) => {
                    let before = actor.asked.len();
                    self.execute(index, at);
                    at += usize::from(self.actors[index].asked.len() == before);
                }
                AskedState::Waits(reply, place) => {
                    let (reply, place) = (reply.clone(), *place);
                    let reached = actor.node.answered_up_to(clock);
                    if actor.asked[at].session.client.is_killed() || reached.is_none() {
                        actor.asked.remove(at);
                    } else if reached >= Some(place) {
                        let asked = actor.asked.remove(at);
                        self.answered(index, asked, &reply);
                    } else {
                        at += 1;
                    }
                }
            }
        }
    }

    fn answered(&mut self, index: usize, mut asked: Asked, reply: &str) {
        self.actors[index].node.close_session(&mut asked.session);
        if reply.starts_with('-') {
            return;
        }
        let value = match asked.writes {
            Some(value) => value,
            None => number_of(reply),
        };
        assert!(
            asked.writes.is_some() || value >= asked.floor,
            "found: node {index} answers {} = {value}, and {} was known before it was asked",
            asked.key,
            asked.floor
        );
        self.answered += 1;
        let known = self.known.entry(asked.key).or_insert(0);
        *known = value.max(*known);
    }

    fn lacks(&self, index: usize, key: &str) -> bool {
        self.actors[index].value(key) < self.known.get(key).copied().unwrap_or(0)
    }

    /// Whoever takes slots over has what was answered of them.
    pub(super) fn judge_heir(&self, index: usize, slots: &larder_wire::SlotSet, how: &str) {
        for key in KEYS {
            let own = slots.contains(larder_wire::slot_of(key.as_bytes()));
            assert!(
                !own || !self.lacks(index, key),
                "found: node {index} {how} with {key} = {}, and {:?} was answered",
                self.actors[index].value(key),
                self.known.get(key)
            );
        }
    }

    /// Who would serve a key if it were asked at this moment.
    pub(super) fn owners(&mut self, key: &str) -> Vec<usize> {
        let slot = larder_wire::slot_of(key.as_bytes());
        let mut owners = Vec::new();
        for index in 0..self.actors.len() {
            if !self.runs(index) {
                continue;
            }
            let clock = self.actors[index].clock(self.now_ms);
            let node = &mut self.actors[index].node;
            node.begin_batch(clock);
            match node.ownership.standing(slot) {
                Standing::Mine | Standing::Held if node.is_leased() => owners.push(index),
                Standing::Mine
                | Standing::Held
                | Standing::Nobody
                | Standing::Elsewhere
                | Standing::Arriving
                | Standing::Replica => {}
            }
        }
        owners
    }

    pub(super) fn judge_owners(&mut self) {
        for key in KEYS {
            let owners = self.owners(key);
            assert!(
                owners.len() < 2,
                "found: {key} is served by nodes {owners:?}"
            );
        }
    }
}
