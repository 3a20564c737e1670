//! The ends of partitions, in Linux's order (root sheet A.5).

use guests::root::child::VMM_FLAGS;
use guests::root::memory::{self, PAGE};
use guests::root::pool::WITHDRAW_REPS;
use guests::root::stats;
use guests::root::{Child, Root, Vp, report};
use guests::{check, ok};
use tlfs::{
    HvCallCode, HvRegisterName, HvStatsAreaType, HvStatsObjectIdentity, HvStatsObjectType,
    HvStatus, HvUnmapGpaFlags, HvVpStatePageType,
};

/// The process was killed: its VP, which counts at `counter`, may run until FinalizePartition.
pub fn with_running_vp(root: &mut Root, child: Child, vp: &Vp, counter: u64) {
    vp.resume(root);
    root.messages.sleep(10_000);
    let identity = HvStatsObjectIdentity::vp(child.id, vp.index, HvStatsAreaType::SELF);
    stats::unmap(root, &stats::object(HvStatsObjectType::VP, identity));
    root.messages.sleep(10_000);
    for page_type in [
        HvVpStatePageType::REGISTERS,
        HvVpStatePageType::INTERCEPT_MESSAGE,
    ] {
        let status = vp.unmap_page(root, page_type);
        report::status(
            status,
            HvStatus::SUCCESS,
            "UnmapVpStatePage of a running VP",
        );
    }
    let before = memory::read(counter);
    root.messages.sleep(10_000);
    check!(
        memory::read(counter) != before,
        "the VP does not run any more"
    );
    let status = child.order(root, HvCallCode::DELETE_PARTITION, true);
    report::status(
        status,
        HvStatus::INVALID_PARTITION_STATE,
        "DeletePartition of an active partition",
    );
    let status = child.order(root, HvCallCode::FINALIZE_PARTITION, true);
    report::status(
        status,
        HvStatus::SUCCESS,
        "FinalizePartition with a running VP",
    );
    let last = memory::read(counter);
    root.messages.sleep(10_000);
    report::same(
        memory::read(counter),
        last,
        "the counter after FinalizePartition",
    );
    check!(
        root.messages.poll().is_none(),
        "a finalized partition sends a message"
    );
    ok!("FinalizePartition stops a running VP");
    after_finalize(root, child, vp);
}

fn after_finalize(root: &mut Root, child: Child, vp: &Vp) {
    let id = child.id;
    let status = child.order(root, HvCallCode::FINALIZE_PARTITION, true);
    report::status(
        status,
        HvStatus::INVALID_PARTITION_STATE,
        "FinalizePartition twice",
    );
    check!(
        vp.try_get(root, HvRegisterName::RIP).is_err(),
        "a VP of a finalized partition has registers"
    );
    // Linux unmaps its regions now and ignores what it is told.
    let _ = child.unmap(root, 0, 512, HvUnmapGpaFlags(0));
    let _ = child.unmap(root, 512 * PAGE, 88, HvUnmapGpaFlags(0));
    let status = child.order(root, HvCallCode::DELETE_PARTITION, true);
    report::status(
        status,
        HvStatus::OPERATION_DENIED,
        "DeletePartition before the pool is drained",
    );
    let balance = root.balance(id);
    let paid = root.paid(id);
    report::same(
        balance.pages_in_use,
        0,
        "pages that a finalized partition uses",
    );
    report::same(
        balance.pages_available,
        paid,
        "pages of a finalized partition",
    );
    let (status, done) = root.withdraw(id, 1);
    report::same(
        (status, done),
        (HvStatus::SUCCESS, 1),
        "a withdrawal of one page",
    );
    let (status, done) = root.withdraw(id, WITHDRAW_REPS);
    let left = paid - 1;
    let wanted = if left < WITHDRAW_REPS as u64 {
        (HvStatus::NO_RESOURCES, left as usize)
    } else {
        (HvStatus::SUCCESS, WITHDRAW_REPS)
    };
    report::same((status, done), wanted, "a withdrawal of 512 pages");
    child.bury(root);
    for code in [
        HvCallCode::INITIALIZE_PARTITION,
        HvCallCode::FINALIZE_PARTITION,
        HvCallCode::DELETE_PARTITION,
    ] {
        let status = root.calls.fast(code, id.0, 0);
        report::status(
            status,
            HvStatus::INVALID_PARTITION_ID,
            "a deleted partition",
        );
    }
    root.messages.sleep(5_000);
    check!(
        root.messages.poll().is_none(),
        "a deleted partition sends a message"
    );
    ok!("finalize, unmap, withdraw by 512, delete: {paid} pages came back");
}

/// A partition that was never initialized sees only withdrawals and DeletePartition.
pub fn never_initialized(root: &mut Root) {
    let child = Child::create(root, VMM_FLAGS);
    root.deposit(child.id, 5);
    let status = child.order(root, HvCallCode::DELETE_PARTITION, true);
    report::status(
        status,
        HvStatus::OPERATION_DENIED,
        "DeletePartition with a full pool",
    );
    child.bury(root);
    ok!("a partition that was never initialized is withdrawn from and deleted");
}

/// A partition with an intercept that nobody answers is finalized: its notice must not come any more (trap 23).
pub fn killed_while_running(root: &mut Root) {
    let child = Child::with_ram(root, VMM_FLAGS);
    let other = Child::with_ram(root, VMM_FLAGS);
    // HLT is the hypervisor's; port accesses are the parent's: OUT 0x80, AL for ever.
    let code = [0xE6, 0x80, 0xEB, 0xFC];
    let mut vps = [None; 2];
    for (vp, child) in vps.iter_mut().zip([&child, &other]) {
        child.load(0x1000, &code);
        let new = Vp::create(root, child, 0);
        new.enter_flat(root, 0x1000);
        *vp = Some(new);
    }
    let [Some(first), Some(second)] = vps else {
        return;
    };
    // Both stop at their port. One notice lies in the slot, the other waits behind it.
    first.resume(root);
    root.messages.sleep(10_000);
    second.resume(root);
    root.messages.sleep(10_000);
    other.end(root);
    let Some(notice) = root.messages.wait(100_000) else {
        guests::fail!("the notice of the partition that lives is lost");
    };
    first.expect_notice(&notice);
    root.messages.sleep(10_000);
    check!(
        root.messages.poll().is_none(),
        "the notice of a deleted partition comes"
    );
    child.end(root);
    ok!("the notice of a partition that ended is dropped");
}
