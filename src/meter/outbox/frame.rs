//! A record as bytes, and back as plain borrowed data.
//!
//! ```text
//! flags | NUMBERS of 8 bytes | texts of the exchange | who: bits, then name and value of each bit |
//! attempts: count, then each: flags, status, ATTEMPT_NUMBERS of 8 bytes, texts |
//! trace: 0, or 1 and: id, flags, numbers, texts, host and port of each attempt
//! ```
//!
//! A text is its length in one byte and its bytes; longer ones are cut at a character. Both sides are one build of one
//! program, so the form may change freely; still nothing here trusts it further than a failed read.
//!
//! Leaves out: prompts, answers, secrets. A [`Record`] has none.

use super::beginning;
use crate::dialect::{Api, ServiceTier, Usage};
use crate::meter::record::{Answered, Cost, Outcome, Record, Source, Spend, Tried, WHO_MAX};
use crate::meter::trace::{Context, Traced};
use crate::policy::Fault;

/// Longest text that is kept, bytes.
const TEXT_MAX: usize = 255;
const NUMBERS: usize = 16;
const ATTEMPT_NUMBERS: usize = 5;
/// What stands for a number that is not known; no duration is as long.
const ABSENT: u64 = u64::MAX;
/// The names of the first values of who asked.
const OWN: [&str; 3] = ["pipeline", "step", "team"];

const STREAM: u8 = 1;
const USAGE: u8 = 2;
const USAGE_MISSING: u8 = 4;
const PRICED: u8 = 8;
const UNPRICED: u8 = 16;
const TRUNCATED: u8 = 32;
const ANSWERED: u8 = 64;
const KEYED: u8 = 128;

/// One finished exchange as the writer sees it: what a [`Record`] says, with words for the words of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'b> {
    /// The request id that the client was given; empty without one.
    pub id: &'b str,
    /// The endpoint.
    pub api: &'b str,
    /// The client asked for a stream.
    pub stream: bool,
    /// The status that the client was given; 0 when it left before one.
    pub status: u16,
    /// What became of it.
    pub outcome: &'b str,
    /// Where the answer came from.
    pub source: &'b str,
    /// The code of the gateway's own error; empty without one.
    pub code: &'b str,
    /// The route.
    pub route: &'b str,
    /// The model that the client named.
    pub asked: &'b str,
    /// Who answered.
    pub answered: Option<Answered<'b>>,
    /// Tokens of the answer.
    pub usage: Option<Usage>,
    /// The answer should have reported tokens and did not.
    pub usage_missing: bool,
    /// What the answer cost.
    pub cost: Cost,
    /// When the request's first byte came, gateway clock.
    pub started_us: u64,
    /// From there to the end, microseconds.
    pub duration_us: u64,
    /// Microseconds to the first content.
    pub first_token_us: Option<u64>,
    /// Microseconds from there to the end.
    pub generating_us: Option<u64>,
    /// The gateway's own time, microseconds.
    pub overhead_us: Option<u64>,
    /// Time spent waiting for a place, microseconds.
    pub queued_us: u64,
    /// The answer broke off.
    pub truncated: bool,
    /// How often the SDK had sent it before.
    pub client_retries: u8,
    /// Every upstream call.
    pub attempts: Vec<Attempt<'b>>,
    /// Who asked: names and values, pipeline, step and team first; what was not said is left out.
    pub who: Vec<(&'b str, &'b str)>,
    /// Its trace, when that is sent.
    pub trace: Option<Trace<'b>>,
}

/// What an exchange says for its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace<'b> {
    /// Its place in the trace.
    pub context: Context,
    /// When the first content came, microseconds after the exchange began.
    pub first_content_us: Option<u64>,
    /// Why the model stopped; empty when it did not say.
    pub finish: &'b str,
    /// The model that the answer names; empty when it names none.
    pub model: &'b str,
    /// Host and port of each attempt.
    pub servers: Vec<(&'b str, u16)>,
}

/// One upstream call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'b> {
    /// Who was called.
    pub target: Answered<'b>,
    /// Why.
    pub reason: &'b str,
    /// What came of it.
    pub result: &'b str,
    /// The HTTP status, when that is what failed it.
    pub status: Option<u16>,
    /// Whose fault; empty when nobody's.
    pub fault: &'b str,
    /// From the exchange's start, microseconds.
    pub after_us: u64,
    /// How long it took, microseconds.
    pub elapsed_us: u64,
    /// It is the one that answers.
    pub answers: bool,
    /// What it used up for nothing.
    pub spend: Spend,
}

impl Entry<'_> {
    /// The value of who asked called `name`; empty when it was not said.
    pub fn who(&self, name: &str) -> &str {
        self.who.iter().find(|(own, _)| *own == name).map_or("", |(_, value)| value)
    }
}

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

/// Reads what [`encode`] wrote. `None` for anything else.
pub fn decode(bytes: &[u8]) -> Option<Entry<'_>> {
    let mut from = Bytes(bytes);
    let flags = from.byte()?;
    let has = |bit: u8| flags & bit != 0;
    let [
        small,
        input,
        cache_read,
        cache_write,
        cache_write_long,
        output,
        reasoning,
        audio_in,
        audio_out,
        cost,
        started_us,
        duration_us,
        first,
        generating,
        overhead,
        queued_us,
    ] = from.numbers::<NUMBERS>()?;
    let tier = ServiceTier::from_code((small >> 24) as u8);
    let usage = Usage {
        input,
        cache_read,
        cache_write,
        cache_write_long,
        output,
        reasoning,
        audio_in,
        audio_out,
        tier,
    };
    let [id, api, outcome, source, code, route, asked] = from.texts()?;
    let by = from.party(has(KEYED))?;
    let known = |number: u64| (number != ABSENT).then_some(number);
    let mut who = Vec::with_capacity(WHO_MAX);
    for _ in 0..from.byte()? {
        let [name, value] = from.texts()?;
        who.push((name, value));
    }
    let count = from.byte()?;
    let mut attempts = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        attempts.push(attempt(&mut from)?);
    }
    let trace = match from.byte()? {
        0 => None,
        _ => Some(trace(&mut from, attempts.len())?),
    };
    Some(Entry {
        id,
        api,
        stream: has(STREAM),
        status: small as u16,
        outcome,
        source,
        code,
        route,
        asked,
        answered: has(ANSWERED).then_some(by),
        usage: has(USAGE).then_some(usage),
        usage_missing: has(USAGE_MISSING),
        cost: match (has(PRICED), has(UNPRICED)) {
            (true, _) => Cost::Priced(cost),
            (_, true) => Cost::Unpriced,
            _ => Cost::Unknown,
        },
        started_us,
        duration_us,
        first_token_us: known(first),
        generating_us: known(generating),
        overhead_us: known(overhead),
        queued_us,
        truncated: has(TRUNCATED),
        client_retries: (small >> 16) as u8,
        attempts,
        who,
        trace,
    })
}

fn trace<'b>(from: &mut Bytes<'b>, attempts: usize) -> Option<Trace<'b>> {
    let (id, rest) = from.0.split_first_chunk()?;
    from.0 = rest;
    let flags = from.byte()?;
    let [span, parent, first] = from.numbers()?;
    let [finish, model] = from.texts()?;
    let mut servers = Vec::with_capacity(attempts);
    for _ in 0..attempts {
        let host = from.text()?;
        servers.push((host, u16::from_le_bytes([from.byte()?, from.byte()?])));
    }
    Some(Trace {
        context: Context { trace: *id, span, parent, flags },
        first_content_us: (first != ABSENT).then_some(first),
        finish,
        model,
        servers,
    })
}

fn attempt<'b>(from: &mut Bytes<'b>) -> Option<Attempt<'b>> {
    let flags = from.byte()?;
    let status = u16::from_le_bytes([from.byte()?, from.byte()?]);
    let [after_us, elapsed_us, tokens, reported_nano_usd, estimated_nano_usd] =
        from.numbers::<ATTEMPT_NUMBERS>()?;
    let target = from.party(flags & 2 != 0)?;
    let [reason, result, fault] = from.texts()?;
    Some(Attempt {
        target,
        reason,
        result,
        status: (status > 0).then_some(status),
        fault,
        after_us,
        elapsed_us,
        answers: flags & 1 != 0,
        spend: Spend { tokens, reported_nano_usd, estimated_nano_usd, aborted: flags & 4 != 0 },
    })
}

struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn numbers<const N: usize>(&mut self) -> Option<[u64; N]> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            let (bytes, rest) = self.0.split_first_chunk()?;
            self.0 = rest;
            *number = u64::from_le_bytes(*bytes);
        }
        Some(numbers)
    }

    fn text(&mut self) -> Option<&'b str> {
        let length = usize::from(self.byte()?);
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn texts<const N: usize>(&mut self) -> Option<[&'b str; N]> {
        let mut texts = [""; N];
        for text in &mut texts {
            *text = self.text()?;
        }
        Some(texts)
    }

    fn party(&mut self, keyed: bool) -> Option<Answered<'b>> {
        let [provider, model, key] = self.texts()?;
        Some(Answered { provider, model, key: keyed.then_some(key) })
    }
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

/// Whether an outcome's word is that of an answer.
pub fn is_ok(outcome: &str) -> bool {
    outcome == Outcome::Ok.label()
}

#[cfg(test)]
pub mod tests {
    //! Records for the tests of whoever reads them.

    use super::*;
    use crate::policy::{Fault, Reason, What};
    use proptest::prelude::*;

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

    #[test]
    fn a_record_comes_back_as_it_was() {
        let mut bytes = Vec::new();
        let mut r = PLAIN;
        r.who[4] = "x1";
        let tried = [FAILED, TRIED];
        r.tried = &tried;
        encode("req_7", &r, &["branch".into(), "host".into()], &mut bytes);
        let entry = decode(&bytes).unwrap();
        assert_eq!(
            (entry.id, entry.api, entry.status, entry.outcome),
            ("req_7", "chat_completions", 200, "ok")
        );
        assert_eq!((entry.answered, entry.usage, entry.cost), (r.answered, r.usage, r.cost));
        assert_eq!((entry.started_us, entry.duration_us, entry.overhead_us), (1_000_000, 250_000, Some(45)));
        assert_eq!((entry.first_token_us, entry.source, entry.asked), (None, "provider", "gpt-4o-mini"));
        assert_eq!(
            entry.who,
            [("pipeline", "nightly"), ("step", "triage"), ("team", "core"), ("host", "x1")]
        );
        let first = entry.attempts[0];
        assert_eq!((first.reason, first.result, first.status), ("first", "status", Some(503)));
        assert_eq!((first.fault, first.spend, first.target.key), ("capacity", FAILED.spend, None));
        assert!(entry.attempts[1].answers && entry.attempts[1].target.key == Some("main"));
        assert_eq!(entry.trace, None);
        assert!(bytes.len() < 500, "{}", bytes.len());
        r.trace = Some(TRACED);
        encode("req_7", &r, &["branch".into(), "host".into()], &mut bytes);
        let trace = decode(&bytes).unwrap().trace.unwrap();
        assert_eq!((trace.context, trace.first_content_us), (TRACED.context, None));
        assert_eq!((trace.finish, trace.model), ("stop", "gpt-4o-mini-2024-07-18"));
        assert_eq!(trace.servers, [("azure.example", 8443), ("api.openai.com", 443)]);
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let long = "é".repeat(200);
        let mut r = PLAIN;
        r.asked = &long;
        let mut bytes = Vec::new();
        encode("", &r, &[], &mut bytes);
        assert_eq!(decode(&bytes).unwrap().asked, "é".repeat(127));
    }

    #[test]
    fn a_frame_that_is_cut_anywhere_is_no_entry() {
        let mut bytes = Vec::new();
        let tried = [FAILED, TRIED];
        encode("", &Record { tried: &tried, trace: Some(TRACED), ..PLAIN }, &[], &mut bytes);
        assert!((0..bytes.len()).all(|end| decode(&bytes[..end]).is_none()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let entry = decode(&bytes);
            prop_assert!(entry.is_none_or(|entry| entry.attempts.len() < 256));
        }
    }
}
