//! Bodies of frames that nobody wrote.

use crate::journal::entry::{Entry, TOUCH_BYTES};
use crate::journal::stored::STORED_BYTES_MIN;
use crate::record::{DATA_BYTES_MAX, TEXT_BYTES_MAX};

/// The first byte is the kind. A body is refused, or is the one body of what it says.
pub fn entry(input: &[u8]) {
    let Some((&kind, body)) = input.split_first() else { return };
    let decoded = match Entry::decode(kind, body) {
        Ok(decoded) => decoded,
        Err(problem) => return assert!(!problem.to_string().is_empty()),
    };
    assert_eq!(decoded.kind(), kind);
    let mut again = Vec::new();
    decoded.encode_into(&mut again);
    assert_eq!(again, body, "{decoded:?}");
    match decoded {
        Entry::Put(stored) | Entry::Move { new: stored, .. } => {
            assert!(stored.owner.len().max(stored.label.len()) <= TEXT_BYTES_MAX);
            assert!(stored.data.len() <= DATA_BYTES_MAX);
            let texts = stored.owner.len() + stored.label.len();
            assert!(body.len() >= STORED_BYTES_MIN + texts + stored.data.len());
        }
        Entry::Touch(touches) => {
            assert_eq!(touches.iter().count(), body.len() / TOUCH_BYTES);
        }
        Entry::End { .. } | Entry::Mark { .. } => {}
    }
}
