//! What targets owe for the calls that their failures cause elsewhere.
//!
//! Prevents: a target with 20 % failures, too healthy for a breaker, that turns every fifth request into two calls. A
//! fallback to *another* provider is never refused, because a healthy alternative must not go unused, but it is charged
//! to the target that failed. While a target owes more than it earns, new requests ask another one first; so it gets as
//! many requests as keep the extra calls within a tenth. A charge is a call and a third: the third pays for what is in
//! flight.
//!
//! One [`Strain`] more is kept for the process, because three providers with a fault each would pass the tenth together:
//! while that one owes, every target that was charged lately is asked last and is no fallback, and retries get what the
//! floor of their budget gives and no more.
//!
//! INVARIANT: a debt stays within its bound, and no charge is lost, over any number of cores
//! (`loom_a_debt_stays_within_its_bound_and_no_charge_is_lost`).

use super::budget::{Allowance, BudgetSettings, CALL};
use super::settings::SECOND_US;
use super::sync::{AtomicU64, Ordering, PerCore, per_core, sum};

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

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const S: u64 = SECOND_US;
    const SET: BudgetSettings = BudgetSettings { percent: 10, floor_per_second: 3, burst: 30 };

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
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

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
}
