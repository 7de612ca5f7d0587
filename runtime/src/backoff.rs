//! How long to wait before the next try: exponential, with jitter that the caller draws.

use std::time::Duration;

/// The waits of one series of tries.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    tries: u32,
}

impl Backoff {
    /// Waits around `first`, then twice as long each time, never longer than `max`.
    pub const fn new(first: Duration, max: Duration) -> Backoff {
        Backoff {
            first,
            max,
            tries: 0,
        }
    }

    /// The next wait. `jitter` in `0.0..1.0` places it between half and all of the full wait, so that
    /// many who lost one peer at once do not come back at once.
    pub fn next(&mut self, jitter: f64) -> Duration {
        let full = self
            .first
            .saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX))
            .min(self.max);
        self.tries = self.tries.saturating_add(1);
        full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }

    /// A try succeeded: the next series starts anew.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_greatest_and_start_anew_after_a_success() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(10), ms(65));
        let waits: Vec<_> = (0..5).map(|_| backoff.next(1.0)).collect();
        assert_eq!(waits, [ms(10), ms(20), ms(40), ms(65), ms(65)]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), ms(5));
    }

    #[test]
    fn a_thousand_failures_neither_overflow_nor_pass_the_greatest_wait() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        for _ in 0..1000 {
            let wait = backoff.next(0.5);
            assert!(wait <= Duration::from_secs(1) && wait >= Duration::from_millis(5));
        }
    }
}
