//! What the walker needs of memory.

use super::super::addr::{Spa, Spfn};
use super::super::phys::PhysMap;

/// Memory that holds page tables. Addresses are of entries in tables of the walker's own, 8-aligned.
pub trait TableMemory: Copy {
    /// Reads an entry, in one access.
    fn read(self, slot: Spa) -> u64;

    /// Writes an entry of a table that no processor can reach yet.
    fn write(self, slot: Spa, entry: u64);

    /// Replaces `old` by `new` in one access, visible after everything that was written before. Returns the entry that
    /// was found, `old` on success.
    fn compare_exchange(self, slot: Spa, old: u64, new: u64) -> u64;

    /// Zeroes a table that no processor can reach yet.
    fn zero(self, table: Spfn);
}

/// Frames of tables come from the hypervisor's own sources, so all of them are in the direct map.
const COVERED: &str = "page tables lie in the direct map";

impl TableMemory for PhysMap {
    fn read(self, slot: Spa) -> u64 {
        self.read_u64(slot).expect(COVERED)
    }

    fn write(self, slot: Spa, entry: u64) {
        self.write_u64(slot, entry).expect(COVERED);
    }

    fn compare_exchange(self, slot: Spa, old: u64, new: u64) -> u64 {
        self.compare_exchange_u64(slot, old, new).expect(COVERED)
    }

    fn zero(self, table: Spfn) {
        self.zero_page(table).expect(COVERED);
    }
}
