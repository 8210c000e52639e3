//! What may be sent again: retry budgets, what targets owe for their fallbacks, and the money of a minute.

use super::*;

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
