//! Memory pool and GPA space (root sheet A.3.2, A.3.3, A.4).

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::gpa::{HvGpaPageAccessStateFlags, HvMapGpaFlags, HvUnmapGpaFlags};
use crate::ids::{HvPartitionId, HvProximityDomainInfo, HvVpIndex};
use crate::macros::{wire_enum, wire_struct};

wire_struct! {
    /// Input of DepositMemory. List: u64 page numbers of the caller.
    pub struct HvInputDepositMemory [8] {
        /// Whose pool.
        partition_id @ 0: HvPartitionId,
    }
}

wire_struct! {
    /// Input of WithdrawMemory. Output list: u64 page numbers of the caller.
    pub struct HvInputWithdrawMemory [16] {
        /// Whose pool.
        partition_id @ 0: HvPartitionId,
        /// Where from.
        proximity_domain_info @ 8: HvProximityDomainInfo,
    }
}

wire_struct! {
    /// Input of GetMemoryBalance.
    pub struct HvInputGetMemoryBalance [16] {
        /// Whose pool.
        partition_id @ 0: HvPartitionId,
        /// Where.
        proximity_domain_info @ 8: HvProximityDomainInfo,
    }
}

wire_struct! {
    /// Output of GetMemoryBalance. The published table prints both at 0: misprint.
    pub struct HvOutputGetMemoryBalance [16] {
        /// Pages that can be withdrawn.
        pages_available @ 0: u64,
        /// Pages in use.
        pages_in_use @ 8: u64,
    }
}

wire_struct! {
    /// Input of MapGpaPages. List: u64 page numbers of the caller.
    ///
    /// The published table prints the flags as 8 bytes; they are 4, and Linux leaves garbage in the padding.
    pub struct HvInputMapGpaPages [24] {
        /// Child.
        target_partition_id @ 0: HvPartitionId,
        /// First page of the child, in 4 KiB.
        target_gpa_base @ 8: u64,
        /// How.
        map_flags @ 16: HvMapGpaFlags,
        /// Not checked.
        padding @ 20: u32,
    }
}

wire_struct! {
    /// Input of UnmapGpaPages. The rep count is the number of pages; there is no list.
    pub struct HvInputUnmapGpaPages [24] {
        /// Child.
        target_partition_id @ 0: HvPartitionId,
        /// First page of the child, in 4 KiB.
        target_gpa_base @ 8: u64,
        /// How.
        unmap_flags @ 16: HvUnmapGpaFlags,
        /// Not checked: Linux leaves garbage.
        padding @ 20: u32,
    }
}

wire_struct! {
    /// Input of GetGpaPagesAccessStates. Output list: one [`HvGpaPageAccessState`](crate::HvGpaPageAccessState) a page.
    pub struct HvInputGetGpaPagesAccessState [24] {
        /// Child.
        partition_id @ 0: HvPartitionId,
        /// What to change after the report.
        flags @ 8: HvGpaPageAccessStateFlags,
        /// First page.
        gpa_page_number @ 16: u64,
    }
}

/// Most bytes of a ReadGpa or WriteGpa.
pub const HV_READ_WRITE_GPA_MAX_SIZE: usize = 16;

/// Control flags of ReadGpa and WriteGpa.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvAccessGpaControlFlags {
    /// Cache type of the access.
    pub cache_type: u8,
    /// Zero.
    #[bits(56)]
    pub reserved: u64,
}

wire_enum! {
    /// Outcome of ReadGpa and WriteGpa.
    pub struct HvAccessGpaResultCode(u32);
    SUCCESS = 0, "HvAccessGpaSuccess";
    UNMAPPED = 1, "HvAccessGpaUnmapped";
    READ_INTERCEPT = 2, "HvAccessGpaReadIntercept";
    WRITE_INTERCEPT = 3, "HvAccessGpaWriteIntercept";
    ILLEGAL_OVERLAY_ACCESS = 4, "HvAccessGpaIllegalOverlayAccess";
}

wire_struct! {
    /// Input of ReadGpa.
    pub struct HvInputReadGpa [32] {
        /// Child.
        partition_id @ 0: HvPartitionId,
        /// VP on whose behalf.
        vp_index @ 8: HvVpIndex,
        /// Bytes, at most [`HV_READ_WRITE_GPA_MAX_SIZE`].
        byte_count @ 12: u32,
        /// Address.
        base_gpa @ 16: u64,
        /// How.
        control_flags @ 24: HvAccessGpaControlFlags,
    }
}

wire_struct! {
    /// Output of ReadGpa.
    pub struct HvOutputReadGpa [24] {
        /// Outcome.
        result_code @ 0: HvAccessGpaResultCode,
        /// Zero.
        reserved @ 4: u32,
        /// Data.
        data @ 8: [u8; 16],
    }
}

wire_struct! {
    /// Input of WriteGpa.
    pub struct HvInputWriteGpa [48] {
        /// Child.
        partition_id @ 0: HvPartitionId,
        /// VP on whose behalf.
        vp_index @ 8: HvVpIndex,
        /// Bytes, at most [`HV_READ_WRITE_GPA_MAX_SIZE`].
        byte_count @ 12: u32,
        /// Address.
        base_gpa @ 16: u64,
        /// How.
        control_flags @ 24: HvAccessGpaControlFlags,
        /// Data.
        data @ 32: [u8; 16],
    }
}

wire_struct! {
    /// Output of WriteGpa.
    pub struct HvOutputWriteGpa [8] {
        /// Outcome.
        result_code @ 0: HvAccessGpaResultCode,
        /// Zero.
        reserved @ 4: u32,
    }
}
