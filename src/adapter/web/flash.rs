//! Messages for the next page, read once.

use super::error::Result;
use super::session::Session;
use crate::{Attributes, Value};

/// The key that they are kept under.
const KEY: &str = "_flash";

impl Session<Attributes> {
    /// Keeps a message for the page that comes next, such as the one that a redirect leads to. If
    /// there is no session, one begins.
    ///
    /// Messages stand in the data, under the key `_flash`, until they are taken.
    ///
    /// # Errors
    /// As [`update`](Session::update).
    pub fn flash(&self, kind: &str, text: &str) -> Result<()> {
        let message = Value::List(vec![kind.into(), text.into()]);
        self.update(|s| match s.get_mut(KEY) {
            Some(Value::List(messages)) => messages.push(message),
            _ => {
                s.set(KEY, Value::List(vec![message]));
            }
        })
    }

    /// Takes the messages, each as its kind with its text, oldest first. Of requests that take them
    /// at the same time, one gets them. Where there are none nothing is written.
    ///
    /// # Errors
    /// As [`update`](Session::update); if there is no session, there are no messages.
    pub fn take_flash(&self) -> Result<Vec<(String, String)>> {
        let Some(Value::List(messages)) = self.remove(KEY)? else { return Ok(Vec::new()) };
        let pair = |message: Value| match message {
            Value::List(parts) => match <[Value; 2]>::try_from(parts) {
                Ok([Value::Text(kind), Value::Text(text)]) => Some((kind, text)),
                _ => None,
            },
            _ => None,
        };
        Ok(messages.into_iter().filter_map(pair).collect())
    }
}
