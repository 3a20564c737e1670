//! The layout that the host's own tables and SVM's nested tables share: long-mode page tables
//! (AMD APM vol. 2, 5.3 and 15.25.5).

use super::{Entry, Leaf, Pat, Rights, level_pages};
use crate::mem::addr::{PAGE_SHIFT, Spfn};

pub(super) const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
/// PAT index bits 0 and 1 (PWT, PCD).
const PAT_LOW_SHIFT: u32 = 3;
/// PAT index bit 2 of a 4 KiB leaf, and of a large one.
const PAT_HIGH_4K: u64 = 1 << 7;
const PAT_HIGH_LARGE: u64 = 1 << 12;
/// Ours (the processor ignores it): a leaf without rights, which is not present to the processor.
const MAPPED: u64 = 1 << 9;
/// Ours: such a leaf that keeps its frame.
const BACKED: u64 = 1 << 10;

/// What differs between the host's tables and nested ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Physical address bits of the processor.
    pub(super) physical_bits: u8,
    /// Its PAT.
    pub(super) pat: Pat,
    /// Every access counts as ring 3, so the user bit is always set: nested tables.
    pub(super) always_user: bool,
}

impl Layout {
    pub(super) const fn table(self, table: Spfn) -> u64 {
        table.address().0 | PRESENT | WRITABLE | USER | ACCESSED
    }

    pub(super) fn decode(self, raw: u64, level: u8) -> Entry {
        if raw & (PRESENT | MAPPED) == 0 {
            Entry::Empty
        } else if raw & PRESENT != 0 && level > 1 && raw & LARGE == 0 {
            Entry::Table(Spfn((raw & ADDRESS) >> PAGE_SHIFT))
        } else {
            Entry::Leaf(self.decode_leaf(raw, level))
        }
    }

    fn decode_leaf(self, raw: u64, level: u8) -> Leaf {
        let present = raw & PRESENT != 0;
        let backed = present || raw & BACKED != 0;
        let high = if level == 1 {
            PAT_HIGH_4K
        } else {
            PAT_HIGH_LARGE
        };
        let pat_index = (raw >> PAT_LOW_SHIFT & 3) as u8 | u8::from(raw & high != 0) << 2;
        let frame = ((raw & ADDRESS) >> PAGE_SHIFT) & !(level_pages(level) - 1);
        let mut rights = Rights::empty();
        if present {
            rights.insert(Rights::READ);
            rights.set(Rights::WRITE, raw & WRITABLE != 0);
            rights.set(Rights::EXECUTE, raw & NO_EXECUTE == 0);
            rights.set(Rights::USER, raw & USER != 0 && !self.always_user);
        }
        Leaf {
            frame: backed.then_some(Spfn(frame)),
            rights,
            memory_type: self.pat.memory_type(pat_index),
            accessed: raw & ACCESSED != 0,
            dirty: raw & DIRTY != 0,
        }
    }

    pub(super) fn leaf(self, leaf: Leaf, level: u8) -> Option<u64> {
        let mut raw = self.memory_type_bits(leaf, level)? | self.rights_bits(leaf)?;
        if let Some(frame) = leaf.frame {
            let frames = 1u64 << (u32::from(self.physical_bits) - PAGE_SHIFT);
            if frame.0 >= frames || !frame.is_aligned(level_pages(level)) {
                return None;
            }
            raw |= frame.address().0;
        }
        raw |= if leaf.accessed { ACCESSED } else { 0 };
        raw |= if leaf.dirty { DIRTY } else { 0 };
        raw |= if level > 1 { LARGE } else { 0 };
        Some(raw)
    }

    fn memory_type_bits(self, leaf: Leaf, level: u8) -> Option<u64> {
        let index = u64::from(self.pat.index_of(leaf.memory_type)?);
        let high = if level == 1 {
            PAT_HIGH_4K
        } else {
            PAT_HIGH_LARGE
        };
        Some((index & 3) << PAT_LOW_SHIFT | if index & 4 != 0 { high } else { 0 })
    }

    /// This format has no write-only and no execute-only pages, and nested tables have no rings.
    fn rights_bits(self, leaf: Leaf) -> Option<u64> {
        let rights = leaf.rights;
        if rights.is_empty() {
            return Some(MAPPED | if leaf.frame.is_some() { BACKED } else { 0 });
        }
        let ring = rights.contains(Rights::USER);
        if !rights.contains(Rights::READ) || leaf.frame.is_none() || ring && self.always_user {
            return None;
        }
        let mut raw = PRESENT;
        raw |= if rights.contains(Rights::WRITE) {
            WRITABLE
        } else {
            0
        };
        raw |= if rights.contains(Rights::EXECUTE) {
            0
        } else {
            NO_EXECUTE
        };
        raw |= if ring || self.always_user { USER } else { 0 };
        Some(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryType;
    use super::*;

    const LAYOUT: Layout = Layout {
        physical_bits: 40,
        pat: Pat::PARTITA,
        always_user: true,
    };

    #[test]
    fn leaves_survive_encoding_at_every_level() {
        let types = [
            MemoryType::Uncacheable,
            MemoryType::WriteCombining,
            MemoryType::WriteThrough,
            MemoryType::WriteProtected,
            MemoryType::WriteBack,
            MemoryType::UncacheableMinus,
        ];
        let rights = [
            Rights::empty(),
            Rights::READ,
            Rights::RW,
            Rights::RX,
            Rights::RWX,
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
                let raw = LAYOUT.leaf(leaf, level).unwrap();
                assert_eq!(
                    LAYOUT.decode(raw, level),
                    Entry::Leaf(leaf),
                    "{raw:#x} at level {level}"
                );
                assert_eq!(raw & PRESENT != 0, !rights.is_empty());
            }
        }
    }

    #[test]
    fn a_page_without_access_differs_from_an_unmapped_one() {
        for level in 1..=3 {
            let raw = LAYOUT.leaf(Leaf::NO_ACCESS, level).unwrap();
            assert_eq!(raw & PRESENT, 0);
            assert_eq!(LAYOUT.decode(raw, level), Entry::Leaf(Leaf::NO_ACCESS));
            assert_eq!(LAYOUT.decode(0, level), Entry::Empty);
        }
    }

    #[test]
    fn bits_are_where_the_manual_has_them() {
        let leaf = Leaf::new(Spfn(0x200), Rights::RW).with_memory_type(MemoryType::WriteCombining);
        assert_eq!(
            LAYOUT.leaf(leaf, 2),
            Some(1 << 63 | 0x20_0000 | 1 << 12 | 1 << 7 | 1 << 3 | 7)
        );
        assert_eq!(
            LAYOUT.leaf(leaf, 1),
            Some(1 << 63 | 0x20_0000 | 1 << 7 | 1 << 3 | 7)
        );
        assert_eq!(LAYOUT.table(Spfn(5)), 0x5027);
        let kernel = Layout {
            always_user: false,
            ..LAYOUT
        };
        assert_eq!(kernel.leaf(Leaf::new(Spfn(1), Rights::RX), 1), Some(0x1001));
        assert_eq!(
            kernel.leaf(Leaf::new(Spfn(1), Rights::RX | Rights::USER), 1),
            Some(0x1005)
        );
    }

    #[test]
    fn what_the_format_cannot_say_is_refused() {
        let leaf = Leaf::new(Spfn(0x201), Rights::RW);
        assert_eq!(LAYOUT.leaf(leaf, 2), None, "misaligned");
        assert_eq!(
            LAYOUT.leaf(Leaf::new(Spfn(1 << 28), Rights::RW), 1),
            None,
            "too wide"
        );
        assert_eq!(
            LAYOUT.leaf(Leaf::new(Spfn(0), Rights::WRITE), 1),
            None,
            "write-only"
        );
        assert_eq!(
            LAYOUT.leaf(Leaf::new(Spfn(0), Rights::READ | Rights::USER), 1),
            None,
            "rings"
        );
        assert_eq!(
            LAYOUT.leaf(
                Leaf {
                    rights: Rights::READ,
                    ..Leaf::NO_ACCESS
                },
                1
            ),
            None,
            "no frame"
        );
        let reset = Layout {
            pat: Pat::RESET,
            ..LAYOUT
        };
        assert_eq!(
            reset.leaf(leaf.with_memory_type(MemoryType::WriteCombining), 1),
            None,
            "no WC"
        );
    }
}
