//! Replies to Lua values, and Lua values to replies.
//!
//! | reply | value | value returned | reply |
//! | --- | --- | --- | --- |
//! | integer | number | number | integer, cut |
//! | bulk string | string | string | bulk string |
//! | array | table | table | array up to the first nil |
//! | simple string | `{ok=}` | the same | simple string |
//! | error | `{err=}` | the same | error |
//! | null | false; nil in RESP3 | false, nil | null |
//! | map, set, double, big number, verbatim | `{map=}` `{set=}` `{double=}` `{big_number=}` `{verbatim_string=}` | the same | the same |

use larder_wire::resp::ReplyWriter;
use larder_wire::resp::write::array_header;
use mlua::{Lua, LuaString, Table, Value};

use super::args::as_bytes;
use super::number;
use super::raise::{counted, error_table, with_code};

/// Tables nested deeper are not written: about as many as Lua's stack has places for.
const DEPTH_MAX: usize = 7000;
/// A map or set takes as many places as so many arrays.
const MAP_DEPTH: usize = 4;

/// The value of the reply that `bytes` are; they were written by this node.
pub(super) fn to_value(lua: &Lua, bytes: &[u8]) -> mlua::Result<Value> {
    Reader { lua, bytes, at: 0 }.value()
}

/// The same for redis.call: an error is raised.
pub(super) fn to_value_or_raise(lua: &Lua, bytes: &[u8]) -> mlua::Result<Value> {
    if bytes.first() == Some(&b'-') {
        let line = bytes.strip_suffix(b"\r\n").unwrap_or(bytes);
        return Err(counted(with_code(line)));
    }
    to_value(lua, bytes)
}

struct Reader<'a> {
    lua: &'a Lua,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let end = rest
            .windows(2)
            .position(|pair| pair == b"\r\n")
            .expect("a reply of this node has whole lines");
        self.at += end + 2;
        &rest[..end]
    }

    fn count(&mut self) -> i64 {
        let line = self.line();
        larder_store::number::parse_i64(&line[1..]).expect("a reply of this node has whole numbers")
    }

    fn string(&mut self, length: i64) -> &'a [u8] {
        let length = length as usize;
        let text = &self.bytes[self.at..self.at + length];
        self.at += length + 2;
        text
    }

    fn value(&mut self) -> mlua::Result<Value> {
        let kind = self.bytes[self.at];
        Ok(match kind {
            b':' => Value::Number(self.count() as f64),
            b'$' => match self.count() {
                -1 => Value::Boolean(false),
                length => Value::String(self.lua.create_string(self.string(length))?),
            },
            b'+' => self.wrapped("ok", 1)?,
            b'(' => self.wrapped("big_number", 1)?,
            b'-' => Value::Table(error_table(self.lua, &with_code(self.line()), true)?),
            b'*' | b'>' => match self.count() {
                -1 => Value::Boolean(false),
                length => Value::Table(self.array(length)?),
            },
            b'%' => {
                let pairs = self.count();
                let map = self.lua.create_table_with_capacity(0, pairs as usize)?;
                for _ in 0..pairs {
                    let key = self.value()?;
                    let value = self.value()?;
                    map.raw_set(key, value)?;
                }
                self.tagged("map", Value::Table(map))?
            }
            b'~' => {
                let members = self.count();
                let set = self.lua.create_table_with_capacity(0, members as usize)?;
                for _ in 0..members {
                    set.raw_set(self.value()?, true)?;
                }
                self.tagged("set", Value::Table(set))?
            }
            b'_' => {
                self.line();
                Value::Nil
            }
            b'#' => Value::Boolean(self.line() == b"#t"),
            b',' => {
                let line = self.line();
                let value = larder_store::float::parse_double(&line[1..]);
                self.tagged("double", Value::Number(value.unwrap_or(f64::NAN)))?
            }
            b'=' => {
                let length = self.count();
                let text = self.string(length);
                let verbatim = self.lua.create_table()?;
                verbatim.raw_set("string", self.lua.create_string(&text[4..])?)?;
                verbatim.raw_set("format", self.lua.create_string(&text[..3])?)?;
                self.tagged("verbatim_string", Value::Table(verbatim))?
            }
            b'|' => {
                // What is said about a reply is not for scripts.
                for _ in 0..self.count() * 2 {
                    self.value()?;
                }
                self.value()?
            }
            other => unreachable!("no reply of this node starts with byte {other:#04x}"),
        })
    }

    fn array(&mut self, length: i64) -> mlua::Result<Table> {
        let table = self.lua.create_table_with_capacity(length as usize, 0)?;
        for index in 1..=length {
            table.raw_set(index, self.value()?)?;
        }
        Ok(table)
    }

    /// The line as the one field of a table.
    fn wrapped(&mut self, field: &str, skipped: usize) -> mlua::Result<Value> {
        let text = self.lua.create_string(&self.line()[skipped..])?;
        self.tagged(field, Value::String(text))
    }

    fn tagged(&self, field: &str, value: Value) -> mlua::Result<Value> {
        let table = self.lua.create_table_with_capacity(0, 1)?;
        table.raw_set(field, value)?;
        Ok(Value::Table(table))
    }
}

/// The fields that say what a table stands for, made once.
pub(super) struct Fields {
    err: LuaString,
    ok: LuaString,
    double: LuaString,
    big_number: LuaString,
    verbatim: LuaString,
    map: LuaString,
    set: LuaString,
    format: LuaString,
    string: LuaString,
}

impl Fields {
    pub(super) fn new(lua: &Lua) -> mlua::Result<Fields> {
        Ok(Fields {
            err: lua.create_string("err")?,
            ok: lua.create_string("ok")?,
            double: lua.create_string("double")?,
            big_number: lua.create_string("big_number")?,
            verbatim: lua.create_string("verbatim_string")?,
            map: lua.create_string("map")?,
            set: lua.create_string("set")?,
            format: lua.create_string("format")?,
            string: lua.create_string("string")?,
        })
    }
}

impl Fields {
    /// A table that stands for an error.
    pub(super) fn is_error(&self, table: &Table) -> mlua::Result<bool> {
        Ok(matches!(table.raw_get(&self.err)?, Value::String(_)))
    }
}

/// What a script returned, as a reply.
pub(super) struct Writer<'a, 'w> {
    pub(super) fields: &'a Fields,
    pub(super) reply: &'a mut ReplyWriter<'w>,
    /// The script itself speaks RESP3: its booleans are booleans.
    pub(super) resp3: bool,
}

impl Writer<'_, '_> {
    pub(super) fn value(&mut self, value: &Value, depth: usize) -> mlua::Result<()> {
        match value {
            Value::String(text) => self.reply.bulk(&text.as_bytes()),
            Value::Boolean(flag) if self.resp3 => self.reply.bool(*flag),
            Value::Boolean(true) => self.reply.int(1),
            Value::Integer(whole) => self.reply.int(*whole),
            Value::Number(number) => self.reply.int(number::to_i64(*number)),
            Value::Table(_) if depth >= DEPTH_MAX => {
                self.reply.error_text("ERR reached lua stack limit");
            }
            Value::Table(table) => self.table(table, depth)?,
            _ => self.reply.null(),
        }
        Ok(())
    }

    fn table(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        let field = |name: &LuaString| table.raw_get::<Value>(name);
        if let Some(text) = text_of(field(&self.fields.err)?) {
            self.reply.error_text(&String::from_utf8_lossy(&text));
        } else if let Some(text) = text_of(field(&self.fields.ok)?) {
            self.reply.simple(&one_line(&text));
        } else if let Some(number) = number_of(&field(&self.fields.double)?) {
            self.reply.double(number);
        } else if let Some(digits) = text_of(field(&self.fields.big_number)?) {
            self.reply.big_number(&one_line(&digits));
        } else if let Some((format, text)) = self.verbatim(field(&self.fields.verbatim)?)? {
            self.reply.verbatim(&format, &text);
        } else if let Value::Table(map) = field(&self.fields.map)? {
            self.pairs(&map, depth)?;
        } else if let Value::Table(set) = field(&self.fields.set)? {
            self.members(&set, depth)?;
        } else {
            self.array(table, depth)?;
        }
        Ok(())
    }

    fn verbatim(&self, value: Value) -> mlua::Result<Option<(String, Vec<u8>)>> {
        let Value::Table(table) = value else {
            return Ok(None);
        };
        let format = text_of(table.raw_get(&self.fields.format)?);
        let text = text_of(table.raw_get(&self.fields.string)?);
        Ok(format.zip(text).map(|(format, text)| {
            let letters: String = String::from_utf8_lossy(&format)
                .chars()
                .chain("   ".chars())
                .filter(char::is_ascii)
                .take(3)
                .collect();
            (letters, text)
        }))
    }

    fn pairs(&mut self, map: &Table, depth: usize) -> mlua::Result<()> {
        let mut count = 0;
        map.for_each(|_: Value, _: Value| {
            count += 1;
            Ok(())
        })?;
        self.reply.map(count);
        // Not by `for_each`, whose closure would run on Lua's own stack of calls: that is shallow.
        for pair in map.pairs::<Value, Value>() {
            let (key, value) = pair?;
            self.value(&key, depth + MAP_DEPTH)?;
            self.value(&value, depth + MAP_DEPTH)?;
        }
        Ok(())
    }

    fn members(&mut self, set: &Table, depth: usize) -> mlua::Result<()> {
        let mut count = 0;
        set.for_each(|_: Value, _: Value| {
            count += 1;
            Ok(())
        })?;
        self.reply.set(count);
        for pair in set.pairs::<Value, Value>() {
            let (member, _) = pair?;
            self.value(&member, depth + MAP_DEPTH)?;
        }
        Ok(())
    }

    fn array(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        let expected = table.raw_len();
        let start = self.reply.buffer().len();
        self.reply.array(expected);
        let body = self.reply.buffer().len();
        let mut count = 0;
        loop {
            let value: Value = table.raw_get(count + 1)?;
            if value.is_nil() {
                break;
            }
            self.value(&value, depth + 1)?;
            count += 1;
        }
        // A table with holes is as long as the first of them says.
        if count != expected {
            let mut header = Vec::new();
            array_header(&mut header, count);
            self.reply.buffer().splice(start..body, header);
        }
        Ok(())
    }
}

/// A string, or a number's text.
fn text_of(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::String(_) => as_bytes(&value),
        _ => None,
    }
}

fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(whole) => Some(*whole as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

fn one_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(['\r', '\n'], " ")
}

/// A number as an argument of a command: with all its digits.
pub(super) fn number_argument(value: &Value, out: &mut Vec<u8>) {
    let mut room = [0; larder_wire::float::DOUBLE_TEXT_BYTES_MAX];
    let number = number_of(value).unwrap_or_default();
    out.extend_from_slice(larder_wire::float::format_double(&mut room, number));
}
