//! What follows from the end of an attempt: for the exchange, and for those that come after it.

use super::attempts::{AttemptRecord, Cause, usefulness};
use super::breaker::Verdict;
use super::cooldown::CooldownSettings;
use super::deadline;
use super::fault::{Failure, Fault, Outcome, What};
use super::flight::{After, Flight, Live};
use super::ids::KeyId;
use super::settings::LAST_TARGET_RETRIES;
use super::state::Core;

/// What settling an attempt changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// This failure is the most useful so far: keep its status, headers and body for the final error.
    pub keep: bool,
    /// True when [`Flight::next`] may still find something to try.
    pub more: bool,
}

impl Flight {
    /// Reports the first content of attempt `no`. From now on it is the one that answers; returns the number of the
    /// other attempt of a hedged pair, to be cancelled and settled. Once per exchange; optional but worth it: a
    /// breaker, a latency estimate and the other half of a hedge learn of it minutes before the stream ends.
    pub fn first_token(&mut self, core: &mut Core, now_us: u64, no: u8) -> Option<u8> {
        let started_us = self.attempts.record(no)?.started_us;
        let stream = self.ask.stream;
        let live = self.live.iter_mut().flatten().find(|l| l.no == no)?;
        if live.first_token_us.is_some() {
            return None;
        }
        let elapsed_us = now_us.saturating_sub(started_us);
        live.first_token_us = Some(elapsed_us);
        let live_now = *live;
        self.winner = Some(no);
        if stream {
            self.learn(core, now_us, &live_now, elapsed_us);
            if live_now.probe.is_some() {
                self.tell_breaker(
                    core,
                    now_us,
                    &live_now,
                    started_us,
                    Verdict::Works { first_token_us: elapsed_us },
                );
                self.live.iter_mut().flatten().filter(|l| l.no == no).for_each(|l| l.probe = None);
            }
        }
        let other = self.live.iter().flatten().find(|l| l.no != no).map(|l| l.no);
        let hedge_won = self.attempts.record(no).is_some_and(|r| r.reason == super::attempts::Reason::Hedge);
        core.counters.hedges_won += u64::from(hedge_won);
        other
    }

    /// Reports how attempt `no` ended. Call it exactly once per attempt.
    pub fn settle(&mut self, core: &mut Core, now_us: u64, no: u8, outcome: Outcome) -> Settled {
        let nothing = Settled { keep: false, more: self.done.is_none() && self.winner.is_none() };
        let Some(place) = self.live.iter().position(|l| l.is_some_and(|l| l.no == no)) else {
            return nothing;
        };
        let (Some(live), Some(record)) = (self.live[place].take(), self.attempts.record_mut(no)) else {
            return nothing;
        };
        record.elapsed_us = now_us.saturating_sub(record.started_us);
        let failure = match outcome {
            Outcome::Success(_) | Outcome::Cancelled => None,
            Outcome::StaleConnection => Some(Failure {
                fault: Fault::Capacity,
                what: What::Reset,
                retry_after_us: None,
                committed: false,
            }),
            Outcome::Failure(failure) => Some(failure),
        };
        record.what = Some(match (outcome, failure) {
            (_, Some(failure)) => failure.what,
            (Outcome::Cancelled, _) => What::Cancelled,
            _ => What::Answered,
        });
        record.fault = failure.map(|f| f.fault);
        let record = *record;
        core.local(self.target(live.target).slot).load.stop();
        if outcome == Outcome::StaleConnection && !self.again_used {
            self.again_used = true;
            // The next attempt inherits the place and the probe of the one that never reached the provider.
            self.after = After::Again(live);
            return Settled { keep: false, more: true };
        }
        self.release(core, &live);
        match (outcome, failure) {
            (_, Some(failure)) => self.failed(core, now_us, &live, &record, failure),
            (Outcome::Success(success), _) => {
                self.succeeded(core, now_us, &live, &record, success.first_token_us);
                let slot = self.target(live.target).slot;
                core.learn_tokens(slot, self.ask.body_bytes, u64::from(success.input_tokens));
                Settled { keep: false, more: false }
            }
            _ => {
                self.cancelled(core, now_us, &live, &record);
                Settled { keep: false, more: false }
            }
        }
    }

    /// Ends the exchange because the client left: settles what runs and leaves any queue. Safe to call at any time;
    /// every flight must end in an answer, a give-up or this.
    pub fn cancel(&mut self, core: &mut Core, now_us: u64) {
        self.leave_queue(core);
        if let After::Again(live) = self.after {
            self.after = After::Target;
            self.drop_unsent(core, now_us, &live);
        }
        for index in 0..self.live.len() {
            if let Some(live) = self.live[index] {
                self.settle(core, now_us, live.no, Outcome::Cancelled);
            }
        }
        self.done = self.done.or(Some(Cause::Cancelled));
    }

    /// Gives back what a call held that will not be sent again.
    pub(super) fn drop_unsent(&mut self, core: &mut Core, now_us: u64, live: &Live) {
        self.release(core, live);
        // With nothing better to show, the dead connection is what happened.
        self.best = self.best.or(Some((0, live.no)));
        if live.probe.is_some() {
            self.tell_breaker(core, now_us, live, now_us, Verdict::Unknown);
        }
    }

    fn release(&self, core: &Core, live: &Live) {
        if live.place {
            core.shared.provider(self.target(live.target).provider).bulkhead.leave();
        }
    }

    fn succeeded(
        &mut self,
        core: &mut Core,
        now_us: u64,
        live: &Live,
        record: &AttemptRecord,
        reported_us: u64,
    ) {
        self.done = Some(Cause::Cancelled);
        self.winner = Some(live.no);
        let latency_us = match (live.first_token_us, self.ask.stream) {
            (Some(seen_us), true) => seen_us,
            (None, true) if reported_us > 0 => reported_us,
            _ => record.elapsed_us,
        };
        if live.first_token_us.is_none() || !self.ask.stream {
            self.learn(core, now_us, live, latency_us);
        }
        self.tell_breaker(
            core,
            now_us,
            live,
            record.started_us,
            Verdict::Works { first_token_us: latency_us },
        );
        let key = key_index(live.key);
        if let Some(cells) = core.shared.cells(self.target(live.target).slot) {
            cells.cooling[key].forgive(now_us);
            core.shared.provider(cells.provider).parked[key].forgive(now_us);
        }
    }

    fn cancelled(&mut self, core: &mut Core, now_us: u64, live: &Live, record: &AttemptRecord) {
        let lost_to_the_other = self.winner.is_some_and(|winner| winner != live.no);
        let verdict = match lost_to_the_other {
            true => Verdict::Unknown,
            false => self.cut_short(core, live, record),
        };
        self.tell_breaker(core, now_us, live, record.started_us, verdict);
        if !lost_to_the_other {
            self.done = self.done.or(Some(Cause::Cancelled));
        }
    }

    fn failed(
        &mut self,
        core: &mut Core,
        now_us: u64,
        live: &Live,
        record: &AttemptRecord,
        failure: Failure,
    ) -> Settled {
        let score = usefulness(&failure);
        let keep = self.best.is_none_or(|(best, _)| score > best);
        if keep {
            self.best = Some((score, live.no));
        }
        let slot = self.target(live.target).slot;
        let verdict = match failure.fault {
            Fault::Capacity => Verdict::Fails { tokens: u64::from(self.ask.est_input_tokens) },
            Fault::Caller | Fault::ContextLength | Fault::Model | Fault::Answer => {
                Verdict::Works { first_token_us: 0 }
            }
            Fault::Key | Fault::Money | Fault::Rate => Verdict::Unknown,
            Fault::Deadline => self.cut_short(core, live, record),
        };
        self.tell_breaker(core, now_us, live, record.started_us, verdict);
        if matches!(failure.fault, Fault::Capacity | Fault::Rate | Fault::Key | Fault::Money) {
            core.local(slot).load.penalty(now_us, record.elapsed_us);
        }
        if matches!(failure.fault, Fault::Capacity | Fault::Rate | Fault::Answer) {
            self.strained = Some(slot);
        }
        self.billed = failure.what.may_be_billed();
        self.blame(core, now_us, live, &failure);
        let other_runs = self.live.iter().any(Option::is_some);
        if self.at != live.target {
            (self.at, self.retries, self.failed_keys) = (live.target, 0, 0);
        }
        self.after = if other_runs { After::Target } else { self.plan_after(core, now_us, live, &failure) };
        let ends = match (failure.committed, failure.fault) {
            (true, _) => Some(Cause::Committed),
            (false, Fault::Caller) => Some(Cause::Caller),
            (false, Fault::Deadline) => Some(Cause::Deadline),
            _ => None,
        };
        // With the other attempt of a pair still running, only its own end decides.
        if !other_runs || failure.committed {
            self.done = self.done.or(ends);
        }
        Settled { keep, more: self.done.is_none() }
    }

    /// What an attempt that was cut short from outside says about its target.
    fn cut_short(&self, core: &Core, live: &Live, record: &AttemptRecord) -> Verdict {
        let median_us = core
            .shared
            .cells(self.target(live.target).slot)
            .and_then(|cells| cells.latency[self.kind()].median_us());
        if live.first_token_us.is_none() && deadline::is_overdue(record.elapsed_us, median_us) {
            Verdict::Fails { tokens: u64::from(self.ask.est_input_tokens) }
        } else {
            Verdict::Unknown
        }
    }

    fn learn(&self, core: &mut Core, now_us: u64, live: &Live, latency_us: u64) {
        let (slot, kind) = (self.target(live.target).slot, self.kind());
        let Some((local, cells)) = core.local_and_cells(slot) else { return };
        local.load.sample(now_us, latency_us);
        local.latency[kind].record(latency_us, &cells.latency[kind]);
    }

    fn tell_breaker(&self, core: &mut Core, now_us: u64, live: &Live, started_us: u64, verdict: Verdict) {
        let target = self.target(live.target);
        let Some(cells) = core.shared.cells(target.slot) else { return };
        let settings = &core.settings.providers[usize::from(target.provider.0)].breaker;
        cells.breaker.record(settings, core.index, now_us, started_us, live.probe, verdict, &mut core.random);
    }

    /// Makes the failure known to later exchanges.
    fn blame(&mut self, core: &mut Core, now_us: u64, live: &Live, failure: &Failure) {
        let target = self.target(live.target);
        let key = key_index(live.key);
        let Some(cells) = core.shared.cells(target.slot) else { return };
        let hint = failure.retry_after_us;
        let parked = &core.shared.provider(target.provider).parked[key];
        let rate = &core.settings.providers[usize::from(target.provider.0)].cooldown;
        let random = &mut core.random;
        match failure.fault {
            Fault::Rate => {
                cells.cooling[key].refuse(rate, now_us, hint, random);
            }
            // A 503 with a Retry-After asks for the same rest as a 429.
            Fault::Capacity if hint.is_some() => {
                cells.cooling[key].refuse(rate, now_us, hint, random);
            }
            // 403 may mean "not this model"; only 401 speaks of the key as a whole.
            Fault::Key if failure.status() == Some(403) => {
                cells.cooling[key].refuse(&CooldownSettings::KEY, now_us, hint, random);
            }
            Fault::Key => {
                parked.refuse(&CooldownSettings::KEY, now_us, hint, random);
            }
            Fault::Money => {
                parked.refuse(&CooldownSettings::MONEY, now_us, hint, random);
            }
            Fault::ContextLength => self.window_failed = self.window_failed.max(target.context_tokens),
            _ => {}
        }
    }

    fn plan_after(&mut self, core: &mut Core, now_us: u64, live: &Live, failure: &Failure) -> After {
        if matches!(failure.fault, Fault::Key | Fault::Money | Fault::Rate) {
            self.failed_keys |= 1 << key_index(live.key);
            if self.has_key(core, live.target, now_us) {
                return After::Key;
            }
        }
        if !matches!(failure.fault, Fault::Capacity | Fault::Rate | Fault::Answer) {
            return After::Target;
        }
        let retry = core.settings.providers[usize::from(self.target(live.target).provider.0)].retry;
        let max = retry.max_retries.unwrap_or_else(|| self.retries_unless_told(failure));
        if self.retries >= max {
            return After::Target;
        }
        let backoff_us =
            retry.backoff_initial_us.saturating_mul(1 << self.retries.min(20)).min(retry.backoff_max_us);
        let jittered_us = core.random.between(backoff_us / 5 * 4, backoff_us / 5 * 6);
        let at_us = now_us.saturating_add(jittered_us).max(self.keys_free_at(core, live.target, now_us));
        // A rest longer than the longest backoff is not waited for; the next target is asked instead.
        let worth = at_us <= now_us.saturating_add(retry.backoff_max_us / 5 * 6);
        if worth && at_us < self.end_by_us { After::Retry(at_us) } else { After::Target }
    }

    /// Retries when the configuration names no number: only on the last target, and never of a call that may have
    /// been billed.
    fn retries_unless_told(&self, failure: &Failure) -> u8 {
        let last = (0..self.chain.len()).all(|index| self.left >> index & 1 == 1);
        if last && self.chain.static_answer.is_none() && !failure.what.may_be_billed() {
            LAST_TARGET_RETRIES
        } else {
            0
        }
    }
}

fn key_index(key: Option<KeyId>) -> usize {
    key.map_or(0, |key| usize::from(key.0))
}

#[cfg(test)]
#[cfg(not(loom))]
#[path = "settle_tests.rs"]
mod tests;
