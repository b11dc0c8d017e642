//! A snapshot gives back what was written, or says that it cannot. The failure that these tests
//! guard against is the third way: bytes that are not the session's, a session that is there but
//! not found, a panic, an endless loop.

use std::collections::BTreeMap;
use std::io;

use proptest::prelude::*;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::SnapshotProblem::{Damaged, Newer, NotOurs, OtherByteOrder, Short, Unfinished};
use super::layout::{self, Header, PAGE_LEN};
use super::write::CHUNK_LEN;
use super::*;
use crate::journal::stored::Stored;
use crate::record::{DATA_BYTES_MAX, TEXT_BYTES_MAX};
use crate::token::SessionId;

/// A file in memory, with the list of its writes.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    writes: Vec<(u64, Vec<u8>)>,
    attempts: usize,
    /// The attempt with this number fails, the next one would succeed.
    fails_at: Option<usize>,
}

impl Memory {
    fn apply(&mut self, bytes: &[u8], offset: u64) {
        let (begin, end) = (offset as usize, offset as usize + bytes.len());
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[begin..end].copy_from_slice(bytes);
    }
}

impl Sink for Memory {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.attempts += 1;
        if self.fails_at == Some(self.attempts - 1) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.writes.push((offset, bytes.to_vec()));
        self.apply(bytes, offset);
        Ok(())
    }
}

/// A session or an alias that owns its bytes.
#[derive(Clone, PartialEq, Debug)]
enum Entry {
    Session { id: SessionId, version: u32, owner: String, data: Vec<u8> },
    Alias(Alias),
}

impl Entry {
    fn found(&self) -> Found<'_> {
        match self {
            Entry::Session { id, version, owner, data } => Found::Session(Stored {
                id: *id,
                version: *version,
                created_ms: 1_700_000_000_000,
                authenticated_ms: 1_700_000_000_001,
                seen_ms: 1_700_000_000_002,
                idle_ns: 1_800_000_000_000,
                lifetime_ns: u64::MAX,
                owner,
                label: "Firefox on Linux",
                data,
            }),
            Entry::Alias(alias) => Found::Alias(*alias),
        }
    }

    fn id(&self) -> SessionId {
        self.found().id()
    }

    fn owner(&self) -> &str {
        match self.found() {
            Found::Session(stored) => stored.owner,
            Found::Alias(_) => "",
        }
    }
}

fn mixed(n: u64) -> SessionId {
    let half = |n: u64| xxh3_64(&n.to_le_bytes());
    SessionId::from_halves(half(n), half(!n))
}

/// Every seventh is an alias, every third session belongs to nobody, nine own the others.
fn sample(n: u64) -> Entry {
    if n % 7 == 6 {
        return Entry::Alias(Alias { id: mixed(n), successor: mixed(n - 1), until_ms: n });
    }
    let owner = if n.is_multiple_of(3) { String::new() } else { format!("owner {}", n % 9) };
    let data = (0..n % 61).map(|byte| (byte * n) as u8).collect();
    Entry::Session { id: mixed(n), version: n as u32, owner, data }
}

fn samples(count: u64) -> Vec<Entry> {
    (0..count).map(sample).collect()
}

const FIELDS: HeaderFields = HeaderFields {
    store: Uuid::from_u128(0x1011_1213_1415_1617_1819_1a1b_1c1d_1e1f),
    generation: 0x2726_2524_2322_2120,
    salt: 0x2f2e_2d2c_2b2a_2928,
    high_water_ms: 0x3736_3534_3332_3130,
    schema: 0x3f3e_3d3c_3b3a_3938,
    layout: 0x4746_4544_4342_4140,
    replay_from: LogPosition {
        epoch: 0x4f4e_4d4c_4b4a_4948,
        sequence: 0x5756_5554_5352_5150,
        position: 0x5f5e_5d5c_5b5a_5958,
    },
    key: None,
};

fn writer(file: &mut Memory) -> Writer<&mut Memory> {
    Writer::new(file, FIELDS)
}

fn push(writer: &mut Writer<&mut Memory>, entry: &Entry) -> io::Result<()> {
    match entry.found() {
        Found::Session(stored) => writer.push(&stored),
        Found::Alias(alias) => writer.push_alias(alias),
    }
}

fn written(entries: &[Entry]) -> (Memory, Summary) {
    let mut file = Memory::default();
    let mut writer = writer(&mut file);
    entries.iter().for_each(|entry| push(&mut writer, entry).expect("room"));
    let summary = writer.finish().expect("room");
    (file, summary)
}

/// The entries that can be found, in the order of the file.
fn live(entries: &[Entry]) -> Vec<&Entry> {
    let last: BTreeMap<SessionId, usize> =
        entries.iter().enumerate().map(|(index, entry)| (entry.id(), index)).collect();
    let mut indexes: Vec<usize> = last.into_values().collect();
    indexes.sort_unstable();
    indexes.into_iter().map(|index| &entries[index]).collect()
}

/// Asks for everything. Whatever is answered has to be right; says whether any damage was told.
fn ask(snapshot: &Snapshot<&[u8]>, entries: &[Entry]) -> bool {
    let mut is_damaged = false;
    let live = live(entries);
    for entry in &live {
        match snapshot.find(entry.id()) {
            Ok(found) => assert_eq!(found.map(|(_, found)| found), Some(entry.found())),
            Err(_) => is_damaged = true,
        }
        let stranger = SessionId(entry.id().0 ^ 1 << 20);
        match snapshot.find(stranger) {
            Ok(found) => assert_eq!(found, None),
            Err(_) => is_damaged = true,
        }
    }
    let mut expected = live.iter();
    for item in snapshot.entries() {
        match item {
            Ok((_, found)) => assert_eq!(Some(found), expected.next().map(|e| e.found())),
            Err(_) => is_damaged = true,
        }
    }
    assert!(is_damaged || expected.next().is_none(), "a walk that ended early");
    let mut owners: Vec<&str> = live.iter().map(|entry| entry.owner()).collect();
    owners.sort_unstable();
    owners.dedup();
    for owner in owners.into_iter().chain(["nobody"]).filter(|owner| !owner.is_empty()) {
        let mut expected = live.iter().filter(|entry| entry.owner() == owner);
        let mut is_complete = true;
        for item in snapshot.owned(owner) {
            match item {
                Ok((_, stored)) => {
                    let next = expected.next().map(|entry| entry.found());
                    assert_eq!(Some(Found::Session(stored)), next);
                }
                Err(_) => is_complete = false,
            }
        }
        assert!(!is_complete || expected.next().is_none(), "a session not listed");
        is_damaged |= !is_complete;
    }
    is_damaged
}

/// What is wrong with the file, if anything is.
fn problem(bytes: &[u8], entries: &[Entry]) -> Option<SnapshotProblem> {
    match Snapshot::open(bytes) {
        Err(problem) => Some(problem),
        Ok(snapshot) => {
            let is_damaged = ask(&snapshot, entries);
            let damage = snapshot.verify(|_, _| {}).err();
            assert!(!is_damaged || damage.is_some(), "verify saw less than a lookup");
            damage.map(Damaged)
        }
    }
}

fn small() -> (Vec<Entry>, Vec<u8>) {
    let mut entries = samples(12);
    entries.push(Entry::Session { id: mixed(4), version: 9, owner: "x".into(), data: vec![4; 99] });
    let bytes = written(&entries).0.bytes;
    (entries, bytes)
}

#[test]
fn what_was_written_is_found() {
    for count in [0, 1, 2, 1000, 50_000] {
        let entries = samples(count);
        let (file, summary) = written(&entries);
        assert_eq!((summary.counts.entries, summary.counts.superseded), (count, 0));
        assert_eq!(summary.bytes, file.bytes.len() as u64);
        assert_eq!(problem(&file.bytes, &entries), None, "{count}");
        let snapshot = Snapshot::open(&file.bytes[..]).expect("whole");
        assert_eq!((snapshot.fields(), snapshot.counts()), (FIELDS, summary.counts));
        let ends = [0, u128::MAX].map(SessionId);
        for id in (0..200_000).step_by(7).map(|n| mixed(count + n)).chain(ends) {
            assert_eq!(snapshot.find(id), Ok(None));
        }
    }
}

/// A lookup costs one probe: whatever is mapped but not asked for is not looked at either.
#[test]
fn opening_looks_at_nothing_else() {
    let entries = samples(1000);
    let (file, _) = written(&entries);
    let header = Header::decode(file.bytes.first_chunk().expect("a header")).expect("valid");
    let mut bytes = file.bytes.clone();
    bytes[4096..header.file_len as usize - 64].fill(0xee);
    let snapshot = Snapshot::open(&bytes[..]).expect("only header and trailer are read");
    let slots = Damage { what: Section::Slots, offset: header.slots.offset };
    assert_eq!(snapshot.find(SessionId(0)), Err(slots));
    assert!(matches!(snapshot.entries().next(), Some(Err(Damage { what: Section::Chunks, .. }))));
    assert!(snapshot.verify(|_, _| {}).is_err());

    // The other way round: all but one entry with its slots is lost, and that one is found.
    let sound = Snapshot::open(&file.bytes[..]).expect("whole");
    let (EntryOffset(offset), found) = sound.find(mixed(501)).expect("sound").expect("there");
    let mut bytes = file.bytes.clone();
    bytes[4096..offset as usize].fill(0);
    bytes[header.owners.offset as usize..header.chunks.end().expect("end") as usize].fill(0);
    let snapshot = Snapshot::open(&bytes[..]).expect("only header and trailer are read");
    assert_eq!(snapshot.find(mixed(501)), Ok(Some((EntryOffset(offset), found))));
}

#[test]
fn the_later_push_wins() {
    let mut entries = samples(100);
    let session = |id, version: u32| {
        let owner = format!("owner {}", version % 3);
        Entry::Session { id, version, owner, data: vec![version as u8; 5] }
    };
    for version in 1000..1300 {
        entries.push(session(mixed(u64::from(version % 50)), version));
    }
    // A session that becomes an alias, an alias that becomes a session.
    entries.push(Entry::Alias(Alias { id: mixed(1), successor: mixed(2), until_ms: 6 }));
    entries.push(session(mixed(6), 1));
    let (file, summary) = written(&entries);
    assert_eq!((summary.counts.entries, summary.counts.live()), (402, 100));
    assert_eq!(problem(&file.bytes, &entries), None);
}

/// Ids that share all bits by which they are sought, more than a chunk of slots apart, at the end.
#[test]
fn crowded_ids_are_found() {
    let session = |id| {
        let (id, owner) = (SessionId(id), String::new());
        Entry::Session { id, version: 0, owner, data: vec![] }
    };
    for crowd in [0, mixed(1).0 >> 20 << 20, u128::MAX >> 20 << 20] {
        let entries: Vec<_> = (0..300).map(|n| session(crowd | n)).collect();
        assert_eq!(problem(&written(&entries).0.bytes, &entries), None, "{crowd:x}");
    }
    let mut entries: Vec<_> = (0..20_000).map(|n| session(u128::MAX - mixed(n).0 % 1000)).collect();
    entries.push(session(0));
    assert_eq!(problem(&written(&entries).0.bytes, &entries), None);
}

#[test]
fn an_owner_has_many_sessions() {
    let session = |n, owner: &str| Entry::Session {
        id: mixed(n),
        version: 0,
        owner: owner.to_owned(),
        data: vec![],
    };
    let entries: Vec<_> =
        (0..9000).map(|n| session(n, if n % 9 == 0 { "few" } else { "many" })).collect();
    let (file, summary) = written(&entries);
    assert_eq!(summary.counts.owned, 9000);
    let snapshot = Snapshot::open(&file.bytes[..]).expect("whole");
    assert_eq!(snapshot.owned("many").count(), 8000);
    assert_eq!(problem(&file.bytes, &entries), None);
}

/// Two owners with the same hash see each their own sessions.
#[test]
fn owners_of_equal_hash_are_told_apart() {
    let mut file = Memory::default();
    let mut writer = writer(&mut file);
    let hash = layout::owner_hash(FIELDS.salt, "alice");
    let owner = |n: u64| if n.is_multiple_of(2) { "alice" } else { "mallory" };
    let entries: Vec<_> = (0..10)
        .map(|n| Entry::Session { id: mixed(n), version: 0, owner: owner(n).into(), data: vec![] })
        .collect();
    for entry in &entries {
        let Found::Session(stored) = entry.found() else { unreachable!() };
        writer.push_hashed(&stored, hash).expect("room");
    }
    writer.finish().expect("room");
    let snapshot = Snapshot::open(&file.bytes[..]).expect("whole");
    let ids: Vec<SessionId> =
        snapshot.owned("alice").map(|item| item.expect("sound").1.id).collect();
    assert_eq!(ids, [0, 2, 4, 6, 8].map(mixed));
    assert_eq!(snapshot.owned("mallory").count(), 0, "sought by another hash");
}

#[test]
fn a_walk_goes_on_where_it_stopped() {
    let mut entries = samples(9000);
    entries.extend((0..4000).map(|n| match sample(n * 2) {
        Entry::Session { id, version, owner, .. } => {
            Entry::Session { id, version: version + 1, owner, data: vec![1; 100] }
        }
        alias @ Entry::Alias(_) => alias,
    }));
    let (file, _) = written(&entries);
    let snapshot = Snapshot::open(&file.bytes[..]).expect("whole");
    let mut expected = live(&entries).into_iter();
    let mut from = EntryOffset(0);
    loop {
        let mut walk = snapshot.entries_since(from);
        for _ in 0..250 {
            let Some(item) = walk.next() else { break };
            let (offset, found) = item.expect("sound");
            assert!(offset >= from && offset < walk.position());
            assert_eq!(Some(found), expected.next().map(Entry::found));
        }
        if walk.position() == from {
            break;
        }
        from = walk.position();
    }
    assert!(expected.next().is_none());
    assert!(snapshot.entries_since(EntryOffset(u64::MAX)).next().is_none());
}

/// Each bit of the file matters, or is one of the zeros between two sections.
#[test]
fn every_flipped_bit_is_told() {
    let (entries, mut bytes) = small();
    assert_eq!(problem(&bytes, &entries), None);
    for place in 0..bytes.len() {
        for bit in 0..8 {
            bytes[place] ^= 1 << bit;
            assert!(problem(&bytes, &entries).is_some(), "bit {bit} of byte {place}");
            bytes[place] ^= 1 << bit;
        }
    }
}

#[test]
fn every_cut_is_told() {
    let (entries, mut bytes) = small();
    for len in 0..bytes.len() {
        let problem = problem(&bytes[..len], &entries);
        assert!(matches!(problem, Some(Short { .. })), "{len}: {problem:?}");
    }
    bytes.push(0);
    assert!(matches!(problem(&bytes, &entries), Some(Damaged(_))));
}

/// A disk loses a sector, or writes it to another's place.
#[test]
fn sectors_lost_or_swapped_are_told() {
    const SECTOR: usize = 512;
    let (entries, bytes) = small();
    let sector =
        |bytes: &[u8], n: usize| bytes[n * SECTOR..bytes.len().min(n * SECTOR + SECTOR)].to_vec();
    let count = bytes.len() / SECTOR;
    for a in 0..count {
        for b in 0..count {
            let mut other = bytes.clone();
            let (from, to) = (sector(&bytes, a), sector(&bytes, b));
            other[b * SECTOR..][..SECTOR].copy_from_slice(&from);
            if a < b {
                other[a * SECTOR..][..SECTOR].copy_from_slice(&to);
            }
            assert_eq!(problem(&other, &entries).is_some(), from != to, "{a} and {b}");
        }
        for byte in [0, 0xff] {
            let mut other = bytes.clone();
            other[a * SECTOR..][..SECTOR].fill(byte);
            assert_eq!(problem(&other, &entries).is_some(), other != bytes, "{a}: {byte}");
        }
    }
}

/// The same sessions in another file, of another salt: no section of it fits into this one.
#[test]
fn pages_of_another_snapshot_are_told() {
    let (entries, bytes) = small();
    let mut file = Memory::default();
    let mut writer = Writer::new(&mut file, HeaderFields { salt: 1, ..FIELDS });
    entries.iter().for_each(|entry| push(&mut writer, entry).expect("room"));
    writer.finish().expect("room");
    assert_eq!(problem(&file.bytes, &entries), None);
    for page in (0..bytes.len()).step_by(4096) {
        let mut mixed = bytes.clone();
        let end = bytes.len().min(page + 4096);
        mixed[page..end].copy_from_slice(&file.bytes[page..end]);
        assert_eq!(problem(&mixed, &entries).is_some(), mixed != bytes, "{page}");
    }
}

/// Computes all checksums anew, as somebody would who forges a file.
fn reseal(bytes: &mut [u8], header: &Header) {
    let salt = header.fields.salt;
    let (slots, sums) = (header.slots.offset as usize, header.sums.offset as usize);
    for page in (slots..sums).step_by(PAGE_LEN as usize) {
        let sum = layout::sum(salt, page as u64, &bytes[page..page + PAGE_LEN as usize]);
        let at = sums + (page - slots) / 512;
        bytes[at..at + 8].copy_from_slice(&sum.to_le_bytes());
    }
    let all = &bytes[sums..sums + header.sums.len as usize];
    let header = Header { sums_sum: layout::sum(salt, sums as u64, all), ..*header };
    bytes[..4096].copy_from_slice(&header.encode());
}

/// Uses everything; the answers may be anything, but they come.
fn exercise(bytes: &[u8], entries: &[Entry]) {
    let Ok(snapshot) = Snapshot::open(bytes) else { return };
    for entry in entries {
        let _ = snapshot.find(entry.id());
        let _ = snapshot.owned(entry.owner()).take(1000).count();
    }
    assert!(snapshot.entries().take(10_000).count() < 10_000);
    let _ = snapshot.entries_since(EntryOffset(5000)).count();
    let _ = snapshot.verify(|_, _| {});
}

/// Whoever can forge checksums gets wrong sessions, but no panic, no loop, no allocation.
#[test]
fn forged_numbers_do_no_harm() {
    let (entries, bytes) = small();
    let header = Header::decode(bytes.first_chunk().expect("a header")).expect("valid");
    let values = |old: u64| {
        let ends = [0, 1, 7, 8, 4095, 4096, u64::MAX, u64::MAX - 7, 1 << 63, bytes.len() as u64];
        let near = [8, 16, 512, 4096].map(|step| [old.wrapping_add(step), old.wrapping_sub(step)]);
        ends.into_iter().chain(near.into_iter().flatten())
    };
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    for at in (104..248).step_by(8) {
        for value in values(number(at)) {
            let mut other = bytes.clone();
            other[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let sum = xxh3_64(&other[..4088]);
            other[4088..4096].copy_from_slice(&sum.to_le_bytes());
            if let Ok(header) = Header::decode(other.first_chunk().expect("a header")) {
                let trailer = other.len() - 64;
                other[trailer..].copy_from_slice(&header.encode_trailer());
            }
            exercise(&other, &entries);
        }
    }
    for at in (header.slots.offset as usize..header.sums.offset as usize).step_by(8) {
        if number(at) == 0 && at % 512 > 64 {
            continue;
        }
        for value in values(number(at)) {
            let mut other = bytes.clone();
            other[at..at + 8].copy_from_slice(&value.to_le_bytes());
            reseal(&mut other, &header);
            exercise(&other, &entries);
        }
    }
}

#[test]
fn problems_are_told_apart() {
    let open = |bytes: &[u8]| Snapshot::open(bytes).err().expect("a problem");
    let (_, bytes) = small();
    let with = |at: usize, new: &[u8]| {
        let mut other = bytes.clone();
        other[at..at + new.len()].copy_from_slice(new);
        let sum = xxh3_64(&other[..4088]);
        other[4088..4096].copy_from_slice(&sum.to_le_bytes());
        other
    };
    assert_eq!(open(b"hello"), NotOurs);
    assert_eq!(open(&[b'x'; 5000]), NotOurs);
    assert_eq!(open(b""), Short { bytes: 0, bytes_needed: 4096 });
    assert_eq!(open(&bytes[..100]), Short { bytes: 100, bytes_needed: 4096 });
    let bytes_needed = bytes.len() as u64;
    assert_eq!(open(&bytes[..5000]), Short { bytes: 5000, bytes_needed });
    assert_eq!(open(&[0; 5000]), Unfinished);
    assert_eq!(open(&with(8, &[2, 0])), Newer { major: 2, minor: 1, flags: 0 });
    assert_eq!(open(&with(12, &[4])), Newer { major: 1, minor: 1, flags: 4 });
    assert!(Snapshot::open(&with(10, &[7])[..]).is_ok(), "a newer minor version is known");
    assert_eq!(open(&with(16, &[0x0A, 0x0B, 0x0C, 0x0D])), OtherByteOrder);
    let damage = Damage { what: Section::Header, offset: 0 };
    for other in [with(8, &[0, 0]), with(16, &[1]), with(20, &[1]), with(136, &[8])] {
        assert_eq!(open(&other), Damaged(damage));
    }
    assert_eq!(Damaged(damage).to_string(), "a damaged snapshot: damage in the header at offset 0");
}

/// A file of this version stays readable, so its bytes stay the same.
#[test]
fn the_header_is_golden() {
    let entry = Entry::Session { id: mixed(0), version: 1, owner: "alice".into(), data: vec![] };
    let alias = Entry::Alias(Alias { id: mixed(1), successor: mixed(0), until_ms: 5 });
    let mut file = Memory::default();
    let mut writer = writer(&mut file);
    push(&mut writer, &entry).expect("room");
    writer.weigh(7, true, 320);
    push(&mut writer, &alias).expect("room");
    writer.finish().expect("room");
    let header = &file.bytes[..4096];
    let mut expected = b"\x89CLS\r\n\x1a\n\x01\0\x01\0\0\0\0\0\x0d\x0c\x0b\x0a\0\0\0\0".to_vec();
    // The store, the generation, the salt and so on up to the position in the log.
    expected.extend(0x10..0x60);
    let numbers: [u64; 23] = [
        2, 0, 1, // entries, superseded, owned
        3, // homes
        4096, 144, // entries
        8192, 48, // slots
        12288, 16, // owner rows
        16384, 0, // superseded rows
        16384, 16, // chunk rows
        20480, 24, // page sums
        0, 20568, // their checksum, the length of the file
        7, 0, 0, 1, 320, // the scale of the weights, anonymous sessions, owned ones
    ];
    numbers.iter().for_each(|number| expected.extend_from_slice(&number.to_le_bytes()));
    expected[232..240].copy_from_slice(&header[232..240]);
    assert_eq!(header[..288], expected);
    assert!(header[288..4088].iter().all(|&byte| byte == 0));
    // All bytes at once: format, checksums and salts.
    assert_eq!(xxh3_64(&file.bytes), 13_577_377_208_595_329_676);
}

/// What sessions weigh is told by their class; not at all where one of them came twice.
#[test]
fn weights_come_back() {
    for again in [false, true] {
        let mut file = Memory::default();
        let mut writer = writer(&mut file);
        let mut entries = samples(20);
        if again {
            entries.push(Entry::Session {
                id: mixed(4),
                version: 9,
                owner: "x".into(),
                data: vec![],
            });
        }
        let mut told = Weights::default();
        for (bytes, entry) in (100..).zip(&entries) {
            push(&mut writer, entry).expect("room");
            if let Entry::Session { owner, .. } = entry {
                writer.weigh(1, !owner.is_empty(), bytes);
                let class = if owner.is_empty() { &mut told.anonymous } else { &mut told.owned };
                (class.sessions, class.bytes) = (class.sessions + 1, class.bytes + bytes);
            }
        }
        writer.finish().expect("room");
        told = if again { Weights::default() } else { Weights { scale: 1, ..told } };
        assert_eq!(Snapshot::open(&file.bytes[..]).expect("whole").weights(), told);
    }
}

/// Whatever part of the writes comes to the disk, the file is no snapshot before the last one.
#[test]
fn a_half_written_file_is_none() {
    let entries = samples(9000);
    let (file, summary) = written(&entries);
    assert!(file.writes.len() > 10);
    let (last, before) = file.writes.split_last().expect("writes");
    assert_eq!((last.0, last.1.len()), (0, 4096));
    let mut half = Memory::default();
    // The name may have belonged to a longer file, which was a snapshot too.
    half.apply(&file.bytes, 0);
    for (offset, bytes) in before {
        half.apply(bytes, *offset);
        let problem = problem(&half.bytes, &entries);
        assert_eq!(problem, Some(Unfinished), "after the write at {offset}");
    }
    half.apply(&last.1, last.0);
    assert_eq!(problem(&half.bytes, &entries), None);
    assert_eq!(half.bytes.len() as u64, summary.bytes);
}

#[test]
fn writes_are_bounded_and_steps_short() {
    let entries = samples(50_000);
    let mut file = Memory::default();
    let mut writer = writer(&mut file);
    entries.iter().for_each(|entry| push(&mut writer, entry).expect("room"));
    let mut closing = writer.close();
    let mut steps = 0;
    while closing.step().expect("room").is_none() {
        steps += 1;
    }
    assert!(closing.step().expect("room").is_some(), "the summary stays");
    let file = closing.into_sink();
    assert!(steps > 8, "{steps}");
    assert!(file.writes.iter().all(|(_, bytes)| bytes.len() < CHUNK_LEN + 8192));
    assert_eq!(file.bytes, written(&entries).0.bytes, "step by step or at once");
}

/// A write that failed spoils the file, also if the next ones would succeed.
#[test]
fn after_a_failed_write_there_is_no_snapshot() {
    let entries = samples(9000);
    let count = written(&entries).0.writes.len();
    for fails_at in 0..count {
        let mut file = Memory { fails_at: Some(fails_at), ..Memory::default() };
        let mut writer = writer(&mut file);
        for entry in &entries {
            let _ = push(&mut writer, entry);
        }
        let mut closing = writer.close();
        let is_whole = (0..100).any(|_| matches!(closing.step(), Ok(Some(_))));
        drop(closing);
        assert!(!is_whole);
        assert!(Snapshot::open(&file.bytes[..]).is_err(), "write {fails_at}");
    }
}

#[test]
fn the_longest_session_fits() {
    let mut file = Memory::default();
    let mut writer = writer(&mut file);
    let (text, data) = ("x".repeat(TEXT_BYTES_MAX), vec![7; DATA_BYTES_MAX + 1]);
    let first = sample(1);
    let Found::Session(plain) = first.found() else { unreachable!() };
    let long = Stored { owner: &text, label: &text, data: &data[1..], ..plain };
    let text = format!("{text}x");
    for longer in [
        Stored { data: &data, ..long },
        Stored { owner: &text, ..long },
        Stored { label: &text, ..long },
    ] {
        let error = writer.push(&longer).expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    writer.push(&long).expect("room");
    writer.push(&Stored { id: SessionId(5), ..plain }).expect("room");
    writer.finish().expect("room");
    let snapshot = Snapshot::open(&file.bytes[..]).expect("whole");
    assert!(snapshot.verify(|_, _| {}).is_ok());
    let (_, found) = snapshot.find(plain.id).expect("sound").expect("there");
    assert!(found == Found::Session(long));
    assert_eq!(snapshot.owned(long.owner).count(), 1);
    assert_eq!(snapshot.entries().count(), 2);
}

/// `verify` names the section that is damaged, not one that it was noticed by.
#[test]
fn damage_is_told_where_it_is() {
    let (_, bytes) = small();
    let header = Header::decode(bytes.first_chunk().expect("a header")).expect("valid");
    for (section, offset) in [
        (Section::Entries, 4096),
        (Section::Slots, header.slots.offset),
        (Section::Owners, header.owners.offset),
        (Section::Superseded, header.superseded.offset),
        (Section::Chunks, header.chunks.offset),
        (Section::Sums, header.sums.offset),
    ] {
        let mut other = bytes.clone();
        other[offset as usize + 5] ^= 1;
        let snapshot = Snapshot::open(&other[..]).expect("sections are not looked into");
        assert_eq!(snapshot.verify(|_, _| {}), Err(Damage { what: section, offset }));
    }
}

/// Progress reaches the whole file, never goes back, comes often.
#[test]
fn verify_tells_its_progress() {
    let (file, summary) = written(&samples(30_000));
    let snapshot = Snapshot::open(&file.bytes[..]).expect("whole");
    let mut last = 0;
    let told = |done, total| {
        assert!(done >= last && done - last < 2_000_000 && total == summary.bytes, "{last} {done}");
        last = done;
    };
    assert_eq!(snapshot.verify(told), Ok(()));
    assert_eq!(last, summary.bytes);
}

#[derive(Clone, Debug)]
struct Push {
    id: u64,
    kind: u8,
    owner: u8,
    data_len: usize,
}

fn pushes() -> impl Strategy<Value = Vec<Push>> {
    let data_len = prop_oneof![9 => 0..100_usize, 1 => 0..300_000_usize];
    let push = (0..60_u64, 0..5_u8, 0..5_u8, data_len)
        .prop_map(|(id, kind, owner, data_len)| Push { id, kind, owner, data_len });
    prop::collection::vec(push, 0..80)
}

proptest! {
    /// Any pushes, ids that repeat or crowd; then one byte changed.
    #[test]
    fn agrees_with_the_model(
        pushes in pushes(),
        is_crowded in any::<bool>(),
        place in any::<prop::sample::Index>(),
        change in 1..=u8::MAX,
    ) {
        let entries: Vec<Entry> = pushes.iter().enumerate().map(|(n, push)| {
            let crowded = SessionId(u128::from(push.id) << 32);
            let id = if is_crowded { crowded } else { mixed(push.id) };
            if push.kind == 0 {
                return Entry::Alias(Alias { id, successor: mixed(n as u64), until_ms: n as u64 });
            }
            let owner = "abcd"[..usize::from(push.owner)].to_owned();
            Entry::Session { id, version: n as u32, owner, data: vec![push.kind; push.data_len] }
        }).collect();
        let (mut file, summary) = written(&entries);
        prop_assert_eq!(summary.counts.live(), live(&entries).len() as u64);
        prop_assert_eq!(problem(&file.bytes, &entries), None);
        let place = place.index(file.bytes.len());
        file.bytes[place] ^= change;
        prop_assert!(problem(&file.bytes, &entries).is_some(), "byte {}", place);
    }
}
