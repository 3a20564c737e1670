//! Synthetic processor features (root sheet D.2) and VMM capabilities (root sheet D.1).

use crate::macros::{wire_flags, wire_struct};

wire_flags! {
    /// Property SYNTHETIC_PROC_FEATURES: which synthetic MSRs and calls work for a child
    /// (`HV_PARTITION_SYNTHETIC_PROCESSOR_FEATURES`). One bank.
    pub struct HvPartitionSyntheticProcessorFeatures(u64);
    /// CPUID.1:ECX.31.
    HYPERVISOR_PRESENT = 1 << 0;
    /// Interface Hv#1.
    HV1 = 1 << 1;
    /// VP_RUNTIME.
    ACCESS_VP_RUN_TIME_REG = 1 << 2;
    /// TIME_REF_COUNT.
    ACCESS_PARTITION_REFERENCE_COUNTER = 1 << 3;
    /// SynIC.
    ACCESS_SYNIC_REGS = 1 << 4;
    /// Synthetic timers.
    ACCESS_SYNTHETIC_TIMER_REGS = 1 << 5;
    /// EOI, ICR, TPR, VP_ASSIST_PAGE.
    ACCESS_INTR_CTRL_REGS = 1 << 6;
    /// GUEST_OS_ID, HYPERCALL.
    ACCESS_HYPERCALL_REGS = 1 << 7;
    /// VP_INDEX.
    ACCESS_VP_INDEX = 1 << 8;
    /// REFERENCE_TSC.
    ACCESS_PARTITION_REFERENCE_TSC = 1 << 9;
    /// GUEST_IDLE.
    ACCESS_GUEST_IDLE_REG = 1 << 10;
    /// TSC_FREQUENCY, APIC_FREQUENCY.
    ACCESS_FREQUENCY_REGS = 1 << 11;
    /// Extended ranges in address list flushes.
    ENABLE_EXTENDED_GVA_RANGES_FOR_FLUSH_VIRTUAL_ADDRESS_LIST = 1 << 15;
    /// Virtual trust levels.
    ACCESS_VSM = 1 << 16;
    /// Output of fast calls in XMM registers.
    FAST_HYPERCALL_OUTPUT = 1 << 18;
    /// StartVirtualProcessor.
    START_VIRTUAL_PROCESSOR = 1 << 20;
    /// Synthetic timers in direct mode.
    DIRECT_SYNTHETIC_TIMERS = 1 << 22;
    /// Calls with processor sets.
    EXTENDED_PROCESSOR_MASKS = 1 << 24;
    /// TLB flush calls.
    TB_FLUSH_HYPERCALLS = 1 << 25;
    /// Cluster IPI calls.
    SYNTHETIC_CLUSTER_IPI = 1 << 26;
    /// NotifyLongSpinWait.
    NOTIFY_LONG_SPIN_WAIT = 1 << 27;
    /// QueryNumaDistance.
    QUERY_NUMA_DISTANCE = 1 << 28;
    /// SignalEvent.
    SIGNAL_EVENTS = 1 << 29;
    /// RetargetDeviceInterrupt.
    RETARGET_DEVICE_INTERRUPT = 1 << 30;
    /// RestorePartitionTime.
    RESTORE_TIME = 1 << 31;
    /// Enlightened VMCS.
    ENLIGHTENED_VMCS = 1 << 32;
    /// Nested debug control.
    NESTED_DEBUG_CTL = 1 << 33;
    /// Time-unhalted timer.
    SYNTHETIC_TIME_UNHALTED_TIMER = 1 << 34;
    /// SPEC_CTRL while idle.
    IDLE_SPEC_CTRL = 1 << 35;
    /// Wake VPs.
    WAKE_VPS = 1 << 37;
    /// Get/SetVpRegisters on itself.
    ACCESS_VP_REGS = 1 << 38;
    /// SynIC of the management trust level.
    MANAGEMENT_VTL_SYNIC_SUPPORT = 1 << 40;
    /// Doorbells of proxy interrupts.
    PROXY_INTERRUPT_DOORBELL_SUPPORT = 1 << 41;
    /// MMIO by hypercall.
    MMIO_HYPERCALLS = 1 << 43;
    /// Mapping a partition's event log.
    MAP_PARTITION_EVENT_LOG_BUFFER = 1 << 45;
    /// Requests of the lower trust level's guest.
    LOWER_VTL_GUEST_REQUEST_SUPPORT = 1 << 46;
    /// Redirected proxy interrupts.
    PROXY_INTERRUPT_REDIRECT_SUPPORT = 1 << 47;
    /// InstallIntercept.
    INSTALL_INTERCEPT = 1 << 48;
    /// Pinning of page ranges.
    PIN_GPA_PAGE_RANGE_SUPPORT = 1 << 50;
    /// Heat hints help.
    HEAT_HINT_BENEFICIAL_SUPPORT = 1 << 51;
    /// Ring buffer message ports.
    RING_BUFFER_MESSAGE_PORT_SUPPORT = 1 << 52;
    /// Flush of guest physical addresses.
    FLUSH_GUEST_PHYSICAL_ADDRESS_SPACE = 1 << 53;
}

impl HvPartitionSyntheticProcessorFeatures {
    /// What the public VMM crates set on every partition, without the bits that they first ask for.
    pub const VMM_DEFAULT: Self = Self(
        Self::HYPERVISOR_PRESENT.0
            | Self::HV1.0
            | Self::ACCESS_PARTITION_REFERENCE_COUNTER.0
            | Self::ACCESS_SYNIC_REGS.0
            | Self::ACCESS_SYNTHETIC_TIMER_REGS.0
            | Self::ACCESS_INTR_CTRL_REGS.0
            | Self::ACCESS_HYPERCALL_REGS.0
            | Self::ACCESS_VP_INDEX.0
            | Self::ACCESS_PARTITION_REFERENCE_TSC.0
            | Self::ACCESS_GUEST_IDLE_REG.0
            | Self::ACCESS_FREQUENCY_REGS.0
            | Self::DIRECT_SYNTHETIC_TIMERS.0
            | Self::TB_FLUSH_HYPERCALLS.0
            | Self::SYNTHETIC_CLUSTER_IPI.0
            | Self::ACCESS_VP_REGS.0,
    );
}

wire_flags! {
    /// Bits of the property VMM_CAPABILITIES. None set is safe.
    pub struct HvVmmCapabilityBits(u64);
    /// MapGpaPages preserves ADJUSTABLE.
    MAP_GPA_PRESERVE_ADJUSTABLE = 1 << 0;
    /// The frame of an overlay can be looked up.
    VMM_CAN_PROVIDE_OVERLAY_GPFN = 1 << 1;
    /// VP affinity property.
    VP_AFFINITY_PROPERTY = 1 << 2;
    /// Property ASSIGNABLE_SYNTHETIC_PROC_FEATURES exists.
    ASSIGNABLE_SYNTHETIC_PROC_FEATURES = 1 << 4;
    /// Integrated scheduler.
    VMM_ENABLE_INTEGRATED_SCHEDULER = 1 << 6;
}

wire_struct! {
    /// Output of GetPartitionPropertyEx for VMM_CAPABILITIES and, with other bits, ASSIGNABLE_SYNTHETIC_PROC_FEATURES.
    pub struct HvPartitionPropertyVmmCapabilities [16] {
        /// How many banks of 64 bits follow: 1.
        bank_count @ 0: u16,
        /// Zero.
        reserved @ 2: [u16; 3],
        /// Bank 0.
        bits @ 8: HvVmmCapabilityBits,
    }
}
