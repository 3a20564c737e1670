//! Counters of a partition (root sheet E.2).

use crate::stats::counters;

counters! {
    /// Every counter of a partition's page, with the name in the set "Hyper-V Hypervisor Partition" (and "Root Partition").
    VIRTUAL_PROCESSORS = 1, "PtVirtualProcessors", "Virtual Processors", gauge;
    TLB_SIZE = 3, "PtTlbSize", "Virtual TLB Pages", gauge;
    ADDRESS_SPACES = 4, "PtAddressSpaces", "Address Spaces", gauge;
    DEPOSITED_PAGES = 5, "PtDepositedPages", "Deposited Pages", gauge;
    GPA_PAGES = 6, "PtGpaPages", "GPA Pages", gauge;
    GPA_SPACE_MODIFICATIONS = 7, "PtGpaSpaceModifications", "GPA Space Modifications/sec";
    VIRTUAL_TLB_FLUSH_ENTIRES = 8, "PtVirtualTlbFlushEntires", "Virtual TLB Flush Entires/sec";
    RECOMMENDED_TLB_SIZE = 9, "PtRecommendedTlbSize", "Recommended Virtual TLB Size";
    GPA_PAGES_4K = 10, "PtGpaPages4K", "4K GPA pages", gauge;
    GPA_PAGES_2M = 11, "PtGpaPages2M", "2M GPA pages", gauge;
    GPA_PAGES_1G = 12, "PtGpaPages1G", "1G GPA pages", gauge;
    GPA_PAGES_512G = 13, "PtGpaPages512G", "", gauge;
    DEVICE_PAGES_4K = 14, "PtDevicePages4K", "4K device pages", gauge;
    DEVICE_PAGES_2M = 15, "PtDevicePages2M", "2M device pages", gauge;
    DEVICE_PAGES_1G = 16, "PtDevicePages1G", "1G device pages", gauge;
    DEVICE_PAGES_512G = 17, "PtDevicePages512G", "", gauge;
    ATTACHED_DEVICES = 18, "PtAttachedDevices", "Attached Devices", gauge;
    DEVICE_INTERRUPT_MAPPINGS = 19, "PtDeviceInterruptMappings", "Device Interrupt Mappings", gauge;
    IO_TLB_FLUSHES = 20, "PtIoTlbFlushes", "I/O TLB Flushes/sec";
    IO_TLB_FLUSH_COST = 21, "PtIoTlbFlushCost", "I/O TLB Flush Cost";
    DEVICE_INTERRUPT_ERRORS = 22, "PtDeviceInterruptErrors", "Device Interrupt Errors";
    DEVICE_DMA_ERRORS = 23, "PtDeviceDmaErrors", "Device DMA Errors";
    DEVICE_INTERRUPT_THROTTLE_EVENTS = 24, "PtDeviceInterruptThrottleEvents", "Device Interrupt Throttle Events";
    SKIPPED_TIMER_TICKS = 25, "PtSkippedTimerTicks", "Skipped Timer Ticks";
    PARTITION_ID = 26, "PtPartitionId", "Partition Id";
    NESTED_TLB_SIZE = 27, "PtNestedTlbSize", "";
    RECOMMENDED_NESTED_TLB_SIZE = 28, "PtRecommendedNestedTlbSize", "";
    NESTED_TLB_FREE_LIST_SIZE = 29, "PtNestedTlbFreeListSize", "";
    NESTED_TLB_TRIMMED_PAGES = 30, "PtNestedTlbTrimmedPages", "";
    PAGES_SHATTERED = 31, "PtPagesShattered", "";
    PAGES_RECOMBINED = 32, "PtPagesRecombined", "";
    HWP_REQUEST_VALUE = 33, "PtHwpRequestValue", "";
    AUTO_SUSPEND_ENABLE_TIME = 34, "PtAutoSuspendEnableTime", "";
    AUTO_SUSPEND_TRIGGER_TIME = 35, "PtAutoSuspendTriggerTime", "";
    AUTO_SUSPEND_DISABLE_TIME = 36, "PtAutoSuspendDisableTime", "";
    HYPERVISOR_STATE_TRANSFER_GENERATION = 45, "PtHypervisorStateTransferGeneration", "";
    NUMBER_OF_ACTIVE_CHILD_PARTITIONS = 46, "PtNumberofActiveChildPartitions", "";
}
