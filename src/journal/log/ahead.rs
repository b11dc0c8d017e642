//! What is done ahead of the frames, so that no append waits for it: the next segment is made, the
//! pages of the present one are touched. And behind them: the last one is unmapped.
//!
//! A page that is written for the first time, or for the first time after a sync, costs its writer
//! several microseconds, in which nobody else can append. A thread that asks the system for many
//! at once does it at a fifth of the time, and without the lock. It stays at most
//! [`AHEAD_BYTES`] before the last frame, as a sync writes what it touched. The first such part of
//! a log is left alone: most stores write no more between two starts.

use std::sync::PoisonError;
use std::time::Duration;

use super::{Log, Refused, Tail};
use crate::journal::files::{File, Files, Mapping as _, Pages};
use crate::journal::maker::Segment;
use crate::sync::lock;

/// How far before the frames pages are touched.
pub(super) const AHEAD_BYTES: usize = 1 << 20;
/// How long the thread waits after it could not make a segment.
const PAUSE: Duration = Duration::from_millis(100);
/// How often it looks by itself after it had something to do, and how many times, before it waits
/// to be woken: to wake a thread costs whoever does it 10 us.
const INTERVAL: Duration = Duration::from_millis(1);
const LOOKS: u32 = 20;

/// What is to be done ahead.
enum Work<F: Files> {
    /// Make the next segment.
    Make,
    /// Touch pages from here on.
    Touch(Pages, usize),
    /// Drop what was mapped before.
    Unmap(Vec<<F::File as File>::Mapping>),
}

impl<F: Files> Log<F> {
    /// The thread that works ahead, until [`Log::stop_ahead`].
    pub(crate) fn run_ahead(&self) {
        let segment_bytes = self.maker.segment_bytes;
        let mut looks = 0;
        let mut tail = lock(&self.tail);
        while tail.has_thread {
            let wait = match tail.work(segment_bytes) {
                Some(work) => {
                    drop(tail);
                    let done = self.work(work);
                    looks = LOOKS;
                    tail = lock(&self.tail);
                    match done {
                        Ok(()) => continue,
                        // Without room it is tried again; appends say so meanwhile.
                        Err(_) => Some(PAUSE),
                    }
                }
                None if looks > 0 => {
                    looks -= 1;
                    Some(INTERVAL)
                }
                None => {
                    tail.near_at = tail.make_at(segment_bytes).min(tail.touch_at(segment_bytes));
                    None
                }
            };
            tail = match wait {
                _ if !tail.has_thread => tail,
                None => self.near.wait(tail).unwrap_or_else(PoisonError::into_inner),
                Some(time) => {
                    let waited = self.near.wait_timeout(tail, time);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn work(&self, work: Work<F>) -> Result<(), Refused> {
        match work {
            Work::Make => self.prepare_next(),
            Work::Touch(pages, from) => {
                pages.touch(from, AHEAD_BYTES / 2);
                Ok(())
            }
            Work::Unmap(mappings) => {
                drop(mappings);
                Ok(())
            }
        }
    }

    /// To be called before the thread is started.
    pub(crate) fn start_ahead(&self) {
        lock(&self.tail).has_thread = true;
    }

    /// Tells the thread that works ahead to end. Appends go on without it.
    pub(crate) fn stop_ahead(&self) {
        let mut tail = lock(&self.tail);
        tail.has_thread = false;
        tail.unmapped.clear();
        self.near.notify_all();
    }

    /// Makes the next segment beforehand, so that no append has to.
    pub(crate) fn prepare_next(&self) -> Result<(), Refused> {
        let name = {
            let mut tail = lock(&self.tail);
            if tail.making || tail.next.is_some() {
                return Ok(());
            }
            tail.making = true;
            tail.next_name()
        };
        // Appends go on meanwhile, as long as the present segment has room.
        let made = self.maker.segment(name);
        if let Ok(Segment { mapping: Some(mapping), .. }) = &made
            && let Some(pages) = mapping.pages()
        {
            pages.touch(0, AHEAD_BYTES);
        }
        let mut tail = lock(&self.tail);
        tail.making = false;
        self.made.notify_all();
        tail.next = Some(made?);
        Ok(())
    }
}

impl<F: Files> Tail<F> {
    /// What is to be done now; notes that it is.
    fn work(&mut self, segment_bytes: u64) -> Option<Work<F>> {
        if !self.unmapped.is_empty() {
            return Some(Work::Unmap(std::mem::take(&mut self.unmapped)));
        }
        if self.offset >= self.make_at(segment_bytes) {
            return Some(Work::Make);
        }
        if self.offset < self.touch_at(segment_bytes) {
            return None;
        }
        let pages = self.pages()?;
        // Where frames have overtaken it, it goes on from them.
        let from = self.touched.max(self.offset);
        self.touched = from + AHEAD_BYTES / 2;
        Some(Work::Touch(pages, from))
    }

    /// Where frames will be when the next segment is to be made: half way.
    fn make_at(&self, segment_bytes: u64) -> usize {
        if self.making || self.next.is_some() { usize::MAX } else { segment_bytes as usize / 2 }
    }

    /// Where frames will be when more pages are to be touched.
    fn touch_at(&self, segment_bytes: u64) -> usize {
        if (self.touched as u64) < segment_bytes && self.pages().is_some() {
            self.touched - AHEAD_BYTES / 2
        } else {
            usize::MAX
        }
    }

    fn pages(&self) -> Option<Pages> {
        self.segment.mapping.as_ref()?.pages()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::journal::files::crash::CrashDisk;
    use crate::journal::files::faulty::{Faulty, Kind};
    use crate::journal::files::real::tests::TempDir;
    use crate::journal::stored::Stored;
    use crate::journal::{Calendar, Entry, Expected, Journal, Keeping, Seal, Survey};
    use crate::keep::{Append, Durability};

    fn journal<F: Files>(files: &Arc<F>, segment_bytes: u64, append: Append) -> Journal<F> {
        let keeping = Keeping {
            durability: Durability::Crash,
            sync_interval: Duration::from_secs(3600),
            segment_bytes,
            append,
            schema: 0,
            seal: Seal::Plain,
        };
        let survey = Survey::of(&**files, Expected { schema: 0, seal: &Seal::Plain }).unwrap();
        let clock = Clock::manual(&ManualClock::new()).unwrap();
        let calendar = Calendar::new(&clock, survey.latest_ms());
        Journal::open(Arc::clone(files), &survey, keeping, calendar).unwrap()
    }

    /// Whether the thread has done what there is to do.
    fn keeps_up<F: Files>(log: &Log<F>) -> bool {
        let tail = lock(&log.tail);
        let segment_bytes = log.maker.segment_bytes;
        let near_at = tail.make_at(segment_bytes).min(tail.touch_at(segment_bytes));
        assert!(tail.offset < tail.near_at, "the next frame will wake the thread for nothing");
        !tail.making && tail.unmapped.is_empty() && tail.offset < near_at
    }

    fn put_all<F: Files>(journal: &Journal<F>, count: usize, data: &[u8]) {
        for number in 0..count {
            if number % 50 == 0 {
                // Time to fall asleep; too little of it lets a bug pass, never fails a test.
                std::thread::sleep(2 * LOOKS * INTERVAL);
            }
            assert!(keeps_up(&journal.shared.log));
            let stored = Stored { data, ..crate::journal::tests::stored() };
            journal.append(&Entry::Put(stored)).unwrap();
            for tries in 0.. {
                if keeps_up(&journal.shared.log) {
                    break;
                }
                assert!(tries < 20_000, "the thread does not keep up");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn no_append_makes_a_segment_or_waits_for_a_sync() {
        for append in [Append::Mapped, Append::Written] {
            let files = Arc::new(Faulty::new(CrashDisk::new()));
            let journal = journal(&files, 16 << 10, append);
            let (writer, slow) = (std::thread::current().id(), Arc::new(AtomicU64::new(0)));
            let count = Arc::clone(&slow);
            files.watch(move |kind| {
                let is_quick = matches!(kind, Kind::MappedWrite | Kind::Write);
                if std::thread::current().id() == writer && !is_quick {
                    count.fetch_add(1, SeqCst);
                }
            });
            put_all(&journal, 500, &[7; 200]);
            assert_eq!(slow.load(SeqCst), 0);
            assert!(files.count(Kind::Create) > 10);
        }
    }

    /// In segments as small as what is touched ahead, and in larger ones.
    #[test]
    fn pages_are_touched_ahead_of_the_frames() {
        for segment_bytes in [1 << 20, 3 << 20] {
            let temp = TempDir::new();
            let journal = journal(&Arc::new(temp.open()), segment_bytes, Append::Mapped);
            put_all(&journal, 500, &[7; 20_000]);
            journal.close().unwrap();
        }
    }

    #[test]
    fn where_nothing_is_to_be_touched_no_frame_wakes_the_thread() {
        for append in [Append::Mapped, Append::Written] {
            let journal = journal(&Arc::new(CrashDisk::new()), 3 << 20, append);
            put_all(&journal, 300, &[7; 20_000]);
        }
    }

    #[test]
    fn after_a_segment_could_not_be_made_another_try_follows() {
        use crate::journal::files::faulty::{Fault, Times};
        let files = Arc::new(Faulty::new(CrashDisk::new()));
        let journal = journal(&files, 16 << 10, Append::Mapped);
        files.fail(&[Kind::Allocate], 1, Times::Once, Fault::Enospc);
        put_all(&journal, 100, &[7; 200]);
        assert!(files.count(Kind::Allocate) > 2);
    }
}
