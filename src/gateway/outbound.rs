//! The request as it goes to a provider: our own head, and the client's body with at most two spans patched.
//!
//! Heads are written anew, never forwarded: our Host, Content-Length, credential, and the fields that the dialect
//! allows. The body goes out of the buffer it came into. Where the dialects differ, it is translated into a new one.

use crate::config::Dialect;
use crate::dialect::Api;
use crate::dialect::edit::edit_request;
use crate::dialect::error::GatewayError;
use crate::dialect::translate::Dropped;
use crate::net::gather::{Gather, Side};
use crate::net::{Buf, buf};
use crate::policy::Attempt;
use crate::wire::splice::SEGMENTS_MAX;

use super::inbound::Inbound;
use super::live::Live;
pub use super::live::USER_AGENT;
use super::respond::{field, number_field};
use super::translation::{self, Back};
use super::wish::Wish;

/// How one attempt's request was made.
pub struct Outbound {
    /// The endpoint that is called.
    pub api: Api,
    /// The dialect of the answer.
    pub dialect: Dialect,
    /// The usage chunk is there only because we asked for it.
    pub hide_usage: bool,
    /// How the answer is translated back; `None` when it passes as it is.
    pub back: Option<Back>,
    /// What the client asked for and the provider's dialect has no words for.
    pub dropped: Dropped,
}

/// Whether a provider of `dialect` can be asked for what this client wants, as it is or translated.
pub fn can_serve(inbound: &Inbound, dialect: Dialect) -> bool {
    inbound.dialect == dialect
        || matches!(inbound.api, Api::Other | Api::Models)
        || translation::exists(inbound.api, dialect)
}

/// Why a target cannot be sent this request. The caller's fault, unless another target can take it as it is.
#[derive(Debug)]
pub enum Unfit {
    /// The provider's dialect has no such endpoint.
    NoEndpoint,
    /// The body cannot be said in the provider's dialect.
    Translation(GatewayError),
    /// More pieces than a write can have; never with the edits there are.
    Pieces,
}

/// Writes the request for one attempt into `gather`, whose body holds the client's request from its head on.
///
/// # Errors
/// See [`Unfit`].
pub fn prepare(
    gather: &mut Gather,
    inbound: &Inbound,
    wish: &Wish,
    live: &Live,
    attempt: &Attempt,
    model: Option<&str>,
) -> Result<Outbound, Unfit> {
    gather.reset();
    if gather.own.capacity() == 0 {
        gather.own = Buf::take(buf::HEAD);
    }
    let provider = usize::from(attempt.provider.0);
    let target = &live.plan.providers[provider];
    let fixed = live.upstreams[provider].head(attempt.key);
    let api = inbound.api.at(target.dialect).ok_or(Unfit::NoEndpoint)?;
    let translated = inbound.dialect != target.dialect && !matches!(inbound.api, Api::Other | Api::Models);
    if translated {
        let own = Own { dialect: target.dialect, fixed, base: &target.base_path, api, no: attempt.no };
        return translate(gather, inbound, wish, &own, model);
    }
    let body_range = inbound.body();
    let Gather { own, body, .. } = gather;
    let all = body.filled();
    let body_bytes = all.get(body_range.clone()).unwrap_or_default();
    let edits = edit_request(inbound.api, target.dialect, body_bytes, &wish.peek, model);
    let splice = edits.splice();
    let out = own.as_vec();
    let path = inbound_path(api, inbound.path.of(all));
    request_line(out, inbound.method.of(all), &target.base_path, path);
    if !inbound.query.is_empty() {
        out.truncate(out.len() - LINE_END.len());
        out.push(b'?');
        out.extend_from_slice(inbound.query.of(all));
        out.extend_from_slice(LINE_END);
    }
    out.extend_from_slice(fixed);
    out.extend_from_slice(&inbound.forward());
    if let Some(trace) = &inbound.trace {
        trace.push_line(attempt.no, out);
    }
    let has_body = inbound.body_len > 0 || inbound.method.of(all) == b"POST";
    if has_body {
        number_field(out, "Content-Length", splice.total_len(inbound.body_len) as u64);
    }
    out.extend_from_slice(b"\r\n");
    let head_len = out.len();
    // Pieces of the client's body stay where they are; what replaces them is kept behind the head.
    let base = body_bytes.as_ptr().addr();
    let mut pieces = [(Side::Own, 0, 0); SEGMENTS_MAX];
    let mut count = 0;
    for segment in splice.segments(body_bytes) {
        let at = segment.as_ptr().addr().wrapping_sub(base);
        pieces[count] = if at < body_bytes.len() {
            (Side::Body, body_range.start + at, body_range.start + at + segment.len())
        } else {
            let start = out.len();
            out.extend_from_slice(segment);
            (Side::Own, start, start + segment.len())
        };
        count += 1;
    }
    let hide_usage = edits.hide_usage();
    let mut fits = gather.piece(Side::Own, 0..head_len);
    for (side, start, end) in &pieces[..count] {
        fits &= gather.piece(*side, *start..*end);
    }
    if !fits {
        return Err(Unfit::Pieces);
    }
    Ok(Outbound { api, dialect: target.dialect, hide_usage, back: None, dropped: Dropped::default() })
}

const LINE_END: &[u8] = b" HTTP/1.1\r\n";

fn request_line(out: &mut Vec<u8>, method: &[u8], base: &str, path: &[u8]) {
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(base.as_bytes());
    out.extend_from_slice(path);
    out.extend_from_slice(LINE_END);
}

/// The path below the provider's base path: the endpoint's own, or what the client asked for without its `/v1`.
fn inbound_path(api: Api, path: &[u8]) -> &[u8] {
    match api.upstream_path() {
        Some(path) => path.as_bytes(),
        None => path.strip_prefix(b"/v1").filter(|rest| rest.starts_with(b"/")).unwrap_or(path),
    }
}

/// What of a request is the provider's or the attempt's.
struct Own<'l> {
    dialect: Dialect,
    fixed: &'l [u8],
    base: &'l str,
    api: Api,
    no: u8,
}

/// Appends the fields that say which trace a translated request belongs to.
fn push_trace(inbound: &Inbound, no: u8, out: &mut Vec<u8>) {
    for line in inbound.forward().split_inclusive(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if name.eq_ignore_ascii_case(b"traceparent") || name.eq_ignore_ascii_case(b"tracestate") {
            out.extend_from_slice(line);
        }
    }
    if let Some(trace) = &inbound.trace {
        trace.push_line(no, out);
    }
}

fn translate(
    gather: &mut Gather,
    inbound: &Inbound,
    wish: &Wish,
    target: &Own<'_>,
    model: Option<&str>,
) -> Result<Outbound, Unfit> {
    let Own { dialect, fixed, base, api, no } = *target;
    let Gather { own, body, .. } = gather;
    let client_body = body.filled().get(inbound.body()).unwrap_or_default();
    let mut translated = Buf::take(client_body.len() + client_body.len() / 8 + 256);
    let name = model.unwrap_or(&wish.model);
    let (back, dropped) = translation::request(inbound.api, dialect, client_body, name, translated.as_vec())
        .map_err(|e| e.map_or(Unfit::NoEndpoint, Unfit::Translation))?;
    let out = own.as_vec();
    request_line(out, b"POST", base, inbound_path(api, b""));
    out.extend_from_slice(fixed);
    field(out, "User-Agent", USER_AGENT.as_bytes());
    field(out, "Content-Type", b"application/json");
    field(out, "Accept", if wish.stream { b"text/event-stream" } else { b"application/json" });
    if dialect == Dialect::Anthropic {
        field(out, "anthropic-version", crate::dialect::head::ANTHROPIC_VERSION.as_bytes());
    }
    push_trace(inbound, no, out);
    number_field(out, "Content-Length", translated.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(translated.filled());
    let len = out.len();
    if !gather.piece(Side::Own, 0..len) {
        return Err(Unfit::Pieces);
    }
    Ok(Outbound { api, dialect, hide_usage: false, back: Some(back), dropped })
}
