//! Whole answers on their way back.

use super::*;

fn answer(back: &Back, message: &Value) -> Value {
    let mut out = Vec::new();
    translate_answer(message.to_string().as_bytes(), back, 17, &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn an_answer_comes_back_as_a_completion() {
    let out = answer(
        &Back::default(),
        &json!({"id": "msg_01A", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [{"type": "thinking", "thinking": "h\"m", "signature": "s"}, {"type": "text", "text": "Hi \u{1F980}"}, {"type": "fallback"},
            {"type": "text", "text": " there"}, {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": "b\"c"}}],
        "stop_reason": "tool_use", "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3,
            "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 2}}}),
    );
    assert_eq!(
        (&out["id"], &out["object"], &out["created"], &out["model"]),
        (&json!("chatcmpl-01A"), &json!("chat.completion"), &json!(17), &json!("claude-x"))
    );
    let choice = &out["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], "Hi \u{1F980} there");
    assert_eq!(choice["message"]["reasoning_content"], "h\"m");
    assert_eq!(choice["message"]["thinking_blocks"][0]["signature"], "s");
    assert_eq!(
        choice["message"]["tool_calls"],
        json!([{"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":\"b\\\"c\"}"}}])
    );
    assert_eq!((&out["usage"]["prompt_tokens"], &out["usage"]["total_tokens"]), (&json!(18), &json!(25)));
    assert_eq!(out["usage"]["prompt_tokens_details"]["cached_tokens"], 5);
    assert_eq!(out["usage"]["prompt_tokens_details"]["cache_write_tokens"], 3);
    assert_eq!(out["usage"]["completion_tokens_details"]["reasoning_tokens"], 2);
}

#[test]
fn every_way_to_stop_has_its_word() {
    for (reason, expected) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("brand_new", "stop"),
    ] {
        let out = answer(
            &Back::default(),
            &json!({"type": "message", "content": [], "stop_reason": reason,
            "stop_details": {"type": "refusal", "explanation": "because"}}),
        );
        assert_eq!(out["choices"][0]["finish_reason"], expected);
        assert_eq!(out["choices"][0]["message"]["content"], Value::Null);
        let refusal = if reason == "refusal" { json!("because") } else { Value::Null };
        assert_eq!(out["choices"][0]["message"]["refusal"], refusal);
    }
}

#[test]
fn wrapped_answers_are_unwrapped() {
    let back = Back { json_tool: true, custom_tools: vec!["sh".into()], ..Back::default() };
    let out = answer(
        &back,
        &json!({"type": "message", "content": [{"type": "text", "text": "Here:"},
        {"type": "tool_use", "id": "t", "name": JSON_TOOL, "input": {"a": [1]}}], "stop_reason": "tool_use"}),
    );
    assert_eq!(out["choices"][0]["message"]["content"], "{\"a\":[1]}");
    assert_eq!(out["choices"][0]["finish_reason"], "stop");
    assert_eq!(out["choices"][0]["message"].get("tool_calls"), None);
    let out = answer(
        &back,
        &json!({"type": "message", "content": [{"type": "tool_use", "id": "t", "name": "sh", "input": {"input": "ls \"x\""}}],
        "stop_reason": "tool_use"}),
    );
    assert_eq!(
        out["choices"][0]["message"]["tool_calls"],
        json!([{"id": "t", "type": "custom", "custom": {"name": "sh", "input": "ls \"x\""}}])
    );
    assert_eq!(out["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn a_cut_or_foreign_answer_is_never_translated() {
    let whole =
        json!({"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn"})
            .to_string();
    for cut in 0..whole.len() {
        let mut out = b"kept".to_vec();
        assert_eq!(
            translate_answer(&whole.as_bytes()[..cut], &Back::default(), 0, &mut out),
            Err(NotAMessage)
        );
        assert_eq!(out, b"kept");
    }
    for body in ["{}", "[]", r#"{"type":"error","error":{}}"#, r#"{"type":"message"}"#, r#"{"choices":[]}"#] {
        assert!(translate_answer(body.as_bytes(), &Back::default(), 0, &mut Vec::new()).is_err(), "{body}");
    }
}
