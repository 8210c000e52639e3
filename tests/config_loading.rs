//! Where a configuration comes from: files that are none, the environment, flags; and what must never leak.

use std::io::Write;

use proptest::prelude::*;
use sluice::config::{
    ConfigError, Dialect, DriverChoice, Loader, Plan, PlanSource, Provider, Severity, UnknownReason,
    defaults, explain,
};

fn nothing(_: &str) -> Option<String> {
    None
}

/// Every variable but those of OpenTelemetry, which would turn traces on. The token of the page is none of the keys.
fn keys(name: &str) -> Option<String> {
    let value = if name == "SLUICE_ADMIN_TOKEN" { "a-token-of-the-page" } else { "key" };
    (!name.starts_with("OTEL_")).then(|| value.to_owned())
}

fn loader() -> Loader {
    Loader { file: Some("f.yaml".into()), ..Loader::default() }
}

fn plan(text: &str) -> Plan {
    loader().load_text(text, &keys).unwrap_or_else(|error| panic!("{error}"))
}

fn named<'p>(plan: &'p Plan, name: &str) -> &'p Provider {
    plan.provider(plan.provider_named(name).unwrap_or_else(|| panic!("no provider {name}")))
}

fn refused(bytes: &[u8]) -> ConfigError {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("written");
    let loader = Loader { file: Some(file.path().to_owned()), ..Loader::default() };
    loader.load(&nothing).expect_err("must be refused")
}

#[test]
fn files_that_are_no_config_say_so() {
    let missing = Loader { file: Some("/no/such/sluice.yaml".into()), ..Loader::default() };
    let error = missing.load(&nothing).expect_err("must be refused").to_string();
    assert_eq!(error, "/no/such/sluice.yaml: error: the config file does not exist\n  help: check the path");

    let directory = tempfile::tempdir().expect("a directory");
    let loader = Loader { file: Some(directory.path().to_owned()), ..Loader::default() };
    let error = loader.load(&nothing).expect_err("must be refused").to_string();
    assert!(error.contains("is a directory"), "{error}");

    let error = refused("listen: é\nprovid\u{e9}rs: ".as_bytes()).to_string();
    assert!(error.contains("unknown key"), "{error}");
    let error = refused(b"listen: \xc3\xa9\nx: a\xffb");
    assert_eq!((error.diagnostics[0].line, error.diagnostics[0].column), (2, 5));
    assert!(error.to_string().contains("not UTF-8"), "{error}");

    assert!(refused(b"").to_string().contains("the file is empty"));
    assert!(refused(b"\xef\xbb\xbf  \n").to_string().contains("the file is empty"));
    assert!(refused(&vec![b'#'; 2 << 20]).to_string().contains("larger than 1MiB"));
}

#[test]
fn a_file_at_the_size_limit_loads_and_one_past_it_does_not() {
    let mut text = b"providers: {x: {base_url: 'http://h'}}\n#".to_vec();
    text.resize(defaults::CONFIG_BYTES_MAX, b'#');
    assert!(loader().load_bytes(&text, &nothing).is_ok());
    text.push(b'#');
    assert!(loader().load_bytes(&text, &nothing).is_err());
}

#[test]
fn nesting_and_alias_bombs_are_refused_quickly() {
    let started = std::time::Instant::now();
    for text in ["[".repeat(500_000), "{a: ".repeat(100_000), "- ".repeat(200_000), "a: ".repeat(1000)] {
        assert!(loader().load_text(&text, &nothing).is_err());
    }
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    assert!(loader().load_text(&bomb, &nothing).is_err());
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_fine() {
    let plan = plan("\u{feff}providers:\r\n  openai:\r\n    keys:\r\n      - value: env.K\r\n");
    assert_eq!(named(&plan, "openai").keys.len(), 1);
}

#[test]
fn yaml_anchors_work() {
    let plan = plan(
        "providers:
  a: {base_url: 'http://h', network_config: &net {default_request_timeout_in_seconds: 8}}
  b: {base_url: 'http://h', network_config: *net}",
    );
    assert_eq!(named(&plan, "b").timeouts.attempt_ms, Some(8_000));
}

#[test]
fn without_a_file_the_environment_decides() {
    let env = |name: &str| match name {
        "ANTHROPIC_API_KEY" | "OPENAI_API_KEY" => Some("key".to_owned()),
        "GOOGLE_API_KEY" => Some("second name".to_owned()),
        // Set and empty is not set.
        "MISTRAL_API_KEY" => Some(String::new()),
        _ => None,
    };
    let plan = Loader::default().load(&env).expect("loads");
    let names: Vec<&str> = plan.providers.iter().map(|provider| &*provider.name).collect();
    assert_eq!(names, ["openai", "anthropic", "gemini"]);
    assert_eq!(named(&plan, "anthropic").dialect, Dialect::Anthropic);
    assert_eq!(&*named(&plan, "gemini").base_path, "/v1beta/openai");
    assert_eq!(&*named(&plan, "gemini").keys[0].name, "GOOGLE_API_KEY");
    let variables = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY"].map(Box::from).to_vec();
    assert_eq!(plan.source, PlanSource::Environment(variables));
    assert!(plan.mock.is_none() && plan.warnings.is_empty());
    assert_eq!(plan.listen.to_string(), "127.0.0.1:8080");
}

#[test]
fn with_no_key_at_all_the_mock_answers() {
    let plan = Loader::default().load(&nothing).expect("loads");
    assert_eq!(plan.source, PlanSource::Environment(Vec::new()));
    let mock = plan.provider(plan.mock.expect("the mock is there"));
    assert_eq!((&*mock.name, &*mock.base_path, mock.keys.len()), ("mock", "/v1", 0));
    // A file without providers leaves the choice to the environment too.
    assert!(loader().load_text("listen: 127.0.0.1:9000", &nothing).expect("loads").mock.is_some());
    assert!(plan_of("listen: 127.0.0.1:9000").mock.is_none());
    // And a file may ask for it.
    assert!(plan_of("providers: {mock: }").mock.is_some());
    assert!(plan_of("providers: {mock: {base_url: 'http://127.0.0.1:9'}}").mock.is_none());
}

fn plan_of(text: &str) -> Plan {
    plan(text)
}

#[test]
fn keys_over_plain_http_are_fine_nearby_and_warned_of_elsewhere() {
    let warnings = |host: &str| {
        plan(&format!("providers: {{x: {{base_url: 'http://{host}', keys: [env.K]}}}}")).warnings.len()
    };
    for near in [
        "127.0.0.1:9",
        "localhost",
        "[::1]",
        "10.1.2.3",
        "192.168.0.9",
        "vllm:8000",
        "llm.internal",
        "[fd00::1]",
    ] {
        assert_eq!(warnings(near), 0, "{near}");
    }
    for far in ["example.com", "8.8.8.8", "internal.example.com", "[2001:db8::1]"] {
        assert_eq!(warnings(far), 1, "{far}");
    }
}

#[test]
fn a_known_provider_without_keys_takes_its_usual_variable() {
    let env = |name: &str| (name == "GROQ_API_KEY").then(|| "key".to_owned());
    let plan = loader().load_text("providers: {groq: }", &env).expect("loads");
    assert_eq!(&*named(&plan, "groq").keys[0].name, "GROQ_API_KEY");
    assert_eq!(&*named(&plan, "groq").base_path, "/openai/v1");
}

#[test]
fn a_custom_provider_needs_an_address_and_nothing_else() {
    let plan = plan(
        "providers:
  mine: {base_url: 'http://127.0.0.1:9'}
  claude-proxy: {dialect: anthropic, network_config: {base_url: 'https://llm.example.com/anthropic'}, keys: [env.K]}
  odd: {base_url: 'https://w.example.com/serving-endpoints', base_path: /serving-endpoints}
  ollama: {}",
    );
    let mine = named(&plan, "mine");
    assert_eq!((mine.dialect, &*mine.base_path, mine.keys.len()), (Dialect::OpenAi, "/v1", 0));
    let proxy = named(&plan, "claude-proxy");
    assert_eq!((proxy.dialect, &*proxy.base_path), (Dialect::Anthropic, "/anthropic/v1"));
    assert_eq!(&*named(&plan, "odd").base_path, "/serving-endpoints");
    assert_eq!(named(&plan, "ollama").origin.authority(), "localhost:11434");
}

#[test]
fn set_changes_one_value_and_is_named_when_wrong() {
    let set = |flags: &[&str]| Loader { sets: flags.iter().map(|f| (*f).to_owned()).collect(), ..loader() };
    let text = "providers: {openai: {keys: [{value: env.A, weight: 0.5}, {value: env.B, weight: 0.5}]}}";
    let flags = [
        "providers.openai.network_config.base_url=http://127.0.0.1:9101",
        "providers.openai.keys.0.weight=1.5",
        "listen=9000",
        "timeouts.connect=250ms",
    ];
    let plan = set(&flags).load_text(text, &keys).unwrap_or_else(|error| panic!("{error}"));
    let openai = named(&plan, "openai");
    assert_eq!(openai.origin.authority(), "127.0.0.1:9101");
    assert_eq!(&*openai.base_path, "/v1");
    assert!((openai.key_share(sluice::config::KeyId(0)) - 0.75).abs() < 1e-9);
    assert_eq!(plan.listen.to_string(), "127.0.0.1:9000");
    assert_eq!(openai.timeouts.connect_ms, 250);

    let error =
        set(&["providers.openai.netwrk.base_url=sk-canary"]).load_text(text, &keys).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "--set providers.openai.netwrk.base_url: error: unknown key `netwrk` in `providers.openai`\n  help: did you mean `network_config`?"
    );
    let error =
        set(&["providers.openai.keys.5.weight=1"]).load_text(text, &keys).expect_err("refused").to_string();
    assert!(error.contains("has 2 entries; position 5 is past the end"), "{error}");

    // Also without a file, where it adds to what the environment gives.
    let alone = Loader { sets: vec!["providers.mine.base_url=http://h".to_owned()], ..Loader::default() };
    let plan = alone.load(&|name| (name == "OPENAI_API_KEY").then(|| "k".to_owned())).expect("loads");
    assert_eq!(plan.providers.len(), 2);
    assert_eq!(alone.load(&nothing).expect("loads").providers.len(), 1);
}

#[test]
fn flags_of_serve_win_over_the_file() {
    let loader = Loader {
        listen: Some(([127, 0, 0, 1], 9).into()),
        workers: Some(3),
        driver: Some(DriverChoice::Epoll),
        ..loader()
    };
    let plan = loader.load_text("{listen: '0.0.0.0:1', workers: 1, driver: io_uring}", &keys).expect("loads");
    assert_eq!((plan.listen.port(), plan.workers, plan.driver), (9, Some(3), DriverChoice::Epoll));
    // The warning about a public address is about the address that is used.
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    let open = Loader { listen: Some(([0, 0, 0, 0], 9).into()), ..Loader::default() };
    assert_eq!(open.load(&keys).expect("loads").warnings.len(), 1);
}

#[test]
fn numbers_may_come_from_variables() {
    let env = |name: &str| Some(if name == "W" { "0.25" } else { "3" }.to_owned());
    let text = "{workers: env.N, providers: {openai: {keys: [{value: env.K, weight: env.W}]}}}";
    let plan = loader().load_text(text, &env).expect("loads");
    assert_eq!(plan.workers, Some(3));
    assert!((named(&plan, "openai").keys[0].weight - 0.25).abs() < 1e-9);
    let error = loader().load_text(text, &|_| Some("canary".to_owned())).expect_err("refused").to_string();
    assert!(error.contains("`workers` must be a number") && !error.contains("canary"), "{error}");
}

#[test]
fn bifrosts_network_names_mean_what_they_mean_there() {
    let plan = plan(
        "providers:
  openai:
    keys: [env.K]
    network_config:
      max_retries: 3
      retry_backoff_initial: 100
      retry_backoff_max: 2s
      default_request_timeout_in_seconds: 8.5
      stream_idle_timeout_in_seconds: 30
      keep_alive_timeout_in_seconds: 15
      max_conns_per_host: 7
      extra_headers: {X-Team: blue}
    concurrency_and_buffer_size: {concurrency: 5, buffer_size: 9}
  anthropic: {keys: [env.K], network_config: {default_request_timeout_in_seconds: 0}}",
    );
    let openai = named(&plan, "openai");
    assert_eq!(openai.retry.max_retries, Some(3));
    assert_eq!((openai.retry.backoff_initial_ms, openai.retry.backoff_max_ms), (100, 2_000));
    assert_eq!((openai.timeouts.attempt_ms, openai.timeouts.token_gap_ms), (Some(8_500), 30_000));
    assert_eq!((openai.idle_ms, openai.max_connections), (15_000, Some(7)));
    assert_eq!((openai.bulkhead.concurrent, openai.bulkhead.queue), (Some(5), 9));
    assert_eq!(&*openai.extra_headers[0].0, "x-team");
    assert_eq!(openai.extra_headers[0].1.expose(), "blue");
    let anthropic = named(&plan, "anthropic");
    assert_eq!((anthropic.timeouts.attempt_ms, anthropic.retry.max_retries), (None, None));
}

#[test]
fn keys_may_be_limited_to_models_and_a_star_means_all() {
    let plan = plan(
        "providers: {openai: {keys: [{value: env.A, models: [gpt-4o]}, {value: env.B, models: ['*']}, {value: '  c  '}]}}",
    );
    let openai = named(&plan, "openai");
    assert!(openai.keys[0].allows("gpt-4o") && !openai.keys[0].allows("gpt-4o-mini"));
    assert!(openai.keys[1].allows("anything"));
    assert_eq!((&*openai.keys[2].name, openai.keys[2].secret.expose()), ("key-3", "c"));
}

#[test]
fn clients_keys_are_named_and_matched_whole() {
    let plan = plan("{listen: '0.0.0.0:80', auth: [env.CI, {name: team, value: env.T}]}");
    let names: Vec<&str> = plan.client_keys.iter().map(|key| &*key.name).collect();
    assert_eq!(names, ["CI", "team"]);
    assert!(plan.client_keys[0].secret.matches(b"key"));
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
}

#[test]
fn a_chain_at_the_limit_loads_and_one_past_it_does_not() {
    let text = |count: usize| {
        let targets: Vec<String> = (1..count).map(|n| format!("x/m{n}")).collect();
        format!(
            "{{providers: {{x: {{base_url: 'http://h'}}}}, fallbacks: [{{primary: x/m, backup: [{}]}}]}}",
            targets.join(", ")
        )
    };
    let most = defaults::CHAIN_TARGETS_MAX;
    assert_eq!(plan(&text(most)).resolve("x/m").expect("known").len(), most);
    let error = loader().load_text(&text(most + 1), &keys).expect_err("refused").to_string();
    assert!(error.contains("a chain of 17 targets is too long"), "{error}");
}

#[test]
fn secrets_never_appear_anywhere() {
    // A canary in every place a secret can stand, in files that load and in files that do not.
    let good = "
listen: 0.0.0.0:8080
auth: [env.CANARY, {name: ci, value: sk-canary}]
providers:
  openai:
    keys: [{value: env.CANARY, name: main}, {value: sk-canary-literal}]
    network_config: {extra_headers: {authorization: env.CANARY, x-secret: canary}}
  x: {base_url: 'http://h', keys: [env.CANARY]}
";
    let env = |_: &str| Some("sk-canary-from-env".to_owned());
    let plan = loader().load_text(good, &env).unwrap_or_else(|error| panic!("{error}"));
    let mut seen = format!("{plan:?}");
    for warning in &plan.warnings {
        assert_eq!(warning.severity, Severity::Warning);
        seen.push_str(&warning.to_string());
    }
    for model in ["gpt-4o", "x/y"] {
        seen.push_str(&explain(&plan, model, &|_, _| None).expect("known").to_string());
    }
    seen.push_str(&plan.resolve("unknown").expect_err("unknown").to_string());
    assert!(!seen.contains("canary"), "{seen}");

    // Every scalar of the file replaced by a canary, one at a time, from the environment and in the clear.
    let lines: Vec<&str> = include_str!("configs/every-key.yaml").lines().collect();
    let file = lines.join("\n");
    let base = loader().load_text(&file, &keys);
    assert!(base.is_ok(), "{}", base.expect_err("refused"));
    for (index, line) in lines.iter().enumerate() {
        let Some((before, value)) = line.split_once(": ").filter(|(_, value)| !value.is_empty()) else {
            continue;
        };
        for canary in
            ["env.CANARY", "sk-canary", "'sk-canary: x'", "[sk-canary]", "{a: sk-canary}", "\"sk-canary"]
        {
            let mut changed = lines.clone();
            let line = format!("{before}: {canary}");
            changed[index] = &line;
            if let Err(error) = loader().load_text(&changed.join("\n"), &env) {
                assert!(!format!("{error} {error:?}").contains("canary"), "{line} (was {value}): {error}");
            }
        }
    }
}

#[test]
fn a_reload_of_a_broken_file_says_so_and_the_loader_stays_usable() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(b"providers: {x: {base_url: 'http://h'}}").expect("written");
    let loader = Loader { file: Some(file.path().to_owned()), ..Loader::default() };
    assert!(loader.load(&nothing).is_ok());
    file.write_all(b"\n  broken").expect("written");
    assert!(loader.load(&nothing).is_err());
    assert_eq!(loader.load(&nothing).expect_err("refused").errors(), 1);
}

#[test]
fn an_unknown_model_does_not_echo_the_world() {
    let plan = plan("providers: {openai: {}}");
    let error = plan.resolve(&"x\n".repeat(10_000)).expect_err("unknown");
    assert_eq!(error.reason, UnknownReason::Malformed);
    assert!(error.to_string().len() < 1_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_make_the_loader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = loader().load_bytes(&bytes, &keys);
    }

    #[test]
    fn no_change_of_a_good_file_makes_the_loader_panic(
        at in 0usize..4000, removed in 0usize..40, inserted in "[-a-z0-9:{}\\[\\]'\"*&!#,.\n \t]{0,12}",
    ) {
        let mut text = include_str!("configs/every-key.yaml").to_owned();
        let start = at.min(text.len());
        let end = (start + removed).min(text.len());
        if text.is_char_boundary(start) && text.is_char_boundary(end) {
            text.replace_range(start..end, &inserted);
            if let Ok(plan) = loader().load_text(&text, &keys) {
                prop_assert!(!plan.providers.is_empty());
            }
        }
    }

    #[test]
    fn no_flag_makes_the_loader_panic(flag in "[-a-z0-9.=\\[\\]{}\"]{0,40}") {
        let loader = Loader { sets: vec![flag], ..loader() };
        let _ = loader.load_text(include_str!("configs/every-key.yaml"), &keys);
    }

    #[test]
    fn no_model_name_makes_resolving_panic(model in "\\PC{0,40}") {
        let plan = plan(include_str!("configs/every-key.yaml"));
        match plan.resolve(&model) {
            Ok(chain) => prop_assert_eq!(chain.iter(&plan, &model).count(), chain.len()),
            Err(error) => prop_assert!(error.suggestions.len() <= defaults::SUGGESTIONS_MAX),
        }
    }
}

#[test]
fn a_variable_that_is_not_set_is_one_finding_and_not_a_missing_key_as_well() {
    for text in ["providers: {openai: {keys: [env.NOT_SET]}}", "providers: {openai: {keys: env.NOT_SET}}"] {
        let loader = Loader { file: Some("f.yaml".into()), ..Loader::default() };
        let error = loader.load_text(text, &|_| None).unwrap_err().to_string();
        assert!(error.contains("`NOT_SET` is not set") && !error.contains("has no keys"), "{text}: {error}");
    }
}
