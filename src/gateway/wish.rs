//! What a request asks for: its model, a stream or not, what it must not be moved away from. Found once per request,
//! before anything is decided; nothing of the body is changed.

use crate::dialect::error::{ErrorKind, GatewayError};
use crate::dialect::{Api, json};
use crate::wire::json::{Peek, peek};

use super::client::Client;
use super::inbound::{Inbound, Media};

/// What a body asks for, found once per request.
#[derive(Default)]
pub struct Wish {
    /// The top level of the body, with spans relative to it.
    pub peek: Peek,
    /// The model's name, unescaped; empty for endpoints that name none.
    pub model: String,
    /// The client asked for a stream.
    pub stream: bool,
    /// The most tokens the answer may have, where the client said.
    pub max_tokens: Option<u64>,
    /// The request continues something that only one account has: no other target may answer it.
    pub pinned: bool,
}

/// Finds what the body asks for.
pub fn read(client: &Client, inbound: &Inbound) -> Result<Wish, GatewayError> {
    let all = client.gather.as_ref().map_or(&[][..], |g| g.body.filled());
    let body = all.get(inbound.body()).unwrap_or_default();
    let mut wish = Wish::default();
    match inbound.media {
        Media::Json if !body.is_empty() => {}
        Media::Multipart => {
            wish.model.push_str(model_of_form(body).unwrap_or_default());
            return Ok(wish);
        }
        _ if inbound.api == Api::Other => return Ok(wish),
        _ => {
            let mut error = GatewayError::new(
                ErrorKind::InvalidRequest,
                "send a JSON body with Content-Type: application/json",
            );
            error.code = "content_type".into();
            error.status = if body.is_empty() { 400 } else { 415 };
            return Err(error);
        }
    }
    let found = match peek(body) {
        Ok(found) => found,
        // An unknown endpoint may take a body of any shape; the provider will say.
        Err(_) if inbound.api == Api::Other => return Ok(wish),
        Err(error) => {
            let mut error = GatewayError::new(
                ErrorKind::InvalidRequest,
                format!("the request body is not usable: {error}"),
            );
            error.code = "invalid_json".into();
            return Err(error);
        }
    };
    if let Some(span) = found.model {
        match unescape(span.of(body)) {
            Some(model) => wish.model = model,
            None => {
                return Err(GatewayError::new(ErrorKind::InvalidRequest, "`model` is not a usable string"));
            }
        }
    } else if inbound.api != Api::Other {
        let mut error =
            GatewayError::new(ErrorKind::InvalidRequest, "name a `model`, as in \"openai/gpt-4o-mini\"");
        error.param = Some("model".to_owned());
        return Err(error);
    }
    wish.peek = found;
    wish.stream = found.stream;
    wish.max_tokens = found.output_limit();
    wish.pinned = inbound.api == Api::Responses && continues_state(body);
    Ok(wish)
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
