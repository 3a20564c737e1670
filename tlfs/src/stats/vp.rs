//! Counters of a virtual processor (root sheet E.2).

use crate::stats::counters;

counters! {
    /// Every counter of a virtual processor's page, with the name in the set "Hyper-V Hypervisor Virtual Processor"
    /// (and "Root Virtual Processor").
    TOTAL_RUN_TIME = 1, "VpTotalRunTime", "% Total Run Time";
    HYPERVISOR_RUN_TIME = 2, "VpHypervisorRunTime", "% Hypervisor Run Time";
    REMOTE_NODE_RUN_TIME = 3, "VpRemoteNodeRunTime", "% Remote Run Time";
    NORMALIZED_RUN_TIME = 4, "VpNormalizedRunTime", "";
    IDEAL_CPU = 5, "VpIdealCpu", "", gauge;
    HYPERCALLS_COUNT = 7, "VpHypercallsCount", "Hypercalls/sec";
    HYPERCALLS_TIME = 8, "VpHypercallsTime", "Hypercalls Cost";
    PAGE_INVALIDATIONS_COUNT = 9, "VpPageInvalidationsCount", "Page Invalidations/sec";
    PAGE_INVALIDATIONS_TIME = 10, "VpPageInvalidationsTime", "Page Invalidations Cost";
    CONTROL_REGISTER_ACCESSES_COUNT = 11, "VpControlRegisterAccessesCount", "Control Register Accesses/sec";
    CONTROL_REGISTER_ACCESSES_TIME = 12, "VpControlRegisterAccessesTime", "Control Register Accesses Cost";
    IO_INSTRUCTIONS_COUNT = 13, "VpIoInstructionsCount", "IO Instructions/sec";
    IO_INSTRUCTIONS_TIME = 14, "VpIoInstructionsTime", "IO Instructions Cost";
    HLT_INSTRUCTIONS_COUNT = 15, "VpHltInstructionsCount", "HLT Instructions/sec";
    HLT_INSTRUCTIONS_TIME = 16, "VpHltInstructionsTime", "HLT Instructions Cost";
    MWAIT_INSTRUCTIONS_COUNT = 17, "VpMwaitInstructionsCount", "MWAIT Instructions/sec";
    MWAIT_INSTRUCTIONS_TIME = 18, "VpMwaitInstructionsTime", "MWAIT Instructions Cost";
    CPUID_INSTRUCTIONS_COUNT = 19, "VpCpuidInstructionsCount", "CPUID Instructions/sec";
    CPUID_INSTRUCTIONS_TIME = 20, "VpCpuidInstructionsTime", "CPUID Instructions Cost";
    MSR_ACCESSES_COUNT = 21, "VpMsrAccessesCount", "MSR Accesses/sec";
    MSR_ACCESSES_TIME = 22, "VpMsrAccessesTime", "MSR Accesses Cost";
    OTHER_INTERCEPTS_COUNT = 23, "VpOtherInterceptsCount", "Other Intercepts/sec";
    OTHER_INTERCEPTS_TIME = 24, "VpOtherInterceptsTime", "Other Intercepts Cost";
    EXTERNAL_INTERRUPTS_COUNT = 25, "VpExternalInterruptsCount", "External Interrupts/sec";
    EXTERNAL_INTERRUPTS_TIME = 26, "VpExternalInterruptsTime", "External Interrupts Cost";
    PENDING_INTERRUPTS_COUNT = 27, "VpPendingInterruptsCount", "Pending Interrupts/sec";
    PENDING_INTERRUPTS_TIME = 28, "VpPendingInterruptsTime", "Pending Interrupts Cost";
    EMULATED_INSTRUCTIONS_COUNT = 29, "VpEmulatedInstructionsCount", "Emulated Instructions/sec";
    EMULATED_INSTRUCTIONS_TIME = 30, "VpEmulatedInstructionsTime", "Emulated Instructions Cost";
    DEBUG_REGISTER_ACCESSES_COUNT = 31, "VpDebugRegisterAccessesCount", "Debug Register Accesses/sec";
    DEBUG_REGISTER_ACCESSES_TIME = 32, "VpDebugRegisterAccessesTime", "Debug Register Accesses Cost";
    PAGE_FAULT_INTERCEPTS_COUNT = 33, "VpPageFaultInterceptsCount", "Page Fault Intercepts/sec";
    PAGE_FAULT_INTERCEPTS_TIME = 34, "VpPageFaultInterceptsTime", "Page Fault Intercepts Cost";
    GUEST_PAGE_TABLE_MAPS = 35, "VpGuestPageTableMaps", "Guest Page Table Maps/sec";
    LARGE_PAGE_TLB_FILLS = 36, "VpLargePageTlbFills", "Large Page TLB Fills/sec";
    SMALL_PAGE_TLB_FILLS = 37, "VpSmallPageTlbFills", "Small Page TLB Fills/sec";
    REFLECTED_GUEST_PAGE_FAULTS = 38, "VpReflectedGuestPageFaults", "Reflected Guest Page Faults/sec";
    APIC_MMIO_ACCESSES = 39, "VpApicMmioAccesses", "APIC MMIO Accesses/sec";
    IO_INTERCEPT_MESSAGES = 40, "VpIoInterceptMessages", "IO Intercept Messages/sec";
    MEMORY_INTERCEPT_MESSAGES = 41, "VpMemoryInterceptMessages", "Memory Intercept Messages/sec";
    APIC_EOI_ACCESSES = 42, "VpApicEoiAccesses", "APIC EOI Accesses/sec";
    OTHER_MESSAGES = 43, "VpOtherMessages", "Other Messages/sec";
    PAGE_TABLE_ALLOCATIONS = 44, "VpPageTableAllocations", "Page Table Allocations/sec";
    LOGICAL_PROCESSOR_MIGRATIONS = 45, "VpLogicalProcessorMigrations", "Logical Processor Migrations/sec";
    ADDRESS_SPACE_EVICTIONS = 46, "VpAddressSpaceEvictions", "Address Space Evictions/sec";
    ADDRESS_SPACE_SWITCHES = 47, "VpAddressSpaceSwitches", "Address Space Switches/sec";
    ADDRESS_DOMAIN_FLUSHES = 48, "VpAddressDomainFlushes", "Address Domain Flushes/sec";
    ADDRESS_SPACE_FLUSHES = 49, "VpAddressSpaceFlushes", "Address Space Flushes/sec";
    GLOBAL_GVA_RANGE_FLUSHES = 50, "VpGlobalGvaRangeFlushes", "Global GVA Range Flushes/sec";
    LOCAL_GVA_RANGE_FLUSHES = 51, "VpLocalGvaRangeFlushes", "Local Flushed GVA Ranges/sec";
    PAGE_TABLE_EVICTIONS = 52, "VpPageTableEvictions", "Page Table Evictions/sec";
    PAGE_TABLE_RECLAMATIONS = 53, "VpPageTableReclamations", "Page Table Reclamations/sec";
    PAGE_TABLE_RESETS = 54, "VpPageTableResets", "Page Table Resets/sec";
    PAGE_TABLE_VALIDATIONS = 55, "VpPageTableValidations", "Page Table Validations/sec";
    APIC_TPR_ACCESSES = 56, "VpApicTprAccesses", "APIC TPR Accesses/sec";
    PAGE_TABLE_WRITE_INTERCEPTS = 57, "VpPageTableWriteIntercepts", "Page Table Write Intercepts/sec";
    SYNTHETIC_INTERRUPTS = 58, "VpSyntheticInterrupts", "Synthetic Interrupts/sec";
    VIRTUAL_INTERRUPTS = 59, "VpVirtualInterrupts", "Virtual Interrupts/sec";
    APIC_IPIS_SENT = 60, "VpApicIpisSent", "APIC IPIs Sent/sec";
    APIC_SELF_IPIS_SENT = 61, "VpApicSelfIpisSent", "APIC Self IPIs Sent/sec";
    GPA_SPACE_HYPERCALLS = 62, "VpGpaSpaceHypercalls", "GPA Space Hypercalls/sec";
    LOGICAL_PROCESSOR_HYPERCALLS = 63, "VpLogicalProcessorHypercalls", "Logical Processor Hypercalls/sec";
    LONG_SPIN_WAIT_HYPERCALLS = 64, "VpLongSpinWaitHypercalls", "Long Spin Wait Hypercalls/sec";
    OTHER_HYPERCALLS = 65, "VpOtherHypercalls", "Other Hypercalls/sec";
    SYNTHETIC_INTERRUPT_HYPERCALLS = 66, "VpSyntheticInterruptHypercalls", "Synthetic Interrupt Hypercalls/sec";
    VIRTUAL_INTERRUPT_HYPERCALLS = 67, "VpVirtualInterruptHypercalls", "Virtual Interrupt Hypercalls/sec";
    VIRTUAL_MMU_HYPERCALLS = 68, "VpVirtualMmuHypercalls", "Virtual MMU Hypercalls/sec";
    VIRTUAL_PROCESSOR_HYPERCALLS = 69, "VpVirtualProcessorHypercalls", "Virtual Processor Hypercalls/sec";
    HARDWARE_INTERRUPTS = 70, "VpHardwareInterrupts", "Hardware Interrupts/sec";
    NESTED_PAGE_FAULT_INTERCEPTS_COUNT = 71, "VpNestedPageFaultInterceptsCount", "Nested Page Fault Intercepts/sec";
    NESTED_PAGE_FAULT_INTERCEPTS_TIME = 72, "VpNestedPageFaultInterceptsTime", "Nested Page Fault Intercepts Cost";
    PAGE_SCANS = 73, "VpPageScans", "Page Scans/sec";
    LOGICAL_PROCESSOR_DISPATCHES = 74, "VpLogicalProcessorDispatches", "Logical Processor Dispatches/sec";
    WAITING_FOR_CPU_TIME = 75, "VpWaitingForCpuTime", "CPU Wait Time Per Dispatch";
    EXTENDED_HYPERCALLS = 76, "VpExtendedHypercalls", "Extended Hypercalls/sec";
    EXTENDED_HYPERCALL_INTERCEPT_MESSAGES = 77, "VpExtendedHypercallInterceptMessages", "Extended Hypercall Intercept Messages/sec";
    MBEC_NESTED_PAGE_TABLE_SWITCHES = 78, "VpMbecNestedPageTableSwitches", "MBEC Nested Page Table Switches/sec";
    OTHER_REFLECTED_GUEST_EXCEPTIONS = 79, "VpOtherReflectedGuestExceptions", "Other Reflected Guest Exceptions/sec";
    GLOBAL_IO_TLB_FLUSHES = 80, "VpGlobalIoTlbFlushes", "Global I/O TLB Flushes/sec";
    GLOBAL_IO_TLB_FLUSH_COST = 81, "VpGlobalIoTlbFlushCost", "Global I/O TLB Flush Cost";
    LOCAL_IO_TLB_FLUSHES = 82, "VpLocalIoTlbFlushes", "Local I/O TLB Flushes/sec";
    LOCAL_IO_TLB_FLUSH_COST = 83, "VpLocalIoTlbFlushCost", "Local I/O TLB Flush Cost";
    HYPERCALLS_FORWARDED_COUNT = 84, "VpHypercallsForwardedCount", "";
    HYPERCALLS_FORWARDING_TIME = 85, "VpHypercallsForwardingTime", "";
    PAGE_INVALIDATIONS_FORWARDED_COUNT = 86, "VpPageInvalidationsForwardedCount", "";
    PAGE_INVALIDATIONS_FORWARDING_TIME = 87, "VpPageInvalidationsForwardingTime", "";
    CONTROL_REGISTER_ACCESSES_FORWARDED_COUNT = 88, "VpControlRegisterAccessesForwardedCount", "";
    CONTROL_REGISTER_ACCESSES_FORWARDING_TIME = 89, "VpControlRegisterAccessesForwardingTime", "";
    IO_INSTRUCTIONS_FORWARDED_COUNT = 90, "VpIoInstructionsForwardedCount", "";
    IO_INSTRUCTIONS_FORWARDING_TIME = 91, "VpIoInstructionsForwardingTime", "";
    HLT_INSTRUCTIONS_FORWARDED_COUNT = 92, "VpHltInstructionsForwardedCount", "";
    HLT_INSTRUCTIONS_FORWARDING_TIME = 93, "VpHltInstructionsForwardingTime", "";
    MWAIT_INSTRUCTIONS_FORWARDED_COUNT = 94, "VpMwaitInstructionsForwardedCount", "";
    MWAIT_INSTRUCTIONS_FORWARDING_TIME = 95, "VpMwaitInstructionsForwardingTime", "";
    CPUID_INSTRUCTIONS_FORWARDED_COUNT = 96, "VpCpuidInstructionsForwardedCount", "";
    CPUID_INSTRUCTIONS_FORWARDING_TIME = 97, "VpCpuidInstructionsForwardingTime", "";
    MSR_ACCESSES_FORWARDED_COUNT = 98, "VpMsrAccessesForwardedCount", "";
    MSR_ACCESSES_FORWARDING_TIME = 99, "VpMsrAccessesForwardingTime", "";
    OTHER_INTERCEPTS_FORWARDED_COUNT = 100, "VpOtherInterceptsForwardedCount", "";
    OTHER_INTERCEPTS_FORWARDING_TIME = 101, "VpOtherInterceptsForwardingTime", "";
    EXTERNAL_INTERRUPTS_FORWARDED_COUNT = 102, "VpExternalInterruptsForwardedCount", "";
    EXTERNAL_INTERRUPTS_FORWARDING_TIME = 103, "VpExternalInterruptsForwardingTime", "";
    PENDING_INTERRUPTS_FORWARDED_COUNT = 104, "VpPendingInterruptsForwardedCount", "";
    PENDING_INTERRUPTS_FORWARDING_TIME = 105, "VpPendingInterruptsForwardingTime", "";
    EMULATED_INSTRUCTIONS_FORWARDED_COUNT = 106, "VpEmulatedInstructionsForwardedCount", "";
    EMULATED_INSTRUCTIONS_FORWARDING_TIME = 107, "VpEmulatedInstructionsForwardingTime", "";
    DEBUG_REGISTER_ACCESSES_FORWARDED_COUNT = 108, "VpDebugRegisterAccessesForwardedCount", "";
    DEBUG_REGISTER_ACCESSES_FORWARDING_TIME = 109, "VpDebugRegisterAccessesForwardingTime", "";
    PAGE_FAULT_INTERCEPTS_FORWARDED_COUNT = 110, "VpPageFaultInterceptsForwardedCount", "";
    PAGE_FAULT_INTERCEPTS_FORWARDING_TIME = 111, "VpPageFaultInterceptsForwardingTime", "";
    VMCLEAR_EMULATION_COUNT = 112, "VpVmclearEmulationCount", "";
    VMCLEAR_EMULATION_TIME = 113, "VpVmclearEmulationTime", "";
    VMPTRLD_EMULATION_COUNT = 114, "VpVmptrldEmulationCount", "";
    VMPTRLD_EMULATION_TIME = 115, "VpVmptrldEmulationTime", "";
    VMPTRST_EMULATION_COUNT = 116, "VpVmptrstEmulationCount", "";
    VMPTRST_EMULATION_TIME = 117, "VpVmptrstEmulationTime", "";
    VMREAD_EMULATION_COUNT = 118, "VpVmreadEmulationCount", "";
    VMREAD_EMULATION_TIME = 119, "VpVmreadEmulationTime", "";
    VMWRITE_EMULATION_COUNT = 120, "VpVmwriteEmulationCount", "";
    VMWRITE_EMULATION_TIME = 121, "VpVmwriteEmulationTime", "";
    VMXOFF_EMULATION_COUNT = 122, "VpVmxoffEmulationCount", "";
    VMXOFF_EMULATION_TIME = 123, "VpVmxoffEmulationTime", "";
    VMXON_EMULATION_COUNT = 124, "VpVmxonEmulationCount", "";
    VMXON_EMULATION_TIME = 125, "VpVmxonEmulationTime", "";
    NESTED_VM_ENTRIES_COUNT = 126, "VpNestedVMEntriesCount", "";
    NESTED_VM_ENTRIES_TIME = 127, "VpNestedVMEntriesTime", "";
    NESTED_SLAT_SOFT_PAGE_FAULTS_COUNT = 128, "VpNestedSLATSoftPageFaultsCount", "";
    NESTED_SLAT_SOFT_PAGE_FAULTS_TIME = 129, "VpNestedSLATSoftPageFaultsTime", "";
    NESTED_SLAT_HARD_PAGE_FAULTS_COUNT = 130, "VpNestedSLATHardPageFaultsCount", "";
    NESTED_SLAT_HARD_PAGE_FAULTS_TIME = 131, "VpNestedSLATHardPageFaultsTime", "";
    INV_EPT_ALL_CONTEXT_EMULATION_COUNT = 132, "VpInvEptAllContextEmulationCount", "";
    INV_EPT_ALL_CONTEXT_EMULATION_TIME = 133, "VpInvEptAllContextEmulationTime", "";
    INV_EPT_SINGLE_CONTEXT_EMULATION_COUNT = 134, "VpInvEptSingleContextEmulationCount", "";
    INV_EPT_SINGLE_CONTEXT_EMULATION_TIME = 135, "VpInvEptSingleContextEmulationTime", "";
    INV_VPID_ALL_CONTEXT_EMULATION_COUNT = 136, "VpInvVpidAllContextEmulationCount", "";
    INV_VPID_ALL_CONTEXT_EMULATION_TIME = 137, "VpInvVpidAllContextEmulationTime", "";
    INV_VPID_SINGLE_CONTEXT_EMULATION_COUNT = 138, "VpInvVpidSingleContextEmulationCount", "";
    INV_VPID_SINGLE_CONTEXT_EMULATION_TIME = 139, "VpInvVpidSingleContextEmulationTime", "";
    INV_VPID_SINGLE_ADDRESS_EMULATION_COUNT = 140, "VpInvVpidSingleAddressEmulationCount", "";
    INV_VPID_SINGLE_ADDRESS_EMULATION_TIME = 141, "VpInvVpidSingleAddressEmulationTime", "";
    NESTED_TLB_PAGE_TABLE_RECLAMATIONS = 142, "VpNestedTlbPageTableReclamations", "";
    NESTED_TLB_PAGE_TABLE_EVICTIONS = 143, "VpNestedTlbPageTableEvictions", "";
    FLUSH_GUEST_PHYSICAL_ADDRESS_SPACE_HYPERCALLS = 144, "VpFlushGuestPhysicalAddressSpaceHypercalls", "";
    FLUSH_GUEST_PHYSICAL_ADDRESS_LIST_HYPERCALLS = 145, "VpFlushGuestPhysicalAddressListHypercalls", "";
    POSTED_INTERRUPT_NOTIFICATIONS = 146, "VpPostedInterruptNotifications", "Posted Interrupt Notifications/sec";
    POSTED_INTERRUPT_SCANS = 147, "VpPostedInterruptScans", "Posted Interrupt Scans/sec";
    TOTAL_CORE_RUN_TIME = 148, "VpTotalCoreRunTime", "";
    MAXIMUM_RUN_TIME = 149, "VpMaximumRunTime", "";
    HWP_REQUEST_CONTEXT_SWITCHES = 150, "VpHwpRequestContextSwitches", "";
    WAITING_FOR_CPU_TIME_BUCKET0 = 151, "VpWaitingForCpuTimeBucket0", "";
    WAITING_FOR_CPU_TIME_BUCKET1 = 152, "VpWaitingForCpuTimeBucket1", "";
    WAITING_FOR_CPU_TIME_BUCKET2 = 153, "VpWaitingForCpuTimeBucket2", "";
    WAITING_FOR_CPU_TIME_BUCKET3 = 154, "VpWaitingForCpuTimeBucket3", "";
    WAITING_FOR_CPU_TIME_BUCKET4 = 155, "VpWaitingForCpuTimeBucket4", "";
    WAITING_FOR_CPU_TIME_BUCKET5 = 156, "VpWaitingForCpuTimeBucket5", "";
    WAITING_FOR_CPU_TIME_BUCKET6 = 157, "VpWaitingForCpuTimeBucket6", "";
    VMLOAD_EMULATION_COUNT = 158, "VpVmloadEmulationCount", "";
    VMLOAD_EMULATION_TIME = 159, "VpVmloadEmulationTime", "";
    VMSAVE_EMULATION_COUNT = 160, "VpVmsaveEmulationCount", "";
    VMSAVE_EMULATION_TIME = 161, "VpVmsaveEmulationTime", "";
    GIF_INSTRUCTION_EMULATION_COUNT = 162, "VpGifInstructionEmulationCount", "";
    GIF_INSTRUCTION_EMULATION_TIME = 163, "VpGifInstructionEmulationTime", "";
    EMULATED_ERRATA_SVM_INSTRUCTIONS = 164, "VpEmulatedErrataSvmInstructions", "";
    CONTENTION_TIME = 173, "VpContentionTime", "";
    WAKE_UP_TIME = 174, "VpWakeUpTime", "";
    SCHEDULING_PRIORITY = 175, "VpSchedulingPriority", "";
    RDPMC_INSTRUCTIONS_COUNT = 176, "VpRdpmcInstructionsCount", "";
    RDPMC_INSTRUCTIONS_TIME = 177, "VpRdpmcInstructionsTime", "";
    PERFMON_PMU_MSR_ACCESSES_COUNT = 178, "VpPerfmonPmuMsrAccessesCount", "";
    PERFMON_LBR_MSR_ACCESSES_COUNT = 179, "VpPerfmonLbrMsrAccessesCount", "";
    PERFMON_IPT_MSR_ACCESSES_COUNT = 180, "VpPerfmonIptMsrAccessesCount", "";
    PERFMON_INTERRUPT_COUNT = 181, "VpPerfmonInterruptCount", "";
    VTL1_DISPATCH_COUNT = 182, "VpVtl1DispatchCount", "";
    VTL2_DISPATCH_COUNT = 183, "VpVtl2DispatchCount", "";
    VTL2_DISPATCH_BUCKET0 = 184, "VpVtl2DispatchBucket0", "";
    VTL2_DISPATCH_BUCKET1 = 185, "VpVtl2DispatchBucket1", "";
    VTL2_DISPATCH_BUCKET2 = 186, "VpVtl2DispatchBucket2", "";
    VTL2_DISPATCH_BUCKET3 = 187, "VpVtl2DispatchBucket3", "";
    VTL2_DISPATCH_BUCKET4 = 188, "VpVtl2DispatchBucket4", "";
    VTL2_DISPATCH_BUCKET5 = 189, "VpVtl2DispatchBucket5", "";
    VTL2_DISPATCH_BUCKET6 = 190, "VpVtl2DispatchBucket6", "";
    VTL1_RUN_TIME = 191, "VpVtl1RunTime", "";
    VTL2_RUN_TIME = 192, "VpVtl2RunTime", "";
    IOMMU_HYPERCALLS = 193, "VpIommuHypercalls", "";
    CPU_GROUP_HYPERCALLS = 194, "VpCpuGroupHypercalls", "";
    VSM_HYPERCALLS = 195, "VpVsmHypercalls", "";
    EVENT_LOG_HYPERCALLS = 196, "VpEventLogHypercalls", "";
    DEVICE_DOMAIN_HYPERCALLS = 197, "VpDeviceDomainHypercalls", "";
    DEPOSIT_HYPERCALLS = 198, "VpDepositHypercalls", "";
    SVM_HYPERCALLS = 199, "VpSvmHypercalls", "";
    BUS_LOCK_ACQUISITION_COUNT = 200, "VpBusLockAcquisitionCount", "";
    LOAD_AVG = 201, "VpLoadAvg", "", gauge;
    ROOT_DISPATCH_THREAD_BLOCKED = 202, "VpRootDispatchThreadBlocked", "", gauge;
    IDLE_CPU_TIME = 203, "VpIdleCpuTime", "";
    WAITING_FOR_CPU_TIME_BUCKET7 = 204, "VpWaitingForCpuTimeBucket7", "";
    WAITING_FOR_CPU_TIME_BUCKET8 = 205, "VpWaitingForCpuTimeBucket8", "";
    WAITING_FOR_CPU_TIME_BUCKET9 = 206, "VpWaitingForCpuTimeBucket9", "";
    WAITING_FOR_CPU_TIME_BUCKET10 = 207, "VpWaitingForCpuTimeBucket10", "";
    WAITING_FOR_CPU_TIME_BUCKET11 = 208, "VpWaitingForCpuTimeBucket11", "";
    WAITING_FOR_CPU_TIME_BUCKET12 = 209, "VpWaitingForCpuTimeBucket12", "";
    HIERARCHICAL_SUSPEND_TIME = 210, "VpHierarchicalSuspendTime", "";
    EXPRESS_SCHEDULING_ATTEMPTS = 211, "VpExpressSchedulingAttempts", "";
    EXPRESS_SCHEDULING_COUNT = 212, "VpExpressSchedulingCount", "";
}

/// Counts that make up "Total Intercepts/sec" (which ones exactly is not documented).
pub const TOTAL_INTERCEPTS_COUNTS: &[u32] = &[
    HYPERCALLS_COUNT,
    PAGE_INVALIDATIONS_COUNT,
    CONTROL_REGISTER_ACCESSES_COUNT,
    IO_INSTRUCTIONS_COUNT,
    HLT_INSTRUCTIONS_COUNT,
    MWAIT_INSTRUCTIONS_COUNT,
    CPUID_INSTRUCTIONS_COUNT,
    MSR_ACCESSES_COUNT,
    OTHER_INTERCEPTS_COUNT,
    EXTERNAL_INTERRUPTS_COUNT,
    PENDING_INTERRUPTS_COUNT,
    EMULATED_INSTRUCTIONS_COUNT,
    DEBUG_REGISTER_ACCESSES_COUNT,
    PAGE_FAULT_INTERCEPTS_COUNT,
    NESTED_PAGE_FAULT_INTERCEPTS_COUNT,
];

/// Counts that make up "Total Messages/sec".
pub const TOTAL_MESSAGES_COUNTS: &[u32] = &[
    IO_INTERCEPT_MESSAGES,
    MEMORY_INTERCEPT_MESSAGES,
    OTHER_MESSAGES,
];

/// The time that belongs to a count of intercepts: the counter after it.
pub const fn time_of_count(count: u32) -> u32 {
    count + 1
}
