//! A key on its way into the keyspace: its bytes, and its slot when the caller has computed it already.

use larder_wire::{Slot, slot_of};

#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    bytes: &'a [u8],
    slot: Option<Slot>,
}

impl<'a> Key<'a> {
    /// `slot` must be the slot of `bytes`.
    pub fn in_slot(bytes: &'a [u8], slot: Slot) -> Key<'a> {
        debug_assert_eq!(slot_of(bytes), slot);
        Key {
            bytes,
            slot: Some(slot),
        }
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    pub fn slot(&self) -> Slot {
        match self.slot {
            Some(slot) => slot,
            None => slot_of(self.bytes),
        }
    }
}

impl<'a> From<&'a [u8]> for Key<'a> {
    fn from(bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, slot: None }
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Key<'a> {
    fn from(bytes: &'a [u8; N]) -> Key<'a> {
        Key { bytes, slot: None }
    }
}

impl<'a> From<&'a Vec<u8>> for Key<'a> {
    fn from(bytes: &'a Vec<u8>) -> Key<'a> {
        Key { bytes, slot: None }
    }
}

impl<'a> From<&'a Box<[u8]>> for Key<'a> {
    fn from(bytes: &'a Box<[u8]>) -> Key<'a> {
        Key { bytes, slot: None }
    }
}
