//! Reading and writing the registers of a VP that is not running. No write has the instruction's side effects.

use crate::arch::state::{
    CodeAddress, Segment, SegmentName, SystemRegister, TableRegister, cr0, efer,
};

use super::controls::entry;
use super::fields::{Control, Guest};
use super::live::Register;
use super::vcpu::{CR0_NE, CR4_MCE, CR4_VMXE, Vcpu};

/// Access rights: the register is unusable.
const UNUSABLE: u64 = 1 << 16;
/// Access rights that a segment descriptor has too, in the places of the TLFS.
const ATTRIBUTES: u64 = 0xF0FF;

macro_rules! fields {
    ($($(#[$doc:meta])* $get:ident $set:ident $field:ident $how:ident;)+) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub fn $get(&self) -> u64 {
                self.$how(Guest::$field)
            }

            /// Sets what the method without `set_` reads.
            #[inline(always)]
            pub fn $set(&mut self, value: u64) {
                self.guest.set(Guest::$field, value);
            }
        )+
    };
}

impl Vcpu {
    fields! {
        /// RIP.
        rip set_rip Rip known;
        /// RFLAGS.
        rflags set_rflags Rflags known;
        /// DR7.
        dr7 set_dr7 Dr7 field;
    }

    /// CR3.
    #[inline(always)]
    pub fn cr3(&self) -> u64 {
        self.field(Guest::Cr3)
    }

    /// Sets CR3.
    pub fn set_cr3(&mut self, value: u64) {
        self.guest.set(Guest::Cr3, value);
        self.pointers_missing = true;
    }

    /// CR0 as the guest sees it.
    pub fn cr0(&self) -> u64 {
        self.shown(Guest::Cr0, Control::Cr0Mask, Control::Cr0Shadow)
    }

    /// Sets CR0. The cache bits are the machine's and NE is VMX's: the guest only sees them as it set them.
    pub fn set_cr0(&mut self, value: u64) {
        self.control.set(Control::Cr0Shadow, value);
        let real = value & !(cr0::CD | cr0::NW) | CR0_NE;
        self.guest.set(Guest::Cr0, real);
        self.pointers_missing = true;
    }

    /// CR4 as the guest sees it.
    pub fn cr4(&self) -> u64 {
        self.shown(Guest::Cr4, Control::Cr4Mask, Control::Cr4Shadow)
    }

    /// Sets CR4. VMXE and MCE are on whatever `value` says.
    pub fn set_cr4(&mut self, value: u64) {
        self.control.set(Control::Cr4Shadow, value);
        self.guest.set(Guest::Cr4, value | CR4_VMXE | CR4_MCE);
        self.pointers_missing = true;
    }

    fn shown(&self, register: Guest, mask: Control, shadow: Control) -> u64 {
        let mask = self.control.get(mask);
        self.field(register) & !mask | self.control.get(shadow) & mask
    }

    /// CR2.
    pub fn cr2(&self) -> u64 {
        self.live.get(Register::Cr2)
    }

    /// Sets CR2.
    pub fn set_cr2(&mut self, value: u64) {
        self.live.set(Register::Cr2, value);
    }

    /// CR8: the task priority class, 0 to 15.
    #[inline(always)]
    pub const fn cr8(&self) -> u8 {
        self.cr8
    }

    /// Sets CR8; only the low four bits count.
    #[inline(always)]
    pub const fn set_cr8(&mut self, value: u8) {
        self.cr8 = value & 15;
    }

    /// EFER.
    pub fn efer(&self) -> u64 {
        self.field(Guest::Efer)
    }

    /// Sets EFER.
    pub fn set_efer(&mut self, value: u64) {
        self.guest.set(Guest::Efer, value);
        self.pointers_missing = true;
        self.settle_long_mode();
    }

    /// The control "IA-32e mode guest" says what EFER says. The processor keeps them in step when the guest turns paging on
    /// or off; so must we.
    pub(super) fn settle_long_mode(&mut self) {
        let long = u64::from(entry::IA32E_MODE_GUEST);
        let control = self.control.get(Control::Entry);
        let control = if self.efer() & efer::LMA != 0 {
            control | long
        } else {
            control & !long
        };
        self.control.set(Control::Entry, control);
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

    /// DR6.
    pub fn dr6(&self) -> u64 {
        self.live.get(Register::Dr6)
    }

    /// Sets DR6.
    pub fn set_dr6(&mut self, value: u64) {
        self.live.set(Register::Dr6, value);
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
        ((self.field(Guest::SsAccessRights) >> 5) & 3) as u8
    }

    /// In 64-bit code.
    pub fn in_64_bit_code(&self) -> bool {
        self.efer() & efer::LMA != 0
            && self.field(Guest::CsAccessRights) & u64::from(Segment::LONG) != 0
    }

    /// A segment register.
    pub fn segment(&self, name: SegmentName) -> Segment {
        let [selector, limit, rights, base] = places(name);
        let rights = self.field(rights);
        let mut attributes = (rights & ATTRIBUTES) as u16;
        if rights & UNUSABLE != 0 {
            attributes &= !Segment::PRESENT;
        }
        let segment = Segment {
            base: self.field(base),
            limit: self.field(limit) as u32,
            selector: self.field(selector) as u16,
            attributes,
        };
        segment.with_granularity_of_limit()
    }

    /// Sets a segment register; SS sets the privilege level too. What an entry refuses and a descriptor in memory could
    /// not have when it was loaded is put right: a segment in use is marked accessed, and TR is a busy TSS.
    pub fn set_segment(&mut self, name: SegmentName, segment: &Segment) {
        const SYSTEM_OR_CODE: u16 = 1 << 4;
        const ACCESSED: u16 = 1;
        const TSS_16: u16 = 1;
        const TSS_16_BUSY: u16 = 3;
        const TSS_BUSY: u16 = 11;
        let segment = &segment.with_granularity_of_limit();
        let [selector, limit, rights, base] = places(name);
        let mut attributes = segment.attributes;
        if name == SegmentName::Tr {
            let kind = match attributes & (SYSTEM_OR_CODE | 0xF) {
                TSS_16 | TSS_16_BUSY => TSS_16_BUSY,
                _ => TSS_BUSY,
            };
            attributes = attributes & !(SYSTEM_OR_CODE | 0xF) | Segment::PRESENT | kind;
        } else if attributes & (Segment::PRESENT | SYSTEM_OR_CODE)
            == Segment::PRESENT | SYSTEM_OR_CODE
        {
            attributes |= ACCESSED;
        }
        let mut value = u64::from(attributes) & ATTRIBUTES;
        if attributes & Segment::PRESENT == 0 {
            value |= UNUSABLE;
        }
        self.guest.set(selector, segment.selector.into());
        self.guest.set(limit, segment.limit.into());
        self.guest.set(rights, value);
        self.guest.set(base, segment.base);
    }

    /// GDTR.
    pub fn gdtr(&self) -> TableRegister {
        TableRegister {
            base: self.field(Guest::GdtrBase),
            limit: self.field(Guest::GdtrLimit) as u16,
        }
    }

    /// Sets GDTR.
    pub fn set_gdtr(&mut self, value: TableRegister) {
        self.guest.set(Guest::GdtrBase, value.base);
        self.guest.set(Guest::GdtrLimit, value.limit.into());
    }

    /// IDTR.
    pub fn idtr(&self) -> TableRegister {
        TableRegister {
            base: self.field(Guest::IdtrBase),
            limit: self.field(Guest::IdtrLimit) as u16,
        }
    }

    /// Sets IDTR.
    pub fn set_idtr(&mut self, value: TableRegister) {
        self.guest.set(Guest::IdtrBase, value.base);
        self.guest.set(Guest::IdtrLimit, value.limit.into());
    }

    /// A register that is an MSR of the VP.
    pub fn system_register(&self, register: SystemRegister) -> u64 {
        match place(register) {
            Place::Field(field) => self.field(field),
            Place::Live(register) => self.live.get(register),
            Place::Own => match register {
                SystemRegister::DebugCtl => self.debugctl,
                SystemRegister::SpecCtrl => self.spec_ctrl,
                _ => self.tsc_aux,
            },
        }
    }

    /// Sets a register that is an MSR of the VP. Whether the value is one that the MSR can take is the caller's business:
    /// PAT types valid, SPEC_CTRL and TSC_AUX without reserved bits.
    pub fn set_system_register(&mut self, register: SystemRegister, value: u64) {
        match place(register) {
            Place::Field(field) => self.guest.set(field, value),
            Place::Live(register) => self.live.set(register, value),
            Place::Own => match register {
                SystemRegister::DebugCtl => self.debugctl = value,
                SystemRegister::SpecCtrl => self.spec_ctrl = value,
                _ => self.tsc_aux = value,
            },
        }
    }
}

/// Where a system register is kept.
enum Place {
    Field(Guest),
    Live(Register),
    /// Beside the VMCS: DEBUGCTL, SPEC_CTRL, TSC_AUX.
    Own,
}

const fn place(register: SystemRegister) -> Place {
    match register {
        SystemRegister::Pat => Place::Field(Guest::Pat),
        SystemRegister::SysenterCs => Place::Field(Guest::SysenterCs),
        SystemRegister::SysenterEsp => Place::Field(Guest::SysenterEsp),
        SystemRegister::SysenterEip => Place::Field(Guest::SysenterEip),
        SystemRegister::FsBase => Place::Field(Guest::FsBase),
        SystemRegister::GsBase => Place::Field(Guest::GsBase),
        SystemRegister::Star => Place::Live(Register::Star),
        SystemRegister::Lstar => Place::Live(Register::Lstar),
        SystemRegister::Cstar => Place::Live(Register::Cstar),
        SystemRegister::Sfmask => Place::Live(Register::Sfmask),
        SystemRegister::KernelGsBase => Place::Live(Register::KernelGsBase),
        SystemRegister::DebugCtl | SystemRegister::SpecCtrl | SystemRegister::TscAux => Place::Own,
    }
}

/// Fields of a segment register: selector, limit, access rights, base.
pub(super) const fn places(name: SegmentName) -> [Guest; 4] {
    use Guest as G;
    match name {
        SegmentName::Es => [G::EsSelector, G::EsLimit, G::EsAccessRights, G::EsBase],
        SegmentName::Cs => [G::CsSelector, G::CsLimit, G::CsAccessRights, G::CsBase],
        SegmentName::Ss => [G::SsSelector, G::SsLimit, G::SsAccessRights, G::SsBase],
        SegmentName::Ds => [G::DsSelector, G::DsLimit, G::DsAccessRights, G::DsBase],
        SegmentName::Fs => [G::FsSelector, G::FsLimit, G::FsAccessRights, G::FsBase],
        SegmentName::Gs => [G::GsSelector, G::GsLimit, G::GsAccessRights, G::GsBase],
        SegmentName::Ldtr => [
            G::LdtrSelector,
            G::LdtrLimit,
            G::LdtrAccessRights,
            G::LdtrBase,
        ],
        SegmentName::Tr => [G::TrSelector, G::TrLimit, G::TrAccessRights, G::TrBase],
    }
}
