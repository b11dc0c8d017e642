//! Whether this thread is inside the closure of an update, with a shard locked; hence who has to be
//! woken later.

use std::cell::Cell;
use std::mem::ManuallyDrop;

use crate::events::Subscribers;
use crate::sync::{Arc, thread_local};

thread_local! {
    static UPDATING: Cell<bool> = const { Cell::new(false) };
    /// Those who were told something inside the closure, of whatever stores. Never dropped, and
    /// empty at all other times: so that a thread-local destructor may update, too.
    static LATE: Cell<ManuallyDrop<Vec<Arc<Subscribers>>>> =
        const { Cell::new(ManuallyDrop::new(Vec::new())) };
}

pub(super) fn is_updating() -> bool {
    UPDATING.with(Cell::get)
}

/// Marks that the closure of an update runs, until it is dropped.
pub(super) struct Updating;

impl Updating {
    pub(super) fn begin() -> Updating {
        UPDATING.with(|updating| updating.set(true));
        Updating
    }
}

impl Drop for Updating {
    fn drop(&mut self) {
        UPDATING.with(|updating| updating.set(false));
    }
}

/// Wakes these subscribers once the update is over.
pub(super) fn wake_later(events: &Arc<Subscribers>) {
    let mut late = LATE.with(Cell::take);
    if !late.iter().any(|other| Arc::ptr_eq(other, events)) {
        late.push(Arc::clone(events));
    }
    LATE.with(|cell| cell.set(late));
}

/// Wakes when it is dropped those who are to be woken later. Made before the shard is locked, so
/// that it is dropped after the lock, also by a panic.
pub(super) struct WakeLate;

impl Drop for WakeLate {
    fn drop(&mut self) {
        let late = LATE.with(Cell::take);
        ManuallyDrop::into_inner(late).iter().for_each(|events| events.wake());
    }
}
