//! The hash of elements: MurmurHash2 for 64-bit platforms (by Austin Appleby, public domain), with Redis's seed. It is part of the format.

const SEED: u64 = 0xadc8_3b19;
const MIX: u64 = 0xc6a4_a793_5bd1_e995;
const SHIFT: u32 = 47;

pub(super) fn murmur64a(bytes: &[u8]) -> u64 {
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(MIX);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word).wrapping_mul(MIX);
        let word = (word ^ (word >> SHIFT)).wrapping_mul(MIX);
        hash = (hash ^ word).wrapping_mul(MIX);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(MIX);
    }
    hash = (hash ^ (hash >> SHIFT)).wrapping_mul(MIX);
    hash ^ (hash >> SHIFT)
}
