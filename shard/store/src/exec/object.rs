//! OBJECT: what a key's value is made of, and what eviction knows of it.

use larder_wire::Refusal;

use crate::call::Call;
use crate::collection::EncodingNames;
use crate::entry::{EntryRef, Tray};
use crate::eviction;
use crate::value::{Collection, StringRef, ValueRef};

/// Longest string that Redis keeps in one block with its object.
const EMBEDDED_BYTES_MAX: usize = 44;
/// Integers below share one object in Redis, which OBJECT REFCOUNT shows by this count.
const SHARED_INTS: i64 = 10_000;
const SHARED_REFERENCES: i64 = i32::MAX as i64;

pub fn encoding(call: &mut Call<'_>) -> Result<(), Refusal> {
    let key = call.key(2);
    let names = call.keyspace.collections().names;
    match call.keyspace.inspect(key, call.now) {
        Some(entry) => call.reply.bulk(encoding_of(entry, names).as_bytes()),
        None => call.reply.null(),
    }
    Ok(())
}

pub(crate) fn encoding_of(entry: EntryRef<'_>, names: EncodingNames) -> &'static str {
    match (entry.value(&mut Tray::default()), names) {
        (ValueRef::Collection(Collection::List(_)), EncodingNames::Redis70) => "quicklist",
        (ValueRef::Collection(Collection::Set(set)), EncodingNames::Redis70)
            if set.encoding() == "listpack" =>
        {
            "hashtable"
        }
        (ValueRef::Collection(collection), _) => collection.encoding(),
        (ValueRef::String(StringRef::Int(_)), _) => "int",
        (ValueRef::String(StringRef::Bytes(bytes)), _) => {
            if bytes.len() <= EMBEDDED_BYTES_MAX && !entry.is_changed() {
                "embstr"
            } else {
                "raw"
            }
        }
    }
}

pub fn refcount(call: &mut Call<'_>) -> Result<(), Refusal> {
    let key = call.key(2);
    let config = call.keyspace.config();
    let sharing = config.maxmemory == 0 || !config.eviction.looks_at_accesses();
    match call.keyspace.inspect(key, call.now).map(EntryRef::string) {
        Some(Some(StringRef::Int(0..SHARED_INTS))) if sharing => {
            call.reply.int(SHARED_REFERENCES);
        }
        Some(_) => call.reply.int(1),
        None => call.reply.null(),
    }
    Ok(())
}

pub fn idletime(call: &mut Call<'_>) -> Result<(), Refusal> {
    let (key, policy) = (call.key(2), call.keyspace.config().eviction);
    match call.keyspace.inspect(key, call.now).map(EntryRef::access) {
        None => call.reply.null(),
        Some(_) if policy.is_lrfu() => {
            return Err(Refusal::fixed(
                "ERR An LRFU maxmemory policy is selected, idle time not tracked.",
            ));
        }
        Some(_) if policy.is_lfu() => {
            return Err(Refusal::fixed(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        Some(access) => {
            let idle = eviction::idle_seconds(access, call.now);
            call.reply.int(idle.into());
        }
    }
    Ok(())
}

pub fn freq(call: &mut Call<'_>) -> Result<(), Refusal> {
    let key = call.key(2);
    let (policy, tuning) = (
        call.keyspace.config().eviction,
        call.keyspace.config().tuning,
    );
    match call.keyspace.inspect(key, call.now).map(EntryRef::access) {
        None => call.reply.null(),
        Some(access) if policy.is_lfu() => {
            let frequency = eviction::frequency(access, call.now, tuning);
            call.reply.int(frequency.into());
        }
        Some(_) => {
            return Err(Refusal::fixed(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
    }
    Ok(())
}

/// As Redis answers it.
const HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

pub fn help(call: &mut Call<'_>) -> Result<(), Refusal> {
    call.reply.array(HELP.len());
    for line in HELP {
        call.reply.simple(line);
    }
    Ok(())
}
