//! A second call when the first is unusually slow.
//!
//! Prevents: the one request in twenty that hangs in a bad replica and holds a whole build step. After the time in
//! which 95 % of the target's calls have their first token, a call to the next target starts as well; the first token
//! wins and the other call is cancelled.
//!
//! Off by default, because both calls bill their prompt. At most 2 % of requests, and the retry budget on top, so a
//! provider that slows down as a whole (where a hedge helps nobody) is not asked twice for everything. There must be
//! another target that could be tried, and enough samples to know what slow means.
//!
//! Reference: Dean and Barroso, The Tail at Scale (CACM 2013): hedging after the 95th percentile cut a p99.9 from
//! 1,800 to 74 ms for 2 % more requests.

use super::budget::Allowance;
use super::sync::{PerCore, per_core, sum};
use crate::config::defaults;

/// Hedging of one route. The defaults and their reasons stand in [`crate::config::defaults`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HedgeSettings {
    /// Hedges a hundred requests may have, at most.
    pub percent_max: u32,
    /// No hedge before this, microseconds, however fast the target is.
    pub delay_min_us: u64,
}

impl Default for HedgeSettings {
    fn default() -> Self {
        HedgeSettings {
            percent_max: defaults::HEDGE_PERCENT,
            delay_min_us: defaults::HEDGE_DELAY_MIN_MS * 1000,
        }
    }
}

impl HedgeSettings {
    /// How long the first call has, when its target's 95th percentile is known.
    pub fn delay_us(&self, p95_us: Option<u64>) -> Option<u64> {
        p95_us.map(|p95| p95.max(self.delay_min_us))
    }
}

/// How many hedges the process made. Shared by all cores.
#[derive(Debug)]
pub struct HedgeAllowance {
    requests: PerCore,
    allowance: Allowance,
}

const HEDGE: u64 = 100;
/// Hedges that may be saved up. Small, so that a provider slowing down as a whole is not met by a burst.
const BURST: u64 = 5 * HEDGE;

impl HedgeAllowance {
    /// None made, none saved.
    pub fn new(cores: usize) -> Self {
        HedgeAllowance { requests: per_core(cores), allowance: Allowance::new() }
    }

    /// Counts a request that may be hedged.
    pub fn earn(&self, core: usize) {
        self.requests[core].add(1);
    }

    /// Takes one hedge; false when their share is used up.
    pub fn spend(&self, settings: &HedgeSettings) -> bool {
        self.allowance.spend(sum(&self.requests) * u64::from(settings.percent_max), BURST, HEDGE)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hedge_waits_for_the_95th_percentile_and_never_guesses() {
        let set = HedgeSettings::default();
        assert_eq!(set.delay_us(None), None);
        assert_eq!(set.delay_us(Some(3_000_000)), Some(3_000_000));
        assert_eq!(set.delay_us(Some(1_000)), Some(200_000));
    }

    proptest! {
        #[test]
        fn hedges_stay_within_two_in_a_hundred(asks in prop::collection::vec(any::<bool>(), 1..2000)) {
            let (allowance, set) = (HedgeAllowance::new(2), HedgeSettings::default());
            let mut hedges = 0u64;
            for (n, ask) in asks.iter().enumerate() {
                allowance.earn(n % 2);
                hedges += u64::from(*ask && allowance.spend(&set));
                prop_assert!(hedges * 100 <= (n as u64 + 1) * 2);
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
    fn loom_hedges_of_two_cores_stay_within_their_share() {
        loom::model(|| {
            let set = HedgeSettings { percent_max: 50, delay_min_us: 0 };
            let allowance = Arc::new(HedgeAllowance::new(2));
            let threads: Vec<_> = (0..2)
                .map(|core| {
                    let allowance = Arc::clone(&allowance);
                    loom::thread::spawn(move || {
                        allowance.earn(core);
                        (0..2).filter(|_| allowance.spend(&set)).count()
                    })
                })
                .collect();
            let hedges: usize = threads.into_iter().map(|t| t.join().expect("no panic")).sum();
            assert!(hedges <= 1, "two requests earn one hedge, {hedges} were made");
        });
    }
}
