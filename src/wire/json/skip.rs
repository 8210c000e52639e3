//! Finding where a JSON token ends, 64 bytes at a time.
//!
//! Long prompts are long strings: most blocks hold neither quote nor backslash and are passed with a few
//! instructions. Where there are some, the quotes that really open and close strings are computed for the whole block
//! without looking at single bytes (the method of simdjson: Langdale and Lemire, "Parsing Gigabytes of JSON per Second",
//! 2019, sections 3.1.1 and 3.1.2). Only brackets outside strings are visited one by one.
//!
//! Invariants: brackets close in the order they opened and with their own kind; a backslash outside a string is refused.
//! Limits: [`DEPTH_MAX`] levels, whose kinds are the bits of one word.
//! It leaves out: everything else inside the token.

use super::super::simd::{JSON_BLOCK, Lanes};
use super::{DEPTH_MAX, JsonError, JsonErrorKind, error, is_space};

/// Bits whose place is even.
const EVEN: u64 = 0x5555_5555_5555_5555;

/// The offset of the quote that closes the string whose first byte after the opening quote is at `at`.
#[inline(always)]
pub(super) fn string_end<L: Lanes>(lanes: L, doc: &[u8], mut at: usize) -> Result<usize, JsonError> {
    let mut escapes = Escapes::default();
    let mut pad = None;
    while at < doc.len() {
        let (quotes, backslashes) = lanes.strings(block_at(doc, at, &mut pad));
        let closing = quotes & !escapes.escaped(backslashes);
        if closing != 0 {
            return Ok(at + closing.trailing_zeros() as usize);
        }
        at += JSON_BLOCK;
    }
    error(JsonErrorKind::Truncated, doc.len())
}

/// The offset past the bracket that closes the object or array which opens at `at`, itself `depth` levels deep (the root is
/// 1 level deep).
#[inline(always)]
pub(super) fn container_end<L: Lanes>(
    lanes: L,
    doc: &[u8],
    start: usize,
    depth: usize,
) -> Result<usize, JsonError> {
    let mut escapes = Escapes::default();
    let mut brackets = Brackets { levels: 0, kinds: 0, max: (DEPTH_MAX + 1).saturating_sub(depth) };
    // All ones inside a string, else zero.
    let mut inside = 0u64;
    let mut at = start;
    let mut pad = None;
    while at < doc.len() {
        let block = block_at(doc, at, &mut pad);
        let (quotes, backslashes) = lanes.strings(block);
        if inside == u64::MAX && quotes | backslashes == 0 {
            escapes.clear();
        } else {
            let quotes = quotes & !escapes.escaped(backslashes);
            // From each opening quote up to, not including, the closing one.
            let strings = prefix_xor(quotes) ^ inside;
            inside = ((strings as i64) >> 63) as u64;
            let stray = backslashes & !strings;
            let found = lanes.brackets(block) & !strings;
            if let Some(place) = brackets.close_in(block, found, stray, at)? {
                return Ok(at + place + 1);
            }
        }
        at += JSON_BLOCK;
    }
    error(JsonErrorKind::Truncated, doc.len())
}

/// The offset past the number, `true`, `false` or `null` at `at`, with its grammar checked.
#[inline(always)]
pub(super) fn scalar_end(doc: &[u8], at: usize) -> Result<usize, JsonError> {
    let rest = doc.get(at..).unwrap_or_default();
    let length = rest
        .iter()
        .position(|&byte| is_space(byte) || matches!(byte, b',' | b'}' | b']'))
        .unwrap_or(rest.len());
    match &rest[..length] {
        b"true" | b"false" | b"null" => Ok(at + length),
        [] if rest.is_empty() => error(JsonErrorKind::Truncated, at),
        [b'-' | b'0'..=b'9', ..] if is_number(&rest[..length]) => Ok(at + length),
        [b'-' | b'0'..=b'9', ..] => error(JsonErrorKind::Number, at),
        _ => error(JsonErrorKind::Unexpected, at),
    }
}

// RFC 8259 section 6: number = [ minus ] int [ frac ] [ exp ] ; int = zero / ( digit1-9 *DIGIT )
//                     frac = decimal-point 1*DIGIT ; exp = e [ minus / plus ] 1*DIGIT
pub(super) fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    let mut rest = &rest[whole..];
    if let [b'.', after @ ..] = rest {
        let fraction = digits(after);
        if fraction == 0 {
            return false;
        }
        rest = &after[fraction..];
    }
    if let [b'e' | b'E', b'+' | b'-', after @ ..] | [b'e' | b'E', after @ ..] = rest {
        let exponent = digits(after);
        return exponent > 0 && exponent == after.len();
    }
    rest.is_empty()
}

/// Which bytes a backslash before them escapes, carried from block to block.
#[derive(Default)]
struct Escapes {
    /// 1 when the last byte of the block before was a backslash that escapes the first byte of this one.
    carry: u64,
}

impl Escapes {
    #[inline(always)]
    fn clear(&mut self) {
        self.carry = 0;
    }

    /// The bytes that are escaped. In a run of backslashes every second one is.
    #[inline(always)]
    fn escaped(&mut self, backslashes: u64) -> u64 {
        if backslashes == 0 {
            return std::mem::take(&mut self.carry);
        }
        let backslashes = backslashes & !self.carry;
        let follows = backslashes << 1 | self.carry;
        // Adding a run's start to the run carries out past its end; the place of the carry tells odd runs from even.
        let odd_starts = backslashes & !EVEN & !follows;
        let (ends, overflow) = odd_starts.overflowing_add(backslashes);
        self.carry = u64::from(overflow);
        (EVEN ^ ends << 1) & follows
    }
}

/// Bit `i` of the result is the parity of bits `0..=i`.
#[inline(always)]
fn prefix_xor(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^ bits << 32
}

/// The brackets that are open, innermost last.
struct Brackets {
    levels: usize,
    /// One bit a level, the innermost lowest: 1 for an object.
    kinds: u128,
    // At most DEPTH_MAX, which is as many bits as `kinds` has.
    max: usize,
}

impl Brackets {
    /// Follows the brackets marked in `found`; the place of the one that closes the outermost level, if it is here.
    /// `stray` marks backslashes outside strings, which are refused when they come before that.
    #[inline(always)]
    fn close_in(
        &mut self,
        block: &[u8; JSON_BLOCK],
        mut found: u64,
        stray: u64,
        base: usize,
    ) -> Result<Option<usize>, JsonError> {
        while found != 0 {
            let place = found.trailing_zeros() as usize;
            let byte = block[place & (JSON_BLOCK - 1)];
            // Braces have bit 0x20 of ASCII set, square brackets do not.
            let object = u128::from(byte >> 5 & 1);
            if matches!(byte, b'{' | b'[') {
                if self.levels == self.max {
                    return error(JsonErrorKind::TooDeep, base + place);
                }
                self.levels += 1;
                self.kinds = self.kinds << 1 | object;
            } else {
                if self.kinds & 1 != object || self.levels == 0 {
                    return error(JsonErrorKind::Unexpected, base + place);
                }
                self.levels -= 1;
                self.kinds >>= 1;
                if self.levels == 0 {
                    let before = stray & ((1 << place) - 1);
                    return if before == 0 { Ok(Some(place)) } else { stray_error(before, base) };
                }
            }
            found &= found - 1;
        }
        if stray == 0 { Ok(None) } else { stray_error(stray, base) }
    }
}

#[cold]
fn stray_error<T>(stray: u64, base: usize) -> Result<T, JsonError> {
    error(JsonErrorKind::Unexpected, base + stray.trailing_zeros() as usize)
}

/// The block at `at`. Past the end of the document it is padded, by way of `pad`, with spaces.
#[inline(always)]
fn block_at<'a>(doc: &'a [u8], at: usize, pad: &'a mut Option<[u8; JSON_BLOCK]>) -> &'a [u8; JSON_BLOCK] {
    let rest = doc.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(block) => block,
        None => pad.insert(padded(rest)),
    }
}

/// Out of line, so that the registers of the loops stay theirs.
#[cold]
#[inline(never)]
fn padded(rest: &[u8]) -> [u8; JSON_BLOCK] {
    let mut pad = [b' '; JSON_BLOCK];
    pad[..rest.len()].copy_from_slice(rest);
    pad
}
