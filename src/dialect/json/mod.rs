//! A forward reader for JSON that stays where it is: raw tokens are borrowed, nothing is built.
//!
//! Why not a tree: a pass-through answer is looked at for its usage and its end, a translated request is mostly
//! strings and schemas that are copied as they stand. Both want tokens and their places, not values.
//!
//! Why beside `wire::json`: its lazy values are walked anew from each object down. [`Cursor`] walks once, forward, and
//! the caller takes what it wants at any depth on the way, so that a watched stream costs one look at each byte.
//! [`Raw`] is one whole value token that can be walked again. Neither checks the grammar of what it skips: it never
//! panics, never loops, and says `bad` when brackets, quotes or separators do not add up. A translator validates the
//! whole document first ([`valid`]), so what it then copies is known to be JSON.
//!
//! Limits: member names are compared as they are written, so a name spelled with escapes is a name we do not know.

mod cursor;
mod raw;

pub use cursor::Cursor;
pub use raw::{Items, Raw};

use crate::wire::json;

/// Deepest nesting a body may have before it is refused. Below `wire`'s own limit, so that what a translator wraps
/// around it still fits; the deepest schemas seen in the wild stay under 40.
pub const MAX_DEPTH: usize = 120;

/// Whether `doc` is exactly one JSON value by RFC 8259, in UTF-8, nested at most [`MAX_DEPTH`] deep.
pub fn valid(doc: &[u8]) -> bool {
    json::validate(doc, MAX_DEPTH).is_ok()
}

/// What kind of value a token is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `"…"`
    String,
    /// `-1.5e3`
    Number,
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

/// Appends `text` as a JSON string, quotes included.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    json::write_string(text, out);
}

/// Appends `text` escaped for the inside of a JSON string.
pub fn push_escaped(out: &mut Vec<u8>, text: &str) {
    json::escape_into(text, out);
}

/// Appends a whole number in decimal.
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0u8; 20];
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests;
