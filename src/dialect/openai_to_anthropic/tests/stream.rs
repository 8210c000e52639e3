//! Streams on their way back, whole, cut and broken.

use super::*;
use crate::dialect::watch::{EventKind, Finish};

/// Feeds events given as their data; gives kinds, chunks, and the translator.
fn stream(back: Back, events: &[Value]) -> (Vec<EventKind>, Vec<Value>, String, StreamTranslator) {
    let mut translator = StreamTranslator::new(back, 17);
    let (mut out, mut kinds) = (Vec::new(), Vec::new());
    for event in events {
        let text = format!("event: {}\ndata: {event}  \n\n", event["type"].as_str().unwrap());
        kinds.push(translator.event(text.as_bytes(), &mut out).unwrap());
    }
    let text = String::from_utf8(out).unwrap();
    let chunks = text
        .split_terminator("\n\n")
        .filter_map(|event| event.strip_prefix("data: ").filter(|data| *data != "[DONE]"))
        .map(|data| serde_json::from_str(data).expect(data))
        .collect();
    (kinds, chunks, text, translator)
}

fn message_start() -> Value {
    json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "model": "claude-x", "content": [],
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 4, "output_tokens": 1}}})
}

fn block_start(index: u32, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn block_delta(index: u32, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn block_stop(index: u32) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn message_end(reason: &str) -> [Value; 2] {
    [
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"input_tokens": 9, "output_tokens": 6}}),
        json!({"type": "message_stop"}),
    ]
}

fn call(index: u32, name: &str) -> Value {
    block_start(index, json!({"type": "tool_use", "id": format!("toolu_{index}"), "name": name, "input": {}}))
}

fn input(index: u32, fragment: &str) -> Value {
    block_delta(index, json!({"type": "input_json_delta", "partial_json": fragment}))
}

fn deltas(chunks: &[Value]) -> Vec<Value> {
    chunks
        .iter()
        .filter(|chunk| chunk["choices"] != json!([]))
        .map(|chunk| chunk["choices"][0]["delta"].clone())
        .collect()
}

#[test]
fn a_stream_of_text_comes_back_as_chunks() {
    let mut events = vec![
        message_start(),
        json!({"type": "ping"}),
        block_start(0, json!({"type": "text", "text": ""})),
        block_delta(0, json!({"type": "text_delta", "text": "Hi \""})),
        block_delta(0, json!({"type": "text_delta", "text": "\u{1F980}\n"})),
        block_stop(0),
    ];
    events.extend(message_end("end_turn"));
    let (kinds, chunks, text, translator) = stream(Back { include_usage: true, ..Back::default() }, &events);
    assert_eq!(
        kinds,
        [
            EventKind::Preamble,
            EventKind::Preamble,
            EventKind::Preamble,
            EventKind::Content,
            EventKind::Content,
            EventKind::Other,
            EventKind::Other,
            EventKind::Terminal
        ]
    );
    assert_eq!(
        deltas(&chunks),
        [
            json!({"role": "assistant", "content": "", "refusal": null}),
            json!({"content": "Hi \""}),
            json!({"content": "\u{1F980}\n"}),
            json!({})
        ]
    );
    assert_eq!(chunks[3]["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        chunks[0],
        json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": "claude-x",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "refusal": null}, "logprobs": null, "finish_reason": null}], "usage": null})
    );
    assert_eq!(chunks[4]["choices"], json!([]));
    assert_eq!(
        (&chunks[4]["usage"]["prompt_tokens"], &chunks[4]["usage"]["completion_tokens"], &chunks[4]["id"]),
        (&json!(13), &json!(6), &json!("chatcmpl-1"))
    );
    assert!(text.contains(": ping\n\n") && text.ends_with("data: [DONE]\n\n"));
    assert!(translator.ended() && !translator.tool_calls());
    assert_eq!((translator.finish_reason(), translator.usage().unwrap().total()), (Some(Finish::Stop), 19));
}

#[test]
fn usage_is_metered_but_not_shown_unless_asked_for() {
    let mut events = vec![message_start(), block_delta(0, json!({"type": "text_delta", "text": "x"}))];
    events.extend(message_end("max_tokens"));
    let (_, chunks, text, translator) = stream(Back::default(), &events);
    assert!(!text.contains("usage"));
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
    assert_eq!(translator.usage().unwrap().output, 6);
}

#[test]
fn tool_calls_are_numbered_among_themselves() {
    let mut events = vec![
        message_start(),
        block_start(0, json!({"type": "text", "text": "Sure"})),
        block_stop(0),
        block_start(1, json!({"type": "server_tool_use", "id": "s", "name": "web", "input": {}})),
        input(1, "{\"q\":1}"),
        block_stop(1),
        call(2, "f"),
        input(2, ""),
        input(2, "{\"a\":"),
        input(2, "\"b\\\"\"}"),
        block_stop(2),
        call(3, "g"),
        input(3, ""),
        block_stop(3),
        call(4, "h"),
    ];
    events.extend(message_end("tool_use"));
    let (kinds, chunks, _, translator) = stream(Back::default(), &events);
    assert_eq!(
        (kinds[1], kinds[4], kinds[6], kinds[7]),
        (EventKind::Content, EventKind::Other, EventKind::Content, EventKind::Other)
    );
    let mut arguments = [const { String::new() }; 3];
    let mut names = Vec::new();
    for delta in deltas(&chunks) {
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            arguments[index].push_str(call["function"]["arguments"].as_str().unwrap());
            names.extend(call["function"].get("name").map(|name| (index, call["id"].clone(), name.clone())));
        }
    }
    assert_eq!(arguments, ["{\"a\":\"b\\\"\"}", "{}", "{}"]);
    assert_eq!(
        names,
        [
            (0, json!("toolu_2"), json!("f")),
            (1, json!("toolu_3"), json!("g")),
            (2, json!("toolu_4"), json!("h"))
        ]
    );
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    assert!(translator.tool_calls());
}

#[test]
fn thinking_is_shown_and_can_be_given_back() {
    let mut events = vec![
        message_start(),
        block_start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        block_delta(0, json!({"type": "thinking_delta", "thinking": "a\n"})),
        block_delta(0, json!({"type": "thinking_delta", "thinking": "\"b\""})),
        block_delta(0, json!({"type": "signature_delta", "signature": "s=="})),
        block_stop(0),
        block_start(1, json!({"type": "redacted_thinking", "data": "d"})),
        block_stop(1),
    ];
    events.extend(message_end("end_turn"));
    let (kinds, chunks, _, _) = stream(Back::default(), &events);
    assert_eq!((kinds[1], kinds[2], kinds[4]), (EventKind::Preamble, EventKind::Content, EventKind::Other));
    let deltas = deltas(&chunks);
    assert_eq!(deltas[1..3], [json!({"reasoning_content": "a\n"}), json!({"reasoning_content": "\"b\""})]);
    assert_eq!(
        deltas[3],
        json!({"thinking_blocks": [{"type": "thinking", "thinking": "a\n\"b\"", "signature": "s=="}]})
    );
    assert_eq!(deltas[4], json!({"thinking_blocks": [{"type": "redacted_thinking", "data": "d"}]}));
}

#[test]
fn a_refusal_without_content_is_still_an_answer() {
    let (_, chunks, text, _) = stream(
        Back::default(),
        &[
            message_start(),
            json!({"type": "message_delta",
        "delta": {"stop_reason": "refusal", "stop_details": {"type": "refusal", "explanation": "No."}}, "usage": {"output_tokens": 1}}),
            json!({"type": "message_stop"}),
        ],
    );
    assert_eq!(deltas(&chunks)[1], json!({"refusal": "No."}));
    assert_eq!(chunks[2]["choices"][0]["finish_reason"], "content_filter");
    assert!(text.ends_with("data: [DONE]\n\n"));
}

#[test]
fn wrapped_streams_are_unwrapped() {
    let back = Back { json_tool: true, custom_tools: vec!["sh".into()], ..Back::default() };
    let mut events = vec![
        message_start(),
        call(0, JSON_TOOL),
        input(0, ""),
        input(0, "{\"a\":"),
        input(0, "1}"),
        block_stop(0),
    ];
    events.extend(message_end("tool_use"));
    let (_, chunks, text, translator) = stream(back.clone(), &events);
    let content: String = deltas(&chunks).iter().filter_map(|delta| delta["content"].as_str()).collect();
    assert_eq!(content, "{\"a\":1}");
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert!(!text.contains("tool_calls") && !translator.tool_calls());

    let mut events = vec![
        message_start(),
        call(0, "sh"),
        input(0, "{\"input\":\"ls "),
        input(0, "\\\"x\\\"\"}"),
        block_stop(0),
    ];
    events.extend(message_end("tool_use"));
    let (_, chunks, _, _) = stream(back, &events);
    assert_eq!(
        deltas(&chunks)[1]["tool_calls"][0],
        json!({"index": 0, "id": "toolu_0", "type": "custom", "custom": {"name": "sh", "input": ""}})
    );
    assert_eq!(deltas(&chunks)[2]["tool_calls"][0], json!({"index": 0, "custom": {"input": "ls \"x\""}}));
}

#[test]
fn a_repeated_start_is_ignored_and_a_spliced_one_is_not() {
    let other = json!({"type": "message_start", "message": {"id": "msg_2", "model": "y", "usage": {"input_tokens": 1}}});
    let text = block_delta(0, json!({"type": "text_delta", "text": "x"}));
    let mut events = vec![message_start(), message_start(), text.clone(), message_start()];
    events.extend(message_end("end_turn"));
    let (_, chunks, _, _) = stream(Back::default(), &events);
    assert_eq!(chunks.len(), 3);

    let mut translator = StreamTranslator::new(Back::default(), 0);
    let mut out = Vec::new();
    for event in [message_start(), text] {
        translator.event(format!("data: {event}\n\n").as_bytes(), &mut out).unwrap();
    }
    let before = out.clone();
    assert_eq!(
        translator.event(format!("data: {other}\n\n").as_bytes(), &mut out),
        Err(BrokenStream::Spliced)
    );
    assert_eq!(translator.finish(&mut out), Err(BrokenStream::Cut));
    assert_eq!(out, before);
}

#[test]
fn an_error_event_reaches_the_client_and_nothing_follows_it() {
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let (kinds, chunks, text, mut translator) =
        stream(Back::default(), &[message_start(), error, json!({"type": "message_stop"})]);
    assert_eq!(kinds[1..], [EventKind::Error, EventKind::Other]);
    assert_eq!(chunks[1]["error"]["code"], "overloaded_error");
    assert!(!text.contains("[DONE]"));
    assert!(translator.finish(&mut Vec::new()).is_err() && !translator.ended());
}

#[test]
fn a_cut_stream_never_ends_well() {
    let mut events = vec![
        message_start(),
        block_start(0, json!({"type": "text", "text": ""})),
        block_delta(0, json!({"type": "text_delta", "text": "Hi"})),
        block_stop(0),
        call(1, "f"),
        input(1, "{}"),
        block_stop(1),
    ];
    events.extend(message_end("tool_use"));
    let said_why = events.len() - 2;
    for cut in 0..=events.len() {
        let (_, _, text, mut translator) =
            stream(Back { include_usage: true, ..Back::default() }, &events[..cut]);
        let mut rest = Vec::new();
        let end = translator.finish(&mut rest);
        let whole = text + std::str::from_utf8(&rest).unwrap();
        assert_eq!(end.is_ok(), cut > said_why, "cut after {cut}");
        assert_eq!(whole.matches("[DONE]").count(), usize::from(cut > said_why), "cut after {cut}");
        assert_eq!(whole.matches("\"finish_reason\":\"").count(), usize::from(cut > said_why));
    }
}

#[test]
fn junk_in_a_stream_breaks_it_without_harm() {
    for junk in [
        "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"a\\q\"}}\n\n",
        "data: nonsense\n\n",
        "data: {\"a\":1\n\n",
    ] {
        let mut translator = StreamTranslator::new(Back::default(), 0);
        let mut out = Vec::new();
        assert_eq!(translator.event(junk.as_bytes(), &mut out), Err(BrokenStream::NotJson), "{junk}");
        assert!(out.is_empty());
    }
    let mut translator = StreamTranslator::new(Back::default(), 0);
    let mut out = Vec::new();
    assert_eq!(translator.event(b"data: {\"type\":\"brand_new\"}\n\n", &mut out), Ok(EventKind::Other));
    assert!(out.is_empty());
}
