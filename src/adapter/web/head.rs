//! What the head of a response says about the session.

/// Header lines to be added to those that the application set.
#[derive(Default)]
pub(crate) struct Head {
    /// The value of one more `Set-Cookie` line. Secret.
    pub(crate) set_cookie: Option<String>,
    /// Whether a token is in the response, so that no cache may keep it.
    pub(crate) is_secret: bool,
    /// The names of the request headers that the response depends on.
    pub(crate) vary: &'static [&'static str],
    /// Whether a response that asks for credentials says that a bearer token is one.
    pub(crate) challenge: bool,
}

const NO_STORE: &str = "no-store";
/// RFC 6750, section 3.
const CHALLENGE: &str = "Bearer";

/// A header of a response that the session has something to say in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Vary,
    CacheControl,
    SetCookie,
    WwwAuthenticate,
}

/// The headers of a response, as a framework has them.
pub(crate) trait Headers {
    /// The lines of a header.
    fn lines(&self, field: Field) -> impl Iterator<Item = &[u8]>;
    /// Adds a line to those that are there.
    fn append(&mut self, field: Field, line: &'static str);
    /// Adds a line that is shown in no log.
    fn append_secret(&mut self, field: Field, line: String);
}

impl Head {
    /// Adds to the headers of a response with this status, and takes nothing away.
    pub(crate) fn add_to(self, status: u16, headers: &mut impl Headers) {
        for name in self.vary {
            if !lists(headers.lines(Field::Vary), name) && !lists(headers.lines(Field::Vary), "*") {
                headers.append(Field::Vary, name);
            }
        }
        if self.is_secret && !lists(headers.lines(Field::CacheControl), NO_STORE) {
            headers.append(Field::CacheControl, NO_STORE);
        }
        if let Some(line) = self.set_cookie {
            headers.append_secret(Field::SetCookie, line);
        }
        let asks = self.challenge && status == 401;
        if asks && headers.lines(Field::WwwAuthenticate).next().is_none() {
            headers.append(Field::WwwAuthenticate, CHALLENGE);
        }
    }
}

/// Whether the lines of a header that is a list (RFC 9110, section 5.6.1) hold this element, in
/// any case.
fn lists<'h>(mut lines: impl Iterator<Item = &'h [u8]>, element: &str) -> bool {
    lines.any(|line| {
        let mut elements = line.split(|&byte| byte == b',');
        elements.any(|other| other.trim_ascii().eq_ignore_ascii_case(element.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_a_list_are_found_whole_and_in_any_case() {
        let lines = ["Accept-Encoding, COOKIE ", "Origin"];
        let lists = |element| lists(lines.iter().map(|line| line.as_bytes()), element);
        assert!(lists("cookie") && lists("origin") && lists("accept-encoding"));
        assert!(!lists("accept") && !lists("cook") && !lists(""));
    }
}
