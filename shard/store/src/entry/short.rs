//! Pointers in 6 bytes, for structures that hold very many of them.
//!
//! An address of user space has 48 bits at most on the machines that there are (Linux gives more only to those who ask for it), so two of a pointer's eight
//! bytes say nothing. The pointer is exposed when it is shortened and taken up again as it was.

use std::ptr::{NonNull, null_mut, with_exposed_provenance_mut};

const BYTES: usize = 6;

/// A pointer, or none.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Short([u8; BYTES]);

impl Short {
    pub(super) const NONE: Short = Short([0; BYTES]);

    #[inline]
    pub(super) fn new(at: NonNull<u8>) -> Short {
        let address = at.as_ptr().expose_provenance() as u64;
        assert!(
            address >> (8 * BYTES) == 0,
            "an address of user space has 48 bits"
        );
        let [a, b, c, d, e, f, _, _] = address.to_le_bytes();
        Short([a, b, c, d, e, f])
    }

    #[inline]
    pub(super) fn get(self) -> Option<NonNull<u8>> {
        NonNull::new(self.as_ptr())
    }

    /// Null when there is none.
    #[inline]
    pub(super) fn as_ptr(self) -> *mut u8 {
        let [a, b, c, d, e, f] = self.0;
        let address = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        if address == 0 {
            null_mut()
        } else {
            with_exposed_provenance_mut(address as usize)
        }
    }
}
