//! What the gateway itself has to say: response heads, refusals, errors in the client's dialect.

use std::future::poll_fn;
use std::task::Poll;

use crate::config::Dialect;
use crate::dialect::error::{ErrorKind, GatewayError, render_error, render_stream_error};
use crate::dialect::translate::Dropped;
use crate::dialect::{Api, json};
use crate::meter::Source;
use crate::net::{Buf, buf};
use crate::wire::HeadError;
use crate::wire::chunked::ChunkError;

use super::account::{RequestId, Told};
use super::client::{After, Client};
use super::inbound::Inbound;

/// What is written of a large page before others on the core get their turn, bytes: about ten microseconds of work.
const PIECE: usize = 32 * 1024;

/// Why a request is not served. Its connection is closed after the answer: what follows on it cannot be trusted, or
/// was not read.
#[derive(Debug)]
pub struct Refusal {
    error: GatewayError,
    dialect: Dialect,
    /// Methods for the `Allow` field of a 405.
    allow: Option<&'static str>,
    /// HEAD was asked.
    is_head: bool,
}

fn kind_of(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::Authentication,
        403 | 421 => ErrorKind::Permission,
        404 => ErrorKind::NotFound,
        408 => ErrorKind::Timeout,
        413 => ErrorKind::TooLarge,
        500.. => ErrorKind::Server,
        _ => ErrorKind::InvalidRequest,
    }
}

impl Refusal {
    /// A refusal with this status, stable code and sentence.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Refusal {
        let mut error = GatewayError::new(kind_of(status), message);
        error.status = status;
        error.code = code.into();
        // The same bytes would be refused again.
        error.should_retry = Some(status == 408 || status >= 500);
        Refusal { error, dialect: Dialect::OpenAi, allow: None, is_head: false }
    }

    /// The head broke a rule.
    pub fn head(error: HeadError) -> Box<Refusal> {
        Box::new(Refusal::new(error.status(), "bad_request_head", error.sentence()))
    }

    /// The chunk framing of the body broke a rule.
    pub fn chunked(error: ChunkError) -> Refusal {
        Refusal::new(error.status(), "bad_request_body", error.sentence())
    }

    /// Something did not arrive in time.
    pub fn timeout(what: &str) -> Refusal {
        Refusal::new(408, "request_timeout", format!("{what}; send it faster or retry"))
    }

    /// The body is larger than the plan allows.
    pub fn too_large(limit: u64) -> Refusal {
        Refusal::new(
            413,
            "request_too_large",
            format!("the request body is larger than {limit} bytes; raise limits.body or send less"),
        )
    }

    /// The method is not served on this path.
    pub fn method(allow: &'static str) -> Refusal {
        let refusal = Refusal::new(405, "method_not_allowed", format!("this path answers {allow} only"));
        Refusal { allow: Some(allow), ..refusal }
    }

    /// The same, for a client of this dialect.
    pub fn in_dialect(mut self, dialect: Dialect) -> Refusal {
        self.dialect = dialect;
        self
    }

    /// The same, as an answer to this request.
    pub fn at(mut self, inbound: &Inbound) -> Refusal {
        self.dialect = inbound.dialect;
        self.is_head = inbound.is_head;
        self
    }
}

/// Answers with a refusal; the connection is to be closed as the result says.
pub async fn refuse(client: &mut Client, refusal: &Refusal) -> After {
    client.notes.told = Told::error(&refusal.error);
    let mut body = Vec::with_capacity(256);
    let id = request_id(client.core.next_id());
    client.notes.id = RequestId::of(&id);
    let id = text(&id);
    render_error(refusal.dialect, &refusal.error, id, &mut body);
    let mut head = Buf::take(buf::IDLE);
    let out = head.as_vec();
    status_line(out, refusal.error.status);
    field(out, "date", &client.core.date());
    field(out, "content-type", b"application/json");
    request_id_fields(out, refusal.dialect, id);
    error_fields(out, &refusal.error);
    if let Some(allow) = refusal.allow {
        field(out, "allow", allow.as_bytes());
    }
    number_field(out, "content-length", body.len() as u64);
    out.extend_from_slice(b"Connection: close\r\n\r\n");
    if !refusal.is_head {
        out.extend_from_slice(&body);
    }
    match client.write(head).await {
        Ok(()) => After::Close,
        Err(_) => After::Cut,
    }
}

/// Answers a request with a JSON body of the gateway's own.
pub async fn json(client: &mut Client, inbound: &Inbound, status: u16, body: &[u8]) -> After {
    page(client, inbound, status, "application/json", body).await
}

/// Answers a request with a body of the gateway's own.
pub async fn page(client: &mut Client, inbound: &Inbound, status: u16, kind: &str, body: &[u8]) -> After {
    page_with(client, inbound, status, kind, b"", body).await
}

/// The same with more fields; `extra` is complete field lines. A 304 has no body and no length of one.
pub async fn page_with(
    client: &mut Client,
    inbound: &Inbound,
    status: u16,
    kind: &str,
    extra: &[u8],
    body: &[u8],
) -> After {
    client.notes.told = Told::answer(status, Source::Gateway);
    let mut head = Buf::take(buf::IDLE);
    let keep = keeps(client, inbound);
    let out = head.as_vec();
    status_line(out, status);
    field(out, "date", &client.core.date());
    if status != 304 {
        field(out, "content-type", kind.as_bytes());
        number_field(out, "content-length", body.len() as u64);
    }
    out.extend_from_slice(extra);
    connection(out, keep, inbound.minor);
    out.extend_from_slice(b"\r\n");
    if inbound.is_head {
        return after(client.write(head).await.is_ok(), keep);
    }
    let (first, rest) = body.split_at(body.len().min(PIECE));
    out.extend_from_slice(first);
    let mut fine = client.write(head).await.is_ok();
    // A page of metrics can have megabytes, which would hold up every exchange of the core for a millisecond.
    for piece in rest.chunks(PIECE) {
        if !fine {
            break;
        }
        others_first().await;
        fine = client.write(Buf::copy_of(piece)).await.is_ok();
    }
    after(fine, keep)
}

/// Lets whatever else is ready on the core run before it goes on.
async fn others_first() {
    let mut asked = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Answers a request with an error. `extra` is complete field lines.
pub async fn error(client: &mut Client, inbound: &Inbound, error: &GatewayError, extra: &[u8]) -> After {
    client.notes.told = Told::error(error);
    let id = request_id(client.core.next_id());
    client.notes.id = RequestId::of(&id);
    let id = text(&id);
    let mut body = Vec::with_capacity(512);
    render_error(inbound.dialect, error, id, &mut body);
    let keep = keeps(client, inbound);
    let mut head = Buf::take(buf::IDLE);
    let out = head.as_vec();
    status_line(out, error.status);
    field(out, "date", &client.core.date());
    field(out, "content-type", b"application/json");
    request_id_fields(out, inbound.dialect, id);
    error_fields(out, error);
    out.extend_from_slice(extra);
    number_field(out, "content-length", body.len() as u64);
    connection(out, keep, inbound.minor);
    out.extend_from_slice(b"\r\n");
    if !inbound.is_head {
        out.extend_from_slice(&body);
    }
    after(client.write(head).await.is_ok(), keep)
}

/// Appends one event that says that the stream broke; never a clean end.
pub fn stream_error(out: &mut Vec<u8>, dialect: Dialect, api: Api, message: &str) {
    let mut error = GatewayError::new(ErrorKind::Server, message);
    error.status = 502;
    error.code = "upstream_truncated".into();
    render_stream_error(dialect, api, &error, out);
}

/// What becomes of the connection after an answer.
pub fn after(written: bool, keep: bool) -> After {
    match (written, keep) {
        (false, _) => After::Cut,
        (true, true) => After::Keep,
        (true, false) => After::Close,
    }
}

/// Whether the connection may serve another request after this one.
pub fn keeps(client: &Client, inbound: &Inbound) -> bool {
    inbound.keep_alive && !client.core.draining()
}

/// Each SDK family reads its own name.
pub fn request_id_fields(out: &mut Vec<u8>, dialect: Dialect, id: &str) {
    field(out, "x-request-id", id.as_bytes());
    if dialect == Dialect::Anthropic {
        field(out, "request-id", id.as_bytes());
    }
}

fn error_fields(out: &mut Vec<u8>, error: &GatewayError) {
    if let Some(seconds) = error.retry_after_s {
        number_field(out, "retry-after", u64::from(seconds));
    }
    if let Some(retry) = error.should_retry {
        field(out, "x-should-retry", if retry { b"true" } else { b"false" });
    }
}

/// Appends the status line.
pub fn status_line(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    json::push_number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a field line.
pub fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a field line whose value is a number.
pub fn number_field(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    json::push_number(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a field line whose value is an amount of money in dollars, to the nano-dollar; nothing for 0, because what is
/// not priced is not free.
pub fn dollar_field(out: &mut Vec<u8>, name: &str, nano_usd: u64) {
    if nano_usd == 0 {
        return;
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    json::push_number(out, nano_usd / 1_000_000_000);
    let mut rest = nano_usd % 1_000_000_000;
    if rest > 0 {
        let mut digits = *b".000000000";
        for digit in digits[1..].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let zeros = digits.iter().rev().take_while(|d| **d == b'0').count();
        out.extend_from_slice(&digits[..digits.len() - zeros]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the names of what a translation left out of the request, where it left anything out.
pub fn dropped(out: &mut Vec<u8>, dropped: Dropped) {
    for (n, name) in dropped.names().enumerate() {
        out.extend_from_slice(if n == 0 { b"x-sluice-dropped: " } else { b", " });
        out.extend_from_slice(name.as_bytes());
    }
    if !dropped.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the Connection field where one is needed.
pub fn connection(out: &mut Vec<u8>, keep: bool, minor: u8) {
    if !keep {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if minor == 0 {
        // HTTP/1.0 closes by default; a client that asked to keep must be told (RFC 9112 appendix C.2.2).
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
}

/// The id of an exchange as clients see it: `req_` and 16 hex digits.
pub fn request_id(id: u64) -> [u8; 20] {
    let mut out = *b"req_0000000000000000";
    for (i, byte) in out[4..].iter_mut().enumerate() {
        *byte = b"0123456789abcdef"[(id >> (60 - 4 * i)) as usize & 15];
    }
    out
}

/// The text of a request id.
pub fn text(id: &[u8; 20]) -> &str {
    // Hex digits are ASCII; the fallback is never taken.
    std::str::from_utf8(id).unwrap_or_default()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        529 => "Overloaded",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_readable_and_keeps_every_bit() {
        assert_eq!(text(&request_id(0x0123_4567_89ab_cdef)), "req_0123456789abcdef");
    }

    #[test]
    fn money_is_written_in_dollars_without_rounding() {
        for (nano_usd, expected) in [
            (0, ""),
            (1, "c: 0.000000001\r\n"),
            (12_300, "c: 0.0000123\r\n"),
            (2_000_000_000, "c: 2\r\n"),
            (u64::MAX, "c: 18446744073.709551615\r\n"),
        ] {
            let mut out = Vec::new();
            dollar_field(&mut out, "c", nano_usd);
            assert_eq!(out, expected.as_bytes());
        }
    }

    #[test]
    fn http_1_0_is_told_when_the_connection_is_kept() {
        for (keep, minor, expected) in
            [(true, 1, ""), (true, 0, "Connection: keep-alive\r\n"), (false, 1, "Connection: close\r\n")]
        {
            let mut out = Vec::new();
            connection(&mut out, keep, minor);
            assert_eq!(out, expected.as_bytes());
        }
    }
}
