//! What a scripted provider answers when nothing is wrong: one file per API.
//!
//! Invariant: an answer is a function of the seed and the request. The streamed and the whole form of the same
//! request carry the same words and the same usage.

pub(super) mod anthropic;
mod chat;
mod completions;
mod compose;
mod embeddings;
pub(super) mod errors;
mod models;
mod other;
mod responses;
mod schema;

use serde_json::Value;

use super::mock::Dialects;
use super::request::Request;

/// An answer before framing and pacing.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Body,
    /// Prompt tokens, billed when the status is 200.
    pub(super) tokens_in: u64,
    /// Tokens of the whole answer.
    pub(super) tokens_out: u64,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    Whole(Vec<u8>),
    Stream(Vec<Event>),
}

/// One server-sent event, already in its wire form.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) bytes: Vec<u8>,
    pub(super) part: Part,
}

/// Where in a stream an event stands; the pace follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Before the first content.
    Lead,
    /// One token of content.
    Content,
    /// After the content: finish reason, usage.
    Tail,
    /// What tells a client that the stream is complete.
    Terminal,
}

/// Which wire family a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    OpenAi,
    Anthropic,
}

/// What a request asks, as far as routing and faults need to know.
pub(super) struct Ask {
    pub(super) wire: Wire,
    /// The path behind `/v1/`, without the query.
    pub(super) path: String,
    /// The parsed body; none when it is not JSON.
    pub(super) json: Option<Value>,
    pub(super) model: String,
    pub(super) stream: bool,
}

/// What shapes an answer besides the request.
pub(super) struct Setting<'a> {
    pub(super) seed: u64,
    /// Tokens of an answer when the request sets no lower limit.
    pub(super) tokens: usize,
    pub(super) models: &'a [String],
    pub(super) dialects: Dialects,
    /// Unix seconds, for `created`.
    pub(super) unix_s: u64,
}

impl Ask {
    pub(super) fn read(request: &Request) -> Ask {
        let path = api_path(request.head.path());
        let anthropic = path.starts_with("messages") || request.head.field("anthropic-version").is_some();
        let json: Option<Value> = serde_json::from_slice(&request.body).ok();
        let text = |name: &str| json.as_ref().and_then(|v| v.get(name)).and_then(Value::as_str);
        let stream = json.as_ref().and_then(|v| v.get("stream")).and_then(Value::as_bool).unwrap_or(false);
        Ask {
            wire: if anthropic { Wire::Anthropic } else { Wire::OpenAi },
            model: text("model").unwrap_or("").to_owned(),
            stream,
            path,
            json,
        }
    }
}

/// `/openai/v1/chat/completions` and `/chat/completions` alike become `chat/completions`.
fn api_path(path: &str) -> String {
    let behind = path.rfind("/v1/").map(|at| &path[at + 4..]);
    behind.unwrap_or_else(|| path.trim_start_matches('/')).trim_end_matches('/').to_owned()
}

/// The answer of a provider that is well.
pub(super) fn answer(request: &Request, ask: &Ask, setting: &Setting<'_>) -> Answer {
    let enabled = match ask.wire {
        Wire::OpenAi => setting.dialects != Dialects::Anthropic,
        Wire::Anthropic => setting.dialects != Dialects::OpenAi,
    };
    if !enabled {
        return errors::not_found(ask, &request.head.method);
    }
    match (request.head.method.as_str(), ask.path.as_str()) {
        ("POST", "chat/completions") => generation(ask, setting, "messages", chat::answer),
        ("POST", "completions") => generation(ask, setting, "prompt", completions::answer),
        ("POST", "responses") => generation(ask, setting, "input", responses::answer),
        ("POST", "responses/input_tokens") => generation(ask, setting, "input", responses::count),
        ("POST", "embeddings") => generation(ask, setting, "input", embeddings::answer),
        ("POST", "messages") => generation(ask, setting, "messages", anthropic::answer),
        ("POST", "messages/count_tokens") => generation(ask, setting, "messages", anthropic::count),
        ("GET" | "HEAD", "models") => models::list(ask, setting),
        ("GET" | "HEAD", path) if path.starts_with("models/") => models::one(ask, setting),
        _ => other::answer(request, ask, setting),
    }
}

/// Checks what every generating API requires, then builds the answer.
fn generation(
    ask: &Ask,
    setting: &Setting<'_>,
    required: &str,
    build: fn(&Ask, &Value, &Setting<'_>) -> Answer,
) -> Answer {
    let Some(json) = ask.json.as_ref().filter(|json| json.is_object()) else {
        return errors::invalid(ask, 400, "The body of your request is not a JSON object.", None, None);
    };
    for name in ["model", required] {
        if json.get(name).is_none_or(Value::is_null) {
            return errors::missing(ask, name);
        }
    }
    build(ask, json, setting)
}

impl Answer {
    /// A JSON answer in one piece.
    pub(super) fn json(status: u16, value: &Value) -> Answer {
        let fields = vec![("content-type".to_owned(), "application/json".to_owned())];
        let body = Body::Whole(value.to_string().into_bytes());
        Answer { status, fields, body, tokens_in: 0, tokens_out: 0 }
    }

    pub(super) fn bytes(content_type: &str, bytes: Vec<u8>) -> Answer {
        let fields = vec![("content-type".to_owned(), content_type.to_owned())];
        Answer { status: 200, fields, body: Body::Whole(bytes), tokens_in: 0, tokens_out: 0 }
    }

    pub(super) fn stream(events: Vec<Event>) -> Answer {
        let fields = vec![
            ("content-type".to_owned(), "text/event-stream; charset=utf-8".to_owned()),
            ("cache-control".to_owned(), "no-cache".to_owned()),
        ];
        Answer { status: 200, fields, body: Body::Stream(events), tokens_in: 0, tokens_out: 0 }
    }

    pub(super) fn costing(mut self, tokens_in: u64, tokens_out: u64) -> Answer {
        self.tokens_in = tokens_in;
        self.tokens_out = tokens_out;
        self
    }

    pub(super) fn set_field(&mut self, name: &str, value: impl Into<String>) {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.to_owned(), value.into()));
    }
}

impl Event {
    /// `data: ...` alone, as the OpenAI dialect writes events.
    pub(super) fn data(part: Part, value: &Value) -> Event {
        Event { bytes: format!("data: {value}\n\n").into_bytes(), part }
    }

    /// `event: ...` and `data: ...`.
    pub(super) fn named(part: Part, name: &str, value: &Value) -> Event {
        Event { bytes: format!("event: {name}\ndata: {value}\n\n").into_bytes(), part }
    }

    pub(super) fn done() -> Event {
        Event { bytes: b"data: [DONE]\n\n".to_vec(), part: Part::Terminal }
    }
}

/// An identifier that looks like the provider's and depends on the seed and the prompt.
fn identifier(prefix: &str, seed: u64, hash: u64, n: u64) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut id = String::with_capacity(prefix.len() + 24);
    id.push_str(prefix);
    for word in 0..3 {
        let mut bits = super::program::mix(seed ^ hash, n, word);
        for _ in 0..8 {
            id.push(LETTERS[(bits % LETTERS.len() as u64) as usize] as char);
            bits /= LETTERS.len() as u64;
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_base_path_leads_to_the_same_api() {
        for path in [
            "/v1/chat/completions",
            "/openai/v1/chat/completions",
            "/chat/completions",
            "/v1/chat/completions/",
        ] {
            assert_eq!(api_path(path), "chat/completions");
        }
    }

    #[test]
    fn identifiers_depend_on_every_input() {
        let id = identifier("chatcmpl-", 1, 2, 3);
        assert_eq!(id.len(), "chatcmpl-".len() + 24);
        assert_eq!(id, identifier("chatcmpl-", 1, 2, 3));
        assert_ne!(id, identifier("chatcmpl-", 2, 2, 3));
        assert_ne!(id, identifier("chatcmpl-", 1, 3, 3));
    }
}
