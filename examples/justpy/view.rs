//! The pages. Their script stands in them: nothing comes from the network.

use axum::response::Html;

use super::page::{escape, page};

const SYSTEM: &str = "JustPy sessions";

pub(crate) const LOGIN_SUCCESSFUL: &str = "Login successful. You are now logged in";

/// One socket per page. It comes back when the session goes on under another id, and says why it
/// was closed otherwise.
const SOCKET: &str = r#"<script>
const part = id => document.getElementById(id);
let socket;
function open() {
  socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/socket");
  socket.onopen = () => { part("state").textContent = "connected"; };
  socket.onmessage = message => {
    const now = JSON.parse(message.data);
    part("clicks").textContent = "Number of Click Events: " + now.events;
    part("visits").textContent = "Number of visits: " + now.visits;
  };
  socket.onclose = event => {
    part("state").textContent = event.reason || "not connected";
    if (event.reason.endsWith("Rotated")) open();
  };
}
open();
part("clicks").onclick = () => socket.send(JSON.stringify({ event: "click" }));
</script>"#;

const SIGN_IN: &str = r#"<script>
const part = id => document.getElementById(id);
async function signIn(event) {
  event.preventDefault();
  const answer = await fetch("/event/sign_in", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user_name: part("user_name").value, password: part("password").value }),
  });
  if (!answer.ok) { part("session").textContent = await answer.text(); return; }
  const now = await answer.json();
  part("session").textContent = now.session;
  part("alert").hidden = !now.alert;
  if (now.page) {
    part("login").innerHTML = "";
    part("done").textContent = now.page;
    part("done").hidden = false;
    history.replaceState(null, "", now.display_url);
    setTimeout(() => { location.href = now.redirect; }, now.redirect_after_ms);
  }
}
part("form").onsubmit = signIn;
</script>"#;

const LOG_OUT: &str = r#"<script>
const part = id => document.getElementById(id);
const send = name => fetch("/event/" + name, {
  method: "POST", headers: { "content-type": "application/json" }, body: "{}",
});
part("log_out").onclick = async () => {
  const answer = await send("log_out");
  location.href = answer.ok ? (await answer.json()).redirect : "/login_test";
};
part("elsewhere").onclick = async () => {
  const answer = await send("log_out_elsewhere");
  const told = answer.ok ? (await answer.json()).ended + " sessions ended" : await answer.text();
  part("told").textContent = told;
};
</script>"#;

pub(crate) fn session_test(id: &str, visits: i64, events: i64) -> Html<String> {
    let id = escape(id);
    let body = format!(
        r#"<section>
<p>My session id: <code>{id}</code></p>
<p id="visits">Number of visits: {visits}</p>
<p><button id="clicks">Number of Click Events: {events}</button></p>
<p class="soft">Clicks go over a WebSocket: <span id="state">connecting</span>.
<a href="/login_test">The login</a></p>
</section>
{SOCKET}"#
    );
    page(SYSTEM, "Visits and clicks", &body)
}

pub(crate) fn login_page() -> Html<String> {
    let body = format!(
        r#"<section id="login">
<h2>Please login</h2>
<form id="form">
<label>Username <input id="user_name" placeholder="Username" autocomplete="username"></label>
<label>Password <input id="password" type="password" placeholder="******************"
autocomplete="current-password"></label>
<p class="soft">The password is 'password'</p>
<button>Sign In</button>
</form>
</section>
<section id="alert" class="alert" role="alert" hidden>
<p><b>Password is incorrect</b></p><p>Please enter password again.</p>
</section>
<section id="done" class="notice" hidden></section>
<p class="soft" id="session">Session goes here</p>
{SIGN_IN}"#
    );
    page(SYSTEM, "Login", &body)
}

pub(crate) fn logged_in(id: &str) -> Html<String> {
    let id = escape(id);
    let body = format!(
        r#"<section class="notice">
<p>Your session id is: {id}</p>
<p>You are already logged in...</p>
<p><button id="log_out">Logout</button>
<button id="elsewhere" class="quiet">Log out everywhere else</button>
<span id="told" class="soft"></span></p>
<p><a href="/">Visits and clicks</a></p>
</section>
{LOG_OUT}"#
    );
    page(SYSTEM, "Welcome", &body)
}

pub(crate) fn without_sessions() -> Html<String> {
    page(SYSTEM, "No sessions", "<section><p>Sessions are switched off.</p></section>")
}
