//! CRC16-XMODEM (polynomial 0x1021, starting at 0), eight bytes at a step: what decides a key's slot.
//!
//! One table for each of the eight places of a byte in a word says what the byte adds to the checksum ("slicing by eight", Kounavis and Berry,
//! 2005). Leading zeros change nothing of a checksum that starts at 0: so the odd bytes are the first word, filled with zeros in front.

/// `TABLES[place][byte]`: the checksum of `byte` with `7 - place` zeros behind it.
static TABLES: [[u16; 256]; 8] = tables();

/// The checksum of `bytes`.
#[inline]
pub(crate) fn xmodem(bytes: &[u8]) -> u16 {
    let Some(first) = bytes.first_chunk::<8>() else {
        return of_word(short_word(bytes));
    };
    let odd = bytes.len() % 8;
    let mut crc = match odd {
        0 => 0,
        _ => of_word(u64::from_be_bytes(*first) >> (64 - 8 * odd)),
    };
    for word in bytes[odd..].as_chunks::<8>().0 {
        crc = of_word(u64::from_be_bytes(*word) ^ u64::from(crc) << 48);
    }
    crc
}

#[inline]
fn of_word(word: u64) -> u16 {
    let [a, b, c, d, e, f, g, h] = word.to_be_bytes().map(usize::from);
    (TABLES[0][a] ^ TABLES[1][b])
        ^ (TABLES[2][c] ^ TABLES[3][d])
        ^ (TABLES[4][e] ^ TABLES[5][f])
        ^ (TABLES[6][g] ^ TABLES[7][h])
}

/// Fewer than eight bytes as a big-endian number.
#[inline]
pub(crate) fn short_word(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        // They overlap, and say the same where they do.
        u64::from(u32::from_be_bytes(*first)) << (8 * (len - 4))
            | u64::from(u32::from_be_bytes(*last))
    } else {
        let byte = |at: usize| u64::from(bytes[at]) << (8 * (len - 1 - at));
        match len {
            0 => 0,
            1.. => byte(0) | byte(len / 2) | byte(len - 1),
        }
    }
}

const fn tables() -> [[u16; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut place = 8;
        while place > 0 {
            place -= 1;
            let mut bit = 0;
            while bit < 8 {
                crc = crc << 1 ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 };
                bit += 1;
            }
            tables[place][byte] = crc;
        }
        byte += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use crc16::{State, XMODEM};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        assert_eq!(xmodem(b"123456789"), 0x31C3);
    }

    proptest! {
        #[test]
        fn checksums_are_those_of_the_crate_that_goes_byte_by_byte(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            prop_assert_eq!(xmodem(&bytes), State::<XMODEM>::calculate(&bytes));
        }
    }
}
