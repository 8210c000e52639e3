//! The head of a provider's answer: what is needed of it, copied out of the field table, which belongs to the core and
//! is gone at the next await.

use crate::net::{Buf, buf};
use crate::policy::What;
use crate::wire::fields::Known;
use crate::wire::framing::{Body, frame_response};
use crate::wire::head::{HeadLimits, Parsed, parse_response};

use super::core::Core;

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

/// Parses a response head out of `read` and takes it off; `None` when it is not whole yet.
pub fn parse_reply(
    core: &Core,
    read: &mut Buf,
    is_head: bool,
    limits: &HeadLimits,
) -> Result<Option<Reply>, What> {
    let mut guard = core.fields.borrow_mut();
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
        lines = Buf::take(buf::SMALL);
        // RFC 9110 section 6.6.1: whoever passes an answer on that has no date adds one.
        let made = core.date();
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
