//! Second calls: when one is made, of whom, and what the walk knows of it afterwards.

use super::*;

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
