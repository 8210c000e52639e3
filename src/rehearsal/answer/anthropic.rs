//! Anthropic Messages and `count_tokens`.

use serde_json::{Value, json};

use super::compose::{self, Choice, Finish, Reply, Tool, Wish};
use super::{Answer, Ask, Event, Part, Setting, errors, identifier};

const CONTENT: &[&str] =
    &["model", "system", "messages", "tools", "tool_choice", "stop_sequences", "output_config"];
/// A ping goes before the first content and then before every so many events.
const PING_EVERY: usize = 50;

pub(super) fn answer(ask: &Ask, json: &Value, setting: &Setting<'_>) -> Answer {
    if json.get("max_tokens").and_then(Value::as_u64).is_none() {
        return errors::missing(ask, "max_tokens");
    }
    let Some(messages) = json["messages"].as_array().filter(|messages| !messages.is_empty()) else {
        return errors::invalid(ask, 400, "messages: at least one message is required", None, None);
    };
    let reply = compose::reply(&wish(json, messages), setting.seed, setting.tokens);
    let answer = if ask.stream { stream(ask, &reply, setting) } else { whole(ask, &reply, setting) };
    answer.costing(reply.tokens_in, reply.tokens_out)
}

/// `POST /v1/messages/count_tokens`.
pub(super) fn count(ask: &Ask, json: &Value, _: &Setting<'_>) -> Answer {
    let Some(messages) = json["messages"].as_array() else {
        return errors::invalid(ask, 400, "messages: at least one message is required", None, None);
    };
    let reply = compose::reply(&wish(json, messages), 0, 0);
    Answer::json(200, &json!({"input_tokens": reply.tokens_in}))
}

fn wish(json: &Value, messages: &[Value]) -> Wish {
    let last = messages.last();
    let blocks = last.and_then(|last| last["content"].as_array());
    let result = blocks.and_then(|all| all.iter().find(|block| block["type"] == "tool_result"));
    let speaker = messages.iter().rfind(|message| message["role"] == "user");
    let tools = json["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let choice = &json["tool_choice"];
    let format = &json["output_config"]["format"];
    Wish {
        last_user: match result {
            Some(result) => compose::content_text(result.get("content")),
            None => speaker.map(|said| compose::content_text(said.get("content"))).unwrap_or_default(),
        },
        after_tool: result.is_some(),
        tools: tools.iter().filter_map(tool).collect(),
        choice: match (choice["type"].as_str(), choice["name"].as_str()) {
            (Some("none"), _) => Choice::Never,
            (Some("any"), _) => Choice::Any,
            (Some("tool"), Some(name)) => Choice::Named(name.to_owned()),
            _ => Choice::Auto,
        },
        one_call_at_most: choice["disable_parallel_tool_use"] == json!(true),
        schema: (format["type"] == "json_schema").then(|| format["schema"].clone()),
        max_tokens: json["max_tokens"].as_u64(),
        stop: super::chat::stops(&json["stop_sequences"]),
        prompt_bytes: ["system", "messages", "tools"]
            .iter()
            .map(|name| compose::text_bytes(&json[*name]))
            .sum(),
        hash: compose::hash(json, CONTENT),
    }
}

fn tool(tool: &Value) -> Option<Tool> {
    let schema = tool.get("input_schema")?.clone();
    Some(Tool { name: tool["name"].as_str()?.to_owned(), schema })
}

fn stop_reason(finish: &Finish) -> (&'static str, Value) {
    match finish {
        Finish::Stop => ("end_turn", Value::Null),
        Finish::StopSequence(stop) => ("stop_sequence", json!(stop)),
        Finish::Length => ("max_tokens", Value::Null),
        Finish::Tools => ("tool_use", Value::Null),
    }
}

fn usage(tokens_in: u64, tokens_out: u64) -> Value {
    json!({
        "input_tokens": tokens_in, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": tokens_out, "service_tier": "standard",
    })
}

fn message(ask: &Ask, reply: &Reply, setting: &Setting<'_>, content: Value, tokens_out: u64) -> Value {
    json!({
        "id": identifier("msg_01", setting.seed, reply.hash, 0), "type": "message", "role": "assistant",
        "model": ask.model, "content": content, "stop_reason": null, "stop_sequence": null,
        "usage": usage(reply.tokens_in, tokens_out),
    })
}

fn whole(ask: &Ask, reply: &Reply, setting: &Setting<'_>) -> Answer {
    let mut content = Vec::new();
    if !reply.text.is_empty() {
        content.push(json!({"type": "text", "text": reply.text()}));
    }
    for (n, call) in reply.calls.iter().enumerate() {
        let input: Value = serde_json::from_str(&call.arguments()).unwrap_or_else(|_| json!({}));
        let id = identifier("toolu_01", setting.seed, reply.hash, 1 + n as u64);
        content.push(json!({"type": "tool_use", "id": id, "name": call.name, "input": input}));
    }
    let mut message = message(ask, reply, setting, Value::Array(content), reply.tokens_out);
    let (reason, sequence) = stop_reason(&reply.finish);
    message["stop_reason"] = json!(reason);
    message["stop_sequence"] = sequence;
    Answer::json(200, &message)
}

fn stream(ask: &Ask, reply: &Reply, setting: &Setting<'_>) -> Answer {
    let mut events = Vec::new();
    let mut say = |part: Part, value: Value| {
        let name = value["type"].as_str().unwrap_or("").to_owned();
        events.push(Event::named(part, &name, &value));
    };
    let start = message(ask, reply, setting, json!([]), 1);
    say(Part::Lead, json!({"type": "message_start", "message": start}));
    let mut block = 0;
    if !reply.text.is_empty() || reply.calls.is_empty() {
        say(
            Part::Lead,
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        );
        say(Part::Lead, json!({"type": "ping"}));
        for (n, piece) in reply.text.iter().enumerate() {
            if n % PING_EVERY == PING_EVERY - 1 {
                say(Part::Lead, json!({"type": "ping"}));
            }
            let delta = json!({"type": "text_delta", "text": piece});
            say(Part::Content, json!({"type": "content_block_delta", "index": 0, "delta": delta}));
        }
        say(Part::Tail, json!({"type": "content_block_stop", "index": 0}));
        block = 1;
    }
    for (n, call) in reply.calls.iter().enumerate() {
        let index = block + n;
        let id = identifier("toolu_01", setting.seed, reply.hash, 1 + n as u64);
        let opening = json!({"type": "tool_use", "id": id, "name": call.name, "input": {}});
        say(Part::Lead, json!({"type": "content_block_start", "index": index, "content_block": opening}));
        let first = std::iter::once("");
        for piece in first.chain(call.arguments.iter().map(String::as_str).filter(|_| !is_empty(call))) {
            let delta = json!({"type": "input_json_delta", "partial_json": piece});
            say(Part::Content, json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        say(Part::Tail, json!({"type": "content_block_stop", "index": index}));
    }
    let (reason, sequence) = stop_reason(&reply.finish);
    say(
        Part::Tail,
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": {"input_tokens": reply.tokens_in, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0, "output_tokens": reply.tokens_out}}),
    );
    say(Part::Terminal, json!({"type": "message_stop"}));
    Answer::stream(events)
}

/// The provider sends no fragment at all for a call without arguments.
fn is_empty(call: &compose::Call) -> bool {
    call.arguments() == "{}"
}
