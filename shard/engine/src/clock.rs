//! The time, as a parameter: the engine reads no clock.

use larder_wire::UnixMillis;

/// One reading of the caller's clocks, good for a whole batch of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Wall clock: microseconds since 1970-01-01 UTC. Expiry goes by it.
    pub unix_us: i64,
    /// A clock that never steps, in milliseconds since the node started. Waits and holds go by it.
    pub mono_ms: u64,
}

impl Clock {
    pub fn now(self) -> UnixMillis {
        UnixMillis(self.unix_us.div_euclid(1000))
    }

    pub fn unix_seconds(self) -> i64 {
        self.unix_us.div_euclid(1_000_000)
    }
}
