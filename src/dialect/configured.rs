//! An answer whose text the operator configured, in the shape of whichever API was asked.
//!
//! Given when every target of a chain failed and the chain ends in a static target: the caller's own heuristic, at
//! once. It costs no tokens, so its usage is zero; its model is the configured one, so that nobody takes it for a
//! model's words. Endpoints whose answer is no text (embeddings, token counts, files) have none.

use serde_json::{Value, json};

use super::api::Api;

/// What an answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configured<'a> {
    /// The text.
    pub content: &'a str,
    /// What stands for the model.
    pub model: &'a str,
    /// Unique part of the answer's id.
    pub id: &'a str,
    /// Seconds since 1970.
    pub now_unix_s: u64,
    /// The client asked for a stream.
    pub stream: bool,
    /// The client asked for usage in the stream (`stream_options.include_usage`).
    pub include_usage: bool,
}

/// Whether this API's answers are text.
pub fn can_configure(api: Api) -> bool {
    matches!(api, Api::ChatCompletions | Api::Completions | Api::Responses | Api::Messages)
}

/// Appends the whole body, or every event of the stream and its clean end. Nothing for an API without text; see
/// [`can_configure`].
pub fn render_configured(api: Api, answer: &Configured<'_>, out: &mut Vec<u8>) {
    match api {
        Api::ChatCompletions => chat(answer, out),
        Api::Completions => completion(answer, out),
        Api::Responses => responses(answer, out),
        Api::Messages => messages(answer, out),
        _ => {}
    }
}

fn push(out: &mut Vec<u8>, value: &Value) {
    // Writing to a vector does not fail.
    let _ = serde_json::to_writer(out, value);
}

fn data(out: &mut Vec<u8>, value: &Value) {
    out.extend_from_slice(b"data: ");
    push(out, value);
    out.extend_from_slice(b"\n\n");
}

/// An event that is named by its own `type`.
fn event(out: &mut Vec<u8>, value: &Value) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(value["type"].as_str().unwrap_or_default().as_bytes());
    out.push(b'\n');
    data(out, value);
}

fn no_tokens() -> Value {
    json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
}

fn chat(answer: &Configured<'_>, out: &mut Vec<u8>) {
    let id = format!("chatcmpl-{}", answer.id);
    if !answer.stream {
        let message = json!({"role": "assistant", "content": answer.content, "refusal": null});
        let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
        return push(
            out,
            &json!({"id": id, "object": "chat.completion", "created": answer.now_unix_s, "model": answer.model,
                "choices": [choice], "usage": no_tokens()}),
        );
    }
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({"id": id, "object": "chat.completion.chunk", "created": answer.now_unix_s,
            "model": answer.model, "choices": choices});
        if answer.include_usage {
            chunk["usage"] = usage;
        }
        chunk
    };
    let delta = |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
    let first = json!({"role": "assistant", "content": "", "refusal": null});
    data(out, &chunk(delta(first, Value::Null), Value::Null));
    data(out, &chunk(delta(json!({"content": answer.content}), Value::Null), Value::Null));
    data(out, &chunk(delta(json!({}), json!("stop")), Value::Null));
    if answer.include_usage {
        data(out, &chunk(json!([]), no_tokens()));
    }
    out.extend_from_slice(b"data: [DONE]\n\n");
}

fn completion(answer: &Configured<'_>, out: &mut Vec<u8>) {
    let make = |text: &str, finish: Value, usage: Option<Value>| {
        let mut made = json!({"id": format!("cmpl-{}", answer.id), "object": "text_completion",
            "created": answer.now_unix_s, "model": answer.model,
            "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": finish}]});
        if let Some(usage) = usage {
            made["usage"] = usage;
        }
        made
    };
    if !answer.stream {
        return push(out, &make(answer.content, json!("stop"), Some(no_tokens())));
    }
    let blank = || answer.include_usage.then_some(Value::Null);
    data(out, &make(answer.content, Value::Null, blank()));
    data(out, &make("", json!("stop"), blank()));
    if answer.include_usage {
        let mut last = make("", Value::Null, Some(no_tokens()));
        last["choices"] = json!([]);
        data(out, &last);
    }
    out.extend_from_slice(b"data: [DONE]\n\n");
}

fn messages(answer: &Configured<'_>, out: &mut Vec<u8>) {
    let usage = json!({"input_tokens": 0, "output_tokens": 0});
    let message = |content: Value, stop: Value| {
        json!({"id": format!("msg_{}", answer.id), "type": "message", "role": "assistant", "model": answer.model,
            "content": content, "stop_reason": stop, "stop_sequence": null, "usage": usage})
    };
    if !answer.stream {
        let content = json!([{"type": "text", "text": answer.content}]);
        return push(out, &message(content, json!("end_turn")));
    }
    let text = |text: &str| json!({"type": "text", "text": text});
    event(out, &json!({"type": "message_start", "message": message(json!([]), Value::Null)}));
    event(out, &json!({"type": "content_block_start", "index": 0, "content_block": text("")}));
    let delta = json!({"type": "text_delta", "text": answer.content});
    event(out, &json!({"type": "content_block_delta", "index": 0, "delta": delta}));
    event(out, &json!({"type": "content_block_stop", "index": 0}));
    let stop = json!({"stop_reason": "end_turn", "stop_sequence": null});
    event(out, &json!({"type": "message_delta", "delta": stop, "usage": usage}));
    event(out, &json!({"type": "message_stop"}));
}

fn responses(answer: &Configured<'_>, out: &mut Vec<u8>) {
    let item_id = format!("msg_{}", answer.id);
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    let item = |status: &str, content: Value| json!({"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content});
    let response = |status: &str, output: Value, usage: Value| {
        json!({"id": format!("resp_{}", answer.id), "object": "response", "created_at": answer.now_unix_s,
            "status": status, "error": null, "incomplete_details": null, "instructions": null, "metadata": {},
            "model": answer.model, "output": output, "parallel_tool_calls": true, "temperature": null,
            "tool_choice": "auto", "tools": [], "top_p": null, "usage": usage})
    };
    let usage = json!({"input_tokens": 0, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 0});
    let whole = item("completed", json!([part(answer.content)]));
    let completed = response("completed", json!([whole]), usage);
    if !answer.stream {
        return push(out, &completed);
    }
    let mut number = 0;
    let mut say = |kind: &str, mut fields: Value| {
        fields["type"] = json!(kind);
        fields["sequence_number"] = json!(number);
        number += 1;
        event(out, &fields);
    };
    let begun = response("in_progress", json!([]), Value::Null);
    let place = |fields: Value| {
        let mut all = json!({"item_id": item_id, "output_index": 0, "content_index": 0});
        if let (Some(all), Value::Object(more)) = (all.as_object_mut(), fields) {
            all.extend(more);
        }
        all
    };
    say("response.created", json!({"response": begun}));
    say("response.in_progress", json!({"response": begun}));
    say("response.output_item.added", json!({"output_index": 0, "item": item("in_progress", json!([]))}));
    say("response.content_part.added", place(json!({"part": part("")})));
    say("response.output_text.delta", place(json!({"delta": answer.content, "logprobs": []})));
    say("response.output_text.done", place(json!({"text": answer.content, "logprobs": []})));
    say("response.content_part.done", place(json!({"part": part(answer.content)})));
    say("response.output_item.done", json!({"output_index": 0, "item": whole}));
    say("response.completed", json!({"response": completed}));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dialect;
    use crate::dialect::{EventKind, StreamWatch, inspect_answer};
    use crate::wire::sse::Splitter;

    const APIS: [Api; 4] = [Api::ChatCompletions, Api::Completions, Api::Responses, Api::Messages];

    fn dialect(api: Api) -> Dialect {
        api.client_dialect()
    }

    fn answer(stream: bool) -> Configured<'static> {
        let content = "retry: \"no\"\n\u{1F600}";
        Configured { content, model: "heuristic", id: "1", now_unix_s: 7, stream, include_usage: true }
    }

    #[test]
    fn a_whole_answer_reads_like_a_providers_in_every_api() {
        for api in APIS {
            assert!(can_configure(api));
            let mut body = Vec::new();
            render_configured(api, &answer(false), &mut body);
            let seen = inspect_answer(api, dialect(api), &body);
            assert!(seen.complete && !seen.error, "{api:?}");
            assert_eq!(seen.usage.unwrap().total(), 0, "{api:?}");
            let text = crate::dialect::text::of_answer(api, &body).unwrap();
            assert_eq!(text.text, answer(false).content, "{api:?}");
        }
        assert!(!can_configure(Api::Embeddings));
    }

    #[test]
    fn a_stream_has_content_and_a_clean_end_in_every_api() {
        for api in APIS {
            let mut body = Vec::new();
            render_configured(api, &answer(true), &mut body);
            let mut watch = StreamWatch::new(api, dialect(api));
            let (mut start, mut kinds) = (0, Vec::new());
            for end in Splitter::new().feed(&body) {
                kinds.push(watch.event(&body[start..end]));
                start = end;
            }
            assert_eq!(start, body.len(), "{api:?}: every event is whole");
            assert!(kinds.contains(&EventKind::Content), "{api:?} {kinds:?}");
            assert_eq!(kinds.last(), Some(&EventKind::Terminal), "{api:?} {kinds:?}");
            assert!(!kinds.contains(&EventKind::Error), "{api:?}");
            let text = crate::dialect::text::of_stream(api, &body).unwrap();
            assert_eq!(text.text, answer(true).content, "{api:?}");
        }
    }
}
