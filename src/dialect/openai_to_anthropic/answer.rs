//! A whole answer, from an Anthropic message to an OpenAI chat completion.
//!
//! Citations are left out: those with a URL come only from the provider's web search, which no translated request turns
//! on.

use super::{Back, JSON_TOOL};
use crate::dialect::json::{Cursor, Kind, Raw, push_escaped, push_number, push_string};
use crate::dialect::usage::{self, Usage};

/// Why an upstream answer could not be translated: it is not a whole message. The provider is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAMessage;

/// Appends the chat completion for the Anthropic message in `body`; `created_unix_s` is the time of the answer.
///
/// # Errors
/// When `body` is not one whole message: cut, an error object, something else. `out` is then unchanged.
pub fn translate_answer(
    body: &[u8],
    back: &Back,
    created_unix_s: u64,
    out: &mut Vec<u8>,
) -> Result<Usage, NotAMessage> {
    let root = Raw::of_valid(body);
    if !crate::dialect::json::valid(body) || root.kind() != Some(Kind::Object) {
        return Err(NotAMessage);
    }
    let [kind, id, model, content, stop_reason, stop_details, counts] =
        root.pick(["type", "id", "model", "content", "stop_reason", "stop_details", "usage"]);
    if !kind.is("message") || content.kind() != Some(Kind::Array) {
        return Err(NotAMessage);
    }
    let usage = usage::read_anthropic(&mut Cursor::new(counts.bytes()), None).unwrap_or_default();

    out.reserve(body.len() + 256);
    out.extend_from_slice(b"{\"id\":\"");
    push_completion_id(id, out);
    out.extend_from_slice(b"\",\"object\":\"chat.completion\",\"created\":");
    push_number(out, created_unix_s);
    out.extend_from_slice(b",\"model\":");
    push_model(model, out);
    out.extend_from_slice(b",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
    let json_answer = push_text(content, back, out);
    let refused = stop_reason.is("refusal");
    out.extend_from_slice(b",\"refusal\":");
    let why = stop_details.get("explanation").filter(|why| refused && why.kind() == Some(Kind::String));
    out.extend_from_slice(why.map_or(b"null".as_slice(), Raw::bytes));
    push_thinking(content, out);
    let calls = push_calls(content, back, out);
    out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":\"");
    out.extend_from_slice(
        finish_reason(stop_reason.content().unwrap_or(b""), json_answer && calls == 0).as_bytes(),
    );
    out.extend_from_slice(b"\"}],\"usage\":");
    push_usage(&usage, out);
    out.push(b'}');
    Ok(usage)
}

/// Appends the completion's id: the message's own, respelled, so that it can be found again.
pub(super) fn push_completion_id(id: Raw<'_>, out: &mut Vec<u8>) {
    let content = id.content().unwrap_or(b"");
    out.extend_from_slice(b"chatcmpl-");
    out.extend_from_slice(content.strip_prefix(b"msg_").unwrap_or(content));
}

/// Appends the model's name as a token.
pub(super) fn push_model(model: Raw<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(if model.kind() == Some(Kind::String) { model.bytes() } else { b"\"\"" });
}

/// OpenAI's word for a stop reason. `json_answer`: the tool call was only the form of the answer.
pub(super) fn finish_reason(stop_reason: &[u8], json_answer: bool) -> &'static str {
    match stop_reason {
        b"tool_use" if json_answer => "stop",
        b"tool_use" => "tool_calls",
        b"max_tokens" | b"model_context_window_exceeded" => "length",
        b"refusal" => "content_filter",
        _ => "stop",
    }
}

/// Appends a usage object in OpenAI's words.
pub(super) fn push_usage(usage: &Usage, out: &mut Vec<u8>) {
    let mut member = |name: &str, count: u64| {
        out.extend_from_slice(name.as_bytes());
        push_number(out, count);
    };
    member("{\"prompt_tokens\":", usage.prompt());
    member(",\"completion_tokens\":", usage.output);
    member(",\"total_tokens\":", usage.total());
    member(",\"prompt_tokens_details\":{\"cached_tokens\":", usage.cache_read);
    member(",\"cache_write_tokens\":", usage.cache_write);
    member(",\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":", usage.reasoning);
    out.extend_from_slice(
        b",\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}",
    );
}

/// Appends the text of all text blocks as one string, or null; the input of the JSON tool is such a text.
/// Returns whether that tool was the answer.
fn push_text(content: Raw<'_>, back: &Back, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.push(b'"');
    let mut json_answer = false;
    for block in content.items() {
        let [kind, text, name, input] = block.pick(["type", "text", "name", "input"]);
        if kind.is("text") {
            out.extend_from_slice(text.content().unwrap_or(b""));
        } else if back.json_tool && kind.is("tool_use") && name.is(JSON_TOOL) {
            // Text beside the form is talk; the answer must parse on its own.
            out.truncate(start + 1);
            push_escaped(out, std::str::from_utf8(input.bytes()).unwrap_or("{}"));
            json_answer = true;
            break;
        }
    }
    if out.len() == start + 1 {
        out.truncate(start);
        out.extend_from_slice(b"null");
    } else {
        out.push(b'"');
    }
    json_answer
}

/// Appends `reasoning_content` for reading and `thinking_blocks` for sending back, where there is thinking.
fn push_thinking(content: Raw<'_>, out: &mut Vec<u8>) {
    let mut first = true;
    for block in content.items() {
        let [kind, thinking] = block.pick(["type", "thinking"]);
        let Some(text) = thinking.content().filter(|text| kind.is("thinking") && !text.is_empty()) else {
            continue;
        };
        out.extend_from_slice(if first { b",\"reasoning_content\":\"" } else { b"" });
        out.extend_from_slice(text);
        first = false;
    }
    if !first {
        out.push(b'"');
    }
    first = true;
    for block in content.items() {
        let kind = block.get("type").unwrap_or_default();
        if kind.is("thinking") || kind.is("redacted_thinking") {
            out.extend_from_slice(if first { b",\"thinking_blocks\":[" } else { b"," });
            out.extend_from_slice(block.bytes());
            first = false;
        }
    }
    if !first {
        out.push(b']');
    }
}

/// Appends `tool_calls`; returns how many there are.
fn push_calls(content: Raw<'_>, back: &Back, out: &mut Vec<u8>) -> usize {
    let mut count = 0;
    for block in content.items() {
        let [kind, id, name, input] = block.pick(["type", "id", "name", "input"]);
        if !kind.is("tool_use") || (back.json_tool && name.is(JSON_TOOL)) || name.kind() != Some(Kind::String)
        {
            continue;
        }
        out.extend_from_slice(if count == 0 { b",\"tool_calls\":[{\"id\":" } else { b",{\"id\":" });
        count += 1;
        out.extend_from_slice(if id.kind() == Some(Kind::String) { id.bytes() } else { b"\"\"" });
        if is_custom(name, back) {
            out.extend_from_slice(b",\"type\":\"custom\",\"custom\":{\"name\":");
            out.extend_from_slice(name.bytes());
            out.extend_from_slice(b",\"input\":");
            push_custom_input(input, out);
        } else {
            out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
            out.extend_from_slice(name.bytes());
            out.extend_from_slice(b",\"arguments\":");
            push_string(
                out,
                std::str::from_utf8(input.bytes()).ok().filter(|text| !text.is_empty()).unwrap_or("{}"),
            );
        }
        out.extend_from_slice(b"}}");
    }
    if count > 0 {
        out.push(b']');
    }
    count
}

/// Whether a tool's input was wrapped on the way out.
pub(super) fn is_custom(name: Raw<'_>, back: &Back) -> bool {
    !back.custom_tools.is_empty()
        && name.text().is_some_and(|name| back.custom_tools.iter().any(|tool| *tool == name))
}

/// Appends the text inside a wrapped input; an input of another form as it is.
pub(super) fn push_custom_input(input: Raw<'_>, out: &mut Vec<u8>) {
    match input.get("input").filter(|text| text.kind() == Some(Kind::String)) {
        Some(text) => out.extend_from_slice(text.bytes()),
        None => push_string(out, std::str::from_utf8(input.bytes()).unwrap_or("")),
    }
}
