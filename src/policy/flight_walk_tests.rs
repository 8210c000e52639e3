//! What one walk remembers from step to step: targets that are left for good, its place in a queue, its time,
//! and what it says at its end.

use super::super::bulkhead::POLL_US;
use super::super::flight_tests::{ask, attempt, chain, core_of, gave_up, hinted, ok, run, status, two};
use super::super::{
    Ask, Cause, Chain, Flight, Outcome, PolicyId, ProviderId, ProviderSettings, Reason, Signal, SkipReason,
    Step, TargetRef, WaitReason, What, attribute,
};

const S: u64 = 1_000_000;

/// Ends a call in a way that is not tried again at the same target.
fn cut() -> Outcome {
    Outcome::Failure(attribute(Signal::Transport(What::Truncated)))
}

fn capped(name: &str, queue_max: u32) -> ProviderSettings {
    let mut provider = ProviderSettings::new(name);
    provider.bulkhead.concurrent_max = Some(1);
    provider.bulkhead.queue_max = queue_max;
    provider
}

#[test]
fn an_exchange_keeps_what_was_asked() {
    let (mut core, chain) = two();
    let asked = Ask { stream: true, body_bytes: 7, deadline_us: Some(9 * S), ..ask(S) };
    assert_eq!(Flight::begin(&mut core, chain, asked).ask(), &asked);
}

#[test]
fn a_chain_without_targets_is_given_up_at_once() {
    let (mut core, _) = two();
    let end = gave_up(Flight::begin(&mut core, Chain::new(PolicyId(0)), ask(S)).next(&mut core, S));
    assert_eq!((end.cause, end.attempts.len(), end.retry_after_us), (Cause::Unavailable, 0, None));
}

#[test]
fn a_dead_connection_is_not_replaced_at_the_callers_deadline() {
    for (now_us, again) in [(2 * S - 1, true), (2 * S, false)] {
        let (mut core, chain) = two();
        let asked = Ask { deadline_us: Some(2 * S), ..ask(S) };
        let mut flight = Flight::begin(&mut core, chain, asked);
        let first = attempt(flight.next(&mut core, S));
        flight.settle(&mut core, now_us, first.no, Outcome::StaleConnection);
        match flight.next(&mut core, now_us) {
            Step::Attempt(next) => assert!(again && next.fresh_connection),
            step => assert!(!again && gave_up(step).cause == Cause::Deadline),
        }
    }
}

#[test]
fn a_whole_answer_has_the_time_of_a_first_token_while_another_target_is_left() {
    let mut core = core_of(["a", "b", "c"].map(ProviderSettings::new).to_vec());
    let chain = chain(&core, &[0, 1, 2]);
    let mut flight = Flight::begin(&mut core, chain, ask(S));
    let limits = core.settings().providers[0].timeouts;
    for (index, target) in chain.targets().iter().enumerate() {
        let tried = attempt(flight.next(&mut core, S));
        let place = (usize::from(tried.target), tried.provider, tried.slot);
        assert_eq!(place, (index, target.provider, target.slot));
        let most_us = if index < 2 { limits.first_token_us } else { limits.total_us };
        assert_eq!(tried.answer_by_us, S + most_us, "target {index}");
        flight.settle(&mut core, S, tried.no, cut());
    }
    assert_eq!(gave_up(flight.next(&mut core, S)).attempts.len(), 3);
}

#[test]
fn a_probe_has_eight_times_the_median_of_a_slow_target() {
    let mut core = core_of(vec![ProviderSettings::new("a")]);
    let chain = chain(&core, &[0]);
    for n in 0..13 {
        let mut flight = Flight::begin(&mut core, chain, Ask { stream: true, ..ask(S) });
        let only = attempt(flight.next(&mut core, S));
        if n < 8 {
            flight.first_token(&mut core, 3 * S, only.no);
        }
        flight.settle(&mut core, 3 * S, only.no, if n < 8 { ok() } else { cut() });
    }
    let median_us = core.shared().first_token(chain.targets()[0].slot).0.unwrap();
    assert!(median_us > 3 * S / 2, "{median_us}: eight of them are more than the least that a probe has");
    let now_us = 6 * S;
    let mut flight = Flight::begin(&mut core, chain, Ask { stream: true, ..ask(now_us) });
    let probe = attempt(flight.next(&mut core, now_us));
    assert!(probe.probe);
    assert_eq!(probe.first_token_by_us, now_us + 8 * median_us);
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

#[test]
fn targets_that_failed_or_were_full_are_left_for_good_when_a_place_is_waited_for() {
    let mut core = core_of(vec![ProviderSettings::new("a"), capped("b", 0), capped("c", 1)]);
    let holders = [1, 2].map(|provider| {
        let alone = chain(&core, &[provider]);
        let mut flight = Flight::begin(&mut core, alone, ask(S));
        let held = attempt(flight.next(&mut core, S));
        (flight, held.no)
    });
    let all = chain(&core, &[0, 1, 2]);
    let mut flight = Flight::begin(&mut core, all, ask(S));
    let first = attempt(flight.next(&mut core, S));
    flight.settle(&mut core, S, first.no, cut());
    assert!(matches!(flight.next(&mut core, S), Step::Wait { why: WaitReason::Queue, .. }));
    for (mut holder, no) in holders {
        holder.settle(&mut core, S, no, ok());
    }
    let last = attempt(flight.next(&mut core, S + POLL_US));
    assert_eq!((last.target, last.provider, last.reason), (2, ProviderId(2), Reason::Fallback));
    flight.settle(&mut core, S + POLL_US, last.no, cut());
    let end = gave_up(flight.next(&mut core, S + POLL_US));
    assert_eq!(end.attempts.len(), 2, "neither of the three is asked again");
    assert_eq!(end.skips.get(1).map(|skip| skip.reason), Some(SkipReason::Full));
}

#[test]
fn who_waits_for_a_place_asks_every_five_milliseconds_and_at_the_end_of_the_wait() {
    let mut core = core_of(vec![capped("a", 1)]);
    let chain = chain(&core, &[0]);
    let end_us = S + core.settings().providers[0].bulkhead.queue_wait_us;
    let mut holder = Flight::begin(&mut core, chain, ask(S));
    attempt(holder.next(&mut core, S));
    let mut waiter = Flight::begin(&mut core, chain, ask(S));
    for (now_us, until_us) in [(S, S + 5_000), (S + 5_000, S + 10_000), (end_us - 1, end_us)] {
        assert_eq!(waiter.next(&mut core, now_us), Step::Wait { until_us, why: WaitReason::Queue });
    }
    assert_eq!(gave_up(waiter.next(&mut core, end_us)).cause, Cause::Unavailable);
}

#[test]
fn only_a_choice_between_equals_draws_from_the_generator() {
    let (mut core, _) = two();
    for (groups, draws) in [([0, 0], false), ([1, 2], false), ([1, 1], true)] {
        let targets = [0, 1].map(|n| {
            let slot = core.slot(ProviderId(n), b"m");
            TargetRef { group: groups[usize::from(n)], ..TargetRef::new(ProviderId(n), slot) }
        });
        let mut before = core.random.clone();
        Flight::begin(&mut core, Chain::of(PolicyId(0), &targets), ask(S));
        assert_eq!(core.random.clone().bits() != before.bits(), draws, "{groups:?}");
    }
}

#[test]
fn a_clients_own_retries_earn_nothing() {
    for (client_retries, earned) in [(0, 1_000), (1, 0)] {
        let mut a = ProviderSettings::new("a");
        a.budget.floor_per_second = 0;
        let mut core = core_of(vec![a]);
        let chain = chain(&core, &[0]);
        (0..10).for_each(|_| drop(Flight::begin(&mut core, chain, Ask { client_retries, ..ask(S) })));
        assert_eq!(core.shared().budget(core.settings(), ProviderId(0), S).left_milli, earned);
    }
}

#[test]
fn a_clients_next_retry_is_left_to_it_twice_and_then_advised_against() {
    for (outcome, cause) in [(cut(), Cause::Failed), (status(422), Cause::Caller)] {
        for client_retries in 0..4 {
            let mut core = core_of(vec![ProviderSettings::new("a")]);
            let chain = chain(&core, &[0]);
            let mut flight = Flight::begin(&mut core, chain, Ask { client_retries, ..ask(S) });
            let only = attempt(flight.next(&mut core, S));
            flight.settle(&mut core, S, only.no, outcome);
            let end = gave_up(flight.next(&mut core, S));
            assert_eq!(end.cause, cause);
            let ours = cause == Cause::Failed;
            let advice = (ours && client_retries >= 2).then_some(false);
            assert_eq!(end.should_retry, advice, "{cause:?} after {client_retries}");
            assert_eq!(end.retry_after_us, ours.then_some(0), "it could be asked at once");
        }
    }
}
