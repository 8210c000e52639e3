//! A breaker, seen from the requests it lets through.

use super::*;

pub(super) const S: u64 = super::super::settings::SECOND_US;

pub(super) struct Bench {
    pub(super) breaker: Breaker,
    pub(super) settings: BreakerSettings,
    pub(super) random: Random,
}

impl Bench {
    pub(super) fn new() -> Self {
        Bench { breaker: Breaker::new(2), settings: BreakerSettings::default(), random: Random::new(9) }
    }

    pub(super) fn say(&mut self, now_us: u64, verdict: Verdict) -> Option<Trip> {
        self.say_on(0, now_us, now_us, None, verdict)
    }

    pub(super) fn say_on(
        &mut self,
        core: usize,
        now_us: u64,
        started_us: u64,
        ticket: Option<ProbeTicket>,
        verdict: Verdict,
    ) -> Option<Trip> {
        self.breaker.record(&self.settings, core, now_us, started_us, ticket, verdict, &mut self.random)
    }

    pub(super) fn fail(&mut self, now_us: u64) -> Option<Trip> {
        self.say(now_us, Verdict::Fails { tokens: 10 })
    }

    pub(super) fn work(&mut self, now_us: u64) -> Option<Trip> {
        self.say(now_us, Verdict::Works { first_token_us: 1000 })
    }

    pub(super) fn door(&self, now_us: u64) -> Door {
        self.breaker.door(&self.settings, now_us)
    }

    /// Opens it and returns when it may be probed.
    pub(super) fn trip(&mut self, now_us: u64) -> u64 {
        while self.fail(now_us).is_none() {}
        match self.door(now_us) {
            Door::Shut(until) => until,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn five_failures_in_a_row_open_it_and_four_do_not() {
    let mut b = Bench::new();
    for _ in 0..4 {
        assert_eq!(b.fail(S), None);
    }
    assert_eq!(b.work(S), None);
    for _ in 0..4 {
        assert_eq!(b.fail(S), None);
    }
    assert_eq!(b.door(S), Door::Open);
    assert_eq!(b.fail(S), Some(Trip::InRow));
    assert!(matches!(b.door(S), Door::Shut(until) if (2 * S..=S * 9 / 4).contains(&until)));
}

#[test]
fn failures_on_different_cores_add_up() {
    let mut b = Bench::new();
    let opened: Vec<_> = (0..5).map(|n| b.say_on(n % 2, S, S, None, Verdict::Fails { tokens: 1 })).collect();
    assert_eq!(opened, [None, None, None, None, Some(Trip::InRow)]);
}

#[test]
fn half_of_twenty_failures_open_it_and_half_of_nineteen_do_not() {
    let mut b = Bench::new();
    for n in 0..18 {
        assert_eq!(if n % 2 == 0 { b.fail(S) } else { b.work(S) }, None);
    }
    assert_eq!(b.fail(S), None, "nineteen calls are too few for a share");
    assert_eq!(b.fail(S), Some(Trip::Share));
    assert_eq!(b.breaker.view(S).opened, [0, 1, 0, 0, 0]);
}

#[test]
fn a_share_below_half_never_opens_it() {
    let mut b = Bench::new();
    for n in 0..1000u64 {
        let now = n * S / 20;
        let opened = if n % 5 < 2 { b.fail(now) } else { b.work(now) };
        assert_eq!(opened, None);
    }
}

#[test]
fn slow_answers_open_it_only_when_asked_to() {
    for (limit, opens) in [(None, false), (Some(5 * S), true)] {
        let mut b = Bench::new();
        b.settings.slow_call_us = limit;
        let opened = (0..40).find_map(|n| b.say(S, Verdict::Works { first_token_us: (n % 2) * 15 * S }));
        assert_eq!(opened.is_some(), opens);
        assert!(opened.is_none_or(|trip| trip == Trip::Slow));
    }
}

#[test]
fn an_answer_exactly_at_the_slow_limit_is_not_slow() {
    let mut b = Bench::new();
    b.settings.slow_call_us = Some(5 * S);
    assert!((0..40).all(|_| b.say(S, Verdict::Works { first_token_us: 5 * S }).is_none()));
    let opened: Vec<_> =
        (0..40).filter_map(|_| b.say(30 * S, Verdict::Works { first_token_us: 5 * S + 1 })).collect();
    assert_eq!(opened, [Trip::Slow]);
}

#[test]
fn two_failures_with_huge_prompts_open_it_and_one_does_not() {
    let mut b = Bench::new();
    assert_eq!(b.say(S, Verdict::Fails { tokens: 900_000 }), None);
    assert_eq!(b.say(S, Verdict::Fails { tokens: 200 }), Some(Trip::Tokens));
    let mut b = Bench::new();
    assert_eq!(b.say(S, Verdict::Fails { tokens: 250_000 }), None);
    assert_eq!(b.say(S, Verdict::Fails { tokens: 250_000 }), None, "exactly the limit is within it");
    assert_eq!(b.say(S, Verdict::Fails { tokens: 10_000 }), Some(Trip::Tokens));
}

#[test]
fn busy_traffic_with_few_failures_is_not_a_token_fire() {
    let mut b = Bench::new();
    for n in 0..5_000u64 {
        let now = n * S / 500;
        let opened = if n % 6 == 0 { b.say(now, Verdict::Fails { tokens: 50_000 }) } else { b.work(now) };
        assert_eq!(opened, None);
    }
    let mut b = Bench::new();
    for n in 0..5_000u64 {
        let now = n * S / 500;
        let opened = if n % 3 == 0 { b.say(now, Verdict::Fails { tokens: 9_999 }) } else { b.work(now) };
        assert_eq!(opened, None, "small prompts weigh nothing by their tokens");
    }
}

#[test]
fn a_success_in_the_middle_of_the_ramp_lets_no_more_through() {
    let mut b = Bench::new();
    let due = b.trip(S);
    let ticket = b.breaker.claim_probe(due, due + S);
    b.say_on(0, due, due, ticket, Verdict::Works { first_token_us: 1 });
    b.work(due + 10 * S - 1);
    let view = b.breaker.view(due + 10 * S - 1);
    assert_eq!((view.phase, view.at_us, view.trips), (Phase::Ramping, due, 1));
    assert_eq!(b.door(due + 5 * S), Door::Ajar(500));
}

#[test]
fn without_one_slow_call_no_share_of_them_opens_it() {
    let mut b = Bench::new();
    (b.settings.slow_call_us, b.settings.slow_percent) = (Some(5 * S), 0);
    for _ in 0..30 {
        assert_eq!(b.work(S), None);
    }
    assert_eq!(b.fail(S), None);
    assert_eq!(b.say(S, Verdict::Works { first_token_us: 6 * S }), Some(Trip::Slow));
}

#[test]
fn a_call_that_began_as_the_ramp_did_counts() {
    let mut b = Bench::new();
    let due = b.trip(S);
    let ticket = b.breaker.claim_probe(due, due + S);
    b.say_on(0, due, due, ticket, Verdict::Works { first_token_us: 1 });
    let say = |b: &mut Bench, started| {
        (0..3).find_map(|_| b.say_on(0, due + S, started, None, Verdict::Fails { tokens: 1 }))
    };
    assert_eq!(say(&mut b, due - 1), None, "a straggler of the outage");
    assert_eq!(say(&mut b, due), Some(Trip::Share));
}

#[test]
fn an_outage_nobody_asked_about_for_half_a_minute_is_forgotten() {
    let mut b = Bench::new();
    let due = b.trip(S);
    assert!(!b.breaker.forget_old(&b.settings, due + 30 * S - 1));
    assert!(b.breaker.forget_old(&b.settings, due + 30 * S));
    assert_eq!(b.door(due + 30 * S), Door::Ajar(100));
    assert!(!b.breaker.forget_old(&b.settings, due + 90 * S));
    let again = due + 31 * S;
    assert_eq!(
        (b.fail(again), b.fail(again), b.fail(again)),
        (None, None, Some(Trip::Share)),
        "it is under watch"
    );
}

#[test]
fn stragglers_of_an_outage_neither_close_nor_reopen_it() {
    let mut b = Bench::new();
    let due = b.trip(S);
    b.work(due);
    assert_eq!(b.door(due), Door::Probe, "a late success does not close it");
    let ticket = b.breaker.claim_probe(due, due + S).expect("due");
    b.say_on(0, due + S, due, Some(ticket), Verdict::Works { first_token_us: 1 });
    for _ in 0..50 {
        assert_eq!(b.say_on(0, due + 2 * S, S, None, Verdict::Fails { tokens: 1 }), None);
    }
    assert!(matches!(b.door(due + 2 * S), Door::Ajar(_)));
}

#[test]
fn a_relapse_while_ramping_opens_it_for_longer() {
    let mut b = Bench::new();
    let due = b.trip(S);
    let ticket = b.breaker.claim_probe(due, due + S).expect("due");
    b.say_on(0, due, due, Some(ticket), Verdict::Works { first_token_us: 1 });
    let until = b.trip(due + S);
    assert!((2 * S..=S * 5 / 2).contains(&(until - due - S)));
}

#[test]
fn a_person_can_close_it_and_what_was_out_then_says_nothing_any_more() {
    let mut b = Bench::new();
    let due = b.trip(S);
    b.breaker.reset(2 * S);
    assert_eq!(b.door(2 * S), Door::Open);
    for _ in 0..4 {
        assert_eq!(b.fail(3 * S), None, "the streak of before is forgotten");
    }
    b.work(3 * S);
    b.trip(due);
    let due = due + 31 * S;
    let probe = b.breaker.claim_probe(due, due + S).expect("it is due");
    b.breaker.reset(due);
    assert_eq!(b.say_on(0, due + 1, due, Some(probe), Verdict::Fails { tokens: 1 }), None);
    assert_eq!(b.door(due + 1), Door::Open);
    b.breaker.reset(due + 2);
    assert_eq!(b.breaker.view(due + 2).phase, Phase::Closed);
}

#[test]
fn a_share_of_slow_calls_below_half_never_opens_it() {
    let mut b = Bench::new();
    b.settings.slow_call_us = Some(5 * S);
    for n in 0..1000u64 {
        let first_token_us = if n % 5 < 2 { 6 * S } else { S };
        assert_eq!(b.say(n * S / 20, Verdict::Works { first_token_us }), None);
    }
}

#[test]
fn a_quarter_of_large_prompts_failing_opens_it_at_half_a_million_tokens() {
    let mut b = Bench::new();
    let opened: Vec<_> = (1..=36u64)
        .map(|n| if n % 4 == 0 { b.say(S, Verdict::Fails { tokens: 60_000 }) } else { b.work(S) })
        .collect();
    assert_eq!(opened.iter().position(Option::is_some), Some(35), "the ninth failure: 540,000");
    assert_eq!(opened[35], Some(Trip::Tokens));
}
