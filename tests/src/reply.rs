//! A reply as a tree, and the reader that builds it from a blocking connection.

use std::fmt;
use std::io::{self, BufRead, Read};

/// One RESP2 or RESP3 reply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` and `_`.
    Null,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Set(Vec<Reply>),
    Push(Vec<Reply>),
    Bool(bool),
    /// As written.
    Double(String),
    Verbatim(String),
    BigNumber(String),
}

impl Reply {
    pub fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.as_bytes().to_vec())
    }

    pub fn ok() -> Reply {
        Reply::Simple("OK".to_owned())
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }

    pub fn as_int(&self) -> Option<i64> {
        match self {
            Reply::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The text of a simple, bulk, verbatim or error reply.
    pub fn as_text(&self) -> Option<String> {
        match self {
            Reply::Simple(text) | Reply::Error(text) | Reply::Verbatim(text) => Some(text.clone()),
            Reply::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    }

    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Bulk(bytes) => Some(bytes),
            Reply::Simple(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// The elements of an array, set or push; of a map keys and values in turn.
    pub fn items(&self) -> Vec<Reply> {
        match self {
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => items.clone(),
            Reply::Map(pairs) => pairs
                .iter()
                .flat_map(|(key, value)| [key.clone(), value.clone()])
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The value that a map, or a flat array of pairs, has for a key.
    pub fn field(&self, name: &str) -> Option<Reply> {
        self.items()
            .chunks(2)
            .find(|pair| pair[0].as_text().as_deref() == Some(name))
            .and_then(|pair| pair.get(1).cloned())
    }

    /// Reads one reply, attributes left out.
    pub fn read(from: &mut impl BufRead) -> io::Result<Reply> {
        let mut line = Vec::new();
        from.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(bad(&line));
        };
        let text = || String::from_utf8_lossy(&line[1..]).into_owned();
        let number = || text().parse::<i64>().map_err(|_| bad(line));
        Ok(match line.first() {
            Some(b'+') => Reply::Simple(text()),
            Some(b'-') => Reply::Error(text()),
            Some(b':') => Reply::Int(number()?),
            Some(b',') => Reply::Double(text()),
            Some(b'(') => Reply::BigNumber(text()),
            Some(b'#') => Reply::Bool(&line[1..] == b"t"),
            Some(b'_') => Reply::Null,
            Some(b'$') => match number()? {
                -1 => Reply::Null,
                len => Reply::Bulk(read_bulk(from, len)?),
            },
            Some(b'=') => {
                Reply::Verbatim(String::from_utf8_lossy(&read_bulk(from, number()?)?).into_owned())
            }
            Some(b'*') => match number()? {
                -1 => Reply::Null,
                len => Reply::Array(read_many(from, len)?),
            },
            Some(b'~') => Reply::Set(read_many(from, number()?)?),
            Some(b'>') => Reply::Push(read_many(from, number()?)?),
            Some(b'%') => Reply::Map(
                (0..number()?)
                    .map(|_| Ok((Reply::read(from)?, Reply::read(from)?)))
                    .collect::<io::Result<_>>()?,
            ),
            Some(b'|') => {
                read_many(from, number()? * 2)?;
                Reply::read(from)?
            }
            _ => return Err(bad(line)),
        })
    }
}

fn read_many(from: &mut impl BufRead, len: i64) -> io::Result<Vec<Reply>> {
    (0..len).map(|_| Reply::read(from)).collect()
}

fn read_bulk(from: &mut impl Read, len: i64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(|_| bad(b"negative length"))?;
    let mut bytes = vec![0; len + 2];
    from.read_exact(&mut bytes)?;
    if !bytes.ends_with(b"\r\n") {
        return Err(bad(&bytes[len..]));
    }
    bytes.truncate(len);
    Ok(bytes)
}

fn bad(line: &[u8]) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("no RESP: {}", line.escape_ascii()),
    )
}

/// As redis-cli has it, on one line.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, open: &str, items: &[Reply], close: &str| {
            f.write_str(open)?;
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    f.write_str(" ")?;
                }
                write!(f, "{item}")?;
            }
            f.write_str(close)
        };
        match self {
            Reply::Simple(text) => write!(f, "+{text}"),
            Reply::Error(text) => write!(f, "-{text}"),
            Reply::Int(value) => write!(f, ":{value}"),
            Reply::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Reply::Null => f.write_str("(nil)"),
            Reply::Array(items) => list(f, "[", items, "]"),
            Reply::Set(items) => list(f, "~[", items, "]"),
            Reply::Push(items) => list(f, ">[", items, "]"),
            Reply::Map(_) => list(f, "%[", &self.items(), "]"),
            Reply::Bool(value) => write!(f, "#{value}"),
            Reply::Double(text) => write!(f, ",{text}"),
            Reply::Verbatim(text) => write!(f, "={text:?}"),
            Reply::BigNumber(text) => write!(f, "({text}"),
        }
    }
}
