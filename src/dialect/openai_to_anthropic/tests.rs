//! What a user of an OpenAI client notices when a Claude model answers.

use serde_json::{Value, json};

use super::*;
use crate::dialect::error::GatewayError;
use crate::dialect::translate::TranslateFault;
use crate::dialect::watch::{EventKind, Finish};

const SONNET: &str = "claude-sonnet-4-5";
const OPUS: &str = "claude-opus-4-8";
const OLD: &str = "claude-3-5-sonnet-20241022";

fn request(model: &str, body: &Value) -> Result<(Value, Translated), TranslateError> {
    let mut out = Vec::new();
    let options = TranslateOptions { model, default_max_tokens: None };
    let translated = translate_request(body.to_string().as_bytes(), &options, &mut out)?;
    Ok((serde_json::from_slice(&out).expect("valid JSON"), translated))
}

fn sent(model: &str, body: Value) -> Value {
    request(model, &body).unwrap().0
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn turn(role: &str, text: &str) -> Value {
    json!({"role": role, "content": [{"type": "text", "text": text}]})
}

/// A request with one user message and `extra` members.
fn plain(extra: &Value) -> Value {
    let mut body = json!({"model": "x", "messages": [user("hi")]});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn dropped(model: &str, extra: &Value) -> Vec<&'static str> {
    request(model, &plain(extra)).unwrap().1.dropped.names().collect()
}

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
fn what_the_target_cannot_be_told_is_refused_and_not_dropped() {
    for (extra, param) in [
        (json!({"n": 2}), "n"),
        (json!({"modalities": ["text", "audio"]}), "modalities"),
        (json!({"audio": {"voice": "x"}}), "audio"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}),
            "messages[0].content[0]",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}),
            "messages[0].content[0].file",
        ),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
    ] {
        let error = request(SONNET, &plain(&extra)).unwrap_err();
        assert_eq!((error.fault, error.param.as_str()), (TranslateFault::Target, param), "{extra}");
        assert_eq!(GatewayError::from(error).code, "unsupported_by_target");
    }
    for extra in [
        json!({"messages": "x"}),
        json!({"messages": [{"role": "robot"}]}),
        json!({"messages": [{"role": "user", "content": [{"text": "x"}]}]}),
        json!({"messages": [{"role": "user", "content": 3}]}),
        json!({"max_tokens": 0}),
        json!({"max_tokens": "many"}),
        json!({"response_format": {"type": "yaml"}}),
        json!({"response_format": {"type": "json_schema"}}),
        json!({"tools": [{"type": "function", "function": {}}]}),
    ] {
        assert_eq!(request(SONNET, &plain(&extra)).unwrap_err().fault, TranslateFault::Client, "{extra}");
    }
    for body in ["", "[]", "{", "null", "{\"messages\":[]} x", "{\"messages\":[\"\u{1}\"]}"] {
        let options = TranslateOptions { model: SONNET, default_max_tokens: None };
        assert!(translate_request(body.as_bytes(), &options, &mut Vec::new()).is_err(), "{body}");
    }
}

#[test]
fn tools_keep_their_schemas() {
    let out = sent(
        SONNET,
        plain(&json!({"tools": [
        {"type": "function", "function": {"name": "a", "description": "d", "parameters": {"type": "object", "properties": {"x": {"type": "number", "minimum": 1}}}}},
        {"type": "function", "function": {"name": "b"}},
        {"type": "function", "function": {"name": "c", "parameters": {"properties": {}}}, "cache_control": {"type": "ephemeral"}},
        {"type": "function", "function": {"name": "d", "strict": true, "parameters": {"type": "object", "properties": {"x": {"type": "number", "minimum": 1}}}}},
        {"type": "custom", "custom": {"name": "e", "format": {"type": "grammar", "grammar": {"definition": "start: x"}}}}],
        "parallel_tool_calls": false})),
    );
    assert_eq!(
        out["tools"][0],
        json!({"name": "a", "description": "d", "input_schema": {"type": "object", "properties": {"x": {"type": "number", "minimum": 1}}}})
    );
    assert_eq!(out["tools"][1]["input_schema"], json!({"type": "object", "properties": {}}));
    assert_eq!(
        out["tools"][2],
        json!({"name": "c", "input_schema": {"type": "object", "properties": {}}, "cache_control": {"type": "ephemeral"}})
    );
    assert_eq!(
        out["tools"][3],
        json!({"name": "d", "strict": true, "input_schema": {"type": "object", "properties": {"x": {"type": "number"}}, "additionalProperties": false}})
    );
    assert_eq!(out["tools"][4]["input_schema"]["required"], json!(["input"]));
    assert_eq!(out["tool_choice"], json!({"type": "auto", "disable_parallel_tool_use": true}));
    let strict = json!({"tools": [{"type": "function", "function": {"name": "d", "strict": true, "parameters": {"type": "object"}}}]});
    assert_eq!(dropped(OLD, &strict), ["strict"]);
}

#[test]
fn the_choice_among_tools_is_kept_where_the_model_allows_it() {
    let tools = json!([{"type": "function", "function": {"name": "a"}}, {"type": "function", "function": {"name": "b"}}]);
    let choose = |model, choice: Value| {
        let (out, translated) =
            request(model, &plain(&json!({"tools": tools, "tool_choice": choice}))).unwrap();
        (out["tool_choice"].clone(), out["tools"].as_array().unwrap().len(), translated.dropped.is_empty())
    };
    for (choice, expected, count) in [
        (json!("auto"), json!({"type": "auto"}), 2),
        (json!("none"), json!({"type": "none"}), 2),
        (json!("required"), json!({"type": "any"}), 2),
        (json!({"type": "function", "function": {"name": "b"}}), json!({"type": "tool", "name": "b"}), 2),
        (
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "a"}}]}}),
            json!({"type": "any"}),
            1,
        ),
        (Value::Null, Value::Null, 2),
    ] {
        assert_eq!(choose(SONNET, choice.clone()), (expected, count, true), "{choice}");
    }
    assert_eq!(choose("claude-opus-5-5", json!("required")), (json!({"type": "auto"}), 2, false));
    let thinking = plain(&json!({"tools": tools, "tool_choice": "required", "reasoning_effort": "high"}));
    assert_eq!(sent(SONNET, thinking)["tool_choice"], json!({"type": "auto"}));
    assert_eq!(sent(SONNET, plain(&json!({"tool_choice": "required"}))).get("tool_choice"), None);
}

#[test]
fn sampling_is_clamped_and_left_out_where_it_is_refused() {
    let both = json!({"temperature": 1.7, "top_p": 0.9});
    let out = sent(OLD, plain(&both));
    assert_eq!((&out["temperature"], &out["top_p"]), (&json!(1), &json!(0.9)));
    let out = sent(SONNET, plain(&both));
    assert_eq!((&out["temperature"], out.get("top_p")), (&json!(1), None));
    assert_eq!(dropped(SONNET, &both), ["top_p"]);
    assert_eq!(dropped(OPUS, &both), ["temperature", "top_p"]);
    assert_eq!(dropped(OPUS, &json!({"temperature": 1, "top_p": 1.0})), [""; 0]);
    assert_eq!(sent(SONNET, plain(&json!({"top_p": 0.5, "top_k": 3})))["top_p"], json!(0.5));
    assert_eq!(sent(OPUS, plain(&both)).get("temperature"), None);
    assert_eq!(dropped(SONNET, &json!({"temperature": 0.2, "reasoning_effort": "high"})), ["temperature"]);
}

#[test]
fn token_limits_are_the_clients_or_the_models() {
    for (model, extra, expected) in [
        (SONNET, json!({"max_tokens": 5}), 5),
        (SONNET, json!({"max_tokens": 5, "max_completion_tokens": 6}), 6),
        (SONNET, json!({"max_tokens": null}), 64_000),
        (OLD, json!({}), 8192),
        ("glm-5", json!({}), 4096),
    ] {
        assert_eq!(sent(model, plain(&extra))["max_tokens"], expected, "{model} {extra}");
    }
    let mut out = Vec::new();
    let options = TranslateOptions { model: SONNET, default_max_tokens: Some(99) };
    translate_request(plain(&json!({})).to_string().as_bytes(), &options, &mut out).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap()["max_tokens"], 99);
}

#[test]
fn effort_is_said_in_the_models_own_words() {
    for (model, effort, thinking, output_config) in [
        (OPUS, "minimal", json!({"type": "adaptive"}), json!({"effort": "low"})),
        (OPUS, "xhigh", json!({"type": "adaptive"}), json!({"effort": "xhigh"})),
        ("claude-opus-4-6", "xhigh", json!({"type": "adaptive"}), json!({"effort": "high"})),
        (OPUS, "none", json!({"type": "disabled"}), Value::Null),
        (SONNET, "medium", json!({"type": "enabled", "budget_tokens": 2048}), Value::Null),
        (SONNET, "none", Value::Null, Value::Null),
        (OLD, "high", Value::Null, Value::Null),
        ("claude-opus-5-5", "none", Value::Null, Value::Null),
    ] {
        let out = sent(model, plain(&json!({"reasoning_effort": effort})));
        assert_eq!(
            (&out["thinking"], &out["output_config"]),
            (&thinking, &output_config),
            "{model} {effort}"
        );
    }
    assert_eq!(dropped(OLD, &json!({"reasoning_effort": "high"})), ["reasoning_effort"]);
}

#[test]
fn thinking_never_costs_more_than_the_client_allowed() {
    let out = sent(SONNET, plain(&json!({"reasoning_effort": "high", "max_tokens": 3000})));
    assert_eq!((&out["max_tokens"], &out["thinking"]["budget_tokens"]), (&json!(3000), &json!(1500)));
    let small = json!({"reasoning_effort": "high", "max_tokens": 500});
    assert_eq!(sent(SONNET, plain(&small)).get("thinking"), None);
    assert_eq!(dropped(SONNET, &small), ["reasoning_effort"]);
    let out = sent("kimi-k2", plain(&json!({"reasoning_effort": "high"})));
    assert_eq!((&out["max_tokens"], &out["thinking"]["budget_tokens"]), (&json!(8192), &json!(4096)));
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
fn formats_are_enforced_by_the_means_each_model_has() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}});
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}}});
    let out = sent(SONNET, plain(&format));
    assert_eq!(
        out["output_config"]["format"],
        json!({"type": "json_schema", "schema":
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": false}})
    );
    let (out, translated) = request(OLD, &plain(&format)).unwrap();
    assert!(translated.back.json_tool);
    assert_eq!(out["tools"][0]["input_schema"], schema);
    assert_eq!(out["tool_choice"], json!({"type": "tool", "name": JSON_TOOL}));
    let out = sent(SONNET, plain(&json!({"response_format": {"type": "json_object"}})));
    assert!(out["system"][0]["text"].as_str().unwrap().contains("JSON"));
    assert_eq!(sent(SONNET, plain(&json!({"response_format": {"type": "text"}}))).get("system"), None);
}

#[test]
fn small_things_are_kept_or_named() {
    let out =
        sent(SONNET, plain(&json!({"stop": ["\n\n", "END", " "], "user": "u_1", "service_tier": "default"})));
    assert_eq!(out["stop_sequences"], json!(["END"]));
    assert_eq!(out["metadata"], json!({"user_id": "u_1"}));
    assert_eq!(out["service_tier"], "standard_only");
    assert_eq!(sent(SONNET, plain(&json!({"stop": "END"})))["stop_sequences"], json!(["END"]));
    assert_eq!(dropped(SONNET, &json!({"user": "a@b.c"})), ["user"]);
    assert_eq!(dropped(SONNET, &json!({"user": "+49 170 1234567"})), ["user"]);
    assert_eq!(
        dropped(
            SONNET,
            &json!({"seed": 3, "logprobs": true, "store": false, "presence_penalty": 0.0, "logit_bias": {},
            "metadata": {"a": "b"}, "verbosity": "low", "min_p": 0.1})
        ),
        ["logprobs", "seed", "verbosity", "other"]
    );
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
