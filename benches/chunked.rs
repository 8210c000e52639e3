//! Chunked bodies: events of a stream in a chunk each, and a large body in 16 KiB chunks.

#![allow(missing_docs)]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluice::wire::chunked::{CHUNK_END, CHUNK_LINE_MAX, ChunkLimits, Decoder, LAST_CHUNK, write_chunk_size};
use std::hint::black_box;

fn encoded(chunk: usize, count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..count {
        let mut line = [0; CHUNK_LINE_MAX];
        let length = write_chunk_size(&mut line, chunk);
        out.extend_from_slice(&line[..length]);
        out.extend(std::iter::repeat_n(b'x', chunk));
        out.extend_from_slice(CHUNK_END);
    }
    out.extend_from_slice(LAST_CHUNK);
    out
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunked");
    for (name, body) in [("200 B x 64", encoded(200, 64)), ("16 KiB x 16", encoded(16 * 1024, 16))] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("in place", name), &body, |b, body| {
            b.iter_batched_ref(
                || body.clone(),
                |buf| {
                    Decoder::new(ChunkLimits::response())
                        .decode(black_box(buf))
                        .map(|progress| progress.payload)
                },
                BatchSize::SmallInput,
            );
        });
        group.bench_with_input(BenchmarkId::new("pieces", name), &body, |b, body| {
            b.iter(|| {
                let mut decoder = Decoder::new(ChunkLimits::response());
                let (mut at, mut payload) = (0, 0);
                while let Ok(Some(piece)) = decoder.next_piece(black_box(body), &mut at) {
                    payload += piece.len();
                }
                payload
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
