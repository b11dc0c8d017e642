//! Stores of tower-sessions, by its trait: a load gives a record of one's own.

use std::future::Future;
use std::marker::PhantomData;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use cloakroom::Store;
use cloakroom::tower_sessions::CloakroomStore;
use time::OffsetDateTime;
use tower_sessions::session::{Id, Record};
use tower_sessions::{MemoryStore, SessionStore};

use super::{Client, Service};
use crate::contender::VALUE_BYTES;
use crate::draw::Random;
use crate::section::web::stores::MokaStore;

/// A store with its name.
pub trait Named: Send + Sync + 'static {
    const NAME: &'static str;
    type Store: SessionStore;
    fn open(sessions: usize) -> Result<Self::Store, String>;
}

pub struct Ours;
pub struct Memory;
pub struct Moka;

impl Named for Ours {
    const NAME: &'static str = "cloakroom-tower";
    type Store = CloakroomStore;

    fn open(sessions: usize) -> Result<CloakroomStore, String> {
        let store: Result<Store, _> = Store::builder().capacity(sessions).in_memory();
        store.map(CloakroomStore::new).map_err(|error| error.to_string())
    }
}

impl Named for Memory {
    const NAME: &'static str = "tower-memory";
    type Store = MemoryStore;

    fn open(_sessions: usize) -> Result<MemoryStore, String> {
        Ok(MemoryStore::default())
    }
}

impl Named for Moka {
    const NAME: &'static str = "tower-moka";
    type Store = MokaStore;

    fn open(_sessions: usize) -> Result<MokaStore, String> {
        Ok(MokaStore::default())
    }
}

pub struct Stored<N: Named> {
    store: N::Store,
    ids: Vec<Id>,
    named: PhantomData<N>,
}

impl<N: Named> Service for Stored<N> {
    const NAME: &'static str = N::NAME;
    type Client<'a> = Asking<'a, N>;

    fn open(sessions: usize, _directory: &Path) -> Result<Self, String> {
        let store = N::open(sessions)?;
        let mut random = Random::new(0x70_3E);
        let text = "x".repeat(VALUE_BYTES);
        let mut ids = Vec::with_capacity(sessions);
        for _ in 0..sessions {
            let data =
                [("text".to_owned(), text.as_str().into()), ("n".to_owned(), random.next().into())];
            let expiry_date = OffsetDateTime::now_utc() + time::Duration::hours(1);
            let mut record = Record { id: Id::default(), data: data.into(), expiry_date };
            done(store.create(&mut record)).map_err(|error| error.to_string())?;
            ids.push(record.id);
        }
        Ok(Stored { store, ids, named: PhantomData })
    }

    fn client(&self) -> Asking<'_, N> {
        Asking(self)
    }
}

pub struct Asking<'a, N: Named>(&'a Stored<N>);

impl<N: Named> Client for Asking<'_, N> {
    fn look(&mut self, indexes: &[u32]) -> u64 {
        let look = |&index: &u32| {
            let found = done(self.0.store.load(&self.0.ids[index as usize]));
            let record = found.ok().flatten().expect("the session is there");
            record.data.get("n").and_then(|n| n.as_u64()).expect("it holds a number")
        };
        indexes.iter().map(look).fold(0, u64::wrapping_add)
    }
}

/// Waits for a future; asleep while it is not ready.
fn done<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return output;
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}
