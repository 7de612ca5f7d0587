//! DUMP and RESTORE.

use larder_wire::resp::write::decimal;
use larder_wire::{Refusal, UnixMillis};

use super::args::int_arg;
use crate::call::Call;
use crate::events::Classes;
use crate::eviction;
use crate::rdb::{self, Malformed};

pub fn dump(call: &mut Call<'_>) -> Result<(), Refusal> {
    let key = call.key(1);
    let write = match call.keyspace.collections().compresses_dumps {
        true => rdb::to_compressed_payload,
        false => rdb::to_payload,
    };
    match call.keyspace.value(key, call.now) {
        None => call.reply.null(),
        Some(value) => {
            let mut payload = Vec::new();
            write(value, &mut payload);
            call.reply.bulk(&payload);
        }
    }
    Ok(())
}

#[derive(Default)]
struct Options {
    replace: bool,
    absolute: bool,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
}

impl Options {
    fn of(call: &Call<'_>) -> Result<Options, Refusal> {
        let mut options = Options::default();
        let mut at = 4;
        while let Some(word) = call.request.get(at) {
            let more = at + 1 < call.request.len();
            if word.eq_ignore_ascii_case(b"replace") {
                options.replace = true;
            } else if word.eq_ignore_ascii_case(b"absttl") {
                options.absolute = true;
            } else if word.eq_ignore_ascii_case(b"idletime") && more && options.frequency.is_none()
            {
                at += 1;
                let idle = u64::try_from(int_arg(call.request, at)?)
                    .map_err(|_| Refusal::fixed("ERR Invalid IDLETIME value, must be >= 0"))?;
                options.idle_seconds = Some(idle);
            } else if word.eq_ignore_ascii_case(b"freq") && more && options.idle_seconds.is_none() {
                at += 1;
                let frequency = u8::try_from(int_arg(call.request, at)?).map_err(|_| {
                    Refusal::fixed("ERR Invalid FREQ value, must be >= 0 and <= 255")
                })?;
                options.frequency = Some(frequency);
            } else {
                return Err(Refusal::SYNTAX);
            }
            at += 1;
        }
        Ok(options)
    }

    fn expires(&self, ttl: i64, now: UnixMillis) -> Option<UnixMillis> {
        match ttl {
            0 => None,
            ttl if self.absolute => Some(UnixMillis(ttl)),
            ttl => Some(UnixMillis(now.0.saturating_add(ttl))),
        }
    }
}

pub fn restore(call: &mut Call<'_>) -> Result<(), Refusal> {
    let options = Options::of(call)?;
    let key = call.key(1);
    if !options.replace && call.keyspace.is_there(key, call.now) {
        return Err(Refusal::BUSY_KEY);
    }
    let ttl = int_arg(call.request, 2)?;
    if ttl < 0 {
        return Err(Refusal::fixed("ERR Invalid TTL value, must be >= 0"));
    }
    let payload = call.request.arg(3);
    let settings = call.keyspace.collections();
    let value = rdb::from_payload(payload, &settings).map_err(|malformed| match malformed {
        Malformed::Footer => Refusal::fixed("ERR DUMP payload version or checksum are wrong"),
        Malformed::Data => Refusal::fixed("ERR Bad data format"),
    })?;
    let expires = options.expires(ttl, call.now);
    if expires.is_some_and(|at| at <= call.now) {
        if options.replace && call.keyspace.remove(key, call.now) {
            call.say(Classes::GENERIC, "del", key);
            call.effects.push([b"DEL", key.bytes()]);
        }
        call.reply.ok();
        return Ok(());
    }
    call.say_replaced(key);
    call.keyspace.insert(key, value, expires, call.now);
    if let Some(idle) = options.idle_seconds {
        let access = eviction::idle_since(idle, call.now);
        if call.keyspace.config().eviction.keeps_idle_time() {
            call.keyspace.set_access(key, access, call.now);
        }
    }
    if let Some(frequency) = options.frequency {
        let access = eviction::with_frequency(frequency, call.now);
        if call.keyspace.config().eviction.is_lfu() {
            call.keyspace.set_access(key, access, call.now);
        }
    }
    call.say(Classes::GENERIC, "restore", key);
    leave_effect(call, expires, options.absolute);
    call.reply.ok();
    Ok(())
}

/// The span in the request becomes a moment.
fn leave_effect(call: &mut Call<'_>, expires: Option<UnixMillis>, absolute: bool) {
    let Some(expires) = expires.filter(|_| !absolute) else {
        return call.effects.verbatim();
    };
    let request = call.request;
    let mut digits = [0; 20];
    let at = decimal(&mut digits, expires.0);
    let mut args = vec![&b"RESTORE"[..], request.arg(1), at];
    args.extend(request.args_from(3));
    args.push(b"ABSTTL");
    call.effects.push(args);
}

/// RESTORE by the name that MIGRATE uses.
pub fn restore_asking(call: &mut Call<'_>) -> Result<(), Refusal> {
    restore(call)
}
