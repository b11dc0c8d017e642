use super::super::crash::{CrashDisk, Random};
use super::*;

fn disk() -> Faulty<CrashDisk> {
    let files = Faulty::new(CrashDisk::new());
    files.create("a").unwrap().write_at(b"12345678", 0).unwrap();
    files.create("b").unwrap();
    files.heal();
    files
}

/// Does one operation of a kind; what became of it.
fn act(files: &Faulty<CrashDisk>, kind: Kind) -> io::Result<()> {
    match kind {
        Kind::Create => {
            files.create("c")?;
            return files.inner().remove("c");
        }
        Kind::Open => return files.open("a").map(drop),
        Kind::OpenToWrite => return files.open_to_write("a").map(drop),
        Kind::List => return files.list().map(drop),
        Kind::Rename => return files.rename("b", "b"),
        Kind::Remove => {
            files.remove("b")?;
            return files.inner().create("b").map(drop);
        }
        Kind::SyncDir => return files.sync_dir(),
        Kind::FreeBytes => return files.free_bytes().map(drop),
        _ => {}
    }
    let file = files.file(files.inner().open_to_write("a")?);
    match kind {
        Kind::Len => file.len().map(drop),
        Kind::Read => file.read_at(&mut [0; 4], 0),
        Kind::Write => file.write_at(b"1234", 0),
        Kind::Allocate => file.allocate(100),
        Kind::SetLen => file.set_len(100),
        Kind::Sync => file.sync(),
        Kind::Map => file.map(0).map(drop),
        Kind::View => file.view().map(drop),
        Kind::MappedWrite => {
            let mut mapping =
                FaultyMapping { inner: file.inner.map(8)?, faults: files.faults.clone() };
            file.inner.write_at(b"before", 0)?;
            mapping.write(0, b"mapped");
            let mut now = [0; 6];
            file.inner.read_at(&mut now, 0)?;
            if &now == b"mapped" { Ok(()) } else { Err(Fault::Eio.error()) }
        }
        _ => unreachable!("{kind:?}"),
    }
}

#[test]
fn every_kind_fails_at_its_ordinal_only() {
    for kind in Kind::ALL {
        for ordinal in 1..4 {
            for (times, last) in [(Times::Once, ordinal), (Times::ForEver, 5)] {
                let files = disk();
                let before = files.count(kind);
                files.fail(&[kind], ordinal, times, Fault::Eio);
                for number in 1..=5 {
                    for other in Kind::ALL {
                        let failed = act(&files, other).is_err();
                        let expected = other == kind && (ordinal..=last).contains(&number);
                        assert_eq!(failed, expected, "{other:?} {number} for {kind:?} {ordinal}");
                    }
                }
                assert_eq!((files.count(kind) - before, files.fired()), (5, last - ordinal + 1));
                files.heal();
                act(&files, kind).unwrap();
            }
        }
    }
}

#[test]
fn several_kinds_are_counted_together() {
    let files = disk();
    files.fail(&[Kind::List, Kind::Open], 3, Times::Once, Fault::Eio);
    let outcome: Vec<bool> = [Kind::List, Kind::Len, Kind::Open, Kind::List, Kind::Open]
        .map(|kind| act(&files, kind).is_ok())
        .to_vec();
    assert_eq!(outcome, [true, true, true, false, true]);
    assert_eq!(files.count_all(&[Kind::List, Kind::Open]), 4);
}

#[test]
fn errors_are_those_of_the_system() {
    for (fault, kind, code) in [
        (Fault::Eio, io::Error::from_raw_os_error(libc::EIO).kind(), libc::EIO),
        (Fault::Halt, io::Error::from_raw_os_error(libc::EIO).kind(), libc::EIO),
        (Fault::Enospc, io::ErrorKind::StorageFull, libc::ENOSPC),
        (Fault::Edquot, io::ErrorKind::QuotaExceeded, libc::EDQUOT),
        (Fault::ShortWrite, io::ErrorKind::StorageFull, libc::ENOSPC),
    ] {
        let files = disk();
        files.fail(&Kind::ALL, 1, Times::Once, fault);
        let error = files.create("c").err().unwrap();
        assert_eq!((error.kind(), error.raw_os_error()), (kind, Some(code)));
        assert_eq!(files.list().unwrap(), ["a", "b"], "nothing was done");
    }
}

#[test]
fn a_short_write_writes_half() {
    let files = disk();
    let file = files.open_to_write("a").unwrap();
    for (fault, expected) in [(Fault::Eio, b"12345678"), (Fault::ShortWrite, b"abcd5678")] {
        files.fail(&[Kind::Write], 1, Times::Once, fault);
        file.write_at(b"abcdefgh", 0).unwrap_err();
        let mut bytes = [0; 8];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, expected);
    }
    files.fail(&[Kind::Allocate], 1, Times::Once, Fault::ShortWrite);
    file.allocate(100).unwrap_err();
    assert_eq!(file.len().unwrap(), 50);
}

#[test]
fn a_failed_sync_loses_what_it_was_to_write() {
    for (fault, expected) in [(Fault::Eio, b"\0\0\0\0\0\0\0\0"), (Fault::Halt, b"12345678")] {
        let files = disk();
        files.sync_dir().unwrap();
        let file = files.open_to_write("a").unwrap();
        files.fail(&[Kind::Sync], 1, Times::Once, fault);
        file.sync().unwrap_err();
        file.sync().expect("the system calls it clean");
        let image = files.inner().crash_image(&mut Random::new(0));
        assert_eq!(&image.open("a").unwrap().view().unwrap()[..], expected);
        assert_eq!(&file.view().unwrap()[..], b"12345678", "still readable");
    }
}

/// How a sweep over all moments of a loss of power is written: here of a file that is replaced.
#[test]
fn a_replaced_file_is_old_or_new_at_every_moment() {
    fn replace(files: &impl Files) -> io::Result<()> {
        let file = files.create("tmp")?;
        file.allocate(4)?;
        file.map(4)?.write(0, b"new!");
        file.sync()?;
        files.rename("tmp", "a")?;
        files.sync_dir()
    }
    for ordinal in 1.. {
        let files = disk();
        files.open_to_write("a").unwrap().sync().unwrap();
        files.sync_dir().unwrap();
        files.fail(&Kind::CHANGING, ordinal, Times::ForEver, Fault::Halt);
        let is_done = replace(&files).is_ok();
        for seed in 0..50 {
            let image = files.inner().crash_image(&mut Random::new(seed));
            let view = image.open("a").unwrap().view().unwrap();
            assert!(&view[..] == b"new!" || (!is_done && &view[..] == b"12345678"), "{ordinal}");
        }
        if is_done {
            assert_eq!(ordinal, 7, "six operations change something");
            break;
        }
    }
}
