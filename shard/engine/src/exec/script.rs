//! EVAL, EVALSHA, their read-only forms, SCRIPT.

use larder_store::number::parse_i64;
use larder_wire::Refusal;
use larder_wire::command::CommandId;
use larder_wire::resp::Request;

use crate::script::machine::Kind;
use crate::script::run::{self, Plan};
use crate::script::scripts::{Script, digest_text};
use crate::turn::{Outcome, Turn, help};

const NO_SCRIPT: Refusal = Refusal::fixed("NOSCRIPT No matching script. Please use EVAL.");

pub fn eval(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let keys = key_count(&turn.request)?;
    let script = turn.node.scripts.load(turn.request.arg(1))?;
    run_script(turn, script, keys)
}

pub fn evalsha(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let digest = turn.request.arg(1);
    if digest.len() != 40 {
        return Err(NO_SCRIPT);
    }
    let keys = key_count(&turn.request)?;
    let script = turn.node.scripts.find(digest).ok_or(NO_SCRIPT)?;
    run_script(turn, script, keys)
}

fn run_script(turn: &mut Turn<'_>, script: Script, keys: usize) -> Result<Outcome, Refusal> {
    let plan = Plan {
        kind: Kind::Scripts,
        name: digest_text(&script.digest),
        slot: script.slot,
        flags: script.flags,
        read_only: matches!(turn.id, CommandId::EvalRo | CommandId::EvalshaRo),
        keys,
    };
    run::start(turn, &plan)
}

fn key_count(request: &Request<'_>) -> Result<usize, Refusal> {
    let count = parse_i64(request.arg(2)).ok_or(Refusal::NOT_AN_INTEGER)?;
    checked_key_count(count, request)
}

pub(super) fn checked_key_count(count: i64, request: &Request<'_>) -> Result<usize, Refusal> {
    if count > request.len() as i64 - 3 {
        return Err(Refusal::fixed(
            "ERR Number of keys can't be greater than number of args",
        ));
    }
    usize::try_from(count).map_err(|_| Refusal::fixed("ERR Number of keys can't be negative"))
}

pub fn load(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let script = turn.node.scripts.load(turn.request.arg(2))?;
    turn.bulk(&script.digest)
}

pub fn exists(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.reply.array(turn.request.len() - 2);
    for digest in turn.request.args_from(2) {
        let known = turn.node.scripts.find(digest).is_some();
        turn.reply.int(known.into());
    }
    Ok(Outcome::Done)
}

pub fn flush(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if !is_sync_or_async(turn) {
        return Err(Refusal::fixed(
            "ERR SCRIPT FLUSH only support SYNC|ASYNC option",
        ));
    }
    turn.node.scripts.flush();
    turn.ok()
}

/// Nothing, SYNC or ASYNC behind the subcommand: all the same here, where the whole of Lua's memory goes at once.
pub(super) fn is_sync_or_async(turn: &Turn<'_>) -> bool {
    match turn.request.len() {
        2 => true,
        3 => turn.is_word(2, "sync") || turn.is_word(2, "async"),
        _ => false,
    }
}

pub fn kill(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.node.kill_script(Kind::Scripts)?;
    turn.ok()
}

/// There is no debugger; that none is wanted can be said.
pub fn debug(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.is_word(2, "no") {
        turn.ok()
    } else if turn.is_word(2, "yes") || turn.is_word(2, "sync") {
        Err(Refusal::fixed(
            "ERR the script debugger is not available on this server",
        ))
    } else {
        Err(Refusal::fixed("ERR Use SCRIPT DEBUG YES/SYNC/NO"))
    }
}

pub fn help_(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    help(
        turn,
        "SCRIPT",
        &[
            "DEBUG (YES|SYNC|NO)",
            "    Set the debug mode for subsequent scripts executed.",
            "EXISTS <sha1> [<sha1> ...]",
            "    Return information about the existence of the scripts in the script cache.",
            "FLUSH [ASYNC|SYNC]",
            "    Flush the Lua scripts cache. Very dangerous on replicas.",
            "    When called without the optional mode argument, the behavior is determined by the",
            "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
            "    * ASYNC: Asynchronously flush the scripts cache.",
            "    * SYNC: Synchronously flush the scripts cache.",
            "KILL",
            "    Kill the currently executing Lua script.",
            "LOAD <script>",
            "    Load a script into the scripts cache without executing it.",
        ],
    )
}
