//! One entry of the log as bytes: a header that proves itself, the body behind it.
//!
//! ```text
//! byte  0  u64 head sum: xxh3-64 of bytes 8..40, seeded with the segment's salt; 0 is made 1
//!       8  u32 body length, at most BODY_BYTES_MAX
//!      12  u8 kind, never 0 | u8 flags, 0 | u16 reserved, 0
//!      16  u64 position: one more than the frame before, also across segments
//!      24  u64 durable: the highest position known durable when this was written
//!      32  u64 body sum: xxh3-64 of the body, seeded with the log's own seed
//!      40  body, padded with zeros to a multiple of 8
//! ```
//! Little-endian. Frames begin at multiples of 8, so that no length straddles a sector.
//!
//! - The header has a sum of its own: a length is believed only once it is proven.
//! - The salt is random, one for each segment: neither a frame that was left behind by another file
//!   nor one that a client planted in a session's data is a frame here.
//! - No sum is 0, and no kind: preallocated zeros are no frame.
//! - The body's sum depends on nothing but the body, so that it is computed before the log is
//!   locked. The header holds it, and so ties the body to its position.
//!
//! The sums find damage. They do not stop somebody who can write the file.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes before the body.
pub(crate) const HEADER_BYTES: usize = 40;
/// The longest body, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 32 << 20;
/// Every frame begins at a multiple of this, in bytes.
pub(crate) const ALIGNMENT: usize = 8;

/// What stands before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) body_len: u32,
    pub(crate) kind: u8,
    pub(crate) position: u64,
    pub(crate) durable: u64,
    pub(crate) body_sum: u64,
}

impl Header {
    pub(crate) fn encode(&self, salt: u64) -> [u8; HEADER_BYTES] {
        debug_assert!(self.kind != 0 && self.body_len as usize <= BODY_BYTES_MAX);
        let mut bytes = [0; HEADER_BYTES];
        bytes[8..12].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[12] = self.kind;
        bytes[16..24].copy_from_slice(&self.position.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.durable.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.body_sum.to_le_bytes());
        let sum = head_sum(&bytes, salt);
        bytes[..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The header, if these bytes were made by [`Header::encode`] with the same salt.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES], salt: u64) -> Option<Header> {
        let sum = stored_sum(bytes);
        // The first half of the condition spares preallocated zeros the hashing.
        if sum == 0 || sum != head_sum(bytes, salt) {
            return None;
        }
        let mut rest = &bytes[8..];
        let body_len = u32::from_le_bytes(take(&mut rest)?);
        let [kind, flags, reserved @ ..] = take::<4>(&mut rest)?;
        let header = Header {
            body_len,
            kind,
            position: u64::from_le_bytes(take(&mut rest)?),
            durable: u64::from_le_bytes(take(&mut rest)?),
            body_sum: u64::from_le_bytes(take(&mut rest)?),
        };
        let is_valid =
            body_len as usize <= BODY_BYTES_MAX && kind != 0 && flags == 0 && reserved == [0, 0];
        is_valid.then_some(header)
    }

    /// Bytes from this frame to the next.
    pub(crate) fn frame_len(&self) -> usize {
        frame_len(self.body_len as usize)
    }
}

/// The sum that belongs into the first eight bytes of a header; never 0.
pub(crate) fn head_sum(header: &[u8; HEADER_BYTES], salt: u64) -> u64 {
    xxh3_64_with_seed(&header[8..], salt).max(1)
}

/// The sum that stands there: a segment's last one is the link to the next segment.
pub(crate) fn stored_sum(header: &[u8; HEADER_BYTES]) -> u64 {
    header.first_chunk().map_or(0, |sum| u64::from_le_bytes(*sum))
}

pub(crate) fn body_sum(body: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(body, seed)
}

/// The length of a body with its padding.
pub(crate) const fn padded(len: usize) -> usize {
    len.saturating_add(ALIGNMENT - 1) & !(ALIGNMENT - 1)
}

/// The length of a whole frame with a body of this length.
pub(crate) const fn frame_len(body_len: usize) -> usize {
    padded(body_len.saturating_add(HEADER_BYTES))
}

/// Takes so many bytes from the front; None, and nothing taken, where there are fewer.
pub(super) fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: Header =
        Header { body_len: 77, kind: 3, position: 1_000_001, durable: 999_999, body_sum: 0x5a };

    /// A header with a right sum, whatever it says.
    fn forged(change: impl FnOnce(&mut [u8; HEADER_BYTES])) -> [u8; HEADER_BYTES] {
        let mut bytes = HEADER.encode(7);
        change(&mut bytes);
        let sum = head_sum(&bytes, 7);
        bytes[..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn what_no_writer_writes_is_refused_with_a_right_sum() {
        assert_eq!(Header::decode(&forged(|_| ()), 7), Some(HEADER));
        for byte in [13, 14, 15] {
            assert_eq!(Header::decode(&forged(|bytes| bytes[byte] = 1), 7), None);
        }
        assert_eq!(Header::decode(&forged(|bytes| bytes[12] = 0), 7), None);
        let with_length = |len: u32| {
            Header::decode(&forged(|bytes| bytes[8..12].copy_from_slice(&len.to_le_bytes())), 7)
        };
        assert_eq!(with_length(u32::MAX), None);
        assert_eq!(with_length(BODY_BYTES_MAX as u32 + 1), None);
        assert!(with_length(BODY_BYTES_MAX as u32).is_some());
    }

    #[test]
    fn zeros_are_no_header() {
        for salt in [0, 1, u64::MAX] {
            assert_eq!(Header::decode(&[0; HEADER_BYTES], salt), None);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = HEADER.encode(7);
        for bit in 0..8 * HEADER_BYTES {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped, 7), None, "bit {bit}");
        }
    }

    #[test]
    fn lengths_are_multiples_of_the_alignment() {
        assert_eq!([0, 1, 8, 9].map(padded), [0, 8, 8, 16]);
        assert_eq!([0, 1, 8, 9].map(frame_len), [40, 48, 48, 56]);
        assert_eq!(frame_len(usize::MAX) % ALIGNMENT, 0);
    }

    #[test]
    fn the_sum_is_the_one_of_the_specification() {
        // The published value for no bytes without a seed.
        assert_eq!(body_sum(b"", 0), 0x2d06_8005_38d3_94c2);
    }

    proptest! {
        #[test]
        fn headers_come_back_under_their_salt_alone(
            body_len in 0..=BODY_BYTES_MAX as u32,
            kind in 1_u8..,
            position: u64,
            durable: u64,
            body_sum: u64,
            salt: u64,
            other: u64,
        ) {
            let header = Header { body_len, kind, position, durable, body_sum };
            let bytes = header.encode(salt);
            prop_assert_eq!(Header::decode(&bytes, salt), Some(header));
            prop_assert_eq!(stored_sum(&bytes), head_sum(&bytes, salt));
            prop_assert!(other == salt || Header::decode(&bytes, other).is_none());
        }
    }
}
