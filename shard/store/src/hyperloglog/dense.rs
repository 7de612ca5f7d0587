//! Registers of six bits each, the lowest bits first.

use super::{REGISTERS, Vote};

const REGISTER_BITS: usize = 6;
const VALUE_MASK: u8 = (1 << REGISTER_BITS) - 1;
pub(super) const BYTES: usize = REGISTERS * REGISTER_BITS / 8;

pub(super) fn get(registers: &[u8], register: usize) -> u8 {
    let (byte, bit) = place(register);
    (pair(registers, byte) >> bit) as u8 & VALUE_MASK
}

/// True when the register was lower.
pub(super) fn raise(registers: &mut [u8], vote: Vote) -> bool {
    if get(registers, vote.register) >= vote.value {
        return false;
    }
    let (byte, bit) = place(vote.register);
    let cleared = pair(registers, byte) & !(u16::from(VALUE_MASK) << bit);
    let [low, high] = (cleared | (u16::from(vote.value) << bit)).to_le_bytes();
    registers[byte] = low;
    if let Some(next) = registers.get_mut(byte + 1) {
        *next = high;
    }
    true
}

/// All values in order.
pub(super) fn values(registers: &[u8]) -> impl Iterator<Item = u8> {
    // Three bytes are four registers.
    registers.as_chunks::<3>().0.iter().flat_map(|[a, b, c]| {
        let four = u32::from_le_bytes([*a, *b, *c, 0]);
        [0, 6, 12, 18].map(|shift| (four >> shift) as u8 & VALUE_MASK)
    })
}

fn place(register: usize) -> (usize, usize) {
    let bit = register * REGISTER_BITS;
    (bit / 8, bit % 8)
}

/// The two bytes that a register may lie across; after the last byte there is nothing.
fn pair(registers: &[u8], byte: usize) -> u16 {
    let next = registers.get(byte + 1).copied().unwrap_or(0);
    u16::from_le_bytes([registers[byte], next])
}
