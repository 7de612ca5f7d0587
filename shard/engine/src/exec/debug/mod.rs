//! DEBUG: what tests and those who look for faults need. Subcommands that would end or stop the server for good are refused.
//!
//! Who may use it says `enable-debug-command`: nobody, everybody, or clients of this machine.

mod digest;
mod protocol;
mod tables;

use larder_store::rdb::Malformed;
use larder_store::{Db, Description};
use larder_wire::{Refusal, UnixMillis, glob};

use crate::config::{Parameter, memory_bytes};
use crate::node::Node;
use crate::turn::{Outcome, Turn, help};

/// Longest stall that DEBUG SLEEP may ask for, in seconds.
const SLEEP_SECONDS_MAX: f64 = 3600.0;
/// Largest element that a list may be told to keep by itself, in bytes.
const PACKED_THRESHOLD_BYTES_MAX: u64 = 1 << 32;
/// Most keys that DEBUG POPULATE makes.
const POPULATE_KEYS_MAX: i64 = 1 << 32;

const NOT_ALLOWED: Refusal = Refusal::fixed(
    "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
);
const NO_SUCH_KEY: Refusal = Refusal::fixed("ERR no such key");
const NOT_HERE: Refusal = Refusal::fixed("ERR this server does not end or hang by a command");

/// What DEBUG switches, for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebugSwitches {
    /// Nothing is done between commands: no expiry, no closing of idle clients.
    pub cron_paused: bool,
    /// Scripts may call commands that are not for scripts.
    pub scripts_call_all: bool,
}

pub fn debug(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if !is_allowed(turn) {
        return Err(NOT_ALLOWED);
    }
    let request = turn.request;
    let name = String::from_utf8_lossy(request.arg(1)).to_ascii_lowercase();
    match (name.as_str(), request.len()) {
        ("sleep", 3) => sleep(turn),
        ("set-active-expire", 3) => set_active_expire(turn),
        ("reload", _) => reload(turn),
        ("loadaof", 2) => reload_all(turn),
        ("object", 3) => object(turn),
        ("digest", 2) => digest::digest(turn),
        ("digest-value", _) => digest::digest_value(turn),
        ("htstats", 3) => tables::of_database(turn),
        ("htstats-key", 3) => tables::of_key(turn),
        ("listpack", 3) => tables::packed(turn),
        ("populate", 3..=5) => populate(turn),
        ("protocol", 3) => protocol::reply(turn),
        ("error", 3) => error(turn),
        ("stringmatch-len", 4) => {
            let matches = glob::matches(request.arg(2), request.arg(3));
            turn.int(matches.into())
        }
        ("quicklist-packed-threshold", 3) => packed_threshold(turn),
        ("pause-cron", 3) => {
            turn.node.debug.cron_paused = is_on(request.arg(2));
            turn.ok()
        }
        ("set-disable-deny-scripts", 3) => {
            turn.node.debug.scripts_call_all = is_on(request.arg(2));
            turn.ok()
        }
        ("replybuffer", 4) => reply_buffer(turn),
        // What they switch or free is not here: replies have no buffer of fixed size, tables always grow step by step.
        ("jmap" | "change-repl-id", 2)
        | ("set-skip-checksum-validation" | "dict-resizing" | "log" | "aof-flush-sleep", 3) => {
            turn.ok()
        }
        ("segfault" | "panic" | "oom" | "assert" | "leak" | "restart" | "crash-and-recover", _) => {
            Err(NOT_HERE)
        }
        ("help", 2) => help(turn, "DEBUG", HELP),
        _ => Err(Refusal::new(format!(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.",
            String::from_utf8_lossy(&request.arg(1)[..request.arg(1).len().min(128)])
        ))),
    }
}

fn is_allowed(turn: &Turn<'_>) -> bool {
    match turn.node.config.get(Parameter::EnableDebugCommand) {
        "yes" => true,
        "local" => {
            let addr = &turn.session.client.addr;
            addr.starts_with("127.0.0.1:") || addr.starts_with("[::1]:") || addr.starts_with('/')
        }
        _ => false,
    }
}

/// As `atoi`: what is no number is off.
fn is_on(arg: &[u8]) -> bool {
    larder_store::number::parse_i64(arg).is_some_and(|number| number != 0)
}

fn sleep(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let text = String::from_utf8_lossy(turn.request.arg(2)).into_owned();
    // As strtod: what is no number is 0.
    let seconds: f64 = text.parse().unwrap_or(0.0);
    turn.reply.ok();
    Ok(Outcome::Stall {
        us: (seconds.clamp(0.0, SLEEP_SECONDS_MAX) * 1e6) as u64,
    })
}

fn set_active_expire(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let value = if is_on(turn.request.arg(2)) {
        "yes"
    } else {
        "no"
    };
    turn.node.config.fix(Parameter::ActiveExpire, value);
    turn.ok()
}

/// What is loaded is what is here: NOSAVE is for those who merge it.
fn reload(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    const CANNOT_LOAD: Refusal = Refusal::fixed("ERR Error trying to load the RDB dump");
    let (mut merge, mut keeps, mut loads_old) = (false, false, false);
    for index in 2..turn.request.len() {
        match () {
            () if turn.is_word(index, "merge") => merge = true,
            () if turn.is_word(index, "noflush") => keeps = true,
            () if turn.is_word(index, "nosave") => loads_old = true,
            () => {
                return Err(Refusal::fixed(
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                ));
            }
        }
    }
    let node = &turn.node;
    let empty = node.databases.is_empty() && node.scripts.libraries.len() == 0;
    let conflicts = keeps && !merge && !empty;
    if conflicts || (loads_old && !(keeps && merge)) {
        return Err(CANNOT_LOAD);
    }
    reload_all(turn)
}

fn reload_all(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.node
        .reload(turn.clock.now())
        .map_err(|_| Refusal::fixed("ERR Error trying to load the RDB dump"))?;
    turn.node.settle_gone(turn.clock);
    turn.ok()
}

impl Node {
    /// Every value of every database through its serialized form and back.
    fn reload(&mut self, now: UnixMillis) -> Result<(), Malformed> {
        let used: Vec<Db> = self.databases.iter().map(|(db, _)| db).collect();
        used.into_iter()
            .try_for_each(|db| self.databases.at(db).reload(now))
    }
}

fn object(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let list_size = turn.node.config.int(Parameter::ListMaxListpackSize);
    let found = described(turn)?;
    let mut line = format!(
        "Value at:{:#x} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
        found.address, found.encoding, found.serialized_bytes, found.access, found.idle_seconds
    );
    if let Some(list) = found.chunks {
        line += &format!(
            " ql_nodes:{} ql_avg_node:{:.2} ql_listpack_max:{list_size} ql_compressed:0 ql_uncompressed_size:{}",
            list.chunks,
            list.elements as f64 / list.chunks as f64,
            list.bytes
        );
    }
    turn.reply.simple(&line);
    Ok(Outcome::Done)
}

/// The key that the request names, be it over and not yet removed.
fn described(turn: &mut Turn<'_>) -> Result<Description, Refusal> {
    let (key, now) = (turn.request.arg(2), turn.clock.now());
    let keyspace = turn.node.databases.at(turn.session.db);
    keyspace
        .describe(key, now)
        .or_else(|| keyspace.describe(key, UnixMillis(0)))
        .ok_or(NO_SUCH_KEY)
}

/// `POPULATE count [prefix] [bytes]`: strings `prefix:0` and on, those that are there left alone.
fn populate(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let (request, now) = (turn.request, turn.clock.now());
    let positive = |turn: &Turn<'_>, index| {
        let number = turn.arg_int(index)?;
        if (0..=POPULATE_KEYS_MAX).contains(&number) {
            Ok(number as usize)
        } else {
            Err(Refusal::fixed(
                "ERR value is out of range, must be positive",
            ))
        }
    };
    let count = positive(turn, 2)?;
    let prefix = request.get(3).unwrap_or(b"key");
    let bytes = match request.len() {
        5 => positive(turn, 4)?,
        _ => 0,
    };
    for number in 0..count {
        let mut key = prefix.to_vec();
        key.extend_from_slice(format!(":{number}").as_bytes());
        let keyspace = turn.node.databases.at(turn.session.db);
        if keyspace.is_there(&*key, now) {
            continue;
        }
        let mut value = format!("value:{number}").into_bytes();
        if bytes > 0 {
            value.resize(bytes, 0);
        }
        keyspace.insert(&*key, larder_store::Value::string(&value), None, now);
        turn.node.touch_key(turn.session.db, &key);
    }
    turn.ok()
}

fn error(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let text = String::from_utf8_lossy(turn.request.arg(2)).into_owned();
    turn.reply.error_text(&text);
    Ok(Outcome::Done)
}

/// Lists keep elements of any size in their chunks: the value is checked alone.
fn packed_threshold(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let text = String::from_utf8_lossy(turn.request.arg(2)).into_owned();
    match memory_bytes(&text) {
        Some(bytes) if bytes < PACKED_THRESHOLD_BYTES_MAX => turn.ok(),
        Some(_) | None => Err(Refusal::fixed(
            "ERR argument must be a memory value bigger than 1 and smaller than 4gb",
        )),
    }
}

fn reply_buffer(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.is_word(2, "peak-reset-time") {
        if !turn.is_word(3, "never") && !turn.is_word(3, "reset") {
            turn.arg_int(3)?;
        }
        turn.ok()
    } else if turn.is_word(2, "resizing") {
        turn.ok()
    } else {
        Err(Refusal::fixed(
            "ERR unknown subcommand or wrong number of arguments for 'replybuffer'. Try DEBUG HELP.",
        ))
    }
}

const HELP: &[&str] = &[
    "CHANGE-REPL-ID",
    "    Nothing: there is no replication that an id stands for.",
    "DIGEST",
    "    A hex signature of everything that is stored.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    A hex signature of the value of each key.",
    "ERROR <string>",
    "    Reply with an error of this text.",
    "HTSTATS <dbid>",
    "    Show the tables of a database.",
    "HTSTATS-KEY <key>",
    "    Like HTSTATS but for the table at <key>'s value.",
    "LISTPACK <key>",
    "    Show the packed form of the value of <key>.",
    "LOADAOF",
    "    As RELOAD.",
    "OBJECT <key>",
    "    Show what the value of <key> is made of.",
    "PAUSE-CRON <0|1>",
    "    Stop what is done between commands.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Create <count> string keys named key:<num>, or with <prefix> instead of key.",
    "PROTOCOL <type>",
    "    Reply with a test value of the specified type. <type> can be: string,",
    "    integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
    "    true, false.",
    "RELOAD [MERGE] [NOFLUSH]",
    "    Serialize every value in memory and read it back.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Setting it to 0 disables expiring keys (except when accessed).",
    "SET-DISABLE-DENY-SCRIPTS <0|1>",
    "    Setting it to 1 lets scripts call commands that are not for scripts.",
    "SLEEP <seconds>",
    "    Stop the server for <seconds>. Decimals allowed.",
    "STRINGMATCH-LEN <pattern> <string>",
    "    Whether the string matches the pattern.",
];
