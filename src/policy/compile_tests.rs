//! What a file's blocks become, and what a request's chain holds.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::price::{Prices, Rates};
use super::super::{Ask, Flight, KeyId, Outcome, ProviderId, Shared, StaticId, Step, Success};
use super::*;
use crate::config::Loader;

fn plan(text: &str) -> Plan {
    let loader = Loader { file: Some("t.yaml".into()), ..Loader::default() };
    loader.load_text(text, &|_| Some("key".to_owned())).unwrap_or_else(|error| panic!("{error}"))
}

fn settings(text: &str) -> Settings {
    Settings::from_plan(&plan(text), PriceSource::default())
}

/// A list that knows two models of one provider.
struct List;

impl Prices for List {
    fn price(&self, provider: &str, model: &str) -> Option<Price> {
        let input = match (provider, model) {
            ("openai", "gpt-4o-mini") => 150_000,
            ("openai", "gpt-5") => 1_250_000,
            _ => return None,
        };
        let rates = Rates { input, output: 8 * input, ..Rates::default() };
        Some(Price { rates, context_tokens: 128_000, ..Price::default() })
    }
}

fn core_of(plan: &Plan) -> Core {
    let settings = Arc::new(Settings::from_plan(plan, PriceSource::new(List)));
    Core::new(Arc::clone(&settings), Arc::new(Shared::new(&settings, 1)), 0, 1)
}

fn chain(core: &Core, plan: &Plan, asked: &str) -> Chain {
    chain_of(core, plan, asked, &plan.resolve(asked).unwrap(), 4_000)
}

const TWO: &str = "
providers:
  openai:
    keys:
      - {value: env.A, weight: 0.7, models: [gpt-4o-mini]}
      - {value: env.B, weight: 0.3}
    network_config: {default_request_timeout_in_seconds: 8, max_retries: 3, retry_backoff_initial: 100}
  anthropic:
    keys: [{value: env.C}]
fallbacks:
  - {model: openai/gpt-4o-mini, targets: [openai/gpt-4o-mini, anthropic/claude-haiku-4-5]}
";

#[test]
fn a_plans_numbers_arrive_in_microseconds() {
    let settings = settings(TWO);
    let openai = &settings.providers[0];
    assert_eq!(openai.timeouts.attempt_us, Some(8_000_000));
    assert_eq!((openai.timeouts.connect_us, openai.timeouts.token_gap_us), (2_000_000, 120_000_000));
    assert_eq!((openai.retry.max_retries, openai.retry.backoff_initial_us), (Some(3), 100_000));
    assert_eq!(openai.keys.iter().map(|k| k.weight).collect::<Vec<_>>(), [0.7, 0.3]);
    assert_eq!(settings.exchange_total_us, 600_000_000);
}

#[test]
fn the_file_bounds_an_exchange_as_it_says() {
    let text = "{timeouts: {total: 42s}, providers: {x: {base_url: 'http://h'}}}";
    assert_eq!(settings(text).exchange_total_us, 42_000_000);
}

#[test]
fn a_provider_that_needs_no_key_serves_every_model() {
    let plan = plan("providers: {x: {base_url: 'http://h'}}");
    assert!(plan.providers[0].keys.is_empty());
    assert_eq!(keys_for(&plan.providers[0], "any"), !0);
    assert_eq!(chain(&core_of(&plan), &plan, "x/any").targets()[0].keys, !0);
}

#[test]
fn a_resolved_model_walks_the_chain_of_the_file() {
    let plan = plan(TWO);
    let mut core = core_of(&plan);
    let first = chain(&core, &plan, "openai/gpt-4o-mini");
    assert_eq!(first.targets().iter().map(|t| t.provider.0).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(first.targets()[0].keys, 0b11);
    let other = chain(&core, &plan, "openai/gpt-5");
    assert_eq!(other.targets()[0].keys, 0b10, "a key is used for its models only");
    let Step::Attempt(attempt) = Flight::begin(&mut core, other, Ask::default()).next(&mut core, 0) else {
        panic!()
    };
    assert_eq!((attempt.provider, attempt.key), (ProviderId(0), Some(KeyId(1))));
}

#[test]
fn cells_are_carried_over_a_reload_that_keeps_the_providers() {
    let now = settings(TWO);
    assert!(settings(&TWO.replace("0.7", "0.5")).fits_cells_of(&now));
    assert!(!settings(&TWO.replace("env.C", "env.D")).fits_cells_of(&now));
    assert!(!settings("providers: {openai: {keys: [{value: env.A}]}}").fits_cells_of(&now));
    let renamed = TWO.replace("openai", "mistral");
    assert!(!settings(&renamed).fits_cells_of(&now), "the same keys of another provider");
}

const ALL: &str = "
breaker: {failures_in_row: 7, slow_call: 5s, tokens_burnt: off}
retry_budget: {percent: 20, max_cost_usd_per_minute: 5.00}
retry: {max_retries: 1, backoff_max: 3s}
hedge: {percent: 4}
providers:
  openai:
    keys: [env.A]
    breaker: {failures_in_row: 3, open_max: 10s}
    cooldown: {cap: 2m}
    bulkhead: {concurrent: 9, queue_wait: 50ms}
  azure: {base_url: 'http://h', network_config: {max_retries: 4}}
models:
  azure/gpt-4o-mini: {context: 8000, price: {input: 0.2, output: 0.8}}
  openai/gpt-4o-mini: {context: 4000}
static: {heuristic: {content: 'retry: no'}}
step_budget: {failures: 5, usd: 2.50, time: 10m, answer: static/heuristic}
idempotency: {keep: 5m, entries: 9}
fallbacks:
  - model: fast
    targets: [[{target: openai/gpt-4o-mini, weight: 0.7}, {target: azure/gpt-4o-mini, weight: 0.3}], static/heuristic]
    balance: latency
    hedge: off
    timeouts: {first_token: 8s, attempt: 7s, total: 700s, token_gap: 10s, connect: 1s}
";

#[test]
fn every_block_of_the_file_reaches_the_engine() {
    let plan = plan(ALL);
    let settings = Settings::from_plan(&plan, PriceSource::default());
    let (openai, azure) = (&settings.providers[0], &settings.providers[1]);
    assert_eq!((openai.breaker.failures_in_row, azure.breaker.failures_in_row), (3, 7));
    assert_eq!((openai.breaker.open_max_us, azure.breaker.open_max_us), (10_000_000, 30_000_000));
    assert_eq!((openai.breaker.slow_call_us, openai.breaker.tokens_burnt_max), (Some(5_000_000), None));
    assert_eq!((openai.cooldown.cap_us, azure.cooldown.cap_us), (120_000_000, 600_000_000));
    assert_eq!((openai.bulkhead.concurrent_max, openai.bulkhead.queue_wait_us), (Some(9), 50_000));
    assert_eq!((openai.budget.percent, openai.budget.floor_per_second), (20, 3));
    assert_eq!((openai.retry.max_retries, azure.retry.max_retries), (Some(1), Some(4)));
    assert_eq!((openai.retry.backoff_max_us, azure.retry.backoff_max_us), (3_000_000, 3_000_000));
    assert_eq!(settings.retry_nano_usd_per_minute, Some(5_000_000_000));
    assert_eq!(settings.policies[0].hedge.map(|h| h.percent_max), Some(4));
    let fast = settings.policy(policy_of(plan.resolve("fast").unwrap().route()));
    assert_eq!((fast.balance, fast.hedge), (Balance::PeakEwma, None));
    assert_eq!(
        fast.timeouts.over(&openai.timeouts),
        Timeouts {
            connect_us: 1_000_000,
            first_token_us: 8_000_000,
            token_gap_us: 10_000_000,
            total_us: 700_000_000,
            attempt_us: Some(7_000_000),
        }
    );
    let step = step_settings(&plan).unwrap();
    assert_eq!((step.failures_max, step.nano_usd_max), (Some(5), Some(2_500_000_000)));
    assert_eq!(step.time_max_us, Some(600_000_000));
    let kept = idempotency_settings(&plan).unwrap();
    assert_eq!((kept.entries_max, kept.keep_us), (9, 300_000_000));
    assert_eq!(kept.running_max_us, 760_000_000, "the longest exchange and a minute");
}

#[test]
fn a_file_that_says_nothing_compiles_to_the_defaults_of_the_engine() {
    let settings = settings("providers: {x: {base_url: 'http://h'}}");
    let expected =
        ProviderSettings { key_identity: settings.providers[0].key_identity, ..ProviderSettings::new("x") };
    assert_eq!(settings.providers, [expected]);
    assert_eq!(settings.policies, [RoutePolicy::default()]);
}

#[test]
fn equals_share_and_a_static_answer_closes_the_chain() {
    let plan = plan(ALL);
    let mut core = core_of(&plan);
    let fast = chain(&core, &plan, "fast");
    let shown: Vec<_> = fast.targets().iter().map(|t| (t.provider.0, t.group, t.weight, t.place)).collect();
    assert_eq!(shown, [(0, 1, 700_000, 0), (1, 1, 300_000, 1)]);
    assert_eq!(fast.static_answer, Some(StaticId(0)));
    let mut second_first = 0;
    for _ in 0..100 {
        let flight = Flight::begin(&mut core, fast, Ask::default());
        let first = flight.chain().targets()[0];
        assert_eq!(first.place, first.provider.0 as u8, "a place stays with its target");
        second_first += u32::from(first.place == 1);
    }
    assert!((1..100).contains(&second_first), "latency unknown: both are tried, {second_first}");
}

#[test]
fn a_route_bounds_its_exchange_and_its_attempts() {
    let plan = plan(ALL);
    let mut core = core_of(&plan);
    let fast = chain(&core, &plan, "fast");
    let ask = Ask { stream: true, ..Ask::default() };
    let Step::Attempt(attempt) = Flight::begin(&mut core, fast, ask).next(&mut core, 0) else { panic!() };
    assert_eq!((attempt.connect_by_us, attempt.first_token_by_us), (1_000_000, 7_000_000));
    assert_eq!((attempt.token_gap_us, attempt.total_by_us), (10_000_000, 700_000_000));
}

#[test]
fn prices_are_the_files_then_the_lists_and_unpriced_stays_unpriced() {
    let plan = plan(ALL);
    let core = core_of(&plan);
    let price = |asked: &str| {
        let target = chain(&core, &plan, asked).targets()[0];
        (target.input_nano_usd, target.context_tokens)
    };
    assert_eq!(price("azure/gpt-4o-mini"), (Some(200), 8_000));
    assert_eq!(price("openai/gpt-4o-mini"), (Some(150), 4_000), "the list's price, the file's window");
    assert_eq!(price("openai/gpt-5"), (Some(1_250), 128_000), "a model that only the client names");
    assert_eq!(price("azure/unheard-of"), (None, 0));
    assert!(unpriced(&plan, core.settings()).is_empty());
    assert_eq!(unpriced(&plan, &Settings::from_plan(&plan, PriceSource::default())), ["openai/gpt-4o-mini"]);
    let slot = chain(&core, &plan, "openai/gpt-5").targets()[0].slot;
    assert_eq!(core.facts(slot).price.unwrap().rates.output, 10_000_000);
}

#[test]
fn answers_teach_how_large_a_token_is() {
    let plan = plan(TWO);
    let mut core = core_of(&plan);
    let one = chain(&core, &plan, "openai/gpt-5");
    let slot = one.targets()[0].slot;
    assert_eq!(core.estimate_tokens(slot, 8_000), 2_000);
    let ask = Ask { body_bytes: 8_000, est_input_tokens: 2_000, ..Ask::default() };
    let mut flight = Flight::begin(&mut core, one, ask);
    let Step::Attempt(attempt) = flight.next(&mut core, 0) else { panic!() };
    let success = Success { input_tokens: 4_000, ..Success::default() };
    flight.settle(&mut core, 1, attempt.no, Outcome::Success(success));
    assert_eq!(core.estimate_tokens(slot, 8_000), 4_000);
}

#[test]
fn a_provider_uses_its_first_sixty_four_keys() {
    for (count, mask) in [(63, !0 >> 1), (64, !0), (65, !0)] {
        let keys: Vec<String> = (0..count).map(|n| format!("{{name: k{n}, value: env.K{n}}}")).collect();
        let plan = plan(&format!("providers: {{openai: {{keys: [{}]}}}}", keys.join(", ")));
        let settings = Settings::from_plan(&plan, PriceSource::default());
        assert_eq!(settings.providers[0].keys.len(), count.min(KEYS_MAX));
        assert_eq!(keys_for(&plan.providers[0], "any"), mask, "{count}");
    }
}

#[test]
fn an_unpriced_model_is_named_once() {
    let twice = "
providers: {openai: {keys: [env.A]}}
fallbacks:
  - {model: a, targets: [openai/unheard-of, openai/gpt-5]}
  - {model: b, targets: [openai/unheard-of]}
";
    let plan = plan(twice);
    let settings = Settings::from_plan(&plan, PriceSource::new(List));
    assert_eq!(unpriced(&plan, &settings), ["openai/unheard-of"]);
}

proptest! {
    #[test]
    fn every_duration_of_the_file_arrives_in_microseconds(
        timeouts in prop::collection::vec(1u64..100_000, 4), backoff in prop::collection::vec(1u64..5_000, 2),
        cooldown in prop::collection::vec(1u64..30_000, 3), breaker in prop::collection::vec(1u64..30_000, 3),
        wait in 1u64..1_000, retries in prop::option::of(0u32..10),
    ) {
        let ordered = |list: &[u64]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list
        };
        let (backoff, cooldown, breaker) = (ordered(&backoff), ordered(&cooldown), ordered(&breaker));
        let retries_line = retries.map_or(String::new(), |n| format!("max_retries: {n}, "));
        let text = format!(
            "providers:\n  openai:\n    keys: [env.A]\n    \
             timeouts: {{connect: {}ms, first_token: {}ms, token_gap: {}ms, total: {}ms}}\n    \
             retry: {{{retries_line}backoff_initial: {}ms, backoff_max: {}ms}}\n    \
             cooldown: {{initial: {}ms, max: {}ms, cap: {}ms}}\n    \
             breaker: {{open_min: {}ms, open_max: {}ms, ramp: {}ms}}\n    \
             bulkhead: {{concurrent: 9, queue_wait: {wait}ms}}\n",
            timeouts[0], timeouts[1], timeouts[2], timeouts[3], backoff[0], backoff[1],
            cooldown[0], cooldown[1], cooldown[2], breaker[0], breaker[1], breaker[2],
        );
        let own = &settings(&text).providers[0];
        let t = &own.timeouts;
        let seen = [t.connect_us, t.first_token_us, t.token_gap_us, t.total_us];
        prop_assert!(seen.iter().zip(&timeouts).all(|(us, ms)| *us == ms * 1000), "{seen:?}");
        prop_assert_eq!(own.retry.max_retries, retries.map(|n| n as u8));
        prop_assert_eq!([own.retry.backoff_initial_us, own.retry.backoff_max_us], [backoff[0] * 1000, backoff[1] * 1000]);
        let c = &own.cooldown;
        prop_assert_eq!([c.initial_us, c.max_us, c.cap_us], [0, 1, 2].map(|n| cooldown[n] * 1000));
        let b = &own.breaker;
        prop_assert_eq!([b.open_min_us, b.open_max_us, b.ramp_us], [0, 1, 2].map(|n| breaker[n] * 1000));
        prop_assert_eq!(own.bulkhead.queue_wait_us, wait * 1000);
    }
}
