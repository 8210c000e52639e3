//! Translating requests of 1 KB, 10 KB and 800 KB between the dialects, streams event by event, and watching a stream.

#![allow(missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluice::config::Dialect;
use sluice::dialect::{Api, StreamWatch, anthropic_to_openai, inspect_answer, openai_to_anthropic};
use std::hint::black_box;

/// A coding agent's Chat request of about `size` bytes: a system prompt, tools, and turns of calls and results.
fn chat(size: usize) -> Vec<u8> {
    let tool = r#"{"type":"function","function":{"name":"read_file","description":"Reads a file","parameters":{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}}}"#;
    let file = r#"fn main() {\n    println!(\"{}\", \"text\");\n}\n"#.repeat(60);
    let mut messages = String::from(
        r#"{"role":"system","content":"You are a careful engineer."},{"role":"user","content":"Fix it."}"#,
    );
    let mut turn = 0;
    while messages.len() + 400 < size {
        let content = &file[..file.len().min(size - messages.len() - 300)];
        let content = &content[..content.rfind(r"\n").map_or(0, |at| at)];
        messages += &format!(
            r#",{{"role":"assistant","content":null,"tool_calls":[{{"id":"call_{turn}","type":"function","function":{{"name":"read_file","arguments":"{{\"path\":\"src/{turn}.rs\"}}"}}}}]}},{{"role":"tool","tool_call_id":"call_{turn}","content":"{content}"}}"#
        );
        turn += 1;
    }
    format!(r#"{{"model":"gpt-4o","messages":[{messages}],"tools":[{tool}],"temperature":0.2,"stream":true,"stream_options":{{"include_usage":true}}}}"#).into_bytes()
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("translate_request");
    for size in [1_000, 10_000, 800_000] {
        let body = chat(size);
        let options =
            openai_to_anthropic::TranslateOptions { model: "claude-haiku-4-5", default_max_tokens: None };
        let mut out = Vec::with_capacity(2 * body.len());
        openai_to_anthropic::translate_request(&body, &options, &mut out).expect("translates");
        let reverse = out.clone();
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("openai_to_anthropic", size), &body, |b, body| {
            b.iter(|| {
                out.clear();
                openai_to_anthropic::translate_request(black_box(body), &options, &mut out)
            });
        });
        let options = anthropic_to_openai::TranslateOptions { model: "gpt-4o" };
        let mut out = Vec::with_capacity(2 * body.len());
        group.bench_with_input(BenchmarkId::new("anthropic_to_openai", size), &reverse, |b, body| {
            b.iter(|| {
                out.clear();
                anthropic_to_openai::translate_request(black_box(body), &options, &mut out)
            });
        });
        // What a tree alone would cost, before anything is done with it.
        group.bench_with_input(BenchmarkId::new("serde_json_tree_only", size), &body, |b, body| {
            b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(body)));
        });
    }
    group.finish();
}

const START: &[u8] = b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_01\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-haiku-4-5\",\"content\":[],\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n";
const DELTA: &[u8] = b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" and then some\"}}\n\n";
const CHUNK: &[u8] = b"data: {\"id\":\"chatcmpl-C4Hq5a6K3RaPMymUv70btQNYv6SvY\",\"object\":\"chat.completion.chunk\",\"created\":1755137921,\"model\":\"gpt-5-nano-2025-08-07\",\"service_tier\":\"default\",\"system_fingerprint\":null,\"choices\":[{\"index\":0,\"delta\":{\"content\":\" and then some\"},\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"WuQNX\"}\n\n";

fn streams(c: &mut Criterion) {
    let mut group = c.benchmark_group("stream_event");
    let mut out = Vec::with_capacity(4096);
    group.throughput(Throughput::Elements(1));
    group.bench_function("watch_chat_chunk", |b| {
        let mut watch = StreamWatch::new(Api::ChatCompletions, Dialect::OpenAi);
        b.iter(|| watch.event(black_box(CHUNK)));
    });
    group.bench_function("watch_anthropic_delta", |b| {
        let mut watch = StreamWatch::new(Api::Messages, Dialect::Anthropic);
        b.iter(|| watch.event(black_box(DELTA)));
    });
    group.bench_function("anthropic_delta_to_chunk", |b| {
        let mut translator =
            openai_to_anthropic::StreamTranslator::new(openai_to_anthropic::Back::default(), 1);
        translator.event(START, &mut out).expect("starts");
        b.iter(|| {
            out.clear();
            translator.event(black_box(DELTA), &mut out)
        });
    });
    group.bench_function("chunk_to_anthropic_delta", |b| {
        let mut translator = anthropic_to_openai::StreamTranslator::new();
        translator.event(CHUNK, &mut out).expect("starts");
        b.iter(|| {
            out.clear();
            translator.event(black_box(CHUNK), &mut out)
        });
    });
    group.finish();
}

fn answers(c: &mut Criterion) {
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(90);
    let body = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":900,"total_tokens":909,"prompt_tokens_details":{{"cached_tokens":0}}}}}}"#
    );
    let mut group = c.benchmark_group("answer");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("inspect_4k", |b| {
        b.iter(|| inspect_answer(Api::ChatCompletions, Dialect::OpenAi, black_box(body.as_bytes())));
    });
    group.finish();
}

criterion_group!(benches, requests, streams, answers);
criterion_main!(benches);
