//! Commands that take from one of several lists, or from one list to another. Their cores serve the blocking forms too.

use larder_wire::Refusal;
use larder_wire::resp::Request;

use super::element::put;
use super::list::{remove_end, say_pop, say_push, show_end};
use super::number_args::{at_least, is, key_count};
use crate::call::Call;
use crate::collection::{End, List};
use crate::key::Key;

type Done = Result<(), Refusal>;

pub(super) fn end(arg: &[u8]) -> Result<End, Refusal> {
    match arg {
        word if is(word, "LEFT") => Ok(End::Left),
        word if is(word, "RIGHT") => Ok(End::Right),
        _ => Err(Refusal::SYNTAX),
    }
}

pub fn lmove(call: &mut Call<'_>) -> Done {
    let (from, to) = (end(call.request.arg(3))?, end(call.request.arg(4))?);
    if !move_element(call, from, to)? {
        call.reply.null();
    }
    Ok(())
}

pub fn rpoplpush(call: &mut Call<'_>) -> Done {
    if !move_element(call, End::Right, End::Left)? {
        call.reply.null();
    }
    Ok(())
}

/// Moves an element from the list in argument 1 to that in argument 2 and answers it; false without anything to move.
pub(super) fn move_element(call: &mut Call<'_>, from: End, to: End) -> Result<bool, Refusal> {
    let (source, target) = (call.key(1), call.key(2));
    let settings = call.keyspace.collections();
    let Some(list) = call.keyspace.look::<List>(source, call.now)? else {
        return Ok(false);
    };
    let mut element = Vec::new();
    show_end(list, from, 1, |item| {
        element.extend_from_slice(item.text(&mut [0; 20]))
    });
    let stays = source.bytes() == target.bytes() && (from == to || list.len() == 1);
    call.keyspace.look::<List>(target, call.now)?;
    call.reply.bulk(&element);
    if stays {
        say_moved(call, (source, from), (target, to));
        return Ok(true);
    }
    if source.bytes() == target.bytes() {
        call.keyspace.modify(source, call.now, |list: &mut List| {
            remove_end(list, from, 1, &settings);
            list.push(to, &element, &settings);
        })?;
    } else {
        call.keyspace.modify(source, call.now, |list: &mut List| {
            remove_end(list, from, 1, &settings);
        })?;
        call.keyspace
            .modify_or_create(target, call.now, |list: &mut List| {
                list.push(to, &element, &settings);
            })?;
    }
    say_moved(call, (source, from), (target, to));
    // As LMOVE, so that a blocking command leaves an effect that does not block.
    let side = |end| match end {
        End::Left => &b"LEFT"[..],
        End::Right => b"RIGHT",
    };
    let moved: [&[u8]; 5] = [
        b"LMOVE",
        source.bytes(),
        target.bytes(),
        side(from),
        side(to),
    ];
    call.effects.push(moved);
    Ok(true)
}

/// The push comes first, as Redis has it.
fn say_moved(call: &mut Call<'_>, from: (Key<'_>, End), to: (Key<'_>, End)) {
    say_push(call, to.1, to.0);
    say_pop(call, from.1, from.0);
}

pub fn lmpop(call: &mut Call<'_>) -> Done {
    let args = PopArgs::parse(call.request, 1)?;
    if !pop_first(call, &args)? {
        call.reply.null_array();
    }
    Ok(())
}

/// `numkeys key … LEFT|RIGHT [COUNT count]`.
pub(super) struct PopArgs {
    first_key: usize,
    pub(super) keys: usize,
    end: End,
    count: usize,
}

impl PopArgs {
    /// From argument `at` on.
    pub(super) fn parse(request: Request<'_>, at: usize) -> Result<PopArgs, Refusal> {
        let keys = key_count(request.arg(at))?;
        let where_at = keys.checked_add(at + 1).ok_or(Refusal::SYNTAX)?;
        let end = end(request.get(where_at).ok_or(Refusal::SYNTAX)?)?;
        let count = match (request.get(where_at + 1), request.get(where_at + 2)) {
            (None, _) => 1,
            (Some(word), Some(count)) if is(word, "COUNT") => {
                let count = at_least(1, count, "ERR count should be greater than 0")?;
                if request.len() > where_at + 3 {
                    return Err(Refusal::SYNTAX);
                }
                count
            }
            (Some(_), _) => return Err(Refusal::SYNTAX),
        };
        Ok(PopArgs {
            first_key: at + 1,
            keys,
            end,
            count,
        })
    }
}

/// Pops from the first list that has something and answers its key and what was popped; false when all are empty.
pub(super) fn pop_first(call: &mut Call<'_>, args: &PopArgs) -> Result<bool, Refusal> {
    let settings = call.keyspace.collections();
    for index in args.first_key..args.first_key + args.keys {
        let key = call.key(index);
        let reply = &mut call.reply;
        let popped = call.keyspace.modify(key, call.now, |list: &mut List| {
            let taken = args.count.min(list.len());
            reply.array(2);
            reply.bulk(key.bytes());
            reply.array(taken);
            show_end(list, args.end, taken, |item| put(reply, item));
            remove_end(list, args.end, taken, &settings);
            taken
        })?;
        let Some(taken) = popped else { continue };
        say_pop(call, args.end, key);
        let name: &[u8] = match args.end {
            End::Left => b"LPOP",
            End::Right => b"RPOP",
        };
        call.effects
            .push([name, key.bytes(), taken.to_string().as_bytes()]);
        return Ok(true);
    }
    Ok(false)
}
