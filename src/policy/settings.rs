//! The numbers that decisions are made from: a plan compiled to small tables.
//!
//! Policy takes numbers indexed by small ids, not a config file, so that every mechanism can be tested and
//! simulated without one. The gateway compiles a [`Settings`] from each plan once; it is immutable, and shared by
//! all cores. Names stay in the plan; here a provider is known by its index and by a hash of its name.

use super::cooldown::CooldownSettings;

/// Targets in one chain, at most; the rest is a config error.
pub const CHAIN_MAX: usize = 16;
/// Upstream calls made for one exchange, at most.
pub const ATTEMPTS_MAX: usize = 16;
/// Keys of one provider, at most: eligibility is a 64-bit mask.
pub const KEYS_MAX: usize = 64;

/// One second, in the unit of every clock and duration here.
pub const SECOND_US: u64 = 1_000_000;

/// The limits on one provider's attempts. Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Name, connect and TLS together.
    pub connect_us: u64,
    /// From the start of an attempt to the first content-bearing event of a stream.
    pub first_token_us: u64,
    /// Between two events of a stream, or two reads of a body.
    pub token_gap_us: u64,
    /// From the arrival of the request to the end of its answer, retries and waits included.
    pub total_us: u64,
    /// `default_request_timeout_in_seconds`: the whole answer of one attempt, or its first token when streaming.
    pub attempt_us: Option<u64>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect_us: 2 * SECOND_US,
            first_token_us: 300 * SECOND_US,
            token_gap_us: 120 * SECOND_US,
            total_us: 600 * SECOND_US,
            attempt_us: None,
        }
    }
}

/// Retries on the same provider: Bifrost's `max_retries`, `retry_backoff_initial`, `retry_backoff_max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// Further attempts on the same target after a capacity failure, before the next target. 0: the next target
    /// is asked at once, which is faster than any wait whenever there is one.
    pub max_retries: u8,
    /// Wait before the first retry, microseconds; doubled for each further one, times 0.8 to 1.2.
    pub backoff_initial_us: u64,
    /// The longest wait, microseconds; also the longest Retry-After that is worth waiting for.
    pub backoff_max_us: u64,
}

impl Default for RetrySettings {
    fn default() -> Self {
        RetrySettings { max_retries: 0, backoff_initial_us: 500_000, backoff_max_us: 5 * SECOND_US }
    }
}

/// One credential.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeySettings {
    /// Share of this key among the keys of its provider that may be used; 0 makes it a standby, used when no key
    /// with a weight can be.
    pub weight: f64,
}

/// One provider.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderSettings {
    /// Hash of the provider's name ([`super::shared::identity`]), so that state survives a reload that reorders.
    pub identity: u64,
    /// Credentials, at most [`KEYS_MAX`]; none for a provider that needs none.
    pub keys: Vec<KeySettings>,
    /// Limits on its attempts.
    pub timeouts: Timeouts,
    /// Retries on it.
    pub retry: RetrySettings,
    /// How a 429 cools a key.
    pub cooldown: CooldownSettings,
}

impl ProviderSettings {
    /// A provider with every default, known by `name`.
    pub fn new(name: &str) -> Self {
        ProviderSettings {
            identity: super::shared::identity(name.as_bytes()),
            keys: Vec::new(),
            timeouts: Timeouts::default(),
            retry: RetrySettings::default(),
            cooldown: CooldownSettings::RATE,
        }
    }

    /// The same provider with these key weights.
    pub fn with_keys(mut self, weights: &[f64]) -> Self {
        assert!(weights.len() <= KEYS_MAX, "at most {KEYS_MAX} keys a provider");
        self.keys = weights.iter().map(|&weight| KeySettings { weight }).collect();
        self
    }
}

/// Everything policy needs to know of a plan.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// By [`super::ProviderId`].
    pub providers: Vec<ProviderSettings>,
}
