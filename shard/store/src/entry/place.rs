//! Where a table keeps an entry: an owning pointer of 6 bytes, or nothing.
//!
//! Invariant: what is not none came from an [`Entry`], which the place owns.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

use super::short::Short;
use super::{Entry, EntryRef};

/// Room for one entry.
pub(crate) struct EntryPlace {
    at: Short,
    _entry: PhantomData<Entry>,
}

impl EntryPlace {
    pub(crate) const EMPTY: EntryPlace = EntryPlace {
        at: Short::NONE,
        _entry: PhantomData,
    };

    /// Puts an entry in the place of what is there.
    #[inline]
    pub(crate) fn put(&mut self, entry: Entry) {
        let at = ManuallyDrop::new(entry).at;
        *self = EntryPlace {
            at: Short::new(at),
            _entry: PhantomData,
        };
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Option<Entry> {
        let at = self.at.get()?;
        self.at = Short::NONE;
        Some(Entry { at })
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<EntryRef<'_>> {
        self.at.get().map(|at| EntryRef {
            at,
            _entry: PhantomData,
        })
    }

    /// Gives the entry, if there is one, the access bits that `change` makes of its own.
    #[inline]
    pub(crate) fn update_access(
        &mut self,
        change: impl FnOnce(u32) -> u32,
    ) -> Option<EntryRef<'_>> {
        let mut entry = ManuallyDrop::new(Entry { at: self.at.get()? });
        let before = entry.access();
        let after = change(before);
        if after != before {
            entry.set_access(after);
        }
        self.get()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self) -> Option<EntryMut<'_>> {
        let at = self.at.get()?;
        // While it is out, the place is empty: nobody has it twice, whatever becomes of the guard.
        self.at = Short::NONE;
        Some(EntryMut {
            entry: ManuallyDrop::new(Entry { at }),
            place: self,
        })
    }
}

impl Drop for EntryPlace {
    #[inline]
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// An entry that may move while it is changed: its place learns of it at the end.
pub(crate) struct EntryMut<'a> {
    entry: ManuallyDrop<Entry>,
    place: &'a mut EntryPlace,
}

impl Deref for EntryMut<'_> {
    type Target = Entry;

    #[inline]
    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl DerefMut for EntryMut<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Entry {
        &mut self.entry
    }
}

impl Drop for EntryMut<'_> {
    #[inline]
    fn drop(&mut self) {
        self.place.at = Short::new(self.entry.at);
    }
}
