//! Hashes: FNV-1a, by which regions tell policies and plans apart, and SipHash, which takes a key.
//!
//! Both are equal everywhere, whatever the build. Only SipHash may be given what
//! a client chose: without its key nobody can make two inputs meet, or guess an input.

/// FNV-1a, 64 bits. Source: Fowler, Noll, Vo; offset basis and prime of draft-eastlake-fnv.
pub fn fnv1a(text: &str) -> u64 {
    fnv1a_of(text.as_bytes())
}

/// FNV-1a of bytes that are no text.
pub fn fnv1a_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The secret of [`siphash`]: 128 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey {
    low: u64,
    high: u64,
}

/// A secret is not shown.
impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

impl HashKey {
    /// The key of two random numbers.
    pub const fn new(low: u64, high: u64) -> Self {
        Self { low, high }
    }

    /// The key of 16 bytes, in the order of the SipHash paper (little-endian).
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let number = u128::from_le_bytes(bytes);
        Self { low: number as u64, high: (number >> 64) as u64 }
    }

    /// The key of a secret of any length; `None`: it has fewer than 16 bytes.
    pub fn from_secret(secret: &[u8]) -> Option<Self> {
        let first = Self::from_bytes(*secret.first_chunk()?);
        Some(Self { low: siphash(first, secret), high: siphash(first.derive("high"), secret) })
    }

    /// A key for another use of the same secret: hashes under the two tell nothing of each other.
    pub fn derive(self, purpose: &str) -> Self {
        let low = siphash(self, purpose.as_bytes());
        Self { low, high: siphash(Self { low, ..self }, purpose.as_bytes()) }
    }
}

/// SipHash-2-4 of some bytes under a key.
///
/// Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012).
pub fn siphash(key: HashKey, bytes: &[u8]) -> u64 {
    let mut v = [
        key.low ^ 0x736f_6d65_7073_6575,
        key.high ^ 0x646f_7261_6e64_6f6d,
        key.low ^ 0x6c79_6765_6e65_7261,
        key.high ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest): (&[[u8; 8]], &[u8]) = bytes.as_chunks();
    for word in words {
        compress(&mut v, u64::from_le_bytes(*word));
    }
    let mut last = (bytes.len() as u64) << 56;
    for (index, byte) in rest.iter().enumerate() {
        last |= u64::from(*byte) << (8 * index);
    }
    compress(&mut v, last);
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn compress(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    round(v);
    v[0] ^= word;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_siphash_2_4() {
        // Source: the vectors of the reference implementation, key 00 01 .. 0f, input 00 01 .. n-1.
        let key = HashKey::from_bytes(std::array::from_fn(|i| i as u8));
        let input: Vec<u8> = (0..63).collect();
        for (length, hash) in [
            (0, 0x726f_db47_dd0e_0e31),
            (1, 0x74f8_39c5_93dc_67fd),
            (8, 0x93f5_f579_9a93_2462),
            (15, 0xa129_ca61_49be_45e5),
        ] {
            assert_eq!(siphash(key, &input[..length]), hash, "{length} bytes");
        }
    }

    #[test]
    fn derived_keys_differ_by_purpose_and_by_secret() {
        let (a, b) = (HashKey::new(1, 2), HashKey::new(1, 3));
        assert_ne!(a.derive("cookie"), a.derive("address"));
        assert_ne!(a.derive("cookie"), b.derive("cookie"));
        assert_eq!(format!("{a:?}"), "HashKey(..)");
    }

    #[test]
    fn it_is_fnv_1a() {
        // Source: the test vectors of draft-eastlake-fnv.
        for (text, hash) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(fnv1a(text), hash, "{text:?}");
        }
    }
}
