//! Cookies: what browsers would drop is refused when it is built, what a forger sends is refused
//! when it is opened, whatever a header looks like.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloakroom::cookie::{Cookie, CookieError, CookieOptions, Encoding, Keys, SameSite, values};
use cloakroom::{Attributes, Store, Token};
use proptest::prelude::*;

use crate::support::full;

const INVALID: CookieError = CookieError::Invalid;

fn secret(n: u8) -> [u8; 32] {
    [n; 32]
}

fn ring(secrets: &[u8]) -> Keys {
    Keys::new(secrets.iter().map(|&n| secret(n))).unwrap()
}

fn signed_and_sealed() -> [Encoding; 2] {
    let keys = ring(&[1]);
    [Encoding::Signed(keys.clone()), Encoding::Sealed(keys)]
}

fn default_cookie() -> Cookie {
    Cookie::builder().build().unwrap()
}

fn refused(options: CookieOptions) -> &'static str {
    match options.build() {
        Err(CookieError::Option { option, problem }) => {
            assert!(!problem.is_empty());
            option
        }
        other => panic!("{other:?}"),
    }
}

// ---- Writing -------------------------------------------------------------------------------

#[test]
fn set_cookie_is_written_exactly() {
    let of = |options: CookieOptions| options.build().unwrap();
    let builder = Cookie::builder;
    let day = Duration::from_millis(86_400_999);
    for (cookie, expected) in [
        (of(builder()), "__Host-id=v; Path=/; Secure; HttpOnly; SameSite=Lax"),
        (Cookie::default(), "__Host-id=v; Path=/; Secure; HttpOnly; SameSite=Lax"),
        (of(builder().plain_http()), "id=v; Path=/; HttpOnly; SameSite=Lax"),
        (of(builder().plain_http().secure(true)), "id=v; Path=/; HttpOnly; SameSite=Lax"),
        (
            of(builder().name("__Secure-sid").plain_http().path("/a")),
            "sid=v; Path=/a; HttpOnly; SameSite=Lax",
        ),
        (
            of(builder().max_age(day)),
            "__Host-id=v; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=86400",
        ),
        (
            of(builder().same_site(SameSite::None).partitioned(true).http_only(false)),
            "__Host-id=v; Path=/; Secure; SameSite=None; Partitioned",
        ),
        (
            of(builder().name("__Secure-a").domain("a-1.Example.org").path("/x,y=%20")),
            "__Secure-a=v; Path=/x,y=%20; Domain=a-1.Example.org; Secure; HttpOnly; SameSite=Lax",
        ),
        (
            of(builder().name("a").secure(false).same_site(SameSite::Strict)),
            "a=v; Path=/; HttpOnly; SameSite=Strict",
        ),
    ] {
        assert_eq!(cookie.set("v").unwrap(), expected);
        // Removed under the same name, path and domain, and never for longer.
        let kept = expected.replace("=v;", "=;").replace("; Max-Age=86400", "");
        let removal = format!("{kept}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(cookie.remove(), removal);
    }
}

#[test]
fn options_that_browsers_would_drop_are_refused_by_name() {
    let builder = Cookie::builder;
    let seconds = Duration::from_secs;
    for (option, options) in [
        ("name", builder().name("")),
        ("name", builder().name("a b")),
        ("name", builder().name("a=b")),
        ("name", builder().name("a;b")),
        ("name", builder().name("a\nb")),
        ("name", builder().name("caf\u{e9}")),
        ("name", builder().name("a".repeat(4096))),
        ("name", builder().name("__Host-").plain_http()),
        ("path", builder().name("a").path("")),
        ("path", builder().name("a").path("a/")),
        ("path", builder().name("a").path("/a;Domain=example.org")),
        ("path", builder().name("a").path("/a b")),
        ("path", builder().name("a").path("/a\r\nSet-Cookie: b=c")),
        ("path", builder().name("a").path("/\u{e9}")),
        ("path", builder().name("a").path("/".repeat(1025))),
        ("domain", builder().name("a").domain("")),
        ("domain", builder().name("a").domain(".example.org")),
        ("domain", builder().name("a").domain("example.org.")),
        ("domain", builder().name("a").domain("example..org")),
        ("domain", builder().name("a").domain("example.org;Path=/")),
        ("domain", builder().name("a").domain("ex\u{e4}mple.org")),
        ("domain", builder().name("a").domain("a.".repeat(126) + "ab")),
        ("max_age", builder().max_age(Duration::ZERO)),
        ("max_age", builder().max_age(Duration::from_millis(999))),
        ("max_age", builder().max_age(seconds(400 * 86_400 + 1))),
        ("max_age", builder().max_age(Duration::MAX)),
        ("secure", builder().secure(false)),
        ("secure", builder().name("__host-x").secure(false)),
        ("secure", builder().name("__Secure-x").secure(false)),
        ("secure", builder().name("__SECURE-x").secure(false)),
        ("secure", builder().name("__Http-x").secure(false)),
        ("path", builder().path("/a")),
        ("path", builder().name("__HOST-x").path("/a")),
        ("domain", builder().domain("example.org")),
        ("domain", builder().name("__Host-Http-x").domain("example.org")),
        ("http_only", builder().name("__Http-x").http_only(false)),
        ("http_only", builder().name("__Host-Http-x").http_only(false)),
        ("same_site", builder().plain_http().same_site(SameSite::None)),
        ("same_site", builder().name("a").secure(false).same_site(SameSite::None)),
        ("partitioned", builder().plain_http().partitioned(true)),
    ] {
        let what = format!("{options:?}");
        assert_eq!(refused(options), option, "{what}");
    }
    for options in [
        builder().max_age(seconds(1)),
        builder().max_age(seconds(400 * 86_400)),
        builder().name("a").path("/".repeat(1024)),
        builder().name("a").domain("a.".repeat(126) + "a"),
        builder().name("!#$%&'*+-.^_`|~09azAZ"),
        builder().name("x__Host-").secure(false),
    ] {
        assert!(options.clone().build().is_ok(), "{options:?}");
    }
}

#[test]
fn no_value_ends_its_cookie() {
    let cookie = default_cookie();
    for byte in 0..=255_u8 {
        let value = String::from_utf8_lossy(&[b'a', byte]).into_owned();
        let is_allowed = byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
        let expected = if is_allowed {
            Ok(format!("__Host-id={value}; Path=/; Secure; HttpOnly; SameSite=Lax"))
        } else {
            Err(CookieError::Value { index: 1 })
        };
        assert_eq!(cookie.set(&value), expected);
    }
    assert!(cookie.set("").is_ok());
}

/// 4096 bytes of `Set-Cookie` text are sent, 4097 are an error: all of the text counts.
#[test]
fn what_browsers_would_drop_for_its_length_is_an_error() {
    let cookie = default_cookie();
    let rest = cookie.set("").unwrap().len();
    assert_eq!(cookie.set(&"v".repeat(4096 - rest)).unwrap().len(), 4096);
    let too_long = Err(CookieError::TooLong { bytes: 4097, bytes_max: 4096 });
    assert_eq!(cookie.set(&"v".repeat(4097 - rest)), too_long);
    for encoding in signed_and_sealed().into_iter().chain([Encoding::Plain]) {
        let cookie = Cookie::builder().encoding(encoding.clone()).build().unwrap();
        let fits = (0..4096).rev().find(|&len| cookie.seal(vec![0; len]).is_ok()).unwrap();
        assert!((2900..=3072).contains(&fits), "{fits}");
        assert!(matches!(cookie.seal(vec![0; 1 << 20]), Err(CookieError::TooLong { .. })));
        // What an encoding makes by itself, it opens.
        let fits = (0..4096).rev().find(|&len| encoding.seal("id", vec![0; len]).is_ok()).unwrap();
        let text = encoding.seal("id", vec![0; fits]).unwrap();
        assert!((4094..=4096).contains(&text.len()));
        assert_eq!(encoding.open("id", &text).unwrap().value.len(), fits);
    }
}

// ---- Reading -------------------------------------------------------------------------------

/// A header, a name, the values that the header gives to it.
type Case = (&'static [u8], &'static str, &'static [&'static [u8]]);

#[test]
fn nasty_headers_are_read_as_documented() {
    let cases: &[Case] = &[
        (b"", "id", &[]),
        (b";", "id", &[]),
        (b";;; ; ;\t;", "id", &[]),
        (b"id", "id", &[]),
        (b"=id", "id", &[]),
        (b"id=", "id", &[b""]),
        (b"id=1", "id", &[b"1"]),
        (b"id=1;", "id", &[b"1"]),
        (b";id=1", "id", &[b"1"]),
        (b"id=1;id=2; id=3;  id=4", "id", &[b"1", b"2", b"3", b"4"]),
        (b" \t id=1 \t ; a=b", "id", &[b"1"]),
        (b"id= 1", "id", &[b" 1"]),
        (b"id =1", "id", &[]),
        (b"ID=1; Id=2; id=3", "id", &[b"3"]),
        (b"xid=1; idx=2; i=d; id.=3; .id=4", "id", &[]),
        (b"id==1=; id==", "id", &[b"=1=", b"="]),
        // Quotes protect nothing and are a part of the value.
        (b"id=\"1\"", "id", &[b"\"1\""]),
        (b"a=\"; id=1; b=\"", "id", &[b"1"]),
        (b"id=\"1; id=2\"", "id", &[b"\"1", b"2\""]),
        (b"id=\"a\\\"; id=2", "id", &[b"\"a\\\"", b"2"]),
        // A comma is no separator, and the old attributes are cookies like others.
        (b"a=b, id=1; c=d,id=2", "id", &[]),
        (b"$Version=1; id=1; $Path=/", "id", &[b"1"]),
        (b"$Version=\"1\",id=1", "id", &[]),
        // White space that browsers do not know as such guards nothing.
        (b"\x0bid=1;\x0cid=2;\rid=3;\nid=4;\0id=5", "id", &[]),
        (b"\xc2\xa0__Host-id=1; \xe2\x80\x80__Host-id=2; \x85__Host-id=3", "__Host-id", &[]),
        // Nobody has to send text.
        (b"\xff\xfe=\xff; id=\xff\x00\x7f; \x80", "id", &[b"\xff\x00\x7f"]),
        (b"id=%20a+b", "id", &[b"%20a+b"]),
        // What cannot be a name.
        (b"=1; a=2; =3", "", &[b"1", b"3"]),
        (b"a=b=c; a=b", "a=b", &[]),
        (b"a=1; b=2", "a=1; b", &[]),
        (b"a;b=1", "a;b", &[]),
    ];
    for &(header, name, expected) in cases {
        let found: Vec<&[u8]> = values(header, name).collect();
        assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(header));
    }
}

/// The rules of `values` in the plainest words.
fn values_by_rule<'h>(header: &'h [u8], name: &str) -> Vec<&'h [u8]> {
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let mut found = Vec::new();
    for pair in header.split(|&byte| byte == b';') {
        let begin = pair.iter().position(|byte| !is_blank(byte)).unwrap_or(pair.len());
        let end = pair.iter().rposition(|byte| !is_blank(byte)).map_or(begin, |at| at + 1);
        let pair = &pair[begin..end];
        let Some(equals) = pair.iter().position(|&byte| byte == b'=') else { continue };
        if &pair[..equals] == name.as_bytes() {
            found.push(&pair[equals + 1..]);
        }
    }
    found
}

#[test]
fn long_junk_is_read_to_its_end() {
    const LEN: usize = 64 * 1024;
    let (cookie, token) = (default_cookie(), a_token());
    for unit in
        [";", " ", "\t;", "=", "id", "id=", "id=;", "__Host-id=;", "a=b; ", "\"", "\\", "\u{a0}"]
    {
        let junk = unit.repeat(LEN / unit.len());
        for name in ["id", "__Host-id", "", "a"] {
            let found: Vec<&[u8]> = values(&junk, name).collect();
            assert_eq!(found, values_by_rule(junk.as_bytes(), name), "{unit:?}");
        }
        let header = format!("{junk}; __Host-id={}", token.expose());
        let found = cookie.token(&header).map(|token| token.id());
        assert_eq!(found, (unit != "__Host-id=;").then_some(token.id()), "{unit:?}");
        assert_eq!(cookie.token(&format!("__Host-id={junk}")).map(|token| token.id()), None);
    }
}

fn a_token() -> Token {
    let store: Store = Store::builder().in_memory().unwrap();
    store.create(Attributes::new()).unwrap()
}

#[test]
fn of_several_cookies_the_first_that_opens_counts() {
    let (token, other) = (a_token(), a_token());
    let keys = ring(&[1]);
    for encoding in
        [Encoding::Plain, Encoding::Signed(keys.clone()), Encoding::Sealed(keys.clone())]
    {
        let cookie = Cookie::builder().encoding(encoding.clone()).build().unwrap();
        let pair = |set_cookie: String| set_cookie.split(';').next().unwrap().to_owned();
        let (mine, later) =
            (pair(cookie.set_token(&token).unwrap()), pair(cookie.set_token(&other).unwrap()));
        let no_token = pair(cookie.seal("no token").unwrap());
        let junk = "__Host-id=junk";
        let found = |header: &str| cookie.token(header).map(|token| token.id());
        assert_eq!(found(&mine), Some(token.id()));
        assert_eq!(found(&format!("{junk}; {no_token}; {mine}; {later}")), Some(token.id()));
        assert_eq!(found(&format!("{later}; {mine}")), Some(other.id()));
        assert_eq!(found(&mine.replace("__Host-id", "id")), None);
        assert_eq!(found(&mine.replace('=', "=\"")), None);

        // The eighth candidate is looked at, the ninth is not, on however many lines they are.
        let seven = [junk; 7].join("; ");
        assert_eq!(found(&format!("{seven}; {mine}")), Some(token.id()));
        assert_eq!(found(&format!("{seven}; {junk}; {mine}")), None);
        let over = |lines: &[&str]| cookie.open_token(lines).map(|opened| opened.value.id());
        assert_eq!(over(&["theme=dark", &mine]), Some(token.id()));
        assert_eq!(over(&[&seven, &mine]), Some(token.id()));
        assert_eq!(over(&[&seven, junk, &mine]), None);
        assert_eq!(over(&[]), None);
    }
}

/// One answer per cookie of the name: whoever has to choose, or to refuse, sees them all.
#[test]
fn tokens_tells_of_each_cookie_of_the_name() {
    let store: Store = Store::builder().in_memory().unwrap();
    let (a, b) =
        (store.create(Attributes::new()).unwrap(), store.create(Attributes::new()).unwrap());
    let keys = ring(&[1]);
    let encoding = Encoding::Signed(keys.clone());
    let signed = Cookie::builder().encoding(encoding).build().unwrap();
    for cookie in [default_cookie(), signed] {
        let pair = |token| {
            let line = cookie.set_token(token).unwrap();
            line.split(';').next().unwrap().to_owned()
        };
        let lines = [
            format!("__Host-id=junk; {}; other=1", pair(&a)),
            "theme=dark".to_owned(),
            format!("{}; __Host-id=", pair(&b)),
        ];
        let found = |lines: &[String]| -> Vec<_> {
            let tokens = cookie.tokens(lines.iter().map(String::as_bytes));
            tokens.map(|opened| opened.map(|opened| opened.value.id())).collect()
        };
        assert_eq!(found(&lines), [None, Some(a.id()), Some(b.id()), None]);
        assert_eq!(found(&["__Host-id=x; ".repeat(100)]), [None; Cookie::CANDIDATES_MAX]);
    }
    let cookie = Cookie::builder().encoding(Encoding::Signed(keys.clone())).build().unwrap();
    let line = cookie.set_token(&a).unwrap();
    keys.rotate(secret(2)).unwrap();
    let opened = cookie.tokens([line.split(';').next().unwrap().as_bytes()]).next();
    assert!(opened.flatten().unwrap().is_old);
}

#[test]
fn a_plain_token_is_sent_as_its_text() {
    let (cookie, token) = (default_cookie(), a_token());
    let expected = format!("__Host-id={}; Path=/; Secure; HttpOnly; SameSite=Lax", token.expose());
    assert_eq!(cookie.set_token(&token).unwrap(), expected);
}

// ---- Sealing -------------------------------------------------------------------------------

/// Values of all small lengths, and some long ones.
fn some_values() -> impl Iterator<Item = Vec<u8>> {
    let lengths = (0..=34).chain([63, 64, 65, 200]);
    lengths.map(|len: u8| (0..len).map(|n| n.wrapping_mul(37) ^ len).collect())
}

#[test]
fn what_was_sealed_opens() {
    for encoding in signed_and_sealed().into_iter().chain([Encoding::Plain]) {
        for value in some_values() {
            let text = encoding.seal("id", &value).unwrap();
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            let opened = encoding.open("id", &text).unwrap();
            assert_eq!((&opened.value, opened.is_old), (&value, false));
        }
    }
}

/// Both formats, made by another implementation: a release that reads them no longer logs
/// everybody out.
#[test]
fn the_formats_stay_as_they_are() {
    let secret: [u8; 32] = std::array::from_fn(|n| u8::try_from(n).unwrap());
    let keys = Keys::new([secret]).unwrap();
    let (signed, sealed) = (Encoding::Signed(keys.clone()), Encoding::Sealed(keys));
    let text = "AXxdOHP__________2FsaWNlfEjTUFxkyUZwAPLVA9_1YTQTQY3MVlMukeSFGqt5tK0";
    assert_eq!(signed.seal("id", "alice").unwrap(), text);
    assert_eq!(signed.open("id", text).unwrap().value, b"alice");
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let text = "AXxdOHMAAAAAa0nSAGFsaWNlhFWYM4ZY81putdHoOCO2fhNsQF4ES6CKx8VWzsIVwTM";
    assert_eq!(signed.seal_until("id", "alice", until).unwrap(), text);
    let text = "AnxdOHNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5envgxtoU6w3VY_gx4WTOkINsvsfZyg3-eXxBffXHJQ";
    assert_eq!(sealed.open("id", text).unwrap().value, b"alice");
}

#[test]
fn each_flipped_bit_is_refused() {
    for encoding in signed_and_sealed() {
        for value in some_values() {
            let text = encoding.seal("id", &value).unwrap();
            for place in 0..text.len() * 8 {
                let mut other = text.clone().into_bytes();
                other[place / 8] ^= 1 << (place % 8);
                assert_eq!(encoding.open("id", &other), Err(INVALID), "bit {place} of the text");
            }
            // The same below base64, where each text is a canonical one.
            let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
            for place in 0..bytes.len() * 8 {
                let mut other = bytes.clone();
                other[place / 8] ^= 1 << (place % 8);
                let other = URL_SAFE_NO_PAD.encode(other);
                assert_eq!(encoding.open("id", &other), Err(INVALID), "bit {place} of the bytes");
            }
        }
    }
}

/// Of 100 cookies with tokens, 1,000 with `CLOAKROOM_FULL=1`, each with a nonce of its own.
#[test]
fn each_flipped_bit_of_many_tokens_is_refused() {
    let store: Store = Store::builder().in_memory().unwrap();
    let tokens = if full() { 1000 } else { 100 };
    for encoding in signed_and_sealed() {
        for _ in 0..tokens {
            let token = store.create(Attributes::new()).unwrap();
            let text = encoding.seal("id", token.expose()).unwrap();
            let mut other = text.into_bytes();
            for place in 0..other.len() * 8 {
                other[place / 8] ^= 1 << (place % 8);
                assert_eq!(encoding.open("id", &other), Err(INVALID), "bit {place}");
                other[place / 8] ^= 1 << (place % 8);
            }
            assert!(encoding.open("id", &other).is_ok());
        }
    }
}

#[test]
fn each_truncation_and_each_extension_is_refused() {
    for encoding in signed_and_sealed() {
        for value in some_values() {
            let text = encoding.seal("id", &value).unwrap();
            for len in 0..text.len() {
                assert_eq!(encoding.open("id", &text[..len]), Err(INVALID));
                assert_eq!(encoding.open("id", &text[text.len() - len..]), Err(INVALID));
            }
            let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
            for at in 0..=bytes.len() {
                let (less, mut more) = (&bytes[..at.min(bytes.len() - 1)], bytes.clone());
                more.insert(at, 0);
                assert_eq!(encoding.open("id", URL_SAFE_NO_PAD.encode(less)), Err(INVALID));
                assert_eq!(encoding.open("id", URL_SAFE_NO_PAD.encode(more)), Err(INVALID));
            }
            for more in ["A", "=", "==", " ", "\n", "AAAA"] {
                assert_eq!(encoding.open("id", format!("{text}{more}")), Err(INVALID));
                assert_eq!(encoding.open("id", format!("{more}{text}")), Err(INVALID));
            }
        }
    }
}

#[test]
fn a_value_opens_under_its_own_name_only() {
    let names = ["id", "__Host-id", "ID", "i", "d", "idd", "id=", "id\0", "", "\u{e9}"];
    for encoding in signed_and_sealed() {
        for name in names {
            let text = encoding.seal(name, "value").unwrap();
            for other in names {
                let opened = encoding.open(other, &text).map(|opened| opened.value);
                let expected = if other == name { Ok(b"value".to_vec()) } else { Err(INVALID) };
                assert_eq!(opened, expected, "{name:?} as {other:?}");
            }
        }
    }
}

#[test]
fn one_encoding_does_not_pass_for_another() {
    let [signed, sealed] = signed_and_sealed();
    for value in some_values() {
        for (from, to) in [(&signed, &sealed), (&sealed, &signed)] {
            let text = from.seal("id", &value).unwrap();
            assert_eq!(to.open("id", &text), Err(INVALID));
            // Nor with the byte that tells them apart exchanged.
            let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
            for form in 0..=255 {
                bytes[0] = form;
                assert_eq!(to.open("id", URL_SAFE_NO_PAD.encode(&bytes)), Err(INVALID));
            }
            let plain = Encoding::Plain.seal("id", &value).unwrap();
            assert_eq!(to.open("id", &plain), Err(INVALID));
        }
    }
}

#[test]
fn no_sealed_value_shows_its_content_or_repeats() {
    let [_, sealed] = signed_and_sealed();
    let mut texts: Vec<String> = (0..100).map(|_| sealed.seal("id", [b'v'; 96]).unwrap()).collect();
    for text in &texts {
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        assert!(bytes.windows(4).all(|window| window != b"vvvv"));
    }
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), 100);
}

#[test]
fn a_value_with_an_expiry_is_refused_from_then_on() {
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    for encoding in signed_and_sealed() {
        let until = at(1_000) + Duration::from_millis(900);
        let text = encoding.seal_until("id", "v", until).unwrap();
        let opens = |text: &str, now| encoding.open_at("id", text, now).map(|o| o.value);
        assert_eq!(opens(&text, at(0)), Ok(b"v".to_vec()));
        assert_eq!(opens(&text, at(1_000) - Duration::from_nanos(1)), Ok(b"v".to_vec()));
        assert_eq!(opens(&text, at(1_000)), Err(INVALID));
        assert_eq!(opens(&text, at(u64::from(u32::MAX))), Err(INVALID));
        // By the clock on the wall: long past, and not for a long time yet.
        assert_eq!(encoding.open("id", &text), Err(INVALID));
        let text = encoding.seal_until("id", "v", at(9_000_000_000)).unwrap();
        assert!(encoding.open("id", &text).is_ok());
        // Before 1970 all is expired; without an expiry nothing ever is.
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(9);
        let text = encoding.seal_until("id", "v", before).unwrap();
        assert_eq!(opens(&text, before), Err(INVALID));
        let text = encoding.seal("id", "v").unwrap();
        assert_eq!(opens(&text, at(1 << 40)), Ok(b"v".to_vec()));
    }
    let refused = Encoding::Plain.seal_until("id", "v", at(1_000));
    assert!(matches!(refused, Err(CookieError::Option { option: "encoding", .. })));
}

proptest! {
    #[test]
    fn any_value_makes_the_round_trip(
        value in proptest::collection::vec(any::<u8>(), 0..2_900),
        name in "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}",
        junk in "[ -~\t]{0,60}",
        kind in 0..3,
    ) {
        let keys = ring(&[1]);
        let encoding = match kind {
            0 => Encoding::Plain,
            1 => Encoding::Signed(keys),
            _ => Encoding::Sealed(keys),
        };
        let cookie = Cookie::builder().name(&name).encoding(encoding).build().unwrap();
        let set_cookie = cookie.seal(&value).unwrap();
        let pair = set_cookie.split(';').next().unwrap();
        // Junk cannot bring a cookie of the name, as it ends before the pair begins.
        prop_assume!(values(&junk, &name).next().is_none());
        for header in [pair.to_owned(), format!("{junk}; {pair}; {junk}")] {
            prop_assert_eq!(&cookie.open([header]).unwrap().value, &value);
        }
    }

    #[test]
    fn any_header_is_read_by_the_rules(
        header in proptest::collection::vec(
            prop_oneof![
                Just(b"id".to_vec()), Just(b"=".to_vec()), Just(b";".to_vec()),
                Just(b" ".to_vec()), Just(b"\t".to_vec()), Just(b"\"".to_vec()),
                proptest::collection::vec(any::<u8>(), 1..3),
            ],
            0..40,
        ),
    ) {
        let header = header.concat();
        for name in ["id", "idid", ""] {
            let found: Vec<&[u8]> = values(&header, name).collect();
            prop_assert_eq!(found, values_by_rule(&header, name));
        }
    }
}

// ---- Keys ----------------------------------------------------------------------------------

#[test]
fn weak_missing_and_repeated_secrets_are_refused() {
    let problem = |result: Result<Keys, CookieError>| match result {
        Err(CookieError::Option { option: "secrets", problem }) => problem,
        other => panic!("{other:?}"),
    };
    assert!(problem(Keys::new([[1; 31]])).contains("secret 0 has 31 bytes: 32 to 1024"));
    assert!(problem(Keys::new([vec![1; 32], vec![2; 1025]])).contains("secret 1 has 1025 bytes"));
    assert!(problem(Keys::new([""])).contains("0 bytes"));
    assert!(problem(Keys::new::<&str>([])).contains("no default secret"));
    assert!(problem(Keys::new([secret(1), secret(2), secret(1)])).contains("secret 2"));
    assert!(problem(Keys::new((0..9).map(secret))).contains("more than 8"));
    assert!(Keys::new((0..8).map(secret)).is_ok());
    assert!(Keys::new([vec![1; 32], vec![1; 1024], vec![1; 33]]).is_ok());

    let keys = ring(&[1, 2]);
    let text = Encoding::Signed(keys.clone()).seal("id", "v").unwrap();
    assert!(keys.rotate([3; 31]).is_err());
    assert!(keys.rotate(secret(2)).is_err());
    assert!(keys.replace([secret(3), secret(3)]).is_err());
    assert!(!Encoding::Signed(keys).open("id", text).unwrap().is_old);
}

/// What a ring made opens with exactly the rings that hold the secret, and counts as old in those
/// where another is the newest.
#[test]
fn all_keys_open_and_the_newest_seals() {
    let rings: [&[u8]; 8] = [&[1], &[2], &[3], &[2, 1], &[1, 2], &[3, 2], &[3, 2, 1], &[1, 3, 2]];
    for made in rings {
        for opening in rings {
            let (made_keys, opening_keys) = (ring(made), ring(opening));
            for (from, to) in [
                (Encoding::Signed(made_keys.clone()), Encoding::Signed(opening_keys.clone())),
                (Encoding::Sealed(made_keys.clone()), Encoding::Sealed(opening_keys.clone())),
            ] {
                let text = from.seal("id", "v").unwrap();
                let expected = match opening.iter().position(|secret| *secret == made[0]) {
                    Some(place) => Ok((b"v".to_vec(), place != 0)),
                    None => Err(INVALID),
                };
                let opened = to.open("id", &text).map(|opened| (opened.value, opened.is_old));
                assert_eq!(opened, expected, "{made:?} {opening:?}");
            }
        }
    }
}

#[test]
fn a_ring_is_changed_under_its_users() {
    let keys = ring(&[1]);
    let cookie = Cookie::builder().encoding(Encoding::Sealed(keys.clone())).build().unwrap();
    let token = a_token();
    let header = cookie.set_token(&token).unwrap().split(';').next().unwrap().to_owned();
    let is_old = || cookie.open_token([&header]).map(|opened| opened.is_old);
    assert_eq!(is_old(), Some(false));
    keys.rotate(secret(2)).unwrap();
    assert_eq!(is_old(), Some(true));
    // Seven old ones are kept beside the newest; then the oldest goes.
    for n in 3..=8 {
        keys.rotate(secret(n)).unwrap();
    }
    assert_eq!(is_old(), Some(true));
    keys.rotate(secret(9)).unwrap();
    assert_eq!(is_old(), None);
    keys.replace([secret(1), secret(9)]).unwrap();
    assert_eq!(is_old(), Some(false));
    keys.replace([secret(9)]).unwrap();
    assert_eq!(is_old(), None);
}

/// While one thread changes the ring, others seal and open: whatever is made opens, as every ring
/// holds the secrets of the one before.
#[test]
fn a_ring_may_change_at_any_moment() {
    let keys = ring(&[0]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for encoding in [Encoding::Signed(keys.clone()), Encoding::Sealed(keys.clone())] {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Acquire) {
                    let text = encoding.seal("id", "v").unwrap();
                    assert_eq!(encoding.open("id", &text).unwrap().value, b"v");
                }
            });
        }
        // Only one of the two secrets moves, so what is under way stays good.
        for n in 0..1_000 {
            let order = if n % 2 == 0 { [secret(1), secret(0)] } else { [secret(0), secret(1)] };
            keys.replace(order).unwrap();
        }
        is_over.store(true, Ordering::Release);
    });
}

#[test]
fn generated_keys_are_each_their_own() {
    let [a, b] = [Keys::generate().unwrap(), Keys::generate().unwrap()].map(Encoding::Signed);
    let text = a.seal("id", "v").unwrap();
    assert!(a.open("id", &text).is_ok());
    assert_eq!(b.open("id", &text), Err(INVALID));
}

#[test]
fn nothing_secret_is_printed() {
    let keys = Keys::new([b"a secret of at least 32 bytes!!!"]).unwrap();
    let signed = Encoding::Signed(keys.clone());
    let cookie = Cookie::builder().encoding(signed.clone()).build().unwrap();
    let text = signed.seal("id", "hidden-value").unwrap();
    let opened = signed.open("id", &text).unwrap();
    let header = "__Host-id=hidden-value";
    let found = values(header, "__Host-id");
    let error = cookie.set("hidden-value;").unwrap_err();
    let printed = format!("{keys:?} {signed:?} {cookie:?} {opened:?} {found:?} {error:?} {error}");
    assert!(!printed.contains("secret of") && !printed.contains("hidden-value"), "{printed}");
    assert!(printed.contains("redacted"));
    assert_eq!(error, CookieError::Value { index: 12 });
    for (error, words) in [
        (CookieError::Invalid, "not valid"),
        (CookieError::TooLong { bytes: 5000, bytes_max: 4096 }, "5000 bytes, of 4096"),
        (cookie.set(";").unwrap_err(), "byte 0"),
    ] {
        assert!(error.to_string().contains(words), "{error}");
    }
}
