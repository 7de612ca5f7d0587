//! Commands that add entries to a stream and trim it.

use larder_wire::{Refusal, UnixMillis};

use super::number_args::{int, is};
use super::stream_args::{put_id, strict_id};
use crate::call::Call;
use crate::collection::Stream;
use crate::collection::stream::{ID_TEXT_BYTES_MAX, NodeMax, StreamId, Trim, WholeNodes};
use crate::events::Classes;

type Done = Result<(), Refusal>;

/// Nodes that an approximate trim takes without LIMIT; then entries, when nodes have no limit, and at most.
const TRIM_NODES_MAX: u64 = 100;
const TRIM_ENTRIES: u64 = 10_000;
const TRIM_ENTRIES_MAX: u64 = 1_000_000;

const NO_ID_LEFT: Refusal =
    Refusal::fixed("ERR The stream has exhausted the last possible ID, unable to add more items");
const ID_TOO_SMALL: Refusal = Refusal::fixed(
    "ERR The ID specified in XADD is equal or smaller than the target stream top item",
);

/// The id that XADD asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum NewId {
    /// `*`
    Next,
    /// `<ms>-*`
    NextOf(u64),
    Given(StreamId),
}

#[derive(Debug, Default)]
struct Options {
    trim: Option<Trim>,
    approximate: bool,
    limit: Option<u64>,
    only_existing: bool,
}

impl Options {
    /// Reads options from argument 2 on: where they end. `xadd` says that an id ends them.
    fn parse(&mut self, call: &Call<'_>, xadd: bool) -> Result<usize, Refusal> {
        let request = call.request;
        let mut at = 2;
        while let Some(arg) = request.get(at) {
            let more = request.len() - 1 - at;
            if xadd && arg == b"*" {
                break;
            } else if (is(arg, "MAXLEN") || is(arg, "MINID")) && more > 0 {
                if self.trim.is_some() {
                    return Err(Refusal::fixed(
                        "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                    ));
                }
                let sign = request.arg(at + 1);
                self.approximate = more > 1 && sign == b"~";
                at += usize::from(more > 1 && matches!(sign, b"~" | b"="));
                self.trim = Some(threshold(arg, request.arg(at + 1))?);
                at += 1;
            } else if is(arg, "LIMIT") && more > 0 {
                let limit = u64::try_from(int(request.arg(at + 1))?)
                    .map_err(|_| Refusal::fixed("ERR The LIMIT argument must be >= 0."))?;
                self.limit = Some(limit);
                at += 1;
            } else if xadd && is(arg, "NOMKSTREAM") {
                self.only_existing = true;
            } else if xadd {
                break;
            } else {
                return Err(Refusal::SYNTAX);
            }
            at += 1;
        }
        Ok(at)
    }

    fn check(&self, xadd: bool) -> Done {
        let limited = self.limit.is_some();
        if self.limit.is_some_and(|limit| limit > 0) && self.trim.is_none() {
            return Err(Refusal::fixed(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        if !xadd && self.trim.is_none() {
            return Err(Refusal::fixed(
                "ERR syntax error, XTRIM must be called with a trimming strategy",
            ));
        }
        if limited && !self.approximate {
            return Err(Refusal::fixed(
                "ERR syntax error, LIMIT cannot be used without the special ~ option",
            ));
        }
        Ok(())
    }

    /// Trims as the options say: how many entries went.
    fn apply(&self, stream: &mut Stream, node_max: NodeMax) -> usize {
        let usual = || match TRIM_NODES_MAX.saturating_mul(node_max.entries as u64) {
            0 => TRIM_ENTRIES,
            entries => entries.min(TRIM_ENTRIES_MAX),
        };
        let nodes = self.approximate.then(|| WholeNodes {
            node_max,
            limit: self.limit.unwrap_or_else(usual),
        });
        self.trim.map_or(0, |trim| stream.trim(trim, nodes))
    }
}

fn threshold(word: &[u8], arg: &[u8]) -> Result<Trim, Refusal> {
    if is(word, "MINID") {
        return strict_id(arg, 0).map(Trim::MinId);
    }
    u64::try_from(int(arg)?)
        .map(Trim::MaxLen)
        .map_err(|_| Refusal::fixed("ERR The MAXLEN argument must be >= 0."))
}

impl NewId {
    fn parse(arg: &[u8]) -> Result<NewId, Refusal> {
        match arg {
            b"*" => Ok(NewId::Next),
            [ms @ .., b'-', b'*'] if !ms.contains(&b'-') => Ok(NewId::NextOf(strict_id(ms, 0)?.ms)),
            id => strict_id(id, 0).map(NewId::Given),
        }
    }

    /// The id that an entry gets in a stream with this last id.
    fn after(self, last: StreamId, now: UnixMillis) -> Result<StreamId, Refusal> {
        let next = last.next().ok_or(NO_ID_LEFT)?;
        let id = match self {
            NewId::Next => {
                let ms = now.0.max(0) as u64;
                let fresh = StreamId { ms, seq: 0 };
                if ms > last.ms { fresh } else { next }
            }
            NewId::NextOf(ms) if ms == last.ms => {
                if next.ms != ms {
                    return Err(ID_TOO_SMALL);
                }
                next
            }
            NewId::NextOf(ms) => StreamId { ms, seq: 0 },
            NewId::Given(id) => id,
        };
        if id > last { Ok(id) } else { Err(ID_TOO_SMALL) }
    }
}

pub fn xadd(call: &mut Call<'_>) -> Done {
    let mut options = Options::default();
    let at = options.parse(call, true)?;
    let id = call.request.get(at).map(NewId::parse).transpose()?;
    options.check(true)?;
    let request = call.request;
    let fields = request.args_from((at + 1).min(request.len()));
    let Some(id) = id.filter(|_| fields.len() >= 2 && fields.len().is_multiple_of(2)) else {
        return Err(Refusal::wrong_arity("xadd"));
    };
    if id == NewId::Given(StreamId::MIN) {
        return Err(Refusal::fixed(
            "ERR The ID specified in XADD must be greater than 0-0",
        ));
    }
    let (key, now) = (call.key(1), call.now);
    let node_max = call.keyspace.collections().stream_node_max;
    let change = |stream: &mut Stream| {
        let id = id.after(stream.last_id(), now)?;
        stream.append(id, fields.clone());
        let trimmed = options.apply(stream, node_max);
        Ok::<_, Refusal>((id, trimmed, stream.len()))
    };
    let added = if options.only_existing {
        call.keyspace.modify(key, now, change)?.transpose()?
    } else {
        Some(call.keyspace.modify_or_create(key, now, change)??)
    };
    let Some((id, trimmed, len)) = added else {
        call.reply.null();
        return Ok(());
    };
    call.say(Classes::STREAM, "xadd", key);
    if trimmed > 0 {
        call.say(Classes::STREAM, "xtrim", key);
    }
    let (mut room, len) = ([0; ID_TEXT_BYTES_MAX], len.to_string());
    let mut args: Vec<&[u8]> = vec![b"XADD", key.bytes()];
    if trimmed > 0 {
        args.extend([&b"MAXLEN"[..], b"=", len.as_bytes()]);
    }
    args.push(id.text(&mut room));
    for field in fields {
        args.push(field);
    }
    call.effects.push(args);
    put_id(&mut call.reply, id);
    Ok(())
}

pub fn xtrim(call: &mut Call<'_>) -> Done {
    let mut options = Options::default();
    options.parse(call, false)?;
    options.check(false)?;
    let key = call.key(1);
    let node_max = call.keyspace.collections().stream_node_max;
    let trimmed = call.keyspace.modify(key, call.now, |stream: &mut Stream| {
        (options.apply(stream, node_max), stream.len())
    })?;
    let (trimmed, len) = trimmed.unwrap_or((0, 0));
    if trimmed > 0 {
        call.say(Classes::STREAM, "xtrim", key);
        let len = len.to_string();
        let args = [&b"XTRIM"[..], key.bytes(), b"MAXLEN", b"=", len.as_bytes()];
        call.effects.push(args);
    }
    call.reply.int(trimmed as i64);
    Ok(())
}
