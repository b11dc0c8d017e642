//! Proof that a form or a script of one's own sent a request, and no page of another site.
//!
//! ```text
//! proof   HMAC-SHA-256, key: the text of the session's token, message: "cloakroom csrf 1"
//! text    base64url, without padding, of: mask (32 random bytes) | proof xor mask
//! ```
//! Whoever can compute the proof knows the session's token. The mask differs in each response, so
//! that compressing it beside what an attacker chose tells nothing of the proof (BREACH).

use std::marker::PhantomData;
use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::error::{Error, Result};
use super::session::Session;
use crate::{Attributes, SessionData, Token};

/// The request header with the CSRF token, for scripts.
pub const CSRF_HEADER: &str = "x-csrf-token";
/// The form field with the CSRF token.
pub const CSRF_FIELD: &str = "csrf_token";

const PURPOSE: &[u8] = b"cloakroom csrf 1";
const PROOF_BYTES: usize = 32;
/// 64 bytes in base64.
const TEXT_LEN: usize = 86;
/// The block of SHA-256, to which HMAC fills up a key with zeros.
const BLOCK_BYTES: usize = 64;

fn proof(token: &Token) -> Hmac<Sha256> {
    const { assert!(Token::TEXT_LEN <= BLOCK_BYTES) };
    let text = Zeroizing::new(token.expose());
    let mut key = Zeroizing::new([0; BLOCK_BYTES]);
    key[..Token::TEXT_LEN].copy_from_slice(text.as_bytes());
    Hmac::new((&*key).into()).chain_update(PURPOSE)
}

fn masked(token: &Token) -> Result<String> {
    let mut bytes = [0; 2 * PROOF_BYTES];
    let (mask, rest) = bytes.split_at_mut(PROOF_BYTES);
    getrandom::fill(mask).map_err(|error| crate::Error::Random(error.to_string()))?;
    let proof = proof(token).finalize().into_bytes();
    for ((to, mask), proof) in rest.iter_mut().zip(mask).zip(proof) {
        *to = *mask ^ proof;
    }
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// In a time that does not depend on how much of it is right.
fn is_masked(text: &str, token: &Token) -> bool {
    let mut bytes = [0; 2 * PROOF_BYTES];
    if text.len() != TEXT_LEN || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).is_err() {
        return false;
    }
    let (mask, rest) = bytes.split_at(PROOF_BYTES);
    let mut shown = [0; PROOF_BYTES];
    for ((to, mask), byte) in shown.iter_mut().zip(mask).zip(rest) {
        *to = mask ^ byte;
    }
    proof(token).verify_slice(&shown).is_ok()
}

impl<S: SessionData> Session<S> {
    /// A text for a hidden form field named [`CSRF_FIELD`], or for a script to send as the header
    /// [`CSRF_HEADER`]. It differs each time. If there is no session, one begins.
    ///
    /// It is good for as long as the session has its token: a login, a `rotate`, a renewal make
    /// the pages before them invalid. (OWASP CSRF Prevention Cheat Sheet, "synchronizer token";
    /// NIST SP 800-63B-4, 5.1.)
    ///
    /// # Errors
    /// As [`update`](Session::update); [`Error::Store`] without random bytes.
    pub fn csrf_token(&self) -> Result<String>
    where
        S: Default,
    {
        self.exchange.begin(|_| ())?;
        // Rather than at the end, when the page holds what belongs to the token before.
        self.exchange.renew_if_due();
        self.exchange.with_token(masked).ok_or_else(|| Error::NotLoggedIn(self.missing()))?
    }

    /// Whether the request carries the session's CSRF token. [`Checked`] does it for forms and
    /// scripts.
    ///
    /// A request with a [bearer token](super::Sessions::bearer) needs none: no page of another site
    /// can make a browser send one.
    ///
    /// # Errors
    /// [`Error::Forged`] (403) for any other text, and where there is no session.
    pub fn check_csrf(&self, text: &str) -> Result<()> {
        let is_live = self.is_live();
        let is_good = || self.exchange.any_token(|token| is_masked(text, token));
        if is_live && (self.exchange.is_bearer() || is_good()) {
            Ok(())
        } else {
            Err(Error::Forged)
        }
    }

    /// As [`check_csrf`](Session::check_csrf), of a text that may be missing.
    pub(crate) fn check_shown(&self, text: Option<&str>) -> Result<()> {
        self.check_csrf(text.unwrap_or_default())
    }

    /// Whether [`check_csrf`](Session::check_csrf) takes any text.
    pub(crate) fn needs_no_csrf_token(&self) -> bool {
        self.exchange.is_bearer()
    }
}

/// Whether a body with this `Content-Type` is a form whose fields can be looked for.
pub(crate) fn is_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The CSRF token in the body of a form.
pub(crate) fn in_form(body: &[u8]) -> Option<String> {
    let mut fields = form_urlencoded::parse(body);
    fields.find(|(name, _)| name == CSRF_FIELD).map(|(_, value)| value.into_owned())
}

/// An argument of a handler whose request carried the session's CSRF token: as the header
/// [`CSRF_HEADER`], or as the field [`CSRF_FIELD`] of a form. Other requests are answered by 403.
///
/// `T` is whatever else the handler takes of the request, by which the body is read, too: the
/// framework's `Form<..>` or `Json<..>`, or `String` where there is nothing else. A body that is no
/// urlencoded form is not looked into: then the header is needed. `S` is the type of the session's
/// data. The token in an address is not accepted: addresses are logged, and sent to other sites.
///
/// # Examples
/// ```
/// # #[cfg(feature = "axum-08")] {
/// use axum::Form;
/// use cloakroom::web::{self, Checked, Session};
///
/// async fn comment(
///     session: Session,
///     Checked(Form(fields), _): Checked<Form<Vec<(String, String)>>>,
/// ) -> web::Result<&'static str> {
///     session.set("comments", fields.len())?;
///     Ok("thank you")
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Checked<T, S = Attributes>(
    /// The rest of the request.
    pub T,
    /// Which sessions it is about.
    pub PhantomData<fn() -> S>,
);

impl<T, S> Checked<T, S> {
    pub(crate) fn new(rest: T) -> Checked<T, S> {
        Checked(rest, PhantomData)
    }
}

impl<T, S> Deref for Checked<T, S> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token {
        Token::parse(&text.repeat(Token::TEXT_LEN)[..Token::TEXT_LEN]).unwrap()
    }

    #[test]
    fn texts_differ_and_all_are_of_their_token() {
        let (mine, other) = (token("A"), token("Q"));
        let texts: Vec<String> = (0..100).map(|_| masked(&mine).unwrap()).collect();
        assert!(texts.iter().all(|text| text.len() == TEXT_LEN && is_masked(text, &mine)));
        assert!(!texts.iter().any(|text| is_masked(text, &other)));
        let mut beginnings: Vec<&str> = texts.iter().map(|text| &text[..8]).collect();
        let mut ends: Vec<&str> = texts.iter().map(|text| &text[78..]).collect();
        for parts in [&mut beginnings, &mut ends] {
            parts.sort_unstable();
            parts.dedup();
            assert_eq!(parts.len(), 100);
        }
    }

    #[test]
    fn no_bit_of_a_text_may_be_another() {
        let token = token("A");
        let bytes = URL_SAFE_NO_PAD.decode(masked(&token).unwrap()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_masked(&URL_SAFE_NO_PAD.encode(changed), &token), "bit {bit}");
        }
        let text = URL_SAFE_NO_PAD.encode(bytes);
        for bad in ["", &text[1..], &format!("{text}="), &text.replace('_', "/"), &"=".repeat(86)] {
            assert!(bad == text || !is_masked(bad, &token), "{bad}");
        }
    }

    /// The text tells nothing of the secret: it holds neither the token nor the bare proof.
    #[test]
    fn the_text_holds_no_secret() {
        let token = token("A");
        let text = masked(&token).unwrap();
        let bare = URL_SAFE_NO_PAD.encode(proof(&token).finalize().into_bytes());
        assert!(!text.contains(&bare) && !text.contains(&token.expose()[..8]));
    }

    #[test]
    fn the_field_of_a_form_is_found() {
        assert_eq!(in_form(b"a=1&csrf_token=x%2By&csrf_token=z").as_deref(), Some("x+y"));
        assert_eq!(in_form(b"csrf_token"), Some(String::new()));
        assert_eq!(in_form(b"xcsrf_token=1"), None);
        assert!(is_form("application/x-www-form-urlencoded; charset=utf-8"));
        assert!(!is_form("multipart/form-data") && !is_form(""));
    }
}
