//! The names of scripts: SHA-1 digests in lower-case hexadecimal digits.

use crate::sha1::sha1;

pub(crate) type HexDigest = [u8; 40];

pub(crate) fn sha1_hex(bytes: &[u8]) -> HexDigest {
    let mut digits = [0; 40];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(sha1(bytes)) {
        *pair = [byte >> 4, byte & 0xF].map(|nibble| b"0123456789abcdef"[usize::from(nibble)]);
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_named_by_its_digest() {
        assert_eq!(
            &sha1_hex(b"abc"),
            b"a9993e364706816aba3e25717850c26c9cd0d89d"
        );
    }
}
