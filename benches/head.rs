//! Request heads of real clients: our parser with all its checks, against httparse.
//!
//! `sluice/parse` is the tokenizer alone, as httparse is; `sluice/frame` adds the framing policy, which is what the
//! gateway runs. Three heads stand here so that it runs anywhere; those captured from SDKs are added where they are.

#![allow(missing_docs)]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluice::wire::fields::Fields;
use sluice::wire::framing::frame_request;
use sluice::wire::head::{HeadLimits, Parsed, parse_request};
use std::hint::black_box;
use std::path::Path;

const CURL: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.5.0\r\n\
Accept: */*\r\nAuthorization: Bearer sk-0123456789abcdef\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\r\n";

const SDK: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:8080\r\nAccept-Encoding: gzip, deflate\r\n\
Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
User-Agent: AsyncOpenAI/Python 1.99.0\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 1.99.0\r\n\
X-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\n\
X-Stainless-Runtime-Version: 3.12.4\r\nAuthorization: Bearer sk-proj-0123456789abcdef0123456789abcdef\r\n\
X-Stainless-Async: async:asyncio\r\nx-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n\
Content-Length: 67\r\n\r\n";

const BROWSER: &str = "POST /v1/messages?beta=true HTTP/1.1\r\nHost: gateway.internal.example:8443\r\n\
Connection: keep-alive\r\nContent-Length: 48211\r\nsec-ch-ua-platform: \"Linux\"\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36\r\n\
sec-ch-ua: \"Chromium\";v=\"131\", \"Not_A Brand\";v=\"24\"\r\nContent-Type: application/json\r\nsec-ch-ua-mobile: ?0\r\n\
Accept: */*\r\nOrigin: https://console.internal.example\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\n\
Sec-Fetch-Dest: empty\r\nReferer: https://console.internal.example/playground/sessions/0193b7a1-55d0-7c40\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
x-api-key: sk-ant-api03-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n\
anthropic-version: 2023-06-01\r\nanthropic-beta: prompt-caching-2024-07-31,token-efficient-tools-2025-02-19\r\n\
traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";

/// Captured messages, one of each file: the head with the body that came with it.
fn captured() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/client-heads");
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut heads: Vec<_> = files
        .filter_map(|file| {
            let path = file.ok()?.path();
            let text = std::fs::read_to_string(&path).ok()?;
            let message = text.split_once('\n')?.1.split("\n### end").next()?.as_bytes().to_vec();
            Some((path.file_stem()?.to_string_lossy().into_owned(), message))
        })
        .collect();
    heads.sort();
    heads
}

fn parse(bytes: &[u8], fields: &mut Fields) -> usize {
    match parse_request(bytes, fields, &HeadLimits::REQUEST) {
        Ok(Parsed::Complete(head)) => head.len,
        other => panic!("{other:?}"),
    }
}

fn frame(bytes: &[u8], fields: &mut Fields) -> bool {
    match parse_request(bytes, fields, &HeadLimits::REQUEST) {
        Ok(Parsed::Complete(head)) => frame_request(&head, fields, bytes).is_ok(),
        other => panic!("{other:?}"),
    }
}

fn oracle(bytes: &[u8]) -> usize {
    let mut storage = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut storage);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        other => panic!("{other:?}"),
    }
}

/// As hyper calls it, without clearing the storage first.
fn oracle_uninit(bytes: &[u8]) -> usize {
    let mut storage = [const { std::mem::MaybeUninit::uninit() }; 100];
    let mut request = httparse::Request::new(&mut []);
    match httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut request,
        bytes,
        &mut storage,
    ) {
        Ok(httparse::Status::Complete(length)) => length,
        other => panic!("{other:?}"),
    }
}

fn heads(c: &mut Criterion) {
    let mut all: Vec<(String, Vec<u8>)> = [("curl", CURL), ("sdk", SDK), ("browser", BROWSER)]
        .map(|(name, head)| {
            (name.to_owned(), format!("{head}{{\"model\":\"gpt-4o-mini\",\"messages\":[]}}").into())
        })
        .into();
    let captured = captured();
    let mut group = c.benchmark_group("head");
    let mut fields = Box::new(Fields::new());
    for (name, bytes) in &all {
        group.throughput(Throughput::Bytes(parse(bytes, &mut fields) as u64));
        group.bench_with_input(BenchmarkId::new("sluice/parse", name), bytes, |b, bytes| {
            b.iter(|| parse(black_box(bytes), &mut fields));
        });
        group.bench_with_input(BenchmarkId::new("sluice/frame", name), bytes, |b, bytes| {
            b.iter(|| frame(black_box(bytes), &mut fields));
        });
        group.bench_with_input(BenchmarkId::new("httparse", name), bytes, |b, bytes| {
            b.iter(|| oracle(black_box(bytes)));
        });
        group.bench_with_input(BenchmarkId::new("httparse/uninit", name), bytes, |b, bytes| {
            b.iter(|| oracle_uninit(black_box(bytes)));
        });
    }
    if !captured.is_empty() {
        all.clone_from(&captured);
        let total: usize = all.iter().map(|(_, bytes)| parse(bytes, &mut fields)).sum();
        group.throughput(Throughput::Bytes(total as u64));
        group.bench_function("sluice/parse/captured", |b| {
            b.iter(|| all.iter().map(|(_, bytes)| parse(black_box(bytes), &mut fields)).sum::<usize>());
        });
        group.bench_function("sluice/frame/captured", |b| {
            b.iter(|| all.iter().filter(|(_, bytes)| frame(black_box(bytes), &mut fields)).count());
        });
        group.bench_function("httparse/captured", |b| {
            b.iter(|| all.iter().map(|(_, bytes)| oracle(black_box(bytes))).sum::<usize>());
        });
        group.bench_function("httparse/uninit/captured", |b| {
            b.iter(|| all.iter().map(|(_, bytes)| oracle_uninit(black_box(bytes))).sum::<usize>());
        });
    }
    group.finish();
}

/// What a head that never ends costs until it is refused: 1 MB at once, and one byte at a time.
fn hostile(c: &mut Criterion) {
    let mut fields = Box::new(Fields::new());
    let endless = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 1 << 20]].concat();
    c.bench_function("head/1 MB at once", |b| {
        b.iter(|| parse_request(black_box(&endless), &mut fields, &HeadLimits::REQUEST).is_err());
    });
    c.bench_function("head/64 KiB byte by byte", |b| {
        b.iter_batched(
            || sluice::wire::head::Arrival::within(HeadLimits::REQUEST.bytes),
            |mut arrival| {
                let due = |end: &usize| arrival.due(&endless[..*end]);
                (1..=65_536)
                    .filter(due)
                    .filter(|&end| parse_request(&endless[..end], &mut fields, &HeadLimits::REQUEST).is_ok())
                    .count()
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, heads, hostile);
criterion_main!(benches);
