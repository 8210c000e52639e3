//! The spans of a finished exchange, by OpenTelemetry's conventions for generative AI (names of 2026, in development).
//!
//! The exchange is a span of kind SERVER. Each upstream call is a child of kind CLIENT, with tokens on the one that
//! answered and nowhere else: whoever sums them over spans gets what was used. What the conventions have no name for is
//! called `sluice.*`.
//!
//! Leaves out: prompts, answers, keys (their names alone are there), and request bodies' other parameters. An
//! [`Entry`] has none of them.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::Context;
use crate::dialect::Usage;
use crate::meter::outbox::{Attempt, Entry, Trace};
use crate::meter::record::Cost;

/// Providers that the conventions have another name for than configurations usually have.
const PROVIDERS: [(&str, &str); 9] = [
    ("azure", "azure.ai.openai"),
    ("bedrock", "aws.bedrock"),
    ("gemini", "gcp.gemini"),
    ("google", "gcp.gemini"),
    ("mistral", "mistral_ai"),
    ("moonshot", "moonshot_ai"),
    ("moonshotai", "moonshot_ai"),
    ("vertex", "gcp.vertex_ai"),
    ("xai", "x_ai"),
];

/// Appends the spans of an exchange that ended at `unix_us`; nothing when it is not traced.
pub fn write(entry: &Entry<'_>, unix_us: u64, out: &mut Vec<SpanData>) {
    let Some(trace) = &entry.trace else { return };
    let began_us = unix_us.saturating_sub(entry.duration_us);
    out.push(exchange(entry, trace, began_us, unix_us));
    for (no, attempt) in entry.attempts.iter().enumerate() {
        out.push(call(entry, trace, no as u8, attempt, began_us));
    }
}

/// What a span is called by the conventions: what is done, and with which model.
fn name(operation: &str, model: &str) -> Cow<'static, str> {
    if model.is_empty() { operation.to_owned().into() } else { format!("{operation} {model}").into() }
}

/// The conventions' word for an endpoint; our own where they have none.
fn operation<'e>(entry: &Entry<'e>) -> &'e str {
    match entry.api {
        "chat_completions" | "responses" | "messages" => "chat",
        "completions" => "text_completion",
        other => other,
    }
}

fn at(unix_us: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(unix_us)
}

/// Attributes under construction.
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn new() -> Attributes {
        Attributes(Vec::with_capacity(24))
    }

    fn text(&mut self, name: &'static str, value: &str) {
        if !value.is_empty() {
            self.0.push(KeyValue::new(name, value.to_owned()));
        }
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.0.push(KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn some(&mut self, name: &'static str, value: u64) {
        if value > 0 {
            self.number(name, value);
        }
    }

    fn yes(&mut self, name: &'static str, value: bool) {
        if value {
            self.0.push(KeyValue::new(name, true));
        }
    }

    fn milliseconds(&mut self, name: &'static str, us: Option<u64>) {
        self.0.extend(us.map(|us| KeyValue::new(name, us as f64 / 1e3)));
    }

    fn usd(&mut self, name: &'static str, nano_usd: u64) {
        self.0.push(KeyValue::new(name, nano_usd as f64 / 1e9));
    }

    fn answer(&mut self, trace: &Trace<'_>) {
        self.text("gen_ai.response.model", trace.model);
        if !trace.finish.is_empty() {
            let reasons = vec![StringValue::from(trace.finish.to_owned())];
            self.0
                .push(KeyValue::new("gen_ai.response.finish_reasons", Value::Array(Array::String(reasons))));
        }
    }

    fn usage(&mut self, usage: &Usage) {
        // The conventions' input has what was cached in it, as our prompt has.
        self.number("gen_ai.usage.input_tokens", usage.prompt());
        self.number("gen_ai.usage.output_tokens", usage.output);
        self.some("gen_ai.usage.cache_read.input_tokens", usage.cache_read);
        self.some("gen_ai.usage.cache_creation.input_tokens", usage.cache_write);
        self.some("gen_ai.usage.reasoning.output_tokens", usage.reasoning);
    }
}

fn provider(name: &str) -> &str {
    PROVIDERS.iter().find(|(own, _)| *own == name).map_or(name, |(_, theirs)| theirs)
}

fn span(
    context: &Context,
    ids: (u64, u64),
    kind: SpanKind,
    name: Cow<'static, str>,
    times_us: (u64, u64),
) -> SpanData {
    let id = |id: u64| SpanId::from_bytes(id.to_be_bytes());
    let (own, parent) = ids;
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes(context.trace),
            id(own),
            TraceFlags::new(context.flags),
            false,
            TraceState::NONE,
        ),
        parent_span_id: id(parent),
        parent_span_is_remote: kind == SpanKind::Server && parent != 0,
        span_kind: kind,
        name,
        start_time: at(times_us.0),
        end_time: at(times_us.1),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("sluice")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

fn exchange(entry: &Entry<'_>, trace: &Trace<'_>, began_us: u64, ended_us: u64) -> SpanData {
    let context = &trace.context;
    let what = operation(entry);
    let mut to = Attributes::new();
    to.text("gen_ai.operation.name", what);
    to.text("gen_ai.request.model", entry.asked);
    if let Some(by) = entry.answered {
        to.text("gen_ai.provider.name", provider(by.provider));
        to.text("sluice.provider", by.provider);
        to.text("sluice.model", by.model);
    }
    to.answer(trace);
    to.some("http.response.status_code", u64::from(entry.status));
    to.text("sluice.request_id", entry.id);
    to.text("sluice.api", entry.api);
    to.text("sluice.outcome", entry.outcome);
    to.text("sluice.source", entry.source);
    to.text("sluice.route", entry.route);
    to.yes("sluice.stream", entry.stream);
    to.number("sluice.attempts", entry.attempts.len() as u64);
    for (name, value) in &entry.who {
        let name: Cow<'static, str> = match *name {
            "pipeline" => "sluice.pipeline".into(),
            "step" => "sluice.step".into(),
            "team" => "sluice.team".into(),
            dimension => format!("sluice.dim.{dimension}").into(),
        };
        to.0.push(KeyValue::new(name, (*value).to_owned()));
    }
    if let Cost::Priced(nano_usd) = entry.cost {
        to.usd("sluice.cost_usd", nano_usd);
    }
    to.milliseconds("sluice.first_token_ms", entry.first_token_us);
    to.milliseconds("sluice.overhead_ms", entry.overhead_us);
    to.milliseconds("sluice.queued_ms", Some(entry.queued_us).filter(|us| *us > 0));
    to.some("sluice.client_retries", u64::from(entry.client_retries));
    to.yes("sluice.truncated", entry.truncated);
    let mut span = span(
        context,
        (context.span, context.parent),
        SpanKind::Server,
        name(what, entry.asked),
        (began_us, ended_us),
    );
    if entry.outcome != "ok" {
        to.text("error.type", if entry.code.is_empty() { entry.outcome } else { entry.code });
        // A server's span is in error when the server is at fault, not when its caller is.
        if entry.status >= 500 || entry.outcome == "upstream_error" {
            let why = if entry.truncated { "the answer broke off" } else { entry.code };
            span.status = Status::error(why.to_owned());
        }
    }
    span.attributes = to.0;
    span
}

fn call(entry: &Entry<'_>, trace: &Trace<'_>, no: u8, attempt: &Attempt<'_>, began_us: u64) -> SpanData {
    let (context, target) = (&trace.context, attempt.target);
    let what = operation(entry);
    let from_us = began_us.saturating_add(attempt.after_us);
    let mut to = Attributes::new();
    to.text("gen_ai.operation.name", what);
    to.text("gen_ai.provider.name", provider(target.provider));
    to.text("gen_ai.request.model", target.model);
    if let Some((host, port)) = trace.servers.get(usize::from(no)) {
        to.text("server.address", host);
        to.some("server.port", u64::from(*port));
    }
    to.number("sluice.attempt.number", u64::from(no) + 1);
    to.text("sluice.attempt.reason", attempt.reason);
    to.text("sluice.attempt.result", attempt.result);
    to.text("sluice.attempt.fault", attempt.fault);
    to.text("sluice.provider", target.provider);
    to.text("sluice.key", target.key.unwrap_or_default());
    let spend = attempt.spend;
    to.some("sluice.wasted_tokens", spend.tokens);
    if spend.reported_nano_usd > 0 {
        to.usd("sluice.wasted_cost_usd", spend.reported_nano_usd);
    }
    if spend.estimated_nano_usd > 0 {
        to.usd("sluice.wasted_cost_estimated_usd", spend.estimated_nano_usd);
    }
    let mut span = span(
        context,
        (context.attempt(no), context.span),
        SpanKind::Client,
        name(what, target.model),
        (from_us, from_us.saturating_add(attempt.elapsed_us)),
    );
    let status = attempt.status.or((attempt.answers).then_some(entry.status));
    to.some("http.response.status_code", u64::from(status.unwrap_or_default()));
    if attempt.answers {
        to.answer(trace);
        if let Some(usage) = &entry.usage {
            to.usage(usage);
        }
        if let Some(after_us) = trace.first_content_us {
            let first = at(began_us.saturating_add(after_us));
            span.events.events.push(Event::new("first_token", first, Vec::new(), 0));
        }
    }
    if !attempt.fault.is_empty() {
        let kind = attempt.status.map_or_else(|| attempt.result.to_owned(), |status| status.to_string());
        to.text("error.type", &kind);
        span.status = Status::error(kind);
    }
    span.attributes = to.0;
    span
}

#[cfg(test)]
mod tests {
    use super::super::Traced;
    use super::*;
    use crate::meter::outbox::samples::{FAILED, PLAIN, TRIED};
    use crate::meter::outbox::{decode, encode};
    use crate::meter::record::{Outcome, Record};

    const CONTEXT: Context = Context { trace: [7; 16], span: 11, parent: 5, flags: 1 };
    const ENDED_US: u64 = 1_700_000_000_000_000;

    fn spans(record: &Record<'_>) -> Vec<SpanData> {
        let mut bytes = Vec::new();
        encode("req_7", record, &["branch".into()], &mut bytes);
        let mut all = Vec::new();
        write(&decode(&bytes).unwrap(), ENDED_US, &mut all);
        all
    }

    fn attribute(span: &SpanData, name: &str) -> Option<String> {
        span.attributes.iter().find(|pair| pair.key.as_str() == name).map(|pair| pair.value.to_string())
    }

    fn traced() -> Traced<'static> {
        Traced {
            context: CONTEXT,
            first_content_us: Some(900),
            finish: "stop",
            model: "gpt-4o-mini-2024-07-18",
        }
    }

    #[test]
    fn an_exchange_is_a_server_span_with_a_client_span_for_each_call() {
        let mut record = Record { tried: &[FAILED, TRIED], trace: Some(traced()), ..PLAIN };
        record.who[3] = "main";
        let [own, failed, answered] = spans(&record).try_into().unwrap();
        assert_eq!((own.name.as_ref(), own.span_kind.clone()), ("chat gpt-4o-mini", SpanKind::Server));
        assert_eq!(own.parent_span_id, SpanId::from_bytes(5u64.to_be_bytes()));
        assert_eq!(own.end_time.duration_since(own.start_time).unwrap(), Duration::from_micros(250_000));
        for (name, value) in [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.response.model", "gpt-4o-mini-2024-07-18"),
            ("sluice.pipeline", "nightly"),
            ("sluice.dim.branch", "main"),
            ("sluice.cost_usd", "0.0000345"),
            ("sluice.attempts", "2"),
            ("http.response.status_code", "200"),
            ("sluice.request_id", "req_7"),
        ] {
            assert_eq!(attribute(&own, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(attribute(&own, "gen_ai.usage.input_tokens"), None, "tokens are told once");
        assert_eq!(own.status, Status::Unset);
        for (no, span) in [&failed, &answered].into_iter().enumerate() {
            assert_eq!(span.span_kind, SpanKind::Client);
            assert_eq!(span.parent_span_id, own.span_context.span_id());
            assert_eq!(span.span_context.trace_id(), own.span_context.trace_id());
            let id = CONTEXT.attempt(no as u8).to_be_bytes();
            assert_eq!(span.span_context.span_id(), SpanId::from_bytes(id));
        }
        for (name, value) in [
            ("gen_ai.provider.name", "azure.ai.openai"),
            ("error.type", "503"),
            ("sluice.attempt.reason", "first"),
            ("sluice.attempt.fault", "capacity"),
            ("http.response.status_code", "503"),
            ("server.address", "azure.example"),
        ] {
            assert_eq!(attribute(&failed, name).as_deref(), Some(value), "{name}");
        }
        assert!(matches!(failed.status, Status::Error { .. }) && failed.events.is_empty());
        for (name, value) in [
            ("gen_ai.usage.input_tokens", "120"),
            ("gen_ai.usage.output_tokens", "30"),
            ("gen_ai.usage.cache_read.input_tokens", "20"),
            ("gen_ai.response.finish_reasons", "[\"stop\"]"),
            ("server.port", "443"),
            ("sluice.key", "main"),
        ] {
            assert_eq!(attribute(&answered, name).as_deref(), Some(value), "{name}");
        }
        let first = answered.events.iter().find(|event| event.name == "first_token").unwrap();
        assert_eq!(first.timestamp.duration_since(own.start_time).unwrap(), Duration::from_micros(900));
    }

    #[test]
    fn what_is_not_traced_has_no_spans_and_an_exchange_without_calls_has_one() {
        assert!(spans(&PLAIN).is_empty());
        let refused = Record {
            outcome: Outcome::Rejected,
            status: 503,
            code: "circuit_open",
            tried: &[],
            answered: None,
            trace: Some(Traced { finish: "", model: "", first_content_us: None, ..traced() }),
            ..PLAIN
        };
        let [own] = spans(&refused).try_into().unwrap();
        assert_eq!(attribute(&own, "error.type").as_deref(), Some("circuit_open"));
        assert!(matches!(own.status, Status::Error { .. }));
        let [own] = spans(&Record { status: 401, code: "invalid_api_key", ..refused }).try_into().unwrap();
        assert_eq!((own.status, own.name.as_ref()), (Status::Unset, "chat gpt-4o-mini"));
    }
}
