//! Which values registers can have.
//!
//! Shared by what sets registers from outside (SetVpRegisters, the register page) and by the instructions that are
//! emulated (WRMSR, MOV to CR). A value that passes here can be loaded: nothing that the hypervisor itself executes with it
//! faults. Whether the registers fit each other is the processor's to say at the next entry; it answers
//! [`Exit::InvalidState`](crate::arch::exit::Exit::InvalidState), which the parent is told.
//!
//! Sources: AMD APM volume 2, chapters 2, 3, 5, 12 and 15.5.1; Intel SDM volume 3, chapter 2, and volume 4 (IA32_SPEC_CTRL).

use crate::arch::cpuid::{CpuidResult, CpuidSource};
use crate::arch::state::{Segment, TableRegister, cr0, cr4, efer, rflags};
use crate::mem::addr::PAGE_SHIFT;

/// Bits of a linear address: 5-level paging is not offered.
const LINEAR_BITS: u32 = 48;

/// RFLAGS without its fixed bit: CF, PF, AF, ZF, SF, TF, IF, DF, OF, IOPL, NT, RF, VM, AC, VIF, VIP, ID.
const RFLAGS: u64 = 0x3F_7FD5;
/// CR0: PE, MP, EM, TS, ET, NE, WP, AM, NW, CD, PG.
const CR0: u64 = 0xE005_003F;
/// EFER bits of every long-mode processor: SCE, LME, LMA.
const EFER_BASE: u64 = 1 << 0 | efer::LME | efer::LMA;
/// EFER.NXE.
const EFER_NXE: u64 = 1 << 11;
/// EFER.FFXSR.
const EFER_FFXSR: u64 = 1 << 14;
/// CR4 bits that need no feature of their own, or one that every processor with nested paging has: VME, PVI, TSD, DE, PSE,
/// PAE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT.
const CR4_BASE: u64 = 0x7FF;
/// DEBUGCTL: last branch, branch single step, pin controls. Kept without effect.
const DEBUG_CTL: u64 = 0x3F;

/// Whether an address is canonical.
pub const fn canonical(address: u64) -> bool {
    let unused = u64::BITS - LINEAR_BITS;
    ((address << unused) as i64 >> unused) as u64 == address
}

/// Whether RFLAGS can be this value. Bit 1 may be given as 0; it is 1 all the same.
pub const fn rflags_ok(value: u64) -> bool {
    value & !(RFLAGS | rflags::FIXED) == 0
}

/// Whether CR0 can be this value: no reserved bit, no paging without protection, no write-through without caching.
pub const fn cr0_ok(value: u64) -> bool {
    value & !CR0 == 0
        && (value & cr0::PG == 0 || value & cr0::PE != 0)
        && (value & cr0::NW == 0 || value & cr0::CD != 0)
}

/// The registers that say how a VP translates addresses.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
    /// CS.L: 64-bit code in long mode.
    pub cs_long: bool,
}

impl Paging {
    /// Whether MOV to CR0 goes from here to `new`, which passes [`cr0_ok`]: long mode begins with PAE and outside a 64-bit
    /// segment, and paging does not end in 64-bit code or with PCIDE.
    pub const fn allows_cr0(&self, new: u64) -> bool {
        let (was, will) = (self.cr0 & cr0::PG != 0, new & cr0::PG != 0);
        match (was, will) {
            (false, true) => {
                self.efer & efer::LME == 0 || (self.cr4 & cr4::PAE != 0 && !self.cs_long)
            }
            (true, false) => {
                let code64 = self.efer & efer::LMA != 0 && self.cs_long;
                !code64 && self.cr4 & cr4::PCIDE == 0
            }
            _ => true,
        }
    }

    /// Whether MOV to CR4 goes from here to `new`, which passes [`cr4_ok`]: PAE stays in long mode, and PCIDE begins only
    /// there, with a CR3 that has no PCID.
    pub const fn allows_cr4(&self, new: u64) -> bool {
        let long = self.efer & efer::LMA != 0;
        let pcids_begin = self.cr4 & cr4::PCIDE == 0 && new & cr4::PCIDE != 0;
        (!long || new & cr4::PAE != 0) && (!pcids_begin || (long && self.cr3 & 0xFFF == 0))
    }
}

/// Whether CR3 can be this value on a VP with `physical_bits` of physical address. Bit 63 of MOV to CR3 is no bit of the
/// register.
pub const fn cr3_ok(value: u64, physical_bits: u8) -> bool {
    physical_bits as u32 >= u64::BITS || value >> physical_bits == 0
}

/// Whether CR4 can be this value, where `allowed` is [`cr4_allowed`].
pub const fn cr4_ok(value: u64, allowed: u64) -> bool {
    value & !allowed == 0
}

/// The CR4 bits of a VP whose CPUID leaves 1 and 7 are these.
pub const fn cr4_allowed(leaf1: &CpuidResult, leaf7: &CpuidResult) -> u64 {
    const fn bit(register: u32, feature: u32, cr4: u32) -> u64 {
        (register as u64 >> feature & 1) << cr4
    }
    CR4_BASE
        // UMIP, FSGSBASE, PCID, XSAVE, SMEP, SMAP, PKU.
        | bit(leaf7.ecx, 2, 11)
        | bit(leaf7.ebx, 0, 16)
        | bit(leaf1.ecx, 17, 17)
        | bit(leaf1.ecx, 26, 18)
        | bit(leaf7.ebx, 7, 20)
        | bit(leaf7.ebx, 20, 21)
        | bit(leaf7.ecx, 3, 22)
}

/// Whether CR8 can be this value.
pub const fn cr8_ok(value: u64) -> bool {
    value < 16
}

/// Whether EFER can be this value, where `allowed` is [`efer_allowed`].
pub const fn efer_ok(value: u64, allowed: u64) -> bool {
    value & !allowed == 0
}

/// The EFER bits of a VP whose CPUID leaf 0x8000_0001 is this.
pub const fn efer_allowed(extended: &CpuidResult) -> u64 {
    let nxe = if extended.edx & 1 << 20 != 0 {
        EFER_NXE
    } else {
        0
    };
    let ffxsr = if extended.edx & 1 << 25 != 0 {
        EFER_FFXSR
    } else {
        0
    };
    EFER_BASE | nxe | ffxsr
}

/// What EFER becomes when a guest writes `value` while it is `old`: LMA stays, LME does not change while paging is on.
/// `None`: #GP(0).
pub const fn efer_written(old: u64, value: u64, cr0: u64, allowed: u64) -> Option<u64> {
    let new = value & !efer::LMA | old & efer::LMA;
    let paging = cr0 & cr0::PG != 0;
    if !efer_ok(new, allowed) || (paging && (new ^ old) & efer::LME != 0) {
        None
    } else {
        Some(new)
    }
}

/// Whether IA32_PAT can be this value: eight memory types.
pub const fn pat_ok(value: u64) -> bool {
    let mut entry = 0;
    while entry < 8 {
        if !matches!(value >> (8 * entry) & 0xFF, 0 | 1 | 4..=7) {
            return false;
        }
        entry += 1;
    }
    true
}

/// Whether DR6 or DR7 can be this value: MOV faults on the upper half.
pub const fn dr6_dr7_ok(value: u64) -> bool {
    value >> 32 == 0
}

/// Whether DEBUGCTL can be this value.
pub const fn debug_ctl_ok(value: u64) -> bool {
    value & !DEBUG_CTL == 0
}

/// The bits of SPEC_CTRL that a processor has: a WRMSR with others faults, and the hypervisor executes it for the VP.
pub fn spec_ctrl_allowed(cpu: &impl CpuidSource) -> u64 {
    let amd = cpu.cpuid_checked(0x8000_0008, 0).ebx;
    let leaf7 = cpu.cpuid_checked(7, 0);
    let intel = leaf7.edx;
    let more = if leaf7.eax >= 2 {
        cpu.cpuid(7, 2).edx
    } else {
        0
    };
    // IBRS, STIBP, SSBD by either vendor's leaf.
    let common = [(14, 26, 0), (15, 27, 1), (24, 31, 2)];
    let common = common.map(|(a, b, bit)| u64::from(amd >> a & 1 | intel >> b & 1) << bit);
    // PSFD by either; indirect predictors for user and supervisor, return stack for both, data-dependent prefetch, branch
    // history.
    let later = [
        (more, 1, 0b11 << 3),
        (more, 2, 0b11 << 5),
        (amd >> 28 | more, 0, 1 << 7),
        (more, 3, 1 << 8),
        (more, 4, 1 << 10),
    ];
    let later = later.map(|(leaf, bit, bits)| if leaf >> bit & 1 == 1 { bits } else { 0 });
    common
        .into_iter()
        .chain(later)
        .fold(0, |all, bits| all | bits)
}

/// Whether a segment register can be this: bits 11:8 of the attributes do not exist.
pub const fn segment_ok(segment: &Segment) -> bool {
    canonical(segment.base) && segment.attributes & 0x0F00 == 0
}

/// Whether GDTR or IDTR can be this.
pub const fn table_ok(table: &TableRegister) -> bool {
    canonical(table.base)
}

/// Whether a page lies in a guest physical space of `physical_bits`.
pub const fn gpfn_ok(gpfn: u64, physical_bits: u8) -> bool {
    let bits = (physical_bits as u32).saturating_sub(PAGE_SHIFT);
    bits >= u64::BITS || gpfn >> bits == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::cpuid::Recorded;
    use crate::arch::state::PAT_RESET;

    #[test]
    fn addresses_are_canonical_up_to_bit_47() {
        for good in [0, 0x7FFF_FFFF_FFFF, 0xFFFF_8000_0000_0000, u64::MAX] {
            assert!(canonical(good), "{good:#x}");
        }
        for bad in [0x8000_0000_0000, 0xFFFF_7FFF_FFFF_FFFF, 1 << 63] {
            assert!(!canonical(bad), "{bad:#x}");
        }
    }

    #[test]
    fn reset_values_pass() {
        assert!(rflags_ok(2) && rflags_ok(0));
        assert!(cr0_ok(0x6000_0010));
        assert!(pat_ok(PAT_RESET));
        assert!(dr6_dr7_ok(0xFFFF_0FF0) && dr6_dr7_ok(0x400));
    }

    #[test]
    fn paging_begins_and_ends_only_where_the_processor_lets_it() {
        const PG: u64 = cr0::PG | cr0::PE;
        let legacy = Paging {
            cr0: cr0::PE,
            cr3: 0,
            cr4: 0,
            efer: 0,
            cs_long: false,
        };
        assert!(legacy.allows_cr0(PG));
        let ready = Paging {
            cr4: cr4::PAE,
            efer: efer::LME,
            ..legacy
        };
        assert!(ready.allows_cr0(PG));
        assert!(!Paging { cr4: 0, ..ready }.allows_cr0(PG));
        let in_long_segment = Paging {
            cs_long: true,
            ..ready
        };
        assert!(!in_long_segment.allows_cr0(PG));
        let code64 = Paging {
            cr0: PG,
            efer: efer::LME | efer::LMA,
            ..in_long_segment
        };
        assert!(!code64.allows_cr0(cr0::PE) && code64.allows_cr0(PG | cr0::TS));
        let compatible = Paging {
            cs_long: false,
            ..code64
        };
        assert!(compatible.allows_cr0(cr0::PE));
        let with_pcids = Paging {
            cr4: cr4::PAE | cr4::PCIDE,
            ..compatible
        };
        assert!(!with_pcids.allows_cr0(cr0::PE));
        assert!(!code64.allows_cr4(0) && ready.allows_cr4(0));
        assert!(code64.allows_cr4(cr4::PAE | cr4::PCIDE));
        assert!(!ready.allows_cr4(cr4::PAE | cr4::PCIDE));
        let tagged = Paging { cr3: 1, ..code64 };
        assert!(!tagged.allows_cr4(cr4::PAE | cr4::PCIDE));
    }

    #[test]
    fn reserved_bits_are_refused_one_by_one() {
        for bit in 0..64 {
            let value = 1u64 << bit;
            let flags = [0, 1, 2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14];
            let high_flags = 16..=21;
            assert_eq!(
                rflags_ok(value),
                flags.contains(&bit) || high_flags.contains(&bit),
                "RFLAGS {bit}"
            );
            let cr0 = [0, 1, 2, 3, 4, 5, 16, 18, 30];
            assert_eq!(cr0_ok(value), cr0.contains(&bit), "CR0 {bit}");
            assert_eq!(cr3_ok(value, 48), bit < 48, "CR3 {bit}");
            assert_eq!(dr6_dr7_ok(value), bit < 32);
        }
        assert!(!cr0_ok(cr0::PG) && cr0_ok(cr0::PG | cr0::PE));
        assert!(!cr0_ok(cr0::NW) && cr0_ok(cr0::NW | cr0::CD));
    }

    #[test]
    fn the_pat_takes_memory_types_only() {
        for entry in 0..8 {
            for value in 0..=255u64 {
                let types = [0, 1, 4, 5, 6, 7];
                let pat = PAT_RESET & !(0xFF << (8 * entry)) | value << (8 * entry);
                assert_eq!(pat_ok(pat), types.contains(&value));
            }
        }
    }

    #[test]
    fn cr4_and_efer_have_the_bits_that_cpuid_announces() {
        let none = CpuidResult::default();
        let all = CpuidResult {
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
        };
        assert_eq!(cr4_allowed(&none, &none), 0x7FF);
        // Neither LA57, VMXE, SMXE nor CET, whatever is announced.
        assert_eq!(cr4_allowed(&all, &all), 0x77_0FFF);
        assert_eq!(efer_allowed(&none), 0x501);
        assert_eq!(efer_allowed(&all), 0x4D01);
    }

    #[test]
    fn a_guest_changes_lme_without_paging_only_and_lma_never() {
        let allowed = efer_allowed(&CpuidResult::default());
        let (lme, lma) = (efer::LME, efer::LMA);
        assert_eq!(efer_written(0, lme, 0, allowed), Some(lme));
        assert_eq!(efer_written(0, lma, 0, allowed), Some(0));
        assert_eq!(efer_written(0, lme, cr0::PG, allowed), None);
        let on = lme | lma;
        assert_eq!(efer_written(on, lme | 1, cr0::PG, allowed), Some(on | 1));
        assert_eq!(efer_written(on, 1, cr0::PG, allowed), None);
        assert_eq!(efer_written(0, efer::SVME, 0, u64::MAX), Some(efer::SVME));
        assert_eq!(efer_written(0, efer::SVME, 0, allowed), None);
    }

    #[test]
    fn spec_ctrl_has_the_bits_of_either_vendors_leaf() {
        let amd = Recorded(&[
            (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
            (0x8000_0008, 0, [0, 1 << 14 | 1 << 28, 0, 0]),
        ]);
        assert_eq!(spec_ctrl_allowed(&amd), 0x81);
        let intel = Recorded(&[(0, 0, [7, 0, 0, 0]), (7, 0, [0, 0, 0, 1 << 31])]);
        assert_eq!(spec_ctrl_allowed(&intel), 4);
        assert_eq!(spec_ctrl_allowed(&Recorded(&[])), 0);
    }

    #[test]
    fn a_segment_has_no_attributes_between_8_and_11() {
        for bit in 0..16 {
            let segment = Segment {
                attributes: 1 << bit,
                ..Segment::default()
            };
            assert_eq!(segment_ok(&segment), !(8..12).contains(&bit));
        }
        assert!(gpfn_ok(0xF_FFFF, 32) && !gpfn_ok(0x10_0000, 32));
    }
}
