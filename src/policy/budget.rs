//! How much may be sent again.
//!
//! Prevents: retry storms. "Up to two retries" triples the load exactly when a provider can bear it least, and a
//! chain of gateways and SDKs multiplies: three attempts each make nine. A budget is a share of the real requests,
//! so extra calls stay in proportion however many requests fail (Finagle's retry budget; Google SRE, Handling
//! Overload: 10 % a client).
//!
//! Three mechanisms, all of the process and not of a core:
//!
//! - [`RetryBudget`], one a provider: a call to a provider that has already failed this exchange (retry, fallback to
//!   another model of it, hedge), and a first call that the client marks as its own retry, need a token. Each
//!   request earns a tenth of one. When traffic is so low that a tenth is less than 3 a second, 3 a second it is. It
//!   is the larger of the two and not their sum: the sum would let 500 requests a second pass the 1.10 calls a
//!   request that everything together must stay under.
//! - [`Strain`], one a target and one for the process: what fallbacks to another provider, which are never refused,
//!   are charged to (`strain`).
//! - [`RetryMoney`]: the prompts sent again may cost so much in one clock minute and no more; off unless configured
//!   (`money`).
//!
//! A bucket is one word: how much of the credit that ever was has been spent. Credit only grows (a count of
//! requests, or time), so spending is a compare-exchange on that word, exact over any number of cores, and earning
//! writes nothing shared (`loom_a_budget_is_never_overdrawn`).
//!
//! Leaves out: budgets of users and teams, which are leases of money over days and belong elsewhere.

use super::settings::SECOND_US;
use super::sync::{AtomicU64, Ordering, PerCore, per_core, sum};
use crate::config::defaults;

pub use super::money::RetryMoney;
pub use super::strain::Strain;

/// What can be spent, in thousandths of a call.
pub(super) const CALL: u64 = 1_000;

/// How much may be sent again. The defaults and their reasons stand in [`crate::config::defaults`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Extra calls a hundred requests earn.
    pub percent: u32,
    /// Extra calls a second that low traffic may make, 0 for none.
    pub floor_per_second: u32,
    /// Extra calls that may be saved up.
    pub burst: u32,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        BudgetSettings {
            percent: defaults::RETRY_BUDGET_PERCENT,
            floor_per_second: defaults::RETRY_BUDGET_PER_SECOND,
            burst: defaults::RETRY_BUDGET_BURST,
        }
    }
}

/// A bucket over credit that only grows. Shared by all cores.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// How much of all credit is gone. At most `burst` below the credit counts as saved.
    gone: AtomicU64,
}

impl Allowance {
    pub(crate) fn new() -> Self {
        Allowance { gone: AtomicU64::new(0) }
    }

    /// Spends `cost` if it is there.
    pub(crate) fn spend(&self, credit: u64, burst: u64, cost: u64) -> bool {
        self.change(|gone| {
            let after = gone.max(credit.saturating_sub(burst)) + cost;
            (after <= credit).then_some(after)
        })
    }

    /// Spends `cost` whether it is there or not, into a debt of at most `debt`.
    pub(crate) fn charge(&self, credit: u64, burst: u64, cost: u64, debt: u64) {
        self.change(|gone| {
            let from = gone.max(credit.saturating_sub(burst));
            Some((from + cost).min((credit + debt).max(from)))
        });
    }

    /// What is left; negative in debt.
    pub(crate) fn left(&self, credit: u64, burst: u64) -> i64 {
        let gone = self.gone.load(Ordering::Acquire).max(credit.saturating_sub(burst));
        credit as i64 - gone as i64
    }

    fn change(&self, next: impl Fn(u64) -> Option<u64>) -> bool {
        let mut seen = self.gone.load(Ordering::Acquire);
        loop {
            let Some(after) = next(seen) else { return false };
            match self.gone.compare_exchange(seen, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now_seen) => seen = now_seen,
            }
        }
    }
}

/// The budget of one provider. Shared by all cores.
#[derive(Debug)]
pub struct RetryBudget {
    requests: PerCore,
    by_share: Allowance,
    by_floor: Allowance,
    /// Calls granted and refused since the start.
    granted: AtomicU64,
    refused: AtomicU64,
}

/// A budget as metrics show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetView {
    /// Extra calls that could be made now, in thousandths.
    pub left_milli: i64,
    /// Extra calls granted since the start.
    pub granted: u64,
    /// Extra calls refused since the start.
    pub refused: u64,
}

impl RetryBudget {
    /// An empty budget for this many cores.
    pub fn new(cores: usize) -> Self {
        RetryBudget {
            requests: per_core(cores),
            by_share: Allowance::new(),
            by_floor: Allowance::new(),
            granted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Counts a request that asks this provider first. Only for requests that are not themselves a client's retry.
    pub fn earn(&self, core: usize) {
        self.requests[core].add(1);
    }

    /// Takes a token for one extra call; false when there is none. With `quiet_only`, because the process is over its
    /// share already, only the floor gives one.
    pub fn spend(&self, settings: &BudgetSettings, now_us: u64, quiet_only: bool) -> bool {
        let (share, burst) = self.share(settings);
        let (floor, floor_burst) = self.floor(settings, now_us);
        // A grant from either bucket is charged to both: that makes the rate the larger of the two, not the sum.
        let ok = if !quiet_only && self.by_share.spend(share, burst, CALL) {
            self.by_floor.charge(floor, floor_burst, CALL, 0);
            true
        } else if self.by_floor.spend(floor, floor_burst, CALL) {
            self.by_share.charge(share, burst, CALL, burst);
            true
        } else {
            false
        };
        // Extra calls are rare by construction, so a shared counter costs nothing that matters.
        let counter = if ok { &self.granted } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        ok
    }

    /// Books one extra call that is not refused because something else bounds it: a call with another key, after a
    /// cooldown has taken the first one out.
    pub fn charge(&self, settings: &BudgetSettings, now_us: u64) {
        let (share, burst) = self.share(settings);
        let (floor, floor_burst) = self.floor(settings, now_us);
        self.by_share.charge(share, burst, CALL, burst);
        self.by_floor.charge(floor, floor_burst, CALL, 0);
        self.granted.fetch_add(1, Ordering::Relaxed);
    }

    /// True when an extra call would be granted.
    pub fn has(&self, settings: &BudgetSettings, now_us: u64) -> bool {
        self.view(settings, now_us).left_milli >= CALL as i64
    }

    /// The state, for metrics and the live page.
    pub fn view(&self, settings: &BudgetSettings, now_us: u64) -> BudgetView {
        let (share, burst) = self.share(settings);
        let (floor, floor_burst) = self.floor(settings, now_us);
        BudgetView {
            left_milli: self.by_share.left(share, burst).max(self.by_floor.left(floor, floor_burst)),
            granted: self.granted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn share(&self, settings: &BudgetSettings) -> (u64, u64) {
        let credit = sum(&self.requests) * u64::from(settings.percent) * CALL / 100;
        (credit, u64::from(settings.burst) * CALL)
    }

    fn floor(&self, settings: &BudgetSettings, now_us: u64) -> (u64, u64) {
        let per_second = u64::from(settings.floor_per_second) * CALL;
        // In seconds and a rest, so that the product cannot overflow.
        let credit = now_us / SECOND_US * per_second + now_us % SECOND_US * per_second / SECOND_US;
        (credit, per_second)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = SECOND_US;
    const SET: BudgetSettings = BudgetSettings { percent: 10, floor_per_second: 3, burst: 30 };

    /// Extra calls granted over `seconds` at `rate` requests a second, asking after every request.
    fn granted(rate: u64, seconds: u64, settings: &BudgetSettings) -> u64 {
        let budget = RetryBudget::new(2);
        (0..rate * seconds)
            .filter(|n| {
                budget.earn((n % 2) as usize);
                budget.spend(settings, n * S / rate, false)
            })
            .count() as u64
    }

    #[test]
    fn busy_traffic_may_send_a_tenth_again() {
        let extra = granted(500, 60, &SET);
        assert!((2990..=3003).contains(&extra), "{extra}");
    }

    #[test]
    fn quiet_traffic_may_send_three_a_second_again() {
        let extra = granted(5, 60, &SET);
        assert!((177..=183).contains(&extra), "{extra}");
        assert_eq!(granted(5, 60, &BudgetSettings { floor_per_second: 0, ..SET }), 30);
    }

    #[test]
    fn a_call_with_another_key_is_booked_although_it_is_never_refused() {
        let (budget, set) = (RetryBudget::new(1), BudgetSettings { floor_per_second: 0, ..SET });
        (0..100).for_each(|_| budget.earn(0));
        assert_eq!(budget.view(&set, 0), BudgetView { left_milli: 10_000, granted: 0, refused: 0 });
        (0..10).for_each(|_| budget.charge(&set, 0));
        assert_eq!(budget.view(&set, 0), BudgetView { left_milli: 0, granted: 10, refused: 0 });
        assert!(!budget.spend(&set, 0, false), "what was booked cannot be spent again");
        (0..100).for_each(|_| budget.charge(&set, 0));
        (0..309).for_each(|_| budget.earn(0));
        assert!(!budget.has(&set, 0));
        budget.earn(0);
        assert!(budget.has(&set, 0), "a debt of one burst at most, and 310 requests earn it and a call");
    }

    #[test]
    fn an_idle_hour_saves_up_no_more_than_the_burst() {
        let budget = RetryBudget::new(1);
        for _ in 0..10_000 {
            budget.earn(0);
        }
        let at_once = (0..1000).filter(|_| budget.spend(&SET, 3600 * S, false)).count();
        assert_eq!(at_once, 30);
        assert_eq!(budget.view(&SET, 3600 * S).refused, 970);
        assert!(!budget.has(&SET, 3600 * S));
        assert!(budget.has(&SET, 3601 * S));
    }

    proptest! {
        #[test]
        fn no_pattern_of_traffic_overdraws_it(
            steps in prop::collection::vec((0u64..S, any::<bool>()), 1..500), percent in 0u32..50, floor in 0u32..5,
        ) {
            let settings = BudgetSettings { percent, floor_per_second: floor, burst: 5 };
            let budget = RetryBudget::new(1);
            let (mut now, mut requests, mut extra) = (0, 0u64, 0u64);
            for (gap, again) in steps {
                now += gap;
                if again {
                    extra += u64::from(budget.spend(&settings, now, false));
                } else {
                    budget.earn(0);
                    requests += 1;
                }
                let earned = requests * u64::from(percent) * CALL / 100 + now * u64::from(floor) * CALL / S;
                prop_assert!(extra * CALL <= earned);
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
    fn loom_a_budget_is_never_overdrawn() {
        loom::model(|| {
            let set = BudgetSettings { percent: 100, floor_per_second: 0, burst: 30 };
            let budget = Arc::new(RetryBudget::new(2));
            let threads: Vec<_> = (0..2)
                .map(|core| {
                    let budget = Arc::clone(&budget);
                    loom::thread::spawn(move || {
                        budget.earn(core);
                        (0..2).filter(|_| budget.spend(&set, 0, false)).count()
                    })
                })
                .collect();
            let extra: usize = threads.into_iter().map(|t| t.join().expect("no panic")).sum();
            assert!(extra <= 2, "two requests earn two extra calls, {extra} were made");
        });
    }
}
