//! TIME, LASTSAVE, ROLE, WAIT, SLOWLOG, LATENCY, COMMAND without persistence or replicas behind it: each says what is true here.

use larder_wire::Refusal;
use larder_wire::command::describe;

use crate::turn::{Outcome, Turn, help};

pub fn time(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let (seconds, micros) = (
        turn.clock.unix_seconds(),
        turn.clock.unix_us.rem_euclid(1_000_000),
    );
    turn.reply.array(2);
    turn.reply.bulk_int(seconds);
    turn.reply.bulk_int(micros);
    Ok(Outcome::Done)
}

/// Nothing is ever saved: the time that the node started, as Redis has it before its first save.
pub fn lastsave(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let started = turn.clock.unix_seconds() - (turn.clock.mono_ms / 1000) as i64;
    turn.int(started)
}

pub fn role(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.reply.array(3);
    turn.reply.bulk(b"master");
    turn.reply.int(0);
    turn.reply.array(0);
    Ok(Outcome::Done)
}

/// No replicas: none can have acknowledged.
pub fn wait(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.arg_int(1)?;
    if turn
        .arg_int(2)
        .map_err(|_| Refusal::fixed("ERR timeout is not an integer or out of range"))?
        < 0
    {
        return Err(Refusal::fixed("ERR timeout is negative"));
    }
    turn.int(0)
}

/// Nothing is logged (`slowlog-log-slower-than` is -1).
pub fn slowlog_get(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.request.len() > 3 {
        return Err(Refusal::fixed(
            "ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.",
        ));
    }
    if turn.request.len() == 3 && turn.arg_int(2).unwrap_or(i64::MIN) < -1 {
        return Err(Refusal::fixed(
            "ERR count should be greater than or equal to -1",
        ));
    }
    turn.reply.array(0);
    Ok(Outcome::Done)
}

pub fn slowlog_len(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.int(0)
}

pub fn slowlog_reset(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.ok()
}

pub fn latency_latest(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.reply.array(0);
    Ok(Outcome::Done)
}

pub fn latency_history(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.reply.array(0);
    Ok(Outcome::Done)
}

pub fn latency_reset(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.int(0)
}

pub fn memory_purge(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.ok()
}

pub fn module_list(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.reply.array(0);
    Ok(Outcome::Done)
}

pub fn command(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    describe::all(&mut turn.reply);
    Ok(Outcome::Done)
}

pub fn command_count(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    describe::count(&mut turn.reply);
    Ok(Outcome::Done)
}

pub fn command_info(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    describe::info(&turn.request, &mut turn.reply);
    Ok(Outcome::Done)
}

pub fn command_docs(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    describe::docs(&turn.request, &mut turn.reply);
    Ok(Outcome::Done)
}

pub fn command_list(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    describe::list(&turn.request, &mut turn.reply)?;
    Ok(Outcome::Done)
}

pub fn command_getkeys(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    describe::getkeys(&turn.request, &mut turn.reply)?;
    Ok(Outcome::Done)
}

pub fn command_getkeysandflags(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    describe::getkeysandflags(&turn.request, &mut turn.reply)?;
    Ok(Outcome::Done)
}

pub fn command_help(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    describe::help(&mut turn.reply);
    Ok(Outcome::Done)
}

pub fn slowlog_help(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    help(
        turn,
        "SLOWLOG",
        &[
            "GET [<count>]",
            "    Return top <count> entries from the slowlog (none are kept here).",
            "LEN",
            "    Return the length of the slowlog.",
            "RESET",
            "    Reset the slowlog.",
        ],
    )
}

pub fn latency_help(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    help(
        turn,
        "LATENCY",
        &[
            "HISTORY <event>",
            "    Return time-latency samples for the <event> class (none are kept here).",
            "LATEST",
            "    Return the latest latency samples for all events.",
            "RESET [<event> ...]",
            "    Reset latency data of one or more <event> classes.",
        ],
    )
}

pub fn module_help(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    help(
        turn,
        "MODULE",
        &[
            "LIST",
            "    Return a list of loaded modules (there are none).",
        ],
    )
}

pub fn memory_help(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    help(
        turn,
        "MEMORY",
        &[
            "PURGE",
            "    Attempt to purge dirty pages for reclamation by the allocator.",
            "USAGE <key> [SAMPLES <count>]",
            "    Return memory in bytes used by <key> and its value.",
        ],
    )
}

/// SAMPLES is read and not needed: the count of bytes is kept, not estimated.
pub fn memory_usage(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let request = turn.request;
    match request.len() {
        3 => {}
        5 if turn.is_word(3, "samples") => {
            if turn.arg_int(4)? < 0 {
                return Err(Refusal::SYNTAX);
            }
        }
        _ => return Err(Refusal::SYNTAX),
    }
    let keyspace = turn.node.databases.get(turn.session.db);
    match keyspace.and_then(|space| space.footprint(request.arg(2), turn.clock.now())) {
        Some(bytes) => turn.reply.int(bytes as i64),
        None => turn.reply.null(),
    }
    Ok(Outcome::Done)
}
