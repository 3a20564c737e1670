//! The life of partitions on a fake hypervisor: what they cost, and that nothing is ever lost.

use boot_archive::start_info::{MemoryMapEntry, kind};
use proptest::prelude::*;
use tlfs::{HvMapGpaFlags, HvStatus};

use super::*;
use crate::frames::{Class, Frames, Layout, Owner, Record};
use crate::hv::fake::Fake;
use crate::hv::{Leaf, Progress};

fn slot() -> Slot {
    Slot::new(5).unwrap()
}

fn with_hv<R>(pages: u64, fake: &mut Fake, body: impl FnOnce(&mut Hv<'_, '_>) -> R) -> R {
    let map = [MemoryMapEntry {
        addr: 0x10_0000,
        size: pages * 4096,
        kind: kind::RAM,
        reserved: 0,
    }];
    let layout = Layout::new(&map, &[]);
    let mut table = vec![Record::HOLE; layout.frames() as usize];
    let mut frames = Frames::new(&mut table, &layout);
    body(&mut Hv {
        calls: fake,
        frames: &mut frames,
    })
}

fn flags() -> HvMapGpaFlags {
    HvMapGpaFlags::READABLE | HvMapGpaFlags::WRITABLE | HvMapGpaFlags::EXECUTABLE
}

/// A whole life with two VPs and some memory; the first error ends it early, but the end is always the same.
fn life(hv: &mut Hv<'_, '_>) -> (Result<(), HvError>, Option<Teardown>) {
    let mut partition = match Partition::create(hv, slot(), 0, 0) {
        Ok(partition) => partition,
        Err(error) => return (Err(error), None),
    };
    let mut run = || {
        partition.initialize(hv)?;
        partition.create_vp(hv, 0)?;
        partition.create_vp(hv, 1)?;
        let leaves: Vec<_> = (0..700)
            .map(|at| Leaf {
                gpfn: at,
                pfn: Pfn(0x5000 + at),
                large: false,
            })
            .collect();
        hv.map_guest(partition.id(), slot(), &leaves, flags())
            .complete()
    };
    let result = run();
    (result, Some(partition.destroy(hv)))
}

#[test]
fn a_partition_costs_nothing_in_the_end() {
    let mut fake = Fake::new();
    with_hv(4096, &mut fake, |hv| {
        let free = hv.frames.free();
        let (result, teardown) = life(hv);
        assert_eq!(result, Ok(()));
        let teardown = teardown.unwrap();
        assert_eq!((teardown.error, teardown.gone), (None, true));
        assert!(teardown.withdrawn >= INITIALIZE_DEPOSIT + 2 * CREATE_VP_DEPOSIT);
        assert_eq!(hv.frames.free(), free);
    });
    assert_eq!((fake.held(), fake.partitions()), (0, 0));
}

#[test]
fn whatever_call_fails_nothing_is_lost() {
    let calls = {
        let mut fake = Fake::new();
        with_hv(4096, &mut fake, life).0.unwrap();
        fake.log.len()
    };
    let teardown_calls = [0x42, 0x43, 0x49, 0x6D];
    for at in 0..calls {
        let mut fake = Fake::new();
        fake.refuse = Some((at, HvStatus::INVALID_PARAMETER));
        with_hv(4096, &mut fake, |hv| {
            let free = hv.frames.free();
            let (result, teardown) = life(hv);
            let error = result
                .err()
                .or(teardown.and_then(|teardown| teardown.error));
            assert!(error.is_some(), "refusal {at} of {calls} went unnoticed");
            let deposited = hv.frames.ledger().class(Class::Deposit);
            assert_eq!(
                hv.frames.free() + deposited,
                free,
                "refusal {at}: frames that are nobody's"
            );
        });
        let refused = fake.log[at];
        if teardown_calls.contains(&refused) {
            continue;
        }
        assert_eq!(
            (fake.held(), fake.partitions()),
            (0, 0),
            "refusal {at} of call {refused:#x}"
        );
    }
}

#[test]
fn out_of_memory_anywhere_leaves_the_books_balanced() {
    for pages in (0..900).step_by(13) {
        let mut fake = Fake::new();
        with_hv(pages, &mut fake, |hv| {
            let free = hv.frames.free();
            let (result, _) = life(hv);
            assert!(
                result.is_ok() || matches!(result, Err(HvError::NoMemory(_))),
                "{result:?}"
            );
            assert_eq!(hv.frames.free(), free, "with {pages} pages");
        });
        assert_eq!((fake.held(), fake.partitions()), (0, 0));
    }
}

#[test]
fn the_order_of_things_is_enforced() {
    let mut fake = Fake::new();
    with_hv(4096, &mut fake, |hv| {
        let mut partition = Partition::create(hv, slot(), 0, 0).unwrap();
        assert_eq!(partition.create_vp(hv, 0), Err(HvError::State));
        partition.initialize(hv).unwrap();
        assert_eq!(partition.initialize(hv), Err(HvError::State));
        partition.create_vp(hv, 0).unwrap();
        assert_eq!(partition.create_vp(hv, 0), Err(HvError::State));
        assert_eq!(
            partition.create_vp(hv, MAX_VPS as u32),
            Err(HvError::Argument)
        );
        assert_eq!(partition.vps().count(), 1);
        partition.destroy(hv);
    });
}

#[test]
fn a_partition_that_cannot_be_finalized_keeps_its_memory_out_of_use() {
    let mut fake = Fake::new();
    with_hv(4096, &mut fake, |hv| {
        let mut partition = Partition::create(hv, slot(), 0, 0).unwrap();
        partition.initialize(hv).unwrap();
        struct Refusing<'a>(&'a mut dyn crate::hv::Hypercalls);
        impl crate::hv::Hypercalls for Refusing<'_> {
            fn call(
                &mut self,
                control: HvHypercallInput,
                input: &[u8],
                output: &mut [u8],
            ) -> tlfs::HvHypercallResult {
                if control.call_code() == HvCallCode::FINALIZE_PARTITION {
                    return tlfs::HvHypercallResult::simple(HvStatus::OPERATION_DENIED);
                }
                self.0.call(control, input, output)
            }
        }
        let mut refusing = Refusing(hv.calls);
        let teardown = partition.destroy(&mut Hv {
            calls: &mut refusing,
            frames: hv.frames,
        });
        assert!(!teardown.gone);
        assert!(matches!(teardown.error, Some(HvError::Status { .. })));
    });
}

#[test]
fn a_foreign_frame_is_not_taken_back() {
    let mut fake = Fake::new();
    fake.pools
        .get_mut(&HvPartitionId::SELF.0)
        .unwrap()
        .free
        .push(0x150);
    with_hv(4096, &mut fake, |hv| {
        let free = hv.frames.free();
        assert!(matches!(
            hv.withdraw(HvPartitionId::SELF, Slot::KERNEL),
            Err(HvError::Books(_))
        ));
        assert_eq!(hv.frames.free(), free);
    });
}

#[test]
fn a_hypervisor_that_always_wants_more_is_given_up() {
    struct Greedy;
    impl crate::hv::Hypercalls for Greedy {
        fn call(
            &mut self,
            control: HvHypercallInput,
            _: &[u8],
            _: &mut [u8],
        ) -> tlfs::HvHypercallResult {
            match control.rep_count() {
                0 => tlfs::HvHypercallResult::simple(HvStatus::INSUFFICIENT_MEMORY),
                count => tlfs::HvHypercallResult::rep(HvStatus::SUCCESS, count),
            }
        }
    }
    let map = [MemoryMapEntry {
        addr: 0x10_0000,
        size: 64 << 20,
        kind: kind::RAM,
        reserved: 0,
    }];
    let layout = Layout::new(&map, &[]);
    let mut table = vec![Record::HOLE; layout.frames() as usize];
    let mut frames = Frames::new(&mut table, &layout);
    let mut hv = Hv {
        calls: &mut Greedy,
        frames: &mut frames,
    };
    let result = Partition::create(&mut hv, slot(), 0, 0);
    assert_eq!(
        result.err(),
        Some(HvError::NoMemory(HvCallCode::CREATE_PARTITION))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn guest_memory_is_mapped_as_asked_however_calls_are_cut(
        gpfn in 0u64..1200, pages in 1u64..2200, most_reps in 1usize..600
    ) {
        let mut fake = Fake::new();
        fake.most_reps = most_reps;
        let leaves: Vec<_> = leaves(gpfn, pages).collect();
        let (mapped, id) = with_hv(8192, &mut fake, |hv| {
            let mut partition = Partition::create(hv, slot(), 0, 0).unwrap();
            partition.initialize(hv).unwrap();
            let owned = hv.frames.ledger().of(Owner::new(slot(), Class::Deposit));
            assert!(owned >= INITIALIZE_DEPOSIT);
            (hv.map_guest(partition.id(), slot(), &leaves, flags()), partition.id())
        });
        prop_assert_eq!(mapped, Progress { done: leaves.len(), error: None });
        let guest = fake.pool(id).guest.clone();
        prop_assert_eq!(guest.len() as u64, pages);
        for at in 0..pages {
            prop_assert_eq!(guest.get(&(gpfn + at)), Some(&(0x4000 + gpfn + at)));
        }
    }

    #[test]
    fn a_map_that_fails_half_way_says_what_is_mapped(refuse in 0usize..6, most_reps in 1usize..600) {
        let active = |hv: &mut Hv<'_, '_>| {
            let mut partition = Partition::create(hv, slot(), 0, 0).unwrap();
            partition.initialize(hv).unwrap();
            partition.id()
        };
        let mut fake = Fake::new();
        with_hv(8192, &mut fake, active);
        let calls_before = fake.log.len();
        let mut fake = Fake::new();
        fake.most_reps = most_reps.max(211);
        fake.refuse = Some((calls_before + refuse, HvStatus::OBJECT_IN_USE));
        let leaves: Vec<_> = (0..3000).map(|at| Leaf { gpfn: at, pfn: Pfn(0x5000 + at), large: false }).collect();
        let (id, result) = with_hv(8192, &mut fake, |hv| {
            let id = active(hv);
            (id, hv.map_guest(id, slot(), &leaves, flags()))
        });
        prop_assert!(result.error.is_some());
        prop_assert!(fake.pool(id).guest.keys().copied().eq(0..result.done as u64));
    }

    #[test]
    fn small_pages_go_out_of_a_large_one_and_leave_the_others(
        first in 0u64..1024, pages in 1u64..1024, most_reps in 1usize..600
    ) {
        let mut fake = Fake::new();
        fake.most_reps = most_reps;
        let all: Vec<_> = leaves(0, 2048).collect();
        let gone: Vec<_> = (first..first + pages).map(|at| Leaf { gpfn: at, pfn: Pfn(0), large: false }).collect();
        let (id, done) = with_hv(8192, &mut fake, |hv| {
            let mut partition = Partition::create(hv, slot(), 0, 0).unwrap();
            partition.initialize(hv).unwrap();
            let id = partition.id();
            assert_eq!(hv.map_guest(id, slot(), &all, flags()).error, None);
            // What is deposited and not in use; the split has to be paid.
            hv.withdraw(id, slot()).unwrap();
            (id, hv.unmap_guest(id, slot(), &gone))
        });
        prop_assert_eq!(done, Progress { done: gone.len(), error: None });
        let left = (0..2048).filter(|at| !(first..first + pages).contains(at));
        prop_assert!(fake.pool(id).guest.keys().copied().eq(left));
    }
}

/// Frames 0x4000 and on for guest pages 0 and on, in large pages wherever there can be some.
fn leaves(gpfn: u64, pages: u64) -> impl Iterator<Item = Leaf> {
    let (mut at, end) = (gpfn, gpfn + pages);
    std::iter::from_fn(move || {
        let large = at.is_multiple_of(512) && end - at >= 512;
        let leaf = Leaf {
            gpfn: at,
            pfn: Pfn(0x4000 + at),
            large,
        };
        (at < end).then(|| {
            at += leaf.pages();
            leaf
        })
    })
}
