//! The last hour and day, from records as cores write them.

use super::*;
use crate::meter::outbox::samples::{FAILED, PLAIN, TRIED};
use crate::meter::outbox::{decode, encode};
use crate::meter::{Outcome, Record};

fn add(history: &mut History, record: &Record<'_>, unix_s: u64) {
    let mut frame = Vec::new();
    encode("", record, &[], &mut frame);
    history.add(&decode(&frame).unwrap(), unix_s);
}

fn of(pipeline: &str) -> Record<'_> {
    let mut record = PLAIN;
    record.who = Default::default();
    record.who[0] = pipeline;
    record
}

fn named<'c>(all: &'c [Columns], name: &str) -> &'c Columns {
    all.iter().find(|one| one.name == name).unwrap_or_else(|| panic!("{name} in {all:?}"))
}

#[test]
fn requests_errors_and_money_are_added_to_the_step_they_ended_in() {
    let mut history = History::default();
    let tried = [FAILED, TRIED];
    add(&mut history, &Record { tried: &tried, cost: Cost::Priced(7_000_000), ..of("nightly") }, 1_000);
    add(
        &mut history,
        &Record { outcome: Outcome::UpstreamError, cost: Cost::Unknown, ..of("nightly") },
        1_004,
    );
    add(&mut history, &of(""), 1_011);
    let view = history.view(Span::Hour, 0, 1_014);
    assert_eq!((view.step_s, view.start_unix_s, view.steps), (5, 1_000, 3));
    let nightly = named(&view.pipelines, "nightly");
    assert_eq!((&nightly.requests[..], &nightly.errors[..]), (&[2, 0, 0][..], &[1, 0, 0][..]));
    let lost = FAILED.spend.reported_nano_usd as f64 / 1e9;
    assert!((nightly.cost_usd[0] - 0.007 - lost).abs() < 1e-12);
    assert_eq!(named(&view.pipelines, "").requests, [0, 0, 1]);
    let calls: u32 = view.providers.iter().map(|one| one.requests[0]).sum();
    let errors: u32 = view.providers.iter().map(|one| one.errors[0]).sum();
    assert_eq!((calls, errors), (3, 1), "two calls for the first request, one for the second");
    assert_eq!((view.recent.requests, view.recent.errors, view.total.requests), (3, 1, 3));
    assert_eq!(history.view(Span::Hour, 0, 1_000 + RECENT_S + 5).recent.requests, 1);
    assert_eq!(history.view(Span::Day, 0, 1_014).steps, 1);
    assert_eq!(history.view(Span::Hour, 1_006, 1_014).start_unix_s, 1_010);
}

#[test]
fn percentiles_are_within_a_buckets_width_of_the_truth() {
    for us in [10_000u64, 137_000, 999_000, 30_000_000] {
        let mut buckets = [0u16; BUCKETS];
        for n in 0..100 {
            time(&mut buckets, Some(us + us * n / 1_000));
        }
        for share in [0.5, 0.95] {
            let got = percentile(&buckets, share).unwrap() * 1e3;
            let off = got / (us as f64 * (1.0 + share / 10.0));
            assert!((1.0 / 1.36..1.36).contains(&off), "{us}: {got}");
        }
    }
    assert_eq!(percentile(&[0u16; BUCKETS], 0.5), None);
}

#[test]
fn the_last_name_that_fits_is_told_apart_and_the_next_is_other_until_a_place_is_free() {
    let mut history = History::default();
    for n in 1..=NAMES_MAX {
        add(&mut history, &of(&format!("p{n}")), 1_000);
    }
    let view = history.view(Span::Hour, 0, 1_000);
    assert_eq!(view.pipelines.len(), NAMES_MAX);
    assert_eq!(named(&view.pipelines, "other").requests, [1]);
    assert_eq!(named(&view.pipelines, &format!("p{}", NAMES_MAX - 1)).requests, [1]);
    let later = 1_000 + FORGOTTEN_S + 300;
    add(&mut history, &of("new"), later);
    let view = history.view(Span::Day, 0, later);
    assert_eq!(view.pipelines.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["new"]);
}

#[test]
fn what_is_older_than_the_span_is_gone_and_a_quiet_time_holds_nothing() {
    let mut history = History::default();
    for number in 0..=STEPS {
        add(&mut history, &of("p"), number * 5);
    }
    assert_eq!(history.hour.len() as u64, STEPS);
    assert_eq!(history.view(Span::Hour, 0, STEPS * 5).start_unix_s, 5);
    add(&mut history, &of("p"), STEPS * 50);
    assert_eq!(history.hour.len(), 1);
    add(&mut history, &of("p"), 7);
    assert_eq!(history.hour.len(), 1, "too old to be counted");
    let quiet = history.view(Span::Hour, 0, STEPS * 100);
    assert_eq!((quiet.steps, quiet.pipelines.len()), (1, 0));
}
