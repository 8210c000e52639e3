//! Whether a message may pass and how long its body is: the policy above the tokenizer.
//!
//! Two readers that disagree about where a message ends are how requests are smuggled, and two respected parsers leave a
//! fifth of the known attacks open because these rules sit above their grammar. So a message here has exactly one
//! framing, said once, in the plainest form; whatever else could be meant is refused, not repaired.
//!
//! Invariants: a refused message closes its connection. Nothing here decides by Host beyond its shape, and the path is
//! never normalised: router and authoriser see the bytes that were checked.
//!
//! It leaves out: limits on body length (the reader counts), routing, authorisation, and the host and origin lists.

mod target;

pub use target::{PathQuery, check_target};

use self::target::{is_host, split_authority};
use super::HeadError;
use super::fields::{Fields, Known, set_of};
use super::head::{RequestHead, ResponseHead};
use super::simd::is_tchar;

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// Exactly this many bytes; up to 19 digits were sent, so compare with a limit before anything else.
    Length(u64),
    /// `Transfer-Encoding: chunked`; see [`super::chunked`].
    Chunked,
    /// All until the connection closes; responses only. A cut-off body looks like a whole one.
    UntilClose,
}

/// How a request is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFraming {
    /// The body that follows the head.
    pub body: Body,
    /// Whether the client is willing to send another request afterwards.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
}

/// How a response is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseFraming {
    /// The body that follows the head.
    pub body: Body,
    /// Whether the connection may serve again once the body is complete and nothing else has arrived.
    pub keep_alive: bool,
}

/// Fields that may come once: two of them are read differently by different servers.
const SINGLE_IN_REQUEST: u64 = set_of(&[
    Known::Host,
    Known::ContentLength,
    Known::TransferEncoding,
    Known::Authorization,
    Known::ProxyAuthorization,
    Known::XApiKey,
    Known::ApiKey,
    Known::XGoogApiKey,
    Known::ContentType,
    Known::ContentEncoding,
    Known::Expect,
    Known::IdempotencyKey,
]);

const SINGLE_IN_RESPONSE: u64 = set_of(&[Known::ContentLength, Known::TransferEncoding, Known::ContentType]);

/// Fields that Connection must not nominate: dropping them on the way changes who asks, or what is asked.
const NEVER_HOP_BY_HOP: u64 = set_of(&[
    Known::Host,
    Known::ContentLength,
    Known::TransferEncoding,
    Known::ContentType,
    Known::ContentEncoding,
    Known::Authorization,
    Known::XApiKey,
    Known::ApiKey,
    Known::XGoogApiKey,
    Known::Cookie,
    Known::SetCookie,
    Known::Expect,
    Known::UnderscoreAlias,
]);

/// Decides how to read a request whose head was parsed from `buf`.
///
/// # Errors
/// The first rule that is broken, with the status to answer. The connection is to be closed.
pub fn frame_request(
    head: &RequestHead<'_>,
    fields: &Fields,
    buf: &[u8],
) -> Result<RequestFraming, HeadError> {
    refuse_repeats(fields, SINGLE_IN_REQUEST)?;
    if fields.has(Known::UnderscoreAlias) {
        return Err(HeadError::UnderscoreAlias);
    }
    check_host_and_target(head, fields.value(buf, Known::Host))?;
    let modern = head.minor >= 1;
    let connection = connection(fields, buf)?;
    if connection.forbidden {
        return Err(HeadError::Nomination);
    }
    let body = match framing_fields(fields, buf, modern)? {
        Some(body) => body,
        None => Body::None,
    };
    let expect_continue = match fields.value(buf, Known::Expect) {
        None => false,
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => {
            // RFC 9110 section 10.1.1: ignored in HTTP/1.0, and there is nothing to wait for without a body.
            modern && !matches!(body, Body::None | Body::Length(0))
        }
        Some(_) => return Err(HeadError::Expectation),
    };
    let keep_alive = !connection.close && (modern || connection.keep_alive);
    Ok(RequestFraming { body, keep_alive, expect_continue })
}

/// Decides how to read a response whose head was parsed from `buf`. A 1xx status has no body and another head follows.
///
/// # Errors
/// The first rule that is broken: the response is discarded, the connection closed, and the client gets 502.
pub fn frame_response(
    head: &ResponseHead<'_>,
    fields: &Fields,
    buf: &[u8],
    request_was_head: bool,
) -> Result<ResponseFraming, HeadError> {
    if head.status == 101 {
        return Err(HeadError::Unrequested101);
    }
    refuse_repeats(fields, SINGLE_IN_RESPONSE)?;
    let modern = head.minor >= 1;
    // A provider's nominations are not obeyed: what goes to the client is an allow-list.
    let connection = connection(fields, buf)?;
    let framed = framing_fields(fields, buf, modern)?;
    let keep_alive = modern && !connection.close;
    let without_content = matches!(head.status, 100..=199 | 204);
    if without_content || head.status == 304 || request_was_head {
        // RFC 9112 section 6.3: these end with their head. Where they announce content all the same, it may follow.
        let announced = without_content && !matches!(framed, None | Some(Body::Length(0)));
        return Ok(ResponseFraming { body: Body::None, keep_alive: keep_alive && !announced });
    }
    match framed {
        Some(body) => Ok(ResponseFraming { body, keep_alive }),
        None => Ok(ResponseFraming { body: Body::UntilClose, keep_alive: false }),
    }
}

fn refuse_repeats(fields: &Fields, single: u64) -> Result<(), HeadError> {
    let repeats = fields.repeated_bits() & single;
    if repeats == 0 {
        return Ok(());
    }
    let first = fields.iter().map(|field| field.known).find(|known| known.bit() & repeats != 0);
    Err(HeadError::Repeated(first.unwrap_or(Known::Other)))
}

// RFC 9112 section 3.2: request-target = origin-form / absolute-form / authority-form / asterisk-form
fn check_host_and_target(head: &RequestHead<'_>, host: Option<&[u8]>) -> Result<(), HeadError> {
    match host {
        Some(host) if !is_host(host) => return Err(HeadError::HostValue),
        None if head.minor >= 1 => return Err(HeadError::HostMissing),
        _ => {}
    }
    if head.method == b"CONNECT" {
        return Err(HeadError::Connect);
    }
    if head.target == b"*" {
        return if head.method == b"OPTIONS" { Ok(()) } else { Err(HeadError::TargetForm) };
    }
    check_target(head.target)?;
    match split_authority(head.target)?.0 {
        Some(authority) if !host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) => {
            Err(HeadError::HostMismatch)
        }
        _ => Ok(()),
    }
}

struct Connection {
    close: bool,
    keep_alive: bool,
    forbidden: bool,
}

// RFC 9110 section 7.6.1: Connection = #connection-option ; connection-option = token
fn connection(fields: &Fields, buf: &[u8]) -> Result<Connection, HeadError> {
    let mut seen = Connection { close: false, keep_alive: false, forbidden: false };
    match fields.value(buf, Known::Connection) {
        None => return Ok(seen),
        // What nearly all clients send.
        Some(b"keep-alive" | b"Keep-Alive") if !fields.repeated(Known::Connection) => {
            seen.keep_alive = true;
            return Ok(seen);
        }
        Some(_) => {}
    }
    for field in fields.iter().filter(|field| field.known == Known::Connection) {
        for option in field.value.of(buf).split(|&byte| byte == b',').map(trim) {
            if !option.iter().copied().all(is_tchar) {
                return Err(HeadError::ConnectionValue);
            }
            seen.close |= option.eq_ignore_ascii_case(b"close");
            seen.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            seen.forbidden |= Known::of(option).bit() & NEVER_HOP_BY_HOP != 0;
        }
    }
    Ok(seen)
}

/// What Content-Length and Transfer-Encoding say together; `None` when neither is there.
fn framing_fields(fields: &Fields, buf: &[u8], modern: bool) -> Result<Option<Body>, HeadError> {
    let length = fields.value(buf, Known::ContentLength);
    match (length, fields.value(buf, Known::TransferEncoding)) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(HeadError::LengthAndEncoding),
        (Some(length), None) => content_length(length).map(|length| Some(Body::Length(length))),
        (None, Some(_)) if !modern => Err(HeadError::EncodingInOldVersion),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Body::Chunked)),
        (None, Some(coding)) => Err(coding_error(coding)),
    }
}

// RFC 9110 section 8.6: Content-Length = 1*DIGIT
fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    let plain = matches!(value.len(), 1..=19)
        && value.iter().all(u8::is_ascii_digit)
        && (value.len() == 1 || value[0] != b'0');
    // 19 digits are less than 2^64, so nothing overflows.
    let number = |value: &[u8]| value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    if plain { Ok(number(value)) } else { Err(HeadError::ContentLength) }
}

/// 501 for codings that exist, written as the grammar wants them and ended by one `chunked`; 400 for all else.
#[cold]
fn coding_error(value: &[u8]) -> HeadError {
    const CODINGS: [&[u8]; 6] = [b"gzip", b"deflate", b"compress", b"x-gzip", b"x-compress", b"br"];
    let mut codings: Vec<&[u8]> = value.split(|&byte| byte == b',').map(trim).collect();
    let ends_in_chunked = codings.pop().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    let exists = |coding: &[u8]| CODINGS.iter().any(|known| known.eq_ignore_ascii_case(coding));
    if ends_in_chunked && !codings.is_empty() && codings.into_iter().all(exists) {
        HeadError::TransferCoding
    } else {
        HeadError::TransferEncoding
    }
}

/// Without the blanks around it; blanks are SP and HTAB and nothing else.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests;
