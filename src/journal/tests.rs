//! Segments with frames of all kinds: what is in the files already, and whatever can happen to it.
//!
//! A log that reads a damaged file must never take something else for what was written. So every
//! test of damage demands: the frames that come are the first of those that were written, and
//! where all of them come, the end is not clean.

use proptest::prelude::*;
use uuid::Uuid;

use super::entry::{Entry, Touches};
use super::frame::{BODY_BYTES_MAX, HEADER_BYTES, Header, body_sum, frame_len, padded};
use super::segment::*;
use super::stored::Stored;
use crate::error::Reason;
use crate::token::SessionId;

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn stored() -> Stored<'static> {
    Stored {
        id: SessionId(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        version: 7,
        created_ms: 0x019a_e09e_fc00,
        authenticated_ms: 0x019a_e09e_ffe8,
        seen_ms: 0x019a_e09f_03d0,
        idle_ns: 30 * 60 * 1_000_000_000,
        lifetime_ns: u64::MAX,
        owner: "alice",
        label: "\u{e9}",
        data: &[0x00, 0xff, 0x10],
    }
}

/// The position of the first frame.
const BASE: u64 = 1001;

fn header() -> SegmentHeader {
    SegmentHeader {
        store: Uuid::from_u128(0xa1a2a3a4_b1b2_c1c2_d1d2_d3d4d5d6d7d8),
        epoch: 3,
        sequence: 17,
        salt: 0x5a17_5a17_5a17_5a17,
        body_seed: 0x0b0d_0b0d_0b0d_0b0d,
        wall_ms: 0x019a_e09f_03d0,
        schema: 0x5c_4e3a,
        layout: LAYOUT,
        key: None,
    }
}

/// Appends a frame as a writer does. Every frame knows the one two before it to be durable.
fn append(file: &mut Vec<u8>, position: u64, kind: u8, body: &[u8]) {
    let sum = body_sum(body, header().body_seed);
    let (body_len, durable) = (body.len() as u32, position - 2);
    let head = Header { body_len, kind, position, durable, body_sum: sum };
    file.extend_from_slice(&head.encode(header().salt));
    file.extend_from_slice(body);
    file.resize(file.len() + padded(body.len()) - body.len(), 0);
}

/// One body of each kind.
fn one_of_each() -> Vec<(u8, Vec<u8>)> {
    let id = stored().id;
    let mut touches = Vec::new();
    Touches::append(&mut touches, id, 0x1122);
    Touches::append(&mut touches, SessionId(1), u64::MAX);
    let entries = [
        Entry::Put(stored()),
        Entry::End { id, reason: Reason::Revoked, at_ms: 0x0102_0304 },
        Entry::Move { old: SessionId(2), at_ms: 3, alias_until_ms: 0x0405, new: stored() },
        Entry::Touch(Touches::of(&touches).unwrap()),
        Entry::Mark { wall_ms: 0x0807_0605_0403_0201 },
    ];
    let body = |entry: Entry<'_>| {
        let mut body = Vec::new();
        entry.encode_into(&mut body);
        (entry.kind(), body)
    };
    entries.map(body).to_vec()
}

/// A segment of 14 frames, each kind several times, of 40 to 1,900 bytes, with zeros behind.
fn mixed() -> Vec<u8> {
    let mut file = header().encode().to_vec();
    let mut position = BASE;
    for round in 0..3_usize {
        for (kind, mut body) in one_of_each() {
            if kind == 1 {
                body.resize(body.len() + 611 * round + 3, 0xa5);
            } else if kind == 5 && round == 1 {
                continue;
            }
            append(&mut file, position, kind, &body);
            position += 1;
        }
    }
    file.resize(file.len().next_multiple_of(512) + 1024, 0);
    file
}

type Frames<'a> = Vec<(usize, Header, &'a [u8])>;

fn read(file: &[u8]) -> Result<(Frames<'_>, End), HeaderProblem> {
    let header = SegmentHeader::decode(file)?;
    let mut scan = Scan::new(&header, BASE, &file[SEGMENT_HEADER_BYTES..]);
    let frames = scan.by_ref().collect();
    Ok((frames, scan.end()))
}

/// What was written is told from what is there now.
fn assert_noticed(written: &[u8], now: &[u8], how: &dyn Fn() -> String) {
    let Ok((frames, end)) = read(now) else { return };
    let (expected, _) = read(written).unwrap();
    assert!(expected.starts_with(&frames), "{}: other frames than were written", how());
    assert!(frames.len() < expected.len() || end.cause != Cause::Clean, "{}: unnoticed", how());
}

/// Bytes that are in files already: a change here is a new format. They were computed by another
/// implementation, from the tables on top of the files.
#[test]
fn golden_segment() {
    let frames = "\
        06d8c1888663365d 4a000000 01000000 e903000000000000 e703000000000000 b04e74334ed02308 \
        0123456789abcdef0011223344556677 07000000 0500 0200 00fc9ee09a010000 e8ff9ee09a010000 \
        d0039fe09a010000 00505c18a3010000 ffffffffffffffff 616c696365 c3a9 00ff10 000000000000 \
        a8a82605dbe3e177 19000000 02000000 ea03000000000000 e803000000000000 24fa63fd72d418e5 \
        0123456789abcdef0011223344556677 0403020100000000 04 00000000000000 \
        189e8000d8df1a71 6a000000 03000000 eb03000000000000 e903000000000000 b94a0acccb58c945 \
        00000000000000000000000000000002 0300000000000000 0504000000000000 \
        0123456789abcdef0011223344556677 07000000 0500 0200 00fc9ee09a010000 e8ff9ee09a010000 \
        d0039fe09a010000 00505c18a3010000 ffffffffffffffff 616c696365 c3a9 00ff10 000000000000 \
        cce5c3121acecd13 30000000 04000000 ec03000000000000 ea03000000000000 bdf2ecb1994bd670 \
        0123456789abcdef0011223344556677 2211000000000000 \
        00000000000000000000000000000001 ffffffffffffffff \
        280f5fc61b4fe46d 08000000 05000000 ed03000000000000 eb03000000000000 e9ae747a269ac41b \
        0102030405060708";
    let block = "\
        8a434c4f0d0a1a0a 01020304 0100 0000 00000000 00000000 a1a2a3a4b1b2c1c2d1d2d3d4d5d6d7d8 \
        0300000000000000 1100000000000000 175a175a175a175a 0d0b0d0b0d0b0d0b d0039fe09a010000 \
        3a4e5c0000000000 0801040808040000";
    let mut file = header().encode().to_vec();
    for (position, (kind, body)) in (1001..).zip(one_of_each()) {
        append(&mut file, position, kind, &body);
    }
    let (start, rest) = file.split_at(96);
    assert_eq!(hex(start), block.replace(' ', ""));
    let (zeros, rest) = rest.split_at(SEGMENT_HEADER_BYTES - 96 - 8);
    assert!(zeros.iter().all(|&byte| byte == 0));
    let (sum, rest) = rest.split_at(8);
    assert_eq!(hex(sum), "93d9f26dcae6b4a1");
    assert_eq!(hex(rest), frames.replace(' ', ""));
    assert_eq!(SegmentHeader::decode(&file), Ok(header()));
}

/// What rkyv writes, for the layout that the header names: if it changes, so must that number.
#[test]
fn golden_layout() {
    let value = ("in line".to_owned(), "not in line".to_owned(), 0x0102_0304_u32, 5_usize);
    let archive = rkyv::to_bytes::<rkyv::rancor::Error>(&value).unwrap();
    let text = "6e6f7420696e206c696e65 00 696e206c696e65ff 8b000000ecffffff 04030201 05000000";
    assert_eq!(hex(&archive), text.replace(' ', ""));
    assert_eq!(hex(&LAYOUT.to_le_bytes()), "0801040808040000");
}

#[test]
fn frames_come_back_with_the_link_to_the_next_segment() {
    let file = mixed();
    let (frames, end) = read(&file).unwrap();
    assert_eq!(frames.len(), 14);
    let mut kinds = [0; 6];
    for (index, (offset, header, body)) in frames.iter().enumerate() {
        assert_eq!(header.position, 1001 + index as u64);
        let next = frames.get(index + 1).map_or(end.offset, |next| next.0);
        assert_eq!(next, offset + frame_len(body.len()));
        assert_eq!(Entry::decode(header.kind, body).unwrap().kind(), header.kind);
        kinds[usize::from(header.kind)] += 1;
    }
    assert_eq!(kinds, [0, 3, 3, 3, 3, 2]);
    let (_, last, _) = frames[13];
    let chain = u64::from_le_bytes(*last.encode(header().salt).first_chunk().unwrap());
    assert_eq!(end, End { offset: end.offset, last: 1014, chain, cause: Cause::Clean });
    let (frames, end) = read(&file[..SEGMENT_HEADER_BYTES]).unwrap();
    assert!(frames.is_empty());
    assert_eq!(end, End { offset: 0, last: 1000, chain: 0, cause: Cause::Clean });
}

#[test]
fn every_flipped_bit_is_noticed() {
    let written = mixed();
    let mut now = written.clone();
    for bit in 0..8 * now.len() {
        now[bit / 8] ^= 1 << (bit % 8);
        assert_noticed(&written, &now, &|| format!("bit {bit}"));
        now[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(now == written);
}

#[test]
fn every_truncation_stops_cleanly() {
    let written = mixed();
    let (expected, whole) = read(&written).unwrap();
    for len in 0..=written.len() {
        let Ok((frames, end)) = read(&written[..len]) else {
            assert_eq!(SegmentHeader::decode(&written[..len]), Err(HeaderProblem::Short));
            assert!(len < SEGMENT_HEADER_BYTES);
            continue;
        };
        let left = len - SEGMENT_HEADER_BYTES;
        let complete = expected.iter().filter(|(at, h, _)| at + h.frame_len() <= left).count();
        assert_eq!(frames, expected[..complete]);
        assert_eq!(end.last, 1000 + complete as u64);
        let on_a_boundary = end.offset == left || end.offset == whole.offset;
        assert_eq!(end.cause == Cause::Clean, on_a_boundary, "cut to {len}: {end:?}");
        assert_eq!(
            find_later(&header(), &written[SEGMENT_HEADER_BYTES..len][end.offset..], 0),
            None
        );
    }
}

/// Disks write sectors: whole ones get lost, or end up elsewhere.
#[test]
fn lost_and_misplaced_sectors_are_noticed() {
    const SECTOR: usize = 512;
    let written = mixed();
    let count = written.len() / SECTOR;
    let sector = |index: usize| index * SECTOR..(index + 1) * SECTOR;
    // How many zeros there are at the end is nobody's concern.
    let trimmed = |file: &[u8]| file.iter().rposition(|&byte| byte != 0);
    let check = |now: &[u8], how: &dyn Fn() -> String| {
        let len = trimmed(&written);
        if trimmed(now) != len || now[..=len.unwrap()] != written[..=len.unwrap()] {
            assert_noticed(&written, now, how);
        }
    };
    for one in 0..count {
        for filler in [0x00, 0xff] {
            let mut now = written.clone();
            now[sector(one)].fill(filler);
            check(&now, &|| format!("sector {one} filled with {filler}"));
        }
        for two in 0..count {
            let mut now = written.clone();
            now.copy_within(sector(one), two * SECTOR);
            check(&now, &|| format!("sector {one} copied to {two}"));
            now[sector(one)].copy_from_slice(&written[sector(two)]);
            check(&now, &|| format!("sectors {one} and {two} swapped"));
            now = written.clone();
            now.splice(two * SECTOR..two * SECTOR, written[sector(one)].iter().copied());
            check(&now, &|| format!("sector {one} inserted before {two}"));
        }
    }
}

#[test]
fn foreign_frames_do_not_count() {
    let mut file = mixed();
    for change in [
        |header: &mut SegmentHeader| header.salt += 1,
        |header: &mut SegmentHeader| header.body_seed += 1,
    ] {
        let mut other = header();
        change(&mut other);
        file[..SEGMENT_HEADER_BYTES].copy_from_slice(&other.encode());
        let (frames, end) = read(&file).unwrap();
        assert!(frames.is_empty() && end.cause != Cause::Clean, "{end:?}");
    }
}

/// Rot of a frame that was durable is told from a tail that never was.
#[test]
fn damage_below_the_watermark_is_told_from_a_torn_tail() {
    let written = mixed();
    let (expected, _) = read(&written).unwrap();
    for (index, &(offset, damaged, _)) in expected.iter().enumerate() {
        let at = SEGMENT_HEADER_BYTES + offset;
        for (from, to) in [(0, 8), (0, HEADER_BYTES), (HEADER_BYTES, damaged.frame_len())] {
            let mut now = written.clone();
            now[at + from..at + to].fill(0xee);
            let (frames, end) = read(&now).unwrap();
            assert_eq!((frames.len(), end.last + 1), (index, damaged.position));
            let later = find_later(&header(), &now[at..], end.last);
            let durable = later.map_or(0, |later| later.durable);
            // Frames know the one two before them to be durable.
            assert_eq!(durable >= damaged.position, index < 12, "frame {index}: {later:?}");
            assert_eq!(later.is_some(), index < 13);
        }
    }
}

/// A client who knew the salt could plant a copy of a frame in a session's data.
#[test]
fn a_frame_inside_of_a_body_is_never_read() {
    let mut file = header().encode().to_vec();
    append(&mut file, 1001, 2, &one_of_each()[1].1);
    append(&mut file, 1002, 5, &[1; 8]);
    let planted = file[SEGMENT_HEADER_BYTES..].repeat(3);
    let data = Stored { owner: "", label: "", data: &planted, ..stored() };
    let mut body = Vec::new();
    Entry::Put(data).encode_into(&mut body);
    assert!((HEADER_BYTES + body.len() - planted.len()).is_multiple_of(8), "where frames begin");
    let at = file.len();
    append(&mut file, 1003, 1, &body);
    let behind = file.len();
    append(&mut file, 1004, 5, &[2; 8]);

    let (frames, end) = read(&file).unwrap();
    let positions: Vec<u64> = frames.iter().map(|(_, header, _)| header.position).collect();
    assert_eq!((positions, end.cause), (vec![1001, 1002, 1003, 1004], Cause::Clean));

    // Neither where the frame around it is gone: its header, its beginning, or its end.
    for (from, to) in [(at, at + 40), (at, at + 104), (behind - 8, behind), (at, at + 200)] {
        let mut now = file.clone();
        now[from..to].fill(0);
        let (frames, end) = read(&now).unwrap();
        assert_eq!((frames.len(), end.last), (2, 1002));
        let rest = &now[SEGMENT_HEADER_BYTES..][end.offset..];
        assert_eq!(find_later(&header(), rest, end.last).map(|later| later.position), Some(1004));
        let without_the_last = &rest[..behind - at];
        assert_eq!(find_later(&header(), without_the_last, end.last), None);
    }
}

/// Who knows the salt can plant any frame; but not inside of one that counts.
#[test]
fn a_forged_frame_proves_nothing_from_inside_of_another() {
    let mut forged = Vec::new();
    append(&mut forged, 2000, 5, &[1; 8]);
    let mut file = header().encode().to_vec();
    append(&mut file, 1001, 5, &[2; 8]);
    append(&mut file, 1002, 1, &forged);
    file[SEGMENT_HEADER_BYTES] ^= 1;
    let (_, end) = read(&file).unwrap();
    let later = find_later(&header(), &file[SEGMENT_HEADER_BYTES..], end.last);
    assert_eq!(later.map(|later| (later.position, later.durable)), Some((1002, 1000)));
}

#[test]
fn a_stop_says_what_it_found() {
    let written = mixed();
    let (frames, end) = read(&written).unwrap();
    let (first, second) = (SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES + frames[1].0);
    let stop = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut now = written.clone();
        change(&mut now);
        read(&now).unwrap().1.cause
    };
    assert_eq!(stop(&|now| now[first..second].fill(0)), Cause::Torn(Torn::Hole));
    assert_eq!(stop(&|now| now[second] ^= 1), Cause::Torn(Torn::Header));
    assert_eq!(stop(&|now| now[second - 1] = 1), Cause::Torn(Torn::Padding));
    assert_eq!(stop(&|now| now[second - 8] ^= 1), Cause::Torn(Torn::Body));
    assert_eq!(stop(&|now| now.truncate(second - 1)), Cause::Torn(Torn::Length));
    assert_eq!(stop(&|now| now.truncate(second + 39)), Cause::Torn(Torn::Short));
    assert_eq!(stop(&|now| drop(now.drain(first..second))), Cause::Torn(Torn::Position(1002)));
    assert_eq!(stop(&|now| now.truncate(first + end.offset + 7)), Cause::Clean);
    for len in [BODY_BYTES_MAX as u32, u32::MAX] {
        // With a right sum: the longest that is allowed, and what no length can be.
        let head = Header { body_len: BODY_BYTES_MAX as u32, ..frames[0].1 };
        let mut head = head.encode(header().salt);
        head[8..12].copy_from_slice(&len.to_le_bytes());
        let sum = super::frame::head_sum(&head, header().salt);
        head[..8].copy_from_slice(&sum.to_le_bytes());
        let expected = if len == u32::MAX { Torn::Header } else { Torn::Length };
        let cause = stop(&|now| now[first..first + 40].copy_from_slice(&head));
        assert_eq!(cause, Cause::Torn(expected));
    }
}

/// A header block with a right checksum, whatever it says.
fn forged(at: usize, bytes: &[u8]) -> Result<SegmentHeader, HeaderProblem> {
    let mut block = header().encode();
    block[at..at + bytes.len()].copy_from_slice(bytes);
    let sum = xxhash_rust::xxh3::xxh3_64(&block[..SEGMENT_HEADER_BYTES - 8]);
    block[SEGMENT_HEADER_BYTES - 8..].copy_from_slice(&sum.to_le_bytes());
    SegmentHeader::decode(&block)
}

#[test]
fn headers_of_others_are_told_apart() {
    let newer = |major, minor| Err(HeaderProblem::Newer { major, minor });
    assert_eq!(forged(12, &[2, 0, 7, 0]), newer(2, 7));
    assert_eq!(forged(12, &[0xff, 0xff, 0, 0]), newer(u16::MAX, 0));
    assert_eq!(forged(12, &[0, 0]), Err(HeaderProblem::Damaged));
    assert_eq!(forged(14, &[9, 9]), Ok(header()), "a minor format only adds");
    assert_eq!(forged(16, &[0, 1, 0, 0x80]), Err(HeaderProblem::UnknownFlags(0x8000_0100)));
    assert_eq!(forged(8, &[4, 3, 2, 1]), Err(HeaderProblem::OtherByteOrder));
    assert_eq!(forged(8, &[0]), Err(HeaderProblem::Damaged));
    assert_eq!(forged(0, b"\x89PNG\r\n\x1a\n"), Err(HeaderProblem::NotOurs));
    assert_eq!(forged(0, &[0; 8]), Err(HeaderProblem::Damaged), "its first sector is missing");
    assert_eq!(SegmentHeader::decode(&[]), Err(HeaderProblem::Short));
    assert_eq!(SegmentHeader::decode(&[0; 4096]), Err(HeaderProblem::Damaged));
    assert_eq!(SegmentHeader::decode(&[0xff; 4096]), Err(HeaderProblem::NotOurs));
    // A flipped bit of the version is damage, not another version.
    let mut block = header().encode();
    block[12] ^= 2;
    assert_eq!(SegmentHeader::decode(&block), Err(HeaderProblem::Damaged));
}

#[test]
fn names_have_one_form() {
    let name = header().name();
    assert_eq!(name.to_string(), "log-0000000000000003-0000000000000011.seg");
    for miss in [
        "",
        "log-",
        "log-.seg",
        "log--.seg",
        "log-3-11.seg",
        "log-0000000000000003-0000000000000011",
        "log-0000000000000003-0000000000000011.se",
        "log-0000000000000003-0000000000000011.seg.tmp",
        "log-0000000000000003-0000000000000011.SEG",
        " log-0000000000000003-0000000000000011.seg",
        "log-0000000000000003-0000000000000011.seg\n",
        "._log-0000000000000003-0000000000000011.seg",
        "log-000000000000000A-0000000000000011.seg",
        "log-+000000000000003-0000000000000011.seg",
        "log-00000000000000003-000000000000011.seg",
        "log-0000000000000003-00000000000000111.seg",
        "log-0000000000000003-000000000000001g.seg",
        "log-0000000000000003_0000000000000011.seg",
        "log-0000000000000003-0000000000000011-1.seg",
        "log-000000000000000\u{e9}-0000000000000011.seg",
    ] {
        assert_eq!(SegmentName::parse(miss), None, "{miss:?}");
    }
}

proptest! {
    #[test]
    fn names_come_back_in_their_order(numbers: [u64; 4]) {
        let [epoch, sequence, other_epoch, other_sequence] = numbers;
        let name = SegmentName { epoch, sequence };
        let other = SegmentName { epoch: other_epoch, sequence: other_sequence };
        prop_assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
        prop_assert_eq!(name.cmp(&other), (epoch, sequence).cmp(&(other_epoch, other_sequence)));
        prop_assert_eq!(name.cmp(&other), name.to_string().cmp(&other.to_string()));
    }

    #[test]
    fn headers_come_back(store: u128, numbers: [u64; 7], key: Option<[u8; 4]>) {
        let [epoch, sequence, salt, body_seed, wall_ms, schema, layout] = numbers;
        let header = SegmentHeader {
            store: Uuid::from_u128(store),
            epoch,
            sequence,
            salt,
            body_seed,
            wall_ms,
            schema,
            layout,
            key,
        };
        prop_assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn any_frames_come_back(
        bodies in prop::collection::vec(
            (1_u8.., prop::collection::vec(any::<u8>(), 0..100)), 0..20),
        zeros in 0..100_usize,
    ) {
        let mut file = header().encode().to_vec();
        for (position, (kind, body)) in (1001..).zip(&bodies) {
            append(&mut file, position, *kind, body);
        }
        let len = file.len();
        file.resize(len + zeros, 0);
        let (frames, end) = read(&file).unwrap();
        let read: Vec<_> = frames.iter().map(|(_, h, body)| (h.kind, body.to_vec())).collect();
        prop_assert_eq!(read, bodies);
        prop_assert_eq!((end.offset, end.cause), (len - SEGMENT_HEADER_BYTES, Cause::Clean));
    }

    #[test]
    fn any_bytes_are_walked_over(bytes in prop::collection::vec(any::<u8>(), 0..300), last: u64) {
        let end = Scan::new(&header(), BASE, &bytes).end();
        prop_assert_eq!((end.offset, end.last), (0, 1000));
        prop_assert_eq!(find_later(&header(), &bytes, last), None);
    }
}
