//! BZPOPMIN, BZPOPMAX and BZMPOP: the sorted set commands that wait where there is nothing to take.

use larder_wire::Refusal;

use super::blocking::{Blocking, Wait, timeout_of_seconds};
use super::element::put;
use super::zset_pop::{self, Extreme, PopArgs};
use crate::call::Call;
use crate::collection::Zset;
use crate::events::Classes;
use crate::value::ValueType;

type Done = Result<(), Refusal>;

pub const BZPOPMIN: Blocking = Blocking {
    attempt: bzpopmin,
    wait: |request, _, _| Wait::to_pop(request, ValueType::ZSet, bzpopmin),
};

pub const BZPOPMAX: Blocking = Blocking {
    attempt: bzpopmax,
    wait: |request, _, _| Wait::to_pop(request, ValueType::ZSet, bzpopmax),
};

pub const BZMPOP: Blocking = Blocking {
    attempt: bzmpop,
    wait: |request, _, _| {
        let args = PopArgs::parse(request, 2)?;
        Wait::to_pop_many(request, args.keys, ValueType::ZSet, bzmpop)
    },
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

fn bzmpop(call: &mut Call<'_>) -> Done {
    let args = PopArgs::parse(call.request, 2)?;
    timeout_of_seconds(call.request.arg(1))?;
    zset_pop::pop_first(call, &args)?;
    Ok(())
}
