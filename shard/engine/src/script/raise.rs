//! Errors that native functions raise, and what scripts see of them.
//!
//! `mlua` raises a Rust error as a userdata. What is raised here carries what Redis would have raised, a table with
//! `err` or a string that starts with the caller's line; `plain` turns the one into the other wherever a script catches it.

use std::fmt;

use mlua::{Lua, LuaString, Value};

/// How Lua names the prelude in errors.
const PRELUDE_PLACE: &[u8] = b"larder:";

/// What a native function raised.
#[derive(Clone, Debug)]
pub(super) struct Raised {
    text: Vec<u8>,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A string, as Lua's own libraries raise it.
    Text,
    /// `{err = text}`.
    Table,
    /// The same, of an error that the statistics have counted already.
    Counted,
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text))
    }
}

impl std::error::Error for Raised {}

fn raise(text: Vec<u8>, shape: Shape) -> mlua::Error {
    mlua::Error::external(Raised { text, shape })
}

/// `{err = "ERR text"}`.
pub(super) fn refusal(text: &str) -> mlua::Error {
    raise(format!("ERR {text}").into_bytes(), Shape::Table)
}

/// `{err = text}` of a command that failed; the code comes first.
pub(super) fn counted(text: Vec<u8>) -> mlua::Error {
    raise(text, Shape::Counted)
}

/// A string with the line of the native function's caller before it.
pub(super) fn at_caller(lua: &Lua, message: impl fmt::Display) -> mlua::Error {
    raise(
        format!("{}{message}", caller(lua)).into_bytes(),
        Shape::Text,
    )
}

/// `bad argument #index to 'name' (problem)`, as Lua's libraries say it. `index` counts from 1.
pub(super) fn bad_argument(lua: &Lua, index: usize, problem: impl fmt::Display) -> mlua::Error {
    let name = lua
        .inspect_stack(0, |frame| {
            frame.names().name.map(std::borrow::Cow::into_owned)
        })
        .flatten();
    let name = name.as_deref().unwrap_or("?");
    at_caller(
        lua,
        format!("bad argument #{index} to '{name}' ({problem})"),
    )
}

/// `source:line: ` of the function that called the native one.
fn caller(lua: &Lua) -> String {
    let place = lua.inspect_stack(1, |frame| {
        let line = frame.current_line()?;
        let source = frame.source();
        Some(format!("{}:{line}: ", source.short_src?))
    });
    place.flatten().unwrap_or_default()
}

/// The value that stands for a caught error: scripts see strings and tables, as Redis raises them.
pub(super) fn plain(lua: &Lua, caught: Value) -> mlua::Result<Value> {
    let error = match caught {
        Value::Error(error) => error,
        Value::String(text) => return without_prelude(lua, text).map(Value::String),
        other => return Ok(other),
    };
    match error.downcast_ref::<Raised>() {
        Some(raised) => match raised.shape {
            Shape::Text => lua.create_string(&raised.text).map(Value::String),
            Shape::Table | Shape::Counted => {
                let counted = raised.shape == Shape::Counted;
                error_table(lua, &raised.text, counted).map(Value::Table)
            }
        },
        // The bridge itself refused: a value that it cannot take, or too many of them.
        None => lua.create_string(error.to_string()).map(Value::String),
    }
}

/// An error that one of Lua's functions raised on behalf of the prelude does not name the prelude's line.
fn without_prelude(lua: &Lua, text: LuaString) -> mlua::Result<LuaString> {
    match strip_prelude(&text.as_bytes()) {
        Some(rest) => lua.create_string(rest),
        None => Ok(text.clone()),
    }
}

/// What stands behind `larder:<line>: `.
pub(super) fn strip_prelude(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(PRELUDE_PLACE)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    rest[digits..].strip_prefix(b": ")
}

/// `{err = text}`; `counted` marks an error that the statistics know already.
pub(super) fn error_table(lua: &Lua, text: &[u8], counted: bool) -> mlua::Result<mlua::Table> {
    let table = lua.create_table()?;
    table.raw_set("err", lua.create_string(text)?)?;
    if counted {
        table.raw_set("ignore_error_stats_update", true)?;
    }
    Ok(table)
}

/// The text of an error as a table holds it: its code first, `ERR` where it names none. Source: Redis gives native errors as
/// `-CODE message`.
pub(super) fn with_code(error: &[u8]) -> Vec<u8> {
    let text = match error.strip_prefix(b"-") {
        Some(rest) if rest.contains(&b' ') => rest.to_vec(),
        Some(rest) => [b"ERR ", rest].concat(),
        None => [b"ERR ", error].concat(),
    };
    let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
    text[..end.map_or(0, |at| at + 1)].to_vec()
}
