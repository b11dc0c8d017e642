//! The notebook's first cell: a store in memory, whose calls say what they do.
//!
//! The library returns typed results; these functions print the notebook's texts.

use std::io::{self, Write};

use cloakroom::{Attributes, Missing, SessionId, Store, Value};

const NOT_FOUND: &str = "Session ID not found!";

/// The functions of the cell, over one store, with where they print.
pub(crate) struct Cell<W> {
    pub(crate) store: Store,
    pub(crate) out: W,
}

impl<W: Write> Cell<W> {
    /// Prints `Session created: ID`. An id has the form of a UUID; it is the digest of a token,
    /// which a server would give to its client.
    pub(crate) fn create_session(&mut self) -> Result<SessionId, Box<dyn std::error::Error>> {
        let id = self.store.create(Attributes::new())?.id();
        writeln!(self.out, "Session created: {id}")?;
        Ok(id)
    }

    pub(crate) fn set_session_data(
        &mut self,
        id: SessionId,
        key: &str,
        value: impl Into<Value>,
    ) -> io::Result<()> {
        let value = value.into();
        let text = text(&value);
        match self.store.update(id, |s| s.set(key, value)) {
            Ok(_) => writeln!(self.out, "Set {key} = {text} in session {id}"),
            Err(cloakroom::Error::Missing(_)) => writeln!(self.out, "{NOT_FOUND}"),
            Err(error) => writeln!(self.out, "{error}"),
        }
    }

    /// None stands for Ruby's nil.
    pub(crate) fn get_session_data(
        &mut self,
        id: SessionId,
        key: &str,
    ) -> io::Result<Option<Value>> {
        match self.store.read(id, |s| s.get(key).map(|value| value.to_value())) {
            Ok(value) => Ok(value),
            Err(Missing::Unknown | Missing::Ended(_)) => {
                writeln!(self.out, "{NOT_FOUND}")?;
                Ok(None)
            }
        }
    }

    pub(crate) fn print_session(&mut self, id: SessionId) -> io::Result<()> {
        let Ok(data) = self.store.read(id, |s| s.to_attributes()) else {
            return writeln!(self.out, "{NOT_FOUND}");
        };
        writeln!(self.out, "Data for session {id}:")?;
        for (key, value) in data.iter() {
            writeln!(self.out, "  {key}: {}", text(value))?;
        }
        Ok(())
    }

    /// "Example usage", as the notebook has it.
    pub(crate) fn example_usage(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let sid = self.create_session()?;
        self.set_session_data(sid, "username", "alice")?;
        self.set_session_data(sid, "logged_in", true)?;
        let username = self.get_session_data(sid, "username")?.unwrap_or_default();
        writeln!(self.out, "Username from session: {}", text(&username))?;
        self.print_session(sid)?;
        Ok(())
    }
}

/// As Ruby puts a value into a text.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Text(text) => text.clone(),
        other => other
            .as_bool()
            .map(|is| is.to_string())
            .or_else(|| other.as_i64().map(|number| number.to_string()))
            .unwrap_or_else(|| format!("{other:?}")),
    }
}
