//! Records for the tests of whoever reads them.

use crate::dialect::{Api, ServiceTier, Usage};
use crate::meter::record::{Answered, Cost, Outcome, Record, Source, Spend, Tried};
use crate::meter::trace::{Context, Traced};
use crate::policy::{Fault, Reason, What};

/// An exchange that was answered at once.
pub const PLAIN: Record<'static> = Record {
    api: Api::ChatCompletions,
    stream: false,
    status: 200,
    outcome: Outcome::Ok,
    source: Source::Provider,
    code: "",
    route: "none",
    asked: "gpt-4o-mini",
    answered: Some(Answered { provider: "openai", model: "gpt-4o-mini", key: Some("main") }),
    usage: Some(Usage {
        input: 100,
        cache_read: 20,
        cache_write: 0,
        cache_write_long: 0,
        output: 30,
        reasoning: 5,
        audio_in: 0,
        audio_out: 0,
        tier: ServiceTier::Flex,
    }),
    usage_missing: false,
    cost: Cost::Priced(34_500),
    started_us: 1_000_000,
    duration_us: 250_000,
    first_token_us: None,
    generating_us: None,
    overhead_us: Some(45),
    queued_us: 0,
    truncated: false,
    client_retries: 0,
    tried: &[TRIED],
    who: ["nightly", "triage", "core", "", "", "", "", "", "", "", ""],
    labels: &[],
    trace: None,
};

/// The call that answered it.
pub const TRIED: Tried<'static> = Tried {
    target: Answered { provider: "openai", model: "gpt-4o-mini", key: Some("main") },
    reason: Reason::First,
    what: What::Answered,
    fault: None,
    after_us: 30,
    elapsed_us: 249_900,
    answers: true,
    spend: Spend { tokens: 0, reported_nano_usd: 0, estimated_nano_usd: 0, aborted: false },
    server: ("api.openai.com", 443),
};

/// A call that broke after it was billed.
pub const FAILED: Tried<'static> = Tried {
    target: Answered { provider: "azure", model: "gpt-4o-mini", key: None },
    reason: Reason::First,
    what: What::Status(503),
    fault: Some(Fault::Capacity),
    after_us: 25,
    elapsed_us: 1_500,
    answers: false,
    spend: Spend { tokens: 7, reported_nano_usd: 700, estimated_nano_usd: 9_000, aborted: true },
    server: ("azure.example", 8443),
};

/// What its trace says.
pub const TRACED: Traced<'static> = Traced {
    context: Context { trace: [0xa5; 16], span: 3, parent: 0, flags: 1 },
    first_content_us: None,
    finish: "stop",
    model: "gpt-4o-mini-2024-07-18",
};
