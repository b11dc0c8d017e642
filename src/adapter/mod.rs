//! Stores for the session middlewares of others.
//!
//! Those middlewares load a whole session, let a handler change it, then save all of it: of two
//! requests at a time the later one undoes what the earlier one saved. Here a load hands out,
//! beside the data, what it was like (`loaded`); a save compares, and writes the difference
//! (`merge`).
//!
//! ```text
//! load:  store --> keeper --> data + `cloakroom.loaded`, the digests of its values --> handler
//! save:  handler --> what is not as it was loaded --> merge, under the session's lock --> store
//! ```

#[cfg(feature = "actix-session-011")]
pub mod actix_session;
mod keeper;
mod loaded;
mod merge;
mod recent;
#[cfg(feature = "tower-sessions-015")]
pub mod tower_sessions;
