//! One look at the top level of a request body: what routing, limits and metering need, and where it stands.
//!
//! One pass, no allocation. The members that are acted upon are read strictly, so that no upstream can read them
//! otherwise: each may come once, under any spelling of its key (`"mod\u0065l"` is `model`); a key that only a reader
//! that folds case would take for one of them is refused; its type must fit. The root must be one object, with nothing but
//! white space after it.
//!
//! Of everything else only the shape is followed: strings, the nesting of brackets, commas and colons of the top level.
//! The body may still be invalid JSON deeper down; the upstream will say so.
//!
//! Limits: nesting of [`super::DEPTH_MAX`]; 4 GiB.

use super::scan::{Next, key, next_item, value};
use super::text::{check_text, folds_to, is_text};
use super::{JsonError, JsonErrorKind, Kind, Str, error, skip_space};
use crate::wire::Span;
use crate::wire::simd::{Lanes, Task, dispatch};

/// What the top level of a request body says. Spans are of whole tokens, strings with their quotes, so that each can be
/// replaced by another token. A member that is `null` counts as absent, but for its span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    /// The root object, with its braces.
    pub object: Span,
    /// Members of the root object.
    pub members: usize,
    /// `model`: a string.
    pub model: Option<Span>,
    /// `stream`; false when absent.
    pub stream: bool,
    /// Where the value of `stream` stands, also if it is `null`.
    pub stream_span: Option<Span>,
    /// `max_tokens`, if it is a whole number from 0; some servers take -1 for "no limit", which counts as absent.
    pub max_tokens: Option<u64>,
    /// `max_completion_tokens`, likewise.
    pub max_completion_tokens: Option<u64>,
    /// `max_output_tokens`, likewise.
    pub max_output_tokens: Option<u64>,
    /// `n`, likewise.
    pub n: Option<u64>,
    /// Where the value of `stream_options` stands: an object or `null`.
    pub stream_options: Option<Span>,
    /// `stream_options.include_usage`.
    pub include_usage: Option<bool>,
    /// `user`, if it is a string.
    pub user: Option<Span>,
}

impl Peek {
    /// The model's name, still escaped, out of the body that was peeked at.
    pub fn model_str<'b>(&self, body: &'b [u8]) -> Option<Str<'b>> {
        string_in(self.model?, body)
    }

    /// The user's name, still escaped, out of the body that was peeked at.
    pub fn user_str<'b>(&self, body: &'b [u8]) -> Option<Str<'b>> {
        string_in(self.user?, body)
    }

    /// The limit on output tokens, by whichever of its three names it came.
    pub fn output_limit(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_output_tokens).or(self.max_tokens)
    }
}

fn string_in(span: Span, body: &[u8]) -> Option<Str<'_>> {
    match span.of(body) {
        [b'"', raw @ .., b'"'] => Some(Str::of(raw)),
        _ => None,
    }
}

/// Looks at the top level of `body` once.
///
/// # Errors
/// When the body is not one object, its top level or its nesting is malformed, or a member that is acted upon is
/// ambiguous or of a wrong type. The fault is the caller's: 400.
pub fn peek(body: &[u8]) -> Result<Peek, JsonError> {
    if u32::try_from(body.len()).is_err() {
        return error(JsonErrorKind::TooLong, body.len());
    }
    dispatch(Look { body })
}

/// A member that is acted upon.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Member {
    Model,
    Stream,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    N,
    StreamOptions,
    User,
}

const MEMBERS: [(Member, &[u8]); 8] = [
    (Member::Model, b"model"),
    (Member::Stream, b"stream"),
    (Member::MaxTokens, b"max_tokens"),
    (Member::MaxCompletionTokens, b"max_completion_tokens"),
    (Member::MaxOutputTokens, b"max_output_tokens"),
    (Member::N, b"n"),
    (Member::StreamOptions, b"stream_options"),
    (Member::User, b"user"),
];

struct Look<'b> {
    body: &'b [u8],
}

impl Task for Look<'_> {
    type Output = Result<Peek, JsonError>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Self::Output {
        let body = self.body;
        let start = skip_space(body, 0);
        match body.get(start) {
            Some(b'{') => {}
            Some(_) => return error(JsonErrorKind::NotAnObject, start),
            None => return error(JsonErrorKind::Truncated, start),
        }
        let mut peek = Peek::default();
        let mut seen = 0u8;
        let mut at = start + 1;
        let end = loop {
            let item = match next_item(body, at, peek.members == 0, b'}')? {
                Next::End(end) => break end,
                Next::Item(item) => item,
            };
            let (key_start, key_end, value_start) = key(lanes, body, item)?;
            let (kind, value_end) = value(lanes, body, value_start, 2)?;
            if let Some(member) = member(&body[key_start..key_end], key_start)? {
                let bit = 1 << member as u8;
                if seen & bit != 0 {
                    return error(JsonErrorKind::DuplicateKey, key_start);
                }
                seen |= bit;
                peek.take(member, kind, body, value_start, value_end)?;
            }
            peek.members += 1;
            at = value_end;
        };
        peek.object = span(start, end);
        let rest = skip_space(body, end);
        if rest < body.len() { error(JsonErrorKind::Trailing, rest) } else { Ok(peek) }
    }
}

impl Peek {
    fn take(
        &mut self,
        member: Member,
        kind: Kind,
        body: &[u8],
        start: usize,
        end: usize,
    ) -> Result<(), JsonError> {
        let place = span(start, end);
        let text = place.of(body);
        match member {
            Member::Model => match kind {
                Kind::String => {
                    // The content, without its quotes.
                    check_text(&body[start + 1..end - 1]).map_err(|bad| shifted(bad, start + 1))?;
                    self.model = Some(place);
                }
                Kind::Null => {}
                _ => return error(JsonErrorKind::WrongType, start),
            },
            Member::Stream => {
                self.stream_span = Some(place);
                self.stream = match kind {
                    Kind::True => true,
                    Kind::False | Kind::Null => false,
                    _ => return error(JsonErrorKind::WrongType, start),
                };
            }
            Member::MaxTokens => self.max_tokens = count(kind, text, start)?,
            Member::MaxCompletionTokens => self.max_completion_tokens = count(kind, text, start)?,
            Member::MaxOutputTokens => self.max_output_tokens = count(kind, text, start)?,
            Member::N => self.n = count(kind, text, start)?,
            Member::StreamOptions => {
                self.stream_options = Some(place);
                match kind {
                    Kind::Object => self.include_usage = include_usage(text, start)?,
                    Kind::Null => {}
                    _ => return error(JsonErrorKind::WrongType, start),
                }
            }
            Member::User => self.user = (kind == Kind::String).then_some(place),
        }
        Ok(())
    }
}

/// Which member a key is, as any reader would take it.
#[inline(always)]
fn member(raw: &[u8], at: usize) -> Result<Option<Member>, JsonError> {
    let plain = match raw {
        b"model" => Member::Model,
        b"stream" => Member::Stream,
        b"max_tokens" => Member::MaxTokens,
        b"max_completion_tokens" => Member::MaxCompletionTokens,
        b"max_output_tokens" => Member::MaxOutputTokens,
        b"n" => Member::N,
        b"stream_options" => Member::StreamOptions,
        b"user" => Member::User,
        // Most keys: lower case, so they can only be what they look like.
        _ if raw.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'_' | b'0'..=b'9')) => return Ok(None),
        _ => return odd_member(raw, at),
    };
    Ok(Some(plain))
}

#[cold]
fn odd_member(raw: &[u8], at: usize) -> Result<Option<Member>, JsonError> {
    for (member, name) in MEMBERS {
        if is_text(raw, name) {
            return Ok(Some(member));
        }
        if folds_to(raw, name) {
            return error(JsonErrorKind::KeyAlias, at);
        }
    }
    Ok(None)
}

/// A whole number from 0, also when it is written with a fraction or an exponent; `None` for `null` and other numbers.
fn count(kind: Kind, text: &[u8], at: usize) -> Result<Option<u64>, JsonError> {
    match kind {
        Kind::Null => return Ok(None),
        Kind::Number => {}
        _ => return error(JsonErrorKind::WrongType, at),
    }
    let Ok(text) = std::str::from_utf8(text) else { return Ok(None) };
    if let Ok(number) = text.parse() {
        return Ok(Some(number));
    }
    // Doubles are exact up to 2^53; a limit beyond that is none.
    let whole = |number: &f64| (0.0..=9_007_199_254_740_992.0).contains(number) && number.fract() == 0.0;
    Ok(text.parse().ok().filter(whole).map(|number| number as u64))
}

/// `include_usage` of the object `text`, which stands at `base`.
fn include_usage(text: &[u8], base: usize) -> Result<Option<bool>, JsonError> {
    let Some(object) = super::Value::parse(text)?.as_object() else { return Ok(None) };
    let mut found = None;
    for member in object {
        let (name, value) = member.map_err(|bad| shifted(bad, base))?;
        if !name.eq_str("include_usage") {
            continue;
        }
        if found.is_some() {
            return error(JsonErrorKind::DuplicateKey, base);
        }
        found = Some(match (value.as_bool(), value.is_null()) {
            (None, false) => return error(JsonErrorKind::WrongType, base),
            (usage, _) => usage,
        });
    }
    Ok(found.flatten())
}

fn shifted(bad: JsonError, base: usize) -> JsonError {
    JsonError { kind: bad.kind, at: bad.at + base }
}

/// Offsets into a body whose length was seen to fit 32 bits.
fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, end: end as u32 }
}

#[cfg(test)]
mod tests;
