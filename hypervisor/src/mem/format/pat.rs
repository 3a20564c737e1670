//! The page attribute table: from memory types to the three bits that a page table has for them.

use super::MemoryType;

/// A value of IA32_PAT. Nested tables of SVM use the host's (AMD APM vol. 2, 15.25.8), so it must be the value that
/// the processors run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pat(pub u64);

impl Pat {
    /// After reset: WB, WT, UC-, UC, twice. Has no WC and no WP.
    pub const RESET: Self = Self(0x0007_0406_0007_0406);
    /// As after reset, but entry 4 is WP and entry 5 is WC. The first four entries are unchanged, so tables that the
    /// firmware or a loader made keep their meaning.
    pub const PARTITA: Self = Self(0x0007_0105_0007_0406);

    /// The first entry with this memory type.
    pub fn index_of(self, memory_type: MemoryType) -> Option<u8> {
        (0..8).find(|&index| self.entry(index) == memory_type as u8)
    }

    /// The memory type of entry `index` (of which the low three bits count). A reserved value is read as UC.
    pub fn memory_type(self, index: u8) -> MemoryType {
        match self.entry(index & 7) {
            1 => MemoryType::WriteCombining,
            4 => MemoryType::WriteThrough,
            5 => MemoryType::WriteProtected,
            6 => MemoryType::WriteBack,
            7 => MemoryType::UncacheableMinus,
            _ => MemoryType::Uncacheable,
        }
    }

    const fn entry(self, index: u8) -> u8 {
        (self.0 >> (8 * index)) as u8
    }
}
