//! Pages that VMBus uses, which the guest cannot give away (sheet of Dynamic Memory, 2.6).

use alloc::vec::Vec;
use core::cell::OnceCell;
use core::ops::Range;

use board::layout::PAGE;
use dynamic_memory::{PageRun, Pin};
use vmbus::gpadl::{Gpadl, MAX_UNITS};
use vmbus::protocol::GpadlHandle;
use vmbus::server::Server;

use crate::system::SharedRam;
use crate::vmbus::link::Link;

/// Most bytes of the lists: each GPADL's pieces are at most its units, and all units are limited.
pub const MAX_BYTES: usize = MAX_UNITS * size_of::<Range<u64>>();

/// Page numbers, as ranges that are sorted and apart.
#[derive(Debug, Default)]
struct Pages(Vec<Range<u64>>);

impl Pages {
    /// From ranges in any order. The list stays where it is, and as long as it was.
    fn new(mut ranges: Vec<Range<u64>>) -> Self {
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.dedup_by(|next, last| {
            let joins = next.start <= last.end;
            if joins {
                last.end = last.end.max(next.end);
            }
            joins
        });
        Self(ranges)
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
struct Pins {
    /// In rings of open channels.
    lasting: Pages,
    /// In other GPADLs.
    passing: Pages,
}

impl Pins {
    /// Of these GPADLs, each with whether an open channel has its rings there.
    fn new<'g>(gpadls: impl Iterator<Item = (&'g Gpadl, bool)> + Clone) -> Self {
        let of = |rings: bool| {
            let pages = || {
                let gpadls = gpadls.clone().filter(|(_, is_ring)| *is_ring == rings);
                gpadls.flat_map(|(gpadl, _)| pages(gpadl))
            };
            // Counted first: a list that grows would take three times as much.
            let mut ranges = Vec::with_capacity(pages().count());
            ranges.extend(pages());
            Pages::new(ranges)
        };
        Self {
            lasting: of(true),
            passing: of(false),
        }
    }

    /// What keeps the first page of `run`, and for how many pages that is the same.
    fn of(&self, run: PageRun) -> (Pin, u64) {
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

/// The pages of a GPADL.
fn pages(gpadl: &Gpadl) -> impl Iterator<Item = Range<u64>> + '_ {
    let ranges = (0..gpadl.range_count()).filter_map(|index| gpadl.range(index));
    ranges.flat_map(|range| {
        range.pieces().map(|piece| {
            let end = piece.run.gpa.saturating_add(piece.run.len);
            piece.run.gpa / PAGE..end.div_ceil(PAGE)
        })
    })
}

/// The same, made when somebody asks: seldom, and the guest can make them many. They are as when they were asked for first, so
/// this may not outlive a change of GPADLs.
pub struct LazyPins<'a, R> {
    server: Option<&'a Server>,
    /// The other channels.
    links: &'a [Link<R>],
    /// Where the channel itself has its rings.
    own: Option<GpadlHandle>,
    made: OnceCell<Pins>,
}

impl<'a, R: SharedRam> LazyPins<'a, R> {
    /// What the guest's GPADLs pin while these channels and the own one are as they are.
    pub fn new(server: &'a Server, links: &'a [Link<R>], own: Option<GpadlHandle>) -> Self {
        Self {
            server: Some(server),
            links,
            own,
            made: OnceCell::new(),
        }
    }

    /// For what takes no memory.
    pub const fn none() -> Self {
        Self {
            server: None,
            links: &[],
            own: None,
            made: OnceCell::new(),
        }
    }

    /// [`Pins::of`].
    pub fn of(&self, run: PageRun) -> (Pin, u64) {
        let is_ring =
            |handle| self.own == Some(handle) || self.links.iter().any(|link| link.uses(handle));
        let make = || {
            let Some(server) = self.server else {
                return Pins::default();
            };
            let gpadls: Vec<_> = server.gpadls().collect();
            Pins::new(
                gpadls
                    .iter()
                    .map(|(handle, gpadl)| (*gpadl, is_ring(*handle))),
            )
        };
        self.made.get_or_init(make).of(run)
    }

    /// Whether anybody has asked.
    #[cfg(test)]
    pub fn are_made(&self) -> bool {
        self.made.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vmbus::gpadl::GpadlTable;
    use vmbus::protocol::Relid;

    use crate::tests::TestRam;

    /// A GPADL of so many pages, none next to another, from page 2 on.
    fn scattered(table: &mut GpadlTable, handle: GpadlHandle, count: u64) {
        let everything = |_: u64| true;
        let mut units: Vec<u8> = (count as u32 * 4096).to_le_bytes().into();
        units.extend([0; 4]);
        units.extend((1..=count).flat_map(|page| (2 * page).to_le_bytes()));
        let size = (units.len() as u16, 1);
        let (first, rest) = units.split_at(units.len().min(27 * 8));
        table
            .header(&everything, Relid(1), handle, size, first)
            .unwrap();
        for body in rest.chunks(28 * 8) {
            table.body(&everything, handle, body).unwrap();
        }
    }

    #[test]
    fn the_lists_are_no_longer_than_the_units_of_the_gpadls() {
        let mut table = GpadlTable::default();
        let handles = [1, 2, 3].map(GpadlHandle);
        for handle in handles {
            scattered(&mut table, handle, 1000);
        }
        let gpadls = handles.map(|handle| table.get(handle).unwrap());
        let of = gpadls.iter().enumerate();
        let pins = Pins::new(of.map(|(at, gpadl)| (*gpadl, at == 0)));
        let (lasting, passing) = (&pins.lasting.0, &pins.passing.0);
        assert_eq!(
            (lasting.len(), passing.len()),
            (1000, 1000),
            "the others are the same pages"
        );
        assert!(lasting.capacity() + passing.capacity() <= 3 * 1001);
        assert_eq!(pins.of(PageRun::new(4, 5)), (Pin::Lasting, 1));
        assert_eq!(pins.of(PageRun::new(2001, 5)), (Pin::None, 5));
    }

    #[test]
    fn nothing_is_listed_before_somebody_asks() {
        let server = Server::new(1);
        let pins = LazyPins::<TestRam>::new(&server, &[], None);
        assert!(!pins.are_made());
        assert_eq!(pins.of(PageRun::new(3, 4)), (Pin::None, 4));
        assert!(pins.are_made());
    }

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
