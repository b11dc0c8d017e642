//! Sessions with string keys: one key at a time.

use super::error::Result;
use super::exchange::Activity;
use super::session::Session;
use crate::{Attributes, Value};

/// For the data with string keys. Getters return values of their own, as nothing borrowed leaves
/// the store; [`read`](Session::read) looks without a copy. All count as activity.
///
/// # Examples
/// ```
/// use cloakroom::web::{self, Session};
///
/// async fn add(session: Session) -> web::Result<String> {
///     let items = 1 + session.get_i64("items").unwrap_or(0);
///     session.set("theme", "dark")?;
///     // What depends on the value before belongs into `update`, one step with nobody in between.
///     session.update(|s| { s.set("items", 1 + s.get_i64("items").unwrap_or(0)); })?;
///     Ok(format!("about {items} items"))
/// }
/// ```
impl Session<Attributes> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Value> {
        self.read(|s| s.get(key).map(|value| value.to_value()))?
    }

    /// The text of a key.
    pub fn get_text(&self, key: &str) -> Option<String> {
        self.read(|s| s.get_str(key).map(str::to_owned))?
    }

    /// The truth value of a key.
    pub fn get_bool(&self, key: &str) -> Option<bool> {
        self.read(|s| s.get_bool(key))?
    }

    /// The integer of a key where an `i64` holds it.
    pub fn get_i64(&self, key: &str) -> Option<i64> {
        self.read(|s| s.get_i64(key))?
    }

    /// The integer of a key where a `u64` holds it.
    pub fn get_u64(&self, key: &str) -> Option<u64> {
        self.read(|s| s.get_u64(key))?
    }

    /// The number of a key where an `f64` holds it exactly.
    pub fn get_f64(&self, key: &str) -> Option<f64> {
        self.read(|s| s.get_f64(key))?
    }

    /// Sets a key, at once. Keys that other requests set stay. If there is no session, one begins.
    ///
    /// # Errors
    /// As [`update`](Session::update).
    pub fn set(&self, key: &str, value: impl Into<Value>) -> Result<()> {
        let value = value.into();
        self.update(|s| {
            s.set(key, value);
        })
    }

    /// Removes a key, at once, and returns what it had. It begins no session.
    ///
    /// # Errors
    /// As [`update`](Session::update).
    pub fn remove(&self, key: &str) -> Result<Option<Value>> {
        // Nothing is written where nothing changes.
        if self.read(|s| s.contains_key(key)) != Some(true) {
            return Ok(None);
        }
        let Some(id) = self.exchange.id(Activity::Counted) else { return Ok(None) };
        self.exchange.noted(id, self.store().update(id, |s| s.remove(key)))
    }
}
