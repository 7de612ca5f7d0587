//! The library `struct`: values to and from the bytes of C structures, by a format.
//!
//! Source: <http://www.inf.puc-rio.br/~roberto/struct/>, sizes as on 64-bit Linux.

use mlua::{Lua, MultiValue, Table, Value};

use super::args::Args;
use super::number;
use super::raise::at_caller;

/// Largest integer of a format, in bytes.
const INTEGER_BYTES_MAX: usize = 32;
/// What `!` alone aligns to, in bytes.
const ALIGNMENT_DEFAULT: usize = 8;

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pack", lua.create_function(pack)?)?;
    table.raw_set("unpack", lua.create_function(unpack)?)?;
    table.raw_set("size", lua.create_function(size)?)?;
    Ok(table)
}

/// One option of a format, with what stands before it.
struct Item {
    option: u8,
    /// Bytes that it takes, as far as the format says.
    size: usize,
    /// Bytes of padding before it.
    padding: usize,
}

/// Reads a format from left to right.
struct Format<'a> {
    lua: &'a Lua,
    text: &'a [u8],
    at: usize,
    big_endian: bool,
    alignment: usize,
}

impl<'a> Format<'a> {
    fn new(lua: &'a Lua, text: &'a [u8]) -> Format<'a> {
        // A C string ends at its first zero byte.
        let end = text.iter().position(|byte| *byte == 0);
        Format {
            lua,
            text: &text[..end.unwrap_or(text.len())],
            at: 0,
            big_endian: false,
            alignment: 1,
        }
    }

    /// The next option, for data that is `position` bytes long so far.
    fn next(&mut self, position: usize) -> mlua::Result<Option<Item>> {
        let Some(&option) = self.text.get(self.at) else {
            return Ok(None);
        };
        self.at += 1;
        let size = match option {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number_or(1)?,
            b'i' | b'I' => {
                let size = self.number_or(4)?;
                if size > INTEGER_BYTES_MAX {
                    return Err(at_caller(
                        self.lua,
                        format!("integral size {size} is larger than limit of {INTEGER_BYTES_MAX}"),
                    ));
                }
                size
            }
            _ => 0,
        };
        let unit = size.min(self.alignment);
        let padding = if size == 0 || option == b'c' {
            0
        } else {
            unit.wrapping_sub(position & unit.wrapping_sub(1)) & unit.wrapping_sub(1)
        };
        Ok(Some(Item {
            option,
            size,
            padding,
        }))
    }

    fn number_or(&mut self, default: usize) -> mlua::Result<usize> {
        let digits = &self.text[self.at..];
        let end = digits.iter().position(|byte| !byte.is_ascii_digit());
        let digits = &digits[..end.unwrap_or(digits.len())];
        if digits.is_empty() {
            return Ok(default);
        }
        self.at += digits.len();
        let mut value: i32 = 0;
        for digit in digits {
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(i32::from(digit - b'0')))
                .ok_or_else(|| at_caller(self.lua, "integral size overflow"))?;
        }
        Ok(value as usize)
    }

    /// Options that stand for no data.
    fn control(&mut self, option: u8, args: &Args<'_>) -> mlua::Result<()> {
        match option {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let alignment = self.number_or(ALIGNMENT_DEFAULT)?;
                if !alignment.is_power_of_two() {
                    return Err(at_caller(
                        self.lua,
                        format!("alignment {alignment} is not a power of 2"),
                    ));
                }
                self.alignment = alignment;
            }
            other => {
                let shown = char::from(other);
                return Err(args.bad(1, &format!("invalid format option '{shown}'")));
            }
        }
        Ok(())
    }

    /// `bytes` are least significant first.
    fn order(&self, bytes: &mut [u8]) {
        if self.big_endian {
            bytes.reverse();
        }
    }
}

fn pack(lua: &Lua, mut values: MultiValue) -> mlua::Result<mlua::LuaString> {
    // An argument that is missing is called nil.
    values.push_back(Value::Nil);
    let args = Args::new(lua, values);
    let text = args.bytes(1)?;
    let mut format = Format::new(lua, &text);
    let mut data = Vec::new();
    let mut next = 2;
    while let Some(item) = format.next(data.len())? {
        data.resize(data.len() + item.padding, 0);
        match item.option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let mut bytes = integer_bytes(args.number(next)?, item.size);
                next += 1;
                format.order(&mut bytes);
                data.extend_from_slice(&bytes);
            }
            b'x' => data.push(0),
            b'f' => {
                let mut bytes = (args.number(next)? as f32).to_le_bytes();
                next += 1;
                format.order(&mut bytes);
                data.extend_from_slice(&bytes);
            }
            b'd' => {
                let mut bytes = args.number(next)?.to_le_bytes();
                next += 1;
                format.order(&mut bytes);
                data.extend_from_slice(&bytes);
            }
            b'c' | b's' => {
                let bytes = args.bytes(next)?;
                next += 1;
                let wanted = if item.size == 0 {
                    bytes.len()
                } else {
                    item.size
                };
                if bytes.len() < wanted {
                    return Err(args.bad(next, "string too short"));
                }
                data.extend_from_slice(&bytes[..wanted]);
                if item.option == b's' {
                    data.push(0);
                }
            }
            other => format.control(other, &args)?,
        }
    }
    lua.create_string(data)
}

/// Two's complement of 64 bits, cut or filled with zeros to `size`.
fn integer_bytes(value: f64, size: usize) -> Vec<u8> {
    let bits = if value < 0.0 {
        number::to_i64(value) as u64
    } else {
        value as u64
    };
    let mut bytes = bits.to_le_bytes().to_vec();
    bytes.resize(size, 0);
    bytes
}

fn unpack(lua: &Lua, values: MultiValue) -> mlua::Result<MultiValue> {
    let args = Args::new(lua, values);
    let text = args.bytes(1)?;
    let data = args.bytes(2)?;
    let start = args.integer_or(3, 1)?;
    if start == 0 {
        return Err(args.bad(3, "offset must be 1 or greater"));
    }
    // A negative offset is a huge one.
    let mut at = (start as usize).wrapping_sub(1);
    let mut format = Format::new(lua, &text);
    let mut results = MultiValue::new();
    let short = || args.bad(2, "data string too short");
    while let Some(item) = format.next(at)? {
        at = at.wrapping_add(item.padding);
        let field = |size: usize| {
            at.checked_add(size)
                .and_then(|end| data.get(at..end))
                .ok_or_else(short)
        };
        let mut taken = item.size;
        match item.option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let mut bytes = field(item.size)?.to_vec();
                format.order(&mut bytes);
                let signed = item.option.is_ascii_lowercase();
                results.push_back(Value::Number(integer_of(&bytes, signed)));
            }
            b'f' => {
                let mut bytes = [0; 4];
                bytes.copy_from_slice(field(4)?);
                format.order(&mut bytes);
                results.push_back(Value::Number(f64::from(f32::from_le_bytes(bytes))));
            }
            b'd' => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(field(8)?);
                format.order(&mut bytes);
                results.push_back(Value::Number(f64::from_le_bytes(bytes)));
            }
            b'c' => {
                if item.size == 0 {
                    field(0)?;
                    let size = results
                        .pop_back()
                        .and_then(|last| super::args::as_number(lua, &last));
                    let Some(size) = size else {
                        return Err(at_caller(lua, "format 'c0' needs a previous size"));
                    };
                    taken = number::to_i64(size) as usize;
                }
                results.push_back(Value::String(lua.create_string(field(taken)?)?));
            }
            b's' => {
                let rest = data.get(at..).ok_or_else(short)?;
                let Some(length) = rest.iter().position(|byte| *byte == 0) else {
                    return Err(at_caller(lua, "unfinished string in data"));
                };
                taken = length + 1;
                results.push_back(Value::String(lua.create_string(&rest[..length])?));
            }
            b'x' => {
                field(1)?;
            }
            other => {
                field(0)?;
                format.control(other, &args)?;
            }
        }
        at += taken;
    }
    results.push_back(Value::Number((at + 1) as f64));
    Ok(results)
}

/// Of bytes that are least significant first; more than 64 bits are lost.
fn integer_of(bytes: &[u8], signed: bool) -> f64 {
    let mut value = 0u64;
    for byte in bytes.iter().take(8).rev() {
        value = (value << 8) | u64::from(*byte);
    }
    if !signed {
        return value as f64;
    }
    let unused = 64 - 8 * bytes.len().clamp(1, 8) as u32;
    (((value << unused) as i64) >> unused) as f64
}

fn size(lua: &Lua, values: MultiValue) -> mlua::Result<f64> {
    let args = Args::new(lua, values);
    let text = args.bytes(1)?;
    let mut format = Format::new(lua, &text);
    let mut total = 0usize;
    while let Some(item) = format.next(total)? {
        total += item.padding;
        if item.option == b's' {
            return Err(args.bad(1, "option 's' has no fixed size"));
        }
        if item.option == b'c' && item.size == 0 {
            return Err(args.bad(1, "option 'c0' has no fixed size"));
        }
        if !item.option.is_ascii_alphanumeric() {
            format.control(item.option, &args)?;
        }
        total += item.size;
    }
    Ok(total as f64)
}
