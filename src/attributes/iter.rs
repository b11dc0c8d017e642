//! Iterators over the pairs of attributes, owned or archived.

use std::{fmt, mem, slice, vec};

use super::archived::ArchivedEntry;
use super::{ArchivedAttributes, ArchivedValue, Attributes, Value};

impl IntoIterator for Attributes {
    type Item = (String, Value);
    type IntoIter = IntoIter;

    fn into_iter(mut self) -> IntoIter {
        let entries = mem::take(&mut self.entries);
        IntoIter { entries: entries.into_iter() }
    }
}

impl<'a> IntoIterator for &'a Attributes {
    type Item = (&'a str, &'a Value);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Iterator over the pairs of [`Attributes`], by reference.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    entries: slice::Iter<'a, (String, Value)>,
}

impl<'a> Iter<'a> {
    pub(super) fn new(entries: &'a [(String, Value)]) -> Self {
        Self { entries: entries.iter() }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.entries.next().map(|(key, value)| (key.as_str(), value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.entries.next_back().map(|(key, value)| (key.as_str(), value))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// Iterator over the pairs of [`Attributes`], by value.
#[derive(Debug)]
pub struct IntoIter {
    entries: vec::IntoIter<(String, Value)>,
}

impl Iterator for IntoIter {
    type Item = (String, Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.entries.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl DoubleEndedIterator for IntoIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.entries.next_back()
    }
}

impl ExactSizeIterator for IntoIter {}

impl<'a> IntoIterator for &'a ArchivedAttributes {
    type Item = (&'a str, &'a ArchivedValue);
    type IntoIter = ArchivedIter<'a>;

    fn into_iter(self) -> ArchivedIter<'a> {
        self.iter()
    }
}

/// Iterator over the pairs of [`ArchivedAttributes`].
#[derive(Clone)]
pub struct ArchivedIter<'a> {
    entries: slice::Iter<'a, ArchivedEntry>,
}

impl<'a> ArchivedIter<'a> {
    pub(super) fn new(entries: &'a [ArchivedEntry]) -> Self {
        Self { entries: entries.iter() }
    }
}

impl<'a> Iterator for ArchivedIter<'a> {
    type Item = (&'a str, &'a ArchivedValue);

    fn next(&mut self) -> Option<Self::Item> {
        self.entries.next().map(|entry| (entry.0.as_str(), &entry.1))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl DoubleEndedIterator for ArchivedIter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.entries.next_back().map(|entry| (entry.0.as_str(), &entry.1))
    }
}

impl ExactSizeIterator for ArchivedIter<'_> {}

impl fmt::Debug for ArchivedIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.clone()).finish()
    }
}
