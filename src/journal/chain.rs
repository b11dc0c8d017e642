//! Which segments are the log, and where each of them ends.
//!
//! ```text
//! epoch 1   segment 1 --- 2 --- 3        3 tells where 2 ended; a crash tore a hole into 2
//!                          \
//! epoch 2                    3 --- 4     recovery found the hole, and went on from there
//! ```
//! A segment is followed by one whose first frame tells its last position and the head sum of the
//! frame there, which it has. Of several the newest counts: its epoch cut the log, and what is
//! behind the cut stays discarded. Where none follows, the log ends with the segment's frames.
//!
//! Is that end what a crash left, or damage? A frame that claims a position to be durable was
//! written when it was so, and whatever happened to the log since, nothing durable was cut off. So
//! the highest claim decides, in whatever segment it stands, also in one that is discarded: an end
//! before it is damage. Without a claim nobody was told that what is missing had been written.

use super::entry::Entry;
use super::segment::{Previous, SEGMENT_HEADER_BYTES, Scan, SegmentHeader, find_later};

/// A segment with at least its first frame. `B` are the bytes of the whole file.
pub(super) struct Segment<B> {
    pub(super) header: SegmentHeader,
    /// The position of the first frame.
    pub(super) base: u64,
    pub(super) previous: Previous,
    pub(super) bytes: B,
    /// How far it counts.
    pub(super) cut: Cut,
}

/// A place behind a frame.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The frame's position.
    pub(super) last: u64,
    /// Its head sum.
    pub(super) chain: u64,
    /// Where it ends, counted from the segment's first frame.
    pub(super) len: usize,
}

/// What a segment's frames say.
struct Reading {
    end: Cut,
    /// The segment that follows, by its index, and where this one ends for it.
    next: Option<(usize, Cut)>,
    claim: u64,
}

/// The log that some segments are.
pub(super) struct Chain<B> {
    pub(super) segments: Vec<Segment<B>>,
    /// Those that do not belong to it.
    pub(super) others: Vec<Segment<B>>,
    /// The highest claim in any of them.
    pub(super) claim: u64,
}

impl<B: AsRef<[u8]>> Segment<B> {
    pub(super) fn scan(&self) -> Scan<'_> {
        Scan::new(&self.header, self.base, self.frames())
    }

    /// What is behind the header.
    pub(super) fn frames(&self) -> &[u8] {
        self.bytes.as_ref().get(SEGMENT_HEADER_BYTES..).unwrap_or_default()
    }

    /// Whether this may follow a segment, as far as its numbers tell.
    fn may_follow(&self, before: &Segment<B>) -> bool {
        self.previous.sequence == before.header.sequence
            && self.header.sequence > before.header.sequence
            && self.header.epoch >= before.header.epoch
            && self.base == self.previous.last.wrapping_add(1)
    }

    fn read(&self, all: &[Segment<B>]) -> Reading {
        let heirs: Vec<_> =
            all.iter().enumerate().filter(|(_, other)| other.may_follow(self)).collect();
        let newness = |other: &Segment<B>| (other.header.epoch, other.header.sequence);
        let mut newest = None;
        let mut reading = Reading { end: Cut::default(), next: None, claim: 0 };
        let mut scan = self.scan();
        while let Some((offset, header, _)) = scan.next() {
            let (last, chain) = (header.position, scan.chain_value());
            let cut = Cut { last, chain, len: offset + header.frame_len() };
            reading.claim = reading.claim.max(header.durable);
            for &(index, heir) in &heirs {
                let is_end = (heir.previous.last, heir.previous.chain) == (last, chain);
                if is_end && Some(newness(heir)) > newest {
                    newest = Some(newness(heir));
                    reading.next = Some((index, cut));
                }
            }
            reading.end = cut;
        }
        let rest = self.frames().get(reading.end.len..).unwrap_or_default();
        reading.claim = reading.claim.max(claim(&self.header, rest));
        reading
    }

    /// Where the segment ends if nothing counts but what somebody cares for: marks at its end that
    /// nobody knows to be durable are as good as not there.
    pub(super) fn cut_off_marks(&mut self, claim: u64) {
        let mark = Entry::Mark { wall_ms: 0 }.kind();
        let mut cut = Cut::default();
        let mut scan = self.scan();
        while let Some((offset, header, _)) = scan.next() {
            if header.position > self.cut.last {
                break;
            }
            if header.kind != mark || header.position <= claim {
                let (last, chain) = (header.position, scan.chain_value());
                cut = Cut { last, chain, len: offset + header.frame_len() };
            }
        }
        self.cut = cut;
    }
}

/// The highest claim in bytes that begin where a scan stopped.
pub(super) fn claim(header: &SegmentHeader, rest: &[u8]) -> u64 {
    find_later(header, rest, 0).map_or(0, |later| later.durable)
}

impl<B: AsRef<[u8]>> Chain<B> {
    /// Puts together what belongs together. `first` is the index of the log's first segment.
    pub(super) fn of(segments: Vec<Segment<B>>, first: Option<usize>) -> Chain<B> {
        let readings: Vec<Reading> =
            segments.iter().map(|segment| segment.read(&segments)).collect();
        let claim = readings.iter().map(|reading| reading.claim).max().unwrap_or(0);
        let mut cuts: Vec<Option<Cut>> = readings.iter().map(|_| None).collect();
        let mut at = first;
        // Sequences go up from one to the next, so this ends.
        while let Some(index) = at
            && let Some(Reading { end, next, .. }) = readings.get(index)
            && let Some(cut) = cuts.get_mut(index)
        {
            *cut = Some(next.map_or(*end, |(_, cut)| cut));
            at = next.map(|(next, _)| next);
        }
        let mut chain = Chain { segments: Vec::new(), others: Vec::new(), claim };
        for (mut segment, cut) in segments.into_iter().zip(cuts) {
            match cut {
                Some(cut) => {
                    segment.cut = cut;
                    chain.segments.push(segment);
                }
                None => chain.others.push(segment),
            }
        }
        // By sequence: those of a chain are in order, whatever their epochs.
        chain.segments.sort_by_key(|segment| segment.header.sequence);
        chain
    }
}
