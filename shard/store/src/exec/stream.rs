//! Commands on the entries of one stream, and XREAD of several.

use larder_wire::Refusal;
use larder_wire::resp::ReplyWriter;

use super::number_args::{int, is};
use super::stream_args::{put_entry, range_end, range_start, strict_id};
use crate::call::Call;
use crate::collection::Stream;
use crate::collection::stream::StreamId;
use crate::events::Classes;

type Done = Result<(), Refusal>;

pub fn xlen(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let stream = call.keyspace.read::<Stream>(key, call.now)?;
    call.reply.int(stream.map_or(0, Stream::len) as i64);
    Ok(())
}

pub fn xrange(call: &mut Call<'_>) -> Done {
    range(call, false)
}

pub fn xrevrange(call: &mut Call<'_>) -> Done {
    range(call, true)
}

fn range(call: &mut Call<'_>, backwards: bool) -> Done {
    let key = call.key(1);
    let (start, end) = if backwards { (3, 2) } else { (2, 3) };
    let start = range_start(call.request.arg(start))?;
    let end = range_end(call.request.arg(end))?;
    let mut count = usize::MAX;
    let mut at = 4;
    while let Some(word) = call.request.get(at) {
        match call.request.get(at + 1) {
            Some(arg) if is(word, "COUNT") => count = int(arg)?.max(0) as usize,
            Some(_) | None => return Err(Refusal::SYNTAX),
        }
        at += 2;
    }
    let Some(stream) = call.keyspace.read::<Stream>(key, call.now)? else {
        call.reply.array(0);
        return Ok(());
    };
    if count == 0 {
        call.reply.null_array();
        return Ok(());
    }
    put_range(&mut call.reply, stream, start, end, count, backwards);
    Ok(())
}

/// Writes up to `count` of the entries from `start` to `end`.
pub(super) fn put_range(
    reply: &mut ReplyWriter<'_>,
    stream: &Stream,
    start: StreamId,
    end: StreamId,
    count: usize,
    backwards: bool,
) {
    let (first, len) = stream.span(start, end);
    let count = len.min(count);
    reply.array(count);
    if count == 0 {
        return;
    }
    if backwards {
        let entries = stream.iter_back_from(first + len - 1).take(count);
        entries.for_each(|entry| put_entry(reply, entry));
    } else {
        let entries = stream.iter_from(first).take(count);
        entries.for_each(|entry| put_entry(reply, entry));
    }
}

pub fn xdel(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    // What is wrong with an id is said only where there is a stream.
    if call.keyspace.peek::<Stream>(key, call.now)?.is_none() {
        call.reply.int(0);
        return Ok(());
    }
    let ids = call.request.args_from(2).map(|arg| strict_id(arg, 0));
    let ids: Vec<_> = ids.collect::<Result<_, _>>()?;
    let deleted = call.keyspace.modify(key, call.now, |stream: &mut Stream| {
        ids.into_iter().filter(|id| stream.delete(*id)).count()
    })?;
    let deleted = deleted.unwrap_or(0);
    if deleted > 0 {
        call.say(Classes::STREAM, "xdel", key);
        call.effects.verbatim();
    }
    call.reply.int(deleted as i64);
    Ok(())
}

pub fn xsetid(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let id = strict_id(call.request.arg(2), 0)?;
    let (mut added, mut deleted) = (None, StreamId::MIN);
    let mut at = 3;
    while let Some(word) = call.request.get(at) {
        match call.request.get(at + 1) {
            Some(arg) if is(word, "ENTRIESADDED") => {
                let count = u64::try_from(int(arg)?)
                    .map_err(|_| Refusal::fixed("ERR entries_added must be positive"))?;
                added = Some(count);
            }
            Some(arg) if is(word, "MAXDELETEDID") => {
                deleted = strict_id(arg, 0)?;
                if id < deleted {
                    return Err(Refusal::fixed(
                        "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                    ));
                }
            }
            Some(_) | None => return Err(Refusal::SYNTAX),
        }
        at += 2;
    }
    let set = call.keyspace.modify(key, call.now, |stream: &mut Stream| {
        if stream.last().is_some_and(|last| id < last.id) {
            return Err(Refusal::fixed(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if added.is_some_and(|added| added < stream.len() as u64) {
            return Err(Refusal::fixed(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
        stream.set_last_id(id);
        let deleted = Some(deleted).filter(|deleted| *deleted != StreamId::MIN);
        let added = added.unwrap_or(stream.entries_added());
        stream.set_counters(added, deleted.unwrap_or(stream.max_deleted_id()));
        Ok(())
    })?;
    set.ok_or(Refusal::NO_SUCH_KEY)??;
    call.say(Classes::STREAM, "xsetid", key);
    call.effects.verbatim();
    call.reply.ok();
    Ok(())
}
