//! The terms of a breaker: its settings, what it is told and what it lets through, and what people see of it.
//!
//! Plain data; [`super::breaker`] decides with it. What has a word in logs and metrics has it here, once.

use super::window::Tally;
use crate::config::defaults;

/// When a breaker opens and how it closes. The defaults and their reasons stand in [`crate::config::defaults`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub failures_in_row: u32,
    /// Share of failures within 10 s that opens it, percent.
    pub failure_percent: u32,
    /// Calls within 10 s below which no share is taken.
    pub calls_min: u32,
    /// A call whose first content took longer is slow, microseconds. `None`: latency is no fault.
    pub slow_call_us: Option<u64>,
    /// Share of slow calls within 10 s that opens it, percent.
    pub slow_percent: u32,
    /// Input tokens of large prompts burnt in failed calls within 10 s that open it. `None`: failures all weigh the same.
    pub tokens_burnt_max: Option<u64>,
    /// Share of failures below which burnt tokens do not open it, percent.
    pub tokens_failure_percent: u32,
    /// First open time, microseconds; doubled for each further one.
    pub open_min_us: u64,
    /// Longest open time, microseconds; so a recovery is found within it.
    pub open_max_us: u64,
    /// Time over which the share grows back after a successful probe, microseconds.
    pub ramp_us: u64,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        BreakerSettings {
            failures_in_row: defaults::BREAKER_FAILURES_IN_ROW,
            failure_percent: defaults::BREAKER_FAILURE_PERCENT,
            calls_min: defaults::BREAKER_CALLS_MIN,
            slow_call_us: None,
            slow_percent: defaults::BREAKER_SLOW_PERCENT,
            tokens_burnt_max: Some(defaults::BREAKER_TOKENS_BURNT),
            tokens_failure_percent: defaults::BREAKER_TOKENS_FAILURE_PERCENT,
            open_min_us: defaults::BREAKER_OPEN_MIN_MS * 1000,
            open_max_us: defaults::BREAKER_OPEN_MAX_MS * 1000,
            ramp_us: defaults::BREAKER_RAMP_MS * 1000,
        }
    }
}

/// Why a breaker opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trip {
    /// Failures in a row.
    InRow,
    /// The share of failures.
    Share,
    /// The share of slow calls.
    Slow,
    /// The tokens burnt.
    Tokens,
    /// The probe failed.
    Probe,
}

impl Trip {
    /// Every reason, in the order of [`BreakerView::opened`].
    pub const ALL: [Trip; 5] = [Trip::InRow, Trip::Share, Trip::Slow, Trip::Tokens, Trip::Probe];

    /// The stable word for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Trip::InRow => "failures_in_row",
            Trip::Share => "failure_share",
            Trip::Slow => "slow_calls",
            Trip::Tokens => "tokens_burnt",
            Trip::Probe => "probe_failed",
        }
    }
}

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Everything.
    Open,
    /// This share, in thousandths, while it ramps up.
    Ajar(u32),
    /// One probe, for whoever claims it.
    Probe,
    /// Nothing until this time.
    Shut(u64),
}

/// What one call says about its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The target works; `slow_us` is the time to its first content.
    Works {
        /// 0 when unknown.
        first_token_us: u64,
    },
    /// The target failed a call that carried this many input tokens.
    Fails {
        /// Estimated or reported.
        tokens: u64,
    },
    /// Nothing can be said.
    Unknown,
}

/// Breaker phases, as people see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Calls flow.
    Closed,
    /// No calls.
    Open,
    /// One probe is out.
    HalfOpen,
    /// Calls flow again, a growing share of them.
    Ramping,
}

impl Phase {
    /// The stable word for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Phase::Closed => "closed",
            Phase::Open => "open",
            Phase::HalfOpen => "half_open",
            Phase::Ramping => "ramping",
        }
    }
}

/// A breaker as metrics and the live page show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerView {
    /// Where it is.
    pub phase: Phase,
    /// Open: until when. Half open: end of the probe's lease. Ramping and closed: since when.
    pub at_us: u64,
    /// Openings since it was last fully closed.
    pub trips: u32,
    /// Openings by reason since the start, in the order of [`Trip::ALL`].
    pub opened: [u64; 5],
    /// The last ten seconds.
    pub tally: Tally,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_and_reasons_have_stable_words() {
        let phases = [Phase::Closed, Phase::Open, Phase::HalfOpen, Phase::Ramping].map(Phase::label);
        assert_eq!(phases, ["closed", "open", "half_open", "ramping"]);
        let reasons = Trip::ALL.map(Trip::label);
        assert_eq!(
            reasons,
            ["failures_in_row", "failure_share", "slow_calls", "tokens_burnt", "probe_failed"]
        );
    }
}
