//! What each request left of the keys that it changed, for those that save more than once.
//!
//! A middleware saves at the end of a request, but a handler may do so before. What it saved then
//! is not what it loaded; without a memory of it the second save would take the first one for
//! somebody else's, and count twice what it adds to a counter.

use std::collections::{HashMap, VecDeque};

use super::merge::Own;
use crate::sync::{Mutex, lock};
use crate::token::SessionId;

/// Requests that are remembered, the latest first. Each costs about 100 bytes.
const REQUESTS_MAX: usize = 65_536;

/// A request: one session's data as one load handed it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) session: SessionId,
    /// Tells the map that holds the data from all other maps.
    pub(super) map: u64,
}

#[derive(Debug, Default)]
pub(super) struct Written {
    requests: Mutex<Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    own: HashMap<Request, Own>,
    /// The oldest first.
    order: VecDeque<Request>,
}

impl Written {
    pub(super) fn get(&self, request: Request) -> Own {
        lock(&self.requests).own.get(&request).cloned().unwrap_or_default()
    }

    pub(super) fn put(&self, request: Request, own: Own) {
        let mut requests = lock(&self.requests);
        if requests.own.insert(request, own).is_some() {
            return;
        }
        requests.order.push_back(request);
        if requests.order.len() > REQUESTS_MAX
            && let Some(oldest) = requests.order.pop_front()
        {
            requests.own.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::loaded::KeyDigest;
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first() {
        let request = |map| Request { session: SessionId(1), map };
        let own = || Own::from([(KeyDigest::of("a"), None)]);
        let written = Written::default();
        for map in 0..REQUESTS_MAX as u64 + 10 {
            written.put(request(map), own());
            written.put(request(map), own());
        }
        assert!(written.get(request(9)).is_empty());
        assert_eq!(written.get(request(10)), own());
        let requests = lock(&written.requests);
        assert_eq!((requests.own.len(), requests.order.len()), (REQUESTS_MAX, REQUESTS_MAX));
    }
}
