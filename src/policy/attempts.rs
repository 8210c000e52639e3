//! The record of what an exchange tried, and what it says when it gives up.
//!
//! Prevents: an error that names the last failure when an earlier one says what to do. Everything tried is kept, with the
//! targets that were passed over and why, and one failure is picked as the most useful: what the caller can act on goes
//! before what will pass by itself, and that before what only the operator can fix.

use smallvec::SmallVec;

use super::fault::{Failure, Fault, What};
use super::ids::{KeyId, ProviderId};
use super::settings::ATTEMPTS_MAX;

/// Attempts and skips that are kept without memory of their own. Most exchanges make one call, and in an outage a second one
/// or pass one target over; every stream holds its record for as long as it lasts, so room for all sixteen would be paid for
/// thousands of times.
const FEW_ATTEMPTS: usize = 2;
const FEW_SKIPS: usize = 1;

/// Why an attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The first upstream call of the exchange.
    First,
    /// Another call to the same target: after a wait, with another key, or on a fresh connection.
    Retry,
    /// The next target.
    Fallback,
    /// A second call while the first is slow.
    Hedge,
}

impl Reason {
    /// The stable word for headers, logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Reason::First => "first",
            Reason::Retry => "retry",
            Reason::Fallback => "fallback",
            Reason::Hedge => "hedge",
        }
    }
}

/// One upstream call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Who was called.
    pub provider: ProviderId,
    /// With which key.
    pub key: Option<KeyId>,
    /// Index of the target in the chain as the exchange walked it.
    pub target: u8,
    /// Why it was made.
    pub reason: Reason,
    /// What came of it; `None` while it runs.
    pub what: Option<What>,
    /// Whose fault; `None` while it runs, and when it was nobody's.
    pub fault: Option<Fault>,
    /// When it began, gateway clock.
    pub started_us: u64,
    /// How long it took, microseconds; 0 while it runs.
    pub elapsed_us: u64,
}

impl AttemptRecord {
    /// The HTTP status that failed it, if that is what failed it.
    pub fn status(&self) -> Option<u16> {
        match self.what {
            Some(What::Status(status)) => Some(status),
            _ => None,
        }
    }
}

/// Why a target was passed over without a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// Every key that may serve the model is cooling or parked.
    KeysCooling,
    /// No key may serve the model.
    NoKey,
    /// The breaker is open, or its one probe is out.
    BreakerOpen,
    /// The same provider failed, and the retry budget is spent.
    BudgetSpent,
    /// The money for retries of this minute is spent.
    MoneySpent,
    /// Less time is left than the target needs to its first token.
    TooLate,
    /// The provider has as many calls as it may, and the queue is full or timed out.
    Full,
    /// The window is known to be no larger than the one that was too small.
    WindowTooSmall,
}

impl SkipReason {
    /// Every reason, in order.
    pub const ALL: [SkipReason; 8] = [
        SkipReason::KeysCooling,
        SkipReason::NoKey,
        SkipReason::BreakerOpen,
        SkipReason::BudgetSpent,
        SkipReason::MoneySpent,
        SkipReason::TooLate,
        SkipReason::Full,
        SkipReason::WindowTooSmall,
    ];

    /// The stable word for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            SkipReason::KeysCooling => "keys_cooling",
            SkipReason::NoKey => "no_key",
            SkipReason::BreakerOpen => "breaker_open",
            SkipReason::BudgetSpent => "retry_budget",
            SkipReason::MoneySpent => "retry_cost",
            SkipReason::TooLate => "deadline",
            SkipReason::Full => "full",
            SkipReason::WindowTooSmall => "context_window",
        }
    }
}

/// A target that was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skip {
    /// Why.
    pub reason: SkipReason,
    /// When it may be worth asking again, gateway clock; `None` when time does not help.
    pub until_us: Option<u64>,
}

/// The targets of one exchange that were passed over, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Skips(SmallVec<[(u8, Skip); FEW_SKIPS]>);

impl Skips {
    /// Notes that the target at `index` of the chain was passed over; the last reason counts.
    pub(crate) fn set(&mut self, index: u8, skip: Skip) {
        match self.0.iter_mut().find(|(at, _)| *at == index) {
            Some((_, known)) => *known = skip,
            None => self.0.push((index, skip)),
        }
    }

    /// Why the target at `index` of the chain was passed over.
    pub fn get(&self, index: u8) -> Option<Skip> {
        self.0.iter().find(|(at, _)| *at == index).map(|(_, skip)| *skip)
    }

    /// Every one.
    pub fn iter(&self) -> impl Iterator<Item = &Skip> {
        self.0.iter().map(|(_, skip)| skip)
    }

    /// True when none was passed over.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Every upstream call of one exchange, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempts(SmallVec<[AttemptRecord; FEW_ATTEMPTS]>);

impl Attempts {
    pub(crate) fn new() -> Self {
        Attempts(SmallVec::new())
    }

    pub(crate) fn push(&mut self, record: AttemptRecord) -> Option<u8> {
        if self.is_full() {
            return None;
        }
        self.0.push(record);
        Some((self.0.len() - 1) as u8)
    }

    pub(crate) fn record_mut(&mut self, no: u8) -> Option<&mut AttemptRecord> {
        self.0.get_mut(usize::from(no))
    }

    /// The calls in order.
    pub fn iter(&self) -> impl Iterator<Item = &AttemptRecord> {
        self.0.iter()
    }

    /// The call with this number.
    pub fn record(&self, no: u8) -> Option<&AttemptRecord> {
        self.0.get(usize::from(no))
    }

    /// Calls made.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True before the first call.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when no further call may be made for this exchange.
    pub fn is_full(&self) -> bool {
        self.len() == ATTEMPTS_MAX
    }
}

/// Why no further attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The request is at fault: the provider's answer is passed on as it is.
    Caller,
    /// Targets were tried, and each one failed.
    Failed,
    /// No target could be tried: breakers open, keys cooling, providers full.
    Unavailable,
    /// The caller's time is up, or too short for any target.
    Deadline,
    /// The answer had begun; it can only be cut.
    Committed,
    /// The gateway stopped the exchange.
    Cancelled,
    /// The build step this call belongs to has used up its failures, money or time.
    StepExhausted,
}

/// The end of an exchange without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GiveUp {
    /// Why.
    pub cause: Cause,
    /// Number of the attempt whose failure is the most useful to show; `None` when nothing was tried.
    pub best: Option<u8>,
    /// Everything tried.
    pub attempts: Attempts,
    /// The targets that were passed over, and why.
    pub skips: Skips,
    /// Time until the first target may be worth asking again, microseconds; `None` when time does not help.
    pub retry_after_us: Option<u64>,
    /// `Some(false)` when the client's own retry cannot help now: it is told so. `None`: left to the client.
    pub should_retry: Option<bool>,
}

impl GiveUp {
    /// The record of the most useful failure.
    pub fn best(&self) -> Option<&AttemptRecord> {
        self.attempts.record(self.best?)
    }
}

/// How useful a failure is to the caller; higher is shown first, the earlier attempt among equals.
pub(crate) fn usefulness(failure: &Failure) -> u8 {
    match failure.fault {
        Fault::Caller => 100,
        Fault::ContextLength => 90,
        Fault::Rate => 80,
        Fault::Capacity if failure.status().is_some() => 70,
        Fault::Capacity => 60,
        Fault::Answer => 50,
        Fault::Money => 40,
        Fault::Key => 30,
        Fault::Model => 20,
        Fault::Deadline => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::{ErrorKind, Signal, attribute};
    use super::*;
    use proptest::prelude::*;

    fn record(target: u8, what: Option<What>) -> AttemptRecord {
        AttemptRecord {
            provider: ProviderId(0),
            key: None,
            target,
            reason: Reason::First,
            what,
            fault: None,
            started_us: 0,
            elapsed_us: 0,
        }
    }

    #[test]
    fn a_target_that_is_passed_over_twice_tells_its_last_reason() {
        let skip = |reason| Skip { reason, until_us: None };
        let mut skips = Skips::default();
        assert!(skips.is_empty() && skips.get(0).is_none());
        for index in 0..16 {
            skips.set(index, skip(SkipReason::Full));
        }
        skips.set(3, skip(SkipReason::TooLate));
        assert_eq!(skips.iter().count(), 16);
        assert_eq!(skips.get(3), Some(skip(SkipReason::TooLate)));
        assert_eq!(skips.get(15), Some(skip(SkipReason::Full)));
    }

    #[test]
    fn seventeenth_attempt_has_no_place() {
        let mut attempts = Attempts::new();
        let record = record(0, None);
        for no in 0..ATTEMPTS_MAX as u8 {
            assert!(!attempts.is_full());
            assert_eq!(attempts.push(record), Some(no));
        }
        assert!(attempts.is_full());
        assert_eq!(attempts.push(record), None);
        assert_eq!(attempts.iter().count(), ATTEMPTS_MAX);
    }

    #[test]
    fn what_the_caller_can_act_on_is_shown_before_what_only_the_operator_can_fix() {
        let refused = |status, kind| attribute(Signal::Status { status, kind, retry_after_us: None });
        let shown_first = [
            refused(422, ErrorKind::Unknown),
            refused(400, ErrorKind::ContextLength),
            refused(429, ErrorKind::Unknown),
            refused(503, ErrorKind::Unknown),
            attribute(Signal::Transport(What::Connect)),
            attribute(Signal::Transport(What::Check)),
            refused(402, ErrorKind::Unknown),
            refused(401, ErrorKind::Unknown),
            refused(404, ErrorKind::ModelNotFound),
            attribute(Signal::Transport(What::Timeout(super::super::fault::TimeoutKind::Deadline))),
        ];
        let scores: Vec<u8> = shown_first.iter().map(usefulness).collect();
        assert!(scores.windows(2).all(|pair| pair[0] > pair[1]), "{scores:?}");
    }

    #[test]
    fn an_error_shows_the_failure_that_was_picked_and_none_when_nothing_was_tried() {
        let nothing = GiveUp {
            cause: Cause::Unavailable,
            best: None,
            attempts: Attempts::new(),
            skips: Skips::default(),
            retry_after_us: None,
            should_retry: None,
        };
        assert!(nothing.attempts.is_empty() && nothing.best().is_none());
        let mut attempts = Attempts::new();
        attempts.push(record(0, Some(What::Connect)));
        attempts.push(record(1, Some(What::Status(503))));
        let tried = GiveUp { best: Some(1), attempts, ..nothing };
        assert!(!tried.attempts.is_empty());
        assert_eq!(tried.best().and_then(AttemptRecord::status), Some(503));
        assert_eq!(tried.attempts.record(0).and_then(AttemptRecord::status), None, "nothing was answered");
    }

    #[test]
    fn reasons_have_stable_words() {
        let reasons = [Reason::First, Reason::Retry, Reason::Fallback, Reason::Hedge].map(Reason::label);
        assert_eq!(reasons, ["first", "retry", "fallback", "hedge"]);
        let skips = SkipReason::ALL.map(SkipReason::label);
        let words = [
            "keys_cooling",
            "no_key",
            "breaker_open",
            "retry_budget",
            "retry_cost",
            "deadline",
            "full",
            "context_window",
        ];
        assert_eq!(skips, words);
        let places = SkipReason::ALL.map(|reason| reason as usize);
        assert_eq!(places, [0, 1, 2, 3, 4, 5, 6, 7], "counters are kept by place");
    }

    proptest! {
        #[test]
        fn everything_tried_is_kept_in_order(targets in prop::collection::vec(any::<u8>(), 0..24)) {
            let mut attempts = Attempts::new();
            for (no, &target) in targets.iter().enumerate() {
                let place = (no < ATTEMPTS_MAX).then_some(no as u8);
                prop_assert_eq!(attempts.push(record(target, None)), place);
                if let Some(own) = place.and_then(|place| attempts.record_mut(place)) {
                    own.elapsed_us = no as u64 + 1;
                }
            }
            let kept = &targets[..targets.len().min(ATTEMPTS_MAX)];
            prop_assert_eq!(attempts.len(), kept.len());
            let seen: Vec<_> = attempts.iter().map(|a| (a.target, a.elapsed_us)).collect();
            let expected: Vec<_> = kept.iter().zip(1..).map(|(&target, elapsed)| (target, elapsed)).collect();
            prop_assert_eq!(seen, expected);
            prop_assert!(attempts.record(kept.len() as u8).is_none() && attempts.record_mut(200).is_none());
        }
    }
}
