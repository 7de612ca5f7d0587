//! Reads an RDB file as it comes, a record at a time: of Redis' versions 1 to 12, and of Valkey 9's.
//!
//! Holds as much of the file as one record takes. Trusts nothing, as `read.rs` does; whatever is wrong is told with the offset at which it was met.
//! Source: Redis' rdb.c, and <https://rdb.fnordig.de/file_format.html>.

use std::borrow::Cow;

use larder_wire::UnixMillis;

use super::crc64::crc64;
use super::file::{
    AUX, END, EXPIRES_MS, EXPIRES_S, FREQUENCY, FUNCTION_OF_A_CANDIDATE, IDLE, MODULE_AUX,
    RESIZE_DB, SELECT_DB, SLOT_INFO, VALUE_OF_A_MODULE,
};
use super::read::{Reader, Source};
use super::{LIBRARY, Type, VERSION_READ_MAX, VERSION_VALKEY};
use crate::collection::CollectionSettings;
use crate::db::{DB_COUNT, Db};
use crate::value::Value;

const MAGIC_BYTES: usize = 9;
/// From this version on files end with a checksum.
const VERSION_CHECKED: u16 = 5;

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {what}")]
pub struct LoadError {
    pub offset: u64,
    pub what: String,
}

/// What a file says.
pub enum Record {
    Key {
        db: Db,
        key: Box<[u8]>,
        value: Value,
        expires: Option<UnixMillis>,
    },
    /// The source of a library of functions.
    Library(Vec<u8>),
    /// What the file says of its making.
    Aux { name: Vec<u8>, value: Vec<u8> },
}

/// A file under way. `more` appends the next bytes to what it is given, at its end none; its error is told as it is.
pub struct Loader<F> {
    reader: Reader<Stream<F>>,
    db: Db,
    ended: bool,
}

impl<F: FnMut(&mut Vec<u8>) -> Result<(), String>> Loader<F> {
    /// Reads the file's first bytes.
    pub fn open(more: F) -> Result<Loader<F>, LoadError> {
        let mut loader = Loader {
            reader: Reader {
                source: Stream::new(more),
                version: 0,
            },
            db: Db::ZERO,
            ended: false,
        };
        let Some(magic) = loader.reader.array::<MAGIC_BYTES>() else {
            return Err(loader.fault("the file is no RDB file"));
        };
        let digits = magic
            .strip_prefix(b"REDIS")
            .or_else(|| magic.strip_prefix(b"VALKEY"));
        let version = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<u16>().ok());
        match version {
            Some(version @ 1..=VERSION_READ_MAX | version @ VERSION_VALKEY) => {
                loader.reader.version = version;
                Ok(loader)
            }
            Some(version) => Err(loader.fault(format!("version {version} is not known"))),
            None => Err(loader.fault("the file is no RDB file")),
        }
    }

    /// Bytes that were read and understood.
    pub fn offset(&self) -> u64 {
        self.reader.source.offset()
    }

    /// What was got of the bytes and not used: what follows the last record.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let source = &mut self.reader.source;
        source.buffer.split_off(source.at)
    }

    /// The next record; `None` after the last, once the checksum was found right.
    pub fn next_record(
        &mut self,
        settings: &CollectionSettings,
    ) -> Result<Option<Record>, LoadError> {
        if self.ended {
            return Ok(None);
        }
        let mut expires = None;
        loop {
            let byte = match self.reader.array() {
                Some([byte]) => byte,
                None => return Err(self.cut_off()),
            };
            match byte {
                END => {
                    self.check_end()?;
                    self.ended = true;
                    return Ok(None);
                }
                SELECT_DB => {
                    let number = self.some(Reader::length)?;
                    let db = i64::try_from(number).ok().and_then(Db::new);
                    self.db = db.ok_or_else(|| {
                        self.fault(format!(
                            "a key of database {number}, and there are {DB_COUNT}"
                        ))
                    })?;
                }
                EXPIRES_MS => {
                    let at = self.some(Reader::array)?;
                    expires = Some(UnixMillis(i64::from_le_bytes(at)));
                }
                EXPIRES_S => {
                    let at = self.some(Reader::array)?;
                    expires = Some(UnixMillis(i64::from(i32::from_le_bytes(at)) * 1000));
                }
                AUX => {
                    let name = self.some(Reader::string)?.into_owned();
                    let value = self.some(Reader::string)?.into_owned();
                    return Ok(Some(Record::Aux { name, value }));
                }
                RESIZE_DB => self.skip_lengths(2)?,
                SLOT_INFO => self.skip_lengths(3)?,
                IDLE => self.skip_lengths(1)?,
                FREQUENCY => {
                    self.some(Reader::array::<1>)?;
                }
                LIBRARY => {
                    let source = self.some(Reader::string)?;
                    return Ok(Some(Record::Library(source.into_owned())));
                }
                MODULE_AUX => {
                    let id = self.some(Reader::length)?;
                    let name = module_name(id);
                    return Err(self.fault(format!(
                        "data of module '{name}', and no modules are loaded here"
                    )));
                }
                FUNCTION_OF_A_CANDIDATE => {
                    return Err(self.fault("a function of a release candidate of Redis 7.0"));
                }
                kind => return self.key(kind, expires, settings).map(Some),
            }
        }
    }

    fn key(
        &mut self,
        kind: u8,
        expires: Option<UnixMillis>,
        settings: &CollectionSettings,
    ) -> Result<Record, LoadError> {
        if kind == VALUE_OF_A_MODULE {
            let key = self.some(Reader::string)?.into_owned();
            let name = module_name(self.some(Reader::length)?);
            let key = String::from_utf8_lossy(&key);
            return Err(self.fault(format!(
                "key {key} is of module type '{name}', and no modules are loaded here"
            )));
        }
        let Some(kind) = Type::from_byte(kind) else {
            return Err(self.fault(format!("type {kind} of a value is not known")));
        };
        let key = self.some(Reader::string)?;
        let value = self.some(|reader| reader.value_of(kind, settings))?;
        Ok(Record::Key {
            db: self.db,
            key: key.into_owned().into_boxed_slice(),
            value,
            expires,
        })
    }

    fn skip_lengths(&mut self, count: usize) -> Result<(), LoadError> {
        for _ in 0..count {
            self.some(Reader::length)?;
        }
        Ok(())
    }

    /// A checksum of 0 says that nobody made one.
    fn check_end(&mut self) -> Result<(), LoadError> {
        if self.reader.version < VERSION_CHECKED {
            return Ok(());
        }
        let made = self.reader.source.checksum();
        let said = u64::from_le_bytes(self.some(Reader::array)?);
        if said != 0 && said != made {
            return Err(self.fault(format!(
                "CRC error: the checksum is {made:016x} and not {said:016x}, as the file says"
            )));
        }
        Ok(())
    }

    fn some<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<Stream<F>>) -> Option<T>,
    ) -> Result<T, LoadError> {
        match read(&mut self.reader) {
            Some(read) => Ok(read),
            None => Err(self.cut_off()),
        }
    }

    /// Nothing could be read: the bytes are at their end, or make no sense.
    fn cut_off(&mut self) -> LoadError {
        let source = &mut self.reader.source;
        match source.failure.take() {
            Some(failure) => self.fault(failure),
            None if source.ran_dry => self.fault("the file ends in the middle"),
            None => self.fault("the data is malformed"),
        }
    }

    fn fault(&self, what: impl Into<String>) -> LoadError {
        LoadError {
            offset: self.offset(),
            what: what.into(),
        }
    }
}

/// A module's type is nine letters of six bits and ten bits of a version, the first letter uppermost.
/// Source: <https://redis.io/docs/latest/develop/reference/modules/modules-native-types/>.
fn module_name(id: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letter = |place: u32| LETTERS[(id >> (10 + 6 * (8 - place))) & 63];
    (0..9).map(|place| char::from(letter(place))).collect()
}

/// The bytes of a file, in order.
struct Stream<F> {
    more: F,
    buffer: Vec<u8>,
    /// What of the buffer is used.
    at: usize,
    /// Bytes before the buffer, and their checksum.
    passed: u64,
    crc: u64,
    /// More was asked for than there is.
    ran_dry: bool,
    failure: Option<String>,
}

impl<F: FnMut(&mut Vec<u8>) -> Result<(), String>> Stream<F> {
    fn new(more: F) -> Stream<F> {
        Stream {
            more,
            buffer: Vec::new(),
            at: 0,
            passed: 0,
            crc: 0,
            ran_dry: false,
            failure: None,
        }
    }

    fn offset(&self) -> u64 {
        self.passed + self.at as u64
    }

    /// Of all that was used.
    fn checksum(&self) -> u64 {
        crc64(self.crc, &self.buffer[..self.at])
    }

    /// Gets some unused bytes when there are none; false when the file has no more.
    fn refill(&mut self) -> bool {
        if self.at < self.buffer.len() {
            return true;
        }
        self.crc = self.checksum();
        self.passed += self.at as u64;
        self.at = 0;
        self.buffer.clear();
        if let Err(failure) = (self.more)(&mut self.buffer) {
            self.failure = Some(failure);
        }
        self.ran_dry = self.buffer.is_empty();
        !self.ran_dry
    }
}

impl<'a, F: FnMut(&mut Vec<u8>) -> Result<(), String>> Source<'a> for Stream<F> {
    /// What is claimed to be long takes memory only as it comes.
    fn take(&mut self, len: usize) -> Option<Cow<'a, [u8]>> {
        let mut taken = Vec::with_capacity(len.min(self.buffer.len() - self.at));
        while taken.len() < len {
            if !self.refill() {
                return None;
            }
            let end = self.buffer.len().min(self.at + len - taken.len());
            taken.extend_from_slice(&self.buffer[self.at..end]);
            self.at = end;
        }
        Some(Cow::Owned(taken))
    }

    fn fill(&mut self, room: &mut [u8]) -> Option<()> {
        let mut filled = 0;
        while filled < room.len() {
            if !self.refill() {
                return None;
            }
            let count = (room.len() - filled).min(self.buffer.len() - self.at);
            room[filled..filled + count].copy_from_slice(&self.buffer[self.at..self.at + count]);
            self.at += count;
            filled += count;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(file: &[u8]) -> String {
        let mut left = file;
        let mut loader = Loader::open(|out: &mut Vec<u8>| {
            out.extend_from_slice(std::mem::take(&mut left));
            Ok(())
        })
        .expect("a file");
        loop {
            match loader.next_record(&CollectionSettings::new(1)) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("nothing is wrong with the file"),
                Err(fault) => return fault.to_string(),
            }
        }
    }

    #[test]
    fn data_of_a_module_is_refused_by_the_module_s_name_and_the_place() {
        // The id of the module type MBbloom--, version 4.
        let id = *b"\x81\x30\x16\xe5\xa2\x89\xbe\xf8\x04";
        let mut aux = b"REDIS0011\xf7".to_vec();
        aux.extend_from_slice(&id);
        aux.extend_from_slice(b"\x02\x02\x00\xff");
        let what = "data of module 'MBbloom--', and no modules are loaded here";
        assert_eq!(fault_of(&aux), format!("at byte 19: {what}"));
        let mut key = b"REDIS0011\xfe\x00\x07\x03key".to_vec();
        key.extend_from_slice(&id);
        key.extend_from_slice(b"\x00\xff");
        let what = "key key is of module type 'MBbloom--', and no modules are loaded here";
        assert_eq!(fault_of(&key), format!("at byte 25: {what}"));
    }
}
