//! XREAD and XREADGROUP of several streams, and what they wait for with BLOCK.

use larder_wire::resp::{OwnedRequest, Protocol, ReplyWriter, Request};
use larder_wire::{Refusal, UnixMillis};

use super::blocking::{Blocking, NEGATIVE_TIMEOUT, Wait};
use super::number_args::{int, is};
use super::stream::put_range;
use super::stream_args::{put_entry, put_id, strict_id};
use super::stream_claim::push_claim;
use super::stream_group::{push_consumer, push_group_state};
use crate::call::Call;
use crate::collection::Stream;
use crate::collection::stream::{Group, ID_TEXT_BYTES_MAX, Pending, StreamId};
use crate::key::Key;
use crate::keyspace::Keyspace;
use crate::value::ValueType;

type Done = Result<(), Refusal>;

/// Most entries that a read is answered with that had to wait and stated no count.
const WAITED_ENTRIES_MAX: usize = 1000;

pub const XREAD: Blocking = Blocking {
    attempt: xread,
    wait: wait_for_entries,
};

pub const XREADGROUP: Blocking = Blocking {
    attempt: xreadgroup,
    wait: wait_as_consumer,
};

/// What one stream is read from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    /// Entries after this id; for a consumer: those of them that it has not acknowledged.
    After(StreamId),
    /// `$`: what is added later.
    Later,
    /// `>`: what no consumer of the group was given.
    Undelivered,
}

struct Options<'a> {
    count: usize,
    /// BLOCK, in milliseconds.
    timeout_ms: Option<u64>,
    no_ack: bool,
    group: Option<(&'a [u8], &'a [u8])>,
    /// Where the keys start, and how many there are.
    keys: (usize, usize),
}

impl<'a> Options<'a> {
    fn parse(request: Request<'a>, with_group: bool) -> Result<Options<'a>, Refusal> {
        let mut options = Options {
            count: usize::MAX,
            timeout_ms: None,
            no_ack: false,
            group: None,
            keys: (0, 0),
        };
        let mut at = 1;
        while let Some(word) = request.get(at) {
            let more = request.len() - 1 - at;
            if is(word, "BLOCK") && more > 0 {
                let timeout = int(request.arg(at + 1))
                    .map_err(|_| Refusal::fixed("ERR timeout is not an integer or out of range"))?;
                options.timeout_ms = Some(u64::try_from(timeout).map_err(|_| NEGATIVE_TIMEOUT)?);
                at += 1;
            } else if is(word, "COUNT") && more > 0 {
                options.count = match int(request.arg(at + 1))? {
                    ..=0 => usize::MAX,
                    count => count as usize,
                };
                at += 1;
            } else if is(word, "STREAMS") && more > 0 {
                if !more.is_multiple_of(2) {
                    return Err(Refusal::fixed(
                        "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
                    ));
                }
                options.keys = (at + 1, more / 2);
                break;
            } else if is(word, "GROUP") && more > 1 {
                if !with_group {
                    return Err(Refusal::fixed(
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                options.group = Some((request.arg(at + 1), request.arg(at + 2)));
                at += 2;
            } else if is(word, "NOACK") {
                if !with_group {
                    return Err(Refusal::fixed(
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                options.no_ack = true;
            } else {
                return Err(Refusal::SYNTAX);
            }
            at += 1;
        }
        if options.keys.1 == 0 {
            return Err(Refusal::SYNTAX);
        }
        if with_group && options.group.is_none() {
            return Err(Refusal::fixed("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(options)
    }

    /// Each stream's argument and where its reading starts, held against what is there.
    fn sources(
        &self,
        request: Request<'_>,
        keyspace: &Keyspace,
        now: UnixMillis,
    ) -> Result<Vec<(usize, From)>, Refusal> {
        let (first, count) = self.keys;
        let mut sources = Vec::with_capacity(count);
        for at in first..first + count {
            let (key, arg) = (Key::from(request.arg(at)), request.arg(at + count));
            let stream = keyspace.peek::<Stream>(key, now)?;
            if let Some((name, _)) = self.group
                && stream.is_none_or(|stream| stream.groups().get(name).is_none())
            {
                return Err(no_group(name, key));
            }
            let from = match (arg, self.group) {
                (b"$", Some(_)) => {
                    return Err(Refusal::fixed(
                        "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
                    ));
                }
                (b"$", None) => From::Later,
                (b"+", Some(_)) => {
                    return Err(Refusal::fixed(
                        "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The + ID would just return an empty result set.",
                    ));
                }
                (b"+", None) => {
                    let last = stream.and_then(Stream::last);
                    let before = last.and_then(|last| last.id.previous());
                    From::After(before.unwrap_or(StreamId::MIN))
                }
                (b">", Some(_)) => From::Undelivered,
                (b">", None) => {
                    return Err(Refusal::fixed(
                        "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
                    ));
                }
                (id, _) => From::After(strict_id(id, 0)?),
            };
            sources.push((at, from));
        }
        Ok(sources)
    }

    /// What is answered when there is nothing to read: with BLOCK that is not said yet.
    fn nothing(&self, reply: &mut ReplyWriter<'_>) -> Done {
        if self.timeout_ms.is_none() {
            reply.null_array();
        }
        Ok(())
    }

    fn waited_count(&self) -> usize {
        match self.count {
            usize::MAX => WAITED_ENTRIES_MAX,
            count => count,
        }
    }
}

fn no_group(name: &[u8], key: Key<'_>) -> Refusal {
    let (group, key) = (
        String::from_utf8_lossy(name),
        String::from_utf8_lossy(key.bytes()),
    );
    Refusal::new(format!(
        "NOGROUP No such key '{key}' or consumer group '{group}' in XREADGROUP with GROUP option"
    ))
}

/// Streams with their entries follow: a map in RESP3.
fn put_streams(reply: &mut ReplyWriter<'_>, count: usize) {
    match reply.protocol() {
        Protocol::Resp2 => reply.array(count),
        Protocol::Resp3 => reply.map(count),
    }
}

fn put_key(reply: &mut ReplyWriter<'_>, key: Key<'_>) {
    match reply.protocol() {
        Protocol::Resp2 => reply.array(2),
        Protocol::Resp3 => {}
    }
    reply.bulk(key.bytes());
}

fn xread(call: &mut Call<'_>) -> Done {
    let options = Options::parse(call.request, false)?;
    let mut found = Vec::new();
    for (at, from) in options.sources(call.request, call.keyspace, call.now)? {
        let stream = call.keyspace.read::<Stream>(call.key(at), call.now)?;
        let start = match from {
            From::After(id) => id.next(),
            From::Later | From::Undelivered => None,
        };
        if let (Some(stream), Some(start)) = (stream, start)
            && stream.last().is_some_and(|last| last.id >= start)
        {
            found.push((at, start));
        }
    }
    if found.is_empty() {
        return options.nothing(&mut call.reply);
    }
    put_streams(&mut call.reply, found.len());
    for (at, start) in found {
        let key = call.key(at);
        let stream = call.keyspace.peek::<Stream>(key, call.now)?;
        put_key(&mut call.reply, key);
        if let Some(stream) = stream {
            let count = options.count;
            put_range(&mut call.reply, stream, start, StreamId::MAX, count, false);
        }
    }
    Ok(())
}

/// What a consumer is given of one stream.
struct Delivery {
    at: usize,
    ids: Vec<StreamId>,
}

fn xreadgroup(call: &mut Call<'_>) -> Done {
    let options = Options::parse(call.request, true)?;
    let sources = options.sources(call.request, call.keyspace, call.now)?;
    let Some((name, consumer)) = options.group else {
        return Err(Refusal::SYNTAX);
    };
    let is_history = |from: &From| matches!(from, From::After(_));
    let answers = sources.iter().any(|(at, from)| {
        let stream = call.keyspace.peek::<Stream>(call.key(*at), call.now);
        is_history(from) || stream.ok().flatten().is_some_and(|it| has_more(it, name))
    });
    if options.timeout_ms.is_some() && !answers {
        return Ok(());
    }
    let mut deliveries = Vec::new();
    for (at, from) in sources {
        let stream = call.keyspace.peek::<Stream>(call.key(at), call.now)?;
        // Who finds nothing new leaves no trace, not even as a consumer.
        if !is_history(&from) && !stream.is_some_and(|stream| has_more(stream, name)) {
            continue;
        }
        let ids = read_one(call, at, from, &options, name, consumer)?;
        if !ids.is_empty() || is_history(&from) {
            deliveries.push(Delivery { at, ids });
        }
    }
    if deliveries.is_empty() {
        return options.nothing(&mut call.reply);
    }
    put_deliveries(call, deliveries)
}

fn put_deliveries(call: &mut Call<'_>, deliveries: Vec<Delivery>) -> Done {
    put_streams(&mut call.reply, deliveries.len());
    for Delivery { at, ids } in deliveries {
        let key = call.key(at);
        let stream = call.keyspace.peek::<Stream>(key, call.now)?;
        put_key(&mut call.reply, key);
        call.reply.array(ids.len());
        for id in ids {
            match stream.and_then(|stream| stream.entry(id)) {
                Some(entry) => put_entry(&mut call.reply, entry),
                // Deleted since it was delivered.
                None => {
                    call.reply.array(2);
                    put_id(&mut call.reply, id);
                    call.reply.null_array();
                }
            }
        }
    }
    Ok(())
}

fn wait_for_entries(
    request: Request<'_>,
    keyspace: &Keyspace,
    now: UnixMillis,
) -> Result<Wait, Refusal> {
    let options = Options::parse(request, false)?;
    let sources = options.sources(request, keyspace, now)?;
    let count = options.waited_count().to_string();
    let keys = sources.iter().map(|(at, _)| request.arg(*at));
    let wait = Wait::new(
        options.timeout_ms.unwrap_or(0),
        ValueType::Stream,
        serve_reader,
        keys,
        |index, key| {
            let after = match sources[index].1 {
                From::After(id) => id,
                From::Later | From::Undelivered => {
                    let stream = keyspace.peek::<Stream>(key, now).ok().flatten();
                    stream.map_or(StreamId::MIN, Stream::last_id)
                }
            };
            let mut room = [0; ID_TEXT_BYTES_MAX];
            OwnedRequest::from_args([
                b"XREAD",
                &b"COUNT"[..],
                count.as_bytes(),
                b"STREAMS",
                key,
                after.text(&mut room),
            ])
        },
    );
    Ok(wait)
}

/// `XREAD COUNT count STREAMS key id` for one that waited: the stream's last id decides, even if its entry is gone again.
fn serve_reader(call: &mut Call<'_>) -> Done {
    let (key, after) = (call.key(4), strict_id(call.request.arg(5), 0)?);
    let count = int(call.request.arg(2))? as usize;
    let Some(stream) = call.keyspace.peek::<Stream>(key, call.now)? else {
        return Ok(());
    };
    let Some(start) = after.next().filter(|start| stream.last_id() >= *start) else {
        return Ok(());
    };
    put_streams(&mut call.reply, 1);
    put_key(&mut call.reply, key);
    put_range(&mut call.reply, stream, start, StreamId::MAX, count, false);
    Ok(())
}

fn wait_as_consumer(
    request: Request<'_>,
    keyspace: &Keyspace,
    now: UnixMillis,
) -> Result<Wait, Refusal> {
    let options = Options::parse(request, true)?;
    let sources = options.sources(request, keyspace, now)?;
    let (name, consumer) = options.group.ok_or(Refusal::SYNTAX)?;
    let count = options.waited_count().to_string();
    let keys = sources.iter().map(|(at, _)| request.arg(*at));
    let mut wait = Wait::new(
        options.timeout_ms.unwrap_or(0),
        ValueType::Stream,
        serve_consumer,
        keys,
        |_, key| {
            let mut args = vec![
                &b"XREADGROUP"[..],
                b"GROUP",
                name,
                consumer,
                b"COUNT",
                count.as_bytes(),
            ];
            if options.no_ack {
                args.push(b"NOACK");
            }
            args.extend([&b"STREAMS"[..], key, b">"]);
            OwnedRequest::from_args(args)
        },
    );
    wait.of_group = true;
    Ok(wait)
}

/// `XREADGROUP GROUP group consumer COUNT count [NOACK] STREAMS key >` for one that waited.
fn serve_consumer(call: &mut Call<'_>) -> Done {
    let options = Options::parse(call.request, true)?;
    let (name, consumer) = options.group.ok_or(Refusal::SYNTAX)?;
    let at = options.keys.0;
    let Some(stream) = call.keyspace.peek::<Stream>(call.key(at), call.now)? else {
        return Ok(());
    };
    let Some(group) = stream.groups().get(name) else {
        return Err(Refusal::fixed(
            "NOGROUP the consumer group this client was blocked on no longer exists",
        ));
    };
    if stream.last_id() <= group.last_delivered {
        return Ok(());
    }
    let ids = read_one(call, at, From::Undelivered, &options, name, consumer)?;
    put_deliveries(call, vec![Delivery { at, ids }])
}

fn has_more(stream: &Stream, group: &[u8]) -> bool {
    let last = stream.last().map(|entry| entry.id);
    let group = stream.groups().get(group);
    group.is_some_and(|group| last.is_some_and(|id| id > group.last_delivered))
}

/// Reads one stream for a consumer, and leaves the effects: the ids of the entries to show.
fn read_one(
    call: &mut Call<'_>,
    at: usize,
    from: From,
    options: &Options<'_>,
    name: &[u8],
    consumer: &[u8],
) -> Result<Vec<StreamId>, Refusal> {
    let (key, now) = (call.key(at), call.now);
    let read = call.keyspace.modify(key, now, |stream: &mut Stream| {
        let ids = match from {
            From::After(id) => history(stream, name, consumer, id, options.count),
            From::Undelivered => undelivered(stream, name, options.count),
            From::Later => Vec::new(),
        };
        // What was deleted is shown, and not delivered again.
        let there: Vec<_> = ids
            .iter()
            .copied()
            .filter(|id| stream.contains(*id))
            .collect();
        let entries_read = match from {
            From::Undelivered => entries_read_after(stream, name, &ids),
            From::After(_) | From::Later => None,
        };
        stream
            .groups_mut()
            .edit(name, |group| {
                let created = group.create_consumer(consumer, now);
                group.see_consumer(consumer, now);
                deliver(group, consumer, &there, from, options.no_ack, now);
                if let (Some(read), Some(last)) = (entries_read, ids.last()) {
                    group.entries_read = read;
                    group.last_delivered = *last;
                }
                (created, group.clone())
            })
            .map(|(created, group)| (ids, there, created, group))
    })?;
    let Some((ids, there, created, group)) = read.flatten() else {
        return Err(no_group(name, key));
    };
    if created {
        push_consumer(call, key.bytes(), name, consumer);
    }
    for pending in there.iter().filter_map(|id| group.pending(*id)) {
        push_claim(call, key.bytes(), name, pending);
    }
    if from == From::Undelivered && !ids.is_empty() {
        push_group_state(call, key.bytes(), name, &group);
    }
    Ok(ids)
}

/// What a consumer was given after `id` and has not acknowledged.
fn history(
    stream: &Stream,
    group: &[u8],
    consumer: &[u8],
    id: StreamId,
    count: usize,
) -> Vec<StreamId> {
    let group = stream.groups().get(group);
    let consumer = group.and_then(|group| group.consumers().get(consumer));
    let (Some(consumer), Some(start)) = (consumer, id.next()) else {
        return Vec::new();
    };
    consumer.pending_from(start).take(count).collect()
}

fn undelivered(stream: &Stream, group: &[u8], count: usize) -> Vec<StreamId> {
    let group = stream.groups().get(group);
    let Some(start) = group.and_then(|group| group.last_delivered.next()) else {
        return Vec::new();
    };
    let entries = stream.iter_from(stream.count_below(start));
    entries.take(count).map(|entry| entry.id).collect()
}

/// What the group's count of read entries is once it has read these.
fn entries_read_after(stream: &Stream, group: &[u8], ids: &[StreamId]) -> Option<Option<u64>> {
    let mut read = stream.groups().get(group)?.entries_read;
    for id in ids {
        read = match read {
            Some(read) if !stream.has_gaps_from(*id) => Some(read.wrapping_add(1)),
            counted if stream.entries_added() == 0 => counted,
            Some(_) | None => stream.entries_up_to(*id),
        };
    }
    Some(read)
}

fn deliver(
    group: &mut Group,
    consumer: &[u8],
    ids: &[StreamId],
    from: From,
    no_ack: bool,
    now: UnixMillis,
) {
    for id in ids {
        let again = match from {
            From::After(_) => group.pending(*id).map_or(0, |it| it.deliveries),
            From::Undelivered if no_ack => continue,
            From::Undelivered | From::Later => 0,
        };
        group.deliver(Pending {
            id: *id,
            consumer,
            delivered: now,
            deliveries: again + 1,
        });
    }
}
