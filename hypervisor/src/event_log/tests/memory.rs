//! Whose the pages are, and what happens when there are not enough.

use super::*;
use crate::hv::ROOT_ID;
use crate::mem::addr::{Gpfn, Spfn};
use crate::mem::format::Rights;
use crate::mem::frames::{Owner, SharedAccess};
use crate::mem::guest_walk::GpaFault;

/// One buffer of so many pages at index 0.
fn one_buffer(pages: u32) -> HvInputInitializeEventLogBufferGroup {
    HvInputInitializeEventLogBufferGroup {
        maximum_buffer_count: 1,
        threshold: 1,
        buffer_size_in_bytes: pages * 4096,
        ..geometry(LOCAL)
    }
}

fn access(root: &Root, page: u64, rights: Rights) -> Result<(), GpaFault> {
    let partition = root.machine.partitions.lookup(ROOT_ID).unwrap();
    let resolved = partition.resolve(Gpfn(page).address(), rights);
    resolved.map(|spa| assert_eq!(spa.page().0, page, "at its own address"))
}

#[test]
fn the_root_reads_mapped_buffers_and_writes_none() {
    let mut root = Root::new(20);
    root.initialize(one_buffer(8)).unwrap();
    root.create(LOCAL, 0).unwrap();
    root.map(LOCAL, 0).unwrap();
    let pages = root.mapped[&(LOCAL.0, 0)].clone();
    assert_eq!(pages.len(), 8);
    for &page in &pages {
        assert_eq!(access(&root, page, Rights::READ), Ok(()));
        assert_eq!(
            access(&root, page, Rights::RW),
            Err(GpaFault::NoWriteAccess)
        );
        let owner = root.machine.frames.lock().owner(Spfn(page));
        assert_eq!(
            owner,
            Owner::Shared(PartitionSlot::ROOT, SharedAccess::ReadOnly)
        );
    }
    root.unmap(LOCAL, 0).unwrap();
    for &page in &pages {
        assert_eq!(access(&root, page, Rights::READ), Err(GpaFault::Unmapped));
        let owner = root.machine.frames.lock().owner(Spfn(page));
        assert_eq!(owner, Owner::InUse(PartitionSlot::ROOT));
    }
    root.map(LOCAL, 0).unwrap();
    assert_eq!(root.mapped[&(LOCAL.0, 0)], pages);
}

#[test]
fn pages_that_the_root_sees_have_nothing_of_their_last_owner_in_them() {
    let mut root = Root::new(0);
    let Spfn(first) = root.machine.root_pages_unused(12);
    for page in first..first + 12 {
        let at = Gpfn(page).address();
        root.machine.write(ROOT_ID, at, &[0xA5; 4096]);
    }
    let list: Vec<Spfn> = (first..first + 12).map(Spfn).collect();
    root.machine.set_root_rights(Spfn(first), 12, None).unwrap();
    root.machine
        .frames
        .lock()
        .deposit(PartitionSlot::ROOT, &list)
        .unwrap();
    root.initialize(one_buffer(8)).unwrap();
    root.create(LOCAL, 0).unwrap();
    root.map(LOCAL, 0).unwrap();
    assert!(root.bytes(LOCAL, 0)[72..].iter().all(|byte| *byte == 0));
}

#[test]
fn everything_comes_back_to_the_pool() {
    let mut root = Root::new(1200);
    let before = root.counts();
    for (log, buffers, pages) in [
        (LOCAL, 512, 1),
        (LOCAL, 3, 200),
        (LOCAL, 2, 512),
        (SYSTEM, 1, 1),
    ] {
        root.initialize(HvInputInitializeEventLogBufferGroup {
            maximum_buffer_count: buffers,
            buffer_size_in_bytes: pages * 4096,
            threshold: 1,
            ..geometry(log)
        })
        .unwrap();
        for index in (0..buffers).rev() {
            root.create(log, index).unwrap();
        }
        for index in 0..buffers {
            root.map(log, index).unwrap();
        }
        let shared = root.counts().shared;
        assert_eq!(shared, u64::from(buffers * pages));
        root.sources(log, !1).unwrap();
        for number in 0..200 {
            root.record(hypercall(number));
        }
        root.close(log);
        assert_eq!(root.counts(), before);
    }
}

#[test]
fn every_page_that_is_paid_in_brings_a_creation_nearer_to_success() {
    let mut root = Root::new(1);
    root.initialize(one_buffer(100)).unwrap();
    let mut deposits = 0;
    while root.create(LOCAL, 0) == Err(HvStatus::INSUFFICIENT_MEMORY) {
        assert_eq!(root.counts().in_use, 1, "nothing but the group's page");
        assert_eq!(root.delete(LOCAL, 0), Err(HvStatus::INVALID_PARAMETER));
        root.machine.deposit(PartitionSlot::ROOT, 1);
        deposits += 1;
    }
    assert_eq!(deposits, 101);
    assert_eq!(root.counts().available, 0);
}

#[test]
fn a_group_needs_pages_in_proportion_to_its_buffers() {
    let mut root = Root::new(0);
    let input = HvInputInitializeEventLogBufferGroup {
        maximum_buffer_count: 512,
        ..geometry(LOCAL)
    };
    let mut deposits = 0;
    while root.initialize(input) == Err(HvStatus::INSUFFICIENT_MEMORY) {
        assert_eq!(root.counts().in_use, 0);
        root.machine.deposit(PartitionSlot::ROOT, 1);
        deposits += 1;
    }
    assert!((2..=8).contains(&deposits), "{deposits} pages");
    root.finalize(LOCAL).unwrap();
    assert_eq!(root.counts().available, deposits);
}

#[test]
fn a_creation_that_loses_its_memory_to_others_leaves_nothing() {
    let root = Root::new(160);
    root.initialize(one_buffer(150)).unwrap();
    let before = root.counts();
    assert_eq!(root.create_once(LOCAL, 0), Ok(Progress::Again));
    let others: Vec<_> =
        core::iter::from_fn(|| root.machine.allocate(PartitionSlot::ROOT).ok()).collect();
    assert_eq!(root.create(LOCAL, 0), Err(HvStatus::INSUFFICIENT_MEMORY));
    for frame in others {
        root.machine.release(PartitionSlot::ROOT, frame);
    }
    assert_eq!(root.counts(), before);
    assert_eq!(root.delete(LOCAL, 0), Err(HvStatus::INVALID_PARAMETER));
    root.create(LOCAL, 0).unwrap();
    root.delete(LOCAL, 0).unwrap();
    root.finalize(LOCAL).unwrap();
}

#[test]
fn a_step_handles_few_pages_and_the_next_one_goes_on() {
    let mut root = Root::new(520);
    root.initialize(one_buffer(512)).unwrap();
    let mut last = root.counts();
    let mut steps = 0;
    loop {
        let progress = root.create_once(LOCAL, 0).unwrap();
        let now = root.counts();
        assert!(now.in_use - last.in_use <= 65);
        (last, steps) = (now, steps + 1);
        if progress == Progress::Done {
            break;
        }
    }
    assert_eq!(steps, 8);
    for expected in (1..=8).map(|step| step * 64) {
        let progress = root.map_once(LOCAL, 0).unwrap();
        assert_eq!(root.counts().shared, expected);
        assert_eq!(progress == Progress::Done, expected == 512);
    }
    for expected in (0..8).rev().map(|step| step * 64) {
        let progress = root.unmap_once(LOCAL, 0).unwrap();
        assert_eq!(root.counts().shared, expected);
        assert_eq!(progress == Progress::Done, expected == 0);
    }
    let delete = |root: &Root| delete_buffer(&root.machine, &named(LOCAL, 0));
    for rest in [512 + 2 - 256, 2, 0] {
        let progress = delete(&root).unwrap();
        assert_eq!(progress == Progress::Done, rest == 0);
        // Without the pages that describe the group's buffers.
        assert_eq!(root.counts().in_use, rest.max(1));
    }
    root.finalize(LOCAL).unwrap();
    assert_eq!(root.counts().in_use, 0);
}

#[test]
fn a_step_handles_fewer_pages_when_they_lie_apart() {
    let mut root = Root::new(0);
    for _ in 0..12 {
        root.machine.root_pages_unused(1);
        root.machine.deposit(PartitionSlot::ROOT, 1);
    }
    root.initialize(one_buffer(10)).unwrap();
    root.create(LOCAL, 0).unwrap();
    for expected in [4, 8, 10] {
        let progress = root.map_once(LOCAL, 0).unwrap();
        assert_eq!(root.counts().shared, expected);
        assert_eq!(progress == Progress::Done, expected == 10);
    }
    for page in root.mapped[&(LOCAL.0, 0)].clone() {
        assert_eq!(access(&root, page, Rights::READ), Ok(()));
    }
    for expected in [6, 2, 0] {
        let progress = root.unmap_once(LOCAL, 0).unwrap();
        assert_eq!(root.counts().shared, expected);
        assert_eq!(progress == Progress::Done, expected == 0);
    }
}

#[test]
fn what_is_half_done_can_be_completed_or_taken_back_and_nothing_else() {
    let mut root = Root::new(520);
    let before = root.counts();
    root.initialize(one_buffer(512)).unwrap();
    root.sources(LOCAL, HvTraceGroups::HC.0).unwrap();
    let denied = Err(HvStatus::OPERATION_DENIED);
    let refused = |root: &mut Root| {
        root.record(hypercall(1));
        assert_eq!(root.release(LOCAL, 0), denied);
        assert_eq!(root.flush(LOCAL, 0), Ok(()));
        assert_eq!(root.message(), None);
        root.sources(LOCAL, 0).unwrap();
        assert_eq!(root.finalize(LOCAL), denied);
        root.sources(LOCAL, HvTraceGroups::HC.0).unwrap();
    };

    assert_eq!(root.create_once(LOCAL, 0), Ok(Progress::Again));
    refused(&mut root);
    assert_eq!(root.map(LOCAL, 0), denied);
    assert_eq!(root.unmap(LOCAL, 0), Err(HvStatus::ACCESS_DENIED));
    root.delete(LOCAL, 0).unwrap();
    root.create(LOCAL, 0).unwrap();

    assert_eq!(root.map_once(LOCAL, 0), Ok(Progress::Again));
    refused(&mut root);
    assert_eq!(root.create(LOCAL, 0), Err(HvStatus::INVALID_PARAMETER));
    assert_eq!(root.delete(LOCAL, 0), denied);
    root.unmap(LOCAL, 0).unwrap();
    assert_eq!(root.counts().shared, 0);
    root.map(LOCAL, 0).unwrap();

    assert_eq!(root.unmap_once(LOCAL, 0), Ok(Progress::Again));
    refused(&mut root);
    assert_eq!(root.map(LOCAL, 0), denied);
    assert_eq!(root.delete(LOCAL, 0), denied);
    root.unmap(LOCAL, 0).unwrap();

    assert_eq!(
        delete_buffer(&root.machine, &named(LOCAL, 0)),
        Ok(Progress::Again)
    );
    refused(&mut root);
    assert_eq!(root.create(LOCAL, 0), Err(HvStatus::INVALID_PARAMETER));
    assert_eq!(root.map(LOCAL, 0), denied);
    root.delete(LOCAL, 0).unwrap();
    root.close(LOCAL);
    assert_eq!(root.counts(), before);
}
