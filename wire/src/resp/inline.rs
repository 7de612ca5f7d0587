//! Inline requests: a line as people type it, split as Redis' `sdssplitargs` splits it.
//!
//! Differs in one point: a NUL byte is a byte like any other (Redis looks for the line's end no
//! further than the first NUL, and so never answers such a line).

use super::request::ArgRange;
use super::write;

/// A quote that nothing closes, or that something other than a space follows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unbalanced;

/// Splits `line` and writes it as a RESP array, with the ranges of the arguments in it. An empty
/// line writes nothing.
pub(super) fn to_array(
    line: &[u8],
    array: &mut Vec<u8>,
    ranges: &mut Vec<ArgRange>,
) -> Result<(), Unbalanced> {
    let args = split(line)?;
    if args.is_empty() {
        return Ok(());
    }
    write::array_header(array, args.len());
    for arg in &args {
        write::bulk_header(array, arg.len());
        let start = array.len() as u32;
        array.extend_from_slice(arg);
        ranges.push(ArgRange {
            start,
            end: array.len() as u32,
        });
        array.extend_from_slice(b"\r\n");
    }
    Ok(())
}

/// The arguments of `line`, unquoted; `None` when a quote is not closed.
pub fn split_args(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    split(line).ok()
}

/// The arguments of `line`, unquoted.
fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
    let mut args = Vec::new();
    let mut rest = line;
    loop {
        rest = skip_space(rest);
        if rest.is_empty() {
            return Ok(args);
        }
        let (arg, after) = take_arg(rest)?;
        args.push(arg);
        rest = after;
    }
}

/// One argument and what follows it. A quote may open anywhere in it; after one closes, the
/// argument must end.
fn take_arg(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), Unbalanced> {
    let mut arg = Vec::new();
    loop {
        match rest {
            // Unquoted, an argument ends at these, not at every kind of space.
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Ok((arg, rest)),
            [b'"', after @ ..] => {
                rest = take_double_quoted(after, &mut arg)?;
                return at_end(rest).map(|()| (arg, rest));
            }
            [b'\'', after @ ..] => {
                rest = take_single_quoted(after, &mut arg)?;
                return at_end(rest).map(|()| (arg, rest));
            }
            [byte, after @ ..] => {
                arg.push(*byte);
                rest = after;
            }
        }
    }
}

fn take_double_quoted<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        let (byte, after) = match rest {
            [] => return Err(Unbalanced),
            [b'"', after @ ..] => return Ok(after),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex(*high) << 4 | hex(*low), after)
            }
            [b'\\', escaped, after @ ..] => (unescape(*escaped), after),
            [byte, after @ ..] => (*byte, after),
        };
        arg.push(byte);
        rest = after;
    }
}

fn take_single_quoted<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        let (byte, after) = match rest {
            [] => return Err(Unbalanced),
            [b'\'', after @ ..] => return Ok(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
        };
        arg.push(byte);
        rest = after;
    }
}

fn at_end(rest: &[u8]) -> Result<(), Unbalanced> {
    match rest.first() {
        Some(&byte) if !is_space(byte) => Err(Unbalanced),
        Some(_) | None => Ok(()),
    }
}

fn skip_space(rest: &[u8]) -> &[u8] {
    let start = rest.iter().position(|&byte| !is_space(byte));
    &rest[start.unwrap_or(rest.len())..]
}

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

/// `digit` is a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_text(line: &str) -> Result<Vec<String>, Unbalanced> {
        let args = split(line.as_bytes())?;
        Ok(args
            .iter()
            .map(|arg| arg.iter().map(|&byte| char::from(byte)).collect())
            .collect())
    }

    // Each answer was given by redis-server 7.0.15.
    #[test]
    fn a_line_is_split_as_redis_splits_it() {
        for (line, args) in [
            ("", &[][..]),
            ("  ", &[]),
            ("PING", &["PING"]),
            ("ECHO\ta", &["ECHO", "a"]),
            (r#"ECHO "\x41\n\q\"\xzz""#, &["ECHO", "A\nq\"xzz"]),
            (r"ECHO 'a\'b\n'", &["ECHO", r"a'b\n"]),
            ("ECHO a\"b c\"", &["ECHO", "ab c"]),
            ("ECHO \"\"", &["ECHO", ""]),
            ("ECHO a\x0bb", &["ECHO", "a\x0bb"]),
            ("ECHO \x0bb", &["ECHO", "b"]),
            ("ECHO \"a\"\x0b", &["ECHO", "a"]),
            ("ECHO a\rb", &["ECHO", "a", "b"]),
            ("ECHO \"a\rb\"", &["ECHO", "a\rb"]),
            ("ECHO a\0b", &["ECHO", "a\0b"]),
        ] {
            let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
            assert_eq!(split_text(line), Ok(args), "{line:?}");
        }
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [
            "ECHO \"a",
            "ECHO 'a",
            "ECHO \"a\"b",
            "ECHO 'a'b",
            "ECHO a'b'c",
            "ECHO \"a\\",
            "ECHO \"",
            "ECHO \"a\"\u{a0}",
            "ECHO 'a\\'",
        ] {
            assert_eq!(split_text(line), Err(Unbalanced), "{line:?}");
        }
    }
}
