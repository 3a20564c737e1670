//! Payloads of intercepts that the processor causes: memory, ports, MSRs, CPUID, exceptions, hypercalls.

use crate::macros::wire_struct;
use crate::message::{
    HvCacheType, HvX64ExceptionInfo, HvX64InterceptMessageHeader, HvX64IoPortAccessInfo,
    HvX64MemoryAccessInfo,
};
use crate::register::{HvRegisterName, HvRegisterValue, HvX64SegmentRegister};

wire_struct! {
    /// Payload of UNMAPPED_GPA and GPA_INTERCEPT (`HV_X64_MEMORY_INTERCEPT_MESSAGE`).
    pub struct HvX64MemoryInterceptMessage [80] {
        /// Header.
        header @ 0: HvX64InterceptMessageHeader,
        /// Cache type of the access.
        cache_type @ 40: HvCacheType,
        /// How many of `instruction_bytes` are given; may be fewer than the instruction has.
        instruction_byte_count @ 44: u8,
        /// How the access came about.
        memory_access_info @ 45: HvX64MemoryAccessInfo,
        /// Task priority class.
        tpr_priority @ 46: u8,
        /// Zero.
        reserved @ 47: u8,
        /// Guest virtual address, if `memory_access_info` says so.
        guest_virtual_address @ 48: u64,
        /// Guest physical address.
        guest_physical_address @ 56: u64,
        /// The instruction's first bytes.
        instruction_bytes @ 64: [u8; 16],
    }
}

wire_struct! {
    /// Payload of X64_IO_PORT_INTERCEPT (`HV_X64_IO_PORT_INTERCEPT_MESSAGE`).
    pub struct HvX64IoPortInterceptMessage [128] {
        /// Header.
        header @ 0: HvX64InterceptMessageHeader,
        /// Port.
        port_number @ 40: u16,
        /// Size and form of the instruction.
        access_info @ 42: HvX64IoPortAccessInfo,
        /// How many of `instruction_bytes` are given.
        instruction_byte_count @ 43: u8,
        /// Zero.
        reserved @ 44: u32,
        /// RAX.
        rax @ 48: u64,
        /// The instruction's first bytes.
        instruction_bytes @ 56: [u8; 16],
        /// DS, for OUTS.
        ds_segment @ 72: HvX64SegmentRegister,
        /// ES, for INS.
        es_segment @ 88: HvX64SegmentRegister,
        /// RCX, for REP.
        rcx @ 104: u64,
        /// RSI, for OUTS.
        rsi @ 112: u64,
        /// RDI, for INS.
        rdi @ 120: u64,
    }
}

wire_struct! {
    /// Payload of X64_MSR_INTERCEPT (`HV_X64_MSR_INTERCEPT_MESSAGE`).
    pub struct HvX64MsrInterceptMessage [64] {
        /// Header.
        header @ 0: HvX64InterceptMessageHeader,
        /// MSR.
        msr_number @ 40: u32,
        /// Zero.
        reserved @ 44: u32,
        /// RDX.
        rdx @ 48: u64,
        /// RAX.
        rax @ 56: u64,
    }
}

wire_struct! {
    /// Payload of X64_CPUID_INTERCEPT (`HV_X64_CPUID_INTERCEPT_MESSAGE`).
    pub struct HvX64CpuidInterceptMessage [104] {
        /// Header.
        header @ 0: HvX64InterceptMessageHeader,
        /// RAX: the leaf.
        rax @ 40: u64,
        /// RCX: the subleaf.
        rcx @ 48: u64,
        /// RDX.
        rdx @ 56: u64,
        /// RBX.
        rbx @ 64: u64,
        /// What the hypervisor would return in RAX.
        default_result_rax @ 72: u64,
        /// What the hypervisor would return in RCX.
        default_result_rcx @ 80: u64,
        /// What the hypervisor would return in RDX.
        default_result_rdx @ 88: u64,
        /// What the hypervisor would return in RBX.
        default_result_rbx @ 96: u64,
    }
}

wire_struct! {
    /// Payload of X64_EXCEPTION_INTERCEPT and X64_EXCEPTION_TRAP_INTERCEPT (`HV_X64_EXCEPTION_INTERCEPT_MESSAGE`).
    pub struct HvX64ExceptionInterceptMessage [240] {
        /// Header.
        header @ 0: HvX64InterceptMessageHeader,
        /// Vector.
        exception_vector @ 40: u16,
        /// Kind.
        exception_info @ 42: HvX64ExceptionInfo,
        /// How many of `instruction_bytes` are given.
        instruction_byte_count @ 43: u8,
        /// Error code, if `exception_info` says so.
        error_code @ 44: u32,
        /// CR2 for a page fault.
        exception_parameter @ 48: u64,
        /// Zero.
        reserved @ 56: u64,
        /// The instruction's first bytes.
        instruction_bytes @ 64: [u8; 16],
        /// DS.
        ds_segment @ 80: HvX64SegmentRegister,
        /// SS.
        ss_segment @ 96: HvX64SegmentRegister,
        /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
        gp_registers @ 112: [u64; 16],
    }
}

wire_struct! {
    /// Payload of HYPERCALL_INTERCEPT (`HV_X64_HYPERCALL_INTERCEPT_MESSAGE`).
    pub struct HvX64HypercallInterceptMessage [208] {
        /// Header.
        header @ 0: HvX64InterceptMessageHeader,
        /// RAX.
        rax @ 40: u64,
        /// RBX.
        rbx @ 48: u64,
        /// RCX: the control word.
        rcx @ 56: u64,
        /// RDX: input GPA or first fast word.
        rdx @ 64: u64,
        /// R8: output GPA or second fast word.
        r8 @ 72: u64,
        /// RSI.
        rsi @ 80: u64,
        /// RDI.
        rdi @ 88: u64,
        /// XMM0 to XMM5, low halves first.
        xmm_registers @ 96: [[u64; 2]; 6],
        /// Bit 0: an isolated guest's call.
        flags @ 192: u32,
        /// Zero.
        reserved @ 196: [u32; 3],
    }
}

wire_struct! {
    /// Payload of [`HvMessageType::X64_REGISTER_INTERCEPT`](crate::HvMessageType): a write to a control register that
    /// the parent asked for (OpenVMM `hvdef`, `HvX64RegisterInterceptMessage`).
    pub struct HvX64RegisterInterceptMessage [64] {
        /// Common header.
        header @ 0: HvX64InterceptMessageHeader,
        /// Bit 0: the source is a memory operand.
        flags @ 40: u8,
        /// Zero.
        reserved_41 @ 41: u8,
        /// Zero.
        reserved_42 @ 42: u16,
        /// The register.
        register_name @ 44: HvRegisterName,
        /// What the instruction would write.
        source_value @ 48: HvRegisterValue,
    }
}
