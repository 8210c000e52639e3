//! Events that differ from the one before in nothing but their text.
//!
//! Why: a stream is mostly one event over and over, with the same members in the same order and another piece of text.
//! Walking each anew was 3,500 of the 7,800 instructions of a paced event; that it is the same again is seen in a fraction of it.
//!
//! The last event that was walked leaves a pattern when it was content: what it consisted of but for the values of its free
//! members, as lengths and hashes, since nothing of a stream is kept. An event that fits has the same members with the same
//! values, and text where there was text, so a walk over it would say and change what the walk over the last one did; every
//! change that a walk makes to what has been seen is the same when made twice.
//!
//! Invariants: what fits would have been walked to the same end (a property test walks both ways); an event that was walked
//! replaces the pattern or forgets it, so none outlives a change of what has been seen. The hash has a seed of its own in each
//! stream. Left out: events without content, which are few.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use crate::dialect::json::Raw;
use crate::wire::simd::short_string_stops;

/// Free values of an event, at most: its text, a number that counts events, padding that hides the text's length.
const FREE_MAX: usize = 3;

/// Where the free values of an event are, as a walk over it meets them.
#[derive(Debug, Default)]
pub(super) struct Free<'e> {
    values: [&'e [u8]; FREE_MAX],
    len: usize,
}

impl<'e> Free<'e> {
    /// Notes a value that may differ without any difference to what the event means, as long as it is a string that is not
    /// empty, or a number.
    pub fn note(&mut self, value: Raw<'e>) {
        let inner = match value.bytes() {
            [b'"', inner @ .., b'"'] if !inner.is_empty() => inner,
            digits @ [b'0'..=b'9', ..] if digits.iter().all(u8::is_ascii_digit) => digits,
            // It stays part of what has to be the same.
            _ => return,
        };
        if let Some(slot) = self.values.get_mut(self.len) {
            *slot = inner;
        }
        // One too many is told from just enough.
        self.len += 1;
    }
}

/// What an event consists of, but for its free values.
#[derive(Debug, Default)]
pub(super) struct Pattern {
    hashes: RandomState,
    /// How many free values there are; 0 when there is no pattern.
    free: u8,
    /// Bit n: the nth free value is a number.
    numbers: u8,
    /// The pieces between them: how long each is, and its hash.
    lengths: [u16; FREE_MAX + 1],
    pieces: [u64; FREE_MAX + 1],
}

impl Pattern {
    /// Whether `event` differs from the one learnt in its free values at most.
    #[inline]
    pub fn fits(&self, event: &[u8]) -> bool {
        let free = usize::from(self.free);
        if free == 0 {
            return false;
        }
        let mut rest = event;
        for at in 0..free {
            let Some(tail) = self.piece(rest, at) else { return false };
            let digits = self.numbers & 1 << at != 0;
            let len = if digits { digits_len(tail) } else { string_len(tail) };
            match len {
                None | Some(0) => return false,
                Some(len) => rest = &tail[len..],
            }
        }
        usize::from(self.lengths[free]) == rest.len() && self.piece(rest, free).is_some()
    }

    /// What follows the nth piece, when `rest` begins with it.
    #[inline]
    fn piece<'e>(&self, rest: &'e [u8], at: usize) -> Option<&'e [u8]> {
        let (piece, tail) = rest.split_at_checked(usize::from(self.lengths[at]))?;
        (self.hashes.hash_one(piece) == self.pieces[at]).then_some(tail)
    }

    /// Learns `event`, whose free values these are, in the order of their places. What cannot be a pattern leaves none.
    pub fn learn(&mut self, event: &[u8], free: &Free<'_>) {
        self.forget();
        let Some(values) = free.values.get(..free.len).filter(|values| !values.is_empty()) else { return };
        let (mut from, mut numbers) = (0, 0);
        for (at, value) in values.iter().enumerate() {
            // Values of data in several lines stand in a copy, outside of the event.
            let Some(start) = offset(event, value).filter(|start| *start > from) else { return };
            if !self.keep(at, &event[from..start]) {
                return;
            }
            from = start + value.len();
            let quoted = event.get(start - 1) == Some(&b'"') && event.get(from) == Some(&b'"');
            numbers |= u8::from(!quoted) << at;
        }
        if from < event.len() && self.keep(values.len(), &event[from..]) {
            (self.free, self.numbers) = (values.len() as u8, numbers);
        }
    }

    fn keep(&mut self, at: usize, piece: &[u8]) -> bool {
        let Ok(len) = u16::try_from(piece.len()) else { return false };
        (self.lengths[at], self.pieces[at]) = (len, self.hashes.hash_one(piece));
        true
    }

    /// Nothing fits any more.
    #[inline]
    pub fn forget(&mut self) {
        self.free = 0;
    }
}

/// Where in `whole` its part begins; `None` when it is not a part of it.
fn offset(whole: &[u8], part: &[u8]) -> Option<usize> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    (start + part.len() <= whole.len()).then_some(start)
}

/// Bytes before the quote that ends a string; `None` without one, or with a byte before it that no string may hold, which
/// might be the end of a line.
#[inline]
fn string_len(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = text.get(at..)?;
        at += match rest.first_chunk::<16>() {
            Some(block) => match short_string_stops(block) {
                0 => {
                    at += block.len();
                    continue;
                }
                found => found.trailing_zeros() as usize,
            },
            None => rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?,
        };
        match text[at] {
            b'"' => return Some(at),
            // The byte that is escaped has to be one that may stand in a line.
            b'\\' if text.get(at + 1).is_some_and(|byte| *byte >= 0x20) => at += 2,
            _ => return None,
        }
    }
}

/// Digits that `text` begins with.
fn digits_len(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| !byte.is_ascii_digit())
}
