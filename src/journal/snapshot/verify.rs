//! Checks a whole snapshot: every byte, then that its tables say the same as its entries.

use std::ops::Deref;

use super::framing::{EntryOffset, Found};
use super::layout::{self, Extent, PAGE_LEN, Slot};
use super::read::Snapshot;
use super::{Damage, Section};

/// After so many bytes the caller hears of it.
const STRIDE: u64 = 256 * 1024;

impl<B: Deref<Target = [u8]>> Snapshot<B> {
    /// Reads the whole file; its slots in no order, so it should be in memory for that. Calls
    /// `progress` about every 256 KiB with the number of bytes checked and the number of all, so
    /// that a thread in the background may take its time there.
    ///
    /// # Errors
    /// The first damage that it comes upon.
    pub(crate) fn verify(&self, mut progress: impl FnMut(u64, u64)) -> Result<(), Damage> {
        let total = self.header.file_len;
        let mut done = self.verify_pages(&mut |done| progress(done, total))?;
        let mut last = self.header.entries.offset;
        let (mut live, mut owned) = (0, 0);
        let mut walk = self.entries();
        while let Some(entry) = walk.next() {
            let (offset, found) = entry?;
            let is_found = self.find(found.id())? == Some((offset, found));
            Self::demand(is_found, Section::Slots, self.header.slots.offset)?;
            live += 1;
            owned += u64::from(matches!(found, Found::Session(stored) if !stored.owner.is_empty()));
            let EntryOffset(at) = walk.position();
            if at - last >= STRIDE {
                (done, last) = (done + (at - last), at);
                progress(done, total);
            }
        }
        self.verify_slots(live)?;
        self.verify_owners(owned)?;
        progress(total, total);
        Ok(())
    }

    fn demand(is_good: bool, what: Section, offset: u64) -> Result<(), Damage> {
        if is_good { Ok(()) } else { Err(Damage { what, offset }) }
    }

    /// Checks the page sums, the pages, the zeros before them; says how many bytes that were.
    fn verify_pages(&self, progress: &mut dyn FnMut(u64)) -> Result<u64, Damage> {
        let header = &self.header;
        let sums = self.slice(header.sums);
        let sum = sums.map(|sums| layout::sum(header.fields.salt, header.sums.offset, sums));
        Self::demand(sum == Some(header.sums_sum), Section::Sums, header.sums.offset)?;
        let tables = [
            (Section::Slots, header.slots),
            (Section::Owners, header.owners),
            (Section::Superseded, header.superseded),
            (Section::Chunks, header.chunks),
        ];
        for (table, Extent { offset, len }) in tables {
            for page in (offset..offset + len).step_by(PAGE_LEN as usize) {
                self.check_page(table, page)?;
                if page.is_multiple_of(STRIDE) {
                    progress(page - header.slots.offset);
                }
            }
        }
        let offset = header.entries.offset + header.entries.len;
        let zeros = self.slice(Extent { offset, len: header.slots.offset - offset });
        let are_zeros = zeros.is_some_and(|zeros| zeros.iter().all(|&byte| byte == 0));
        Self::demand(are_zeros, Section::Entries, offset)?;
        Ok(header.file_len - header.slots.offset)
    }

    /// Each live entry was found, so if there are no more slots than those, there is no other.
    fn verify_slots(&self, live: u64) -> Result<(), Damage> {
        let mut taken = 0;
        for index in 0..self.row_count::<16>(Section::Slots) {
            taken += u64::from(!Slot::decode(self.row(Section::Slots, index)?).is_free());
        }
        let are_all = (taken, live) == (live, self.header.counts.live());
        Self::demand(are_all, Section::Slots, self.header.slots.offset)
    }

    /// So many rows as owned sessions, no two alike, each of a session with that owner.
    fn verify_owners(&self, owned: u64) -> Result<(), Damage> {
        let salt = self.header.fields.salt;
        let mut last = None;
        let mut are_all = owned == self.row_count::<16>(Section::Owners);
        for index in 0..self.row_count::<16>(Section::Owners) {
            let row = layout::unpair(self.row(Section::Owners, index)?);
            let found = self.entry_at(row.1)?;
            let is_its = matches!(found, Found::Session(stored)
                if layout::owner_hash(salt, stored.owner) == row.0);
            are_all &= is_its && last.replace(row) < Some(row);
        }
        Self::demand(are_all, Section::Owners, self.header.owners.offset)
    }
}
