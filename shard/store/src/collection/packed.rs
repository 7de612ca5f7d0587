//! The packed form: small elements back to back in one buffer, walked from either end.
//!
//! `<elements u16> element*`, an element being `<encoding><data><length of both, readable backwards>`: the layout of Redis' listpack
//! (<https://github.com/antirez/listpack>), which has the number of bytes before it and 0xFF behind it. Integers in their canonical spelling are
//! kept as binary integers. Knows nothing of hashes, lists or sets.

use super::item::{Item, Needle, item_of};
use super::listpack::{
    BACK_BYTES_MAX, ENCODING_BYTES_MAX, back_length, bytes_at, checked_item, encoding, find,
    item_at,
};
use crate::entry::PackedBytes;

const HEAD: usize = 2;
/// What a listpack has before the number of elements and behind the last: its length in bytes, and a mark.
const LISTPACK_TOTAL_BYTES: usize = 4;
const LISTPACK_END: u8 = 0xFF;
/// Bytes that a fresh buffer has room for: it is often filled with a few elements, and then copied to where it stays.
const FRESH_BYTES: usize = 64;
/// The element count that means "count them".
const MANY: u16 = u16::MAX;

/// Where an element starts in its buffer, or where the elements end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(usize);

/// Elements back to back in one buffer.
#[derive(Clone)]
pub struct Packed {
    bytes: PackedBytes,
}

impl Default for Packed {
    fn default() -> Packed {
        Packed::new()
    }
}

impl Packed {
    pub fn new() -> Packed {
        Packed::with_room(FRESH_BYTES)
    }

    fn with_room(bytes: usize) -> Packed {
        let mut packed = Packed {
            bytes: PackedBytes::with_room(bytes),
        };
        packed.bytes.extend(&[0; HEAD]);
        packed
    }

    /// A listpack from elsewhere; `None` when it is not well-formed through and through.
    pub fn from_listpack(blob: &[u8]) -> Option<Packed> {
        let (total, rest) = blob.split_first_chunk::<LISTPACK_TOTAL_BYTES>()?;
        let (end, body) = rest.split_last()?;
        let claimed = u16::from_le_bytes(*body.first_chunk::<HEAD>()?);
        if u32::from_le_bytes(*total) as usize != blob.len() || *end != LISTPACK_END {
            return None;
        }
        let (mut at, mut count) = (HEAD, 0usize);
        while at < body.len() {
            let (_, length) = checked_item(&body[at..])?;
            at += length;
            count += 1;
        }
        let fits = claimed == MANY || claimed as usize == count;
        (fits && at == body.len()).then(|| {
            let mut bytes = PackedBytes::with_room(body.len());
            bytes.extend(body);
            Packed { bytes }
        })
    }

    /// Writes it as a listpack, which takes [`Packed::byte_len`] bytes.
    pub fn write_listpack(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.byte_len() as u32).to_le_bytes());
        out.extend_from_slice(self.bytes());
        out.push(LISTPACK_END);
    }

    /// Bytes of the listpack: what limits are compared with.
    pub fn byte_len(&self) -> usize {
        LISTPACK_TOTAL_BYTES + self.bytes().len() + 1
    }

    pub fn heap_bytes(&self) -> usize {
        self.bytes.heap_bytes()
    }

    /// As it is stored.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// From bytes as [`Packed::bytes`] has them.
    #[inline]
    pub(crate) fn from_bytes(bytes: PackedBytes) -> Packed {
        Packed { bytes }
    }

    #[inline]
    pub(crate) fn bytes_kept(&self) -> &PackedBytes {
        &self.bytes
    }

    /// With a buffer of its own: neither an entry's nor what was one's.
    pub(crate) fn standing_alone(self) -> Packed {
        Packed {
            bytes: self.bytes.standing_alone(),
        }
    }

    pub fn len(&self) -> usize {
        match u16::from_le_bytes([self.bytes()[0], self.bytes()[1]]) {
            MANY => self.iter().count(),
            count => count as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes().len() == HEAD
    }

    /// The first element, or the end.
    pub fn start(&self) -> At {
        At(HEAD)
    }

    /// Just past the last element: where an appended one goes.
    pub fn end(&self) -> At {
        At(self.bytes().len())
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
        At(at.0 + bytes_at(self.bytes(), at.0))
    }

    /// The element before `at`.
    pub fn prev(&self, at: At) -> Option<At> {
        (at.0 > HEAD).then(|| At(at.0 - back_step(self.bytes(), at.0)))
    }

    /// The element at `at`, and where the next one is; `None` at the end.
    #[inline]
    pub fn step(&self, at: At) -> Option<(Item<'_>, At)> {
        let bytes = self.bytes();
        (at.0 < bytes.len()).then(|| {
            let (item, length) = item_at(bytes, at.0);
            (item, At(at.0 + length))
        })
    }

    /// The element at `at`; `None` at the end.
    pub fn get(&self, at: At) -> Option<Item<'_>> {
        let bytes = self.bytes();
        (at.0 < bytes.len()).then(|| item_at(bytes, at.0).0)
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
        find(self.bytes(), from.0, &Needle::new(text), skip).map(At)
    }

    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(self.start())
    }

    pub fn iter_from(&self, at: At) -> Iter<'_> {
        Iter {
            bytes: self.bytes(),
            front: at.0,
            back: self.bytes().len(),
        }
    }

    /// The elements that lie before `at`; walk them with `rev()`.
    pub fn iter_to(&self, at: At) -> Iter<'_> {
        Iter {
            bytes: self.bytes(),
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
        self.replace_item(at, item_of(text));
    }

    pub fn replace_item(&mut self, at: At, item: Item<'_>) {
        self.put(at, bytes_at(self.bytes(), at.0), item);
    }

    /// Moves `count` elements from `from` on in front of the element at `to`, which is none of them but the first: where they then begin.
    pub fn shift(&mut self, from: At, count: usize, to: At) -> At {
        let end = (0..count).fold(from, |at, _| self.next(at));
        let length = end.0 - from.0;
        let bytes = self.bytes.as_mut_slice();
        if to <= from {
            bytes[to.0..end.0].rotate_right(length);
            to
        } else {
            bytes[from.0..to.0].rotate_left(length);
            At(to.0 - length)
        }
    }

    /// Takes out up to `count` elements from `at` on and says how many those were.
    pub fn remove(&mut self, at: At, count: usize) -> usize {
        let (mut to, mut removed) = (at, 0);
        while removed < count && to < self.end() {
            to = self.next(to);
            removed += 1;
        }
        self.bytes.open(at.0, to.0 - at.0, 0);
        self.add_to_len(-(removed as isize));
        removed
    }

    /// Everything from `at` on, taken out.
    pub fn split_off(&mut self, at: At) -> Packed {
        let mut tail = Packed::with_room(HEAD + self.bytes().len() - at.0);
        tail.bytes.extend(&self.bytes()[at.0..]);
        let count = self.iter_from(at).count();
        tail.add_to_len(count as isize);
        self.bytes.truncate(at.0);
        self.add_to_len(-(count as isize));
        tail
    }

    /// Puts all elements of `other` behind the last.
    pub fn append(&mut self, other: &Packed) {
        self.bytes.extend(&other.bytes()[HEAD..]);
        self.add_to_len(other.len() as isize);
    }

    /// Writes `item` over the `old` bytes at `at`.
    fn put(&mut self, at: At, old: usize, item: Item<'_>) {
        let mut head = [0; ENCODING_BYTES_MAX];
        let (head_len, data) = encoding(item, &mut head);
        let length = head_len + data.len();
        let mut back = [0; BACK_BYTES_MAX];
        let back_len = back_length(length, &mut back);
        let whole = length + back_len;
        self.bytes.open(at.0, old, whole);
        let place = &mut self.bytes.as_mut_slice()[at.0..at.0 + whole];
        place[..head_len].copy_from_slice(&head[..head_len]);
        place[head_len..length].copy_from_slice(data);
        place[length..].copy_from_slice(&back[..back_len]);
    }

    fn add_to_len(&mut self, delta: isize) {
        let known = u16::from_le_bytes([self.bytes()[0], self.bytes()[1]]);
        let count = match known {
            // Counted afresh only when elements went: it may be few enough to be written down.
            MANY if delta < 0 => self.iter().count(),
            MANY => return,
            known => usize::from(known).wrapping_add_signed(delta),
        };
        let written = u16::try_from(count).unwrap_or(MANY);
        self.bytes.as_mut_slice()[..HEAD].copy_from_slice(&written.to_le_bytes());
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
    bytes: &'a [u8],
    front: usize,
    back: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.front >= self.back {
            return None;
        }
        let (item, length) = item_at(self.bytes, self.front);
        self.front += length;
        Some(item)
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        if self.back <= HEAD {
            return None;
        }
        self.back -= back_step(self.bytes, self.back);
        Some(item_at(self.bytes, self.back).0)
    }
}

/// Bytes of the element before `at`.
fn back_step(bytes: &[u8], at: usize) -> usize {
    let (mut length, mut shift, mut from) = (0usize, 0, at - 1);
    loop {
        let byte = bytes[from];
        length |= usize::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return at - from + length;
        }
        shift += 7;
        from -= 1;
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Packed) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Packed {}
