//! Byte classes over whole blocks.
//!
//! Scanning a head or a body is a search for the next byte that ends something. Doing it 32 bytes at a time is what
//! keeps the hop in microseconds. A parser is written once against [`Lanes`]; [`dispatch`] runs it compiled for AVX2
//! where the machine has it, for SSE2 on other x86-64, and portably elsewhere. [`Portable`] is also the meaning: the
//! tests compare the others with it bit for bit.
//!
//! Invariants: in each mask, bit `i` speaks of byte `i` of the block. All functions take whole blocks by reference, so
//! no pointer arithmetic happens here or anywhere else; callers pad what is left at the end of a buffer. The only `unsafe` of
//! this room is in `x86`, where instructions are chosen.

#[cfg(target_arch = "x86_64")]
mod x86;

/// Bytes looked at together in a head.
pub(super) const NAME_BLOCK: usize = 32;

/// Bytes looked at together where a whole field line is likely to fit.
pub(super) const LINE_BLOCK: usize = 64;

/// Bytes looked at together in JSON.
pub(super) const JSON_BLOCK: usize = 64;

/// The byte classes, by whatever instructions there are.
pub(super) trait Lanes: Copy {
    /// Bytes that end a field name: all but `tchar`.
    fn name_stops(self, block: &[u8; NAME_BLOCK]) -> u32;
    /// Bytes equal to `_`.
    fn underscores(self, block: &[u8; NAME_BLOCK]) -> u32;
    /// Bytes that end a field value: control bytes but HTAB.
    fn value_stops(self, block: &[u8; NAME_BLOCK]) -> u32;
    /// As `value_stops`, for a longer block.
    fn line_stops(self, block: &[u8; LINE_BLOCK]) -> u64;
    /// Bytes that end a request target: all but visible ASCII.
    fn target_stops(self, block: &[u8; NAME_BLOCK]) -> u32;
    /// Whether the first `length` bytes, with bit 0x20 set, equal those of `lower`; `length` is 1 to 32.
    fn same_name(self, block: &[u8; NAME_BLOCK], lower: &[u8; NAME_BLOCK], length: usize) -> bool;
    /// Quotes and backslashes.
    fn strings(self, block: &[u8; JSON_BLOCK]) -> (u64, u64);
    /// `{`, `[`, `}` and `]`.
    fn brackets(self, block: &[u8; JSON_BLOCK]) -> u64;
}

/// Work to be compiled once for each kind of lanes. `run` must be `#[inline(always)]`, or it misses the instructions.
pub(super) trait Task {
    /// What the work yields.
    type Output;
    /// Does the work.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// Runs `task` with the widest lanes this machine has.
#[inline]
pub(super) fn dispatch<T: Task>(task: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    {
        match x86::Avx2::detect() {
            Some(lanes) => lanes.run(task),
            None => task.run(x86::Sse2),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    task.run(Portable)
}

/// Quotes and backslashes of a short block: for names and words, which are over before wider lanes would pay. SSE2, which
/// each x86-64 has, so nothing is dispatched.
#[inline(always)]
pub(crate) fn short_strings(block: &[u8; 16]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        x86::short_strings(block)
    }
    #[cfg(not(target_arch = "x86_64"))]
    block.iter().rev().fold(0, |mask, &byte| mask << 1 | u32::from(matches!(byte, b'"' | b'\\')))
}

/// The same, and control bytes, which no string may hold.
#[inline(always)]
pub(crate) fn short_string_stops(block: &[u8; 16]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        x86::short_string_stops(block)
    }
    #[cfg(not(target_arch = "x86_64"))]
    block.iter().rev().fold(0, |mask, &byte| mask << 1 | u32::from(matches!(byte, b'"' | b'\\' | 0..=0x1f)))
}

/// Lanes without any special instruction.
#[derive(Clone, Copy)]
pub(super) struct Portable;

/// Class of the bytes of a field name or method.
pub(super) const TCHAR: u8 = 1;
/// Class of the bytes of a field value.
pub(super) const VALUE: u8 = 2;
/// Class of the bytes of a request target.
pub(super) const TARGET: u8 = 4;

/// The classes of each byte, as bits.
static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = class(byte as u8);
        byte += 1;
    }
    table
};

const fn class(byte: u8) -> u8 {
    let mut bits = 0;
    // RFC 9110 5.6.2: tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~"
    //                        / DIGIT / ALPHA
    if byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
    {
        bits |= TCHAR;
    }
    // RFC 9110 5.5: field-content of VCHAR / obs-text, with SP / HTAB between; obs-text = %x80-FF
    if byte == b'\t' || (byte >= 0x20 && byte != 0x7f) {
        bits |= VALUE;
    }
    // RFC 9112 3.2 has a URI here; which of the visible bytes may stand where is decided in `framing`.
    if byte.is_ascii_graphic() {
        bits |= TARGET;
    }
    bits
}

/// Whether `byte` is a `tchar`.
pub(super) const fn is_tchar(byte: u8) -> bool {
    CLASS[byte as usize] & TCHAR != 0
}

/// Whether `byte` may stand in a field value.
pub(super) const fn is_value_byte(byte: u8) -> bool {
    CLASS[byte as usize] & VALUE != 0
}

#[inline(always)]
fn mask32(block: &[u8; NAME_BLOCK], wanted: impl Fn(u8) -> bool) -> u32 {
    block.iter().rev().fold(0, |mask, &byte| mask << 1 | u32::from(wanted(byte)))
}

#[inline(always)]
fn mask64(block: &[u8; JSON_BLOCK], wanted: impl Fn(u8) -> bool) -> u64 {
    block.iter().rev().fold(0, |mask, &byte| mask << 1 | u64::from(wanted(byte)))
}

/// A mask of the lowest `length` bits; `length` is 1 to 32.
#[inline(always)]
fn low_bits(length: usize) -> u32 {
    u32::MAX >> (NAME_BLOCK.wrapping_sub(length) & 31)
}

impl Lanes for Portable {
    #[inline(always)]
    fn name_stops(self, block: &[u8; NAME_BLOCK]) -> u32 {
        mask32(block, |byte| CLASS[byte as usize] & TCHAR == 0)
    }
    #[inline(always)]
    fn underscores(self, block: &[u8; NAME_BLOCK]) -> u32 {
        mask32(block, |byte| byte == b'_')
    }
    #[inline(always)]
    fn value_stops(self, block: &[u8; NAME_BLOCK]) -> u32 {
        mask32(block, |byte| CLASS[byte as usize] & VALUE == 0)
    }
    #[inline(always)]
    fn line_stops(self, block: &[u8; LINE_BLOCK]) -> u64 {
        mask64(block, |byte| CLASS[byte as usize] & VALUE == 0)
    }
    #[inline(always)]
    fn target_stops(self, block: &[u8; NAME_BLOCK]) -> u32 {
        mask32(block, |byte| CLASS[byte as usize] & TARGET == 0)
    }
    #[inline(always)]
    fn same_name(self, block: &[u8; NAME_BLOCK], lower: &[u8; NAME_BLOCK], length: usize) -> bool {
        block.iter().zip(lower).take(length).all(|(byte, lower)| byte | 0x20 == *lower)
    }
    #[inline(always)]
    fn strings(self, block: &[u8; JSON_BLOCK]) -> (u64, u64) {
        (mask64(block, |byte| byte == b'"'), mask64(block, |byte| byte == b'\\'))
    }
    #[inline(always)]
    fn brackets(self, block: &[u8; JSON_BLOCK]) -> u64 {
        mask64(block, |byte| matches!(byte | 0x20, b'{' | b'}'))
    }
}

/// Runs a task with all lanes that this machine has, and checks that they yield the same.
#[cfg(test)]
pub(super) fn each_lanes<T: Task>(task: impl Fn() -> T) -> T::Output
where
    T::Output: PartialEq + std::fmt::Debug,
{
    let portable = task().run(Portable);
    #[cfg(target_arch = "x86_64")]
    {
        assert_eq!(task().run(x86::Sse2), portable);
        if let Some(lanes) = x86::Avx2::detect() {
            assert_eq!(lanes.run(task()), portable);
        }
    }
    portable
}

#[cfg(test)]
mod short_tests {
    #[test]
    fn each_byte_at_each_place_of_a_short_block_is_seen_for_what_it_is() {
        for byte in 0..=255u8 {
            for at in 0..16 {
                let mut block = [b'x'; 16];
                block[at] = byte;
                let string = matches!(byte, b'"' | b'\\');
                assert_eq!(super::short_strings(&block), u32::from(string) << at, "{byte}");
                assert_eq!(
                    super::short_string_stops(&block),
                    u32::from(string || byte < 0x20) << at,
                    "{byte}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks() -> Vec<[u8; JSON_BLOCK]> {
        // Each byte value at each position, then a mix of everything.
        let mut blocks = Vec::new();
        for byte in 0..=255u8 {
            blocks.push([byte; JSON_BLOCK]);
            let mut alone = [b'a'; JSON_BLOCK];
            alone[byte as usize % JSON_BLOCK] = byte;
            blocks.push(alone);
        }
        let mut state = 0x2545_f491_4f6c_dd1du64;
        for _ in 0..2000 {
            blocks.push(std::array::from_fn(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            }));
        }
        blocks
    }

    fn agrees_with_portable<L: Lanes>(lanes: L) {
        for block in blocks() {
            let half: &[u8; NAME_BLOCK] = block.first_chunk().unwrap();
            assert_eq!(lanes.name_stops(half), Portable.name_stops(half), "{half:?}");
            assert_eq!(lanes.underscores(half), Portable.underscores(half), "{half:?}");
            assert_eq!(lanes.value_stops(half), Portable.value_stops(half), "{half:?}");
            assert_eq!(lanes.target_stops(half), Portable.target_stops(half), "{half:?}");
            assert_eq!(lanes.line_stops(&block), Portable.line_stops(&block), "{block:?}");
            assert_eq!(lanes.strings(&block), Portable.strings(&block), "{block:?}");
            assert_eq!(lanes.brackets(&block), Portable.brackets(&block), "{block:?}");
            for length in 1..=NAME_BLOCK {
                let mut lower = half.map(|byte| byte | 0x20);
                assert!(lanes.same_name(half, &lower, length));
                lower[length - 1] ^= 1;
                assert!(!lanes.same_name(half, &lower, length));
                assert_eq!(lanes.same_name(half, &lower, length - 1 + usize::from(length == 1)), length > 1);
            }
        }
    }

    #[test]
    fn portable_agrees_with_itself() {
        agrees_with_portable(Portable);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn sse2_agrees_with_portable_bit_for_bit() {
        agrees_with_portable(x86::Sse2);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn avx2_agrees_with_portable_bit_for_bit() {
        match x86::Avx2::detect() {
            Some(lanes) => agrees_with_portable(lanes),
            None => println!("skipped: this machine has no AVX2"),
        }
    }

    #[test]
    fn the_classes_are_those_of_the_grammar() {
        let tchars: Vec<u8> = (0..=255).filter(|&byte| is_tchar(byte)).collect();
        assert_eq!(
            tchars,
            b"!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~".to_vec()
        );
        let refused: Vec<u8> = (0..=255).filter(|&byte| !is_value_byte(byte)).collect();
        let expected: Vec<u8> = (0..=8).chain(10..=31).chain([127]).collect();
        assert_eq!(refused, expected);
    }
}
