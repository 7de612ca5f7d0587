//! How far something is, for whoever shows it: counted by one task, read by another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counts of one backup, verification or restore.
#[derive(Debug, Default)]
pub struct Tally {
    pub keys_total: AtomicU64,
    pub keys: AtomicU64,
    pub bytes: AtomicU64,
    stage: Mutex<String>,
    warnings: Mutex<Vec<String>>,
}

impl Tally {
    pub fn stage(&self) -> String {
        lock(&self.stage).clone()
    }

    pub fn set_stage(&self, stage: impl Into<String>) {
        *lock(&self.stage) = stage.into();
    }

    /// Something for the operator to know that stops nothing.
    pub fn warn(&self, line: impl Into<String>) {
        lock(&self.warnings).push(line.into());
    }

    /// Those that were not taken yet.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.warnings))
    }

    pub fn add(&self, keys: u64, bytes: u64) {
        self.keys.fetch_add(keys, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Begins again.
    pub fn reset(&self, keys_total: u64) {
        self.keys_total.store(keys_total, Ordering::Relaxed);
        self.keys.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// Keys, all of them, and bytes.
    pub fn read(&self) -> (u64, u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.keys), load(&self.keys_total), load(&self.bytes))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
