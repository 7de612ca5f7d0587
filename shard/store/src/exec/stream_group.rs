//! XGROUP, XACK and XPENDING: the groups of a stream, and what their consumers have not acknowledged.

use larder_wire::resp::ReplyWriter;
use larder_wire::{Refusal, UnixMillis};

use super::number_args::{int, is};
use super::stream_args::{put_id, range_end, range_start, strict_id};
use crate::call::Call;
use crate::collection::Stream;
use crate::collection::stream::{
    Consumer, Group, ID_TEXT_BYTES_MAX, Pending, StreamId, entries_read_text,
};
use crate::events::Classes;

type Done = Result<(), Refusal>;

const NO_KEY: Refusal = Refusal::fixed(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.",
);

/// No such group in a stream that is there.
pub(super) fn no_group(group: &[u8], key: &[u8]) -> Refusal {
    let (group, key) = (String::from_utf8_lossy(group), String::from_utf8_lossy(key));
    Refusal::new(format!(
        "NOGROUP No such consumer group '{group}' for key name '{key}'"
    ))
}

/// No such stream, or no such group in it.
pub(super) fn no_key_or_group(group: &[u8], key: &[u8]) -> Refusal {
    let (group, key) = (String::from_utf8_lossy(group), String::from_utf8_lossy(key));
    Refusal::new(format!(
        "NOGROUP No such key '{key}' or consumer group '{group}'"
    ))
}

pub fn help(call: &mut Call<'_>) -> Done {
    const HELP: &[&str] = &[
        "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CREATE <key> <groupname> <id|$> [option]",
        "    Create a new consumer group. Options are:",
        "    * MKSTREAM",
        "      Create the empty stream if it does not exist.",
        "    * ENTRIESREAD entries_read",
        "      Set the group's entries_read counter (internal use).",
        "CREATECONSUMER <key> <groupname> <consumer>",
        "    Create a new consumer in the specified group.",
        "DELCONSUMER <key> <groupname> <consumer>",
        "    Remove the specified consumer.",
        "DESTROY <key> <groupname>",
        "    Remove the specified group.",
        "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
        "    Set the current group ID and entries_read counter.",
        "HELP",
        "    Prints this help.",
    ];
    call.reply.array(HELP.len());
    HELP.iter().for_each(|line| call.reply.simple(line));
    Ok(())
}

#[derive(Default)]
struct Options {
    make_stream: bool,
    entries_read: Option<u64>,
}

impl Options {
    /// Options from argument 5 on.
    fn parse(call: &Call<'_>, create: bool) -> Result<Options, Refusal> {
        let mut options = Options::default();
        let mut at = 5;
        while let Some(word) = call.request.get(at) {
            match call.request.get(at + 1) {
                _ if create && is(word, "MKSTREAM") => options.make_stream = true,
                Some(arg) if is(word, "ENTRIESREAD") => {
                    let read = int(arg)?;
                    if read < -1 {
                        return Err(Refusal::fixed(
                            "ERR value for ENTRIESREAD must be positive or -1",
                        ));
                    }
                    options.entries_read = u64::try_from(read).ok();
                    at += 1;
                }
                Some(_) | None => {
                    let subcommand = String::from_utf8_lossy(call.request.arg(1));
                    let text = "ERR unknown subcommand or wrong number of arguments for";
                    return Err(Refusal::new(format!(
                        "{text} '{subcommand}'. Try XGROUP HELP."
                    )));
                }
            }
            at += 1;
        }
        Ok(options)
    }
}

/// The id that a group starts after: `$` is the stream's last.
fn group_id(arg: &[u8], stream: Option<&Stream>) -> Result<StreamId, Refusal> {
    match arg {
        b"$" => Ok(stream.map_or(StreamId::MIN, Stream::last_id)),
        id => strict_id(id, 0),
    }
}

pub fn create(call: &mut Call<'_>) -> Done {
    let options = Options::parse(call, true)?;
    let (key, name) = (call.key(2), call.request.arg(3));
    let stream = call.keyspace.peek::<Stream>(key, call.now)?;
    if stream.is_none() && !options.make_stream {
        return Err(NO_KEY);
    }
    let id = group_id(call.request.arg(4), stream)?;
    let group = Group::new(id, options.entries_read);
    let created = call
        .keyspace
        .modify_or_create(key, call.now, |stream: &mut Stream| {
            stream.groups_mut().insert(name, group)
        })?;
    if !created {
        return Err(Refusal::fixed(
            "BUSYGROUP Consumer Group name already exists",
        ));
    }
    call.say(Classes::STREAM, "xgroup-create", key);
    call.effects.verbatim();
    call.reply.ok();
    Ok(())
}

pub fn setid(call: &mut Call<'_>) -> Done {
    let options = Options::parse(call, false)?;
    let (key, name) = (call.key(2), call.request.arg(3));
    let Some(stream) = call.keyspace.peek::<Stream>(key, call.now)? else {
        return Err(NO_KEY);
    };
    if stream.groups().get(name).is_none() {
        return Err(no_group(name, key.bytes()));
    }
    let id = match call.request.arg(4) {
        b"-" => StreamId::MIN,
        b"+" => StreamId::MAX,
        id => group_id(id, Some(stream))?,
    };
    edit(call, |group| {
        group.last_delivered = id;
        group.entries_read = options.entries_read;
    })?;
    call.say(Classes::STREAM, "xgroup-setid", key);
    call.effects.verbatim();
    call.reply.ok();
    Ok(())
}

pub fn destroy(call: &mut Call<'_>) -> Done {
    let (key, name) = (call.key(2), call.request.arg(3));
    let destroyed = call.keyspace.modify(key, call.now, |stream: &mut Stream| {
        stream.groups_mut().remove(name)
    })?;
    let group = destroyed.ok_or(NO_KEY)?;
    let destroyed = group.is_some();
    if let Some(group) = group {
        // What was pending may be much: it is freed bit by bit.
        call.keyspace.throw_away(Stream::of_group(group));
        call.say(Classes::STREAM, "xgroup-destroy", key);
        call.effects.verbatim();
    }
    call.reply.int(i64::from(destroyed));
    Ok(())
}

pub fn createconsumer(call: &mut Call<'_>) -> Done {
    let (consumer, now) = (call.request.arg(4), call.now);
    let created = edit(call, |group| group.create_consumer(consumer, now))?;
    if created {
        call.say(Classes::STREAM, "xgroup-createconsumer", call.key(2));
        call.effects.verbatim();
    }
    call.reply.int(i64::from(created));
    Ok(())
}

pub fn delconsumer(call: &mut Call<'_>) -> Done {
    let consumer = call.request.arg(4);
    let deleted = edit(call, |group| group.delete_consumer(consumer))?;
    if deleted.is_some() {
        call.say(Classes::STREAM, "xgroup-delconsumer", call.key(2));
        call.effects.verbatim();
    }
    call.reply.int(deleted.unwrap_or(0) as i64);
    Ok(())
}

/// Changes the group that an XGROUP subcommand names.
fn edit<R>(call: &mut Call<'_>, change: impl FnOnce(&mut Group) -> R) -> Result<R, Refusal> {
    let (key, name) = (call.key(2), call.request.arg(3));
    let changed = call.keyspace.modify(key, call.now, |stream: &mut Stream| {
        stream.groups_mut().edit(name, change)
    })?;
    changed
        .ok_or(NO_KEY)?
        .ok_or_else(|| no_group(name, key.bytes()))
}

pub fn xack(call: &mut Call<'_>) -> Done {
    let (key, name) = (call.key(1), call.request.arg(2));
    let stream = call.keyspace.peek::<Stream>(key, call.now)?;
    if stream.is_none_or(|stream| stream.groups().get(name).is_none()) {
        call.reply.int(0);
        return Ok(());
    }
    let ids = call.request.args_from(3).map(|arg| strict_id(arg, 0));
    let ids: Vec<_> = ids.collect::<Result<_, _>>()?;
    let acknowledged = call.keyspace.modify(key, call.now, |stream: &mut Stream| {
        stream.groups_mut().edit(name, |group| {
            ids.into_iter().filter(|id| group.acknowledge(*id)).count()
        })
    })?;
    let acknowledged = acknowledged.flatten().unwrap_or(0);
    if acknowledged > 0 {
        call.effects.verbatim();
    }
    call.reply.int(acknowledged as i64);
    Ok(())
}

pub fn xpending(call: &mut Call<'_>) -> Done {
    let (key, name, request) = (call.key(1), call.request.arg(2), call.request);
    let with_idle = request.get(3).is_some_and(|word| is(word, "IDLE"));
    let at = if with_idle { 5 } else { 3 };
    let extended = request.len() != 3;
    if extended && !(6..=9).contains(&request.len()) {
        return Err(Refusal::SYNTAX);
    }
    let mut least_idle = 0;
    if with_idle {
        least_idle = int(request.arg(4))?;
        if request.len() < 8 {
            return Err(Refusal::SYNTAX);
        }
    }
    let mut asked = None;
    if extended {
        let count = int(request.arg(at + 2))?.max(0) as usize;
        let start = range_start(request.arg(at))?;
        let end = range_end(request.arg(at + 1))?;
        asked = Some((start, end, count));
    }
    let stream = call.keyspace.read::<Stream>(key, call.now)?;
    let Some(group) = stream.and_then(|stream| stream.groups().get(name)) else {
        return Err(no_key_or_group(name, key.bytes()));
    };
    let Some((start, end, count)) = asked else {
        put_summary(&mut call.reply, group);
        return Ok(());
    };
    let now = call.now;
    let shown = |pending: &Pending<'_>| idle(now, pending.delivered) >= least_idle;
    let found: Vec<Pending<'_>> = match request.get(at + 3) {
        None => {
            let all = group.pending_from(start).take_while(|it| it.id <= end);
            all.filter(shown).take(count).collect()
        }
        Some(consumer) => {
            let ids = group.consumers().get(consumer).into_iter();
            ids.flat_map(|consumer| consumer.pending_from(start))
                .take_while(|id| *id <= end)
                .filter_map(|id| group.pending(id))
                .filter(shown)
                .take(count)
                .collect()
        }
    };
    call.reply.array(found.len());
    for pending in found {
        call.reply.array(4);
        put_id(&mut call.reply, pending.id);
        call.reply.bulk(pending.consumer);
        call.reply.int(idle(now, pending.delivered));
        call.reply.int(pending.deliveries as i64);
    }
    Ok(())
}

/// Milliseconds since a delivery.
pub(super) fn idle(now: UnixMillis, since: UnixMillis) -> i64 {
    now.0.saturating_sub(since.0).max(0)
}

fn put_summary(reply: &mut ReplyWriter<'_>, group: &Group) {
    reply.array(4);
    reply.int(group.pending_len() as i64);
    let first = group.pending_at(0).next().map(|pending| pending.id);
    let (Some(first), Some(last)) = (first, group.last_pending()) else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    put_id(reply, first);
    put_id(reply, last);
    let waiting = |(_, consumer): &(&[u8], &Consumer)| consumer.pending_len() > 0;
    reply.array(group.consumers().iter().filter(waiting).count());
    for (name, consumer) in group.consumers().iter().filter(waiting) {
        reply.array(2);
        reply.bulk(name);
        reply.bulk(consumer.pending_len().to_string().as_bytes());
    }
}

/// Leaves the effect that sets how far a group has read.
pub(super) fn push_group_state(call: &mut Call<'_>, key: &[u8], name: &[u8], group: &Group) {
    let mut room = [0; ID_TEXT_BYTES_MAX];
    let read = entries_read_text(group.entries_read);
    call.effects.push([
        &b"XGROUP"[..],
        b"SETID",
        key,
        name,
        group.last_delivered.text(&mut room),
        b"ENTRIESREAD",
        read.as_bytes(),
    ]);
}

/// Says that a consumer was made, and leaves the effect that makes it.
pub(super) fn push_consumer(call: &mut Call<'_>, key: &[u8], group: &[u8], consumer: &[u8]) {
    call.say(Classes::STREAM, "xgroup-createconsumer", key.into());
    call.effects
        .push([&b"XGROUP"[..], b"CREATECONSUMER", key, group, consumer]);
}
