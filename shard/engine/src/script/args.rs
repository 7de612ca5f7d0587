//! The arguments of a native function, read as Lua's own libraries read theirs.

use mlua::{Lua, MultiValue, Value};

use super::number::{self, TEXT_DIGITS};
use super::raise::bad_argument;

/// Arguments by their number, from 1.
pub(super) struct Args<'a> {
    lua: &'a Lua,
    values: MultiValue,
}

impl<'a> Args<'a> {
    pub(super) fn new(lua: &'a Lua, values: MultiValue) -> Args<'a> {
        Args { lua, values }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// `None` when fewer were given.
    pub(super) fn get(&self, index: usize) -> Option<&Value> {
        self.values.get(index - 1)
    }

    /// A number, or a string that reads as one.
    pub(super) fn number(&self, index: usize) -> mlua::Result<f64> {
        self.get(index)
            .and_then(|value| as_number(self.lua, value))
            .ok_or_else(|| self.wrong_type(index, "number"))
    }

    /// A number without its fraction.
    pub(super) fn integer(&self, index: usize) -> mlua::Result<i64> {
        self.number(index).map(number::to_i64)
    }

    pub(super) fn integer_or(&self, index: usize, default: i64) -> mlua::Result<i64> {
        match self.get(index) {
            None | Some(Value::Nil) => Ok(default),
            Some(_) => self.integer(index),
        }
    }

    /// The bytes of a string, or a number's text.
    pub(super) fn bytes(&self, index: usize) -> mlua::Result<Vec<u8>> {
        self.get(index)
            .and_then(as_bytes)
            .ok_or_else(|| self.wrong_type(index, "string"))
    }

    pub(super) fn wrong_type(&self, index: usize, wanted: &str) -> mlua::Error {
        let got = self.get(index).map_or("no value", type_name);
        bad_argument(self.lua, index, format!("{wanted} expected, got {got}"))
    }

    pub(super) fn bad(&self, index: usize, problem: &str) -> mlua::Error {
        bad_argument(self.lua, index, problem)
    }
}

/// As `lua_tonumber` reads it.
pub(super) fn as_number(lua: &Lua, value: &Value) -> Option<f64> {
    match value {
        Value::Integer(whole) => Some(*whole as f64),
        Value::Number(number) => Some(*number),
        Value::String(_) => lua.coerce_number(value.clone()).ok().flatten(),
        _ => None,
    }
}

/// As `lua_tolstring` reads it.
pub(super) fn as_bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Integer(whole) => Some(number::general(*whole as f64, TEXT_DIGITS).into_bytes()),
        Value::Number(number) => Some(number::general(*number, TEXT_DIGITS).into_bytes()),
        _ => None,
    }
}

/// The type's name as Lua says it.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) | Value::Number(_) => "number",
        // Null and other light userdata are `userdata` to Lua, too.
        Value::Error(_) | Value::LightUserData(_) => "userdata",
        other => other.type_name(),
    }
}
