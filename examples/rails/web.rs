//! The routes of the notes' application, and its configuration.
//!
//! Forms of other sites come without the cookie (`SameSite=Lax`). Where that is not enough, use
//! `cloakroom::web::Checked`: the token that Rails has by `protect_from_forgery`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{Html, Redirect};
use axum::routing::{get, post};
use axum::{Form, Router};
use cloakroom::axum::SessionLayer;
use cloakroom::cookie::{Cookie, CookieOptions, Encoding};
use cloakroom::web::Sessions;
use cloakroom::{Attributes, Builder, Except, Info, Reason, SessionId, Store};

use super::hash::Hash;
use super::page::{escape, page};
use super::travelling::{Problem, travel};

/// `:key => "_yourapp_session"`
pub(crate) const KEY: &str = "_yourapp_session";
/// The cookie of the data, where it travels.
pub(crate) const DATA_KEY: &str = "_yourapp_data";
/// `:expire_after => 2.minutes`
pub(crate) const EXPIRE_AFTER: Duration = Duration::from_secs(120);

/// `config/initializers/session_store.rb`: where the data is.
#[derive(Clone, Debug)]
pub(crate) enum Storage {
    /// In this process.
    Memory,
    /// In this process, and in a directory.
    Directory(PathBuf),
    /// With the browser, sealed; the server keeps a number.
    Cookie,
}

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) storage: Storage,
    /// `config/initializers/secret_token.rb`: how cookies are sealed, with which secrets.
    pub(crate) encoding: Encoding,
    pub(crate) is_secure: bool,
}

impl Config {
    fn cookie(&self, name: &str) -> CookieOptions {
        // No Max-Age: it ends with the browser. The store decides in any case.
        Cookie::builder().name(name).secure(self.is_secure).encoding(self.encoding.clone())
    }
}

type Fields = Form<HashMap<String, String>>;
type Error = Box<dyn std::error::Error>;

/// The application.
pub(crate) fn app(builder: Builder<Attributes>, config: &Config) -> Result<(Router, Store), Error> {
    around(routes(), builder, config)
}

/// The sessions around any routes.
pub(crate) fn around(
    routes: Router<Store>,
    builder: Builder<Attributes>,
    config: &Config,
) -> Result<(Router, Store), Error> {
    let builder = builder.idle_timeout(EXPIRE_AFTER).anonymous_idle_timeout(EXPIRE_AFTER);
    let store = match &config.storage {
        Storage::Memory | Storage::Cookie => builder.in_memory()?,
        Storage::Directory(directory) => builder.open(directory)?,
    };
    let routes = match config.storage {
        Storage::Cookie => {
            let cookie = config.cookie(DATA_KEY).build()?;
            routes.layer(from_fn_with_state(cookie, travel))
        }
        Storage::Memory | Storage::Directory(_) => routes,
    };
    let sessions = Sessions::new(store.clone()).cookie(config.cookie(KEY).build()?);
    Ok((routes.layer(SessionLayer::new(sessions)).with_state(store.clone()), store))
}

pub(crate) fn routes() -> Router<Store> {
    Router::new()
        .route("/", get(home))
        .route("/about", get(async || "It asks for no session, so there is none."))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/reset", post(reset))
        .route("/credits", post(credits))
        .route("/spend", post(spend))
        .route("/note", post(note))
        .route("/admin", get(admin))
        .route("/admin/end", post(admin_end))
        .route("/admin/end-user", post(admin_end_user))
        .route("/admin/end-idle", post(admin_end_idle))
        .route("/admin/end-all", post(admin_end_all))
}

fn field<'f>(fields: &'f HashMap<String, String>, name: &str) -> &'f str {
    fields.get(name).map_or("", String::as_str)
}

// ---- The controller ------------------------------------------------------------------------

async fn home(session: Hash) -> Result<Html<String>, Problem> {
    let flash = session.take_flash()?;
    Ok(home_view(&session, flash.as_deref()))
}

async fn login(session: Hash, Form(fields): Fields) -> Result<Redirect, Problem> {
    let user = field(&fields, "user");
    session.login(user)?;
    session.flash(&format!("Welcome, {user}."))?;
    Ok(Redirect::to("/"))
}

async fn logout(session: Hash) -> Result<Redirect, Problem> {
    session.logout()?;
    Ok(Redirect::to("/"))
}

async fn reset(session: Hash) -> Result<Redirect, Problem> {
    session.reset_session()?;
    Ok(Redirect::to("/"))
}

async fn credits(session: Hash, Form(fields): Fields) -> Result<Redirect, Problem> {
    let credits: i64 = field(&fields, "credits").parse().unwrap_or(10);
    session.set("credits", credits)?;
    Ok(Redirect::to("/"))
}

/// Spends one, in one step: however many requests come at once, no credit is spent twice.
async fn spend(session: Hash) -> Result<Result<Redirect, (StatusCode, &'static str)>, Problem> {
    let is_paid = session.update(|data| {
        let credits = data.get_i64("credits").unwrap_or(0);
        data.set("credits", (credits - 1).max(0));
        credits > 0
    })?;
    let refused = (StatusCode::PAYMENT_REQUIRED, "There are no credits left.");
    Ok(if is_paid { Ok(Redirect::to("/")) } else { Err(refused) })
}

/// Text of the visitor's, as long as it may be.
async fn note(session: Hash, Form(fields): Fields) -> Result<Redirect, Problem> {
    session.set("note", field(&fields, "note"))?;
    Ok(Redirect::to("/"))
}

// ---- The view and its helper ---------------------------------------------------------------

/// A helper that reaches the session by itself.
fn credits_helper(session: &Hash) -> i64 {
    session.get_i64("credits").unwrap_or(0)
}

fn home_view(session: &Hash, flash: Option<&str>) -> Html<String> {
    let flash = flash
        .map(|text| format!(r#"<section class="notice"><p>{}</p></section>"#, escape(text)))
        .unwrap_or_default();
    let user = match session.user() {
        Some(user) => format!(
            r#"<p>You are <b>{}</b>.</p>
<form class="row" method="post" action="/logout"><button class="quiet">Log out</button></form>"#,
            escape(&user)
        ),
        None => r#"<form method="post" action="/login">
<label>User id <input name="user" value="42" required></label><button>Log in</button>
</form>"#
            .to_owned(),
    };
    let credits = credits_helper(session);
    let seen = session.session().info().map_or("there is no session".to_owned(), |info| {
        format!("begun {} s ago, {} bytes on the server", info.age.as_secs(), info.data_bytes)
    });
    let keys = escape(&session.keys().join(", "));
    let body = format!(
        r#"{flash}<section>{user}
<form class="row" method="post" action="/reset"><button class="quiet">reset_session</button></form>
</section>
<section><h2>Credits</h2>
<p>Credits: <b>{credits}</b></p>
<form class="row" method="post" action="/credits"><button>Get ten</button></form>
<form class="row" method="post" action="/spend"><button class="quiet">Spend one</button></form>
<p class="soft">An old cookie brings no credit back, whatever is in it.</p></section>
<section><h2>The session</h2>
<table><tr><th>Keys<td>{keys}</tr><tr><th>State<td>{seen}</tr></table>
<form method="post" action="/note"><label>A note of any length <input name="note"></label>
<button class="quiet">Keep it</button></form>
<p><a href="/admin">All sessions</a></p></section>"#
    );
    page("Rails sessions", "Home", &body)
}

// ---- How do I clear out old sessions? ------------------------------------------------------
// For this demo anybody may; a real server asks who it is.

async fn admin(State(store): State<Store>) -> Html<String> {
    let sessions = every(&store);
    let rows: String = sessions.iter().map(row).collect();
    let body = format!(
        r#"<section><p>{} sessions are live.</p>
<table><tr><th>Session<th>User<th>Idle<th></tr>{rows}</table></section>
<section><h2>End many</h2>
<form method="post" action="/admin/end-user"><label>All of a user <input name="user"></label>
<button class="quiet">End</button></form>
<form method="post" action="/admin/end-idle"><label>All that were not seen for so many seconds
<input name="seconds" value="60"></label><button class="quiet">End</button></form>
<form method="post" action="/admin/end-all"><button>End all</button></form></section>"#,
        sessions.len()
    );
    page("Rails sessions", "All sessions", &body)
}

fn row(info: &Info) -> String {
    let (id, idle) = (info.id, info.idle.as_secs());
    let user = escape(info.owner.as_deref().unwrap_or("nobody"));
    format!(
        r#"<tr><td><code>{id}</code><td>{user}<td>{idle} s<td><form method="post"
action="/admin/end"><input type="hidden" name="id" value="{id}"><button class="quiet">End</button>
</form></tr>"#
    )
}

/// All sessions, page by page.
pub(crate) fn every(store: &Store) -> Vec<Info> {
    let (mut sessions, mut from) = (Vec::new(), None);
    loop {
        let page = store.sessions(from, 1000);
        sessions.extend(page.sessions);
        from = page.next;
        if from.is_none() {
            return sessions;
        }
    }
}

async fn admin_end(State(store): State<Store>, Form(fields): Fields) -> Result<String, Problem> {
    let id: SessionId = field(&fields, "id").parse().map_err(cloakroom::Error::from)?;
    store.end(id, Reason::Revoked)?;
    Ok("1 session ended".to_owned())
}

async fn admin_end_user(
    State(store): State<Store>,
    Form(fields): Fields,
) -> Result<String, Problem> {
    let ended = store.end_owner(field(&fields, "user"), Except(None), Reason::Revoked)?;
    Ok(format!("{ended} sessions ended"))
}

async fn admin_end_idle(
    State(store): State<Store>,
    Form(fields): Fields,
) -> Result<String, Problem> {
    let seconds = field(&fields, "seconds").parse().unwrap_or(60);
    let mut ended = 0;
    for info in every(&store) {
        if info.idle >= Duration::from_secs(seconds) && store.end(info.id, Reason::Revoked).is_ok()
        {
            ended += 1;
        }
    }
    Ok(format!("{ended} sessions ended"))
}

async fn admin_end_all(State(store): State<Store>) -> Result<String, Problem> {
    Ok(format!("{} sessions ended", store.end_all(Reason::Revoked)?))
}
