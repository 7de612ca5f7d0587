//! Reads values. Trusts nothing: lengths are held against what is there, and memory is taken as elements come, not as they
//! are claimed.

use std::borrow::Cow;

use larder_wire::UnixMillis;

use super::crc64::crc64;
use super::lzf::expand;
use super::read_stream::read_stream;
use super::write::STAYS;
use super::ziplist::{read_ziplist, read_zipmap};
use super::{FOOTER_BYTES, LIBRARY, Type, VERSION_READ_MAX, VERSION_VALKEY};
use crate::collection::intset::IntSet;
use crate::collection::{CollectionSettings, End, Hash, List, Packed, Set, Zset};
use crate::value::{Kind, Value};

/// What is wrong with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the payload's version or checksum is wrong")]
    Footer,
    #[error("the payload's data is malformed")]
    Data,
}

/// The value of a payload.
pub fn from_payload(payload: &[u8], settings: &CollectionSettings) -> Result<Value, Malformed> {
    let (body, version) = checked_body(payload).ok_or(Malformed::Footer)?;
    let mut reader = Reader {
        source: body,
        version,
    };
    let value = reader.value(settings).ok_or(Malformed::Data)?;
    Ok(value)
}

/// Why a payload gives no libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLibraries {
    #[error("the payload's version or checksum is wrong")]
    Footer,
    #[error("the payload holds something else")]
    Other,
    #[error("the payload's data is malformed")]
    Data,
}

/// The sources of the libraries of a payload (`FUNCTION RESTORE`).
pub fn libraries_from_payload(payload: &[u8]) -> Result<Vec<Vec<u8>>, NoLibraries> {
    let (source, version) = checked_body(payload).ok_or(NoLibraries::Footer)?;
    let mut reader = Reader { source, version };
    let mut sources = Vec::new();
    while let Some([byte]) = reader.array() {
        if byte != LIBRARY {
            return Err(NoLibraries::Other);
        }
        sources.push(reader.string().ok_or(NoLibraries::Data)?.into_owned());
    }
    Ok(sources)
}

/// What lies before the footer, and the version that the footer says.
fn checked_body(payload: &[u8]) -> Option<(&[u8], u16)> {
    let (body, footer) = payload.split_at_checked(payload.len().checked_sub(FOOTER_BYTES)?)?;
    let (version, crc) = footer.split_first_chunk::<2>()?;
    let crc = u64::from_le_bytes(crc.try_into().ok()?);
    let checked = crc64(crc64(0, body), version);
    let number = u16::from_le_bytes(*version);
    let known = number <= VERSION_READ_MAX || number == VERSION_VALKEY;
    (known && crc == checked).then_some((body, number))
}

/// A length, or how a string is encoded instead.
enum Length {
    Plain(usize),
    Encoded(u8),
}

/// Where the bytes come from. `None`: there are not so many.
pub trait Source<'a> {
    fn take(&mut self, len: usize) -> Option<Cow<'a, [u8]>>;
    fn fill(&mut self, room: &mut [u8]) -> Option<()>;
}

impl<'a> Source<'a> for &'a [u8] {
    fn take(&mut self, len: usize) -> Option<Cow<'a, [u8]>> {
        let (taken, rest) = self.split_at_checked(len)?;
        *self = rest;
        Some(Cow::Borrowed(taken))
    }

    fn fill(&mut self, room: &mut [u8]) -> Option<()> {
        let (taken, rest) = self.split_at_checked(room.len())?;
        room.copy_from_slice(taken);
        *self = rest;
        Some(())
    }
}

pub(super) struct Reader<S> {
    pub(super) source: S,
    pub(super) version: u16,
}

impl<'a, S: Source<'a>> Reader<S> {
    fn value(&mut self, settings: &CollectionSettings) -> Option<Value> {
        let [byte] = self.array()?;
        self.value_of(Type::from_byte(byte)?, settings)
    }

    /// The value behind its type.
    pub(super) fn value_of(&mut self, kind: Type, settings: &CollectionSettings) -> Option<Value> {
        match kind {
            Type::String => Some(Value::string(&self.string()?)),
            Type::List => {
                let mut list = List::new();
                for _ in 0..self.length()? {
                    list.push(End::Right, &self.string()?, settings);
                }
                finished(list)
            }
            Type::ListZiplist => {
                let elements = read_ziplist(&self.string()?)?;
                let mut list = List::new();
                push_all(&mut list, elements.iter().map(|e| e.as_ref()), settings);
                finished(list)
            }
            Type::ListQuicklist => {
                let mut list = List::new();
                for _ in 0..self.length()? {
                    let elements = read_ziplist(&self.string()?)?;
                    push_all(&mut list, elements.iter().map(|e| e.as_ref()), settings);
                }
                finished(list)
            }
            Type::ListQuicklist2 => self.quicklist(settings),
            Type::Set => {
                let mut set = Set::new();
                for _ in 0..self.length()? {
                    // A member that comes twice is no set.
                    set.insert(&self.string()?, settings).then_some(())?;
                }
                finished(set)
            }
            Type::SetIntset => {
                let ints = IntSet::from_intset(&self.string()?)?;
                let mut set = Set::new();
                for int in ints.iter() {
                    set.insert(int.to_string().as_bytes(), settings);
                }
                finished(set)
            }
            Type::SetListpack => {
                let packed = Packed::from_listpack(&self.string()?)?;
                let mut set = Set::new();
                for member in packed.iter() {
                    set.insert(member.text(&mut [0; 20]), settings)
                        .then_some(())?;
                }
                finished(set)
            }
            Type::Zset => self.zset(settings, Reader::text_score),
            Type::Zset2 => self.zset(settings, |reader| Some(f64::from_le_bytes(reader.array()?))),
            Type::ZsetListpack => {
                let packed = Packed::from_listpack(&self.string()?)?;
                finished(Zset::from_packed(packed, settings)?)
            }
            Type::ZsetZiplist => zset_of_texts(&read_ziplist(&self.string()?)?, settings),
            Type::StreamListpacks => read_stream(self, 1).and_then(finished),
            Type::StreamListpacks2 => read_stream(self, 2).and_then(finished),
            Type::StreamListpacks3 => read_stream(self, 3).and_then(finished),
            // Redis had another meaning for this byte before it was settled.
            Type::HashTimes if self.version != VERSION_VALKEY => None,
            Type::HashTimes => self.hash_with_times(settings),
            Type::HashMetadata => self.hash_with_metadata(settings),
            Type::HashListpackTimes => self.hash_with_listpack_times(settings),
            Type::Hash => {
                let mut hash = Hash::new();
                for _ in 0..self.length()? {
                    let field = self.string()?;
                    let value = self.string()?;
                    hash.set(&field, &value, settings).then_some(())?;
                }
                finished(hash)
            }
            Type::HashListpack => {
                let packed = Packed::from_listpack(&self.string()?)?;
                finished(Hash::from_packed(packed, settings)?)
            }
            Type::HashZiplist => hash_of(&read_ziplist(&self.string()?)?, settings),
            Type::HashZipmap => hash_of(&read_zipmap(&self.string()?)?, settings),
        }
    }

    fn hash_with_times(&mut self, settings: &CollectionSettings) -> Option<Value> {
        let mut hash = Hash::new();
        for _ in 0..self.length()? {
            let (field, value) = (self.string()?, self.string()?);
            let time = i64::from_le_bytes(self.array()?);
            let time = (time != STAYS).then_some(time);
            add_timed(&mut hash, &field, &value, time, settings)?;
        }
        finished(hash)
    }

    fn hash_with_metadata(&mut self, settings: &CollectionSettings) -> Option<Value> {
        let earliest = i64::from_le_bytes(self.array()?);
        let mut hash = Hash::new();
        for _ in 0..self.length()? {
            let later = i64::try_from(self.length()?).ok()?;
            let (field, value) = (self.string()?, self.string()?);
            let time = match later {
                0 => None,
                later => Some(earliest.checked_add(later - 1)?),
            };
            add_timed(&mut hash, &field, &value, time, settings)?;
        }
        finished(hash)
    }

    fn hash_with_listpack_times(&mut self, settings: &CollectionSettings) -> Option<Value> {
        let _earliest: [u8; 8] = self.array()?;
        let packed = Packed::from_listpack(&self.string()?)?;
        let (mut hash, mut items) = (Hash::new(), packed.iter());
        while let Some(field) = items.next() {
            let (value, time) = (items.next()?, items.next()?.int()?);
            let time = (time != 0).then_some(time);
            let (mut digits, mut more) = ([0; 20], [0; 20]);
            let (field, value) = (field.text(&mut digits), value.text(&mut more));
            add_timed(&mut hash, field, value, time, settings)?;
        }
        finished(hash)
    }

    fn quicklist(&mut self, settings: &CollectionSettings) -> Option<Value> {
        let mut list = List::new();
        for _ in 0..self.length()? {
            let container = self.length()?;
            let node = self.string()?;
            match container {
                1 => list.push(End::Right, &node, settings),
                2 => {
                    let packed = Packed::from_listpack(&node)?;
                    for element in packed.iter() {
                        list.push(End::Right, element.text(&mut [0; 20]), settings);
                    }
                }
                _ => return None,
            }
        }
        finished(list)
    }

    fn zset(
        &mut self,
        settings: &CollectionSettings,
        mut score: impl FnMut(&mut Reader<S>) -> Option<f64>,
    ) -> Option<Value> {
        let mut zset = Zset::new();
        for _ in 0..self.length()? {
            let member = self.string()?;
            let score = score(self).filter(|score| !score.is_nan())?;
            zset.set(&member, score, settings).then_some(())?;
        }
        finished(zset)
    }

    /// A score of the first sorted sets: a length byte and text, or a special length.
    fn text_score(&mut self) -> Option<f64> {
        let [len] = self.array()?;
        match len {
            255 => Some(f64::NEG_INFINITY),
            254 => Some(f64::INFINITY),
            253 => None,
            len => parse_score(&self.source.take(len.into())?),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.source.fill(&mut bytes)?;
        Some(bytes)
    }

    fn any_length(&mut self) -> Option<Length> {
        let [first] = self.array()?;
        let low = first & 0x3F;
        Some(match first >> 6 {
            0 => Length::Plain(low.into()),
            1 => {
                let [second] = self.array()?;
                Length::Plain(usize::from(low) << 8 | usize::from(second))
            }
            2 if first == 0x80 => Length::Plain(u32::from_be_bytes(self.array()?) as usize),
            2 if first == 0x81 => Length::Plain(u64::from_be_bytes(self.array()?).try_into().ok()?),
            2 => return None,
            _ => Length::Encoded(low),
        })
    }

    pub(super) fn length(&mut self) -> Option<usize> {
        match self.any_length()? {
            Length::Plain(len) => Some(len),
            Length::Encoded(_) => None,
        }
    }

    pub(super) fn string(&mut self) -> Option<Cow<'a, [u8]>> {
        let int = |int: i64| Cow::Owned(int.to_string().into_bytes());
        Some(match self.any_length()? {
            Length::Plain(len) => self.source.take(len)?,
            Length::Encoded(0) => int(i8::from_le_bytes(self.array()?).into()),
            Length::Encoded(1) => int(i16::from_le_bytes(self.array()?).into()),
            Length::Encoded(2) => int(i32::from_le_bytes(self.array()?).into()),
            Length::Encoded(3) => {
                let compressed = self.length()?;
                let len = self.length()?;
                Cow::Owned(expand(&self.source.take(compressed)?, len)?)
            }
            Length::Encoded(_) => return None,
        })
    }
}

/// An empty collection is no value.
fn finished<T: Kind>(collection: T) -> Option<Value> {
    (!collection.is_empty()).then(|| Value::Collection(collection.into_collection()))
}

fn push_all<'e>(
    list: &mut List,
    elements: impl Iterator<Item = &'e [u8]>,
    settings: &CollectionSettings,
) {
    for element in elements {
        list.push(End::Right, element, settings);
    }
}

/// `None` when the field is there already, or expires at no time that there is.
fn add_timed(
    hash: &mut Hash,
    field: &[u8],
    value: &[u8],
    time: Option<i64>,
    settings: &CollectionSettings,
) -> Option<()> {
    hash.set(field, value, settings).then_some(())?;
    if let Some(at) = time {
        (at >= 0).then_some(())?;
        hash.set_expiry(field, UnixMillis(at), settings);
    }
    Some(())
}

fn hash_of(elements: &[Vec<u8>], settings: &CollectionSettings) -> Option<Value> {
    let (pairs, rest) = elements.as_chunks::<2>();
    let mut hash = Hash::new();
    for [field, value] in pairs {
        hash.set(field, value, settings).then_some(())?;
    }
    rest.is_empty().then_some(())?;
    finished(hash)
}

fn zset_of_texts(elements: &[Vec<u8>], settings: &CollectionSettings) -> Option<Value> {
    let (pairs, rest) = elements.as_chunks::<2>();
    let mut zset = Zset::new();
    for [member, score] in pairs {
        zset.set(member, parse_score(score)?, settings)
            .then_some(())?;
    }
    rest.is_empty().then_some(())?;
    finished(zset)
}

fn parse_score(text: &[u8]) -> Option<f64> {
    let score: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!score.is_nan()).then_some(score)
}
