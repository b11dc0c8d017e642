//! Operations that change sessions.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use cloakroom::{
    Attributes, Changes, Error, Except, Limit, Missing, OwnerLimit, Reason, SessionId, Version,
};

use super::ops::{At, Edit, Op, Span, Val, Who, label};
use super::run::{Fault, Run, fault, number_of};
use super::world::{
    Data, Ev, Id, State, after, attributes_of, data_of, edited, get, key_name, reason_index, set,
    value_of,
};

/// What the closure of an update does to data, by way of the model's own edits.
fn edit(attributes: &mut Attributes, edits: &[Edit]) {
    let before = data_of(attributes);
    for edit in edits {
        let after = edited(&data_of(attributes), std::slice::from_ref(edit));
        attributes.retain(|key, _| after.iter().any(|(kept, _)| key_name(*kept) == key));
        for (key, value) in &after {
            attributes.set(key_name(*key), value_of(value));
        }
    }
    assert_eq!(data_of(attributes), edited(&before, edits), "attributes are not a list of keys");
}

fn reason(number: u8) -> Reason {
    Reason::ALL[usize::from(number) % Reason::ALL.len()]
}

/// What the store makes of a reason that a caller gives.
fn told(reason: Reason) -> Reason {
    if reason == Reason::LoggedOut { reason } else { Reason::Revoked }
}

impl Run {
    pub(super) fn apply_write(&mut self, op: &Op) {
        match op {
            Op::Update(at, edits) => self.update(*at, edits),
            Op::UpdatePanics(at, edit) => self.update_panics(*at, edit),
            Op::UpdateFails(at, edit) => self.update_fails(*at, edit),
            Op::UpdateLooks(at, other) => self.update_looks(*at, *other),
            Op::Replace(at, edits) => {
                let (id, data) = (self.id_at(*at), edited(&Data::new(), edits));
                let replaced = self.store.replace(id, attributes_of(&data)).map(Some);
                self.written(id, |_| Ok(data), replaced);
            }
            Op::ReplaceIf { at, seen, edits } => self.replace_if(*at, *seen, edits),
            Op::Patch { at, seen, edits } => self.patch(*at, *seen, edits),
            Op::PatchKeys { at, seen, set } => self.patch_keys(*at, *seen, set),
            other => panic!("no write: {other:?}"),
        }
    }

    /// Compares a write of data with what the model makes of the session's data and version.
    fn written(
        &mut self,
        id: SessionId,
        change: impl FnOnce((&Data, u32)) -> Result<Data, Fault>,
        actual: Result<Option<Version>, Error>,
    ) {
        let found = self.world.look(id).map_err(Fault::Missing);
        let expected = found.and_then(|n| {
            let session = &self.world.sessions[n];
            let data = change((&session.data, session.version))?;
            let size = self.size_of(&data);
            let fits = size <= self.limits.record_bytes_max;
            if fits { Ok((n, data, size)) } else { Err(Fault::TooLarge(size)) }
        });
        match (expected, actual.map_err(fault)) {
            (Ok((n, data, _)), Ok(version)) => {
                let now = self.world.now;
                let session = &mut self.world.sessions[n];
                session.data = data;
                session.version += 1;
                session.rewritten(now);
                self.recost = Some(n);
                if let Some(version) = version {
                    assert_eq!(number_of(version), session.version);
                }
            }
            (Ok((n, _, size)), Err(Fault::Full(limit))) => self.assert_full(n, size, limit),
            (Err(expected), Err(actual)) => assert_eq!(actual, expected),
            (expected, actual) => panic!("write answers {actual:?}, expected {expected:?}"),
        }
    }

    fn assert_full(&self, n: usize, data_bytes: usize, limit: Limit) {
        let session = &self.world.sessions[n];
        let more = session.cost_bounds(data_bytes).1.saturating_sub(session.cost);
        assert!(more > 0 && self.is_full(limit, session.is_anonymous(), 0, more), "{limit}");
    }

    fn update(&mut self, at: At, edits: &[Edit]) {
        let id = self.id_at(at);
        let updated = self.store.update(id, |data| edit(data, edits)).map(|()| None);
        self.written(id, |(data, _)| Ok(edited(data, edits)), updated);
    }

    fn update_panics(&mut self, at: At, change: &Edit) {
        struct Payload;
        let id = self.id_at(at);
        let update = || {
            self.store.update(id, |data| {
                edit(data, std::slice::from_ref(change));
                // Without the panic hook, which a fuzzer takes for a finding.
                resume_unwind(Box::new(Payload));
            })
        };
        let result = catch_unwind(AssertUnwindSafe(update));
        match (self.world.look(id), result) {
            (Ok(_), Err(payload)) => assert!(payload.is::<Payload>(), "another panic"),
            (Err(missing), Ok(Err(error))) => assert_eq!(fault(error), Fault::Missing(missing)),
            (found, result) => panic!("update is {:?}, expected {found:?}", result.is_ok()),
        }
    }

    fn update_fails(&mut self, at: At, change: &Edit) {
        let id = self.id_at(at);
        let result: Result<(), Error> = self.store.try_update(id, |data| {
            edit(data, std::slice::from_ref(change));
            Err(Error::Encode("no".into()))
        });
        self.written(id, |_| Err(Fault::Closure), result.map(|()| None));
    }

    fn update_looks(&mut self, at: At, other: At) {
        let (id, other) = (self.id_at(at), self.id_at(other));
        let mut seen = None;
        let updated = self.store.update(id, |_| {
            seen = Some(self.store.read(other, |data| data_of(&data.to_attributes())));
        });
        let writes = self.world.look(id).is_ok();
        assert_eq!(writes, seen.is_some(), "whether the closure ran");
        self.world
            .events
            .pop_if(|event| matches!(event, Ev::Suspicious { id: of, .. } if *of == id))
            .inspect(|_| self.world.counts.suspicious -= 1);
        if let Some(seen) = seen {
            let found = self.world.look(other);
            self.world.count_lookup(&found);
            assert_eq!(seen, found.map(|n| self.world.sessions[n].data.clone()));
            if let Ok(n) = found {
                let now = self.world.now;
                self.world.sessions[n].touched(now);
            }
        }
        self.written(id, |(data, _)| Ok(data.clone()), updated.map(|()| None));
    }

    /// Something that was got before: the newest of this session, or any.
    fn seen_before(&self, id: SessionId, seen: u8) -> Option<(Version, Data)> {
        let session = self.world.resolve(id).0.ok();
        let newest = self.seen.iter().rev().find(|seen| Some(seen.session) == session);
        let any = self.seen.get(usize::from(seen / 2) % self.seen.len().max(1));
        let chosen = if seen.is_multiple_of(2) { newest.or(any) } else { any };
        chosen.map(|seen| (seen.version, seen.data.clone()))
    }

    fn replace_if(&mut self, at: At, seen: u8, edits: &[Edit]) {
        let id = self.id_at(at);
        let Some((version, data)) = self.seen_before(id, seen) else { return };
        let data = edited(&data, edits);
        let replaced = self.store.replace_if(id, version, attributes_of(&data)).map(Some);
        let number = number_of(version);
        let expected = |(_, current): (&Data, u32)| {
            if current == number { Ok(data) } else { Err(Fault::Conflict(current)) }
        };
        self.written(id, expected, replaced);
    }

    fn patch(&mut self, at: At, seen: u8, edits: &[Edit]) {
        let id = self.id_at(at);
        let Some((version, base)) = self.seen_before(id, seen) else { return };
        let mine = edited(&base, edits);
        let changes = Changes::between(&attributes_of(&base), &attributes_of(&mine));
        let patched = self.store.patch(id, version, &changes).map(Some);
        let number = number_of(version);
        let expected = |(data, current): (&Data, u32)| {
            let keys: Vec<u8> = base.iter().chain(&mine).map(|entry| entry.0).collect();
            let changed = |key: &u8| get(&base, *key) != get(&mine, *key);
            let conflicts = |key: &u8| {
                let now = get(data, *key);
                now != get(&base, *key) && now != get(&mine, *key)
            };
            let mut keys: Vec<u8> = keys.into_iter().filter(changed).collect();
            if current != number && keys.iter().any(conflicts) {
                return Err(Fault::Conflict(current));
            }
            let mut data = data.clone();
            keys.dedup();
            for key in keys {
                match get(&mine, key) {
                    Some(value) => set(&mut data, key, value.clone()),
                    None => data.retain(|entry| entry.0 != key),
                }
            }
            Ok(data)
        };
        self.written(id, expected, patched);
    }

    fn patch_keys(&mut self, at: At, seen: u8, keys: &[(u8, Option<Val>)]) {
        let id = self.id_at(at);
        let Some((version, _)) = self.seen_before(id, seen) else { return };
        let mut changes = Changes::new();
        let mut last: Vec<(u8, Option<Val>)> = Vec::new();
        for (key, value) in keys {
            let key = key % 8;
            changes = match value {
                Some(value) => changes.set(key_name(key), value_of(value)),
                None => changes.remove(key_name(key)),
            };
            last.retain(|entry| entry.0 != key);
            last.push((key, value.clone()));
        }
        let patched = self.store.patch(id, version, &changes).map(Some);
        let expected = |(data, _): (&Data, u32)| {
            let mut data = data.clone();
            for (key, value) in last {
                match value {
                    Some(value) => set(&mut data, key, value),
                    None => data.retain(|entry| entry.0 != key),
                }
            }
            Ok(data)
        };
        self.written(id, expected, patched);
    }

    pub(super) fn fault_of_texts(&self, owner: Option<&str>, label: Option<&str>) -> Option<Fault> {
        if owner.is_some_and(|owner| owner.is_empty() || owner.len() > 512) {
            return Some(Fault::Text("owner"));
        }
        label.is_some_and(|label| label.len() > 512).then_some(Fault::Text("label"))
    }

    /// The timeouts of a new session: the idle one, the lifetime.
    pub(super) fn defaults(&self, anonymous: bool) -> (Duration, Duration) {
        let idle = self.setup.idle.duration();
        let given = self.setup.anonymous_idle.map_or(Duration::from_secs(600), Span::duration);
        (if anonymous { given.min(idle) } else { idle }, self.setup.lifetime.duration())
    }

    /// Who of the owner's sessions has to go for one more; none if one more is refused.
    pub(super) fn excess_of(&self, owner: &str) -> Option<Vec<usize>> {
        let Some((sessions_max, kind)) = self.limits.owner.filter(|_| !owner.is_empty()) else {
            return Some(Vec::new());
        };
        let mut live = self.world.live_of(owner);
        live.truncate((live.len() + 1).saturating_sub(sessions_max));
        if live.is_empty() || kind == OwnerLimit::EndOldest { Some(live) } else { None }
    }

    /// Compares what changes a session other than its data. The model's session is changed by
    /// `change` if the store did it.
    fn remade(
        &mut self,
        id: SessionId,
        owner: Option<&str>,
        label: Option<&str>,
        actual: Result<(), Fault>,
    ) -> Option<usize> {
        if let Some(expected) = self.fault_of_texts(owner, label) {
            assert_eq!(actual, Err(expected));
            return None;
        }
        let n = match self.world.look(id) {
            Ok(n) => n,
            Err(missing) => {
                assert_eq!(actual, Err(Fault::Missing(missing)));
                return None;
            }
        };
        let now = self.world.now;
        let present = &self.world.sessions[n].owner;
        if !present.is_empty() && owner.is_some_and(|owner| owner != present) {
            assert_eq!(actual, Err(Fault::OtherOwner));
            return None;
        }
        let next = owner.filter(|next| *next != self.world.sessions[n].owner);
        let excess = next.map_or(Some(Vec::new()), |next| self.excess_of(next));
        let Some(excess) = excess else {
            assert_eq!(actual, Err(Fault::OwnerFull));
            return None;
        };
        if let Err(Fault::Full(limit)) = actual {
            let mut session = self.world.sessions[n].clone();
            session.owner = owner.unwrap_or(&session.owner).to_owned();
            session.label = label.unwrap_or(&session.label).to_owned();
            let more = session.cost_bounds(session.data_bytes).1.saturating_sub(session.cost);
            assert!(self.is_full(limit, session.is_anonymous(), 0, more), "refused for {limit}");
            return None;
        }
        assert_eq!(actual, Ok(()));
        for oldest in excess {
            self.world.end(oldest, Reason::Revoked);
        }
        let (idle, lifetime) = self.defaults(true);
        let idle_authenticated = self.defaults(false).0;
        let session = &mut self.world.sessions[n];
        let before = session.owner.clone();
        if let Some(owner) = owner {
            if session.is_anonymous() && (session.idle, session.lifetime) == (idle, lifetime) {
                session.idle = idle_authenticated;
            }
            session.owner = owner.to_owned();
            session.authenticated = now;
        }
        if let Some(label) = label {
            session.label = label.to_owned();
        }
        session.rewritten(now);
        if let Some(next) = next.map(str::to_owned) {
            self.world.disown(n, &before);
            self.world.own(n, &next);
        }
        self.recost = Some(n);
        Some(n)
    }

    pub(super) fn bind(&mut self, at: At, who: Who) {
        let (id, owner) = (self.id_at(at), who.name().unwrap_or_default());
        let bound = self.store.bind(id, &owner).map_err(fault);
        if let Some(n) = self.remade(id, Some(&owner), None, bound) {
            let id = self.world.sessions[n].id;
            self.world.events.push(Ev::LoggedIn { id, owner });
        }
    }

    pub(super) fn set_label(&mut self, at: At, number: u8) {
        let (id, text) = (self.id_at(at), label(number));
        let done = self.store.set_label(id, &text).map_err(fault);
        self.remade(id, None, Some(&text), done);
    }

    pub(super) fn set_timeouts(&mut self, at: At, idle: Span, lifetime: Span) {
        let (id, idle, lifetime) = (self.id_at(at), idle.duration(), lifetime.duration());
        let done = self.store.set_timeouts(id, idle, lifetime).map_err(fault);
        if let Some(n) = self.remade(id, None, None, done) {
            let session = &mut self.world.sessions[n];
            (session.idle, session.lifetime) = (idle, lifetime);
            session.rewritten(self.world.now);
        }
    }

    pub(super) fn reauthenticated(&mut self, at: At) {
        let id = self.id_at(at);
        let done = self.store.reauthenticated(id).map_err(fault);
        if let Some(n) = self.remade(id, None, None, done) {
            let now = self.world.now;
            self.world.sessions[n].authenticated = now;
            self.world.sessions[n].rewritten(now);
        }
    }

    /// Rotation, login and renewal.
    pub(super) fn rotate(&mut self, at: At, login: Option<(Who, u8)>, renewed: bool) {
        let id = self.id_at(at);
        let texts = login.map(|(who, number)| (who.name().unwrap_or_default(), label(number)));
        let token = match &texts {
            Some((owner, label)) => self.store.login(id, owner, label),
            None if renewed => self.store.renew(id),
            None => self.store.rotate(id),
        };
        let is_alias = matches!(self.world.ids.get(&id), Some(Id::Alias { over: false, .. }));
        if renewed && is_alias && self.world.resolve(id).0.is_ok() {
            let expected = Fault::Missing(Missing::Ended(Reason::Rotated));
            assert_eq!(token.map_err(fault).map(|_| ()), Err(expected));
            return;
        }
        let new = token.as_ref().ok().map(|token| token.id());
        self.texts.extend(token.iter().map(|token| (token.id(), token.expose())));
        let (owner, label) = match &texts {
            Some((owner, label)) => (Some(owner.as_str()), Some(label.as_str())),
            None => (None, None),
        };
        let Some(n) = self.remade(id, owner, label, token.map(|_| ()).map_err(fault)) else {
            return;
        };
        let Some(new) = new else { return };
        assert!(!self.world.ids.contains_key(&new), "an id given out twice");
        let old = std::mem::replace(&mut self.world.sessions[n].id, new);
        self.world.ids.insert(new, Id::Session(n));
        self.world.given.push(new);
        self.world.events.push(Ev::Rotated { old, new, renewed });
        if let Some((owner, _)) = texts {
            self.world.events.push(Ev::LoggedIn { id: new, owner });
        }
        if renewed {
            self.world.counts.renewed += 1;
            let grace = Duration::from_millis(250 * u64::from(self.setup.grace % 240));
            let until = after(self.world.now, grace);
            self.world.ids.insert(old, Id::Alias { successor: new, until, over: false });
        } else {
            self.world.counts.ended[reason_index(Reason::Rotated)] += 1;
            self.world.bury(old, Reason::Rotated, None);
            self.world.gone.push((n, Reason::Rotated));
        }
    }

    pub(super) fn end(&mut self, at: At, number: u8) {
        let (id, reason) = (self.id_at(at), reason(number));
        let ended = self.store.end(id, reason).map_err(fault);
        match self.world.look(id) {
            Ok(n) => {
                assert_eq!(ended, Ok(()));
                self.world.end(n, told(reason));
            }
            Err(missing) => assert_eq!(ended, Err(Fault::Missing(missing))),
        }
    }

    pub(super) fn end_owner(&mut self, who: Who, except: Option<At>, number: u8) {
        let (owner, reason) = (who.name().unwrap_or_default(), reason(number));
        let except = except.map(|at| self.id_at(at));
        let count = self.store.end_owner(&owner, Except(except), reason).map_err(fault);
        let spared = except.and_then(|id| self.world.look(id).ok());
        let mut ended = self.world.live_of(&owner);
        ended.retain(|&n| Some(n) != spared);
        assert_eq!(count, Ok(ended.len()));
        for n in ended {
            self.world.end(n, told(reason));
        }
    }

    pub(super) fn end_owned(&mut self, who: Who, at: At, number: u8) {
        let (owner, reason) = (who.name().unwrap_or_default(), reason(number));
        let id = self.id_at(at);
        let ended = self.store.end_owned(&owner, id, reason).map_err(fault);
        let theirs = |n: &usize| !owner.is_empty() && self.world.sessions[*n].owner == owner;
        let found = self.world.resolve(id).0.ok().filter(theirs);
        // A token that is used too late is told all the same.
        let _ = self.world.look(id);
        assert_eq!(ended, Ok(found.is_some()));
        if let Some(n) = found {
            self.world.end(n, told(reason));
        }
    }

    pub(super) fn end_all(&mut self, number: u8) {
        let reason = reason(number);
        let count = self.store.end_all(reason).map_err(fault);
        let live: Vec<usize> = self.world.live().map(|(n, _)| n).collect();
        assert_eq!(count, Ok(live.len()));
        for n in live {
            assert_eq!(self.world.sessions[n].state, State::Live);
            self.world.end(n, told(reason));
        }
    }
}
