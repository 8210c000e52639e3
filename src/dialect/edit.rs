//! The only two edits a pass-through request may get: the model's name and the wish for usage.
//!
//! Both are patches on spans of the original body, so that every other byte goes upstream as the client wrote it.
//! Usage is asked for on OpenAI Chat and Completions streams, where it is not sent otherwise and a stream could not
//! be metered; the extra chunk that this adds is hidden again from a client that did not ask for it.
//!
//! Limits: at most [`MAX_PATCHES`] patches, which never overlap and come in the order of the body. A body whose
//! `stream_options` is neither an object nor null is left as it is: the provider will say what is wrong with it.

use std::borrow::Cow;
use std::ops::Range;

use super::api::Api;
use super::json::{self, Raw};
use crate::config::Dialect;
use crate::wire::json::Peek;

/// Most patches one request gets.
pub const MAX_PATCHES: usize = 2;

/// Where the members that may be edited stand in a request body, as byte ranges of their value tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The string token of `model`, quotes included.
    pub model: Option<Range<usize>>,
    /// Whether `stream` is true.
    pub stream: bool,
    /// The value of `stream_options`, whatever it is.
    pub stream_options: Option<Range<usize>>,
    /// Place of the closing brace of the root object.
    pub root_end: usize,
}

impl From<&Peek> for Places {
    fn from(peek: &Peek) -> Self {
        let range = |span: crate::wire::Span| span.start as usize..span.end as usize;
        Self {
            model: peek.model.map(range),
            stream: peek.stream,
            stream_options: peek.stream_options.map(range),
            root_end: (peek.object.end as usize).saturating_sub(1),
        }
    }
}

/// One replacement in a body: the bytes of `range` become `with`; an empty range inserts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch<'m> {
    /// Bytes to replace.
    pub range: Range<usize>,
    /// What to put there.
    pub with: Cow<'m, [u8]>,
}

/// The patches for one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits<'m> {
    patches: [Option<Patch<'m>>; MAX_PATCHES],
    /// Whether the usage chunk is there only because we asked, and must not reach the client.
    pub hide_usage: bool,
}

impl<'m> Edits<'m> {
    /// The patches in the order of the body.
    pub fn patches(&self) -> impl Iterator<Item = &Patch<'m>> {
        self.patches.iter().flatten()
    }

    /// Length of a body of `length` bytes once patched.
    pub fn patched_len(&self, length: usize) -> usize {
        self.patches().fold(length, |length, patch| length - patch.range.len() + patch.with.len())
    }

    /// Appends the patched body; a gateway would rather write the pieces as one vector.
    pub fn apply(&self, body: &[u8], out: &mut Vec<u8>) {
        let mut at = 0;
        for patch in self.patches() {
            out.extend_from_slice(&body[at..patch.range.start]);
            out.extend_from_slice(&patch.with);
            at = patch.range.end;
        }
        out.extend_from_slice(&body[at..]);
    }
}

/// The edits for sending `body` to a provider of `dialect`, which is also the client's. `model` is the name to send
/// when it differs from the one in the body.
pub fn edit_request<'m>(
    api: Api,
    dialect: Dialect,
    body: &[u8],
    places: &Places,
    model: Option<&'m str>,
) -> Edits<'m> {
    let model = model.zip(places.model.clone()).and_then(|(name, range)| {
        // Only the inside of the string changes: its quotes are already there.
        let inside = range.start + 1..range.end.checked_sub(1)?;
        (body.get(inside.clone()) != Some(name.as_bytes()))
            .then(|| Patch { range: inside, with: escaped(name) })
    });
    let meters = dialect == Dialect::OpenAi && matches!(api, Api::ChatCompletions | Api::Completions);
    let usage = if meters && places.stream { ask_for_usage(body, places) } else { None };
    let hide_usage = usage.is_some();
    let mut patches = [model, usage];
    if let [Some(first), Some(second)] = &patches
        && first.range.start > second.range.start
    {
        patches.swap(0, 1);
    }
    Edits { patches, hide_usage }
}

/// The patch that makes a stream end with its usage; none when the client asked for it already.
fn ask_for_usage(body: &[u8], places: &Places) -> Option<Patch<'static>> {
    let patch = |range, with: &'static [u8]| Some(Patch { range, with: Cow::Borrowed(with) });
    let Some(options) = places.stream_options.clone() else {
        return patch(places.root_end..places.root_end, b",\"stream_options\":{\"include_usage\":true}");
    };
    let token = body.get(options.clone())?;
    let raw = Raw::of(token);
    match raw.kind()? {
        json::Kind::Null => patch(options, b"{\"include_usage\":true}"),
        json::Kind::Object => match raw.get("include_usage") {
            Some(value) if value.bool() == Some(true) => None,
            Some(value) if value.bool() == Some(false) || value.is_null() => {
                // Both slices stand in the same body, so their distance is the place of the value.
                let start = options.start + (value.bytes().as_ptr().addr() - token.as_ptr().addr());
                patch(start..start + value.bytes().len(), b"true")
            }
            // Neither true nor false: the provider's to refuse.
            Some(_) => None,
            None if raw.is_empty() => patch(options.start + 1..options.start + 1, b"\"include_usage\":true"),
            None => patch(options.start + 1..options.start + 1, b"\"include_usage\":true,"),
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

    fn places(body: &str) -> Places {
        Places::from(&peek(body.as_bytes()).unwrap())
    }

    fn edited(api: Api, body: &str, model: Option<&str>) -> (String, bool) {
        let edits = edit_request(api, Dialect::OpenAi, body.as_bytes(), &places(body), model);
        let mut out = Vec::new();
        edits.apply(body.as_bytes(), &mut out);
        assert_eq!(out.len(), edits.patched_len(body.len()));
        serde_json::from_slice::<serde_json::Value>(&out).unwrap();
        (String::from_utf8(out).unwrap(), edits.hide_usage)
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
        let places = places(std::str::from_utf8(body).unwrap());
        let edits = edit_request(Api::Messages, Dialect::Anthropic, body, &places, Some("claude-sonnet-4-5"));
        assert_eq!(edits, Edits::default());
    }
}
