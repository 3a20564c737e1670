//! Pseudo-random numbers that repeat: a failure names its seed, and the seed brings it back.

/// Xorshift64* (Marsaglia; Vigna): small, fast, good enough to wander through an interface.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A generator; every seed, zero included, gives a sequence of its own.
    pub const fn new(seed: u64) -> Self {
        // The state must not be zero, and similar seeds must not give similar beginnings.
        let state = (seed ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        Self {
            state: if state == 0 { 1 } else { state },
        }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of a product is nearly even for bounds far below 2^64.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One element of a list that is not empty.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// A number as interfaces dislike them: small, a power of two, all ones, near one of these, or anything.
    pub fn odd_value(&mut self) -> u64 {
        let base = match self.below(6) {
            0 => self.below(16),
            1 => 1 << self.below(64),
            2 => u64::MAX >> self.below(64),
            3 => self.below(1 << 20),
            4 => self.below(1 << 32),
            _ => self.next_u64(),
        };
        match self.below(4) {
            0 => base.wrapping_sub(1),
            1 => base & !0xFFF,
            _ => base,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn a_seed_repeats_and_seeds_differ() {
        let numbers = |seed| {
            let mut rng = Rng::new(seed);
            [(); 8].map(|()| rng.next_u64())
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(0), numbers(1));
        assert_ne!(numbers(0), [0; 8]);
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut rng = Rng::new(1);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[rng.below(10) as usize] = true;
        }
        assert_eq!(seen, [true; 10]);
        assert_eq!(rng.below(1), 0);
    }

    #[test]
    fn odd_values_reach_the_edges() {
        let mut rng = Rng::new(2);
        let values: [u64; 4096] = core::array::from_fn(|_| rng.odd_value());
        for edge in [0, 1, u64::MAX, 1 << 63, u64::MAX - 1] {
            assert!(values.contains(&edge), "{edge:#x}");
        }
    }
}
