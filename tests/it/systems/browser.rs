//! A browser without a socket: keeps cookies as one does, and sends whole requests to an app.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

/// A clone is the same browser at the same moment: whatever cookies it had may be replayed.
#[derive(Clone)]
pub(crate) struct Browser {
    app: Router,
    pub(crate) cookies: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    pub(crate) fn set_cookies(&self) -> Vec<&str> {
        self.all(SET_COOKIE.as_str())
    }

    /// The only `Set-Cookie` line, if there is one.
    pub(crate) fn set_cookie(&self) -> Option<&str> {
        let lines = self.set_cookies();
        assert!(lines.len() <= 1, "{lines:?}");
        lines.first().copied()
    }

    pub(crate) fn location(&self) -> Option<&str> {
        self.headers.get(LOCATION).map(|value| value.to_str().unwrap())
    }

    /// The answer leads to another page, by the status that frameworks of other languages use.
    pub(crate) fn assert_found(&self, location: &str) {
        assert_eq!((self.status.as_u16(), self.location()), (302, Some(location)), "{}", self.body);
    }

    pub(crate) fn assert_ok(&self) {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
    }

    pub(crate) fn assert_has(&self, text: &str) {
        assert!(self.body.contains(text), "`{text}` is not in: {}", self.body);
    }

    pub(crate) fn assert_lacks(&self, text: &str) {
        assert!(!self.body.contains(text), "`{text}` is in: {}", self.body);
    }
}

/// The attributes of a `Set-Cookie` line, in lower case, sorted: browsers mind neither.
pub(crate) fn attributes(line: &str) -> Vec<String> {
    let mut attributes: Vec<String> =
        line.split("; ").skip(1).map(str::to_ascii_lowercase).collect();
    attributes.sort();
    attributes
}

/// The value of a `Set-Cookie` line.
pub(crate) fn value(line: &str) -> &str {
    line.split(';').next().unwrap().split_once('=').unwrap().1
}

impl Browser {
    pub(crate) fn new(app: &Router) -> Browser {
        Browser { app: app.clone(), cookies: BTreeMap::new() }
    }

    /// A browser with these cookies, as another server at the same address sees it.
    pub(crate) fn of(app: &Router, cookies: &BTreeMap<String, String>) -> Browser {
        Browser { app: app.clone(), cookies: cookies.clone() }
    }

    /// A browser with this cookie alone.
    pub(crate) fn with(app: &Router, name: &str, value: &str) -> Browser {
        let cookies = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Browser { app: app.clone(), cookies }
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> Answer {
        let (mut parts, body) = request.into_parts();
        if !self.cookies.is_empty() {
            let pairs: Vec<String> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            parts.headers.insert(COOKIE, pairs.join("; ").parse().unwrap());
        }
        let request = Request::from_parts(parts, body);
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let answer = Answer { status: parts.status, headers: parts.headers, body };
        for line in answer.set_cookies() {
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if attributes(line).contains(&"max-age=0".to_owned()) {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    pub(crate) async fn request(&mut self, method: &str, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(path);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path).await
    }

    /// Sends a form, as `name=value&..`.
    pub(crate) async fn post(&mut self, path: &str, form: &str) -> Answer {
        let request = Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form.to_owned())).unwrap()).await
    }
}

/// A directory of a test's own, removed at its end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("cloakroom-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
