use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::entry::slab;
use crate::random::Random;

struct Held {
    at: NonNull<u8>,
    room: usize,
    mark: u8,
}

impl Held {
    fn new(room: usize, mark: u8) -> Held {
        let at = take(room);
        assert!(at.addr().get().is_multiple_of(8));
        let block = Held { at, room, mark };
        block.fill(0);
        block
    }

    fn fill(&self, from: usize) {
        // SAFETY: the block has `room` bytes.
        unsafe {
            let at = self.at.as_ptr().add(from);
            at.write_bytes(self.mark, self.room - from);
        }
    }

    fn expect_contents(&self, len: usize) {
        // SAFETY: its bytes were written.
        let bytes = unsafe { std::slice::from_raw_parts(self.at.as_ptr(), len) };
        assert!(bytes.iter().all(|byte| *byte == self.mark));
    }

    fn give(self) {
        // SAFETY: the block is held, and nobody has it afterwards.
        unsafe { give(self.at) };
    }

    /// What an owner does that is asked to move.
    fn relocate(&mut self) {
        let at = take(self.room);
        // SAFETY: both blocks have `room` bytes, and the old one is nobody's afterwards.
        unsafe {
            at.as_ptr()
                .copy_from_nonoverlapping(self.at.as_ptr(), self.room);
            give(self.at);
        }
        self.at = at;
    }
}

/// Calls `f` with both heaps.
fn each(mut f: impl FnMut(&mut Heap)) {
    for size in [SMALL_BYTES_MAX, LARGE_CHUNK_BYTES] {
        with(size, &mut f);
    }
}

/// Follows the tags of all chunks, and all lists.
fn check() {
    // SAFETY: what is read are tags and links of this thread's heaps.
    each(|heap| unsafe {
        let (mut used, mut binned) = (0, BTreeSet::new());
        let (mut stale_bytes, mut gone_bytes) = (0, 0);
        for bin in 0..BINS {
            let mut block = heap.bins[bin];
            let is_filled = heap.filled[bin / 64] >> (bin % 64) & 1 == 1;
            assert_eq!(is_filled, !block.is_null());
            while !block.is_null() {
                assert_eq!(bin_of((*block).tag.size()), bin);
                binned.insert(block.cast::<Tag>());
                let (stale, gone) = Free::stale_and_gone(block);
                stale_bytes += stale;
                gone_bytes += gone;
                block = (*block).bin.next;
            }
        }
        assert_eq!((stale_bytes, gone_bytes), (heap.stale_bytes, heap.gone));
        let mut stale = heap.oldest_stale;
        while !stale.is_null() {
            stale_bytes -= (*stale).to - (*stale).from;
            stale = (*stale).stale.previous;
        }
        assert_eq!(stale_bytes, 0);
        for (number, chunk) in heap.chunks.iter().enumerate() {
            if chunk.base.is_null() {
                continue;
            }
            let is_open = !heap.is_emptied(number as u32);
            let (mut at, mut total, mut held, mut was_free) = (chunk.base, 0, 0, false);
            while (*at).size() != 0 {
                let size = (*at).size();
                assert_eq!((*at).chunk() as usize, number);
                assert!(!(was_free && (*at).is_free()), "free neighbours are one");
                was_free = (*at).is_free();
                let is_binned = was_free && is_open && size >= BINNED_BYTES_MIN;
                assert_eq!(binned.remove(&at), is_binned);
                held += if was_free { 0 } else { size };
                total += size;
                at = after(at);
                assert_eq!((*at).before(), size);
            }
            assert_eq!((total, held), (heap.chunk_room(), chunk.used));
            used += held;
        }
        assert!(binned.is_empty());
        assert_eq!(used, heap.used);
    });
}

fn any_room(random: &mut Random) -> usize {
    let least = slab::BLOCK_BYTES_MAX + 1;
    let log = 9 + random.below(12);
    (least + random.below(1 << log)).min(ROOM_BYTES_MAX)
}

/// Moves what is to be moved, up to `limit` blocks; blocks of rooms that `stays` says are not found.
fn move_some(held: &mut [Held], limit: usize, stays: impl Fn(usize) -> bool) -> usize {
    let mut places: BTreeMap<NonNull<u8>, usize> = BTreeMap::new();
    for moved in 0..limit {
        let Some(block) = sparse::next_to_move() else {
            return moved;
        };
        if places.is_empty() {
            places.extend(held.iter().enumerate().map(|(at, it)| (it.at, at)));
        }
        let at = places
            .remove(&block)
            .expect("what is to be moved is in use");
        if !stays(held[at].room) {
            held[at].relocate();
            places.insert(held[at].at, at);
        }
    }
    limit
}

#[test]
fn blocks_keep_their_contents_and_all_memory_is_given_back() {
    let seed = 11;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut held: Vec<Held> = Vec::new();
    let mut moved = 0;
    for round in 0..40_000_usize {
        let grows = round < 20_000;
        let chance = random.below(10);
        if held.is_empty() || chance < if grows { 5 } else { 3 } {
            held.push(Held::new(any_room(&mut random), round as u8));
        } else if chance < 7 {
            let at = random.below(held.len());
            let block = &mut held[at];
            let kept = block.room;
            block.room = any_room(&mut random);
            let kept = kept.min(block.room);
            // SAFETY: the block is held.
            block.at = unsafe { resize(block.at, block.room) };
            block.expect_contents(kept);
            block.fill(kept);
        } else {
            let at = random.below(held.len());
            let block = held.swap_remove(at);
            block.expect_contents(block.room);
            block.give();
        }
        if round % 50 == 0 {
            moved += move_some(&mut held, 10, |room| room % 64 == 0);
        }
        if round % 500 == 0 {
            check();
        }
    }
    assert!(moved > 100, "{moved}");
    for block in held.drain(..) {
        block.expect_contents(block.room);
        block.give();
    }
    check();
    each(|heap| {
        let chunks = heap.chunks.len() - heap.vacant.len();
        assert_eq!((heap.used, heap.idle), (0, chunks));
        assert!(chunks <= 1 && heap.stale_bytes <= heap.stale_bytes_max());
        assert!(heap.emptied.is_none());
    });
}

#[test]
fn a_block_costs_a_thirty_second_more_than_asked_at_most() {
    for room in slab::BLOCK_BYTES_MAX + 1..100_000 {
        let size = block_bytes(room);
        assert!(size >= room + TAG_BYTES && size.is_multiple_of(UNIT_BYTES));
        assert!(
            size - TAG_BYTES - room < (room / 31).max(UNIT_BYTES),
            "{room}"
        );
        assert_eq!(block_bytes(size - TAG_BYTES), size);
        // Any block of the bin is large enough.
        assert!(bin_of(size - UNIT_BYTES) < bin_of(size));
    }
    assert_eq!(block_bytes(ROOM_BYTES_MAX), ROOM_BYTES_MAX + TAG_BYTES);
}

#[test]
fn a_string_that_is_appended_to_moves_rarely() {
    let mut block = Held::new(300, 1);
    let mut others = Vec::new();
    let mut copied = 0;
    while block.room < 200_000 {
        let before = block.at;
        block.room += 10;
        // SAFETY: the block is held.
        block.at = unsafe { resize(block.at, block.room) };
        if block.at != before {
            copied += block.room;
            others.push(Held::new(block.room, 2));
        }
    }
    assert!(copied < 64 * block.room, "{copied}");
    others.push(block);
    others.into_iter().for_each(Held::give);
}

#[test]
fn a_full_cache_whose_values_change_their_sizes_loses_little_between_them() {
    const LIMIT_BYTES: usize = 48 << 20;
    let seed = 3;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut held: Vec<Held> = Vec::new();
    let (mut used, mut moved) = (0, 0);
    for turn in 1..=20_usize {
        let (mut written, mut looked) = (0, 0);
        while written < LIMIT_BYTES {
            // Each doubling has as many bytes as any other; at times there is nothing small, or nothing large.
            let doublings = (random.next_u64() | 1 << 10).trailing_zeros();
            let least = if turn.is_multiple_of(4) { 1024 } else { 256 } << doublings;
            let mut room = (least + 1 + random.below(least)).min(ROOM_BYTES_MAX);
            if turn.is_multiple_of(5) {
                room = room.min(2000);
            }
            while used + block_bytes(room) > LIMIT_BYTES {
                let at = random.below(held.len());
                let block = held.swap_remove(at);
                used -= block_bytes(block.room);
                block.give();
            }
            let mark = 0;
            let at = take(room);
            held.push(Held { at, room, mark });
            used += block_bytes(room);
            written += room;
            if written > looked + (1 << 20) {
                looked = written;
                moved += move_some(&mut held, 2000, |_| false);
            }
        }
        let mut waste = 0;
        each(|heap| waste += heap.waste());
        let resident = (used + waste) as f64 / used as f64;
        println!("turn {turn}: {resident:.3} of what is used is resident, {moved} were moved");
        assert!(turn == 1 || resident < 1.12, "{resident}");
    }
    check();
    held.into_iter().for_each(Held::give);
}
