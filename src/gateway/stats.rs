//! What a core counts of itself: plain cells that only their core writes and anybody may read. What it counts of
//! exchanges is in `meter`.

pub use crate::meter::Cell;

/// The counters of one core. Padded, so that two cores never write one cache line.
#[derive(Default)]
#[repr(align(128))]
pub struct Stats {
    /// Client connections accepted since the start.
    pub accepted: Cell,
    /// Requests that are read, served or whose answer is on its way out now.
    pub exchanges: Cell,
    /// Requests received since the start.
    pub requests: Cell,
    /// Tasks that panicked; each cost one connection.
    pub panics: Cell,
    /// Exchanges that ended because their client left.
    pub cancelled: Cell,
    /// Answers given a second time, for a repeated idempotency key.
    pub replayed: Cell,
    /// Answers given from the configuration.
    pub static_answers: Cell,
    /// Requests turned away because their step has used up its budget.
    pub steps_refused: Cell,
    /// Client connections that are open now.
    pub open: Cell,
    /// Exchanges of streams that run now.
    pub streams: Cell,
    /// Idle connections to providers, when they were last looked at.
    pub idle: Cell,
    /// Targets passed over, in the order of [`crate::policy::SkipReason::ALL`].
    pub skips: [Cell; crate::policy::SkipReason::ALL.len()],
    /// Hedges that won.
    pub hedges_won: Cell,
    /// Half-open probes sent.
    pub probes: Cell,
}
