//! A fixed set of exchanges through the sans-IO core, for counting instructions: `perf/gate` runs it under callgrind.
//!
//! Why: time on a shared machine moves by ten percent from run to run; the number of instructions does not. A case is played
//! so many times; what it costs is the difference of two counts, so that start and end cancel out.
//!
//!     exchanges CASE TIMES
//!
//! Invariant: a case does the same work each time, whatever the machine; nothing here asks the clock, the environment or a
//! socket. Left out: what the gateway does between the rooms; that is counted with the product itself, over sockets.

#![allow(missing_docs)]

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use sluice::config::Dialect;
use sluice::dialect::{Api, StreamWatch, Usage, inspect_answer, openai_to_anthropic};
use sluice::meter::{Answered, CoreMeter, Cost, Meter, Outcome as Told, Record, Source, Spend, Tried};
use sluice::policy::{
    Ask, Chain, Core, Flight, Outcome, PolicyId, ProviderId, ProviderSettings, Reason, Settings, Shared,
    Step, Success, TargetRef, What,
};
use sluice::wire::fields::Fields;
use sluice::wire::framing::frame_request;
use sluice::wire::head::{HeadLimits, Parsed, parse_request};
use sluice::wire::{json, sse};

const HEADS: [&str; 2] = [
    "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
Authorization: Bearer sk-0123456789abcdef\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\r\n",
    "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:8080\r\nAccept-Encoding: gzip, deflate\r\n\
Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
User-Agent: AsyncOpenAI/Python 1.99.0\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 1.99.0\r\n\
X-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\n\
X-Stainless-Runtime-Version: 3.12.4\r\nAuthorization: Bearer sk-proj-0123456789abcdef0123456789abcdef\r\n\
X-Stainless-Async: async:asyncio\r\nx-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n\
Content-Length: 67\r\n\r\n",
];

const CHUNK: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
\"model\":\"gpt-4o-mini\",\"system_fingerprint\":\"fp_1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\
\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n";

const START: &[u8] = b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_01\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-haiku-4-5\",\"content\":[],\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n";
const DELTA: &[u8] = b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" and then some\"}}\n\n";

/// A chat request of about 10 KiB: prompts with escapes, and a tool.
fn chat() -> Vec<u8> {
    let text = r#"Read this:\n\n    if name == \"main\":\n        return [1, 2]\n\nand tell what it does. "#
        .repeat(100);
    format!(
        r#"{{"model":"gpt-4o-mini","messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","content":"{text}"}}],"tools":[{{"type":"function","function":{{"name":"look","description":"Looks","parameters":{{"type":"object","properties":{{"at":{{"type":"string"}}}}}}}}}}],"temperature":0.2,"max_tokens":400,"stream":true}}"#
    )
    .into_bytes()
}

fn heads(times: u64) -> u64 {
    let mut fields = Box::new(Fields::new());
    let mut framed = 0;
    for _ in 0..times {
        for head in HEADS {
            let bytes = black_box(head.as_bytes());
            if let Ok(Parsed::Complete(head)) = parse_request(bytes, &mut fields, &HeadLimits::REQUEST) {
                framed += u64::from(frame_request(&head, &fields, bytes).is_ok());
            }
        }
    }
    framed / 2
}

fn peeks(times: u64) -> u64 {
    let body = chat();
    (0..times).filter(|_| json::peek(black_box(&body)).is_ok_and(|peek| peek.stream)).count() as u64
}

fn answers(times: u64) -> u64 {
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(45);
    let body = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":900,"total_tokens":909}}}}"#
    );
    let inspect = |_: &u64| {
        inspect_answer(Api::ChatCompletions, Dialect::OpenAi, black_box(body.as_bytes())).usage.is_some()
    };
    (0..times).filter(inspect).count() as u64
}

/// 64 events each time.
fn events(times: u64) -> u64 {
    let stream = CHUNK.repeat(64);
    let mut watched = 0;
    for _ in 0..times {
        let mut watch = StreamWatch::new(Api::ChatCompletions, Dialect::OpenAi);
        let mut splitter = sse::Splitter::new();
        for _ in splitter.feed(black_box(stream.as_bytes())) {
            black_box(watch.event(black_box(CHUNK.as_bytes())));
            watched += 1;
        }
    }
    watched / 64
}

/// A request of 10 KiB, and 64 events back.
fn translations(times: u64) -> u64 {
    let body = chat();
    let options =
        openai_to_anthropic::TranslateOptions { model: "claude-haiku-4-5", default_max_tokens: None };
    let (mut out, mut translated) = (Vec::with_capacity(2 * body.len()), 0);
    for _ in 0..times {
        out.clear();
        translated +=
            u64::from(openai_to_anthropic::translate_request(black_box(&body), &options, &mut out).is_ok());
        let mut translator =
            openai_to_anthropic::StreamTranslator::new(openai_to_anthropic::Back::default(), 1);
        black_box(translator.event(START, &mut out).is_ok());
        for _ in 0..64 {
            out.clear();
            black_box(translator.event(black_box(DELTA), &mut out).is_ok());
        }
    }
    translated
}

/// Route, admit and settle over a chain of three targets, the first of which answers.
fn flights(times: u64) -> u64 {
    let names = ["openai", "anthropic", "backup"];
    let settings =
        Arc::new(Settings::new(names.map(|n| ProviderSettings::new(n).with_keys(&[0.7, 0.3])).to_vec()));
    let shared = Arc::new(Shared::new(&settings, 1));
    let mut core = Core::new(settings, shared, 0, 7);
    let mut chain = Chain::new(PolicyId(0));
    for provider in (0..3).map(ProviderId) {
        chain.push(TargetRef::new(provider, core.slot(provider, b"model")));
    }
    let mut answered = 0;
    for turn in 0..times {
        let now_us = turn * 1_000;
        let ask = Ask { now_us, stream: true, est_input_tokens: 2_000, ..Ask::default() };
        let mut flight = Flight::begin(&mut core, black_box(chain), ask);
        if let Step::Attempt(attempt) = flight.next(&mut core, now_us) {
            flight.first_token(&mut core, now_us + 300_000, attempt.no);
            flight.settle(&mut core, now_us + 900_000, attempt.no, Outcome::Success(Success::default()));
            answered += 1;
        }
    }
    answered
}

fn records(times: u64) -> u64 {
    let by = Answered { provider: "anthropic", model: "claude-haiku-4-5", key: Some("ANTHROPIC_API_KEY") };
    let tried = [Tried {
        target: by,
        reason: Reason::First,
        what: What::Answered,
        fault: None,
        after_us: 20,
        elapsed_us: 900_000,
        answers: true,
        spend: Spend::default(),
        server: ("127.0.0.1", 443),
    }];
    let mut core = CoreMeter::new(Arc::new(Meter::default()));
    for _ in 0..times {
        core.record(black_box(&Record {
            api: Api::Messages,
            stream: true,
            status: 200,
            outcome: Told::Ok,
            source: Source::Provider,
            code: "",
            route: "anthropic/claude-haiku-4-5",
            asked: "anthropic/claude-haiku-4-5",
            answered: Some(by),
            usage: Some(Usage { input: 1_000, cache_read: 9_000, output: 400, ..Usage::default() }),
            usage_missing: false,
            cost: Cost::Priced(3_900_000),
            started_us: 0,
            duration_us: 950_000,
            first_token_us: Some(300_000),
            generating_us: Some(600_000),
            overhead_us: Some(23),
            queued_us: 0,
            truncated: false,
            client_retries: 0,
            tried: &tried,
            who: Default::default(),
            trace: None,
            labels: &[],
        }));
    }
    times
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (case, times) = (words.next(), words.next().and_then(|n| n.parse::<u64>().ok()));
    let (Some(case), Some(times)) = (case, times) else {
        eprintln!("usage: exchanges heads|peeks|answers|events|translations|flights|records TIMES");
        return ExitCode::from(2);
    };
    let done = match case.as_str() {
        "heads" => heads(times),
        "peeks" => peeks(times),
        "answers" => answers(times),
        "events" => events(times),
        "translations" => translations(times),
        "flights" => flights(times),
        "records" => records(times),
        _ => {
            eprintln!("{case} is no case");
            return ExitCode::from(2);
        }
    };
    if done != times {
        eprintln!("{case}: {done} of {times} did what they should");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
