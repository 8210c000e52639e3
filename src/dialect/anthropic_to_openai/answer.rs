//! A whole answer, from an OpenAI chat completion to an Anthropic message.

use crate::dialect::json::{self, Cursor, Kind, Raw, push_number, push_string};
use crate::dialect::usage::{self, Usage};

/// Why an upstream answer could not be translated: it is not a whole completion. The provider is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotACompletion;

/// Appends the Anthropic message for the chat completion in `body`.
///
/// # Errors
/// When `body` is not one whole completion with a choice. `out` is then unchanged.
pub fn translate_answer(body: &[u8], out: &mut Vec<u8>) -> Result<Usage, NotACompletion> {
    if !json::valid(body) {
        return Err(NotACompletion);
    }
    let [id, model, choices, counts] = Raw::of(body).pick(["id", "model", "choices", "usage"]);
    let choice = choices.items().next().ok_or(NotACompletion)?;
    let [message, finish] = choice.pick(["message", "finish_reason"]);
    if message.kind() != Some(Kind::Object) {
        return Err(NotACompletion);
    }
    let usage = usage::read_openai(&mut Cursor::new(counts.bytes())).unwrap_or_default();
    let [content, refusal, tool_calls, function_call] =
        message.pick(["content", "refusal", "tool_calls", "function_call"]);

    out.reserve(body.len() + 256);
    out.extend_from_slice(b"{\"id\":\"");
    push_message_id(id, out);
    out.extend_from_slice(b"\",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    out.extend_from_slice(if model.kind() == Some(Kind::String) { model.bytes() } else { b"\"\"" });
    out.extend_from_slice(b",\"content\":[");
    let mut blocks = 0;
    for text in [content, refusal].into_iter().chain(content.items().filter_map(|part| part.get("text"))) {
        if text.kind() == Some(Kind::String) && !text.is_empty() {
            separate(&mut blocks, out);
            out.extend_from_slice(b"{\"type\":\"text\",\"text\":");
            out.extend_from_slice(text.bytes());
            out.push(b'}');
        }
    }
    let cut = finish.is("length");
    let mut calls = 0;
    for call in tool_calls.items() {
        let [id, function, custom] = call.pick(["id", "function", "custom"]);
        calls += usize::from(push_call(id, function, custom, cut, &mut blocks, out));
    }
    if !function_call.is_empty() {
        calls += usize::from(push_call(Raw::default(), function_call, Raw::default(), cut, &mut blocks, out));
    }
    out.extend_from_slice(b"],\"stop_reason\":\"");
    let refused = !refusal.is_empty();
    out.extend_from_slice(stop_reason(finish.content().unwrap_or(b""), calls > 0, refused).as_bytes());
    out.extend_from_slice(b"\",\"stop_sequence\":null,\"usage\":");
    push_usage(&usage, out);
    out.push(b'}');
    Ok(usage)
}

/// Appends the message's id: the completion's own, respelled, so that it can be found again.
pub(super) fn push_message_id(id: Raw<'_>, out: &mut Vec<u8>) {
    let content = id.content().unwrap_or(b"");
    out.extend_from_slice(b"msg_");
    out.extend_from_slice(content.strip_prefix(b"chatcmpl-").unwrap_or(content));
}

/// Anthropic's word for a finish reason.
pub(super) fn stop_reason(finish: &[u8], has_calls: bool, refused: bool) -> &'static str {
    match finish {
        b"length" | b"max_tokens" => "max_tokens",
        b"content_filter" => "refusal",
        _ if refused => "refusal",
        // Some servers say `stop` beside their calls.
        _ if has_calls => "tool_use",
        _ => "end_turn",
    }
}

/// Appends a usage object in Anthropic's words.
pub(super) fn push_usage(usage: &Usage, out: &mut Vec<u8>) {
    let mut member = |name: &str, count: u64| {
        out.extend_from_slice(name.as_bytes());
        push_number(out, count);
    };
    member("{\"input_tokens\":", usage.input);
    member(",\"cache_creation_input_tokens\":", usage.cache_write);
    member(",\"cache_read_input_tokens\":", usage.cache_read);
    member(",\"output_tokens\":", usage.output);
    out.push(b'}');
}

fn separate(blocks: &mut usize, out: &mut Vec<u8>) {
    if *blocks > 0 {
        out.push(b',');
    }
    *blocks += 1;
}

/// Appends a call as a `tool_use` block; false when the answer was cut inside it, so that it must not be run.
fn push_call(
    id: Raw<'_>,
    function: Raw<'_>,
    custom: Raw<'_>,
    cut: bool,
    blocks: &mut usize,
    out: &mut Vec<u8>,
) -> bool {
    let (body, is_custom) = if custom.is_null() { (function, false) } else { (custom, true) };
    let [name, arguments, text] = body.pick(["name", "arguments", "input"]);
    if name.kind() != Some(Kind::String) {
        return false;
    }
    let mut input = Vec::new();
    if is_custom {
        input.extend_from_slice(b"{\"input\":");
        input.extend_from_slice(if text.kind() == Some(Kind::String) { text.bytes() } else { b"\"\"" });
        input.push(b'}');
    } else if !push_input(arguments, cut, &mut input) {
        return false;
    }
    separate(blocks, out);
    out.extend_from_slice(b"{\"type\":\"tool_use\",\"id\":");
    if id.kind() == Some(Kind::String) && !id.is_empty() {
        out.extend_from_slice(id.bytes());
    } else {
        push_string(out, &format!("call_{blocks}"));
    }
    out.extend_from_slice(b",\"name\":");
    out.extend_from_slice(name.bytes());
    out.extend_from_slice(b",\"input\":");
    out.extend_from_slice(&input);
    out.push(b'}');
    true
}

/// Appends arguments as an object. Text that is none is kept under `_raw`, where the tool can complain about it; in an
/// answer that was cut it is only the beginning of one, and false is given.
fn push_input(arguments: Raw<'_>, cut: bool, out: &mut Vec<u8>) -> bool {
    let text = match arguments.kind() {
        Some(Kind::Object) => {
            out.extend_from_slice(arguments.bytes());
            return true;
        }
        _ => arguments.text().unwrap_or_default(),
    };
    push_object(&text, cut, out)
}

/// Appends the text of arguments as an object, by the rules of [`push_input`].
pub(super) fn push_object(text: &str, cut: bool, out: &mut Vec<u8>) -> bool {
    let trimmed = text.trim();
    if trimmed.is_empty() && !cut {
        out.extend_from_slice(b"{}");
    } else if trimmed.starts_with('{') && json::valid(trimmed.as_bytes()) {
        out.extend_from_slice(trimmed.as_bytes());
    } else if cut {
        return false;
    } else {
        out.extend_from_slice(b"{\"_raw\":");
        push_string(out, text);
        out.push(b'}');
    }
    true
}
