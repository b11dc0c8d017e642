//! One session in memory: a header with the archived bytes behind it. Immutable once published,
//! but for the word in [`crate::life`].
//!
//! ```text
//! byte  0  absolute: the tick at which the lifetime is over
//!       4  version
//!       8  length of the data (24 bits) | kind, flags, reason (8 bits)
//!      12  wheel node (24 bits) | timeouts index (8 bits)
//!      16  id, low half            8
//!      24  id, high half           8
//!      32  life: fresh until | deadline
//!      40  data: the archive; for an alias or a renewed tombstone the id of the successor
//!   40+n   trailer, if flagged: created, authenticated, idle timeout, lifetime, owner, label
//! ```
//! What a lookup reads lies together: id, life, the beginning of the data. Records start at
//! multiples of 16, so that three in four have these 32 bytes in one cache line.
//! Anonymous sessions with the usual timeouts have no trailer: when they were created follows from
//! the end of their lifetime.
#![allow(unsafe_code, reason = "records live in raw memory of the table")]

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;

use crate::bucket::SlotWord;
use crate::budget::Class;
use crate::clock::Tick;
use crate::data::{DATA_OFFSET, SessionData, is_all_root};
use crate::error::Reason;
use crate::life::{Life, LifeWord};
use crate::timeouts::{Timeouts, TimeoutsIndex};
use crate::token::SessionId;

/// What a write under a shard's lock did, for those who have to know: subscribers, and whatever
/// keeps a journal. Changes of one session come in the order of the shard's lock.
pub(crate) enum Change<'a> {
    /// A session that is new.
    Created(Record<'a>),
    /// A session whose id is another now; `renewed` if the old one is an alias for a while.
    Moved { old: SessionId, new: Record<'a>, renewed: bool },
    /// A session that ended; its last record.
    Ended { record: Record<'a>, reason: Reason },
}

/// Bytes before the data.
pub(crate) const HEADER_BYTES: usize = size_of::<Header>();
/// The longest data that a record's length field can hold, in bytes.
pub(crate) const DATA_BYTES_MAX: usize = (1 << 24) - 1;
/// The longest owner, and the longest label, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 512;
const TRAILER_BYTES: usize = 28;

const KIND: u32 = 0b11;
const HAS_TRAILER: u32 = 1 << 2;
const HAS_OWNER: u32 = 1 << 3;
const REASON_SHIFT: u32 = 4;
const RENEWED: u32 = 1 << 7;
const FLAG_BITS: u32 = 8;
/// "No wheel node" in the link word.
pub(crate) const NODE_NONE: u32 = (1 << 24) - 1;

#[repr(C)]
struct Header {
    absolute: u32,
    version: u32,
    size: u32,
    link: u32,
    lo: u64,
    hi: u64,
    life: LifeWord,
}

const _: () = assert!(HEADER_BYTES == 40 && align_of::<Header>() == 8);
const _: () = assert!(HEADER_BYTES % 16 == DATA_OFFSET);

/// What a record stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A session.
    Live,
    /// The old id of a renewed session, during the grace time.
    Alias {
        /// The session's present id.
        successor: SessionId,
    },
    /// A session that is gone.
    Ended {
        /// Why.
        reason: Reason,
        /// The session that went on under another id, if this one was renewed away.
        successor: Option<SessionId>,
    },
}

/// What only some records hold.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Trailer<'a> {
    pub(crate) created: Tick,
    pub(crate) authenticated: Tick,
    pub(crate) timeouts: Timeouts,
    pub(crate) owner: &'a str,
    pub(crate) label: &'a str,
}

/// A record before it is written to memory.
#[derive(Clone, Copy)]
pub(crate) struct Draft<'a> {
    pub(crate) id: SessionId,
    pub(crate) kind: Kind,
    pub(crate) life: Life,
    pub(crate) absolute: Tick,
    pub(crate) version: u32,
    pub(crate) node: u32,
    pub(crate) timeouts: TimeoutsIndex,
    pub(crate) data: &'a [u8],
    pub(crate) trailer: Option<Trailer<'a>>,
}

/// Bytes of memory that a record needs with so much data, and a trailer with these texts.
pub(crate) fn record_len(data_len: usize, texts: Option<(&str, &str)>) -> usize {
    let trailer = texts.map_or(0, |(owner, label)| TRAILER_BYTES + owner.len() + label.len());
    HEADER_BYTES + data_len + trailer
}

impl Draft<'_> {
    /// Whether the session will have an owner.
    pub(crate) fn class(&self) -> Class {
        match self.trailer {
            Some(trailer) if !trailer.owner.is_empty() => Class::Authenticated,
            _ => Class::Anonymous,
        }
    }

    /// Bytes of memory that the record needs.
    pub(crate) fn len(&self) -> usize {
        let data_len = match self.kind {
            Kind::Live => self.data.len(),
            Kind::Alias { .. } | Kind::Ended { successor: Some(_), .. } => 16,
            Kind::Ended { successor: None, .. } => 0,
        };
        record_len(data_len, self.trailer.map(|trailer| (trailer.owner, trailer.label)))
    }

    /// Writes the record.
    ///
    /// # Safety
    /// `memory` is aligned to 16, has [`Draft::len`] bytes, and belongs to the caller alone.
    pub(crate) unsafe fn write(&self, memory: NonNull<u8>) {
        let successor;
        let (kind, data): (u32, &[u8]) = match self.kind {
            Kind::Live => (0, self.data),
            Kind::Alias { successor: id } => {
                successor = id.0.to_ne_bytes();
                (1, &successor)
            }
            Kind::Ended { reason, successor: id } => {
                let reason = u32::from(reason.code()) << REASON_SHIFT;
                match id {
                    None => (2 | reason, &[]),
                    Some(id) => {
                        successor = id.0.to_ne_bytes();
                        (2 | reason | RENEWED, &successor)
                    }
                }
            }
        };
        debug_assert!(data.len() <= DATA_BYTES_MAX);
        let mut flags = kind;
        if let Some(trailer) = self.trailer {
            flags |= HAS_TRAILER | if trailer.owner.is_empty() { 0 } else { HAS_OWNER };
        }
        let header = Header {
            absolute: self.absolute.0,
            version: self.version,
            size: (data.len() as u32) << FLAG_BITS | flags,
            link: self.node << 8 | u32::from(self.timeouts.0),
            lo: self.id.lo(),
            hi: self.id.hi(),
            life: LifeWord::new(self.life),
        };
        // SAFETY: the caller vouches for size, alignment and ownership.
        unsafe { memory.cast::<Header>().write(header) };
        let mut to = HEADER_BYTES;
        let mut put = |bytes: &[u8]| {
            // SAFETY: all parts together are `len` bytes long, so this one fits from `to` on.
            let at = unsafe { memory.add(to) };
            // SAFETY: as above; the source is a slice elsewhere.
            unsafe { at.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
            to += bytes.len();
        };
        put(data);
        if let Some(trailer) = self.trailer {
            put(&trailer.created.0.to_ne_bytes());
            put(&trailer.authenticated.0.to_ne_bytes());
            put(&nanos(trailer.timeouts.idle).to_ne_bytes());
            put(&nanos(trailer.timeouts.lifetime).to_ne_bytes());
            put(&(trailer.owner.len() as u16).to_ne_bytes());
            put(&(trailer.label.len() as u16).to_ne_bytes());
            put(trailer.owner.as_bytes());
            put(trailer.label.as_bytes());
        }
    }
}

/// A duration as it is stored: too long for the number is for ever.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn from_nanos(nanos: u64) -> Duration {
    if nanos == u64::MAX { Duration::MAX } else { Duration::from_nanos(nanos) }
}

/// A record in memory, readable for as long as `'a` is pinned or locked.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    header: NonNull<Header>,
    pinned: PhantomData<&'a Header>,
}

impl<'a> Record<'a> {
    /// # Safety
    /// `memory` holds a record that [`Draft::write`] wrote and that stays there during `'a`.
    #[inline(always)]
    pub(crate) unsafe fn at(memory: NonNull<u8>) -> Record<'a> {
        Record { header: memory.cast(), pinned: PhantomData }
    }

    /// # Safety
    /// As for [`Record::at`]; `word` holds the record's address.
    #[inline(always)]
    pub(crate) unsafe fn from_word(word: SlotWord) -> Record<'a> {
        let header = std::ptr::with_exposed_provenance_mut(word.address() as usize);
        // SAFETY: the caller vouches that the address is a record's, so not zero.
        let header = unsafe { NonNull::new_unchecked(header) };
        Record { header, pinned: PhantomData }
    }

    #[inline(always)]
    fn header(self) -> &'a Header {
        // SAFETY: the record is valid during 'a (`Record::at`).
        unsafe { self.header.as_ref() }
    }

    pub(crate) fn memory(self) -> NonNull<u8> {
        self.header.cast()
    }

    #[inline(always)]
    pub(crate) fn is(self, hi: u64, lo: u64) -> bool {
        let header = self.header();
        header.lo == lo && header.hi == hi
    }

    pub(crate) fn id(self) -> SessionId {
        SessionId::from_halves(self.header().hi, self.header().lo)
    }

    #[inline(always)]
    pub(crate) fn life(self) -> &'a LifeWord {
        &self.header().life
    }

    pub(crate) fn absolute(self) -> Tick {
        Tick(self.header().absolute)
    }

    pub(crate) fn version(self) -> u32 {
        self.header().version
    }

    pub(crate) fn node(self) -> u32 {
        self.header().link >> 8
    }

    /// Sets the wheel node of a record that is not published yet.
    ///
    /// # Safety
    /// Nobody else can reach the record.
    pub(crate) unsafe fn set_node(self, node: u32) {
        let link = node << 8 | self.header().link & 0xff;
        // SAFETY: the field lies inside the record; the caller is alone with it.
        let field = unsafe { &raw mut (*self.header.as_ptr()).link };
        // SAFETY: as above.
        unsafe { field.write(link) };
    }

    #[inline(always)]
    pub(crate) fn timeouts_index(self) -> TimeoutsIndex {
        TimeoutsIndex(self.header().link as u8)
    }

    pub(crate) fn is_session(self) -> bool {
        self.header().size & KIND == 0
    }

    /// Whom the session belongs to; "" for nobody.
    pub(crate) fn owner(self) -> &'a str {
        self.trailer().map_or("", |trailer| trailer.owner)
    }

    pub(crate) fn has_owner(self) -> bool {
        self.header().size & HAS_OWNER != 0
    }

    pub(crate) fn kind(self) -> Kind {
        let size = self.header().size;
        let successor = || {
            let bytes = self.data().first_chunk().copied().unwrap_or_default();
            SessionId(u128::from_ne_bytes(bytes))
        };
        match size & KIND {
            0 => Kind::Live,
            1 => Kind::Alias { successor: successor() },
            _ => Kind::Ended {
                reason: Reason::from_code((size >> REASON_SHIFT & 0b111) as u8),
                successor: (size & RENEWED != 0).then(successor),
            },
        }
    }

    /// The archived bytes.
    #[inline(always)]
    pub(crate) fn data(self) -> &'a [u8] {
        let len = (self.header().size >> FLAG_BITS) as usize;
        // SAFETY: the header and `len` bytes behind it belong to the record (`Draft::write`).
        let first = unsafe { self.memory().add(HEADER_BYTES) };
        // SAFETY: as above; they do not change while the record is published.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), len) }
    }

    /// `len` bytes from `offset` behind the data.
    fn behind(self, offset: usize, len: usize) -> &'a [u8] {
        // SAFETY: only called inside a trailer, which `Draft::write` put behind the data.
        let first = unsafe { self.memory().add(HEADER_BYTES + self.data().len() + offset) };
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), len) }
    }

    pub(crate) fn trailer(self) -> Option<Trailer<'a>> {
        if self.header().size & HAS_TRAILER == 0 {
            return None;
        }
        fn take<const N: usize>(from: &mut &[u8]) -> [u8; N] {
            let (first, rest) = from.split_first_chunk().unwrap_or((&[0; N], &[]));
            *from = rest;
            *first
        }
        let fixed = &mut self.behind(0, TRAILER_BYTES);
        let created = Tick(u32::from_ne_bytes(take(fixed)));
        let authenticated = Tick(u32::from_ne_bytes(take(fixed)));
        let idle = from_nanos(u64::from_ne_bytes(take(fixed)));
        let lifetime = from_nanos(u64::from_ne_bytes(take(fixed)));
        let owner_len = usize::from(u16::from_ne_bytes(take(fixed)));
        let label_len = usize::from(u16::from_ne_bytes(take(fixed)));
        let text = |offset, len| {
            // SAFETY: `Draft::write` copied these bytes from a `str`.
            unsafe { std::str::from_utf8_unchecked(self.behind(TRAILER_BYTES + offset, len)) }
        };
        Some(Trailer {
            created,
            authenticated,
            timeouts: Timeouts { idle, lifetime },
            owner: text(0, owner_len),
            label: text(owner_len, label_len),
        })
    }

    /// Bytes of memory that the record takes.
    pub(crate) fn len(self) -> usize {
        let trailer = self
            .trailer()
            .map_or(0, |trailer| TRAILER_BYTES + trailer.owner.len() + trailer.label.len());
        HEADER_BYTES + self.data().len() + trailer
    }
}

/// The archive that a record of a store of `S` holds.
///
/// # Safety
/// `data` was made by [`crate::data::encode`] of the same `S` and begins 8 bytes after a multiple
/// of 16, as the data of every record does.
#[inline(always)]
pub(crate) unsafe fn archived<S: SessionData>(data: &[u8]) -> &S::Archived {
    // The root is at the end of the archive. For a type that is all root that is its beginning
    // too: the root's address then does not wait for the length, whose cache line may still be on
    // its way.
    let root = if const { is_all_root::<S>() } { 0 } else { data.len() - size_of::<S::Archived>() };
    // SAFETY: the caller vouches for the bytes; `encode` laid them out for this alignment.
    unsafe { rkyv::api::access_pos_unchecked::<S::Archived>(data, root) }
}

/// A copy of a record that nobody else can change: cheap to clone, may be held for ever.
#[derive(Clone)]
pub(crate) struct OwnedRecord {
    words: std::sync::Arc<[u128]>,
}

impl OwnedRecord {
    pub(crate) fn copy_of(record: Record<'_>) -> OwnedRecord {
        let mut words: std::sync::Arc<[u128]> =
            std::iter::repeat_n(0, record.len().div_ceil(16)).collect();
        if let Some(words) = std::sync::Arc::get_mut(&mut words) {
            let memory = NonNull::from(words).cast();
            let draft = Draft {
                id: record.id(),
                kind: record.kind(),
                life: record.life().load(),
                absolute: record.absolute(),
                version: record.version(),
                node: NODE_NONE,
                timeouts: record.timeouts_index(),
                data: record.data(),
                trailer: record.trailer(),
            };
            // SAFETY: words are aligned to 16, as long as the record, and just made.
            unsafe { draft.write(memory) };
        }
        OwnedRecord { words }
    }

    pub(crate) fn record(&self) -> Record<'_> {
        // SAFETY: `copy_of` wrote a record there; it lives as long as `self`.
        unsafe { Record::at(NonNull::from(&*self.words).cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(kind: Kind) -> Draft<'static> {
        Draft {
            id: SessionId(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
            kind,
            life: Life::new(Tick(20), Tick(40)),
            absolute: Tick(99),
            version: 7,
            node: 0x12_3456,
            timeouts: TimeoutsIndex(3),
            data: b"archived",
            trailer: None,
        }
    }

    fn written<R>(draft: Draft<'_>, look: impl FnOnce(Record<'_>) -> R) -> R {
        let mut memory = vec![0_u128; draft.len().div_ceil(16)];
        let first = NonNull::new(memory.as_mut_ptr()).unwrap().cast();
        // SAFETY: a vector of u128 is aligned to 16 and long enough.
        unsafe { draft.write(first) };
        // SAFETY: the record was just written and `memory` outlives the call.
        let record = unsafe { Record::at(first) };
        assert_eq!(record.len(), draft.len());
        look(record)
    }

    #[test]
    fn fields_come_back() {
        written(draft(Kind::Live), |record| {
            assert_eq!(record.id(), draft(Kind::Live).id);
            assert_eq!(record.data(), b"archived");
            assert_eq!((record.version(), record.absolute()), (7, Tick(99)));
            assert_eq!((record.node(), record.timeouts_index()), (0x12_3456, TimeoutsIndex(3)));
            assert_eq!(record.kind(), Kind::Live);
            assert_eq!(record.trailer(), None);
            // SAFETY: the record is this test's own.
            unsafe { record.set_node(NODE_NONE) };
            assert_eq!((record.node(), record.timeouts_index()), (NODE_NONE, TimeoutsIndex(3)));
        });
    }

    #[test]
    fn kinds_come_back() {
        let successor = SessionId(77);
        for reason in Reason::ALL {
            for kind in [
                Kind::Alias { successor },
                Kind::Ended { reason, successor: None },
                Kind::Ended { reason, successor: Some(successor) },
            ] {
                written(draft(kind), |record| {
                    assert_eq!(record.kind(), kind);
                    assert!(!record.is_session() && !record.has_owner());
                });
            }
        }
    }

    #[test]
    fn trailers_come_back() {
        let timeouts = Timeouts { idle: Duration::MAX, lifetime: Duration::from_secs(5) };
        for (owner, label) in [("alice", "Firefox"), ("", "x"), ("\u{e9}", "")] {
            let (created, authenticated) = (Tick(17), Tick(18));
            let trailer = Trailer { created, authenticated, timeouts, owner, label };
            written(Draft { trailer: Some(trailer), ..draft(Kind::Live) }, |record| {
                assert_eq!(record.trailer(), Some(trailer));
                assert_eq!(record.has_owner(), !owner.is_empty());
                assert_eq!(record.data(), b"archived");
            });
        }
    }
}
