//! Commands on one set.

use larder_wire::Refusal;

use super::element::{put, put_or_null};
use super::element_scan::{self, ScanOptions, Walked};
use super::number_args::pop_count;
use super::sample::{self, Picks};
use crate::call::{Call, Effects};
use crate::collection::Set;
use crate::events::Classes;

type Done = Result<(), Refusal>;

/// Most members that one SREM of a large pop's effects takes out.
const EFFECT_MEMBERS_MAX: usize = 1024;

pub fn sadd(call: &mut Call<'_>) -> Done {
    let (key, settings) = (call.key(1), call.keyspace.collections());
    let members = call.request.args_from(2);
    let added = call
        .keyspace
        .modify_or_create(key, call.now, |set: &mut Set| {
            members
                .filter(|member| set.insert(member, &settings))
                .count()
        })?;
    if added > 0 {
        call.say(Classes::SET, "sadd", key);
        call.effects.verbatim();
    }
    call.reply.int(added as i64);
    Ok(())
}

pub fn srem(call: &mut Call<'_>) -> Done {
    let (key, members) = (call.key(1), call.request.args_from(2));
    let removed = call.keyspace.modify(key, call.now, |set: &mut Set| {
        members.filter(|member| set.remove(member)).count()
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        call.say_taken(Classes::SET, "srem", key);
        call.effects.verbatim();
    }
    call.reply.int(removed as i64);
    Ok(())
}

pub fn smove(call: &mut Call<'_>) -> Done {
    let (source, target, member) = (call.key(1), call.key(2), call.request.arg(3));
    let settings = call.keyspace.collections();
    let holds = match call.keyspace.look::<Set>(source, call.now)? {
        None => {
            call.reply.int(0);
            return Ok(());
        }
        Some(set) => set.contains(member),
    };
    call.keyspace.look::<Set>(target, call.now)?;
    if holds && source.bytes() != target.bytes() {
        call.keyspace
            .modify(source, call.now, |set: &mut Set| set.remove(member))?;
        call.say_taken(Classes::SET, "srem", source);
        let added = call
            .keyspace
            .modify_or_create(target, call.now, |set: &mut Set| {
                set.insert(member, &settings)
            })?;
        if added {
            call.say(Classes::SET, "sadd", target);
            call.effects.verbatim();
        } else {
            // The target has not changed: who watches it is not disturbed.
            call.effects.push([b"SREM", source.bytes(), member]);
        }
    }
    call.reply.int(i64::from(holds));
    Ok(())
}

pub fn scard(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let set = call.keyspace.read::<Set>(key, call.now)?;
    call.reply.int(set.map_or(0, Set::len) as i64);
    Ok(())
}

pub fn sismember(call: &mut Call<'_>) -> Done {
    let (key, member) = (call.key(1), call.request.arg(2));
    let set = call.keyspace.read::<Set>(key, call.now)?;
    call.reply
        .int(i64::from(set.is_some_and(|set| set.contains(member))));
    Ok(())
}

pub fn smismember(call: &mut Call<'_>) -> Done {
    let (key, members) = (call.key(1), call.request.args_from(2));
    let set = call.keyspace.read::<Set>(key, call.now)?;
    call.reply.array(members.len());
    for member in members {
        call.reply
            .int(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(())
}

pub fn smembers(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let set = call.keyspace.read::<Set>(key, call.now)?;
    call.reply.set(set.map_or(0, Set::len));
    for member in set.iter().flat_map(|set| set.iter()) {
        put(&mut call.reply, member);
    }
    Ok(())
}

pub fn sscan(call: &mut Call<'_>) -> Done {
    let (key, cursor) = (call.key(1), element_scan::cursor(call.request)?);
    let Some(set) = call.keyspace.read::<Set>(key, call.now)? else {
        element_scan::reply_found(&mut call.reply, 0, &[]);
        return Ok(());
    };
    let options = ScanOptions::parse(call.request, Walked::Set)?;
    let mut found = Vec::new();
    let next = set.scan(cursor, options.count, |member| {
        if options.shows(member) {
            found.push(member);
        }
    });
    element_scan::reply_found(&mut call.reply, next, &found);
    Ok(())
}

pub fn srandmember(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    if call.request.len() > 3 {
        return Err(Refusal::SYNTAX);
    }
    let Some(count) = call.request.get(2) else {
        let set = call.keyspace.read::<Set>(key, call.now)?;
        let picked = set.map(|set| set.at(call.random.below(set.len())));
        put_or_null(&mut call.reply, picked);
        return Ok(());
    };
    let picks = sample::picks(count)?;
    let set = call.keyspace.read::<Set>(key, call.now)?;
    let places = sample::places(picks, set.map_or(0, Set::len), call.random);
    call.reply.array(places.len());
    for place in places {
        let set = set.expect("there are no places without a set");
        put(&mut call.reply, set.at(place));
    }
    Ok(())
}

pub fn spop(call: &mut Call<'_>) -> Done {
    match call.request.len() {
        2 => pop_one(call),
        3 => pop_many(call),
        _ => Err(Refusal::SYNTAX),
    }
}

fn pop_one(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let random = &mut *call.random;
    let popped = call.keyspace.modify(key, call.now, |set: &mut Set| {
        let member = set.at(random.below(set.len())).to_vec();
        set.remove(&member);
        member
    })?;
    match popped {
        None => call.reply.null(),
        Some(member) => {
            call.say_taken(Classes::SET, "spop", key);
            call.effects.push([b"SREM", key.bytes(), &member]);
            call.reply.bulk(&member);
        }
    }
    Ok(())
}

fn pop_many(call: &mut Call<'_>) -> Done {
    let (key, count) = (call.key(1), pop_count(call.request.arg(2))?);
    let len = call
        .keyspace
        .look::<Set>(key, call.now)?
        .map_or(0, Set::len);
    if count == 0 || len == 0 {
        call.reply.set(0);
        return Ok(());
    }
    if count >= len {
        smembers(call)?;
        call.keyspace.remove(key, call.now);
        call.say_taken(Classes::SET, "spop", key);
        call.effects.push([b"DEL", key.bytes()]);
        return Ok(());
    }
    let places = sample::places(Picks::Distinct(count), len, call.random);
    let popped = call.keyspace.modify(key, call.now, |set: &mut Set| {
        let popped: Vec<Vec<u8>> = places.iter().map(|place| set.at(*place).to_vec()).collect();
        popped.iter().for_each(|member| {
            set.remove(member);
        });
        popped
    })?;
    let popped = popped.expect("the set was there two lines before");
    call.reply.set(popped.len());
    popped.iter().for_each(|member| call.reply.bulk(member));
    call.say_taken(Classes::SET, "spop", key);
    push_srem(call.effects, key.bytes(), &popped);
    Ok(())
}

fn push_srem(effects: &mut Effects, key: &[u8], members: &[Vec<u8>]) {
    for members in members.chunks(EFFECT_MEMBERS_MAX) {
        let head: [&[u8]; 2] = [b"SREM", key];
        let args: Vec<&[u8]> = head
            .into_iter()
            .chain(members.iter().map(Vec::as_slice))
            .collect();
        effects.push(args);
    }
}
