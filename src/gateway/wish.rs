//! What a request asks for: its model, a stream or not, what it must not be moved away from. Found once per request,
//! before anything is decided; nothing of the body is changed.

use std::ops::Range;

use memchr::memmem;

use crate::dialect::error::{ErrorKind, GatewayError};
use crate::dialect::{Api, json};
use crate::wire::Span;
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
pub fn read(client: &mut Client, inbound: &Inbound) -> Result<Wish, GatewayError> {
    // The last request's name lends its memory to this one's.
    let mut model = std::mem::take(&mut client.spare);
    model.clear();
    let all = client.gather.as_ref().map_or(&[][..], |g| g.body.filled());
    let body = all.get(inbound.body()).unwrap_or_default();
    let mut wish = Wish { model, ..Wish::default() };
    match inbound.media {
        Media::Json if !body.is_empty() => {}
        Media::Multipart => {
            if let Some(value) = model_of_form(body)
                && let Ok(model) = std::str::from_utf8(&body[value.clone()])
            {
                wish.model.push_str(model);
                // Like a string in JSON, the name has one byte on each side that stays when it is replaced.
                wish.peek.model = Span::new(value.start - 1, value.end + 1);
            }
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
            let mut error = GatewayError::new(ErrorKind::InvalidRequest, error.to_string());
            error.code = "invalid_json".into();
            return Err(error);
        }
    };
    if let Some(span) = found.model {
        match json::Raw::of(span.of(body)).text() {
            Some(model) => wish.model.push_str(&model),
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

/// Looks for the `model` field of a multipart form (audio, images; RFC 7578). Only the heads of parts are looked at: what
/// is uploaded may say `name="model"` as well.
pub fn model_of_form(body: &[u8]) -> Option<Range<usize>> {
    let delimiter = body.get(..memmem::find(body, b"\r\n")?).filter(|line| line.starts_with(b"--"))?;
    for at in memmem::find_iter(body, delimiter) {
        let start = at + delimiter.len();
        let Some(part) = body.get(start..).filter(|part| part.starts_with(b"\r\n")) else { continue };
        let Some(head_len) = memmem::find(part, b"\r\n\r\n") else { continue };
        let named = memmem::find(&part[..head_len], b"name=\"model\"");
        // `filename="model"` is something else.
        if named.is_none_or(|name| !matches!(part[name - 1], b' ' | b';')) {
            continue;
        }
        let value = start + head_len + 4;
        let line = &body[value..value + memchr::memchr(b'\r', &body[value..])?];
        let name = line.trim_ascii();
        let from = value + (line.len() - line.trim_ascii_start().len());
        return (!name.is_empty()).then(|| from..from + name.len());
    }
    None
}

/// Whether a Responses request continues state that only one account has.
pub fn continues_state(body: &[u8]) -> bool {
    // A mention inside a text only costs this request its fallback.
    [b"\"previous_response_id\"".as_slice(), b"\"conversation\""].iter().any(|name| {
        memmem::find(body, name).is_some_and(|at| {
            let after = body[at + name.len()..].trim_ascii_start();
            after.strip_prefix(b":").is_some_and(|value| !value.trim_ascii_start().starts_with(b"null"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_names_its_model() {
        let body =
            b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n\
            --x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nopenai/whisper-1\r\n--x--\r\n";
        assert_eq!(model_of_form(body).map(|at| &body[at]), Some(&b"openai/whisper-1"[..]));
        assert_eq!(model_of_form(b"--x--"), None);
        for cut in 0..body.len() {
            let found = model_of_form(&body[..cut]);
            assert!(found.is_none_or(|at| &body[at] == b"openai/whisper-1"), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_uploaded_is_not_taken_for_a_field_of_the_form() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\n\r\n\
            Content-Disposition: form-data; name=\"model\"\r\n\r\nwrong\r\n\
            --x\r\nContent-Disposition: form-data;name=\"model\"\r\n\r\n right \r\n--x--\r\n";
        assert_eq!(model_of_form(body).map(|at| &body[at]), Some(&b"right"[..]));
    }

    #[test]
    fn a_request_that_continues_a_stored_response_is_known() {
        assert!(continues_state(br#"{"model":"m","previous_response_id" : "resp_1"}"#));
        assert!(continues_state(br#"{"conversation":{"id":"c"}}"#));
        assert!(!continues_state(br#"{"previous_response_id":null,"input":"x"}"#));
        assert!(!continues_state(br#"{"input":"conversation"}"#));
    }
}
