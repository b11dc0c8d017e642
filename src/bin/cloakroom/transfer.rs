//! Sessions on their way from one directory to another, as lines of JSON.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use cloakroom::directory::{Schema, Taken};
use serde::{Deserialize, Serialize};

use super::args::{Export, Import};
use super::dump::write_line;
use super::failure::Failure;
use super::line::Line;
use super::secrets::Secrets;
use super::text;

/// The number of this format.
const FORMAT: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    cloakroom_export: u32,
    schema: String,
    layout: String,
    position: u64,
}

/// How the last line begins.
const FOOT: &str = "{\"cloakroom_export_sessions\"";

/// The last line, without which a file is not whole.
#[derive(Serialize, Deserialize)]
struct Foot {
    cloakroom_export_sessions: u64,
}

pub(crate) fn export(
    args: &Export,
    secrets: &Secrets,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let directory = secrets.directory(&args.dir)?;
    let Schema { number, layout } = directory.schema();
    let position = directory.contents().position;
    let (schema, layout) = (format!("{number:#018x}"), format!("{layout:#018x}"));
    write_line(out, &Head { cloakroom_export: FORMAT, schema, layout, position })?;
    let mut sessions = 0;
    directory.sessions(|session| {
        sessions += 1;
        write_line(out, &Line::exact(&session))
    })?;
    write_line(out, &Foot { cloakroom_export_sessions: sessions })
}

pub(crate) fn import(
    args: &Import,
    secrets: &Secrets,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut lines = Lines::of(match &args.file {
        Some(path) => {
            let file = File::open(path);
            let file = file.map_err(|error| Failure::unopened(path, error))?;
            Box::new(BufReader::with_capacity(1 << 20, file)) as Box<dyn BufRead>
        }
        None => Box::new(std::io::stdin().lock()),
    });
    // Before the directory is taken, or made: what is no export leaves no trace.
    let head = lines.head()?;
    let claim = secrets.claim_new(&args.dir)?;
    let schema = match head {
        Some(schema) => schema,
        None => claim.directory().schema(),
    };
    let taken = if args.replace { Taken::Replace } else { Taken::Refuse };
    let mut imported = 0;
    let saved = claim.import(schema, taken, |import| -> Result<(), Failure> {
        while let Some((line, parsed)) = lines.session()? {
            parsed.session(schema, |session| import.push(session).map_err(Refused::from)).map_err(
                |refused| match refused {
                    Refused::Line(problem) => Failure::Input { line, problem },
                    Refused::Store(error) => Failure::refused(line, error),
                },
            )?;
            imported += 1;
        }
        Ok(())
    })?;
    writeln!(
        out,
        "{imported} sessions imported, {} in the directory now ({})",
        saved.sessions,
        text::bytes(saved.bytes)
    )?;
    Ok(())
}

/// Why a line was not taken.
enum Refused {
    Line(String),
    Store(cloakroom::Error),
}

impl From<String> for Refused {
    fn from(problem: String) -> Refused {
        Refused::Line(problem)
    }
}

impl From<cloakroom::Error> for Refused {
    fn from(error: cloakroom::Error) -> Refused {
        Refused::Store(error)
    }
}

/// The input, line by line.
struct Lines {
    input: Box<dyn BufRead>,
    /// The present line; kept for the next call if `is_kept`.
    text: String,
    is_kept: bool,
    number: u64,
    has_head: bool,
    sessions: u64,
}

impl Lines {
    fn of(input: Box<dyn BufRead>) -> Lines {
        let (text, is_kept, number, has_head, sessions) = (String::new(), false, 0, false, 0);
        Lines { input, text, is_kept, number, has_head, sessions }
    }

    /// Goes to the next line that is not empty; false at the end.
    fn advance(&mut self) -> Result<bool, Failure> {
        while !std::mem::take(&mut self.is_kept) {
            self.text.clear();
            self.number += 1;
            let read = self.input.read_line(&mut self.text);
            if read.map_err(|error| self.problem(error))? == 0 {
                return Ok(false);
            }
            self.is_kept = !self.text.trim().is_empty();
        }
        Ok(true)
    }

    fn problem(&self, problem: impl ToString) -> Failure {
        Failure::Input { line: self.number, problem: problem.to_string() }
    }

    /// The schema that the first line tells, if it tells one.
    fn head(&mut self) -> Result<Option<Schema>, Failure> {
        if !self.advance()? {
            return Err(self.problem("there is nothing"));
        }
        let Ok(head) = serde_json::from_str::<Head>(&self.text) else {
            self.is_kept = true;
            return Ok(None);
        };
        if head.cloakroom_export != FORMAT {
            return Err(self.problem(format_args!(
                "format {} is not known, only {FORMAT}: use a newer cloakroom",
                head.cloakroom_export
            )));
        }
        let number = |text: &str| {
            let digits = text.strip_prefix("0x").unwrap_or_default();
            u64::from_str_radix(digits, 16).map_err(|_| self.problem("no number in hexadecimal"))
        };
        let schema = Schema { number: number(&head.schema)?, layout: number(&head.layout)? };
        self.has_head = true;
        Ok(Some(schema))
    }

    /// The next session with the number of its line; None at the end.
    fn session(&mut self) -> Result<Option<(u64, Line)>, Failure> {
        if !self.advance()? {
            let cut = "it ends without the last line of an export: it was cut off";
            return if self.has_head { Err(self.problem(cut)) } else { Ok(None) };
        }
        if self.has_head
            && self.text.starts_with(FOOT)
            && let Ok(foot) = serde_json::from_str::<Foot>(&self.text)
        {
            if foot.cloakroom_export_sessions != self.sessions {
                let (told, found) = (foot.cloakroom_export_sessions, self.sessions);
                return Err(
                    self.problem(format_args!("{told} sessions were written, {found} came"))
                );
            }
            return match self.advance()? {
                true => Err(self.problem("something comes behind the last line of an export")),
                false => Ok(None),
            };
        }
        let line = serde_json::from_str(&self.text).map_err(|error| self.problem(error))?;
        self.sessions += 1;
        Ok(Some((self.number, line)))
    }
}
