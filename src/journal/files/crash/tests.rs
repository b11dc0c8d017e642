use super::*;

const SEEDS: u64 = 200;

/// The content of a file on each of many crash images; None where it is gone.
fn images(disk: &CrashDisk, name: &str) -> Vec<Option<Vec<u8>>> {
    let image = |seed| content(&disk.crash_image(&mut Random::new(seed)), name);
    (0..SEEDS).map(image).collect()
}

fn content(disk: &CrashDisk, name: &str) -> Option<Vec<u8>> {
    Some(disk.open(name).ok()?.view().unwrap().to_vec())
}

fn synced(disk: &CrashDisk, name: &str, bytes: &[u8]) -> CrashFile {
    let file = disk.create(name).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir().unwrap();
    file
}

#[test]
fn what_is_synced_survives() {
    let disk = CrashDisk::new();
    let file = synced(&disk, "a", b"first");
    file.allocate(8_192).unwrap();
    let mut mapping = file.map(8_192).unwrap();
    mapping.write(5_000, b"mapped");
    file.sync().unwrap();
    // What follows may be lost, but nothing of the above may.
    mapping.write(5_006, b"later");
    file.write_at(b"later", 5).unwrap();
    file.allocate(10_000).unwrap();
    disk.create("b").unwrap();
    for content in images(&disk, "a") {
        let content = content.expect("its name was synced");
        assert_eq!((&content[..5], &content[5_000..5_006]), (&b"first"[..], &b"mapped"[..]));
        assert!(content[11..5_000].iter().all(|&byte| byte == 0), "beside the writes");
    }
}

#[test]
fn what_is_not_synced_may_survive() {
    let disk = CrashDisk::new();
    let file = synced(&disk, "a", &[1; 4_096]);
    file.write_at(&[2; 2_048], 1_024).unwrap();
    let images: Vec<Vec<u8>> = images(&disk, "a").into_iter().flatten().collect();
    assert_eq!(images.len() as u64, SEEDS);
    let twos = |image: &[u8]| image.iter().filter(|&&byte| byte == 2).count();
    assert!(images.iter().any(|image| twos(image) == 0), "lost");
    assert!(images.iter().any(|image| twos(image) == 2_048), "whole");
    let is_torn = |image: &&Vec<u8>| ![0, 2_048].contains(&twos(image));
    assert!(images.iter().filter(is_torn).any(|image| twos(image) % 512 != 0), "torn at a byte");
    assert!(images.iter().filter(is_torn).any(|image| {
        image.chunks(512).all(|sector| sector.iter().all(|&byte| byte == sector[0]))
    }));
    assert!(images.iter().any(|image| image.contains(&0)), "zeroed");
    assert!(images.iter().any(|image| image.iter().any(|&byte| byte > 2)), "garbage");
    for image in &images {
        assert_eq!((&image[..1_024], &image[3_072..]), (&[1; 1_024][..], &[1; 1_024][..]));
    }
}

/// Length and data go different ways: "the length kept but the data zero", and the reverse.
#[test]
fn length_and_data_are_independent() {
    let disk = CrashDisk::new();
    let file = synced(&disk, "a", b"");
    file.write_at(b"data", 0).unwrap();
    let images: Vec<_> = images(&disk, "a").into_iter().flatten().collect();
    for expected in [&b""[..], b"data", &[0; 4]] {
        assert!(images.iter().any(|image| image == expected), "{expected:?}");
    }
    file.set_len(2).unwrap();
    file.set_len(6).unwrap();
    for seed in 0..SEEDS {
        let image = content(&disk.crash_image(&mut Random::new(seed)), "a").unwrap();
        assert!([0, 2, 4, 6].contains(&image.len()));
        assert!(image.len() < 6 || image[2..] == [0; 4], "cut off once is gone");
    }
    file.sync().unwrap();
    assert_eq!(content(&disk.crash_image(&mut Random::new(0)), "a").unwrap(), b"da\0\0\0\0");
}

#[test]
fn names_come_and_go_independently() {
    let disk = CrashDisk::new();
    synced(&disk, "old", b"old");
    synced(&disk, "log", b"log");
    let new = disk.create("new").unwrap();
    new.write_at(b"new", 0).unwrap();
    new.sync().unwrap();
    disk.rename("new", "old").unwrap();
    disk.remove("log").unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let image = disk.crash_image(&mut Random::new(seed));
        let state = (content(&image, "old"), image.list().unwrap());
        assert!(state.0.is_some(), "a rename replaces, it never removes");
        assert!(content(&image, "new").is_none_or(|content| content == b"new"));
        seen.insert(state);
    }
    let state = |content: &[u8], names: &[&str]| {
        (Some(content.to_vec()), names.iter().map(|name| name.to_string()).collect::<Vec<_>>())
    };
    let expected = [
        state(b"old", &["log", "old"]),
        state(b"old", &["old"]),
        state(b"old", &["log", "new", "old"]),
        state(b"old", &["new", "old"]),
        state(b"new", &["log", "old"]),
        state(b"new", &["old"]),
    ];
    assert_eq!(seen, expected.into_iter().collect());
    disk.sync_dir().unwrap();
    for seed in 0..SEEDS {
        let image = disk.crash_image(&mut Random::new(seed));
        assert_eq!((content(&image, "old"), image.list().unwrap()), state(b"new", &["old"]));
    }
}

/// A later name depends on the earlier ones: one file never has two.
#[test]
fn a_file_renamed_twice_has_one_name() {
    let disk = CrashDisk::new();
    synced(&disk, "a", b"a");
    disk.rename("a", "b").unwrap();
    disk.rename("b", "c").unwrap();
    let seen: std::collections::BTreeSet<_> =
        (0..SEEDS).map(|seed| disk.crash_image(&mut Random::new(seed)).list().unwrap()).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [["a"], ["b"], ["c"]]);
}

#[test]
fn a_create_without_sync_dir_may_be_lost_or_empty() {
    let disk = CrashDisk::new();
    let file = disk.create("a").unwrap();
    file.write_at(b"data", 0).unwrap();
    let before = images(&disk, "a");
    file.sync().unwrap();
    let after = images(&disk, "a");
    assert!(before.contains(&None) && before.contains(&Some(vec![])));
    assert!(before.contains(&Some(b"data".to_vec())));
    assert!(after.contains(&None) && after.contains(&Some(b"data".to_vec())));
    assert!(!after.contains(&Some(vec![])), "the data was synced");
}

#[test]
fn pages_of_mappings_are_written_back_in_any_order() {
    let disk = CrashDisk::new();
    let file = synced(&disk, "a", &[]);
    file.allocate(3 * 4_096).unwrap();
    file.sync().unwrap();
    let mut mapping = file.map(3 * 4_096).unwrap();
    for step in 1..=3 {
        // Over the edge of two pages, then one write into each.
        mapping.write(4_090, &[step; 12]);
        mapping.write(8_192, &[step; 8]);
    }
    let images: Vec<_> = images(&disk, "a").into_iter().flatten().collect();
    let state = |image: &[u8]| [image[4_090], image[4_096], image[8_192]];
    let seen: std::collections::BTreeSet<_> = images.iter().map(|image| state(image)).collect();
    for expected in [[0, 0, 0], [3, 3, 3], [0, 3, 0], [3, 0, 0], [0, 0, 3], [1, 2, 3]] {
        let similar = seen.iter().any(|seen| match expected {
            // The middle of things: three pages at three moments.
            [1, 2, 3] => seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2],
            _ => *seen == expected,
        });
        assert!(similar, "{expected:?} not in {seen:?}");
    }
}

/// A killed process leaves everything, but a loss of power after it still takes what nobody
/// synced, unless the next process does.
#[test]
fn a_kill_loses_nothing_and_syncs_nothing() {
    let disk = CrashDisk::new();
    synced(&disk, "old", b"old");
    let file = disk.create("a").unwrap();
    file.allocate(100).unwrap();
    let mut mapping = file.map(100).unwrap();
    mapping.write(0, b"mapped");
    disk.remove("old").unwrap();
    let killed = disk.kill_image();
    mapping.write(0, b"after!");
    assert_eq!(killed.list().unwrap(), ["a"]);
    assert_eq!(&content(&killed, "a").unwrap()[..6], b"mapped");
    let later = images(&killed, "a");
    assert!(later.contains(&None) && later.iter().flatten().any(|image| image.is_empty()));
    killed.open_to_write("a").unwrap().sync().unwrap();
    killed.sync_dir().unwrap();
    assert!(images(&killed, "a").iter().flatten().all(|image| image.starts_with(b"mapped")));
    assert_eq!(images(&killed, "a").iter().flatten().count() as u64, SEEDS);
}

/// As ext4: the data stays readable, later syncs succeed without writing it.
#[test]
fn a_failed_sync_drops_data() {
    let disk = CrashDisk::new();
    let file = synced(&disk, "a", b"durable");
    file.write_at(b"DROPPED", 0).unwrap();
    file.forget_unsynced();
    file.write_at(b"later", 7).unwrap();
    file.sync().unwrap();
    assert_eq!(content(&disk, "a").unwrap(), b"DROPPEDlater");
    assert!(images(&disk, "a").iter().flatten().all(|image| image == b"durablelater"));
    file.write_at(b"DROPPED", 20).unwrap();
    file.forget_unsynced();
    file.sync().unwrap();
    let expected = [&b"durablelater"[..], &[0; 15]].concat();
    assert!(images(&disk, "a").iter().flatten().all(|image| *image == expected));
}

#[test]
fn the_same_seed_draws_the_same_image() {
    let disk = CrashDisk::new();
    let mut script = Random::new(1);
    for name in ["a", "b", "c"] {
        let file = disk.create(name).unwrap();
        for _ in 0..20 {
            let bytes = vec![script.next() as u8; script.below(3_000)];
            file.write_at(&bytes, script.below(9_000) as u64).unwrap();
        }
    }
    let all = |seed| {
        let image = disk.crash_image(&mut Random::new(seed));
        ["a", "b", "c"].map(|name| content(&image, name))
    };
    assert!((0..20).all(|seed| all(seed) == all(seed)));
    assert!((0..20).any(|seed| all(seed) != all(seed + 1)));
}

#[test]
fn operations_behave_as_those_of_a_real_directory() {
    let disk = CrashDisk::new();
    let file = disk.create("b").unwrap();
    disk.create("a").unwrap();
    assert_eq!(disk.create("a").err().unwrap().kind(), ErrorKind::AlreadyExists);
    assert_eq!(disk.open("c").err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(disk.rename("c", "a").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.remove("c").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.list().unwrap(), ["a", "b"]);
    file.write_at(b"hello", 2).unwrap();
    let mut buffer = [0; 7];
    file.read_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"\0\0hello");
    assert_eq!(file.read_at(&mut buffer, 1).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert!(disk.open("b").unwrap().write_at(b"x", 0).is_err(), "opened for reading");
    // A file without a name lives on for whoever has it open.
    disk.remove("b").unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(file.len().unwrap(), 7);
    drop(file);
    disk.sync_dir().unwrap();
    assert_eq!(lock(&disk.state).inodes.len(), 1, "forgotten");
    disk.set_free_bytes(5);
    assert_eq!(disk.free_bytes().unwrap(), 5);
}

/// What would be undefined behaviour, or the end of the process, with real files.
#[test]
fn broken_rules_of_mappings_panic() {
    fn panics(act: impl FnOnce()) -> bool {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).is_err()
    }
    let disk = CrashDisk::new();
    let file = disk.create("a").unwrap();
    file.set_len(100).unwrap();
    assert!(file.map(101).is_err());
    assert!(panics(|| drop(file.map(100))), "without blocks");
    file.allocate(100).unwrap();
    let mut mapping = file.map(100).unwrap();
    assert!(panics(|| mapping.write(99, b"xx")));
    assert!(panics(|| mapping.write(usize::MAX, b"x")));
    assert!(panics(|| file.set_len(99).unwrap()), "SIGBUS");
    let view = file.view().unwrap();
    assert!(panics(|| mapping.write(0, b"x")), "a view is of what nobody writes any more");
    drop(mapping);
    assert!(panics(|| file.write_at(b"x", 0).unwrap()));
    assert!(panics(|| drop(file.map(100))));
    drop(view);
    file.write_at(b"x", 0).unwrap();
    drop(file);
    let image = disk.kill_image();
    image.open_to_write("a").unwrap().map(100).expect("blocks survive a kill");
}

/// The harness draws images by the ten thousand.
#[test]
fn images_are_cheap() {
    let disk = CrashDisk::new();
    synced(&disk, "snapshot", &[7; 64 << 10]);
    let log = disk.create("log").unwrap();
    log.allocate(64 << 10).unwrap();
    log.sync().unwrap();
    disk.sync_dir().unwrap();
    let mut mapping = log.map(64 << 10).unwrap();
    (0..200).for_each(|index| mapping.write(index * 300, &[index as u8; 300]));
    let mut random = Random::new(0);
    let watch = crate::clock::Stopwatch::start();
    let count = 200;
    for _ in 0..count {
        let image = disk.crash_image(&mut random);
        let shared = content_of(&image, "snapshot");
        assert!(Arc::ptr_eq(&shared, &content_of(&disk, "snapshot")), "not copied");
    }
    let each = watch.elapsed() / count;
    println!("{each:?} for an image");
    assert!(each < std::time::Duration::from_millis(20), "{each:?} for an image");
}

fn content_of(disk: &CrashDisk, name: &str) -> Arc<Vec<u8>> {
    let state = lock(&disk.state);
    Arc::clone(&state.inodes[&state.names[name]].content)
}
