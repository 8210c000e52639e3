//! Waiting for a place at a provider that is full.
//!
//! Prevents: a refusal where a place would have been free a moment later, and a walk that waits at one provider although
//! another could answer. So a flight asks every other target first, waits once, for as long as the provider's settings
//! say and never past the end of the exchange, and goes on with the walk when the wait was for nothing.
//!
//! INVARIANT: a place in a queue is given back by whoever took it: by the attempt that it becomes, at the end of the wait,
//! or when the flight is cancelled.

use super::admit::{How, Pass};
use super::attempts::{Reason, Skip, SkipReason};
use super::bulkhead::POLL_US;
use super::call::{Step, WaitReason};
use super::flight::Flight;
use super::state::Core;

/// A place in a provider's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    target: u8,
    until_us: u64,
}

impl Flight {
    /// Joins the queue of a full provider, once an exchange.
    pub(super) fn queue(&mut self, core: &mut Core, index: u8, now_us: u64) -> Option<Step> {
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

    /// Takes the place when it is free by now; else waits on, or goes on with the walk once the wait is over.
    pub(super) fn wait_on(&mut self, waiting: Waiting, core: &mut Core, now_us: u64) -> Step {
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

    /// Gives a place in a queue back that is not waited for any more.
    pub(super) fn leave_queue(&mut self, core: &Core) {
        if let Some(waiting) = self.waiting.take() {
            core.shared.provider(self.target(waiting.target).provider).bulkhead.give_up();
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
#[path = "queue_tests.rs"]
mod tests;
