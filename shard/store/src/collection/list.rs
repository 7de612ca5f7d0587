//! A list: one packed buffer while small, a tree of packed chunks once large.

use super::either::Either;
use super::item::{Item, Needle};
use super::packed::Packed;
use super::pieces::Budget;
use super::settings::{CollectionSettings, ListPackedMax};
use super::tree::{Leaf, Side, Tree};

/// Bytes from which on a chunk of several elements is split.
const CHUNK_BYTES_MAX: usize = 8 * 1024;
/// What a list of few but long elements may take in its packed form when elements are counted.
const COUNTED_BYTES_MAX: usize = 8 * 1024;

/// One chunk of a large list.
#[derive(Clone, Default)]
pub struct Chunk(Packed);

#[derive(Clone)]
pub enum List {
    Packed(Packed),
    Chunks(Tree<Chunk>),
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Left,
    Right,
}

impl Default for List {
    fn default() -> List {
        List::Packed(Packed::new())
    }
}

impl List {
    pub fn new() -> List {
        List::default()
    }

    pub fn from_elements<'a>(
        elements: impl IntoIterator<Item = &'a [u8]>,
        settings: &CollectionSettings,
    ) -> List {
        let mut list = List::new();
        for element in elements {
            list.push(End::Right, element, settings);
        }
        list
    }

    pub fn len(&self) -> usize {
        match self {
            List::Packed(packed) => packed.len(),
            List::Chunks(chunks) => chunks.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            List::Packed(packed) => packed.is_empty(),
            List::Chunks(chunks) => chunks.is_empty(),
        }
    }

    pub fn heap_bytes(&self) -> usize {
        match self {
            List::Packed(packed) => packed.heap_bytes(),
            List::Chunks(chunks) => chunks.heap_bytes(),
        }
    }

    /// As OBJECT ENCODING names it: Redis 7.0 has one name for short and for long lists.
    pub fn encoding(&self) -> &'static str {
        match self {
            List::Packed(_) | List::Chunks(_) => "quicklist",
        }
    }

    pub fn push(&mut self, end: End, element: &[u8], settings: &CollectionSettings) {
        let at = match end {
            End::Left => 0,
            End::Right => self.len(),
        };
        self.insert(at, element, settings);
    }

    /// Puts `element` before the one at `at`, or at the end.
    pub fn insert(&mut self, at: usize, element: &[u8], settings: &CollectionSettings) {
        self.make_room(element.len(), 1, settings);
        match self {
            List::Packed(packed) => {
                let place = packed.seek(at);
                packed.insert(place, element);
            }
            List::Chunks(chunks) => chunks.edit(at, Side::Before, |Chunk(packed), index| {
                let place = packed.seek(index);
                packed.insert(place, element);
            }),
        }
    }

    /// The element at `at` becomes `element`.
    pub fn set(&mut self, at: usize, element: &[u8], settings: &CollectionSettings) {
        self.make_room(element.len(), 0, settings);
        match self {
            List::Packed(packed) => {
                let place = packed.seek(at);
                packed.replace(place, element);
            }
            List::Chunks(chunks) => chunks.edit(at, Side::At, |Chunk(packed), index| {
                let place = packed.seek(index);
                packed.replace(place, element);
            }),
        }
        self.settle(settings);
    }

    /// Takes out `count` elements from `at` on.
    pub fn remove(&mut self, at: usize, mut count: usize, settings: &CollectionSettings) {
        match self {
            List::Packed(packed) => {
                let place = packed.seek(at);
                packed.remove(place, count);
            }
            List::Chunks(chunks) => {
                while count > 0 {
                    count -= chunks.edit(at, Side::At, |Chunk(packed), index| {
                        let place = packed.seek(index);
                        packed.remove(place, count)
                    });
                }
            }
        }
        self.settle(settings);
    }

    /// Takes out up to `limit` elements that spell `element`, looking from `end` on: how many they were.
    pub fn remove_matching(
        &mut self,
        element: &[u8],
        limit: usize,
        end: End,
        settings: &CollectionSettings,
    ) -> usize {
        let removed = match (&mut *self, end) {
            (List::Packed(packed), End::Left) => remove_matching(packed, element, limit),
            (List::Packed(packed), End::Right) => remove_matching_back(packed, element, limit),
            (List::Chunks(chunks), End::Left) => {
                let (mut at, mut removed) = (0, 0);
                while at < chunks.len() && removed < limit {
                    // A chunk joined with its predecessor starts with elements that were looked at: none of them matches.
                    let (Chunk(packed), passed) = chunks.leaf_at(at);
                    at += packed.len() - passed;
                    if packed.find(packed.start(), element, 0).is_some() {
                        let here = chunks.edit(at - 1, Side::At, |Chunk(packed), _| {
                            remove_matching(packed, element, limit - removed)
                        });
                        removed += here;
                        at -= here;
                    }
                }
                removed
            }
            (List::Chunks(chunks), End::Right) => {
                let (mut left, mut removed) = (chunks.len(), 0);
                while left > 0 && removed < limit {
                    let (Chunk(packed), last) = chunks.leaf_at(left - 1);
                    let found = packed.find(packed.start(), element, 0).is_some();
                    if found {
                        removed += chunks.edit(left - 1, Side::At, |Chunk(packed), _| {
                            remove_matching_back(packed, element, limit - removed)
                        });
                    }
                    left -= last + 1;
                }
                removed
            }
        };
        self.settle(settings);
        removed
    }

    pub fn get(&self, at: usize) -> Option<Item<'_>> {
        match self {
            List::Packed(packed) => packed.get(packed.seek(at)),
            List::Chunks(chunks) if at >= chunks.len() => None,
            List::Chunks(chunks) => {
                let (Chunk(packed), index) = chunks.leaf_at(at);
                packed.get(packed.seek(index))
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        self.iter_from(0)
    }

    /// The elements from `from` on.
    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = Item<'_>> {
        match self {
            List::Packed(packed) => Either::One(packed.iter_from(packed.seek(from))),
            List::Chunks(chunks) => Either::Other(
                chunks
                    .leaves_from(from)
                    .flat_map(|(Chunk(packed), first)| packed.iter_from(packed.seek(first))),
            ),
        }
    }

    /// The elements from `from` on, backwards.
    pub fn iter_back_from(&self, from: usize) -> impl Iterator<Item = Item<'_>> {
        match self {
            List::Packed(packed) => Either::One(packed.iter_to(packed.seek(from + 1)).rev()),
            List::Chunks(chunks) => Either::Other(
                chunks
                    .leaves_back_from(from)
                    .flat_map(|(Chunk(packed), last)| packed.iter_to(packed.seek(last + 1)).rev()),
            ),
        }
    }

    /// The packed buffers in order, as a dump has them.
    pub fn packed_chunks(&self) -> impl Iterator<Item = &Packed> {
        self.packed_chunks_from(0)
    }

    /// As [`List::packed_chunks`], from the one on that begins with element `from`.
    pub fn packed_chunks_from(&self, from: usize) -> impl Iterator<Item = &Packed> {
        match self {
            List::Packed(packed) => Either::One((from == 0).then_some(packed).into_iter()),
            List::Chunks(chunks) => {
                Either::Other(chunks.leaves_from(from).map(|(Chunk(packed), _)| packed))
            }
        }
    }

    /// Shows the elements from place `from` on until `budget` is spent, at least one: the place to go on from, `None` at the end.
    pub fn piece<'a>(
        &'a self,
        from: usize,
        mut budget: Budget,
        mut show: impl FnMut(Item<'a>),
    ) -> Option<usize> {
        for (place, element) in (from..).zip(self.iter_from(from)) {
            if !budget.takes(element.len()) {
                return Some(place);
            }
            show(element);
        }
        None
    }

    /// Throws away about `limit` elements; true once nothing is left.
    pub fn free_some(&mut self, limit: usize) -> bool {
        match self {
            List::Packed(packed) => {
                *packed = Packed::new();
                true
            }
            List::Chunks(chunks) => chunks.free_some(limit),
        }
    }

    /// Leaves the packed form if `bytes` more in `elements` more elements are too much for it.
    fn make_room(&mut self, bytes: usize, elements: usize, settings: &CollectionSettings) {
        let List::Packed(packed) = self else { return };
        if !fits(
            packed.byte_len() + bytes,
            || packed.len() + elements,
            settings,
        ) {
            *self = List::Chunks(Tree::from_leaf(Chunk(
                std::mem::take(packed).standing_alone(),
            )));
        }
    }

    /// Goes back to the packed form once one chunk of half its largest size is left.
    fn settle(&mut self, settings: &CollectionSettings) {
        if let List::Chunks(chunks) = self
            && let Some(Chunk(packed)) = chunks.only_leaf()
            && fits(packed.byte_len() * 2, || packed.len() * 2, settings)
        {
            *self = List::Packed(packed.clone());
        }
    }
}

fn fits(bytes: usize, elements: impl FnOnce() -> usize, settings: &CollectionSettings) -> bool {
    match settings.list_packed_max {
        ListPackedMax::Bytes(max) => bytes <= max,
        ListPackedMax::Entries(max) => bytes <= COUNTED_BYTES_MAX && elements() <= max,
    }
}

fn remove_matching(packed: &mut Packed, element: &[u8], limit: usize) -> usize {
    let (mut removed, mut from) = (0, packed.start());
    while removed < limit
        && let Some(at) = packed.find(from, element, 0)
    {
        packed.remove(at, 1);
        removed += 1;
        from = at;
    }
    removed
}

fn remove_matching_back(packed: &mut Packed, element: &[u8], limit: usize) -> usize {
    let needle = Needle::new(element);
    let (mut removed, mut at) = (0, packed.end());
    while removed < limit
        && let Some(before) = packed.prev(at)
    {
        if packed.get(before).is_some_and(|item| needle.is(item)) {
            packed.remove(before, 1);
            removed += 1;
        }
        at = before;
    }
    removed
}

impl Leaf for Chunk {
    type Mark = ();

    fn len(&self) -> usize {
        self.0.len()
    }

    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }

    fn mark(&self) {}

    fn is_overfull(&self) -> bool {
        self.0.byte_len() > CHUNK_BYTES_MAX && self.0.len() > 1
    }

    fn split(&mut self, edited: usize) -> Chunk {
        let packed = &mut self.0;
        let last = packed.len() - 1;
        let at = if edited >= last {
            packed.seek(last)
        } else if edited == 0 {
            packed.seek(1)
        } else {
            middle(packed)
        };
        Chunk(packed.split_off(at))
    }

    fn joins(&self, next: &Chunk) -> bool {
        let (one, other) = (self.0.byte_len(), next.0.byte_len());
        one.min(other) < CHUNK_BYTES_MAX / 4 && one + other <= CHUNK_BYTES_MAX * 3 / 4
    }

    fn append(&mut self, next: &Chunk) {
        self.0.append(&next.0);
    }
}

/// The element that half of the bytes come before, neither the first nor the end.
fn middle(packed: &Packed) -> super::packed::At {
    let (mut at, mut passed) = (packed.next(packed.start()), 1);
    let len = packed.len();
    while passed + 1 < len && packed.bytes_before(at) < packed.byte_len() / 2 {
        at = packed.next(at);
        passed += 1;
    }
    at
}
