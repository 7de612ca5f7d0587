//! Intersections, unions and differences of sets.

use std::cmp::Reverse;

use larder_wire::{Refusal, UnixMillis};

use super::element::put;
use super::number_args::{at_least, is, key_count};
use crate::call::Call;
use crate::collection::{CollectionSettings, Item, Set};
use crate::entry::Tray;
use crate::events::Classes;
use crate::keyspace::Keyspace;

type Done = Result<(), Refusal>;

pub fn sinter(call: &mut Call<'_>) -> Done {
    answer(call, intersection)
}

pub fn sunion(call: &mut Call<'_>) -> Done {
    let settings = call.keyspace.collections();
    let mut trays = Vec::new();
    let sets = sets(
        call.keyspace,
        call.request.args_from(1),
        call.now,
        &mut trays,
    )?;
    let union = union(&sets, &settings);
    call.reply.set(union.len());
    union.iter().for_each(|item| put(&mut call.reply, item));
    Ok(())
}

pub fn sdiff(call: &mut Call<'_>) -> Done {
    answer(call, difference)
}

fn answer(call: &mut Call<'_>, combine: for<'s> fn(&[Option<&'s Set>]) -> Vec<Item<'s>>) -> Done {
    let mut trays = Vec::new();
    let sets = sets(
        call.keyspace,
        call.request.args_from(1),
        call.now,
        &mut trays,
    )?;
    let members = combine(&sets);
    call.reply.set(members.len());
    members.iter().for_each(|item| put(&mut call.reply, *item));
    Ok(())
}

pub fn sinterstore(call: &mut Call<'_>) -> Done {
    store(call, "sinterstore", |sets, settings| {
        collect(intersection(sets), settings)
    })
}

pub fn sunionstore(call: &mut Call<'_>) -> Done {
    store(call, "sunionstore", union)
}

pub fn sdiffstore(call: &mut Call<'_>) -> Done {
    store(call, "sdiffstore", |sets, settings| {
        collect(difference(sets), settings)
    })
}

fn store(
    call: &mut Call<'_>,
    event: &'static str,
    combine: fn(&[Option<&Set>], &CollectionSettings) -> Set,
) -> Done {
    let settings = call.keyspace.collections();
    let mut trays = Vec::new();
    let sets = sets(
        call.keyspace,
        call.request.args_from(2),
        call.now,
        &mut trays,
    )?;
    let result = combine(&sets, &settings);
    let (target, len) = (call.key(1), result.len());
    let changed = if len == 0 {
        call.keyspace.remove(target, call.now)
    } else {
        call.keyspace.insert_collection(target, result, call.now);
        true
    };
    if changed && len == 0 {
        call.say(Classes::GENERIC, "del", target);
    } else if changed {
        call.say(Classes::SET, event, target);
    }
    if changed {
        call.effects.verbatim();
    }
    call.reply.int(len as i64);
    Ok(())
}

pub fn sintercard(call: &mut Call<'_>) -> Done {
    let request = call.request;
    let keys = key_count(request.arg(1))?;
    if keys > request.len() - 2 {
        return Err(Refusal::fixed(
            "ERR Number of keys can't be greater than number of args",
        ));
    }
    let mut limit = 0;
    let mut options = request.args_from(2 + keys);
    while let Some(option) = options.next() {
        match options.next() {
            Some(value) if is(option, "LIMIT") => {
                limit = at_least(0, value, "ERR LIMIT can't be negative")?;
            }
            Some(_) | None => return Err(Refusal::SYNTAX),
        }
    }
    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut trays = Vec::new();
    let sets = sets(
        call.keyspace,
        request.args_from(2).take(keys),
        call.now,
        &mut trays,
    )?;
    let count = common(&sets).take(limit).count();
    call.reply.int(count as i64);
    Ok(())
}

/// The sets under `keys`; absent ones are none.
fn sets<'k, 'a>(
    keyspace: &'k mut Keyspace,
    keys: impl Iterator<Item = &'a [u8]> + Clone,
    now: UnixMillis,
    trays: &'k mut Vec<Tray>,
) -> Result<Vec<Option<&'k Set>>, Refusal> {
    for key in keys.clone() {
        keyspace.read::<Set>(key, now)?;
    }
    let keyspace = &*keyspace;
    trays.resize_with(keys.clone().count(), Tray::default);
    keys.zip(trays)
        .map(|(key, tray)| keyspace.peek_on(key, now, tray))
        .collect()
}

/// The members that all sets have: those of the smallest, looked up in the others.
fn common<'s>(sets: &[Option<&'s Set>]) -> impl Iterator<Item = Item<'s>> {
    let mut present: Vec<&Set> = sets.iter().copied().flatten().collect();
    if present.len() < sets.len() {
        present.clear();
    }
    present.sort_by_key(|set| set.len());
    let smallest = present.first().copied();
    smallest
        .into_iter()
        .flat_map(Set::iter)
        .filter(move |member| {
            let mut digits = [0; 20];
            let text = member.text(&mut digits);
            present[1..].iter().all(|set| set.contains(text))
        })
}

fn intersection<'s>(sets: &[Option<&'s Set>]) -> Vec<Item<'s>> {
    common(sets).collect()
}

fn union(sets: &[Option<&Set>], settings: &CollectionSettings) -> Set {
    let mut union = Set::new();
    for set in sets.iter().copied().flatten() {
        for member in set.iter() {
            union.insert(member.text(&mut [0; 20]), settings);
        }
    }
    union
}

/// The members of the first set that no other has. Large others are asked first: they are likelier to have one.
fn difference<'s>(sets: &[Option<&'s Set>]) -> Vec<Item<'s>> {
    let Some((Some(first), others)) = sets.split_first() else {
        return Vec::new();
    };
    let mut others: Vec<&Set> = others.iter().copied().flatten().collect();
    others.sort_by_key(|set| Reverse(set.len()));
    first
        .iter()
        .filter(|member| {
            let mut digits = [0; 20];
            let text = member.text(&mut digits);
            !others.iter().any(|set| set.contains(text))
        })
        .collect()
}

fn collect(members: Vec<Item<'_>>, settings: &CollectionSettings) -> Set {
    let mut set = Set::new();
    for member in members {
        set.insert(member.text(&mut [0; 20]), settings);
    }
    set
}
