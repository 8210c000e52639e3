//! What counting an exchange costs its core, and copying it for the ledger and the access log. Bar: at most 0.3
//! microseconds each.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use sluice::config::WhoLabel;
use sluice::dialect::{Api, Usage};
use sluice::meter::outbox::outbox;
use sluice::meter::{Answered, CoreMeter, Cost, Meter, Outcome, Record, Source, Spend, Tried};
use sluice::policy::{Fault, Reason, What};

const BY: Answered<'static> =
    Answered { provider: "anthropic", model: "claude-haiku-4-5", key: Some("ANTHROPIC_API_KEY") };

fn tried(reason: Reason, what: What) -> Tried<'static> {
    Tried {
        target: BY,
        reason,
        what,
        fault: (what != What::Answered).then_some(Fault::Capacity),
        after_us: 20,
        elapsed_us: 900_000,
        answers: what == What::Answered,
        spend: Spend::default(),
        server: ("api.anthropic.com", 443),
    }
}

fn record<'r>(tried: &'r [Tried<'r>], labels: &'r [WhoLabel]) -> Record<'r> {
    let mut who = <[&str; sluice::meter::WHO_MAX]>::default();
    who[0] = "nightly-eval";
    who[2] = "platform";
    Record {
        api: Api::Messages,
        stream: true,
        status: 200,
        outcome: Outcome::Ok,
        source: Source::Provider,
        code: "",
        route: "anthropic/claude-haiku-4-5",
        asked: "anthropic/claude-haiku-4-5",
        answered: Some(BY),
        usage: Some(Usage {
            input: 1_000,
            cache_read: 9_000,
            output: 400,
            reasoning: 100,
            ..Usage::default()
        }),
        usage_missing: false,
        cost: Cost::Priced(3_900_000),
        started_us: 0,
        duration_us: 950_000,
        first_token_us: Some(300_000),
        generating_us: Some(600_000),
        overhead_us: Some(23),
        queued_us: 0,
        truncated: false,
        client_retries: 0,
        tried,
        who,
        labels,
        trace: None,
    }
}

fn benches(c: &mut Criterion) {
    let labels =
        ["pipeline", "team"].map(|name| WhoLabel { name: name.into(), at: u8::from(name == "team") * 2 });
    let one = [tried(Reason::First, What::Answered)];
    let two = [tried(Reason::First, What::Status(503)), tried(Reason::Retry, What::Answered)];
    let mut group = c.benchmark_group("meter");
    for (name, tried) in [("a stream", &one[..]), ("a stream after a failure", &two[..])] {
        let mut core = CoreMeter::new(Arc::new(Meter::default()));
        let record = record(tried, &labels);
        group.bench_function(name, |b| b.iter(|| core.record(black_box(&record))));
    }
    // Every label and series is another than that of the exchange before, and all have been met.
    let mut core = CoreMeter::new(Arc::new(Meter::default()));
    let mut other = record(&one, &labels);
    (other.route, other.asked) = ("gpt-4o-mini", "gpt-4o-mini");
    other.answered = Some(Answered { provider: "openai", model: "gpt-4o-mini", key: Some("OPENAI_API_KEY") });
    (other.who[0], other.who[2]) = ("release", "mobile");
    let own = record(&one, &labels);
    let mut turn = false;
    group.bench_function("two kinds of streams in turns", |b| {
        b.iter(|| {
            turn = !turn;
            core.record(black_box(if turn { &own } else { &other }));
        });
    });
    let mut core = CoreMeter::new(Arc::new(Meter::default()));
    let names: Vec<String> = (0..10_000).map(|n| format!("build-{n}")).collect();
    let mut n = 0;
    group.bench_function("a pipeline that nobody has seen before", |b| {
        b.iter(|| {
            n += 1;
            let mut record = record(&one, &labels);
            record.who[0] = &names[n % names.len()];
            core.record(black_box(&record));
        });
    });
    // The copy for the ledger and the access log; the ring is emptied beside the clock.
    for (name, tried) in [("a copy for the books", &one[..]), ("a copy after a failure", &two[..])] {
        let (mut outbox, mut inbox) = outbox();
        let record = record(tried, &labels);
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for first in (0..rounds).step_by(200) {
                    let begun = Instant::now();
                    for _ in first..rounds.min(first + 200) {
                        black_box(outbox.push("req_0123456789abcdef", black_box(&record), &[]));
                    }
                    spent += begun.elapsed();
                    inbox.each(|_, _| ());
                }
                spent
            });
        });
        assert_eq!(outbox.dropped(), 0);
    }
    group.finish();
}

criterion_group!(meter, benches);
criterion_main!(meter);
