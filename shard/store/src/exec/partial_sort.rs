//! A sort that stops when the first ones stand, and leaves equal ones where Redis's does.
//!
//! Quicksort after Bentley and McIlroy, "Engineering a Sort Function" (1993), as the BSDs have it; parts of the slice that hold none of the first ones are left
//! as they are. Which of several equal elements come first follows from each swap, so these are those.

use std::cmp::Ordering;

const INSERTION_MAX: usize = 6;
const NINTHER_MIN: usize = 41;

/// Sorts `slice` so far that its first `wanted` elements stand.
pub(super) fn partial_sort<T>(
    slice: &mut [T],
    wanted: usize,
    compare: impl Fn(&T, &T) -> Ordering,
) {
    if wanted > 0 {
        sort(slice, wanted, &compare);
    }
}

fn sort<T>(mut slice: &mut [T], mut wanted: usize, compare: &impl Fn(&T, &T) -> Ordering) {
    loop {
        let len = slice.len();
        if len <= INSERTION_MAX {
            insert(slice, compare);
            return;
        }
        let pivot = pivot(slice, compare);
        slice.swap(0, pivot);
        let (low, high) = partition(slice, compare);
        // The lower part always holds some of the first ones.
        if low > 1 {
            sort(&mut slice[..low], wanted.min(low), compare);
        }
        let upper = len - high;
        if high <= 1 || wanted <= upper {
            return;
        }
        slice = &mut slice[upper..];
        wanted -= upper;
    }
}

fn insert<T>(slice: &mut [T], compare: &impl Fn(&T, &T) -> Ordering) {
    for end in 1..slice.len() {
        let mut at = end;
        while at > 0 && compare(&slice[at - 1], &slice[at]) == Ordering::Greater {
            slice.swap(at - 1, at);
            at -= 1;
        }
    }
}

fn pivot<T>(slice: &[T], compare: &impl Fn(&T, &T) -> Ordering) -> usize {
    let len = slice.len();
    let (mut first, mut middle, mut last) = (0, len / 2, len - 1);
    if len > INSERTION_MAX + 1 {
        if len >= NINTHER_MIN {
            let step = len / 8;
            first = median(slice, [first, first + step, first + 2 * step], compare);
            middle = median(slice, [middle - step, middle, middle + step], compare);
            last = median(slice, [last - 2 * step, last - step, last], compare);
        }
        middle = median(slice, [first, middle, last], compare);
    }
    middle
}

fn median<T>(slice: &[T], [a, b, c]: [usize; 3], compare: &impl Fn(&T, &T) -> Ordering) -> usize {
    let order = |one: usize, other: usize| compare(&slice[one], &slice[other]);
    if order(a, b) == Ordering::Less {
        if order(b, c) == Ordering::Less {
            b
        } else if order(a, c) == Ordering::Less {
            c
        } else {
            a
        }
    } else if order(b, c) == Ordering::Greater {
        b
    } else if order(a, c) == Ordering::Less {
        a
    } else {
        c
    }
}

/// Around the first element: how many are below it and stand at the front, how many above at the end. Those that equal it
/// gather at both ends on the way and are swapped into the middle last.
fn partition<T>(slice: &mut [T], compare: &impl Fn(&T, &T) -> Ordering) -> (usize, usize) {
    let len = slice.len();
    // Up to `equal_low` and from `equal_high` on are equal ones; `up` and `end` close in on each other.
    let (mut equal_low, mut up) = (1, 1);
    let (mut equal_high, mut end) = (len, len);
    loop {
        while up < end {
            match compare(&slice[up], &slice[0]) {
                Ordering::Greater => break,
                Ordering::Equal => {
                    slice.swap(equal_low, up);
                    equal_low += 1;
                }
                Ordering::Less => {}
            }
            up += 1;
        }
        while up < end {
            match compare(&slice[end - 1], &slice[0]) {
                Ordering::Less => break,
                Ordering::Equal => {
                    equal_high -= 1;
                    slice.swap(end - 1, equal_high);
                }
                Ordering::Greater => {}
            }
            end -= 1;
        }
        if up >= end {
            break;
        }
        slice.swap(up, end - 1);
        up += 1;
        end -= 1;
    }
    let (below, above) = (up - equal_low, equal_high - end);
    swap_ranges(slice, 0, up, equal_low.min(below));
    swap_ranges(slice, up, len, above.min(len - equal_high));
    (below, above)
}

/// Swaps the `count` elements from `from` on with those before `to`.
fn swap_ranges<T>(slice: &mut [T], from: usize, to: usize, count: usize) {
    for at in 0..count {
        slice.swap(from + at, to - count + at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_first_ones_are_those_of_a_whole_sort() {
        let mut random = Random::new(5);
        for round in 0..500 {
            let len = 1 + random.below(200);
            let kinds = 1 + random.below(50);
            let mut values: Vec<usize> = (0..len).map(|_| random.below(kinds)).collect();
            let wanted = 1 + random.below(len);
            let mut expected = values.clone();
            expected.sort_unstable();
            partial_sort(&mut values, wanted, usize::cmp);
            assert_eq!(values[..wanted], expected[..wanted], "round {round}");
            values.sort_unstable();
            assert_eq!(values, expected, "round {round}");
        }
    }
}
