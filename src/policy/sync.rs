//! The atomics that cores share, behind one name.
//!
//! Every shared cell imports its atomics from here, so that `--cfg loom` swaps in the model checker's twins
//! and the `loom_` tests explore the real code, not a copy of it. Cells start from a function, never from a
//! `const`, because loom's atomics must be created inside a model.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

/// Keeps two cells on two cache lines (128 bytes, because adjacent lines of 64 are fetched in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> std::ops::Deref for Padded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// A counter that one core writes and every core reads: a load and a store, never a locked instruction.
#[derive(Debug)]
pub(crate) struct OwnCounter(AtomicU64);

impl OwnCounter {
    pub(crate) fn new() -> Self {
        OwnCounter(AtomicU64::new(0))
    }

    /// Adds `amount`. Only the core that owns the counter may call it.
    pub(crate) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One counter a core.
pub(crate) type PerCore = Box<[Padded<OwnCounter>]>;

pub(crate) fn per_core(cores: usize) -> PerCore {
    (0..cores).map(|_| Padded(OwnCounter::new())).collect()
}

pub(crate) fn sum(counters: &PerCore) -> u64 {
    counters.iter().fold(0, |total, counter| total.wrapping_add(counter.read()))
}
