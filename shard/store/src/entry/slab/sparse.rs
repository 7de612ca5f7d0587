//! Pages with few entries are emptied: what lies in them is moved by its owners to other pages of its class.
//!
//! Entries that come take the places of entries of their class that went, so a class loses nothing while it has as many as before. When values
//! of other sizes come instead, its pages stay, each with the few that are left. Then the emptiest of some pages is closed (it leaves
//! its list), and all that is in it is named to be moved. A page of which something was not moved by the next time is opened again, and stays.

use super::*;

/// A class may lose so large a share of its used blocks, and so many pages besides, before anything is moved.
const WASTE_SHARE: usize = 16;
const WASTE_PAGES: usize = 4;
/// Pages looked at to find an empty one.
const LOOKS: usize = 32;
/// Most blocks of a page, in words of 64 bits.
const WORDS: usize = (PAGE_BYTES / STEP_BYTES).div_ceil(64);

/// Calls `f` with each entry of a page that is to be emptied; false when nothing is to be gained.
pub(in crate::entry) fn empty_a_page(f: impl FnMut(NonNull<u8>)) -> bool {
    // SAFETY: the slabs are this thread's; `page` is alive until one of its blocks is given back, which `f` has no means to do.
    let page = SLABS.with(|slabs| unsafe { (*slabs.get()).close_sparse() });
    match page {
        None => false,
        Some(page) => {
            // SAFETY: the page was just found.
            unsafe { blocks_in_use(page, f) };
            true
        }
    }
}

/// Bytes of free blocks in pages in use, and of free pages that are in memory.
#[cfg(test)]
pub(in crate::entry) fn waste() -> usize {
    // SAFETY: as in `empty_a_page`.
    SLABS.with(|slabs| unsafe {
        let slabs = &*slabs.get();
        let lost = |(at, class): (usize, &Class)| class.free_blocks(at) * block_size(at);
        let blocks: usize = slabs.classes.iter().enumerate().map(lost).sum();
        blocks + slabs.stale * PAGE_BYTES
    })
}

/// Steps of the blocks of a class.
fn steps_of(class: usize) -> usize {
    class + 1
}

fn block_size(class: usize) -> usize {
    steps_of(class) * STEP_BYTES
}

impl Class {
    fn free_blocks(&self, class: usize) -> usize {
        self.pages * capacity(steps_of(class)) - self.used
    }

    /// Bytes that it loses beyond what is allowed.
    fn excess(&self, class: usize) -> usize {
        let allowed = self.used / WASTE_SHARE + WASTE_PAGES * capacity(steps_of(class));
        self.free_blocks(class).saturating_sub(allowed) * block_size(class)
    }
}

/// Calls `f` with each block of a page that is in use.
///
/// # Safety
/// The page is in use, and stays so.
unsafe fn blocks_in_use(page: *mut Page, mut f: impl FnMut(NonNull<u8>)) {
    // SAFETY: free blocks lead from one to the next (invariant 2); all others below `untouched` are in use.
    unsafe {
        let steps = usize::from((*page).steps);
        let first = HEADER_BYTES / STEP_BYTES;
        let end = usize::from((*page).untouched);
        let mut is_free = [0_u64; WORDS];
        let mut free = usize::from((*page).free);
        while free != 0 {
            is_free[free / 64] |= 1 << (free % 64);
            free = usize::from(
                page.cast::<u8>()
                    .add(free * STEP_BYTES)
                    .cast::<u16>()
                    .read(),
            );
        }
        for at in (first..end).step_by(steps) {
            if is_free[at / 64] >> (at % 64) & 1 == 0 {
                f(NonNull::new_unchecked(
                    page.cast::<u8>().add(at * STEP_BYTES),
                ));
            }
        }
    }
}

impl Slabs {
    /// Takes the emptiest of a few pages out of its list, in the class that loses most.
    ///
    /// # Safety
    /// Invariants hold.
    unsafe fn close_sparse(&mut self) -> Option<*mut Page> {
        // SAFETY: pages in lists are alive, and so is the one that was left half empty.
        unsafe {
            let left = std::mem::replace(&mut self.emptied, null_mut());
            if !left.is_null() {
                (*left).stays = true;
                self.link(left);
            }
            let (excess, class) = (0..SIZES)
                .map(|class| (self.classes[class].excess(class), class))
                .max()?;
            if excess == 0 {
                return None;
            }
            let (mut page, mut best): (_, Option<*mut Page>) = (self.classes[class].partial, None);
            for _ in 0..LOOKS {
                if page.is_null() {
                    break;
                }
                if !(*page).stays && best.is_none_or(|best| (*page).used < (*best).used) {
                    best = Some(page);
                }
                page = (*page).next;
            }
            let best = best?;
            self.unlink(best);
            self.emptied = best;
            Some(best)
        }
    }
}
