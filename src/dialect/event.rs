//! One server-sent event, opened: its name and its data.
//!
//! `wire` finds where an event ends; this reads the lines of one whole event (HTML standard, 9.2.6). Comments, `id`
//! and `retry` are skipped. LF, CR and CRLF end lines. The data is borrowed where it stands on one line, which is
//! what every provider sends; several `data:` lines, which the standard allows, are joined in a fresh buffer.

use std::borrow::Cow;

/// Name and data of one event.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'e> {
    /// The `event:` field; empty when there is none.
    pub name: &'e [u8],
    /// The `data:` lines; `None` when there is none, as in a comment or a bare keep-alive.
    pub data: Option<Cow<'e, [u8]>>,
}

impl<'e> Event<'e> {
    /// Reads the lines of one event, with or without the blank line that ends it.
    pub fn read(bytes: &'e [u8]) -> Self {
        let mut event = Self { name: b"", data: None };
        let mut rest = bytes;
        while !rest.is_empty() {
            let (line, tail) = match memchr::memchr2(b'\n', b'\r', rest) {
                Some(end) => (&rest[..end], &rest[end + 1..]),
                None => (rest, &[][..]),
            };
            rest = tail;
            if let Some(value) = field(line, b"data") {
                event.data = Some(match event.data.take() {
                    None => Cow::Borrowed(value),
                    Some(before) => {
                        let mut joined = before.into_owned();
                        joined.push(b'\n');
                        joined.extend_from_slice(value);
                        Cow::Owned(joined)
                    }
                });
            } else if let Some(value) = field(line, b"event") {
                event.name = value;
            }
        }
        event
    }

    /// Whether the data is OpenAI's end marker.
    pub fn is_done(&self) -> bool {
        self.data.as_deref().is_some_and(|data| data.trim_ascii() == b"[DONE]")
    }
}

/// Value of the field `name` when `line` holds that one; one leading space is not part of the value.
fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let rest = line.strip_prefix(name)?;
    if rest.is_empty() {
        return Some(rest);
    }
    let value = rest.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_whatever_ends_the_lines() {
        for (text, name, data) in [
            ("data: {\"a\":1}\n\n", "", Some("{\"a\":1}")),
            ("data:{}\r\n\r\n", "", Some("{}")),
            ("event: ping\rdata:  two spaces\r\r", "ping", Some(" two spaces")),
            (": comment\n\n", "", None),
            ("event: x\n\n", "x", None),
            ("id: 1\nretry: 5\ndata: a\ndata: b\ndata\n\n", "", Some("a\nb\n")),
            ("dataset: no\n\n", "", None),
            ("data: cut", "", Some("cut")),
            ("", "", None),
        ] {
            let event = Event::read(text.as_bytes());
            assert_eq!(event.name, name.as_bytes(), "{text:?}");
            assert_eq!(event.data.as_deref(), data.map(str::as_bytes), "{text:?}");
        }
    }

    #[test]
    fn the_end_marker_is_known_with_any_spacing() {
        assert!(Event::read(b"data: [DONE]\n\n").is_done());
        assert!(Event::read(b"data:[DONE] \r\n\r\n").is_done());
        assert!(!Event::read(b"data: {\"x\":\"[DONE]\"}\n\n").is_done());
    }
}
