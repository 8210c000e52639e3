//! Head facts: how each dialect is authorised and versioned, and which header fields cross the gateway.
//!
//! Heads are written anew on both sides; a field crosses only if it is named here. What is left out on purpose:
//!
//! - client credentials and everything about the connection or its coding: the gateway sets its own;
//! - `accept-encoding`: answers must arrive readable, since usage is read from them;
//! - `openai-organization`, `openai-project`, `anthropic-workspace-id`: they belong to an account, and the account is
//!   the gateway's. A client's value would turn a good key into a 401 and park it for everyone. The config can set
//!   them per provider;
//! - `x-stainless-*`: facts about the client's SDK and machine, which the provider has no use for;
//! - of answers: cookies, transport promises (`alt-svc`, `strict-transport-security`), CORS, `server`: they would
//!   speak for the provider's host, not for ours.

use crate::config::Dialect;

/// The Messages API version that translated requests are written for. Newer versions refuse `temperature` on models
/// that take it, so a translator that targets many models pins this one.
pub const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Name of the header that carries a key in `dialect`, and what stands before the key in its value.
pub fn auth_header(dialect: Dialect) -> (&'static str, &'static str) {
    match dialect {
        Dialect::OpenAi => ("authorization", "Bearer "),
        Dialect::Anthropic => ("x-api-key", ""),
    }
}

/// The `anthropic-version` to send: the client's own when its body passes through, ours when we wrote the body.
pub fn anthropic_version(client: Option<&[u8]>, translated: bool) -> &[u8] {
    match client {
        Some(version) if !translated && !version.is_empty() => version,
        _ => ANTHROPIC_VERSION.as_bytes(),
    }
}

/// Name of the response header in which providers of `dialect` give their request id.
pub fn request_id_header(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi => "x-request-id",
        Dialect::Anthropic => "request-id",
    }
}

/// Longest field name that is looked at; none of ours is longer, provider families have room.
const MAX_NAME: usize = 64;

/// Whether a request field of the client is passed on to a provider of `dialect`. The case of `name` does not matter.
///
/// `anthropic-version` is not among them: see [`anthropic_version`].
pub fn forward_request_header(dialect: Dialect, name: &[u8]) -> bool {
    let mut lower = [0; MAX_NAME];
    let Some(name) = lowercase(name, &mut lower) else { return false };
    match name[0] {
        b'a' => match dialect {
            Dialect::Anthropic if name.starts_with(b"anthropic-") => {
                !matches!(name, b"anthropic-version" | b"anthropic-workspace-id")
            }
            _ => name == b"accept",
        },
        b'c' => name == b"content-type",
        b'h' => dialect == Dialect::OpenAi && name == b"http-referer",
        b'i' => name == b"idempotency-key",
        b'o' => {
            dialect == Dialect::OpenAi
                && name.starts_with(b"openai-")
                && !matches!(name, b"openai-organization" | b"openai-project")
        }
        b't' => matches!(name, b"traceparent" | b"tracestate"),
        b'u' => name == b"user-agent",
        b'x' => match dialect {
            // OpenRouter attributes calls by referer and title.
            Dialect::OpenAi => matches!(name, b"x-client-request-id" | b"x-title"),
            Dialect::Anthropic => name == b"x-claude-code-session-id",
        },
        _ => false,
    }
}

/// Whether a response field of a provider is passed on to the client. The case of `name` does not matter.
pub fn forward_response_header(name: &[u8]) -> bool {
    let mut lower = [0; MAX_NAME];
    let Some(name) = lowercase(name, &mut lower) else { return false };
    match name[0] {
        b'a' => name.starts_with(b"anthropic-") || name == b"apim-request-id",
        b'c' => matches!(name, b"content-type" | b"content-encoding" | b"content-disposition" | b"cf-ray"),
        b'o' => name.starts_with(b"openai-"),
        b'r' => matches!(name, b"request-id" | b"retry-after" | b"retry-after-ms"),
        b'x' => {
            matches!(name, b"x-request-id" | b"x-should-retry")
                || name.starts_with(b"x-ratelimit-")
                || name.starts_with(b"x-ms-")
        }
        _ => false,
    }
}

/// `name` in lower case; none when it is empty or too long to be one of ours.
fn lowercase<'l>(name: &[u8], lower: &'l mut [u8; MAX_NAME]) -> Option<&'l [u8]> {
    let lower = lower.get_mut(..name.len()).filter(|lower| !lower.is_empty())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_carry_what_the_provider_needs_and_no_more() {
        for (name, openai, anthropic) in [
            ("Content-Type", true, true),
            ("accept", true, true),
            ("User-Agent", true, true),
            ("Idempotency-Key", true, true),
            ("traceparent", true, true),
            ("OpenAI-Beta", true, false),
            ("X-Client-Request-Id", true, false),
            ("HTTP-Referer", true, false),
            ("anthropic-beta", false, true),
            ("X-Claude-Code-Session-Id", false, true),
            ("anthropic-version", false, false),
            ("anthropic-workspace-id", false, false),
            ("OpenAI-Organization", false, false),
            ("openai-project", false, false),
            ("Authorization", false, false),
            ("x-api-key", false, false),
            ("Cookie", false, false),
            ("Accept-Encoding", false, false),
            ("X-Stainless-Lang", false, false),
            ("x-sluice-pipeline", false, false),
            ("Host", false, false),
            ("Connection", false, false),
            ("Transfer-Encoding", false, false),
            ("", false, false),
        ] {
            assert_eq!(forward_request_header(Dialect::OpenAi, name.as_bytes()), openai, "openai {name}");
            assert_eq!(
                forward_request_header(Dialect::Anthropic, name.as_bytes()),
                anthropic,
                "anthropic {name}"
            );
        }
        assert!(!forward_request_header(Dialect::Anthropic, &[b'a'; 100]));
    }

    #[test]
    fn answers_bring_limits_and_ids_but_nothing_about_the_providers_host() {
        for name in [
            "Content-Type",
            "x-request-id",
            "request-id",
            "openai-processing-ms",
            "X-RateLimit-Remaining-Tokens",
            "anthropic-ratelimit-requests-reset",
            "Retry-After",
            "retry-after-ms",
            "x-should-retry",
            "apim-request-id",
            "x-ms-region",
        ] {
            assert!(forward_response_header(name.as_bytes()), "{name}");
        }
        for name in [
            "Set-Cookie",
            "Alt-Svc",
            "Strict-Transport-Security",
            "Access-Control-Allow-Origin",
            "Server",
            "Date",
            "Transfer-Encoding",
            "Content-Length",
            "Connection",
            "x-sluice-provider",
            "Via",
            "",
        ] {
            assert!(!forward_response_header(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn versions_are_ours_only_when_the_body_is() {
        assert_eq!(anthropic_version(Some(b"2026-10-21"), false), b"2026-10-21");
        assert_eq!(anthropic_version(Some(b"2026-10-21"), true), b"2023-06-01");
        assert_eq!(anthropic_version(None, false), b"2023-06-01");
    }
}
