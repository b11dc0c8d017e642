//! Operations that only look, and the comparison of everything.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use cloakroom::{Info, Missing, SessionId};

use super::ops::At;
use super::run::{Fault, Run, Seen, fault, number_of};
use super::world::{Data, Id, NEVER, REACH, RESOLUTION, Session, Time, data_of, nanos};

const MINUTE: Time = 60_000_000_000;

impl Run {
    /// Counts a lookup; where it is activity, the session was seen.
    fn looked(&mut self, id: SessionId, activity: bool) -> Result<usize, Missing> {
        let found = self.world.look(id);
        self.world.count_lookup(&found);
        if let (Ok(n), true) = (found, activity) {
            let now = self.world.now;
            self.world.sessions[n].touched(now);
        }
        found
    }

    fn data_at(&self, found: Result<usize, Missing>) -> Result<Data, Missing> {
        found.map(|n| self.world.sessions[n].data.clone())
    }

    pub(super) fn read(&mut self, at: At) {
        let id = self.id_at(at);
        let data = self.store.read(id, |data| data_of(&data.to_attributes()));
        let found = self.looked(id, true);
        assert_eq!(data, self.data_at(found));
    }

    pub(super) fn peek(&mut self, at: At) {
        let id = self.id_at(at);
        self.peek_id(id);
    }

    fn peek_id(&mut self, id: SessionId) {
        let data = self.store.peek(id, |data| data_of(&data.to_attributes()));
        let found = self.looked(id, false);
        assert_eq!(data, self.data_at(found), "{id} at {}", self.world.now);
        let owner = self.store.owner(id);
        let found = self.looked(id, false);
        let expected = found.map(|n| self.world.sessions[n].owner.clone());
        assert_eq!(owner.map(Option::unwrap_or_default), expected, "the owner of {id}");
        let Some(text) = self.texts.get(&id) else { return };
        let by_token = self.store.find(text).map_err(fault);
        let found = self.looked(id, false);
        assert_eq!(by_token, found.map(|_| id).map_err(Fault::Missing), "the token of {id}");
    }

    pub(super) fn touch(&mut self, at: At) {
        let id = self.id_at(at);
        let touched = self.store.touch(id);
        assert_eq!(touched, self.looked(id, true).map(|_| ()));
    }

    pub(super) fn get(&mut self, at: At) {
        let id = self.id_at(at);
        let got = self.store.get(id);
        let found = self.looked(id, true);
        let n = match (found, got.as_ref()) {
            (Ok(n), Ok(_)) => n,
            (found, got) => {
                return assert_eq!(got.map(|_| ()).map_err(|missing| *missing), found.map(|_| ()));
            }
        };
        let (session, got) = (&self.world.sessions[n], got.expect("checked"));
        let data = data_of(&got.to_data().expect("our own data"));
        assert_eq!(got.id(), session.id);
        assert_eq!(number_of(got.version()), session.version);
        assert_eq!(got.owner().unwrap_or_default(), session.owner);
        assert_eq!(got.label().unwrap_or_default(), session.label);
        assert_eq!(data, session.data);
        if self.seen.len() == 64 {
            self.seen.remove(0);
        }
        self.seen.push(Seen { session: n, version: got.version(), data });
    }

    pub(super) fn info(&mut self, at: At) {
        let id = self.id_at(at);
        let info = self.store.info(id);
        let found = self.looked(id, false);
        match (info, found) {
            (Ok(info), Ok(n)) => self.check_info(&info, n),
            (info, found) => assert_eq!(info.map(|_| ()), found.map(|_| ())),
        }
    }

    fn check_info(&self, info: &Info, n: usize) {
        let (session, now) = (&self.world.sessions[n], self.world.now);
        assert_eq!(info.id, session.id);
        assert_eq!(number_of(info.version), session.version);
        assert_eq!(info.owner.as_deref().unwrap_or_default(), session.owner);
        assert_eq!(info.label.as_deref().unwrap_or_default(), session.label);
        assert_eq!(info.data_bytes, session.data_bytes);
        if now >= REACH {
            return;
        }
        let within = |what: &str, at: Time, min: Time, max: Time| {
            let min = min.saturating_sub(RESOLUTION);
            assert!((min..=max).contains(&at), "{what}: {at}, not {min} to {max}: {session:?}");
        };
        let (created, authenticated) = (session.created, session.authenticated);
        within("created", time(info.created), created, created);
        within("authenticated", time(info.authenticated), authenticated, authenticated);
        within("last seen", time(info.last_seen), session.seen_min, session.seen_max);
        within("age", now - nanos(info.age), created, created);
        within("idle", now - nanos(info.idle), session.seen_min, session.seen_max);
        let (min, max) = (session.deadline_min(), session.deadline());
        match info.expires {
            Some(expires) => within("expires", time(expires), min, max),
            None => assert!(max >= REACH, "never expires, expected {max}"),
        }
    }

    pub(super) fn check_owner(&mut self, owner: &str) {
        let live = self.world.live_of(owner);
        assert_eq!(self.store.owner_count(owner), live.len(), "sessions of {owner}");
        let infos = self.store.owner_sessions(owner);
        let ids: Vec<SessionId> = infos.iter().map(|info| info.id).collect();
        let expected: Vec<SessionId> = live.iter().map(|&n| self.world.sessions[n].id).collect();
        assert_eq!(ids, expected, "sessions of {owner}, oldest first");
        for (info, n) in infos.iter().zip(live) {
            self.check_info(info, n);
        }
    }

    pub(super) fn check_list(&mut self, count: usize) {
        let (mut listed, mut cursor) = (HashSet::new(), None);
        loop {
            let page = self.store.sessions(cursor, count);
            for info in &page.sessions {
                assert!(listed.insert(info.id), "{} is listed twice", info.id);
                match self.world.ids.get(&info.id) {
                    Some(&Id::Session(n)) => self.check_info(info, n),
                    other => panic!("{} is listed, it is {other:?}", info.id),
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let live: HashSet<SessionId> = self.world.live().map(|(_, session)| session.id).collect();
        assert_eq!(listed, live, "live sessions");
    }

    /// Compares everything.
    pub(super) fn check_all(&mut self) {
        for id in self.world.given.clone() {
            self.make_sure(id);
            self.peek_id(id);
        }
        self.check_list(7);
        for owner in ["user0", "user1", "user2", "user3", "user4"] {
            self.check_owner(owner);
        }
        self.check_stats();
    }

    fn check_stats(&mut self) {
        let (stats, world) = (self.store.stats(), &self.world);
        let counts = world.counts;
        let resident = world.resident().count() as u64;
        let anonymous = world.resident().filter(|(_, session)| session.is_anonymous()).count();
        assert_eq!(stats.live, resident, "live");
        assert_eq!(stats.anonymous, anonymous as u64, "anonymous");
        assert_eq!(stats.authenticated, resident - anonymous as u64, "authenticated");
        assert_eq!(stats.owners, world.owners.len() as u64, "owners");
        assert_eq!(stats.created, counts.created, "created");
        assert_eq!(stats.renewed, counts.renewed, "renewed");
        assert_eq!(stats.ended, counts.ended, "ended");
        assert_eq!(stats.suspicious, counts.suspicious, "suspicious");
        assert_eq!((stats.hits, stats.misses), (counts.hits, counts.misses), "hits, misses");
        assert_eq!(stats.events_dropped, 0, "events dropped");
        let watched = self.watches.iter().filter(|watching| watching.session.is_some()).count();
        assert_eq!(stats.watched, watched as u64, "watched");
        let ends = |state: &&Id| matches!(state, Id::Alias { .. });
        let aliases = world.ids.values().filter(ends).count() as u64;
        let finite = |session: &Session| session.deadline() < REACH;
        let expiring = world.resident().filter(|(_, session)| finite(session)).count() as u64;
        assert!(stats.wheel_nodes <= resident + aliases, "{} wheel nodes", stats.wheel_nodes);
        assert!(stats.wheel_nodes >= expiring + aliases, "{} wheel nodes", stats.wheel_nodes);
        let tombstones =
            world.ids.values().filter(|state| matches!(state, Id::Ended { .. })).count() as u64;
        assert!(stats.remembered <= tombstones, "{} remembered", stats.remembered);
        if world.now < REACH {
            self.check_active(1, stats.active_1_minute);
            self.check_active(5, stats.active_5_minutes);
            self.check_active(15, stats.active_15_minutes);
        }
    }

    /// Sessions seen in this minute or so many before it.
    fn check_active(&self, minutes: Time, actual: u64) {
        let since = |seen: Time| self.world.now - seen;
        let surely = |session: &Session| since(session.seen_min) <= minutes * MINUTE - RESOLUTION;
        let maybe = |session: &Session| since(session.seen_max) <= (minutes + 1) * MINUTE;
        let count = |of: &dyn Fn(&Session) -> bool| {
            self.world.resident().filter(|(_, session)| of(session)).count() as u64
        };
        let (min, max) = (count(&surely), count(&maybe));
        assert!((min..=max).contains(&actual), "{actual} active, not {min} to {max}");
    }
}

fn time(at: SystemTime) -> Time {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(NEVER, |since: Duration| nanos(since))
}
