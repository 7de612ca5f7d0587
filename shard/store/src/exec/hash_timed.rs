//! Fields read or set together with their expiry: HGETEX, HSETEX, HGETDEL.

use larder_wire::resp::write::decimal;
use larder_wire::{Refusal, UnixMillis};

use super::args::TimeUnit;
use super::element::put_or_null;
use super::hash_args::{Fields, field_expiry, time_option};
use super::hash_expire::{push_hdel, push_hpersist, push_hpexpireat, say_times};
use super::number_args::is;
use crate::call::Call;
use crate::collection::{Hash, Item};
use crate::events::Classes;

type Done = Result<(), Refusal>;

/// What becomes of the expiry of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Time {
    /// HGETEX leaves it, HSETEX clears it.
    #[default]
    Unsaid,
    /// KEEPTTL of HSETEX.
    Kept,
    /// PERSIST of HGETEX.
    Cleared,
    /// EX, PX, EXAT, PXAT: the argument that says it, in which unit, and whether counted from now.
    Said {
        at: usize,
        unit: TimeUnit,
        from_now: bool,
    },
}

impl Time {
    /// Another word about the time: only the same one may be repeated.
    fn becomes(&mut self, said: Time) -> Done {
        let same = match (*self, said) {
            (Time::Unsaid, _) => true,
            (
                Time::Said { unit, from_now, .. },
                Time::Said {
                    unit: other_unit,
                    from_now: other,
                    ..
                },
            ) => unit == other_unit && from_now == other,
            (Time::Kept | Time::Cleared | Time::Said { .. }, said) => *self == said,
        };
        *self = said;
        same.then_some(()).ok_or(Refusal::SYNTAX)
    }

    fn resolve(self, call: &Call<'_>, command: &str) -> Result<Option<UnixMillis>, Refusal> {
        match self {
            Time::Unsaid | Time::Kept | Time::Cleared => Ok(None),
            Time::Said { at, unit, from_now } => {
                let base = if from_now { call.now } else { UnixMillis(0) };
                field_expiry(call.request.arg(at), unit, base, command).map(Some)
            }
        }
    }
}

/// What must be there, or must not, for anything to be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Only {
    #[default]
    Always,
    WhenAbsent,
    WhenThere,
}

impl Only {
    fn becomes(&mut self, said: Only) -> Done {
        let fits = *self == Only::Always || *self == said;
        *self = said;
        fits.then_some(()).ok_or(Refusal::SYNTAX)
    }

    fn allows(self, is_there: bool) -> bool {
        match self {
            Only::Always => true,
            Only::WhenAbsent => !is_there,
            Only::WhenThere => is_there,
        }
    }
}

#[derive(Default)]
struct Options {
    time: Time,
    /// NX and XX, about the key; FNX and FXX, about each of the fields.
    key: Only,
    fields: Only,
}

impl Options {
    /// From argument 2 to argument `end`.
    fn parse(call: &Call<'_>, end: usize, sets: bool) -> Result<Options, Refusal> {
        let mut options = Options::default();
        let mut at = 2;
        while at < end {
            let word = call.request.arg(at);
            if let Some((unit, from_now)) = time_option(word) {
                at += 1;
                if at >= end {
                    return Err(Refusal::SYNTAX);
                }
                options.time.becomes(Time::Said { at, unit, from_now })?;
            } else if is(word, "PERSIST") && !sets {
                options.time.becomes(Time::Cleared)?;
            } else if is(word, "KEEPTTL") && sets {
                options.time.becomes(Time::Kept)?;
            } else if is(word, "NX") && sets {
                options.key.becomes(Only::WhenAbsent)?;
            } else if is(word, "XX") && sets {
                options.key.becomes(Only::WhenThere)?;
            } else if is(word, "FNX") && sets {
                options.fields.becomes(Only::WhenAbsent)?;
            } else if is(word, "FXX") && sets {
                options.fields.becomes(Only::WhenThere)?;
            } else {
                return Err(Refusal::SYNTAX);
            }
            at += 1;
        }
        Ok(options)
    }
}

pub fn hgetex(call: &mut Call<'_>) -> Done {
    let fields = Fields::find(call.request, 2)?;
    let options = Options::parse(call, fields.at, false)?;
    fields.check(call.request, 1)?;
    let (key, now, settings) = (call.key(1), call.now, call.keyspace.collections());
    let args = call.request.args_from(fields.first);
    let there = call.keyspace.read::<Hash>(key, now)?.is_some();
    let at = options.time.resolve(call, "hgetex")?;
    if !there {
        call.reply.array(args.len());
        args.for_each(|_| call.reply.null());
        return Ok(());
    }
    call.reply.array(args.len());
    let (mut timed, mut cleared, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    let reply = &mut call.reply;
    call.keyspace.modify(key, now, |hash: &mut Hash| {
        for field in args {
            let value = hash.get(field);
            put_or_null(reply, value);
            match (options.time, at) {
                _ if value.is_none() => {}
                (Time::Cleared, _) if hash.persist(field) => cleared.push(field),
                (_, Some(at)) if at <= now => {
                    hash.remove(field);
                    deleted.push(field);
                }
                (_, Some(at)) => {
                    hash.set_expiry(field, at, &settings);
                    timed.push(field);
                }
                (Time::Unsaid | Time::Kept | Time::Cleared | Time::Said { .. }, None) => {}
            }
        }
    })?;
    if let Some(at) = at {
        push_hpexpireat(call.effects, key.bytes(), at, &timed);
    }
    push_hpersist(call.effects, key.bytes(), &cleared);
    push_hdel(call.effects, key.bytes(), &deleted);
    say_times(call, &timed, &deleted);
    if !cleared.is_empty() {
        call.say(Classes::HASH, "hpersist", key);
    }
    Ok(())
}

pub fn hsetex(call: &mut Call<'_>) -> Done {
    let fields = Fields::find(call.request, 2)?;
    let options = Options::parse(call, fields.at, true)?;
    fields.check(call.request, 2)?;
    let (key, now, settings) = (call.key(1), call.now, call.keyspace.collections());
    let names = call.request.args_from(fields.first).step_by(2);
    let hash = call.keyspace.read::<Hash>(key, now)?;
    let is_there = |field| hash.is_some_and(|hash| hash.contains(field));
    let allowed = options.key.allows(hash.is_some())
        && names
            .clone()
            .all(|field| options.fields.allows(is_there(field)));
    let at = options.time.resolve(call, "hsetex")?;
    call.reply.int(i64::from(allowed));
    if !allowed {
        return Ok(());
    }
    if at.is_some_and(|at| at <= now) {
        let mut deleted = Vec::new();
        call.keyspace.modify(key, now, |hash: &mut Hash| {
            deleted.extend(names.filter(|field| hash.remove(field)));
        })?;
        push_hdel(call.effects, key.bytes(), &deleted);
        call.say(Classes::HASH, "hset", key);
        call.say(Classes::HASH, "hexpire", key);
        call.say_taken(Classes::HASH, "hexpired", key);
        return Ok(());
    }
    let mut args = call.request.args_from(fields.first);
    call.keyspace
        .modify_or_create(key, now, |hash: &mut Hash| {
            while let (Some(field), Some(value)) = (args.next(), args.next()) {
                match (options.time, at) {
                    (Time::Kept, _) => hash.update(field, value, &settings),
                    (Time::Unsaid | Time::Cleared | Time::Said { .. }, None) => {
                        hash.set(field, value, &settings);
                    }
                    (Time::Unsaid | Time::Cleared | Time::Said { .. }, Some(at)) => {
                        hash.update(field, value, &settings);
                        hash.set_expiry(field, at, &settings);
                    }
                }
            }
        })?;
    push_set(call, options.time, at, fields);
    call.say(Classes::HASH, "hset", key);
    if at.is_some() {
        call.say(Classes::HASH, "hexpire", key);
    }
    Ok(())
}

/// The fields as they were set, at a time that does not depend on when this is carried out.
fn push_set(call: &mut Call<'_>, time: Time, at: Option<UnixMillis>, fields: Fields) {
    let mut digits = [0; 20];
    let at = at.map(|at| decimal(&mut digits, at.0));
    let mut args: Vec<&[u8]> = vec![b"HSETEX", call.request.arg(1)];
    if let Some(at) = at {
        args.extend([&b"PXAT"[..], at]);
    } else if time == Time::Kept {
        args.push(b"KEEPTTL");
    }
    args.extend(call.request.args_from(fields.at));
    call.effects.push(args);
}

pub fn hgetdel(call: &mut Call<'_>) -> Done {
    let fields = Fields::at_once(call.request)?;
    fields.check(call.request, 1)?;
    let key = call.key(1);
    let args = call.request.args_from(fields.first);
    let there = call.keyspace.read::<Hash>(key, call.now)?.is_some();
    call.reply.array(args.len());
    if !there {
        args.for_each(|_| call.reply.null());
        return Ok(());
    }
    let (reply, mut deleted) = (&mut call.reply, Vec::new());
    call.keyspace.modify(key, call.now, |hash: &mut Hash| {
        for field in args {
            let value: Option<Item<'_>> = hash.get(field);
            put_or_null(reply, value);
            if value.is_some() {
                hash.remove(field);
                deleted.push(field);
            }
        }
    })?;
    if !deleted.is_empty() {
        push_hdel(call.effects, key.bytes(), &deleted);
        call.say_taken(Classes::HASH, "hdel", key);
    }
    Ok(())
}
