//! The reference, the example and the defaults say the same.

use std::path::Path;

use sluice::config::{Balance, Loader, Plan, defaults, show_bytes, show_ms};

fn repository(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn load(name: &str, text: &str) -> Plan {
    let loader = Loader { file: Some(name.into()), ..Loader::default() };
    let env = |name: &str| (!name.starts_with("OTEL_")).then(|| "key".to_owned());
    loader.load_text(text, &env).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_example_loads_without_a_word() {
    let text = repository("sluice.example.yaml");
    let plan = load("sluice.example.yaml", &text);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    assert_eq!(plan.resolve("fast").map(|chain| chain.len()), Ok(3));
    // What it says are the defaults are the defaults.
    let nothing = load("f", "providers: {x: {base_url: 'http://h'}}");
    assert_eq!(plan.timeouts, nothing.timeouts);
    for provider in &plan.providers {
        assert_eq!(provider.breaker, nothing.providers[0].breaker);
        assert_eq!(provider.cooldown, nothing.providers[0].cooldown);
        assert_eq!(provider.retry_budget, nothing.providers[0].retry_budget);
    }
}

#[test]
fn a_file_that_says_nothing_gets_the_defaults() {
    let plan = load("f", "providers: {x: {base_url: 'http://h'}}");
    assert_eq!(plan.listen.to_string(), defaults::LISTEN);
    assert_eq!(plan.drain_timeout_ms, defaults::DRAIN_TIMEOUT_MS);
    let timeouts = plan.timeouts;
    let expected =
        [defaults::CONNECT_MS, defaults::FIRST_TOKEN_MS, defaults::TOKEN_GAP_MS, defaults::TOTAL_MS];
    let actual = [timeouts.connect_ms, timeouts.first_token_ms, timeouts.token_gap_ms, timeouts.total_ms];
    assert_eq!((actual, timeouts.attempt_ms), (expected, None));
    let provider = &plan.providers[0];
    assert_eq!(provider.timeouts, timeouts);
    assert_eq!(provider.idle_ms, defaults::UPSTREAM_IDLE_MS);
    assert_eq!(provider.retry.backoff_initial_ms, defaults::RETRY_BACKOFF_INITIAL_MS);
    assert_eq!(provider.retry.backoff_max_ms, defaults::RETRY_BACKOFF_MAX_MS);
    let limits = plan.limits;
    assert_eq!(limits.body_bytes, defaults::BODY_BYTES);
    assert_eq!(u64::from(limits.head_bytes), defaults::HEAD_BYTES);
    assert_eq!(u64::from(limits.head_fields), defaults::HEAD_FIELDS);
    assert_eq!(u64::from(limits.request_line_bytes), defaults::REQUEST_LINE_BYTES);
    assert_eq!(u64::from(limits.upstream_head_bytes), defaults::UPSTREAM_HEAD_BYTES);
    assert_eq!(u64::from(limits.upstream_head_fields), defaults::UPSTREAM_HEAD_FIELDS);
    assert_eq!(u64::from(limits.interim_responses), defaults::INTERIM_RESPONSES);
    assert_eq!(u64::from(limits.event_bytes), defaults::EVENT_BYTES);
    assert_eq!(u64::from(limits.unread_bytes), defaults::UNREAD_BYTES);
    assert_eq!(u64::from(limits.connections), defaults::CONNECTIONS);
    assert_eq!(limits.request_head_ms, defaults::REQUEST_HEAD_MS);
    assert_eq!(limits.client_idle_ms, defaults::CLIENT_IDLE_MS);
    assert_eq!(limits.client_write_ms, defaults::CLIENT_WRITE_MS);
}

#[test]
fn the_reference_states_every_default_as_it_is() {
    let reference = repository("docs/configuration.md");
    let rows = [
        ("listen", defaults::LISTEN.to_owned()),
        ("drain_timeout", show_ms(defaults::DRAIN_TIMEOUT_MS)),
        ("timeouts.connect", show_ms(defaults::CONNECT_MS)),
        ("timeouts.first_token", show_ms(defaults::FIRST_TOKEN_MS)),
        ("timeouts.token_gap", show_ms(defaults::TOKEN_GAP_MS)),
        ("timeouts.total", show_ms(defaults::TOTAL_MS)),
        ("timeouts.request_head", show_ms(defaults::REQUEST_HEAD_MS)),
        ("timeouts.client_idle", show_ms(defaults::CLIENT_IDLE_MS)),
        ("timeouts.client_write", show_ms(defaults::CLIENT_WRITE_MS)),
        ("timeouts.upstream_idle", show_ms(defaults::UPSTREAM_IDLE_MS)),
        ("limits.body", show_bytes(defaults::BODY_BYTES)),
        ("limits.head", show_bytes(defaults::HEAD_BYTES)),
        ("limits.head_fields", defaults::HEAD_FIELDS.to_string()),
        ("limits.request_line", show_bytes(defaults::REQUEST_LINE_BYTES)),
        ("limits.upstream_head", show_bytes(defaults::UPSTREAM_HEAD_BYTES)),
        ("limits.upstream_head_fields", defaults::UPSTREAM_HEAD_FIELDS.to_string()),
        ("limits.interim_responses", defaults::INTERIM_RESPONSES.to_string()),
        ("limits.event", show_bytes(defaults::EVENT_BYTES)),
        ("limits.unread", show_bytes(defaults::UNREAD_BYTES)),
        ("limits.connections", defaults::CONNECTIONS.to_string()),
        ("weight", defaults::KEY_WEIGHT.to_string()),
        ("stream_idle_timeout_in_seconds", (defaults::TOKEN_GAP_MS / 1_000).to_string()),
        ("keep_alive_timeout_in_seconds", (defaults::UPSTREAM_IDLE_MS / 1_000).to_string()),
        ("retry_backoff_initial", defaults::RETRY_BACKOFF_INITIAL_MS.to_string()),
        ("retry_backoff_max", defaults::RETRY_BACKOFF_MAX_MS.to_string()),
        ("retry.backoff_initial", show_ms(defaults::RETRY_BACKOFF_INITIAL_MS)),
        ("retry.backoff_max", show_ms(defaults::RETRY_BACKOFF_MAX_MS)),
        ("breaker.failures_in_row", defaults::BREAKER_FAILURES_IN_ROW.to_string()),
        ("breaker.failure_percent", defaults::BREAKER_FAILURE_PERCENT.to_string()),
        ("breaker.calls_min", defaults::BREAKER_CALLS_MIN.to_string()),
        ("breaker.slow_call", "off".to_owned()),
        ("breaker.slow_percent", defaults::BREAKER_SLOW_PERCENT.to_string()),
        ("breaker.tokens_burnt", defaults::BREAKER_TOKENS_BURNT.to_string()),
        ("breaker.tokens_failure_percent", defaults::BREAKER_TOKENS_FAILURE_PERCENT.to_string()),
        ("breaker.open_min", show_ms(defaults::BREAKER_OPEN_MIN_MS)),
        ("breaker.open_max", show_ms(defaults::BREAKER_OPEN_MAX_MS)),
        ("breaker.ramp", show_ms(defaults::BREAKER_RAMP_MS)),
        ("cooldown.initial", show_ms(defaults::COOLDOWN_INITIAL_MS)),
        ("cooldown.max", show_ms(defaults::COOLDOWN_MAX_MS)),
        ("cooldown.cap", show_ms(defaults::COOLDOWN_CAP_MS)),
        ("retry_budget.percent", defaults::RETRY_BUDGET_PERCENT.to_string()),
        ("retry_budget.per_second", defaults::RETRY_BUDGET_PER_SECOND.to_string()),
        ("retry_budget.burst", defaults::RETRY_BUDGET_BURST.to_string()),
        ("retry_budget.max_cost_usd_per_minute", "off".to_owned()),
        ("bulkhead.concurrent", "off".to_owned()),
        ("bulkhead.queue", defaults::BULKHEAD_QUEUE.to_string()),
        ("bulkhead.queue_wait", show_ms(defaults::BULKHEAD_QUEUE_WAIT_MS)),
        ("balance", Balance::default().name().to_owned()),
        ("hedge", "off".to_owned()),
        ("hedge.percent", defaults::HEDGE_PERCENT.to_string()),
        ("hedge.delay_min", show_ms(defaults::HEDGE_DELAY_MIN_MS)),
        ("ledger.keep", format!("{}d", defaults::LEDGER_KEEP_DAYS)),
        ("access_log.rotate.bytes", show_bytes(defaults::ACCESS_LOG_BYTES)),
        ("access_log.rotate.keep", defaults::ACCESS_LOG_KEEP.to_string()),
        ("access_log", "off".to_owned()),
        ("traces.sample", "1".to_owned()),
        ("traces.timeout", show_ms(defaults::TRACES_TIMEOUT_MS)),
        ("capture", "off".to_owned()),
        ("capture.bytes", show_bytes(defaults::CAPTURE_BYTES)),
        ("idempotency.keep", show_ms(defaults::IDEMPOTENCY_KEEP_MS)),
        ("idempotency.entries", defaults::IDEMPOTENCY_ENTRIES.to_string()),
        ("idempotency.bytes", show_bytes(defaults::IDEMPOTENCY_BYTES)),
    ];
    for (key, default) in rows {
        let row = reference.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
        let row = row.unwrap_or_else(|| panic!("no row for {key}"));
        assert!(row.contains(&format!("| `{default}` |")), "{key} is {default}: {row}");
    }
    assert!(reference.contains(&format!("A chain has at most {}", defaults::CHAIN_TARGETS_MAX)));
    assert!(reference.contains(&format!("up to {} names", defaults::SUGGESTIONS_MAX)));
    assert!(reference.contains(&format!("| list, at most {} |", defaults::CHECKS_MAX)));
    assert!(reference.contains(&format!("at most `{}`", show_bytes(defaults::STATIC_BYTES_MAX))));
    assert!(reference.contains(&format!("`{}` on the last one", defaults::LAST_TARGET_RETRIES)));
    let unpriced = defaults::UNPRICED_INPUT_NANO_USD / 1_000;
    assert!(reference.contains(&format!("count `{unpriced}` dollars a million")));
    assert!(reference.contains(&format!("0 to {} each", defaults::PRICE_USD_MOST)));
}

#[test]
fn the_reference_lists_every_key_that_exists() {
    let reference = repository("docs/configuration.md");
    // The file of the tests holds every key once; the loader refuses it when one is unknown.
    for line in repository("tests/configs/every-key.yaml").lines() {
        let Some((name, _)) = line.trim_start_matches([' ', '-']).split_once(':') else { continue };
        let own = [
            "openai",
            "anthropic",
            "local",
            "fast",
            "cheap",
            "x-team",
            "https",
            "heuristic",
            "shape",
            "local/qwen",
            "pipeline",
            "x-collector",
            "host",
        ];
        if !own.contains(&name) {
            let named = [format!("`{name}`"), format!(".{name}`"), format!("{name}:")];
            assert!(named.iter().any(|name| reference.contains(name)), "{name} is not in the reference");
        }
    }
}

#[test]
fn the_reference_lists_every_known_provider() {
    let reference = repository("docs/configuration.md");
    for line in repository("src/config/providers.yaml").lines().filter(|line| line.starts_with("- {")) {
        let id = line.split([' ', ',']).nth(3).unwrap_or_default();
        let row = reference.lines().find(|row| row.starts_with(&format!("| `{id}` | ")));
        let row = row.unwrap_or_else(|| panic!("{id} is not in the reference"));
        for part in line
            .split([' ', ',', '[', ']', '"'])
            .filter(|part| part.starts_with("http") || part.ends_with("_KEY"))
        {
            assert!(row.contains(&format!("`{part}`")), "{id}: {part} is not in {row}");
        }
    }
}

#[test]
fn the_files_in_the_reference_load() {
    let reference = repository("docs/configuration.md");
    let mut loaded = 0;
    for block in reference.split("```").skip(1).step_by(2) {
        let Some((language, text)) = block.split_once('\n') else { continue };
        if language == "yaml" || language == "json" {
            load(language, text);
            loaded += 1;
        }
    }
    assert_eq!(loaded, 6);
}
