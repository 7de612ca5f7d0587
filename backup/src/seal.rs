//! Encryption at rest: parts in chunks of AES-256-GCM, each with its number and whether it is the last, so that nothing can be cut off, left out or put elsewhere
//! without being noticed (the STREAM construction, <https://eprint.iacr.org/2015/189>). Pure: chance is a parameter.
//!
//! ```text
//! LARDERS1  salt (32 bytes)  chunk 0: 64 KiB + tag  chunk 1 …  last chunk: up to 64 KiB + tag
//! ```
//! Each part has a key of its own: HKDF-SHA-256 of the key file's key, with the salt, the set's name and the part's. So a part of another set or under
//! another name does not open. A nonce is 7 zero bytes, the chunk's number (4 bytes, big-endian), and 1 for the last chunk, else 0.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::{digest, hmac};

use crate::sums::hex;

/// What [`Encryption::cipher`](crate::manifest::Encryption::cipher) says.
pub const CIPHER: &str = "AES-256-GCM-STREAM";
pub const SALT_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"LARDERS1";
const HEAD_BYTES: usize = MAGIC.len() + SALT_BYTES;
/// Plain bytes of a chunk.
const CHUNK_BYTES: usize = 64 * 1024;
const TAG_BYTES: usize = 16;
/// What a key's file begins with.
const FILE_START: &str = "larder-backup-key-1:";

/// The key of a key file.
#[derive(Clone)]
pub struct Key([u8; KEY_BYTES]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

impl Key {
    pub fn from_random(random: [u8; KEY_BYTES]) -> Key {
        Key(random)
    }

    /// What its file holds.
    pub fn file_text(&self) -> String {
        format!("{FILE_START}{}\n", hex(&self.0))
    }

    /// The error never shows any of the key.
    pub fn parse(text: &str) -> Result<Key, String> {
        let wrong = || {
            format!(
                "it is no key: a line of '{FILE_START}' and 64 hex digits (larder backup keygen makes one)"
            )
        };
        let digits = text.trim().strip_prefix(FILE_START).ok_or_else(wrong)?;
        if digits.len() != KEY_BYTES * 2 || !digits.is_ascii() {
            return Err(wrong());
        }
        let mut key = [0; KEY_BYTES];
        for (index, byte) in key.iter_mut().enumerate() {
            *byte =
                u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Key(key))
    }

    /// Tells keys apart and nothing about them.
    pub fn id(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"larder backup key id");
        context.update(&self.0);
        hex(&context.finish().as_ref()[..8])
    }

    /// A seal of the manifest of a set: who has no key cannot change the one without the other.
    pub fn seal_manifest(&self, set: &str, manifest: &[u8]) -> String {
        hex(hmac::sign(&self.manifest_key(set), manifest).as_ref())
    }

    pub fn manifest_is_sealed(&self, set: &str, manifest: &[u8], seal: &str) -> bool {
        let made = self.seal_manifest(set, manifest);
        // Of what is public there is nothing to learn by the time that a comparison takes.
        made == seal.trim()
    }

    fn manifest_key(&self, set: &str) -> hmac::Key {
        let prk = Salt::new(HKDF_SHA256, b"larder backup manifest").extract(&self.0);
        let mut key = [0; KEY_BYTES];
        expand(&prk, &[set.as_bytes()], &mut key);
        hmac::Key::new(hmac::HMAC_SHA256, &key)
    }

    fn part_key(&self, set: &str, part: &str, salt: &[u8]) -> LessSafeKey {
        let prk = Salt::new(HKDF_SHA256, salt).extract(&self.0);
        let mut key = [0; KEY_BYTES];
        expand(
            &prk,
            &[b"larder backup part", set.as_bytes(), b"/", part.as_bytes()],
            &mut key,
        );
        let key = UnboundKey::new(&AES_256_GCM, &key).expect("the length of the cipher's keys");
        LessSafeKey::new(key)
    }
}

fn expand(prk: &Prk, info: &[&[u8]], key: &mut [u8; KEY_BYTES]) {
    let expanded = prk.expand(info, &AES_256_GCM);
    let filled = expanded.and_then(|okm| {
        let key_of_it = ring::hkdf::KeyType::len(&&AES_256_GCM);
        assert_eq!(key_of_it, KEY_BYTES);
        okm.fill(key)
    });
    filled.expect("the length that was asked for");
}

fn nonce(chunk: u32, last: bool) -> Nonce {
    let mut bytes = [0; 12];
    bytes[7..11].copy_from_slice(&chunk.to_be_bytes());
    bytes[11] = u8::from(last);
    Nonce::assume_unique_for_key(bytes)
}

/// Seals one part.
pub struct Sealer {
    key: LessSafeKey,
    chunk: u32,
    plain: Vec<u8>,
}

impl Sealer {
    /// `salt` is random; the part's first bytes go to `out`.
    pub fn begin(
        key: &Key,
        set: &str,
        part: &str,
        salt: [u8; SALT_BYTES],
        out: &mut Vec<u8>,
    ) -> Sealer {
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&salt);
        Sealer {
            key: key.part_key(set, part, &salt),
            chunk: 0,
            plain: Vec::with_capacity(CHUNK_BYTES),
        }
    }

    pub fn pass(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            // A full chunk waits for what follows: it may be the last.
            if self.plain.len() == CHUNK_BYTES {
                self.seal_chunk(false, out);
            }
            let (now, rest) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.plain.len()));
            self.plain.extend_from_slice(now);
            bytes = rest;
        }
    }

    pub fn end(mut self, out: &mut Vec<u8>) {
        self.seal_chunk(true, out);
    }

    fn seal_chunk(&mut self, last: bool, out: &mut Vec<u8>) {
        let sealed = self.key.seal_in_place_append_tag(
            nonce(self.chunk, last),
            Aad::empty(),
            &mut self.plain,
        );
        sealed.expect("a chunk is shorter than the cipher's limit");
        out.append(&mut self.plain);
        self.chunk = self.chunk.checked_add(1).expect("a part is below 256 TiB");
    }
}

/// Opens one part, as it comes.
pub struct Opener {
    key: Key,
    set: String,
    part: String,
    opened: Option<LessSafeKey>,
    chunk: u32,
    sealed: Vec<u8>,
    /// Bytes before `sealed`.
    offset: u64,
}

/// What came is not what was sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {what}")]
pub struct NotSealed {
    pub offset: u64,
    pub what: &'static str,
}

impl Opener {
    pub fn new(key: &Key, set: &str, part: &str) -> Opener {
        Opener {
            key: key.clone(),
            set: set.to_string(),
            part: part.to_string(),
            opened: None,
            chunk: 0,
            sealed: Vec::new(),
            offset: 0,
        }
    }

    pub fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), NotSealed> {
        self.sealed.extend_from_slice(bytes);
        if self.opened.is_none() && self.sealed.len() >= HEAD_BYTES {
            self.open_head()?;
        }
        // What may be the last chunk waits for the end.
        while self.opened.is_some() && self.sealed.len() > CHUNK_BYTES + TAG_BYTES {
            self.open_chunk(CHUNK_BYTES + TAG_BYTES, false, out)?;
        }
        Ok(())
    }

    pub fn end(mut self, out: &mut Vec<u8>) -> Result<(), NotSealed> {
        if self.opened.is_none() {
            return Err(self.fault("it ends before its first chunk"));
        }
        let rest = self.sealed.len();
        self.open_chunk(rest, true, out)
    }

    fn open_head(&mut self) -> Result<(), NotSealed> {
        if !self.sealed.starts_with(MAGIC) {
            return Err(self.fault("it is not encrypted as this larder knows it"));
        }
        let salt = &self.sealed[MAGIC.len()..HEAD_BYTES];
        self.opened = Some(self.key.part_key(&self.set, &self.part, salt));
        self.sealed.drain(..HEAD_BYTES);
        self.offset = HEAD_BYTES as u64;
        Ok(())
    }

    fn open_chunk(&mut self, len: usize, last: bool, out: &mut Vec<u8>) -> Result<(), NotSealed> {
        let Some(key) = &self.opened else {
            return Err(self.fault("it has no beginning"));
        };
        let opened = key.open_in_place(
            nonce(self.chunk, last),
            Aad::empty(),
            &mut self.sealed[..len],
        );
        match opened {
            Ok(plain) => out.extend_from_slice(plain),
            Err(_) => {
                return Err(self.fault(
                    "it was changed or cut off here (or is of another set, or under another key)",
                ));
            }
        }
        self.sealed.drain(..len);
        self.offset += len as u64;
        self.chunk = self.chunk.wrapping_add(1);
        Ok(())
    }

    fn fault(&self, what: &'static str) -> NotSealed {
        NotSealed {
            offset: self.offset,
            what,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SET: &str = "larder-2026-11-21T03-00-00Z";

    fn key(byte: u8) -> Key {
        Key::from_random([byte; KEY_BYTES])
    }

    fn sealed(plain: &[u8], step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut sealer = Sealer::begin(&key(1), SET, "shard-1.rdb", [9; SALT_BYTES], &mut out);
        plain
            .chunks(step.max(1))
            .for_each(|bytes| sealer.pass(bytes, &mut out));
        sealer.end(&mut out);
        out
    }

    fn opened_as(
        key: &Key,
        set: &str,
        part: &str,
        sealed: &[u8],
        step: usize,
    ) -> Result<Vec<u8>, NotSealed> {
        let mut out = Vec::new();
        let mut opener = Opener::new(key, set, part);
        for bytes in sealed.chunks(step.max(1)) {
            opener.pass(bytes, &mut out)?;
        }
        opener.end(&mut out)?;
        Ok(out)
    }

    fn opened(sealed: &[u8], step: usize) -> Result<Vec<u8>, NotSealed> {
        opened_as(&key(1), SET, "shard-1.rdb", sealed, step)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_was_sealed_is_opened_however_it_comes(
            chunks in 0_usize..4, extra in 0_usize..3, step in 1_usize..200_000, other in 1_usize..200_000
        ) {
            // Around the borders of chunks.
            let len = (chunks * CHUNK_BYTES + extra).saturating_sub(1);
            let plain: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            prop_assert_eq!(opened(&sealed(&plain, step), other), Ok(plain));
        }
    }

    #[test]
    fn what_was_changed_cut_or_put_elsewhere_is_noticed_and_where() {
        let plain = vec![7; CHUNK_BYTES * 3 + 5];
        let whole = sealed(&plain, 1 << 20);
        let chunk = CHUNK_BYTES + TAG_BYTES;
        let second = HEAD_BYTES + chunk;
        let offset = |bytes: &[u8]| opened(bytes, 4096).unwrap_err().offset as usize;
        let mut changed = whole.clone();
        changed[second + 100] ^= 1;
        assert_eq!(offset(&changed), second);
        // At a border of chunks, within one, and before the first.
        assert_eq!(offset(&whole[..second + chunk]), second);
        assert_eq!(offset(&whole[..whole.len() - 1]), second + 2 * chunk);
        assert_eq!(offset(&whole[..HEAD_BYTES - 1]), 0);
        let mut swapped = whole.clone();
        swapped[HEAD_BYTES..second + chunk].rotate_left(chunk);
        assert_eq!(offset(&swapped), HEAD_BYTES);
        let mut longer = whole.clone();
        longer.extend_from_slice(&whole[HEAD_BYTES..]);
        assert!(opened(&longer, 4096).is_err());
        for (key, set, part) in [
            (key(2), SET, "shard-1.rdb"),
            (key(1), "larder-2026-11-22T03-00-00Z", "shard-1.rdb"),
            (key(1), SET, "shard-2.rdb"),
        ] {
            assert!(opened_as(&key, set, part, &whole, 4096).is_err());
        }
        assert!(opened(b"REDIS0010 and more than a head has room for", 99).is_err());
    }

    #[test]
    fn a_key_file_is_read_back_and_what_is_none_is_told_without_showing_it() {
        let made = key(0xAB);
        assert_eq!(Key::parse(&made.file_text()).unwrap().id(), made.id());
        assert_ne!(made.id(), key(0xAC).id());
        assert!(!format!("{made:?}").contains("abab"));
        for wrong in ["", "secret", "larder-backup-key-1:12", &"ab".repeat(32)] {
            let told = Key::parse(wrong).unwrap_err();
            assert!(told.contains("keygen"), "{told}");
            assert!(
                wrong.is_empty() || !told.contains(&format!("{wrong} ")),
                "{told}"
            );
        }
    }

    #[test]
    fn a_manifest_and_its_seal_are_changed_together_or_not_at_all() {
        let seal = key(1).seal_manifest(SET, b"{}");
        assert!(key(1).manifest_is_sealed(SET, b"{}", &seal));
        assert!(!key(1).manifest_is_sealed(SET, b"{ }", &seal));
        assert!(!key(2).manifest_is_sealed(SET, b"{}", &seal));
        assert!(!key(1).manifest_is_sealed("larder-2026-11-22T03-00-00Z", b"{}", &seal));
    }
}
