//! The VP assist page (guest sheet 4.8).

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::macros::wire_struct;
use crate::message::HvMessage;

/// First word of the VP assist page.
#[bitfield(u32)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvVirtualApicAssist {
    /// The interrupt in service needs no EOI. Never setting it is correct.
    pub no_eoi_required: bool,
    /// Zero.
    #[bits(31)]
    pub reserved: u32,
}

wire_struct! {
    /// The VP assist page.
    pub struct HvVpAssistPage [4096] {
        /// Lazy EOI.
        apic_assist @ 0: HvVirtualApicAssist,
        /// Zero.
        reserved_4 @ 4: u32,
        /// Why the trust level was entered.
        vtl_entry_reason @ 8: u32,
        /// Zero.
        vtl_reserved @ 12: u32,
        /// RAX of the return to the lower level.
        vtl_ret_x64_rax @ 16: u64,
        /// RCX of the return to the lower level.
        vtl_ret_x64_rcx @ 24: u64,
        /// Nested enlightenments control.
        nested_control @ 32: u64,
        /// Enlightened VM entry.
        enlighten_vmentry @ 40: u8,
        /// Zero.
        reserved_41 @ 41: [u8; 7],
        /// Current nested VMCS.
        current_nested_vmcs @ 48: u64,
        /// The time-unhalted timer has expired.
        synthetic_time_unhalted_timer_expired @ 56: u8,
        /// Zero.
        reserved_57 @ 57: [u8; 7],
        /// Virtualization fault information.
        virtualization_fault_information @ 64: [u8; 40],
        /// Zero.
        reserved_104 @ 104: u64,
        /// Intercept message for the trust level above.
        intercept_message @ 112: HvMessage,
        /// VTL return actions.
        vtl_return_actions @ 368: [u8; 256],
        /// Rest of the page.
        unused @ 624: [u8; 3472],
    }
}
