//! The program `cloakroom`: what it prints, what it changes, with which exit code it ends.
//!
//! The texts of `--help` are those in `tests/it/golden`; `CLOAKROOM_GOLDEN=write` writes them anew.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cloakroom::{Attributes, Builder, CreateOptions, Reason, SessionId, Store};
use serde_json::Value as Json;

use crate::support::Directory;

fn small() -> Builder<Attributes> {
    let month = Duration::from_secs(30 * 24 * 3600);
    let builder = Store::builder().segment_bytes(1 << 20).idle_timeout(month);
    builder.anonymous_idle_timeout(month).lifetime(month)
}

fn data(n: i64) -> Attributes {
    Attributes::from([("n", n.into())])
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
    command.args(args).env("COLUMNS", "100").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// What it prints with that exit code; its errors are in the text as well.
fn ends_with(code: i32, args: &[&str]) -> String {
    told(code, args, &run(args))
}

fn told(code: i32, args: &[&str], output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}{errors}");
    assert_eq!(code == 0, errors.is_empty(), "{args:?}: {errors}");
    text + &errors
}

fn lines(text: &str) -> Vec<Json> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A directory with three sessions: of nobody, of alice, of bob.
fn filled(name: &str) -> (Directory, String, [SessionId; 3]) {
    let directory = Directory::new(name);
    let store: Store = small().open(&directory.0).unwrap();
    let nobody = store.create(data(1)).unwrap().id();
    let [alice, bob] = ["alice", "bob"].map(|owner| {
        let options = CreateOptions::new().owner(owner).label("Firefox");
        store.create_with(data(2), options).unwrap().id()
    });
    store.snapshot().unwrap();
    store.update(bob, |s| drop(s.set("n", 3))).unwrap();
    store.close().unwrap();
    let path = directory.0.to_str().unwrap().to_owned();
    (directory, path, [nobody, alice, bob])
}

fn bytes_of(directory: &Directory) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = directory.files("").into_iter();
    files.map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

#[test]
fn help_is_as_written_down() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden");
    let commands =
        ["", "inspect", "verify", "dump", "end", "compact", "backup", "export", "import"];
    for name in commands {
        let args: Vec<&str> = [name, "--help"].into_iter().filter(|arg| !arg.is_empty()).collect();
        let text = ends_with(0, &args);
        let file = golden.join(format!("help{}{name}.txt", if name.is_empty() { "" } else { "-" }));
        if std::env::var_os("CLOAKROOM_GOLDEN").is_some_and(|value| value == "write") {
            std::fs::write(&file, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&file).unwrap(), "{}", file.display());
        assert!(text.contains("xamples:") || name.is_empty(), "{name}: no example");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [
        &["frobnicate"][..],
        &["inspect"],
        &["end", "dir"],
        &["end", "dir", "--all", "--owner", "alice"],
        &["end", "dir", "--older-than", "soon"],
        &["dump", "dir", "--id", "nonsense"],
        &[],
    ] {
        ends_with(2, args);
    }
}

#[test]
fn inspect_counts() {
    let (directory, path, _) = filled("cli-inspect");
    let json: Json = serde_json::from_str(&ends_with(0, &["inspect", &path, "--json"])).unwrap();
    assert_eq!(json["sessions"]["live"], 3);
    assert_eq!(json["sessions"]["authenticated"], 2);
    assert_eq!(json["sessions"]["owners"], 2);
    assert_eq!(json["sessions"]["last_seen"][0]["sessions"], 3);
    assert_eq!((&json["in_use"], &json["attributes"]), (&false.into(), &true.into()));
    assert_eq!(json["snapshot"]["sessions"], 3);
    assert_eq!(json["position"], json["durable"]);
    let listed: u64 = directory.files("").iter().map(|f| f.metadata().unwrap().len()).sum();
    assert_eq!(json["bytes"], listed);
    let text = ends_with(0, &["inspect", &path]);
    for part in ["3: 2 of 2 owners, 1 anonymous", "(Attributes)", "snapshot-", "log-", "In use "] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let store: Store = small().open(&directory.0).unwrap();
    let text = ends_with(0, &["inspect", &path]);
    assert!(text.contains("yes, by a server; this is its state as of position "), "{text}");
    drop(store);
    let text = ends_with(1, &["inspect", &format!("{path}-none")]);
    assert!(text.contains("cannot open") && text.contains("-none"), "{text}");
    assert!(!Path::new(&format!("{path}-none")).exists());
    let foreign = Directory::new("cli-foreign");
    std::fs::create_dir(&foreign.0).unwrap();
    for args in [&["inspect"][..], &["verify"], &["dump"], &["compact"], &["end", "--all"]] {
        let text = ends_with(1, &[args, &[foreign.0.to_str().unwrap()]].concat());
        assert!(text.contains("no files of a store"), "{text}");
    }
    assert!(foreign.files("").is_empty());
}

#[test]
fn verify_tells_damage_by_file_and_offset() {
    let (directory, path, _) = filled("cli-verify");
    assert!(ends_with(0, &["verify", &path]).starts_with("ok: 3 sessions"));
    assert_eq!(ends_with(0, &["verify", &path, "--quiet"]), "");
    for file in directory.files("snapshot-").into_iter().chain(directory.files("log-")) {
        let bytes = std::fs::read(&file).unwrap();
        let is_snapshot = file.to_string_lossy().contains("snapshot-");
        let used = if is_snapshot { bytes.len() } else { 4096 + 100 };
        for at in (0..used).step_by(if is_snapshot { 97 } else { 61 }) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(&file, &changed).unwrap();
            let text = ends_with(1, &["verify", &path]);
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(text.contains(name) && text.contains(": byte "), "at {at}: {text}");
        }
        std::fs::write(&file, &bytes).unwrap();
    }
    // Two at once: both are told.
    for prefix in ["snapshot-", "log-"] {
        let file = directory.files(prefix).remove(0);
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
    }
    let text = ends_with(1, &["verify", &path]);
    assert!(text.contains("2 files are damaged"), "{text}");
    let text = ends_with(1, &["dump", &path]);
    assert!(text.contains("cloakroom verify"), "{text}");
}

#[test]
fn dump_decodes_and_filters() {
    let (_directory, path, [nobody, alice, bob]) = filled("cli-dump");
    let all = lines(&ends_with(0, &["dump", &path]));
    assert_eq!(all.len(), 3);
    let of = |id: SessionId| all.iter().find(|line| line["id"] == id.to_string()).unwrap();
    assert_eq!((&of(nobody)["attributes"]["n"], of(nobody).get("owner")), (&1.into(), None));
    assert_eq!((&of(bob)["attributes"]["n"], &of(bob)["version"]), (&3.into(), &2.into()));
    assert_eq!((&of(bob)["owner"], &of(bob)["label"]), (&"bob".into(), &"Firefox".into()));
    let created = of(bob)["created"].as_str().unwrap();
    assert!(created.starts_with("20") && created.ends_with('Z'), "{created}");
    let owned = lines(&ends_with(0, &["dump", &path, "--owner", "alice", "--unix-ms"]));
    assert_eq!((owned.len(), &owned[0]["id"]), (1, &alice.to_string().into()));
    let (seen, expires) = (owned[0]["seen"].as_u64().unwrap(), owned[0]["expires"].as_u64());
    assert_eq!(expires, Some(seen + 30 * 24 * 3600 * 1000));
    let ids = [nobody, bob].map(|id| id.to_string());
    let by_id = ends_with(0, &["dump", &path, "--id", &ids[0], "--id", &ids[1]]);
    assert_eq!(lines(&by_id).len(), 2);
    assert_eq!(ends_with(0, &["dump", &path, "--owner", "carol"]), "");
}

/// A program that only counts, or that has seen enough, is no reason for an error.
#[test]
fn a_closed_pipe_is_no_error() {
    let directory = Directory::new("cli-pipe");
    let store: Store = small().open(&directory.0).unwrap();
    for n in 0..3000 {
        store.create(data(n)).unwrap();
    }
    store.close().unwrap();
    for name in ["dump", "export", "inspect"] {
        let mut child = command(&[name, directory.0.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut some = [0; 100];
        child.stdout.take().unwrap().read_exact(&mut some).unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{name}: {errors}");
    }
}

#[test]
fn end_ends_what_is_chosen() {
    let (directory, path, [nobody, alice, bob]) = filled("cli-end");
    let before = bytes_of(&directory);
    let dry = ends_with(0, &["end", &path, "--all", "--dry-run"]);
    assert_eq!(dry, "3 sessions would be ended\n");
    assert!(bytes_of(&directory) == before, "a dry run changed files");
    assert_eq!(ends_with(0, &["end", &path, "--owner", "alice"]), "1 sessions ended\n");
    assert_eq!(ends_with(0, &["end", &path, "--owner", "alice"]), "0 sessions ended\n");
    assert_eq!(ends_with(0, &["end", &path, "--older-than", "1h"]), "0 sessions ended\n");
    let both = ["end", &path, "--owner", "alice", "--id", &bob.to_string()];
    assert_eq!(ends_with(0, &both), "0 sessions ended\n");
    assert_eq!(ends_with(0, &["end", &path, "--id", &bob.to_string()]), "1 sessions ended\n");

    let store: Store = small().open(&directory.0).unwrap();
    store.validate();
    assert!(store.peek(alice, |_| ()).is_err() && store.peek(bob, |_| ()).is_err());
    assert!(store.peek(nobody, |_| ()).is_ok());
    for args in [&["end", &path, "--all"][..], &["compact", &path], &["import", &path, "/dev/null"]]
    {
        let text = ends_with(if args[0] == "import" { 1 } else { 3 }, args);
        assert!(args[0] == "import" || text.contains("stop the server first"), "{text}");
    }
    assert_eq!(ends_with(0, &["end", &path, "--all", "--dry-run"]), "1 sessions would be ended\n");
    store.close().unwrap();
    assert_eq!(ends_with(0, &["end", &path, "--older-than", "0s"]), "1 sessions ended\n");
    let store: Store = small().open(&directory.0).unwrap();
    assert_eq!(store.stats().live, 0);
}

/// Sessions of a type that the program does not know can be listed, ended, compacted and moved.
#[test]
fn any_type_of_session_will_do() {
    #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct Cart {
        items: Vec<u32>,
    }
    let (directory, other) = (Directory::new("cli-cart"), Directory::new("cli-cart-copy"));
    let open = |directory: &Directory| -> Store<Cart> {
        Store::builder().schema(7).segment_bytes(1 << 20).open(&directory.0).unwrap()
    };
    let store = open(&directory);
    let ids = [1, 2].map(|n| {
        let options = CreateOptions::new().owner(format!("user-{n}"));
        store.create_with(Cart { items: vec![n; 3] }, options).unwrap().id()
    });
    store.close().unwrap();
    let path = directory.0.to_str().unwrap();
    let dumped = lines(&ends_with(0, &["dump", path]));
    assert!(dumped[0]["data"].is_string() && dumped[0].get("attributes").is_none());
    let json: Json = serde_json::from_str(&ends_with(0, &["inspect", path, "--json"])).unwrap();
    assert_eq!(dumped[0]["schema"], json["schema"]);
    assert_eq!(json["attributes"], false);
    ends_with(0, &["verify", path]);
    assert_eq!(ends_with(0, &["end", path, "--owner", "user-1"]), "1 sessions ended\n");
    assert!(ends_with(0, &["compact", path]).starts_with("1 sessions"));
    let store = open(&directory);
    assert!(store.peek(ids[0], |_| ()).is_err());
    assert_eq!(store.peek(ids[1], |cart| cart.items[2].to_native()), Ok(2));
    store.close().unwrap();

    let exported = run(&["export", path]).stdout;
    let copy = other.0.to_str().unwrap();
    import(0, &["import", copy], &exported);
    assert_eq!(open(&other).peek(ids[1], |cart| cart.items[2].to_native()), Ok(2));
    // Not among sessions of another type.
    let (_attributes, path, _) = filled("cli-cart-attributes");
    let text = import(1, &["import", &path], &exported);
    assert!(text.contains("schema"), "{text}");
}

#[test]
fn a_backup_is_made_beside_the_server() {
    let (directory, path, [_, alice, _]) = filled("cli-backup");
    let copy = Directory::new("cli-backup-copy");
    let to = copy.0.to_str().unwrap();
    let store: Store = small().open(&directory.0).unwrap();
    store.end(alice, Reason::LoggedOut).unwrap();
    assert!(ends_with(0, &["backup", &path, to]).starts_with("2 sessions in "));
    assert!(ends_with(1, &["backup", &path, to]).contains("not empty"));
    let second: Store = small().open(&copy.0).unwrap();
    assert_eq!((second.stats().live, store.stats().live), (2, 2));
}

fn import(code: i32, args: &[&str], input: &[u8]) -> String {
    let mut child = command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input);
    told(code, args, &child.wait_with_output().unwrap())
}

#[test]
fn what_is_exported_is_imported() {
    let (_directory, path, ids) = filled("cli-export");
    let other = Directory::new("cli-export-copy");
    let copy = other.0.to_str().unwrap();
    let exported = String::from_utf8(run(&["export", &path]).stdout).unwrap();
    assert_eq!(exported.lines().count(), 5);
    let sessions = |text: &str| {
        let mut lines: Vec<String> =
            text.lines().filter(|line| line.contains("\"id\"")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let text = import(0, &["import", copy], exported.as_bytes());
    assert!(text.starts_with("3 sessions imported, 3 in the directory"), "{text}");
    let again = String::from_utf8(run(&["export", copy]).stdout).unwrap();
    assert_eq!(sessions(&again), sessions(&exported));
    for file in other.files("") {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let text = import(1, &["import", copy], exported.as_bytes());
    assert!(text.contains("line 2") && text.contains("--replace"), "{text}");
    import(0, &["import", copy, "--replace"], exported.as_bytes());
    let store: Store = small().open(&other.0).unwrap();
    store.validate();
    assert_eq!(store.stats().live, 3);
    assert_eq!(store.get(ids[2]).unwrap().get_i64("n"), Some(3));
    assert_eq!(store.owner_sessions("alice")[0].label.as_deref(), Some("Firefox"));
    store.end(ids[0], Reason::LoggedOut).unwrap();
    store.close().unwrap();
    // What `dump` prints will do as well, into a directory without the session.
    let dumped = run(&["dump", &path, "--id", &ids[0].to_string()]).stdout;
    import(0, &["import", copy], &dumped);
    let store: Store = small().open(&other.0).unwrap();
    assert_eq!(store.get(ids[0]).unwrap().get_i64("n"), Some(1));
}

/// What is no whole export changes nothing, and leaves nothing in a directory that was not there.
#[test]
fn what_is_wrong_is_not_imported() {
    let (directory, path, _) = filled("cli-wrong");
    let other = Directory::new("cli-wrong-copy");
    let exported = String::from_utf8(run(&["export", &path]).stdout).unwrap();
    let all: Vec<&str> = exported.lines().collect();
    let before = lines(&ends_with(0, &["dump", &path]));
    let wrong = [
        (String::new(), "nothing"),
        (all[..4].join("\n"), "cut off"),
        ([all[0], all[1], all[4]].join("\n"), "3 sessions were written, 1 came"),
        (exported.replace("\"version\":2", "\"version\":-2"), "line"),
        (exported.replace("\"cloakroom_export\":1", "\"cloakroom_export\":2"), "newer"),
        (all[1].replace("\"data\":\"", "\"data\":\"!"), "base64"),
        (all[1].replace("\"data\":\"", "\"data\":\"AAAA"), "line 1"),
        (all[1].replace("\"created\":", "\"created\":\"yesterday\",\"x\":"), "line 1"),
        (format!("{exported}{exported}"), "behind the last line"),
        ([all[0], all[1], all[1], all[2], all[4]].join("\n"), "is there already"),
        ("{}\n".to_owned(), "missing field"),
    ];
    for (input, why) in wrong {
        let text = import(1, &["import", other.0.to_str().unwrap()], input.as_bytes());
        assert!(text.contains(why) && text.contains("Nothing was imported"), "{why}: {text}");
        if other.0.exists() {
            let left: Vec<_> = other.files("");
            assert!(left.iter().all(|file| file.ends_with("lock")), "{why}: {left:?}");
        }
        if why != "is there already" {
            import(1, &["import", &path, "--replace"], input.as_bytes());
        }
        assert_eq!(lines(&ends_with(0, &["dump", &path])), before, "{why}");
    }
    assert_eq!(small().open(&directory.0).unwrap().stats().live, 3);
}

/// Without the secrets the program tells what can be told, with them the same as of plain files.
#[test]
fn encrypted_sessions_need_their_secrets() {
    let directory = Directory::new("cli-secrets");
    let secrets = Directory::new("cli-secrets-file");
    std::fs::create_dir(&secrets.0).unwrap();
    let file = |name: &str, text: &str| {
        let path = secrets.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (text, hex) = ("a secret of at least 32 characters", format!("hex:{}", "0a".repeat(32)));
    let good = file("good", &format!("\n{hex}\n{text}\n"));
    let keys = cloakroom::cookie::Keys::new([text]).unwrap();
    let store = small().encryption(keys).open(&directory.0).unwrap();
    let id = store.create_with(data(2), CreateOptions::new().owner("alice")).unwrap().id();
    store.close().unwrap();
    let dir = directory.0.to_str().unwrap();

    let shown = ends_with(0, &["inspect", dir]);
    assert!(shown.contains("1, encrypted: see --secrets"), "{shown}");
    assert!(ends_with(0, &["verify", dir]).starts_with("ok: 1 sessions"));
    for args in [&["dump", dir][..], &["export", dir], &["end", dir, "--all"], &["compact", dir]] {
        let told = ends_with(1, args);
        assert!(told.contains("encrypted") && told.contains("--secrets"), "{args:?}: {told}");
    }
    let line = ends_with(0, &["--secrets", &good, "dump", dir]);
    assert_eq!(lines(&line)[0]["owner"], "alice");
    assert!(ends_with(0, &["verify", dir, "--secrets", &good]).starts_with("ok: 1 sessions"));
    let shown = ends_with(0, &["inspect", dir, "--secrets", &good]);
    assert!(shown.contains("1 of 1 owners") && shown.contains("; encrypted"), "{shown}");

    // To the newest secret; the other one is not needed then.
    ends_with(0, &["compact", dir, "--secrets", &good]);
    let newest = file("newest", &hex);
    assert_eq!(lines(&ends_with(0, &["dump", dir, "--secrets", &newest])).len(), 1);
    let older = file("older", text);
    let told = ends_with(1, &["dump", dir, "--secrets", &older]);
    assert!(told.contains("whose secret is not among those that were given"), "{told}");
    for (bad, problem) in [
        (file("none", "\n\n"), "there is no default secret"),
        (file("short", "short"), "32 to 1024"),
        (file("digits", "hex:0g"), "begins with hex:"),
    ] {
        let told = ends_with(1, &["dump", dir, "--secrets", &bad]);
        assert!(told.contains(problem) && told.contains(&bad), "{told}");
    }
    let ended = ends_with(0, &["end", dir, "--id", &id.to_string(), "--secrets", &newest]);
    assert_eq!(ended, "1 sessions ended\n");
}
