//! Whether a request may be served at all, decided on its head before its body is read.
//!
//! The gateway holds paid keys on a loopback port, which any web page that is open in the same machine's browser can
//! reach. So: a Host that is not ours is refused (DNS rebinding), an Origin that is not allowed is refused, a
//! cross-site fetch is refused, a POST without a content type that needs a preflight is refused, and no CORS
//! permission is ever given. The live page is the one web page whose Origin is ours; its files may be reached by a link
//! from anywhere, because they hold nothing. Client keys, when the plan has some, are compared in constant time.

use crate::config::Plan;
use crate::wire::fields::{Fields, Known};
use crate::wire::head::RequestHead;

use super::page;
use super::respond::Refusal;

/// Decides by the head alone.
///
/// # Errors
/// The refusal to answer with; the connection is closed after it.
pub fn admit(
    plan: &Plan,
    fields: &Fields,
    bytes: &[u8],
    head: &RequestHead<'_>,
    path: &[u8],
) -> Result<(), Refusal> {
    if head.method == b"CONNECT" || path == b"*" {
        return Err(Refusal::new(
            405,
            "method_not_allowed",
            "this is a gateway to model providers, not a proxy",
        ));
    }
    if let Some(host) = fields.value(bytes, Known::Host)
        && !plan.allows_host(host)
    {
        return Err(Refusal::new(
            421,
            "host_not_allowed",
            "this Host is not one of the gateway's names; add it to allowed_hosts",
        ));
    }
    if let Some(origin) = fields.value(bytes, Known::Origin)
        && !plan.allows_origin(origin)
        && !page::is_own_origin(plan, fields.value(bytes, Known::Host).unwrap_or_default(), origin)
    {
        return Err(Refusal::new(
            403,
            "origin_not_allowed",
            "web pages of this Origin may not use the gateway; add it to allowed_origins",
        ));
    }
    if let Some(site) = fields.value(bytes, Known::SecFetchSite)
        && !matches!(site, b"same-origin" | b"none")
        && !fields.has(Known::Origin)
        && !(head.method == b"GET" && plan.admin.page && page::is_shell(path))
    {
        return Err(Refusal::new(403, "cross_site", "requests from other web sites are not served"));
    }
    if let Some(coding) = fields.value(bytes, Known::ContentEncoding)
        && !coding.eq_ignore_ascii_case(b"identity")
    {
        return Err(Refusal::new(415, "content_encoding", "send the body uncompressed"));
    }
    if head.method == b"OPTIONS" {
        return Err(Refusal::method("GET, POST"));
    }
    let is_form = fields.value(bytes, Known::ContentType).is_some_and(is_simple_for_browsers);
    if head.method == b"POST" && is_form {
        return Err(Refusal::new(
            415,
            "content_type",
            "send Content-Type: application/json (or multipart/form-data with a client key)",
        ));
    }
    if !plan.client_keys.is_empty() && !is_open(plan, path) {
        authorise(plan, fields, bytes)?;
    }
    Ok(())
}

/// Liveness probes carry no credentials; the page's files hold no data, and its API looks at its own token.
fn is_open(plan: &Plan, path: &[u8]) -> bool {
    matches!(path, b"/healthz" | b"/readyz") || (plan.admin.page && page::is_ours(path))
}

/// Content types that a web page may send anywhere without asking first (Fetch standard, "CORS-safelisted"), apart
/// from multipart, which uploads of audio and files need.
fn is_simple_for_browsers(value: &[u8]) -> bool {
    let essence = value.split(|b| *b == b';').next().unwrap_or(value).trim_ascii();
    essence.eq_ignore_ascii_case(b"text/plain")
        || essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

fn authorise(plan: &Plan, fields: &Fields, bytes: &[u8]) -> Result<(), Refusal> {
    let bearer = fields.value(bytes, Known::Authorization).and_then(|value| {
        let (scheme, token) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
    });
    // Anthropic's SDKs send either; where both are present x-api-key wins, as it does at the provider.
    let presented = fields.value(bytes, Known::XApiKey).or(bearer).or(fields.value(bytes, Known::ApiKey));
    let known = presented.is_some_and(|token| {
        // Every key is compared, so that the time taken tells nothing about which one was close.
        plan.client_keys.iter().fold(false, |found, key| found | same(token, key.secret.expose().as_bytes()))
    });
    if known {
        return Ok(());
    }
    Err(Refusal::new(401, "invalid_api_key", "the gateway wants one of its client keys as the API key"))
}

/// Compares in time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    std::hint::black_box(a.iter().zip(b).fold(0u8, |diff, (x, y)| diff | (x ^ y))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_equal_only_when_every_byte_is() {
        assert!(same(b"sk-1", b"sk-1"));
        assert!(!same(b"sk-1", b"sk-2"));
        assert!(!same(b"sk-1", b"sk-12"));
        assert!(!same(b"", b"x"));
    }

    #[test]
    fn form_posts_of_web_pages_are_recognised() {
        assert!(is_simple_for_browsers(b"text/plain;charset=UTF-8"));
        assert!(is_simple_for_browsers(b"application/x-www-form-urlencoded"));
        assert!(!is_simple_for_browsers(b"application/json"));
        assert!(!is_simple_for_browsers(b"multipart/form-data; boundary=x"));
    }
}
