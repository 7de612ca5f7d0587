//! Strings: GET, SET and their like, counters, ranges.

use larder_wire::long_double::{LongDouble, Parsed};
use larder_wire::resp::write::decimal;
use larder_wire::{Refusal, UnixMillis};

use super::args::{self, TimeUnit, expiry_of, int_arg, write_string};
use crate::call::Call;
use crate::events::Classes;
use crate::key::{Key, KeyPlace};
use crate::keyspace::WARM_KEYS_MAX;
use crate::strings::{SetExpiry, Store};
use crate::value::StringRef;

pub fn get(call: &mut Call<'_>) -> Result<(), Refusal> {
    let key = call.key(1);
    match call.keyspace.string(key, call.now)? {
        Some(string) => write_string(&mut call.reply, string),
        None => call.reply.null(),
    }
    Ok(())
}

/// What the options of SET, MSETEX and GETEX say.
#[derive(Default)]
pub(super) struct Options<'a> {
    pub(super) only_absent: bool,
    pub(super) only_present: bool,
    /// IFEQ: what has to be there.
    equals: Option<&'a [u8]>,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    /// The argument, whether it is a moment (not a span), and its unit.
    expiry: Option<(&'a [u8], bool, TimeUnit)>,
}

impl<'a> Options<'a> {
    fn of_set(call: &Call<'a>) -> Result<Options<'a>, Refusal> {
        Options::of_write(call, 3, true)
    }

    /// From argument `from` on; GET and IFEQ are for one key.
    pub(super) fn of_write(
        call: &Call<'a>,
        from: usize,
        one_key: bool,
    ) -> Result<Options<'a>, Refusal> {
        let mut options = Options::default();
        let mut rest = call.request.args_from(from);
        while let Some(word) = rest.next() {
            let times = options.keep_ttl || options.expiry.is_some();
            let compares = options.equals.is_some();
            if word.eq_ignore_ascii_case(b"nx") && !options.only_present && !compares {
                options.only_absent = true;
            } else if word.eq_ignore_ascii_case(b"xx") && !options.only_absent && !compares {
                options.only_present = true;
            } else if word.eq_ignore_ascii_case(b"get") && one_key {
                options.get = true;
            } else if word.eq_ignore_ascii_case(b"ifeq")
                && one_key
                && !(options.only_absent || options.only_present || compares)
            {
                options.equals = Some(rest.next().ok_or(Refusal::SYNTAX)?);
            } else if word.eq_ignore_ascii_case(b"keepttl") && options.expiry.is_none() {
                options.keep_ttl = true;
            } else if let Some((moment, unit)) = expiry_word(word)
                && !times
            {
                options.expiry = Some((rest.next().ok_or(Refusal::SYNTAX)?, moment, unit));
            } else {
                return Err(Refusal::SYNTAX);
            }
        }
        Ok(options)
    }

    fn of_getex(call: &Call<'a>) -> Result<Options<'a>, Refusal> {
        let mut options = Options::default();
        let mut rest = call.request.args_from(2);
        while let Some(word) = rest.next() {
            if word.eq_ignore_ascii_case(b"persist") && options.expiry.is_none() {
                options.persist = true;
            } else if let Some((moment, unit)) = expiry_word(word)
                && options.expiry.is_none()
                && !options.persist
            {
                options.expiry = Some((rest.next().ok_or(Refusal::SYNTAX)?, moment, unit));
            } else {
                return Err(Refusal::SYNTAX);
            }
        }
        Ok(options)
    }

    pub(super) fn expires(
        &self,
        command: &str,
        now: UnixMillis,
    ) -> Result<Option<UnixMillis>, Refusal> {
        self.expiry
            .map(|(text, moment, unit)| {
                let base = if moment { UnixMillis(0) } else { now };
                expiry_of(text, unit, base, command)
            })
            .transpose()
    }

    /// What a write that comes to pass does to the key's expiry, which `expires` says.
    pub(super) fn set_expiry(&self, expires: Option<UnixMillis>) -> SetExpiry {
        match expires {
            Some(at) => SetExpiry::At(at),
            None if self.keep_ttl => SetExpiry::Keep,
            None => SetExpiry::Clear,
        }
    }
}

/// Whether `key` holds this very string.
fn equals(call: &mut Call<'_>, key: Key<'_>, value: &[u8]) -> Result<bool, Refusal> {
    let there = call.keyspace.string(key, call.now)?;
    Ok(there.is_some_and(|string| string.text(&mut [0; 20]) == value))
}

/// EX, PX, EXAT, PXAT: whether a moment is meant, and the unit.
fn expiry_word(word: &[u8]) -> Option<(bool, TimeUnit)> {
    [
        (&b"ex"[..], false, TimeUnit::Seconds),
        (b"px", false, TimeUnit::Millis),
        (b"exat", true, TimeUnit::Seconds),
        (b"pxat", true, TimeUnit::Millis),
    ]
    .into_iter()
    .find(|(name, ..)| word.eq_ignore_ascii_case(name))
    .map(|(_, moment, unit)| (moment, unit))
}

pub fn set(call: &mut Call<'_>) -> Result<(), Refusal> {
    let (key, value) = (call.key(1), call.request.arg(2));
    if call.request.len() == 3 {
        call.keyspace
            .set_string(key, value, Store::Encoded, SetExpiry::Clear, call.now);
        call.say(Classes::STRING, "set", key);
        call.effects.verbatim();
        call.reply.ok();
        return Ok(());
    }
    let options = Options::of_set(call)?;
    let expires = options.expires("set", call.now)?;
    if options.get {
        match call.keyspace.string(key, call.now)? {
            Some(string) => write_string(&mut call.reply, string),
            None => call.reply.null(),
        }
    }
    let goes_on = if let Some(value) = options.equals {
        equals(call, key, value)?
    } else if options.only_absent || options.only_present {
        call.keyspace.is_there(key, call.now) == options.only_present
    } else {
        true
    };
    if !goes_on {
        if !options.get {
            call.reply.null();
        }
        return Ok(());
    }
    set_with_effect(call, key, value, options.set_expiry(expires));
    if !options.get {
        call.reply.ok();
    }
    Ok(())
}

/// Sets, and leaves the SET that says exactly what was set.
pub(super) fn set_with_effect(call: &mut Call<'_>, key: Key<'_>, value: &[u8], expiry: SetExpiry) {
    call.keyspace
        .set_string(key, value, Store::Encoded, expiry, call.now);
    call.say(Classes::STRING, "set", key);
    if matches!(expiry, SetExpiry::At(_)) {
        call.say(Classes::GENERIC, "expire", key);
    }
    match expiry {
        SetExpiry::Clear => call.effects.push([&b"SET"[..], key.bytes(), value]),
        SetExpiry::Keep => {
            call.effects
                .push([&b"SET"[..], key.bytes(), value, b"KEEPTTL"]);
        }
        SetExpiry::At(at) => {
            let mut digits = [0; 20];
            let at = decimal(&mut digits, at.0);
            call.effects
                .push([&b"SET"[..], key.bytes(), value, b"PXAT", at]);
        }
    }
}

pub fn setnx(call: &mut Call<'_>) -> Result<(), Refusal> {
    let key = call.key(1);
    let absent = !call.keyspace.is_there(key, call.now);
    if absent {
        let value = call.request.arg(2);
        call.keyspace
            .set_string(key, value, Store::Encoded, SetExpiry::Clear, call.now);
        call.say(Classes::STRING, "set", key);
        call.effects.verbatim();
    }
    call.reply.int(absent.into());
    Ok(())
}

pub fn setex(call: &mut Call<'_>) -> Result<(), Refusal> {
    set_for(call, TimeUnit::Seconds, "setex")
}

pub fn psetex(call: &mut Call<'_>) -> Result<(), Refusal> {
    set_for(call, TimeUnit::Millis, "psetex")
}

fn set_for(call: &mut Call<'_>, unit: TimeUnit, command: &str) -> Result<(), Refusal> {
    let at = expiry_of(call.request.arg(2), unit, call.now, command)?;
    let (key, value) = (call.key(1), call.request.arg(3));
    set_with_effect(call, key, value, SetExpiry::At(at));
    call.reply.ok();
    Ok(())
}

pub fn getset(call: &mut Call<'_>) -> Result<(), Refusal> {
    get(call)?;
    let (key, value) = (call.key(1), call.request.arg(2));
    set_with_effect(call, key, value, SetExpiry::Clear);
    Ok(())
}

pub fn getdel(call: &mut Call<'_>) -> Result<(), Refusal> {
    get(call)?;
    let key = call.key(1);
    if call.keyspace.remove(key, call.now) {
        call.say(Classes::GENERIC, "del", key);
        call.effects.push([b"DEL", key.bytes()]);
    }
    Ok(())
}

pub fn delifeq(call: &mut Call<'_>) -> Result<(), Refusal> {
    let key = call.key(1);
    let goes = equals(call, key, call.request.arg(2))?;
    if goes && call.keyspace.remove(key, call.now) {
        call.say(Classes::GENERIC, "del", key);
        call.effects.push([b"DEL", key.bytes()]);
    }
    call.reply.int(goes.into());
    Ok(())
}

pub fn getex(call: &mut Call<'_>) -> Result<(), Refusal> {
    let options = Options::of_getex(call)?;
    let key = call.key(1);
    let Some(string) = call.keyspace.string(key, call.now)? else {
        call.reply.null();
        return Ok(());
    };
    let expires = options.expires("getex", call.now)?;
    write_string(&mut call.reply, string);
    match expires {
        Some(at) if at <= call.now => {
            call.keyspace.remove(key, call.now);
            call.say(Classes::GENERIC, "del", key);
            call.effects.push([b"DEL", key.bytes()]);
        }
        Some(at) => {
            call.keyspace.set_expiry(key, Some(at), call.now);
            call.say(Classes::GENERIC, "expire", key);
            args::push_pexpireat(call.effects, key.bytes(), at);
        }
        None if options.persist && call.keyspace.expiry_of(key, call.now).flatten().is_some() => {
            call.keyspace.set_expiry(key, None, call.now);
            call.say(Classes::GENERIC, "persist", key);
            call.effects.push([b"PERSIST", key.bytes()]);
        }
        None => {}
    }
    Ok(())
}

pub fn append(call: &mut Call<'_>) -> Result<(), Refusal> {
    let (key, tail) = (call.key(1), call.request.arg(2));
    let max = call.keyspace.string_bytes_max();
    let grow = |len: Option<usize>| match len {
        None => Ok(None),
        Some(len) => sum_of_lengths(len, tail.len(), max).map(Some),
    };
    let put = |bytes: &mut [u8]| {
        let start = bytes.len() - tail.len();
        bytes[start..].copy_from_slice(tail);
    };
    let len = match call.keyspace.edit_string(key, call.now, grow, put)? {
        Some(len) => len,
        None => {
            call.keyspace
                .set_string(key, tail, Store::Encoded, SetExpiry::Clear, call.now);
            tail.len()
        }
    };
    call.say(Classes::STRING, "append", key);
    call.effects.verbatim();
    call.reply.int(len as i64);
    Ok(())
}

fn sum_of_lengths(a: usize, b: usize, max: usize) -> Result<usize, Refusal> {
    a.checked_add(b)
        .filter(|&sum| sum <= max)
        .ok_or(Refusal::TOO_LONG)
}

pub fn setrange(call: &mut Call<'_>) -> Result<(), Refusal> {
    let offset = int_arg(call.request, 2)?;
    let offset =
        usize::try_from(offset).map_err(|_| Refusal::fixed("ERR offset is out of range"))?;
    let (key, patch) = (call.key(1), call.request.arg(3));
    let max = call.keyspace.string_bytes_max();
    let mut len_before = 0;
    let grow = |len: Option<usize>| {
        len_before = len.unwrap_or(0);
        if patch.is_empty() {
            return Ok(None);
        }
        Ok(Some(
            sum_of_lengths(offset, patch.len(), max)?.max(len_before),
        ))
    };
    let put = |bytes: &mut [u8]| bytes[offset..offset + patch.len()].copy_from_slice(patch);
    match call.keyspace.edit_string(key, call.now, grow, put)? {
        Some(len) => {
            call.say(Classes::STRING, "setrange", key);
            call.effects.verbatim();
            call.reply.int(len as i64);
        }
        None => call.reply.int(len_before as i64),
    }
    Ok(())
}

pub fn getrange(call: &mut Call<'_>) -> Result<(), Refusal> {
    let (start, end) = (int_arg(call.request, 2)?, int_arg(call.request, 3)?);
    let key = call.key(1);
    let mut digits = [0; 20];
    let text = match call.keyspace.string(key, call.now)? {
        Some(string) => string.text(&mut digits),
        None => b"",
    };
    call.reply.bulk(range_of(text, start, end));
    Ok(())
}

/// GETRANGE by its old name.
pub fn substr(call: &mut Call<'_>) -> Result<(), Refusal> {
    getrange(call)
}

/// Both ends included; negative ones count from the end.
fn range_of(text: &[u8], start: i64, end: i64) -> &[u8] {
    let len = text.len() as i64;
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let from_start = |at: i64| if at < 0 { (len + at).max(0) } else { at };
    let (start, end) = (from_start(start), from_start(end).min(len - 1));
    if start > end || len == 0 {
        return b"";
    }
    &text[start as usize..=end as usize]
}

pub fn strlen(call: &mut Call<'_>) -> Result<(), Refusal> {
    let key = call.key(1);
    let len = call.keyspace.string(key, call.now)?.map_or(0, |s| s.len());
    call.reply.int(len as i64);
    Ok(())
}

pub fn incr(call: &mut Call<'_>) -> Result<(), Refusal> {
    add(call, 1)
}

pub fn decr(call: &mut Call<'_>) -> Result<(), Refusal> {
    add(call, -1)
}

pub fn incrby(call: &mut Call<'_>) -> Result<(), Refusal> {
    let by = int_arg(call.request, 2)?;
    add(call, by)
}

pub fn decrby(call: &mut Call<'_>) -> Result<(), Refusal> {
    let by = int_arg(call.request, 2)?
        .checked_neg()
        .ok_or(Refusal::fixed("ERR decrement would overflow"))?;
    add(call, by)
}

fn add(call: &mut Call<'_>, by: i64) -> Result<(), Refusal> {
    let key = call.key(1);
    let sum = call.keyspace.update_int(key, call.now, |string| {
        let before = match string {
            None => 0,
            Some(string) => args::int_of(string)?,
        };
        before.checked_add(by).ok_or(Refusal::INCREMENT_OVERFLOW)
    })?;
    call.say(Classes::STRING, "incrby", key);
    call.effects.verbatim();
    call.reply.int(sum);
    Ok(())
}

pub fn incrbyfloat(call: &mut Call<'_>) -> Result<(), Refusal> {
    let key = call.key(1);
    // No read: a key that is over goes, others are looked at where they are.
    call.keyspace.is_there(key, call.now);
    let before = match call.keyspace.peek_string(key, call.now)? {
        None => Parsed::Finite(LongDouble::ZERO),
        Some(string) => parse_float(string.text(&mut [0; 20]))?,
    };
    let by = parse_float(call.request.arg(2))?;
    let sum = match (before, by) {
        (Parsed::Finite(a), Parsed::Finite(b)) => a.checked_add(b),
        (Parsed::Infinite, _) | (_, Parsed::Infinite) => None,
    };
    let text = sum.ok_or(Refusal::INCREMENT_NAN_OR_INF)?.to_text();
    let text = text.as_bytes();
    call.keyspace
        .set_string(key, text, Store::Plain, SetExpiry::Keep, call.now);
    call.say(Classes::STRING, "incrbyfloat", key);
    call.effects
        .push([&b"SET"[..], key.bytes(), text, b"KEEPTTL"]);
    call.reply.bulk(text);
    Ok(())
}

fn parse_float(text: &[u8]) -> Result<Parsed, Refusal> {
    LongDouble::parse(text).ok_or(Refusal::NOT_A_FLOAT)
}

pub fn mget(call: &mut Call<'_>) -> Result<(), Refusal> {
    let mut keys = call.request.args_from(1);
    call.reply.array(keys.len());
    let mut places = [KeyPlace::FIRST; WARM_KEYS_MAX];
    while keys.len() > 0 {
        // So many keys are brought from memory at once; one after the other would wait for each.
        let places = &mut places[..keys.len().min(WARM_KEYS_MAX)];
        for (place, key) in places.iter_mut().zip(keys.clone()) {
            *place = call.keyspace.place_of(key);
        }
        call.keyspace.warm(places);
        for (place, key) in places.iter().zip(keys.by_ref()) {
            match call.keyspace.string(Key::placed(key, *place), call.now) {
                Ok(Some(string)) => write_string(&mut call.reply, string),
                Ok(None) | Err(_) => call.reply.null(),
            }
        }
    }
    Ok(())
}

pub fn mset(call: &mut Call<'_>) -> Result<(), Refusal> {
    pairs_or_refuse(call, "mset")?;
    set_pairs(call);
    call.reply.ok();
    Ok(())
}

pub fn msetnx(call: &mut Call<'_>) -> Result<(), Refusal> {
    pairs_or_refuse(call, "msetnx")?;
    for index in (1..call.request.len()).step_by(2) {
        let key = call.key(index);
        if call.keyspace.is_there(key, call.now) {
            call.reply.int(0);
            return Ok(());
        }
    }
    set_pairs(call);
    call.reply.int(1);
    Ok(())
}

fn pairs_or_refuse(call: &Call<'_>, command: &str) -> Result<(), Refusal> {
    match call.request.len() % 2 {
        1 => Ok(()),
        _ => Err(Refusal::wrong_arity(command)),
    }
}

fn set_pairs(call: &mut Call<'_>) {
    let one_slot = args::in_one_slot(call.request.args_from(1).step_by(2));
    for index in (1..call.request.len()).step_by(2) {
        let (key, value) = (call.key(index), call.request.arg(index + 1));
        call.keyspace
            .set_string(key, value, Store::Encoded, SetExpiry::Clear, call.now);
        call.say(Classes::STRING, "set", key);
        if !one_slot {
            call.effects.push([&b"SET"[..], key.bytes(), value]);
        }
    }
    if one_slot {
        call.effects.verbatim();
    }
}

/// A string's bytes for commands that compare whole values.
pub(super) fn to_bytes(string: StringRef<'_>) -> Vec<u8> {
    string.text(&mut [0; 20]).to_vec()
}
