//! How one element of a packed buffer is encoded: `<encoding><data><length of both, readable backwards>`.
//!
//! Source: Redis' listpack.c.

use super::item::{Item, Needle};

/// Longest encoding and longest backward length, in bytes.
pub(super) const ENCODING_BYTES_MAX: usize = 9;
pub(super) const BACK_BYTES_MAX: usize = 5;

/// Writes the encoding of `item` (with the data of an integer) to `head`: its length, and the data that follows it.
pub(super) fn encoding<'a>(
    item: Item<'a>,
    head: &mut [u8; ENCODING_BYTES_MAX],
) -> (usize, &'a [u8]) {
    match item {
        Item::Int(value) => (int_encoding(value, head), &[]),
        Item::Bytes(bytes) => {
            let len = bytes.len();
            let head_len = if len < 64 {
                head[0] = 0x80 | len as u8;
                1
            } else if len < 4096 {
                head[0] = 0xE0 | (len >> 8) as u8;
                head[1] = len as u8;
                2
            } else {
                head[0] = 0xF0;
                head[1..5].copy_from_slice(&(len as u32).to_le_bytes());
                5
            };
            (head_len, bytes)
        }
    }
}

/// Bytes that an element takes, its backward length included.
pub(super) fn element_bytes(item: Item<'_>) -> usize {
    let (head, data) = encoding(item, &mut [0; ENCODING_BYTES_MAX]);
    let length = head + data.len();
    length + back_width(length)
}

fn int_encoding(value: i64, head: &mut [u8; ENCODING_BYTES_MAX]) -> usize {
    let bytes = value.to_le_bytes();
    let (kind, width) = match value {
        0..=127 => {
            head[0] = value as u8;
            return 1;
        }
        -4096..=4095 => {
            let raw = (value & 0x1FFF) as u16;
            head[0] = 0xC0 | (raw >> 8) as u8;
            head[1] = raw as u8;
            return 2;
        }
        -0x8000..=0x7FFF => (0xF1, 2),
        -0x80_0000..=0x7F_FFFF => (0xF2, 3),
        -0x8000_0000..=0x7FFF_FFFF => (0xF3, 4),
        i64::MIN..=i64::MAX => (0xF4, 8),
    };
    head[0] = kind;
    head[1..1 + width].copy_from_slice(&bytes[..width]);
    1 + width
}

/// Writes `length` so that it can be read backwards. 16383 takes three bytes: so the format has it.
pub(super) fn back_length(length: usize, back: &mut [u8; BACK_BYTES_MAX]) -> usize {
    let width = back_width(length);
    for (place, byte) in back[..width].iter_mut().enumerate() {
        let part = (length >> (7 * (width - 1 - place))) as u8 & 127;
        *byte = if place == 0 { part } else { part | 128 };
    }
    width
}

fn back_width(length: usize) -> usize {
    match length {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        268_435_455.. => 5,
    }
}

/// The element that starts at `at` and the bytes that it takes, backward length included.
#[inline]
pub(super) fn item_at(bytes: &[u8], at: usize) -> (Item<'_>, usize) {
    checked_head(&bytes[at..]).expect("the buffer is well-formed")
}

/// Bytes of an element by its first byte, backward length included; 0 where that byte does not tell.
static SHORT_BYTES: [u8; 256] = short_bytes();

const fn short_bytes() -> [u8; 256] {
    let mut bytes = [0; 256];
    let mut kind = 0;
    while kind < 256 {
        bytes[kind] = match kind {
            0x00..=0x7F => 2,
            0x80..=0xBF => (kind & 0x3F) as u8 + 2,
            0xC0..=0xDF => 3,
            0xF1 => 4,
            0xF2 => 5,
            0xF3 => 6,
            0xF4 => 10,
            _ => 0,
        };
        kind += 1;
    }
    bytes
}

/// Bytes of the element at `at`, backward length included.
#[inline]
pub(super) fn bytes_at(bytes: &[u8], at: usize) -> usize {
    match SHORT_BYTES[usize::from(bytes[at])] {
        0 => item_at(bytes, at).1,
        short => usize::from(short),
    }
}

/// Where the first element from `at` on begins that spells `needle`, looking at one element, then passing over `skip`. `bytes` ends where the
/// elements end.
pub(super) fn find(bytes: &[u8], mut at: usize, needle: &Needle<'_>, skip: usize) -> Option<usize> {
    let text = needle.text();
    let short_text = match text.len() {
        len @ 0..64 => 0x80 | len as u8,
        _ => 0,
    };
    while at < bytes.len() {
        let kind = bytes[at];
        let (is_found, length) = if matches!(kind, 0x80..=0xBF) {
            let end = at + usize::from(kind & 0x3F) + 1;
            // Names that are alike are so in front.
            let may_be = kind == short_text && bytes[end - 1] == *text.last().unwrap_or(&kind);
            (may_be && bytes[at + 1..end] == *text, end + 1 - at)
        } else {
            let (item, length) = item_at(bytes, at);
            (needle.is(item), length)
        };
        if is_found {
            return Some(at);
        }
        at += length;
        for _ in 0..skip {
            if at < bytes.len() {
                at += bytes_at(bytes, at);
            }
        }
    }
    None
}

/// As [`item_at`] for a buffer that nobody has looked at.
pub(super) fn checked_item(bytes: &[u8]) -> Option<(Item<'_>, usize)> {
    let (item, whole) = checked_head(bytes)?;
    let width =
        (1..=BACK_BYTES_MAX).find(|width| whole > *width && back_width(whole - width) == *width)?;
    let mut back = [0; BACK_BYTES_MAX];
    back_length(whole - width, &mut back);
    (bytes.get(whole - width..whole)? == &back[..width]).then_some((item, whole))
}

#[inline]
fn checked_head(bytes: &[u8]) -> Option<(Item<'_>, usize)> {
    let kind = *bytes.first()?;
    let text = |head: usize, len: usize| {
        let data = bytes.get(head..head + len)?;
        Some((Item::Bytes(data), head + len))
    };
    let int = |width: usize| {
        let data = bytes.get(1..1 + width)?;
        let mut wide = [0; 8];
        wide[8 - width..].copy_from_slice(data);
        Some((
            Item::Int(i64::from_le_bytes(wide) >> (64 - 8 * width)),
            1 + width,
        ))
    };
    let (item, length) = match kind {
        0x00..=0x7F => (Item::Int(i64::from(kind)), 1),
        0x80..=0xBF => text(1, usize::from(kind & 0x3F))?,
        0xC0..=0xDF => {
            let raw = i64::from(kind & 0x1F) << 8 | i64::from(*bytes.get(1)?);
            (Item::Int(raw << 51 >> 51), 2)
        }
        0xE0..=0xEF => text(
            2,
            usize::from(kind & 0x0F) << 8 | usize::from(*bytes.get(1)?),
        )?,
        0xF0 => {
            let len = u32::from_le_bytes(bytes.get(1..5)?.try_into().ok()?);
            text(5, len as usize)?
        }
        0xF1 => int(2)?,
        0xF2 => int(3)?,
        0xF3 => int(4)?,
        0xF4 => int(8)?,
        0xF5..=0xFF => return None,
    };
    Some((item, length + back_width(length)))
}
