//! What many commands do with their arguments and replies.

use larder_wire::resp::write::decimal;
use larder_wire::resp::{ReplyWriter, Request};
use larder_wire::{Refusal, UnixMillis, slot_of};

use crate::call::Effects;
use crate::number::parse_i64;
use crate::value::StringRef;

pub(super) fn int_arg(request: Request<'_>, index: usize) -> Result<i64, Refusal> {
    parse_i64(request.arg(index)).ok_or(Refusal::NOT_AN_INTEGER)
}

pub(super) fn int_of(string: StringRef<'_>) -> Result<i64, Refusal> {
    match string {
        StringRef::Int(int) => Ok(int),
        StringRef::Bytes(bytes) => parse_i64(bytes).ok_or(Refusal::NOT_AN_INTEGER),
    }
}

pub(super) fn write_string(reply: &mut ReplyWriter<'_>, string: StringRef<'_>) {
    match string {
        StringRef::Int(int) => reply.bulk_int(int),
        StringRef::Bytes(bytes) => reply.bulk(bytes),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeUnit {
    Seconds,
    Millis,
}

/// The moment that `text` says after `base`, for commands that refuse a time that is not above 0.
pub(super) fn expiry_of(
    text: &[u8],
    unit: TimeUnit,
    base: UnixMillis,
    command: &str,
) -> Result<UnixMillis, Refusal> {
    let time = parse_i64(text).ok_or(Refusal::NOT_AN_INTEGER)?;
    let millis = match unit {
        TimeUnit::Seconds => time.checked_mul(1000),
        TimeUnit::Millis => Some(time),
    };
    millis
        .filter(|&millis| millis > 0)
        .and_then(|millis| millis.checked_add(base.0))
        .map(UnixMillis)
        .ok_or_else(|| invalid_expire(command))
}

pub(super) fn invalid_expire(command: &str) -> Refusal {
    Refusal::new(format!("ERR invalid expire time in '{command}' command"))
}

pub(super) fn push_pexpireat(effects: &mut Effects, key: &[u8], at: UnixMillis) {
    let mut digits = [0; 20];
    effects.push([&b"PEXPIREAT"[..], key, decimal(&mut digits, at.0)]);
}

/// An effect never spans slots, so that a feed of some of them can leave the others' out.
pub(super) fn in_one_slot<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> bool {
    match keys.next().map(slot_of) {
        None => true,
        Some(first) => keys.all(|key| slot_of(key) == first),
    }
}
