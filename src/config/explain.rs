//! What a model name would do, in words.
//!
//! For `sluice explain` and for pages that show the effective configuration: the chain in order, where each
//! target is sent, the share of each key, and the timeouts, after all defaults.
//!
//! [`Plan::sample_model`] names a model for a first request.
//!
//! Invariant: of a secret only its name and that it exists.

use std::fmt;

use super::bounds::Timeouts;
use super::catalog::{Chain, TargetRef, UnknownModel};
use super::plan::{Plan, Provider};
use super::values::show_ms;

/// The effective chain of a model name. Displays as text of a few lines a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The name as asked for.
    pub asked: String,
    /// Which part of the configuration the chain comes from.
    pub because: String,
    /// The targets in order.
    pub targets: Vec<TargetWords>,
    /// Bound on the whole exchange.
    pub total: String,
}

/// One target in words.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetWords {
    /// `provider/model`.
    pub name: String,
    /// URL up to the API's own path.
    pub sends_to: String,
    /// Wire dialect.
    pub dialect: &'static str,
    /// Names of the keys that may be used, with their shares in percent.
    pub keys: Vec<(String, f64)>,
    /// Why `keys` is empty, when it is.
    pub keyless: Option<&'static str>,
    /// Timeouts of an attempt.
    pub timeouts: String,
    /// Retries at this target, when the file sets them.
    pub retries: Option<String>,
    /// Names of added headers.
    pub headers: Vec<String>,
}

/// Explains `model`.
pub fn explain(plan: &Plan, model: &str) -> Result<Explanation, UnknownModel> {
    let chain = plan.resolve(model)?;
    Ok(Explanation {
        asked: model.to_owned(),
        because: because(plan, chain),
        targets: chain.iter(plan, model).map(|target| words(plan, target, model)).collect(),
        total: show_ms(plan.timeouts.total_ms),
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

fn words(plan: &Plan, target: TargetRef<'_>, asked: &str) -> TargetWords {
    let provider = plan.provider(target.provider);
    let model = target.model.unwrap_or(asked);
    let usable: Vec<_> = provider.keys.iter().filter(|key| key.allows(model)).collect();
    let sum: f64 = usable.iter().map(|key| key.weight).sum();
    // Keys with a weight above 0 may all be shut out for this model; the rest then share alike.
    let share = |weight: f64| if sum > 0.0 { weight / sum } else { 1.0 / usable.len() as f64 };
    let keyless = match (provider.keys.is_empty(), usable.is_empty()) {
        (true, _) => Some("none needed"),
        (_, true) => Some("none of its keys may be used for this model"),
        _ => None,
    };
    let origin = &provider.origin;
    TargetWords {
        name: format!("{}/{model}", provider.name),
        sends_to: if Some(target.provider) == plan.mock {
            "the built-in mock".to_owned()
        } else {
            format!("{}://{}{}", origin.scheme.name(), origin.authority(), provider.base_path)
        },
        dialect: provider.dialect.name(),
        keys: usable.iter().map(|key| (key.name.to_string(), 100.0 * share(key.weight))).collect(),
        keyless,
        timeouts: timeouts(&provider.timeouts),
        retries: retries(provider),
        headers: provider.extra_headers.iter().map(|(name, _)| name.to_string()).collect(),
    }
}

fn timeouts(timeouts: &Timeouts) -> String {
    let mut words = format!(
        "connect {}, first token {}, between tokens {}",
        show_ms(timeouts.connect_ms),
        show_ms(timeouts.first_token_ms),
        show_ms(timeouts.token_gap_ms)
    );
    if let Some(ms) = timeouts.attempt_ms {
        words.push_str(&format!(", attempt {} (whole answer; first token when streaming)", show_ms(ms)));
    }
    words
}

fn retries(provider: &Provider) -> Option<String> {
    let count = provider.retry.max_retries?;
    let (initial, most) = (provider.retry.backoff_initial_ms, provider.retry.backoff_max_ms);
    Some(match count {
        0 => "none".to_owned(),
        _ => format!("up to {count}, after {} doubling to {}", show_ms(initial), show_ms(most)),
    })
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.asked)?;
        let count = self.targets.len();
        let targets = if count == 1 { "target" } else { "targets" };
        writeln!(f, "  {count} {targets}: {}", self.because)?;
        writeln!(f, "  the whole exchange takes at most {}", self.total)?;
        for (index, target) in self.targets.iter().enumerate() {
            writeln!(f, "\n  {}. {}", index + 1, target.name)?;
            writeln!(f, "     sent to   {} (dialect {})", target.sends_to, target.dialect)?;
            write!(f, "     keys      {}", target.keyless.unwrap_or(""))?;
            for (index, (name, percent)) in target.keys.iter().enumerate() {
                let (comma, decimals) = (if index > 0 { ", " } else { "" }, decimals(*percent));
                write!(f, "{comma}{name} {percent:.decimals$} %")?;
            }
            writeln!(f, "\n     timeouts  {}", target.timeouts)?;
            if let Some(retries) = &target.retries {
                writeln!(f, "     retries   {retries}")?;
            }
            if !target.headers.is_empty() {
                writeln!(f, "     headers   {} (values hidden)", target.headers.join(", "))?;
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

    #[test]
    fn an_explanation_shows_shares_timeouts_and_no_secret() {
        let text = "providers:
  openai:
    keys:
      - {value: env.A, weight: 2, name: main}
      - {value: env.B, weight: 1, models: [gpt-4o]}
    network_config: {default_request_timeout_in_seconds: 8, max_retries: 2, extra_headers: {X-Team: env.C}}
  local: {base_url: 'http://127.0.0.1:9101'}
fallbacks:
  - {model: gpt-4o, targets: [local]}
";
        let loader = Loader { file: Some("t.yaml".into()), ..Loader::default() };
        let plan = loader.load_text(text, &|name| Some(format!("canary-{name}"))).unwrap();
        let explanation = explain(&plan, "gpt-4o").unwrap();
        assert_eq!(
            explanation.to_string(),
            "gpt-4o
  2 targets: the entry of `fallbacks` for `gpt-4o`
  the whole exchange takes at most 10m

  1. openai/gpt-4o
     sent to   https://api.openai.com/v1 (dialect openai)
     keys      main 66.7 %, B 33.3 %
     timeouts  connect 2s, first token 300s, between tokens 120s, attempt 8s (whole answer; first token when streaming)
     retries   up to 2, after 500ms doubling to 5s
     headers   x-team (values hidden)

  2. local/gpt-4o
     sent to   http://127.0.0.1:9101/v1 (dialect openai)
     keys      none needed
     timeouts  connect 2s, first token 300s, between tokens 120s
"
        );
        let other = explain(&plan, "openai/gpt-4.1").unwrap().to_string();
        assert!(other.contains("keys      main 100 %\n"), "{other}");
        assert!(!format!("{explanation:?}{other}{plan:?}").contains("canary-"));
    }
}
