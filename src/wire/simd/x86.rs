//! The byte classes by SSE2 and AVX2 instructions.
//!
//! `unsafe` is for two things only: loading a block that is borrowed whole, and calling functions compiled for
//! instructions that the lanes' existence proves. Which bytes belong to which class is said in the module above.

#![allow(unsafe_code)]

use super::{JSON_BLOCK, LINE_BLOCK, Lanes, NAME_BLOCK, Task, low_bits};

/// Lanes of SSE2, which each x86-64 has.
#[derive(Clone, Copy)]
pub(super) struct Sse2;

/// Lanes of AVX2. A value exists only where the machine was seen to have it.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// The lanes, when the machine has AVX2 and the bit instructions that came with it.
    #[inline]
    pub(super) fn detect() -> Option<Self> {
        (std::is_x86_feature_detected!("avx2")
            && std::is_x86_feature_detected!("bmi1")
            && std::is_x86_feature_detected!("bmi2")
            && std::is_x86_feature_detected!("lzcnt")
            && std::is_x86_feature_detected!("popcnt"))
        .then_some(Self(()))
    }

    /// Runs `task` compiled for these lanes.
    #[inline]
    pub(super) fn run<T: Task>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
        fn compiled<T: Task>(lanes: Avx2, task: T) -> T::Output {
            task.run(lanes)
        }
        // SAFETY: `self` exists only after `detect` saw each of the features.
        unsafe { compiled(self, task) }
    }
}

macro_rules! lanes_by {
    ($lanes:ty, $instructions:ident) => {
        impl Lanes for $lanes {
            #[inline(always)]
            fn name_stops(self, block: &[u8; NAME_BLOCK]) -> u32 {
                // SAFETY: `self` exists only where the instructions do.
                unsafe { $instructions::name_stops(block) }
            }
            #[inline(always)]
            fn underscores(self, block: &[u8; NAME_BLOCK]) -> u32 {
                // SAFETY: as above.
                unsafe { $instructions::equals(block, b'_') }
            }
            #[inline(always)]
            fn value_stops(self, block: &[u8; NAME_BLOCK]) -> u32 {
                // SAFETY: as above.
                unsafe { $instructions::value_stops(block) }
            }
            #[inline(always)]
            fn line_stops(self, block: &[u8; LINE_BLOCK]) -> u64 {
                // SAFETY: as above.
                unsafe { $instructions::line_stops(block) }
            }
            #[inline(always)]
            fn target_stops(self, block: &[u8; NAME_BLOCK]) -> u32 {
                // SAFETY: as above.
                unsafe { $instructions::target_stops(block) }
            }
            #[inline(always)]
            fn same_name(self, block: &[u8; NAME_BLOCK], lower: &[u8; NAME_BLOCK], length: usize) -> bool {
                // SAFETY: as above.
                let same = unsafe { $instructions::same_folded(block, lower) };
                !same & low_bits(length) == 0
            }
            #[inline(always)]
            fn strings(self, block: &[u8; JSON_BLOCK]) -> (u64, u64) {
                // SAFETY: as above.
                unsafe { $instructions::strings(block) }
            }
            #[inline(always)]
            fn brackets(self, block: &[u8; JSON_BLOCK]) -> u64 {
                // SAFETY: as above.
                unsafe { $instructions::brackets(block) }
            }
        }
    };
}

lanes_by!(Sse2, sse2);
lanes_by!(Avx2, avx2);

/// Both halves of a block.
#[inline(always)]
fn halves(block: &[u8; 64]) -> (&[u8; 32], &[u8; 32]) {
    match block.as_chunks::<32>().0 {
        [low, high] => (low, high),
        // Not reached: 64 bytes are two halves.
        _ => (&[0; 32], &[0; 32]),
    }
}

/// Quotes and backslashes among 16 bytes.
#[inline(always)]
pub(super) fn short_strings(block: &[u8; 16]) -> u32 {
    // SAFETY: each x86-64 has SSE2.
    unsafe { sse2::short_strings(block) }
}

/// The same, and control bytes.
#[inline(always)]
pub(super) fn short_string_stops(block: &[u8; 16]) -> u32 {
    // SAFETY: as above.
    unsafe { sse2::short_string_stops(block) }
}

/// Two masks as one.
#[inline(always)]
fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

mod sse2 {
    use super::{halves, join};
    use std::arch::x86_64::*;

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(bytes: &[u8; 16]) -> __m128i {
        // SAFETY: there are 16 readable bytes; the load needs no alignment.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn short_strings(block: &[u8; 16]) -> u32 {
        let bytes = load(block);
        let quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let backslashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        _mm_movemask_epi8(_mm_or_si128(quotes, backslashes)) as u32
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn short_string_stops(block: &[u8; 16]) -> u32 {
        let bytes = load(block);
        // Unsigned "at most 0x1f": the smaller of the two is the byte itself.
        let controls = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        _mm_movemask_epi8(controls) as u32 | short_strings(block)
    }

    /// The mask of `class` over both halves of a block.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn mask(block: &[u8; 32], class: impl Fn(__m128i) -> __m128i) -> u32 {
        match block.as_chunks::<16>().0 {
            [low, high] => {
                let low = _mm_movemask_epi8(class(load(low))) as u32;
                let high = _mm_movemask_epi8(class(load(high))) as u32;
                low | high << 16
            }
            _ => 0,
        }
    }

    /// Bytes from `low` to `high`, both visible ASCII.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn within(bytes: __m128i, low: u8, high: u8) -> __m128i {
        let above = _mm_cmpgt_epi8(bytes, _mm_set1_epi8(low as i8 - 1));
        let below = _mm_cmplt_epi8(bytes, _mm_set1_epi8(high as i8 + 1));
        _mm_and_si128(above, below)
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn equal(bytes: __m128i, byte: u8) -> __m128i {
        _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn either(a: __m128i, b: __m128i) -> __m128i {
        _mm_or_si128(a, b)
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn name_stops(block: &[u8; 32]) -> u32 {
        !mask(block, |bytes| {
            let lower = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
            let letters = either(within(lower, b'a', b'z'), within(bytes, b'0', b'9'));
            let common = either(within(bytes, b'-', b'.'), within(bytes, b'#', b'\''));
            let marks = either(within(bytes, b'*', b'+'), within(bytes, b'^', b'`'));
            let rest = either(either(equal(bytes, b'!'), equal(bytes, b'|')), equal(bytes, b'~'));
            either(either(letters, common), either(marks, rest))
        })
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn equals(block: &[u8; 32], byte: u8) -> u32 {
        mask(block, |bytes| equal(bytes, byte))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn value_stops(block: &[u8; 32]) -> u32 {
        mask(block, |bytes| {
            let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
            either(_mm_andnot_si128(equal(bytes, b'\t'), control), equal(bytes, 0x7f))
        })
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn target_stops(block: &[u8; 32]) -> u32 {
        !mask(block, |bytes| {
            // Bytes from 0x80 are negative here and so below.
            let visible = _mm_cmpgt_epi8(bytes, _mm_set1_epi8(0x20));
            _mm_andnot_si128(equal(bytes, 0x7f), visible)
        })
    }

    /// Bytes that, with bit 0x20 set, equal those of `lower`.
    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn same_folded(block: &[u8; 32], lower: &[u8; 32]) -> u32 {
        let same = |a, b| _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_or_si128(a, _mm_set1_epi8(0x20)), b)) as u32;
        match (block.as_chunks::<16>().0, lower.as_chunks::<16>().0) {
            ([a0, a1], [b0, b1]) => same(load(a0), load(b0)) | same(load(a1), load(b1)) << 16,
            _ => 0,
        }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn brackets_of_half(block: &[u8; 32]) -> u32 {
        mask(block, |bytes| {
            let folded = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
            either(equal(folded, b'{'), equal(folded, b'}'))
        })
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn line_stops(block: &[u8; 64]) -> u64 {
        let (low, high) = halves(block);
        join(value_stops(low), value_stops(high))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn strings(block: &[u8; 64]) -> (u64, u64) {
        let (low, high) = halves(block);
        (join(equals(low, b'"'), equals(high, b'"')), join(equals(low, b'\\'), equals(high, b'\\')))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn brackets(block: &[u8; 64]) -> u64 {
        let (low, high) = halves(block);
        join(brackets_of_half(low), brackets_of_half(high))
    }
}

mod avx2 {
    use super::{halves, join};
    use std::arch::x86_64::*;

    /// For each low nibble, the high nibbles (as bits) with which it makes a `tchar`.
    const TCHAR_BY_LOW: [i8; 16] = {
        let mut table = [0u8; 16];
        let mut byte = 0;
        while byte < 128 {
            if super::super::is_tchar(byte) {
                table[(byte & 15) as usize] |= 1 << (byte >> 4);
            }
            byte += 1;
        }
        let mut signed = [0; 16];
        let mut i = 0;
        while i < 16 {
            signed[i] = table[i] as i8;
            i += 1;
        }
        signed
    };

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(block: &[u8; 32]) -> __m256i {
        // SAFETY: there are 32 readable bytes; the load needs no alignment.
        unsafe { _mm256_loadu_si256(block.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn equal(bytes: __m256i, byte: u8) -> __m256i {
        _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn name_stops(block: &[u8; 32]) -> u32 {
        let bytes = load(block);
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = TCHAR_BY_LOW;
        let by_low =
            _mm256_broadcastsi128_si256(_mm_setr_epi8(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p));
        let by_high = _mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0);
        // A shuffle index with its top bit set yields zero, so bytes from 0x80 are in no class.
        let low = _mm256_shuffle_epi8(by_low, bytes);
        let high_nibble = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(0x0f));
        let high = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(by_high), high_nibble);
        let outside = _mm256_cmpeq_epi8(_mm256_and_si256(low, high), _mm256_setzero_si256());
        _mm256_movemask_epi8(outside) as u32
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn equals(block: &[u8; 32], byte: u8) -> u32 {
        _mm256_movemask_epi8(equal(load(block), byte)) as u32
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn value_stops(block: &[u8; 32]) -> u32 {
        let bytes = load(block);
        let control = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1f)), bytes);
        let refused = _mm256_or_si256(_mm256_andnot_si256(equal(bytes, b'\t'), control), equal(bytes, 0x7f));
        _mm256_movemask_epi8(refused) as u32
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn target_stops(block: &[u8; 32]) -> u32 {
        let bytes = load(block);
        // Bytes from 0x80 are negative here and so below.
        let visible = _mm256_cmpgt_epi8(bytes, _mm256_set1_epi8(0x20));
        !(_mm256_movemask_epi8(_mm256_andnot_si256(equal(bytes, 0x7f), visible)) as u32)
    }

    /// Bytes that, with bit 0x20 set, equal those of `lower`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn same_folded(block: &[u8; 32], lower: &[u8; 32]) -> u32 {
        let folded = _mm256_or_si256(load(block), _mm256_set1_epi8(0x20));
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(folded, load(lower))) as u32
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn brackets_of_half(block: &[u8; 32]) -> u32 {
        let folded = _mm256_or_si256(load(block), _mm256_set1_epi8(0x20));
        _mm256_movemask_epi8(_mm256_or_si256(equal(folded, b'{'), equal(folded, b'}'))) as u32
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn line_stops(block: &[u8; 64]) -> u64 {
        let (low, high) = halves(block);
        join(value_stops(low), value_stops(high))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn strings(block: &[u8; 64]) -> (u64, u64) {
        let (low, high) = halves(block);
        (join(equals(low, b'"'), equals(high, b'"')), join(equals(low, b'\\'), equals(high, b'\\')))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn brackets(block: &[u8; 64]) -> u64 {
        let (low, high) = halves(block);
        join(brackets_of_half(low), brackets_of_half(high))
    }
}
