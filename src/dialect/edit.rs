//! The only two edits a pass-through request may get: the model's name and the wish for usage.
//!
//! Both are patches on spans of the original body, so that every other byte goes upstream as the client wrote it.
//! Usage is asked for on OpenAI Chat and Completions streams, where it is not sent otherwise and a stream could not
//! be metered; the extra chunk that this adds is hidden again from a client that did not ask for it.
//!
//! Limits: at most two patches. A `stream_options` that is odd is left as it is: the provider will say what is
//! wrong with it.

use std::borrow::Cow;

use super::api::Api;
use super::json::{self, Raw};
use crate::config::Dialect;
use crate::wire::Span;
use crate::wire::json::Peek;
use crate::wire::splice::Splice;

/// One replacement in a body: the bytes of `span` become `with`; an empty span inserts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Patch<'m> {
    span: Span,
    with: Cow<'m, [u8]>,
}

/// The patches for one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits<'m> {
    model: Option<Patch<'m>>,
    usage: Option<Patch<'m>>,
}

impl Edits<'_> {
    /// Whether the body goes out as it is.
    pub fn is_empty(&self) -> bool {
        self.model.is_none() && self.usage.is_none()
    }

    /// Whether the usage chunk is there only because we asked for it, and must not reach the client.
    pub fn hide_usage(&self) -> bool {
        self.usage.is_some()
    }

    /// The edits as a splice of the body.
    pub fn splice(&self) -> Splice<'_> {
        let mut splice = Splice::new();
        for patch in [&self.model, &self.usage].into_iter().flatten() {
            // Two patches of different members neither overlap nor fill the splice.
            let taken = splice.replace(patch.span, &patch.with);
            debug_assert!(taken.is_ok(), "{taken:?}");
        }
        splice
    }
}

/// The edits for sending `body`, of which `peek` tells the top level, to a provider of `dialect`, which is also the
/// client's. `model` is the name to send; nothing is done where it stands in the body already.
pub fn edit_request<'m>(
    api: Api,
    dialect: Dialect,
    body: &[u8],
    peek: &Peek,
    model: Option<&'m str>,
) -> Edits<'m> {
    let model = model.zip(peek.model).and_then(|(name, token)| {
        // Only the inside of the string changes: its quotes are already there.
        let span = Span::new(token.start as usize + 1, (token.end as usize).checked_sub(1)?)?;
        (span.of(body) != name.as_bytes()).then(|| Patch { span, with: escaped(name) })
    });
    let meters = dialect == Dialect::OpenAi && matches!(api, Api::ChatCompletions | Api::Completions);
    let usage = if meters && peek.stream { ask_for_usage(body, peek) } else { None };
    Edits { model, usage }
}

/// The patch that makes a stream end with its usage; none when the client asked for it already.
fn ask_for_usage(body: &[u8], peek: &Peek) -> Option<Patch<'static>> {
    let patch = |start, end, with: &'static [u8]| {
        Some(Patch { span: Span { start, end }, with: Cow::Borrowed(with) })
    };
    let Some(options) = peek.stream_options else {
        // A body that says `stream` has a member already, so a comma is right.
        let brace = peek.object.end.checked_sub(1)?;
        return patch(brace, brace, b",\"stream_options\":{\"include_usage\":true}");
    };
    let token = options.of(body);
    let raw = Raw::of(token);
    match raw.kind()? {
        json::Kind::Null => patch(options.start, options.end, b"{\"include_usage\":true}"),
        json::Kind::Object => match raw.get("include_usage") {
            Some(value) if value.bool() == Some(false) || value.is_null() => {
                // Both slices stand in the same body, so their distance is the place of the value.
                let offset = value.bytes().as_ptr().addr().checked_sub(token.as_ptr().addr())?;
                let start = options.start + u32::try_from(offset).ok()?;
                patch(start, start + u32::try_from(value.bytes().len()).ok()?, b"true")
            }
            // True, or neither true nor false, which is the provider's to refuse.
            Some(_) => None,
            None if raw.is_empty() => patch(options.start + 1, options.start + 1, b"\"include_usage\":true"),
            None => patch(options.start + 1, options.start + 1, b"\"include_usage\":true,"),
        },
        _ => None,
    }
}

/// `name` as the inside of a JSON string; borrowed where nothing needs an escape.
fn escaped(name: &str) -> Cow<'_, [u8]> {
    if name.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        return Cow::Borrowed(name.as_bytes());
    }
    let mut out = Vec::with_capacity(name.len() + 8);
    json::push_escaped(&mut out, name);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::peek;

    fn edited(api: Api, body: &str, model: Option<&str>) -> (String, bool) {
        let edits =
            edit_request(api, Dialect::OpenAi, body.as_bytes(), &peek(body.as_bytes()).unwrap(), model);
        let splice = edits.splice();
        let out = splice.segments(body.as_bytes()).collect::<Vec<_>>().concat();
        assert_eq!(out.len(), splice.total_len(body.len()));
        serde_json::from_slice::<serde_json::Value>(&out).unwrap();
        (String::from_utf8(out).unwrap(), edits.hide_usage())
    }

    #[test]
    fn usage_is_asked_for_whatever_the_client_wrote() {
        for (before, after, hide) in [
            (
                r#"{"model":"m","stream":true}"#,
                r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
                true,
            ),
            (
                r#"{"model":"m","stream":true }  "#,
                r#"{"model":"m","stream":true ,"stream_options":{"include_usage":true}}  "#,
                true,
            ),
            (
                r#"{"stream_options":null,"model":"m","stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
                true,
            ),
            (
                r#"{"stream_options":{},"stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"stream":true}"#,
                true,
            ),
            (
                r#"{"stream_options":{ "include_obfuscation":false},"stream":true}"#,
                r#"{"stream_options":{"include_usage":true, "include_obfuscation":false},"stream":true}"#,
                true,
            ),
            (
                r#"{"stream_options":{"include_usage" : false},"stream":true}"#,
                r#"{"stream_options":{"include_usage" : true},"stream":true}"#,
                true,
            ),
            (
                r#"{"stream_options":{"include_usage":null},"stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"stream":true}"#,
                true,
            ),
            (
                r#"{"stream_options":{"include_usage":true},"stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"stream":true}"#,
                false,
            ),
            (r#"{"model":"m","stream":false}"#, r#"{"model":"m","stream":false}"#, false),
            (r#"{"model":"m"}"#, r#"{"model":"m"}"#, false),
        ] {
            for api in [Api::ChatCompletions, Api::Completions] {
                assert_eq!(edited(api, before, None), (after.to_owned(), hide), "{before}");
            }
            assert_eq!(edited(Api::Responses, before, None), (before.to_owned(), false), "{before}");
        }
    }

    #[test]
    fn the_model_is_replaced_in_place_and_escaped() {
        for (before, model, after) in [
            (
                r#"{"messages":[{"model":"x"}], "model" : "openai/gpt-4o" ,"a":1}"#,
                "gpt-4o",
                r#"{"messages":[{"model":"x"}], "model" : "gpt-4o" ,"a":1}"#,
            ),
            (r#"{"model":"a\u002fb"}"#, "b \"c\"\\\n", r#"{"model":"b \"c\"\\\n"}"#),
            (r#"{"model":""}"#, "m", r#"{"model":"m"}"#),
            (r#"{"model":"m"}"#, "m", r#"{"model":"m"}"#),
        ] {
            assert_eq!(edited(Api::Embeddings, before, Some(model)), (after.to_owned(), false), "{before}");
        }
    }

    #[test]
    fn both_edits_work_in_either_order() {
        let after =
            edited(Api::ChatCompletions, r#"{"stream_options":null,"stream":true,"model":"p/m"}"#, Some("m"))
                .0;
        assert_eq!(after, r#"{"stream_options":{"include_usage":true},"stream":true,"model":"m"}"#);
        let after = edited(Api::ChatCompletions, r#"{"model":"p/m","stream":true}"#, Some("m")).0;
        assert_eq!(after, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#);
    }

    #[test]
    fn a_request_that_needs_no_edit_is_sent_as_it_is() {
        let body = br#"{"model":"claude-sonnet-4-5","stream":true}"#;
        let peek = peek(body).unwrap();
        assert!(
            edit_request(Api::Messages, Dialect::Anthropic, body, &peek, Some("claude-sonnet-4-5"))
                .is_empty()
        );
    }
}
