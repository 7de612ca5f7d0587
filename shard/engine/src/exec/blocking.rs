//! Commands that wait for something to take: tried at once, and where there is nothing the client is blocked.
//!
//! In a transaction and in a script nothing waits: there they answer as if their time were up.

use larder_store::exec::blocking::Blocking;
use larder_store::exec::{list_block, stream_read, zset_block};
use larder_wire::Refusal;

pub(crate) use crate::guard::waits::waitaof;
use crate::turn::{Outcome, Turn};

pub fn blpop(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    take_or_wait(turn, &list_block::BLPOP)
}

pub fn brpop(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    take_or_wait(turn, &list_block::BRPOP)
}

pub fn blmpop(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    take_or_wait(turn, &list_block::BLMPOP)
}

pub fn blmove(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    move_or_wait(turn, &list_block::BLMOVE)
}

pub fn brpoplpush(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    move_or_wait(turn, &list_block::BRPOPLPUSH)
}

pub fn bzpopmin(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    take_or_wait(turn, &zset_block::BZPOPMIN)
}

pub fn bzpopmax(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    take_or_wait(turn, &zset_block::BZPOPMAX)
}

pub fn bzmpop(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    take_or_wait(turn, &zset_block::BZMPOP)
}

pub fn xread(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    read_or_wait(turn, &stream_read::XREAD)
}

pub fn xreadgroup(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    read_or_wait(turn, &stream_read::XREADGROUP)
}

fn take_or_wait(turn: &mut Turn<'_>, blocking: &Blocking) -> Result<Outcome, Refusal> {
    if attempt(turn, blocking)? {
        return Ok(Outcome::Done);
    }
    if !turn.session.may_wait() {
        turn.reply.null_array();
        return Ok(Outcome::Done);
    }
    wait(turn, blocking)
}

fn move_or_wait(turn: &mut Turn<'_>, blocking: &Blocking) -> Result<Outcome, Refusal> {
    if attempt(turn, blocking)? {
        return Ok(Outcome::Done);
    }
    if !turn.session.may_wait() {
        turn.reply.null();
        return Ok(Outcome::Done);
    }
    wait(turn, blocking)
}

fn read_or_wait(turn: &mut Turn<'_>, blocking: &Blocking) -> Result<Outcome, Refusal> {
    if turn.session.in_script && says_block(turn) {
        return Err(Refusal::new(format!(
            "ERR {} command is not allowed with BLOCK option from scripts",
            String::from_utf8_lossy(turn.request.name())
        )));
    }
    take_or_wait(turn, blocking)
}

/// Runs the command as one that does not wait; false when it has nothing to answer.
fn attempt(turn: &mut Turn<'_>, blocking: &Blocking) -> Result<bool, Refusal> {
    let request = turn.request;
    let out = turn.reply.buffer();
    let mark = out.len();
    let _ = turn.node.run_store(
        blocking.attempt,
        turn.id,
        turn.session,
        request,
        None,
        turn.clock,
        out,
    )?;
    Ok(out.len() > mark)
}

fn wait(turn: &mut Turn<'_>, blocking: &Blocking) -> Result<Outcome, Refusal> {
    let now = turn.clock.now();
    let wait = (blocking.wait)(turn.request, turn.node.databases.at(turn.session.db), now)?;
    let timeout_ms = wait.timeout_ms;
    turn.node.block(
        turn.session,
        (turn.id, turn.request),
        Some(wait),
        timeout_ms,
        |reply| reply.null_array(),
        turn.clock,
    );
    Ok(Outcome::Blocked)
}

/// XREAD and XREADGROUP with BLOCK among their options.
fn says_block(turn: &Turn<'_>) -> bool {
    let mut at = 1;
    while at < turn.request.len() && !turn.is_word(at, "streams") {
        if turn.is_word(at, "block") {
            return true;
        }
        at += match () {
            () if turn.is_word(at, "count") => 2,
            () if turn.is_word(at, "group") => 3,
            () => 1,
        };
    }
    false
}

pub(crate) fn timeout_of_ms(turn: &Turn<'_>, at: usize) -> Result<u64, Refusal> {
    let timeout = turn
        .arg_int(at)
        .map_err(|_| Refusal::fixed("ERR timeout is not an integer or out of range"))?;
    u64::try_from(timeout).map_err(|_| Refusal::fixed("ERR timeout is negative"))
}
