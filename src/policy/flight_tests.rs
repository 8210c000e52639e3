//! The walk, seen from an exchange.

use std::sync::Arc;

use super::*;

const S: u64 = 1_000_000;

pub(super) fn core_of(providers: Vec<ProviderSettings>) -> Core {
    let settings = Arc::new(Settings::new(providers));
    let shared = Arc::new(Shared::new(&settings, 1));
    Core::new(settings, shared, 0, 42)
}

fn chain(core: &Core, providers: &[u16]) -> Chain {
    let mut chain = Chain::new(PolicyId(0));
    for &p in providers {
        assert!(chain.push(TargetRef::new(ProviderId(p), core.slot(ProviderId(p), b"m"))));
    }
    chain
}

fn two() -> (Core, Chain) {
    let core = core_of(vec![
        ProviderSettings::new("a").with_keys(&[1.0]),
        ProviderSettings::new("b").with_keys(&[1.0]),
    ]);
    let chain = chain(&core, &[0, 1]);
    (core, chain)
}

fn ask(now_us: u64) -> Ask {
    Ask { now_us, est_input_tokens: 100, ..Ask::default() }
}

fn attempt(step: Step) -> Attempt {
    match step {
        Step::Attempt(attempt) => attempt,
        other => panic!("expected an attempt, got {other:?}"),
    }
}

fn gave_up(step: Step) -> GiveUp {
    match step {
        Step::GiveUp(give_up) => give_up,
        other => panic!("expected to give up, got {other:?}"),
    }
}

fn status(status: u16) -> Outcome {
    hinted(status, None)
}

fn hinted(status: u16, retry_after_us: Option<u64>) -> Outcome {
    Outcome::Failure(attribute(Signal::Status { status, kind: ErrorKind::Unknown, retry_after_us }))
}

#[test]
fn a_failing_provider_is_followed_by_the_next_one() {
    for outcome in [
        status(503),
        status(500),
        status(429),
        status(401),
        status(402),
        Outcome::Failure(attribute(Signal::Transport(What::Connect))),
        Outcome::Failure(attribute(Signal::Transport(What::Tls))),
        Outcome::Failure(attribute(Signal::Transport(What::Truncated))),
        Outcome::Failure(attribute(Signal::Transport(What::EmptyBody))),
        Outcome::Failure(attribute(Signal::Transport(What::Timeout(TimeoutKind::FirstToken)))),
    ] {
        let (mut core, chain) = two();
        let mut flight = Flight::begin(&mut core, chain, ask(0));
        let first = attempt(flight.next(&mut core, 0));
        assert_eq!((first.provider, first.key, first.reason), (ProviderId(0), Some(KeyId(0)), Reason::First));
        assert!(flight.settle(&mut core, 10, first.no, outcome).more);
        let second = attempt(flight.next(&mut core, 10));
        assert_eq!((second.provider, second.reason), (ProviderId(1), Reason::Fallback));
        assert!(!flight.settle(&mut core, 20, second.no, Outcome::Success(Success::default())).more);
        assert_eq!(flight.attempts().len(), 2);
    }
}

#[test]
fn what_the_caller_did_wrong_is_passed_on_at_once() {
    for s in [400, 404, 413, 422] {
        let (mut core, chain) = two();
        let mut flight = Flight::begin(&mut core, chain, ask(0));
        let first = attempt(flight.next(&mut core, 0));
        let settled = flight.settle(&mut core, 10, first.no, status(s));
        assert_eq!(settled, Settled { keep: true, more: false });
        let end = gave_up(flight.next(&mut core, 10));
        assert_eq!((end.cause, end.best), (Cause::Caller, Some(0)));
        assert_eq!(end.best().unwrap().status(), Some(s));
    }
}

#[test]
fn nothing_follows_an_answer_that_had_begun() {
    let (mut core, chain) = two();
    let mut flight = Flight::begin(&mut core, chain, ask(0));
    let first = attempt(flight.next(&mut core, 0));
    let cut = attribute(Signal::Transport(What::Truncated)).after_commit();
    assert!(!flight.settle(&mut core, 10, first.no, Outcome::Failure(cut)).more);
    assert_eq!(gave_up(flight.next(&mut core, 10)).cause, Cause::Committed);
}

#[test]
fn the_final_error_lists_every_attempt_and_shows_the_most_useful() {
    let (mut core, chain) = two();
    let mut flight = Flight::begin(&mut core, chain, ask(0));
    let first = attempt(flight.next(&mut core, 0));
    assert!(flight.settle(&mut core, 5, first.no, status(401)).keep);
    let second = attempt(flight.next(&mut core, 5));
    assert!(flight.settle(&mut core, 12, second.no, hinted(429, Some(20 * S))).keep);
    let end = gave_up(flight.next(&mut core, 12));
    assert_eq!(end.cause, Cause::Failed);
    assert_eq!(end.best().unwrap().status(), Some(429));
    let tried: Vec<_> = end.attempts.iter().map(|a| (a.provider.0, a.status(), a.elapsed_us)).collect();
    assert_eq!(tried, [(0, Some(401), 5), (1, Some(429), 7)]);
    assert!((20 * S..=33 * S).contains(&end.retry_after_us.unwrap()), "{end:?}");
}

#[test]
fn a_limited_key_is_left_alone_until_its_time_and_the_other_key_goes_on() {
    let mut core = core_of(vec![ProviderSettings::new("a").with_keys(&[0.7, 0.3])]);
    let chain = chain(&core, &[0]);
    let mut flight = Flight::begin(&mut core, chain, ask(0));
    let first = attempt(flight.next(&mut core, 0));
    flight.settle(&mut core, 0, first.no, hinted(429, Some(60 * S)));
    let second = attempt(flight.next(&mut core, 0));
    assert_eq!(second.reason, Reason::Retry);
    assert_ne!(second.key, first.key);
    flight.settle(&mut core, 0, second.no, Outcome::Success(Success::default()));
    for now in [1, 30 * S, 60 * S - 1] {
        let mut flight = Flight::begin(&mut core, chain, ask(now));
        let only = attempt(flight.next(&mut core, now));
        assert_eq!(only.key, second.key);
        flight.settle(&mut core, now, only.no, Outcome::Success(Success::default()));
    }
    let seen: Vec<_> = (0..10)
        .map(|_| attempt(Flight::begin(&mut core, chain, ask(67 * S)).next(&mut core, 67 * S)).key)
        .collect();
    assert!(seen.contains(&first.key), "the key is used again after its window");
}

#[test]
fn a_limited_model_does_not_bench_the_keys_other_models() {
    let mut core = core_of(vec![ProviderSettings::new("a").with_keys(&[1.0])]);
    let slots = [core.slot(ProviderId(0), b"big"), core.slot(ProviderId(0), b"small")];
    let [big, small] = slots.map(|slot| Chain::of(PolicyId(0), &[TargetRef::new(ProviderId(0), slot)]));
    let mut flight = Flight::begin(&mut core, big, ask(0));
    let first = attempt(flight.next(&mut core, 0));
    flight.settle(&mut core, 0, first.no, hinted(429, Some(60 * S)));
    let refused = gave_up(Flight::begin(&mut core, big, ask(1)).next(&mut core, 1));
    assert_eq!((refused.cause, refused.attempts.len()), (Cause::Unavailable, 0));
    assert_eq!(refused.skips[0].unwrap().reason, SkipReason::KeysCooling);
    attempt(Flight::begin(&mut core, small, ask(1)).next(&mut core, 1));
}

#[test]
fn a_revoked_key_is_parked_for_every_model_and_a_forbidden_model_only_for_itself() {
    for (code, other_model_works) in [(401, false), (403, true)] {
        let mut core = core_of(vec![ProviderSettings::new("a").with_keys(&[1.0])]);
        let slots = [core.slot(ProviderId(0), b"big"), core.slot(ProviderId(0), b"small")];
        let [big, small] = slots.map(|slot| Chain::of(PolicyId(0), &[TargetRef::new(ProviderId(0), slot)]));
        let mut flight = Flight::begin(&mut core, big, ask(0));
        let first = attempt(flight.next(&mut core, 0));
        flight.settle(&mut core, 0, first.no, status(code));
        let step = Flight::begin(&mut core, small, ask(1)).next(&mut core, 1);
        assert_eq!(matches!(step, Step::Attempt(_)), other_model_works, "{code}");
    }
}

#[test]
fn shares_of_two_keys_are_within_three_points_over_two_thousand_requests() {
    let mut core = core_of(vec![ProviderSettings::new("a").with_keys(&[0.7, 0.3])]);
    let chain = chain(&core, &[0]);
    let mut counts = [0; 2];
    for now in 0..2000 {
        let mut flight = Flight::begin(&mut core, chain, ask(now));
        let only = attempt(flight.next(&mut core, now));
        counts[usize::from(only.key.unwrap().0)] += 1;
        flight.settle(&mut core, now, only.no, Outcome::Success(Success::default()));
    }
    assert!((1340..=1460).contains(&counts[0]), "{counts:?}");
}

#[test]
fn a_dead_pooled_connection_is_tried_again_once_and_free() {
    let (mut core, chain) = two();
    let mut flight = Flight::begin(&mut core, chain, ask(0));
    let first = attempt(flight.next(&mut core, 0));
    assert!(!first.fresh_connection);
    assert_eq!(
        flight.settle(&mut core, 1, first.no, Outcome::StaleConnection),
        Settled { keep: false, more: true }
    );
    let again = attempt(flight.next(&mut core, 1));
    assert_eq!((again.provider, again.key, again.fresh_connection), (first.provider, first.key, true));
    flight.settle(&mut core, 2, again.no, Outcome::StaleConnection);
    assert_eq!(attempt(flight.next(&mut core, 2)).provider, ProviderId(1), "the second time it is a failure");
}

#[test]
fn max_retries_waits_and_asks_the_same_provider_before_the_next() {
    let mut a = ProviderSettings::new("a").with_keys(&[1.0]);
    a.retry = RetrySettings { max_retries: Some(2), backoff_initial_us: 500_000, backoff_max_us: 5 * S };
    let mut core = core_of(vec![a, ProviderSettings::new("b")]);
    let chain = chain(&core, &[0, 1]);
    let mut flight = Flight::begin(&mut core, chain, ask(0));
    let mut now = 0;
    for expected in [500_000u64, 1_000_000] {
        let tried = attempt(flight.next(&mut core, now));
        assert_eq!(tried.provider, ProviderId(0));
        flight.settle(&mut core, now, tried.no, status(503));
        let Step::Wait { until_us, why: WaitReason::Backoff } = flight.next(&mut core, now) else { panic!() };
        assert!((expected * 4 / 5..=expected * 6 / 5).contains(&(until_us - now)));
        now = until_us;
    }
    let third = attempt(flight.next(&mut core, now));
    assert_eq!((third.provider, third.reason), (ProviderId(0), Reason::Retry));
    flight.settle(&mut core, now, third.no, status(503));
    let fallback = attempt(flight.next(&mut core, now));
    assert_eq!((fallback.provider, fallback.key), (ProviderId(1), None));
}

#[test]
fn a_rest_longer_than_the_longest_backoff_is_not_waited_for() {
    let mut a = ProviderSettings::new("a").with_keys(&[1.0]);
    a.retry.max_retries = Some(1);
    let mut core = core_of(vec![a, ProviderSettings::new("b")]);
    let chain = chain(&core, &[0, 1]);
    for (hint, waits) in [(3 * S, true), (60 * S, false)] {
        let now = hint * 100;
        let mut flight = Flight::begin(&mut core, chain, ask(now));
        let first = attempt(flight.next(&mut core, now));
        flight.settle(&mut core, now, first.no, hinted(429, Some(hint)));
        match flight.next(&mut core, now) {
            Step::Wait { until_us, .. } => assert!(waits && until_us >= now + hint),
            Step::Attempt(next) => assert!(!waits && next.provider == ProviderId(1)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_limits_of_an_attempt_follow_the_settings_and_the_callers_deadline() {
    let mut a = ProviderSettings::new("a");
    a.timeouts.attempt_us = Some(8 * S);
    let mut core = core_of(vec![a, ProviderSettings::new("b")]);
    let chain = chain(&core, &[0, 1]);
    let whole = attempt(Flight::begin(&mut core, chain, ask(S)).next(&mut core, S));
    assert_eq!((whole.connect_by_us, whole.answer_by_us, whole.first_token_by_us), (3 * S, 9 * S, 9 * S));
    let stream = Ask { stream: true, ..ask(S) };
    let streamed = attempt(Flight::begin(&mut core, chain, stream).next(&mut core, S));
    assert_eq!((streamed.first_token_by_us, streamed.answer_by_us), (9 * S, 601 * S));
    assert_eq!(streamed.token_gap_us, 120 * S);
    let hurried = Ask { deadline_us: Some(2 * S), ..stream };
    let mut flight = Flight::begin(&mut core, chain, hurried);
    let short = attempt(flight.next(&mut core, S));
    assert_eq!((short.connect_by_us, short.first_token_by_us, short.total_by_us), (2 * S, 2 * S, 2 * S));
    flight.settle(&mut core, 2 * S, short.no, status(503));
    assert_eq!(gave_up(flight.next(&mut core, 2 * S)).cause, Cause::Deadline);
}

#[test]
fn a_prompt_too_long_goes_to_a_larger_window_only() {
    let mut core = core_of(["a", "b", "c", "d"].map(ProviderSettings::new).to_vec());
    let mut list = Chain::new(PolicyId(0));
    for (p, window) in [(0, 8_000), (1, 8_000), (2, 200_000), (3, 0)] {
        let slot = core.slot(ProviderId(p), b"m");
        list.push(TargetRef { context_tokens: window, ..TargetRef::new(ProviderId(p), slot) });
    }
    let mut flight = Flight::begin(&mut core, list, ask(0));
    let first = attempt(flight.next(&mut core, 0));
    let too_long = Signal::Status { status: 400, kind: ErrorKind::ContextLength, retry_after_us: None };
    flight.settle(&mut core, 0, first.no, Outcome::Failure(attribute(too_long)));
    let larger = attempt(flight.next(&mut core, 0));
    assert_eq!(larger.provider, ProviderId(2));
    flight.settle(&mut core, 0, larger.no, status(503));
    assert_eq!(attempt(flight.next(&mut core, 0)).provider, ProviderId(3), "unknown windows are tried");
}

#[test]
fn a_static_answer_closes_the_chain() {
    let (mut core, mut chain) = two();
    chain.static_answer = Some(StaticId(3));
    let mut flight = Flight::begin(&mut core, chain, ask(0));
    for _ in 0..2 {
        let tried = attempt(flight.next(&mut core, 0));
        flight.settle(&mut core, 0, tried.no, status(503));
    }
    assert_eq!(flight.next(&mut core, 0), Step::Static(StaticId(3)));
}

#[test]
fn a_running_attempt_must_be_settled_first_and_only_once() {
    let (mut core, chain) = two();
    let mut flight = Flight::begin(&mut core, chain, ask(0));
    let first = attempt(flight.next(&mut core, 0));
    let Step::Wait { why: WaitReason::InFlight, .. } = flight.next(&mut core, 0) else { panic!() };
    flight.settle(&mut core, 0, first.no, status(503));
    flight.settle(&mut core, 0, first.no, status(400));
    assert_eq!(attempt(flight.next(&mut core, 0)).provider, ProviderId(1));
}
