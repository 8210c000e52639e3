//! What the engine is asked, and what it answers: the call to make now, or what to do instead.

use super::attempts::{GiveUp, Reason};
use super::ids::{KeyId, ProviderId, SlotId, StaticId};

/// What is known of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ask {
    /// When the exchange began, gateway clock.
    pub now_us: u64,
    /// When the caller stops waiting, gateway clock.
    pub deadline_us: Option<u64>,
    /// True when the caller asked for a stream.
    pub stream: bool,
    /// Size of the request's body, bytes; 0 when unknown. With the provider's own count of its tokens it teaches
    /// [`Core::estimate_tokens`](super::Core::estimate_tokens).
    pub body_bytes: u64,
    /// Estimated prompt size, from [`Core::estimate_tokens`](super::Core::estimate_tokens).
    pub est_input_tokens: u32,
    /// `x-stainless-retry-count`: how often the client has sent this request before. Its retries need a token of
    /// the retry budget like the gateway's own.
    pub client_retries: u8,
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
    /// Index of the target in [`Flight::chain`](super::Flight::chain).
    pub target: u8,
    /// The (provider, model) pair.
    pub slot: SlotId,
    /// Why.
    pub reason: Reason,
    /// True when the call must not use a pooled connection.
    pub fresh_connection: bool,
    /// True when this is the one probe of a half-open breaker.
    pub probe: bool,
    /// The connection must be ready by then.
    pub connect_by_us: u64,
    /// The first content must be there by then. Equals `answer_by_us` when not streaming.
    pub first_token_by_us: u64,
    /// The whole answer must be there by then: when not streaming the attempt's own limit, and the first-token limit
    /// while another target is left; else `total_by_us`.
    pub answer_by_us: u64,
    /// Longest silence between two events or reads, microseconds.
    pub token_gap_us: u64,
    /// The exchange must be over by then.
    pub total_by_us: u64,
    /// When there is no content by then, call [`Flight::hedge`](super::Flight::hedge).
    pub hedge_at_us: Option<u64>,
}

/// Why the exchange waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitReason {
    /// A retry of the same target, after its backoff or Retry-After.
    Backoff,
    /// Every target that could be tried has as many calls as it may.
    Queue,
    /// An attempt is still running: settle it first.
    InFlight,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
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
