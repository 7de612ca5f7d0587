//! Commands on single members of one sorted set.

use larder_wire::Refusal;
use larder_wire::float::{DOUBLE_TEXT_BYTES_MAX, format_double};
use larder_wire::resp::{Protocol, ReplyWriter};

use super::element::{put, put_or_null};
use super::element_scan::{self, ScanOptions, Walked};
use super::number_args::is;
use super::sample;
use crate::call::Call;
use crate::collection::{CollectionSettings, Item, Zset, packed_score};
use crate::events::Classes;
use crate::float::parse_double;

type Done = Result<(), Refusal>;

/// What ZADD may do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AddOptions {
    pub(super) only_new: bool,
    pub(super) only_existing: bool,
    only_greater: bool,
    only_less: bool,
    pub(super) count_changed: bool,
    increment: bool,
}

/// What ZADD did to one member.
#[derive(Clone, Copy, Debug, PartialEq)]
enum AddOutcome {
    Added(f64),
    Updated(f64),
    /// It had this score already.
    Same(f64),
    /// The options forbade it.
    Skipped,
}

pub fn zadd(call: &mut Call<'_>) -> Done {
    add(call, AddOptions::default())
}

pub fn zincrby(call: &mut Call<'_>) -> Done {
    let options = AddOptions {
        increment: true,
        ..AddOptions::default()
    };
    add(call, options)
}

impl AddOptions {
    /// Reads options from argument 2 on: where the scores start.
    fn parse(&mut self, call: &Call<'_>) -> usize {
        let mut at = 2;
        for arg in call.request.args_from(2) {
            match arg {
                word if is(word, "NX") => self.only_new = true,
                word if is(word, "XX") => self.only_existing = true,
                word if is(word, "GT") => self.only_greater = true,
                word if is(word, "LT") => self.only_less = true,
                word if is(word, "CH") => self.count_changed = true,
                word if is(word, "INCR") => self.increment = true,
                _ => return at,
            }
            at += 1;
        }
        at
    }

    /// Whatever score a member has, it gets the one that is said.
    fn is_plain(self) -> bool {
        !(self.only_new
            || self.only_existing
            || self.only_greater
            || self.only_less
            || self.increment)
    }

    fn check(self, pairs: usize) -> Done {
        if self.only_new && self.only_existing {
            return Err(Refusal::fixed(
                "ERR XX and NX options at the same time are not compatible",
            ));
        }
        if [self.only_new, self.only_greater, self.only_less]
            .map(u8::from)
            .iter()
            .sum::<u8>()
            > 1
        {
            return Err(Refusal::fixed(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if self.increment && pairs > 1 {
            return Err(Refusal::fixed(
                "ERR INCR option supports a single increment-element pair",
            ));
        }
        Ok(())
    }

    fn apply(
        self,
        zset: &mut Zset,
        member: &[u8],
        score: f64,
        settings: &CollectionSettings,
    ) -> Result<AddOutcome, Refusal> {
        if self.is_plain() {
            return Ok(match zset.put(member, score, settings) {
                None => AddOutcome::Added(score),
                Some(old) if old == score => AddOutcome::Same(score),
                Some(_) => AddOutcome::Updated(score),
            });
        }
        let Some(old) = zset.score(member) else {
            if self.only_existing {
                return Ok(AddOutcome::Skipped);
            }
            zset.set(member, score, settings);
            return Ok(AddOutcome::Added(score));
        };
        if self.only_new {
            return Ok(AddOutcome::Skipped);
        }
        let score = if self.increment { old + score } else { score };
        if score.is_nan() {
            return Err(Refusal::fixed("ERR resulting score is not a number (NaN)"));
        }
        if (self.only_less && score >= old) || (self.only_greater && score <= old) {
            return Ok(AddOutcome::Skipped);
        }
        if score == old {
            return Ok(AddOutcome::Same(score));
        }
        zset.set(member, score, settings);
        Ok(AddOutcome::Updated(score))
    }
}

fn add(call: &mut Call<'_>, mut options: AddOptions) -> Done {
    let first = options.parse(call);
    let pairs = call.request.args_from(first);
    if pairs.len() == 0 || !pairs.len().is_multiple_of(2) {
        return Err(Refusal::SYNTAX);
    }
    options.check(pairs.len() / 2)?;
    if pairs
        .clone()
        .step_by(2)
        .any(|score| parse_double(score).is_none())
    {
        return Err(Refusal::NOT_A_FLOAT);
    }
    let scores = pairs.clone().step_by(2);
    let members = pairs.skip(1).step_by(2);
    // Each was parsed above.
    let scored = scores.filter_map(parse_double).zip(members);
    add_members(call, options, scored)
}

/// Adds members that were understood to the set under argument 1.
pub(super) fn add_members<'a>(
    call: &mut Call<'a>,
    options: AddOptions,
    scored: impl Iterator<Item = (f64, &'a [u8])>,
) -> Done {
    let (key, settings) = (call.key(1), call.keyspace.collections());
    let (mut added, mut updated, mut last) = (0, 0, AddOutcome::Skipped);
    let change = |zset: &mut Zset| {
        for (score, member) in scored {
            last = options.apply(zset, member, score, &settings)?;
            added += i64::from(matches!(last, AddOutcome::Added(_)));
            updated += i64::from(matches!(last, AddOutcome::Updated(_)));
        }
        Done::Ok(())
    };
    call.keyspace.modify_or_create(key, call.now, change)??;
    if added + updated > 0 {
        let event = if options.increment { "zincr" } else { "zadd" };
        call.say(Classes::ZSET, event, key);
        call.effects.verbatim();
    }
    match (options.increment, last) {
        (true, AddOutcome::Added(score) | AddOutcome::Updated(score) | AddOutcome::Same(score)) => {
            call.reply.double(score);
        }
        (true, AddOutcome::Skipped) => call.reply.null(),
        (false, _) if options.count_changed => call.reply.int(added + updated),
        (false, _) => call.reply.int(added),
    }
    Ok(())
}

pub fn zrem(call: &mut Call<'_>) -> Done {
    let (key, members) = (call.key(1), call.request.args_from(2));
    let removed = call.keyspace.modify(key, call.now, |zset: &mut Zset| {
        members
            .filter(|member| zset.remove(member).is_some())
            .count()
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        call.say_taken(Classes::ZSET, "zrem", key);
        call.effects.verbatim();
    }
    call.reply.int(removed as i64);
    Ok(())
}

pub fn zcard(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let zset = call.keyspace.read::<Zset>(key, call.now)?;
    call.reply.int(zset.map_or(0, Zset::len) as i64);
    Ok(())
}

pub fn zscore(call: &mut Call<'_>) -> Done {
    let (key, member) = (call.key(1), call.request.arg(2));
    let zset = call.keyspace.read::<Zset>(key, call.now)?;
    put_score(&mut call.reply, zset.and_then(|zset| zset.score(member)));
    Ok(())
}

pub fn zmscore(call: &mut Call<'_>) -> Done {
    let (key, members) = (call.key(1), call.request.args_from(2));
    let zset = call.keyspace.read::<Zset>(key, call.now)?;
    call.reply.array(members.len());
    for member in members {
        put_score(&mut call.reply, zset.and_then(|zset| zset.score(member)));
    }
    Ok(())
}

fn put_score(reply: &mut ReplyWriter<'_>, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

pub fn zrank(call: &mut Call<'_>) -> Done {
    rank(call, "zrank", |rank, _| rank)
}

pub fn zrevrank(call: &mut Call<'_>) -> Done {
    rank(call, "zrevrank", |rank, len| len - 1 - rank)
}

fn rank(call: &mut Call<'_>, name: &str, counted: fn(usize, usize) -> usize) -> Done {
    let (key, member) = (call.key(1), call.request.arg(2));
    let with_score = match call.request.get(3) {
        None => false,
        Some(_) if call.request.len() > 4 => return Err(Refusal::wrong_arity(name)),
        Some(word) if is(word, "WITHSCORE") => true,
        // As Redis 7.0 refuses it, which knows no option.
        Some(_) => return Err(Refusal::wrong_arity(name)),
    };
    let zset = call.keyspace.read::<Zset>(key, call.now)?;
    let found = zset.and_then(|zset| {
        let (rank, score) = zset.rank(member)?;
        Some((counted(rank, zset.len()), score))
    });
    match found {
        None if with_score => call.reply.null_array(),
        None => call.reply.null(),
        Some((rank, score)) => {
            if with_score {
                call.reply.array(2);
            }
            call.reply.int(rank as i64);
            if with_score {
                call.reply.double(score);
            }
        }
    }
    Ok(())
}

pub fn zrandmember(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let Some(count) = call.request.get(2) else {
        let zset = call.keyspace.read::<Zset>(key, call.now)?;
        let picked = zset.map(|zset| zset.at(call.random.below(zset.len())).0);
        put_or_null(&mut call.reply, picked);
        return Ok(());
    };
    let mut picks = sample::picks(count)?;
    let with_scores = match call.request.get(3) {
        None => false,
        Some(word) if is(word, "WITHSCORES") && call.request.len() == 4 => {
            picks = sample::pair_picks(count)?;
            true
        }
        Some(_) => return Err(Refusal::SYNTAX),
    };
    let zset = call.keyspace.read::<Zset>(key, call.now)?;
    let places = sample::places(picks, zset.map_or(0, Zset::len), call.random);
    let members = places.iter().filter_map(|place| Some(zset?.at(*place)));
    put_members(&mut call.reply, places.len(), members, with_scores);
    Ok(())
}

/// Writes an array of `len` members, with their scores flat (RESP2) or as pairs (RESP3).
pub(super) fn put_members<'a>(
    reply: &mut ReplyWriter<'_>,
    len: usize,
    members: impl Iterator<Item = (Item<'a>, f64)>,
    with_scores: bool,
) {
    let nested = with_scores && reply.protocol() == Protocol::Resp3;
    reply.array(if with_scores && !nested { len * 2 } else { len });
    for (member, score) in members {
        if nested {
            reply.array(2);
        }
        put(reply, member);
        if with_scores {
            reply.double(score);
        }
    }
}

pub fn zscan(call: &mut Call<'_>) -> Done {
    let (key, cursor) = (call.key(1), element_scan::cursor(call.request)?);
    let Some(zset) = call.keyspace.read::<Zset>(key, call.now)? else {
        element_scan::reply_found(&mut call.reply, 0, &[]);
        return Ok(());
    };
    let options = ScanOptions::parse(call.request, Walked::Zset)?;
    let mut found = Vec::new();
    let next = zset.scan(cursor, options.count, |member, score| {
        if options.shows(member) {
            found.push((member, score));
        }
    });
    element_scan::reply_next(&mut call.reply, next);
    call.reply
        .array(found.len() * if options.only_names { 1 } else { 2 });
    let mut room = [0; DOUBLE_TEXT_BYTES_MAX];
    for (member, score) in found {
        put(&mut call.reply, member);
        if options.only_names {
            continue;
        }
        // As text in RESP3 too; of a packed set the text that is stored.
        match zset {
            Zset::Packed(_) => put(&mut call.reply, packed_score(score, &mut room)),
            Zset::Ranked(_) => call.reply.bulk(format_double(&mut room, score)),
        }
    }
    Ok(())
}
