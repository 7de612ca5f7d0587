//! Ranges of a sorted set by rank, score and member.

use larder_wire::resp::Request;
use larder_wire::{Refusal, UnixMillis};

use super::number_args::{int, is, span};
use super::zset::put_members;
use crate::call::Call;
use crate::collection::either::Either;
use crate::collection::{Item, Zset};
use crate::events::Classes;
use crate::float::parse_bound;

type Done = Result<(), Refusal>;

/// An end of a range of scores.
#[derive(Clone, Copy, Debug)]
struct ScoreBound {
    score: f64,
    excluded: bool,
}

/// An end of a range of members.
#[derive(Clone, Copy, Debug)]
enum LexBound<'a> {
    BeforeAll,
    AfterAll,
    Included(&'a [u8]),
    Excluded(&'a [u8]),
}

/// What a range is over, its lower end first.
#[derive(Clone, Copy, Debug)]
enum Range<'a> {
    Rank(i64, i64),
    Score(ScoreBound, ScoreBound),
    Lex(LexBound<'a>, LexBound<'a>),
}

impl ScoreBound {
    fn parse(arg: &[u8]) -> Result<ScoreBound, Refusal> {
        let (excluded, text) = match arg {
            [b'(', rest @ ..] => (true, rest),
            all => (false, all),
        };
        match parse_bound(text) {
            Some(score) => Ok(ScoreBound { score, excluded }),
            None => Err(Refusal::fixed("ERR min or max is not a float")),
        }
    }
}

impl<'a> LexBound<'a> {
    fn parse(arg: &'a [u8]) -> Result<LexBound<'a>, Refusal> {
        match arg {
            b"-" => Ok(LexBound::BeforeAll),
            b"+" => Ok(LexBound::AfterAll),
            [b'[', rest @ ..] => Ok(LexBound::Included(rest)),
            [b'(', rest @ ..] => Ok(LexBound::Excluded(rest)),
            _ => Err(Refusal::fixed("ERR min or max not valid string range item")),
        }
    }

    /// As a lower end: `member` is not below it.
    fn is_before(self, member: &[u8]) -> bool {
        match self {
            LexBound::BeforeAll => true,
            LexBound::AfterAll => false,
            LexBound::Included(text) => text <= member,
            LexBound::Excluded(text) => text < member,
        }
    }

    /// As an upper end: `member` is not above it.
    fn is_after(self, member: &[u8]) -> bool {
        match self {
            LexBound::BeforeAll => false,
            LexBound::AfterAll => true,
            LexBound::Included(text) => member <= text,
            LexBound::Excluded(text) => member < text,
        }
    }
}

impl<'a> Range<'a> {
    fn by_rank(start: &[u8], stop: &[u8]) -> Result<Range<'a>, Refusal> {
        Ok(Range::Rank(int(start)?, int(stop)?))
    }

    fn by_score(min: &[u8], max: &[u8]) -> Result<Range<'a>, Refusal> {
        Ok(Range::Score(
            ScoreBound::parse(min)?,
            ScoreBound::parse(max)?,
        ))
    }

    fn by_lex(min: &'a [u8], max: &'a [u8]) -> Result<Range<'a>, Refusal> {
        Ok(Range::Lex(LexBound::parse(min)?, LexBound::parse(max)?))
    }

    /// The ranks of the members within: the first, and how many. `backwards` matters only for ranges of members among
    /// different scores, where what is within is a question of where the walk starts.
    fn ranks(&self, zset: &Zset, backwards: bool) -> (usize, usize) {
        match *self {
            Range::Rank(start, stop) => span(start, stop, zset.len()),
            Range::Score(min, max) => {
                let below = |score| score < min.score || (min.excluded && score == min.score);
                let within = |score| score < max.score || (!max.excluded && score == max.score);
                let (first, end) = (zset.count_scores(below), zset.count_scores(within));
                (first, end.saturating_sub(first))
            }
            Range::Lex(min, max) if has_one_score(zset) => {
                let first = zset.count_members(|member| !min.is_before(member));
                let end = zset.count_members(|member| max.is_after(member));
                (first, end.saturating_sub(first))
            }
            Range::Lex(min, max) => walk_lex(zset, min, max, backwards),
        }
    }
}

fn has_one_score(zset: &Zset) -> bool {
    zset.len() < 2 || zset.at(0).1 == zset.at(zset.len() - 1).1
}

/// [`Range::ranks`] of members among different scores, which is for Redis to leave open and for us to answer alike on
/// every node: walked from the first that is not below the range while they are within, or from the last that is not above
/// it, as Redis walks its packed sets.
fn walk_lex(zset: &Zset, min: LexBound<'_>, max: LexBound<'_>, backwards: bool) -> (usize, usize) {
    let high = |item: Item<'_>| min.is_before(item.text(&mut [0; 20]));
    let low = |item: Item<'_>| max.is_after(item.text(&mut [0; 20]));
    let last = zset.len() - 1;
    if !high(zset.at(last).0) || !low(zset.at(0).0) {
        return (0, 0);
    }
    if !backwards {
        let first = zset.iter().take_while(|(member, _)| !high(*member)).count();
        let within = zset.iter_from(first).take_while(|(member, _)| low(*member));
        return (first, within.count());
    }
    let above = zset
        .iter_back_from(last)
        .take_while(|(member, _)| !low(*member))
        .count();
    let end = last + 1 - above;
    let within = zset
        .iter_back_from(end - 1)
        .take_while(|(member, _)| high(*member))
        .count();
    (end - within, within)
}

/// The order and kind that a command's name fixes; the rest may be chosen by options.
#[derive(Clone, Copy, Debug, Default)]
struct Fixed {
    backwards: Option<bool>,
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rank,
    Score,
    Lex,
}

/// One range command, understood.
struct Query<'a> {
    range: Range<'a>,
    backwards: bool,
    with_scores: bool,
    /// Members to pass over, members to show; none are shown with a negative offset, all with a negative limit.
    offset: i64,
    limit: i64,
}

impl<'a> Query<'a> {
    /// The range's ends are arguments `at` and `at + 1`; options follow.
    fn parse(
        request: Request<'a>,
        at: usize,
        fixed: Fixed,
        stores: bool,
    ) -> Result<Query<'a>, Refusal> {
        let (mut backwards, mut kind) = (fixed.backwards, fixed.kind);
        let (mut with_scores, mut offset, mut limit) = (false, 0, -1);
        let mut options = request.args_from(at + 2);
        while let Some(option) = options.next() {
            if !stores && is(option, "WITHSCORES") {
                with_scores = true;
            } else if is(option, "LIMIT") && options.len() >= 2 {
                offset = options.next().map_or(Err(Refusal::SYNTAX), int)?;
                limit = options.next().map_or(Err(Refusal::SYNTAX), int)?;
            } else if backwards.is_none() && is(option, "REV") {
                backwards = Some(true);
            } else if kind.is_none() && is(option, "BYLEX") {
                kind = Some(Kind::Lex);
            } else if kind.is_none() && is(option, "BYSCORE") {
                kind = Some(Kind::Score);
            } else {
                return Err(Refusal::SYNTAX);
            }
        }
        let (backwards, kind) = (backwards.unwrap_or(false), kind.unwrap_or(Kind::Rank));
        if limit != -1 && kind == Kind::Rank {
            return Err(Refusal::fixed(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && kind == Kind::Lex {
            return Err(Refusal::fixed(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let ends = (request.arg(at), request.arg(at + 1));
        let (min, max) = if backwards { (ends.1, ends.0) } else { ends };
        let range = match kind {
            Kind::Rank => Range::by_rank(ends.0, ends.1)?,
            Kind::Score => Range::by_score(min, max)?,
            Kind::Lex => Range::by_lex(min, max)?,
        };
        Ok(Query {
            range,
            backwards,
            with_scores,
            offset,
            limit,
        })
    }

    /// Where the members shown start, in the order shown, and how many they are.
    fn shown(&self, zset: &Zset) -> (usize, usize) {
        let (mut first, mut count) = self.range.ranks(zset, self.backwards);
        if self.backwards {
            // Ranks count from the end; scores and members were found from the start.
            first = match self.range {
                Range::Rank(..) => zset.len().saturating_sub(1 + first),
                Range::Score(..) | Range::Lex(..) => (first + count).saturating_sub(1),
            };
        }
        match usize::try_from(self.offset) {
            Err(_) => count = 0,
            Ok(offset) if offset >= count => count = 0,
            Ok(offset) => {
                count -= offset;
                first = if self.backwards {
                    first - offset
                } else {
                    first + offset
                };
            }
        }
        (
            first,
            usize::try_from(self.limit).unwrap_or(count).min(count),
        )
    }

    /// Hands the members shown to `take`, in order.
    fn members<'z>(
        &self,
        zset: &'z Zset,
    ) -> (usize, impl Iterator<Item = (Item<'z>, f64)> + use<'z>) {
        let (first, count) = self.shown(zset);
        if self.backwards {
            (count, Either::One(zset.iter_back_from(first).take(count)))
        } else {
            (count, Either::Other(zset.iter_from(first).take(count)))
        }
    }
}

pub fn zrange(call: &mut Call<'_>) -> Done {
    answer(call, Fixed::default())
}

pub fn zrevrange(call: &mut Call<'_>) -> Done {
    fixed(call, true, Kind::Rank)
}

pub fn zrangebyscore(call: &mut Call<'_>) -> Done {
    fixed(call, false, Kind::Score)
}

pub fn zrevrangebyscore(call: &mut Call<'_>) -> Done {
    fixed(call, true, Kind::Score)
}

pub fn zrangebylex(call: &mut Call<'_>) -> Done {
    fixed(call, false, Kind::Lex)
}

pub fn zrevrangebylex(call: &mut Call<'_>) -> Done {
    fixed(call, true, Kind::Lex)
}

fn fixed(call: &mut Call<'_>, backwards: bool, kind: Kind) -> Done {
    let fixed = Fixed {
        backwards: Some(backwards),
        kind: Some(kind),
    };
    answer(call, fixed)
}

fn answer(call: &mut Call<'_>, fixed: Fixed) -> Done {
    let key = call.key(1);
    let query = Query::parse(call.request, 2, fixed, false)?;
    let Some(zset) = call.keyspace.read::<Zset>(key, call.now)? else {
        call.reply.array(0);
        return Ok(());
    };
    let (count, members) = query.members(zset);
    put_members(&mut call.reply, count, members, query.with_scores);
    Ok(())
}

pub fn zrangestore(call: &mut Call<'_>) -> Done {
    let (target, source) = (call.key(1), call.key(2));
    let settings = call.keyspace.collections();
    let query = Query::parse(call.request, 3, Fixed::default(), true)?;
    let mut result = Zset::new();
    if let Some(zset) = call.keyspace.read::<Zset>(source, call.now)? {
        for (member, score) in query.members(zset).1 {
            result.set(member.text(&mut [0; 20]), score, &settings);
        }
    }
    replace(call, target, result, "zrangestore")
}

/// Puts `result` under `target`, or nothing when it is empty, and answers its length. `event` is what that is called.
pub(super) fn replace(
    call: &mut Call<'_>,
    target: crate::Key<'_>,
    result: Zset,
    event: &'static str,
) -> Done {
    let len = result.len();
    let changed = if len == 0 {
        call.keyspace.remove(target, call.now)
    } else {
        call.keyspace.insert_collection(target, result, call.now);
        true
    };
    if changed && len == 0 {
        call.say(Classes::GENERIC, "del", target);
    } else if changed {
        call.say(Classes::ZSET, event, target);
    }
    if changed {
        call.effects.verbatim();
    }
    call.reply.int(len as i64);
    Ok(())
}

pub fn zcount(call: &mut Call<'_>) -> Done {
    let range = Range::by_score(call.request.arg(2), call.request.arg(3))?;
    count(call, range)
}

pub fn zlexcount(call: &mut Call<'_>) -> Done {
    let range = Range::by_lex(call.request.arg(2), call.request.arg(3))?;
    count(call, range)
}

fn count(call: &mut Call<'_>, range: Range<'_>) -> Done {
    let key = call.key(1);
    let zset = call.keyspace.read::<Zset>(key, call.now)?;
    call.reply
        .int(zset.map_or(0, |zset| range.ranks(zset, false).1) as i64);
    Ok(())
}

pub fn zremrangebyrank(call: &mut Call<'_>) -> Done {
    let range = Range::by_rank(call.request.arg(2), call.request.arg(3))?;
    remove(call, range, "zremrangebyrank")
}

pub fn zremrangebyscore(call: &mut Call<'_>) -> Done {
    let range = Range::by_score(call.request.arg(2), call.request.arg(3))?;
    remove(call, range, "zremrangebyscore")
}

pub fn zremrangebylex(call: &mut Call<'_>) -> Done {
    let range = Range::by_lex(call.request.arg(2), call.request.arg(3))?;
    remove(call, range, "zremrangebylex")
}

fn remove(call: &mut Call<'_>, range: Range<'_>, event: &'static str) -> Done {
    let (key, now): (_, UnixMillis) = (call.key(1), call.now);
    let removed = call.keyspace.modify(key, now, |zset: &mut Zset| {
        let (first, count) = range.ranks(zset, false);
        zset.remove_ranks(first, count);
        count
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        call.say_taken(Classes::ZSET, event, key);
        call.effects.verbatim();
    }
    call.reply.int(removed as i64);
    Ok(())
}
