//! LZF: runs of literals, and copies of what came shortly before. How RDB shortens long texts.
//!
//! [`Lzf`] finds the copies that LibLZF finds, which Redis uses, so that payloads are the same byte by byte; [`expand`] trusts nothing.
//! Source: LibLZF's format and choices, <http://software.schmorp.de/pkg/liblzf.html>.

/// Most literals of one run.
const RUN_BYTES_MAX: usize = 32;
/// Longest copy.
const COPY_BYTES_MAX: usize = 264;
/// How far back a copy may begin.
const BACK_BYTES_MAX: usize = 1 << 13;
/// Bytes that have to be alike for a copy, and that are hashed to find one.
const ALIKE_BYTES: usize = 3;
const HASH_BITS: u32 = 16;
/// LibLZF compares so many bytes before it asks how long a copy may be.
const COMPARED_BYTES: usize = 19;
/// What compressing has to save at least.
const SAVED_BYTES_MIN: usize = 4;

/// Compresses one text after the other.
#[derive(Debug, Default)]
pub(super) struct Lzf {
    /// By hash of three bytes: where they were last seen, counted over all texts, and one. Empty before the first text.
    seen: Vec<u32>,
    /// Bytes of the texts before: what was seen in them does not count.
    before: u32,
}

impl Lzf {
    /// `None` when the result would not be shorter by a few bytes.
    pub(super) fn compress(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        let room = text.len().checked_sub(SAVED_BYTES_MIN)?;
        let after = u32::try_from(text.len()).ok()?.checked_add(1)?;
        match self.before.checked_add(after) {
            Some(_) if !self.seen.is_empty() => {}
            Some(_) | None => {
                self.seen = vec![0; 1 << HASH_BITS];
                self.before = 0;
            }
        }
        let compressed = self.shorten(text, room);
        self.before += after;
        compressed
    }

    fn shorten(&mut self, text: &[u8], room: usize) -> Option<Vec<u8>> {
        let last = text.len().checked_sub(ALIKE_BYTES)?;
        let mut out = Output::default();
        let mut at = 0;
        while at <= last {
            let from = self.see(text, at).filter(|from| {
                *from > 0
                    && at - from <= BACK_BYTES_MAX
                    && text[*from..*from + ALIKE_BYTES] == text[at..at + ALIKE_BYTES]
            });
            match from {
                Some(from) => {
                    out.has_room(4, room)?;
                    let len = alike(&text[from..], &text[at..]);
                    out.copy(at - from, len);
                    at += len;
                    if at <= last {
                        self.see(text, at - 2);
                        self.see(text, at - 1);
                    }
                }
                None => {
                    out.literal(text[at], room)?;
                    at += 1;
                }
            }
        }
        (out.len() + ALIKE_BYTES <= room).then_some(())?;
        for byte in &text[at..] {
            out.literal(*byte, usize::MAX)?;
        }
        Some(out.finish())
    }

    /// Notes the three bytes at `at`: where bytes of their hash were before, in this text.
    fn see(&mut self, text: &[u8], at: usize) -> Option<usize> {
        let bytes = &text[at..at + ALIKE_BYTES];
        let word = u32::from(bytes[0]) << 16 | u32::from(bytes[1]) << 8 | u32::from(bytes[2]);
        let hash = (word >> (24 - HASH_BITS)).wrapping_sub(word.wrapping_mul(5));
        let seen = &mut self.seen[hash as usize & ((1 << HASH_BITS) - 1)];
        // A text is shorter than the counter: its compressor saw to that.
        let place = std::mem::replace(seen, self.before + at as u32 + 1);
        place
            .checked_sub(self.before + 1)
            .map(|place| place as usize)
    }
}

/// How many bytes a copy takes: what is alike, but not all of the text's end.
fn alike(from: &[u8], to: &[u8]) -> usize {
    let same = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let most = (to.len() - 2).min(COPY_BYTES_MAX);
    let least = if most > COMPARED_BYTES - ALIKE_BYTES {
        COMPARED_BYTES
    } else {
        ALIKE_BYTES
    };
    same.min(most.max(least))
}

/// What is written: a run's control byte stands before its literals.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    /// Literals of the run that is open.
    run: usize,
}

impl Output {
    /// With the control byte of the run that is to come.
    fn len(&self) -> usize {
        self.bytes.len() + usize::from(self.run == 0)
    }

    fn has_room(&self, more: usize, room: usize) -> Option<()> {
        (self.bytes.len() + more < room).then_some(())
    }

    fn literal(&mut self, byte: u8, room: usize) -> Option<()> {
        (self.len() < room).then_some(())?;
        if self.run == 0 {
            self.bytes.push(0);
        }
        self.bytes.push(byte);
        self.run += 1;
        if self.run == RUN_BYTES_MAX {
            self.end_run();
        }
        Some(())
    }

    fn end_run(&mut self) {
        if self.run > 0 {
            let control = self.bytes.len() - self.run - 1;
            self.bytes[control] = (self.run - 1) as u8;
            self.run = 0;
        }
    }

    fn copy(&mut self, back: usize, len: usize) {
        self.end_run();
        let (offset, more) = (back - 1, len - 2);
        let high = (offset >> 8) as u8;
        if more < 7 {
            self.bytes.push(high | (more as u8) << 5);
        } else {
            self.bytes.extend([high | 7 << 5, (more - 7) as u8]);
        }
        self.bytes.push(offset as u8);
    }

    fn finish(mut self) -> Vec<u8> {
        self.end_run();
        self.bytes
    }
}

/// What was compressed to `compressed` and has `len` bytes; `None` when it is not that.
pub(super) fn expand(compressed: &[u8], len: usize) -> Option<Vec<u8>> {
    /// A copy's three bytes give at most so many: what is claimed beyond cannot be true.
    const BYTES_PER_BYTE_MAX: usize = 264;
    if len > compressed.len().saturating_mul(BYTES_PER_BYTE_MAX) {
        return None;
    }
    let mut rest = compressed;
    let mut out: Vec<u8> = Vec::with_capacity(len);
    while let Some((control, after)) = rest.split_first() {
        let (high, low) = (usize::from(control >> 5), usize::from(control & 0x1F));
        if high == 0 {
            let (run, after) = after.split_at_checked(low + 1)?;
            out.extend_from_slice(run);
            rest = after;
        } else {
            let (longer, after) = match high {
                7 => after
                    .split_first()
                    .map(|(more, after)| (usize::from(*more), after))?,
                _ => (0, after),
            };
            let (near, after) = after.split_first()?;
            let back = (low << 8 | usize::from(*near)) + 1;
            let start = out.len().checked_sub(back)?;
            // A copy may overlap what it writes.
            for at in start..start + high + longer + 2 {
                out.push(out[at]);
            }
            rest = after;
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Texts of few letters with repetitions near and far, and some of which nothing can be saved.
    fn text(random: &mut Random) -> Vec<u8> {
        let len = random.below(3000);
        let most = [6, 6, 6, 256][random.below(4)];
        let letters = 1 + random.below(most);
        let mut text: Vec<u8> = Vec::new();
        while text.len() < len {
            if random.below(8) == 0 && !text.is_empty() {
                let from = random.below(text.len());
                let to = (from + random.below(600)).min(text.len());
                text.extend_from_within(from..to);
            } else {
                text.push(random.below(letters) as u8);
            }
        }
        text
    }

    #[test]
    fn what_is_compressed_is_shorter_and_expands_to_what_it_was() {
        let mut lzf = Lzf::default();
        for seed in 0..2000 {
            let text = text(&mut Random::new(seed));
            if let Some(compressed) = lzf.compress(&text) {
                assert!(compressed.len() < text.len(), "seed {seed}");
                let back = expand(&compressed, text.len());
                assert!(back == Some(text), "seed {seed}");
            }
        }
    }

    #[test]
    fn what_one_text_has_seen_means_nothing_to_the_next() {
        let mut used = Lzf::default();
        for seed in 0..500 {
            let text = text(&mut Random::new(seed));
            let fresh = Lzf::default().compress(&text);
            assert_eq!(used.compress(&text), fresh, "seed {seed}");
        }
        // The count of bytes seen begins again before it would overflow.
        used.before = u32::MAX - 10;
        let text = [7; 500];
        assert_eq!(used.compress(&text), Lzf::default().compress(&text));
    }

    #[test]
    fn short_texts_and_texts_without_repetition_stay_as_they_are() {
        let mut lzf = Lzf::default();
        assert_eq!(lzf.compress(b""), None);
        assert_eq!(lzf.compress(b"aaaa"), None);
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(lzf.compress(&all), None);
    }

    #[test]
    fn any_bytes_expand_to_what_they_claim_or_not_at_all() {
        for seed in 0..2000 {
            let mut random = Random::new(seed);
            let bytes: Vec<u8> = (0..random.below(40))
                .map(|_| random.below(256) as u8)
                .collect();
            let len = random.below(600);
            if let Some(expanded) = expand(&bytes, len) {
                assert_eq!(expanded.len(), len, "seed {seed}");
            }
        }
    }
}
