//! Clients, cores and providers on virtual time.
//!
//! One event queue drives everything; nothing happens between two events, so ten minutes take milliseconds. Cores are
//! real [`Core`]s over one [`Shared`], and each exchange stays on the core it arrived at. The world reports every bar that
//! was missed; it never repairs anything.

mod bars;
mod plan;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::super::downstream::advise;
use super::super::random::Random;
use super::super::settings::SECOND_US;
use super::super::{
    Ask, Attempt, Cause, Chain, Core, Flight, GiveUp, Outcome, PolicyId, ProviderId, Shared, Step, TargetRef,
    WaitReason, What,
};
use super::scenario::Scenario;
use super::script::Books;
pub use bars::Report;
use plan::Plan;

/// Input price of every simulated model: 3 dollars a million tokens.
pub const PRICE_NANO_USD: u32 = 3_000;

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
        self.check_lost(who, &end);
        let advice = advise(&end);
        self.check(
            who,
            advice.retry_after_s.is_none_or(|s| (1..=60).contains(&s)),
            "Retry-After out of range",
        );
        let tries = self.exchanges[who].tries;
        let retries =
            advice.should_retry != Some(false) && matches!(advice.status, 408 | 409 | 429 | 500..=599);
        if retries && tries < 2 && self.random.below(100) < self.scenario.sdk_retries {
            let backoff_us = 500_000 << tries;
            let wait_us = advice.retry_after_s.map_or(backoff_us, |s| u64::from(s) * SECOND_US);
            self.at(self.now_us + wait_us, 0, Kind::Arrive { tries: tries + 1 });
        }
    }

    fn trace(&mut self, who: usize, line: impl Fn() -> String) {
        if self.tracing {
            let (s, us) = (self.now_us / SECOND_US, self.now_us % SECOND_US);
            self.report.trace.push(format!("{s:>4}.{us:06} exchange {who}: {}", line()));
        }
    }
}
