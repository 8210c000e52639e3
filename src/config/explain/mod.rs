//! What a model name would do, in words.
//!
//! For `sluice explain` and for pages that show the effective configuration: the chain in order, where each target is
//! sent, the share of each key, and every limit after all defaults, with the level it comes from: default, top level,
//! provider or route.
//!
//! [`Plan::sample_model`] names a model for a first request.
//!
//! Invariant: of a secret only its name and that it exists.

mod words;

use std::fmt;

use super::catalog::{Chain, TargetRef, UnknownModel};
use super::mechanisms::{Balance, ModelPrice};
use super::plan::{Plan, Route};

/// The effective chain of a model name. Displays as text of a few lines a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The name as asked for.
    pub asked: String,
    /// Which part of the configuration the chain comes from.
    pub because: String,
    /// What holds for the exchange as a whole.
    pub lines: Vec<Line>,
    /// The targets in order.
    pub targets: Vec<TargetWords>,
}

/// One thing that holds, with its label.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it is about: `breaker`, `on 429`.
    pub label: &'static str,
    /// What holds, with the level it comes from.
    pub text: String,
}

/// One target in words.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetWords {
    /// `provider/model`.
    pub name: String,
    /// How it shares with the targets next to it, when it does.
    pub shares: Option<String>,
    /// What holds for attempts at it.
    pub lines: Vec<Line>,
}

/// What a price list says of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListPrice {
    /// What its tokens cost.
    pub price: ModelPrice,
    /// Its context window in tokens.
    pub context_tokens: Option<u32>,
    /// Prompts with more tokens than this cost more.
    pub dearer_above: Option<u32>,
}

/// Looks up a model of a provider in a price list, which this room does not have.
pub type Listed<'l> = &'l dyn Fn(&str, &str) -> Option<ListPrice>;

/// Explains `model`; prices that the file does not state are looked up in `listed`.
pub fn explain(plan: &Plan, model: &str, listed: Listed<'_>) -> Result<Explanation, UnknownModel> {
    let chain = plan.resolve(model)?;
    let route = chain.route().and_then(|id| plan.routes.get(usize::from(id.0)));
    let targets: Vec<TargetRef<'_>> = chain.iter(plan, model).collect();
    let words = targets.iter().enumerate().map(|(index, target)| {
        let last = index + 1 == targets.len();
        words_of(plan, route, &targets, target, (model, last), listed)
    });
    Ok(Explanation {
        asked: model.to_owned(),
        because: because(plan, chain),
        lines: words::of_exchange(plan, route),
        targets: words.collect(),
    })
}

impl Plan {
    /// A model name that resolves, for a request to try: one the file spells out, else one that the default
    /// provider is known for, else `PROVIDER/MODEL` for the user to fill in. It can stand in a JSON string
    /// inside single quotes as it is.
    pub fn sample_model(&self) -> String {
        let plain =
            |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte));
        if let Some(offered) = self.offered_models().iter().find(|offered| plain(&offered.name)) {
            return offered.name.to_string();
        }
        match &*self.provider(self.default_provider).name {
            "openai" | "mock" => "gpt-4o-mini".to_owned(),
            "anthropic" => "claude-haiku-4-5".to_owned(),
            "gemini" => "gemini-2.5-flash".to_owned(),
            "mistral" => "mistral-small-latest".to_owned(),
            other => format!("{other}/MODEL"),
        }
    }
}

fn because(plan: &Plan, chain: Chain) -> String {
    match chain.route().map(|route| &plan.routes[usize::from(route.0)].name) {
        None => "no entry of `fallbacks` is about it".to_owned(),
        Some(name) if **name == *"*" => "the asked-for target, then the weighted `fallbacks`".to_owned(),
        Some(name) => format!("the entry of `fallbacks` for `{name}`"),
    }
}

fn words_of(
    plan: &Plan,
    route: Option<&Route>,
    all: &[TargetRef<'_>],
    target: &TargetRef<'_>,
    (asked, last): (&str, bool),
    listed: Listed<'_>,
) -> TargetWords {
    let provider = plan.provider(target.provider);
    let model = target.model.unwrap_or(asked);
    let origin = &provider.origin;
    let to = match Some(target.provider) == plan.mock {
        true => "the built-in mock".to_owned(),
        false => format!("{}://{}{}", origin.scheme.name(), origin.authority(), provider.base_path),
    };
    let mut lines = vec![
        Line { label: "sent to", text: format!("{to} (dialect {})", provider.dialect.name()) },
        Line { label: "keys", text: keys(provider, model) },
    ];
    lines.extend(words::of_target(plan, provider, route, last));
    let facts = plan.facts(target.slot);
    lines.push(words::price(facts.price, facts.context_tokens, &provider.name, model, listed));
    if !provider.extra_headers.is_empty() {
        let names: Vec<&str> = provider.extra_headers.iter().map(|(name, _)| &**name).collect();
        lines.push(Line { label: "headers", text: format!("{} (values hidden)", names.join(", ")) });
    }
    let name = format!("{}/{model}", provider.name);
    TargetWords { name, shares: shares(route, all, target), lines }
}

/// The share of a target among its equals, when it has some.
fn shares(route: Option<&Route>, all: &[TargetRef<'_>], target: &TargetRef<'_>) -> Option<String> {
    if target.group == 0 {
        return None;
    }
    let equals = all.iter().filter(|other| other.group == target.group);
    let (count, sum) = equals.fold((0, 0u64), |(count, sum), one| (count + 1, sum + u64::from(one.weight)));
    match route.map(|route| route.balance) {
        Some(Balance::Latency) => Some(format!("one of {count} that share by latency")),
        _ if sum == 0 => Some(format!("one of {count} that share, none preferred")),
        _ => {
            let percent = 100.0 * f64::from(target.weight) / sum as f64;
            let decimals = decimals(percent);
            Some(format!("first for {percent:.decimals$} % of requests, one of {count} that share"))
        }
    }
}

/// The keys that may be used for `model`, with their shares.
fn keys(provider: &super::Provider, model: &str) -> String {
    if provider.keys.is_empty() {
        return "none needed".to_owned();
    }
    let usable: Vec<_> = provider.keys.iter().filter(|key| key.allows(model)).collect();
    if usable.is_empty() {
        return "none of its keys may be used for this model".to_owned();
    }
    let sum: f64 = usable.iter().map(|key| key.weight).sum();
    // Keys with a weight above 0 may all be shut out for this model; the rest then share alike.
    let share = |weight: f64| if sum > 0.0 { weight / sum } else { 1.0 / usable.len() as f64 };
    let shown = usable.iter().map(|key| {
        let percent = 100.0 * share(key.weight);
        let decimals = decimals(percent);
        format!("{} {percent:.decimals$} %", key.name)
    });
    shown.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.asked)?;
        let count = self.targets.len();
        let targets = if count == 1 { "target" } else { "targets" };
        writeln!(f, "  {count} {targets}: {}", self.because)?;
        for line in &self.lines {
            writeln!(f, "  {:<9} {}", line.label, line.text)?;
        }
        for (index, target) in self.targets.iter().enumerate() {
            let shares = target.shares.as_ref().map_or(String::new(), |shares| format!(": {shares}"));
            writeln!(f, "\n  {}. {}{shares}", index + 1, target.name)?;
            for line in &target.lines {
                writeln!(f, "     {:<9} {}", line.label, line.text)?;
            }
        }
        Ok(())
    }
}

/// Whole percents print whole.
fn decimals(percent: f64) -> usize {
    usize::from((percent - percent.round()).abs() >= 0.05)
}

#[cfg(test)]
mod tests {
    use super::super::load::Loader;
    use super::*;

    #[test]
    fn the_sample_model_always_resolves() {
        let loader = Loader { file: Some("t.yaml".into()), ..Loader::default() };
        for (text, model) in [
            ("providers: {openai: {}}", "gpt-4o-mini"),
            ("providers: {mock: {}}", "gpt-4o-mini"),
            ("{providers: {openai: {}, anthropic: {}}, default_provider: anthropic}", "claude-haiku-4-5"),
            ("providers: {groq: {}}", "groq/MODEL"),
            ("providers: {openai: {}, x: {base_url: 'http://h', models: ['it''s', m]}}", "x/m"),
        ] {
            let plan = loader.load_text(text, &|_| Some("key".to_owned())).unwrap();
            assert_eq!(plan.sample_model(), model);
            assert!(plan.resolve(model).is_ok(), "{model}");
        }
    }

    /// A list that knows one model.
    fn list(provider: &str, model: &str) -> Option<ListPrice> {
        ((provider, model) == ("openai", "gpt-4o")).then_some(ListPrice {
            price: ModelPrice { input: 2_500_000, output: 10_000_000, ..ModelPrice::default() },
            context_tokens: Some(128_000),
            dearer_above: None,
        })
    }

    const FILE: &str = "breaker: {slow_call: 5s}
providers:
  openai:
    keys:
      - {value: env.A, weight: 2, name: main}
      - {value: env.B, weight: 1, models: [gpt-4o]}
    network_config: {default_request_timeout_in_seconds: 8, max_retries: 2, extra_headers: {X-Team: env.C}}
  local: {base_url: 'http://127.0.0.1:9101', breaker: {failures_in_row: 3}, bulkhead: {concurrent: 4}}
static: {none: {content: 'no answer'}}
retry_budget: {max_cost_usd_per_minute: 2.5}
step_budget: {failures: 5, usd: 1, answer: static/none}
fallbacks:
  - model: gpt-4o
    targets: [[{target: openai/gpt-4o, weight: 3}, {target: local, weight: 1}], local/small, static/none]
    checks: [json, {min_length: 3}]
    hedge: {percent: 1}
    timeouts: {total: 60s, first_token: 6s}
";

    #[test]
    fn an_explanation_shows_every_limit_with_where_it_comes_from() {
        let loader = Loader { file: Some("t.yaml".into()), ..Loader::default() };
        let plan = loader.load_text(FILE, &|name| Some(format!("canary-{name}"))).unwrap();
        let explanation = explain(&plan, "gpt-4o", &list).unwrap();
        assert_eq!(explanation.to_string(), include_str!("expected.txt"));
        let other = explain(&plan, "openai/gpt-4.1", &list).unwrap().to_string();
        assert!(
            other.contains("keys      main 100 %\n") && other.contains("unpriced: counted at $15.00"),
            "{other}"
        );
        assert!(!format!("{explanation:?}{other}{plan:?}").contains("canary-"));
    }
}
