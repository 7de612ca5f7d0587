//! `maxmemory` by resident memory's own measure.
//!
//! The count of memory knows what each allocation takes, but not what lies free between allocations: after churn with mixed sizes a process has more in RAM than
//! is counted. The shell says from time to time how much of the process is data of this node; what the count does not see is taken from the
//! limit. Below the limit the difference is used as it is, so growth stops where the limit is. Above it data is not let grow any further, and
//! shrinks bit by bit: memory that is freed between other data is free for data, but still resident.

/// Smaller limits are kept by the count alone: a process moves by as much for other reasons.
const LIMIT_BYTES_MIN: u64 = 32 << 20;
/// Share of the limit that other things may take.
const ALLOWANCE: u64 = 200;
/// The part of the excess by which data shrinks at each look.
const SHRINK_PARTS: u64 = 4;
/// At most so large a part of the limit is taken from it.
const UNSEEN_PARTS_MIN: u64 = 3;

/// What to count beside `used` bytes so that no more than `limit` are resident.
pub(crate) fn unseen(limit: u64, used: u64, resident: u64) -> u64 {
    if limit < LIMIT_BYTES_MIN {
        return 0;
    }
    let resident = resident.saturating_sub(limit / ALLOWANCE);
    let seen = match resident.checked_sub(limit) {
        None => resident.saturating_sub(used),
        Some(excess) => limit.saturating_sub(used) + excess / SHRINK_PARTS,
    };
    seen.min(limit / UNSEEN_PARTS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn growth_stops_where_resident_memory_reaches_the_limit() {
        let unseen = unseen(100 * MB, 80 * MB, 90 * MB + MB / 2);
        assert_eq!(unseen, 10 * MB);
        // What may still come is what is missing to the limit.
        assert_eq!(100 * MB - unseen - 80 * MB, 10 * MB);
    }

    #[test]
    fn above_the_limit_data_shrinks_by_a_part_of_the_excess() {
        let over = unseen(100 * MB, 80 * MB, 132 * MB + MB / 2);
        assert_eq!(80 * MB + over, 108 * MB);
        assert_eq!(unseen(100 * MB, 10 * MB, 400 * MB), 100 * MB / 3);
    }

    #[test]
    fn nothing_is_taken_from_a_limit_that_the_count_keeps() {
        assert_eq!(unseen(100 * MB, 99 * MB, 99 * MB + MB / 2), 0);
        assert_eq!(unseen(10 * MB, 5 * MB, 20 * MB), 0);
        assert_eq!(unseen(0, 5 * MB, 20 * MB), 0);
    }
}
