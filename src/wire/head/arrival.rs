//! When a head that arrives in pieces is worth parsing.

/// Decides when a head that arrives in pieces is worth parsing again.
///
/// Parsing starts at the first byte each time, so parsing after each piece would be quadratic for a sender that sends
/// one byte at a time. It is due while the head is short, when a line was completed (there are at most about 100 lines),
/// and when the buffer doubled (so that an endless line is refused in time).
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    limit: usize,
    seen: usize,
    parsed: usize,
}

/// Below this many bytes a parse costs less than the read that brought them.
const SHORT_HEAD: usize = 512;

impl Arrival {
    /// Nothing has come yet of a head that may have `limit` bytes.
    pub fn within(limit: usize) -> Self {
        Self { limit, seen: 0, parsed: 0 }
    }

    /// Whether `buf`, which only ever grew at its end since the last call, is to be parsed now.
    pub fn due(&mut self, buf: &[u8]) -> bool {
        let fresh = buf.get(self.seen..).unwrap_or(buf);
        self.seen = buf.len();
        let due = buf.len() <= SHORT_HEAD
            || buf.len() >= self.parsed.saturating_mul(2)
            || buf.len() >= self.limit
            || memchr::memchr(b'\n', fresh).is_some();
        if due {
            self.parsed = buf.len();
        }
        due
    }
}
