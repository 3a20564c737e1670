//! Pools and GPA spaces.

use tlfs::HvCallCode as C;
use tlfs::*;
use zerocopy::IntoBytes;

use crate::hv::ROOT_ID;
use crate::mem::addr::{Gpfn, Spfn};
use crate::mem::format::Rights;
use crate::mem::frames::Owner;
use crate::run::testing::{Bench, DEVICE_PAGES, FULL_ACCESS, LINUX_FLAGS, Outcome};

#[test]
fn a_deposit_takes_all_pages_or_none() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let in_use = bench.frames(1)[0];
        bench.map(id, 100, FULL_ACCESS, &[in_use]);
        let good = bench.frames(40);
        for (bad, status) in [
            (in_use, HvStatus::OBJECT_IN_USE),
            (good[0], HvStatus::OBJECT_IN_USE),
            (DEVICE_PAGES.start, HvStatus::OPERATION_DENIED),
            (u64::MAX, HvStatus::OPERATION_DENIED),
            (0, HvStatus::OBJECT_IN_USE),
        ] {
            let before = bench.pool(id);
            let mut list = good.clone();
            list.push(bad);
            assert_eq!(bench.deposit_list(id, &list), (status, 0), "{bad:#x}");
            assert_eq!(bench.pool(id), before);
            for &frame in &good {
                assert!(bench.root_reaches(frame, Rights::RWX));
            }
        }
        let all = bench.deposit_list(id, &good);
        assert_eq!(all, (HvStatus::SUCCESS, 40));
        assert!(!bench.root_reaches(good[39], Rights::READ));
        bench.tear_down();
    }
}

#[test]
fn a_long_list_is_done_in_parts_and_counted_from_its_start() {
    for mut bench in Bench::each() {
        let id = bench.create(LINUX_FLAGS);
        let frames = bench.frames(511);
        let mut input = id.0.to_le_bytes().to_vec();
        input.extend_from_slice(frames.as_bytes());
        bench.write(bench.input(), &input);
        let word = HvHypercallInput::rep(C::DEPOSIT_MEMORY, 511).unwrap();
        let at = bench.input().0;
        let Outcome::Result(result, executions) = bench.run(word.into_bits(), at, 0) else {
            panic!("no result");
        };
        assert_eq!(
            (result.call_status(), result.reps_completed()),
            (HvStatus::SUCCESS, 511)
        );
        assert!(executions > 10, "{executions} executions");
        // A caller that goes on in the middle of a list gets the number from the list's start.
        let list = bench.frames(8);
        let mut input = id.0.to_le_bytes().to_vec();
        input.extend_from_slice(list.as_bytes());
        bench.write(bench.input(), &input);
        let word = HvHypercallInput::rep(C::DEPOSIT_MEMORY, 8).unwrap();
        let word = word.with_rep_start(5);
        let Outcome::Result(result, _) = bench.run(word.into_bits(), at, 0) else {
            panic!("no result");
        };
        assert_eq!(
            (result.call_status(), result.reps_completed()),
            (HvStatus::SUCCESS, 8)
        );
        assert_eq!(bench.pool(id).available, 511 + 3);
        bench.tear_down();
    }
}

#[test]
fn withdrawn_pages_are_zero_and_the_end_of_the_pool_is_told() {
    for mut bench in Bench::each() {
        let id = bench.create(LINUX_FLAGS);
        let frames = bench.frames(20);
        for &frame in &frames {
            bench.write(Gpfn(frame).address(), &[7; 4096]);
        }
        bench.deposit_list(id, &frames);
        let balance = HvInputGetMemoryBalance {
            partition_id: id,
            ..Default::default()
        };
        let told: HvOutputGetMemoryBalance = bench.ask(C::GET_MEMORY_BALANCE, &balance).unwrap();
        assert_eq!((told.pages_available, told.pages_in_use), (20, 0));
        // `withdraw` looks at the contents.
        let mut back = bench.withdraw(id);
        back.sort_unstable();
        assert_eq!(back, frames);
        bench.tear_down();
    }
}

#[test]
fn a_map_that_is_refused_keeps_what_it_did_and_says_how_much() {
    for mut bench in Bench::each() {
        let id = bench.child();
        bench.deposit(id, 8);
        let mut list = bench.frames(30);
        list[27] = DEVICE_PAGES.start;
        let refused = bench.map_once(id, 0x40, FULL_ACCESS, &list);
        assert_eq!(refused, (HvStatus::OPERATION_DENIED, 27));
        assert_eq!(bench.pool(id).child_ram, 27);
        let beyond = bench.map_once(id, u64::MAX - 1, FULL_ACCESS, &list[..4]);
        assert_eq!(beyond, (HvStatus::INVALID_PARAMETER, 0));
        bench.tear_down();
    }
}

#[test]
fn a_map_short_of_memory_goes_on_where_it_stopped() {
    for mut bench in Bench::each() {
        let id = bench.child();
        // Each page needs two tables of its own.
        let list = bench.frames(4);
        let mut paid = 0;
        for (index, &frame) in list.iter().enumerate() {
            let base = (index as u64) << 18;
            loop {
                match bench.map_once(id, base, FULL_ACCESS, &[frame]) {
                    (HvStatus::SUCCESS, 1) => break,
                    (HvStatus::INSUFFICIENT_MEMORY, 0) => bench.deposit(id, 1),
                    other => panic!("{other:?}"),
                }
                paid += 1;
                assert!(paid < 20, "no progress");
            }
        }
        assert_eq!(bench.pool(id).child_ram, 4);
        bench.tear_down();
    }
}

#[test]
fn mapping_again_replaces_and_the_old_page_is_free() {
    for mut bench in Bench::each() {
        let id = bench.child();
        let list = bench.frames(2);
        bench.map(id, 5, FULL_ACCESS, &list[..1]);
        bench.map(id, 5, FULL_ACCESS, &list[1..]);
        let owner = |bench: &Bench, frame: u64| bench.hv.frames.lock().owner(Spfn(frame));
        assert_eq!(owner(&bench, list[0]), Owner::Root);
        assert_ne!(owner(&bench, list[1]), Owner::Root);
        // One page at two places is the child's until the last goes.
        bench.map(id, 6, FULL_ACCESS, &list[1..]);
        let unmapped = bench.unmap_once(id, 5, HvUnmapGpaFlags::empty(), 1);
        assert_eq!(unmapped, (HvStatus::SUCCESS, 1));
        assert_ne!(owner(&bench, list[1]), Owner::Root);
        let unmapped = bench.unmap_once(id, 6, HvUnmapGpaFlags::empty(), 1);
        assert_eq!(unmapped, (HvStatus::SUCCESS, 1));
        assert_eq!(owner(&bench, list[1]), Owner::Root);
        bench.tear_down();
    }
}

#[test]
fn a_page_of_one_child_is_neither_another_ones_nor_any_pools() {
    for mut bench in Bench::each() {
        let (one, two) = (bench.child_with_vp(), bench.child_with_vp());
        let frames = bench.frames(1);
        bench.map(one, 100, FULL_ACCESS, &frames);
        let in_use = (HvStatus::OBJECT_IN_USE, 0);
        assert_eq!(bench.map_once(two, 100, FULL_ACCESS, &frames), in_use);
        assert_eq!(bench.deposit_list(two, &frames), in_use);
        assert_eq!(bench.deposit_list(ROOT_ID, &frames), in_use);
        assert!(bench.root_reaches(frames[0], Rights::RWX));
        bench.tear_down();
    }
}

#[test]
fn a_large_page_is_cut_by_what_is_mapped_and_unmapped_in_it() {
    for mut bench in Bench::each() {
        let id = bench.child();
        let large = bench.large_frame();
        bench.map(id, 512, FULL_ACCESS | HvMapGpaFlags::LARGE_PAGE, &[large]);
        let small = bench.frames(1);
        bench.map(id, 700, FULL_ACCESS, &small);
        while bench.unmap_once(id, 800, HvUnmapGpaFlags::empty(), 1).0 != HvStatus::SUCCESS {
            bench.deposit(id, 1);
        }
        assert_eq!(bench.pool(id).child_ram, 511);
        let resolve = |bench: &Bench, page: u64| {
            bench.with_partition(id, |child| child.resolve(Gpfn(page).address(), Rights::RWX))
        };
        assert_eq!(resolve(&bench, 700).unwrap(), Spfn(small[0]).address());
        assert_eq!(resolve(&bench, 701).unwrap(), Spfn(large + 189).address());
        assert!(resolve(&bench, 800).is_err());
        let flags = FULL_ACCESS | HvMapGpaFlags::LARGE_PAGE;
        let crooked = bench.map_once(id, 513, flags, &[large]);
        assert_eq!(crooked, (HvStatus::INVALID_PARAMETER, 0));
        let crooked = bench.map_once(id, 1024, flags, &[large + 1]);
        assert_eq!(crooked, (HvStatus::INVALID_PARAMETER, 0));
        bench.tear_down();
    }
}

#[test]
fn the_counters_tell_by_what_leaves_memory_is_mapped() {
    use tlfs::stats::partition as counter;
    for mut bench in Bench::each() {
        let id = bench.child();
        let leaves = |bench: &Bench| {
            let counters = [
                counter::GPA_PAGES_4K,
                counter::GPA_PAGES_2M,
                counter::PAGES_SHATTERED,
            ];
            bench.with_partition(id, |child| counters.map(|counter| child.stats.get(counter)))
        };
        let [small, large, split] = leaves(&bench);
        let frame = bench.large_frame();
        // Memory for data: not every machine has large pages for code.
        let flags = HvMapGpaFlags::READABLE | HvMapGpaFlags::WRITABLE | HvMapGpaFlags::LARGE_PAGE;
        bench.map(id, 512, flags, &[frame]);
        assert_eq!(leaves(&bench), [small, large + 1, split]);
        // One page out of it leaves the others as small ones.
        while bench.unmap_once(id, 800, HvUnmapGpaFlags::empty(), 1).0 != HvStatus::SUCCESS {
            bench.deposit(id, 1);
        }
        assert_eq!(leaves(&bench), [small + 511, large, split + 1]);
        let unmapped = bench.unmap_once(id, 512, HvUnmapGpaFlags::LARGE_PAGE, 1);
        assert_eq!(unmapped, (HvStatus::SUCCESS, 1));
        assert_eq!(leaves(&bench), [small, large, split + 1]);
        bench.tear_down();
    }
}
