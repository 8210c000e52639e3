//! What a user of an OpenAI client notices when a Claude model answers.

mod answer;
mod conversation;
mod params;
mod stream;

use serde_json::{Value, json};

use super::*;

pub(super) const SONNET: &str = "claude-sonnet-4-5";
pub(super) const OPUS: &str = "claude-opus-4-8";
pub(super) const OLD: &str = "claude-3-5-sonnet-20241022";

pub(super) fn request(model: &str, body: &Value) -> Result<(Value, Translated), TranslateError> {
    let mut out = Vec::new();
    let options = TranslateOptions { model, default_max_tokens: None };
    let translated = translate_request(body.to_string().as_bytes(), &options, &mut out)?;
    Ok((serde_json::from_slice(&out).expect("valid JSON"), translated))
}

pub(super) fn sent(model: &str, body: Value) -> Value {
    request(model, &body).unwrap().0
}

pub(super) fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

pub(super) fn turn(role: &str, text: &str) -> Value {
    json!({"role": role, "content": [{"type": "text", "text": text}]})
}

/// A request with one user message and `extra` members.
pub(super) fn plain(extra: &Value) -> Value {
    let mut body = json!({"model": "x", "messages": [user("hi")]});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

pub(super) fn dropped(model: &str, extra: &Value) -> Vec<&'static str> {
    request(model, &plain(extra)).unwrap().1.dropped.names().collect()
}
