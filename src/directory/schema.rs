//! What type of session files hold.

use std::fmt;
use std::sync::LazyLock;

use crate::attributes::Attributes;
use crate::data;
use crate::error::Result;
use crate::journal::segment::LAYOUT;
use crate::schema::schema_of;

/// So many numbers given to `Builder::schema` are tried to tell [`Attributes`].
const NUMBERS: usize = 256;
/// The schemas of [`Attributes`] with these numbers: asked for with each session.
static KNOWN: LazyLock<[u64; NUMBERS]> =
    LazyLock::new(|| std::array::from_fn(|number| schema_of::<Attributes>(number as u64)));

/// The type of the sessions in a directory, as its files name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Of the type's name, its size, and the number given to
    /// [`Builder::schema`](crate::Builder::schema).
    pub number: u64,
    /// Of the features of rkyv with which it was archived.
    pub layout: u64,
}

impl Schema {
    /// That of [`Attributes`] with the number that was given to
    /// [`Builder::schema`](crate::Builder::schema), 0 by default.
    pub fn of_attributes(number: u64) -> Schema {
        Schema { number: schema_of::<Attributes>(number), layout: LAYOUT }
    }

    /// The number given to [`Builder::schema`](crate::Builder::schema), if this is [`Attributes`]
    /// with one below 256.
    pub fn attributes(&self) -> Option<u64> {
        let position = KNOWN.iter().position(|known| *known == self.number);
        position.filter(|_| self.layout == LAYOUT).map(|number| number as u64)
    }

    /// Data as [`Attributes`]; None if it is none.
    pub fn decode(&self, bytes: &[u8]) -> Option<Attributes> {
        self.attributes()?;
        data::parse(bytes).ok()
    }

    /// The data that holds these attributes, in a directory of this schema. None if its sessions
    /// are of another type.
    ///
    /// # Errors
    /// [`Error::Encode`](crate::Error::Encode).
    pub fn encode(&self, attributes: &Attributes) -> Result<Option<Vec<u8>>> {
        if self.attributes().is_none() {
            return Ok(None);
        }
        Ok(Some(data::encode(attributes)?.data().to_vec()))
    }

    /// Whether data is what it should be, as far as that is known.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), String> {
        match self.attributes() {
            Some(_) => data::check::<Attributes>(bytes),
            None => Ok(()),
        }
    }
}

/// As hexadecimal digits, with what is known of it.
impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.number)?;
        match self.attributes() {
            Some(0) => f.write_str(" (Attributes)"),
            Some(number) => write!(f, " (Attributes, schema {number})"),
            None => Ok(()),
        }
    }
}
