//! Second calls: when one is made, of whom, and what the walk knows of it afterwards.

use std::sync::Arc;

use super::super::flight_tests::{ask, attempt, chain, gave_up, hinted, ok, status};
use super::super::{
    Ask, Attempt, Chain, Core, Flight, Outcome, ProviderId, ProviderSettings, Reason, Settings, Shared,
    Signal, What, attribute, hedge,
};

const S: u64 = 1_000_000;

/// Three providers of which every request may be hedged, with hedges saved up.
fn three() -> (Core, Chain) {
    let mut settings = Settings::new(["a", "b", "c"].map(ProviderSettings::new).to_vec());
    settings.policies[0].hedge = Some(hedge::HedgeSettings { percent_max: 100, delay_min_us: 200_000 });
    let settings = Arc::new(settings);
    let mut core = Core::new(Arc::clone(&settings), Arc::new(Shared::new(&settings, 1)), 0, 1);
    let chain = chain(&core, &[0, 1, 2]);
    (0..5).for_each(|_| drop(begin(&mut core, chain)));
    (core, chain)
}

fn begin(core: &mut Core, chain: Chain) -> Flight {
    Flight::begin(core, chain, Ask { stream: true, ..ask(S) })
}

fn first_of(core: &mut Core, chain: Chain) -> (Flight, Attempt) {
    let mut flight = begin(core, chain);
    let first = attempt(flight.next(core, S));
    (flight, first)
}

/// Ends a call in a way that is not tried again at the same target.
fn cut() -> Outcome {
    Outcome::Failure(attribute(Signal::Transport(What::Truncated)))
}

/// Lets the core learn how slow this provider usually is.
fn taught(core: &mut Core, provider: u16) {
    let alone = chain(core, &[provider]);
    for _ in 0..32 {
        let (mut flight, only) = first_of(core, alone);
        flight.first_token(core, S + 400_000, only.no);
        flight.settle(core, S + 900_000, only.no, ok());
    }
}

/// Lets the only key of this provider rest for a minute.
fn rested(core: &mut Core, provider: u16) {
    let alone = chain(core, &[provider]);
    let (mut flight, only) = first_of(core, alone);
    flight.settle(core, S, only.no, hinted(429, Some(60 * S)));
}

#[test]
fn no_second_call_is_made_before_the_first() {
    let (mut core, chain) = three();
    assert_eq!(begin(&mut core, chain).hedge(&mut core, S), None);
}

#[test]
fn a_call_that_has_content_is_not_joined_by_a_second_one() {
    let (mut core, chain) = three();
    let (mut flight, first) = first_of(&mut core, chain);
    flight.first_token(&mut core, S + 1, first.no);
    assert_eq!(flight.hedge(&mut core, S + 2), None);
}

#[test]
fn one_hedge_an_exchange_although_it_failed_and_a_third_target_is_well() {
    let (mut core, chain) = three();
    let (mut flight, _) = first_of(&mut core, chain);
    let second = flight.hedge(&mut core, S).unwrap();
    flight.settle(&mut core, S, second.no, status(503));
    assert_eq!(flight.hedge(&mut core, S), None);
}

#[test]
fn no_second_call_begins_at_the_end_of_the_exchanges_time() {
    let (mut core, chain) = three();
    let end_us = S + core.settings().exchange_total_us;
    for (now_us, made) in [(end_us, false), (end_us - 1, true)] {
        let (mut flight, first) = first_of(&mut core, chain);
        assert_eq!(first.total_by_us, end_us);
        assert_eq!(flight.hedge(&mut core, now_us).is_some(), made);
    }
}

#[test]
fn a_hedge_goes_neither_to_the_target_that_runs_nor_to_one_that_was_passed_over() {
    let (mut core, chain) = three();
    rested(&mut core, 0);
    let (mut flight, first) = first_of(&mut core, chain);
    assert_eq!((first.target, first.provider), (1, ProviderId(1)));
    let second = flight.hedge(&mut core, S).unwrap();
    assert_eq!((second.target, second.provider, second.slot), (2, ProviderId(2), chain.targets()[2].slot));
}

#[test]
fn when_both_of_a_pair_fail_the_walk_goes_on_with_neither() {
    let (mut core, chain) = three();
    let (mut flight, first) = first_of(&mut core, chain);
    let second = flight.hedge(&mut core, S).unwrap();
    assert_eq!(second.target, 1);
    flight.settle(&mut core, S, first.no, cut());
    flight.settle(&mut core, S, second.no, cut());
    let third = attempt(flight.next(&mut core, S));
    assert_eq!((third.target, third.reason), (2, Reason::Fallback));
    flight.settle(&mut core, S, third.no, cut());
    assert_eq!(gave_up(flight.next(&mut core, S)).attempts.len(), 3);
}

#[test]
fn a_hedge_is_planned_only_while_another_target_is_left() {
    let (mut core, all) = three();
    taught(&mut core, 1);
    rested(&mut core, 0);
    let chains = [(chain(&core, &[1]), false), (chain(&core, &[0, 1]), false), (all, true)];
    for (chain, planned) in chains {
        let (_, first) = first_of(&mut core, chain);
        assert_eq!((first.provider, first.reason), (ProviderId(1), Reason::First));
        assert_eq!(first.hedge_at_us.is_some(), planned, "{} targets", chain.len());
    }
}

#[test]
fn no_hedge_is_planned_for_a_fallback() {
    let (mut core, chain) = three();
    taught(&mut core, 1);
    let (mut flight, first) = first_of(&mut core, chain);
    flight.settle(&mut core, S, first.no, cut());
    let second = attempt(flight.next(&mut core, S));
    assert_eq!((second.provider, second.reason, second.hedge_at_us), (ProviderId(1), Reason::Fallback, None));
}

#[test]
fn no_hedge_is_planned_for_the_end_of_the_callers_time_or_later() {
    let (mut core, chain) = three();
    taught(&mut core, 0);
    let planned_us = first_of(&mut core, chain).1.hedge_at_us.unwrap();
    for (deadline_us, planned) in [(planned_us, None), (planned_us + 1, Some(planned_us))] {
        let asked = Ask { stream: true, deadline_us: Some(deadline_us), ..ask(S) };
        let first = attempt(Flight::begin(&mut core, chain, asked).next(&mut core, S));
        assert_eq!((first.provider, first.hedge_at_us), (ProviderId(0), planned));
    }
}
