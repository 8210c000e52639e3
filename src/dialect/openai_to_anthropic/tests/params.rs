//! Everything beside the conversation, and what is refused.

use super::*;
use crate::dialect::error::GatewayError;

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
