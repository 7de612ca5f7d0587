//! BLPOP, BRPOP, BLMPOP, BLMOVE and BRPOPLPUSH: the list commands that wait where there is nothing to take.

use larder_wire::Refusal;
use larder_wire::resp::{OwnedRequest, Request};

use super::blocking::{Blocking, Wait, timeout_of_seconds};
use super::element::put;
use super::list::{remove_end, say_pop, show_end};
use super::list_move::{self, PopArgs, end};
use crate::call::Call;
use crate::collection::{End, List};
use crate::value::ValueType;

type Done = Result<(), Refusal>;

pub const BLPOP: Blocking = Blocking {
    attempt: blpop,
    wait: |request, _, _| Wait::to_pop(request, ValueType::List, blpop),
};

pub const BRPOP: Blocking = Blocking {
    attempt: brpop,
    wait: |request, _, _| Wait::to_pop(request, ValueType::List, brpop),
};

pub const BLMPOP: Blocking = Blocking {
    attempt: blmpop,
    wait: |request, _, _| {
        let args = PopArgs::parse(request, 2)?;
        Wait::to_pop_many(request, args.keys, ValueType::List, blmpop)
    },
};

pub const BLMOVE: Blocking = Blocking {
    attempt: blmove,
    wait: |request, _, _| wait_to_move(request, 5, blmove),
};

pub const BRPOPLPUSH: Blocking = Blocking {
    attempt: brpoplpush,
    wait: |request, _, _| wait_to_move(request, 3, brpoplpush),
};

fn blpop(call: &mut Call<'_>) -> Done {
    pop(call, End::Left)
}

fn brpop(call: &mut Call<'_>) -> Done {
    pop(call, End::Right)
}

/// Takes one element from the first list that there is, and answers the key and the element.
fn pop(call: &mut Call<'_>, from: End) -> Done {
    let last = call.request.len() - 1;
    timeout_of_seconds(call.request.arg(last))?;
    let settings = call.keyspace.collections();
    for index in 1..last {
        let key = call.key(index);
        let reply = &mut call.reply;
        let popped = call.keyspace.modify(key, call.now, |list: &mut List| {
            reply.array(2);
            reply.bulk(key.bytes());
            show_end(list, from, 1, |item| put(reply, item));
            remove_end(list, from, 1, &settings);
        })?;
        if popped.is_some() {
            say_pop(call, from, key);
            let name: &[u8] = match from {
                End::Left => b"LPOP",
                End::Right => b"RPOP",
            };
            call.effects.push([name, key.bytes()]);
            return Ok(());
        }
    }
    Ok(())
}

fn blmpop(call: &mut Call<'_>) -> Done {
    let args = PopArgs::parse(call.request, 2)?;
    timeout_of_seconds(call.request.arg(1))?;
    list_move::pop_first(call, &args)?;
    Ok(())
}

fn blmove(call: &mut Call<'_>) -> Done {
    let (from, to) = (end(call.request.arg(3))?, end(call.request.arg(4))?);
    timeout_of_seconds(call.request.arg(5))?;
    list_move::move_element(call, from, to)?;
    Ok(())
}

fn brpoplpush(call: &mut Call<'_>) -> Done {
    timeout_of_seconds(call.request.arg(3))?;
    list_move::move_element(call, End::Right, End::Left)?;
    Ok(())
}

fn wait_to_move(
    request: Request<'_>,
    timeout_at: usize,
    serve: crate::call::Exec,
) -> Result<Wait, Refusal> {
    let timeout_ms = timeout_of_seconds(request.arg(timeout_at))?;
    let source = std::iter::once(request.arg(1));
    Ok(Wait::new(
        timeout_ms,
        ValueType::List,
        serve,
        source,
        |_, _| OwnedRequest::from(request),
    ))
}
