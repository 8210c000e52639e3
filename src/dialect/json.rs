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

use std::borrow::Cow;

use crate::wire::json;

/// Deepest nesting a body may have before it is refused. Below `wire`'s own limit, so that what a translator wraps
/// around it still fits; the deepest schemas seen in the wild stay under 40.
pub const MAX_DEPTH: usize = 120;

/// Whether `doc` is exactly one JSON value by RFC 8259, in UTF-8, nested at most [`MAX_DEPTH`] deep.
pub fn valid(doc: &[u8]) -> bool {
    json::validate(doc, MAX_DEPTH).is_ok()
}

/// Bytes without a quote or a backslash after which a long search is worth its start-up cost.
const LONG: usize = 64;

/// Place just past the closing quote of a string whose first content byte is at `at`.
///
/// Names and escaped code have a stop every few bytes, prose every few thousand: so eight bytes at a time as one word
/// first, then memchr.
fn string_end(doc: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
    // The lowest bit that is set marks the first such byte; bits above it may lie.
    let marks = |word: u64, byte: u8| {
        let word = word ^ (ONES * u64::from(byte));
        word.wrapping_sub(ONES) & !word & HIGHS
    };
    let mut quiet = 0;
    loop {
        let Some(bytes) = doc.get(at..).and_then(<[u8]>::first_chunk::<8>) else {
            at += doc.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            if doc[at] == b'"' {
                return Some(at + 1);
            }
            at += 2;
            continue;
        };
        let word = u64::from_le_bytes(*bytes);
        let found = marks(word, b'"') | marks(word, b'\\');
        if found == 0 {
            at += 8;
            quiet += 8;
            if quiet < LONG {
                continue;
            }
            at += memchr::memchr2(b'"', b'\\', &doc[at..])?;
        } else {
            at += found.trailing_zeros() as usize / 8;
        }
        if doc[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
        quiet = 0;
    }
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

/// A place in a document, moving forward only.
#[derive(Debug)]
pub struct Cursor<'j> {
    doc: &'j [u8],
    at: usize,
    bad: bool,
}

impl<'j> Cursor<'j> {
    /// Starts at the first byte of `doc`.
    pub fn new(doc: &'j [u8]) -> Self {
        Self { doc, at: 0, bad: false }
    }

    /// Whether the bytes seen so far cannot be JSON, or ended inside a value.
    pub fn bad(&self) -> bool {
        self.bad
    }

    /// Whether only white space follows and nothing was wrong before.
    pub fn finished(&mut self) -> bool {
        !self.bad && self.peek().is_none()
    }

    /// Next byte that is not white space, not consumed.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.doc.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Walks an object: `visit` is called with the cursor at each value and either consumes it or leaves it alone.
    ///
    /// Returns false, having skipped the value, when it is not an object.
    pub fn object(&mut self, mut visit: impl FnMut(&mut Self, &'j [u8])) -> bool {
        if !self.open(b'{') {
            return false;
        }
        let mut first = true;
        while self.another(b'}', &mut first) {
            if self.peek() != Some(b'"') {
                self.bad = true;
                break;
            }
            let Some(name) = self.skip().content() else { break };
            if self.peek() != Some(b':') {
                self.bad = true;
                break;
            }
            self.at += 1;
            self.peek();
            let before = self.at;
            visit(self, name);
            if self.at == before {
                self.skip();
            }
        }
        true
    }

    /// Walks an array: `visit` is called with the cursor at each item and either consumes it or leaves it alone.
    ///
    /// Returns false, having skipped the value, when it is not an array.
    pub fn array(&mut self, mut visit: impl FnMut(&mut Self)) -> bool {
        if !self.open(b'[') {
            return false;
        }
        let mut first = true;
        while self.another(b']', &mut first) {
            self.peek();
            let before = self.at;
            visit(self);
            if self.at == before {
                self.skip();
            }
        }
        true
    }

    /// Consumes one value and gives its token; an empty token when there is none.
    pub fn skip(&mut self) -> Raw<'j> {
        let Some(byte) = self.peek() else {
            self.bad = true;
            return Raw(b"");
        };
        let start = self.at;
        let end = match byte {
            b'"' => string_end(self.doc, start + 1),
            b'{' | b'[' => self.container_end(start),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Some(
                self.doc[start..]
                    .iter()
                    .position(|b| matches!(b, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'))
                    .map_or(self.doc.len(), |len| start + len),
            ),
            _ => None,
        };
        match end {
            Some(end) if end <= self.doc.len() => {
                self.at = end;
                Raw(&self.doc[start..end])
            }
            _ => {
                self.bad = true;
                self.at = self.doc.len();
                Raw(b"")
            }
        }
    }

    fn container_end(&self, start: usize) -> Option<usize> {
        let (mut at, mut depth) = (start, 0usize);
        loop {
            let byte = *self.doc.get(at)?;
            at += 1;
            match byte {
                b'"' => at = string_end(self.doc, at)?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
    }

    /// Consumes the opening bracket, or skips the value that is something else.
    fn open(&mut self, bracket: u8) -> bool {
        if self.peek() == Some(bracket) {
            self.at += 1;
            return true;
        }
        self.skip();
        false
    }

    /// Consumes the separator or the closing bracket; says whether another member follows.
    fn another(&mut self, close: u8, first: &mut bool) -> bool {
        if self.bad {
            return false;
        }
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                return false;
            }
            Some(b',') if !*first => self.at += 1,
            Some(_) if *first => {}
            _ => {
                self.bad = true;
                return false;
            }
        }
        *first = false;
        true
    }
}

/// One whole value token, borrowed from the document it stands in; empty when there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raw<'j>(&'j [u8]);

impl<'j> Raw<'j> {
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
mod tests {
    use super::*;

    #[test]
    fn members_are_found_wherever_they_stand() {
        let doc = br#" { "a" : [1, {"b":"}\"]"} ], "c":"x\\", "d" : -1.5e2 , "e":null,"f":true } "#;
        let raw = Raw::of(doc);
        let [a, c, d, e, f, none] = raw.pick(["a", "c", "d", "e", "f", "zz"]);
        assert_eq!(a.bytes(), br#"[1, {"b":"}\"]"} ]"#);
        assert_eq!(c.text().as_deref(), Some("x\\"));
        assert_eq!(d.number(), Some(-150.0));
        assert!(e.is_null() && none.is_null() && !f.is_null());
        assert_eq!(f.bool(), Some(true));
        let items: Vec<_> = a.items().map(|item| item.bytes().to_vec()).collect();
        assert_eq!(items, [b"1".to_vec(), br#"{"b":"}\"]"}"#.to_vec()]);
    }

    #[test]
    fn cut_documents_are_bad_at_every_byte_and_never_panic() {
        let doc = br#"{"a":[1,{"b":"}\"]"}],"c":"\u00e9","d":-1.5e2,"e":null,"f":{"g":[]}}"#;
        for cut in 0..doc.len() {
            let mut cursor = Cursor::new(&doc[..cut]);
            cursor.object(|_, _| {});
            assert!(cursor.bad(), "cut at {cut}");
            Raw::of(&doc[..cut]).items().count();
        }
        let mut cursor = Cursor::new(doc);
        cursor.object(|_, _| {});
        assert!(cursor.finished());
    }

    #[test]
    fn separators_that_do_not_add_up_are_bad() {
        for doc in [
            r#"{"a" 1}"#,
            r#"{"a":1,,"b":2}"#,
            r#"{"a":1 "b":2}"#,
            "{1:2}",
            r#"{,"a":1}"#,
            "[1 2]",
            "[,]",
            "x",
        ] {
            let mut cursor = Cursor::new(doc.as_bytes());
            if !cursor.object(|_, _| {}) {
                let mut cursor = Cursor::new(doc.as_bytes());
                cursor.array(|_| {});
                assert!(cursor.bad(), "{doc}");
                continue;
            }
            assert!(cursor.bad(), "{doc}");
        }
    }

    #[test]
    fn blank_texts_are_seen_through_their_escapes() {
        for (doc, blank) in
            [(r#""""#, true), (r#"" \n\t""#, true), (r#""\\n""#, false), (r#"" x""#, false), ("1", false)]
        {
            assert_eq!(Raw::of(doc.as_bytes()).is_blank(), blank, "{doc}");
        }
    }

    #[test]
    fn strings_survive_being_written_and_read() {
        for text in ["", "plain", "quote \" back \\ line\n\r\t bell \u{7} del \u{7f} é 漢 🦀"] {
            let mut out = Vec::new();
            push_string(&mut out, text);
            assert_eq!(Raw::of(&out).text().as_deref(), Some(text));
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
        let mut out = Vec::new();
        push_number(&mut out, 0);
        push_number(&mut out, u64::MAX);
        assert_eq!(out, b"018446744073709551615");
    }

    #[test]
    fn strings_end_at_their_own_quote_whatever_their_length() {
        for plain in 0..200 {
            for tail in ["", "\\\"", "\\\\", "\\n\\\"x", "é\\\\\\\""] {
                let doc = format!("\"{}{tail}\",\"next\"", "a".repeat(plain));
                let expected = doc.len() - ",\"next\"".len();
                assert_eq!(string_end(doc.as_bytes(), 1), Some(expected), "{doc}");
                for cut in 1..expected {
                    assert_eq!(string_end(&doc.as_bytes()[..cut], 1), None, "{doc} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn counts_are_whole_and_never_negative() {
        for (doc, count) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("12.9", Some(12)),
            ("-1", None),
            ("null", None),
            ("1e3", Some(1000)),
        ] {
            assert_eq!(Raw::of(doc.as_bytes()).count(), count, "{doc}");
        }
    }

    #[test]
    fn nesting_is_bounded_and_encoding_is_checked() {
        let nest = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(valid(&nest(MAX_DEPTH)));
        assert!(!valid(&nest(MAX_DEPTH + 1)));
        assert!(!valid(b"\"\xff\""));
        assert!(!valid(b"{} {}"));
    }
}
