//! System texts, turns, tool calls and their results, pictures, thinking that is given back.

use super::*;
use crate::dialect::error::GatewayError;

#[test]
fn a_plain_conversation_arrives_whole() {
    let body = json!({"model": "openai/gpt", "messages": [
        {"role": "system", "content": "Be brief.\n\"Really\" \u{1F980}"}, user("Hello"),
        {"role": "assistant", "content": "Hi"}, user("And?")], "max_tokens": 7, "stream": true});
    assert_eq!(
        sent(SONNET, body),
        json!({"model": SONNET, "max_tokens": 7, "stream": true, "system": "Be brief.\n\"Really\" \u{1F980}",
            "messages": [turn("user", "Hello"), turn("assistant", "Hi"), turn("user", "And?")]})
    );
}

#[test]
fn system_texts_are_gathered_in_their_order() {
    let body = json!({"messages": [
        {"role": "system", "content": "one"}, user("hi"),
        {"role": "developer", "content": [{"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": " "}]},
        user("there")]});
    let out = sent(SONNET, body);
    assert_eq!(
        out["system"],
        json!([{"type": "text", "text": "one"},
        {"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}])
    );
    assert_eq!(
        out["messages"],
        json!([{"role": "user", "content": [
        {"type": "text", "text": "hi"}, {"type": "text", "text": "there"}]}])
    );
}

#[test]
fn turns_alternate_and_are_never_blank() {
    for (messages, expected) in [
        (json!([]), json!([turn("user", "(empty)")])),
        (json!([user("  \n")]), json!([turn("user", "(empty)")])),
        (
            json!([{"role": "assistant", "content": "a"}, user("b")]),
            json!([turn("user", "Continue."), turn("assistant", "a"), turn("user", "b")]),
        ),
        (
            json!([user("a"), {"role": "assistant", "content": null}, user("b")]),
            json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]),
        ),
        (
            json!([user("a"), {"role": "assistant", "content": "b"}, {"role": "assistant", "content": [{"type": "text", "text": "c"}]}, user("d")]),
            json!([turn("user", "a"), {"role": "assistant", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]}, turn("user", "d")]),
        ),
        (
            json!([user("a"), {"role": "assistant", "content": null, "refusal": "No."}, user("b")]),
            json!([turn("user", "a"), turn("assistant", "No."), turn("user", "b")]),
        ),
    ] {
        assert_eq!(sent(SONNET, json!({"messages": messages}))["messages"], expected, "{messages}");
    }
}

#[test]
fn a_prefill_stays_only_where_the_model_takes_it() {
    let body = json!({"messages": [user("a"), {"role": "assistant", "content": "{ \n"}]});
    assert_eq!(sent(SONNET, body.clone())["messages"], json!([turn("user", "a"), turn("assistant", "{")]));
    assert_eq!(
        sent(OPUS, body)["messages"],
        json!([turn("user", "a"), turn("assistant", "{ \n"), turn("user", "Continue.")])
    );
}

fn with_tool_results(results: &Value) -> Value {
    let mut messages = vec![
        user("weather?"),
        json!({"role": "assistant", "content": "Looking.", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get", "arguments": "{\"city\":\"K\u{f6}ln \\\"x\\\"\",\"n\":1.50}"}},
            {"id": "call:2", "type": "function", "function": {"name": "now", "arguments": ""}}]}),
    ];
    messages.extend(results.as_array().unwrap().iter().cloned());
    json!({"messages": messages})
}

#[test]
fn tool_calls_and_results_keep_together() {
    let out = sent(
        SONNET,
        with_tool_results(&json!([
        {"role": "tool", "tool_call_id": "call:2", "content": "old"},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "15 C"}, {"type": "text", "text": ""}]},
        {"role": "tool", "tool_call_id": "call:2", "content": "new"},
        {"role": "tool", "tool_call_id": "gone", "content": "late"},
        user("so?")])),
    );
    let calls = &out["messages"][1]["content"];
    assert_eq!(calls[0]["text"], "Looking.");
    assert_eq!(
        calls[1],
        json!({"type": "tool_use", "id": "call_1", "name": "get", "input": {"city": "Köln \"x\"", "n": 1.50}})
    );
    assert_eq!(calls[2]["input"], json!({}));
    let id = calls[2]["id"].as_str().unwrap();
    assert!(id.starts_with("call_2_") && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{id}");
    assert_eq!(
        out["messages"][2]["content"],
        json!([
        {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "15 C"}]},
        {"type": "tool_result", "tool_use_id": id, "content": "new"},
        {"type": "text", "text": "Result of tool call gone, which is no longer in the conversation:"},
        {"type": "text", "text": "late"},
        {"type": "text", "text": "so?"}])
    );
    assert_eq!(out["messages"].as_array().unwrap().len(), 3);
}

#[test]
fn a_call_without_its_result_is_refused_with_its_id() {
    for results in
        [json!([]), json!([user("so?")]), json!([{"role": "tool", "tool_call_id": "call_1", "content": "x"}])]
    {
        let error = request(SONNET, &with_tool_results(&results)).unwrap_err();
        assert_eq!(error.fault, TranslateFault::Client);
        assert!(error.message.contains("call"), "{error}");
    }
}

#[test]
fn arguments_that_are_no_object_are_refused_with_their_place() {
    for arguments in ["[1]", "\"text\"", "{", "{\"a\":}", "nonsense"] {
        let body = json!({"messages": [user("x"), {"role": "assistant", "tool_calls": [
            {"id": "c", "function": {"name": "f", "arguments": arguments}}]}, {"role": "tool", "tool_call_id": "c", "content": "y"}]});
        let error = request(SONNET, &body).unwrap_err();
        assert_eq!(error.param, "messages[1].tool_calls[0].function.arguments", "{arguments}");
        let answer = GatewayError::from(error);
        assert_eq!((answer.status, &*answer.code), (400, "invalid_request"));
    }
}

#[test]
fn the_older_functions_still_work() {
    let out = sent(
        SONNET,
        json!({
        "messages": [user("x"), {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "y"}],
        "functions": [{"name": "f", "description": "d", "parameters": {"type": "object"}}], "function_call": {"name": "f"}}),
    );
    assert_eq!(out["messages"][1]["content"][0]["id"], "function_1");
    assert_eq!(
        out["messages"][2]["content"][0],
        json!({"type": "tool_result", "tool_use_id": "function_1", "content": "y"})
    );
    assert_eq!(out["tools"], json!([{"name": "f", "description": "d", "input_schema": {"type": "object"}}]));
    assert_eq!(out["tool_choice"], json!({"type": "tool", "name": "f"}));
}

#[test]
fn images_and_files_come_along() {
    let out = sent(
        SONNET,
        json!({"messages": [{"role": "user", "content": [
        {"type": "text", "text": "see", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}},
        {"type": "image_url", "image_url": {"url": "https://e.com/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}, "cache_control": {"type": "ephemeral"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0x"}},
        {"type": "image", "source": {"type": "url", "url": "https://e.com/b"}}]}]}),
    );
    assert_eq!(
        out["messages"][0]["content"],
        json!([
        {"type": "text", "text": "see", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "image", "source": {"type": "url", "url": "https://e.com/a.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}, "cache_control": {"type": "ephemeral"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"}, "title": "a.pdf"},
        {"type": "image", "source": {"type": "url", "url": "https://e.com/b"}}])
    );
}

#[test]
fn thinking_is_given_back_signed_or_not_at_all() {
    let loops = |extra: Value| {
        let mut call = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]});
        for (name, value) in extra.as_object().unwrap() {
            call[name] = value.clone();
        }
        sent(
            SONNET,
            json!({"messages": [user("x"), call, {"role": "tool", "tool_call_id": "c", "content": "y"}],
            "reasoning_effort": "medium"}),
        )
    };
    let signed = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
    let out = loops(json!({"thinking_blocks": [signed, {"type": "thinking", "thinking": "unsigned"}]}));
    assert_eq!(out["messages"][1]["content"][0], signed);
    assert_eq!(out["messages"][1]["content"][1]["type"], "tool_use");
    assert_eq!(out["thinking"]["type"], "enabled");
    let out = loops(
        json!({"reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "s"}, {"type": "reasoning.encrypted", "data": "d"}]}),
    );
    assert_eq!(out["messages"][1]["content"][0], signed);
    assert_eq!(out["messages"][1]["content"][1], json!({"type": "redacted_thinking", "data": "d"}));
    let out = loops(json!({"reasoning_content": "hm"}));
    assert_eq!(out["messages"][1]["content"][0]["type"], "tool_use");
    assert_eq!(out.get("thinking"), None);
}

#[test]
fn cache_breakpoints_stop_at_four() {
    let part = json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}});
    let out = sent(
        SONNET,
        json!({"messages": [{"role": "system", "content": [part]}, {"role": "user", "content": [part, part, part, part, part]}]}),
    );
    assert_eq!(out.to_string().matches("cache_control").count(), 4);
}
