//! Commands that take a key whatever it holds: remove, rename, copy, look.

use larder_wire::Refusal;

use super::args::{self, int_arg};
use crate::call::Call;
use crate::value::ValueType;

pub fn del(call: &mut Call<'_>) -> Result<(), Refusal> {
    let mut removed = 0;
    let one_slot = args::in_one_slot(call.request.args_from(1));
    for index in 1..call.request.len() {
        let key = call.key(index);
        if call.keyspace.remove(key, call.now) {
            removed += 1;
            if !one_slot {
                call.effects.push([b"DEL", key.bytes()]);
            }
        }
    }
    if removed > 0 && one_slot {
        call.effects.verbatim();
    }
    call.reply.int(removed);
    Ok(())
}

/// DEL: large values are freed bit by bit either way.
pub fn unlink(call: &mut Call<'_>) -> Result<(), Refusal> {
    del(call)
}

pub fn exists(call: &mut Call<'_>) -> Result<(), Refusal> {
    let mut there = 0;
    for index in 1..call.request.len() {
        let key = call.key(index);
        there += i64::from(call.keyspace.exists(key, call.now));
    }
    call.reply.int(there);
    Ok(())
}

pub fn touch(call: &mut Call<'_>) -> Result<(), Refusal> {
    let mut there = 0;
    for index in 1..call.request.len() {
        let key = call.key(index);
        there += i64::from(call.keyspace.touch_key(key, call.now));
    }
    call.reply.int(there);
    Ok(())
}

pub fn type_(call: &mut Call<'_>) -> Result<(), Refusal> {
    let key = call.key(1);
    let name = call
        .keyspace
        .type_of(key, call.now)
        .map_or("none", ValueType::name);
    call.reply.simple(name);
    Ok(())
}

pub fn rename(call: &mut Call<'_>) -> Result<(), Refusal> {
    let (from, to) = (call.key(1), call.key(2));
    if !call.keyspace.rename(from, to, call.now) {
        return Err(Refusal::NO_SUCH_KEY);
    }
    if from.bytes() != to.bytes() {
        call.effects.verbatim();
    }
    call.reply.ok();
    Ok(())
}

pub fn renamenx(call: &mut Call<'_>) -> Result<(), Refusal> {
    let (from, to) = (call.key(1), call.key(2));
    if !call.keyspace.is_there(from, call.now) {
        return Err(Refusal::NO_SUCH_KEY);
    }
    let free = !call.keyspace.is_there(to, call.now);
    if free {
        call.keyspace.rename(from, to, call.now);
        call.effects.verbatim();
    }
    call.reply.int(free.into());
    Ok(())
}

pub fn copy(call: &mut Call<'_>) -> Result<(), Refusal> {
    let mut replace = false;
    let mut at = 3;
    while let Some(word) = call.request.get(at) {
        if word.eq_ignore_ascii_case(b"replace") {
            replace = true;
        } else if word.eq_ignore_ascii_case(b"db") && at + 1 < call.request.len() {
            at += 1;
            // A node has database 0 alone.
            if int_arg(call.request, at)? != 0 {
                return Err(Refusal::fixed("ERR DB index is out of range"));
            }
        } else {
            return Err(Refusal::SYNTAX);
        }
        at += 1;
    }
    let (from, to) = (call.key(1), call.key(2));
    if from.bytes() == to.bytes() {
        return Err(Refusal::fixed(
            "ERR source and destination objects are the same",
        ));
    }
    let there = call.keyspace.exists(from, call.now);
    if !there || (!replace && call.keyspace.is_there(to, call.now)) {
        call.reply.int(0);
        return Ok(());
    }
    if let Some(captured) = call.keyspace.capture(from) {
        call.keyspace
            .insert(to, captured.value, captured.expires, call.now);
        call.effects.verbatim();
    }
    call.reply.int(1);
    Ok(())
}

pub fn randomkey(call: &mut Call<'_>) -> Result<(), Refusal> {
    match call.keyspace.random_key(call.now) {
        Some(key) => call.reply.bulk(&key),
        None => call.reply.null(),
    }
    Ok(())
}

pub fn dbsize(call: &mut Call<'_>) -> Result<(), Refusal> {
    call.reply.int(call.keyspace.visible_len() as i64);
    Ok(())
}

/// `EPOCH n`, which Redis does not have, is for the engine of a cluster's node to judge.
pub fn flushall(call: &mut Call<'_>) -> Result<(), Refusal> {
    let is = |at: usize, word: &[u8]| {
        let arg = call.request.get(at);
        arg.is_some_and(|arg| arg.eq_ignore_ascii_case(word))
    };
    let rest = 1 + usize::from(is(1, b"async") || is(1, b"sync"));
    let epoch = call.keyspace.is_partial() && is(rest, b"epoch");
    if call.request.len() != rest + 2 * usize::from(epoch) {
        return Err(Refusal::SYNTAX);
    }
    call.keyspace.drop_visible();
    call.effects.verbatim();
    call.reply.ok();
    Ok(())
}

pub fn flushdb(call: &mut Call<'_>) -> Result<(), Refusal> {
    flushall(call)
}
