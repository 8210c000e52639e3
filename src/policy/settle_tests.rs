//! What follows from the end of an attempt, seen from the exchanges that come after it.

use super::super::breaker::Phase;
use super::super::flight_tests::{
    S, alone, ask, attempt, chain, core_of, gave_up, hedging, hinted, ok, run, status, transport, two,
};
use super::super::{
    Ask, Cause, Core, Flight, Outcome, ProviderId, ProviderSettings, RetrySettings, Settings, Shared, Step,
    Success, TimeoutKind, What,
};
use std::sync::Arc;

#[test]
fn a_503_that_asks_for_rest_gets_it_and_a_plain_one_is_asked_again() {
    for (hint, called) in [(Some(20 * S), false), (None, true)] {
        let (mut core, chain) = two();
        run(&mut core, chain, S, |a| if a.provider == ProviderId(0) { hinted(503, hint) } else { ok() });
        let next = attempt(Flight::begin(&mut core, chain, ask(2 * S)).next(&mut core, 2 * S));
        assert_eq!(next.provider == ProviderId(0), called, "{hint:?}");
    }
}

#[test]
fn of_two_failures_alike_the_first_is_shown() {
    let (mut core, chain) = two();
    let mut flight = Flight::begin(&mut core, chain, ask(S));
    let first = attempt(flight.next(&mut core, S));
    assert!(flight.settle(&mut core, S, first.no, transport(What::Truncated)).keep);
    let second = attempt(flight.next(&mut core, S));
    assert!(!flight.settle(&mut core, S, second.no, transport(What::Truncated)).keep);
    assert_eq!(gave_up(flight.next(&mut core, S)).best, Some(0));
}

#[test]
fn who_leaves_at_once_or_during_the_answer_blames_nobody() {
    for (leaves_us, answering) in [(1_000, false), (60 * S, true)] {
        let (mut core, chain) = two();
        for n in 1..20 {
            let now = n * 100 * S;
            let mut flight = Flight::begin(&mut core, chain, Ask { stream: true, ..ask(now) });
            let first = attempt(flight.next(&mut core, now));
            assert_eq!(first.provider, ProviderId(0));
            if answering {
                flight.first_token(&mut core, now + 100_000, first.no);
            }
            flight.cancel(&mut core, now + leaves_us);
        }
        let view = core.shared().breaker(chain.targets()[0].slot, 1_900 * S + leaves_us).unwrap();
        assert_eq!((view.phase, view.tally.failures), (Phase::Closed, 0));
    }
}

#[test]
fn latency_is_the_first_token_of_a_stream_and_the_end_of_a_whole_answer() {
    let near = |seen: Option<u64>, us: u64| seen.is_some_and(|seen| seen.abs_diff(us) < us / 10);
    // Streams: seen while it came, else reported at the end, else the end itself.
    for (seen, reported, us) in [(true, 0, 300_000), (false, 400_000, 400_000), (false, 0, 900_000)] {
        for stream in [true, false] {
            let (mut core, chain) = alone();
            let slot = chain.targets()[0].slot;
            for n in 0..8 {
                let figures =
                    if stream { core.shared().first_token(slot) } else { core.shared().whole_answer(slot) };
                assert_eq!(figures.0, None, "one sample a call, {n} so far");
                let mut flight = Flight::begin(&mut core, chain, Ask { stream, ..ask(S) });
                let only = attempt(flight.next(&mut core, S));
                if seen {
                    flight.first_token(&mut core, S + 300_000, only.no);
                    flight.first_token(&mut core, S + 500_000, only.no);
                }
                let success = Success { first_token_us: reported, ..Success::default() };
                flight.settle(&mut core, S + 900_000, only.no, Outcome::Success(success));
            }
            let (first, whole) = (core.shared().first_token(slot).0, core.shared().whole_answer(slot).0);
            if stream {
                assert!(near(first, us) && whole.is_none(), "{seen} {reported}: {first:?} {whole:?}");
            } else {
                assert!(near(whole, 900_000) && first.is_none(), "{seen} {reported}: {first:?} {whole:?}");
            }
        }
    }
}

#[test]
fn a_retry_that_would_begin_at_the_deadline_gives_way_to_the_next_target() {
    let next = |deadline_us: Option<u64>| {
        let mut a = ProviderSettings::new("a");
        a.retry = RetrySettings { max_retries: Some(1), backoff_initial_us: S, backoff_max_us: S };
        let mut core = core_of(vec![a, ProviderSettings::new("b")]);
        let chain = chain(&core, &[0, 1]);
        let mut flight = Flight::begin(&mut core, chain, Ask { deadline_us, ..ask(0) });
        let first = attempt(flight.next(&mut core, 0));
        flight.settle(&mut core, 0, first.no, status(500));
        flight.next(&mut core, 0)
    };
    let Step::Wait { until_us, .. } = next(None) else { panic!("there is time") };
    assert!(matches!(next(Some(until_us + 1)), Step::Wait { .. }), "the same seed waits as long");
    assert_eq!(attempt(next(Some(until_us))).provider, ProviderId(1));
}

#[test]
fn retries_wait_twice_as_long_each_time_within_a_fifth() {
    let mut a = ProviderSettings::new("a");
    a.retry = RetrySettings { max_retries: Some(5), backoff_initial_us: S, backoff_max_us: 10 * S };
    a.breaker.failures_in_row = u32::MAX;
    let (mut least, mut most) = ([u64::MAX; 5], [0; 5]);
    for seed in 0..100 {
        let settings = Arc::new(Settings::new(vec![a.clone()]));
        let mut core = Core::new(Arc::clone(&settings), Arc::new(Shared::new(&settings, 1)), 0, seed);
        let chain = chain(&core, &[0]);
        let mut now = 1_000 * S;
        let mut flight = Flight::begin(&mut core, chain, ask(now));
        for n in 0..5 {
            let tried = attempt(flight.next(&mut core, now));
            flight.settle(&mut core, now, tried.no, status(500));
            let Step::Wait { until_us, .. } = flight.next(&mut core, now) else { break };
            (least[n], most[n]) = (least[n].min(until_us - now), most[n].max(until_us - now));
            now = until_us;
        }
    }
    for (n, expected) in [S, 2 * S, 4 * S, 8 * S, 10 * S].into_iter().enumerate() {
        let (low, high) = (expected * 4 / 5, expected * 6 / 5);
        assert!((low..low + expected / 10).contains(&least[n]), "{n}: {least:?}");
        assert!((high - expected / 10..=high).contains(&most[n]), "{n}: {most:?}");
    }
}

#[test]
fn the_slower_of_a_hedged_pair_is_not_blamed_for_being_cancelled() {
    let (mut core, chain) = hedging();
    let slots: Vec<_> = chain.targets().iter().map(|target| target.slot).collect();
    let now = 300 * S;
    let mut flight = Flight::begin(&mut core, chain, Ask { stream: true, ..ask(now) });
    let first = attempt(flight.next(&mut core, now));
    let second = flight.hedge(&mut core, now + 10 * S).expect("it is slow");
    flight.first_token(&mut core, now + 11 * S, second.no);
    flight.settle(&mut core, now + 11 * S, first.no, Outcome::Cancelled);
    let settled = flight.settle(&mut core, now + 12 * S, second.no, ok());
    assert!(!settled.more && !settled.keep);
    let tallies = slots.iter().map(|&slot| core.shared().breaker(slot, now + 12 * S).unwrap().tally);
    let tallies: Vec<_> = tallies.map(|tally| (tally.calls, tally.failures)).collect();
    assert_eq!(tallies, [(0, 0), (1, 0)]);
}

#[test]
fn a_503_of_the_last_target_is_asked_twice_more_and_one_before_it_is_not() {
    let (mut core, chain) = two();
    let (mut now, mut asked) = (S, Vec::new());
    let mut flight = Flight::begin(&mut core, chain, ask(now));
    loop {
        match flight.next(&mut core, now) {
            Step::Attempt(tried) => {
                asked.push(tried.provider.0);
                flight.settle(&mut core, now, tried.no, status(503));
            }
            Step::Wait { until_us, .. } => now = until_us,
            step => {
                assert_eq!(gave_up(step).cause, Cause::Failed);
                break;
            }
        }
    }
    assert_eq!(asked, [0, 1, 1, 1]);
}

#[test]
fn a_deadline_of_the_caller_ends_the_walk_although_the_gateway_saw_none() {
    let (mut core, chain) = two();
    let mut flight = Flight::begin(&mut core, chain, ask(S));
    let first = attempt(flight.next(&mut core, S));
    let late = transport(What::Timeout(TimeoutKind::Deadline));
    assert!(!flight.settle(&mut core, 2 * S, first.no, late).more);
    assert_eq!(gave_up(flight.next(&mut core, 2 * S)).cause, Cause::Deadline);
}

#[test]
fn a_call_that_was_cancelled_alone_ends_the_walk() {
    let (mut core, chain) = two();
    let mut flight = Flight::begin(&mut core, chain, ask(S));
    let first = attempt(flight.next(&mut core, S));
    assert!(!flight.settle(&mut core, 2 * S, first.no, Outcome::Cancelled).more);
    assert_eq!(gave_up(flight.next(&mut core, 2 * S)).cause, Cause::Cancelled);
}

#[test]
fn a_report_of_a_call_that_does_not_run_promises_nothing_once_the_walk_has_an_end_or_an_answer() {
    let (mut core, chain) = two();
    let mut flight = Flight::begin(&mut core, chain, Ask { stream: true, ..ask(S) });
    assert!(flight.settle(&mut core, S, 9, status(503)).more, "nothing was tried so far");
    let first = attempt(flight.next(&mut core, S));
    flight.first_token(&mut core, S, first.no);
    assert!(!flight.settle(&mut core, S, 9, status(503)).more, "the first one answers");
    let mut flight = Flight::begin(&mut core, chain, ask(S));
    let first = attempt(flight.next(&mut core, S));
    flight.settle(&mut core, S, first.no, status(422));
    assert!(!flight.settle(&mut core, S, first.no, status(503)).more, "the caller was at fault");
}

#[test]
fn a_stream_is_slow_by_its_first_token_and_not_by_its_length() {
    for (first_token_us, slow) in [(S / 2, 0), (2 * S, 1)] {
        let mut a = ProviderSettings::new("a");
        a.breaker.slow_call_us = Some(S);
        let mut core = core_of(vec![a]);
        let chain = chain(&core, &[0]);
        let mut flight = Flight::begin(&mut core, chain, Ask { stream: true, ..ask(S) });
        let only = attempt(flight.next(&mut core, S));
        flight.first_token(&mut core, S + first_token_us, only.no);
        flight.settle(&mut core, 60 * S, only.no, ok());
        let tally = core.shared().breaker(chain.targets()[0].slot, 60 * S).unwrap().tally;
        assert_eq!((tally.calls, tally.slow), (1, slow));
    }
}
