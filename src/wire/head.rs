//! Request and response heads, HTTP/1.1 and 1.0 (RFC 9112), strict and zero-copy.
//!
//! The tokenizer: it says where things are and refuses what the grammar does not allow, in the strictest reading. Lines
//! end in CRLF and in nothing else; there is no folding, no blank before a colon, no control byte in a value. Whether
//! the message may pass and how its body is framed is the business of [`super::framing`].
//!
//! A head that has not arrived whole yields [`Parsed::Partial`], and only when what is there could still become a valid
//! head: what is certainly bad is refused at once. The parser keeps no state between calls; [`Arrival`] tells a
//! reader when parsing again is worth it, so that a head that dribbles in costs a bounded number of parses.
//!
//! Limits: [`METHOD_MAX`], and those that the caller gives ([`HeadLimits`]), up to [`HEAD_MAX`] and [`CAPACITY`].
//! It leaves out: joining of repeated fields, and decoding of any value.

mod arrival;
mod lines;

pub use arrival::Arrival;

use self::lines::{block_at, find_stop, parse_fields};
use super::HeadError;
use super::fields::{CAPACITY, Fields};
use super::simd::{Lanes, NAME_BLOCK, TARGET, Task, VALUE, dispatch, is_tchar};

/// Longest method: no registered one is longer than 18, and a flood of letters is cut off early.
pub const METHOD_MAX: usize = 32;
/// The longest head that limits can allow: sixteen times the largest that any proxy in front of SDKs lets through.
pub const HEAD_MAX: usize = 1024 * 1024;
/// Empty lines accepted before a request line: RFC 9112 section 2.2 asks for at least one.
pub const LEADING_LINES_MAX: usize = 2;

/// How much of a head is read before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Longest request line without its CRLF, bytes; of a response, the head's own bound counts.
    pub line: usize,
    /// Longest head, bytes; at most [`HEAD_MAX`].
    pub bytes: usize,
    /// Most fields; at most [`CAPACITY`].
    pub fields: usize,
}

impl HeadLimits {
    /// What a request may have unless the plan says otherwise. A line of 8 KiB is what RFC 9112 section 3 asks servers
    /// to support at least, and targets here are short. 64 KiB is ten times the largest head seen from any SDK, with
    /// long tokens. SDKs send about 20 fields, browsers behind proxies about 50.
    pub const REQUEST: HeadLimits = HeadLimits { line: 8 * 1024, bytes: 64 * 1024, fields: 100 };
    /// What a response may have unless the plan says otherwise. Providers send up to 40 fields, with CDNs before them.
    pub const RESPONSE: HeadLimits = HeadLimits { line: 64 * 1024, bytes: 64 * 1024, fields: CAPACITY };
}

/// What a parser made of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// All of it arrived.
    Complete(T),
    /// What arrived is a valid beginning; more bytes are needed.
    Partial,
}

/// A request line. Its fields are in the table given to [`parse_request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'b> {
    /// The method as sent; it is case-sensitive.
    pub method: &'b [u8],
    /// The target as sent; see [`super::framing::check_target`].
    pub target: &'b [u8],
    /// 1 for HTTP/1.1, 0 for HTTP/1.0.
    pub minor: u8,
    /// Bytes of the buffer used, with leading empty lines and the empty line at the end.
    pub len: usize,
}

/// A status line. Its fields are in the table given to [`parse_response`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead<'b> {
    /// 100 to 599.
    pub status: u16,
    /// The reason phrase; often empty.
    pub reason: &'b [u8],
    /// 1 for HTTP/1.1, 0 for HTTP/1.0.
    pub minor: u8,
    /// Bytes of the buffer used, with the empty line at the end.
    pub len: usize,
}

/// Parses the head of a request from the start of `buf`; `fields` is cleared first and filled.
///
/// # Errors
/// The first thing that is wrong, with the status to answer. The connection is to be closed.
pub fn parse_request<'b>(
    buf: &'b [u8],
    fields: &mut Fields,
    limits: &HeadLimits,
) -> Result<Parsed<RequestHead<'b>>, HeadError> {
    fields.clear();
    let window = buf.get(..limits.bytes.min(HEAD_MAX)).unwrap_or(buf);
    let parsed = dispatch(Request { buf: window, fields, limits });
    bounded(parsed, window, limits)
}

/// Parses the head of a response from the start of `buf`; `fields` is cleared first and filled.
///
/// # Errors
/// The first thing that is wrong. The client gets 502 and the connection is to be closed.
pub fn parse_response<'b>(
    buf: &'b [u8],
    fields: &mut Fields,
    limits: &HeadLimits,
) -> Result<Parsed<ResponseHead<'b>>, HeadError> {
    fields.clear();
    let window = buf.get(..limits.bytes.min(HEAD_MAX)).unwrap_or(buf);
    let parsed = dispatch(Response { buf: window, fields, limits });
    bounded(parsed, window, limits)
}

/// A head that is not whole although all that may be read of it is there is too long.
#[inline(always)]
fn bounded<T>(
    parsed: Result<Parsed<T>, HeadError>,
    window: &[u8],
    limits: &HeadLimits,
) -> Result<Parsed<T>, HeadError> {
    match parsed {
        Ok(Parsed::Partial) if window.len() >= limits.bytes.min(HEAD_MAX) => Err(HeadError::HeadTooLarge),
        parsed => parsed,
    }
}

struct Request<'b, 'f> {
    buf: &'b [u8],
    fields: &'f mut Fields,
    limits: &'f HeadLimits,
}

impl<'b> Task for Request<'b, '_> {
    type Output = Result<Parsed<RequestHead<'b>>, HeadError>;

    // RFC 9112 section 3: request-line = method SP request-target SP HTTP-version
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Self::Output {
        let buf = self.buf;
        let Some(start) = skip_leading_lines(buf)? else { return Ok(Parsed::Partial) };
        let Some(method_end) = method(lanes, buf, start)? else { return Ok(Parsed::Partial) };
        let target_start = method_end + 1;
        let line_max = self.limits.line;
        let line = buf.get(..start + line_max + 1).unwrap_or(buf);
        let Some(target_end) = find_stop::<L, TARGET>(lanes, line, target_start) else {
            let full = buf.len().saturating_sub(start) > line_max;
            return if full { Err(HeadError::RequestLineTooLong) } else { Ok(Parsed::Partial) };
        };
        if target_end == target_start || buf[target_end] != b' ' {
            return Err(target_error(buf[target_end], target_end == target_start));
        }
        let Some(minor) = version(&buf[target_end + 1..])? else { return Ok(Parsed::Partial) };
        let line_end = target_end + 1 + VERSION_LENGTH;
        if line_end - start > line_max {
            return Err(HeadError::RequestLineTooLong);
        }
        let fields_start = match line_ending(buf, line_end)? {
            Some(next) => next,
            None => return Ok(Parsed::Partial),
        };
        let Some(len) = parse_fields(lanes, buf, fields_start, self.fields, self.limits.fields)? else {
            return Ok(Parsed::Partial);
        };
        let head = RequestHead {
            method: &buf[start..method_end],
            target: &buf[target_start..target_end],
            minor,
            len,
        };
        Ok(Parsed::Complete(head))
    }
}

struct Response<'b, 'f> {
    buf: &'b [u8],
    fields: &'f mut Fields,
    limits: &'f HeadLimits,
}

impl<'b> Task for Response<'b, '_> {
    type Output = Result<Parsed<ResponseHead<'b>>, HeadError>;

    // RFC 9112 section 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]
    // The second SP is missing in many servers' answers without a reason, and nothing can be read into that.
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Self::Output {
        let buf = self.buf;
        let Some(minor) = version(buf)? else { return Ok(Parsed::Partial) };
        let Some(&[separator, ref code @ ..]) = buf.get(VERSION_LENGTH..).filter(|rest| !rest.is_empty())
        else {
            return Ok(Parsed::Partial);
        };
        if separator != b' ' {
            return Err(HeadError::Version);
        }
        let mut status = 0;
        for (place, digit) in code.iter().take(3).enumerate() {
            let valid = if place == 0 { matches!(digit, b'1'..=b'5') } else { digit.is_ascii_digit() };
            if !valid {
                return Err(HeadError::StatusCode);
            }
            status = status * 10 + u16::from(digit - b'0');
        }
        let code_end = VERSION_LENGTH + 4;
        let reason_start = match buf.get(code_end) {
            None => return Ok(Parsed::Partial),
            Some(b' ') => code_end + 1,
            Some(b'\r' | b'\n') => code_end,
            Some(_) => return Err(HeadError::StatusCode),
        };
        // reason-phrase = 1*( HTAB / SP / VCHAR / obs-text ), the bytes of a field value.
        let Some(reason_end) = find_stop::<L, VALUE>(lanes, buf, reason_start) else {
            return Ok(Parsed::Partial);
        };
        if !matches!(buf[reason_end], b'\r' | b'\n') {
            return Err(HeadError::Reason);
        }
        let Some(fields_start) = line_ending(buf, reason_end)? else { return Ok(Parsed::Partial) };
        let Some(len) = parse_fields(lanes, buf, fields_start, self.fields, self.limits.fields)? else {
            return Ok(Parsed::Partial);
        };
        Ok(Parsed::Complete(ResponseHead { status, reason: &buf[reason_start..reason_end], minor, len }))
    }
}

/// Where the request line starts, past at most [`LEADING_LINES_MAX`] empty lines.
#[inline(always)]
fn skip_leading_lines(buf: &[u8]) -> Result<Option<usize>, HeadError> {
    let mut at = 0;
    loop {
        match buf.get(at) {
            None => return Ok(None),
            Some(b'\r' | b'\n') if at >= 2 * LEADING_LINES_MAX => return Err(HeadError::LeadingLines),
            Some(b'\r' | b'\n') => match line_ending(buf, at)? {
                None => return Ok(None),
                Some(next) => at = next,
            },
            Some(_) => return Ok(Some(at)),
        }
    }
}

/// Where the method ends: at a SP, after 1 to [`METHOD_MAX`] `tchar`.
#[inline(always)]
fn method<L: Lanes>(lanes: L, buf: &[u8], start: usize) -> Result<Option<usize>, HeadError> {
    const { assert!(METHOD_MAX == NAME_BLOCK) };
    let mut pad = None;
    let length = lanes.name_stops(block_at(buf, start, &mut pad)).trailing_zeros() as usize;
    match buf.get(start + length) {
        None => Ok(None),
        Some(b' ') if length > 0 => Ok(Some(start + length)),
        Some(&byte) if length == METHOD_MAX && is_tchar(byte) => Err(HeadError::MethodTooLong),
        Some(_) => Err(HeadError::Method),
    }
}

#[cold]
fn target_error(byte: u8, empty: bool) -> HeadError {
    match byte {
        // A line without a version, as HTTP/0.9 had it.
        b'\r' | b'\n' if !empty => HeadError::Version,
        _ => HeadError::TargetByte,
    }
}

const VERSION_LENGTH: usize = b"HTTP/1.1".len();

/// The minor version at the start of `rest`.
// RFC 9112 section 2.3: HTTP-version = HTTP-name "/" DIGIT "." DIGIT ; HTTP-name = %s"HTTP"
#[inline(always)]
fn version(rest: &[u8]) -> Result<Option<u8>, HeadError> {
    match rest.first_chunk::<VERSION_LENGTH>() {
        Some(b"HTTP/1.1") => Ok(Some(1)),
        Some(b"HTTP/1.0") => Ok(Some(0)),
        _ => version_error(rest),
    }
}

#[cold]
fn version_error(rest: &[u8]) -> Result<Option<u8>, HeadError> {
    for (byte, expected) in rest.iter().zip(b"HTTP/0.0") {
        let fits = if *expected == b'0' { byte.is_ascii_digit() } else { byte == expected };
        if !fits {
            return Err(HeadError::Version);
        }
    }
    if rest.len() < VERSION_LENGTH { Ok(None) } else { Err(HeadError::VersionUnsupported) }
}

/// Past the CRLF that must stand at `at`.
#[inline(always)]
fn line_ending(buf: &[u8], at: usize) -> Result<Option<usize>, HeadError> {
    match buf.get(at..) {
        Some([b'\r', b'\n', ..]) => Ok(Some(at + 2)),
        None | Some([] | [b'\r']) => Ok(None),
        Some([b'\n', ..]) => Err(HeadError::BareLf),
        Some([b'\r', ..]) => Err(HeadError::BareCr),
        Some(_) => Err(HeadError::Version),
    }
}

#[cfg(test)]
mod tests;
