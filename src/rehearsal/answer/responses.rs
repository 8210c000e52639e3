//! OpenAI Responses: the whole object, the full sequence of events, and the token count.

use serde_json::{Value, json};

use super::compose::{self, Choice, Finish, Reply, Tool, Wish};
use super::{Answer, Ask, Event, Part, Setting, identifier};

const CONTENT: &[&str] = &["model", "input", "instructions", "tools", "tool_choice", "text"];

pub(super) fn answer(ask: &Ask, json: &Value, setting: &Setting<'_>) -> Answer {
    let reply = compose::reply(&wish(json), setting.seed, setting.tokens);
    let answer = if ask.stream {
        stream(ask, json, &reply, setting)
    } else {
        Answer::json(200, &finished(ask, json, &reply, setting))
    };
    answer.costing(reply.tokens_in, reply.tokens_out)
}

/// `POST /v1/responses/input_tokens`.
pub(super) fn count(_: &Ask, json: &Value, _: &Setting<'_>) -> Answer {
    let reply = compose::reply(&wish(json), 0, 0);
    Answer::json(200, &json!({"object": "response.input_tokens", "input_tokens": reply.tokens_in}))
}

fn wish(json: &Value) -> Wish {
    let items = json["input"].as_array().map(Vec::as_slice).unwrap_or_default();
    let output = items.last().filter(|item| item["type"] == "function_call_output");
    let speaker = items.iter().rfind(|item| item["role"] == "user");
    let last_user = match (&json["input"], output) {
        (Value::String(text), _) => text.clone(),
        (_, Some(output)) => compose::content_text(output.get("output")),
        _ => speaker.map(|item| compose::content_text(item.get("content"))).unwrap_or_default(),
    };
    let tools = json["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let format = &json["text"]["format"];
    Wish {
        last_user,
        after_tool: output.is_some(),
        tools: tools.iter().filter_map(tool).collect(),
        choice: match &json["tool_choice"] {
            Value::String(word) if word == "none" => Choice::Never,
            Value::String(word) if word == "required" => Choice::Any,
            Value::Object(choice) => {
                let named = choice.get("name").and_then(Value::as_str);
                named.map_or(Choice::Auto, |name| Choice::Named(name.to_owned()))
            }
            _ => Choice::Auto,
        },
        one_call_at_most: json["parallel_tool_calls"] == json!(false),
        schema: match format["type"].as_str() {
            Some("json_schema") => Some(format["schema"].clone()),
            Some("json_object") => Some(json!({"type": "object"})),
            _ => None,
        },
        max_tokens: json["max_output_tokens"].as_u64(),
        stop: Vec::new(),
        prompt_bytes: ["input", "instructions", "tools"]
            .iter()
            .map(|name| compose::text_bytes(&json[*name]))
            .sum(),
        hash: compose::hash(json, CONTENT),
    }
}

fn tool(tool: &Value) -> Option<Tool> {
    if tool["type"] != "function" {
        return None;
    }
    let schema = tool.get("parameters").cloned().unwrap_or_else(|| json!({"type": "object"}));
    Some(Tool { name: tool["name"].as_str()?.to_owned(), schema })
}

/// The response object in a given state.
fn response(
    ask: &Ask,
    json: &Value,
    reply: &Reply,
    setting: &Setting<'_>,
    status: &str,
    output: Value,
) -> Value {
    let or = |name: &str, usual: Value| json.get(name).filter(|v| !v.is_null()).cloned().unwrap_or(usual);
    let over = status == "completed" || status == "incomplete";
    let mut response = json!({
        "id": identifier("resp_", setting.seed, reply.hash, 0), "object": "response", "created_at": setting.unix_s,
        "status": status, "background": false, "completed_at": if over { json!(setting.unix_s) } else { Value::Null },
        "error": null, "incomplete_details": null, "instructions": or("instructions", Value::Null),
        "max_output_tokens": or("max_output_tokens", Value::Null), "max_tool_calls": null, "model": ask.model,
        "output": output, "parallel_tool_calls": or("parallel_tool_calls", json!(true)),
        "previous_response_id": or("previous_response_id", Value::Null), "prompt_cache_key": null,
        "reasoning": {"effort": null, "summary": null}, "safety_identifier": null, "service_tier": "default",
        "store": or("store", json!(true)), "temperature": or("temperature", json!(1.0)),
        "text": or("text", json!({"format": {"type": "text"}, "verbosity": "medium"})),
        "tool_choice": or("tool_choice", json!("auto")), "tools": or("tools", json!([])), "top_logprobs": 0,
        "top_p": or("top_p", json!(1.0)), "truncation": or("truncation", json!("disabled")), "usage": null,
        "user": or("user", Value::Null), "metadata": or("metadata", json!({})),
    });
    if over {
        response["usage"] = json!({
            "input_tokens": reply.tokens_in, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": reply.tokens_out, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": reply.tokens_in + reply.tokens_out,
        });
    }
    if status == "incomplete" {
        response["incomplete_details"] = json!({"reason": "max_output_tokens"});
    }
    response
}

fn final_status(reply: &Reply) -> &'static str {
    if reply.finish == Finish::Length { "incomplete" } else { "completed" }
}

fn finished(ask: &Ask, json: &Value, reply: &Reply, setting: &Setting<'_>) -> Value {
    response(ask, json, reply, setting, final_status(reply), output(reply, setting))
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

fn message_id(reply: &Reply, setting: &Setting<'_>) -> String {
    identifier("msg_", setting.seed, reply.hash, 100)
}

fn call_item(reply: &Reply, setting: &Setting<'_>, n: usize, status: &str, arguments: &str) -> Value {
    json!({
        "id": identifier("fc_", setting.seed, reply.hash, 200 + n as u64), "type": "function_call", "status": status,
        "arguments": arguments, "call_id": identifier("call_", setting.seed, reply.hash, 1 + n as u64),
        "name": reply.calls[n].name,
    })
}

fn message_item(reply: &Reply, setting: &Setting<'_>, status: &str, content: Value) -> Value {
    json!({"id": message_id(reply, setting), "type": "message", "status": status, "role": "assistant", "content": content})
}

fn output(reply: &Reply, setting: &Setting<'_>) -> Value {
    if reply.calls.is_empty() {
        let content = json!([text_part(&reply.text())]);
        return json!([message_item(reply, setting, final_status(reply), content)]);
    }
    let item = |n: usize| call_item(reply, setting, n, final_status(reply), &reply.calls[n].arguments());
    (0..reply.calls.len()).map(item).collect()
}

fn stream(ask: &Ask, json: &Value, reply: &Reply, setting: &Setting<'_>) -> Answer {
    let mut events = Vec::new();
    let mut say = |part: Part, kind: &str, members: Value| {
        let mut event = json!({"type": kind});
        if let (Some(event), Value::Object(members)) = (event.as_object_mut(), members) {
            event.extend(members);
        }
        event["sequence_number"] = json!(events.len());
        events.push(Event::named(part, kind, &event));
    };
    let begun = response(ask, json, reply, setting, "in_progress", json!([]));
    say(Part::Lead, "response.created", json!({"response": begun}));
    say(Part::Lead, "response.in_progress", json!({"response": begun}));
    if reply.calls.is_empty() {
        let id = message_id(reply, setting);
        let opening = message_item(reply, setting, "in_progress", json!([]));
        say(Part::Lead, "response.output_item.added", json!({"output_index": 0, "item": opening}));
        let at = |mut members: Value| {
            members["item_id"] = json!(id);
            members["output_index"] = json!(0);
            members["content_index"] = json!(0);
            members
        };
        say(Part::Lead, "response.content_part.added", at(json!({"part": text_part("")})));
        for piece in &reply.text {
            say(Part::Content, "response.output_text.delta", at(json!({"delta": piece, "logprobs": []})));
        }
        let text = reply.text();
        say(Part::Tail, "response.output_text.done", at(json!({"text": text, "logprobs": []})));
        say(Part::Tail, "response.content_part.done", at(json!({"part": text_part(&text)})));
        let done = message_item(reply, setting, final_status(reply), json!([text_part(&text)]));
        say(Part::Tail, "response.output_item.done", json!({"output_index": 0, "item": done}));
    }
    for (n, call) in reply.calls.iter().enumerate() {
        let opening = call_item(reply, setting, n, "in_progress", "");
        let id = opening["id"].clone();
        say(Part::Lead, "response.output_item.added", json!({"output_index": n, "item": opening}));
        for piece in &call.arguments {
            let delta = json!({"item_id": id, "output_index": n, "delta": piece});
            say(Part::Content, "response.function_call_arguments.delta", delta);
        }
        let arguments = call.arguments();
        let done = json!({"item_id": id, "output_index": n, "name": call.name, "arguments": arguments});
        say(Part::Tail, "response.function_call_arguments.done", done);
        let item = call_item(reply, setting, n, final_status(reply), &arguments);
        say(Part::Tail, "response.output_item.done", json!({"output_index": n, "item": item}));
    }
    let end = format!("response.{}", final_status(reply));
    say(Part::Terminal, &end, json!({"response": finished(ask, json, reply, setting)}));
    Answer::stream(events)
}
