//! Numbers that one core writes and anybody may read.
//!
//! Each cell has one writer, so a relaxed load and store is an exact increment without a locked instruction. A reader
//! may see one cell before and another after an exchange that ends just then; each by itself is always right.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::native::Shape;

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
///
/// The same values twice: by the classic ranges that every Prometheus understands, and by the native ones ([`native`]),
/// whose cells are made with the first value, since most histograms of a series never get one.
///
/// [`native`]: super::native
#[derive(Debug)]
pub struct Histogram {
    shape: &'static Shape,
    /// By classic range; a last one without an end follows those of the shape.
    counts: Box<[Cell]>,
    sum: Cell,
    native: OnceLock<Box<[Cell]>>,
}

impl Histogram {
    /// Nothing counted yet.
    pub fn new(shape: &'static Shape) -> Histogram {
        Histogram {
            shape,
            counts: cells(shape.bounds.len() + 1),
            sum: Cell::default(),
            native: OnceLock::new(),
        }
    }

    /// Counts one value. Only the owning core calls this.
    #[inline]
    pub fn observe(&self, value: u64) {
        let cell = self.shape.cell(value);
        self.counts[self.shape.classic(value, cell)].add(1);
        self.sum.add(value);
        self.native.get_or_init(|| cells(self.shape.cells()))[cell].add(1);
    }

    /// How its values are told apart.
    pub fn shape(&self) -> &'static Shape {
        self.shape
    }

    /// Values in each classic range, the one without an end last.
    pub fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.counts.iter().map(Cell::get)
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }

    /// Values of zero, then those in each native range; nothing before the first value.
    pub fn native(&self) -> &[Cell] {
        self.native.get().map_or(&[], |cells| cells)
    }
}

fn cells(n: usize) -> Box<[Cell]> {
    (0..n).map(|_| Cell::default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_a_bound_belongs_to_its_range_and_one_past_it_to_the_next() {
        static SHAPE: Shape = Shape::new(&[10, 20], 1.0, (-1, 10));
        let histogram = Histogram::new(&SHAPE);
        assert!(histogram.native().is_empty(), "nothing is taken before there is a value");
        for value in [0, 10, 11, 20, 21, 1000] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counts().collect::<Vec<_>>(), [2, 2, 2]);
        assert_eq!(histogram.sum(), 1062);
        let native = |value| histogram.native()[SHAPE.cell(value)].get();
        assert_eq!([0, 10, 11, 20, 21, 1000].map(native), [1; 6]);
    }

    #[test]
    fn the_classic_range_found_from_the_native_one_is_the_one_that_counting_finds() {
        use crate::meter::shapes::{DURATION, FIRST_TOKEN, OVERHEAD, PER_TOKEN, QUEUE, TOKENS};

        for shape in [&DURATION, &FIRST_TOKEN, &OVERHEAD, &PER_TOKEN, &QUEUE, &TOKENS] {
            let near = shape.bounds.iter().flat_map(|bound| [bound - 1, *bound, bound + 1]);
            let far = (0..64).map(|bit| 1u64 << bit).chain([0, 7, u64::MAX]);
            for value in near.chain(far) {
                let counted = shape.bounds.iter().filter(|bound| value > **bound).count();
                assert_eq!(shape.classic(value, shape.cell(value)), counted, "{value} of {shape:?}");
            }
        }
    }
}
