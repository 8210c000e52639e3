//! One exchange as a line of JSON.
//!
//! What is not known or was not said is left out of the line. Durations are milliseconds with three decimals, which is
//! as exact as they are measured; money is whole nano-dollars, so that sums are exact.

use serde::{Serialize, Serializer};

use crate::dialect::ServiceTier;
use crate::dialect::date::push_rfc3339;
use crate::meter::outbox::{Attempt, Entry};
use crate::meter::record::Cost;

#[derive(Serialize)]
struct Line<'e> {
    time: &'e str,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'e str,
    api: &'e str,
    stream: bool,
    #[serde(skip_serializing_if = "is_zero")]
    status: u16,
    outcome: &'e str,
    source: &'e str,
    #[serde(skip_serializing_if = "str::is_empty")]
    code: &'e str,
    #[serde(skip_serializing_if = "str::is_empty")]
    asked: &'e str,
    route: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Tokens>,
    #[serde(skip_serializing_if = "is_false")]
    usage_missing: bool,
    /// Left out for the standard one.
    #[serde(skip_serializing_if = "str::is_empty")]
    service_tier: &'e str,
    cost: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_nano_usd: Option<u64>,
    duration_ms: Ms,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_token_ms: Option<Ms>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overhead_ms: Option<Ms>,
    #[serde(skip_serializing_if = "Ms::is_zero")]
    queued_ms: Ms,
    #[serde(skip_serializing_if = "is_false")]
    truncated: bool,
    #[serde(skip_serializing_if = "is_none")]
    client_retries: u8,
    #[serde(skip_serializing_if = "Who::is_empty")]
    who: Who<'e>,
    attempts: Attempts<'e>,
}

#[derive(Serialize)]
struct Tokens {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    output: u64,
    /// Part of `output`.
    reasoning: u64,
    /// Part of `cache_write`.
    #[serde(skip_serializing_if = "is_nought")]
    cache_write_long: u64,
    /// Part of `input`.
    #[serde(skip_serializing_if = "is_nought")]
    audio_input: u64,
    /// Part of `output`.
    #[serde(skip_serializing_if = "is_nought")]
    audio_output: u64,
}

#[derive(Serialize)]
struct Tried<'e> {
    provider: &'e str,
    model: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'e str>,
    reason: &'e str,
    result: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "str::is_empty")]
    fault: &'e str,
    after_ms: Ms,
    ms: Ms,
    #[serde(skip_serializing_if = "is_false")]
    answers: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<Lost>,
}

#[derive(Serialize)]
struct Lost {
    tokens: u64,
    nano_usd: u64,
    estimated_nano_usd: u64,
}

/// Microseconds, written as milliseconds.
struct Ms(u64);

impl Ms {
    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl Serialize for Ms {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // Exact to the microsecond up to 285 years.
        to.serialize_f64(self.0 as f64 / 1000.0)
    }
}

struct Who<'e>(&'e [(&'e str, &'e str)]);

impl Who<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Who<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().copied())
    }
}

struct Attempts<'e>(&'e [Attempt<'e>]);

impl Serialize for Attempts<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(tried))
    }
}

fn tried<'e>(attempt: &Attempt<'e>) -> Tried<'e> {
    let spend = attempt.spend;
    let lost = Lost {
        tokens: spend.tokens,
        nano_usd: spend.reported_nano_usd,
        estimated_nano_usd: spend.estimated_nano_usd,
    };
    let any = lost.tokens > 0 || lost.nano_usd > 0 || lost.estimated_nano_usd > 0;
    Tried {
        provider: attempt.target.provider,
        model: attempt.target.model,
        key: attempt.target.key,
        reason: attempt.reason,
        result: attempt.result,
        status: attempt.status,
        fault: attempt.fault,
        after_ms: Ms(attempt.after_us),
        ms: Ms(attempt.elapsed_us),
        answers: attempt.answers,
        lost: any.then_some(lost),
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u16) -> bool {
    *value == 0
}

fn is_nought(count: &u64) -> bool {
    *count == 0
}

fn is_none(value: &u8) -> bool {
    *value == 0
}

/// Appends the line of an exchange that ended at `unix_us`, with its line break.
pub fn write_line(entry: &Entry<'_>, unix_us: u64, out: &mut Vec<u8>) {
    let mut time = Vec::with_capacity(24);
    push_rfc3339(&mut time, unix_us / 1_000_000);
    time.pop();
    time.extend_from_slice(format!(".{:03}Z", unix_us / 1_000 % 1_000).as_bytes());
    let by = entry.answered;
    let line = Line {
        time: std::str::from_utf8(&time).unwrap_or_default(),
        id: entry.id,
        api: entry.api,
        stream: entry.stream,
        status: entry.status,
        outcome: entry.outcome,
        source: entry.source,
        code: entry.code,
        asked: entry.asked,
        route: entry.route,
        provider: by.map(|by| by.provider),
        model: by.map(|by| by.model),
        key: by.and_then(|by| by.key),
        tokens: entry.usage.map(|usage| Tokens {
            input: usage.input,
            cache_read: usage.cache_read,
            cache_write: usage.cache_write,
            output: usage.output,
            reasoning: usage.reasoning,
            cache_write_long: usage.cache_write_long,
            audio_input: usage.audio_in,
            audio_output: usage.audio_out,
        }),
        usage_missing: entry.usage_missing,
        service_tier: entry.usage.map_or("", |usage| match usage.tier {
            ServiceTier::Standard => "",
            tier => tier.label(),
        }),
        cost: match entry.cost {
            Cost::Unknown => "unknown",
            Cost::Unpriced => "unpriced",
            Cost::Priced(_) => "priced",
        },
        cost_nano_usd: if let Cost::Priced(nano_usd) = entry.cost { Some(nano_usd) } else { None },
        duration_ms: Ms(entry.duration_us),
        first_token_ms: entry.first_token_us.map(Ms),
        overhead_ms: entry.overhead_us.map(Ms),
        queued_ms: Ms(entry.queued_us),
        truncated: entry.truncated,
        client_retries: entry.client_retries,
        who: Who(&entry.who),
        attempts: Attempts(&entry.attempts),
    };
    let before = out.len();
    // Writing to memory does not fail, and every key is text.
    match serde_json::to_writer(&mut *out, &line) {
        Ok(()) => out.push(b'\n'),
        Err(_) => out.truncate(before),
    }
}
