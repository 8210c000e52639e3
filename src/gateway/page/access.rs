//! Who may see the page's data, and who may change something.
//!
//! The gateway listens on a port that any web page in a browser on the same machine can send requests to, and any program
//! on it. So, for everything below `/admin`:
//! - the `Host` is one of ours (the guard before us; a name that was rebound is none);
//! - an `Origin` must be the page's own, and a browser that says `Sec-Fetch-Site` must say that nobody else asks. Origins
//!   that the file allows may use the models; they may not use this;
//! - no CORS permission is ever given, and no cookie is ever set, so there is no credential that a browser would add;
//! - reading is free where the gateway listens on loopback and has no client keys; elsewhere it wants the token;
//! - changing something always wants the token, in a header that no form can set. It is compared in constant time.
//!
//! The page's own files hold no data, so they are open: a stranger gets an empty frame.

use crate::config::Plan;
use crate::dialect::error::{ErrorKind, GatewayError};

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// See.
    Read,
    /// Start, stop, reset, reload.
    Change,
}

/// Whether `path` is one of the page's files.
pub fn is_shell(path: &[u8]) -> bool {
    matches!(path, b"/" | b"/favicon.ico") || path.starts_with(b"/ui/")
}

/// Whether a request with this `Host` and `Origin` comes from the page itself. The host was let in already; where every
/// host is, only an address counts, since a name may have been bound to us by whoever owns it.
pub fn is_own_origin(plan: &Plan, host: &[u8], origin: &[u8]) -> bool {
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    let same = authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host));
    plan.admin.page && same && (!plan.allowed_hosts.is_empty() || is_address(host))
}

/// `1.2.3.4`, `1.2.3.4:80`, `[::1]` or `[::1]:80`.
fn is_address(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    host.parse::<std::net::SocketAddr>().is_ok()
        || host.parse::<std::net::Ipv4Addr>().is_ok()
        || bare.is_some_and(|bare| bare.parse::<std::net::Ipv6Addr>().is_ok())
}

/// The value of a field in a head that was read strictly, so that each line is a whole field.
pub fn header<'h>(head: &'h [u8], name: &str) -> Option<&'h [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let at = line.iter().position(|byte| *byte == b':')?;
        let (own, value) = line.split_at(at);
        own.eq_ignore_ascii_case(name.as_bytes()).then(|| value[1..].trim_ascii())
    })
}

/// # Errors
/// The request comes from another web page.
pub fn is_foreign(plan: &Plan, head: &[u8]) -> Result<(), GatewayError> {
    let host = header(head, "host").unwrap_or_default();
    let other_origin = header(head, "origin").is_some_and(|origin| !is_own_origin(plan, host, origin));
    let other_site = header(head, "sec-fetch-site").is_some_and(|s| !matches!(s, b"same-origin" | b"none"));
    match other_origin || other_site {
        true => Err(refusal(403, "cross_site", "the admin API serves the gateway's own page and no other")),
        false => Ok(()),
    }
}

/// # Errors
/// Why the request may not do this, and what to do about it.
pub fn check(plan: &Plan, head: &[u8], right: Right) -> Result<(), GatewayError> {
    is_foreign(plan, head)?;
    if right == Right::Read && is_open(plan) {
        return Ok(());
    }
    let Some(token) = &plan.admin.token else {
        let what = match right {
            Right::Change => "nothing can be changed here without an admin token",
            Right::Read => {
                "the page is readable without a token only on loopback and without client keys, and there is no token"
            }
        };
        let help = "set `admin: {token: env.SLUICE_ADMIN_TOKEN}` in the configuration and reload";
        return Err(refusal(403, "admin_token_not_configured", &format!("{what}; {help}")));
    };
    match presented(head) {
        Some(own) if token.matches(own) => Ok(()),
        Some(_) => Err(refusal(401, "invalid_admin_token", "that is not the token of `admin.token`")),
        None => Err(refusal(
            401,
            "admin_token_required",
            "send the token of `admin.token` as `Authorization: Bearer TOKEN` or `x-sluice-admin-token: TOKEN`",
        )),
    }
}

/// What the caller may do, as JSON.
pub fn describe(plan: &Plan, head: &[u8]) -> Vec<u8> {
    let may = |right| check(plan, head, right).is_ok();
    serde_json::json!({
        "v": 1,
        "read": may(Right::Read),
        "change": may(Right::Change),
        "token_configured": plan.admin.token.is_some(),
        "client_key_needed": !plan.client_keys.is_empty(),
    })
    .to_string()
    .into_bytes()
}

/// Only whoever is on this machine reaches it, and everybody there may use it.
fn is_open(plan: &Plan) -> bool {
    plan.listen.ip().is_loopback() && plan.client_keys.is_empty()
}

fn presented(head: &[u8]) -> Option<&[u8]> {
    header(head, "x-sluice-admin-token").or_else(|| {
        let (scheme, token) = header(head, "authorization")?.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
    })
}

fn refusal(status: u16, code: &'static str, message: &str) -> GatewayError {
    let kind = if status == 401 { ErrorKind::Authentication } else { ErrorKind::Permission };
    let mut error = GatewayError::new(kind, message);
    (error.status, error.code, error.should_retry) = (status, code.into(), Some(false));
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loader;

    const TOKEN: &str = "a-token-of-some-length";

    fn plan(more: &str) -> Plan {
        let loader = Loader { file: Some("t.yaml".into()), ..Loader::default() };
        let text = format!("{{providers: {{x: {{base_url: 'http://h'}}}}, {more}}}");
        loader.load_text(&text, &|_| Some(TOKEN.to_owned())).unwrap()
    }

    fn code(plan: &Plan, fields: &str, right: Right) -> String {
        let head = format!("GET / HTTP/1.1\r\nHost: localhost:8080\r\n{fields}\r\n");
        check(plan, head.as_bytes(), right).err().map_or_else(String::new, |error| error.code.into_owned())
    }

    #[test]
    fn a_foreign_page_gets_nothing_even_where_it_may_use_the_models() {
        let plan = plan("allowed_origins: ['https://app.example']");
        for fields in [
            "Origin: https://app.example\r\n",
            "Origin: null\r\n",
            "Origin: http://localhost:3000\r\n",
            "Origin: http://localhost:8080.evil.example\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\n",
            "Origin: http://localhost:8080\r\nSec-Fetch-Site: cross-site\r\n",
        ] {
            assert_eq!(code(&plan, fields, Right::Read), "cross_site", "{fields}");
        }
        for fields in [
            "",
            "Origin: http://localhost:8080\r\nSec-Fetch-Site: same-origin\r\n",
            "Sec-Fetch-Site: none\r\n",
        ] {
            assert_eq!(code(&plan, fields, Right::Read), "", "{fields}");
        }
    }

    #[test]
    fn changes_want_the_token_and_reading_does_where_others_are() {
        let open = plan("listen: '127.0.0.1:8080'");
        assert_eq!(code(&open, "", Right::Read), "");
        assert_eq!(code(&open, "", Right::Change), "admin_token_not_configured");
        let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
        let own = format!("X-Sluice-Admin-Token: {TOKEN}\r\n");
        for more in ["listen: '0.0.0.0:8080'", "auth: ['sk-client-of-this']"] {
            assert_eq!(code(&plan(more), "", Right::Read), "admin_token_not_configured", "{more}");
            let plan = plan(&format!("{more}, admin: {{token: env.T}}"));
            for right in [Right::Read, Right::Change] {
                assert_eq!(code(&plan, "", right), "admin_token_required", "{more}");
                assert_eq!(code(&plan, "authorization: bearer wrong\r\n", right), "invalid_admin_token");
                assert_eq!(
                    code(&plan, "authorization: bearer sk-client-of-this\r\n", right),
                    "invalid_admin_token"
                );
                assert_eq!(code(&plan, &bearer, right), "");
                assert_eq!(code(&plan, &own, right), "");
            }
        }
    }

    #[test]
    fn where_every_host_is_served_only_an_address_is_the_pages_own() {
        let plan = plan("listen: '0.0.0.0:8080'");
        for (host, own) in [("10.0.0.7:8080", true), ("[::1]:8080", true), ("rebound.example:8080", false)] {
            let origin = format!("http://{host}");
            assert_eq!(is_own_origin(&plan, host.as_bytes(), origin.as_bytes()), own, "{host}");
        }
        assert!(!is_own_origin(&plan, b"10.0.0.7:8080", b"http://10.0.0.7:8081"));
    }
}
