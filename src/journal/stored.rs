//! One session as the files hold it.
//!
//! ```text
//!  0  u128 id
//! 16  u32 version | u16 owner length | u16 label length
//! 24  u64 created | u64 authenticated | u64 seen      Unix time, ms
//! 48  u64 idle timeout | u64 lifetime                 ns
//! 64  owner, label (UTF-8), then data up to the end
//! ```
//! All numbers are little-endian. The length of the data is not stored: whoever holds the bytes
//! knows where they end. Whoever reads them has checked their sum before.

/// The bytes before the owner.
pub(crate) const FIXED_LEN: usize = 64;
/// The longest data that is accepted: what a record in memory can hold.
pub(crate) const DATA_LEN_MAX: usize = (1 << 24) - 1;
/// The longest session.
pub(crate) const STORED_LEN_MAX: usize = FIXED_LEN + 2 * u16::MAX as usize + DATA_LEN_MAX;

/// A session, borrowed from where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stored<'a> {
    pub(crate) id: u128,
    pub(crate) version: u32,
    pub(crate) created_ms: u64,
    pub(crate) authenticated_ms: u64,
    pub(crate) seen_ms: u64,
    pub(crate) idle_ns: u64,
    pub(crate) lifetime_ns: u64,
    /// Empty: the session belongs to nobody.
    pub(crate) owner: &'a str,
    pub(crate) label: &'a str,
    pub(crate) data: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Whether the format has room for texts and data of this length.
    pub(crate) fn fits(&self) -> bool {
        u16::try_from(self.owner.len().max(self.label.len())).is_ok()
            && self.data.len() <= DATA_LEN_MAX
    }

    /// Appends the session. Only for one that [fits](Stored::fits).
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        debug_assert!(self.fits());
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&(self.owner.len() as u16).to_le_bytes());
        out.extend_from_slice(&(self.label.len() as u16).to_le_bytes());
        let numbers =
            [self.created_ms, self.authenticated_ms, self.seen_ms, self.idle_ns, self.lifetime_ns];
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(self.owner.as_bytes());
        out.extend_from_slice(self.label.as_bytes());
        out.extend_from_slice(self.data);
    }

    /// The session that exactly these bytes are.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Stored<'a>> {
        let (id, rest) = bytes.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (owner_len, rest) = rest.split_first_chunk()?;
        let (label_len, rest) = rest.split_first_chunk()?;
        let (created_ms, rest) = rest.split_first_chunk()?;
        let (authenticated_ms, rest) = rest.split_first_chunk()?;
        let (seen_ms, rest) = rest.split_first_chunk()?;
        let (idle_ns, rest) = rest.split_first_chunk()?;
        let (lifetime_ns, rest) = rest.split_first_chunk()?;
        let (owner, rest) = rest.split_at_checked(u16::from_le_bytes(*owner_len).into())?;
        let (label, data) = rest.split_at_checked(u16::from_le_bytes(*label_len).into())?;
        if data.len() > DATA_LEN_MAX {
            return None;
        }
        Some(Stored {
            id: u128::from_le_bytes(*id),
            version: u32::from_le_bytes(*version),
            created_ms: u64::from_le_bytes(*created_ms),
            authenticated_ms: u64::from_le_bytes(*authenticated_ms),
            seen_ms: u64::from_le_bytes(*seen_ms),
            idle_ns: u64::from_le_bytes(*idle_ns),
            lifetime_ns: u64::from_le_bytes(*lifetime_ns),
            owner: std::str::from_utf8(owner).ok()?,
            label: std::str::from_utf8(label).ok()?,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Stored<'_> = Stored {
        id: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100,
        version: 0x1312_1110,
        created_ms: 0x1f1e_1d1c_1b1a_1918,
        authenticated_ms: 0x2726_2524_2322_2120,
        seen_ms: 0x2f2e_2d2c_2b2a_2928,
        idle_ns: 0x3736_3534_3332_3130,
        lifetime_ns: 0x3f3e_3d3c_3b3a_3938,
        owner: "alice",
        label: "Firefox",
        data: b"data",
    };

    #[test]
    fn bytes_are_where_the_table_says() {
        let mut bytes = Vec::new();
        SAMPLE.encode_into(&mut bytes);
        let mut expected: Vec<u8> = (0..64).collect();
        expected[20..24].copy_from_slice(&[5, 0, 7, 0]);
        expected.extend_from_slice(b"aliceFirefoxdata");
        assert_eq!(bytes, expected);
        assert_eq!(Stored::decode(&bytes), Some(SAMPLE));
    }

    #[test]
    fn what_is_cut_or_no_text_is_refused() {
        let mut bytes = Vec::new();
        SAMPLE.encode_into(&mut bytes);
        let texts = FIXED_LEN + SAMPLE.owner.len() + SAMPLE.label.len();
        for len in 0..texts {
            assert_eq!(Stored::decode(&bytes[..len]), None, "{len}");
        }
        assert_eq!(Stored::decode(&bytes[..texts]), Some(Stored { data: b"", ..SAMPLE }));
        bytes[FIXED_LEN] = 0xff;
        assert_eq!(Stored::decode(&bytes), None);
    }
}
