//! Guards the layout: the table of `docs/architecture.md` against the sources in `src/`.
//!
//! A crate whose files may all reach each other ends up as one large file. So each arrow between
//! two files has to be allowed by the table, each name with a price (system time, raw memory, a
//! runtime) stays in the file that owns it, no file and no function grows past its bound.
//!
//! Nothing here needs the crate: the test reads text, so that it also runs while `src/` does not
//! compile (`tests/run arrows`). It lexes, it does not parse: comments and literals are blanked,
//! `#[cfg(test)]` items too, what is left is a list of words with lines. Macros from outside the
//! crate are therefore not expanded, and an arrow inside of one is seen as it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;

/// Names that one place owns: the words as they stand in code, where they may stand, why.
/// A place is a file, or a folder with its slash; none at all means nowhere.
const OWNED_NAMES: &[(&[&str], &[&str], &str)] = &[
    (&["Instant", "::", "now"], &["clock.rs"], "a test's clock reaches everything"),
    (&["SystemTime", "::", "now"], &["clock.rs"], "a test's clock reaches everything"),
    (&["clock_gettime"], &["clock.rs"], "a test's clock reaches everything"),
    (&["access_unchecked"], &["record.rs"], "rkyv's unsafe calls have one caller"),
    (&["access_unchecked_mut"], &["record.rs"], "rkyv's unsafe calls have one caller"),
    (&["access_pos_unchecked"], &["record.rs"], "rkyv's unsafe calls have one caller"),
    (&["access_pos_unchecked_mut"], &["record.rs"], "rkyv's unsafe calls have one caller"),
    (&["from_bytes_unchecked"], &["record.rs"], "rkyv's unsafe calls have one caller"),
    (&["dashmap"], &["owner.rs"], "the map of owners is replaceable"),
    (&["membarrier"], &["reclaim.rs"], "one file decides who may still see what"),
    (&["crossbeam_epoch"], &[], "there is one collector, ours"),
    (&["memmap2"], &["journal/"], "only the journal maps files"),
    (&["tokio"], &["adapter/"], "the core knows no async runtime"),
];

#[test]
fn arrows_are_in_the_table() {
    let complaints = check_arrows(&sources(), &table());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn table_and_files_agree() {
    let complaints = check_rows(&sources(), &table());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn unsafe_is_where_the_table_says() {
    let complaints = check_unsafe(&sources(), &table());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn owned_names_stay_with_their_owner() {
    let complaints = check_owned_names(&sources());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn files_and_functions_are_short() {
    let complaints = check_lengths(&sources());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn text_is_ascii_and_narrow() {
    let mut complaints = Vec::new();
    for path in files_below(&root(), &mut |dir| !is_foreign(dir)) {
        let bytes = fs::read(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        complaints.extend(check_text(&name, &bytes));
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

// ---- The repository ------------------------------------------------------------------------

fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Build output and dot folders: not ours to check.
fn is_foreign(dir: &Path) -> bool {
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name == "target" || name.starts_with('.')
}

/// The `.rs` files below a folder, sorted.
fn files_below(dir: &Path, enter: &mut dyn FnMut(&Path) -> bool) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut entries: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if enter(&path) {
                files.extend(files_below(&path, enter));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The sources by their path in `src/`.
fn sources() -> BTreeMap<String, Source> {
    let src = root().join("src");
    let named = files_below(&src, &mut |_| true).into_iter().map(|path| {
        let name = path.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
        (name, fs::read_to_string(&path).unwrap())
    });
    named.map(|(name, text)| (name.clone(), Source::new(&name, &text))).collect()
}

fn table() -> BTreeMap<String, Row> {
    parse_table(&fs::read_to_string(root().join("docs/architecture.md")).unwrap())
}

// ---- The table -----------------------------------------------------------------------------

/// What the table says of one file.
struct Row {
    /// None: at the top, whatever the ranks of the others.
    rank: Option<u32>,
    may_import: BTreeSet<String>,
    /// Those that the column marks with "(up)": exceptions, each with its reason in the text.
    upwards: BTreeSet<String>,
    is_unsafe: bool,
}

/// The rows `| file | rank | responsibility | may import | unsafe |` whose file ends in `.rs`.
fn parse_table(text: &str) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [file, rank, _, may_import, is_unsafe] = cells[..] else { continue };
        let Some(file) = file.strip_prefix('`').and_then(|file| file.strip_suffix('`')) else {
            continue;
        };
        if !file.ends_with(".rs") {
            continue;
        }
        let names = || may_import.split(',').map(str::trim).filter(|name| *name != "nothing");
        let row = Row {
            rank: rank.parse().ok(),
            may_import: names().map(|name| name.trim_end_matches(UP).to_owned()).collect(),
            upwards: names().filter_map(|name| name.strip_suffix(UP)).map(str::to_owned).collect(),
            is_unsafe: is_unsafe == "yes",
        };
        assert!(rows.insert(file.to_owned(), row).is_none(), "two rows for {file}");
    }
    rows
}

/// Marks an exception in the column "may import".
const UP: &str = " (up)";

/// A file as the column "may import" names it: `token`, `attributes/value`, `attributes/mod`.
fn short(file: &str) -> &str {
    file.strip_suffix(".rs").unwrap_or(file)
}

/// The module of several files that a file belongs to: `memory` of `memory/page.rs`, and of
/// `memory.rs`. Within one, arrows have no direction.
fn folder(file: &str) -> &str {
    file.split_once('/').map_or(short(file), |(folder, _)| folder)
}

impl Row {
    fn allows(&self, target: &str) -> bool {
        self.may_import.contains("everything")
            || self.may_import.contains(short(target))
            || self.may_import.contains(&format!("{}/*", folder(target)))
    }

    fn is_below(&self, name: &str, target: &str, target_row: Option<&Row>) -> bool {
        folder(name) == folder(target)
            || self.upwards.contains(short(target))
            || target_row.is_none_or(|row| row.rank < self.rank && row.rank.is_some())
            || self.rank.is_none()
    }
}

// ---- The sources ---------------------------------------------------------------------------

/// One file of `src/`, as words.
struct Source {
    /// The module that the file is: `["attributes", "value"]`; the root's is empty.
    module: Vec<String>,
    /// All of its code; without its `#[cfg(test)]` items.
    all: Vec<Word>,
    code: Vec<Word>,
    /// Lines outside `#[cfg(test)]` items.
    line_count: usize,
    /// A test module in a file of its own: part of the file it belongs to.
    is_test: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Word {
    text: String,
    line: usize,
}

impl Source {
    fn new(name: &str, text: &str) -> Source {
        let all = words(&blank(text));
        let tests = test_items(&all);
        let inside = |index: usize| tests.iter().any(|&(from, to)| (from..=to).contains(&index));
        let code = (0..all.len()).filter(|&i| !inside(i)).map(|i| all[i].clone()).collect();
        let test_lines: usize =
            tests.iter().map(|&(from, to)| all[to].line - all[from].line + 1).sum();
        let is_test = name.ends_with("/tests.rs") || name == "tests.rs";
        let mut module: Vec<String> = short(name).split('/').map(str::to_owned).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
            module.pop();
        }
        Source { module, all, code, line_count: text.lines().count() - test_lines, is_test }
    }
}

/// The text with spaces in the place of comments and literals; lines stay where they are.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at).min(bytes.len());
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none begins there.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return rest.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |len| at + len);
    }
    if rest.starts_with(b"/*") {
        let (mut depth, mut len) = (1, 2);
        while depth > 0 && len < rest.len() {
            match &rest[len..] {
                [b'/', b'*', ..] => (depth, len) = (depth + 1, len + 2),
                [b'*', b'/', ..] => (depth, len) = (depth - 1, len + 2),
                _ => len += 1,
            }
        }
        return at + len;
    }
    if is_word_byte(rest[0]) {
        let after_word = at > 0 && is_word_byte(bytes[at - 1]);
        let prefixes = [&b"r"[..], b"br", b"cr"];
        let prefix = prefixes.iter().find(|prefix| rest.starts_with(prefix));
        return prefix.filter(|_| !after_word).map_or(at, |p| raw_end(bytes, at, at + p.len()));
    }
    match rest {
        [b'"', ..] => quoted_end(bytes, at, b'"'),
        [b'\'', b'\\', ..] => quoted_end(bytes, at, b'\''),
        // A character; or, without a quote behind it, a lifetime.
        [b'\'', _, b'\'', ..] => at + 3,
        [b'\'', first, ..] if !first.is_ascii() => quoted_end(bytes, at, b'\''),
        _ => at,
    }
}

/// `from` is behind the prefix of what may be a raw string that begins at `at`.
fn raw_end(bytes: &[u8], at: usize, from: usize) -> usize {
    let hashes = bytes[from..].iter().take_while(|&&byte| byte == b'#').count();
    if bytes.get(from + hashes) != Some(&b'"') {
        return at;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let body = from + hashes + 1;
    let len = bytes[body..].windows(close.len()).position(|window| window == close);
    len.map_or(bytes.len(), |len| body + len + close.len())
}

fn quoted_end(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    end + 1
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Identifiers, numbers, `::`, and every other character by itself.
fn words(blanked: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for (index, line) in blanked.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let len = match first {
                ':' if rest.starts_with("::") => 2,
                _ if first.is_ascii() && is_word_byte(first as u8) => {
                    rest.bytes().take_while(|&byte| is_word_byte(byte)).count()
                }
                _ => first.len_utf8(),
            };
            words.push(Word { text: rest[..len].to_owned(), line: index + 1 });
            rest = rest[len..].trim_start();
        }
    }
    words
}

fn texts(words: &[Word]) -> impl Iterator<Item = &str> {
    words.iter().map(|word| word.text.as_str())
}

fn begins(words: &[Word], with: &[&str]) -> bool {
    words.len() >= with.len() && texts(&words[..with.len()]).eq(with.iter().copied())
}

/// The `#[cfg(test)]` items: first and last word of each.
fn test_items(words: &[Word]) -> Vec<(usize, usize)> {
    let mut items: Vec<(usize, usize)> = Vec::new();
    for from in 0..words.len() {
        let is_test = begins(&words[from..], &["#", "[", "cfg", "(", "test", ")"])
            || begins(&words[from..], &["#", "[", "cfg", "(", "all", "(", "test"]);
        if is_test && items.last().is_none_or(|&(_, to)| to < from) {
            items.push((from, item_end(words, from)));
        }
    }
    items
}

/// The last word of the item whose attributes begin at `from`.
fn item_end(words: &[Word], from: usize) -> usize {
    let mut at = from;
    while begins(&words[at..], &["#", "["]) {
        at = bracket_end(words, at + 1) + 1;
    }
    let mut begin = texts(&words[at..]).take(8).take_while(|&text| !matches!(text, ";" | "{"));
    let is_use = begin.any(|text| text == "use");
    while at < words.len() {
        match words[at].text.as_str() {
            ";" => return at,
            "{" if !is_use => return bracket_end(words, at),
            "(" | "[" | "{" => at = bracket_end(words, at),
            _ => {}
        }
        at += 1;
    }
    words.len() - 1
}

/// The bracket that closes the one at `open`.
fn bracket_end(words: &[Word], open: usize) -> usize {
    let mut depth = 0;
    for (index, word) in words.iter().enumerate().skip(open) {
        match word.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    words.len() - 1
}

// ---- Arrows --------------------------------------------------------------------------------

/// A path into the crate as a file writes it, from the root.
#[derive(Debug, PartialEq)]
struct CratePath {
    segments: Vec<String>,
    line: usize,
}

/// The paths into the crate that stand in a file's code.
fn crate_paths(source: &Source) -> Vec<CratePath> {
    let words = &source.code;
    let children: BTreeSet<&str> = (1..words.len())
        .filter(|&i| words[i - 1].text == "mod" && begins(&words[i + 1..], &[";"]))
        .map(|i| words[i].text.as_str())
        .collect();
    let mut paths = Vec::new();
    // The inline modules around the present word, each with the word that closes it.
    let mut inline: Vec<(&str, usize)> = Vec::new();
    for at in 0..words.len() {
        inline.retain(|&(_, end)| at <= end);
        if begins(&words[at..], &["mod"]) && begins(&words[(at + 2).min(words.len())..], &["{"]) {
            inline.push((&words[at + 1].text, bracket_end(words, at + 2)));
        }
        let is_inner = at > 0 && words[at - 1].text == "::";
        if is_inner || !begins(&words[(at + 1).min(words.len())..], &["::"]) {
            continue;
        }
        let mut base = source.module.clone();
        base.extend(inline.iter().map(|&(name, _)| name.to_owned()));
        match words[at].text.as_str() {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            "self" => {}
            child if inline.is_empty() && children.contains(child) => base.push(child.to_owned()),
            _ => continue,
        }
        path_tree(words, at + 2, base, &mut paths);
    }
    paths
}

/// Follows a path, or the tree of a `use`, whose next segment is at `at`. Returns the word behind.
fn path_tree(words: &[Word], mut at: usize, base: Vec<String>, out: &mut Vec<CratePath>) -> usize {
    let mut segments = base;
    while let Some(word) = words.get(at) {
        match word.text.as_str() {
            "{" => {
                let end = bracket_end(words, at);
                at += 1;
                while at < end {
                    at = path_tree(words, at, segments.clone(), out);
                    // Behind `as name` and the comma.
                    while at < end && words[at].text != "," {
                        at += 1;
                    }
                    at += 1;
                }
                return end + 1;
            }
            "super" => drop(segments.pop()),
            "self" | "*" => {}
            text if is_word_byte(text.as_bytes()[0]) => segments.push(text.to_owned()),
            _ => break,
        }
        at += 1;
        if !begins(&words[at..], &["::"]) {
            break;
        }
        at += 1;
    }
    let line = words.get(at.saturating_sub(1)).map_or(0, |word| word.line);
    out.push(CratePath { segments, line });
    at
}

/// The names that `lib.rs` re-exports, each with the file it comes from.
fn exports(sources: &BTreeMap<String, Source>) -> BTreeMap<String, String> {
    let Some(lib) = sources.get("lib.rs") else { return BTreeMap::new() };
    let paths = crate_paths(lib).into_iter();
    let named = paths.filter_map(|path| {
        let file = file_of(sources, &path.segments)?;
        Some((path.segments.last()?.clone(), file.to_owned()))
    });
    named.collect()
}

/// The file of the innermost module on a path that is a file.
fn file_of<'a>(sources: &'a BTreeMap<String, Source>, path: &[String]) -> Option<&'a str> {
    let holds = |source: &&Source| !source.is_test && path.starts_with(&source.module);
    let files = sources.iter().filter(|(_, source)| holds(source));
    files.max_by_key(|(_, source)| source.module.len()).map(|(name, _)| name.as_str())
}

fn check_arrows(sources: &BTreeMap<String, Source>, table: &BTreeMap<String, Row>) -> Vec<String> {
    let exports = exports(sources);
    let mut complaints = Vec::new();
    for (name, source) in sources.iter().filter(|(_, source)| !source.is_test) {
        let Some(row) = table.get(name) else { continue };
        for CratePath { segments, line } in crate_paths(source) {
            let exported = segments.first().and_then(|first| exports.get(first));
            let target = match file_of(sources, &segments) {
                Some("lib.rs") | None => exported.map_or("lib.rs", String::as_str),
                Some(target) => target,
            };
            let what = if target == name {
                continue;
            } else if !row.allows(target) {
                "which its row in docs/architecture.md does not allow"
            } else if !row.is_below(name, target, table.get(target)) {
                "whose rank in docs/architecture.md is not lower"
            } else {
                continue;
            };
            let path = segments.join("::");
            complaints
                .push(format!("src/{name}:{line}: `crate::{path}` leads to {target}, {what}"));
        }
    }
    complaints
}

fn check_rows(sources: &BTreeMap<String, Source>, table: &BTreeMap<String, Row>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, _) in sources.iter().filter(|(name, s)| !s.is_test && !table.contains_key(*name)) {
        complaints.push(format!("src/{name} has no row in docs/architecture.md"));
    }
    for (name, row) in table {
        if !sources.contains_key(name) {
            complaints.push(format!("docs/architecture.md has a row for {name}, which is no file"));
        }
        for target in row.may_import.iter().filter(|target| *target != "everything") {
            let known = table.keys().any(|file| {
                short(file) == target
                    || target.strip_suffix('*').is_some_and(|folder| file.starts_with(folder))
            });
            if !known {
                complaints.push(format!("the row of {name} may import {target}: no such file"));
            }
        }
    }
    complaints
}

// ---- Words and lengths ---------------------------------------------------------------------

fn check_unsafe(sources: &BTreeMap<String, Source>, table: &BTreeMap<String, Row>) -> Vec<String> {
    let mut complaints = Vec::new();
    let is_unsafe = |words: &[Word]| texts(words).any(|text| text == "unsafe");
    for (name, source) in sources {
        // A test module belongs to the file that declares it.
        let file = name.strip_suffix("/tests.rs").map(|folder| format!("{folder}.rs"));
        let Some(row) = table.get(file.as_ref().unwrap_or(name)) else { continue };
        if is_unsafe(&source.all) && !row.is_unsafe {
            complaints.push(format!("src/{name} says `unsafe`, its row says no"));
        }
        if row.is_unsafe && !source.is_test && !is_unsafe(&source.code) {
            complaints.push(format!("src/{name} is without `unsafe`, its row says yes"));
        }
    }
    complaints
}

fn check_owned_names(sources: &BTreeMap<String, Source>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, source) in sources.iter().filter(|(_, source)| !source.is_test) {
        for &(phrase, owners, reason) in OWNED_NAMES {
            let owned =
                |owner: &str| name == owner || owner.ends_with('/') && name.starts_with(owner);
            if owners.iter().any(|owner| owned(owner)) {
                continue;
            }
            for at in (0..source.code.len()).filter(|&at| begins(&source.code[at..], phrase)) {
                let (line, phrase) = (source.code[at].line, phrase.concat());
                complaints.push(format!("src/{name}:{line}: `{phrase}` is not for here: {reason}"));
            }
        }
    }
    complaints
}

fn check_lengths(sources: &BTreeMap<String, Source>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, source) in sources {
        let lines = source.line_count;
        if !source.is_test && lines > FILE_LINES_MAX {
            complaints.push(format!("src/{name}: {lines} lines without its tests"));
        }
        for at in 1..source.all.len() {
            let word = &source.all[at];
            if source.all[at - 1].text != "fn" || !is_word_byte(word.text.as_bytes()[0]) {
                continue;
            }
            let lines = source.all[item_end(&source.all, at)].line - word.line + 1;
            if lines > FUNCTION_LINES_MAX {
                complaints
                    .push(format!("src/{name}:{}: fn {} has {lines} lines", word.line, word.text));
            }
        }
    }
    complaints
}

fn check_text(name: &str, bytes: &[u8]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if !line.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            complaints.push(format!("{name}:{}: not printable ASCII", index + 1));
        } else if line.len() > COLUMNS_MAX {
            complaints.push(format!("{name}:{}: {} columns", index + 1, line.len()));
        }
    }
    complaints
}

// ---- The checks themselves -----------------------------------------------------------------

fn made_up(files: &[(&str, &str)]) -> BTreeMap<String, Source> {
    files.iter().map(|&(name, text)| (name.to_owned(), Source::new(name, text))).collect()
}

const MADE_UP_TABLE: &str = "
| file | rank | responsibility | may import | unsafe |
|---|---|---|---|---|
| `lib.rs` | - | all of it | everything | no |
| `low.rs` | 0 | a part | nothing | no |
| `high.rs` | 2 | a part | low, bag/* | yes |
| `bag/mod.rs` | 1 | a part | low, bag/* | no |
| `bag/item.rs` | 1 | a part | bag/mod | no |
";

/// Complaints about `text` as the file `name`, among files that say nothing.
fn arrows_of(name: &str, text: &str) -> Vec<String> {
    let mut files = vec![
        ("lib.rs", "mod low; mod high; mod bag; pub use high::{Tall, Wide as Broad};"),
        ("low.rs", ""),
        ("high.rs", ""),
        ("bag/mod.rs", "mod item;"),
        ("bag/item.rs", ""),
    ];
    files.retain(|&(other, _)| other != name);
    files.push((name, text));
    check_arrows(&made_up(&files), &parse_table(MADE_UP_TABLE))
}

#[test]
fn self_test_forbidden_arrows_are_found() {
    for (name, text) in [
        ("low.rs", "use crate::high::Tall;"),
        ("low.rs", "pub(crate) use crate::{\n    bag::{self, item::Item},\n};"),
        ("low.rs", "fn f() -> u32 { crate::high::f::<u32>() }"),
        ("low.rs", "fn f<T: super::high::Tall>() {}"),
        ("low.rs", "mod inner { use super::super::high; }"),
        ("low.rs", "use crate::Tall;"),
        ("low.rs", "use crate::Unheard;"),
        ("low.rs", "use crate::*;"),
        ("low.rs", "const A: char = '\"'; use crate::high; const B: char = '\"';"),
        ("low.rs", "#[cfg(test)] use std::{fmt, io};\nuse crate::high;"),
        ("low.rs", "#[cfg(not(test))] mod real { use crate::high::Tall; }"),
        ("low.rs", "macro_rules! m { () => { $crate::high::f() } }"),
        ("bag/item.rs", "use super::super::high::Tall;"),
        ("bag/item.rs", "use crate::low::Small;"),
        ("high.rs", "use crate::{low, Unheard};"),
    ] {
        assert_eq!(arrows_of(name, text).len().min(1), 1, "not found in {name}: {text}");
    }
}

#[test]
fn self_test_allowed_paths_are_left_alone() {
    for (name, text) in [
        ("low.rs", "use std::fmt; use self::inner::A; mod inner { use super::B; }"),
        ("low.rs", "//! [`crate::high`]\n/* crate::high /* nested */ use crate::bag; */"),
        ("low.rs", "const S: &str = \"use crate::high;\"; const R: &str = r#\"\"crate::high\"#;"),
        ("low.rs", "fn f<'a>(x: &'a str) -> char { '\\'' } pub(super) fn g() {}"),
        ("low.rs", "#[cfg(test)]\n#[allow(unused)]\nmod tests { use crate::high::Tall; }"),
        ("low.rs", "#[cfg(test)]\nuse crate::{high::Tall};\nfn f() {}"),
        ("low.rs", "#[cfg(all(test, unix))]\nfn f(x: [u8; 4]) { crate::high::f() }"),
        ("high.rs", "use crate::low::{self, A as B}; use crate::bag::item::Item;"),
        ("bag/mod.rs", "mod item; pub use item::Item; fn f() { item::f(); super::low::f() }"),
        ("bag/item.rs", "use super::Bag;"),
        ("lib.rs", "mod low; mod high; mod bag; pub use low::A; pub use crate::high::B;"),
    ] {
        assert_eq!(arrows_of(name, text), Vec::<String>::new(), "{name}: {text}");
    }
}

#[test]
fn self_test_arrows_upwards_are_found() {
    let sources = made_up(&[("low.rs", "use crate::high::A;"), ("high.rs", "")]);
    let complaints =
        |cell| check_arrows(&sources, &parse_table(&MADE_UP_TABLE.replace("| nothing |", cell)));
    let found = complaints("| high |");
    assert!(found.len() == 1 && found[0].contains("rank"), "{found:?}");
    assert_eq!(complaints("| high (up) |"), Vec::<String>::new());
}

#[test]
fn self_test_rows_and_files_are_compared() {
    let table = parse_table(MADE_UP_TABLE);
    let complaints = check_rows(&made_up(&[("low.rs", ""), ("odd.rs", "")]), &table);
    assert_eq!(complaints.iter().filter(|text| text.contains("odd.rs has no row")).count(), 1);
    assert_eq!(complaints.iter().filter(|text| text.contains("is no file")).count(), 4);
}

#[test]
fn self_test_unsafe_is_found_both_ways() {
    let table = parse_table(MADE_UP_TABLE);
    let sources = |low, high| made_up(&[("low.rs", low), ("high.rs", high)]);
    let clean = sources("#![deny(unsafe_code)] // unsafe", "unsafe fn f() {}");
    assert_eq!(check_unsafe(&clean, &table), Vec::<String>::new());
    assert_eq!(check_unsafe(&sources("unsafe impl A for B {}", "unsafe {}"), &table).len(), 1);
    assert_eq!(check_unsafe(&sources("", "fn f() {}"), &table).len(), 1);
}

#[test]
fn self_test_owned_names_are_found() {
    for text in [
        "use dashmap::DashMap;",
        "fn f() { std::time::Instant::now(); }",
        "fn f() { time::SystemTime :: now() }",
        "fn f() { rkyv::access_unchecked::<A>(data) }",
        "#[cfg(feature = \"a\")] use tokio::sync;",
    ] {
        assert_eq!(check_owned_names(&made_up(&[("low.rs", text)])).len(), 1, "{text}");
    }
    let fine = [("owner.rs", "use dashmap::A;"), ("adapter/a.rs", "use tokio::A;"), ("b.rs", "f")];
    assert_eq!(check_owned_names(&made_up(&fine)), Vec::<String>::new());
}

#[test]
fn self_test_lengths_and_text_are_measured() {
    let body = |lines: usize| format!("fn f() -> [u8; 4] {{\n{}}}\n", "    g();\n".repeat(lines));
    let lengths = |text: String| check_lengths(&made_up(&[("low.rs", &text)])).len();
    assert_eq!(lengths(body(FUNCTION_LINES_MAX - 2)), 0);
    assert_eq!(lengths(body(FUNCTION_LINES_MAX - 1)), 1);
    assert_eq!(lengths("a();\n".repeat(FILE_LINES_MAX + 1)), 1);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "a();\n".repeat(FILE_LINES_MAX));
    assert_eq!(lengths(tests), 0);
    assert_eq!(check_text("a.rs", "x".repeat(COLUMNS_MAX).as_bytes()).len(), 0);
    assert_eq!(check_text("a.rs", "x".repeat(COLUMNS_MAX + 1).as_bytes()).len(), 1);
    assert_eq!(check_text("a.rs", "// \u{e9}\n\tx".as_bytes()).len(), 2);
}
