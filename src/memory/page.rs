//! Blocks of 4 KiB to 2 MiB cut from huge pages by a buddy allocator.
//!
//! ```text
//! region   32 MiB of address space, 2 MiB aligned = 16 pages
//! page     2 MiB = 512 units of 4 KiB; block of order k = 2^k units at a multiple of its size
//!
//! tree     one byte a node, heap order: node 1 is the page, nodes 2n and 2n+1 halve node n,
//!          nodes 512..1024 are units. Byte = 1 + order of the largest free block below, 0 = none.
//!          A block handed out has 0 in its node; the nodes under it stay as if free.
//!
//! list     pages by tree[1]: 1..=9 partly used, 10 cached (free, resident),
//!          11 returned (free, not resident); 0 is full or in transit, and in no list
//! ```
//! Bookkeeping is kept apart from the memory it describes, so merging reads no block, and a
//! returned page stays untouched. Each operation costs at most 2 x 9 steps in a tree and one
//! list move. A block comes from the fullest page that can serve it, which lets others run empty.
#![allow(unsafe_code, reason = "block addresses are computed inside regions")]

use super::mapping::{Advice, Mapping, PAGE_BYTES, advise};
use super::{OutOfMemory, lock};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Mutex;

/// The smallest block.
pub(super) const UNIT_BYTES: usize = 4 << 10;
const UNITS: usize = PAGE_BYTES / UNIT_BYTES;
const ORDER_MAX: u32 = UNITS.ilog2();
const REGION_PAGES: usize = 16;
/// Free resident pages `trim` leaves.
pub(super) const CACHED_PAGES: usize = 4;
/// Pages given back by one call of `trim`, which bounds its time.
pub(super) const TRIM_PAGES: usize = 32;

const NOWHERE: usize = 0;
const CACHED: usize = ORDER_MAX as usize + 1;
const RETURNED: usize = CACHED + 1;
const LISTS: usize = RETURNED + 1;
const NONE: u32 = u32::MAX;

const _: () = assert!(UNITS == 512 && ORDER_MAX == 9);
const _: () = assert!(size_of::<Page>() <= PAGE_BYTES / 1000, "bookkeeping is below 0.1 %");

struct Page {
    tree: [u8; 2 * UNITS],
    previous: u32,
    next: u32,
    list: usize,
}

struct Region {
    mapping: Mapping,
    pages: Box<[Page]>,
}

/// All memory of a pool; dropping it unmaps everything.
pub(super) struct Pages(Mutex<State>);

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
    /// Cached pages that `trim` must leave because somebody reserved them.
    reserved: usize,
}

impl Pages {
    pub(super) fn new() -> Pages {
        Pages(Mutex::new(State {
            regions: Vec::new(),
            by_start: BTreeMap::new(),
            own: BTreeMap::new(),
            own_bytes: 0,
            heads: [NONE; LISTS],
            cached: 0,
            resident: 0,
            reserved: 0,
        }))
    }

    /// A block of `bytes`, a power of two from 4 KiB to 2 MiB, aligned to its size. Contents are
    /// arbitrary.
    pub(super) fn take(&self, bytes: usize) -> Result<NonNull<u8>, OutOfMemory> {
        let order = order_of(bytes);
        let state = &mut *lock(&self.0);
        let index = match state.fullest(order) {
            Some(index) => index,
            None => state.free_page()?,
        };
        let unit = state.page(index).find(order);
        state.page(index).mark(unit, order, false);
        state.relist(index);
        let offset = unit * UNIT_BYTES;
        // SAFETY: `find` gives a unit inside the page, so the sum stays in the page's region.
        Ok(unsafe { state.address(index).add(offset) })
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// `block` is from `take` of the same `bytes`, given back once and used no more.
    pub(super) unsafe fn give(&self, block: NonNull<u8>, bytes: usize) {
        let order = order_of(bytes);
        let state = &mut *lock(&self.0);
        let (index, offset) = state.locate(block);
        state.page(index).mark(offset / UNIT_BYTES, order, true);
        state.relist(index);
    }

    /// A zeroed mapping for one block of any size, in huge pages if it fills one.
    pub(super) fn take_own(&self, bytes: usize) -> Result<NonNull<u8>, OutOfMemory> {
        let mapping = Mapping::new(bytes)?;
        if bytes >= PAGE_BYTES {
            mapping.prefer_huge();
        }
        let start = mapping.start();
        let state = &mut *lock(&self.0);
        state.own_bytes += mapping.bytes();
        state.own.insert(start.addr().get(), mapping);
        Ok(start)
    }

    /// Unmaps a block of `take_own`.
    ///
    /// # Safety
    /// `block` is from `take_own`, given back once and used no more.
    pub(super) unsafe fn give_own(&self, block: NonNull<u8>) {
        let mut state = lock(&self.0);
        let mapping = state.own.remove(&block.addr().get()).expect("a block of this pool");
        state.own_bytes -= mapping.bytes();
        drop(state);
        drop(mapping);
    }

    /// Makes `count` free pages resident, huge and safe from `trim` until they are used.
    pub(super) fn reserve(&self, count: usize) -> Result<(), OutOfMemory> {
        let missing = {
            let state = &mut *lock(&self.0);
            state.reserved = state.reserved.max(count);
            count.saturating_sub(state.cached)
        };
        for _ in 0..missing {
            let (index, start) = {
                let state = &mut *lock(&self.0);
                let index = state.cold_page()?;
                (index, state.address(index))
            };
            populate(start);
            let state = &mut *lock(&self.0);
            state.resident += 1;
            state.push(index, CACHED);
        }
        Ok(())
    }

    /// Gives up to `TRIM_PAGES` free pages back to the system; returns the bytes given back.
    pub(super) fn trim(&self) -> usize {
        let mut spare: [Option<(u32, NonNull<u8>)>; TRIM_PAGES] = [None; TRIM_PAGES];
        {
            let state = &mut *lock(&self.0);
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
            let state = &mut *lock(&self.0);
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
        let state = lock(&self.0);
        state.resident * PAGE_BYTES + state.own_bytes
    }

    /// Panics unless trees, lists and counts agree.
    pub(super) fn validate(&self) {
        let state = &*lock(&self.0);
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
        let mut found = [0; LISTS];
        for page in state.regions.iter().flat_map(|region| &region.pages) {
            page.validate();
            found[page.list] += 1;
        }
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
        let list = usize::from(self.page_ref(index).tree[1]);
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
        let mut tree = [0; 2 * UNITS];
        for (node, free) in tree.iter_mut().enumerate().skip(1) {
            *free = (ORDER_MAX - node.ilog2() + 1) as u8;
        }
        Page { tree, previous: NONE, next: NONE, list: NOWHERE }
    }

    /// The first unit of a free block of `order`, which the page must have.
    fn find(&self, order: u32) -> usize {
        let wanted = (order + 1) as u8;
        let mut node = 1;
        for _ in order..ORDER_MAX {
            let (left, right) = (self.tree[2 * node], self.tree[2 * node + 1]);
            // The half that fits tighter, to keep large blocks whole.
            node = 2 * node + usize::from(left < wanted || (right >= wanted && right < left));
        }
        debug_assert_eq!(self.tree[node], wanted);
        (node << order) - UNITS
    }

    /// Marks a block free or used, and merges or splits above it.
    fn mark(&mut self, unit: usize, order: u32, free: bool) {
        let mut node = (UNITS + unit) >> order;
        let whole = (order + 1) as u8;
        let before = if free { 0 } else { whole };
        assert_eq!(self.tree[node], before, "a block is given back once, with its own size");
        self.tree[node] = whole - before;
        let mut below = whole;
        while node > 1 {
            node /= 2;
            self.tree[node] = joined(self.tree[2 * node], self.tree[2 * node + 1], below);
            below += 1;
        }
    }

    fn validate(&self) {
        let mut pending = vec![1_usize];
        while let Some(node) = pending.pop() {
            let whole = (ORDER_MAX - node.ilog2() + 1) as u8;
            let value = self.tree[node];
            if value != 0 && value != whole {
                let expected = joined(self.tree[2 * node], self.tree[2 * node + 1], whole - 1);
                assert_eq!(value, expected, "a node is joined from its halves");
                pending.extend([2 * node, 2 * node + 1]);
            }
        }
        let expected = usize::from(self.tree[1]);
        assert!(self.list == expected || (expected == CACHED && self.list == RETURNED), "list");
    }
}

/// The byte of a node over two halves; `whole` is the byte of a half that is wholly free.
fn joined(left: u8, right: u8, whole: u8) -> u8 {
    if left == whole && right == whole { whole + 1 } else { left.max(right) }
}

fn order_of(bytes: usize) -> u32 {
    debug_assert!(bytes.is_power_of_two() && (UNIT_BYTES..=PAGE_BYTES).contains(&bytes));
    (bytes / UNIT_BYTES).ilog2()
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
