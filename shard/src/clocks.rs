//! The clocks of a node's thread.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use larder_engine::Clock;

/// Longest sleep until a moment of the clock; whoever sleeps looks at the clock again then.
const FAR_AWAY: Duration = Duration::from_secs(24 * 3600);

/// Counts from the start of the node.
#[derive(Clone, Debug)]
pub(crate) struct Clocks {
    started: Instant,
    /// What the wall clock shows at the start, in microseconds, as it was last set: it goes on by the monotonic one.
    wall_us_at_start: Cell<i64>,
}

impl Clocks {
    pub(crate) fn start() -> Clocks {
        let now = Instant::now();
        Clocks {
            started: now,
            wall_us_at_start: Cell::new(wall_us()),
        }
    }

    /// Follows the wall clock where it was stepped. To be called a few times a second.
    pub(crate) fn set(&self) {
        let since_start = self.started.elapsed().as_micros() as i64;
        self.wall_us_at_start.set(wall_us() - since_start);
    }

    /// When the monotonic clock shows so many milliseconds; what is too far away is in [`FAR_AWAY`].
    pub(crate) fn instant(&self, mono_ms: u64) -> tokio::time::Instant {
        let far = Instant::now() + FAR_AWAY;
        let at = self.started.checked_add(Duration::from_millis(mono_ms));
        at.map_or(far, |at| at.min(far)).into()
    }

    /// Read once a batch, by one look at one clock.
    #[inline]
    pub(crate) fn read(&self) -> (Clock, Instant) {
        let now = Instant::now();
        let since = now.duration_since(self.started);
        let us = since.as_secs() * 1_000_000 + u64::from(since.subsec_micros());
        let clock = Clock {
            unix_us: self.wall_us_at_start.get() + us as i64,
            mono_ms: us / 1000,
        };
        (clock, now)
    }

    pub(crate) fn clock(&self) -> Clock {
        self.read().0
    }
}

/// Nanoseconds since the first call: what the engine times commands with.
pub(crate) fn stopwatch() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

fn wall_us() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_micros() as i64
}
