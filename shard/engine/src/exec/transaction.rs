//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! A node is one thread, so a transaction is its commands run one after the other. What may have changed since they were
//! queued, the ownership of their slots, is judged again before the first runs.

use std::rc::Rc;

use larder_wire::Refusal;
use larder_wire::command::CommandId;
use larder_wire::resp::{ReplyWriter, Request};

use crate::clock::Clock;
use crate::node::Node;
use crate::ownership::Verdict;
use crate::session::{Multi, MultiRest, Session};
use crate::turn::{Outcome, Turn};

pub fn multi(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.session.multi.is_some() {
        return Err(Refusal::NESTED_MULTI);
    }
    turn.session.multi = Some(Multi::default());
    turn.session.client.queued.set(Some(0));
    turn.ok()
}

pub fn discard(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.session.multi.take().is_none() {
        return Err(Refusal::DISCARD_WITHOUT_MULTI);
    }
    turn.session.client.queued.set(None);
    turn.node.unwatch(turn.session);
    turn.ok()
}

pub fn watch(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.session.multi.is_some() {
        return Err(Refusal::WATCH_IN_MULTI);
    }
    let db = turn.session.db;
    for key in turn.request.args_from(1) {
        if turn
            .session
            .watches
            .iter()
            .any(|(of, watched, _)| *of == db && **watched == *key)
        {
            continue;
        }
        // A key that has expired goes before it is watched: that it goes is no change to whoever never saw it.
        let now = turn.clock.now();
        let exists = turn.node.databases.at(db).is_there(key, now);
        turn.node.settle_gone(turn.clock);
        turn.session.watches.push((db, key.into(), exists));
        turn.session.watched_key_bytes += 2 * key.len();
        let watchers = turn.node.watched.entry((db, key.into())).or_default();
        watchers.push(Rc::clone(&turn.session.client));
    }
    turn.session.client.watched.set(turn.session.watches.len());
    turn.ok()
}

pub fn unwatch(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.node.unwatch(turn.session);
    turn.ok()
}

pub fn exec(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let Some(multi) = turn.session.multi.take() else {
        return Err(Refusal::EXEC_WITHOUT_MULTI);
    };
    if multi.spoilt {
        end(turn);
        return Err(Refusal::EXEC_ABORT);
    }
    match judge(turn, &multi) {
        Ok(Verdict::Go) => {}
        Ok(Verdict::Hold) => {
            turn.session.multi = Some(multi);
            return Ok(Outcome::Held);
        }
        Ok(Verdict::Moved | Verdict::Down) => unreachable!("judge names these as refusals"),
        Err(refusal) => {
            end(turn);
            return Err(refusal);
        }
    }
    if watch_broken(turn) {
        end(turn);
        turn.reply.null_array();
        return Ok(Outcome::Done);
    }
    end(turn);
    turn.reply.array(multi.queue.len());
    let rest = MultiRest {
        queue: multi.queue,
        next: 0,
    };
    let (node, session) = (&mut *turn.node, &mut *turn.session);
    Ok(go_on(node, session, rest, turn.clock, turn.reply.buffer()))
}

/// Executes what is left of a transaction.
pub(crate) fn go_on(
    node: &mut Node,
    session: &mut Session,
    mut rest: MultiRest,
    clock: Clock,
    out: &mut Vec<u8>,
) -> Outcome {
    let mut outcome = Outcome::Done;
    session.in_exec = true;
    while let Some((id, request)) = rest.queue.get(rest.next) {
        rest.next += 1;
        match run_queued(node, session, *id, request.view(), clock, out) {
            Outcome::Done | Outcome::Held => {}
            Outcome::Script => {
                session.in_exec = false;
                session.multi_rest = Some(rest);
                return Outcome::Script;
            }
            Outcome::Stall { us } => outcome = Outcome::Stall { us },
            Outcome::Close => outcome = Outcome::Close,
            Outcome::Feed(_)
            | Outcome::Stream(_)
            | Outcome::Replicate(_)
            | Outcome::Import(_)
            | Outcome::Blocked
            | Outcome::Shutdown => {
                unreachable!("these are not queued, and nothing blocks in a transaction")
            }
        }
    }
    session.in_exec = false;
    outcome
}

/// The transaction is over, whatever came of it.
fn end(turn: &mut Turn<'_>) {
    turn.session.client.queued.set(None);
    turn.node.unwatch(turn.session);
}

fn run_queued(
    node: &mut Node,
    session: &mut Session,
    id: CommandId,
    request: Request<'_>,
    clock: Clock,
    out: &mut Vec<u8>,
) -> Outcome {
    if let Err(refusal) = node.admit_queued(session, id, &request, clock) {
        node.count_error(&refusal);
        ReplyWriter::new(out, session.protocol).error(&refusal);
        return Outcome::Done;
    }
    // Judged a moment ago; only the first key's slot is wanted.
    let first_key = node
        .judge(session, id, &request)
        .map_or(None, |(_, first_key)| first_key);
    node.run(session, id, request, first_key, clock, out)
}

/// The verdict on all queued commands together.
fn judge(turn: &Turn<'_>, multi: &Multi) -> Result<Verdict, Refusal> {
    let mut held = false;
    for (id, request) in &multi.queue {
        match turn.node.judge(turn.session, *id, &request.view())? {
            (Verdict::Go, _) => {}
            (Verdict::Hold, first_key)
                if turn.node.may_wait(turn.session, first_key, turn.clock) =>
            {
                held = true;
            }
            (Verdict::Hold | Verdict::Moved, first_key) => {
                return Err(turn.node.moved(first_key));
            }
            (Verdict::Down, _) => return Err(Refusal::CLUSTER_DOWN),
        }
    }
    Ok(if held { Verdict::Hold } else { Verdict::Go })
}

/// A watched key was written to, or has gone by itself since.
fn watch_broken(turn: &Turn<'_>) -> bool {
    turn.session.client.watch_broken.get()
        || turn.session.watches.iter().any(|(db, key, existed)| {
            let space = turn.node.databases.get(*db);
            *existed && space.is_none_or(|space| space.peek_type(key, turn.clock.now()).is_none())
        })
}
