//! Asserting interrupts (root sheet A.3.6).

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::{HvInputVtl, HvPartitionId};
use crate::macros::{wire_enum, wire_struct};

wire_enum! {
    /// Type of an interrupt: the APIC's delivery modes, and the two local pins.
    pub struct HvInterruptType(u32);
    FIXED = 0, "HvX64InterruptTypeFixed";
    LOWEST_PRIORITY = 1, "HvX64InterruptTypeLowestPriority";
    SMI = 2, "HvX64InterruptTypeSmi";
    REMOTE_READ = 3, "HvX64InterruptTypeRemoteRead";
    NMI = 4, "HvX64InterruptTypeNmi";
    INIT = 5, "HvX64InterruptTypeInit";
    SIPI = 6, "HvX64InterruptTypeSipi";
    EXT_INT = 7, "HvX64InterruptTypeExtInt";
    LOCAL_INT0 = 8, "HvX64InterruptTypeLocalInt0";
    LOCAL_INT1 = 9, "HvX64InterruptTypeLocalInt1";
}

/// How an interrupt is asserted.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvInterruptControl {
    /// Type.
    #[bits(32)]
    pub interrupt_type: HvInterruptType,
    /// Level: its end is reported by an APIC EOI message.
    pub level_triggered: bool,
    /// The destination is logical.
    pub logical_dest_mode: bool,
    /// Zero.
    #[bits(30)]
    pub reserved: u32,
}

wire_struct! {
    /// Input of AssertVirtualInterrupt.
    pub struct HvInputAssertVirtualInterrupt [32] {
        /// Child.
        partition_id @ 0: HvPartitionId,
        /// How.
        control @ 8: HvInterruptControl,
        /// APIC id, or logical destination.
        dest_addr @ 16: u64,
        /// Vector.
        vector @ 24: u32,
        /// Trust level.
        target_vtl @ 28: HvInputVtl,
        /// Zero.
        reserved @ 29: [u8; 3],
    }
}
