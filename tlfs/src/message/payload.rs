//! The other payloads: state of a VP, SynIC, timers, async calls, scheduler.

use crate::ids::{HvPartitionId, HvVpIndex};
use crate::macros::{wire_enum, wire_struct};
use crate::message::HvX64InterceptMessageHeader;

wire_struct! {
    /// Payload of OPAQUE_INTERCEPT: the real message lies in the VP's intercept message page.
    pub struct HvOpaqueInterceptMessage [4] {
        /// VP.
        vp_index @ 0: HvVpIndex,
    }
}

wire_struct! {
    /// Payload of TIMER_EXPIRED (guest sheet 7.1).
    pub struct HvTimerMessagePayload [24] {
        /// Synthetic timer, 0 to 3.
        timer_index @ 0: u32,
        /// Zero.
        reserved @ 4: u32,
        /// When it expired, reference time in 100 ns.
        expiration_time @ 8: u64,
        /// When the message was delivered, reference time in 100 ns.
        delivery_time @ 16: u64,
    }
}

wire_struct! {
    /// Payload of INVALID_VP_REGISTER_VALUE: hardware refuses the VP's state.
    pub struct HvX64InvalidVpRegisterMessage [8] {
        /// VP.
        vp_index @ 0: HvVpIndex,
        /// Zero.
        reserved @ 4: u32,
    }
}

wire_struct! {
    /// Payload of UNRECOVERABLE_EXCEPTION: triple fault.
    pub struct HvX64UnrecoverableExceptionMessage [40] {
        /// Header.
        header @ 0: HvX64InterceptMessageHeader,
    }
}

wire_enum! {
    /// What the hypervisor cannot emulate.
    pub struct HvX64UnsupportedFeatureCode(u32);
    INTERCEPT = 1, "HvUnsupportedFeatureIntercept";
    TASK_SWITCH_TSS = 2, "HvUnsupportedFeatureTaskSwitchTss";
}

wire_struct! {
    /// Payload of UNSUPPORTED_FEATURE.
    pub struct HvX64UnsupportedFeatureMessage [16] {
        /// VP.
        vp_index @ 0: HvVpIndex,
        /// What it was.
        feature_code @ 4: HvX64UnsupportedFeatureCode,
        /// Depends on the code.
        feature_parameter @ 8: u64,
    }
}

wire_struct! {
    /// Payload of SYNIC_SINT_INTERCEPT: a SINT with `as_intercept` fired.
    pub struct HvX64SynicSintInterceptMessage [4] {
        /// SINT.
        sint_index @ 0: u32,
    }
}

wire_struct! {
    /// Payload of SYNIC_SINT_DELIVERABLE: slots asked for in DeliverabilityNotifications are free.
    pub struct HvX64SynicSintDeliverableMessage [48] {
        /// Header.
        header @ 0: HvX64InterceptMessageHeader,
        /// Bit n: SINTn.
        deliverable_sints @ 40: u16,
        /// Zero.
        reserved @ 42: [u16; 3],
    }
}

wire_struct! {
    /// Payload of ASYNC_CALL_COMPLETION.
    pub struct HvAsyncCompletionMessage [24] {
        /// Partition whose call is complete.
        partition_id @ 0: HvPartitionId,
        /// Status.
        status @ 8: u32,
        /// Reps completed.
        completion_count @ 12: u32,
        /// Further status.
        sub_status @ 16: u64,
    }
}

wire_struct! {
    /// Payload of X64_APIC_EOI: a level interrupt asserted by AssertVirtualInterrupt has ended.
    pub struct HvX64ApicEoiMessage [8] {
        /// VP.
        vp_index @ 0: HvVpIndex,
        /// Vector.
        interrupt_vector @ 4: u32,
    }
}

wire_struct! {
    /// Payload of X64_HALT.
    pub struct HvX64HaltMessage [40] {
        /// Header.
        header @ 0: HvX64InterceptMessageHeader,
    }
}

wire_enum! {
    /// What has become deliverable; also the type in PendingInterruption.
    pub struct HvX64PendingInterruptionType(u8);
    INTERRUPT = 0, "HvX64PendingInterrupt";
    NMI = 2, "HvX64PendingNmi";
    EXCEPTION = 3, "HvX64PendingException";
    SOFTWARE_INTERRUPT = 4, "HvX64PendingSoftwareInterrupt";
    PRIVILEGED_SOFTWARE_EXCEPTION = 5, "HvX64PendingPrivilegedSoftwareException";
    SOFTWARE_EXCEPTION = 6, "HvX64PendingSoftwareException";
}

wire_struct! {
    /// Payload of X64_INTERRUPTION_DELIVERABLE.
    pub struct HvX64InterruptionDeliverableMessage [48] {
        /// Header.
        header @ 0: HvX64InterceptMessageHeader,
        /// INTERRUPT or NMI. Linux's header has 32 bits here, which is the same in little-endian order.
        deliverable_type @ 40: HvX64PendingInterruptionType,
        /// Zero.
        reserved @ 41: [u8; 7],
    }
}

wire_struct! {
    /// Payload of X64_SIPI_INTERCEPT.
    pub struct HvX64SipiInterceptMessage [48] {
        /// Header.
        header @ 0: HvX64InterceptMessageHeader,
        /// VP that the SIPI is for.
        target_vp_index @ 40: HvVpIndex,
        /// Its vector.
        interrupt_vector @ 44: u32,
    }
}

wire_struct! {
    /// Payload of SCHEDULER_VP_SIGNAL_BITSET (root scheduler; root sheet B.6).
    pub struct HvSchedulerVpSignalBitsetMessage [160] {
        /// Partition of the VPs.
        partition_id @ 0: HvPartitionId,
        /// Signals lost.
        overflow_count @ 8: u32,
        /// How many VPs.
        vp_count @ 12: u16,
        /// Zero.
        reserved @ 14: u16,
        /// Format of the VP set: 0, sparse.
        vp_set_format @ 16: u64,
        /// Which banks follow.
        vp_set_valid_bank_mask @ 24: u64,
        /// Banks, one for each bit of the mask, 64 VPs each.
        vp_set_banks @ 32: [u64; 16],
    }
}

wire_struct! {
    /// Payload of SCHEDULER_VP_SIGNAL_PAIR (root scheduler; root sheet B.6).
    pub struct HvSchedulerVpSignalPairMessage [240] {
        /// Signals lost.
        overflow_count @ 0: u32,
        /// How many pairs.
        count @ 4: u8,
        /// Zero.
        reserved @ 5: [u8; 3],
        /// Partition of each pair.
        partition_ids @ 8: [HvPartitionId; 19],
        /// VP of each pair.
        vp_indexes @ 160: [HvVpIndex; 19],
        /// Zero.
        padding @ 236: [u8; 4],
    }
}
