//! The hypercall page over a child's memory, under all that its parent does to the memory.

use tlfs::*;

use crate::mem::addr::{Gpfn, Spfn};
use crate::mem::format::Rights;
use crate::mem::frames::Owner;
use crate::run::testing::{Bench, FULL_ACCESS};

const VP: HvVpIndex = HvVpIndex(0);

fn lay(bench: &mut Bench, id: HvPartitionId, page: Option<u64>) -> HvStatus {
    lay_as(bench, id, HvRegisterName::HYPERCALL, page)
}

fn lay_as(
    bench: &mut Bench,
    id: HvPartitionId,
    register: HvRegisterName,
    page: Option<u64>,
) -> HvStatus {
    let value = HvPageMsr::new()
        .with_enabled(page.is_some())
        .with_gpfn(page.unwrap_or(0));
    let values = [
        (HvRegisterName::GUEST_OS_ID, 1),
        (register, value.into_bits()),
    ];
    bench.set_registers(id, VP, &values).0
}

/// The frame behind a page of a child, and whether the child may write to it.
fn behind(bench: &Bench, id: HvPartitionId, page: u64) -> Option<(u64, bool)> {
    bench.with_partition(id, |child| {
        let at = Gpfn(page).address();
        let spa = child.resolve(at, Rights::READ).ok()?;
        Some((spa.page().0, child.resolve(at, Rights::RW).is_ok()))
    })
}

/// A child with a large page from its page 512 on, and nothing in its pool; also says which frame that is.
fn child_with_large_page(bench: &mut Bench) -> (HvPartitionId, u64) {
    let id = bench.child_with_vp();
    let large = bench.large_frame();
    let flags = FULL_ACCESS | HvMapGpaFlags::LARGE_PAGE;
    bench.map(id, 512, flags, &[large]);
    bench.withdraw(id);
    (id, large)
}

#[test]
fn what_lies_below_comes_back() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let (before, _) = behind(&bench, id, 3).unwrap();
        assert_eq!(lay(&mut bench, id, Some(3)), HvStatus::SUCCESS);
        let (over, writable) = behind(&bench, id, 3).unwrap();
        assert!(over != before && !writable);
        let code: [u8; 4] = bench.read_machine(Spfn(over).address());
        let instruction = bench.hv.capabilities.hypercall_instruction();
        assert_eq!(code[..3], instruction);
        assert_eq!(code[3], 0xC3, "RET");
        // Elsewhere, and away.
        assert_eq!(lay(&mut bench, id, Some(4)), HvStatus::SUCCESS);
        assert_eq!(behind(&bench, id, 3), Some((before, true)));
        assert_eq!(behind(&bench, id, 4), Some((over, false)));
        assert_eq!(lay(&mut bench, id, None), HvStatus::SUCCESS);
        assert_eq!(behind(&bench, id, 3), Some((before, true)));
        bench.tear_down();
    }
}

#[test]
fn an_overlay_lies_over_nothing_too_and_nothing_comes_back() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let none = HvUnmapGpaFlags::empty();
        assert_eq!(bench.unmap_once(id, 3, none, 1), (HvStatus::SUCCESS, 1));
        let overlays = [
            HvRegisterName::HYPERCALL,
            HvRegisterName::REFERENCE_TSC,
            HvRegisterName::SIMP,
            HvRegisterName::SIEFP,
            HvRegisterName::VP_ASSIST_PAGE,
        ];
        // A page that went, and one that never was, where there is no other and no table.
        let tables = bench.frames(2);
        bench.deposit_list(id, &tables);
        for page in [3, 77 << 18] {
            for register in overlays {
                let laid = lay_as(&mut bench, id, register, Some(page));
                assert_eq!(laid, HvStatus::SUCCESS, "{register:?}");
                assert!(behind(&bench, id, page).is_some());
                assert_eq!(lay_as(&mut bench, id, register, None), HvStatus::SUCCESS);
                let found =
                    bench.with_partition(id, |child| child.translation(Gpfn(page)).is_some());
                assert!(!found);
            }
        }
        assert_eq!(bench.pool(id).child_ram, 15);
        // Memory comes below one.
        lay(&mut bench, id, Some(3));
        let new = bench.frames(1);
        bench.map(id, 3, FULL_ACCESS, &new);
        assert!(behind(&bench, id, 3).is_some_and(|shown| shown != (new[0], true)));
        lay(&mut bench, id, None);
        assert_eq!(behind(&bench, id, 3), Some((new[0], true)));
        lay(&mut bench, id, Some(77));
        bench.tear_down();
    }
}

#[test]
fn an_overlay_that_can_be_nowhere_is_refused() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        for page in [1 << 39, crate::apic::PAGE.0] {
            let status = lay(&mut bench, id, Some(page));
            assert_eq!(status, HvStatus::INVALID_REGISTER_VALUE, "{page:#x}");
        }
        bench.tear_down();
    }
}

#[test]
fn an_overlay_over_nothing_takes_one_frame_that_others_may_need_at_most() {
    for mut bench in Bench::each() {
        let (id, _) = child_with_large_page(&mut bench);
        let before = bench.pool(id);
        // It would take three tables, and leaves none behind.
        let status = lay(&mut bench, id, Some(77 << 18));
        assert_eq!(status, HvStatus::INVALID_REGISTER_VALUE);
        bench.withdraw(id);
        // In a place where a large page of memory was, it takes one.
        assert_eq!(lay(&mut bench, id, Some(1029)), HvStatus::SUCCESS);
        for register in [HvRegisterName::SIMP, HvRegisterName::REFERENCE_TSC] {
            assert_eq!(
                lay_as(&mut bench, id, register, Some(600)),
                HvStatus::SUCCESS
            );
        }
        assert_eq!(bench.pool(id).child_ram, before.child_ram);
        bench.tear_down();
    }
}

#[test]
fn an_overlay_that_cannot_move_stays_where_it_is() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let large = bench.large_frame();
        let flags = FULL_ACCESS | HvMapGpaFlags::LARGE_PAGE;
        for first in 1..=6 {
            bench.map(id, 512 * first, flags, &[large]);
        }
        bench.withdraw(id);
        // Five large pages are cut with what is kept for that, and stay so: their parent has changed a page in each.
        let [other] = bench.frames(1)[..] else {
            panic!("one frame")
        };
        for page in [1100, 1600, 2100, 2600, 600] {
            assert_eq!(lay(&mut bench, id, Some(page)), HvStatus::SUCCESS);
            bench.map(id, page + 1, FULL_ACCESS, &[other]);
        }
        bench.withdraw(id);
        let over = behind(&bench, id, 600);
        let shown = bench.with_partition(id, |child| child.msrs.hypercall);
        // There is no memory, and none to cut another large page with.
        for page in [7700, 3100] {
            let status = lay(&mut bench, id, Some(page));
            assert_eq!(status, HvStatus::INVALID_REGISTER_VALUE);
            assert_eq!(behind(&bench, id, 600), over);
            let now = bench.with_partition(id, |child| child.msrs.hypercall);
            assert_eq!(now, shown);
        }
        assert_eq!(behind(&bench, id, 3100), Some((large + 28, true)));
        lay(&mut bench, id, None);
        assert_eq!(behind(&bench, id, 600), Some((large + 88, true)));
        bench.tear_down();
    }
}

#[test]
fn a_covered_page_is_mapped_anew_below_the_overlay() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let (before, _) = behind(&bench, id, 3).unwrap();
        lay(&mut bench, id, Some(3));
        let (over, _) = behind(&bench, id, 3).unwrap();
        let new = bench.frames(3);
        bench.map(id, 2, FULL_ACCESS, &new);
        assert_eq!(behind(&bench, id, 2), Some((new[0], true)));
        assert_eq!(behind(&bench, id, 3), Some((over, false)));
        assert_eq!(behind(&bench, id, 4), Some((new[2], true)));
        assert_eq!(bench.hv.frames.lock().owner(Spfn(before)), Owner::Root);
        lay(&mut bench, id, None);
        assert_eq!(behind(&bench, id, 3), Some((new[1], true)));
        bench.tear_down();
    }
}

#[test]
fn a_covered_page_that_is_unmapped_is_gone_when_the_overlay_goes() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let (before, _) = behind(&bench, id, 3).unwrap();
        lay(&mut bench, id, Some(3));
        let none = HvUnmapGpaFlags::empty();
        assert_eq!(bench.unmap_once(id, 2, none, 3), (HvStatus::SUCCESS, 3));
        assert_eq!(bench.hv.frames.lock().owner(Spfn(before)), Owner::Root);
        assert!(behind(&bench, id, 2).is_none() && behind(&bench, id, 3).is_some());
        lay(&mut bench, id, None);
        assert!(behind(&bench, id, 3).is_none());
        bench.tear_down();
    }
}

#[test]
fn an_overlay_cuts_a_large_page_without_memory_of_the_pool() {
    for mut bench in Bench::each() {
        let (id, large) = child_with_large_page(&mut bench);
        assert_eq!(lay(&mut bench, id, Some(600)), HvStatus::SUCCESS);
        assert_eq!(behind(&bench, id, 599), Some((large + 87, true)));
        // The large page is mapped once more, over and below it.
        bench.map(id, 512, FULL_ACCESS | HvMapGpaFlags::LARGE_PAGE, &[large]);
        assert_eq!(bench.pool(id).child_ram, 16 + 512);
        assert!(!behind(&bench, id, 600).unwrap().1);
        lay(&mut bench, id, None);
        assert_eq!(behind(&bench, id, 600), Some((large + 88, true)));
        // And goes as a whole.
        lay(&mut bench, id, Some(700));
        let unmapped = bench.unmap_once(id, 512, HvUnmapGpaFlags::LARGE_PAGE, 1);
        assert_eq!(unmapped, (HvStatus::SUCCESS, 1));
        assert_eq!(bench.pool(id).child_ram, 16);
        bench.tear_down();
    }
}

#[test]
fn a_partition_ends_with_its_overlay_in_place() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        lay(&mut bench, id, Some(3));
        bench.map(id, 3, HvMapGpaFlags::NO_ACCESS, &[0]);
        bench.tear_down();
        let id = bench.child_with_vp();
        lay(&mut bench, id, Some(3));
        bench.tear_down();
    }
}

#[test]
fn a_page_without_access_below_the_overlay_stays_one() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        lay(&mut bench, id, Some(3));
        bench.map(id, 3, HvMapGpaFlags::NO_ACCESS, &[0]);
        assert_eq!(bench.pool(id).child_ram, 15);
        lay(&mut bench, id, None);
        let found = bench.with_partition(id, |child| child.translation(Gpfn(3)).is_some());
        assert!(found && behind(&bench, id, 3).is_none());
        bench.tear_down();
    }
}

#[test]
fn of_two_overlays_at_one_page_one_shows_and_the_other_comes_back() {
    const TSC_PAGE: HvRegisterName = HvRegisterName::REFERENCE_TSC;
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let (before, _) = behind(&bench, id, 3).unwrap();
        assert_eq!(lay_as(&mut bench, id, TSC_PAGE, Some(3)), HvStatus::SUCCESS);
        let (tsc_page, writable) = behind(&bench, id, 3).unwrap();
        assert!(tsc_page != before && !writable);
        assert_eq!(lay(&mut bench, id, Some(3)), HvStatus::SUCCESS);
        let (code, _) = behind(&bench, id, 3).unwrap();
        assert!(code != tsc_page && code != before);
        // Below both the page goes on to be its parent's to change.
        let new = bench.frames(1);
        bench.map(id, 3, FULL_ACCESS, &new);
        assert_eq!(behind(&bench, id, 3), Some((code, false)));
        assert_eq!(lay(&mut bench, id, None), HvStatus::SUCCESS);
        assert_eq!(behind(&bench, id, 3), Some((tsc_page, false)));
        assert_eq!(lay(&mut bench, id, Some(3)), HvStatus::SUCCESS);
        assert_eq!(lay_as(&mut bench, id, TSC_PAGE, Some(5)), HvStatus::SUCCESS);
        assert_eq!(behind(&bench, id, 3), Some((code, false)));
        assert_eq!(behind(&bench, id, 5), Some((tsc_page, false)));
        assert_eq!(lay(&mut bench, id, None), HvStatus::SUCCESS);
        assert_eq!(behind(&bench, id, 3), Some((new[0], true)));
        bench.tear_down();
    }
}

#[test]
fn a_call_over_several_overlays_changes_what_is_below_each() {
    const TSC_PAGE: HvRegisterName = HvRegisterName::REFERENCE_TSC;
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        lay(&mut bench, id, Some(5));
        lay_as(&mut bench, id, TSC_PAGE, Some(3));
        let over = [3, 5].map(|page| behind(&bench, id, page));
        let new = bench.frames(6);
        bench.map(id, 2, FULL_ACCESS, &new);
        assert_eq!([3, 5].map(|page| behind(&bench, id, page)), over);
        for (page, frame) in [(2, new[0]), (4, new[2]), (6, new[4])] {
            assert_eq!(behind(&bench, id, page), Some((frame, true)));
        }
        let none = HvUnmapGpaFlags::empty();
        assert_eq!(bench.unmap_once(id, 4, none, 3), (HvStatus::SUCCESS, 3));
        lay(&mut bench, id, None);
        lay_as(&mut bench, id, TSC_PAGE, None);
        assert_eq!(behind(&bench, id, 3), Some((new[1], true)));
        assert!(behind(&bench, id, 5).is_none());
        bench.tear_down();
    }
}

#[test]
fn the_reference_tsc_page_shows_the_partitions_time_unless_that_stands_still() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        lay_as(&mut bench, id, HvRegisterName::REFERENCE_TSC, Some(3));
        let shown = |bench: &Bench| {
            let (frame, _) = behind(bench, id, 3).unwrap();
            bench.read_machine::<HvReferenceTscPage>(Spfn(frame).address())
        };
        let first = shown(&bench);
        assert_ne!(first.tsc_sequence, 0);
        let tsc = crate::cpu::tsc();
        let slot = crate::partition::table::slot_of(id).unwrap();
        let clock = &bench.hv.partitions.entry(slot).clock;
        let time = clock.time(bench.hv.time_at(tsc)).units();
        assert_eq!(first.reference_time(tsc), time);
        let stands_still = |bench: &Bench, freeze: u64| {
            let code = HvPartitionPropertyCode::TIME_FREEZE;
            let done = bench.with_partition(id, |child| bench.hv.set_property(child, code, freeze));
            assert!(done.is_ok());
        };
        stands_still(&bench, 1);
        assert_eq!(shown(&bench).tsc_sequence, 0);
        stands_still(&bench, 0);
        let again = shown(&bench);
        assert!(again.tsc_sequence != 0 && again.tsc_sequence != first.tsc_sequence);
        bench.tear_down();
    }
}

#[test]
fn a_partition_that_is_being_ended_gets_no_overlays_any_more() {
    use crate::partition::overlay::Overlay;
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        bench.with_partition(id, |child| {
            child.state = crate::partition::PartitionState::Finalizing;
            for overlay in [Overlay::HYPERCALL, Overlay::messages(0)] {
                let placed = bench.hv.place_overlay(child, overlay, Gpfn(3));
                assert_eq!(placed, Err(HvStatus::INVALID_PARTITION_STATE));
            }
            child.state = crate::partition::PartitionState::Active;
        });
        bench.tear_down();
    }
}

#[test]
fn the_pages_of_a_vp_that_ends_are_out_of_use_before_they_are_free() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let generation = |bench: &Bench| {
            let slot = crate::partition::table::slot_of(id).unwrap();
            bench.hv.partitions.entry(slot).domain.generation()
        };
        for register in [
            HvRegisterName::SIMP,
            HvRegisterName::SIEFP,
            HvRegisterName::VP_ASSIST_PAGE,
        ] {
            lay_as(&mut bench, id, register, Some(3));
        }
        let before = generation(&bench);
        let input = HvInputDeleteVp {
            partition_id: id,
            vp_index: VP,
            ..Default::default()
        };
        let deleted = bench.simple(HvCallCode::DELETE_VP, &input);
        assert_eq!(deleted, HvStatus::SUCCESS);
        assert!(generation(&bench) > before);
        let (_, writable) = behind(&bench, id, 3).unwrap();
        assert!(writable, "what was below is back");
        bench.tear_down();
    }
}
