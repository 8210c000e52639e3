//! One finished exchange, as everything that counts, logs or books it sees it.
//!
//! Plain data, borrowed from the exchange for the length of a call: names are spelled out, so that a consumer needs no
//! plan to understand it, and nothing is copied for a consumer that only counts. Whoever keeps it copies what it keeps.
//!
//! Leaves out: prompts, answers and secrets, which no consumer may have.

use crate::config::WhoLabel;
use crate::dialect::{Api, Usage};
use crate::policy::{Fault, Reason, What};

use super::trace::Traced;

/// Values that say who asked: pipeline, step, team, then up to eight declared dimensions.
pub const WHO_MAX: usize = 3 + crate::config::DIMS_MAX;

/// What became of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The client has its whole answer: a provider's, a configured one, or a kept one.
    Ok,
    /// A provider blamed the request; the client was told.
    ClientError,
    /// Providers failed: there was no answer, or it broke off in the middle.
    UpstreamError,
    /// The gateway turned the request away and asked no provider; the reason says why.
    Rejected,
    /// The client left before its answer was whole.
    Aborted,
}

impl Outcome {
    /// The stable word for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::ClientError => "client_error",
            Outcome::UpstreamError => "upstream_error",
            Outcome::Rejected => "rejected",
            Outcome::Aborted => "aborted",
        }
    }
}

/// Where the answer came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// The gateway itself: an error of its own, or nothing at all.
    #[default]
    Gateway,
    /// A provider: an answer, or an error passed on.
    Provider,
    /// The configuration: a static answer.
    Static,
    /// An answer kept for its idempotency key.
    Replay,
}

/// What something cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cost {
    /// The provider said nothing of tokens, so nothing is known.
    #[default]
    Unknown,
    /// Tokens are known and their price is not. Not free.
    Unpriced,
    /// Nano-dollars, from the provider's own count of tokens.
    Priced(u64),
}

/// The provider, model and key that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered<'r> {
    /// The provider's name in the plan.
    pub provider: &'r str,
    /// The model it was asked for, by its own name.
    pub model: &'r str,
    /// The name of the key, never the key; `None` for a provider that needs none.
    pub key: Option<&'r str>,
}

/// What an attempt used up that did not become a whole answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spend {
    /// Tokens that the provider reported for it.
    pub tokens: u64,
    /// What they cost, nano-dollars; 0 when nothing was reported or nothing is priced.
    pub reported_nano_usd: u64,
    /// Without a report, what its prompt costs if it was billed, by the size of the request: the attempt was taken in and
    /// then broke, or was cancelled because the other one of its pair won or the client left. Nano-dollars.
    pub estimated_nano_usd: u64,
    /// The client left, and that is why.
    pub aborted: bool,
}

/// One upstream call of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried<'r> {
    /// Who was called.
    pub target: Answered<'r>,
    /// Why.
    pub reason: Reason,
    /// What came of it.
    pub what: What,
    /// Whose fault; `None` when it was nobody's.
    pub fault: Option<Fault>,
    /// From the exchange's start to the call's, microseconds.
    pub after_us: u64,
    /// How long it took, microseconds.
    pub elapsed_us: u64,
    /// It is the one that answers.
    pub answers: bool,
    /// What it used up for nothing.
    pub spend: Spend,
    /// Where the provider is: host and port.
    pub server: (&'r str, u16),
}

/// Who asked, as the request's headers said: pipeline, step, team, then the declared dimensions in the plan's order. An
/// empty value was not said. Values are printable, at most 256 bytes each.
pub type Who<'r> = [&'r str; WHO_MAX];

/// One finished exchange.
#[derive(Clone, Copy, Debug)]
pub struct Record<'r> {
    /// The endpoint.
    pub api: Api,
    /// The client asked for a stream.
    pub stream: bool,
    /// The status that the client was given; 0 when it left before one.
    pub status: u16,
    /// What became of it.
    pub outcome: Outcome,
    /// Where the answer came from.
    pub source: Source,
    /// The stable code of the gateway's own error; empty when there was none.
    pub code: &'r str,
    /// The route whose chain was walked; `none` without one.
    pub route: &'r str,
    /// The model that the client named; empty when the request did not get that far.
    pub asked: &'r str,
    /// Who answered.
    pub answered: Option<Answered<'r>>,
    /// Tokens of the answer, as the provider counted them.
    pub usage: Option<Usage>,
    /// The answer is of a kind that reports its tokens, some of it was delivered, and no report came.
    pub usage_missing: bool,
    /// What the answer cost.
    pub cost: Cost,
    /// When the request's first byte came, gateway clock.
    pub started_us: u64,
    /// From there to the end of the answer, microseconds.
    pub duration_us: u64,
    /// From sending the request that was answered to its first content, microseconds. Streams only.
    pub first_token_us: Option<u64>,
    /// From the first content to the end, microseconds; of streams that ended whole.
    pub generating_us: Option<u64>,
    /// The gateway's own time in it, microseconds. Known when the first attempt answered.
    pub overhead_us: Option<u64>,
    /// Time spent waiting for a place at a full provider, microseconds.
    pub queued_us: u64,
    /// The answer broke off after some of it was delivered.
    pub truncated: bool,
    /// How often the client's SDK had sent the request before, as it says.
    pub client_retries: u8,
    /// Every upstream call, in order.
    pub tried: &'r [Tried<'r>],
    /// Who asked.
    pub who: Who<'r>,
    /// Which of that the plan makes labels.
    pub labels: &'r [WhoLabel],
    /// What its trace says, when that is to be sent.
    pub trace: Option<Traced<'r>>,
}
