//! The keyed hash that orders a slot's table. The same seed on all nodes of a cluster, so that a place means the same everywhere.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_micro_inline};

pub(crate) struct KeyHash {
    secrets: RapidSecrets,
}

impl KeyHash {
    pub(crate) fn new(seed: u64) -> KeyHash {
        KeyHash {
            secrets: RapidSecrets::seed(seed),
        }
    }

    #[inline]
    pub(crate) fn of(&self, key: &[u8]) -> u64 {
        // AVALANCHE: the table takes its bucket from the top bits and its tag from the lowest.
        rapidhash_v3_micro_inline::<true, false>(key, &self.secrets)
    }
}
