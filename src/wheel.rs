//! The hierarchical timer wheel: tells which nodes may have reached their deadline.
//!
//! It is pure: no lock, no thread, no clock reading, no idea what a key stands for.
//!
//! Six levels of 64 slots cover every `u32` tick; a slot of level `n` is `64^n` ticks long.
//!
//! ```text
//! bits of a tick   31 30 | 29 .. 24 | 23 .. 18 | 17 .. 12 | 11 .. 6 | 5 .. 0
//! level              5   |    4     |    3     |    2     |    1    |   0
//! ```
//!
//! A deadline after `elapsed` belongs to the level of the highest six-bit group in which the two
//! differ, and there to the slot numbered by the deadline's own group. So every slot with nodes
//! starts after `elapsed`, and before any of the levels above it: the first such slot of the lowest
//! level is the earliest. When `elapsed` moves, a level loses no slot, those up to one, or all.
//!
//! No deadline is stored and no node cascades: a node is handed out when its *slot* starts, and
//! the caller, who knows the deadline, removes it when that has come and re-arms it otherwise. So
//! moving a deadline *later* needs no call; moving it *earlier* needs [`Wheel::rearm`] at once.
//! Re-arming for the same deadline leads to a lower level: six hand-outs for one at most.
//!
//! ```text
//!            prev (u32)               next (u32)               key (u32)
//! linked     node, or edge            node, or edge            the caller's
//! detached   DETACHED                 DETACHED                 the caller's
//! free       FREE                     FREE                     0
//! ```
//!
//! The nodes of a slot are a circular list through an anchor, the edge: the first `prev` and the
//! last `next` name the slot, with the top bit set. So a node is unlinked with no deadline to find
//! its slot by, and a whole slot joins the due list in constant time.
//!
//! Nodes live in chunks of 128 which never move, and the lowest free node is always taken first.
//! Each chunk without nodes is given back, save the lowest such: it stays as a spare, so that an
//! insert and a remove in turn do not allocate each time. The directory of chunks, 0.25 bytes a
//! node, keeps its greatest size.

use crate::clock::Tick;

/// How many nodes one wheel can hold; the index after the last stands for none.
pub(crate) const NODE_COUNT_MAX: u32 = (1 << 24) - 1;

const LEVEL_COUNT: usize = 6;
const LEVEL_BITS: u32 = 6;
const LEVEL_SLOT_COUNT: usize = 1 << LEVEL_BITS;
const LEVEL_SLOT_LAST: u32 = LEVEL_SLOT_COUNT as u32 - 1;

/// The list of nodes ready to be handed out, numbered after those of the slots.
const DUE: usize = LEVEL_COUNT * LEVEL_SLOT_COUNT;
const CHUNK_NODE_COUNT: usize = 128;

/// Names a node from [`Wheel::insert`] to [`Wheel::remove`]; later nodes may bear the same index.
/// The wheel's methods panic if it names none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct NodeIndex(pub(crate) u32);

/// A neighbour in a list: a node by its index, or the edge of the list by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Link(u32);

impl Link {
    const EDGE_BIT: u32 = 1 << 31;
    /// Both links of a node that was handed out and neither re-armed nor removed yet.
    const DETACHED: Link = Link(u32::MAX - 1);
    /// Both links of a node that is not in use.
    const FREE: Link = Link(u32::MAX);

    fn edge(list: usize) -> Link {
        Link(Self::EDGE_BIT | list as u32)
    }

    /// The list this is the edge of, if it is no node. Not for `DETACHED` and `FREE`.
    fn list(self) -> Option<usize> {
        (self.0 & Self::EDGE_BIT != 0).then_some((self.0 & !Self::EDGE_BIT) as usize)
    }
}

/// Both neighbours of a node, or of an edge: then `next` is the first node and `prev` the last.
#[derive(Clone, Copy, Debug)]
struct Links {
    prev: Link,
    next: Link,
}

impl Links {
    fn both(link: Link) -> Links {
        let (prev, next) = (link, link);
        Links { prev, next }
    }
}

#[derive(Clone, Copy, Debug)]
struct Node {
    links: Links,
    key: u32,
}

impl Node {
    /// A node in no list, for the reason that `mark` says.
    fn outside(mark: Link, key: u32) -> Node {
        let links = Links::both(mark);
        Node { links, key }
    }
}

const _: () = assert!(size_of::<Node>() == 12);

/// The timer wheel. See the head of this file for how it works.
pub(crate) struct Wheel {
    slab: Slab,
    /// One edge a list, which is its own neighbour while the list is empty.
    edges: Box<[Links; DUE + 1]>,
    /// One bit a slot, set while its list has nodes.
    occupied: [u64; LEVEL_COUNT],
    /// The greatest `now` seen. All slots that started until then are empty.
    elapsed: u32,
}

impl Wheel {
    /// An empty wheel whose time is `now`. Costs 3.2 KB; the first node allocates 1.6 KB more.
    pub(crate) fn new(now: Tick) -> Wheel {
        Wheel {
            slab: Slab::default(),
            edges: Box::new(std::array::from_fn(|list| Links::both(Link::edge(list)))),
            occupied: [0; LEVEL_COUNT],
            elapsed: now.0,
        }
    }

    /// Adds a node that is handed out, with `key`, once `when` or the start of its slot has come;
    /// `None` when [`NODE_COUNT_MAX`] nodes are in use.
    ///
    /// A `when` that has come already makes the node due at once. [`Tick::NEVER`] is no exception
    /// but merely the greatest tick: what has no deadline needs no node.
    pub(crate) fn insert(&mut self, key: u32, when: Tick) -> Option<NodeIndex> {
        let index = self.slab.take(key)?;
        self.link(index, when.0);
        Some(NodeIndex(index))
    }

    /// Arms the node for `when` as [`Wheel::insert`] does, be it linked or handed out.
    ///
    /// After [`Wheel::take_due`] with some `now`, a `when` after `now` leads to a slot that starts
    /// after `now`; any other makes the node due again, behind all that are.
    pub(crate) fn rearm(&mut self, node: NodeIndex, when: Tick) {
        self.unlink(node.0);
        self.link(node.0, when.0);
    }

    /// Ends the node's use, linked or handed out, and returns its key.
    pub(crate) fn remove(&mut self, node: NodeIndex) -> u32 {
        self.unlink(node.0);
        self.slab.give(node.0)
    }

    /// The key given to [`Wheel::insert`].
    pub(crate) fn key(&self, node: NodeIndex) -> u32 {
        self.slab.used_node(node.0).key
    }

    /// Moves time on to `now` and appends up to `count_max` nodes whose slots have started to
    /// `due`, in the order of the slots; true if more are left: call again.
    ///
    /// The caller must re-arm or remove each, at any time; until then it is not handed out again.
    /// Time does not go back: a `now` before an earlier one counts as that one, and a caller who
    /// judged deadlines by it would be handed the same nodes for ever.
    ///
    /// Costs `count_max` nodes and, when time moved, two more for each slot that started with nodes
    /// in it: seldom more than one, 318 after the longest leap.
    pub(crate) fn take_due(
        &mut self,
        now: Tick,
        count_max: usize,
        due: &mut Vec<(NodeIndex, u32)>,
    ) -> bool {
        self.advance(now.0);
        let len_max = due.len().saturating_add(count_max);
        let mut link = self.edges[DUE].next;
        while link.list().is_none() && due.len() < len_max {
            let node = self.slab.node_mut(link.0);
            due.push((NodeIndex(link.0), node.key));
            link = node.links.next;
            node.links = Links::both(Link::DETACHED);
        }
        self.join(Link::edge(DUE), link);
        link.list().is_none()
    }

    /// The earliest `now` at which [`Wheel::take_due`] hands something out: exact, the start of the
    /// first slot with nodes. The wheel's own time if nodes are due; `None` if no node is linked.
    pub(crate) fn next(&self) -> Option<Tick> {
        if self.edges[DUE].next.list().is_none() {
            return Some(Tick(self.elapsed));
        }
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        Some(Tick(self.slot_start(level, slot)))
    }

    /// The number of nodes in use, those handed out included.
    pub(crate) fn len(&self) -> u32 {
        self.slab.len
    }

    /// All memory held, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Wheel>()
            + size_of::<[Links; DUE + 1]>()
            + self.slab.resident_count * size_of::<[Node; CHUNK_NODE_COUNT]>()
            + self.slab.chunks.capacity() * size_of::<Chunk>()
            + self.slab.open.capacity() * size_of::<u64>()
    }

    /// Panics unless all holds that must hold between two calls. Visits each node and slot.
    pub(crate) fn validate(&self) {
        let detached_count = self.slab.validate();
        let mut linked_count = self.validate_list(DUE);
        for list in 0..DUE {
            let count = self.validate_list(list);
            linked_count += count;
            let (level, slot) = (list / LEVEL_SLOT_COUNT, list % LEVEL_SLOT_COUNT);
            let bit = self.occupied[level] >> slot & 1 == 1;
            assert!(bit == (count > 0), "bitmap: level {level} slot {slot}");
            let after = self.slot_start(level, slot as u32) > self.elapsed;
            assert!(count == 0 || after, "position: level {level} slot {slot}");
        }
        // The walks met distinct nodes, so equal numbers mean that none lies outside the lists.
        let count = linked_count + detached_count;
        assert!(count == self.slab.len, "count: {count} linked or detached");
    }

    /// Walks one list and returns how many nodes it has. That each link agrees with the one back is
    /// also what keeps a node from being in two lists, or twice in one.
    fn validate_list(&self, list: usize) -> u32 {
        let mut count = 0;
        let (mut prev, mut link) = (Link::edge(list), self.edges[list].next);
        while link.list().is_none() {
            let links = self.slab.used_node(link.0).links;
            assert!(links.prev == prev, "links: prev of node {}", link.0);
            (prev, link) = (link, links.next);
            count += 1;
        }
        assert!(link == Link::edge(list), "links: end of list {list}");
        assert!(self.edges[list].prev == prev, "links: last of list {list}");
        count
    }

    fn slot_start(&self, level: usize, slot: u32) -> u32 {
        let shift = level as u32 * LEVEL_BITS;
        // The topmost level has no groups above it: the shift leaves nothing.
        let above = self.elapsed.checked_shr(shift + LEVEL_BITS).unwrap_or(0);
        ((above << LEVEL_BITS) | slot) << shift
    }

    fn link(&mut self, index: u32, when: u32) {
        let list = if when <= self.elapsed {
            DUE
        } else {
            let level = level_of(self.elapsed, when);
            let slot = slot_of(when, level);
            self.occupied[level] |= 1 << slot;
            level * LEVEL_SLOT_COUNT + slot as usize
        };
        self.join(self.edges[list].prev, Link(index));
        self.join(Link(index), Link::edge(list));
    }

    /// Leaves the node's own links as they were: the caller sets them anew or frees it.
    fn unlink(&mut self, index: u32) {
        let Links { prev, next } = self.slab.used_node(index).links;
        if prev == Link::DETACHED {
            return;
        }
        self.join(prev, next);
        // Between an edge and itself the node was the only one.
        let emptied = prev.list().filter(|&list| prev == next && list != DUE);
        if let Some(list) = emptied {
            self.occupied[list / LEVEL_SLOT_COUNT] &= !(1 << (list % LEVEL_SLOT_COUNT));
        }
    }

    /// Makes two nodes or edges neighbours.
    fn join(&mut self, prev: Link, next: Link) {
        self.links_mut(prev).next = next;
        self.links_mut(next).prev = prev;
    }

    fn links_mut(&mut self, link: Link) -> &mut Links {
        match link.list() {
            Some(list) => &mut self.edges[list],
            None => &mut self.slab.node_mut(link.0).links,
        }
    }

    /// Moves every slot that starts until `now` to the due list, earliest first.
    fn advance(&mut self, now: u32) {
        if now <= self.elapsed {
            return;
        }
        let level_top = level_of(self.elapsed, now);
        for level in 0..=level_top {
            // Of the levels below, all slots lie before the one of `now` at the top.
            let whole = level < level_top;
            let slot_last = if whole { LEVEL_SLOT_LAST } else { slot_of(now, level) };
            let started = u64::MAX >> (LEVEL_SLOT_LAST - slot_last);
            let mut slots = self.occupied[level] & started;
            self.occupied[level] &= !started;
            while slots != 0 {
                let list = level * LEVEL_SLOT_COUNT + slots.trailing_zeros() as usize;
                slots &= slots - 1;
                let empty = Links::both(Link::edge(list));
                let filled = std::mem::replace(&mut self.edges[list], empty);
                self.join(self.edges[DUE].prev, filled.next);
                self.join(filled.prev, Link::edge(DUE));
            }
        }
        self.elapsed = now;
    }
}

/// The level of a deadline after `elapsed`: the highest group of bits in which they differ.
fn level_of(elapsed: u32, when: u32) -> usize {
    ((elapsed ^ when).ilog2() / LEVEL_BITS) as usize
}

fn slot_of(when: u32, level: usize) -> u32 {
    when >> (level as u32 * LEVEL_BITS) & LEVEL_SLOT_LAST
}

/// 128 nodes, or the place for them when they were given back.
#[derive(Default)]
struct Chunk {
    nodes: Option<Box<[Node; CHUNK_NODE_COUNT]>>,
    /// One bit a node, set while it is in use.
    used: u128,
}

/// Where nodes live. Their addresses and indexes never change.
#[derive(Default)]
struct Slab {
    chunks: Vec<Chunk>,
    /// One bit a chunk, set while it is not full, be its memory there or not.
    open: Vec<u64>,
    /// The only chunk that has its memory but no node in use.
    spare: Option<usize>,
    /// How many chunks have their memory.
    resident_count: usize,
    len: u32,
}

impl Slab {
    fn used_node(&self, index: u32) -> &Node {
        let nodes = self.chunks[index as usize / CHUNK_NODE_COUNT].nodes.as_ref();
        let node = nodes.map(|nodes| &nodes[index as usize % CHUNK_NODE_COUNT]);
        let used = node.filter(|node| node.links.prev != Link::FREE);
        used.expect("wheel: the node is not in use")
    }

    fn node_mut(&mut self, index: u32) -> &mut Node {
        let nodes = self.chunks[index as usize / CHUNK_NODE_COUNT].nodes.as_mut();
        &mut nodes.expect("wheel: the node is not in use")[index as usize % CHUNK_NODE_COUNT]
    }

    /// The lowest free node, now detached; `None` when all are in use.
    fn take(&mut self, key: u32) -> Option<u32> {
        if self.len == NODE_COUNT_MAX {
            return None;
        }
        let chunk_index = self.lowest_open();
        let chunk = &mut self.chunks[chunk_index];
        let place = chunk.used.trailing_ones() as usize;
        chunk.used |= 1 << place;
        if chunk.used == u128::MAX {
            self.open[chunk_index / 64] &= !(1 << (chunk_index % 64));
        }
        let nodes = chunk.nodes.get_or_insert_with(|| {
            self.resident_count += 1;
            Box::new([Node::outside(Link::FREE, 0); CHUNK_NODE_COUNT])
        });
        nodes[place] = Node::outside(Link::DETACHED, key);
        self.spare = self.spare.filter(|&spare| spare != chunk_index);
        self.len += 1;
        Some((chunk_index * CHUNK_NODE_COUNT + place) as u32)
    }

    /// Frees a node that is in no list and returns its key.
    fn give(&mut self, index: u32) -> u32 {
        let key = std::mem::replace(self.node_mut(index), Node::outside(Link::FREE, 0)).key;
        self.len -= 1;
        let chunk_index = index as usize / CHUNK_NODE_COUNT;
        self.open[chunk_index / 64] |= 1 << (chunk_index % 64);
        let chunk = &mut self.chunks[chunk_index];
        chunk.used &= !(1 << (index as usize % CHUNK_NODE_COUNT));
        if chunk.used == 0 {
            // Of this chunk and the spare one, if any, the lower stays.
            let spare = self.spare.unwrap_or(chunk_index);
            self.spare = Some(spare.min(chunk_index));
            if spare != chunk_index {
                self.chunks[spare.max(chunk_index)].nodes = None;
                self.resident_count -= 1;
            }
        }
        key
    }

    /// The lowest chunk that is not full, a new one if all are. Reads a word for 8,192 nodes.
    fn lowest_open(&mut self) -> usize {
        if let Some(word) = self.open.iter().position(|&chunks| chunks != 0) {
            return word * 64 + self.open[word].trailing_zeros() as usize;
        }
        let chunk_index = self.chunks.len();
        self.chunks.push(Chunk::default());
        self.open.resize(chunk_index / 64 + 1, 0);
        self.open[chunk_index / 64] |= 1 << (chunk_index % 64);
        chunk_index
    }

    /// Checks the chunks and returns how many nodes are detached.
    fn validate(&self) -> u32 {
        let (mut used_sum, mut detached_sum, mut resident_count) = (0, 0, 0);
        for (index, chunk) in self.chunks.iter().enumerate() {
            let open = self.open[index / 64] >> (index % 64) & 1 == 1;
            assert!(open != (chunk.used == u128::MAX), "open: chunk {index}");
            let Some(nodes) = &chunk.nodes else {
                assert!(chunk.used == 0, "chunk: {index} was given back in use");
                continue;
            };
            resident_count += 1;
            let spare = self.spare == Some(index);
            assert!(spare == (chunk.used == 0), "spare: chunk {index}");
            for (place, node) in nodes.iter().enumerate() {
                let used = chunk.used >> place & 1 == 1;
                let free = node.links.prev == Link::FREE;
                assert!(used != free, "used: node {place} of chunk {index}");
                used_sum += u32::from(used);
                detached_sum += u32::from(node.links.prev == Link::DETACHED);
            }
        }
        assert!(used_sum == self.len, "count: {used_sum} nodes used");
        assert!(resident_count == self.resident_count, "count: chunks");
        detached_sum
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const LAST: u32 = u32::MAX;

    /// The start of the slot for `when`, by division instead of bits: the widest slot that does not
    /// hold `elapsed` as well.
    fn start_expected(elapsed: u32, when: u32) -> u32 {
        let (elapsed, when) = (u64::from(elapsed), u64::from(when));
        let starts = (0..6).map(|level| (64_u64.pow(level), when / 64_u64.pow(level)));
        let mut apart = starts.filter(|&(ticks, slot)| slot != elapsed / ticks);
        let widest = apart.next_back().map(|(ticks, slot)| ticks * slot);
        u32::try_from(widest.expect("when is after elapsed")).expect("starts before when")
    }

    /// Drives the wheel to `now` as a caller with one deadline a node does, and returns the keys
    /// that reached theirs, in order.
    fn drive(wheel: &mut Wheel, now: u32, deadline_of: impl Fn(u32) -> u32) -> Vec<u32> {
        let (mut keys, mut due) = (Vec::new(), Vec::new());
        loop {
            let more = wheel.take_due(Tick(now), 3, &mut due);
            for (node, key) in due.drain(..) {
                assert_eq!(wheel.key(node), key);
                if deadline_of(key) <= now {
                    assert_eq!(wheel.remove(node), key);
                    keys.push(key);
                } else {
                    wheel.rearm(node, Tick(deadline_of(key)));
                }
            }
            wheel.validate();
            if !more {
                return keys;
            }
        }
    }

    /// Sleeps until `next()` again and again, as the expiry thread does, and returns how many times
    /// it woke until `when` was reached, which must be no tick late.
    fn wakes_until_due(elapsed: u32, when: u32) -> u32 {
        let mut wheel = Wheel::new(Tick(elapsed));
        wheel.insert(7, Tick(when)).expect("room");
        wheel.validate();
        let (mut wakes, mut now_last) = (0, None);
        loop {
            let now = wheel.next().expect("the node is linked").0;
            assert!(now_last < Some(now), "wakes for ever at {now}");
            now_last = Some(now);
            wakes += 1;
            if now > elapsed {
                assert_eq!(
                    drive(&mut wheel, now - 1, |_| when),
                    [0_u32; 0],
                    "before the slot's start"
                );
            }
            if drive(&mut wheel, now, |_| when) == [7] {
                assert_eq!(now, when.max(elapsed));
                assert_eq!((wheel.len(), wheel.next()), (0, None));
                return wakes;
            }
        }
    }

    /// Off-by-one errors live at the ends of slots, levels and the range: all pairs of such ticks.
    #[test]
    fn boundary_table() {
        let mut ticks = BTreeSet::from([7, 7_481_664, LAST / 2, LAST]);
        for level in 0..6 {
            let width = 64_u32.pow(level);
            for slot in [0, 1, 2, 3, 62, 63, 64, 65] {
                if let Some(start) = width.checked_mul(slot) {
                    ticks.extend([start.saturating_sub(1), start, start.saturating_add(1)]);
                    ticks.extend([LAST - start, LAST - start.saturating_sub(1)]);
                }
            }
        }
        assert!(ticks.len() > 100, "{}", ticks.len());
        for &elapsed in &ticks {
            for &when in &ticks {
                let wakes = wakes_until_due(elapsed, when);
                assert!(wakes <= 6, "{wakes} hand-outs from {elapsed} to {when}");
                if when <= elapsed {
                    assert_eq!(wakes, 1);
                }
            }
        }
    }

    /// What is due, just past or just ahead at the same instant.
    #[test]
    fn deadline_around_now() {
        for elapsed in [0, 1, 63, 64, 4095, 4096, 7_481_664, LAST - 1] {
            let mut wheel = Wheel::new(Tick(elapsed));
            wheel.insert(0, Tick(elapsed.saturating_sub(1))).expect("room");
            wheel.insert(1, Tick(elapsed)).expect("room");
            wheel.insert(2, Tick(elapsed + 1)).expect("room");
            assert_eq!(wheel.next(), Some(Tick(elapsed)));
            let deadline_of = |key| [elapsed.saturating_sub(1), elapsed, elapsed + 1][key as usize];
            assert_eq!(drive(&mut wheel, elapsed, deadline_of), [0, 1]);
            assert_eq!(wheel.next(), Some(Tick(elapsed + 1)));
            assert_eq!(drive(&mut wheel, elapsed + 1, deadline_of), [2]);
        }
    }

    /// Years of suspension at once: every slot of every level is due, in order, in bounded calls.
    #[test]
    fn leap_over_the_whole_range() {
        let mut wheel = Wheel::new(Tick(0));
        let mut whens = vec![LAST];
        for level in 0..6 {
            whens.extend((1..64).filter_map(|slot| 64_u32.pow(level).checked_mul(slot)));
        }
        for &when in whens.iter().rev() {
            wheel.insert(when, Tick(when)).expect("room");
        }
        wheel.validate();
        let mut due = Vec::new();
        assert!(wheel.take_due(Tick(LAST), 100, &mut due));
        assert_eq!(due.len(), 100);
        wheel.validate();
        assert!(!wheel.take_due(Tick(LAST), usize::MAX, &mut due));
        let starts = due.iter().map(|&(_, key)| start_expected(0, key));
        assert!(starts.is_sorted());
        let keys: BTreeSet<u32> = due.iter().map(|&(_, key)| key).collect();
        assert_eq!(keys, BTreeSet::from_iter(whens));
        assert_eq!(wheel.next(), None);
        wheel.rearm(due[0].0, Tick::NEVER);
        assert_eq!(wheel.next(), Some(Tick::NEVER));
        wheel.validate();
    }

    /// A wake-up must not be missed when a deadline moves forward (tokio DelayQueue #849).
    #[test]
    fn rearm_to_earlier_after_later() {
        let mut wheel = Wheel::new(Tick(10));
        let node = wheel.insert(1, Tick(100)).expect("room");
        wheel.rearm(node, Tick(1_000_000));
        assert_eq!(wheel.next(), Some(Tick(start_expected(10, 1_000_000))));
        wheel.rearm(node, Tick(12));
        assert_eq!(wheel.next(), Some(Tick(12)));
        wheel.rearm(node, Tick(3));
        assert_eq!(wheel.next(), Some(Tick(10)));
        wheel.validate();
        assert_eq!(drive(&mut wheel, 10, |_| 3), [1]);
    }

    /// A node may go or move at any moment: waiting in the due list, or handed out.
    #[test]
    fn remove_and_rearm_while_due_or_detached() {
        let mut wheel = Wheel::new(Tick(0));
        let nodes: Vec<_> = (0..6).map(|key| wheel.insert(key, Tick(5)).expect("room")).collect();
        let mut due = Vec::new();
        assert!(wheel.take_due(Tick(5), 2, &mut due));
        assert_eq!(due, [(nodes[0], 0), (nodes[1], 1)]);
        assert_eq!(wheel.remove(nodes[0]), 0);
        wheel.rearm(nodes[1], Tick(6));
        assert_eq!(wheel.remove(nodes[3]), 3);
        wheel.rearm(nodes[4], Tick(7));
        wheel.validate();
        due.clear();
        assert!(!wheel.take_due(Tick(5), 9, &mut due));
        assert_eq!(due, [(nodes[2], 2), (nodes[5], 5)]);
        assert_eq!((wheel.len(), wheel.next()), (4, Some(Tick(6))));
        wheel.validate();
        assert_eq!(wheel.remove(nodes[2]), 2);
        assert_eq!(wheel.remove(nodes[5]), 5);
        assert_eq!(drive(&mut wheel, 7, |key| [0, 6, 0, 0, 7, 0][key as usize]), [1, 4]);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn count_max_bounds_each_call() {
        let mut wheel = Wheel::new(Tick(0));
        for key in 0..100 {
            wheel.insert(key, Tick(key)).expect("room");
        }
        let mut due = Vec::new();
        assert!(wheel.take_due(Tick(50), 0, &mut due));
        for taken in 1..=50 {
            assert!(wheel.take_due(Tick(50), 1, &mut due));
            assert_eq!(due.len(), taken);
            wheel.validate();
        }
        // Keys 0 to 50: that the last fits exactly is not "more".
        assert!(!wheel.take_due(Tick(50), 1, &mut due));
        assert!(!wheel.take_due(Tick(50), 1, &mut due));
        assert_eq!(due.len(), 51);
    }

    /// A clock that jumps back (tokio #684) neither hides nor repeats anything.
    #[test]
    fn time_never_goes_back() {
        let mut wheel = Wheel::new(Tick(0));
        wheel.insert(1, Tick(90)).expect("room");
        assert_eq!(drive(&mut wheel, 80, |_| 90), [0_u32; 0]);
        assert_eq!(drive(&mut wheel, 3, |_| 90), [0_u32; 0]);
        wheel.insert(2, Tick(70)).expect("room");
        assert_eq!(wheel.next(), Some(Tick(80)));
        let mut due = Vec::new();
        assert!(!wheel.take_due(Tick(0), 9, &mut due));
        assert_eq!(due.len(), 1);
        assert_eq!(wheel.remove(due[0].0), 2);
        assert_eq!(drive(&mut wheel, 90, |_| 90), [1]);
    }

    #[test]
    #[should_panic(expected = "not in use")]
    fn removed_twice() {
        let mut wheel = Wheel::new(Tick(0));
        let node = wheel.insert(1, Tick(90)).expect("room");
        wheel.remove(node);
        wheel.remove(node);
    }

    /// An orphan a re-arm is how wheels leak (Netty #2541).
    #[test]
    fn rearms_keep_memory_flat() {
        let mut wheel = Wheel::new(Tick(0));
        let nodes: Vec<_> =
            (0..1000).map(|key| wheel.insert(key, Tick(100)).expect("room")).collect();
        let bytes = wheel.bytes();
        for step in 0..1_000_000_u32 {
            let node = nodes[step as usize % nodes.len()];
            wheel.rearm(node, Tick(step.wrapping_mul(0x9E37_79B9)));
        }
        wheel.validate();
        assert_eq!((wheel.len(), wheel.bytes()), (1000, bytes));
    }

    /// Memory follows the number of nodes down, even when the last ones left are the highest.
    #[test]
    fn memory_is_given_back() {
        let mut wheel = Wheel::new(Tick(0));
        let empty = wheel.bytes();
        let nodes: Vec<_> =
            (0..100_000).map(|key| wheel.insert(key, Tick(key)).expect("room")).collect();
        let full = wheel.bytes();
        assert!(full > 1_200_000 && full < 1_260_000, "{full}");
        for &node in &nodes[..99_900] {
            wheel.remove(node);
        }
        wheel.validate();
        assert!(wheel.bytes() < empty + full / 20, "{} of {full}", wheel.bytes());
        // An insert and a remove in turn use the spare chunk: no byte comes or goes.
        for &node in &nodes[99_900..] {
            wheel.remove(node);
        }
        let bytes = wheel.bytes();
        let node = wheel.insert(1, Tick(1)).expect("room");
        assert_eq!((node, wheel.bytes()), (NodeIndex(0), bytes));
        wheel.remove(node);
        assert_eq!(wheel.bytes(), bytes);
        wheel.validate();
    }

    #[test]
    #[ignore = "fills 200 MB"]
    fn full_at_the_limit() {
        let mut wheel = Wheel::new(Tick(0));
        for key in 0..NODE_COUNT_MAX {
            assert_eq!(wheel.insert(key, Tick(key)), Some(NodeIndex(key)));
        }
        assert_eq!(wheel.insert(0, Tick(0)), None);
        wheel.validate();
        wheel.remove(NodeIndex(3));
        assert_eq!(wheel.insert(0, Tick(9)), Some(NodeIndex(3)));
        assert_eq!(wheel.insert(0, Tick(0)), None);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert {
            when: When,
        },
        /// A burst, so that chunks fill and empty.
        InsertMany {
            count: u16,
            when: When,
        },
        /// Moves the deadline and tells the wheel.
        Rearm {
            pick: u16,
            when: When,
        },
        /// Moves the deadline later without telling the wheel.
        Touch {
            pick: u16,
            when: When,
        },
        Remove {
            pick: u16,
        },
        RemoveMany {
            pick: u16,
            count: u16,
        },
        /// One call; what it hands out is settled or, if `keep`, left detached.
        Take {
            now: When,
            count_max: u8,
            keep: bool,
        },
        /// Calls until nothing is left.
        Drain {
            now: When,
        },
        Back {
            ticks: u32,
        },
    }

    #[derive(Clone, Debug)]
    enum When {
        Ahead(u32),
        Behind(u32),
        /// So many slots of a level ahead, at its start plus or minus a tick.
        Slot {
            level: u32,
            slots: u32,
            nudge: i8,
        },
        /// When the wheel would hand out next.
        Next,
        Last,
    }

    fn when() -> impl Strategy<Value = When> {
        let slot = (0..6_u32, 0..130_u32, -1..=1_i8);
        prop_oneof![
            4 => (0..200_u32).prop_map(When::Ahead),
            2 => (0..40_000_u32).prop_map(When::Ahead),
            1 => any::<u32>().prop_map(When::Ahead),
            1 => (0..9_u32).prop_map(When::Behind),
            6 => slot.prop_map(|(level, slots, nudge)| When::Slot { level, slots, nudge }),
            3 => Just(When::Next),
            1 => Just(When::Last),
        ]
    }

    fn now() -> impl Strategy<Value = When> {
        let slot = (0..4_u32, 0..70_u32, -1..=1_i8);
        prop_oneof![
            4 => (0..100_u32).prop_map(When::Ahead),
            1 => (0..1_000_000_u32).prop_map(When::Ahead),
            4 => slot.prop_map(|(level, slots, nudge)| When::Slot { level, slots, nudge }),
            6 => Just(When::Next),
        ]
    }

    fn op() -> impl Strategy<Value = Op> {
        let pick = any::<u16>;
        prop_oneof![
            6 => when().prop_map(|when| Op::Insert { when }),
            1 => (1..400_u16, when()).prop_map(|(count, when)| Op::InsertMany { count, when }),
            4 => (pick(), when()).prop_map(|(pick, when)| Op::Rearm { pick, when }),
            4 => (pick(), when()).prop_map(|(pick, when)| Op::Touch { pick, when }),
            3 => pick().prop_map(|pick| Op::Remove { pick }),
            1 => (pick(), 1..400_u16).prop_map(|(pick, count)| Op::RemoveMany { pick, count }),
            3 => (now(), 0..5_u8, any::<bool>())
                .prop_map(|(now, count_max, keep)| Op::Take { now, count_max, keep }),
            5 => now().prop_map(|now| Op::Drain { now }),
            1 => any::<u32>().prop_map(|ticks| Op::Back { ticks }),
        ]
    }

    /// What the caller knows of a node, and what it expects of the wheel.
    #[derive(Clone, Copy, Debug)]
    struct Entry {
        node: NodeIndex,
        deadline: u32,
        /// When the wheel must hand the node out; `None` while it is handed out.
        start: Option<u32>,
    }

    /// The wheel beside a map that does everything the slow way.
    struct Pair {
        wheel: Wheel,
        entries: BTreeMap<u32, Entry>,
        elapsed: u32,
        key_next: u32,
    }

    impl Pair {
        fn tick(&self, when: &When) -> u32 {
            match *when {
                When::Ahead(ticks) => self.elapsed.saturating_add(ticks),
                When::Behind(ticks) => self.elapsed.saturating_sub(ticks),
                When::Slot { level, slots, nudge } => {
                    let width = 64_u32.pow(level);
                    let start = (self.elapsed / width).saturating_add(slots).saturating_mul(width);
                    start.saturating_add_signed(i32::from(nudge))
                }
                When::Next => self.wheel.next().map_or(self.elapsed, |tick| tick.0),
                When::Last => LAST,
            }
        }

        fn start(&self, when: u32) -> Option<u32> {
            let due = when <= self.elapsed;
            Some(if due { self.elapsed } else { start_expected(self.elapsed, when) })
        }

        fn pick(&self, pick: u16) -> Option<u32> {
            let place = usize::from(pick) % self.entries.len().max(1);
            self.entries.keys().nth(place).copied()
        }

        fn insert(&mut self, when: u32) {
            let key = self.key_next;
            self.key_next += 1;
            let node = self.wheel.insert(key, Tick(when)).expect("room");
            let entry = Entry { node, deadline: when, start: self.start(when) };
            self.entries.insert(key, entry);
        }

        fn rearm(&mut self, key: u32, when: u32) {
            let start = self.start(when);
            let entry = self.entries.get_mut(&key).expect("known");
            (entry.deadline, entry.start) = (when, start);
            self.wheel.rearm(entry.node, Tick(when));
        }

        fn remove(&mut self, key: u32) {
            let entry = self.entries.remove(&key).expect("known");
            assert_eq!(self.wheel.remove(entry.node), key);
        }

        /// One call of `take_due`; each key must have been owed, and none twice.
        fn take(&mut self, now: u32, count_max: usize) -> (Vec<u32>, bool) {
            let mut due = Vec::new();
            let more = self.wheel.take_due(Tick(now), count_max, &mut due);
            self.elapsed = self.elapsed.max(now);
            let mut keys = Vec::new();
            for (node, key) in due {
                let entry = self.entries.get_mut(&key).expect("known");
                assert_eq!(node, entry.node);
                let start = entry.start.take().expect("handed out once");
                assert!(start <= self.elapsed, "{key} of {start} handed out at {now}");
                keys.push(key);
            }
            assert!(keys.len() <= count_max);
            let left = self.starts().any(|start| start <= self.elapsed);
            assert_eq!(more, left);
            assert!(!more || keys.len() == count_max);
            (keys, more)
        }

        fn settle(&mut self, key: u32) {
            let deadline = self.entries[&key].deadline;
            if deadline <= self.elapsed {
                self.remove(key);
            } else {
                self.rearm(key, deadline);
            }
        }

        fn drain(&mut self, now: u32) {
            let mut seen = BTreeSet::new();
            loop {
                let (keys, more) = self.take(now, 64);
                for key in keys {
                    self.settle(key);
                    assert!(seen.insert(key), "{key} handed out twice in one drain");
                }
                if !more {
                    break;
                }
            }
            let linked = self.entries.values().filter(|entry| entry.start.is_some());
            assert!(linked.map(|entry| entry.deadline).all(|deadline| deadline > self.elapsed));
        }

        fn starts(&self) -> impl Iterator<Item = u32> {
            self.entries.values().filter_map(|entry| entry.start)
        }

        fn check(&self) {
            self.wheel.validate();
            assert_eq!(self.wheel.len() as usize, self.entries.len());
            let next = self.starts().min().map(|start| Tick(start.max(self.elapsed)));
            assert_eq!(self.wheel.next(), next);
            assert!(self.entries.iter().all(|(&key, entry)| self.wheel.key(entry.node) == key));
            let nodes: BTreeSet<u32> = self.entries.values().map(|entry| entry.node.0).collect();
            let chunks: BTreeSet<usize> =
                nodes.iter().map(|&index| index as usize / CHUNK_NODE_COUNT).collect();
            assert_eq!(nodes.len(), self.entries.len());
            assert!(self.wheel.slab.resident_count <= chunks.len() + 1);
        }

        fn apply(&mut self, op: &Op) {
            match op {
                Op::Insert { when } => self.insert(self.tick(when)),
                Op::InsertMany { count, when } => {
                    for ahead in 0..u32::from(*count) {
                        self.insert(self.tick(when).saturating_add(ahead));
                    }
                }
                Op::Rearm { pick, when } => {
                    if let Some(key) = self.pick(*pick) {
                        self.rearm(key, self.tick(when));
                    }
                }
                Op::Touch { pick, when } => {
                    let when = self.tick(when);
                    if let Some(key) = self.pick(*pick) {
                        let entry = self.entries.get_mut(&key).expect("known");
                        entry.deadline = entry.deadline.max(when);
                    }
                }
                Op::Remove { pick } => {
                    if let Some(key) = self.pick(*pick) {
                        self.remove(key);
                    }
                }
                Op::RemoveMany { pick, count } => {
                    for _ in 0..*count {
                        if let Some(key) = self.pick(*pick) {
                            self.remove(key);
                        }
                    }
                }
                Op::Take { now, count_max, keep } => {
                    let (keys, _) = self.take(self.tick(now), usize::from(*count_max));
                    if !keep {
                        keys.into_iter().for_each(|key| self.settle(key));
                    }
                }
                Op::Drain { now } => self.drain(self.tick(now)),
                Op::Back { ticks } => self.drain(self.elapsed.saturating_sub(*ticks)),
            }
        }
    }

    fn elapsed_at_start() -> impl Strategy<Value = u32> {
        prop_oneof![
            Just(0),
            Just(7_481_664),
            any::<u32>(),
            (0..3_000_000_u32).prop_map(|ticks| LAST - ticks),
            (1..64_u32, 0..5_u32).prop_map(|(slot, level)| slot * 64_u32.pow(level) - 1),
        ]
    }

    proptest! {
        /// The wheel owes each node at the start of its slot, exactly; a lazy caller loses none.
        #[test]
        fn agrees_with_the_model(
            elapsed in elapsed_at_start(),
            ops in prop::collection::vec(op(), 1..120),
        ) {
            let wheel = Wheel::new(Tick(elapsed));
            let mut pair = Pair { wheel, entries: BTreeMap::new(), elapsed, key_next: 0 };
            for op in &ops {
                pair.apply(op);
                pair.check();
            }
            // Whatever happened, the last tick ends all that is not in the caller's hands.
            pair.drain(LAST);
            pair.check();
        }
    }
}
