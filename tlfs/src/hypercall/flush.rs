//! TLB flushes and inter-processor interrupts (guest sheet 6.3 to 6.5).

use crate::ids::HvInputVtl;
use crate::macros::{wire_flags, wire_struct};
use crate::vp_set::HvVpSetHeader;

wire_flags! {
    /// What to flush.
    pub struct HvFlushFlags(u64);
    /// On all processors, whatever the mask.
    ALL_PROCESSORS = 1 << 0;
    /// In all address spaces, whatever the address space.
    ALL_VIRTUAL_ADDRESS_SPACES = 1 << 1;
    /// Only mappings that are not global.
    NON_GLOBAL_MAPPINGS_ONLY = 1 << 2;
    /// Ranges are in the extended form.
    USE_EXTENDED_RANGE_FORMAT = 1 << 3;
}

wire_struct! {
    /// Input of FlushVirtualAddressSpace and FlushVirtualAddressList (list: [`HvGvaRange`]).
    pub struct HvInputFlushVirtualAddressSpace [24] {
        /// CR3 without PCID bits.
        address_space @ 0: u64,
        /// What.
        flags @ 8: HvFlushFlags,
        /// Bit n: VP n.
        processor_mask @ 16: u64,
    }
}

wire_struct! {
    /// Input of FlushVirtualAddressSpaceEx and FlushVirtualAddressListEx. Variable header: the set's banks; the list
    /// ([`HvGvaRange`]) follows them.
    pub struct HvInputFlushVirtualAddressSpaceEx [32] {
        /// CR3 without PCID bits.
        address_space @ 0: u64,
        /// What.
        flags @ 8: HvFlushFlags,
        /// Processors.
        processor_set @ 16: HvVpSetHeader,
    }
}

/// A range of virtual addresses to flush.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(transparent)]
pub struct HvGvaRange(pub u64);

impl HvGvaRange {
    /// First address: bits 63:12.
    pub const fn start(self) -> u64 {
        self.0 & !0xFFF
    }

    /// Pages, 1 to 4096: bits 11:0 count those after the first.
    pub const fn page_count(self) -> u64 {
        (self.0 & 0xFFF) + 1
    }
}

wire_struct! {
    /// Input of SendSyntheticClusterIpi. Linux passes it fast.
    pub struct HvInputSendSyntheticClusterIpi [16] {
        /// Vector, 0x10 to 0xFF.
        vector @ 0: u32,
        /// Trust level.
        target_vtl @ 4: HvInputVtl,
        /// Zero.
        reserved @ 5: [u8; 3],
        /// Bit n: VP n.
        processor_mask @ 8: u64,
    }
}

wire_struct! {
    /// Input of SendSyntheticClusterIpiEx. Variable header: the set's banks.
    pub struct HvInputSendSyntheticClusterIpiEx [24] {
        /// Vector, 0x10 to 0xFF.
        vector @ 0: u32,
        /// Trust level.
        target_vtl @ 4: HvInputVtl,
        /// Zero.
        reserved @ 5: [u8; 3],
        /// Processors.
        processor_set @ 8: HvVpSetHeader,
    }
}

/// Lowest vector of the cluster IPI calls.
pub const HV_IPI_LOW_VECTOR: u32 = 0x10;
/// Highest vector of the cluster IPI calls.
pub const HV_IPI_HIGH_VECTOR: u32 = 0xFF;

wire_struct! {
    /// Input of NotifyLongSpinWait. Fast.
    pub struct HvInputNotifyLongSpinWait [8] {
        /// How often the VP has spun.
        spin_count @ 0: u32,
        /// Zero.
        reserved @ 4: u32,
    }
}

wire_struct! {
    /// Output of ExtCallQueryCapabilities.
    pub struct HvOutputQueryCapabilities [8] {
        /// Bit 8: memory heat hints. 0 is fine.
        capabilities @ 0: u64,
    }
}
