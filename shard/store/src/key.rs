//! A key on its way into the keyspace: its bytes, and its slot and hash when the caller has computed them already.

use larder_wire::{Slot, slot_of};

use crate::key_hash::KeyHash;

/// Where a key belongs: computed once a request, from its bytes, by [`Databases::place_of`](crate::Databases::place_of).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPlace {
    pub slot: Slot,
    pub(crate) hash: u64,
}

impl KeyPlace {
    /// The first in hash order of the first slot: to fill arrays with.
    pub const FIRST: KeyPlace = KeyPlace {
        slot: Slot::FIRST,
        hash: 0,
    };

    #[inline]
    pub(crate) fn of(key: &[u8], hashes: &KeyHash) -> KeyPlace {
        KeyPlace {
            slot: slot_of(key),
            hash: hashes.of(key),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    bytes: &'a [u8],
    place: Option<KeyPlace>,
}

impl<'a> Key<'a> {
    /// `place` must be the place of `bytes`.
    pub fn placed(bytes: &'a [u8], place: KeyPlace) -> Key<'a> {
        debug_assert_eq!(slot_of(bytes), place.slot);
        Key {
            bytes,
            place: Some(place),
        }
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    pub fn slot(&self) -> Slot {
        match self.place {
            Some(place) => place.slot,
            None => slot_of(self.bytes),
        }
    }

    pub(crate) fn place(&self) -> Option<KeyPlace> {
        self.place
    }
}

impl<'a> From<&'a [u8]> for Key<'a> {
    fn from(bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, place: None }
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Key<'a> {
    fn from(bytes: &'a [u8; N]) -> Key<'a> {
        Key { bytes, place: None }
    }
}

impl<'a> From<&'a Vec<u8>> for Key<'a> {
    fn from(bytes: &'a Vec<u8>) -> Key<'a> {
        Key { bytes, place: None }
    }
}

impl<'a> From<&'a Box<[u8]>> for Key<'a> {
    fn from(bytes: &'a Box<[u8]>) -> Key<'a> {
        Key { bytes, place: None }
    }
}
