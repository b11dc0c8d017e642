//! Why the program failed, with its exit code.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use cloakroom::Error;

/// Why the program failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Store(Error),
    /// What it printed could not be written.
    Output(io::Error),
    /// What it read from elsewhere is not what it should be.
    Input {
        line: u64,
        problem: String,
    },
    /// The secrets are not what they should be.
    Secrets {
        file: PathBuf,
        problem: String,
    },
    /// Files are damaged, as was printed.
    Damage {
        files: usize,
    },
}

impl Failure {
    /// What an import makes of an error: whether the line is to blame.
    pub(crate) fn refused(line: u64, error: Error) -> Failure {
        match error {
            Error::IdTaken(id) => Failure::Input {
                line,
                problem: format!("a session with the id {id} is there already (see --replace)"),
            },
            Error::InvalidText { .. } | Error::TooLarge { .. } | Error::Encode(_) => {
                Failure::Input { line, problem: error.to_string() }
            }
            error => Failure::Store(error),
        }
    }

    /// A file that was named could not be opened.
    pub(crate) fn unopened(path: &Path, error: io::Error) -> Failure {
        Failure::Store(Error::Files { file: path.to_owned(), doing: "open", error })
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Store(Error::Locked { .. }) => 3,
            _ => 1,
        }
    }

    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Store(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The library's texts name its options; here there are none.
            Failure::Store(Error::Locked { directory }) => write!(
                f,
                "{} is used by a server, which alone may change it: stop the server first",
                directory.display()
            ),
            Failure::Store(Error::Damaged { file, offset, problem }) => write!(
                f,
                "{} is damaged at byte {offset}: {problem}. Nothing was changed; see all damage \
                 with `cloakroom verify`, then restore a copy",
                file.display()
            ),
            Failure::Store(error) => error.fmt(f),
            Failure::Output(error) => write!(f, "cannot print: {error}"),
            Failure::Input { line, problem } => {
                write!(f, "line {line} of the input: {problem}. Nothing was imported")
            }
            Failure::Secrets { file, problem } => {
                write!(f, "the secrets in {}: {problem}", file.display())
            }
            Failure::Damage { files: 1 } => f.write_str("1 file is damaged: restore a copy"),
            Failure::Damage { files } => write!(f, "{files} files are damaged: restore a copy"),
        }
    }
}
