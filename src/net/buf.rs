//! Owned byte buffers from a per-core pool.
//!
//! Completion-based I/O needs buffers that it owns while an operation is under way, so memory per connection is a
//! matter of buffer policy: 33 KiB of fixed buffers per stream is 200 MB at 5,000 streams. Here a connection that
//! waits for a request holds [`IDLE`] bytes and one that streams [`TINY`], a read that brings more grows, and a dropped
//! buffer goes back to its core's pool.
//!
//! Invariant: `start <= bytes.len() <= bytes.capacity()`. Only the kernel writes behind `bytes.len()`, and only
//! while the buffer is inside an I/O operation.

#![allow(unsafe_code)] // The buffer traits of the I/O library are unsafe to implement; see each SAFETY line.

use std::cell::RefCell;
use std::ops::Range;

/// What watches a client while its answer streams, and what stands around a batch of events. A next request that begins
/// in it costs one more read.
pub const TINY: usize = 128;
/// Field lines that are kept of a head, and reads of a stream whose events are small.
pub const SMALL: usize = 512;
/// A head as the gateway writes it, and the first read of a stream: a provider's head and its first events.
pub const HEAD: usize = 1024;
/// What a connection holds while it waits: the heads that SDKs send are 310 to 655 bytes, so a head with a
/// short prompt still arrives in one read.
pub const IDLE: usize = 2 * 1024;
/// Reads of upstream answers and streams: a head of about 1 KiB and an answer of about 2 KiB in one read.
pub const STREAM: usize = 4 * 1024;
/// Reads on connections whose last message did not fit in the smaller sizes.
pub const MEDIUM: usize = 16 * 1024;
/// Reads of big bodies; below 64 KiB the number of system calls dominates (measured in research on big bodies).
pub const LARGE: usize = 64 * 1024;

const CLASSES: [usize; 7] = [TINY, SMALL, HEAD, IDLE, STREAM, MEDIUM, LARGE];
/// Free buffers kept per class and core: at most 512 KiB of each, which is 256 requests or 8 big bodies at once.
const KEPT_BYTES: usize = 512 * 1024;

/// The class above `size`, for a read that was filled; at most `most`.
pub fn larger(size: usize, most: usize) -> usize {
    CLASSES.iter().copied().find(|class| *class > size).unwrap_or(size).min(most)
}

/// The class below `size`, for a read that left most of it; at least `least`.
pub fn smaller(size: usize, least: usize) -> usize {
    CLASSES.iter().rev().copied().find(|class| *class < size).unwrap_or(size).max(least)
}

thread_local! {
    static FREE: RefCell<[Vec<Vec<u8>>; CLASSES.len()]> = const { RefCell::new([const { Vec::new() }; CLASSES.len()]) };
}

/// An owned buffer: `filled` bytes in front, room behind them.
#[derive(Default)]
pub struct Buf {
    bytes: Vec<u8>,
    start: usize,
}

impl std::fmt::Debug for Buf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the content: it may be a prompt or a key.
        write!(f, "Buf({} filled, {} room)", self.len(), self.room())
    }
}

impl Buf {
    /// Takes an empty buffer with at least `size` bytes of room, from the pool where one fits.
    pub fn take(size: usize) -> Buf {
        let class = CLASSES.iter().position(|&c| size <= c);
        let pooled = class.and_then(|c| FREE.try_with(|f| f.borrow_mut()[c].pop()).ok().flatten());
        let bytes = pooled.unwrap_or_else(|| {
            Vec::with_capacity(class.map_or(size, |c| CLASSES.get(c).copied().unwrap_or(size)))
        });
        Buf { bytes, start: 0 }
    }

    /// A buffer that holds a copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Buf {
        let mut buf = Buf::take(bytes.len());
        buf.bytes.extend_from_slice(bytes);
        buf
    }

    /// The bytes that are filled and not yet consumed.
    #[inline]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The filled bytes, to change in place.
    #[inline]
    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// How many bytes are filled and not yet consumed.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing is filled.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that fit behind the filled ones without growing.
    #[inline]
    pub fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Bytes of memory that the buffer holds.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Marks the first `n` filled bytes as used; at most `len()`.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.len());
        self.start = (self.start + n).min(self.bytes.len());
        if self.start == self.bytes.len() {
            self.clear();
        }
    }

    /// Keeps the first `n` filled bytes only.
    #[inline]
    pub fn truncate(&mut self, n: usize) {
        self.bytes.truncate(self.start + n);
    }

    /// Removes a range (relative to the filled bytes), closing the gap.
    pub fn remove(&mut self, range: Range<usize>) {
        let (from, to) = (self.start + range.start, self.start + range.end);
        self.bytes.copy_within(to.., from);
        let gone = range.end - range.start;
        self.bytes.truncate(self.bytes.len() - gone);
    }

    /// Empties the buffer; the memory stays.
    #[inline]
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    /// Appends bytes, growing to the next class when they do not fit.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        if self.room() < bytes.len() {
            self.reserve(bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The vector that holds the filled bytes, for writers that append to a `Vec<u8>`; consumed bytes are dropped first.
    pub fn as_vec(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }

    /// Makes room for `n` more bytes: moves the filled bytes to the front when that is enough, else grows.
    pub fn reserve(&mut self, n: usize) {
        if self.room() >= n {
            return;
        }
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.room() < n {
            let want = self.bytes.len() + n;
            // Swap for a pooled buffer of the next class where there is one: growing in place would leave odd sizes
            // that no later message can use.
            let mut bigger = Buf::take(want);
            bigger.bytes.extend_from_slice(&self.bytes);
            std::mem::swap(self, &mut bigger);
        }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        let Some(class) = CLASSES.iter().position(|&c| c == bytes.capacity()) else { return };
        bytes.clear();
        // At thread exit the pool is gone before the last buffers are; they are freed like any vector.
        let _ = FREE.try_with(|free| {
            let list = &mut free.borrow_mut()[class];
            if list.len() * CLASSES[class] < KEPT_BYTES {
                list.push(bytes);
            }
        });
    }
}

// SAFETY: the pointer is that of the vector's allocation, which neither moves nor is freed while the runtime owns
// the `Buf` by value, and `filled()` bytes behind it are initialised.
unsafe impl monoio::buf::IoBuf for Buf {
    fn read_ptr(&self) -> *const u8 {
        self.filled().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

/// A [`Buf`] lent to a read, which fills the room behind the filled bytes.
pub(super) struct Room(pub(super) Buf);

// SAFETY: `write_ptr` points at `bytes_total` bytes of spare capacity of an allocation that stays put while the
// runtime owns the value.
unsafe impl monoio::buf::IoBufMut for Room {
    fn write_ptr(&mut self) -> *mut u8 {
        self.0.bytes.spare_capacity_mut().as_mut_ptr().cast()
    }

    fn bytes_total(&mut self) -> usize {
        self.0.room()
    }

    unsafe fn set_init(&mut self, n: usize) {
        let len = self.0.bytes.len();
        debug_assert!(n <= self.0.room());
        // SAFETY: the caller promises that `n` bytes behind `write_ptr`, that is behind `len`, were written.
        unsafe { self.0.bytes.set_len(len + n) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let buf = Buf::take(IDLE);
        let at = buf.bytes.as_ptr();
        drop(buf);
        assert_eq!(Buf::take(IDLE).bytes.as_ptr(), at);
    }

    #[test]
    fn reserve_keeps_what_is_filled_and_forgets_what_was_consumed() {
        let mut buf = Buf::take(IDLE);
        buf.push(b"head and body");
        buf.consume(5);
        buf.reserve(IDLE);
        assert_eq!(buf.filled(), b"and body");
        assert!(buf.room() >= IDLE);
        assert_eq!(buf.capacity(), STREAM);
    }

    #[test]
    fn remove_closes_the_gap() {
        let mut buf = Buf::copy_of(b"one two three");
        buf.consume(4);
        buf.remove(3..9);
        assert_eq!(buf.filled(), b"two");
    }

    #[test]
    fn what_is_pushed_past_the_room_grows_by_classes() {
        let mut buf = Buf::take(TINY);
        for n in 0..40 {
            buf.push(&[n; 16]);
            assert!(CLASSES.contains(&buf.capacity()), "{}", buf.capacity());
        }
        assert!((0..40).all(|n| buf.filled()[16 * n..16 * n + 16] == [n as u8; 16]));
    }

    #[test]
    fn a_size_past_the_largest_class_is_allocated_to_measure() {
        assert!(Buf::take(LARGE + 1).room() > LARGE);
    }
}
