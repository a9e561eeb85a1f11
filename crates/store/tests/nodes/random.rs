//! Choices that a seed repeats.

/// SplitMix64.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed of `NIGHTMAIL_SEED`, or a new one.
    pub fn seed() -> u64 {
        number("NIGHTMAIL_SEED").unwrap_or_else(|| nightmail_commit::now().millis() as u64)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// At most `most` of them, at least one where there is one, in their order.
    pub fn some<T: Clone>(&mut self, from: &[T], most: usize) -> Vec<T> {
        let wanted = 1 + self.below(most);
        let mut left = from.len();
        let mut chosen = Vec::new();
        for item in from {
            if self.below(left) < wanted.saturating_sub(chosen.len()) {
                chosen.push(item.clone());
            }
            left -= 1;
        }
        chosen
    }

    /// Another run of choices.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

/// A number in the environment.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
