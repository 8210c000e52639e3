//! One look at request bodies of 1 KB, 10 KB and 800 KB, of one long string and of many short ones.

#![allow(missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluice::wire::json;
use std::hint::black_box;

/// A chat request of about `size` bytes whose bulk is one prompt.
fn one_string(size: usize) -> Vec<u8> {
    let text = "The quick brown fox jumps over the lazy dog, again and again, until the log is full. ";
    let prompt = text.repeat(size / text.len() + 1);
    body(&format!("{{\"role\":\"user\",\"content\":\"{}\"}}", &prompt[..size.saturating_sub(120)]))
}

/// As above, but source code: a line end or a quote every 20 bytes or so.
fn escaped(size: usize) -> Vec<u8> {
    let text = "    if name == \\\"main\\\":\\n        return {\\\"a\\\": [1, 2]}\\n\\n";
    body(&format!("{{\"role\":\"user\",\"content\":\"{}\"}}", text.repeat(size / text.len())))
}

/// A long conversation with tool calls: short strings, many brackets.
fn short_strings(size: usize) -> Vec<u8> {
    let turn = "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"call_1\",\"type\":\"function\",\
\"function\":{\"name\":\"look\",\"arguments\":\"{\\\"at\\\":7}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"call_1\",\
\"content\":\"ok, 7 it is\"}";
    body(&vec![turn; size / turn.len() + 1].join(","))
}

fn body(messages: &str) -> Vec<u8> {
    format!("{{\"model\":\"gpt-4o-mini\",\"messages\":[{messages}],\"stream\":true,\"max_tokens\":256}}")
        .into_bytes()
}

#[derive(serde::Deserialize)]
struct Wanted {
    model: String,
    stream: bool,
    max_tokens: u64,
}

fn peek(c: &mut Criterion) {
    let mut group = c.benchmark_group("json_peek");
    for (name, size) in [("1 KB", 1_000), ("10 KB", 10_000), ("800 KB", 800 * 1024)] {
        for (kind, body) in [
            ("one string", one_string(size)),
            ("escapes", escaped(size)),
            ("short strings", short_strings(size)),
        ] {
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_with_input(BenchmarkId::new(format!("sluice/{kind}"), name), &body, |b, body| {
                b.iter(|| json::peek(black_box(body)).map(|peek| peek.stream));
            });
            group.bench_with_input(BenchmarkId::new(format!("validate/{kind}"), name), &body, |b, body| {
                b.iter(|| json::validate(black_box(body), json::DEPTH_MAX));
            });
            group.bench_with_input(BenchmarkId::new(format!("serde_json/{kind}"), name), &body, |b, body| {
                b.iter(|| {
                    let wanted: Wanted = serde_json::from_slice(black_box(body)).expect("the body is valid");
                    (wanted.model.len(), wanted.stream, wanted.max_tokens)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, peek);
criterion_main!(benches);
