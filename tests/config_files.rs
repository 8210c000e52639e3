//! Config files as people write them: the three shapes other gateways use, and files with mistakes.

use std::path::{Path, PathBuf};

use sluice::config::{Chain, ConfigError, Dialect, KeyId, Loader, Plan, Provider, ProviderId};

fn env(name: &str) -> Option<String> {
    let value = match name {
        "OPENAI_KEY" | "OPENAI_KEY_PRIMARY" => "sk-canary-one",
        "OPENAI_KEY_BACKUP" | "OPENAI_KEY_SECONDARY" => "sk-canary-two",
        "ANTHROPIC_KEY" => "sk-canary-three",
        _ => return None,
    };
    Some(value.to_owned())
}

fn file(name: &str) -> Loader {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs").join(name);
    Loader { file: Some(path), ..Loader::default() }
}

fn load(name: &str) -> Plan {
    file(name).load(&env).unwrap_or_else(|error| panic!("{error}"))
}

fn named<'p>(plan: &'p Plan, name: &str) -> &'p Provider {
    plan.provider(plan.provider_named(name).unwrap_or_else(|| panic!("no provider {name}")))
}

/// The chain of `model` as `provider/model` names.
fn chain(plan: &Plan, model: &str) -> Vec<String> {
    let chain: Chain = plan.resolve(model).unwrap_or_else(|error| panic!("{error}"));
    let show = |target: sluice::config::TargetRef<'_>| {
        format!("{}/{}", plan.provider(target.provider).name, target.model.unwrap_or(model))
    };
    chain.iter(plan, model).map(show).collect()
}

const OPENAI_FIRST: [&str; 2] = ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"];
const ANTHROPIC_FIRST: [&str; 2] = ["anthropic/claude-haiku-4-5", "openai/gpt-4o-mini"];

fn assert_seventy_thirty(plan: &Plan, second: &str) {
    let openai = named(plan, "openai");
    assert_eq!(openai.dialect, Dialect::OpenAi);
    assert_eq!(openai.origin.authority(), "api.openai.com");
    assert_eq!(&*openai.base_path, "/v1");
    assert_eq!(&*openai.keys[0].name, "OPENAI_KEY_PRIMARY");
    assert_eq!(&*openai.keys[1].name, second);
    assert!((openai.key_share(KeyId(0)) - 0.7).abs() < 1e-9);
    assert!((openai.key_share(KeyId(1)) - 0.3).abs() < 1e-9);
    assert_eq!(openai.keys[0].secret.expose(), "sk-canary-one");
    assert_eq!(openai.keys[1].secret.expose(), "sk-canary-two");
    let anthropic = named(plan, "anthropic");
    assert_eq!(anthropic.dialect, Dialect::Anthropic);
    assert_eq!(anthropic.keys.len(), 1);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
}

#[test]
fn a_model_with_targets_that_include_itself() {
    let plan = load("fallbacks-model-targets.yaml");
    assert_seventy_thirty(&plan, "OPENAI_KEY_BACKUP");
    assert_eq!(chain(&plan, "openai/gpt-4o-mini"), OPENAI_FIRST);
    assert_eq!(chain(&plan, "gpt-4o-mini"), OPENAI_FIRST);
    // Only the named model has a chain.
    assert_eq!(chain(&plan, "openai/gpt-4o"), ["openai/gpt-4o"]);
    assert_eq!(chain(&plan, "claude-haiku-4-5"), ["anthropic/claude-haiku-4-5"]);
    assert_eq!(plan.default_provider, ProviderId(0));
}

#[test]
fn a_primary_with_its_backup() {
    let plan = load("fallbacks-primary-backup.yaml");
    assert_seventy_thirty(&plan, "OPENAI_KEY_SECONDARY");
    assert_eq!(chain(&plan, "openai/gpt-4o-mini"), OPENAI_FIRST);
    assert_eq!(chain(&plan, "gpt-4o-mini"), OPENAI_FIRST);
    assert_eq!(chain(&plan, "anthropic/claude-haiku-4-5"), ["anthropic/claude-haiku-4-5"]);
}

#[test]
fn one_weighted_chain_for_every_request() {
    let plan = load("fallbacks-weighted.json");
    for provider in &plan.providers {
        assert_eq!(provider.timeouts.attempt_ms, Some(8_000));
        assert_eq!(provider.keys.len(), 1);
    }
    assert_eq!(chain(&plan, "openai/gpt-4o-mini"), OPENAI_FIRST);
    assert_eq!(chain(&plan, "gpt-4o-mini"), OPENAI_FIRST);
    assert_eq!(chain(&plan, "anthropic/claude-haiku-4-5"), ANTHROPIC_FIRST);
    // Equal weights: the order written.
    let third = ["openai/gpt-4o", "anthropic/claude-haiku-4-5", "openai/gpt-4o-mini"];
    assert_eq!(chain(&plan, "gpt-4o"), third);
    assert_eq!(chain(&plan, "openai/gpt-4o"), third);
}

#[test]
fn a_missing_variable_is_named_with_its_place_and_what_to_do() {
    let loader = file("fallbacks-weighted.json");
    let error: ConfigError = loader.load(&|name| env(name).filter(|_| name != "OPENAI_KEY")).unwrap_err();
    assert_eq!(error.diagnostics.len(), 1, "{error}");
    let found = &error.diagnostics[0];
    assert_eq!((found.line, found.column), (3, 40));
    assert_eq!(found.path, "providers.openai.keys.0.value");
    assert!(found.message.contains("`OPENAI_KEY` is not set"), "{error}");
    assert!(found.help.as_deref().is_some_and(|help| help.contains("OPENAI_KEY")), "{error}");
}

/// Reads `tests/configs/broken.txt`: sections of `=== name`, the file, `---`, and what is said about it.
/// `SLUICE_BLESS=1` writes down what is said now.
#[test]
fn what_is_wrong_with_a_file_is_said_with_its_place_and_what_to_do() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs/broken.txt");
    let table = std::fs::read_to_string(&path).expect("the table is there");
    let env = |name: &str| {
        let value = match name {
            "K" => "sk-canary1",
            "K2" => "sk-canary2",
            "EMPTY" => " ",
            "BREAK" => "canary\nx",
            "OPENAI_API_KEY" | "ANTHROPIC_API_KEY" => "canary",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let loader = Loader { file: Some("f.yaml".into()), ..Loader::default() };
    let mut actual = String::new();
    for section in table.split("=== ").skip(1) {
        let (name, rest) = section.split_once('\n').expect("a section has a name");
        let (text, _) = rest.split_once("---\n").expect("a section has an expectation");
        // A file with a document marker of its own cannot stand in this format.
        let text = text.replace("-- -\n", "---\n");
        let said: Vec<String> = match loader.load_text(&text, &env) {
            Ok(plan) => plan.warnings.iter().map(ToString::to_string).collect(),
            Err(error) => vec![error.to_string()],
        };
        assert!(!said.is_empty(), "nothing is wrong with: {name}");
        let text = text.replace("---\n", "-- -\n");
        actual.push_str(&format!("=== {name}\n{text}---\n{}\n\n", said.join("\n")));
    }
    assert!(!actual.lines().filter(|line| line.starts_with("f.yaml:")).any(|line| line.contains("canary")));
    if std::env::var_os("SLUICE_BLESS").is_some() {
        std::fs::write(&path, &actual).expect("the table can be written");
    }
    assert_eq!(actual, table, "SLUICE_BLESS=1 writes down the new text; read the difference first");
}
