//! Who waits for the end of a session, and the end of the whole store.

use super::Sessions;
use super::updating::is_updating;
use crate::error::{Error, Missing, Reason};
use crate::sync::Arc;
use crate::sync::atomic::Ordering::Relaxed;
use crate::token::SessionId;
use crate::watch::{Unwatch, WatchSlot};

impl Sessions {
    /// A slot that is resolved when the session ends.
    pub(crate) fn watch(&self, id: SessionId) -> Result<Arc<WatchSlot>, Missing> {
        self.check_unlocked();
        if self.is_forked() {
            return Err(Missing::Unknown);
        }
        let pin = self.pin();
        let pinned = pin.pinned();
        // Of a damaged file an id is as unknown.
        let _ = self.bring(pinned, id);
        match self.find_locked(pinned, id) {
            Ok((mut shard, found, _)) => {
                self.watches.fetch_add(1, Relaxed);
                Ok(shard.watched().add(found.record.id()))
            }
            Err(Error::Missing(missing)) => Err(missing),
            Err(_) => Err(Missing::Unknown),
        }
    }

    /// Resolves every watch and ends every subscription: nothing will happen any more.
    fn close(&mut self) {
        let slots: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| shard.lock(&self.common).watched().end_all(Reason::Revoked))
            .collect();
        slots.iter().for_each(|slot| slot.wake());
        self.events.close();
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        if self.is_forked() {
            // In the child of a fork a lock may be held for ever by a thread that is not here.
            return;
        }
        self.close();
        for shard in &mut self.shards {
            self.common.table.clear(shard.writer_mut());
        }
    }
}

impl Unwatch for Sessions {
    fn unwatch(&self, id: SessionId, slot: &Arc<WatchSlot>) -> bool {
        if self.is_forked() {
            return true;
        }
        let removed = if is_updating() {
            // A lock is held: the slot stays in its list until the session ends.
            slot.abandon()
        } else {
            self.lock_shard(id).watched().remove(id, slot)
        };
        self.watches.fetch_sub(u64::from(removed), Relaxed);
        removed
    }
}
