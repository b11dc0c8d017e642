//! New sessions.

use super::{After, Sessions};
use crate::budget::Class;
use crate::clock::{Nanos, Tick};
use crate::error::{Error, Limit, Reason, Result};
use crate::options::{CreateOptions, OwnerLimit, WhenFull};
use crate::owner::OwnerGuard;
use crate::reclaim::Pinned;
use crate::record::{Change, Draft, Kind, NODE_NONE, Record, TEXT_BYTES_MAX, Trailer};
use crate::shard::cost;
use crate::sync::atomic::Ordering::Relaxed;
use crate::timeouts::{Timeouts, TimeoutsIndex};
use crate::token::{Secret, SessionId, Token};

/// Sessions among which one to evict is chosen.
const EVICTION_SAMPLE: usize = 32;
/// Records that are looked at, at most, for more than one of them.
const EVICTION_VISITS: usize = 1024;

/// A search for a session to evict.
#[derive(Default)]
struct Search {
    best: Option<(Tick, SessionId)>,
    /// Sessions that may be evicted, among the records that were looked at.
    fitting: usize,
    visited: usize,
}

impl Search {
    fn is_enough(&self) -> bool {
        self.fitting >= EVICTION_SAMPLE || self.fitting > 0 && self.visited >= EVICTION_VISITS
    }
}

/// What a record is made of, before it has an id.
#[derive(Clone, Copy)]
pub(crate) struct NewSession<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) owner: &'a str,
    pub(crate) label: &'a str,
    pub(crate) timeouts: Timeouts,
    pub(crate) created: Tick,
    pub(crate) authenticated: Tick,
    pub(crate) absolute: Tick,
    pub(crate) version: u32,
}

impl Sessions {
    pub(crate) fn create(&self, data: &[u8], options: &CreateOptions) -> Result<Token> {
        self.create_under(data, options)
    }

    /// Creates a session that another secret than a token opens, if `T` is one.
    pub(crate) fn create_under<T: Secret>(
        &self,
        data: &[u8],
        options: &CreateOptions,
    ) -> Result<T> {
        self.begin_write()?;
        let owner = self.checked_owner(options.owner.as_deref())?;
        let label = self.checked_label(options.label.as_deref())?;
        self.check_size(data.len())?;
        let defaults = self.defaults(owner);
        let timeouts = Timeouts {
            idle: options.idle.unwrap_or(defaults.idle),
            lifetime: options.lifetime.unwrap_or(defaults.lifetime),
        };
        let (now, _) = self.now();
        let (tick, absolute) = (Tick::at(now), timeouts.absolute(now));
        let session = NewSession {
            data,
            owner,
            label,
            timeouts,
            created: tick,
            authenticated: tick,
            absolute,
            version: 1,
        };
        let pin = self.pin();
        let pinned = pin.pinned();
        self.bring_for_limit(pinned, owner)?;
        // It gets its id with its token, once there is room for it.
        let draft = self.draft(SessionId(0), &session, now);
        let mut after = After::default();
        let created = self.insert_or_evict(pinned, owner, &draft, &mut after);
        self.finish(after, pinned);
        created
    }

    /// Brings the sessions of an owner into memory, where their number counts.
    pub(super) fn bring_for_limit(&self, pinned: Pinned<'_>, owner: &str) -> Result<()> {
        if owner.is_empty() || self.options.owner_limit.is_none() {
            return Ok(());
        }
        self.bring_owner(pinned, owner)
    }

    /// The timeouts of a session of this owner; "" is nobody.
    pub(super) fn defaults(&self, owner: &str) -> Timeouts {
        if owner.is_empty() { self.options.anonymous } else { self.options.authenticated }
    }

    pub(super) fn checked_owner<'a>(&self, owner: Option<&'a str>) -> Result<&'a str> {
        match owner {
            None => Ok(""),
            Some(text) if text.is_empty() || text.len() > TEXT_BYTES_MAX => {
                Err(invalid_text("owner", text))
            }
            Some(text) => Ok(text),
        }
    }

    pub(super) fn checked_label<'a>(&self, label: Option<&'a str>) -> Result<&'a str> {
        match label {
            Some(text) if text.len() > TEXT_BYTES_MAX => Err(invalid_text("label", text)),
            label => Ok(label.unwrap_or_default()),
        }
    }

    pub(super) fn check_size(&self, bytes: usize) -> Result<()> {
        let bytes_max = self.options.record_bytes_max;
        if bytes > bytes_max { Err(Error::TooLarge { bytes, bytes_max }) } else { Ok(()) }
    }

    /// The record of a session, seen now.
    pub(super) fn draft<'a>(
        &self,
        id: SessionId,
        session: &NewSession<'a>,
        now: Nanos,
    ) -> Draft<'a> {
        let NewSession { data, owner, label, timeouts, absolute, .. } = *session;
        let index = self.common.timeouts.index_of(timeouts);
        let plain = owner.is_empty()
            && label.is_empty()
            && index != TimeoutsIndex::EXPLICIT
            && absolute != Tick::NEVER
            && absolute != Tick::LAST
            && Tick::divides(timeouts.lifetime)
            && session.created == session.authenticated;
        let trailer = Trailer {
            created: session.created,
            authenticated: session.authenticated,
            timeouts,
            owner,
            label,
        };
        Draft {
            id,
            kind: Kind::Live,
            life: self.common.timeouts.life(index, timeouts, now, absolute),
            absolute,
            version: session.version,
            node: NODE_NONE,
            timeouts: index,
            data,
            trailer: (!plain).then_some(trailer),
        }
    }

    /// Inserts a session under a new token, and makes room where the store is full. No lock may be
    /// held.
    fn insert_or_evict<T: Secret>(
        &self,
        pinned: Pinned<'_>,
        owner: &str,
        draft: &Draft<'_>,
        after: &mut After,
    ) -> Result<T> {
        let mut expired = false;
        loop {
            let limit = match self.insert_owned(pinned, owner, draft, after) {
                Err(Error::Full(limit)) if limit != Limit::Memory => limit,
                done => return done,
            };
            if expired {
                self.evict_for(pinned, draft, limit)?;
            } else {
                // What has expired gives way before anybody is evicted or refused.
                expired = true;
                self.bring_all()?;
                self.expire_due();
            }
        }
    }

    /// Inserts a session within its owner's limit and the store's; where the one ends the owner's
    /// oldest session, that one's room is the new one's.
    fn insert_owned<T: Secret>(
        &self,
        pinned: Pinned<'_>,
        owner: &str,
        draft: &Draft<'_>,
        after: &mut After,
    ) -> Result<T> {
        if owner.is_empty() {
            return self.insert_new(pinned, draft, after);
        }
        let guard = self.owners.lock(owner);
        loop {
            let surplus = self.surplus(pinned, &guard, owner)?;
            let token: T = match surplus.split_first() {
                None => self.insert_new(pinned, draft, after)?,
                Some((&oldest, others)) => {
                    let inserted = self.insert_instead(pinned, oldest, draft, after)?;
                    let Some(token) = inserted else { continue };
                    guard.remove(owner, oldest);
                    self.end_surplus(pinned, &guard, owner, others, after);
                    token
                }
            };
            guard.add(owner, token.id());
            return Ok(token);
        }
    }

    /// Inserts a session under a new token, if there is room for it.
    fn insert_new<T: Secret>(
        &self,
        pinned: Pinned<'_>,
        draft: &Draft<'_>,
        after: &mut After,
    ) -> Result<T> {
        let (class, cost) = (draft.class(), cost(draft.len()));
        self.common.budget.reserve(class, cost).map_err(Error::Full)?;
        let inserted = self.insert_reserved(pinned, draft, after);
        if inserted.is_err() {
            self.common.budget.release(class, cost);
        }
        inserted
    }

    fn insert_reserved<T: Secret>(
        &self,
        pinned: Pinned<'_>,
        draft: &Draft<'_>,
        after: &mut After,
    ) -> Result<T> {
        loop {
            let token: T = self.new_secret()?;
            let id = token.id();
            if self.is_unloaded(id)? {
                continue;
            }
            let draft = Draft { id, ..*draft };
            let fresh = self.common.table.fresh(&draft).map_err(|_| Error::Full(Limit::Memory))?;
            let mut shard = self.lock_shard(id);
            // Never seen outside tests: 128 bits of the digests of two tokens are the same.
            if shard.is_taken(pinned, id) {
                continue;
            }
            self.journal_put(fresh.record())?;
            let inserted = shard.insert(pinned, fresh, &mut self.sink(after));
            shard.tidy(pinned);
            return match inserted {
                Ok(()) => Ok(token),
                Err(_) => {
                    // Takes back what was written down; nobody has the token.
                    let _ = self.journal_end(id, Reason::Revoked);
                    Err(Error::Full(Limit::Memory))
                }
            };
        }
    }

    /// Inserts a session under a new token in the place of another one, which ends, in one step:
    /// either both happen or none. None if the other one has expired meanwhile, or the token's id
    /// is taken.
    fn insert_instead<T: Secret>(
        &self,
        pinned: Pinned<'_>,
        oldest: SessionId,
        draft: &Draft<'_>,
        after: &mut After,
    ) -> Result<Option<T>> {
        let token: T = self.new_secret()?;
        let id = token.id();
        if self.is_unloaded(id)? {
            return Ok(None);
        }
        let draft = Draft { id, ..*draft };
        let mut pair = self.lock_pair(oldest, id);
        let (_, now) = self.now();
        let Ok(found) = pair.old.find(pinned, oldest, now) else { return Ok(None) };
        if !self.insert_beside(&mut pair, pinned, found, &draft)? {
            return Ok(None);
        }
        if let Err(error) = self.journal_instead(pinned, id, oldest) {
            self.take_back(&mut pair, pinned, id, found, &draft);
            return Err(error);
        }
        // The insertion may have moved the old entry; nobody else can have taken it out.
        if let Some(found) = pair.old.find_again(pinned, oldest) {
            let (record, reason) = (found.record, Reason::Revoked);
            after.woken.extend(pair.old.displace(found, reason, now));
            after.retired_bytes += record.len();
            self.sink(after)(Change::Ended { record, reason });
        }
        if let Some(record) = self.common.table.find(pinned, id) {
            self.sink(after)(Change::Created(record));
        }
        pair.old.tidy(pinned);
        pair.next().tidy(pinned);
        Ok(Some(token))
    }

    #[cfg(not(test))]
    pub(super) fn new_secret<T: Secret>(&self) -> Result<T> {
        T::generate()
    }

    /// Tests may choose the secrets, to force collisions.
    #[cfg(test)]
    pub(super) fn new_secret<T: Secret>(&self) -> Result<T> {
        let chosen = self.secrets.lock().unwrap().pop();
        chosen.map_or_else(T::generate, |secret| Ok(T::from_secret(secret)))
    }

    /// Ends a session to make room, if the store may. No lock may be held.
    fn evict_for(&self, pinned: Pinned<'_>, draft: &Draft<'_>, limit: Limit) -> Result<()> {
        let (class, cost) = (draft.class(), cost(draft.len()));
        let may_evict = self.options.when_full == WhenFull::EvictLeastRecentlySeen;
        if !may_evict || !self.common.budget.could_fit(class, cost) {
            return Err(Error::Full(limit));
        }
        let victim = match class {
            Class::Anonymous => self.victim(pinned, true),
            Class::Authenticated => {
                self.victim(pinned, true).or_else(|| self.victim(pinned, false))
            }
        };
        let victim = victim.ok_or(Error::Full(limit))?;
        // Somebody else may have ended it: then there is room, or another victim.
        let _ = self.end(victim, Reason::Evicted);
        Ok(())
    }

    fn victim(&self, pinned: Pinned<'_>, anonymous_only: bool) -> Option<SessionId> {
        self.search(pinned, anonymous_only).best.map(|(_, id)| id)
    }

    /// Looks for the least recently seen of a sample. Finds a session if there is one, but looks
    /// at few records more than it has to.
    fn search(&self, pinned: Pinned<'_>, anonymous_only: bool) -> Search {
        let mut search = Search::default();
        let (_, now) = self.now();
        // A stride that is odd reaches every shard and every prefix in turn.
        let start = self.samples.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        for step in 0..=self.shards.len() {
            let shard = ((start >> 32) as usize + step) % self.shards.len();
            if anonymous_only && !self.shards[shard].has_anonymous() {
                continue;
            }
            let mut prefix = Some(if step == 0 { (start >> 12) as u32 & 0xf_ffff } else { 0 });
            while let Some(at) = prefix {
                if search.is_enough() {
                    return search;
                }
                prefix = self.common.table.visit(pinned, shard, at, |record| {
                    search.visited += 1;
                    let life = record.life().load();
                    let fits = !(anonymous_only && record.has_owner());
                    if fits && record.is_session() && life.is_live(now) {
                        search.fitting += 1;
                        let candidate = (self.common.last_seen(record, life), record.id());
                        search.best =
                            Some(search.best.map_or(candidate, |best| best.min(candidate)));
                    }
                });
            }
        }
        search
    }

    /// The owner's oldest sessions, which have to end so that one more is within the limit.
    pub(super) fn surplus(
        &self,
        pinned: Pinned<'_>,
        guard: &OwnerGuard<'_>,
        owner: &str,
    ) -> Result<Vec<SessionId>> {
        let Some((sessions_max, limit)) = self.options.owner_limit else { return Ok(Vec::new()) };
        if guard.count(owner) < sessions_max as usize {
            return Ok(Vec::new());
        }
        let live = self.live_of(pinned, guard, owner).into_iter();
        let mut ids: Vec<SessionId> = live.map(Record::id).collect();
        ids.truncate((ids.len() + 1).saturating_sub(sessions_max as usize));
        if !ids.is_empty() && limit == OwnerLimit::Refuse {
            return Err(Error::OwnerFull { sessions_max });
        }
        Ok(ids)
    }

    /// Ends those, once there is the one for which they have to: nobody is ended for a login that
    /// fails.
    pub(super) fn end_surplus(
        &self,
        pinned: Pinned<'_>,
        guard: &OwnerGuard<'_>,
        owner: &str,
        surplus: &[SessionId],
        after: &mut After,
    ) {
        for &id in surplus {
            // The owner is locked: nothing can have ended them but their own deadlines.
            let _ = self.end_locked(pinned, id, owner, Some(guard), Reason::Revoked, after);
        }
    }
}

fn invalid_text(what: &'static str, text: &str) -> Error {
    Error::InvalidText { what, bytes: text.len(), bytes_max: TEXT_BYTES_MAX }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Builder;

    /// Few visitors among many users: each search found the visitors only by a walk through all
    /// shards, since the sample was never complete.
    #[test]
    fn a_search_for_one_visitor_does_not_look_at_all_users() {
        let options = Builder::<crate::Attributes>::new().shards(64).options;
        let sessions = Sessions::new(options).unwrap();
        for user in 0..20_000 {
            let owner = CreateOptions::new().owner(user.to_string());
            sessions.create(b"data", &owner).unwrap();
        }
        let pin = sessions.pin();
        let none = sessions.search(pin.pinned(), true);
        assert_eq!((none.best, none.visited), (None, 0));
        for visitors in 1..20 {
            sessions.create(b"data", &CreateOptions::new()).unwrap();
            for _ in 0..10 {
                let search = sessions.search(pin.pinned(), true);
                // A shard to its end, and once more from its beginning; or others after it.
                assert!(search.visited < 2 * EVICTION_VISITS, "{} visited", search.visited);
                assert!(search.fitting > 0, "none of {visitors} found");
            }
        }
        let any = sessions.search(pin.pinned(), false);
        assert!(any.fitting >= EVICTION_SAMPLE && any.visited < 2 * EVICTION_SAMPLE);
        sessions.validate();
    }
}
