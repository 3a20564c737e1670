//! Nested tables of AMD SVM.

use super::x86::Layout;
use super::{Entry, Format, Leaf, LeafSize, Pat};
use crate::mem::addr::{Gpfn, PAGE_SHIFT, Spfn};

/// Nested page tables (AMD APM vol. 2, 15.25) with 4 levels, as the host's. The processor checks every guest access
/// as a ring-3 one, and uses the host's PAT, EFER.NXE and paging mode.
#[derive(Clone, Copy, Debug)]
pub struct Npt {
    layout: Layout,
    guest_bits: u8,
    max_leaf: LeafSize,
}

impl Npt {
    /// For a processor with `physical_bits` of physical address (32 to 52), a guest with `guest_bits` of guest
    /// physical address (32 to 48), and leaves of at most `max_leaf`.
    pub const fn new(physical_bits: u8, guest_bits: u8, pat: Pat, max_leaf: LeafSize) -> Self {
        assert!(physical_bits >= 32 && physical_bits <= 52);
        assert!(guest_bits >= 32 && guest_bits <= 48);
        Self {
            layout: Layout {
                physical_bits,
                pat,
                always_user: true,
            },
            guest_bits,
            max_leaf,
        }
    }
}

impl Format for Npt {
    type Page = Gpfn;

    fn decode(self, raw: u64, level: u8) -> Entry {
        self.layout.decode(raw, level)
    }

    fn table(self, table: Spfn) -> u64 {
        self.layout.table(table)
    }

    fn leaf(self, leaf: Leaf, level: u8) -> Option<u64> {
        self.layout.leaf(leaf, level)
    }

    fn covers(self, first: u64, last: u64) -> bool {
        first <= last && last >> (u32::from(self.guest_bits) - PAGE_SHIFT) == 0
    }

    fn max_leaf(self) -> LeafSize {
        self.max_leaf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_addresses_end_at_their_width() {
        let npt = Npt::new(48, 40, Pat::RESET, LeafSize::Size1G);
        assert!(npt.covers(0, (1 << 28) - 1));
        assert!(!npt.covers(0, 1 << 28));
        assert!(!npt.covers(u64::MAX, u64::MAX));
        assert!(!npt.covers(2, 1));
    }
}
