//! What becomes of one write when the power goes.

use std::ops::Range;

const SECTOR_BYTES: usize = 512;

/// A generator of numbers that look random: splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A number below `count`, which is not 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// One of the moments before, between and after so many changes, the ends most often.
    pub(super) fn moment(&mut self, count: usize) -> usize {
        match self.below(4) {
            0 => 0,
            1 => count,
            _ => self.below(count + 1),
        }
    }
}

/// How the changes of one file fare together: each by itself would hardly ever leave a long log
/// whole but for one place.
#[derive(Clone, Copy)]
pub(super) enum Mood {
    Lost,
    Whole,
    Each,
    /// All before this one are whole, all behind it lost.
    UpTo(usize),
    /// All others are whole.
    Only(usize),
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fate {
    Lost,
    Whole,
    Head,
    Tail,
    Sectors,
    BadSectors,
}

impl Mood {
    pub(super) fn draw(random: &mut Random, count: usize) -> Mood {
        match random.below(8) {
            0 => Mood::Lost,
            1 => Mood::Whole,
            2 | 3 => Mood::Each,
            4 | 5 => Mood::UpTo(random.below(count + 1)),
            _ => Mood::Only(random.below(count + 1)),
        }
    }

    pub(super) fn fate(self, index: usize, random: &mut Random) -> Fate {
        match self {
            Mood::Lost => Fate::Lost,
            Mood::Whole => Fate::Whole,
            Mood::UpTo(last) if index > last => Fate::Lost,
            Mood::UpTo(at) | Mood::Only(at) if index != at => Fate::Whole,
            _ => match random.below(10) {
                0..3 => Fate::Lost,
                3..6 => Fate::Whole,
                6 => Fate::Head,
                7 => Fate::Tail,
                8 => Fate::Sectors,
                _ => Fate::BadSectors,
            },
        }
    }
}

impl Fate {
    pub(super) fn put(
        self,
        content: &mut Vec<u8>,
        offset: usize,
        bytes: &[u8],
        random: &mut Random,
    ) {
        let cut = |random: &mut Random| random.below(bytes.len() + 1);
        match self {
            Fate::Lost => {}
            Fate::Whole => put(content, offset, bytes),
            Fate::Head => put(content, offset, &bytes[..cut(random)]),
            Fate::Tail => {
                let cut = cut(random);
                put(content, offset + cut, &bytes[cut..]);
            }
            Fate::Sectors | Fate::BadSectors => {
                let kinds = if self == Fate::Sectors { 2 } else { 4 };
                for piece in pieces(offset, bytes.len(), SECTOR_BYTES) {
                    let at = offset + piece.start;
                    match random.below(kinds) {
                        0 => {}
                        1 => put(content, at, &bytes[piece]),
                        2 => put(content, at, &[0; SECTOR_BYTES][..piece.len()]),
                        _ => {
                            let garbage: Vec<u8> = piece.map(|_| random.next() as u8).collect();
                            put(content, at, &garbage);
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

/// The parts of a write that lie in one sector or page each, counted from the write's start.
pub(super) fn pieces(
    offset: usize,
    len: usize,
    grain: usize,
) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        at = len.min((offset + start) / grain * grain + grain - offset);
        (start < len).then_some(start..at)
    })
}
