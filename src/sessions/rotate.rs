//! Sessions that go on under another token, with another owner, or with other timeouts.

use std::time::Duration;

use super::create::NewSession;
use super::write::hold;
use super::{After, Sessions};
use crate::clock::{Nanos, Tick};
use crate::error::{Error, Limit, Missing, Reason, Result};
use crate::owner::OwnerGuard;
use crate::reclaim::Pinned;
use crate::record::{Change, Draft, Record};
use crate::shard::{Found, Locked, NotHere, Refused, class, cost};
use crate::sync::atomic::Ordering::{Relaxed, Release};
use crate::token::{SessionId, Token};
use crate::version::Version;

/// What else changes when a session is rewritten.
#[derive(Clone, Copy, Default)]
pub(crate) struct Remake<'a> {
    /// A login: the session belongs to this user from now on, whatever it was before.
    pub(crate) owner: Option<&'a str>,
    pub(crate) label: Option<&'a str>,
    pub(crate) timeouts: Option<(Duration, Duration)>,
    pub(crate) reauthenticated: bool,
    /// The data, if the session still has this version. Only where the token changes, too.
    pub(crate) data: Option<(u32, &'a [u8])>,
}

impl Remake<'_> {
    fn check_version(&self, record: Record<'_>) -> Result<()> {
        let current = record.version();
        match self.data {
            Some((version, _)) if version != current => {
                Err(Error::Conflict { current: Version(current) })
            }
            _ => Ok(()),
        }
    }
}

/// The lock of the owner concerned, if there is one.
type OwnerLock<'a> = Option<&'a OwnerGuard<'a>>;

/// Two shards, locked in the order of their index: that of a session with that of its next id.
pub(super) struct Pair<'a> {
    pub(super) old: Locked<'a>,
    next: Option<Locked<'a>>,
}

impl<'a> Pair<'a> {
    pub(super) fn next(&mut self) -> &mut Locked<'a> {
        self.next.as_mut().unwrap_or(&mut self.old)
    }
}

impl Sessions {
    pub(super) fn lock_pair(&self, old: SessionId, new: SessionId) -> Pair<'_> {
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
        self.bring(pinned, id)?;
        self.bring_for_limit(pinned, next_owner.unwrap_or_default())?;
        loop {
            let record = self.resolve(pinned, id)?;
            let owner = record.owner();
            let guard = match (owner, next_owner) {
                ("", None) => None,
                ("", Some(next)) => Some(self.owners.lock(next)),
                (owner, Some(next)) if owner != next => return Err(Error::OtherOwner),
                (owner, _) => Some(self.owners.lock(owner)),
            };
            let login = guard.as_ref().zip(next_owner.filter(|&next| next != owner));
            let surplus = match login {
                Some((guard, next)) => self.surplus(pinned, guard, next)?,
                None => Vec::new(),
            };
            if let Some(result) = work(record.id(), owner, guard.as_ref(), after)? {
                if let Some((guard, next)) = login {
                    self.end_surplus(pinned, guard, next, &surplus, after);
                }
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
        if let Some((version, data)) = remake.data {
            (session.version, session.data) = (version.wrapping_add(1), data);
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
        remake.data.map_or(Ok(()), |(_, data)| self.check_size(data.len()))
    }

    /// Changes what is not data: the id and the version stay.
    pub(crate) fn remake(&self, id: SessionId, remake: Remake<'_>) -> Result<()> {
        self.begin_write()?;
        self.check_remake(&remake)?;
        let pin = self.pin();
        let pinned = pin.pinned();
        let mut after = After::default();
        let work = |target: SessionId, owner: &str, guard: OwnerLock<'_>, after: &mut After| {
            let mut shard = self.lock_shard(target);
            let (now, tick) = self.now();
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
            let held = hold(&shard, found, self.life_from(found.record, now));
            if let Err(error) = held.and_then(|()| self.journal_put(fresh.record())) {
                self.exchange_back(found, &draft);
                return Err(error);
            }
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

    /// Turns the room of a session into that of another, or of its next state.
    pub(super) fn exchange(&self, found: Found<'_>, draft: &Draft<'_>) -> Result<()> {
        let old = (class(found.record), cost(found.record.len()));
        let new = (draft.class(), cost(draft.len()));
        self.common.budget.exchange(old, new).map_err(Error::Full)
    }

    /// Undoes [`Sessions::exchange`].
    pub(super) fn exchange_back(&self, found: Found<'_>, draft: &Draft<'_>) {
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
            let token: Token = self.new_secret()?;
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
        if self.is_unloaded(new)? {
            return Ok(None);
        }
        let mut pair = self.lock_pair(old, new);
        // Under the locks, for which this may have waited beyond the deadline.
        let (now, tick) = self.now();
        let found = match pair.old.find(pinned, old, tick) {
            Ok(found) => found,
            Err(NotHere::Alias) => return Ok(None),
            Err(NotHere::Missing(missing)) => return Err(Error::Missing(missing)),
        };
        if found.record.owner() != owner {
            return Ok(None);
        }
        remake.check_version(found.record)?;
        let session = self.remade(found.record, remake, now);
        let draft = self.draft(new, &session, now);
        if !self.insert_beside(&mut pair, pinned, found, &draft)? {
            return Ok(None);
        }
        if session.created.0 <= self.moves_until.load(Relaxed) {
            // While the session is in both places: a walk that came too early for the one and
            // comes too late for the other sees two numbers. Release pairs with the Acquire of
            // `end_all`: who knows the number finds the new entry.
            self.moves.fetch_add(1, Release);
        }
        // From here on nobody can look up the new id but through us: its token is still ours.
        let until = Tick::deadline(now, self.options.grace);
        let held = hold(&pair.old, found, self.life_from(found.record, now));
        let moved = held.and_then(|()| self.journal_move(pinned, old, new, renew.then_some(until)));
        if let Err(error) = moved {
            self.take_back(&mut pair, pinned, new, found, &draft);
            return Err(error);
        }
        // The insertion may have moved the old entry; nobody else can have taken it out.
        let Some(found) = pair.old.find_again(pinned, old) else { return Ok(None) };
        if renew {
            let Ok(watched) = pair.old.alias(found, new, until) else {
                // Takes back what was written down.
                let _ = self.journal_end(new, Reason::Revoked);
                let _ = self.journal_put(found.record);
                self.take_back(&mut pair, pinned, new, found, &draft);
                return Err(Error::Full(Limit::Memory));
            };
            pair.next().watched().give(new, watched);
        } else {
            after.woken.extend(pair.old.displace(found, Reason::Rotated, tick));
        }
        pair.next().uncount_created();
        if let Some(record) = self.common.table.find(pinned, new) {
            pair.next().keep_touch(record, found.record, Tick::at(now));
            self.sink(after)(Change::Moved { old, new: record, renewed: renew });
        }
        self.tell_login(new, remake, after);
        after.retired_bytes += found.record.len();
        pair.old.tidy(pinned);
        pair.next().tidy(pinned);
        Ok(Some(session.owner.to_owned()))
    }

    /// Inserts a session that is about to take another one's place, for that one's room. False if
    /// its id is taken.
    pub(super) fn insert_beside<'a>(
        &'a self,
        pair: &mut Pair<'a>,
        pinned: Pinned<'_>,
        found: Found<'_>,
        draft: &Draft<'_>,
    ) -> Result<bool> {
        self.exchange(found, draft)?;
        let inserted = match self.common.table.fresh(draft) {
            Err(_) => Err(Refused::Memory),
            Ok(fresh) => pair.next().insert(pinned, fresh, &mut |_| ()),
        };
        let Err(refused) = inserted else { return Ok(true) };
        self.exchange_back(found, draft);
        match refused {
            Refused::Exists => Ok(false),
            Refused::Memory => Err(Error::Full(Limit::Memory)),
        }
    }

    /// Takes a session out again that was about to take another one's place.
    pub(super) fn take_back(
        &self,
        pair: &mut Pair<'_>,
        pinned: Pinned<'_>,
        new: SessionId,
        found: Found<'_>,
        draft: &Draft<'_>,
    ) {
        pair.next().withdraw(pinned, new);
        self.exchange_back(found, draft);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;
    use crate::life::Life;
    use crate::options::{Builder, CreateOptions};

    /// A touch whose clock is later than that of a change of the token comes in between. Placed
    /// here by hand; the session's last seen and deadline must not go back.
    #[test]
    fn a_touch_survives_a_change_of_the_token() {
        let ticks = 7;
        for change in 0..3 {
            let clock = ManualClock::new();
            let options = Builder::<crate::Attributes>::new().clock(&clock).options;
            let sessions = Sessions::new(options).unwrap();
            let id = sessions.create(b"data", &CreateOptions::new()).unwrap().id();
            let pin = sessions.pin();
            let record = sessions.look(pin.pinned(), id, false).unwrap();
            let seen = record.life().load();
            let later = |tick: Tick| Tick(tick.0 + ticks);
            let next = Life::new(later(seen.fresh_until()), later(seen.deadline()));
            assert!(record.life().touch(seen, next));
            let login = Remake { owner: Some("alice"), ..Remake::default() };
            let token = match change {
                0 => sessions.rotate(id, Remake::default()),
                1 => sessions.renew(id),
                _ => sessions.rotate(id, login),
            };
            let record = sessions.look(pin.pinned(), token.unwrap().id(), false).unwrap();
            let life = record.life().load();
            let now = sessions.life_from(record, sessions.clock.now());
            assert_eq!(life.deadline().0, now.deadline().0 + ticks, "change {change}");
            assert_eq!(life.fresh_until().0, now.fresh_until().0 + ticks);
            sessions.validate();
        }
    }
}
