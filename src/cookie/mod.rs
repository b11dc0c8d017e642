//! The session cookie, for any framework or none: header text goes in, header text comes out.
//! Needs the feature `cookie`.
//!
//! ```
//! use cloakroom::cookie::Cookie;
//! use cloakroom::{Attributes, Store};
//!
//! let store: Store = Store::builder().in_memory()?;
//! let cookie = Cookie::builder().build()?;
//!
//! // A response starts a session. It also gets the headers `Cookie::RESPONSE_HEADERS`.
//! let token = store.create(Attributes::new())?;
//! let set_cookie = cookie.set_token(&token)?;
//! assert!(set_cookie.starts_with("__Host-id="));
//! assert!(set_cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"));
//!
//! // The next request brings the cookie.
//! let header = format!("theme=dark; __Host-id={}", token.expose());
//! let presented = cookie.token(&header).ok_or("not logged in")?;
//! assert!(store.get(presented.id()).is_ok());
//!
//! // A response ends it.
//! let set_cookie = cookie.remove();
//! assert!(set_cookie.starts_with("__Host-id=; Path=/; "));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What goes where
//! - [`Cookie`]: name and attributes of one cookie. Writes `Set-Cookie`, finds itself in `Cookie`.
//! - [`CookieOptions`]: its builder. Refuses what browsers would silently drop.
//! - [`Encoding`]: the value: plain, signed or sealed. [`Keys`]: the secrets for the last two.
//! - [`values`]: what a `Cookie` header says to a name, for cookies that others have set.
//!
//! # Which encoding
//! A [`Token`] is unforgeable by itself, so the default is [`Encoding::Plain`]. Signed, a made-up
//! cookie is refused before the store is asked. Sealed, not even the browser's user sees the value.

mod error;
pub(crate) mod keys;
mod options;
mod parse;
mod seal;

pub use error::CookieError;
pub use keys::Keys;
pub use options::{CookieOptions, SameSite};
pub use parse::{Values, values};
pub use seal::{Encoding, Opened};

use std::time::SystemTime;

use crate::token::Token;

/// Browsers keep cookies of so many bytes, name, value and attributes together (RFC 6265, section
/// 6.1), and drop those whose name and value alone have more (RFC 6265bis, section 5.6).
const COOKIE_BYTES_MAX: usize = 4096;

/// One cookie of a server: its name, its attributes, how its value is written.
///
/// # Examples
/// A signed cookie with data of its own, and the other switch that servers need:
/// ```
/// use cloakroom::cookie::{Cookie, Encoding, Keys};
///
/// let is_development = true;
/// let mut options = Cookie::builder().encoding(Encoding::Signed(Keys::generate()?));
/// if is_development {
///     options = options.plain_http();
/// }
/// let cookie = options.build()?;
/// assert_eq!(cookie.name(), "id");
///
/// let set_cookie = cookie.seal("alice")?;
/// let header = set_cookie.split(';').next().unwrap_or_default();   // what a browser sends back
/// let opened = cookie.open([header]).ok_or("no such cookie")?;
/// assert_eq!(opened.value, b"alice");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cookie {
    name: String,
    /// As they follow the value, from `; Path` on.
    attributes: String,
    /// The whole `Set-Cookie` text that removes it.
    removal: String,
    encoding: Encoding,
}

impl Cookie {
    /// How many cookies of its name are looked at in one request: more are not by accident, and
    /// each costs a digest.
    pub const CANDIDATES_MAX: usize = 8;

    /// What a response says besides that sets, removes or depends on the cookie, so that no cache
    /// gives it to somebody else: `Cache-Control: no-store`, `Vary: Cookie`. To be added to what
    /// `Vary` says already.
    pub const RESPONSE_HEADERS: [(&str, &str); 2] =
        [("cache-control", "no-store"), ("vary", "cookie")];

    /// Options with the defaults `__Host-id; Path=/; Secure; HttpOnly; SameSite=Lax`.
    pub fn builder() -> CookieOptions {
        CookieOptions::default()
    }

    /// The name as it is sent.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the value is written.
    pub fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// The `Set-Cookie` text for a value that is cookie text already, as it is.
    ///
    /// Allowed are printable ASCII characters but space, `"`, `,`, `;` and `\` (RFC 6265, section
    /// 4.1.1).
    ///
    /// # Errors
    /// [`CookieError::Value`] for any other character. [`CookieError::TooLong`] if the returned
    /// text would have more than 4096 bytes; all of it counts: name, `=`, value, attributes with
    /// `; ` before each.
    pub fn set(&self, value: &str) -> Result<String, CookieError> {
        if let Some(index) = value.bytes().position(|byte| !is_cookie_octet(byte)) {
            return Err(CookieError::Value { index });
        }
        let bytes = self.name.len() + "=".len() + value.len() + self.attributes.len();
        if bytes > COOKIE_BYTES_MAX {
            return Err(CookieError::TooLong { bytes, bytes_max: COOKIE_BYTES_MAX });
        }
        Ok([&self.name, "=", value, &self.attributes].concat())
    }

    /// The `Set-Cookie` text that removes the cookie: an empty value, the same name, path, domain
    /// and other attributes (or the browser would take it for another cookie, or refuse it),
    /// `Max-Age=0`, an `Expires` that is past.
    pub fn remove(&self) -> String {
        self.removal.clone()
    }

    /// The `Set-Cookie` text for any bytes, written by the cookie's [`Encoding`].
    ///
    /// # Errors
    /// [`CookieError::TooLong`] as in [`Cookie::set`], [`CookieError::Random`].
    pub fn seal(&self, value: impl AsRef<[u8]>) -> Result<String, CookieError> {
        self.set(&self.encoding.seal(&self.name, value)?)
    }

    /// As [`Cookie::seal`], for a value that is refused from `until` on, however long the browser
    /// keeps it: see [`Encoding::seal_until`].
    ///
    /// # Errors
    /// As [`Cookie::seal`]; and [`CookieError::Option`] where the encoding is plain.
    pub fn seal_until(
        &self,
        value: impl AsRef<[u8]>,
        until: SystemTime,
    ) -> Result<String, CookieError> {
        self.set(&self.encoding.seal_until(&self.name, value, until)?)
    }

    /// The `Set-Cookie` text for the token of a session, written by the cookie's [`Encoding`].
    /// Plain, the value is [`Token::expose`].
    ///
    /// # Errors
    /// As [`Cookie::seal`].
    pub fn set_token(&self, token: &Token) -> Result<String, CookieError> {
        self.seal(token.secret())
    }

    /// The value of the first cookie of this name that opens.
    ///
    /// `headers` are all `Cookie` header lines of the request: over HTTP/2 browsers send several
    /// (RFC 9113, section 8.2.3). Of cookies with this name, 8 are looked at; the others, and those
    /// that do not open, are as if they were not there.
    pub fn open<H: AsRef<[u8]>>(&self, headers: impl IntoIterator<Item = H>) -> Option<Opened> {
        self.first(headers, |text| self.encoding.open(&self.name, text).ok())
    }

    /// The token in the first cookie of this name that opens and is a token; [`Opened::is_old`]
    /// tells whether to send it again. `headers` as for [`Cookie::open`].
    pub fn open_token<H: AsRef<[u8]>>(
        &self,
        headers: impl IntoIterator<Item = H>,
    ) -> Option<Opened<Token>> {
        self.first(headers, |text| self.encoding.open_token(&self.name, text))
    }

    /// The token that a `Cookie` header brings: [`Cookie::open_token`] for a single line.
    ///
    /// # Examples
    /// ```
    /// # use cloakroom::{Attributes, Store, cookie::Cookie};
    /// # let store: Store = Store::builder().in_memory()?;
    /// # let token = store.create(Attributes::new())?.expose();
    /// let cookie = Cookie::builder().build()?;
    /// // One that somebody planted does not shut out the real one.
    /// let header = format!("__Host-id=planted; __Host-id={token}");
    /// assert!(cookie.token(&header).is_some());
    /// assert!(cookie.token("__Host-id=planted").is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn token(&self, header: &(impl AsRef<[u8]> + ?Sized)) -> Option<Token> {
        self.open_token([header]).map(|opened| opened.value)
    }

    /// What each cookie of this name holds: a token, or None if it does not open or is none. Of
    /// cookies with this name, 8 are looked at.
    ///
    /// For whoever asks the store which of several leads to a session, or has to know that there
    /// was a cookie and no token.
    ///
    /// # Examples
    /// ```
    /// # use cloakroom::{Attributes, Store, cookie::Cookie};
    /// # let store: Store = Store::builder().in_memory()?;
    /// # let token = store.create(Attributes::new())?.expose();
    /// let cookie = Cookie::builder().build()?;
    /// let header = format!("__Host-id=planted; theme=dark; __Host-id={token}");
    /// let found: Vec<bool> = cookie.tokens([header.as_bytes()]).map(|t| t.is_some()).collect();
    /// assert_eq!(found, [false, true]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tokens<'h>(
        &self,
        headers: impl IntoIterator<Item = &'h [u8]>,
    ) -> impl Iterator<Item = Option<Opened<Token>>> {
        let texts = headers.into_iter().flat_map(|header| values(header, &self.name));
        texts.take(Cookie::CANDIDATES_MAX).map(|text| self.encoding.open_token(&self.name, text))
    }

    /// What `open` makes of the first candidate that it opens.
    fn first<H: AsRef<[u8]>, T>(
        &self,
        headers: impl IntoIterator<Item = H>,
        open: impl Fn(&[u8]) -> Option<Opened<T>>,
    ) -> Option<Opened<T>> {
        let mut left = Cookie::CANDIDATES_MAX;
        for header in headers {
            for text in values(&header, &self.name) {
                left = left.checked_sub(1)?;
                if let Some(opened) = open(text) {
                    return Some(opened);
                }
            }
        }
        None
    }
}

/// RFC 6265, section 4.1.1.
fn is_cookie_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}
