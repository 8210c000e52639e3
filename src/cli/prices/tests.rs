//! Prices as a user asks for them.

use crate::cli::Exit;
use crate::cli::tests::{directory, ran};

const CONFIG: &str = "\
providers: {openai: {keys: [env.K]}, mine: {base_url: 'http://h'}}
models: {mine/ours: {price: {input: 0.05, output: 0.4}}, openai/gpt-4o-mini: {price: {input: 0.1, output: 0.5}}}
fallbacks: [{model: fast, targets: [openai/gpt-4o-mini, mine/ours, mine/other]}]
";

fn prices(line: &[&str]) -> (Exit, String) {
    let directory = directory(&[("s.yaml", CONFIG)]);
    let config = directory.path().join("s.yaml").display().to_string();
    let line: Vec<&str> = ["prices"]
        .into_iter()
        .chain(line.iter().map(|word| if *word == "CONFIG" { config.as_str() } else { *word }))
        .collect();
    let ran = ran(&line, directory.path(), &[], false);
    assert_eq!(ran.err, "");
    (ran.exit, ran.out)
}

/// The rows of a table, blanks squeezed.
fn rows(out: &str) -> Vec<String> {
    out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_model_is_shown_with_its_price_its_source_and_the_date_of_the_list() {
    let (exit, out) = prices(&["openai/gpt-4o-mini", "anthropic/claude-haiku-5-5"]);
    let rows = rows(&out);
    assert_eq!(exit, Exit::Ok);
    assert_eq!(rows[0], "provider model source input cache read cache write output prompts above window");
    assert!(rows[1].starts_with("openai gpt-4o-mini list: gpt-4o-mini"), "{out}");
    assert!(rows[1].contains(" 0.15 0.075 0.15 0.60 "), "{out}");
    assert!(
        rows[2].ends_with(" 0.10 0.01 0.125 0.50 1,000,000") && rows[3] == "0.50 0.05 0.625 2.50 100,000",
        "{out}"
    );
    assert!(
        out.contains("openai/gpt-4o-mini: priority 1.667 times the price, batch 0.5 times the price"),
        "{out}"
    );
    assert!(out.contains("dollars a million tokens; Prices of language models, 20"), "{out}");
}

#[test]
fn an_unknown_model_is_unpriced_with_names_like_it() {
    let (exit, out) = prices(&["gpt-4o-mimi"]);
    assert_eq!(exit, Exit::Refused);
    assert!(
        out.starts_with("gpt-4o-mimi is unpriced: what it costs is not known, not nothing; names like it: ")
    );
    assert!(out.contains("openai/gpt-4o-mini") && out.contains("models: {NAME: {price:"), "{out}");
    let (_, out) = prices(&["--json", "gpt-4o-mimi"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["unpriced"][0]["model"], "gpt-4o-mimi");
    assert_eq!(json["prices"].as_array().unwrap().len(), 0);
}

#[test]
fn with_a_config_its_own_prices_count_and_its_names_lead_where_they_lead() {
    let (exit, out) = prices(&["--config", "CONFIG", "fast"]);
    let rows = rows(&out);
    assert_eq!(
        (exit, &rows[1..4]),
        (
            Exit::Ok,
            &[
                "openai gpt-4o-mini config 0.10 0.10 0.10 0.50 128,000".to_owned(),
                "mine ours config 0.05 0.05 0.05 0.40".to_owned(),
                "mine other unpriced".to_owned(),
            ][..]
        ),
        "{out}"
    );
    let (_, all) = prices(&["--json", "--config", "CONFIG"]);
    let json: serde_json::Value = serde_json::from_str(&all).unwrap();
    let named = json["prices"].as_array().unwrap();
    let ours = named.iter().find(|one| one["model"] == "ours").unwrap();
    assert_eq!(
        (&ours["provider"], &ours["source"], &ours["price"]["output"]),
        (&"mine".into(), &"config".into(), &0.4.into())
    );
    assert!(named.iter().any(|one| one["model"] == "other" && one["price"].is_null()));
}

#[test]
fn without_a_word_the_whole_list_is_shown() {
    let (exit, out) = prices(&[]);
    assert!(exit == Exit::Ok && out.lines().count() > 3_000);
}

#[test]
fn prices_have_two_decimals_or_as_many_as_it_takes() {
    for (rate, text) in
        [(0, "0.00"), (150_000, "0.15"), (18_750, "0.01875"), (15_000_000, "15.00"), (1, "0.000001")]
    {
        assert_eq!(super::usd(rate), text);
    }
}
