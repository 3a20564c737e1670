//! Ownership, rule by rule.

use super::*;

pub(super) const FRAMES: u64 = 40;
const A: PartitionSlot = PartitionSlot(1);
const B: PartitionSlot = PartitionSlot(2);

pub(super) struct Storage {
    entries: Vec<FrameEntry>,
    slots: Vec<Slot>,
}

impl Storage {
    pub(super) fn new() -> Self {
        Self {
            entries: vec![FrameEntry::default(); FRAMES as usize],
            slots: (0..3).map(|_| Slot::default()).collect(),
        }
    }

    /// Frames 0 to 3 are no RAM, 4 to 7 the hypervisor's, the others the root's.
    pub(super) fn table(&mut self) -> FrameTable<'_> {
        let mut table = FrameTable::new(&mut self.entries, &mut self.slots);
        table.mark_root_ram(Spfn(4), FRAMES - 4).unwrap();
        table.mark_hypervisor(Spfn(4), 4).unwrap();
        table.audit().unwrap();
        table
    }
}

pub(super) fn pages(numbers: &[u64]) -> Vec<Spfn> {
    numbers.iter().copied().map(Spfn).collect()
}

pub(super) fn shoot_down(table: &mut FrameTable<'_>, slot: PartitionSlot) {
    let retired = table.detach_retired(slot).unwrap();
    assert!(table.reclaim(retired, usize::MAX).is_none());
}

#[test]
fn a_deposit_with_one_bad_frame_takes_none() {
    let mut storage = Storage::new();
    let mut table = storage.table();
    table.back(B, Spfn(20), 1).unwrap();
    for (list, error) in [
        (pages(&[10, 11, 2]), FrameError::NotRam),
        (pages(&[10, 11, FRAMES]), FrameError::NotRam),
        (pages(&[10, u64::MAX]), FrameError::NotRam),
        (pages(&[10, 11, 4]), FrameError::InUse),
        (pages(&[10, 11, 20]), FrameError::InUse),
        (pages(&[10, 11, 10]), FrameError::InUse),
    ] {
        assert_eq!(table.deposit(A, &list), Err(error));
        assert_eq!(table.owner(Spfn(10)), Owner::Root);
        assert_eq!(table.slot_counts(A), Ok(SlotCounts::default()));
        table.audit().unwrap();
    }
    assert_eq!(
        table.deposit(PartitionSlot(3), &[]),
        Err(FrameError::NoSlot)
    );
}

#[test]
fn frames_of_an_unfinished_deposit_cannot_be_allocated() {
    let mut storage = Storage::new();
    let mut table = storage.table();
    let list = pages(&[10, 12]);
    table.begin_deposit(A, &list).unwrap();
    assert_eq!(table.allocate(A), Ok(None));
    assert_eq!(table.check_deposit(B, &list), Err(FrameError::InUse));
    table.finish_deposit(A, &list).unwrap();
    assert_eq!(table.slot_counts(A).unwrap().available, 2);
    table.audit().unwrap();
}

#[test]
fn every_frame_of_a_pool_comes_back_and_then_no_more() {
    let mut storage = Storage::new();
    let mut table = storage.table();
    table.deposit(A, &pages(&[9, 30, 14])).unwrap();
    let used = table.allocate(A).unwrap().unwrap();
    let mut back = vec![
        table.withdraw(A).unwrap().unwrap(),
        table.withdraw(A).unwrap().unwrap(),
    ];
    assert_eq!(table.withdraw(A), Ok(None));
    table.release(A, used).unwrap();
    back.push(table.withdraw(A).unwrap().unwrap());
    back.sort();
    assert_eq!(back, pages(&[9, 14, 30]));
    assert_eq!(table.slot_counts(A).unwrap().pool(), 0);
    table.audit().unwrap();
}

#[test]
fn pools_do_not_mix() {
    let mut storage = Storage::new();
    let mut table = storage.table();
    table.deposit(A, &pages(&[10])).unwrap();
    assert_eq!(table.allocate(B), Ok(None));
    let frame = table.allocate(A).unwrap().unwrap();
    assert_eq!(table.release(B, frame), Err(FrameError::WrongState));
    assert_eq!(table.owner(Spfn(10)), Owner::InUse(A));
}

#[test]
fn a_shared_frame_cannot_be_released_or_shared_twice() {
    let mut storage = Storage::new();
    let mut table = storage.table();
    table.deposit(A, &pages(&[10])).unwrap();
    let frame = table.allocate(A).unwrap().unwrap();
    let number = frame.spfn();
    table.share(A, number, SharedAccess::ReadOnly).unwrap();
    assert_eq!(
        table.share(A, number, SharedAccess::ReadWrite),
        Err(FrameError::WrongState)
    );
    assert_eq!(table.unshare(B, number), Err(FrameError::WrongState));
    assert_eq!(table.withdraw(A), Ok(None));
    assert_eq!(table.release(A, frame), Err(FrameError::WrongState));
    table.unshare(A, number).unwrap();
    assert_eq!(table.owner(number), Owner::InUse(A));
    table.audit().unwrap();
}

#[test]
fn a_frame_backs_one_child_at_several_guest_pages() {
    let mut storage = Storage::new();
    let mut table = storage.table();
    table.back(A, Spfn(10), 4).unwrap();
    table.back(A, Spfn(12), 4).unwrap();
    assert_eq!(
        table.owner(Spfn(13)),
        Owner::ChildRam {
            slot: A,
            mappings: 2
        }
    );
    assert_eq!(table.back(B, Spfn(9), 2), Err(FrameError::InUse));
    assert_eq!(table.owner(Spfn(9)), Owner::Root);
    assert_eq!(
        table.check_deposit(B, &pages(&[15])),
        Err(FrameError::InUse)
    );
    assert_eq!(table.unback(A, Spfn(15), 2), Err(FrameError::WrongState));
    table.cancel_back(A, Spfn(10), 4).unwrap();
    assert_eq!(table.owner(Spfn(11)), Owner::Root);
    assert_eq!(
        table.owner(Spfn(12)),
        Owner::ChildRam {
            slot: A,
            mappings: 1
        }
    );
    table.audit().unwrap();
}

#[test]
fn a_frame_that_was_unmapped_is_nobodys_until_the_shootdown() {
    let mut storage = Storage::new();
    let mut table = storage.table();
    table.back(A, Spfn(10), 2).unwrap();
    table.unback(A, Spfn(10), 2).unwrap();
    assert_eq!(table.owner(Spfn(10)), Owner::RetiredRam(A));
    assert_eq!(table.back(B, Spfn(10), 1), Err(FrameError::Retired));
    assert_eq!(table.back(A, Spfn(10), 1), Err(FrameError::Retired));
    assert_eq!(
        table.check_deposit(A, &pages(&[11])),
        Err(FrameError::Retired)
    );
    let first = table.detach_retired(A).unwrap();
    table.back(A, Spfn(12), 1).unwrap();
    table.unback(A, Spfn(12), 1).unwrap();
    let rest = table.reclaim(first, 1).expect("one of two is left");
    table.audit().unwrap();
    assert!(table.reclaim(rest, 1).is_none());
    assert_eq!(table.owner(Spfn(10)), Owner::Root);
    assert_eq!(
        table.owner(Spfn(12)),
        Owner::RetiredRam(A),
        "retired after the list was detached"
    );
    shoot_down(&mut table, A);
    assert_eq!(table.owner(Spfn(12)), Owner::Root);
    table.audit().unwrap();
}

#[test]
fn page_table_frames_are_not_reused_before_the_shootdown() {
    let mut storage = Storage::new();
    let mut table = storage.table();
    table.deposit(A, &pages(&[10])).unwrap();
    let frame = table.allocate(A).unwrap().unwrap();
    table.retire(A, frame).unwrap();
    assert_eq!(table.allocate(A), Ok(None));
    assert_eq!(table.withdraw(A), Ok(None));
    assert_eq!(table.slot_counts(A).unwrap().pool(), 1);
    shoot_down(&mut table, A);
    assert_eq!(table.withdraw(A), Ok(Some(Spfn(10))));
}

#[test]
fn the_reserve_serves_the_hypervisor_and_nobody_else() {
    let mut storage = Storage::new();
    let mut table = storage.table();
    assert_eq!(table.add_reserve(Spfn(6), 3), Err(FrameError::WrongState));
    table.add_reserve(Spfn(6), 2).unwrap();
    assert_eq!(table.check_deposit(A, &pages(&[6])), Err(FrameError::InUse));
    let first = table.allocate_reserve().unwrap();
    assert_eq!(first.spfn(), Spfn(6), "lowest first");
    let second = table.allocate_reserve().unwrap();
    assert!(table.allocate_reserve().is_none());
    table.retire_reserve(first).unwrap();
    assert!(table.allocate_reserve().is_none());
    table.release_reserve(second).unwrap();
    assert_eq!(table.global_counts().reserve, 1);
    shoot_down(&mut table, PartitionSlot::ROOT);
    assert_eq!(table.global_counts().reserve, 2);
    table.audit().unwrap();
}

#[test]
fn ram_is_marked_once() {
    let mut storage = Storage::new();
    let mut table = storage.table();
    assert_eq!(table.mark_root_ram(Spfn(3), 2), Err(FrameError::InUse));
    assert_eq!(
        table.mark_root_ram(Spfn(0), FRAMES + 1),
        Err(FrameError::NotRam)
    );
    assert_eq!(
        table.mark_hypervisor(Spfn(u64::MAX), 2),
        Err(FrameError::NotRam)
    );
    table.deposit(A, &pages(&[10])).unwrap();
    assert_eq!(table.mark_hypervisor(Spfn(9), 2), Err(FrameError::InUse));
    table.audit().unwrap();
}

#[test]
fn the_audit_finds_a_wrong_count_and_a_wrong_list() {
    let mut storage = Storage::new();
    let mut table = storage.table();
    table.deposit(A, &pages(&[10, 11])).unwrap();
    table.slots[1].counts.in_use += 1;
    assert!(matches!(
        table.audit(),
        Err(AuditError::Slot { slot: A, .. })
    ));
    table.slots[1].counts.in_use -= 1;
    let list = core::mem::take(&mut table.slots[1].available);
    assert_eq!(table.audit(), Err(AuditError::List { slot: A }));
    table.slots[1].available = list;
    table.entries[20] = FrameEntry::default();
    assert!(matches!(table.audit(), Err(AuditError::Global { .. })));
}
