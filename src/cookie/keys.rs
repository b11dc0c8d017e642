//! The key ring: secrets in an order, with the keys that are derived from each.
//!
//! ```text
//! secret, 32..=1024 bytes
//!    |  HKDF-SHA-256 (RFC 5869), salt "cloakroom cookie 1"
//!    +- info "id"    4 bytes   stands in clear in each value, so that one key is tried, not all
//!    +- info "sign" 32 bytes   HMAC-SHA-256
//!    +- info "seal" 32 bytes   XChaCha20-Poly1305
//!    +- info "file" 32 bytes   XChaCha20-Poly1305, for the files of a store
//!    `- info "name" 32 bytes   HMAC-SHA-256, for the names of owners in them
//! ```

use std::fmt;
#[cfg(feature = "encryption")]
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

use super::error::CookieError;

const SALT: &[u8; 18] = b"cloakroom cookie 1";
const SECRET_BYTES_MIN: usize = 32;
const SECRET_BYTES_MAX: usize = 1024;

/// The names of derived keys: not secret.
pub(crate) type KeyId = [u8; 4];

/// What is derived from one secret. In a box, it never moves, so that its bytes are overwritten
/// where they are.
pub(crate) struct Key {
    pub(crate) id: KeyId,
    pub(super) sign: [u8; 32],
    pub(super) seal: [u8; 32],
    #[cfg(feature = "encryption")]
    pub(crate) file: [u8; 32],
    #[cfg(feature = "encryption")]
    pub(crate) name: [u8; 32],
}

impl Key {
    fn derive(secret: &[u8]) -> Box<Key> {
        let mut key = Box::new(Key {
            id: [0; 4],
            sign: [0; 32],
            seal: [0; 32],
            #[cfg(feature = "encryption")]
            file: [0; 32],
            #[cfg(feature = "encryption")]
            name: [0; 32],
        });
        let root = extract(SALT, secret);
        expand(&root, b"id", &mut key.id);
        expand(&root, b"sign", &mut key.sign);
        expand(&root, b"seal", &mut key.seal);
        #[cfg(feature = "encryption")]
        {
            expand(&root, b"file", &mut key.file);
            expand(&root, b"name", &mut key.name);
        }
        key
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.sign.zeroize();
        self.seal.zeroize();
        #[cfg(feature = "encryption")]
        {
            self.file.zeroize();
            self.name.zeroize();
        }
    }
}

/// HMAC-SHA-256 with a key of at most a block, which RFC 2104 pads with zeros.
pub(crate) fn hmac<const N: usize>(key: &[u8; N]) -> Hmac<Sha256> {
    const { assert!(N <= 64) };
    let mut block = Zeroizing::new([0; 64]);
    block[..N].copy_from_slice(key);
    Hmac::new((&*block).into())
}

/// The first step of HKDF: a uniform key from a secret that may be none.
fn extract<const N: usize>(salt: &[u8; N], secret: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut root = Zeroizing::new([0; 32]);
    root.copy_from_slice(&hmac(salt).chain_update(secret).finalize().into_bytes());
    root
}

/// The second step of HKDF, for what is no longer than a digest.
fn expand<const N: usize>(root: &[u8; 32], info: &[u8], out: &mut [u8; N]) {
    const { assert!(N <= 32) };
    let mut block = hmac(root).chain_update(info).chain_update([1]).finalize().into_bytes();
    out.copy_from_slice(&block[..N]);
    block.as_mut_slice().zeroize();
}

/// Never empty: there is always a key to sign with.
struct Ring {
    newest: Box<Key>,
    #[allow(clippy::vec_box, reason = "a key never moves")]
    older: Vec<Box<Key>>,
}

impl Ring {
    fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Result<Ring, CookieError> {
        let mut ring: Option<Ring> = None;
        for (index, secret) in secrets.into_iter().enumerate() {
            let key = checked(index, secret.as_ref())?;
            match &mut ring {
                None => ring = Some(Ring { newest: key, older: Vec::new() }),
                Some(ring) if ring.find(key.id).is_some() => return Err(twice(index)),
                Some(ring) if ring.len() == Keys::COUNT_MAX => {
                    let problem = format!("more than {}: a ring holds no more", Keys::COUNT_MAX);
                    return Err(CookieError::option("secrets", problem));
                }
                Some(ring) => ring.older.push(key),
            }
        }
        ring.ok_or_else(|| CookieError::option("secrets", "none: there is no default secret"))
    }

    fn len(&self) -> usize {
        1 + self.older.len()
    }

    /// The key with this id, and whether it is an old one.
    fn find(&self, id: KeyId) -> Option<(&Key, bool)> {
        if self.newest.id == id {
            return Some((&self.newest, false));
        }
        self.older.iter().find(|key| key.id == id).map(|key| (&**key, true))
    }
}

fn checked(index: usize, secret: &[u8]) -> Result<Box<Key>, CookieError> {
    let len = secret.len();
    if (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&len) {
        return Ok(Key::derive(secret));
    }
    let problem = format!(
        "secret {index} has {len} bytes: {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random ones are \
         needed"
    );
    Err(CookieError::option("secrets", problem))
}

/// The same secret, since ids are digests; or one chance in four thousand million.
fn twice(index: usize) -> CookieError {
    CookieError::option("secrets", format!("secret {index} is in the ring already"))
}

/// A ring of keys: the newest signs or seals, all of them verify or open.
///
/// A handle, cheap to clone; a change reaches all clones. Making and opening a value holds a shared
/// lock for the length of one digest or encryption, and a change waits for that.
///
/// Each secret has 32 to 1024 bytes, from a random generator (`head -c 32 /dev/urandom`) and kept
/// out of the source code; a passphrase is none. Signing and sealing use different keys, derived
/// by HKDF-SHA-256 (RFC 5869), which are overwritten when they leave the ring. There is no default
/// secret.
///
/// # Changing keys
/// [`rotate`](Keys::rotate) makes a new secret the newest. What was made with an older one is still
/// accepted, and [`Opened::is_old`](super::Opened::is_old) asks for sending it again. Once every
/// client had the time to come back, [`replace`](Keys::replace) the ring with one that lacks the
/// old secret. Taking a secret out refuses the values that were made with it, but ends no session:
/// that is what [`Store::end_all`](crate::Store::end_all) is for.
///
/// Where several servers share secrets, let all of them know a new one, as an older one, before the
/// first of them makes it the newest: `replace([old, new])` everywhere, then `replace([new, old])`.
///
/// # Examples
/// ```
/// use cloakroom::cookie::{Encoding, Keys};
/// # let (old_secret, new_secret) = ([1; 32], [2; 32]);
///
/// let keys = Keys::new([old_secret])?;
/// let signed = Encoding::Signed(keys.clone());
/// let text = signed.seal("id", "alice")?;
///
/// keys.rotate(new_secret)?;
/// let opened = signed.open("id", &text)?;
/// assert_eq!(opened.value, b"alice");
/// assert!(opened.is_old);
///
/// keys.replace([new_secret])?;
/// assert!(signed.open("id", &text).is_err());
///
/// assert!(Keys::new(["password"]).is_err());
/// # Ok::<(), cloakroom::cookie::CookieError>(())
/// ```
#[derive(Clone)]
pub struct Keys {
    shared: Arc<Shared>,
}

struct Shared {
    ring: RwLock<Ring>,
    /// The id of the newest key.
    #[cfg(feature = "encryption")]
    newest: AtomicU32,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Ring) -> R) -> R {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut ring);
        #[cfg(feature = "encryption")]
        self.newest.store(u32::from_ne_bytes(ring.newest.id), Relaxed);
        result
    }
}

impl Keys {
    /// How many secrets a ring may hold.
    pub const COUNT_MAX: usize = 8;

    /// A ring of these secrets, the newest first.
    ///
    /// # Errors
    /// [`CookieError::Option`] for a secret of fewer than 32 or more than 1024 bytes, for the same
    /// secret twice, for none, for more than [`Keys::COUNT_MAX`].
    pub fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Result<Keys, CookieError> {
        let ring = Ring::new(secrets)?;
        let shared = Shared {
            #[cfg(feature = "encryption")]
            newest: AtomicU32::new(u32::from_ne_bytes(ring.newest.id)),
            ring: RwLock::new(ring),
        };
        Ok(Keys { shared: Arc::new(shared) })
    }

    /// A ring of one random secret, which nobody else knows: no other process, and not this one
    /// after a restart. Good where sessions end with the process too.
    ///
    /// # Errors
    /// [`CookieError::Random`].
    pub fn generate() -> Result<Keys, CookieError> {
        let mut secret = Zeroizing::new([0; 32]);
        fill(&mut *secret)?;
        Keys::new([&*secret])
    }

    /// Makes a secret the newest. The others become old ones; of more than [`Keys::COUNT_MAX`] the
    /// oldest goes.
    ///
    /// # Errors
    /// [`CookieError::Option`] for a secret of fewer than 32 or more than 1024 bytes, or one that
    /// is in the ring. The ring is then as it was.
    pub fn rotate(&self, secret: impl AsRef<[u8]>) -> Result<(), CookieError> {
        let key = checked(0, secret.as_ref())?;
        self.shared.change(|ring| {
            if ring.find(key.id).is_some() {
                return Err(twice(0));
            }
            let old = std::mem::replace(&mut ring.newest, key);
            ring.older.insert(0, old);
            ring.older.truncate(Keys::COUNT_MAX - 1);
            Ok(())
        })
    }

    /// Puts these secrets in place of all that were there, the newest first.
    ///
    /// # Errors
    /// As [`Keys::new`]. The ring is then as it was.
    pub fn replace<S: AsRef<[u8]>>(
        &self,
        secrets: impl IntoIterator<Item = S>,
    ) -> Result<(), CookieError> {
        let ring = Ring::new(secrets)?;
        self.shared.change(|present| *present = ring);
        Ok(())
    }

    /// Calls `make` with the newest key.
    pub(crate) fn with_newest<R>(&self, make: impl FnOnce(&Key) -> R) -> R {
        make(&self.shared.read().newest)
    }

    /// Calls `open` with the key of this id, if there is one; tells whether it is an old one.
    pub(crate) fn with<R>(
        &self,
        id: KeyId,
        open: impl FnOnce(&Key) -> Option<R>,
    ) -> Option<(R, bool)> {
        let ring = self.shared.read();
        let (key, is_old) = ring.find(id)?;
        Some((open(key)?, is_old))
    }

    /// The id of the newest key. Takes no lock: who asks may be inside of
    /// [`with_newest`](Keys::with_newest), behind whose lock a change waits.
    #[cfg(feature = "encryption")]
    pub(crate) fn newest_id(&self) -> KeyId {
        self.shared.newest.load(Relaxed).to_ne_bytes()
    }

    /// Calls `f` with each key, the newest first.
    #[cfg(feature = "encryption")]
    pub(crate) fn for_each(&self, mut f: impl FnMut(&Key)) {
        let ring = self.shared.read();
        f(&ring.newest);
        ring.older.iter().for_each(|key| f(key));
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.shared.read().len();
        write!(f, "Keys({len}, redacted)")
    }
}

/// Random bytes straight from the operating system.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), CookieError> {
    getrandom::fill(bytes).map_err(|error| CookieError::Random(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    /// The first test case of RFC 5869, whose output is longer than a digest: its beginning.
    #[test]
    fn keys_are_derived_by_hkdf() {
        let salt: [u8; 13] = std::array::from_fn(|n| u8::try_from(n).unwrap());
        let root = extract(&salt, &[0x0b; 22]);
        let expected = "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5";
        assert_eq!(root.as_slice(), bytes(expected));
        let mut key = [0; 32];
        expand(&root, &bytes("f0f1f2f3f4f5f6f7f8f9"), &mut key);
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        assert_eq!(key.as_slice(), bytes(expected));
    }

    #[test]
    fn no_two_derived_keys_are_alike() {
        let (a, b) = (Key::derive(&[1; 32]), Key::derive(&[1; 33]));
        let mut all = vec![a.sign, a.seal, b.sign, b.seal];
        #[cfg(feature = "encryption")]
        all.extend([a.file, a.name, b.file, b.name]);
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
        assert_ne!(a.id, b.id);
        assert!(!a.sign.starts_with(&a.id) && !a.seal.starts_with(&a.id));
    }
}
