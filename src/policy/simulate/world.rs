//! Clients, cores and providers on virtual time.
//!
//! One event queue drives everything; nothing happens between two events, so ten minutes take milliseconds. Cores are
//! real [`Core`]s over one [`Shared`], and each exchange stays on the core it arrived at. The world reports every bar that
//! was missed; it never repairs anything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::super::breaker::Phase;
use super::super::bulkhead::BulkheadView;
use super::super::downstream::advise;
use super::super::random::Random;
use super::super::settings::SECOND_US;
use super::super::{
    Ask, Attempt, Cause, Chain, Core, ErrorKind, Flight, GiveUp, Outcome, PolicyId, ProviderId, Reason,
    Shared, Signal, SkipReason, Step, Success, TargetRef, TimeoutKind, WaitReason, What, attribute,
};
use super::scenario::Scenario;
use super::script::{Books, Reply, Trouble};

/// Input price of every simulated model: 3 dollars a million tokens.
pub const PRICE_NANO_USD: u32 = 3_000;
/// A target counts as able to answer when nothing was wrong with it for this long, after the last call that hung was
/// given up: the longest open time of a breaker, and the time to find it well again.
const WELL_FOR_US: u64 = 45 * SECOND_US;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Arrive { tries: u8 },
    Wake,
    FirstToken(u8),
    Hedge,
    End(u8),
    Gone,
}

/// A call as the world knows it.
#[derive(Debug, Clone, Copy)]
struct Call {
    provider: usize,
    key: u16,
    fault: Option<usize>,
    probe: bool,
    outcome: Outcome,
    committed: bool,
    running: bool,
}

struct Exchange {
    flight: Flight,
    core: usize,
    began_us: u64,
    stream: bool,
    tries: u8,
    calls: [Option<Call>; 16],
    done: bool,
}

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

pub(super) struct World {
    scenario: Scenario,
    shared: Arc<Shared>,
    cores: Vec<Core>,
    chain: Chain,
    random: Random,
    books: Vec<Books>,
    queue: BinaryHeap<Reverse<(u64, u64, u32, Kind)>>,
    sequence: u64,
    exchanges: Vec<Exchange>,
    probes_out: Vec<u32>,
    /// Retries of prompts by clock minute: (minute, nano-dollars).
    resent: (u64, u64),
    /// By provider: requests that earn it a share of a retry, and calls that must have cost it a whole one.
    earned: Vec<u64>,
    spent: Vec<u64>,
    report: Report,
    tracing: bool,
    now_us: u64,
}

impl World {
    pub(super) fn new(scenario: Scenario, tracing: bool) -> World {
        let settings = Arc::new(scenario.settings.clone());
        let shared = Arc::new(Shared::new(&settings, scenario.cores));
        let cores: Vec<Core> = (0..scenario.cores)
            .map(|index| {
                Core::new(Arc::clone(&settings), Arc::clone(&shared), index, scenario.seed ^ index as u64)
            })
            .collect();
        let mut chain = Chain::new(PolicyId(0));
        for provider in 0..scenario.scripts.len() as u16 {
            let slot = cores[0].slot(ProviderId(provider), b"model");
            let target = TargetRef::new(ProviderId(provider), slot);
            chain.push(TargetRef { input_nano_usd: Some(PRICE_NANO_USD), ..target });
        }
        let books = scenario.scripts.iter().map(Books::new).collect();
        let probes_out = vec![0; scenario.scripts.len()];
        World {
            random: Random::new(scenario.seed ^ 0xA5A5_5A5A),
            report: Report { seed: scenario.seed, requests: scenario.requests, ..Report::default() },
            exchanges: Vec::with_capacity(scenario.requests as usize),
            queue: BinaryHeap::new(),
            sequence: 0,
            resent: (0, 0),
            earned: vec![0; scenario.scripts.len()],
            spent: vec![0; scenario.scripts.len()],
            now_us: 0,
            scenario,
            shared,
            cores,
            chain,
            books,
            probes_out,
            tracing,
        }
    }

    pub(super) fn run(mut self) -> Report {
        let spacing_us = self.scenario.duration_us / self.scenario.requests.max(1);
        for n in 0..self.scenario.requests {
            let at_us = n * spacing_us + self.random.below(spacing_us.max(1));
            self.at(at_us, 0, Kind::Arrive { tries: 0 });
        }
        while let Some(Reverse((time_us, _, who, kind))) = self.queue.pop() {
            self.now_us = time_us;
            self.event(who as usize, kind);
        }
        self.close();
        self.report
    }

    fn at(&mut self, time_us: u64, who: u32, kind: Kind) {
        self.sequence += 1;
        self.queue.push(Reverse((time_us, self.sequence, who, kind)));
    }

    fn event(&mut self, who: usize, kind: Kind) {
        if let Kind::Arrive { tries } = kind {
            return self.arrive(tries);
        }
        if self.exchanges[who].done {
            return;
        }
        match kind {
            Kind::Arrive { .. } => {}
            Kind::Wake => self.advance(who),
            Kind::FirstToken(no) => self.first_token(who, no),
            Kind::Hedge => {
                let exchange = &mut self.exchanges[who];
                let hedge = exchange.flight.hedge(&mut self.cores[exchange.core], self.now_us);
                if let Some(attempt) = hedge {
                    self.launch(who, attempt);
                }
            }
            Kind::End(no) => self.end(who, no),
            Kind::Gone => {
                self.trace(who, || "client left".to_owned());
                let exchange = &mut self.exchanges[who];
                exchange.flight.cancel(&mut self.cores[exchange.core], self.now_us);
                exchange.done = true;
                self.report.gone += 1;
                self.stop_calls(who, None);
            }
        }
    }

    fn arrive(&mut self, tries: u8) {
        let core = self.random.below(self.cores.len() as u64) as usize;
        let stream = self.random.below(100) < self.scenario.streams;
        let ask = Ask {
            now_us: self.now_us,
            deadline_us: self.scenario.deadline_us.map(|d| self.now_us + d),
            stream,
            est_input_tokens: self.scenario.prompt_tokens,
            body_bytes: 0,
            client_retries: tries,
        };
        let flight = Flight::begin(&mut self.cores[core], self.chain, ask);
        let who = self.exchanges.len();
        self.exchanges.push(Exchange {
            flight,
            core,
            began_us: self.now_us,
            stream,
            tries,
            calls: [None; 16],
            done: false,
        });
        self.earned[0] += u64::from(tries == 0);
        self.trace(who, || format!("arrives at core {core}, client retry {tries}"));
        if let Some(patience_us) = self.scenario.patience_us {
            self.at(self.now_us + patience_us, who as u32, Kind::Gone);
        }
        self.advance(who);
    }

    fn advance(&mut self, who: usize) {
        let exchange = &mut self.exchanges[who];
        match exchange.flight.next(&mut self.cores[exchange.core], self.now_us) {
            Step::Attempt(attempt) => self.launch(who, attempt),
            Step::Wait { why: WaitReason::InFlight, .. } => {}
            Step::Wait { until_us, why } => {
                self.check(who, until_us > self.now_us, "a wait must end in the future");
                self.trace(who, || format!("waits until {until_us} ({why:?})"));
                self.at(until_us, who as u32, Kind::Wake);
            }
            Step::Static(_) => self.check(who, false, "no static answer is configured"),
            Step::GiveUp(end) => self.give_up(who, end),
        }
    }

    fn launch(&mut self, who: usize, attempt: Attempt) {
        let now_us = self.now_us;
        let provider = usize::from(attempt.provider.0);
        let key = attempt.key.map_or(0, |k| k.0);
        self.trace(who, || {
            format!("#{} {:?} to p{provider} key {key} probe {}", attempt.no, attempt.reason, attempt.probe)
        });
        self.check_launch(who, &attempt, provider, key);
        self.check_budget(who, &attempt, provider);
        let script = &self.scenario.scripts[provider];
        let fault = script.fault(now_us).map(|(index, _)| index);
        let reply = script.reply(now_us, key, attempt.fresh_connection, &mut self.random);
        let books = &mut self.books[provider];
        books.calls += 1;
        self.report.calls += 1;
        books.blind += u64::from(fault.is_some_and(|f| books.noticed_us[f].is_none()));
        if attempt.probe {
            self.probes_out[provider] += 1;
            self.report.probes += 1;
        }
        let stream = self.exchanges[who].stream;
        let deadline_us = self.scenario.deadline_us.map(|d| self.exchanges[who].began_us + d);
        let tokens = self.scenario.prompt_tokens;
        let plan = Plan::of(reply, &attempt, now_us, stream, deadline_us, tokens);
        if let Some(first_us) = plan.first_us {
            self.at(first_us, who as u32, Kind::FirstToken(attempt.no));
        }
        if let Some(at_us) = attempt.hedge_at_us.filter(|&at| plan.first_us.is_none_or(|first| at < first)) {
            self.at(at_us, who as u32, Kind::Hedge);
        }
        self.at(plan.end_us, who as u32, Kind::End(attempt.no));
        self.exchanges[who].calls[usize::from(attempt.no)] = Some(Call {
            provider,
            key,
            fault,
            probe: attempt.probe,
            outcome: plan.outcome,
            committed: false,
            running: true,
        });
    }

    fn check_launch(&mut self, who: usize, attempt: &Attempt, provider: usize, key: u16) {
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
    fn check_budget(&mut self, who: usize, attempt: &Attempt, provider: usize) {
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

    fn first_token(&mut self, who: usize, no: u8) {
        let Some(call) = self.exchanges[who].calls[usize::from(no)].filter(|c| c.running) else { return };
        self.trace(who, || format!("#{no} first token"));
        let exchange = &mut self.exchanges[who];
        let core = &mut self.cores[exchange.core];
        let loser = exchange.flight.first_token(core, self.now_us, no);
        if let Some(call) = exchange.calls[usize::from(no)].as_mut() {
            call.committed = exchange.stream;
            // With its first token the probe has told what it was sent for.
            self.probes_out[call.provider] -= u32::from(call.probe && exchange.stream);
            call.probe &= !exchange.stream;
        }
        if let Some(loser) = loser.filter(|_| call.running) {
            exchange.flight.settle(core, self.now_us, loser, Outcome::Cancelled);
            self.stop_calls(who, Some(loser));
        }
    }

    fn end(&mut self, who: usize, no: u8) {
        let Some(call) = self.exchanges[who].calls[usize::from(no)].filter(|c| c.running) else { return };
        self.stop_calls(who, Some(no));
        let outcome = match call.outcome {
            Outcome::Failure(failure) if call.committed => Outcome::Failure(failure.after_commit()),
            outcome => outcome,
        };
        self.trace(who, || format!("#{no} ends: {outcome:?}"));
        self.notice(&call, outcome);
        let exchange = &mut self.exchanges[who];
        let settled = exchange.flight.settle(&mut self.cores[exchange.core], self.now_us, no, outcome);
        if let Outcome::Success(success) = outcome {
            let books = &mut self.books[call.provider];
            books.completed += 1;
            books.tokens += u64::from(success.input_tokens);
            self.exchanges[who].done = true;
            self.report.answered += 1;
            // A unary hedge has no first token: the first whole answer wins.
            for other in 0..16u8 {
                if self.exchanges[who].calls[usize::from(other)].is_some_and(|c| c.running) {
                    let exchange = &mut self.exchanges[who];
                    exchange.flight.settle(
                        &mut self.cores[exchange.core],
                        self.now_us,
                        other,
                        Outcome::Cancelled,
                    );
                    self.stop_calls(who, Some(other));
                }
            }
        } else if settled.more || matches!(outcome, Outcome::Failure(_) | Outcome::StaleConnection) {
            self.advance(who);
        }
    }

    /// Books what the gateway has now learnt of the provider.
    fn notice(&mut self, call: &Call, outcome: Outcome) {
        let Outcome::Failure(failure) = outcome else { return };
        let books = &mut self.books[call.provider];
        if let Some(fault) = call.fault {
            books.noticed_us[fault].get_or_insert(self.now_us);
        }
        if let (What::Status(429), Some(wait_us)) = (failure.what, failure.retry_after_us) {
            let until = &mut books.quiet_until_us[usize::from(call.key)];
            let wait_us = wait_us.min(600 * SECOND_US);
            *until = (*until).max(self.now_us + wait_us);
            let rests = &mut books.rests_until_us[usize::from(call.key)];
            *rests = (*rests).max(self.now_us + wait_us + wait_us / 10);
        }
    }

    fn stop_calls(&mut self, who: usize, only: Option<u8>) {
        for (no, call) in self.exchanges[who].calls.iter_mut().enumerate() {
            let Some(call) = call else { continue };
            if call.running && only.is_none_or(|o| usize::from(o) == no) {
                call.running = false;
                self.probes_out[call.provider] -= u32::from(call.probe);
            }
        }
    }

    fn give_up(&mut self, who: usize, end: GiveUp) {
        self.trace(who, || {
            format!("gives up: {:?}, skips {:?}", end.cause, end.skips.iter().collect::<Vec<_>>())
        });
        self.exchanges[who].done = true;
        if end.cause == Cause::Committed {
            self.report.cut += 1;
            return;
        }
        self.report.errors += 1;
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
        let advice = advise(&end);
        self.check(
            who,
            advice.retry_after_s.is_none_or(|s| (1..=60).contains(&s)),
            "Retry-After out of range",
        );
        let retries =
            advice.should_retry != Some(false) && matches!(advice.status, 408 | 409 | 429 | 500..=599);
        if retries && tries < 2 && self.random.below(100) < self.scenario.sdk_retries {
            let backoff_us = 500_000 << tries;
            let wait_us = advice.retry_after_s.map_or(backoff_us, |s| u64::from(s) * SECOND_US);
            self.at(now_us + wait_us, 0, Kind::Arrive { tries: tries + 1 });
        }
    }

    /// True when some key was never refused for good, and its window, with the jitter the gateway adds, is over.
    fn has_quiet_key(&self, provider: usize, keys: u16) -> bool {
        let faults = &self.scenario.scripts[provider].faults;
        let lost_a_key = faults.iter().any(|f| matches!(f.trouble, Trouble::Revoked | Trouble::Broke));
        let rests_until_us = &self.books[provider].rests_until_us;
        (0..usize::from(keys)).any(|key| rests_until_us[key] <= self.now_us && !(lost_a_key && key == 0))
    }

    /// The bars of the whole run.
    fn close(&mut self) {
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

    fn check(&mut self, who: usize, holds: bool, bar: &str) {
        if !holds {
            self.report.violations.push(format!("{} us, exchange {who}: {bar}", self.now_us));
        }
    }

    fn bar(&mut self, holds: bool, says: impl FnOnce() -> String) {
        if !holds {
            self.report.violations.push(says());
        }
    }

    fn trace(&mut self, who: usize, line: impl Fn() -> String) {
        if self.tracing {
            let (s, us) = (self.now_us / SECOND_US, self.now_us % SECOND_US);
            self.report.trace.push(format!("{s:>4}.{us:06} exchange {who}: {}", line()));
        }
    }
}

fn settings_hedge(scenario: &Scenario) -> bool {
    scenario.settings.policies[0].hedge.is_some()
}

/// When a call's first token and its end reach the gateway, within the attempt's limits.
struct Plan {
    first_us: Option<u64>,
    end_us: u64,
    outcome: Outcome,
}

impl Plan {
    fn of(
        reply: Reply,
        attempt: &Attempt,
        now_us: u64,
        stream: bool,
        deadline_us: Option<u64>,
        tokens: u32,
    ) -> Plan {
        let failed = |signal| Outcome::Failure(attribute(signal));
        let (first_us, end_us, outcome) = match reply {
            Reply::Answer { first_us, end_us } => {
                let success = Success { input_tokens: tokens, ..Success::default() };
                (Some(first_us), end_us, Outcome::Success(success))
            }
            Reply::Cut { first_us, end_us } => {
                (Some(first_us), end_us, failed(Signal::Transport(What::Truncated)))
            }
            Reply::Status { after_us, status, retry_after_us, broke } => {
                let kind = if broke { ErrorKind::Quota } else { ErrorKind::Unknown };
                (None, after_us, failed(Signal::Status { status, kind, retry_after_us }))
            }
            Reply::ErrorInOk { after_us } => {
                let kind = ErrorKind::Overloaded;
                (None, after_us, failed(Signal::ErrorInOk { kind, retry_after_us: None, stream }))
            }
            Reply::Hang => (None, u64::MAX / 4, failed(Signal::Transport(What::Reset))),
            Reply::Refused => (None, 1_000, failed(Signal::Transport(What::Connect))),
            Reply::Stale => (None, 200, Outcome::StaleConnection),
        };
        let timeout = |at_us: u64, kind| {
            let kind = if deadline_us.is_some_and(|d| at_us >= d) { TimeoutKind::Deadline } else { kind };
            (at_us, failed(Signal::Transport(What::Timeout(kind))))
        };
        let first_us = first_us.filter(|_| stream).map(|us| now_us + us);
        let end_us = now_us + end_us;
        let first_limit_us = attempt.first_token_by_us;
        let content_by_us = first_us.unwrap_or(end_us);
        let (end_us, outcome) = if content_by_us > first_limit_us {
            timeout(first_limit_us, TimeoutKind::FirstToken)
        } else if end_us > attempt.answer_by_us {
            timeout(attempt.answer_by_us, TimeoutKind::Total)
        } else {
            (end_us, outcome)
        };
        Plan { first_us: first_us.filter(|&at| at <= first_limit_us && at <= end_us), end_us, outcome }
    }
}
