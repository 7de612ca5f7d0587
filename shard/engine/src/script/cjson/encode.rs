//! Lua values to JSON.

use mlua::{Lua, Table, Value};

use super::{DEPTH_MAX, Invalid, Settings};
use crate::script::args::{Args, type_name};
use crate::script::number;
use crate::script::raise::at_caller;

pub(super) fn encode(lua: &Lua, settings: &Settings, args: &Args<'_>) -> mlua::Result<Value> {
    if args.len() != 1 {
        return Err(args.bad(1, "expected 1 argument"));
    }
    let mut writer = Writer {
        lua,
        settings,
        out: Vec::new(),
    };
    let value = args.get(1).expect("one argument is there");
    writer.value(value, 0)?;
    lua.create_string(writer.out).map(Value::String)
}

struct Writer<'a> {
    lua: &'a Lua,
    settings: &'a Settings,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: i32) -> mlua::Result<()> {
        match value {
            Value::String(text) => self.string(&text.as_bytes()),
            Value::Integer(whole) => self.number(*whole as f64)?,
            Value::Number(number) => self.number(*number)?,
            Value::Boolean(true) => self.out.extend_from_slice(b"true"),
            Value::Boolean(false) => self.out.extend_from_slice(b"false"),
            Value::Table(table) => self.table(table, depth + 1)?,
            Value::Nil => self.out.extend_from_slice(b"null"),
            null if *null == Value::NULL => self.out.extend_from_slice(b"null"),
            other => return Err(self.refused(other, "type not supported")),
        }
        Ok(())
    }

    fn refused(&self, value: &Value, reason: &str) -> mlua::Error {
        let kind = type_name(value);
        at_caller(self.lua, format!("Cannot serialise {kind}: {reason}"))
    }

    fn string(&mut self, text: &[u8]) {
        self.out.push(b'"');
        for &byte in text {
            match byte {
                b'"' => self.out.extend_from_slice(b"\\\""),
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                b'/' => self.out.extend_from_slice(b"\\/"),
                0x08 => self.out.extend_from_slice(b"\\b"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                0x0c => self.out.extend_from_slice(b"\\f"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                0..=0x1f | 0x7f => self
                    .out
                    .extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                other => self.out.push(other),
            }
        }
        self.out.push(b'"');
    }

    fn number(&mut self, number: f64) -> mlua::Result<()> {
        if !number.is_finite() {
            match self.settings.encode_invalid {
                Invalid::Refused => {
                    return Err(self.refused(&Value::Number(number), "must not be NaN or Inf"));
                }
                Invalid::Null => {
                    self.out.extend_from_slice(b"null");
                    return Ok(());
                }
                Invalid::Written if number.is_nan() => {
                    self.out.extend_from_slice(b"nan");
                    return Ok(());
                }
                Invalid::Written => {}
            }
        }
        let text = number::general(number, self.settings.encode_digits as usize);
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn table(&mut self, table: &Table, depth: i32) -> mlua::Result<()> {
        if depth > self.settings.encode_depth_max.min(DEPTH_MAX) {
            return Err(at_caller(
                self.lua,
                format!("Cannot serialise, excessive nesting ({depth})"),
            ));
        }
        match self.array_length(table)? {
            Some(length @ 1..) => self.array(table, length, depth),
            Some(0) | None => self.object(table, depth),
        }
    }

    /// The greatest index of a table that has only indexes; `None` for an object.
    fn array_length(&self, table: &Table) -> mlua::Result<Option<usize>> {
        let (mut max, mut items, mut is_array) = (0i64, 0i64, true);
        table.for_each(|key: Value, _: Value| {
            items += 1;
            match key {
                Value::Integer(index @ 1..) => max = max.max(index),
                _ => is_array = false,
            }
            Ok(())
        })?;
        if !is_array {
            return Ok(None);
        }
        let settings = self.settings;
        let is_sparse = settings.sparse_ratio > 0
            && max > items.saturating_mul(i64::from(settings.sparse_ratio))
            && max > i64::from(settings.sparse_safe);
        if is_sparse && !settings.sparse_convert {
            let problem = "Cannot serialise table: excessively sparse array";
            return Err(at_caller(self.lua, problem));
        }
        Ok((!is_sparse).then_some(max as usize))
    }

    fn array(&mut self, table: &Table, length: usize, depth: i32) -> mlua::Result<()> {
        self.out.push(b'[');
        for index in 1..=length {
            if index > 1 {
                self.out.push(b',');
            }
            self.value(&table.raw_get::<Value>(index)?, depth)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, table: &Table, depth: i32) -> mlua::Result<()> {
        self.out.push(b'{');
        let mut first = true;
        // No closure of `for_each`: errors name the line that is one frame above this function.
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if !std::mem::take(&mut first) {
                self.out.push(b',');
            }
            match &key {
                Value::Integer(whole) => self.quoted_number(*whole as f64)?,
                Value::Number(number) => self.quoted_number(*number)?,
                Value::String(text) => self.string(&text.as_bytes()),
                other => {
                    return Err(self.refused(other, "table key must be a number or string"));
                }
            }
            self.out.push(b':');
            self.value(&value, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn quoted_number(&mut self, number: f64) -> mlua::Result<()> {
        self.out.push(b'"');
        self.number(number)?;
        self.out.push(b'"');
        Ok(())
    }
}
