//! Numbers that one core writes and anybody may read.
//!
//! Each cell has one writer, so a relaxed load and store is an exact increment without a locked instruction. A reader
//! may see one cell before and another after an exchange that ends just then; each by itself is always right.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number of one core.
#[derive(Debug, Default)]
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

    /// Replaces the value. Only the owning core calls this.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many values fell into each of some ranges, and their sum. One writer, as [`Cell`].
#[derive(Debug)]
pub struct Histogram {
    /// Upper ends of the ranges, included, ascending; a last range without an end follows.
    bounds: &'static [u64],
    counts: Box<[Cell]>,
    sum: Cell,
}

impl Histogram {
    /// Nothing counted yet. `bounds` ascend, in the unit of the values.
    pub fn new(bounds: &'static [u64]) -> Histogram {
        Histogram {
            bounds,
            counts: (0..=bounds.len()).map(|_| Cell::default()).collect(),
            sum: Cell::default(),
        }
    }

    /// Counts one value. Only the owning core calls this.
    #[inline]
    pub fn observe(&self, value: u64) {
        let at = self.bounds.iter().take_while(|bound| value > **bound).count();
        self.counts[at].add(1);
        self.sum.add(value);
    }

    /// Upper ends of the ranges.
    pub fn bounds(&self) -> &'static [u64] {
        self.bounds
    }

    /// Values in each range, the one without an end last.
    pub fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.counts.iter().map(Cell::get)
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_a_bound_belongs_to_its_range_and_one_past_it_to_the_next() {
        let histogram = Histogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21, 1000] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counts().collect::<Vec<_>>(), [2, 2, 2]);
        assert_eq!(histogram.sum(), 1062);
    }
}
