//! Hostile archives, and JSON of any shape.

use cloakroom::{ArchivedAttributes, Attributes, Value};
use rkyv::api::low::LowValidator;
use rkyv::rancor::Error;
use rkyv::util::AlignedVec;

/// The first byte chooses: an archive, JSON text, or both in turn.
pub fn attributes(input: &[u8]) {
    let Some((&kind, rest)) = input.split_first() else { return };
    match kind % 3 {
        0 => archive(rest, usize::from(kind / 3) % 16),
        1 => json(rest),
        _ => mutated(rest),
    }
}

/// Any bytes, at any distance from a multiple of 16, are refused or are attributes that can be
/// walked, copied and archived again.
fn archive(bytes: &[u8], distance: usize) {
    let mut aligned: AlignedVec<16> = AlignedVec::with_capacity(bytes.len() + distance);
    aligned.resize(distance, 0);
    aligned.extend_from_slice(bytes);
    if let Some(archived) = checked(&aligned[distance..]) {
        walk(archived);
    }
}

fn checked(bytes: &[u8]) -> Option<&ArchivedAttributes> {
    fn accessible<'a>(bytes: &'a [u8]) -> Result<&'a ArchivedAttributes, Error>
    where
        ArchivedAttributes: for<'b> rkyv::bytecheck::CheckBytes<LowValidator<'b, Error>>,
    {
        rkyv::api::low::access::<ArchivedAttributes, Error>(bytes)
    }
    accessible(bytes).ok()
}

fn walk(archived: &ArchivedAttributes) {
    let copied = archived.to_attributes();
    assert_eq!(archived.len(), archived.iter().count());
    assert_eq!(archived.keys().count(), archived.len());
    for key in archived.keys() {
        assert!(archived.contains_key(key));
        let value = archived.get(key).expect("a key that is there");
        let _ = (archived.get_str(key), archived.get_i64(key), archived.get_map(key));
        let _ = (value.as_bytes(), value.as_f64(), value.as_list(), value.to_value());
    }
    let _ = format!("{archived:?}");
    let Some(again) = archived_bytes(&copied) else { return };
    let archived = checked(&again).expect("our own archive");
    assert_eq!(archived.to_attributes(), copied);
}

fn archived_bytes(attributes: &Attributes) -> Option<AlignedVec> {
    rkyv::util::with_arena(|arena| {
        let empty = AlignedVec::new();
        rkyv::api::low::to_bytes_in_with_alloc::<_, _, Error>(attributes, empty, arena.acquire())
    })
    .ok()
}

/// JSON that attributes can hold comes back as it was, also through an archive.
fn json(text: &[u8]) {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(text) else { return };
    if let Ok(attributes) = serde_json::from_slice::<Attributes>(text) {
        assert!(json.is_object(), "attributes of what is no object");
        let text = serde_json::to_string(&attributes).expect("attributes print");
        let again: Attributes = serde_json::from_str(&text).expect("attributes parse");
        assert_eq!(again, attributes, "through serde");
    }
    let Ok(attributes) = Attributes::try_from(json.clone()) else { return };
    let back = serde_json::Value::from(attributes.clone());
    assert_eq!(back, json, "through serde_json::Value");
    let keys: Vec<&str> = json.as_object().into_iter().flatten().map(|(key, _)| &**key).collect();
    assert_eq!(attributes.keys().collect::<Vec<_>>(), keys, "order of keys");
    let value = Value::try_from(json.clone()).expect("what the attributes held");
    assert_eq!(serde_json::Value::from(value), json);
    if let Some(bytes) = archived_bytes(&attributes) {
        assert_eq!(checked(&bytes).expect("our own archive").to_attributes(), attributes);
    }
}

/// A valid archive with some bytes changed: gets further into the checks than random bytes. The
/// input is pairs of place and byte, a zero byte, then JSON.
fn mutated(input: &[u8]) {
    let count = input.first().map_or(0, |count| usize::from(*count) % 8);
    let Some((changes, text)) = input.get(1..).and_then(|rest| rest.split_at_checked(3 * count))
    else {
        return;
    };
    let Ok(attributes) = serde_json::from_slice::<Attributes>(text) else { return };
    let Some(mut bytes) = archived_bytes(&attributes) else { return };
    for change in changes.chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[place] ^= change[2];
    }
    archive(&bytes, 0);
}
