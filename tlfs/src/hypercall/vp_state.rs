//! State pages and bulk state of VPs (root sheet A.3.5).

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::{HvInputVtl, HvPartitionId, HvVpIndex};
use crate::macros::{wire_enum, wire_struct};
use crate::time::HvStimerConfig;

wire_enum! {
    /// Page that MapVpStatePage exposes.
    pub struct HvVpStatePageType(u16);
    /// [`HvX64RegisterPage`](crate::HvX64RegisterPage).
    REGISTERS = 0, "HvVpStatePageRegisters";
    /// [`HvMessage`](crate::HvMessage) at offset 0.
    INTERCEPT_MESSAGE = 1, "HvVpStatePageInterceptMessage";
    GHCB = 2, "HvVpStatePageGhcb";
}

/// Flags of MapVpStatePage.
#[bitfield(u8)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvMapVpStatePageFlags {
    /// The caller says where: `requested_page`. Linux leaves it to the hypervisor.
    pub map_location_provided: bool,
    /// Zero.
    #[bits(7)]
    pub reserved: u8,
}

wire_struct! {
    /// Input of MapVpStatePage.
    pub struct HvInputMapVpStatePage [24] {
        /// Child.
        partition_id @ 0: HvPartitionId,
        /// VP.
        vp_index @ 8: HvVpIndex,
        /// Which page.
        page_type @ 12: HvVpStatePageType,
        /// Trust level.
        input_vtl @ 14: HvInputVtl,
        /// How.
        flags @ 15: HvMapVpStatePageFlags,
        /// Page number of the caller, if the flags say so.
        requested_page @ 16: u64,
    }
}

wire_struct! {
    /// Output of MapVpStatePage.
    pub struct HvOutputMapVpStatePage [8] {
        /// Page number of the caller.
        map_location @ 0: u64,
    }
}

wire_struct! {
    /// Input of UnmapVpStatePage.
    pub struct HvInputUnmapVpStatePage [16] {
        /// Child.
        partition_id @ 0: HvPartitionId,
        /// VP.
        vp_index @ 8: HvVpIndex,
        /// Which page.
        page_type @ 12: HvVpStatePageType,
        /// Trust level.
        input_vtl @ 14: HvInputVtl,
        /// Zero.
        reserved @ 15: u8,
    }
}

wire_enum! {
    /// State of Get/SetVpState. Bit 31: it goes through pages that the caller lists.
    pub struct HvGetSetVpStateType(u32);
    /// [`HvLocalInterruptControllerState`].
    LOCAL_INTERRUPT_CONTROLLER_STATE = 0x8000_0000, "HvGetSetVpStateLocalInterruptControllerState";
    /// Compacted XSAVE area.
    XSAVE = 0x8000_0001, "HvGetSetVpStateXsave";
    /// SIM page.
    SYNTHETIC_MESSAGE_PAGE = 0x8000_0002, "HvGetSetVpStateSynicMessagePage";
    /// SIEF page.
    SYNTHETIC_EVENT_FLAGS_PAGE = 0x8000_0003, "HvGetSetVpStateSynicEventFlagsPage";
    /// [`HvSyntheticTimersState`], in the block itself.
    SYNTHETIC_TIMERS = 0x0000_0004, "HvGetSetVpStateSyntheticTimers";
}

impl HvGetSetVpStateType {
    /// Whether the state goes through pages that the caller lists.
    pub const fn through_pages(self) -> bool {
        self.0 & 0x8000_0000 != 0
    }
}

wire_struct! {
    /// Which state, and for XSAVE how much of it.
    pub struct HvVpStateData [24] {
        /// State.
        state_type @ 0: HvGetSetVpStateType,
        /// Zero.
        reserved @ 4: u32,
        /// Flags of XSAVE.
        xsave_flags @ 8: u64,
        /// States of XSAVE.
        xsave_states @ 16: u64,
    }
}

wire_struct! {
    /// Input of GetVpState and SetVpState. Variable header: u64 page numbers of the caller, possibly more than
    /// needed; or, without bit 31 in the type, the state itself (set) and nothing (get: it goes to the output block).
    pub struct HvInputVpState [40] {
        /// Child.
        partition_id @ 0: HvPartitionId,
        /// VP.
        vp_index @ 8: HvVpIndex,
        /// Trust level.
        input_vtl @ 12: HvInputVtl,
        /// Zero.
        reserved @ 13: [u8; 3],
        /// Which state.
        state_data @ 16: HvVpStateData,
    }
}

wire_struct! {
    /// State of a local APIC (`HV_LOCAL_INTERRUPT_CONTROLLER_STATE`).
    pub struct HvLocalInterruptControllerState [176] {
        /// ID.
        apic_id @ 0: u32,
        /// Version.
        apic_version @ 4: u32,
        /// Logical destination.
        apic_ldr @ 8: u32,
        /// Destination format.
        apic_dfr @ 12: u32,
        /// Spurious vector.
        apic_spurious @ 16: u32,
        /// In service, bits 31:0 first.
        apic_isr @ 20: [u32; 8],
        /// Trigger mode.
        apic_tmr @ 52: [u32; 8],
        /// Requested.
        apic_irr @ 84: [u32; 8],
        /// Error status.
        apic_esr @ 116: u32,
        /// Interrupt command, high half.
        apic_icr_high @ 120: u32,
        /// Interrupt command, low half.
        apic_icr_low @ 124: u32,
        /// LVT timer.
        apic_lvt_timer @ 128: u32,
        /// LVT thermal.
        apic_lvt_thermal @ 132: u32,
        /// LVT performance counters.
        apic_lvt_perfmon @ 136: u32,
        /// LVT LINT0.
        apic_lvt_lint0 @ 140: u32,
        /// LVT LINT1.
        apic_lvt_lint1 @ 144: u32,
        /// LVT error.
        apic_lvt_error @ 148: u32,
        /// LVT CMCI.
        apic_lvt_cmci @ 152: u32,
        /// Errors not yet shown in ESR.
        apic_error_status @ 156: u32,
        /// Timer, initial count.
        apic_initial_count @ 160: u32,
        /// Timer, current count.
        apic_counter_value @ 164: u32,
        /// Timer, divide configuration.
        apic_divide_configuration @ 168: u32,
        /// Remote read.
        apic_remote_read @ 172: u32,
    }
}

wire_struct! {
    /// State of a synthetic timer.
    pub struct HvStimerState [40] {
        /// Bit 0: a message waits to be delivered.
        flags @ 0: u32,
        /// Zero.
        reserved @ 4: u32,
        /// Configuration.
        config @ 8: HvStimerConfig,
        /// Count.
        count @ 16: u64,
        /// Time not counted, 100 ns.
        adjustment @ 24: u64,
        /// Expiration time of the message that waits.
        undelivered_expiration_time @ 32: u64,
    }
}

wire_struct! {
    /// State of a VP's synthetic timers.
    pub struct HvSyntheticTimersState [200] {
        /// Timers.
        timers @ 0: [HvStimerState; 4],
        /// Zero.
        reserved @ 160: [u64; 5],
    }
}
