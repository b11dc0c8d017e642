//! Futures that resolve when a session ends, each a slot for one waker.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::contain::contain;
use crate::error::Reason;
use crate::sync::{Arc, Mutex, lock};
use crate::token::SessionId;

/// What the store and one [`Watch`] share.
pub(crate) struct WatchSlot {
    state: Mutex<State>,
}

struct State {
    /// Changes when the session is renewed.
    id: SessionId,
    ended: Option<Reason>,
    waker: Option<Waker>,
    dropped: bool,
}

impl WatchSlot {
    /// Resolves the future. Wakes nobody: that is [`WatchSlot::wake`]. Called under the lock under
    /// which the slot leaves its list, so that a slot that is in no list has ended.
    fn end(&self, reason: Reason) {
        lock(&self.state).ended.get_or_insert(reason);
    }

    /// Whether there was still somebody to resolve the future for, once it is resolved.
    pub(crate) fn is_watched(&self) -> bool {
        !lock(&self.state).dropped
    }

    /// Wakes the task that waits, if one does: to be called with no lock held.
    pub(crate) fn wake(&self) {
        let waker = lock(&self.state).waker.take();
        if let Some(waker) = waker {
            wake(waker);
        }
    }

    /// Nobody watches any more, though the slot is still in its list. False when it has left it.
    pub(crate) fn abandon(&self) -> bool {
        let mut state = lock(&self.state);
        state.dropped = state.ended.is_none();
        state.dropped
    }
}

/// Wakes a task. A waker is the caller's code: its panic is reported by the panic hook, and must
/// keep nobody else from being woken.
pub(crate) fn wake(waker: Waker) {
    contain(|| waker.wake());
}

/// The watched sessions of one shard.
#[derive(Default)]
pub(crate) struct Watched(HashMap<SessionId, Vec<Arc<WatchSlot>>, ahash::RandomState>);

impl Watched {
    pub(crate) fn add(&mut self, id: SessionId) -> Arc<WatchSlot> {
        let state = Mutex::new(State { id, ended: None, waker: None, dropped: false });
        let slot = Arc::new(WatchSlot { state });
        self.0.entry(id).or_default().push(Arc::clone(&slot));
        slot
    }

    /// Resolves the slots of a session that ended, and returns them to be woken.
    pub(crate) fn end(&mut self, id: SessionId, reason: Reason) -> Vec<Arc<WatchSlot>> {
        let slots = self.take(id);
        slots.iter().for_each(|slot| slot.end(reason));
        slots
    }

    /// The slots of a session that goes on elsewhere.
    pub(crate) fn take(&mut self, id: SessionId) -> Vec<Arc<WatchSlot>> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let slots = self.0.remove(&id).unwrap_or_default();
        if self.0.is_empty() {
            self.0 = HashMap::default();
        }
        slots
    }

    /// The slots of a session that goes on under this id.
    pub(crate) fn give(&mut self, id: SessionId, slots: Vec<Arc<WatchSlot>>) {
        if slots.is_empty() {
            return;
        }
        for slot in &slots {
            lock(&slot.state).id = id;
        }
        self.0.entry(id).or_default().extend(slots);
    }

    /// Forgets one slot. False when it is not here.
    pub(crate) fn remove(&mut self, id: SessionId, slot: &Arc<WatchSlot>) -> bool {
        let Some(slots) = self.0.get_mut(&id) else { return false };
        let before = slots.len();
        slots.retain(|other| !Arc::ptr_eq(other, slot));
        let found = slots.len() < before;
        if slots.is_empty() {
            self.0.remove(&id);
        }
        found
    }

    /// Resolves all slots, when the store is dropped, and returns them to be woken.
    pub(crate) fn end_all(&mut self, reason: Reason) -> Vec<Arc<WatchSlot>> {
        let slots: Vec<_> = std::mem::take(&mut self.0).into_values().flatten().collect();
        slots.iter().for_each(|slot| slot.end(reason));
        slots
    }
}

/// Where a dropped [`Watch`] signs off.
pub(crate) trait Unwatch: Send + Sync {
    /// Forgets the slot of this session; false when the session is elsewhere by now.
    fn unwatch(&self, id: SessionId, slot: &Arc<WatchSlot>) -> bool;
}

/// A future that resolves to the reason when its session ends: made by
/// [`Store::watch`](crate::Store::watch).
///
/// It follows a session through [`renew`](crate::Store::renew), and resolves at
/// [`rotate`](crate::Store::rotate) and [`login`](crate::Store::login) to [`Reason::Rotated`]; for
/// an id that the store does not know, at once to [`Reason::Expired`].
///
/// It costs one slot of about 150 bytes while it lives, no channel and no thread, so a server can
/// hold one per open socket. It neither keeps the session alive nor the store: when the store is
/// dropped it resolves to [`Reason::Revoked`].
#[must_use = "futures do nothing unless polled"]
pub struct Watch {
    slot: Arc<WatchSlot>,
    store: Option<std::sync::Weak<dyn Unwatch>>,
}

impl Watch {
    pub(crate) fn new(slot: Arc<WatchSlot>, store: std::sync::Weak<dyn Unwatch>) -> Watch {
        Watch { slot, store: Some(store) }
    }

    /// The id of the session that is watched: another one after each
    /// [`renew`](crate::Store::renew). Whoever uses a session for longer than a request, such as a
    /// socket, knows it by this.
    ///
    /// # Examples
    /// ```
    /// use cloakroom::{Attributes, Store};
    ///
    /// let store: Store = Store::builder().in_memory()?;
    /// let old = store.create(Attributes::new())?;
    /// let watch = store.watch(old.id());
    /// let new = store.renew(old.id())?;
    /// assert_eq!(watch.id(), new.id());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn id(&self) -> SessionId {
        lock(&self.slot.state).id
    }

    pub(crate) fn resolved(id: SessionId, reason: Reason) -> Watch {
        let state = Mutex::new(State { id, ended: Some(reason), waker: None, dropped: false });
        Watch { slot: Arc::new(WatchSlot { state }), store: None }
    }
}

impl Future for Watch {
    type Output = Reason;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reason> {
        // Cloned and dropped outside the lock: a waker's code is the caller's.
        let waker = context.waker().clone();
        let mut state = lock(&self.slot.state);
        if let Some(reason) = state.ended {
            return Poll::Ready(reason);
        }
        let old = state.waker.replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(store) = self.store.take().and_then(|store| store.upgrade()) else { return };
        loop {
            let id = {
                let state = lock(&self.slot.state);
                if state.ended.is_some() {
                    return;
                }
                state.id
            };
            // Not found: the session was renewed or ended just now, which the state tells as soon
            // as the shard is unlocked.
            if store.unwatch(id, &self.slot) {
                return;
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.slot.state);
        f.debug_struct("Watch").field("id", &state.id).field("ended", &state.ended).finish()
    }
}
