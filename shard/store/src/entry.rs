//! One key with its value in one allocation, behind one owning 8-byte pointer. The only module with `unsafe`.
//!
//! ```text
//! byte 0     flags: content (bytes, integer, collection, packed collection), expiry?, long key?, width of the value's length, changed? (or two bits
//!            that say which collection is packed)
//! bytes 1-3  access: 24 bits that eviction keeps (see eviction.rs)
//! then       key length (1 byte, or 4) · value length (1, 2 or 4 bytes; only for bytes and packed collections) · expiry (8 bytes, when there is one)
//! then       key · value (bytes, or an integer in 8 bytes, or the bytes of a packed collection, or padding to 8 and a `Collection`)
//! ```
//! The size of the allocation is not stored: it is always [`room`] for what the header says is used: a block of the slabs (slab.rs), of the heaps
//! (heap.rs), or of the allocator. So a value is overwritten in place while its room stays the same, and the count of memory is that of the allocator.
//!
//! Invariants: (1) the header describes the bytes behind it at every return; (2) bytes up to `used()` are initialised;
//! (3) a `Collection` in an entry is owned by it, moved when the entry moves, and dropped once, by `Drop` or by
//! being taken.
#![allow(unsafe_code)]

mod heap;
mod kernel;
mod lent;
mod moving;
mod packed_bytes;
mod pages;
mod place;
mod room;
mod short;
mod slab;

pub(crate) use moving::Batch;
#[cfg(test)]
pub(crate) use moving::lost_bytes;
pub(crate) use packed_bytes::PackedBytes;
pub use packed_bytes::Tray;
pub(crate) use pages::{PAGE_BYTES, Pages};
pub(crate) use place::{EntryMut, EntryPlace};

use std::marker::PhantomData;
use std::ptr::NonNull;

use larder_wire::UnixMillis;

use self::room::{cost, give_entry, resize_entry, room, take_entry};
use crate::value::{Collection, PackedForm, StringRef, ValueRef, ValueType};

const CONTENT: u8 = 0b11;
const BYTES: u8 = 0;
const INT: u8 = 1;
const COLLECTION: u8 = 2;
const PACKED: u8 = 3;
const EXPIRES: u8 = 1 << 2;
const LONG_KEY: u8 = 1 << 3;
const WIDTH_SHIFT: u8 = 4;
const WIDTH: u8 = 0b11 << WIDTH_SHIFT;
const CHANGED: u8 = 1 << 6;
/// In the place of `CHANGED`, of a packed collection.
const FORM_SHIFT: u8 = 6;
/// What an entry keeps when its expiry comes or goes.
const KEPT: u8 = 0b11 << FORM_SHIFT;

const FIXED_BYTES: usize = 4;
const ALIGN: usize = 8;

const _: () = assert!(align_of::<Collection>() <= ALIGN);

/// An owned key with its value.
pub(crate) struct Entry {
    at: NonNull<u8>,
}

/// What goes into an entry.
pub(crate) enum Content<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    Collection(Collection),
}

impl Content<'_> {
    /// When the first element of a collection expires.
    pub(crate) fn next_due(&self) -> Option<UnixMillis> {
        match self {
            Content::Int(_) | Content::Bytes(_) => None,
            Content::Collection(collection) => collection.next_due(),
        }
    }
}

/// Where the parts of an entry lie; computed from the flags and the two lengths.
#[derive(Clone, Copy)]
struct Plan {
    flags: u8,
    key_len: usize,
    value_len: usize,
}

impl Plan {
    fn new(key_len: usize, kind: u8, value_len: usize, expires: bool, changed: bool) -> Plan {
        assert!(
            key_len <= u32::MAX as usize && value_len <= u32::MAX as usize,
            "lengths are bounded by the protocol's largest bulk string"
        );
        let mut flags = kind;
        if expires {
            flags |= EXPIRES;
        }
        if key_len > usize::from(u8::MAX) {
            flags |= LONG_KEY;
        }
        if changed {
            flags |= CHANGED;
        }
        if has_length(kind) {
            flags |= width_code(value_len) << WIDTH_SHIFT;
        }
        Plan {
            flags,
            key_len,
            value_len,
        }
    }

    #[inline]
    fn kind(&self) -> u8 {
        self.flags & CONTENT
    }

    /// Offset of the value's length.
    #[inline]
    fn value_len_at(&self) -> usize {
        FIXED_BYTES + if self.flags & LONG_KEY == 0 { 1 } else { 4 }
    }

    #[inline]
    fn expiry_at(&self) -> usize {
        self.value_len_at() + value_len_width(self.flags)
    }

    #[inline]
    fn key_at(&self) -> usize {
        self.expiry_at() + if self.flags & EXPIRES == 0 { 0 } else { 8 }
    }

    #[inline]
    fn value_at(&self) -> usize {
        let end = self.key_at() + self.key_len;
        match self.kind() {
            COLLECTION => end.next_multiple_of(ALIGN),
            _ => end,
        }
    }

    #[inline]
    fn used(&self) -> usize {
        self.value_at() + self.value_len
    }
}

#[inline]
fn width_code(value_len: usize) -> u8 {
    if value_len <= usize::from(u8::MAX) {
        0
    } else if value_len <= usize::from(u16::MAX) {
        1
    } else {
        2
    }
}

/// The length of such a value is in the header.
#[inline]
const fn has_length(kind: u8) -> bool {
    kind == BYTES || kind == PACKED
}

/// Bytes that the value's length takes in the header.
#[inline]
fn value_len_width(flags: u8) -> usize {
    if has_length(flags & CONTENT) {
        1 << ((flags & WIDTH) >> WIDTH_SHIFT)
    } else {
        0
    }
}

/// A look at an entry, as long as nobody changes it.
#[derive(Clone, Copy)]
pub(crate) struct EntryRef<'a> {
    at: NonNull<u8>,
    _entry: PhantomData<&'a Entry>,
}

impl<'a> EntryRef<'a> {
    #[inline]
    fn flags(self) -> u8 {
        // SAFETY: invariant 1.
        unsafe { self.at.as_ptr().read() }
    }

    #[inline]
    fn plan(self) -> Plan {
        let flags = self.flags();
        // SAFETY: invariant 1: the lengths stand where the flags say.
        unsafe {
            let base = self.at.as_ptr();
            let key_len = if flags & LONG_KEY == 0 {
                base.add(FIXED_BYTES).read() as usize
            } else {
                base.add(FIXED_BYTES).cast::<u32>().read_unaligned() as usize
            };
            let mut plan = Plan {
                flags,
                key_len,
                value_len: 0,
            };
            let place = base.add(plan.value_len_at());
            plan.value_len = match flags & CONTENT {
                INT => 8,
                COLLECTION => size_of::<Collection>(),
                _ => match value_len_width(flags) {
                    1 => place.read() as usize,
                    2 => place.cast::<u16>().read_unaligned() as usize,
                    _ => place.cast::<u32>().read_unaligned() as usize,
                },
            };
            plan
        }
    }

    #[inline]
    pub(crate) fn key(self) -> &'a [u8] {
        let plan = self.plan();
        // SAFETY: invariants 1 and 2.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().add(plan.key_at()), plan.key_len) }
    }

    /// The value; a packed collection is laid out on the tray.
    #[inline]
    pub(crate) fn value<'r>(self, tray: &'r mut Tray) -> ValueRef<'r>
    where
        'a: 'r,
    {
        let plan = self.plan();
        match plan.kind() {
            // SAFETY: the entry is not changed while it is looked at, and nobody drops what lies on a tray.
            PACKED => ValueRef::Collection(tray.lay(unsafe { plan.collection_in(self.at) })),
            COLLECTION => ValueRef::Collection(self.collection_of(plan)),
            _ => ValueRef::String(self.string_of(plan)),
        }
    }

    /// `None` for a collection.
    #[inline]
    pub(crate) fn string(self) -> Option<StringRef<'a>> {
        let plan = self.plan();
        matches!(plan.kind(), INT | BYTES).then(|| self.string_of(plan))
    }

    /// The collection, if it is apart from the entry: not a packed one that lies in it.
    #[inline]
    pub(crate) fn collection_apart(self) -> Option<&'a Collection> {
        (self.flags() & CONTENT == COLLECTION).then(|| self.collection_of(self.plan()))
    }

    pub(crate) fn is_collection(self) -> bool {
        matches!(self.flags() & CONTENT, COLLECTION | PACKED)
    }

    pub(crate) fn value_type(self) -> ValueType {
        let plan = self.plan();
        match plan.kind() {
            PACKED => plan.form().value_type(),
            COLLECTION => self.collection_of(plan).value_type(),
            _ => ValueType::String,
        }
    }

    #[inline]
    fn string_of(self, plan: Plan) -> StringRef<'a> {
        // SAFETY: invariants 1 and 2: the content's kind says what lies at `value_at()`.
        unsafe {
            let place = self.at.as_ptr().add(plan.value_at());
            if plan.kind() == INT {
                StringRef::Int(place.cast::<i64>().read_unaligned())
            } else {
                StringRef::Bytes(std::slice::from_raw_parts(place, plan.value_len))
            }
        }
    }

    #[inline]
    fn collection_of(self, plan: Plan) -> &'a Collection {
        assert_eq!(plan.kind(), COLLECTION);
        // SAFETY: a collection lies there, aligned.
        unsafe { &*self.at.as_ptr().add(plan.value_at()).cast::<Collection>() }
    }

    /// When the first element of a collection expires.
    #[inline]
    pub(crate) fn next_due(self) -> Option<UnixMillis> {
        self.collection_apart()?.next_due()
    }

    #[inline]
    pub(crate) fn expires(self) -> Option<UnixMillis> {
        let flags = self.flags();
        if flags & EXPIRES == 0 {
            return None;
        }
        let plan = self.plan();
        // SAFETY: invariant 1.
        unsafe {
            let place = self.at.as_ptr().add(plan.expiry_at());
            Some(UnixMillis(place.cast::<i64>().read_unaligned()))
        }
    }

    /// True when a command changed the string in place (APPEND, SETRANGE, …): OBJECT ENCODING then says `raw`.
    pub(crate) fn is_changed(self) -> bool {
        self.flags() & CHANGED != 0
    }

    #[inline]
    pub(crate) fn access(self) -> u32 {
        // SAFETY: the fixed header is always there.
        let word = unsafe { self.at.as_ptr().cast::<u32>().read() };
        u32::from_le(word) >> 8
    }

    /// Bytes of the allocation, without what a collection holds elsewhere.
    #[inline]
    pub(crate) fn allocated(self) -> usize {
        cost(self.plan().used())
    }

    /// Bytes in all.
    #[inline]
    pub(crate) fn footprint(self) -> usize {
        self.allocated() + self.apart_bytes()
    }

    /// Bytes that a collection holds elsewhere.
    #[inline]
    pub(crate) fn apart_bytes(self) -> usize {
        self.collection_apart().map_or(0, Collection::heap_bytes)
    }

    /// Where the entry lies; the same as long as it is not moved.
    pub(crate) fn address(self) -> usize {
        self.at.addr().get()
    }
}

impl Entry {
    pub(crate) fn new(
        key: &[u8],
        content: Content<'_>,
        expires: Option<UnixMillis>,
        access: u32,
    ) -> Entry {
        match content {
            Content::Int(int) => {
                let plan = Plan::new(key.len(), INT, 8, expires.is_some(), false);
                Entry::build(plan, key, &int.to_ne_bytes(), expires, access)
            }
            Content::Bytes(bytes) => {
                let plan = Plan::new(key.len(), BYTES, bytes.len(), expires.is_some(), false);
                Entry::build(plan, key, bytes, expires, access)
            }
            Content::Collection(collection) => {
                if let Some((form, bytes)) = lent::to_lie_inside(key, &collection) {
                    return Entry::packed(key, form, bytes, expires, access);
                }
                let collection = collection.standing_alone();
                let plan = Plan::new(
                    key.len(),
                    COLLECTION,
                    size_of::<Collection>(),
                    expires.is_some(),
                    false,
                );
                // SAFETY: the plan leaves room for a `Collection` at an aligned offset, which is filled before anyone sees the entry.
                unsafe {
                    let entry = Entry::allocate(plan, key, expires, access);
                    let place = entry.at.as_ptr().add(plan.value_at());
                    place.cast::<Collection>().write(collection);
                    entry
                }
            }
        }
    }

    fn packed(
        key: &[u8],
        form: PackedForm,
        bytes: &[u8],
        expires: Option<UnixMillis>,
        access: u32,
    ) -> Entry {
        let mut plan = Plan::new(key.len(), PACKED, bytes.len(), expires.is_some(), false);
        plan.flags |= (form as u8) << FORM_SHIFT;
        Entry::build(plan, key, bytes, expires, access)
    }

    fn build(
        plan: Plan,
        key: &[u8],
        value: &[u8],
        expires: Option<UnixMillis>,
        access: u32,
    ) -> Entry {
        debug_assert_eq!(plan.value_len, value.len());
        // SAFETY: the plan has room for `value.len()` bytes at `value_at()`; `value` lies in another allocation.
        unsafe {
            let entry = Entry::allocate(plan, key, expires, access);
            let place = entry.at.as_ptr().add(plan.value_at());
            place.copy_from_nonoverlapping(value.as_ptr(), value.len());
            entry
        }
    }

    /// Allocates and writes all but the value.
    ///
    /// # Safety
    /// The caller initialises the value's `plan.value_len` bytes at `plan.value_at()` before the entry is used or dropped.
    unsafe fn allocate(plan: Plan, key: &[u8], expires: Option<UnixMillis>, access: u32) -> Entry {
        debug_assert_eq!(plan.key_len, key.len());
        debug_assert_eq!(plan.flags & EXPIRES != 0, expires.is_some());
        let at = take_entry(plan.used());
        // SAFETY: all offsets written lie below `used()`.
        unsafe {
            let mut entry = Entry { at };
            let base = at.as_ptr();
            base.write(plan.flags);
            entry.set_access(access);
            if plan.flags & LONG_KEY == 0 {
                base.add(FIXED_BYTES).write(plan.key_len as u8);
            } else {
                base.add(FIXED_BYTES)
                    .cast::<u32>()
                    .write_unaligned(plan.key_len as u32);
            }
            entry.write_value_len(plan);
            if let Some(at) = expires {
                base.add(plan.expiry_at())
                    .cast::<i64>()
                    .write_unaligned(at.0);
            }
            base.add(plan.key_at())
                .copy_from_nonoverlapping(key.as_ptr(), key.len());
            entry
        }
    }

    /// # Safety
    /// The header of `plan`'s shape is in place.
    unsafe fn write_value_len(&mut self, plan: Plan) {
        // SAFETY: the header has `value_len_width` bytes there, which hold any length of that width.
        unsafe {
            let place = self.at.as_ptr().add(plan.value_len_at());
            match value_len_width(plan.flags) {
                0 => {}
                1 => place.write(plan.value_len as u8),
                2 => place.cast::<u16>().write_unaligned(plan.value_len as u16),
                _ => place.cast::<u32>().write_unaligned(plan.value_len as u32),
            }
        }
    }

    #[inline]
    pub(crate) fn look(&self) -> EntryRef<'_> {
        EntryRef {
            at: self.at,
            _entry: PhantomData,
        }
    }

    #[inline]
    fn plan(&self) -> Plan {
        self.look().plan()
    }

    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.look().key()
    }

    #[inline]
    pub(crate) fn value<'r>(&'r self, tray: &'r mut Tray) -> ValueRef<'r> {
        self.look().value(tray)
    }

    pub(crate) fn next_due(&self) -> Option<UnixMillis> {
        self.look().next_due()
    }

    #[inline]
    pub(crate) fn expires(&self) -> Option<UnixMillis> {
        self.look().expires()
    }

    #[inline]
    pub(crate) fn access(&self) -> u32 {
        self.look().access()
    }

    #[inline]
    pub(crate) fn allocated(&self) -> usize {
        self.look().allocated()
    }

    #[inline]
    pub(crate) fn footprint(&self) -> usize {
        self.look().footprint()
    }

    /// Takes a collection out, freeing the rest; a string is given back.
    pub(crate) fn into_collection(self) -> Result<Collection, Entry> {
        let plan = self.plan();
        if !self.look().is_collection() {
            return Err(self);
        }
        let entry = std::mem::ManuallyDrop::new(self);
        // SAFETY: the collection is read once and the entry freed without dropping it (invariant 3), or the block is the collection's from here on.
        unsafe {
            if plan.kind() == PACKED {
                return Ok(plan.collection_in(entry.at));
            }
            let base = entry.at.as_ptr();
            let collection = base.add(plan.value_at()).cast::<Collection>().read();
            give_entry(entry.at, plan.used());
            Ok(collection)
        }
    }

    #[inline]
    pub(crate) fn set_access(&mut self, access: u32) {
        // SAFETY: the fixed header is always there, aligned to 8; the flags' byte is kept.
        unsafe {
            let place = self.at.as_ptr().cast::<u32>();
            let flags = self.at.as_ptr().read();
            place.write((access << 8 | u32::from(flags)).to_le());
        }
    }

    /// Puts `content` and `expires` in place of what is there; in the same allocation when that has the right size.
    pub(crate) fn replace(&mut self, content: Content<'_>, expires: Option<UnixMillis>) {
        let plan = self.plan();
        let (kind, value): (u8, &[u8]) = match &content {
            Content::Int(int) => (INT, &int.to_ne_bytes()),
            Content::Bytes(bytes) => (BYTES, bytes),
            Content::Collection(_) => (COLLECTION, &[]),
        };
        let next = Plan::new(plan.key_len, kind, value.len(), expires.is_some(), false);
        let fits = kind != COLLECTION
            && !self.look().is_collection()
            && next.key_at() == plan.key_at()
            && room(next.used()) == room(plan.used());
        if !fits {
            *self = Entry::new(self.key(), content, expires, self.access());
            return;
        }
        // SAFETY: both plans have their key at the same offset and the same allocation; the new plan's parts end at or before
        // its size class. Flags, length, expiry and value are all written, so the header is true at the end.
        unsafe {
            let base = self.at.as_ptr();
            base.write(next.flags);
            self.write_value_len(next);
            if let Some(at) = expires {
                base.add(next.expiry_at())
                    .cast::<i64>()
                    .write_unaligned(at.0);
            }
            base.add(next.value_at())
                .copy_from_nonoverlapping(value.as_ptr(), value.len());
        }
    }

    /// Writes another integer in place of one; false when the value is none.
    #[inline]
    pub(crate) fn set_int(&mut self, int: i64) -> bool {
        let plan = self.plan();
        if plan.kind() != INT {
            return false;
        }
        // SAFETY: invariant 1: the flags say that the value is the eight bytes of an integer.
        unsafe {
            let place = self.at.as_ptr().add(plan.value_at());
            place.cast::<i64>().write_unaligned(int);
        }
        true
    }

    pub(crate) fn set_expiry(&mut self, expires: Option<UnixMillis>) {
        let plan = self.plan();
        match expires {
            Some(at) if plan.flags & EXPIRES != 0 => {
                // SAFETY: the header has an expiry.
                unsafe {
                    let place = self.at.as_ptr().add(plan.expiry_at());
                    place.cast::<i64>().write_unaligned(at.0);
                }
            }
            None if plan.flags & EXPIRES == 0 => {}
            Some(_) | None => self.rebuild(expires),
        }
    }

    /// Moves everything into a new allocation with another expiry.
    fn rebuild(&mut self, expires: Option<UnixMillis>) {
        let plan = self.plan();
        let mut next = Plan::new(
            plan.key_len,
            plan.kind(),
            plan.value_len,
            expires.is_some(),
            false,
        );
        next.flags |= plan.flags & KEPT;
        // SAFETY: the value's bytes (a collection's too) are moved, and the old allocation is freed without dropping them (invariant 3).
        unsafe {
            let entry = Entry::allocate(next, self.key(), expires, self.access());
            let base = self.at.as_ptr();
            entry
                .at
                .as_ptr()
                .add(next.value_at())
                .copy_from_nonoverlapping(base.add(plan.value_at()), plan.value_len);
            give_entry(self.at, plan.used());
            self.at = entry.at;
            std::mem::forget(entry);
        }
    }

    /// The string's bytes, made `len` long (zeros are added at the end), to be written to. An integer becomes its text first. `None`
    /// for a collection.
    pub(crate) fn resize(&mut self, len: usize) -> Option<&mut [u8]> {
        let mut plan = self.plan();
        if let StringRef::Int(int) = self.look().string()? {
            let mut digits = [0; 20];
            let text = larder_wire::resp::write::decimal(&mut digits, int);
            *self = Entry::new(
                self.key(),
                Content::Bytes(text),
                self.expires(),
                self.access(),
            );
            plan = self.plan();
        }
        let next = Plan::new(plan.key_len, BYTES, len, plan.flags & EXPIRES != 0, true);
        if next.key_at() == plan.key_at() {
            self.resize_in_shape(plan, next);
        } else {
            // SAFETY: the value's first `min` bytes are copied and the rest zeroed before the entry is used.
            unsafe {
                let entry = Entry::allocate(next, self.key(), self.expires(), self.access());
                let kept = plan.value_len.min(len);
                let place = entry.at.as_ptr().add(next.value_at());
                place.copy_from_nonoverlapping(self.at.as_ptr().add(plan.value_at()), kept);
                place.add(kept).write_bytes(0, len - kept);
                *self = entry;
            }
        }
        // SAFETY: invariants 1 and 2 hold for `next`; `&mut self` makes the slice the only one.
        unsafe {
            Some(std::slice::from_raw_parts_mut(
                self.at.as_ptr().add(next.value_at()),
                len,
            ))
        }
    }

    /// Moves everything to where the allocator would put it now.
    pub(crate) fn relocate(&mut self) {
        let used = self.plan().used();
        // SAFETY: both rooms have so many bytes; a collection is moved with them, and the old room freed without dropping it (invariant 3).
        unsafe {
            let at = take_entry(used);
            at.as_ptr().copy_from_nonoverlapping(self.at.as_ptr(), used);
            give_entry(self.at, used);
            self.at = at;
        }
    }

    /// Grows or shrinks bytes whose header keeps its shape.
    fn resize_in_shape(&mut self, plan: Plan, next: Plan) {
        let (before, after) = (plan.used(), next.used());
        // SAFETY: the allocation has `room(before)` bytes. Bytes past the old length are zeroed up to the new one; header and room then agree.
        unsafe {
            self.at = resize_entry(self.at, before, after);
            let base = self.at.as_ptr();
            base.write(next.flags);
            self.write_value_len(next);
            if next.value_len > plan.value_len {
                base.add(plan.used())
                    .write_bytes(0, next.value_len - plan.value_len);
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let plan = self.plan();
        // SAFETY: invariant 3; the layout is the one allocated (module text).
        unsafe {
            let base = self.at.as_ptr();
            if plan.kind() == COLLECTION {
                base.add(plan.value_at())
                    .cast::<Collection>()
                    .drop_in_place();
            }
            give_entry(self.at, plan.used());
        }
    }
}
