//! A cookie's value in the form of Rails: encrypted and authentic, by AES-256-GCM.
//!
//! ```text
//! text   base64(data) "--" base64(iv) "--" base64(tag), url-encoded
//! ```
//! `cloakroom::cookie` seals in a form of its own, shorter, with a ring of keys; this one is for
//! those who have to read what Rails reads.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const IV_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// What `CGI.escape` leaves as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// The key of one cookie.
#[derive(Clone)]
pub(crate) struct Sealer {
    name: &'static str,
    cipher: Aes256Gcm,
}

impl Sealer {
    /// A random key, which ends with the process, as the sessions do.
    pub(crate) fn generate(name: &'static str) -> Result<Sealer, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Sealer { name, cipher: Aes256Gcm::new((&key).into()) })
    }

    pub(crate) fn seal(&self, value: &str) -> Option<String> {
        let mut iv = [0; IV_BYTES];
        getrandom::fill(&mut iv).ok()?;
        let payload = Payload { msg: value.as_bytes(), aad: self.name.as_bytes() };
        let mut data = self.cipher.encrypt((&iv).into(), payload).ok()?;
        let tag = data.split_off(data.len().checked_sub(TAG_BYTES)?);
        let parts = [data.as_slice(), &iv, &tag].map(|part| STANDARD.encode(part));
        Some(utf8_percent_encode(&parts.join("--"), ESCAPED).to_string())
    }

    /// The value, if it was sealed by this key for this cookie, and nothing has changed it.
    pub(crate) fn open(&self, text: &str) -> Option<String> {
        let text = percent_decode_str(text).decode_utf8().ok()?;
        let parts: Vec<Vec<u8>> =
            text.split("--").map(|part| STANDARD.decode(part).ok()).collect::<Option<_>>()?;
        let [data, iv, tag] = <[Vec<u8>; 3]>::try_from(parts).ok()?;
        let iv: [u8; IV_BYTES] = iv.try_into().ok()?;
        if tag.len() != TAG_BYTES {
            return None;
        }
        let sealed = [data, tag].concat();
        let payload = Payload { msg: &sealed, aad: self.name.as_bytes() };
        String::from_utf8(self.cipher.decrypt((&iv).into(), payload).ok()?).ok()
    }
}
