//! The bytes of one entry: a session, or the alias of one.
//!
//! ```text
//!  0  u32 length of the body | u8 kind | 3 zeros
//!  8  body
//!     kind 1, a session: see `journal/stored.rs`
//!     kind 2, an alias:  id 16 | id of the successor 16 | u64 until, Unix ms
//!     zeros up to a multiple of 8
//! ```
//! Little-endian; ids as they print. Kind 0 is none, so zeros are no entry. Both bodies begin with
//! the id. All of it, padding too, is under the entry's checksum, also the length: one that is
//! damaged leads to wrong bytes, whose checksum does not fit.

use crate::journal::stored::{STORED_BYTES_MAX, STORED_BYTES_MIN, Stored, id_bytes, id_of};
use crate::token::SessionId;

const HEAD_LEN: usize = 8;
const ALIGN: usize = 8;
const SESSION: u8 = 1;
const ALIAS: u8 = 2;
const ALIAS_LEN: usize = 40;
/// No entry is shorter than an alias.
pub(super) const ENTRY_LEN_MIN: u64 = (HEAD_LEN + ALIAS_LEN) as u64;
const _: () = assert!(ALIAS_LEN <= STORED_BYTES_MIN);

/// Where an entry begins in its file: a name for it, in ascending order of pushes, a multiple of 8.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct EntryOffset(pub(crate) u64);

/// The old id of a renewed session, in its grace time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Alias {
    pub(crate) id: SessionId,
    pub(crate) successor: SessionId,
    pub(crate) until_ms: u64,
}

/// What an id leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found<'a> {
    Session(Stored<'a>),
    Alias(Alias),
}

impl<'a> Found<'a> {
    pub(crate) fn id(&self) -> SessionId {
        match self {
            Found::Session(stored) => stored.id,
            Found::Alias(alias) => alias.id,
        }
    }

    pub(super) fn fits(&self) -> bool {
        match self {
            Found::Session(stored) => stored.fits(),
            Found::Alias(_) => true,
        }
    }

    /// Appends the entry to bytes whose length is a multiple of 8.
    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEAD_LEN]);
        let kind = match self {
            Found::Session(stored) => {
                stored.encode_into(out);
                SESSION
            }
            Found::Alias(Alias { id, successor, until_ms }) => {
                out.extend_from_slice(&id_bytes(*id));
                out.extend_from_slice(&id_bytes(*successor));
                out.extend_from_slice(&until_ms.to_le_bytes());
                ALIAS
            }
        };
        let body_len = (out.len() - start - HEAD_LEN) as u32;
        if let Some(head) = out.get_mut(start..start + HEAD_LEN) {
            let number = u64::from(kind) << 32 | u64::from(body_len);
            head.copy_from_slice(&number.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(ALIGN), 0);
    }

    /// The entry that exactly these bytes are.
    pub(super) fn decode(entry: &'a [u8]) -> Option<Found<'a>> {
        let (head, rest) = entry.split_first_chunk()?;
        let head = u64::from_le_bytes(*head);
        let (body, padding) = rest.split_at_checked(head as u32 as usize)?;
        let is_padding = padding.len() < ALIGN && padding.iter().all(|&byte| byte == 0);
        match head >> 32 {
            _ if !is_padding || !entry.len().is_multiple_of(ALIGN) => None,
            kind if kind == u64::from(SESSION) => Stored::decode(body).ok().map(Found::Session),
            kind if kind == u64::from(ALIAS) => decode_alias(body).map(Found::Alias),
            _ => None,
        }
    }
}

fn decode_alias(body: &[u8]) -> Option<Alias> {
    let (id, rest) = body.split_first_chunk()?;
    let (successor, rest) = rest.split_first_chunk()?;
    Some(Alias {
        id: id_of(*id),
        successor: id_of(*successor),
        until_ms: u64::from_le_bytes(rest.try_into().ok()?),
    })
}

/// Cuts off the entry that these bytes begin with, by a length that nobody has checked: at most
/// the longest that there can be.
pub(super) fn cut(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let body_len = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    if !(ALIAS_LEN..=STORED_BYTES_MAX).contains(&body_len) {
        return None;
    }
    bytes.split_at_checked((HEAD_LEN + body_len).next_multiple_of(ALIGN))
}

/// The id in the entry that these bytes begin with. Nobody has checked it: good for nothing but
/// to look for the slot that has the entry's checksum.
pub(super) fn hinted_id(bytes: &[u8]) -> Option<SessionId> {
    let (_, body) = bytes.split_first_chunk::<HEAD_LEN>()?;
    Some(id_of(*body.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{hex, stored};

    const ALIAS_OF_2: Alias = Alias { id: SessionId(1), successor: SessionId(2), until_ms: 3 };

    /// Bytes that are in files already: a change here is a new format.
    #[test]
    fn golden_entries() {
        let session = "4a000000 01 000000 0123456789abcdef0011223344556677 07000000 0500 0200 \
            00fc9ee09a010000 e8ff9ee09a010000 d0039fe09a010000 00505c18a3010000 ffffffffffffffff \
            616c696365 c3a9 00ff10 000000000000";
        let alias = "28000000 02 000000 00000000000000000000000000000001 \
            00000000000000000000000000000002 0300000000000000";
        for (found, text) in
            [(Found::Session(stored()), session), (Found::Alias(ALIAS_OF_2), alias)]
        {
            let mut bytes = Vec::new();
            found.encode_into(&mut bytes);
            assert_eq!(hex(&bytes), text.replace(' ', ""));
            assert_eq!(Found::decode(&bytes), Some(found));
        }
    }

    #[test]
    fn entries_are_aligned_and_come_back() {
        let stored = |data| Stored {
            id: SessionId(7),
            version: 1,
            created_ms: 2,
            authenticated_ms: 3,
            seen_ms: 4,
            idle_ns: 5,
            lifetime_ns: 6,
            owner: "bob",
            label: "",
            data,
        };
        let mut founds: Vec<_> =
            (0..9).map(|len| Found::Session(stored(&b"12345678"[..len]))).collect();
        founds.push(Found::Alias(ALIAS_OF_2));
        let mut bytes = Vec::new();
        founds.iter().for_each(|found| found.encode_into(&mut bytes));
        assert_eq!(bytes[..8], [67, 0, 0, 0, 1, 0, 0, 0]);
        let mut rest = &bytes[..];
        for found in &founds {
            assert_eq!(hinted_id(rest), Some(found.id()));
            let (entry, behind) = cut(rest).expect("an entry");
            assert_eq!((entry.len() % 8, Found::decode(entry)), (0, Some(*found)));
            rest = behind;
        }
        assert_eq!(rest, b"");
    }

    #[test]
    fn other_bytes_are_no_entry() {
        let mut bytes = Vec::new();
        Found::Alias(ALIAS_OF_2).encode_into(&mut bytes);
        assert_eq!(Found::decode(&[0; 48]), None);
        assert!(cut(&[0; 48]).is_none());
        assert!(cut(&[0xff; 48]).is_none());
        for len in 0..bytes.len() {
            assert!(cut(&bytes[..len]).is_none(), "{len}");
            assert_eq!(Found::decode(&bytes[..len]), None, "{len}");
        }
        for place in [0, 3, 4, 5, 7] {
            bytes[place] ^= 1;
            assert_eq!(Found::decode(&bytes), None, "{place}");
            bytes[place] ^= 1;
        }
    }
}
