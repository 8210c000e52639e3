//! Streams of events as providers send them: where each ends, and what its data is.

#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice::wire::{json, sse};
use std::hint::black_box;

const DELTA: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
\"model\":\"gpt-4o-mini\",\"system_fingerprint\":\"fp_1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\
\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n";

fn events(c: &mut Criterion) {
    let stream = DELTA.repeat(64);
    let mut group = c.benchmark_group("sse");
    group.throughput(Throughput::Bytes(stream.len() as u64));
    group.bench_function("split 64 events", |b| {
        b.iter(|| sse::Splitter::new().feed(black_box(stream.as_bytes())).count());
    });
    group.throughput(Throughput::Bytes(DELTA.len() as u64));
    group.bench_function("fields of an event", |b| {
        b.iter(|| sse::fields(black_box(DELTA.as_bytes())).data().map(|data| data.len()));
    });
    group.bench_function("usage member of an event", |b| {
        b.iter(|| {
            let data = sse::fields(black_box(DELTA.as_bytes())).data();
            data.and_then(|data| json::Value::parse(&data).ok()?.get("usage").map(|usage| usage.is_null()))
        });
    });
    group.finish();
}

criterion_group!(benches, events);
criterion_main!(benches);
