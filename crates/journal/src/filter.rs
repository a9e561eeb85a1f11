//! A filter: which terms may stand in a block. It never misses one that does.
//!
//! A Bloom filter (Bloom 1970): each term sets [`PROBES`] of the bits. With [`BITS_PER_TERM`] bits for each, one
//! question in about 1,700 is answered "maybe" without need.

const BITS_PER_TERM: usize = 16;
const PROBES: usize = 8;
const BYTES_MIN: usize = 8;

/// The filter that holds the terms with these hashes, equal ones once.
pub(crate) fn build(mut hashes: Vec<u64>) -> Vec<u8> {
    hashes.sort_unstable();
    hashes.dedup();
    let mut filter = vec![0; (hashes.len() * BITS_PER_TERM).div_ceil(8).max(BYTES_MIN)];
    let bits = filter.len() * 8;
    for hash in hashes {
        for bit in probes(hash, bits) {
            if let Some(byte) = filter.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    filter
}

/// Whether a term may be in there.
pub(crate) fn may_hold(filter: &[u8], hash: u64) -> bool {
    let is_set = |bit: usize| {
        filter
            .get(bit / 8)
            .is_some_and(|b| b & (1 << (bit % 8)) != 0)
    };
    probes(hash, filter.len() * 8).all(is_set)
}

/// The bits of a term, by double hashing (Kirsch and Mitzenmacher 2006).
fn probes(hash: u64, bits: usize) -> impl Iterator<Item = usize> {
    let step = hash.rotate_left(32) | 1;
    (0..PROBES as u64).map(move |number| {
        let point = hash.wrapping_add(step.wrapping_mul(number));
        ((u128::from(point) * bits as u128) >> 64) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    proptest! {
        #[test]
        fn what_was_put_in_is_never_missed(hashes: Vec<u64>) {
            let filter = build(hashes.clone());
            prop_assert!(hashes.iter().all(|hash| may_hold(&filter, *hash)));
        }

        #[test]
        fn no_filter_makes_the_question_panic(filter: Vec<u8>, hash: u64) {
            may_hold(&filter, hash);
        }
    }

    #[test]
    fn few_that_were_not_put_in_are_found() {
        let hash = |number: u32| xxh3_64(&number.to_be_bytes());
        let filter = build((0..3000).map(hash).collect());
        let wrong = (3000..203_000)
            .filter(|n| may_hold(&filter, hash(*n)))
            .count();
        assert!(wrong < 400, "{wrong} of 200,000");
    }

    #[test]
    fn an_empty_filter_holds_nothing() {
        assert!(!may_hold(&build(Vec::new()), 7));
    }
}
