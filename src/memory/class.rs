//! Size classes of records: which slot a length gets, in a span of which size.
//!
//! ```text
//! record length     slot                              span      arenas used
//! 0 ..= 512         multiple of 16                    16 KiB    all
//! ..= 1,024         multiple of 16                    64 KiB    4
//! ..= 8,128         (64 KiB - 64) / n, n = 8 ..= 60   64 KiB    4
//! ..= 32,704        (256 KiB - 64) / n, n = 8 ..= 30  256 KiB   1
//! ..= 131,008       (1 MiB - 64) / n, n = 8 ..= 30    1 MiB     1
//! above             a mapping of its own, multiple of 4 KiB
//! ```
//! Slots above 1 KiB are the span divided by n, with n of four significant bits: a step is at
//! most 1/8 and no tail is lost. They are multiples of 64, so are the powers of two below, and
//! the header is 64 bytes: an array of a power of two of at least 64 bytes is thus 64-aligned.
//! Large spans are shared by few arenas because each may lie nearly empty, while copying such a
//! record takes much longer than the lock is held.

/// Bytes of the header at the start of each span.
pub(super) const HEADER_BYTES: usize = 64;
/// Number of classes.
pub(super) const COUNT: usize = FIRST[3] + 16;
/// The longest record that lives in a span.
pub(super) const LEN_MAX: usize = ((SPAN_BYTES[3] - HEADER_BYTES) / 8) & !63;

const SPAN_BYTES: [usize; 4] = [16 << 10, 64 << 10, 256 << 10, 1 << 20];
/// First class index of: small slots, then divided spans of 64 KiB, 256 KiB, 1 MiB.
const FIRST: [usize; 4] = [0, 64, 64 + 24, 64 + 24 + 16];
const ARENA_MASK: [usize; 4] = [usize::MAX, 3, 0, 0];
const OWN_GRAIN: usize = 4 << 10;

/// Where records of a certain length live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) index: usize,
    pub(super) slot_bytes: usize,
    pub(super) span_bytes: usize,
    pub(super) arena_mask: usize,
}

/// The class of records of `len` bytes; none if they get a mapping of their own.
#[inline]
pub(super) fn of(len: usize) -> Option<Class> {
    if len <= 1024 {
        let slot_bytes = len.max(1).next_multiple_of(16);
        let kind = usize::from(slot_bytes > 512);
        Some(class(slot_bytes / 16 - 1, slot_bytes, kind))
    } else if len <= LEN_MAX {
        Some(divided(len))
    } else {
        None
    }
}

/// The bytes a record of `len` bytes takes: its slot, or its own mapping.
pub(super) fn charged(len: usize) -> usize {
    match of(len) {
        Some(class) => class.slot_bytes,
        None => len.checked_next_multiple_of(OWN_GRAIN).unwrap_or(usize::MAX),
    }
}

fn divided(len: usize) -> Class {
    let len = len.next_multiple_of(64);
    let mut kind = 1;
    while (SPAN_BYTES[kind] - HEADER_BYTES) / len < 8 {
        kind += 1;
    }
    let usable = SPAN_BYTES[kind] - HEADER_BYTES;
    let shift = (usable / len).ilog2() - 3;
    let mantissa = (usable / len) >> shift;
    let slot_bytes = (usable / (mantissa << shift)) & !63;
    class(FIRST[kind] + 8 * shift as usize + mantissa - 8, slot_bytes, kind)
}

#[inline]
fn class(index: usize, slot_bytes: usize, kind: usize) -> Class {
    Class { index, slot_bytes, span_bytes: SPAN_BYTES[kind], arena_mask: ARENA_MASK[kind] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length fits its slot, classes are one to one with slots, and steps are at most 1/8.
    #[test]
    fn classes_fit_and_step_by_an_eighth() {
        let mut slot_of = [0; COUNT];
        let mut previous = 16;
        for len in 0..=LEN_MAX {
            let class = of(len).unwrap();
            assert!(class.slot_bytes >= len && class.slot_bytes.is_multiple_of(16));
            assert!(class.slot_bytes <= 1024 || class.slot_bytes.is_multiple_of(64));
            assert!(slot_of[class.index] == 0 || slot_of[class.index] == class.slot_bytes);
            slot_of[class.index] = class.slot_bytes;
            if class.slot_bytes != previous {
                assert_eq!(previous, len - 1, "a class ends exactly at its slot");
                assert!(class.slot_bytes - previous <= (previous / 8).next_multiple_of(64));
                previous = class.slot_bytes;
            }
        }
        assert!(slot_of.iter().all(|&slot| slot > 0));
        assert_eq!(previous, LEN_MAX);
        assert_eq!(of(LEN_MAX + 1), None);
        assert_eq!(charged(LEN_MAX + 1), 131_072);
        assert_eq!((charged(0), charged(240), charged(241)), (16, 240, 256));
    }
}
