//! Writing an error so that the client's SDK understands it.

use super::GatewayError;
use crate::config::Dialect;
use crate::dialect::api::Api;
use crate::dialect::json::push_string;

/// Appends the body of an error answer in the client's dialect. The status goes into the head.
///
/// OpenAI: `{"error":{message,type,param,code}}`. Anthropic: `{"type":"error","error":{type,message,details},
/// "request_id"}`, where the code stands in `details.error_code`, its one place for such a word.
pub fn render_error(client: Dialect, error: &GatewayError, request_id: &str, out: &mut Vec<u8>) {
    match client {
        Dialect::Anthropic => push_anthropic(error, Some(request_id), out),
        Dialect::OpenAi => {
            out.extend_from_slice(b"{\"error\":");
            push_openai(error, out);
            out.push(b'}');
        }
    }
}

/// Appends one whole event that ends a stream in failure, as the SDK of the client's `api` expects it: a `data` line
/// with an `error` member for Chat and Completions, `event: error` for Responses and for Anthropic.
pub fn render_stream_error(client: Dialect, api: Api, error: &GatewayError, out: &mut Vec<u8>) {
    match (client, api) {
        (Dialect::Anthropic, _) => {
            out.extend_from_slice(b"event: error\ndata: ");
            push_anthropic(error, None, out);
        }
        (Dialect::OpenAi, Api::Responses) => {
            // The SDKs type the members flat, the service sends them nested: both, so that either reader finds them.
            out.extend_from_slice(b"event: error\ndata: {\"type\":\"error\",\"code\":");
            push_string(out, &error.code);
            out.extend_from_slice(b",\"message\":");
            push_string(out, &error.message);
            out.extend_from_slice(b",\"param\":");
            push_param(error, out);
            out.extend_from_slice(b",\"sequence_number\":0,\"error\":");
            push_openai(error, out);
            out.push(b'}');
        }
        (Dialect::OpenAi, _) => {
            out.extend_from_slice(b"data: {\"error\":");
            push_openai(error, out);
            out.push(b'}');
        }
    }
    out.extend_from_slice(b"\n\n");
}

fn push_openai(error: &GatewayError, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"message\":");
    push_string(out, &error.message);
    out.extend_from_slice(b",\"type\":");
    push_string(out, error.kind.type_in(Dialect::OpenAi));
    out.extend_from_slice(b",\"param\":");
    push_param(error, out);
    out.extend_from_slice(b",\"code\":");
    push_string(out, &error.code);
    out.push(b'}');
}

fn push_anthropic(error: &GatewayError, request_id: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"error\",\"error\":{\"type\":");
    push_string(out, error.kind.type_in(Dialect::Anthropic));
    out.extend_from_slice(b",\"message\":");
    push_string(out, &error.message);
    out.extend_from_slice(b",\"details\":{\"error_code\":");
    push_string(out, &error.code);
    out.extend_from_slice(b"}}");
    if let Some(request_id) = request_id {
        out.extend_from_slice(b",\"request_id\":");
        push_string(out, request_id);
    }
    out.push(b'}');
}

fn push_param(error: &GatewayError, out: &mut Vec<u8>) {
    match &error.param {
        Some(param) => push_string(out, param),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::error::{ErrorKind, RetryHints, read_error, read_stream_error};
    use crate::dialect::watch::{EventKind, StreamWatch};

    fn sample() -> GatewayError {
        let mut error = GatewayError::new(ErrorKind::Overloaded, "All targets \"failed\"\nsee attempts");
        error.param = Some("model".into());
        error
    }

    fn body(client: Dialect) -> serde_json::Value {
        let mut out = Vec::new();
        render_error(client, &sample(), "req_1", &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn answers_have_the_envelope_that_sdks_read() {
        let openai = body(Dialect::OpenAi);
        assert_eq!(openai["error"]["code"], "server_is_overloaded");
        assert_eq!(openai["error"]["type"], "service_unavailable_error");
        assert_eq!(openai["error"]["param"], "model");
        assert_eq!(openai["error"]["message"], "All targets \"failed\"\nsee attempts");
        let anthropic = body(Dialect::Anthropic);
        assert_eq!(anthropic["type"], "error");
        assert_eq!(anthropic["error"]["type"], "overloaded_error");
        assert_eq!(anthropic["error"]["details"]["error_code"], "server_is_overloaded");
        assert_eq!(anthropic["request_id"], "req_1");
    }

    #[test]
    fn a_failed_stream_never_looks_finished() {
        for (client, api) in [
            (Dialect::OpenAi, Api::ChatCompletions),
            (Dialect::OpenAi, Api::Completions),
            (Dialect::OpenAi, Api::Responses),
            (Dialect::Anthropic, Api::Messages),
        ] {
            let mut out = Vec::new();
            render_stream_error(client, api, &sample(), &mut out);
            let text = std::str::from_utf8(&out).unwrap();
            assert!(text.ends_with("\n\n") && text.matches("\n\n").count() == 1, "one event: {text}");
            let mut watch = StreamWatch::new(api, client);
            assert_eq!(watch.event(&out), EventKind::Error, "{text}");
            assert!(!watch.ended());
            assert_eq!(read_stream_error(&out).kind, ErrorKind::Overloaded, "{text}");
        }
    }

    #[test]
    fn a_providers_error_keeps_its_meaning_in_the_other_dialect() {
        for (status, body, client, expected) in [
            (
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                Dialect::OpenAi,
                (503, "overloaded_error"),
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 2 > 1"}}"#,
                Dialect::OpenAi,
                (400, "context_length_exceeded"),
            ),
            (
                402,
                r#"{"type":"error","error":{"type":"billing_error","message":"x"}}"#,
                Dialect::OpenAi,
                (429, "insufficient_quota"),
            ),
            (
                413,
                r#"{"type":"error","error":{"type":"request_too_large","message":"x"}}"#,
                Dialect::OpenAi,
                (413, "request_too_large"),
            ),
            (
                404,
                r#"{"type":"error","error":{"type":"not_found_error","message":"model: x"}}"#,
                Dialect::OpenAi,
                (404, "model_not_found"),
            ),
            (
                503,
                r#"{"error":{"code":"server_is_overloaded","message":"x"}}"#,
                Dialect::Anthropic,
                (529, "server_is_overloaded"),
            ),
            (
                429,
                r#"{"error":{"code":"insufficient_quota","message":"x"}}"#,
                Dialect::Anthropic,
                (402, "insufficient_quota"),
            ),
            (302, "", Dialect::OpenAi, (502, "server_error")),
        ] {
            let error = read_error(status, &RetryHints::default(), body.as_bytes()).for_client(client);
            assert_eq!((error.status, &*error.code), expected, "{status} {body}");
        }
        let long = read_error(
            400,
            &RetryHints::default(),
            br#"{"error":{"code":"context_length_exceeded","message":"128k"}}"#,
        );
        assert_eq!(long.for_client(Dialect::Anthropic).message, "prompt is too long: 128k");
    }
}
