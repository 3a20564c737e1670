//! Status codes of hypercalls (TLFS `HV_STATUS`; root sheet A.2, guest sheet 5.5).

use crate::macros::wire_enum;

/// What the operations of the interface return: a value, or the status to report.
pub type HvResult<T> = Result<T, HvStatus>;

wire_enum! {
    /// Status of a hypercall, bits 15:0 of the result word.
    ///
    /// The value matters to Linux: it maps it to an errno, and retries after depositing memory for the four
    /// "insufficient memory" codes (see [`HvStatus::memory_shortage`]).
    pub struct HvStatus(u16);
    /// Done.
    SUCCESS = 0x0000, "HV_STATUS_SUCCESS";
    /// The call code is unknown, or the partition may not use it.
    INVALID_HYPERCALL_CODE = 0x0002, "HV_STATUS_INVALID_HYPERCALL_CODE";
    /// The control word is malformed: reserved bits, rep count, variable header.
    INVALID_HYPERCALL_INPUT = 0x0003, "HV_STATUS_INVALID_HYPERCALL_INPUT";
    /// A parameter block or a parameter is not aligned.
    INVALID_ALIGNMENT = 0x0004, "HV_STATUS_INVALID_ALIGNMENT";
    /// A parameter has an invalid value.
    INVALID_PARAMETER = 0x0005, "HV_STATUS_INVALID_PARAMETER";
    /// The caller lacks the privilege or is not the parent.
    ACCESS_DENIED = 0x0006, "HV_STATUS_ACCESS_DENIED";
    /// The partition is in the wrong state, for example initialized already.
    INVALID_PARTITION_STATE = 0x0007, "HV_STATUS_INVALID_PARTITION_STATE";
    /// The operation is not allowed now: children exist, pool not drained, too few rights.
    OPERATION_DENIED = 0x0008, "HV_STATUS_OPERATION_DENIED";
    /// The property code is unknown.
    UNKNOWN_PROPERTY = 0x0009, "HV_STATUS_UNKNOWN_PROPERTY";
    /// The value is not one that the property can have.
    PROPERTY_VALUE_OUT_OF_RANGE = 0x000A, "HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE";
    /// The partition's pool is empty: deposit one page and repeat.
    INSUFFICIENT_MEMORY = 0x000B, "HV_STATUS_INSUFFICIENT_MEMORY";
    /// Partitions are nested too deeply.
    PARTITION_TOO_DEEP = 0x000C, "HV_STATUS_PARTITION_TOO_DEEP";
    /// No such partition.
    INVALID_PARTITION_ID = 0x000D, "HV_STATUS_INVALID_PARTITION_ID";
    /// No such virtual processor, or it exists already.
    INVALID_VP_INDEX = 0x000E, "HV_STATUS_INVALID_VP_INDEX";
    /// Not found.
    NOT_FOUND = 0x0010, "HV_STATUS_NOT_FOUND";
    /// No such port, in use, or connected already.
    INVALID_PORT_ID = 0x0011, "HV_STATUS_INVALID_PORT_ID";
    /// No such connection, or in use.
    INVALID_CONNECTION_ID = 0x0012, "HV_STATUS_INVALID_CONNECTION_ID";
    /// The port has no free message buffer: try again later.
    INSUFFICIENT_BUFFERS = 0x0013, "HV_STATUS_INSUFFICIENT_BUFFERS";
    /// The external interrupt has not been acknowledged.
    NOT_ACKNOWLEDGED = 0x0014, "HV_STATUS_NOT_ACKNOWLEDGED";
    /// The virtual processor must be suspended, or must not be.
    INVALID_VP_STATE = 0x0015, "HV_STATUS_INVALID_VP_STATE";
    /// The external interrupt was acknowledged already.
    ACKNOWLEDGED = 0x0016, "HV_STATUS_ACKNOWLEDGED";
    /// Saved state is not consistent.
    INVALID_SAVE_RESTORE_STATE = 0x0017, "HV_STATUS_INVALID_SAVE_RESTORE_STATE";
    /// The synthetic interrupt controller, or its page, is off.
    INVALID_SYNIC_STATE = 0x0018, "HV_STATUS_INVALID_SYNIC_STATE";
    /// The object (page, slot, buffer) has another use.
    OBJECT_IN_USE = 0x0019, "HV_STATUS_OBJECT_IN_USE";
    /// The proximity domain is not valid.
    INVALID_PROXIMITY_DOMAIN_INFO = 0x001A, "HV_STATUS_INVALID_PROXIMITY_DOMAIN_INFO";
    /// There is no data.
    NO_DATA = 0x001B, "HV_STATUS_NO_DATA";
    /// Inactive.
    INACTIVE = 0x001C, "HV_STATUS_INACTIVE";
    /// A limit is reached. Ends Linux's loop of memory withdrawals.
    NO_RESOURCES = 0x001D, "HV_STATUS_NO_RESOURCES";
    /// The feature is not available.
    FEATURE_UNAVAILABLE = 0x001E, "HV_STATUS_FEATURE_UNAVAILABLE";
    /// Only part of the packet fitted (debugger calls).
    PARTIAL_PACKET = 0x001F, "HV_STATUS_PARTIAL_PACKET";
    /// The processor lacks the feature.
    PROCESSOR_FEATURE_NOT_SUPPORTED = 0x0020, "HV_STATUS_PROCESSOR_FEATURE_NOT_SUPPORTED";
    /// The processor's cache line flush size is incompatible.
    PROCESSOR_CACHE_LINE_FLUSH_SIZE_INCOMPATIBLE = 0x0030, "HV_STATUS_PROCESSOR_CACHE_LINE_FLUSH_SIZE_INCOMPATIBLE";
    /// The caller's buffer is too small.
    INSUFFICIENT_BUFFER = 0x0033, "HV_STATUS_INSUFFICIENT_BUFFER";
    /// The processor is incompatible.
    INCOMPATIBLE_PROCESSOR = 0x0037, "HV_STATUS_INCOMPATIBLE_PROCESSOR";
    /// No such logical processor, or not started.
    INVALID_LP_INDEX = 0x0041, "HV_STATUS_INVALID_LP_INDEX";
    /// The register cannot have this value.
    INVALID_REGISTER_VALUE = 0x0050, "HV_STATUS_INVALID_REGISTER_VALUE";
    /// The virtual trust level is in the wrong state.
    INVALID_VTL_STATE = 0x0051, "HV_STATUS_INVALID_VTL_STATE";
    /// No such device.
    INVALID_DEVICE_ID = 0x0057, "HV_STATUS_INVALID_DEVICE_ID";
    /// The device is in the wrong state.
    INVALID_DEVICE_STATE = 0x0058, "HV_STATUS_INVALID_DEVICE_STATE";
    /// The operation failed.
    OPERATION_FAILED = 0x0071, "HV_STATUS_OPERATION_FAILED";
    /// The root's own pool is empty: deposit one page to SELF and repeat.
    INSUFFICIENT_ROOT_MEMORY = 0x0073, "HV_STATUS_INSUFFICIENT_ROOT_MEMORY";
    /// The event log buffer is free already.
    EVENT_BUFFER_ALREADY_FREED = 0x0074, "HV_STATUS_EVENT_BUFFER_ALREADY_FREED";
    /// The pool has no contiguous memory: deposit eight pages and repeat.
    INSUFFICIENT_CONTIGUOUS_MEMORY = 0x0075, "HV_STATUS_INSUFFICIENT_CONTIGUOUS_MEMORY";
    /// Timed out.
    TIME_OUT = 0x0078, "HV_STATUS_TIME_OUT";
    /// The call goes on; an async completion message follows.
    CALL_PENDING = 0x0079, "HV_STATUS_CALL_PENDING";
    /// The root's own pool has no contiguous memory: deposit eight pages to SELF and repeat.
    INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY = 0x0083, "HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY";
    /// The virtual trust level is enabled already.
    VTL_ALREADY_ENABLED = 0x0086, "HV_STATUS_VTL_ALREADY_ENABLED";
    /// The register name is unknown.
    UNKNOWN_REGISTER_NAME = 0x0087, "HV_STATUS_UNKNOWN_REGISTER_NAME";
}

/// What the caller of a hypercall has to deposit before it repeats the call (root sheet A.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShortage {
    /// Pages to deposit: 1, or 8 when contiguous memory is missing.
    pub pages: usize,
    /// Whether the pool concerned is the caller's own (deposit to SELF) rather than the one of the call's target.
    pub own_pool: bool,
}

impl HvStatus {
    /// `Ok(())` for SUCCESS, the status as the error otherwise.
    pub const fn into_result(self) -> HvResult<()> {
        if self.is_success() { Ok(()) } else { Err(self) }
    }

    /// Whether this is SUCCESS.
    pub const fn is_success(self) -> bool {
        self.0 == Self::SUCCESS.0
    }

    /// What a deposit must bring before the call can be repeated; `None` for a status that memory does not cure.
    pub const fn memory_shortage(self) -> Option<MemoryShortage> {
        let (pages, own_pool) = match self {
            Self::INSUFFICIENT_MEMORY => (1, false),
            Self::INSUFFICIENT_CONTIGUOUS_MEMORY => (8, false),
            Self::INSUFFICIENT_ROOT_MEMORY => (1, true),
            Self::INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY => (8, true),
            _ => return None,
        };
        Some(MemoryShortage { pages, own_pool })
    }
}

impl core::fmt::Display for HvStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self, f)
    }
}

impl core::error::Error for HvStatus {}
