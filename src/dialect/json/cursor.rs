//! A walk over a document, forward only, that skips what nobody asks for.

use super::Raw;
use crate::wire::simd::short_strings;

/// A place in a document, moving forward only.
#[derive(Debug)]
pub struct Cursor<'j> {
    pub(super) doc: &'j [u8],
    pub(super) at: usize,
    pub(super) bad: bool,
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
    #[inline]
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
            let from = self.at + 1;
            let Some(end) = string_end(self.doc, from) else {
                self.bad = true;
                self.at = self.doc.len();
                break;
            };
            let name = &self.doc[from..end - 1];
            self.at = end;
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
            return Raw::default();
        };
        let start = self.at;
        let end = match byte {
            b'"' => string_end(self.doc, start + 1),
            b'{' | b'[' => self.container_end(start),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Some(word_end(self.doc, start + 1)),
            _ => None,
        };
        match end {
            Some(end) if end <= self.doc.len() => {
                self.at = end;
                Raw::token(&self.doc[start..end])
            }
            _ => {
                self.bad = true;
                self.at = self.doc.len();
                Raw::default()
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
    #[inline]
    pub(super) fn another(&mut self, close: u8, first: &mut bool) -> bool {
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

/// Bytes without a quote or a backslash after which a long search is worth its start-up cost.
const LONG: usize = 64;

/// Place just past the closing quote of a string whose first content byte is at `at`.
///
/// Names and escaped code have a stop every few bytes, prose every few thousand: so sixteen bytes at a time first, then
/// memchr.
#[inline]
pub(super) fn string_end(doc: &[u8], mut at: usize) -> Option<usize> {
    let mut quiet = 0;
    loop {
        let rest = doc.get(at..)?;
        let Some(block) = rest.first_chunk::<16>() else {
            at += rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            if doc[at] == b'"' {
                return Some(at + 1);
            }
            at += 2;
            continue;
        };
        let found = short_strings(block);
        if found == 0 {
            at += block.len();
            quiet += block.len();
            if quiet < LONG {
                continue;
            }
            at += memchr::memchr2(b'"', b'\\', doc.get(at..)?)?;
        } else {
            at += found.trailing_zeros() as usize;
        }
        if doc[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
        quiet = 0;
    }
}

/// Bytes that end a number or a word.
static ENDS: [bool; 256] = {
    let mut table = [false; 256];
    let ends = b",}] \n\r\t";
    let mut at = 0;
    while at < ends.len() {
        table[ends[at] as usize] = true;
        at += 1;
    }
    table
};

/// Place of the first byte from `at` on that ends a number or a word.
#[inline]
fn word_end(doc: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = doc.get(at) {
        if ENDS[usize::from(byte)] {
            break;
        }
        at += 1;
    }
    at
}
