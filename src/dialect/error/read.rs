//! Reading what a provider says when it fails.
//!
//! Envelopes seen: OpenAI `{"error":{message,type,param,code}}`, Anthropic `{"type":"error","error":{type,message}}`,
//! vLLM `{"object":"error",message,type,code}`, FastAPI `{"detail":…}`, a bare `{"message":…}`, `{"error":"text"}`,
//! Google's `[{"error":{code,message,status,details}}]`, HTML from a proxy on the way, and nothing at all.

use super::{ErrorKind, RetryHints, UpstreamError, retry_after, retry_after_ms};
use crate::dialect::json::{Kind, Raw};
use crate::wire::sse;

/// Longest message taken over from a provider; bytes. A page of HTML helps nobody.
const MAX_MESSAGE: usize = 2000;

/// Reads a failed answer: its status, the headers about retrying, and its body, which may be cut or no JSON.
pub fn read_error(status: u16, hints: &RetryHints<'_>, body: &[u8]) -> UpstreamError {
    let said = Said::read(body);
    let mut error = said.into_error(status, body);
    error.retry_after_ms = retry_after_ms(hints).or(said_wait(body));
    error.should_retry = hints.advice();
    error
}

/// Reads an error event inside a stream that began with a 200; the status is the one the words stand for.
pub fn read_stream_error(event: &[u8]) -> UpstreamError {
    let data = sse::fields(event).data().unwrap_or_default();
    let said = Said::read(&data);
    let status = said.status_by_words();
    let mut error = said.into_error(status, &data);
    error.retry_after_ms = said_wait(&data);
    error
}

/// The words of an error body, whatever its envelope.
#[derive(Default)]
struct Said {
    error_type: Option<String>,
    code: Option<String>,
    param: Option<String>,
    message: Option<String>,
    /// A status that stands in the body, as OpenRouter, Groq, vLLM and Google put it.
    status: Option<u16>,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        let mut said = Self::default();
        let mut root = Raw::of(body);
        if root.kind() == Some(Kind::Array) {
            root = root.items().next().unwrap_or(root);
        }
        // The Responses API wraps a failed response around its error.
        for raw in
            [root.get("response").and_then(|response| response.get("error")), root.get("error"), Some(root)]
        {
            match raw.map(|raw| (raw, raw.kind())) {
                Some((raw, Some(Kind::Object))) => said.take(raw),
                Some((raw, Some(Kind::String))) if raw != root => said.message = said.message.or(text(raw)),
                _ => {}
            }
        }
        said
    }

    /// Fills what is still empty from one object, so that the innermost one wins.
    fn take(&mut self, object: Raw<'_>) {
        object.members(|name, value| {
            let slot = match name {
                // The envelope's own `"type":"error"` says nothing.
                b"type" if !value.is("error") => &mut self.error_type,
                b"code" | b"status" | b"status_code" if value.kind() == Some(Kind::Number) => {
                    self.status = self.status.or(value.count().and_then(|code| u16::try_from(code).ok()));
                    return;
                }
                b"code" | b"status" => &mut self.code,
                b"param" => &mut self.param,
                b"message" | b"detail" => &mut self.message,
                b"details" => {
                    // Anthropic: `details.error_code` is more exact than the type.
                    if let Some(code) = value.get("error_code") {
                        self.code = text(code).or(self.code.take());
                    }
                    return;
                }
                _ => return,
            };
            if slot.is_none() {
                *slot = text(value).filter(|text| !text.is_empty());
            }
        });
    }

    fn into_error(self, status: u16, body: &[u8]) -> UpstreamError {
        let kind = self.classify(status, body);
        let mut message = self.message.unwrap_or_else(|| match std::str::from_utf8(body).map(str::trim) {
            Ok(text) if !text.is_empty() && !text.starts_with(['<', '{', '[']) => text.to_owned(),
            _ => format!("The provider answered with status {status} and no message."),
        });
        if message.len() > MAX_MESSAGE {
            let cut = (0..=MAX_MESSAGE).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
            message.truncate(cut);
        }
        UpstreamError {
            status,
            kind,
            error_type: self.error_type,
            code: self.code,
            param: self.param,
            message,
            retry_after_ms: None,
            should_retry: None,
        }
    }

    fn classify(&self, status: u16, body: &[u8]) -> ErrorKind {
        let message = self.message.as_deref().unwrap_or("").to_ascii_lowercase();
        if let Some(kind) = self.by_word(&message) {
            return kind;
        }
        match status {
            401 => ErrorKind::Authentication,
            402 => ErrorKind::Money,
            403 => ErrorKind::Permission,
            404 if self.error_type.as_deref() == Some("not_found_error") && message.starts_with("model") => {
                ErrorKind::ModelNotFound
            }
            404 => ErrorKind::NotFound,
            408 | 504 => ErrorKind::Timeout,
            409 => ErrorKind::Conflict,
            413 => ErrorKind::TooLarge,
            // Google: a quota per day is not back before tomorrow.
            429 if memchr::memmem::find(body, b"PerDay").is_some() => ErrorKind::Money,
            429 => ErrorKind::RateLimit,
            529 => ErrorKind::Overloaded,
            400..500 => ErrorKind::InvalidRequest,
            _ => ErrorKind::Server,
        }
    }

    /// What a well-known type, code or phrase means, whatever the status.
    fn by_word(&self, message: &str) -> Option<ErrorKind> {
        for word in [self.code.as_deref(), self.error_type.as_deref()].into_iter().flatten() {
            let kind = match word {
                "insufficient_quota"
                | "credit_balance_exhausted"
                | "organization_spend_limit_exceeded"
                | "project_spend_limit_exceeded"
                | "organization_usage_limit_exceeded"
                | "enforced_spend_limit_reached"
                | "billing_hard_limit_reached"
                | "billing_not_active"
                | "billing_error" => ErrorKind::Money,
                "context_length_exceeded" | "model_context_window_exceeded" => ErrorKind::ContextLength,
                "content_filter" | "content_policy_violation" | "ResponsibleAIPolicyViolation" => {
                    ErrorKind::ContentFilter
                }
                "model_not_found" | "DeploymentNotFound" => ErrorKind::ModelNotFound,
                "invalid_api_key" | "authentication_error" | "UNAUTHENTICATED" => ErrorKind::Authentication,
                "overloaded_error" | "server_is_overloaded" => ErrorKind::Overloaded,
                _ => continue,
            };
            return Some(kind);
        }
        const PHRASES: [(&str, ErrorKind); 10] = [
            ("credit balance is too low", ErrorKind::Money),
            ("insufficient balance", ErrorKind::Money),
            ("exceeded your current quota, please check your plan and billing", ErrorKind::Money),
            ("prompt is too long", ErrorKind::ContextLength),
            ("maximum context length", ErrorKind::ContextLength),
            ("exceed context limit", ErrorKind::ContextLength),
            ("exceeds the context window", ErrorKind::ContextLength),
            ("input is too long for", ErrorKind::ContextLength),
            ("api key not valid", ErrorKind::Authentication),
            ("incorrect api key", ErrorKind::Authentication),
        ];
        PHRASES.iter().find(|(phrase, _)| message.contains(phrase)).map(|&(_, kind)| kind)
    }

    /// The status that an error inside a stream would have had as an answer.
    fn status_by_words(&self) -> u16 {
        if let Some(status) = self.status.filter(|status| (400..600).contains(status)) {
            return status;
        }
        for word in [self.error_type.as_deref(), self.code.as_deref()].into_iter().flatten() {
            return match word {
                "invalid_request_error" => 400,
                "authentication_error" | "invalid_api_key" => 401,
                "billing_error" => 402,
                "permission_error" => 403,
                "not_found_error" | "model_not_found" => 404,
                "request_too_large" => 413,
                "rate_limit_error" | "rate_limit_exceeded" | "insufficient_quota" | "tokens" | "requests" => {
                    429
                }
                "timeout_error" => 504,
                "overloaded_error" => 529,
                "server_is_overloaded" | "service_unavailable_error" => 503,
                _ => continue,
            };
        }
        500
    }
}

/// Google's `RetryInfo` among the error's details.
fn said_wait(body: &[u8]) -> Option<u64> {
    memchr::memmem::find(body, b"retryDelay")?;
    let mut root = Raw::of(body);
    if root.kind() == Some(Kind::Array) {
        root = root.items().next()?;
    }
    let details = root.get("error")?.get("details")?;
    details.items().find_map(|detail| retry_after::duration_ms(&detail.get("retryDelay")?.text()?))
}

fn text(value: Raw<'_>) -> Option<String> {
    match value.kind()? {
        Kind::String => value.text().map(std::borrow::Cow::into_owned),
        // FastAPI puts a list of complaints into `detail`.
        Kind::Array | Kind::Object => Some(String::from_utf8_lossy(value.bytes()).into_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> ErrorKind {
        read_error(status, &RetryHints::default(), body.as_bytes()).kind
    }

    #[test]
    fn each_failure_is_called_what_it_is() {
        for (status, body, expected) in [
            (
                400,
                r#"{"error":{"message":"Invalid value","type":"invalid_request_error","param":"temperature","code":"invalid_value"}}"#,
                ErrorKind::InvalidRequest,
            ),
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 128000 tokens.","code":"context_length_exceeded"}}"#,
                ErrorKind::ContextLength,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
                ErrorKind::ContextLength,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#,
                ErrorKind::Money,
            ),
            (
                400,
                r#"{"error":{"message":"filtered","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
                ErrorKind::ContentFilter,
            ),
            (
                401,
                r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}"#,
                ErrorKind::Authentication,
            ),
            (
                401,
                r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
                ErrorKind::Authentication,
            ),
            (402, r#"{"error":{"message":"Insufficient Balance"}}"#, ErrorKind::Money),
            (403, "", ErrorKind::Permission),
            (
                404,
                r#"{"error":{"code":"model_not_found","message":"The model `x` does not exist"}}"#,
                ErrorKind::ModelNotFound,
            ),
            (
                404,
                r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-9"}}"#,
                ErrorKind::ModelNotFound,
            ),
            (404, r#"{"error":{"code":"DeploymentNotFound","message":"x"}}"#, ErrorKind::ModelNotFound),
            (404, "not found", ErrorKind::NotFound),
            (
                413,
                r#"{"type":"error","error":{"type":"request_too_large","message":"x"}}"#,
                ErrorKind::TooLarge,
            ),
            (
                429,
                r#"{"error":{"message":"Rate limit reached","type":"tokens","code":"rate_limit_exceeded"}}"#,
                ErrorKind::RateLimit,
            ),
            (
                429,
                r#"{"error":{"message":"x","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                ErrorKind::Money,
            ),
            (
                429,
                r#"{"error":{"message":"x","type":"insufficient_quota","code":"project_spend_limit_exceeded"}}"#,
                ErrorKind::Money,
            ),
            (
                429,
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"x","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
                ErrorKind::Money,
            ),
            (
                429,
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"x"}}"#,
                ErrorKind::RateLimit,
            ),
            (500, "<html>oops</html>", ErrorKind::Server),
            (
                503,
                r#"{"error":{"code":"server_is_overloaded","type":"service_unavailable_error","message":"x"}}"#,
                ErrorKind::Overloaded,
            ),
            (503, "", ErrorKind::Server),
            (504, "", ErrorKind::Timeout),
            (
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                ErrorKind::Overloaded,
            ),
            (529, "", ErrorKind::Overloaded),
        ] {
            assert_eq!(kind(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn the_sentence_is_found_in_every_envelope() {
        for (body, message) in [
            (r#"{"error":{"message":"a"}}"#, "a"),
            (r#"{"error":"b"}"#, "b"),
            (r#"{"object":"error","message":"c","type":"BadRequestError","code":400}"#, "c"),
            (r#"{"detail":"d"}"#, "d"),
            (r#"{"detail":[{"msg":"e"}]}"#, r#"[{"msg":"e"}]"#),
            (r#"{"message":"f"}"#, "f"),
            (r#"[{"error":{"code":429,"message":"g","status":"RESOURCE_EXHAUSTED"}}]"#, "g"),
            ("upstream connect error", "upstream connect error"),
            ("<html>", "The provider answered with status 500 and no message."),
            ("", "The provider answered with status 500 and no message."),
            (r#"{"error":{"message":"cut"#, "The provider answered with status 500 and no message."),
        ] {
            assert_eq!(read_error(500, &RetryHints::default(), body.as_bytes()).message, message, "{body}");
        }
        let long = format!(r#"{{"error":{{"message":"{}"}}}}"#, "é".repeat(3000));
        assert!(read_error(500, &RetryHints::default(), long.as_bytes()).message.len() <= MAX_MESSAGE);
    }

    #[test]
    fn a_wait_can_stand_in_the_head_or_in_the_body() {
        let body = br#"[{"error":{"code":429,"message":"x","details":[{"@type":"QuotaFailure"},{"@type":"RetryInfo","retryDelay":"39s"}]}}]"#;
        assert_eq!(read_error(429, &RetryHints::default(), body).retry_after_ms, Some(39_000));
        let hints =
            RetryHints { retry_after: Some(b"3"), should_retry: Some(b"false"), ..RetryHints::default() };
        let error = read_error(429, &hints, body);
        assert_eq!((error.retry_after_ms, error.should_retry), (Some(3000), Some(false)));
    }

    #[test]
    fn errors_inside_streams_get_the_status_they_stand_for() {
        for (event, status, expected) in [
            (
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n",
                529,
                ErrorKind::Overloaded,
            ),
            ("data: {\"error\":{\"message\":\"x\",\"type\":\"server_error\"}}\n\n", 500, ErrorKind::Server),
            (
                "data: {\"error\":{\"message\":\"x\",\"type\":\"invalid_request_error\",\"code\":\"tool_use_failed\",\"status_code\":400}}\n\n",
                400,
                ErrorKind::InvalidRequest,
            ),
            (
                "data: {\"type\":\"error\",\"sequence_number\":2,\"error\":{\"type\":\"insufficient_quota\",\"code\":\"insufficient_quota\",\"message\":\"x\"}}\n\n",
                429,
                ErrorKind::Money,
            ),
            (
                "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"x\"}}}\n\n",
                429,
                ErrorKind::RateLimit,
            ),
            ("data: {\"error\":{\"code\":502,\"message\":\"x\"},\"choices\":[]}\n\n", 502, ErrorKind::Server),
            ("event: error\ndata: oh no\n\n", 500, ErrorKind::Server),
            ("event: error\n\n", 500, ErrorKind::Server),
        ] {
            let error = read_stream_error(event.as_bytes());
            assert_eq!((error.status, error.kind), (status, expected), "{event}");
        }
    }
}
