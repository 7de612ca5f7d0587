//! JSON to Lua values.
//!
//! Input ends at its end or at a zero byte, whichever comes first.

use mlua::{Lua, Table, Value};

use super::{DEPTH_MAX, Settings};
use crate::script::args::Args;
use crate::script::raise::at_caller;

pub(super) fn decode(lua: &Lua, settings: &Settings, args: &Args<'_>) -> mlua::Result<Value> {
    if args.len() != 1 {
        return Err(args.bad(1, "expected 1 argument"));
    }
    let input = args.bytes(1)?;
    if input.len() >= 2 && (input[0] == 0 || input[1] == 0) {
        return Err(at_caller(
            lua,
            "JSON parser does not support UTF-16 or UTF-32",
        ));
    }
    let mut parser = Parser {
        lua,
        settings,
        input: &input,
        at: 0,
        depth: 0,
    };
    let first = parser.next();
    let value = parser.value(first)?;
    let last = parser.next();
    match last.token {
        Token::End => Ok(value),
        _ => Err(parser.unexpected("the end", &last)),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    /// How errors name it.
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String(_) => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Error(problem) => problem,
        }
    }
}

/// A token and where it starts.
struct Found {
    token: Token,
    at: usize,
}

struct Parser<'a> {
    lua: &'a Lua,
    settings: &'a Settings,
    input: &'a [u8],
    at: usize,
    depth: i32,
}

impl Parser<'_> {
    /// The byte `ahead` of the place; 0 behind the end.
    fn peek(&self, ahead: usize) -> u8 {
        self.input.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn rest(&self) -> &[u8] {
        &self.input[self.at.min(self.input.len())..]
    }

    fn unexpected(&self, wanted: &str, found: &Found) -> mlua::Error {
        let (name, character) = (found.token.name(), found.at + 1);
        at_caller(
            self.lua,
            format!("Expected {wanted} but found {name} at character {character}"),
        )
    }

    fn next(&mut self) -> Found {
        while matches!(self.peek(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let at = self.at;
        let token = self.token();
        match token {
            // Of an error, the place is where it was noticed.
            Token::Error(_) => Found { token, at: self.at },
            _ => Found { token, at },
        }
    }

    fn token(&mut self) -> Token {
        let single = |token| (1, token);
        let (length, token) = match self.peek(0) {
            b'{' => single(Token::ObjectBegin),
            b'}' => single(Token::ObjectEnd),
            b'[' => single(Token::ArrayBegin),
            b']' => single(Token::ArrayEnd),
            b',' => single(Token::Comma),
            b':' => single(Token::Colon),
            0 => (0, Token::End),
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => {
                if !self.settings.decode_invalid && self.is_invalid_number() {
                    return Token::Error("invalid number");
                }
                return self.number();
            }
            b't' if self.rest().starts_with(b"true") => (4, Token::Boolean(true)),
            b'f' if self.rest().starts_with(b"false") => (5, Token::Boolean(false)),
            b'n' if self.rest().starts_with(b"null") => (4, Token::Null),
            b'f' | b'i' | b'I' | b'n' | b'N' | b't' | b'+'
                if self.settings.decode_invalid && self.is_invalid_number() =>
            {
                return self.number();
            }
            _ => (0, Token::Error("invalid token")),
        };
        self.at += length;
        token
    }

    fn string(&mut self) -> Token {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            match self.peek(0) {
                0 => return Token::Error("unexpected end of string"),
                b'"' => break,
                b'\\' => {
                    let plain = match self.peek(1) {
                        byte @ (b'"' | b'\\' | b'/') => byte,
                        b'b' => 0x08,
                        b't' => b'\t',
                        b'n' => b'\n',
                        b'f' => 0x0c,
                        b'r' => b'\r',
                        b'u' => match self.unicode_escape() {
                            Some((character, length)) => {
                                let mut room = [0; 4];
                                let bytes = utf8(character, &mut room);
                                text.extend_from_slice(bytes);
                                self.at += length;
                                continue;
                            }
                            None => return Token::Error("invalid unicode escape code"),
                        },
                        _ => return Token::Error("invalid escape code"),
                    };
                    text.push(plain);
                    self.at += 2;
                }
                byte => {
                    text.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        Token::String(text)
    }

    /// The code point of the escape here, and the bytes that it takes.
    fn unicode_escape(&self) -> Option<(u32, usize)> {
        let high = self.hex4(2)?;
        if high & 0xF800 != 0xD800 {
            return Some((high, 6));
        }
        if high & 0x400 != 0 || self.peek(6) != b'\\' || self.peek(7) != b'u' {
            return None;
        }
        let low = self.hex4(8)?;
        if low & 0xFC00 != 0xDC00 {
            return None;
        }
        Some(((((high & 0x3FF) << 10) | (low & 0x3FF)) + 0x1_0000, 12))
    }

    fn hex4(&self, ahead: usize) -> Option<u32> {
        let mut value = 0;
        for index in 0..4 {
            value = (value << 4) | char::from(self.peek(ahead + index)).to_digit(16)?;
        }
        Some(value)
    }

    /// A number that `strtod` takes and JSON does not.
    fn is_invalid_number(&self) -> bool {
        let mut ahead = 0;
        match self.peek(0) {
            b'+' => return true,
            b'-' => ahead = 1,
            _ => {}
        }
        match self.peek(ahead) {
            b'0' => matches!(self.peek(ahead + 1), b'x' | b'X' | b'0'..=b'9'),
            0..=b'9' => false,
            _ => {
                let rest = &self.rest()[ahead..];
                [b"inf", b"nan"].iter().any(|word| {
                    rest.get(..3)
                        .is_some_and(|start| start.eq_ignore_ascii_case(*word))
                })
            }
        }
    }

    fn number(&mut self) -> Token {
        match strtod(self.rest()) {
            Some((value, length)) => {
                self.at += length;
                Token::Number(value)
            }
            None => Token::Error("invalid number"),
        }
    }

    fn value(&mut self, found: Found) -> mlua::Result<Value> {
        match found.token {
            Token::String(text) => self.lua.create_string(text).map(Value::String),
            Token::Number(number) => Ok(Value::Number(number)),
            Token::Boolean(flag) => Ok(Value::Boolean(flag)),
            Token::Null => Ok(Value::NULL),
            Token::ObjectBegin => self.object().map(Value::Table),
            Token::ArrayBegin => self.array().map(Value::Table),
            Token::ObjectEnd
            | Token::ArrayEnd
            | Token::Colon
            | Token::Comma
            | Token::End
            | Token::Error(_) => Err(self.unexpected("value", &found)),
        }
    }

    fn descend(&mut self) -> mlua::Result<Table> {
        self.depth += 1;
        if self.depth > self.settings.decode_depth_max.min(DEPTH_MAX) {
            let (depth, at) = (self.depth, self.at);
            return Err(at_caller(
                self.lua,
                format!("Found too many nested data structures ({depth}) at character {at}"),
            ));
        }
        self.lua.create_table()
    }

    fn object(&mut self) -> mlua::Result<Table> {
        let table = self.descend()?;
        let mut found = self.next();
        if found.token != Token::ObjectEnd {
            loop {
                let Token::String(name) = found.token else {
                    return Err(self.unexpected("object key string", &found));
                };
                let name = self.lua.create_string(name)?;
                found = self.next();
                if found.token != Token::Colon {
                    return Err(self.unexpected("colon", &found));
                }
                found = self.next();
                let value = self.value(found)?;
                table.raw_set(name, value)?;
                found = self.next();
                match found.token {
                    Token::ObjectEnd => break,
                    Token::Comma => found = self.next(),
                    _ => return Err(self.unexpected("comma or object end", &found)),
                }
            }
        }
        self.depth -= 1;
        Ok(table)
    }

    fn array(&mut self) -> mlua::Result<Table> {
        let table = self.descend()?;
        let mut found = self.next();
        if found.token != Token::ArrayEnd {
            for index in 1.. {
                let value = self.value(found)?;
                table.raw_set(index, value)?;
                found = self.next();
                match found.token {
                    Token::ArrayEnd => break,
                    Token::Comma => found = self.next(),
                    _ => return Err(self.unexpected("comma or array end", &found)),
                }
            }
        }
        self.depth -= 1;
        Ok(table)
    }
}

/// UTF-8 of any number of up to 21 bits, half of a surrogate pair among them.
fn utf8(character: u32, room: &mut [u8; 4]) -> &[u8] {
    let tail = |shift: u32| ((character >> shift) & 0x3F) as u8 | 0x80;
    let length = match character {
        0..=0x7F => {
            room[0] = character as u8;
            1
        }
        0x80..=0x7FF => {
            room[..2].copy_from_slice(&[(character >> 6) as u8 | 0xC0, tail(0)]);
            2
        }
        0x800..=0xFFFF => {
            room[..3].copy_from_slice(&[(character >> 12) as u8 | 0xE0, tail(6), tail(0)]);
            3
        }
        _ => {
            *room = [(character >> 18) as u8 | 0xF0, tail(12), tail(6), tail(0)];
            4
        }
    };
    &room[..length]
}

/// The number at the start of `text` and its length, as C's `strtod` reads it: decimal, hexadecimal, infinity or NaN.
fn strtod(text: &[u8]) -> Option<(f64, usize)> {
    let signed = matches!(text.first(), Some(b'-' | b'+'));
    let sign = usize::from(signed);
    let negative = text.first() == Some(&b'-');
    let with_sign = |value: f64| if negative { -value } else { value };
    let digits = &text[sign..];
    let starts = |word: &[u8]| {
        digits
            .get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    for (word, value) in [
        (b"infinity".as_slice(), f64::INFINITY),
        (b"inf", f64::INFINITY),
        (b"nan", f64::NAN),
    ] {
        if starts(word) {
            return Some((with_sign(value), sign + word.len()));
        }
    }
    if starts(b"0x")
        && let Some((value, length)) = hexadecimal(&digits[2..])
    {
        return Some((with_sign(value), sign + 2 + length));
    }
    let run = |from: usize| {
        digits[from.min(digits.len())..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let whole = run(0);
    let mut end = whole;
    if digits.get(end) == Some(&b'.') {
        let fraction = run(end + 1);
        if whole + fraction == 0 {
            return None;
        }
        end += 1 + fraction;
    } else if whole == 0 {
        return None;
    }
    if matches!(digits.get(end), Some(b'e' | b'E')) {
        let exponent_sign = usize::from(matches!(digits.get(end + 1), Some(b'-' | b'+')));
        let exponent = run(end + 1 + exponent_sign);
        if exponent > 0 {
            end += 1 + exponent_sign + exponent;
        }
    }
    let value: f64 = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    Some((with_sign(value), sign + end))
}

/// Hexadecimal digits with an optional fraction and binary exponent, behind their `0x`.
fn hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    let (mut value, mut scale, mut end, mut digits) = (0.0f64, 0i32, 0, 0);
    let mut in_fraction = false;
    while let Some(&byte) = text.get(end) {
        if byte == b'.' && !in_fraction {
            in_fraction = true;
        } else if let Some(digit) = char::from(byte).to_digit(16) {
            value = value * 16.0 + f64::from(digit);
            digits += 1;
            scale -= if in_fraction { 4 } else { 0 };
        } else {
            break;
        }
        end += 1;
    }
    if digits == 0 {
        return None;
    }
    if matches!(text.get(end), Some(b'p' | b'P')) {
        let negative = text.get(end + 1) == Some(&b'-');
        let start = end + 1 + usize::from(matches!(text.get(end + 1), Some(b'-' | b'+')));
        let exponent: Vec<u8> = text[start.min(text.len())..]
            .iter()
            .copied()
            .take_while(u8::is_ascii_digit)
            .collect();
        if !exponent.is_empty() {
            let size = exponent.iter().fold(0i32, |sum, digit| {
                sum.saturating_mul(10)
                    .saturating_add(i32::from(digit - b'0'))
            });
            scale = scale.saturating_add(if negative { -size } else { size });
            end = start + exponent.len();
        }
    }
    Some((value * 2f64.powi(scale), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_strtod_ends_them() {
        for (text, expected) in [
            ("1", Some((1.0, 1))),
            ("-1.5e3,", Some((-1500.0, 6))),
            ("1e", Some((1.0, 1))),
            (".5", Some((0.5, 2))),
            ("5.", Some((5.0, 2))),
            ("-", None),
            (".", None),
            ("0x10", Some((16.0, 4))),
            ("0x1.8p1", Some((3.0, 7))),
            ("0x", Some((0.0, 1))),
            ("Infinity", Some((f64::INFINITY, 8))),
            ("-inf", Some((f64::NEG_INFINITY, 4))),
        ] {
            assert_eq!(strtod(text.as_bytes()), expected, "{text}");
        }
    }
}
