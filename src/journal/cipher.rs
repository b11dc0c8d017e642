//! Sessions sealed with a key, as they lie in files.
//!
//! All fields are as in `stored.rs`, but for three:
//!
//! ```text
//! owner  16 bytes of HMAC-SHA-256(name key, store | owner), as hexadecimal digits; "" stays ""
//! label  ""
//! data   byte  0  key id                   4
//!              4  nonce                   24, random
//!             28  encrypted: u16 length of the owner | u16 length of the label | owner | label
//!                 | data
//!              -  tag                     16
//! ```
//! XChaCha20-Poly1305 with the ring's file key. Associated data: all that is not encrypted, and the
//! store; but for the time at which the session was seen, which a later frame may move on. So
//! nothing that is sealed can be put in another session's place, or into another store. An older
//! state of the same session can: what was ever true for an id is not told from what is.
//!
//! 192 bits of nonce straight from the operating system repeat neither after a crash nor in a copy
//! of a virtual machine, and no counter has to survive one.

use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::Mac as _;
use uuid::Uuid;

use super::frame::take;
use super::sealing::SealProblem;
use super::stored::{Stored, id_bytes};
use crate::cookie::keys::{Key, Keys, fill, hmac};
use crate::record::DATA_BYTES_MAX;

const CONTEXT: &[u8; 19] = b"cloakroom session 1";
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const CLEAR_BYTES: usize = KEY_ID_BYTES + NONCE_BYTES;
const LENGTHS_BYTES: usize = 4;
const TAG_BYTES: usize = 16;
const NAME_BYTES: usize = 16;

/// What takes the place of owner and data.
pub(super) struct Sealed {
    name: String,
    data: Vec<u8>,
}

impl Sealed {
    pub(super) fn stored<'a>(&'a self, stored: &Stored<'_>) -> Stored<'a> {
        with(stored, &self.name, "", &self.data)
    }
}

/// What was encrypted, one behind the other.
pub(super) struct Opened {
    texts: Vec<u8>,
}

impl Opened {
    /// None: who has the key encrypted something else.
    pub(super) fn stored<'a>(&'a self, stored: &Stored<'_>) -> Option<Stored<'a>> {
        let rest = &mut &self.texts[..];
        let owner_len = usize::from(u16::from_le_bytes(take(rest)?));
        let label_len = usize::from(u16::from_le_bytes(take(rest)?));
        let (owner, rest) = rest.split_at_checked(owner_len)?;
        let (label, data) = rest.split_at_checked(label_len)?;
        let text = |bytes| std::str::from_utf8(bytes).ok();
        Some(with(stored, text(owner)?, text(label)?, data)).filter(Stored::fits)
    }
}

fn with<'a>(stored: &Stored<'_>, owner: &'a str, label: &'a str, data: &'a [u8]) -> Stored<'a> {
    let Stored { id, version, created_ms, authenticated_ms, seen_ms, idle_ns, lifetime_ns, .. } =
        *stored;
    Stored {
        id,
        version,
        created_ms,
        authenticated_ms,
        seen_ms,
        idle_ns,
        lifetime_ns,
        owner,
        label,
        data,
    }
}

/// # Errors
/// [`SealProblem::TooLong`], [`SealProblem::Random`].
pub(super) fn seal(key: &Key, store: Uuid, stored: &Stored<'_>) -> Result<Sealed, SealProblem> {
    let Stored { owner, label, data, .. } = *stored;
    let len = CLEAR_BYTES + LENGTHS_BYTES + owner.len() + label.len() + data.len() + TAG_BYTES;
    let too_long = SealProblem::TooLong(len);
    if len > DATA_BYTES_MAX || !stored.fits() {
        return Err(too_long);
    }
    let mut nonce = [0; NONCE_BYTES];
    fill(&mut nonce).map_err(|error| SealProblem::Random(error.to_string()))?;
    let name = name_of(key, store, owner);
    let associated = associated(store, stored, &name);
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(&key.id);
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&(owner.len() as u16).to_le_bytes());
    bytes.extend_from_slice(&(label.len() as u16).to_le_bytes());
    bytes.extend_from_slice(owner.as_bytes());
    bytes.extend_from_slice(label.as_bytes());
    bytes.extend_from_slice(data);
    let secret = bytes.get_mut(CLEAR_BYTES..).unwrap_or_default();
    let tag = cipher(key).encrypt_inout_detached(&XNonce::from(nonce), &associated, secret.into());
    bytes.extend_from_slice(&tag.map_err(|_| too_long)?);
    Ok(Sealed { name, data: bytes })
}

/// # Errors
/// [`SealProblem::UnknownKey`], [`SealProblem::Changed`].
pub(super) fn open(keys: &Keys, store: Uuid, stored: &Stored<'_>) -> Result<Opened, SealProblem> {
    let changed = SealProblem::Changed(stored.id);
    let Some((id, rest)) = stored.data.split_first_chunk::<KEY_ID_BYTES>() else {
        return Err(changed);
    };
    let opened = keys.with(*id, |key| {
        // Two Options: whether there is such a key, and whether it fits.
        Some(decrypt(key, store, stored, rest))
    });
    match opened {
        Some((opened, _)) => opened.ok_or(changed),
        None => Err(SealProblem::UnknownKey(*id)),
    }
}

fn decrypt(key: &Key, store: Uuid, stored: &Stored<'_>, rest: &[u8]) -> Option<Opened> {
    let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
    let (secret, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
    let associated = associated(store, stored, stored.owner);
    let mut texts = secret.to_vec();
    let (nonce, tag) = (XNonce::from(*nonce), (*tag).into());
    let secret = texts.as_mut_slice();
    // Checks the tag, in constant time, before it decrypts.
    cipher(key).decrypt_inout_detached(&nonce, &associated, secret.into(), &tag).ok()?;
    Some(Opened { texts })
}

/// What an owner is called in the files, so that his sessions can be found there.
pub(super) fn name_of(key: &Key, store: Uuid, owner: &str) -> String {
    if owner.is_empty() {
        return String::new();
    }
    let mac = hmac(&key.name).chain_update(store.as_bytes()).chain_update(owner).finalize();
    let bytes: [u8; 32] = mac.into_bytes().into();
    let half = bytes.first_chunk::<NAME_BYTES>().copied().unwrap_or_default();
    format!("{:032x}", u128::from_be_bytes(half))
}

/// Of fixed length, but for the name at its end.
fn associated(store: Uuid, stored: &Stored<'_>, name: &str) -> Vec<u8> {
    let Stored { id, version, created_ms, authenticated_ms, idle_ns, lifetime_ns, .. } = *stored;
    let mut bytes = Vec::with_capacity(CONTEXT.len() + 2 * 16 + 4 + 4 * 8 + 2 * NAME_BYTES);
    bytes.extend_from_slice(CONTEXT);
    bytes.extend_from_slice(store.as_bytes());
    bytes.extend_from_slice(&id_bytes(id));
    bytes.extend_from_slice(&version.to_le_bytes());
    for number in [created_ms, authenticated_ms, idle_ns, lifetime_ns] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&key.file).into())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::journal::sealing::Seal;
    use crate::journal::tests::stored;
    use crate::token::SessionId;

    const STORE: Uuid = Uuid::from_u128(7);

    fn ring(secrets: &[u8]) -> (Keys, Seal) {
        let keys = Keys::new(secrets.iter().map(|&byte| [byte; 32])).unwrap();
        (keys.clone(), Seal::Keys(keys))
    }

    fn sealed(seal: &Seal, stored: &Stored<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        seal.seal(STORE, stored, |sealed| sealed.encode_into(&mut bytes)).unwrap();
        bytes
    }

    fn opened(seal: &Seal, store: Uuid, bytes: &[u8]) -> Result<Vec<u8>, SealProblem> {
        let stored = Stored::decode(bytes).unwrap();
        let mut opened = Vec::new();
        seal.open(store, &stored, |stored| stored.encode_into(&mut opened)).map(|()| opened)
    }

    fn plain(stored: &Stored<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        stored.encode_into(&mut bytes);
        bytes
    }

    #[test]
    fn what_is_sealed_comes_back_and_shows_nothing() {
        let (_, seal) = ring(&[1]);
        let bytes = sealed(&seal, &stored());
        assert_eq!(opened(&seal, STORE, &bytes), Ok(plain(&stored())));
        let Stored { owner, label, .. } = stored();
        for text in [owner, label] {
            assert!(!bytes.windows(text.len()).any(|bytes| bytes == text.as_bytes()), "{text}");
        }
        let nobody = Stored { owner: "", label: "", data: b"", ..stored() };
        let bytes = sealed(&seal, &nobody);
        assert_eq!(Stored::decode(&bytes).unwrap().owner, "");
        assert_eq!(opened(&seal, STORE, &bytes), Ok(plain(&nobody)));
    }

    /// A key that is not there is told from a session that was changed.
    #[test]
    fn each_key_opens_what_it_sealed() {
        let (keys, seal) = ring(&[1]);
        let old = sealed(&seal, &stored());
        keys.rotate([2; 32]).unwrap();
        let new = sealed(&seal, &stored());
        for bytes in [&old, &new] {
            assert_eq!(opened(&seal, STORE, bytes), Ok(plain(&stored())));
        }
        let id = ring(&[1]).0.with_newest(|key| key.id);
        keys.replace([[2; 32]]).unwrap();
        assert_eq!(opened(&seal, STORE, &old), Err(SealProblem::UnknownKey(id)));
        assert_eq!(opened(&seal, STORE, &new), Ok(plain(&stored())));
        assert_eq!(opened(&Seal::Closed(id), STORE, &new), Err(SealProblem::NoKeys(id)));
        assert_eq!(seal.check(Some(id)), Err(SealProblem::UnknownKey(id)));
        assert_eq!(seal.check(None), Err(SealProblem::NotSealed));
        assert_eq!(Seal::Plain.check(Some(id)), Err(SealProblem::NoKeys(id)));
    }

    /// Each bit counts, but for the time at which the session was seen.
    #[test]
    fn whatever_is_changed_does_not_open() {
        let (_, seal) = ring(&[1]);
        let bytes = sealed(&seal, &stored());
        let seen = 40 * 8..48 * 8;
        let mut flipped = 0;
        for bit in (0..bytes.len() * 8).filter(|bit| !seen.contains(bit)) {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            // Lengths and texts may not even decode.
            let Ok(changed) = Stored::decode(&other) else { continue };
            flipped += 1;
            assert!(seal.open(STORE, &changed, |_| ()).is_err(), "bit {bit}");
        }
        assert!(flipped > 1000, "{flipped}");
        let other_store = opened(&seal, Uuid::from_u128(8), &bytes);
        assert_eq!(other_store, Err(SealProblem::Changed(stored().id)));
        let mut later = bytes.clone();
        later[40] ^= 1;
        assert!(opened(&seal, STORE, &later).is_ok());
    }

    #[test]
    fn sealed_data_of_another_session_does_not_open() {
        let (_, seal) = ring(&[1]);
        let (one, two) = (stored(), Stored { id: SessionId(9), ..stored() });
        let (one, two) = (sealed(&seal, &one), sealed(&seal, &two));
        let theirs = Stored::decode(&two).unwrap();
        let forged = Stored { data: theirs.data, ..Stored::decode(&one).unwrap() };
        let problem = seal.open(STORE, &forged, |_| ()).unwrap_err();
        assert_eq!(problem, SealProblem::Changed(stored().id));
    }

    #[test]
    fn no_nonce_comes_twice() {
        let (_, seal) = ring(&[1]);
        let nonces: HashSet<Vec<u8>> = (0..10_000)
            .map(|_| {
                let bytes = sealed(&seal, &stored());
                Stored::decode(&bytes).unwrap().data[KEY_ID_BYTES..CLEAR_BYTES].to_vec()
            })
            .collect();
        assert_eq!(nonces.len(), 10_000);
    }

    /// The name of an owner tells nothing to who has not the key, and differs between stores.
    #[test]
    fn owners_have_one_name_for_each_key_and_store() {
        let (keys, seal) = ring(&[1, 2]);
        let names = seal.names_of(STORE, "alice");
        let other = seal.names_of(Uuid::from_u128(8), "alice");
        let all: HashSet<&String> = names.iter().chain(&other).collect();
        assert_eq!((names.len(), all.len()), (2, 4));
        let bytes = sealed(&seal, &stored());
        let owner = Stored::decode(&bytes).unwrap().owner;
        assert_eq!(owner, keys.with_newest(|key| name_of(key, STORE, stored().owner)));
        assert_eq!(owner.len(), 2 * NAME_BYTES);
    }

    #[test]
    fn what_would_be_too_long_is_refused() {
        let (_, seal) = ring(&[1]);
        let data = vec![0; DATA_BYTES_MAX];
        let longest = Stored { data: &data, ..stored() };
        let problem = seal.seal(STORE, &longest, |_| ()).unwrap_err();
        assert!(matches!(problem, SealProblem::TooLong(bytes) if bytes > DATA_BYTES_MAX));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(data in prop::collection::vec(any::<u8>(), 0..100)) {
            let (keys, seal) = ring(&[1]);
            let id = keys.with_newest(|key| key.id);
            for data in [data.clone(), [&id[..], &data].concat()] {
                let forged = Stored { data: &data, ..stored() };
                prop_assert!(seal.open(STORE, &forged, |_| ()).is_err());
            }
        }
    }
}
