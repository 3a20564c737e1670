//! The virtual machine control block: AMD64 manual volume 2, appendix B.

use core::mem::offset_of;

use crate::arch::state::Segment;

/// The whole block. Software and processor share it: the processor writes it between VMRUN and the end of #VMEXIT only.
#[repr(C, align(4096))]
pub struct Vmcb {
    /// What to intercept, and the exit information.
    pub control: Control,
    /// The guest's state.
    pub save: Save,
    tail: [u8; 0x1000 - 0x400 - size_of::<Save>()],
}

/// The control area, offset 0.
#[repr(C)]
pub struct Control {
    /// CR0..CR15 reads.
    pub intercept_cr_read: u16,
    /// CR0..CR15 writes.
    pub intercept_cr_write: u16,
    /// DR0..DR15 reads.
    pub intercept_dr_read: u16,
    /// DR0..DR15 writes.
    pub intercept_dr_write: u16,
    /// Exceptions 0..31.
    pub intercept_exceptions: u32,
    /// [`super::bits::misc1`].
    pub intercept_misc1: u32,
    /// [`super::bits::misc2`].
    pub intercept_misc2: u32,
    /// [`super::bits::misc3`].
    pub intercept_misc3: u32,
    reserved_018: [u8; 0x3C - 0x18],
    /// Longest distance, in cycles, of two PAUSEs of one loop.
    pub pause_filter_threshold: u16,
    /// PAUSEs of a loop before an exit.
    pub pause_filter_count: u16,
    /// Physical address of the port permission map.
    pub iopm_base: u64,
    /// Physical address of the MSR permission map.
    pub msrpm_base: u64,
    /// Added to what the guest reads as TSC.
    pub tsc_offset: u64,
    /// TLB tag, not 0.
    pub guest_asid: u32,
    /// [`super::bits::tlb_control`].
    pub tlb_control: u8,
    reserved_05d: [u8; 3],
    /// Virtual interrupt state: [`super::bits::vintr`].
    pub vintr: u64,
    /// Bit 0: interrupt shadow. Bit 1: guest interrupt mask (encrypted guests).
    pub interrupt_shadow: u64,
    /// [`super::bits::exit_code`].
    pub exit_code: u64,
    /// First qualification.
    pub exit_info1: u64,
    /// Second qualification.
    pub exit_info2: u64,
    /// The event whose delivery the exit interrupted, in [`super::bits::event`] form.
    pub exit_int_info: u64,
    /// Bit 0: nested paging.
    pub np_enable: u64,
    /// AVIC.
    pub avic_apic_bar: u64,
    /// Encrypted guests.
    pub ghcb_gpa: u64,
    /// Event to deliver on entry, in [`super::bits::event`] form.
    pub event_inj: u64,
    /// Root of the nested page tables.
    pub nested_cr3: u64,
    /// Bit 0: branch record virtualization. Bit 1: virtualized VMLOAD and VMSAVE.
    pub virt_ext: u64,
    /// What software left unchanged since the last run: [`super::bits::clean`].
    pub clean_bits: u32,
    reserved_0c4: u32,
    /// RIP of the next instruction, where saved.
    pub next_rip: u64,
    /// Number of valid bytes in `instruction`.
    pub bytes_fetched: u8,
    /// Bytes at RIP, where saved.
    pub instruction: [u8; 15],
    reserved_0e0: [u8; 0x400 - 0xE0],
}

/// A segment register as SVM keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VmcbSegment {
    /// Selector.
    pub selector: u16,
    /// Descriptor bits 55:52 and 47:40, packed into 12 bits.
    pub attributes: u16,
    /// Limit in bytes.
    pub limit: u32,
    /// Base.
    pub base: u64,
}

impl VmcbSegment {
    /// From the TLFS form.
    pub const fn from_tlfs(s: &Segment) -> Self {
        Self {
            selector: s.selector,
            attributes: (s.attributes & 0xFF) | ((s.attributes >> 4) & 0xF00),
            limit: s.limit,
            base: s.base,
        }
    }

    /// To the TLFS form.
    pub const fn to_tlfs(self) -> Segment {
        Segment {
            base: self.base,
            limit: self.limit,
            selector: self.selector,
            attributes: (self.attributes & 0xFF) | ((self.attributes & 0xF00) << 4),
        }
    }
}

/// The state save area, offset 0x400.
#[repr(C)]
pub struct Save {
    /// ES.
    pub es: VmcbSegment,
    /// CS.
    pub cs: VmcbSegment,
    /// SS.
    pub ss: VmcbSegment,
    /// DS.
    pub ds: VmcbSegment,
    /// FS. VMLOAD and VMSAVE.
    pub fs: VmcbSegment,
    /// GS. VMLOAD and VMSAVE.
    pub gs: VmcbSegment,
    /// GDTR.
    pub gdtr: VmcbSegment,
    /// LDTR. VMLOAD and VMSAVE.
    pub ldtr: VmcbSegment,
    /// IDTR.
    pub idtr: VmcbSegment,
    /// TR. VMLOAD and VMSAVE.
    pub tr: VmcbSegment,
    reserved_0a0: [u8; 0xCB - 0xA0],
    /// Current privilege level.
    pub cpl: u8,
    reserved_0cc: u32,
    /// EFER, in which SVME must be set.
    pub efer: u64,
    reserved_0d8: [u8; 0x148 - 0xD8],
    /// CR4.
    pub cr4: u64,
    /// CR3.
    pub cr3: u64,
    /// CR0.
    pub cr0: u64,
    /// DR7.
    pub dr7: u64,
    /// DR6.
    pub dr6: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// RIP.
    pub rip: u64,
    reserved_180: [u8; 0x1D8 - 0x180],
    /// RSP.
    pub rsp: u64,
    /// Supervisor CET.
    pub s_cet: u64,
    /// Shadow stack pointer.
    pub ssp: u64,
    /// Interrupt SSP table.
    pub isst: u64,
    /// RAX.
    pub rax: u64,
    /// STAR. This and the next seven: VMLOAD and VMSAVE.
    pub star: u64,
    /// LSTAR.
    pub lstar: u64,
    /// CSTAR.
    pub cstar: u64,
    /// SFMASK.
    pub sfmask: u64,
    /// KernelGsBase.
    pub kernel_gs_base: u64,
    /// SYSENTER_CS.
    pub sysenter_cs: u64,
    /// SYSENTER_ESP.
    pub sysenter_esp: u64,
    /// SYSENTER_EIP.
    pub sysenter_eip: u64,
    /// CR2.
    pub cr2: u64,
    reserved_248: [u8; 0x268 - 0x248],
    /// The guest's PAT.
    pub g_pat: u64,
    /// DEBUGCTL, with branch record virtualization.
    pub debugctl: u64,
    /// Last branch from.
    pub br_from: u64,
    /// Last branch to.
    pub br_to: u64,
    /// Last exception from.
    pub last_excp_from: u64,
    /// Last exception to.
    pub last_excp_to: u64,
}

macro_rules! assert_offsets {
    ($ty:ty: $($field:ident = $offset:expr),+ $(,)?) => {
        $(const _: () = assert!(offset_of!($ty, $field) == $offset);)+
    };
}

assert_offsets!(Control:
    intercept_cr_read = 0x000, intercept_dr_read = 0x004, intercept_exceptions = 0x008, intercept_misc1 = 0x00C,
    intercept_misc2 = 0x010, intercept_misc3 = 0x014, pause_filter_threshold = 0x03C, pause_filter_count = 0x03E,
    iopm_base = 0x040, msrpm_base = 0x048, tsc_offset = 0x050, guest_asid = 0x058, tlb_control = 0x05C,
    vintr = 0x060, interrupt_shadow = 0x068, exit_code = 0x070, exit_info1 = 0x078, exit_info2 = 0x080,
    exit_int_info = 0x088, np_enable = 0x090, avic_apic_bar = 0x098, ghcb_gpa = 0x0A0, event_inj = 0x0A8,
    nested_cr3 = 0x0B0, virt_ext = 0x0B8, clean_bits = 0x0C0, next_rip = 0x0C8, bytes_fetched = 0x0D0,
    instruction = 0x0D1,
);
assert_offsets!(Save:
    es = 0x000, cs = 0x010, ss = 0x020, ds = 0x030, fs = 0x040, gs = 0x050, gdtr = 0x060, ldtr = 0x070,
    idtr = 0x080, tr = 0x090, cpl = 0x0CB, efer = 0x0D0, cr4 = 0x148, cr3 = 0x150, cr0 = 0x158, dr7 = 0x160,
    dr6 = 0x168, rflags = 0x170, rip = 0x178, rsp = 0x1D8, s_cet = 0x1E0, ssp = 0x1E8, isst = 0x1F0, rax = 0x1F8,
    star = 0x200, lstar = 0x208, cstar = 0x210, sfmask = 0x218, kernel_gs_base = 0x220, sysenter_cs = 0x228,
    sysenter_esp = 0x230, sysenter_eip = 0x238, cr2 = 0x240, g_pat = 0x268, debugctl = 0x270, br_from = 0x278,
    last_excp_to = 0x290,
);
const _: () = assert!(offset_of!(Vmcb, save) == 0x400 && size_of::<Vmcb>() == 0x1000);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_64_bit_code_segment_converts_to_the_manual_s_value() {
        // Present, DPL 0, code, readable, accessed; L and G.
        let tlfs = Segment {
            base: 0,
            limit: 0xFFFF_FFFF,
            selector: 0x10,
            attributes: 0xA09B,
        };
        let svm = VmcbSegment::from_tlfs(&tlfs);
        assert_eq!(svm.attributes, 0xA9B);
        assert_eq!(svm.to_tlfs(), tlfs);
    }

    proptest! {
        #[test]
        fn attributes_survive_the_round_trip(base: u64, limit: u32, selector: u16, raw: u16) {
            let tlfs = Segment { base, limit, selector, attributes: raw & 0xF0FF };
            prop_assert_eq!(VmcbSegment::from_tlfs(&tlfs).to_tlfs(), tlfs);
            prop_assert_eq!(VmcbSegment::from_tlfs(&tlfs).attributes & 0xF000, 0);
        }
    }
}
