//! What a metrics page is made of, whatever form it is written in: families, their rows, and sums of rows.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::cells::Histogram;
use super::native::Native;

/// Names and values of labels.
pub type Labels = Vec<(Cow<'static, str>, String)>;

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How values are spread over ranges.
    Histogram,
}

/// The value of one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count.
    Count(u64),
    /// A measure.
    Number(f64),
    /// Values by range.
    Spread {
        /// Upper ends, in the unit of the family.
        bounds: Vec<f64>,
        /// Values in each range, the one without an end last.
        counts: Vec<u64>,
        /// Their sum.
        sum: f64,
        /// The same values by native range.
        native: Native,
    },
}

/// All rows of one name.
#[derive(Clone, Debug)]
pub struct Family {
    /// In full, with `_total` where it is a counter.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
    /// The rows.
    pub rows: Vec<(Labels, Value)>,
}

impl Family {
    /// One without rows.
    pub fn new(name: &'static str, kind: Kind, help: &'static str) -> Family {
        Family { name, kind, help, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push(&mut self, labels: Labels, value: Value) {
        self.rows.push((labels, value));
    }

    /// One with one row without labels.
    pub fn single(name: &'static str, kind: Kind, help: &'static str, value: Value) -> Family {
        Family { rows: vec![(Vec::new(), value)], ..Family::new(name, kind, help) }
    }
}

/// Rows with the same labels, added up.
#[derive(Default)]
pub struct Sums(BTreeMap<Labels, Value>);

impl Sums {
    /// Adds a count.
    pub fn count(&mut self, labels: Labels, n: u64) {
        match self.0.entry(labels).or_insert(Value::Count(0)) {
            Value::Count(sum) => *sum += n,
            Value::Number(_) | Value::Spread { .. } => {}
        }
    }

    /// Adds the values of a histogram; one without values leaves no row.
    pub fn spread(&mut self, labels: Labels, histogram: &Histogram) {
        let (shape, cells) = (histogram.shape(), histogram.native());
        if cells.is_empty() {
            return;
        }
        let empty = || Value::Spread {
            bounds: shape.bounds.iter().map(|bound| *bound as f64 / shape.unit).collect(),
            counts: vec![0; shape.bounds.len() + 1],
            sum: 0.0,
            native: Native::of(shape),
        };
        if let Value::Spread { counts, sum, native, .. } = self.0.entry(labels).or_insert_with(empty) {
            counts.iter_mut().zip(histogram.counts()).for_each(|(all, n)| *all += n);
            *sum += histogram.sum() as f64 / shape.unit;
            native.add(cells);
        }
    }

    fn family(self, name: &'static str, kind: Kind, help: &'static str) -> Family {
        Family { rows: self.0.into_iter().collect(), ..Family::new(name, kind, help) }
    }

    /// As a counter.
    pub fn counter(self, name: &'static str, help: &'static str) -> Family {
        self.family(name, Kind::Counter, help)
    }

    /// As a histogram.
    pub fn histogram(self, name: &'static str, help: &'static str) -> Family {
        self.family(name, Kind::Histogram, help)
    }

    /// Nano-dollars as dollars. A `f64` has them exactly up to nine million dollars.
    pub fn dollars(self, name: &'static str, help: &'static str) -> Family {
        let mut family = self.counter(name, help);
        for (_, value) in &mut family.rows {
            if let Value::Count(nano_usd) = value {
                *value = Value::Number(*nano_usd as f64 / 1e9);
            }
        }
        family
    }
}
