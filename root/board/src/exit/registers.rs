//! The registers of a suspended VP, in its register page.

use tlfs::{
    HvX64InterruptStateRegister, HvX64RegisterPage, HvX64RegisterPageDirtyFlags as Dirty,
    HvX64SegmentRegister,
};

/// CR0.PG.
const CR0_PG: u64 = 1 << 31;
/// EFER.LMA: long mode is active.
pub const EFER_LMA: u64 = 1 << 10;

/// How instructions are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeSize {
    /// Real mode and 16-bit segments.
    Bits16,
    /// 32-bit segments.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

impl CodeSize {
    /// 16, 32 or 64.
    pub fn bits(self) -> u32 {
        match self {
            Self::Bits16 => 16,
            Self::Bits32 => 32,
            Self::Bits64 => 64,
        }
    }
}

/// Segment registers by their place in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Segment {
    /// ES.
    Es,
    /// CS.
    Cs,
    /// SS.
    Ss,
    /// DS.
    Ds,
    /// FS.
    Fs,
    /// GS.
    Gs,
}

/// A VP's register page in use. Every change marks its group, so that the hypervisor loads it on resume.
#[derive(Debug)]
pub struct Registers<'a> {
    page: &'a mut HvX64RegisterPage,
}

impl<'a> Registers<'a> {
    /// The page of a suspended VP; `None` if the hypervisor declares the page invalid.
    pub fn new(page: &'a mut HvX64RegisterPage) -> Option<Self> {
        (page.is_valid != 0).then_some(Self { page })
    }

    /// General register 0 (RAX) to 15 (R15), in the order of the instruction encoding.
    #[inline]
    pub fn get(&self, index: usize) -> u64 {
        self.page.gp_registers[index & 15]
    }

    /// Sets a general register.
    #[inline]
    pub fn set(&mut self, index: usize, value: u64) {
        self.page.gp_registers[index & 15] = value;
        self.page.dirty |= Dirty::GENERAL_PURPOSE;
    }

    /// Sets the low `size` bytes of a general register as an instruction does: 8 and 16 bits leave the rest alone, 32
    /// clear the upper half.
    #[inline]
    pub fn set_sized(&mut self, index: usize, size: u8, value: u64) {
        let old = self.get(index);
        let new = match size {
            1 => old & !0xFF | value & 0xFF,
            2 => old & !0xFFFF | value & 0xFFFF,
            4 => value & 0xFFFF_FFFF,
            _ => value,
        };
        self.set(index, new);
    }

    /// RIP.
    pub fn rip(&self) -> u64 {
        self.page.rip
    }

    /// Sets RIP.
    #[inline]
    pub fn set_rip(&mut self, rip: u64) {
        self.page.rip = rip;
        self.page.dirty |= Dirty::INSTRUCTION_POINTER;
    }

    /// RFLAGS.
    pub fn flags(&self) -> u64 {
        self.page.rflags
    }

    /// Sets RFLAGS.
    pub fn set_flags(&mut self, flags: u64) {
        self.page.rflags = flags;
        self.page.dirty |= Dirty::FLAGS;
    }

    /// InterruptState: whether interrupts or NMIs wait for an instruction to end.
    pub fn interrupt_state(&self) -> HvX64InterruptStateRegister {
        self.page.interrupt_state
    }

    fn segment(&self, segment: Segment) -> &HvX64SegmentRegister {
        &self.page.segment[segment as usize]
    }

    /// How the VP's instructions are decoded.
    pub fn code_size(&self) -> CodeSize {
        let attributes = self.segment(Segment::Cs).attributes;
        if self.page.efer & EFER_LMA != 0 && attributes.long() {
            CodeSize::Bits64
        } else if attributes.default() {
            CodeSize::Bits32
        } else {
            CodeSize::Bits16
        }
    }

    /// Linear address of an offset in a segment. In 64-bit mode only FS and GS have a base; otherwise addresses wrap at
    /// 4 GiB.
    pub fn linear(&self, segment: Segment, offset: u64) -> u64 {
        let base = self.segment(segment).base;
        if self.code_size() != CodeSize::Bits64 {
            base.wrapping_add(offset) & 0xFFFF_FFFF
        } else if matches!(segment, Segment::Fs | Segment::Gs) {
            base.wrapping_add(offset)
        } else {
            offset
        }
    }

    /// Whether linear addresses are translated.
    pub fn paging(&self) -> bool {
        self.page.cr0 & CR0_PG != 0
    }

    /// Whether the VP runs at privilege level 3.
    pub fn user(&self) -> bool {
        self.segment(Segment::Ss)
            .attributes
            .descriptor_privilege_level()
            == 3
    }
}
