//! SORT and SORT_RO: the elements of a list, set or sorted set in an order of choice, or what other keys hold for them.

use std::cmp::Ordering;

use larder_wire::{Refusal, Slot, slot_of};

use super::args::int_arg;
use crate::call::Call;
use crate::collection::{Hash, List, Zset};
use crate::events::Classes;
use crate::key::Key;
use crate::value::{Collection, Kind, ValueRef};

struct Options<'a> {
    descending: bool,
    alpha: bool,
    limit: Option<(i64, i64)>,
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    store: Option<Key<'a>>,
}

impl<'a> Options<'a> {
    fn of(call: &Call<'a>, may_store: bool) -> Result<Options<'a>, Refusal> {
        let request = call.request;
        let mut options = Options {
            descending: false,
            alpha: false,
            limit: None,
            by: None,
            get: Vec::new(),
            store: None,
        };
        let slot = call.key(1).slot();
        let mut at = 2;
        while let Some(word) = request.get(at) {
            let left = request.len() - at - 1;
            if word.eq_ignore_ascii_case(b"asc") {
                options.descending = false;
            } else if word.eq_ignore_ascii_case(b"desc") {
                options.descending = true;
            } else if word.eq_ignore_ascii_case(b"alpha") {
                options.alpha = true;
            } else if word.eq_ignore_ascii_case(b"limit") && left >= 2 {
                options.limit = Some((int_arg(request, at + 1)?, int_arg(request, at + 2)?));
                at += 2;
            } else if word.eq_ignore_ascii_case(b"store") && left >= 1 && may_store {
                options.store = Some(call.key(at + 1));
                at += 1;
            } else if word.eq_ignore_ascii_case(b"by") && left >= 1 {
                let pattern = request.arg(at + 1);
                refuse_foreign(call, "BY", pattern, slot)?;
                options.by = Some(pattern);
                at += 1;
            } else if word.eq_ignore_ascii_case(b"get") && left >= 1 {
                let pattern = request.arg(at + 1);
                refuse_foreign(call, "GET", pattern, slot)?;
                options.get.push(pattern);
                at += 1;
            } else {
                return Err(Refusal::SYNTAX);
            }
            at += 1;
        }
        Ok(options)
    }

    /// Without a place for the element, BY names one key for all: they stay as they are.
    fn keeps_order(&self) -> bool {
        self.by.is_some_and(|pattern| !pattern.contains(&b'*'))
    }

    /// The places that are shown: the first, and the one after the last.
    fn range(&self, len: usize) -> (usize, usize) {
        let (start, count) = self.limit.unwrap_or((0, -1));
        let start = start.clamp(0, len as i64) as usize;
        let end = match count {
            ..0 => len,
            count => start.saturating_add(count as usize).min(len),
        };
        (start, end)
    }
}

/// In a cluster only patterns whose keys surely lie in the slot of the sorted key may be followed.
fn refuse_foreign(
    call: &Call<'_>,
    option: &str,
    pattern: &[u8],
    slot: Slot,
) -> Result<(), Refusal> {
    let follows = pattern.contains(&b'*') && pattern != b"#";
    let tag = larder_wire::slot::hash_tag(pattern);
    let fixed = tag.len() < pattern.len() && !tag.contains(&b'*') && slot_of(pattern) == slot;
    if follows && call.keyspace.is_partial() && !fixed {
        return Err(Refusal::new(format!(
            "ERR {option} option of SORT denied in cluster mode when keys formed by the pattern may be in different slots."
        )));
    }
    Ok(())
}

pub fn sort(call: &mut Call<'_>) -> Result<(), Refusal> {
    sort_generic(call, true)
}

pub fn sort_ro(call: &mut Call<'_>) -> Result<(), Refusal> {
    sort_generic(call, false)
}

fn sort_generic(call: &mut Call<'_>, may_store: bool) -> Result<(), Refusal> {
    let mut options = Options::of(call, may_store)?;
    let mut keeps_order = options.keeps_order();
    let (mut elements, is_set) = elements(call, keeps_order && options.descending)?;
    if keeps_order && is_set && options.store.is_some() {
        // What is stored must be the same on every node: a set has no order of its own.
        (keeps_order, options.alpha, options.by) = (false, true, None);
    }
    if !keeps_order {
        elements = sorted(call, elements, &options)?;
    }
    let (start, end) = options.range(elements.len());
    let shown = elements.get(start..end).unwrap_or(&[]);
    let answers = answers(call, shown, &options.get);
    match options.store {
        Some(target) => store(call, target, &answers),
        None => {
            call.reply.array(answers.len());
            for answer in &answers {
                match answer {
                    Some(bytes) => call.reply.bulk(bytes),
                    None => call.reply.null(),
                }
            }
        }
    }
    Ok(())
}

/// The elements of the key, and whether they are a set's; those that have an order from the last when `backwards`.
fn elements(call: &mut Call<'_>, backwards: bool) -> Result<(Vec<Vec<u8>>, bool), Refusal> {
    let key = call.key(1);
    Ok(match call.keyspace.value(key, call.now) {
        None => (Vec::new(), false),
        Some(ValueRef::Collection(Collection::List(list))) => {
            let mut elements: Vec<_> = list.iter().map(|item| item.to_vec()).collect();
            if backwards {
                elements.reverse();
            }
            (elements, false)
        }
        Some(ValueRef::Collection(Collection::Set(set))) => {
            (set.iter().map(|item| item.to_vec()).collect(), true)
        }
        Some(ValueRef::Collection(Collection::ZSet(zset))) => {
            let mut members: Vec<_> = members(zset);
            if backwards {
                members.reverse();
            }
            (members, false)
        }
        Some(
            ValueRef::Collection(Collection::Hash(_) | Collection::Stream(_)) | ValueRef::String(_),
        ) => {
            return Err(Refusal::WRONG_TYPE);
        }
    })
}

fn members(zset: &Zset) -> Vec<Vec<u8>> {
    zset.iter().map(|(member, _)| member.to_vec()).collect()
}

/// What an element is sorted by.
enum Weight {
    Number(f64),
    Text(Option<Vec<u8>>),
}

fn sorted(
    call: &mut Call<'_>,
    elements: Vec<Vec<u8>>,
    options: &Options<'_>,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut weighed = Vec::with_capacity(elements.len());
    for element in elements {
        let text = match options.by {
            Some(pattern) => follow(call, pattern, &element),
            None => Some(element.clone()),
        };
        let weight = if options.alpha {
            Weight::Text(text)
        } else {
            Weight::Number(text.map_or(Ok(0.0), |text| number(&text))?)
        };
        weighed.push((weight, element));
    }
    weighed.sort_by(|(a, one), (b, other)| {
        let order = match (a, b) {
            (Weight::Number(a), Weight::Number(b)) => a
                .partial_cmp(b)
                .unwrap_or(Ordering::Equal)
                .then_with(|| one.cmp(other)),
            (Weight::Text(a), Weight::Text(b)) => a.cmp(b),
            (Weight::Number(_), Weight::Text(_)) | (Weight::Text(_), Weight::Number(_)) => {
                unreachable!("all elements are weighed alike")
            }
        };
        if options.descending {
            order.reverse()
        } else {
            order
        }
    });
    Ok(weighed.into_iter().map(|(_, element)| element).collect())
}

/// As C's `strtod` reads it: white space may come first, nothing at all is 0.
fn number(text: &[u8]) -> Result<f64, Refusal> {
    if text.is_empty() {
        return Ok(0.0);
    }
    let number: Option<f64> = std::str::from_utf8(text.trim_ascii_start())
        .ok()
        .and_then(|text| text.parse().ok());
    let overflows = |number: f64| number.is_infinite() && text.iter().any(u8::is_ascii_digit);
    number
        .filter(|number| !number.is_nan() && !overflows(*number))
        .ok_or(Refusal::fixed(
            "ERR One or more scores can't be converted into double",
        ))
}

/// What the pattern says for an element: the element itself for `#`, else the string under the key that it makes with the element in place
/// of the first `*`, or a field of the hash there (`key_*->field`).
fn follow(call: &mut Call<'_>, pattern: &[u8], element: &[u8]) -> Option<Vec<u8>> {
    if pattern == b"#" {
        return Some(element.to_vec());
    }
    let star = pattern.iter().position(|&byte| byte == b'*')?;
    let after = &pattern[star + 1..];
    let arrow = after.windows(2).position(|two| two == b"->");
    let (after, field) = match arrow {
        Some(at) if at + 2 < after.len() => (&after[..at], Some(&after[at + 2..])),
        Some(_) | None => (after, None),
    };
    let key = [&pattern[..star], element, after].concat();
    match (call.keyspace.value(&key, call.now)?, field) {
        (ValueRef::String(string), None) => Some(super::string::to_bytes(string)),
        (ValueRef::Collection(collection), Some(field)) => {
            let hash = Hash::from_ref(collection)?;
            hash.look(call.now);
            hash.get(field).map(|value| value.to_vec())
        }
        (ValueRef::String(_), Some(_)) | (ValueRef::Collection(_), None) => None,
    }
}

fn answers(call: &mut Call<'_>, shown: &[Vec<u8>], get: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
    if get.is_empty() {
        return shown.iter().cloned().map(Some).collect();
    }
    let mut answers = Vec::with_capacity(shown.len() * get.len());
    for element in shown {
        for pattern in get {
            answers.push(follow(call, pattern, element));
        }
    }
    answers
}

fn store(call: &mut Call<'_>, target: Key<'_>, answers: &[Option<Vec<u8>>]) {
    let settings = call.keyspace.collections();
    let elements = answers
        .iter()
        .map(|answer| answer.as_deref().unwrap_or(b""));
    let list = List::from_elements(elements.clone(), &settings);
    let was_there = call.keyspace.is_there(target, call.now);
    call.keyspace.insert_collection(target, list, call.now);
    // What other keys held may not be there when the effect is carried out: the result is told, not the request.
    if !answers.is_empty() {
        call.say(Classes::LIST, "sortstore", target);
    } else if was_there {
        call.say(Classes::GENERIC, "del", target);
    }
    if was_there {
        call.effects.push([b"DEL", target.bytes()]);
    }
    if !answers.is_empty() {
        let head = [&b"RPUSH"[..], target.bytes()];
        let args: Vec<&[u8]> = head.into_iter().chain(elements).collect();
        call.effects.push(args);
    }
    call.reply.int(answers.len() as i64);
}
