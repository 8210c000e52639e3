//! What each mechanism of the policy engine is set to, as plain numbers.
//!
//! `policy` compiles these to its own settings; what each mechanism prevents and costs is said there and in
//! `docs/resilience.md`. Durations are milliseconds. A value that a file leaves out comes from
//! [`defaults`](super::defaults), key by key: the entry of `fallbacks` or the provider first, then the top level, then the
//! default.
//!
//! Invariants, checked where they are read: percents are 0 to 100, first times are not longer than longest ones.

use super::bounds::Timeouts;
use super::checks::Check;
use super::defaults;

/// When a target is left alone, and how it is let back in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row that open it.
    pub failures_in_row: u32,
    /// Share of failures within 10 s that opens it, percent.
    pub failure_percent: u32,
    /// Calls within 10 s below which no share is taken.
    pub calls_min: u32,
    /// A call whose first content took longer is slow; `None`: latency is no fault.
    pub slow_call_ms: Option<u64>,
    /// Share of slow calls within 10 s that opens it, percent.
    pub slow_percent: u32,
    /// Input tokens of large prompts burnt in failed calls within 10 s that open it; `None`: failures all weigh the same.
    pub tokens_burnt: Option<u64>,
    /// Share of failures below which burnt tokens do not open it, percent.
    pub tokens_failure_percent: u32,
    /// First open time; doubled for each further one.
    pub open_min_ms: u64,
    /// Longest open time.
    pub open_max_ms: u64,
    /// Time over which the share grows back after a successful probe.
    pub ramp_ms: u64,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker {
            failures_in_row: defaults::BREAKER_FAILURES_IN_ROW,
            failure_percent: defaults::BREAKER_FAILURE_PERCENT,
            calls_min: defaults::BREAKER_CALLS_MIN,
            slow_call_ms: None,
            slow_percent: defaults::BREAKER_SLOW_PERCENT,
            tokens_burnt: Some(defaults::BREAKER_TOKENS_BURNT),
            tokens_failure_percent: defaults::BREAKER_TOKENS_FAILURE_PERCENT,
            open_min_ms: defaults::BREAKER_OPEN_MIN_MS,
            open_max_ms: defaults::BREAKER_OPEN_MAX_MS,
            ramp_ms: defaults::BREAKER_RAMP_MS,
        }
    }
}

/// How long a 429 keeps a key out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooldown {
    /// Rest after a refusal without a hint; doubled for each further one.
    pub initial_ms: u64,
    /// Longest rest without a hint.
    pub max_ms: u64,
    /// Longest rest a provider can ask for.
    pub cap_ms: u64,
}

impl Default for Cooldown {
    fn default() -> Self {
        Cooldown {
            initial_ms: defaults::COOLDOWN_INITIAL_MS,
            max_ms: defaults::COOLDOWN_MAX_MS,
            cap_ms: defaults::COOLDOWN_CAP_MS,
        }
    }
}

/// How much may be sent to a provider again. The larger of the share and the floor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Extra calls a hundred requests earn.
    pub percent: u32,
    /// Extra calls a second that low traffic may make.
    pub per_second: u32,
    /// Extra calls that may be saved up.
    pub burst: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget {
            percent: defaults::RETRY_BUDGET_PERCENT,
            per_second: defaults::RETRY_BUDGET_PER_SECOND,
            burst: defaults::RETRY_BUDGET_BURST,
        }
    }
}

/// How many calls a provider gets at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulkhead {
    /// Calls in flight over all cores; `None` is no bound.
    pub concurrent: Option<u32>,
    /// Calls that may wait for a place.
    pub queue: u32,
    /// How long they may wait.
    pub queue_wait_ms: u64,
}

impl Default for Bulkhead {
    fn default() -> Self {
        Bulkhead {
            concurrent: None,
            queue: defaults::BULKHEAD_QUEUE,
            queue_wait_ms: defaults::BULKHEAD_QUEUE_WAIT_MS,
        }
    }
}

/// Second calls for slow first ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// Hedges a hundred requests may have, at most.
    pub percent: u32,
    /// No hedge before this.
    pub delay_min_ms: u64,
}

impl Default for Hedge {
    fn default() -> Self {
        Hedge { percent: defaults::HEDGE_PERCENT, delay_min_ms: defaults::HEDGE_DELAY_MIN_MS }
    }
}

/// How targets that are equals share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// By their weights.
    #[default]
    Weighted,
    /// By their time to the first token and the calls they are busy with (peak-EWMA).
    Latency,
}

impl Balance {
    /// The names a file uses.
    pub const NAMES: [(&'static str, Balance); 2] =
        [("weighted", Balance::Weighted), ("latency", Balance::Latency)];

    /// The name a file uses.
    pub fn name(self) -> &'static str {
        match self {
            Balance::Weighted => "weighted",
            Balance::Latency => "latency",
        }
    }
}

/// Timeouts of one route, over those of the provider that an attempt goes to. `None` leaves the provider's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteTimeouts {
    /// Dial, TLS included.
    pub connect_ms: Option<u64>,
    /// First content-bearing event of a stream.
    pub first_token_ms: Option<u64>,
    /// Silence between two events of a stream.
    pub token_gap_ms: Option<u64>,
    /// The whole exchange on this route, and so each of its attempts.
    pub total_ms: Option<u64>,
    /// One attempt: the whole answer when not streaming, the first token when streaming.
    pub attempt_ms: Option<u64>,
}

impl RouteTimeouts {
    /// The timeouts of an attempt on the route at a provider with the timeouts `base`.
    pub fn over(&self, base: &Timeouts) -> Timeouts {
        Timeouts {
            connect_ms: self.connect_ms.unwrap_or(base.connect_ms),
            first_token_ms: self.first_token_ms.unwrap_or(base.first_token_ms),
            token_gap_ms: self.token_gap_ms.unwrap_or(base.token_gap_ms),
            total_ms: self.total_ms.unwrap_or(base.total_ms),
            attempt_ms: self.attempt_ms.or(base.attempt_ms),
        }
    }
}

/// What a request gets whose model has no entry in `fallbacks`, and what an entry gets that sets nothing itself.
#[derive(Clone, Debug, Default)]
pub struct RouteDefaults {
    /// How equals share.
    pub balance: Balance,
    /// Second calls; `None`: off.
    pub hedge: Option<Hedge>,
    /// What an answer must pass; empty: everything passes.
    pub checks: Vec<Check>,
}

/// Index of a configured answer in [`Plan::statics`](super::Plan::statics).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct StaticId(pub u16);

/// A configured answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticAnswer {
    /// The name after `static/`.
    pub name: Box<str>,
    /// What the assistant says.
    pub content: Box<str>,
    /// The model that the answer names.
    pub model: Box<str>,
}

/// What one step of a build or an agent may lose; `None` is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StepBudget {
    /// Failed exchanges.
    pub failures: Option<u32>,
    /// Money over all its calls, nano-dollars.
    pub nano_usd: Option<u64>,
    /// Time since its first call.
    pub time_ms: Option<u64>,
    /// What a step gets that is used up; `None`: an error.
    pub answer: Option<StaticId>,
}

/// How long answers are kept for callers that send an `Idempotency-Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// How long a finished answer is kept.
    pub keep_ms: u64,
    /// Keys at a time.
    pub entries: u32,
    /// Bytes of kept answers.
    pub bytes: u64,
}

impl Default for Idempotency {
    fn default() -> Self {
        Idempotency {
            keep_ms: defaults::IDEMPOTENCY_KEEP_MS,
            entries: defaults::IDEMPOTENCY_ENTRIES,
            bytes: defaults::IDEMPOTENCY_BYTES,
        }
    }
}

/// What the file says of one model; goes before the price list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Context window in tokens.
    pub context_tokens: Option<u32>,
    /// What its tokens cost.
    pub price: Option<ModelPrice>,
}

/// What a token of each kind costs, pico-dollars: a dollar a million tokens is 1,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelPrice {
    /// Input read for the first time.
    pub input: u32,
    /// Input found in the provider's cache; the price of other input unless stated.
    pub cache_read: u32,
    /// Input written to the provider's cache; the price of other input unless stated.
    pub cache_write: u32,
    /// Output, reasoning included.
    pub output: u32,
    /// What is priced apart.
    pub extras: PriceExtras,
}

/// What some tokens cost that are priced apart, pico-dollars, and what service tiers cost, thousandths of the standard
/// price. What is not stated costs as the tokens that it is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PriceExtras {
    /// Input written to the provider's cache for an hour or more.
    pub cache_write_long: Option<u32>,
    /// Audio in the prompt.
    pub audio_input: Option<u32>,
    /// Audio in the answer.
    pub audio_output: Option<u32>,
    /// Output spent on reasoning.
    pub reasoning: Option<u32>,
    /// The slow, cheap tier.
    pub flex: Option<u16>,
    /// The fast, dear tier.
    pub priority: Option<u16>,
    /// Batches.
    pub batch: Option<u16>,
}
