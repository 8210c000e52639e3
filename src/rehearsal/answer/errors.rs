//! Error answers, in the dialect of the request.

use serde_json::{Value, json};

use super::super::program::{ErrorAnswer, ErrorKind};
use super::{Answer, Ask, Event, Part, Wire};

/// What an error says in each dialect.
struct Words {
    status: u16,
    openai_type: &'static str,
    openai_code: Option<&'static str>,
    anthropic_type: &'static str,
    message: &'static str,
}

/// The answer to a request that the API has no place for.
pub(super) fn not_found(ask: &Ask, method: &str) -> Answer {
    let message = format!("Invalid URL ({method} /v1/{})", ask.path);
    invalid(ask, 404, &message, None, Some("unknown_url"))
}

pub(super) fn missing(ask: &Ask, name: &str) -> Answer {
    match ask.wire {
        Wire::OpenAi => {
            let message = format!("Missing required parameter: '{name}'.");
            invalid(ask, 400, &message, Some(name), Some("missing_required_parameter"))
        }
        Wire::Anthropic => invalid(ask, 400, &format!("{name}: Field required"), None, None),
    }
}

/// An error that is the caller's own.
pub(super) fn invalid(
    ask: &Ask,
    status: u16,
    message: &str,
    param: Option<&str>,
    code: Option<&str>,
) -> Answer {
    let kind = match (ask.wire, status) {
        (Wire::OpenAi, _) => "invalid_request_error",
        (Wire::Anthropic, _) => anthropic_type(status),
    };
    Answer::json(status, &envelope(ask.wire, kind, message, param, code))
}

/// The answer that a fault asks for, with the status it takes in this dialect.
pub(in crate::rehearsal) fn scripted(ask: &Ask, error: &ErrorAnswer) -> Answer {
    let words = words(error, ask.wire);
    let status = error.status.unwrap_or(words.status);
    let kind = match ask.wire {
        Wire::OpenAi => words.openai_type,
        Wire::Anthropic => words.anthropic_type,
    };
    let mut body = envelope(ask.wire, kind, words.message, None, words.openai_code);
    if error.kind == ErrorKind::OutOfCredit && ask.wire == Wire::Anthropic {
        body["error"]["details"] = json!({"error_code": "enforced_spend_limit_reached"});
    }
    Answer::json(status, &body)
}

/// An error in the shape a status of 200 hides.
pub(in crate::rehearsal) fn hidden(wire: Wire) -> Value {
    match wire {
        Wire::OpenAi => envelope(
            wire,
            "server_error",
            "The server had an error while processing your request.",
            None,
            Some("server_error"),
        ),
        Wire::Anthropic => envelope(wire, "overloaded_error", "Overloaded", None, None),
    }
}

/// An error as an event of a stream.
pub(in crate::rehearsal) fn event(ask: &Ask) -> Vec<Event> {
    let error = hidden(ask.wire);
    match ask.wire {
        Wire::Anthropic => vec![Event::named(Part::Tail, "error", &error)],
        Wire::OpenAi if ask.path == "responses" => {
            let event = json!({"type": "error", "sequence_number": 2, "error": error["error"]});
            vec![Event::named(Part::Tail, "error", &event)]
        }
        Wire::OpenAi => vec![Event::data(Part::Tail, &error)],
    }
}

fn envelope(wire: Wire, kind: &str, message: &str, param: Option<&str>, code: Option<&str>) -> Value {
    match wire {
        Wire::OpenAi => json!({"error": {"message": message, "type": kind, "param": param, "code": code}}),
        Wire::Anthropic => {
            json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": null})
        }
    }
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

fn words(error: &ErrorAnswer, wire: Wire) -> Words {
    let anthropic = wire == Wire::Anthropic;
    let say = |status, openai_type, openai_code, message| Words {
        status,
        openai_type,
        openai_code,
        anthropic_type: anthropic_type(status),
        message,
    };
    match error.kind {
        ErrorKind::RateLimit => say(
            429,
            "requests",
            Some("rate_limit_exceeded"),
            "Rate limit reached for requests. Please try again later.",
        ),
        ErrorKind::Overloaded => say(
            if anthropic { 529 } else { 503 },
            "service_unavailable_error",
            Some("server_is_overloaded"),
            "Overloaded",
        ),
        ErrorKind::KeyRevoked => {
            say(401, "invalid_request_error", Some("invalid_api_key"), "Incorrect API key provided.")
        }
        ErrorKind::OutOfCredit => say(
            if anthropic { 402 } else { 429 },
            "insufficient_quota",
            Some("insufficient_quota"),
            "You exceeded your current quota, please check your plan and billing details.",
        ),
        ErrorKind::ContextLength => say(
            400,
            "invalid_request_error",
            Some("context_length_exceeded"),
            if anthropic {
                "prompt is too long: 210000 tokens > 200000 maximum"
            } else {
                "This model's maximum context length is 128000 tokens. Please reduce the length of the messages."
            },
        ),
        ErrorKind::ModelNotFound => say(
            404,
            "invalid_request_error",
            Some("model_not_found"),
            "The model does not exist or you do not have access to it.",
        ),
        ErrorKind::ContentFilter => say(
            400,
            "invalid_request_error",
            Some("content_filter"),
            "The response was filtered by the content policy.",
        ),
        ErrorKind::Status => by_status(error.status.unwrap_or(500), say),
    }
}

fn by_status(
    status: u16,
    say: impl Fn(u16, &'static str, Option<&'static str>, &'static str) -> Words,
) -> Words {
    match status {
        401 => say(status, "invalid_request_error", Some("invalid_api_key"), "Incorrect API key provided."),
        403 => say(status, "permission_error", Some("forbidden"), "You are not allowed to do this."),
        404 => say(status, "invalid_request_error", Some("not_found"), "Not found."),
        429 => say(status, "requests", Some("rate_limit_exceeded"), "Rate limit reached for requests."),
        503 => say(
            status,
            "service_unavailable_error",
            Some("server_is_overloaded"),
            "The server is currently overloaded.",
        ),
        400..=499 => say(status, "invalid_request_error", None, "The request is not valid."),
        _ => say(
            status,
            "server_error",
            Some("server_error"),
            "The server had an error while processing your request.",
        ),
    }
}
