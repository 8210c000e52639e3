//! What a model name leads to, by every rule.

use super::super::load::Loader;
use super::*;

fn plan(text: &str) -> Plan {
    let loader = Loader { file: Some("t.yaml".into()), ..Loader::default() };
    loader.load_text(text, &|_| Some("key".to_owned())).unwrap_or_else(|error| panic!("{error}"))
}

/// The chain as `provider/model`, with a star where the client's own name is sent unchanged.
fn chain(plan: &Plan, asked: &str) -> Vec<String> {
    let chain = plan.resolve(asked).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(chain.iter(plan, asked).count(), chain.len());
    assert!(chain.get(plan, asked, chain.len()).is_none());
    chain
        .iter(plan, asked)
        .map(|target| {
            let provider = &plan.provider(target.provider).name;
            assert_eq!(plan.slots[usize::from(target.slot.0)].provider, target.provider);
            target.model.map_or_else(|| format!("{provider}/*"), |model| format!("{provider}/{model}"))
        })
        .collect()
}

fn unknown(plan: &Plan, asked: &str) -> UnknownModel {
    plan.resolve(asked).unwrap_err()
}

const BIG: &str = "providers: {openai: {}, anthropic: {}, gemini: {}, mistral: {}, deepseek: {}, xai: {}, cohere: {}, groq: {}, together_ai: {}, openrouter: {}}";

#[test]
fn a_provider_in_front_is_taken_off_once() {
    let plan = plan(BIG);
    assert_eq!(chain(&plan, "openai/gpt-4o"), ["openai/gpt-4o"]);
    assert_eq!(chain(&plan, "openrouter/meta-llama/llama-3"), ["openrouter/meta-llama/llama-3"]);
    assert_eq!(chain(&plan, "openrouter/openai/gpt-4o"), ["openrouter/openai/gpt-4o"]);
    assert_eq!(chain(&plan, "anthropic/whatever"), ["anthropic/whatever"]);
}

#[test]
fn bare_names_go_to_who_makes_the_model_and_are_sent_unchanged() {
    let plan = plan(BIG);
    for (name, provider) in [
        ("gpt-4o-mini", "openai"),
        ("chatgpt-4o-latest", "openai"),
        ("o1", "openai"),
        ("o3-mini", "openai"),
        ("o4-mini", "openai"),
        ("text-embedding-3-small", "openai"),
        ("dall-e-3", "openai"),
        ("whisper-1", "openai"),
        ("tts-1", "openai"),
        ("ft:gpt-4o-mini:acme::abc", "openai"),
        ("claude-haiku-4-5", "anthropic"),
        ("gemini-2.5-flash", "gemini"),
        ("mistral-large-latest", "mistral"),
        ("codestral-latest", "mistral"),
        ("deepseek-chat", "deepseek"),
        ("grok-4", "xai"),
        ("command-r-plus", "cohere"),
    ] {
        assert_eq!(chain(&plan, name), [format!("{provider}/*")], "{name}");
    }
}

#[test]
fn a_model_that_two_providers_serve_has_to_say_which() {
    let plan = plan(BIG);
    let error = unknown(&plan, "llama-3.3-70b");
    assert_eq!(error.reason, UnknownReason::Ambiguous);
    assert_eq!(error.suggestions, ["groq/llama-3.3-70b", "together_ai/llama-3.3-70b"]);
}

#[test]
fn only_configured_providers_count() {
    let one = plan("providers: {anthropic: {}, groq: {}}");
    assert_eq!(chain(&one, "llama-3.3-70b"), ["groq/*"]);
    let error = unknown(&one, "gpt-4o");
    assert_eq!(error.reason, UnknownReason::Unknown);
    assert_eq!(error.suggestions, ["anthropic/gpt-4o", "groq/gpt-4o"]);
    let error = unknown(&one, "openai/gpt-4o");
    assert_eq!(error.reason, UnknownReason::UnknownProvider);
    assert!(error.to_string().contains("no provider `openai` is configured"), "{error}");
}

#[test]
fn declared_models_have_bare_names_even_with_slashes() {
    let plan = plan(
        "providers:
  openai: {}
  one: {base_url: 'http://h', models: [meta-llama/llama-3, qwen, both]}
  two: {base_url: 'http://h', models: [two/phi, both, gpt-5-local]}",
    );
    assert_eq!(chain(&plan, "meta-llama/llama-3"), ["one/*"]);
    assert_eq!(chain(&plan, "one/meta-llama/llama-3"), ["one/meta-llama/llama-3"]);
    assert_eq!(chain(&plan, "qwen"), ["one/*"]);
    assert_eq!(chain(&plan, "phi"), ["two/*"]);
    assert_eq!(chain(&plan, "two/phi"), ["two/phi"]);
    // What the file declares beats the table.
    assert_eq!(chain(&plan, "gpt-5-local"), ["two/*"]);
    assert_eq!(chain(&plan, "gpt-5"), ["openai/*"]);
    let error = unknown(&plan, "both");
    assert_eq!(error.reason, UnknownReason::Ambiguous);
    assert_eq!(error.suggestions[..2], ["one/both", "two/both"]);
}

#[test]
fn the_nearest_declared_name_is_suggested_first() {
    let plan = plan(
        "providers: {openai: {models: [gpt-4o, gpt-4o-mini]}, local: {base_url: 'http://h', models: [qwen3-coder]}}",
    );
    let error = unknown(&plan, "qwen3-codr");
    assert_eq!(error.suggestions[0], "local/qwen3-coder");
    assert!(error.suggestions.contains(&"local/qwen3-codr".to_owned()), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("the model `qwen3-codr` is unknown; these would work: local/qwen3-coder, ")
    );
}

#[test]
fn a_slip_in_a_providers_name_suggests_that_provider_first() {
    let plan = plan("providers: {anthropic: {}, mine: {base_url: 'http://h'}, openai: {}}");
    assert_eq!(unknown(&plan, "opnai/gpt-4o").suggestions[0], "openai/gpt-4o");
}

#[test]
fn suggestions_and_echoed_names_are_bounded() {
    let models: Vec<String> = (0..50).map(|n| format!("m{n}")).collect();
    let plan = plan(&format!("providers: {{openai: {{models: [{}]}}}}", models.join(", ")));
    assert_eq!(unknown(&plan, "m").suggestions.len(), defaults::SUGGESTIONS_MAX);
    let at_limit = "m".repeat(defaults::MODEL_NAME_BYTES_MAX);
    assert_eq!(unknown(&plan, &at_limit).reason, UnknownReason::Unknown);
    let past = format!("{at_limit}m");
    assert_eq!(unknown(&plan, &past).reason, UnknownReason::Malformed);
    assert_eq!(unknown(&plan, &past).asked.len(), 120);
    assert_eq!(unknown(&plan, "").reason, UnknownReason::Malformed);
    assert_eq!(unknown(&plan, "openai/").reason, UnknownReason::Unknown);
    assert_eq!(unknown(&plan, "a\r\nb").asked, "ab");
    assert_eq!(plan.resolve(&format!("openai/{}", "é".repeat(200))).unwrap().len(), 1);
}

#[test]
fn an_only_private_server_takes_every_name() {
    let private = plan("providers: {mine: {base_url: 'http://h'}}");
    assert_eq!(chain(&private, "Qwen/Qwen3-8B"), ["mine/*"]);
    assert_eq!(chain(&private, "anything"), ["mine/*"]);
    assert_eq!(chain(&private, "mine/anything"), ["mine/anything"]);
    let declared = plan("providers: {mine: {base_url: 'http://h', models: [a]}}");
    assert_eq!(unknown(&declared, "anything").reason, UnknownReason::Unknown);
    assert_eq!(unknown(&plan("providers: {openai: {}}"), "anything").reason, UnknownReason::Unknown);
}

#[test]
fn the_mock_answers_to_every_name() {
    let loader = Loader::default();
    let plan = loader.load(&|_| None).unwrap();
    assert_eq!(plan.mock, Some(ProviderId(0)));
    assert_eq!(chain(&plan, "gpt-4o"), ["mock/*"]);
    assert_eq!(chain(&plan, "openai/gpt-4o"), ["mock/*"]);
    assert_eq!(chain(&plan, "mock/x"), ["mock/x"]);
}

#[test]
fn aliases_take_the_chain_of_their_model() {
    let plan = plan(
        "providers: {openai: {aliases: {cheap: gpt-4o-mini}}, anthropic: {}}
aliases: {fast: openai/gpt-4o-mini, smart: claude-opus, gpt-4o: openai/gpt-4o-2024}
fallbacks: [{primary: fast, backup: [anthropic/claude-haiku]}]",
    );
    let expected = ["openai/gpt-4o-mini", "anthropic/claude-haiku"];
    for name in ["fast", "cheap", "openai/gpt-4o-mini"] {
        assert_eq!(chain(&plan, name), expected, "{name}");
    }
    assert_eq!(chain(&plan, "gpt-4o-mini"), ["openai/*", "anthropic/claude-haiku"]);
    assert_eq!(chain(&plan, "smart"), ["anthropic/claude-opus"]);
    assert_eq!(chain(&plan, "gpt-4o"), ["openai/gpt-4o-2024"]);
}

#[test]
fn a_chain_may_have_a_name_of_its_own() {
    let plan = plan(
        "providers: {openai: {}, anthropic: {}, azure: {base_url: 'https://r.openai.azure.com/openai/v1'}}
fallbacks:
  - {model: triage, targets: [anthropic/claude-haiku, openai/gpt-4o-mini]}
  - {model: gpt-4o, targets: [azure]}",
    );
    assert_eq!(chain(&plan, "triage"), ["anthropic/claude-haiku", "openai/gpt-4o-mini"]);
    // The group does not change what its first target does when asked for directly.
    assert_eq!(chain(&plan, "claude-haiku"), ["anthropic/*"]);
    // A provider alone keeps the model.
    assert_eq!(chain(&plan, "gpt-4o"), ["openai/*", "azure/*"]);
    assert_eq!(chain(&plan, "openai/gpt-4o"), ["openai/gpt-4o", "azure/gpt-4o"]);
}

#[test]
fn everyones_chain_never_repeats_the_asked_for_target() {
    let plan = plan(
        "providers: {openai: {}, anthropic: {}, groq: {}}
fallbacks:
  - {model: openai/a, weight: 0.2}
  - {model: anthropic/b, weight: 0.5}
  - {model: groq, weight: 0.2}
  - {model: openai/c, weight: 0}
  - {primary: openai/own, backup: [groq/x]}",
    );
    assert_eq!(chain(&plan, "openai/a"), ["openai/a", "anthropic/b", "groq/a", "openai/c"]);
    assert_eq!(chain(&plan, "anthropic/b"), ["anthropic/b", "openai/a", "groq/b", "openai/c"]);
    assert_eq!(chain(&plan, "openai/c"), ["openai/c", "anthropic/b", "openai/a", "groq/c"]);
    assert_eq!(chain(&plan, "groq/z"), ["groq/z", "anthropic/b", "openai/a", "openai/c"]);
    assert_eq!(chain(&plan, "claude-z"), ["anthropic/*", "anthropic/b", "openai/a", "groq/*", "openai/c"]);
    assert_eq!(chain(&plan, "openai/own"), ["openai/own", "groq/x"]);
}

#[test]
fn clients_are_offered_what_the_file_spells_out() {
    let plan = plan(
        "providers: {openai: {models: [gpt-4o]}, anthropic: {}}
aliases: {fast: openai/gpt-4o-mini}
fallbacks: [{model: gpt-4o, targets: [anthropic/claude-haiku]}]",
    );
    let names: Vec<&str> = plan.offered_models().iter().map(|offered| &*offered.name).collect();
    assert_eq!(names, ["openai/gpt-4o", "openai/gpt-4o-mini", "fast", "anthropic/claude-haiku"]);
    for name in names {
        assert!(plan.resolve(name).is_ok(), "{name}");
    }
}

#[test]
fn a_head_of_a_chain_owns_the_bare_name() {
    let plan = plan(
        "providers: {one: {base_url: 'http://h'}, two: {base_url: 'http://h'}}
fallbacks: [{primary: one/m, backup: [two/m]}]",
    );
    assert_eq!(chain(&plan, "m"), ["one/*", "two/*"]);
    assert_eq!(chain(&plan, "two/m"), ["two/m"]);
}
