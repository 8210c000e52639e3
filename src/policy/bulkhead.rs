//! No more calls to a provider at a time than it can bear, and a short wait for a place.
//!
//! Prevents: one slow provider taking every connection and every megabyte of the gateway, and a long hidden queue
//! in which requests wait until their callers have left. A full provider is passed over while another target can
//! answer; when none can, the request waits, for at most 100 ms and in a queue of bounded length, and is then
//! refused with a reason.
//!
//! Sans-IO: a waiting exchange polls. It is told to ask again in 5 ms, which costs one timer and nothing shared, and
//! needs no wake-up across cores. Newcomers do not overtake: while anyone waits, a newcomer joins the queue.
//!
//! INVARIANTS: never more than `concurrent_max` places taken, nor more than `queue_max` waiting, over all cores
//! (`loom_a_bulkhead_never_overfills`); every place taken is given back exactly once, by the flight that took it.
//!
//! Off by default: a cap that is too low is an outage of one's own making, and only the operator knows the number.
//!
//! Reference: Nygard, Release It! (bulkheads); Google SRE, Addressing Cascading Failures (short queues).

use super::sync::{AtomicU64, Ordering};
use crate::config::defaults;

/// How often a waiting exchange asks again, microseconds. 5 ms: well below what a caller of a model can notice.
pub const POLL_US: u64 = 5_000;

/// How many calls at a time. The defaults and their reasons stand in [`crate::config::defaults`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkheadSettings {
    /// Calls at a time, over all cores; `None`: no cap.
    pub concurrent_max: Option<u32>,
    /// Exchanges that may wait for a place.
    pub queue_max: u32,
    /// How long they may wait, microseconds.
    pub queue_wait_us: u64,
}

impl Default for BulkheadSettings {
    fn default() -> Self {
        BulkheadSettings {
            concurrent_max: None,
            queue_max: defaults::BULKHEAD_QUEUE,
            queue_wait_us: defaults::BULKHEAD_QUEUE_WAIT_MS * 1000,
        }
    }
}

/// Places at one provider. Shared by all cores.
#[derive(Debug)]
pub struct Bulkhead {
    /// taken 32 | waiting 32
    word: AtomicU64,
}

/// A bulkhead as metrics show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BulkheadView {
    /// Calls running.
    pub taken: u32,
    /// Exchanges waiting.
    pub waiting: u32,
}

const ONE_TAKEN: u64 = 1 << 32;

impl Bulkhead {
    /// An empty one.
    pub fn new() -> Self {
        Bulkhead { word: AtomicU64::new(0) }
    }

    /// Takes a place for a newcomer; false when all are taken or someone waits.
    pub fn enter(&self, settings: &BulkheadSettings) -> bool {
        let max = settings.concurrent_max.unwrap_or(u32::MAX);
        self.change(|v| (v.taken < max && v.waiting == 0).then_some((v.taken + 1, v.waiting)))
    }

    /// Joins the queue; false when it is full.
    pub fn queue(&self, settings: &BulkheadSettings) -> bool {
        self.change(|v| (v.waiting < settings.queue_max).then_some((v.taken, v.waiting + 1)))
    }

    /// Takes a place for one who waits; false while all are taken.
    pub fn advance(&self, settings: &BulkheadSettings) -> bool {
        let max = settings.concurrent_max.unwrap_or(u32::MAX);
        self.change(|v| (v.taken < max && v.waiting > 0).then(|| (v.taken + 1, v.waiting - 1)))
    }

    /// Leaves the queue without a place.
    pub fn give_up(&self) {
        self.change(|v| (v.waiting > 0).then(|| (v.taken, v.waiting - 1)));
    }

    /// Gives a place back.
    pub fn leave(&self) {
        let before = self.word.fetch_sub(ONE_TAKEN, Ordering::AcqRel);
        debug_assert!(before >= ONE_TAKEN, "a place given back twice");
    }

    /// The state, for metrics and the live page.
    pub fn view(&self) -> BulkheadView {
        view_of(self.word.load(Ordering::Acquire))
    }

    fn change(&self, next: impl Fn(BulkheadView) -> Option<(u32, u32)>) -> bool {
        let mut seen = self.word.load(Ordering::Acquire);
        loop {
            let Some((taken, waiting)) = next(view_of(seen)) else { return false };
            let word = u64::from(taken) << 32 | u64::from(waiting);
            match self.word.compare_exchange(seen, word, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now_seen) => seen = now_seen,
            }
        }
    }
}

impl Default for Bulkhead {
    fn default() -> Self {
        Self::new()
    }
}

fn view_of(word: u64) -> BulkheadView {
    BulkheadView { taken: (word >> 32) as u32, waiting: word as u32 }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SET: BulkheadSettings =
        BulkheadSettings { concurrent_max: Some(2), queue_max: 1, queue_wait_us: 100_000 };

    #[test]
    fn two_places_are_two_and_the_third_waits() {
        let b = Bulkhead::new();
        assert!(b.enter(&SET) && b.enter(&SET));
        assert!(!b.enter(&SET));
        assert!(b.queue(&SET));
        assert!(!b.queue(&SET), "the queue is full");
        assert!(!b.advance(&SET));
        b.leave();
        assert!(!b.enter(&SET), "a newcomer does not overtake who waits");
        assert!(b.advance(&SET));
        assert_eq!(b.view(), BulkheadView { taken: 2, waiting: 0 });
        b.leave();
        assert!(b.enter(&SET));
    }

    #[test]
    fn who_gives_up_waiting_leaves_the_queue() {
        let b = Bulkhead::new();
        assert!(b.enter(&SET) && b.enter(&SET) && b.queue(&SET));
        b.give_up();
        b.give_up();
        assert_eq!(b.view(), BulkheadView { taken: 2, waiting: 0 });
    }

    proptest! {
        #[test]
        fn it_agrees_with_two_plain_counters(actions in prop::collection::vec(0u8..5, 1..300), max in 0u32..4) {
            let set = BulkheadSettings { concurrent_max: Some(max), queue_max: 3, queue_wait_us: 0 };
            let (b, mut taken, mut waiting) = (Bulkhead::new(), 0u32, 0u32);
            for action in actions {
                match action {
                    0 => { let ok = taken < max && waiting == 0; prop_assert_eq!(b.enter(&set), ok); taken += u32::from(ok); }
                    1 => { let ok = waiting < 3; prop_assert_eq!(b.queue(&set), ok); waiting += u32::from(ok); }
                    2 => {
                        let ok = taken < max && waiting > 0;
                        prop_assert_eq!(b.advance(&set), ok);
                        taken += u32::from(ok);
                        waiting -= u32::from(ok);
                    }
                    3 if taken > 0 => { b.leave(); taken -= 1; }
                    _ => { b.give_up(); waiting = waiting.saturating_sub(1); }
                }
                prop_assert_eq!(b.view(), BulkheadView { taken, waiting });
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
    fn loom_a_bulkhead_never_overfills() {
        loom::model(|| {
            let set = BulkheadSettings { concurrent_max: Some(1), queue_max: 1, queue_wait_us: 0 };
            let b = Arc::new(Bulkhead::new());
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let b = Arc::clone(&b);
                    loom::thread::spawn(move || {
                        let inside = b.enter(&set)
                            || (b.queue(&set)
                                && (b.advance(&set) || {
                                    b.give_up();
                                    false
                                }));
                        if inside {
                            assert_eq!(b.view().taken, 1);
                            b.leave();
                        }
                    })
                })
                .collect();
            for t in threads {
                t.join().expect("no panic");
            }
            assert_eq!(b.view(), BulkheadView::default());
        });
    }
}
