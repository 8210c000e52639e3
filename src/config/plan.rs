//! The whole configuration compiled to immutable tables.
//!
//! Every core holds the same `Arc<Plan>` for as long as an exchange lasts; a reload publishes another one.
//! Ids are indexes into these tables and mean nothing in another plan.
//!
//! Invariants: `providers` is not empty; every id in the plan is in range; a provider has at most
//! `u16::MAX` keys and the weights of its keys sum to more than zero; `slots[i]` for `i < providers.len()` is
//! the catch-all slot of provider `i`; `facts` has one row for each slot; a route has 1 to
//! [`CHAIN_TARGETS_MAX`](super::defaults) targets without duplicates, and targets of one group stand next to each other.
//! Durations are milliseconds, sizes are bytes.
//!
//! Left out: anything that changes while serving (breakers, cooldowns, counters). `policy` keeps those, in
//! tables indexed by the ids here.

mod provider;

use std::net::SocketAddr;
use std::path::PathBuf;

use super::admin::AdminConfig;
use super::books::{AccessLogConfig, LedgerConfig};
use super::bounds::{Limits, Timeouts};
use super::capture::CaptureConfig;
use super::catalog::Catalog;
use super::checks::Check;
use super::diagnostics::Diagnostic;
use super::mechanisms::{
    Balance, Facts, Hedge, Idempotency, RouteDefaults, RouteTimeouts, StaticAnswer, StaticId, StepBudget,
};
use super::observe::Who;
use super::places::Places;
use super::secret::Secret;
use super::traces::TracesConfig;
pub use provider::{Key, Origin, Provider, Scheme};

/// Index into [`Plan::providers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderId(pub u16);

/// Index into [`Provider::keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u16);

/// Index into [`Plan::routes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u16);

/// Index into [`Plan::slots`]: a small integer for "this model at this provider", for breakers and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u16);

/// The configuration a gateway runs on.
#[derive(Debug)]
pub struct Plan {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Number of workers; `None` is one per core the process may run on.
    pub workers: Option<usize>,
    /// Which I/O driver to use.
    pub driver: DriverChoice,
    /// Bounds on what clients and providers may send.
    pub limits: Limits,
    /// Timeouts of providers that set none of their own.
    pub timeouts: Timeouts,
    /// Everyone who can answer, in the order of the file.
    pub providers: Vec<Provider>,
    /// The chains that `fallbacks` describes.
    pub routes: Vec<Route>,
    /// Every pair of provider and model that has state of its own; the first `providers.len()` are the
    /// providers' catch-alls for models the configuration does not name.
    pub slots: Vec<Slot>,
    /// What the file says of the models, by [`SlotId`]; nothing for most.
    pub facts: Vec<Facts>,
    /// How a model name finds its chain.
    pub catalog: Catalog,
    /// What chains without a route of their own get.
    pub route_defaults: RouteDefaults,
    /// The configured answers.
    pub statics: Vec<StaticAnswer>,
    /// What one step may lose; `None`: steps are not bounded.
    pub step_budget: Option<StepBudget>,
    /// How long answers are kept for repeated keys; `None`: the header does nothing.
    pub idempotency: Option<Idempotency>,
    /// What prompts sent again may cost in a minute, nano-dollars; `None`: no limit in money.
    pub retry_cost_nano_usd_per_minute: Option<u64>,
    /// Where the metrics page is; `None`: nowhere.
    pub metrics_path: Option<Box<str>>,
    /// How requests say who asked, and what of it becomes a label.
    pub who: Who,
    /// What is kept of what was spent.
    pub ledger: LedgerConfig,
    /// Where a line for each exchange goes; `None`: nowhere.
    pub access_log: Option<AccessLogConfig>,
    /// Where requests and answers are kept; `None`: nowhere.
    pub capture: Option<CaptureConfig>,
    /// The live page, and the token for what changes something.
    pub admin: AdminConfig,
    /// Where spans of exchanges go; `None`: nowhere.
    pub traces: Option<TracesConfig>,
    /// Who gets `/v1/*` requests that name no model.
    pub default_provider: ProviderId,
    /// The built-in mock provider, when it is part of the plan. Its origin is filled in when it starts.
    pub mock: Option<ProviderId>,
    /// How long a worker that has had work looks for more before it sleeps; 0: not at all.
    pub busy_poll_ms: u64,
    /// Time that running exchanges get after SIGTERM.
    pub drain_timeout_ms: u64,
    /// Host names a request may carry, lower case, without port; empty allows every name.
    pub allowed_hosts: Vec<Box<str>>,
    /// `Origin` values a request may carry; a request with any other origin comes from a foreign web page.
    pub allowed_origins: Vec<Box<str>>,
    /// When not empty, a client must present one of these.
    pub client_keys: Vec<ClientKey>,
    /// Where the configuration came from.
    pub source: PlanSource,
    /// Which settings were written, and where.
    pub places: Places,
    /// What is odd about it.
    pub warnings: Vec<Diagnostic>,
}

/// Where a plan came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanSource {
    /// A file.
    File(PathBuf),
    /// The environment: the variables whose keys are used, without their values; none for the mock provider.
    Environment(Vec<Box<str>>),
}

/// Which I/O driver to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// io_uring where the kernel allows it, else epoll.
    #[default]
    Auto,
    /// io_uring or refuse to start.
    IoUring,
    /// epoll.
    Epoll,
}

impl DriverChoice {
    /// The names a file and the command line use.
    pub const NAMES: [(&'static str, DriverChoice); 3] =
        [("auto", DriverChoice::Auto), ("io_uring", DriverChoice::IoUring), ("epoll", DriverChoice::Epoll)];

    /// The name a file and the command line use.
    pub fn name(self) -> &'static str {
        match self {
            DriverChoice::Auto => "auto",
            DriverChoice::IoUring => "io_uring",
            DriverChoice::Epoll => "epoll",
        }
    }
}

/// A key that a client of the gateway presents.
#[derive(Clone, Debug)]
pub struct ClientKey {
    /// A name that is safe to print.
    pub name: Box<str>,
    /// What the client must send.
    pub secret: Secret,
}

/// An ordered chain of targets.
#[derive(Clone, Debug)]
pub struct Route {
    /// The model name it is for; `*` for the chain of every request.
    pub name: Box<str>,
    /// Targets in order. For a route of one model the first is that model.
    pub targets: Vec<Target>,
    /// How targets of one group share.
    pub balance: Balance,
    /// Second calls for slow first ones; `None`: off.
    pub hedge: Option<Hedge>,
    /// What an answer must pass; empty: everything passes.
    pub checks: Vec<Check>,
    /// Timeouts over those of the providers.
    pub timeouts: RouteTimeouts,
    /// The answer when no target has one.
    pub static_answer: Option<StaticId>,
    /// Dotted path of the entry that made it, for [`Places`]; of the chain of every request, its first entry.
    pub path: Box<str>,
}

/// A provider and the model to ask it for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Who is asked.
    pub provider: ProviderId,
    /// The provider's name for the model; `None` asks for the model the client asked for.
    pub model: Option<Box<str>>,
    /// The state the target shares with every other use of the same pair.
    pub slot: SlotId,
    /// Targets next to each other with the same number, not 0, are equals; 0: asked in the order written.
    pub group: u8,
    /// Share among equals, in millionths of the group's sum.
    pub weight: u32,
}

/// A pair of provider and model with state of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The provider.
    pub provider: ProviderId,
    /// The model; `None` for all models the configuration does not name.
    pub model: Option<Box<str>>,
}

impl Plan {
    /// The provider of `id`.
    ///
    /// # Panics
    /// When `id` is of another plan.
    pub fn provider(&self, id: ProviderId) -> &Provider {
        &self.providers[usize::from(id.0)]
    }

    /// The longest that an exchange on `route` may take at a provider, from its arrival; milliseconds.
    ///
    /// # Panics
    /// When an id is of another plan.
    pub fn total_ms(&self, route: Option<RouteId>, provider: ProviderId) -> u64 {
        let of_route = route.and_then(|id| self.routes[usize::from(id.0)].timeouts.total_ms);
        of_route.unwrap_or_else(|| self.timeouts.total_ms.min(self.provider(provider).timeouts.total_ms))
    }

    /// Every name of a model that the configuration spells out, as clients or as providers call it.
    pub fn model_names(&self) -> impl Iterator<Item = &str> {
        let slots = self.slots.iter().filter_map(|slot| slot.model.as_deref());
        slots.chain(self.offered_models().iter().map(|offered| &*offered.name))
    }

    /// What the file says of the model in `slot`; nothing for a slot of another plan.
    pub fn facts(&self, slot: SlotId) -> Facts {
        self.facts.get(usize::from(slot.0)).copied().unwrap_or_default()
    }

    /// Whether a request with this `Host` is for us: DNS rebinding brings foreign names to a loopback port.
    /// The port is not compared: it changes on the way through containers, and a foreign page cannot choose
    /// one of these names.
    pub fn allows_host(&self, host: &[u8]) -> bool {
        if self.allowed_hosts.is_empty() {
            return true;
        }
        let name = match host.first() {
            Some(b'[') => host.iter().position(|byte| *byte == b']').map_or(host, |end| &host[..=end]),
            _ => host.iter().rposition(|byte| *byte == b':').map_or(host, |colon| &host[..colon]),
        };
        self.allowed_hosts.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether a request with this `Origin` is allowed.
    pub fn allows_origin(&self, origin: &[u8]) -> bool {
        self.allowed_origins.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(origin))
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Loader;
    use super::*;

    fn plan(text: &str) -> Plan {
        let loader = Loader { file: Some("t.yaml".into()), ..Loader::default() };
        loader.load_text(text, &|_| Some("key".to_owned())).unwrap()
    }

    #[test]
    fn a_plan_can_be_shared_between_cores() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<Plan>();
    }

    #[test]
    fn on_loopback_only_the_machines_own_names_are_hosts() {
        let plan = plan("providers: {openai: {}}\nallowed_hosts: [sluice.internal]");
        for host in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]", "sluice.internal:80"]
        {
            assert!(plan.allows_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            "rebind.evil.example",
            "localhost.evil.example:8080",
            "127.0.0.1.nip.io",
            "0.0.0.0",
            "[::1",
            "::1",
        ] {
            assert!(!plan.allows_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn elsewhere_hosts_are_restricted_only_by_the_file() {
        assert!(plan("listen: 0.0.0.0:8080").allows_host(b"anything"));
        assert!(plan("allowed_hosts: ['*']").allows_host(b"anything"));
        let own = plan("{listen: '0.0.0.0:8080', allowed_hosts: [a.example]}");
        assert!(own.allows_host(b"a.example") && !own.allows_host(b"b.example"));
    }

    #[test]
    fn no_foreign_web_page_is_allowed_unless_named() {
        assert!(!plan("{}").allows_origin(b"https://app.example"));
        let own = plan("allowed_origins: ['https://app.example']");
        assert!(own.allows_origin(b"https://app.example") && !own.allows_origin(b"https://app.example.evil"));
    }
}
