//! Seven one-byte tags in a word, compared with one tag at once.
//!
//! ```text
//!  63      56 55      48          15       8 7        0
//! +----------+----------+--  --+----------+----------+
//! | not ours | tag 6    |  ... | tag 1    | tag 0    |
//! +----------+----------+--  --+----------+----------+
//! ```
//! On x86-64 by SSE2, which every such processor has; elsewhere by arithmetic on the word. Neither
//! branches on the tags, which keeps several lookups in flight.
#![allow(unsafe_code, reason = "intrinsics of the processor")]

/// Tags in a word.
pub(crate) const TAG_COUNT: usize = 7;

/// The positions of the tags that may equal the one that was looked for, to be visited in order.
///
/// The first one surely does. By arithmetic a later one may be wrong: a borrow can reach it.
#[derive(Clone, Copy)]
pub(crate) struct Matches(imp::Mask);

impl Matches {
    #[inline(always)]
    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }

    /// The lowest position, below [`TAG_COUNT`] if there is any.
    #[inline(always)]
    pub(crate) fn first(self) -> usize {
        imp::index(self.0)
    }

    #[inline(always)]
    pub(crate) fn without_first(self) -> Matches {
        Matches(self.0 & self.0.wrapping_sub(1))
    }
}

/// The tag that goes with a hash: its highest byte.
#[inline(always)]
pub(crate) fn tag_of(hash: u32) -> u8 {
    (hash >> 24) as u8
}

/// A tag, ready to be compared.
#[derive(Clone, Copy)]
pub(crate) struct Pattern(imp::Pattern);

impl Pattern {
    /// Of the tag that goes with a hash.
    #[inline(always)]
    pub(crate) fn new(hash: u32) -> Pattern {
        Pattern(imp::pattern(hash))
    }

    #[inline(always)]
    pub(crate) fn matches(self, word: u64) -> Matches {
        Matches(imp::matches(word, self.0))
    }
}

#[cfg(target_arch = "x86_64")]
mod imp {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_cvtsi32_si128, _mm_cvtsi64_si128, _mm_movemask_epi8,
        _mm_shufflelo_epi16, _mm_unpacklo_epi8,
    };

    pub(super) type Mask = u32;
    pub(super) type Pattern = __m128i;

    #[inline(always)]
    pub(super) fn pattern(hash: u32) -> __m128i {
        // SAFETY: SSE2 belongs to the x86-64 architecture: every processor of it has that.
        unsafe { broadcast(hash) }
    }

    #[inline(always)]
    pub(super) fn matches(word: u64, pattern: __m128i) -> u32 {
        // SAFETY: as above.
        unsafe { compare(word, pattern) & 0x7f }
    }

    /// The highest of four bytes, eight times: each byte is doubled, then the last pair repeated.
    #[target_feature(enable = "sse2")]
    #[inline]
    fn broadcast(hash: u32) -> __m128i {
        let four = _mm_cvtsi32_si128(hash.cast_signed());
        _mm_shufflelo_epi16::<0b11_11_11_11>(_mm_unpacklo_epi8(four, four))
    }

    /// The bits of the lowest eight bytes that are equal; those above mean nothing.
    #[target_feature(enable = "sse2")]
    #[inline]
    fn compare(word: u64, pattern: __m128i) -> u32 {
        let equal = _mm_cmpeq_epi8(_mm_cvtsi64_si128(word.cast_signed()), pattern);
        _mm_movemask_epi8(equal).cast_unsigned()
    }

    #[inline(always)]
    pub(super) fn index(mask: u32) -> usize {
        mask.trailing_zeros() as usize
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod imp {
    pub(super) use super::arithmetic::{Mask, Pattern, index, matches, pattern};
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod arithmetic {
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) type Mask = u64;
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) type Pattern = u64;

    const LOW_BYTES: u64 = 0x0101_0101_0101_0101;
    const HIGH_BITS: u64 = 0x0080_8080_8080_8080;

    #[inline(always)]
    pub(super) fn pattern(hash: u32) -> u64 {
        u64::from(super::tag_of(hash)) * LOW_BYTES
    }

    /// The high bit of each byte that is zero in the difference.
    #[inline(always)]
    pub(super) fn matches(word: u64, pattern: u64) -> u64 {
        let difference = word ^ pattern;
        difference.wrapping_sub(LOW_BYTES) & !difference & HIGH_BITS
    }

    #[inline(always)]
    pub(super) fn index(mask: u64) -> usize {
        (mask.trailing_zeros() >> 3) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(mut matches: Matches) -> Vec<usize> {
        let mut all = Vec::new();
        while matches.any() {
            all.push(matches.first());
            matches = matches.without_first();
        }
        all
    }

    #[test]
    fn every_tag_is_found_in_every_place_and_the_eighth_byte_never() {
        for tag in 0..=255_u8 {
            let others = u32::from(!tag) * 0x0001_0101;
            let hash = u32::from(tag) << 24 | others;
            for place in 0..8 {
                let word = u64::from(!tag) * 0x0101_0101_0101_0101;
                let word = word & !(0xff << (8 * place)) | u64::from(tag) << (8 * place);
                let expected: Vec<usize> =
                    (place < TAG_COUNT).then_some(place).into_iter().collect();
                assert_eq!(positions(Pattern::new(hash).matches(word)), expected, "{tag} {place}");
                let mask = arithmetic::matches(word, arithmetic::pattern(hash));
                let first = (mask != 0).then(|| arithmetic::index(mask));
                assert_eq!(first, expected.first().copied(), "{tag} {place}, by arithmetic");
            }
        }
    }

    #[test]
    fn both_ways_agree_on_the_first_and_arithmetic_misses_none() {
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..100_000 {
            word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            // Few different tags, so that some are there several times.
            let word = word & 0x0303_0303_0303_0303;
            for tag in 0..4 {
                let exact = positions(Pattern::new(tag << 24).matches(word));
                let mask = arithmetic::matches(word, arithmetic::pattern(tag << 24));
                assert_eq!(exact.first().copied(), (mask != 0).then(|| arithmetic::index(mask)));
                assert!(exact.iter().all(|&at| mask & 0x80 << (8 * at) != 0));
            }
        }
    }
}
