//! Bytes of any length behind 6 bytes, shared by whoever holds a clone: for collections with very many small elements.
//!
//! ```text
//! byte 0   how many hold it; one more than it can count gets a copy
//! byte 1   length, or LONG and the length in bytes 2 to 5
//! then     the bytes
//! ```
//! Invariants: (1) the header describes the block, which came from `take_blob` for what it says is used; (2) the block is freed by whoever
//! gives up the last share. Blobs stay on the thread that made them.

use std::marker::PhantomData;

use super::room::{blob_cost, give_blob, take_blob};
use super::short::Short;

const LONG: u8 = u8::MAX;
const HEADER_BYTES: usize = 2;
const LONG_HEADER_BYTES: usize = 6;

/// Shared bytes; never `Send`.
pub(crate) struct Blob {
    at: Short,
    _here: PhantomData<*mut u8>,
}

const fn header_bytes(len: usize) -> usize {
    if len < LONG as usize {
        HEADER_BYTES
    } else {
        LONG_HEADER_BYTES
    }
}

impl Blob {
    /// The parts one after the other.
    pub(crate) fn new(parts: &[&[u8]]) -> Blob {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let long = u32::try_from(len).expect("lengths are bounded by the protocol's bulk strings");
        let header = header_bytes(len);
        let at = take_blob(header + len);
        // SAFETY: the block has room for the header and for all parts; the parts lie elsewhere, since nobody knows the block yet.
        unsafe {
            let base = at.as_ptr();
            base.write(1);
            if header == HEADER_BYTES {
                base.add(1).write(len as u8);
            } else {
                base.add(1).write(LONG);
                base.add(2).cast::<u32>().write_unaligned(long);
            }
            let mut place = base.add(header);
            for part in parts {
                place.copy_from_nonoverlapping(part.as_ptr(), part.len());
                place = place.add(part.len());
            }
        }
        Blob {
            at: Short::new(at),
            _here: PhantomData,
        }
    }

    #[inline]
    fn len(&self) -> usize {
        // SAFETY: invariant 1.
        unsafe {
            let base = self.at.as_ptr();
            match base.add(1).read() {
                LONG => base.add(2).cast::<u32>().read_unaligned() as usize,
                len => usize::from(len),
            }
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        let len = self.len();
        // SAFETY: invariant 1; the bytes are never written while the blob is shared.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().add(header_bytes(len)), len) }
    }

    /// The bytes to be written to, when nobody else holds them.
    pub(crate) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let len = self.len();
        // SAFETY: invariant 1; with a count of one, `&mut self` is the only way to the bytes.
        unsafe {
            let base = self.at.as_ptr();
            (base.read() == 1)
                .then(|| std::slice::from_raw_parts_mut(base.add(header_bytes(len)), len))
        }
    }

    /// Bytes of memory that it takes, whoever shares it.
    pub(crate) fn cost(&self) -> usize {
        let len = self.len();
        blob_cost(header_bytes(len) + len)
    }

    /// True when both are shares of one block.
    pub(crate) fn is_same(&self, other: &Blob) -> bool {
        self.at == other.at
    }
}

impl Clone for Blob {
    fn clone(&self) -> Blob {
        // SAFETY: invariant 1; all shares are on this thread, and no slice covers the count.
        unsafe {
            let count = self.at.as_ptr();
            match count.read().checked_add(1) {
                None => Blob::new(&[self.bytes()]),
                Some(more) => {
                    count.write(more);
                    Blob {
                        at: self.at,
                        _here: PhantomData,
                    }
                }
            }
        }
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        let len = self.len();
        let Some(at) = self.at.get() else {
            unreachable!("a blob has a block")
        };
        // SAFETY: invariants 1 and 2: the last share frees the block, on the thread that took it.
        unsafe {
            match at.as_ptr().read() {
                1 => give_blob(at, header_bytes(len) + len),
                shares => at.as_ptr().write(shares - 1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 128 }))]

        #[test]
        fn a_blob_is_what_it_was_made_of_for_all_who_share_it(
            lens in proptest::collection::vec(prop_oneof![0usize..40, 240usize..300, 65_000usize..66_000], 0..4),
            shares in 0usize..600,
        ) {
            let parts: Vec<Vec<u8>> = lens.iter().enumerate().map(|(at, len)| vec![at as u8; *len]).collect();
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let whole = slices.concat();
            let mut blob = Blob::new(&slices);
            let clones = vec![blob.clone(); shares];
            prop_assert!(clones.iter().all(|clone| clone.bytes() == whole));
            prop_assert_eq!(blob.bytes_mut().is_none(), shares > 0);
            prop_assert!(blob.cost() >= whole.len() + 2);
            drop(clones);
            if let Some(byte) = blob.bytes_mut().and_then(|bytes| bytes.first_mut()) {
                *byte ^= 1;
                prop_assert_ne!(blob.bytes(), &whole[..]);
            }
            prop_assert_eq!(size_of::<Blob>(), 6);
        }
    }

    #[test]
    fn clones_share_one_block_as_long_as_it_can_count_them() {
        let blob = Blob::new(&[b"a", b"b"]);
        let clones = vec![blob.clone(); 254];
        assert!(clones.iter().all(|clone| clone.is_same(&blob)));
        let copy = blob.clone();
        assert!(!copy.is_same(&blob) && copy.bytes() == b"ab");
    }
}
