//! The journal: what makes sessions survive the process.
#![cfg_attr(not(test), allow(dead_code, reason = "nothing opens a journal yet"))]

pub(crate) mod entry;
mod files;
pub(crate) mod frame;
pub(crate) mod segment;
pub(crate) mod snapshot;
pub(crate) mod stored;

#[cfg(test)]
mod tests;
