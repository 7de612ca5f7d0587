//! Who has an array: to be told when it moves.

/// Who has an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The table of a slot.
    Slot(usize),
    /// A table that grows, by the number of its growth.
    Growing { id: usize, old: bool },
    /// What is left of a table that was dropped, by its number.
    Dropped(usize),
}

/// An owner in 4 bytes: its kind in the lowest two bits.
#[derive(Clone, Copy)]
pub(super) struct Deed(u32);

impl Deed {
    pub(super) fn new(owner: Owner) -> Deed {
        let (number, kind) = match owner {
            Owner::Slot(slot) => (slot, 0),
            Owner::Growing { id, old } => (id, 1 + usize::from(old)),
            Owner::Dropped(number) => (number, 3),
        };
        debug_assert!(number < 1 << 30);
        Deed((number << 2 | kind) as u32)
    }

    pub(super) fn owner(self) -> Owner {
        let number = (self.0 >> 2) as usize;
        match self.0 & 3 {
            0 => Owner::Slot(number),
            3 => Owner::Dropped(number),
            kind => Owner::Growing {
                id: number,
                old: kind == 2,
            },
        }
    }
}
