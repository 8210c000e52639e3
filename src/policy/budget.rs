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
//! - [`Strain`], one a target: a fallback to *another* provider is never refused, because a healthy alternative must
//!   not go unused, but it is charged to the target that failed. While a target owes more than it earns, new
//!   requests ask another one first. So a target with 20 % failures, too healthy for a breaker, gets as many requests
//!   as keep the extra calls within a tenth. A charge is a call and a third: the third pays for what is in flight. One more is kept
//!   for the process, because three providers with a fault each would pass the tenth together: while that one owes, every
//!   target that was charged lately is asked last and is no fallback, and retries get what the floor gives and no more.
//! - [`RetryMoney`]: the prompts sent again may cost so much in one clock minute and no more; off unless configured.
//!
//! A bucket is one word: how much of the credit that ever was has been spent. Credit only grows (a count of
//! requests, or time), so spending is a compare-exchange on that word, exact over any number of cores, and earning
//! writes nothing shared (`loom_a_budget_is_never_overdrawn`).
//!
//! Leaves out: budgets of users and teams, which are leases of money over days and belong elsewhere.

use super::settings::SECOND_US;
use super::sync::{AtomicU64, Ordering, PerCore, per_core, sum};
use crate::config::defaults;

/// What can be spent, in thousandths of a call.
const CALL: u64 = 1_000;

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

/// What a target owes for the calls its failures caused elsewhere. Shared by all cores.
#[derive(Debug)]
pub struct Strain {
    requests: PerCore,
    allowance: Allowance,
    /// Credit given at the start.
    start: u64,
    /// How far it may go into debt.
    debt: u64,
    /// When it was last charged.
    charged_us: AtomicU64,
}

/// Debt is bounded, so that an outage does not shut a recovered target out: at 10 requests a second a target has paid
/// back in ten seconds, and the process in a hundred.
const TARGET_DEBT: u64 = 10 * CALL;
const PROCESS_DEBT: u64 = 100 * CALL;
const STRAIN_BURST: u64 = 10 * CALL;
const STRAIN_CHARGE: u64 = CALL * 4 / 3;
/// With the whole process over its share, a target with less than half of its savings left is part of it.
const STRAIN_MEMORY_US: u64 = 30 * SECOND_US;
const STRAIN_FELT: i64 = STRAIN_BURST as i64 / 2;

impl Strain {
    /// A target that owes nothing, and has savings: nothing is held against it before it has failed.
    pub fn of_target(cores: usize) -> Self {
        Self::new(cores, STRAIN_BURST, TARGET_DEBT)
    }

    /// A process that owes nothing and has nothing saved.
    pub fn of_process(cores: usize) -> Self {
        Self::new(cores, 0, PROCESS_DEBT)
    }

    fn new(cores: usize, start: u64, debt: u64) -> Self {
        let (requests, charged_us) = (per_core(cores), AtomicU64::new(0));
        Strain { requests, allowance: Allowance::new(), start, debt, charged_us }
    }

    /// Counts a request that has this target first, whether or not it is asked, or that falls back to it.
    pub fn earn(&self, core: usize) {
        self.requests[core].add(1);
    }

    /// Charges one extra call that the target's failure caused; `refusable` when a budget could have refused it.
    pub fn charge(&self, settings: &BudgetSettings, now_us: u64, refusable: bool) {
        let cost = if refusable { CALL } else { STRAIN_CHARGE };
        self.charged_us.store(now_us, Ordering::Relaxed);
        self.allowance.charge(self.credit(settings), STRAIN_BURST, cost, self.debt);
    }

    /// True while more is owed than was earned.
    pub fn is_over(&self, settings: &BudgetSettings) -> bool {
        self.allowance.left(self.credit(settings), STRAIN_BURST) < 0
    }

    /// The same for a target: what it owes is forgotten when it was not charged for half a minute. Quiet traffic would
    /// take hours to earn it back.
    pub fn owes(&self, settings: &BudgetSettings, now_us: u64) -> bool {
        self.is_recent(now_us) && self.is_over(settings)
    }

    /// True while a target has not earned back what it was charged lately.
    pub fn is_felt(&self, settings: &BudgetSettings, now_us: u64) -> bool {
        self.is_recent(now_us) && self.allowance.left(self.credit(settings), STRAIN_BURST) < STRAIN_FELT
    }

    fn is_recent(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.charged_us.load(Ordering::Relaxed)) < STRAIN_MEMORY_US
    }

    fn credit(&self, settings: &BudgetSettings) -> u64 {
        self.start + sum(&self.requests) * u64::from(settings.percent) * CALL / 100
    }
}

/// Money for prompts sent again, by clock minute of the gateway. Shared by all cores and providers.
#[derive(Debug)]
pub struct RetryMoney {
    /// minute 20 | nano-dollars 44 (17,592 dollars)
    word: AtomicU64,
    refused: AtomicU64,
}

const SPENT_BITS: u32 = 44;
const SPENT_MASK: u64 = (1 << SPENT_BITS) - 1;
const MINUTE_US: u64 = 60 * SECOND_US;

impl RetryMoney {
    /// Nothing spent.
    pub fn new() -> Self {
        RetryMoney { word: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// Spends `cost` nano-dollars of this minute's `limit`; false when it does not fit.
    pub fn spend(&self, limit: u64, now_us: u64, cost: u64) -> bool {
        let limit = limit.min(SPENT_MASK);
        let mut seen = self.word.load(Ordering::Acquire);
        loop {
            let spent = spent_in(seen, now_us);
            let after = spent.saturating_add(cost);
            if after > limit {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            let next = stamp(now_us) << SPENT_BITS | after;
            match self.word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now_seen) => seen = now_seen,
            }
        }
    }

    /// Nano-dollars spent in this minute.
    pub fn spent(&self, now_us: u64) -> u64 {
        spent_in(self.word.load(Ordering::Acquire), now_us)
    }

    /// Calls refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Default for RetryMoney {
    fn default() -> Self {
        Self::new()
    }
}

fn stamp(now_us: u64) -> u64 {
    (now_us / MINUTE_US) & ((1 << (64 - SPENT_BITS)) - 1)
}

fn spent_in(word: u64, now_us: u64) -> u64 {
    if word >> SPENT_BITS == stamp(now_us) { word & SPENT_MASK } else { 0 }
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

    #[test]
    fn a_target_is_asked_less_while_it_causes_more_than_a_tenth() {
        let (strain, settings) = (Strain::of_target(1), SET);
        let (mut asked, mut extra) = (0u64, 0u64);
        let mut random = super::super::random::Random::new(4);
        for _ in 0..10_000 {
            strain.earn(0);
            if !strain.is_over(&settings) {
                asked += 1;
                if random.below(5) == 0 {
                    strain.charge(&settings, 0, false);
                    extra += 1;
                }
            }
        }
        assert!((750..=820).contains(&extra), "{extra}");
        assert!(asked > 3_000, "{asked}");
    }

    #[test]
    fn a_target_with_few_failures_is_never_held_back() {
        let strain = Strain::of_target(1);
        for n in 0..1000u64 {
            strain.earn(0);
            assert!(!strain.is_over(&SET) && !strain.is_felt(&SET, 0));
            if n % 20 == 0 {
                strain.charge(&SET, 0, false);
            }
        }
    }

    #[test]
    fn a_target_is_in_trouble_below_half_of_its_savings() {
        let strain = Strain::of_target(1);
        (0..5).for_each(|_| strain.charge(&SET, 0, true));
        assert!(!strain.is_felt(&SET, 0), "exactly half is left");
        strain.charge(&SET, 0, true);
        assert!(strain.is_felt(&SET, 0));
    }

    #[test]
    fn the_debt_of_an_outage_is_bounded() {
        let strain = Strain::of_target(1);
        for _ in 0..1_000_000 {
            strain.charge(&SET, 0, false);
        }
        let mut needed = 0;
        while strain.is_over(&SET) {
            strain.earn(0);
            needed += 1;
        }
        assert_eq!(needed, 100);
        strain.charge(&SET, 50 * S, false);
        strain.charge(&SET, 50 * S, false);
        assert!(strain.owes(&SET, 80 * S - 1) && strain.is_felt(&SET, 80 * S - 1));
        assert!(
            !strain.owes(&SET, 80 * S) && !strain.is_felt(&SET, 80 * S),
            "and forgotten after half a minute"
        );
    }

    #[test]
    fn money_for_retries_ends_at_the_limit_and_comes_back_with_the_minute() {
        let money = RetryMoney::new();
        let limit = 1_000_000_000;
        assert!(money.spend(limit, 0, 600_000_000));
        assert!(money.spend(limit, 1, 400_000_000), "exactly the limit fits");
        assert!(!money.spend(limit, 59 * S, 1));
        assert_eq!((money.spent(59 * S), money.refused()), (limit, 1));
        assert!(money.spend(limit, 60 * S, limit));
        assert!(!RetryMoney::new().spend(u64::MAX, 0, SPENT_MASK + 1));
        assert!(!money.spend(limit, 60 * S, 1));
        assert_eq!(money.refused(), 2);
        let two_years = MINUTE_US * ((1 << 20) + 5);
        assert!(money.spend(limit, two_years, 7));
        assert_eq!(money.spent(two_years), 7, "the count of minutes may pass its twenty bits");
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

        #[test]
        fn money_never_passes_the_limit_of_a_minute(
            steps in prop::collection::vec((0u64..20 * S, 0u64..700), 1..200), limit in 0u64..1000,
        ) {
            let money = RetryMoney::new();
            let (mut now, mut minute, mut spent) = (0, 0, 0);
            for (gap, cost) in steps {
                now += gap;
                if now / MINUTE_US != minute {
                    (minute, spent) = (now / MINUTE_US, 0);
                }
                let fits = spent + cost <= limit;
                prop_assert_eq!(money.spend(limit, now, cost), fits);
                spent += if fits { cost } else { 0 };
                prop_assert_eq!(money.spent(now), spent);
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

    #[test]
    fn loom_a_debt_stays_within_its_bound_and_no_charge_is_lost() {
        loom::model(|| {
            let set = BudgetSettings { percent: 10, floor_per_second: 0, burst: 30 };
            let strain = Arc::new(Strain::new(2, STRAIN_BURST, 2 * CALL));
            let threads: Vec<_> = (0..2)
                .map(|core| {
                    let strain = Arc::clone(&strain);
                    loom::thread::spawn(move || {
                        strain.earn(core);
                        strain.charge(&set, 1, true);
                    })
                })
                .collect();
            for thread in threads {
                thread.join().expect("no panic");
            }
            let left = strain.allowance.left(strain.credit(&set), STRAIN_BURST);
            // Savings of ten calls and two tenths earned, less two calls; a charge that sees one request less may take the
            // tenth it earned for saved up already.
            assert!((8 * CALL as i64..=8 * CALL as i64 + 200).contains(&left), "{left}");
            for _ in 0..20 {
                strain.charge(&set, 2, true);
            }
            assert_eq!(strain.allowance.left(strain.credit(&set), STRAIN_BURST), -2 * CALL as i64);
        });
    }

    #[test]
    fn loom_retry_money_is_never_overdrawn() {
        loom::model(|| {
            let money = Arc::new(RetryMoney::new());
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let money = Arc::clone(&money);
                    loom::thread::spawn(move || (0..2).filter(|_| money.spend(5, MINUTE_US, 2)).count())
                })
                .collect();
            let spent: usize = threads.into_iter().map(|t| t.join().expect("no panic")).sum();
            assert_eq!(spent, 2, "two of two fit into five");
        });
    }
}
