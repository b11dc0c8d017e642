//! What can go wrong with a cookie. No message holds any part of a value or of a secret.

use std::fmt;

/// Why a cookie could not be made, written or opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CookieError {
    /// An option is out of its bounds, or contradicts another.
    Option {
        /// The method that sets it, or `secrets` for those of [`Keys`](super::Keys).
        option: &'static str,
        /// What is wrong, with the bounds.
        problem: String,
    },
    /// A byte that no cookie value may hold.
    Value {
        /// Where in the value it is.
        index: usize,
    },
    /// Browsers would drop the cookie for its length.
    TooLong {
        /// The bytes that would be sent.
        bytes: usize,
        /// The bytes that may be sent.
        bytes_max: usize,
    },
    /// The value was not made by these keys for this name, was changed, or has expired. Which of
    /// them is not told, so that an answer that depends on it teaches a forger nothing.
    Invalid,
    /// The operating system gave no random bytes.
    Random(String),
}

impl CookieError {
    pub(super) fn option(option: &'static str, problem: impl Into<String>) -> CookieError {
        CookieError::Option { option, problem: problem.into() }
    }
}

impl fmt::Display for CookieError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CookieError::Option { option, problem } => write!(f, "option `{option}`: {problem}"),
            CookieError::Value { index } => write!(
                f,
                "byte {index} of the value may not stand in a cookie (RFC 6265, section 4.1.1): \
                 `seal` takes any bytes"
            ),
            CookieError::TooLong { bytes, bytes_max } => {
                write!(f, "the cookie would have {bytes} bytes, of {bytes_max} that browsers keep")
            }
            CookieError::Invalid => f.write_str("the cookie's value is not valid"),
            CookieError::Random(problem) => {
                write!(f, "the operating system gave no random bytes: {problem}")
            }
        }
    }
}

impl std::error::Error for CookieError {}
