//! What a core counts: plain cells that only their core writes and anybody may read.
//!
//! Each cell has one writer, so a relaxed load and store is an exact increment without a locked instruction.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number of one core.
#[derive(Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds `n`. Only the owning core calls this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` off. Only the owning core calls this.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one core. Padded, so that two cores never write one cache line.
#[derive(Default)]
#[repr(align(128))]
pub struct Stats {
    /// Client connections accepted since the start.
    pub accepted: Cell,
    /// Requests that are read, served or whose answer is on its way out now.
    pub exchanges: Cell,
    /// Requests received since the start.
    pub requests: Cell,
    /// Tasks that panicked; each cost one connection.
    pub panics: Cell,
    /// Exchanges that ended because their client left.
    pub cancelled: Cell,
    /// Answers given a second time, for a repeated idempotency key.
    pub replayed: Cell,
    /// Answers given from the configuration.
    pub static_answers: Cell,
    /// Requests turned away because their step has used up its budget.
    pub steps_refused: Cell,
}
