//! Ends sessions; compacts the files, or copies them.

use std::collections::HashSet;
use std::io::Write;

use cloakroom::SessionId;
use cloakroom::directory::Directory;

use super::args::{Backup, Compact, End};
use super::failure::Failure;
use super::secrets::Secrets;
use super::text;

pub(crate) fn end(args: &End, secrets: &Secrets, out: &mut impl Write) -> Result<(), Failure> {
    if args.dry_run {
        let ids = chosen(args, &secrets.directory(&args.dir)?)?;
        return Ok(writeln!(out, "{} sessions would be ended", ids.len())?);
    }
    let claim = secrets.claim(&args.dir)?;
    let ids = chosen(args, claim.directory())?;
    let ended = if ids.is_empty() { 0 } else { claim.end(ids)? };
    Ok(writeln!(out, "{ended} sessions ended")?)
}

fn chosen(args: &End, directory: &Directory) -> Result<Vec<SessionId>, Failure> {
    let wanted: HashSet<_> = args.id.iter().copied().collect();
    let before_ms = args.older_than.map_or(u64::MAX, |age| {
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        directory.now_ms().saturating_sub(age_ms)
    });
    let mut ids = Vec::new();
    directory.sessions(|session| {
        let is_chosen = (wanted.is_empty() || wanted.contains(&session.id))
            && args.owner.as_deref().is_none_or(|owner| owner == session.owner)
            && (args.older_than.is_none() || session.created_ms < before_ms);
        if is_chosen {
            ids.push(session.id);
        }
        Ok::<(), Failure>(())
    })?;
    Ok(ids)
}

pub(crate) fn backup(
    args: &Backup,
    secrets: &Secrets,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let directory = secrets.directory(&args.dir)?;
    let saved = directory.backup(&args.target)?;
    writeln!(
        out,
        "{} sessions in {} ({}), as of position {}",
        saved.sessions,
        args.target.display(),
        text::bytes(saved.bytes),
        directory.contents().position
    )?;
    Ok(())
}

pub(crate) fn compact(
    args: &Compact,
    secrets: &Secrets,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let claim = secrets.claim(&args.dir)?;
    let before = claim.directory().contents().bytes;
    let saved = claim.compact()?;
    let after = Directory::read(&args.dir)?.contents().bytes;
    writeln!(
        out,
        "{} sessions in a snapshot of {}; all files: {}, before {}",
        saved.sessions,
        text::bytes(saved.bytes),
        text::bytes(after),
        text::bytes(before)
    )?;
    Ok(())
}
