//! SLOWLOG: what is kept is in `timing/slowlog.rs`.

use larder_wire::Refusal;

use crate::turn::{Outcome, Turn, help};

/// Entries that SLOWLOG GET shows when it is given no count.
const SHOWN_BY_DEFAULT: usize = 10;

pub fn get(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.request.len() > 3 {
        return Err(Refusal::fixed(
            "ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.",
        ));
    }
    let log = &turn.node.timing.slow;
    let shown = match turn.request.get(2) {
        None => SHOWN_BY_DEFAULT,
        Some(_) => match turn.arg_int(2) {
            Ok(-1) => log.len(),
            Ok(count) if count >= 0 => count as usize,
            Ok(_) | Err(_) => {
                return Err(Refusal::fixed(
                    "ERR count should be greater than or equal to -1",
                ));
            }
        },
    };
    turn.reply.array(shown.min(log.len()));
    for entry in log.iter().take(shown) {
        turn.reply.array(6);
        turn.reply.int(entry.id as i64);
        turn.reply.int(entry.at);
        turn.reply.int(entry.took_us as i64);
        turn.reply.array(entry.args.len());
        for arg in &entry.args {
            turn.reply.bulk(arg);
        }
        turn.reply.bulk(entry.addr.as_bytes());
        turn.reply.bulk(&entry.name);
    }
    Ok(Outcome::Done)
}

pub fn len(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let len = turn.node.timing.slow.len();
    turn.int(len as i64)
}

pub fn reset(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.node.timing.slow.reset();
    turn.ok()
}

pub fn help_(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    help(
        turn,
        "SLOWLOG",
        &[
            "GET [<count>]",
            "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
            "    Entries are made of:",
            "    id, timestamp, time in microseconds, arguments array, client IP and port,",
            "    client name",
            "LEN",
            "    Return the length of the slowlog.",
            "RESET",
            "    Reset the slowlog.",
        ],
    )
}
