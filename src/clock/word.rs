//! The words that hold the present tick, each of them ended by a fork.
//!
//! A lookup must not ask whether the process was forked: it only ever compares one word with a
//! session's life. So all these words are in a list that the fork handler walks. Without a lock,
//! which a fork might copy while it is held.
#![allow(unsafe_code, reason = "the list is made of pointers")]

use std::ptr;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};

use crate::sync::atomic::AtomicU64;

/// What a word holds that was ended: later than every tick of a clock.
const ENDED: u64 = u64::MAX;

/// All words there ever were. Append-only: one that is dropped is taken by the next who asks.
static WORDS: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());

/// Nothing that is written often may lie beside what every lookup reads.
#[repr(align(128))]
struct Entry {
    word: AtomicU64,
    taken: AtomicBool,
    /// Written before the entry is published.
    next: AtomicPtr<Entry>,
}

/// A word that ends with the process that made it.
pub(crate) struct Word(&'static Entry);

impl Word {
    pub(crate) fn new(value: u64) -> Word {
        // Acquire pairs with the Release of the drop.
        let free =
            |entry: &&Entry| entry.taken.compare_exchange(false, true, Acquire, Relaxed).is_ok();
        let entry = entries().find(free).unwrap_or_else(append);
        // Relaxed: whoever reads it has it from us.
        entry.word.store(value, Relaxed);
        Word(entry)
    }

    /// The word itself. It outlives this, but then it is somebody else's.
    pub(crate) fn get(&self) -> &'static AtomicU64 {
        &self.0.word
    }

    /// Whether the process was forked since.
    pub(crate) fn is_ended(&self) -> bool {
        self.0.word.load(Relaxed) == ENDED
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        self.0.taken.store(false, Release);
    }
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    let mut next = WORDS.load(Acquire).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: entries are published with Release after they were written, and never freed.
        let entry = unsafe { next.as_ref() }?;
        next = entry.next.load(Relaxed).cast_const();
        Some(entry)
    })
}

fn append() -> &'static Entry {
    let mut head = WORDS.load(Relaxed);
    let entry = Box::leak(Box::new(Entry {
        word: AtomicU64::new(0),
        taken: AtomicBool::new(true),
        next: AtomicPtr::new(head),
    }));
    let entry: &'static Entry = entry;
    let new = ptr::from_ref(entry).cast_mut();
    // AcqRel: publishes the entry, and passes on those of others that it leads to.
    while let Err(changed) = WORDS.compare_exchange(head, new, AcqRel, Relaxed) {
        head = changed;
        entry.next.store(head, Relaxed);
    }
    entry
}

/// Ends all words. Called from a fork handler: it may do nothing but load and store.
#[cfg_attr(cloakroom_shuttle, allow(dead_code, reason = "nothing forks there"))]
pub(crate) fn end_all() {
    entries().for_each(|entry| entry.word.store(ENDED, Relaxed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_belongs_to_one() {
        let words: Vec<_> = (0..100).map(Word::new).collect();
        for (value, word) in (0..).zip(&words) {
            assert_eq!(word.get().load(Relaxed), value);
        }
        drop(words);
        let before = entries().count();
        for value in 0..1000 {
            assert_eq!(Word::new(value).get().load(Relaxed), value);
        }
        // Other tests run meanwhile, and have clocks of their own.
        assert!(entries().count() < before + 500, "words are taken again");
    }
}
