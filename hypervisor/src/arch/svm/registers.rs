//! Reading and writing the registers of a VP that is not running. No write has the instruction's side effects.

use crate::arch::state::{CodeAddress, Segment, SegmentName, SystemRegister, TableRegister, efer};

use super::bits::{clean, vintr};
use super::vcpu::Vcpu;
use super::vmcb::VmcbSegment;

macro_rules! saved {
    ($($(#[$doc:meta])* $get:ident $set:ident $field:ident $clean:expr;)+) => {
        $(
            $(#[$doc])*
            pub fn $get(&self) -> u64 {
                self.save().$field
            }

            /// Sets what the method without `set_` reads.
            pub fn $set(&mut self, value: u64) {
                self.save_mut().$field = value;
                self.dirty($clean);
            }
        )+
    };
}

impl Vcpu {
    saved! {
        /// RIP.
        rip set_rip rip 0;
        /// RFLAGS.
        rflags set_rflags rflags 0;
        /// CR0.
        cr0 set_cr0 cr0 clean::CR;
        /// CR2.
        cr2 set_cr2 cr2 clean::CR2;
        /// CR3.
        cr3 set_cr3 cr3 clean::CR;
        /// CR4.
        cr4 set_cr4 cr4 clean::CR;
        /// DR6.
        dr6 set_dr6 dr6 clean::DR;
        /// DR7.
        dr7 set_dr7 dr7 clean::DR;
    }

    /// CR8: the task priority class, 0 to 15.
    pub fn cr8(&self) -> u8 {
        (self.control().vintr & vintr::TPR_MASK) as u8
    }

    /// Sets CR8; only the low four bits count.
    pub fn set_cr8(&mut self, value: u8) {
        let control = self.control_mut();
        let new = control.vintr & !vintr::TPR_MASK | u64::from(value) & vintr::TPR_MASK;
        if control.vintr != new {
            control.vintr = new;
            self.dirty(clean::TPR);
        }
    }

    /// EFER as the guest sees it: without SVME, which a guest does not have.
    pub fn efer(&self) -> u64 {
        self.save().efer & !efer::SVME
    }

    /// Sets EFER. SVME is set in the VMCB whatever `value` says, as VMRUN demands.
    pub fn set_efer(&mut self, value: u64) {
        self.save_mut().efer = value | efer::SVME;
        self.dirty(clean::CR);
    }

    /// DR0 to DR3. `number` above 3 reads as 0.
    pub fn dr(&self, number: usize) -> u64 {
        self.dr.get(number).copied().unwrap_or(0)
    }

    /// Sets DR0 to DR3; nothing happens for `number` above 3.
    pub fn set_dr(&mut self, number: usize, value: u64) {
        if let Some(slot) = self.dr.get_mut(number) {
            *slot = value;
        }
    }

    /// What of the state the processor refuses to enter: this vendor's does not tell, nor is it looked for.
    pub const fn refusal(&self) -> Option<&'static str> {
        None
    }

    /// Where the code at RIP is.
    #[inline(always)]
    pub fn code_address(&self) -> CodeAddress {
        CodeAddress {
            rip: self.rip(),
            cr0: self.cr0(),
            cr3: self.cr3(),
            cr4: self.cr4(),
            efer: self.efer(),
            cpl: self.cpl(),
            long: self.in_64_bit_code(),
        }
    }

    /// The privilege level the VP executes at.
    pub fn cpl(&self) -> u8 {
        self.save().cpl
    }

    /// A segment register.
    pub fn segment(&self, name: SegmentName) -> Segment {
        let mut segment = self.raw_segment(name).to_tlfs().with_granularity_of_limit();
        if name == SegmentName::Ss {
            // In 64-bit mode SS may be null, and CPL then has no other witness.
            segment.attributes =
                segment.attributes & !(3 << 5) | u16::from(self.save().cpl & 3) << 5;
        }
        segment
    }

    /// Sets a segment register. SS also sets the privilege level, from its DPL.
    pub fn set_segment(&mut self, name: SegmentName, segment: &Segment) {
        let value = VmcbSegment::from_tlfs(segment);
        let save = self.save_mut();
        let slot = match name {
            SegmentName::Es => &mut save.es,
            SegmentName::Cs => &mut save.cs,
            SegmentName::Ss => &mut save.ss,
            SegmentName::Ds => &mut save.ds,
            SegmentName::Fs => &mut save.fs,
            SegmentName::Gs => &mut save.gs,
            SegmentName::Ldtr => &mut save.ldtr,
            SegmentName::Tr => &mut save.tr,
        };
        *slot = value;
        if name == SegmentName::Ss {
            save.cpl = segment.dpl();
        }
        self.dirty(clean::SEGMENTS);
    }

    fn raw_segment(&self, name: SegmentName) -> &VmcbSegment {
        let save = self.save();
        match name {
            SegmentName::Es => &save.es,
            SegmentName::Cs => &save.cs,
            SegmentName::Ss => &save.ss,
            SegmentName::Ds => &save.ds,
            SegmentName::Fs => &save.fs,
            SegmentName::Gs => &save.gs,
            SegmentName::Ldtr => &save.ldtr,
            SegmentName::Tr => &save.tr,
        }
    }

    /// GDTR.
    pub fn gdtr(&self) -> TableRegister {
        table(&self.save().gdtr)
    }

    /// Sets GDTR.
    pub fn set_gdtr(&mut self, value: TableRegister) {
        self.save_mut().gdtr = raw_table(value);
        self.dirty(clean::TABLES);
    }

    /// IDTR.
    pub fn idtr(&self) -> TableRegister {
        table(&self.save().idtr)
    }

    /// Sets IDTR.
    pub fn set_idtr(&mut self, value: TableRegister) {
        self.save_mut().idtr = raw_table(value);
        self.dirty(clean::TABLES);
    }

    /// A register that is an MSR of the VP.
    pub fn system_register(&self, register: SystemRegister) -> u64 {
        let save = self.save();
        match register {
            SystemRegister::Pat => save.g_pat,
            SystemRegister::SysenterCs => save.sysenter_cs,
            SystemRegister::SysenterEsp => save.sysenter_esp,
            SystemRegister::SysenterEip => save.sysenter_eip,
            SystemRegister::Star => save.star,
            SystemRegister::Lstar => save.lstar,
            SystemRegister::Cstar => save.cstar,
            SystemRegister::Sfmask => save.sfmask,
            SystemRegister::KernelGsBase => save.kernel_gs_base,
            SystemRegister::FsBase => save.fs.base,
            SystemRegister::GsBase => save.gs.base,
            SystemRegister::DebugCtl => self.debugctl,
            SystemRegister::SpecCtrl => self.spec_ctrl,
            SystemRegister::TscAux => self.tsc_aux,
        }
    }

    /// Sets a register that is an MSR of the VP. Whether the value is one that the MSR can take is the caller's business:
    /// addresses canonical, PAT types valid, SPEC_CTRL and TSC_AUX without reserved bits.
    pub fn set_system_register(&mut self, register: SystemRegister, value: u64) {
        let save = self.save_mut();
        match register {
            SystemRegister::Pat => save.g_pat = value,
            SystemRegister::SysenterCs => save.sysenter_cs = value,
            SystemRegister::SysenterEsp => save.sysenter_esp = value,
            SystemRegister::SysenterEip => save.sysenter_eip = value,
            SystemRegister::Star => save.star = value,
            SystemRegister::Lstar => save.lstar = value,
            SystemRegister::Cstar => save.cstar = value,
            SystemRegister::Sfmask => save.sfmask = value,
            SystemRegister::KernelGsBase => save.kernel_gs_base = value,
            SystemRegister::FsBase => save.fs.base = value,
            SystemRegister::GsBase => save.gs.base = value,
            SystemRegister::DebugCtl => self.debugctl = value,
            SystemRegister::SpecCtrl => self.spec_ctrl = value,
            SystemRegister::TscAux => self.tsc_aux = value,
        }
        if register == SystemRegister::Pat {
            self.dirty(clean::NESTED);
        }
    }
}

fn table(raw: &VmcbSegment) -> TableRegister {
    TableRegister {
        base: raw.base,
        limit: raw.limit as u16,
    }
}

fn raw_table(value: TableRegister) -> VmcbSegment {
    VmcbSegment {
        base: value.base,
        limit: u32::from(value.limit),
        ..VmcbSegment::default()
    }
}
