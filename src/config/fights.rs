//! Settings that fight each other: each is fine by itself, and together one of them does nothing.
//!
//! Looked for in the finished plan, so that inherited values count, and reported at the setting that was written. A
//! setting that a nearer level narrows is no fight: the top level's timeout is still the one of every other provider.
//!
//! Left out: what needs prices. The command line has the price list and asks for those itself.

use std::collections::HashSet;

use super::bounds::Timeouts;
use super::diagnostics::{Diagnostic, Severity};
use super::origins::{Level, Origins, Source};
use super::plan::{Plan, Provider, Route};
use super::values::show_ms;

/// Everything odd about how the settings of `plan` go together.
pub(super) fn find(plan: &Plan) -> Vec<Diagnostic> {
    let mut fights = Fights { plan, found: Vec::new(), seen: HashSet::new() };
    for provider in &plan.providers {
        let origins = Origins { plan, provider: Some(provider), route: None };
        fights.timeouts(origins, &provider.timeouts);
        fights.breaker(origins, provider);
        fights.retries(origins, provider);
        fights.bulkhead(origins, provider);
    }
    for route in &plan.routes {
        for target in &route.targets {
            let provider = plan.provider(target.provider);
            let origins = Origins { plan, provider: Some(provider), route: Some(route) };
            fights.timeouts(origins, &route.timeouts.over(&provider.timeouts));
        }
        fights.hedge(route);
        fights.route(route);
    }
    fights.defaults_of_routes();
    fights.answers();
    fights.cores();
    fights.found
}

struct Fights<'p> {
    plan: &'p Plan,
    found: Vec<Diagnostic>,
    /// Path and rule of what was found: an inherited setting fights once, not once for each heir.
    seen: HashSet<(String, &'static str)>,
}

impl<'p> Fights<'p> {
    fn warn(&mut self, at: &Source, rule: &'static str, message: String, help: &str) {
        self.say(Severity::Warning, at, rule, message, help);
    }

    fn say(&mut self, severity: Severity, at: &Source, rule: &'static str, message: String, help: &str) {
        if self.seen.insert((at.path.clone(), rule)) {
            self.found.push(self.plan.places.finding(severity, &at.path, message, help.to_owned()));
        }
    }

    /// Timeouts that can never fire because another one comes first.
    fn timeouts(&mut self, origins: Origins<'p>, effective: &Timeouts) {
        let total = (effective.total_ms, "total", origins.of("timeouts.total").level);
        let attempt = effective.attempt_ms.map(|ms| (ms, "attempt", origins.of("timeouts.attempt").level));
        let sooner = attempt.into_iter().chain([total]).min_by_key(|(ms, ..)| *ms).unwrap_or(total);
        let rows = [
            ("connect", Some(effective.connect_ms), sooner),
            ("first_token", Some(effective.first_token_ms), sooner),
            ("token_gap", Some(effective.token_gap_ms), total),
            ("attempt", effective.attempt_ms, total),
        ];
        for (name, ms, (bound_ms, bound, level)) in rows {
            let source = origins.of(&format!("timeouts.{name}"));
            let written = source.level != Level::Default && source.level >= level;
            if let Some(ms) = ms.filter(|ms| written && *ms > bound_ms) {
                let message = format!(
                    "the {name} timeout of {} never fires: the {bound} of {} comes first",
                    show_ms(ms),
                    show_ms(bound_ms)
                );
                self.warn(&source, "timeout", message, &format!("lower it, or raise `timeouts.{bound}`"));
            }
        }
        let exchange_ms = self.plan.timeouts.total_ms;
        let source = origins.of("timeouts.total");
        if source.level == Level::Provider && effective.total_ms > exchange_ms {
            let message = format!(
                "the total of {} for an attempt never fires: the whole exchange ends after {}",
                show_ms(effective.total_ms),
                show_ms(exchange_ms)
            );
            self.warn(&source, "timeout", message, "lower it, or raise `timeouts.total` at the top level");
        }
    }

    fn breaker(&mut self, origins: Origins<'p>, provider: &Provider) {
        let (breaker, cooldown) = (&provider.breaker, &provider.cooldown);
        let mut useless = |key: &str, off: &str, is_off: fn(&Provider) -> bool| {
            let source = origins.of(&format!("breaker.{key}"));
            if self.plan.is_idle(&source, provider, is_off) {
                let message = format!("`{key}` has no effect: `{off}` is off");
                self.warn(&source, "off", message, &format!("set `{off}` too, or leave `{key}` out"));
            }
        };
        useless("slow_percent", "slow_call", |own| own.breaker.slow_call_ms.is_none());
        useless("tokens_failure_percent", "tokens_burnt", |own| own.breaker.tokens_burnt.is_none());
        let timeouts = &provider.timeouts;
        let bounds = [
            (timeouts.attempt_ms.unwrap_or(u64::MAX), "attempt"),
            (timeouts.first_token_ms, "first_token"),
            (timeouts.total_ms, "total"),
        ];
        let (bound_ms, bound) = bounds.into_iter().min_by_key(|(ms, _)| *ms).unwrap_or((u64::MAX, "total"));
        let source = origins.of("breaker.slow_call");
        if let Some(slow_ms) = breaker.slow_call_ms.filter(|ms| *ms >= bound_ms)
            && source.level >= origins.of(&format!("timeouts.{bound}")).level
        {
            let message = format!(
                "no call is ever slow: after {} it would be, and after {} it has failed",
                show_ms(slow_ms),
                show_ms(bound_ms)
            );
            self.warn(&source, "slow", message, &format!("set `slow_call` below `timeouts.{bound}`"));
        }
        if cooldown.cap_ms < cooldown.initial_ms {
            let (cap, initial) = (origins.of("cooldown.cap"), origins.of("cooldown.initial"));
            let source = if cap.level >= initial.level { cap } else { initial };
            let message = format!(
                "a provider that asks for a rest gets at most {}, and one that does not ask gets {}",
                show_ms(cooldown.cap_ms),
                show_ms(cooldown.initial_ms)
            );
            self.warn(&source, "cap", message, "raise `cap`, or lower `initial`");
        }
    }

    fn retries(&mut self, origins: Origins<'p>, provider: &Provider) {
        let Some(count) = provider.retry.max_retries.filter(|count| *count > 0) else { return };
        let source = origins.of("retry.max_retries");
        let own = |route: &&Route| {
            route.targets.iter().any(|t| *self.plan.provider(t.provider).name == *provider.name)
        };
        let in_chain = self.plan.routes.iter().filter(own).any(|route| route.targets.len() > 1);
        if count > 2 && in_chain {
            let message = format!(
                "`{}` is asked {} times before the next target, and a client that retries too multiplies that",
                provider.name,
                count + 1
            );
            let help =
                "set 2 or fewer, or leave it out: the next target is asked at once, the last one is retried";
            self.warn(&source, "many", message, help);
        }
        let budget = &provider.retry_budget;
        if budget.percent == 0 && budget.per_second == 0 {
            let message =
                format!("none of up to {count} retries is ever made: the retry budget gives nothing");
            let help = "raise `retry_budget.percent` or `retry_budget.per_second`, or set `max_retries` to 0";
            self.warn(&source, "budget", message, help);
        }
        let first_ms = provider.retry.backoff_initial_ms;
        let total_ms = provider.timeouts.total_ms.min(self.plan.timeouts.total_ms);
        let backoff = origins.of("retry.backoff_initial");
        if first_ms >= total_ms && backoff.level != Level::Default {
            let message = format!(
                "no retry is ever made: the first would wait {}, and the exchange ends after {}",
                show_ms(first_ms),
                show_ms(total_ms)
            );
            self.warn(&backoff, "backoff", message, "lower `backoff_initial`");
        }
    }

    fn bulkhead(&mut self, origins: Origins<'p>, provider: &Provider) {
        let unbounded = |own: &Provider| own.bulkhead.concurrent.or(own.max_connections).is_none();
        for key in ["queue", "queue_wait"] {
            let source = origins.of(&format!("bulkhead.{key}"));
            if self.plan.is_idle(&source, provider, unbounded) {
                let message = format!("`{key}` has no effect: the number of calls is not bounded");
                self.warn(&source, "queue", message, "set `concurrent` too, or leave it out");
            }
        }
        if let (Some(calls), Some(most)) = (provider.bulkhead.concurrent, provider.max_connections)
            && calls > most
        {
            let message = format!("{calls} calls at a time do not fit into {most} connections; {most} it is");
            let help = "raise `max_conns_per_host`, or lower the calls: each has a connection of its own";
            self.warn(&origins.of("bulkhead.concurrent"), "connections", message, help);
        }
    }

    fn hedge(&mut self, route: &Route) {
        let Some(hedge) = route.hedge else { return };
        let first = route.targets.first().map(|target| self.plan.provider(target.provider));
        let Some(provider) = first else { return };
        let origins = Origins { plan: self.plan, provider: Some(provider), route: Some(route) };
        let source = origins.of("hedge");
        if source.level == Level::Route && route.targets.len() < 2 {
            let message = format!("`{}` has no second target for a hedge", route.name);
            self.warn(&source, "alone", message, "add a target, or leave `hedge` out");
            return;
        }
        let percent = origins.of("hedge.percent");
        if percent.level != Level::Default && hedge.percent > provider.retry_budget.percent {
            let message = format!(
                "hedges for {} % of requests are more than the retry budget of `{}`, {} %, has for all extra calls",
                hedge.percent, provider.name, provider.retry_budget.percent
            );
            self.warn(&percent, "budget", message, "lower `percent`, or raise `retry_budget.percent`");
        }
        let timeouts = route.timeouts.over(&provider.timeouts);
        let bound_ms = timeouts.attempt_ms.unwrap_or(u64::MAX).min(timeouts.first_token_ms);
        if hedge.delay_min_ms >= bound_ms {
            let message = format!(
                "no hedge is ever made: it would wait {}, and the first call has failed after {}",
                show_ms(hedge.delay_min_ms),
                show_ms(bound_ms)
            );
            self.warn(&origins.of("hedge.delay_min"), "late", message, "lower `delay_min`");
        }
    }

    fn route(&mut self, route: &Route) {
        let origins = Origins { plan: self.plan, provider: None, route: Some(route) };
        let source = origins.of("balance");
        let latency = route.balance == super::Balance::Latency;
        if source.level == Level::Route && !shares(route) {
            let message = format!("`{}` has no targets that share", route.name);
            self.warn(
                &source,
                "share",
                message,
                "put those that share into an inner list: [[a/x, b/x], c/y]",
            );
        }
        if let Some(path) = self.weights(route).filter(|_| latency) {
            let message = format!("the weights of `{}` have no effect: it shares by latency", route.name);
            let weight = Source { level: Level::Route, path };
            self.warn(&weight, "weights", message, "leave the weights out, or set `balance: weighted`");
        }
        if !route.checks.is_empty() {
            self.note_of_checks(&origins.of("checks"));
        }
    }

    /// The first weight written for targets that share.
    fn weights(&self, route: &Route) -> Option<String> {
        let lists = ["targets", "backup"].map(|list| format!("{}.{list}", route.path));
        let written = |path: &String| self.plan.places.is_written(path);
        let list = lists.into_iter().find(written)?;
        (0..)
            .map(|place| format!("{list}.{place}"))
            .take_while(written)
            .flat_map(|place| (0..).map(move |n| format!("{place}.{n}")).take_while(written))
            .map(|equal| format!("{equal}.weight"))
            .find(written)
    }

    fn note_of_checks(&mut self, source: &Source) {
        let message = "streams are held back until the whole answer has passed its checks".to_owned();
        let help = "use checks where a program reads the answer, not where a person watches it come";
        self.say(Severity::Note, source, "checks", message, help);
    }

    /// Settings for every route that no route has a use for.
    fn defaults_of_routes(&mut self) {
        let plan = self.plan;
        let origins = Origins { plan, provider: None, route: None };
        let defaults = &plan.route_defaults;
        let source = origins.of("hedge");
        if source.level == Level::Top
            && defaults.hedge.is_some()
            && !plan.routes.iter().any(|r| r.targets.len() > 1)
        {
            let message = "no chain has a second target for a hedge".to_owned();
            self.warn(&source, "alone", message, "add `fallbacks`, or leave `hedge` out");
        }
        let source = origins.of("balance");
        if source.level == Level::Top && !plan.routes.iter().any(shares) {
            let message = "no chain has targets that share".to_owned();
            self.warn(
                &source,
                "share",
                message,
                "put those that share into an inner list: [[a/x, b/x], c/y]",
            );
        }
        if !defaults.checks.is_empty() {
            self.note_of_checks(&origins.of("checks"));
        }
    }

    /// Static answers nobody gives, and a step budget without a bound.
    /// A core that does not sleep has no time for anybody else.
    fn cores(&mut self) {
        if self.plan.busy_poll_ms > 0 && self.plan.workers.is_none() {
            let source = Source { level: Level::Top, path: "busy_poll".to_owned() };
            let message =
                "while requests come no core sleeps, and nothing else on this machine gets one".to_owned();
            self.warn(&source, "cores", message, "set `workers` to the number of cores that it may have");
        }
    }

    fn answers(&mut self) {
        let plan = self.plan;
        let of_steps = plan.step_budget.and_then(|step| step.answer);
        for (index, answer) in plan.statics.iter().enumerate() {
            let mut used = plan.routes.iter().map(|route| route.static_answer).chain([of_steps]).flatten();
            if !used.any(|id| usize::from(id.0) == index) {
                let path = super::reader::join("static", &answer.name);
                let message =
                    format!("`static/{}` is the answer of no chain and no step budget", answer.name);
                let source = Source { level: Level::Top, path };
                self.warn(&source, "unused", message, "name it at the end of a chain, or remove it");
            }
        }
        let empty = |step: &super::StepBudget| {
            step.failures.is_none() && step.nano_usd.is_none() && step.time_ms.is_none()
        };
        if plan.step_budget.as_ref().is_some_and(empty) {
            let source = Source { level: Level::Top, path: "step_budget".to_owned() };
            let message = "the step budget bounds nothing".to_owned();
            self.warn(&source, "empty", message, "set `failures`, `usd` or `time`, or remove it");
        }
    }
}

impl Plan {
    /// Whether a setting that was written has no effect: at a provider, when it is off there; at the top level, when it
    /// is off everywhere.
    fn is_idle(&self, source: &Source, provider: &Provider, is_off: impl Fn(&Provider) -> bool) -> bool {
        match source.level {
            Level::Default => false,
            Level::Top => self.providers.iter().all(is_off),
            Level::Provider | Level::Route => is_off(provider),
        }
    }
}

/// Whether some targets of the route are equals.
fn shares(route: &Route) -> bool {
    route.targets.iter().any(|target| target.group != 0)
}
