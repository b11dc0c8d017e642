//! What the body of a frame says, by the frame's kind.
//!
//! ```text
//! kind 1  put    stored
//!      2  end    id 16 | u64 at | u8 reason
//!      3  move   old id 16 | u64 at | u64 alias until, 0: none | stored
//!      4  touch  any number of: id 16 | u64 seen
//!      5  mark   u64 wall clock
//!      6  link   previous segment: u64 sequence | u64 last position | u64 chain value | u64 wall
//!                clock; the first frame of every segment, and only that
//!
//! stored, byte  0  id                          16
//!              16  u32 version
//!              20  u16 length of the owner | u16 length of the label
//!              24  u64 created
//!              32  u64 authenticated
//!              40  u64 seen
//!              48  u64 idle timeout, in nanoseconds; the largest number: for ever
//!              56  u64 lifetime, likewise
//!              64  owner, label, data to the end of the body
//!
//! reason  1 logged out, 2 expired, 3 rotated, 4 revoked, 5 evicted
//! ```
//! Little-endian; ids as they print, so the first digit first. Times are Unix milliseconds.
//!
//! An entry has one body: whatever [`Entry::decode`] accepts, [`Entry::encode_into`] writes again
//! byte by byte. Data is the archive as it lies in the record; whether it is a valid one is for
//! those to check who know its type.

use std::fmt;

use uuid::Uuid;

use super::frame::{BODY_BYTES_MAX, take};
use super::segment::Previous;
use crate::error::Reason;
use crate::record::{DATA_BYTES_MAX, TEXT_BYTES_MAX};
use crate::token::SessionId;

/// Bytes of a stored session before its owner.
pub(crate) const STORED_BYTES: usize = 64;
/// Bytes of a move before the stored session.
const MOVE_BYTES: usize = 32;
/// Bytes of one touch.
pub(crate) const TOUCH_BYTES: usize = 24;

const _: () = assert!(
    MOVE_BYTES + STORED_BYTES + 2 * TEXT_BYTES_MAX + DATA_BYTES_MAX <= BODY_BYTES_MAX,
    "the largest session fits into a frame"
);
const _: () = assert!(TEXT_BYTES_MAX <= u16::MAX as usize);

const PUT: u8 = 1;
const END: u8 = 2;
const MOVE: u8 = 3;
const TOUCH: u8 = 4;
const MARK: u8 = 5;
const LINK: u8 = 6;

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    /// A session that is new, or that has new data.
    Put(Stored<'a>),
    /// A session that ended.
    End { id: SessionId, reason: Reason, at_ms: u64 },
    /// A session whose id is another now. The old one is an alias until then; 0: dead at once.
    Move { old: SessionId, at_ms: u64, alias_until_ms: u64, new: Stored<'a> },
    /// Sessions that were seen.
    Touch(Touches<'a>),
    /// Nothing but the time, and the watermark in the frame's header.
    Mark { wall_ms: u64 },
    /// Where the segment before ended.
    Link { previous: Previous, wall_ms: u64 },
}

/// A whole session.
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

/// Why a body is none of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryProblem {
    /// No entry has this kind.
    Kind(u8),
    /// The body is shorter than its fields, or longer.
    Length,
    /// No end has this reason.
    Reason(u8),
    /// An owner or label above the limit.
    TextLength(usize),
    /// An owner or label that is not UTF-8.
    Text,
    /// Data above the limit.
    DataLength(usize),
}

impl fmt::Display for EntryProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryProblem::Kind(kind) => write!(f, "an entry of the unknown kind {kind}"),
            EntryProblem::Length => f.write_str("an entry whose length is not that of its fields"),
            EntryProblem::Reason(code) => write!(f, "an end for the unknown reason {code}"),
            EntryProblem::TextLength(bytes) => {
                write!(f, "an owner or label of {bytes} bytes, more than {TEXT_BYTES_MAX}")
            }
            EntryProblem::Text => f.write_str("an owner or label that is not UTF-8"),
            EntryProblem::DataLength(bytes) => {
                write!(f, "session data of {bytes} bytes, more than {DATA_BYTES_MAX}")
            }
        }
    }
}

impl<'a> Entry<'a> {
    /// The kind for the frame's header.
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Entry::Put(_) => PUT,
            Entry::End { .. } => END,
            Entry::Move { .. } => MOVE,
            Entry::Touch(_) => TOUCH,
            Entry::Mark { .. } => MARK,
            Entry::Link { .. } => LINK,
        }
    }

    /// Appends the body. A buffer that is used again is not allocated again.
    pub(crate) fn encode_into(&self, body: &mut Vec<u8>) {
        match self {
            Entry::Put(stored) => stored.encode_into(body),
            Entry::End { id, reason, at_ms } => {
                put_id(body, *id);
                body.extend_from_slice(&at_ms.to_le_bytes());
                body.push(code_of(*reason));
            }
            Entry::Move { old, at_ms, alias_until_ms, new } => {
                put_id(body, *old);
                body.extend_from_slice(&at_ms.to_le_bytes());
                body.extend_from_slice(&alias_until_ms.to_le_bytes());
                new.encode_into(body);
            }
            Entry::Touch(touches) => body.extend_from_slice(touches.bytes),
            Entry::Mark { wall_ms } => body.extend_from_slice(&wall_ms.to_le_bytes()),
            Entry::Link { previous, wall_ms } => {
                for number in [previous.sequence, previous.last, previous.chain, *wall_ms] {
                    body.extend_from_slice(&number.to_le_bytes());
                }
            }
        }
    }

    /// Reads the body of a frame of this kind, all of it.
    pub(crate) fn decode(kind: u8, body: &'a [u8]) -> Result<Entry<'a>, EntryProblem> {
        let mut rest = body;
        let entry = match kind {
            PUT => return Ok(Entry::Put(Stored::decode(rest)?)),
            END => {
                let id = take_id(&mut rest)?;
                let at_ms = take_u64(&mut rest)?;
                let [code] = take(&mut rest).ok_or(EntryProblem::Length)?;
                Entry::End { id, reason: reason_of(code)?, at_ms }
            }
            MOVE => {
                let old = take_id(&mut rest)?;
                let at_ms = take_u64(&mut rest)?;
                let alias_until_ms = take_u64(&mut rest)?;
                let new = Stored::decode(rest)?;
                return Ok(Entry::Move { old, at_ms, alias_until_ms, new });
            }
            TOUCH => return Touches::of(body).map(Entry::Touch).ok_or(EntryProblem::Length),
            MARK => Entry::Mark { wall_ms: take_u64(&mut rest)? },
            LINK => {
                let sequence = take_u64(&mut rest)?;
                let last = take_u64(&mut rest)?;
                let previous = Previous { sequence, last, chain: take_u64(&mut rest)? };
                Entry::Link { previous, wall_ms: take_u64(&mut rest)? }
            }
            _ => return Err(EntryProblem::Kind(kind)),
        };
        if rest.is_empty() { Ok(entry) } else { Err(EntryProblem::Length) }
    }
}

impl<'a> Stored<'a> {
    fn encode_into(&self, body: &mut Vec<u8>) {
        debug_assert!(self.owner.len().max(self.label.len()) <= TEXT_BYTES_MAX);
        debug_assert!(self.data.len() <= DATA_BYTES_MAX);
        body.reserve(STORED_BYTES + self.owner.len() + self.label.len() + self.data.len());
        put_id(body, self.id);
        body.extend_from_slice(&self.version.to_le_bytes());
        body.extend_from_slice(&(self.owner.len() as u16).to_le_bytes());
        body.extend_from_slice(&(self.label.len() as u16).to_le_bytes());
        for number in
            [self.created_ms, self.authenticated_ms, self.seen_ms, self.idle_ns, self.lifetime_ns]
        {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(self.owner.as_bytes());
        body.extend_from_slice(self.label.as_bytes());
        body.extend_from_slice(self.data);
    }

    fn decode(mut rest: &'a [u8]) -> Result<Stored<'a>, EntryProblem> {
        let rest = &mut rest;
        let id = take_id(rest)?;
        let version = u32::from_le_bytes(take(rest).ok_or(EntryProblem::Length)?);
        let owner_len = u16::from_le_bytes(take(rest).ok_or(EntryProblem::Length)?);
        let label_len = u16::from_le_bytes(take(rest).ok_or(EntryProblem::Length)?);
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
            bytes if bytes > DATA_BYTES_MAX => Err(EntryProblem::DataLength(bytes)),
            _ => Ok(stored),
        }
    }
}

/// When which sessions were seen: pairs as they stand in the body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Touches<'a> {
    bytes: &'a [u8],
}

impl<'a> Touches<'a> {
    /// Appends a pair to what will be the body.
    pub(crate) fn append(bytes: &mut Vec<u8>, id: SessionId, seen_ms: u64) {
        put_id(bytes, id);
        bytes.extend_from_slice(&seen_ms.to_le_bytes());
    }

    /// The pairs that were appended; None if these are no whole pairs.
    pub(crate) fn of(bytes: &'a [u8]) -> Option<Touches<'a>> {
        bytes.len().is_multiple_of(TOUCH_BYTES).then_some(Touches { bytes })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionId, u64)> + use<'a> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || Some((take_id(&mut rest).ok()?, take_u64(&mut rest).ok()?)))
    }
}

impl fmt::Debug for Touches<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

fn put_id(body: &mut Vec<u8>, id: SessionId) {
    body.extend_from_slice(&Uuid::from(id).into_bytes());
}

fn take_id(rest: &mut &[u8]) -> Result<SessionId, EntryProblem> {
    take(rest).map(|id| Uuid::from_bytes(id).into()).ok_or(EntryProblem::Length)
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, EntryProblem> {
    take(rest).map(u64::from_le_bytes).ok_or(EntryProblem::Length)
}

fn take_text<'a>(rest: &mut &'a [u8], len: u16) -> Result<&'a str, EntryProblem> {
    let len = usize::from(len);
    if len > TEXT_BYTES_MAX {
        return Err(EntryProblem::TextLength(len));
    }
    let (text, behind) = rest.split_at_checked(len).ok_or(EntryProblem::Length)?;
    *rest = behind;
    std::str::from_utf8(text).map_err(|_| EntryProblem::Text)
}

/// The numbers in the files, which stay whatever becomes of [`Reason::ALL`].
fn code_of(reason: Reason) -> u8 {
    match reason {
        Reason::LoggedOut => 1,
        Reason::Expired => 2,
        Reason::Rotated => 3,
        Reason::Revoked => 4,
        Reason::Evicted => 5,
    }
}

fn reason_of(code: u8) -> Result<Reason, EntryProblem> {
    let known = Reason::ALL.into_iter().find(|&reason| code_of(reason) == code);
    known.ok_or(EntryProblem::Reason(code))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{hex, stored};
    use super::*;

    fn encoded(entry: Entry<'_>) -> Vec<u8> {
        let mut body = Vec::new();
        entry.encode_into(&mut body);
        body
    }

    /// Bytes that are in files already: a change here is a new format.
    #[test]
    fn golden_bodies() {
        let id = stored().id;
        let id_hex = "0123456789abcdef0011223344556677";
        let stored_hex = "0123456789abcdef0011223344556677 07000000 0500 0200 \
            00fc9ee09a010000 e8ff9ee09a010000 d0039fe09a010000 00505c18a3010000 ffffffffffffffff \
            616c696365 c3a9 00ff10";
        let mut touches = Vec::new();
        Touches::append(&mut touches, id, 0x1122);
        Touches::append(&mut touches, SessionId(1), u64::MAX);
        let moved =
            Entry::Move { old: SessionId(2), at_ms: 3, alias_until_ms: 0x0405, new: stored() };
        for (entry, kind, text) in [
            (Entry::Put(stored()), 1, stored_hex.to_owned()),
            (
                Entry::End { id, reason: Reason::Revoked, at_ms: 0x0102_0304 },
                2,
                format!("{id_hex} 0403020100000000 04"),
            ),
            (
                moved,
                3,
                format!(
                    "00000000000000000000000000000002 0300000000000000 0504000000000000 \
                     {stored_hex}"
                ),
            ),
            (
                Entry::Touch(Touches::of(&touches).unwrap()),
                4,
                format!(
                    "{id_hex} 2211000000000000 \
                     00000000000000000000000000000001 ffffffffffffffff"
                ),
            ),
            (Entry::Mark { wall_ms: 0x0807_0605_0403_0201 }, 5, "0102030405060708".to_owned()),
        ] {
            let body = encoded(entry);
            assert_eq!(hex(&body), text.replace(' ', ""), "{entry:?}");
            assert_eq!(entry.kind(), kind);
            assert_eq!(Entry::decode(kind, &body), Ok(entry));
        }
        let codes = Reason::ALL.map(code_of);
        assert_eq!(codes, [1, 2, 3, 4, 5]);
        assert_eq!(Reason::ALL.map(|reason| reason_of(code_of(reason))), Reason::ALL.map(Ok));
    }

    #[test]
    fn a_body_of_another_length_is_refused() {
        let id = SessionId(9);
        let touch = [7; TOUCH_BYTES];
        for entry in [
            Entry::End { id, reason: Reason::LoggedOut, at_ms: 1 },
            Entry::Touch(Touches::of(&touch).unwrap()),
            Entry::Mark { wall_ms: 5 },
        ] {
            let mut body = encoded(entry);
            body.push(0);
            assert_eq!(Entry::decode(entry.kind(), &body), Err(EntryProblem::Length), "{entry:?}");
            for len in 1..body.len() - 1 {
                let cut = Entry::decode(entry.kind(), &body[..len]);
                assert_eq!(cut, Err(EntryProblem::Length), "{entry:?} cut to {len}");
            }
        }
        // Data takes what is left, so only what is before it can be missing.
        let new = Stored { data: b"", ..stored() };
        for entry in [Entry::Put(new), Entry::Move { old: id, at_ms: 1, alias_until_ms: 2, new }] {
            let body = encoded(entry);
            for len in 0..body.len() {
                let cut = Entry::decode(entry.kind(), &body[..len]);
                assert_eq!(cut, Err(EntryProblem::Length), "{entry:?} cut to {len}");
            }
        }
    }

    #[test]
    fn fields_beyond_their_limits_are_refused() {
        let body = encoded(Entry::Put(stored()));
        let with = |at: usize, bytes: &[u8]| {
            let mut body = body.clone();
            body[at..at + bytes.len()].copy_from_slice(bytes);
            Entry::decode(PUT, &body).err()
        };
        assert_eq!(with(20, &[0xff, 0xff]), Some(EntryProblem::TextLength(65_535)));
        assert_eq!(with(22, &[1, 2]), Some(EntryProblem::TextLength(513)));
        assert_eq!(with(22, &[0, 2]), Some(EntryProblem::Length));
        assert_eq!(with(64, &[0xff]), Some(EntryProblem::Text));
        // The owner ends inside of a character.
        assert_eq!(with(20, &[6, 0, 1, 0]), Some(EntryProblem::Text));
        let end = encoded(Entry::End { id: SessionId(1), reason: Reason::Evicted, at_ms: 1 });
        for code in [0, 6, 255] {
            let mut end = end.clone();
            end[24] = code;
            assert_eq!(Entry::decode(END, &end), Err(EntryProblem::Reason(code)));
        }
        for kind in [0, 6, 255] {
            assert_eq!(Entry::decode(kind, &body), Err(EntryProblem::Kind(kind)));
        }
    }

    #[test]
    fn data_is_at_most_as_long_as_a_record_holds() {
        let owner = "o".repeat(TEXT_BYTES_MAX);
        let data = vec![1; DATA_BYTES_MAX];
        let new = Stored { owner: &owner, label: &owner, data: &data, ..stored() };
        let entry = Entry::Move { old: SessionId(1), at_ms: 1, alias_until_ms: 0, new };
        let mut body = encoded(entry);
        assert!(body.len() <= BODY_BYTES_MAX);
        assert!(Entry::decode(MOVE, &body) == Ok(entry));
        body.push(0);
        let refused = Err(EntryProblem::DataLength(DATA_BYTES_MAX + 1));
        assert!(Entry::decode(MOVE, &body) == refused);
    }

    proptest! {
        #[test]
        fn sessions_come_back(
            ids: [u128; 2],
            version: u32,
            numbers: [u64; 7],
            owner in ".{0,60}",
            label in ".{0,60}",
            data in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let [created_ms, authenticated_ms, seen_ms, idle_ns, lifetime_ns, at, until] = numbers;
            let stored = Stored {
                id: SessionId(ids[0]),
                version,
                created_ms,
                authenticated_ms,
                seen_ms,
                idle_ns,
                lifetime_ns,
                owner: &owner,
                label: &label,
                data: &data,
            };
            let old = SessionId(ids[1]);
            let moved = Entry::Move { old, at_ms: at, alias_until_ms: until, new: stored };
            for entry in [Entry::Put(stored), moved] {
                // Behind what is in the buffer already.
                let mut body = b"before".to_vec();
                entry.encode_into(&mut body);
                prop_assert_eq!(Entry::decode(entry.kind(), &body[6..]), Ok(entry));
            }
        }

        #[test]
        fn touches_come_back(pairs in prop::collection::vec(any::<(u128, u64)>(), 0..40)) {
            let pairs: Vec<_> = pairs.into_iter().map(|(id, at)| (SessionId(id), at)).collect();
            let mut bytes = Vec::new();
            for &(id, seen_ms) in &pairs {
                Touches::append(&mut bytes, id, seen_ms);
            }
            let entry = Entry::Touch(Touches::of(&bytes).unwrap());
            let body = encoded(entry);
            let decoded = Entry::decode(entry.kind(), &body);
            prop_assert_eq!(decoded, Ok(entry));
            let Ok(Entry::Touch(touches)) = decoded else { unreachable!() };
            prop_assert_eq!(touches.iter().collect::<Vec<_>>(), pairs);
        }

        #[test]
        fn what_is_accepted_is_written_again(
            kind in 0_u8..7,
            body in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..200),
        ) {
            if let Ok(entry) = Entry::decode(kind, &body) {
                prop_assert_eq!(entry.kind(), kind);
                prop_assert_eq!(encoded(entry), body);
            }
        }
    }
}
