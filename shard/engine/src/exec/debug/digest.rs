//! DEBUG DIGEST and DIGEST-VALUE: twenty bytes that stand for what is stored, whatever order it is stored in.
//!
//! A value's parts are joined by exclusive or where their order means nothing, and mixed (the digest of the digest) where it does. The
//! same data gives the same digest as in Redis (its debug.c).

use larder_store::{Collection, Place, Tray, ValueRef, ValueType};
use larder_wire::float::{DOUBLE_TEXT_BYTES_MAX, format_double};
use larder_wire::{Refusal, Slot};

use crate::node::Node;
use crate::sha1::{Digest, sha1};
use crate::turn::{Outcome, Turn};

#[derive(Clone, Copy, Default)]
struct Sum(Digest);

impl Sum {
    fn xor(&mut self, bytes: &[u8]) {
        self.join(sha1(bytes));
    }

    fn join(&mut self, other: Digest) {
        for (mine, byte) in self.0.iter_mut().zip(other) {
            *mine ^= byte;
        }
    }

    fn mix(&mut self, bytes: &[u8]) {
        self.xor(bytes);
        self.0 = sha1(&self.0);
    }

    fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

pub(super) fn digest(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let text = of_all(turn.node).hex();
    turn.reply.simple(&text);
    Ok(Outcome::Done)
}

/// One digest a key; zeros for one that is not there.
pub(super) fn digest_value(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let request = turn.request;
    turn.reply.array(request.len() - 2);
    for key in request.args_from(2) {
        let mut sum = Sum::default();
        let captured = turn.node.databases.at(turn.session.db).capture(key);
        if let Some(captured) = captured {
            add_value(&mut sum, captured.value.view(), captured.expires.is_some());
        }
        turn.reply.simple(&sum.hex());
    }
    Ok(Outcome::Done)
}

fn of_all(node: &Node) -> Sum {
    let mut all = Sum::default();
    for (db, keyspace) in node.databases.iter() {
        if keyspace.is_empty() {
            continue;
        }
        all.mix(&u32::from(db.number()).to_be_bytes());
        for slot in Slot::all().filter(|slot| keyspace.slot_len(*slot) > 0) {
            let end = keyspace.walk_slot(slot, Place::START, usize::MAX, |item| {
                let mut sum = Sum::default();
                sum.mix(item.key());
                add_value(
                    &mut sum,
                    item.value(&mut Tray::default()),
                    item.expires().is_some(),
                );
                all.xor(&sum.0);
            });
            debug_assert!(end.is_none(), "a walk without limit comes to the end");
        }
    }
    all
}

/// Redis' number of a type.
fn type_number(value: ValueType) -> u32 {
    match value {
        ValueType::String => 0,
        ValueType::List => 1,
        ValueType::Set => 2,
        ValueType::ZSet => 3,
        ValueType::Hash => 4,
        ValueType::Stream => 6,
    }
}

fn add_value(sum: &mut Sum, value: ValueRef<'_>, expires: bool) {
    sum.mix(&type_number(value.value_type()).to_be_bytes());
    let mut digits = [0; 20];
    match value {
        ValueRef::String(string) => sum.mix(string.text(&mut digits)),
        ValueRef::Collection(Collection::List(list)) => {
            for element in list.iter() {
                sum.mix(element.text(&mut digits));
            }
        }
        ValueRef::Collection(Collection::Set(set)) => {
            for member in set.iter() {
                sum.xor(member.text(&mut digits));
            }
        }
        ValueRef::Collection(Collection::ZSet(zset)) => {
            for (member, score) in zset.iter() {
                let mut pair = Sum::default();
                pair.mix(member.text(&mut digits));
                pair.mix(format_double(&mut [0; DOUBLE_TEXT_BYTES_MAX], score));
                sum.xor(&pair.0);
            }
        }
        ValueRef::Collection(Collection::Hash(hash)) => {
            for (field, value) in hash.iter() {
                let mut pair = Sum::default();
                pair.mix(field.text(&mut digits));
                pair.mix(value.text(&mut digits));
                sum.xor(&pair.0);
            }
        }
        ValueRef::Collection(Collection::Stream(stream)) => {
            for entry in stream.iter_from(0) {
                sum.mix(format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
                entry.items().1.for_each(|item| sum.mix(item));
            }
        }
    }
    if expires {
        sum.xor(b"!!expire!!");
    }
}
