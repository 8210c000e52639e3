//! OpenAI Chat Completions.

use serde_json::{Value, json};

use super::compose::{self, Choice, Finish, Reply, Tool, Wish};
use super::{Answer, Ask, Event, Part, Setting, errors, identifier};

/// What decides the content of an answer.
const CONTENT: &[&str] =
    &["model", "messages", "tools", "tool_choice", "response_format", "stop", "functions"];

pub(super) fn answer(ask: &Ask, json: &Value, setting: &Setting<'_>) -> Answer {
    let Some(messages) = json["messages"].as_array() else {
        return errors::invalid(
            ask,
            400,
            "'messages' must be an array.",
            Some("messages"),
            Some("invalid_type"),
        );
    };
    if messages.is_empty() {
        let say = "Invalid 'messages': empty array. Expected an array with minimum length 1.";
        return errors::invalid(ask, 400, say, Some("messages"), Some("empty_array"));
    }
    let reply = compose::reply(&wish(json, messages), setting.seed, setting.tokens);
    let choices = json["n"].as_u64().unwrap_or(1).clamp(1, 16);
    let usage = usage(&reply, choices);
    let (tokens_in, tokens_out) = (reply.tokens_in, reply.tokens_out * choices);
    let answer = if ask.stream {
        let wants_usage = json["stream_options"]["include_usage"].as_bool().unwrap_or(false);
        stream(ask, &reply, choices, wants_usage.then_some(&usage), setting)
    } else {
        whole(ask, &reply, choices, &usage, setting)
    };
    answer.costing(tokens_in, tokens_out)
}

fn wish(json: &Value, messages: &[Value]) -> Wish {
    let role = |message: &Value| message["role"].as_str().unwrap_or("").to_owned();
    let last_is = |wanted: &str| messages.last().is_some_and(|last| role(last) == wanted);
    let after_tool = last_is("tool") || last_is("function");
    let speaker = if after_tool { messages.last() } else { messages.iter().rfind(|m| role(m) == "user") };
    let tools = json["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let format = &json["response_format"];
    Wish {
        last_user: speaker.map(|message| compose::content_text(message.get("content"))).unwrap_or_default(),
        after_tool,
        tools: tools.iter().filter_map(tool).collect(),
        choice: choice(&json["tool_choice"]),
        one_call_at_most: json["parallel_tool_calls"] == json!(false),
        schema: match format["type"].as_str() {
            Some("json_schema") => Some(format["json_schema"]["schema"].clone()),
            Some("json_object") => {
                Some(json!({"type": "object", "required": ["answer"], "properties": {"answer": {}}}))
            }
            _ => None,
        },
        max_tokens: json["max_completion_tokens"].as_u64().or_else(|| json["max_tokens"].as_u64()),
        stop: stops(&json["stop"]),
        prompt_bytes: compose::text_bytes(&json["messages"]) + compose::text_bytes(&json["tools"]),
        hash: compose::hash(json, CONTENT),
    }
}

pub(super) fn stops(stop: &Value) -> Vec<String> {
    match stop {
        Value::String(stop) => vec![stop.clone()],
        Value::Array(stops) => stops.iter().filter_map(|stop| stop.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

fn tool(tool: &Value) -> Option<Tool> {
    let function = tool.get("function").or_else(|| tool.get("custom"))?;
    let anything = json!({"type": "object"});
    let schema = function.get("parameters").cloned().unwrap_or(anything);
    Some(Tool { name: function["name"].as_str()?.to_owned(), schema })
}

fn choice(choice: &Value) -> Choice {
    match choice {
        Value::String(word) if word == "none" => Choice::Never,
        Value::String(word) if word == "required" => Choice::Any,
        Value::Object(_) => {
            match choice["function"]["name"].as_str().or_else(|| choice["custom"]["name"].as_str()) {
                Some(name) => Choice::Named(name.to_owned()),
                None => Choice::Auto,
            }
        }
        _ => Choice::Auto,
    }
}

fn usage(reply: &Reply, choices: u64) -> Value {
    let output = reply.tokens_out * choices;
    json!({
        "prompt_tokens": reply.tokens_in, "completion_tokens": output, "total_tokens": reply.tokens_in + output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    })
}

fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) => "stop",
        Finish::Length => "length",
        Finish::Tools => "tool_calls",
    }
}

fn whole(ask: &Ask, reply: &Reply, choices: u64, usage: &Value, setting: &Setting<'_>) -> Answer {
    let choice = |index: u64| {
        let content = if reply.calls.is_empty() { json!(reply.text()) } else { Value::Null };
        let mut message =
            json!({"role": "assistant", "content": content, "refusal": null, "annotations": []});
        if !reply.calls.is_empty() {
            let call = |(n, call): (usize, &compose::Call)| {
                json!({"id": call_id(setting, reply, n), "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments()}})
            };
            message["tool_calls"] = reply.calls.iter().enumerate().map(call).collect();
        }
        json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish_reason(&reply.finish)})
    };
    Answer::json(
        200,
        &json!({
            "id": identifier("chatcmpl-", setting.seed, reply.hash, 0), "object": "chat.completion",
            "created": setting.unix_s, "model": ask.model, "choices": (0..choices).map(choice).collect::<Vec<_>>(),
            "usage": usage, "service_tier": "default", "system_fingerprint": "fp_rehearsal",
        }),
    )
}

fn stream(ask: &Ask, reply: &Reply, choices: u64, usage: Option<&Value>, setting: &Setting<'_>) -> Answer {
    let id = identifier("chatcmpl-", setting.seed, reply.hash, 0);
    let chunk = |choices: Value, spent: Option<&Value>| {
        let mut chunk = json!({
            "id": id, "object": "chat.completion.chunk", "created": setting.unix_s, "model": ask.model,
            "service_tier": "default", "system_fingerprint": "fp_rehearsal", "choices": choices,
        });
        if usage.is_some() {
            chunk["usage"] = spent.cloned().unwrap_or(Value::Null);
        }
        chunk
    };
    let mut events = Vec::new();
    let mut say = |part: Part, index: u64, delta: Value, finish: Value| {
        let choice = json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        events.push(Event::data(part, &chunk(choice, None)));
    };
    for index in 0..choices {
        let content = if reply.calls.is_empty() { json!("") } else { Value::Null };
        say(
            Part::Lead,
            index,
            json!({"role": "assistant", "content": content, "refusal": null}),
            Value::Null,
        );
    }
    for piece in &reply.text {
        for index in 0..choices {
            say(Part::Content, index, json!({"content": piece}), Value::Null);
        }
    }
    for (n, call) in reply.calls.iter().enumerate() {
        for index in 0..choices {
            let opening = json!({"tool_calls": [{"index": n, "id": call_id(setting, reply, n), "type": "function",
                "function": {"name": call.name, "arguments": ""}}]});
            say(Part::Content, index, opening, Value::Null);
            for piece in &call.arguments {
                let delta = json!({"tool_calls": [{"index": n, "function": {"arguments": piece}}]});
                say(Part::Content, index, delta, Value::Null);
            }
        }
    }
    for index in 0..choices {
        say(Part::Tail, index, json!({}), json!(finish_reason(&reply.finish)));
    }
    if usage.is_some() {
        events.push(Event::data(Part::Tail, &chunk(json!([]), usage)));
    }
    events.push(Event::done());
    Answer::stream(events)
}

fn call_id(setting: &Setting<'_>, reply: &Reply, n: usize) -> String {
    identifier("call_", setting.seed, reply.hash, 1 + n as u64)
}
