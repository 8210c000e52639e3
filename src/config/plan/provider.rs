//! Someone who answers, as the plan has it: where it is, what it speaks, its keys, and how it is treated.

use std::path::PathBuf;

use super::KeyId;
use crate::config::bounds::{Retry, Timeouts};
use crate::config::dialect::Dialect;
use crate::config::mechanisms::{Breaker, Bulkhead, Cooldown, RetryBudget};
use crate::config::secret::Secret;

/// Whether a provider is reached in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// The port a URL without one means.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    /// `http` or `https`.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// Where a provider is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// In the clear or not.
    pub scheme: Scheme,
    /// Lower-case name or address; an IPv6 address without its brackets.
    pub host: Box<str>,
    /// TCP port, 1 to 65535.
    pub port: u16,
}

impl Origin {
    /// The value of a `Host` field: brackets around IPv6, the port unless it is the scheme's own (RFC 9110 7.2).
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }
}

/// Someone who answers.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name in the file, in model names and in metrics.
    pub name: Box<str>,
    /// The APIs it speaks.
    pub dialect: Dialect,
    /// Where it is.
    pub origin: Origin,
    /// The path before `/chat/completions` or `/messages`: `""`, `/v1`, `/openai/v1`; no trailing slash.
    pub base_path: Box<str>,
    /// Its credentials; empty for a provider that wants none.
    pub keys: Vec<Key>,
    /// Timeouts of attempts at it.
    pub timeouts: Timeouts,
    /// How it is retried.
    pub retry: Retry,
    /// Fields added to every request to it; names in lower case.
    pub extra_headers: Vec<(Box<str>, Secret)>,
    /// Models the file declares for it. A declaration, not a restriction.
    pub models: Vec<Box<str>>,
    /// When its targets are left alone.
    pub breaker: Breaker,
    /// How long a 429 keeps a key out.
    pub cooldown: Cooldown,
    /// How much may be sent to it again.
    pub retry_budget: RetryBudget,
    /// How many calls it gets at a time.
    pub bulkhead: Bulkhead,
    /// Most connections to it from the process; `None` is no bound.
    pub max_connections: Option<u32>,
    /// An idle connection to it is closed after this.
    pub idle_ms: u64,
    /// PEM files with certificate authorities trusted beside the built-in ones.
    pub extra_ca: Vec<PathBuf>,
}

impl Provider {
    /// The share of requests that key `id` gets among all keys, 0 to 1.
    pub fn key_share(&self, id: KeyId) -> f64 {
        let sum: f64 = self.keys.iter().map(|key| key.weight).sum();
        self.keys.get(usize::from(id.0)).map_or(0.0, |key| key.weight / sum)
    }
}

/// One credential of a provider.
#[derive(Clone, Debug)]
pub struct Key {
    /// A name that is safe to print: the one in the file, else the variable, else `key-N` counted from 1.
    pub name: Box<str>,
    /// The credential; a valid field value (RFC 9110 5.5).
    pub secret: Secret,
    /// Weight as written, finite and not negative; its share is its fraction of the sum.
    pub weight: f64,
    /// When set, the only models this key may be used for, by the provider's own names.
    pub models: Option<Vec<Box<str>>>,
}

impl Key {
    /// Whether the key may be used for `model` (the provider's own name for it).
    pub fn allows(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|own| **own == *model))
    }
}
