//! A sorted map from names to values in the counted tree: a stream's groups, a group's consumers.

use std::rc::Rc;

use super::super::mem;
use super::super::tree::{Leaf, Side, Tree};

/// Most names of a leaf.
const NAMES_MAX: usize = 32;
/// What a reference-counted name holds beside its bytes.
const COUNTS_BYTES: usize = 2 * size_of::<usize>();

/// A value that hangs on a name. A clone is cheap.
pub trait Named: Clone {
    /// Bytes on the heap, in O(1).
    fn heap_bytes(&self) -> usize;
}

#[derive(Clone)]
struct Names<T> {
    items: Vec<(Rc<[u8]>, T)>,
}

/// Values by name, in the order of the names.
#[derive(Clone)]
pub struct NameMap<T: Named> {
    tree: Tree<Names<T>>,
}

impl<T> Default for Names<T> {
    fn default() -> Names<T> {
        Names { items: Vec::new() }
    }
}

impl<T: Named> Default for NameMap<T> {
    fn default() -> NameMap<T> {
        NameMap {
            tree: Tree::default(),
        }
    }
}

impl<T: Named> Leaf for Names<T> {
    type Mark = ();

    fn len(&self) -> usize {
        self.items.len()
    }

    fn heap_bytes(&self) -> usize {
        let own = |(name, value): &(Rc<[u8]>, T)| {
            mem::block(COUNTS_BYTES + name.len()) + value.heap_bytes()
        };
        mem::vec(&self.items) + self.items.iter().map(own).sum::<usize>()
    }

    fn mark(&self) {}

    fn is_overfull(&self) -> bool {
        self.items.len() > NAMES_MAX
    }

    fn split(&mut self, _edited: usize) -> Names<T> {
        Names {
            items: self.items.split_off(self.items.len() / 2),
        }
    }

    fn joins(&self, next: &Names<T>) -> bool {
        let (one, other) = (self.items.len(), next.items.len());
        one.min(other) < NAMES_MAX / 4 && one + other <= NAMES_MAX * 3 / 4
    }

    fn append(&mut self, next: &Names<T>) {
        mem::reserve(&mut self.items, next.items.len());
        self.items.extend_from_slice(&next.items);
    }
}

impl<T: Named> NameMap<T> {
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    pub fn heap_bytes(&self) -> usize {
        self.tree.heap_bytes()
    }

    pub fn get(&self, name: &[u8]) -> Option<&T> {
        Some(self.at(self.find(name).ok()?)?.1)
    }

    /// The value at this place in the order of the names.
    pub fn at(&self, at: usize) -> Option<(&[u8], &T)> {
        if at >= self.len() {
            return None;
        }
        let (leaf, index) = self.tree.leaf_at(at);
        let (name, value) = &leaf.items[index];
        Some((name, value))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &T)> {
        self.tree
            .leaves_from(0)
            .flat_map(|(leaf, first)| leaf.items[first..].iter())
            .map(|(name, value)| (&**name, value))
    }

    /// Lets `change` edit the value of `name`; `None` when there is no such name.
    pub fn edit<R>(&mut self, name: &[u8], change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let at = self.find(name).ok()?;
        Some(
            self.tree
                .edit(at, Side::At, |leaf, index| change(&mut leaf.items[index].1)),
        )
    }

    /// Gives a new name this value; false when the name is there.
    pub fn insert(&mut self, name: &[u8], value: T) -> bool {
        let Err(at) = self.find(name) else {
            return false;
        };
        self.tree.edit(at, Side::Before, |leaf, index| {
            mem::reserve(&mut leaf.items, 1);
            leaf.items.insert(index, (name.into(), value));
        });
        true
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<T> {
        let at = self.find(name).ok()?;
        Some(self.take(at))
    }

    /// Takes out the last value.
    pub fn pop(&mut self) -> Option<T> {
        let last = self.len().checked_sub(1)?;
        Some(self.take(last))
    }

    fn take(&mut self, at: usize) -> T {
        self.tree.edit(at, Side::At, |leaf, index| {
            let (_, value) = leaf.items.remove(index);
            mem::give_back(&mut leaf.items);
            value
        })
    }

    fn find(&self, name: &[u8]) -> Result<usize, usize> {
        let (before, leaf) = self.tree.descend(|first| *first.leaf().items[0].0 <= *name);
        leaf.items
            .binary_search_by(|(other, _)| (**other).cmp(name))
            .map(|at| before + at)
            .map_err(|at| before + at)
    }
}
