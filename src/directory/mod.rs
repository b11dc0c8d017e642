//! The files of a store without the store: for programs that inspect, check or change them.
//!
//! A store is opened as the type of its sessions. Here they are bytes with an owner and times,
//! whatever the type: that is enough to list, count, end and copy them.
//!
//! [`Directory`] changes nothing and locks nothing, so that it neither stops a server nor keeps one
//! from starting. What it says of a directory that a server uses is true as of one
//! [position](Contents::position) of the log: files that were left behind do not change any more;
//! the end of the log is copied, and what is half written there does not count. [`Claim`] changes
//! sessions, and has the directory alone.
//!
//! ```
//! use cloakroom::directory::{Claim, Directory};
//! use cloakroom::{Attributes, CreateOptions, Error, Store};
//!
//! # let name = format!("cloakroom-directory-{}", std::process::id());
//! # let path = std::env::temp_dir().join(name);
//! let store: Store = Store::builder().open(&path)?;
//! store.create_with(Attributes::new(), CreateOptions::new().owner("alice"))?;
//! let bob = store.create_with(Attributes::new(), CreateOptions::new().owner("bob"))?;
//!
//! // While the store is in use:
//! let mut owners = Vec::new();
//! Directory::read(&path)?.sessions(|session| -> Result<(), Error> {
//!     owners.push(session.owner.to_owned());
//!     Ok(())
//! })?;
//! owners.sort();
//! assert_eq!(owners, ["alice", "bob"]);
//!
//! // And once it has closed:
//! assert!(matches!(Claim::open(&path), Err(Error::Locked { .. })));
//! drop(store);
//! assert_eq!(Claim::open(&path)?.end([bob.id()])?, 1);
//! # let _ = std::fs::remove_dir_all(&path);
//! # Ok::<(), cloakroom::Error>(())
//! ```

mod claim;
mod contents;
mod schema;
mod session;

use std::path::{Path, PathBuf};

pub use claim::{Claim, Import, Taken};
pub use contents::{Contents, OtherFile, SegmentFile, SnapshotFile};
pub use schema::Schema;
pub use session::StoredSession;

use crate::clock::{Clock, system_time};
use crate::error::{Error, Result};
use crate::fork;
use crate::journal::backup::copy;
use crate::journal::check::{Finding, check};
use crate::journal::files::{Files as _, StoreFiles};
use crate::journal::fold::Fold;
use crate::journal::sealing::Seal;
use crate::journal::snapshot::Found;
use crate::journal::still::{Still, look};
use crate::journal::{Calendar, Kind, Survey};
use crate::sessions::Saved;
use crate::sync::Arc;

/// The files of a store as they are at one moment. Holds its files open, and the end of the log in
/// memory: twice the size of a segment, 32 MiB by default.
pub struct Directory {
    files: Arc<StoreFiles>,
    still: Still<StoreFiles>,
    survey: Survey<Still<StoreFiles>>,
    /// How the sessions lie in the files.
    seal: Seal,
    is_in_use: bool,
    now_ms: u64,
}

/// Something in a file that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub problem: String,
}

/// What [`Directory::verify`] came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Verdict {
    /// The bytes that were read.
    pub bytes: u64,
    /// The sessions that are there; 0 if damage hides how many.
    pub sessions: u64,
    /// The position of the last change that was read.
    pub position: u64,
    /// The first damage in each damaged file; none if all is well.
    pub damage: Vec<Damage>,
}

impl Directory {
    /// Reads what there is. Takes the time of reading the log; the snapshot is only mapped.
    ///
    /// # Errors
    /// [`Error::Files`], also if there is no such directory; [`Error::Damaged`];
    /// [`Error::Unreadable`] for files of a newer version, or if there are none of a store.
    pub fn read(path: impl AsRef<Path>) -> Result<Directory> {
        let directory = Directory::of(open(path.as_ref())?)?;
        match directory.survey.kind {
            Some(_) => Ok(directory),
            None => Err(nothing(path.as_ref())),
        }
    }

    fn of(files: Arc<StoreFiles>) -> Result<Directory> {
        let locked = files.is_locked();
        let is_in_use = locked.map_err(|error| Error::Files {
            file: files.path(""),
            doing: "see who uses",
            error,
        })?;
        let (still, survey) = look(&files)?;
        let wall = system_time().duration_since(std::time::SystemTime::UNIX_EPOCH);
        let wall_ms = u64::try_from(wall.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        let now_ms = wall_ms.max(survey.latest_ms());
        let seal = Seal::without_keys(survey.key);
        Ok(Directory { files, still, survey, seal, is_in_use, now_ms })
    }

    /// Takes the keys with which the sessions are encrypted. Needed for whatever reads them; the
    /// feature `encryption`.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if the files need others, or none.
    #[cfg(feature = "encryption")]
    pub fn keys(mut self, keys: crate::cookie::Keys) -> Result<Directory> {
        let seal = Seal::Keys(keys);
        let checked = seal.check(self.survey.key);
        checked.map_err(|problem| problem.told(self.files.path(""), 0))?;
        self.seal = seal;
        Ok(self)
    }

    /// Whether the sessions are encrypted: then [`keys`](Directory::keys) are needed to read them.
    pub fn is_encrypted(&self) -> bool {
        self.survey.key.is_some()
    }

    /// Whether a store had the directory open when it was read.
    pub fn is_in_use(&self) -> bool {
        self.is_in_use
    }

    /// The time by which sessions expire, in Unix milliseconds: the wall clock when the files were
    /// read, or the latest time that they tell of, if that is later.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The type of the sessions.
    pub fn schema(&self) -> Schema {
        self.survey.kind.map_or(Schema::of_attributes(0), Schema::from)
    }

    /// What the files are, without a look at the sessions.
    pub fn contents(&self) -> Contents {
        Contents::of(self)
    }

    /// Calls `f` with each session that has not expired, until it fails. Reads the snapshot once,
    /// front to back, with its sums, and the log twice; takes about 64 bytes of memory for each
    /// session of which the log tells.
    ///
    /// # Errors
    /// That of `f`; [`Error::Unreadable`] if they are encrypted and the [`keys`](Directory::keys)
    /// are missing; [`Error::Damaged`]: then some sessions may have been told before.
    pub fn sessions<E: From<Error>>(
        &self,
        mut f: impl FnMut(StoredSession<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let fold = Fold::of(&self.still, &self.survey)?;
        fold.for_each(|found| match found {
            Found::Session(stored) if stored.is_live(self.now_ms) => {
                fold.open(&self.seal, &stored, |stored| f((*stored).into()))?
            }
            _ => Ok(()),
        })
    }

    /// Copies all sessions into another directory, which is empty or is created, as
    /// [`Store::backup`](crate::Store::backup) does; also while a store uses this one. Works with
    /// any type of session.
    ///
    /// # Errors
    /// As [`Store::backup`](crate::Store::backup).
    pub fn backup(&self, target: impl AsRef<Path>) -> Result<Saved> {
        let calendar = self.calendar()?;
        let kind = (self.schema().number, self.seal.clone());
        let summary = copy(&self.still, &self.survey, target.as_ref(), kind, calendar)?;
        Ok(Saved { sessions: summary.counts.live(), bytes: summary.bytes })
    }

    /// How many sessions have not expired; also without their keys.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn count(&self) -> Result<u64> {
        let mut count = 0;
        Fold::of(&self.still, &self.survey)?.for_each(|found| -> Result<()> {
            let is_live = matches!(found, Found::Session(stored) if stored.is_live(self.now_ms));
            count += u64::from(is_live);
            Ok(())
        })?;
        Ok(count)
    }

    fn calendar(&self) -> Result<Calendar> {
        let clock = Clock::system(fork::generation()).map_err(Error::Thread)?;
        Ok(Calendar::new(&clock, self.now_ms))
    }

    /// Compares every sum of every file, then sees whether the files belong together, and whether
    /// data that should be [`Attributes`](crate::Attributes) is, as far as it is not encrypted:
    /// see [`verify_with`](Directory::verify_with). Reads everything once or twice;
    /// calls `progress` now and then with the bytes that it has read, and those of all files.
    ///
    /// # Errors
    /// [`Error::Files`], [`Error::Unreadable`] if there are no files of a store. Damage is no
    /// error, but what this tells of.
    pub fn verify(path: impl AsRef<Path>, progress: impl FnMut(u64, u64)) -> Result<Verdict> {
        Directory::verify_opened(path.as_ref(), Ok, progress)
    }

    /// As [`verify`](Directory::verify), and opens each session with these keys: so it also finds
    /// what somebody changed who can write the files, sums and all. The feature `encryption`.
    ///
    /// # Errors
    /// As [`verify`](Directory::verify) and [`keys`](Directory::keys).
    #[cfg(feature = "encryption")]
    pub fn verify_with(
        path: impl AsRef<Path>,
        keys: crate::cookie::Keys,
        progress: impl FnMut(u64, u64),
    ) -> Result<Verdict> {
        Directory::verify_opened(path.as_ref(), |directory| directory.keys(keys), progress)
    }

    fn verify_opened(
        path: &Path,
        keys: impl FnOnce(Directory) -> Result<Directory>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Verdict> {
        let files = open(path)?;
        let still = Still::of(&files)?;
        if still.ours().next().is_none() {
            return Err(nothing(path));
        }
        let mut bytes = 0;
        let findings = check(&still, &mut |done, total| {
            bytes = total;
            progress(done, total);
        })?;
        let mut verdict = Verdict { bytes, ..Verdict::default() };
        verdict.damage.extend(findings.into_iter().map(Damage::from));
        drop(still);
        let told = Directory::of(files).and_then(keys).and_then(|opened| opened.check_sessions());
        match told.map_err(Finding::of) {
            Ok((position, sessions, findings)) => {
                (verdict.position, verdict.sessions) = (position, sessions);
                verdict.damage.extend(findings);
            }
            Err(Ok(finding)) => {
                // A damaged file is told once.
                if !verdict.damage.iter().any(|damage| damage.file == finding.file) {
                    verdict.damage.push(finding.into());
                }
            }
            Err(Err(error)) => return Err(error),
        }
        Ok(verdict)
    }

    /// The last position, the number of sessions, the first one whose data is none.
    fn check_sessions(&self) -> Result<(u64, u64, Option<Damage>)> {
        if let Seal::Closed(_) = self.seal {
            // Their sums are all that can be compared without the keys.
            return Ok((self.survey.end.last, self.count()?, None));
        }
        let (mut sessions, mut damage) = (0, None);
        let schema = self.schema();
        self.sessions(|session| -> Result<()> {
            sessions += 1;
            if damage.is_none()
                && let Err(problem) = schema.check(session.data)
            {
                let problem = format!("the data of session {}: {problem}", session.id);
                damage = Some(Damage { file: self.files.path(""), offset: 0, problem });
            }
            Ok(())
        })?;
        Ok((self.survey.end.last, sessions, damage))
    }
}

impl From<Finding> for Damage {
    fn from(Finding { file, offset, problem }: Finding) -> Damage {
        Damage { file, offset, problem }
    }
}

impl From<Kind> for Schema {
    fn from(Kind { schema, layout, .. }: Kind) -> Schema {
        Schema { number: schema, layout }
    }
}

fn open(path: &Path) -> Result<Arc<StoreFiles>> {
    let files = StoreFiles::open_existing(path);
    files.map(Arc::new).map_err(|error| Error::Files {
        file: path.to_owned(),
        doing: "open",
        error,
    })
}

fn nothing(path: &Path) -> Error {
    let problem = "it holds no files of a store: name the directory given to Builder::open";
    Error::Unreadable { file: path.to_owned(), problem: problem.to_owned() }
}

/// Its path and state.
impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory")
            .field("path", &self.files.path(""))
            .field("is_in_use", &self.is_in_use)
            .finish_non_exhaustive()
    }
}
