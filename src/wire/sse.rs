//! Server-sent events: where one event ends and what its fields are.
//!
//! A stream is passed on as bytes; the gateway only needs to know where events end (to write whole ones) and what is in
//! them (to see errors, usage and the end). The splitter therefore never copies and never changes a byte.
//!
//! Follows the WHATWG HTML standard, section 9.2.6: lines end in CR, LF or CRLF, mixed as they like; a blank line ends an
//! event; a byte order mark at the start of the stream is skipped (here: it is a piece of its own). U+2028 is no line end.
//!
//! Invariants: the same bytes split at the same places however they are cut. A CR that is the last byte seen ends its line
//! only once the next byte is known, because a LF after it belongs to the same line end; see [`Splitter::finish`].
//! Limits: none here; a reader that holds events compares [`Splitter::pending_len`] with [`EVENT_MAX`].
//! It leaves out: reconnection, and what the data means (`dialect`).

use std::borrow::Cow;

/// Longest event that is held for reading; the longest seen carries an image of a few MiB in base64.
pub const EVENT_MAX: usize = 8 * 1024 * 1024;

const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// Finds the ends of events in a stream that arrives in pieces.
#[derive(Clone, Debug)]
pub struct Splitter {
    /// Bytes of the byte order mark seen so far; 3 once the start of the stream is past.
    mark: u8,
    /// Whether the current line has no byte yet.
    line_start: bool,
    /// Whether the last byte seen was a CR, whose LF may follow.
    after_cr: bool,
    /// Whether that CR ended a blank line.
    blank: bool,
    pending: usize,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new()
    }
}

impl Splitter {
    /// A splitter at the start of a stream.
    pub const fn new() -> Self {
        Self { mark: 0, line_start: true, after_cr: false, blank: false, pending: 0 }
    }

    /// Reads `bytes`, which follow those of the last call, and yields the offset past each event that ends in them.
    ///
    /// An offset may be 0: the event ended with a CR that was the last byte of the last call. The iterator must be run to
    /// its end before the next call. Besides events it yields the end of the byte order mark and of each further blank
    /// line, as pieces in which [`fields`] finds nothing.
    pub fn feed<'s>(&'s mut self, bytes: &'s [u8]) -> Ends<'s> {
        Ends { splitter: self, bytes, at: 0 }
    }

    /// Bytes since the last end, or since the start of the stream.
    pub fn pending_len(&self) -> usize {
        self.pending
    }

    /// Says whether the pending bytes are a whole event, now that the stream is over: true when they end in the CR of a
    /// blank line. Otherwise, if there are any, the stream was cut off.
    pub fn finish(&self) -> bool {
        self.after_cr && self.blank
    }

    fn next_end(&mut self, bytes: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        while self.mark < 3 {
            let byte = bytes.get(at)?;
            if *byte == BYTE_ORDER_MARK[self.mark as usize] {
                self.mark += 1;
                at += 1;
                if self.mark == 3 {
                    return Some(at);
                }
            } else {
                // Bytes that only began like the mark belong to the first line.
                self.line_start = self.mark == 0;
                self.mark = 3;
            }
        }
        if self.after_cr {
            at += usize::from(*bytes.get(at)? == b'\n');
            self.after_cr = false;
            if self.blank {
                return Some(at);
            }
        }
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(length) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.line_start &= rest.is_empty();
                return None;
            };
            let blank = self.line_start && length == 0;
            self.line_start = true;
            at += length + 1;
            if rest[length] == b'\r' {
                match bytes.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => {
                        self.after_cr = true;
                        self.blank = blank;
                        return None;
                    }
                }
            }
            if blank {
                return Some(at);
            }
        }
    }
}

/// The ends of events in one piece of a stream; see [`Splitter::feed`].
#[derive(Debug)]
pub struct Ends<'s> {
    splitter: &'s mut Splitter,
    bytes: &'s [u8],
    at: usize,
}

impl Iterator for Ends<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match self.splitter.next_end(self.bytes, self.at) {
            Some(end) => {
                self.at = end;
                self.splitter.pending = 0;
                Some(end)
            }
            None => {
                self.splitter.pending += self.bytes.len() - self.at;
                self.at = self.bytes.len();
                None
            }
        }
    }
}

/// The fields of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFields<'e> {
    /// The event's name, of the last `event` line; empty when there is none, which readers take as `message`.
    pub event: &'e [u8],
    /// The last `id` line without NUL.
    pub id: Option<&'e [u8]>,
    /// The last `retry` line that is a number, in milliseconds.
    pub retry_ms: Option<u64>,
    /// The first `data` line.
    first: Option<&'e [u8]>,
    data_lines: usize,
    raw: &'e [u8],
}

impl<'e> EventFields<'e> {
    /// The data: the `data` lines joined by LF. Copied only when there is more than one, which no provider sends. `None`
    /// when there is none: then it is a comment or a blank, and readers see no event.
    pub fn data(&self) -> Option<Cow<'e, [u8]>> {
        let first = self.first?;
        if self.data_lines == 1 {
            return Some(Cow::Borrowed(first));
        }
        let mut joined = Vec::with_capacity(self.raw.len());
        for (_, value) in lines(self.raw).filter(|(name, _)| *name == b"data") {
            joined.extend_from_slice(value);
            joined.push(b'\n');
        }
        joined.pop();
        Some(Cow::Owned(joined))
    }
}

/// Reads the fields of one event, as it was cut by [`Splitter`].
pub fn fields(event: &[u8]) -> EventFields<'_> {
    let mut fields =
        EventFields { event: b"", id: None, retry_ms: None, first: None, data_lines: 0, raw: event };
    for (name, value) in lines(event) {
        match name {
            b"data" => {
                fields.first = fields.first.or(Some(value));
                fields.data_lines += 1;
            }
            b"event" => fields.event = value,
            b"id" if !value.contains(&0) => fields.id = Some(value),
            b"retry" => fields.retry_ms = number(value).or(fields.retry_ms),
            _ => {}
        }
    }
    fields
}

/// The lines of one event as name and value; a comment has an empty name. Blank lines are left out.
// field = 1*name-char [ colon [ space ] *any-char ] end-of-line ; comment = colon *any-char end-of-line
pub fn lines(event: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = event;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            if !line.is_empty() {
                return Some(split_line(line));
            }
        }
        None
    })
}

fn split_line(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', line) {
        None => (line, b""),
        Some(colon) => {
            let value = &line[colon + 1..];
            (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests;
