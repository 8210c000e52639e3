//! String tokens to text and back (RFC 8259 section 7).
//!
//! Tokens stay escaped as long as possible, since most are only copied. Where text is needed, it is decoded strictly: an
//! unknown escape, a raw control byte, bytes that are no UTF-8 or half of a surrogate pair are errors, so that no two
//! readers see two texts. [`unescape_lossy`] is for text that an upstream already sent, where an answer with a
//! replacement character beats no answer.

use super::{JsonError, JsonErrorKind, error};

/// A stretch of a string token's content.
enum Piece<'r> {
    /// Bytes that stand for themselves.
    Run(&'r [u8]),
    /// What an escape stands for.
    Char(char),
    /// An escaped half of a surrogate pair.
    Lone,
}

/// Takes a string token's content apart.
struct Pieces<'r> {
    raw: &'r [u8],
    at: usize,
}

impl<'r> Pieces<'r> {
    fn next(&mut self) -> Result<Option<Piece<'r>>, JsonError> {
        let rest = self.raw.get(self.at..).unwrap_or_default();
        let run = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        if run > 0 {
            self.at += run;
            return Ok(Some(Piece::Run(&rest[..run])));
        }
        match rest {
            [] => Ok(None),
            [b'\\', b'u', ..] => self.unicode_escape().map(Some),
            [b'\\', letter, ..] => {
                let Some(char) = simple_escape(*letter) else {
                    return error(JsonErrorKind::String, self.at);
                };
                self.at += 2;
                Ok(Some(Piece::Char(char)))
            }
            _ => error(JsonErrorKind::String, self.at),
        }
    }

    // escape = "\" ( "u" 4HEXDIG ) ; characters beyond the basic plane are two of them, a UTF-16 surrogate pair
    fn unicode_escape(&mut self) -> Result<Piece<'r>, JsonError> {
        let Some(first) = code_unit(self.raw, self.at) else { return error(JsonErrorKind::String, self.at) };
        let second = code_unit(self.raw, self.at + 6);
        match (first, second) {
            (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) => {
                self.at += 12;
                let code = 0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00);
                Ok(char::from_u32(code).map_or(Piece::Lone, Piece::Char))
            }
            _ => {
                self.at += 6;
                Ok(char::from_u32(first).map_or(Piece::Lone, Piece::Char))
            }
        }
    }
}

/// The value of the `\uXXXX` at `at`.
fn code_unit(raw: &[u8], at: usize) -> Option<u32> {
    match raw.get(at..at + 6)? {
        [b'\\', b'u', digits @ ..] => digits
            .iter()
            .try_fold(0, |sum, &digit| (digit as char).to_digit(16).map(|digit| sum * 16 + digit)),
        _ => None,
    }
}

fn simple_escape(letter: u8) -> Option<char> {
    Some(match letter {
        b'"' | b'\\' | b'/' => letter as char,
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        _ => return None,
    })
}

/// Appends the text of a string token (its bytes between the quotes) to `out`; what is appended is UTF-8.
///
/// # Errors
/// When the token has an unknown escape, a raw control byte, a lone surrogate, or is not UTF-8. `out` is then as it was.
pub fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    let start = out.len();
    let result = append(raw, out, false);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// As [`unescape`], but each lone surrogate becomes U+FFFD.
///
/// # Errors
/// As [`unescape`], but for lone surrogates.
pub fn unescape_lossy(raw: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    let start = out.len();
    let result = append(raw, out, true);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn append(raw: &[u8], out: &mut Vec<u8>, lossy: bool) -> Result<(), JsonError> {
    let mut pieces = Pieces { raw, at: 0 };
    loop {
        let at = pieces.at;
        let char = match pieces.next()? {
            None => return Ok(()),
            Some(Piece::Run(run)) => {
                check_run(run, at)?;
                out.extend_from_slice(run);
                continue;
            }
            Some(Piece::Char(char)) => char,
            Some(Piece::Lone) if lossy => char::REPLACEMENT_CHARACTER,
            Some(Piece::Lone) => return error(JsonErrorKind::LoneSurrogate, at),
        };
        out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

// unescaped = %x20-21 / %x23-5B / %x5D-10FFFF
fn check_run(run: &[u8], at: usize) -> Result<(), JsonError> {
    if let Some(place) = run.iter().position(|&byte| byte < 0x20) {
        return error(JsonErrorKind::String, at + place);
    }
    match std::str::from_utf8(run) {
        Ok(_) => Ok(()),
        Err(bad) => error(JsonErrorKind::NotUtf8, at + bad.valid_up_to()),
    }
}

/// Checks that a string token's content is text, as [`unescape`] would, without writing it.
pub(super) fn check_text(raw: &[u8]) -> Result<(), JsonError> {
    let mut pieces = Pieces { raw, at: 0 };
    loop {
        let at = pieces.at;
        match pieces.next()? {
            None => return Ok(()),
            Some(Piece::Run(run)) => check_run(run, at)?,
            Some(Piece::Char(_)) => {}
            Some(Piece::Lone) => return error(JsonErrorKind::LoneSurrogate, at),
        }
    }
}

/// Whether a string token's content is exactly `text`.
pub(super) fn is_text(raw: &[u8], text: &[u8]) -> bool {
    let mut pieces = Pieces { raw, at: 0 };
    let mut rest = text;
    loop {
        let after = match pieces.next() {
            Ok(None) => return rest.is_empty(),
            Ok(Some(Piece::Run(run))) => rest.strip_prefix(run),
            Ok(Some(Piece::Char(char))) => rest.strip_prefix(char.encode_utf8(&mut [0; 4]).as_bytes()),
            Ok(Some(Piece::Lone)) | Err(_) => None,
        };
        let Some(after) = after else { return false };
        rest = after;
    }
}

/// Whether a string token's content is `lower` (ASCII) once case is folded as Unicode does: besides A to Z, U+017F folds
/// to `s` and U+212A to `k`.
pub(super) fn folds_to(raw: &[u8], lower: &[u8]) -> bool {
    let mut folded = Vec::new();
    if raw.len() > 12 * lower.len() || unescape(raw, &mut folded).is_err() {
        return false;
    }
    let Ok(text) = std::str::from_utf8(&folded) else { return false };
    let fold = |char: char| match char {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => char.to_ascii_lowercase(),
    };
    text.chars().map(fold).eq(lower.iter().map(|&byte| byte as char))
}

/// Appends `text`, escaped to stand between quotes, to `out`.
pub fn escape_into(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(run) = rest.iter().position(|&byte| byte < 0x20 || matches!(byte, b'"' | b'\\')) {
        out.extend_from_slice(&rest[..run]);
        match rest[run] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\x08' => out.extend_from_slice(b"\\b"),
            b'\x0c' => out.extend_from_slice(b"\\f"),
            byte => {
                out.extend_from_slice(b"\\u00");
                out.extend([byte >> 4, byte & 15].map(|nibble| b"0123456789abcdef"[nibble as usize]));
            }
        }
        rest = &rest[run + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends `text` as a string token, with its quotes, to `out`.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape_into(text, out);
    out.push(b'"');
}

#[cfg(test)]
mod tests;
