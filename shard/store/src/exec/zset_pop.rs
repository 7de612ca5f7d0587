//! Taking members off an end of a sorted set. The core serves the blocking forms too.

use larder_wire::Refusal;
use larder_wire::resp::Request;

use super::element::put;
use super::number_args::{at_least, is, key_count, pop_count};
use super::zset::put_members;
use crate::call::Call;
use crate::collection::either::Either;
use crate::collection::{Item, Zset};
use crate::events::Classes;

type Done = Result<(), Refusal>;

/// An end of a sorted set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extreme {
    Min,
    Max,
}

impl Extreme {
    fn parse(arg: &[u8]) -> Result<Extreme, Refusal> {
        match arg {
            word if is(word, "MIN") => Ok(Extreme::Min),
            word if is(word, "MAX") => Ok(Extreme::Max),
            _ => Err(Refusal::SYNTAX),
        }
    }

    pub(super) fn members<'z>(
        self,
        zset: &'z Zset,
        count: usize,
    ) -> impl Iterator<Item = (Item<'z>, f64)> + use<'z> {
        match self {
            Extreme::Min => Either::One(zset.iter().take(count)),
            Extreme::Max => Either::Other(
                zset.iter_back_from(zset.len().saturating_sub(1))
                    .take(count),
            ),
        }
    }

    /// What a pop at this end is called.
    pub(super) fn event(self) -> &'static str {
        match self {
            Extreme::Min => "zpopmin",
            Extreme::Max => "zpopmax",
        }
    }

    /// The command that pops from this end.
    pub(super) fn pop_name(self) -> &'static [u8] {
        match self {
            Extreme::Min => b"ZPOPMIN",
            Extreme::Max => b"ZPOPMAX",
        }
    }

    /// Takes out `count` members, of which the set must have so many.
    pub(super) fn remove(self, zset: &mut Zset, count: usize) {
        let first = match self {
            Extreme::Min => 0,
            Extreme::Max => zset.len() - count,
        };
        zset.remove_ranks(first, count);
    }
}

pub fn zpopmin(call: &mut Call<'_>) -> Done {
    pop(call, Extreme::Min)
}

pub fn zpopmax(call: &mut Call<'_>) -> Done {
    pop(call, Extreme::Max)
}

fn pop(call: &mut Call<'_>, end: Extreme) -> Done {
    if call.request.len() > 3 {
        return Err(Refusal::SYNTAX);
    }
    let (key, count) = (call.key(1), call.request.get(2).map(pop_count).transpose()?);
    let reply = &mut call.reply;
    let popped = call.keyspace.modify(key, call.now, |zset: &mut Zset| {
        let taken = count.unwrap_or(1).min(zset.len());
        if count.is_some() {
            put_members(reply, taken, end.members(zset, taken), true);
        } else {
            // One member without a count is flat in RESP3 too.
            reply.array(taken * 2);
            for (member, score) in end.members(zset, taken) {
                put(reply, member);
                reply.double(score);
            }
        }
        end.remove(zset, taken);
        taken
    })?;
    match popped {
        None => call.reply.array(0),
        Some(0) => {}
        Some(_) => {
            call.say_taken(Classes::ZSET, end.event(), key);
            call.effects.verbatim();
        }
    }
    Ok(())
}

pub fn zmpop(call: &mut Call<'_>) -> Done {
    let args = PopArgs::parse(call.request, 1)?;
    if !pop_first(call, &args)? {
        call.reply.null_array();
    }
    Ok(())
}

/// `numkeys key … MIN|MAX [COUNT count]`.
pub(super) struct PopArgs {
    first_key: usize,
    pub(super) keys: usize,
    end: Extreme,
    count: usize,
}

impl PopArgs {
    /// From argument `at` on.
    pub(super) fn parse(request: Request<'_>, at: usize) -> Result<PopArgs, Refusal> {
        let keys = key_count(request.arg(at))?;
        let where_at = keys.checked_add(at + 1).ok_or(Refusal::SYNTAX)?;
        let end = Extreme::parse(request.get(where_at).ok_or(Refusal::SYNTAX)?)?;
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

/// Pops from the first sorted set that has something and answers its key and what was popped, in pairs; false when
/// all are empty.
pub(super) fn pop_first(call: &mut Call<'_>, args: &PopArgs) -> Result<bool, Refusal> {
    for index in args.first_key..args.first_key + args.keys {
        let key = call.key(index);
        let reply = &mut call.reply;
        let popped = call.keyspace.modify(key, call.now, |zset: &mut Zset| {
            let taken = args.count.min(zset.len());
            reply.array(2);
            reply.bulk(key.bytes());
            reply.array(taken);
            for (member, score) in args.end.members(zset, taken) {
                reply.array(2);
                put(reply, member);
                reply.double(score);
            }
            args.end.remove(zset, taken);
            taken
        })?;
        let Some(taken) = popped else { continue };
        call.say_taken(Classes::ZSET, args.end.event(), key);
        call.effects.push([
            args.end.pop_name(),
            key.bytes(),
            taken.to_string().as_bytes(),
        ]);
        return Ok(true);
    }
    Ok(false)
}
