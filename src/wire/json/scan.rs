//! Walking a document lazily: raw tokens, borrowed, nothing built.
//!
//! A [`Value`] is the raw text of one value. Its members or elements are found when they are asked for; the ones passed
//! over are skipped, not read. Reading one member of one event costs about as much as finding it.
//!
//! Invariants: a token never has white space around it. Iteration checks the grammar of the level it walks; an error ends
//! it. What is inside a skipped value is not checked (see the module above).
//! It leaves out: numbers beyond what `u64`, `i64` and `f64` hold.

use super::skip::{container_end, scalar_end, string_end};
use super::text::{is_text, unescape};
use super::{JsonError, JsonErrorKind, error, is_space, skip_space};
use crate::wire::simd::{Lanes, Task, dispatch};
use std::borrow::Cow;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `"..."`
    String,
    /// A number.
    Number,
    /// `{...}`
    Object,
    /// `[...]`
    Array,
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
}

/// The raw text of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'j> {
    raw: &'j [u8],
    kind: Kind,
}

impl<'j> Value<'j> {
    /// Takes a whole document as one value. Brackets are matched when it is walked, a scalar is checked at once.
    ///
    /// # Errors
    /// When the document is empty, is a malformed scalar, or does not end as it began.
    pub fn parse(doc: &'j [u8]) -> Result<Self, JsonError> {
        let start = skip_space(doc, 0);
        let end = doc.iter().rposition(|&byte| !is_space(byte)).map_or(start, |last| last + 1);
        let raw = doc.get(start..end).unwrap_or_default();
        match raw {
            [] => error(JsonErrorKind::Truncated, doc.len()),
            [b'{', .., b'}'] => Ok(Self { raw, kind: Kind::Object }),
            [b'[', .., b']'] => Ok(Self { raw, kind: Kind::Array }),
            [b'{' | b'[', ..] => error(JsonErrorKind::Truncated, end),
            _ => {
                let (value, value_end) = token(doc, start)?;
                if value_end == end { Ok(value) } else { error(JsonErrorKind::Trailing, value_end) }
            }
        }
    }

    /// The type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The token as it stands in the document: a string with its quotes, a container with its brackets.
    pub fn raw(&self) -> &'j [u8] {
        self.raw
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<Str<'j>> {
        match self.raw {
            [b'"', raw @ .., b'"'] if self.kind == Kind::String => Some(Str { raw }),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self.kind {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// The number, if it is one without sign, fraction and exponent that fits.
    pub fn as_u64(&self) -> Option<u64> {
        self.number()?.parse().ok()
    }

    /// The number, if it is one without fraction and exponent that fits.
    pub fn as_i64(&self) -> Option<i64> {
        self.number()?.parse().ok()
    }

    /// The number, if it is one; rounded to the nearest double.
    pub fn as_f64(&self) -> Option<f64> {
        self.number()?.parse().ok()
    }

    fn number(&self) -> Option<&'j str> {
        (self.kind == Kind::Number).then_some(self.raw).and_then(|raw| std::str::from_utf8(raw).ok())
    }

    /// The members, if it is an object.
    pub fn as_object(&self) -> Option<Object<'j>> {
        (self.kind == Kind::Object).then_some(Object { walk: Walk::new(self.raw) })
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<Array<'j>> {
        (self.kind == Kind::Array).then_some(Array { walk: Walk::new(self.raw) })
    }

    /// The first member called `key`, if it is an object that has one; the object is walked up to it.
    pub fn get(&self, key: &str) -> Option<Value<'j>> {
        self.as_object()?.map_while(Result::ok).find(|(name, _)| name.eq_str(key)).map(|(_, value)| value)
    }

    /// The value at the end of a path of keys.
    pub fn at(&self, path: &[&str]) -> Option<Value<'j>> {
        path.iter().try_fold(*self, |value, key| value.get(key))
    }
}

/// A string token's content, still escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Str<'j> {
    raw: &'j [u8],
}

impl<'j> Str<'j> {
    /// The bytes between the quotes, still escaped.
    pub fn raw(&self) -> &'j [u8] {
        self.raw
    }

    /// Whether the text is exactly `text`, however it is escaped.
    pub fn eq_str(&self, text: &str) -> bool {
        self.raw == text.as_bytes() && !text.contains('\\') || is_text(self.raw, text.as_bytes())
    }

    /// Appends the text to `out`.
    ///
    /// # Errors
    /// As [`super::unescape`].
    pub fn unescape(&self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        unescape(self.raw, out)
    }

    /// The text; copied only when something in it is escaped.
    ///
    /// # Errors
    /// As [`super::unescape`].
    pub fn text(&self) -> Result<Cow<'j, str>, JsonError> {
        if memchr::memchr(b'\\', self.raw).is_none() {
            super::text::check_text(self.raw)?;
            if let Ok(text) = std::str::from_utf8(self.raw) {
                return Ok(Cow::Borrowed(text));
            }
        }
        let mut text = Vec::with_capacity(self.raw.len());
        unescape(self.raw, &mut text)?;
        String::from_utf8(text)
            .map(Cow::Owned)
            .map_err(|bad| JsonError { kind: JsonErrorKind::NotUtf8, at: bad.utf8_error().valid_up_to() })
    }
}

/// The members of an object, in order. Duplicate keys come as they stand.
#[derive(Clone, Debug)]
pub struct Object<'j> {
    walk: Walk<'j>,
}

impl<'j> Iterator for Object<'j> {
    type Item = Result<(Str<'j>, Value<'j>), JsonError>;

    fn next(&mut self) -> Option<Self::Item> {
        let walk = self.walk.clone();
        self.walk.advance(dispatch(NextMember { walk }))
    }
}

/// The elements of an array, in order.
#[derive(Clone, Debug)]
pub struct Array<'j> {
    walk: Walk<'j>,
}

impl<'j> Iterator for Array<'j> {
    type Item = Result<Value<'j>, JsonError>;

    fn next(&mut self) -> Option<Self::Item> {
        let walk = self.walk.clone();
        self.walk.advance(dispatch(NextElement { walk }))
    }
}

/// Where the iteration over a container stands.
#[derive(Clone, Debug)]
struct Walk<'j> {
    /// The container, brackets included.
    raw: &'j [u8],
    /// Past the opening bracket, or past the last value.
    at: usize,
    first: bool,
    over: bool,
}

impl<'j> Walk<'j> {
    fn new(raw: &'j [u8]) -> Self {
        Self { raw, at: 1, first: true, over: false }
    }

    fn advance<T>(&mut self, step: Result<Option<(T, usize)>, JsonError>) -> Option<Result<T, JsonError>> {
        if self.over {
            return None;
        }
        self.first = false;
        match step {
            Ok(Some((item, end))) => {
                self.at = end;
                Some(Ok(item))
            }
            Ok(None) => {
                self.over = true;
                None
            }
            Err(bad) => {
                self.over = true;
                Some(Err(bad))
            }
        }
    }

    /// Where the next item starts; `None` when the container ends.
    #[inline(always)]
    fn next_start(&self, close: u8) -> Result<Option<usize>, JsonError> {
        next_item(self.raw, self.at, self.first, close).and_then(|next| match next {
            Next::Item(start) => Ok(Some(start)),
            Next::End(end) if end == self.raw.len() => Ok(None),
            Next::End(end) => error(JsonErrorKind::Trailing, end),
        })
    }
}

/// What comes next inside a container.
pub(super) enum Next {
    /// An item starts here.
    Item(usize),
    /// The container ended just before this offset.
    End(usize),
}

/// Reads the separator before the next item of a container that closes with `close`; `at` is past its opening bracket or past
/// the last item.
#[inline(always)]
pub(super) fn next_item(doc: &[u8], at: usize, first: bool, close: u8) -> Result<Next, JsonError> {
    let at = skip_space(doc, at);
    match doc.get(at) {
        Some(byte) if *byte == close => Ok(Next::End(at + 1)),
        Some(_) if first => Ok(Next::Item(at)),
        Some(b',') => Ok(Next::Item(skip_space(doc, at + 1))),
        Some(_) => error(JsonErrorKind::Unexpected, at),
        None => error(JsonErrorKind::Truncated, at),
    }
}

/// Reads a key and its colon; the key's content as offsets, and where its value starts.
#[inline(always)]
pub(super) fn key<L: Lanes>(lanes: L, doc: &[u8], at: usize) -> Result<(usize, usize, usize), JsonError> {
    match doc.get(at) {
        Some(b'"') => {}
        Some(_) => return error(JsonErrorKind::Unexpected, at),
        None => return error(JsonErrorKind::Truncated, at),
    }
    let end = string_end(lanes, doc, at + 1)?;
    let colon = skip_space(doc, end + 1);
    match doc.get(colon) {
        Some(b':') => Ok((at + 1, end, skip_space(doc, colon + 1))),
        Some(_) => error(JsonErrorKind::Unexpected, colon),
        None => error(JsonErrorKind::Truncated, colon),
    }
}

/// The kind of the value at `at`, and where it ends. `depth` is how deep it would be if it is a container.
#[inline(always)]
pub(super) fn value<L: Lanes>(
    lanes: L,
    doc: &[u8],
    at: usize,
    depth: usize,
) -> Result<(Kind, usize), JsonError> {
    match doc.get(at) {
        Some(b'"') => Ok((Kind::String, string_end(lanes, doc, at + 1)? + 1)),
        Some(b'{') => Ok((Kind::Object, container_end(lanes, doc, at, depth)?)),
        Some(b'[') => Ok((Kind::Array, container_end(lanes, doc, at, depth)?)),
        first => {
            let end = scalar_end(doc, at)?;
            let kind = match first {
                Some(b't') => Kind::True,
                Some(b'f') => Kind::False,
                Some(b'n') => Kind::Null,
                _ => Kind::Number,
            };
            Ok((kind, end))
        }
    }
}

/// The value at `at` and where it ends.
fn token(doc: &[u8], at: usize) -> Result<(Value<'_>, usize), JsonError> {
    dispatch(OneValue { doc, at })
}

struct OneValue<'j> {
    doc: &'j [u8],
    at: usize,
}

impl<'j> Task for OneValue<'j> {
    type Output = Result<(Value<'j>, usize), JsonError>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Self::Output {
        let (kind, end) = value(lanes, self.doc, self.at, 1)?;
        Ok((Value { raw: &self.doc[self.at..end], kind }, end))
    }
}

struct NextMember<'j> {
    walk: Walk<'j>,
}

impl<'j> Task for NextMember<'j> {
    type Output = Result<Option<((Str<'j>, Value<'j>), usize)>, JsonError>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Self::Output {
        let raw = self.walk.raw;
        let Some(start) = self.walk.next_start(b'}')? else { return Ok(None) };
        let (key_start, key_end, value_start) = key(lanes, raw, start)?;
        let (kind, end) = value(lanes, raw, value_start, 1)?;
        let member = (Str { raw: &raw[key_start..key_end] }, Value { raw: &raw[value_start..end], kind });
        Ok(Some((member, end)))
    }
}

struct NextElement<'j> {
    walk: Walk<'j>,
}

impl<'j> Task for NextElement<'j> {
    type Output = Result<Option<(Value<'j>, usize)>, JsonError>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Self::Output {
        let raw = self.walk.raw;
        let Some(start) = self.walk.next_start(b']')? else { return Ok(None) };
        let (kind, end) = value(lanes, raw, start, 1)?;
        Ok(Some((Value { raw: &raw[start..end], kind }, end)))
    }
}

impl<'j> Str<'j> {
    /// A string of the bytes between its quotes, which were found by a reader of this module.
    pub(super) fn of(raw: &'j [u8]) -> Self {
        Self { raw }
    }
}

#[cfg(test)]
mod tests;
