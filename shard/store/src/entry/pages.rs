//! A row of equal things in pages of the slabs: grows and shrinks at its end by one page, and moves nothing when it does. A page that nothing was
//! put on takes no memory.
//!
//! Invariants: (1) every page that is there is full of initialised `T`s; (2) pages and the chunks that they are part of stand at the same index; (3) pages stay
//! on the thread that took them, because pointers are not `Send`.

use std::ptr::NonNull;

use super::slab;
use crate::size_class::size_class;

/// Bytes that a row grows by.
pub(crate) const PAGE_BYTES: usize = slab::PAGE_BYTES;

/// The row. `T`'s size is a power of two, and no larger than a page.
pub(crate) struct Pages<T> {
    pages: Vec<Option<NonNull<T>>>,
    chunks: Vec<u32>,
    /// Pages that are there.
    live: usize,
}

impl<T> Default for Pages<T> {
    fn default() -> Pages<T> {
        Pages {
            pages: Vec::new(),
            chunks: Vec::new(),
            live: 0,
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
            self.pages.capacity() * size_of::<Option<NonNull<T>>>(),
            self.chunks.capacity() * size_of::<u32>(),
        ];
        let lists = lists.into_iter().filter(|bytes| *bytes > 0);
        self.live * PAGE_BYTES + lists.map(size_class).sum::<usize>()
    }

    /// Adds as many as a page holds, without the page.
    pub(crate) fn extend(&mut self) {
        self.pages.push(None);
        self.chunks.push(0);
    }

    /// Makes the page that `at` is on, unless it is there.
    pub(crate) fn fill(&mut self, at: usize, fresh: impl Fn() -> T) {
        let index = at / Self::PER_PAGE;
        if self.pages[index].is_some() {
            return;
        }
        let (page, chunk) = slab::take_page();
        let page = page.cast::<T>();
        for at in 0..Self::PER_PAGE {
            // SAFETY: the page has room for so many, and is aligned to its own size.
            unsafe { page.add(at).write(fresh()) };
        }
        self.pages[index] = Some(page);
        self.chunks[index] = chunk;
        self.live += 1;
    }

    /// Drops the page that `at` is on, with what is in it.
    pub(crate) fn vacate(&mut self, at: usize) {
        let index = at / Self::PER_PAGE;
        let Some(page) = self.pages[index].take() else {
            return;
        };
        self.live -= 1;
        // SAFETY: invariants 1 to 3; the page is in the row no more.
        unsafe {
            NonNull::slice_from_raw_parts(page, Self::PER_PAGE).drop_in_place();
            slab::give_page(page.cast(), self.chunks[index]);
        }
    }

    /// Drops the last page with what is in it.
    pub(crate) fn shrink(&mut self) {
        if self.pages.is_empty() {
            return;
        }
        self.vacate(self.len() - 1);
        self.pages.pop();
        self.chunks.pop();
        // Lists that were grown for many more are not kept.
        if self.pages.capacity() > 4 * self.pages.len() {
            self.pages.shrink_to(2 * self.pages.len());
            self.chunks.shrink_to(2 * self.chunks.len());
        }
    }

    /// `None` on a page that is not there.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        let page = self.pages[at / Self::PER_PAGE]?;
        // SAFETY: invariant 1; the remainder lies in the page.
        Some(unsafe { page.add(at % Self::PER_PAGE).as_ref() })
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let page = self.pages[at / Self::PER_PAGE]?;
        // SAFETY: as in `get`; `&mut self` makes the reference the only one.
        Some(unsafe { page.add(at % Self::PER_PAGE).as_mut() })
    }

    /// Those that are on the page that `at` is on.
    pub(crate) fn page(&self, at: usize) -> &[T] {
        match self.pages[at / Self::PER_PAGE] {
            None => &[],
            // SAFETY: invariant 1.
            Some(page) => unsafe { NonNull::slice_from_raw_parts(page, Self::PER_PAGE).as_ref() },
        }
    }

    /// Exchanges two of them, whose pages are there.
    pub(crate) fn swap(&mut self, one: usize, other: usize) {
        let (one, other) = (
            self.get_mut(one).map(std::ptr::from_mut),
            self.get_mut(other),
        );
        if let (Some(one), Some(other)) = (one, other) {
            // SAFETY: both are elements of the row, which `&mut self` makes ours; `swap` allows for one and the same.
            unsafe { one.swap(other) };
        }
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

    const PER_PAGE: usize = PAGE_BYTES / size_of::<Counted>();

    #[test]
    fn a_row_holds_what_a_vector_holds_and_drops_all_of_it() {
        let mut random = Random::new(5);
        let shared: Vec<Rc<u32>> = (0..100).map(Rc::new).collect();
        let mut row: Pages<Counted> = Pages::default();
        // `None` on pages that are not there.
        let mut model: Vec<Option<u32>> = Vec::new();
        for step in 0..3000 {
            let pages = model.len() / PER_PAGE;
            match random.below(9) {
                0 if step < 2700 => {
                    row.extend();
                    model.resize(row.len(), None);
                }
                1 if step % 3 == 0 => {
                    row.shrink();
                    model.truncate(row.len());
                }
                _ if model.is_empty() => {}
                2 => {
                    let one = random.below(pages) * PER_PAGE;
                    let other = random.below(pages) * PER_PAGE;
                    row.swap_pages(one, other);
                    (0..PER_PAGE).for_each(|at| model.swap(one + at, other + at));
                }
                3 => {
                    let at = random.below(model.len());
                    row.vacate(at);
                    let first = at / PER_PAGE * PER_PAGE;
                    model[first..first + PER_PAGE].fill(None);
                }
                4 => {
                    let (one, other) = (random.below(model.len()), random.below(model.len()));
                    if model[one].is_some() && model[other].is_some() {
                        row.swap(one, other);
                        model.swap(one, other);
                    }
                }
                _ => {
                    let (at, which) = (random.below(model.len()), random.below(shared.len()));
                    row.fill(at, || Counted(Rc::clone(&shared[0]), 0));
                    row.get_mut(at).expect("its page is there").0 = Rc::clone(&shared[which]);
                    let first = at / PER_PAGE * PER_PAGE;
                    for place in &mut model[first..first + PER_PAGE] {
                        place.get_or_insert(0);
                    }
                    model[at] = Some(which as u32);
                }
            }
            assert_eq!(row.len(), model.len());
            let there = model.iter().filter(|it| it.is_some()).count();
            assert!(row.bytes() >= there * size_of::<Counted>());
            if !model.is_empty() {
                let at = random.below(model.len());
                assert_eq!(row.get(at).map(|it| *it.0), model[at]);
            }
        }
        assert!((0..row.len()).all(|at| row.get(at).map(|it| *it.0) == model[at]));
        drop(row);
        assert!(shared.iter().all(|it| Rc::strong_count(it) == 1));
    }
}
