//! The text of a whole answer, and how it ended: what a route's answer checks judge.
//!
//! Reads what the client would be given, in the client's API. Only called on routes that have checks, so it builds a
//! tree and allocates. Of several choices the first is read; reasoning is not part of the text.

use serde_json::Value;

use super::api::Api;
use super::watch::{Finish, of_incomplete, of_status};
use crate::wire::sse::Splitter;

/// An answer's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerText {
    /// How it ended; `None` when it did not say.
    pub finish: Option<Finish>,
    /// Its text; empty when there is none.
    pub text: String,
    /// It calls tools.
    pub tool_calls: bool,
}

/// The text of the answer `body`; `None` when the API has none or the body is not one of its answers.
pub fn of_answer(api: Api, body: &[u8]) -> Option<AnswerText> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let mut found = AnswerText::default();
    match api {
        Api::ChatCompletions => {
            let choice = body["choices"].get(0)?;
            found.finish = finish(&choice["finish_reason"], Finish::of_openai);
            found.text = choice["message"]["content"].as_str().unwrap_or_default().to_owned();
            found.tool_calls = has_any(&choice["message"]["tool_calls"]);
        }
        Api::Completions => {
            let choice = body["choices"].get(0)?;
            found.finish = finish(&choice["finish_reason"], Finish::of_openai);
            found.text = choice["text"].as_str()?.to_owned();
        }
        Api::Messages => {
            found.finish = finish(&body["stop_reason"], Finish::of_anthropic);
            for block in body["content"].as_array()? {
                found.text.push_str(block["text"].as_str().unwrap_or_default());
                found.tool_calls |= block["type"] == "tool_use";
            }
        }
        Api::Responses => response(&body, &mut found)?,
        _ => return None,
    }
    Some(found)
}

/// The text of a whole stream; `None` when the API has none or an event is not JSON.
pub fn of_stream(api: Api, events: &[u8]) -> Option<AnswerText> {
    let mut found = AnswerText::default();
    let mut start = 0;
    for end in Splitter::new().feed(events) {
        let event = events.get(start..end).unwrap_or_default();
        start = end;
        let data = data_of(event);
        if data.is_empty() || data == b"[DONE]" {
            continue;
        }
        let data: Value = serde_json::from_slice(&data).ok()?;
        match api {
            Api::ChatCompletions | Api::Completions => chunk(&data, &mut found),
            Api::Messages => message_event(&data, &mut found),
            Api::Responses => {
                if let "response.completed" | "response.incomplete" =
                    data["type"].as_str().unwrap_or_default()
                {
                    response(&data["response"], &mut found)?;
                }
            }
            _ => return None,
        }
    }
    Some(found)
}

/// The data lines of an event, joined as the standard says.
fn data_of(event: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    for line in event.split(|b| matches!(b, b'\n' | b'\r')) {
        let Some(value) = line.strip_prefix(b"data:") else { continue };
        if !data.is_empty() {
            data.push(b'\n');
        }
        data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
    }
    data
}

fn finish(reason: &Value, read: fn(&[u8]) -> Finish) -> Option<Finish> {
    reason.as_str().map(|reason| read(reason.as_bytes()))
}

fn has_any(list: &Value) -> bool {
    list.as_array().is_some_and(|list| !list.is_empty())
}

fn chunk(data: &Value, found: &mut AnswerText) {
    let choices = data["choices"].as_array().into_iter().flatten();
    // Chunks of several choices are interleaved.
    for choice in choices.filter(|choice| choice["index"].as_u64().unwrap_or(0) == 0) {
        let part = choice["delta"]["content"].as_str().or_else(|| choice["text"].as_str());
        found.text.push_str(part.unwrap_or_default());
        found.tool_calls |= has_any(&choice["delta"]["tool_calls"]);
        found.finish = finish(&choice["finish_reason"], Finish::of_openai).or(found.finish);
    }
}

fn message_event(data: &Value, found: &mut AnswerText) {
    match data["type"].as_str().unwrap_or_default() {
        "content_block_start" => {
            found.text.push_str(data["content_block"]["text"].as_str().unwrap_or_default());
            found.tool_calls |= data["content_block"]["type"] == "tool_use";
        }
        "content_block_delta" => found.text.push_str(data["delta"]["text"].as_str().unwrap_or_default()),
        "message_delta" => {
            found.finish = finish(&data["delta"]["stop_reason"], Finish::of_anthropic).or(found.finish);
        }
        _ => {}
    }
}

fn response(body: &Value, found: &mut AnswerText) -> Option<()> {
    for item in body["output"].as_array()? {
        found.tool_calls |= matches!(item["type"].as_str(), Some("function_call" | "custom_tool_call"));
        for part in item["content"].as_array().into_iter().flatten().filter(|p| p["type"] == "output_text") {
            found.text.push_str(part["text"].as_str().unwrap_or_default());
        }
    }
    let why = finish(&body["incomplete_details"]["reason"], of_incomplete);
    let status = body["status"].as_str().map(|status| of_status(status.as_bytes(), found.tool_calls));
    found.finish = why.or(status);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_choice_of_a_chat_is_read() {
        let body = br#"{"choices":[{"message":{"content":"{\"ok\":1}"},"finish_reason":"length"},{"message":{"content":"b"}}]}"#;
        let found = of_answer(Api::ChatCompletions, body).unwrap();
        assert_eq!((found.text.as_str(), found.finish), ("{\"ok\":1}", Some(Finish::Length)));
        assert_eq!(of_answer(Api::ChatCompletions, b"{}"), None);
        assert_eq!(of_answer(Api::Embeddings, body), None);
    }

    #[test]
    fn a_message_is_all_of_its_text_blocks() {
        let body = br#"{"content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"a"},{"type":"text","text":"b"},
            {"type":"tool_use","id":"t","name":"f","input":{}}],"stop_reason":"tool_use"}"#;
        let found = of_answer(Api::Messages, body).unwrap();
        assert_eq!(
            (found.text.as_str(), found.tool_calls, found.finish),
            ("ab", true, Some(Finish::ToolCalls))
        );
    }

    #[test]
    fn a_stream_is_put_together_again() {
        let events = b": hi\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}},{\"index\":1,\"delta\":{\"content\":\"X\"}}]}\n\n\
            data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\r\n\r\ndata: [DONE]\n\n";
        let found = of_stream(Api::ChatCompletions, events).unwrap();
        assert_eq!((found.text.as_str(), found.finish), ("ab", Some(Finish::Stop)));
        assert_eq!(of_stream(Api::ChatCompletions, b"data: {cut\n\n"), None);
    }

    #[test]
    fn a_response_says_why_it_is_not_whole() {
        let body = br#"{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[{"type":"message",
            "content":[{"type":"output_text","text":"x"}]}]}"#;
        let found = of_answer(Api::Responses, body).unwrap();
        assert_eq!((found.text.as_str(), found.finish), ("x", Some(Finish::Length)));
    }
}
