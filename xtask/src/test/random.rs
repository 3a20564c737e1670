//! Random points, which come back with their seed.

/// A linear congruential generator (Knuth's MMIX), of which the high half is taken: enough to spread points.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One for this seed.
    pub fn new(seed: u32) -> Self {
        let mut random = Self(seed.into());
        // The first numbers of neighbouring seeds are neighbours.
        random.next();
        random.next();
        random
    }

    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// A number from 0 to `most`.
    pub fn up_to(&mut self, most: u32) -> u32 {
        let scaled = u64::from(self.next()) * (u64::from(most) + 1);
        (scaled >> 32) as u32
    }

    /// One of a list; nothing of an empty one.
    pub fn pick<'l>(&mut self, list: &'l [String]) -> &'l str {
        let last = u32::try_from(list.len()).map_or(u32::MAX, |len| len.saturating_sub(1));
        list.get(self.up_to(last) as usize)
            .map_or("", String::as_str)
    }

    /// A number from 0 to 1.
    pub fn part(&mut self) -> f64 {
        f64::from(self.next()) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_repeats_and_seeds_differ() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            [(); 8].map(|()| random.up_to(1000))
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
    }

    #[test]
    fn points_reach_all_of_their_range() {
        let mut random = Random::new(1);
        let points: Vec<u32> = (0..1000).map(|_| random.up_to(9)).collect();
        assert!((0..=9).all(|point| points.contains(&point)));
        assert!(points.iter().all(|point| *point <= 9));
        let parts: Vec<f64> = (0..1000).map(|_| random.part()).collect();
        assert!(parts.iter().all(|part| (0.0..=1.0).contains(part)));
        assert!(parts.iter().any(|part| *part < 0.1) && parts.iter().any(|part| *part > 0.9));
        assert_eq!(random.up_to(0), 0);
        let list = ["a", "b", "c"].map(String::from);
        let picked: Vec<&str> = (0..100).map(|_| random.pick(&list)).collect();
        assert!(list.iter().all(|one| picked.contains(&one.as_str())));
        assert_eq!(random.pick(&[]), "");
    }
}
