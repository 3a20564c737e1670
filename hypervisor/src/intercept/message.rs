//! Building intercept messages (root sheet B.2). `seen` are the VP's registers of that moment, which the register page shows
//! too.

use tlfs::{
    HvCacheType, HvInterceptAccessType, HvMessageType, HvX64ApicEoiMessage,
    HvX64CpuidInterceptMessage, HvX64ExceptionInfo, HvX64ExceptionInterceptMessage,
    HvX64HaltMessage, HvX64HypercallInterceptMessage, HvX64InstructionLengthAndCr8,
    HvX64InterceptMessageHeader, HvX64InvalidVpRegisterMessage, HvX64IoPortAccessInfo,
    HvX64IoPortInterceptMessage, HvX64MemoryAccessInfo, HvX64MemoryInterceptMessage,
    HvX64MsrInterceptMessage, HvX64RegisterInterceptMessage, HvX64SegmentRegister,
    HvX64SynicSintDeliverableMessage, HvX64UnrecoverableExceptionMessage,
    HvX64UnsupportedFeatureCode, HvX64UnsupportedFeatureMessage, HvX64VpExecutionState,
};
use zerocopy::{Immutable, IntoBytes};

use crate::arch::Snapshot;
use crate::arch::cpuid::CpuidResult;
use crate::arch::exit::{Access, ExceptionExit, IoExit, NestedFault};
use crate::arch::state::{Segment, cr0, efer};
use crate::insn::MAX_LENGTH;
use crate::partition::Vp;

/// Bytes at RIP, as many as could be fetched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Code {
    /// The bytes; zeros behind the last one.
    pub bytes: [u8; 16],
    /// How many.
    pub count: u8,
}

impl Code {
    /// The bytes that were fetched, at most as many as an instruction has.
    pub fn as_slice(&self) -> &[u8] {
        let count = usize::from(self.count).min(MAX_LENGTH);
        self.bytes.get(..count).unwrap_or(&[])
    }
}

const CR0_AM: u64 = 1 << 18;
const DR7_ENABLED: u64 = 0xFF;

fn wire(segment: &Segment) -> HvX64SegmentRegister {
    HvX64SegmentRegister {
        base: segment.base,
        limit: segment.limit,
        selector: segment.selector,
        attributes: segment.attributes.into(),
    }
}

fn execution_state(seen: &Snapshot) -> HvX64VpExecutionState {
    let cr0 = seen.cr0;
    HvX64VpExecutionState::new()
        .with_cpl(seen.cpl)
        .with_cr0_pe(cr0 & cr0::PE != 0)
        .with_cr0_am(cr0 & CR0_AM != 0)
        .with_efer_lma(seen.efer & efer::LMA != 0)
        .with_debug_active(seen.dr7 & DR7_ENABLED != 0)
        .with_interruption_pending(seen.pending_event.is_some())
        .with_interrupt_shadow(seen.interrupt_shadow)
}

fn header(vp: &Vp, seen: &Snapshot, length: u8, access: Access) -> HvX64InterceptMessageHeader {
    HvX64InterceptMessageHeader {
        vp_index: vp.index(),
        instruction_length_and_cr8: HvX64InstructionLengthAndCr8::new()
            .with_instruction_length(length & 15)
            .with_cr8(vp.hw.cr8() & 15),
        intercept_access_type: HvInterceptAccessType(access as u8),
        execution_state: execution_state(seen),
        cs_segment: wire(seen.cs()),
        rip: seen.rip,
        rflags: seen.rflags,
    }
}

/// A message as it is made: its kind, and no more bytes than count.
#[derive(Clone, Copy, Debug)]
pub struct Intercept<T> {
    /// Type.
    pub kind: HvMessageType,
    /// Payload.
    pub payload: T,
}

impl<T: IntoBytes + Immutable> Intercept<T> {
    fn new(kind: HvMessageType, payload: T) -> Self {
        const { assert!(size_of::<T>() <= tlfs::HV_MESSAGE_PAYLOAD_BYTE_COUNT) }
        Self { kind, payload }
    }
}

/// A port access.
pub fn io_port(
    vp: &Vp,
    seen: &Snapshot,
    io: &IoExit,
    length: u8,
    code: &Code,
) -> Intercept<HvX64IoPortInterceptMessage> {
    let access = if io.input {
        Access::Read
    } else {
        Access::Write
    };
    let gprs = vp.hw.gprs();
    let payload = HvX64IoPortInterceptMessage {
        header: header(vp, seen, length, access),
        port_number: io.port,
        access_info: HvX64IoPortAccessInfo::new()
            .with_access_size(io.size & 7)
            .with_string_op(io.string)
            .with_rep_prefix(io.rep),
        instruction_byte_count: code.count,
        reserved: 0,
        rax: gprs.rax,
        instruction_bytes: code.bytes,
        ds_segment: wire(seen.ds()),
        es_segment: wire(seen.es()),
        rcx: gprs.rcx,
        rsi: gprs.rsi,
        rdi: gprs.rdi,
    };
    Intercept::new(HvMessageType::X64_IO_PORT_INTERCEPT, payload)
}

/// Slots that the parent waits for are free (bit n of `sints`: SINTn's).
pub fn sint_deliverable(
    vp: &Vp,
    seen: &Snapshot,
    sints: u16,
) -> Intercept<HvX64SynicSintDeliverableMessage> {
    let payload = HvX64SynicSintDeliverableMessage {
        header: header(vp, seen, 0, Access::Read),
        deliverable_sints: sints,
        ..HvX64SynicSintDeliverableMessage::default()
    };
    Intercept::new(HvMessageType::SYNIC_SINT_DELIVERABLE, payload)
}

/// An MSR access.
pub fn msr(
    vp: &Vp,
    seen: &Snapshot,
    write: bool,
    length: u8,
) -> Intercept<HvX64MsrInterceptMessage> {
    let access = if write { Access::Write } else { Access::Read };
    let gprs = vp.hw.gprs();
    let payload = HvX64MsrInterceptMessage {
        header: header(vp, seen, length, access),
        msr_number: gprs.rcx as u32,
        reserved: 0,
        rdx: gprs.rdx,
        rax: gprs.rax,
    };
    Intercept::new(HvMessageType::X64_MSR_INTERCEPT, payload)
}

/// CPUID, with what the hypervisor would answer.
pub fn cpuid(
    vp: &Vp,
    seen: &Snapshot,
    own: &CpuidResult,
    length: u8,
) -> Intercept<HvX64CpuidInterceptMessage> {
    let gprs = vp.hw.gprs();
    let payload = HvX64CpuidInterceptMessage {
        header: header(vp, seen, length, Access::Execute),
        rax: gprs.rax,
        rcx: gprs.rcx,
        rdx: gprs.rdx,
        rbx: gprs.rbx,
        default_result_rax: own.eax.into(),
        default_result_rcx: own.ecx.into(),
        default_result_rdx: own.edx.into(),
        default_result_rbx: own.ebx.into(),
    };
    Intercept::new(HvMessageType::X64_CPUID_INTERCEPT, payload)
}

/// An exception before its delivery.
pub fn exception(
    vp: &Vp,
    seen: &Snapshot,
    exception: &ExceptionExit,
    length: u8,
    code: &Code,
) -> Intercept<HvX64ExceptionInterceptMessage> {
    let software = matches!(exception.vector, 3 | 4);
    let payload = HvX64ExceptionInterceptMessage {
        header: header(vp, seen, if software { length } else { 0 }, Access::Execute),
        exception_vector: exception.vector.into(),
        exception_info: HvX64ExceptionInfo::new()
            .with_error_code_valid(exception.error_code.is_some())
            .with_software_exception(software),
        instruction_byte_count: code.count,
        error_code: exception.error_code.unwrap_or(0),
        exception_parameter: exception.parameter,
        reserved: 0,
        instruction_bytes: code.bytes,
        ds_segment: wire(seen.ds()),
        ss_segment: wire(seen.ss()),
        gp_registers: vp.hw.gprs().as_array(),
    };
    Intercept::new(HvMessageType::X64_EXCEPTION_INTERCEPT, payload)
}

/// A memory access that the second-level tables do not allow: `mapped` tells a forbidden page from an absent one.
pub fn memory(
    vp: &Vp,
    seen: &Snapshot,
    fault: &NestedFault,
    mapped: bool,
    cache_type: HvCacheType,
    code: &Code,
) -> Intercept<HvX64MemoryInterceptMessage> {
    let payload = HvX64MemoryInterceptMessage {
        // The length is not known: the worker decodes the instruction.
        header: header(vp, seen, 0, fault.access),
        cache_type,
        instruction_byte_count: code.count,
        memory_access_info: HvX64MemoryAccessInfo::new()
            .with_gva_valid(fault.gva.is_some())
            .with_gva_gpa_valid(fault.gva.is_some() && !fault.table_walk)
            .with_tlb_locked(true),
        tpr_priority: vp.apic.tpr() >> 4,
        reserved: 0,
        guest_virtual_address: fault.gva.map_or(0, |gva| gva.0),
        guest_physical_address: fault.gpa.0,
        instruction_bytes: code.bytes,
    };
    let kind = if mapped {
        HvMessageType::GPA_INTERCEPT
    } else {
        HvMessageType::UNMAPPED_GPA
    };
    Intercept::new(kind, payload)
}

/// A hypercall that the hypervisor does not have.
pub fn hypercall(
    vp: &Vp,
    seen: &Snapshot,
    length: u8,
    xmm: &[u128; 6],
) -> Intercept<HvX64HypercallInterceptMessage> {
    let gprs = vp.hw.gprs();
    let payload = HvX64HypercallInterceptMessage {
        header: header(vp, seen, length, Access::Execute),
        rax: gprs.rax,
        rbx: gprs.rbx,
        rcx: gprs.rcx,
        rdx: gprs.rdx,
        r8: gprs.r8,
        rsi: gprs.rsi,
        rdi: gprs.rdi,
        xmm_registers: xmm.map(|value| [value as u64, (value >> 64) as u64]),
        flags: 0,
        reserved: [0; 3],
    };
    Intercept::new(HvMessageType::HYPERCALL_INTERCEPT, payload)
}

/// MOV to a control register, LMSW, CLTS or XSETBV whose change the parent wants to see, with the new value.
pub fn register(
    vp: &Vp,
    seen: &Snapshot,
    name: tlfs::HvRegisterName,
    value: u64,
    length: u8,
) -> Intercept<HvX64RegisterInterceptMessage> {
    let payload = HvX64RegisterInterceptMessage {
        header: header(vp, seen, length, Access::Write),
        register_name: name,
        source_value: value.into(),
        ..Default::default()
    };
    Intercept::new(HvMessageType::X64_REGISTER_INTERCEPT, payload)
}

/// A triple fault.
pub fn unrecoverable_exception(
    vp: &Vp,
    seen: &Snapshot,
) -> Intercept<HvX64UnrecoverableExceptionMessage> {
    let header = header(vp, seen, 0, Access::Execute);
    let payload = HvX64UnrecoverableExceptionMessage { header };
    Intercept::new(HvMessageType::UNRECOVERABLE_EXCEPTION, payload)
}

/// A state that the processor does not run.
pub fn invalid_vp_register_value(vp: &Vp) -> Intercept<HvX64InvalidVpRegisterMessage> {
    let payload = HvX64InvalidVpRegisterMessage {
        vp_index: vp.index(),
        reserved: 0,
    };
    Intercept::new(HvMessageType::INVALID_VP_REGISTER_VALUE, payload)
}

/// Something that the hypervisor does not emulate.
pub fn unsupported_feature(
    vp: &Vp,
    feature_code: HvX64UnsupportedFeatureCode,
    feature_parameter: u64,
) -> Intercept<HvX64UnsupportedFeatureMessage> {
    let payload = HvX64UnsupportedFeatureMessage {
        vp_index: vp.index(),
        feature_code,
        feature_parameter,
    };
    Intercept::new(HvMessageType::UNSUPPORTED_FEATURE, payload)
}

/// The end of a level-triggered interrupt.
pub fn apic_eoi(vp: &Vp, vector: u8) -> Intercept<HvX64ApicEoiMessage> {
    let payload = HvX64ApicEoiMessage {
        vp_index: vp.index(),
        interrupt_vector: vector.into(),
    };
    Intercept::new(HvMessageType::X64_APIC_EOI, payload)
}

/// HLT of a partition whose local APICs are not emulated.
pub fn halt(vp: &Vp, seen: &Snapshot, length: u8) -> Intercept<HvX64HaltMessage> {
    let header = header(vp, seen, length, Access::Execute);
    Intercept::new(HvMessageType::X64_HALT, HvX64HaltMessage { header })
}
