//! What the live page shows of finished exchanges: the last ones, how the last hour and day went, and why targets failed.
//!
//! Fed by the thread that books exchanges, from the same ring; no core knows of it.
//!
//! ```text
//! Record ── Outbox::push (on its core) ── ring ── Board::add (side thread) ── JSON for the page
//! ```
//!
//! Invariants: memory is bounded whatever clients send ([`recent`], [`history`], [`failures`] have the numbers, together
//! at most 11 MB, and under 1 MB with a handful of providers and pipelines); nothing here holds a prompt, an answer or a
//! secret, because an [`Entry`] has none.
//!
//! Left out: anything that outlives the process. The ledger does that.

mod failures;
mod history;
mod recent;

pub use failures::{FAILURES_MAX, Failure, TARGETS_MAX};
pub use history::{Columns, Histories, NAMES_MAX, STEPS, Span, Totals};
pub use recent::RECENT_MAX;

use super::outbox::Entry;
use failures::Failures;
use history::History;
use recent::Recent;

/// Everything that the page shows of finished exchanges.
#[derive(Default)]
pub struct Board {
    recent: Recent,
    history: History,
    failures: Failures,
    missed: u64,
}

impl Board {
    /// Takes an exchange in that ended at `unix_us`; `frame` is what `entry` was read from.
    pub fn add(&mut self, entry: &Entry<'_>, frame: &[u8], unix_us: u64) {
        self.recent.add(frame, unix_us);
        self.history.add(entry, unix_us / 1_000_000);
        self.failures.add(entry, unix_us);
    }

    /// Exchanges that did not fit into their ring are lost to the page too.
    pub fn miss(&mut self, exchanges: u64) {
        self.missed += exchanges;
    }

    /// How many were missed so far.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// The number of the newest exchange; they are counted from 1.
    pub fn last(&self) -> u64 {
        self.recent.last()
    }

    /// Appends a JSON list of exchanges with a number above `after`, newest first, at most `most`.
    pub fn exchanges(&self, after: u64, most: usize, out: &mut Vec<u8>) {
        self.recent.write(after, most, out);
    }

    /// The columns of `span` whose step begins at `since_unix_s` or later, up to the one of `now_unix_s`.
    pub fn history(&self, span: Span, since_unix_s: u64, now_unix_s: u64) -> Histories {
        self.history.view(span, since_unix_s, now_unix_s)
    }

    /// The last failures of a target, newest first.
    pub fn failures(&self, provider: &str, model: &str) -> impl Iterator<Item = &Failure> {
        self.failures.of(provider, model)
    }
}
