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
use super::attempts::{AttemptRecord, Attempts, Cause, Reason, Skip, SkipReason, Skips};
use super::balance;
use super::breaker::ProbeTicket;
use super::call::{Ask, Attempt, Step, WaitReason};
use super::chain::{Chain, TargetRef, Walked};
use super::ids::{KeyId, SlotId};
use super::queue::Waiting;
use super::state::Core;

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
    pub(super) waiting: Option<Waiting>,
    pub(super) queued: bool,
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

    pub(super) fn next_target(&mut self, core: &mut Core, now_us: u64) -> Step {
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

    /// Begins an attempt with what admission gave it.
    pub(super) fn start(
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

    pub(super) fn pass_over(&mut self, core: &mut Core, index: u8, skip: Skip) {
        core.counters.skip(skip.reason);
        self.skips.set(index, skip);
    }

    fn end(&mut self, cause: Cause, core: &mut Core, now_us: u64) -> Step {
        core.counters.give_ups += 1;
        self.done = Some(cause);
        self.leave_queue(core);
        self.give_up(cause, core, now_us)
    }

    pub(super) fn target(&self, index: u8) -> TargetRef {
        self.chain.targets()[usize::from(index)]
    }

    /// Which latency applies: 0 for streams, 1 for whole answers.
    pub(super) fn kind(&self) -> usize {
        usize::from(!self.ask.stream)
    }
}
