//! The header of an intercept message.

use crate::ids::HvVpIndex;
use crate::macros::wire_struct;
use crate::message::{HvInterceptAccessType, HvX64InstructionLengthAndCr8, HvX64VpExecutionState};
use crate::register::HvX64SegmentRegister;

wire_struct! {
    /// Start of the payload of every intercept that has one (`HV_X64_INTERCEPT_MESSAGE_HEADER`).
    ///
    /// The state is the one before the intercepted instruction: the hypervisor never advances RIP, the worker does.
    pub struct HvX64InterceptMessageHeader [40] {
        /// VP.
        vp_index @ 0: HvVpIndex,
        /// Length of the instruction, and CR8.
        instruction_length_and_cr8 @ 4: HvX64InstructionLengthAndCr8,
        /// What was attempted.
        intercept_access_type @ 5: HvInterceptAccessType,
        /// Mode of the VP.
        execution_state @ 6: HvX64VpExecutionState,
        /// CS.
        cs_segment @ 8: HvX64SegmentRegister,
        /// RIP of the intercepted instruction.
        rip @ 24: u64,
        /// RFLAGS.
        rflags @ 32: u64,
    }
}

impl HvX64InterceptMessageHeader {
    /// Length of the intercepted instruction in bytes; 0 if not known.
    pub const fn instruction_length(&self) -> u8 {
        self.instruction_length_and_cr8.instruction_length()
    }
}
