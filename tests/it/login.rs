//! Guards the main job: `examples/login`, as the README's first command runs it, over real HTTP.
//!
//! The store may keep every promise and a server on it still let an old cookie in, if the two do
//! not fit. So these tests know nothing of the store: they start the server as a process, and see
//! what a browser would see.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::support::{Directory, Stopwatch};

const REMOVAL: &str =
    "id=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
const ALICE: &str = "name=alice&password=wonderland";
const BOB: &str = "name=bob&password=builder";

#[test]
fn a_login_is_counted_and_ends_with_the_logout() {
    let server = Server::start(&[]);
    let mut browser = server.browser();

    let form = browser.get("/login");
    assert_eq!(form.status, 200);
    assert!(form.body.contains(r#"<form method="post" action="/login">"#), "{}", form.body);
    assert_eq!(form.header("set-cookie"), None, "a form is no reason for a session");
    assert_eq!(browser.get("/account").status, 401);

    let wrong = browser.post("/login", "name=alice&password=wonderlanD");
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    assert!(wrong.body.contains("Wrong name or password."));

    let login = browser.post("/login", ALICE);
    assert_eq!((login.status, login.header("location")), (303, Some("/account")));
    let token = browser.cookie.clone().unwrap().strip_prefix("id=").unwrap().to_owned();
    assert_eq!(token.len(), 43);
    let expected = format!("id={token}; Path=/; HttpOnly; SameSite=Lax");
    assert_eq!(login.header("set-cookie"), Some(expected.as_str()));
    login.assert_private();

    for visit in 1..=2 {
        let account = browser.get("/account");
        assert_eq!((account.status, account.header("set-cookie")), (200, None));
        assert!(account.body.contains("Hello, alice"));
        account.assert_visit(visit);
        account.assert_private();
    }

    assert_eq!(browser.get("/logout").status, 405, "GET must change nothing");
    let old = browser.clone();
    let logout = browser.post("/logout", "");
    assert_eq!((logout.status, logout.header("set-cookie")), (303, Some(REMOVAL)));
    logout.assert_private();
    assert_eq!(browser.cookie, None);

    for path in ["/account", "/account"] {
        let refused = old.clone().get(path);
        assert_eq!((refused.status, refused.header("set-cookie")), (401, Some(REMOVAL)));
        assert!(refused.body.contains("You have logged out."), "{}", refused.body);
        refused.assert_private();
    }
    assert_eq!(old.clone().post("/logout", "").status, 401);
}

/// Session fixation: whoever planted or saw the visitor's token must not have the user's session.
#[test]
fn the_visitors_cookie_is_dead_after_the_login() {
    let server = Server::start(&[]);
    let mut browser = server.browser();
    browser.get("/").assert_visit(1);
    browser.get("/").assert_visit(2);
    assert_eq!(browser.get("/account").status, 401, "a visitor is not logged in");

    let visitor = browser.clone();
    assert_eq!(browser.post("/login", ALICE).status, 303);
    assert_ne!(browser.cookie, visitor.cookie);
    browser.get("/account").assert_visit(3);

    let refused = visitor.clone().get("/account");
    assert_eq!(refused.status, 401);
    assert!(refused.body.contains("replaced by a new one"), "{}", refused.body);
    // The removal would hit the new cookie, which has the same name.
    assert_eq!(refused.header("set-cookie"), None);
    browser.get("/account").assert_visit(4);

    let logged_in = browser.clone();
    assert_eq!(browser.post("/login", ALICE).status, 303);
    assert_eq!(logged_in.clone().get("/account").status, 401, "a second login rotates too");
    browser.get("/account").assert_visit(5);
}

#[test]
fn another_user_inherits_nothing() {
    let server = Server::start(&[]);
    let mut browser = server.browser();
    browser.post("/login", ALICE);
    browser.get("/account").assert_visit(1);
    let alice = browser.clone();
    browser.post("/login", BOB);
    let account = browser.get("/account");
    assert!(account.body.contains("Hello, bob"));
    account.assert_visit(1);
    assert_eq!(alice.clone().get("/account").status, 401);
}

#[test]
fn devices_are_listed_and_logged_out_from_elsewhere() {
    let server = Server::start(&[]);
    let [mut laptop, mut phone, mut tablet, mut bob] = ["Laptop", "Phone", "Tablet", "Bob's"]
        .map(|agent| Browser { agent: agent.to_owned(), ..server.browser() });
    for browser in [&mut laptop, &mut phone, &mut tablet] {
        assert_eq!(browser.post("/login", ALICE).status, 303);
    }
    assert_eq!(bob.post("/login", BOB).status, 303);

    let account = laptop.get("/account");
    let rows = account.device_rows();
    assert_eq!(rows.len(), 3, "{}", account.body);
    assert!(rows[0].contains("Laptop") && rows[0].contains("this device"));
    assert!(rows[1].contains("Phone") && !rows[1].contains("this device"));
    let (phone_id, tablet_id) = (device_id(rows[1]), device_id(rows[2]));

    // Nobody ends the device of somebody else, nor one that does not exist.
    for device in [phone_id, "", "nonsense", "67e55044-10b1-426f-9247-bb680e5fe0c8"] {
        assert_eq!(bob.post("/devices/end", &format!("device={device}")).status, 404);
    }
    assert_eq!(server.browser().post("/devices/end", &format!("device={phone_id}")).status, 401);
    assert_eq!(phone.get("/account").status, 200);

    assert_eq!(laptop.post("/devices/end", &format!("device={tablet_id}")).status, 303);
    let refused = tablet.get("/account");
    assert_eq!((refused.status, refused.header("set-cookie")), (401, Some(REMOVAL)));
    assert!(refused.body.contains("You were logged out on another device."));
    assert_eq!(phone.get("/account").status, 200);

    assert_eq!(laptop.post("/logout-elsewhere", "").status, 303);
    let told = phone.get("/");
    assert_eq!((told.status, told.header("set-cookie")), (200, Some(REMOVAL)));
    assert!(told.body.contains("You were logged out on another device."));
    assert_eq!(laptop.get("/account").device_rows().len(), 1);
    assert_eq!(bob.get("/account").status, 200);
}

#[test]
fn strange_cookies_are_no_session() {
    let server = Server::start(&[]);
    let never_given = "A".repeat(43);
    let malformed =
        ["".into(), "x".into(), "A".repeat(42), "A".repeat(44), "+".repeat(43), "a".repeat(8192)];
    for value in malformed.iter().chain([&never_given]) {
        let mut browser = server.browser();
        browser.cookie = Some(format!("id={value}"));
        let refused = browser.get("/account");
        assert_eq!((refused.status, refused.header("set-cookie")), (401, None), "{value}");
        browser.get("/").assert_visit(1);
        assert_ne!(browser.cookie, Some(format!("id={value}")), "no id is taken from outside");
        browser.get("/").assert_visit(2);
    }
    assert_eq!(server.number("misses"), 2, "the foreign token, on both pages");

    // Ours is found among others, also behind one of its name that some other server left.
    let mut browser = server.browser();
    browser.post("/login", ALICE);
    let ours = browser.cookie.clone().unwrap();
    for around in [format!("a=b; {ours}; c"), format!("id=theirs;{ours}"), format!(";; =; {ours}")]
    {
        browser.cookie = Some(around);
        assert_eq!(browser.get("/account").status, 200, "{:?}", browser.cookie);
    }
    browser.cookie = Some(ours.replace("id=", "ID="));
    assert_eq!(browser.get("/account").status, 401);

    let mut flood = server.browser();
    flood.cookie = Some("a".repeat(1 << 20));
    assert_eq!(flood.get("/").status, 431);
}

#[test]
fn a_post_from_another_site_is_refused() {
    let server = Server::start(&[]);
    let mut browser = server.browser();
    browser.post("/login", ALICE);
    let own = format!("http://{}", server.address);
    let refused: [&[(&str, &str)]; 6] = [
        &[("Origin", "https://evil.example")],
        &[("Origin", "null")],
        &[("Origin", &format!("{own}.evil.example"))],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site"), ("Origin", &own)],
        &[("Sec-Fetch-Site", "cross-site"), ("Origin", &own)],
    ];
    for headers in refused {
        for path in ["/logout", "/logout-elsewhere", "/devices/end", "/login"] {
            let answer = browser.send("POST", path, headers, ALICE);
            assert_eq!((answer.status, answer.header("set-cookie")), (403, None), "{headers:?}");
        }
    }
    browser.get("/account").assert_visit(1);
    let allowed: [&[(&str, &str)]; 4] = [
        &[],
        &[("Origin", &own)],
        &[("Sec-Fetch-Site", "same-origin"), ("Origin", &own)],
        &[("Sec-Fetch-Site", "none")],
    ];
    for headers in allowed {
        assert_eq!(browser.send("POST", "/logout-elsewhere", headers, "").status, 303);
    }
}

#[test]
fn what_users_send_is_escaped() {
    let server = Server::start(&[]);
    let mut browser = server.browser();
    browser.agent = "<script>alert('x')</script>\"&".to_owned();
    browser.post("/login", ALICE);
    let account = browser.get("/account");
    let expected = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;";
    assert!(account.body.contains(expected), "{}", account.body);
    assert!(!account.body.contains("<script"));
    assert!(account.header("content-security-policy").unwrap().starts_with("default-src 'none'"));

    let form = browser.post("/login", "name=%22%3E%3Cscript%3E&password=x");
    assert!(form.body.contains("&quot;&gt;&lt;script&gt;"), "{}", form.body);
    assert!(!form.body.contains("<script"));

    // Too long for a label, and not even text.
    browser.agent = "\u{1F600}".repeat(2000);
    assert_eq!(browser.post("/login", ALICE).status, 303);
    assert!(browser.get("/account").body.contains('\u{1F600}'));
    assert_eq!(browser.post("/login", &format!("name={}", "a".repeat(10_000))).status, 413);
}

#[test]
fn the_numbers_move() {
    let server = Server::start(&[]);
    let names = ["live", "authenticated", "created", "ended: logged out"];
    let numbers = || names.map(|name| server.number(name));
    assert_eq!(numbers(), [0, 0, 0, 0]);
    let (mut alice, mut visitor) = (server.browser(), server.browser());
    alice.post("/login", ALICE);
    visitor.get("/");
    assert_eq!(numbers(), [2, 1, 2, 0]);
    let hits = server.number("hits");
    alice.get("/account");
    assert!(server.number("hits") > hits);
    alice.post("/logout", "");
    assert_eq!(numbers(), [1, 0, 2, 1]);

    let html = visitor.send("GET", "/stats", &[("Accept", "text/html,*/*;q=0.8")], "");
    assert!(html.header("content-type").unwrap().starts_with("text/html"));
    assert!(html.body.contains("<tr><td>live<td>1</tr>"), "{}", html.body);
}

#[test]
fn behind_tls_the_cookie_is_secure() {
    let server = Server::start(&["--secure"]);
    let mut browser = server.browser();
    let login = browser.post("/login", ALICE);
    let cookie = browser.cookie.clone().unwrap();
    assert!(cookie.starts_with("__Host-id="));
    let expected = format!("{cookie}; Path=/; Secure; HttpOnly; SameSite=Lax");
    assert_eq!(login.header("set-cookie"), Some(expected.as_str()));
    assert_eq!(browser.get("/account").status, 200);
    let expected = REMOVAL.replace("id=;", "__Host-id=;").replace("Path=/;", "Path=/; Secure;");
    assert_eq!(browser.post("/logout", "").header("set-cookie"), Some(expected.as_str()));

    browser.cookie = Some(cookie.replace("__Host-id=", "id="));
    assert_eq!(browser.get("/account").status, 401, "the plain name could be planted");
}

#[test]
fn a_taken_port_is_a_clear_error() {
    let server = Server::start(&[]);
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let mut second = Command::new(&*EXAMPLE);
    second.args(["--memory", "--port", &port]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut second = Killed(second.spawn().unwrap());
    let status = second.wait();
    let mut problem = String::new();
    second.0.stderr.take().unwrap().read_to_string(&mut problem).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(problem.starts_with(&format!("port {port} is taken: start with --port ")), "{problem}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_server_although_a_connection_is_open() {
    let mut server = Server::start(&[]);
    let _idle = TcpStream::connect(&server.address).unwrap();
    server.browser().get("/").assert_visit(1);
    let pid = server.child.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(server.child.wait().code(), Some(0));
}

/// A deploy, then crashes: whoever was logged in still is, every visit that was answered counts.
#[cfg(unix)]
#[test]
fn sessions_outlive_the_server() {
    let directory = Directory::new("login");
    let args = ["--sessions", directory.0.to_str().unwrap()];
    let mut server = Server::start(&args);
    let mut browser = server.browser();
    browser.get("/").assert_visit(1);
    let mut visits = 1;
    for signal in ["-TERM", "-KILL", "-KILL"] {
        for _ in 0..20 {
            visits += 1;
            browser.get("/").assert_visit(visits);
        }
        let pid = server.child.0.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        server.child.wait();
        server = Server::start(&args);
        browser.address = server.address.clone();
    }
    browser.get("/").assert_visit(visits + 1);
}

/// A deploy under load, the new server waiting for the old one's sessions: users get no answer for
/// a moment, then go on where they were; nobody is logged out, no visit that was answered is lost.
#[cfg(unix)]
#[test]
fn a_deploy_under_load_logs_nobody_out() {
    let directory = Directory::new("login-deploy");
    let args = ["--sessions", directory.0.to_str().unwrap()];
    let mut old = Server::start(&args);
    let address = Mutex::new(old.address.clone());
    let (clock, is_over) = (Stopwatch::start(), AtomicBool::new(false));
    let users: Vec<User> = thread::scope(|scope| {
        let visit = || {
            let mut browser = old.browser();
            assert_eq!(browser.post("/login", ALICE).status, 303);
            let (address, clock, is_over) = (&address, &clock, &is_over);
            scope.spawn(move || User::visit_until(is_over, browser, address, clock))
        };
        let users: Vec<_> = (0..4).map(|_| visit()).collect();
        thread::sleep(Duration::from_millis(300));
        let new = scope.spawn(|| Server::start(&args));
        thread::sleep(Duration::from_millis(300));
        let pid = old.child.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert_eq!(old.child.wait().code(), Some(0));
        let new = new.join().unwrap();
        address.lock().unwrap().clone_from(&new.address);
        thread::sleep(Duration::from_millis(300));
        is_over.store(true, Relaxed);
        users.into_iter().map(|user| user.join().unwrap()).collect()
    });
    let last = users.iter().map(|user| user.last_of_old).max().unwrap();
    let first = users.iter().map(|user| user.first_of_new.expect("each goes on")).min().unwrap();
    let visits: u32 = users.iter().map(|user| user.visits).sum();
    println!("{visits} visits, {:?} without an answer", first.saturating_sub(last));
}

/// Who visits again and again, and what he saw.
#[cfg(unix)]
#[derive(Default)]
struct User {
    visits: u32,
    /// When the servers answered.
    last_of_old: Duration,
    first_of_new: Option<Duration>,
}

#[cfg(unix)]
impl User {
    fn visit_until(
        is_over: &AtomicBool,
        mut browser: Browser,
        address: &Mutex<String>,
        clock: &Stopwatch,
    ) -> User {
        let (first_address, mut user) = (browser.address.clone(), User::default());
        let mut in_doubt = false;
        // Not for ever, should the test fail elsewhere.
        while !is_over.load(Relaxed) && clock.elapsed() < Duration::from_secs(60) {
            browser.address.clone_from(&address.lock().unwrap());
            let Ok(answer) = browser.try_send("GET", "/account", &[], "") else {
                // It may have been counted.
                in_doubt = true;
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            assert!(answer.body.contains("Hello, alice"), "{}: {}", answer.status, answer.body);
            user.visits += 1;
            let mut possible = user.visits..=user.visits + u32::from(in_doubt);
            let counted = possible.find(|&visit| answer.is_visit(visit));
            user.visits = counted.unwrap_or_else(|| panic!("{}: {}", user.visits, answer.body));
            in_doubt = false;
            if browser.address == first_address {
                user.last_of_old = clock.elapsed();
            } else {
                user.first_of_new.get_or_insert_with(|| clock.elapsed());
            }
        }
        user
    }
}

// ---- The server ----------------------------------------------------------------------------

/// A process that does not outlive its test, also when that panics.
struct Killed(Child);

impl Killed {
    /// Waits for the end, though not for ever.
    fn wait(&mut self) -> ExitStatus {
        for _ in 0..1000 {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the process does not end");
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Server {
    child: Killed,
    address: String,
}

impl Server {
    fn start(args: &[&str]) -> Server {
        let mut command = Command::new(&*EXAMPLE);
        command.args(["--port", "0", "--memory"]).args(args).stdout(Stdio::piped());
        let mut child = Killed(command.spawn().unwrap());
        let mut output = BufReader::new(child.0.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("Listening") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the server ended");
        }
        let address = line.trim().strip_prefix("Listening on http://").expect(&line).to_owned();
        // What it prints later is read, so that it never waits for a reader.
        thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Server { child, address }
    }

    fn browser(&self) -> Browser {
        Browser { address: self.address.clone(), agent: "test".to_owned(), cookie: None }
    }

    /// A number of the page `/stats`, as text.
    fn number(&self, name: &str) -> u64 {
        let answer = self.browser().get("/stats");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        let start = format!("{name}: ");
        let line = answer.body.lines().find_map(|line| line.strip_prefix(&start));
        line.expect(&answer.body).parse().unwrap()
    }
}

/// The program, next to this test. `cargo test` builds it, but not `cargo test --test it`: then,
/// or if it is older than its sources, it is built here.
static EXAMPLE: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().unwrap();
    let profile_dir = test.parent().unwrap().parent().unwrap();
    let program =
        profile_dir.join("examples").join(format!("login{}", std::env::consts::EXE_SUFFIX));
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(".".into()));
    let built = modified(&program);
    if built < newest(&root.join("src")).max(newest(&root.join("examples/login"))) {
        let profile = match profile_dir.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        build.args(["build", "--quiet", "--example", "login", "--profile", profile]);
        build.arg("--target-dir").arg(profile_dir.parent().unwrap()).current_dir(&root);
        assert!(build.status().unwrap().success(), "the example does not build");
    }
    program
});

fn modified(path: &Path) -> SystemTime {
    path.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// When the newest file below a folder was changed.
fn newest(dir: &Path) -> SystemTime {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let times = paths.map(|path| if path.is_dir() { newest(&path) } else { modified(&path) });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

// ---- The client ----------------------------------------------------------------------------

/// Just enough of a browser: it keeps the cookie, and sends each request on its own connection.
#[derive(Clone)]
struct Browser {
    address: String,
    agent: String,
    /// Name and value.
    cookie: Option<String>,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Browser {
    fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    fn post(&mut self, path: &str, form: &str) -> Answer {
        self.send("POST", path, &[], form)
    }

    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], form: &str) -> Answer {
        let answer = self.try_send(method, path, headers, form);
        answer.unwrap_or_else(|error| panic!("{method} {path}: no answer ({error})"))
    }

    fn try_send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        form: &str,
    ) -> Result<Answer, String> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\nConnection: close\r\n",
            self.address, self.agent
        );
        if let Some(cookie) = &self.cookie {
            request += &format!("Cookie: {cookie}\r\n");
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if method == "POST" {
            request += "Content-Type: application/x-www-form-urlencoded\r\n";
            request += &format!("Content-Length: {}\r\n", form.len());
        }
        request += &format!("\r\n{form}");

        let stream = TcpStream::connect(&self.address);
        let mut stream = stream.map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // A server that refuses a request may hang up before it has read it all.
        let _ = stream.write_all(request.as_bytes());
        let mut bytes = Vec::new();
        let end = stream.read_to_end(&mut bytes);
        let answer = Answer::parse(&String::from_utf8(bytes).unwrap());
        let answer = answer.ok_or_else(|| format!("{end:?}"))?;
        if let Some(line) = answer.header("set-cookie") {
            let (pair, attributes) = line.split_once(';').unwrap();
            self.cookie = (!attributes.contains("Max-Age=0")).then(|| pair.to_owned());
        }
        Ok(answer)
    }
}

impl Answer {
    fn parse(text: &str) -> Option<Answer> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Some(Answer { status, headers, body: body.to_owned() })
    }

    /// The only header of this name.
    fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(other, _)| other == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} comes twice");
        value
    }

    /// No cache may keep it.
    #[track_caller]
    fn assert_private(&self) {
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert_eq!(self.header("vary"), Some("Cookie"));
    }

    fn is_visit(&self, visit: u32) -> bool {
        let expected = format!("This is visit {visit} of this session.");
        self.status == 200 && self.body.contains(&expected)
    }

    #[track_caller]
    fn assert_visit(&self, visit: u32) {
        assert!(self.is_visit(visit), "{}", self.body);
    }

    /// The lines of the list of devices.
    fn device_rows(&self) -> Vec<&str> {
        self.body.split("<tr>").skip(2).collect()
    }
}

/// The id in the button of a device that is not this one.
fn device_id(row: &str) -> &str {
    let (_, rest) = row.split_once(r#"name="device" value=""#).expect(row);
    rest.split_once('"').unwrap().0
}
