//! Headers of any bytes, and sealed values that somebody has changed.

use std::sync::OnceLock;

use cloakroom::cookie::{Cookie, CookieError, Encoding, Keys, values};

const NAMES: [&str; 4] = ["id", "__Host-id", "a", ""];

/// The cookies of each encoding, all named `id`.
struct Cookies {
    plain: Cookie,
    signed: Cookie,
    sealed: Cookie,
}

/// With two secrets that the saved inputs know.
fn cookies() -> &'static Cookies {
    static COOKIES: OnceLock<Cookies> = OnceLock::new();
    COOKIES.get_or_init(|| {
        let keys = Keys::new([[1; 32], [2; 32]]).expect("two secrets");
        let of = |encoding| {
            let options = Cookie::builder().name("id").encoding(encoding);
            options.build().expect("a name without rules")
        };
        Cookies {
            plain: of(Encoding::Plain),
            signed: of(Encoding::Signed(keys.clone())),
            sealed: of(Encoding::Sealed(keys)),
        }
    })
}

/// The input is a header, then a value: it is read by the rules, nothing in it opens that was not
/// made by the keys, and what was made opens as long as nobody changes it.
pub fn cookie(input: &[u8]) {
    header(input);
    text(input);
    // Three bytes say which byte of the text is changed, how, and which text it is.
    if let Some((&[place, change, kind], value)) = input.split_first_chunk::<3>() {
        let Cookies { plain, signed, sealed } = cookies();
        let cookie = [plain, signed, sealed][usize::from(kind) % 3];
        made(cookie, value, usize::from(place), change, usize::from(kind) / 3);
    }
}

fn header(header: &[u8]) {
    for name in NAMES {
        let expected = by_rule(header, name.as_bytes());
        assert!(values(header, name).eq(expected), "{name:?}");
    }
    let Cookies { plain, signed, sealed } = cookies();
    for cookie in [plain, signed, sealed] {
        let opened = cookie.open([header]);
        let token = cookie.token(header);
        assert!(opened.is_some() || token.is_none());
        // Two lines are as one.
        let half = header.len() / 2;
        if header.get(half) == Some(&b';') {
            let opened_halves = cookie.open([&header[..half], &header[half..]]);
            assert!(opened_halves == opened);
        }
    }
    assert!(sealed.open([header]).is_none(), "nobody but this process has sealed anything");
}

/// The rules of `values`, in the plainest words.
fn by_rule<'h>(header: &'h [u8], name: &[u8]) -> impl Iterator<Item = &'h [u8]> {
    header.split(|&byte| byte == b';').filter_map(move |pair| {
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
        let begin = pair.iter().take_while(blank).count();
        let end = pair.len() - pair[begin..].iter().rev().take_while(blank).count();
        let pair = &pair[begin..end];
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        (&pair[..equals] == name).then(|| &pair[equals + 1..])
    })
}

/// The input as the text of a value.
fn text(text: &[u8]) {
    let Cookies { plain, signed, sealed } = cookies();
    let open = |cookie: &Cookie, name: &str| cookie.encoding().open(name, text);
    let seal = |cookie: &Cookie, value: &[u8]| cookie.encoding().seal("id", value);
    // Each value has one text.
    if let Ok(opened) = open(plain, "id") {
        assert!(seal(plain, &opened.value).is_ok_and(|again| again.as_bytes() == text));
    }
    // Saved inputs may hold signed values that do not expire.
    if let Ok(opened) = open(signed, "id") {
        let again = seal(signed, &opened.value).expect("no longer than before");
        assert!(opened.is_old || again.as_bytes() == text, "forged");
        assert!(open(signed, "other") == Err(CookieError::Invalid));
    }
    assert!(open(sealed, "id") == Err(CookieError::Invalid), "forged");
}

/// What was made opens; with one byte of its text changed, or with its end cut off, it does not.
fn made(cookie: &Cookie, value: &[u8], place: usize, change: u8, name: usize) {
    let encoding = cookie.encoding();
    let Ok(text) = encoding.seal("id", value) else {
        assert!(value.len() > 2_900, "too long, though it is short");
        return;
    };
    let opens = |name: &str, text: &[u8]| encoding.open(name, text).ok().map(|o| o.value);
    assert_eq!(opens("id", text.as_bytes()).as_deref(), Some(value));
    if let Ok(set_cookie) = cookie.set(&text) {
        let pair = set_cookie.split(';').next().expect("the pair");
        let found = cookie.open([format!("id; id2=x; {pair}; id=")]);
        assert_eq!(found.map(|opened| opened.value).as_deref(), Some(value));
    }
    let is_plain = matches!(encoding, Encoding::Plain);
    if text.is_empty() {
        return;
    }
    let mut other = text.clone().into_bytes();
    let place = place % other.len();
    other[place] ^= change;
    let opened = opens("id", &other);
    if change == 0 {
        assert_eq!(opened.as_deref(), Some(value));
    } else {
        assert!(is_plain && opened.as_deref() != Some(value) || opened.is_none(), "forged");
    }
    let cut = opens("id", &text.as_bytes()[..place]);
    assert!(is_plain && cut.as_deref() != Some(value) || cut.is_none(), "forged");
    let name = NAMES[name % NAMES.len()];
    assert!(is_plain || (name == "id") == opens(name, text.as_bytes()).is_some(), "moved");
}
