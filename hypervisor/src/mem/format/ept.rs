//! Extended page tables of Intel VMX.

use super::{Entry, Format, Leaf, LeafSize, MemoryType, Rights, level_pages};
use crate::mem::addr::{Gpfn, PAGE_SHIFT, Spfn};

const READ: u64 = 1;
const WRITE: u64 = 1 << 1;
const EXECUTE: u64 = 1 << 2;
/// Any of them makes an entry present; without them the processor ignores all other bits.
const PRESENT: u64 = READ | WRITE | EXECUTE;
const MEMORY_TYPE_SHIFT: u32 = 3;
const IGNORE_PAT: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
/// Ours, in bits that the processor ignores: a leaf without rights.
const MAPPED: u64 = 1 << 52;
/// Ours: such a leaf that keeps its frame.
const BACKED: u64 = 1 << 53;

/// What a processor's extended page tables have, by IA32_VMX_EPT_VPID_CAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EptFeatures {
    /// Largest leaf (bits 16 and 17).
    pub max_leaf: LeafSize,
    /// Pages that can be executed and not read (bit 0).
    pub execute_only: bool,
    /// The processor notes accesses and writes (bit 21), and the EPT pointers switch it on.
    pub access_bits: bool,
    /// Leaves larger than 4 KiB may be executed. Off where a guest could harm the processor by it.
    pub large_code: bool,
    /// The guest's PAT has a say in a leaf's memory type. Off, the leaf alone decides, whose frame others map too.
    pub guest_pat: bool,
}

/// Extended page tables (Intel SDM vol. 3C, "The Extended Page Table Mechanism") with 4 levels. The memory type of a
/// leaf stands where the MTRRs do otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Ept {
    physical_bits: u8,
    guest_bits: u8,
    features: EptFeatures,
}

impl Ept {
    /// For a processor with `physical_bits` of physical address (32 to 52) and `features`, and a guest with `guest_bits`
    /// of guest physical address (32 to 48).
    pub const fn new(physical_bits: u8, guest_bits: u8, features: EptFeatures) -> Self {
        assert!(physical_bits >= 32 && physical_bits <= 52);
        assert!(guest_bits >= 32 && guest_bits <= 48);
        Self {
            physical_bits,
            guest_bits,
            features,
        }
    }

    /// Anything else that is present is a misconfiguration.
    fn rights_bits(self, leaf: Leaf) -> Option<u64> {
        let rights = leaf.rights;
        if rights.is_empty() {
            return Some(MAPPED | if leaf.frame.is_some() { BACKED } else { 0 });
        }
        let readable = rights.contains(Rights::READ);
        let execute_only = self.features.execute_only && rights == Rights::EXECUTE;
        if leaf.frame.is_none() || rights.contains(Rights::USER) || !(readable || execute_only) {
            return None;
        }
        let mut raw = if readable { READ } else { 0 };
        raw |= if rights.contains(Rights::WRITE) {
            WRITE
        } else {
            0
        };
        raw |= if rights.contains(Rights::EXECUTE) {
            EXECUTE
        } else {
            0
        };
        Some(raw)
    }

    /// Where the processor does not note what it did, a page counts as used, and as written if it can be.
    fn access_bits(self, leaf: Leaf) -> u64 {
        let all = !self.features.access_bits && !leaf.rights.is_empty();
        let dirty = leaf.dirty || all && leaf.rights.contains(Rights::WRITE);
        (if leaf.accessed || all { ACCESSED } else { 0 }) | if dirty { DIRTY } else { 0 }
    }
}

impl Format for Ept {
    type Page = Gpfn;

    fn decode(self, raw: u64, level: u8) -> Entry {
        if raw & (PRESENT | MAPPED) == 0 {
            Entry::Empty
        } else if raw & PRESENT != 0 && level > 1 && raw & LARGE == 0 {
            Entry::Table(Spfn((raw & ADDRESS) >> PAGE_SHIFT))
        } else {
            let frame = ((raw & ADDRESS) >> PAGE_SHIFT) & !(level_pages(level) - 1);
            let mut rights = Rights::empty();
            rights.set(Rights::READ, raw & READ != 0);
            rights.set(Rights::WRITE, raw & WRITE != 0);
            rights.set(Rights::EXECUTE, raw & EXECUTE != 0);
            Entry::Leaf(Leaf {
                frame: (raw & (PRESENT | BACKED) != 0).then_some(Spfn(frame)),
                rights,
                memory_type: memory_type(raw),
                accessed: raw & ACCESSED != 0,
                dirty: raw & DIRTY != 0,
            })
        }
    }

    fn table(self, table: Spfn) -> u64 {
        table.address().0 | PRESENT | ACCESSED
    }

    fn leaf(self, leaf: Leaf, level: u8) -> Option<u64> {
        // Only the PAT has UC-.
        if leaf.memory_type == MemoryType::UncacheableMinus {
            return None;
        }
        let code = leaf.rights.contains(Rights::EXECUTE);
        if level > 1 && code && !self.features.large_code {
            return None;
        }
        let mut raw = self.rights_bits(leaf)? | self.access_bits(leaf);
        raw |= (leaf.memory_type as u64) << MEMORY_TYPE_SHIFT;
        raw |= if self.features.guest_pat {
            0
        } else {
            IGNORE_PAT
        };
        if let Some(frame) = leaf.frame {
            let frames = 1u64 << (u32::from(self.physical_bits) - PAGE_SHIFT);
            if frame.0 >= frames || !frame.is_aligned(level_pages(level)) {
                return None;
            }
            raw |= frame.address().0;
        }
        raw |= if level > 1 { LARGE } else { 0 };
        Some(raw)
    }

    fn covers(self, first: u64, last: u64) -> bool {
        first <= last && last >> (u32::from(self.guest_bits) - PAGE_SHIFT) == 0
    }

    fn max_leaf(self) -> LeafSize {
        self.features.max_leaf
    }
}

/// The memory type of a leaf; those that are reserved are never written.
const fn memory_type(raw: u64) -> MemoryType {
    match raw >> MEMORY_TYPE_SHIFT & 7 {
        1 => MemoryType::WriteCombining,
        4 => MemoryType::WriteThrough,
        5 => MemoryType::WriteProtected,
        6 => MemoryType::WriteBack,
        _ => MemoryType::Uncacheable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEATURES: EptFeatures = EptFeatures {
        max_leaf: LeafSize::Size1G,
        execute_only: false,
        access_bits: true,
        large_code: true,
        guest_pat: true,
    };
    const EPT: Ept = Ept::new(40, 48, FEATURES);
    const EXECUTE_ONLY: Ept = Ept::new(
        40,
        48,
        EptFeatures {
            execute_only: true,
            ..FEATURES
        },
    );

    #[test]
    fn leaves_survive_encoding_at_every_level() {
        let types = [
            MemoryType::Uncacheable,
            MemoryType::WriteCombining,
            MemoryType::WriteThrough,
            MemoryType::WriteProtected,
            MemoryType::WriteBack,
        ];
        let rights = [
            Rights::empty(),
            Rights::READ,
            Rights::RW,
            Rights::RX,
            Rights::RWX,
            Rights::EXECUTE,
        ];
        for (level, memory_type) in (1..=3).flat_map(|level| types.map(|t| (level, t))) {
            for (rights, bits) in rights
                .iter()
                .flat_map(|&rights| (0..4u8).map(move |bits| (rights, bits)))
            {
                let leaf = Leaf {
                    frame: Some(Spfn(3 << 18)),
                    rights,
                    memory_type,
                    accessed: bits & 1 != 0,
                    dirty: bits & 2 != 0,
                };
                let raw = EXECUTE_ONLY.leaf(leaf, level).unwrap();
                let back = EXECUTE_ONLY.decode(raw, level);
                assert_eq!(back, Entry::Leaf(leaf), "{raw:#x} at level {level}");
                assert_eq!(raw & 7 != 0, !rights.is_empty());
            }
        }
    }

    #[test]
    fn a_page_without_access_differs_from_an_unmapped_one() {
        for level in 1..=3 {
            let raw = EPT.leaf(Leaf::NO_ACCESS, level).unwrap();
            assert_eq!(raw & 7, 0, "not present to the processor");
            assert_eq!(EPT.decode(raw, level), Entry::Leaf(Leaf::NO_ACCESS));
            assert_eq!(EPT.decode(0, level), Entry::Empty);
        }
    }

    #[test]
    fn bits_are_where_the_manual_has_them() {
        let leaf = Leaf::new(Spfn(0x200), Rights::RW);
        assert_eq!(EPT.leaf(leaf, 1), Some(0x20_0000 | 6 << 3 | 3));
        assert_eq!(EPT.leaf(leaf, 2), Some(0x20_0000 | 1 << 7 | 6 << 3 | 3));
        let used = Leaf {
            accessed: true,
            dirty: true,
            rights: Rights::RX,
            ..leaf.with_memory_type(MemoryType::Uncacheable)
        };
        assert_eq!(EPT.leaf(used, 1), Some(0x20_0000 | 1 << 9 | 1 << 8 | 5));
        assert_eq!(EPT.table(Spfn(5)), 0x5107);
        assert_eq!(EPT.decode(0x5107, 4), Entry::Table(Spfn(5)));
    }

    #[test]
    fn what_the_format_cannot_say_is_refused() {
        let leaf = Leaf::new(Spfn(0x201), Rights::RW);
        let with = |rights| Leaf::new(Spfn(0), rights);
        assert_eq!(EPT.leaf(leaf, 2), None, "misaligned");
        assert_eq!(EPT.leaf(Leaf::new(Spfn(1 << 28), Rights::RW), 1), None);
        for ept in [EPT, EXECUTE_ONLY] {
            assert_eq!(ept.leaf(with(Rights::WRITE), 1), None, "write-only");
            let without_read = Rights::WRITE | Rights::EXECUTE;
            assert_eq!(ept.leaf(with(without_read), 1), None, "without read");
            assert_eq!(ept.leaf(with(Rights::RW | Rights::USER), 1), None, "rings");
            let unbacked = Leaf {
                rights: Rights::READ,
                ..Leaf::NO_ACCESS
            };
            assert_eq!(ept.leaf(unbacked, 1), None, "no frame");
            let uc_minus = leaf.with_memory_type(MemoryType::UncacheableMinus);
            assert_eq!(ept.leaf(uc_minus, 1), None, "UC- is the PAT's alone");
        }
        assert_eq!(EPT.leaf(with(Rights::EXECUTE), 1), None);
        assert_eq!(
            EXECUTE_ONLY.leaf(with(Rights::EXECUTE), 1),
            Some(6 << 3 | 4)
        );
    }

    #[test]
    fn without_access_bits_a_page_counts_as_used_and_a_writable_one_as_written() {
        let ept = Ept::new(
            40,
            48,
            EptFeatures {
                access_bits: false,
                ..FEATURES
            },
        );
        for (rights, dirty) in [(Rights::RWX, true), (Rights::RX, false)] {
            let raw = ept.leaf(Leaf::new(Spfn(0), rights), 1).unwrap();
            let Entry::Leaf(leaf) = ept.decode(raw, 1) else {
                panic!("a leaf");
            };
            assert_eq!((leaf.accessed, leaf.dirty), (true, dirty));
        }
    }

    #[test]
    fn code_is_small_where_it_must_be_and_the_rest_is_not() {
        let ept = Ept::new(
            40,
            48,
            EptFeatures {
                large_code: false,
                ..FEATURES
            },
        );
        for rights in [Rights::RX, Rights::RWX] {
            let leaf = Leaf::new(Spfn(0), rights);
            assert_eq!(ept.leaf(leaf, 2), None);
            assert_eq!(ept.leaf(leaf, 3), None);
            assert_eq!(ept.leaf(leaf, 1), EPT.leaf(leaf, 1));
        }
        let data = Leaf::new(Spfn(0), Rights::RW);
        assert_eq!(ept.leaf(data, 2), EPT.leaf(data, 2));
        assert_eq!(ept.table(Spfn(5)) & EXECUTE, EXECUTE);
    }

    #[test]
    fn the_guests_pat_is_ignored_where_it_must_be_and_nothing_else_changes() {
        let ept = Ept::new(
            40,
            48,
            EptFeatures {
                guest_pat: false,
                ..FEATURES
            },
        );
        for level in 1..=3 {
            let leaf = Leaf::new(Spfn(0), Rights::RWX);
            let raw = ept.leaf(leaf, level).unwrap();
            assert_eq!(raw, EPT.leaf(leaf, level).unwrap() | 1 << 6);
            assert_eq!(ept.decode(raw, level), Entry::Leaf(leaf));
            let none = ept.leaf(Leaf::NO_ACCESS, level).unwrap();
            assert_eq!(ept.decode(none, level), Entry::Leaf(Leaf::NO_ACCESS));
        }
        assert_eq!(ept.table(Spfn(5)), EPT.table(Spfn(5)), "reserved there");
    }

    #[test]
    fn guest_addresses_end_at_their_width() {
        let ept = Ept::new(48, 40, FEATURES);
        assert!(ept.covers(0, (1 << 28) - 1));
        assert!(!ept.covers(0, 1 << 28));
        assert!(!ept.covers(u64::MAX, u64::MAX));
        assert!(!ept.covers(2, 1));
    }
}
