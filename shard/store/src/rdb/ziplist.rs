//! The packed buffers of older versions: ziplists and zipmaps. Only read.

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}

const END: u8 = 0xFF;

/// The elements of a ziplist: `<bytes u32><tail u32><count u16>`, entries, the end mark.
pub(super) fn read_ziplist(blob: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut cursor = Cursor { rest: blob };
    let bytes = u32::from_le_bytes(cursor.array()?) as usize;
    let _tail: [u8; 4] = cursor.array()?;
    let count = u16::from_le_bytes(cursor.array()?);
    let mut elements = Vec::new();
    loop {
        let [previous] = cursor.array()?;
        match previous {
            END => break,
            // The length of the entry before takes five bytes.
            254 => drop(cursor.take(4)?),
            _ => {}
        }
        elements.push(read_entry(&mut cursor)?);
    }
    let counted = count == u16::MAX || usize::from(count) == elements.len();
    (bytes == blob.len() && cursor.rest.is_empty() && counted).then_some(elements)
}

fn read_entry(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let int = |int: i64| Some(int.to_string().into_bytes());
    let [head] = cursor.array()?;
    let low = usize::from(head & 0x3F);
    match head {
        0x00..=0x3F => Some(cursor.take(low)?.to_vec()),
        0x40..=0x7F => {
            let [second] = cursor.array()?;
            Some(cursor.take(low << 8 | usize::from(second))?.to_vec())
        }
        0x80..=0xBF => {
            let len = u32::from_be_bytes(cursor.array()?) as usize;
            Some(cursor.take(len)?.to_vec())
        }
        0xC0 => int(i16::from_le_bytes(cursor.array()?).into()),
        0xD0 => int(i32::from_le_bytes(cursor.array()?).into()),
        0xE0 => int(i64::from_le_bytes(cursor.array()?)),
        0xF0 => {
            let [a, b, c] = cursor.array()?;
            int((i32::from_le_bytes([0, a, b, c]) >> 8).into())
        }
        0xFE => int(i8::from_le_bytes(cursor.array()?).into()),
        0xF1..=0xFD => int(i64::from(head & 0x0F) - 1),
        _ => None,
    }
}

/// The fields and values of a zipmap: `<count>`, then `<length><field><length><free bytes><value><free>`, the end mark.
pub(super) fn read_zipmap(blob: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut cursor = Cursor { rest: blob };
    let _count: [u8; 1] = cursor.array()?;
    let mut elements = Vec::new();
    while let Some(len) = read_zipmap_length(&mut cursor)? {
        elements.push(cursor.take(len)?.to_vec());
        let len = read_zipmap_length(&mut cursor)??;
        let [free] = cursor.array()?;
        elements.push(cursor.take(len)?.to_vec());
        cursor.take(free.into())?;
    }
    cursor.rest.is_empty().then_some(elements)
}

/// `Some(None)` at the end mark.
fn read_zipmap_length(cursor: &mut Cursor<'_>) -> Option<Option<usize>> {
    let [first] = cursor.array()?;
    match first {
        END => Some(None),
        254 => Some(Some(u32::from_le_bytes(cursor.array()?) as usize)),
        len => Some(Some(len.into())),
    }
}
