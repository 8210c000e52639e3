//! One value, as it stands in its document.

use std::borrow::Cow;

use super::{Cursor, Kind};
use crate::wire::json;

/// One whole value token, borrowed from the document it stands in; empty when there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raw<'j>(&'j [u8]);

impl<'j> Raw<'j> {
    /// The token that a walk has cut out.
    pub(super) fn token(bytes: &'j [u8]) -> Self {
        Self(bytes)
    }

    /// The value that `doc` holds, without the white space around it.
    pub fn of(doc: &'j [u8]) -> Self {
        Cursor::new(doc).skip()
    }

    /// The value that `doc` holds, known to be exactly one: only the white space around it is cut off.
    pub fn of_valid(doc: &'j [u8]) -> Self {
        Self(doc.trim_ascii())
    }

    /// The token as it is written.
    pub fn bytes(self) -> &'j [u8] {
        self.0
    }

    /// Kind of the value; none for an empty token.
    pub fn kind(self) -> Option<Kind> {
        Some(match self.0.first()? {
            b'"' => Kind::String,
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b't' | b'f' => Kind::Bool,
            b'n' => Kind::Null,
            _ => Kind::Number,
        })
    }

    /// Whether the value is `null` or missing.
    pub fn is_null(self) -> bool {
        matches!(self.kind(), None | Some(Kind::Null))
    }

    /// Whether the value says nothing: null, `""`, `[]`, `{}`.
    pub fn is_empty(self) -> bool {
        match self.kind() {
            None | Some(Kind::Null) => true,
            Some(Kind::String) => self.0.len() == 2,
            Some(Kind::Array | Kind::Object) => {
                self.0[1..self.0.len() - 1].iter().all(|b| matches!(b, b' ' | b'\n' | b'\r' | b'\t'))
            }
            _ => false,
        }
    }

    /// The value when it is `true` or `false`.
    pub fn bool(self) -> Option<bool> {
        match self.0 {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// The value when it is a number from 0 to 2^53; a fraction is cut off.
    pub fn count(self) -> Option<u64> {
        if self.0.len() <= 15 && !self.0.is_empty() && self.0.iter().all(u8::is_ascii_digit) {
            return Some(self.0.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')));
        }
        let number = self.number()?;
        // The range check makes the cast exact up to the fraction.
        (0.0..=9_007_199_254_740_992.0).contains(&number).then_some(number as u64)
    }

    /// The value when it is a finite number.
    pub fn number(self) -> Option<f64> {
        if self.kind() != Some(Kind::Number) {
            return None;
        }
        std::str::from_utf8(self.0).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// What stands between the quotes of a string, still escaped.
    pub fn content(self) -> Option<&'j [u8]> {
        match self.0 {
            [b'"', inner @ .., b'"'] => Some(inner),
            _ => None,
        }
    }

    /// Whether this is a string written, without escapes, as `text`.
    pub fn is(self, text: &str) -> bool {
        self.content() == Some(text.as_bytes())
    }

    /// The text of a string, unescaped; borrowed when it has no escapes. None when it is no string or not Unicode.
    pub fn text(self) -> Option<Cow<'j, str>> {
        let inner = self.content()?;
        if memchr::memchr(b'\\', inner).is_none() {
            return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
        }
        let mut text = Vec::with_capacity(inner.len());
        json::unescape(inner, &mut text).ok()?;
        String::from_utf8(text).ok().map(Cow::Owned)
    }

    /// Whether this is a string of nothing but spaces, tabs and line ends, however they are written.
    pub fn is_blank(self) -> bool {
        let Some(mut rest) = self.content() else { return false };
        loop {
            rest = match rest {
                [] => return true,
                [b' ', tail @ ..] => tail,
                [b'\\', b'n' | b't' | b'r' | b'f', tail @ ..] => tail,
                _ => return false,
            }
        }
    }

    /// Walks the members of an object; no calls when it is none.
    pub fn members(self, mut visit: impl FnMut(&'j [u8], Raw<'j>)) {
        if self.kind() == Some(Kind::Object) {
            Cursor::new(self.0).object(|cursor, name| visit(name, cursor.skip()));
        }
    }

    /// The items of an array; none when it is not one.
    pub fn items(self) -> Items<'j> {
        let is_array = self.kind() == Some(Kind::Array);
        Items { cursor: Cursor { doc: self.0, at: 1, bad: !is_array }, first: true }
    }

    /// The value of the first member called `name`.
    pub fn get(self, name: &str) -> Option<Raw<'j>> {
        let mut found = None;
        self.members(|member, value| {
            if found.is_none() && member == name.as_bytes() {
                found = Some(value);
            }
        });
        found
    }

    /// The values of the members called `names`, in one walk; empty tokens where there is none.
    pub fn pick<const N: usize>(self, names: [&str; N]) -> [Raw<'j>; N] {
        let mut found = [Raw(b""); N];
        self.members(|member, value| {
            if let Some(slot) = names.iter().position(|name| name.as_bytes() == member) {
                found[slot] = value;
            }
        });
        found
    }
}

/// Items of an array, one token at a time.
#[derive(Debug)]
pub struct Items<'j> {
    cursor: Cursor<'j>,
    first: bool,
}

impl<'j> Iterator for Items<'j> {
    type Item = Raw<'j>;

    fn next(&mut self) -> Option<Raw<'j>> {
        if !self.cursor.another(b']', &mut self.first) {
            // The closing bracket was consumed, or the text is broken: in both cases nothing follows.
            self.cursor.bad = true;
            return None;
        }
        let item = self.cursor.skip();
        (!item.bytes().is_empty()).then_some(item)
    }
}
