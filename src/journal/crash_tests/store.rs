//! A store that does nothing but write its journal: random work, and what is left on a disk.

use std::sync::Arc;
use std::time::Duration;

use super::model::{History, State};
use crate::clock::{Clock, ManualClock};
use crate::error::{Error, Reason};
use crate::journal::entry::{Entry, Touches};
use crate::journal::files::crash::{CrashDisk, Random};
use crate::journal::files::faulty::Faulty;
use crate::journal::files::{File, Files};
use crate::journal::snapshot::{Alias, Found};
use crate::journal::stored::Stored;
use crate::journal::{
    Append, Calendar, Durability, Expected, Keeping, Need, Seal, Shared, Survey, Taking,
};
use crate::token::SessionId;

pub(super) type Disk = Faulty<CrashDisk>;

pub(super) const SCHEMA: u64 = 0x5c4e_3a00;
/// That of files that a migration made.
pub(super) const MIGRATED: u64 = SCHEMA + 1;
/// So many sessions live at once, about.
const LIVE: usize = 24;

/// What recovery makes of a disk.
pub(super) struct Recovered {
    pub(super) last: u64,
    pub(super) state: State,
    /// The highest position that the files know to be durable.
    pub(super) told: u64,
}

pub(super) fn recover<F: Files>(files: &F) -> Result<Recovered, Error> {
    let survey = match Survey::of(files, Expected { schema: SCHEMA, seal: &Seal::Plain }) {
        Err(Error::Unreadable { .. }) => {
            Survey::of(files, Expected { schema: MIGRATED, seal: &Seal::Plain })?
        }
        survey => survey?,
    };
    let mut state = State::default();
    if let Some(snapshot) = &survey.snapshot {
        for entry in snapshot.entries() {
            let (_, found) = entry.map_err(damaged)?;
            state.load(&found);
        }
    }
    survey.replay(files, |entry| {
        state.apply(&entry);
        Ok(())
    })?;
    survey.latest_ms();
    Ok(Recovered { last: survey.end.last, state, told: survey.durable })
}

pub(super) fn damaged(damage: crate::journal::snapshot::Damage) -> Error {
    Error::Damaged { file: "snapshot".into(), offset: damage.offset, problem: damage.to_string() }
}

/// Compares what is left of a disk with the history. Returns the position it is at.
pub(super) fn check(disk: &CrashDisk, history: &History, least: u64, what: &str) -> u64 {
    let names = || disk.list().unwrap_or_default().join(" ");
    let recovered = match recover(disk) {
        Ok(recovered) => recovered,
        Err(error) => panic!("{what}: a false alarm: {error}\n{}", names()),
    };
    let (last, appended) = (recovered.last, history.last());
    let least = history.before_marks(least);
    assert!(last >= least, "{what}: {least} was durable, {last} is left\n{}", names());
    let allowed = history.allowed(last);
    let Some(expected) = allowed.first() else {
        panic!("{what}: {last} was never appended, only {appended}\n{}", names());
    };
    assert!(recovered.told <= last, "{what}: {} is durable, not here", recovered.told);
    let difference = || recovered.state.difference(expected);
    let is_right = allowed.iter().any(|state| recovered.state == **state);
    assert!(is_right, "{what}, at {last}: {}\n{}", difference(), names());
    for id in history.ended(least) {
        assert!(!recovered.state.live.contains_key(id), "{what}: {id:x} lives again");
    }
    last
}

/// How one store is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) segment_bytes: u64,
    pub(super) append: Append,
    pub(super) data_max: usize,
}

impl Setting {
    pub(super) fn draw(random: &mut Random) -> Setting {
        Setting {
            segment_bytes: 4096 * (2 + random.below(3) as u64),
            append: if random.coin() { Append::Mapped } else { Append::Written },
            data_max: [40, 300, 900][random.below(3)],
        }
    }

    pub(super) fn keeping(&self) -> Keeping {
        Keeping {
            durability: Durability::Crash,
            sync_interval: Duration::from_secs(1),
            segment_bytes: self.segment_bytes,
            append: self.append,
            schema: SCHEMA,
            seal: Seal::Plain,
        }
    }
}

/// Opens all of a journal but its thread.
pub(super) fn open(files: &Arc<Disk>, setting: &Setting) -> Result<Arc<Shared<Disk>>, Error> {
    let survey = Survey::of(&**files, Expected { schema: SCHEMA, seal: &Seal::Plain })?;
    let calendar = Calendar::new(&Clock::manual(&ManualClock::new()).unwrap(), survey.latest_ms());
    let shared = Shared::open(Arc::clone(files), &survey, setting.keeping(), calendar)?;
    Ok(Arc::new(shared))
}

/// Work on one open store.
pub(super) struct Work<'a> {
    shared: &'a Shared<Disk>,
    pub(super) history: History,
    setting: Setting,
    generation: u64,
    taking: Option<Walk<'a>>,
    /// The position of durability when a sync failed; None while all is well.
    stuck: Option<u64>,
    /// What is refused may have been done.
    pub(super) may_be_late: bool,
    pub(super) refused: u64,
    pub(super) snapshots: u64,
}

/// A snapshot in the making: what was walked over.
struct Walk<'a> {
    taking: Taking<'a, Disk>,
    /// Ids up to this one are written; sessions first, then aliases.
    session: u128,
    alias: Option<u128>,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        shared: &'a Shared<Disk>,
        mut history: History,
        setting: Setting,
        generation: u64,
    ) -> Work<'a> {
        // The log goes on with a link, maybe in the place of a mark.
        history.truncate(shared.log.last_position() - 1);
        let mut work = Work {
            shared,
            history,
            setting,
            generation,
            taking: None,
            stuck: None,
            may_be_late: false,
            refused: 0,
            snapshots: 0,
        };
        work.settle();
        work
    }

    /// Something of the kind that a store does.
    pub(super) fn step(&mut self, random: &mut Random) {
        let outcome =
            match random.below(100) {
                0..38 => self.put(random),
                38..46 => self.touch(random),
                46..60 => self.end(random),
                60..68 => self.move_one(random),
                68..80 => self.commit(),
                80..85 => {
                    let before = self.shared.log.last_position();
                    self.shared.log.mark();
                    let after = self.shared.log.last_position();
                    if after > before {
                        self.history.mark(after);
                    }
                    Ok(())
                }
                85..90 => self.shared.log.prepare_next().map_err(|refused| {
                    crate::journal::told(refused, &*self.shared.log.maker().files)
                }),
                _ => self.snapshot(random),
            };
        self.refused += u64::from(outcome.is_err());
        self.settle();
    }

    /// Notes what the log wrote by itself; checks what holds after every step.
    fn settle(&mut self) {
        let log = &self.shared.log;
        self.history.pass(log.last_position());
        if self.may_be_late {
            self.history.refuse_mark();
        }
        assert_eq!(self.history.last(), log.last_position(), "a position that nobody was told of");
        assert!(log.durable() <= log.last_position());
        match (log.has_failed(), self.stuck) {
            (true, Some(durable)) => assert_eq!(log.durable(), durable, "after a failed sync"),
            (true, None) => self.stuck = Some(log.durable()),
            (false, Some(_)) => panic!("a failed sync was forgotten"),
            (false, None) => {}
        }
    }

    fn append(&mut self, entry: &Entry<'_>, need: Need) -> Result<(), Error> {
        let appended = self.shared.append(entry, need);
        match &appended {
            Ok(position) => self.history.append(*position, entry),
            Err(_) if self.may_be_late => {
                self.settle();
                self.history.refuse(entry);
            }
            Err(_) => {}
        }
        appended.map(drop)
    }

    fn put(&mut self, random: &mut Random) -> Result<(), Error> {
        let old = self.pick(random);
        let is_new = old.is_none() || self.history.present().live.len() < random.below(2 * LIVE);
        let id = if is_new { fresh(random) } else { old.unwrap_or_default() };
        self.with(id, random, |work, stored| work.append(&Entry::Put(*stored), Need::Room))
    }

    fn end(&mut self, random: &mut Random) -> Result<(), Error> {
        let Some(id) = self.pick(random) else { return Ok(()) };
        let reason = Reason::ALL[random.below(Reason::ALL.len())];
        let at_ms = self.shared.log.maker().calendar.now_ms();
        self.append(&Entry::End { id: SessionId(id), reason, at_ms }, Need::Reserve)
    }

    fn move_one(&mut self, random: &mut Random) -> Result<(), Error> {
        let Some(old) = self.pick(random) else { return Ok(()) };
        let alias_until_ms = if random.coin() { 0 } else { random.next() | 1 };
        let at_ms = self.shared.log.maker().calendar.now_ms();
        let new = fresh(random);
        self.with(new, random, |work, new| {
            let old = SessionId(old);
            work.append(&Entry::Move { old, at_ms, alias_until_ms, new: *new }, Need::Reserve)
        })
    }

    fn touch(&mut self, random: &mut Random) -> Result<(), Error> {
        let mut body = Vec::new();
        for _ in 0..1 + random.below(5) {
            let id = self.pick(random).unwrap_or_else(|| fresh(random));
            Touches::append(&mut body, SessionId(id), self.time());
        }
        let touches = Touches::of(&body).expect("whole pairs");
        self.append(&Entry::Touch(touches), Need::Room)
    }

    /// Makes up a session.
    fn with<T>(
        &mut self,
        id: u128,
        random: &mut Random,
        act: impl FnOnce(&mut Self, &Stored<'_>) -> T,
    ) -> T {
        let present = self.history.present();
        let before = present.live.get(&id);
        let mut data = vec![random.next() as u8; random.below(self.setting.data_max)];
        if random.below(8) == 0 {
            self.plant(&mut data, random);
        }
        let owners = ["", "alice", "bob", "carol"];
        let stored = Stored {
            id: SessionId(id),
            version: before.map_or(1, |before| before.version + 1),
            created_ms: before.map_or(self.time(), |before| before.times[0]),
            authenticated_ms: random.next(),
            seen_ms: self.time(),
            idle_ns: random.next(),
            lifetime_ns: u64::MAX,
            owner: owners[random.below(owners.len())],
            label: "label",
            data: &data,
        };
        act(self, &stored)
    }

    /// Session data that is a copy of the log's own frames.
    fn plant(&self, data: &mut [u8], random: &mut Random) {
        let disk = self.shared.log.maker().files.inner();
        let name = self.shared.log.present().to_string();
        let offset = 4096 + 8 * random.below(200) as u64;
        if let Ok(file) = disk.open(&name) {
            // Where it is beyond the end, nothing is read.
            let _ = file.read_at(data, offset);
        }
    }

    /// Times go up with the positions.
    fn time(&self) -> u64 {
        1_000_000 + self.history.last()
    }

    fn pick(&self, random: &mut Random) -> Option<u128> {
        let present = self.history.present();
        let count = present.live.len();
        (count > 0).then(|| present.live.keys().nth(random.below(count)).copied())?
    }

    pub(super) fn commit(&mut self) -> Result<(), Error> {
        let had_failed = self.shared.log.has_failed();
        let last = self.shared.log.last_position();
        let committed = self.shared.commit();
        match &committed {
            Ok(()) => {
                assert!(!had_failed, "a commit after a failed one");
                assert_eq!(self.shared.log.durable(), last, "a commit that leaves some out");
            }
            Err(_) => assert!(self.shared.log.has_failed(), "a failed commit was forgotten"),
        }
        committed
    }

    /// Goes on with a snapshot, or begins one.
    fn snapshot(&mut self, random: &mut Random) -> Result<(), Error> {
        match self.taking.take() {
            None => {
                self.generation += 1;
                let taking = Taking::begin(self.shared, self.generation)?;
                self.taking = Some(Walk { taking, session: 0, alias: None });
                Ok(())
            }
            Some(_) if random.below(12) == 0 => Ok(()),
            Some(walk) => self.walk(walk, 1 + random.below(2 * LIVE)),
        }
    }

    /// Writes so many more sessions as they are now; what the snapshot saw of others is older.
    fn walk(&mut self, mut walk: Walk<'a>, count: usize) -> Result<(), Error> {
        let state = self.history.present();
        let mut left = count;
        while let Some(room) = left.checked_sub(1) {
            left = room;
            if walk.alias.is_none() {
                match state.live.range(walk.session + 1..).next() {
                    Some((&id, session)) => {
                        walk.taking.push(&session.stored(id))?;
                        walk.session = id;
                    }
                    None => walk.alias = Some(0),
                }
                continue;
            }
            let from = walk.alias.unwrap_or_default() + 1;
            let Some((&id, &(successor, until_ms))) = state.aliases.range(from..).next() else {
                return self.finish(walk);
            };
            let (id, successor) = (SessionId(id), SessionId(successor));
            walk.taking.push_alias(Alias { id, successor, until_ms })?;
            walk.alias = Some(id.0);
        }
        self.taking = Some(walk);
        Ok(())
    }

    fn finish(&mut self, walk: Walk<'a>) -> Result<(), Error> {
        walk.taking.finish()?;
        self.snapshots += 1;
        assert!(!self.shared.log.has_failed(), "a snapshot that mends nothing");
        self.stuck = None;
        Ok(())
    }

    /// A whole snapshot, from its beginning.
    pub(super) fn whole_snapshot(&mut self) -> Result<(), Error> {
        self.taking = None;
        self.generation += 1;
        let taking = Taking::begin(self.shared, self.generation)?;
        self.history.pass(self.shared.log.last_position());
        let done = self.walk(Walk { taking, session: 0, alias: None }, usize::MAX);
        self.settle();
        done
    }

    /// Some session, for those who only want that something is written.
    pub(super) fn put_some(&mut self, random: &mut Random) -> Result<(), Error> {
        let done = self.put(random);
        self.settle();
        done
    }

    pub(super) fn end_some(&mut self, random: &mut Random) -> Result<(), Error> {
        let done = self.end(random);
        self.settle();
        done
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }
}

/// An id that never was.
fn fresh(random: &mut Random) -> u128 {
    u128::from(random.next()) << 64 | u128::from(random.next()) | 1
}

/// Whether each id leads to its session in the snapshot, or to damage.
pub(super) fn check_finds(files: &CrashDisk, snapshot_state: &State) -> Result<(), Error> {
    let survey = Survey::of(files, Expected { schema: SCHEMA, seal: &Seal::Plain })?;
    let Some(snapshot) = &survey.snapshot else { return Ok(()) };
    for (&id, session) in &snapshot_state.live {
        if let Ok(found) = snapshot.find(SessionId(id)) {
            let found = found.map(|(_, found)| found);
            assert_eq!(found, Some(Found::Session(session.stored(id))), "wrong bytes");
        }
    }
    for id in [1, u128::MAX] {
        assert!(matches!(snapshot.find(SessionId(id)), Ok(None) | Err(_)), "never there");
    }
    snapshot.verify(|_, _| {}).map_err(damaged)
}
