//! Stamps in the text of events: when the provider wrote one, and its number in the stream.
//!
//! They stand in the words of the model, where every gateway leaves them, also one that writes its events anew.

use memchr::memmem;

/// How a stamp looks; the digits are the moment in nanoseconds of the monotonic clock, and the event's number from 1.
pub const STAMP: &[u8] = b"t=00000000000000000000 n=000000";

/// The stamp of one event.
pub fn stamp(now_ns: u64, number: u32) -> String {
    format!("t={now_ns:020} n={number:06}")
}

/// Finds the stamps in bytes that come in pieces.
#[derive(Default)]
pub struct Finder {
    /// The end of the last piece, when a stamp may have begun in it.
    carry: Vec<u8>,
}

impl Finder {
    /// Looks at the next piece; `found` is told of each stamp's moment and number.
    pub fn feed(&mut self, piece: &[u8], mut found: impl FnMut(u64, u64)) {
        if self.carry.is_empty() {
            let rest = scan(piece, &mut found);
            self.carry.extend_from_slice(rest);
        } else {
            self.carry.extend_from_slice(piece);
            let all = std::mem::take(&mut self.carry);
            self.carry = scan(&all, &mut found).to_vec();
        }
    }

    /// Forgets what may have begun.
    pub fn restart(&mut self) {
        self.carry.clear();
    }
}

/// Tells of the stamps in `bytes`; what is at the end and may become one.
fn scan<'b>(mut bytes: &'b [u8], found: &mut impl FnMut(u64, u64)) -> &'b [u8] {
    while let Some(at) = memmem::find(bytes, b"t=") {
        let Some(stamp) = bytes.get(at..at + STAMP.len()) else { return &bytes[at..] };
        let digits = |part: &[u8]| std::str::from_utf8(part).ok()?.parse::<u64>().ok();
        match (digits(&stamp[2..22]), &stamp[22..25], digits(&stamp[25..])) {
            (Some(sent), b" n=", Some(number)) => {
                found(sent, number);
                bytes = &bytes[at + STAMP.len()..];
            }
            _ => bytes = &bytes[at + 2..],
        }
    }
    if bytes.ends_with(b"t") { &bytes[bytes.len() - 1..] } else { &[] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_found_wherever_the_text_is_cut() {
        let text = format!("at=1 t=x {} and {}t", stamp(7, 1), stamp(u64::MAX, 2));
        assert_eq!(stamp(0, 0).as_bytes(), STAMP);
        for cut in 0..text.len() {
            let (mut finder, mut all) = (Finder::default(), Vec::new());
            for piece in [&text[..cut], &text[cut..]] {
                finder.feed(piece.as_bytes(), |sent, number| all.push((sent, number)));
            }
            assert_eq!(all, [(7, 1), (u64::MAX, 2)], "cut at {cut}");
        }
    }
}
