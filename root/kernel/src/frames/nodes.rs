//! NUMA nodes: which frame is in which.

use alloc::vec::Vec;

use super::layout::Span;
use crate::srat::MemoryRange;

/// Most nodes that are told apart. Memory of further proximity domains counts as the last one's: it is used, only not told
/// apart. A constant, so that a report about the machine has a fixed size.
pub const MAX_NODES: usize = 8;

/// A NUMA node, by its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node(u8);

impl Node {
    /// The first node: that of memory of which nobody says where it is.
    pub const FIRST: Self = Self(0);

    /// The node of that number.
    pub fn new(index: usize) -> Option<Self> {
        (index < MAX_NODES).then_some(Self(index as u8))
    }

    /// Its number, below [`MAX_NODES`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// From here on frames are in that node.
#[derive(Clone, Copy, Debug)]
struct Border {
    start: u64,
    node: Node,
}

/// All nodes of a machine. The usual one has one.
#[derive(Clone, Debug)]
pub struct Nodes {
    /// In ascending order. What is before the first is in the first node.
    borders: Vec<Border>,
    count: usize,
}

impl Nodes {
    /// A machine with one node. Needs no heap.
    pub const ONE: Self = Self {
        borders: Vec::new(),
        count: 1,
    };

    /// The nodes of these ranges, in the order of their proximity domains. Of ranges that overlap the first one counts. What
    /// no range has is in the first node.
    pub fn new(ranges: &[MemoryRange]) -> Self {
        let mut domains: Vec<u32> = ranges.iter().map(|range| range.domain).collect();
        domains.sort_unstable();
        domains.dedup();
        let last = domains.len().clamp(1, MAX_NODES) - 1;
        let known = ranges.iter().map(|range| {
            let place = domains.partition_point(|domain| *domain < range.domain);
            let span = Span::within(range.base, range.len);
            (span, Node(place.min(last) as u8))
        });
        let known: Vec<(Span, Node)> = known.collect();
        let mut edges: Vec<u64> = known
            .iter()
            .flat_map(|(span, _)| [span.start, span.end])
            .collect();
        edges.sort_unstable();
        edges.dedup();
        let mut borders: Vec<Border> = Vec::new();
        for start in edges {
            let found = known.iter().find(|(span, _)| span.contains(start));
            let node = found.map_or(Node::FIRST, |(_, node)| *node);
            if borders.last().map_or(Node::FIRST, |border| border.node) != node {
                borders.push(Border { start, node });
            }
        }
        let count = last.saturating_add(1);
        Self { borders, count }
    }

    /// How many there are, at least one.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The node of a frame, and the first frame after it that may be in another one.
    pub fn at(&self, frame: u64) -> (Node, u64) {
        let next = self.borders.partition_point(|border| border.start <= frame);
        let end = self.borders.get(next).map_or(u64::MAX, |next| next.start);
        let here = next.checked_sub(1).and_then(|at| self.borders.get(at));
        (here.map_or(Node::FIRST, |border| border.node), end)
    }

    /// The parts of a range of frames, each in one node.
    pub fn parts(&self, start: u64, count: u64) -> impl Iterator<Item = (Span, Node)> + '_ {
        let end = start.saturating_add(count);
        let mut at = start;
        core::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let start = at;
            let (node, next) = self.at(start);
            at = next.min(end);
            Some((Span { start, end: at }, node))
        })
    }

    /// Whether all of a range of frames is in one node.
    pub fn is_one(&self, start: u64, count: u64) -> bool {
        self.at(start).1 >= start.saturating_add(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PAGE_SIZE;
    use proptest::prelude::*;

    fn range(domain: u32, start: u64, count: u64) -> MemoryRange {
        MemoryRange {
            domain,
            base: start * PAGE_SIZE,
            len: count * PAGE_SIZE,
        }
    }

    #[test]
    fn domains_become_nodes_in_their_order_whatever_their_numbers() {
        let ranges = [range(70, 100, 50), range(3, 0, 100), range(9, 150, 10)];
        let nodes = Nodes::new(&ranges);
        assert_eq!(nodes.count(), 3);
        let node = |frame| nodes.at(frame).0.index();
        assert_eq!([0, 99, 100, 149, 150, 159].map(node), [0, 0, 2, 2, 1, 1]);
        assert_eq!(node(160), 0, "nobody says where that is");
    }

    #[test]
    fn a_machine_without_ranges_or_with_one_domain_has_one_node() {
        for ranges in [Vec::new(), vec![range(5, 10, 10), range(5, 40, 10)]] {
            let nodes = Nodes::new(&ranges);
            assert_eq!(nodes.count(), 1);
            assert_eq!(nodes.at(15), (Node::FIRST, u64::MAX));
        }
    }

    #[test]
    fn domains_beyond_the_last_node_count_as_its_memory() {
        let ranges: Vec<_> = (0..20)
            .map(|at| range(at, u64::from(at) * 10, 10))
            .collect();
        let nodes = Nodes::new(&ranges);
        assert_eq!(nodes.count(), MAX_NODES);
        assert_eq!(nodes.at(65).0.index(), 6);
        assert!((70..200).all(|frame| nodes.at(frame).0.index() == MAX_NODES - 1));
    }

    #[test]
    fn of_ranges_that_overlap_the_first_counts_and_absurd_ones_do_no_harm() {
        let ranges = [range(1, 10, 10), range(0, 15, 10)];
        let nodes = Nodes::new(&ranges);
        assert_eq!((nodes.at(17).0.index(), nodes.at(20).0.index()), (1, 0));
        let whole = MemoryRange {
            domain: u32::MAX,
            base: u64::MAX - 5,
            len: u64::MAX,
        };
        assert_eq!(Nodes::new(&[range(0, 0, 0), whole]).count(), 2);
    }

    proptest! {
        #[test]
        fn parts_cover_a_range_and_each_is_in_one_node(
            raw in proptest::collection::vec((0u32..12, 0u64..300, 0u64..100), 0..10),
            start in 0u64..300,
            count in 0u64..300,
        ) {
            let ranges: Vec<_> = raw.iter().map(|(domain, start, count)| range(*domain, *start, *count)).collect();
            let nodes = Nodes::new(&ranges);
            let mut at = start;
            for (span, node) in nodes.parts(start, count) {
                prop_assert_eq!(span.start, at);
                prop_assert!(span.end > at && nodes.is_one(span.start, span.count()));
                prop_assert!(node.index() < nodes.count());
                for frame in span.start..span.end {
                    prop_assert_eq!(nodes.at(frame).0, node);
                    let first = raw.iter().find(|(_, start, count)| (*start..start + count).contains(&frame));
                    let mut domains: Vec<u32> = raw.iter().map(|(domain, ..)| *domain).collect();
                    domains.sort_unstable();
                    domains.dedup();
                    let expected = first.map_or(0, |(domain, ..)| domains.binary_search(domain).unwrap());
                    prop_assert_eq!(node.index(), expected.min(MAX_NODES - 1));
                }
                at = span.end;
            }
            prop_assert_eq!(at, start + count);
        }
    }
}
