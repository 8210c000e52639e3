//! JSON (RFC 8259) without a tree: what routing and metering need to know, read from the bytes as they are.
//!
//! Four readers, from the cheapest: [`peek`] takes one look at a request body's top level; [`Value`] walks a document
//! lazily, token by token; [`validate`] accepts exactly the grammar; [`unescape`] and its kin turn string tokens into text
//! and back.
//!
//! The first two skip what they are not asked for: inside a skipped value only strings and the nesting of brackets
//! are followed. That is enough to be sure where each value ends, so they never see another member than a full
//! parser would in a valid document; whether the document is valid is for the upstream, or [`validate`], to say.
//!
//! Limits: nesting of [`DEPTH_MAX`].

mod peek;
mod scan;
mod skip;
mod text;
mod validate;

pub use peek::{Peek, peek};
pub use scan::{Array, Kind, Object, Str, Value};
pub use text::{escape_into, unescape, unescape_lossy, write_string};
pub use validate::validate;

/// Deepest nesting that any reader here follows: the common limit of parsers upstream, and one bit a level.
pub const DEPTH_MAX: usize = 128;

/// What is wrong with a document, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JsonError {
    /// What is wrong.
    pub kind: JsonErrorKind,
    /// Offset of the byte at which it was noticed, in the bytes that were given.
    pub at: usize,
}

/// What is wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// It ends in the middle of a value.
    Truncated,
    /// A byte that the grammar does not have here.
    Unexpected,
    /// The document is not an object where it must be one.
    NotAnObject,
    /// Something other than white space follows the document.
    Trailing,
    /// Brackets nest deeper than the limit.
    TooDeep,
    /// A string has a raw control byte or an escape that does not exist.
    String,
    /// A string has half of a surrogate pair, so it is no text.
    LoneSurrogate,
    /// The bytes are not UTF-8.
    NotUtf8,
    /// A number breaks the grammar.
    Number,
    /// A member that is acted upon comes twice; two readers could take different ones.
    DuplicateKey,
    /// A key is a member that is acted upon but for case; readers that fold case would take it for that.
    KeyAlias,
    /// A member that is acted upon has a type that it cannot have.
    WrongType,
    /// It is longer than offsets can say (4 GiB).
    TooLong,
}

impl JsonErrorKind {
    /// What is wrong and what to do, as one sentence for the person who sent it.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Truncated => "The JSON body ends too early; send all of it.",
            Self::Unexpected => "The body is not valid JSON; check it with a JSON parser.",
            Self::NotAnObject => "The body is not a JSON object; send one object.",
            Self::Trailing => "Something follows the JSON document; send one object and nothing else.",
            Self::TooDeep => "The JSON body nests deeper than 128 levels; flatten it.",
            Self::String => {
                "A JSON string has a raw control character or an unknown escape; escape it properly."
            }
            Self::LoneSurrogate => "A JSON string has half of a surrogate pair; send whole characters.",
            Self::NotUtf8 => "The JSON body is not UTF-8; encode it as UTF-8.",
            Self::Number => "A JSON number is malformed; correct it.",
            Self::DuplicateKey => "A member that decides routing or cost comes twice; send it once.",
            Self::KeyAlias => "A key differs from a known one only in case; write it in lower case.",
            Self::WrongType => {
                "model must be a string, stream a boolean, stream_options an object, and token limits numbers."
            }
            Self::TooLong => "The JSON body is longer than 4 GiB.",
        }
    }
}

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (at byte {})", self.kind.sentence().trim_end_matches('.'), self.at)
    }
}

impl std::error::Error for JsonError {}

fn error<T>(kind: JsonErrorKind, at: usize) -> Result<T, JsonError> {
    Err(JsonError { kind, at })
}

// RFC 8259 section 2: ws = *( %x20 / %x09 / %x0A / %x0D )
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The first offset from `at` on that holds no white space; the length of `doc` when there is none.
#[inline(always)]
fn skip_space(doc: &[u8], mut at: usize) -> usize {
    while doc.get(at).is_some_and(|&byte| is_space(byte)) {
        at += 1;
    }
    at
}
