//! Sums of what is stored: SHA-256 of a whole part, CRC-64s of its blocks, so that damage has a place. Pure.

use larder_store::rdb::crc64::crc64;
use ring::digest::{Context, SHA256};

/// Bytes of a block with a sum of its own.
pub const BLOCK_BYTES: u64 = 4 * 1024 * 1024;

/// Of bytes as they pass.
pub struct Sums {
    sha256: Context,
    block_bytes: u64,
    block: u64,
    in_block: u64,
    blocks: Vec<String>,
    bytes: u64,
}

/// Of all that has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summed {
    pub bytes: u64,
    pub sha256: String,
    pub blocks: Vec<String>,
}

impl Sums {
    pub fn new(block_bytes: u64) -> Sums {
        Sums {
            sha256: Context::new(&SHA256),
            block_bytes: block_bytes.max(1),
            block: 0,
            in_block: 0,
            blocks: Vec::new(),
            bytes: 0,
        }
    }

    pub fn pass(&mut self, mut bytes: &[u8]) {
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = usize::try_from(self.block_bytes - self.in_block).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(bytes.len().min(room));
            self.block = crc64(self.block, now);
            self.in_block += now.len() as u64;
            bytes = rest;
            if self.in_block == self.block_bytes {
                self.end_block();
            }
        }
    }

    /// Blocks that are over.
    pub fn blocks(&self) -> &[String] {
        &self.blocks
    }

    pub fn end(mut self) -> Summed {
        if self.in_block > 0 {
            self.end_block();
        }
        Summed {
            bytes: self.bytes,
            sha256: hex(self.sha256.finish().as_ref()),
            blocks: self.blocks,
        }
    }

    fn end_block(&mut self) {
        self.blocks.push(format!("{:016x}", self.block));
        self.block = 0;
        self.in_block = 0;
    }
}

/// Of a small text, as hex digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&SHA256, bytes).as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_how_the_bytes_come() {
        let bytes: Vec<u8> = (0..1000_u32).map(|n| (n * 7) as u8).collect();
        let of = |step: usize| {
            let mut sums = Sums::new(64);
            bytes.chunks(step).for_each(|chunk| sums.pass(chunk));
            sums.end()
        };
        let whole = of(1000);
        assert_eq!((whole.bytes, whole.blocks.len()), (1000, 16));
        for step in [1, 63, 64, 65, 999] {
            assert_eq!(of(step), whole, "in steps of {step}");
        }
    }

    #[test]
    fn a_changed_byte_changes_the_sum_of_its_block_alone() {
        let mut bytes = vec![0_u8; 1000];
        let of = |bytes: &[u8]| {
            let mut sums = Sums::new(100);
            sums.pass(bytes);
            sums.end()
        };
        let whole = of(&bytes);
        bytes[345] ^= 1;
        let changed = of(&bytes);
        let differ: Vec<usize> = (0..10)
            .filter(|block| whole.blocks[*block] != changed.blocks[*block])
            .collect();
        assert_eq!(differ, [3]);
        assert_ne!(whole.sha256, changed.sha256);
    }
}
