//! Shows what a directory holds.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write;
use std::time::Duration;

use cloakroom::directory::{Contents, Directory, StoredSession};
use serde::Serialize;

use super::args::Inspect;
use super::dump::write_line;
use super::failure::Failure;
use super::secrets::Secrets;
use super::text::{self, Align};

/// Bounds of the classes by the time since a session was seen or created, in seconds.
const AGES: [u64; 7] = [60, 600, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600, 30 * 24 * 3600];
/// Bounds of the classes by the bytes of a session's data.
const SIZES: [u64; 7] = [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 1 << 20];

/// What the sessions are like.
#[derive(Default, Serialize)]
struct Sessions {
    live: u64,
    authenticated: u64,
    owners: u64,
    data_bytes: u64,
    data_bytes_max: u64,
    oldest_created_ms: Option<u64>,
    latest_seen_ms: Option<u64>,
    last_seen: Vec<Class>,
    created: Vec<Class>,
    data: Vec<Class>,
}

/// How many are below a bound, and not below the one before; the last has none.
#[derive(Serialize)]
struct Class {
    below: Option<u64>,
    sessions: u64,
}

/// All of it, for `--json`.
#[derive(Serialize)]
struct Report<'a> {
    directory: &'a std::path::Path,
    in_use: bool,
    schema: String,
    attributes: bool,
    encrypted: bool,
    now_ms: u64,
    sessions: &'a Sessions,
    #[serde(flatten)]
    contents: &'a Contents,
}

pub(crate) fn run(args: &Inspect, secrets: &Secrets, out: &mut impl Write) -> Result<(), Failure> {
    let directory = secrets.directory(&args.dir)?;
    let is_closed = directory.is_encrypted() && !secrets.are_given();
    let contents = directory.contents();
    let sessions = match is_closed {
        true => Sessions { live: directory.count()?, ..Sessions::default() },
        false => Sessions::of(&directory)?,
    };
    if args.json {
        let schema = directory.schema();
        let report = Report {
            directory: &args.dir,
            in_use: directory.is_in_use(),
            attributes: schema.attributes().is_some(),
            encrypted: directory.is_encrypted(),
            schema: format!("{:#018x}", schema.number),
            now_ms: directory.now_ms(),
            sessions: &sessions,
            contents: &contents,
        };
        return write_line(out, &report);
    }
    let held = match is_closed {
        true => vec![("Sessions", format!("{}, encrypted: see --secrets", sessions.live))],
        false => held(&directory, &sessions),
    };
    let summary = summary(args, &directory, &contents, held);
    text::table(out, &[Align::Left, Align::Left], &summary)?;
    writeln!(out)?;
    write_files(out, &contents)?;
    if is_closed {
        return Ok(());
    }
    writeln!(out)?;
    write_classes(out, &sessions)
}

fn classes(bounds: &[u64]) -> Vec<Class> {
    let bounds = bounds.iter().copied().map(Some).chain([None]);
    bounds.map(|below| Class { below, sessions: 0 }).collect()
}

fn count(classes: &mut [Class], value: u64) {
    let class = classes.iter_mut().find(|class| class.below.is_none_or(|below| value < below));
    if let Some(class) = class {
        class.sessions += 1;
    }
}

impl Sessions {
    fn of(directory: &Directory) -> Result<Sessions, Failure> {
        let now_ms = directory.now_ms();
        let mut sessions = Sessions {
            last_seen: classes(&AGES),
            created: classes(&AGES),
            data: classes(&SIZES),
            ..Sessions::default()
        };
        // Names may be long, and there may be many: a hash of each does.
        let (hasher, mut owners) = (RandomState::new(), HashSet::new());
        directory.sessions(|session| {
            sessions.add(&session, now_ms);
            if !session.owner.is_empty() {
                owners.insert(hasher.hash_one(session.owner));
            }
            Ok::<(), Failure>(())
        })?;
        sessions.owners = owners.len() as u64;
        Ok(sessions)
    }

    fn add(&mut self, session: &StoredSession<'_>, now_ms: u64) {
        let bytes = session.data.len() as u64;
        self.live += 1;
        self.authenticated += u64::from(!session.owner.is_empty());
        self.data_bytes += bytes;
        self.data_bytes_max = self.data_bytes_max.max(bytes);
        let oldest = self.oldest_created_ms.unwrap_or(u64::MAX).min(session.created_ms);
        self.oldest_created_ms = Some(oldest);
        self.latest_seen_ms = self.latest_seen_ms.max(Some(session.seen_ms));
        count(&mut self.last_seen, now_ms.saturating_sub(session.seen_ms) / 1000);
        count(&mut self.created, now_ms.saturating_sub(session.created_ms) / 1000);
        count(&mut self.data, bytes);
    }
}

/// What the sessions are, once they can be read.
fn held(directory: &Directory, sessions: &Sessions) -> Vec<(&'static str, String)> {
    let anonymous = sessions.live - sessions.authenticated;
    let mean = sessions.data_bytes.checked_div(sessions.live).unwrap_or(0);
    let count = format!(
        "{}: {} of {} owners, {anonymous} anonymous{}",
        sessions.live,
        sessions.authenticated,
        sessions.owners,
        if directory.is_encrypted() { "; encrypted" } else { "" }
    );
    let (bytes, max) = (text::bytes(sessions.data_bytes), text::bytes(sessions.data_bytes_max));
    vec![("Sessions", count), ("Data", format!("{bytes}, {mean} B each, {max} the largest"))]
}

fn summary(
    args: &Inspect,
    directory: &Directory,
    contents: &Contents,
    held: Vec<(&str, String)>,
) -> Vec<Vec<String>> {
    let position = contents.position;
    let in_use = match directory.is_in_use() {
        true => format!("yes, by a server; this is its state as of position {position}"),
        false => "no".to_owned(),
    };
    let free = contents
        .free_bytes
        .map_or(String::new(), |free| format!(", {} free on the disk", text::bytes(free)));
    let files =
        contents.segments.len() + contents.others.len() + usize::from(contents.snapshot.is_some());
    let mut rows = vec![
        ("Directory", args.dir.display().to_string()),
        ("In use", in_use),
        ("Store", format!("{}, opening {}", contents.store.unwrap_or_default(), contents.epoch)),
    ];
    rows.extend(held);
    rows.extend([
        ("Schema", directory.schema().to_string()),
        ("Position", format!("{position}, known durable up to {}", contents.durable)),
        ("Latest time", text::moment(contents.latest_ms)),
        ("Torn tail", text::bytes(contents.torn_bytes)),
        ("Disk", format!("{} in {files} files{free}", text::bytes(contents.bytes))),
    ]);
    rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

fn write_files(out: &mut impl Write, contents: &Contents) -> Result<(), Failure> {
    let row = |cells: [String; 4]| cells.to_vec();
    let mut rows = vec![row(["FILE", "SIZE", "USED", "HOLDS"].map(str::to_owned))];
    rows.extend(contents.snapshot.iter().map(|snapshot| {
        let holds = format!(
            "{} sessions ({} with an owner), begun {}, log needed from {}",
            snapshot.sessions,
            snapshot.owned,
            text::moment(snapshot.begun_ms),
            snapshot.position
        );
        let bytes = text::bytes(snapshot.bytes);
        row([snapshot.name.clone(), bytes.clone(), bytes, holds])
    }));
    rows.extend(contents.segments.iter().map(|segment| {
        let (bytes, used) = (text::bytes(segment.bytes), text::bytes(segment.used_bytes));
        let holds = format!("positions {} to {}", segment.first, segment.last);
        row([segment.name.clone(), bytes, used, holds])
    }));
    rows.extend(contents.others.iter().map(|other| {
        let holds = "nothing that counts: prepared, or to be removed by the next opening";
        row([other.name.clone(), text::bytes(other.bytes), text::bytes(0), holds.to_owned()])
    }));
    Ok(text::table(out, &[Align::Left, Align::Right, Align::Right, Align::Left], &rows)?)
}

fn write_classes(out: &mut impl Write, sessions: &Sessions) -> Result<(), Failure> {
    let age = |class: &Class, last: u64| match class.below {
        Some(secs) => format!("below {}", text::duration(Duration::from_secs(secs))),
        None => format!("{} or more", text::duration(Duration::from_secs(last))),
    };
    let size = |class: &Class| match class.below {
        Some(below) => format!("below {}", text::bytes(below)),
        None => format!("{} or more", text::bytes(SIZES[SIZES.len() - 1])),
    };
    let head = ["AGE", "LAST SEEN", "CREATED", "", "DATA", "SESSIONS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let pairs = sessions.last_seen.iter().zip(&sessions.created).zip(&sessions.data);
    rows.extend(pairs.map(|((seen, created), data)| {
        vec![
            age(seen, AGES[AGES.len() - 1]),
            seen.sessions.to_string(),
            created.sessions.to_string(),
            String::new(),
            size(data),
            data.sessions.to_string(),
        ]
    }));
    let align = [Align::Left, Align::Right, Align::Right, Align::Left, Align::Left, Align::Right];
    Ok(text::table(out, &align, &rows)?)
}
