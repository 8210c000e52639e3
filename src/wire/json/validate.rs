//! Whether a document is JSON: all of it, by the grammar of RFC 8259, and nothing else.
//!
//! For answers that must parse, and for tests. It walks without recursion, so a deep document costs no stack, and builds
//! nothing. A lone surrogate escape is allowed, as the grammar has it; [`super::unescape`] refuses it. A byte order mark
//! is refused (section 8.1).

use super::super::simd::short_string_stops;
use super::skip::is_number;
use super::{DEPTH_MAX, JsonError, JsonErrorKind, error, is_space, skip_space};

/// Checks that `doc` is one JSON text with at most `max_depth` levels of nesting (and never more than
/// [`super::DEPTH_MAX`]).
///
/// # Errors
/// The first thing that is wrong, and where.
pub fn validate(doc: &[u8], max_depth: usize) -> Result<(), JsonError> {
    if let Err(bad) = std::str::from_utf8(doc) {
        return error(JsonErrorKind::NotUtf8, bad.valid_up_to());
    }
    let mut walk = Walk { doc, at: 0, levels: 0, kinds: 0, max_depth: max_depth.min(DEPTH_MAX) };
    while let After::Opened = walk.value()? {}
    let rest = skip_space(doc, walk.at);
    if rest < doc.len() { error(JsonErrorKind::Trailing, rest) } else { Ok(()) }
}

struct Walk<'j> {
    doc: &'j [u8],
    at: usize,
    levels: usize,
    /// One bit a level, the innermost lowest: 1 for an object.
    kinds: u128,
    max_depth: usize,
}

/// What stands after a value was read.
enum After {
    /// Another value is to come, at `at`.
    Opened,
    /// The document's value is complete.
    Complete,
}

impl Walk<'_> {
    /// Reads a scalar with all the brackets and separators after it, or the opening of a container.
    fn value(&mut self) -> Result<After, JsonError> {
        self.at = skip_space(self.doc, self.at);
        match self.peek()? {
            b'{' => {
                self.open(1)?;
                if self.peek()? != b'}' {
                    self.key()?;
                    return Ok(After::Opened);
                }
            }
            b'[' => {
                self.open(0)?;
                if self.peek()? != b']' {
                    return Ok(After::Opened);
                }
            }
            b'"' => self.string()?,
            _ => self.scalar()?,
        }
        self.close()
    }

    /// Reads what follows a complete value: closing brackets, then a comma or the end.
    fn close(&mut self) -> Result<After, JsonError> {
        while self.levels > 0 {
            self.at = skip_space(self.doc, self.at);
            let object = self.kinds & 1 == 1;
            match (self.peek()?, object) {
                (b'}', true) | (b']', false) => {
                    self.at += 1;
                    self.levels -= 1;
                    self.kinds >>= 1;
                }
                (b',', _) => {
                    self.at = skip_space(self.doc, self.at + 1);
                    if object {
                        self.key()?;
                    }
                    return Ok(After::Opened);
                }
                _ => return error(JsonErrorKind::Unexpected, self.at),
            }
        }
        Ok(After::Complete)
    }

    fn peek(&self) -> Result<u8, JsonError> {
        match self.doc.get(self.at) {
            Some(&byte) => Ok(byte),
            None => error(JsonErrorKind::Truncated, self.at),
        }
    }

    fn open(&mut self, kind: u128) -> Result<(), JsonError> {
        if self.levels == self.max_depth {
            return error(JsonErrorKind::TooDeep, self.at);
        }
        self.levels += 1;
        self.kinds = self.kinds << 1 | kind;
        self.at = skip_space(self.doc, self.at + 1);
        Ok(())
    }

    fn key(&mut self) -> Result<(), JsonError> {
        if self.peek()? != b'"' {
            return error(JsonErrorKind::Unexpected, self.at);
        }
        self.string()?;
        self.at = skip_space(self.doc, self.at);
        if self.peek()? != b':' {
            return error(JsonErrorKind::Unexpected, self.at);
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        loop {
            while let Some(block) = self.doc.get(self.at..).and_then(<[u8]>::first_chunk::<16>) {
                let stops = short_string_stops(block);
                self.at += (stops.trailing_zeros() as usize).min(block.len());
                if stops != 0 {
                    break;
                }
            }
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                0..=0x1f => return error(JsonErrorKind::String, self.at),
                _ => self.at += 1,
            }
        }
    }

    // char = unescaped / "\" ( %x22 / %x5C / %x2F / %x62 / %x66 / %x6E / %x72 / %x74 / "u" 4HEXDIG )
    fn escape(&mut self) -> Result<(), JsonError> {
        let rest = self.doc.get(self.at + 1..).unwrap_or_default();
        let length = match rest {
            [] => return error(JsonErrorKind::Truncated, self.doc.len()),
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'u', digits @ ..] if digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return error(JsonErrorKind::String, self.at),
        };
        self.at += length;
        Ok(())
    }

    fn scalar(&mut self) -> Result<(), JsonError> {
        let rest = self.doc.get(self.at..).unwrap_or_default();
        let ends = |byte: &u8| is_space(*byte) || matches!(byte, b',' | b']' | b'}');
        let text = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
        let number = matches!(text, [b'-' | b'0'..=b'9', ..]);
        if matches!(text, b"true" | b"false" | b"null") || (number && is_number(text)) {
            self.at += text.len();
            return Ok(());
        }
        error(if number { JsonErrorKind::Number } else { JsonErrorKind::Unexpected }, self.at)
    }
}

#[cfg(test)]
mod tests;
