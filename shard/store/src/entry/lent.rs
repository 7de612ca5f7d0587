//! Small packed collections in the block of their entry: how they are changed, and how they come and go.
//!
//! 1. To be changed, the block is lent to a collection that is made for as long as the change takes. It may grow, shrink or outgrow the block.
//! 2. Afterwards the entry has the block back, wherever it lies by then; a collection that is packed no more, or too large, goes into an entry that
//!    points to it.
//!
//! The bytes before the collection's own are kept aside meanwhile: a collection that leaves its packed form frees the block with the key in it.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::packed_bytes::{Block, PackedBytes};
use super::room::cost;
use super::{COLLECTION, Content, EXPIRES, Entry, FORM_SHIFT, PACKED, Plan, width_code};
use crate::collection::Packed;
use crate::value::{Collection, PackedForm};

/// Most bytes of a packed collection in its entry.
const PACKED_BYTES_MAX: usize = 1024;
/// A collection that has outgrown its entry comes back when it takes no more than this.
const COMES_BACK_BYTES_MAX: usize = 512;
/// Most bytes of a key with a packed collection behind it, and what the header before it may take.
const KEY_BYTES_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16;
const HEAD_BYTES_MAX: usize = HEADER_BYTES_MAX + KEY_BYTES_MAX;

/// The collection's form and bytes, if it is to lie in its entry.
pub(super) fn to_lie_inside<'c>(
    key: &[u8],
    collection: &'c Collection,
) -> Option<(PackedForm, &'c [u8])> {
    inside(key, collection, PACKED_BYTES_MAX)
}

fn inside<'c>(
    key: &[u8],
    collection: &'c Collection,
    bytes_max: usize,
) -> Option<(PackedForm, &'c [u8])> {
    let (form, packed) = collection.as_packed()?;
    let bytes = packed.bytes();
    (bytes.len() <= bytes_max && key.len() <= KEY_BYTES_MAX).then_some((form, bytes))
}

impl Plan {
    /// What a packed collection of this entry is.
    pub(super) fn form(&self) -> PackedForm {
        PackedForm::ALL[usize::from(self.flags >> FORM_SHIFT)]
    }

    /// The collection that an entry of this plan is, made of its block.
    ///
    /// # Safety
    /// The block is that of such an entry, and the entry is used no more while the collection is; or the collection is neither changed nor dropped.
    #[inline]
    pub(super) unsafe fn collection_in(&self, at: NonNull<u8>) -> Collection {
        debug_assert_eq!(self.kind(), PACKED);
        let bytes = PackedBytes::from_block(Block {
            at,
            skip: self.value_at() as u32,
            len: self.value_len as u32,
        });
        Collection::from_packed(self.form(), Packed::from_bytes(bytes))
    }
}

/// What an edit gave, and the entry's bytes in all.
pub(crate) struct Edited<R> {
    pub(crate) result: R,
    pub(crate) before: usize,
    pub(crate) after: usize,
}

impl Entry {
    /// Lets `change` change the collection; `None` when the value is a string.
    #[inline]
    pub(crate) fn edit<R>(
        &mut self,
        change: impl FnOnce(&mut Collection) -> R,
    ) -> Option<Edited<R>> {
        let plan = self.plan();
        match plan.kind() {
            PACKED => {
                let before = cost(plan.used());
                let mut lent = Lent::take(self, plan);
                let result = change(&mut lent.collection);
                drop(lent);
                Some(Edited {
                    result,
                    before,
                    after: self.footprint(),
                })
            }
            COLLECTION => {
                // SAFETY: the kind says that a collection lies there; `&mut self` makes the reference the only one.
                let collection =
                    unsafe { &mut *self.at.as_ptr().add(plan.value_at()).cast::<Collection>() };
                let before = cost(plan.used()) + collection.heap_bytes();
                let result = change(collection);
                if inside(self.key(), collection, COMES_BACK_BYTES_MAX).is_some() {
                    self.take_inside();
                }
                Some(Edited {
                    result,
                    before,
                    after: self.footprint(),
                })
            }
            _ => None,
        }
    }

    /// Puts the packed collection that the entry points to into the entry.
    #[cold]
    fn take_inside(&mut self) {
        let (key, expires, access) = (self.key().to_vec(), self.expires(), self.access());
        let blank = Entry::new(b"", Content::Int(0), None, 0);
        if let Ok(collection) = std::mem::replace(self, blank).into_collection() {
            *self = Entry::new(&key, Content::Collection(collection), expires, access);
        }
    }
}

/// A packed collection out of its entry, which is not to be used until this is dropped.
struct Lent<'a> {
    entry: &'a mut Entry,
    collection: ManuallyDrop<Collection>,
    /// Header and key.
    head: [u8; HEAD_BYTES_MAX],
    plan: Plan,
}

impl Lent<'_> {
    #[inline]
    fn take(entry: &mut Entry, plan: Plan) -> Lent<'_> {
        let mut head = [0; HEAD_BYTES_MAX];
        // SAFETY: the bytes before the collection's own are initialised, and no more than that: only entries with short keys are packed. The block
        // goes to the collection; the entry is not used until `drop` gives it a block again.
        unsafe {
            let own = std::slice::from_raw_parts(entry.at.as_ptr(), plan.value_at());
            head[..own.len()].copy_from_slice(own);
            Lent {
                collection: ManuallyDrop::new(plan.collection_in(entry.at)),
                entry,
                head,
                plan,
            }
        }
    }

    /// Where the block lies and how many bytes are the collection's, if it still has a block and the header's shape fits what is in it now.
    #[inline]
    fn block(&self) -> Option<(NonNull<u8>, usize)> {
        let (form, packed) = self.collection.as_packed()?;
        let block = packed.bytes_kept().as_block()?;
        let len = block.len as usize;
        let fits = form == self.plan.form()
            && block.skip as usize == self.plan.value_at()
            && len <= PACKED_BYTES_MAX
            && width_code(len) == width_code(self.plan.value_len);
        fits.then_some((block.at, len))
    }

    /// An entry with what was kept aside and this collection.
    #[cold]
    fn entry_of(&self, collection: Collection) -> Entry {
        let head = &self.head[..self.plan.value_at()];
        let key = &head[self.plan.key_at()..];
        let expires = (self.plan.flags & EXPIRES != 0).then(|| {
            let bytes = &head[self.plan.expiry_at()..self.plan.key_at()];
            larder_wire::UnixMillis(i64::from_ne_bytes(bytes.try_into().expect("eight bytes")))
        });
        let word = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        Entry::new(key, Content::Collection(collection), expires, word >> 8)
    }
}

/// Also while a panic unwinds: whatever became of the collection, the entry has a value.
impl Drop for Lent<'_> {
    #[inline]
    fn drop(&mut self) {
        match self.block() {
            Some((at, len)) => {
                // The block is the entry's again: the collection is not dropped.
                self.entry.at = at;
                let mut plan = self.plan;
                plan.value_len = len;
                // SAFETY: the block has `value_at` bytes before the collection's, which become what they were; then the length is set to what
                // there is, so the header is true.
                unsafe {
                    let own = &self.head[..plan.value_at()];
                    at.as_ptr()
                        .copy_from_nonoverlapping(own.as_ptr(), own.len());
                    self.entry.write_value_len(plan);
                }
            }
            None => {
                // SAFETY: taken once, here.
                let collection = unsafe { ManuallyDrop::take(&mut self.collection) };
                let entry = ManuallyDrop::new(self.entry_of(collection));
                self.entry.at = entry.at;
            }
        }
    }
}
