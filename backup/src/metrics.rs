//! What `larder backup --window` shows of itself.

use std::sync::atomic::{AtomicU64, Ordering};

use larder_runtime::metrics::{Page, Source};

larder_runtime::metrics! {
    /// All that scheduled backups count.
    pub DECLARED;
    LAST_SUCCESS = gauge "larder_backup_last_success_timestamp_seconds" [] "When the last whole set was begun, in seconds of the Unix clock; 0 before the first.";
    DURATION = gauge "larder_backup_duration_seconds" [] "How long the last whole set took, its verification included.";
    BYTES = gauge "larder_backup_bytes" [] "Bytes of the last whole set.";
    KEYS = gauge "larder_backup_keys" [] "Keys in the last whole set.";
    SETS = gauge "larder_backup_sets" [] "Whole sets of this cluster at the destination.";
    ENDED = counter "larder_backups_total" ["result"] "Backups that ended, by their result: ok or failed.";
}

/// Written by the service, read when somebody scrapes.
#[derive(Debug, Default)]
pub struct BackupMetrics {
    pub last_success_s: AtomicU64,
    pub duration_ms: AtomicU64,
    pub bytes: AtomicU64,
    pub keys: AtomicU64,
    pub sets: AtomicU64,
    pub ok: AtomicU64,
    pub failed: AtomicU64,
}

impl Source for BackupMetrics {
    fn collect(&self, page: &mut Page) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        page.value(&LAST_SUCCESS, &[], read(&self.last_success_s) as f64);
        page.value(&DURATION, &[], read(&self.duration_ms) as f64 / 1000.0);
        page.value(&BYTES, &[], read(&self.bytes) as f64);
        page.value(&KEYS, &[], read(&self.keys) as f64);
        page.value(&SETS, &[], read(&self.sets) as f64);
        page.value(&ENDED, &["ok"], read(&self.ok) as f64);
        page.value(&ENDED, &["failed"], read(&self.failed) as f64);
    }
}
