//! FCALL, FCALL_RO, FUNCTION.

use larder_store::number::parse_i64;
use larder_store::rdb::{self, NoLibraries};
use larder_wire::Refusal;
use larder_wire::command::CommandId;
use larder_wire::glob;

use super::script::{checked_key_count, is_sync_or_async};
use crate::script::library::{Library, Policy};
use crate::script::machine::Kind;
use crate::script::run::{self, Plan};
use crate::turn::{Outcome, Turn, help};

pub fn fcall(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let name = turn.request.arg(1);
    let Some(function) = turn.node.scripts.libraries.function(name).cloned() else {
        return Err(Refusal::fixed("ERR Function not found"));
    };
    let count =
        parse_i64(turn.request.arg(2)).ok_or(Refusal::fixed("ERR Bad number of keys provided"))?;
    let plan = Plan {
        kind: Kind::Functions,
        name: function.name,
        slot: function.slot,
        flags: function.flags,
        read_only: turn.id == CommandId::FcallRo,
        keys: checked_key_count(count, &turn.request)?,
    };
    run::start(turn, &plan)
}

pub fn load(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let last = turn.request.len() - 1;
    let mut replace = false;
    for index in 2..last {
        if !turn.is_word(index, "replace") {
            let option = String::from_utf8_lossy(turn.request.arg(index));
            return Err(Refusal::new(format!("ERR Unknown option given: {option}")));
        }
        replace = true;
    }
    let source = turn.request.arg(last);
    let name = turn.node.scripts.load_library(source, replace)?;
    turn.bulk(name.as_bytes())
}

pub fn delete(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.node.scripts.delete_library(turn.request.arg(2))?;
    turn.ok()
}

pub fn flush(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.request.len() > 3 {
        return Err(Refusal::new(format!(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try FUNCTION HELP.",
            String::from_utf8_lossy(turn.request.arg(1))
        )));
    }
    if !is_sync_or_async(turn) {
        return Err(Refusal::fixed(
            "ERR FUNCTION FLUSH only supports SYNC|ASYNC option",
        ));
    }
    turn.node.scripts.flush_functions();
    turn.ok()
}

pub fn list(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let (mut with_code, mut pattern) = (false, None);
    let mut at = 2;
    while at < turn.request.len() {
        if !with_code && turn.is_word(at, "withcode") {
            with_code = true;
        } else if pattern.is_none() && turn.is_word(at, "libraryname") {
            at += 1;
            pattern = turn.request.get(at);
            if pattern.is_none() {
                return Err(Refusal::fixed("ERR library name argument was not given"));
            }
        } else {
            let argument = String::from_utf8_lossy(turn.request.arg(at));
            return Err(Refusal::new(format!("ERR Unknown argument {argument}")));
        }
        at += 1;
    }
    let wanted = |library: &&Library| {
        pattern.is_none_or(|pattern| glob::matches_ignore_case(pattern, library.name.as_bytes()))
    };
    let libraries = &turn.node.scripts.libraries;
    turn.reply.array(libraries.iter().filter(wanted).count());
    for library in libraries.iter().filter(wanted) {
        turn.reply.map(if with_code { 4 } else { 3 });
        turn.reply.bulk(b"library_name");
        turn.reply.bulk(library.name.as_bytes());
        turn.reply.bulk(b"engine");
        turn.reply.bulk(b"LUA");
        turn.reply.bulk(b"functions");
        turn.reply.array(library.functions.len());
        for function in &library.functions {
            turn.reply.map(3);
            turn.reply.bulk(b"name");
            turn.reply.bulk(function.name.as_bytes());
            turn.reply.bulk(b"description");
            match &function.description {
                Some(text) => turn.reply.bulk(text),
                None => turn.reply.null(),
            }
            turn.reply.bulk(b"flags");
            turn.reply.set(function.flags.names().count());
            for flag in function.flags.names() {
                turn.reply.simple(flag);
            }
        }
        if with_code {
            turn.reply.bulk(b"library_code");
            turn.reply.bulk(&library.source);
        }
    }
    Ok(Outcome::Done)
}

pub fn dump(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let libraries = turn.node.scripts.libraries.iter();
    let sources = libraries.map(|library| library.source.as_slice());
    let compress = turn.node.databases.collections().compresses_dumps;
    let payload = rdb::libraries_to_payload(sources, compress);
    turn.bulk(&payload)
}

pub fn restore(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let policy = match turn.request.get(3) {
        _ if turn.request.len() > 4 => {
            return Err(Refusal::new(format!(
                "ERR unknown subcommand or wrong number of arguments for '{}'. Try FUNCTION HELP.",
                String::from_utf8_lossy(turn.request.arg(1))
            )));
        }
        None => Policy::Append,
        Some(_) if turn.is_word(3, "append") => Policy::Append,
        Some(_) if turn.is_word(3, "replace") => Policy::Replace,
        Some(_) if turn.is_word(3, "flush") => Policy::Flush,
        Some(_) => {
            return Err(Refusal::fixed(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
    };
    let sources = rdb::libraries_from_payload(turn.request.arg(2)).map_err(|fault| {
        Refusal::fixed(match fault {
            NoLibraries::Footer => "ERR DUMP payload version or checksum are wrong",
            NoLibraries::Other => "ERR given type is not a function",
            NoLibraries::Data => "ERR failed loading the given functions payload",
        })
    })?;
    turn.node.scripts.restore_libraries(&sources, policy)?;
    turn.ok()
}

pub fn stats(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let scripts = &turn.node.scripts;
    if scripts
        .run
        .as_ref()
        .is_some_and(|run| run.kind == Kind::Scripts)
    {
        return Err(run::busy(Kind::Scripts));
    }
    turn.reply.map(2);
    turn.reply.bulk(b"running_script");
    match &scripts.run {
        None => turn.reply.null(),
        Some(run) => {
            turn.reply.map(3);
            turn.reply.bulk(b"name");
            turn.reply.bulk(run.name.as_bytes());
            turn.reply.bulk(b"command");
            let words: Vec<&[u8]> = run.words().collect();
            turn.reply.array(words.len());
            for word in words {
                turn.reply.bulk(word);
            }
            turn.reply.bulk(b"duration_ms");
            turn.reply.int(run.ran_ms(turn.clock) as i64);
        }
    }
    turn.reply.bulk(b"engines");
    turn.reply.map(1);
    turn.reply.bulk(b"LUA");
    turn.reply.map(2);
    turn.reply.bulk(b"libraries_count");
    turn.reply.int(scripts.libraries.len() as i64);
    turn.reply.bulk(b"functions_count");
    turn.reply.int(scripts.libraries.functions() as i64);
    Ok(Outcome::Done)
}

pub fn kill(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.node.kill_script(Kind::Functions)?;
    turn.ok()
}

pub fn help_(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    help(
        turn,
        "FUNCTION",
        &[
            "LOAD [REPLACE] <FUNCTION CODE>",
            "    Create a new library with the given library name and code.",
            "DELETE <LIBRARY NAME>",
            "    Delete the given library.",
            "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
            "    Return general information on all the libraries:",
            "    * Library name",
            "    * The engine used to run the Library",
            "    * Library description",
            "    * Functions list",
            "    * Library code (if WITHCODE is given)",
            "    It also possible to get only function that matches a pattern using LIBRARYNAME argument.",
            "STATS",
            "    Return information about the current function running:",
            "    * Function name",
            "    * Command used to run the function",
            "    * Duration in MS that the function is running",
            "    If no function is running, return nil",
            "    In addition, returns a list of available engines.",
            "KILL",
            "    Kill the current running function.",
            "FLUSH [ASYNC|SYNC]",
            "    Delete all the libraries.",
            "    When called without the optional mode argument, the behavior is determined by the",
            "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
            "    * ASYNC: Asynchronously flush the libraries.",
            "    * SYNC: Synchronously flush the libraries.",
            "DUMP",
            "    Return a serialized payload representing the current libraries, can be restored using FUNCTION RESTORE command",
            "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
            "    Restore the libraries represented by the given payload, it is possible to give a restore policy to",
            "    control how to handle existing libraries (default APPEND):",
            "    * FLUSH: delete all existing libraries.",
            "    * APPEND: appends the restored libraries to the existing libraries. On collision, abort.",
            "    * REPLACE: appends the restored libraries to the existing libraries, On collision, replace the old",
            "      libraries with the new libraries (notice that even on this option there is a chance of failure",
            "      in case of functions name collision with another library).",
        ],
    )
}
