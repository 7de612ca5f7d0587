//! An element of a small form: text, or an integer that stands for its one spelling.

use crate::number::parse_i64;

/// One element: text as it was given, or an integer that was given in its canonical spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item<'a> {
    Bytes(&'a [u8]),
    Int(i64),
}

impl<'a> Item<'a> {
    /// The element as its text; integers are spelt into `digits`.
    pub fn text<'t>(self, digits: &'t mut [u8; 20]) -> &'t [u8]
    where
        'a: 't,
    {
        match self {
            Item::Bytes(bytes) => bytes,
            Item::Int(value) => larder_wire::resp::write::decimal(digits, value),
        }
    }

    pub fn to_vec(self) -> Vec<u8> {
        self.text(&mut [0; 20]).to_vec()
    }

    /// Bytes of the element's text.
    pub fn len(self) -> usize {
        self.text(&mut [0; 20]).len()
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The integer that the text canonically spells, if it does.
    pub fn int(self) -> Option<i64> {
        match self {
            Item::Bytes(bytes) => parse_i64(bytes),
            Item::Int(value) => Some(value),
        }
    }
}

/// Text that elements are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Needle<'a> {
    text: &'a [u8],
    number: Option<i64>,
}

impl<'a> Needle<'a> {
    pub fn new(text: &'a [u8]) -> Needle<'a> {
        Needle {
            text,
            number: parse_i64(text),
        }
    }

    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// True when `item` spells the text.
    #[inline]
    pub fn is(&self, item: Item<'_>) -> bool {
        match item {
            Item::Bytes(bytes) => bytes == self.text,
            Item::Int(value) => Some(value) == self.number,
        }
    }
}

/// True when no two items are alike.
pub fn distinct<'a>(items: impl Iterator<Item = Item<'a>>) -> bool {
    // A buffer from elsewhere may hold an integer as text.
    let canonical = |item: Item<'a>| item.int().map_or(item, Item::Int);
    let mut items: Vec<Item<'_>> = items.map(canonical).collect();
    items.sort_unstable();
    items.windows(2).all(|pair| pair[0] != pair[1])
}

/// `text` as it is kept: an integer when it spells one canonically.
pub(super) fn item_of(text: &[u8]) -> Item<'_> {
    match parse_i64(text) {
        Some(value) => Item::Int(value),
        None => Item::Bytes(text),
    }
}
