//! The operations, each as a server would call it, on sessions that are in the cache.

use std::hint::black_box;
use std::time::Duration;

use cloakroom::{Attributes, CreateOptions, Reason, SessionData, SessionId, Store, Token};

/// Calls of an operation that is counted.
pub(crate) const CALL_COUNT: usize = SESSION_COUNT * ROUNDS;

const SESSION_COUNT: usize = 4096;
const ROUNDS: usize = 4;
const BATCH_LEN: usize = 16;

#[derive(Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Payload {
    bytes: [u8; 200],
}

const PAYLOAD: Payload = Payload { bytes: [7; 200] };

pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> u64,
}

const fn operation(name: &'static str, run: fn() -> u64) -> Operation {
    Operation { name, run }
}

pub(crate) const OPERATIONS: [Operation; 10] = [
    operation("read, 8 of 200 bytes", || {
        per_session(|store, id| store.read(id, first_byte).unwrap_or_default())
    }),
    operation("peek, 8 of 200 bytes", || {
        per_session(|store, id| store.peek(id, first_byte).unwrap_or_default())
    }),
    operation("read_many of 16, each", || {
        let (store, ids) = payloads();
        measured(|| {
            let mut sum = 0;
            for batch in ids.chunks(BATCH_LEN) {
                store.read_many(batch, |_, found| sum += found.map_or(0, first_byte));
            }
            sum
        })
    }),
    operation("read of an unknown id", || {
        per_session(|store, id| {
            let unknown = uuid::Uuid::from(id).as_u128() ^ 1 << 90;
            let unknown = SessionId::from(uuid::Uuid::from_u128(unknown));
            u64::from(store.read(unknown, |_| ()).is_err())
        })
    }),
    operation("read by a cookie's text", || {
        let store = store::<Payload>();
        let texts: Vec<_> = (0..SESSION_COUNT).map(|_| created(&store, PAYLOAD).expose()).collect();
        measured(|| {
            let read = |text: &String| {
                let id = store.find(black_box(text)).expect("the session is there");
                store.read(id, first_byte).unwrap_or_default()
            };
            texts.iter().map(read).sum()
        })
    }),
    operation("get", || {
        per_session(|store, id| store.get(id).map_or(0, |session| first_byte(&session)))
    }),
    operation("touch", || per_session(|store, id| u64::from(store.touch(id).is_ok()))),
    operation("replace 200 bytes", || {
        per_session(|store, id| u64::from(store.replace(id, PAYLOAD).is_ok()))
    }),
    operation("update of one attribute in five", one_attribute),
    operation("create and end", || {
        per_session(|store, _| {
            let token = created(store, PAYLOAD);
            u64::from(store.end(token.id(), Reason::LoggedOut).is_ok())
        })
    }),
];

fn first_byte(payload: &ArchivedPayload) -> u64 {
    u64::from(payload.bytes[0])
}

fn store<S: SessionData>() -> Store<S> {
    Store::builder().expiry_thread(false).in_memory().expect("a store in memory opens")
}

fn created<S: SessionData>(store: &Store<S>, data: S) -> Token {
    let options = CreateOptions::new().idle_timeout(Duration::from_secs(1800));
    store.create_with(data, options).expect("no limit is set")
}

fn payloads() -> (Store<Payload>, Vec<SessionId>) {
    let store = store();
    let ids = (0..SESSION_COUNT).map(|_| created(&store, PAYLOAD).id()).collect();
    (store, ids)
}

fn per_session(operation: impl Fn(&Store<Payload>, SessionId) -> u64) -> u64 {
    let (store, ids) = payloads();
    measured(|| ids.iter().map(|&id| operation(&store, black_box(id))).sum())
}

fn one_attribute() -> u64 {
    let store = store::<Attributes>();
    let data = || {
        Attributes::from([
            ("username", "alice".into()),
            ("logged_in", true.into()),
            ("visits", 0.into()),
            ("theme", "dark".into()),
            ("cart", 12.into()),
        ])
    };
    let ids: Vec<_> = (0..SESSION_COUNT).map(|_| created(&store, data()).id()).collect();
    let count_visit = |session: &mut Attributes| {
        session.set("visits", 1 + session.get_i64("visits").unwrap_or(0));
    };
    measured(|| ids.iter().map(|&id| u64::from(store.update(id, count_visit).is_ok())).sum())
}

/// Calls once around what is counted, first without being counted: then what happens only the
/// first time is over.
fn measured(round: impl Fn() -> u64) -> u64 {
    round() + counted(round)
}

/// What callgrind counts: it knows this function by its name.
#[inline(never)]
fn counted(round: impl Fn() -> u64) -> u64 {
    (0..ROUNDS).map(|_| black_box(&round)()).sum()
}
