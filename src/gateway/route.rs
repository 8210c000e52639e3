//! The chain of one exchange: the targets that the plan and the request name, as policy walks them.

use crate::config;
use crate::dialect::error::{ErrorKind, GatewayError};
use crate::dialect::{Api, can_configure};
use crate::policy;

use super::client::Client;
use super::core::CorePlan;
use super::inbound::Inbound;
use super::outbound;
use super::wish::Wish;

/// Where a target's model name comes from.
#[derive(Clone, Copy)]
pub enum Source {
    /// Position in the chain that the plan gave.
    Chain(u8),
    /// Position among the models of `x-sluice-fallbacks`.
    Extra(u8),
}

/// The models of `x-sluice-fallbacks`, each of which must be known.
pub fn extra_models(
    client: &Client,
    inbound: &Inbound,
    plan: &CorePlan,
) -> Result<Vec<String>, GatewayError> {
    let Some(span) = inbound.fallbacks else { return Ok(Vec::new()) };
    let all = client.gather.as_ref().map_or(&[][..], |g| g.body.filled());
    let text = String::from_utf8_lossy(span.of(all)).into_owned();
    let models: Vec<String> =
        text.split(',').map(|m| m.trim().to_owned()).filter(|m| !m.is_empty()).collect();
    for model in &models {
        if let Err(unknown) = plan.live.plan.resolve(model) {
            return Err(GatewayError::new(
                ErrorKind::ModelNotFound,
                format!("x-sluice-fallbacks: {unknown}"),
            ));
        }
    }
    Ok(models)
}

/// The chain as policy walks it: targets whose provider has the endpoint, in order, without duplicates.
pub fn targets(
    inbound: &Inbound,
    wish: &Wish,
    plan: &CorePlan,
    chain: &config::Chain,
    extra: &[String],
    sources: &mut [Source; policy::settings::CHAIN_MAX],
) -> policy::Chain {
    let config = &plan.live.plan;
    let policy = plan.policy.borrow();
    let body_bytes = inbound.body_len as u64;
    let mut targets = policy::empty_chain(config, chain);
    // A configured answer is text; where answers are not, there is none.
    targets.static_answer = targets.static_answer.filter(|_| can_configure(inbound.api));
    let mut add = |target: config::TargetRef<'_>, asked: &str, source: Source| {
        let provider = config.provider(target.provider);
        if !outbound::can_serve(inbound, provider.dialect) {
            return;
        }
        let id = target.provider;
        let model = target.model.unwrap_or(asked);
        let slot = policy.slot(id, model.as_bytes());
        if targets.targets().iter().any(|t| t.provider == id && t.slot == slot) {
            return;
        }
        let at = targets.len();
        if targets.push(policy::target_of(&policy, config, &target, asked, body_bytes)) {
            sources[at] = source;
        }
    };
    let alone = wish.pinned || inbound.api == Api::Other;
    for (index, target) in chain.iter(config, &wish.model).enumerate() {
        if alone && index > 0 {
            break;
        }
        add(target, &wish.model, Source::Chain(index as u8));
    }
    if !alone {
        for (index, model) in extra.iter().enumerate() {
            if let Some(target) = config.resolve(model).ok().and_then(|c| c.get(config, model, 0)) {
                add(target, model, Source::Extra(index as u8));
            }
        }
    }
    targets
}
