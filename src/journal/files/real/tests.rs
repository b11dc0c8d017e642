use super::*;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of a test's own, removed with it.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cloakroom-files-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        TempDir(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn open(&self) -> RealFiles {
        RealFiles::open_dir(&self.0).unwrap()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn refusal<T>(result: io::Result<T>) -> (io::ErrorKind, String) {
    let error = result.err().expect("refused");
    (error.kind(), error.to_string())
}

const CHILD: &str = "CLOAKROOM_FILES_TEST_CHILD";

/// This test binary, for one test, in the child's part.
fn child(test: &str, value: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000 && exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("journal::files::real::tests::{test}")]);
    command.env(CHILD, value);
    command
}

/// The mode is given when the file is made, not later, so it cannot come from the umask; which
/// belongs to the process, hence the child.
#[test]
fn modes_do_not_depend_on_the_umask() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let files = RealFiles::open_dir(Path::new(&dir)).unwrap();
        files.create("a").unwrap();
        files.lock().unwrap().unwrap();
        return;
    }
    let temp = TempDir::new();
    let dir = temp.path("sessions");
    let status = child("modes_do_not_depend_on_the_umask", &dir).output().unwrap().status;
    assert!(status.success());
    assert_eq!(
        [mode(&dir), mode(&dir.join("a")), mode(&dir.join(LOCK_NAME))],
        [0o700, 0o600, 0o600]
    );
}

#[test]
fn only_safe_directories_are_opened() {
    let temp = TempDir::new();
    let (kind, text) = refusal(RealFiles::open_dir(&temp.path("missing/sessions")));
    assert!(kind == io::ErrorKind::NotFound && text.contains("parent"), "{text}");
    assert!(!temp.path("missing").exists());

    fs::write(temp.path("file"), "").unwrap();
    let (kind, text) = refusal(RealFiles::open_dir(&temp.path("file")));
    assert!(kind == io::ErrorKind::NotADirectory && text.contains("no directory"), "{text}");

    let dir = temp.path("sessions");
    RealFiles::open_dir(&dir).unwrap();
    RealFiles::open_dir(&dir.join("")).unwrap();
    for bad in [0o720, 0o702, 0o777, 0o1777] {
        set_mode(&dir, bad);
        let (kind, text) = refusal(RealFiles::open_dir(&dir));
        assert_eq!(kind, io::ErrorKind::PermissionDenied);
        assert!(text.contains("chmod") && text.contains("sessions"), "{text}");
    }
    set_mode(&dir, 0o755);
    RealFiles::open_dir(&dir).unwrap();
    symlink(&dir, temp.path("link")).unwrap();
    RealFiles::open_dir(&temp.path("link")).unwrap();
    // Only root can give a directory away.
    if chown(&dir, Some(12345), None).is_ok() {
        let (kind, text) = refusal(RealFiles::open_dir(&dir));
        assert!(kind == io::ErrorKind::PermissionDenied && text.contains("12345"), "{text}");
    }
}

#[test]
fn planted_names_are_refused() {
    let temp = TempDir::new();
    let files = temp.open();
    fs::write(temp.path("victim"), "untouched").unwrap();
    symlink(temp.path("victim"), temp.path("link")).unwrap();
    symlink(temp.path("nothing"), temp.path("dangling")).unwrap();
    fs::create_dir(temp.path("folder")).unwrap();
    assert!(Command::new("mkfifo").arg(temp.path("pipe")).status().unwrap().success());
    fs::write(temp.path("shared"), "").unwrap();
    set_mode(&temp.path("shared"), 0o620);

    for name in ["link", "dangling", "folder", "pipe", "victim", "shared"] {
        assert_eq!(refusal(files.create(name)).0, io::ErrorKind::AlreadyExists, "{name}");
    }
    for name in ["link", "dangling", "pipe", "shared", "../victim", "folder/..", "", ".", ".."] {
        files.open(name).err().expect(name);
        files.open_to_write(name).err().expect(name);
    }
    files.open("folder").err().unwrap();
    assert!(refusal(files.open("link")).1.contains("symbolic link"));
    assert!(refusal(files.open("pipe")).1.contains("regular"));
    files.rename("link", "../gone").unwrap_err();
    files.remove("folder/../victim").unwrap_err();
    assert!(!temp.path("nothing").exists());
    assert_eq!(fs::read_to_string(temp.path("victim")).unwrap(), "untouched");

    symlink(temp.path("victim"), temp.path(LOCK_NAME)).unwrap();
    files.lock().err().expect("a link in the place of the lock");
}

#[test]
fn create_is_exclusive_and_not_inherited() {
    let temp = TempDir::new();
    let files = temp.open();
    let file = files.create("a").unwrap();
    assert_eq!(refusal(files.create("a")).0, io::ErrorKind::AlreadyExists);
    assert_eq!(refusal(files.open("b")).0, io::ErrorKind::NotFound);
    assert_eq!(refusal(files.open_to_write("b")).0, io::ErrorKind::NotFound);
    let lock = files.lock().unwrap().unwrap();
    for handle in [&file.file, &files.dir, &lock.file, &files.open("a").unwrap().file] {
        let flags = rustix::io::fcntl_getfd(handle).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
}

/// `flock` excludes also a second open in the same process, unlike `fcntl` locks.
#[test]
fn one_holder_of_the_lock() {
    if let Some(dir) = std::env::var_os(CHILD) {
        assert!(RealFiles::open_dir(Path::new(&dir)).unwrap().lock().unwrap().is_none());
        return;
    }
    let temp = TempDir::new();
    let (files, again) = (temp.open(), temp.open());
    let lock = files.lock().unwrap().expect("free");
    assert!(files.lock().unwrap().is_none() && again.lock().unwrap().is_none());
    assert!(child("one_holder_of_the_lock", &temp.0).output().unwrap().status.success());
    // Opening and closing the file elsewhere gives nothing back.
    drop(again.open(LOCK_NAME).unwrap());
    assert!(again.lock().unwrap().is_none());
    drop(lock);
    let lock = again.lock().unwrap().expect("given back");
    assert!(files.lock().unwrap().is_none());
    assert_eq!(files.list().unwrap(), [LOCK_NAME]);
    drop(lock);
}

/// A forked child has a copy of the descriptor, and with it of the lock.
#[test]
fn a_forked_child_neither_keeps_nor_gives_back_the_lock() {
    let temp = TempDir::new();
    let files = temp.open();
    let lock = files.lock().unwrap().unwrap();
    let of_child = lock.file.try_clone().unwrap();
    drop(lock);
    drop(files.lock().unwrap().expect("given back by the parent, for all copies"));
    drop(of_child);

    let lock = files.lock().unwrap().unwrap();
    let of_child = Lock { file: lock.file.try_clone().unwrap(), process: lock.process + 1 };
    drop(of_child);
    assert!(files.lock().unwrap().is_none(), "not given back by the child");
}

/// A lock on a file that is no longer there would exclude nobody.
#[test]
fn a_removed_lock_file_is_noticed() {
    let temp = TempDir::new();
    let files = temp.open();
    let first = files.create(LOCK_NAME).unwrap().file;
    assert!(files.is_named(LOCK_NAME, &first).unwrap());
    files.remove(LOCK_NAME).unwrap();
    assert!(!files.is_named(LOCK_NAME, &first).unwrap());
    let second = files.create(LOCK_NAME).unwrap().file;
    assert!(!files.is_named(LOCK_NAME, &first).unwrap());
    assert!(files.is_named(LOCK_NAME, &second).unwrap());
    symlink(temp.path(LOCK_NAME), temp.path("link")).unwrap();
    files.is_named("link", &second).expect_err("not through a link");
}

#[test]
fn names_are_listed_sorted() {
    let temp = TempDir::new();
    let files = temp.open();
    for name in ["b", "a10", "a9", ".hidden", "B"] {
        files.create(name).unwrap();
    }
    let odd = std::ffi::OsStr::from_bytes(b"odd-\xff");
    // Some systems have no such names.
    let _ = fs::write(temp.0.join(odd), "");
    let sorted = [".hidden", "B", "a10", "a9", "b"];
    assert_eq!(files.list().unwrap(), sorted);
    assert_eq!(files.list().unwrap(), sorted, "a second list starts at the beginning");
    files.rename("a9", "b").unwrap();
    files.remove("B").unwrap();
    files.sync_dir().unwrap();
    assert_eq!(files.list().unwrap(), [".hidden", "a10", "b"]);
    assert_eq!(refusal(files.remove("B")).0, io::ErrorKind::NotFound);
    assert_eq!(files.path("b"), temp.path("b"));
    assert!(files.free_bytes().unwrap() > 0);
}

/// Whoever renames the directory and puts a link in its place gets nothing.
#[test]
fn a_renamed_directory_is_still_the_one() {
    let temp = TempDir::new();
    let (dir, moved, trap) = (temp.path("dir"), temp.path("moved"), temp.path("trap"));
    let files = RealFiles::open_dir(&dir).unwrap();
    fs::create_dir(&trap).unwrap();
    fs::rename(&dir, &moved).unwrap();
    symlink(&trap, &dir).unwrap();
    files.create("a").unwrap();
    files.rename("a", "b").unwrap();
    assert_eq!(files.list().unwrap(), ["b"]);
    assert!(moved.join("b").exists() && fs::read_dir(&trap).unwrap().next().is_none());
}

#[test]
fn bytes_are_read_as_written() {
    let temp = TempDir::new();
    let files = temp.open();
    let file = files.create("a").unwrap();
    file.write_at(b"world", 6).unwrap();
    file.write_at(b"hello ", 0).unwrap();
    file.write_at(b"", 99).unwrap();
    file.sync().unwrap();
    let reader = files.open("a").unwrap();
    let mut buffer = [0; 11];
    reader.read_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"hello world");
    assert_eq!(refusal(reader.read_at(&mut buffer, 1)).0, io::ErrorKind::UnexpectedEof);
    reader.write_at(b"x", 0).expect_err("opened for reading");
    reader.set_len(0).expect_err("opened for reading");
    files.open_to_write("a").unwrap().set_len(5).unwrap();
    assert_eq!(reader.len().unwrap(), 5);
}

#[test]
fn allocated_bytes_have_blocks() {
    const LEN: u64 = 1 << 20;
    let temp = TempDir::new();
    let files = temp.open();
    let file = files.create("a").unwrap();
    file.write_at(b"here before", 10).unwrap();
    file.allocate(LEN).unwrap();
    file.allocate(10).unwrap();
    file.allocate(0).unwrap();
    file.sync().unwrap();
    let metadata = file.file.metadata().unwrap();
    assert_eq!(metadata.len(), LEN);
    assert!(metadata.blocks() * 512 >= LEN, "{} blocks", metadata.blocks());
    let view = file.view().unwrap();
    assert_eq!(&view[10..21], b"here before");
    assert!(view[21..].iter().all(|&byte| byte == 0));
}

/// The way of file systems that cannot reserve: the hole of a sparse file is filled as well.
#[test]
fn filled_bytes_have_blocks_too() {
    const LEN: u64 = 3 * FILL_BYTES as u64 + 100;
    let temp = TempDir::new();
    let file = temp.open().create("a").unwrap();
    let data_at = FILL_BYTES as u64 + 7;
    file.write_at(b"data", data_at).unwrap();
    assert!(file.file.metadata().unwrap().blocks() * 512 < data_at, "sparse");
    file.fill(LEN).unwrap();
    file.fill(5).unwrap();
    file.sync().unwrap();
    let metadata = file.file.metadata().unwrap();
    assert_eq!(metadata.len(), LEN);
    assert!(metadata.blocks() * 512 >= LEN);
    let mut bytes = vec![1; LEN as usize];
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes[data_at as usize..][..4], b"data");
    assert_eq!(bytes.iter().filter(|&&byte| byte != 0).count(), 4);
}

#[test]
#[should_panic(expected = "6 bytes at 9995 of a mapping of 10000")]
fn a_mapping_has_an_end() {
    let temp = TempDir::new();
    let files = temp.open();
    let file = files.create("a").unwrap();
    file.allocate(10_000).unwrap();
    let mut mapping = file.map(10_000).unwrap();
    mapping.write(9_995, b"bytes");
    if let Some(pages) = mapping.pages() {
        pages.touch(0, 10_000);
        pages.touch(5_000, usize::MAX);
        pages.touch(usize::MAX, 1);
    }
    let mut bytes = [0; 5];
    file.read_at(&mut bytes, 9_995).unwrap();
    assert_eq!(&bytes, b"bytes");
    mapping.write(9_995, b"mapped");
}

#[test]
fn a_mapping_outlives_its_handle() {
    let temp = TempDir::new();
    let files = temp.open();
    let file = files.create("a").unwrap();
    file.allocate(8_192).unwrap();
    assert_eq!(refusal(file.map(8_193)).0, io::ErrorKind::InvalidInput);
    let mut mapping = file.map(8_192).unwrap();
    drop(file);
    mapping.write(8_186, b"mapped");
    mapping.write(8_192, b"");
    drop(mapping);
    let view = files.open("a").unwrap().view().unwrap();
    assert_eq!((view.len(), &view[8_186..]), (8_192, &b"mapped"[..]));
    files.remove("a").unwrap();
    assert_eq!(&view[8_186..], b"mapped", "still there without a name");
    assert!(files.create("empty").unwrap().view().unwrap().is_empty());
}
