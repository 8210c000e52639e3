//! Randomness that replays: a small generator seeded by the caller.
//!
//! Jitter and the two random choices need numbers that differ between cores, not numbers an attacker cannot
//! guess. SplitMix64 (Steele, Lea, Flood 2014) passes BigCrush, is eight bytes of state and has no bad seeds,
//! so a core may be seeded with anything and a simulator run repeats from its seed alone.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator that repeats for the same `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 when `bound` is 0. Lemire's multiply-shift; the bias is below 2^-32 for the
    /// bounds used here.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `low..=high`; `low` when the range is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        if high <= low { low } else { low + self.below((high - low).saturating_add(1)) }
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_same_seed_repeats() {
        let (mut a, mut b) = (Random::new(7), Random::new(7));
        assert!((0..100).all(|_| a.bits() == b.bits()));
    }

    #[test]
    fn ranges_hold_at_their_ends() {
        let mut rng = Random::new(1);
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.between(5, 5), 5);
        let mut seen = [false; 3];
        for _ in 0..100 {
            let n = rng.between(10, 12);
            seen[(n - 10) as usize] = true;
            assert!((0.0..1.0).contains(&rng.unit()));
        }
        assert_eq!(seen, [true; 3]);
        assert_ne!(rng.between(0, u64::MAX), rng.between(0, u64::MAX), "the widest range is one too");
    }

    #[test]
    fn a_seed_of_a_bug_report_replays_on_every_version() {
        // The published vector of SplitMix64.
        let (mut rng, mut unit) = (Random::new(1_234_567), Random::new(1_234_567));
        let seen: Vec<u64> = (0..5).map(|_| rng.bits()).collect();
        assert_eq!(
            seen,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821
            ]
        );
        let share = 6_457_827_717_110_365_317_u64 as f64 / 2f64.powi(64);
        assert!((unit.unit() - share).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn a_draw_never_leaves_its_range(seed: u64, low in 0u64..1 << 60, span in 0u64..1 << 60) {
            let mut rng = Random::new(seed);
            prop_assert!((low..=low + span).contains(&rng.between(low, low + span)));
            prop_assert_eq!(rng.between(low + span, low), low + span, "an empty range is its beginning");
            prop_assert!(rng.below(span.max(1)) < span.max(1));
            prop_assert!((0.0..1.0).contains(&rng.unit()));
        }
    }
}
