//! Translation of a child's virtual addresses (root sheet A.3.4).

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::{HvPartitionId, HvVpIndex};
use crate::macros::{wire_enum, wire_struct};

/// Control of TranslateVirtualAddress.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvTranslateGvaControlFlags {
    /// Check that the page can be read.
    pub validate_read: bool,
    /// Check that the page can be written.
    pub validate_write: bool,
    /// Check that the page can be executed.
    pub validate_execute: bool,
    /// Skip the check of the privilege level.
    pub privilege_exempt: bool,
    /// Set accessed and dirty bits in the page tables.
    pub set_page_table_bits: bool,
    /// Hold back TLB flushes to this VP until it is resumed.
    pub tlb_flush_inhibit: bool,
    /// As a supervisor access.
    pub supervisor_access: bool,
    /// As a user access.
    pub user_access: bool,
    /// Enforce SMAP.
    pub enforce_smap: bool,
    /// Override SMAP.
    pub override_smap: bool,
    /// As a shadow stack access.
    pub shadow_stack: bool,
    /// Zero.
    #[bits(45)]
    pub reserved: u64,
    /// Trust level, [`HvInputVtl`](crate::HvInputVtl).
    pub input_vtl: u8,
}

wire_enum! {
    /// Outcome of TranslateVirtualAddress.
    pub struct HvTranslateGvaResultCode(u32);
    SUCCESS = 0, "HvTranslateGvaSuccess";
    PAGE_NOT_PRESENT = 1, "HvTranslateGvaPageNotPresent";
    PRIVILEGE_VIOLATION = 2, "HvTranslateGvaPrivilegeViolation";
    INVALID_PAGE_TABLE_FLAGS = 3, "HvTranslateGvaInvalidPageTableFlags";
    GPA_UNMAPPED = 4, "HvTranslateGvaGpaUnmapped";
    GPA_NO_READ_ACCESS = 5, "HvTranslateGvaGpaNoReadAccess";
    GPA_NO_WRITE_ACCESS = 6, "HvTranslateGvaGpaNoWriteAccess";
    GPA_ILLEGAL_OVERLAY_ACCESS = 7, "HvTranslateGvaGpaIllegalOverlayAccess";
    INTERCEPT = 8, "HvTranslateGvaIntercept";
    GPA_UNACCEPTED = 9, "HvTranslateGvaGpaUnaccepted";
}

wire_struct! {
    /// Input of TranslateVirtualAddress.
    pub struct HvInputTranslateVirtualAddress [32] {
        /// Child.
        partition_id @ 0: HvPartitionId,
        /// VP.
        vp_index @ 8: HvVpIndex,
        /// Zero.
        padding @ 12: u32,
        /// How.
        control_flags @ 16: HvTranslateGvaControlFlags,
        /// Virtual page number.
        gva_page @ 24: u64,
    }
}

wire_struct! {
    /// Output of TranslateVirtualAddress.
    pub struct HvOutputTranslateVirtualAddress [16] {
        /// Outcome.
        result_code @ 0: HvTranslateGvaResultCode,
        /// Cache type of the page, an [`HvCacheType`](crate::HvCacheType) in one byte.
        cache_type @ 4: u8,
        /// Bit 0: an overlay page.
        overlay_page @ 5: u8,
        /// Zero.
        reserved @ 6: u16,
        /// Physical page number of the child.
        gpa_page @ 8: u64,
    }
}
