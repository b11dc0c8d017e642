//! What a shard tells of itself: its numbers, whether all is in order.

use std::collections::HashSet;
use std::time::Duration;

use super::{Locked, Tally, key_of};
use crate::record::{Kind, NODE_NONE, Record};
use crate::sync::atomic::Ordering::Relaxed;
use crate::wheel::NodeIndex;

impl Locked<'_> {
    pub(crate) fn tally(&self) -> Tally {
        self.state.tally
    }

    pub(crate) fn ended_count(&self) -> usize {
        self.state.ended.len()
    }

    /// Bytes of the shard's array, of its wheel, and of memory that waits for its last reader.
    pub(crate) fn memory_bytes(&self) -> (usize, usize, usize) {
        let writer = &self.state.writer;
        (writer.array_bytes(&self.common.table), self.state.wheel.bytes(), writer.limbo_bytes())
    }

    /// How long the lock was held at most to grow or shrink the array.
    pub(crate) fn resize_max(&self) -> Duration {
        self.state.writer.resize_max()
    }

    pub(crate) fn wheel_nodes(&self) -> u32 {
        self.state.wheel.len()
    }

    /// Checks what must hold, and calls `visit` with each live session.
    ///
    /// # Panics
    /// With the invariant that is broken.
    pub(crate) fn validate(&self, mut visit: impl FnMut(Record<'_>)) {
        let mut nodes = HashSet::new();
        let (mut tombstones, mut anonymous) = (0, 0);
        self.state.wheel.validate();
        self.state.writer.validate(&self.common.table, |record| {
            if record.node() != NODE_NONE {
                assert!(nodes.insert(record.node()), "two sessions share a wheel node");
                assert_eq!(self.state.wheel.key(NodeIndex(record.node())), key_of(record.id()));
            }
            match record.kind() {
                Kind::Live => {
                    anonymous += u64::from(!record.has_owner());
                    visit(record);
                }
                Kind::Alias { .. } => assert!(record.node() != NODE_NONE, "alias without node"),
                Kind::Ended { .. } => {
                    assert_eq!(record.node(), NODE_NONE, "tombstone with a wheel node");
                    tombstones += 1;
                }
            }
        });
        assert_eq!(nodes.len(), self.state.wheel.len() as usize, "wheel nodes without a session");
        assert_eq!(tombstones, self.state.ended.len(), "tombstones that nobody will forget");
        assert_eq!(self.shard.anonymous.load(Relaxed), anonymous, "anonymous sessions of a shard");
    }
}
