//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! A node is one thread, so a transaction is its commands run one after the other. What may have changed since they were
//! queued, the ownership of their slots, is judged again before the first runs.

use std::rc::Rc;

use larder_wire::Refusal;
use larder_wire::command::CommandId;

use crate::ownership::Verdict;
use crate::session::Multi;
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
    let mut outcome = Outcome::Done;
    turn.session.in_exec = true;
    for (id, request) in &multi.queue {
        match run_queued(turn, *id, request.view()) {
            Outcome::Done | Outcome::Held => {}
            Outcome::Stall { us } => outcome = Outcome::Stall { us },
            Outcome::Close => outcome = Outcome::Close,
            Outcome::Feed(_) | Outcome::Import(_) | Outcome::Blocked | Outcome::Shutdown => {
                unreachable!("these are not queued, and nothing blocks in a transaction")
            }
        }
    }
    turn.session.in_exec = false;
    Ok(outcome)
}

/// The transaction is over, whatever came of it.
fn end(turn: &mut Turn<'_>) {
    turn.session.client.queued.set(None);
    turn.node.unwatch(turn.session);
}

fn run_queued(
    turn: &mut Turn<'_>,
    id: CommandId,
    request: larder_wire::resp::Request<'_>,
) -> Outcome {
    if let Err(refusal) = turn
        .node
        .admit_queued(turn.session, id, &request, turn.clock)
    {
        turn.node.count_error(&refusal);
        turn.reply.error(&refusal);
        return Outcome::Done;
    }
    // Judged a moment ago; only the first key's slot is wanted.
    let first_key = turn
        .node
        .judge(turn.session, id, &request)
        .map_or(None, |(_, first_key)| first_key);
    turn.node.run(
        turn.session,
        id,
        request,
        first_key,
        turn.clock,
        turn.reply.buffer(),
    )
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
            *existed && space.is_none_or(|space| space.peek_value(key, turn.clock.now()).is_none())
        })
}
