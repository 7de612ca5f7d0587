//! The packed form: small elements back to back in one buffer, walked from either end.
//!
//! The layout is that of Redis' listpack (<https://github.com/antirez/listpack>), so that a dump is the
//! buffer as it stands: `<bytes u32><elements u16> element* 0xFF`, an element being
//! `<encoding><data><length of both, readable backwards>`. Integers in their canonical spelling are
//! kept as binary integers. Knows nothing of hashes, lists or sets.

use super::mem;
use crate::number::parse_i64;

const HEAD: usize = 6;
const END: u8 = 0xFF;
/// The element count that means "count them".
const MANY: u16 = u16::MAX;
/// Longest encoding and longest backward length, in bytes.
const ENCODING_BYTES_MAX: usize = 9;
const BACK_BYTES_MAX: usize = 5;

/// One element: text as it was given, or an integer that was given in its canonical spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item<'a> {
    Bytes(&'a [u8]),
    Int(i64),
}

impl<'a> Item<'a> {
    /// The element as its text; integers are spelt into `digits`.
    pub fn text<'t>(self, digits: &'t mut [u8; 20]) -> &'t [u8]
    where
        'a: 't,
    {
        match self {
            Item::Bytes(bytes) => bytes,
            Item::Int(value) => larder_wire::resp::write::decimal(digits, value),
        }
    }

    pub fn to_vec(self) -> Vec<u8> {
        self.text(&mut [0; 20]).to_vec()
    }

    /// Bytes of the element's text.
    pub fn len(self) -> usize {
        self.text(&mut [0; 20]).len()
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The integer that the text canonically spells, if it does.
    pub fn int(self) -> Option<i64> {
        match self {
            Item::Bytes(bytes) => parse_i64(bytes),
            Item::Int(value) => Some(value),
        }
    }
}

/// Text that elements are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Needle<'a> {
    text: &'a [u8],
    number: Option<i64>,
}

impl<'a> Needle<'a> {
    pub fn new(text: &'a [u8]) -> Needle<'a> {
        Needle {
            text,
            number: parse_i64(text),
        }
    }

    /// True when `item` spells the text.
    #[inline]
    pub fn is(&self, item: Item<'_>) -> bool {
        match item {
            Item::Bytes(bytes) => bytes == self.text,
            Item::Int(value) => Some(value) == self.number,
        }
    }
}

/// Where an element starts in its buffer, or where the elements end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(usize);

/// Elements back to back in one buffer.
#[derive(Clone, PartialEq, Eq)]
pub struct Packed {
    bytes: Vec<u8>,
}

impl Default for Packed {
    fn default() -> Packed {
        Packed::new()
    }
}

impl Packed {
    pub fn new() -> Packed {
        let mut bytes = Vec::with_capacity(mem::good_size(HEAD + 1));
        bytes.extend_from_slice(&[HEAD as u8 + 1, 0, 0, 0, 0, 0, END]);
        Packed { bytes }
    }

    /// A listpack from elsewhere; `None` when it is not well-formed through and through.
    pub fn from_listpack(blob: &[u8]) -> Option<Packed> {
        let total = u32::from_le_bytes(blob.get(..4)?.try_into().ok()?);
        let claimed = u16::from_le_bytes(blob.get(4..HEAD)?.try_into().ok()?);
        if total as usize != blob.len() || *blob.last()? != END || blob.len() < HEAD + 1 {
            return None;
        }
        let (mut at, mut count) = (HEAD, 0usize);
        while at < blob.len() - 1 {
            let (_, length) = checked_item(&blob[at..blob.len() - 1])?;
            at += length;
            count += 1;
        }
        let fits = claimed == MANY || claimed as usize == count;
        (fits && at == blob.len() - 1).then(|| {
            let mut bytes = Vec::with_capacity(mem::good_size(blob.len()));
            bytes.extend_from_slice(blob);
            Packed { bytes }
        })
    }

    /// The buffer: a well-formed listpack.
    pub fn as_listpack(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of the buffer in use.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    pub fn heap_bytes(&self) -> usize {
        mem::block(self.bytes.capacity())
    }

    pub fn len(&self) -> usize {
        match u16::from_le_bytes([self.bytes[4], self.bytes[5]]) {
            MANY => self.iter().count(),
            count => count as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEAD + 1
    }

    /// The first element, or the end.
    pub fn start(&self) -> At {
        At(HEAD)
    }

    /// Just past the last element: where an appended one goes.
    pub fn end(&self) -> At {
        At(self.bytes.len() - 1)
    }

    pub fn last(&self) -> Option<At> {
        self.prev(self.end())
    }

    /// Bytes of the elements before `at`.
    pub fn bytes_before(&self, at: At) -> usize {
        at.0 - HEAD
    }

    /// The element after the one at `at`, or the end.
    pub fn next(&self, at: At) -> At {
        At(at.0 + item_at(&self.bytes, at.0).1)
    }

    /// The element before `at`.
    pub fn prev(&self, at: At) -> Option<At> {
        if at.0 <= HEAD {
            return None;
        }
        let (mut length, mut shift, mut from) = (0usize, 0, at.0 - 1);
        loop {
            let byte = self.bytes[from];
            length |= usize::from(byte & 127) << shift;
            if byte & 128 == 0 {
                break;
            }
            shift += 7;
            from -= 1;
        }
        Some(At(from - length))
    }

    /// The element at `at`; `None` at the end.
    pub fn get(&self, at: At) -> Option<Item<'_>> {
        (at.0 < self.bytes.len() - 1).then(|| item_at(&self.bytes, at.0).0)
    }

    /// Where element `index` is, counted from the nearer end; the end when there are no more.
    pub fn seek(&self, index: usize) -> At {
        let len = self.len();
        if index >= len {
            return self.end();
        }
        if index <= len / 2 {
            let mut at = self.start();
            for _ in 0..index {
                at = self.next(at);
            }
            return at;
        }
        let mut at = self.end();
        for _ in index..len {
            at = self.prev(at).expect("as many elements as counted");
        }
        at
    }

    /// The first element from `from` on that spells `text`, looking at one element, then passing
    /// over `skip`.
    pub fn find(&self, from: At, text: &[u8], skip: usize) -> Option<At> {
        let needle = Needle::new(text);
        let (mut at, end, mut passing) = (from.0, self.bytes.len() - 1, 0);
        while at < end {
            let (item, length) = item_at(&self.bytes, at);
            if passing > 0 {
                passing -= 1;
            } else {
                if needle.is(item) {
                    return Some(At(at));
                }
                passing = skip;
            }
            at += length;
        }
        None
    }

    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(self.start())
    }

    pub fn iter_from(&self, at: At) -> Iter<'_> {
        Iter {
            packed: self,
            front: at.0,
            back: self.bytes.len() - 1,
        }
    }

    /// The elements that lie before `at`; walk them with `rev()`.
    pub fn iter_to(&self, at: At) -> Iter<'_> {
        Iter {
            packed: self,
            front: HEAD,
            back: at.0,
        }
    }

    pub fn push_back(&mut self, text: &[u8]) {
        self.insert(self.end(), text);
    }

    pub fn push_back_item(&mut self, item: Item<'_>) {
        self.insert_item(self.end(), item);
    }

    pub fn push_front(&mut self, text: &[u8]) {
        self.insert(self.start(), text);
    }

    /// Puts `text` before the element at `at`. `at` is then where it lies.
    pub fn insert(&mut self, at: At, text: &[u8]) {
        self.insert_item(at, item_of(text));
    }

    pub fn insert_item(&mut self, at: At, item: Item<'_>) {
        self.put(at, 0, item);
        self.add_to_len(1);
    }

    /// The element at `at` becomes `text`; it stays where it is.
    pub fn replace(&mut self, at: At, text: &[u8]) {
        let (_, length) = item_at(&self.bytes, at.0);
        self.put(at, length, item_of(text));
    }

    /// Takes out up to `count` elements from `at` on and says how many those were.
    pub fn remove(&mut self, at: At, count: usize) -> usize {
        let (mut to, mut removed) = (at, 0);
        while removed < count && to < self.end() {
            to = self.next(to);
            removed += 1;
        }
        let gone = to.0 - at.0;
        self.bytes.copy_within(to.0.., at.0);
        self.bytes.truncate(self.bytes.len() - gone);
        mem::give_back(&mut self.bytes);
        self.add_to_len(-(removed as isize));
        removed
    }

    /// Everything from `at` on, taken out.
    pub fn split_off(&mut self, at: At) -> Packed {
        let mut tail = Packed::new();
        let moved = &self.bytes[at.0..self.bytes.len() - 1];
        mem::reserve(&mut tail.bytes, moved.len());
        tail.bytes.truncate(HEAD);
        tail.bytes.extend_from_slice(moved);
        tail.bytes.push(END);
        let count = Iter {
            packed: self,
            front: at.0,
            back: self.bytes.len() - 1,
        }
        .count();
        tail.add_to_len(count as isize);
        self.bytes.truncate(at.0);
        self.bytes.push(END);
        mem::give_back(&mut self.bytes);
        self.add_to_len(-(count as isize));
        tail
    }

    /// Puts all elements of `other` behind the last.
    pub fn append(&mut self, other: &Packed) {
        let count = other.len();
        mem::reserve(&mut self.bytes, other.bytes.len() - HEAD - 1);
        self.bytes.pop();
        self.bytes.extend_from_slice(&other.bytes[HEAD..]);
        self.add_to_len(count as isize);
    }

    /// Writes `item` over the `old` bytes at `at`.
    fn put(&mut self, at: At, old: usize, item: Item<'_>) {
        let mut head = [0; ENCODING_BYTES_MAX];
        let (head_len, data) = encoding(item, &mut head);
        let length = head_len + data.len();
        let mut back = [0; BACK_BYTES_MAX];
        let back_len = back_length(length, &mut back);
        let whole = length + back_len;
        self.open(at.0, old, whole);
        let place = &mut self.bytes[at.0..at.0 + whole];
        place[..head_len].copy_from_slice(&head[..head_len]);
        place[head_len..length].copy_from_slice(data);
        place[length..].copy_from_slice(&back[..back_len]);
    }

    /// Makes the `old` bytes at `at` into `new` bytes, moving what follows.
    fn open(&mut self, at: usize, old: usize, new: usize) {
        let len = self.bytes.len();
        if new > old {
            mem::reserve(&mut self.bytes, new - old);
            self.bytes.resize(len + new - old, 0);
            self.bytes.copy_within(at + old..len, at + new);
        } else if new < old {
            self.bytes.copy_within(at + old.., at + new);
            self.bytes.truncate(len - (old - new));
        }
        self.write_total();
    }

    fn write_total(&mut self) {
        let total = (self.bytes.len() as u32).to_le_bytes();
        self.bytes[..4].copy_from_slice(&total);
    }

    fn add_to_len(&mut self, delta: isize) {
        self.write_total();
        let known = u16::from_le_bytes([self.bytes[4], self.bytes[5]]);
        let count = match known {
            // Counted afresh only when elements went: it may be few enough to be written down.
            MANY if delta < 0 => self.iter().count(),
            MANY => return,
            known => usize::from(known).wrapping_add_signed(delta),
        };
        let written = u16::try_from(count).unwrap_or(MANY);
        self.bytes[4..HEAD].copy_from_slice(&written.to_le_bytes());
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(
                self.iter()
                    .map(|item| String::from_utf8_lossy(&item.to_vec()).into_owned()),
            )
            .finish()
    }
}

impl<A: AsRef<[u8]>> FromIterator<A> for Packed {
    fn from_iter<I: IntoIterator<Item = A>>(elements: I) -> Packed {
        let mut packed = Packed::new();
        for element in elements {
            packed.push_back(element.as_ref());
        }
        packed
    }
}

/// The elements in order, from either end.
#[derive(Clone)]
pub struct Iter<'a> {
    packed: &'a Packed,
    front: usize,
    back: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.front >= self.back {
            return None;
        }
        let (item, length) = item_at(&self.packed.bytes, self.front);
        self.front += length;
        Some(item)
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        let at = self.packed.prev(At(self.back))?;
        self.back = at.0;
        Some(item_at(&self.packed.bytes, at.0).0)
    }
}

/// True when no two items are alike.
pub fn distinct<'a>(items: impl Iterator<Item = Item<'a>>) -> bool {
    // A buffer from elsewhere may hold an integer as text.
    let canonical = |item: Item<'a>| item.int().map_or(item, Item::Int);
    let mut items: Vec<Item<'_>> = items.map(canonical).collect();
    items.sort_unstable();
    items.windows(2).all(|pair| pair[0] != pair[1])
}

fn item_of(text: &[u8]) -> Item<'_> {
    match parse_i64(text) {
        Some(value) => Item::Int(value),
        None => Item::Bytes(text),
    }
}

/// Writes the encoding of `item` (with the data of an integer) to `head`: its length, and the data that follows it.
fn encoding<'a>(item: Item<'a>, head: &mut [u8; ENCODING_BYTES_MAX]) -> (usize, &'a [u8]) {
    match item {
        Item::Int(value) => (int_encoding(value, head), &[]),
        Item::Bytes(bytes) => {
            let len = bytes.len();
            let head_len = if len < 64 {
                head[0] = 0x80 | len as u8;
                1
            } else if len < 4096 {
                head[0] = 0xE0 | (len >> 8) as u8;
                head[1] = len as u8;
                2
            } else {
                head[0] = 0xF0;
                head[1..5].copy_from_slice(&(len as u32).to_le_bytes());
                5
            };
            (head_len, bytes)
        }
    }
}

fn int_encoding(value: i64, head: &mut [u8; ENCODING_BYTES_MAX]) -> usize {
    let bytes = value.to_le_bytes();
    let (kind, width) = match value {
        0..=127 => {
            head[0] = value as u8;
            return 1;
        }
        -4096..=4095 => {
            let raw = (value & 0x1FFF) as u16;
            head[0] = 0xC0 | (raw >> 8) as u8;
            head[1] = raw as u8;
            return 2;
        }
        -0x8000..=0x7FFF => (0xF1, 2),
        -0x80_0000..=0x7F_FFFF => (0xF2, 3),
        -0x8000_0000..=0x7FFF_FFFF => (0xF3, 4),
        i64::MIN..=i64::MAX => (0xF4, 8),
    };
    head[0] = kind;
    head[1..1 + width].copy_from_slice(&bytes[..width]);
    1 + width
}

/// Writes `length` so that it can be read backwards. 16383 takes three bytes: so the format has it.
fn back_length(length: usize, back: &mut [u8; BACK_BYTES_MAX]) -> usize {
    let width = back_width(length);
    for (place, byte) in back[..width].iter_mut().enumerate() {
        let part = (length >> (7 * (width - 1 - place))) as u8 & 127;
        *byte = if place == 0 { part } else { part | 128 };
    }
    width
}

fn back_width(length: usize) -> usize {
    match length {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        268_435_455.. => 5,
    }
}

/// The element that starts at `at` and the bytes that it takes, backward length included.
#[inline]
fn item_at(bytes: &[u8], at: usize) -> (Item<'_>, usize) {
    checked_head(&bytes[at..]).expect("the buffer is well-formed")
}

/// As [`item_at`] for a buffer that nobody has looked at.
fn checked_item(bytes: &[u8]) -> Option<(Item<'_>, usize)> {
    let (item, whole) = checked_head(bytes)?;
    let width =
        (1..=BACK_BYTES_MAX).find(|width| whole > *width && back_width(whole - width) == *width)?;
    let mut back = [0; BACK_BYTES_MAX];
    back_length(whole - width, &mut back);
    (bytes.get(whole - width..whole)? == &back[..width]).then_some((item, whole))
}

#[inline]
fn checked_head(bytes: &[u8]) -> Option<(Item<'_>, usize)> {
    let kind = *bytes.first()?;
    let text = |head: usize, len: usize| {
        let data = bytes.get(head..head + len)?;
        Some((Item::Bytes(data), head + len))
    };
    let int = |width: usize| {
        let data = bytes.get(1..1 + width)?;
        let mut wide = [0; 8];
        wide[8 - width..].copy_from_slice(data);
        Some((
            Item::Int(i64::from_le_bytes(wide) >> (64 - 8 * width)),
            1 + width,
        ))
    };
    let (item, length) = match kind {
        0x00..=0x7F => (Item::Int(i64::from(kind)), 1),
        0x80..=0xBF => text(1, usize::from(kind & 0x3F))?,
        0xC0..=0xDF => {
            let raw = i64::from(kind & 0x1F) << 8 | i64::from(*bytes.get(1)?);
            (Item::Int(raw << 51 >> 51), 2)
        }
        0xE0..=0xEF => text(
            2,
            usize::from(kind & 0x0F) << 8 | usize::from(*bytes.get(1)?),
        )?,
        0xF0 => {
            let len = u32::from_le_bytes(bytes.get(1..5)?.try_into().ok()?);
            text(5, len as usize)?
        }
        0xF1 => int(2)?,
        0xF2 => int(3)?,
        0xF3 => int(4)?,
        0xF4 => int(8)?,
        0xF5..=0xFF => return None,
    };
    Some((item, length + back_width(length)))
}
