//! Snapshots that are damaged, forged, or no snapshots at all.

use std::collections::BTreeMap;
use std::io;

use uuid::Uuid;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::journal::snapshot::{Alias, EntryOffset, Found, HeaderFields, Sink, Snapshot, Writer};
use crate::journal::stored::Stored;
use crate::token::SessionId;

const SALT: u64 = 0x5EED;
const OWNERS: [&str; 4] = ["", "alice", "bob", "carol"];
/// More entries find nothing more.
const PUSHES_MAX: usize = 400;

/// The first byte chooses: any bytes; a snapshot with some bytes changed; one whose checksums
/// were computed anew after the change.
pub fn snapshot(input: &[u8]) {
    let Some((&kind, rest)) = input.split_first() else { return };
    match kind % 3 {
        0 => any_bytes(rest),
        1 => changed(rest),
        _ => forged(rest),
    }
}

struct Memory(Vec<u8>);

impl Sink for Memory {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let begin = usize::try_from(offset).expect("a small file");
        let end = begin + bytes.len();
        self.0.resize(self.0.len().max(end), 0);
        self.0[begin..end].copy_from_slice(bytes);
        Ok(())
    }
}

/// The answers may be anything, but they come: no panic, no endless loop.
fn exercise(bytes: &[u8]) {
    let Ok(snapshot) = Snapshot::open(bytes) else { return };
    let (mut ids, mut owners) = (vec![id_of(0), id_of(u128::MAX)], OWNERS.map(str::to_owned).to_vec());
    for (_, found) in snapshot.entries().take(1000).flatten() {
        ids.push(found.id());
        if let Found::Session(stored) = found {
            owners.push(stored.owner.to_owned());
        }
    }
    for id in ids {
        if let Ok(Some((offset, found))) = snapshot.find(id) {
            assert_eq!(found.id(), id);
            let _ = snapshot.entries_since(offset).next();
        }
    }
    for owner in &owners {
        for (_, stored) in snapshot.owned(owner).take(1000).flatten() {
            assert_eq!(stored.owner, owner);
        }
    }
    let _ = snapshot.entries_since(EntryOffset(4099)).take(1000).count();
    let _ = snapshot.verify(|done, total| assert!(done <= total));
}

fn any_bytes(bytes: &[u8]) {
    exercise(bytes);
    // As a header of no sections, then with the rest behind it: gets past the first checks.
    let Some(header) = bytes.first_chunk::<240>() else { return };
    let mut bytes = bytes.to_vec();
    let mut padded = header.to_vec();
    padded.resize(4096, 0);
    padded.append(&mut bytes);
    reseal(&mut padded);
    exercise(&padded);
}

fn id_of(number: u128) -> SessionId {
    Uuid::from_u128(number).into()
}

/// Four bytes each: id, kind and owner, length of the data, its byte.
fn found<'a>(push: &[u8], data: &'a mut Vec<u8>) -> Found<'a> {
    // Ids that begin alike share their home.
    let id = u128::from(push[0]).wrapping_mul(u128::MAX / 17) ^ u128::from(push[0] >> 4);
    if push[1] % 5 == 4 {
        let (id, successor) = (id_of(id), id_of(!id));
        return Found::Alias(Alias { id, successor, until_ms: push[2].into() });
    }
    data.resize(usize::from(push[2]) << (push[1] / 5 % 8), push[3]);
    Found::Session(Stored {
        id: id_of(id),
        version: push[3].into(),
        created_ms: 1,
        authenticated_ms: 2,
        seen_ms: 3,
        idle_ns: 4,
        lifetime_ns: 5,
        owner: OWNERS[usize::from(push[1] % 5)],
        label: "",
        data,
    })
}

/// Writes what the input says: a count of changes, the changes, the pushes.
fn written(input: &[u8]) -> Option<(Vec<u8>, &[u8], &[u8])> {
    let (&count, rest) = input.split_first()?;
    let (changes, pushes) = rest.split_at_checked(3 * usize::from(count % 8))?;
    let pushes = &pushes[..pushes.len().min(4 * PUSHES_MAX) / 4 * 4];
    let fields = HeaderFields { salt: SALT, ..HeaderFields::default() };
    let mut writer = Writer::new(Memory(Vec::new()), fields);
    for push in pushes.chunks_exact(4) {
        match found(push, &mut Vec::new()) {
            Found::Session(stored) => writer.push(&stored).expect("memory"),
            Found::Alias(alias) => writer.push_alias(alias).expect("memory"),
        }
    }
    let mut closing = writer.close();
    while closing.step().expect("memory").is_none() {}
    Some((closing.into_sink().0, changes, pushes))
}

fn change(bytes: &mut [u8], changes: &[u8]) {
    for change in changes.chunks_exact(3) {
        // Two bytes do not reach into large files, so the place is stretched.
        let place = usize::from(u16::from_le_bytes([change[0], change[1]]));
        let place = place.max(place * (bytes.len() / 65536)) % bytes.len();
        bytes[place] ^= change[2];
    }
}

/// What was written comes back. After the change each answer is the same, or tells of damage.
fn changed(input: &[u8]) {
    let Some((mut bytes, changes, pushes)) = written(input) else { return };
    assert!(answers(&bytes, pushes), "damage without a change");
    let before = bytes.clone();
    change(&mut bytes, changes);
    assert_eq!(answers(&bytes, pushes), bytes == before, "a change that nobody noticed");
}

/// Whether all is well; panics if an answer is wrong.
fn answers(bytes: &[u8], pushes: &[u8]) -> bool {
    let Ok(snapshot) = Snapshot::open(bytes) else { return false };
    let mut expected: BTreeMap<SessionId, &[u8]> = BTreeMap::new();
    for push in pushes.chunks_exact(4) {
        expected.insert(found(push, &mut Vec::new()).id(), push);
    }
    let mut is_well = true;
    for (id, push) in &expected {
        match snapshot.find(*id) {
            Ok(got) => assert_eq!(got.map(|got| got.1), Some(found(push, &mut Vec::new()))),
            Err(_) => is_well = false,
        }
        let stranger = id_of(!Uuid::from(*id).as_u128() ^ 1 << 40);
        is_well &= snapshot.find(stranger).map(|got| assert!(got.is_none())).is_ok();
    }
    let mut count = 0;
    for item in snapshot.entries() {
        count += 1;
        match item {
            Ok((_, got)) => assert_eq!(got, found(expected[&got.id()], &mut Vec::new())),
            Err(_) => is_well = false,
        }
    }
    assert!(!is_well || count == expected.len(), "{count} of {}", expected.len());
    for owner in &OWNERS[1..] {
        let mut owned = 0;
        for item in snapshot.owned(owner) {
            owned += 1;
            match item {
                Ok((_, got)) => {
                    let push = expected[&got.id];
                    assert_eq!(Found::Session(got), found(push, &mut Vec::new()));
                }
                Err(_) => is_well = false,
            }
        }
        let is_owned = |push: &&&[u8]| OWNERS.get(usize::from(push[1] % 5)) == Some(owner);
        assert!(!is_well || owned == expected.values().filter(is_owned).count(), "{owner}");
    }
    let verified = snapshot.verify(|_, _| {}).is_ok();
    assert!(is_well || !verified, "verify sees less than a lookup");
    verified
}

/// As `changed`, by somebody who can compute checksums.
fn forged(input: &[u8]) {
    let Some((mut bytes, changes, _)) = written(input) else { return };
    change(&mut bytes, changes);
    reseal(&mut bytes);
    exercise(&bytes);
}

fn number(bytes: &[u8], at: usize) -> usize {
    let number = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    number.map_or(0, |number| u64::from_le_bytes(*number) as usize)
}

fn put(bytes: &mut [u8], at: usize, number: u64) {
    let place = bytes.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut());
    if let Some(place) = place {
        *place = number.to_le_bytes();
    }
}

/// Makes the header's beginning, the page sums, the trailer and their checksums fit, as far as the
/// header leads to any. See `layout.rs` for the places.
fn reseal(bytes: &mut [u8]) {
    let mut begin = b"\x89CLS\r\n\x1a\n\x01\0\0\0\0\0\0\0\x0d\x0c\x0b\x0a\0\0\0\0".to_vec();
    let Some(place) = bytes.first_chunk_mut::<24>() else { return };
    place.swap_with_slice(&mut begin);
    let salt = number(bytes, 48) as u64;
    let sum =
        |offset: usize, bytes: &[u8]| xxh3_64_with_seed(bytes, salt.wrapping_add(offset as u64));
    let (slots, sums, sums_len) = (number(bytes, 152), number(bytes, 216), number(bytes, 224));
    let mut page = slots;
    while let Some(all) = bytes.get(page..page.saturating_add(4096))
        && page < sums
    {
        let sum = sum(page, all);
        put(bytes, sums.saturating_add((page - slots) / 512), sum);
        page += 4096;
    }
    if let Some(all) = bytes.get(sums..sums.saturating_add(sums_len)) {
        let sum = sum(sums, all);
        put(bytes, 232, sum);
    }
    let trailer = number(bytes, 240).saturating_sub(64);
    for (at, from) in [(8, 40), (16, 48), (24, 240), (32, 104), (40, 112), (48, 120)] {
        let same = number(bytes, from) as u64;
        put(bytes, trailer.saturating_add(at), same);
    }
    if let Some(all) = bytes.get(trailer..trailer.saturating_add(56)) {
        let sum = sum(trailer, all);
        put(bytes, trailer + 56, sum);
    }
    if let Some(all) = bytes.get(..4088) {
        let sum = xxh3_64(all);
        put(bytes, 4088, sum);
    }
}
