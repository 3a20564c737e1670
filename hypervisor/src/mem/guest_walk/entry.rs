//! Paging modes and the bits of a guest's page-table entries.

use super::PagingState;
use crate::mem::addr::Gpa;

pub(super) const PRESENT: u64 = 1;
pub(super) const WRITABLE: u64 = 1 << 1;
pub(super) const USER: u64 = 1 << 2;
pub(super) const ACCESSED: u64 = 1 << 5;
pub(super) const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
pub(super) const NO_EXECUTE: u64 = 1 << 63;

/// How the VP translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Two levels of 1024 32-bit entries.
    Bits32,
    /// Four entries above two levels of 512 64-bit entries.
    Pae,
    /// Four levels of 512 entries.
    Long4,
    /// Five levels.
    Long5,
}

/// Bits `low` to `high` of a word.
const fn bits(low: u32, high: u32) -> u64 {
    if low > high {
        0
    } else {
        (u64::MAX >> (63 - (high - low))) << low
    }
}

impl Mode {
    /// None without paging.
    pub(super) const fn of(state: &PagingState) -> Option<Self> {
        if state.cr0 & PagingState::CR0_PG == 0 {
            None
        } else if !state.cr4_has(PagingState::CR4_PAE) {
            Some(Self::Bits32)
        } else if state.efer & PagingState::EFER_LMA == 0 {
            Some(Self::Pae)
        } else if state.cr4_has(PagingState::CR4_LA57) {
            Some(Self::Long5)
        } else {
            Some(Self::Long4)
        }
    }

    pub(super) const fn is_long(self) -> bool {
        matches!(self, Self::Long4 | Self::Long5)
    }

    /// Level of the table that CR3 names; the last one is 1.
    pub(super) const fn levels(self) -> u8 {
        match self {
            Self::Bits32 => 2,
            Self::Pae => 3,
            Self::Long4 => 4,
            Self::Long5 => 5,
        }
    }

    /// Bytes of an entry.
    pub(super) const fn entry_bytes(self) -> u64 {
        match self {
            Self::Bits32 => 4,
            _ => 8,
        }
    }

    /// Lowest address bit that an entry of `level` translates further: its leaf has so many offset bits.
    pub(super) const fn shift(self, level: u8) -> u32 {
        let index_bits = if matches!(self, Self::Bits32) { 10 } else { 9 };
        12 + index_bits * (level as u32 - 1)
    }

    /// Where the first table lies.
    pub(super) const fn root(self, cr3: u64) -> u64 {
        match self {
            Self::Bits32 => cr3 & bits(12, 31),
            Self::Pae => cr3 & bits(5, 31),
            Self::Long4 | Self::Long5 => cr3 & bits(12, 51),
        }
    }

    /// Where the entry for an address lies in a table.
    pub(super) const fn slot(self, table: u64, level: u8, gva: u64) -> Gpa {
        let entries = match (self, level) {
            (Self::Bits32, _) => 1024,
            (Self::Pae, 3) => 4,
            _ => 512,
        };
        Gpa(table + (gva >> self.shift(level)) % entries * self.entry_bytes())
    }

    /// Whether an address can be translated; outside long mode it has 32 bits already.
    pub(super) const fn is_canonical(self, gva: u64) -> bool {
        let unused = match self {
            Self::Long4 => 16,
            Self::Long5 => 7,
            Self::Bits32 | Self::Pae => return true,
        };
        ((gva << unused) as i64 >> unused) as u64 == gva
    }

    /// The four top entries of PAE only lead on: they have no rights and no accessed bit.
    pub(super) const fn is_bare(self, level: u8) -> bool {
        matches!((self, level), (Self::Pae, 3))
    }

    /// Whether a present entry ends the walk.
    pub(super) const fn is_leaf(self, state: &PagingState, level: u8, entry: u64) -> bool {
        let large = entry & LARGE != 0;
        match (self, level) {
            (_, 1) => true,
            (Self::Bits32, 2) => large && state.cr4_has(PagingState::CR4_PSE),
            (_, 2) => large,
            (Self::Long4 | Self::Long5, 3) => large && state.gib_pages,
            _ => false,
        }
    }

    /// Bits that must be zero in a present entry.
    pub(super) const fn reserved(self, state: &PagingState, level: u8, leaf: bool) -> u64 {
        let width = state.physical_bits as u32;
        let no_execute = if state.no_execute_enabled() {
            0
        } else {
            NO_EXECUTE
        };
        let offset = if leaf && level > 1 {
            bits(13, self.shift(level) - 1)
        } else {
            0
        };
        let large = if !leaf && level > 1 { LARGE } else { 0 };
        match (self, level) {
            // Bits 20:13 are address bits 39:32 (PSE-36).
            (Self::Bits32, 2) if leaf => {
                bits(21, 21) | bits(if width >= 40 { 21 } else { width - 19 }, 20)
            }
            (Self::Bits32, _) => 0,
            (Self::Pae, 3) => bits(1, 2) | bits(5, 8) | bits(width, 63),
            (Self::Pae, _) => bits(width, 62) | no_execute | offset | large,
            (Self::Long4 | Self::Long5, _) => bits(width, 51) | no_execute | offset | large,
        }
    }

    /// The address in a table entry, or of the page that a leaf of `level` maps.
    pub(super) const fn address(self, level: u8, entry: u64, leaf: bool) -> u64 {
        match self {
            Self::Bits32 if leaf && level == 2 => entry & bits(22, 31) | (entry >> 13 & 0xFF) << 32,
            Self::Bits32 => entry & bits(12, 31),
            _ if leaf => entry & bits(self.shift(level), 51),
            _ => entry & bits(12, 51),
        }
    }
}

/// PAT index in a leaf.
pub(super) const fn pat_index(level: u8, entry: u64) -> u8 {
    let high = if level == 1 { 7 } else { 12 };
    (entry >> 3 & 3 | (entry >> high & 1) << 2) as u8
}
