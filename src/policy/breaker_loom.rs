//! Every order in which two cores can touch one breaker.

use super::*;
use loom::sync::Arc;

const SET: BreakerSettings = BreakerSettings {
    failures_in_row: 2,
    failure_percent: 50,
    calls_min: 20,
    slow_call_us: None,
    slow_percent: 50,
    tokens_burnt_max: None,
    tokens_failure_percent: 20,
    open_min_us: 1_000_000,
    open_max_us: 30_000_000,
    ramp_us: 10_000_000,
};

fn fail(breaker: &Breaker, core: usize, now_us: u64, ticket: Option<ProbeTicket>) -> Option<Trip> {
    let verdict = Verdict::Fails { tokens: 1 };
    breaker.record(&SET, core, now_us, now_us, ticket, verdict, &mut Random::new(core as u64))
}

#[test]
fn loom_a_breaker_opens_once() {
    loom::model(|| {
        let breaker = Arc::new(Breaker::new(2));
        let threads: Vec<_> = (0..2)
            .map(|core| {
                let breaker = Arc::clone(&breaker);
                loom::thread::spawn(move || (0..2).filter_map(|_| fail(&breaker, core, 1, None)).count())
            })
            .collect();
        let opened: usize = threads.into_iter().map(|t| t.join().expect("no panic")).sum();
        assert_eq!(opened, 1, "two thresholds' worth of failures on two cores open it once");
        assert!(matches!(breaker.door(&SET, 2), Door::Shut(_)));
    });
}

#[test]
fn loom_one_probe_goes_out() {
    loom::model(|| {
        let breaker = Arc::new(Breaker::new(2));
        while fail(&breaker, 0, 1, None).is_none() {}
        let due = 2_000_000;
        let threads: Vec<_> = (0..2)
            .map(|core| {
                let breaker = Arc::clone(&breaker);
                loom::thread::spawn(move || {
                    let ticket = breaker.claim_probe(due, due + 1_000_000);
                    if ticket.is_some() {
                        fail(&breaker, core, due + 1, ticket);
                    }
                    usize::from(ticket.is_some())
                })
            })
            .collect();
        let probes: usize = threads.into_iter().map(|t| t.join().expect("no panic")).sum();
        assert_eq!(probes, 1);
        assert!(matches!(breaker.door(&SET, due + 2), Door::Shut(_)));
    });
}
