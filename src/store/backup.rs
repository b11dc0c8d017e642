//! A copy of a store's sessions in another directory, while the store is in use.

use std::io;
use std::path::Path;

use super::Store;
use crate::error::{Error, Result};
use crate::sessions::Saved;

impl<S> Store<S> {
    /// Copies all sessions into another directory, from which they can be opened as a store: which
    /// is empty, or is created (mode 0700, its files 0600; its parent must be there).
    ///
    /// The copy is the state of one moment during the call. Every write that returned before it is
    /// in the copy, no session is that ended before it, and of each later one all or nothing; so
    /// are changes that belong together, such as a rotation. Sessions that have expired are left
    /// out.
    ///
    /// The store is not stopped for a moment: the copy is made from its files, as they are read
    /// after a crash, so that it also shows that they can be. Takes the time of reading the files
    /// and of writing one snapshot (at most half a gigabyte a second, so that the disk stays free
    /// for the log), and about 64 bytes of memory for each session.
    ///
    /// The copy holds no token. It holds who the sessions belong to, and their data: guard it as
    /// the directory itself. Sessions that end later are live in it: end them after a restore, or
    /// make copies often.
    ///
    /// # Errors
    /// [`Error::Files`] if the directory is not empty, if it is that of the store, or if the store
    /// is in memory; [`Error::Full`] without room; [`Error::Damaged`] if the store's own files are;
    /// [`Error::NotDurable`] if they lack what was written, as after a sync that failed;
    /// [`Error::Forked`]. Then nothing is left there.
    ///
    /// # Examples
    /// ```
    /// use cloakroom::{Attributes, Store};
    ///
    /// # let name = format!("cloakroom-backup-{}", std::process::id());
    /// # let parent = std::env::temp_dir().join(name);
    /// # std::fs::create_dir(&parent).unwrap();
    /// let store: Store = Store::builder().open(parent.join("sessions"))?;
    /// let id = store.create(Attributes::from([("cart", 1.into())]))?.id();
    /// assert_eq!(store.backup(parent.join("copy"))?.sessions, 1);
    ///
    /// let copy: Store = Store::builder().open(parent.join("copy"))?;
    /// assert_eq!(copy.read(id, |s| s.get_i64("cart"))?, Some(1));
    /// # drop((store, copy));
    /// # let _ = std::fs::remove_dir_all(&parent);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn backup(&self, directory: impl AsRef<Path>) -> Result<Saved> {
        let directory = directory.as_ref();
        let Some(journal) = self.sessions.journal.get() else {
            let text = "a store in memory has no files to copy: open it on a directory";
            let error = io::Error::new(io::ErrorKind::Unsupported, text);
            return Err(Error::Files { file: directory.to_owned(), doing: "back up into", error });
        };
        let summary = journal.backup(directory)?;
        Ok(Saved { sessions: summary.counts.live(), bytes: summary.bytes })
    }
}
