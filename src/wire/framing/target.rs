//! Request targets and Host values.
//!
//! Router and authoriser look at the same raw bytes, and so does whatever stands behind: a path that somebody could
//! normalise into another one is refused. Host is checked for its shape only; nothing is derived from it.

use crate::wire::HeadError;

/// A request target, split at the first `?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathQuery<'b> {
    /// The raw path, starting with `/`; or `*`.
    pub path: &'b [u8],
    /// The raw query without its `?`; empty when there is none.
    pub query: &'b [u8],
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

/// Splits `http://authority` off; the rest starts with `/` or `?`, or is empty.
pub(super) fn split_authority(target: &[u8]) -> Result<(Option<&[u8]>, &[u8]), HeadError> {
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

/// What a byte of a path asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PathClass {
    Plain,
    /// It may start a dot segment, an empty one or an escape.
    Look,
    Refused,
}

// RFC 3986 section 3.3: pchar = unreserved / pct-encoded / sub-delims / ":" / "@"
// Of these, ";" is refused.
static PATH: [PathClass; 256] = {
    let mut table = [PathClass::Refused; 256];
    let mut byte = 0;
    while byte < 128 {
        let class = &mut table[byte as usize];
        match byte as u8 {
            b'/' | b'.' | b'%' => *class = PathClass::Look,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => *class = PathClass::Plain,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => {
                *class = PathClass::Plain;
            }
            _ => {}
        }
        byte += 1;
    }
    table
};

fn check_path(path: &[u8]) -> Result<(), HeadError> {
    for (at, &byte) in path.iter().enumerate() {
        match PATH[byte as usize] {
            PathClass::Plain => {}
            PathClass::Look => look(path, at, byte)?,
            PathClass::Refused => {
                return Err(match byte {
                    b';' => HeadError::PathParameter,
                    b'#' => HeadError::Fragment,
                    _ => HeadError::PathByte,
                });
            }
        }
    }
    Ok(())
}

/// Looks at what the byte at `at` starts. The first byte of a path is a slash.
fn look(path: &[u8], at: usize, byte: u8) -> Result<(), HeadError> {
    match byte {
        b'/' => match path.get(at + 1) {
            Some(b'/') => Err(HeadError::EmptySegment),
            Some(b'.' | b'%') => check_segment(&path[at + 1..]),
            _ => Ok(()),
        },
        b'%' => check_escape(decode_escape(path, at)?),
        _ => Ok(()),
    }
}

/// Refuses `.` and `..` at the start of `rest`, also with dots written as `%2e`.
fn check_segment(mut rest: &[u8]) -> Result<(), HeadError> {
    let mut dots = 0;
    while let [b'.', after @ ..] | [b'%', b'2', b'e' | b'E', after @ ..] = rest {
        rest = after;
        dots += 1;
    }
    let whole = matches!(rest, [] | [b'/', ..]);
    if whole && matches!(dots, 1 | 2) { Err(HeadError::DotSegment) } else { Ok(()) }
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

/// Bytes of a registered name, as far as they are taken.
static NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let char = byte as u8;
        table[byte] = char.is_ascii_alphanumeric() || matches!(char, b'-' | b'.' | b'_');
        byte += 1;
    }
    table
};

// RFC 9110 section 7.2: Host = uri-host [ ":" port ]
// Of uri-host, registered names of letters, digits, "-", "." and "_" are taken, and addresses.
pub(super) fn is_host(value: &[u8]) -> bool {
    let end = match value {
        [b'[', address @ ..] => match address_length(address) {
            Some(length) => length + 2,
            None => return false,
        },
        _ => match value.iter().position(|&byte| !NAME[byte as usize]).unwrap_or(value.len()) {
            length @ 1..=NAME_MAX => length,
            _ => return false,
        },
    };
    match &value[end..] {
        [] => true,
        [b':', port @ ..] => is_port(port),
        _ => false,
    }
}

/// Longest name: that of DNS.
const NAME_MAX: usize = 255;

/// Length of the IPv6 address before the `]`.
fn address_length(address: &[u8]) -> Option<usize> {
    let length = address.iter().position(|&byte| byte == b']')?;
    let digits = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    (length >= 2 && address[..length].iter().all(digits)).then_some(length)
}

fn is_port(digits: &[u8]) -> bool {
    let number = |digits: &[u8]| digits.iter().fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    matches!(digits.len(), 1..=5) && digits.iter().all(u8::is_ascii_digit) && number(digits) <= 65_535
}
