//! The walk, seen from an exchange.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const S: u64 = 1_000_000;

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
    assert_eq!(refused.skips.get(0).unwrap().reason, SkipReason::KeysCooling);
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

fn a_is_down(attempt: &Attempt) -> Outcome {
    if attempt.provider == ProviderId(0) { status(503) } else { ok() }
}

#[test]
fn after_five_failures_the_target_is_not_asked_until_one_probe_finds_it_well() {
    let (mut core, chain) = two();
    let mut calls_to_a = 0;
    for _ in 0..50 {
        let (_, flight) = run(&mut core, chain, S, a_is_down);
        assert!(flight.winner().is_some());
        calls_to_a += flight.attempts().iter().filter(|a| a.provider == ProviderId(0)).count();
    }
    assert_eq!(calls_to_a, 5);
    let probe_at = 3 * S;
    let mut flight = Flight::begin(&mut core, chain, ask(probe_at));
    let probe = attempt(flight.next(&mut core, probe_at));
    assert!(probe.probe && probe.provider == ProviderId(0));
    let other = attempt(Flight::begin(&mut core, chain, ask(probe_at)).next(&mut core, probe_at));
    assert_eq!(other.provider, ProviderId(1), "one probe, not two");
    flight.settle(&mut core, probe_at, probe.no, ok());
    let firsts = (0..1000)
        .filter(|_| {
            let mut flight = Flight::begin(&mut core, chain, ask(probe_at + 5 * S));
            let first = attempt(flight.next(&mut core, probe_at + 5 * S));
            flight.settle(&mut core, probe_at + 5 * S, first.no, ok());
            first.provider == ProviderId(0)
        })
        .count();
    assert!((420..580).contains(&firsts), "half of it after half the ramp: {firsts}");
}

#[test]
fn alone_and_down_it_is_refused_at_once_with_a_true_wait() {
    let mut core = core_of(vec![ProviderSettings::new("a")]);
    let chain = chain(&core, &[0]);
    let mut now = 0;
    while !matches!(core.shared().breaker(chain.targets()[0].slot, now).unwrap().phase, breaker::Phase::Open)
    {
        let mut flight = Flight::begin(&mut core, chain, ask(now));
        let tried = attempt(flight.next(&mut core, now));
        flight.settle(&mut core, now, tried.no, status(503));
        now += 1;
    }
    let end = gave_up(Flight::begin(&mut core, chain, ask(now)).next(&mut core, now));
    assert_eq!((end.cause, end.should_retry), (Cause::Unavailable, Some(false)));
    let wait = end.retry_after_us.unwrap();
    assert!((S - 10..=S * 5 / 4).contains(&wait), "{wait}");
    let advice = downstream::advise(&end);
    assert_eq!((advice.status, advice.retry_after_s), (503, Some(wait.div_ceil(S) as u32)));
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
fn retries_stop_when_the_budget_is_spent() {
    let mut a = ProviderSettings::new("a");
    a.retry = RetrySettings { max_retries: Some(1), backoff_initial_us: 0, backoff_max_us: 0 };
    a.breaker.failures_in_row = u32::MAX;
    a.breaker.failure_percent = 101;
    let mut core = core_of(vec![a]);
    let chain = chain(&core, &[0]);
    let calls: usize = (0..1000u64)
        .map(|n| run(&mut core, chain, 100 * S + n * 1000, |_| status(500)).1.attempts().len())
        .sum();
    assert!((1095..=1105).contains(&calls), "{calls}");
    let (end, _) = run(&mut core, chain, 101 * S, |_| status(500));
    assert_eq!(gave_up(end).should_retry, Some(false), "the client's own retry has no budget either");
}

#[test]
fn a_clients_own_retry_needs_a_token_too() {
    let mut a = ProviderSettings::new("a");
    a.budget.floor_per_second = 0;
    let mut core = core_of(vec![a]);
    let chain = chain(&core, &[0]);
    let retried = Ask { client_retries: 1, ..ask(S) };
    let end = gave_up(Flight::begin(&mut core, chain, retried).next(&mut core, S));
    assert_eq!(end.skips.get(0).unwrap().reason, SkipReason::BudgetSpent);
    for _ in 0..10 {
        run(&mut core, chain, S, |_| ok());
    }
    attempt(Flight::begin(&mut core, chain, retried).next(&mut core, S));
}

#[test]
fn prompts_sent_again_stop_at_the_money_of_the_minute() {
    let mut a = ProviderSettings::new("a");
    a.retry = RetrySettings { max_retries: Some(1), backoff_initial_us: 0, backoff_max_us: 0 };
    a.breaker.tokens_burnt_max = None;
    let mut settings = Settings::new(vec![a]);
    settings.retry_nano_usd_per_minute = Some(1_000_000_000);
    let settings = Arc::new(settings);
    let mut core = Core::new(Arc::clone(&settings), Arc::new(Shared::new(&settings, 1)), 0, 1);
    let slot = core.slot(ProviderId(0), b"m");
    for (price, retries) in [(Some(3_000), 1), (None, 0)] {
        let target = TargetRef { input_nano_usd: price, ..TargetRef::new(ProviderId(0), slot) };
        let chain = Chain::of(PolicyId(0), &[target]);
        let huge = Ask { est_input_tokens: 200_000, ..ask(120 * S) };
        let mut flight = Flight::begin(&mut core, chain, huge);
        let mut calls = 0;
        while let Step::Attempt(tried) = flight.next(&mut core, 120 * S) {
            flight.settle(&mut core, 120 * S, tried.no, status(500));
            calls += 1;
        }
        assert_eq!(calls, 1 + retries, "an unpriced retry of 200k tokens counts as three dollars");
    }
    assert_eq!(core.shared().money().spent(120 * S), 600_000_000);
}

#[test]
fn a_target_with_a_fifth_of_failures_costs_no_more_than_a_tenth_extra_and_loses_nothing() {
    let (mut core, chain) = two();
    let mut random = Random::new(3);
    let mut calls = 0;
    for n in 0..5000u64 {
        let fails = random.below(5) == 0;
        let (_, flight) = run(&mut core, chain, S + n * 10_000, |a| match a.provider {
            ProviderId(0) if fails => status(500),
            _ => ok(),
        });
        assert!(flight.winner().is_some());
        calls += flight.attempts().len();
    }
    assert!(calls <= 5500, "{calls}");
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
fn a_slow_call_is_joined_by_a_second_one_and_the_first_token_wins() {
    let (mut core, chain) = hedging();
    let now = 300 * S;
    let mut flight = Flight::begin(&mut core, chain, Ask { stream: true, ..ask(now) });
    let first = attempt(flight.next(&mut core, now));
    let at = first.hedge_at_us.expect("the 95th percentile is known");
    assert!((now + 360_000..now + 440_000).contains(&at));
    let second = flight.hedge(&mut core, at).expect("within two percent");
    assert_eq!((second.provider, second.reason), (ProviderId(1), Reason::Hedge));
    assert_eq!(flight.hedge(&mut core, at), None, "one hedge an exchange");
    assert_eq!(flight.first_token(&mut core, at + 1000, second.no), Some(first.no));
    assert!(!flight.settle(&mut core, at + 1000, first.no, Outcome::Cancelled).more);
    assert_eq!(flight.winner(), Some(second.no));
    flight.settle(&mut core, at + S, second.no, ok());
    assert_eq!(core.counters().hedges_won, 1);
}

#[test]
fn when_one_of_a_pair_fails_the_other_goes_on_and_when_both_fail_the_walk_does() {
    let (mut core, chain) = hedging();
    let now = 300 * S;
    let mut flight = Flight::begin(&mut core, chain, Ask { stream: true, ..ask(now) });
    let first = attempt(flight.next(&mut core, now));
    let second = flight.hedge(&mut core, now + S).unwrap();
    assert!(flight.settle(&mut core, now + S, first.no, status(503)).more);
    assert!(matches!(flight.next(&mut core, now + S), Step::Wait { why: WaitReason::InFlight, .. }));
    flight.settle(&mut core, now + S, second.no, status(503));
    let mut at = now + S;
    let end = loop {
        match flight.next(&mut core, at) {
            Step::Wait { until_us, .. } => at = until_us,
            Step::Attempt(tried) => drop(flight.settle(&mut core, at, tried.no, status(503))),
            step => break gave_up(step),
        }
    };
    assert_eq!(end.cause, Cause::Failed);
}

#[test]
fn a_hedge_on_a_dead_connection_is_sent_again_beside_the_running_call() {
    let (mut core, chain) = hedging();
    let now = 300 * S;
    let mut flight = Flight::begin(&mut core, chain, Ask { stream: true, ..ask(now) });
    let first = attempt(flight.next(&mut core, now));
    let second = flight.hedge(&mut core, now + S).unwrap();
    assert!(flight.settle(&mut core, now + S, second.no, Outcome::StaleConnection).more);
    let again = attempt(flight.next(&mut core, now + S));
    assert_eq!((again.provider, again.fresh_connection), (second.provider, true));
    flight.settle(&mut core, now + S, first.no, status(503));
    assert_eq!(flight.first_token(&mut core, now + 2 * S, again.no), None);
    flight.settle(&mut core, now + 2 * S, again.no, ok());
    assert_eq!(flight.winner(), Some(again.no));
}

#[test]
fn hedges_stay_within_two_in_a_hundred() {
    let (mut core, chain) = hedging();
    let mut hedges = 0;
    for n in 300..1300u64 {
        let now = n * S;
        let mut flight = Flight::begin(&mut core, chain, Ask { stream: true, ..ask(now) });
        let first = attempt(flight.next(&mut core, now));
        hedges += u32::from(flight.hedge(&mut core, now + S).is_some());
        flight.first_token(&mut core, now + S, first.no);
        flight.settle(&mut core, now + 2 * S, first.no, ok());
        flight.cancel(&mut core, now + 2 * S);
    }
    assert!((15..=25).contains(&hedges), "{hedges}");
}

fn capped(concurrent: u32) -> (Core, Chain) {
    let mut a = ProviderSettings::new("a");
    a.bulkhead.concurrent_max = Some(concurrent);
    let core = core_of(vec![a, ProviderSettings::new("b")]);
    let chain = chain(&core, &[0]);
    (core, chain)
}

#[test]
fn a_full_provider_is_waited_for_briefly_and_then_refused() {
    let (mut core, chain) = capped(1);
    let mut holder = Flight::begin(&mut core, chain, ask(0));
    let held = attempt(holder.next(&mut core, 0));
    let mut waiter = Flight::begin(&mut core, chain, ask(0));
    let Step::Wait { until_us, why: WaitReason::Queue } = waiter.next(&mut core, 0) else { panic!() };
    assert_eq!(until_us, bulkhead::POLL_US);
    let mut second = Flight::begin(&mut core, chain, ask(0));
    assert!(matches!(second.next(&mut core, 0), Step::Wait { .. }));
    assert!(matches!(waiter.next(&mut core, 5_000), Step::Wait { .. }));
    holder.settle(&mut core, 6_000, held.no, ok());
    let got = attempt(waiter.next(&mut core, 10_000));
    let refused = gave_up(second.next(&mut core, 100_000));
    assert_eq!(refused.skips.get(0).unwrap().reason, SkipReason::Full);
    waiter.settle(&mut core, 100_000, got.no, ok());
    assert_eq!(core.shared().bulkhead(ProviderId(0)), bulkhead::BulkheadView::default());
}

#[test]
fn a_full_provider_is_passed_over_when_another_can_answer() {
    let (mut core, _) = capped(1);
    let chain = chain(&core, &[0, 1]);
    let mut holder = Flight::begin(&mut core, chain, ask(0));
    attempt(holder.next(&mut core, 0));
    let other = attempt(Flight::begin(&mut core, chain, ask(0)).next(&mut core, 0));
    assert_eq!(other.provider, ProviderId(1));
    holder.cancel(&mut core, 1);
    holder.cancel(&mut core, 1);
    assert_eq!(
        core.shared().bulkhead(ProviderId(0)).taken,
        0,
        "a cancelled exchange gives its place back once"
    );
}

#[test]
fn who_leaves_while_waiting_leaves_the_queue() {
    let (mut core, chain) = capped(1);
    let mut holder = Flight::begin(&mut core, chain, ask(0));
    attempt(holder.next(&mut core, 0));
    let mut waiter = Flight::begin(&mut core, chain, ask(0));
    waiter.next(&mut core, 0);
    assert_eq!(core.shared().bulkhead(ProviderId(0)).waiting, 1);
    waiter.cancel(&mut core, 1);
    assert_eq!(core.shared().bulkhead(ProviderId(0)).waiting, 0);
}

#[test]
fn a_dead_connection_keeps_its_place_and_its_probe() {
    let (mut core, chain) = capped(1);
    let mut flight = Flight::begin(&mut core, chain, ask(0));
    let first = attempt(flight.next(&mut core, 0));
    flight.settle(&mut core, 0, first.no, Outcome::StaleConnection);
    assert_eq!(core.shared().bulkhead(ProviderId(0)).taken, 1);
    let again = attempt(flight.next(&mut core, 0));
    flight.settle(&mut core, 0, again.no, ok());
    assert_eq!(core.shared().bulkhead(ProviderId(0)).taken, 0);
    let mut flight = Flight::begin(&mut core, chain, ask(0));
    let first = attempt(flight.next(&mut core, 0));
    flight.settle(&mut core, 0, first.no, Outcome::StaleConnection);
    flight.cancel(&mut core, 0);
    assert_eq!(core.shared().bulkhead(ProviderId(0)).taken, 0);
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
fn callers_who_give_up_on_a_hanging_provider_open_its_breaker() {
    for leaves in [true, false] {
        let (mut core, chain) = two();
        for n in 0..5 {
            let now = n * 100 * S;
            let mut flight = Flight::begin(&mut core, chain, Ask { stream: true, ..ask(now) });
            let first = attempt(flight.next(&mut core, now));
            assert_eq!(first.provider, ProviderId(0));
            match leaves {
                true => flight.cancel(&mut core, now + 60 * S),
                false => {
                    let late = attribute(Signal::Transport(What::Timeout(TimeoutKind::Deadline)));
                    flight.settle(&mut core, now + 60 * S, first.no, Outcome::Failure(late));
                }
            }
        }
        let slot = chain.targets()[0].slot;
        let opened = core.shared().breaker(slot, 500 * S).unwrap().opened;
        assert_eq!(opened[0], 1, "{leaves}");
    }
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

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let what = prop::sample::select(vec![
        What::Connect,
        What::Reset,
        What::Truncated,
        What::Check,
        What::Timeout(TimeoutKind::FirstToken),
        What::Timeout(TimeoutKind::Deadline),
    ]);
    let kind = prop::sample::select(vec![
        ErrorKind::Unknown,
        ErrorKind::Quota,
        ErrorKind::ContextLength,
        ErrorKind::ModelNotFound,
    ]);
    prop_oneof![
        1 => Just(ok()),
        1 => Just(Outcome::Cancelled),
        2 => Just(Outcome::StaleConnection),
        4 => what.prop_map(|what| Outcome::Failure(attribute(Signal::Transport(what)))),
        1 => Just(Outcome::Failure(attribute(Signal::Transport(What::Truncated)).after_commit())),
        6 => (100u16..600, kind, prop::option::of(0u64..100 * S)).prop_map(|(status, kind, retry_after_us)| {
            Outcome::Failure(attribute(Signal::Status { status, kind, retry_after_us }))
        }),
    ]
}

proptest! {
    #[test]
    fn whatever_providers_do_a_walk_ends_and_gives_everything_back(
        outcomes in prop::collection::vec((any_outcome(), 0u64..2 * S), 1..120),
        keys in prop::collection::vec(0usize..4, 1..5),
        retries in prop::option::of(0u8..4),
        cap in prop::option::of(1u32..3),
        deadline in prop::option::of(0u64..20 * S),
        stream: bool,
    ) {
        let providers = keys.iter().enumerate().map(|(n, &keys)| {
            let mut p = ProviderSettings::new(&format!("p{n}")).with_keys(&vec![1.0; keys]);
            p.retry.max_retries = retries;
            p.bulkhead.concurrent_max = cap;
            p
        });
        let mut core = core_of(providers.collect());
        let chain = chain(&core, &(0..keys.len() as u16).collect::<Vec<_>>());
        let mut outcomes = outcomes.into_iter();
        let mut now = S;
        for _ in 0..60 {
            now += S / 4;
            let begun = now;
            let deadline_us = deadline.map(|d| begun + d);
            let mut flight = Flight::begin(&mut core, chain, Ask { stream, deadline_us, ..ask(begun) });
            let (mut answered, mut committed) = (false, false);
            for _ in 0..100 {
                match flight.next(&mut core, now) {
                    Step::Attempt(attempt) => {
                        prop_assert!(!answered && !committed);
                        prop_assert!(deadline_us.is_none_or(|d| now < d && attempt.total_by_us <= d));
                        prop_assert!(attempt.connect_by_us <= attempt.first_token_by_us);
                        prop_assert!(attempt.first_token_by_us <= attempt.answer_by_us);
                        prop_assert!(attempt.answer_by_us <= attempt.total_by_us);
                        let (outcome, takes) = outcomes.next().unwrap_or((ok(), 0));
                        now += takes;
                        answered = matches!(outcome, Outcome::Success(_));
                        committed = matches!(outcome, Outcome::Failure(f) if f.committed);
                        let settled = flight.settle(&mut core, now, attempt.no, outcome);
                        prop_assert!(!(settled.more && (answered || committed)));
                        if answered || outcome == Outcome::Cancelled {
                            break;
                        }
                    }
                    Step::Wait { until_us, why } => {
                        prop_assert!(until_us > now && why != WaitReason::InFlight);
                        now = until_us;
                    }
                    Step::GiveUp(end) => {
                        let advice = downstream::advise(&end);
                        prop_assert!((400..600).contains(&advice.status));
                        prop_assert!(advice.retry_after_s.is_none_or(|s| (1..=60).contains(&s)));
                        prop_assert!(end.best.is_some() || end.attempts.is_empty() || end.cause == Cause::Cancelled);
                        break;
                    }
                    Step::Static(_) => prop_assert!(false, "none is configured"),
                }
                prop_assert!(flight.attempts().len() <= settings::ATTEMPTS_MAX);
            }
            flight.cancel(&mut core, now);
            for p in 0..keys.len() as u16 {
                prop_assert_eq!(core.shared().bulkhead(ProviderId(p)), bulkhead::BulkheadView::default());
            }
        }
    }
}
