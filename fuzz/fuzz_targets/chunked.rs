//! A body decodes alike however it is cut, and what is written is read back.
#![no_main]

use sluice::wire::chunked::{
    CHUNK_END, CHUNK_LINE_MAX, ChunkError, ChunkLimits, Decoder, LAST_CHUNK, write_chunk_size,
};

fn decode(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), ChunkError> {
    let mut decoder = Decoder::new(ChunkLimits::request(1 << 20));
    let (mut payload, mut consumed) = (Vec::new(), 0);
    for piece in bytes.chunks(step) {
        let mut piece = piece.to_vec();
        let progress = decoder.decode(&mut piece)?;
        payload.extend_from_slice(&piece[..progress.payload]);
        consumed += progress.consumed;
    }
    Ok((payload, consumed, decoder.is_done()))
}

libfuzzer_sys::fuzz_target!(|input: (usize, &[u8])| {
    let (seed, bytes) = input;
    let step = seed % 67 + 1;
    assert_eq!(decode(bytes, step), decode(bytes, usize::MAX));
    assert_eq!(decode(bytes, 1), decode(bytes, usize::MAX));
    let mut encoded = Vec::new();
    for chunk in bytes.chunks(step + 16) {
        let mut line = [0; CHUNK_LINE_MAX];
        let length = write_chunk_size(&mut line, chunk.len());
        encoded.extend([&line[..length], chunk, CHUNK_END].concat());
    }
    encoded.extend_from_slice(LAST_CHUNK);
    assert_eq!(decode(&encoded, step), Ok((bytes.to_vec(), encoded.len(), true)));
});
