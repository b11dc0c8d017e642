//! The secrets of an encrypted directory, and directories that are opened with them.

use std::path::{Path, PathBuf};

use cloakroom::cookie::Keys;
use cloakroom::directory::{Claim, Directory, Verdict};

use super::failure::Failure;

/// What `--secrets` named, if it was given.
pub(crate) struct Secrets(Option<Keys>);

impl Secrets {
    pub(crate) fn read(path: Option<&PathBuf>) -> Result<Secrets, Failure> {
        let Some(path) = path else { return Ok(Secrets(None)) };
        let text = std::fs::read(path).map_err(|error| Failure::unopened(path, error))?;
        let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        let secrets = lines.filter(|line| !line.is_empty()).map(|line| {
            let Some(digits) = line.strip_prefix(b"hex:") else { return Ok(line.to_vec()) };
            from_hex(digits).ok_or_else(|| {
                let problem = "a line that begins with hex: has something else behind it";
                Failure::Secrets { file: path.clone(), problem: problem.to_owned() }
            })
        });
        let keys = Keys::new(secrets.collect::<Result<Vec<_>, _>>()?);
        let refused = |problem: String| Failure::Secrets { file: path.clone(), problem };
        Ok(Secrets(Some(keys.map_err(|error| refused(error.to_string()))?)))
    }

    pub(crate) fn are_given(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn directory(&self, path: &Path) -> Result<Directory, Failure> {
        let directory = Directory::read(path)?;
        Ok(match &self.0 {
            Some(keys) => directory.keys(keys.clone())?,
            None => directory,
        })
    }

    pub(crate) fn claim(&self, path: &Path) -> Result<Claim, Failure> {
        self.with(Claim::open(path)?)
    }

    /// Of a directory that may be empty: what is written there is encrypted then.
    pub(crate) fn claim_new(&self, path: &Path) -> Result<Claim, Failure> {
        self.with(Claim::create(path)?)
    }

    fn with(&self, claim: Claim) -> Result<Claim, Failure> {
        Ok(match &self.0 {
            Some(keys) => claim.keys(keys.clone())?,
            None => claim,
        })
    }

    pub(crate) fn verify(
        &self,
        path: &Path,
        progress: impl FnMut(u64, u64),
    ) -> Result<Verdict, Failure> {
        Ok(match &self.0 {
            Some(keys) => Directory::verify_with(path, keys.clone(), progress)?,
            None => Directory::verify(path, progress)?,
        })
    }
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = digits.chunks(2).map(|pair| match *pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    });
    pairs.collect()
}
