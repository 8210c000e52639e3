//! The times of one attempt: by when its connection, its first content and its whole answer must be there, and when a
//! second call is made beside it.
//!
//! Prevents: a target that hangs and takes the time of those that are well with it. Each limit is the least of the
//! route's, the provider's and what the exchange has left.

use super::attempts::Reason;
use super::call::Attempt;
use super::chain::TargetRef;
use super::flight::Flight;
use super::state::Core;

/// A probe has this many times the median of its target, and at least ten seconds.
const PROBE_MEDIANS: u64 = 8;
const PROBE_MIN_US: u64 = 10_000_000;

impl Flight {
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

    pub(super) fn hedge_at(
        &self,
        core: &Core,
        target: TargetRef,
        now_us: u64,
        reason: Reason,
    ) -> Option<u64> {
        let settings = core.settings.policy(self.chain.policy).hedge?;
        let another = (0..self.chain.len()).any(|index| self.left >> index & 1 == 0);
        if reason != Reason::First || !another || self.hedged {
            return None;
        }
        let p95_us = core.shared.cells(target.slot)?.latency[self.kind()].p95_us();
        Some(now_us.saturating_add(settings.delay_us(p95_us)?)).filter(|&at| at < self.end_by_us)
    }
}
