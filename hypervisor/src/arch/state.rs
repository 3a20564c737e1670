//! The architectural state of a VP, in the shapes of the TLFS.

use zerocopy::{Immutable, IntoBytes};

/// General registers in TLFS order, which is also their encoding in instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct Gprs {
    /// RAX.
    pub rax: u64,
    /// RCX.
    pub rcx: u64,
    /// RDX.
    pub rdx: u64,
    /// RBX.
    pub rbx: u64,
    /// RSP.
    pub rsp: u64,
    /// RBP.
    pub rbp: u64,
    /// RSI.
    pub rsi: u64,
    /// RDI.
    pub rdi: u64,
    /// R8.
    pub r8: u64,
    /// R9.
    pub r9: u64,
    /// R10.
    pub r10: u64,
    /// R11.
    pub r11: u64,
    /// R12.
    pub r12: u64,
    /// R13.
    pub r13: u64,
    /// R14.
    pub r14: u64,
    /// R15.
    pub r15: u64,
}

impl Gprs {
    /// The registers by number (0 RAX, 1 RCX, ... 15 R15); `None` past 15.
    pub fn get(&self, number: usize) -> Option<u64> {
        self.as_array().get(number).copied()
    }

    /// Sets a register by number. False, with nothing changed, past 15.
    pub fn set(&mut self, number: usize, value: u64) -> bool {
        let mut array = self.as_array();
        let Some(slot) = array.get_mut(number) else {
            return false;
        };
        *slot = value;
        *self = Self::from_array(array);
        true
    }

    /// All sixteen, in TLFS order.
    pub const fn as_array(&self) -> [u64; 16] {
        [
            self.rax, self.rcx, self.rdx, self.rbx, self.rsp, self.rbp, self.rsi, self.rdi,
            self.r8, self.r9, self.r10, self.r11, self.r12, self.r13, self.r14, self.r15,
        ]
    }

    /// The reverse of [`Self::as_array`].
    pub const fn from_array(a: [u64; 16]) -> Self {
        let [
            rax,
            rcx,
            rdx,
            rbx,
            rsp,
            rbp,
            rsi,
            rdi,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
        ] = a;
        Self {
            rax,
            rcx,
            rdx,
            rbx,
            rsp,
            rbp,
            rsi,
            rdi,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
        }
    }
}

/// A segment register, LDTR or TR, as `HV_X64_SEGMENT_REGISTER` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Base, a linear address.
    pub base: u64,
    /// Limit in bytes.
    pub limit: u32,
    /// Selector.
    pub selector: u16,
    /// Type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15; P = 0 says unusable (root sheet D.3).
    pub attributes: u16,
}

impl Segment {
    /// The present bit of the attributes.
    pub const PRESENT: u16 = 1 << 7;
    /// The code segment is a 64-bit one.
    pub const LONG: u16 = 1 << 13;
    /// Default operand size 32 bits, or a big stack.
    pub const BIG: u16 = 1 << 14;
    /// The limit counts 4 KiB.
    pub const GRANULAR: u16 = 1 << 15;

    /// The descriptor privilege level.
    pub const fn dpl(&self) -> u8 {
        ((self.attributes >> 5) & 3) as u8
    }

    /// The same with the granularity that its limit needs. Processors do not keep that bit of a register, or want it to fit.
    pub const fn with_granularity_of_limit(&self) -> Self {
        let granular = if self.limit > 0xF_FFFF {
            Self::GRANULAR
        } else {
            0
        };
        Self {
            attributes: self.attributes & !Self::GRANULAR | granular,
            ..*self
        }
    }

    /// All segment registers after RESET (AMD manual volume 2, table 14-1; SDM volume 3, table 10-1).
    pub fn after_reset() -> impl Iterator<Item = (SegmentName, Self)> {
        let data = |attributes| Self {
            limit: 0xFFFF,
            attributes,
            ..Self::default()
        };
        SegmentName::ALL.into_iter().map(move |name| {
            let segment = match name {
                SegmentName::Cs => Self {
                    base: 0xFFFF_0000,
                    selector: 0xF000,
                    ..data(0x9B)
                },
                SegmentName::Ldtr => data(0x82),
                SegmentName::Tr => data(0x8B),
                _ => data(0x93),
            };
            (name, segment)
        })
    }
}

/// What decides where the code at RIP is found, all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeAddress {
    /// RIP.
    pub rip: u64,
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
    /// Privilege level.
    pub cpl: u8,
    /// In 64-bit code.
    pub long: bool,
}

/// The segment registers, numbered as the TLFS registers 0x60000 and up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SegmentName {
    /// ES.
    Es = 0,
    /// CS.
    Cs = 1,
    /// SS.
    Ss = 2,
    /// DS.
    Ds = 3,
    /// FS.
    Fs = 4,
    /// GS.
    Gs = 5,
    /// LDTR.
    Ldtr = 6,
    /// TR.
    Tr = 7,
}

impl SegmentName {
    /// All of them, in TLFS order.
    pub const ALL: [Self; 8] = [
        Self::Es,
        Self::Cs,
        Self::Ss,
        Self::Ds,
        Self::Fs,
        Self::Gs,
        Self::Ldtr,
        Self::Tr,
    ];
}

/// IDTR or GDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableRegister {
    /// Linear address of the table.
    pub base: u64,
    /// Offset of its last byte.
    pub limit: u16,
}

impl TableRegister {
    /// The state after RESET.
    pub const AFTER_RESET: Self = Self {
        base: 0,
        limit: 0xFFFF,
    };
}

/// Registers outside the general ones that are plain 64-bit values: MSRs that the processor keeps with the VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemRegister {
    /// IA32_PAT, 0x277.
    Pat,
    /// 0x174.
    SysenterCs,
    /// 0x175.
    SysenterEsp,
    /// 0x176.
    SysenterEip,
    /// 0xC0000081.
    Star,
    /// 0xC0000082.
    Lstar,
    /// 0xC0000083.
    Cstar,
    /// 0xC0000084.
    Sfmask,
    /// 0xC0000102.
    KernelGsBase,
    /// 0xC0000100, also the base of the FS segment.
    FsBase,
    /// 0xC0000101, also the base of the GS segment.
    GsBase,
    /// 0x1D9. Kept, but without effect: branch recording is not virtualized.
    DebugCtl,
    /// 0x48. Has effect where the processor has it.
    SpecCtrl,
    /// 0xC0000103.
    TscAux,
}

impl SystemRegister {
    /// The register that a RDMSR or WRMSR of `msr` means.
    pub const fn from_msr(msr: u32) -> Option<Self> {
        Some(match msr {
            0x277 => Self::Pat,
            0x174 => Self::SysenterCs,
            0x175 => Self::SysenterEsp,
            0x176 => Self::SysenterEip,
            0xC000_0081 => Self::Star,
            0xC000_0082 => Self::Lstar,
            0xC000_0083 => Self::Cstar,
            0xC000_0084 => Self::Sfmask,
            0xC000_0102 => Self::KernelGsBase,
            0xC000_0100 => Self::FsBase,
            0xC000_0101 => Self::GsBase,
            0x1D9 => Self::DebugCtl,
            0x48 => Self::SpecCtrl,
            0xC000_0103 => Self::TscAux,
            _ => return None,
        })
    }
}

/// RFLAGS bits used by the hypervisor.
pub mod rflags {
    /// Always one.
    pub const FIXED: u64 = 1 << 1;
    /// Trap flag: single step.
    pub const TF: u64 = 1 << 8;
    /// Interrupt flag.
    pub const IF: u64 = 1 << 9;
    /// Resume flag.
    pub const RF: u64 = 1 << 16;
    /// Virtual-8086 mode.
    pub const VM: u64 = 1 << 17;
    /// Alignment check, or access to user pages.
    pub const AC: u64 = 1 << 18;
}

/// CR0 bits used by the hypervisor.
pub mod cr0 {
    /// Protected mode.
    pub const PE: u64 = 1 << 0;
    /// Task switched.
    pub const TS: u64 = 1 << 3;
    /// Extension type: hard-wired to one.
    pub const ET: u64 = 1 << 4;
    /// Not write-through.
    pub const NW: u64 = 1 << 29;
    /// Cache disable.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
}

/// CR4 bits used by the hypervisor.
pub mod cr4 {
    /// Page tables of 64-bit entries.
    pub const PAE: u64 = 1 << 5;
    /// Process-context identifiers.
    pub const PCIDE: u64 = 1 << 17;
    /// XSAVE is switched on.
    pub const OSXSAVE: u64 = 1 << 18;
    /// Protection keys of user pages.
    pub const PKE: u64 = 1 << 22;
}

/// DR6 bits used by the hypervisor.
pub mod dr6 {
    /// Which of DR0 to DR3 matched.
    pub const MATCHES: u64 = 0xF;
    /// An access to a debug register was refused.
    pub const BD: u64 = 1 << 13;
    /// Single step.
    pub const BS: u64 = 1 << 14;
}

/// DR7 bits used by the hypervisor.
pub mod dr7 {
    /// Any of these makes DR0 to DR3 act.
    pub const ENABLED: u64 = 0xFF;
    /// General detect.
    pub const GD: u64 = 1 << 13;
}

/// EFER bits used by the hypervisor.
pub mod efer {
    /// Long mode enabled.
    pub const LME: u64 = 1 << 8;
    /// Long mode active.
    pub const LMA: u64 = 1 << 10;
    /// SVM enabled.
    pub const SVME: u64 = 1 << 12;
}

/// Vectors of exceptions that the hypervisor itself reasons about.
pub mod vector {
    /// Divide error.
    pub const DE: u8 = 0;
    /// Debug.
    pub const DB: u8 = 1;
    /// Non-maskable interrupt.
    pub const NMI: u8 = 2;
    /// Invalid opcode.
    pub const UD: u8 = 6;
    /// Double fault.
    pub const DF: u8 = 8;
    /// General protection.
    pub const GP: u8 = 13;
    /// Page fault.
    pub const PF: u8 = 14;
    /// Alignment check.
    pub const AC: u8 = 17;
    /// Machine check.
    pub const MC: u8 = 18;
}

/// The PAT after reset: WB, WT, UC-, UC, twice.
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_by_number_follow_the_instruction_encoding() {
        let mut gprs = Gprs::default();
        for n in 0..16 {
            assert!(gprs.set(n, 100 + n as u64));
        }
        assert_eq!(gprs.rax, 100);
        assert_eq!(gprs.rbx, 103);
        assert_eq!(gprs.rsp, 104);
        assert_eq!(gprs.rdi, 107);
        assert_eq!(gprs.get(15), Some(115));
        assert!(!gprs.set(16, 1));
        assert_eq!(gprs.get(16), None);
    }
}
