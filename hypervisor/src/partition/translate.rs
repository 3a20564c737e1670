//! A VP's virtual addresses, seen from outside: HvCallTranslateVirtualAddress (root sheet A.3.4) and instructions.

use tlfs::{
    HvCacheType, HvOutputTranslateVirtualAddress, HvTranslateGvaControlFlags,
    HvTranslateGvaResultCode as Code,
};

use super::memory::PartitionMemory;
use super::{Partition, Vp};
use crate::arch::cpuid::{CpuidSource, GIB_PAGES, ThisProcessor};
use crate::arch::state::{SegmentName, SystemRegister, cr0, cr4, rflags};
use crate::hv::Hypervisor;
use crate::mem::addr::{Gva, PAGE_SHIFT};
use crate::mem::format::{MemoryType, Pat};
use crate::mem::guest_walk::{
    GpaFault, PagingState, TranslateFlags, Translation, WalkError, fetch, translate as walk,
};

/// How a VP translates now. With CR4.PKE its floating point state, which PKRU is part of, must be in memory.
pub fn paging_state(hypervisor: &Hypervisor, partition: &Partition, vp: &Vp) -> PagingState {
    let control = vp.hw.cr4();
    PagingState {
        cr0: vp.hw.cr0(),
        cr3: vp.hw.cr3(),
        cr4: control,
        efer: vp.hw.efer(),
        alignment_check: vp.hw.rflags() & rflags::AC != 0,
        cpl: vp.hw.cpl() & 3,
        pkru: if control & cr4::PKE != 0 {
            vp.fpu.pkru()
        } else {
            0
        },
        physical_bits: partition.physical_bits(hypervisor),
        gib_pages: ThisProcessor.cpuid_checked(0x8000_0001, 0).edx & GIB_PAGES != 0,
    }
}

impl Partition {
    /// Bits of a guest physical address.
    pub fn physical_bits(&self, hypervisor: &Hypervisor) -> u8 {
        match self.properties.physical_width {
            0 => hypervisor.physical_bits,
            width => width.clamp(32, 52) as u8,
        }
    }
}

/// HvCallTranslateVirtualAddress. Of the control flags, the inhibition of TLB flushes is the caller's to note on the VP
/// (InterceptSuspend, TLB locked); shadow stacks are not offered, so their flag changes nothing.
pub fn translate(
    hypervisor: &Hypervisor,
    partition: &Partition,
    vp: &Vp,
    control: HvTranslateGvaControlFlags,
    gva_page: u64,
) -> HvOutputTranslateVirtualAddress {
    let mut output = HvOutputTranslateVirtualAddress {
        result_code: Code::PAGE_NOT_PRESENT,
        ..Default::default()
    };
    if gva_page >> (u64::BITS - PAGE_SHIFT) != 0 {
        return output;
    }
    let memory = PartitionMemory {
        hypervisor,
        partition,
    };
    let state = paging_state(hypervisor, partition, vp);
    let flags = TranslateFlags::from_bits_truncate(control.into_bits());
    match walk(&memory, &state, Gva(gva_page << PAGE_SHIFT), flags) {
        Ok(found) => {
            let page = found.gpa.page();
            output.result_code = Code::SUCCESS;
            output.cache_type = cache_type(vp, &found).0 as u8;
            output.overlay_page = partition.overlays.cover(page).into();
            output.gpa_page = page.0;
        }
        Err(WalkError::Gpa { gpa, fault }) => {
            let overlay = partition.overlays.cover(gpa.page());
            let fault = match fault {
                GpaFault::NoWriteAccess if overlay => GpaFault::IllegalOverlay,
                other => other,
            };
            output.result_code = Code(WalkError::Gpa { gpa, fault }.result_code());
            output.overlay_page = overlay.into();
            output.gpa_page = gpa.page().0;
        }
        Err(error) => output.result_code = Code(error.result_code()),
    }
    output
}

/// The type by which the VP accesses the page: its PAT's, or write-back without paging. MTRRs are not offered.
fn cache_type(vp: &Vp, found: &Translation) -> HvCacheType {
    if vp.hw.cr0() & cr0::CD != 0 {
        return HvCacheType::UNCACHED;
    }
    let Some(index) = found.pat_index else {
        return HvCacheType::WRITE_BACK;
    };
    match Pat(vp.hw.system_register(SystemRegister::Pat)).memory_type(index) {
        MemoryType::WriteBack => HvCacheType::WRITE_BACK,
        MemoryType::WriteThrough => HvCacheType::WRITE_THROUGH,
        MemoryType::WriteProtected => HvCacheType::WRITE_PROTECTED,
        MemoryType::WriteCombining => HvCacheType::WRITE_COMBINING,
        MemoryType::Uncacheable | MemoryType::UncacheableMinus => HvCacheType::UNCACHED,
    }
}

/// Fetches instruction bytes at CS:RIP as the VP would; at most to the end of the segment. Returns how many there are:
/// fewer than asked for, or none, where the VP itself could not fetch.
pub fn instruction_bytes(
    hypervisor: &Hypervisor,
    partition: &Partition,
    vp: &Vp,
    bytes: &mut [u8],
) -> usize {
    let rip = vp.hw.rip();
    let (start, length) = if vp.hw.in_64_bit_code() {
        (rip, bytes.len())
    } else {
        let cs = vp.hw.segment(SegmentName::Cs);
        let rip = rip & u64::from(u32::MAX);
        let left = (u64::from(cs.limit) + 1).saturating_sub(rip);
        let start = cs.base.wrapping_add(rip) & u64::from(u32::MAX);
        (start, bytes.len().min(left as usize))
    };
    let memory = PartitionMemory {
        hypervisor,
        partition,
    };
    let state = paging_state(hypervisor, partition, vp);
    let bytes = bytes.get_mut(..length).unwrap_or(&mut []);
    fetch(&memory, &state, Gva(start), TranslateFlags::EXECUTE, bytes).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::state::{Segment, efer};
    use crate::arch::testing::Vendor;
    use crate::hv::testing::Machine;
    use crate::mem::addr::Gpa;
    use crate::mem::addr::Gpfn;
    use crate::partition::overlay::Overlay;
    use tlfs::HvPartitionId;

    const PRESENT: u64 = 1;
    const WRITE: u64 = 2;
    const USER: u64 = 4;
    const PAT_2: u64 = 1 << 4;

    /// A child in 64-bit mode whose tables lie at 0x10000: page 5 of its address space is `leaf`.
    fn long_mode(vendor: Vendor, leaf: u64) -> (Machine, HvPartitionId) {
        let mut machine = Machine::of(vendor);
        let (id, _) = machine.child_with_vp();
        let link = PRESENT | WRITE | USER;
        for (table, entry) in [
            (0x10_000, 0x11_000),
            (0x11_000, 0x12_000),
            (0x12_000, 0x13_000),
        ] {
            machine.write(id, Gpa(table), &(entry | link).to_le_bytes());
        }
        machine.write(id, Gpa(0x13_000 + 5 * 8), &leaf.to_le_bytes());
        machine.with_vp(id, 0, |_, vp| {
            vp.hw.set_cr0(cr0::PG | cr0::PE);
            vp.hw.set_cr3(0x10_000);
            vp.hw.set_cr4(1 << 5);
            vp.hw.set_efer(efer::LME | efer::LMA);
            vp.hw.set_segment(
                SegmentName::Cs,
                &Segment {
                    attributes: 0x209B,
                    ..Segment::default()
                },
            );
        });
        (machine, id)
    }

    fn ask(
        machine: &Machine,
        id: HvPartitionId,
        control: HvTranslateGvaControlFlags,
        page: u64,
    ) -> HvOutputTranslateVirtualAddress {
        machine.with_vp(id, 0, |partition, vp| {
            translate(machine, partition, vp, control, page)
        })
    }

    fn read() -> HvTranslateGvaControlFlags {
        HvTranslateGvaControlFlags::new().with_validate_read(true)
    }

    #[test]
    fn a_mapped_page_is_found_with_its_cache_type() {
        for vendor in Vendor::each() {
            let (machine, id) = long_mode(vendor, 0x7000 | PRESENT | PAT_2);
            let output = ask(&machine, id, read(), 5);
            assert_eq!(output.result_code, Code::SUCCESS);
            assert_eq!(output.gpa_page, 7);
            assert_eq!(output.cache_type, HvCacheType::UNCACHED.0 as u8);
            assert_eq!(output.overlay_page, 0);
            let (machine, id) = long_mode(vendor, 0x7000 | PRESENT);
            let output = ask(&machine, id, read(), 5);
            assert_eq!(output.cache_type, HvCacheType::WRITE_BACK.0 as u8);
        }
    }

    #[test]
    fn refusals_say_why() {
        for vendor in Vendor::each() {
            let (machine, id) = long_mode(vendor, 0x7000 | PRESENT);
            let user = read().with_user_access(true);
            let cases = [
                (read(), 6, Code::PAGE_NOT_PRESENT),
                (read(), 1 << 40, Code::PAGE_NOT_PRESENT),
                (read(), u64::MAX, Code::PAGE_NOT_PRESENT),
                (user, 5, Code::PRIVILEGE_VIOLATION),
                (user.with_privilege_exempt(true), 5, Code::SUCCESS),
            ];
            for (control, page, code) in cases {
                assert_eq!(ask(&machine, id, control, page).result_code, code);
            }
            let (machine, id) = long_mode(vendor, 0x0900_0000 | PRESENT);
            let output = ask(&machine, id, read(), 5);
            assert_eq!(output.result_code, Code::GPA_UNMAPPED);
            assert_eq!(output.gpa_page, 0x9000);
        }
    }

    #[test]
    fn the_hypercall_page_is_an_overlay_that_cannot_be_written() {
        for vendor in Vendor::each() {
            let (machine, id) = long_mode(vendor, 0x7000 | PRESENT | WRITE);
            machine.with_vp(id, 0, |partition, _| {
                machine
                    .place_overlay(partition, Overlay::HYPERCALL, Gpfn(7))
                    .unwrap();
            });
            let output = ask(&machine, id, read(), 5);
            assert_eq!(
                (output.result_code, output.overlay_page),
                (Code::SUCCESS, 1)
            );
            let output = ask(&machine, id, read().with_validate_write(true), 5);
            assert_eq!(output.result_code, Code::GPA_ILLEGAL_OVERLAY_ACCESS);
        }
    }

    #[test]
    fn instruction_bytes_end_where_the_processor_cannot_fetch() {
        for vendor in Vendor::each() {
            let (machine, id) = long_mode(vendor, 0x7000 | PRESENT);
            machine.write(id, Gpa(0x7FFC), &[0x0F, 0x01, 0xD9, 0xC3]);
            let fetched = |rip, want: usize| {
                machine.with_vp(id, 0, |partition, vp| {
                    vp.hw.set_rip(rip);
                    let mut bytes = [0xAA; 16];
                    let count = instruction_bytes(&machine, partition, vp, &mut bytes[..want]);
                    bytes[..count].to_vec()
                })
            };
            assert_eq!(fetched(0x5FFC, 16), [0x0F, 0x01, 0xD9, 0xC3]);
            assert_eq!(fetched(0x5FFC, 2), [0x0F, 0x01]);
            assert_eq!(fetched(0x6000, 16), []);
        }
    }

    #[test]
    fn real_mode_code_ends_with_its_segment() {
        for vendor in Vendor::each() {
            let mut machine = Machine::of(vendor);
            let (id, _) = machine.child_with_vp();
            machine.write(id, Gpa(0x1_0000), &[0x90; 64]);
            machine.with_vp(id, 0, |partition, vp| {
                let cs = Segment {
                    base: 0x1_0000,
                    limit: 7,
                    selector: 0x1000,
                    attributes: 0x9B,
                };
                vp.hw.set_segment(SegmentName::Cs, &cs);
                vp.hw.set_rip(3);
                let mut bytes = [0; 16];
                assert_eq!(instruction_bytes(&machine, partition, vp, &mut bytes), 5);
                vp.hw.set_rip(9);
                assert_eq!(instruction_bytes(&machine, partition, vp, &mut bytes), 0);
            });
        }
    }
}
