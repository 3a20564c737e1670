//! Memory types of the machine's physical addresses: the MTRRs (Intel SDM vol. 3A, "Memory Type Range Registers").
//!
//! The processor applies them to what it reaches by its own page tables. Second-level tables that name memory types
//! stand in for them, so whoever is to see the machine as it is needs tables that say the same: [`map_as_it_is`].

#[cfg(test)]
mod tests;

use arrayvec::ArrayVec;

use super::addr::{Gpfn, PAGE_SHIFT, Spfn};
use super::format::{Format, Leaf, LeafSize, MemoryType, Rights};
use super::table::{FrameSource, PageTable, Stopped, TableMemory};
use crate::arch::cpuid::CpuidSource;
use crate::arch::msr::MsrSource;

const MSR_CAPABILITIES: u32 = 0xFE;
const MSR_DEFAULT_TYPE: u32 = 0x2FF;
/// Base and mask of the first variable range; those of the others follow.
const MSR_FIRST_VARIABLE: u32 = 0x200;
/// Eight types each: for 64 KiB, 16 KiB and 4 KiB a type, in the order of what they cover.
const MSR_FIXED: [u32; 11] = [
    0x250, 0x258, 0x259, 0x268, 0x269, 0x26A, 0x26B, 0x26C, 0x26D, 0x26E, 0x26F,
];
/// Variable ranges that there are MSRs for, before the fixed ones.
const MAX_VARIABLE: usize = 40;

const CAPABILITIES_COUNT: u64 = 0xFF;
const CAPABILITIES_FIXED: u64 = 1 << 8;
const DEFAULT_FIXED: u64 = 1 << 10;
const DEFAULT_ENABLED: u64 = 1 << 11;
const MASK_VALID: u64 = 1 << 11;

/// Pages below 1 MiB, which the fixed ranges cover.
const FIXED_PAGES: u64 = 0x100;

/// A variable range: the pages whose numbers agree with `base` in all bits of `mask`.
#[derive(Clone, Copy, Debug)]
struct Variable {
    base: u64,
    mask: u64,
    memory_type: MemoryType,
}

/// The MTRRs, as they were at boot. All processors have the same, and nobody changes them later.
#[derive(Clone, Debug)]
pub struct Mtrrs {
    default: MemoryType,
    fixed: Option<[u64; MSR_FIXED.len()]>,
    variable: ArrayVec<Variable, MAX_VARIABLE>,
}

/// Pages of one memory type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypedRange {
    /// The first one.
    pub first: Spfn,
    /// How many, at least 1.
    pub pages: u64,
    /// Their type.
    pub memory_type: MemoryType,
}

impl Mtrrs {
    /// Reads the MTRRs of a processor with `physical_bits` of physical address (32 to 52). Without any, everything is WB:
    /// its page tables decide alone. Switched off, they make everything UC.
    pub fn read(cpu: &impl CpuidSource, msrs: &impl MsrSource, physical_bits: u8) -> Self {
        const HAS_MTRRS: u32 = 1 << 12;
        let mut this = Self {
            default: MemoryType::WriteBack,
            fixed: None,
            variable: ArrayVec::new(),
        };
        if cpu.cpuid_checked(1, 0).edx & HAS_MTRRS == 0 {
            return this;
        }
        let (capabilities, default) = (msrs.read(MSR_CAPABILITIES), msrs.read(MSR_DEFAULT_TYPE));
        if default & DEFAULT_ENABLED == 0 {
            this.default = MemoryType::Uncacheable;
            return this;
        }
        this.default = memory_type(default);
        if capabilities & CAPABILITIES_FIXED != 0 && default & DEFAULT_FIXED != 0 {
            this.fixed = Some(MSR_FIXED.map(|msr| msrs.read(msr)));
        }
        let count = (capabilities & CAPABILITIES_COUNT).min(MAX_VARIABLE as u64) as u32;
        let numbers = (1 << (u32::from(physical_bits) - PAGE_SHIFT)) - 1;
        this.variable = (0..count)
            .map(|range| MSR_FIRST_VARIABLE + 2 * range)
            .map(|msr| (msrs.read(msr), msrs.read(msr + 1)))
            .filter(|(_, mask)| mask & MASK_VALID != 0)
            .map(|(base, mask)| {
                let mask = mask >> PAGE_SHIFT & numbers;
                Variable {
                    base: base >> PAGE_SHIFT & mask,
                    mask,
                    memory_type: memory_type(base),
                }
            })
            .collect();
        this
    }

    /// The types of `pages` pages from `first` on, in pieces as large as there are, in ascending order.
    pub fn types(&self, first: Spfn, pages: u64) -> impl Iterator<Item = TypedRange> + '_ {
        let end = first.0.saturating_add(pages);
        let mut page = first.0;
        core::iter::from_fn(move || {
            let first = page;
            let (memory_type, mut until) = (page < end).then(|| self.type_at(page))?;
            while until < end
                && let (next, more) = self.type_at(until)
                && next == memory_type
            {
                until = more;
            }
            page = until.min(end);
            Some(TypedRange {
                first: Spfn(first),
                pages: page - first,
                memory_type,
            })
        })
    }

    /// The type of a page, and a page behind it up to which it stays the same.
    fn type_at(&self, page: u64) -> (MemoryType, u64) {
        if let Some(fixed) = &self.fixed
            && page < FIXED_PAGES
        {
            return fixed_type(fixed, page);
        }
        let mut found = None;
        let mut until = u64::MAX;
        for range in &self.variable {
            let (matches, change) = range.look(page);
            until = until.min(change);
            if matches {
                found = Some(found.map_or(range.memory_type, |other| {
                    precedence(other, range.memory_type)
                }));
            }
        }
        (found.unwrap_or(self.default), until)
    }
}

/// Maps `pages` frames from `first` on at their own addresses, with the memory types in `types`. Without, as WB: for
/// tables with which the MTRRs apply all the same.
///
/// # Errors
///
/// As [`PageTable::map`].
pub fn map_as_it_is<F, M, S>(
    table: &mut PageTable<F, M>,
    source: &mut S,
    types: Option<&Mtrrs>,
    (first, pages): (Spfn, u64),
    rights: Rights,
) -> Result<(), Stopped>
where
    F: Format<Page = Gpfn>,
    M: TableMemory,
    S: FrameSource,
{
    let mut map = |Spfn(first), pages, memory_type| {
        let leaf = Leaf::new(Spfn(first), rights).with_memory_type(memory_type);
        table.map(source, Gpfn(first), pages, leaf, LeafSize::Size1G)
    };
    let Some(types) = types else {
        return map(first, pages, MemoryType::WriteBack);
    };
    for range in types.types(first, pages) {
        map(range.first, range.pages, range.memory_type).map_err(|stopped| Stopped {
            done: range.first.0 - first.0 + stopped.done,
            ..stopped
        })?;
    }
    Ok(())
}

/// The type of a page below 1 MiB, and the first page behind those that share its field.
fn fixed_type(fixed: &[u64; MSR_FIXED.len()], page: u64) -> (MemoryType, u64) {
    let (field, span) = match page {
        0..0x80 => (page / 16, 16),
        0x80..0xC0 => (8 + (page - 0x80) / 4, 4),
        _ => (24 + (page - 0xC0), 1),
    };
    let register = fixed.get((field / 8) as usize).copied().unwrap_or(0);
    let until = (page / span + 1) * span;
    (memory_type(register >> (8 * (field % 8))), until)
}

/// What ranges of two types make of a page. What the manual leaves undefined is UC.
fn precedence(one: MemoryType, other: MemoryType) -> MemoryType {
    use MemoryType::{Uncacheable, WriteBack, WriteThrough};
    match (one, other) {
        (one, other) if one == other => one,
        (WriteThrough, WriteBack) | (WriteBack, WriteThrough) => WriteThrough,
        _ => Uncacheable,
    }
}

/// The type in the low byte. A reserved one is UC.
const fn memory_type(raw: u64) -> MemoryType {
    match raw as u8 {
        1 => MemoryType::WriteCombining,
        4 => MemoryType::WriteThrough,
        5 => MemoryType::WriteProtected,
        6 => MemoryType::WriteBack,
        _ => MemoryType::Uncacheable,
    }
}

impl Variable {
    /// Whether the range has a page, and the first page behind it for which that is otherwise.
    fn look(&self, page: u64) -> (bool, u64) {
        let wrong = (page ^ self.base) & self.mask;
        if wrong != 0 {
            return (false, self.next(page, wrong).unwrap_or(u64::MAX));
        }
        // The lowest bit that counts changes first.
        let until = match self.mask.trailing_zeros() {
            u64::BITS => None,
            bits => ((page >> bits) + 1).checked_shl(bits),
        };
        (true, until.unwrap_or(u64::MAX))
    }

    /// The lowest page of the range above `page`, which differs from it in the bits `wrong`.
    fn next(&self, page: u64, wrong: u64) -> Option<u64> {
        let highest = 1 << wrong.ilog2();
        // Above what is wrong everything stays, if the bit itself only has to rise. Else something above has to.
        let raised = if self.base & highest != 0 {
            highest
        } else {
            let free = !self.mask & !page & !(highest - 1);
            free & free.wrapping_neg()
        };
        let kept = page & !(raised.checked_mul(2)?.wrapping_sub(1));
        (raised != 0).then_some(kept | raised | self.base & (raised - 1))
    }
}
