//! When keys expire: EXPIRE and its family, TTL and its family, PERSIST.

use larder_wire::{Refusal, UnixMillis};

use super::args::{TimeUnit, int_arg, invalid_expire, push_pexpireat};
use crate::call::Call;
use crate::events::Classes;

pub fn expire(call: &mut Call<'_>) -> Result<(), Refusal> {
    expire_at(call, call.now, TimeUnit::Seconds, "expire")
}

pub fn pexpire(call: &mut Call<'_>) -> Result<(), Refusal> {
    expire_at(call, call.now, TimeUnit::Millis, "pexpire")
}

pub fn expireat(call: &mut Call<'_>) -> Result<(), Refusal> {
    expire_at(call, UnixMillis(0), TimeUnit::Seconds, "expireat")
}

pub fn pexpireat(call: &mut Call<'_>) -> Result<(), Refusal> {
    expire_at(call, UnixMillis(0), TimeUnit::Millis, "pexpireat")
}

/// Under which condition the expiry is set.
#[derive(Default)]
pub(super) struct Condition {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Condition {
    pub(super) fn of<'a>(words: impl Iterator<Item = &'a [u8]>) -> Result<Condition, Refusal> {
        let mut condition = Condition::default();
        for word in words {
            let flag = match word.to_ascii_lowercase().as_slice() {
                b"nx" => &mut condition.nx,
                b"xx" => &mut condition.xx,
                b"gt" => &mut condition.gt,
                b"lt" => &mut condition.lt,
                _ => {
                    let word = String::from_utf8_lossy(word);
                    return Err(Refusal::new(format!("ERR Unsupported option {word}")));
                }
            };
            *flag = true;
        }
        if condition.nx && (condition.xx || condition.gt || condition.lt) {
            return Err(Refusal::fixed(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if condition.gt && condition.lt {
            return Err(Refusal::fixed(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(condition)
    }

    /// A key without expiry counts as one that stays for ever.
    pub(super) fn allows(&self, before: Option<UnixMillis>, after: UnixMillis) -> bool {
        !(self.nx && before.is_some()
            || self.xx && before.is_none()
            || self.gt && before.is_none_or(|before| after <= before)
            || self.lt && before.is_some_and(|before| after >= before))
    }
}

fn expire_at(
    call: &mut Call<'_>,
    base: UnixMillis,
    unit: TimeUnit,
    command: &str,
) -> Result<(), Refusal> {
    let condition = Condition::of(call.request.args_from(3))?;
    let time = int_arg(call.request, 2)?;
    let at = match unit {
        TimeUnit::Seconds => time.checked_mul(1000),
        TimeUnit::Millis => Some(time),
    }
    .and_then(|millis| millis.checked_add(base.0))
    .map(UnixMillis)
    .ok_or_else(|| invalid_expire(command))?;
    let key = call.key(1);
    let allowed = match call.keyspace.expiry_of(key, call.now) {
        None => false,
        Some(before) => condition.allows(before, at),
    };
    if !allowed {
        call.reply.int(0);
        return Ok(());
    }
    if at <= call.now {
        call.keyspace.remove(key, call.now);
        call.say(Classes::GENERIC, "del", key);
        call.effects.push([b"DEL", key.bytes()]);
    } else {
        call.keyspace.set_expiry(key, Some(at), call.now);
        call.say(Classes::GENERIC, "expire", key);
        push_pexpireat(call.effects, key.bytes(), at);
    }
    call.reply.int(1);
    Ok(())
}

pub fn persist(call: &mut Call<'_>) -> Result<(), Refusal> {
    let key = call.key(1);
    let expires = call.keyspace.expiry_of(key, call.now).flatten().is_some();
    if expires {
        call.keyspace.set_expiry(key, None, call.now);
        call.say(Classes::GENERIC, "persist", key);
        call.effects.verbatim();
    }
    call.reply.int(expires.into());
    Ok(())
}

pub fn ttl(call: &mut Call<'_>) -> Result<(), Refusal> {
    answer_expiry(call, |at, now| round_to_seconds(at.0 - now.0))
}

pub fn pttl(call: &mut Call<'_>) -> Result<(), Refusal> {
    answer_expiry(call, |at, now| at.0 - now.0)
}

pub fn expiretime(call: &mut Call<'_>) -> Result<(), Refusal> {
    answer_expiry(call, |at, _| round_to_seconds(at.0))
}

pub fn pexpiretime(call: &mut Call<'_>) -> Result<(), Refusal> {
    answer_expiry(call, |at, _| at.0)
}

fn round_to_seconds(millis: i64) -> i64 {
    millis.saturating_add(500) / 1000
}

/// -2 without such a key, -1 for a key that stays.
fn answer_expiry(
    call: &mut Call<'_>,
    show: impl FnOnce(UnixMillis, UnixMillis) -> i64,
) -> Result<(), Refusal> {
    let key = call.key(1);
    let answer = match call.keyspace.expiry(key, call.now) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => show(at, call.now),
    };
    call.reply.int(answer);
    Ok(())
}
