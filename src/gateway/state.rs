//! What is known of an exchange: what it asks for, where it may go, what came of it so far.

use std::rc::Rc;

use crate::config;
use crate::dialect::error::{ErrorKind, GatewayError};
use crate::net::clock;
use crate::policy::{self, Ask, Flight};

use super::client::Client;
use super::core::CorePlan;
use super::failure::Kept;
use super::inbound::Inbound;
use super::route;
use super::underway::PlaceId;
use super::wish::{self, Wish};

/// What is known of an exchange, apart from whom it is for.
pub struct State {
    /// What the body asks for.
    pub wish: Wish,
    /// The walk over the chain.
    pub flight: Flight,
    /// The plan that serves it.
    pub plan: Rc<CorePlan>,
    /// The chain that the plan gave.
    pub(super) chain: config::Chain,
    /// The models of `x-sluice-fallbacks`.
    pub(super) extra: Vec<String>,
    /// Where each target's model name comes from.
    pub(super) sources: [route::Source; policy::settings::CHAIN_MAX],
    /// The most useful failure so far.
    pub kept: Option<Box<Kept>>,
    /// A provider's answer was delivered whole.
    pub(super) delivered: bool,
    /// The client left before there was one.
    pub(super) left: bool,
    /// Its place among what runs.
    pub(super) place: Option<PlaceId>,
    /// What it cost, nano-dollars.
    pub(super) cost_nano_usd: u64,
}

impl State {
    /// Finds out what is asked for and where it may go. Not async, so that none of this is part of what a connection
    /// holds while it waits.
    pub fn begin(client: &mut Client, inbound: &Inbound) -> Result<State, GatewayError> {
        let mut wish = wish::read(client, inbound)?;
        let plan = inbound.plan.clone();
        let config = &plan.live.plan;
        if wish.model.is_empty() {
            // Endpoints that name no model go to the provider that the plan names for them.
            wish.model.push_str(&config.provider(config.default_provider).name);
            wish.model.push_str("/-");
        }
        let chain = config.resolve(&wish.model).map_err(|unknown| {
            let mut error = GatewayError::new(ErrorKind::ModelNotFound, unknown.to_string());
            error.param = Some("model".to_owned());
            error
        })?;
        let extra = route::extra_models(client, inbound, &plan)?;
        let mut sources = [route::Source::Chain(0); policy::settings::CHAIN_MAX];
        let targets = route::targets(inbound, &wish, &plan, &chain, &extra, &mut sources);
        if targets.is_empty() {
            let provider = chain.get(config, &wish.model, 0).map(|t| config.provider(t.provider));
            let name = provider.map_or("the provider", |p| &p.name);
            let message = format!(
                "`{name}`, which serves `{}`, has no such endpoint; ask for another model or add a fallback",
                wish.model
            );
            let mut error = GatewayError::new(ErrorKind::NotFound, message);
            error.code = "endpoint_not_supported".into();
            return Err(error);
        }
        let ask = Ask {
            now_us: inbound.started_us,
            deadline_us: inbound.deadline_us,
            stream: wish.stream,
            body_bytes: inbound.body_len as u64,
            est_input_tokens: plan
                .policy
                .borrow()
                .estimate_tokens(targets.targets()[0].slot, inbound.body_len as u64),
            client_retries: inbound.client_retries,
        };
        let flight = Flight::begin(&mut plan.policy.borrow_mut(), targets, ask);
        client.watch(wish.stream);
        if wish.stream {
            client.core.stats.streams.add(1);
        }
        let place = match config.admin.page {
            true => {
                let (asked, who) = (&wish.model, inbound.who());
                client.core.underway.enter(inbound.started_us, clock::recent_us(), wish.stream, asked, who[0])
            }
            false => None,
        };
        Ok(State {
            wish,
            flight,
            plan,
            chain,
            extra,
            sources,
            kept: None,
            delivered: false,
            left: false,
            place,
            cost_nano_usd: 0,
        })
    }
}

impl State {
    /// The route whose chain is walked.
    pub fn route(&self) -> Option<config::RouteId> {
        self.chain.route()
    }

    /// A provider's answer was delivered whole.
    pub fn delivered(&self) -> bool {
        self.delivered
    }

    /// The client left before there was an answer.
    pub fn left(&self) -> bool {
        self.left
    }
}
