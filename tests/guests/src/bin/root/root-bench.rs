//! What objects cost: pool pages of a VP, and of a GiB of mapped memory.
#![no_std]
#![no_main]

use guests::metal::Boot;
use guests::root::child::{RWX, VMM_FLAGS};
use guests::root::memory::{LARGE_PAGE, PAGE};
use guests::root::stats::Holdings;
use guests::root::{Child, Root, Vp, report};
use guests::{check, root, say};
use tlfs::{HvMapGpaFlags, HvPartitionId};

root!(main);

/// Where the GiB lies in the child, which has no other memory.
const BASE: u64 = 1 << 30;
const LARGE_PAGES: usize = 512;
/// Large pages of the root's, each mapped many times.
const SOURCES: u64 = 8;

fn main(start: &Boot) {
    let mut root = Root::start(start);
    let before = Holdings::look(&mut root);
    let child = Child::active(&mut root, VMM_FLAGS);
    // More than either needs, so that no call stops for memory.
    root.deposit(child.id, 1024);

    let idle = in_use(&root, child.id);
    Vp::create(&mut root, &child, 0);
    let with_vp = in_use(&root, child.id);
    Vp::create(&mut root, &child, 1);
    let with_two = in_use(&root, child.id);
    check!(with_vp > idle, "a VP needs no memory");
    report::same(with_two - with_vp, with_vp - idle, "pages of the second VP");
    say!("bench bytes_per_vp {} bytes", (with_vp - idle) * PAGE);

    let sources = root.memory.large(SOURCES);
    let list: [u64; LARGE_PAGES] =
        core::array::from_fn(|index| sources + index as u64 % SOURCES * LARGE_PAGE);
    let flags = RWX | HvMapGpaFlags::LARGE_PAGE;
    child.map(&mut root, BASE, &list, flags);
    let mapped = in_use(&root, child.id);
    check!(mapped > with_two, "a GiB needs no memory");
    say!(
        "bench bytes_per_mapped_gib {} bytes",
        (mapped - with_two) * PAGE
    );

    child.end(&mut root);
    let after = Holdings::look(&mut root);
    report::same(after, before, "partitions, VPs, pages and frames");
    report::done()
}

fn in_use(root: &Root, id: HvPartitionId) -> u64 {
    root.balance(id).pages_in_use
}
