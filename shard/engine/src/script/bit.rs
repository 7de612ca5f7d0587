//! The library `bit`: operations on the low 32 bits of numbers, results signed.
//!
//! Source: <http://bitop.luajit.org/semantics.html>.

use mlua::{Lua, MultiValue, Table};

use super::args::{Args, as_number};

/// Added to a number, it leaves the low 32 bits of its nearest integer at the end of the mantissa.
const TO_BITS: f64 = 6_755_399_441_055_744.0;

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    unary(lua, &table, "tobit", |bits| bits)?;
    unary(lua, &table, "bnot", |bits| !bits)?;
    unary(lua, &table, "bswap", u32::swap_bytes)?;
    fold(lua, &table, "band", |a, b| a & b)?;
    fold(lua, &table, "bor", |a, b| a | b)?;
    fold(lua, &table, "bxor", |a, b| a ^ b)?;
    shift(lua, &table, "lshift", |bits, by| bits << by)?;
    shift(lua, &table, "rshift", |bits, by| bits >> by)?;
    shift(lua, &table, "arshift", |bits, by| {
        (bits as i32 >> by) as u32
    })?;
    shift(lua, &table, "rol", u32::rotate_left)?;
    shift(lua, &table, "ror", u32::rotate_right)?;
    table.raw_set("tohex", lua.create_function(to_hex)?)?;
    Ok(table)
}

fn unary(lua: &Lua, table: &Table, name: &str, op: fn(u32) -> u32) -> mlua::Result<()> {
    let function = lua.create_function(move |lua, values: MultiValue| {
        let args = Args::new(lua, values);
        Ok(signed(op(bits(lua, &args, 1)?)))
    })?;
    table.raw_set(name, function)
}

fn fold(lua: &Lua, table: &Table, name: &str, op: fn(u32, u32) -> u32) -> mlua::Result<()> {
    let function = lua.create_function(move |lua, values: MultiValue| {
        let args = Args::new(lua, values);
        let mut result = bits(lua, &args, 1)?;
        for index in (2..=args.len()).rev() {
            result = op(result, bits(lua, &args, index)?);
        }
        Ok(signed(result))
    })?;
    table.raw_set(name, function)
}

fn shift(lua: &Lua, table: &Table, name: &str, op: fn(u32, u32) -> u32) -> mlua::Result<()> {
    let function = lua.create_function(move |lua, values: MultiValue| {
        let args = Args::new(lua, values);
        let by = bits(lua, &args, 2)? & 31;
        Ok(signed(op(bits(lua, &args, 1)?, by)))
    })?;
    table.raw_set(name, function)
}

fn to_hex(lua: &Lua, values: MultiValue) -> mlua::Result<String> {
    let args = Args::new(lua, values);
    let value = bits(lua, &args, 1)?;
    let digits = match args.get(2) {
        None => 8,
        Some(_) => bits(lua, &args, 2)? as i32,
    };
    let text = if digits < 0 {
        format!("{value:08X}")
    } else {
        format!("{value:08x}")
    };
    let kept = digits.unsigned_abs().min(8) as usize;
    Ok(text[8 - kept..].to_string())
}

fn bits(lua: &Lua, args: &Args<'_>, index: usize) -> mlua::Result<u32> {
    let number = args.get(index).and_then(|value| as_number(lua, value));
    match number {
        Some(number) => Ok((number + TO_BITS).to_bits() as u32),
        None => Err(args.wrong_type(index, "number")),
    }
}

fn signed(bits: u32) -> f64 {
    f64::from(bits as i32)
}
