//! Strings as arrays of bits: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP. Bit 0 is the highest of the first byte.

use larder_wire::Refusal;

use super::args::int_arg;
use crate::call::Call;
use crate::events::Classes;
use crate::number::parse_i64;
use crate::strings::{SetExpiry, Store};

const NOT_AN_OFFSET: Refusal = Refusal::fixed("ERR bit offset is not an integer or out of range");
const NOT_A_BIT: Refusal = Refusal::fixed("ERR bit is not an integer or out of range");

/// The offset that `text` says, within the longest string.
pub(super) fn bit_offset(call: &Call<'_>, text: &[u8], times: i64) -> Result<usize, Refusal> {
    let max = call.keyspace.string_bytes_max();
    let offset = parse_i64(text).ok_or(NOT_AN_OFFSET)?;
    offset
        .checked_mul(times)
        .and_then(|offset| usize::try_from(offset).ok())
        .filter(|offset| offset / 8 < max)
        .ok_or(NOT_AN_OFFSET)
}

fn mask_of(offset: usize) -> u8 {
    0x80 >> (offset % 8)
}

pub fn setbit(call: &mut Call<'_>) -> Result<(), Refusal> {
    let offset = bit_offset(call, call.request.arg(2), 1)?;
    let on = match parse_i64(call.request.arg(3)) {
        Some(0) => false,
        Some(1) => true,
        Some(_) | None => return Err(NOT_A_BIT),
    };
    let (byte, mask) = (offset / 8, mask_of(offset));
    let (mut grown, mut before) = (false, false);
    let grow = |len: Option<usize>| {
        grown = len.is_none_or(|len| len <= byte);
        Ok(Some(len.unwrap_or(0).max(byte + 1)))
    };
    let put = |bytes: &mut [u8]| {
        before = bytes[byte] & mask != 0;
        if on {
            bytes[byte] |= mask;
        } else {
            bytes[byte] &= !mask;
        }
    };
    let key = call.key(1);
    call.keyspace.edit_string(key, call.now, grow, put)?;
    if grown || before != on {
        call.say(Classes::STRING, "setbit", key);
        call.effects.verbatim();
    }
    call.reply.int(before.into());
    Ok(())
}

pub fn getbit(call: &mut Call<'_>) -> Result<(), Refusal> {
    let offset = bit_offset(call, call.request.arg(2), 1)?;
    let mut digits = [0; 20];
    let key = call.key(1);
    let text = match call.keyspace.string(key, call.now)? {
        Some(string) => string.text(&mut digits),
        None => b"",
    };
    let byte = text.get(offset / 8).copied().unwrap_or(0);
    call.reply.int((byte & mask_of(offset) != 0).into());
    Ok(())
}

/// A range of bits: the first, and the one after the last.
struct BitRange {
    start: usize,
    end: usize,
}

impl BitRange {
    fn all(text: &[u8]) -> BitRange {
        BitRange {
            start: 0,
            end: text.len() * 8,
        }
    }

    /// Both given ends included, counted in bytes or bits, from the end when negative; `None` when empty.
    fn of(text: &[u8], start: i64, end: i64, in_bits: bool) -> Option<BitRange> {
        let len = text.len() as i64 * if in_bits { 8 } else { 1 };
        let from_start = |at: i64| if at < 0 { (len + at).max(0) } else { at };
        let (start, end) = (from_start(start), from_start(end).min(len - 1));
        if start > end {
            return None;
        }
        let (start, end) = (start as usize, end as usize + 1);
        Some(if in_bits {
            BitRange { start, end }
        } else {
            BitRange {
                start: start * 8,
                end: end * 8,
            }
        })
    }

    /// The bytes that the range touches, each with the bits outside of it set to `outside`.
    fn bytes(self, text: &[u8], outside: bool) -> impl Iterator<Item = (usize, u8)> + '_ {
        let (first, last) = (self.start / 8, (self.end - 1) / 8);
        let before = !(0xFFu8 >> (self.start % 8));
        let after = 0x7Fu8 >> ((self.end - 1) % 8);
        (first..=last).map(move |at| {
            let mut cut = 0;
            if at == first {
                cut |= before;
            }
            if at == last {
                cut |= after;
            }
            let byte = if outside {
                text[at] | cut
            } else {
                text[at] & !cut
            };
            (at, byte)
        })
    }
}

/// BYTE or BIT: true for bits.
fn unit(word: Option<&[u8]>) -> Result<bool, Refusal> {
    match word {
        None => Ok(false),
        Some(word) if word.eq_ignore_ascii_case(b"byte") => Ok(false),
        Some(word) if word.eq_ignore_ascii_case(b"bit") => Ok(true),
        Some(_) => Err(Refusal::SYNTAX),
    }
}

pub fn bitcount(call: &mut Call<'_>) -> Result<(), Refusal> {
    let mut digits = [0; 20];
    let key = call.key(1);
    let Some(string) = call.keyspace.string(key, call.now)? else {
        call.reply.int(0);
        return Ok(());
    };
    let text = string.text(&mut digits);
    let range = match call.request.len() {
        2 => Some(BitRange::all(text)).filter(|range| range.end > 0),
        4 | 5 => {
            let (start, end) = (int_arg(call.request, 2)?, int_arg(call.request, 3)?);
            // Redis counts nothing in a range that is upside down from the end, and does not even look at its unit; BITPOS
            // takes such a range for the string's start.
            if start < 0 && end < 0 && start > end {
                None
            } else {
                BitRange::of(text, start, end, unit(call.request.get(4))?)
            }
        }
        _ => return Err(Refusal::SYNTAX),
    };
    let count = match range {
        None => 0,
        Some(range) => count_ones(range, text),
    };
    call.reply.int(count);
    Ok(())
}

fn count_ones(range: BitRange, text: &[u8]) -> i64 {
    if !range.start.is_multiple_of(8) || !range.end.is_multiple_of(8) {
        return range
            .bytes(text, false)
            .map(|(_, byte)| i64::from(byte.count_ones()))
            .sum();
    }
    let bytes = &text[range.start / 8..range.end / 8];
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words
        .iter()
        .map(|word| i64::from(u64::from_ne_bytes(*word).count_ones()));
    let rest = rest.iter().map(|byte| i64::from(byte.count_ones()));
    words.sum::<i64>() + rest.sum::<i64>()
}

pub fn bitpos(call: &mut Call<'_>) -> Result<(), Refusal> {
    let bit = match int_arg(call.request, 2)? {
        0 => false,
        1 => true,
        _ => return Err(Refusal::fixed("ERR The bit argument must be 1 or 0.")),
    };
    let mut digits = [0; 20];
    let key = call.key(1);
    let Some(string) = call.keyspace.string(key, call.now)? else {
        // As if there were zeros without end.
        call.reply.int(if bit { -1 } else { 0 });
        return Ok(());
    };
    let text = string.text(&mut digits);
    let (range, end_given) = match call.request.len() {
        3 => (
            Some(BitRange::all(text)).filter(|range| range.end > 0),
            false,
        ),
        4..=6 => {
            let start = int_arg(call.request, 3)?;
            let in_bits = unit(call.request.get(5))?;
            let end_given = call.request.len() > 4;
            let end = if end_given {
                int_arg(call.request, 4)?
            } else {
                i64::MAX
            };
            (BitRange::of(text, start, end, in_bits), end_given)
        }
        _ => return Err(Refusal::SYNTAX),
    };
    let found = match range {
        None => -1,
        Some(range) => {
            let past_end = range.end as i64;
            match position(range, text, bit) {
                Some(at) => at as i64,
                None if !bit && !end_given => past_end,
                None => -1,
            }
        }
    };
    call.reply.int(found);
    Ok(())
}

fn position(range: BitRange, text: &[u8], bit: bool) -> Option<usize> {
    // Outside of the range stands what is not looked for.
    range
        .bytes(text, !bit)
        .map(|(at, byte)| (at, if bit { byte } else { !byte }))
        .find(|(_, byte)| *byte != 0)
        .map(|(at, byte)| at * 8 + byte.leading_zeros() as usize)
}

pub fn bitop(call: &mut Call<'_>) -> Result<(), Refusal> {
    let word = call.request.arg(1).to_ascii_lowercase();
    let join: fn(u8, u8) -> u8 = match word.as_slice() {
        b"and" => |a, b| a & b,
        b"or" => |a, b| a | b,
        b"xor" => |a, b| a ^ b,
        b"not" => |_, b| !b,
        _ => return Err(Refusal::SYNTAX),
    };
    if word == b"not" && call.request.len() != 4 {
        return Err(Refusal::fixed(
            "ERR BITOP NOT must be called with a single source key.",
        ));
    }
    let mut sources = Vec::with_capacity(call.request.len() - 3);
    for index in 3..call.request.len() {
        let key = call.key(index);
        let text = match call.keyspace.string(key, call.now)? {
            Some(string) => super::string::to_bytes(string),
            None => Vec::new(),
        };
        sources.push(text);
    }
    let len = sources.iter().map(Vec::len).max().unwrap_or(0);
    let mut sources = sources.into_iter();
    let mut result = match sources.next() {
        Some(first) if word != b"not" => first,
        Some(only) => only.into_iter().map(|byte| join(0, byte)).collect(),
        None => Vec::new(),
    };
    result.resize(len, 0);
    for source in sources {
        let padded = source.into_iter().chain(std::iter::repeat(0));
        for (byte, other) in result.iter_mut().zip(padded) {
            *byte = join(*byte, other);
        }
    }
    let target = call.key(2);
    if len > 0 {
        let put = |bytes: &mut [u8]| bytes.copy_from_slice(&result);
        // Whatever was there; then as a string that was edited, which OBJECT ENCODING shows.
        call.keyspace
            .set_string(target, b"", Store::Plain, SetExpiry::Clear, call.now);
        call.keyspace
            .edit_string(target, call.now, |_| Ok(Some(len)), put)?;
        call.say(Classes::STRING, "set", target);
        call.effects.verbatim();
    } else if call.keyspace.remove(target, call.now) {
        call.say(Classes::GENERIC, "del", target);
        call.effects.push([b"DEL", target.bytes()]);
    }
    call.reply.int(len as i64);
    Ok(())
}
