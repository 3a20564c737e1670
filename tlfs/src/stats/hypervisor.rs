//! Counters of the hypervisor (root sheet E.2).

use crate::stats::counters;

counters! {
    /// Every counter of the hypervisor's page, with the name in the set "Hyper-V Hypervisor".
    LOGICAL_PROCESSORS = 1, "HvLogicalProcessors", "Logical Processors", gauge;
    PARTITIONS = 2, "HvPartitions", "Partitions", gauge;
    TOTAL_PAGES = 3, "HvTotalPages", "Total Pages", gauge;
    VIRTUAL_PROCESSORS = 4, "HvVirtualProcessors", "Virtual Processors", gauge;
    MONITORED_NOTIFICATIONS = 5, "HvMonitoredNotifications", "Monitored Notifications", gauge;
    MODERN_STANDBY_ENTRIES = 6, "HvModernStandbyEntries", "";
    PLATFORM_IDLE_TRANSITIONS = 7, "HvPlatformIdleTransitions", "";
    HYPERVISOR_STARTUP_COST = 8, "HvHypervisorStartupCost", "";
    IO_SPACE_PAGES = 10, "HvIOSpacePages", "";
    NON_ESSENTIAL_PAGES_FOR_DUMP = 11, "HvNonEssentialPagesForDump", "";
    SUBSUMED_PAGES = 12, "HvSubsumedPages", "";
}
