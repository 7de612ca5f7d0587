//! Counters and gauges with one writer: an addition is a load and a store, no locked instruction.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Grows. One thread adds, any thread reads; two threads that add lose counts.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub const fn new() -> Count {
        Count(AtomicU64::new(0))
    }

    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// For what is counted elsewhere and only shown here.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Goes up and down. One thread writes, any thread reads.
#[derive(Debug, Default)]
pub struct Level(AtomicI64);

impl Level {
    pub const fn new() -> Level {
        Level(AtomicI64::new(0))
    }

    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    #[inline]
    pub fn add(&self, by: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(by), Relaxed);
    }

    #[inline]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}
