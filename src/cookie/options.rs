//! The attributes of a cookie: every default, with what browsers ask of them.

use std::time::Duration;

use super::error::CookieError;
use super::seal::Encoding;
use super::{COOKIE_BYTES_MAX, Cookie};

/// The longest value of an attribute that browsers do not ignore (RFC 6265bis, section 5.6).
const ATTRIBUTE_BYTES_MAX: usize = 1024;
/// What browsers shorten longer times to (RFC 6265bis, section 5.5).
const MAX_AGE_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);
const DOMAIN_BYTES_MAX: usize = 253;

/// What a name promises by its beginning, which browsers check in any case of letters.
struct Prefix {
    text: &'static str,
    host_only: bool,
    http_only: bool,
}

/// Longer ones before their beginnings.
const PREFIXES: [Prefix; 4] = [
    Prefix { text: "__Host-Http-", host_only: true, http_only: true },
    Prefix { text: "__Host-", host_only: true, http_only: false },
    Prefix { text: "__Http-", host_only: false, http_only: true },
    Prefix { text: "__Secure-", host_only: false, http_only: false },
];

/// Which requests from other sites bring the cookie along (RFC 6265bis, section 4.1.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SameSite {
    /// None, not even a click on a link to here: who comes from elsewhere seems logged out first.
    Strict,
    /// Only navigation of the whole page by `GET`: the default.
    #[default]
    Lax,
    /// All. Needs `Secure`, and a defence of its own against forged requests.
    None,
}

/// Makes a [`Cookie`]: see [`Cookie::builder`].
///
/// | option | default |
/// |---|---|
/// | [`name`](CookieOptions::name) | `__Host-id` |
/// | [`path`](CookieOptions::path) | `/` |
/// | [`domain`](CookieOptions::domain) | none: this host alone |
/// | [`secure`](CookieOptions::secure) | yes |
/// | [`http_only`](CookieOptions::http_only) | yes |
/// | [`same_site`](CookieOptions::same_site) | `Lax` |
/// | [`max_age`](CookieOptions::max_age) | none: until the browser is closed |
/// | [`partitioned`](CookieOptions::partitioned) | no |
/// | [`plain_http`](CookieOptions::plain_http) | no |
/// | [`encoding`](CookieOptions::encoding) | plain |
///
/// # Examples
/// ```
/// use cloakroom::cookie::{Cookie, CookieError, SameSite};
///
/// let cookie = Cookie::builder().same_site(SameSite::Strict).build()?;
/// assert_eq!(cookie.set("x")?, "__Host-id=x; Path=/; Secure; HttpOnly; SameSite=Strict");
///
/// let refused = Cookie::builder().domain("example.org").build();
/// assert!(matches!(refused, Err(CookieError::Option { option: "domain", .. })));
/// # Ok::<(), CookieError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `build` is called"]
pub struct CookieOptions {
    name: String,
    path: String,
    domain: Option<String>,
    secure: bool,
    http_only: bool,
    same_site: SameSite,
    max_age: Option<Duration>,
    partitioned: bool,
    plain_http: bool,
    encoding: Encoding,
}

impl Default for CookieOptions {
    fn default() -> CookieOptions {
        CookieOptions {
            name: "__Host-id".to_owned(),
            path: "/".to_owned(),
            domain: None,
            secure: true,
            http_only: true,
            same_site: SameSite::Lax,
            max_age: None,
            partitioned: false,
            plain_http: false,
            encoding: Encoding::Plain,
        }
    }
}

impl CookieOptions {
    /// The cookie's name: an RFC 9110 token, that is letters, digits and ``!#$%&'*+-.^_`|~``.
    /// Default `__Host-id`.
    ///
    /// Some beginnings are promises that browsers keep, whatever the case of their letters
    /// (RFC 6265bis, sections 4.1.3 and 5.4):
    ///
    /// | prefix | needs |
    /// |---|---|
    /// | `__Host-` | Secure, `Path=/`, no `Domain`: no other host can plant the cookie |
    /// | `__Secure-` | Secure: plain http cannot plant it |
    /// | `__Host-Http-`, `__Http-` | the same, and `HttpOnly`: no script can plant it |
    pub fn name(mut self, name: impl Into<String>) -> CookieOptions {
        self.name = name.into();
        self
    }

    /// The paths that the cookie is sent to: this one and all below. It protects nothing from the
    /// other paths of the host. At most 1024 printable ASCII characters without space and `;`,
    /// the first a `/`. Default `/`.
    pub fn path(mut self, path: impl Into<String>) -> CookieOptions {
        self.path = path.into();
        self
    }

    /// Sends the cookie to this domain and to all of its subdomains, each of which can then read
    /// and plant it. Without: to the host that set it, and to no other. It is the default.
    pub fn domain(mut self, domain: impl Into<String>) -> CookieOptions {
        self.domain = Some(domain.into());
        self
    }

    /// Whether the cookie goes over https only. Default yes. For development without https there
    /// is [`plain_http`](CookieOptions::plain_http).
    pub fn secure(mut self, secure: bool) -> CookieOptions {
        self.secure = secure;
        self
    }

    /// Whether scripts in the page cannot see the cookie. Default yes.
    pub fn http_only(mut self, http_only: bool) -> CookieOptions {
        self.http_only = http_only;
        self
    }

    /// Which requests from other sites bring it along. Default [`SameSite::Lax`].
    pub fn same_site(mut self, same_site: SameSite) -> CookieOptions {
        self.same_site = same_site;
        self
    }

    /// How long the browser keeps the cookie, also when it is closed meanwhile: for "remember me".
    /// Whole seconds, rounded down, from one second to the 400 days that browsers allow. Default:
    /// until the browser is closed. When the session ends is decided by the store in any case.
    pub fn max_age(mut self, max_age: Duration) -> CookieOptions {
        self.max_age = Some(max_age);
        self
    }

    /// Keeps a cookie of its own for each site that embeds this one in a frame (CHIPS). Needs
    /// `Secure`. Default no.
    pub fn partitioned(mut self, partitioned: bool) -> CookieOptions {
        self.partitioned = partitioned;
        self
    }

    /// For development without https: not `Secure`, whatever [`secure`](CookieOptions::secure)
    /// says, and a name without its prefix, by default `id`. Never on a server that others
    /// can reach: everybody on the way can read the cookie, and plant one.
    pub fn plain_http(mut self) -> CookieOptions {
        self.plain_http = true;
        self
    }

    /// How the value is written. Default [`Encoding::Plain`], right for a token.
    pub fn encoding(mut self, encoding: Encoding) -> CookieOptions {
        self.encoding = encoding;
        self
    }

    /// Checks the options.
    ///
    /// # Errors
    /// [`CookieError::Option`] names the option that browsers would drop the cookie for, or would
    /// ignore.
    pub fn build(mut self) -> Result<Cookie, CookieError> {
        if self.plain_http {
            self.secure = false;
            let prefix = PREFIXES.iter().find(|prefix| prefix.begins(&self.name));
            self.name.drain(..prefix.map_or(0, |prefix| prefix.text.len()));
        }
        self.check_texts()?;
        self.check_together()?;
        let cookie = self.assembled();
        if cookie.removal.len() > COOKIE_BYTES_MAX {
            let problem = format!("with its attributes more than {COOKIE_BYTES_MAX} bytes");
            return Err(CookieError::option("name", problem));
        }
        Ok(cookie)
    }

    /// The cookie of options that are checked.
    fn assembled(self) -> Cookie {
        let mut kept = format!("; Path={}", self.path);
        let mut add = |on: bool, text: &str| kept.push_str(if on { text } else { "" });
        if let Some(domain) = &self.domain {
            add(true, &format!("; Domain={domain}"));
        }
        add(self.secure, "; Secure");
        add(self.http_only, "; HttpOnly");
        add(true, self.same_site.text());
        add(self.partitioned, "; Partitioned");

        let name = self.name;
        // Both, for the clients that know only one of them.
        let gone = "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
        let removal = format!("{name}={kept}{gone}");
        if let Some(max_age) = self.max_age {
            kept.push_str(&format!("; Max-Age={}", max_age.as_secs()));
        }
        Cookie { name, attributes: kept, removal, encoding: self.encoding }
    }

    /// Each option by itself.
    fn check_texts(&self) -> Result<(), CookieError> {
        if self.name.is_empty() || !self.name.bytes().all(is_token_byte) {
            let problem = "one or more letters, digits and !#$%&'*+-.^_`|~ (RFC 6265, section \
                           4.1.1; RFC 9110, section 5.6.2)";
            return Err(CookieError::option("name", problem));
        }
        let is_path_byte = |byte: u8| byte.is_ascii_graphic() && byte != b';';
        if !self.path.starts_with('/')
            || self.path.len() > ATTRIBUTE_BYTES_MAX
            || !self.path.bytes().all(is_path_byte)
        {
            let problem = format!(
                "begins with `/`, has at most {ATTRIBUTE_BYTES_MAX} printable ASCII characters, no \
                 space, no `;` (RFC 6265, section 4.1.1)"
            );
            return Err(CookieError::option("path", problem));
        }
        if self.domain.as_deref().is_some_and(|domain| !is_domain(domain)) {
            let problem = format!(
                "a host name of at most {DOMAIN_BYTES_MAX} letters, digits, `-` and single dots, \
                 which do not stand at its ends (RFC 6265bis, sections 4.1.1 and 4.1.2.3)"
            );
            return Err(CookieError::option("domain", problem));
        }
        let bounds = Duration::from_secs(1)..=MAX_AGE_MAX;
        if self.max_age.is_some_and(|max_age| !bounds.contains(&max_age)) {
            let problem = "from one second to 400 days (RFC 6265bis, section 5.5); `remove` is \
                           what ends a cookie";
            return Err(CookieError::option("max_age", problem));
        }
        Ok(())
    }

    /// What one option asks of another.
    fn check_together(&self) -> Result<(), CookieError> {
        if let Some(prefix) = PREFIXES.iter().find(|prefix| prefix.begins(&self.name)) {
            let broken = [
                ("secure", !self.secure, "be on"),
                ("path", prefix.host_only && self.path != "/", "be `/`"),
                ("domain", prefix.host_only && self.domain.is_some(), "be left out"),
                ("http_only", prefix.http_only && !self.http_only, "be on"),
            ];
            if let Some((option, _, must)) = broken.iter().find(|(_, is_broken, _)| *is_broken) {
                let problem = format!(
                    "must {must} where the name begins with `{}` (RFC 6265bis, section 4.1.3)",
                    prefix.text
                );
                return Err(CookieError::option(option, problem));
            }
        }
        if self.secure {
            return Ok(());
        }
        let problem = "needs `secure`: browsers drop the cookie otherwise";
        if self.same_site == SameSite::None {
            return Err(CookieError::option("same_site", format!("`None` {problem}")));
        }
        if self.partitioned {
            return Err(CookieError::option("partitioned", problem));
        }
        Ok(())
    }
}

/// What [`CookieOptions::build`] makes of the defaults.
impl Default for Cookie {
    fn default() -> Cookie {
        CookieOptions::default().assembled()
    }
}

impl Prefix {
    fn begins(&self, name: &str) -> bool {
        name.get(..self.text.len()).is_some_and(|start| start.eq_ignore_ascii_case(self.text))
    }
}

impl SameSite {
    fn text(self) -> &'static str {
        match self {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        }
    }
}

/// A `tchar` of RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    domain.len() <= DOMAIN_BYTES_MAX && domain.split('.').all(is_label)
}
