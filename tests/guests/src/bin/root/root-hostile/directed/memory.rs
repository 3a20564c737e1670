//! Pools and GPA spaces.

use guests::ok;
use guests::root::child::{Child, RWX, VMM_FLAGS};
use guests::root::interrupts::hypervisor_pages;
use guests::root::memory::PAGE;
use guests::root::{Root, report};
use tlfs::{
    HvCallCode, HvInputGetMemoryBalance, HvMapGpaFlags, HvOutputGetMemoryBalance, HvPartitionId,
    HvProximityDomainInfo, HvStatus, HvUnmapGpaFlags,
};

use super::partition::NOBODY;

/// Beyond all memory.
pub const NOWHERE: u64 = 1 << 46;

/// DepositMemory, WithdrawMemory, GetMemoryBalance.
pub fn pools(root: &mut Root) {
    let child = Child::with_ram(root, VMM_FLAGS);
    let page = root.memory.frame();
    let mut give = |to, pages: &[u64], wanted| {
        let found = root.try_deposit(to, pages);
        let done = if wanted == HvStatus::SUCCESS {
            pages.len()
        } else {
            0
        };
        report::same(found, (wanted, done), "DepositMemory");
    };
    let id = child.id;
    give(id, &[page], HvStatus::SUCCESS);
    give(id, &[page], HvStatus::OBJECT_IN_USE);
    give(id, &[child.ram(0)], HvStatus::OBJECT_IN_USE);
    give(id, &[NOWHERE], HvStatus::OPERATION_DENIED);
    give(NOBODY, &[page], HvStatus::INVALID_PARTITION_ID);
    let other = Child::active(root, VMM_FLAGS);
    let dead = other.id;
    let status = other.order(root, HvCallCode::FINALIZE_PARTITION, false);
    report::status(status, HvStatus::SUCCESS, "FinalizePartition");
    let more = root.memory.frame();
    let found = root.try_deposit(dead, &[more]);
    let wanted = (HvStatus::INVALID_PARTITION_STATE, 0);
    report::same(found, wanted, "DepositMemory to a finalized partition");
    root.memory.give_back(more);
    other.bury(root);
    root.withdraw_all(id);
    let found = root.withdraw(id, 1);
    report::same(found, (HvStatus::NO_RESOURCES, 0), "WithdrawMemory");
    let found = root.withdraw(NOBODY, 1);
    report::same(found, (HvStatus::INVALID_PARTITION_ID, 0), "WithdrawMemory");
    let input = HvInputGetMemoryBalance {
        partition_id: NOBODY,
        proximity_domain_info: HvProximityDomainInfo::default(),
    };
    let call = HvCallCode::GET_MEMORY_BALANCE;
    let found: Result<HvOutputGetMemoryBalance, _> = root.calls.ask(call, &input);
    report::same(
        found,
        Err(HvStatus::INVALID_PARTITION_ID),
        "GetMemoryBalance",
    );
    root.balance(HvPartitionId::SELF);
    child.end(root);
    ok!("pools");
}

/// MapGpaPages, UnmapGpaPages.
pub fn maps(root: &mut Root) {
    let child = Child::with_ram(root, VMM_FLAGS);
    let rival = Child::with_ram(root, VMM_FLAGS);
    let fresh = Child::create(root, VMM_FLAGS);
    let gone = Child::named(NOBODY);
    let [own] = hypervisor_pages(&root.memory);
    let frame = root.memory.frame();
    let large = RWX | HvMapGpaFlags::LARGE_PAGE;
    let write_only = HvMapGpaFlags::WRITABLE;
    let far = 1u64 << 60;
    // Where no table is yet: everything unused is out of the pool, so one has to be paid.
    root.withdraw_all(child.id);
    for (target, gpa, source, flags, wanted) in [
        (&child, 0, child.ram(0), RWX, HvStatus::SUCCESS),
        (&child, 1 << 38, frame, RWX, HvStatus::INSUFFICIENT_MEMORY),
        (&child, 0, NOWHERE, RWX, HvStatus::OPERATION_DENIED),
        (&child, 0, own, RWX, HvStatus::OBJECT_IN_USE),
        (&child, 0, rival.ram(0), RWX, HvStatus::OBJECT_IN_USE),
        (&child, 0, frame, write_only, HvStatus::INVALID_PARAMETER),
        (&child, far, frame, RWX, HvStatus::INVALID_PARAMETER),
        (&child, PAGE, frame, large, HvStatus::INVALID_PARAMETER),
        (&fresh, 0, frame, RWX, HvStatus::INVALID_PARTITION_STATE),
        (&gone, 0, frame, RWX, HvStatus::INVALID_PARTITION_ID),
    ] {
        let done = usize::from(wanted.is_success());
        let found = target.try_map(root, gpa, &[source], flags);
        if found != (wanted, done) {
            guests::fail!("{source:#x} at {gpa:#x} with {flags:?}: {found:?} instead of {wanted}");
        }
    }
    let (small, big) = (HvUnmapGpaFlags(0), HvUnmapGpaFlags::LARGE_PAGE);
    let odd = HvUnmapGpaFlags(0x100);
    for (target, gpa, flags, wanted) in [
        (&child, 0, small, HvStatus::SUCCESS),
        (&child, PAGE, big, HvStatus::INVALID_PARAMETER),
        (&child, 0, odd, HvStatus::INVALID_PARAMETER),
        (&gone, 0, small, HvStatus::INVALID_PARTITION_ID),
    ] {
        let (status, _) = target.unmap(root, gpa, 1, flags);
        report::status(status, wanted, "UnmapGpaPages");
    }
    root.memory.give_back(frame);
    fresh.bury(root);
    rival.end(root);
    child.end(root);
    ok!("GPA spaces");
}
