//! Places at a full provider, seen from the exchanges that wait for one.

use super::super::bulkhead::{BulkheadView, POLL_US};
use super::super::flight_tests::{S, ask, attempt, chain, core_of, cut, gave_up, ok};
use super::super::{
    Cause, Chain, Core, Flight, Outcome, ProviderId, ProviderSettings, Reason, SkipReason, Step, WaitReason,
};

fn provider_of_one(name: &str, queue_max: u32) -> ProviderSettings {
    let mut provider = ProviderSettings::new(name);
    provider.bulkhead.concurrent_max = Some(1);
    provider.bulkhead.queue_max = queue_max;
    provider
}

fn capped(concurrent: u32) -> (Core, Chain) {
    let mut a = ProviderSettings::new("a");
    a.bulkhead.concurrent_max = Some(concurrent);
    let core = core_of(vec![a, ProviderSettings::new("b")]);
    let chain = chain(&core, &[0]);
    (core, chain)
}

#[test]
fn a_full_provider_is_waited_for_briefly_and_then_refused() {
    let (mut core, chain) = capped(1);
    let mut holder = Flight::begin(&mut core, chain, ask(0));
    let held = attempt(holder.next(&mut core, 0));
    let mut waiter = Flight::begin(&mut core, chain, ask(0));
    let Step::Wait { until_us, why: WaitReason::Queue } = waiter.next(&mut core, 0) else { panic!() };
    assert_eq!(until_us, POLL_US);
    let mut second = Flight::begin(&mut core, chain, ask(0));
    assert!(matches!(second.next(&mut core, 0), Step::Wait { .. }));
    assert!(matches!(waiter.next(&mut core, 5_000), Step::Wait { .. }));
    holder.settle(&mut core, 6_000, held.no, ok());
    let got = attempt(waiter.next(&mut core, 10_000));
    let refused = gave_up(second.next(&mut core, 100_000));
    assert_eq!(refused.skips.get(0).unwrap().reason, SkipReason::Full);
    waiter.settle(&mut core, 100_000, got.no, ok());
    assert_eq!(core.shared().bulkhead(ProviderId(0)), BulkheadView::default());
}

#[test]
fn a_full_provider_is_passed_over_when_another_can_answer() {
    let (mut core, _) = capped(1);
    let chain = chain(&core, &[0, 1]);
    let mut holder = Flight::begin(&mut core, chain, ask(0));
    attempt(holder.next(&mut core, 0));
    let other = attempt(Flight::begin(&mut core, chain, ask(0)).next(&mut core, 0));
    assert_eq!(other.provider, ProviderId(1));
    holder.cancel(&mut core, 1);
    holder.cancel(&mut core, 1);
    assert_eq!(
        core.shared().bulkhead(ProviderId(0)).taken,
        0,
        "a cancelled exchange gives its place back once"
    );
}

#[test]
fn who_leaves_while_waiting_leaves_the_queue() {
    let (mut core, chain) = capped(1);
    let mut holder = Flight::begin(&mut core, chain, ask(0));
    attempt(holder.next(&mut core, 0));
    let mut waiter = Flight::begin(&mut core, chain, ask(0));
    waiter.next(&mut core, 0);
    assert_eq!(core.shared().bulkhead(ProviderId(0)).waiting, 1);
    waiter.cancel(&mut core, 1);
    assert_eq!(core.shared().bulkhead(ProviderId(0)).waiting, 0);
}

#[test]
fn a_dead_connection_keeps_its_place_and_its_probe() {
    let (mut core, chain) = capped(1);
    let mut flight = Flight::begin(&mut core, chain, ask(0));
    let first = attempt(flight.next(&mut core, 0));
    flight.settle(&mut core, 0, first.no, Outcome::StaleConnection);
    assert_eq!(core.shared().bulkhead(ProviderId(0)).taken, 1);
    let again = attempt(flight.next(&mut core, 0));
    flight.settle(&mut core, 0, again.no, ok());
    assert_eq!(core.shared().bulkhead(ProviderId(0)).taken, 0);
    let mut flight = Flight::begin(&mut core, chain, ask(0));
    let first = attempt(flight.next(&mut core, 0));
    flight.settle(&mut core, 0, first.no, Outcome::StaleConnection);
    flight.cancel(&mut core, 0);
    assert_eq!(core.shared().bulkhead(ProviderId(0)).taken, 0);
}

#[test]
fn targets_that_failed_or_were_full_are_left_for_good_when_a_place_is_waited_for() {
    let mut core =
        core_of(vec![ProviderSettings::new("a"), provider_of_one("b", 0), provider_of_one("c", 1)]);
    let holders = [1, 2].map(|provider| {
        let alone = chain(&core, &[provider]);
        let mut flight = Flight::begin(&mut core, alone, ask(S));
        let held = attempt(flight.next(&mut core, S));
        (flight, held.no)
    });
    let all = chain(&core, &[0, 1, 2]);
    let mut flight = Flight::begin(&mut core, all, ask(S));
    let first = attempt(flight.next(&mut core, S));
    flight.settle(&mut core, S, first.no, cut());
    assert!(matches!(flight.next(&mut core, S), Step::Wait { why: WaitReason::Queue, .. }));
    for (mut holder, no) in holders {
        holder.settle(&mut core, S, no, ok());
    }
    let last = attempt(flight.next(&mut core, S + POLL_US));
    assert_eq!((last.target, last.provider, last.reason), (2, ProviderId(2), Reason::Fallback));
    flight.settle(&mut core, S + POLL_US, last.no, cut());
    let end = gave_up(flight.next(&mut core, S + POLL_US));
    assert_eq!(end.attempts.len(), 2, "neither of the three is asked again");
    assert_eq!(end.skips.get(1).map(|skip| skip.reason), Some(SkipReason::Full));
}

#[test]
fn who_waits_for_a_place_asks_every_five_milliseconds_and_at_the_end_of_the_wait() {
    let mut core = core_of(vec![provider_of_one("a", 1)]);
    let chain = chain(&core, &[0]);
    let end_us = S + core.settings().providers[0].bulkhead.queue_wait_us;
    let mut holder = Flight::begin(&mut core, chain, ask(S));
    attempt(holder.next(&mut core, S));
    let mut waiter = Flight::begin(&mut core, chain, ask(S));
    for (now_us, until_us) in [(S, S + 5_000), (S + 5_000, S + 10_000), (end_us - 1, end_us)] {
        assert_eq!(waiter.next(&mut core, now_us), Step::Wait { until_us, why: WaitReason::Queue });
    }
    assert_eq!(gave_up(waiter.next(&mut core, end_us)).cause, Cause::Unavailable);
}
