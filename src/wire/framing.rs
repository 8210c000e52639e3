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

/// A request target, split at the first `?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathQuery<'b> {
    /// The raw path, starting with `/`; or `*`.
    pub path: &'b [u8],
    /// The raw query without its `?`; empty when there is none.
    pub query: &'b [u8],
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

/// Checks a request target and splits it into path and query.
///
/// Accepts the origin form, `*`, and the absolute form with `http` or `https` (whose authority is left out; compare it
/// with Host as [`frame_request`] does). The path has no dot segment, no empty segment, no encoded slash, backslash or
/// NUL, no `;`: whoever normalises later could see another path than the one that was authorised.
///
/// # Errors
/// What is wrong, with status 400 or 404.
pub fn check_target(target: &[u8]) -> Result<PathQuery<'_>, HeadError> {
    if target == b"*" {
        return Ok(PathQuery { path: target, query: b"" });
    }
    let target = split_authority(target)?.1;
    let mark = memchr::memchr(b'?', target);
    let path = &target[..mark.unwrap_or(target.len())];
    let query = mark.map_or(&b""[..], |mark| &target[mark + 1..]);
    check_path(path)?;
    check_query(query)?;
    Ok(PathQuery { path: if path.is_empty() { b"/" } else { path }, query })
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

/// Splits `http://authority` off; the rest starts with `/` or `?`, or is empty.
fn split_authority(target: &[u8]) -> Result<(Option<&[u8]>, &[u8]), HeadError> {
    if target.first() == Some(&b'/') {
        return Ok((None, target));
    }
    let has =
        |scheme: &[u8]| target.len() > scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme);
    let after = match (has(b"http://"), has(b"https://")) {
        (true, _) => &target[7..],
        (_, true) => &target[8..],
        _ => return Err(HeadError::TargetForm),
    };
    let end = after.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(after.len());
    let (authority, rest) = after.split_at(end);
    if is_host(authority) { Ok((Some(authority), rest)) } else { Err(HeadError::HostValue) }
}

// RFC 3986 section 3.3: pchar = unreserved / pct-encoded / sub-delims / ":" / "@"
// Of these, ";" is refused.
fn check_path(path: &[u8]) -> Result<(), HeadError> {
    let mut at = 0;
    let mut segment = 0;
    while let Some(&byte) = path.get(at) {
        match byte {
            b'/' => {
                if at > 0 {
                    check_segment(&path[segment..at])?;
                }
                segment = at + 1;
                if path.get(segment) == Some(&b'/') {
                    return Err(HeadError::EmptySegment);
                }
            }
            b'%' => {
                check_escape(decode_escape(path, at)?)?;
                at += 2;
            }
            b';' => return Err(HeadError::PathParameter),
            b'#' => return Err(HeadError::Fragment),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {}
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => {}
            _ => return Err(HeadError::PathByte),
        }
        at += 1;
    }
    check_segment(&path[segment.min(path.len())..])
}

/// Refuses `.` and `..`, also with dots written as `%2e`.
fn check_segment(segment: &[u8]) -> Result<(), HeadError> {
    let mut rest = segment;
    let mut dots = 0;
    while !rest.is_empty() {
        rest = match rest {
            [b'.', after @ ..] | [b'%', b'2', b'e' | b'E', after @ ..] => after,
            _ => return Ok(()),
        };
        dots += 1;
    }
    if matches!(dots, 1 | 2) { Err(HeadError::DotSegment) } else { Ok(()) }
}

/// Refuses escapes that hide a separator or an end of string.
fn check_escape(byte: u8) -> Result<(), HeadError> {
    match byte {
        b'/' => Err(HeadError::EncodedSlash),
        b'\\' | 0 => Err(HeadError::PathByte),
        _ => Ok(()),
    }
}

// RFC 3986 section 2.1: pct-encoded = "%" HEXDIG HEXDIG
fn decode_escape(text: &[u8], at: usize) -> Result<u8, HeadError> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    match text.get(at + 1..at + 3) {
        Some(&[high, low]) => match (digit(high), digit(low)) {
            (Some(high), Some(low)) => Ok((high * 16 + low) as u8),
            _ => Err(HeadError::PercentEncoding),
        },
        _ => Err(HeadError::PercentEncoding),
    }
}

/// Browsers send more bytes raw in a query than RFC 3986 has; none of them is routed by.
fn check_query(query: &[u8]) -> Result<(), HeadError> {
    for (at, byte) in query.iter().enumerate() {
        match byte {
            b'#' => return Err(HeadError::Fragment),
            b'%' => drop(decode_escape(query, at)?),
            b'!'..=b'~' => {}
            _ => return Err(HeadError::TargetByte),
        }
    }
    Ok(())
}

// RFC 9110 section 7.2: Host = uri-host [ ":" port ]
// Of uri-host, registered names of letters, digits, "-", "." and "_" are taken, and addresses.
fn is_host(value: &[u8]) -> bool {
    let (name, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else { return false };
            let (address, after) = (&rest[..end], &rest[end + 1..]);
            let plausible = address.len() >= 2
                && address.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
            match after {
                [] => return plausible,
                [b':', port @ ..] if plausible => (address, Some(port)),
                _ => return false,
            }
        }
        _ => match value.iter().position(|&byte| byte == b':') {
            Some(colon) => (&value[..colon], Some(&value[colon + 1..])),
            None => (value, None),
        },
    };
    let named = value.first() == Some(&b'[')
        || (!name.is_empty()
            && name.len() <= 255
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')));
    named && port.is_none_or(is_port)
}

fn is_port(digits: &[u8]) -> bool {
    let number = |digits: &[u8]| digits.iter().fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    matches!(digits.len(), 1..=5) && digits.iter().all(u8::is_ascii_digit) && number(digits) <= 65_535
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
