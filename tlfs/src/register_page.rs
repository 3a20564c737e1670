//! The register page of a VP (root sheet B.7): MapVpStatePage type 0.

use crate::macros::{wire_flags, wire_struct};
use crate::register::HvX64SegmentRegister;

/// Version of the layout.
pub const HV_VP_REGISTER_PAGE_VERSION_1: u16 = 1;
/// Most vectors the page can carry.
pub const HV_VP_REGISTER_PAGE_MAX_VECTOR_COUNT: usize = 7;

wire_flags! {
    /// Which groups the worker has changed. On resume the hypervisor loads them and clears the bits.
    pub struct HvX64RegisterPageDirtyFlags(u32);
    /// RAX to R15.
    GENERAL_PURPOSE = 1 << 0;
    /// RIP.
    INSTRUCTION_POINTER = 1 << 1;
    /// XMM0 to XMM5.
    XMM = 1 << 2;
    /// ES to GS.
    SEGMENTS = 1 << 3;
    /// RFLAGS.
    FLAGS = 1 << 4;
}

wire_struct! {
    /// Vectors for the root scheduler's fast path.
    pub struct HvVpRegisterPageInterruptVectors [8] {
        /// How many are given.
        vector_count @ 0: u8,
        /// Vectors.
        vectors @ 1: [u8; 7],
    }
}

wire_struct! {
    /// The register page: current whenever the VP is suspended (`HV_VP_REGISTER_PAGE`, 696 of 4096 bytes used).
    ///
    /// Fields before `cr0` are the worker's to change, the others are read-only for it.
    pub struct HvX64RegisterPage [4096] {
        /// [`HV_VP_REGISTER_PAGE_VERSION_1`].
        version @ 0: u16,
        /// 0: do not use the page.
        is_valid @ 2: u8,
        /// Zero.
        reserved_3 @ 3: u8,
        /// What the worker has changed.
        dirty @ 4: HvX64RegisterPageDirtyFlags,
        /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
        gp_registers @ 8: [u64; 16],
        /// RIP.
        rip @ 136: u64,
        /// RFLAGS.
        rflags @ 144: u64,
        /// Zero.
        reserved_152 @ 152: u64,
        /// XMM0 to XMM5, low halves first.
        xmm @ 160: [[u64; 2]; 6],
        /// ES, CS, SS, DS, FS, GS.
        segment @ 256: [HvX64SegmentRegister; 6],
        /// CR0.
        cr0 @ 352: u64,
        /// CR3.
        cr3 @ 360: u64,
        /// CR4.
        cr4 @ 368: u64,
        /// CR8.
        cr8 @ 376: u64,
        /// EFER.
        efer @ 384: u64,
        /// DR7.
        dr7 @ 392: u64,
        /// [`HvX64PendingInterruptionRegister`](crate::HvX64PendingInterruptionRegister).
        pending_interruption @ 400: crate::HvX64PendingInterruptionRegister,
        /// [`HvX64InterruptStateRegister`](crate::HvX64InterruptStateRegister).
        interrupt_state @ 408: crate::HvX64InterruptStateRegister,
        /// Hints for the instruction emulator.
        instruction_emulation_hints @ 416: u64,
        /// XCR0.
        xfem @ 424: u64,
        /// Zero.
        reserved_432 @ 432: [u8; 256],
        /// Vectors.
        interrupt_vectors @ 688: HvVpRegisterPageInterruptVectors,
        /// Rest of the page.
        unused @ 696: [u8; 3400],
    }
}
