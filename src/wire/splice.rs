//! A body with a few spans replaced, as a list of segments for one vectored write.
//!
//! Sending a request to another model changes a dozen bytes of what may be a megabyte. The body stays in the buffer it
//! was read into; a [`Splice`] names what is to be different and yields the pieces in order.
//!
//! Invariants: patches are kept sorted and do not overlap; replacements outlive the splice, so nothing is copied.
//! Limits: [`PATCHES_MAX`] patches, hence at most [`SEGMENTS_MAX`] segments.
//! It leaves out: what the replacements mean; the result is well-formed only if they are.

use super::Span;

/// Most patches of one body: model, stream options, a token limit, and one to spare.
pub const PATCHES_MAX: usize = 4;

/// Most segments that come of them.
pub const SEGMENTS_MAX: usize = 2 * PATCHES_MAX + 1;

/// Why a patch was not taken. Both are mistakes of the caller, never of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpliceError {
    /// There are [`PATCHES_MAX`] patches already.
    Full,
    /// The span is reversed or overlaps an earlier one.
    Overlap,
}

impl std::fmt::Display for SpliceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "a body takes at most four patches",
            Self::Overlap => "two patches of a body overlap",
        })
    }
}

impl std::error::Error for SpliceError {}

#[derive(Clone, Copy, Debug)]
struct Patch<'r> {
    span: Span,
    with: &'r [u8],
}

/// The patches of one body.
#[derive(Clone, Copy, Debug)]
pub struct Splice<'r> {
    // INVARIANT: patches[..len] are sorted by start and each ends at or before the start of the next.
    patches: [Patch<'r>; PATCHES_MAX],
    len: usize,
}

impl Default for Splice<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'r> Splice<'r> {
    /// A splice that changes nothing.
    pub const fn new() -> Self {
        let none = Patch { span: Span { start: 0, end: 0 }, with: b"" };
        Self { patches: [none; PATCHES_MAX], len: 0 }
    }

    /// Whether the body goes out as it is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Replaces the bytes of `span` by `with`. An empty span inserts; insertions at one place stay in the order they
    /// were made.
    ///
    /// # Errors
    /// When there is no room for another patch, or the span overlaps an earlier one.
    pub fn replace(&mut self, span: Span, with: &'r [u8]) -> Result<(), SpliceError> {
        if self.len == PATCHES_MAX {
            return Err(SpliceError::Full);
        }
        let taken = &self.patches[..self.len];
        let at = taken.partition_point(|patch| (patch.span.start, patch.span.end) <= (span.start, span.end));
        let clear_before = at == 0 || taken[at - 1].span.end <= span.start;
        let clear_after = at == self.len || span.end <= taken[at].span.start;
        if span.start > span.end || !clear_before || !clear_after {
            return Err(SpliceError::Overlap);
        }
        self.patches.copy_within(at..self.len, at + 1);
        self.patches[at] = Patch { span, with };
        self.len += 1;
        Ok(())
    }

    /// Puts `with` before the byte at `at`.
    ///
    /// # Errors
    /// As [`Splice::replace`].
    pub fn insert(&mut self, at: u32, with: &'r [u8]) -> Result<(), SpliceError> {
        self.replace(Span { start: at, end: at }, with)
    }

    /// Length of the result, in bytes, for a body of `body_len` bytes.
    pub fn total_len(&self, body_len: usize) -> usize {
        let patches = &self.patches[..self.len];
        let removed: usize = patches.iter().map(|patch| patch.span.len()).sum();
        let added: usize = patches.iter().map(|patch| patch.with.len()).sum();
        (body_len + added).saturating_sub(removed)
    }

    /// The pieces of the result in order, none of them empty.
    pub fn segments<'s>(&'s self, body: &'s [u8]) -> impl Iterator<Item = &'s [u8]> + 's {
        let kept_after = |index: usize| {
            let start = index.checked_sub(1).map_or(0, |before| self.patches[before].span.end as usize);
            let end = if index < self.len { self.patches[index].span.start as usize } else { body.len() };
            body.get(start..end).unwrap_or_default()
        };
        (0..=self.len)
            .flat_map(move |index| {
                let with = if index < self.len { self.patches[index].with } else { b"" };
                [kept_after(index), with]
            })
            .filter(|segment| !segment.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(splice: &Splice<'_>, body: &[u8]) -> Vec<u8> {
        let joined: Vec<u8> = splice.segments(body).flatten().copied().collect();
        assert_eq!(joined.len(), splice.total_len(body.len()));
        assert!(splice.segments(body).count() <= SEGMENTS_MAX);
        joined
    }

    fn span(start: u32, end: u32) -> Span {
        Span { start, end }
    }

    #[test]
    fn an_empty_splice_is_the_body_in_one_piece() {
        let splice = Splice::new();
        assert!(splice.is_empty());
        assert_eq!(splice.segments(b"body").collect::<Vec<_>>(), [b"body"]);
        assert_eq!(splice.segments(b"").count(), 0);
    }

    #[test]
    fn patches_apply_in_place_whatever_order_they_came_in() {
        let body = br#"{"model":"a","x":1}"#;
        let mut splice = Splice::new();
        splice.insert(18, br#","y":2"#).unwrap();
        splice.replace(span(9, 12), br#""other""#).unwrap();
        splice.insert(1, br#""z":0,"#).unwrap();
        assert_eq!(joined(&splice, body), br#"{"z":0,"model":"other","x":1,"y":2}"#);
    }

    #[test]
    fn the_ends_of_the_body_can_be_patched() {
        let mut splice = Splice::new();
        splice.replace(span(0, 1), b"<<").unwrap();
        splice.replace(span(3, 4), b"").unwrap();
        assert_eq!(joined(&splice, b"abcd"), b"<<bc");
    }

    #[test]
    fn overlaps_and_a_fifth_patch_are_refused() {
        let mut splice = Splice::new();
        splice.replace(span(4, 8), b"x").unwrap();
        for (start, end) in [(3, 5), (5, 6), (7, 9), (4, 8), (0, 20), (6, 6), (9, 8)] {
            assert_eq!(splice.replace(span(start, end), b"y"), Err(SpliceError::Overlap), "{start}..{end}");
        }
        splice.replace(span(8, 9), b"a").unwrap();
        splice.replace(span(2, 4), b"b").unwrap();
        splice.insert(4, b"c").unwrap();
        assert_eq!(splice.insert(0, b"d"), Err(SpliceError::Full));
        assert_eq!(joined(&splice, b"0123456789"), b"01bcxa9");
    }

    #[test]
    fn insertions_at_one_place_stay_in_order() {
        let mut splice = Splice::new();
        splice.insert(1, b"1").unwrap();
        splice.insert(1, b"2").unwrap();
        splice.replace(span(1, 2), b"3").unwrap();
        assert_eq!(joined(&splice, b"ab"), b"a123");
    }
}
