//! Hypervisor CPUID leaves (guest sheet 2, root sheet F.1).

use crate::macros::wire_flags;

/// Leaf with the hypervisor present bit: [`HV_CPUID_HYPERVISOR_PRESENT`] in ECX.
pub const HV_CPUID_FUNCTION_VERSION_AND_FEATURES: u32 = 0x0000_0001;
/// Bit 31 of ECX of leaf 1.
pub const HV_CPUID_HYPERVISOR_PRESENT: u32 = 1 << 31;

/// EAX: highest leaf; EBX, ECX, EDX: [`HV_CPUID_VENDOR`].
pub const HV_CPUID_FUNCTION_HV_VENDOR_AND_MAX_FUNCTION: u32 = 0x4000_0000;
/// EAX: [`HV_CPUID_INTERFACE_HV1`].
pub const HV_CPUID_FUNCTION_HV_INTERFACE: u32 = 0x4000_0001;
/// EAX: build; EBX: major 31:16, minor 15:0; ECX: service pack; EDX: branch 31:24, number 23:0.
pub const HV_CPUID_FUNCTION_MS_HV_VERSION: u32 = 0x4000_0002;
/// EAX, EBX: [`HvPartitionPrivilegeMask`](crate::HvPartitionPrivilegeMask); ECX: power management;
/// EDX: [`HvFeatureFlags`].
pub const HV_CPUID_FUNCTION_MS_HV_FEATURES: u32 = 0x4000_0003;
/// EAX: [`HvEnlightenmentFlags`]; EBX: spins before NotifyLongSpinWait; ECX 6:0: physical address bits.
pub const HV_CPUID_FUNCTION_MS_HV_ENLIGHTENMENT_INFORMATION: u32 = 0x4000_0004;
/// EAX: most VPs; EBX: most LPs; ECX: most interrupt vectors for remapping.
pub const HV_CPUID_FUNCTION_MS_HV_IMPLEMENTATION_LIMITS: u32 = 0x4000_0005;
/// EAX: [`HvHardwareFeatureFlags`].
pub const HV_CPUID_FUNCTION_MS_HV_HARDWARE_FEATURES: u32 = 0x4000_0006;
/// CPU management features, for a root.
pub const HV_CPUID_FUNCTION_MS_HV_CPU_MANAGEMENT_FEATURES: u32 = 0x4000_0007;
/// Shared virtual memory features.
pub const HV_CPUID_FUNCTION_MS_HV_SVM_FEATURES: u32 = 0x4000_0008;
/// Features of the hypervisor below, for a nested one.
pub const HV_CPUID_FUNCTION_MS_HV_SKIP_LEVEL_FEATURES: u32 = 0x4000_0009;
/// Nested virtualization features.
pub const HV_CPUID_FUNCTION_MS_HV_NESTED_FEATURES: u32 = 0x4000_000A;
/// Isolation configuration.
pub const HV_CPUID_FUNCTION_MS_HV_ISOLATION_CONFIGURATION: u32 = 0x4000_000C;
/// First leaf of the virtualization stack.
pub const HV_CPUID_FUNCTION_VS_FIRST: u32 = 0x4000_0080;
/// Interface of the virtualization stack.
pub const HV_CPUID_FUNCTION_VS_INTERFACE: u32 = 0x4000_0081;
/// Properties of the virtualization stack. Linux reads it without a range check: never let the machine's own CPUID
/// show through.
pub const HV_CPUID_FUNCTION_VS_PROPERTIES: u32 = 0x4000_0082;
/// First leaf that is a hypervisor's.
pub const HV_CPUID_FUNCTION_FIRST: u32 = 0x4000_0000;
/// Last leaf that is a hypervisor's.
pub const HV_CPUID_FUNCTION_LAST: u32 = 0x4000_FFFF;
/// Lowest highest leaf that Linux accepts.
pub const HV_CPUID_MIN_MAX_FUNCTION: u32 = 0x4000_0005;

/// "Microsoft Hv" in EBX, ECX, EDX.
pub const HV_CPUID_VENDOR: [u32; 3] = [0x7263_694D, 0x666F_736F, 0x7648_2074];
/// "Hv#1".
pub const HV_CPUID_INTERFACE_HV1: u32 = 0x3123_7648;

wire_flags! {
    /// EDX of leaf 0x40000003: features.
    pub struct HvFeatureFlags(u32);
    /// MWAIT (deprecated).
    MWAIT_AVAILABLE = 1 << 0;
    /// Guest debugging.
    GUEST_DEBUGGING_AVAILABLE = 1 << 1;
    /// Performance monitor.
    PERFORMANCE_MONITORS_AVAILABLE = 1 << 2;
    /// Dynamic CPU partitioning.
    CPU_DYNAMIC_PARTITIONING_AVAILABLE = 1 << 3;
    /// Input of fast calls in XMM registers.
    XMM_REGISTERS_FOR_FAST_HYPERCALL_AVAILABLE = 1 << 4;
    /// Guest idle.
    GUEST_IDLE_AVAILABLE = 1 << 5;
    /// Sleep states.
    HYPERVISOR_SLEEP_STATE_SUPPORT_AVAILABLE = 1 << 6;
    /// QueryNumaDistance.
    NUMA_DISTANCE_QUERY_AVAILABLE = 1 << 7;
    /// Frequency MSRs.
    FREQUENCY_REGS_AVAILABLE = 1 << 8;
    /// Synthetic machine checks.
    SYNTHETIC_MACHINE_CHECK_AVAILABLE = 1 << 9;
    /// Crash MSRs.
    GUEST_CRASH_REGS_AVAILABLE = 1 << 10;
    /// Debug MSRs.
    DEBUG_REGS_AVAILABLE = 1 << 11;
    /// NPIEP.
    NPIEP1_AVAILABLE = 1 << 12;
    /// DisableHypervisor.
    DISABLE_HYPERVISOR_AVAILABLE = 1 << 13;
    /// Extended ranges in address list flushes.
    EXTENDED_GVA_RANGES_FOR_FLUSH_VIRTUAL_ADDRESS_LIST_AVAILABLE = 1 << 14;
    /// Output of fast calls in XMM registers.
    FAST_HYPERCALL_OUTPUT_AVAILABLE = 1 << 15;
    /// Shared virtual memory.
    SVM_FEATURES_AVAILABLE = 1 << 16;
    /// Polled SINTs.
    SINT_POLLING_MODE_AVAILABLE = 1 << 17;
    /// Lock bit of MSR HYPERCALL.
    HYPERCALL_MSR_LOCK_AVAILABLE = 1 << 18;
    /// Synthetic timers in direct mode.
    DIRECT_SYNTHETIC_TIMERS = 1 << 19;
    /// PAT as a VP register.
    REGISTER_PAT_AVAILABLE = 1 << 20;
    /// BNDCFGS as a VP register.
    REGISTER_BNDCFGS_AVAILABLE = 1 << 21;
    /// Watchdog timer.
    WATCHDOG_TIMER_AVAILABLE = 1 << 22;
    /// Time-unhalted timer.
    SYNTHETIC_TIME_UNHALTED_TIMER_AVAILABLE = 1 << 23;
    /// Last branch records.
    LBR_AVAILABLE = 1 << 26;
}

wire_flags! {
    /// EAX of leaf 0x40000004: what the guest is advised to use.
    pub struct HvEnlightenmentFlags(u32);
    /// Hypercall to switch address spaces.
    USE_HYPERCALL_FOR_ADDRESS_SPACE_SWITCH = 1 << 0;
    /// Hypercall for local flushes.
    USE_HYPERCALL_FOR_LOCAL_FLUSH = 1 << 1;
    /// Hypercalls for remote flushes.
    USE_HYPERCALL_FOR_REMOTE_FLUSH = 1 << 2;
    /// MSRs for EOI, ICR, TPR.
    USE_APIC_MSRS = 1 << 3;
    /// MSR for reset.
    USE_HV_REGISTER_FOR_RESET = 1 << 4;
    /// Relaxed timing.
    USE_RELAXED_TIMING = 1 << 5;
    /// x2APIC MSRs.
    USE_X2_APIC_MSRS = 1 << 8;
    /// No automatic EOI: the guest ends SynIC interrupts itself.
    DEPRECATE_AUTO_EOI = 1 << 9;
    /// Cluster IPI hypercalls.
    USE_SYNTHETIC_CLUSTER_IPI = 1 << 10;
    /// Hypercalls with processor sets.
    USE_EX_PROCESSOR_MASKS = 1 << 11;
    /// Nested under another Hyper-V.
    NESTED = 1 << 12;
    /// INT for MBEC system calls.
    USE_INT_FOR_MBEC_SYSTEM_CALLS = 1 << 13;
    /// Enlightened VMCS.
    USE_VMCS_ENLIGHTENMENTS = 1 << 14;
    /// Synced timeline.
    USE_SYNCED_TIMELINE = 1 << 15;
    /// Core scheduler.
    CORE_SCHEDULER_REQUESTED = 1 << 16;
    /// Direct local flush.
    USE_DIRECT_LOCAL_FLUSH_ENTIRE = 1 << 17;
    /// VPs share a core only where the architecture says so.
    NO_NON_ARCHITECTURAL_CORE_SHARING = 1 << 18;
    /// MMIO by hypercall.
    USE_HYPERCALL_FOR_MMIO_ACCESS = 1 << 21;
}

wire_flags! {
    /// EAX of leaf 0x40000006: hardware in use. Bits 13:10 are the nesting level.
    pub struct HvHardwareFeatureFlags(u32);
    /// APIC overlay assist.
    APIC_OVERLAY_ASSIST_IN_USE = 1 << 0;
    /// MSR bitmaps.
    MSR_BITMAPS_IN_USE = 1 << 1;
    /// Architectural performance counters.
    ARCHITECTURAL_PERFORMANCE_COUNTERS_IN_USE = 1 << 2;
    /// Second-level translation.
    SECOND_LEVEL_ADDRESS_TRANSLATION_IN_USE = 1 << 3;
    /// DMA remapping.
    DMA_REMAPPING_IN_USE = 1 << 4;
    /// Interrupt remapping.
    INTERRUPT_REMAPPING_IN_USE = 1 << 5;
    /// Memory patrol scrubber.
    MEMORY_PATROL_SCRUBBER_PRESENT = 1 << 6;
    /// DMA protection.
    DMA_PROTECTION_IN_USE = 1 << 7;
    /// The HPET is wanted.
    HPET_REQUESTED = 1 << 8;
    /// Synthetic timers are volatile.
    SYNTHETIC_TIMERS_VOLATILE = 1 << 9;
}

wire_flags! {
    /// ECX of leaf 0x40000003, the bits that matter to a Linux root.
    pub struct HvPowerAndVpFlags(u32);
    /// The register page carries vectors.
    VP_DISPATCH_INTERRUPT_INJECTION_AVAILABLE = 1 << 9;
    /// The root can map GHCBs.
    VP_GHCB_ROOT_MAPPING_AVAILABLE = 1 << 10;
}
