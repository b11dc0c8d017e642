//! Where everything lies in a snapshot file, byte by byte; pure.
//!
//! ```text
//! header                                             slot, 16 bytes
//!    0  magic, 8 bytes                                0  u32 bits 32 to 63 of the id
//!    8  u16 format major | u16 format minor           4  u48 entry offset; 0: the slot is free
//!   12  u32 features that a reader must know         10  u48 of the entry's checksum
//!   16  u32 byte order mark | u32 zero
//!   24  store: a UUID, 16 bytes                       owner row, 16 bytes
//!   40  u64 generation | u64 salt                     0  u64 hash of the owner
//!   56  u64 wall clock high water, Unix ms            8  u64 entry offset
//!   64  u64 schema | u64 layout of archived data
//!   80  u64 log epoch | u64 sequence | u64 position  superseded row, 8 bytes
//!  104  u64 entries | u64 superseded | u64 owned      0  u64 entry offset
//!  128  u64 homes of the hash table
//!  136  entries: u64 offset | u64 length             chunk row, 16 bytes
//!  152  slots, 168 owner rows, 184 superseded rows,   0  u64 offset of its end
//!  200  chunk rows, 216 page sums: likewise           8  u64 checksum
//!  232  u64 checksum of the page sums
//!  240  u64 length of the file                       trailer, 64 bytes
//!  248  u64 scale of the weights; 0: none             0  magic, 8 bytes
//!  256  u64 anonymous sessions | their weight         8  u64 generation | u64 salt
//!  272  u64 owned sessions | their weight            24  u64 length of the file
//!  288  zeros                                        32  u64 entries | superseded | owned
//! 4088  u64 checksum of the 4088 bytes before it     56  u64 checksum of the 56 bytes before it
//! ```
//! All numbers are little-endian; an id's bits are those of the number that it prints as. Each
//! table begins on a page of 4 KiB, whose rest is zeros and belongs to the page's checksum; so a
//! row never lies on two pages.
//!
//! **What no later format may change**: the first 24 bytes, the length of the header, its checksum.
//! So a reader tells a newer file from a damaged one.
//!
//! A slot is sought from its *home*: the high half of the id, taken as a fraction, times the number
//! of homes. Entries are laid out in the order of their ids, each at its home or behind the one
//! before it; there is no wrap, the table is a few slots longer than its homes.

use uuid::Uuid;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Damage, Section, SnapshotProblem};
use crate::journal::stored::KeyId;
use crate::token::SessionId;

/// No text begins so; the line ends notice a copy that took the file for text.
pub(super) const MAGIC: [u8; 8] = *b"\x89CLS\r\n\x1a\n";
pub(super) const TRAILER_MAGIC: [u8; 8] = *b"CLS-END\n";
pub(super) const MAJOR: u16 = 1;
/// 1: the weights.
pub(super) const MINOR: u16 = 1;
/// The features of this version that a reader must know. Sessions are sealed: `journal/sealing.rs`.
const SEALED: u32 = 1;
const FLAGS_KNOWN: u32 = SEALED;
const MARK: u32 = 0x0A0B_0C0D;

pub(super) const HEADER_LEN: u64 = 4096;
pub(super) const PAGE_LEN: u64 = 4096;
pub(super) const TRAILER_LEN: u64 = 64;
pub(super) const SUM_LEN: u64 = 8;
/// An entry begins before it, or a slot could not hold its offset.
pub(super) const OFFSET_LIMIT: u64 = 1 << 48;
const U48: u64 = (1 << 48) - 1;

/// The checksum of what lies at an offset of the file with that salt.
pub(super) fn sum(salt: u64, offset: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, salt.wrapping_add(offset))
}

/// The salt keeps users from choosing names of equal hash.
pub(super) fn owner_hash(salt: u64, owner: &str) -> u64 {
    xxh3_64_with_seed(owner.as_bytes(), salt)
}

pub(super) fn page_up(offset: u64) -> Option<u64> {
    offset.checked_next_multiple_of(PAGE_LEN)
}

/// A row of two numbers.
pub(super) fn pair(first: u64, second: u64) -> [u8; 16] {
    (u128::from(second) << 64 | u128::from(first)).to_le_bytes()
}

pub(super) fn unpair(row: [u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(row);
    (both as u64, (both >> 64) as u64)
}

/// One slot of the hash table. 48 bits of the checksum do: a damaged entry also has to bear the
/// id that is sought, and a walk compares all 64 of its chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    pub(super) id_bits: u32,
    pub(super) offset: u64,
    pub(super) sum: u64,
}

impl Slot {
    pub(super) const LEN: u64 = 16;

    pub(super) fn encode(self) -> [u8; 16] {
        let (offset, sum) = (u128::from(self.offset & U48), u128::from(self.sum & U48));
        (u128::from(self.id_bits) | offset << 32 | sum << 80).to_le_bytes()
    }

    pub(super) fn decode(bytes: [u8; 16]) -> Slot {
        let bits = u128::from_le_bytes(bytes);
        Slot {
            id_bits: bits as u32,
            offset: (bits >> 32) as u64 & U48,
            sum: (bits >> 80) as u64 & U48,
        }
    }

    pub(super) fn is_free(self) -> bool {
        self.offset == 0
    }

    /// As much of an entry's checksum as a slot holds.
    pub(super) fn part(sum: u64) -> u64 {
        sum & U48
    }
}

/// The bits that a slot keeps of an id: not those that led to it, which its neighbours share.
pub(super) fn id_bits(id: SessionId) -> u32 {
    (Uuid::from(id).as_u128() >> 32) as u32
}

/// Where in the hash table an id is sought first.
pub(super) fn home(id: SessionId, homes: u64) -> u64 {
    let high = Uuid::from(id).as_u128() >> 64;
    ((high * u128::from(homes)) >> 64) as u64
}

/// So many that three of four slots are taken.
pub(super) fn homes(entries: u64) -> u64 {
    entries.saturating_add(entries / 3).saturating_add(1)
}

/// A place in the log.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct LogPosition {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) position: u64,
}

/// What the caller has to say of a snapshot. Nothing here is interpreted but the salt.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct HeaderFields {
    pub(crate) store: Uuid,
    pub(crate) generation: u64,
    /// Random, another one for each file.
    pub(crate) salt: u64,
    /// The latest wall clock time that the store has seen, Unix ms.
    pub(crate) high_water_ms: u64,
    pub(crate) schema: u64,
    /// The fingerprint of the layout of archived data.
    pub(crate) layout: u64,
    /// Where a replay of the log begins.
    pub(crate) replay_from: LogPosition,
    /// The newest key when the snapshot was begun, if sessions in it are sealed.
    pub(crate) key: Option<KeyId>,
}

/// Where a section lies.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Extent {
    pub(super) fn end(self) -> Option<u64> {
        self.offset.checked_add(self.len)
    }

    /// Where the next section begins, if this one begins there and consists of such rows.
    fn chained(self, offset: u64, row_len: u64) -> Option<u64> {
        let fits = self.offset == offset && self.len.is_multiple_of(row_len);
        if fits { self.end() } else { None }
    }
}

/// How many there are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counts {
    /// Sessions and aliases in the file.
    pub(crate) entries: u64,
    /// Those of them whose id came again later.
    pub(crate) superseded: u64,
    /// Sessions with an owner, without superseded ones.
    pub(crate) owned: u64,
}

impl Counts {
    /// Sessions and aliases that can be found.
    pub(crate) fn live(self) -> u64 {
        self.entries.saturating_sub(self.superseded)
    }
}

/// How many sessions of a class there are, and what they weigh.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Weight {
    pub(crate) sessions: u64,
    pub(crate) bytes: u64,
}

/// What the sessions will take in memory, by the caller's scale: nothing here interprets it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Weights {
    /// Which way of weighing it was; 0: nobody weighed.
    pub(crate) scale: u64,
    pub(crate) anonymous: Weight,
    pub(crate) owned: Weight,
}

impl Weights {
    pub(super) fn numbers(self) -> [u64; 5] {
        let Weights { scale, anonymous, owned } = self;
        [scale, anonymous.sessions, anonymous.bytes, owned.sessions, owned.bytes]
    }

    fn of(numbers: [u64; 5]) -> Weights {
        let [scale, anonymous, anonymous_bytes, owned, owned_bytes] = numbers;
        Weights {
            scale,
            anonymous: Weight { sessions: anonymous, bytes: anonymous_bytes },
            owned: Weight { sessions: owned, bytes: owned_bytes },
        }
    }
}

/// The whole header.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Header {
    pub(super) fields: HeaderFields,
    pub(super) counts: Counts,
    pub(super) homes: u64,
    pub(super) entries: Extent,
    pub(super) slots: Extent,
    pub(super) owners: Extent,
    pub(super) superseded: Extent,
    pub(super) chunks: Extent,
    pub(super) sums: Extent,
    pub(super) sums_sum: u64,
    pub(super) file_len: u64,
    pub(super) weights: Weights,
}

const HEADER_DAMAGE: SnapshotProblem =
    SnapshotProblem::Damaged(Damage { what: Section::Header, offset: 0 });

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN as usize);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&MAJOR.to_le_bytes());
        bytes.extend_from_slice(&MINOR.to_le_bytes());
        let flags = if self.fields.key.is_some() { SEALED } else { 0 };
        for number in [flags, MARK, 0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let HeaderFields { store, generation, salt, high_water_ms, schema, layout, .. } =
            self.fields;
        bytes.extend_from_slice(store.as_bytes());
        let LogPosition { epoch, sequence, position } = self.fields.replay_from;
        let Counts { entries, superseded, owned } = self.counts;
        let mut put = |numbers: &[u64]| {
            numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        };
        put(&[generation, salt, high_water_ms, schema, layout, epoch, sequence, position]);
        put(&[entries, superseded, owned, self.homes]);
        for extent in self.extents() {
            put(&[extent.offset, extent.len]);
        }
        put(&[self.sums_sum, self.file_len]);
        put(&self.weights.numbers());
        bytes.extend_from_slice(&self.fields.key.unwrap_or_default());
        bytes.resize((HEADER_LEN - SUM_LEN) as usize, 0);
        let sum = xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER_LEN as usize]) -> Result<Header, SnapshotProblem> {
        if bytes.iter().all(|&byte| byte == 0) {
            return Err(SnapshotProblem::Unfinished);
        }
        let mut rest = Fields(bytes);
        if rest.take() != MAGIC {
            return Err(SnapshotProblem::NotOurs);
        }
        let (major, minor) = (u16::from_le_bytes(rest.take()), u16::from_le_bytes(rest.take()));
        let [flags, mark, zero] = [(); 3].map(|()| u32::from_le_bytes(rest.take()));
        if mark == MARK.swap_bytes() {
            return Err(SnapshotProblem::OtherByteOrder);
        }
        let (summed, sum) = bytes.split_last_chunk().ok_or(HEADER_DAMAGE)?;
        if u64::from_le_bytes(*sum) != xxh3_64(summed) {
            return Err(HEADER_DAMAGE);
        }
        if major > MAJOR || flags & !FLAGS_KNOWN != 0 {
            return Err(SnapshotProblem::Newer { major, minor, flags });
        }
        let header = Header::decode_numbers(&mut rest, flags & SEALED != 0);
        let is_valid = (major, mark, zero) == (MAJOR, MARK, 0) && header.is_chained().is_some();
        if is_valid { Ok(header) } else { Err(HEADER_DAMAGE) }
    }

    fn decode_numbers(rest: &mut Fields<'_>, is_sealed: bool) -> Header {
        let store = Uuid::from_bytes(rest.take());
        let [generation, salt, high_water_ms, schema, layout, epoch, sequence, position] =
            rest.numbers();
        let [entries_count, superseded_count, owned, homes] = rest.numbers();
        let [entries, slots, owners, superseded, chunks, sums] = [(); 6].map(|()| {
            let [offset, len] = rest.numbers();
            Extent { offset, len }
        });
        let [sums_sum, file_len] = rest.numbers();
        let weights = Weights::of(rest.numbers());
        let key = rest.take();
        let replay_from = LogPosition { epoch, sequence, position };
        Header {
            fields: HeaderFields {
                store,
                generation,
                salt,
                high_water_ms,
                schema,
                layout,
                replay_from,
                key: is_sealed.then_some(key),
            },
            counts: Counts { entries: entries_count, superseded: superseded_count, owned },
            homes,
            entries,
            slots,
            owners,
            superseded,
            chunks,
            sums,
            sums_sum,
            file_len,
            weights,
        }
    }

    fn extents(&self) -> [Extent; 6] {
        [self.entries, self.slots, self.owners, self.superseded, self.chunks, self.sums]
    }

    /// Whether each section begins where the one before it ends, and is as long as the counts say.
    fn is_chained(&self) -> Option<()> {
        let slots = page_up(self.entries.chained(HEADER_LEN, 8)?)?;
        let owners = page_up(self.slots.chained(slots, Slot::LEN)?)?;
        let superseded = page_up(self.owners.chained(owners, 16)?)?;
        let chunks = page_up(self.superseded.chained(superseded, 8)?)?;
        let sums = page_up(self.chunks.chained(chunks, 16)?)?;
        let trailer = self.sums.chained(sums, SUM_LEN)?;
        let Counts { entries, superseded: superseded_count, owned } = self.counts;
        let counts_fit = self.sums.len / SUM_LEN == (sums - slots) / PAGE_LEN
            && self.superseded.len / 8 == superseded_count
            && self.owners.len / 16 == owned
            && superseded_count <= entries
            && self.file_len == trailer.checked_add(TRAILER_LEN)?;
        counts_fit.then_some(())
    }

    /// Where the trailer lies.
    pub(super) fn trailer(&self) -> Extent {
        Extent { offset: self.file_len.saturating_sub(TRAILER_LEN), len: TRAILER_LEN }
    }

    pub(super) fn encode_trailer(&self) -> Vec<u8> {
        let HeaderFields { generation, salt, .. } = self.fields;
        let Counts { entries, superseded, owned } = self.counts;
        let mut bytes = TRAILER_MAGIC.to_vec();
        for number in [generation, salt, self.file_len, entries, superseded, owned] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let sum = sum(salt, self.trailer().offset, &bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// Bytes that are read from their beginning; there are more of them than are asked for.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((first, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *first
    }

    fn numbers<const N: usize>(&mut self) -> [u64; N] {
        [(); N].map(|()| u64::from_le_bytes(self.take()))
    }
}
