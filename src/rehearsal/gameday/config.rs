//! Writes the gateway's configuration for a scenario: the one place that knows its names.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::run::Setup;
use super::scenario::{ProviderPlan, Scenario, Wish};

/// The model that a provider is asked for, by dialect.
fn model(plan: &ProviderPlan) -> String {
    format!("{}/{}", plan.name, if plan.anthropic { "claude-haiku-4-5" } else { "gpt-4o-mini" })
}

/// The model that every client asks for.
pub(super) fn asked_model(scenario: &Scenario) -> String {
    scenario.providers.first().map(model).unwrap_or_default()
}

/// Shortest timeout that a scaled run sets: below it the machine's own jitter decides.
const SHORTEST: Duration = Duration::from_millis(50);

/// What a gateway must be started with for this scenario with its providers at these addresses, in order.
pub(super) fn config(scenario: &Scenario, providers: &[SocketAddr], scale: f64) -> Setup {
    let mut yaml = String::from("providers:\n");
    for (plan, addr) in scenario.providers.iter().zip(providers) {
        let host = plan.host.map_or_else(|| addr.to_string(), |host| format!("{host}:{}", addr.port()));
        let _ = writeln!(yaml, "  {}:", plan.name);
        let _ = writeln!(yaml, "    dialect: {}", if plan.anthropic { "anthropic" } else { "openai" });
        if !plan.keys.is_empty() {
            let _ = writeln!(yaml, "    keys:");
            for key in plan.keys {
                let _ = writeln!(yaml, "      - value: {key}");
            }
        }
        let _ = writeln!(yaml, "    network_config:");
        let _ = writeln!(yaml, "      base_url: http://{host}/v1");
        if scenario.wishes.contains(&Wish::NoRetries) {
            let _ = writeln!(yaml, "      max_retries: 0");
        }
    }
    let names: Vec<String> = scenario.providers.iter().map(model).collect();
    if names.len() > 1 {
        let _ = writeln!(yaml, "fallbacks:\n  - model: \"{}\"\n    targets:", names[0]);
        for name in &names {
            let _ = writeln!(yaml, "      - \"{name}\"");
        }
    }
    wishes(&mut yaml, &scenario.wishes, scale);
    Setup { config: yaml, clocks: clocks(scenario, scale) }
}

/// The gateway's own clocks, by their defaults, milliseconds.
const CLOCKS: &[(&str, u64)] = &[
    ("breaker.open_min", 1_000),
    ("breaker.open_max", 30_000),
    ("breaker.ramp", 10_000),
    ("cooldown.initial", 1_000),
    ("cooldown.max", 30_000),
    ("cooldown.cap", 600_000),
];
const BACKOFFS: &[(&str, u64)] = &[("retry_backoff_initial", 500), ("retry_backoff_max", 5_000)];

fn clocks(scenario: &Scenario, scale: f64) -> Vec<String> {
    let scale = scenario.own_scale(scale);
    if scale >= 1.0 {
        return Vec::new();
    }
    let scaled = |milliseconds: u64| ((milliseconds as f64 * scale) as u64).max(1);
    let own = CLOCKS.iter().map(|(path, ms)| format!("{path}={}ms", scaled(*ms)));
    let backoffs = scenario.providers.iter().flat_map(|provider| {
        let path = move |key: &str| format!("providers.{}.network_config.{key}", provider.name);
        BACKOFFS.iter().map(move |(key, ms)| format!("{}={}ms", path(key), scaled(*ms)))
    });
    own.chain(backoffs).collect()
}

fn wishes(yaml: &mut String, wishes: &[Wish], scale: f64) {
    let time = |time: Duration| format!("{}ms", time.mul_f64(scale).max(SHORTEST).as_millis());
    let mut timeouts = String::new();
    for wish in wishes {
        match wish {
            Wish::ConnectTimeout(limit) => {
                let _ = writeln!(timeouts, "  connect: {}", time(*limit));
            }
            Wish::AttemptTimeout(limit) => {
                let _ = writeln!(timeouts, "  attempt: {}", time(*limit));
            }
            Wish::TokenGap(limit) => {
                let _ = writeln!(timeouts, "  token_gap: {}", time(*limit));
            }
            Wish::SlowCall(limit) => {
                let _ = writeln!(yaml, "breaker:\n  slow_call: {}", time(*limit));
            }
            Wish::StepFailures(count) => {
                let _ = writeln!(yaml, "step_budget:\n  failures: {count}");
            }
            // Stands with each provider.
            Wish::NoRetries => {}
        }
    }
    if !timeouts.is_empty() {
        let _ = write!(yaml, "timeouts:\n{timeouts}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_every_provider_and_the_chain() {
        let scenario = super::super::scenarios().into_iter().find(|s| s.id == "slowdown").expect("it exists");
        let addrs: Vec<SocketAddr> = (1..3).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let Setup { config: yaml, clocks } = config(&scenario, &addrs, 0.1);
        assert!(clocks.is_empty(), "nothing recovers on this day");
        for part in ["base_url: http://127.0.0.1:1/v1", "- \"bravo/gpt-4o-mini\"", "attempt: 800ms"] {
            assert!(yaml.contains(part), "{part} in\n{yaml}");
        }
    }

    #[test]
    fn only_days_that_wait_for_a_recovery_speed_up_the_gateways_own_clocks() {
        let scenario = super::super::scenarios().into_iter().find(|s| s.id == "down").expect("it exists");
        let clocks = |scale| config(&scenario, &[], scale).clocks;
        assert!(clocks(0.2).contains(&"breaker.open_max=6000ms".to_owned()));
        assert!(clocks(0.01).contains(&"breaker.open_max=3000ms".to_owned()), "at most ten times as fast");
        assert!(clocks(1.0).is_empty());
    }
}
