//! Segments of the log that were damaged, or that nobody wrote.

use std::num::NonZeroU8;

use arbitrary::{Arbitrary, Unstructured};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::journal::frame::{Header, body_sum, padded};
use crate::journal::segment::*;

/// The first byte chooses: a header block, the name of a file, any bytes, or a damaged segment.
pub fn segment(input: &[u8]) {
    let Some((&kind, rest)) = input.split_first() else { return };
    match kind % 4 {
        0 => block(rest),
        1 => name(&String::from_utf8_lossy(rest)),
        2 => any_bytes(rest),
        _ => {
            if let Ok(log) = Log::arbitrary(&mut Unstructured::new(rest)) {
                log.check();
            }
        }
    }
}

/// The position of the first frame.
const BASE: u64 = 6;

fn header() -> SegmentHeader {
    SegmentHeader {
        store: Uuid::from_u128(1),
        epoch: 2,
        sequence: 3,
        salt: 4,
        body_seed: 5,
        wall_ms: 8,
        schema: 9,
        layout: LAYOUT,
        key: None,
    }
}

/// The input takes the place of a valid block's beginning, then of what is behind the flags; each
/// with a wrong checksum and with a right one.
fn block(input: &[u8]) {
    for from in [0, 20] {
        let mut block = header().encode();
        let end = block.len() - 8;
        let len = input.len().min(end - from);
        block[from..from + len].copy_from_slice(&input[..len]);
        check_block(&block);
        let sum = xxh3_64(&block[..end]);
        block[end..].copy_from_slice(&sum.to_le_bytes());
        let decoded = check_block(&block);
        assert!(from == 0 || decoded.is_some(), "refused with a right checksum");
    }
    if let Some(decoded) = check_block(input) {
        assert!(input.len() >= SEGMENT_HEADER_BYTES, "{decoded:?}");
    }
}

fn check_block(block: &[u8]) -> Option<SegmentHeader> {
    match SegmentHeader::decode(block) {
        Ok(decoded) => {
            assert_eq!(SegmentHeader::decode(&decoded.encode()), Ok(decoded));
            assert_eq!(SegmentName::parse(&decoded.name().to_string()), Some(decoded.name()));
            Some(decoded)
        }
        Err(problem) => {
            assert!(!problem.to_string().is_empty());
            None
        }
    }
}

/// A name is refused, or prints as it was read.
fn name(text: &str) {
    if let Some(name) = SegmentName::parse(text) {
        assert_eq!(name.to_string(), text);
    }
}

/// Bytes without a salt are no frame.
fn any_bytes(bytes: &[u8]) {
    let end = Scan::new(&header(), BASE, bytes).end();
    assert_eq!((end.offset, end.last, end.chain), (0, 5, 0));
    assert_eq!(find_later(&header(), bytes, 5), None);
    let Ok(read) = SegmentHeader::decode(bytes) else { return };
    let bytes = &bytes[SEGMENT_HEADER_BYTES..];
    let mut scan = Scan::new(&read, BASE, bytes);
    for (offset, header, body) in scan.by_ref() {
        assert!(offset + header.frame_len() <= bytes.len());
        assert_eq!(body.len(), header.body_len as usize);
    }
    let end = scan.end();
    let _ = find_later(&read, &bytes[end.offset..], end.last);
}

/// What was written, and what happened to it then.
#[derive(Arbitrary, Debug)]
struct Log {
    frames: Vec<(NonZeroU8, Body)>,
    zeros: u8,
    damage: Vec<Damage>,
}

#[derive(Arbitrary, Debug)]
enum Body {
    Bytes(Vec<u8>),
    /// Long, as many times this byte.
    Run(u8, u16),
    /// A copy of all frames before.
    Planted,
}

#[derive(Arbitrary, Debug)]
enum Damage {
    Change(u16, u8),
    Cut(u16),
    Zeros(u16, u16),
    CopySector(u8, u8),
    SwapSectors(u8, u8),
}

const SECTOR: usize = 512;
/// Bytes of frames, about; a planted copy doubles them.
const FRAMES_BYTES_MAX: usize = 16 * 1024;

impl Log {
    fn check(&self) {
        let mut written = Vec::new();
        let mut headers = Vec::new();
        for (position, (kind, body)) in (BASE..).zip(&self.frames) {
            if written.len() > FRAMES_BYTES_MAX {
                break;
            }
            let body = match body {
                Body::Bytes(bytes) => bytes.clone(),
                Body::Run(byte, len) => vec![*byte; usize::from(*len) % 2000],
                Body::Planted => written.clone(),
            };
            headers.push(append(&mut written, position, kind.get(), &body));
        }
        written.resize(written.len() + usize::from(self.zeros), 0);
        let frames: Vec<_> = Scan::new(&header(), BASE, &written).collect();
        assert!(frames.iter().map(|frame| frame.1).eq(headers.iter().copied()), "{self:?}");

        let mut now = written.clone();
        self.damage.iter().for_each(|damage| damage.apply(&mut now));
        let mut scan = Scan::new(&header(), BASE, &now);
        let read: Vec<_> = scan.by_ref().collect();
        let end = scan.end();
        assert!(frames.starts_with(&read), "other frames than were written: {self:?}");
        if read.len() == frames.len() && end.cause == Cause::Clean {
            let (longer, shorter) =
                if now.len() > written.len() { (&now, &written) } else { (&written, &now) };
            assert!(longer.starts_with(shorter), "unnoticed: {self:?}");
        }
        let later = find_later(&header(), &now[end.offset..], end.last);
        assert!(later.is_none_or(|later| headers[read.len()..].contains(&later)), "{self:?}");
    }
}

fn append(file: &mut Vec<u8>, position: u64, kind: u8, body: &[u8]) -> Header {
    let body_sum = body_sum(body, header().body_seed);
    let durable = position.saturating_sub(2);
    let head = Header { body_len: body.len() as u32, kind, position, durable, body_sum };
    file.extend_from_slice(&head.encode(header().salt));
    file.extend_from_slice(body);
    file.resize(file.len() + padded(body.len()) - body.len(), 0);
    head
}

impl Damage {
    fn apply(&self, file: &mut Vec<u8>) {
        let len = file.len();
        let sector = |index: u8| usize::from(index) % (len / SECTOR).max(1) * SECTOR;
        match *self {
            Damage::Change(at, with) if len > 0 => file[usize::from(at) % len] ^= with,
            Damage::Cut(to) => file.truncate(usize::from(to)),
            Damage::Zeros(from, to) => {
                if let Some(bytes) = file.get_mut(usize::from(from)..usize::from(to)) {
                    bytes.fill(0);
                }
            }
            Damage::CopySector(from, to) if len >= SECTOR => {
                file.copy_within(sector(from)..sector(from) + SECTOR, sector(to));
            }
            Damage::SwapSectors(one, two) if len >= SECTOR => {
                let kept = file[sector(one)..sector(one) + SECTOR].to_vec();
                file.copy_within(sector(two)..sector(two) + SECTOR, sector(one));
                file[sector(two)..sector(two) + SECTOR].copy_from_slice(&kept);
            }
            _ => {}
        }
    }
}
