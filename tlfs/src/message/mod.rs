//! Messages: what lies in a slot of the SIM page or in an intercept message page (root sheet B.2).

mod access;
mod header;
mod payload;
mod x64;

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use access::*;
pub use header::*;
pub use payload::*;
pub use x64::*;

use crate::macros::{wire_enum, wire_struct};

/// Bytes of a message's payload.
pub const HV_MESSAGE_PAYLOAD_BYTE_COUNT: usize = 240;
/// Bytes of a message.
pub const HV_MESSAGE_SIZE: usize = 256;

wire_enum! {
    /// Message type. Zero means that the slot is free; types with bit 31 are the hypervisor's own and may not be
    /// posted.
    ///
    /// 0x80010005 and 0x80010006 are named after Linux's headers; OpenVMM has the IOMMU page request at the former and a
    /// register intercept at the latter. Nothing here sends either.
    pub struct HvMessageType(u32);
    NONE = 0x0000_0000, "HvMessageTypeNone";
    /// VMBus channel message (guest sheet 7.1); guests choose types below 0x80000000 themselves.
    VMBUS_CHANNEL = 0x0000_0001, "HvMessageTypeVmBusChannel";
    UNMAPPED_GPA = 0x8000_0000, "HvMessageTypeUnmappedGpa";
    GPA_INTERCEPT = 0x8000_0001, "HvMessageTypeGpaIntercept";
    UNACCEPTED_GPA = 0x8000_0003, "HvMessageTypeUnacceptedGpa";
    GPA_ATTRIBUTE_INTERCEPT = 0x8000_0004, "HvMessageTypeGpaAttributeIntercept";
    ENABLE_PARTITION_VTL_INTERCEPT = 0x8000_0005, "HvMessageTypeEnablePartitionVtlIntercept";
    TIMER_EXPIRED = 0x8000_0010, "HvMessageTypeTimerExpired";
    INVALID_VP_REGISTER_VALUE = 0x8000_0020, "HvMessageTypeInvalidVpRegisterValue";
    UNRECOVERABLE_EXCEPTION = 0x8000_0021, "HvMessageTypeUnrecoverableException";
    UNSUPPORTED_FEATURE = 0x8000_0022, "HvMessageTypeUnsupportedFeature";
    TLB_PAGE_SIZE_MISMATCH = 0x8000_0023, "HvMessageTypeTlbPageSizeMismatch";
    IOMMU_FAULT = 0x8000_0024, "HvMessageTypeIommuFault";
    OPAQUE_INTERCEPT = 0x8000_003F, "HvMessageTypeOpaqueIntercept";
    EVENT_LOG_BUFFER_COMPLETE = 0x8000_0040, "HvMessageTypeEventLogBufferComplete";
    HYPERCALL_INTERCEPT = 0x8000_0050, "HvMessageTypeHypercallIntercept";
    SYNIC_EVENT_INTERCEPT = 0x8000_0060, "HvMessageTypeSynicEventIntercept";
    SYNIC_SINT_INTERCEPT = 0x8000_0061, "HvMessageTypeSynicSintIntercept";
    SYNIC_SINT_DELIVERABLE = 0x8000_0062, "HvMessageTypeSynicSintDeliverable";
    ASYNC_CALL_COMPLETION = 0x8000_0070, "HvMessageTypeAsyncCallCompletion";
    INSUFFICIENT_MEMORY = 0x8000_0071, "HvMessageTypeInsufficientMemory";
    SCHEDULER_VP_SIGNAL_BITSET = 0x8000_0100, "HvMessageTypeSchedulerVpSignalBitset";
    SCHEDULER_VP_SIGNAL_PAIR = 0x8000_0101, "HvMessageTypeSchedulerVpSignalPair";
    X64_IO_PORT_INTERCEPT = 0x8001_0000, "HvMessageTypeX64IoPortIntercept";
    X64_MSR_INTERCEPT = 0x8001_0001, "HvMessageTypeMsrIntercept";
    X64_CPUID_INTERCEPT = 0x8001_0002, "HvMessageTypeX64CpuidIntercept";
    X64_EXCEPTION_INTERCEPT = 0x8001_0003, "HvMessageTypeExceptionIntercept";
    X64_APIC_EOI = 0x8001_0004, "HvMessageTypeX64ApicEoi";
    X64_LEGACY_FP_ERROR = 0x8001_0005, "HvMessageTypeX64LegacyFpError";
    X64_IOMMU_PRQ = 0x8001_0006, "HvMessageTypeX64IommuPrq";
    X64_HALT = 0x8001_0007, "HvMessageTypeX64Halt";
    X64_INTERRUPTION_DELIVERABLE = 0x8001_0008, "HvMessageTypeX64InterruptionDeliverable";
    X64_SIPI_INTERCEPT = 0x8001_0009, "HvMessageTypeX64SipiIntercept";
    X64_RDTSC_INTERCEPT = 0x8001_000A, "HvMessageTypeX64RdtscIntercept";
    X64_APIC_SMI_INTERCEPT = 0x8001_000B, "HvMessageTypeX64ApicSmiIntercept";
    ARM64_RESET_INTERCEPT = 0x8001_000C, "HvMessageTypeArm64ResetIntercept";
    X64_APIC_INIT_SIPI_INTERCEPT = 0x8001_000D, "HvMessageTypeX64ApicInitSipiIntercept";
    X64_APIC_WRITE_INTERCEPT = 0x8001_000E, "HvMessageTypeX64ApicWriteIntercept";
    X64_PROXY_INTERRUPT_INTERCEPT = 0x8001_000F, "HvMessageTypeX64ProxyInterruptIntercept";
    X64_ISOLATION_CTRL_REG_INTERCEPT = 0x8001_0010, "HvMessageTypeX64IsolationCtrlRegIntercept";
    X64_SNP_GUEST_REQUEST_INTERCEPT = 0x8001_0011, "HvMessageTypeX64SnpGuestRequestIntercept";
    X64_EXCEPTION_TRAP_INTERCEPT = 0x8001_0012, "HvMessageTypeX64ExceptionTrapIntercept";
    X64_SEV_VMGEXIT_INTERCEPT = 0x8001_0013, "HvMessageTypeX64SevVmgexitIntercept";
}

impl HvMessageType {
    /// `HvMessageTypeX64RegisterIntercept` = `0x8001_0006`: OpenVMM's name of a number that Linux's headers use for IOMMU
    /// page requests. Partita has no IOMMU; it sends register intercepts under it.
    pub const X64_REGISTER_INTERCEPT: Self = Self(0x8001_0006);

    /// Whether only the hypervisor may send this type.
    pub const fn is_hypervisor(self) -> bool {
        self.0 & 0x8000_0000 != 0
    }
}

/// Flags of a message.
#[bitfield(u8)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvMessageFlags {
    /// More messages wait for this slot: write EOM after emptying it.
    pub message_pending: bool,
    /// Zero.
    #[bits(7)]
    pub reserved: u8,
}

wire_struct! {
    /// First 16 bytes of a message (`HV_MESSAGE_HEADER`).
    pub struct HvMessageHeader [16] {
        /// Type. Written last by the hypervisor, cleared first by the receiver.
        message_type @ 0: HvMessageType,
        /// Bytes of the payload that count, at most 240.
        payload_size @ 4: u8,
        /// Flags.
        flags @ 5: HvMessageFlags,
        /// Zero.
        reserved @ 6: [u8; 2],
        /// Sender's partition id for intercepts, port id for posted messages.
        sender @ 8: u64,
    }
}

wire_struct! {
    /// A message (`HV_MESSAGE`).
    pub struct HvMessage [256] {
        /// Header.
        header @ 0: HvMessageHeader,
        /// Payload; only `header.payload_size` bytes count.
        payload @ 16: [u8; 240],
    }
}

impl HvMessage {
    /// A message whose payload is the bytes of `payload`. `None` if they are more than 240.
    pub fn new<T: IntoBytes + Immutable + ?Sized>(
        message_type: HvMessageType,
        sender: u64,
        payload: &T,
    ) -> Option<Self> {
        let bytes = payload.as_bytes();
        let mut message = Self::default();
        message
            .payload
            .get_mut(..bytes.len())?
            .copy_from_slice(bytes);
        message.header.message_type = message_type;
        message.header.payload_size = u8::try_from(bytes.len()).ok()?;
        message.header.sender = sender;
        Some(message)
    }

    /// The first bytes of the payload as a `T`, whatever the stated size. `None` if a `T` is larger than a payload.
    pub fn payload_as<T: FromBytes>(&self) -> Option<T> {
        T::read_from_prefix(&self.payload)
            .ok()
            .map(|(value, _)| value)
    }

    /// The bytes of the payload that count.
    pub fn payload_bytes(&self) -> &[u8] {
        let size = usize::from(self.header.payload_size).min(self.payload.len());
        self.payload.get(..size).unwrap_or(&[])
    }
}

wire_struct! {
    /// The SIM page of a VP: slot n is of SINTn (guest sheet 7.1).
    pub struct HvMessagePage [4096] {
        /// Slots.
        slots @ 0: [HvMessage; 16],
    }
}
