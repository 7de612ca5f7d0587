//! Writes an RDB file of version 10, or of Valkey's when that has to be, a record at a time.
//!
//! What is written goes to whoever takes the bytes; what has gone is told to the checksum.

use larder_wire::UnixMillis;

use super::crc64::crc64;
use super::lzf::Lzf;
use super::write::{
    Writer, type_of, write_elements, write_head, write_length, write_text, write_value,
};
use super::{LIBRARY, VERSION_VALKEY, VERSION_WRITTEN};
use crate::collection::pieces::Budget;
use crate::db::Db;
use crate::value::{Collection, Value, ValueRef};
use crate::walk::Captured;

/// What may stand in a type's place.
pub(super) const SLOT_INFO: u8 = 0xF4;
pub(super) const FUNCTION_OF_A_CANDIDATE: u8 = 0xF6;
pub(super) const MODULE_AUX: u8 = 0xF7;
/// A type of value rather than of record.
pub(super) const VALUE_OF_A_MODULE: u8 = 7;
pub(super) const IDLE: u8 = 0xF8;
pub(super) const FREQUENCY: u8 = 0xF9;
pub(super) const AUX: u8 = 0xFA;
pub(super) const RESIZE_DB: u8 = 0xFB;
pub(super) const EXPIRES_MS: u8 = 0xFC;
pub(super) const EXPIRES_S: u8 = 0xFD;
pub(super) const SELECT_DB: u8 = 0xFE;
pub(super) const END: u8 = 0xFF;

/// Most elements and bytes of a piece of a large record; an element that is larger goes alone.
const PIECE_ELEMENTS_MAX: usize = 512;
const PIECE_BYTES_MAX: usize = 16 * 1024;
const STRING_PIECE_BYTES: usize = 256 * 1024;
/// Entries of a stream that are counted at once.
const COUNTED_ENTRIES: usize = 4096;
/// Of large records no longer string is compressed, which takes a hundred times as long as copying it.
const COMPRESSED_BYTES_MAX: usize = 64 * 1024;

/// A file under way. Each function appends to `out`.
#[derive(Default)]
pub struct FileWriter {
    lzf: Option<Lzf>,
    crc: u64,
}

impl FileWriter {
    /// `compress`: texts, where that makes them shorter.
    pub fn new(compress: bool) -> FileWriter {
        FileWriter {
            lzf: compress.then(Lzf::default),
            crc: 0,
        }
    }

    /// What a file begins with, beside the keys: names and values of its making, and sources of libraries of functions.
    /// `expiring_fields`: there are hashes whose fields expire, which no Redis can load, but Valkey 9 can.
    pub fn write_beginning(
        &mut self,
        expiring_fields: bool,
        aux: &[(&str, String)],
        libraries: &[Vec<u8>],
        out: &mut Vec<u8>,
    ) {
        let magic = match expiring_fields {
            true => format!("VALKEY{VERSION_VALKEY:03}"),
            false => format!("REDIS{VERSION_WRITTEN:04}"),
        };
        out.extend_from_slice(magic.as_bytes());
        let mut out = Writer::new(out, self.lzf.as_mut());
        for (name, value) in aux {
            out.push(AUX);
            write_text(name.as_bytes(), &mut out);
            write_text(value.as_bytes(), &mut out);
        }
        for library in libraries {
            out.push(LIBRARY);
            write_text(library, &mut out);
        }
    }

    /// The keys that follow are of `db`.
    pub fn write_db(&mut self, db: Db, out: &mut Vec<u8>) {
        let mut out = Writer::new(out, None);
        out.push(SELECT_DB);
        write_length(db.number().into(), &mut out);
    }

    /// How many keys there will be in the database that was named last, about, and how many of them expire.
    pub fn write_sizes(&mut self, keys: usize, expiring: usize, out: &mut Vec<u8>) {
        let mut out = Writer::new(out, None);
        out.push(RESIZE_DB);
        write_length(keys as u64, &mut out);
        write_length(expiring as u64, &mut out);
    }

    pub fn write_record(
        &mut self,
        key: &[u8],
        value: ValueRef<'_>,
        expires: Option<UnixMillis>,
        out: &mut Vec<u8>,
    ) {
        let mut out = Writer::new(out, self.lzf.as_mut());
        write_key(key, value, expires, &mut out);
        write_value(value, &mut out);
    }

    /// The next piece of a record; false when that was the last. Nothing may stand between two of them.
    pub fn write_piece(&mut self, record: &mut LargeRecord, out: &mut Vec<u8>) -> bool {
        let LargeRecord {
            key,
            captured,
            next,
        } = record;
        let mut out = Writer::new(out, self.lzf.as_mut());
        let value = &captured.value;
        let rest = match *next {
            Next::Head => {
                write_key(key, value.view(), captured.expires, &mut out);
                match value {
                    Value::Collection(Collection::Stream(_)) => {
                        *next = Next::Count { from: 0, runs: 0 };
                        return true;
                    }
                    Value::Collection(collection) => write_head(collection, &mut out),
                    Value::Bytes(bytes) if bytes.len() > COMPRESSED_BYTES_MAX => {
                        write_length(bytes.len() as u64, &mut out);
                        Some(0)
                    }
                    Value::Int(_) | Value::Bytes(_) => {
                        write_value(value.view(), &mut out);
                        None
                    }
                }
            }
            Next::Count { from, runs } => {
                let Value::Collection(Collection::Stream(stream)) = value else {
                    unreachable!("only streams are counted")
                };
                let (more, from) = stream.runs_len(from, COUNTED_ENTRIES);
                let runs = runs + more;
                if from < stream.len() {
                    *next = Next::Count { from, runs };
                    return true;
                }
                write_length(runs as u64, &mut out);
                Some(0)
            }
            Next::Place(from) => match value {
                Value::Collection(collection) => {
                    let budget = Budget::new(PIECE_ELEMENTS_MAX, PIECE_BYTES_MAX);
                    write_elements(collection, from, budget, &mut out)
                }
                Value::Bytes(bytes) => {
                    let to = bytes.len().min(from + STRING_PIECE_BYTES);
                    out.extend_from_slice(&bytes[from..to]);
                    (to < bytes.len()).then_some(to)
                }
                Value::Int(_) => None,
            },
            Next::Nothing => None,
        };
        *next = rest.map_or(Next::Nothing, Next::Place);
        rest.is_some()
    }

    /// These bytes went into the file.
    pub fn pass(&mut self, bytes: &[u8]) {
        self.crc = crc64(self.crc, bytes);
    }

    /// The end of the file, after all else has passed.
    pub fn write_end(&mut self, out: &mut Vec<u8>) {
        self.pass(&[END]);
        out.push(END);
        out.extend_from_slice(&self.crc.to_le_bytes());
    }
}

/// A captured key on its way into a file, piece by piece.
pub struct LargeRecord {
    key: Box<[u8]>,
    captured: Captured,
    next: Next,
}

enum Next {
    Head,
    /// A stream says first of how many nodes it is: so many up to entry `from`.
    Count {
        from: usize,
        runs: usize,
    },
    /// An element, or a byte of a string.
    Place(usize),
    Nothing,
}

impl LargeRecord {
    pub fn new(key: &[u8], captured: Captured) -> LargeRecord {
        LargeRecord {
            key: key.into(),
            captured,
            next: Next::Head,
        }
    }

    pub fn is_at_start(&self) -> bool {
        matches!(self.next, Next::Head)
    }
}

/// All that stands before a value.
fn write_key(key: &[u8], value: ValueRef<'_>, expires: Option<UnixMillis>, out: &mut Writer<'_>) {
    if let Some(at) = expires {
        out.push(EXPIRES_MS);
        out.extend_from_slice(&at.0.to_le_bytes());
    }
    out.push(type_of(value) as u8);
    write_text(key, out);
}
