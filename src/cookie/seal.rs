//! Cookie values: any bytes as text, which nobody can change, or also not read.
//!
//! The text is base64url without padding (RFC 4648, section 5), of which only the one canonical
//! spelling is taken, of these bytes:
//!
//! ```text
//! plain     value
//!
//! signed    form = 1 | key id | until | value | mac
//! sealed    form = 2 | key id | nonce | until | value | tag
//!                                       \_ encrypted _/
//! bytes         1        4       24       8       n     32 (mac), 16 (tag)
//!
//! until     seconds since 1970, big endian; all ones: never expires
//! mac       HMAC-SHA-256 over: length of the cookie's name (8, big endian), the name, all bytes
//!           before the mac
//! tag       XChaCha20-Poly1305; associated data: form, key id, the cookie's name
//! ```
//!
//! Form and key id come first and have a fixed length, so that no two (name, value) pairs have the
//! same bytes under a mac or a tag. Signing and sealing have keys of their own. 192 bits of random
//! nonce never repeat; with the 96 bits of AES-GCM a key would be worn out after 2^32 values.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::COOKIE_BYTES_MAX;
use super::error::CookieError;
use super::keys::{Key, KeyId, Keys, fill, hmac};
use crate::clock;
use crate::token::Token;

const SIGNED: u8 = 1;
const SEALED: u8 = 2;
/// Form and key id.
const HEAD_BYTES: usize = 5;
const NONCE_BYTES: usize = 24;
const UNTIL_BYTES: usize = 8;
const MAC_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const NEVER: u64 = u64::MAX;

/// How a cookie's value is written.
///
/// | | who can read it | who can make one | bytes more |
/// |---|---|---|---|
/// | `Plain` | everybody | everybody | 0 |
/// | `Signed` | everybody | who has a key | 45 |
/// | `Sealed` | who has a key | who has a key | 53 |
///
/// As text all of it takes a third more. Signed and sealed values belong to the name of their
/// cookie: under another they are refused. Whoever has copied one can show it again until it
/// expires, so what has to be revoked belongs in the store, and into the cookie only its
/// [`Token`](crate::Token). That is 256 random bits already: plain it is as hard to forge.
///
/// # Examples
/// ```
/// use cloakroom::cookie::{CookieError, Encoding, Keys};
///
/// let sealed = Encoding::Sealed(Keys::generate()?);
/// let text = sealed.seal("cart", b"3 apples")?;
/// assert_eq!(sealed.open("cart", &text)?.value, b"3 apples");
/// assert_eq!(sealed.open("other", &text).unwrap_err(), CookieError::Invalid);
/// # Ok::<(), CookieError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Encoding {
    /// Only text: for what is a secret itself, or none.
    #[default]
    Plain,
    /// With a code that proves who made it: HMAC-SHA-256.
    Signed(Keys),
    /// Encrypted, with such a proof: XChaCha20-Poly1305.
    Sealed(Keys),
}

/// What a value was found to be.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened<T = Vec<u8>> {
    /// The bytes that were sealed, or the token that they are.
    pub value: T,
    /// Whether an older key of the ring made it: send the cookie again, with the newest, before
    /// the old key goes. Never for plain values.
    pub is_old: bool,
}

/// Without the value, which may be a secret.
impl<T> fmt::Debug for Opened<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("is_old", &self.is_old).finish_non_exhaustive()
    }
}

impl Encoding {
    /// The text of a value, for the cookie of this name.
    ///
    /// # Errors
    /// [`CookieError::TooLong`] if the text alone is longer than a cookie may be,
    /// [`CookieError::Random`].
    pub fn seal(&self, name: &str, value: impl AsRef<[u8]>) -> Result<String, CookieError> {
        self.seal_bytes(name, value.as_ref(), NEVER)
    }

    /// The text of a value that is refused from `until` on, by the wall clock of whoever opens it.
    /// `until` is rounded down to the second. A clock that is set back makes it valid again: the
    /// store has deadlines without that flaw.
    ///
    /// # Errors
    /// As [`Encoding::seal`]; and [`CookieError::Option`] where the encoding is `Plain`, whose
    /// expiry everybody could change.
    pub fn seal_until(
        &self,
        name: &str,
        value: impl AsRef<[u8]>,
        until: SystemTime,
    ) -> Result<String, CookieError> {
        if let Encoding::Plain = self {
            let problem = "a plain value cannot expire: everybody could change when";
            return Err(CookieError::option("encoding", problem));
        }
        self.seal_bytes(name, value.as_ref(), seconds(until).min(NEVER - 1))
    }

    fn seal_bytes(&self, name: &str, value: &[u8], until: u64) -> Result<String, CookieError> {
        let more = match self {
            Encoding::Plain => 0,
            Encoding::Signed(_) => HEAD_BYTES + UNTIL_BYTES + MAC_BYTES,
            Encoding::Sealed(_) => HEAD_BYTES + NONCE_BYTES + UNTIL_BYTES + TAG_BYTES,
        };
        let bytes = base64::encoded_len(value.len().saturating_add(more), false);
        let bytes = bytes.unwrap_or(usize::MAX);
        let too_long = CookieError::TooLong { bytes, bytes_max: COOKIE_BYTES_MAX };
        if bytes > COOKIE_BYTES_MAX {
            return Err(too_long);
        }
        match self {
            Encoding::Plain => Ok(URL_SAFE_NO_PAD.encode(value)),
            Encoding::Signed(keys) => {
                let bytes = keys.with_newest(|key| sign(key, name, until, value));
                Ok(URL_SAFE_NO_PAD.encode(bytes))
            }
            Encoding::Sealed(keys) => {
                let mut nonce = [0; NONCE_BYTES];
                fill(&mut nonce)?;
                let bytes = keys.with_newest(|key| encrypt(key, name, &nonce, until, value));
                Ok(URL_SAFE_NO_PAD.encode(bytes.ok_or(too_long)?))
            }
        }
    }

    /// The value of a text that [`seal`](Encoding::seal) made for the cookie of this name.
    ///
    /// # Errors
    /// [`CookieError::Invalid`] for everything else: another name, a key that is not in the ring,
    /// any other text, one that has expired.
    pub fn open(&self, name: &str, text: impl AsRef<[u8]>) -> Result<Opened, CookieError> {
        self.open_with(name, text.as_ref(), clock::system_time)
    }

    /// As [`open`](Encoding::open), at another time than now.
    ///
    /// # Errors
    /// As [`Encoding::open`].
    pub fn open_at(
        &self,
        name: &str,
        text: impl AsRef<[u8]>,
        now: SystemTime,
    ) -> Result<Opened, CookieError> {
        self.open_with(name, text.as_ref(), || now)
    }

    /// The token that a text of the cookie of this name holds. The bytes that it was read from are
    /// overwritten.
    pub(super) fn open_token(&self, name: &str, text: &[u8]) -> Option<Opened<Token>> {
        if let Encoding::Plain = self {
            let token = Token::parse(std::str::from_utf8(text).ok()?).ok()?;
            return Some(Opened { value: token, is_old: false });
        }
        let Opened { value, is_old } = self.open(name, text).ok()?;
        let bytes = Zeroizing::new(value);
        Some(Opened { value: Token::from_secret(bytes.as_slice().try_into().ok()?), is_old })
    }

    fn open_with(
        &self,
        name: &str,
        text: &[u8],
        now: impl FnOnce() -> SystemTime,
    ) -> Result<Opened, CookieError> {
        // What is longer was not made here, and is not worth the work.
        if text.len() > COOKIE_BYTES_MAX {
            return Err(CookieError::Invalid);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CookieError::Invalid)?;
        let mut bytes = match self {
            Encoding::Plain => return Ok(Opened { value: bytes, is_old: false }),
            Encoding::Signed(_) | Encoding::Sealed(_) => Zeroizing::new(bytes),
        };
        let ((until, value), is_old) = self.open_bytes(name, &mut bytes)?;
        if until != NEVER && seconds(now()) >= until {
            return Err(CookieError::Invalid);
        }
        Ok(Opened { value, is_old })
    }

    /// Until when the value is good, with the value; and whether its key is an old one.
    fn open_bytes(
        &self,
        name: &str,
        bytes: &mut [u8],
    ) -> Result<((u64, Vec<u8>), bool), CookieError> {
        let opened = match (self, head(bytes)) {
            (Encoding::Signed(keys), Some((SIGNED, id))) => {
                keys.with(id, |key| verify(key, name, bytes))
            }
            (Encoding::Sealed(keys), Some((SEALED, id))) => {
                keys.with(id, |key| decrypt(key, name, bytes))
            }
            _ => None,
        };
        opened.ok_or(CookieError::Invalid)
    }
}

/// Whole seconds since 1970, zero for what is before.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

fn head(bytes: &[u8]) -> Option<(u8, KeyId)> {
    let (form, rest) = bytes.split_first()?;
    Some((*form, *rest.first_chunk()?))
}

/// Until when, and the value, of what was proved to be ours.
fn body(bytes: &[u8]) -> Option<(u64, Vec<u8>)> {
    let (until, value) = bytes.split_first_chunk::<UNTIL_BYTES>()?;
    Some((u64::from_be_bytes(*until), value.to_vec()))
}

fn sign(key: &Key, name: &str, until: u64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + UNTIL_BYTES + value.len() + MAC_BYTES);
    bytes.push(SIGNED);
    bytes.extend_from_slice(&key.id);
    bytes.extend_from_slice(&until.to_be_bytes());
    bytes.extend_from_slice(value);
    let mac = signature(key, name, &bytes).finalize().into_bytes();
    bytes.extend_from_slice(&mac);
    bytes
}

fn signature(key: &Key, name: &str, signed: &[u8]) -> Hmac<Sha256> {
    hmac(&key.sign)
        .chain_update((name.len() as u64).to_be_bytes())
        .chain_update(name)
        .chain_update(signed)
}

fn verify(key: &Key, name: &str, bytes: &[u8]) -> Option<(u64, Vec<u8>)> {
    let (signed, mac) = bytes.split_last_chunk::<MAC_BYTES>()?;
    // In constant time, which is `verify_slice`'s reason to be there.
    signature(key, name, signed).verify_slice(mac).ok()?;
    body(signed.get(HEAD_BYTES..)?)
}

/// Nothing if the cipher finds the value too long.
fn encrypt(
    key: &Key,
    name: &str,
    nonce: &[u8; NONCE_BYTES],
    until: u64,
    value: &[u8],
) -> Option<Vec<u8>> {
    const CLEAR_BYTES: usize = HEAD_BYTES + NONCE_BYTES;
    // Large enough from the start, so that no copy in clear is left behind by growing.
    let mut bytes = Vec::with_capacity(CLEAR_BYTES + UNTIL_BYTES + value.len() + TAG_BYTES);
    bytes.push(SEALED);
    bytes.extend_from_slice(&key.id);
    let associated = [&bytes, name.as_bytes()].concat();
    bytes.extend_from_slice(nonce);
    bytes.extend_from_slice(&until.to_be_bytes());
    bytes.extend_from_slice(value);
    let secret = bytes.get_mut(CLEAR_BYTES..)?;
    let nonce = XNonce::from(*nonce);
    let tag = cipher(key).encrypt_inout_detached(&nonce, &associated, secret.into()).ok()?;
    bytes.extend_from_slice(&tag);
    Some(bytes)
}

fn decrypt(key: &Key, name: &str, bytes: &mut [u8]) -> Option<(u64, Vec<u8>)> {
    let (head, rest) = bytes.split_first_chunk_mut::<HEAD_BYTES>()?;
    let (nonce, rest) = rest.split_first_chunk_mut::<NONCE_BYTES>()?;
    let (secret, tag) = rest.split_last_chunk_mut::<TAG_BYTES>()?;
    let associated = [&head[..], name.as_bytes()].concat();
    let (nonce, tag) = (XNonce::from(*nonce), (*tag).into());
    // Checks the tag, in constant time, before it decrypts.
    cipher(key).decrypt_inout_detached(&nonce, &associated, (&mut *secret).into(), &tag).ok()?;
    body(secret)
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&key.seal).into())
}
