//! Commands that take a key whatever it holds: remove, rename, look.

use larder_wire::Refusal;

use super::args;
use crate::call::Call;
use crate::events::Classes;
use crate::key::Key;
use crate::value::ValueType;

pub fn del(call: &mut Call<'_>) -> Result<(), Refusal> {
    let mut removed = 0;
    let one_slot = args::in_one_slot(call.request.args_from(1));
    for index in 1..call.request.len() {
        let key = call.key(index);
        if call.keyspace.remove(key, call.now) {
            removed += 1;
            call.say(Classes::GENERIC, "del", key);
            call.effects.push([b"DEL", key.bytes()]);
        }
    }
    // Keys that were not there are no effect, and nobody's business.
    if removed as usize == call.request.len() - 1 && one_slot {
        call.effects.clear();
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
    if !call.keyspace.is_there(from, call.now) {
        return Err(Refusal::NO_SUCH_KEY);
    }
    if from.bytes() != to.bytes() {
        call.say_replaced(to);
        call.keyspace.rename(from, to, call.now);
        say_renamed(call, from, to);
        call.effects.verbatim();
    }
    call.reply.ok();
    Ok(())
}

fn say_renamed(call: &mut Call<'_>, from: Key<'_>, to: Key<'_>) {
    call.say(Classes::GENERIC, "rename_from", from);
    call.say(Classes::GENERIC, "rename_to", to);
}

pub fn renamenx(call: &mut Call<'_>) -> Result<(), Refusal> {
    let (from, to) = (call.key(1), call.key(2));
    if !call.keyspace.is_there(from, call.now) {
        return Err(Refusal::NO_SUCH_KEY);
    }
    let free = !call.keyspace.is_there(to, call.now);
    if free {
        call.keyspace.rename(from, to, call.now);
        say_renamed(call, from, to);
        call.effects.verbatim();
    }
    call.reply.int(free.into());
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
