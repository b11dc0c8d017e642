//! Prints sessions.

use std::collections::HashSet;
use std::io::Write;

use super::args::Dump;
use super::failure::Failure;
use super::line::{Line, Times};
use super::secrets::Secrets;

pub(crate) fn run(args: &Dump, secrets: &Secrets, out: &mut impl Write) -> Result<(), Failure> {
    let directory = secrets.directory(&args.dir)?;
    let schema = directory.schema();
    let times = if args.unix_ms { Times::UnixMs } else { Times::Rfc3339 };
    let ids: HashSet<_> = args.id.iter().copied().collect();
    directory.sessions(|session| {
        let is_wanted = (ids.is_empty() || ids.contains(&session.id))
            && args.owner.as_deref().is_none_or(|owner| owner == session.owner);
        if is_wanted {
            write_line(out, &Line::decoded(&session, schema, times))?;
        }
        Ok(())
    })
}

/// Prints one line of JSON.
pub(crate) fn write_line(
    out: &mut impl Write,
    line: &impl serde::Serialize,
) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, line).map_err(std::io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}
