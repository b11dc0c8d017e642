//! Opens what another version of the program wrote: each session's data becomes that of the
//! present type, or is dropped.
//!
//! This happens before the store is opened, by writing a snapshot of the new type in the place of
//! all files. So a crash leaves the files of before or those of after, and a store that is open has
//! one type only.

use super::durable::{Progress, RecoveryReport};
use crate::clock::Stopwatch;
use crate::data::SessionData;
use crate::error::{Error, Result};
use crate::journal::files::{Files as _, StoreFiles};
use crate::journal::fold::Fold;
use crate::journal::sealing::Seal;
use crate::journal::snapshot::Found;
use crate::journal::stored::Stored;
use crate::journal::{Calendar, Survey, rewrite};
use crate::options::{Builder, Options};
use crate::schema::{Migration, schema_of};
use crate::sessions::clock_of;
use crate::sync::Arc;

/// How often progress is told, in sessions.
const PROGRESS_EVERY: u64 = 8192;

impl<S: SessionData> Builder<S> {
    /// Takes over the sessions of files that hold another session type: `Old`, under the number
    /// that was given to [`schema`](Builder::schema) then (0 if none was). `f` makes a session of
    /// the present type of each; where it returns None the session is dropped. To be called once
    /// for each earlier type that may still be found.
    ///
    /// A type is known by the last part of its name, its number and its size: keep the old one
    /// under the same name, in a module of its own.
    ///
    /// [`open`](Builder::open) then reads all files, once to see whether all can be taken over and
    /// once to write a snapshot, before it returns; so `f` is called twice for each session, and
    /// has to come to the same. Ids, owners and times stay as they are. A crash meanwhile leaves
    /// the sessions of before or those of after. The earlier program cannot open the files
    /// afterwards: make a copy first ([`Store::backup`](crate::Store::backup)).
    ///
    /// What was done is in [`RecoveryReport::migrated`] and [`RecoveryReport::dropped`]. Data that
    /// is no valid `Old` makes opening fail, with nothing changed, unless
    /// [`drop_undecodable`](Builder::drop_undecodable) is set. A panic of `f` is passed on by
    /// `open`, with nothing changed.
    ///
    /// [`Attributes`](crate::Attributes) need none of this: a key that is not there is None.
    ///
    /// # Examples
    /// ```
    /// use cloakroom::Store;
    /// use rkyv::{Archive, Deserialize, Serialize};
    ///
    /// mod v0 {
    ///     #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    ///     pub struct Cart {
    ///         pub items: Vec<u32>,
    ///     }
    /// }
    ///
    /// #[derive(Archive, Serialize, Deserialize)]
    /// struct Cart {
    ///     items: Vec<u32>,
    ///     coupon: Option<String>,
    /// }
    ///
    /// # let name = format!("cloakroom-doc-migrate-{}", std::process::id());
    /// # let directory = std::env::temp_dir().join(name);
    /// let old = Store::<v0::Cart>::builder().open(&directory)?;
    /// let id = old.create(v0::Cart { items: vec![7] })?.id();
    /// old.close()?;
    ///
    /// let store = Store::<Cart>::builder()
    ///     .schema(1)
    ///     .migrate(0, |old: v0::Cart| Some(Cart { items: old.items, coupon: None }))
    ///     .open(&directory)?;
    /// assert_eq!(store.read(id, |cart| cart.items[0].to_native())?, 7);
    /// # drop(store);
    /// # let _ = std::fs::remove_dir_all(&directory);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn migrate<Old: SessionData>(
        mut self,
        number: u64,
        f: impl Fn(Old) -> Option<S> + Send + Sync + 'static,
    ) -> Builder<S> {
        self.options.migrations.push(Migration::new(number, f));
        self
    }

    /// Drops sessions whose data is no valid archive of their type, instead of refusing to open.
    /// Default false.
    ///
    /// Without a [`migrate`](Builder::migrate) for the type that the files are of, their data is
    /// taken for the present type where it is a valid archive of that, whatever it meant before.
    /// They are counted in [`RecoveryReport::undecodable`]. Opening then reads all sessions before
    /// it returns.
    pub fn drop_undecodable(mut self, drop: bool) -> Builder<S> {
        self.options.keep.drop_undecodable = drop;
        self
    }
}

/// Makes the files those of `S`, if they are not and the options tell how.
pub(super) fn migrate<S: SessionData>(
    files: &Arc<StoreFiles>,
    options: &Options,
    watch: &Stopwatch,
    report: &mut RecoveryReport,
    progress: &mut impl FnMut(Progress),
) -> Result<()> {
    let drop_undecodable = options.keep.drop_undecodable;
    let target = Seal::of(options.keep.keys.as_ref());
    let may_seal = options.keep.encrypt_plain && target.key().is_some();
    if options.migrations.is_empty() && !drop_undecodable && !may_seal {
        return Ok(());
    }
    let schema = schema_of::<S>(options.keep.schema);
    let survey = Survey::any(&**files)?;
    let Some(kind) = survey.kind else { return Ok(()) };
    let seals = may_seal && !kind.is_sealed;
    if kind.is_sealed != target.key().is_some() && !seals {
        // Refused by whoever surveys it next.
        return Ok(());
    }
    let source = if kind.is_sealed { target.clone() } else { Seal::Plain };
    let is_ours = kind.schema == schema;
    let step = match options.migrations.iter().find(|step| step.schema == kind.schema) {
        Some(step) if !is_ours => step.clone(),
        _ if drop_undecodable || seals => Migration::new(0, Some::<S>),
        // As it should be, or refused by whoever surveys it next.
        _ => return Ok(()),
    };
    let fold = Fold::of(&**files, &survey)?;
    let calendar = Calendar::new(&clock_of(options)?, survey.latest_ms());
    let now_ms = calendar.now_ms();
    let migrating = Migrating { files, fold, step, source, drop_undecodable, now_ms };
    // Once without writing: what fails, or panics, leaves the files as they are.
    let found = migrating.run(|_| Ok(()), |_| ())?;
    if is_ours && found.undecodable == 0 && !seals {
        return Ok(());
    }
    let tell = |sessions| progress(Progress::counted(sessions, found.taken, watch.elapsed()));
    rewrite::snapshot(files, &survey, (schema, target), calendar, |taking| {
        let push = |found: Found<'_>| match found {
            Found::Session(stored) => taking.push(&stored),
            Found::Alias(alias) => taking.push_alias(alias),
        };
        migrating.run(push, tell).map(drop)
    })?;
    report.migrated = if is_ours { 0 } else { found.taken };
    (report.dropped, report.undecodable) = (found.dropped, found.undecodable);
    Ok(())
}

/// Files with the way that their sessions go.
struct Migrating<'a> {
    files: &'a StoreFiles,
    fold: Fold<'a, StoreFiles>,
    step: Migration,
    /// That of the files as they are.
    source: Seal,
    drop_undecodable: bool,
    now_ms: u64,
}

/// What became of the sessions.
#[derive(Default)]
struct Counts {
    taken: u64,
    dropped: u64,
    undecodable: u64,
}

impl Migrating<'_> {
    /// Calls `push` with all that goes on, in its new form, and `tell` with the number now and
    /// then.
    fn run(
        &self,
        mut push: impl FnMut(Found<'_>) -> Result<()>,
        mut tell: impl FnMut(u64),
    ) -> Result<Counts> {
        let mut counts = Counts::default();
        self.fold.for_each(|found| {
            let stored = match found {
                Found::Session(stored) if stored.is_live(self.now_ms) => stored,
                Found::Alias(alias) if alias.until_ms > self.now_ms => return push(found),
                _ => return Ok(()),
            };
            self.fold.open(&self.source, &stored, |stored| {
                self.convert(stored, &mut counts, &mut push, &mut tell)
            })?
        })?;
        Ok(counts)
    }

    fn convert(
        &self,
        stored: &Stored<'_>,
        counts: &mut Counts,
        push: &mut impl FnMut(Found<'_>) -> Result<()>,
        tell: &mut impl FnMut(u64),
    ) -> Result<()> {
        match self.step.convert(stored.data) {
            Ok(Some(data)) => {
                counts.taken += 1;
                if counts.taken.is_multiple_of(PROGRESS_EVERY) {
                    tell(counts.taken);
                }
                push(Found::Session(Stored { data: data.data(), ..*stored }))?;
            }
            Ok(None) => counts.dropped += 1,
            Err(_) if self.drop_undecodable => counts.undecodable += 1,
            Err(problem) => {
                let id = stored.id;
                return Err(Error::Unreadable {
                    file: self.files.path(""),
                    problem: format!("the data of session {id} cannot be migrated: {problem}"),
                });
            }
        }
        Ok(())
    }
}
