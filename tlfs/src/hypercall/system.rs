//! System properties, power, logical processors (root sheet A.3.8).

use crate::ids::HvProximityDomainInfo;
use crate::macros::{wire_enum, wire_struct};
use crate::partition::HvSystemPropertyCode;

wire_struct! {
    /// Input of GetSystemProperty.
    pub struct HvInputGetSystemProperty [16] {
        /// Property.
        property_id @ 0: HvSystemPropertyCode,
        /// Zero.
        reserved @ 4: u32,
        /// Argument.
        argument @ 8: u64,
    }
}

wire_struct! {
    /// Output of GetSystemProperty.
    pub struct HvOutputGetSystemProperty [8] {
        /// Value.
        value @ 0: u64,
    }
}

wire_struct! {
    /// Input of SetSystemProperty.
    pub struct HvInputSetSystemProperty [72] {
        /// Property.
        property_id @ 0: HvSystemPropertyCode,
        /// Zero.
        reserved @ 4: u32,
        /// Value according to the property; for SLEEP_STATE an [`HvSleepStateInfo`] first.
        value @ 8: [u8; 64],
    }
}

wire_enum! {
    /// ACPI sleep state.
    pub struct HvSleepState(u32);
    S1 = 1, "HvSleepStateS1";
    S2 = 2, "HvSleepStateS2";
    S3 = 3, "HvSleepStateS3";
    S4 = 4, "HvSleepStateS4";
    /// Off.
    S5 = 5, "HvSleepStateS5";
}

wire_struct! {
    /// Value of the system property SLEEP_STATE.
    pub struct HvSleepStateInfo [8] {
        /// State that the types belong to.
        sleep_state @ 0: HvSleepState,
        /// SLP_TYP for PM1a.
        pm1a_slp_typ @ 4: u8,
        /// SLP_TYP for PM1b.
        pm1b_slp_typ @ 5: u8,
        /// Zero.
        reserved @ 6: u16,
    }
}

wire_struct! {
    /// Input of EnterSleepState. Never returns on success.
    pub struct HvInputEnterSleepState [4] {
        /// State.
        sleep_state @ 0: HvSleepState,
    }
}

wire_struct! {
    /// Input of GetLogicalProcessorRunTime.
    pub struct HvInputGetLogicalProcessorRunTime [4] {
        /// LP.
        lp_index @ 0: u32,
    }
}

wire_struct! {
    /// Output of GetLogicalProcessorRunTime, all in 100 ns. Linux looks at the status only.
    pub struct HvOutputGetLogicalProcessorRunTime [32] {
        /// Time since the start of the hypervisor.
        global_time @ 0: u64,
        /// Time that the LP ran.
        local_run_time @ 8: u64,
        /// Zero.
        reserved @ 16: u64,
        /// Of it in the hypervisor.
        hypervisor_time @ 24: u64,
    }
}

wire_struct! {
    /// Input of AddLogicalProcessor.
    pub struct HvInputAddLogicalProcessor [16] {
        /// LP.
        lp_index @ 0: u32,
        /// APIC id.
        apic_id @ 4: u32,
        /// Where it is.
        proximity_domain_info @ 8: HvProximityDomainInfo,
    }
}

wire_struct! {
    /// Output of AddLogicalProcessor.
    pub struct HvOutputAddLogicalProcessor [56] {
        /// Why the LP could not be started; zeros on success.
        startup_status @ 0: [u64; 7],
    }
}

wire_enum! {
    /// Event of NotifyPartitionEvent.
    pub struct HvPartitionEvent(u32);
    ROOT_CRASHDUMP = 2, "HvPartitionEventRootCrashdump";
    ALL_LOGICAL_PROCESSORS_ADDED = 4, "HvPartitionAllLpsAdded";
}

wire_enum! {
    /// Input of the event ROOT_CRASHDUMP.
    pub struct HvCrashdumpAction(u32);
    NONE = 0, "HvCrashdumpNone";
    SUSPEND_ALL_VPS = 1, "HvCrashdumpSuspendAllVps";
    PREPARE_FOR_STATE_SAVE = 2, "HvCrashdumpPrepareForStateSave";
    STATE_SAVED = 3, "HvCrashdumpStateSaved";
    ENTRY = 4, "HvCrashdumpEntry";
}

wire_struct! {
    /// Input of NotifyPartitionEvent.
    pub struct HvInputNotifyPartitionEvent [8] {
        /// Event.
        event @ 0: HvPartitionEvent,
        /// Its input: an [`HvCrashdumpAction`] for ROOT_CRASHDUMP.
        input @ 4: u32,
    }
}

wire_struct! {
    /// Input of DisableHypervisorEx: the caller goes on in 32-bit mode without the hypervisor.
    pub struct HvInputDisableHypervisorEx [16] {
        /// Where.
        rip @ 0: u64,
        /// Passed on.
        argument @ 8: u64,
    }
}
