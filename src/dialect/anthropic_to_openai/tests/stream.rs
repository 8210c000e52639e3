//! Streams on their way back, whole, cut and broken.

use super::*;
use crate::dialect::watch::{EventKind, Finish};

fn chunk(delta: &Value, finish: &Value) -> String {
    json!({"id": "chatcmpl-1", "model": "gpt-x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).to_string()
}

fn fragment(index: u32, id: Option<&str>, name: Option<&str>, arguments: &str) -> String {
    let mut call = json!({"index": index, "function": {"arguments": arguments}});
    if let Some(id) = id {
        call["id"] = id.into();
    }
    if let Some(name) = name {
        call["function"]["name"] = name.into();
    }
    chunk(&json!({"tool_calls": [call]}), &Value::Null)
}

fn usage_chunk() -> String {
    json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}}).to_string()
}

/// Feeds chunks; gives kinds, and the events as (name, data), which must be of the same name.
fn stream(chunks: &[String]) -> (Vec<EventKind>, Vec<Value>, StreamTranslator) {
    let mut translator = StreamTranslator::new();
    let mut out = Vec::new();
    let kinds = chunks
        .iter()
        .map(|chunk| translator.event(format!("data: {chunk}\n\n").as_bytes(), &mut out).unwrap())
        .collect();
    let _ = translator.finish(&mut out);
    let text = String::from_utf8(out).unwrap();
    let events = text
        .split_terminator("\n\n")
        .filter(|event| !event.starts_with(':'))
        .map(|event| {
            let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(data["type"], name);
            data
        })
        .collect();
    (kinds, events, translator)
}

/// Checks the grammar of blocks and joins what was said in each.
fn blocks(events: &[Value]) -> Vec<(Value, String)> {
    let mut found: Vec<(Value, String)> = Vec::new();
    let mut open = None;
    assert_eq!(events[0]["type"], "message_start");
    for event in events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!((open, event["index"].as_u64()), (None, Some(found.len() as u64)));
                open = event["index"].as_u64();
                found.push((event["content_block"].clone(), String::new()));
            }
            "content_block_delta" => {
                assert_eq!(event["index"].as_u64(), open);
                let delta = &event["delta"];
                found.last_mut().unwrap().1 +=
                    delta["text"].as_str().or(delta["partial_json"].as_str()).unwrap();
            }
            "content_block_stop" => assert_eq!(event["index"].as_u64(), open.take()),
            _ => {}
        }
    }
    assert_eq!(open, None);
    found
}

#[test]
fn a_stream_of_text_comes_back_as_events() {
    let (kinds, events, translator) = stream(&[
        r#"{"choices":[],"prompt_filter_results":[]}"#.to_owned(),
        chunk(&json!({"role": "assistant", "content": ""}), &Value::Null),
        chunk(&json!({"content": "Hi \""}), &Value::Null),
        chunk(&json!({"content": "there"}), &Value::Null),
        chunk(&json!({}), &json!("stop")),
        usage_chunk(),
        "[DONE]".to_owned(),
    ]);
    assert_eq!(
        kinds,
        [
            EventKind::Preamble,
            EventKind::Preamble,
            EventKind::Content,
            EventKind::Content,
            EventKind::Other,
            EventKind::Preamble,
            EventKind::Terminal
        ]
    );
    assert_eq!(blocks(&events), [(json!({"type": "text", "text": ""}), "Hi \"there".to_owned())]);
    assert_eq!(events[0]["message"]["id"], "msg_1");
    let end = &events[events.len() - 2];
    assert_eq!(end["delta"]["stop_reason"], "end_turn");
    assert_eq!(
        end["usage"],
        json!({"input_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 3})
    );
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    assert!(translator.ended());
    assert_eq!((translator.finish_reason(), translator.usage().unwrap().total()), (Some(Finish::Stop), 12));
}

#[test]
fn calls_come_whole_however_they_are_cut_up() {
    let sequential = [
        fragment(0, Some("a"), Some("f"), ""),
        fragment(0, None, None, "{\"x\":"),
        fragment(0, None, None, "\"\\\"\"}"),
        fragment(1, Some("b"), Some("g"), "{}"),
    ];
    let interleaved = [
        fragment(0, Some("a"), Some("f"), ""),
        fragment(1, Some("b"), Some("g"), "{"),
        fragment(0, None, None, "{\"x\":"),
        fragment(1, None, None, "}"),
        fragment(0, None, None, "\"\\\"\"}"),
    ];
    let all_zero =
        [fragment(0, Some("a"), Some("f"), "{\"x\":\"\\\"\"}"), fragment(0, Some("b"), Some("g"), "{}")];
    for chunks in [sequential.to_vec(), interleaved.to_vec(), all_zero.to_vec()] {
        let mut chunks = chunks;
        chunks.extend([chunk(&json!({}), &json!("tool_calls")), "[DONE]".to_owned()]);
        let (_, events, translator) = stream(&chunks);
        assert_eq!(
            blocks(&events),
            [
                (
                    json!({"type": "tool_use", "id": "a", "name": "f", "input": {}}),
                    "{\"x\":\"\\\"\"}".to_owned()
                ),
                (json!({"type": "tool_use", "id": "b", "name": "g", "input": {}}), "{}".to_owned())
            ],
            "{chunks:?}"
        );
        assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "tool_use");
        assert!(translator.tool_calls());
    }
}

#[test]
fn text_around_calls_is_not_lost() {
    let (_, events, _) = stream(&[
        chunk(&json!({"content": "one"}), &Value::Null),
        fragment(0, Some("a"), Some("f"), "{"),
        chunk(&json!({"content": "two"}), &Value::Null),
        fragment(0, None, None, "}"),
        chunk(&json!({"content": "three"}), &Value::Null),
        chunk(&json!({}), &json!("stop")),
    ]);
    let said: Vec<_> = blocks(&events).into_iter().map(|(_, text)| text).collect();
    assert_eq!(said.iter().filter(|text| *text == "{}").count(), 1);
    let words: String = said.iter().filter(|text| *text != "{}").cloned().collect();
    assert_eq!(words, "onetwothree", "{said:?}");
    assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "tool_use");
}

#[test]
fn a_cut_stream_never_ends_well() {
    let chunks = [
        chunk(&json!({"role": "assistant"}), &Value::Null),
        chunk(&json!({"content": "Hi"}), &Value::Null),
        chunk(&json!({}), &json!("length")),
        usage_chunk(),
        "[DONE]".to_owned(),
    ];
    for cut in 0..=chunks.len() {
        let (_, events, mut translator) = stream(&chunks[..cut]);
        let ended = events.iter().any(|event| event["type"] == "message_stop");
        assert_eq!(ended, cut >= 3, "cut after {cut}");
        assert_eq!(translator.finish(&mut Vec::new()).is_ok(), cut >= 3);
    }
}

#[test]
fn errors_and_junk_never_look_like_an_end() {
    let (kinds, events, translator) = stream(&[
        chunk(&json!({"content": "x"}), &Value::Null),
        r#"{"error":{"message":"overloaded","code":"server_is_overloaded"}}"#.to_owned(),
        "[DONE]".to_owned(),
    ]);
    assert_eq!(kinds[1..], [EventKind::Error, EventKind::Other]);
    assert_eq!(events.last().unwrap()["error"]["type"], "overloaded_error");
    assert!(!translator.ended());
    for junk in ["nonsense", "{\"a\":", "{\"choices\":[{\"delta\":{\"content\":\"\\q\"}}]}"] {
        let mut translator = StreamTranslator::new();
        let mut out = Vec::new();
        assert_eq!(
            translator.event(format!("data: {junk}\n\n").as_bytes(), &mut out),
            Err(BrokenStream::NotJson)
        );
        assert!(out.is_empty());
    }
}
