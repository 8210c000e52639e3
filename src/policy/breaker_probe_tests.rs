//! The one request that finds out whether a target is well again.

use proptest::prelude::*;

use super::tests::{Bench, S};
use super::*;

#[test]
fn one_probe_goes_through_and_its_success_lets_traffic_ramp_up() {
    let mut b = Bench::new();
    let due = b.trip(S);
    assert_eq!(b.breaker.claim_probe(due - 1, due + S), None);
    assert_eq!(b.door(due), Door::Probe);
    let ticket = b.breaker.claim_probe(due, due + 8 * S).expect("due");
    assert_eq!(b.breaker.claim_probe(due + 1, due + 8 * S), None);
    assert_eq!(b.door(due + 1), Door::Shut(due + 8 * S));
    let back = due + S;
    b.say_on(1, back, due, Some(ticket), Verdict::Works { first_token_us: 1 });
    assert_eq!(b.door(back), Door::Ajar(100));
    assert_eq!(b.door(back + 5 * S), Door::Ajar(500));
    assert_eq!(b.door(back + 10 * S), Door::Open);
    b.work(back + 10 * S);
    assert_eq!(b.breaker.view(back + 10 * S).phase, Phase::Closed);
    assert_eq!(b.breaker.view(back + 10 * S).trips, 0);
}

#[test]
fn a_probe_that_is_answered_slowly_finds_the_target_still_slow() {
    let mut b = Bench::new();
    b.settings.slow_call_us = Some(5 * S);
    let due = b.trip(S);
    let ticket = b.breaker.claim_probe(due, due + 8 * S);
    let slow = Verdict::Works { first_token_us: 5 * S + 1 };
    assert_eq!(b.say_on(0, due + 6 * S, due, ticket, slow), Some(Trip::Probe));
    assert!(matches!(b.door(due + 6 * S), Door::Shut(_)));
}

#[test]
fn failed_probes_double_the_wait_up_to_thirty_seconds() {
    let mut b = Bench::new();
    let mut now = b.trip(S);
    for expected in [2, 4, 8, 16, 24, 24] {
        let ticket = b.breaker.claim_probe(now, now + S).expect("due");
        assert_eq!(b.say_on(0, now, now, Some(ticket), Verdict::Fails { tokens: 1 }), Some(Trip::Probe));
        let Door::Shut(until) = b.door(now) else { panic!() };
        assert!((expected * S..=(expected * S * 5 / 4).min(30 * S)).contains(&(until - now)), "{expected}");
        now = until;
    }
}

#[test]
fn eight_minutes_of_outage_see_at_most_thirty_probes() {
    for seed in 0..200 {
        let mut b = Bench { random: Random::new(seed), ..Bench::new() };
        let mut now = b.trip(0);
        let mut probes = 0;
        while now < 480 * S {
            let ticket = b.breaker.claim_probe(now, now + S).expect("due");
            b.say_on(0, now, now, Some(ticket), Verdict::Fails { tokens: 1 });
            probes += 1;
            let Door::Shut(until) = b.door(now) else { panic!() };
            assert!(until - now <= 30 * S, "a recovery is found within thirty seconds");
            now = until;
        }
        assert!(probes <= 30, "{probes}");
    }
}

#[test]
fn a_probe_that_says_nothing_opens_again_for_as_long_as_before() {
    let mut b = Bench::new();
    let due = b.trip(S);
    let ticket = b.breaker.claim_probe(due, due + S).expect("due");
    b.say_on(0, due, due, Some(ticket), Verdict::Unknown);
    assert!(matches!(b.door(due), Door::Shut(until) if (due + S..=due + S * 5 / 4).contains(&until)));
    assert_eq!(b.breaker.view(due).trips, 1);
}

#[test]
fn a_probe_that_never_reports_loses_its_lease() {
    let mut b = Bench::new();
    let due = b.trip(S);
    let lost = b.breaker.claim_probe(due, due + 8 * S).expect("due");
    assert_eq!(b.breaker.claim_probe(due + 8 * S - 1, due + 9 * S), None);
    let second = b.breaker.claim_probe(due + 8 * S, due + 8 * S).expect("the lease is over");
    b.say_on(0, due + 9 * S, due, Some(lost), Verdict::Works { first_token_us: 1 });
    assert!(!matches!(b.door(due + 9 * S), Door::Ajar(_)), "its late word no longer counts");
    b.say_on(0, due + 9 * S, due, Some(second), Verdict::Works { first_token_us: 1 });
    assert!(matches!(b.door(due + 9 * S), Door::Ajar(_)));
}

proptest! {
    #[test]
    fn whatever_happens_at_most_one_probe_is_out(
        steps in prop::collection::vec((0u64..3 * S, 0u8..4, 0usize..2), 1..300), seed: u64,
    ) {
        let mut b = Bench { random: Random::new(seed), ..Bench::new() };
        let mut now = 0;
        let mut held: Option<(ProbeTicket, u64)> = None;
        for (gap, action, core) in steps {
            now += gap;
            held = held.filter(|&(_, lease)| now < lease);
            match (action, held) {
                (0, _) => {
                    if let Some(ticket) = b.breaker.claim_probe(now, now + 5 * S) {
                        prop_assert!(held.is_none(), "a second probe while one is out");
                        held = Some((ticket, now + 5 * S));
                    }
                }
                (1, Some((ticket, _))) => {
                    let verdict = if seed.is_multiple_of(2) { Verdict::Works { first_token_us: 1 } } else { Verdict::Unknown };
                    b.say_on(core, now, now, Some(ticket), verdict);
                    held = None;
                }
                (2, _) => { b.say_on(core, now, now, None, Verdict::Works { first_token_us: 1 }); }
                _ => { b.say_on(core, now, now, None, Verdict::Fails { tokens: 1 }); }
            }
            if let Door::Shut(until) = b.door(now) {
                prop_assert!(until > now && until <= now + 30 * S);
            }
        }
    }
}

#[test]
fn a_probe_holds_the_door_although_its_lease_was_over_before_it_began() {
    let mut b = Bench::new();
    let now = b.trip(0) + 5;
    let first = b.breaker.claim_probe(now, 0).expect("it is due");
    assert_eq!(b.door(now), Door::Shut(now + 1));
    assert!(b.breaker.claim_probe(now, 0).is_none(), "one probe at a time");
    let second = b.breaker.claim_probe(now + 1, 0).expect("the first never reported");
    b.say_on(0, now + 1, now, Some(first), Verdict::Works { first_token_us: 1 });
    assert_eq!(b.door(now + 1), Door::Shut(now + 2), "what the first says late settles nothing");
    b.say_on(0, now + 1, now + 1, Some(second), Verdict::Works { first_token_us: 1 });
    assert!(matches!(b.door(now + 1), Door::Ajar(_)));
}
