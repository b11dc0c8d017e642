//! Headers of frames that nobody wrote.

use crate::journal::frame::{BODY_BYTES_MAX, HEADER_BYTES, Header, frame_len, head_sum};

/// The input is a salt, a header, and the number of a bit. The header is tried as it is, and with a
/// right sum.
pub fn frame(input: &[u8]) {
    let Some((salt, rest)) = input.split_first_chunk() else { return };
    let Some((bytes, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else { return };
    let salt = u64::from_le_bytes(*salt);
    check(bytes, salt);
    let mut summed = *bytes;
    summed[..8].copy_from_slice(&head_sum(bytes, salt).to_le_bytes());
    let is_valid = check(&summed, salt);
    let length = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize;
    let expected = length <= BODY_BYTES_MAX && bytes[12] != 0 && bytes[13..16] == [0; 3];
    assert_eq!(is_valid, expected, "{summed:?}");
    if let Some(&bit) = rest.first() {
        let bit = usize::from(bit) % (8 * HEADER_BYTES);
        summed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Header::decode(&summed, salt), None, "bit {bit} flipped: {summed:?}");
    }
}

/// Whatever is accepted is written again, and means nothing under another salt.
fn check(bytes: &[u8; HEADER_BYTES], salt: u64) -> bool {
    let Some(header) = Header::decode(bytes, salt) else { return false };
    assert_eq!(header.encode(salt), *bytes, "{header:?}");
    assert_eq!(Header::decode(bytes, salt ^ 1), None);
    let len = header.frame_len();
    assert!(len == frame_len(header.body_len as usize) && len.is_multiple_of(8));
    assert!((HEADER_BYTES..=HEADER_BYTES + BODY_BYTES_MAX).contains(&len));
    true
}
