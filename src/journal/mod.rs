//! What survives the process: the snapshot of all sessions.

pub(crate) mod snapshot;
pub(crate) mod stored;
