//! The packed form: small elements back to back in one buffer, walked from either end.
//!
//! The layout is that of Redis' listpack (<https://github.com/antirez/listpack>), so that a dump is the
//! buffer as it stands: `<bytes u32><elements u16> element* 0xFF`, an element being
//! `<encoding><data><length of both, readable backwards>`. Integers in their canonical spelling are
//! kept as binary integers. Knows nothing of hashes, lists or sets.

use super::item::{Item, Needle, item_of};
use super::listpack::{
    BACK_BYTES_MAX, ENCODING_BYTES_MAX, back_length, checked_item, encoding, item_at,
};
use super::mem;

const HEAD: usize = 6;
const END: u8 = 0xFF;
/// The element count that means "count them".
const MANY: u16 = u16::MAX;

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
