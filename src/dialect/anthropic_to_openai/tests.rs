//! What a user of an Anthropic client notices when an OpenAI model answers.

use serde_json::{Value, json};

use super::*;
use crate::dialect::translate::{TranslateError, TranslateFault};
use crate::dialect::watch::{EventKind, Finish};

fn request(model: &str, body: &Value) -> Result<(Value, Translated), TranslateError> {
    let mut out = Vec::new();
    let translated = translate_request(body.to_string().as_bytes(), &TranslateOptions { model }, &mut out)?;
    Ok((serde_json::from_slice(&out).expect("valid JSON"), translated))
}

fn plain(extra: &Value) -> Value {
    let mut body = json!({"model": "x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn sent(model: &str, extra: &Value) -> Value {
    request(model, &plain(extra)).unwrap().0
}

fn dropped(model: &str, extra: &Value) -> Vec<&'static str> {
    request(model, &plain(extra)).unwrap().1.dropped.names().collect()
}

#[test]
fn a_plain_conversation_arrives_whole() {
    let body = json!({"system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "\"Really\"", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": "a\n"}, {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "b"}, {"type": "text", "text": "c"}]}, {"role": "user", "content": [{"type": "text", "text": "d"}]},
            {"role": "system", "content": "late"}],
        "stream": true, "temperature": 0.5, "top_p": 0.9, "stop_sequences": ["A", "B", "C", "D", "E"], "metadata": {"user_id": "u"}});
    let (out, translated) = request("gpt-4o", &plain(&body)).unwrap();
    assert_eq!(
        out,
        json!({"model": "gpt-4o", "max_completion_tokens": 9, "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "system", "content": "Be brief.\n\n\"Really\""}, {"role": "user", "content": "a\n"}, {"role": "assistant", "content": "bc"},
            {"role": "user", "content": "d"}, {"role": "system", "content": "late"}],
        "temperature": 0.5, "top_p": 0.9, "stop": ["A", "B", "C", "D"], "user": "u"})
    );
    assert!(translated.stream);
    assert_eq!(translated.dropped.names().collect::<Vec<_>>(), ["stop"]);
    assert_eq!(sent("llama-3.3", &json!({}))["max_tokens"], 9);
}

#[test]
fn calls_and_results_become_messages_of_their_own() {
    let long = "t".repeat(50);
    let out = sent(
        "gpt-4o",
        &json!({"messages": [{"role": "user", "content": "x"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": "b\"c"}},
            {"type": "tool_use", "id": long, "name": "g", "input": {}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
            {"type": "text", "text": "so?"},
            {"type": "tool_result", "tool_use_id": long, "content": "bad", "is_error": true}]}]}),
    );
    let messages = out["messages"].as_array().unwrap();
    assert_eq!(messages[1]["content"], Value::Null);
    assert_eq!(
        messages[1]["tool_calls"][0],
        json!({"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":\"b\\\"c\"}"}})
    );
    let id = messages[1]["tool_calls"][1]["id"].as_str().unwrap();
    assert!(id.len() <= 40);
    assert_eq!(messages[2], json!({"role": "tool", "tool_call_id": "toolu_1", "content": "one\ntwo"}));
    assert_eq!(messages[3], json!({"role": "tool", "tool_call_id": id, "content": "Error: bad"}));
    assert_eq!(
        messages[4]["content"],
        json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, {"type": "text", "text": "so?"}])
    );
    assert_eq!(messages.len(), 5);
    let out = sent(
        "gpt-4o",
        &json!({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "is_error": true}]}]}),
    );
    assert_eq!(out["messages"], json!([{"role": "tool", "tool_call_id": "t", "content": "Error"}]));
}

#[test]
fn pictures_and_documents_come_along() {
    let out = sent(
        "gpt-4o",
        &json!({"messages": [{"role": "user", "content": [
        {"type": "image", "source": {"type": "url", "url": "https://e.com/a"}},
        {"type": "document", "title": "T", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"}},
        {"type": "document", "title": "N", "source": {"type": "text", "media_type": "text/plain", "data": "body"}},
        {"type": "search_result", "title": "S", "source": "https://s", "content": [{"type": "text", "text": "found"}]}]}]}),
    );
    assert_eq!(
        out["messages"][0]["content"],
        json!([{"type": "image_url", "image_url": {"url": "https://e.com/a"}},
        {"type": "file", "file": {"filename": "T", "file_data": "data:application/pdf;base64,JVBERi0x"}},
        {"type": "text", "text": "N\nbody"}, {"type": "text", "text": "S\nhttps://s\nfound"}])
    );
}

#[test]
fn what_the_target_cannot_be_told_is_refused() {
    let block = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    for (extra, fault) in [
        (json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), TranslateFault::Target),
        (block(json!({"type": "image", "source": {"type": "file", "file_id": "f"}})), TranslateFault::Target),
        (
            block(json!({"type": "document", "source": {"type": "url", "url": "https://x"}})),
            TranslateFault::Target,
        ),
        (block(json!({"type": "container_upload", "file_id": "f"})), TranslateFault::Target),
        (block(json!({"text": "x"})), TranslateFault::Client),
        (json!({"tools": [{"name": "x"}]}), TranslateFault::Client),
        (json!({"max_tokens": null}), TranslateFault::Client),
        (json!({"messages": {}}), TranslateFault::Client),
        (json!({"messages": [{"role": "tool"}]}), TranslateFault::Client),
    ] {
        assert_eq!(request("gpt-4o", &plain(&extra)).unwrap_err().fault, fault, "{extra}");
    }
}

#[test]
fn tools_and_choices_are_kept() {
    let tools = json!([{"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}, {"type": "custom", "name": "g", "input_schema": {"type": "object"}}]);
    let out = sent(
        "gpt-4o",
        &json!({"tools": tools, "tool_choice": {"type": "any", "disable_parallel_tool_use": true}}),
    );
    assert_eq!(
        out["tools"][0],
        json!({"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}})
    );
    assert_eq!((&out["tool_choice"], &out["parallel_tool_calls"]), (&json!("required"), &json!(false)));
    for (choice, expected) in [("auto", json!("auto")), ("none", json!("none"))] {
        assert_eq!(
            sent("gpt-4o", &json!({"tools": tools, "tool_choice": {"type": choice}}))["tool_choice"],
            expected
        );
    }
    let named = sent("gpt-4o", &json!({"tools": tools, "tool_choice": {"type": "tool", "name": "g"}}));
    assert_eq!(named["tool_choice"], json!({"type": "function", "function": {"name": "g"}}));
    assert_eq!(sent("gpt-4o", &json!({"tool_choice": {"type": "any"}})).get("tool_choice"), None);
}

#[test]
fn reasoning_and_sampling_follow_the_model() {
    for (model, extra, effort) in [
        ("gpt-5", json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}), json!("low")),
        ("gpt-5", json!({"thinking": {"type": "enabled", "budget_tokens": 5000}}), json!("medium")),
        ("o3", json!({"thinking": {"type": "enabled", "budget_tokens": 50000}}), json!("high")),
        (
            "gpt-5",
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}),
            json!("high"),
        ),
        ("gpt-5.1", json!({"thinking": {"type": "disabled"}}), json!("none")),
        ("gpt-5", json!({"thinking": {"type": "disabled"}}), Value::Null),
        ("gpt-5", json!({"thinking": {"type": "adaptive"}}), Value::Null),
        ("gpt-4o", json!({"output_config": {"effort": "high"}}), Value::Null),
    ] {
        assert_eq!(sent(model, &extra)["reasoning_effort"], effort, "{model} {extra}");
    }
    assert_eq!(dropped("gpt-4o", &json!({"output_config": {"effort": "high"}})), ["reasoning_effort"]);
    assert_eq!(
        dropped("gpt-5", &json!({"temperature": 0.3, "top_p": 1, "stop_sequences": ["x"], "top_k": 4})),
        ["stop", "temperature", "top_k"]
    );
    let out = sent(
        "gpt-4o",
        &json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
    );
    assert_eq!(
        out["response_format"],
        json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}})
    );
}

fn answer(completion: &Value) -> Value {
    let mut out = Vec::new();
    translate_answer(completion.to_string().as_bytes(), &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn an_answer_comes_back_as_a_message() {
    let out = answer(
        &json!({"id": "chatcmpl-1", "model": "gpt-x", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": "Hi", "reasoning_content": "hm", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":\"b\"}"}},
            {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": ""}},
            {"id": "call_3", "type": "function", "function": {"name": "h", "arguments": "oops"}}]}}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 5}}}),
    );
    assert_eq!(
        out,
        json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "gpt-x", "content": [
        {"type": "text", "text": "Hi"}, {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": "b"}},
        {"type": "tool_use", "id": "call_2", "name": "g", "input": {}}, {"type": "tool_use", "id": "call_3", "name": "h", "input": {"_raw": "oops"}}],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 15, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 5, "output_tokens": 7}})
    );
    for (message, finish, stop) in [
        (json!({"content": "x"}), "stop", "end_turn"),
        (json!({"content": "x"}), "length", "max_tokens"),
        (json!({"content": null}), "content_filter", "refusal"),
        (json!({"refusal": "No."}), "stop", "refusal"),
        (
            json!({"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}),
            "stop",
            "tool_use",
        ),
        (
            json!({"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{\"a"}}]}),
            "length",
            "max_tokens",
        ),
    ] {
        let out = answer(&json!({"choices": [{"message": message, "finish_reason": finish}]}));
        assert_eq!(out["stop_reason"], stop);
        assert!(
            out["content"]
                .as_array()
                .unwrap()
                .iter()
                .all(|block| block["type"] == "text" || stop == "tool_use")
        );
    }
}

#[test]
fn a_cut_or_foreign_answer_is_never_translated() {
    let whole = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}).to_string();
    for cut in 0..whole.len() {
        assert_eq!(translate_answer(&whole.as_bytes()[..cut], &mut Vec::new()), Err(NotACompletion));
    }
    for body in ["{}", "[]", r#"{"choices":[]}"#, r#"{"choices":[{}]}"#, r#"{"error":{}}"#] {
        assert!(translate_answer(body.as_bytes(), &mut Vec::new()).is_err(), "{body}");
    }
}

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
