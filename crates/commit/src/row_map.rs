//! Maps by row key. A group may hold hundreds of thousands of rows, so that the hash counts.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use nightmail_engine::RowKey;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) type RowMap<V> = HashMap<RowKey, V, Seeded>;
pub(crate) type RowSet = HashSet<RowKey, Seeded>;

/// Makes hashers that nobody outside the process can foretell: keys hold names that clients choose.
#[derive(Clone, Copy)]
pub(crate) struct Seeded(u64);

/// Hashes a row key.
pub(crate) struct KeyHasher(u64);

impl Default for Seeded {
    fn default() -> Self {
        static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0u8));
        Self(*SEED)
    }
}

impl BuildHasher for Seeded {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.0)
    }
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    // Spaces and lengths: the key that follows is mixed with them.
    fn write_u8(&mut self, number: u8) {
        self.write_usize(usize::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.0 = (self.0 ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_usize(number as usize);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use nightmail_engine::Space;

    use super::*;

    #[test]
    fn keys_that_differ_in_one_place_hash_apart() {
        let hashers = Seeded::default();
        let mut seen = HashSet::new();
        for space in Space::ALL {
            for number in 0..1000u32 {
                let key = RowKey::new(space, number.to_be_bytes().to_vec());
                assert_eq!(hashers.hash_one(&key), hashers.hash_one(key.clone()));
                assert!(seen.insert(hashers.hash_one(key)), "{space} {number}");
            }
        }
    }
}
