//! What the kernel knows of this thread and process, read from `/proc`; zeros where there is none.

use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// `/proc` counts CPU time in ticks of USER_HZ, which is 100 on every Linux that Rust runs on.
const TICK_US: u64 = 10_000;
const PAGE_BYTES: u64 = 4096;

/// CPU time of the calling thread in microseconds: user and system.
///
/// The sum is exact (`schedstat` counts nanoseconds); its parts are ticks, scaled to that sum.
pub(crate) fn thread_cpu_us() -> (u64, u64) {
    let Ok(stat) = fs::read_to_string("/proc/thread-self/stat") else {
        return (0, 0);
    };
    // The name in brackets may hold anything; the fields after it are numbers. utime and stime are 14 and 15.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut ticks = || {
        fields
            .next()
            .and_then(|field| field.parse().ok())
            .unwrap_or(0_u64)
    };
    let (user, system) = (ticks() * TICK_US, ticks() * TICK_US);
    let exact = fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().next()?.parse::<u64>().ok())
        .map(|nanos| nanos / 1000);
    match exact {
        None => (user, system),
        Some(total) if user + system == 0 => (total, 0),
        Some(total) => {
            let share = (u128::from(total) * u128::from(system) / u128::from(user + system)) as u64;
            (total - share, share)
        }
    }
}

/// Memory of the process that is in RAM, in bytes.
pub(crate) fn rss_bytes() -> u64 {
    fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * PAGE_BYTES)
}

/// Bytes of data that the nodes of this process count, each its part.
static COUNTED: AtomicU64 = AtomicU64::new(0);
/// Resident bytes of the process beyond the data counted when its first node looked.
static EMPTY: OnceLock<u64> = OnceLock::new();

/// One node's part of the process's resident memory: as large among all nodes' as its count is.
#[derive(Default)]
pub(crate) struct ResidentShare {
    counted: u64,
}

impl ResidentShare {
    /// Resident bytes of a node that counts `used`.
    pub(crate) fn look(&mut self, used: u64) -> u64 {
        COUNTED.fetch_add(used.wrapping_sub(self.counted), Ordering::Relaxed);
        self.counted = used;
        let all = COUNTED.load(Ordering::Relaxed).max(1);
        let resident = rss_bytes();
        let empty = *EMPTY.get_or_init(|| resident.saturating_sub(all));
        let data = resident.saturating_sub(empty);
        (u128::from(data) * u128::from(used) / u128::from(all)) as u64
    }
}

impl Drop for ResidentShare {
    fn drop(&mut self) {
        COUNTED.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// Memory of the machine, in bytes.
pub(crate) fn total_memory_bytes() -> u64 {
    let Ok(text) = fs::read_to_string("/proc/meminfo") else {
        return 0;
    };
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_computes_is_seen_to_use_its_cpu() {
        let before = thread_cpu_us();
        let start = std::time::Instant::now();
        let mut x = 1_u64;
        while start.elapsed().as_millis() < 40 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let after = thread_cpu_us();
        assert!(
            after.0 + after.1 > before.0 + before.1 + 1000,
            "{before:?} {after:?}"
        );
        assert!(rss_bytes() > 100_000 && total_memory_bytes() > rss_bytes());
    }
}
