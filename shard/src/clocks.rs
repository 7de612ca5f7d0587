//! The clocks of a node's thread.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use larder_engine::Clock;

/// Counts from the start of the node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    started: Instant,
}

impl Clocks {
    pub(crate) fn start() -> Clocks {
        Clocks {
            started: Instant::now(),
        }
    }

    /// Read once a batch.
    pub(crate) fn read(&self) -> (Clock, Instant) {
        let now = Instant::now();
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let clock = Clock {
            unix_us: unix.as_micros() as i64,
            mono_ms: now.duration_since(self.started).as_millis() as u64,
        };
        (clock, now)
    }

    pub(crate) fn clock(&self) -> Clock {
        self.read().0
    }
}
