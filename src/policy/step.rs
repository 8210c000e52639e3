//! A bound on what one step of a build or an agent may lose.
//!
//! Prevents: a step that keeps asking. An agent loop whose model is down, or answers badly, spends its build's time and
//! money on failures, one fast error at a time. Calls that carry the same `x-sluice-step` (and pipeline) share a
//! budget: after N failures, D dollars or T seconds the gateway answers at once, with `step_budget_exhausted` and
//! `x-should-retry: false`, or with the static target's content.
//!
//! A step is named by its caller. A name that is reused by the next run continues the same budget until it has been
//! quiet for ten minutes, so put the run's id in it.
//!
//! INVARIANTS: shared by all cores without a lock; each figure carries a tag of the step it belongs to, so a place that
//! changes hands starts from nothing whichever core sees it first (`loom_a_place_that_changes_hands_starts_empty`).
//! A step that is exhausted stays so until it has been quiet.
//!
//! Limits: 4,096 steps at a time. When all places near a step's own are busy it is not bounded, and that is counted: a
//! limit must not become an outage.
//!
//! Reference: error budgets (Google SRE); this form is our own. Leaves out: budgets of users and teams.

use super::settings::SECOND_US;
use super::shared::identity_of;
use super::sync::{AtomicU64, Ordering};

/// Steps kept at a time.
pub const STEPS_MAX: usize = 4096;
const PROBES_MAX: usize = 16;
/// A step that has been quiet this long is forgotten.
pub const QUIET_US: u64 = 600 * SECOND_US;

/// What one step may lose; `None` is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepSettings {
    /// Failed exchanges.
    pub failures_max: Option<u32>,
    /// Money, in nano-dollars, over all its calls.
    pub nano_usd_max: Option<u64>,
    /// Time since its first call, microseconds.
    pub time_max_us: Option<u64>,
}

/// Which bound a step has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepBound {
    /// Its failures.
    Failures,
    /// Its money.
    Money,
    /// Its time.
    Time,
}

impl StepBound {
    /// The stable word for errors, logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            StepBound::Failures => "failures",
            StepBound::Money => "money",
            StepBound::Time => "time",
        }
    }
}

/// One step's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepHandle {
    place: u16,
    tag: u64,
}

/// tag 20 | value 44, in each figure of a step
const VALUE_BITS: u32 = 44;
const VALUE_MASK: u64 = (1 << VALUE_BITS) - 1;

#[derive(Debug)]
struct Place {
    owner: AtomicU64,
    /// When it was last used, milliseconds; by whom does not matter, so it has no tag.
    used: AtomicU64,
    /// When it was first used, milliseconds.
    began: AtomicU64,
    failures: AtomicU64,
    nano_usd: AtomicU64,
}

/// The steps of the process. Shared by all cores.
#[derive(Debug)]
pub struct Steps {
    places: Box<[Place]>,
    unbounded: AtomicU64,
}

impl Steps {
    /// Room for [`STEPS_MAX`] steps.
    pub fn new() -> Self {
        Self::with_places(STEPS_MAX)
    }

    fn with_places(count: usize) -> Self {
        let places = (0..count)
            .map(|_| Place {
                owner: AtomicU64::new(0),
                used: AtomicU64::new(0),
                began: AtomicU64::new(0),
                failures: AtomicU64::new(0),
                nano_usd: AtomicU64::new(0),
            })
            .collect();
        Steps { places, unbounded: AtomicU64::new(0) }
    }

    /// Finds or makes the step named by a request's pipeline and step headers; `None` when there is no room.
    pub fn enter(&self, pipeline: &[u8], step: &[u8], now_us: u64) -> Option<StepHandle> {
        let who = identity_of(super::shared::identity(pipeline), step);
        let tag = who >> VALUE_BITS;
        let now_ms = now_us / 1000;
        for probe in 0..PROBES_MAX.min(self.places.len()) {
            let index = (who as usize).wrapping_add(probe) % self.places.len();
            let place = &self.places[index];
            let mut owner = place.owner.load(Ordering::Acquire);
            let used_ms = place.used.load(Ordering::Acquire);
            let quiet = now_ms.saturating_sub(used_ms) >= QUIET_US / 1000;
            if owner == who && !quiet {
                place.used.store(now_ms, Ordering::Release);
                return Some(StepHandle { place: index as u16, tag });
            }
            if owner == 0 || quiet {
                match place.owner.compare_exchange(owner, who, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => owner = who,
                    Err(other) => owner = other,
                }
            }
            if owner == who {
                self.claim(place, tag, now_ms, quiet);
                return Some(StepHandle { place: index as u16, tag });
            }
        }
        self.unbounded.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Starts a step's figures. `quiet`: the step itself was there before and is forgotten.
    fn claim(&self, place: &Place, tag: u64, now_ms: u64, quiet: bool) {
        let fresh = |value: u64| tag << VALUE_BITS | (value & VALUE_MASK);
        place.used.store(now_ms, Ordering::Release);
        for (figure, start) in [(&place.began, now_ms), (&place.failures, 0), (&place.nano_usd, 0)] {
            let seen = figure.load(Ordering::Acquire);
            if quiet || seen >> VALUE_BITS != tag {
                // Whoever loses this race finds the figure started by the winner.
                let _ = figure.compare_exchange(seen, fresh(start), Ordering::AcqRel, Ordering::Acquire);
            }
        }
    }

    /// The bound the step has reached, if any.
    pub fn exhausted(&self, settings: &StepSettings, step: StepHandle, now_us: u64) -> Option<StepBound> {
        let place = &self.places[usize::from(step.place)];
        let value = |figure: &AtomicU64| {
            let seen = figure.load(Ordering::Acquire);
            (seen >> VALUE_BITS == step.tag).then_some(seen & VALUE_MASK)
        };
        let reached = |figure: &AtomicU64, max: u64| value(figure).is_some_and(|v| v >= max);
        if settings.failures_max.is_some_and(|max| reached(&place.failures, u64::from(max))) {
            return Some(StepBound::Failures);
        }
        if settings.nano_usd_max.is_some_and(|max| reached(&place.nano_usd, max)) {
            return Some(StepBound::Money);
        }
        let age_us = value(&place.began).map_or(0, |began_ms| now_us.saturating_sub(began_ms * 1000));
        settings.time_max_us.filter(|&max| age_us >= max).map(|_| StepBound::Time)
    }

    /// Books the end of one of the step's exchanges. The cost counts whether or not it failed.
    pub fn book(&self, step: StepHandle, failed: bool, nano_usd: u64) {
        let place = &self.places[usize::from(step.place)];
        add(&place.failures, step.tag, u64::from(failed));
        add(&place.nano_usd, step.tag, nano_usd);
    }

    /// Requests that named a step for which there was no room.
    pub fn unbounded(&self) -> u64 {
        self.unbounded.load(Ordering::Relaxed)
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds to a figure if it still belongs to the step; stays at its top.
fn add(figure: &AtomicU64, tag: u64, amount: u64) {
    let mut seen = figure.load(Ordering::Acquire);
    while amount != 0 && seen >> VALUE_BITS == tag {
        let value = (seen & VALUE_MASK).saturating_add(amount).min(VALUE_MASK);
        match figure.compare_exchange(seen, tag << VALUE_BITS | value, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return,
            Err(now_seen) => seen = now_seen,
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = SECOND_US;
    const TWO_FAILURES: StepSettings =
        StepSettings { failures_max: Some(2), nano_usd_max: None, time_max_us: None };

    #[test]
    fn a_step_ends_after_its_failures_and_its_neighbour_goes_on() {
        let steps = Steps::new();
        let triage = steps.enter(b"build-7", b"triage", S).unwrap();
        assert_eq!(steps.exhausted(&TWO_FAILURES, triage, S), None);
        steps.book(triage, true, 0);
        steps.book(triage, false, 0);
        assert_eq!(steps.exhausted(&TWO_FAILURES, triage, S), None);
        steps.book(triage, true, 0);
        assert_eq!(steps.exhausted(&TWO_FAILURES, triage, S), Some(StepBound::Failures));
        assert_eq!(steps.enter(b"build-7", b"triage", 2 * S), Some(triage));
        let other = steps.enter(b"build-8", b"triage", 2 * S).unwrap();
        assert_eq!(steps.exhausted(&TWO_FAILURES, other, 2 * S), None);
    }

    #[test]
    fn money_and_time_end_a_step_exactly_at_their_bound() {
        let steps = Steps::new();
        let step = steps.enter(b"p", b"s", 10 * S).unwrap();
        let money = StepSettings { nano_usd_max: Some(500), ..StepSettings::default() };
        steps.book(step, false, 499);
        assert_eq!(steps.exhausted(&money, step, 10 * S), None);
        steps.book(step, false, 1);
        assert_eq!(steps.exhausted(&money, step, 10 * S), Some(StepBound::Money));
        let time = StepSettings { time_max_us: Some(60 * S), ..StepSettings::default() };
        assert_eq!(steps.exhausted(&time, step, 70 * S - 1), None);
        assert_eq!(steps.exhausted(&time, step, 70 * S), Some(StepBound::Time));
        assert_eq!(steps.exhausted(&StepSettings::default(), step, 9000 * S), None);
    }

    #[test]
    fn a_step_that_was_quiet_starts_again() {
        let steps = Steps::new();
        let step = steps.enter(b"p", b"s", 0).unwrap();
        steps.book(step, true, 5);
        steps.book(step, true, 5);
        let later = steps.enter(b"p", b"s", QUIET_US - 1000).unwrap();
        assert!(steps.exhausted(&TWO_FAILURES, later, QUIET_US).is_some());
        let again = steps.enter(b"p", b"s", 2 * QUIET_US - 1000).unwrap();
        assert_eq!(steps.exhausted(&TWO_FAILURES, again, 2 * QUIET_US), None);
    }

    #[test]
    fn a_step_that_keeps_asking_is_not_forgotten() {
        let steps = Steps::new();
        let step = steps.enter(b"p", b"s", 0).unwrap();
        steps.book(step, true, 0);
        steps.book(step, true, 0);
        for now_us in (1..6).map(|n| n * QUIET_US / 2) {
            assert_eq!(steps.enter(b"p", b"s", now_us), Some(step));
            assert_eq!(steps.exhausted(&TWO_FAILURES, step, now_us), Some(StepBound::Failures));
        }
    }

    #[test]
    fn a_core_that_comes_second_to_a_place_leaves_the_figures_of_the_first() {
        let steps = Steps::new();
        let step = steps.enter(b"p", b"s", S).unwrap();
        steps.book(step, true, 0);
        steps.book(step, true, 0);
        steps.claim(&steps.places[usize::from(step.place)], step.tag, S / 1000, false);
        assert_eq!(steps.exhausted(&TWO_FAILURES, step, S), Some(StepBound::Failures));
    }

    #[test]
    fn a_call_that_outlives_its_step_books_nothing_on_the_next_one() {
        let steps = Steps::with_places(1);
        let old = steps.enter(b"p", b"old", 0).unwrap();
        let new = steps.enter(b"p", b"new", QUIET_US).unwrap();
        steps.book(new, true, 0);
        steps.book(old, true, 7);
        let reached = |settings: StepSettings| steps.exhausted(&settings, new, QUIET_US);
        assert_eq!(reached(TWO_FAILURES), None);
        assert_eq!(reached(StepSettings { nano_usd_max: Some(1), ..StepSettings::default() }), None);
        let one = StepSettings { failures_max: Some(1), ..StepSettings::default() };
        assert_eq!(reached(one), Some(StepBound::Failures), "its own is still there");
    }

    #[test]
    fn bounds_have_stable_words() {
        let words = [StepBound::Failures, StepBound::Money, StepBound::Time].map(StepBound::label);
        assert_eq!(words, ["failures", "money", "time"]);
    }

    #[test]
    fn a_full_table_leaves_steps_unbounded_and_says_so() {
        let steps = Steps::new();
        let entered = (0..20_000u32).filter(|n| steps.enter(b"p", &n.to_le_bytes(), S).is_some()).count();
        assert!(entered <= STEPS_MAX && entered > STEPS_MAX / 2);
        assert_eq!(steps.unbounded(), 20_000 - entered as u64);
        assert!(steps.enter(b"p", b"new", S + QUIET_US).is_some(), "quiet places are used again");
    }

    proptest! {
        #[test]
        fn a_table_of_steps_agrees_with_a_map(
            events in prop::collection::vec((0u8..6, any::<bool>(), 0u64..100), 1..200),
        ) {
            let steps = Steps::new();
            let mut map = std::collections::HashMap::<u8, (u32, u64)>::new();
            for (name, failed, cost) in events {
                let step = steps.enter(b"p", &[name], S).unwrap();
                steps.book(step, failed, cost);
                let entry = map.entry(name).or_default();
                entry.0 += u32::from(failed);
                entry.1 += cost;
                for max in 1..5 {
                    let by_failures = StepSettings { failures_max: Some(max), ..StepSettings::default() };
                    prop_assert_eq!(steps.exhausted(&by_failures, step, S).is_some(), entry.0 >= max);
                    let by_money = StepSettings { nano_usd_max: Some(u64::from(max) * 100), ..StepSettings::default() };
                    prop_assert_eq!(steps.exhausted(&by_money, step, S).is_some(), entry.1 >= u64::from(max) * 100);
                }
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
    fn loom_a_place_that_changes_hands_starts_empty() {
        loom::model(|| {
            let steps = Arc::new(Steps::with_places(1));
            let old = steps.enter(b"p", b"old", 0).expect("room");
            steps.book(old, true, 7);
            let later = QUIET_US;
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let steps = Arc::clone(&steps);
                    loom::thread::spawn(move || {
                        let step = steps.enter(b"p", b"new", later);
                        if let Some(step) = step {
                            steps.book(step, true, 0);
                        }
                        usize::from(step.is_some())
                    })
                })
                .collect();
            let entered: usize = threads.into_iter().map(|t| t.join().expect("no panic")).sum();
            let step = steps.enter(b"p", b"new", later).expect("it has the place");
            let more = |n: usize| StepSettings { failures_max: Some(n as u32), ..StepSettings::default() };
            assert!(
                steps.exhausted(&more(entered + 1), step, later).is_none(),
                "nothing of the old step is left"
            );
        });
    }
}
