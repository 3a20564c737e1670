//! Flags of CreatePartition (root sheet A.3.1).

use crate::macros::{wire_enum, wire_flags};

wire_flags! {
    /// How CreatePartition creates (`HV_PARTITION_CREATION_FLAGS`). Linux always sets EXO_PARTITION and
    /// INTERCEPT_MESSAGE_PAGE_ENABLED.
    pub struct HvPartitionCreationFlags(u64);
    /// The guest may know of SMT.
    SMT_ENABLED_GUEST = 1 << 0;
    /// The guest may nest.
    NESTED_VIRTUALIZATION_CAPABLE = 1 << 1;
    /// Large second-level leafs.
    GPA_SUPER_PAGES_ENABLED = 1 << 4;
    /// The VMM, not Hyper-V's own stack, owns the device model.
    EXO_PARTITION = 1 << 8;
    /// VTL 1 override.
    VTL1_OVERRIDE = 1 << 9;
    /// VTL 2 override.
    VTL2_OVERRIDE = 1 << 10;
    /// The hypervisor emulates the local APIC.
    LAPIC_ENABLED = 1 << 13;
    /// Performance counters.
    PERFMON_PMU = 1 << 15;
    /// Last branch records.
    PERFMON_LBR = 1 << 16;
    /// Intercept messages go to a page of the VP; SINT0 gets an opaque notice.
    INTERCEPT_MESSAGE_PAGE_ENABLED = 1 << 19;
    /// Page of hypercall doorbells.
    HYPERCALL_DOORBELL_PAGE = 1 << 20;
    /// The local APIC can be in x2APIC mode.
    X2APIC_CAPABLE = 1 << 22;
}

wire_enum! {
    /// Compatibility version of CreatePartition.
    pub struct HvCompatibilityVersion(u32);
    /// What Linux passes.
    V_21_H2 = 0x0609, "HV_COMPATIBILITY_21_H2";
}
