//! JSON Web Tokens, signed by HMAC-SHA-256 (RFC 7519, `HS256`).

use jwt_compact::alg::{Hs256, Hs256Key};
use jwt_compact::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The notebook's secret: known to everybody, so for this demo only.
pub(crate) const SECRET: &str = "my_super_secret_key";

/// Who the token is about, when it was issued; in this order.
#[derive(Serialize)]
struct Payload<'a> {
    sub: String,
    name: &'a str,
    iat: i64,
}

#[derive(Deserialize)]
struct Subject {
    sub: String,
    name: String,
}

/// What a token says whose signature is right.
#[derive(Debug, PartialEq)]
pub(crate) struct Verified {
    pub(crate) sub: String,
    pub(crate) name: String,
    /// In seconds since 1970.
    pub(crate) issued: Option<i64>,
}

/// `JWT.encode(payload, secret, 'HS256')`
pub(crate) fn encode(sub: Uuid, name: &str, iat: i64, secret: &str) -> Option<String> {
    let claims = Claims::new(Payload { sub: sub.to_string(), name, iat });
    Hs256.token(&Header::empty(), &claims, &Hs256Key::new(secret)).ok()
}

/// None unless this secret signed it, by this very algorithm.
pub(crate) fn verify(token: &str, secret: &str) -> Option<Verified> {
    let key = Hs256Key::new(secret);
    let token = UntrustedToken::new(token).ok()?;
    let token: Token<Subject> = Hs256.validator(&key).validate(&token).ok()?;
    let (_, claims) = token.into_parts();
    let issued = claims.issued_at.map(|issued| issued.timestamp());
    let Subject { sub, name } = claims.custom;
    Some(Verified { sub, name, issued })
}
