//! Files that are not as they were written: whatever is below the watermark is never lost, nor
//! taken for something else, without a word.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::model::History;
use super::store::{Disk, Setting, Work, check_finds, open, recover};
use super::{is_full, random_of};
use crate::journal::Append;
use crate::journal::files::crash::CrashDisk;
use crate::journal::files::faulty::Faulty;
use crate::journal::files::{File, Files};
use crate::journal::recover::SnapshotName;
use crate::journal::segment::{First, SEGMENT_HEADER_BYTES, Scan, SegmentHeader, first};

type Contents = BTreeMap<String, Vec<u8>>;

/// A small store with a snapshot, segments behind it, a watermark above all of them.
struct Small {
    contents: Contents,
    history: History,
    frames: Vec<Frame>,
}

/// What a frame says of others.
struct Frame {
    file: String,
    begin: usize,
    end: usize,
    durable: u64,
}

fn contents(disk: &CrashDisk) -> Contents {
    let read = |name: &String| disk.open(name).unwrap().view().unwrap().to_vec();
    disk.list().unwrap().into_iter().map(|name| (name.clone(), read(&name))).collect()
}

fn disk_of(contents: &Contents) -> CrashDisk {
    let disk = CrashDisk::new();
    for (name, bytes) in contents {
        let file = disk.create(name).unwrap();
        file.write_at(bytes, 0).unwrap();
        file.sync().unwrap();
    }
    disk.sync_dir().unwrap();
    disk
}

impl Small {
    fn new(seed: u64) -> Small {
        let mut random = random_of(6, seed);
        let setting = Setting { segment_bytes: 8 << 10, append: Append::Written, data_max: 120 };
        let disk = CrashDisk::new();
        let files: Arc<Disk> = Arc::new(Faulty::new(disk.clone()));
        let shared = open(&files, &setting).unwrap();
        let mut work = Work::new(&shared, History::new(), setting, 0);
        for _ in 0..20 {
            work.put_some(&mut random).unwrap();
        }
        work.whole_snapshot().unwrap();
        assert_eq!(work.generation(), 1);
        let from = shared.log.present().sequence;
        let mut round = 0;
        while shared.log.present().sequence < from + 2 || round < 45 {
            work.put_some(&mut random).unwrap();
            if round % 4 == 0 {
                work.end_some(&mut random).unwrap();
            }
            round += 1;
            if round % 10 == 0 {
                work.commit().unwrap();
            }
        }
        work.commit().unwrap();
        shared.log.mark();
        let last = shared.log.last_position();
        work.history.pass(last);
        let contents = contents(&disk);
        let frames = frames(&contents);
        assert_eq!(frames.iter().map(|frame| frame.durable).max(), Some(last - 1));
        Small { contents, history: work.history, frames }
    }

    /// What the files, as they are now, still know to be durable.
    fn told(&self, now: &Contents) -> u64 {
        let is_whole = |frame: &&Frame| {
            let (before, now) = (&self.contents[&frame.file], now.get(&frame.file));
            let same = |range: std::ops::Range<usize>| {
                now.is_some_and(|now| now.get(range.clone()) == before.get(range))
            };
            same(0..SEGMENT_HEADER_BYTES) && same(frame.begin..frame.end)
        };
        self.frames.iter().filter(is_whole).map(|frame| frame.durable).max().unwrap_or(0)
    }

    /// What becomes of the files as they are now: an error, or a state that may be.
    fn check(&self, disk: &CrashDisk, told: u64, what: &dyn Fn() -> String) -> bool {
        let Ok(recovered) = recover(disk) else { return true };
        let last = recovered.last;
        let history = &self.history;
        assert!(last >= told, "{}: {told} is known to be durable, {last} is left", what());
        assert!(last <= history.last(), "{}", what());
        let expected = history.state(last);
        let difference = || recovered.state.difference(&expected);
        assert!(recovered.state == *expected, "{}, at {last}: {}", what(), difference());
        // What leaves all of the log sound may still be damage to a table of the snapshot.
        check_finds(disk, &recovered.state.only_of(&self.contents)).is_err()
    }
}

fn frames(contents: &Contents) -> Vec<Frame> {
    let mut frames = Vec::new();
    for (name, bytes) in contents {
        let Ok(header) = SegmentHeader::decode(bytes) else { continue };
        let behind = &bytes[SEGMENT_HEADER_BYTES..];
        let First::Link(base, _) = first(&header, behind) else { continue };
        for (offset, frame, _) in Scan::new(&header, base, behind) {
            let begin = SEGMENT_HEADER_BYTES + offset;
            let end = begin + frame.frame_len();
            frames.push(Frame { file: name.clone(), begin, end, durable: frame.durable });
        }
    }
    frames
}

impl super::model::State {
    /// The sessions as the snapshot among these files has them.
    fn only_of(&self, contents: &Contents) -> super::model::State {
        let mut state = super::model::State::default();
        let snapshots = contents.iter().filter(|(name, _)| SnapshotName::parse(name).is_some());
        for (_, bytes) in snapshots {
            let snapshot = crate::journal::snapshot::Snapshot::open(bytes.as_slice()).unwrap();
            for entry in snapshot.entries() {
                state.load(&entry.unwrap().1);
            }
        }
        state
    }
}

#[test]
fn an_untouched_store_is_sound() {
    let small = Small::new(0);
    let told = small.told(&small.contents);
    let is_damaged = small.check(&disk_of(&small.contents), told, &|| "untouched".into());
    assert!(!is_damaged);
    let segments = small.contents.keys().filter(|name| name.ends_with(".seg")).count();
    let bytes: usize = small.contents.values().map(Vec::len).sum();
    println!("{segments} segments, {} frames, {bytes} bytes in all", small.frames.len());
    assert!(segments >= 3);
}

#[test]
fn every_flipped_bit_is_reported_or_harmless() {
    let small = Small::new(0);
    let disk = disk_of(&small.contents);
    let (mut flips, mut reported) = (0, 0);
    for (name, bytes) in &small.contents {
        let is_snapshot = SnapshotName::parse(name).is_some();
        let known: Vec<&Frame> = small.frames.iter().filter(|frame| frame.file == *name).collect();
        let last = known.last().map_or(0, |frame| frame.begin);
        let file = disk.open_to_write(name).unwrap();
        let bits = 8 * bytes.len();
        // Long zeros are looked at by samples.
        let mut bit = 0;
        while bit < bits {
            let at = bit / 8;
            let flipped = bytes[at] ^ 1 << (bit % 8);
            file.write_at(&[flipped], at as u64).unwrap();
            file.sync().unwrap();
            let what = || format!("{name}, bit {} of byte {at}", bit % 8);
            // One frame at most is gone, and the one before the last knows what is durable.
            let is_reported = small.check(&disk, small.history.last() - 1, &what);
            flips += 1;
            reported += u64::from(is_reported);
            let is_in_a_frame = known.iter().any(|frame| frame.begin <= at && at < frame.end);
            let must = is_snapshot || at < SEGMENT_HEADER_BYTES || is_in_a_frame && at < last;
            assert!(is_reported || !must, "{}: nobody noticed", what());
            file.write_at(&[bytes[at]], at as u64).unwrap();
            bit += if is_full() {
                1
            } else if bytes[at] != 0 {
                29
            } else {
                461
            };
        }
        file.sync().unwrap();
    }
    println!("{flips} bits flipped, {reported} reported");
}

/// Changes the files, checks, says what was checked.
fn assert_sound(small: &Small, now: &Contents, what: &dyn Fn() -> String) -> bool {
    small.check(&disk_of(now), small.told(now), what)
}

#[test]
fn every_truncation_is_reported_or_harmless() {
    let small = Small::new(1);
    let (mut all, mut reported) = (0, 0);
    for (name, bytes) in &small.contents {
        let edges = small.frames.iter().filter(|frame| frame.file == *name);
        let edges: Vec<usize> = edges.flat_map(|frame| [frame.begin, frame.end]).collect();
        for len in 0..bytes.len() {
            let is_edge = edges.iter().any(|&edge| edge.abs_diff(len) <= 1);
            if !is_full() && !is_edge && len % 97 != 0 {
                continue;
            }
            let mut now = small.contents.clone();
            now.get_mut(name).unwrap().truncate(len);
            reported += u64::from(assert_sound(&small, &now, &|| format!("{name} cut to {len}")));
            all += 1;
        }
    }
    println!("{all} truncations, {reported} reported");
}

#[test]
fn lost_and_swapped_sectors_are_reported_or_harmless() {
    const SECTOR: usize = 512;
    let small = Small::new(2);
    let (mut all, mut reported) = (0, 0);
    for (name, bytes) in &small.contents {
        let sectors = bytes.len() / SECTOR;
        for one in 0..sectors {
            let others = if is_full() { one..sectors } else { one..sectors.min(one + 5) };
            for other in others {
                let mut now = small.contents.clone();
                let file = now.get_mut(name).unwrap();
                let what = || format!("{name}, sectors {one} and {other}");
                let (begin, end) = (one * SECTOR, other * SECTOR);
                if one == other {
                    file[begin..begin + SECTOR].fill(0);
                } else {
                    let (front, back) = file.split_at_mut(end);
                    front[begin..begin + SECTOR].swap_with_slice(&mut back[..SECTOR]);
                }
                reported += u64::from(assert_sound(&small, &now, &what));
                all += 1;
            }
        }
    }
    println!("{all} sectors lost or swapped, {reported} reported");
}

/// Whole files lost, swapped, renamed, from another store.
#[test]
fn files_in_the_wrong_place_are_reported_or_harmless() {
    let small = Small::new(3);
    let other = Small::new(4);
    let names: Vec<&String> = small.contents.keys().collect();
    let mut all = 0;
    let mut reported = |now: &Contents, what: String| {
        all += 1;
        assert_sound(&small, now, &|| what.clone())
    };
    for &name in &names {
        let mut without = small.contents.clone();
        let bytes = without.remove(name).unwrap();
        reported(&without, format!("{name} deleted"));
        let mut emptied = without.clone();
        emptied.insert(name.clone(), Vec::new());
        reported(&emptied, format!("{name} emptied"));
        for filler in [0, 0xff] {
            let mut filled = without.clone();
            filled.insert(name.clone(), vec![filler; bytes.len()]);
            reported(&filled, format!("{name} filled"));
        }
        for &new in &names {
            let mut renamed = without.clone();
            let was = renamed.insert(new.clone(), bytes.clone());
            let what = format!("{name} in the place of {new}");
            reported(&renamed, what.clone());
            if let Some(was) = was {
                renamed.insert(name.clone(), was);
                reported(&renamed, format!("{what}, swapped"));
            }
        }
        for sequence in 1..9 {
            for epoch in 1..4 {
                let new = crate::journal::segment::SegmentName { epoch, sequence }.to_string();
                if !small.contents.contains_key(&new) {
                    let mut copied = small.contents.clone();
                    copied.insert(new.clone(), bytes.clone());
                    reported(&copied, format!("{name} copied to {new}"));
                    let mut moved = without.clone();
                    moved.insert(new.clone(), bytes.clone());
                    reported(&moved, format!("{name} moved"));
                }
            }
        }
        if let Some(foreign) = other.contents.get(name) {
            let mut now = small.contents.clone();
            now.insert(name.clone(), foreign.clone());
            reported(&now, format!("{name} of another store"));
        }
    }
    println!("{all} files in the wrong place");
}

/// Two stores that were one: a directory was copied, both copies were used. Files of the one among
/// those of the other bear the right names and numbers.
#[test]
fn files_of_another_history_are_reported_or_harmless() {
    let (mut all, mut reported) = (0, 0);
    for seed in 0..if is_full() { 400 } else { 40 } {
        let mut random = random_of(8, seed);
        let setting = Setting { segment_bytes: 8 << 10, append: Append::Written, data_max: 1 + 7 };
        let disk = CrashDisk::new();
        let files: Arc<Disk> = Arc::new(Faulty::new(disk.clone()));
        let shared = open(&files, &setting).unwrap();
        let mut work = Work::new(&shared, History::new(), setting, 0);
        for _ in 0..random.below(30) {
            work.put_some(&mut random).unwrap();
        }
        work.commit().unwrap();
        let [one, other] = [0, 1].map(|_| {
            let disk = disk.kill_image();
            let files: Arc<Disk> = Arc::new(Faulty::new(disk.clone()));
            let shared = open(&files, &setting).unwrap();
            let mut work = Work::new(&shared, work.history.clone(), setting, 0);
            for _ in 0..60 {
                work.put_some(&mut random).unwrap();
            }
            if seed % 2 == 0 {
                work.commit().unwrap();
                work.put_some(&mut random).unwrap();
            }
            (contents(&disk), work.history)
        });
        for (name, bytes) in &other.0 {
            let mut now = one.0.clone();
            now.insert(name.clone(), bytes.clone());
            all += 1;
            let Ok(recovered) = recover(&disk_of(&now)) else {
                reported += 1;
                continue;
            };
            let is_of = |history: &History| {
                recovered.last <= history.last()
                    && *history.state(recovered.last) == recovered.state
            };
            assert!(is_of(&one.1) || is_of(&other.1), "seed {seed}: {name} makes a third history");
        }
    }
    println!("{all} files of another history, {reported} reported");
}
