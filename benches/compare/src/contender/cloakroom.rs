//! Ours: lookups by id with the deadline checked and the touch on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use cloakroom::{CreateOptions, Event, Events, Reason, SessionId, Store};

use super::{Contender, Expires, Kind, LONG_IDLE, Setup, VALUE_BYTES, Value, first_word, missing};

const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

#[derive(Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Payload {
    pub bytes: [u8; VALUE_BYTES],
}

pub struct Cloakroom {
    store: Store<Payload>,
    listener: Mutex<Option<Listener>>,
}

impl Contender for Cloakroom {
    const NAME: &'static str = "cloakroom";
    const KIND: Kind = Kind::Expires;
    type Key = SessionId;

    fn open(setup: &Setup) -> Self {
        let store = Store::builder()
            .idle_timeout(LONG_IDLE)
            .lifetime(LIFETIME)
            .capacity(setup.sessions)
            .in_memory()
            .expect("a store in memory opens");
        Cloakroom { store, listener: Mutex::new(None) }
    }

    fn create(&self, _draw: u128, value: &Value) -> SessionId {
        // Said for each session, because one without an owner has a shorter timeout by default.
        let options = CreateOptions::new().idle_timeout(LONG_IDLE);
        match self.store.create_with(Payload { bytes: *value }, options) {
            Ok(token) => token.id(),
            Err(error) => panic!("create: {error}"),
        }
    }

    #[inline(always)]
    fn read(&self, key: SessionId) -> u64 {
        match self.store.read(key, |session| first_word(&session.bytes)) {
            Ok(word) => word,
            Err(_) => missing(),
        }
    }

    #[inline]
    fn read_many(&self, keys: &[SessionId]) -> u64 {
        let mut sum = 0_u64;
        self.store.read_many(keys, |_, found| match found {
            Ok(session) => sum = sum.wrapping_add(first_word(&session.bytes)),
            Err(_) => missing(),
        });
        sum
    }

    fn replace(&self, key: SessionId, value: &Value) {
        if self.store.replace(key, Payload { bytes: *value }).is_err() {
            missing();
        }
    }

    fn end(&self, key: SessionId) {
        if self.store.end(key, Reason::LoggedOut).is_err() {
            missing();
        }
    }

    fn reserve(&self, sessions: usize) {
        self.store.reserve(sessions, VALUE_BYTES).expect("there is memory to reserve");
    }

    fn longest_growth_us(&self) -> Option<u64> {
        Some(self.store.stats().resize_max.as_micros() as u64)
    }
}

impl Expires for Cloakroom {
    fn open_expiring(setup: &Setup, _window: Duration) -> Self {
        let opened = Self::open(setup);
        let listener = Listener::start(opened.store.events_with(1 << 20), setup.sessions);
        *opened.listener.lock().expect("no panic") = Some(listener);
        opened
    }

    fn create_until(&self, _draw: u128, value: &Value, idle: Duration) {
        let options = CreateOptions::new().idle_timeout(idle);
        self.store.create_with(Payload { bytes: *value }, options).expect("no limit is set");
    }

    fn live(&self) -> usize {
        self.store.stats().live as usize
    }

    fn tally(&self) -> Option<String> {
        let mut ids = self.listener.lock().expect("no panic").take()?.finish();
        let dropped = self.store.stats().events_dropped;
        let heard = ids.len();
        ids.sort_unstable();
        ids.dedup();
        let once = ids.len();
        Some(format!(
            "expired events: {once} sessions, {} repeated, {dropped} dropped events",
            heard - once
        ))
    }
}

/// A thread that writes down every session whose expiry it hears of.
struct Listener {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<SessionId>>,
}

impl Listener {
    fn start(events: Events<Payload>, sessions: usize) -> Listener {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        // Touched now, so that the list adds nothing to the resident memory later.
        let mut ids = Vec::with_capacity(sessions);
        ids.spare_capacity_mut().fill_with(std::mem::MaybeUninit::zeroed);
        let thread = std::thread::spawn(move || {
            // The last wait runs out empty, so nothing that was sent is left behind.
            loop {
                let stopping = stopped.load(Ordering::Acquire);
                match events.recv_timeout(Duration::from_millis(50)) {
                    Some(event) => ids.extend(expired(&event)),
                    None if stopping => return ids,
                    None => {}
                }
            }
        });
        Listener { stop, thread }
    }

    fn finish(self) -> Vec<SessionId> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the listener does not panic")
    }
}

fn expired(event: &Event<Payload>) -> Option<SessionId> {
    match event {
        Event::Ended { id, reason: Reason::Expired, .. } => Some(*id),
        _ => None,
    }
}
