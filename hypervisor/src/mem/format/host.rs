//! The hypervisor's own tables.

use super::x86::Layout;
use super::{Entry, Format, Leaf, LeafSize, Pat};
use crate::mem::addr::{Gvpn, Spfn};

/// 4-level long-mode tables, 48-bit canonical virtual addresses. EFER.NXE must be on.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    layout: Layout,
    max_leaf: LeafSize,
}

impl Host {
    /// For a processor with `physical_bits` of physical address (32 to 52, CPUID 0x8000_0008) and leaves of at most
    /// `max_leaf`.
    pub const fn new(physical_bits: u8, pat: Pat, max_leaf: LeafSize) -> Self {
        assert!(physical_bits >= 32 && physical_bits <= 52);
        Self {
            layout: Layout {
                physical_bits,
                pat,
                always_user: false,
            },
            max_leaf,
        }
    }
}

impl Format for Host {
    type Page = Gvpn;

    fn decode(self, raw: u64, level: u8) -> Entry {
        self.layout.decode(raw, level)
    }

    fn table(self, table: Spfn) -> u64 {
        self.layout.table(table)
    }

    fn leaf(self, leaf: Leaf, level: u8) -> Option<u64> {
        self.layout.leaf(leaf, level)
    }

    /// Both ends in the same canonical half: address bits 63 to 47 all 0, or all 1.
    fn covers(self, first: u64, last: u64) -> bool {
        const HALF: u32 = 47 - 12;
        const HIGH: u64 = (1 << 17) - 1;
        first <= last && first >> HALF == last >> HALF && matches!(first >> HALF, 0 | HIGH)
    }

    fn max_leaf(self) -> LeafSize {
        self.max_leaf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_ranges_are_covered() {
        let host = Host::new(40, Pat::PARTITA, LeafSize::Size2M);
        let page = |address: u64| address >> 12;
        assert!(host.covers(0, page(0x7FFF_FFFF_FFFF)));
        assert!(host.covers(page(0xFFFF_8000_0000_0000), page(u64::MAX)));
        assert!(!host.covers(0, page(0x8000_0000_0000)));
        assert!(!host.covers(0, page(u64::MAX)));
        assert!(!host.covers(page(0xFFFF_7FFF_FFFF_F000), page(u64::MAX)));
        assert!(!host.covers(1 << 60, 1 << 60));
    }
}
