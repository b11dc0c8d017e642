//! The HTML. Whatever came from outside goes through [`escape`].

use std::time::Duration;

use axum::response::Html;
use cloakroom::{Info, Reason, SessionId, Stats};

pub(crate) const CSS: &str = "\
:root { color-scheme: light dark; --line: #8884; --accent: #0a6cbd; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 0 1rem }
nav { margin: 0 0 2rem; padding: 0 0 .6rem; border-bottom: 1px solid var(--line) }
nav a { margin-right: 1.2rem }
a { color: var(--accent) }
label { display: block; margin: .8rem 0; max-width: 18rem }
input { font: inherit; width: 100%; padding: .4rem .5rem; box-sizing: border-box }
button { font: inherit; padding: .35rem .9rem; border: 1px solid var(--line); border-radius: .4rem;
  cursor: pointer }
form { display: inline-block; margin: .4rem .4rem .4rem 0 }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { text-align: left; padding: .45rem .8rem .45rem 0; border-bottom: 1px solid var(--line) }
td:first-child { overflow-wrap: anywhere }
.why { padding: .6rem .9rem; border-left: .25rem solid var(--accent); background: #8881 }
";

/// Text as it may stand in HTML, between tags and in quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A page with this body, which is HTML.
fn page(title: &str, body: &str) -> Html<String> {
    Html(format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title} - cloakroom</title>
<link rel="stylesheet" href="/style.css">
<nav><a href="/">Visitors</a><a href="/account">Account</a><a href="/stats">Numbers</a></nav>
<h1>{title}</h1>
{body}
</html>
"#
    ))
}

pub(crate) fn home(visits: Option<i64>, owner: Option<&str>) -> Html<String> {
    let counted = match visits {
        Some(visits) => format!("<p>This is visit {visits} of this session.</p>"),
        None => "<p>There are too many visitors to count this visit.</p>".to_owned(),
    };
    let way_on = match owner {
        Some(owner) => {
            format!(r#"<p>Go to <a href="/account">the account of {}</a>.</p>"#, escape(owner))
        }
        None => r#"<p>Nobody knows who you are. <a href="/login">Log in</a></p>"#.to_owned(),
    };
    page("Welcome", &format!("{counted}\n{way_on}"))
}

pub(crate) fn login(name: &str, problem: Option<&str>) -> Html<String> {
    let problem = problem.map(|text| format!("<p class=why>{text}</p>\n")).unwrap_or_default();
    let name = escape(name);
    let body = format!(
        r#"{problem}<form method="post" action="/login">
<label>Name <input name="name" value="{name}" autocomplete="username" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required>
</label>
<button>Log in</button>
</form>
<p>The demo knows alice (password wonderland) and bob (builder).</p>"#
    );
    page("Log in", &body)
}

pub(crate) fn account(name: &str, visits: i64, devices: &[Info], this: SessionId) -> Html<String> {
    let rows: String = devices.iter().map(|device| device_row(device, this)).collect();
    let body = format!(
        r#"<p>This is visit {visits} of this session.</p>
<form method="post" action="/logout"><button>Log out</button></form>
<form method="post" action="/logout-elsewhere"><button>Log out everywhere else</button></form>
<h2>My devices</h2>
<table>
<tr><th>Device<th>Logged in<th>Last seen<th></tr>
{rows}</table>"#
    );
    page(&format!("Hello, {}", escape(name)), &body)
}

fn device_row(device: &Info, this: SessionId) -> String {
    let label = escape(device.label.as_deref().unwrap_or("unknown device"));
    let (created, seen, id) = (ago(device.age), ago(device.idle), device.id);
    let action = if id == this {
        "this device".to_owned()
    } else {
        format!(
            r#"<form method="post" action="/devices/end">
<input type="hidden" name="device" value="{id}"><button>End</button></form>"#
        )
    };
    format!("<tr><td>{label}<td>{created}<td>{seen}<td>{action}</tr>\n")
}

fn ago(time: Duration) -> String {
    match time.as_secs() {
        0..=9 => "just now".to_owned(),
        seconds @ 10..=119 => format!("{seconds} s ago"),
        seconds @ 120..=7199 => format!("{} min ago", seconds / 60),
        seconds => format!("{} h ago", seconds / 3600),
    }
}

/// What a user is told about the end of his session.
pub(crate) fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::LoggedOut => "You have logged out.",
        Reason::Expired => "Your session has expired.",
        Reason::Rotated => "This cookie was replaced by a new one, at a login.",
        Reason::Revoked => "You were logged out on another device.",
        Reason::Evicted => "Your session was ended because the server had no room.",
    }
}

pub(crate) fn ended(reason: Reason) -> Html<String> {
    message(why(reason))
}

/// A page that says one thing. The text is ours, not from outside.
pub(crate) fn message(text: &str) -> Html<String> {
    page("Sorry", &format!("<p class=why>{text}</p>\n<p><a href=\"/login\">Log in</a></p>"))
}

pub(crate) fn stats_rows(stats: &Stats) -> Vec<(String, u64)> {
    let mut rows = vec![
        ("live", stats.live),
        ("anonymous", stats.anonymous),
        ("authenticated", stats.authenticated),
        ("owners", stats.owners),
        ("active within 1 minute", stats.active_1_minute),
        ("active within 5 minutes", stats.active_5_minutes),
        ("active within 15 minutes", stats.active_15_minutes),
        ("bytes", stats.bytes),
        ("overhead bytes", stats.overhead_bytes),
        ("hits", stats.hits),
        ("misses", stats.misses),
        ("created", stats.created),
    ]
    .into_iter()
    .map(|(name, number)| (name.to_owned(), number))
    .collect::<Vec<_>>();
    rows.extend(Reason::ALL.map(|reason| (format!("ended: {reason}"), stats.ended_by(reason))));
    rows
}

pub(crate) fn stats(rows: &[(String, u64)]) -> Html<String> {
    let rows: String =
        rows.iter().map(|(name, number)| format!("<tr><td>{name}<td>{number}</tr>\n")).collect();
    page("Numbers", &format!("<table>\n{rows}</table>"))
}
