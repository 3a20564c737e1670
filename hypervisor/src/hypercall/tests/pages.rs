//! Pages that the hypervisor shows to the root: counters, registers, messages.

use tlfs::HvCallCode as C;
use tlfs::*;

use crate::mem::format::Rights;
use crate::run::testing::Bench;

fn stats(stats_type: HvStatsObjectType, id: HvPartitionId, vp_index: u32) -> HvInputStatsPage {
    HvInputStatsPage {
        stats_type,
        padding: 0,
        identity: HvStatsObjectIdentity {
            id: id.0,
            vp_index,
            ..Default::default()
        },
    }
}

fn map_state(id: HvPartitionId, page_type: HvVpStatePageType) -> HvInputMapVpStatePage {
    HvInputMapVpStatePage {
        partition_id: id,
        page_type,
        ..Default::default()
    }
}

fn unmap_state(id: HvPartitionId, page_type: HvVpStatePageType) -> HvInputUnmapVpStatePage {
    HvInputUnmapVpStatePage {
        partition_id: id,
        page_type,
        ..Default::default()
    }
}

#[test]
fn counters_are_shown_read_only_until_they_are_unmapped() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let (nobody, root) = (HvPartitionId(0), HvPartitionId::SELF);
        for input in [
            stats(HvStatsObjectType::HYPERVISOR, nobody, 0),
            stats(HvStatsObjectType::LOGICAL_PROCESSOR, nobody, 0),
            stats(HvStatsObjectType::PARTITION, root, 0),
            stats(HvStatsObjectType::VP, root, 0),
            stats(HvStatsObjectType::PARTITION, id, 0),
            stats(HvStatsObjectType::VP, id, 0),
        ] {
            let page: HvOutputMapStatsPage = bench.ask(C::MAP_STATS_PAGE, &input).unwrap();
            let frame = page.map_location;
            assert!(bench.root_reaches(frame, Rights::READ));
            assert!(!bench.root_reaches(frame, Rights::RW));
            let twice = bench.simple(C::MAP_STATS_PAGE, &input);
            assert_eq!(twice, HvStatus::OPERATION_DENIED);
            assert_eq!(bench.simple(C::UNMAP_STATS_PAGE, &input), HvStatus::SUCCESS);
            assert!(!bench.root_reaches(frame, Rights::READ));
            let twice = bench.simple(C::UNMAP_STATS_PAGE, &input);
            assert_eq!(twice, HvStatus::OPERATION_DENIED);
        }
        bench.tear_down();
    }
}

#[test]
fn the_parents_view_of_counters_is_refused_so_that_the_own_one_is_used() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let mut input = stats(HvStatsObjectType::VP, id, 0);
        input.identity.area = HvStatsAreaType::PARENT;
        let refused = bench.simple(C::MAP_STATS_PAGE, &input);
        assert_eq!(refused, HvStatus::INVALID_PARAMETER);
        bench.tear_down();
    }
}

#[test]
fn state_pages_are_shown_writable_until_they_are_unmapped() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        for kind in [
            HvVpStatePageType::REGISTERS,
            HvVpStatePageType::INTERCEPT_MESSAGE,
        ] {
            let page: HvOutputMapVpStatePage = bench
                .ask(C::MAP_VP_STATE_PAGE, &map_state(id, kind))
                .unwrap();
            assert!(bench.root_reaches(page.map_location, Rights::RW));
            let twice = bench.simple(C::MAP_VP_STATE_PAGE, &map_state(id, kind));
            assert_eq!(twice, HvStatus::OPERATION_DENIED);
            let unmapped = bench.simple(C::UNMAP_VP_STATE_PAGE, &unmap_state(id, kind));
            assert_eq!(unmapped, HvStatus::SUCCESS);
            assert!(!bench.root_reaches(page.map_location, Rights::READ));
        }
        let none = map_state(id, HvVpStatePageType::GHCB);
        assert_eq!(
            bench.simple(C::MAP_VP_STATE_PAGE, &none),
            HvStatus::INVALID_PARAMETER
        );
        bench.tear_down();
    }
}

#[test]
fn what_ends_while_its_pages_are_shown_takes_them_along() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        bench.add_vp(id, 1);
        let mut shown = Vec::new();
        for kind in [
            HvVpStatePageType::REGISTERS,
            HvVpStatePageType::INTERCEPT_MESSAGE,
        ] {
            for vp in 0..2 {
                let input = HvInputMapVpStatePage {
                    vp_index: HvVpIndex(vp),
                    ..map_state(id, kind)
                };
                let page: HvOutputMapVpStatePage = bench.ask(C::MAP_VP_STATE_PAGE, &input).unwrap();
                shown.push(page.map_location);
            }
        }
        for input in [
            stats(HvStatsObjectType::VP, id, 0),
            stats(HvStatsObjectType::VP, id, 1),
            stats(HvStatsObjectType::PARTITION, id, 0),
        ] {
            let page: HvOutputMapStatsPage = bench.ask(C::MAP_STATS_PAGE, &input).unwrap();
            shown.push(page.map_location);
        }
        let input = HvInputDeleteVp {
            partition_id: id,
            vp_index: HvVpIndex(1),
            ..Default::default()
        };
        assert_eq!(bench.simple(C::DELETE_VP, &input), HvStatus::SUCCESS);
        let reached = |bench: &Bench| {
            let frames = shown.iter();
            frames
                .filter(|&&frame| bench.root_reaches(frame, Rights::READ))
                .count()
        };
        assert_eq!(reached(&bench), 4);
        assert_eq!(bench.finalize(id), HvStatus::SUCCESS);
        assert_eq!(reached(&bench), 1);
        bench.withdraw(id);
        let input = HvInputPartition { partition_id: id };
        assert_eq!(bench.simple(C::DELETE_PARTITION, &input), HvStatus::SUCCESS);
        bench.tear_down();
    }
}
