//! Privileges of a partition (root sheet F.1, guest sheet 2.4).

use crate::macros::wire_flags;

wire_flags! {
    /// Privileges: EAX (low half) and EBX (high half) of CPUID leaf 0x40000003, and the first half of the property
    /// PRIVILEGE_FLAGS (`HV_PARTITION_PRIVILEGE_MASK`).
    pub struct HvPartitionPrivilegeMask(u64);
    /// MSR VP_RUNTIME.
    ACCESS_VP_RUNTIME_MSR = 1 << 0;
    /// MSR TIME_REF_COUNT.
    ACCESS_PARTITION_REFERENCE_COUNTER = 1 << 1;
    /// SynIC MSRs.
    ACCESS_SYNIC_MSRS = 1 << 2;
    /// Synthetic timers.
    ACCESS_SYNTHETIC_TIMER_MSRS = 1 << 3;
    /// MSRs EOI, ICR, TPR, VP_ASSIST_PAGE.
    ACCESS_APIC_MSRS = 1 << 4;
    /// MSRs GUEST_OS_ID and HYPERCALL; Linux takes nothing for Hyper-V without it.
    ACCESS_HYPERCALL_MSRS = 1 << 5;
    /// MSR VP_INDEX; Linux takes nothing for Hyper-V without it.
    ACCESS_VP_INDEX = 1 << 6;
    /// MSR RESET.
    ACCESS_RESET_MSR = 1 << 7;
    /// Statistics MSRs.
    ACCESS_STATS_MSR = 1 << 8;
    /// MSR REFERENCE_TSC.
    ACCESS_PARTITION_REFERENCE_TSC = 1 << 9;
    /// MSR GUEST_IDLE.
    ACCESS_GUEST_IDLE_MSR = 1 << 10;
    /// MSRs TSC_FREQUENCY and APIC_FREQUENCY.
    ACCESS_FREQUENCY_MSRS = 1 << 11;
    /// Debug MSRs.
    ACCESS_DEBUG_MSRS = 1 << 12;
    /// Reenlightenment MSRs.
    ACCESS_REENLIGHTENMENT_CTRLS = 1 << 13;
    /// Root scheduler MSR.
    ACCESS_ROOT_SCHEDULER_MSR = 1 << 14;
    /// MSR TSC_INVARIANT_CONTROL.
    ACCESS_TSC_INVARIANT_CONTROLS = 1 << 15;
    /// Create partitions; a Linux child must not see it.
    CREATE_PARTITIONS = 1 << 32;
    /// GetPartitionId.
    ACCESS_PARTITION_ID = 1 << 33;
    /// Deposit, withdraw, balance.
    ACCESS_MEMORY_POOL = 1 << 34;
    /// Message buffers of ports.
    ADJUST_MESSAGE_BUFFERS = 1 << 35;
    /// PostMessage.
    POST_MESSAGES = 1 << 36;
    /// SignalEvent.
    SIGNAL_EVENTS = 1 << 37;
    /// CreatePort, DeletePort.
    CREATE_PORT = 1 << 38;
    /// ConnectPort, DisconnectPort.
    CONNECT_PORT = 1 << 39;
    /// Stats pages.
    ACCESS_STATS = 1 << 40;
    /// Debugger calls.
    DEBUGGING = 1 << 43;
    /// Logical processors, root VPs; with CREATE_PARTITIONS: root.
    CPU_MANAGEMENT = 1 << 44;
    /// Profiler.
    CONFIGURE_PROFILER = 1 << 45;
    /// VP exit tracing.
    ACCESS_VP_EXIT_TRACING = 1 << 46;
    /// Extended ranges in address list flushes.
    ENABLE_EXTENDED_GVA_RANGES_FLUSH_VA_LIST = 1 << 47;
    /// Virtual trust levels.
    ACCESS_VSM = 1 << 48;
    /// Get/SetVpRegisters on itself.
    ACCESS_VP_REGISTERS = 1 << 49;
    /// Output of fast calls in XMM registers.
    FAST_HYPERCALL_OUTPUT = 1 << 51;
    /// Extended hypercalls.
    ENABLE_EXTENDED_HYPERCALLS = 1 << 52;
    /// StartVirtualProcessor.
    START_VIRTUAL_PROCESSOR = 1 << 53;
    /// Isolated partition.
    ISOLATION = 1 << 54;
}

impl HvPartitionPrivilegeMask {
    /// The mask from EAX and EBX of leaf 0x40000003.
    pub const fn from_cpuid(eax: u32, ebx: u32) -> Self {
        Self(eax as u64 | (ebx as u64) << 32)
    }

    /// EAX of leaf 0x40000003.
    pub const fn cpuid_eax(self) -> u32 {
        self.0 as u32
    }

    /// EBX of leaf 0x40000003.
    pub const fn cpuid_ebx(self) -> u32 {
        (self.0 >> 32) as u32
    }
}
