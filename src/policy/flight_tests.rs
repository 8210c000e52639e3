//! The walk, seen from an exchange: what follows what, and until when. Beside it, by what decides: breakers, budgets,
//! hedges, keys, what one walk remembers, and what holds whatever happens.

use std::sync::Arc;

use super::*;

#[path = "flight_breaker_tests.rs"]
mod breaker_tests;
#[path = "flight_budget_tests.rs"]
mod budget_tests;
#[path = "flight_hedge_tests.rs"]
mod hedge_tests;
#[path = "flight_key_tests.rs"]
mod key_tests;
#[path = "flight_property_tests.rs"]
mod property_tests;
#[path = "flight_walk_tests.rs"]
mod walk_tests;

pub(super) const S: u64 = 1_000_000;

pub(super) fn core_of(providers: Vec<ProviderSettings>) -> Core {
    let settings = Arc::new(Settings::new(providers));
    let shared = Arc::new(Shared::new(&settings, 1));
    Core::new(settings, shared, 0, 42)
}

pub(super) fn chain(core: &Core, providers: &[u16]) -> Chain {
    let mut chain = Chain::new(PolicyId(0));
    for &p in providers {
        assert!(chain.push(TargetRef::new(ProviderId(p), core.slot(ProviderId(p), b"m"))));
    }
    chain
}

pub(super) fn two() -> (Core, Chain) {
    let core = core_of(vec![
        ProviderSettings::new("a").with_keys(&[1.0]),
        ProviderSettings::new("b").with_keys(&[1.0]),
    ]);
    let chain = chain(&core, &[0, 1]);
    (core, chain)
}

pub(super) fn ask(now_us: u64) -> Ask {
    Ask { now_us, est_input_tokens: 100, ..Ask::default() }
}

pub(super) fn attempt(step: Step) -> Attempt {
    match step {
        Step::Attempt(attempt) => attempt,
        other => panic!("expected an attempt, got {other:?}"),
    }
}

pub(super) fn gave_up(step: Step) -> GiveUp {
    match step {
        Step::GiveUp(give_up) => give_up,
        other => panic!("expected to give up, got {other:?}"),
    }
}

pub(super) fn status(status: u16) -> Outcome {
    hinted(status, None)
}

pub(super) fn hinted(status: u16, retry_after_us: Option<u64>) -> Outcome {
    Outcome::Failure(attribute(Signal::Status { status, kind: ErrorKind::Unknown, retry_after_us }))
}

pub(super) fn run(
    core: &mut Core,
    chain: Chain,
    now_us: u64,
    answer: impl Fn(&Attempt) -> Outcome,
) -> (Step, Flight) {
    let mut flight = Flight::begin(core, chain, ask(now_us));
    loop {
        match flight.next(core, now_us) {
            Step::Attempt(attempt) => {
                flight.settle(core, now_us, attempt.no, answer(&attempt));
                if flight.winner().is_some() {
                    return (Step::Attempt(attempt), flight);
                }
            }
            step => return (step, flight),
        }
    }
}

pub(super) fn ok() -> Outcome {
    Outcome::Success(Success::default())
}

pub(super) fn transport(what: What) -> Outcome {
    Outcome::Failure(attribute(Signal::Transport(what)))
}

/// Ends a call in a way that is not tried again at the same target.
pub(super) fn cut() -> Outcome {
    Outcome::Failure(attribute(Signal::Transport(What::Truncated)))
}

pub(super) fn alone() -> (Core, Chain) {
    let core = core_of(vec![ProviderSettings::new("a").with_keys(&[1.0])]);
    let chain = chain(&core, &[0]);
    (core, chain)
}

pub(super) fn hedging() -> (Core, Chain) {
    let mut settings = Settings::new(["a", "b"].map(ProviderSettings::new).to_vec());
    settings.policies[0].hedge = Some(hedge::HedgeSettings::default());
    let settings = Arc::new(settings);
    let mut core = Core::new(Arc::clone(&settings), Arc::new(Shared::new(&settings, 1)), 0, 1);
    let chain = chain(&core, &[0, 1]);
    for n in 0..200u64 {
        let mut flight = Flight::begin(&mut core, chain, Ask { stream: true, ..ask(n * S) });
        let first = attempt(flight.next(&mut core, n * S));
        flight.first_token(&mut core, n * S + 400_000, first.no);
        flight.settle(&mut core, n * S + 900_000, first.no, ok());
    }
    (core, chain)
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

#[test]
fn on_the_last_target_what_cannot_have_been_billed_is_tried_twice_more() {
    for (what, attempts) in [
        (status(503), 3),
        (Outcome::Failure(attribute(Signal::Transport(What::Connect))), 3),
        (Outcome::Failure(attribute(Signal::Transport(What::Timeout(TimeoutKind::FirstToken)))), 1),
        (Outcome::Failure(attribute(Signal::Transport(What::Truncated))), 1),
    ] {
        let mut core = core_of(vec![ProviderSettings::new("a")]);
        let chain = chain(&core, &[0]);
        let mut flight = Flight::begin(&mut core, chain, ask(100 * S));
        let mut now = 100 * S;
        let end = loop {
            match flight.next(&mut core, now) {
                Step::Attempt(tried) => drop(flight.settle(&mut core, now, tried.no, what)),
                Step::Wait { until_us, .. } => now = until_us,
                step => break gave_up(step),
            }
        };
        assert_eq!(end.attempts.len(), attempts, "{what:?}");
    }
}

#[test]
fn no_call_starts_that_cannot_reach_its_first_token_in_time() {
    let (mut core, chain) = hedging();
    let now = 300 * S;
    for (left, starts) in [(300_000, false), (500_000, true)] {
        let asked = Ask { stream: true, deadline_us: Some(now + left), ..ask(now) };
        let mut flight = Flight::begin(&mut core, chain, asked);
        let step = flight.next(&mut core, now);
        let Step::Attempt(first) = step else { panic!("{step:?}") };
        assert_eq!(first.provider == ProviderId(0), starts, "b is unknown and may be tried");
        flight.cancel(&mut core, now);
    }
    let alone = Chain::of(PolicyId(0), &chain.targets()[..1]);
    let asked = Ask { stream: true, deadline_us: Some(now + 300_000), ..ask(now) };
    let end = gave_up(Flight::begin(&mut core, alone, asked).next(&mut core, now));
    assert_eq!(end.cause, Cause::Deadline);
    assert_eq!(downstream::advise(&end).status, 504);
}

#[test]
fn equals_share_by_weight_and_the_rest_of_the_chain_keeps_its_order() {
    let mut core = core_of(["a", "b", "c"].map(ProviderSettings::new).to_vec());
    let mut chain = Chain::new(PolicyId(0));
    for (p, group, weight) in [(0, 1, 3), (1, 1, 1), (2, 2, 1)] {
        let slot = core.slot(ProviderId(p), b"m");
        chain.push(TargetRef { group, weight, ..TargetRef::new(ProviderId(p), slot) });
    }
    let mut firsts = [0; 3];
    for n in 0..4000 {
        let flight = Flight::begin(&mut core, chain, ask(n));
        let order: Vec<u16> = flight.chain().targets().iter().map(|t| t.provider.0).collect();
        firsts[usize::from(order[0])] += 1;
        assert_eq!(order[2], 2);
    }
    assert!((2880..3120).contains(&firsts[0]), "{firsts:?}");
}

#[test]
fn sixteen_failing_targets_with_many_keys_end_after_sixteen_attempts() {
    let providers: Vec<_> =
        (0..16).map(|n| ProviderSettings::new(&format!("p{n}")).with_keys(&[1.0; 4])).collect();
    let mut core = core_of(providers);
    let chain = chain(&core, &(0..16).collect::<Vec<u16>>());
    let (end, _) = run(&mut core, chain, S, |_| status(401));
    let end = gave_up(end);
    assert_eq!((end.attempts.len(), end.cause), (16, Cause::Failed));
}
