//! What a session may hold: any type that rkyv archives on its low-level API.

use std::cell::Cell;

use rkyv::api::low::{LowDeserializer, LowSerializer, LowValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::{Arena, ArenaHandle};
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::error::{Error, Result};

/// Anything that a [`Store`](crate::Store) can hold: implemented for every type that derives rkyv's
/// three traits, [`rkyv::Archive`], [`rkyv::Serialize`] and [`rkyv::Deserialize`], and needs no
/// shared pointers. The derives take `rkyv = "0.8"` among the dependencies of your own crate.
///
/// The bounds are those of rkyv's low-level API, so a type with an `Rc`, `Arc` or `Weak` inside
/// does not compile: validating shared pointers is where rkyv's advisories of 2026 are.
///
/// Readers get the archived form, `&S::Archived`, without a copy. A map inside a session is better
/// a `Vec` or a `BTreeMap` than a `HashMap`: rkyv's archived hash map uses a hash without a key,
/// which whoever chooses the keys can attack.
///
/// # Examples
/// Writers have the type itself. Readers have its archived twin, with the same fields: numbers by
/// `to_native`, texts by `as_str`, options by `as_ref`, enums under the name with `Archived` before
/// it.
/// ```
/// use cloakroom::Store;
/// use rkyv::{Archive, Deserialize, Serialize};
///
/// #[derive(Archive, Serialize, Deserialize)]
/// struct Cart {
///     items: Vec<u32>,
///     total_cents: u64,
///     coupon: Option<String>,
///     shipping: Shipping,
/// }
///
/// #[derive(Archive, Serialize, Deserialize)]
/// enum Shipping {
///     PickUp,
///     Parcel { city: String },
/// }
///
/// let store: Store<Cart> = Store::builder().in_memory()?;
/// let shipping = Shipping::Parcel { city: "Paris".into() };
/// let cart = Cart { items: vec![7], total_cents: 1990, coupon: None, shipping };
/// let id = store.create(cart)?.id();
/// store.update(id, |cart| {
///     cart.items.push(11);
///     cart.coupon = Some("SUMMER".into());
/// })?;
///
/// let city = store.read(id, |cart| {
///     assert_eq!(cart.items.len(), 2);
///     assert_eq!(cart.items[1].to_native(), 11);
///     assert_eq!(cart.total_cents.to_native(), 1990);
///     assert_eq!(cart.coupon.as_ref().map(|coupon| coupon.as_str()), Some("SUMMER"));
///     match &cart.shipping {
///         ArchivedShipping::PickUp => None,
///         ArchivedShipping::Parcel { city } => Some(city.as_str().to_owned()),
///     }
/// })?;
/// assert_eq!(city.as_deref(), Some("Paris"));
///
/// // A copy may be kept; its data can also be had as the type itself.
/// let cart: Cart = store.get(id)?.to_data()?;
/// assert_eq!(cart.items, [7, 11]);
/// # Ok::<(), cloakroom::Error>(())
/// ```
///
/// Shared pointers are refused by the compiler:
/// ```compile_fail
/// #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// struct Shared {
///     name: std::rc::Rc<String>,
/// }
/// let store: cloakroom::Store<Shared> = cloakroom::Store::builder().in_memory().unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "a session cannot hold `{Self}`",
    label = "not data for a session",
    note = "session data derives `rkyv::Archive`, `rkyv::Serialize` and `rkyv::Deserialize`, with \
            `rkyv = \"0.8\"` among your dependencies; so does every type inside it",
    note = "no `Rc`, `Arc` or `Weak` may be inside it"
)]
pub trait SessionData:
    Sized
    + Archive<
        Archived: Deserialize<Self, LowDeserializer<rancor::Error>>
                      + for<'a> CheckBytes<LowValidator<'a, rancor::Error>>
                      + Send
                      + Sync,
    > + for<'a> Serialize<LowSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>
    + 'static
{
}

// The compiler then names what is missing by the note above, not one bound of rkyv's after another.
#[diagnostic::do_not_recommend]
impl<S> SessionData for S where
    S: Archive<
            Archived: Deserialize<S, LowDeserializer<rancor::Error>>
                          + for<'a> CheckBytes<LowValidator<'a, rancor::Error>>
                          + Send
                          + Sync,
        > + for<'a> Serialize<LowSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>
        + 'static
{
}

/// Where data begins in a record, seen from the last multiple of 16 before it.
pub(crate) const DATA_OFFSET: usize = 8;

thread_local! {
    /// What the last [`Encoded`] of this thread left behind.
    static SCRATCH: Cell<Option<Scratch>> = const { Cell::new(None) };
}

/// A buffer larger than this is not kept for the next use.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What archiving needs. Our own, and not rkyv's thread-local arena, which panics in the
/// thread-local destructors of others.
#[derive(Default)]
struct Scratch {
    bytes: AlignedVec,
    arena: Arena,
}

/// The bytes of a record's data.
pub(crate) struct Encoded {
    /// There until it is dropped.
    scratch: Option<Scratch>,
}

impl Encoded {
    pub(crate) fn data(&self) -> &[u8] {
        self.scratch
            .as_ref()
            .and_then(|scratch| scratch.bytes.get(DATA_OFFSET..))
            .unwrap_or_default()
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        // Moved, not replaced by another: that one would allocate.
        let scratch = self.scratch.take();
        if scratch.as_ref().is_some_and(|scratch| scratch.bytes.capacity() <= BUFFER_BYTES_MAX) {
            let _ = SCRATCH.try_with(|kept| kept.set(scratch));
        }
    }
}

/// Whether an archive of `S` is its root and nothing else, neither data out of line nor padding:
/// so of every type that rkyv copies as it is. [`encode`] makes sure of it.
pub(crate) const fn is_all_root<S: SessionData>() -> bool {
    <S as Archive>::COPY_OPTIMIZATION.is_enabled() && align_of::<S::Archived>() <= DATA_OFFSET
}

/// The bytes of a record that holds this data.
///
/// # Errors
/// [`Error::Encode`] when rkyv cannot archive the value.
pub(crate) fn encode<S: SessionData>(data: &S) -> Result<Encoded> {
    const { assert!(align_of::<S::Archived>() <= 16, "archived data is aligned to 16 at most") };
    let kept = SCRATCH.try_with(Cell::take).ok().flatten();
    let Scratch { mut bytes, mut arena } = kept.unwrap_or_default();
    bytes.clear();
    // The writer's positions are then those in the record, from a multiple of 16 on, so that
    // whatever rkyv aligns in the buffer is aligned in the record.
    bytes.extend_from_slice(&[0; DATA_OFFSET]);
    let bytes =
        rkyv::api::low::to_bytes_in_with_alloc::<_, _, rancor::Error>(data, bytes, arena.acquire())
            .map_err(|error| Error::Encode(error.to_string()))?;
    if const { is_all_root::<S>() } && bytes.len() != DATA_OFFSET + size_of::<S::Archived>() {
        return Err(Error::Encode("more than the value was written".to_owned()));
    }
    Ok(Encoded { scratch: Some(Scratch { bytes, arena }) })
}

/// Whether bytes from a file are an archive of `S`, so that readers may take them for one.
///
/// # Errors
/// What is wrong with them.
#[cfg(unix)]
pub(crate) fn check<S: SessionData>(data: &[u8]) -> std::result::Result<(), String> {
    let bytes = placed::<S>(data)?;
    rkyv::api::low::access::<S::Archived, rancor::Error>(bytes.get(DATA_OFFSET..).unwrap_or(&[]))
        .map(drop)
        .map_err(|error| error.to_string())
}

/// The value whose archive these bytes from a file are.
///
/// # Errors
/// What is wrong with them.
#[cfg(unix)]
pub(crate) fn parse<S: SessionData>(data: &[u8]) -> std::result::Result<S, String> {
    let bytes = placed::<S>(data)?;
    rkyv::api::low::access::<S::Archived, rancor::Error>(bytes.get(DATA_OFFSET..).unwrap_or(&[]))
        .and_then(rkyv::api::low::deserialize::<S, rancor::Error>)
        .map_err(|error| error.to_string())
}

/// Bytes from a file where they lie in a record, for the same alignment.
#[cfg(unix)]
fn placed<S: SessionData>(data: &[u8]) -> std::result::Result<AlignedVec<16>, String> {
    if const { is_all_root::<S>() } && data.len() != size_of::<S::Archived>() {
        return Err(format!("{} bytes instead of {}", data.len(), size_of::<S::Archived>()));
    }
    let mut bytes = AlignedVec::<16>::with_capacity(DATA_OFFSET + data.len());
    bytes.extend_from_slice(&[0; DATA_OFFSET]);
    bytes.extend_from_slice(data);
    Ok(bytes)
}

/// The value that an archive holds.
///
/// # Errors
/// [`Error::Encode`] when the type's own deserialization fails.
pub(crate) fn decode<S: SessionData>(archived: &S::Archived) -> Result<S> {
    rkyv::api::low::deserialize::<S, rancor::Error>(archived)
        .map_err(|error| Error::Encode(error.to_string()))
}
