//! The wall clock, for those shells that hand the time to a heart.

use std::time::{SystemTime, UNIX_EPOCH};

use larder_wire::UnixMillis;

/// Milliseconds since 1970-01-01 UTC; before then, 0.
pub fn unix_millis() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(since.as_millis() as i64)
}
