//! Keys: which one a call uses, and how long one is left alone after it was refused.

use super::*;

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
fn an_account_without_credit_rests_for_a_minute_for_every_model() {
    let (mut core, first) = alone();
    run(&mut core, first, S, |_| status(402));
    let other = core.slot(ProviderId(0), b"other");
    let other = Chain::of(PolicyId(0), &[TargetRef::new(ProviderId(0), other)]);
    for now in [2 * S, 61 * S - 1] {
        let end = gave_up(Flight::begin(&mut core, other, ask(now)).next(&mut core, now));
        assert_eq!(end.skips.get(0).map(|skip| skip.reason), Some(SkipReason::KeysCooling));
    }
    attempt(Flight::begin(&mut core, other, ask(68 * S)).next(&mut core, 68 * S));
}

#[test]
fn each_key_is_asked_once_although_the_limit_says_to_come_back_at_once() {
    let mut core = core_of(vec![ProviderSettings::new("a").with_keys(&[1.0, 1.0, 1.0])]);
    let chain = chain(&core, &[0]);
    let mut flight = Flight::begin(&mut core, chain, ask(S));
    let mut keys = Vec::new();
    while let Step::Attempt(tried) = flight.next(&mut core, S) {
        keys.push(tried.key);
        flight.settle(&mut core, S, tried.no, hinted(429, Some(0)));
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!((keys.len(), flight.attempts().len()), (3, 3), "then it waits");
}

#[test]
fn a_model_that_no_key_may_serve_is_the_operators_to_fix_and_not_worth_waiting_for() {
    let mut core = core_of(vec![ProviderSettings::new("a").with_keys(&[1.0])]);
    let target = TargetRef { keys: 0, ..TargetRef::new(ProviderId(0), core.slot(ProviderId(0), b"m")) };
    let end = gave_up(Flight::begin(&mut core, Chain::of(PolicyId(0), &[target]), ask(S)).next(&mut core, S));
    assert_eq!(end.skips.get(0).map(|skip| skip.reason), Some(SkipReason::NoKey));
    assert_eq!(end.retry_after_us, None);
}

#[test]
fn a_target_whose_keys_rest_is_passed_over_once() {
    let (mut core, chain) = two();
    let second = Chain::of(PolicyId(0), &chain.targets()[1..]);
    run(&mut core, second, S, |_| hinted(429, Some(60 * S)));
    let before = core.counters().skips[SkipReason::KeysCooling as usize];
    let mut flight = Flight::begin(&mut core, chain, ask(2 * S));
    let first = attempt(flight.next(&mut core, 2 * S));
    flight.settle(&mut core, 2 * S, first.no, cut());
    gave_up(flight.next(&mut core, 2 * S));
    assert_eq!(core.counters().skips[SkipReason::KeysCooling as usize] - before, 1);
}
