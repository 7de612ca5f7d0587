//! XCLAIM and XAUTOCLAIM: entries that were delivered to one consumer become another's.

use larder_wire::resp::write::decimal;
use larder_wire::{Refusal, UnixMillis};

use super::number_args::{at_least, int, is};
use super::stream_args::{put_entry, put_id, range_start, strict_id};
use super::stream_group::{idle, no_key_or_group, push_consumer, push_group_state};
use crate::call::Call;
use crate::collection::Stream;
use crate::collection::stream::{CLAIM_DELETED, Group, ID_TEXT_BYTES_MAX, Pending, StreamId};

type Done = Result<(), Refusal>;

/// Pending entries that XAUTOCLAIM looks at for each that it may claim.
const ATTEMPTS_PER_CLAIM: usize = 10;

#[derive(Default)]
struct Options {
    least_idle: i64,
    delivered: Option<UnixMillis>,
    deliveries: Option<u64>,
    force: bool,
    /// A feed's: the entry need not be there.
    deleted: bool,
    only_ids: bool,
    last_id: Option<StreamId>,
}

impl Options {
    fn parse(call: &Call<'_>, from: usize) -> Result<Options, Refusal> {
        let (mut options, mut at) = (Options::default(), from);
        while let Some(word) = call.request.get(at) {
            let number = |arg: &[u8], option: &str| {
                int(arg).map_err(|_| {
                    Refusal::new(format!("ERR Invalid {option} option argument for XCLAIM"))
                })
            };
            match call.request.get(at + 1) {
                _ if is(word, "FORCE") => options.force = true,
                _ if is(word, CLAIM_DELETED) => options.deleted = true,
                _ if is(word, "JUSTID") => options.only_ids = true,
                Some(arg) if is(word, "IDLE") => {
                    let ago = number(arg, "IDLE")?;
                    options.delivered = Some(UnixMillis(call.now.0.saturating_sub(ago)));
                    at += 1;
                }
                Some(arg) if is(word, "TIME") => {
                    options.delivered = Some(UnixMillis(number(arg, "TIME")?));
                    at += 1;
                }
                Some(arg) if is(word, "RETRYCOUNT") => {
                    options.deliveries = u64::try_from(number(arg, "RETRYCOUNT")?).ok();
                    at += 1;
                }
                Some(arg) if is(word, "LASTID") => {
                    options.last_id = Some(strict_id(arg, 0)?);
                    at += 1;
                }
                Some(_) | None => {
                    let word = String::from_utf8_lossy(word);
                    return Err(Refusal::new(format!(
                        "ERR Unrecognized XCLAIM option '{word}'"
                    )));
                }
            }
            at += 1;
        }
        Ok(options)
    }
}

fn least_idle(arg: &[u8], command: &str) -> Result<i64, Refusal> {
    let idle = int(arg)
        .map_err(|_| Refusal::new(format!("ERR Invalid min-idle-time argument for {command}")))?;
    Ok(idle.max(0))
}

/// What became of one pending entry.
enum Outcome {
    Claimed(StreamId),
    /// Its entry is not in the stream any more.
    Gone(StreamId),
}

/// Leaves the effects of what was claimed, and returns a copy of the group as it is now.
fn finish(call: &mut Call<'_>, outcomes: &[Outcome], created: bool, group: &Group) {
    let (key, name) = (call.request.arg(1), call.request.arg(2));
    let consumer = call.request.arg(3);
    if created {
        push_consumer(call, key, name, consumer);
    }
    for outcome in outcomes {
        let mut room = [0; ID_TEXT_BYTES_MAX];
        match outcome {
            Outcome::Gone(id) => {
                let args = [&b"XACK"[..], key, name, id.text(&mut room)];
                call.effects.push(args);
            }
            Outcome::Claimed(id) => {
                if let Some(pending) = group.pending(*id) {
                    push_claim(call, key, name, pending);
                }
            }
        }
    }
}

/// Leaves the effect that makes an entry pending as it is now.
pub(super) fn push_claim(call: &mut Call<'_>, key: &[u8], group: &[u8], pending: Pending<'_>) {
    let mut room = [0; ID_TEXT_BYTES_MAX];
    call.effects.push([
        &b"XCLAIM"[..],
        key,
        group,
        pending.consumer,
        b"0",
        pending.id.text(&mut room),
        b"TIME",
        decimal(&mut [0; 20], pending.delivered.0),
        b"RETRYCOUNT",
        pending.deliveries.to_string().as_bytes(),
        b"FORCE",
        b"JUSTID",
    ]);
}

/// The group that arguments 1 and 2 name, as it is.
fn group_of(call: &Call<'_>) -> Result<Group, Refusal> {
    let (key, name) = (call.key(1), call.request.arg(2));
    let stream = call.keyspace.peek::<Stream>(key, call.now)?;
    let group = stream.and_then(|stream| stream.groups().get(name));
    group
        .cloned()
        .ok_or_else(|| no_key_or_group(name, key.bytes()))
}

pub fn xclaim(call: &mut Call<'_>) -> Done {
    group_of(call)?;
    let least_idle = least_idle(call.request.arg(4), "XCLAIM")?;
    let mut ids = Vec::new();
    // The first argument that is no id is an option.
    for arg in call.request.args_from(5) {
        match StreamId::parse(arg, 0) {
            Some(id) => ids.push(id),
            None => break,
        }
    }
    let mut options = Options::parse(call, 5 + ids.len())?;
    options.least_idle = least_idle;
    let (key, name, consumer) = (call.key(1), call.request.arg(2), call.request.arg(3));
    let now = call.now;
    let (mut outcomes, mut created, mut moved_on) = (Vec::new(), false, false);
    let after = call.keyspace.modify(key, now, |stream: &mut Stream| {
        let there: Vec<bool> = ids.iter().map(|id| stream.contains(*id)).collect();
        stream.groups_mut().edit(name, |group| {
            if options.last_id.is_some_and(|id| id > group.last_delivered) {
                group.last_delivered = options.last_id.unwrap_or_default();
                moved_on = true;
            }
            for (id, there) in ids.iter().zip(there) {
                let outcome = claim(group, *id, there, consumer, &options, now, &mut created);
                outcomes.extend(outcome);
            }
            group.clone()
        })
    })?;
    let Some(group) = after.flatten() else {
        return Err(no_key_or_group(name, key.bytes()));
    };
    finish(call, &outcomes, created, &group);
    // A feed's claims must reach its own replicas as they came.
    if options.deleted {
        call.effects.clear();
        call.effects.verbatim();
    } else if moved_on {
        push_group_state(call, key.bytes(), name, &group);
    }
    let claimed = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Claimed(id) => Some(*id),
        Outcome::Gone(_) => None,
    });
    put_claimed(call, &claimed.collect::<Vec<_>>(), options.only_ids)
}

fn claim(
    group: &mut Group,
    id: StreamId,
    there: bool,
    consumer: &[u8],
    options: &Options,
    now: UnixMillis,
    created: &mut bool,
) -> Option<Outcome> {
    let pending = group.pending(id);
    if !there && !options.deleted {
        return group.acknowledge(id).then_some(Outcome::Gone(id));
    }
    if pending.is_none() && !options.force && !options.deleted {
        return None;
    }
    if pending.is_some_and(|it| idle(now, it.delivered) < options.least_idle) {
        return None;
    }
    // One that was never delivered counts as delivered once before this.
    let before = pending.map_or(1, |it| it.deliveries);
    let deliveries = before + u64::from(!options.only_ids);
    let delivered = options.delivered.unwrap_or(now);
    // A journal is carried out at the beginning of time: what it says was judged when it was written down.
    let passed = delivered <= now || now == UnixMillis(0);
    let delivered = if delivered.0 >= 0 && passed {
        delivered
    } else {
        now
    };
    let seen = now.max(delivered);
    *created |= group.create_consumer(consumer, seen);
    group.see_consumer(consumer, seen);
    group.deliver(Pending {
        id,
        consumer,
        delivered,
        deliveries: options.deliveries.unwrap_or(deliveries),
    });
    Some(Outcome::Claimed(id))
}

fn put_claimed(call: &mut Call<'_>, ids: &[StreamId], only_ids: bool) -> Done {
    let key = call.key(1);
    let stream = call.keyspace.peek::<Stream>(key, call.now)?;
    call.reply.array(ids.len());
    for id in ids {
        match stream.and_then(|stream| stream.entry(*id)) {
            Some(entry) if !only_ids => put_entry(&mut call.reply, entry),
            Some(_) | None => put_id(&mut call.reply, *id),
        }
    }
    Ok(())
}

/// Most entries that XAUTOCLAIM may be asked for: as many ids as Redis could address.
const CLAIMS_MAX: usize = i64::MAX as usize / size_of::<StreamId>();

pub fn xautoclaim(call: &mut Call<'_>) -> Done {
    let least_idle = least_idle(call.request.arg(4), "XAUTOCLAIM")?;
    let start = range_start(call.request.arg(5))?;
    let (mut count, mut only_ids, mut at) = (100, false, 6);
    while let Some(word) = call.request.get(at) {
        match call.request.get(at + 1) {
            Some(arg) if is(word, "COUNT") => {
                count = at_least(1, arg, "ERR COUNT must be > 0")?;
                if count > CLAIMS_MAX {
                    return Err(Refusal::fixed("ERR COUNT must be > 0"));
                }
                at += 1;
            }
            _ if is(word, "JUSTID") => only_ids = true,
            Some(_) | None => return Err(Refusal::SYNTAX),
        }
        at += 1;
    }
    let seen = group_of(call)?;
    let options = Options {
        least_idle,
        only_ids,
        ..Options::default()
    };
    let (key, name, consumer) = (call.key(1), call.request.arg(2), call.request.arg(3));
    let now = call.now;
    let (mut outcomes, mut created) = (Vec::new(), false);
    // The copy shows what was pending while the group changes.
    let mut pending = seen.pending_from(start);
    let attempts = count.saturating_mul(ATTEMPTS_PER_CLAIM);
    let after = call.keyspace.modify(key, now, |stream: &mut Stream| {
        for pending in pending.by_ref().take(attempts) {
            let there = stream.contains(pending.id);
            let outcome = stream.groups_mut().edit(name, |group| {
                claim(
                    group,
                    pending.id,
                    there,
                    consumer,
                    &options,
                    now,
                    &mut created,
                )
            });
            outcomes.extend(outcome.flatten());
            if outcomes.len() == count {
                break;
            }
        }
        stream.groups().get(name).cloned()
    })?;
    let next = pending.next().map_or(StreamId::MIN, |it| it.id);
    let Some(group) = after.flatten() else {
        return Err(no_key_or_group(name, key.bytes()));
    };
    finish(call, &outcomes, created, &group);
    let (mut claimed, mut gone) = (Vec::new(), Vec::new());
    for outcome in &outcomes {
        match outcome {
            Outcome::Claimed(id) => claimed.push(*id),
            Outcome::Gone(id) => gone.push(*id),
        }
    }
    call.reply.array(3);
    put_id(&mut call.reply, next);
    put_claimed(call, &claimed, only_ids)?;
    call.reply.array(gone.len());
    gone.iter().for_each(|id| put_id(&mut call.reply, *id));
    Ok(())
}
