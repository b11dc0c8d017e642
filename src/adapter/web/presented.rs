//! What a request shows: the token in its cookie, or in its `Authorization` header.

use super::sessions::Sessions;
use crate::cookie::Opened;
use crate::{SessionData, SessionId, Token};

/// How the token came, and a new one goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Cookie,
    Bearer,
}

pub(super) struct Presented {
    pub(super) token: Option<Token>,
    pub(super) id: Option<SessionId>,
    pub(super) transport: Transport,
    /// A cookie of our name came, whatever it holds.
    pub(super) has_cookie: bool,
    /// An old key made the cookie.
    pub(super) is_old: bool,
}

impl Presented {
    /// Reads the values of the request's `Cookie` and `Authorization` headers.
    pub(super) fn read<'h, S: SessionData>(
        sessions: &Sessions<S>,
        cookies: impl IntoIterator<Item = &'h [u8]>,
        authorization: impl IntoIterator<Item = &'h [u8]>,
    ) -> Presented {
        if sessions.accepts_bearer()
            && let Some(text) = bearer(authorization)
        {
            let token = std::str::from_utf8(text).ok().and_then(|text| Token::parse(text).ok());
            return Presented::new(token, Transport::Bearer);
        }
        let mut presented = Presented::new(None, Transport::Cookie);
        let mut first: Option<Opened<Token>> = None;
        let is_live = |token: &Token| sessions.store().peek(token.id(), |_| ()).is_ok();
        for candidate in sessions.cookie_options().tokens(cookies) {
            presented.has_cookie = true;
            let Some(candidate) = candidate else { continue };
            // Of several, one that leads to a session: others may be leftovers of another path,
            // or planted by a neighbour. The usual one is not looked up here.
            match &first {
                Some(first) if is_live(&first.value) => break,
                Some(_) if !is_live(&candidate.value) => {}
                _ => first = Some(candidate),
            }
        }
        if let Some(opened) = first {
            presented.id = Some(opened.value.id());
            presented.token = Some(opened.value);
            presented.is_old = opened.is_old;
        }
        presented
    }

    fn new(token: Option<Token>, transport: Transport) -> Presented {
        let id = token.as_ref().map(Token::id);
        Presented { token, id, transport, has_cookie: false, is_old: false }
    }

    /// Cookies of our name came, and none holds what we made.
    pub(super) fn is_bad_cookie(&self) -> bool {
        self.has_cookie && self.token.is_none()
    }
}

/// What stands behind the scheme `Bearer` (RFC 6750, section 2.1), if that is the one header. Of
/// several nobody can say which counts, so none does.
fn bearer<'h>(authorization: impl IntoIterator<Item = &'h [u8]>) -> Option<&'h [u8]> {
    let mut headers = authorization.into_iter();
    let (header, None) = (headers.next()?, headers.next()) else { return None };
    let (scheme, rest) = header.split_at_checked("Bearer".len())?;
    let is_scheme = scheme.eq_ignore_ascii_case(b"Bearer") && rest.starts_with(b" ");
    is_scheme.then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_is_one_header_of_that_scheme() {
        for (headers, expected) in [
            (vec!["Bearer abc"], Some("abc")),
            (vec!["bearer   abc "], Some("abc")),
            (vec!["Bearer "], Some("")),
            (vec!["Bearer"], None),
            (vec!["Bearerabc"], None),
            (vec!["Basic abc"], None),
            (vec!["Bearer abc", "Bearer abc"], None),
            (vec![], None),
        ] {
            let found = bearer(headers.iter().map(|header| header.as_bytes()));
            assert_eq!(found, expected.map(str::as_bytes), "{headers:?}");
        }
    }
}
