//! The request: which members there are, and the order in which they are written.

use super::claude::Claude;
use super::{TranslateError, Translated, messages, params, tools};
use crate::dialect::json::{self, Cursor, Kind, Raw, push_number, push_string};

/// What the route adds to the request.
#[derive(Clone, Copy, Debug)]
pub struct TranslateOptions<'o> {
    /// The model to ask, as the provider calls it.
    pub model: &'o str,
    /// Output limit when the client gave none; `None` takes the model's own, or 4096 where that is unknown.
    pub default_max_tokens: Option<u32>,
}

/// The members of a Chat request that the translation reads; empty tokens where there are none.
#[derive(Default)]
pub(super) struct Request<'j> {
    /// `None` when it is missing or no list.
    pub messages: Option<Vec<messages::Read<'j>>>,
    pub max_tokens: Raw<'j>,
    pub max_completion_tokens: Raw<'j>,
    pub stream: Raw<'j>,
    pub stream_options: Raw<'j>,
    pub temperature: Raw<'j>,
    pub top_p: Raw<'j>,
    pub top_k: Raw<'j>,
    pub stop: Raw<'j>,
    pub tools: Raw<'j>,
    pub functions: Raw<'j>,
    pub tool_choice: Raw<'j>,
    pub function_call: Raw<'j>,
    pub parallel_tool_calls: Raw<'j>,
    pub response_format: Raw<'j>,
    pub reasoning_effort: Raw<'j>,
    pub thinking: Raw<'j>,
    pub user: Raw<'j>,
    pub safety_identifier: Raw<'j>,
    pub service_tier: Raw<'j>,
}

/// Appends the Anthropic request for the OpenAI Chat request in `body`.
///
/// # Errors
/// When `body` is not one JSON object, or says something that cannot be said to the target. `out` then holds a part.
pub fn translate_request(
    body: &[u8],
    options: &TranslateOptions<'_>,
    out: &mut Vec<u8>,
) -> Result<Translated, TranslateError> {
    let root = Raw::of_valid(body);
    if !json::valid(body) || root.kind() != Some(Kind::Object) {
        return Err(TranslateError::client(
            "",
            "The body is not one JSON object in UTF-8; check it with a JSON parser.",
        ));
    }
    let mut translated = Translated::default();
    let request = read(root, &mut translated)?;
    translated.stream = request.stream.bool() == Some(true);
    translated.back.include_usage =
        request.stream_options.get("include_usage").and_then(Raw::bool) == Some(true);

    let Some(list) = request.messages.as_deref() else {
        return Err(TranslateError::client("messages", "A list of messages is needed here."));
    };
    let claude = Claude::of(options.model);
    let mut plan = params::plan(&request, &claude, options, &mut translated)?;

    // Strings and subtrees are copied once; the rest is shorter than what it replaces.
    out.reserve(body.len() + 256);
    out.extend_from_slice(b"{\"model\":");
    push_string(out, options.model);
    out.extend_from_slice(b",\"max_tokens\":");
    push_number(out, u64::from(plan.max_tokens));
    if translated.stream {
        out.extend_from_slice(b",\"stream\":true");
    }
    let mut said = messages::push(list, &claude, out)?;
    plan.settle_thinking(&said, &claude, &mut translated);
    params::push_system(&said.system, &plan, out);
    tools::push(&request, &claude, &plan, &mut said.caches, &mut translated, out)?;
    params::push(&request, &claude, &plan, &mut translated, out);
    out.push(b'}');
    Ok(translated)
}

/// Collects the members, and notes or refuses those that cannot be said.
fn read<'j>(root: Raw<'j>, translated: &mut Translated) -> Result<Request<'j>, TranslateError> {
    let mut request = Request::default();
    let mut refused = None;
    Cursor::new(root.bytes()).object(|cursor, name| {
        // The bulk of a request is its messages: they are read on the way, not skipped and then read.
        if name == b"messages" {
            request.messages = messages::read(cursor);
            return;
        }
        let value = cursor.skip();
        let slot = match name {
            b"max_tokens" => &mut request.max_tokens,
            b"max_completion_tokens" => &mut request.max_completion_tokens,
            b"stream" => &mut request.stream,
            b"stream_options" => &mut request.stream_options,
            b"temperature" => &mut request.temperature,
            b"top_p" => &mut request.top_p,
            b"top_k" => &mut request.top_k,
            b"stop" => &mut request.stop,
            b"tools" => &mut request.tools,
            b"functions" => &mut request.functions,
            b"tool_choice" => &mut request.tool_choice,
            b"function_call" => &mut request.function_call,
            b"parallel_tool_calls" => &mut request.parallel_tool_calls,
            b"response_format" => &mut request.response_format,
            b"reasoning_effort" => &mut request.reasoning_effort,
            b"thinking" => &mut request.thinking,
            b"user" => &mut request.user,
            b"safety_identifier" => &mut request.safety_identifier,
            b"service_tier" => &mut request.service_tier,
            _ => {
                refused = refused.take().or_else(|| leave_out(name, value, translated));
                return;
            }
        };
        *slot = value;
    });
    refused.map_or(Ok(request), Err)
}

/// Notes a parameter that the target does not have; refuses the ones without which the answer would be another one.
fn leave_out(name: &[u8], value: Raw<'_>, translated: &mut Translated) -> Option<TranslateError> {
    let is_default = value.is_empty() || value.bool() == Some(false) || value.number() == Some(0.0);
    match name {
        b"n" if value.count().is_some_and(|n| n > 1) => {
            return Some(TranslateError::target(
                "n",
                "Anthropic models give one answer a call; send n calls.",
            ));
        }
        b"audio" if !value.is_empty() => {
            return Some(TranslateError::target("audio", "Anthropic models do not speak; ask for text."));
        }
        b"modalities" if value.items().any(|item| !item.is("text")) => {
            return Some(TranslateError::target("modalities", "Anthropic models answer in text only."));
        }
        // For the provider's books, its caches or our own use: nothing is lost in the answer.
        b"model"
        | b"n"
        | b"audio"
        | b"modalities"
        | b"metadata"
        | b"prompt_cache_key"
        | b"prompt_cache_retention"
        | b"prompt_cache_options" => {}
        _ if is_default => {}
        b"verbosity" if value.is("medium") => {}
        _ => translated.dropped.add(std::str::from_utf8(name).unwrap_or("other")),
    }
    None
}
