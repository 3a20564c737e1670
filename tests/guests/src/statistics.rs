//! What many measurements of the same thing say.

/// Least, middle and most of some measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The least.
    pub min: u64,
    /// The one with as many below as above it; of an even number, the lower of the two in the middle.
    pub median: u64,
    /// The most.
    pub max: u64,
}

impl Summary {
    /// Sorts the samples and looks at them; `None` if there are none.
    pub fn of(samples: &mut [u64]) -> Option<Self> {
        samples.sort_unstable();
        Some(Self {
            min: *samples.first()?,
            median: *samples.get(samples.len().checked_sub(1)? / 2)?,
            max: *samples.last()?,
        })
    }

    /// The same with a constant cost taken off.
    pub fn less(self, cost: u64) -> Self {
        Self {
            min: self.min.saturating_sub(cost),
            median: self.median.saturating_sub(cost),
            max: self.max.saturating_sub(cost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn the_median_is_the_middle_one_in_any_order() {
        let summary = Summary::of(&mut [9, 1, 5, 1000, 3]).unwrap();
        assert_eq!((summary.min, summary.median, summary.max), (1, 5, 1000));
        assert_eq!(Summary::of(&mut [4, 2]).unwrap().median, 2);
        assert_eq!(Summary::of(&mut []), None);
    }

    #[test]
    fn a_cost_larger_than_the_sample_leaves_zero() {
        let summary = Summary::of(&mut [5, 10, 20]).unwrap().less(7);
        assert_eq!((summary.min, summary.median, summary.max), (0, 3, 13));
    }
}
