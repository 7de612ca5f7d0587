//! All databases as one RDB file of version 10.

use larder_wire::{Slot, UnixMillis};

use super::write::{Writer, write_length, write_text, write_value};
use super::{VERSION_WRITTEN, crc64::crc64};
use crate::databases::Databases;
use crate::entry::Tray;
use crate::walk::Place;

const SELECT_DB: u8 = 0xFE;
const RESIZE_DB: u8 = 0xFB;
const EXPIRES_MS: u8 = 0xFC;
const END: u8 = 0xFF;

/// Every visible key that has not expired, with its database and its time.
pub fn snapshot(databases: &Databases, now: UnixMillis) -> Vec<u8> {
    let mut bytes = format!("REDIS{VERSION_WRITTEN:04}").into_bytes();
    let mut value = Vec::new();
    let compress = databases.collections().compresses_dumps;
    let (mut out, mut values) = (
        Writer::new(&mut bytes, compress),
        Writer::new(&mut value, compress),
    );
    for (db, keyspace) in databases.iter().filter(|(_, space)| !space.is_empty()) {
        out.push(SELECT_DB);
        write_length(db.number().into(), &mut out);
        out.push(RESIZE_DB);
        write_length(keyspace.visible_len() as u64, &mut out);
        write_length(keyspace.expiring_len() as u64, &mut out);
        for slot in Slot::all().filter(|slot| keyspace.is_visible(*slot)) {
            keyspace.walk_slot(slot, Place::START, usize::MAX, |item| {
                if item.is_due(now) {
                    return;
                }
                if let Some(at) = item.expires() {
                    out.push(EXPIRES_MS);
                    out.extend_from_slice(&at.0.to_le_bytes());
                }
                // The type stands before the key, the value behind it.
                values.bytes.clear();
                write_value(item.value(&mut Tray::default()), &mut values);
                out.push(values.bytes[0]);
                write_text(item.key(), &mut out);
                out.extend_from_slice(&values.bytes[1..]);
            });
        }
    }
    out.push(END);
    let crc = crc64(0, &bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}
