//! Recorded provider traffic through the dialect room: streams through the watchers, Anthropic answers and streams
//! through the translators, real Chat requests through the request translator, and a competitor's golden translations.
//!
//! The recordings are not part of the repository. They are looked for beside it, and where they are absent each test
//! says so and passes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test helper may stop the test, and says what it skips"
)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sluice::config::Dialect;
use sluice::dialect::anthropic_to_openai;
use sluice::dialect::openai_to_anthropic::{
    Back, StreamTranslator, TranslateOptions, translate_answer, translate_request,
};
use sluice::dialect::{
    Api, ErrorKind, EventKind, RetryHints, StreamWatch, TranslateFault, Usage, inspect_answer, read_error,
};
use sluice::wire::sse::Splitter;

fn corpus() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/providers");
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: no recordings at {}", path.display());
    None
}

fn files(root: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// One recorded exchange: the endpoint called at the provider, its dialect, request and answer.
struct Exchange {
    name: String,
    api: Api,
    dialect: Dialect,
    status: u16,
    request: Value,
    answer: String,
}

fn endpoint(uri: &str) -> Option<(Api, Dialect)> {
    let path = uri.split('?').next().unwrap();
    let ends = |end: &str| path.ends_with(end);
    Some(match () {
        () if ends("/chat/completions") => (Api::ChatCompletions, Dialect::OpenAi),
        () if ends("/completions") => (Api::Completions, Dialect::OpenAi),
        () if ends("/embeddings") => (Api::Embeddings, Dialect::OpenAi),
        () if ends("/responses") || path.contains("/responses/") => (Api::Responses, Dialect::OpenAi),
        () if ends("/v1/messages") => (Api::Messages, Dialect::Anthropic),
        () if ends("/messages/count_tokens") => (Api::CountTokens, Dialect::Anthropic),
        () => return None,
    })
}

/// Everything recorded with its request.
fn exchanges(root: &Path) -> Vec<Exchange> {
    let mut found = Vec::new();
    for path in files(&root.join("pydantic-ai"), ".json")
        .into_iter()
        .chain(files(&root.join("envoy-ai-gateway"), ".json"))
    {
        for (at, entry) in json(&path).as_array().unwrap().iter().enumerate() {
            let (request, response) = (&entry["request"], &entry["response"]);
            let Some((api, dialect)) = endpoint(request["uri"].as_str().unwrap()) else { continue };
            let body = &response["body"];
            let answer = match (&response["json"], body.as_str().or(body["string"].as_str())) {
                (Value::Null, Some(text)) => text.to_owned(),
                (Value::Null, None) => continue,
                (value, _) => value.to_string(),
            };
            let sent = match &request["json"] {
                Value::Null => request["body"]
                    .as_str()
                    .and_then(|body| serde_json::from_str(body).ok())
                    .unwrap_or(Value::Null),
                value => value.clone(),
            };
            let status = response["status"]["code"].as_u64().or(response["status"].as_u64()).unwrap();
            found.push(Exchange {
                name: format!("{}#{at}", path.file_name().unwrap().to_string_lossy()),
                api,
                dialect,
                status: u16::try_from(status).unwrap(),
                request: sent,
                answer,
            });
        }
    }
    found
}

/// Every recorded stream as (name, endpoint, dialect, bytes).
fn streams(root: &Path) -> Vec<(String, Api, Dialect, String)> {
    let is_stream =
        |text: &str| text.starts_with("data:") || text.starts_with("event:") || text.starts_with(':');
    let mut found: Vec<_> = exchanges(root)
        .into_iter()
        .filter(|exchange| is_stream(&exchange.answer))
        .map(|exchange| (exchange.name, exchange.api, exchange.dialect, exchange.answer))
        .collect();
    for path in files(&root.join("vercel-ai"), ".chunks.txt") {
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let has = |part: &str| name.contains(part);
        // Made by hand, and its last event lacks its last brace.
        if has("parallel-tool-call-wrapper") {
            continue;
        }
        let (api, dialect) = match () {
            () if has("packages/anthropic/") => (Api::Messages, Dialect::Anthropic),
            () if has("azure-deepseek") => (Api::ChatCompletions, Dialect::OpenAi),
            () if has("/responses/") || has("packages/azure/") => (Api::Responses, Dialect::OpenAi),
            () if has("openai/src/chat/") || has("openai-compatible/") => {
                (Api::ChatCompletions, Dialect::OpenAi)
            }
            () if has("openai/src/completion/") => (Api::Completions, Dialect::OpenAi),
            () if ["groq", "deepseek", "mistral", "xai", "alibaba", "moonshotai", "perplexity"]
                .iter()
                .any(|it| has(&format!("packages/{it}/"))) =>
            {
                (Api::ChatCompletions, Dialect::OpenAi)
            }
            () => continue,
        };
        let mut text = String::new();
        for line in fs::read_to_string(&path).unwrap().lines().filter(|line| !line.trim().is_empty()) {
            text += &format!("data: {line}\n\n");
            // One recording holds the streams of several calls, one after the other.
            if line.contains(r#""type":"message_stop""#) {
                break;
            }
        }
        found.push((name, api, dialect, text));
    }
    for (folder, api, dialect) in [
        ("anthropic", Api::Messages, Dialect::Anthropic),
        ("completions", Api::ChatCompletions, Dialect::OpenAi),
        ("responses", Api::Responses, Dialect::OpenAi),
    ] {
        for path in files(&root.join("agentgateway/crates/llm/src/tests/response").join(folder), ".json") {
            let text = fs::read_to_string(&path).unwrap();
            if is_stream(&text) {
                found.push((
                    format!("agentgateway {folder} {}", path.file_stem().unwrap().to_string_lossy()),
                    api,
                    dialect,
                    text,
                ));
            }
        }
    }
    found
}

/// The events of a stream that arrives in pieces of `piece` bytes.
fn events(text: &str, piece: usize) -> Vec<Vec<u8>> {
    let mut splitter = Splitter::new();
    let mut pending = Vec::new();
    let mut found = Vec::new();
    for bytes in text.as_bytes().chunks(piece) {
        let mut from = 0;
        for end in splitter.feed(bytes) {
            pending.extend_from_slice(&bytes[from..end]);
            found.push(std::mem::take(&mut pending));
            from = end;
        }
        pending.extend_from_slice(&bytes[from..]);
    }
    if !pending.is_empty() {
        found.push(pending);
    }
    found
}

/// The data of all events, read by a full parser.
fn data_of(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .filter_map(|data| serde_json::from_str(data.trim()).ok())
        .collect()
}

/// The last usage object that a stream gave, wherever it stood, as prompt and output counts.
fn recorded_usage(api: Api, dialect: Dialect, text: &str) -> Option<(u64, u64)> {
    let mut found = None;
    let count =
        |usage: &Value, names: &[&str]| names.iter().filter_map(|name| usage[*name].as_u64()).sum::<u64>();
    let mut merged = serde_json::Map::new();
    for data in data_of(text) {
        match (api, dialect) {
            (_, Dialect::Anthropic) => {
                for usage in [&data["message"]["usage"], &data["usage"]] {
                    for (name, value) in
                        usage.as_object().into_iter().flatten().filter(|(_, value)| value.is_u64())
                    {
                        merged.insert(name.clone(), value.clone());
                    }
                }
                let usage = Value::Object(merged.clone());
                let prompt = count(
                    &usage,
                    &["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"],
                );
                if !merged.is_empty() {
                    found = Some((prompt, count(&usage, &["output_tokens"])));
                }
            }
            (Api::Responses, _) => {
                let usage = &data["response"]["usage"];
                if usage.is_object() {
                    found = Some((count(usage, &["input_tokens"]), count(usage, &["output_tokens"])));
                }
            }
            _ => {
                for usage in [&data["x_groq"]["usage"], &data["usage"]] {
                    if usage.is_object() {
                        found =
                            Some((count(usage, &["prompt_tokens"]), count(usage, &["completion_tokens"])));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn every_recorded_stream_is_metered_and_seen_to_end() {
    let Some(root) = corpus() else { return };
    let streams = streams(&root);
    let (mut with_usage, mut failed) = (0, 0);
    for (name, api, dialect, text) in &streams {
        let mut watch = StreamWatch::new(*api, *dialect);
        let kinds: Vec<_> = events(text, text.len()).iter().map(|event| watch.event(event)).collect();
        assert!(watch.ended() != watch.failed(), "{name}: ended {} failed {}", watch.ended(), watch.failed());
        failed += usize::from(watch.failed());
        let first = kinds.iter().position(|kind| !matches!(kind, EventKind::Preamble | EventKind::Other));
        assert!(first.is_some(), "{name}: nothing but preamble");

        let usage = watch.usage().map(|usage| (usage.prompt(), usage.output));
        let recorded = recorded_usage(*api, *dialect, text);
        with_usage += usize::from(recorded.is_some());
        // xAI counts reasoning beside the output; everywhere else the counts are the recorded ones.
        let beside = watch.usage().map(|usage| (usage.prompt(), usage.output - usage.reasoning));
        assert!(
            usage == recorded || (name.contains("xai") && beside == recorded),
            "{name}: {usage:?} for {recorded:?}"
        );

        for piece in [1, 7, 1000] {
            let mut again = StreamWatch::new(*api, *dialect);
            let seen: Vec<_> = events(text, piece)
                .iter()
                .map(|event| again.event(event))
                .filter(|kind| *kind != EventKind::Preamble)
                .collect();
            let whole: Vec<_> = kinds.iter().copied().filter(|kind| *kind != EventKind::Preamble).collect();
            assert_eq!(seen, whole, "{name} in pieces of {piece}");
            assert_eq!(again.usage(), watch.usage(), "{name} in pieces of {piece}");
        }
    }
    println!("{} streams, {with_usage} with usage, {failed} that failed inside their 200", streams.len());
    assert!(streams.len() >= 100);
}

#[test]
fn every_recorded_answer_is_whole_and_metered() {
    let Some(root) = corpus() else { return };
    let (mut seen, mut errors) = (0, 0);
    for exchange in exchanges(&root) {
        let Ok(value) = serde_json::from_str::<Value>(&exchange.answer) else { continue };
        if exchange.status >= 400 {
            let error = read_error(exchange.status, &RetryHints::default(), exchange.answer.as_bytes());
            let message = value["error"]["message"].as_str().unwrap();
            assert_eq!(error.message, message, "{}", exchange.name);
            assert!(
                matches!(
                    error.kind,
                    ErrorKind::InvalidRequest
                        | ErrorKind::NotFound
                        | ErrorKind::ModelNotFound
                        | ErrorKind::ContextLength
                ),
                "{}: {:?}",
                exchange.name,
                error.kind
            );
            errors += 1;
            continue;
        }
        let answer = inspect_answer(exchange.api, exchange.dialect, exchange.answer.as_bytes());
        assert!(answer.complete && !answer.error, "{}: {answer:?}", exchange.name);
        let usage = &value["usage"];
        let total: Option<u64> = match exchange.dialect {
            Dialect::Anthropic => usage["output_tokens"].as_u64().map(|output| {
                output
                    + ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]
                        .iter()
                        .filter_map(|it| usage[*it].as_u64())
                        .sum::<u64>()
            }),
            _ => usage["total_tokens"].as_u64(),
        };
        if let Some(total) = total {
            assert_eq!(answer.usage.map(|usage| usage.total()), Some(total), "{}", exchange.name);
        }
        seen += 1;
    }
    println!("{seen} answers, {errors} errors");
    assert!(seen >= 200 && errors >= 3);
}

/// What a Chat client makes of a translated stream.
#[derive(Debug, Default)]
struct Heard {
    text: String,
    reasoning: String,
    calls: Vec<(String, String, String)>,
    finishes: Vec<String>,
    usage: Option<(u64, u64)>,
    done: usize,
}

fn hear(stream: &str) -> Heard {
    let mut heard = Heard::default();
    for event in stream.split_terminator("\n\n") {
        if event.starts_with(':') {
            continue;
        }
        assert_eq!(heard.done, 0, "nothing follows the end mark");
        let data = event.strip_prefix("data: ").unwrap();
        if data == "[DONE]" {
            heard.done += 1;
            continue;
        }
        let chunk: Value = serde_json::from_str(data).unwrap();
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert!(chunk["id"].is_string() && chunk["created"].is_u64() && chunk["model"].is_string());
        if chunk["usage"].is_object() {
            heard.usage = Some((
                chunk["usage"]["prompt_tokens"].as_u64().unwrap(),
                chunk["usage"]["completion_tokens"].as_u64().unwrap(),
            ));
        }
        let Some(choice) = chunk["choices"].as_array().unwrap().first() else { continue };
        assert!(heard.finishes.is_empty(), "no delta follows the finish");
        let delta = &choice["delta"];
        heard.text += delta["content"].as_str().unwrap_or("");
        heard.reasoning += delta["reasoning_content"].as_str().unwrap_or("");
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            if index == heard.calls.len() {
                let name = call["function"]["name"].as_str().unwrap().to_owned();
                heard.calls.push((call["id"].as_str().unwrap().to_owned(), name, String::new()));
            }
            heard.calls[index].2 += call["function"]["arguments"].as_str().unwrap_or("");
        }
        heard.finishes.extend(choice["finish_reason"].as_str().map(str::to_owned));
    }
    heard
}

fn translate_stream(text: &str, piece: usize) -> (String, Result<(), String>, Option<Usage>) {
    let mut translator = StreamTranslator::new(Back { include_usage: true, ..Back::default() }, 1);
    let mut out = Vec::new();
    let mut result = Ok(());
    for event in events(text, piece) {
        if let Err(broken) = translator.event(&event, &mut out) {
            result = Err(format!("{broken:?}"));
            break;
        }
    }
    if result.is_ok() {
        result = translator.finish(&mut out).map_err(|broken| format!("{broken:?}"));
    }
    (String::from_utf8(out).unwrap(), result, translator.usage())
}

#[test]
fn recorded_anthropic_streams_become_good_chat_streams() {
    let Some(root) = corpus() else { return };
    let mut seen = 0;
    for (name, _, _, text) in streams(&root).into_iter().filter(|(_, api, ..)| *api == Api::Messages) {
        let (stream, result, usage) = translate_stream(&text, text.len());
        if name.contains("spliced-message-start") {
            assert_eq!(result, Err("Spliced".to_owned()), "{name}");
            assert!(!stream.contains("[DONE]") && !stream.contains("\"finish_reason\":\""));
            continue;
        }
        result.unwrap_or_else(|broken| panic!("{name}: {broken}"));
        let heard = hear(&stream);
        let (mut expected_text, mut expected_reasoning, mut calls) =
            (String::new(), String::new(), Vec::new());
        for event in data_of(&text) {
            let block = &event["content_block"];
            if block["type"] == "tool_use" {
                calls.push((
                    block["id"].as_str().unwrap().to_owned(),
                    block["name"].as_str().unwrap().to_owned(),
                ));
            }
            if block["type"] == "text" {
                expected_text += block["text"].as_str().unwrap_or("");
            }
            expected_text += event["delta"]["text"].as_str().unwrap_or("");
            expected_reasoning += event["delta"]["thinking"].as_str().unwrap_or("");
        }
        assert_eq!(heard.text, expected_text, "{name}");
        assert_eq!(heard.reasoning, expected_reasoning, "{name}");
        let named: Vec<_> = heard.calls.iter().map(|(id, name, _)| (id.clone(), name.clone())).collect();
        assert_eq!(named, calls, "{name}");
        for (_, _, arguments) in &heard.calls {
            assert!(
                serde_json::from_str::<Value>(arguments).is_ok_and(|value| value.is_object()),
                "{name}: {arguments}"
            );
        }
        assert_eq!((heard.finishes.len(), heard.done), (1, 1), "{name}");
        assert_eq!(
            heard.finishes[0] == "tool_calls",
            !calls.is_empty() && text.contains("\"stop_reason\":\"tool_use\""),
            "{name}"
        );
        assert_eq!(heard.usage, usage.map(|usage| (usage.prompt(), usage.output)), "{name}");
        assert_eq!(heard.usage, recorded_usage(Api::Messages, Dialect::Anthropic, &text), "{name}");

        let mut watch = StreamWatch::new(Api::ChatCompletions, Dialect::OpenAi);
        for event in events(&stream, stream.len()) {
            watch.event(&event);
        }
        assert!(watch.ended() && !watch.failed(), "{name}");
        for piece in [1, 13] {
            assert_eq!(translate_stream(&text, piece).0, stream, "{name} in pieces of {piece}");
        }
        seen += 1;
    }
    println!("{seen} streams");
    assert!(seen >= 30);
}

#[test]
fn a_recorded_stream_that_is_cut_never_ends_well() {
    let Some(root) = corpus() else { return };
    for (name, _, _, text) in streams(&root).into_iter().filter(|(_, api, ..)| *api == Api::Messages).take(20)
    {
        let Some(end) = text.find("\"message_delta\"") else { continue };
        let start = text[..end].rfind("\n\n").unwrap_or(0);
        for cut in (0..start).step_by(1 + start / 50) {
            let Some(part) = text.get(..cut) else { continue };
            // What is left over after the last blank line is not an event.
            let whole = part.rfind("\n\n").map_or("", |end| &part[..end + 2]);
            let (stream, result, _) = translate_stream(whole, 4096);
            assert!(result.is_err(), "{name} cut at {cut}");
            assert!(
                !stream.contains("[DONE]") && !stream.contains("\"finish_reason\":\""),
                "{name} cut at {cut}"
            );
        }
    }
}

#[test]
fn recorded_anthropic_answers_become_good_completions() {
    let Some(root) = corpus() else { return };
    let mut answers: Vec<(String, Value)> = exchanges(&root)
        .into_iter()
        .filter(|exchange| exchange.api == Api::Messages)
        .filter_map(|exchange| Some((exchange.name, serde_json::from_str(&exchange.answer).ok()?)))
        .collect();
    for path in files(&root.join("vercel-ai/packages/anthropic/src/__fixtures__"), ".json") {
        answers.push((path.to_string_lossy().into_owned(), json(&path)));
    }
    answers.retain(|(_, value)| value["type"] == "message");
    for (name, message) in &answers {
        let mut out = Vec::new();
        let usage = translate_answer(message.to_string().as_bytes(), &Back::default(), 1, &mut out).unwrap();
        let completion: Value = serde_json::from_slice(&out).unwrap();
        let got = &completion["choices"][0]["message"];
        let blocks = message["content"].as_array().unwrap();
        let of = |kind: &str| blocks.iter().filter(|block| block["type"] == kind).collect::<Vec<_>>();
        let text: String = of("text").iter().map(|block| block["text"].as_str().unwrap()).collect();
        assert_eq!(got["content"].as_str().unwrap_or(""), text, "{name}");
        let calls = got["tool_calls"].as_array().cloned().unwrap_or_default();
        assert_eq!(calls.len(), of("tool_use").len(), "{name}");
        for (call, block) in calls.iter().zip(of("tool_use")) {
            let arguments: Value =
                serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
            assert_eq!(
                (&call["id"], &call["function"]["name"], &arguments),
                (&block["id"], &block["name"], &block["input"]),
                "{name}"
            );
        }
        assert_eq!(completion["usage"]["total_tokens"].as_u64(), Some(usage.total()), "{name}");
        let seen = inspect_answer(Api::ChatCompletions, Dialect::OpenAi, &out);
        assert!(seen.complete && !seen.error, "{name}");
        assert_eq!(seen.usage.map(|usage| usage.total()), Some(usage.total()), "{name}");
    }
    println!("{} answers", answers.len());
    assert!(answers.len() >= 100);
}

/// The rules that the Messages API enforces on a conversation.
fn check_conversation(name: &str, request: &Value) {
    let messages = request["messages"].as_array().unwrap();
    assert_eq!(messages[0]["role"], "user", "{name}");
    let mut open: Vec<String> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        assert_eq!(message["role"], if at % 2 == 0 { "user" } else { "assistant" }, "{name}");
        let blocks = message["content"].as_array().unwrap();
        assert!(!blocks.is_empty(), "{name}");
        let results: Vec<_> = blocks
            .iter()
            .take_while(|block| block["type"] == "tool_result")
            .map(|block| block["tool_use_id"].as_str().unwrap().to_owned())
            .collect();
        let mut sorted = (results.clone(), open.clone());
        sorted.0.sort();
        sorted.1.sort();
        assert_eq!(sorted.0, sorted.1, "{name}: every call has its result");
        assert!(
            blocks[results.len()..].iter().all(|block| block["type"] != "tool_result"),
            "{name}: results stand first"
        );
        for block in blocks.iter().filter(|block| block["type"] == "text") {
            assert!(!block["text"].as_str().unwrap().trim().is_empty(), "{name}: blank text");
        }
        open = blocks
            .iter()
            .filter(|block| block["type"] == "tool_use")
            .map(|block| block["id"].as_str().unwrap().to_owned())
            .collect();
    }
    assert!(open.is_empty(), "{name}");
}

#[test]
fn recorded_chat_requests_can_fall_back_to_claude() {
    let Some(root) = corpus() else { return };
    let (mut translated, mut refused) = (0, Vec::new());
    for exchange in exchanges(&root).into_iter().filter(|exchange| {
        exchange.api == Api::ChatCompletions && exchange.request.is_object() && exchange.status == 200
    }) {
        for model in ["claude-haiku-4-5", "claude-opus-5-5", "claude-3-haiku-20240307"] {
            let mut out = Vec::new();
            let options = TranslateOptions { model, default_max_tokens: None };
            match translate_request(exchange.request.to_string().as_bytes(), &options, &mut out) {
                Ok(_) => {
                    let request: Value = serde_json::from_slice(&out).unwrap();
                    check_conversation(&exchange.name, &request);
                    translated += 1;
                }
                Err(error) => {
                    assert_eq!(error.fault, TranslateFault::Target, "{}: {error}", exchange.name);
                    refused.push(format!("{}: {error}", exchange.name));
                }
            }
        }
    }
    refused.sort();
    refused.dedup();
    println!("{translated} translated; refused: {refused:#?}");
    assert!(translated >= 300);
}

/// The JSON that follows the head of a golden file.
fn golden(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    let body = text.rsplit_once("\n---\n").map_or(text.as_str(), |(_, body)| body);
    serde_json::Deserializer::from_str(body).into_iter::<Value>().next().unwrap().unwrap()
}

/// The same conversation in one spelling: turns of one side joined, strings as blocks.
fn spelled_alike(messages: &Value) -> Vec<(String, Vec<Value>)> {
    let mut turns: Vec<(String, Vec<Value>)> = Vec::new();
    for message in messages.as_array().unwrap() {
        let role = message["role"].as_str().unwrap().to_owned();
        let blocks = message["content"].as_array().unwrap().clone();
        match turns.last_mut() {
            Some(last) if last.0 == role => last.1.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    turns
}

/// Deliberate differences to the other gateway's requests: it repeats a role where we join turns; it drops `n`,
/// `response_format` and penalties in silence, where we refuse or say so; it sends its own thinking budgets, and those
/// also to models that take adaptive thinking only.
#[test]
fn golden_requests_agree_but_for_what_we_mean_to_do_differently() {
    let Some(root) = corpus() else { return };
    let folder = root.join("agentgateway/crates/llm/src/tests/requests/completions");
    let mut seen = 0;
    for path in files(&folder, ".anthropic.snap") {
        let name = path.file_name().unwrap().to_string_lossy().replace(".anthropic.snap", "");
        let mut request = json(&folder.join(format!("{name}.json")));
        // Refused by us, since one answer instead of three is not what was asked for.
        request.as_object_mut().unwrap().remove("n");
        let expected = golden(&path)["request"].clone();
        let mut out = Vec::new();
        let model = expected["model"].as_str().unwrap();
        let options = TranslateOptions { model, default_max_tokens: None };
        translate_request(request.to_string().as_bytes(), &options, &mut out).unwrap();
        let ours: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(spelled_alike(&ours["messages"]), spelled_alike(&expected["messages"]), "{name}");
        for member in ["stop_sequences", "temperature", "top_p", "metadata"] {
            if !expected[member].is_null() {
                let mut expected = expected[member].clone();
                // Blank stop sequences are refused by the API.
                expected.as_array_mut().into_iter().for_each(|list| list.retain(|it| it != "\n\n"));
                assert_eq!(ours[member], expected, "{name} {member}");
            }
        }
        let first_tool = &expected["tools"][0];
        if first_tool.is_object() {
            assert_eq!(&ours["tools"][0]["name"], &first_tool["name"], "{name}");
            assert_eq!(&ours["tools"][0]["input_schema"], &first_tool["input_schema"], "{name}");
        }
        if let Some(system) = expected["system"].as_str() {
            assert!(ours["system"].to_string().contains(&Value::from(system).to_string()), "{name}");
        }
        seen += 1;
    }
    println!("{seen} golden requests");
    assert!(seen >= 5);
}

/// Deliberate difference to the other gateway's answers: its `prompt_tokens` leave out cached tokens, against OpenAI's
/// own meaning; ours include them.
#[test]
fn golden_answers_agree_but_for_cached_tokens() {
    let Some(root) = corpus() else { return };
    let folder = root.join("agentgateway/crates/llm/src/tests/response/anthropic");
    let mut seen = 0;
    for path in files(&folder, ".messages-completions.snap") {
        let name = path.file_name().unwrap().to_string_lossy().replace(".messages-completions.snap", "");
        let expected = golden(&path)["response"].clone();
        let mut out = Vec::new();
        let usage = translate_answer(
            &fs::read(folder.join(format!("{name}.json"))).unwrap(),
            &Back::default(),
            1,
            &mut out,
        )
        .unwrap();
        let ours: Value = serde_json::from_slice(&out).unwrap();
        let (got, want) = (&ours["choices"][0], &expected["choices"][0]);
        assert_eq!(got["finish_reason"], want["finish_reason"], "{name}");
        for member in ["content", "reasoning_content"] {
            assert_eq!(
                got["message"][member].as_str().unwrap_or(""),
                want["message"][member].as_str().unwrap_or(""),
                "{name} {member}"
            );
        }
        let arguments = |choice: &Value| {
            choice["message"]["tool_calls"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|call| {
                    let arguments: Value =
                        serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
                    (call["id"].clone(), call["function"]["name"].clone(), arguments)
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(arguments(got), arguments(want), "{name}");
        assert_eq!(Some(usage.input), expected["usage"]["prompt_tokens"].as_u64(), "{name}");
        assert_eq!(ours["usage"]["completion_tokens"], expected["usage"]["completion_tokens"], "{name}");
        seen += 1;
    }
    for path in files(&folder, ".messages-completions-streaming.snap") {
        let name =
            path.file_name().unwrap().to_string_lossy().replace(".messages-completions-streaming.snap", "");
        let text = fs::read_to_string(&path).unwrap();
        let expected: Vec<Value> =
            data_of(&text).into_iter().filter(|data| data.get("choices").is_some()).collect();
        let source = fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let heard = hear(&translate_stream(&source, 64).0);
        let all = |member: &str| {
            expected
                .iter()
                .filter_map(|chunk| chunk["choices"][0]["delta"][member].as_str())
                .collect::<String>()
        };
        assert_eq!(
            (heard.text.as_str(), heard.reasoning.as_str()),
            (all("content").as_str(), all("reasoning_content").as_str()),
            "{name}"
        );
        let finish = expected.iter().find_map(|chunk| chunk["choices"][0]["finish_reason"].as_str());
        assert_eq!(heard.finishes.first().map(String::as_str), finish, "{name}");
        seen += 1;
    }
    println!("{seen} golden answers");
    assert!(seen >= 8);
}

/// What a Messages client makes of a stream: texts, calls and their inputs, the reason to stop, the usage.
fn hear_events(stream: &str) -> Heard {
    let mut heard = Heard::default();
    let mut open = None;
    for data in data_of(stream) {
        match data["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!(open, None, "one block at a time");
                open = data["index"].as_u64();
                let block = &data["content_block"];
                if block["type"] == "tool_use" {
                    heard.calls.push((
                        block["id"].as_str().unwrap().to_owned(),
                        block["name"].as_str().unwrap().to_owned(),
                        String::new(),
                    ));
                }
            }
            "content_block_delta" => {
                assert_eq!(data["index"].as_u64(), open);
                heard.text += data["delta"]["text"].as_str().unwrap_or("");
                if let Some(fragment) = data["delta"]["partial_json"].as_str() {
                    heard.calls.last_mut().unwrap().2 += fragment;
                }
            }
            "content_block_stop" => assert_eq!(data["index"].as_u64(), open.take()),
            "message_delta" => heard.finishes.push(data["delta"]["stop_reason"].as_str().unwrap().to_owned()),
            "message_stop" => heard.done += 1,
            _ => {}
        }
    }
    assert_eq!(open, None);
    heard
}

fn stream_to_anthropic(text: &str, piece: usize) -> (String, Result<(), String>, Option<Usage>, bool) {
    let mut translator = anthropic_to_openai::StreamTranslator::new();
    let mut out = Vec::new();
    let mut failed = false;
    for event in events(text, piece) {
        match translator.event(&event, &mut out) {
            Ok(kind) => failed |= kind == EventKind::Error,
            Err(broken) => {
                return (String::from_utf8(out).unwrap(), Err(format!("{broken:?}")), None, failed);
            }
        }
    }
    let result = translator.finish(&mut out).map_err(|broken| format!("{broken:?}"));
    (String::from_utf8(out).unwrap(), result, translator.usage(), failed)
}

#[test]
fn recorded_chat_streams_become_good_anthropic_streams() {
    let Some(root) = corpus() else { return };
    let mut seen = 0;
    for (name, _, _, text) in streams(&root).into_iter().filter(|(_, api, ..)| *api == Api::ChatCompletions) {
        let (stream, result, usage, failed) = stream_to_anthropic(&text, text.len());
        if failed {
            assert!(!stream.contains("message_stop"), "{name}");
            continue;
        }
        result.unwrap_or_else(|broken| panic!("{name}: {broken}"));
        let heard = hear_events(&stream);
        let (mut expected_text, mut expected_calls) = (String::new(), Vec::<(String, String)>::new());
        for chunk in data_of(&text) {
            let choice = &chunk["choices"][0];
            expected_text += choice["delta"]["content"].as_str().unwrap_or("");
            for part in choice["delta"]["content"].as_array().into_iter().flatten() {
                expected_text += part["text"].as_str().unwrap_or("");
            }
            for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
                let id = call["id"].as_str().filter(|id| !id.is_empty());
                if let Some(id) = id.filter(|id| expected_calls.iter().all(|(known, _)| known != id)) {
                    expected_calls
                        .push((id.to_owned(), call["function"]["name"].as_str().unwrap().to_owned()));
                }
            }
        }
        assert_eq!(heard.text, expected_text, "{name}");
        let named: Vec<_> = heard.calls.iter().map(|(id, name, _)| (id.clone(), name.clone())).collect();
        assert_eq!(named, expected_calls, "{name}");
        for (_, _, input) in &heard.calls {
            assert!(input.is_empty() || serde_json::from_str::<Value>(input).is_ok(), "{name}: {input}");
        }
        assert_eq!((heard.finishes.len(), heard.done), (1, 1), "{name}");
        let mut watch = StreamWatch::new(Api::Messages, Dialect::Anthropic);
        for event in events(&stream, stream.len()) {
            watch.event(&event);
        }
        assert!(watch.ended(), "{name}");
        assert_eq!(
            watch.usage().map(|usage| usage.total()),
            usage.map(|usage| usage.total()).or(Some(0)),
            "{name}"
        );
        assert_eq!(stream_to_anthropic(&text, 5).0, stream, "{name} in pieces");

        // There and back again, a client hears the same.
        let (back, result, _) = translate_stream(&stream, 100);
        result.unwrap();
        let again = hear(&back);
        assert_eq!((&again.text, again.calls.len()), (&heard.text, heard.calls.len()), "{name}");
        seen += 1;
    }
    println!("{seen} streams");
    assert!(seen >= 30);
}

#[test]
fn recorded_messages_requests_can_fall_back_to_openai_and_return() {
    let Some(root) = corpus() else { return };
    let (mut translated, mut refused) = (0, Vec::new());
    for exchange in exchanges(&root).into_iter().filter(|exchange| {
        exchange.api == Api::Messages && exchange.request.is_object() && exchange.status == 200
    }) {
        let mut out = Vec::new();
        let options = anthropic_to_openai::TranslateOptions { model: "gpt-4o-mini" };
        if let Err(error) = anthropic_to_openai::translate_request(
            exchange.request.to_string().as_bytes(),
            &options,
            &mut out,
        ) {
            assert_eq!(error.fault, TranslateFault::Target, "{}: {error}", exchange.name);
            refused.push(error.to_string());
            continue;
        }
        let request: Value = serde_json::from_slice(&out).unwrap();
        assert!(!request["messages"].as_array().unwrap().is_empty(), "{}", exchange.name);
        translated += 1;
        let mut back = Vec::new();
        let options = TranslateOptions { model: "claude-haiku-4-5", default_max_tokens: None };
        match translate_request(&out, &options, &mut back) {
            Ok(_) => check_conversation(&exchange.name, &serde_json::from_slice(&back).unwrap()),
            // Recordings of tools that ran at Anthropic leave calls without results behind.
            Err(error) => assert!(
                exchange.request.to_string().contains("server_tool_use"),
                "{}: {error}",
                exchange.name
            ),
        }
    }
    refused.sort();
    refused.dedup();
    println!("{translated} translated; refused: {refused:#?}");
    assert!(translated >= 50);
}

/// Deliberate differences to the other gateway: system and lone texts go as plain strings, images in tool results are
/// shown instead of lost, server tools are refused instead of dropped, and adaptive thinking sets no effort of its own.
#[test]
fn golden_messages_requests_agree_on_the_conversation() {
    let Some(root) = corpus() else { return };
    let folder = root.join("agentgateway/crates/llm/src/tests/requests/messages");
    let words = |content: &Value| match content {
        Value::Array(parts) => {
            parts.iter().map(|part| part["text"].as_str().unwrap_or("")).collect::<Vec<_>>().concat()
        }
        other => other.as_str().unwrap_or("").to_owned(),
    };
    let mut seen = 0;
    for path in files(&folder, ".completions.snap") {
        let name = path.file_name().unwrap().to_string_lossy().replace(".completions.snap", "");
        let expected = golden(&path)["request"].clone();
        let mut out = Vec::new();
        let options = anthropic_to_openai::TranslateOptions { model: expected["model"].as_str().unwrap() };
        let source = fs::read(folder.join(format!("{name}.json"))).unwrap();
        if let Err(error) = anthropic_to_openai::translate_request(&source, &options, &mut out) {
            assert_eq!((error.fault, name.as_str()), (TranslateFault::Target, "server_tools"));
            continue;
        }
        let ours: Value = serde_json::from_slice(&out).unwrap();
        // Texts joined with and without space between them; users who only show what was in a tool result.
        let lines = |request: &Value| {
            let lines = request["messages"].as_array().unwrap().iter();
            let lines =
                lines.map(|message| (message["role"].clone(), words(&message["content"]).replace('\n', "")));
            lines.filter(|(role, text)| role != "user" || !text.is_empty()).collect::<Vec<_>>()
        };
        assert_eq!(lines(&ours), lines(&expected), "{name}");
        for member in ["tools", "temperature", "top_p", "tool_choice"] {
            assert_eq!(ours[member], expected[member], "{name} {member}");
        }
        assert_eq!(
            ours["response_format"]["json_schema"]["schema"],
            expected["response_format"]["json_schema"]["schema"],
            "{name}"
        );
        seen += 1;
    }
    println!("{seen} golden requests");
    assert!(seen >= 6);
}

/// Deliberate difference to the other gateway: a call that the limit cut is left out instead of given a string for its
/// input.
#[test]
fn golden_completions_agree_but_for_cut_calls() {
    let Some(root) = corpus() else { return };
    let folder = root.join("agentgateway/crates/llm/src/tests/response/completions");
    let mut seen = 0;
    for path in files(&folder, ".completions-messages.snap") {
        let name = path.file_name().unwrap().to_string_lossy().replace(".completions-messages.snap", "");
        if name == "audio" {
            continue;
        }
        let expected = golden(&path)["response"].clone();
        let mut out = Vec::new();
        let usage = anthropic_to_openai::translate_answer(
            &fs::read(folder.join(format!("{name}.json"))).unwrap(),
            &mut out,
        )
        .unwrap();
        let ours: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(ours["stop_reason"], expected["stop_reason"], "{name}");
        let shown = |message: &Value| {
            message["content"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|block| block["type"] == "text" || block["input"].is_object())
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(&ours), shown(&expected), "{name}");
        if name != "gemini_zero_completion_tokens" {
            assert_eq!(Some(usage.input), expected["usage"]["input_tokens"].as_u64(), "{name}");
        }
        seen += 1;
    }
    println!("{seen} golden answers");
    assert!(seen >= 5);
}
