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

pub(crate) const NO_STORE: &str = "no-store";
/// RFC 6750, section 3.
pub(crate) const CHALLENGE: &str = "Bearer";

/// Whether the lines of a header that is a list (RFC 9110, section 5.6.1) hold this element, in
/// any case.
pub(crate) fn lists<'h>(mut lines: impl Iterator<Item = &'h [u8]>, element: &str) -> bool {
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
