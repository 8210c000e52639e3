//! One exchange's walk over its chain.
//!
//! Prevents: a request lost where another key or target would have answered it, and a request that hangs. The
//! exchange asks [`Flight::next`] what to do, does it, and reports with [`Flight::settle`] until an attempt succeeds
//! or there is nothing left to try. Every step is a pure function of the flight, the core's state and the clock.
//!
//! Order of the walk, after a failure that is not the caller's:
//! 1. a reused connection that died before any answer byte: the same target and key once more, free;
//! 2. the key's fault (credential, credit, rate): the next key of the same target that may be used, at once;
//! 3. retries left: the same target after its backoff;
//! 4. the next target of the chain that may be tried: first those that are well, then those that are ramping up
//!    or owe for fallbacks, then, after a short wait, those that were full;
//! 5. the static answer; else give up with everything that was tried.
//!
//! INVARIANTS: no attempt after commit; at most 16 attempts; no attempt begins at or after the caller's deadline; a
//! target is left for good once the walk has moved on from it; every place and probe taken is given back, when the
//! attempt is settled or the flight is cancelled.

use super::admit::{How, Pass, Refusal};
use super::attempts::{AttemptRecord, Attempts, Cause, GiveUp, Reason, Skip, SkipReason, Skips};
use super::balance;
use super::breaker::{Door, ProbeTicket};
use super::bulkhead::POLL_US;
use super::chain::{Chain, TargetRef, Walked};
use super::ids::{KeyId, ProviderId, SlotId, StaticId};
use super::state::Core;

/// A probe has this many times the median of its target, and at least ten seconds.
const PROBE_MEDIANS: u64 = 8;
const PROBE_MIN_US: u64 = 10_000_000;

/// What is known of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ask {
    /// When the exchange began, gateway clock.
    pub now_us: u64,
    /// When the caller stops waiting, gateway clock.
    pub deadline_us: Option<u64>,
    /// True when the caller asked for a stream.
    pub stream: bool,
    /// Size of the request's body, bytes; 0 when unknown. With the provider's own count of its tokens it teaches
    /// [`Core::estimate_tokens`].
    pub body_bytes: u64,
    /// Estimated prompt size, from [`Core::estimate_tokens`].
    pub est_input_tokens: u32,
    /// `x-stainless-retry-count`: how often the client has sent this request before. Its retries need a token of
    /// the retry budget like the gateway's own.
    pub client_retries: u8,
}

/// One upstream call to make now. All times are on the gateway's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Number of the attempt, to settle it by.
    pub no: u8,
    /// Who to call.
    pub provider: ProviderId,
    /// With which key; `None` for a provider that needs none.
    pub key: Option<KeyId>,
    /// Index of the target in [`Flight::chain`].
    pub target: u8,
    /// The (provider, model) pair.
    pub slot: SlotId,
    /// Why.
    pub reason: Reason,
    /// True when the call must not use a pooled connection.
    pub fresh_connection: bool,
    /// True when this is the one probe of a half-open breaker.
    pub probe: bool,
    /// The connection must be ready by then.
    pub connect_by_us: u64,
    /// The first content must be there by then. Equals `answer_by_us` when not streaming.
    pub first_token_by_us: u64,
    /// The whole answer must be there by then: when not streaming the attempt's own limit, and the first-token limit
    /// while another target is left; else `total_by_us`.
    pub answer_by_us: u64,
    /// Longest silence between two events or reads, microseconds.
    pub token_gap_us: u64,
    /// The exchange must be over by then.
    pub total_by_us: u64,
    /// When there is no content by then, call [`Flight::hedge`].
    pub hedge_at_us: Option<u64>,
}

/// Why the exchange waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitReason {
    /// A retry of the same target, after its backoff or Retry-After.
    Backoff,
    /// Every target that could be tried has as many calls as it may.
    Queue,
    /// An attempt is still running: settle it first.
    InFlight,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // it lives on the stack of one call and never in a collection
pub enum Step {
    /// Make this call, then settle it.
    Attempt(Attempt),
    /// Ask again at this time.
    Wait {
        /// Gateway clock.
        until_us: u64,
        /// Why.
        why: WaitReason,
    },
    /// Give this configured answer.
    Static(StaticId),
    /// Nothing can help now.
    GiveUp(GiveUp),
}

/// What the walk does at the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Goes to the next target.
    Target,
    /// Sends the same again on a new connection, with what the dead attempt held.
    Again(Live),
    /// Takes another key of the same target.
    Key,
    /// Retries the same target at this time.
    Retry(u64),
}

/// An attempt that runs, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) no: u8,
    pub(super) target: u8,
    pub(super) key: Option<KeyId>,
    pub(super) probe: Option<ProbeTicket>,
    pub(super) place: bool,
    /// Time to the first content, once there is some.
    pub(super) first_token_us: Option<u64>,
}

/// A place in a provider's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    target: u8,
    until_us: u64,
}

/// One exchange. Plain data; only long chains and many attempts take memory of their own.
#[derive(Debug, Clone)]
pub struct Flight {
    pub(super) chain: Walked,
    pub(super) ask: Ask,
    /// When the exchange must be over: the caller's deadline or the total limit.
    pub(super) end_by_us: u64,
    pub(super) attempts: Attempts,
    pub(super) skips: Skips,
    /// Targets that were tried or passed over, one bit each.
    pub(super) left: u16,
    /// The target the walk is at.
    pub(super) at: u8,
    /// Retries made on it.
    pub(super) retries: u8,
    /// Keys of it that failed in this exchange.
    pub(super) failed_keys: u64,
    pub(super) after: After,
    pub(super) again_used: bool,
    pub(super) live: [Option<Live>; 2],
    waiting: Option<Waiting>,
    queued: bool,
    /// Usefulness and number of the most useful failure.
    pub(super) best: Option<(u8, u8)>,
    /// The target to charge for the next extra call.
    pub(super) strained: Option<SlotId>,
    /// True when the last failure may have been billed.
    pub(super) billed: bool,
    /// The largest known window that was too small.
    pub(super) window_failed: u32,
    pub(super) hedged: bool,
    pub(super) winner: Option<u8>,
    pub(super) done: Option<Cause>,
}

impl Flight {
    /// Starts the walk of `chain`: orders equal targets, and counts the request towards the budgets it earns for.
    pub fn begin(core: &mut Core, chain: Chain, ask: Ask) -> Flight {
        let total_us = core.settings.policy(chain.policy).timeouts.total_us;
        let end_by_us = ask
            .now_us
            .saturating_add(total_us.unwrap_or(core.settings.exchange_total_us))
            .min(ask.deadline_us.unwrap_or(u64::MAX));
        let mut flight = Flight {
            chain: Walked::from(&chain),
            ask,
            end_by_us,
            attempts: Attempts::new(),
            skips: Skips::default(),
            left: 0,
            at: 0,
            retries: 0,
            failed_keys: 0,
            after: After::Target,
            again_used: false,
            live: [None; 2],
            waiting: None,
            queued: false,
            best: None,
            strained: None,
            billed: false,
            window_failed: 0,
            hedged: false,
            winner: None,
            done: None,
        };
        flight.order(core);
        if ask.client_retries == 0 {
            core.shared.strain.earn(core.index);
        }
        flight.earn(core, 0);
        flight
    }

    /// The chain in the order it is walked.
    pub fn chain(&self) -> &Walked {
        &self.chain
    }

    /// What is known of the request.
    pub fn ask(&self) -> &Ask {
        &self.ask
    }

    /// Everything tried so far.
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Number of the attempt that answered, or that is answering since its first content.
    pub fn winner(&self) -> Option<u8> {
        self.winner
    }

    /// What to do now.
    pub fn next(&mut self, core: &mut Core, now_us: u64) -> Step {
        if let Some(cause) = self.done {
            return self.give_up(cause, core, now_us);
        }
        if let After::Again(live) = self.after {
            self.after = After::Target;
            if now_us < self.end_by_us && !self.attempts.is_full() {
                return self.start(core, now_us, live, Reason::Retry, true);
            }
            self.drop_unsent(core, now_us, &live);
        }
        if self.live.iter().any(Option::is_some) {
            return Step::Wait { until_us: u64::MAX, why: WaitReason::InFlight };
        }
        if now_us >= self.end_by_us {
            return self.end(Cause::Deadline, core, now_us);
        }
        if self.attempts.is_full() {
            return self.end(Cause::Failed, core, now_us);
        }
        if let Some(waiting) = self.waiting {
            return self.wait_on(waiting, core, now_us);
        }
        let how = match self.after {
            After::Target | After::Again(_) => return self.next_target(core, now_us),
            After::Retry(at_us) if now_us < at_us => {
                return Step::Wait { until_us: at_us, why: WaitReason::Backoff };
            }
            After::Retry(_) => {
                // A retry may use a key that failed before: its window is over, or it was not the key's fault.
                self.failed_keys = 0;
                How::Retry
            }
            After::Key => How::Key,
        };
        self.after = After::Target;
        match self.admit(core, self.at, now_us, how, Pass::Loose) {
            Ok(live) => {
                self.retries += u8::from(how == How::Retry);
                self.start(core, now_us, live, Reason::Retry, false)
            }
            Err(refusal) => {
                if let Refusal::Hard(skip) = refusal {
                    self.pass_over(core, self.at, skip);
                }
                self.next_target(core, now_us)
            }
        }
    }

    /// A second call, when the first one has no content at its `hedge_at_us`. `None`: go on waiting for the first.
    pub fn hedge(&mut self, core: &mut Core, now_us: u64) -> Option<Attempt> {
        let one_runs = self.live.iter().flatten().count() == 1;
        let silent = self.live.iter().flatten().all(|l| l.first_token_us.is_none());
        if !one_runs || !silent || self.hedged || self.done.is_some() || now_us >= self.end_by_us {
            return None;
        }
        self.hedged = true;
        for index in 0..self.chain.len() as u8 {
            if self.left >> index & 1 == 1 || self.attempts.is_full() {
                continue;
            }
            // A hedge is a luxury: only a target that is well, and nothing is held against those that are not.
            if let Ok(live) = self.admit(core, index, now_us, How::Hedge, Pass::Strict) {
                self.left |= 1 << index;
                if let Step::Attempt(attempt) = self.start(core, now_us, live, Reason::Hedge, false) {
                    return Some(attempt);
                }
            }
        }
        None
    }

    fn next_target(&mut self, core: &mut Core, now_us: u64) -> Step {
        for pass in [Pass::Strict, Pass::Loose, Pass::Queue] {
            for index in 0..self.chain.len() as u8 {
                if self.left >> index & 1 == 1 {
                    continue;
                }
                match self.admit(core, index, now_us, How::Next, pass) {
                    Ok(live) => {
                        self.left |= 1 << index;
                        (self.at, self.retries, self.failed_keys) = (index, 0, 0);
                        let reason = if self.attempts.is_empty() { Reason::First } else { Reason::Fallback };
                        return self.start(core, now_us, live, reason, false);
                    }
                    Err(Refusal::Hard(skip)) => {
                        self.left |= 1 << index;
                        self.pass_over(core, index, skip);
                    }
                    Err(Refusal::Later) => core.counters.held_back += 1,
                    Err(Refusal::Full) if pass == Pass::Queue => {
                        if let Some(step) = self.queue(core, index, now_us) {
                            return step;
                        }
                    }
                    Err(Refusal::Full) => {}
                }
            }
        }
        if let Some(answer) = self.chain.static_answer {
            self.done = Some(Cause::Failed);
            return Step::Static(answer);
        }
        let late = |skip: &Skip| skip.reason == SkipReason::TooLate;
        let cause = if self.skips.iter().any(late) && self.skips.iter().all(late) {
            Cause::Deadline
        } else if self.attempts.is_empty() {
            Cause::Unavailable
        } else {
            Cause::Failed
        };
        self.end(cause, core, now_us)
    }

    /// Joins the queue of a full provider, once an exchange.
    fn queue(&mut self, core: &mut Core, index: u8, now_us: u64) -> Option<Step> {
        let provider = self.target(index).provider;
        let settings = &core.settings.providers[usize::from(provider.0)].bulkhead;
        if self.queued || !core.shared.provider(provider).bulkhead.queue(settings) {
            self.left |= 1 << index;
            self.pass_over(core, index, Skip { reason: SkipReason::Full, until_us: None });
            return None;
        }
        self.queued = true;
        let until_us = now_us.saturating_add(settings.queue_wait_us).min(self.end_by_us);
        self.waiting = Some(Waiting { target: index, until_us });
        Some(Step::Wait { until_us: until_us.min(now_us + POLL_US), why: WaitReason::Queue })
    }

    fn wait_on(&mut self, waiting: Waiting, core: &mut Core, now_us: u64) -> Step {
        let provider = self.target(waiting.target).provider;
        let settings = core.settings.providers[usize::from(provider.0)].bulkhead;
        let bulkhead = &core.shared.provider(provider).bulkhead;
        if !bulkhead.advance(&settings) {
            if now_us < waiting.until_us {
                let until_us = waiting.until_us.min(now_us + POLL_US);
                return Step::Wait { until_us, why: WaitReason::Queue };
            }
            bulkhead.give_up();
            self.waiting = None;
            return self.next_target(core, now_us);
        }
        self.waiting = None;
        match self.admit(core, waiting.target, now_us, How::Next, Pass::Holding) {
            Ok(live) => {
                self.left |= 1 << waiting.target;
                (self.at, self.retries, self.failed_keys) = (waiting.target, 0, 0);
                let reason = if self.attempts.is_empty() { Reason::First } else { Reason::Fallback };
                self.start(core, now_us, live, reason, false)
            }
            Err(_) => {
                core.shared.provider(provider).bulkhead.leave();
                self.next_target(core, now_us)
            }
        }
    }

    /// Begins an attempt with what admission gave it.
    fn start(
        &mut self,
        core: &mut Core,
        now_us: u64,
        mut live: Live,
        reason: Reason,
        fresh_connection: bool,
    ) -> Step {
        let target = self.target(live.target);
        let record = AttemptRecord {
            provider: target.provider,
            key: live.key,
            target: live.target,
            reason,
            what: None,
            fault: None,
            started_us: now_us,
            elapsed_us: 0,
        };
        let Some(no) = self.attempts.push(record) else { return self.end(Cause::Failed, core, now_us) };
        live.no = no;
        let place = usize::from(self.live[0].is_some());
        self.live[place] = Some(live);
        core.counters.attempt(reason);
        core.local(target.slot).load.start();
        if live.target != 0 && matches!(reason, Reason::First | Reason::Fallback) {
            self.earn(core, live.target);
        }
        let limits = self.limits(core, target, now_us, live.probe.is_some());
        Step::Attempt(Attempt {
            no,
            key: live.key,
            target: live.target,
            reason,
            fresh_connection,
            probe: live.probe.is_some(),
            hedge_at_us: self.hedge_at(core, target, now_us, reason),
            ..limits
        })
    }

    /// Provider, slot and times of an attempt that starts now; the rest of the attempt is left blank.
    pub(super) fn limits(&self, core: &Core, target: TargetRef, now_us: u64, probe: bool) -> Attempt {
        let provider = &core.settings.providers[usize::from(target.provider.0)];
        let limits = core.settings.policy(self.chain.policy).timeouts.over(&provider.timeouts);
        let total_by_us = self.end_by_us.min(now_us.saturating_add(limits.total_us));
        // A probe that hangs holds the only place through the breaker, so it gets what the target usually needs.
        let usual_us =
            core.shared.cells(target.slot).and_then(|cells| cells.latency[self.kind()].median_us());
        let probe_us = usual_us.filter(|_| probe).map_or(u64::MAX, |us| PROBE_MIN_US.max(us * PROBE_MEDIANS));
        let own_us = now_us.saturating_add(limits.attempt_us.unwrap_or(u64::MAX).min(probe_us));
        let answer_by_us = if self.ask.stream { total_by_us } else { total_by_us.min(own_us) };
        let first_us = now_us.saturating_add(limits.first_token_us);
        // A whole answer has no first token. While another target is left it must come in the time of one, or a
        // hanging provider would use up the exchange's whole time and the target that is well would have none.
        let another =
            (0..self.chain.len()).any(|index| self.left >> index & 1 == 0 && index != usize::from(self.at));
        let answer_by_us =
            if self.ask.stream || !another { answer_by_us } else { answer_by_us.min(first_us) };
        let first_token_by_us =
            if self.ask.stream { total_by_us.min(own_us).min(first_us) } else { answer_by_us };
        Attempt {
            no: 0,
            provider: target.provider,
            key: None,
            target: 0,
            slot: target.slot,
            reason: Reason::First,
            fresh_connection: false,
            probe: false,
            connect_by_us: now_us.saturating_add(limits.connect_us).min(first_token_by_us),
            first_token_by_us,
            answer_by_us,
            token_gap_us: limits.token_gap_us,
            total_by_us,
            hedge_at_us: None,
        }
    }

    fn hedge_at(&self, core: &Core, target: TargetRef, now_us: u64, reason: Reason) -> Option<u64> {
        let settings = core.settings.policy(self.chain.policy).hedge?;
        let another = (0..self.chain.len()).any(|index| self.left >> index & 1 == 0);
        if reason != Reason::First || !another || self.hedged {
            return None;
        }
        let p95_us = core.shared.cells(target.slot)?.latency[self.kind()].p95_us();
        Some(now_us.saturating_add(settings.delay_us(p95_us)?)).filter(|&at| at < self.end_by_us)
    }

    /// Puts each group of equals in the order in which it is tried.
    fn order(&mut self, core: &mut Core) {
        let balance = core.settings.policy(self.chain.policy).balance;
        let mut random = core.random.clone();
        let now_us = self.ask.now_us;
        for group in self.chain.targets_mut().chunk_by_mut(|a, b| a.group != 0 && a.group == b.group) {
            if group.len() > 1 {
                balance::order(balance, group, &mut random, |t| core.cost(t.slot, now_us));
            }
        }
        core.random = random;
    }

    /// Counts the request towards what its target's provider may send again.
    fn earn(&self, core: &Core, index: u8) {
        if self.ask.client_retries > 0 || self.chain.is_empty() {
            return;
        }
        let target = self.target(index);
        let provider = core.shared.provider(target.provider);
        provider.budget.earn(core.index);
        if let Some(cells) = core.shared.cells(target.slot) {
            cells.strain.earn(core.index);
        }
        if core.settings.policy(self.chain.policy).hedge.is_some() {
            provider.hedges.earn(core.index);
        }
    }

    fn pass_over(&mut self, core: &mut Core, index: u8, skip: Skip) {
        core.counters.skip(skip.reason);
        self.skips.set(index, skip);
    }

    fn end(&mut self, cause: Cause, core: &mut Core, now_us: u64) -> Step {
        core.counters.give_ups += 1;
        self.done = Some(cause);
        self.leave_queue(core);
        self.give_up(cause, core, now_us)
    }

    pub(super) fn leave_queue(&mut self, core: &Core) {
        if let Some(waiting) = self.waiting.take() {
            core.shared.provider(self.target(waiting.target).provider).bulkhead.give_up();
        }
    }

    fn give_up(&self, cause: Cause, core: &Core, now_us: u64) -> Step {
        let free_at = (0..self.chain.len() as u8).map(|i| self.free_at(core, i, now_us)).min();
        let free_at = free_at.filter(|&at| at < u64::MAX);
        let open_now = free_at.is_some_and(|at| at <= now_us);
        let may_spend = self.chain.targets().iter().any(|t| {
            let settings = &core.settings.providers[usize::from(t.provider.0)].budget;
            core.shared.provider(t.provider).budget.has(settings, now_us)
        });
        // The client's retry is worth having when a target could be tried now and the budget would let it.
        let helps = open_now && may_spend && self.ask.client_retries < super::settings::LAST_TARGET_RETRIES;
        let ours = !matches!(cause, Cause::Caller | Cause::Committed | Cause::Cancelled);
        Step::GiveUp(GiveUp {
            cause,
            best: self.best.map(|(_, no)| no),
            attempts: self.attempts.clone(),
            skips: self.skips.clone(),
            retry_after_us: free_at.filter(|_| ours).map(|at| at.saturating_sub(now_us)),
            should_retry: (ours && !helps).then_some(false),
        })
    }

    /// When a target may be tried again: a key is free, and the breaker lets a probe through.
    fn free_at(&self, core: &Core, index: u8, now_us: u64) -> u64 {
        let target = self.target(index);
        let settings = &core.settings.providers[usize::from(target.provider.0)].breaker;
        let breaker_at =
            core.shared.cells(target.slot).map_or(0, |cells| match cells.breaker.door(settings, now_us) {
                Door::Shut(until_us) => until_us,
                Door::Open | Door::Ajar(_) | Door::Probe => now_us,
            });
        self.keys_free_at(core, index, now_us).max(breaker_at)
    }

    pub(super) fn target(&self, index: u8) -> TargetRef {
        self.chain.targets()[usize::from(index)]
    }

    /// Which latency applies: 0 for streams, 1 for whole answers.
    pub(super) fn kind(&self) -> usize {
        usize::from(!self.ask.stream)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
#[path = "flight_hedge_tests.rs"]
mod hedge_tests;

#[cfg(test)]
#[cfg(not(loom))]
#[path = "flight_walk_tests.rs"]
mod walk_tests;
