//! XINFO: what a stream says of itself.

use larder_wire::Refusal;
use larder_wire::resp::ReplyWriter;

use super::number_args::{int, is};
use super::stream_args::{put_entry, put_id};
use super::stream_group::{idle, no_group};
use crate::call::Call;
use crate::collection::Stream;
use crate::collection::stream::{Consumer, Group, NodeMax, StreamId};

type Done = Result<(), Refusal>;

pub fn help(call: &mut Call<'_>) -> Done {
    const HELP: &[&str] = &[
        "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CONSUMERS <key> <groupname>",
        "    Show consumers of <groupname>.",
        "GROUPS <key>",
        "    Show the stream consumer groups.",
        "STREAM <key> [FULL [COUNT <count>]",
        "    Show information about the stream.",
        "HELP",
        "    Prints this help.",
    ];
    call.reply.array(HELP.len());
    HELP.iter().for_each(|line| call.reply.simple(line));
    Ok(())
}

/// How many entries FULL shows of each list unless COUNT says it.
const FULL_COUNT: usize = 10;

pub fn stream(call: &mut Call<'_>) -> Done {
    let (key, max) = (call.key(2), call.keyspace.collections().stream_node_max);
    let Some(stream) = call.keyspace.read::<Stream>(key, call.now)? else {
        return Err(Refusal::NO_SUCH_KEY);
    };
    let request = call.request;
    let misused = || {
        let subcommand = String::from_utf8_lossy(request.arg(1));
        let text = "ERR unknown subcommand or wrong number of arguments for";
        Refusal::new(format!("{text} '{subcommand}'. Try XINFO HELP."))
    };
    match (request.get(3), request.get(4), request.get(5)) {
        (None, _, _) => put_summary(&mut call.reply, stream, max),
        (Some(full), None, _) if is(full, "FULL") => {
            put_full(&mut call.reply, stream, max, FULL_COUNT);
        }
        (Some(full), Some(word), Some(count))
            if is(full, "FULL") && is(word, "COUNT") && request.len() == 6 =>
        {
            let count = match int(count)? {
                ..0 => FULL_COUNT,
                0 => usize::MAX,
                count => count as usize,
            };
            put_full(&mut call.reply, stream, max, count);
        }
        (Some(_), _, _) => return Err(misused()),
    }
    Ok(())
}

pub fn groups(call: &mut Call<'_>) -> Done {
    let key = call.key(2);
    let Some(stream) = call.keyspace.read::<Stream>(key, call.now)? else {
        return Err(Refusal::NO_SUCH_KEY);
    };
    let reply = &mut call.reply;
    reply.array(stream.groups().len());
    for (name, group) in stream.groups().iter() {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        put_count(reply, "consumers", group.consumers().len());
        put_count(reply, "pending", group.pending_len());
        put_progress(reply, stream, group);
    }
    Ok(())
}

pub fn consumers(call: &mut Call<'_>) -> Done {
    let (key, name) = (call.key(2), call.request.arg(3));
    let Some(stream) = call.keyspace.read::<Stream>(key, call.now)? else {
        return Err(Refusal::NO_SUCH_KEY);
    };
    let Some(group) = stream.groups().get(name) else {
        return Err(no_group(name, key.bytes()));
    };
    let reply = &mut call.reply;
    reply.array(group.consumers().len());
    for (name, consumer) in group.consumers().iter() {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(name);
        put_count(reply, "pending", consumer.pending_len());
        reply.bulk(b"idle");
        reply.int(idle(call.now, consumer.seen));
    }
    Ok(())
}

/// What both forms begin with: seven pairs. The counts of a radix tree are those that Redis has for a stream that was only appended
/// to, with keys that share no part.
fn put_head(reply: &mut ReplyWriter<'_>, stream: &Stream, max: NodeMax) {
    let nodes = stream.len().div_ceil(stream.node_entries(max));
    put_count(reply, "length", stream.len());
    put_count(reply, "radix-tree-keys", nodes);
    put_count(reply, "radix-tree-nodes", nodes + 1);
    let first = stream.first().map_or(StreamId::MIN, |entry| entry.id);
    reply.bulk(b"last-generated-id");
    put_id(reply, stream.last_id());
    reply.bulk(b"max-deleted-entry-id");
    put_id(reply, stream.max_deleted_id());
    put_count(reply, "entries-added", stream.entries_added() as usize);
    reply.bulk(b"recorded-first-entry-id");
    put_id(reply, first);
}

fn put_summary(reply: &mut ReplyWriter<'_>, stream: &Stream, max: NodeMax) {
    reply.map(10);
    put_head(reply, stream, max);
    put_count(reply, "groups", stream.groups().len());
    let ends = [
        ("first-entry", stream.first()),
        ("last-entry", stream.last()),
    ];
    for (name, entry) in ends {
        reply.bulk(name.as_bytes());
        match entry {
            Some(entry) => put_entry(reply, entry),
            None => reply.null(),
        }
    }
}

fn put_full(reply: &mut ReplyWriter<'_>, stream: &Stream, max: NodeMax, count: usize) {
    reply.map(9);
    put_head(reply, stream, max);
    reply.bulk(b"entries");
    reply.array(count.min(stream.len()));
    let entries = stream.iter_from(0).take(count);
    entries.for_each(|entry| put_entry(reply, entry));
    reply.bulk(b"groups");
    reply.array(stream.groups().len());
    for (name, group) in stream.groups().iter() {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        put_progress(reply, stream, group);
        put_count(reply, "pel-count", group.pending_len());
        reply.bulk(b"pending");
        reply.array(count.min(group.pending_len()));
        for pending in group.pending_at(0).take(count) {
            reply.array(4);
            put_id(reply, pending.id);
            reply.bulk(pending.consumer);
            reply.int(pending.delivered.0);
            reply.int(pending.deliveries as i64);
        }
        reply.bulk(b"consumers");
        reply.array(group.consumers().len());
        for (name, consumer) in group.consumers().iter() {
            put_full_consumer(reply, group, name, consumer, count);
        }
    }
}

fn put_full_consumer(
    reply: &mut ReplyWriter<'_>,
    group: &Group,
    name: &[u8],
    consumer: &Consumer,
    count: usize,
) {
    reply.map(4);
    reply.bulk(b"name");
    reply.bulk(name);
    reply.bulk(b"seen-time");
    reply.int(consumer.seen.0);
    put_count(reply, "pel-count", consumer.pending_len());
    reply.bulk(b"pending");
    reply.array(count.min(consumer.pending_len()));
    for id in consumer.pending_from(StreamId::MIN).take(count) {
        let pending = group.pending(id).expect("a consumer's is the group's");
        reply.array(3);
        put_id(reply, id);
        reply.int(pending.delivered.0);
        reply.int(pending.deliveries as i64);
    }
}

/// Three pairs: how far the group is, and how much it has before it.
fn put_progress(reply: &mut ReplyWriter<'_>, stream: &Stream, group: &Group) {
    reply.bulk(b"last-delivered-id");
    put_id(reply, group.last_delivered);
    reply.bulk(b"entries-read");
    put_or_null(reply, group.entries_read.map(|read| read as i64));
    reply.bulk(b"lag");
    put_or_null(reply, lag(stream, group));
}

/// Entries that the group has not read; `None` where deleted ones make that unknowable without counting.
fn lag(stream: &Stream, group: &Group) -> Option<i64> {
    let added = stream.entries_added();
    if added == 0 {
        return Some(0);
    }
    let counted = group
        .entries_read
        .filter(|_| !stream.has_gaps_from(group.last_delivered));
    let read = counted.or_else(|| stream.entries_up_to(group.last_delivered))?;
    Some((added as i64).wrapping_sub(read as i64))
}

fn put_count(reply: &mut ReplyWriter<'_>, name: &str, count: usize) {
    reply.bulk(name.as_bytes());
    reply.int(count as i64);
}

fn put_or_null(reply: &mut ReplyWriter<'_>, int: Option<i64>) {
    match int {
        Some(int) => reply.int(int),
        None => reply.null(),
    }
}
