//! Quantiles of measured times. All values are kept, so they are exact.

use serde_json::{Value, json};

/// Times in nanoseconds.
#[derive(Default)]
pub struct Times(Vec<u64>);

impl Times {
    /// One more.
    pub fn add(&mut self, ns: u64) {
        self.0.push(ns);
    }

    /// How many are above `ns`.
    pub fn above(&self, ns: u64) -> usize {
        self.0.iter().filter(|own| **own > ns).count()
    }

    /// Quantiles in microseconds; null when there is nothing.
    pub fn report(&mut self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        self.0.sort_unstable();
        let at = |share: f64| {
            let place = ((self.0.len() as f64 * share).ceil() as usize).clamp(1, self.0.len()) - 1;
            self.0[place] as f64 / 1e3
        };
        json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0), "n": self.0.len()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let mut times = Times::default();
        (1..=1000).rev().for_each(|n| times.add(n * 1000));
        let report = times.report();
        assert_eq!(
            (&report["p50"], &report["p99"], &report["max"]),
            (&500.0.into(), &990.0.into(), &1000.0.into())
        );
        assert_eq!(times.above(999_000), 1);
        assert!(Times::default().report().is_null());
    }
}
