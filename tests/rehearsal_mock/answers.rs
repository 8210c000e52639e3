//! What the mock says when nothing is wrong.

use std::io::{Read, Write};

use serde_json::{Value, json};
use sluice::rehearsal::{Dialects, Mock, MockOptions};

use crate::client::*;

#[test]
fn a_chat_answer_has_the_shape_of_the_provider() {
    let mock = start("ok");
    let got = post_chat(&mock, false);
    assert_eq!(got.status, 200);
    assert!(got.field("x-request-id").is_some_and(|id| id.starts_with("req_")));
    assert_eq!(got.field("content-type"), Some("application/json"));
    let answer = got.json();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "gpt-4o-mini");
    let choice = &answer["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["message"]["role"]), (&json!("stop"), &json!("assistant")));
    let text = choice["message"]["content"].as_str().expect("content");
    assert!(text.contains("Hello there"), "{text}");
    assert_eq!(answer["usage"]["completion_tokens"], 40);
    let (prompt, total) = (&answer["usage"]["prompt_tokens"], &answer["usage"]["total_tokens"]);
    assert_eq!(total.as_u64(), prompt.as_u64().map(|prompt| prompt + 40));
}

#[test]
fn a_streamed_chat_says_the_same_words_and_the_same_usage() {
    let mock = start("ok");
    let whole = post_chat(&mock, false).json();
    let got = post_chat(&mock, true);
    assert!(got.complete && got.field("content-type").is_some_and(|t| t.starts_with("text/event-stream")));
    let events = got.events();
    assert_eq!(events.last(), Some(&json!("[DONE]")));
    let text: String = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(json!(text), whole["choices"][0]["message"]["content"]);
    assert!(events.iter().all(|event| event.get("usage").is_none()), "usage was not asked for");
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], "stop");

    let mut ask = chat(true);
    ask["stream_options"] = json!({"include_usage": true});
    let events = post(&mock, "/v1/chat/completions", &ask).events();
    let last = &events[events.len() - 2];
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    assert!(events[..events.len() - 2].iter().all(|event| event.get("usage") == Some(&Value::Null)));
}

#[test]
fn max_tokens_ends_an_answer_with_length() {
    let mock = start("ok");
    for (name, stream) in [("max_tokens", false), ("max_completion_tokens", false), ("max_tokens", true)] {
        let mut ask = chat(stream);
        ask[name] = json!(7);
        let got = post(&mock, "/v1/chat/completions", &ask);
        if stream {
            let events = got.events();
            let content = events
                .iter()
                .filter(|e| e["choices"][0]["delta"]["content"].as_str().is_some_and(|t| !t.is_empty()));
            assert_eq!(content.count(), 7);
            assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], "length");
        } else {
            assert_eq!(got.json()["choices"][0]["finish_reason"], "length");
            assert_eq!(got.json()["usage"]["completion_tokens"], 7);
        }
    }
}

#[test]
fn a_tool_is_called_with_arguments_that_fit_its_schema() {
    let mock = start("ok");
    let tool = json!({"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city", "days"]}}});
    let mut ask = chat(false);
    ask["tools"] = json!([tool]);
    ask["tool_choice"] = json!("required");
    let answer = post(&mock, "/v1/chat/completions", &ask).json();
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(call["function"]["name"], "get_weather");
    let arguments: Value =
        serde_json::from_str(call["function"]["arguments"].as_str().expect("text")).expect("JSON");
    assert_eq!(arguments, json!({"city": "example", "days": 1}));

    ask["stream"] = json!(true);
    let events = post(&mock, "/v1/chat/completions", &ask).events();
    let fragments = events
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str());
    assert_eq!(json!(fragments.collect::<String>()), call["function"]["arguments"]);
}

#[test]
fn an_anthropic_answer_and_its_stream_agree() {
    let mock = start("ok");
    let got = post(&mock, "/v1/messages", &messages(false));
    assert!(got.field("request-id").is_some());
    let whole = got.json();
    assert_eq!((&whole["type"], &whole["stop_reason"]), (&json!("message"), &json!("end_turn")));
    let events = post(&mock, "/v1/messages", &messages(true)).events();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds[..3], ["message_start", "content_block_start", "ping"]);
    assert_eq!(kinds[kinds.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(json!(text), whole["content"][0]["text"]);
    let delta = &events[events.len() - 2];
    assert_eq!(delta["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], whole["usage"]["input_tokens"]);
}

#[test]
fn models_are_listed_in_both_dialects() {
    let mock = start("ok");
    let openai = get(&mock, "/v1/models", "").json();
    assert!(openai["data"].as_array().is_some_and(|all| all.iter().any(|m| m["id"] == "gpt-4o-mini")));
    let anthropic = get(&mock, "/v1/models", "anthropic-version: 2023-06-01\r\n").json();
    assert_eq!(anthropic["data"][0]["type"], "model");
    assert_eq!(get(&mock, "/v1/models/gpt-4o", "").json()["id"], "gpt-4o");
    assert_eq!(get(&mock, "/v1/models/none", "").status, 404);
}

#[test]
fn callers_mistakes_are_told_in_their_dialect() {
    let mock = start("ok");
    let got = post(&mock, "/v1/chat/completions", &json!({"messages": []}));
    assert_eq!((got.status, &got.json()["error"]["param"]), (400, &json!("model")));
    let mut stream = connect(mock.addr());
    stream.write_all(&request("/v1/chat/completions", "{oops", "")).expect("write");
    assert_eq!(read_answer(&mut stream).status, 400);
    let got = post(&mock, "/v1/messages", &json!({"model": "m", "messages": []}));
    assert_eq!((got.status, &got.json()["type"]), (400, &json!("error")));
    assert_eq!(got.json()["request_id"], json!(got.field("request-id")));
    assert_eq!(post(&mock, "/v1/nothing", &json!({})).json()["error"]["code"], "unknown_url");
}

#[test]
fn a_connection_serves_pipelined_chunked_and_expecting_requests() {
    let mock = start("ok");
    let mut stream = connect(mock.addr());
    let body = chat(false).to_string();
    let one = request("/v1/chat/completions", &body, "");
    stream.write_all(&[one.clone(), one].concat()).expect("write");
    let mut bytes = Vec::new();
    while String::from_utf8_lossy(&bytes).matches("fp_rehearsal").count() < 2 {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).expect("read");
        assert!(count > 0);
        bytes.extend_from_slice(&buffer[..count]);
    }
    let (a, b) = body.split_at(20);
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    )
    .expect("write");
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).expect("read");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    write!(stream, "{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n", a.len(), b.len()).expect("write");
    assert_eq!(read_answer(&mut stream).status, 200);
    eventually("three requests", || mock.counts().completed == 3);
    assert_eq!(mock.counts().connections, 1);
}

#[test]
fn a_responses_stream_is_a_complete_sequence() {
    let mock = start("ok");
    let ask = |stream: bool| json!({"model": "gpt-4o-mini", "input": "Hello there", "stream": stream});
    let whole = post(&mock, "/v1/responses", &ask(false)).json();
    assert_eq!((&whole["object"], &whole["status"]), (&json!("response"), &json!("completed")));
    let text = whole["output"][0]["content"][0]["text"].as_str().expect("text");
    let got = post(&mock, "/v1/responses", &ask(true));
    assert!(!got.text().contains("[DONE]"));
    let events = got.events();
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], n);
    }
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(
        kinds[..4],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added"
        ]
    );
    assert_eq!(
        kinds[kinds.len() - 4..],
        [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed"
        ]
    );
    let said: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(said, text);
    assert_eq!(events.last().expect("an end")["response"], whole);

    let mut short = ask(true);
    short["max_output_tokens"] = json!(3);
    let events = post(&mock, "/v1/responses", &short).events();
    let last = events.last().expect("an end");
    assert_eq!(
        (&last["type"], &last["response"]["usage"]["output_tokens"]),
        (&json!("response.incomplete"), &json!(3))
    );
}

#[test]
fn a_responses_tool_call_streams_its_arguments() {
    let mock = start("ok");
    let tool = json!({"type": "function", "name": "look_up", "parameters": {"type": "object",
        "properties": {"word": {"type": "string"}}, "required": ["word"]}});
    let ask = json!({"model": "m", "input": "please look it up", "stream": true, "tools": [tool], "tool_choice": "required"});
    let events = post(&mock, "/v1/responses", &ask).events();
    let last = &events.last().expect("an end")["response"]["output"][0];
    assert_eq!((&last["type"], &last["name"]), (&json!("function_call"), &json!("look_up")));
    let fragments: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(json!(fragments), last["arguments"]);
}

#[test]
fn an_anthropic_tool_call_streams_its_input() {
    let mock = start("ok");
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let mut ask = messages(true);
    ask["tools"] = json!([{"name": "get_weather", "input_schema": schema}]);
    ask["messages"][0]["content"] = json!("What is the weather in Paris?");
    let events = post(&mock, "/v1/messages", &ask).events();
    let input: String = events.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&input).expect("JSON"), json!({"city": "example"}));
    assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "tool_use");
    ask["stream"] = json!(false);
    let whole = post(&mock, "/v1/messages", &ask).json();
    assert_eq!(
        (&whole["content"][0]["type"], &whole["content"][0]["input"]),
        (&json!("tool_use"), &json!({"city": "example"}))
    );
    let counted = post(&mock, "/v1/messages/count_tokens", &ask).json();
    assert_eq!(counted["input_tokens"], whole["usage"]["input_tokens"]);
}

#[test]
fn embeddings_come_as_floats_and_as_base64_of_the_same() {
    let mock = start("ok");
    let ask = |format: &str| json!({"model": "text-embedding-3-small", "input": ["a", "b"], "dimensions": 8, "encoding_format": format});
    let floats = post(&mock, "/v1/embeddings", &ask("float")).json();
    let vector: Vec<f32> = serde_json::from_value(floats["data"][1]["embedding"].clone()).expect("numbers");
    assert_eq!(vector.len(), 8);
    let length: f32 = vector.iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5);
    assert_ne!(floats["data"][0]["embedding"], floats["data"][1]["embedding"]);
    let packed = post(&mock, "/v1/embeddings", &ask("base64")).json();
    let text = packed["data"][1]["embedding"].as_str().expect("text");
    let bytes = unpack(text);
    let unpacked: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    assert_eq!(unpacked, vector);
    let usual =
        post(&mock, "/v1/embeddings", &json!({"model": "text-embedding-3-small", "input": "a"})).json();
    assert_eq!(usual["data"][0]["embedding"].as_array().map(Vec::len), Some(1536));
}

/// Base64 without a library, to check the mock's against something else.
fn unpack(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits: Vec<bool> = text
        .bytes()
        .filter(|c| *c != b'=')
        .flat_map(|c| (0..6).rev().map(move |n| value(c) >> n & 1 == 1))
        .collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | u8::from(*bit))).collect()
}

#[test]
fn completions_stream_and_count() {
    let mock = start("ok");
    let ask = |stream: bool| json!({"model": "m", "prompt": "Once upon", "stream": stream, "max_tokens": 5});
    let whole = post(&mock, "/v1/completions", &ask(false)).json();
    assert_eq!(
        (&whole["object"], &whole["choices"][0]["finish_reason"]),
        (&json!("text_completion"), &json!("length"))
    );
    let events = post(&mock, "/v1/completions", &ask(true)).events();
    let text: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(json!(text), whole["choices"][0]["text"]);
    assert_eq!(whole["usage"]["completion_tokens"], 5);
}

#[test]
fn json_answers_fit_the_schema_that_was_asked_for() {
    let mock = start("ok");
    let mut ask = chat(false);
    ask["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object",
        "properties": {"ok": {"type": "boolean"}, "why": {"type": "string"}}, "required": ["ok", "why"]}}});
    let answer = post(&mock, "/v1/chat/completions", &ask).json();
    let content = answer["choices"][0]["message"]["content"].as_str().expect("content");
    assert_eq!(serde_json::from_str::<Value>(content).expect("JSON"), json!({"ok": true, "why": "example"}));
}

#[test]
fn uploads_and_binary_answers_pass() {
    let mock = start("ok");
    let form = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; \
        name=\"file\"; filename=\"a.jsonl\"\r\n\r\n{}\r\n--b--\r\n";
    let mut stream = connect(mock.addr());
    stream.write_all(&request("/v1/files", form, "")).expect("write");
    let file = read_answer(&mut stream).json();
    assert_eq!((&file["filename"], &file["purpose"]), (&json!("a.jsonl"), &json!("batch")));
    assert_eq!(file["bytes"], form.len());
    let speech =
        post(&mock, "/v1/audio/speech", &json!({"model": "tts-1", "input": "hi", "response_format": "wav"}));
    assert_eq!(&speech.body[..4], b"RIFF");
    assert_eq!(post(&mock, "/v1/moderations", &json!({"input": "x"})).json()["results"][0]["flagged"], false);
    assert!(
        post(&mock, "/v1/images/generations", &json!({"prompt": "x"})).json()["data"][0]["b64_json"]
            .is_string()
    );
}

#[test]
fn a_prompt_of_32_mib_is_answered_and_one_byte_more_is_not() {
    let mock = start("ok");
    const LIMIT: usize = 32 * 1024 * 1024;
    let mut body = chat(false).to_string();
    body.push_str(&" ".repeat(LIMIT - body.len()));
    let mut stream = connect(mock.addr());
    stream.write_all(&request("/v1/chat/completions", &body, "")).expect("write");
    assert_eq!(read_answer(&mut stream).status, 200);
    body.push(' ');
    let mut stream = connect(mock.addr());
    // The mock may say no before it read everything.
    let _ = stream.write_all(&request("/v1/chat/completions", &body, ""));
    assert_eq!(read_answer(&mut stream).status, 413);
}

#[test]
fn http_10_and_head_requests_get_what_they_can_read() {
    let mock = start("ok");
    let mut stream = connect(mock.addr());
    let body = chat(true).to_string();
    write!(stream, "POST /v1/chat/completions HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .expect("write");
    let got = read_answer(&mut stream);
    assert!(
        got.complete && got.field("transfer-encoding").is_none() && got.text().ends_with("data: [DONE]\n\n")
    );
    let mut stream = connect(mock.addr());
    write!(stream, "HEAD /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n").expect("write");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("read");
    assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n") && bytes.ends_with(b"\r\n\r\n"));
}

#[test]
fn a_mock_of_one_dialect_or_of_known_keys_turns_others_away() {
    let options = MockOptions {
        dialects: Dialects::OpenAi,
        keys: vec!["sk-test-abcd1234".to_owned()],
        ..MockOptions::default()
    };
    let mock = Mock::start(options).expect("a mock");
    assert_eq!(post(&mock, "/v1/messages", &messages(false)).status, 404);
    assert_eq!(post_chat(&mock, false).status, 200);
    assert_eq!(get(&mock, "/v1/models", "").status, 401);
}
