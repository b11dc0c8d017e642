//! Texts that pretend to be tokens or session ids.

pub(crate) use cloakroom::SessionId;
use cloakroom::Token;
use uuid::Uuid;

/// The characters of base64url, by value.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A token's text is accepted exactly if it is the one text of its bits; whatever is accepted
/// prints as it was read. An id is accepted in the forms of a UUID and prints in one of them.
pub fn token(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    check_token(&text);
    check_id(&text);
    if let Some(secret) = input.first_chunk::<32>() {
        made(secret, input.get(32).copied());
    }
    if let Some(bits) = input.first_chunk::<16>() {
        let id = SessionId::from(Uuid::from_bytes(*bits));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(Uuid::from(id).into_bytes(), *bits);
        assert!(Token::parse(&id.to_string()).is_err(), "an id that is a token");
    }
}

/// Whether a text is 32 bytes in base64url without padding, written in the only way: its last
/// character carries four bits, and the other two are zero.
fn is_canonical(text: &str) -> bool {
    let value = |byte: &u8| ALPHABET.iter().position(|known| known == byte);
    let values: Option<Vec<usize>> = text.as_bytes().iter().map(value).collect();
    values.is_some_and(|values| values.len() == 43 && values.last().is_some_and(|v| v % 4 == 0))
}

fn check_token(text: &str) {
    let parsed = Token::parse(text);
    assert_eq!(parsed.is_ok(), is_canonical(text), "{text:?}");
    assert_eq!(text.parse::<Token>().is_ok(), parsed.is_ok());
    if let Ok(token) = parsed {
        assert_eq!(token.expose(), text);
        assert_eq!(token.clone().id(), token.id());
        assert!(!format!("{token:?}").contains(text));
    }
}

fn check_id(text: &str) {
    let Ok(id) = text.parse::<SessionId>() else { return };
    let printed = id.to_string();
    assert_eq!(printed.parse(), Ok(id));
    let digits = |text: &str| -> String {
        // A name of this kind is the same in capitals (RFC 8141, section 3.1).
        let prefix = text.get(..9).filter(|start| start.eq_ignore_ascii_case("urn:uuid:"));
        let text = &text[prefix.map_or(0, str::len)..];
        text.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_lowercase()).collect()
    };
    assert_eq!(digits(&printed), digits(text), "{text:?}");
}

/// The text of any 32 bytes is a token; with one character changed it is another or none.
fn made(secret: &[u8; 32], change: Option<u8>) {
    let mut text = Vec::new();
    for chunk in secret.chunks(3) {
        let bits = chunk.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        let count = chunk.len() + 1;
        text.extend((0..count).map(|n| ALPHABET[bits >> (18 - 6 * n) & 63]));
    }
    let text = String::from_utf8(text).expect("ASCII");
    let token = Token::parse(&text).expect("the text of 32 bytes");
    assert_eq!(token.expose(), text);
    let Some(change) = change else { return };
    let mut other = text.into_bytes();
    let place = usize::from(change) % other.len();
    other[place] = change;
    let other = String::from_utf8_lossy(&other).into_owned();
    check_token(&other);
    if let Ok(parsed) = Token::parse(&other) {
        assert_eq!(parsed.id() == token.id(), other == token.expose());
    }
}
