//! How much of a large collection goes into one piece of a feed.

/// What is left of a piece's size.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    elements: usize,
    bytes: usize,
    is_fresh: bool,
}

impl Budget {
    /// A piece of at most so many elements; of so many bytes unless its only element is larger.
    pub fn new(elements_max: usize, bytes_max: usize) -> Budget {
        Budget {
            elements: elements_max,
            bytes: bytes_max,
            is_fresh: true,
        }
    }

    /// Spends one element of `bytes`, or says that the piece is full. The first element always fits.
    pub fn takes(&mut self, bytes: usize) -> bool {
        if !self.is_fresh && (self.elements == 0 || self.bytes < bytes) {
            return false;
        }
        self.is_fresh = false;
        self.elements = self.elements.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}
