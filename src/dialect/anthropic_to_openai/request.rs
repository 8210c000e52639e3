//! The request: its members, its tools, and everything that is not the conversation.

use super::messages;
use super::model::Model;
use crate::dialect::json::{self, Kind, Raw, push_number, push_string};
use crate::dialect::translate::{Dropped, TranslateError};

/// What the route adds to the request.
#[derive(Clone, Copy, Debug)]
pub struct TranslateOptions<'o> {
    /// The model to ask, as the provider calls it.
    pub model: &'o str,
}

/// What the translation of one request leaves for the response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translated {
    /// Parameters that were left out.
    pub dropped: Dropped,
    /// The client asked for a stream. Its usage is always asked for, since the client's dialect always has it.
    pub stream: bool,
}

/// The members of a Messages request that the translation reads; empty tokens where there are none.
#[derive(Default)]
struct Request<'j> {
    system: Raw<'j>,
    messages: Raw<'j>,
    max_tokens: Raw<'j>,
    stream: Raw<'j>,
    stop_sequences: Raw<'j>,
    temperature: Raw<'j>,
    top_p: Raw<'j>,
    tools: Raw<'j>,
    tool_choice: Raw<'j>,
    thinking: Raw<'j>,
    output_config: Raw<'j>,
    metadata: Raw<'j>,
    service_tier: Raw<'j>,
}

/// Most stop sequences that OpenAI takes.
const MAX_STOPS: usize = 4;
/// Longest `user` that is sent; OpenAI refuses longer identifiers.
const MAX_USER: usize = 64;

/// Appends the OpenAI Chat request for the Anthropic Messages request in `body`.
///
/// # Errors
/// When `body` is not one JSON object, or says something that cannot be said to the target. `out` then holds a part.
pub fn translate_request(
    body: &[u8],
    options: &TranslateOptions<'_>,
    out: &mut Vec<u8>,
) -> Result<Translated, TranslateError> {
    let root = Raw::of(body);
    if !json::valid(body) || root.kind() != Some(Kind::Object) {
        return Err(TranslateError::client(
            "",
            "The body is not one JSON object in UTF-8; check it with a JSON parser.",
        ));
    }
    let mut dropped = Dropped::default();
    let request = read(root, &mut dropped);
    let model = Model::of(options.model);
    let stream = request.stream.bool() == Some(true);

    out.reserve(body.len() + 256);
    out.extend_from_slice(b"{\"model\":");
    push_string(out, options.model);
    push_limit(request.max_tokens, model, out)?;
    if stream {
        out.extend_from_slice(b",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    }
    messages::push(request.system, request.messages, &mut dropped, out)?;
    let count = push_tools(request.tools, &mut dropped, out)?;
    if count > 0 {
        push_choice(request.tool_choice, out);
    }
    push_reasoning(&request, model, &mut dropped, out);
    push_format(request.output_config, out);
    push_sampling(&request, model, &mut dropped, out);
    push_small(&request, &mut dropped, out);
    out.push(b'}');
    Ok(Translated { dropped, stream })
}

fn read<'j>(root: Raw<'j>, dropped: &mut Dropped) -> Request<'j> {
    let mut request = Request::default();
    root.members(|name, value| {
        let slot = match name {
            b"system" => &mut request.system,
            b"messages" => &mut request.messages,
            b"max_tokens" => &mut request.max_tokens,
            b"stream" => &mut request.stream,
            b"stop_sequences" => &mut request.stop_sequences,
            b"temperature" => &mut request.temperature,
            b"top_p" => &mut request.top_p,
            b"tools" => &mut request.tools,
            b"tool_choice" => &mut request.tool_choice,
            b"thinking" => &mut request.thinking,
            b"output_config" => &mut request.output_config,
            b"metadata" => &mut request.metadata,
            b"service_tier" => &mut request.service_tier,
            // Caching is automatic there, and diagnostics are the provider's own.
            b"model" | b"cache_control" | b"diagnostics" => return,
            _ => {
                if !value.is_empty() {
                    dropped.add(std::str::from_utf8(name).unwrap_or("other"));
                }
                return;
            }
        };
        *slot = value;
    });
    request
}

fn push_limit(limit: Raw<'_>, model: Model, out: &mut Vec<u8>) -> Result<(), TranslateError> {
    let Some(limit) = limit.count().filter(|&limit| limit > 0) else {
        return Err(TranslateError::client("max_tokens", "max_tokens is needed, as a whole number above 0."));
    };
    let name: &[u8] =
        if model.completion_limit { b",\"max_completion_tokens\":" } else { b",\"max_tokens\":" };
    out.extend_from_slice(name);
    push_number(out, limit);
    Ok(())
}

/// Appends `tools`; returns how many there are.
fn push_tools(tools: Raw<'_>, dropped: &mut Dropped, out: &mut Vec<u8>) -> Result<usize, TranslateError> {
    let mut count = 0;
    for (at, tool) in tools.items().enumerate() {
        let [kind, name, description, schema, strict] =
            tool.pick(["type", "name", "description", "input_schema", "strict"]);
        if !kind.is_null() && !kind.is("custom") {
            return Err(TranslateError::target(
                format!("tools[{at}].type"),
                "Tools that Anthropic runs or defines itself cannot be given to other models.",
            ));
        }
        if name.kind() != Some(Kind::String) || schema.kind() != Some(Kind::Object) {
            return Err(TranslateError::client(
                format!("tools[{at}]"),
                "A tool needs a name and an input_schema.",
            ));
        }
        out.extend_from_slice(if count == 0 { b",\"tools\":[" } else { b"," });
        out.extend_from_slice(b"{\"type\":\"function\",\"function\":{\"name\":");
        out.extend_from_slice(name.bytes());
        if description.kind() == Some(Kind::String) {
            out.extend_from_slice(b",\"description\":");
            out.extend_from_slice(description.bytes());
        }
        out.extend_from_slice(b",\"parameters\":");
        out.extend_from_slice(schema.bytes());
        out.extend_from_slice(b"}}");
        count += 1;
        if strict.bool() == Some(true) {
            // Strict means more there: every member must be required. A schema that is fine here would be refused.
            dropped.add("strict");
        }
    }
    if count > 0 {
        out.push(b']');
    }
    Ok(count)
}

fn push_choice(choice: Raw<'_>, out: &mut Vec<u8>) {
    let [kind, name, single] = choice.pick(["type", "name", "disable_parallel_tool_use"]);
    match kind.content() {
        Some(b"auto") => out.extend_from_slice(b",\"tool_choice\":\"auto\""),
        Some(b"none") => out.extend_from_slice(b",\"tool_choice\":\"none\""),
        Some(b"any") => out.extend_from_slice(b",\"tool_choice\":\"required\""),
        Some(b"tool") if name.kind() == Some(Kind::String) => {
            out.extend_from_slice(b",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":");
            out.extend_from_slice(name.bytes());
            out.extend_from_slice(b"}}");
        }
        _ => {}
    }
    if single.bool() == Some(true) {
        out.extend_from_slice(b",\"parallel_tool_calls\":false");
    }
}

fn push_reasoning(request: &Request<'_>, model: Model, dropped: &mut Dropped, out: &mut Vec<u8>) {
    let [kind, budget] = request.thinking.pick(["type", "budget_tokens"]);
    let effort = request.output_config.get("effort").unwrap_or_default();
    let level = match effort.content() {
        Some(b"low") => Some("low"),
        Some(b"medium") => Some("medium"),
        Some(b"high" | b"xhigh" | b"max") => Some("high"),
        _ if kind.is("disabled") => model.can_stop_reasoning.then_some("none"),
        _ => budget.count().map(|budget| match budget {
            ..=1024 => "low",
            1025..=8192 => "medium",
            _ => "high",
        }),
    };
    match level {
        Some(level) if model.effort => {
            out.extend_from_slice(b",\"reasoning_effort\":");
            push_string(out, level);
        }
        Some(_) => dropped.add("reasoning_effort"),
        None => {}
    }
}

fn push_format(output_config: Raw<'_>, out: &mut Vec<u8>) {
    let [kind, schema] = output_config.get("format").unwrap_or_default().pick(["type", "schema"]);
    if kind.is("json_schema") && schema.kind() == Some(Kind::Object) {
        out.extend_from_slice(
            b",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"schema\":",
        );
        out.extend_from_slice(schema.bytes());
        out.extend_from_slice(b"}}");
    }
}

fn push_sampling(request: &Request<'_>, model: Model, dropped: &mut Dropped, out: &mut Vec<u8>) {
    for (name, value) in [("temperature", request.temperature), ("top_p", request.top_p)] {
        match value.number() {
            None => {}
            Some(number) if model.reasons => {
                if number != 1.0 {
                    dropped.add(name);
                }
            }
            Some(_) => {
                out.extend_from_slice(b",\"");
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\":");
                out.extend_from_slice(value.bytes());
            }
        }
    }
    let mut stops = 0;
    for stop in request.stop_sequences.items().filter(|stop| stop.kind() == Some(Kind::String)) {
        if model.reasons || stops == MAX_STOPS {
            dropped.add("stop");
            break;
        }
        out.extend_from_slice(if stops == 0 { b",\"stop\":[" } else { b"," });
        out.extend_from_slice(stop.bytes());
        stops += 1;
    }
    if stops > 0 {
        out.push(b']');
    }
}

fn push_small(request: &Request<'_>, dropped: &mut Dropped, out: &mut Vec<u8>) {
    match request.metadata.get("user_id").and_then(Raw::content) {
        Some(user) if user.len() <= MAX_USER => {
            out.extend_from_slice(b",\"user\":\"");
            out.extend_from_slice(user);
            out.push(b'"');
        }
        Some(_) => dropped.add("user"),
        None => {}
    }
    if request.service_tier.is("standard_only") {
        out.extend_from_slice(b",\"service_tier\":\"default\"");
    }
}
