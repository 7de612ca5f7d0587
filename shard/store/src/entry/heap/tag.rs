//! What stands before each block of a heap: how large it is, how large the one before, whose chunk, and whether it is free.
//!
//! One word: free (1 bit) · size (18 bits, in units) · size of the block before (18 bits) · chunk (27 bits).

/// All sizes are multiples of it.
pub(super) const UNIT_BYTES: usize = 16;
pub(super) const TAG_BYTES: usize = size_of::<Tag>();
/// What sizes are smaller than.
pub(super) const SIZES_END: usize = UNIT_BYTES << SIZE_BITS;
/// What numbers of chunks are smaller than.
pub(super) const CHUNKS_END: usize = 1 << CHUNK_BITS;

const SIZE_BITS: u32 = 18;
const CHUNK_BITS: u32 = 27;
const SIZE_SHIFT: u32 = 1;
const BEFORE_SHIFT: u32 = SIZE_SHIFT + SIZE_BITS;
const CHUNK_SHIFT: u32 = BEFORE_SHIFT + SIZE_BITS;
const SIZE_MASK: u64 = (1 << SIZE_BITS) - 1;

const _: () = assert!(CHUNK_SHIFT + CHUNK_BITS == u64::BITS);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u64);

impl Tag {
    #[inline]
    pub(super) fn new(size: usize, before: usize, chunk: u32, is_free: bool) -> Tag {
        debug_assert!(size < SIZES_END && before < SIZES_END);
        debug_assert!(size.is_multiple_of(UNIT_BYTES) && before.is_multiple_of(UNIT_BYTES));
        Tag(u64::from(is_free)
            | ((size / UNIT_BYTES) as u64) << SIZE_SHIFT
            | ((before / UNIT_BYTES) as u64) << BEFORE_SHIFT
            | u64::from(chunk) << CHUNK_SHIFT)
    }

    #[inline]
    pub(super) fn is_free(self) -> bool {
        self.0 & 1 != 0
    }

    /// Bytes of the block, this tag included; 0 for the mark at the end of a chunk.
    #[inline]
    pub(super) fn size(self) -> usize {
        (self.0 >> SIZE_SHIFT & SIZE_MASK) as usize * UNIT_BYTES
    }

    /// Bytes of the block before; 0 for the first of a chunk.
    #[inline]
    pub(super) fn before(self) -> usize {
        (self.0 >> BEFORE_SHIFT & SIZE_MASK) as usize * UNIT_BYTES
    }

    #[inline]
    pub(super) fn chunk(self) -> u32 {
        (self.0 >> CHUNK_SHIFT) as u32
    }

    #[inline]
    pub(super) fn with_before(self, before: usize) -> Tag {
        Tag(self.0 & !(SIZE_MASK << BEFORE_SHIFT) | ((before / UNIT_BYTES) as u64) << BEFORE_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_holds_the_largest_of_everything() {
        let most = SIZES_END - UNIT_BYTES;
        let chunk = CHUNKS_END as u32 - 1;
        for (size, before, chunk, is_free) in [
            (most, 0, 0, false),
            (0, most, 0, true),
            (0, 0, chunk, false),
            (most, most, chunk, true),
        ] {
            let tag = Tag::new(size, before, chunk, is_free);
            let parts = (tag.size(), tag.before(), tag.chunk(), tag.is_free());
            assert_eq!(parts, (size, before, chunk, is_free));
            let other = Tag::new(size, 32, chunk, is_free);
            assert_eq!(tag.with_before(32), other);
        }
    }
}
