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
//! stored  a session to the end of the body, see `stored.rs`
//! reason  1 logged out, 2 expired, 3 rotated, 4 revoked, 5 evicted
//! ```
//! Little-endian; ids as they print, so the first digit first. Times are Unix milliseconds.
//!
//! An entry has one body: whatever [`Entry::decode`] accepts, [`Entry::encode_into`] writes again
//! byte by byte.

use std::fmt;

use super::frame::{BODY_BYTES_MAX, take};
use super::segment::Previous;
use super::stored::{STORED_BYTES_MAX, Stored, StoredProblem, id_bytes, id_of};
use crate::error::Reason;
use crate::token::SessionId;

/// Bytes of a move before the stored session.
pub(super) const MOVE_BYTES: usize = 32;
/// Bytes of one touch.
pub(crate) const TOUCH_BYTES: usize = 24;

const _: () = assert!(
    MOVE_BYTES + STORED_BYTES_MAX <= BODY_BYTES_MAX,
    "the largest session fits into a frame"
);

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

/// Why a body is none of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryProblem {
    /// No entry has this kind.
    Kind(u8),
    /// The body is shorter than its fields, or longer.
    Length,
    /// No end has this reason.
    Reason(u8),
    /// The session in it is none.
    Stored(StoredProblem),
}

impl From<StoredProblem> for EntryProblem {
    fn from(problem: StoredProblem) -> EntryProblem {
        EntryProblem::Stored(problem)
    }
}

impl fmt::Display for EntryProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryProblem::Kind(kind) => write!(f, "an entry of the unknown kind {kind}"),
            EntryProblem::Length => f.write_str("an entry whose length is not that of its fields"),
            EntryProblem::Reason(code) => write!(f, "an end for the unknown reason {code}"),
            EntryProblem::Stored(problem) => problem.fmt(f),
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

    /// The same of another session, where this is of one.
    pub(crate) fn with<'b>(&self, session: Stored<'b>) -> Entry<'b>
    where
        'a: 'b,
    {
        match *self {
            Entry::Put(_) => Entry::Put(session),
            Entry::Move { old, at_ms, alias_until_ms, .. } => {
                Entry::Move { old, at_ms, alias_until_ms, new: session }
            }
            other => other,
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
    body.extend_from_slice(&id_bytes(id));
}

fn take_id(rest: &mut &[u8]) -> Result<SessionId, EntryProblem> {
    take(rest).map(id_of).ok_or(EntryProblem::Length)
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, EntryProblem> {
    take(rest).map(u64::from_le_bytes).ok_or(EntryProblem::Length)
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
            (
                Entry::Link { previous: Previous { sequence: 1, last: 2, chain: 3 }, wall_ms: 4 },
                6,
                "0100000000000000 0200000000000000 0300000000000000 0400000000000000".to_owned(),
            ),
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
            let before = if entry.kind() == MOVE { MOVE_BYTES } else { 0 };
            for len in 0..body.len() {
                let problem = match len < before {
                    true => EntryProblem::Length,
                    false => EntryProblem::Stored(StoredProblem::Length),
                };
                let cut = Entry::decode(entry.kind(), &body[..len]);
                assert_eq!(cut, Err(problem), "{entry:?} cut to {len}");
            }
        }
    }

    #[test]
    fn fields_beyond_their_limits_are_refused() {
        let mut body = encoded(Entry::Put(stored()));
        let end = encoded(Entry::End { id: SessionId(1), reason: Reason::Evicted, at_ms: 1 });
        for code in [0, 6, 255] {
            let mut end = end.clone();
            end[24] = code;
            assert_eq!(Entry::decode(END, &end), Err(EntryProblem::Reason(code)));
        }
        for kind in [0, 7, 255] {
            assert_eq!(Entry::decode(kind, &body), Err(EntryProblem::Kind(kind)));
        }
        body[64] = 0xff;
        let problem = EntryProblem::Stored(StoredProblem::Text);
        assert_eq!(Entry::decode(PUT, &body), Err(problem));
        assert_eq!(problem.to_string(), "an owner or label that is not UTF-8");
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
