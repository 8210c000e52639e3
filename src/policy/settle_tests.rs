//! What follows from the end of an attempt, seen from the exchanges that come after it.

use super::super::breaker::Phase;
use super::super::flight_tests::{
    ask, attempt, chain, core_of, gave_up, hedging, hinted, ok, run, status, two,
};
use super::super::{
    Ask, Cause, Chain, Core, Flight, Outcome, PolicyId, ProviderId, ProviderSettings, RetrySettings,
    Settings, Shared, Signal, SkipReason, Step, Success, TargetRef, TimeoutKind, What, attribute,
};
use std::sync::Arc;

const S: u64 = 1_000_000;

fn transport(what: What) -> Outcome {
    Outcome::Failure(attribute(Signal::Transport(what)))
}

fn alone() -> (Core, Chain) {
    let core = core_of(vec![ProviderSettings::new("a").with_keys(&[1.0])]);
    let chain = chain(&core, &[0]);
    (core, chain)
}

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
fn an_outage_that_is_old_news_holds_nobody_back_but_its_share() {
    let (mut core, chain) = two();
    for _ in 0..5 {
        run(&mut core, chain, S, |a| if a.provider == ProviderId(0) { status(500) } else { ok() });
    }
    let now = 100 * S;
    let mut to_the_first = 0;
    for _ in 0..200 {
        let mut flight = Flight::begin(&mut core, chain, ask(now));
        let first = attempt(flight.next(&mut core, now));
        assert!(!first.probe, "nobody asked for half a minute: there is no one probe");
        to_the_first += u32::from(first.provider == ProviderId(0));
    }
    assert!((5..50).contains(&to_the_first), "a tenth: {to_the_first}");
}

#[test]
fn a_fallback_is_charged_a_third_more_than_a_retry_that_a_budget_could_have_refused() {
    for (retries, over) in [(1, false), (0, true)] {
        let mut a = ProviderSettings::new("a");
        a.retry = RetrySettings { max_retries: Some(retries), backoff_initial_us: 0, backoff_max_us: 0 };
        let mut core = core_of(vec![a.clone(), ProviderSettings::new("b")]);
        let chain = chain(&core, &[0, 1]);
        (0..12).for_each(|_| drop(run(&mut core, chain, S, |_| ok())));
        // Thirteen requests earn 1.3 calls: a retry costs 1, a fallback 1.33.
        let mut failed = false;
        let mut flight = Flight::begin(&mut core, chain, ask(S));
        while let Step::Attempt(tried) = flight.next(&mut core, S) {
            let outcome = if failed { ok() } else { status(500) };
            failed = true;
            flight.settle(&mut core, S, tried.no, outcome);
            if flight.winner().is_some() {
                break;
            }
        }
        assert_eq!(core.shared().strain.is_over(&a.budget), over, "{retries}");
    }
}

#[test]
fn money_refuses_a_fallback_only_when_the_first_call_may_have_been_billed() {
    let settings = || {
        let mut settings = Settings::new(["a", "b"].map(ProviderSettings::new).to_vec());
        settings.retry_nano_usd_per_minute = Some(0);
        Arc::new(settings)
    };
    let timeout = What::Timeout(TimeoutKind::FirstToken);
    for (outcome, follows) in [(status(503), true), (transport(timeout), false)] {
        let settings = settings();
        let mut core = Core::new(Arc::clone(&settings), Arc::new(Shared::new(&settings, 1)), 0, 1);
        let chain = chain(&core, &[0, 1]);
        let mut flight = Flight::begin(&mut core, chain, ask(130 * S));
        let first = attempt(flight.next(&mut core, 130 * S));
        flight.settle(&mut core, 130 * S, first.no, outcome);
        match flight.next(&mut core, 130 * S) {
            Step::Attempt(next) => assert!(follows && next.provider == ProviderId(1)),
            step => {
                let end = gave_up(step);
                assert!(!follows && end.cause == Cause::Failed);
                let skip = end.skips.get(1).expect("the second was passed over");
                let next_minute = Some(180 * S);
                assert_eq!((skip.reason, skip.until_us), (SkipReason::MoneySpent, next_minute));
            }
        }
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

/// Makes a target owe for this many fallbacks, now.
fn charge(core: &Core, place: usize, chain: &Chain, calls: u32) {
    let budget = core.settings().providers[place].budget;
    let cells = core.shared().cells(chain.targets()[place].slot).expect("met");
    (0..calls).for_each(|_| cells.strain.charge(&budget, S, false));
}

#[test]
fn a_target_that_owes_is_asked_last_although_everything_together_is_well() {
    let (mut core, chain) = two();
    let first = |core: &mut Core| attempt(Flight::begin(core, chain, ask(S)).next(core, S)).provider;
    assert_eq!(first(&mut core), ProviderId(0));
    charge(&core, 0, &chain, 9);
    assert_eq!(first(&mut core), ProviderId(1));
}

#[test]
fn with_everything_over_its_share_a_fallback_goes_only_to_a_target_that_is_well() {
    for (owes, asked) in [(0, true), (5, false)] {
        let (mut core, chain) = two();
        let mut flight = Flight::begin(&mut core, chain, ask(S));
        let first = attempt(flight.next(&mut core, S));
        charge(&core, 1, &chain, owes);
        core.shared().strain.charge(&core.settings().providers[0].budget, S, false);
        flight.settle(&mut core, S, first.no, transport(What::Truncated));
        match flight.next(&mut core, S) {
            Step::Attempt(next) => assert!(asked && next.provider == ProviderId(1)),
            step => {
                let end = gave_up(step);
                assert!(!asked);
                assert_eq!(end.skips.get(1).map(|skip| skip.reason), Some(SkipReason::BudgetSpent));
            }
        }
    }
}

#[test]
fn a_call_that_is_refused_by_a_budget_gives_its_place_back() {
    let mut a = ProviderSettings::new("a");
    a.budget.floor_per_second = 0;
    a.bulkhead.concurrent_max = Some(1);
    let mut core = core_of(vec![a]);
    let chain = chain(&core, &[0]);
    let retried = Ask { client_retries: 1, ..ask(S) };
    for _ in 0..3 {
        let end = gave_up(Flight::begin(&mut core, chain, retried).next(&mut core, S));
        assert_eq!(end.skips.get(0).map(|skip| skip.reason), Some(SkipReason::BudgetSpent));
        assert_eq!(core.shared().bulkhead(ProviderId(0)).taken, 0);
    }
    attempt(Flight::begin(&mut core, chain, ask(S)).next(&mut core, S));
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
fn another_model_of_a_provider_that_failed_needs_a_token_and_another_provider_needs_none() {
    for (second, asked) in [(0, false), (1, true)] {
        let mut providers = ["a", "b"].map(ProviderSettings::new);
        providers.iter_mut().for_each(|p| (p.budget.percent, p.budget.floor_per_second) = (0, 0));
        let mut core = core_of(providers.to_vec());
        let slots = [core.slot(ProviderId(0), b"m"), core.slot(ProviderId(second), b"other")];
        let targets = [TargetRef::new(ProviderId(0), slots[0]), TargetRef::new(ProviderId(second), slots[1])];
        let mut flight = Flight::begin(&mut core, Chain::of(PolicyId(0), &targets), ask(S));
        let first = attempt(flight.next(&mut core, S));
        flight.settle(&mut core, S, first.no, transport(What::Truncated));
        match flight.next(&mut core, S) {
            Step::Attempt(_) => assert!(asked),
            step => {
                let end = gave_up(step);
                assert!(!asked);
                assert_eq!(end.skips.get(1).map(|skip| skip.reason), Some(SkipReason::BudgetSpent));
            }
        }
    }
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

#[test]
fn when_two_probes_race_the_slower_one_is_given_back_for_the_next_request() {
    let (mut core, chain) = hedging();
    for _ in 0..5 {
        run(&mut core, chain, 300 * S, |_| transport(What::Truncated));
    }
    let now = 303 * S;
    let mut flight = Flight::begin(&mut core, chain, Ask { stream: true, ..ask(now) });
    let first = attempt(flight.next(&mut core, now));
    let second = flight.hedge(&mut core, now + 1_000).expect("a probe may be a hedge");
    assert!(first.probe && second.probe);
    assert_eq!(flight.first_token(&mut core, now + 2_000, first.no), Some(second.no));
    flight.settle(&mut core, now + 2_000, second.no, Outcome::Cancelled);
    let phases = [0, 1].map(|n| core.shared().breaker(chain.targets()[n].slot, now + 2_000).unwrap().phase);
    assert_eq!(phases, [Phase::Ramping, Phase::Open]);
}
