//! Pages that VMBus uses, which the guest cannot give away (sheet of Dynamic Memory, 2.6).

use alloc::vec::Vec;
use core::ops::Range;

use board::layout::PAGE;
use dynamic_memory::{PageRun, Pin};
use vmbus::gpadl::Gpadl;

/// Page numbers, as ranges that are sorted and apart.
#[derive(Debug, Default)]
struct Pages(Vec<Range<u64>>);

impl Pages {
    fn new(mut ranges: Vec<Range<u64>>) -> Self {
        ranges.sort_unstable_by_key(|range| range.start);
        let mut apart: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match apart.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        Self(apart)
    }

    /// Whether that page is one of them, and up to which page that stays so.
    fn at(&self, page: u64) -> (bool, u64) {
        let next = self.0.partition_point(|range| range.end <= page);
        match self.0.get(next) {
            Some(range) if range.start <= page => (true, range.end),
            Some(range) => (false, range.start),
            None => (false, u64::MAX),
        }
    }
}

/// All such pages of a guest. Overlays are not among them: what lies below one can come and go.
#[derive(Debug, Default)]
pub struct Pins {
    /// In rings of open channels.
    lasting: Pages,
    /// In other GPADLs.
    passing: Pages,
}

impl Pins {
    /// Of these GPADLs, each with whether an open channel has its rings there.
    pub fn new<'g>(gpadls: impl Iterator<Item = (&'g Gpadl, bool)>) -> Self {
        let (mut lasting, mut passing) = (Vec::new(), Vec::new());
        for (gpadl, is_ring) in gpadls {
            let pages = if is_ring { &mut lasting } else { &mut passing };
            let ranges = (0..gpadl.range_count()).filter_map(|index| gpadl.range(index));
            for range in ranges {
                pages.extend(range.pieces().map(|piece| {
                    let end = piece.run.gpa.saturating_add(piece.run.len);
                    piece.run.gpa / PAGE..end.div_ceil(PAGE)
                }));
            }
        }
        Self {
            lasting: Pages::new(lasting),
            passing: Pages::new(passing),
        }
    }

    /// What keeps the first page of `run`, and for how many pages that is the same.
    pub fn of(&self, run: PageRun) -> (Pin, u64) {
        let (is_lasting, lasting_to) = self.lasting.at(run.start);
        let (is_passing, passing_to) = self.passing.at(run.start);
        let (pin, to) = if is_lasting {
            (Pin::Lasting, lasting_to)
        } else if is_passing {
            (Pin::Passing, passing_to.min(lasting_to))
        } else {
            (Pin::None, passing_to.min(lasting_to))
        };
        (pin, to.min(run.end()).saturating_sub(run.start).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_page_has_the_pin_of_the_list_that_it_is_in(
            lasting in proptest::collection::vec((0u64..60, 1u64..6), 0..6),
            passing in proptest::collection::vec((0u64..60, 1u64..6), 0..6),
            start in 0u64..70,
            count in 1u64..30,
        ) {
            let ranges = |list: &[(u64, u64)]| list.iter().map(|&(at, len)| at..at + len).collect::<Vec<_>>();
            let is_in = |list: &[(u64, u64)], page| ranges(list).iter().any(|range| range.contains(&page));
            let pins = Pins {
                lasting: Pages::new(ranges(&lasting)),
                passing: Pages::new(ranges(&passing)),
            };
            let mut rest = PageRun::new(start, count);
            while !rest.is_empty() {
                let (pin, same) = pins.of(rest);
                prop_assert!((1..=rest.count).contains(&same));
                for page in rest.start..rest.start + same {
                    let expected = match (is_in(&lasting, page), is_in(&passing, page)) {
                        (true, _) => Pin::Lasting,
                        (false, true) => Pin::Passing,
                        (false, false) => Pin::None,
                    };
                    prop_assert_eq!(pin, expected, "{}", page);
                }
                rest = rest.split(same).1;
            }
        }
    }
}
