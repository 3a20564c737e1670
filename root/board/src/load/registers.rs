//! Entry states as register lists.
//!
//! The lists are ordered so that every step alone is a state a processor can be in: paging structures and EFER before
//! CR0, control registers before the segments that depend on them.

use alloc::vec::Vec;

use tlfs::{
    HvRegisterAssoc, HvRegisterName as Name, HvRegisterValue, HvX64SegmentAttributes,
    HvX64SegmentRegister, HvX64TableRegister,
};

use crate::layout::{GDT, PAGE_TABLES};

/// CR0: PE, PG and ET.
const CR0_LONG: u64 = 0x8000_0011;
/// CR0: PE and ET.
const CR0_PROTECTED: u64 = 0x11;
/// CR4: PAE.
const CR4_PAE: u64 = 0x20;
/// EFER: LME, LMA.
const EFER_LONG: u64 = 0x500;
/// IA32_APIC_BASE of the bootstrap processor: enabled, x2APIC mode on, so that a kernel never touches the xAPIC page.
const APIC_BASE_BSP: u64 = 0xFEE0_0D00;
/// PAT at reset. Zero would make Linux do without PAT.
const PAT: u64 = 0x0007_0406_0007_0406;
/// RFLAGS: only the bit that is always 1.
const RFLAGS: u64 = 2;

/// Selectors of the boot GDT.
const CODE: u16 = 0x10;
const DATA: u16 = 0x18;
const TASK: u16 = 0x20;

// Attributes as in root sheet D.3: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15.
const CODE64_ATTRIBUTES: u16 = 0xA09B;
const CODE32_ATTRIBUTES: u16 = 0xC09B;
const DATA_ATTRIBUTES: u16 = 0xC093;
const TASK_ATTRIBUTES: u16 = 0x008B;

/// Bytes of the boot GDT.
pub const GDT_LEN: usize = 5 * 8;

/// The boot GDT: two empty slots, code, data, task.
pub fn gdt(long: bool) -> [u8; GDT_LEN] {
    let code = if long {
        CODE64_ATTRIBUTES
    } else {
        CODE32_ATTRIBUTES
    };
    let entries = [
        0,
        0,
        descriptor(code, 0xF_FFFF),
        descriptor(DATA_ATTRIBUTES, 0xF_FFFF),
        descriptor(TASK_ATTRIBUTES, 0x67),
    ];
    let mut bytes = [0; GDT_LEN];
    for (slot, entry) in bytes.chunks_exact_mut(8).zip(entries) {
        slot.copy_from_slice(&u64::to_le_bytes(entry));
    }
    bytes
}

/// A descriptor with base 0.
fn descriptor(attributes: u16, limit: u64) -> u64 {
    (limit & 0xFFFF) | u64::from(attributes) << 40 | (limit >> 16) << 48
}

/// A segment register with base 0.
fn segment(selector: u16, limit: u32, attributes: u16) -> HvRegisterValue {
    HvRegisterValue::from(HvX64SegmentRegister {
        base: 0,
        limit,
        selector,
        attributes: HvX64SegmentAttributes::from_bits(attributes),
    })
}

/// A table register.
fn table(base: u64, limit: u16) -> HvRegisterValue {
    HvRegisterValue::from(HvX64TableRegister {
        base,
        limit,
        ..Default::default()
    })
}

/// Linux' 64-bit entry: `zero_page` in RSI (guest sheet 12.1).
pub fn long_mode(entry: u64, zero_page: u64) -> Vec<HvRegisterAssoc> {
    let mut list = List::default();
    list.number(Name::CR4, CR4_PAE);
    list.number(Name::CR3, PAGE_TABLES);
    list.number(Name::EFER, EFER_LONG);
    list.number(Name::CR0, CR0_LONG);
    list.common(CODE64_ATTRIBUTES);
    list.number(Name::RSI, zero_page);
    list.number(Name::RIP, entry);
    list.0
}

/// The 32-bit entry of PVH and multiboot: paging off, `info` in EBX, `magic` in EAX.
pub fn protected_mode(entry: u32, magic: u32, info: u64) -> Vec<HvRegisterAssoc> {
    let mut list = List::default();
    list.number(Name::CR4, 0);
    list.number(Name::EFER, 0);
    list.number(Name::CR0, CR0_PROTECTED);
    list.common(CODE32_ATTRIBUTES);
    list.number(Name::RAX, u64::from(magic));
    list.number(Name::RBX, info);
    list.number(Name::RIP, u64::from(entry));
    list.0
}

#[derive(Default)]
struct List(Vec<HvRegisterAssoc>);

impl List {
    fn number(&mut self, name: Name, value: u64) {
        self.0.push(HvRegisterAssoc::new(name, value));
    }

    fn common(&mut self, code: u16) {
        let data = segment(DATA, u32::MAX, DATA_ATTRIBUTES);
        let structured = [
            (Name::CS, segment(CODE, u32::MAX, code)),
            (Name::DS, data),
            (Name::ES, data),
            (Name::SS, data),
            (Name::FS, data),
            (Name::GS, data),
            // Not present: nothing to load from it.
            (Name::LDTR, segment(0, 0, 0)),
            (Name::TR, segment(TASK, 0x67, TASK_ATTRIBUTES)),
            (Name::GDTR, table(GDT, GDT_LEN as u16 - 1)),
            (Name::IDTR, table(0, 0)),
        ];
        for (name, value) in structured {
            self.0.push(HvRegisterAssoc::new(name, value));
        }
        self.number(Name::RFLAGS, RFLAGS);
        self.number(Name::PAT, PAT);
        self.number(Name::APIC_BASE, APIC_BASE_BSP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_gdt_has_the_flat_descriptors_of_the_protocols() {
        let entry = |long, index: usize| {
            let bytes = gdt(long);
            u64::from_le_bytes(bytes[index * 8..index * 8 + 8].try_into().unwrap())
        };
        assert_eq!(entry(true, 2), 0x00AF_9B00_0000_FFFF);
        assert_eq!(entry(false, 2), 0x00CF_9B00_0000_FFFF);
        assert_eq!(entry(true, 3), 0x00CF_9300_0000_FFFF);
        assert_eq!(entry(false, 4), 0x0000_8B00_0000_0067);
    }
}
