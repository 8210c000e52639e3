//! A whole answer, looked at once on its way through: usage, finish, a failure dressed as a 200, completeness.
//!
//! The body is never changed and no tree is built. `complete` is about structure (brackets, quotes, nothing after
//! the end), which is what a cut or mangled body breaks; it is not a validation of every number and escape.

use super::api::Api;
use super::json::Cursor;
use super::usage::{self, ServiceTier, Usage};
use super::watch::{Finish, of_incomplete, of_status};
use crate::config::Dialect;
use crate::wire::Span;

/// What a whole answer tells the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Tokens, where the provider told.
    pub usage: Option<Usage>,
    /// The body is an error object, whatever the status says.
    pub error: bool,
    /// Why the model stopped; the first choice's where there are several.
    pub finish: Option<Finish>,
    /// Where the name of the model stands in the body.
    pub model: Span,
    /// The answer calls tools.
    pub tool_calls: bool,
    /// The body is one whole JSON object.
    pub complete: bool,
}

/// Looks at the body that a provider of `dialect` gave for `api`, the endpoint called there.
pub fn inspect_answer(api: Api, dialect: Dialect, body: &[u8]) -> Answer {
    let mut answer = Answer::default();
    let mut cursor = Cursor::new(body);
    let anthropic = dialect == Dialect::Anthropic;
    let responses = api == Api::Responses;
    let (mut status, mut why, mut tier) = (None, None, None);
    let is_object = cursor.object(|cursor, name| match name {
        b"usage" if anthropic => answer.usage = usage::read_anthropic(cursor, None),
        b"usage" => answer.usage = usage::read_openai(cursor),
        // Anthropic's count_tokens answers with nothing else.
        b"input_tokens" if anthropic => {
            if let Some(input) = cursor.skip().count() {
                answer.usage = Some(Usage { input, ..Usage::default() });
            }
        }
        b"model" => {
            let name = cursor.skip().content().unwrap_or_default();
            let at = name.as_ptr().addr().wrapping_sub(body.as_ptr().addr());
            answer.model = Span::new(at, at.saturating_add(name.len())).unwrap_or_default();
        }
        b"service_tier" => tier = ServiceTier::read(cursor),
        b"error" => answer.error |= !cursor.skip().is_empty(),
        b"type" | b"object" => answer.error |= cursor.skip().is("error"),
        b"choices" => read_choices(&mut answer, cursor),
        b"stop_reason" => {
            if let Some(reason) = cursor.skip().content() {
                answer.finish = Some(Finish::of_anthropic(reason));
            }
        }
        b"content" if anthropic => answer.tool_calls |= has_item(cursor, &[b"tool_use"]),
        b"output" if responses => {
            answer.tool_calls |= has_item(cursor, &[b"function_call", b"custom_tool_call"]);
        }
        b"status" if responses => status = cursor.skip().content(),
        b"incomplete_details" if responses => {
            cursor.object(|cursor, name| {
                if name == b"reason" {
                    why = cursor.skip().content().map(of_incomplete);
                }
            });
        }
        _ => {}
    });
    if let (Some(usage), Some(tier)) = (&mut answer.usage, tier) {
        usage.tier = tier;
    }
    if let Some(status) = status {
        answer.finish = why.or(Some(of_status(status, answer.tool_calls)));
        answer.error |= status == b"failed";
    }
    answer.error |= answer.finish == Some(Finish::Error);
    answer.tool_calls |= answer.finish == Some(Finish::ToolCalls);
    answer.complete = is_object && cursor.finished();
    answer
}

/// Reads the choices of a Chat or Completions answer.
fn read_choices(answer: &mut Answer, cursor: &mut Cursor<'_>) {
    cursor.array(|cursor| {
        cursor.object(|cursor, name| match name {
            b"finish_reason" => {
                if let Some(reason) = cursor.skip().content() {
                    answer.finish = answer.finish.or(Some(Finish::of_openai(reason)));
                }
            }
            b"message" => {
                cursor.object(|cursor, name| {
                    if matches!(name, b"tool_calls" | b"function_call") {
                        answer.tool_calls |= !cursor.skip().is_empty();
                    }
                });
            }
            b"error" => answer.error |= !cursor.skip().is_empty(),
            _ => {}
        });
    });
}

/// Whether an array holds an object whose `type` is one of `types`.
fn has_item(cursor: &mut Cursor<'_>, types: &[&[u8]]) -> bool {
    let mut found = false;
    cursor.array(|cursor| {
        cursor.object(|cursor, name| {
            if name == b"type" {
                found |= cursor.skip().content().is_some_and(|kind| types.contains(&kind));
            }
        });
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant",
        "content":"hi","refusal":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#;
    const MESSAGE: &str = r#"{"id":"msg_1","type":"message","content":[{"type":"text","text":"x"},{"type":"tool_use","id":"t",
        "name":"f","input":{}}],"stop_reason":"tool_use","usage":{"input_tokens":4,"output_tokens":6,"cache_read_input_tokens":2}}"#;

    #[test]
    fn usage_and_finish_are_found_in_every_answer() {
        let chat = inspect_answer(Api::ChatCompletions, Dialect::OpenAi, CHAT.as_bytes());
        assert!(chat.complete && !chat.error && !chat.tool_calls);
        assert_eq!((chat.finish, chat.usage.unwrap().total()), (Some(Finish::Stop), 11));
        let named = br#"{"id":"x","model":"gpt-4o-mini-2024-07-18","choices":[]}"#;
        let seen = inspect_answer(Api::ChatCompletions, Dialect::OpenAi, named);
        assert_eq!(seen.model.of(named), b"gpt-4o-mini-2024-07-18");
        assert_eq!(chat.model.of(CHAT.as_bytes()), b"");

        let message = inspect_answer(Api::Messages, Dialect::Anthropic, MESSAGE.as_bytes());
        assert!(message.complete && !message.error && message.tool_calls);
        assert_eq!((message.finish, message.usage.unwrap().prompt()), (Some(Finish::ToolCalls), 6));

        let embeddings = inspect_answer(
            Api::Embeddings,
            Dialect::OpenAi,
            br#"{"object":"list","data":[{"object":"embedding","embedding":[0.1,-2e-3],"index":0}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
        );
        assert!(embeddings.complete && !embeddings.error);
        assert_eq!(embeddings.usage.unwrap().input, 8);

        let count = inspect_answer(Api::CountTokens, Dialect::Anthropic, br#"{"input_tokens":2095}"#);
        assert_eq!(count.usage.unwrap().input, 2095);
    }

    #[test]
    fn the_service_tier_is_found_on_either_side_of_the_usage() {
        for text in [
            r#"{"service_tier":"flex","usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
            r#"{"usage":{"prompt_tokens":1,"completion_tokens":2},"service_tier":"flex"}"#,
        ] {
            let answer = inspect_answer(Api::ChatCompletions, Dialect::OpenAi, text.as_bytes());
            assert_eq!(answer.usage.unwrap().tier, ServiceTier::Flex, "{text}");
        }
    }

    #[test]
    fn responses_tell_their_end_by_status() {
        let look = |text: &str| inspect_answer(Api::Responses, Dialect::OpenAi, text.as_bytes());
        let done = look(
            r#"{"object":"response","status":"completed","error":null,"output":[{"type":"function_call"}],
            "usage":{"input_tokens":3,"output_tokens":4}}"#,
        );
        assert!(!done.error && done.tool_calls);
        assert_eq!((done.finish, done.usage.unwrap().output), (Some(Finish::ToolCalls), 4));
        let cut = look(r#"{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}"#);
        assert_eq!(cut.finish, Some(Finish::Length));
        assert!(look(r#"{"status":"failed","error":{"code":"server_error","message":"x"}}"#).error);
        assert!(!look(r#"{"status":"in_progress","error":null}"#).error);
    }

    #[test]
    fn failures_in_a_200_are_seen() {
        for text in [
            r#"{"error":{"message":"boom","type":"server_error"}}"#,
            r#"{"error":"boom"}"#,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#,
            r#"{"object":"error","message":"bad","code":400}"#,
            r#"{"choices":[{"finish_reason":"error","message":{"content":""}}]}"#,
        ] {
            assert!(inspect_answer(Api::ChatCompletions, Dialect::OpenAi, text.as_bytes()).error, "{text}");
        }
        for text in [CHAT, r#"{"error":null,"choices":[]}"#, r#"{"error":{},"choices":[]}"#] {
            assert!(!inspect_answer(Api::ChatCompletions, Dialect::OpenAi, text.as_bytes()).error, "{text}");
        }
    }

    #[test]
    fn a_cut_body_is_never_complete() {
        for text in [CHAT, MESSAGE] {
            for cut in 0..text.len() {
                assert!(
                    !inspect_answer(Api::ChatCompletions, Dialect::OpenAi, &text.as_bytes()[..cut]).complete
                );
            }
        }
        for text in ["", "[]", "null", "{} x", "<html>", "\"text\""] {
            assert!(
                !inspect_answer(Api::ChatCompletions, Dialect::OpenAi, text.as_bytes()).complete,
                "{text}"
            );
        }
    }
}
