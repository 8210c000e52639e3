//! Choosing a key by weight.
//!
//! Prevents: shares that drift from what was configured. Random choice is right on average only; smooth weighted
//! round-robin (nginx's algorithm) is right to within one request over every window of a core, spreads a 70/30
//! split as `a b a a b a a ...` rather than in runs, and keeps its shares among the keys that are left when some
//! are cooling.
//!
//! Weights are fractions of their sum. A key of weight 0 is a standby: it is used when no weighted key can be.
//! Weights that are all 0 count as equal.
//!
//! Limits: 64 keys a provider. State is one integer per key and core; choosing is linear in the keys.

use super::settings::KeySettings;

/// Weights are scaled to integers of this total, so that adding and subtracting never rounds.
const SCALE: f64 = 1_000_000.0;

/// The wheel of one provider on one core.
#[derive(Debug, Clone)]
pub struct KeyWheel {
    weights: Box<[i64]>,
    credit: Box<[i64]>,
}

impl KeyWheel {
    /// A wheel over `keys`; weights that are negative or not finite count as 0.
    pub fn new(keys: &[KeySettings]) -> Self {
        let clean: Vec<f64> =
            keys.iter().map(|k| if k.weight.is_finite() { k.weight.max(0.0) } else { 0.0 }).collect();
        let max = clean.iter().copied().fold(0.0, f64::max);
        let weights: Box<[i64]> = clean
            .iter()
            .map(|&w| match (max > 0.0, w > 0.0) {
                // A tiny weight is still a weight: never rounded down to a standby.
                (true, true) => ((w / max * SCALE).round() as i64).max(1),
                (true, false) => 0,
                (false, _) => 1,
            })
            .collect();
        KeyWheel { credit: vec![0; weights.len()].into_boxed_slice(), weights }
    }

    /// Keys on the wheel.
    #[allow(clippy::len_without_is_empty)] // a provider without keys is asked about by its length alone
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// The next key among those whose bit is set in `eligible`; `None` when none is.
    pub fn choose(&mut self, eligible: u64) -> Option<u16> {
        self.turn(eligible, false).or_else(|| self.turn(eligible, true))
    }

    fn turn(&mut self, eligible: u64, standby: bool) -> Option<u16> {
        let mut total = 0;
        let mut best: Option<usize> = None;
        for index in 0..self.weights.len() {
            let weight = if standby { 1 } else { self.weights[index] };
            if eligible >> index & 1 == 0 || weight == 0 {
                continue;
            }
            self.credit[index] += weight;
            total += weight;
            if best.is_none_or(|b| self.credit[index] > self.credit[b]) {
                best = Some(index);
            }
        }
        let best = best?;
        self.credit[best] -= total;
        Some(best as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wheel(weights: &[f64]) -> KeyWheel {
        let keys: Vec<_> = weights.iter().map(|&weight| KeySettings { weight }).collect();
        KeyWheel::new(&keys)
    }

    fn shares(wheel: &mut KeyWheel, eligible: u64, turns: usize) -> Vec<usize> {
        let mut counts = vec![0; wheel.len()];
        for _ in 0..turns {
            if let Some(k) = wheel.choose(eligible) {
                counts[usize::from(k)] += 1;
            }
        }
        counts
    }

    #[test]
    fn seventy_thirty_means_seventy_thirty() {
        assert_eq!(shares(&mut wheel(&[0.7, 0.3]), !0, 2000), [1400, 600]);
        assert_eq!(shares(&mut wheel(&[7.0, 3.0]), !0, 10), [7, 3]);
    }

    #[test]
    fn equal_weights_alternate() {
        let mut w = wheel(&[1.0, 1.0]);
        assert_eq!((0..4).map(|_| w.choose(!0).unwrap()).collect::<Vec<_>>(), [0, 1, 0, 1]);
    }

    #[test]
    fn a_zero_weight_is_a_standby() {
        let mut w = wheel(&[1.0, 0.0]);
        assert_eq!(shares(&mut w, 0b11, 100), [100, 0]);
        assert_eq!(shares(&mut w, 0b10, 100), [0, 100]);
    }

    #[test]
    fn nonsense_weights_count_as_equal_or_standby() {
        assert_eq!(shares(&mut wheel(&[0.0, 0.0]), !0, 10), [5, 5]);
        assert_eq!(shares(&mut wheel(&[f64::NAN, -1.0, 1.0]), !0, 10), [0, 0, 10]);
        assert_eq!(wheel(&[1e-9, 1.0]).choose(0b01), Some(0), "a tiny weight is not a standby");
        assert_eq!(wheel(&[]).choose(!0), None);
        assert_eq!(wheel(&[1.0]).choose(0), None);
    }

    proptest! {
        #[test]
        fn shares_stay_within_one_turn_per_key_of_the_weights(
            weights in prop::collection::vec(0.01f64..10.0, 1..8), turns in 1usize..500,
        ) {
            let counts = shares(&mut wheel(&weights), !0, turns);
            let sum: f64 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let ideal = turns as f64 * weight / sum;
                prop_assert!((*count as f64 - ideal).abs() <= weights.len() as f64, "{counts:?} {weights:?}");
            }
        }

        #[test]
        fn only_eligible_keys_are_chosen(
            weights in prop::collection::vec(0.0f64..10.0, 1..16), masks in prop::collection::vec(any::<u64>(), 1..50),
        ) {
            let mut w = wheel(&weights);
            for mask in masks {
                let usable = mask & ((1u64 << weights.len()) - 1);
                match w.choose(mask) {
                    Some(k) => prop_assert!(usable >> k & 1 == 1),
                    None => prop_assert_eq!(usable, 0),
                }
            }
        }
    }
}
