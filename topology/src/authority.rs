//! How long this process may act as the leader, by its own clock. Whoever acts for the leader asks right before.
//!
//! It only ends: once over, it is over for good, and a later term has an authority of its own. So two parts
//! of a process never differ about it for longer than they take to look.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Of one term.
#[derive(Debug)]
pub(crate) struct Authority {
    began: Instant,
    /// Milliseconds after `began`; 0 once it has ended, the greatest when it never does by itself.
    until: AtomicU64,
}

const ENDED: u64 = 0;
const FOR_EVER: u64 = u64::MAX;

impl Authority {
    /// Of a topology that shares its record with nobody.
    pub(crate) fn for_ever() -> Authority {
        Authority {
            began: Instant::now(),
            until: AtomicU64::new(FOR_EVER),
        }
    }

    /// From `began` on, for so long.
    pub(crate) fn lasting(began: Instant, time: Duration) -> Authority {
        Authority {
            began,
            until: AtomicU64::new(time.as_millis() as u64),
        }
    }

    pub(crate) fn holds(&self) -> bool {
        match self.until.load(Ordering::SeqCst) {
            ENDED => false,
            FOR_EVER => true,
            until => (self.began.elapsed().as_millis() as u64) < until,
        }
    }

    /// Lets it last till `at`. False when it was over already: it stays over.
    pub(crate) fn extend(&self, at: Instant) -> bool {
        let until = at.saturating_duration_since(self.began).as_millis() as u64;
        if !self.holds() {
            self.end();
            return false;
        }
        let extended = self
            .until
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |present| {
                (present != ENDED).then_some(present.max(until))
            });
        extended.is_ok()
    }

    pub(crate) fn end(&self) {
        self.until.store(ENDED, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_stays_over() {
        let hour = Duration::from_secs(3600);
        let lasting = Authority::lasting(Instant::now(), hour);
        assert!(lasting.holds() && lasting.extend(Instant::now() + 2 * hour));
        lasting.end();
        assert!(!lasting.holds() && !lasting.extend(Instant::now() + hour));
        let Some(past) = Instant::now().checked_sub(hour) else {
            return;
        };
        let lapsed = Authority::lasting(past, hour / 2);
        assert!(!lapsed.holds() && !lapsed.extend(Instant::now() + hour));
        assert!(!lapsed.holds(), "a late extension revived it");
        assert!(Authority::for_ever().holds());
    }

    #[test]
    fn an_extension_never_shortens() {
        let began = Instant::now();
        let hour = Duration::from_secs(3600);
        let authority = Authority::lasting(began, hour);
        assert!(authority.extend(began));
        assert!(authority.holds());
    }
}
