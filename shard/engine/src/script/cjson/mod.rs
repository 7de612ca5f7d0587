//! The library `cjson`: values to and from JSON, with the settings and errors of lua-cjson 2.1.0.
//!
//! Source: <https://kyne.au/~mark/software/lua-cjson-manual.html>. Each module table (`cjson`, and what `cjson.new` returns) has settings
//! of its own.

mod decode;
mod encode;

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};

use super::args::Args;

/// Tables nested deeper are neither read nor written, whatever the settings say: each level takes places of Lua's stack.
const DEPTH_MAX: i32 = 1500;

/// What the functions of one module table share.
#[derive(Clone, Debug)]
struct Settings {
    sparse_convert: bool,
    sparse_ratio: i32,
    sparse_safe: i32,
    encode_depth_max: i32,
    decode_depth_max: i32,
    encode_digits: i32,
    encode_keep_buffer: bool,
    encode_invalid: Invalid,
    decode_invalid: bool,
}

/// What becomes of a number that JSON does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invalid {
    Refused,
    Written,
    Null,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth_max: 1000,
            decode_depth_max: 1000,
            encode_digits: 14,
            encode_keep_buffer: true,
            encode_invalid: Invalid::Refused,
            decode_invalid: true,
        }
    }
}

type Shared = Rc<RefCell<Settings>>;

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let shared = Shared::default();
    let table = lua.create_table()?;
    let with = |function: fn(&Lua, &Settings, &Args<'_>) -> mlua::Result<Value>| {
        let shared = Rc::clone(&shared);
        lua.create_function(move |lua, values: MultiValue| {
            let args = Args::new(lua, values);
            let settings = shared.borrow().clone();
            function(lua, &settings, &args)
        })
    };
    table.raw_set("encode", with(encode::encode)?)?;
    table.raw_set("decode", with(decode::decode)?)?;
    let setting =
        |arguments: usize,
         function: fn(&Lua, &mut Settings, &Args<'_>) -> mlua::Result<MultiValue>| {
            let shared = Rc::clone(&shared);
            lua.create_function(move |lua, values: MultiValue| {
                let args = Args::new(lua, values);
                if args.len() > arguments {
                    return Err(args.bad(arguments + 1, "found too many arguments"));
                }
                function(lua, &mut shared.borrow_mut(), &args)
            })
        };
    table.raw_set("encode_sparse_array", setting(3, encode_sparse_array)?)?;
    table.raw_set(
        "encode_max_depth",
        setting(1, |_, settings, args| {
            whole(args, 1, &mut settings.encode_depth_max, 1, i32::MAX).map(one)
        })?,
    )?;
    table.raw_set(
        "decode_max_depth",
        setting(1, |_, settings, args| {
            whole(args, 1, &mut settings.decode_depth_max, 1, i32::MAX).map(one)
        })?,
    )?;
    table.raw_set(
        "encode_number_precision",
        setting(1, |_, settings, args| {
            whole(args, 1, &mut settings.encode_digits, 1, 14).map(one)
        })?,
    )?;
    table.raw_set(
        "encode_keep_buffer",
        setting(1, |_, settings, args| {
            flag(args, 1, &mut settings.encode_keep_buffer).map(one)
        })?,
    )?;
    table.raw_set(
        "encode_invalid_numbers",
        setting(1, encode_invalid_numbers)?,
    )?;
    table.raw_set(
        "decode_invalid_numbers",
        setting(1, |_, settings, args| {
            flag(args, 1, &mut settings.decode_invalid).map(one)
        })?,
    )?;
    table.raw_set("new", lua.create_function(|lua, ()| library(lua))?)?;
    table.raw_set("null", Value::NULL)?;
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    Ok(table)
}

fn one(value: Value) -> MultiValue {
    MultiValue::from_iter([value])
}

fn encode_sparse_array(
    _: &Lua,
    settings: &mut Settings,
    args: &Args<'_>,
) -> mlua::Result<MultiValue> {
    Ok(MultiValue::from_iter([
        flag(args, 1, &mut settings.sparse_convert)?,
        whole(args, 2, &mut settings.sparse_ratio, 0, i32::MAX)?,
        whole(args, 3, &mut settings.sparse_safe, 0, i32::MAX)?,
    ]))
}

fn encode_invalid_numbers(
    lua: &Lua,
    settings: &mut Settings,
    args: &Args<'_>,
) -> mlua::Result<MultiValue> {
    match args.get(1) {
        None | Some(Value::Nil) => {}
        Some(Value::Boolean(on)) => {
            settings.encode_invalid = if *on {
                Invalid::Written
            } else {
                Invalid::Refused
            };
        }
        Some(_) => {
            let options = ["off", "on", "null"];
            let values = [Invalid::Refused, Invalid::Written, Invalid::Null];
            settings.encode_invalid = values[option(args, 1, &options)?];
        }
    }
    Ok(one(match settings.encode_invalid {
        Invalid::Refused => Value::Boolean(false),
        Invalid::Written => Value::Boolean(true),
        Invalid::Null => Value::String(lua.create_string("null")?),
    }))
}

/// A setting that is on or off: changed when an argument says so, and returned.
fn flag(args: &Args<'_>, index: usize, setting: &mut bool) -> mlua::Result<Value> {
    match args.get(index) {
        None | Some(Value::Nil) => {}
        Some(Value::Boolean(on)) => *setting = *on,
        Some(_) => *setting = option(args, index, &["off", "on"])? == 1,
    }
    Ok(Value::Boolean(*setting))
}

fn option(args: &Args<'_>, index: usize, options: &[&str]) -> mlua::Result<usize> {
    let text = args.bytes(index)?;
    options
        .iter()
        .position(|option| option.as_bytes() == text)
        .ok_or_else(|| {
            let shown = String::from_utf8_lossy(&text);
            args.bad(index, &format!("invalid option '{shown}'"))
        })
}

fn whole(
    args: &Args<'_>,
    index: usize,
    setting: &mut i32,
    min: i32,
    max: i32,
) -> mlua::Result<Value> {
    if !matches!(args.get(index), None | Some(Value::Nil)) {
        let value = args.integer(index)? as i32;
        if !(min..=max).contains(&value) {
            return Err(args.bad(1, &format!("expected integer between {min} and {max}")));
        }
        *setting = value;
    }
    Ok(Value::Number(f64::from(*setting)))
}
