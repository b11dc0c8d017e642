//! Sessions that go on under another token, with another owner, or with other timeouts.

use std::time::Duration;

use super::create::NewSession;
use super::{After, Sessions};
use crate::clock::{Nanos, Tick};
use crate::error::{Error, Limit, Missing, Reason, Result};
use crate::owner::OwnerGuard;
use crate::reclaim::Pinned;
use crate::record::{Change, Draft, Record};
use crate::shard::{Found, Locked, NotHere, Refused, class, cost};
use crate::sync::atomic::Ordering::Release;
use crate::token::{SessionId, Token};

/// What else changes when a session is rewritten.
#[derive(Clone, Copy, Default)]
pub(crate) struct Remake<'a> {
    /// A login: the session belongs to this user from now on, whatever it was before.
    pub(crate) owner: Option<&'a str>,
    pub(crate) label: Option<&'a str>,
    pub(crate) timeouts: Option<(Duration, Duration)>,
    pub(crate) reauthenticated: bool,
}

/// The lock of the owner concerned, if there is one.
type OwnerLock<'a> = Option<&'a OwnerGuard<'a>>;

/// Two shards, locked in the order of their index: that of a session with that of its next id.
struct Pair<'a> {
    old: Locked<'a>,
    next: Option<Locked<'a>>,
}

impl<'a> Pair<'a> {
    fn next(&mut self) -> &mut Locked<'a> {
        self.next.as_mut().unwrap_or(&mut self.old)
    }
}

impl Sessions {
    fn lock_pair(&self, old: SessionId, new: SessionId) -> Pair<'_> {
        let shard_of = |id| self.common.table.shard_of(id);
        match shard_of(old).cmp(&shard_of(new)) {
            std::cmp::Ordering::Equal => Pair { old: self.lock_shard(old), next: None },
            std::cmp::Ordering::Less => {
                let old = self.lock_shard(old);
                Pair { old, next: Some(self.lock_shard(new)) }
            }
            std::cmp::Ordering::Greater => {
                let new = self.lock_shard(new);
                Pair { old: self.lock_shard(old), next: Some(new) }
            }
        }
    }

    /// Runs `work` with the session's present id under the lock of its owner, or of the one it
    /// gets. Again if it changed hands meanwhile.
    fn with_owners<R>(
        &self,
        pinned: Pinned<'_>,
        id: SessionId,
        remake: &Remake<'_>,
        after: &mut After,
        mut work: impl FnMut(SessionId, &str, OwnerLock<'_>, &mut After) -> Result<Option<R>>,
    ) -> Result<R> {
        let next_owner = remake.owner;
        loop {
            let record = self.resolve(pinned, id)?;
            let owner = record.owner();
            let guard = match (owner, next_owner) {
                ("", None) => None,
                ("", Some(next)) => Some(self.owners.lock(next)),
                (owner, Some(next)) if owner != next => return Err(Error::OtherOwner),
                (owner, _) => Some(self.owners.lock(owner)),
            };
            let target = record.id();
            if let (Some(guard), Some(next)) = (&guard, next_owner)
                && next != owner
            {
                // Nobody is ended for a login that has no room; and as at a creation, an owner's
                // limit that refuses does so before the store's limits do.
                if self.owner_limit_refuses() {
                    self.make_room_for_owner(pinned, guard, next, after)?;
                    self.check_exchange(record, remake)?;
                } else {
                    self.check_exchange(record, remake)?;
                    self.make_room_for_owner(pinned, guard, next, after)?;
                }
            }
            if let Some(result) = work(target, owner, guard.as_ref(), after)? {
                return Ok(result);
            }
        }
    }

    /// The parts of the session after the change.
    fn remade<'x>(&self, record: Record<'x>, remake: &Remake<'x>, now: Nanos) -> NewSession<'x> {
        let mut session = self.parts_of(record);
        if let Some(owner) = remake.owner {
            if session.owner.is_empty() && session.timeouts == self.options.anonymous {
                session.timeouts = self.options.authenticated;
            }
            session.owner = owner;
        }
        if let Some(label) = remake.label {
            session.label = label;
        }
        if let Some((idle, lifetime)) = remake.timeouts {
            (session.timeouts.idle, session.timeouts.lifetime) = (idle, lifetime);
            session.absolute = session.timeouts.absolute(session.authenticated.start());
        }
        if remake.owner.is_some() || remake.reauthenticated {
            session.authenticated = Tick::at(now);
            session.absolute = session.timeouts.absolute(now);
        }
        session
    }

    fn check_remake(&self, remake: &Remake<'_>) -> Result<()> {
        self.checked_owner(remake.owner)?;
        self.checked_label(remake.label)?;
        Ok(())
    }

    /// Changes what is not data: the id and the version stay.
    pub(crate) fn remake(&self, id: SessionId, remake: Remake<'_>) -> Result<()> {
        self.begin_write()?;
        self.check_remake(&remake)?;
        let pin = self.pin();
        let pinned = pin.pinned();
        let mut after = After::default();
        let work = |target: SessionId, owner: &str, guard: OwnerLock<'_>, after: &mut After| {
            let (now, tick) = self.now();
            let mut shard = self.lock_shard(target);
            let found = match shard.find(pinned, target, tick) {
                Ok(found) => found,
                Err(NotHere::Alias) => return Ok(None),
                Err(NotHere::Missing(missing)) => return Err(Error::Missing(missing)),
            };
            if found.record.owner() != owner {
                return Ok(None);
            }
            let session = self.remade(found.record, &remake, now);
            let draft = self.draft(target, &session, now);
            self.exchange(found, &draft)?;
            let table = &self.common.table;
            let Ok(fresh) = table.fresh(&draft) else {
                self.exchange_back(found, &draft);
                return Err(Error::Full(Limit::Memory));
            };
            shard.rewrite(found, fresh);
            self.tell_login(target, &remake, after);
            shard.tidy(pinned);
            drop(shard);
            after.retired_bytes += found.record.len();
            if let Some(guard) = guard
                && owner != session.owner
            {
                guard.add(session.owner, target);
            }
            Ok(Some(()))
        };
        let result = self.with_owners(pinned, id, &remake, &mut after, work);
        self.finish(after, pinned);
        result
    }

    /// Whether the budget has room for the change, before sessions of its owner end for it. (A
    /// create that takes the room in between makes the change fail after all.)
    fn check_exchange(&self, record: Record<'_>, remake: &Remake<'_>) -> Result<()> {
        let (now, _) = self.now();
        let session = self.remade(record, remake, now);
        let draft = self.draft(record.id(), &session, now);
        let old = (class(record), cost(record.len()));
        let new = (draft.class(), cost(draft.len()));
        self.common.budget.probe(old, new).map_err(Error::Full)
    }

    fn exchange(&self, found: Found<'_>, draft: &Draft<'_>) -> Result<()> {
        let old = (class(found.record), cost(found.record.len()));
        let new = (draft.class(), cost(draft.len()));
        self.common.budget.exchange(old, new).map_err(Error::Full)
    }

    /// Undoes [`Sessions::exchange`].
    fn exchange_back(&self, found: Found<'_>, draft: &Draft<'_>) {
        let old = (class(found.record), cost(found.record.len()));
        let new = (draft.class(), cost(draft.len()));
        self.common.budget.exchange_back(old, new);
    }

    /// Gives the session another token. The old one is dead when this returns.
    pub(crate) fn rotate(&self, id: SessionId, remake: Remake<'_>) -> Result<Token> {
        self.change_token(id, remake, false)
    }

    /// Gives the session another token; the old one is an alias for the grace time.
    pub(crate) fn renew(&self, id: SessionId) -> Result<Token> {
        self.change_token(id, Remake::default(), true)
    }

    fn change_token(&self, id: SessionId, remake: Remake<'_>, renew: bool) -> Result<Token> {
        self.begin_write()?;
        self.check_remake(&remake)?;
        let pin = self.pin();
        let pinned = pin.pinned();
        let mut after = After::default();
        let work = |target: SessionId, owner: &str, guard: OwnerLock<'_>, after: &mut After| {
            if renew && target != id {
                // Only the newest token may be renewed: an alias never makes a third one.
                return Err(Error::Missing(Missing::Ended(Reason::Rotated)));
            }
            let token = self.new_token()?;
            let moved =
                self.move_session(pinned, target, token.id(), owner, &remake, renew, after)?;
            let Some(next_owner) = moved else { return Ok(None) };
            if let Some(guard) = guard {
                if owner == next_owner {
                    guard.rename(owner, target, token.id());
                } else {
                    guard.add(&next_owner, token.id());
                }
            }
            Ok(Some(token))
        };
        let result = self.with_owners(pinned, id, &remake, &mut after, work);
        self.finish(after, pinned);
        result
    }

    /// Moves a session to another id. Returns its owner afterwards, or None if it has to be tried
    /// again: with another id, or because the session changed hands.
    #[allow(clippy::too_many_arguments, reason = "one critical section, told apart by its parts")]
    fn move_session(
        &self,
        pinned: Pinned<'_>,
        old: SessionId,
        new: SessionId,
        owner: &str,
        remake: &Remake<'_>,
        renew: bool,
        after: &mut After,
    ) -> Result<Option<String>> {
        let (now, tick) = self.now();
        let mut pair = self.lock_pair(old, new);
        let found = match pair.old.find(pinned, old, tick) {
            Ok(found) => found,
            Err(NotHere::Alias) => return Ok(None),
            Err(NotHere::Missing(missing)) => return Err(Error::Missing(missing)),
        };
        if found.record.owner() != owner {
            return Ok(None);
        }
        let session = self.remade(found.record, remake, now);
        let draft = self.draft(new, &session, now);
        self.exchange(found, &draft)?;
        // Release, before the session is anywhere else: pairs with the Acquire of `end_all`.
        self.moves.fetch_add(1, Release);
        let table = &self.common.table;
        let inserted = match table.fresh(&draft) {
            Err(_) => Err(Refused::Memory),
            Ok(fresh) => pair.next().insert(pinned, fresh, &mut |_| ()),
        };
        if let Err(refused) = inserted {
            self.exchange_back(found, &draft);
            return match refused {
                Refused::Exists => Ok(None),
                Refused::Memory => Err(Error::Full(Limit::Memory)),
            };
        }
        // From here on nobody can look up the new id but through us: its token is still ours.
        // The insertion may have moved the old entry; nobody else can have taken it out.
        let Some(found) = pair.old.find_again(pinned, old) else { return Ok(None) };
        if renew {
            let until = Tick::deadline(now, self.options.grace);
            match pair.old.alias(found, new, until) {
                Ok(watched) => pair.next().watched().give(new, watched),
                Err(_) => {
                    pair.next().withdraw(pinned, new);
                    self.exchange_back(found, &draft);
                    return Err(Error::Full(Limit::Memory));
                }
            }
        } else {
            after.wake(pair.old.displace(found, Reason::Rotated, tick), Reason::Rotated);
        }
        pair.next().uncount_created();
        if let Some(record) = table.find(pinned, new) {
            self.sink(after)(Change::Moved { old, new: record, renewed: renew });
        }
        self.tell_login(new, remake, after);
        after.retired_bytes += found.record.len();
        pair.old.tidy(pinned);
        pair.next().tidy(pinned);
        Ok(Some(session.owner.to_owned()))
    }
}
