//! Values in Redis' RDB encoding: what DUMP gives and RESTORE takes.
//!
//! A payload is `<type byte><value><version u16><crc64 u64>`, all numbers little-endian. Written are version 10's types, as Redis 7.0
//! has them, and for hashes with fields that expire, which it does not know, Valkey 9's; read is every type that any version had.
//! Source: Redis' rdb.c, ziplist.c, zipmap.c, and <https://rdb.fnordig.de/file_format.html>.

pub mod crc64;
mod file;
mod load;
mod lzf;
pub mod read;
mod read_stream;
pub mod write;
mod write_stream;
mod ziplist;

pub use file::{FileWriter, LargeRecord};
pub use load::{LoadError, Loader, Record};
pub use read::{Malformed, NoLibraries, from_payload, libraries_from_payload};
pub use write::{libraries_to_payload, to_compressed_payload, to_payload};

/// The version that payloads say.
pub const VERSION_WRITTEN: u16 = 10;
/// The newest of Redis' versions whose payloads are read: Redis 8.0's.
pub const VERSION_READ_MAX: u16 = 12;
/// Valkey 9's version, which it counts apart from Redis'.
pub const VERSION_VALKEY: u16 = 80;

/// What stands before a library of functions.
const LIBRARY: u8 = 245;
/// Bytes of version and checksum.
const FOOTER_BYTES: usize = 10;
/// Bytes of a payload beside the value: its type and the footer.
pub const FRAME_BYTES: usize = 1 + FOOTER_BYTES;

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident = $byte:literal,)*) => {
        /// The type byte of a value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Type {
            $($(#[$doc])* $name = $byte,)*
        }

        impl Type {
            fn from_byte(byte: u8) -> Option<Type> {
                match byte {
                    $($byte => Some(Type::$name),)*
                    _ => None,
                }
            }
        }
    };
}

types! {
    String = 0,
    List = 1,
    Set = 2,
    /// Scores as text.
    Zset = 3,
    Hash = 4,
    /// Scores as doubles.
    Zset2 = 5,
    HashZipmap = 9,
    ListZiplist = 10,
    SetIntset = 11,
    ZsetZiplist = 12,
    HashZiplist = 13,
    ListQuicklist = 14,
    /// Version 9's, of Redis 5 and 6.
    StreamListpacks = 15,
    HashListpack = 16,
    ZsetListpack = 17,
    ListQuicklist2 = 18,
    StreamListpacks2 = 19,
    SetListpack = 20,
    /// With the times at which consumers were last given something.
    StreamListpacks3 = 21,
    /// Valkey's: fields, values and times, -1 for a field that stays.
    HashTimes = 22,
    /// Redis': the earliest time, then times relative to it, fields and values.
    HashMetadata = 24,
    /// Redis': the earliest time, then fields, values and times in a listpack.
    HashListpackTimes = 25,
}
