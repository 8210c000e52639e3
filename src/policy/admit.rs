//! Whether one target may be tried now, and with which key.
//!
//! Everything that can forbid a call is asked here, cheapest first and what costs something last, so that a refusal
//! leaves nothing taken: window, keys, breaker, time, health, place, budget, money, probe.

use super::attempts::{Skip, SkipReason};
use super::breaker::Door;
use super::chain::TargetRef;
use super::deadline;
use super::fault::What;
use super::flight::{Flight, Live};
use super::ids::KeyId;
use super::state::Core;

/// What kind of call is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// The next target of the walk.
    Next,
    /// Another key of the same target.
    Key,
    /// The same target again.
    Retry,
    /// A second call while the first is silent.
    Hedge,
}

/// How strict to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Only targets that are well.
    Strict,
    /// Also those that ramp up or owe for fallbacks.
    Loose,
    /// Also those that are full, by waiting.
    Queue,
    /// A place is held already.
    Holding,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not in this exchange.
    Hard(Skip),
    /// Only when nothing better is left.
    Later,
    /// No place free.
    Full,
}

fn hard(reason: SkipReason, until_us: Option<u64>) -> Refusal {
    Refusal::Hard(Skip { reason, until_us })
}

impl Flight {
    /// Takes everything a call to this target needs, or says why not.
    pub(super) fn admit(
        &mut self,
        core: &mut Core,
        index: u8,
        now_us: u64,
        how: How,
        pass: Pass,
    ) -> Result<Live, Refusal> {
        let target = self.target(index);
        // An unknown window, 0, is tried.
        if target.context_tokens > 0 && target.context_tokens <= self.window_failed {
            return Err(hard(SkipReason::WindowTooSmall, None));
        }
        let eligible = self.keys_now(core, index, now_us)?;
        let Some(cells) = core.shared.cells(target.slot) else {
            return Err(hard(SkipReason::NoKey, None));
        };
        let provider = &core.settings.providers[usize::from(target.provider.0)];
        let mut door = cells.breaker.door(&provider.breaker, now_us);
        if door == Door::Probe && cells.breaker.forget_old(&provider.breaker, now_us) {
            door = cells.breaker.door(&provider.breaker, now_us);
        }
        if let Door::Shut(until_us) = door {
            return Err(hard(SkipReason::BreakerOpen, Some(until_us)));
        }
        let median_us = cells.latency[self.kind()].median_us();
        if !deadline::can_start(now_us, self.ask.deadline_us, median_us) {
            return Err(hard(SkipReason::TooLate, None));
        }
        let strained =
            core.shared.strain.is_over(&provider.budget) && cells.strain.is_felt(&provider.budget, now_us);
        if pass == Pass::Strict {
            let held = match door {
                Door::Ajar(share) => core.random.below(1000) >= u64::from(share),
                _ => false,
            };
            // A probe is one call in seconds, and the only way to learn that the target is well again.
            let owes = (strained || cells.strain.owes(&provider.budget, now_us)) && door != Door::Probe;
            if held || owes {
                return Err(Refusal::Later);
            }
        }
        // With everything over its share, a fallback is refused that goes to one more target in trouble: it would
        // probably fail as well. One that is well is never refused.
        if strained && !self.attempts.is_empty() && how == How::Next {
            return Err(hard(SkipReason::BudgetSpent, None));
        }
        let bulkhead = &core.shared.provider(target.provider).bulkhead;
        let capped = provider.bulkhead.concurrent_max.is_some();
        if capped && pass != Pass::Holding && !bulkhead.enter(&provider.bulkhead) {
            return Err(Refusal::Full);
        }
        let ticket = self.pay(core, target, now_us, how).and_then(|()| {
            if door != Door::Probe {
                return Ok(None);
            }
            let limits = self.limits(core, target, now_us, true);
            // The lease outlasts the attempt's own limit by a second, so that its timeout is booked first.
            let lease_until_us = limits.first_token_by_us.saturating_add(super::settings::SECOND_US);
            let ticket = cells.breaker.claim_probe(now_us, lease_until_us);
            ticket.map(Some).ok_or(hard(SkipReason::BreakerOpen, Some(lease_until_us)))
        });
        match ticket {
            Ok(probe) => {
                core.counters.probes += u64::from(probe.is_some());
                self.charge(core, now_us, how);
                let key = core.wheels[usize::from(target.provider.0)].choose(eligible).map(KeyId);
                Ok(Live { no: 0, target: index, key, probe, place: capped, first_token_us: None })
            }
            Err(refusal) => {
                if capped && pass != Pass::Holding {
                    bulkhead.leave();
                }
                Err(refusal)
            }
        }
    }

    /// Keys of a target that may be used now, one bit each.
    fn keys_now(&self, core: &Core, index: u8, now_us: u64) -> Result<u64, Refusal> {
        let target = self.target(index);
        let failed = if index == self.at { self.failed_keys } else { 0 };
        let mut eligible = 0u64;
        let mut earliest: Option<u64> = None;
        for key in keys_of(core, target) {
            match core.shared.key_until(target.slot, KeyId(key), now_us) {
                Some(until) => earliest = Some(earliest.map_or(until, |e| e.min(until))),
                None if failed >> key & 1 == 0 => eligible |= 1 << key,
                None => {}
            }
        }
        match (eligible, earliest) {
            (0, None) => Err(hard(SkipReason::NoKey, None)),
            (0, until) => Err(hard(SkipReason::KeysCooling, until)),
            _ => Ok(eligible),
        }
    }

    /// True when another key of the target may be used now.
    pub(super) fn has_key(&self, core: &Core, index: u8, now_us: u64) -> bool {
        self.keys_now(core, index, now_us).is_ok()
    }

    /// When the first key of a target may be used; never when none may serve the model.
    pub(super) fn keys_free_at(&self, core: &Core, index: u8, now_us: u64) -> u64 {
        let target = self.target(index);
        keys_of(core, target)
            .map(|key| core.shared.key_until(target.slot, KeyId(key), now_us).unwrap_or(now_us))
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Pays for a call that is not the exchange's first.
    fn pay(&self, core: &Core, target: TargetRef, now_us: u64, how: How) -> Result<(), Refusal> {
        // A hedge is paid for by the provider that is slow.
        let slow = self.live.iter().flatten().next().map(|live| self.target(live.target).provider);
        let payer = if how == How::Hedge { slow.unwrap_or(target.provider) } else { target.provider };
        let cells = core.shared.provider(payer);
        let settings = &core.settings.providers[usize::from(payer.0)].budget;
        let again = self
            .attempts
            .iter()
            .any(|a| a.provider == target.provider && a.what.is_some_and(|w| w != What::Cancelled));
        let budgeted = match how {
            How::Retry | How::Hedge => true,
            // A key that failed is out by its cooldown, which bounds these calls better than a budget would.
            How::Key => false,
            How::Next => again || (self.attempts.is_empty() && self.ask.client_retries > 0),
        };
        let sent_again = !self.attempts.is_empty() && (budgeted || how == How::Key || self.billed);
        if sent_again {
            self.pay_money(core, target, now_us)?;
        }
        if how == How::Hedge {
            let Some(hedge) = core.settings.policy(self.chain.policy).hedge else {
                return Err(Refusal::Later);
            };
            if !cells.hedges.spend(&hedge) {
                return Err(hard(SkipReason::BudgetSpent, None));
            }
        }
        let quiet_only = core.shared.strain.is_over(settings);
        if budgeted && !cells.budget.spend(settings, now_us, quiet_only) {
            return Err(hard(SkipReason::BudgetSpent, None));
        }
        if how == How::Key {
            cells.budget.charge(settings, now_us);
        }
        Ok(())
    }

    fn pay_money(&self, core: &Core, target: TargetRef, now_us: u64) -> Result<(), Refusal> {
        let Some(limit) = core.settings.retry_nano_usd_per_minute else { return Ok(()) };
        let price = target.input_nano_usd.unwrap_or(core.settings.unpriced_input_nano_usd);
        let cost = u64::from(self.ask.est_input_tokens).saturating_mul(u64::from(price));
        if core.shared.money().spend(limit, now_us, cost) {
            Ok(())
        } else {
            // The next clock minute has money again.
            let minute_us = 60 * super::settings::SECOND_US;
            Err(hard(SkipReason::MoneySpent, Some((now_us / minute_us + 1) * minute_us)))
        }
    }

    /// Charges an extra call to the target whose failure caused it.
    fn charge(&mut self, core: &Core, now_us: u64, how: How) {
        if how == How::Hedge {
            return;
        }
        let Some(slot) = self.strained.take() else { return };
        if let Some(cells) = core.shared.cells(slot) {
            let settings = &core.settings.providers[usize::from(cells.provider.0)].budget;
            cells.strain.charge(settings, now_us, how == How::Retry);
            core.shared.strain.charge(settings, now_us, how == How::Retry);
        }
    }
}

/// The keys that may serve a target; one nameless key for a provider without any.
fn keys_of(core: &Core, target: TargetRef) -> impl Iterator<Item = u16> {
    let count = core.wheels[usize::from(target.provider.0)].len().max(1) as u16;
    (0..count).filter(move |&key| target.keys >> key & 1 == 1)
}
