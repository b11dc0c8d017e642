//! One file of the log as bytes: a header block with the frames behind it.
//!
//! ```text
//! byte  0  magic: 8a 'C' 'L' 'O' 0d 0a 1a 0a     8
//!       8  u32 byte order: 01 02 03 04
//!      12  u16 format major | u16 format minor
//!      16  u32 flags that a reader must understand
//!      20  4 bytes: the id of the key with which sessions are sealed; 0 if they are not
//!      24  store: a UUID                        16
//!      40  u64 epoch
//!      48  u64 sequence
//!      56  u64 salt, the seed of the head sums
//!      64  u64 seed of the body sums
//!      72  u64 wall clock: the highest that was ever seen, Unix milliseconds
//!      80  u64 schema of the data
//!      88  u64 layout: how rkyv archives
//!      96  zeros
//!    4088  u64 xxh3-64 of bytes 0..4088
//!    4096  frames, one behind the other, then zeros
//! ```
//! Little-endian. Every later format keeps magic, byte order, format, flags and checksum where they
//! are, so that every reader can tell what is newer from what is damaged. The magic shows whether
//! a transfer changed line ends or the eighth bit, as PNG's does.
//!
//! A frame counts if (1) its header is right under the segment's salt, (2) its position is one
//! more than the last one's, (3) it ends inside the file, (4) its padding is zero, (5) its body is
//! right. [`Scan`] stops at the first that does not, and never goes on behind it: what looks like a
//! frame there may be a part of a session's data. [`find_later`] looks there, for one question
//! only: was the frame that is missing known to be durable?

use std::fmt;

use rkyv::primitive::{ArchivedU32, ArchivedU64, ArchivedUsize};
use rkyv::rend;
use rkyv::string::ArchivedString;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::entry::Entry;
use super::frame::{self, ALIGNMENT, Header, take};
use super::stored::KeyId;

/// Bytes of a segment before its first frame.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 4096;
/// Readers refuse segments of a higher major format, and read those of a higher minor one.
pub(crate) const FORMAT_MAJOR: u16 = 1;
pub(crate) const FORMAT_MINOR: u16 = 0;

const MAGIC: [u8; 8] = *b"\x8aCLO\r\n\x1a\n";
const BYTE_ORDER: u32 = 0x0403_0201;
/// Sessions are sealed, see `cipher.rs`; the only flag.
const SEALED: u32 = 1;
const CHECKED_BYTES: usize = SEGMENT_HEADER_BYTES - 8;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store: Uuid,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    /// Seeds the sums of the frames' headers: random, from the operating system, another one for
    /// each segment.
    pub(crate) salt: u64,
    /// Seeds the sums of the frames' bodies: random, the same for all segments of one open store.
    pub(crate) body_seed: u64,
    /// The highest wall clock that was ever seen, in Unix milliseconds.
    pub(crate) wall_ms: u64,
    pub(crate) schema: u64,
    /// [`LAYOUT`] of the writer.
    pub(crate) layout: u64,
    /// The newest key when the segment was begun, if sessions in it are sealed.
    pub(crate) key: Option<KeyId>,
}

/// The segment before a segment, as [`End`] told it; all 0 before the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Previous {
    pub(crate) sequence: u64,
    pub(crate) last: u64,
    pub(crate) chain: u64,
}

/// Why a block is no header that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderProblem {
    /// Something else than a segment.
    NotOurs,
    /// Written by a newer version of the crate.
    Newer { major: u16, minor: u16 },
    /// A segment that uses what this version does not know: these bits.
    UnknownFlags(u32),
    /// Written with the bytes of numbers in the other order.
    OtherByteOrder,
    /// Not what was written, or not written completely.
    Damaged,
    /// Fewer bytes than a header has.
    Short,
}

impl HeaderProblem {
    /// Whether this is what a crash in the middle of its writing may leave behind.
    pub(crate) fn is_incomplete(self) -> bool {
        matches!(self, HeaderProblem::Damaged | HeaderProblem::Short)
    }
}

impl fmt::Display for HeaderProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderProblem::NotOurs => f.write_str("not a segment of a log"),
            HeaderProblem::Newer { major, minor } => write!(
                f,
                "a segment of format {major}.{minor}, newer than {FORMAT_MAJOR}.{FORMAT_MINOR}"
            ),
            HeaderProblem::UnknownFlags(bits) => {
                write!(f, "a segment that needs what this version does not know: {bits:#x}")
            }
            HeaderProblem::OtherByteOrder => f.write_str("a segment of the other byte order"),
            HeaderProblem::Damaged => f.write_str("the segment's header is damaged"),
            HeaderProblem::Short => f.write_str("the segment's header is incomplete"),
        }
    }
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut block = [0; SEGMENT_HEADER_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            block[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC);
        put(&BYTE_ORDER.to_le_bytes());
        put(&FORMAT_MAJOR.to_le_bytes());
        put(&FORMAT_MINOR.to_le_bytes());
        put(&(if self.key.is_some() { SEALED } else { 0 }).to_le_bytes());
        put(&self.key.unwrap_or_default());
        put(self.store.as_bytes());
        for number in [
            self.epoch,
            self.sequence,
            self.salt,
            self.body_seed,
            self.wall_ms,
            self.schema,
            self.layout,
        ] {
            put(&number.to_le_bytes());
        }
        let sum = xxh3_64(&block[..CHECKED_BYTES]);
        block[CHECKED_BYTES..].copy_from_slice(&sum.to_le_bytes());
        block
    }

    /// Reads the header at the beginning of a file.
    ///
    /// Says nothing about schema and layout: those are for the store to compare.
    pub(crate) fn decode(file: &[u8]) -> Result<SegmentHeader, HeaderProblem> {
        let block: &[u8; SEGMENT_HEADER_BYTES] = file.first_chunk().ok_or(HeaderProblem::Short)?;
        SegmentHeader::checked(block)?;
        SegmentHeader::fields(block).ok_or(HeaderProblem::Short)
    }

    fn checked(block: &[u8; SEGMENT_HEADER_BYTES]) -> Result<(), HeaderProblem> {
        let (checked, mut sum) = block.split_at(CHECKED_BYTES);
        let mut rest = checked;
        let magic: [u8; 8] = take(&mut rest).unwrap_or_default();
        let mut number = || take(&mut rest).map(u32::from_le_bytes).unwrap_or_default();
        let [byte_order, format, flags] = [number(), number(), number()];
        match magic {
            MAGIC => {}
            // A header whose first sector never reached the disk; nobody else's file.
            [0, 0, 0, 0, 0, 0, 0, 0] => return Err(HeaderProblem::Damaged),
            _ => return Err(HeaderProblem::NotOurs),
        }
        if byte_order == BYTE_ORDER.swap_bytes() {
            return Err(HeaderProblem::OtherByteOrder);
        }
        // Before anything that would blame another version for a flipped bit.
        let sum = take(&mut sum).map(u64::from_le_bytes);
        if sum != Some(xxh3_64(checked)) || byte_order != BYTE_ORDER {
            return Err(HeaderProblem::Damaged);
        }
        let (major, minor) = (format as u16, (format >> 16) as u16);
        match major {
            0 => return Err(HeaderProblem::Damaged),
            FORMAT_MAJOR => {}
            _ => return Err(HeaderProblem::Newer { major, minor }),
        }
        match flags & !SEALED {
            0 => Ok(()),
            unknown => Err(HeaderProblem::UnknownFlags(unknown)),
        }
    }

    fn fields(block: &[u8; SEGMENT_HEADER_BYTES]) -> Option<SegmentHeader> {
        let mut rest = block.get(16..)?;
        let flags = u32::from_le_bytes(take(&mut rest)?);
        let key = take(&mut rest)?;
        let store = Uuid::from_bytes(take(&mut rest)?);
        let mut number = || take(&mut rest).map(u64::from_le_bytes);
        Some(SegmentHeader {
            store,
            epoch: number()?,
            sequence: number()?,
            salt: number()?,
            body_seed: number()?,
            wall_ms: number()?,
            schema: number()?,
            layout: number()?,
            key: (flags & SEALED != 0).then_some(key),
        })
    }

    pub(crate) fn name(&self) -> SegmentName {
        SegmentName { epoch: self.epoch, sequence: self.sequence }
    }
}

/// The name of a segment's file: `log-<epoch>-<sequence>.seg`, each number as 16 hexadecimal
/// digits. Ordered as the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
}

impl SegmentName {
    /// Reads what `Display` prints, and nothing else.
    pub(crate) fn parse(name: &str) -> Option<SegmentName> {
        let numbers = name.strip_prefix("log-")?.strip_suffix(".seg")?;
        let (epoch, sequence) = numbers.split_once('-')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        let parsed = SegmentName { epoch: number(epoch)?, sequence: number(sequence)? };
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log-{:016x}-{:016x}.seg", self.epoch, self.sequence)
    }
}

/// Walks over the frames of a segment.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    bytes: &'a [u8],
    salt: u64,
    body_seed: u64,
    offset: usize,
    last: u64,
    chain: u64,
    /// Why it stopped, once it has.
    cause: Option<Cause>,
}

/// Where a scan stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code, reason = "for the tests of the format"))]
pub(crate) struct End {
    /// Behind the last frame, counted from the first one.
    pub(crate) offset: usize,
    /// The position of the last frame; without one, that before the base.
    pub(crate) last: u64,
    /// The head sum of the last frame; without one 0.
    pub(crate) chain: u64,
    pub(crate) cause: Cause,
}

/// Why a scan stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nothing is there any more but zeros, if even those.
    Clean,
    /// Something is there that does not count.
    Torn(Torn),
}

/// What there is in the place of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Torn {
    /// Zeros in the place of a header, with something behind them.
    Hole,
    /// Fewer bytes than a header has.
    Short,
    /// No header of this segment.
    Header,
    /// A header of this position, which is not its turn.
    Position(u64),
    /// A frame that goes on behind the end of the file.
    Length,
    /// A frame whose padding is not zero.
    Padding,
    /// A header with a body that is not its own.
    Body,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Torn::Hole => f.write_str("zeros in the place of a frame"),
            Torn::Short => f.write_str("the file ends inside of a frame's header"),
            Torn::Header => f.write_str("no frame's header, or a damaged one"),
            Torn::Position(position) => write!(f, "a frame of another position: {position}"),
            Torn::Length => f.write_str("the file ends inside of a frame's body"),
            Torn::Padding => f.write_str("a frame whose padding is damaged"),
            Torn::Body => f.write_str("a frame whose body is damaged"),
        }
    }
}

impl<'a> Scan<'a> {
    /// Over the bytes of the file behind its header, whose first frame has this position: see
    /// [`first`].
    pub(crate) fn new(header: &SegmentHeader, base: u64, bytes: &'a [u8]) -> Scan<'a> {
        Scan {
            bytes,
            salt: header.salt,
            body_seed: header.body_seed,
            offset: 0,
            // Positions begin at 1. A base of 0 would wrap here, and back at the first frame.
            last: base.wrapping_sub(1),
            chain: 0,
            cause: None,
        }
    }

    /// Walks over what is left, and tells where that ends.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the tests of the format"))]
    pub(crate) fn end(&mut self) -> End {
        loop {
            if let Some(cause) = self.cause {
                return End { offset: self.offset, last: self.last, chain: self.chain, cause };
            }
            self.next();
        }
    }

    /// The head sum of the last frame.
    pub(crate) fn chain_value(&self) -> u64 {
        self.chain
    }

    fn frame(&mut self) -> Result<(usize, Header, &'a [u8]), Cause> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let (header, chain, body) =
            frame_at(rest, self.salt, self.body_seed).map_err(|torn| cause(rest, torn))?;
        if header.position != self.last.wrapping_add(1) {
            return Err(Cause::Torn(Torn::Position(header.position)));
        }
        let offset = self.offset;
        self.offset += header.frame_len();
        self.last = header.position;
        self.chain = chain;
        Ok((offset, header, body))
    }
}

impl<'a> Iterator for Scan<'a> {
    /// The offset from the first frame, the frame's header and its body.
    type Item = (usize, Header, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.cause.is_some() {
            return None;
        }
        self.frame().map_err(|cause| self.cause = Some(cause)).ok()
    }
}

/// The frame that `bytes` begin with, with its head sum; whatever its position.
fn frame_at(bytes: &[u8], salt: u64, body_seed: u64) -> Result<(Header, u64, &[u8]), Torn> {
    let (head, rest) = bytes.split_first_chunk().ok_or(Torn::Short)?;
    let header = Header::decode(head, salt).ok_or(Torn::Header)?;
    let len = header.body_len as usize;
    let (body, padding) = rest
        .get(..frame::padded(len))
        .and_then(|rest| rest.split_at_checked(len))
        .ok_or(Torn::Length)?;
    if !is_zero(padding) {
        return Err(Torn::Padding);
    }
    if frame::body_sum(body, body_seed) != header.body_sum {
        return Err(Torn::Body);
    }
    Ok((header, frame::stored_sum(head), body))
}

fn cause(rest: &[u8], torn: Torn) -> Cause {
    let begins_with_zeros = is_zero(rest.get(..frame::HEADER_BYTES).unwrap_or(rest));
    match begins_with_zeros {
        true if is_zero(rest) => Cause::Clean,
        true => Cause::Torn(Torn::Hole),
        false => Cause::Torn(torn),
    }
}

/// In blocks, which the compiler turns into wide instructions: the rest of a segment is long.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
}

/// What a segment's first frame tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// There is none: the segment was made and never used.
    Unused,
    /// The position of the first frame, with the segment before.
    Link(u64, Previous),
    /// Something else.
    Torn(Torn),
}

/// Reads the first frame. `bytes` are those of the file behind its header.
pub(crate) fn first(header: &SegmentHeader, bytes: &[u8]) -> First {
    match frame_at(bytes, header.salt, header.body_seed) {
        Ok((head, _, body)) => match Entry::decode(head.kind, body) {
            Ok(Entry::Link { previous, .. }) => First::Link(head.position, previous),
            _ => First::Torn(Torn::Header),
        },
        Err(torn) => match cause(bytes, torn) {
            Cause::Clean => First::Unused,
            Cause::Torn(torn) => First::Torn(torn),
        },
    }
}

/// Of the frames behind the place where a scan stopped, the one that knows most to be durable.
///
/// If its `durable` is `last + 1` or more, the frame that the scan missed was durable once: damage.
/// Otherwise the scan came to a torn tail. `bytes` begin at the [`End::offset`], `last` is
/// [`End::last`].
///
/// A copy of a frame in a session's data is older than the frame that it is a part of. So nothing
/// up to `last` counts, and nothing inside of a frame that does.
pub(crate) fn find_later(header: &SegmentHeader, bytes: &[u8], last: u64) -> Option<Header> {
    let mut found: Option<Header> = None;
    let mut offset = 0;
    while let Some(rest) = bytes.get(offset..).filter(|rest| rest.len() >= frame::HEADER_BYTES) {
        offset += match frame_at(rest, header.salt, header.body_seed) {
            Ok((later, ..)) if later.position > last => {
                if found.is_none_or(|found| found.durable < later.durable) {
                    found = Some(later);
                }
                later.frame_len()
            }
            _ => ALIGNMENT,
        };
    }
    found
}

/// The order of bytes in an archived number.
trait Order {
    const CODE: u8;
}

impl Order for rend::u32_le {
    const CODE: u8 = 1;
}
impl Order for rend::u32_be {
    const CODE: u8 = 2;
}
impl Order for rend::unaligned::u32_ule {
    const CODE: u8 = 1;
}
impl Order for rend::unaligned::u32_ube {
    const CODE: u8 = 2;
}

/// The 0.8 of rkyv, whose archives stay the same over all its patches.
const RKYV_GENERATION: u8 = 8;

/// How this build archives, a byte each: generation of rkyv, order of bytes, size of `usize`,
/// alignment of `u64`, size and alignment of `String`, 0, 0. Cargo unites the features of all who
/// use rkyv in a program, so that another crate can change what ours writes.
pub(crate) const LAYOUT: u64 = u64::from_le_bytes([
    RKYV_GENERATION,
    <ArchivedU32 as Order>::CODE,
    size_of::<ArchivedUsize>() as u8,
    align_of::<ArchivedU64>() as u8,
    size_of::<ArchivedString>() as u8,
    align_of::<ArchivedString>() as u8,
    0,
    0,
]);
