//! From the plan to the numbers.
//!
//! The one place where policy reads the configuration. It runs when a plan is adopted (settings) and when a request
//! has been resolved (its chain); everything after works on small integers.

use super::balance::Balance;
use super::breaker::BreakerSettings;
use super::budget::BudgetSettings;
use super::bulkhead::BulkheadSettings;
use super::chain::{Chain, TargetRef};
use super::cooldown::CooldownSettings;
use super::ids::PolicyId;
use super::settings::{
    KEYS_MAX, KeySettings, ProviderSettings, RetrySettings, RoutePolicy, Settings, Timeouts,
};
use super::state::Core;
use crate::config::{self, Plan};

impl Settings {
    /// Compiles a plan. Keys beyond [`KEYS_MAX`] of one provider are left out.
    pub fn from_plan(plan: &Plan) -> Settings {
        Settings {
            exchange_total_us: plan.timeouts.total_ms.saturating_mul(1000),
            policies: vec![RoutePolicy { balance: Balance::Weighted, hedge: None }],
            ..Settings::new(plan.providers.iter().map(provider).collect())
        }
    }

    /// True when cells made for `other` fit this plan: the same providers, in the same order, with as many keys. Then
    /// [`super::Shared`] is carried over a reload, and breakers and cooldowns with it.
    pub fn fits_cells_of(&self, other: &Settings) -> bool {
        self.providers.len() == other.providers.len()
            && self.providers.iter().zip(&other.providers).all(|(a, b)| {
                a.identity == b.identity && a.keys.len() == b.keys.len() && a.key_identity == b.key_identity
            })
    }
}

fn provider(p: &config::Provider) -> ProviderSettings {
    let keys = p.keys.iter().take(KEYS_MAX);
    let names: Vec<&str> = keys.clone().map(|key| &*key.name).collect();
    ProviderSettings {
        identity: super::shared::identity(p.name.as_bytes()),
        key_identity: super::shared::identity(names.join("\n").as_bytes()),
        keys: keys.map(|key| KeySettings { weight: key.weight }).collect(),
        timeouts: timeouts(&p.timeouts),
        retry: RetrySettings {
            max_retries: p.retry.max_retries.map(|n| n.min(255) as u8),
            backoff_initial_us: p.retry.backoff_initial_ms.saturating_mul(1000),
            backoff_max_us: p.retry.backoff_max_ms.saturating_mul(1000),
        },
        cooldown: CooldownSettings::RATE,
        breaker: BreakerSettings::default(),
        budget: BudgetSettings::default(),
        bulkhead: BulkheadSettings {
            // A call has a connection of its own, so a bound on connections bounds calls too.
            concurrent_max: p.concurrency.into_iter().chain(p.max_connections).min(),
            queue_max: p.queue.unwrap_or(BulkheadSettings::default().queue_max),
            ..BulkheadSettings::default()
        },
    }
}

fn timeouts(t: &config::Timeouts) -> Timeouts {
    Timeouts {
        connect_us: t.connect_ms.saturating_mul(1000),
        first_token_us: t.first_token_ms.saturating_mul(1000),
        token_gap_us: t.token_gap_ms.saturating_mul(1000),
        total_us: t.total_ms.saturating_mul(1000),
        attempt_us: t.attempt_ms.map(|ms| ms.saturating_mul(1000)),
    }
}

/// The chain of a request for the model `asked`, as `plan` resolved it. Target `i` of the flight is target `i` of
/// `resolved`, unless a balancer reorders equals. Does not allocate once each pair has been met.
pub fn chain_of(core: &Core, plan: &Plan, asked: &str, resolved: &config::Chain) -> Chain {
    let mut chain = Chain::new(PolicyId(0));
    for target in resolved.iter(plan, asked) {
        let model = target.model.unwrap_or(asked);
        let slot = core.slot(target.provider, model.as_bytes());
        let keys = keys_for(plan.provider(target.provider), model);
        if !chain.push(TargetRef { keys, ..TargetRef::new(target.provider, slot) }) {
            break;
        }
    }
    chain
}

/// The keys of `provider` that may be used for `model`, one bit each; all ones for a provider that needs none.
pub fn keys_for(provider: &config::Provider, model: &str) -> u64 {
    if provider.keys.is_empty() {
        return !0;
    }
    let keys = provider.keys.iter().take(KEYS_MAX).enumerate();
    keys.filter(|(_, key)| key.allows(model)).fold(0, |mask, (i, _)| mask | 1 << i)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::Arc;

    use super::super::{Ask, Flight, KeyId, ProviderId, Shared, Step};
    use super::*;
    use crate::config::Loader;

    fn plan(text: &str) -> Plan {
        let loader = Loader { file: Some("t.yaml".into()), ..Loader::default() };
        loader.load_text(text, &|_| Some("key".to_owned())).unwrap()
    }

    const TWO: &str = "
providers:
  openai:
    keys:
      - {value: env.A, weight: 0.7, models: [gpt-4o-mini]}
      - {value: env.B, weight: 0.3}
    network_config: {default_request_timeout_in_seconds: 8, max_retries: 3, retry_backoff_initial: 100}
  anthropic:
    keys: [{value: env.C}]
fallbacks:
  - {model: openai/gpt-4o-mini, targets: [openai/gpt-4o-mini, anthropic/claude-haiku-4-5]}
";

    #[test]
    fn a_plans_numbers_arrive_in_microseconds() {
        let settings = Settings::from_plan(&plan(TWO));
        let openai = &settings.providers[0];
        assert_eq!(openai.timeouts.attempt_us, Some(8_000_000));
        assert_eq!((openai.timeouts.connect_us, openai.timeouts.token_gap_us), (2_000_000, 120_000_000));
        assert_eq!((openai.retry.max_retries, openai.retry.backoff_initial_us), (Some(3), 100_000));
        assert_eq!(openai.keys.iter().map(|k| k.weight).collect::<Vec<_>>(), [0.7, 0.3]);
        assert_eq!(settings.exchange_total_us, 600_000_000);
    }

    #[test]
    fn a_resolved_model_walks_the_chain_of_the_file() {
        let plan = plan(TWO);
        let settings = Arc::new(Settings::from_plan(&plan));
        let mut core = Core::new(Arc::clone(&settings), Arc::new(Shared::new(&settings, 1)), 0, 1);
        let chain =
            chain_of(&core, &plan, "openai/gpt-4o-mini", &plan.resolve("openai/gpt-4o-mini").unwrap());
        assert_eq!(chain.targets().iter().map(|t| t.provider.0).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(chain.targets()[0].keys, 0b11);
        let chain = chain_of(&core, &plan, "openai/gpt-5", &plan.resolve("openai/gpt-5").unwrap());
        assert_eq!(chain.targets()[0].keys, 0b10, "a key is used for its models only");
        let Step::Attempt(attempt) = Flight::begin(&mut core, chain, Ask::default()).next(&mut core, 0)
        else {
            panic!()
        };
        assert_eq!((attempt.provider, attempt.key), (ProviderId(0), Some(KeyId(1))));
    }

    #[test]
    fn cells_are_carried_over_a_reload_that_keeps_the_providers() {
        let now = Settings::from_plan(&plan(TWO));
        assert!(Settings::from_plan(&plan(&TWO.replace("0.7", "0.5"))).fits_cells_of(&now));
        assert!(!Settings::from_plan(&plan(&TWO.replace("env.C", "env.D"))).fits_cells_of(&now));
        assert!(
            !Settings::from_plan(&plan("providers: {openai: {keys: [{value: env.A}]}}")).fits_cells_of(&now)
        );
    }
}
