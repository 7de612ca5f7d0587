//! The ways to a string in the keyspace: read, set, count, edit in place.

use larder_wire::{Refusal, UnixMillis};

use crate::entry::{Content, EntryRef};
use crate::key::Key;
use crate::keyspace::Keyspace;
use crate::number::parse_i64;
use crate::value::{StringRef, ValueRef};

/// What a write does to the key's expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetExpiry {
    Clear,
    Keep,
    At(UnixMillis),
}

/// How a string is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// As an integer when its text is exactly one, as SET does it.
    Encoded,
    /// As it is, as INCRBYFLOAT does it.
    Plain,
}

fn encoded(bytes: &[u8]) -> Content<'_> {
    match parse_i64(bytes) {
        Some(int) => Content::Int(int),
        None => Content::Bytes(bytes),
    }
}

impl<'a> From<StringRef<'a>> for Content<'a> {
    fn from(string: StringRef<'a>) -> Content<'a> {
        match string {
            StringRef::Int(int) => Content::Int(int),
            StringRef::Bytes(bytes) => Content::Bytes(bytes),
        }
    }
}

impl Keyspace {
    /// The string under `key`; refused when the key holds another type.
    #[inline]
    pub fn string<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
    ) -> Result<Option<StringRef<'_>>, Refusal> {
        self.value(key, now).map(expect_string).transpose()
    }

    /// As [`Keyspace::string`], without touching the key.
    pub fn peek_string<'k>(
        &self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
    ) -> Result<Option<StringRef<'_>>, Refusal> {
        let entry = self.peek_entry(key.into(), now);
        entry.map(string_of).transpose()
    }

    /// Sets the string under `key`, whatever was there.
    #[inline]
    pub fn set_string<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        bytes: &[u8],
        store: Store,
        expiry: SetExpiry,
        now: UnixMillis,
    ) {
        let content = match store {
            Store::Encoded => encoded(bytes),
            Store::Plain => Content::Bytes(bytes),
        };
        let key = key.into();
        let expires = match expiry {
            SetExpiry::Clear => None,
            SetExpiry::At(at) => Some(at),
            SetExpiry::Keep => {
                return match self.locate(key, now) {
                    Some(found) => {
                        let expires = self.entry(found).expires();
                        self.overwrite(found, content, expires, now);
                    }
                    None => self.insert_absent(key, content, None, now),
                };
            }
        };
        self.put(key, content, expires, now);
    }

    /// Replaces the string by the integer that `next` makes of it; the expiry stays. Returns the integer.
    pub fn update_int<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
        next: impl FnOnce(Option<StringRef<'_>>) -> Result<i64, Refusal>,
    ) -> Result<i64, Refusal> {
        let key = key.into();
        let Some(found) = self.locate(key, now) else {
            let int = next(None)?;
            self.insert_absent(key, Content::Int(int), None, now);
            return Ok(int);
        };
        let entry = self.entry(found);
        let expires = entry.expires();
        let int = next(Some(string_of(entry)?))?;
        if self.set_int(found, int) {
            self.touch(found, now);
        } else {
            self.overwrite(found, Content::Int(int), expires, now);
        }
        Ok(int)
    }

    /// Edits the string in place: `resize` makes its new length of the old one (`None` for no such key) or declines by `None`, then
    /// `edit` gets that many bytes, zeros where the string was shorter. Returns the new length; `None` when declined.
    pub fn edit_string<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        now: UnixMillis,
        resize: impl FnOnce(Option<usize>) -> Result<Option<usize>, Refusal>,
        edit: impl FnOnce(&mut [u8]),
    ) -> Result<Option<usize>, Refusal> {
        let key = key.into();
        let found = match self.locate(key, now) {
            Some(found) => {
                let len = string_of(self.entry(found))?.len();
                match resize(Some(len))? {
                    None => return Ok(None),
                    Some(len) => (found, len),
                }
            }
            None => match resize(None)? {
                None => return Ok(None),
                Some(len) => {
                    self.insert_absent(key, Content::Bytes(b""), None, now);
                    let found = self
                        .locate(key, now)
                        .expect("a key that was inserted a line before is there");
                    (found, len)
                }
            },
        };
        let (found, len) = found;
        self.touch(found, now);
        self.change(found, |entry| {
            let bytes = entry
                .resize(len)
                .expect("the entry holds a string: it was checked above");
            edit(bytes);
        });
        Ok(Some(len))
    }
}

fn string_of(entry: EntryRef<'_>) -> Result<StringRef<'_>, Refusal> {
    entry.string().ok_or(Refusal::WRONG_TYPE)
}

pub(crate) fn expect_string(value: ValueRef<'_>) -> Result<StringRef<'_>, Refusal> {
    match value {
        ValueRef::String(string) => Ok(string),
        ValueRef::Collection(_) => Err(Refusal::WRONG_TYPE),
    }
}
