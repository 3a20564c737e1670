//! Codes of partition properties (root sheet D.1) and of system properties (root sheet A.3.8).

use crate::macros::wire_enum;

wire_enum! {
    /// Partition property. "Early" ones can be set only before InitializePartition.
    pub struct HvPartitionPropertyCode(u32);
    /// Early. First half of the 128-bit mask.
    PRIVILEGE_FLAGS = 0x0001_0000, "HvPartitionPropertyPrivilegeFlags";
    /// Early. [`HvPartitionSyntheticProcessorFeatures`](crate::HvPartitionSyntheticProcessorFeatures).
    SYNTHETIC_PROC_FEATURES = 0x0001_0001, "HvPartitionPropertySyntheticProcFeatures";
    /// 1 stops all VPs.
    SUSPEND = 0x0002_0000, "HvPartitionPropertySuspend";
    CPU_RESERVE = 0x0002_0001, "HvPartitionPropertyCpuReserve";
    CPU_CAP = 0x0002_0002, "HvPartitionPropertyCpuCap";
    CPU_WEIGHT = 0x0002_0003, "HvPartitionPropertyCpuWeight";
    CPU_GROUP_ID = 0x0002_0004, "HvPartitionPropertyCpuGroupId";
    INTEGRATED_SCHEDULER = 0x0002_0005, "HvPartitionPropertyIntegratedScheduler";
    /// The reference time stands still.
    TIME_FREEZE = 0x0003_0003, "HvPartitionPropertyTimeFreeze";
    APIC_FREQUENCY = 0x0003_0004, "HvPartitionPropertyApicFrequency";
    /// 100 ns; set while frozen.
    REFERENCE_TIME = 0x0003_0005, "HvPartitionPropertyReferenceTime";
    DEBUG_CHANNEL_ID = 0x0004_0000, "HvPartitionPropertyDebugChannelId";
    VIRTUAL_TLB_PAGE_COUNT = 0x0005_0000, "HvPartitionPropertyVirtualTlbPageCount";
    VSM_CONFIG = 0x0005_0001, "HvPartitionPropertyVsmConfig";
    ZERO_MEMORY_ON_RESET = 0x0005_0002, "HvPartitionPropertyZeroMemoryOnReset";
    PROCESSORS_PER_SOCKET = 0x0005_0003, "HvPartitionPropertyProcessorsPerSocket";
    NESTED_TLB_SIZE = 0x0005_0004, "HvPartitionPropertyNestedTlbSize";
    /// 1: accessed and dirty bits are kept.
    GPA_PAGE_ACCESS_TRACKING = 0x0005_0005, "HvPartitionPropertyGpaPageAccessTracking";
    ISOLATION_STATE = 0x0005_000C, "HvPartitionPropertyIsolationState";
    ISOLATION_CONTROL = 0x0005_000D, "HvPartitionPropertyIsolationControl";
    ALLOCATION_ID = 0x0005_000E, "HvPartitionPropertyAllocationId";
    MONITORING_ID = 0x0005_000F, "HvPartitionPropertyMonitoringId";
    IMPLEMENTED_PHYSICAL_ADDRESS_BITS = 0x0005_0010, "HvPartitionPropertyImplementedPhysicalAddressBits";
    NON_ARCHITECTURAL_CORE_SHARING = 0x0005_0011, "HvPartitionPropertyNonArchitecturalCoreSharing";
    /// Early.
    HYPERCALL_DOORBELL_PAGE = 0x0005_0012, "HvPartitionPropertyHypercallDoorbellPage";
    ISOLATION_POLICY = 0x0005_0014, "HvPartitionPropertyIsolationPolicy";
    /// [`HvUnimplementedMsrAction`](crate::HvUnimplementedMsrAction).
    UNIMPLEMENTED_MSR_ACTION = 0x0005_0017, "HvPartitionPropertyUnimplementedMsrAction";
    AUTO_EOI_ENABLED = 0x0005_001A, "HvPartitionPropertyAutoEoiEnabled";
    SEV_VMGEXIT_OFFLOADS = 0x0005_0022, "HvPartitionPropertySevVmgexitOffloads";
    PARTITION_DIAG_BUFFER_CONFIG = 0x0005_0026, "HvPartitionPropertyPartitionDiagBufferConfig";
    /// [`HvProcessorVendor`](crate::HvProcessorVendor).
    PROCESSOR_VENDOR = 0x0006_0000, "HvPartitionPropertyProcessorVendor";
    PROCESSOR_FEATURES_DEPRECATED = 0x0006_0001, "HvPartitionPropertyProcessorFeaturesDeprecated";
    PROCESSOR_XSAVE_FEATURES = 0x0006_0002, "HvPartitionPropertyProcessorXsaveFeatures";
    PROCESSOR_CL_FLUSH_SIZE = 0x0006_0003, "HvPartitionPropertyProcessorCLFlushSize";
    ENLIGHTENMENT_MODIFICATIONS = 0x0006_0004, "HvPartitionPropertyEnlightenmentModifications";
    COMPATIBILITY_VERSION = 0x0006_0005, "HvPartitionPropertyCompatibilityVersion";
    /// Bits; early when set.
    PHYSICAL_ADDRESS_WIDTH = 0x0006_0006, "HvPartitionPropertyPhysicalAddressWidth";
    /// Mask of XSAVE states.
    XSAVE_STATES = 0x0006_0007, "HvPartitionPropertyXsaveStates";
    /// Bytes.
    MAX_XSAVE_DATA_SIZE = 0x0006_0008, "HvPartitionPropertyMaxXsaveDataSize";
    /// Hz.
    PROCESSOR_CLOCK_FREQUENCY = 0x0006_0009, "HvPartitionPropertyProcessorClockFrequency";
    /// 1 = present.
    PROCESSOR_FEATURES0 = 0x0006_000A, "HvPartitionPropertyProcessorFeatures0";
    /// 1 = present.
    PROCESSOR_FEATURES1 = 0x0006_000B, "HvPartitionPropertyProcessorFeatures1";
    /// What the child wrote.
    GUEST_OS_ID = 0x0007_0000, "HvPartitionPropertyGuestOsId";
    PROCESSOR_VIRTUALIZATION_FEATURES = 0x0008_0000, "HvPartitionPropertyProcessorVirtualizationFeatures";
    /// By GetPartitionPropertyEx: [`HvPartitionPropertyVmmCapabilities`](crate::HvPartitionPropertyVmmCapabilities).
    VMM_CAPABILITIES = 0x0009_0007, "HvPartitionPropertyVmmCapabilities";
    /// By GetPartitionPropertyEx, same form.
    ASSIGNABLE_SYNTHETIC_PROC_FEATURES = 0x0009_0009, "HvPartitionPropertyAssignableSyntheticProcFeatures";
    /// Of a VP.
    VP_SCHEDULING_AFFINITY_SET = 0x1000_1000, "HvPartitionPropertyVpSchedulingAffinitySet";
}

wire_enum! {
    /// Value of UNIMPLEMENTED_MSR_ACTION, and action of a registered MSR result.
    pub struct HvUnimplementedMsrAction(u32);
    /// General protection fault.
    FAULT = 0, "HvUnimplementedMsrActionFault";
    /// Writes do nothing, reads give 0.
    IGNORE_WRITE_READ_ZERO = 1, "HvUnimplementedMsrActionIgnoreWriteReadZero";
}

wire_enum! {
    /// Value of PROCESSOR_VENDOR.
    pub struct HvProcessorVendor(u32);
    AMD = 0x0000, "HvProcessorVendorAmd";
    INTEL = 0x0001, "HvProcessorVendorIntel";
    HYGON = 0x0002, "HvProcessorVendorHygon";
}

wire_enum! {
    /// System property of Get/SetSystemProperty.
    pub struct HvSystemPropertyCode(u32);
    /// Set: which ports power the machine off.
    SLEEP_STATE = 3, "HvSystemPropertySleepState";
    /// Get: [`HvSchedulerType`](crate::HvSchedulerType).
    SCHEDULER_TYPE = 15, "HvSystemPropertySchedulerType";
    /// Get: processor features.
    PROCESSOR_FEATURES = 21, "HvSystemPropertyProcessorFeatures";
    /// Get: crash dump area; 0 without.
    CRASHDUMPAREA = 47, "HvSystemPropertyCrashdumpArea";
}

wire_enum! {
    /// Scheduler of the hypervisor. Linux refuses values without a name; ROOT hands scheduling to it.
    pub struct HvSchedulerType(u64);
    LP = 1, "HvSchedulerTypeLp";
    LP_SMT = 2, "HvSchedulerTypeLpSmt";
    CORE_SMT = 3, "HvSchedulerTypeCoreSmt";
    ROOT = 4, "HvSchedulerTypeRoot";
}
