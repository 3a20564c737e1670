//! Deposits: what is refused, and that a list is taken as a whole or not at all (root sheet A.4, trap 6).

use guests::root::child::VMM_FLAGS;
use guests::root::interrupts::hypervisor_pages;
use guests::root::memory::{self, PAGE};
use guests::root::pool::DEPOSIT_REPS;
use guests::root::{Child, Root, report};
use guests::{check, ok};
use tlfs::HvStatus;

const GOOD: usize = 40;
const PATTERN: u64 = 0x5AFE_5AFE_0000_0000;

/// A list with one bad page, at every place that matters, changes nothing.
pub fn all_or_none(root: &mut Root) {
    let mut child = Child::with_ram(root, VMM_FLAGS);
    let other = Child::create(root, VMM_FLAGS);
    let extra = child.new_frame(root);
    let deposited = root.memory.frame();
    let (status, _) = root.try_deposit(child.id, &[deposited]);
    report::status(status, HvStatus::SUCCESS, "a deposit of one page");
    let highest = root.memory.map().map(|entry| entry.addr + entry.size).max();
    let beyond = highest.unwrap_or(0).next_multiple_of(1 << 40);
    let provided = root.messages.page();
    let [hypervisor] = hypervisor_pages(&root.memory);
    let mut good = [0; GOOD];
    for (index, page) in good.iter_mut().enumerate() {
        *page = root.memory.frame();
        memory::write(*page, PATTERN + index as u64);
    }
    let cases = [
        ("a page that is a child's RAM", child.ram(0), &child),
        ("a page deposited already", deposited, &child),
        ("a page deposited to another", deposited, &other),
        ("a page beyond all memory", beyond, &child),
        ("the hypervisor's own memory", hypervisor, &child),
        ("a page that the hypervisor provides", provided, &child),
        ("a page named twice", good[0], &child),
    ];
    for (what, bad, target) in cases {
        for place in [1, GOOD / 2, GOOD] {
            refuse(root, target, &good, bad, place, what);
        }
        ok!("a deposit with {what} is refused as a whole");
    }
    for page in good {
        root.memory.give_back(page);
    }
    let _ = extra;
    root.deposit(child.id, DEPOSIT_REPS as u64);
    ok!("a list of {DEPOSIT_REPS} pages is taken");
    other.bury(root);
    child.end(root);
}

fn refuse(root: &mut Root, target: &Child, good: &[u64; GOOD], bad: u64, place: usize, what: &str) {
    let mut list = [0; GOOD + 1];
    list[..place].copy_from_slice(&good[..place]);
    list[place] = bad;
    list[place + 1..].copy_from_slice(&good[place..]);
    let before = root.balance(target.id);
    let (status, done) = root.try_deposit(target.id, &list);
    check!(
        matches!(status, HvStatus::OPERATION_DENIED | HvStatus::OBJECT_IN_USE),
        "a deposit with {what}: {status}"
    );
    report::same(done, 0, what);
    report::same(root.balance(target.id), before, what);
    for (index, page) in good.iter().enumerate() {
        report::same(memory::read(*page), PATTERN + index as u64, what);
        memory::write(*page + PAGE - 8, 0);
    }
}

/// What a finalized partition and one that does not exist say.
pub fn shared_fate(root: &mut Root) {
    let child = Child::active(root, VMM_FLAGS);
    let id = child.id;
    let page = [root.memory.frame()];
    let status = child.order(root, tlfs::HvCallCode::FINALIZE_PARTITION, true);
    report::status(status, HvStatus::SUCCESS, "FinalizePartition");
    let (status, _) = root.try_deposit(id, &page);
    report::status(
        status,
        HvStatus::INVALID_PARTITION_STATE,
        "a deposit to a finalized partition",
    );
    child.bury(root);
    let (status, _) = root.try_deposit(id, &page);
    report::status(
        status,
        HvStatus::INVALID_PARTITION_ID,
        "a deposit to a deleted partition",
    );
    let (status, done) = root.withdraw(id, 1);
    report::same(
        (status, done),
        (HvStatus::INVALID_PARTITION_ID, 0),
        "a withdrawal from a deleted partition",
    );
    root.memory.give_back(page[0]);
    ok!("nothing is deposited to partitions that are finalized or gone");
}
