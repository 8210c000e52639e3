//! How long a target takes to its first token, at the median and at the 95th percentile.
//!
//! Prevents: guessing. Whether a call can still finish in time (`deadline`) and when a second one is worth its price
//! (`hedge`) depend on the target's own recent latency, which differs by three orders of magnitude between models.
//!
//! A histogram with buckets that grow by a sixth (a value is known to within 9 %), from 1 ms to 20 minutes, in 640
//! bytes. At 256 samples all counts are halved, so the estimate follows a change within a few hundred calls and
//! forgets the rest. Nothing is claimed before 8 samples; p95 wants 32.
//!
//! INVARIANT: one writer, the core. Every 8 samples it publishes both figures in one word per slot, last writer wins;
//! all cores read that word.
//!
//! Leaves out: exactness. P2 and t-digest are finer, and neither forgets.

use super::sync::{AtomicU64, Ordering};

const BUCKETS: usize = 128;
/// Buckets per doubling.
const PER_OCTAVE: f64 = 6.0;
const LOWEST_US: u64 = 1_000;
const HALVE_AT: u32 = 256;
const MEDIAN_MIN: u32 = 8;
const P95_MIN: u32 = 32;
const PUBLISH_EVERY: u32 = 8;

/// The samples of one core for one kind of call.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: [u32; BUCKETS],
    total: u32,
    unpublished: u32,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Histogram { counts: [0; BUCKETS], total: 0, unpublished: 0 }
    }

    /// Adds a sample and publishes now and then.
    pub(crate) fn record(&mut self, sample_us: u64, published: &Quantiles) {
        self.counts[bucket(sample_us)] += 1;
        self.total += 1;
        self.unpublished += 1;
        if self.unpublished >= PUBLISH_EVERY {
            self.unpublished = 0;
            published.publish(self.quantile(50, MEDIAN_MIN), self.quantile(95, P95_MIN));
        }
        if self.total >= HALVE_AT {
            self.counts.iter_mut().for_each(|c| *c /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    fn quantile(&self, percent: u32, samples_min: u32) -> Option<u64> {
        if self.total < samples_min {
            return None;
        }
        let rank = (self.total * percent).div_ceil(100);
        let mut seen = 0;
        self.counts
            .iter()
            .position(|&count| {
                seen += count;
                seen >= rank
            })
            .map(middle_us)
    }
}

/// The bucket of a sample.
fn bucket(sample_us: u64) -> usize {
    let ratio = sample_us.max(LOWEST_US) as f64 / LOWEST_US as f64;
    ((ratio.log2() * PER_OCTAVE) as usize).min(BUCKETS - 1)
}

/// The geometric middle of a bucket.
fn middle_us(bucket: usize) -> u64 {
    (LOWEST_US as f64 * ((bucket as f64 + 0.5) / PER_OCTAVE).exp2()) as u64
}

/// The published figures of one slot and kind. Shared by all cores.
#[derive(Debug)]
pub struct Quantiles {
    /// median in 16 us units 32 | p95 in 16 us units 32; 0 is unknown
    word: AtomicU64,
}

const UNIT_US: u64 = 16;

impl Quantiles {
    /// Nothing known.
    pub fn new() -> Self {
        Quantiles { word: AtomicU64::new(0) }
    }

    fn publish(&self, median_us: Option<u64>, p95_us: Option<u64>) {
        let pack = |us: Option<u64>| us.map_or(0, |us| (us / UNIT_US).clamp(1, u64::from(u32::MAX)));
        self.word.store(pack(median_us) << 32 | pack(p95_us), Ordering::Relaxed);
    }

    /// The median, microseconds.
    pub fn median_us(&self) -> Option<u64> {
        let units = self.word.load(Ordering::Relaxed) >> 32;
        (units > 0).then_some(units * UNIT_US)
    }

    /// The 95th percentile, microseconds.
    pub fn p95_us(&self) -> Option<u64> {
        let units = self.word.load(Ordering::Relaxed) & u64::from(u32::MAX);
        (units > 0).then_some(units * UNIT_US)
    }
}

impl Default for Quantiles {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::random::Random;
    use super::*;
    use proptest::prelude::*;

    fn fed(samples: impl IntoIterator<Item = u64>) -> Quantiles {
        let (mut h, q) = (Histogram::new(), Quantiles::new());
        samples.into_iter().for_each(|s| h.record(s, &q));
        q
    }

    #[test]
    fn nothing_is_claimed_before_there_are_samples() {
        assert_eq!(fed([5_000; 7]).median_us(), None);
        assert!(fed([5_000; 8]).median_us().is_some());
        assert_eq!(fed([5_000; 24]).p95_us(), None);
        assert!(fed([5_000; 32]).p95_us().is_some());
    }

    #[test]
    fn figures_are_published_at_every_eighth_sample_only() {
        let p95 =
            |slow| fed([5_000; 32].into_iter().chain(std::iter::repeat_n(5_000_000, slow))).p95_us().unwrap();
        assert_eq!(p95(7), p95(0));
        assert!(p95(8) > 4_000_000, "{}", p95(8));
    }

    #[test]
    fn the_estimate_follows_a_change_within_a_few_hundred_calls() {
        let q = fed(std::iter::repeat_n(300_000, 5_000).chain(std::iter::repeat_n(15_000_000, 300)));
        assert!((13_500_000..16_500_000).contains(&q.median_us().unwrap()), "{:?}", q.median_us());
    }

    #[test]
    fn what_is_known_stays_known_when_old_samples_are_forgotten() {
        for count in [256, 264, 600] {
            let q = fed(std::iter::repeat_n(300_000, count));
            let near = |seen: Option<u64>| seen.is_some_and(|us| us.abs_diff(300_000) < 30_000);
            assert!(near(q.median_us()) && near(q.p95_us()), "{count}: {:?} {:?}", q.median_us(), q.p95_us());
        }
    }

    #[test]
    fn extreme_samples_stay_in_the_table() {
        assert!(fed([0; 32]).median_us().unwrap() <= 1_100);
        assert!(fed([u64::MAX; 32]).median_us().unwrap() >= 1_200_000_000);
    }

    proptest! {
        #[test]
        fn both_figures_are_within_a_tenth_of_the_truth(low in 1_000u64..10_000_000, spread in 1u64..20, seed: u64) {
            let mut random = Random::new(seed);
            let mut samples: Vec<u64> = (0..248).map(|_| random.between(low, low * spread)).collect();
            let q = fed(samples.iter().copied());
            samples.sort_unstable();
            for (seen, percent) in [(q.median_us(), 50), (q.p95_us(), 95)] {
                let truth = samples[(samples.len() * percent).div_ceil(100) - 1] as f64;
                let seen = seen.unwrap() as f64;
                prop_assert!((seen / truth - 1.0).abs() < 0.1, "{seen} {truth}");
            }
        }
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    #[test]
    fn loom_a_figure_is_one_that_a_core_published() {
        loom::model(|| {
            let figures = Arc::new(Quantiles::new());
            let cores: Vec<_> = [1, 2]
                .into_iter()
                .map(|n: u64| {
                    let figures = Arc::clone(&figures);
                    loom::thread::spawn(move || figures.publish(Some(n * UNIT_US), Some(10 * n * UNIT_US)))
                })
                .collect();
            let units = |us: Option<u64>| us.map(|us| us / UNIT_US);
            assert!(matches!(units(figures.median_us()), None | Some(1 | 2)));
            assert!(matches!(units(figures.p95_us()), None | Some(10 | 20)));
            for core in cores {
                core.join().expect("no panic");
            }
            let (median, p95) = (units(figures.median_us()), units(figures.p95_us()));
            assert!(matches!((median, p95), (Some(1), Some(10)) | (Some(2), Some(20))), "of one core, whole");
        });
    }
}
