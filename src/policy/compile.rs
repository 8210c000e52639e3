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
use super::estimate::ModelFacts;
use super::hedge::HedgeSettings;
use super::idempotency::{IdempotencySettings, RUNNING_MORE_US};
use super::ids::PolicyId;
use super::price::{Price, PriceSource};
use super::settings::{
    KEYS_MAX, KeySettings, ProviderSettings, RetrySettings, RoutePolicy, RouteTimeouts, Settings, Timeouts,
};
use super::state::Core;
use super::step::StepSettings;
use crate::config::{self, Plan, RouteId};

impl Settings {
    /// Compiles a plan. What the plan does not price, `prices` does. Keys beyond [`KEYS_MAX`] of one provider are left
    /// out.
    pub fn from_plan(plan: &Plan, prices: PriceSource) -> Settings {
        let of_none = RoutePolicy {
            balance: balance(plan.route_defaults.balance),
            hedge: plan.route_defaults.hedge.map(hedge),
            timeouts: RouteTimeouts::NONE,
        };
        let facts = plan.slots.iter().zip(&plan.facts).map(|(slot, own)| {
            let listed = slot
                .model
                .as_deref()
                .and_then(|model| prices.price(&plan.provider(slot.provider).name, model));
            facts(own, listed)
        });
        Settings {
            exchange_total_us: us(plan.timeouts.total_ms),
            policies: std::iter::once(of_none).chain(plan.routes.iter().map(route)).collect(),
            facts: facts.collect(),
            prices,
            retry_nano_usd_per_minute: plan.retry_cost_nano_usd_per_minute,
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
            backoff_initial_us: us(p.retry.backoff_initial_ms),
            backoff_max_us: us(p.retry.backoff_max_ms),
        },
        cooldown: CooldownSettings {
            initial_us: us(p.cooldown.initial_ms),
            max_us: us(p.cooldown.max_ms),
            cap_us: us(p.cooldown.cap_ms),
            ..CooldownSettings::RATE
        },
        breaker: breaker(&p.breaker),
        budget: BudgetSettings {
            percent: p.retry_budget.percent,
            floor_per_second: p.retry_budget.per_second,
            burst: p.retry_budget.burst,
        },
        bulkhead: BulkheadSettings {
            // A call has a connection of its own, so a bound on connections bounds calls too.
            concurrent_max: p.bulkhead.concurrent.into_iter().chain(p.max_connections).min(),
            queue_max: p.bulkhead.queue,
            queue_wait_us: us(p.bulkhead.queue_wait_ms),
        },
    }
}

/// Milliseconds as microseconds.
fn us(ms: u64) -> u64 {
    ms.saturating_mul(1000)
}

fn breaker(b: &config::Breaker) -> BreakerSettings {
    BreakerSettings {
        failures_in_row: b.failures_in_row,
        failure_percent: b.failure_percent,
        calls_min: b.calls_min,
        slow_call_us: b.slow_call_ms.map(us),
        slow_percent: b.slow_percent,
        tokens_burnt_max: b.tokens_burnt,
        tokens_failure_percent: b.tokens_failure_percent,
        open_min_us: us(b.open_min_ms),
        open_max_us: us(b.open_max_ms),
        ramp_us: us(b.ramp_ms),
    }
}

fn timeouts(t: &config::Timeouts) -> Timeouts {
    Timeouts {
        connect_us: us(t.connect_ms),
        first_token_us: us(t.first_token_ms),
        token_gap_us: us(t.token_gap_ms),
        total_us: us(t.total_ms),
        attempt_us: t.attempt_ms.map(us),
    }
}

fn route(r: &config::Route) -> RoutePolicy {
    RoutePolicy {
        balance: balance(r.balance),
        hedge: r.hedge.map(hedge),
        timeouts: RouteTimeouts {
            connect_us: r.timeouts.connect_ms.map(us),
            first_token_us: r.timeouts.first_token_ms.map(us),
            token_gap_us: r.timeouts.token_gap_ms.map(us),
            total_us: r.timeouts.total_ms.map(us),
            attempt_us: r.timeouts.attempt_ms.map(us),
        },
    }
}

fn balance(b: config::Balance) -> Balance {
    match b {
        config::Balance::Weighted => Balance::Weighted,
        config::Balance::Latency => Balance::PeakEwma,
    }
}

fn hedge(h: config::Hedge) -> HedgeSettings {
    HedgeSettings { percent_max: h.percent, delay_min_us: us(h.delay_min_ms) }
}

/// What is known of a model: the file's word before the list's.
fn facts(own: &config::Facts, listed: Option<Price>) -> ModelFacts {
    let price = own.price.map(Price::from);
    let window = listed.map_or(0, |price| price.context_tokens);
    ModelFacts { price: price.or(listed), context_tokens: own.context_tokens.unwrap_or(window) }
}

/// The models that the plan names as `provider/model` and that nobody knows the price of: those in chains.
pub fn unpriced(plan: &Plan, settings: &Settings) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for target in plan.routes.iter().flat_map(|route| &route.targets) {
        let priced =
            settings.facts.get(usize::from(target.slot.0)).is_some_and(|facts| facts.price.is_some());
        if let (Some(model), false) = (&target.model, priced) {
            let name = format!("{}/{model}", plan.provider(target.provider).name);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// What one step may lose; `None`: the plan does not bound steps.
pub fn step_settings(plan: &Plan) -> Option<StepSettings> {
    plan.step_budget.map(|step| StepSettings {
        failures_max: step.failures,
        nano_usd_max: step.nano_usd,
        time_max_us: step.time_ms.map(us),
    })
}

/// How long answers are kept for repeated keys; `None`: off. The bound in bytes is for who keeps them.
pub fn idempotency_settings(plan: &Plan) -> Option<IdempotencySettings> {
    let longest_ms = plan.routes.iter().filter_map(|route| route.timeouts.total_ms).max().unwrap_or(0);
    plan.idempotency.map(|own| IdempotencySettings {
        entries_max: own.entries as usize,
        keep_us: us(own.keep_ms),
        running_max_us: us(plan.timeouts.total_ms.max(longest_ms)).saturating_add(RUNNING_MORE_US),
    })
}

/// The policy of a route: of chains without one, the first.
pub fn policy_of(route: Option<RouteId>) -> PolicyId {
    PolicyId(route.map_or(0, |route| route.0.saturating_add(1)))
}

/// The chain of a request for the model `asked`, as `plan` resolved it: target number `place` is that target of
/// `resolved`. `body_bytes` is the size of the request, for prices that depend on it. Does not allocate once each pair
/// has been met.
pub fn chain_of(core: &Core, plan: &Plan, asked: &str, resolved: &config::Chain, body_bytes: u64) -> Chain {
    let mut chain = empty_chain(plan, resolved);
    for target in resolved.iter(plan, asked) {
        if !chain.push(target_of(core, plan, &target, asked, body_bytes)) {
            break;
        }
    }
    chain
}

/// The chain of a request before its targets: with its policy and the answer that closes it.
pub fn empty_chain(plan: &Plan, resolved: &config::Chain) -> Chain {
    let route = resolved.route().and_then(|id| plan.routes.get(usize::from(id.0)));
    let static_answer = route.and_then(|route| route.static_answer);
    let mut chain = Chain::new(policy_of(resolved.route()));
    chain.static_answer = static_answer;
    chain
}

/// One target of a chain, for a client that asked for `asked`.
pub fn target_of(
    core: &Core,
    plan: &Plan,
    target: &config::TargetRef<'_>,
    asked: &str,
    body_bytes: u64,
) -> TargetRef {
    let model = target.model.unwrap_or(asked);
    let provider = plan.provider(target.provider);
    let slot = core.slot(target.provider, model.as_bytes());
    let settings = core.settings();
    let own = |slot: config::SlotId| settings.facts.get(usize::from(slot.0));
    let facts = core.facts_or(slot, || match own(target.slot) {
        Some(facts) if plan.slots[usize::from(target.slot.0)].model.is_some() => *facts,
        _ => facts(&config::Facts::default(), settings.prices.price(&provider.name, model)),
    });
    TargetRef {
        keys: keys_for(provider, model),
        group: target.group,
        weight: target.weight,
        context_tokens: facts.context_tokens,
        input_nano_usd: facts
            .price
            .map(|price| price.input_nano_usd(u64::from(core.estimate_tokens(slot, body_bytes)))),
        ..TargetRef::new(target.provider, slot)
    }
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
#[path = "compile_tests.rs"]
mod tests;
