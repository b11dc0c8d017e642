//! The routes: those of the documentation under `/doc`, those of its demo at the root.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use cloakroom::Store;
use cloakroom::axum::SessionLayer;
use cloakroom::cookie::{Cookie, CookieError, Encoding, Keys};
use cloakroom::web::{self, BadCookie, Sessions};
use rkyv::{Archive, Deserialize, Serialize};

use super::page::{escape, page};

/// The secret of the documentation.
pub(crate) const SECRET: &str = "my-super-secret-key-must-be-32-bytes";
/// `maxage=3600`
pub(crate) const MAX_AGE: Duration = Duration::from_secs(3600);

/// What a session holds: a type of the application's own, rather than a table of strings.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub(crate) struct Login {
    pub(crate) email: String,
    pub(crate) role: String,
    /// In seconds since 1970.
    pub(crate) login_time: i64,
}

type Session = web::Session<Login>;

/// The application context, handed to the server once; nothing is global.
#[derive(Clone, Default)]
pub(crate) struct Context {
    /// How many requests brought a cookie that was not made here.
    pub(crate) bad_cookies: Arc<AtomicU64>,
}

/// `serve(context=app_state)`
pub(crate) fn app(
    store: Store<Login>,
    keys: Keys,
    is_secure: bool,
    context: Context,
) -> Result<Router, CookieError> {
    // `configcookies(secret_key=..)`, `encrypted=true, httponly=true, maxage=3600`
    let cookie = Cookie::builder()
        .name("session_id")
        .encoding(Encoding::Sealed(keys))
        .max_age(MAX_AGE)
        .secure(is_secure)
        .build()?;
    let sessions = Sessions::new(store).cookie(cookie).bad_cookie(BadCookie::Refuse);
    let documented = Router::new()
        .route("/login", post(login))
        .route("/dashboard", get(dashboard))
        .route("/logout", post(logout));
    let app = Router::new()
        .route("/", get(demo_home))
        .route("/login", post(demo_login))
        .route("/dashboard", get(demo_dashboard))
        .route("/logout", post(demo_logout))
        .nest("/doc", documented)
        .layer(SessionLayer::new(sessions))
        .with_state(context);
    Ok(app)
}

/// Whoever asks. A cookie that was not made here is counted, and is as good as none.
struct Visitor(Option<Session>);

impl FromRequestParts<Context> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        context: &Context,
    ) -> Result<Visitor, Infallible> {
        let session = <Session as FromRequestParts<_>>::from_request_parts(parts, context).await;
        if let Err(web::Error::BadCookie) = &session {
            context.bad_cookies.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Visitor(session.ok()))
    }
}

impl Visitor {
    /// Who is logged in, if anybody.
    fn login(&self) -> Option<Login> {
        let data = |login: &ArchivedLogin| Login {
            email: login.email.to_string(),
            role: login.role.to_string(),
            login_time: login.login_time.to_native(),
        };
        self.0.as_ref()?.read(data)
    }

    /// Begins a session of this user's, with a token that nobody knew before.
    fn begin(&self, email: &str, role: &str) -> web::Result<()> {
        // A bad cookie is no session to go on with: the next request comes without it.
        let session = self.0.as_ref().ok_or(web::Error::BadCookie)?;
        session.login(email, role)?;
        session.update(|login| {
            let login_time = time::OffsetDateTime::now_utc().unix_timestamp();
            *login = Login { email: email.to_owned(), role: role.to_owned(), login_time };
        })
    }

    fn end(&self) -> web::Result<()> {
        self.0.as_ref().map_or(Ok(()), Session::logout)
    }
}

// ---- As documented -------------------------------------------------------------------------

async fn login(visitor: Visitor) -> web::Result<&'static str> {
    visitor.begin("alice@example.com", "admin")?;
    Ok("Login Successful")
}

async fn dashboard(visitor: Visitor) -> Result<String, (StatusCode, &'static str)> {
    let login = visitor.login().ok_or((StatusCode::UNAUTHORIZED, "Unauthorized - Please Login"))?;
    Ok(format!("Welcome back, {}!", login.email))
}

async fn logout(visitor: Visitor) -> web::Result<&'static str> {
    visitor.end()?;
    Ok("Logged Out")
}

// ---- The demo ------------------------------------------------------------------------------

async fn demo_home(visitor: Visitor) -> Response {
    match visitor.login() {
        Some(_) => Redirect::to("/dashboard").into_response(),
        None => demo_form(None).into_response(),
    }
}

fn demo_form(problem: Option<&str>) -> Html<String> {
    let problem = problem
        .map(|text| format!(r#"<section class="alert"><p>{text}</p></section>"#))
        .unwrap_or_default();
    let body = format!(
        r#"{problem}<section>
<form method="post" action="/login">
<label>Username <input name="user" autocomplete="username" required autofocus></label>
<label>Password <input name="pass" type="password" autocomplete="current-password" required></label>
<button>Log in</button>
</form>
<p class="soft">The demo knows <code>admin</code> with the password <code>1234</code>.</p>
</section>"#
    );
    page("Oxygen sessions", "Log in", &body)
}

async fn demo_login(
    visitor: Visitor,
    Form(fields): Form<HashMap<String, String>>,
) -> web::Result<Response> {
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    // A real server keeps a hash of each password, and slows down those who guess.
    if (field("user"), field("pass")) != ("admin", "1234") {
        return Ok(demo_form(Some("Invalid username or password!")).into_response());
    }
    visitor.begin("admin", "admin")?;
    Ok(Redirect::to("/dashboard").into_response())
}

async fn demo_dashboard(State(context): State<Context>, visitor: Visitor) -> Response {
    let Some(login) = visitor.login() else { return Redirect::to("/").into_response() };
    let body = format!(
        r#"<section class="notice">
<h2>Welcome, {}!</h2>
<p>The cookie is sealed: not even this browser's user can read the token inside it.</p>
<table>
<tr><th>Role<td>{}</tr>
<tr><th>Logged in at<td>{}</tr>
<tr><th>Requests with a cookie that was not made here<td>{}</tr>
</table>
<form method="post" action="/logout"><button class="quiet">Log out</button></form>
</section>"#,
        escape(&login.email),
        escape(&login.role),
        moment(login.login_time),
        context.bad_cookies.load(Ordering::Relaxed)
    );
    page("Oxygen sessions", "Dashboard", &body).into_response()
}

fn moment(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds).map_or_else(
        |_| "an unknown time".to_owned(),
        |time| format!("{} {:02}:{:02} UTC", time.date(), time.hour(), time.minute()),
    )
}

async fn demo_logout(visitor: Visitor) -> web::Result<Redirect> {
    visitor.end()?;
    Ok(Redirect::to("/"))
}
