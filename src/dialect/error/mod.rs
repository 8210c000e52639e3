//! Failures in the words of both dialects: what a provider said, and what a client is told.
//!
//! A provider's error is read once, into [`UpstreamError`], whose [`ErrorKind`] is what `policy` attributes fault by.
//! What clients get is a [`GatewayError`] rendered in their own dialect, with the status, type and code by which
//! their SDK picks its exception class and decides whether to retry.
//!
//! Invariants: an error body that makes no sense still gives an error, from the status alone; a rendered stream error
//! never looks like a clean end (no `[DONE]`, no `message_stop`).

mod read;
mod render;
mod retry_after;

use std::borrow::Cow;

pub use read::{read_error, read_stream_error};
pub use render::{render_error, render_stream_error};
pub use retry_after::{RetryHints, retry_after_ms};

use crate::config::Dialect;

/// What went wrong, in as many words as a decision needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is malformed or asks for what the model cannot do (400, 415, 422, ...).
    InvalidRequest,
    /// The key is missing, wrong or revoked (401).
    Authentication,
    /// The key may not do this (403).
    Permission,
    /// No such resource or endpoint (404).
    NotFound,
    /// The provider has no such model, or not for this key.
    ModelNotFound,
    /// SDKs retry a 409, so it is kept apart.
    Conflict,
    /// The body is too large (413).
    TooLarge,
    /// The prompt does not fit the model's window; a larger window may take it.
    ContextLength,
    /// The provider's filter refused the prompt.
    ContentFilter,
    /// Too many requests or tokens for now (429).
    RateLimit,
    /// The account behind the key is out of credit or at its spending limit, whatever the status says: waiting does
    /// not help.
    Money,
    /// The provider says that it is overloaded (529, or 503 by name).
    Overloaded,
    /// The provider failed (500, 502, 503, ...).
    Server,
    /// The provider ran out of time (408, 504).
    Timeout,
}

/// One failure as its provider reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamError {
    /// HTTP status; for an error inside a stream, the status it would have had.
    pub status: u16,
    /// What it means.
    pub kind: ErrorKind,
    /// The provider's `type`, where it gave one.
    pub error_type: Option<String>,
    /// The provider's `code`, where it gave one.
    pub code: Option<String>,
    /// The request parameter that the provider blames.
    pub param: Option<String>,
    /// The provider's sentence, or one made from the status.
    pub message: String,
    /// How long the provider asks to wait; milliseconds, not capped.
    pub retry_after_ms: Option<u64>,
    /// The provider's `x-should-retry`.
    pub should_retry: Option<bool>,
}

impl UpstreamError {
    /// The same failure in terms that a client of `client` expects: 529 exists only at Anthropic, OpenAI reports
    /// spent credit as a 429, Anthropic clients compact their history when they read "prompt is too long".
    pub fn for_client(&self, client: Dialect) -> GatewayError {
        let status = match (client, self.kind) {
            (Dialect::OpenAi, ErrorKind::Money) => 429,
            (Dialect::Anthropic, ErrorKind::Money) => 402,
            (Dialect::OpenAi, ErrorKind::Overloaded) => 503,
            (Dialect::Anthropic, ErrorKind::Overloaded) => 529,
            (_, ErrorKind::ContextLength) => 400,
            (Dialect::OpenAi, _) if self.status == 529 => 503,
            _ if (400..600).contains(&self.status) => self.status,
            // A provider that answers an API call with a redirect or worse has failed as far as the client goes.
            _ => 502,
        };
        let code = match self.kind {
            ErrorKind::ContextLength => Cow::Borrowed("context_length_exceeded"),
            ErrorKind::ModelNotFound => Cow::Borrowed("model_not_found"),
            ErrorKind::ContentFilter => Cow::Borrowed("content_filter"),
            ErrorKind::Money if client == Dialect::OpenAi => Cow::Borrowed("insufficient_quota"),
            kind => self
                .code
                .clone()
                .or_else(|| self.error_type.clone())
                .map_or(Cow::Borrowed(kind.default_code()), Cow::Owned),
        };
        let message = if client == Dialect::Anthropic
            && self.kind == ErrorKind::ContextLength
            && !self.message.starts_with("prompt is too long")
        {
            format!("prompt is too long: {}", self.message)
        } else {
            self.message.clone()
        };
        GatewayError {
            status,
            kind: self.kind,
            code,
            param: self.param.clone(),
            message,
            retry_after_s: self.retry_after_ms.map(|ms| u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX)),
            should_retry: self.should_retry.or((self.kind == ErrorKind::Money).then_some(false)),
        }
    }
}

/// One failure as a client is told about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayError {
    /// HTTP status of the answer; SDKs pick their exception class by it.
    pub status: u16,
    /// What it means; gives the error its `type`.
    pub kind: ErrorKind,
    /// Stable word for programs, in snake case.
    pub code: Cow<'static, str>,
    /// The request parameter to blame, as a path such as `messages[2].content`.
    pub param: Option<String>,
    /// A sentence for people that says what to do.
    pub message: String,
    /// For the `Retry-After` header; seconds.
    pub retry_after_s: Option<u32>,
    /// For the `x-should-retry` header.
    pub should_retry: Option<bool>,
}

impl GatewayError {
    /// An error of `kind` with its usual status and code; the fields can be changed after.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            status: kind.status(),
            kind,
            code: Cow::Borrowed(kind.default_code()),
            param: None,
            message: message.into(),
            retry_after_s: None,
            should_retry: None,
        }
    }
}

impl ErrorKind {
    /// The status by which both SDK families know this kind.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::ContextLength | Self::ContentFilter => 400,
            Self::Authentication => 401,
            Self::Permission => 403,
            Self::NotFound | Self::ModelNotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::RateLimit | Self::Money => 429,
            Self::Overloaded => 503,
            Self::Server => 500,
            Self::Timeout => 504,
        }
    }

    fn default_code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Authentication => "invalid_api_key",
            Self::Permission => "permission_denied",
            Self::NotFound => "not_found",
            Self::ModelNotFound => "model_not_found",
            Self::Conflict => "conflict",
            Self::TooLarge => "request_too_large",
            Self::ContextLength => "context_length_exceeded",
            Self::ContentFilter => "content_filter",
            Self::RateLimit => "rate_limit_exceeded",
            Self::Money => "insufficient_quota",
            Self::Overloaded => "server_is_overloaded",
            Self::Server => "server_error",
            Self::Timeout => "timeout",
        }
    }

    /// The `type` member in `dialect`.
    fn type_in(self, dialect: Dialect) -> &'static str {
        match (dialect, self) {
            (Dialect::OpenAi, Self::NotFound | Self::ModelNotFound | Self::Conflict | Self::TooLarge)
            | (_, Self::InvalidRequest | Self::ContextLength | Self::ContentFilter) => {
                "invalid_request_error"
            }
            (_, Self::Authentication) => "authentication_error",
            (_, Self::Permission) => "permission_error",
            (_, Self::NotFound | Self::ModelNotFound) => "not_found_error",
            (_, Self::Conflict) => "conflict_error",
            (_, Self::TooLarge) => "request_too_large",
            (_, Self::RateLimit) => "rate_limit_error",
            (Dialect::OpenAi, Self::Money) => "insufficient_quota",
            (_, Self::Money) => "billing_error",
            (Dialect::OpenAi, Self::Overloaded) => "service_unavailable_error",
            (_, Self::Overloaded) => "overloaded_error",
            (Dialect::OpenAi, Self::Server) => "server_error",
            (_, Self::Server) => "api_error",
            (_, Self::Timeout) => "timeout_error",
        }
    }
}
