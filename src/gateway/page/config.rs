//! The effective configuration as JSON: what serves after all defaults, in words, and no secret.
//!
//! Made from the compiled plan, whose secrets are of a type that cannot be printed; of a key there is its name. Prices
//! that the file does not state are those of the price list.

use serde_json::{Value, json};

use crate::config::{Explanation, KeyId, Line, Plan, PlanSource, Provider, explain, show_bytes, show_ms};

use super::super::live::Live;

/// Chains that are explained; a file with more names than this is read better in an editor.
const EXPLAINED_MAX: usize = 100;

/// The configuration that `live` serves.
pub fn json(live: &Live) -> Vec<u8> {
    let plan = &live.plan;
    let mut names: Vec<&str> = plan.offered_models().iter().map(|offered| &*offered.name).collect();
    let sample = plan.sample_model();
    if names.is_empty() {
        names.push(&sample);
    }
    let prices = live.settings.prices.clone();
    let listed = |provider: &str, model: &str| prices.price(provider, model).map(Into::into);
    let chains = names.iter().take(EXPLAINED_MAX).filter_map(|name| explain(plan, name, &listed).ok());
    let source = match &plan.source {
        PlanSource::File(path) => json!({"file": path.display().to_string()}),
        PlanSource::Environment(variables) => json!({"environment": variables}),
    };
    json!({
        "v": 1,
        "plan": live.generation,
        "loaded_unix_s": live.loaded_unix_s,
        "source": source,
        "warnings": plan.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "sample_model": sample,
        "models": names,
        "settings": settings(plan),
        "providers": plan.providers.iter().map(|provider| provider_json(plan, provider)).collect::<Vec<_>>(),
        "chains": chains.map(|chain| chain_json(&chain)).collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes()
}

fn provider_json(plan: &Plan, provider: &Provider) -> Value {
    let is_mock = plan.mock.is_some_and(|id| std::ptr::eq(plan.provider(id), provider));
    let origin = &provider.origin;
    let url = match is_mock {
        true => "the built-in mock".to_owned(),
        false => format!("{}://{}{}", origin.scheme.name(), origin.authority(), provider.base_path),
    };
    let keys = (0u16..).zip(&provider.keys).map(|(at, key)| {
        json!({
            "name": key.name,
            "value": "***",
            "share": provider.key_share(KeyId(at)),
            "models": key.models,
        })
    });
    let headers: Vec<&str> = provider.extra_headers.iter().map(|(name, _)| &**name).collect();
    json!({
        "name": provider.name,
        "dialect": provider.dialect.name(),
        "url": url,
        "keys": keys.collect::<Vec<_>>(),
        "headers": headers,
        "models": provider.models,
    })
}

fn chain_json(chain: &Explanation) -> Value {
    let lines = |lines: &[Line]| {
        lines.iter().map(|line| json!({"label": line.label, "text": line.text})).collect::<Vec<_>>()
    };
    let targets = chain
        .targets
        .iter()
        .map(|target| json!({ "name": target.name, "shares": target.shares, "lines": lines(&target.lines) }));
    json!({
        "asked": chain.asked,
        "because": chain.because,
        "lines": lines(&chain.lines),
        "targets": targets.collect::<Vec<_>>(),
    })
}

/// What holds for the process, as pairs of a dotted name and its value in words.
fn settings(plan: &Plan) -> Vec<Value> {
    let on = |on: bool| if on { "on" } else { "off" }.to_owned();
    let limits = &plan.limits;
    let timeouts = &plan.timeouts;
    let secret = |there: bool| if there { "*** (set)" } else { "none" }.to_owned();
    let pairs: Vec<(&str, String)> = vec![
        ("listen", plan.listen.to_string()),
        ("driver", plan.driver.name().to_owned()),
        ("workers", plan.workers.map_or("one per core".to_owned(), |n| n.to_string())),
        ("busy_poll", if plan.busy_poll_ms > 0 { show_ms(plan.busy_poll_ms) } else { on(false) }),
        ("drain_timeout", show_ms(plan.drain_timeout_ms)),
        ("default_provider", plan.provider(plan.default_provider).name.to_string()),
        (
            "auth",
            match plan.client_keys.len() {
                0 => "none: every client is served".to_owned(),
                _ => plan
                    .client_keys
                    .iter()
                    .map(|key| format!("{} ***", key.name))
                    .collect::<Vec<_>>()
                    .join(", "),
            },
        ),
        ("admin.token", secret(plan.admin.token.is_some())),
        (
            "allowed_hosts",
            match plan.allowed_hosts.is_empty() {
                true => "every name".to_owned(),
                false => plan.allowed_hosts.join(", "),
            },
        ),
        (
            "allowed_origins",
            match plan.allowed_origins.is_empty() {
                true => "none but this page".to_owned(),
                false => plan.allowed_origins.join(", "),
            },
        ),
        ("metrics.path", plan.metrics_path.as_deref().unwrap_or("off").to_owned()),
        ("ledger", plan.ledger.on.map_or("on for real providers".to_owned(), on)),
        ("access_log", on(plan.access_log.is_some())),
        ("capture", on(plan.capture.is_some())),
        ("idempotency", on(plan.idempotency.is_some())),
        ("step_budget", on(plan.step_budget.is_some())),
        ("timeouts.connect", show_ms(timeouts.connect_ms)),
        ("timeouts.first_token", show_ms(timeouts.first_token_ms)),
        ("timeouts.token_gap", show_ms(timeouts.token_gap_ms)),
        ("timeouts.total", show_ms(timeouts.total_ms)),
        ("limits.body", show_bytes(limits.body_bytes)),
        ("limits.head", show_bytes(u64::from(limits.head_bytes))),
        ("limits.event", show_bytes(u64::from(limits.event_bytes))),
        ("limits.connections", limits.connections.to_string()),
    ];
    pairs.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}
