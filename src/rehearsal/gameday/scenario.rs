//! What a scenario is made of. Times are those of the unscaled clock.

use std::time::Duration;

use super::load::Load;

/// A gateway's own clocks are made at most so much faster: requests do not come more often on a fast clock, and with still
/// shorter pauses the calls that look whether a provider is back would be a large share of all.
const OWN_SCALE_LEAST: f64 = 0.1;

/// One bad day: who misbehaves, who asks, and what must hold.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name on the command line.
    pub id: &'static str,
    /// One line for the list.
    pub title: &'static str,
    /// The providers in the order of the chain; the first is the one asked for.
    pub providers: Vec<ProviderPlan>,
    /// What the clients send.
    pub load: Load,
    /// What the gateway's configuration must contain besides providers and a chain.
    pub wishes: Vec<Wish>,
    /// When the fault ends, for bars about recovery.
    pub healthy_from: Option<Duration>,
    /// What must hold.
    pub bars: Vec<Bar>,
}

/// One scripted provider of a scenario.
#[derive(Debug, Clone)]
pub struct ProviderPlan {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Its fault program.
    pub program: &'static str,
    /// Its API keys; none sends none.
    pub keys: &'static [&'static str],
    /// Written instead of the provider's own address; for names that do not resolve.
    pub host: Option<&'static str>,
    /// It speaks the Anthropic dialect alone; else the OpenAI dialect alone.
    pub anthropic: bool,
}

/// Something the gateway must be configured with.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Wish {
    /// How long a connection may take to be made.
    ConnectTimeout(Duration),
    /// `default_request_timeout_in_seconds`.
    AttemptTimeout(Duration),
    /// Longest silence between two events.
    TokenGap(Duration),
    /// A call whose first token takes longer is slow, and enough slow ones open the breaker.
    SlowCall(Duration),
    /// So many failed requests of one build step end the step.
    StepFailures(u32),
    /// A failed call is not made again to the same provider.
    NoRetries,
}

/// What must hold at the end of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Bar {
    /// Requests whose client did not get a whole good answer.
    Lost {
        /// At most so many.
        at_most: u64,
    },
    /// Requests that got a whole good answer.
    Answered {
        /// At least this share of all.
        at_least: f64,
    },
    /// Streams that ended as if they were whole and were not.
    FalseEnds,
    /// Upstream calls for each client request.
    Amplification {
        /// At most so many.
        at_most: f64,
    },
    /// Calls of a key inside a `Retry-After` window that was given to it, the ones in flight excepted.
    InsideRetryAfter,
    /// What the providers bill, over what the same answers cost when all is well.
    Spend {
        /// At most so many times.
        at_most: f64,
    },
    /// Every whole good answer came within this time, counted from when its request was due.
    SlowestAnswer {
        /// The time on the unscaled clock.
        at_most: Duration,
    },
    /// The 99th percentile of whole good answers, of requests due after `after`.
    SlowAnswers {
        /// The time on the unscaled clock.
        at_most: Duration,
        /// The requests due from then on.
        after: Duration,
    },
    /// The 99th percentile of the time to a refusal, of requests due after `after`. Not scaled: it is the gateway's own.
    RefusedWithin {
        /// The time on the real clock.
        at_most: Duration,
        /// The requests due from then on.
        after: Duration,
    },
    /// Every refusal due after `after` says in 1 to 60 s when to come back.
    RetryAfterTold {
        /// The requests due from then on.
        after: Duration,
    },
    /// Calls to the first provider from `after` until it is healthy.
    ProbesWhileDown {
        /// At most so many.
        at_most: u64,
        /// The calls from then on; those before opened the breaker.
        after: Duration,
    },
    /// The first good answer of the first provider after it is healthy. The gateway's own clock decides: the bar is
    /// scaled only when that is.
    RecoveredWithin {
        /// The time on the gateway's clock.
        at_most: Duration,
    },
    /// The first provider gets four fifths of the steady rate again, after it is healthy.
    FullShareWithin {
        /// The time on the gateway's clock.
        at_most: Duration,
    },
    /// Calls to the first provider in any second after it is healthy, over its steady rate.
    NoRush {
        /// At most so many times.
        at_most: f64,
    },
    /// Calls to the first provider with the key that ends so.
    CallsWithKey {
        /// Last characters of the key.
        key: &'static str,
        /// At most so many.
        at_most: u64,
    },
    /// Calls to all providers.
    UpstreamCalls {
        /// At most so many.
        at_most: u64,
    },
    /// Exchanges that a provider still has in progress a second after the last client left.
    NothingLeftOpen,
}

impl Scenario {
    /// The clock of the gateway's own breakers and cooldowns in a run at `scale`: faster only on days that wait for a
    /// recovery, at most ten times.
    pub fn own_scale(&self, scale: f64) -> f64 {
        if self.healthy_from.is_some() { scale.clamp(OWN_SCALE_LEAST, 1.0) } else { 1.0 }
    }

    /// How long new requests are sent, on the real clock, when the gateway's own clocks run at `own_scale`.
    pub fn lasts(&self, scale: f64, own_scale: f64) -> Duration {
        let tail = self.load.tail.mul_f64(own_scale);
        let recovered = self.healthy_from.map_or(Duration::ZERO, |from| from.mul_f64(scale) + tail);
        self.load.duration.mul_f64(scale).max(self.load.least).max(recovered)
    }
}

impl ProviderPlan {
    /// A provider that is well.
    pub const fn well(name: &'static str) -> ProviderPlan {
        ProviderPlan { name, program: "ok", keys: &["sk-rehearsal-first-0001"], host: None, anthropic: false }
    }

    /// A provider that runs this program.
    pub const fn ill(name: &'static str, program: &'static str) -> ProviderPlan {
        ProviderPlan { program, ..ProviderPlan::well(name) }
    }
}
