//! Commands on hashes.

use larder_wire::Refusal;
use larder_wire::long_double::{LongDouble, Parsed};
use larder_wire::resp::Protocol;

use super::element::{put, put_or_null};
use super::element_scan::{self, ScanOptions, Walked};
use super::number_args::{int, is};
use super::sample;
use crate::call::Call;
use crate::collection::{Hash, Item};
use crate::events::Classes;

type Done = Result<(), Refusal>;

pub fn hset(call: &mut Call<'_>) -> Done {
    let added = set_fields(call, "hset")?;
    call.reply.int(added as i64);
    Ok(())
}

pub fn hmset(call: &mut Call<'_>) -> Done {
    set_fields(call, "hmset")?;
    call.reply.ok();
    Ok(())
}

fn set_fields(call: &mut Call<'_>, name: &str) -> Result<usize, Refusal> {
    let mut args = call.request.args_from(2);
    if !args.len().is_multiple_of(2) {
        return Err(Refusal::wrong_arity(name));
    }
    let (key, settings) = (call.key(1), call.keyspace.collections());
    let added = call
        .keyspace
        .modify_or_create(key, call.now, |hash: &mut Hash| {
            let mut added = 0;
            while let (Some(field), Some(value)) = (args.next(), args.next()) {
                added += usize::from(hash.set(field, value, &settings));
            }
            added
        })?;
    call.say(Classes::HASH, "hset", key);
    call.effects.verbatim();
    Ok(added)
}

pub fn hsetnx(call: &mut Call<'_>) -> Done {
    let (key, settings) = (call.key(1), call.keyspace.collections());
    let (field, value) = (call.request.arg(2), call.request.arg(3));
    let set = call
        .keyspace
        .modify_or_create(key, call.now, |hash: &mut Hash| {
            !hash.contains(field) && hash.set(field, value, &settings)
        })?;
    if set {
        call.say(Classes::HASH, "hset", key);
        call.effects.verbatim();
    }
    call.reply.int(i64::from(set));
    Ok(())
}

pub fn hget(call: &mut Call<'_>) -> Done {
    let (key, field) = (call.key(1), call.request.arg(2));
    let hash = call.keyspace.read::<Hash>(key, call.now)?;
    put_or_null(&mut call.reply, hash.and_then(|hash| hash.get(field)));
    Ok(())
}

pub fn hmget(call: &mut Call<'_>) -> Done {
    let (key, fields) = (call.key(1), call.request.args_from(2));
    let hash = call.keyspace.read::<Hash>(key, call.now)?;
    call.reply.array(fields.len());
    for field in fields {
        put_or_null(&mut call.reply, hash.and_then(|hash| hash.get(field)));
    }
    Ok(())
}

pub fn hgetall(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let hash = call.keyspace.read::<Hash>(key, call.now)?;
    call.reply.map(hash.map_or(0, Hash::live_len));
    for (field, value) in hash.iter().flat_map(|hash| hash.iter()) {
        put(&mut call.reply, field);
        put(&mut call.reply, value);
    }
    Ok(())
}

pub fn hkeys(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let hash = call.keyspace.read::<Hash>(key, call.now)?;
    call.reply.array(hash.map_or(0, Hash::live_len));
    for (field, _) in hash.iter().flat_map(|hash| hash.iter()) {
        put(&mut call.reply, field);
    }
    Ok(())
}

pub fn hvals(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let hash = call.keyspace.read::<Hash>(key, call.now)?;
    call.reply.array(hash.map_or(0, Hash::live_len));
    for (_, value) in hash.iter().flat_map(|hash| hash.iter()) {
        put(&mut call.reply, value);
    }
    Ok(())
}

pub fn hdel(call: &mut Call<'_>) -> Done {
    let (key, fields) = (call.key(1), call.request.args_from(2));
    let removed = call.keyspace.modify(key, call.now, |hash: &mut Hash| {
        fields.filter(|field| hash.remove(field)).count()
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        call.say_taken(Classes::HASH, "hdel", key);
        call.effects.verbatim();
    }
    call.reply.int(removed as i64);
    Ok(())
}

pub fn hlen(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let hash = call.keyspace.read::<Hash>(key, call.now)?;
    call.reply.int(hash.map_or(0, Hash::live_len) as i64);
    Ok(())
}

pub fn hexists(call: &mut Call<'_>) -> Done {
    let (key, field) = (call.key(1), call.request.arg(2));
    let hash = call.keyspace.read::<Hash>(key, call.now)?;
    call.reply
        .int(i64::from(hash.is_some_and(|hash| hash.contains(field))));
    Ok(())
}

pub fn hstrlen(call: &mut Call<'_>) -> Done {
    let (key, field) = (call.key(1), call.request.arg(2));
    let value = call
        .keyspace
        .read::<Hash>(key, call.now)?
        .and_then(|hash| hash.get(field));
    call.reply.int(value.map_or(0, |value| value.len()) as i64);
    Ok(())
}

pub fn hincrby(call: &mut Call<'_>) -> Done {
    let (key, settings) = (call.key(1), call.keyspace.collections());
    let (field, increment) = (call.request.arg(2), int(call.request.arg(3))?);
    let sum = call
        .keyspace
        .modify_or_create(key, call.now, |hash: &mut Hash| {
            let old = match hash.get(field) {
                None => 0,
                Some(value) => value
                    .int()
                    .ok_or(Refusal::fixed("ERR hash value is not an integer"))?,
            };
            let sum = old
                .checked_add(increment)
                .ok_or(Refusal::INCREMENT_OVERFLOW)?;
            let mut digits = [0; 20];
            let text = larder_wire::resp::write::decimal(&mut digits, sum);
            hash.update(field, text, &settings);
            Ok(sum)
        })??;
    call.say(Classes::HASH, "hincrby", key);
    call.effects.verbatim();
    call.reply.int(sum);
    Ok(())
}

pub fn hincrbyfloat(call: &mut Call<'_>) -> Done {
    let (key, settings) = (call.key(1), call.keyspace.collections());
    let field = call.request.arg(2);
    let increment = match LongDouble::parse(call.request.arg(3)) {
        Some(Parsed::Finite(increment)) => increment,
        Some(Parsed::Infinite) => return Err(Refusal::fixed("ERR value is NaN or Infinity")),
        None => return Err(Refusal::NOT_A_FLOAT),
    };
    let change = |hash: &mut Hash| {
        let old = match hash
            .get(field)
            .map(|value| LongDouble::parse(value.text(&mut [0; 20])))
        {
            None => LongDouble::ZERO,
            Some(Some(Parsed::Finite(old))) => old,
            Some(Some(Parsed::Infinite)) => return Err(Refusal::INCREMENT_NAN_OR_INF),
            Some(None) => return Err(Refusal::fixed("ERR hash value is not a float")),
        };
        let sum = old
            .checked_add(increment)
            .ok_or(Refusal::INCREMENT_NAN_OR_INF)?;
        let text = sum.to_text();
        hash.update(field, text.as_bytes(), &settings);
        let expires = hash.expiry(field).flatten().is_some();
        Ok((text, expires))
    };
    let (text, expires) = call.keyspace.modify_or_create(key, call.now, change)??;
    call.say(Classes::HASH, "hincrbyfloat", key);
    let (key, value) = (key.bytes(), text.as_bytes());
    if expires {
        let words: [&[u8]; 5] = [b"HSETEX", key, b"KEEPTTL", b"FIELDS", b"1"];
        call.effects
            .push(words.into_iter().chain([field, value]).collect::<Vec<_>>());
    } else {
        call.effects.push([&b"HSET"[..], key, field, value]);
    }
    call.reply.bulk(text.as_bytes());
    Ok(())
}

pub fn hscan(call: &mut Call<'_>) -> Done {
    let (key, cursor) = (call.key(1), element_scan::cursor(call.request)?);
    let Some(hash) = call.keyspace.read::<Hash>(key, call.now)? else {
        element_scan::reply_found(&mut call.reply, 0, &[]);
        return Ok(());
    };
    let options = ScanOptions::parse(call.request, Walked::Hash)?;
    let mut found = Vec::new();
    let next = hash.scan(cursor, options.count, |field, value| {
        if options.shows(field) {
            found.push(field);
            if !options.only_names {
                found.push(value);
            }
        }
    });
    element_scan::reply_found(&mut call.reply, next, &found);
    Ok(())
}

pub fn hrandfield(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let Some(count) = call.request.get(2) else {
        let hash = call.keyspace.read::<Hash>(key, call.now)?;
        let picked = hash.filter(|hash| hash.live_len() > 0).map(|hash| {
            let place = call.random.below(hash.live_len());
            pick(hash, &live_fields(hash), place).0
        });
        put_or_null(&mut call.reply, picked);
        return Ok(());
    };
    let mut picks = sample::picks(count)?;
    let with_values = match call.request.get(3) {
        None => false,
        Some(word) if is(word, "WITHVALUES") && call.request.len() == 4 => {
            picks = sample::pair_picks(count)?;
            true
        }
        Some(_) => return Err(Refusal::SYNTAX),
    };
    let hash = call.keyspace.read::<Hash>(key, call.now)?;
    let places = sample::places(picks, hash.map_or(0, Hash::live_len), call.random);
    let nested = with_values && call.reply.protocol() == Protocol::Resp3;
    call.reply
        .array(places.len() * if with_values && !nested { 2 } else { 1 });
    let live = hash.map_or(Vec::new(), live_fields);
    for place in places {
        let hash = hash.expect("there are no places without a hash");
        let (field, value) = pick(hash, &live, place);
        if nested {
            call.reply.array(2);
        }
        put(&mut call.reply, field);
        if with_values {
            put(&mut call.reply, value);
        }
    }
    Ok(())
}

/// The fields to pick from where some others are due and still in the way; else none, and places are those of the hash.
fn live_fields(hash: &Hash) -> Vec<(Item<'_>, Item<'_>)> {
    if hash.has_due() {
        hash.iter().collect()
    } else {
        Vec::new()
    }
}

fn pick<'h>(hash: &'h Hash, live: &[(Item<'h>, Item<'h>)], place: usize) -> (Item<'h>, Item<'h>) {
    match live.get(place) {
        Some(pair) => *pair,
        None => hash.at(place),
    }
}
