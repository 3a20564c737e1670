//! The synthetic interrupt controller: its registers and pages (guest sheet 4.9 and 7, root sheet C.2 and C.3).

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::macros::wire_struct;

/// SINT of intercepts, scheduler messages, async completions and doorbell notices in the root.
pub const HV_SYNIC_INTERCEPTION_SINT_INDEX: u8 = 0;
/// SINT of IOMMU faults.
pub const HV_SYNIC_IOMMU_FAULT_SINT_INDEX: u8 = 1;
/// SINT of VMBus.
pub const HV_SYNIC_VMBUS_SINT_INDEX: u8 = 2;
/// SINT of doorbells in a Linux root.
pub const HV_SYNIC_DOORBELL_SINT_INDEX: u8 = 5;
/// Version in MSR SVERSION.
pub const HV_SYNIC_VERSION: u64 = 1;
/// Event flags of a SINT.
pub const HV_EVENT_FLAGS_COUNT: u16 = 2048;
/// Lowest vector that a SINT that is not masked may have.
pub const HV_SYNIC_SINT_MIN_VECTOR: u8 = 16;

/// MSR SINTn.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvSynicSint {
    /// Vector; at least 16 when not masked.
    pub vector: u8,
    /// To be preserved.
    pub reserved_8: u8,
    /// Masked. The state after reset.
    pub masked: bool,
    /// The interrupt ends itself.
    pub auto_eoi: bool,
    /// No interrupt: the guest polls.
    pub polling: bool,
    /// Send SYNIC_SINT_INTERCEPT through SINT0 instead of the vector.
    pub as_intercept: bool,
    /// Proxy.
    pub proxy: bool,
    /// To be preserved.
    #[bits(43)]
    pub reserved_21: u64,
}

impl HvSynicSint {
    /// Value after reset: masked, vector 0.
    pub const RESET: Self = Self::from_bits(0x1_0000);
}

/// MSR SCONTROL.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvSynicScontrol {
    /// The SynIC is on.
    pub enabled: bool,
    /// To be preserved.
    #[bits(63)]
    pub reserved: u64,
}

/// MSRs that place a page: SIMP, SIEFP, SIRBP, VP_ASSIST_PAGE, REFERENCE_TSC.
///
/// For a child the guest chooses the frame. For the root the hypervisor does: a read gives it before the page is
/// enabled, and attempts to move it are ignored (root sheet F.3).
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvPageMsr {
    /// The page is there.
    pub enabled: bool,
    /// To be preserved.
    #[bits(11)]
    pub reserved: u16,
    /// Page number of the guest.
    #[bits(52)]
    pub gpfn: u64,
}

/// MSR HYPERCALL (guest sheet 4.2).
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvHypercallMsr {
    /// The page is there. Stays 0 while the guest OS id is 0.
    pub enabled: bool,
    /// Later writes do nothing until reset.
    pub locked: bool,
    /// To be preserved.
    #[bits(10)]
    pub reserved: u16,
    /// Page number of the guest.
    #[bits(52)]
    pub gpfn: u64,
}

wire_struct! {
    /// Event flags of a SINT: flag n is bit n % 8 of byte n / 8.
    pub struct HvEventFlags [256] {
        /// Flags.
        flags @ 0: [u64; 32],
    }
}

wire_struct! {
    /// The SIEF page of a VP: one block for each SINT.
    pub struct HvEventFlagsPage [4096] {
        /// Blocks.
        slots @ 0: [HvEventFlags; 16],
    }
}

wire_struct! {
    /// Ring of the ports signalled on a SINT (root sheet C.3).
    pub struct HvSynicEventRing [256] {
        /// 1: the consumer is active and will look again; send no notice.
        signal_masked @ 0: u8,
        /// 1: ports wait that did not fit; the consumer calls NotifyPortRingEmpty.
        ring_full @ 1: u8,
        /// Zero.
        reserved @ 2: u16,
        /// Port ids; 0 is an empty entry, which the consumer makes of each that it takes.
        data @ 4: [u32; 63],
    }
}

wire_struct! {
    /// The event ring page of a VP: one ring for each SINT.
    pub struct HvSynicEventRingPage [4096] {
        /// Rings.
        rings @ 0: [HvSynicEventRing; 16],
    }
}
