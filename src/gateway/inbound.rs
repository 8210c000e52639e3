//! Reading one request: head, framing, body, all bounded in size and in time.
//!
//! The head stays in front of its body in one buffer until the answer is out; what is needed of it later is kept as
//! spans. Fields that a provider of the client's own dialect may see are rendered at once, because the field table
//! belongs to the core and is gone at the next await.

use std::cell::{Ref, RefCell};
use std::ops::Range;

use crate::config::Dialect;
use crate::dialect::Api;
use crate::meter::Who;
use crate::meter::trace::Context;
use crate::net::{Buf, buf, clock};
use crate::wire::Span;
use crate::wire::chunked::{ChunkLimits, Decoder};
use crate::wire::framing::{Body, RequestFraming};
use crate::wire::head::Arrival;

use super::asked::read_head;
use super::client::{Client, End};
use super::core::CorePlan;
use super::respond::Refusal;
use super::who::Kept;

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
    pub(super) forward: RefCell<Buf>,
    pub(super) who: Kept,
    pub(super) framing: RequestFraming,
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
