//! SCAN and KEYS.
//!
//! A cursor is a place in the order (slot, hash): its low 14 bits are the slot, the rest the top 48 bits of the hash to go on
//! from. The order is the same on every node of a cluster, so a cursor keeps its meaning when slots move. `SLOTS a-b`, which Redis does not
//! have, ends the scan after slot `b`: a proxy scans the ranges of one node after the other. It is refused when
//! not all of these slots are shown here: a proxy whose map is old would otherwise pass over keys in silence.

use larder_wire::glob;
use larder_wire::{Refusal, Slot, SlotSet, UnixMillis};

use crate::call::Call;
use crate::keyspace::Keyspace;
use crate::number::parse_i64;
use crate::walk::{Item, Place};

const SLOT_BITS: u32 = 14;
/// Bits of a hash that a cursor leaves out: a bucket is never so small.
const HASH_BITS_LEFT_OUT: u32 = 16;
const COUNT_DEFAULT: usize = 10;

struct Options<'a> {
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    count: usize,
    slots: Option<SlotSet>,
}

impl<'a> Options<'a> {
    fn of(call: &Call<'a>) -> Result<Options<'a>, Refusal> {
        let mut options = Options {
            pattern: None,
            kind: None,
            count: COUNT_DEFAULT,
            slots: None,
        };
        let mut rest = call.request.args_from(2);
        while let (Some(word), value) = (rest.next(), rest.next()) {
            let value = value.ok_or(Refusal::SYNTAX)?;
            if word.eq_ignore_ascii_case(b"count") {
                let count = parse_i64(value).ok_or(Refusal::NOT_AN_INTEGER)?;
                options.count = usize::try_from(count)
                    .ok()
                    .filter(|&count| count > 0)
                    .ok_or(Refusal::SYNTAX)?;
            } else if word.eq_ignore_ascii_case(b"match") {
                options.pattern = Some(value).filter(|pattern| *pattern != b"*");
            } else if word.eq_ignore_ascii_case(b"type") {
                options.kind = Some(value);
            } else if word.eq_ignore_ascii_case(b"slots") {
                let slots = std::str::from_utf8(value).ok();
                let slots = slots.and_then(|text| text.parse().ok());
                options.slots = Some(slots.ok_or(Refusal::SYNTAX)?);
            } else {
                return Err(Refusal::SYNTAX);
            }
        }
        Ok(options)
    }

    fn wants(&self, item: &Item<'_>, now: UnixMillis) -> bool {
        !item.is_due(now) && self.matches(item)
    }

    /// Whether the walk is about this key, be it due or not.
    fn matches(&self, item: &Item<'_>) -> bool {
        self.pattern
            .is_none_or(|pattern| glob::matches(pattern, item.key()))
            && self
                .kind
                .is_none_or(|kind| kind.eq_ignore_ascii_case(item.value_type().name().as_bytes()))
    }
}

pub fn scan(call: &mut Call<'_>) -> Result<(), Refusal> {
    let cursor = parse_cursor(call.request.arg(1)).ok_or(Refusal::INVALID_CURSOR)?;
    let options = Options::of(call)?;
    if let Some(slots) = &options.slots
        && !call.keyspace.shows_all(slots)
    {
        return Err(Refusal::TRY_AGAIN);
    }
    let mut keys: Vec<Box<[u8]>> = Vec::new();
    let mut due: Vec<Box<[u8]>> = Vec::new();
    let next = scan_keyspace(call.keyspace, cursor, &options, |item| {
        if options.matches(&item) {
            let list = if item.is_due(call.now) {
                &mut due
            } else {
                &mut keys
            };
            list.push(item.key().into());
        }
    });
    // Whoever looks at a key that has expired removes it.
    for key in due {
        let there = call.keyspace.is_there(&*key, call.now);
        debug_assert!(!there, "a key that is due is not there");
    }
    call.reply.array(2);
    call.reply.bulk(next.to_string().as_bytes());
    call.reply.array(keys.len());
    for key in keys {
        call.reply.bulk(&key);
    }
    Ok(())
}

/// Shows at least `options.count` keys, if there are so many, and returns the cursor to go on from, 0 at the end.
fn scan_keyspace(
    keyspace: &Keyspace,
    cursor: u64,
    options: &Options<'_>,
    mut show: impl FnMut(Item<'_>),
) -> u64 {
    let mut seen = 0;
    let mut from = Slot::new((cursor & ((1 << SLOT_BITS) - 1)) as u16);
    let mut place = Place(cursor >> SLOT_BITS << HASH_BITS_LEFT_OUT);
    loop {
        let Some(slot) = from.and_then(|from| next_slot(keyspace, from, options)) else {
            return 0;
        };
        if from != Some(slot) {
            place = Place::START;
        }
        if seen >= options.count {
            return place.0 >> HASH_BITS_LEFT_OUT << SLOT_BITS | u64::from(slot.number());
        }
        let next = keyspace.walk_slot(slot, place, options.count - seen, |item| {
            seen += 1;
            show(item);
        });
        match next {
            Some(next) => (from, place) = (Some(slot), next),
            None => (from, place) = (slot.next(), Place::START),
        }
    }
}

fn next_slot(keyspace: &Keyspace, from: Slot, options: &Options<'_>) -> Option<Slot> {
    let mut from = from;
    loop {
        let slot = keyspace.visible_slot_from(from)?;
        match &options.slots {
            Some(slots) if !slots.contains(slot) => from = slots.first_from(slot)?,
            Some(_) | None => return Some(slot),
        }
    }
}

/// A cursor as C's `strtoul` reads it.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let cursor: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if negative {
        cursor.wrapping_neg()
    } else {
        cursor
    })
}

pub fn keys(call: &mut Call<'_>) -> Result<(), Refusal> {
    let options = Options {
        pattern: Some(call.request.arg(1)).filter(|pattern| *pattern != b"*"),
        kind: None,
        count: usize::MAX,
        slots: None,
    };
    let mut count = 0;
    let mut bulks = Vec::new();
    scan_keyspace(call.keyspace, 0, &options, |item| {
        if options.wants(&item, call.now) {
            count += 1;
            larder_wire::resp::write::bulk_header(&mut bulks, item.key().len());
            bulks.extend_from_slice(item.key());
            bulks.extend_from_slice(b"\r\n");
        }
    });
    call.reply.array(count);
    call.reply.buffer().extend_from_slice(&bulks);
    Ok(())
}
