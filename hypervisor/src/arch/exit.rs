//! Why a VP stopped running: one vendor-neutral type.

use crate::mem::addr::{Gpa, Gva};

/// How memory was accessed. The values are those of the TLFS access type in messages (read 0, write 1, execute 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Access {
    /// Data read.
    Read = 0,
    /// Data write.
    Write = 1,
    /// Instruction fetch.
    Execute = 2,
}

/// An IN, OUT, INS or OUTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoExit {
    /// First port.
    pub port: u16,
    /// 1, 2 or 4 bytes.
    pub size: u8,
    /// IN or INS.
    pub input: bool,
    /// INS or OUTS.
    pub string: bool,
    /// With a REP prefix.
    pub rep: bool,
}

/// A second-level translation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedFault {
    /// Guest physical address.
    pub gpa: Gpa,
    /// Guest virtual address, where the processor tells.
    pub gva: Option<Gva>,
    /// What the guest tried.
    pub access: Access,
    /// The fault came while walking the guest's own page tables.
    pub table_walk: bool,
}

/// An exception that was intercepted before delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExceptionExit {
    /// Vector, 0 to 31.
    pub vector: u8,
    /// Error code, for vectors that have one.
    pub error_code: Option<u32>,
    /// Faulting address for #PF, DR6 bits for #DB, else 0.
    pub parameter: u64,
}

/// An access to a control register that was asked for by an intercept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrExit {
    /// 0, 4 or 8.
    pub register: u8,
    /// A write (MOV to CR, LMSW, CLTS) rather than a read.
    pub write: bool,
    /// General register of a MOV, where the processor tells.
    pub gpr: Option<u8>,
}

/// Why the VP left the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A physical interrupt waits.
    ExternalInterrupt,
    /// A physical NMI.
    Nmi,
    /// The guest can take an interrupt now, as asked by `set_interrupt_window`.
    InterruptWindow,
    /// The guest can take an NMI now, as asked by `set_nmi_window`.
    NmiWindow,
    /// Something that concerns this folder alone, and is dealt with: look for work, then run the VP on.
    Internal,
    /// A spin loop of PAUSE that the processor's filter found.
    Pause,
    /// HLT.
    Halt,
    /// CPUID.
    Cpuid,
    /// RDMSR of ECX.
    MsrRead,
    /// WRMSR of ECX.
    MsrWrite,
    /// Port access; `port_access` of the VP tells which. (What comes often carries nothing: it is looked up where it is
    /// dealt with.)
    Io,
    /// VMMCALL or VMCALL, whichever is this vendor's.
    Hypercall,
    /// Second-level translation fault; `nested_fault` of the VP tells which.
    NestedFault,
    /// Intercepted exception.
    Exception(ExceptionExit),
    /// Intercepted control register access.
    ControlRegister(CrExit),
    /// XSETBV.
    Xsetbv,
    /// INVD or WBINVD.
    CacheControl,
    /// RDPMC, MONITOR, MWAIT or another instruction that this partition does not have: gets #UD or #GP(0) as told.
    Absent {
        /// #GP(0) rather than #UD.
        general_protection: bool,
    },
    /// Triple fault.
    Shutdown,
    /// INIT signal of the machine.
    Init,
    /// A hardware task switch.
    TaskSwitch,
    /// The processor refused the VP's state.
    InvalidState,
    /// Nothing that should happen: vendor's exit code and qualification.
    Unknown {
        /// Exit code or reason.
        code: u64,
        /// First qualification.
        info: u64,
    },
}

/// An event to put into the guest at the next entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// External interrupt with this vector.
    Interrupt(u8),
    /// NMI.
    Nmi,
    /// Exception.
    Exception {
        /// Vector, 0 to 31.
        vector: u8,
        /// Error code, for vectors that have one.
        error_code: Option<u32>,
    },
    /// INT n, INT3 or INTO that was interrupted in delivery; needs the instruction's length.
    Software {
        /// Vector.
        vector: u8,
        /// Length of the instruction.
        length: u8,
    },
}
