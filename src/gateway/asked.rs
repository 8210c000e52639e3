//! What the head of a request says: checked, framed, and told in an [`Inbound`].

use std::cell::RefCell;

use crate::config::Dialect;
use crate::dialect::{self, Api};
use crate::meter::trace::Parent;
use crate::net::{Buf, buf};
use crate::wire::Span;
use crate::wire::fields::{Fields, Known};
use crate::wire::framing;
use crate::wire::head::{Parsed, parse_request};

use super::core::Core;
use super::inbound::{Inbound, Media};
use super::respond::Refusal;
use super::who::Found;
use super::{guard, local};

/// The request that begins in `bytes`; `None` while its head is not whole.
pub fn read_head(core: &Core, bytes: &[u8], started_us: u64) -> Result<Option<Inbound>, Box<Refusal>> {
    let plan = core.plan();
    let mut guard = core.fields.borrow_mut();
    let fields: &mut Fields = &mut guard;
    let head = match parse_request(bytes, fields, &plan.live.request_head).map_err(Refusal::head)? {
        Parsed::Complete(head) => head,
        Parsed::Partial => return Ok(None),
    };
    let framing = framing::frame_request(&head, fields, bytes).map_err(Refusal::head)?;
    // SDKs write the slash of a name such as `openai/gpt-4o-mini` as `%2F` when they ask for one model.
    let check = if head.target.starts_with(local::MODEL_PATH) {
        framing::check_target_of_name
    } else {
        framing::check_target
    };
    let target = check(head.target).map_err(Refusal::head)?;
    let api = Api::of(head.method, target.path);
    let names_version = fields.has(Known::AnthropicVersion);
    let dialect = dialect::client_dialect(target.path, names_version);
    guard::admit(&plan.live.plan, fields, bytes, &head, target.path)
        .map_err(|r| Box::new(r.in_dialect(dialect)))?;
    let media = media(fields.value(bytes, Known::ContentType));
    let mut forward = Buf::take(buf::SMALL);
    let mut line = |name: &[u8], value: &[u8]| {
        for part in [name, b": ", value, b"\r\n"] {
            forward.push(part);
        }
    };
    let mut goes_on = false;
    let trace = core.traces.get().map(|rules| {
        let parent = parent(fields, bytes);
        goes_on = parent.is_some();
        rules.begin(parent, || core.next_id())
    });
    // Where the gateway traces, attempts have a `traceparent` of their own, and a state without its parent means nothing.
    let passes = |known| match known {
        Known::Traceparent => trace.is_none(),
        Known::Tracestate => trace.is_none() || goes_on,
        _ => true,
    };
    let mut asker = Found::default();
    for field in fields.iter() {
        let name = field.name.of(bytes);
        asker.look(&plan.live.plan.who, name, field.value);
        if dialect::head::forward_request_header(dialect, name) && passes(field.known) {
            line(name, field.value.of(bytes));
        }
    }
    if dialect == Dialect::Anthropic {
        let own = fields.value(bytes, Known::AnthropicVersion);
        line(b"anthropic-version", dialect::head::anthropic_version(own, false));
    }
    let who = asker.keep(bytes);
    let idempotency_key = fields.get(Known::IdempotencyKey);
    let waits_per_read = !fields.has(Known::SluiceDeadlineMs);
    // An SDK's timeout ends its wait, not a call whose answer is kept for its next try.
    let outlives = idempotency_key.is_some() && waits_per_read && plan.live.keeper.is_some();
    // A head has far fewer bytes than a span can tell.
    let place = |part: &[u8]| {
        let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
        Span::new(start, start + part.len()).unwrap_or_default()
    };
    Ok(Some(Inbound {
        complete_us: started_us,
        started_us,
        head_len: head.len,
        body_len: 0,
        method: place(head.method),
        path: place(target.path),
        query: if target.query.is_empty() { Span::default() } else { place(target.query) },
        api,
        dialect,
        media,
        fallbacks: fields.get(Known::SluiceFallbacks),
        idempotency_key,
        caller: fields.get(Known::Authorization).or_else(|| fields.get(Known::XApiKey)),
        step: asker.span(1),
        pipeline: asker.span(0),
        deadline_us: deadline(fields, bytes).filter(|_| !outlives).map(|us| started_us + us),
        waits_per_read,
        client_retries: retry_count(fields, bytes),
        trace,
        keep_alive: framing.keep_alive,
        minor: head.minor,
        is_head: head.method == b"HEAD",
        forward: RefCell::new(forward),
        who,
        framing,
        plan,
    }))
}

fn media(content_type: Option<&[u8]>) -> Media {
    let Some(value) = content_type else { return Media::Other };
    let essence = value.split(|b| *b == b';').next().unwrap_or(value).trim_ascii();
    let has_suffix = |suffix: &[u8]| {
        essence.len() >= suffix.len() && essence[essence.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
    };
    if essence.eq_ignore_ascii_case(b"application/json") || has_suffix(b"+json") {
        Media::Json
    } else if essence.eq_ignore_ascii_case(b"multipart/form-data") {
        Media::Multipart
    } else {
        Media::Other
    }
}

/// How long the client waits, microseconds: its deadline in milliseconds, else the timeout that its SDK tells, in
/// seconds (which may be a fraction, or a word when there is none).
fn deadline(fields: &Fields, bytes: &[u8]) -> Option<u64> {
    let text = |known| std::str::from_utf8(fields.value(bytes, known)?).ok();
    if let Some(ms) = text(Known::SluiceDeadlineMs).and_then(|t| t.trim().parse::<u64>().ok()) {
        return ms.checked_mul(1000);
    }
    let seconds = text(Known::StainlessTimeout).or_else(|| text(Known::StainlessReadTimeout))?.trim();
    let seconds: f64 = seconds.parse().ok()?;
    // A day is longer than any timeout; it keeps the product in range.
    (seconds > 0.0 && seconds < 86_400.0).then_some((seconds * 1e6) as u64)
}

/// The trace that the client goes on with. Two parents are none.
fn parent(fields: &Fields, bytes: &[u8]) -> Option<Parent> {
    let value = fields.value(bytes, Known::Traceparent)?;
    if fields.repeated(Known::Traceparent) { None } else { Parent::read(value) }
}

fn retry_count(fields: &Fields, bytes: &[u8]) -> u8 {
    let text = fields.value(bytes, Known::StainlessRetryCount).and_then(|v| std::str::from_utf8(v).ok());
    text.and_then(|t| t.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head::HeadLimits;

    #[test]
    fn json_is_known_by_any_of_its_names() {
        for (value, expected) in [
            ("application/json", Media::Json),
            ("Application/JSON; charset=utf-8", Media::Json),
            ("application/vnd.api+json", Media::Json),
            ("multipart/form-data; boundary=x", Media::Multipart),
            ("text/plain", Media::Other),
        ] {
            assert_eq!(media(Some(value.as_bytes())), expected, "{value}");
        }
        assert_eq!(media(None), Media::Other);
    }

    fn deadline_of(lines: &str) -> Option<u64> {
        let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        let mut fields = Fields::new();
        let parsed = parse_request(head.as_bytes(), &mut fields, &HeadLimits::REQUEST);
        assert!(matches!(parsed, Ok(Parsed::Complete(_))));
        deadline(&fields, head.as_bytes())
    }

    #[test]
    fn a_client_says_how_long_it_waits_in_its_own_way() {
        assert_eq!(deadline_of("x-sluice-deadline-ms: 1500\r\n"), Some(1_500_000));
        assert_eq!(deadline_of("X-Stainless-Timeout: 60\r\n"), Some(60_000_000));
        assert_eq!(deadline_of("x-stainless-read-timeout: 2.5\r\n"), Some(2_500_000));
        assert_eq!(deadline_of("x-stainless-timeout: NOT_GIVEN\r\n"), None);
        assert_eq!(deadline_of("x-sluice-deadline-ms: 10\r\nx-stainless-timeout: 60\r\n"), Some(10_000));
        assert_eq!(deadline_of(""), None);
    }
}
