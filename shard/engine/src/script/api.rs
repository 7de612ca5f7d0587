//! What of `redis.*` and `math.*` needs nothing of the node, and the error handler of scripts.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Function, Lua, MultiValue, Table, Value};

use super::args::{Args, as_bytes, as_number};
use super::flags::Flags;
use super::host::PRELUDE_SOURCE;
use super::mail::Mail;
use super::number;
use super::raise::{self, at_caller, error_table, refusal, with_code};
use super::sha1::sha1_hex;

/// The version that scripts are told, the one that this node speaks like.
const VERSION: &str = "7.0.15";
const VERSION_NUMBER: u32 = 0x0007_000F;
/// `redis.log` levels, least important first.
const LEVELS: [&str; 4] = ["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"];
/// Lines below this level are not kept.
const LEVEL_MIN: i64 = 2;
/// Bits of `redis.set_repl`.
const REPL_BITS: i64 = 3;

pub(super) fn add_version(redis: &Table) -> mlua::Result<()> {
    redis.raw_set("REDIS_VERSION", VERSION)?;
    redis.raw_set("REDIS_VERSION_NUM", VERSION_NUMBER)
}

pub(super) fn add_levels(redis: &Table) -> mlua::Result<()> {
    for (level, name) in LEVELS.iter().enumerate() {
        redis.raw_set(*name, level)?;
    }
    Ok(())
}

pub(super) fn add_plain(lua: &Lua, redis: &Table) -> mlua::Result<()> {
    add_version(redis)?;
    redis.raw_set("sha1hex", lua.create_function(sha1hex)?)?;
    redis.raw_set("error_reply", lua.create_function(error_reply)?)?;
    redis.raw_set("status_reply", lua.create_function(status_reply)?)?;
    for (name, bits) in [
        ("REPL_NONE", 0),
        ("REPL_AOF", 1),
        ("REPL_SLAVE", 2),
        ("REPL_REPLICA", 2),
        ("REPL_ALL", 3),
    ] {
        redis.raw_set(name, bits)?;
    }
    Ok(())
}

/// There is no debugger: these say so.
pub(super) fn add_debugging(lua: &Lua, redis: &Table) -> mlua::Result<()> {
    redis.raw_set(
        "breakpoint",
        lua.create_function(|_, _: MultiValue| Ok(false))?,
    )?;
    redis.raw_set("debug", lua.create_function(|_, _: MultiValue| Ok(()))?)?;
    redis.raw_set(
        "replicate_commands",
        lua.create_function(|_, _: MultiValue| Ok(true))?,
    )
}

fn sha1hex(lua: &Lua, values: MultiValue) -> mlua::Result<mlua::LuaString> {
    if values.len() != 1 {
        return Err(refusal("wrong number of arguments"));
    }
    let text = values.front().and_then(as_bytes).unwrap_or_default();
    lua.create_string(sha1_hex(&text))
}

/// The one string that error_reply and status_reply take.
fn only_string(values: &MultiValue) -> Option<Vec<u8>> {
    match values.front() {
        Some(Value::String(text)) if values.len() == 1 => Some(text.as_bytes().to_vec()),
        Some(_) | None => None,
    }
}

fn error_reply(lua: &Lua, values: MultiValue) -> mlua::Result<Table> {
    let Some(mut text) = only_string(&values) else {
        return error_table(lua, b"ERR wrong number or type of arguments", false);
    };
    // A C string ends at its first zero byte.
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    if text.first() != Some(&b'-') {
        text.insert(0, b'-');
    }
    error_table(lua, &with_code(&text), false)
}

fn status_reply(lua: &Lua, values: MultiValue) -> mlua::Result<Table> {
    let Some(text) = only_string(&values) else {
        return error_table(lua, b"ERR wrong number or type of arguments", false);
    };
    let table = lua.create_table()?;
    table.raw_set("ok", lua.create_string(text)?)?;
    Ok(table)
}

pub(super) fn setresp(lua: &Lua, mail: &Rc<RefCell<Mail>>, values: MultiValue) -> mlua::Result<()> {
    let mut mail = mail.borrow_mut();
    if !mail.running {
        return Err(refusal(
            "redis.setresp can only be called inside a script invocation",
        ));
    }
    if values.len() != 1 {
        return Err(refusal("redis.setresp() requires one argument."));
    }
    let version = values.front().and_then(|value| as_number(lua, value));
    mail.resp3 = match number::to_i64(version.unwrap_or_default()) {
        2 => false,
        3 => true,
        _ => return Err(refusal("RESP version must be 2 or 3.")),
    };
    Ok(())
}

/// Taken and without consequence: effects go to those that need them, whatever a script says.
pub(super) fn set_repl(
    lua: &Lua,
    mail: &Rc<RefCell<Mail>>,
    values: MultiValue,
) -> mlua::Result<()> {
    if !mail.borrow().running {
        return Err(refusal(
            "redis.set_repl can only be called inside a script invocation",
        ));
    }
    if values.len() != 1 {
        return Err(refusal("redis.set_repl() requires two arguments."));
    }
    let bits = values.front().and_then(|value| as_number(lua, value));
    if number::to_i64(bits.unwrap_or_default()) & !REPL_BITS != 0 {
        return Err(refusal(
            "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        ));
    }
    Ok(())
}

/// A line of `redis.log` and its level; `None` when nobody wants it.
pub(super) fn log_line(lua: &Lua, values: &MultiValue) -> mlua::Result<Option<(u8, Vec<u8>)>> {
    if values.len() < 2 {
        return Err(refusal("redis.log() requires two arguments or more."));
    }
    let level = values.front().and_then(|value| as_number(lua, value));
    let Some(level) = level.map(number::to_i64) else {
        return Err(refusal("First argument must be a number (log level)."));
    };
    if !(0..LEVELS.len() as i64).contains(&level) {
        return Err(refusal("Invalid debug level."));
    }
    if level < LEVEL_MIN {
        return Ok(None);
    }
    let words: Vec<Vec<u8>> = values.iter().skip(1).filter_map(as_bytes).collect();
    Ok(Some((level as u8, words.join(&b' '))))
}

pub(super) fn random(lua: &Lua, mail: &Rc<RefCell<Mail>>, values: MultiValue) -> mlua::Result<f64> {
    let unit = {
        let mut mail = mail.borrow_mut();
        if !mail.running {
            return Err(at_caller(
                lua,
                "math.random can only be called inside a script invocation",
            ));
        }
        mail.random.unit()
    };
    let args = Args::new(lua, values);
    match args.len() {
        0 => Ok(unit),
        1 => {
            let upper = number::to_i32(args.number(1)?);
            if upper < 1 {
                return Err(args.bad(1, "interval is empty"));
            }
            Ok((unit * f64::from(upper)).floor() + 1.0)
        }
        2 => {
            let lower = number::to_i32(args.number(1)?);
            let upper = number::to_i32(args.number(2)?);
            if lower > upper {
                return Err(args.bad(2, "interval is empty"));
            }
            let width = upper.wrapping_sub(lower).wrapping_add(1);
            Ok((unit * f64::from(width)).floor() + f64::from(lower))
        }
        _ => Err(at_caller(lua, "wrong number of arguments")),
    }
}

pub(super) fn randomseed(
    lua: &Lua,
    mail: &Rc<RefCell<Mail>>,
    values: MultiValue,
) -> mlua::Result<()> {
    if !mail.borrow().running {
        return Err(at_caller(
            lua,
            "math.randomseed can only be called inside a script invocation",
        ));
    }
    let seed = number::to_i32(Args::new(lua, values).number(1)?);
    mail.borrow_mut().random.seed(seed);
    Ok(())
}

/// What `redis.register_function` was given.
pub(super) struct Registration {
    pub(super) name: Vec<u8>,
    pub(super) description: Option<Vec<u8>>,
    pub(super) flags: Flags,
    pub(super) callback: Function,
}

pub(super) fn registration(lua: &Lua, values: MultiValue) -> mlua::Result<Registration> {
    let args = Args::new(lua, values);
    match (args.get(1), args.get(2)) {
        _ if args.len() == 0 || args.len() > 2 => Err(refusal(
            "wrong number of arguments to redis.register_function",
        )),
        (Some(Value::Table(named)), None) => by_name(named),
        (Some(_), None) | (None, _) => Err(refusal(
            "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).",
        )),
        (Some(name), Some(callback)) => {
            let name = as_bytes(name).ok_or_else(|| {
                refusal("first argument to redis.register_function must be a string")
            })?;
            let Value::Function(callback) = callback else {
                return Err(refusal(
                    "second argument to redis.register_function must be a function",
                ));
            };
            Ok(Registration {
                name,
                description: None,
                flags: Flags::default(),
                callback: callback.clone(),
            })
        }
    }
}

fn by_name(named: &Table) -> mlua::Result<Registration> {
    let (mut name, mut description, mut callback) = (None, None, None);
    let mut flags = Flags::default();
    named.for_each(|key: Value, value: Value| {
        let Some(mut key) = as_bytes(&key) else {
            return Err(refusal(
                "named argument key given to redis.register_function is not a string",
            ));
        };
        key.make_ascii_lowercase();
        match key.as_slice() {
            b"function_name" => {
                name = Some(as_bytes(&value).ok_or_else(|| {
                    refusal("function_name argument given to redis.register_function must be a string")
                })?);
            }
            b"description" => {
                description = Some(as_bytes(&value).ok_or_else(|| {
                    refusal("description argument given to redis.register_function must be a string")
                })?);
            }
            b"callback" => {
                let Value::Function(function) = value else {
                    return Err(refusal(
                        "callback argument given to redis.register_function must be a function",
                    ));
                };
                callback = Some(function);
            }
            b"flags" => {
                let Value::Table(list) = value else {
                    return Err(refusal(
                        "flags argument to redis.register_function must be a table representing function flags",
                    ));
                };
                flags = read_flags(&list)?;
            }
            _ => {
                return Err(refusal(
                    "unknown argument given to redis.register_function",
                ));
            }
        }
        Ok(())
    })?;
    let name =
        name.ok_or_else(|| refusal("redis.register_function must get a function name argument"))?;
    let callback =
        callback.ok_or_else(|| refusal("redis.register_function must get a callback argument"))?;
    Ok(Registration {
        name,
        description,
        flags,
        callback,
    })
}

fn read_flags(list: &Table) -> mlua::Result<Flags> {
    let mut flags = Flags::default();
    for index in 1.. {
        let value: Value = list.raw_get(index)?;
        if value.is_nil() {
            break;
        }
        let flag = as_bytes(&value)
            .map(|name| name.to_ascii_lowercase())
            .and_then(|name| Flags::named(&name));
        flags = flags.with(flag.ok_or_else(|| refusal("unknown flag given"))?);
    }
    Ok(flags)
}

/// The handler of a script's uncaught errors: a table that says what, and where in the script.
pub(super) fn handle_error(lua: &Lua, chunk: &str, problem: Value) -> mlua::Result<Table> {
    let by_prelude = match &problem {
        Value::String(text) => raise::strip_prelude(&text.as_bytes()).is_some(),
        _ => false,
    };
    let place = place(lua, chunk);
    let table = match raise::plain(lua, problem)? {
        Value::Table(table) => table,
        Value::String(text) if by_prelude => {
            let at = match &place {
                Some((source, line)) => format!("ERR {}:{line}: ", source.trim_start_matches('@')),
                None => "ERR ".to_string(),
            };
            error_table(lua, &[at.as_bytes(), &*text.as_bytes()].concat(), false)?
        }
        other => {
            let shown = match as_bytes(&other) {
                Some(text) => text,
                None => other.to_string()?.into_bytes(),
            };
            error_table(lua, &[b"ERR ", shown.as_slice()].concat(), false)?
        }
    };
    if let Some((source, line)) = place {
        table.raw_set("source", source)?;
        table.raw_set("line", line)?;
    }
    Ok(table)
}

/// The innermost place of the script, which is compiled as `chunk`.
fn place(lua: &Lua, chunk: &str) -> Option<(String, i64)> {
    /// Where a script is that called one of the prelude's functions last: Lua has forgotten the line, and most such scripts have one.
    const LOST_LINE: i64 = 1;
    let mut level = 1;
    let mut hidden = false;
    loop {
        let frame = lua.inspect_stack(level, |frame| {
            let source = frame.source();
            let name = source.source.map(std::borrow::Cow::into_owned);
            (name, source.what, frame.current_line())
        });
        let (source, what, line) = frame?;
        let source = source.unwrap_or_default();
        if source == PRELUDE_SOURCE {
            hidden = true;
        } else if what == "tail" && hidden {
            return Some((chunk.to_string(), LOST_LINE));
        } else if what != "C" || (level > 1 && !hidden) {
            return Some((source, line.map_or(-1, |line| line as i64)));
        } else if hidden {
            return Some((chunk.to_string(), LOST_LINE));
        }
        level += 1;
    }
}

/// What a client is told of an error that ended a script, and whether it is counted already.
pub(super) fn failure_text(error: &Table) -> mlua::Result<(Vec<u8>, bool)> {
    let mut text = as_bytes(&error.get("err")?).unwrap_or_default();
    let source = as_bytes(&error.get("source")?);
    let line = as_bytes(&error.get("line")?);
    let counted = matches!(
        error.get("ignore_error_stats_update")?,
        Value::Boolean(true)
    );
    if let (Some(source), Some(line)) = (source, line) {
        // The script's name goes between the two.
        text.extend_from_slice(b"\0");
        text.extend_from_slice(&source);
        text.push(b':');
        text.extend_from_slice(&line);
    }
    Ok((text, counted))
}

/// The text of an error that a script returned, and whether it is counted already.
pub(super) fn returned_error(error: &Table) -> mlua::Result<(Vec<u8>, bool)> {
    let mut text = as_bytes(&error.raw_get("err")?).unwrap_or_default();
    // A C string ends at its first zero byte.
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    let counted = matches!(
        error.get("ignore_error_stats_update")?,
        Value::Boolean(true)
    );
    Ok((text, counted))
}

/// The text of what a library raised while it was loaded.
pub(super) fn problem_text(problem: &Value) -> mlua::Result<Vec<u8>> {
    match problem {
        Value::Table(table) => Ok(as_bytes(&table.get("err")?).unwrap_or_default()),
        other => {
            let shown = as_bytes(other).unwrap_or_else(|| b"nil".to_vec());
            Ok([b"ERR ", shown.as_slice()].concat())
        }
    }
}
