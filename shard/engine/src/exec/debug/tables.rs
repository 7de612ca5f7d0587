//! DEBUG HTSTATS, HTSTATS-KEY and LISTPACK: what tables and packed values take.
//!
//! Redis' lengths of chains are not shown: entries lie in buckets of one cache line, and none is behind another.

use larder_store::Db;
use larder_wire::Refusal;

use super::described;
use crate::turn::{Outcome, Turn};

const OUT_OF_RANGE: Refusal = Refusal::fixed("ERR Out of range database");
const NO_TABLE: Refusal = Refusal::fixed(
    "ERR The value stored at the specified key is not represented using an hash table",
);
const NOT_PACKED: Refusal = Refusal::fixed("ERR Not a listpack encoded object.");

pub(super) fn of_database(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let db = Db::new(turn.arg_int(2)?).ok_or(OUT_OF_RANGE)?;
    let (keys, bytes, expiring) = turn.node.databases.get(db).map_or((0, 0, 0), |space| {
        (space.len(), space.table_bytes(), space.expiring_len())
    });
    let mut text = "[Dictionary HT]\n".to_owned();
    text += &match keys {
        0 => "No stats available for empty dictionaries\n".to_owned(),
        keys => format!(" number of elements: {keys}\n table bytes: {bytes}\n"),
    };
    text += "[Expires HT]\n";
    text += &match expiring {
        0 => "No stats available for empty dictionaries\n".to_owned(),
        keys => format!(" number of elements: {keys}\n"),
    };
    turn.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

pub(super) fn of_key(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let found = described(turn)?;
    if !matches!(found.encoding, "hashtable" | "skiplist") {
        return Err(NO_TABLE);
    }
    let text = format!(
        " number of elements: {}\n bytes: {}\n",
        found.elements, found.heap_bytes
    );
    turn.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

pub(super) fn packed(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let found = described(turn)?;
    if found.encoding != "listpack" {
        return Err(NOT_PACKED);
    }
    let text = format!("{} elements in {} bytes", found.elements, found.heap_bytes);
    turn.reply.simple(&text);
    Ok(Outcome::Done)
}
