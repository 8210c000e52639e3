//! The end of a walk that found no answer: which failure is shown, and when asking again is worth it.
//!
//! Prevents: clients that send a prompt again into an outage, because nobody told them how long to wait.

use super::attempts::{Cause, GiveUp};
use super::breaker::Door;
use super::call::Step;
use super::flight::Flight;
use super::settings::LAST_TARGET_RETRIES;
use super::state::Core;

impl Flight {
    /// What a client is told when nothing is left to try.
    pub(super) fn give_up(&self, cause: Cause, core: &Core, now_us: u64) -> Step {
        let free_at = (0..self.chain.len() as u8).map(|i| self.free_at(core, i, now_us)).min();
        let free_at = free_at.filter(|&at| at < u64::MAX);
        let open_now = free_at.is_some_and(|at| at <= now_us);
        let may_spend = self.chain.targets().iter().any(|t| {
            let settings = &core.settings.providers[usize::from(t.provider.0)].budget;
            core.shared.provider(t.provider).budget.has(settings, now_us)
        });
        // The client's retry is worth having when a target could be tried now and the budget would let it.
        let helps = open_now && may_spend && self.ask.client_retries < LAST_TARGET_RETRIES;
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
}
