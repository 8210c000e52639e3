//! Who is blamed for what, as the table of [`super`] says it.

use super::*;
use proptest::prelude::*;

fn status(status: u16, kind: ErrorKind) -> Fault {
    attribute(Signal::Status { status, kind, retry_after_us: None }).fault
}

#[test]
fn plain_statuses_are_blamed_as_the_table_says() {
    for s in [400, 404, 409, 411, 413, 415, 422, 499] {
        assert_eq!(status(s, ErrorKind::Unknown), Fault::Caller, "{s}");
    }
    for s in [401, 403] {
        assert_eq!(status(s, ErrorKind::Unknown), Fault::Key, "{s}");
    }
    for s in [408, 425, 500, 501, 502, 503, 504, 520, 529, 599, 301, 302, 100] {
        assert_eq!(status(s, ErrorKind::Unknown), Fault::Capacity, "{s}");
    }
    assert_eq!(status(402, ErrorKind::Unknown), Fault::Money);
    assert_eq!(status(429, ErrorKind::Unknown), Fault::Rate);
}

#[test]
fn the_body_overrules_the_status() {
    assert_eq!(status(429, ErrorKind::Quota), Fault::Money);
    assert_eq!(status(403, ErrorKind::Quota), Fault::Money);
    assert_eq!(status(400, ErrorKind::Quota), Fault::Money);
    assert_eq!(status(500, ErrorKind::Quota), Fault::Money);
    assert_eq!(status(400, ErrorKind::ContextLength), Fault::ContextLength);
    assert_eq!(status(413, ErrorKind::ContextLength), Fault::ContextLength);
    assert_eq!(status(404, ErrorKind::ModelNotFound), Fault::Model);
    assert_eq!(status(400, ErrorKind::Auth), Fault::Key);
    assert_eq!(status(400, ErrorKind::Overloaded), Fault::Capacity);
    assert_eq!(status(403, ErrorKind::RateLimit), Fault::Rate);
    assert_eq!(status(403, ErrorKind::ContentPolicy), Fault::Caller);
    assert_eq!(status(503, ErrorKind::RateLimit), Fault::Rate);
    assert_eq!(status(400, ErrorKind::RateLimit), Fault::Rate);
    assert_eq!(status(400, ErrorKind::ContentPolicy), Fault::Caller);
}

#[test]
fn an_error_in_a_200_is_judged_by_its_word() {
    let judge = |kind| attribute(Signal::ErrorInOk { kind, retry_after_us: Some(5), stream: true });
    assert_eq!(judge(ErrorKind::Overloaded).fault, Fault::Capacity);
    assert_eq!(judge(ErrorKind::Unknown).fault, Fault::Capacity);
    assert_eq!(judge(ErrorKind::RateLimit).fault, Fault::Rate);
    assert_eq!(judge(ErrorKind::InvalidRequest).fault, Fault::Caller);
    assert_eq!(judge(ErrorKind::ContentPolicy).fault, Fault::Caller);
    assert_eq!(judge(ErrorKind::ContextLength).fault, Fault::ContextLength);
    assert_eq!(judge(ErrorKind::Auth).fault, Fault::Key);
    assert_eq!(judge(ErrorKind::Quota).fault, Fault::Money);
    assert_eq!(judge(ErrorKind::ModelNotFound).fault, Fault::Model);
    assert_eq!(judge(ErrorKind::Unknown).what, What::StreamError);
    assert_eq!(judge(ErrorKind::Unknown).retry_after_us, Some(5));
    let body = Signal::ErrorInOk { kind: ErrorKind::Unknown, retry_after_us: None, stream: false };
    assert_eq!(attribute(body).what, What::ErrorInOk);
    assert!(!attribute(body).committed && attribute(body).after_commit().committed);
    assert_eq!(attribute(body).status(), None, "its status was a success");
}

#[test]
fn transport_failures_are_the_providers_except_the_callers_deadline() {
    for what in [What::Connect, What::Tls, What::Dns, What::Reset, What::Truncated, What::EmptyBody] {
        assert_eq!(attribute(Signal::Transport(what)).fault, Fault::Capacity);
    }
    let deadline = attribute(Signal::Transport(What::Timeout(TimeoutKind::Deadline)));
    assert_eq!(deadline.fault, Fault::Deadline);
    assert_eq!(attribute(Signal::Transport(What::Check)).fault, Fault::Answer);
    assert_eq!(attribute(Signal::Transport(What::Status(404))).fault, Fault::Caller);
}

#[test]
fn every_failure_has_a_stable_word_and_says_whether_it_may_be_billed() {
    use TimeoutKind::{Connect, Deadline, FirstToken, TokenGap, Total};
    for (what, word, billed) in [
        (What::Status(500), "status", false),
        (What::Connect, "connect", false),
        (What::Tls, "tls", false),
        (What::Dns, "dns", false),
        (What::Timeout(Connect), "connect_timeout", false),
        (What::Timeout(FirstToken), "first_token_timeout", true),
        (What::Timeout(TokenGap), "token_gap_timeout", true),
        (What::Timeout(Total), "total_timeout", true),
        (What::Timeout(Deadline), "deadline", true),
        (What::Reset, "reset", true),
        (What::Truncated, "truncated", true),
        (What::EmptyBody, "empty_body", true),
        (What::BadContentType, "bad_content_type", true),
        (What::ErrorInOk, "error_in_ok", true),
        (What::StreamError, "stream_error", true),
        (What::BadHead, "bad_head", true),
        (What::BadBody, "bad_body", true),
        (What::Check, "check_failed", true),
        (What::Cancelled, "cancelled", false),
        (What::Answered, "ok", true),
    ] {
        assert_eq!((what.label(), what.may_be_billed()), (word, billed), "{what:?}");
    }
}

#[test]
fn only_a_request_that_was_taken_in_may_have_been_billed() {
    assert!(!What::Status(503).may_be_billed());
    assert!(!What::Connect.may_be_billed());
    assert!(!What::Timeout(TimeoutKind::Connect).may_be_billed());
    assert!(What::Timeout(TimeoutKind::FirstToken).may_be_billed());
    assert!(What::Truncated.may_be_billed());
    assert!(What::Check.may_be_billed());
}

proptest! {
    #[test]
    fn no_status_is_left_without_a_party_and_only_4xx_are_the_callers(status: u16) {
        let kinds = [
            ErrorKind::Unknown, ErrorKind::InvalidRequest, ErrorKind::ContextLength, ErrorKind::Auth,
            ErrorKind::Quota, ErrorKind::RateLimit, ErrorKind::Overloaded, ErrorKind::ModelNotFound,
            ErrorKind::ContentPolicy,
        ];
        for kind in kinds {
            let failure = attribute(Signal::Status { status, kind, retry_after_us: None });
            prop_assert_eq!(failure.status(), Some(status));
            let callers = matches!(failure.fault, Fault::Caller | Fault::ContextLength | Fault::Model);
            prop_assert!(!callers || (400..500).contains(&status));
        }
    }
}
