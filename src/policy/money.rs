//! What prompts that are sent again may cost in a minute.
//!
//! Prevents: retries that are few and dear. A budget counts calls, and one call with a prompt of 200,000 tokens costs as
//! much as a thousand small ones. Off unless configured.
//!
//! One word holds the clock minute and what was spent in it, so that spending is a compare-exchange, exact over any number
//! of cores (`loom_retry_money_is_never_overdrawn`), and a new minute needs nobody to begin it.
//!
//! Limit: 17,592 dollars a minute, which is what the bits for the money hold.

use super::settings::SECOND_US;
use super::sync::{AtomicU64, Ordering};

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
