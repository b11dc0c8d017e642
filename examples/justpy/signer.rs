//! Signatures as the Python package itsdangerous makes them, with its defaults.
//!
//! ```text
//! key    SHA-1("itsdangerous.Signer" "signer" SECRET)
//! text   VALUE "." base64url(HMAC-SHA-1(key, VALUE)), without padding
//! ```
//! SHA-1 is broken for collisions, not for HMAC; new applications have `cloakroom::cookie`, which
//! signs with HMAC-SHA-256 and binds the cookie's name.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::{Digest as _, Sha1};

/// The newest key signs, all of them verify.
#[derive(Clone)]
pub(crate) struct Signer {
    keys: Vec<[u8; 20]>,
}

/// A value whose signature is right.
#[derive(Debug, PartialEq)]
pub(crate) struct Unsigned<'t> {
    pub(crate) value: &'t str,
    /// An old key made the signature.
    pub(crate) is_old: bool,
}

impl Signer {
    /// Of these secrets, the newest first.
    pub(crate) fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Signer {
        let key = |secret: S| {
            Sha1::new()
                .chain_update(b"itsdangerous.Signer")
                .chain_update(b"signer")
                .chain_update(secret)
                .finalize()
                .into()
        };
        Signer { keys: secrets.into_iter().map(key).collect() }
    }

    fn mac(key: &[u8; 20], value: &str) -> Hmac<Sha1> {
        // A block of SHA-1, which HMAC fills up with zeros.
        let mut block = [0; 64];
        block[..20].copy_from_slice(key);
        Hmac::new((&block).into()).chain_update(value.as_bytes())
    }

    /// The value with its signature, by the newest key.
    pub(crate) fn sign(&self, value: &str) -> Option<String> {
        let mac = Signer::mac(self.keys.first()?, value).finalize().into_bytes();
        Some(format!("{value}.{}", URL_SAFE_NO_PAD.encode(mac)))
    }

    /// The value, if a key of ours signed it. Compares in constant time.
    pub(crate) fn unsign<'t>(&self, text: &'t str) -> Option<Unsigned<'t>> {
        let (value, signature) = text.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let is_of = |key| Signer::mac(key, value).verify_slice(&signature).is_ok();
        let index = self.keys.iter().position(is_of)?;
        Some(Unsigned { value, is_old: index > 0 })
    }
}
