//! BZPOPMIN, BZPOPMAX and BZMPOP: the sorted set commands that wait where there is nothing to take.

use larder_wire::resp::Request;
use larder_wire::{Refusal, UnixMillis};

use super::blocking::{
    Blocking, Wait, keys_before_timeout, of_one_counted_key, of_one_key, timeout_of_seconds,
};
use super::element::put;
use super::zset_pop::{self, Extreme, PopArgs};
use crate::call::{Call, Exec};
use crate::collection::Zset;
use crate::events::Classes;
use crate::keyspace::Keyspace;
use crate::value::ValueType;

type Done = Result<(), Refusal>;

pub const BZPOPMIN: Blocking = Blocking {
    attempt: bzpopmin,
    wait: |request, _, _| wait_to_pop(request, bzpopmin),
};

pub const BZPOPMAX: Blocking = Blocking {
    attempt: bzpopmax,
    wait: |request, _, _| wait_to_pop(request, bzpopmax),
};

pub const BZMPOP: Blocking = Blocking {
    attempt: bzmpop,
    wait: wait_to_pop_many,
};

fn bzpopmin(call: &mut Call<'_>) -> Done {
    pop(call, Extreme::Min)
}

fn bzpopmax(call: &mut Call<'_>) -> Done {
    pop(call, Extreme::Max)
}

/// Takes one member from the first sorted set that there is, and answers the key, the member and its score.
fn pop(call: &mut Call<'_>, from: Extreme) -> Done {
    let last = call.request.len() - 1;
    timeout_of_seconds(call.request.arg(last))?;
    for index in 1..last {
        let key = call.key(index);
        let reply = &mut call.reply;
        let popped = call.keyspace.modify(key, call.now, |zset: &mut Zset| {
            reply.array(3);
            reply.bulk(key.bytes());
            for (member, score) in from.members(zset, 1) {
                put(reply, member);
                reply.double(score);
            }
            from.remove(zset, 1);
        })?;
        if popped.is_some() {
            call.say_taken(Classes::ZSET, from.event(), key);
            call.effects.push([from.pop_name(), key.bytes()]);
            return Ok(());
        }
    }
    Ok(())
}

fn wait_to_pop(request: Request<'_>, serve: Exec) -> Result<Wait, Refusal> {
    let timeout_ms = timeout_of_seconds(request.arg(request.len() - 1))?;
    let keys = keys_before_timeout(request);
    Ok(Wait::new(
        timeout_ms,
        ValueType::ZSet,
        serve,
        keys,
        |_, key| of_one_key(request, key),
    ))
}

fn bzmpop(call: &mut Call<'_>) -> Done {
    let args = PopArgs::parse(call.request, 2)?;
    timeout_of_seconds(call.request.arg(1))?;
    zset_pop::pop_first(call, &args)?;
    Ok(())
}

fn wait_to_pop_many(request: Request<'_>, _: &Keyspace, _: UnixMillis) -> Result<Wait, Refusal> {
    let args = PopArgs::parse(request, 2)?;
    let timeout_ms = timeout_of_seconds(request.arg(1))?;
    let keys = request.args_from(3).take(args.keys);
    Ok(Wait::new(
        timeout_ms,
        ValueType::ZSet,
        bzmpop,
        keys,
        |_, key| of_one_counted_key(request, args.keys, key),
    ))
}
