//! Source files of the crate, for the targets of what it does not show.

#[path = "../../src/journal/snapshot/mod.rs"]
pub(crate) mod snapshot;
#[path = "../../src/journal/stored.rs"]
pub(crate) mod stored;
