//! What is where in memory at the start: the memory map and what already lies in it, cut into pieces with one owner.

use boot_archive::start_info::{MemoryMapEntry, kind};

use super::owner::{Class, Owner};
use crate::addr::{PAGE_SIZE, Pfn};

/// End of the first megabyte, in frames.
const LOW_END: u64 = 0x10_0000 / PAGE_SIZE;

/// Frames `start` to `end`, the last one not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First frame.
    pub start: u64,
    /// First frame after it.
    pub end: u64,
}

impl Span {
    /// Every frame that a byte range touches.
    pub fn touching(address: u64, len: u64) -> Self {
        let end = address.saturating_add(len);
        Self {
            start: address / PAGE_SIZE,
            end: end.div_ceil(PAGE_SIZE),
        }
    }

    /// The whole frames within a byte range; may be empty.
    pub fn within(address: u64, len: u64) -> Self {
        let end = address.saturating_add(len) / PAGE_SIZE;
        let start = address.div_ceil(PAGE_SIZE);
        Self {
            start: start.min(end),
            end,
        }
    }

    /// Number of frames.
    pub fn count(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// The first frame.
    pub fn pfn(&self) -> Pfn {
        Pfn(self.start)
    }

    pub(super) fn contains(&self, frame: u64) -> bool {
        self.start <= frame && frame < self.end
    }
}

/// Something that lies in memory from the start.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Where.
    pub span: Span,
    /// Whose.
    pub owner: Owner,
}

/// Memory map and claims. Where they contradict each other, the more careful reading wins: a frame is RAM only if a RAM
/// entry has all of it and no other entry any of it; it is free only if nobody claims it.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'m> {
    map: &'m [MemoryMapEntry],
    claims: &'m [Claim],
}

impl<'m> Layout<'m> {
    /// The map may be unsorted. Earlier claims win over later ones.
    pub fn new(map: &'m [MemoryMapEntry], claims: &'m [Claim]) -> Self {
        Self { map, claims }
    }

    /// One more than the last frame of RAM.
    pub fn frames(&self) -> u64 {
        self.ram().map(|span| span.end).max().unwrap_or(0)
    }

    /// All RAM, in ascending order, each piece with one owner ([`Owner::FREE`] for free memory).
    pub fn pieces(&self) -> impl Iterator<Item = (Span, Owner)> + '_ {
        let end = self.frames();
        let mut at = 0;
        core::iter::from_fn(move || {
            while at < end {
                let start = at;
                let owner = self.owner_at(start);
                // Neighbouring pieces with the same owner are one, so that free blocks become as large as possible.
                loop {
                    at = self.next_boundary(at).unwrap_or(end).min(end);
                    if at >= end || self.owner_at(at) != owner {
                        break;
                    }
                }
                if let Some(owner) = owner {
                    return Some((Span { start, end: at }, owner));
                }
            }
            None
        })
    }

    /// A place for `frames` frames of free memory below `limit` (a frame number), as high up as possible.
    pub fn find_free(&self, frames: u64, limit: u64) -> Option<Span> {
        let free = self.pieces().filter(|(_, owner)| *owner == Owner::FREE);
        let cut = free.map(|(span, _)| Span {
            start: span.start.min(limit),
            end: span.end.min(limit),
        });
        let last = cut.filter(|span| span.count() >= frames).last()?;
        Some(Span {
            start: last.end.saturating_sub(frames),
            end: last.end,
        })
    }

    fn ram(&self) -> impl Iterator<Item = Span> + Clone + '_ {
        self.map
            .iter()
            .filter(|entry| entry.kind == kind::RAM)
            .map(|entry| Span::within(entry.addr, entry.size))
    }

    fn reserved(&self) -> impl Iterator<Item = Span> + Clone + '_ {
        self.map
            .iter()
            .filter(|entry| entry.kind != kind::RAM)
            .map(|entry| Span::touching(entry.addr, entry.size))
    }

    fn owner_at(&self, frame: u64) -> Option<Owner> {
        let ram = self.ram().any(|span| span.contains(frame))
            && !self.reserved().any(|span| span.contains(frame));
        if !ram {
            return None;
        }
        if frame < LOW_END {
            return Some(Owner::kernel(Class::Low));
        }
        let claim = self.claims.iter().find(|claim| claim.span.contains(frame));
        Some(claim.map_or(Owner::FREE, |claim| claim.owner))
    }

    fn next_boundary(&self, frame: u64) -> Option<u64> {
        let spans = self
            .ram()
            .chain(self.reserved())
            .chain(self.claims.iter().map(|claim| claim.span));
        let edges = spans
            .flat_map(|span| [span.start, span.end])
            .chain([LOW_END]);
        edges.filter(|edge| *edge > frame).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(kind: u32, addr: u64, size: u64) -> MemoryMapEntry {
        MemoryMapEntry {
            addr,
            size,
            kind,
            reserved: 0,
        }
    }

    #[test]
    fn a_reserved_entry_wins_over_ram_and_partial_frames_are_not_ram() {
        let map = [
            entry(kind::RESERVED, 0x20_0800, 0x400),
            entry(kind::RAM, 0x10_0800, 0x20_0000),
        ];
        let pieces: Vec<_> = Layout::new(&map, &[]).pieces().collect();
        let free = |start, end| (Span { start, end }, Owner::FREE);
        assert_eq!(pieces, [free(0x101, 0x200), free(0x201, 0x300)]);
    }

    #[test]
    fn low_memory_and_claims_are_not_free() {
        let map = [entry(kind::RAM, 0, 0x40_0000)];
        let image = Owner::kernel(Class::Image);
        let claims = [Claim {
            span: Span::touching(0x20_0000, 0x1001),
            owner: image,
        }];
        let pieces: Vec<_> = Layout::new(&map, &claims).pieces().collect();
        let expected = [
            (
                Span {
                    start: 0,
                    end: 0x100,
                },
                Owner::kernel(Class::Low),
            ),
            (
                Span {
                    start: 0x100,
                    end: 0x200,
                },
                Owner::FREE,
            ),
            (
                Span {
                    start: 0x200,
                    end: 0x202,
                },
                image,
            ),
            (
                Span {
                    start: 0x202,
                    end: 0x400,
                },
                Owner::FREE,
            ),
        ];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn adjacent_entries_make_one_piece() {
        let map = [
            entry(kind::RAM, 0x20_0000, 0x10_0000),
            entry(kind::RAM, 0x10_0000, 0x10_0000),
        ];
        assert_eq!(Layout::new(&map, &[]).pieces().count(), 1);
    }

    #[test]
    fn a_place_is_found_at_the_top_below_the_limit() {
        let map = [
            entry(kind::RAM, 0, 0x1000_0000),
            entry(kind::RAM, 0x1_0000_0000, 0x1000_0000),
        ];
        let layout = Layout::new(&map, &[]);
        assert_eq!(
            layout.find_free(16, 1 << 20),
            Some(Span {
                start: 0xFFF0,
                end: 0x1_0000
            })
        );
        assert_eq!(layout.find_free(1 << 20, u64::MAX), None);
    }

    proptest! {
        #[test]
        fn pieces_are_ascending_and_never_touch_what_is_reserved(
            raw in proptest::collection::vec((1u32..3, 0u64..0x80_0000, 0u64..0x40_0000), 0..8)
        ) {
            let map: Vec<_> = raw.iter().map(|(kind, addr, size)| entry(*kind, *addr, *size)).collect();
            let mut last = 0;
            for (span, _) in Layout::new(&map, &[]).pieces() {
                prop_assert!(span.start >= last && span.start < span.end);
                last = span.end;
                for frame in span.start..span.end {
                    let (from, to) = (frame * PAGE_SIZE, (frame + 1) * PAGE_SIZE);
                    let taken = map.iter().any(|e| e.kind != kind::RAM && e.size > 0 && e.addr < to && e.end() > from);
                    prop_assert!(!taken);
                    prop_assert!(map.iter().any(|e| e.kind == kind::RAM && e.addr <= from && e.end() >= to));
                }
            }
        }
    }
}
