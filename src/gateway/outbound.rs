//! The request as it goes to a provider: our own head, and the client's body with at most two spans patched.
//!
//! Heads are written anew, never forwarded: our Host, Content-Length, credential, and the fields that the dialect
//! allows. The body goes out of the buffer it came into. Where the dialects differ, it is translated into a new one.

use crate::config::Dialect;
use crate::dialect::edit::edit_request;
use crate::dialect::{Api, json, openai_to_anthropic};
use crate::net::gather::{Gather, Side};
use crate::net::{Buf, buf};
use crate::policy;
use crate::wire::json::Peek;
use crate::wire::splice::SEGMENTS_MAX;

use super::inbound::Inbound;
use super::live::Live;
pub use super::live::USER_AGENT;
use super::respond::{field, number_field};

/// What a body asks for, found once per request.
#[derive(Default)]
pub struct Wish {
    /// The top level of the body, with spans relative to it.
    pub peek: Peek,
    /// The model's name, unescaped.
    pub model: String,
    /// The client asked for a stream.
    pub stream: bool,
    /// The most tokens the answer may have, where the client said.
    pub max_tokens: Option<u64>,
    /// The request continues something that only one account has: no other target may answer it.
    pub pinned: bool,
}

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
}

/// What the way back needs to know of a translated request.
pub enum Back {
    /// An OpenAI Chat client, an Anthropic answer.
    Chat(openai_to_anthropic::Back),
}

/// Whether a provider of `dialect` can be asked for what this client wants, as it is or translated.
pub fn can_serve(inbound: &Inbound, dialect: Dialect) -> bool {
    inbound.dialect == dialect
        || matches!(inbound.api, Api::Other | Api::Models)
        || matches!((inbound.api, dialect), (Api::ChatCompletions, Dialect::Anthropic))
}

/// Why a target cannot be sent this request. The caller's fault, unless another target can take it as it is.
#[derive(Debug)]
pub enum Unfit {
    /// The provider's dialect has no such endpoint.
    NoEndpoint,
    /// The body cannot be said in the provider's dialect.
    Translation(openai_to_anthropic::TranslateError),
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
    provider: policy::ProviderId,
    key: Option<policy::KeyId>,
    model: Option<&str>,
) -> Result<Outbound, Unfit> {
    gather.reset();
    if gather.own.capacity() == 0 {
        gather.own = Buf::take(buf::IDLE);
    }
    let target = &live.plan.providers[usize::from(provider.0)];
    let fixed = live.upstreams[usize::from(provider.0)].head(key);
    let api = inbound.api.at(target.dialect).ok_or(Unfit::NoEndpoint)?;
    let translated = inbound.dialect != target.dialect && !matches!(inbound.api, Api::Other | Api::Models);
    if translated {
        return translate(gather, inbound, wish, target.dialect, fixed, &target.base_path, api, model);
    }
    let body_range = inbound.body();
    let Gather { own, body, .. } = gather;
    let all = body.filled();
    let body_bytes = all.get(body_range.clone()).unwrap_or_default();
    let edits = edit_request(inbound.api, target.dialect, body_bytes, &wish.peek, model);
    let splice = edits.splice();
    let out = own.as_vec();
    let path = inbound_path(api, all.get(inbound.path.clone()).unwrap_or_default());
    request_line(out, all.get(inbound.method.clone()).unwrap_or_default(), &target.base_path, path);
    if !inbound.query.is_empty() {
        out.truncate(out.len() - LINE_END.len());
        out.push(b'?');
        out.extend_from_slice(all.get(inbound.query.clone()).unwrap_or_default());
        out.extend_from_slice(LINE_END);
    }
    out.extend_from_slice(fixed);
    out.extend_from_slice(inbound.forward.filled());
    let has_body = inbound.body_len > 0 || all.get(inbound.method.clone()) == Some(b"POST");
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
    Ok(Outbound { api, dialect: target.dialect, hide_usage, back: None })
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

#[allow(clippy::too_many_arguments)] // the parts of one head and one body; a struct would be built for this call alone
fn translate(
    gather: &mut Gather,
    inbound: &Inbound,
    wish: &Wish,
    dialect: Dialect,
    fixed: &[u8],
    base: &str,
    api: Api,
    model: Option<&str>,
) -> Result<Outbound, Unfit> {
    let Gather { own, body, .. } = gather;
    let client_body = body.filled().get(inbound.body()).unwrap_or_default();
    let mut translated = Buf::take(client_body.len() + client_body.len() / 8 + 256);
    let name = model.unwrap_or(&wish.model);
    let back = match (inbound.api, dialect) {
        (Api::ChatCompletions, Dialect::Anthropic) => {
            let options = openai_to_anthropic::TranslateOptions { model: name, default_max_tokens: None };
            let made = openai_to_anthropic::translate_request(client_body, &options, translated.as_vec());
            Back::Chat(made.map_err(Unfit::Translation)?.back)
        }
        _ => return Err(Unfit::NoEndpoint),
    };
    let out = own.as_vec();
    request_line(out, b"POST", base, inbound_path(api, b""));
    out.extend_from_slice(fixed);
    field(out, "User-Agent", USER_AGENT.as_bytes());
    field(out, "Content-Type", b"application/json");
    field(out, "Accept", if wish.stream { b"text/event-stream" } else { b"application/json" });
    if dialect == Dialect::Anthropic {
        field(out, "anthropic-version", crate::dialect::head::ANTHROPIC_VERSION.as_bytes());
    }
    number_field(out, "Content-Length", translated.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(translated.filled());
    let len = out.len();
    if !gather.piece(Side::Own, 0..len) {
        return Err(Unfit::Pieces);
    }
    Ok(Outbound { api, dialect, hide_usage: false, back: Some(back) })
}

/// Looks for the `model` field of a multipart form (audio, images), whose value stands on a line of its own.
pub fn model_of_form(body: &[u8]) -> Option<&str> {
    let at = memchr::memmem::find(body, b"name=\"model\"")?;
    let rest = body.get(at..)?;
    let value = rest.get(memchr::memmem::find(rest, b"\r\n\r\n")? + 4..)?;
    let end = memchr::memchr(b'\r', value)?;
    std::str::from_utf8(value.get(..end)?).ok().map(str::trim).filter(|m| !m.is_empty())
}

/// Whether a Responses request continues state that only one account has.
pub fn continues_state(body: &[u8]) -> bool {
    // A mention inside a text only costs this request its fallback.
    [b"\"previous_response_id\"".as_slice(), b"\"conversation\""].iter().any(|name| {
        memchr::memmem::find(body, name).is_some_and(|at| {
            let after = body[at + name.len()..].trim_ascii_start();
            after.strip_prefix(b":").is_some_and(|value| !value.trim_ascii_start().starts_with(b"null"))
        })
    })
}

/// Unescapes a JSON string token; `None` when it is no string.
pub fn unescape(token: &[u8]) -> Option<String> {
    json::Raw::of(token).text().map(|text| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_names_its_model() {
        let body =
            b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n\
            --x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nopenai/whisper-1\r\n--x--\r\n";
        assert_eq!(model_of_form(body), Some("openai/whisper-1"));
        assert_eq!(model_of_form(b"--x--"), None);
    }

    #[test]
    fn a_request_that_continues_a_stored_response_is_known() {
        assert!(continues_state(br#"{"model":"m","previous_response_id" : "resp_1"}"#));
        assert!(continues_state(br#"{"conversation":{"id":"c"}}"#));
        assert!(!continues_state(br#"{"previous_response_id":null,"input":"x"}"#));
        assert!(!continues_state(br#"{"input":"conversation"}"#));
    }
}
