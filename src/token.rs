//! The secret that a client holds, together with the id under which the store knows it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroize as _;

use crate::error::{Error, Malformed, Result};
#[cfg(cloakroom_shuttle)]
use crate::sync::random as getrandom;

const SECRET_BYTES: usize = 32;

/// What a client shows to open a session, whose id is the digest of it.
pub(crate) trait Secret: Sized {
    /// Another one, straight from the operating system: no generator in user space, whose state a
    /// fork or a machine snapshot could duplicate.
    fn generate() -> Result<Self>;

    fn id(&self) -> SessionId;

    /// Tests may choose it.
    #[cfg(test)]
    fn from_secret(secret: [u8; SECRET_BYTES]) -> Self;
}

fn fill_randomly(secret: &mut [u8]) -> Result<()> {
    getrandom::fill(secret).map_err(|error| Error::Random(error.to_string()))
}

/// The secret given to the client: 256 random bits from the operating system.
///
/// As text it is base64url without padding, [`Token::TEXT_LEN`] characters. Whoever shows it gets
/// the session, so it has no `Display`, its `Debug` is redacted, and its bytes are overwritten
/// when it is dropped. The store keeps only its digest, the [`SessionId`].
///
/// 256 bits are twice what OWASP ASVS 5.0 (7.2.3) asks for.
///
/// # Examples
/// ```
/// use cloakroom::{Attributes, Store, Token};
///
/// let store: Store = Store::builder().in_memory()?;
/// let token = store.create(Attributes::new())?;
/// let cookie_value = token.expose();
/// assert_eq!(cookie_value.len(), Token::TEXT_LEN);
///
/// let presented: Token = cookie_value.parse()?;
/// assert_eq!(presented.id(), token.id());
/// assert!("not a token".parse::<Token>().is_err());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct Token {
    secret: [u8; SECRET_BYTES],
    id: SessionId,
}

impl Token {
    /// The length of a token's text.
    pub const TEXT_LEN: usize = 43;

    #[cfg(any(test, feature = "cookie"))]
    pub(crate) fn from_secret(secret: [u8; SECRET_BYTES]) -> Token {
        Token { secret, id: SessionId::of(&secret) }
    }

    /// A token whose secret `fill` writes in its place, so that no copy of it stays behind.
    fn filled<E>(fill: impl FnOnce(&mut [u8; SECRET_BYTES]) -> Result<(), E>) -> Result<Token, E> {
        let mut token = Token { secret: [0; SECRET_BYTES], id: SessionId(0) };
        fill(&mut token.secret)?;
        token.id = SessionId::of(&token.secret);
        Ok(token)
    }

    /// The bytes of the secret, to be signed or sealed.
    #[cfg(feature = "cookie")]
    pub(crate) fn secret(&self) -> &[u8; SECRET_BYTES] {
        &self.secret
    }

    /// The id of the token's session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The secret as text, to be sent to the client and to nobody else.
    pub fn expose(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.secret)
    }

    /// Reads the text of a token. Any text that [`Token::expose`] cannot have made is refused.
    /// Costs one SHA-256 of 32 bytes, for the id.
    ///
    /// # Errors
    /// [`Malformed::Token`].
    pub fn parse(text: &str) -> Result<Token, Malformed> {
        if text.len() != Token::TEXT_LEN {
            return Err(Malformed::Token);
        }
        Token::filled(|secret| match URL_SAFE_NO_PAD.decode_slice(text, secret) {
            Ok(SECRET_BYTES) => Ok(()),
            _ => Err(Malformed::Token),
        })
    }
}

impl Secret for Token {
    fn generate() -> Result<Token> {
        Token::filled(|secret| fill_randomly(secret))
    }

    fn id(&self) -> SessionId {
        self.id
    }

    #[cfg(test)]
    fn from_secret(secret: [u8; SECRET_BYTES]) -> Token {
        Token::from_secret(secret)
    }
}

/// A secret of 128 bits, for a framework whose ids have no room for more.
///
/// No [`Token`] has its digest: that would be a collision of SHA-256.
#[cfg(feature = "tower-sessions-015")]
pub(crate) struct ShortToken(pub(crate) [u8; 16]);

#[cfg(feature = "tower-sessions-015")]
impl Secret for ShortToken {
    fn generate() -> Result<ShortToken> {
        let mut token = ShortToken([0; 16]);
        fill_randomly(&mut token.0)?;
        Ok(token)
    }

    fn id(&self) -> SessionId {
        SessionId::of(&self.0)
    }

    #[cfg(test)]
    fn from_secret(secret: [u8; SECRET_BYTES]) -> ShortToken {
        let mut token = ShortToken([0; 16]);
        token.0.copy_from_slice(&secret[..16]);
        token
    }
}

impl FromStr for Token {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Token, Malformed> {
        Token::parse(text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// The key of a session: the first 128 bits of the SHA-256 of its token.
///
/// Not a secret: it may be logged, listed or written to disk, for a presented token is always
/// hashed, so that an id can never be used as a token. Ids are uniform, so the table uses their
/// bits as the hash. It prints as a UUID, but is none of any version.
///
/// # Examples
/// ```
/// use cloakroom::SessionId;
///
/// let id: SessionId = "67e55044-10b1-426f-9247-bb680e5fe0c8".parse()?;
/// assert_eq!(id.to_string(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
/// assert_eq!(SessionId::from(uuid::Uuid::from(id)), id);
/// # Ok::<(), cloakroom::Malformed>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(crate) u128);

impl SessionId {
    /// The id of the session that this secret opens.
    fn of(secret: &[u8]) -> SessionId {
        let digest = Sha256::digest(secret);
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        SessionId(u128::from_be_bytes(first))
    }

    /// The high half: its lowest bits choose the shard, its fourth byte is the tag.
    #[inline(always)]
    pub(crate) fn hi(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// The low half: its lowest 20 bits choose the bucket.
    #[inline(always)]
    pub(crate) fn lo(self) -> u64 {
        self.0 as u64
    }

    pub(crate) fn from_halves(hi: u64, lo: u64) -> SessionId {
        SessionId(u128::from(hi) << 64 | u128::from(lo))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from(*self).fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

impl FromStr for SessionId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<SessionId, Malformed> {
        Uuid::try_parse(text).map(SessionId::from).map_err(|_| Malformed::SessionId)
    }
}

impl From<Uuid> for SessionId {
    fn from(uuid: Uuid) -> SessionId {
        SessionId(uuid.as_u128())
    }
}

impl From<SessionId> for Uuid {
    fn from(id: SessionId) -> Uuid {
        Uuid::from_u128(id.0)
    }
}

impl From<&Token> for SessionId {
    fn from(token: &Token) -> SessionId {
        token.id()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0.to_be_bytes())
        }
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for SessionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<SessionId, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = SessionId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a session id: a UUID as text or 16 bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SessionId, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<SessionId, E> {
                let bytes = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
                Ok(SessionId(u128::from_be_bytes(bytes)))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Visitor)
        } else {
            deserializer.deserialize_bytes(Visitor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_nothing_else_parses() {
        let token = Token::generate().unwrap();
        let text = token.expose();
        assert_eq!(text.len(), Token::TEXT_LEN);
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_eq!(Token::parse(&text).unwrap().id(), token.id());
        for bad in [
            String::new(),
            text[1..].to_owned(),
            format!("{text}="),
            format!("{text}A"),
            format!(" {}", &text[1..]),
            format!("+{}", &text[1..]),
            format!("/{}", &text[1..]),
            format!("{}\u{e9}", &text[..41]),
            // The last character carries four bits: the two lowest must be zero.
            format!("{}B", &text[..42]),
            "\0".repeat(43),
        ] {
            assert!(Token::parse(&bad).is_err(), "{} bytes", bad.len());
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = Token::from_secret([7; 32]);
        assert_eq!(format!("{token:?}"), "Token(redacted)");
    }

    #[test]
    fn id_is_the_first_half_of_sha256() {
        // SHA-256 of 32 zero bytes is 66687aad f862bd77 6c8fc18b 8e9f8e20 ...
        let id = Token::from_secret([0; 32]).id();
        assert_eq!(id.to_string(), "66687aad-f862-bd77-6c8f-c18b8e9f8e20");
        assert_eq!(id.hi(), 0x6668_7aad_f862_bd77);
        assert_eq!(id.lo(), 0x6c8f_c18b_8e9f_8e20);
        assert_eq!(SessionId::from_halves(id.hi(), id.lo()), id);
    }

    #[cfg(feature = "tower-sessions-015")]
    #[test]
    fn a_short_token_is_no_part_of_a_token() {
        // SHA-256 of 16 zero bytes is 374708ff f7719dd5 979ec875 d56cd228 ...
        let short = ShortToken([0; 16]).id();
        assert_eq!(short.to_string(), "374708ff-f771-9dd5-979e-c875d56cd228");
        assert_ne!(short, Token::from_secret([0; 32]).id());
        assert_ne!(ShortToken::generate().unwrap().0, ShortToken::generate().unwrap().0);
    }

    #[test]
    fn id_is_no_token() {
        let token = Token::generate().unwrap();
        assert!(Token::parse(&token.id().to_string()).is_err());
    }

    #[test]
    fn tokens_differ() {
        let mut ids: Vec<_> = (0..10_000).map(|_| Token::generate().unwrap().id()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 10_000);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn id_in_json_is_a_uuid() {
        let id = Token::generate().unwrap().id();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<SessionId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<SessionId>("\"nonsense\"").is_err());
    }
}
