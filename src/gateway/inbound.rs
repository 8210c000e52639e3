//! Reading one request: head, framing, body, all bounded in size and in time.
//!
//! The head stays in front of its body in one buffer until the answer is out; what is needed of it later is kept as
//! spans. Fields that a provider of the client's own dialect may see are rendered at once, because the field table
//! belongs to the core and is gone at the next await.

use std::cell::{Ref, RefCell};
use std::ops::Range;

use crate::config::Dialect;
use crate::dialect::{self, Api};
use crate::meter::Who;
use crate::meter::trace::{Context, Parent};
use crate::net::{Buf, buf, clock};
use crate::wire::Span;
use crate::wire::chunked::{ChunkLimits, Decoder};
use crate::wire::fields::{Fields, Known};
use crate::wire::framing::{self, Body, RequestFraming};
use crate::wire::head::{Arrival, Parsed, parse_request};

use super::client::{Client, End};
use super::core::{Core, CorePlan};
use super::respond::Refusal;
use super::who::{Found, Kept};
use super::{guard, local};

/// A body must come at this rate after the grace time (RFC 9110 names no number; Apache's mod_reqtimeout uses 500).
const BODY_MIN_BYTES_PER_S: u64 = 500;
const BODY_GRACE_US: u64 = 5_000_000;

/// What came from a client.
#[allow(clippy::large_enum_variant)] // a box would be an allocation for each request
pub enum Arrived {
    /// A whole request; head and body are in the client's gather.
    Request(Inbound),
    /// Something that cannot be served; to be answered, then the connection is closed.
    Refused(Refusal),
    /// The client closed, or idled out between requests.
    Nothing,
}

/// What the body is, by its Content-Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/json`, or any `+json`.
    Json,
    /// `multipart/form-data`.
    Multipart,
    /// Anything else, or no Content-Type.
    Other,
}

/// One request whose bytes lie in the client's gather: the head first, then the body.
pub struct Inbound {
    /// When it was complete, gateway clock.
    pub complete_us: u64,
    /// When its first byte was looked at, gateway clock.
    pub started_us: u64,
    /// Bytes of the head.
    pub head_len: usize,
    /// Bytes of the body, chunk framing removed.
    pub body_len: usize,
    /// The method.
    pub method: Span,
    /// The path, as sent.
    pub path: Span,
    /// The query without its `?`.
    pub query: Span,
    /// Which endpoint.
    pub api: Api,
    /// The dialect in which the client reads its answer.
    pub dialect: Dialect,
    /// What the body is.
    pub media: Media,
    /// The models of `x-sluice-fallbacks`.
    pub fallbacks: Option<Span>,
    /// The value of `Idempotency-Key`.
    pub idempotency_key: Option<Span>,
    /// The credential that the client presented.
    pub caller: Option<Span>,
    /// The build step, by `x-sluice-step` or an alias.
    pub step: Option<Span>,
    /// The pipeline, by `x-sluice-pipeline` or an alias.
    pub pipeline: Option<Span>,
    /// When the client stops waiting, gateway clock.
    pub deadline_us: Option<u64>,
    /// The deadline is an SDK's, which waits so long for the answer to begin and, once it streams, for each piece of it.
    pub waits_per_read: bool,
    /// How often the client's SDK has sent this request before, as it says.
    pub client_retries: u8,
    /// Its place in its trace; `None` where nothing is traced.
    pub trace: Option<Context>,
    /// Whether the connection may be kept.
    pub keep_alive: bool,
    /// 0 for HTTP/1.0, which knows no chunked bodies.
    pub minor: u8,
    /// HEAD: the answer has no body.
    pub is_head: bool,
    /// Field lines to pass on to a provider of the client's dialect.
    forward: RefCell<Buf>,
    who: Kept,
    framing: RequestFraming,
    /// The plan that the request is served by.
    pub plan: std::rc::Rc<CorePlan>,
}

impl Inbound {
    /// The body's bytes within a buffer that starts with the head.
    pub fn body(&self) -> Range<usize> {
        self.head_len..self.head_len + self.body_len
    }

    /// Field lines to pass on to a provider of the client's dialect; none once they were let go.
    pub fn forward(&self) -> Ref<'_, [u8]> {
        Ref::map(self.forward.borrow(), Buf::filled)
    }

    /// Lets the field lines go: after commit no provider is asked, and a stream may last for minutes.
    pub fn let_lines_go(&self) {
        self.forward.take();
    }

    /// Who asked, as the headers say.
    pub fn who(&self) -> Who<'_> {
        self.who.values()
    }
}

impl Client {
    /// Reads the next request.
    pub async fn next_request(&mut self) -> Arrived {
        let (limits, head_bytes) = {
            let live = &self.core.plan().live;
            (live.plan.limits, live.request_head.bytes)
        };
        let mut buf = self.take_early();
        let mut arrival = Arrival::within(head_bytes);
        // The exchange before this one has just asked; for a new connection, whoever serves it.
        let mut started_us = clock::recent_us();
        let mut begun = !buf.is_empty();
        if begun {
            self.begin();
        }
        let wait_ms = if begun { limits.request_head_ms } else { limits.client_idle_ms };
        self.deadline.set(started_us + wait_ms * 1000);
        let mut inbound = loop {
            if !buf.is_empty() && arrival.due(buf.filled()) {
                match read_head(&self.core, buf.filled(), started_us) {
                    Ok(Some(inbound)) => break inbound,
                    Ok(None) => {}
                    Err(refusal) => return Arrived::Refused(*refusal),
                }
            }
            if !begun && self.core.draining() && !self.conn.is_armed() {
                return Arrived::Nothing;
            }
            let room = self.read_size().max(buf.len());
            buf = match self.more(buf, room).await {
                Ok(buf) => buf,
                Err(End::Late) if begun => {
                    return Arrived::Refused(Refusal::timeout("the request head did not arrive in time"));
                }
                Err(_) => return Arrived::Nothing,
            };
            if !begun {
                begun = true;
                self.begin();
                started_us = clock::now_us();
                self.deadline.set(started_us + limits.request_head_ms * 1000);
            }
        };
        match self.read_body(buf, &mut inbound).await {
            Ok(buf) => {
                inbound.complete_us = clock::recent_us();
                self.saw_message(buf.len());
                if let Some(gather) = self.gather.as_mut() {
                    gather.body = buf;
                }
                Arrived::Request(inbound)
            }
            Err(Stop::Refused(refusal)) => Arrived::Refused(refusal.at(&inbound)),
            Err(Stop::Gone) => Arrived::Nothing,
        }
    }

    async fn read_body(&mut self, mut buf: Buf, inbound: &mut Inbound) -> Result<Buf, Stop> {
        let limit = inbound.plan.live.plan.limits.body_bytes;
        let head_len = inbound.head_len;
        let begun_us = clock::recent_us();
        if let Body::Length(length) = inbound.framing.body
            && length > limit
        {
            return Err(Stop::Refused(Refusal::too_large(limit)));
        }
        if inbound.framing.expect_continue && buf.len() == head_len {
            self.write(Buf::copy_of(b"HTTP/1.1 100 Continue\r\n\r\n")).await.map_err(|_| Stop::Gone)?;
        }
        match inbound.framing.body {
            Body::Length(length) => {
                // At most `limit`, which the plan bounds, so it fits.
                let end = head_len + length as usize;
                while buf.len() < end {
                    self.pace(begun_us, buf.len() - head_len);
                    let missing = end - buf.len();
                    buf = self.more_body(buf, missing).await?;
                }
                self.keep_early(&buf.filled()[end..]);
                buf.truncate(end);
                inbound.body_len = length as usize;
            }
            Body::Chunked => {
                let mut decoder = Decoder::new(ChunkLimits::request(limit));
                let mut body_len = 0;
                loop {
                    let from = head_len + body_len;
                    let progress = decoder.decode(&mut buf.filled_mut()[from..]).map_err(Refusal::chunked)?;
                    body_len += progress.payload;
                    if body_len as u64 > limit {
                        return Err(Stop::Refused(Refusal::too_large(limit)));
                    }
                    if progress.done {
                        self.keep_early(&buf.filled()[from + progress.consumed..]);
                        buf.truncate(from + progress.payload);
                        break;
                    }
                    buf.remove(from + progress.payload..from + progress.consumed);
                    self.pace(begun_us, body_len);
                    let room = buf.len().clamp(buf::IDLE, buf::LARGE);
                    buf = self.more_body(buf, room).await?;
                }
                inbound.body_len = body_len;
            }
            Body::None | Body::UntilClose => {
                self.keep_early(&buf.filled()[head_len..]);
                buf.truncate(head_len);
            }
        }
        Ok(buf)
    }

    /// The time by which the next bytes of a body must be there, given what came so far.
    fn pace(&self, begun_us: u64, received: usize) {
        let earned_us = received as u64 * 1_000_000 / BODY_MIN_BYTES_PER_S;
        self.deadline.set(begun_us + BODY_GRACE_US + earned_us);
    }

    async fn more_body(&mut self, buf: Buf, room: usize) -> Result<Buf, Stop> {
        let more = self.more(buf, room).await.map_err(|end| match end {
            End::Late => Stop::Refused(Refusal::timeout("the request body came too slowly")),
            End::Closed => Stop::Gone,
        });
        clock::now_us();
        more
    }
}

enum Stop {
    Refused(Refusal),
    Gone,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

/// The request that begins in `bytes`; `None` while its head is not whole.
fn read_head(core: &Core, bytes: &[u8], started_us: u64) -> Result<Option<Inbound>, Box<Refusal>> {
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
    let span = |known| fields.get(known);
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
    let idempotency_key = span(Known::IdempotencyKey);
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
        fallbacks: span(Known::SluiceFallbacks),
        idempotency_key,
        caller: span(Known::Authorization).or_else(|| span(Known::XApiKey)),
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
