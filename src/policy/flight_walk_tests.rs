//! What one walk remembers from step to step, its time, and what it says at its end.

use super::*;

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
