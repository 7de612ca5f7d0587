//! PFADD, PFCOUNT, PFMERGE: strings that hold a HyperLogLog.

use larder_wire::Refusal;

use crate::call::Call;
use crate::events::Classes;
use crate::hyperloglog::{self, Fault, HyperLogLog, Union, View, Vote};
use crate::key::Key;
use crate::value::StringRef;

pub(super) fn refusal(fault: Fault) -> Refusal {
    match fault {
        Fault::Foreign => Refusal::fixed("WRONGTYPE Key is not a valid HyperLogLog string value."),
        Fault::Corrupted => Refusal::fixed("INVALIDOBJ Corrupted HLL object detected"),
    }
}

pub(super) fn view(string: StringRef<'_>) -> Result<View<'_>, Refusal> {
    match string {
        StringRef::Int(_) => Err(refusal(Fault::Foreign)),
        StringRef::Bytes(bytes) => View::new(bytes).map_err(refusal),
    }
}

pub fn pfadd(call: &mut Call<'_>) -> Result<(), Refusal> {
    let key = call.key(1);
    let votes = call.request.args_from(2).map(Vote::of);
    let found = call.keyspace.peek_string(key, call.now)?;
    let found = found.map(view).transpose()?;
    if let Some(would_change) = found.and_then(|view| view.dense_would_change(votes.clone())) {
        if would_change {
            let add = |bytes: &mut [u8]| hyperloglog::add_to_dense(bytes, votes);
            call.keyspace.edit_string(key, call.now, Ok, add)?;
            call.say(Classes::STRING, "pfadd", key);
            call.effects.verbatim();
        }
        call.reply.int(would_change.into());
        return Ok(());
    }
    let sparse_bytes_max = call.keyspace.collections().hll_sparse_bytes_max;
    let mut changed = found.is_none();
    let mut hll = found.map(View::to_owned).unwrap_or_default();
    for vote in votes {
        changed |= hll.add(vote, sparse_bytes_max).map_err(refusal)?;
    }
    if changed {
        hll.invalidate_cache();
        put(call, key, &hll)?;
        call.say(Classes::STRING, "pfadd", key);
        call.effects.verbatim();
    } else {
        unshare(call, key)?;
    }
    call.reply.int(changed.into());
    Ok(())
}

/// Puts it under `key`; an expiry stays.
pub(super) fn put(call: &mut Call<'_>, key: Key<'_>, hll: &HyperLogLog) -> Result<(), Refusal> {
    let bytes = hll.bytes();
    let put = |to: &mut [u8]| to.copy_from_slice(bytes);
    let len = |_| Ok(Some(bytes.len()));
    call.keyspace.edit_string(key, call.now, len, put)?;
    Ok(())
}

/// Redis prepares to change the string before it knows whether it will, which OBJECT ENCODING shows (`raw`).
fn unshare(call: &mut Call<'_>, key: Key<'_>) -> Result<(), Refusal> {
    call.keyspace.edit_string(key, call.now, Ok, |_| {})?;
    Ok(())
}

pub fn pfcount(call: &mut Call<'_>) -> Result<(), Refusal> {
    if call.request.len() > 2 {
        let count = union_of(call, 1)?.count();
        call.reply.int(count as i64);
        return Ok(());
    }
    let key = call.key(1);
    let Some(string) = call.keyspace.string(key, call.now)? else {
        call.reply.int(0);
        return Ok(());
    };
    let view = view(string)?;
    let count = match view.cached_count() {
        Some(count) => {
            unshare(call, key)?;
            count
        }
        None => {
            let count = view.count().map_err(refusal)?;
            // No effect: what is kept follows from the registers, and every node finds it by itself.
            let keep = |bytes: &mut [u8]| hyperloglog::cache_count(bytes, count);
            call.keyspace.edit_string(key, call.now, Ok, keep)?;
            count
        }
    };
    call.reply.int(count as i64);
    Ok(())
}

/// The union of the keys from argument `first` on.
fn union_of(call: &mut Call<'_>, first: usize) -> Result<Union, Refusal> {
    let mut union = Union::default();
    for index in first..call.request.len() {
        let key = call.key(index);
        if let Some(string) = call.keyspace.string(key, call.now)? {
            union.include(view(string)?).map_err(refusal)?;
        }
    }
    Ok(union)
}

pub fn pfmerge(call: &mut Call<'_>) -> Result<(), Refusal> {
    let union = union_of(call, 1)?;
    let target = call.key(1);
    let mut merged = match call.keyspace.peek_string(target, call.now)? {
        Some(string) => view(string)?.to_owned(),
        None => HyperLogLog::default(),
    };
    let sparse_bytes_max = call.keyspace.collections().hll_sparse_bytes_max;
    union
        .write_to(&mut merged, sparse_bytes_max)
        .map_err(refusal)?;
    put(call, target, &merged)?;
    call.say(Classes::STRING, "pfadd", target);
    call.effects.verbatim();
    call.reply.ok();
    Ok(())
}
