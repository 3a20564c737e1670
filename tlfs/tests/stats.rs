//! Counter indexes against the ones that root sheet E.2 quotes.

use tlfs::stats::{CounterName, hypervisor, logical_processor, partita, partition, vp};
use tlfs::*;

fn find(table: &[CounterName], index: u32) -> (&'static str, &'static str) {
    table
        .iter()
        .find(|(i, _, _)| *i == index)
        .map(|(_, name, performance)| (*name, *performance))
        .unwrap()
}

#[test]
fn indexes_ascend_and_fit_a_page() {
    for table in [
        hypervisor::COUNTERS,
        logical_processor::COUNTERS,
        partition::COUNTERS,
        vp::COUNTERS,
        partita::COUNTERS,
    ] {
        assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(
            table
                .iter()
                .all(|(index, _, _)| *index > 0 && (*index as usize) < HV_STATS_COUNTERS_PER_PAGE)
        );
    }
}

#[test]
fn counters_of_our_own_stand_beyond_those_of_every_object() {
    let first = partita::COUNTERS[0].0;
    for table in [logical_processor::COUNTERS, vp::COUNTERS] {
        assert!(table.iter().all(|(index, _, _)| *index < first));
    }
}

#[test]
fn counters_that_linux_reads_are_where_it_reads_them() {
    assert_eq!(hypervisor::LOGICAL_PROCESSORS, 1);
    assert_eq!(vp::ROOT_DISPATCH_THREAD_BLOCKED, 202);
}

#[test]
fn virtual_processor_counters_match_the_sheet() {
    assert_eq!(
        find(vp::COUNTERS, 7),
        ("VpHypercallsCount", "Hypercalls/sec")
    );
    assert_eq!(
        find(vp::COUNTERS, 34),
        ("VpPageFaultInterceptsTime", "Page Fault Intercepts Cost")
    );
    assert_eq!(
        find(vp::COUNTERS, 40),
        ("VpIoInterceptMessages", "IO Intercept Messages/sec")
    );
    assert_eq!(
        find(vp::COUNTERS, 58),
        ("VpSyntheticInterrupts", "Synthetic Interrupts/sec")
    );
    assert_eq!(
        find(vp::COUNTERS, 61),
        ("VpApicSelfIpisSent", "APIC Self IPIs Sent/sec")
    );
    assert_eq!(
        find(vp::COUNTERS, 69),
        (
            "VpVirtualProcessorHypercalls",
            "Virtual Processor Hypercalls/sec"
        )
    );
    assert_eq!(
        find(vp::COUNTERS, 71),
        (
            "VpNestedPageFaultInterceptsCount",
            "Nested Page Fault Intercepts/sec"
        )
    );
    assert_eq!(
        find(vp::COUNTERS, 75),
        ("VpWaitingForCpuTime", "CPU Wait Time Per Dispatch")
    );
    assert_eq!(
        find(vp::COUNTERS, 145).0,
        "VpFlushGuestPhysicalAddressListHypercalls"
    );
    assert_eq!(
        find(vp::COUNTERS, 146),
        (
            "VpPostedInterruptNotifications",
            "Posted Interrupt Notifications/sec"
        )
    );
    assert_eq!(find(vp::COUNTERS, 201).0, "VpLoadAvg");
    assert_eq!(find(vp::COUNTERS, 203).0, "VpIdleCpuTime");
}

#[test]
fn total_intercepts_sums_the_counts_of_the_sheet() {
    assert_eq!(
        vp::TOTAL_INTERCEPTS_COUNTS,
        [7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 71]
    );
    assert_eq!(vp::TOTAL_MESSAGES_COUNTS, [40, 41, 43]);
    for &count in vp::TOTAL_INTERCEPTS_COUNTS {
        let (name, time) = (
            find(vp::COUNTERS, count).0,
            find(vp::COUNTERS, vp::time_of_count(count)).0,
        );
        assert_eq!(name.strip_suffix("Count"), time.strip_suffix("Time"));
    }
}

#[test]
fn partition_and_processor_counters_match_the_sheet() {
    assert_eq!(
        find(partition::COUNTERS, 5),
        ("PtDepositedPages", "Deposited Pages")
    );
    assert_eq!(
        find(partition::COUNTERS, 8),
        ("PtVirtualTlbFlushEntires", "Virtual TLB Flush Entires/sec")
    );
    assert_eq!(
        find(partition::COUNTERS, 26),
        ("PtPartitionId", "Partition Id")
    );
    assert_eq!(
        find(partition::COUNTERS, 46).0,
        "PtNumberofActiveChildPartitions"
    );
    assert_eq!(
        find(logical_processor::COUNTERS, 9).0,
        "LpInterProcessorInterruptsSent"
    );
    assert_eq!(
        find(logical_processor::COUNTERS, 29).0,
        "LpPostedInterruptNotifications"
    );
    assert_eq!(
        find(logical_processor::COUNTERS, 48).0,
        "LpSchLocalRunListSize"
    );
}

#[test]
fn identities_place_the_object_and_the_area() {
    use zerocopy::IntoBytes;
    let vp =
        HvStatsObjectIdentity::vp(HvPartitionId(0x1122), HvVpIndex(3), HvStatsAreaType::PARENT);
    assert_eq!(
        vp.as_bytes(),
        [0x22, 0x11, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1]
    );
    let lp = HvStatsObjectIdentity::logical_processor(5, HvStatsAreaType::SELF);
    assert_eq!(lp.lp_index(), 5);
    assert_eq!(lp.area, HvStatsAreaType::SELF);
}
