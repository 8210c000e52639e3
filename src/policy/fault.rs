//! Whose fault a failed attempt is, and what follows from it.
//!
//! Prevents: paying for retries that cannot succeed (a 400 is the caller's and fails everywhere), and losing
//! requests that another key or provider would have answered (a 401 is one key's, a 503 is one provider's).
//! Gateways that judge by "status >= 500" alone get both wrong: an exhausted account answers 429, an
//! overloaded model answers 200 with an error inside.
//!
//! | fault | examples | this exchange | later exchanges |
//! |---|---|---|---|
//! | caller | 400, 404, 413, 422 | passed on, never retried | nothing |
//! | key | 401, 403 | next key, next target | key parked |
//! | money | 402, 429 `insufficient_quota` | next key, next target | key parked, longer |
//! | rate | 429 | next key, next target | key cools for this model until Retry-After |
//! | capacity | 5xx, 529, connect, TLS, timeout, truncated, error in a 200 | next target | breaker |
//! | context length | 400 `context_length_exceeded` | next target with a larger window | nothing |
//! | model | 404 `model_not_found` | next target | nothing |
//! | answer | a configured check failed | next target | nothing |
//! | deadline | the caller's own time ran out | ends | nothing |
//!
//! Reference: the attribution tables of Envoy outlier detection (only gateway errors eject) and linkerd (429
//! apart from failures). Leaves out: reading a provider's body, which `dialect` does; this takes its verdict
//! as an [`ErrorKind`].

/// The party a failure is blamed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The request itself is wrong; it would fail anywhere.
    Caller,
    /// The credential is wrong, revoked or not allowed this model.
    Key,
    /// The account behind the credential has no credit left.
    Money,
    /// The credential has used its share for now.
    Rate,
    /// The provider, or the way to it, is failing.
    Capacity,
    /// The prompt is larger than this model's window.
    ContextLength,
    /// The provider does not have, or no longer has, this model.
    Model,
    /// The provider answered, and a configured check refused the answer.
    Answer,
    /// The caller's deadline passed while the attempt ran.
    Deadline,
}

/// Which limit ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeoutKind {
    /// No connection in time.
    Connect,
    /// Connected, but no content in time.
    FirstToken,
    /// Content began, then stopped.
    TokenGap,
    /// The whole attempt took too long.
    Total,
    /// The caller's own deadline passed.
    Deadline,
}

/// What happened, as the attempt list and the metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum What {
    /// An HTTP status that is a failure.
    Status(u16),
    /// The connection was refused or could not be made.
    Connect,
    /// The TLS handshake failed or the certificate was not accepted.
    Tls,
    /// The provider's name did not resolve.
    Dns,
    /// A limit ran out.
    Timeout(TimeoutKind),
    /// The connection was reset or closed before the answer began.
    Reset,
    /// The answer ended before its framing said so.
    Truncated,
    /// A success without a body.
    EmptyBody,
    /// A success of a content type that no model sends.
    BadContentType,
    /// A success whose body is, or opens with, an error.
    ErrorInOk,
    /// An error event in a stream that had begun.
    StreamError,
    /// The response head broke HTTP.
    BadHead,
    /// The answer body is not what the dialect says it should be.
    BadBody,
    /// A configured answer check refused the answer.
    Check,
    /// The other attempt of a hedged pair won.
    Cancelled,
    /// The answer was delivered.
    Answered,
}

impl What {
    /// A short stable word for headers, logs and metrics; statuses print as their number elsewhere.
    pub fn label(self) -> &'static str {
        match self {
            What::Status(_) => "status",
            What::Connect => "connect",
            What::Tls => "tls",
            What::Dns => "dns",
            What::Timeout(TimeoutKind::Connect) => "connect_timeout",
            What::Timeout(TimeoutKind::FirstToken) => "first_token_timeout",
            What::Timeout(TimeoutKind::TokenGap) => "token_gap_timeout",
            What::Timeout(TimeoutKind::Total) => "total_timeout",
            What::Timeout(TimeoutKind::Deadline) => "deadline",
            What::Reset => "reset",
            What::Truncated => "truncated",
            What::EmptyBody => "empty_body",
            What::BadContentType => "bad_content_type",
            What::ErrorInOk => "error_in_ok",
            What::StreamError => "stream_error",
            What::BadHead => "bad_head",
            What::BadBody => "bad_body",
            What::Check => "check_failed",
            What::Cancelled => "cancelled",
            What::Answered => "ok",
        }
    }

    /// True when the provider may have generated, and billed, something before it failed.
    ///
    /// A refusal by status is not billed; a request that was sent and then timed out, broke or was thrown away
    /// may be.
    pub fn may_be_billed(self) -> bool {
        match self {
            What::Status(_) | What::Connect | What::Tls | What::Dns | What::Cancelled => false,
            What::Timeout(TimeoutKind::Connect) => false,
            What::Timeout(_) | What::Reset | What::Truncated | What::EmptyBody | What::BadContentType => true,
            What::ErrorInOk | What::StreamError | What::BadHead | What::BadBody | What::Check => true,
            What::Answered => true,
        }
    }
}

/// What `dialect` made of a provider's error body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing recognised: the status alone decides.
    #[default]
    Unknown,
    /// `invalid_request_error` and the like.
    InvalidRequest,
    /// The prompt does not fit the model.
    ContextLength,
    /// `authentication_error`, `permission_error`, `invalid_api_key`.
    Auth,
    /// `insufficient_quota`, `billing_hard_limit_reached`, credit balance too low.
    Quota,
    /// `rate_limit_exceeded`, `RESOURCE_EXHAUSTED`.
    RateLimit,
    /// `overloaded_error`, `server_error`, `UNAVAILABLE`.
    Overloaded,
    /// `model_not_found`, a retired model, a missing deployment.
    ModelNotFound,
    /// The provider's filter refused the prompt.
    ContentPolicy,
}

/// What the exchange saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A complete error answer: a status that is not 2xx.
    Status {
        /// The status as received, 100..=599.
        status: u16,
        /// What `dialect` made of its body.
        kind: ErrorKind,
        /// From `retry-after-ms`, `Retry-After` (seconds or date) or the body, microseconds from now.
        retry_after_us: Option<u64>,
    },
    /// An error inside a 2xx: the body, or a stream event.
    ErrorInOk {
        /// What `dialect` made of it.
        kind: ErrorKind,
        /// As above.
        retry_after_us: Option<u64>,
        /// True when it came as an event after the stream began.
        stream: bool,
    },
    /// Anything the transport or the body reader saw.
    Transport(What),
}

/// A failed attempt, judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is.
    pub fault: Fault,
    /// What happened.
    pub what: What,
    /// How long the provider asked to be left alone, microseconds from now.
    pub retry_after_us: Option<u64>,
    /// True when answer bytes had already gone to the client: no other attempt may follow.
    pub committed: bool,
}

impl Failure {
    /// The same failure, after the first answer byte went to the client.
    pub fn after_commit(mut self) -> Self {
        self.committed = true;
        self
    }

    /// The status worth showing for it, when the provider sent one.
    pub fn status(&self) -> Option<u16> {
        match self.what {
            What::Status(status) => Some(status),
            _ => None,
        }
    }
}

/// Judges one signal.
pub fn attribute(signal: Signal) -> Failure {
    let (fault, what, retry_after_us) = match signal {
        Signal::Status { status, kind, retry_after_us } => {
            (fault_of_status(status, kind), What::Status(status), retry_after_us)
        }
        Signal::ErrorInOk { kind, retry_after_us, stream } => {
            let what = if stream { What::StreamError } else { What::ErrorInOk };
            (fault_in_ok(kind), what, retry_after_us)
        }
        Signal::Transport(what) => (fault_of_transport(what), what, None),
    };
    Failure { fault, what, retry_after_us, committed: false }
}

fn fault_of_status(status: u16, kind: ErrorKind) -> Fault {
    // Quota and context length come under several statuses (429, 400, 403, 413), so the body's word goes first.
    match (status, kind) {
        (400..=499, ErrorKind::Quota) | (402, _) => Fault::Money,
        (400 | 413 | 422, ErrorKind::ContextLength) => Fault::ContextLength,
        (400 | 404 | 410, ErrorKind::ModelNotFound) => Fault::Model,
        (401 | 403, ErrorKind::ContentPolicy) => Fault::Caller,
        (429, _) | (400..=499, ErrorKind::RateLimit) => Fault::Rate,
        (401 | 403, _) => Fault::Key,
        // Some providers report a bad key as 400 (Gemini) and overload as 400 or 404 behind a proxy.
        (400, ErrorKind::Auth) => Fault::Key,
        (408 | 425, _) | (400..=499, ErrorKind::Overloaded) => Fault::Capacity,
        (400..=499, _) => Fault::Caller,
        // A quota word in a 5xx is rare, but the provider answered and named the account.
        (500..=599, ErrorKind::Quota) => Fault::Money,
        (500..=599, ErrorKind::RateLimit) => Fault::Rate,
        // 1xx and 3xx never come from a model API; a captive portal redirects.
        _ => Fault::Capacity,
    }
}

fn fault_in_ok(kind: ErrorKind) -> Fault {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::ContentPolicy => Fault::Caller,
        ErrorKind::ContextLength => Fault::ContextLength,
        ErrorKind::Auth => Fault::Key,
        ErrorKind::Quota => Fault::Money,
        ErrorKind::RateLimit => Fault::Rate,
        ErrorKind::ModelNotFound => Fault::Model,
        ErrorKind::Unknown | ErrorKind::Overloaded => Fault::Capacity,
    }
}

fn fault_of_transport(what: What) -> Fault {
    match what {
        What::Timeout(TimeoutKind::Deadline) => Fault::Deadline,
        What::Check => Fault::Answer,
        What::Status(status) => fault_of_status(status, ErrorKind::Unknown),
        _ => Fault::Capacity,
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The answer is complete and passed its checks.
    Success(Success),
    /// It failed.
    Failure(Failure),
    /// A reused connection died before any answer byte: nothing was answered, so it may be sent again once,
    /// on a new connection, free of every budget.
    StaleConnection,
    /// The gateway stopped it: the client left, or the other attempt of a hedged pair won.
    Cancelled,
}

/// Figures of a successful attempt. Zero means unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Success {
    /// From the start of the attempt to the first content, microseconds.
    pub first_token_us: u64,
    /// Input tokens the provider reported, cached ones included.
    pub input_tokens: u32,
    /// Output tokens the provider reported.
    pub output_tokens: u32,
    /// What the attempt cost, nano-dollars; 0 when unpriced.
    pub cost_nano_usd: u64,
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
