//! The routes of the login app: a name in the session, and nothing else.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use cloakroom::axum::SessionLayer;
use cloakroom::cookie::{Cookie, CookieError};
use cloakroom::web::{self, Session, Sessions};
use cloakroom::{Attributes, Builder, Store, Value};

use super::page::escape;

/// The name of the directory, in the working directory.
pub(crate) const DIRECTORY: &str = "flask_session";
/// `PERMANENT_SESSION_LIFETIME`. The cookie ends with the browser, the session after this.
const LIFETIME: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// `SESSION_TYPE = "filesystem"`. Each request starts the lifetime anew.
pub(crate) fn open(
    builder: Builder<Attributes>,
    directory: Option<&Path>,
) -> cloakroom::Result<Store> {
    let builder =
        builder.idle_timeout(LIFETIME).anonymous_idle_timeout(LIFETIME).lifetime(12 * LIFETIME);
    match directory {
        Some(directory) => builder.open(directory),
        None => builder.in_memory(),
    }
}

pub(crate) fn app(store: Store, is_secure: bool) -> Result<Router, CookieError> {
    // `SESSION_PERMANENT = False`: no Max-Age.
    let cookie = Cookie::builder().name("session").secure(is_secure).build()?;
    let app = Router::new()
        .route("/", get(index))
        .route("/login", get(login_form).post(login))
        .route("/logout", get(logout))
        .route("/destroy", post(destroy))
        .layer(SessionLayer::new(Sessions::new(store).cookie(cookie)));
    Ok(app)
}

/// `if not session.get("name"): return redirect("/login")`
async fn index(session: Session) -> Response {
    match session.get_text("name").filter(|name| !name.is_empty()) {
        Some(name) => index_page(Some(&name)).into_response(),
        None => redirect("/login"),
    }
}

async fn login_form() -> Html<String> {
    page(
        "Log in",
        r#"<section>
<form action="/login" method="post">
<input autocomplete="off" autofocus name="name" placeholder="Name" type="text">
<p><input type="submit" value="Log In"></p>
</form>
<p class="soft">Any name will do: this app has no passwords.</p>
</section>"#,
    )
}

/// `session["name"] = request.form.get("name")`
async fn login(
    session: Session,
    Form(fields): Form<HashMap<String, String>>,
) -> web::Result<Response> {
    let name = fields.get("name").cloned();
    // A login gives the session another token, so that nobody can have planted it. Whose name was
    // in it before is not for this one.
    if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
        session.login(name, "a browser")?;
    }
    session.set("name", name.map_or(Value::Null, Value::from))?;
    Ok(redirect("/"))
}

/// `session["name"] = None`: the session stays, with nobody's name in it.
async fn logout(session: Session) -> web::Result<Response> {
    if session.is_live() {
        session.set("name", Value::Null)?;
    }
    Ok(redirect("/"))
}

/// What the notes wish for: "it can be removed completely".
async fn destroy(session: Session) -> web::Result<Response> {
    session.logout()?;
    Ok(redirect("/"))
}

/// `index.html`.
pub(crate) fn index_page(name: Option<&str>) -> Html<String> {
    let body = match name {
        Some(name) => format!(
            r#"<section class="notice">
<p>You are logged in as {}. <a href="/logout">Log out</a>.</p>
<p class="soft">Log out keeps the session and forgets the name. To remove it completely:</p>
<form action="/destroy" method="post"><button class="quiet">End the session</button></form>
</section>"#,
            escape(name)
        ),
        None => r#"<section><p>You are not logged in. <a href="/login">Log in</a>.</p></section>"#
            .to_owned(),
    };
    page("Home", &body)
}

fn page(title: &str, body: &str) -> Html<String> {
    super::page::page("Flask login", title, body)
}

/// 302, as Flask's `redirect`.
fn redirect(to: &'static str) -> Response {
    (StatusCode::FOUND, [(LOCATION, to)]).into_response()
}
