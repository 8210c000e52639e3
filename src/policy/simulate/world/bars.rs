//! The bars of a run, each checked from what was called alone, and the report of those that were missed.
//!
//! The world calls; nothing here changes what happens next.

use super::super::super::breaker::Phase;
use super::super::super::bulkhead::BulkheadView;
use super::super::super::settings::SECOND_US;
use super::super::super::{Attempt, Cause, GiveUp, ProviderId, Reason, SkipReason, What};
use super::super::scenario::Scenario;
use super::super::script::Trouble;
use super::{PRICE_NANO_USD, World};

/// A target counts as able to answer when nothing was wrong with it for this long, after the last call that hung was
/// given up: the longest open time of a breaker, and the time to find it well again.
const WELL_FOR_US: u64 = 45 * SECOND_US;

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Requests that clients had, their own retries not counted.
    pub requests: u64,
    /// Calls that reached a provider.
    pub calls: u64,
    /// Requests answered whole.
    pub answered: u64,
    /// Answers that broke off after they had begun.
    pub cut: u64,
    /// Exchanges that ended in an error.
    pub errors: u64,
    /// Clients that left.
    pub gone: u64,
    /// Probes sent.
    pub probes: u64,
    /// Calls sent before the first failure of a fault was known.
    pub blind: u64,
    /// Bars that were missed, with the exchange.
    pub violations: Vec<String>,
    /// Every event, when asked for.
    pub trace: Vec<String>,
}

impl Report {
    /// Calls a request.
    pub fn amplification(&self) -> f64 {
        self.calls as f64 / self.requests.max(1) as f64
    }
}

impl World {
    pub(super) fn check_launch(&mut self, who: usize, attempt: &Attempt, provider: usize, key: u16) {
        let now_us = self.now_us;
        let quiet = self.books[provider].quiet_until_us[usize::from(key)];
        self.check(who, now_us >= quiet, "a call inside a Retry-After window");
        let others = self.probes_out[provider];
        self.check(who, !attempt.probe || others == 0, "a second probe while one is out");
        let phase = self.shared.breaker(attempt.slot, now_us).map(|view| view.phase);
        let shut = phase == Some(Phase::Open) && !attempt.fresh_connection;
        self.check(who, !shut, "a call through an open breaker");
        let committed = self.exchanges[who].calls.iter().flatten().any(|c| c.committed);
        self.check(who, !committed, "an attempt after the answer had begun");
        let deadline = self.scenario.deadline_us.map(|d| self.exchanges[who].began_us + d);
        self.check(who, deadline.is_none_or(|d| now_us < d), "an attempt after the caller's deadline");
        if let (Some(limit), Reason::Retry, false) =
            (self.scenario.settings.retry_nano_usd_per_minute, attempt.reason, attempt.fresh_connection)
        {
            let minute = now_us / (60 * SECOND_US);
            if self.resent.0 != minute {
                self.resent = (minute, 0);
            }
            self.resent.1 += u64::from(self.scenario.prompt_tokens) * u64::from(PRICE_NANO_USD);
            self.check(who, self.resent.1 <= limit, "the money for retries is overdrawn");
            self.check(who, self.shared.money().spent(now_us) >= self.resent.1, "a retry was not paid for");
        }
    }

    /// Keeps the retry budgets' books a second time, from what was called alone. Counts only calls that cost a token beyond
    /// doubt: another try with the same key, a hedge, and the first call for a client's own retry.
    pub(super) fn check_budget(&mut self, who: usize, attempt: &Attempt, provider: usize) {
        let exchange = &self.exchanges[who];
        let records = exchange.flight.attempts();
        let before =
            records.iter().take(usize::from(attempt.no)).filter(|a| a.provider == attempt.provider).last();
        let payer = match attempt.reason {
            _ if attempt.fresh_connection => None,
            Reason::Retry => before.filter(|a| a.key == attempt.key).map(|_| provider),
            Reason::Hedge => exchange.calls.iter().flatten().find(|c| c.running).map(|c| c.provider),
            Reason::First => (exchange.tries > 0).then_some(provider),
            Reason::Fallback => None,
        };
        let earns = exchange.tries == 0 && provider != 0;
        if earns && matches!(attempt.reason, Reason::First | Reason::Fallback) && !attempt.fresh_connection {
            self.earned[provider] += 1;
        }
        let Some(payer) = payer else { return };
        self.spent[payer] += 1;
        let settings = self.scenario.settings.providers[payer].budget;
        let shares = u128::from(self.earned[payer]) * u128::from(settings.percent) * u128::from(SECOND_US);
        let floor = u128::from(self.now_us) * u128::from(settings.floor_per_second) * 100;
        let spent = u128::from(self.spent[payer]) * 100 * u128::from(SECOND_US);
        self.check(who, spent <= shares + floor, "a retry budget is overdrawn");
    }

    /// An exchange that ended in an error must have had nobody who could answer it.
    pub(super) fn check_lost(&mut self, who: usize, end: &GiveUp) {
        let exchange = &self.exchanges[who];
        let (began_us, tries) = (exchange.began_us, exchange.tries);
        // Two targets that hang for 300 s each use up the 600 s of the exchange: limits of this size are a choice.
        let hung = end.attempts.iter().filter(|a| matches!(a.what, Some(What::Timeout(_)))).count();
        let unhurried = hung > 1 && self.scenario.settings.providers[0].timeouts.attempt_us.is_none();
        // And a limit in money is meant to end in errors.
        let unpaid = end.skips.iter().any(|s| s.reason == SkipReason::MoneySpent);
        let late = end.cause == Cause::Deadline && (self.scenario.deadline_us.is_some() || unhurried);
        let excused = late || unpaid;
        let now_us = self.now_us;
        let limits = &self.scenario.settings.providers[0].timeouts;
        let margin_us = WELL_FOR_US + limits.attempt_us.unwrap_or(limits.first_token_us);
        let able = self.scenario.scripts.iter().enumerate().any(|(p, script)| {
            let capped = self.scenario.settings.providers[p].bulkhead.concurrent_max.is_some();
            !capped && script.well_between(began_us, now_us, margin_us) && self.has_quiet_key(p, script.keys)
        });
        self.check(who, excused || !able || tries > 0, "lost while a healthy target had capacity");
    }

    /// True when some key was never refused for good, and its window, with the jitter the gateway adds, is over.
    fn has_quiet_key(&self, provider: usize, keys: u16) -> bool {
        let faults = &self.scenario.scripts[provider].faults;
        let lost_a_key = faults.iter().any(|f| matches!(f.trouble, Trouble::Revoked | Trouble::Broke));
        let rests_until_us = &self.books[provider].rests_until_us;
        (0..usize::from(keys)).any(|key| rests_until_us[key] <= self.now_us && !(lost_a_key && key == 0))
    }

    /// The bars of the whole run.
    pub(super) fn close(&mut self) {
        let hanging = self.exchanges.iter().filter(|e| !e.done).count();
        self.bar(hanging == 0, || format!("{hanging} exchanges never ended"));
        self.bar(self.probes_out.iter().all(|&out| out == 0), || "a probe is still out".to_owned());
        for provider in 0..self.books.len() {
            let (ours, theirs) = (self.ledger(provider), self.books[provider].entry());
            self.bar(ours == theirs, || {
                format!("p{provider}: ledger {ours:?}, the provider counted {theirs:?}")
            });
        }
        let counted: u64 = self.cores.iter().map(|core| core.counters().attempts.iter().sum::<u64>()).sum();
        let calls = self.report.calls;
        self.bar(counted == calls, || format!("{counted} attempts counted, {calls} calls received"));
        for provider in 0..self.scenario.scripts.len() {
            let places = self.shared.bulkhead(ProviderId(provider as u16));
            self.bar(places == BulkheadView::default(), || {
                format!("p{provider}: places not given back: {places:?}")
            });
        }
        self.report.blind = self.books.iter().map(|b| b.blind).sum();
        self.amplification();
    }

    /// What the engine's own records say of a provider: calls, answers, and what those cost, nano-dollars.
    fn ledger(&self, provider: usize) -> (u64, u64, u64) {
        let records = self.exchanges.iter().flat_map(|exchange| exchange.flight.attempts().iter());
        let own = records.filter(|record| usize::from(record.provider.0) == provider);
        own.fold((0, 0, 0), |(calls, answers, cost), record| {
            let answered = u64::from(record.what == Some(What::Answered));
            let price = answered * u64::from(self.scenario.prompt_tokens) * u64::from(PRICE_NANO_USD);
            (calls + 1, answers + answered, cost + price)
        })
    }

    fn amplification(&mut self) {
        let settings = &self.scenario.settings.providers[0];
        let percent = if self.scenario.is_healthy() { 2 } else { 10 };
        // The floor lets quiet traffic send more than a tenth again: three calls a second, where it is configured.
        let floor = self.now_us / SECOND_US * u64::from(settings.budget.floor_per_second);
        let retries = settings.retry.max_retries != Some(0) || self.scenario.sdk_retries > 0;
        let floor = if retries { floor * self.scenario.scripts.len() as u64 } else { 0 };
        let share = self.report.requests * percent / 100;
        let hedges = if settings_hedge(&self.scenario) { self.report.requests * 2 / 100 } else { 0 };
        let allowed = self.report.requests + share.max(floor) + hedges + self.report.blind;
        let calls = self.report.calls;
        let report = format!(
            "{calls} calls for {} requests ({:.3}), {allowed} allowed, {} of them blind",
            self.report.requests,
            self.report.amplification(),
            self.report.blind,
        );
        self.bar(calls <= allowed, || report);
    }

    pub(super) fn check(&mut self, who: usize, holds: bool, bar: &str) {
        if !holds {
            self.report.violations.push(format!("{} us, exchange {who}: {bar}", self.now_us));
        }
    }

    fn bar(&mut self, holds: bool, says: impl FnOnce() -> String) {
        if !holds {
            self.report.violations.push(says());
        }
    }
}

fn settings_hedge(scenario: &Scenario) -> bool {
    scenario.settings.policies[0].hedge.is_some()
}
