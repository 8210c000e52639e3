//! Targets that are down: when they are left alone, and how they are found to be well again.

use super::super::breaker::Phase;
use super::*;

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
    while !matches!(core.shared().breaker(chain.targets()[0].slot, now).unwrap().phase, Phase::Open) {
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
