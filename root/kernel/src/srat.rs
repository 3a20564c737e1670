//! The System Resource Affinity Table: which memory is near which processors (ACPI specification 6.5, 5.2.16).
//!
//! Only memory is of interest here. Structures of other types are skipped by their length, whatever they are.

use alloc::vec::Vec;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Where the structures begin: behind the header (36 bytes), a number that is always 1 (4), and 8 reserved ones.
const STRUCTURES: usize = 48;
/// Offset of the table's revision.
const REVISION: usize = 8;
/// In tables up to this revision only the low byte of a proximity domain counts.
const OLD_REVISION: u8 = 1;
/// Most ranges that are kept: a machine has a few for each node. What is beyond counts as the first node's.
pub const MAX_RANGES: usize = 64;

/// Type of [`MemoryAffinity`].
const MEMORY_AFFINITY: u8 = 1;
/// Flag of [`MemoryAffinity`]: it is in use.
const ENABLED: u32 = 1 << 0;

/// What every structure begins with.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Head {
    kind: u8,
    /// Bytes, these included.
    len: u8,
}

/// Memory Affinity Structure (5.2.16.2).
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct MemoryAffinity {
    head: Head,
    domain: U32,
    reserved_1: U16,
    base: U64,
    len: U64,
    reserved_2: U32,
    flags: U32,
    reserved_3: U64,
}

const _: () = assert!(size_of::<MemoryAffinity>() == 40);

/// Memory of a proximity domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// Number of the domain; they need not be dense.
    pub domain: u32,
    /// First byte.
    pub base: u64,
    /// Bytes, not 0.
    pub len: u64,
}

/// The memory in a table, header included, that is in use; in the table's order. A structure that is cut off, or whose length
/// cannot be, ends the table.
pub fn memory(table: &[u8]) -> Vec<MemoryRange> {
    let revision = table.get(REVISION).copied().unwrap_or_default();
    let mask = if revision <= OLD_REVISION {
        0xFF
    } else {
        u32::MAX
    };
    let mut rest = table.get(STRUCTURES..).unwrap_or_default();
    let mut ranges = Vec::new();
    while let Ok((head, _)) = Head::ref_from_prefix(rest) {
        let len = usize::from(head.len);
        let Some((structure, next)) = rest
            .split_at_checked(len)
            .filter(|_| len >= size_of::<Head>())
        else {
            break;
        };
        rest = next;
        if head.kind != MEMORY_AFFINITY {
            continue;
        }
        let Ok((affinity, _)) = MemoryAffinity::ref_from_prefix(structure) else {
            continue;
        };
        let used = affinity.flags.get() & ENABLED != 0 && affinity.len.get() != 0;
        if used && ranges.len() < MAX_RANGES {
            ranges.push(MemoryRange {
                domain: affinity.domain.get() & mask,
                base: affinity.base.get(),
                len: affinity.len.get(),
            });
        }
    }
    ranges
}

#[cfg(test)]
#[path = "srat_tests.rs"]
mod tests;
