//! What outlives the process: the log of changes, as bytes.

pub(crate) mod entry;
pub(crate) mod frame;
pub(crate) mod segment;

#[cfg(test)]
mod tests;
