//! One file of a [`CrashDisk`](super::CrashDisk).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fate::{Mood, Random, pieces, put};

const PAGE_BYTES: usize = 4096;

/// What a file is used for.
#[derive(Clone, Copy)]
pub(super) enum Use {
    File,
    Mapping,
    View,
}

/// The content as processes see it, the durable one, and what lies between.
#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) content: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    unsynced: Vec<Change>,
    /// A failed sync has lost data: `durable` with `unsynced` is not `content`.
    diverged: bool,
    /// So many of the first bytes have blocks.
    pub(super) reserved: usize,
    /// The longest mapping there was.
    pub(super) mapped: usize,
    /// How many handles, mappings and views there are.
    pub(super) uses: [usize; 3],
}

/// One change of a file.
#[derive(Clone)]
pub(super) enum Change {
    Write {
        offset: usize,
        bytes: Arc<[u8]>,
        mapped: bool,
    },
    Length(usize),
    /// At least so long.
    Grow(usize),
}

impl Inode {
    pub(super) fn change(&mut self, change: Change) {
        assert_eq!(self.uses[Use::View as usize], 0, "a file is changed while it is viewed");
        match &change {
            Change::Write { offset, bytes, .. } if *offset <= self.reserved => {
                self.reserved = self.reserved.max(offset + bytes.len());
            }
            Change::Write { .. } => {}
            Change::Length(len) => {
                let is_mapped = self.uses[Use::Mapping as usize] > 0;
                assert!(!is_mapped || *len >= self.mapped, "a mapped file is cut off");
                self.reserved = self.reserved.min(*len);
            }
            Change::Grow(len) => self.reserved = self.reserved.max(*len),
        }
        change.apply(Arc::make_mut(&mut self.content));
        self.unsynced.push(change);
    }

    /// Pages that a failed sync called clean are thrown away: what they held is read no more.
    pub(super) fn evict(&mut self) {
        if self.diverged {
            self.content = Arc::clone(&self.durable);
            let content = Arc::make_mut(&mut self.content);
            self.unsynced.iter().for_each(|change| change.apply(content));
        }
    }

    pub(super) fn sync(&mut self) {
        if self.diverged {
            let durable = Arc::make_mut(&mut self.durable);
            self.unsynced.iter().for_each(|change| change.apply(durable));
        } else {
            self.durable = Arc::clone(&self.content);
        }
        self.unsynced.clear();
    }

    /// Data is lost; lengths are the file system's own business, and will become durable.
    pub(super) fn forget_unsynced(&mut self) {
        for change in &mut self.unsynced {
            if let Change::Write { offset, bytes, .. } = change {
                *change = Change::Grow(*offset + bytes.len());
                self.diverged = true;
            }
        }
    }

    /// This file on a crash image, all of it durable.
    pub(super) fn after_crash(&self, random: &mut Random) -> Inode {
        let is_synced = self.unsynced.is_empty();
        let durable =
            if is_synced { Arc::clone(&self.durable) } else { Arc::new(self.survives(random)) };
        Inode { content: Arc::clone(&durable), durable, ..Inode::default() }
    }

    fn survives(&self, random: &mut Random) -> Vec<u8> {
        let count = self.unsynced.len();
        let mood = Mood::draw(random, count);
        let lengths_kept = random.moment(count);
        // The moment at which each page of mappings was written back; or each write by itself.
        let mut pages = random.coin().then(BTreeMap::new);
        let mut content = self.durable.to_vec();
        let mut len = content.len();
        for (index, change) in self.unsynced.iter().enumerate() {
            let (end, is_kept) = (change.end(), index < lengths_kept);
            match (change, &mut pages) {
                (Change::Write { offset, bytes, mapped: true }, Some(pages)) => {
                    for piece in pieces(*offset, bytes.len(), PAGE_BYTES) {
                        let page = (offset + piece.start) / PAGE_BYTES;
                        if index < *pages.entry(page).or_insert_with(|| random.moment(count)) {
                            put(&mut content, offset + piece.start, &bytes[piece]);
                        }
                    }
                }
                (Change::Write { offset, bytes, .. }, _) => {
                    mood.fate(index, random).put(&mut content, *offset, bytes, random);
                }
                (Change::Length(_), _) if is_kept => content.truncate(end),
                (Change::Length(_) | Change::Grow(_), _) => {}
            }
            match change {
                _ if !is_kept => {}
                Change::Length(_) => len = end,
                Change::Write { .. } | Change::Grow(_) => len = len.max(end),
            }
        }
        content.resize(len, 0);
        content
    }
}

impl Change {
    /// How long the file is thereafter, at least.
    pub(super) fn end(&self) -> usize {
        match self {
            Change::Write { offset, bytes, .. } => offset + bytes.len(),
            Change::Length(len) | Change::Grow(len) => *len,
        }
    }

    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes, .. } => put(content, *offset, bytes),
            Change::Length(len) => content.resize(*len, 0),
            Change::Grow(len) => content.resize(content.len().max(*len), 0),
        }
    }
}
