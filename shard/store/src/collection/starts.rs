//! Where the records of a leaf start in its log: two bytes each, as long as that is enough.

use std::ops::Range;

use super::mem;

#[derive(Clone)]
pub(super) enum Starts {
    Short(Vec<u16>),
    /// Of a leaf with a huge record.
    Long(Vec<u32>),
}

impl Default for Starts {
    fn default() -> Starts {
        Starts::Short(Vec::new())
    }
}

impl Starts {
    #[inline]
    pub(super) fn get(&self, index: usize) -> usize {
        match self {
            Starts::Short(starts) => usize::from(starts[index]),
            Starts::Long(starts) => starts[index] as usize,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Starts::Short(starts) => starts.len(),
            Starts::Long(starts) => starts.len(),
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Starts::Short(starts) => mem::vec(starts),
            Starts::Long(starts) => mem::vec(starts),
        }
    }

    pub(super) fn insert(&mut self, index: usize, start: usize) {
        match self.widened_for(start) {
            Starts::Short(starts) => {
                mem::reserve(starts, 1);
                starts.insert(index, start as u16);
            }
            Starts::Long(starts) => {
                mem::reserve(starts, 1);
                starts.insert(index, start as u32);
            }
        }
    }

    pub(super) fn push(&mut self, start: usize) {
        self.insert(self.len(), start);
    }

    pub(super) fn set(&mut self, index: usize, start: usize) {
        match self.widened_for(start) {
            Starts::Short(starts) => starts[index] = start as u16,
            Starts::Long(starts) => starts[index] = start as u32,
        }
    }

    pub(super) fn remove(&mut self, range: Range<usize>) {
        match self {
            Starts::Short(starts) => {
                starts.drain(range);
                mem::give_back(starts);
            }
            Starts::Long(starts) => {
                starts.drain(range);
                mem::give_back(starts);
            }
        }
    }

    pub(super) fn reserve(&mut self, more: usize) {
        match self {
            Starts::Short(starts) => mem::reserve(starts, more),
            Starts::Long(starts) => mem::reserve(starts, more),
        }
    }

    /// Itself, with places that hold `start`.
    #[inline]
    fn widened_for(&mut self, start: usize) -> &mut Starts {
        if let Starts::Short(starts) = self
            && start > usize::from(u16::MAX)
        {
            assert!(start <= u32::MAX as usize, "a leaf's log is far below 4 GB");
            *self = Starts::Long(starts.iter().map(|start| u32::from(*start)).collect());
        }
        self
    }
}
