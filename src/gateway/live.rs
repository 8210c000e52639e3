//! A plan made ready to serve: policy's tables, prebuilt request heads, TLS configurations.
//!
//! Built once per plan, off the cores, and shared by all of them. Secrets end up in the prebuilt heads and nowhere else;
//! the type has no `Debug`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustls::ClientConfig;

use crate::config::{Dialect, Plan, Provider, Scheme};
use crate::meter::price::PriceList;
use crate::net::clock;
use crate::net::dial::Destination;
use crate::net::pool::Bounds;
use crate::net::seats::Seats;
use crate::net::tls::{self, CaError};
use crate::policy::{self, checks::Checks};
use crate::wire::head::HeadLimits;

use super::configured::StepGate;
use super::once::Keeper;

/// How the gateway names itself to providers.
pub const USER_AGENT: &str = concat!("sluice/", env!("CARGO_PKG_VERSION"));

/// One provider, ready to be called.
pub struct Upstream {
    /// Where it is.
    pub destination: Destination,
    /// The connections of the process to it; one for all providers at this destination.
    pub seats: Arc<Seats>,
    /// What the plan allows there, over all providers at this destination.
    pub bounds: Bounds,
    /// The part of the request head that is the same for each request, by key; one entry for a keyless provider.
    heads: Vec<Box<[u8]>>,
}

impl Upstream {
    /// The fixed part of a request head for this key: Host, credential, extra fields; complete lines.
    pub fn head(&self, key: Option<policy::KeyId>) -> &[u8] {
        let at = key.map_or(0, |k| usize::from(k.0));
        self.heads.get(at).map_or(&[], |h| h)
    }
}

/// A plan and everything compiled from it.
pub struct Live {
    /// The plan.
    pub plan: Plan,
    /// What policy needs of it.
    pub settings: Arc<policy::Settings>,
    /// Policy's cells, shared by all cores.
    pub shared: Arc<policy::Shared>,
    /// By provider.
    pub upstreams: Vec<Upstream>,
    /// Checks of answers, by policy of the chain.
    pub checks: Box<[Checks]>,
    /// Answers kept for repeated keys; `None`: off.
    pub keeper: Option<Arc<Keeper>>,
    /// Bounds of steps; `None`: off.
    pub steps: Option<StepGate>,
    /// How much of a client's head is read.
    pub request_head: HeadLimits,
    /// How much of a provider's head is read.
    pub response_head: HeadLimits,
    /// 1 for the first plan of the process, one more for each reload.
    pub generation: u64,
    /// When it was built, Unix time.
    pub loaded_unix_s: u64,
}

/// TLS configurations by the CA files' content, so that a reload keeps connections whose trust did not change.
#[derive(Default)]
pub struct TlsConfigs(Mutex<HashMap<Vec<Vec<u8>>, Arc<ClientConfig>>>);

impl TlsConfigs {
    fn of(&self, files: &[PathBuf]) -> Result<Arc<ClientConfig>, CaError> {
        let mut contents = Vec::with_capacity(files.len());
        for file in files {
            let read = std::fs::read(file);
            contents.push(read.map_err(|e| CaError { file: file.clone(), problem: e.to_string() })?);
        }
        let mut known = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(config) = known.get(&contents) {
            return Ok(config.clone());
        }
        let config = tls::client_config(files)?;
        known.insert(contents, config.clone());
        Ok(config)
    }
}

impl Live {
    /// Makes `plan` ready for `cores` cores. `previous` is the plan that is being replaced: its cells live on, so that a
    /// reload forgets no cooldown.
    ///
    /// # Errors
    /// A CA file that cannot be used.
    pub fn build(
        plan: Plan,
        cores: usize,
        previous: Option<&Live>,
        tls: &TlsConfigs,
    ) -> Result<Live, CaError> {
        let mut upstreams: Vec<Upstream> = Vec::with_capacity(plan.providers.len());
        for provider in &plan.providers {
            let tls = match provider.origin.scheme {
                Scheme::Http => None,
                Scheme::Https => Some(tls.of(&provider.extra_ca)?),
            };
            let destination =
                Destination { host: provider.origin.host.clone(), port: provider.origin.port, tls };
            let known = previous.map_or(&[][..], |old| &old.upstreams).iter().chain(&upstreams);
            let seats = known.into_iter().find(|u| u.destination.same(&destination)).map(|u| u.seats.clone());
            upstreams.push(Upstream {
                destination,
                seats: seats.unwrap_or_default(),
                bounds: Bounds {
                    idle_us: provider.idle_ms.saturating_mul(1000),
                    open_max: provider.max_connections.unwrap_or(u32::MAX),
                },
                heads: heads(provider),
            });
        }
        share_bounds(&mut upstreams);
        let prices = previous.map_or_else(
            || policy::price::PriceSource::new(PriceList::shipped()),
            |old| old.settings.prices.clone(),
        );
        let settings = Arc::new(policy::Settings::from_plan(&plan, prices));
        let shared = match previous {
            Some(old) if settings.fits_cells_of(&old.settings) && same_ends(&old.plan, &plan) => {
                old.shared.clone()
            }
            _ => Arc::new(policy::Shared::new(&settings, cores)),
        };
        let generation = previous.map_or(1, |old| old.generation + 1);
        let limits = &plan.limits;
        let request_head = HeadLimits {
            line: limits.request_line_bytes as usize,
            bytes: limits.head_bytes as usize,
            fields: usize::from(limits.head_fields),
        };
        let response_head = HeadLimits {
            bytes: limits.upstream_head_bytes as usize,
            fields: usize::from(limits.upstream_head_fields),
            ..HeadLimits::RESPONSE
        };
        let checks = Checks::of_plan(&plan);
        let keeper = keeper(&plan, previous);
        let steps = steps(&plan, previous);
        Ok(Live {
            plan,
            settings,
            shared,
            upstreams,
            checks,
            keeper,
            steps,
            request_head,
            response_head,
            generation,
            loaded_unix_s: clock::unix_seconds(),
        })
    }
}

/// The kept answers live on when their bounds stay.
fn keeper(plan: &Plan, previous: Option<&Live>) -> Option<Arc<Keeper>> {
    let settings = policy::idempotency_settings(plan)?;
    let bytes_max = plan.idempotency.map_or(0, |own| own.bytes);
    let old = previous.and_then(|old| old.keeper.clone()).filter(|old| old.is_for(settings, bytes_max));
    Some(old.unwrap_or_else(|| Arc::new(Keeper::new(settings, bytes_max))))
}

/// What steps have lost lives on whatever their bounds are now.
fn steps(plan: &Plan, previous: Option<&Live>) -> Option<StepGate> {
    let settings = policy::step_settings(plan)?;
    let budget = plan.step_budget?;
    let old = previous.and_then(|old| old.steps.as_ref()).map(|gate| gate.steps.clone());
    Some(StepGate { settings, budget, steps: old.unwrap_or_default() })
}

/// Whether every provider is where it was and every key is the secret that it was. What was learnt of another one, a
/// cooldown or an open breaker, says nothing about what stands in its place now.
fn same_ends(old: &Plan, new: &Plan) -> bool {
    old.providers.iter().zip(&new.providers).all(|(a, b)| {
        let mut keys = a.keys.iter().zip(&b.keys);
        a.origin == b.origin
            && a.base_path == b.base_path
            && keys.all(|(a, b)| a.secret.expose() == b.secret.expose())
    })
}

/// Providers at one destination share its connections: each brings its own number of them, and the shortest idle time
/// counts.
fn share_bounds(upstreams: &mut [Upstream]) {
    let own: Vec<(Arc<Seats>, Bounds)> = upstreams.iter().map(|u| (u.seats.clone(), u.bounds)).collect();
    for upstream in upstreams {
        let shared = own.iter().filter(|(seats, _)| Arc::ptr_eq(seats, &upstream.seats));
        let each = shared.map(|(_, bounds)| *bounds);
        upstream.bounds = each
            .reduce(|a, b| Bounds {
                idle_us: a.idle_us.min(b.idle_us),
                open_max: a.open_max.saturating_add(b.open_max),
            })
            .unwrap_or(upstream.bounds);
    }
}

fn heads(provider: &Provider) -> Vec<Box<[u8]>> {
    let common = |credential: Option<&str>| {
        let mut head = Vec::with_capacity(256);
        let mut line = |name: &str, value: &str| {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        };
        line("Host", &provider.origin.authority());
        if let Some(secret) = credential {
            match provider.dialect {
                Dialect::Anthropic => line("x-api-key", secret),
                _ => line("Authorization", &format!("Bearer {secret}")),
            }
        }
        // Answers are looked at on their way through, so they must not come compressed.
        line("Accept-Encoding", "identity");
        for (name, value) in &provider.extra_headers {
            line(name, value.expose());
        }
        head.into_boxed_slice()
    };
    if provider.keys.is_empty() {
        return vec![common(None)];
    }
    provider.keys.iter().map(|key| common(Some(key.secret.expose()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loader;

    fn live(text: &str, previous: Option<&Live>) -> Live {
        let loader = Loader { file: Some("test.yaml".into()), ..Loader::default() };
        let plan = loader.load_text(text, &|_| None).unwrap();
        Live::build(plan, 1, previous, &TlsConfigs::default()).ok().unwrap()
    }

    const TWO: &str = "providers: {a: {base_url: \"http://127.0.0.1:1\", network_config: {max_conns_per_host: 3, \
                       keep_alive_timeout_in_seconds: 9}}, b: {base_url: \"http://127.0.0.1:1/v2\", network_config: \
                       {max_conns_per_host: 4}}, c: {base_url: \"http://127.0.0.1:2\"}}";

    #[test]
    fn providers_on_one_host_share_its_connections() {
        let live = live(TWO, None);
        let [a, b, c] = &live.upstreams[..] else { panic!("three providers") };
        let both = Bounds { idle_us: 9_000_000, open_max: 7 };
        assert_eq!((a.bounds, b.bounds), (both, both));
        assert!(Arc::ptr_eq(&a.seats, &b.seats) && !Arc::ptr_eq(&a.seats, &c.seats));
        assert_eq!(c.bounds, Bounds { idle_us: 30_000_000, open_max: u32::MAX });
    }

    #[test]
    fn connections_that_are_open_count_after_a_reload_too() {
        let old = live(TWO, None);
        let new = live(TWO, Some(&old));
        for (old, new) in old.upstreams.iter().zip(&new.upstreams) {
            assert!(Arc::ptr_eq(&old.seats, &new.seats));
        }
    }
}
