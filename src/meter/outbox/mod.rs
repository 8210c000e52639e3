//! What leaves a core: each finished exchange, copied into the core's ring, for the one thread that books and logs.
//!
//! ```text
//! Record ── Outbox::push (on its core) ── ring ── Inbox::each (on the writer's thread) ── Entry ── ledger, log
//! ```
//!
//! Invariants: pushing takes no lock, no memory once it has met the longest record, and never waits; what does not fit
//! is dropped and counted.

mod frame;
mod ring;

pub use frame::decode;
#[cfg(test)]
pub use frame::encode;
#[cfg(test)]
pub use frame::samples;
pub use frame::{Attempt, Entry, Trace, api_label, is_ok};
pub use ring::Pushed;

use super::record::Record;

/// Bytes of one core's ring: what 20,000 exchanges a second write in 50 ms.
const RING_BYTES: usize = 512 << 10;

/// A core's end.
pub struct Outbox {
    sender: ring::Sender,
    /// The record as bytes; kept for its memory.
    frame: Vec<u8>,
}

/// The writer's end of one core.
pub struct Inbox {
    receiver: ring::Receiver,
    frame: Vec<u8>,
}

/// The beginning of `text` that is at most so many bytes long and ends between two characters.
#[inline]
pub(super) fn beginning(text: &str, longest: usize) -> &str {
    let mut end = longest.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The two ends of one core's ring.
pub fn outbox() -> (Outbox, Inbox) {
    outbox_of(RING_BYTES)
}

fn outbox_of(bytes: usize) -> (Outbox, Inbox) {
    let (sender, receiver) = ring::ring(bytes);
    let frame = || Vec::with_capacity(1024);
    (Outbox { sender, frame: frame() }, Inbox { receiver, frame: frame() })
}

impl Outbox {
    /// Copies `record` into the ring. `id` is the request id that the client was given, `dims` the names of the dimensions
    /// that its plan declares.
    pub fn push(&mut self, id: &str, record: &Record<'_>, dims: &[Box<str>]) -> Pushed {
        frame::encode(id, record, dims, &mut self.frame);
        self.sender.push(&self.frame)
    }

    /// Exchanges that did not fit so far.
    pub fn dropped(&self) -> u64 {
        self.sender.dropped()
    }
}

impl Inbox {
    /// Hands over every exchange that is in the ring, oldest first, with the bytes that [`decode`] reads it from, and returns
    /// how many there were.
    pub fn each(&mut self, mut take: impl FnMut(&Entry<'_>, &[u8])) -> usize {
        let mut count = 0;
        while self.receiver.pop(&mut self.frame) {
            if let Some(entry) = frame::decode(&self.frame) {
                take(&entry, &self.frame);
                count += 1;
            }
        }
        count
    }

    /// Exchanges that did not fit so far.
    pub fn dropped(&self) -> u64 {
        self.receiver.dropped()
    }
}

#[cfg(test)]
mod tests {
    use super::samples::PLAIN;
    use super::*;

    #[test]
    fn what_a_core_pushes_the_writer_gets_and_what_did_not_fit_is_counted() {
        let (mut outbox, mut inbox) = outbox_of(4096);
        let sent = (0..100).filter(|id| outbox.push(&id.to_string(), &PLAIN, &[]) != Pushed::Dropped).count();
        assert!(sent > 5 && sent < 20, "{sent}");
        let mut ids: Vec<u64> = Vec::new();
        assert_eq!(inbox.each(|entry, _| ids.push(entry.id.parse().unwrap())), sent);
        assert_eq!(ids, (0..sent as u64).collect::<Vec<_>>());
        assert_eq!((outbox.dropped(), inbox.dropped()), (100 - sent as u64, 100 - sent as u64));
        assert_eq!(inbox.each(|_, _| ()), 0);
    }
}
