//! Reads the `Cookie` header of a request.

use std::fmt;
use std::iter::FusedIterator;

/// The values that a `Cookie` header gives to a name, in the order of the header.
///
/// What the header may look like is left open by RFC 6265 (sections 4.2.1 and 5.4) where a client
/// does not keep to it. Here:
///
/// - `;` ends a pair, always: no quote protects it. (Servers that think otherwise can be made to
///   swallow their neighbours' cookies.)
/// - Spaces and tabs around a pair do not count, and no other white space: it would let a cookie
///   pass for one with the prefix `__Host-`, which browsers guard only as it is spelled.
/// - The first `=` ends the name, which is compared byte by byte: case counts. A pair without `=`
///   has no name, so it is nobody's.
/// - The value is the rest, as it is. Quotes around it are a part of it (RFC 6265bis, section
///   4.1.1), and it may be empty, or no UTF-8.
///
/// A name may come several times: cookies of other paths and domains have the same one, and a
/// sibling domain can plant one. Nobody may rely on their order (RFC 6265, section 4.2.2):
/// look for the one that opens. [`Cookie::token`](super::Cookie::token) does.
///
/// It allocates nothing and looks at each byte a bounded number of times, whatever the header is.
///
/// # Examples
/// ```
/// use cloakroom::cookie::values;
///
/// let header = "theme=dark; id=first; ID=other; id=\"2nd\"; id";
/// let found: Vec<&[u8]> = values(header, "id").collect();
/// assert_eq!(found, [b"first".as_slice(), b"\"2nd\""]);
/// ```
pub fn values<'h, 'n, H>(header: &'h H, name: &'n str) -> Values<'h, 'n>
where
    H: AsRef<[u8]> + ?Sized,
{
    // A name with `=` is no name: the rule above ends it before.
    let rest = (!name.contains('=')).then_some(header.as_ref());
    Values { rest, name: name.as_bytes() }
}

/// The iterator of [`values`].
#[derive(Clone)]
#[must_use = "an iterator does nothing until it is used"]
pub struct Values<'h, 'n> {
    /// What was not looked at; `None` behind the last pair.
    rest: Option<&'h [u8]>,
    name: &'n [u8],
}

impl<'h> Iterator for Values<'h, '_> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        while let Some(rest) = self.rest {
            let mut parts = rest.splitn(2, |&byte| byte == b';');
            let pair = parts.next().unwrap_or_default();
            self.rest = parts.next();
            let value = trim(pair).strip_prefix(self.name).and_then(|pair| pair.strip_prefix(b"="));
            if value.is_some() {
                return value;
            }
        }
        None
    }
}

impl FusedIterator for Values<'_, '_> {}

/// Without the values: they are secrets.
impl fmt::Debug for Values<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Values(redacted)")
    }
}

fn trim(mut pair: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = pair {
        pair = rest;
    }
    pair
}
