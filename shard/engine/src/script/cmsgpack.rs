//! The library `cmsgpack`: values to and from MessagePack.
//!
//! Source: <https://github.com/msgpack/msgpack/blob/master/spec.md>; which of its encodings are chosen, as lua-cmsgpack 0.4.0 does.

use mlua::{Lua, MultiValue, Table, Value};

use super::args::Args;
use super::raise::{at_caller, bad_argument};

/// Tables nested deeper are written as nil.
const NESTING_MAX: usize = 16;
/// Tables nested deeper are not read: they would not fit the stack.
const DECODE_NESTING_MAX: usize = 1000;

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pack", lua.create_function(pack)?)?;
    table.raw_set("unpack", lua.create_function(unpack)?)?;
    table.raw_set("unpack_one", lua.create_function(unpack_one)?)?;
    table.raw_set("unpack_limit", lua.create_function(unpack_limit)?)?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    table.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    table.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    Ok(table)
}

fn pack(lua: &Lua, values: MultiValue) -> mlua::Result<mlua::LuaString> {
    if values.is_empty() {
        return Err(bad_argument(lua, 0, "MessagePack pack needs input."));
    }
    let mut out = Vec::new();
    for value in &values {
        encode(value, 0, &mut out)?;
    }
    lua.create_string(out)
}

fn encode(value: &Value, level: usize, out: &mut Vec<u8>) -> mlua::Result<()> {
    match value {
        Value::String(text) => encode_bytes(&text.as_bytes(), out),
        Value::Boolean(flag) => out.push(if *flag { 0xc3 } else { 0xc2 }),
        Value::Integer(whole) => encode_integer(*whole, out),
        Value::Number(number) => encode_number(*number, out),
        Value::Table(table) if level < NESTING_MAX => encode_table(table, level, out)?,
        _ => out.push(0xc0),
    }
    Ok(())
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    match bytes.len() {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xdb);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

fn encode_number(number: f64, out: &mut Vec<u8>) {
    let whole = super::number::to_i64(number);
    if !number.is_infinite() && whole as f64 == number {
        encode_integer(whole, out);
    } else if f64::from(number as f32) == number {
        out.push(0xca);
        out.extend_from_slice(&(number as f32).to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn encode_integer(whole: i64, out: &mut Vec<u8>) {
    match whole {
        0..=127 => out.push(whole as u8),
        128..=0xff => out.extend_from_slice(&[0xcc, whole as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(whole as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(whole as u32).to_be_bytes());
        }
        0x1_0000_0000.. => {
            out.push(0xcf);
            out.extend_from_slice(&whole.to_be_bytes());
        }
        -32..=-1 => out.push(whole as u8),
        -128..=-33 => out.extend_from_slice(&[0xd0, whole as u8]),
        -0x8000..=-129 => {
            out.push(0xd1);
            out.extend_from_slice(&(whole as i16).to_be_bytes());
        }
        -0x8000_0000..=-0x8001 => {
            out.push(0xd2);
            out.extend_from_slice(&(whole as i32).to_be_bytes());
        }
        i64::MIN..=-0x8000_0001 => {
            out.push(0xd3);
            out.extend_from_slice(&whole.to_be_bytes());
        }
    }
}

fn encode_table(table: &Table, level: usize, out: &mut Vec<u8>) -> mlua::Result<()> {
    let (pairs, is_array) = shape(table)?;
    if is_array {
        header(pairs, 0x90, 0xdc, out);
        for index in 1..=pairs {
            encode(&table.get::<Value>(index)?, level + 1, out)?;
        }
        return Ok(());
    }
    header(pairs, 0x80, 0xde, out);
    table.for_each(|key: Value, value: Value| {
        encode(&key, level + 1, out)?;
        encode(&value, level + 1, out)
    })
}

/// How many pairs a table has, and whether their keys are 1 to that many.
fn shape(table: &Table) -> mlua::Result<(usize, bool)> {
    let (mut pairs, mut max, mut only_indexes) = (0usize, 0usize, true);
    table.for_each(|key: Value, _: Value| {
        pairs += 1;
        match key {
            Value::Integer(index @ 1..=0x7fff_ffff) => max = max.max(index as usize),
            _ => only_indexes = false,
        }
        Ok(())
    })?;
    Ok((pairs, only_indexes && max == pairs))
}

/// Of an array or a map: in the first byte, or 16 or 32 bits behind it.
fn header(len: usize, short: u8, long: u8, out: &mut Vec<u8>) {
    match len {
        0..=15 => out.push(short | len as u8),
        16..=0xffff => {
            out.push(long);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(long + 1);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

fn unpack(lua: &Lua, values: MultiValue) -> mlua::Result<MultiValue> {
    let args = Args::new(lua, values);
    decode_all(lua, &args.bytes(1)?, None)
}

fn unpack_one(lua: &Lua, values: MultiValue) -> mlua::Result<MultiValue> {
    let args = Args::new(lua, values);
    let offset = args.integer_or(2, 0)?;
    decode_all(lua, &args.bytes(1)?, Some((1, offset)))
}

fn unpack_limit(lua: &Lua, values: MultiValue) -> mlua::Result<MultiValue> {
    let args = Args::new(lua, values);
    let limit = args.integer(2)?;
    let offset = args.integer_or(3, 0)?;
    let window = (limit != 0 || offset != 0).then_some((limit, offset));
    decode_all(lua, &args.bytes(1)?, window)
}

/// Up to `limit` values from `offset` on; with such a window, where the next starts (-1 at the end) comes first.
fn decode_all(lua: &Lua, input: &[u8], window: Option<(i64, i64)>) -> mlua::Result<MultiValue> {
    let (limit, offset) = window.unwrap_or((i64::from(i32::MAX), 0));
    if limit < 0 || offset < 0 {
        let (offset, len) = (offset as i32, input.len() as i32);
        return Err(at_caller(
            lua,
            format!("Invalid request to unpack with offset of {offset} and limit of {len}."),
        ));
    }
    if offset as u64 > input.len() as u64 {
        return Err(at_caller(
            lua,
            format!(
                "Start offset {offset} greater than input length {}.",
                input.len()
            ),
        ));
    }
    let mut cursor = Cursor {
        input,
        at: offset as usize,
    };
    let mut results = MultiValue::new();
    while cursor.at < input.len() && (results.len() as i64) < limit {
        match cursor.value(lua, 0) {
            Ok(value) => results.push_back(value),
            Err(Fault::Missing) => return Err(at_caller(lua, "Missing bytes in input.")),
            Err(Fault::Format) => return Err(at_caller(lua, "Bad data format in input.")),
            Err(Fault::Lua(error)) => return Err(error),
        }
    }
    if window.is_some() {
        let next = if cursor.at == input.len() {
            -1.0
        } else {
            cursor.at as f64
        };
        results.push_front(Value::Number(next));
    }
    Ok(results)
}

enum Fault {
    Missing,
    Format,
    Lua(mlua::Error),
}

impl From<mlua::Error> for Fault {
    fn from(error: mlua::Error) -> Fault {
        Fault::Lua(error)
    }
}

struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(count).ok_or(Fault::Missing)?;
        let bytes = self.input.get(self.at..end).ok_or(Fault::Missing)?;
        self.at = end;
        Ok(bytes)
    }

    fn unsigned(&mut self, bytes: usize) -> Result<u64, Fault> {
        let bytes = self.take(bytes)?;
        Ok(bytes
            .iter()
            .fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    }

    fn value(&mut self, lua: &Lua, level: usize) -> Result<Value, Fault> {
        let first = self.take(1)?[0];
        let number = |value: f64| Ok(Value::Number(value));
        match first {
            0x00..=0x7f => number(f64::from(first)),
            0xe0..=0xff => number(f64::from(first as i8)),
            0xcc => number(self.unsigned(1)? as f64),
            0xcd => number(self.unsigned(2)? as f64),
            0xce => number(self.unsigned(4)? as f64),
            0xcf => number(self.unsigned(8)? as f64),
            0xd0 => number(f64::from(self.unsigned(1)? as i8)),
            0xd1 => number(f64::from(self.unsigned(2)? as i16)),
            0xd2 => number(f64::from(self.unsigned(4)? as i32)),
            0xd3 => number(self.unsigned(8)? as i64 as f64),
            0xca => number(f64::from(f32::from_bits(self.unsigned(4)? as u32))),
            0xcb => number(f64::from_bits(self.unsigned(8)?)),
            0xc0 => Ok(Value::Nil),
            0xc2 => Ok(Value::Boolean(false)),
            0xc3 => Ok(Value::Boolean(true)),
            0xa0..=0xbf => self.text(lua, usize::from(first & 0x1f)),
            0xd9..=0xdb => {
                let len = self.unsigned(1 << (first - 0xd9))?;
                self.text(lua, len as usize)
            }
            0x90..=0x9f => self.array(lua, u64::from(first & 0xf), level),
            0xdc | 0xdd => {
                let len = self.unsigned(2 << (first - 0xdc))?;
                self.array(lua, len, level)
            }
            0x80..=0x8f => self.map(lua, u64::from(first & 0xf), level),
            0xde | 0xdf => {
                let len = self.unsigned(2 << (first - 0xde))?;
                self.map(lua, len, level)
            }
            0xc1 | 0xc4..=0xc9 | 0xd4..=0xd8 => Err(Fault::Format),
        }
    }

    fn text(&mut self, lua: &Lua, len: usize) -> Result<Value, Fault> {
        Ok(Value::String(lua.create_string(self.take(len)?)?))
    }

    fn array(&mut self, lua: &Lua, len: u64, level: usize) -> Result<Value, Fault> {
        let table = nested(lua, level)?;
        for index in 1..=len {
            let value = self.value(lua, level + 1)?;
            table.raw_set(index as f64, value)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, lua: &Lua, len: u64, level: usize) -> Result<Value, Fault> {
        let table = nested(lua, level)?;
        for _ in 0..len {
            let key = self.value(lua, level + 1)?;
            let value = self.value(lua, level + 1)?;
            if key.is_nil() {
                return Err(Fault::Lua(at_caller(lua, "table index is nil")));
            }
            table.raw_set(key, value)?;
        }
        Ok(Value::Table(table))
    }
}

fn nested(lua: &Lua, level: usize) -> mlua::Result<Table> {
    if level >= DECODE_NESTING_MAX {
        return Err(at_caller(
            lua,
            "stack overflow (too many return values at once; use unpack_one or unpack_limit instead.)",
        ));
    }
    lua.create_table()
}
