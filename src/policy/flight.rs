//! One exchange's walk over its chain.
//!
//! Prevents: a request lost where another key or target would have answered it, and a request that hangs. The
//! exchange asks [`Flight::next`] what to do, does it, and reports with [`Flight::settle`] until an attempt succeeds
//! or there is nothing left to try. Every step is a pure function of the flight, the core's state and the clock.
//!
//! Order of the walk, after a failure that is not the caller's:
//! 1. a reused connection that died before any answer byte: the same target and key once more, free;
//! 2. the key's fault (credential, credit, rate): the next key of the same target that may be used, at once;
//! 3. `max_retries` left: the same target after its backoff;
//! 4. the next target of the chain that may be tried;
//! 5. the static answer; else give up with everything that was tried.
//!
//! INVARIANTS: no attempt after commit; at most 16 attempts; no attempt begins at or after the caller's deadline; a
//! target is left for good once the walk has moved on from it.

use super::attempts::{AttemptRecord, Attempts, Cause, GiveUp, Reason, Skip, SkipReason, usefulness};
use super::chain::{Chain, TargetRef};
use super::cooldown::CooldownSettings;
use super::fault::{Failure, Fault, Outcome, What};
use super::ids::{KeyId, ProviderId, SlotId, StaticId};
use super::settings::CHAIN_MAX;
use super::state::Core;

/// What is known of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ask {
    /// When the exchange began, gateway clock.
    pub now_us: u64,
    /// When the caller stops waiting, gateway clock.
    pub deadline_us: Option<u64>,
    /// True when the caller asked for a stream.
    pub stream: bool,
    /// Estimated prompt size.
    pub est_input_tokens: u32,
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
    /// The connection must be ready by then.
    pub connect_by_us: u64,
    /// The first content must be there by then. Equals `answer_by_us` when not streaming.
    pub first_token_by_us: u64,
    /// The whole answer must be there by then: the attempt's own limit when not streaming, else `total_by_us`.
    pub answer_by_us: u64,
    /// Longest silence between two events or reads, microseconds.
    pub token_gap_us: u64,
    /// The exchange must be over by then.
    pub total_by_us: u64,
}

/// Why the exchange waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitReason {
    /// A retry of the same target, after its backoff or Retry-After.
    Backoff,
    /// An attempt is still running: settle it first.
    InFlight,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// What settling an attempt changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// This failure is the most useful so far: keep its status, headers and body for the final error.
    pub keep: bool,
    /// True when [`Flight::next`] may still find something to try.
    pub more: bool,
}

/// What the walk does at the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// Goes to the next target.
    Target,
    /// Sends the same again on a new connection.
    Again(Option<KeyId>),
    /// Takes another key of the same target.
    Key,
    /// Retries the same target at this time.
    Retry(u64),
}

/// One exchange. Plain data, no heap.
#[derive(Debug, Clone)]
pub struct Flight {
    chain: Chain,
    ask: Ask,
    attempts: Attempts,
    skips: [Option<Skip>; CHAIN_MAX],
    /// Targets that were tried or passed over, one bit each.
    left: u16,
    /// The target the walk is at.
    at: u8,
    /// Retries made on it.
    retries: u8,
    /// Keys of it that failed in this exchange.
    failed_keys: u64,
    after: After,
    again_used: bool,
    running: u8,
    best: Option<(u8, u8)>,
    /// The largest known window that was too small.
    window_failed: u32,
    done: Option<Cause>,
}

impl Flight {
    /// Starts the walk of `chain`.
    pub fn begin(_core: &mut Core, chain: Chain, ask: Ask) -> Flight {
        Flight {
            chain,
            ask,
            attempts: Attempts::new(),
            skips: [None; CHAIN_MAX],
            left: 0,
            at: 0,
            retries: 0,
            failed_keys: 0,
            after: After::Target,
            again_used: false,
            running: 0,
            best: None,
            window_failed: 0,
            done: None,
        }
    }

    /// The chain in the order it is walked.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Everything tried so far.
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// What to do now.
    pub fn next(&mut self, core: &mut Core, now_us: u64) -> Step {
        if let Some(cause) = self.done {
            return self.give_up(cause, core, now_us);
        }
        if self.running > 0 {
            return Step::Wait { until_us: u64::MAX, why: WaitReason::InFlight };
        }
        if self.ask.deadline_us.is_some_and(|deadline| now_us >= deadline) {
            return self.end(Cause::Deadline, core, now_us);
        }
        if self.attempts.is_full() {
            return self.end(Cause::Failed, core, now_us);
        }
        match self.after {
            After::Again(key) => {
                self.after = After::Target;
                return self.attempt(core, now_us, key, Reason::Retry, true);
            }
            After::Key => {
                if let Ok(key) = self.choose_key(core, self.at, now_us) {
                    return self.attempt(core, now_us, key, Reason::Retry, false);
                }
            }
            After::Retry(at_us) if now_us < at_us => {
                return Step::Wait { until_us: at_us, why: WaitReason::Backoff };
            }
            After::Retry(_) => {
                // A retry may use a key that failed before: its window is over, or it was not the key's fault.
                self.failed_keys = 0;
                if let Ok(key) = self.choose_key(core, self.at, now_us) {
                    self.retries += 1;
                    return self.attempt(core, now_us, key, Reason::Retry, false);
                }
            }
            After::Target => {}
        }
        self.next_target(core, now_us)
    }

    fn next_target(&mut self, core: &mut Core, now_us: u64) -> Step {
        for index in 0..self.chain.len() {
            if self.left >> index & 1 == 1 {
                continue;
            }
            self.left |= 1 << index;
            (self.at, self.retries, self.failed_keys) = (index as u8, 0, 0);
            match self.consider(core, index as u8, now_us) {
                Ok(key) => {
                    let reason = if self.attempts.is_empty() { Reason::First } else { Reason::Fallback };
                    return self.attempt(core, now_us, key, reason, false);
                }
                Err(skip) => self.skips[index] = Some(skip),
            }
        }
        if let Some(answer) = self.chain.static_answer {
            self.done = Some(Cause::Failed);
            return Step::Static(answer);
        }
        let cause = if self.attempts.is_empty() { Cause::Unavailable } else { Cause::Failed };
        self.end(cause, core, now_us)
    }

    /// Whether a target may be tried now, and with which key.
    fn consider(&mut self, core: &mut Core, index: u8, now_us: u64) -> Result<Option<KeyId>, Skip> {
        let target = self.target(index);
        if self.window_failed > 0 && target.context_tokens > 0 && target.context_tokens <= self.window_failed
        {
            return Err(Skip { reason: SkipReason::WindowTooSmall, until_us: None });
        }
        self.choose_key(core, index, now_us)
    }

    fn choose_key(&self, core: &mut Core, index: u8, now_us: u64) -> Result<Option<KeyId>, Skip> {
        let target = self.target(index);
        let wheel = &mut core.wheels[usize::from(target.provider.0)];
        let count = wheel.len().max(1);
        let mut eligible = 0u64;
        let mut earliest: Option<u64> = None;
        for key in 0..count {
            let bit = 1u64 << key;
            if target.keys & bit == 0 {
                continue;
            }
            match core.shared.key_until(target.slot, KeyId(key as u16), now_us) {
                Some(until) => earliest = Some(earliest.map_or(until, |e| e.min(until))),
                None if self.failed_keys & bit == 0 => eligible |= bit,
                None => {}
            }
        }
        if wheel.is_empty() && eligible != 0 {
            return Ok(None);
        }
        wheel
            .choose(eligible)
            .map(|key| Some(KeyId(key)))
            .ok_or(Skip { reason: SkipReason::KeysCooling, until_us: earliest })
    }

    fn attempt(
        &mut self,
        core: &Core,
        now_us: u64,
        key: Option<KeyId>,
        reason: Reason,
        fresh_connection: bool,
    ) -> Step {
        let target = self.target(self.at);
        let record = AttemptRecord {
            provider: target.provider,
            key,
            target: self.at,
            reason,
            what: None,
            fault: None,
            started_us: now_us,
            elapsed_us: 0,
        };
        let Some(no) = self.attempts.push(record) else { return self.end(Cause::Failed, core, now_us) };
        self.running += 1;
        self.after = After::Target;
        let limits = &core.settings.providers[usize::from(target.provider.0)].timeouts;
        let total_by_us =
            self.ask.now_us.saturating_add(limits.total_us).min(self.ask.deadline_us.unwrap_or(u64::MAX));
        let own_us = limits.attempt_us.map_or(u64::MAX, |own| now_us.saturating_add(own));
        let answer_by_us = if self.ask.stream { total_by_us } else { total_by_us.min(own_us) };
        let first_token_by_us = if self.ask.stream {
            total_by_us.min(own_us).min(now_us.saturating_add(limits.first_token_us))
        } else {
            answer_by_us
        };
        Step::Attempt(Attempt {
            no,
            provider: target.provider,
            key,
            target: self.at,
            slot: target.slot,
            reason,
            fresh_connection,
            connect_by_us: now_us.saturating_add(limits.connect_us).min(first_token_by_us),
            first_token_by_us,
            answer_by_us,
            token_gap_us: limits.token_gap_us,
            total_by_us,
        })
    }

    /// Reports how attempt `no` ended. Call it exactly once per attempt.
    pub fn settle(&mut self, core: &mut Core, now_us: u64, no: u8, outcome: Outcome) -> Settled {
        let Some(record) = self.attempts.record_mut(no) else { return Settled { keep: false, more: false } };
        if record.what.is_some() {
            return Settled { keep: false, more: self.done.is_none() };
        }
        record.elapsed_us = now_us.saturating_sub(record.started_us);
        let failure = match outcome {
            Outcome::Success(_) => {
                record.what = Some(What::Answered);
                None
            }
            Outcome::Cancelled => {
                record.what = Some(What::Cancelled);
                None
            }
            Outcome::StaleConnection => Some(Failure {
                fault: Fault::Capacity,
                what: What::Reset,
                retry_after_us: None,
                committed: false,
            }),
            Outcome::Failure(failure) => Some(failure),
        };
        if let Some(failure) = failure {
            record.what = Some(failure.what);
            record.fault = Some(failure.fault);
        }
        let record = *record;
        self.running = self.running.saturating_sub(1);
        match (outcome, failure) {
            (Outcome::Success(_), _) => self.succeeded(core, now_us, &record),
            (Outcome::Cancelled, _) => self.done = self.done.or(Some(Cause::Cancelled)),
            (Outcome::StaleConnection, _) if !self.again_used => {
                self.again_used = true;
                self.after = After::Again(record.key);
                return Settled { keep: false, more: true };
            }
            (_, Some(failure)) => return self.failed(core, now_us, no, &record, failure),
            (_, None) => {}
        }
        Settled { keep: false, more: false }
    }

    fn succeeded(&mut self, core: &mut Core, now_us: u64, record: &AttemptRecord) {
        self.done = Some(Cause::Cancelled);
        let slot = self.target(record.target).slot;
        let key = usize::from(record.key.unwrap_or_default().0);
        if let Some(cells) = core.shared.cells(slot) {
            cells.cooling[key].forgive(now_us);
            core.shared.provider(record.provider).parked[key].forgive(now_us);
        }
    }

    fn failed(
        &mut self,
        core: &mut Core,
        now_us: u64,
        no: u8,
        record: &AttemptRecord,
        failure: Failure,
    ) -> Settled {
        let score = usefulness(&failure);
        let keep = self.best.is_none_or(|(best, _)| score > best);
        if keep {
            self.best = Some((score, no));
        }
        self.blame(core, now_us, record, &failure);
        self.after = self.plan_after(core, now_us, record, &failure);
        if failure.committed {
            self.done = Some(Cause::Committed);
        } else if failure.fault == Fault::Caller {
            self.done = Some(Cause::Caller);
        } else if failure.fault == Fault::Deadline {
            self.done = Some(Cause::Deadline);
        }
        Settled { keep, more: self.done.is_none() }
    }

    /// Makes the failure known to later exchanges.
    fn blame(&mut self, core: &mut Core, now_us: u64, record: &AttemptRecord, failure: &Failure) {
        let target = self.target(record.target);
        let key = usize::from(record.key.unwrap_or_default().0);
        let Some(cells) = core.shared.cells(target.slot) else { return };
        let hint = failure.retry_after_us;
        let provider = core.shared.provider(record.provider);
        let rate = &core.settings.providers[usize::from(record.provider.0)].cooldown;
        match failure.fault {
            Fault::Rate => {
                cells.cooling[key].refuse(rate, now_us, hint, &mut core.rng);
            }
            // A 503 with a Retry-After asks for the same rest as a 429.
            Fault::Capacity if hint.is_some() => {
                cells.cooling[key].refuse(rate, now_us, hint, &mut core.rng);
            }
            // 403 may mean "not this model"; only 401 speaks of the key as a whole.
            Fault::Key if failure.status() == Some(403) => {
                cells.cooling[key].refuse(&CooldownSettings::KEY, now_us, hint, &mut core.rng);
            }
            Fault::Key => {
                provider.parked[key].refuse(&CooldownSettings::KEY, now_us, hint, &mut core.rng);
            }
            Fault::Money => {
                provider.parked[key].refuse(&CooldownSettings::MONEY, now_us, hint, &mut core.rng);
            }
            Fault::ContextLength => self.window_failed = self.window_failed.max(target.context_tokens),
            _ => {}
        }
    }

    fn plan_after(
        &mut self,
        core: &mut Core,
        now_us: u64,
        record: &AttemptRecord,
        failure: &Failure,
    ) -> After {
        let key_bit = 1u64 << record.key.unwrap_or_default().0;
        if matches!(failure.fault, Fault::Key | Fault::Money | Fault::Rate) {
            self.failed_keys |= key_bit;
            if self.choose_key(core, record.target, now_us).is_ok() {
                return After::Key;
            }
        }
        let retry = core.settings.providers[usize::from(record.provider.0)].retry;
        if matches!(failure.fault, Fault::Capacity | Fault::Rate | Fault::Answer)
            && self.retries < retry.max_retries
        {
            let backoff_us =
                retry.backoff_initial_us.saturating_mul(1 << self.retries.min(20)).min(retry.backoff_max_us);
            let jittered_us = core.rng.between(backoff_us / 5 * 4, backoff_us / 5 * 6);
            let at_us =
                now_us.saturating_add(jittered_us).max(self.keys_free_at(core, record.target, now_us));
            // A rest longer than the longest backoff is not waited for; the next target is asked instead.
            let worth = at_us <= now_us.saturating_add(retry.backoff_max_us / 5 * 6);
            if worth && self.ask.deadline_us.is_none_or(|deadline| at_us < deadline) {
                return After::Retry(at_us);
            }
        }
        After::Target
    }

    /// When the first key of a target may be used.
    fn keys_free_at(&self, core: &Core, index: u8, now_us: u64) -> u64 {
        let target = self.target(index);
        let count = core.wheels[usize::from(target.provider.0)].len().max(1);
        (0..count)
            .filter(|key| target.keys >> key & 1 == 1)
            .map(|key| core.shared.key_until(target.slot, KeyId(key as u16), now_us).unwrap_or(now_us))
            .min()
            .unwrap_or(u64::MAX)
    }

    fn end(&mut self, cause: Cause, core: &Core, now_us: u64) -> Step {
        self.done = Some(cause);
        self.give_up(cause, core, now_us)
    }

    fn give_up(&self, cause: Cause, core: &Core, now_us: u64) -> Step {
        let free_at = (0..self.chain.len() as u8)
            .map(|index| self.keys_free_at(core, index, now_us))
            .min()
            .filter(|&at| at > now_us && at < u64::MAX);
        Step::GiveUp(GiveUp {
            cause,
            best: self.best.map(|(_, no)| no),
            attempts: self.attempts,
            skips: self.skips,
            retry_after_us: free_at.map(|at| at - now_us),
            should_retry: false,
        })
    }

    fn target(&self, index: u8) -> TargetRef {
        self.chain.targets()[usize::from(index)]
    }
}
