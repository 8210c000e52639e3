//! Bytes: HTTP/1.1 heads and framing, chunked bodies, SSE and JSON; sans-IO and zero-copy.
//!
//! Everything here takes bytes and gives back offsets or borrowed slices: no clock, no socket, no allocation on the hot
//! path. What came from a network is never trusted: each parser refuses what two readers could read in two ways, because
//! a proxy that guesses is how requests are smuggled.
//!
//! From the outside in: [`head`] turns bytes into a head and a table of [`fields`]; [`framing`] decides whether the
//! message may pass and how long its body is; [`chunked`] and [`sse`] cut bodies; [`json`] reads what routing needs
//! without building a tree; [`splice`] changes a body by naming spans, so that it is written without being copied.
//!
//! Limits: offsets are 32 bits wide, so one buffer may hold at most 4 GiB; the gateway's own limits are far below.

pub mod chunked;
mod error;
pub mod fields;
pub mod framing;
pub mod head;
pub mod json;
pub(crate) mod simd;
pub mod splice;
pub mod sse;

pub use error::HeadError;

/// A half-open range of byte offsets into the buffer that was parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset one past the last byte; never below `start`.
    pub end: u32,
}

impl Span {
    /// Makes a span of two offsets; `None` when they are reversed or do not fit 32 bits.
    pub fn new(start: usize, end: usize) -> Option<Self> {
        let span = Self { start: u32::try_from(start).ok()?, end: u32::try_from(end).ok()? };
        (span.start <= span.end).then_some(span)
    }

    /// Number of bytes covered.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether the span covers nothing.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The bytes covered in `buf`; empty when the span does not lie inside it, which only happens when the span belongs
    /// to another buffer.
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}
