//! Blocks of the file that set the mechanisms of policy: what they start from, what goes before what, what is refused.

use proptest::prelude::*;
use sluice::config::{
    Balance, Breaker, Bulkhead, Check, Cooldown, Hedge, Idempotency, Loader, Plan, Provider, ProviderId,
    RetryBudget, Severity, StaticId, defaults, show_ms,
};

fn loader() -> Loader {
    Loader { file: Some("f.yaml".into()), ..Loader::default() }
}

/// Every variable but those of OpenTelemetry, which would turn traces on.
fn keys(name: &str) -> Option<String> {
    (!name.starts_with("OTEL_")).then(|| "key".to_owned())
}

fn plan(text: &str) -> Plan {
    loader().load_text(text, &keys).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> String {
    loader().load_text(text, &keys).expect_err("must be refused").to_string()
}

fn named<'p>(plan: &'p Plan, name: &str) -> &'p Provider {
    plan.provider(plan.provider_named(name).unwrap_or_else(|| panic!("no provider {name}")))
}

/// `provider/model`, group and weight of each target.
fn chain(plan: &Plan, model: &str) -> Vec<(String, u8, u32)> {
    let chain = plan.resolve(model).unwrap_or_else(|error| panic!("{error}"));
    let show = |target: sluice::config::TargetRef<'_>| {
        let name = format!("{}/{}", plan.provider(target.provider).name, target.model.unwrap_or(model));
        (name, target.group, target.weight)
    };
    chain.iter(plan, model).map(show).collect()
}

const TWO: &str = "providers: {a: {base_url: 'http://a'}, b: {base_url: 'http://b'}}\n";

#[test]
fn a_file_that_sets_nothing_gets_every_default() {
    let plan = plan(TWO);
    let a = named(&plan, "a");
    assert_eq!(a.breaker, Breaker::default());
    assert_eq!(a.cooldown, Cooldown::default());
    assert_eq!(a.retry_budget, RetryBudget::default());
    assert_eq!(a.bulkhead, Bulkhead::default());
    assert_eq!((a.retry.max_retries, a.breaker.slow_call_ms), (None, None));
    assert_eq!(plan.route_defaults.balance, Balance::Weighted);
    assert!(plan.route_defaults.hedge.is_none() && plan.route_defaults.checks.is_empty());
    assert_eq!(plan.idempotency, Some(Idempotency::default()));
    assert!(plan.step_budget.is_none() && plan.retry_cost_nano_usd_per_minute.is_none());
    assert!(plan.statics.is_empty() && plan.warnings.is_empty());
}

#[test]
fn a_provider_sets_keys_over_the_top_level_and_keeps_the_rest_of_it() {
    let plan = plan(
        "breaker: {failures_in_row: 7, slow_call: 5s, tokens_burnt: off}
cooldown: {initial: 2s}
retry: {max_retries: 1}
bulkhead: {concurrent: 50, queue: 9}
providers:
  a:
    base_url: http://a
    breaker: {failures_in_row: 3, slow_call: off}
    bulkhead: {concurrent: off}
    network_config: {max_retries: 2, retry_backoff_initial: 100}
  b: {base_url: 'http://b', concurrency_and_buffer_size: {concurrency: 5}}
",
    );
    let (a, b) = (named(&plan, "a"), named(&plan, "b"));
    assert_eq!((a.breaker.failures_in_row, b.breaker.failures_in_row), (3, 7));
    assert_eq!((a.breaker.slow_call_ms, b.breaker.slow_call_ms), (None, Some(5_000)));
    assert_eq!((a.breaker.tokens_burnt, b.breaker.calls_min), (None, defaults::BREAKER_CALLS_MIN));
    assert_eq!((a.cooldown.initial_ms, a.cooldown.max_ms), (2_000, defaults::COOLDOWN_MAX_MS));
    assert_eq!((a.retry.max_retries, a.retry.backoff_initial_ms), (Some(2), 100));
    assert_eq!(b.retry.max_retries, Some(1));
    assert_eq!((a.bulkhead.concurrent, a.bulkhead.queue), (None, 9));
    assert_eq!((b.bulkhead.concurrent, b.bulkhead.queue), (Some(5), 9));
}

#[test]
fn a_longer_first_time_lengthens_the_longest_one_unless_that_is_written() {
    let plan = plan(&format!("{TWO}cooldown: {{initial: 2m}}\nbreaker: {{open_min: 40s}}"));
    let a = named(&plan, "a");
    assert_eq!((a.cooldown.max_ms, a.breaker.open_max_ms), (120_000, 40_000));
    let error = refused(&format!("{TWO}cooldown: {{initial: 2m, max: 1m}}"));
    assert!(error.starts_with("f.yaml:2:30: error: `cooldown.max` of 60s is shorter"), "{error}");
}

#[test]
fn an_entry_of_fallbacks_goes_before_the_top_level() {
    let plan = plan(
        "providers: {a: {base_url: 'http://a'}, b: {base_url: 'http://b'}}
hedge: {percent: 4}
balance: latency
checks: [json]
fallbacks:
  - {model: a/one, targets: [b/one]}
  - {model: a/two, targets: [[a/two, b/two]], hedge: off, balance: weighted, checks: []}
  - {model: a/three, targets: [[a/three, b/three]], hedge: {delay_min: 1s}, timeouts: {total: 60s}}
",
    );
    let [one, two, three] = &plan.routes[..] else { panic!("three routes") };
    let delay_min_ms = defaults::HEDGE_DELAY_MIN_MS;
    assert_eq!(one.hedge, Some(Hedge { percent: 4, delay_min_ms }));
    assert_eq!((one.balance, one.checks.len()), (Balance::Latency, 1));
    assert_eq!((two.hedge, two.balance, two.checks.len()), (None, Balance::Weighted, 0));
    assert_eq!(three.hedge, Some(Hedge { percent: 4, delay_min_ms: 1_000 }));
    assert_eq!((three.timeouts.total_ms, three.timeouts.connect_ms), (Some(60_000), None));
    assert!(matches!(plan.route_defaults.checks[..], [Check::Json]));
    let total = |model: &str| plan.total_ms(plan.resolve(model).expect("known").route(), ProviderId(0));
    assert_eq!((total("a/one"), total("a/three"), total("a/none")), (600_000, 60_000, 600_000));
}

#[test]
fn equals_share_and_the_asked_for_model_brings_its_equals_to_the_front() {
    let plan = plan(
        "providers: {a: {base_url: 'http://a'}, b: {base_url: 'http://b'}, c: {base_url: 'http://c'}}
static: {s: {content: x}}
aliases: {other: a/m}
fallbacks:
  - {model: fast, targets: [c/z, [{target: a/x, weight: 0.7}, {target: b/x, weight: 0.3}], static/s]}
  - {model: a/m, targets: [c/m, [b/m, a/m]]}
  - {primary: a/n, backup: [[b/n, c/n], [{target: c/k}]]}
  - {model: a/p, targets: [[a/p, a/p], b/p]}
",
    );
    let own = |name: &str, group, weight| (name.to_owned(), group, weight);
    assert_eq!(chain(&plan, "fast"), [own("c/z", 0, 1), own("a/x", 1, 700_000), own("b/x", 1, 300_000)]);
    let shared = [own("a/m", 1, 500_000), own("b/m", 1, 500_000), own("c/m", 0, 1)];
    assert_eq!(chain(&plan, "a/m"), shared);
    assert_eq!(chain(&plan, "other"), shared);
    let after = [own("a/n", 0, 1), own("b/n", 1, 500_000), own("c/n", 1, 500_000), own("c/k", 0, 1)];
    assert_eq!(chain(&plan, "a/n"), after);
    assert_eq!(chain(&plan, "a/p"), [own("a/p", 0, 1), own("b/p", 0, 1)], "nobody shares with itself");
    let route = &plan.routes[usize::from(plan.resolve("fast").expect("known").route().expect("a route").0)];
    assert_eq!(route.static_answer, Some(StaticId(0)));
    assert!(plan.offered_models().iter().any(|offered| *offered.name == *"fast"));
}

#[test]
fn a_static_answer_may_be_text_json_or_a_file_and_may_close_the_chain_of_everyone() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("answer.txt"), "from a file\n").expect("written");
    std::fs::write(directory.path().join("large.txt"), vec![b'x'; defaults::STATIC_BYTES_MAX as usize + 1])
        .expect("written");
    let file = directory.path().join("f.yaml");
    let loader = Loader { file: Some(file), ..Loader::default() };
    let text = "providers: {a: {base_url: 'http://a'}}
static:
  text: {content: 'retry: no', model: heuristic}
  json: {content: {retry: false, count: 2, share: 0.5, why: [no, null]}}
  file: {file: answer.txt}
fallbacks: [{model: a/x, weight: 1}, {model: static/text, weight: 0}]
step_budget: {failures: 2, answer: static/json}
";
    let plan = loader.load_text(text, &keys).unwrap_or_else(|error| panic!("{error}"));
    let contents: Vec<&str> = plan.statics.iter().map(|answer| &*answer.content).collect();
    let json = r#"{"retry":false,"count":2,"share":0.5,"why":["no",null]}"#;
    assert_eq!(contents, ["retry: no", json, "from a file\n"]);
    let models: Vec<&str> = plan.statics.iter().map(|answer| &*answer.model).collect();
    assert_eq!(models, ["heuristic", "json", "file"]);
    assert_eq!(plan.routes[0].static_answer, Some(StaticId(0)));
    assert_eq!(plan.step_budget.expect("set").answer, Some(StaticId(1)));
    let error = loader.load_text(&text.replace("answer.txt", "large.txt"), &keys).expect_err("too large");
    assert!(error.to_string().contains("is too large"), "{error}");
}

#[test]
fn facts_and_money_keep_every_digit() {
    let plan = plan(
        "providers: {a: {base_url: 'http://a', aliases: {mini: small}}}
models:
  a/small: {price: {input: 0.01875, output: 0.15, cache_read: 0.001, cache_write_long: 0.05, audio_input: 2, flex: 0.5, priority: 1.75}}
  a/large: {context: 400000}
retry_budget: {max_cost_usd_per_minute: 0.000000001}
step_budget: {usd: 2.5}
",
    );
    let slot = |model: &str| plan.resolve(model).expect("known").get(&plan, model, 0).expect("a target").slot;
    let price = plan.facts(slot("mini")).price.expect("priced");
    assert_eq!(
        (price.extras.cache_write_long, price.extras.audio_input, price.extras.audio_output),
        (Some(50_000), Some(2_000_000), None)
    );
    assert_eq!(
        (price.extras.flex, price.extras.priority, price.extras.batch),
        (Some(500), Some(1_750), None)
    );
    assert_eq!(
        (price.input, price.cache_read, price.cache_write, price.output),
        (18_750, 1_000, 18_750, 150_000)
    );
    let large = plan.facts(slot("a/large"));
    assert_eq!((large.context_tokens, large.price), (Some(400_000), None));
    assert_eq!(plan.facts(slot("a/other")).context_tokens, None);
    assert_eq!(plan.retry_cost_nano_usd_per_minute, Some(1));
    assert_eq!(plan.step_budget.expect("set").nano_usd, Some(2_500_000_000));
    let twice =
        refused("{providers: {a: {base_url: 'http://a', aliases: {s: x}}}, models: {a/x: {}, s: {}}}");
    assert!(twice.contains("stands twice, under two names"), "{twice}");
}

#[test]
fn what_can_be_switched_off_says_off() {
    for off in ["off", "false", "'off'"] {
        assert!(plan(&format!("{TWO}idempotency: {off}")).idempotency.is_none(), "{off}");
    }
    assert!(plan(&format!("{TWO}idempotency: on")).idempotency.is_some());
    assert!(plan(&format!("{TWO}hedge: true")).route_defaults.hedge.is_some());
    let plan = plan(&format!("{TWO}retry_budget: {{max_cost_usd_per_minute: off}}"));
    assert!(plan.retry_cost_nano_usd_per_minute.is_none());
}

#[test]
fn limits_of_blocks_hold_at_the_edge_and_not_one_past_it() {
    for (key, fine, wrong) in [
        ("breaker: {failures_in_row", "1000", "1001"),
        ("breaker: {failure_percent", "100", "101"),
        ("breaker: {calls_min", "2", "1"),
        ("breaker: {tokens_burnt", "10000", "9999"),
        ("retry: {max_retries", "10", "11"),
        ("retry_budget: {burst", "1", "0"),
        ("retry_budget: {percent", "0", "101"),
        ("bulkhead: {concurrent", "1", "0"),
        ("hedge: {percent", "100", "0"),
        ("step_budget: {usd", "10000", "10001"),
        ("idempotency: {entries", "1000000", "1000001"),
        ("models: {a/x: {price: {output: 1, input", "4000}}", "4001}}"),
        ("models: {a/x: {price: {output: 1, input: 1, flex", "65}}", "66}}"),
    ] {
        let text = |value: &str| format!("{TWO}{key}: {value}}}");
        assert!(loader().load_text(&text(fine), &keys).is_ok(), "{}", text(fine));
        assert!(refused(&text(wrong)).contains("out of range"), "{}", text(wrong));
    }
    let checks = |count: usize| format!("{TWO}checks: [{}]", vec!["json"; count].join(", "));
    assert_eq!(plan(&checks(defaults::CHECKS_MAX)).route_defaults.checks.len(), defaults::CHECKS_MAX);
    assert!(refused(&checks(defaults::CHECKS_MAX + 1)).contains("too many checks"));
}

/// A duration a file could state, or none.
fn ms() -> impl Strategy<Value = Option<u64>> {
    proptest::option::of(1u64..100_000)
}

/// `{name: 5ms, ...}` of those that are there.
fn block(values: &[(&str, Option<u64>)]) -> String {
    let written = values.iter().filter_map(|(name, ms)| ms.map(|ms| format!("{name}: {ms}ms")));
    format!("{{{}}}", written.collect::<Vec<_>>().join(", "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A written timeout above one that ends it, at the same level or a wider one, is warned of, and no other.
    #[test]
    fn a_timeout_that_never_fires_is_named_and_no_other(
        top in proptest::array::uniform5(ms()), own in proptest::array::uniform5(ms()),
    ) {
        let names = ["connect", "first_token", "token_gap", "total", "attempt"];
        let of = |values: [Option<u64>; 5]| -> Vec<(&str, Option<u64>)> { names.into_iter().zip(values).collect() };
        let text = format!(
            "timeouts: {}\nproviders: {{a: {{base_url: 'http://a', timeouts: {}}}}}",
            block(&of(top)), block(&of(own)),
        );
        let plan = loader().load_text(&text, &keys).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let t = named(&plan, "a").timeouts;
        let level = |i: usize| if own[i].is_some() { 2 } else { u8::from(top[i].is_some()) };
        let attempt = t.attempt_ms.unwrap_or(u64::MAX);
        let sooner = if attempt <= t.total_ms { (attempt, level(4)) } else { (t.total_ms, level(3)) };
        let total = (t.total_ms, level(3));
        let rows = [
            (0, t.connect_ms, sooner), (1, t.first_token_ms, sooner), (2, t.token_gap_ms, total), (4, t.attempt_ms.unwrap_or(0), total),
        ];
        for (i, ms, (bound, bound_level)) in rows {
            let expected = level(i) > 0 && level(i) >= bound_level && ms > bound;
            let start = format!("the {} timeout of {} never fires", names[i], show_ms(ms));
            let said = plan.warnings.iter().any(|found| found.message.starts_with(&start));
            prop_assert_eq!(said, expected, "{}\n{:?}", text, plan.warnings);
        }
    }

    /// Whatever is written, a first time is never longer than the longest one in a plan that loads.
    #[test]
    fn first_times_are_never_longer_than_longest_ones(top in proptest::array::uniform6(ms()), own in proptest::array::uniform6(ms())) {
        let blocks = |v: [Option<u64>; 6]| [
            format!("breaker: {}", block(&[("open_min", v[0]), ("open_max", v[1])])),
            format!("cooldown: {}", block(&[("initial", v[2]), ("max", v[3])])),
            format!("retry: {}", block(&[("backoff_initial", v[4]), ("backoff_max", v[5])])),
        ];
        let text = format!(
            "{}\nproviders: {{a: {{base_url: 'http://a', {}}}}}", blocks(top).join("\n"), blocks(own).join(", "),
        );
        let fine = |first: Option<u64>, longest: Option<u64>, least: u64| longest.is_none_or(|ms| ms >= first.unwrap_or(least));
        match loader().load_text(&text, &keys) {
            Ok(plan) => {
                let a = named(&plan, "a");
                prop_assert!(a.breaker.open_min_ms <= a.breaker.open_max_ms);
                prop_assert!(a.cooldown.initial_ms <= a.cooldown.max_ms);
                prop_assert!(a.retry.backoff_initial_ms <= a.retry.backoff_max_ms);
                prop_assert_eq!(own[0].or(top[0]).unwrap_or(defaults::BREAKER_OPEN_MIN_MS), a.breaker.open_min_ms);
            }
            Err(error) => {
                let top_fine = fine(top[0], top[1], defaults::BREAKER_OPEN_MIN_MS)
                    && fine(top[2], top[3], defaults::COOLDOWN_INITIAL_MS)
                    && fine(top[4], top[5], defaults::RETRY_BACKOFF_INITIAL_MS);
                let own_fine = fine(own[0].or(top[0]), own[1], defaults::BREAKER_OPEN_MIN_MS)
                    && fine(own[2].or(top[2]), own[3], defaults::COOLDOWN_INITIAL_MS)
                    && fine(own[4].or(top[4]), own[5], defaults::RETRY_BACKOFF_INITIAL_MS);
                prop_assert!(!(top_fine && own_fine), "{}\n{}", text, error);
            }
        }
    }

    /// Targets of one group stand next to each other, each target once, the head first, with shares in proportion.
    #[test]
    fn any_list_of_targets_makes_a_chain_in_order(
        places in proptest::collection::vec(proptest::collection::vec((0u8..6, 0u32..4), 1..4), 1..6), head in 0u8..6,
    ) {
        let list: Vec<String> = places.iter().map(|place| match &place[..] {
            [(one, _)] => format!("a/m{one}"),
            equals => {
                let each: Vec<String> = equals.iter().map(|(m, w)| format!("{{target: a/m{m}, weight: {w}}}")).collect();
                format!("[{}]", each.join(", "))
            }
        }).collect();
        let text = format!("{TWO}fallbacks: [{{model: a/m{head}, targets: [{}]}}]", list.join(", "));
        let plan = loader().load_text(&text, &keys).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let model = format!("a/m{head}");
        let targets = chain(&plan, &model);
        prop_assert_eq!(&targets[0].0, &model);
        let mut named: Vec<u8> = places.iter().flatten().map(|(m, _)| *m).chain([head]).collect();
        named.sort_unstable();
        named.dedup();
        prop_assert_eq!(targets.len(), named.len());
        let mut groups: Vec<u8> = targets.iter().map(|(_, group, _)| *group).collect();
        groups.dedup_by(|a, b| *a == *b && *a != 0);
        let mut of_equals: Vec<u8> = groups.into_iter().filter(|group| *group != 0).collect();
        let before = of_equals.len();
        of_equals.sort_unstable();
        of_equals.dedup();
        prop_assert_eq!(of_equals.len(), before, "a group is in one piece: {:?}", targets);
        for group in of_equals {
            let sum: u64 = targets.iter().filter(|t| t.1 == group).map(|t| u64::from(t.2)).sum();
            prop_assert!(sum <= 1_000_016, "{:?}", targets);
        }
    }
}

#[test]
fn notes_are_said_and_are_no_warnings() {
    let plan = plan(&format!("{TWO}checks: [finish_reason]"));
    let [note] = &plan.warnings[..] else { panic!("one note: {:?}", plan.warnings) };
    assert_eq!(note.severity, Severity::Note);
    assert!(note.to_string().starts_with("f.yaml:2:9: note: "), "{note}");
}
