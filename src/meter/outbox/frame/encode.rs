//! Writes a record as a frame, on the core that made it, into memory that it keeps.

use super::{
    ABSENT, ANSWERED, KEYED, NUMBERS, PRICED, STREAM, TEXT_MAX, TRUNCATED, UNPRICED, USAGE, USAGE_MISSING,
};
use crate::dialect::Api;
use crate::meter::outbox::beginning;
use crate::meter::record::{Answered, Cost, Record, Source, Tried};
use crate::meter::trace::Traced;
use crate::policy::Fault;

/// The names of the first values of who asked.
const OWN: [&str; 3] = ["pipeline", "step", "team"];

/// Writes `r` into `out`, whose content is replaced. `dims` are the names of the declared dimensions.
pub fn encode(id: &str, r: &Record<'_>, dims: &[Box<str>], out: &mut Vec<u8>) {
    out.clear();
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    let (cost, priced) = match r.cost {
        Cost::Unknown => (0, 0),
        Cost::Unpriced => (0, UNPRICED),
        Cost::Priced(nano_usd) => (nano_usd, PRICED),
    };
    out.push(
        flag(r.stream, STREAM)
            | flag(r.usage.is_some(), USAGE)
            | flag(r.usage_missing, USAGE_MISSING)
            | priced
            | flag(r.truncated, TRUNCATED)
            | flag(r.answered.is_some(), ANSWERED)
            | flag(r.answered.is_some_and(|by| by.key.is_some()), KEYED),
    );
    let usage = r.usage.unwrap_or_default();
    let numbers: [u64; NUMBERS] = [
        u64::from(r.status) | u64::from(r.client_retries) << 16 | u64::from(usage.tier.code()) << 24,
        usage.input,
        usage.cache_read,
        usage.cache_write,
        usage.cache_write_long,
        usage.output,
        usage.reasoning,
        usage.audio_in,
        usage.audio_out,
        cost,
        r.started_us,
        r.duration_us,
        r.first_token_us.unwrap_or(ABSENT),
        r.generating_us.unwrap_or(ABSENT),
        r.overhead_us.unwrap_or(ABSENT),
        r.queued_us,
    ];
    write_numbers(numbers, out);
    let by = r.answered.unwrap_or(NOBODY);
    for text in [
        id,
        api_label(r.api),
        r.outcome.label(),
        source_label(r.source),
        r.code,
        r.route,
        r.asked,
        by.provider,
        by.model,
        by.key.unwrap_or_default(),
    ] {
        write_text(text, out);
    }
    let said = r.who.iter().enumerate().filter(|(_, value)| !value.is_empty());
    let at = out.len();
    out.push(0);
    for (index, value) in said {
        let name = OWN.get(index).copied().or_else(|| dims.get(index - OWN.len()).map(|name| &**name));
        let Some(name) = name else { continue };
        out[at] += 1;
        write_text(name, out);
        write_text(value, out);
    }
    out.push(r.tried.len().min(TEXT_MAX) as u8);
    r.tried.iter().take(TEXT_MAX).for_each(|tried| write_attempt(tried, out));
    out.push(u8::from(r.trace.is_some()));
    if let Some(trace) = &r.trace {
        write_trace(trace, r.tried, out);
    }
}

fn write_trace(trace: &Traced<'_>, tried: &[Tried<'_>], out: &mut Vec<u8>) {
    let context = &trace.context;
    out.extend_from_slice(&context.trace);
    out.push(context.flags);
    write_numbers([context.span, context.parent, trace.first_content_us.unwrap_or(ABSENT)], out);
    write_text(trace.finish, out);
    write_text(trace.model, out);
    for (host, port) in tried.iter().take(TEXT_MAX).map(|tried| tried.server) {
        write_text(host, out);
        out.extend_from_slice(&port.to_le_bytes());
    }
}

const NOBODY: Answered<'static> = Answered { provider: "", model: "", key: None };

fn write_attempt(tried: &Tried<'_>, out: &mut Vec<u8>) {
    let status = match tried.what {
        crate::policy::What::Status(status) => status,
        _ => 0,
    };
    out.push(
        u8::from(tried.answers)
            | u8::from(tried.target.key.is_some()) << 1
            | u8::from(tried.spend.aborted) << 2,
    );
    out.extend_from_slice(&status.to_le_bytes());
    let spend = tried.spend;
    write_numbers(
        [tried.after_us, tried.elapsed_us, spend.tokens, spend.reported_nano_usd, spend.estimated_nano_usd],
        out,
    );
    for text in [
        tried.target.provider,
        tried.target.model,
        tried.target.key.unwrap_or_default(),
        tried.reason.label(),
        tried.what.label(),
        tried.fault.map_or("", |fault| fault_label(fault)),
    ] {
        write_text(text, out);
    }
}

fn write_numbers<const N: usize>(numbers: [u64; N], out: &mut Vec<u8>) {
    out.extend_from_slice(numbers.map(u64::to_le_bytes).as_flattened());
}

#[inline]
fn write_text(text: &str, out: &mut Vec<u8>) {
    let text = beginning(text, TEXT_MAX);
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// The stable word for an endpoint.
pub fn api_label(api: Api) -> &'static str {
    match api {
        Api::ChatCompletions => "chat_completions",
        Api::Completions => "completions",
        Api::Embeddings => "embeddings",
        Api::Responses => "responses",
        Api::Messages => "messages",
        Api::CountTokens => "count_tokens",
        Api::Models => "models",
        Api::Other => "other",
    }
}

fn source_label(source: Source) -> &'static str {
    match source {
        Source::Gateway => "gateway",
        Source::Provider => "provider",
        Source::Static => "static",
        Source::Replay => "replay",
    }
}

fn fault_label(fault: Fault) -> &'static str {
    match fault {
        Fault::Caller => "caller",
        Fault::Key => "key",
        Fault::Money => "money",
        Fault::Rate => "rate",
        Fault::Capacity => "capacity",
        Fault::ContextLength => "context_length",
        Fault::Model => "model",
        Fault::Answer => "answer",
        Fault::Deadline => "deadline",
    }
}
