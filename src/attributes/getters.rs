//! Getters by type: the lookup of a key followed by a conversion of its value.

use super::{ArchivedAttributes, ArchivedValue, Attributes, Value};

/// The typed getters: each is [`get`](Attributes::get) followed by the `as_` method of
/// [`Value`], so that a missing key and a value of another kind both give `None`.
impl Attributes {
    /// Returns the text of a key.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let session = Attributes::from([("username", "alice".into())]);
    /// assert_eq!(session.get_str("username"), Some("alice"));
    /// ```
    #[must_use]
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// Returns the truth value of a key.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let session = Attributes::from([("logged_in", true.into())]);
    /// assert_eq!(session.get_bool("logged_in"), Some(true));
    /// ```
    #[must_use]
    pub fn get_bool(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// Returns the integer of a key where an `i64` holds it.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let session = Attributes::from([("visits", 3.into()), ("big", u64::MAX.into())]);
    /// assert_eq!(session.get_i64("visits"), Some(3));
    /// assert_eq!(session.get_i64("big"), None);
    /// ```
    #[must_use]
    pub fn get_i64(&self, key: &str) -> Option<i64> {
        self.get(key)?.as_i64()
    }

    /// Returns the integer of a key where a `u64` holds it.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let session = Attributes::from([("user_id", 42.into()), ("debt", (-1).into())]);
    /// assert_eq!(session.get_u64("user_id"), Some(42));
    /// assert_eq!(session.get_u64("debt"), None);
    /// ```
    #[must_use]
    pub fn get_u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// Returns the number of a key where an `f64` holds it exactly.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let session = Attributes::from([("ratio", 0.5.into()), ("count", 2.into())]);
    /// assert_eq!(session.get_f64("ratio"), Some(0.5));
    /// assert_eq!(session.get_f64("count"), Some(2.0));
    /// ```
    #[must_use]
    pub fn get_f64(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_f64()
    }

    /// Returns the bytes of a key; text is not bytes.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let session = Attributes::from([("nonce", vec![1_u8, 2].into())]);
    /// assert_eq!(session.get_bytes("nonce"), Some(&[1, 2][..]));
    /// ```
    #[must_use]
    pub fn get_bytes(&self, key: &str) -> Option<&[u8]> {
        self.get(key)?.as_bytes()
    }

    /// Returns the list of a key.
    ///
    /// ```
    /// use cloakroom::{Attributes, Value};
    ///
    /// let session = Attributes::from([("roles", vec![Value::from("admin")].into())]);
    /// assert_eq!(session.get_list("roles").map(<[_]>::len), Some(1));
    /// ```
    #[must_use]
    pub fn get_list(&self, key: &str) -> Option<&[Value]> {
        self.get(key)?.as_list()
    }

    /// Returns the map of a key.
    ///
    /// ```
    /// use cloakroom::Attributes;
    ///
    /// let address = Attributes::from([("city", "Oslo".into())]);
    /// let session = Attributes::from([("address", address.into())]);
    /// let city = session.get_map("address").and_then(|a| a.get_str("city"));
    /// assert_eq!(city, Some("Oslo"));
    /// ```
    #[must_use]
    pub fn get_map(&self, key: &str) -> Option<&Attributes> {
        self.get(key)?.as_map()
    }
}

/// The typed getters, as those of [`Attributes`] but on the stored bytes.
///
/// ```
/// use cloakroom::{ArchivedAttributes, Attributes};
/// use rkyv::rancor::Error;
///
/// let session = Attributes::from([("username", "alice".into()), ("visits", 3.into())]);
/// let bytes = rkyv::to_bytes::<Error>(&session)?;
/// let stored = rkyv::access::<ArchivedAttributes, Error>(&bytes)?;
/// assert_eq!(stored.get_str("username"), Some("alice"));
/// assert_eq!(stored.get_f64("visits"), Some(3.0));
/// assert_eq!(stored.get_bool("visits"), None);
/// # Ok::<(), Error>(())
/// ```
impl ArchivedAttributes {
    /// Returns the text of a key.
    #[must_use]
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// Returns the truth value of a key.
    #[must_use]
    pub fn get_bool(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// Returns the integer of a key where an `i64` holds it.
    #[must_use]
    pub fn get_i64(&self, key: &str) -> Option<i64> {
        self.get(key)?.as_i64()
    }

    /// Returns the integer of a key where a `u64` holds it.
    #[must_use]
    pub fn get_u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// Returns the number of a key where an `f64` holds it exactly.
    #[must_use]
    pub fn get_f64(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_f64()
    }

    /// Returns the bytes of a key; text is not bytes.
    #[must_use]
    pub fn get_bytes(&self, key: &str) -> Option<&[u8]> {
        self.get(key)?.as_bytes()
    }

    /// Returns the list of a key.
    #[must_use]
    pub fn get_list(&self, key: &str) -> Option<&[ArchivedValue]> {
        self.get(key)?.as_list()
    }

    /// Returns the map of a key.
    #[must_use]
    pub fn get_map(&self, key: &str) -> Option<&ArchivedAttributes> {
        self.get(key)?.as_map()
    }
}
