//! What a layer is made of: the store, the cookie, the policies.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::renewals::Renewals;
use crate::cookie::Cookie;
use crate::{Attributes, SessionData, Store};

/// What becomes of a request whose cookie was not made here: another text than a token, a wrong
/// signature, a key that is gone. (A token whose session has ended is no bad cookie.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BadCookie {
    /// It counts as none. The cookie is left alone: it may be another server's of the same host.
    #[default]
    Anonymous,
    /// Asking for the session is answered by 400 "Bad Cookie", and the cookie is removed.
    Refuse,
}

/// Sessions on the web: a store with the cookie that leads to it, and the policies. A cheap handle.
///
/// A layer is made of it: `cloakroom::axum::SessionLayer` or `cloakroom::actix::SessionMiddleware`.
///
/// | option | default |
/// |---|---|
/// | [`cookie`](Sessions::cookie) | `__Host-id; Path=/; Secure; HttpOnly; SameSite=Lax` |
/// | [`bearer`](Sessions::bearer) | no |
/// | [`renew_every`](Sessions::renew_every) | no |
/// | [`bad_cookie`](Sessions::bad_cookie) | [`BadCookie::Anonymous`] |
///
/// # Examples
/// ```
/// use cloakroom::Store;
/// use cloakroom::cookie::Cookie;
/// use cloakroom::web::{BadCookie, Sessions};
/// use std::time::Duration;
///
/// let store: Store = Store::builder().in_memory()?;
/// let sessions = Sessions::new(store)
///     .cookie(Cookie::builder().plain_http().build()?)        // for development without https
///     .renew_every(Duration::from_secs(15 * 60))
///     .bad_cookie(BadCookie::Refuse);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "sessions do nothing until a layer is made of them"]
pub struct Sessions<S = Attributes> {
    settings: Arc<Settings<S>>,
}

struct Settings<S> {
    store: Store<S>,
    cookie: Cookie,
    accepts_bearer: bool,
    renew_every: Option<Duration>,
    renewals: Arc<Renewals>,
    bad_cookie: BadCookie,
    bad_cookies: Arc<AtomicU64>,
}

impl<S> Clone for Sessions<S> {
    fn clone(&self) -> Sessions<S> {
        Sessions { settings: Arc::clone(&self.settings) }
    }
}

impl<S> Clone for Settings<S> {
    fn clone(&self) -> Settings<S> {
        Settings {
            store: self.store.clone(),
            cookie: self.cookie.clone(),
            renewals: Arc::clone(&self.renewals),
            bad_cookies: Arc::clone(&self.bad_cookies),
            ..*self
        }
    }
}

impl<S> fmt::Debug for Sessions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("store", &self.settings.store)
            .field("cookie", &self.settings.cookie)
            .field("bearer", &self.settings.accepts_bearer)
            .field("renew_every", &self.settings.renew_every)
            .field("bad_cookie", &self.settings.bad_cookie)
            .finish()
    }
}

impl<S: SessionData> Sessions<S> {
    /// The sessions of this store, with the default cookie and policies.
    pub fn new(store: Store<S>) -> Sessions<S> {
        let settings = Settings {
            store,
            cookie: Cookie::default(),
            accepts_bearer: false,
            renew_every: None,
            renewals: Arc::default(),
            bad_cookie: BadCookie::default(),
            bad_cookies: Arc::default(),
        };
        Sessions { settings: Arc::new(settings) }
    }

    fn with(mut self, change: impl FnOnce(&mut Settings<S>)) -> Sessions<S> {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// The cookie that holds the token. Default [`Cookie::default`], for https only.
    pub fn cookie(self, cookie: Cookie) -> Sessions<S> {
        self.with(|settings| settings.cookie = cookie)
    }

    /// Accepts `Authorization: Bearer TOKEN`, too (RFC 6750), as clients other than browsers send.
    /// Default no.
    ///
    /// Where a request has that header, its cookie is not looked at, and its answer carries none: a
    /// handler gives a new token out with [`take_token`](super::Session::take_token). No CSRF token
    /// is asked for, as no page of another site can make a browser send the header. A write begins
    /// no session, since nobody would learn its token.
    pub fn bearer(self) -> Sessions<S> {
        self.with(|settings| settings.accepts_bearer = true)
    }

    /// Gives a session another token once its present one is this old, at the next request that
    /// asks for it; the old one stays good for the store's [`grace`](crate::Builder::grace) time.
    /// Default never. (OWASP: "renewal timeout"; they give no number, 15 minutes are usual.)
    ///
    /// A CSRF token belongs to a token: a page that was open in another tab while it changed has
    /// to be loaded again before its forms are accepted. When a token was made is kept in memory,
    /// so that after a restart, tokens older than this are renewed anew, early. For cookies only:
    /// a bearer would not learn of it.
    pub fn renew_every(self, age: Duration) -> Sessions<S> {
        self.with(|settings| settings.renew_every = Some(age))
    }

    /// What becomes of a request with a cookie that was not made here. Default
    /// [`BadCookie::Anonymous`].
    pub fn bad_cookie(self, policy: BadCookie) -> Sessions<S> {
        self.with(|settings| settings.bad_cookie = policy)
    }
}

impl<S> Sessions<S> {
    /// The store.
    pub fn store(&self) -> &Store<S> {
        &self.settings.store
    }

    /// How many requests that asked for their session came with a cookie of our name that was not
    /// made here, since these sessions were made. Each is one of
    /// [`Stats::misses`](crate::Stats::misses), too.
    ///
    /// A few are old: of a key that is gone, of a server that had the host before. A sudden rise is
    /// somebody who guesses, or a key that the servers of one site do not share.
    pub fn bad_cookies(&self) -> u64 {
        self.settings.bad_cookies.load(Relaxed)
    }

    pub(super) fn count_bad_cookie(&self) {
        self.settings.bad_cookies.fetch_add(1, Relaxed);
    }

    pub(super) fn cookie_options(&self) -> &Cookie {
        &self.settings.cookie
    }

    pub(crate) fn accepts_bearer(&self) -> bool {
        self.settings.accepts_bearer
    }

    pub(super) fn renewal_age(&self) -> Option<Duration> {
        self.settings.renew_every
    }

    pub(super) fn renewals(&self) -> &Renewals {
        &self.settings.renewals
    }

    pub(super) fn refuses_bad_cookies(&self) -> bool {
        self.settings.bad_cookie == BadCookie::Refuse
    }

    /// Whether both are clones of one.
    pub(super) fn is(&self, other: &Sessions<S>) -> bool {
        Arc::ptr_eq(&self.settings, &other.settings)
    }
}
