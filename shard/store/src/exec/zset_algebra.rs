//! Unions, intersections and differences of sorted sets, and of plain sets whose members score 1.

use std::collections::BTreeMap;

use larder_wire::{Refusal, UnixMillis};

use super::number_args::{at_least, int, is};
use super::zset::put_members;
use super::zset_range::replace;
use crate::call::Call;
use crate::collection::either::Either;
use crate::collection::score::Score;
use crate::collection::sorted::Key as _;
use crate::collection::{Item, Set, Zset};
use crate::entry::Tray;
use crate::float::parse_double;
use crate::keyspace::Keyspace;
use crate::value::{Collection, ValueRef};

type Done = Result<(), Refusal>;

/// How the scores of one member become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// What becomes of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    Stored,
    Counted,
}

/// The options that follow the keys.
struct Options {
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    limit: usize,
}

/// A member of the result.
type Scored = (Vec<u8>, f64);

/// One input.
#[derive(Clone, Copy)]
enum Source<'a> {
    Zset(&'a Zset),
    Set(&'a Set),
}

pub fn zunion(call: &mut Call<'_>) -> Done {
    combine(call, "zunion", Operation::Union, Outcome::Answered)
}

pub fn zinter(call: &mut Call<'_>) -> Done {
    combine(call, "zinter", Operation::Inter, Outcome::Answered)
}

pub fn zdiff(call: &mut Call<'_>) -> Done {
    combine(call, "zdiff", Operation::Diff, Outcome::Answered)
}

pub fn zunionstore(call: &mut Call<'_>) -> Done {
    combine(call, "zunionstore", Operation::Union, Outcome::Stored)
}

pub fn zinterstore(call: &mut Call<'_>) -> Done {
    combine(call, "zinterstore", Operation::Inter, Outcome::Stored)
}

pub fn zdiffstore(call: &mut Call<'_>) -> Done {
    combine(call, "zdiffstore", Operation::Diff, Outcome::Stored)
}

pub fn zintercard(call: &mut Call<'_>) -> Done {
    combine(call, "zintercard", Operation::Inter, Outcome::Counted)
}

fn combine(call: &mut Call<'_>, name: &str, operation: Operation, outcome: Outcome) -> Done {
    let (request, settings) = (call.request, call.keyspace.collections());
    let count_at = if outcome == Outcome::Stored { 2 } else { 1 };
    let keys = match int(request.arg(count_at))? {
        count @ 1.. => count as usize,
        _ => {
            return Err(Refusal::new(format!(
                "ERR at least 1 input key is needed for '{name}' command"
            )));
        }
    };
    if keys > request.len() - count_at - 1 {
        return Err(Refusal::SYNTAX);
    }
    let names = request.args_from(count_at + 1).take(keys);
    let mut trays = Vec::new();
    let sources = sources(call.keyspace, names, call.now, &mut trays)?;
    let rest = request.args_from(count_at + 1 + keys);
    let options = Options::parse(rest, keys, operation, outcome)?;
    let mut result = match operation {
        Operation::Union => union(&options.in_order(&sources), options.aggregate),
        Operation::Inter => {
            let inputs = options.in_order(&sources);
            let common = intersection(&inputs, options.aggregate);
            if outcome == Outcome::Counted {
                let count = common.take(options.limit).count();
                call.reply.int(count as i64);
                return Ok(());
            }
            collect(common)
        }
        Operation::Diff => difference(&sources),
    };
    match outcome {
        Outcome::Stored => {
            let pairs = result
                .iter()
                .map(|(member, score)| (member.as_slice(), *score));
            let event = match operation {
                Operation::Union => "zunionstore",
                Operation::Inter => "zinterstore",
                Operation::Diff => "zdiffstore",
            };
            let result = Zset::from_pairs(pairs, &settings);
            replace(call, call.key(1), result, event)
        }
        Outcome::Answered | Outcome::Counted => {
            result.sort_unstable_by(|(one, a), (other, b)| {
                Score(*a).order(&Score(*b)).then_with(|| one.cmp(other))
            });
            let members = result
                .iter()
                .map(|(member, score)| (Item::Bytes(member), *score));
            put_members(&mut call.reply, result.len(), members, options.with_scores);
            Ok(())
        }
    }
}

impl Options {
    fn parse<'a>(
        mut args: impl ExactSizeIterator<Item = &'a [u8]>,
        keys: usize,
        operation: Operation,
        outcome: Outcome,
    ) -> Result<Options, Refusal> {
        let weighs = operation != Operation::Diff && outcome != Outcome::Counted;
        let mut options = Options {
            weights: vec![1.0; keys],
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: usize::MAX,
        };
        while let Some(option) = args.next() {
            if weighs && args.len() >= keys && is(option, "WEIGHTS") {
                for (weight, arg) in options.weights.iter_mut().zip(&mut args) {
                    *weight = parse_double(arg)
                        .ok_or(Refusal::fixed("ERR weight value is not a float"))?;
                }
            } else if weighs && args.len() >= 1 && is(option, "AGGREGATE") {
                options.aggregate = match args.next() {
                    Some(word) if is(word, "SUM") => Aggregate::Sum,
                    Some(word) if is(word, "MIN") => Aggregate::Min,
                    Some(word) if is(word, "MAX") => Aggregate::Max,
                    Some(_) | None => return Err(Refusal::SYNTAX),
                };
            } else if outcome == Outcome::Answered && is(option, "WITHSCORES") {
                options.with_scores = true;
            } else if outcome == Outcome::Counted && args.len() >= 1 && is(option, "LIMIT") {
                let limit = args.next().unwrap_or(b"");
                options.limit = match at_least(0, limit, "ERR LIMIT can't be negative")? {
                    0 => usize::MAX,
                    limit => limit,
                };
            } else {
                return Err(Refusal::SYNTAX);
            }
        }
        Ok(options)
    }

    /// The inputs with their weights, the smallest first: so Redis adds scores up, and doubles depend on the order.
    fn in_order<'a>(&self, sources: &[Option<Source<'a>>]) -> Vec<(Option<Source<'a>>, f64)> {
        let mut inputs: Vec<_> = sources
            .iter()
            .copied()
            .zip(self.weights.iter().copied())
            .collect();
        inputs.sort_by_key(|(source, _)| source.map_or(0, Source::len));
        inputs
    }
}

impl<'a> Source<'a> {
    fn len(self) -> usize {
        match self {
            Source::Zset(zset) => zset.len(),
            Source::Set(set) => set.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Zset(zset) => zset.score(member),
            Source::Set(set) => set.contains(member).then_some(1.0),
        }
    }

    fn iter(self) -> impl Iterator<Item = (Item<'a>, f64)> + use<'a> {
        match self {
            Source::Zset(zset) => Either::One(zset.iter()),
            Source::Set(set) => Either::Other(set.iter().map(|member| (member, 1.0))),
        }
    }
}

/// What lies under the keys; nothing under absent ones. The first of another type ends it.
fn sources<'k, 'a>(
    keyspace: &'k mut Keyspace,
    keys: impl Iterator<Item = &'a [u8]> + Clone,
    now: UnixMillis,
    trays: &'k mut Vec<Tray>,
) -> Result<Vec<Option<Source<'k>>>, Refusal> {
    for key in keys.clone() {
        source_of(keyspace.value(key, now))?;
    }
    let keyspace = &*keyspace;
    trays.resize_with(keys.clone().count(), Tray::default);
    keys.zip(trays)
        .map(|(key, tray)| source_of(keyspace.peek_value(key, now, tray)))
        .collect()
}

fn source_of(value: Option<ValueRef<'_>>) -> Result<Option<Source<'_>>, Refusal> {
    match value {
        None => Ok(None),
        Some(ValueRef::Collection(Collection::ZSet(zset))) => Ok(Some(Source::Zset(zset))),
        Some(ValueRef::Collection(Collection::Set(set))) => Ok(Some(Source::Set(set))),
        Some(
            ValueRef::Collection(Collection::Hash(_) | Collection::List(_) | Collection::Stream(_))
            | ValueRef::String(_),
        ) => Err(Refusal::WRONG_TYPE),
    }
}

impl Aggregate {
    fn of(self, one: f64, other: f64) -> f64 {
        match self {
            // Infinities of both signs cancel out.
            Aggregate::Sum => number_or_zero(one + other),
            Aggregate::Min => {
                if other < one {
                    other
                } else {
                    one
                }
            }
            Aggregate::Max => {
                if other > one {
                    other
                } else {
                    one
                }
            }
        }
    }
}

/// Zero times infinity is zero here.
fn number_or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

fn union(inputs: &[(Option<Source<'_>>, f64)], aggregate: Aggregate) -> Vec<Scored> {
    let mut scores: BTreeMap<Vec<u8>, f64> = BTreeMap::new();
    for (source, weight) in inputs {
        for (member, score) in source.iter().flat_map(|source| source.iter()) {
            let score = number_or_zero(score * weight);
            let mut digits = [0; 20];
            match scores.get_mut(member.text(&mut digits)) {
                Some(sum) => *sum = aggregate.of(*sum, score),
                None => {
                    scores.insert(member.to_vec(), score);
                }
            }
        }
    }
    scores.into_iter().collect()
}

/// The members that all inputs have, with their scores together.
fn intersection<'a>(
    inputs: &[(Option<Source<'a>>, f64)],
    aggregate: Aggregate,
) -> impl Iterator<Item = (Item<'a>, f64)> {
    let present: Option<Vec<(Source<'a>, f64)>> = inputs
        .iter()
        .map(|(source, weight)| Some(((*source)?, *weight)))
        .collect();
    let inputs = present.unwrap_or_default();
    let first = inputs.first().copied();
    first
        .into_iter()
        .flat_map(|(source, _)| source.iter())
        .filter_map(move |(member, score)| {
            let mut digits = [0; 20];
            let text = member.text(&mut digits);
            let mut sum = number_or_zero(score * inputs[0].1);
            for (source, weight) in &inputs[1..] {
                // Redis guards only the first product against NaN; the sum of all is guarded again.
                sum = aggregate.of(sum, source.score(text)? * weight);
            }
            Some((member, sum))
        })
}

fn difference(sources: &[Option<Source<'_>>]) -> Vec<Scored> {
    let Some((Some(first), others)) = sources.split_first() else {
        return Vec::new();
    };
    let kept = first.iter().filter(|(member, _)| {
        let mut digits = [0; 20];
        let text = member.text(&mut digits);
        !others
            .iter()
            .flatten()
            .any(|source| source.score(text).is_some())
    });
    collect(kept)
}

fn collect<'a>(members: impl Iterator<Item = (Item<'a>, f64)>) -> Vec<Scored> {
    members
        .map(|(member, score)| (member.to_vec(), score))
        .collect()
}
