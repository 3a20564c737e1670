//! Counters of a logical processor (root sheet E.2).

use crate::stats::counters;

counters! {
    /// Every counter of a logical processor's page, with the name in the set "Hyper-V Hypervisor Logical Processor".
    GLOBAL_TIME = 1, "LpGlobalTime", "";
    TOTAL_RUN_TIME = 2, "LpTotalRunTime", "% Total Run Time";
    HYPERVISOR_RUN_TIME = 3, "LpHypervisorRunTime", "% Hypervisor Run Time";
    HARDWARE_INTERRUPTS = 4, "LpHardwareInterrupts", "Hardware Interrupts/sec";
    CONTEXT_SWITCHES = 5, "LpContextSwitches", "Context Switches/sec";
    INTER_PROCESSOR_INTERRUPTS = 6, "LpInterProcessorInterrupts", "Inter-Processor Interrupts/sec";
    SCHEDULER_INTERRUPTS = 7, "LpSchedulerInterrupts", "Scheduler Interrupts/sec";
    TIMER_INTERRUPTS = 8, "LpTimerInterrupts", "Timer Interrupts/sec";
    INTER_PROCESSOR_INTERRUPTS_SENT = 9, "LpInterProcessorInterruptsSent", "Inter-Processor Interrupts Sent/sec";
    PROCESSOR_HALTS = 10, "LpProcessorHalts", "Processor Halts/sec";
    MONITOR_TRANSITION_COST = 11, "LpMonitorTransitionCost", "Monitor Transition Cost";
    CONTEXT_SWITCH_TIME = 12, "LpContextSwitchTime", "Context Switch Time";
    C1_TRANSITIONS_COUNT = 13, "LpC1TransitionsCount", "C1 Transitions/sec";
    C1_RUN_TIME = 14, "LpC1RunTime", "% C1 Time";
    C2_TRANSITIONS_COUNT = 15, "LpC2TransitionsCount", "C2 Transitions/sec";
    C2_RUN_TIME = 16, "LpC2RunTime", "% C2 Time";
    C3_TRANSITIONS_COUNT = 17, "LpC3TransitionsCount", "C3 Transitions/sec";
    C3_RUN_TIME = 18, "LpC3RunTime", "% C3 Time";
    ROOT_VP_INDEX = 19, "LpRootVpIndex", "";
    IDLE_SEQUENCE_NUMBER = 20, "LpIdleSequenceNumber", "";
    GLOBAL_TSC_COUNT = 21, "LpGlobalTscCount", "";
    ACTIVE_TSC_COUNT = 22, "LpActiveTscCount", "";
    IDLE_ACCUMULATION = 23, "LpIdleAccumulation", "";
    REFERENCE_CYCLE_COUNT0 = 24, "LpReferenceCycleCount0", "";
    ACTUAL_CYCLE_COUNT0 = 25, "LpActualCycleCount0", "";
    REFERENCE_CYCLE_COUNT1 = 26, "LpReferenceCycleCount1", "";
    ACTUAL_CYCLE_COUNT1 = 27, "LpActualCycleCount1", "";
    PROXIMITY_DOMAIN_ID = 28, "LpProximityDomainId", "";
    POSTED_INTERRUPT_NOTIFICATIONS = 29, "LpPostedInterruptNotifications", "";
    BRANCH_PREDICTOR_FLUSHES = 30, "LpBranchPredictorFlushes", "";
    L1_DATA_CACHE_FLUSHES = 31, "LpL1DataCacheFlushes", "";
    IMMEDIATE_L1_DATA_CACHE_FLUSHES = 32, "LpImmediateL1DataCacheFlushes", "";
    MB_FLUSHES = 33, "LpMbFlushes", "";
    COUNTER_REFRESH_SEQUENCE_NUMBER = 34, "LpCounterRefreshSequenceNumber", "";
    COUNTER_REFRESH_REFERENCE_TIME = 35, "LpCounterRefreshReferenceTime", "";
    IDLE_ACCUMULATION_SNAPSHOT = 36, "LpIdleAccumulationSnapshot", "";
    ACTIVE_TSC_COUNT_SNAPSHOT = 37, "LpActiveTscCountSnapshot", "";
    HWP_REQUEST_CONTEXT_SWITCHES = 38, "LpHwpRequestContextSwitches", "";
    SCH_LOCAL_RUN_LIST_SIZE = 48, "LpSchLocalRunListSize", "", gauge;
    RESERVE_GROUP_ID = 49, "LpReserveGroupId", "";
    RUNNING_PRIORITY = 50, "LpRunningPriority", "";
    PERFMON_INTERRUPT_COUNT = 51, "LpPerfmonInterruptCount", "";
}

/// Counts that make up "Total Interrupts/sec".
pub const TOTAL_INTERRUPTS_COUNTS: &[u32] = &[
    HARDWARE_INTERRUPTS,
    INTER_PROCESSOR_INTERRUPTS,
    SCHEDULER_INTERRUPTS,
    TIMER_INTERRUPTS,
];
