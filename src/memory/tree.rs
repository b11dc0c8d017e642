//! Which units of a huge page are free: the tree of a buddy allocator.
//!
//! ```text
//! page     2 MiB = 512 units of 4 KiB; block of order k = 2^k units at a multiple of its size
//!
//! tree     one byte a node, heap order: node 1 is the page, nodes 2n and 2n+1 halve node n,
//!          nodes 512..1024 are units. Byte = 1 + order of the largest free block below, 0 = none.
//!          A block handed out has 0 in its node; the nodes under it stay as if free.
//! ```

use super::mapping::PAGE_BYTES;

/// The smallest block.
pub(super) const UNIT_BYTES: usize = 4 << 10;
pub(super) const UNITS: usize = PAGE_BYTES / UNIT_BYTES;
pub(super) const ORDER_MAX: u32 = UNITS.ilog2();

const _: () = assert!(UNITS == 512 && ORDER_MAX == 9);

pub(super) struct Tree([u8; 2 * UNITS]);

impl Tree {
    /// Of a wholly free page.
    pub(super) fn new() -> Tree {
        let mut tree = [0; 2 * UNITS];
        for (node, free) in tree.iter_mut().enumerate().skip(1) {
            *free = (ORDER_MAX - node.ilog2() + 1) as u8;
        }
        Tree(tree)
    }

    /// 1 + the order of the largest free block; 0 if there is none.
    pub(super) fn largest(&self) -> u8 {
        self.0[1]
    }

    /// The first unit of a free block of `order`, which the page must have.
    pub(super) fn find(&self, order: u32) -> usize {
        let wanted = (order + 1) as u8;
        let mut node = 1;
        for _ in order..ORDER_MAX {
            let (left, right) = (self.0[2 * node], self.0[2 * node + 1]);
            // The half that fits tighter, to keep large blocks whole.
            node = 2 * node + usize::from(left < wanted || (right >= wanted && right < left));
        }
        debug_assert_eq!(self.0[node], wanted);
        (node << order) - UNITS
    }

    /// Marks a block free or used, and merges or splits above it.
    pub(super) fn mark(&mut self, unit: usize, order: u32, free: bool) {
        let mut node = (UNITS + unit) >> order;
        let whole = (order + 1) as u8;
        let before = if free { 0 } else { whole };
        assert_eq!(self.0[node], before, "a block is given back once, with its own size");
        self.0[node] = whole - before;
        let mut below = whole;
        while node > 1 {
            node /= 2;
            self.0[node] = joined(self.0[2 * node], self.0[2 * node + 1], below);
            below += 1;
        }
    }

    /// Panics unless the nodes agree. Returns how many units are handed out.
    pub(super) fn validate(&self) -> usize {
        let (mut free, mut pending) = (0, vec![1_usize]);
        while let Some(node) = pending.pop() {
            let order = ORDER_MAX - node.ilog2();
            let whole = (order + 1) as u8;
            let value = self.0[node];
            if value == whole {
                free += 1 << order;
            } else if value != 0 {
                let expected = joined(self.0[2 * node], self.0[2 * node + 1], whole - 1);
                assert_eq!(value, expected, "a node is joined from its halves");
                pending.extend([2 * node, 2 * node + 1]);
            }
        }
        UNITS - free
    }
}

/// The byte of a node over two halves; `whole` is the byte of a half that is wholly free.
fn joined(left: u8, right: u8, whole: u8) -> u8 {
    if left == whole && right == whole { whole + 1 } else { left.max(right) }
}

pub(super) fn order_of(bytes: usize) -> u32 {
    debug_assert!(bytes.is_power_of_two() && (UNIT_BYTES..=PAGE_BYTES).contains(&bytes));
    (bytes / UNIT_BYTES).ilog2()
}
