//! A stream splits at the same places however it is cut, and no byte is lost.
#![no_main]

use sluice::wire::sse::{Splitter, fields};

fn ends(stream: &[u8], step: usize) -> (Vec<usize>, usize, bool) {
    let mut splitter = Splitter::new();
    let mut ends = Vec::new();
    for (index, piece) in stream.chunks(step).enumerate() {
        ends.extend(splitter.feed(piece).map(|end| index * step + end));
    }
    (ends, splitter.pending_len(), splitter.finish())
}

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let (step, stream) = (usize::from(input.0) + 1, input.1);
    let whole = ends(stream, usize::MAX);
    assert_eq!(ends(stream, step), whole);
    assert_eq!(ends(stream, 1), whole);
    assert_eq!(whole.0.last().unwrap_or(&0) + whole.1, stream.len());
    let mut start = 0;
    for end in whole.0 {
        let read = fields(&stream[start..end]);
        assert!(read.data().is_none_or(|data| data.len() < end - start));
        start = end;
    }
});
