//! Bit fields inside intercept messages.

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::macros::wire_enum;

wire_enum! {
    /// What was attempted, in a message. An enumeration, unlike [`HvInterceptAccessMask`](crate::HvInterceptAccessMask).
    pub struct HvInterceptAccessType(u8);
    READ = 0, "HV_INTERCEPT_ACCESS_READ";
    WRITE = 1, "HV_INTERCEPT_ACCESS_WRITE";
    EXECUTE = 2, "HV_INTERCEPT_ACCESS_EXECUTE";
}

wire_enum! {
    /// Cache type of a memory access, the architecture's numbers.
    pub struct HvCacheType(u32);
    UNCACHED = 0, "HvCacheTypeX64Uncached";
    WRITE_COMBINING = 1, "HvCacheTypeX64WriteCombining";
    WRITE_THROUGH = 4, "HvCacheTypeX64WriteThrough";
    WRITE_PROTECTED = 5, "HvCacheTypeX64WriteProtected";
    WRITE_BACK = 6, "HvCacheTypeX64WriteBack";
}

/// State of the VP at an intercept (`HV_X64_VP_EXECUTION_STATE`).
#[bitfield(u16)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvX64VpExecutionState {
    /// Current privilege level.
    #[bits(2)]
    pub cpl: u8,
    /// CR0.PE.
    pub cr0_pe: bool,
    /// CR0.AM.
    pub cr0_am: bool,
    /// EFER.LMA.
    pub efer_lma: bool,
    /// A debug register is active.
    pub debug_active: bool,
    /// An interruption is pending (HvRegisterPendingInterruption).
    pub interruption_pending: bool,
    /// Virtual trust level.
    #[bits(4)]
    pub vtl: u8,
    /// In an enclave.
    pub enclave_mode: bool,
    /// In an interrupt shadow (after STI or MOV SS).
    pub interrupt_shadow: bool,
    /// A virtualization fault is active.
    pub virtualization_fault_active: bool,
    /// Zero.
    #[bits(2)]
    pub reserved: u8,
}

/// Byte 4 of the intercept header: instruction length and CR8.
#[bitfield(u8)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvX64InstructionLengthAndCr8 {
    /// Length of the intercepted instruction in bytes; 0 if not known (memory intercepts).
    #[bits(4)]
    pub instruction_length: u8,
    /// CR8, for EXO partitions.
    #[bits(4)]
    pub cr8: u8,
}

/// How an intercepted memory access came about (`HV_X64_MEMORY_ACCESS_INFO`).
#[bitfield(u8)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvX64MemoryAccessInfo {
    /// The guest virtual address is given.
    pub gva_valid: bool,
    /// And it translates to the given guest physical address.
    pub gva_gpa_valid: bool,
    /// A hypercall's output is pending.
    pub hypercall_output_pending: bool,
    /// TLB flushes that would reach this VP wait until it is resumed.
    pub tlb_locked: bool,
    /// Supervisor shadow stack access.
    pub supervisor_shadow_stack: bool,
    /// Zero.
    #[bits(3)]
    pub reserved: u8,
}

/// What kind of I/O instruction was intercepted (`HV_X64_IO_PORT_ACCESS_INFO`).
#[bitfield(u8)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvX64IoPortAccessInfo {
    /// Operand size: 1, 2 or 4 bytes.
    #[bits(3)]
    pub access_size: u8,
    /// INS or OUTS.
    pub string_op: bool,
    /// With a REP prefix.
    pub rep_prefix: bool,
    /// Zero.
    #[bits(3)]
    pub reserved: u8,
}

/// What kind of exception was intercepted (`HV_X64_EXCEPTION_INFO`).
#[bitfield(u8)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvX64ExceptionInfo {
    /// The error code is given.
    pub error_code_valid: bool,
    /// INT3 or INTO.
    pub software_exception: bool,
    /// Zero.
    #[bits(6)]
    pub reserved: u8,
}
