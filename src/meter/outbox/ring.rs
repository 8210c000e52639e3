//! A bounded queue of frames from one core to one thread, without a lock and without waiting.
//!
//! The core copies a frame in and goes on; a frame that does not fit is dropped and counted, because a log must never
//! slow an answer down. The memory is words that both sides may touch at any time (relaxed atomics, which are plain
//! moves on the machines we run on), so no `unsafe` is needed for the copy; two counters say which words are whose.
//!
//! Invariant: `tail <= head <= tail + capacity`, both counted in words since the start. The words from `tail` to `head`
//! are the reader's, the others the writer's. Only the sender moves `head`, only the receiver moves `tail`.
//!
//! Limits: a frame of at most the capacity less one word.

#[cfg(loom)]
use loom::sync::Arc;
#[cfg(not(loom))]
use std::sync::Arc;

use crate::policy::sync::{AtomicU64, Ordering, Padded};

const WORD: usize = size_of::<u64>();

struct Shared {
    words: Box<[AtomicU64]>,
    head: Padded<AtomicU64>,
    tail: Padded<AtomicU64>,
    dropped: Padded<AtomicU64>,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the queue.
    In,
    /// It is in the queue, which has just become half full: the reader should hurry.
    Half,
    /// There was no room; it is lost and counted.
    Dropped,
}

/// The core's end.
pub struct Sender {
    shared: Arc<Shared>,
    head: u64,
    /// `tail` when it was last looked at; it may have moved on since, which only means more room.
    tail: u64,
    hurried: bool,
}

/// The thread's end.
pub struct Receiver {
    shared: Arc<Shared>,
    tail: u64,
}

/// A queue of at least `bytes`.
pub fn ring(bytes: usize) -> (Sender, Receiver) {
    let words = (bytes / WORD).max(4).next_power_of_two();
    let cell = || Padded(AtomicU64::new(0));
    let shared = Arc::new(Shared {
        words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        head: cell(),
        tail: cell(),
        dropped: cell(),
    });
    (Sender { shared: shared.clone(), head: 0, tail: 0, hurried: false }, Receiver { shared, tail: 0 })
}

impl Shared {
    fn capacity(&self) -> u64 {
        self.words.len() as u64
    }

    /// The place of word number `at`.
    fn place(&self, at: u64) -> usize {
        (at & (self.capacity() - 1)) as usize
    }
}

impl Sender {
    /// Puts a copy of `frame` into the queue, or drops it.
    pub fn push(&mut self, frame: &[u8]) -> Pushed {
        let shared = &*self.shared;
        let need = 1 + frame.len().div_ceil(WORD) as u64;
        let after = self.head + need;
        let half = shared.capacity() / 2;
        if after - self.tail > half {
            self.tail = shared.tail.load(Ordering::Acquire);
            if after - self.tail > shared.capacity() {
                // One writer, so a load and a store are an exact increment.
                shared.dropped.store(shared.dropped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                return Pushed::Dropped;
            }
        }
        shared.words[shared.place(self.head)].store(frame.len() as u64, Ordering::Relaxed);
        let start = shared.place(self.head + 1);
        // What goes to the end of the memory, and what goes on at its beginning.
        let (first, second) = frame.split_at(frame.len().min((shared.words.len() - start) * WORD));
        copy_in(&shared.words[start..], first);
        copy_in(&shared.words, second);
        self.head = after;
        shared.head.store(after, Ordering::Release);
        let half_full = after - self.tail > half;
        let hurry = half_full && !self.hurried;
        self.hurried = half_full;
        if hurry { Pushed::Half } else { Pushed::In }
    }

    /// Frames dropped so far.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Receiver {
    /// Moves the oldest frame into `frame`, whose content is replaced. `false`: there is none.
    pub fn pop(&mut self, frame: &mut Vec<u8>) -> bool {
        frame.clear();
        let shared = &*self.shared;
        if shared.head.load(Ordering::Acquire) == self.tail {
            return false;
        }
        let length = shared.words[shared.place(self.tail)].load(Ordering::Relaxed) as usize;
        let words = length.div_ceil(WORD);
        let start = shared.place(self.tail + 1);
        let first = words.min(shared.words.len() - start);
        for word in shared.words[start..start + first].iter().chain(&shared.words[..words - first]) {
            frame.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        frame.truncate(length);
        self.tail += 1 + words as u64;
        shared.tail.store(self.tail, Ordering::Release);
        true
    }

    /// Frames dropped by the sender so far.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

fn copy_in(words: &[AtomicU64], bytes: &[u8]) {
    let mut chunks = bytes.chunks_exact(WORD);
    for (word, chunk) in words.iter().zip(&mut chunks) {
        let mut value = [0; WORD];
        value.copy_from_slice(chunk);
        word.store(u64::from_le_bytes(value), Ordering::Relaxed);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut value = [0; WORD];
        value[..rest.len()].copy_from_slice(rest);
        words[bytes.len() / WORD].store(u64::from_le_bytes(value), Ordering::Relaxed);
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn frame(number: usize, length: usize) -> Vec<u8> {
        (0..length).map(|at| (number * 31 + at) as u8).collect()
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out_whole_and_in_order_and_the_rest_is_counted(
            steps in prop::collection::vec((any::<bool>(), 0usize..90), 0..400), size in 32usize..600,
        ) {
            let (mut sender, mut receiver) = ring(size);
            let (mut model, mut dropped, mut out) = (VecDeque::new(), 0, Vec::new());
            for (number, (push, length)) in steps.into_iter().enumerate() {
                if push {
                    let frame = frame(number, length);
                    match sender.push(&frame) {
                        Pushed::Dropped => dropped += 1,
                        _ => model.push_back(frame),
                    }
                } else {
                    let expected = model.pop_front();
                    prop_assert_eq!(receiver.pop(&mut out).then(|| out.clone()), expected);
                }
            }
            while let Some(expected) = model.pop_front() {
                prop_assert!(receiver.pop(&mut out));
                prop_assert_eq!(&out, &expected);
            }
            prop_assert!(!receiver.pop(&mut out));
            prop_assert_eq!((sender.dropped(), receiver.dropped()), (dropped, dropped));
        }
    }

    #[test]
    fn a_full_queue_drops_the_new_one_and_takes_the_next_when_there_is_room() {
        let (mut sender, mut receiver) = ring(64);
        // Eight words: each of these frames takes four.
        assert_eq!(sender.push(&frame(1, 24)), Pushed::In);
        assert_eq!(sender.push(&frame(2, 24)), Pushed::Half);
        assert_eq!(sender.push(&frame(3, 0)), Pushed::Dropped);
        let mut out = Vec::new();
        assert!(receiver.pop(&mut out) && out == frame(1, 24));
        assert_eq!(sender.push(&frame(4, 17)), Pushed::In, "the reader was called already");
        for expected in [frame(2, 24), frame(4, 17)] {
            assert!(receiver.pop(&mut out) && out == expected);
        }
        assert_eq!(receiver.dropped(), 1);
        assert_eq!(sender.push(&frame(5, 60)), Pushed::Dropped, "longer than the whole queue");
    }

    #[test]
    fn a_reader_beside_the_writer_sees_every_frame_whole() {
        let (mut sender, mut receiver) = ring(4096);
        let writer = std::thread::spawn(move || {
            let mut sent = 0u64;
            for number in 0..200_000usize {
                let frame = frame(number, 8 + number % 200);
                let mut stamped = (number as u64).to_le_bytes().to_vec();
                stamped.extend_from_slice(&frame);
                sent += u64::from(sender.push(&stamped) != Pushed::Dropped);
            }
            (sent, sender.dropped())
        });
        let (mut out, mut seen, mut last) = (Vec::new(), 0u64, None);
        loop {
            let ended = writer.is_finished();
            if !receiver.pop(&mut out) {
                if ended {
                    break;
                }
                std::thread::yield_now();
                continue;
            }
            let number = u64::from_le_bytes(out[..8].try_into().unwrap());
            assert!(last < Some(number));
            assert_eq!(out[8..], frame(number as usize, 8 + number as usize % 200));
            (seen, last) = (seen + 1, Some(number));
        }
        let (sent, dropped) = writer.join().unwrap();
        assert_eq!((seen, seen + dropped), (sent, 200_000));
    }
}

#[cfg(loom)]
#[cfg(test)]
mod loom_tests {
    use super::*;

    #[test]
    fn loom_a_frame_is_seen_whole_or_not_at_all() {
        loom::model(|| {
            // Four words: two frames of two words fill it, a third finds room only when one was taken.
            let (mut sender, mut receiver) = ring(32);
            let writer = loom::thread::spawn(move || {
                (1u8..=3).map(|n| sender.push(&[n; 8]) != Pushed::Dropped).collect::<Vec<_>>()
            });
            let (mut out, mut seen) = (Vec::new(), Vec::new());
            for _ in 0..2 {
                if receiver.pop(&mut out) {
                    assert!(out.len() == 8 && out.iter().all(|byte| *byte == out[0]));
                    seen.push(out[0]);
                }
            }
            let sent = writer.join().unwrap();
            while receiver.pop(&mut out) {
                seen.push(out[0]);
            }
            let expected: Vec<u8> = (1..=3).filter(|n| sent[usize::from(*n) - 1]).collect();
            assert_eq!(seen, expected);
        });
    }
}
