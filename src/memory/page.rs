//! Blocks of 4 KiB to 2 MiB cut from huge pages by a buddy allocator.
//!
//! ```text
//! region   32 MiB of address space, 2 MiB aligned = 16 pages
//! page     2 MiB, blocks in a tree
//!
//! list     pages by their largest free block: 1..=9 partly used, 10 cached (free, resident),
//!          11 returned (free, not resident); 0 is full or in transit, and in no list;
//!          12 partly used, beyond the border
//! ```
//! Where many pages are hardly used, there is a *border*: an address from which on pages are to run
//! empty. Blocks, and records in blocks, are taken from there only when there is no room before it.
//! As sessions come and go, and records are replaced, what is alive moves before the border by
//! itself, and the pages behind it can go back to the system.
//!
//! Bookkeeping is kept apart from the memory it describes, so merging reads no block, and a
//! returned page stays untouched. Each operation costs at most 2 x 9 steps in a tree and one
//! list move. A block comes from the fullest page that can serve it, which lets others run empty.
#![allow(unsafe_code, reason = "block addresses are computed inside regions")]

use super::mapping::{Advice, Mapping, PAGE_BYTES, advise};
use super::tree::{ORDER_MAX, Tree, UNIT_BYTES, UNITS, order_of};
use super::{OutOfMemory, lock};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const REGION_PAGES: usize = 16;
/// Free resident pages `trim` leaves.
pub(super) const CACHED_PAGES: usize = 4;
/// Pages given back by one call of `trim`, which bounds its time.
pub(super) const TRIM_PAGES: usize = 32;

const NOWHERE: usize = 0;
const CACHED: usize = ORDER_MAX as usize + 1;
const RETURNED: usize = CACHED + 1;
/// Partly used pages beyond the border.
const DRAINING: usize = RETURNED + 1;
const LISTS: usize = DRAINING + 1;
/// The border while no page is to run empty.
pub(super) const NO_BORDER: usize = usize::MAX;
const NONE: u32 = u32::MAX;

const _: () = assert!(size_of::<Page>() <= PAGE_BYTES / 1000, "bookkeeping is below 0.1 %");

struct Page {
    tree: Tree,
    previous: u32,
    next: u32,
    list: usize,
}

struct Region {
    mapping: Mapping,
    pages: Box<[Page]>,
}

/// All memory of a pool; dropping it unmaps everything.
pub(super) struct Pages {
    state: Mutex<State>,
    /// That of the state, for those who do not hold its lock.
    border: AtomicUsize,
}

struct State {
    regions: Vec<Region>,
    /// Region index by start address.
    by_start: BTreeMap<usize, usize>,
    /// Mappings for one block each, by start address.
    own: BTreeMap<usize, Mapping>,
    own_bytes: usize,
    heads: [u32; LISTS],
    cached: usize,
    /// Pages with memory behind them: neither fresh nor returned.
    resident: usize,
    /// Of blocks that are handed out.
    used_units: usize,
    border: usize,
    /// So many pages in use were before the border when it was set.
    border_pages: usize,
    /// Cached pages that `trim` must leave because somebody reserved them.
    reserved: usize,
}

impl Pages {
    pub(super) fn new() -> Pages {
        let state = State {
            regions: Vec::new(),
            by_start: BTreeMap::new(),
            own: BTreeMap::new(),
            own_bytes: 0,
            heads: [NONE; LISTS],
            cached: 0,
            resident: 0,
            used_units: 0,
            border: NO_BORDER,
            border_pages: 0,
            reserved: 0,
        };
        Pages { state: Mutex::new(state), border: AtomicUsize::new(NO_BORDER) }
    }

    /// Where it is better not to put anything: from this address on. Relaxed: an old one will do.
    #[inline]
    pub(super) fn border(&self) -> usize {
        self.border.load(Relaxed)
    }

    /// A block of `bytes`, a power of two from 4 KiB to 2 MiB, aligned to its size. Contents are
    /// arbitrary.
    pub(super) fn take(&self, bytes: usize) -> Result<NonNull<u8>, OutOfMemory> {
        let order = order_of(bytes);
        let state = &mut *lock(&self.state);
        let index = match state.fullest(order).or_else(|| state.draining(order)) {
            Some(index) => index,
            None => state.free_page()?,
        };
        Ok(state.take_from(index, order))
    }

    /// As [`Pages::take`], if a page before the border that is used already has room.
    pub(super) fn take_before_border(&self, bytes: usize) -> Option<NonNull<u8>> {
        let order = order_of(bytes);
        let state = &mut *lock(&self.state);
        let index = state.fullest(order)?;
        Some(state.take_from(index, order))
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// `block` is from `take` of the same `bytes`, given back once and used no more.
    pub(super) unsafe fn give(&self, block: NonNull<u8>, bytes: usize) {
        let order = order_of(bytes);
        let state = &mut *lock(&self.state);
        let (index, offset) = state.locate(block);
        state.page(index).tree.mark(offset / UNIT_BYTES, order, true);
        state.used_units -= 1 << order;
        state.relist(index);
    }

    /// A zeroed mapping for one block of any size, in huge pages if it fills one.
    pub(super) fn take_own(&self, bytes: usize) -> Result<NonNull<u8>, OutOfMemory> {
        let mapping = Mapping::new(bytes)?;
        if bytes >= PAGE_BYTES {
            mapping.prefer_huge();
        }
        let start = mapping.start();
        let state = &mut *lock(&self.state);
        state.own_bytes += mapping.bytes();
        state.own.insert(start.addr().get(), mapping);
        Ok(start)
    }

    /// Unmaps a block of `take_own`.
    ///
    /// # Safety
    /// `block` is from `take_own`, given back once and used no more.
    pub(super) unsafe fn give_own(&self, block: NonNull<u8>) {
        let mut state = lock(&self.state);
        let mapping = state.own.remove(&block.addr().get()).expect("a block of this pool");
        state.own_bytes -= mapping.bytes();
        drop(state);
        drop(mapping);
    }

    /// Makes `count` free pages resident, huge and safe from `trim` until they are used.
    pub(super) fn reserve(&self, count: usize) -> Result<(), OutOfMemory> {
        let missing = {
            let state = &mut *lock(&self.state);
            state.reserved = state.reserved.max(count);
            count.saturating_sub(state.cached)
        };
        for _ in 0..missing {
            let (index, start) = {
                let state = &mut *lock(&self.state);
                let index = state.cold_page()?;
                (index, state.address(index))
            };
            populate(start);
            let state = &mut *lock(&self.state);
            state.resident += 1;
            state.push(index, CACHED);
        }
        Ok(())
    }

    /// Gives up to `TRIM_PAGES` free pages back to the system; returns the bytes given back. Sets
    /// the border first. `idle_bytes` of the blocks that are handed out hold nothing.
    pub(super) fn trim(&self, idle_bytes: usize) -> usize {
        let mut spare: [Option<(u32, NonNull<u8>)>; TRIM_PAGES] = [None; TRIM_PAGES];
        {
            let state = &mut *lock(&self.state);
            state.set_border(idle_bytes);
            self.border.store(state.border, Relaxed);
            let floor = state.reserved.max(CACHED_PAGES);
            for slot in &mut spare[..state.cached.saturating_sub(floor).min(TRIM_PAGES)] {
                let index = state.heads[CACHED];
                state.unlink(index);
                *slot = Some((index, state.address(index)));
            }
        }
        let mut given = 0;
        for (index, start) in spare.into_iter().flatten() {
            // SAFETY: the page is wholly free and in no list, so nobody uses or can take it.
            let returned = unsafe { advise(start, PAGE_BYTES, Advice::Return) };
            let state = &mut *lock(&self.state);
            // A refusal (locked memory) leaves the page resident: it stays cached.
            state.push(index, if returned { RETURNED } else { CACHED });
            if returned {
                state.resident -= 1;
                given += PAGE_BYTES;
            }
        }
        given
    }

    pub(super) fn mapped_bytes(&self) -> usize {
        let state = lock(&self.state);
        state.resident * PAGE_BYTES + state.own_bytes
    }

    /// Panics unless trees, lists and counts agree.
    pub(super) fn validate(&self) {
        let state = &*lock(&self.state);
        let mut listed = [0; LISTS];
        for (list, head) in state.heads.iter().enumerate() {
            let mut previous = NONE;
            let mut index = *head;
            while index != NONE {
                let page = state.page_ref(index);
                assert_eq!(page.list, list, "a page's list is the one it is linked in");
                assert_eq!(page.previous, previous, "page links are symmetric");
                listed[list] += 1;
                (previous, index) = (index, page.next);
            }
        }
        assert_eq!(listed[NOWHERE], 0, "full pages are in no list");
        assert_eq!(listed[CACHED], state.cached, "the count of cached pages is their list's");
        let (mut found, mut used_units) = ([0; LISTS], 0);
        for (address, page) in state.pages() {
            used_units += page.validate();
            found[page.list] += 1;
            let is_beyond = page.is_partly_used() && address >= state.border;
            assert_eq!(page.list == DRAINING, is_beyond, "pages beyond the border are apart");
        }
        assert_eq!(used_units, state.used_units, "used units add up");
        assert_eq!(found[1..], listed[1..], "pages with a list are linked in it");
        let total = state.regions.len() * REGION_PAGES;
        assert_eq!(state.resident, total - found[RETURNED], "resident pages are the others");
        let own: usize = state.own.values().map(Mapping::bytes).sum();
        assert_eq!(own, state.own_bytes, "bytes of own mappings add up");
    }
}

impl State {
    fn page(&mut self, index: u32) -> &mut Page {
        let index = index as usize;
        &mut self.regions[index / REGION_PAGES].pages[index % REGION_PAGES]
    }

    fn page_ref(&self, index: u32) -> &Page {
        let index = index as usize;
        &self.regions[index / REGION_PAGES].pages[index % REGION_PAGES]
    }

    fn address(&self, index: u32) -> NonNull<u8> {
        let index = index as usize;
        let start = self.regions[index / REGION_PAGES].mapping.start();
        // SAFETY: a region maps REGION_PAGES pages, see `grow`.
        unsafe { start.add(index % REGION_PAGES * PAGE_BYTES) }
    }

    /// The page a block lies in, and its offset there.
    fn locate(&self, block: NonNull<u8>) -> (u32, usize) {
        let address = block.addr().get();
        let (start, region) = self.by_start.range(..=address).next_back().expect("a block of ours");
        let offset = address - start;
        assert!(offset < REGION_PAGES * PAGE_BYTES, "a block of ours");
        ((region * REGION_PAGES + offset / PAGE_BYTES) as u32, offset % PAGE_BYTES)
    }

    /// The fullest partly used page with a free block of `order`.
    fn fullest(&self, order: u32) -> Option<u32> {
        let lists = order as usize + 1..CACHED;
        self.heads[lists].iter().copied().find(|&head| head != NONE)
    }

    /// A page beyond the border with a free block of `order`.
    fn draining(&self, order: u32) -> Option<u32> {
        let mut index = self.heads[DRAINING];
        while index != NONE {
            let page = self.page_ref(index);
            if u32::from(page.tree.largest()) > order {
                return Some(index);
            }
            index = page.next;
        }
        None
    }

    /// Hands out a block of a page that has one.
    fn take_from(&mut self, index: u32, order: u32) -> NonNull<u8> {
        let unit = self.page(index).tree.find(order);
        self.page(index).tree.mark(unit, order, false);
        self.used_units += 1 << order;
        self.relist(index);
        // SAFETY: `find` gives a unit inside the page, so the sum stays in the page's region.
        unsafe { self.address(index).add(unit * UNIT_BYTES) }
    }

    /// All pages with their addresses, in the order of these.
    fn pages(&self) -> impl Iterator<Item = (usize, &Page)> {
        self.by_start.iter().flat_map(|(&start, &region)| {
            let pages = self.regions[region].pages.iter().enumerate();
            pages.map(move |(index, page)| (start + index * PAGE_BYTES, page))
        })
    }

    /// Decides which pages are to run empty: none, unless those in use are half as many again as
    /// what they hold would need. Costs a look at each page when the border moves.
    fn set_border(&mut self, idle_bytes: usize) {
        let in_use = self.resident - self.cached;
        let held = (self.used_units * UNIT_BYTES).saturating_sub(idle_bytes).div_ceil(PAGE_BYTES);
        // With room for what comes and goes meanwhile.
        let wanted = held + held / 4 + CACHED_PAGES;
        let stays = (wanted..=wanted + wanted / 4).contains(&self.border_pages);
        let border = if in_use <= wanted + wanted / 4 {
            (NO_BORDER, 0)
        } else if self.border != NO_BORDER && stays {
            return;
        } else {
            let mut in_use = self.pages().filter(|(_, page)| page.is_in_use());
            let beyond = wanted + wanted / 8;
            (in_use.nth(beyond).map_or(NO_BORDER, |(address, _)| address), beyond)
        };
        if self.border == border.0 {
            return;
        }
        (self.border, self.border_pages) = border;
        for index in 0..self.regions.len() * REGION_PAGES {
            if self.page_ref(index as u32).is_partly_used() {
                self.relist(index as u32);
            }
        }
    }

    /// A wholly free page, taken out of its list.
    fn free_page(&mut self) -> Result<u32, OutOfMemory> {
        if self.cached > 0 {
            let index = self.heads[CACHED];
            self.unlink(index);
            self.reserved = self.reserved.saturating_sub(1);
            return Ok(index);
        }
        let index = self.cold_page()?;
        self.resident += 1;
        Ok(index)
    }

    /// A wholly free page without memory behind it, taken out of its list.
    fn cold_page(&mut self) -> Result<u32, OutOfMemory> {
        if self.heads[RETURNED] == NONE {
            self.grow()?;
        }
        let index = self.heads[RETURNED];
        self.unlink(index);
        Ok(index)
    }

    fn grow(&mut self) -> Result<(), OutOfMemory> {
        let first = u32::try_from(self.regions.len() * REGION_PAGES).map_err(|_| OutOfMemory)?;
        let mapping = Mapping::new(REGION_PAGES * PAGE_BYTES)?;
        mapping.prefer_huge();
        self.by_start.insert(mapping.start().addr().get(), self.regions.len());
        let pages = (0..REGION_PAGES).map(|_| Page::new()).collect();
        self.regions.push(Region { mapping, pages });
        for index in (first..first + REGION_PAGES as u32).rev() {
            self.push(index, RETURNED);
        }
        Ok(())
    }

    /// Moves a page to the list its tree asks for.
    fn relist(&mut self, index: u32) {
        let mut list = usize::from(self.page_ref(index).tree.largest());
        let is_beyond = || self.address(index).addr().get() >= self.border;
        if (1..CACHED).contains(&list) && self.border != NO_BORDER && is_beyond() {
            list = DRAINING;
        }
        if self.page_ref(index).list != list {
            self.unlink(index);
            self.push(index, list);
        }
    }

    fn push(&mut self, index: u32, list: usize) {
        self.page(index).list = list;
        if list == NOWHERE {
            return;
        }
        let next = self.heads[list];
        let page = self.page(index);
        (page.previous, page.next) = (NONE, next);
        if next != NONE {
            self.page(next).previous = index;
        }
        self.heads[list] = index;
        self.cached += usize::from(list == CACHED);
    }

    fn unlink(&mut self, index: u32) {
        let page = self.page(index);
        let (list, previous, next) = (page.list, page.previous, page.next);
        page.list = NOWHERE;
        if list == NOWHERE {
            return;
        }
        if previous == NONE {
            self.heads[list] = next;
        } else {
            self.page(previous).next = next;
        }
        if next != NONE {
            self.page(next).previous = previous;
        }
        self.cached -= usize::from(list == CACHED);
    }
}

impl Page {
    /// A wholly free page.
    fn new() -> Page {
        Page { tree: Tree::new(), previous: NONE, next: NONE, list: NOWHERE }
    }

    /// With a block handed out, and room for another.
    fn is_partly_used(&self) -> bool {
        (1..CACHED).contains(&usize::from(self.tree.largest()))
    }

    /// With a block handed out.
    fn is_in_use(&self) -> bool {
        usize::from(self.tree.largest()) < CACHED
    }

    /// Panics unless all agrees. Returns how many units are handed out.
    fn validate(&self) -> usize {
        let expected = usize::from(self.tree.largest());
        let is_listed = match self.list {
            DRAINING => self.is_partly_used(),
            RETURNED => expected == CACHED,
            list => list == expected,
        };
        assert!(is_listed, "a page is in the list of its largest free block");
        self.tree.validate()
    }
}

/// Faults a free page in.
fn populate(start: NonNull<u8>) {
    // SAFETY: a page of ours; populating keeps contents.
    if unsafe { advise(start, PAGE_BYTES, Advice::Populate) } {
        return;
    }
    // Linux before 5.14 does not know the advice.
    for unit in 0..UNITS {
        // SAFETY: UNITS units make up the page.
        let place = unsafe { start.add(unit * UNIT_BYTES) };
        // SAFETY: the page is free and in no list, so its contents are nobody's.
        unsafe { place.write_volatile(0) };
    }
}
