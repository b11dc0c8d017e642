//! One session as all files of a journal hold it.
//!
//! ```text
//! byte  0  id                          16
//!      16  u32 version
//!      20  u16 length of the owner | u16 length of the label
//!      24  u64 created
//!      32  u64 authenticated
//!      40  u64 seen
//!      48  u64 idle timeout, in nanoseconds; the largest number: for ever
//!      56  u64 lifetime, likewise
//!      64  owner, label, data to the end
//! ```
//! Little-endian; the id as it prints, so the first digit first. Times are Unix milliseconds, texts
//! UTF-8. The length of the data is not stored: whoever holds the bytes knows where they end, and
//! has checked their sum before.
//!
//! Whatever [`Stored::decode`] accepts, [`Stored::encode_into`] writes again byte by byte. Data is
//! the archive as it lies in the record; whether it is a valid one is for those to check who know
//! its type.

use std::fmt;

use uuid::Uuid;

use super::frame::take;
use crate::record::{DATA_BYTES_MAX, TEXT_BYTES_MAX};
use crate::token::SessionId;

/// Bytes before the owner.
pub(crate) const STORED_BYTES_MIN: usize = 64;
/// Bytes of the longest session.
pub(crate) const STORED_BYTES_MAX: usize = STORED_BYTES_MIN + 2 * TEXT_BYTES_MAX + DATA_BYTES_MAX;

const _: () = assert!(TEXT_BYTES_MAX <= u16::MAX as usize);

/// Names the key with which sessions are sealed: not secret.
pub(crate) type KeyId = [u8; 4];

/// A whole session, borrowed from where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    pub(crate) id: SessionId,
    pub(crate) version: u32,
    pub(crate) created_ms: u64,
    pub(crate) authenticated_ms: u64,
    pub(crate) seen_ms: u64,
    /// `u64::MAX`: never idle.
    pub(crate) idle_ns: u64,
    /// `u64::MAX`: for ever.
    pub(crate) lifetime_ns: u64,
    /// "" for nobody.
    pub(crate) owner: &'a str,
    pub(crate) label: &'a str,
    pub(crate) data: &'a [u8],
}

/// Why bytes are no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoredProblem {
    /// Fewer bytes than its fields have.
    Length,
    /// An owner or label above the limit.
    TextLength(usize),
    /// An owner or label that is not UTF-8.
    Text,
    /// Data above the limit.
    DataLength(usize),
}

impl fmt::Display for StoredProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoredProblem::Length => f.write_str("a session that is shorter than its fields"),
            StoredProblem::TextLength(bytes) => {
                write!(f, "an owner or label of {bytes} bytes, more than {TEXT_BYTES_MAX}")
            }
            StoredProblem::Text => f.write_str("an owner or label that is not UTF-8"),
            StoredProblem::DataLength(bytes) => {
                write!(f, "session data of {bytes} bytes, more than {DATA_BYTES_MAX}")
            }
        }
    }
}

impl<'a> Stored<'a> {
    /// Whether texts and data are within the limits.
    pub(crate) fn fits(&self) -> bool {
        self.owner.len().max(self.label.len()) <= TEXT_BYTES_MAX
            && self.data.len() <= DATA_BYTES_MAX
    }

    /// Appends the session. Only for one that [fits](Stored::fits).
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        debug_assert!(self.fits());
        out.reserve(STORED_BYTES_MIN + self.owner.len() + self.label.len() + self.data.len());
        out.extend_from_slice(&id_bytes(self.id));
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&(self.owner.len() as u16).to_le_bytes());
        out.extend_from_slice(&(self.label.len() as u16).to_le_bytes());
        for number in
            [self.created_ms, self.authenticated_ms, self.seen_ms, self.idle_ns, self.lifetime_ns]
        {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(self.owner.as_bytes());
        out.extend_from_slice(self.label.as_bytes());
        out.extend_from_slice(self.data);
    }

    /// When it expires, in Unix milliseconds; None if never.
    pub(crate) fn expires_ms(&self) -> Option<u64> {
        let after = |from_ms: u64, time_ns: u64| {
            (time_ns != u64::MAX).then(|| from_ms.saturating_add(time_ns / 1_000_000))
        };
        let idle = after(self.seen_ms, self.idle_ns);
        let lifetime = after(self.authenticated_ms, self.lifetime_ns);
        idle.into_iter().chain(lifetime).min()
    }

    /// Whether it has not expired.
    pub(crate) fn is_live(&self, now_ms: u64) -> bool {
        self.expires_ms().is_none_or(|expires_ms| expires_ms > now_ms)
    }

    /// The session that exactly these bytes are.
    pub(crate) fn decode(mut rest: &'a [u8]) -> Result<Stored<'a>, StoredProblem> {
        let rest = &mut rest;
        let id = id_of(take(rest).ok_or(StoredProblem::Length)?);
        let version = u32::from_le_bytes(take(rest).ok_or(StoredProblem::Length)?);
        let owner_len = u16::from_le_bytes(take(rest).ok_or(StoredProblem::Length)?);
        let label_len = u16::from_le_bytes(take(rest).ok_or(StoredProblem::Length)?);
        let stored = Stored {
            id,
            version,
            created_ms: take_u64(rest)?,
            authenticated_ms: take_u64(rest)?,
            seen_ms: take_u64(rest)?,
            idle_ns: take_u64(rest)?,
            lifetime_ns: take_u64(rest)?,
            owner: take_text(rest, owner_len)?,
            label: take_text(rest, label_len)?,
            data: rest,
        };
        match stored.data.len() {
            bytes if bytes > DATA_BYTES_MAX => Err(StoredProblem::DataLength(bytes)),
            _ => Ok(stored),
        }
    }
}

/// An id as it lies in the files.
pub(super) fn id_bytes(id: SessionId) -> [u8; 16] {
    Uuid::from(id).into_bytes()
}

/// The id that lies there.
pub(super) fn id_of(bytes: [u8; 16]) -> SessionId {
    Uuid::from_bytes(bytes).into()
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, StoredProblem> {
    take(rest).map(u64::from_le_bytes).ok_or(StoredProblem::Length)
}

fn take_text<'a>(rest: &mut &'a [u8], len: u16) -> Result<&'a str, StoredProblem> {
    let len = usize::from(len);
    if len > TEXT_BYTES_MAX {
        return Err(StoredProblem::TextLength(len));
    }
    let (text, behind) = rest.split_at_checked(len).ok_or(StoredProblem::Length)?;
    *rest = behind;
    std::str::from_utf8(text).map_err(|_| StoredProblem::Text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAMPLE: Stored<'_> = Stored {
        id: SessionId(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f),
        version: 0x1312_1110,
        created_ms: 0x1f1e_1d1c_1b1a_1918,
        authenticated_ms: 0x2726_2524_2322_2120,
        seen_ms: 0x2f2e_2d2c_2b2a_2928,
        idle_ns: 0x3736_3534_3332_3130,
        lifetime_ns: 0x3f3e_3d3c_3b3a_3938,
        owner: "alice",
        label: "Fuchs \u{e9}",
        data: b"data",
    };

    fn encoded(stored: &Stored<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        stored.encode_into(&mut bytes);
        bytes
    }

    #[test]
    fn bytes_are_where_the_table_says() {
        let bytes = encoded(&SAMPLE);
        let mut expected: Vec<u8> = (0..64).collect();
        expected[20..24].copy_from_slice(&[5, 0, 8, 0]);
        expected.extend_from_slice(b"aliceFuchs \xc3\xa9data");
        assert_eq!(bytes, expected);
        assert_eq!(Stored::decode(&bytes), Ok(SAMPLE));
        let printed = SAMPLE.id.to_string().replace('-', "");
        assert_eq!(super::super::tests::hex(&bytes[..16]), printed);
    }

    #[test]
    fn what_is_cut_is_refused() {
        let bytes = encoded(&SAMPLE);
        let data_at = STORED_BYTES_MIN + SAMPLE.owner.len() + SAMPLE.label.len();
        for len in 0..data_at {
            assert_eq!(Stored::decode(&bytes[..len]), Err(StoredProblem::Length), "{len}");
        }
        // Data takes what is left, so only what is before it can be missing.
        assert_eq!(Stored::decode(&bytes[..data_at]), Ok(Stored { data: b"", ..SAMPLE }));
    }

    #[test]
    fn texts_beyond_their_limits_are_refused() {
        let with = |at: usize, new: &[u8]| {
            let mut bytes = encoded(&SAMPLE);
            bytes[at..at + new.len()].copy_from_slice(new);
            Stored::decode(&bytes).err()
        };
        assert_eq!(with(20, &[0xff, 0xff]), Some(StoredProblem::TextLength(65_535)));
        assert_eq!(with(22, &[1, 2]), Some(StoredProblem::TextLength(513)));
        assert_eq!(with(22, &[0, 2]), Some(StoredProblem::Length));
        assert_eq!(with(64, &[0xff]), Some(StoredProblem::Text));
        // The label ends inside of a character.
        assert_eq!(with(22, &[7, 0]), Some(StoredProblem::Text));
        assert_eq!(with(20, &[5, 0, 0, 0]), None);
    }

    #[test]
    fn the_longest_session_comes_back() {
        let text = "t".repeat(TEXT_BYTES_MAX + 1);
        let data = vec![1; DATA_BYTES_MAX];
        let (owner, label) = (&text[1..], &text[1..]);
        let longest = Stored { owner, label, data: &data, ..SAMPLE };
        assert!(longest.fits());
        assert!(!Stored { owner: &text, ..SAMPLE }.fits());
        assert!(!Stored { label: &text, ..SAMPLE }.fits());
        let mut bytes = encoded(&longest);
        assert_eq!(bytes.len(), STORED_BYTES_MAX);
        assert!(Stored::decode(&bytes) == Ok(longest));
        bytes.push(0);
        let refused = Err(StoredProblem::DataLength(DATA_BYTES_MAX + 1));
        assert!(Stored::decode(&bytes) == refused);
        assert!(!Stored { data: &bytes[..DATA_BYTES_MAX + 1], ..SAMPLE }.fits());
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_written_again(
            fixed in prop::collection::vec(any::<u8>(), 20),
            lens in (0..9_u16, 0..9_u16),
            rest in prop::collection::vec(any::<u8>(), 30..80),
        ) {
            let mut bytes = fixed;
            bytes.extend([lens.0.to_le_bytes(), lens.1.to_le_bytes()].concat());
            bytes.extend(rest);
            if let Ok(stored) = Stored::decode(&bytes) {
                prop_assert!(stored.fits());
                prop_assert_eq!(encoded(&stored), bytes);
            }
        }
    }
}
