//! A row of equal things in pages of the slabs: grows and shrinks at its end by one page, and moves nothing when it does.
//!
//! Invariants: (1) every page is full of initialised `T`s; (2) pages and the chunks that they are part of stand at the same index; (3) pages stay
//! on the thread that took them, because pointers are not `Send`.

use std::ptr::NonNull;

use super::slab;
use crate::size_class::size_class;

/// Bytes that a row grows by.
pub(crate) const PAGE_BYTES: usize = slab::PAGE_BYTES;

/// The row. `T`'s size is a power of two, and no larger than a page.
pub(crate) struct Pages<T> {
    pages: Vec<NonNull<T>>,
    chunks: Vec<u32>,
}

impl<T> Default for Pages<T> {
    fn default() -> Pages<T> {
        Pages {
            pages: Vec::new(),
            chunks: Vec::new(),
        }
    }
}

impl<T> Pages<T> {
    const PER_PAGE: usize = {
        assert!(size_of::<T>().is_power_of_two() && align_of::<T>() <= PAGE_BYTES);
        PAGE_BYTES / size_of::<T>()
    };

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.pages.len() * Self::PER_PAGE
    }

    /// Bytes of memory in all.
    pub(crate) fn bytes(&self) -> usize {
        let lists = [
            self.pages.capacity() * size_of::<NonNull<T>>(),
            self.chunks.capacity() * size_of::<u32>(),
        ];
        let lists = lists.into_iter().filter(|bytes| *bytes > 0);
        self.pages.len() * PAGE_BYTES + lists.map(size_class).sum::<usize>()
    }

    /// Adds as many as a page holds.
    pub(crate) fn grow(&mut self, fresh: impl Fn() -> T) {
        let (page, chunk) = slab::take_page();
        let page = page.cast::<T>();
        self.pages.reserve(1);
        self.chunks.reserve(1);
        for at in 0..Self::PER_PAGE {
            // SAFETY: the page has room for so many, and is aligned to its own size.
            unsafe { page.add(at).write(fresh()) };
        }
        self.pages.push(page);
        self.chunks.push(chunk);
    }

    /// Drops the last page with what is in it.
    pub(crate) fn shrink(&mut self) {
        let (Some(page), Some(chunk)) = (self.pages.pop(), self.chunks.pop()) else {
            return;
        };
        // SAFETY: invariants 1 to 3; the page is in the row no more.
        unsafe {
            NonNull::slice_from_raw_parts(page, Self::PER_PAGE).drop_in_place();
            slab::give_page(page.cast(), chunk);
        }
        // Lists that were grown for many more are not kept.
        if self.pages.capacity() > 4 * self.pages.len() {
            self.pages.shrink_to(2 * self.pages.len());
            self.chunks.shrink_to(2 * self.chunks.len());
        }
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> &T {
        let page = self.pages[at / Self::PER_PAGE];
        // SAFETY: invariant 1; the remainder lies in the page.
        unsafe { page.add(at % Self::PER_PAGE).as_ref() }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> &mut T {
        let page = self.pages[at / Self::PER_PAGE];
        // SAFETY: as in `get`; `&mut self` makes the reference the only one.
        unsafe { page.add(at % Self::PER_PAGE).as_mut() }
    }

    /// Exchanges two of them, which may be one.
    pub(crate) fn swap(&mut self, one: usize, other: usize) {
        let one = std::ptr::from_mut(self.get_mut(one));
        let other = std::ptr::from_mut(self.get_mut(other));
        // SAFETY: both are elements of the row, which `&mut self` makes ours; `swap` allows for one and the same.
        unsafe { one.swap(other) };
    }

    /// Exchanges the pages that two of them are on.
    pub(crate) fn swap_pages(&mut self, one: usize, other: usize) {
        let (one, other) = (one / Self::PER_PAGE, other / Self::PER_PAGE);
        self.pages.swap(one, other);
        self.chunks.swap(one, other);
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        while !self.pages.is_empty() {
            self.shrink();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::rc::Rc;

    #[derive(Clone)]
    #[repr(align(64))]
    struct Counted(Rc<u32>, #[allow(dead_code)] u32);

    #[test]
    fn a_row_holds_what_a_vector_holds_and_drops_all_of_it() {
        let mut random = Random::new(5);
        let shared: Vec<Rc<u32>> = (0..100).map(Rc::new).collect();
        let mut row: Pages<Counted> = Pages::default();
        let mut model: Vec<u32> = Vec::new();
        for step in 0..2000 {
            match random.below(8) {
                0 if step < 1800 => {
                    row.grow(|| Counted(Rc::clone(&shared[0]), 0));
                    model.resize(row.len(), 0);
                }
                1 if step % 3 == 0 => {
                    row.shrink();
                    model.truncate(row.len());
                }
                _ if model.is_empty() => {}
                2 => {
                    let pages = model.len() / 64;
                    let (one, other) = (random.below(pages) * 64, random.below(pages) * 64);
                    row.swap_pages(one, other);
                    (0..64).for_each(|at| model.swap(one + at, other + at));
                }
                3..5 => {
                    let (one, other) = (random.below(model.len()), random.below(model.len()));
                    row.swap(one, other);
                    model.swap(one, other);
                }
                _ => {
                    let (at, which) = (random.below(model.len()), random.below(shared.len()));
                    row.get_mut(at).0 = Rc::clone(&shared[which]);
                    model[at] = which as u32;
                }
            }
            assert_eq!(row.len(), model.len());
            if !model.is_empty() {
                let at = random.below(model.len());
                assert_eq!(*row.get(at).0, model[at]);
                assert!(row.bytes() >= row.len() * 64);
            }
        }
        assert!((0..row.len()).all(|at| *row.get(at).0 == model[at]));
        drop(row);
        assert!(shared.iter().all(|it| Rc::strong_count(it) == 1));
    }
}
