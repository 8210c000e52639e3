//! The last ten seconds of one target, as one core saw them.
//!
//! Prevents: a rate judged from a moving average, in which a burst weighs nothing and an idle hour weighs
//! everything. Ten buckets of one second hold exact counts; a bucket that is not of this window reads as empty, so
//! nothing has to be swept.
//!
//! INVARIANT: one writer. Each core writes its own window with plain stores, and whoever has to judge sums all of
//! them; a bucket carries its second in the same word as its counts, so a reader sees a whole bucket or an older
//! one, never a mixture.
//!
//! Limits: a million calls and sixteen billion tokens a second and core; beyond that a count stays at its top.
//! Seconds are kept modulo 2^24 (194 days).

use super::settings::SECOND_US;
use super::sync::{AtomicU64, Ordering};

/// Buckets, and seconds, in a window.
pub const WINDOW_SECONDS: u64 = 10;

const STAMP_BITS: u32 = 24;
const STAMP_MASK: u64 = (1 << STAMP_BITS) - 1;
const COUNT_MASK: u64 = (1 << 20) - 1;
const SLOW_MASK: u64 = (1 << 16) - 1;
const TOKEN_MASK: u64 = (1 << 24) - 1;
/// Tokens are kept in thousands, rounded up.
const TOKEN_UNIT: u64 = 1_000;

/// What happened in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Calls that ended.
    pub calls: u64,
    /// Calls that failed by the provider's fault.
    pub failures: u64,
    /// Calls slower than the slow-call limit.
    pub slow: u64,
    /// Input tokens of the calls that failed, rounded up to thousands.
    pub tokens_burnt: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.calls += other.calls;
        self.failures += other.failures;
        self.slow += other.slow;
        self.tokens_burnt += other.tokens_burnt;
    }
}

/// One call's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Entry {
    pub(crate) failed: bool,
    pub(crate) slow: bool,
    pub(crate) tokens: u64,
}

/// Ten one-second buckets.
#[derive(Debug)]
pub(crate) struct Window {
    /// second 24 | calls 20 | failures 20
    counts: [AtomicU64; WINDOW_SECONDS as usize],
    /// second 24 | slow 16 | thousand tokens 24
    weights: [AtomicU64; WINDOW_SECONDS as usize],
}

impl Window {
    pub(crate) fn new() -> Self {
        Window {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            weights: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Books one call. Only the owning core may call it.
    pub(crate) fn record(&self, now_us: u64, entry: Entry) {
        let (stamp, index) = place(now_us);
        let seen = fresh(self.counts[index].load(Ordering::Relaxed), stamp);
        let calls = ((seen >> 20 & COUNT_MASK) + 1).min(COUNT_MASK);
        let failures = ((seen & COUNT_MASK) + u64::from(entry.failed)).min(COUNT_MASK);
        self.counts[index].store(stamp << 40 | calls << 20 | failures, Ordering::Release);
        if !entry.slow && entry.tokens == 0 {
            return;
        }
        let seen = fresh(self.weights[index].load(Ordering::Relaxed), stamp);
        let slow = ((seen >> 24 & SLOW_MASK) + u64::from(entry.slow)).min(SLOW_MASK);
        let tokens = ((seen & TOKEN_MASK) + entry.tokens.div_ceil(TOKEN_UNIT)).min(TOKEN_MASK);
        self.weights[index].store(stamp << 40 | slow << 24 | tokens, Ordering::Release);
    }

    /// Sums the buckets of the last ten seconds that began at or after `since_us`.
    pub(crate) fn tally(&self, now_us: u64, since_us: u64) -> Tally {
        let mut tally = Tally::default();
        let now_second = now_us / SECOND_US;
        for back in 0..WINDOW_SECONDS.min(now_second + 1) {
            let second = now_second - back;
            if second < since_us.div_ceil(SECOND_US) {
                break;
            }
            let (stamp, index) = place(second * SECOND_US);
            let counts = fresh(self.counts[index].load(Ordering::Acquire), stamp);
            let weights = fresh(self.weights[index].load(Ordering::Acquire), stamp);
            tally.add(Tally {
                calls: counts >> 20 & COUNT_MASK,
                failures: counts & COUNT_MASK,
                slow: weights >> 24 & SLOW_MASK,
                tokens_burnt: (weights & TOKEN_MASK) * TOKEN_UNIT,
            });
        }
        tally
    }
}

/// Sums the windows of all cores.
pub(crate) fn tally_of<'w>(windows: impl Iterator<Item = &'w Window>, now_us: u64, since_us: u64) -> Tally {
    windows.fold(Tally::default(), |mut total, window| {
        total.add(window.tally(now_us, since_us));
        total
    })
}

/// The stamp and the bucket of a time. A bucket that was never written has the stamp of the first second, and no calls.
fn place(now_us: u64) -> (u64, usize) {
    let second = now_us / SECOND_US;
    (second & STAMP_MASK, (second % WINDOW_SECONDS) as usize)
}

/// The bucket if it is of this second, else an empty one.
fn fresh(word: u64, stamp: u64) -> u64 {
    if word >> 40 == stamp { word } else { 0 }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = SECOND_US;

    #[test]
    fn counts_leave_the_window_after_ten_seconds() {
        let w = Window::new();
        w.record(5 * S, Entry { failed: true, slow: true, tokens: 1 });
        let full = Tally { calls: 1, failures: 1, slow: 1, tokens_burnt: 1000 };
        assert_eq!(w.tally(14 * S + 999_999, 0), full);
        assert_eq!(w.tally(15 * S, 0), Tally::default());
    }

    #[test]
    fn a_gateway_that_runs_for_a_year_still_counts() {
        let (w, year) = (Window::new(), 365 * 24 * 3600);
        for second in [1 << STAMP_BITS, (1 << STAMP_BITS) + 7, year, year + 9] {
            w.record(second * S, Entry { failed: true, slow: true, tokens: 1 });
            let one = Tally { calls: 1, failures: 1, slow: 1, tokens_burnt: 1000 };
            assert_eq!(w.tally(second * S, second * S), one, "{second}");
        }
        assert_eq!(w.tally((year + 9) * S, 0).calls, 2, "the last ten seconds and nothing of long ago");
    }

    #[test]
    fn more_than_fits_into_a_second_stays_at_its_top_and_spoils_nothing_beside_it() {
        let w = Window::new();
        for _ in 0..COUNT_MASK + 3 {
            w.record(0, Entry { failed: true, slow: true, tokens: 20_000 });
        }
        w.record(S, Entry::default());
        let top = Tally {
            calls: COUNT_MASK + 1,
            failures: COUNT_MASK,
            slow: SLOW_MASK,
            tokens_burnt: TOKEN_MASK * TOKEN_UNIT,
        };
        assert_eq!(w.tally(S, 0), top);
    }

    #[test]
    fn what_began_before_the_breaker_closed_is_not_counted_again() {
        let w = Window::new();
        w.record(5 * S, Entry { failed: true, ..Entry::default() });
        w.record(7 * S, Entry { failed: true, ..Entry::default() });
        assert_eq!(w.tally(8 * S, 5 * S + 1).failures, 1);
        assert_eq!(w.tally(8 * S, 5 * S).failures, 2);
    }

    proptest! {
        #[test]
        fn a_window_counts_what_a_list_would(
            steps in prop::collection::vec((0u64..4 * S, any::<bool>(), any::<bool>(), 0u64..5000), 1..200),
        ) {
            let w = Window::new();
            let mut now = 0;
            let mut list = Vec::new();
            for (gap, failed, slow, tokens) in steps {
                now += gap;
                w.record(now, Entry { failed, slow, tokens });
                list.push((now / S, failed, slow, tokens.div_ceil(1000) * 1000));
                let recent: Vec<_> = list.iter().filter(|(s, ..)| s + WINDOW_SECONDS > now / S).collect();
                let expected = Tally {
                    calls: recent.len() as u64,
                    failures: recent.iter().filter(|(_, f, ..)| *f).count() as u64,
                    slow: recent.iter().filter(|(_, _, s, _)| *s).count() as u64,
                    tokens_burnt: recent.iter().map(|(.., t)| t).sum(),
                };
                prop_assert_eq!(w.tally(now, 0), expected);
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
    fn loom_a_reader_sees_whole_buckets() {
        loom::model(|| {
            let window = Arc::new(Window::new());
            let writer = {
                let window = Arc::clone(&window);
                loom::thread::spawn(move || {
                    window.record(0, Entry { failed: true, ..Entry::default() });
                    window.record(10 * SECOND_US, Entry { failed: true, ..Entry::default() });
                })
            };
            let seen = window.tally(10 * SECOND_US, 0);
            assert_eq!(seen.calls, seen.failures, "counts of one bucket move together");
            assert!(seen.calls <= 1, "the bucket of ten seconds ago is not counted");
            writer.join().expect("no panic");
            assert_eq!(window.tally(10 * SECOND_US, 0).calls, 1);
        });
    }
}
