//! An embedded session store: it keeps the sessions of a server in the server's own process.
//!
//! You hand your coat in and get a token; you show the token and get your coat. A lookup takes no
//! lock and costs nanoseconds; sessions expire by themselves, exact to 100 ms and never late; a
//! logout stays a logout.
//!
//! ```
//! use std::time::Duration;
//! use cloakroom::{Attributes, Missing, Reason, Store};
//!
//! let store: Store = Store::builder()
//!     .idle_timeout(Duration::from_secs(30 * 60))
//!     .lifetime(Duration::from_secs(12 * 60 * 60))
//!     .in_memory()?;
//!
//! // The first write of a visitor makes a session. Send `token.expose()` as a cookie.
//! let token = store.create(Attributes::from([("cart", 1.into())]))?;
//!
//! // A request came with the cookie: look the session up, and read it without a lock or a copy.
//! let id = store.find(&token.expose())?;
//! let cart = store.read(id, |s| s.get_i64("cart"))?;
//! assert_eq!(cart, Some(1));
//!
//! // Change it in one atomic step.
//! store.update(id, |s| { s.set("cart", 1 + s.get_i64("cart").unwrap_or(0)); })?;
//!
//! // The visitor logs in: another token, so that nobody can have planted it; the old one is dead.
//! let token = store.login(id, "alice", "Firefox on Linux")?;
//! let session = store.get(token.id())?;
//! assert_eq!((session.owner(), session.get_i64("cart")), (Some("alice"), Some(2)));
//!
//! store.end(token.id(), Reason::LoggedOut)?;
//! assert_eq!(store.touch(token.id()), Err(Missing::Ended(Reason::LoggedOut)));
//! # Ok::<(), cloakroom::Error>(())
//! ```
//!
//! # Tokens and ids
//! A [`Token`] is the secret that the client holds: 256 bits from the operating system. The store
//! and everything that it prints know only its digest, the [`SessionId`], with which nobody can
//! open a session. [`Store::find`] leads from the text of a token to the id of its session, if
//! there is one.
//!
//! # Data
//! [`Attributes`] is the hash-like session of the web frameworks. Any other type that derives
//! rkyv's traits will do as well ([`SessionData`]), such as a struct of one's own: its fields are
//! then read where they lie, without decoding.
//!
//! # Reading and writing
//! | call | sees | locks | counts as activity |
//! |---|---|---|---|
//! | [`find`](Store::find) | whether there is a session, by its token | nothing | no |
//! | [`owner`](Store::owner) | who is logged in | nothing | no |
//! | [`read`](Store::read) | a view, for the length of a closure | nothing | yes |
//! | [`get`](Store::get) | a copy with its owner, to keep, also over an `.await` | nothing | yes |
//! | [`peek`](Store::peek), [`info`](Store::info) | the same, or what is not data | nothing | no |
//! | [`touch`](Store::touch) | nothing | nothing | yes |
//! | [`update`](Store::update) | the newest data, to change it | its shard, all the while | yes |
//! | [`replace_if`](Store::replace_if) | a version seen before | its shard, shortly | yes |
//! | [`patch`](Store::patch) | single keys seen before | its shard, shortly | yes |
//!
//! Every method is synchronous and may be called from async code: none waits for I/O.
//!
//! # Lifetime
//! A session expires at the earlier of *last seen + idle timeout* and *authenticated + lifetime*,
//! by a clock that counts suspend. Every lookup checks that itself, so an expired session is never
//! returned, however late the expiry thread is. Deadlines are exact to 100 ms and never late. When
//! a session was last seen is noted once per touch granularity (a 64th of the shorter timeout, at
//! least 1 s and at most 1 h: [`touch`](Store::touch)), so an idle session may expire as much
//! early. [`ManualClock`] moves time in tests.
//!
//! # Ends
//! [`end`](Store::end), [`end_owner`](Store::end_owner) (log out everywhere else),
//! [`rotate`](Store::rotate), expiry: when the call returns no thread can read, write or revive the
//! session, not even one that began before. For at least two minutes the store remembers the
//! [`Reason`]. [`watch`](Store::watch) is a future for sockets that have to close then;
//! [`events`](Store::events) tells everything.
//!
//! # Limits
//! [`Builder`] lists every limit. On a server that strangers can reach, set
//! [`bytes_max`](Builder::bytes_max) or [`sessions_max`](Builder::sessions_max): anonymous sessions
//! then have a share of their own, and can never push out an authenticated one.
//!
//! # What it is not
//! Not a cache: it never drops a live session to make room unless told so. Not a database. Not a
//! cluster: one process holds the sessions.
//!
//! # Durability
//! [`Builder::open`] keeps the sessions in a directory besides: a write that returned survives the
//! end of the process, however it ends. What a power loss may take is a matter of [`Durability`];
//! [`Store::flush`] resolves when everything so far is safe from that too. Each change is copied
//! to a log in the order of its shard's lock; a snapshot takes the log's place when it gets long.
//! Opening maps the snapshot, reads the log behind it, answers at once, while a thread brings the
//! sessions into memory ([`Load`], [`RecoveryReport`]). What is damaged is refused.
//! [`Store::backup`] copies a store in use.
//!
//! # Features
//! | feature | default | gives | costs |
//! |---|---|---|---|
//! | `serde` | off | serde's traits for ids, versions, reasons, [`Attributes`], [`Value`] | serde |
//! | `json` | off | [`Attributes`] from and to `serde_json::Value` | serde, serde_json |
//! | `cookie` | off | module `cookie`: the cookie, signed or sealed | hmac, chacha20poly1305 |
//! | `cli` | off | program `cloakroom`, module `directory` | clap, indicatif, time, `json` |
//! | `tower-sessions-015` | off | module `tower_sessions`: a store for it | tower-sessions-core |
//! | `actix-session-011` | off | module `actix_session`: a store for it | actix-session |
//! | `conformance` | off | module `conformance`: a suite for session middlewares | nothing |
//! | `axum-08` | off | modules `web`, `axum`: a layer for axum 0.8 | `cookie`, axum-core |
//! | `actix-web-4` | off | modules `web`, `actix`: a middleware | `cookie`, actix-web |

mod activity;
#[cfg(any(
    feature = "actix-session-011",
    feature = "actix-web-4",
    feature = "axum-08",
    feature = "tower-sessions-015"
))]
mod adapter;
mod attributes;
mod bucket;
mod budget;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod contain;
#[cfg(feature = "cookie")]
pub mod cookie;
mod data;
#[cfg(all(unix, feature = "cli"))]
pub mod directory;
mod error;
mod events;
mod expiry;
mod fork;
#[cfg(unix)]
mod journal;
mod keep;
mod life;
#[cfg(unix)]
mod loader;
mod memory;
mod options;
mod owner;
mod reclaim;
mod record;
#[cfg(unix)]
mod saver;
#[cfg(unix)]
mod schema;
mod session;
mod sessions;
mod shard;
mod stats;
mod store;
mod sync;
mod table;
mod tags;
mod timeouts;
mod token;
mod version;
mod watch;
mod wheel;
mod worker;

#[cfg(feature = "actix-web-4")]
pub use adapter::actix;
#[cfg(feature = "actix-session-011")]
pub use adapter::actix_session;
#[cfg(feature = "axum-08")]
pub use adapter::axum;
#[cfg(feature = "tower-sessions-015")]
pub use adapter::tower_sessions;
#[cfg(any(feature = "axum-08", feature = "actix-web-4"))]
pub use adapter::web;
#[cfg(feature = "json")]
pub use attributes::JsonError;
pub use attributes::{ArchivedAttributes, ArchivedValue, Attributes, Changes, ConflictKey, Value};
pub use clock::ManualClock;
pub use data::SessionData;
pub use error::{Error, Limit, Malformed, Missing, Reason, Result};
pub use events::{Event, Events};
#[cfg(unix)]
pub use journal::Flush;
pub use keep::{Append, Durability, Load, OnDamage};
pub use memory::Memory;
pub use options::{Builder, CreateOptions, OwnerLimit, WhenFull};
pub use session::{Info, Session};
#[cfg(unix)]
pub use sessions::Saved;
pub use stats::{JournalStats, Stats};
pub use store::{Cursor, Except, Page, Store};
#[cfg(unix)]
pub use store::{Progress, RecoveryReport};
pub use token::{SessionId, Token};
pub use version::Version;
pub use watch::Watch;

#[cfg(all(doctest, feature = "axum-08"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "axum-08", feature = "actix-web-4", feature = "_tests"))]
#[doc = include_str!("../docs/guide.md")]
struct Guide;

#[cfg(all(
    doctest,
    feature = "axum-08",
    feature = "tower-sessions-015",
    feature = "actix-session-011",
    feature = "_tests"
))]
#[doc = include_str!("../docs/migrate.md")]
struct Migrate;
