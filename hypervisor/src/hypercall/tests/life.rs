//! The life of a partition.

use tlfs::HvCallCode as C;
use tlfs::*;
use zerocopy::IntoBytes;

use crate::hv::ROOT_ID;
use crate::mem::frames::SlotCounts;
use crate::partition::PartitionState;
use crate::partition::vp::Turns;
use crate::run::testing::{Bench, FULL_ACCESS, LINUX_FLAGS};

fn partition(id: HvPartitionId) -> HvInputPartition {
    HvInputPartition { partition_id: id }
}

#[test]
fn a_partition_lives_and_gives_everything_back() {
    for mut bench in Bench::each() {
        let before = bench.counts();
        let id = bench.child_with_vp();
        bench.add_vp(id, 1);
        let large = bench.large_frame();
        bench.map(id, 512, FULL_ACCESS | HvMapGpaFlags::LARGE_PAGE, &[large]);
        assert_eq!(bench.pool(id).child_ram, 16 + 512);
        let set = bench.set_registers(id, HvVpIndex(1), &[(HvRegisterName::RIP, 0x1234)]);
        assert_eq!(set, (HvStatus::SUCCESS, 1));
        let rip = bench.register(id, HvVpIndex(1), HvRegisterName::RIP);
        assert_eq!(rip, Ok(0x1234));
        assert_eq!(bench.finalize(id), HvStatus::SUCCESS);
        // All of the pool can be withdrawn now.
        let counts = bench.pool(id);
        let expected = SlotCounts {
            available: counts.available,
            ..SlotCounts::default()
        };
        assert_eq!(counts, expected);
        assert_eq!(bench.withdraw(id).len() as u64, counts.available);
        assert_eq!(
            bench.simple(C::DELETE_PARTITION, &partition(id)),
            HvStatus::SUCCESS
        );
        let gone = bench.simple(C::DELETE_PARTITION, &partition(id));
        assert_eq!(gone, HvStatus::INVALID_PARTITION_ID);
        bench.withdraw(ROOT_ID);
        assert_eq!(bench.counts().root, before.root);
        bench.tear_down();
    }
}

#[test]
fn each_step_of_a_life_has_its_time() {
    for mut bench in Bench::each() {
        let wrong = HvStatus::INVALID_PARTITION_STATE;
        let id = bench.create(LINUX_FLAGS);
        let vp = HvInputCreateVp {
            partition_id: id,
            ..Default::default()
        };
        // Not initialized.
        assert_eq!(bench.finalize(id), wrong);
        assert_eq!(bench.simple(C::CREATE_VP, &vp), wrong);
        let frames = bench.frames(1);
        assert_eq!(bench.map_once(id, 0, FULL_ACCESS, &frames), (wrong, 0));
        assert_eq!(
            bench.unmap_once(id, 0, HvUnmapGpaFlags::empty(), 1),
            (wrong, 0)
        );
        // Active.
        bench
            .paid::<[u8; 0]>(id, C::INITIALIZE_PARTITION, &partition(id))
            .unwrap();
        assert_eq!(bench.simple(C::INITIALIZE_PARTITION, &partition(id)), wrong);
        assert_eq!(bench.simple(C::DELETE_PARTITION, &partition(id)), wrong);
        // Finalized, with a pool.
        assert_eq!(bench.finalize(id), HvStatus::SUCCESS);
        assert_eq!(bench.finalize(id), wrong);
        assert_eq!(bench.simple(C::CREATE_VP, &vp), wrong);
        assert_eq!(bench.deposit_list(id, &frames), (wrong, 0));
        let full = bench.simple(C::DELETE_PARTITION, &partition(id));
        assert_eq!(full, HvStatus::OPERATION_DENIED);
        // Linux unmaps what is gone.
        let unmapped = bench.unmap_once(id, 0, HvUnmapGpaFlags::empty(), 512);
        assert_eq!(unmapped, (HvStatus::SUCCESS, 512));
        bench.tear_down();
    }
}

/// The other processor is this test.
#[test]
fn a_partition_keeps_its_memory_until_other_processors_have_let_its_vps_go() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        bench.add_vp(id, 1);
        let move_to = |bench: &mut Bench, processor| {
            let moved = bench.with_vp(id, 1, |vp| {
                vp.leaving = false;
                vp.processor = processor;
            });
            assert_eq!(moved, Some(()));
        };
        let turns = bench.with_vp(id, 1, |vp| vp.turns()).unwrap();
        bench.parts().0.forget_vp(turns);
        move_to(&mut bench, turns.processor + 1);
        bench.write(bench.input(), partition(id).as_bytes());
        let input = bench.input().0;
        let gprs = bench.hand().hw.gprs_mut();
        (gprs.rcx, gprs.rdx) = (C::FINALIZE_PARTITION.0.into(), input);
        for _ in 0..5 {
            assert_eq!(bench.execute(), None, "again");
            assert_eq!(bench.with_vp(id, 1, |vp| vp.leaving), Some(true));
            assert_eq!(bench.vps(id), [HvVpIndex(1)]);
            assert_ne!(bench.pool(id).child_ram, 0);
        }
        move_to(&mut bench, Turns::NOWHERE);
        assert_eq!(bench.finalize(id), HvStatus::SUCCESS);
        assert_eq!((bench.vps(id).len(), bench.pool(id).child_ram), (0, 0));
        bench.tear_down();
    }
}

#[test]
fn a_partition_that_was_never_initialized_is_withdrawn_and_deleted() {
    for mut bench in Bench::each() {
        let id = bench.create(LINUX_FLAGS);
        bench.deposit(id, 208);
        assert_eq!(bench.withdraw(id).len(), 208);
        assert_eq!(
            bench.simple(C::DELETE_PARTITION, &partition(id)),
            HvStatus::SUCCESS
        );
        bench.tear_down();
    }
}

#[test]
fn ids_are_not_used_again_and_the_root_lists_its_children() {
    for mut bench in Bench::each() {
        let one = bench.create(LINUX_FLAGS);
        bench.destroy(one);
        let two = bench.create(LINUX_FLAGS);
        let three = bench.create(LINUX_FLAGS);
        assert!(one != two && two != three);
        let mut found = Vec::new();
        let mut previous_child_id = HvPartitionId::INVALID;
        loop {
            let input = HvInputGetNextChildPartition {
                parent_id: HvPartitionId::SELF,
                previous_child_id,
            };
            let next: HvOutputGetNextChildPartition =
                bench.ask(C::GET_NEXT_CHILD_PARTITION, &input).unwrap();
            previous_child_id = next.next_child_id;
            if previous_child_id == HvPartitionId::INVALID {
                break;
            }
            found.push(previous_child_id);
        }
        assert_eq!(found, [two, three]);
        bench.tear_down();
    }
}

#[test]
fn what_needs_memory_makes_progress_with_one_page_at_a_time() {
    for mut bench in Bench::each() {
        let input = HvInputCreatePartition {
            flags: LINUX_FLAGS,
            ..Default::default()
        };
        let created = bench.paid::<HvOutputPartitionId>(ROOT_ID, C::CREATE_PARTITION, &input);
        let (answer, paid) = created.unwrap();
        let id = answer.partition_id;
        assert_eq!(paid, 2);
        let (_, paid) = bench
            .paid::<[u8; 0]>(id, C::INITIALIZE_PARTITION, &partition(id))
            .unwrap();
        assert_eq!(bench.pool(id).in_use, paid as u64);
        let used = bench.pool(id).in_use;
        let vp = HvInputCreateVp {
            partition_id: id,
            ..Default::default()
        };
        let (_, paid) = bench.paid::<[u8; 0]>(id, C::CREATE_VP, &vp).unwrap();
        assert_eq!(bench.pool(id).in_use, used + paid as u64);
        // State pages and counters are there from the start: they need none.
        let page = HvInputMapVpStatePage {
            partition_id: id,
            ..Default::default()
        };
        let (_, paid) = bench
            .paid::<HvOutputMapVpStatePage>(id, C::MAP_VP_STATE_PAGE, &page)
            .unwrap();
        assert_eq!(paid, 0);
        let state = bench.with_partition(id, |child| child.state);
        assert_eq!(state, PartitionState::Active);
        bench.tear_down();
    }
}
