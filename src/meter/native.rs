//! Native histograms: values by ranges that grow by a constant factor, so that nobody has to guess them beforehand.
//!
//! As Prometheus has them (its `Histogram` message, `schema`, `positive_span`): with schema [`SCHEMA`] each power of two
//! is cut into eight ranges, and the upper end of range `n` is 2^(n/8) in the family's base unit. A quantile is off by at
//! most half a range, 4.5 %. Values of zero have a count of their own.
//!
//! Here each histogram covers so many powers of two as its values can have, in plain cells of one writer, made when the
//! first value comes. What is below the first range or past the last counts as in it; [`Shape`] says where those are.
//! Finding the range takes no logarithm: the exponent of the float is the power of two, and its fraction is compared with
//! seven bounds.
//!
//! Left out: changing the resolution while it counts. A range is 8 bytes, and all of a histogram's are 2 KiB at most.

use super::cells::Cell;

/// The resolution, as Prometheus counts it: 2^3 ranges for each power of two.
pub const SCHEMA: i32 = 3;
/// Ranges for each power of two.
pub const PER_OCTAVE: i32 = 1 << SCHEMA;
/// Values up to this are zero. What Prometheus' own client libraries say; only zeros are there, since values are whole
/// microseconds or tokens.
pub const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39; // 2^-128

const FRACTION_BITS: u32 = 52;

/// The fractions of 2^(1/8) to 2^(7/8), as the bits that a float has of them.
const BOUNDS: [u64; PER_OCTAVE as usize - 1] = {
    let ends: [f64; 7] = [
        1.090_507_732_665_257_7,
        1.189_207_115_002_721,
        1.296_839_554_651_009_7,
        std::f64::consts::SQRT_2,
        1.542_210_825_407_940_7,
        1.681_792_830_507_429,
        1.834_008_086_409_342_4,
    ];
    let mut bits = [0; 7];
    let mut at = 0;
    while at < bits.len() {
        bits[at] = fraction(ends[at]);
        at += 1;
    }
    bits
};

const fn fraction(value: f64) -> u64 {
    value.to_bits() & ((1 << FRACTION_BITS) - 1)
}

/// The number of the range that `value` is in: its upper end is 2^(number/8) and included. `value` is positive and
/// normal.
#[inline]
pub const fn range_of(value: f64) -> i32 {
    let bits = value.to_bits();
    let exponent = (bits >> FRACTION_BITS) as i32 - 1023;
    let own = fraction(value);
    // A power of two itself is the last of the range below it.
    let mut past = (own > 0) as i32;
    let mut at = 0;
    while at < BOUNDS.len() {
        past += (own > BOUNDS[at]) as i32;
        at += 1;
    }
    exponent * PER_OCTAVE + past
}

/// The upper end of range `number`.
pub fn upper_end(number: i32) -> f64 {
    (f64::from(number) / f64::from(PER_OCTAVE)).exp2()
}

/// Most cells of a histogram: 33 octaves, and zeros.
const CELLS_MAX: usize = 1 + 33 * PER_OCTAVE as usize;

/// Which values a histogram has, and how they are told apart. Values are whole numbers of its own unit, microseconds or
/// tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Upper ends of the classic ranges, included, ascending, in its own unit.
    pub bounds: &'static [u64],
    /// How many of its own unit the base unit of the family has: 10^6 for microseconds.
    pub unit: f64,
    /// The first native range begins at 2 to this power of the base unit, the last ends at 2 to that.
    pub octaves: (i8, i8),
    /// For each native cell, how many classic ranges end below it: a value finds its classic range from its native one.
    below: [u8; CELLS_MAX],
}

impl Shape {
    /// See the fields; at most 33 octaves and 255 bounds.
    pub const fn new(bounds: &'static [u64], unit: f64, octaves: (i8, i8)) -> Shape {
        let mut shape = Shape { bounds, unit, octaves, below: [0; CELLS_MAX] };
        assert!(shape.cells() <= CELLS_MAX && bounds.len() <= u8::MAX as usize);
        let mut cell = 0;
        while cell < CELLS_MAX {
            let mut below = 0;
            while below < bounds.len() && shape.cell(bounds[below]) < cell {
                below += 1;
            }
            shape.below[cell] = below as u8;
            cell += 1;
        }
        shape
    }

    /// Cells for the native ranges, with the one for zeros.
    pub const fn cells(&self) -> usize {
        1 + (self.octaves.1 as i32 - self.octaves.0 as i32) as usize * PER_OCTAVE as usize
    }

    /// The number of the first range.
    pub const fn first(&self) -> i32 {
        self.octaves.0 as i32 * PER_OCTAVE + 1
    }

    /// The cell for `value` of its own unit; that of zeros is 0.
    #[inline]
    pub const fn cell(&self, value: u64) -> usize {
        if value == 0 {
            return 0;
        }
        // The factor is inexact, but not at powers of two, the only ends that a value can have exactly.
        let cell = range_of(value as f64 * (1.0 / self.unit)) - self.first() + 1;
        let last = self.cells() as i32 - 1;
        if cell < 1 {
            1
        } else if cell > last {
            last as usize
        } else {
            cell as usize
        }
    }

    /// The classic range for `value`, which is in native cell `cell`; the one without an end comes after those of `bounds`.
    #[inline]
    pub fn classic(&self, value: u64, cell: usize) -> usize {
        let below = usize::from(self.below[cell]);
        // Ends within the cell: one at most, but for the first cells and the last.
        below + self.bounds[below..].iter().take_while(|bound| value > **bound).count()
    }
}

/// Values by native range, as a reader sees them; sums of several histograms of one [`Shape`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Native {
    /// Values of zero.
    pub zeros: u64,
    /// The number of the first range in `counts`.
    pub first: i32,
    /// Values in each range from there on.
    pub counts: Vec<u64>,
}

impl Native {
    /// Nothing counted yet.
    pub fn of(shape: &Shape) -> Native {
        Native { zeros: 0, first: shape.first(), counts: vec![0; shape.cells() - 1] }
    }

    /// Adds what a histogram of the same shape has counted.
    pub fn add(&mut self, cells: &[Cell]) {
        if let Some((zeros, ranges)) = cells.split_first() {
            self.zeros += zeros.get();
            self.counts.iter_mut().zip(ranges).for_each(|(sum, cell)| *sum += cell.get());
        }
    }

    /// All values.
    pub fn total(&self) -> u64 {
        self.zeros + self.counts.iter().sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_range_whose_ends_are_around_it() {
        let mut value = 1e-6;
        while value < 1e7 {
            let range = range_of(value);
            // The ends are computed by another way, which may be off by the last bit.
            assert!(value <= upper_end(range) * (1.0 + 1e-15), "{value} {range}");
            assert!(value > upper_end(range - 1) * (1.0 - 1e-15), "{value} {range}");
            value *= 1.003;
        }
    }

    #[test]
    fn a_power_of_two_is_the_last_value_of_its_range_and_what_follows_is_in_the_next() {
        for power in -20..24 {
            let value = f64::from(power).exp2();
            assert_eq!(range_of(value), power * PER_OCTAVE);
            assert_eq!(range_of(value.next_up()), power * PER_OCTAVE + 1);
            assert_eq!(range_of(value.next_down()), power * PER_OCTAVE);
        }
    }

    #[test]
    fn what_is_outside_counts_at_the_edge_and_zeros_by_themselves() {
        let shape = Shape::new(&[], 1e6, (-20, -18));
        assert_eq!((shape.cells(), shape.first()), (17, -159));
        // 2^-20 s is 0.95 microseconds, 2^-18 s is 3.8.
        let cells = [0, 1, 2, 3, 4, u64::MAX].map(|value| shape.cell(value));
        assert_eq!(cells, [0, 1, 9, 14, 16, 16]);
        let tokens = Shape::new(&[], 1.0, (-1, 2));
        assert_eq!([0, 1, 2, 3, 4, 5].map(|value| tokens.cell(value)), [0, 8, 16, 21, 24, 24]);
    }

    #[test]
    fn whole_powers_of_two_of_a_second_are_at_their_end_although_they_are_counted_in_microseconds() {
        let shape = Shape::new(&[], 1e6, (-20, 13));
        for (us, power) in [(500_000, -1), (1_000_000, 0), (2_000_000, 1), (1_024_000_000, 10), (15_625, -6)]
        {
            let range = shape.cell(us) as i32 + shape.first() - 1;
            assert_eq!(range, power * PER_OCTAVE, "{us}");
        }
    }

    #[test]
    fn sums_are_those_of_all_cores() {
        let shape = Shape::new(&[], 1.0, (-1, 1));
        let cells: Vec<Cell> = (0..shape.cells()).map(|_| Cell::default()).collect();
        cells[0].add(2);
        cells[16].add(3);
        let mut native = Native::of(&shape);
        assert_eq!(native.total(), 0);
        native.add(&cells);
        native.add(&cells);
        assert_eq!((native.zeros, native.counts[15], native.total()), (4, 6, 10));
    }
}
