//! What commands that may wait have in common: when they give up, what they wait for, and how they are served.
//!
//! A command that may wait is tried first: its function writes a reply, or, when there is nothing to take, writes none. Then its
//! [`Wait`] says for which keys it waits. Once one of them is ready, [`Wait::serve`] runs the request of that key alone, again
//! with a reply or without one. Nothing here keeps a client waiting.

use larder_wire::resp::{OwnedRequest, Request};
use larder_wire::{Refusal, UnixMillis};

use crate::call::Exec;
use crate::float::parse_double;
use crate::key::Key;
use crate::keyspace::Keyspace;
use crate::value::ValueType;

/// A command that may wait.
pub struct Blocking {
    /// The command where it has something to answer: without that it writes no reply.
    pub attempt: Exec,
    /// What it waits for, after an attempt that wrote no reply.
    pub wait: fn(Request<'_>, &Keyspace, UnixMillis) -> Result<Wait, Refusal>,
}

/// What a command waits for.
#[derive(Clone, Debug)]
pub struct Wait {
    /// 0: for as long as it takes.
    pub timeout_ms: u64,
    /// A key of another type is not what it waits for.
    pub value_type: ValueType,
    /// It waits as a consumer of a group, which goes with its stream.
    pub of_group: bool,
    /// Takes from one key, by the request of that key. Without anything to take it writes no reply.
    pub serve: Exec,
    /// In the command's order, none twice.
    pub keys: Vec<WaitKey>,
}

/// One of the keys that a command waits for.
#[derive(Clone, Debug)]
pub struct WaitKey {
    pub key: Box<[u8]>,
    /// What [`Wait::serve`] is run with.
    pub request: OwnedRequest,
}

impl Wait {
    /// Of `NAME key … timeout`: each key is served by the same command for it alone.
    pub(super) fn to_pop(
        request: Request<'_>,
        value_type: ValueType,
        serve: Exec,
    ) -> Result<Wait, Refusal> {
        let timeout_ms = timeout_of_seconds(request.arg(request.len() - 1))?;
        let keys = keys_before_timeout(request);
        Ok(Wait::new(timeout_ms, value_type, serve, keys, |_, key| {
            of_one_key(request, key)
        }))
    }

    /// Of `NAME timeout numkeys key … FROM [COUNT n]` with so many keys: each is served by the same command for it alone.
    pub(super) fn to_pop_many(
        request: Request<'_>,
        count: usize,
        value_type: ValueType,
        serve: Exec,
    ) -> Result<Wait, Refusal> {
        let timeout_ms = timeout_of_seconds(request.arg(1))?;
        let keys = request.args_from(3).take(count);
        Ok(Wait::new(timeout_ms, value_type, serve, keys, |_, key| {
            of_one_counted_key(request, count, key)
        }))
    }

    /// `request` makes what is run for a key, which has this place among the keys.
    pub(super) fn new<'k>(
        timeout_ms: u64,
        value_type: ValueType,
        serve: Exec,
        keys: impl Iterator<Item = &'k [u8]>,
        mut request: impl FnMut(usize, &'k [u8]) -> OwnedRequest,
    ) -> Wait {
        let mut wait = Wait {
            timeout_ms,
            value_type,
            of_group: false,
            serve,
            keys: Vec::with_capacity(keys.size_hint().0),
        };
        for (index, key) in keys.enumerate() {
            if wait.keys.iter().all(|other| *other.key != *key) {
                wait.keys.push(WaitKey {
                    key: key.into(),
                    request: request(index, key),
                });
            }
        }
        wait
    }
}

/// The type of what is under a key, for whoever asks whether a wait is over.
pub fn type_under(keyspace: &Keyspace, key: &[u8], now: UnixMillis) -> Option<ValueType> {
    keyspace.peek_type(Key::from(key), now)
}

/// Seconds, with a fraction, as milliseconds.
pub(super) fn timeout_of_seconds(arg: &[u8]) -> Result<u64, Refusal> {
    /// From here on C's conversion to an integer gives the least one.
    const MS_END: f64 = 9_223_372_036_854_775_808.0;
    let seconds =
        parse_double(arg).ok_or(Refusal::fixed("ERR timeout is not a float or out of range"))?;
    let ms = (seconds * 1000.0).ceil();
    if !(0.0..MS_END).contains(&ms) {
        return Err(NEGATIVE_TIMEOUT);
    }
    Ok(ms as u64)
}

pub(super) const NEGATIVE_TIMEOUT: Refusal = Refusal::fixed("ERR timeout is negative");

/// The keys of `command key … timeout`.
fn keys_before_timeout(request: Request<'_>) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
    request.args_from(1).take(request.len() - 2)
}

/// `command key … timeout`, with one key and none to wait for.
fn of_one_key(request: Request<'_>, key: &[u8]) -> OwnedRequest {
    OwnedRequest::from_args([request.name(), key, b"0"])
}

/// `command timeout numkeys key … where [COUNT count]`, with one key; there are `keys` of them.
fn of_one_counted_key(request: Request<'_>, keys: usize, key: &[u8]) -> OwnedRequest {
    let rest = request.args_from(3 + keys);
    let mut args = vec![request.name(), &b"0"[..], b"1", key];
    args.extend(rest);
    OwnedRequest::from_args(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_rounded_up_to_milliseconds() {
        for (text, ms) in [
            ("0", 0),
            ("1", 1000),
            ("0.001", 1),
            ("0.0001", 1),
            ("-0.0001", 0),
            ("1e2", 100_000),
            ("0x10", 16_000),
        ] {
            assert_eq!(timeout_of_seconds(text.as_bytes()), Ok(ms), "{text}");
        }
        for text in ["-1", "-0.001", "inf", "1e20"] {
            assert_eq!(
                timeout_of_seconds(text.as_bytes()),
                Err(NEGATIVE_TIMEOUT),
                "{text}"
            );
        }
        for text in ["", "x", "1s", " 1", "nan"] {
            assert_eq!(
                timeout_of_seconds(text.as_bytes()).unwrap_err().text(),
                "ERR timeout is not a float or out of range",
                "{text}"
            );
        }
    }
}
