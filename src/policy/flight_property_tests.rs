//! What holds whatever providers do.

use proptest::prelude::*;

use super::*;

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let what = prop::sample::select(vec![
        What::Connect,
        What::Reset,
        What::Truncated,
        What::Check,
        What::Timeout(TimeoutKind::FirstToken),
        What::Timeout(TimeoutKind::Deadline),
    ]);
    let kind = prop::sample::select(vec![
        ErrorKind::Unknown,
        ErrorKind::Quota,
        ErrorKind::ContextLength,
        ErrorKind::ModelNotFound,
    ]);
    prop_oneof![
        1 => Just(ok()),
        1 => Just(Outcome::Cancelled),
        2 => Just(Outcome::StaleConnection),
        4 => what.prop_map(|what| Outcome::Failure(attribute(Signal::Transport(what)))),
        1 => Just(Outcome::Failure(attribute(Signal::Transport(What::Truncated)).after_commit())),
        6 => (100u16..600, kind, prop::option::of(0u64..100 * S)).prop_map(|(status, kind, retry_after_us)| {
            Outcome::Failure(attribute(Signal::Status { status, kind, retry_after_us }))
        }),
    ]
}

proptest! {
    #[test]
    fn whatever_providers_do_a_walk_ends_and_gives_everything_back(
        outcomes in prop::collection::vec((any_outcome(), 0u64..2 * S), 1..120),
        keys in prop::collection::vec(0usize..4, 1..5),
        retries in prop::option::of(0u8..4),
        cap in prop::option::of(1u32..3),
        deadline in prop::option::of(0u64..20 * S),
        stream: bool,
    ) {
        let providers = keys.iter().enumerate().map(|(n, &keys)| {
            let mut p = ProviderSettings::new(&format!("p{n}")).with_keys(&vec![1.0; keys]);
            p.retry.max_retries = retries;
            p.bulkhead.concurrent_max = cap;
            p
        });
        let mut core = core_of(providers.collect());
        let chain = chain(&core, &(0..keys.len() as u16).collect::<Vec<_>>());
        let mut outcomes = outcomes.into_iter();
        let mut now = S;
        for _ in 0..60 {
            now += S / 4;
            let begun = now;
            let deadline_us = deadline.map(|d| begun + d);
            let mut flight = Flight::begin(&mut core, chain, Ask { stream, deadline_us, ..ask(begun) });
            let (mut answered, mut committed) = (false, false);
            for _ in 0..100 {
                match flight.next(&mut core, now) {
                    Step::Attempt(attempt) => {
                        prop_assert!(!answered && !committed);
                        prop_assert!(deadline_us.is_none_or(|d| now < d && attempt.total_by_us <= d));
                        prop_assert!(attempt.connect_by_us <= attempt.first_token_by_us);
                        prop_assert!(attempt.first_token_by_us <= attempt.answer_by_us);
                        prop_assert!(attempt.answer_by_us <= attempt.total_by_us);
                        let (outcome, takes) = outcomes.next().unwrap_or((ok(), 0));
                        now += takes;
                        answered = matches!(outcome, Outcome::Success(_));
                        committed = matches!(outcome, Outcome::Failure(f) if f.committed);
                        let settled = flight.settle(&mut core, now, attempt.no, outcome);
                        prop_assert!(!(settled.more && (answered || committed)));
                        if answered || outcome == Outcome::Cancelled {
                            break;
                        }
                    }
                    Step::Wait { until_us, why } => {
                        prop_assert!(until_us > now && why != WaitReason::InFlight);
                        now = until_us;
                    }
                    Step::GiveUp(end) => {
                        let advice = downstream::advise(&end);
                        prop_assert!((400..600).contains(&advice.status));
                        prop_assert!(advice.retry_after_s.is_none_or(|s| (1..=60).contains(&s)));
                        prop_assert!(end.best.is_some() || end.attempts.is_empty() || end.cause == Cause::Cancelled);
                        break;
                    }
                    Step::Static(_) => prop_assert!(false, "none is configured"),
                }
                prop_assert!(flight.attempts().len() <= settings::ATTEMPTS_MAX);
            }
            flight.cancel(&mut core, now);
            for p in 0..keys.len() as u16 {
                prop_assert_eq!(core.shared().bulkhead(ProviderId(p)), bulkhead::BulkheadView::default());
            }
        }
    }
}
