//! How things stand right now, for the metrics page: cores, targets, providers, the process. Read from cells that the cores
//! and the policy publish, on the side thread that writes the page.
//!
//! Targets are those that were called and are still in the plan. What the policy does not publish is not here: tokens of
//! calls that run, and the limits that providers report in their answers, of which each has its own idea.

use crate::config::Plan;
use crate::meter::{Cell, Family, Kind, Labels, Text, Value, process};
use crate::net::clock;
use crate::policy::breaker::{Phase, Trip};
use crate::policy::{KeyId, ProviderId, SkipReason};

use super::metrics::Job;
use super::stats::Stats;

/// Labels of one row.
pub(super) fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels {
    pairs.map(|(name, value)| (name.into(), Text::Shared(value.into()))).into()
}

fn counter(name: &'static str, help: &'static str, n: u64) -> Family {
    Family::single(name, Kind::Counter, help, Value::Count(n))
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> Family {
    Family::single(name, Kind::Gauge, help, Value::Number(value))
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

impl Job {
    /// Everything on the page.
    pub(super) fn families(&self) -> Vec<Family> {
        let now_us = clock::now_us();
        let mut all = self.meter.families();
        all.extend(self.of_cores());
        all.extend(self.of_targets(now_us));
        all.extend(self.of_providers(now_us));
        all.extend(self.written.families());
        all.extend(self.of_build());
        all.extend(of_process());
        all
    }

    fn plan(&self) -> &Plan {
        &self.live.plan
    }

    fn sum(&self, cell: impl Fn(&Stats) -> &Cell) -> u64 {
        self.stats.iter().fold(0, |sum, stats| sum.wrapping_add(cell(stats).get()))
    }

    fn of_cores(&self) -> Vec<Family> {
        let each = |name, kind, help, cell: fn(&Stats) -> &Cell| {
            let mut family = Family::new(name, kind, help);
            for (core, stats) in self.stats.iter().enumerate() {
                family.push(labels([("core", &core.to_string())]), Value::Count(cell(stats).get()));
            }
            family
        };
        let mut skips = Family::new(
            "sluice_targets_skipped_total",
            Kind::Counter,
            "Targets that were passed over without a call",
        );
        for (at, reason) in SkipReason::ALL.iter().enumerate() {
            let n = self.sum(|stats| &stats.skips[at]);
            skips.push(labels([("reason", reason.label())]), Value::Count(n));
        }
        vec![
            each("sluice_connections_accepted_total", Kind::Counter, "Client connections accepted", |s| {
                &s.accepted
            }),
            each("sluice_connections", Kind::Gauge, "Client connections that are open", |s| &s.open),
            each("sluice_inflight_requests", Kind::Gauge, "Requests being read, served or answered", |s| {
                &s.exchanges
            }),
            each("sluice_streams", Kind::Gauge, "Streams that run", |s| &s.streams),
            each(
                "sluice_upstream_idle_connections",
                Kind::Gauge,
                "Idle connections to providers, as of the last second",
                |s| &s.idle,
            ),
            each(
                "sluice_requests_received_total",
                Kind::Counter,
                "Requests received, those for the gateway itself too",
                |s| &s.requests,
            ),
            skips,
            counter(
                "sluice_panics_total",
                "Tasks that panicked; each cost one connection",
                self.sum(|s| &s.panics),
            ),
            counter(
                "sluice_client_aborts_total",
                "Exchanges ended because their client left",
                self.sum(|s| &s.cancelled),
            ),
            counter(
                "sluice_idempotent_replays_total",
                "Answers given again for a repeated key",
                self.sum(|s| &s.replayed),
            ),
            counter(
                "sluice_static_answers_total",
                "Answers given from the configuration",
                self.sum(|s| &s.static_answers),
            ),
            counter(
                "sluice_steps_refused_total",
                "Requests turned away because their step used up its budget",
                self.sum(|s| &s.steps_refused),
            ),
            counter(
                "sluice_hedges_won_total",
                "Second calls that answered first",
                self.sum(|s| &s.hedges_won),
            ),
            counter(
                "sluice_breaker_probes_total",
                "Single requests let through a half-open breaker",
                self.sum(|s| &s.probes),
            ),
        ]
    }

    /// Every provider and model that was called and is still in the plan.
    fn of_targets(&self, now_us: u64) -> Vec<Family> {
        let mut state = Family::new(
            "sluice_breaker_state",
            Kind::Gauge,
            "0 closed, 1 half-open, 2 open, 3 closed and ramping up",
        );
        let mut opened = Family::new(
            "sluice_breaker_transitions_total",
            Kind::Counter,
            "Openings of the breaker by what opened it",
        );
        let mut cooling = Family::new(
            "sluice_key_cooldown_seconds",
            Kind::Gauge,
            "Time until a key may be used for a model again, 0 when it may",
        );
        let mut burnt = Family::new(
            "sluice_breaker_tokens_burnt",
            Kind::Gauge,
            "Input tokens of large prompts in failed calls of the last ten seconds",
        );
        let (plan, shared) = (self.plan(), &self.live.shared);
        for (provider, model) in self.meter.targets() {
            let Some(index) = plan.providers.iter().position(|own| *own.name == *provider) else { continue };
            let slot = shared.slot(&self.live.settings, ProviderId(index as u16), model.as_bytes());
            // Models past the bound share their provider's slot, which would stand here many times.
            if usize::from(slot.0) < plan.providers.len() {
                continue;
            }
            let Some(breaker) = shared.breaker(slot, now_us) else { continue };
            let target = [("model", model.as_str()), ("provider", provider.as_str())];
            let number = match breaker.phase {
                Phase::Closed => 0,
                Phase::HalfOpen => 1,
                Phase::Open => 2,
                Phase::Ramping => 3,
            };
            state.push(labels(target), Value::Count(number));
            burnt.push(labels(target), Value::Count(breaker.tally.tokens_burnt));
            for (trip, n) in Trip::ALL.iter().zip(breaker.opened) {
                opened
                    .push([&labels([("kind", trip.label())])[..], &labels(target)].concat(), Value::Count(n));
            }
            for (key, own) in plan.providers[index].keys.iter().enumerate() {
                let until_us = shared.key_until(slot, KeyId(key as u16), now_us).unwrap_or(now_us);
                let left = Value::Number(seconds(until_us.saturating_sub(now_us)));
                cooling.push([&labels([("key", &own.name)])[..], &labels(target)].concat(), left);
            }
        }
        vec![state, opened, burnt, cooling]
    }

    fn of_providers(&self, now_us: u64) -> Vec<Family> {
        let mut left =
            Family::new("sluice_retry_budget_calls", Kind::Gauge, "Extra calls that could be made now");
        let mut granted =
            Family::new("sluice_retry_budget_granted_total", Kind::Counter, "Extra calls that were granted");
        let mut refused = Family::new(
            "sluice_retry_budget_refused_total",
            Kind::Counter,
            "Extra calls that the budget refused",
        );
        let mut calls = Family::new(
            "sluice_provider_calls",
            Kind::Gauge,
            "Calls that run, of providers with a bound on them",
        );
        let mut queue =
            Family::new("sluice_queue_depth", Kind::Gauge, "Requests that wait for a place at a provider");
        let mut open = Family::new("sluice_upstream_connections", Kind::Gauge, "Open connections");
        let shared = &self.live.shared;
        for (index, provider) in self.plan().providers.iter().enumerate() {
            let id = ProviderId(index as u16);
            let name = || labels([("provider", &provider.name)]);
            let budget = shared.budget(&self.live.settings, id, now_us);
            left.push(name(), Value::Number(budget.left_milli as f64 / 1000.0));
            granted.push(name(), Value::Count(budget.granted));
            refused.push(name(), Value::Count(budget.refused));
            let bulkhead = shared.bulkhead(id);
            if provider.bulkhead.concurrent.is_some() || provider.max_connections.is_some() {
                calls.push(name(), Value::Count(u64::from(bulkhead.taken)));
                queue.push(name(), Value::Count(u64::from(bulkhead.waiting)));
            }
            if let Some(upstream) = self.live.upstreams.get(index) {
                open.push(name(), Value::Count(u64::from(upstream.seats.open())));
            }
        }
        let money = shared.money();
        vec![
            left,
            granted,
            refused,
            calls,
            queue,
            open,
            counter(
                "sluice_retry_cost_refused_total",
                "Extra calls refused by the limit on what they cost",
                money.refused(),
            ),
        ]
    }

    fn of_build(&self) -> Vec<Family> {
        let mut build = Family::new("sluice_build_info", Kind::Gauge, "What runs; always 1");
        let version = env!("CARGO_PKG_VERSION");
        build.push(labels([("driver", self.driver), ("version", version)]), Value::Count(1));
        vec![
            build,
            gauge(
                "sluice_config_generation",
                "Number of the configuration that serves; 1 from the start, one more for each reload",
                self.live.generation as f64,
            ),
            gauge(
                "sluice_config_loaded_timestamp_seconds",
                "When that configuration was loaded",
                self.live.loaded_unix_s as f64,
            ),
        ]
    }
}

/// Figures of the process under the names that every Prometheus client uses.
fn of_process() -> Vec<Family> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let [stat, status] = ["/proc/self/stat", "/proc/self/status"].map(read);
    let found = process::figures(&stat, &status, &read("/proc/self/limits"), &read("/proc/stat"));
    let Some(found) = found else {
        return Vec::new();
    };
    let mut all = vec![
        Family::single(
            "process_cpu_seconds_total",
            Kind::Counter,
            "Processor time, user and system",
            Value::Number(found.cpu_seconds),
        ),
        gauge("process_resident_memory_bytes", "Memory in use", found.resident_bytes as f64),
        gauge("process_virtual_memory_bytes", "Address space", found.virtual_bytes as f64),
        gauge("process_start_time_seconds", "Start of the process, Unix time", found.start_seconds),
        gauge("process_threads", "Threads", found.threads as f64),
    ];
    if found.fds_max > 0 {
        all.push(gauge("process_max_fds", "Descriptors that may be open", found.fds_max as f64));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        all.push(gauge("process_open_fds", "Descriptors that are open", open.count() as f64));
    }
    all
}
