//! What the engine costs a request: route, admit and settle, when all is well and when the first target is down; and the
//! way from a model's name to its chain, which the plan has ready.
//!
//! Bar: at most 1 microsecond for the three together.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use sluice::config::Loader;
use sluice::policy::{
    Ask, Chain, Core, Flight, Outcome, PolicyId, ProviderId, ProviderSettings, Settings, Shared, Signal,
    Step, Success, TargetRef, What, attribute,
};

fn core_and_chain(cores: usize) -> (Core, Chain) {
    let names = ["openai", "anthropic", "backup"];
    let settings =
        Arc::new(Settings::new(names.map(|n| ProviderSettings::new(n).with_keys(&[0.7, 0.3])).to_vec()));
    let shared = Arc::new(Shared::new(&settings, cores));
    let core = Core::new(settings, shared, 0, 7);
    let mut chain = Chain::new(PolicyId(0));
    for provider in (0..3).map(ProviderId) {
        chain.push(TargetRef::new(provider, core.slot(provider, b"model")));
    }
    (core, chain)
}

/// One exchange; `down` makes the first target refuse connections.
fn exchange(core: &mut Core, chain: Chain, now_us: u64, down: bool) -> usize {
    let ask = Ask { now_us, stream: true, est_input_tokens: 2_000, ..Ask::default() };
    let mut flight = Flight::begin(core, chain, ask);
    while let Step::Attempt(attempt) = flight.next(core, now_us) {
        if down && attempt.provider == ProviderId(0) {
            let refused = attribute(Signal::Transport(What::Connect));
            flight.settle(core, now_us, attempt.no, Outcome::Failure(refused));
        } else {
            flight.first_token(core, now_us + 300_000, attempt.no);
            flight.settle(core, now_us + 900_000, attempt.no, Outcome::Success(Success::default()));
            break;
        }
    }
    flight.attempts().len()
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy");
    for (name, cores, down) in
        [("well, 1 core", 1, false), ("well, 16 cores", 16, false), ("first target down", 1, true)]
    {
        let (mut core, chain) = core_and_chain(cores);
        let mut now_us = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                now_us += 1_000;
                black_box(exchange(&mut core, black_box(chain), now_us, down))
            });
        });
    }
    let (core, _) = core_and_chain(1);
    let text = "providers:\n  openai: {keys: [sk-1], base_url: \"http://127.0.0.1:1\"}\n  anthropic: {keys: [sk-2]}\nfallbacks:\n  - model: openai/gpt-4o-mini\n    targets: [anthropic/claude-haiku-4-5]\n";
    let loader = Loader { file: Some("bench.yaml".into()), ..Loader::default() };
    let plan = loader.load_text(text, &|_| None).unwrap_or_else(|e| panic!("{e}"));
    for name in ["openai/gpt-4o-mini", "gpt-4o"] {
        group.bench_function(format!("route of {name}"), |b| {
            b.iter(|| black_box(plan.resolve(black_box(name)).is_ok()));
        });
    }
    group.bench_function("slot of a model name", |b| {
        b.iter(|| black_box(core.slot(ProviderId(0), black_box(b"claude-haiku-4-5-20251001"))));
    });
    group.finish();
}

criterion_group!(policy, benches);
criterion_main!(policy);
