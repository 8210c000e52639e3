//! What a client is told when nothing more can help.
//!
//! Prevents: retries on top of retries. Official SDKs send a failed request twice more by themselves, each with a
//! timeout of ten minutes; a gateway that retries as well makes nine calls of one (twelve have been measured). Once the
//! gateway has done what can be done it says so: `x-should-retry: false`, which the SDKs obey, and a `Retry-After`
//! that is true, because a client that waits the right time is worth more than one that does not come back.
//!
//! `x-should-retry` is left out when the client's own retry could help: a target could be tried right now, the retry
//! budget would let it, and the client has not used its two retries (`x-stainless-retry-count`).
//!
//! `Retry-After` is 1 to 60 s. Less than a second cannot be said; more than a minute is ignored by some SDKs
//! (openai-python obeys up to 120 s) and holds a build for longer than an error would.
//!
//! Reference: openai-python and anthropic-sdk-python, `_should_retry` and `_calculate_retry_timeout`.

use super::attempts::{Cause, GiveUp, SkipReason};
use super::fault::{Fault, TimeoutKind, What};
use super::settings::SECOND_US;

/// Shortest `Retry-After`, seconds.
pub const RETRY_AFTER_MIN_S: u32 = 1;
/// Longest `Retry-After`, seconds.
pub const RETRY_AFTER_MAX_S: u32 = 60;

/// The head of the error that the client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// The status.
    pub status: u16,
    /// A stable code for the error body.
    pub code: &'static str,
    /// `Retry-After`, seconds; `None`: leave it out, or pass the provider's own on when its error is passed on.
    pub retry_after_s: Option<u32>,
    /// `x-should-retry`; `None`: leave it out.
    pub should_retry: Option<bool>,
}

/// `Retry-After` for a wait: whole seconds, rounded up, so that the client is never early.
pub fn retry_after_s(wait_us: u64) -> u32 {
    let seconds = wait_us.div_ceil(SECOND_US).min(u64::from(RETRY_AFTER_MAX_S)) as u32;
    seconds.max(RETRY_AFTER_MIN_S)
}

/// The head of the error for an exchange that was given up.
pub fn advise(end: &GiveUp) -> Advice {
    let (status, code) = status_and_code(end);
    let waits = matches!(status, 429 | 500..=599) && end.cause != Cause::StepExhausted;
    Advice {
        status,
        code,
        retry_after_s: end.retry_after_us.filter(|_| waits).map(retry_after_s),
        should_retry: end.should_retry,
    }
}

/// The advice for a step that has used up its budget.
pub fn step_exhausted() -> Advice {
    Advice { status: 503, code: "step_budget_exhausted", retry_after_s: None, should_retry: Some(false) }
}

fn status_and_code(end: &GiveUp) -> (u16, &'static str) {
    match end.cause {
        Cause::StepExhausted => (503, "step_budget_exhausted"),
        Cause::Cancelled => (499, "client_closed_request"),
        Cause::Deadline => (504, "deadline_exceeded"),
        Cause::Unavailable => unavailable(end),
        Cause::Caller | Cause::Failed | Cause::Committed => failed(end),
    }
}

fn unavailable(end: &GiveUp) -> (u16, &'static str) {
    let only = |wanted: &[SkipReason]| end.skips.iter().all(|skip| wanted.contains(&skip.reason));
    let any = !end.skips.is_empty();
    if any && only(&[SkipReason::KeysCooling]) {
        (429, "keys_cooling")
    } else if any && only(&[SkipReason::Full]) {
        (503, "provider_full")
    } else if any && only(&[SkipReason::BudgetSpent, SkipReason::MoneySpent]) {
        (503, "retry_budget_spent")
    } else if any && only(&[SkipReason::NoKey]) {
        (502, "no_key_for_model")
    } else {
        (503, "no_provider_available")
    }
}

fn failed(end: &GiveUp) -> (u16, &'static str) {
    let Some(best) = end.best() else { return (502, "upstream_failed") };
    match (best.fault, best.what) {
        // What the caller did wrong keeps its status: SDKs map it to the right exception.
        (Some(Fault::Caller), Some(What::Status(status))) => (status, "upstream_refused"),
        (Some(Fault::Caller), _) => (400, "upstream_refused"),
        (Some(Fault::ContextLength), _) => (400, "context_length_exceeded"),
        (Some(Fault::Model), _) => (404, "model_not_found"),
        (Some(Fault::Rate), _) => (429, "rate_limited"),
        // The operator's credential, not the caller's: a 401 would send the caller looking for its own.
        (Some(Fault::Key), _) => (502, "upstream_credential_refused"),
        (Some(Fault::Money), _) => (502, "upstream_credit_exhausted"),
        (Some(Fault::Answer), _) => (502, "answer_check_failed"),
        (Some(Fault::Deadline), _) => (504, "deadline_exceeded"),
        (_, Some(What::Status(status @ (500 | 502 | 503 | 504 | 529)))) => (status, "upstream_failed"),
        (_, Some(What::Timeout(TimeoutKind::Connect))) => (502, "upstream_unreachable"),
        (_, Some(What::Timeout(_))) => (504, "upstream_timeout"),
        (_, Some(What::Connect | What::Tls | What::Dns)) => (502, "upstream_unreachable"),
        _ => (502, "upstream_failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::attempts::{AttemptRecord, Attempts, Reason, Skip, Skips};
    use super::super::ids::ProviderId;
    use super::*;
    use proptest::prelude::*;

    fn end(cause: Cause, best: Option<(Fault, What)>, skips: &[SkipReason]) -> GiveUp {
        let mut attempts = Attempts::new();
        if let Some((fault, what)) = best {
            attempts.push(AttemptRecord {
                provider: ProviderId(0),
                key: None,
                target: 0,
                reason: Reason::First,
                what: Some(what),
                fault: Some(fault),
                started_us: 0,
                elapsed_us: 1,
            });
        }
        let mut list = Skips::default();
        for (index, &reason) in skips.iter().enumerate() {
            list.set(index as u8, Skip { reason, until_us: None });
        }
        GiveUp {
            cause,
            best: best.map(|_| 0),
            attempts,
            skips: list,
            retry_after_us: Some(12_300_000),
            should_retry: Some(false),
        }
    }

    #[test]
    fn the_wait_is_rounded_up_and_kept_between_one_and_sixty_seconds() {
        for (us, s) in [(0, 1), (1, 1), (1_000_000, 1), (1_000_001, 2), (60_000_000, 60), (600_000_000, 60)] {
            assert_eq!(retry_after_s(us), s, "{us}");
        }
        assert_eq!(retry_after_s(u64::MAX), 60);
    }

    #[test]
    fn each_end_has_the_status_that_says_what_to_do() {
        let status = What::Status;
        let timeout = |kind| What::Timeout(kind);
        for (fault, what, expected) in [
            (Fault::Caller, status(422), 422),
            (Fault::Caller, What::ErrorInOk, 400),
            (Fault::ContextLength, status(413), 400),
            (Fault::Model, status(404), 404),
            (Fault::Rate, status(429), 429),
            (Fault::Key, status(401), 502),
            (Fault::Money, status(429), 502),
            (Fault::Answer, What::Check, 502),
            (Fault::Capacity, status(529), 529),
            (Fault::Capacity, status(520), 502),
            (Fault::Capacity, timeout(TimeoutKind::FirstToken), 504),
            (Fault::Capacity, timeout(TimeoutKind::Connect), 502),
            (Fault::Capacity, What::Dns, 502),
            (Fault::Capacity, What::Truncated, 502),
        ] {
            let advice = advise(&end(Cause::Failed, Some((fault, what)), &[]));
            assert_eq!(advice.status, expected, "{fault:?} {what:?}");
            let waits = expected == 429 || expected >= 500;
            assert_eq!(advice.retry_after_s, waits.then_some(13), "{fault:?}");
        }
    }

    #[test]
    fn what_was_passed_over_decides_when_nothing_was_tried() {
        use SkipReason::*;
        for (skips, expected) in [
            (&[KeysCooling, KeysCooling][..], (429, "keys_cooling")),
            (&[KeysCooling, BreakerOpen], (503, "no_provider_available")),
            (&[Full], (503, "provider_full")),
            (&[MoneySpent], (503, "retry_budget_spent")),
            (&[BudgetSpent, MoneySpent], (503, "retry_budget_spent")),
            (&[BudgetSpent, Full], (503, "no_provider_available")),
            (&[NoKey], (502, "no_key_for_model")),
            (&[], (503, "no_provider_available")),
        ] {
            let advice = advise(&end(Cause::Unavailable, None, skips));
            assert_eq!((advice.status, advice.code), expected);
        }
    }

    #[test]
    fn each_end_has_a_code_that_a_program_can_tell_apart() {
        let timeout = |kind| What::Timeout(kind);
        for (fault, what, expected) in [
            (Fault::Caller, What::Status(422), "upstream_refused"),
            (Fault::ContextLength, What::Status(413), "context_length_exceeded"),
            (Fault::Model, What::Status(404), "model_not_found"),
            (Fault::Rate, What::Status(429), "rate_limited"),
            (Fault::Key, What::Status(401), "upstream_credential_refused"),
            (Fault::Money, What::Status(429), "upstream_credit_exhausted"),
            (Fault::Answer, What::Check, "answer_check_failed"),
            (Fault::Deadline, timeout(TimeoutKind::Deadline), "deadline_exceeded"),
            (Fault::Capacity, What::Status(503), "upstream_failed"),
            (Fault::Capacity, timeout(TimeoutKind::Total), "upstream_timeout"),
            (Fault::Capacity, timeout(TimeoutKind::Connect), "upstream_unreachable"),
            (Fault::Capacity, What::Tls, "upstream_unreachable"),
            (Fault::Capacity, What::Reset, "upstream_failed"),
        ] {
            for cause in [Cause::Failed, Cause::Committed] {
                assert_eq!(
                    advise(&end(cause, Some((fault, what)), &[])).code,
                    expected,
                    "{fault:?} {what:?}"
                );
            }
        }
        let nothing_tried = advise(&end(Cause::Failed, None, &[]));
        assert_eq!((nothing_tried.status, nothing_tried.code), (502, "upstream_failed"));
        let late = advise(&end(Cause::Deadline, None, &[]));
        assert_eq!((late.status, late.code, late.retry_after_s), (504, "deadline_exceeded", Some(13)));
        let left = advise(&end(Cause::Cancelled, None, &[]));
        assert_eq!((left.status, left.code, left.retry_after_s), (499, "client_closed_request", None));
    }

    #[test]
    fn an_exhausted_step_is_not_worth_waiting_for() {
        assert_eq!(advise(&end(Cause::StepExhausted, None, &[])), step_exhausted());
    }

    proptest! {
        #[test]
        fn a_client_that_waits_as_told_is_never_early(wait_us in 0u64..200 * SECOND_US) {
            let told_us = u64::from(retry_after_s(wait_us)) * SECOND_US;
            prop_assert!(told_us >= wait_us.min(60 * SECOND_US));
            prop_assert!(told_us < wait_us.max(1) + SECOND_US);
        }
    }
}
