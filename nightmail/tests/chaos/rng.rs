//! Random numbers that a seed repeats: SplitMix64.

use std::ops::Range;

/// A stream of numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of a seed and of one who draws from it.
    pub fn new(seed: u64, who: &str) -> Self {
        let mut state = seed ^ 0xcbf2_9ce4_8422_2325;
        for octet in who.bytes() {
            state = (state ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
        }
        Self(state)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of a range.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// An index into so many.
    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// One of some.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// So many of `count` indexes, each once, in ascending order.
    pub fn some(&mut self, wanted: usize, count: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..count).collect();
        while left.len() > wanted {
            left.remove(self.below(left.len()));
        }
        left
    }
}
