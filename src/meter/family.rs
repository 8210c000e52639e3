//! What a metrics page is made of, whatever form it is written in: families, their rows, and sums of rows.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelKey, EncodeLabelValue, LabelKeyEncoder, LabelValueEncoder};

use super::cells::Histogram;
use super::native::Native;

/// The name or the value of a label. A page has the same ones many thousand times, so none is copied.
#[derive(Clone, Debug)]
pub enum Text {
    /// One of ours.
    Fixed(&'static str),
    /// One that somebody else made.
    Shared(Arc<str>),
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Fixed(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Text {
        Text::Fixed(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text::Shared(text.into())
    }
}

impl EncodeLabelKey for Text {
    fn encode(&self, encoder: &mut LabelKeyEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelKey::encode(&&**self, encoder)
    }
}

impl EncodeLabelValue for Text {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&&**self, encoder)
    }
}

/// Names and values of labels.
pub type Labels = Vec<(Text, Text)>;

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

/// Rows added up by a key that is small beside the labels it stands for: comparing and copying labels is most of what a
/// page costs. Two keys must not stand for the same labels.
pub struct Sums<K>(BTreeMap<K, Value>);

impl<K> Default for Sums<K> {
    fn default() -> Self {
        Sums(BTreeMap::new())
    }
}

impl<K: Ord> Sums<K> {
    /// Adds a count.
    pub fn count(&mut self, key: K, n: u64) {
        match self.0.entry(key).or_insert(Value::Count(0)) {
            Value::Count(sum) => *sum += n,
            Value::Number(_) | Value::Spread { .. } => {}
        }
    }

    /// Adds the values of a histogram; one without values leaves no row.
    pub fn spread(&mut self, key: K, histogram: &Histogram) {
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
        if let Value::Spread { counts, sum, native, .. } = self.0.entry(key).or_insert_with(empty) {
            counts.iter_mut().zip(histogram.counts()).for_each(|(all, n)| *all += n);
            *sum += histogram.sum() as f64 / shape.unit;
            native.add(cells);
        }
    }

    /// As a family whose rows have the labels that `labels` gives their keys.
    pub fn family(
        self,
        kind: Kind,
        (name, help): (&'static str, &'static str),
        labels: impl Fn(&K) -> Labels,
    ) -> Family {
        let rows = self.0.into_iter().map(|(key, value)| (labels(&key), value)).collect();
        Family { rows, ..Family::new(name, kind, help) }
    }

    /// As a counter.
    pub fn counter(self, said: (&'static str, &'static str), labels: impl Fn(&K) -> Labels) -> Family {
        self.family(Kind::Counter, said, labels)
    }

    /// As a histogram.
    pub fn histogram(self, said: (&'static str, &'static str), labels: impl Fn(&K) -> Labels) -> Family {
        self.family(Kind::Histogram, said, labels)
    }

    /// Nano-dollars as dollars. A `f64` has them exactly up to nine million dollars.
    pub fn dollars(self, said: (&'static str, &'static str), labels: impl Fn(&K) -> Labels) -> Family {
        let mut family = self.counter(said, labels);
        for (_, value) in &mut family.rows {
            if let Value::Count(nano_usd) = value {
                *value = Value::Number(*nano_usd as f64 / 1e9);
            }
        }
        family
    }
}
