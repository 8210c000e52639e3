//! How long and how much: the timeouts, retries and limits of a plan.
//!
//! Durations are milliseconds, sizes are bytes. The numbers a file leaves out come from
//! [`defaults`](super::defaults).

use super::defaults;

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Dial, TLS included.
    pub connect_ms: u64,
    /// First content-bearing event of a stream.
    pub first_token_ms: u64,
    /// Silence between two events of a stream.
    pub token_gap_ms: u64,
    /// The whole exchange over all its attempts; of a provider, one attempt from dial to the last byte.
    pub total_ms: u64,
    /// One attempt: the whole answer when not streaming, the first token when streaming; `None` leaves the
    /// others to bound it.
    pub attempt_ms: Option<u64>,
}

/// How a provider is retried, in Bifrost's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Retries at the same provider before the next target; `None` leaves the number to policy.
    pub max_retries: Option<u32>,
    /// Backoff before the first retry; doubles each time.
    pub backoff_initial_ms: u64,
    /// Longest backoff; a longer `Retry-After` ends the retries.
    pub backoff_max_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            max_retries: None,
            backoff_initial_ms: defaults::RETRY_BACKOFF_INITIAL_MS,
            backoff_max_ms: defaults::RETRY_BACKOFF_MAX_MS,
        }
    }
}

/// Bounds on what clients and providers may send, and on how long the gateway waits for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request body; beyond it 413.
    pub body_bytes: u64,
    /// Request head; beyond it 431.
    pub head_bytes: u32,
    /// Fields in a request head; beyond it 431.
    pub head_fields: u16,
    /// Request line; beyond it 414.
    pub request_line_bytes: u32,
    /// Response head of a provider; beyond it the attempt failed.
    pub upstream_head_bytes: u32,
    /// Fields in a provider's response head.
    pub upstream_head_fields: u16,
    /// Interim (1xx) responses before the real one.
    pub interim_responses: u16,
    /// One server-sent event.
    pub event_bytes: u32,
    /// Bytes that may wait in the kernel for a slow client; past it the upstream is paused.
    pub unread_bytes: u32,
    /// Client connections in the process.
    pub connections: u32,
    /// Time for a whole request head.
    pub request_head_ms: u64,
    /// Idle time of a client connection.
    pub client_idle_ms: u64,
    /// Time in which a client must read something.
    pub client_write_ms: u64,
}
