//! When fields of hashes expire: HEXPIRE and its family, HTTL and its family, HPERSIST.

use larder_wire::resp::write::decimal;
use larder_wire::{Refusal, UnixMillis};

use super::args::TimeUnit;
use super::expire::Condition;
use super::hash_args::{Fields, field_expiry};
use crate::call::{Call, Effects};
use crate::collection::Hash;
use crate::events::Classes;

type Done = Result<(), Refusal>;

pub fn hexpire(call: &mut Call<'_>) -> Done {
    expire_at(call, call.now, TimeUnit::Seconds, "hexpire")
}

pub fn hpexpire(call: &mut Call<'_>) -> Done {
    expire_at(call, call.now, TimeUnit::Millis, "hpexpire")
}

pub fn hexpireat(call: &mut Call<'_>) -> Done {
    expire_at(call, UnixMillis(0), TimeUnit::Seconds, "hexpireat")
}

pub fn hpexpireat(call: &mut Call<'_>) -> Done {
    expire_at(call, UnixMillis(0), TimeUnit::Millis, "hpexpireat")
}

/// What came of one field, as the commands answer it.
const NO_FIELD: i64 = -2;
const NO_EXPIRY: i64 = -1;
const NOT_ALLOWED: i64 = 0;
const SET: i64 = 1;
const DELETED: i64 = 2;

fn expire_at(call: &mut Call<'_>, base: UnixMillis, unit: TimeUnit, name: &str) -> Done {
    let fields = Fields::find(call.request, 3)?;
    let condition = Condition::of(call.request.args_from(3).take(fields.at - 3))?;
    fields.check(call.request, 1)?;
    let at = field_expiry(call.request.arg(2), unit, base, name)?;
    let (key, now, settings) = (call.key(1), call.now, call.keyspace.collections());
    let args = || call.request.args_from(fields.first);
    let answers = call.keyspace.modify(key, now, |hash: &mut Hash| {
        let one = |field| match hash.expiry(field) {
            None => NO_FIELD,
            Some(before) if !condition.allows(before, at) => NOT_ALLOWED,
            Some(_) if at <= now => {
                hash.remove(field);
                DELETED
            }
            Some(_) => {
                hash.set_expiry(field, at, &settings);
                SET
            }
        };
        args().map(one).collect::<Vec<_>>()
    })?;
    let Some(answers) = answers else {
        put_all_missing(call, fields.first);
        return Ok(());
    };
    let with = |wanted: i64| {
        let pairs = args().zip(&answers);
        let wanted = pairs.filter(move |(_, answer)| **answer == wanted);
        wanted.map(|(field, _)| field).collect::<Vec<_>>()
    };
    let (set, deleted) = (with(SET), with(DELETED));
    push_hpexpireat(call.effects, key.bytes(), at, &set);
    push_hdel(call.effects, key.bytes(), &deleted);
    say_times(call, &set, &deleted);
    call.reply.array(answers.len());
    answers.iter().for_each(|answer| call.reply.int(*answer));
    Ok(())
}

fn put_all_missing(call: &mut Call<'_>, first: usize) {
    let count = call.request.len() - first;
    call.reply.array(count);
    (0..count).for_each(|_| call.reply.int(NO_FIELD));
}

pub fn httl(call: &mut Call<'_>) -> Done {
    let now = call.now;
    // A time that has come to within half a second counts as that second, as Redis rounds it.
    put_times(call, |at| (left(at, now) + 500) / 1000)
}

pub fn hpttl(call: &mut Call<'_>) -> Done {
    let now = call.now;
    put_times(call, |at| left(at, now))
}

pub fn hexpiretime(call: &mut Call<'_>) -> Done {
    put_times(call, |at| (at.0 + 500) / 1000)
}

pub fn hpexpiretime(call: &mut Call<'_>) -> Done {
    put_times(call, |at| at.0)
}

fn left(at: UnixMillis, now: UnixMillis) -> i64 {
    (at.0 - now.0).max(0)
}

fn put_times(call: &mut Call<'_>, show: impl Fn(UnixMillis) -> i64) -> Done {
    let fields = Fields::at_once(call.request)?;
    fields.check_or(call.request, 1, Refusal::SYNTAX)?;
    let key = call.key(1);
    let Some(hash) = call.keyspace.read::<Hash>(key, call.now)? else {
        put_all_missing(call, fields.first);
        return Ok(());
    };
    let args = call.request.args_from(fields.first);
    call.reply.array(args.len());
    for field in args {
        call.reply.int(match hash.expiry(field) {
            None => NO_FIELD,
            Some(None) => NO_EXPIRY,
            Some(Some(at)) => show(at),
        });
    }
    Ok(())
}

pub fn hpersist(call: &mut Call<'_>) -> Done {
    let fields = Fields::at_once(call.request)?;
    fields.check(call.request, 1)?;
    let key = call.key(1);
    let args = call.request.args_from(fields.first);
    let answers = call.keyspace.modify(key, call.now, |hash: &mut Hash| {
        let one = |field| match hash.expiry(field) {
            None => NO_FIELD,
            Some(_) if hash.persist(field) => SET,
            Some(_) => NO_EXPIRY,
        };
        args.map(one).collect::<Vec<_>>()
    })?;
    let Some(answers) = answers else {
        put_all_missing(call, fields.first);
        return Ok(());
    };
    if answers.contains(&SET) {
        call.effects.verbatim();
        call.say(Classes::HASH, "hpersist", key);
    }
    call.reply.array(answers.len());
    answers.iter().for_each(|answer| call.reply.int(*answer));
    Ok(())
}

/// Says which fields expire, and which did at once, as Valkey says it.
pub(super) fn say_times(call: &mut Call<'_>, set: &[&[u8]], deleted: &[&[u8]]) {
    let key = call.key(1);
    if !set.is_empty() {
        call.say(Classes::HASH, "hexpire", key);
    }
    if !deleted.is_empty() {
        call.say_taken(Classes::HASH, "hexpired", key);
    }
}

pub(super) fn push_hpexpireat(effects: &mut Effects, key: &[u8], at: UnixMillis, fields: &[&[u8]]) {
    let mut digits = [0; 20];
    push_fields(
        effects,
        &[b"HPEXPIREAT", key, decimal(&mut digits, at.0)],
        fields,
    );
}

pub(super) fn push_hpersist(effects: &mut Effects, key: &[u8], fields: &[&[u8]]) {
    push_fields(effects, &[b"HPERSIST", key], fields);
}

pub(super) fn push_hdel(effects: &mut Effects, key: &[u8], fields: &[&[u8]]) {
    if !fields.is_empty() {
        let args = [&b"HDEL"[..], key]
            .into_iter()
            .chain(fields.iter().copied());
        effects.push(args.collect::<Vec<_>>());
    }
}

/// `head FIELDS n field …`; nothing when there are no fields.
fn push_fields(effects: &mut Effects, head: &[&[u8]], fields: &[&[u8]]) {
    if !fields.is_empty() {
        let count = fields.len().to_string();
        let words = [&b"FIELDS"[..], count.as_bytes()];
        let args = head.iter().copied().chain(words);
        effects.push(args.chain(fields.iter().copied()).collect::<Vec<_>>());
    }
}
