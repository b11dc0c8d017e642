//! The words that hold the present tick, each of them ended by a fork: one of each clock, and a
//! copy of it, the dial, in each store that goes by the clock.
//!
//! A dial is for lookups: it lies beside what else they read, where the clock's own word would
//! take one more load (a tenth of a lookup among a million sessions).
//!
//! A lookup must not ask whether the process was forked: it only ever compares one word with a
//! session's life. So all these words are in a list that the fork handler walks. Without a lock,
//! which a fork might copy while it is held.
#![allow(unsafe_code, reason = "the list is made of pointers")]

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};

use crate::sync::atomic::AtomicU64;
use crate::sync::{Mutex, lock};

/// What a word holds that was ended: later than every tick of a clock.
const ENDED: u64 = u64::MAX;

/// All words there ever were. Append-only: one that is dropped is taken by the next who asks.
static WORDS: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());

/// Nothing that is written often may lie beside what every lookup reads.
#[repr(align(128))]
struct Entry {
    word: AtomicU64,
    /// The dial that ends with this entry, or null. Whoever takes the entry sets it; it lives
    /// until it is null again.
    dial: AtomicPtr<AtomicU64>,
    taken: AtomicBool,
    /// Written before the entry is published.
    next: AtomicPtr<Entry>,
}

/// A word that ends with the process that made it.
struct Word(&'static Entry);

impl Word {
    fn new(value: u64) -> Word {
        // Acquire pairs with the Release of the drop.
        let free =
            |entry: &&Entry| entry.taken.compare_exchange(false, true, Acquire, Relaxed).is_ok();
        let entry = entries().find(free).unwrap_or_else(append);
        // Relaxed: whoever reads it has it from us.
        entry.word.store(value, Relaxed);
        Word(entry)
    }

    /// It outlives this, but then it is somebody else's.
    fn get(&self) -> &'static AtomicU64 {
        &self.0.word
    }
}

/// What a clock moves: its word, and the dials that follow.
pub(crate) struct Pacer {
    word: Word,
    /// Not to be locked once the word has ended: a fork may have copied the lock while it was held.
    dials: Mutex<Vec<&'static Entry>>,
}

impl Pacer {
    pub(crate) fn new(value: u64) -> Pacer {
        Pacer { word: Word::new(value), dials: Mutex::new(Vec::new()) }
    }

    pub(crate) fn present(&self) -> u64 {
        // Acquire pairs with `raise`: who sees the new time also sees what was done before.
        self.word.get().load(Acquire)
    }

    /// Whether the process was forked since.
    pub(crate) fn is_ended(&self) -> bool {
        self.present() == ENDED
    }

    /// Moves the word and every dial to `value`, unless they are there or further. Lookups that
    /// begin after this call see it.
    pub(crate) fn raise(&self, value: u64) {
        if self.word.get().fetch_max(value, AcqRel) == ENDED {
            return;
        }
        for entry in lock(&self.dials).iter() {
            // SAFETY: a dial leaves this list before it goes, under the lock that is held.
            let dial = unsafe { &*entry.dial.load(Relaxed) };
            dial.fetch_max(value, AcqRel);
        }
    }
}

/// A store's copy of its clock's word.
pub(crate) struct Dial {
    tick: AtomicU64,
    /// Once it follows.
    entry: OnceLock<Word>,
}

impl Dial {
    /// A dial that does not follow yet.
    pub(crate) fn new(pacer: &Pacer) -> Dial {
        Dial { tick: AtomicU64::new(pacer.present()), entry: OnceLock::new() }
    }

    #[inline(always)]
    pub(crate) fn present(&self) -> u64 {
        // Relaxed: the tick orders no other memory.
        self.tick.load(Relaxed)
    }

    /// Begins to follow. To be called once, before the dial is shared with other threads.
    ///
    /// # Safety
    /// From here on until [`Dial::leave`] the dial stays where it is.
    pub(crate) unsafe fn follow(&self, pacer: &Pacer) {
        if pacer.is_ended() {
            self.tick.store(ENDED, Relaxed);
            return;
        }
        let entry = self.entry.get_or_init(|| Word::new(0)).0;
        let mut dials = lock(&pacer.dials);
        // Release pairs with the Acquire of `end_all`.
        entry.dial.store(ptr::from_ref(&self.tick).cast_mut(), Release);
        dials.push(entry);
        // Whoever raises the word later finds the dial.
        self.tick.fetch_max(pacer.present(), Relaxed);
    }

    /// Ends what [`Dial::follow`] began.
    pub(crate) fn leave(&mut self, pacer: &Pacer) {
        let Some(word) = self.entry.take() else { return };
        if !pacer.is_ended() {
            lock(&pacer.dials).retain(|entry| !ptr::eq(*entry, word.0));
        }
        word.0.dial.store(ptr::null_mut(), Release);
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
        dial: AtomicPtr::new(ptr::null_mut()),
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
    for entry in entries() {
        entry.word.store(ENDED, Relaxed);
        // SAFETY: what is not null lives; there is no other thread in the child that could end it.
        if let Some(dial) = unsafe { entry.dial.load(Acquire).as_ref() } {
            dial.store(ENDED, Relaxed);
        }
    }
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

    #[test]
    fn dials_follow_until_they_leave() {
        let pacer = Pacer::new(5);
        let mut dials = [0; 3].map(|_| Box::new(Dial::new(&pacer)));
        pacer.raise(6);
        assert_eq!(dials[0].present(), 5, "does not follow yet");
        for dial in &dials {
            // SAFETY: in a box, and left below.
            unsafe { dial.follow(&pacer) };
            assert_eq!(dial.present(), 6);
        }
        dials[1].leave(&pacer);
        pacer.raise(7);
        pacer.raise(4);
        assert_eq!(dials.each_ref().map(|dial| dial.present()), [7, 6, 7]);
        dials.iter_mut().for_each(|dial| dial.leave(&pacer));
        assert_eq!(lock(&pacer.dials).len(), 0);
    }

    #[test]
    fn an_ended_pacer_ends_its_dials_and_is_locked_no_more() {
        let pacer = Pacer::new(5);
        let mut early = Box::new(Dial::new(&pacer));
        // SAFETY: in a box, and left below.
        unsafe { early.follow(&pacer) };
        let held = lock(&pacer.dials);
        pacer.word.get().store(ENDED, Relaxed);
        pacer.raise(9);
        assert_eq!((pacer.present(), early.present()), (ENDED, 5), "the handler ends the dial");
        let late = Dial::new(&pacer);
        // SAFETY: it does not follow.
        unsafe { late.follow(&pacer) };
        assert_eq!(late.present(), ENDED);
        early.leave(&pacer);
        drop(held);
    }
}
