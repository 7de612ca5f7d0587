//! TIME, WAIT, COMMAND, SHUTDOWN, LOLWUT without persistence or replicas behind it: each says what is true here.

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

/// SHUTDOWN [NOSAVE|SAVE] [NOW] [FORCE] [ABORT]. There are no replicas to wait for.
pub fn shutdown(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let says = |word: &str| (1..turn.request.len()).any(|index| turn.is_word(index, word));
    let known = ["nosave", "save", "now", "force", "abort"];
    let (save, nosave, abort) = (says("save"), says("nosave"), says("abort"));
    let others = says("now") || says("force");
    for index in 1..turn.request.len() {
        if !known.iter().any(|word| turn.is_word(index, word)) {
            return Err(Refusal::SYNTAX);
        }
    }
    if (abort && (save || nosave || others)) || (save && nosave) {
        return Err(Refusal::SYNTAX);
    }
    if abort {
        return Err(Refusal::fixed("ERR No shutdown in progress."));
    }
    if !nosave && let Some(refusal) = turn.node.busy_refusal() {
        return Err(refusal);
    }
    // While a file is loaded the file has more than the node.
    let complete = turn.node.loading().is_none();
    let wanted = complete && (save || (!nosave && turn.node.has_save_points()));
    let forced = says("force");
    if wanted && turn.node.save_at_once(turn.clock).is_err() && !forced {
        return Err(Refusal::fixed("ERR Errors trying to SHUTDOWN. Check logs."));
    }
    Ok(Outcome::Shutdown)
}

/// A shelf, and the version that Redis' own answer ends with.
pub fn lolwut(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.request.len() >= 3 && turn.is_word(1, "version") {
        turn.arg_int(2)?;
    }
    let keys = turn.node.databases.len();
    let jars = (keys as f64 + 1.0).log2() as usize;
    let mut text = String::from(" ________________________________________\n");
    for shelf in 0..3 {
        let filled = jars.saturating_sub(shelf * 8).min(8);
        let row = |jar: &str| format!("|{}{}|\n", jar.repeat(filled), "     ".repeat(8 - filled));
        text.push_str(&row(" .-. "));
        text.push_str(&row(" |_| "));
        text.push_str("|________________________________________|\n");
    }
    text.push_str(&format!(
        "A larder with {keys} keys. Redis ver. {}\n",
        super::connection::REDIS_VERSION
    ));
    turn.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

/// Modules are libraries for another program.
pub fn no_modules(_turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    Err(Refusal::fixed(
        "ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
    ))
}
