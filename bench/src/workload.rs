//! What clients ask: a mix of commands over a set of keys, the same for the same seed.
//!
//! A mix is either names with weights (`get=4,set=1`), or one request written out, from a capital letter on:
//! `HSET hash:{1000} field:{10} {value}`, where `{N}` is a random number below N and a word may be in double quotes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use larder_wire::resp::write::{array_header, bulk_header};

/// Bytes of a key: `key:` and 12 digits.
const KEY_DIGITS: usize = 12;

/// One kind of request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Get,
    Set,
    Incr,
    Ping,
    /// MGET of so many keys.
    Mget(usize),
    /// MSET of so many keys.
    Mset(usize),
    /// A request written out, by words.
    Words(Arc<[Word]>),
}

/// One argument of a request that was written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Fixed(Vec<u8>),
    /// A prefix, and a random number below a bound in twelve digits.
    Numbered(Vec<u8>, u64),
    Value,
}

/// Kinds of requests with their weights, e.g. `get=4,set=1` or `mget10`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mix {
    parts: Vec<(Command, u64)>,
    total: u64,
    text: String,
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        if text.starts_with(|first: char| first.is_ascii_uppercase()) {
            return Ok(Mix {
                parts: vec![(Command::Words(words(text)?), 1)],
                total: 1,
                text: text.to_owned(),
            });
        }
        let mut parts = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let weight = weight
                .parse()
                .map_err(|_| format!("the weight of {name} is no number: {weight}"))?;
            parts.push((name.parse()?, weight));
        }
        let total = parts.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            return Err("a mix needs a weight above 0".to_owned());
        }
        Ok(Mix {
            parts,
            total,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Command {
    type Err = String;

    fn from_str(name: &str) -> Result<Command, String> {
        let many = |digits: &str| {
            let count = digits
                .parse()
                .ok()
                .filter(|count| (1..=10_000).contains(count));
            count.ok_or_else(|| format!("{name}: how many keys? (for example mget10)"))
        };
        match name {
            "get" => Ok(Command::Get),
            "set" => Ok(Command::Set),
            "incr" => Ok(Command::Incr),
            "ping" => Ok(Command::Ping),
            _ => {
                if let Some(digits) = name.strip_prefix("mget") {
                    many(digits).map(Command::Mget)
                } else if let Some(digits) = name.strip_prefix("mset") {
                    many(digits).map(Command::Mset)
                } else {
                    Err(format!(
                        "{name} is none of get, set, incr, ping, mgetN, msetN"
                    ))
                }
            }
        }
    }
}

/// `HSET hash:{1000} field:{10} {value}` by its words.
fn words(text: &str) -> Result<Arc<[Word]>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (word, after) = quoted
                .split_once('"')
                .ok_or_else(|| format!("{text}: a quote is not closed"))?;
            words.push(Word::Fixed(word.into()));
            rest = after.trim_start();
            continue;
        }
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after.trim_start();
        words.push(if word == "{value}" {
            Word::Value
        } else if let Some((prefix, bound)) = word.split_once('{') {
            let bound: Option<u64> = bound.strip_suffix('}').and_then(|it| it.parse().ok());
            let bound = bound.filter(|bound| *bound > 0).ok_or_else(|| {
                format!("{word}: a random number is written {{1000}}, at the end of a word")
            })?;
            Word::Numbered(prefix.into(), bound)
        } else {
            Word::Fixed(word.into())
        });
    }
    Ok(words.into())
}

/// Writes requests; one a connection, each with a seed of its own.
#[derive(Debug)]
pub(crate) struct Workload {
    mix: Mix,
    keys: u64,
    value: Vec<u8>,
    state: u64,
}

impl Workload {
    pub(crate) fn new(mix: Mix, keys: u64, value_bytes: usize, seed: u64) -> Workload {
        Workload {
            mix,
            keys: keys.max(1),
            value: (0..value_bytes).map(|at| b'a' + (at % 26) as u8).collect(),
            // Neighbouring seeds start far apart, none at zero, where the generator would stay.
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// Appends one request.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) {
        let mut at = self.random() % self.mix.total;
        let mut command = &self.mix.parts[0].0;
        for (candidate, weight) in &self.mix.parts {
            command = candidate;
            if at < *weight {
                break;
            }
            at -= weight;
        }
        match command.clone() {
            Command::Ping => out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n"),
            Command::Get => {
                out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
                self.write_key(out, b"key:");
            }
            Command::Set => {
                out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
                self.write_key(out, b"key:");
                write_bulk(out, &self.value);
            }
            Command::Incr => {
                out.extend_from_slice(b"*2\r\n$4\r\nINCR\r\n");
                self.write_key(out, b"cnt:");
            }
            Command::Mget(count) => {
                array_header(out, 1 + count);
                out.extend_from_slice(b"$4\r\nMGET\r\n");
                for _ in 0..count {
                    self.write_key(out, b"key:");
                }
            }
            Command::Mset(count) => {
                array_header(out, 1 + 2 * count);
                out.extend_from_slice(b"$4\r\nMSET\r\n");
                for _ in 0..count {
                    self.write_key(out, b"key:");
                    write_bulk(out, &self.value);
                }
            }
            Command::Words(words) => {
                array_header(out, words.len());
                for word in &*words {
                    match word {
                        Word::Fixed(bytes) => write_bulk(out, bytes),
                        Word::Numbered(prefix, bound) => {
                            let number = self.random() % bound;
                            bulk_header(out, prefix.len() + KEY_DIGITS);
                            out.extend_from_slice(prefix);
                            out.extend_from_slice(&numbered(b"key:", number)[4..]);
                            out.extend_from_slice(b"\r\n");
                        }
                        Word::Value => write_bulk(out, &self.value),
                    }
                }
            }
        }
    }

    /// Appends a SET of key number `index`.
    pub(crate) fn write_fill(&self, out: &mut Vec<u8>, index: u64) {
        out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
        write_numbered(out, b"key:", index);
        write_bulk(out, &self.value);
    }

    /// Key number `index`.
    pub(crate) fn key(index: u64) -> [u8; 4 + KEY_DIGITS] {
        numbered(b"key:", index)
    }

    fn write_key(&mut self, out: &mut Vec<u8>, prefix: &[u8; 4]) {
        let index = self.random() % self.keys;
        write_numbered(out, prefix, index);
    }

    /// xorshift64*
    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 1
    }
}

fn write_numbered(out: &mut Vec<u8>, prefix: &[u8; 4], index: u64) {
    write_bulk(out, &numbered(prefix, index));
}

fn numbered(prefix: &[u8; 4], mut index: u64) -> [u8; 4 + KEY_DIGITS] {
    let mut key = [b'0'; 4 + KEY_DIGITS];
    key[..4].copy_from_slice(prefix);
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (index % 10) as u8;
        index /= 10;
    }
    key
}

fn write_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    bulk_header(out, bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_wire::resp::{RequestScanner, Scanned};

    #[test]
    fn a_mix_is_read_as_it_is_written() {
        let mix: Mix = "get=4,set,mget10=2".parse().unwrap();
        assert_eq!(
            mix.parts,
            [(Command::Get, 4), (Command::Set, 1), (Command::Mget(10), 2)]
        );
        assert_eq!(mix.to_string(), "get=4,set,mget10=2");
        for wrong in ["", "got", "get=x", "get=0", "mget", "mget0", "get,"] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_request_written_out_is_sent_with_numbers_and_values_in_place() {
        let mix: Mix = "EVAL \"return {1, 2}\" 1 k:{7} {value}".parse().unwrap();
        let mut out = Vec::new();
        Workload::new(mix, 1, 3, 1).write(&mut out);
        let mut scanner = RequestScanner::new();
        assert!(matches!(scanner.scan(&out), Ok(Scanned::Request { .. })));
        let request = scanner.request(&out);
        assert_eq!(request.len(), 5);
        assert_eq!(request.arg(1), b"return {1, 2}");
        assert!(request.arg(3).starts_with(b"k:00000000000") && request.arg(3).len() == 14);
        assert_eq!(request.arg(4), b"abc");
        for wrong in ["GET k:{0}", "GET k:{x}", "GET k:{1}x", "EVAL \"a"] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_command_is_a_request_and_all_of_the_mix_occur() {
        let mix = "get,set,incr,ping,mget3,mset2".parse().unwrap();
        let mut workload = Workload::new(mix, 10, 5, 7);
        let mut seen = std::collections::BTreeMap::new();
        let mut out = Vec::new();
        for _ in 0..200 {
            out.clear();
            workload.write(&mut out);
            let mut scanner = RequestScanner::new();
            let consumed = out.len();
            assert_eq!(scanner.scan(&out), Ok(Scanned::Request { consumed }));
            let request = scanner.request(&out);
            seen.insert(request.name().to_vec(), request.len());
        }
        let lengths: Vec<usize> = seen.into_values().collect();
        assert_eq!(lengths, [2, 2, 4, 5, 1, 3], "GET INCR MGET MSET PING SET");
    }
}
