//! The options of a store that is opened on a directory.

use std::time::Duration;

use crate::keep::{Append, Durability, Load, OnDamage};
use crate::options::Builder;

/// Options of a store on a directory; one in memory ignores them.
impl<S> Builder<S> {
    /// What a write that returned survives. Default [`Durability::Crash`].
    pub fn durability(mut self, durability: Durability) -> Builder<S> {
        self.options.keep.durability = durability;
        self
    }

    /// How long a change may be in the file without being synced: what a power loss may take.
    /// Default 1 second; 10 ms to 1 hour.
    pub fn sync_interval(mut self, interval: Duration) -> Builder<S> {
        self.options.keep.sync_interval = interval;
        self
    }

    /// How much idle time a session may lose by a crash, at most: so seldom is it written down that
    /// a session was only read. Default 60 seconds, and never more than a tenth of its idle
    /// timeout.
    pub fn touch_granularity(mut self, granularity: Duration) -> Builder<S> {
        self.options.keep.touch_granularity = granularity;
        self
    }

    /// How changes reach the log. Default [`Append::Mapped`]. [`Append::Written`] costs a system
    /// call for each change, and is for file systems on which mappings are slow or forbidden.
    pub fn append(mut self, append: Append) -> Builder<S> {
        self.options.keep.append = append;
        self
    }

    /// The size of a segment of the log, reserved on disk beforehand; two of them exist at a time.
    /// Default 16 MiB; 1 MiB to 1 GiB.
    pub fn segment_bytes(mut self, bytes: u64) -> Builder<S> {
        self.options.keep.segment_bytes = bytes;
        self
    }

    /// How long the log may get before a snapshot takes its place: this much, or twice the bytes
    /// of all sessions where that is more. Default 64 MiB. The time of a restart grows with it.
    pub fn snapshot_bytes(mut self, bytes: u64) -> Builder<S> {
        self.options.keep.snapshot_bytes = bytes;
        self
    }

    /// The number of the session type's present form. Give another one whenever its fields change:
    /// files with another number are refused, instead of being read as something else. Default 0.
    pub fn schema(mut self, number: u64) -> Builder<S> {
        self.options.keep.schema = number;
        self
    }

    /// How long to wait for another store or process that uses the directory: for deploys, in which
    /// the new process starts before the old one has closed. Default not at all.
    pub fn wait_for_lock(mut self, time: Duration) -> Builder<S> {
        self.options.keep.wait_for_lock = time;
        self
    }

    /// What to do when files are damaged. Default [`OnDamage::Refuse`].
    pub fn on_damage(mut self, choice: OnDamage) -> Builder<S> {
        self.options.keep.on_damage = choice;
        self
    }

    /// Whether opening returns before all sessions are in memory. Default [`Load::Mapped`]: it
    /// does.
    pub fn load(mut self, choice: Load) -> Builder<S> {
        self.options.keep.load = choice;
        self
    }

    /// Encrypts what sessions hold before it is written to a file: owner, label and data, with
    /// XChaCha20-Poly1305 and the newest of these keys. By default files are plain. The feature
    /// `encryption`.
    ///
    /// Who has the files but no key sees how many sessions there are, their ids (digests that open
    /// no session), times and sizes, which of them have the same owner, and which ended. He cannot
    /// change a session, or put one in: it is then [`Error::Damaged`](crate::Error::Damaged). What
    /// nobody notices is an older copy of the whole directory in its place. Sessions in memory are
    /// plain. Costs two to four microseconds for each write, and 48 bytes a session in the files;
    /// 32 more if it has an owner.
    ///
    /// Files that need other keys, or keys where they have none, or none where these have, are
    /// refused with [`Error::Unreadable`](crate::Error::Unreadable), and not a byte of them is
    /// changed. Whoever loses the secrets has lost the sessions.
    ///
    /// # Changing keys
    /// [`Keys::rotate`](crate::cookie::Keys::rotate) makes a new secret the newest while the store
    /// is open: whatever is written from then on is sealed with it. The files need the old one
    /// until [`Store::snapshot`](crate::Store::snapshot) has returned after that; from then on give
    /// the new one alone.
    ///
    /// One ring may serve for cookies too: the keys that are derived for the two differ.
    ///
    /// # Examples
    /// ```
    /// use cloakroom::cookie::Keys;
    /// use cloakroom::{Attributes, Error, Store};
    ///
    /// # let name = format!("cloakroom-doc-sealed-{}", std::process::id());
    /// # let directory = std::env::temp_dir().join(name);
    /// # let (secret, new_secret) = ([1; 32], [2; 32]);
    /// let keys = Keys::new([secret])?;
    /// let store: Store = Store::builder().encryption(keys.clone()).open(&directory)?;
    /// let id = store.create(Attributes::from([("cart", 1.into())]))?.id();
    ///
    /// keys.rotate(new_secret)?;
    /// store.snapshot()?;
    /// store.close()?;
    ///
    /// let keys = Keys::new([new_secret])?;
    /// let store: Store = Store::builder().encryption(keys).open(&directory)?;
    /// assert_eq!(store.read(id, |s| s.get_i64("cart"))?, Some(1));
    /// drop(store);
    ///
    /// let refused = Store::<Attributes>::builder().open(&directory);
    /// assert!(matches!(refused, Err(Error::Unreadable { .. })));
    /// # let _ = std::fs::remove_dir_all(&directory);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "encryption")]
    pub fn encryption(mut self, keys: crate::cookie::Keys) -> Builder<S> {
        self.options.keep.keys = Some(keys);
        self
    }

    /// Lets [`encryption`](Builder::encryption) take over files that are plain: opening writes all
    /// sessions anew, sealed, before it returns. Default false: then it refuses them, since who can
    /// write to the directory could have put them there. A crash meanwhile leaves the plain files
    /// or the sealed ones. The plain ones are removed; their blocks on disk are not overwritten.
    #[cfg(feature = "encryption")]
    pub fn encrypt_plain(mut self, allow: bool) -> Builder<S> {
        self.options.keep.encrypt_plain = allow;
        self
    }

    /// Whether a thread brings the sessions of a mapped snapshot into memory. For tests, which do
    /// it by [`load_some`](crate::Store::load_some).
    #[doc(hidden)]
    pub fn loader_thread(mut self, thread: bool) -> Builder<S> {
        self.options.keep.loader_thread = thread;
        self
    }
}
