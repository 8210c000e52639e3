//! One upstream call: a connection, the request on its way, the response head, the body.
//!
//! Whatever is awaited here is raced against two things: the client leaving, which ends the call at once, and the
//! deadline of the phase. The request's buffer always comes back to the client, unless the client is gone: the next
//! attempt sends it again.

use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll};

use crate::net::dial::{DialError, dial};
use crate::net::pool::{OriginId, Pooled};
use crate::net::seats::Seat;
use crate::net::{Buf, Gather, buf, clock};
use crate::policy::{TimeoutKind, What};
use crate::wire::chunked::{ChunkLimits, Decoder};
use crate::wire::fields::Known;
use crate::wire::framing::{Body, frame_response};
use crate::wire::head::{Arrival, HeadLimits, Parsed, parse_response};

use super::client::Client;

/// Largest answer that is held whole before it is delivered; a longer one counts as broken.
pub const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// How often a call that waits for a connection to come free looks again.
const SEAT_POLL_US: u64 = 5_000;

/// Why a call ended before its answer was there.
#[derive(Debug)]
pub enum Broken {
    /// The client left: nothing more is to be done for it.
    ClientGone,
    /// A reused connection died before any byte of an answer: says nothing about the provider.
    Stale,
    /// The provider, or the way to it, failed.
    Failed(What),
}

impl From<What> for Broken {
    fn from(what: What) -> Broken {
        Broken::Failed(what)
    }
}

/// A phase's end in time.
#[derive(Clone, Copy)]
pub struct By {
    /// Gateway clock.
    pub at_us: u64,
    /// What its passing is called.
    pub kind: TimeoutKind,
}

/// What kind of body the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// `application/json`.
    Json,
    /// `text/event-stream`.
    Events,
    /// `text/html`, which no model API sends.
    Html,
    /// Compressed, although we asked that it is not: nothing of it can be read.
    Coded,
    /// Anything else.
    Other,
}

/// A response head, and what is needed of its fields.
pub struct Reply {
    /// 200 to 599.
    pub status: u16,
    /// How the body is framed.
    pub body: Body,
    /// Whether the connection may be used again after a complete body.
    pub keep_alive: bool,
    /// What the body is.
    pub content: Content,
    /// Field lines to pass on to the client.
    pub lines: Buf,
    /// Where in `lines` the request id stands, as OpenAI names it (`x-request-id`) and as Anthropic does
    /// (`request-id`); empty where it is missing.
    pub request_ids: [std::ops::Range<usize>; 2],
    /// The waits that the head asks for, copied: [retry-after, retry-after-ms, x-should-retry].
    pub hints: [Option<Box<[u8]>>; 3],
}

/// An upstream call under way.
pub struct Call {
    pooled: Option<Pooled>,
    origin: OriginId,
    /// The request is not all written yet.
    sending: bool,
    /// An answer is owed and not read to its end: whatever ends the call early leaves this set, so that no later
    /// request can be given what was meant for this one.
    owed: bool,
    /// The connection must not be used again although its answer is complete.
    spoilt: bool,
    /// Answer bytes have come.
    pub answered: bool,
    /// When the request was handed over, gateway clock.
    pub sent_us: u64,
    /// When the answer's last awaited bytes came, gateway clock.
    pub received_us: u64,
}

/// What a wait for bytes brought.
pub enum Received {
    /// More bytes, behind those that were there.
    More(Buf),
    /// The end of the connection; the bytes that were there.
    End(Buf),
}

impl Received {
    fn or_truncated(self) -> Result<Buf, Broken> {
        match self {
            Received::More(read) => Ok(read),
            Received::End(_) => Err(What::Truncated.into()),
        }
    }
}

enum Event {
    Read(io::Result<usize>, Buf),
    Sent(io::Result<()>, Box<Gather>),
    Gone,
    Late,
}

/// Gets a connection to `origin`: a warm one, else a new one by `by`.
pub async fn connect(client: &mut Client, origin: OriginId, fresh: bool, by: By) -> Result<Call, Broken> {
    let call = |pooled| Call {
        pooled: Some(pooled),
        origin,
        sending: false,
        owed: false,
        spoilt: false,
        answered: false,
        sent_us: 0,
        received_us: 0,
    };
    let seat = match way(client, origin, fresh, by).await? {
        Way::Warm(pooled) => return Ok(call(pooled)),
        Way::Open(seat) => seat,
    };
    let core = client.core.clone();
    let destination = core.pool.borrow().destination(origin).cloned();
    let Some(destination) = destination else { return Err(What::Connect.into()) };
    // Dialling allocates: a new connection is rare, and the future would bloat every exchange otherwise.
    let mut dialling = Box::pin(dial(&destination, &core.resolver, &core.timers, by.at_us));
    let dialled = poll_fn(|cx| {
        if let Poll::Ready(result) = dialling.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        client.poll_gone(cx).map(|()| None)
    })
    .await;
    match dialled {
        None => Err(Broken::ClientGone),
        Some(Ok(conn)) => Ok(call(Pooled::fresh(conn, seat, client.core.next_id()))),
        Some(Err(DialError::Lookup(_))) => Err(What::Dns.into()),
        Some(Err(DialError::Connect(_))) => Err(What::Connect.into()),
        Some(Err(DialError::Tls(_))) => Err(What::Tls.into()),
        Some(Err(DialError::TimedOut)) => Err(What::Timeout(by.kind).into()),
    }
}

/// How a call gets its connection.
enum Way {
    /// One that was used before.
    Warm(Pooled),
    /// By opening another one.
    Open(Seat),
}

/// Finds an idle connection, or the right to open one. Calls are bounded before they get here, so where all connections
/// are taken some of them idle on other cores; those give one up within moments.
async fn way(client: &mut Client, origin: OriginId, fresh: bool, by: By) -> Result<Way, Broken> {
    let mut wanted = None;
    loop {
        let now_us = clock::now_us();
        {
            let mut pool = client.core.pool.borrow_mut();
            if !fresh && let Some(pooled) = pool.take(origin, now_us) {
                return Ok(Way::Warm(pooled));
            }
            if let Some(seat) = pool.seat(origin) {
                return Ok(Way::Open(seat));
            }
            if now_us >= by.at_us {
                return Err(What::Timeout(by.kind).into());
            }
            wanted = wanted.or_else(|| pool.want(origin));
        }
        client.deadline.set(by.at_us.min(now_us + SEAT_POLL_US));
        let gone = poll_fn(|cx| {
            if client.poll_gone(cx).is_ready() {
                return Poll::Ready(true);
            }
            client.deadline.poll_passed(cx).map(|()| false)
        });
        if gone.await {
            return Err(Broken::ClientGone);
        }
    }
}

impl Call {
    /// Hands the request in the client's gather to the connection.
    pub fn send(&mut self, client: &mut Client) {
        let (Some(pooled), Some(gather)) = (self.pooled.as_mut(), client.gather.take()) else { return };
        if !pooled.conn.is_armed() {
            pooled.conn.arm(Buf::take(buf::STREAM));
        }
        pooled.conn.start_gather(gather);
        self.sending = true;
        self.owed = true;
        self.sent_us = clock::now_us();
    }

    fn poll_event(&mut self, client: &mut Client, cx: &mut Context<'_>) -> Poll<Event> {
        let Some(pooled) = self.pooled.as_mut() else { return Poll::Ready(Event::Gone) };
        if let Poll::Ready((result, read)) = pooled.conn.poll_read(cx) {
            return Poll::Ready(Event::Read(result, read));
        }
        if self.sending
            && let Poll::Ready((result, gather)) = pooled.conn.poll_gather(cx)
        {
            return Poll::Ready(Event::Sent(result, gather));
        }
        if client.poll_gone(cx).is_ready() {
            return Poll::Ready(Event::Gone);
        }
        client.deadline.poll_passed(cx).map(|()| Event::Late)
    }

    /// Waits for the next bytes of the answer, appended to what the armed read was given.
    async fn receive(&mut self, client: &mut Client, by: By) -> Result<Received, Broken> {
        client.deadline.set(by.at_us);
        loop {
            match poll_fn(|cx| self.poll_event(client, cx)).await {
                Event::Gone => return Err(Broken::ClientGone),
                Event::Late => {
                    self.take_back(client).await;
                    return Err(What::Timeout(by.kind).into());
                }
                Event::Sent(result, gather) => {
                    self.sending = false;
                    client.gather.get_or_insert(gather);
                    // A provider may answer and close before it read the whole request; the read tells.
                    self.spoilt |= result.is_err();
                }
                Event::Read(Ok(n), read) if n > 0 => {
                    self.answered = true;
                    self.received_us = clock::now_us();
                    return Ok(Received::More(read));
                }
                Event::Read(result, read) => {
                    self.take_back(client).await;
                    return match result {
                        Ok(_) if self.answered => Ok(Received::End(read)),
                        Err(_) if self.answered => Err(What::Truncated.into()),
                        _ if self.reused() => Err(Broken::Stale),
                        _ => Err(What::Reset.into()),
                    };
                }
            }
        }
    }

    /// Gets the request's buffer back from a write that will not be finished.
    async fn take_back(&mut self, client: &mut Client) {
        self.spoilt = true;
        if !self.sending {
            return;
        }
        if let Some(pooled) = self.pooled.as_mut() {
            // The write fails at once on a socket that is shut down, and the driver gives its buffer back.
            pooled.conn.abort();
            let (_, gather) = poll_fn(|cx| pooled.conn.poll_gather(cx)).await;
            client.gather.get_or_insert(gather);
        }
        self.sending = false;
    }

    /// Arms the next read into the room of `read`.
    fn arm(&mut self, read: Buf) {
        if let Some(pooled) = self.pooled.as_mut() {
            pooled.conn.arm(read);
        }
    }

    /// Waits for the response head. The buffer that comes with it holds what followed the head.
    pub async fn head(&mut self, client: &mut Client, is_head: bool, by: By) -> Result<(Reply, Buf), Broken> {
        let mut read = self.receive(client, by).await?.or_truncated()?;
        let plan = client.core.plan();
        let (limits, interim_max) = (plan.live.response_head, plan.live.plan.limits.interim_responses);
        drop(plan);
        let mut arrival = Arrival::within(limits.bytes);
        let mut interim = 0;
        loop {
            let parsed = if arrival.due(read.filled()) {
                parse_reply(client, &mut read, is_head, &limits)
            } else {
                Ok(None)
            };
            match parsed {
                Ok(Some(reply)) if reply.status >= 200 => {
                    // An answer before the request was read is delivered, but what is still being sent would be
                    // read as the next request.
                    self.spoilt |= self.sending;
                    return Ok((reply, read));
                }
                Ok(Some(_)) => {
                    interim += 1;
                    if interim > interim_max {
                        self.take_back(client).await;
                        return Err(What::BadHead.into());
                    }
                    arrival = Arrival::within(limits.bytes);
                    continue;
                }
                Ok(None) => {}
                Err(what) => {
                    self.take_back(client).await;
                    return Err(what.into());
                }
            }
            read.reserve(buf::STREAM.max(read.len()));
            self.arm(read);
            read = self.receive(client, by).await?.or_truncated()?;
        }
    }

    /// Reads the whole body, at most `limit` bytes of it; `read` holds what came with the head.
    pub async fn body(
        &mut self,
        client: &mut Client,
        reply: &Reply,
        mut read: Buf,
        limit: usize,
        by: By,
    ) -> Result<Buf, Broken> {
        match reply.body {
            Body::None => self.spoilt |= !read.is_empty(),
            Body::Length(length) => {
                let Ok(length) = usize::try_from(length) else { return Err(What::BadBody.into()) };
                if length > limit {
                    return Err(What::BadBody.into());
                }
                while read.len() < length {
                    read.reserve(length - read.len());
                    self.arm(read);
                    read = self.receive(client, by).await?.or_truncated()?;
                }
                // More than was announced would be taken for the next answer.
                self.spoilt |= read.len() > length;
                read.truncate(length);
            }
            Body::Chunked => {
                let mut decoder = Decoder::new(ChunkLimits::response());
                let mut whole = 0;
                loop {
                    let progress =
                        decoder.decode(&mut read.filled_mut()[whole..]).map_err(|_| What::Truncated)?;
                    let rest = whole + progress.consumed;
                    whole += progress.payload;
                    if progress.done {
                        self.spoilt |= read.len() > rest;
                        read.truncate(whole);
                        break;
                    }
                    read.truncate(whole);
                    if whole > limit {
                        return Err(What::BadBody.into());
                    }
                    read.reserve(whole.clamp(buf::STREAM, buf::LARGE));
                    self.arm(read);
                    read = self.receive(client, by).await?.or_truncated()?;
                }
            }
            Body::UntilClose => {
                self.spoilt = true;
                loop {
                    if read.len() > limit {
                        return Err(What::BadBody.into());
                    }
                    read.reserve(read.len().clamp(buf::STREAM, buf::LARGE));
                    self.arm(read);
                    match self.receive(client, by).await? {
                        Received::More(more) => read = more,
                        Received::End(whole) => {
                            read = whole;
                            break;
                        }
                    }
                }
            }
        }
        if self.sending {
            self.take_back(client).await;
        }
        if !reply.keep_alive {
            self.spoilt = true;
        }
        self.complete();
        Ok(read)
    }

    /// Waits for more of a streamed body, appended to `read`.
    pub async fn more(&mut self, client: &mut Client, mut read: Buf, by: By) -> Result<Received, Broken> {
        // A stream's events are small: room for one batch, more only while an event does not fit.
        if read.room() < buf::IDLE {
            read.reserve(buf::IDLE.max(read.len()));
        }
        self.arm(read);
        self.receive(client, by).await
    }

    /// Waits for more of a body whose content is delivered already, until `by_us` at most and no longer than until the
    /// client asks for something else; `None` when no more came.
    pub async fn more_unless_asked(&mut self, client: &mut Client, mut read: Buf, by_us: u64) -> Option<Buf> {
        read.reserve(buf::IDLE);
        self.arm(read);
        client.deadline.set(by_us);
        loop {
            let event = poll_fn(|cx| match self.poll_event(client, cx) {
                Poll::Pending if client.has_early() => Poll::Ready(None),
                event => event.map(Some),
            });
            match event.await? {
                Event::Read(Ok(n), read) if n > 0 => return Some(read),
                Event::Sent(result, gather) => {
                    self.sending = false;
                    self.spoilt |= result.is_err();
                    client.gather.get_or_insert(gather);
                }
                _ => return None,
            }
        }
    }

    /// Says that the answer was read to its end.
    pub fn complete(&mut self) {
        self.owed = false;
    }

    /// Marks the connection as unfit for another request.
    pub fn spoil(&mut self) {
        self.spoilt = true;
    }

    /// Whether the connection was used before.
    pub fn reused(&self) -> bool {
        self.pooled.as_ref().is_some_and(|p| p.reused)
    }

    /// Ends the call: the connection goes back to the pool when it may, else it is closed. The request's buffer is back
    /// with the client afterwards.
    pub async fn end(&mut self, client: &mut Client) {
        if self.sending {
            self.take_back(client).await;
        }
        if let Some(pooled) = self.pooled.take()
            && !self.owed
            && !self.spoilt
        {
            client.core.pool.borrow_mut().put(self.origin, pooled, clock::now_us());
        }
    }
}

/// Parses a response head out of `read` and takes it off; `None` when it is not whole yet.
fn parse_reply(
    client: &Client,
    read: &mut Buf,
    is_head: bool,
    limits: &HeadLimits,
) -> Result<Option<Reply>, What> {
    let mut guard = client.core.fields.borrow_mut();
    let fields = &mut **guard;
    let bytes = read.filled();
    let head = match parse_response(bytes, fields, limits).map_err(|_| What::BadHead)? {
        Parsed::Complete(head) => head,
        Parsed::Partial => return Ok(None),
    };
    let framing = frame_response(&head, fields, bytes, is_head).map_err(|_| What::BadHead)?;
    if head.status == 101 {
        return Err(What::BadHead);
    }
    let value = |known| fields.value(bytes, known);
    let content = match value(Known::ContentType) {
        _ if value(Known::ContentEncoding).is_some_and(|c| !c.eq_ignore_ascii_case(b"identity")) => {
            Content::Coded
        }
        Some(v) if starts_with(v, b"application/json") => Content::Json,
        Some(v) if starts_with(v, b"text/event-stream") => Content::Events,
        Some(v) if starts_with(v, b"text/html") => Content::Html,
        _ => Content::Other,
    };
    let mut lines = Buf::default();
    let mut request_ids = [0..0, 0..0];
    if head.status >= 200 {
        lines = Buf::take(buf::IDLE);
        // RFC 9110 section 6.6.1: whoever passes an answer on that has no date adds one.
        let made = client.core.date();
        for part in [b"date: ", value(Known::Date).unwrap_or(&made), b"\r\n"] {
            lines.push(part);
        }
        for field in fields.iter() {
            let name = field.name.of(bytes);
            if crate::dialect::head::forward_response_header(name) {
                for (range, own) in request_ids.iter_mut().zip([&b"x-request-id"[..], b"request-id"]) {
                    if name.eq_ignore_ascii_case(own) {
                        let start = lines.len() + name.len() + 2;
                        *range = start..start + field.value.of(bytes).len();
                    }
                }
                for part in [name, b": ", field.value.of(bytes), b"\r\n"] {
                    lines.push(part);
                }
            }
        }
    }
    let hint = |known| if head.status >= 400 { value(known).map(Box::from) } else { None };
    let reply = Reply {
        status: head.status,
        body: framing.body,
        keep_alive: framing.keep_alive,
        content,
        lines,
        request_ids,
        hints: [hint(Known::RetryAfter), hint(Known::RetryAfterMs), hint(Known::XShouldRetry)],
    };
    let len = head.len;
    read.consume(len);
    Ok(Some(reply))
}

fn starts_with(value: &[u8], lower: &[u8]) -> bool {
    value.get(..lower.len()).is_some_and(|start| start.eq_ignore_ascii_case(lower))
}
